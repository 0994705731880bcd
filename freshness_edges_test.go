package replicated_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"gorm.io/gorm"
	"gorm.io/plugin/dbresolver"

	"github.com/gorm-replicated/replicated"
	"github.com/gorm-replicated/replicated/internal/position"
	"github.com/gorm-replicated/replicated/internal/token"
)

// with has the site serve with this handler from now on, behind its Middleware.
func (s *site) with(f http.HandlerFunc) { s.handler = s.plugin.Middleware(f) }

// write is what a POST does before it answers.
func (s *site) write(ctx context.Context) {
	s.db.WithContext(ctx).Create(&User{})
	s.commit()
}

// read returns the route of a read outside of requests.
func (s *site) read(ctx context.Context) string {
	s.routes.take()
	s.db.WithContext(ctx).Find(&[]User{})
	return strings.Join(s.routes.take(), ", ")
}

// newToken returns the token of another client's write.
func (s *site) newToken() string {
	c := s.client()
	c.do("POST")
	return c.token
}

// carrier returns a client that has a token in its header.
func (s *site) carrier(token string) *client {
	c := s.client()
	c.header, c.token = true, token
	return c
}

func slaveByDefault(c *replicated.Config) { c.DefaultIntent = replicated.Slave }

// TestWritesBesideClose: the servers are not watched any longer, but other instances go on.
func TestWritesBesideClose(t *testing.T) {
	for _, meanwhile := range []bool{true, false} {
		name := map[bool]string{true: "the request runs meanwhile", false: "the request comes later"}[meanwhile]
		closing := func(t *testing.T, s *site) {
			if meanwhile {
				s.with(func(w http.ResponseWriter, r *http.Request) {
					s.write(r.Context())
					if err := s.plugin.Close(); err != nil {
						t.Error(err)
					}
				})
			} else if err := s.plugin.Close(); err != nil {
				t.Error(err)
			}
		}
		bubble(t, name, func(t *testing.T) {
			s, other := newSite(t, nil), newSite(t, nil)
			closing(t, s)
			c := s.client()
			c.do("POST")
			if n := s.plugin.Status().Tokens.TimeOnly; c.token == "" || n != 1 {
				t.Errorf("token %q, %d times instead of positions", c.token, n)
			}
			c.site = other
			served(t, c.get(), byToken)
			served(t, other.client().get(), bySlave) // the control
			time.Sleep(5 * time.Second)
			served(t, c.get(), bySlave)
		})
		bubble(t, name+", without secrets", func(t *testing.T) {
			s := newSite(t, func(c *replicated.Config) { c.Secrets = nil })
			closing(t, s)
			c := s.client()
			c.do("POST")
			if cookie := c.cookies["replicated"]; cookie == nil || cookie.Value != "1" {
				t.Errorf("cookie %v", cookie)
			}
		})
	}
}

// TestTokenWithoutSecrets: an error, also if the slice is not nil, and before db.Use.
func TestTokenWithoutSecrets(t *testing.T) {
	for _, test := range []struct {
		name    string
		secrets [][]byte
		used    bool
	}{
		{"none", nil, true},
		{"an empty slice of them", [][]byte{}, true},
		{"not used yet", [][]byte{secret}, false},
	} {
		bubble(t, test.name, func(t *testing.T) {
			p, ctx := replicated.New(replicated.Config{Secrets: test.secrets}), t.Context()
			if test.used {
				s := newSite(t, func(c *replicated.Config) { c.Secrets = test.secrets })
				p, ctx = s.plugin, s.plugin.WithToken(ctx, "")
				s.write(ctx)
			}
			if text, err := p.Token(ctx); text != "" || err == nil || !strings.Contains(err.Error(), "Secrets") {
				t.Errorf("got %q, %v", text, err)
			}
		})
	}
}

