package replicated_test

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gorm-replicated/replicated"
)

func TestCookie(t *testing.T) {
	no := false
	for _, test := range []struct {
		name string
		cfg  replicated.TokenConfig
		tls  bool
		want string
	}{
		{"as it is", replicated.TokenConfig{}, false, "replicated=…; Path=/; Max-Age=300; HttpOnly; SameSite=Lax"},
		{"over TLS", replicated.TokenConfig{}, true,
			"replicated=…; Path=/; Max-Age=300; HttpOnly; Secure; SameSite=Lax"},
		{"over TLS, but not secure", replicated.TokenConfig{Secure: &no}, true,
			"replicated=…; Path=/; Max-Age=300; HttpOnly; SameSite=Lax"},
		{"everything set", replicated.TokenConfig{Cookie: "ours", Domain: "example.com", Path: "/app",
			SameSite: http.SameSiteStrictMode, TTL: 1200500 * time.Millisecond}, false,
			"ours=…; Path=/app; Domain=example.com; Max-Age=1201; HttpOnly; SameSite=Strict"},
	} {
		bubble(t, test.name, func(t *testing.T) {
			s := newSite(t, func(c *replicated.Config) { c.Token = test.cfg })
			r := httptest.NewRequest("POST", "/", nil)
			if test.tls {
				r = httptest.NewRequest("POST", "https://example.com/", nil)
			}
			w := httptest.NewRecorder()
			s.handler.ServeHTTP(w, r)
			got := w.Header().Get("Set-Cookie")
			if value := w.Header().Get("Replicated-Token"); strings.Replace(got, value, "…", 1) != test.want {
				t.Errorf("got  %s\nwant %s", got, test.want)
			}
			if n := len(w.Header()["Set-Cookie"]); n != 1 {
				t.Errorf("%d cookies", n)
			}
		})
	}
}

func TestRotatingSecrets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		newer := bytes.Repeat([]byte("0123456789"), 4)
		old := newSite(t, nil)
		both := newSite(t, func(c *replicated.Config) { c.Secrets = [][]byte{newer, secret} })
		after := newSite(t, func(c *replicated.Config) { c.Secrets = [][]byte{newer} })
		c := old.client()
		c.do("POST")
		c.site = both
		served(t, c.get(), byToken)
		c.do("POST")
		c.site = after
		served(t, c.get(), byToken)
		c.site = old // the control: it does not have the new one yet
		served(t, c.get(), bySlave)
	})
}

func TestTokenOutsideOfRequests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, func(c *replicated.Config) { c.DefaultIntent = replicated.Slave })
		read := func(ctx context.Context) string {
			s.routes.take()
			s.db.WithContext(ctx).Find(&[]User{})
			return strings.Join(s.routes.take(), ", ")
		}
		ctx := s.plugin.WithToken(t.Context(), "")
		if token, err := s.plugin.Token(ctx); token != "" || err != nil {
			t.Errorf("a token of nothing: %q, %v", token, err)
		}
		if got := read(ctx); !strings.HasSuffix(got, ": default intent") || !strings.HasPrefix(got, "slave-") {
			t.Error(got)
		}
		s.db.WithContext(ctx).Create(&User{})
		s.commit()
		served(t, read(ctx), "master: session wrote")
		token, err := s.plugin.Token(ctx)
		if err != nil || token == "" {
			t.Fatal(token, err)
		}
		job := s.plugin.WithToken(t.Context(), token)
		served(t, read(job), byToken)
		if got := read(t.Context()); !strings.HasPrefix(got, "slave-") { // the control
			t.Error(got)
		}
		if again, err := s.plugin.Token(job); err != nil || again == "" || again == token {
			t.Errorf("what it was begun with goes on: %q, %v", again, err)
		}
		s.replay("slave-1", "slave-2")
		time.Sleep(time.Second)
		if got := read(job); !strings.HasPrefix(got, "slave-") {
			t.Error(got)
		}

		if _, err := s.plugin.Token(t.Context()); err == nil || !strings.Contains(err.Error(), "WithToken") {
			t.Errorf("without a session: %v", err)
		}
		bare := newSite(t, func(c *replicated.Config) { c.Secrets = nil })
		_, err = bare.plugin.Token(bare.plugin.WithToken(t.Context(), ""))
		if err == nil || !strings.Contains(err.Error(), "Secrets") {
			t.Errorf("without secrets: %v", err)
		}
		if unused := replicated.New(replicated.Config{}); unused.WithToken(t.Context(), token) != t.Context() {
			t.Error("a session before db.Use")
		}
	})
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

