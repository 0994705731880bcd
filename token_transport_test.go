package replicated_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gorm-replicated/replicated"
)

// TestTransport has a front service that writes nothing itself, and a back service that does.
func TestTransport(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, nil)
		back := s.plugin.Middleware(http.HandlerFunc(s.serve))
		front := func(transport http.RoundTripper) http.Handler {
			return s.plugin.Middleware(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				req := httptest.NewRequest(r.Method, "http://back/", nil).WithContext(r.Context())
				req.RequestURI = ""
				if _, err := transport.RoundTrip(req); err != nil {
					t.Error(err)
				}
				if r.Method == http.MethodGet {
					s.db.WithContext(r.Context()).Find(&[]User{})
				}
			}))
		}
		base := roundTripper(func(r *http.Request) (*http.Response, error) {
			w := httptest.NewRecorder()
			back.ServeHTTP(w, r.WithContext(context.Background()))
			return w.Result(), nil
		})
		s.handler = front(s.plugin.Transport(base))
		c := s.client()
		c.do("POST")
		served(t, c.get(), byToken+", "+byToken)
		s.handler = front(base) // the control: nobody carries it to the back, but the front has it
		if got := c.get(); !strings.HasPrefix(got, "slave-") || !strings.HasSuffix(got, byToken) {
			t.Error(got)
		}
		failing := s.plugin.Transport(roundTripper(func(*http.Request) (*http.Response, error) {
			return nil, errors.ErrUnsupported
		}))
		if _, err := failing.RoundTrip(httptest.NewRequest("GET", "/", nil)); err != errors.ErrUnsupported {
			t.Error(err)
		}
	})
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// TestTransportAndRedirects: who a redirect leads to may be anybody, who must neither see a token nor bring
// one.
func TestTransportAndRedirects(t *testing.T) {
	for _, test := range []struct {
		name, location string
		sent           bool
		want           string
	}{
		{"to another host", "http://other/there", false, "default intent"},
		{"to another port", "http://back:81/there", false, "default intent"},
		{"on the same host", "/there", true, "no slave covers the token"},
	} {
		bubble(t, test.name, func(t *testing.T) {
			s := newSite(t, slaveByDefault)
			ctx := s.plugin.WithToken(t.Context(), s.newToken())
			s.replay("slave-1", "slave-2")
			theirs := s.newToken()
			time.Sleep(time.Second)
			var sent []bool
			client := &http.Client{Transport: s.plugin.Transport(roundTripper(func(r *http.Request) (*http.Response,
				error) {
				sent = append(sent, r.Header.Get("Replicated-Token") != "")
				w := httptest.NewRecorder()
				if r.URL.Path == "/there" {
					w.Header().Set("Replicated-Token", theirs)
				} else {
					http.Redirect(w, r, test.location, http.StatusFound)
				}
				response := w.Result()
				response.Request = r
				return response, nil
			}))}
			r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://back/", nil)
			if err != nil {
				t.Fatal(err)
			}
			response, err := client.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			response.Body.Close()
			if got, want := fmt.Sprint(sent), fmt.Sprint([]bool{true, test.sent}); got != want {
				t.Errorf("sent: %s, want %s", got, want)
			}
			if got := s.read(ctx); !strings.HasSuffix(got, ": "+test.want) {
				t.Errorf("served by %q, want %q", got, test.want)
			}
		})
	}
}