// TestContextsThatHaveEnded: the end of a request's context, by a timeout outside, is no reason to fall back
// to a time.
func TestContextsThatHaveEnded(t *testing.T) {
	bubble(t, "that of a request", func(t *testing.T) {
		s := newSite(t, nil)
		inner := s.plugin.Middleware(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			s.write(r.Context())
			<-r.Context().Done() // a slow call to somebody else
			w.WriteHeader(http.StatusGatewayTimeout)
		}))
		s.handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			ctx, cancel := context.WithTimeout(r.Context(), time.Second)
			defer cancel()
			inner.ServeHTTP(w, r.WithContext(ctx))
		})
		c := s.client()
		c.do("POST")
		s.with(s.serve)
		if n := s.plugin.Status().Tokens.TimeOnly; n != 0 {
			t.Errorf("a time instead of a position: %s", &s.logs)
		}
		time.Sleep(20 * time.Second) // no time is long enough
		served(t, c.get(), byToken)
	})
	bubble(t, "that of Token", func(t *testing.T) {
		s := newSite(t, nil)
		session := s.plugin.WithToken(t.Context(), "")
		s.write(session)
		ctx, cancel := context.WithCancel(session)
		cancel()
		if text, err := s.plugin.Token(ctx); text != "" || !errors.Is(err, context.Canceled) {
			t.Errorf("got %q, %v", text, err)
		}
		if text, err := s.plugin.Token(session); text == "" || err != nil { // the control
			t.Errorf("got %q, %v", text, err)
		}
		if n := s.plugin.Status().Tokens.TimeOnly; n != 0 {
			t.Errorf("%d times instead of positions", n)
		}
	})
}

// TestTimeoutHandler: its 503 brings the token if Middleware is outside of it. Otherwise it does not, as is
// documented.
func TestTimeoutHandler(t *testing.T) {
	for _, test := range []struct {
		name string
		wrap func(*site, http.Handler) http.Handler
		want string
	}{
		{"inside of Middleware", func(s *site, h http.Handler) http.Handler {
			return s.plugin.Middleware(http.TimeoutHandler(h, time.Second, "late"))
		}, byToken},
		{"outside of it", func(s *site, h http.Handler) http.Handler {
			return http.TimeoutHandler(s.plugin.Middleware(h), time.Second, "late")
		}, bySlave},
	} {
		bubble(t, test.name, func(t *testing.T) {
			s := newSite(t, nil)
			s.handler = test.wrap(s, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				s.write(r.Context())
				time.Sleep(5 * time.Second)
			}))
			c := s.client()
			if w := c.do("POST"); w.StatusCode != http.StatusServiceUnavailable {
				t.Errorf("status %d", w.StatusCode)
			}
			time.Sleep(20 * time.Second)
			s.with(s.serve)
			served(t, c.get(), test.want)
		})
	}
}

// TestALateResponseOfAReadDoesNotHideAWrite has the response to a GET arrive after that to a POST which came
// later.
func TestALateResponseOfAReadDoesNotHideAWrite(t *testing.T) {
	for _, monotonic := range []bool{true, false} {
		bubble(t, fmt.Sprintf("monotonic: %v", monotonic), func(t *testing.T) {
			s := newSite(t, func(c *replicated.Config) { c.Token.Monotonic = monotonic })
			begun, release := make(chan struct{}), make(chan struct{})
			slow := s.plugin.Middleware(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				s.serve(w, r)
				fmt.Fprint(w, "a")
				close(begun)
				<-release
			}))
			late := httptest.NewRecorder()
			go slow.ServeHTTP(late, httptest.NewRequest("GET", "/", nil))
			<-begun
			c := s.client()
			c.do("POST")
			close(release)
			synctest.Wait()
			cookies := late.Result().Cookies()
			for _, cookie := range cookies {
				c.cookies[cookie.Name] = cookie
			}
			names := fmt.Sprint(len(cookies), c.cookies["replicated-read"] != nil)
			if names != map[bool]string{true: "1 true", false: "0 false"}[monotonic] {
				t.Errorf("cookies of the GET: %v", cookies)
			}
			served(t, c.get(), byToken)
		})
	}
}