// TestCookiesOfOthers: a token counts under its own two names alone, whatever else the client sends.
func TestCookiesOfOthers(t *testing.T) {
	const many = "a=1; replicated.example=2; b=3; c=4; d=5; e=6; f=7; g=8; h=9; "
	for _, test := range []struct{ name, cookies, want string }{ // TOKEN stands for a token
		{"its own", "replicated=TOKEN", byToken},
		{"that of reads", "replicated-read=TOKEN", byToken},
		{"behind those of others", many + "replicated=TOKEN", byToken},
		{"before those of others", "replicated=TOKEN; " + many, byToken},
		{"in quotes", `replicated="TOKEN"`, byToken},
		{"a longer name", "replicated-other=TOKEN", bySlave},
		{"a longer name before", "my-replicated=TOKEN", bySlave},
		{"the end of a name", "-read=TOKEN", bySlave},
		{"another name, beside ours", "replicated=; other=TOKEN", bySlave},
		{"no name", "replicated; TOKEN", bySlave},
		{"those of others alone", many, bySlave},
	} {
		bubble(t, test.name, func(t *testing.T) {
			s := newSite(t, nil)
			token := s.newToken()
			r := httptest.NewRequest("GET", "/", nil)
			r.Header.Set("Cookie", strings.ReplaceAll(test.cookies, "TOKEN", token))
			s.routes.take()
			s.handler.ServeHTTP(httptest.NewRecorder(), r)
			served(t, strings.Join(s.routes.take(), ", "), test.want)
			n := s.plugin.Status().Tokens
			if n.Forged+n.Unread > 0 || (n.Accepted > 0) != (test.want == byToken) {
				t.Errorf("counted %+v", n)
			}
		})
	}
}

// TestWithTokenInARequest: a token that came in by another way, such as a job's result, is the session's own.
// The client hears of it if that is possible.
func TestWithTokenInARequest(t *testing.T) {
	for _, test := range []struct {
		name  string
		late  bool
		token func(token string) string
		now   string // the route of what the request reads then
		next  string // that of the client's next request
		count uint64 // of what came too late
	}{
		{"in time", false, func(token string) string { return token }, byToken, byToken, 0},
		{"after the first byte", true, func(token string) string { return token }, byToken, bySlave, 1},
		{"forged", false, func(token string) string { return token + "x" }, bySlave, bySlave, 0},
		{"forged, late", true, func(token string) string { return token + "x" }, bySlave, bySlave, 0},
		{"none", true, func(string) string { return "" }, bySlave, bySlave, 0},
	} {
		bubble(t, test.name, func(t *testing.T) {
			s := newSite(t, nil)
			token := test.token(s.newToken())
			s.with(func(w http.ResponseWriter, r *http.Request) {
				if test.late {
					_, _ = io.WriteString(w, "a")
				}
				ctx := s.plugin.WithToken(r.Context(), token)
				served(t, s.read(ctx), test.now)
				served(t, s.read(r.Context()), test.now)
			})
			c := s.client()
			c.do("GET")
			if n := s.plugin.Status().Tokens.LateWrites; n != test.count {
				t.Errorf("%d came too late, want %d", n, test.count)
			}
			if n := s.plugin.Status().Tokens.Forged; (n > 0) != strings.HasSuffix(token, "x") {
				t.Errorf("%d counted as forged", n)
			}
			if _, ok := c.cookies["replicated"]; ok != (test.next == byToken) {
				t.Errorf("cookies %v", c.cookies)
			}
			s.with(s.serve)
			served(t, c.get(), test.next)
		})
	}
	bubble(t, "that of a job", func(t *testing.T) {
		s := newSite(t, func(c *replicated.Config) { c.DefaultIntent = replicated.Slave })
		job := s.plugin.WithToken(t.Context(), "")
		s.plugin.WithToken(job, s.newToken())
		served(t, s.read(job), byToken)
	})
}

// TestTokensEnd: a session that lasts has nothing to bring once its token would have expired, or its time is
// over.
func TestTokensEnd(t *testing.T) {
	const ttl, window = 5 * time.Minute, 5 * time.Second
	for _, test := range []struct {
		name   string
		change func(*replicated.Config)
		lasts  time.Duration
	}{
		{"a position", nil, ttl},
		{"a time", func(c *replicated.Config) { c.Probe.Source, c.Probe.Interval = nil, -1 }, window},
	} {
		bubble(t, test.name, func(t *testing.T) {
			s := newSite(t, test.change)
			job := s.plugin.WithToken(endless(t), s.newToken())
			for _, step := range []struct {
				wait   time.Duration
				brings bool
			}{{0, true}, {test.lasts - time.Nanosecond, true}, {time.Nanosecond, false}} {
				time.Sleep(step.wait)
				if token, err := s.plugin.Token(job); err != nil || (token != "") != step.brings {
					t.Errorf("%v later it brings %q, %v", step.wait, token, err)
				}
			}
		})
	}
}