// TestGateway has a service that writes and then passes the request on to another one, which reads. The
// client has a token from before, which both slaves cover.
func TestGateway(t *testing.T) {
	type request struct{ header, cookies string }
	for _, header := range []bool{true, false} {
		name := map[bool]string{true: "the client has a header", false: "the client has cookies"}[header]
		bubble(t, name, func(t *testing.T) {
			gateway, back := newSite(t, nil), newSite(t, nil)
			writes := true
			var passed request
			proxy := &httputil.ReverseProxy{
				Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(&url.URL{Scheme: "http", Host: "back"}) },
				Transport: gateway.plugin.Transport(roundTripper(func(r *http.Request) (*http.Response, error) {
					passed = request{r.Header.Get("Replicated-Token"), r.Header.Get("Cookie")}
					w := httptest.NewRecorder()
					back.handler.ServeHTTP(w, r.WithContext(context.Background())) // another process
					return w.Result(), nil
				})),
			}
			gateway.with(func(w http.ResponseWriter, r *http.Request) {
				if writes {
					gateway.write(r.Context())
					back.commit() // it is one database
				}
				proxy.ServeHTTP(w, r)
			})
			c := back.client()
			c.header = header
			c.do("POST")
			c.cookies["theirs"] = &http.Cookie{Name: "theirs", Value: "kept"}
			gateway.commit()
			for _, s := range []*site{gateway, back} {
				s.replay("slave-1", "slave-2")
			}
			time.Sleep(time.Second)
			served(t, c.get(), bySlave) // the control: what it has the slaves cover
			c.site = gateway
			before := c.token
			back.routes.take()
			c.do("GET")
			served(t, strings.Join(back.routes.take(), ", "), byToken)
			want := request{passed.header, "theirs=kept"}
			if header {
				want.cookies = ""
			}
			if passed != want || passed.header == before || passed.header == "" {
				t.Errorf("passed on %+v, the client's token was %q", passed, before)
			}
			if c.token == before {
				t.Error("the client keeps its old token")
			}
			c.site = back
			served(t, c.get(), byToken)

			// What the service behind it wrote comes back, once.
			writes = false
			c.site = gateway
			back.replay("slave-1", "slave-2")
			time.Sleep(time.Second)
			response := c.do("POST")
			if h := response.Header; len(h["Set-Cookie"]) != 1 || len(h["Replicated-Token"]) != 1 {
				t.Errorf("headers %q", response.Header)
			}
			c.site = back
			served(t, c.get(), byToken)
		})
	}
}

// TestGatewayWithoutTransport has a proxy pass on a response, with the token of the service behind it, which
// has written. The gateway has a token of its own for the client: for what it wrote, or read. Both must
// count.
func TestGatewayWithoutTransport(t *testing.T) {
	for _, test := range []struct {
		name              string
		own               func(*site, context.Context)
		backWrites        bool
		header, monotonic bool
		want              string
	}{
		{"it wrote, cookies", (*site).write, true, false, false, byToken},
		{"it wrote, header", (*site).write, true, true, false, byToken},
		{"it read, cookies", func(s *site, ctx context.Context) { s.read(ctx) }, true, false, true, byToken},
		{"it read, header", func(s *site, ctx context.Context) { s.read(ctx) }, true, true, true, byToken},
		{"control: nobody wrote", func(s *site, ctx context.Context) { s.read(ctx) }, false, false, true, bySlave},
	} {
		bubble(t, test.name, func(t *testing.T) {
			monotonic := func(c *replicated.Config) { c.Token.Monotonic = test.monotonic }
			gateway, back := newSite(t, monotonic), newSite(t, nil)
			back.commit() // so that the gateway's own token does not cover what is written behind it
			back.replay("slave-1", "slave-2")
			time.Sleep(time.Minute) // until it is known
			proxy := &httputil.ReverseProxy{
				Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(&url.URL{Scheme: "http", Host: "back"}) },
				Transport: roundTripper(func(r *http.Request) (*http.Response, error) {
					w := httptest.NewRecorder()
					back.handler.ServeHTTP(w, r.WithContext(context.Background())) // another process
					return w.Result(), nil
				}),
			}
			gateway.with(func(w http.ResponseWriter, r *http.Request) {
				test.own(gateway, r.Context())
				proxy.ServeHTTP(w, r)
			})
			c := gateway.client()
			c.header = test.header
			if test.backWrites {
				c.do("POST")
			} else {
				c.do("GET")
			}
			if _, ok := c.cookies["replicated"]; ok != test.backWrites {
				t.Errorf("cookies %v: those of reads must not carry a write, nor those of writes a read", c.cookies)
			}
			c.site = back
			served(t, c.get(), test.want)
		})
	}
}

// closer is a RoundTripper that counts calls of CloseIdleConnections.
type closer struct {
	http.RoundTripper
	calls int
}

func (c *closer) CloseIdleConnections() { c.calls++ }

func TestTransportClosesIdleConnections(t *testing.T) {
	p, base := replicated.New(replicated.Config{}), &closer{}
	(&http.Client{Transport: p.Transport(base)}).CloseIdleConnections()
	if base.calls != 1 {
		t.Errorf("called %d times", base.calls)
	}
	(&http.Client{Transport: p.Transport(roundTripper(nil))}).CloseIdleConnections() // a base that has none
}