// TestMonotonicWithoutPositions: who only reads would read the master for good.
func TestMonotonicWithoutPositions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, func(c *replicated.Config) { c.Token.Monotonic, c.Probe.Source = true, nil })
		c, onMaster := s.client(), 0
		for range 50 {
			if strings.HasPrefix(c.get(), "master") {
				onMaster++
			}
			time.Sleep(3 * time.Second)
		}
		if n := s.plugin.Status().Tokens.TimeOnly; n+uint64(onMaster) != 0 {
			t.Errorf("%d of 50 reads on the master, %d times instead of positions", onMaster, n)
		}
		c.do("POST") // the control
		served(t, c.get(), byToken)
	})
}

func TestMonotonicOnAConnection(t *testing.T) {
	for _, test := range []struct {
		monotonic bool
		want      string
	}{{true, byToken}, {false, bySlave}} {
		bubble(t, fmt.Sprintf("monotonic: %v", test.monotonic), func(t *testing.T) {
			s := newSite(t, func(c *replicated.Config) { c.Token.Monotonic = test.monotonic })
			s.commit()
			s.with(func(_ http.ResponseWriter, r *http.Request) {
				_ = s.db.WithContext(r.Context()).Connection(func(tx *gorm.DB) error { return tx.Find(&[]User{}).Error })
			})
			c := s.client()
			served(t, c.get(), "master: bound")
			s.with(s.serve)
			served(t, c.get(), test.want)
		})
	}
}

// TestManyReadsAskLittle has 1,000 reads a second for 10 s, for which no slave will do. Rounds happen by
// themselves once a second.
func TestManyReadsAskLittle(t *testing.T) {
	for _, test := range []struct {
		name      string
		change    func(*replicated.Config)
		prepare   func(*site)
		token     bool                                  // the reads bring one
		ctx       func(context.Context) context.Context // of the reads
		meanwhile func(_ *site, read int)
		want      string
		most      int // questions to the master
	}{
		{name: "a slave will do", most: 20},
		{name: "slaves are dead", prepare: func(s *site) {
			s.fail("slave-1", errors.New("dead"))
			s.fail("slave-2", errors.New("dead"))
		}, want: byLag, most: 20},
		{name: "replication has stopped", change: func(c *replicated.Config) { c.MaxLag = 10 * time.Second },
			prepare: func(s *site) { s.commit() }, want: byLag, most: 20},
		{name: "no staleness at all", ctx: func(ctx context.Context) context.Context {
			return replicated.WithMaxStaleness(ctx, 0)
		}, want: byStale, most: 20},
		{name: "a token with a time", change: func(c *replicated.Config) { c.Token.Window = time.Minute },
			prepare: func(s *site) { s.fail("master", errors.New("busy")) }, token: true, want: byToken, most: 20},
		{name: "a token that no slave gets any nearer to", token: true, want: byToken, most: 150},
		{name: "a token that slaves are far behind", prepare: func(s *site) { s.set("master", 1000) }, token: true,
			meanwhile: func(s *site, read int) {
				if read%100 == 0 {
					s.set("slave-1", uint64(2+read/100))
				}
			}, want: byToken, most: 300}, // most of them in the first 2 s, while they do not look hopeless
	} {
		bubble(t, test.name, func(t *testing.T) {
			s := newSite(t, func(c *replicated.Config) {
				slaveByDefault(c)
				if test.change != nil {
					test.change(c)
				}
			})
			if test.prepare != nil {
				test.prepare(s)
			}
			token := ""
			if test.token {
				token = s.newToken()
				s.fail("master", nil)
			}
			read := func() string {
				ctx := s.plugin.WithToken(context.Background(), token)
				if test.ctx != nil {
					ctx = test.ctx(ctx)
				}
				return s.read(ctx)
			}
			if !test.token { // else it counts from the beginning
				for range 20 { // what has changed is seen while reads go on
					read()
					time.Sleep(time.Second)
				}
			}
			s.questions("master")
			for i := range 10_000 {
				if got := read(); test.want != "" && got != test.want {
					t.Fatalf("served by %q, want %q", got, test.want)
				}
				if test.meanwhile != nil {
					test.meanwhile(s, i)
				}
				time.Sleep(time.Millisecond)
			}
			if n := s.questions("master"); n > test.most {
				t.Errorf("%d questions in 10 s", n)
			}
		})
	}
	bubble(t, "one read without any staleness", func(t *testing.T) { // it has no effect for long
		s := newSite(t, slaveByDefault)
		time.Sleep(time.Second)
		s.questions("master")
		served(t, s.read(replicated.WithMaxStaleness(context.Background(), 0)), byStale)
		time.Sleep(9 * time.Second)
		if n := s.questions("master"); n > 18 {
			t.Errorf("%d questions in 9 s", n)
		}
	})
}

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

// TestAnErrorThatIsWrittenOutside of the middleware, after its handler has returned and before any byte has
// left, as by the HTTPErrorHandler of Echo behind echo.WrapMiddleware: by the writer that the middleware was
// given, or by the one that it has given to the handler. Who has the latter may commit even then.
func TestAnErrorThatIsWrittenOutside(t *testing.T) {
	for _, test := range []struct {
		name                    string
		write, inner, lateWrite bool
		want                    string
		issued                  uint64
	}{
		{"by the outer writer", true, false, false, byToken, 1},
		{"by the inner writer", true, true, false, byToken, 1},
		{"by the inner writer, which commits first", true, true, true, byToken, 1},
		{"by the inner writer, which writes first", false, true, true, byToken, 1},
		{"by the outer writer, which nobody watches", false, false, true, bySlave, 0}, // the controls
		{"nobody writes", false, true, false, bySlave, 0},
	} {
		bubble(t, test.name, func(t *testing.T) {
			s := newSite(t, nil)
			var w http.ResponseWriter
			var ctx context.Context
			s.with(func(inner http.ResponseWriter, r *http.Request) {
				if ctx = r.Context(); test.inner {
					w = inner
				}
				if test.write {
					s.db.WithContext(ctx).Create(&User{})
				}
				if test.write && !test.lateWrite {
					s.commit()
				}
			})
			middleware := s.handler
			s.handler = http.HandlerFunc(func(outer http.ResponseWriter, r *http.Request) {
				w = outer
				middleware.ServeHTTP(outer, r)
				if test.lateWrite && !test.write {
					s.db.WithContext(ctx).Create(&User{})
				}
				if test.lateWrite {
					s.commit()
				}
				http.Error(w, "no such page", http.StatusNotFound)
			})
			c := s.client()
			if response := c.do("POST"); response.StatusCode != http.StatusNotFound {
				t.Errorf("status %d", response.StatusCode)
			}
			if n := s.plugin.Status().Tokens.Issued; n != test.issued {
				t.Errorf("%d tokens issued", n)
			}
			s.with(s.serve)
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

// TestAClashInsideOfItself: what begins within a request that clashes clashes, too.
func TestAClashInsideOfItself(t *testing.T) {
	for _, test := range []struct{ nesting, want string }{ // from the outside
		{"b", bySlave},
		{"bb", bySlave},
		{"ab", "master: method"},
		{"abb", "master: method"},
		{"bab", bySlave}, // it is a that has to step back
	} {
		bubble(t, test.nesting, func(t *testing.T) {
			a, b := newSite(t, nil), newSite(t, nil)
			b.handler = http.HandlerFunc(b.serve)
			for i := range test.nesting {
				inner := test.nesting[len(test.nesting)-1-i]
				b.handler = map[byte]*site{'a': a, 'b': b}[inner].plugin.Middleware(b.handler)
			}
			served(t, b.client().get(), test.want)
		})
	}
}

// TestRequestsInTheSessionOfAJob serves several at once in the process, with the context that the job has
// from WithToken.
func TestRequestsInTheSessionOfAJob(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, slaveByDefault)
		job := s.plugin.WithToken(t.Context(), "")
		late := false
		s.with(func(w http.ResponseWriter, r *http.Request) {
			s.write(r.Context())
			_, _ = io.WriteString(w, "a")
			if late {
				s.write(r.Context())
			}
		})
		serve := func() {
			w := httptest.NewRecorder()
			s.handler.ServeHTTP(w, httptest.NewRequest("POST", "/", nil).WithContext(job))
			if w.Header().Get("Replicated-Token") == "" {
				t.Error("no token in a response")
			}
		}
		var requests sync.WaitGroup
		for range 4 {
			requests.Go(func() {
				for range 25 {
					serve()
				}
			})
		}
		requests.Wait()
		s.write(job)
		served(t, s.read(job), "master: session wrote")
		if n := s.plugin.Status().Tokens.LateWrites; n != 0 {
			t.Errorf("%d late writes of a job, which has no response", n)
		}
		late = true // the control
		serve()
		if n := s.plugin.Status().Tokens.LateWrites; n != 1 {
			t.Errorf("counted %d", n)
		}
	})
}

// TestAConnectionOfSeveralMasters is one of the first master, whichever the session has otherwise.
func TestAConnectionOfSeveralMasters(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, func(c *replicated.Config) {
			for _, name := range []string{"m1", "m2"} {
				c.Probe.Source.(*history).set(name, 1)
				c.Masters = append(c.Masters,
					replicated.Server{Dialector: dialector(openPool(t, &fake{name: name})), ID: name})
			}
			c.Policy = dbresolver.PolicyFunc(func(pools []gorm.ConnPool) gorm.ConnPool { return pools[len(pools)-1] })
		})
		s.with(func(_ http.ResponseWriter, r *http.Request) {
			_ = s.db.WithContext(r.Context()).Connection(func(tx *gorm.DB) error { return tx.Create(&User{}).Error })
			s.set("m1", 2)
		})
		c := s.client()
		s.routes.take()
		c.do("POST")
		expect(t, s.routes.take(), "m1: bound")
		s.with(s.serve)
		served(t, c.get(), "m2: no slave covers the token")
		served(t, s.client().get(), bySlave) // the control
		s.set("slave-2", 2)
		time.Sleep(time.Second)
		served(t, c.get(), "slave-2: method")
	})
}

// TestJunkBeforeTheToken has cookies of the same name, as other applications on the host or an attacker leave
// them. Work is bounded: 8 tokens of a request are looked at. If there are more, the client's own may be
// among those that are not.
func TestJunkBeforeTheToken(t *testing.T) {
	for _, test := range []struct {
		name           string
		junk           int
		header         bool
		want           string
		forged, unread uint64
	}{
		{"the cookie, alone", 0, false, byToken, 0, 0},
		{"the cookie behind 7", 7, false, byToken, 7, 0},
		{"the cookie behind 8", 8, false, byToken, 0, 9},
		{"the cookie behind 20", 20, false, byToken, 0, 21},
		{"the cookie behind more than net/http reads", 4000, false, byToken, 0, 4001},
		{"the header and 7", 7, true, byToken, 7, 0},
		{"the header and 20", 20, true, byToken, 0, 21},
	} {
		bubble(t, test.name, func(t *testing.T) {
			s := newSite(t, nil)
			token := s.newToken()
			junk := strings.TrimSuffix(strings.Repeat("replicated=junk; ", test.junk), "; ")
			serve := func(cookies, header string) string {
				r := httptest.NewRequest("GET", "/", nil)
				r.Header.Set("Cookie", cookies)
				r.Header.Set("Replicated-Token", header)
				s.routes.take()
				s.handler.ServeHTTP(httptest.NewRecorder(), r)
				return strings.Join(s.routes.take(), ", ")
			}
			if test.header {
				served(t, serve(junk, token), test.want)
			} else {
				served(t, serve(strings.TrimPrefix(junk+"; replicated="+token, "; "), ""), test.want)
			}
			n := s.plugin.Status().Tokens
			if n.Forged != test.forged || n.Unread != test.unread {
				t.Errorf("counted %d as forged and %d as unread, want %d and %d",
					n.Forged, n.Unread, test.forged, test.unread)
			}
			if test.junk == 7 { // the control: junk that was looked at says nothing
				served(t, serve(junk, ""), bySlave)
			}
		})
	}
}

// TestTokensInTheHeader: a client sends one, but several may arrive.
func TestTokensInTheHeader(t *testing.T) {
	for _, test := range []struct {
		name  string
		lines func(token string) []string
		want  string
	}{
		{"one", func(token string) []string { return []string{token} }, byToken},
		{"behind another", func(token string) []string { return []string{"junk", token} }, byToken},
		{"in one line with another", func(token string) []string { return []string{"junk, " + token} }, byToken},
		{"in one line, in front", func(token string) []string { return []string{token + ",junk"} }, byToken},
		{"behind empty ones", func(token string) []string {
			return []string{strings.Repeat(",", 100) + token}
		}, byToken},
		{"behind 8 others in one line", func(token string) []string {
			return []string{strings.Repeat("junk,", 8) + token}
		}, byToken},
		{"junk alone", func(string) []string { return []string{"junk, junk", "junk"} }, bySlave}, // the control
	} {
		bubble(t, test.name, func(t *testing.T) {
			s := newSite(t, nil)
			r := httptest.NewRequest("GET", "/", nil)
			r.Header["Replicated-Token"] = test.lines(s.newToken())
			s.routes.take()
			s.handler.ServeHTTP(httptest.NewRecorder(), r)
			served(t, strings.Join(s.routes.take(), ", "), test.want)
		})
	}
}

// TestWaitForWhatWillNotCome, or comes at a time that is known.
func TestWaitForWhatWillNotCome(t *testing.T) {
	bubble(t, "nothing is watched", func(t *testing.T) {
		s := newSite(t, func(c *replicated.Config) { c.Probe.Interval, c.Token.Wait = -1, time.Second })
		c := s.carrier(newSite(t, nil).newToken())
		start := time.Now()
		served(t, c.get(), byToken)
		if took := time.Since(start); took != 0 {
			t.Errorf("waited for %v", took)
		}
	})
	for _, test := range []struct {
		name  string
		after time.Duration
		want  string
		took  time.Duration
	}{
		{"the window ends sooner than the wait", 4100 * time.Millisecond, bySlave, 900 * time.Millisecond},
		{"the window ends later", 3900 * time.Millisecond, byToken, 0},
		{"the window is over", 5 * time.Second, bySlave, 0},
	} {
		bubble(t, test.name, func(t *testing.T) {
			s := newSite(t, func(c *replicated.Config) { c.Probe.Source, c.Token.Wait = nil, time.Second })
			c := s.client()
			c.do("POST")
			time.Sleep(test.after)
			start := time.Now()
			served(t, c.get(), test.want)
			// a token's times are rounded up to those
			if took := time.Since(start); took < test.took || took > test.took+time.Millisecond {
				t.Errorf("took %v, want %v", took, test.took)
			}
		})
	}
}

// TestTokensOfAnInstanceWhoseClockIsAhead: by a minute at most they count.
func TestTokensOfAnInstanceWhoseClockIsAhead(t *testing.T) {
	for _, test := range []struct {
		ahead  time.Duration
		want   string
		future uint64
	}{
		{time.Minute, byToken, 0},
		{2 * time.Minute, byToken, 1}, // by the master, as it cannot be said how old it is
	} {
		bubble(t, test.ahead.String(), func(t *testing.T) {
			sealer, err := token.NewSealer([][]byte{secret}, "replicated")
			if err != nil {
				t.Fatal(err)
			}
			entry := token.Entry{History: "default", Position: position.Sequence("log", 2).Append(nil)}
			text, err := sealer.Seal(token.Token{entry}, time.Now().Add(test.ahead))
			if err != nil {
				t.Fatal(err)
			}
			s := newSite(t, nil)
			served(t, s.carrier(text).get(), test.want)
			served(t, s.client().get(), bySlave) // the control
			if n := s.plugin.Status().Tokens; n.Future != test.future || n.Accepted != 1-test.future {
				t.Errorf("%+v", n)
			}
		})
	}
}
