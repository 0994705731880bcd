package replicated_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"gorm.io/gorm"

	"github.com/gorm-replicated/replicated"
)

func TestWritesAfterTheFirstByte(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, nil)
		s.handler = s.plugin.Middleware(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprint(w, "a")
			s.db.WithContext(r.Context()).Create(&User{})
			s.db.WithContext(r.Context()).Exec("UPDATE users SET name = 'b'")
		}))
		if w := s.client().do("POST"); len(w.Cookies()) != 0 {
			t.Error("a token that cannot be right")
		}
		if n := s.plugin.Status().Tokens.LateWrites; n != 2 {
			t.Errorf("counted %d", n)
		}
		if n := strings.Count(s.logs.String(), "after the first byte"); n != 1 {
			t.Errorf("logged %d times: %s", n, &s.logs)
		}
	})
}

// TestTwoPluginsWithOneCookie: one token would be lost, and somebody would read stale data. So the inner
// plugin issues none, and its requests read the master.
func TestTwoPluginsWithOneCookie(t *testing.T) {
	cookieOfReads := func(c *replicated.Config) {
		c.Token.Cookie, c.Token.Header = "replicated-read", "Two-Token"
	}
	for _, test := range []struct {
		name          string
		first, second func(*replicated.Config)
		clash         bool
	}{
		{"the same", nil, nil, true},
		{"the same header", nil, func(c *replicated.Config) { c.Token.Cookie = "two" }, true},
		{"the same cookie", nil, func(c *replicated.Config) { c.Token.Header = "Two-Token" }, true},
		{"the cookie of the other's reads", nil, cookieOfReads, true},
		{"the cookie of whose reads is the other's", cookieOfReads, nil, true},
		{"the inner without secrets", nil, func(c *replicated.Config) { c.Secrets = nil }, true},
		{"the outer without secrets", func(c *replicated.Config) { c.Secrets = nil }, nil, true},
		{"each its own", nil, func(c *replicated.Config) { c.Token.Cookie, c.Token.Header = "two", "Two-Token" },
			false},
	} {
		bubble(t, test.name, func(t *testing.T) {
			one, two := newSite(t, test.first), newSite(t, test.second)
			serve := func(sites ...*site) http.Handler {
				return one.plugin.Middleware(two.plugin.Middleware(http.HandlerFunc(
					func(w http.ResponseWriter, r *http.Request) {
						for _, s := range sites {
							s.serve(httptest.NewRecorder(), r)
						}
					})))
			}
			one.handler = serve(one, two)
			c := one.client()
			c.do("POST")
			one.routes.take()
			two.routes.take()
			c.do("GET")
			expect(t, one.routes.take(), byToken)
			want := byToken
			if test.clash {
				want = "master: method"
			}
			expect(t, two.routes.take(), want)
			if logged := strings.Contains(two.logs.String(), "two plugins in one request"); logged != test.clash {
				t.Errorf("logged: %s", &two.logs)
			}
			if n := two.plugin.Status().Tokens; test.clash && n.Accepted+n.Forged > 0 {
				t.Errorf("the inner one took a token: %+v", n)
			}

			one.handler = serve(two)
			issued := two.plugin.Status().Tokens.Issued
			w := httptest.NewRecorder()
			one.handler.ServeHTTP(w, httptest.NewRequest("POST", "/", nil))
			if brings := len(w.Header()["Set-Cookie"]) > 0; brings == test.clash {
				t.Errorf("what the inner one wrote brings %v", w.Header())
			}
			if n := two.plugin.Status().Tokens.Issued - issued; (n > 0) == test.clash {
				t.Errorf("the inner one issued %d tokens", n)
			}
		})
	}
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

// serve runs a request whose handler makes one query, and returns its route.
func serve(s *setup, method, target string) []string {
	handler := s.plugin.Middleware(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		s.db.WithContext(r.Context()).First(&User{})
	}))
	handler.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(method, target, nil))
	return s.routes.take()
}

func TestRoutes(t *testing.T) {
	s := newSetup(t, 1, gorm.Config{}, func(c *replicated.Config) {
		c.Routes = map[string]replicated.Intent{
			"POST /search":            replicated.Slave,
			"/admin/":                 replicated.Master,
			"/admin/reports/{id}":     replicated.Slave,
			"GET /account/{rest...}":  replicated.Master,
			"api.example.com/":        replicated.Master,
			"GET example.com/{$}":     replicated.Master,
			"DELETE /cache/{key}/now": replicated.Slave,
		}
	})
	for _, test := range []struct{ method, target, want string }{
		{"POST", "/search", "slave-1: route pattern"},
		{"POST", "/search?q=a", "slave-1: route pattern"},
		{"PUT", "/search", "master: method"},
		{"GET", "/search", "slave-1: method"},
		{"GET", "/admin/users", "master: route pattern"},
		{"GET", "/admin/reports/7", "slave-1: route pattern"},
		{"POST", "/admin/reports/7", "slave-1: route pattern"},
		{"GET", "/account/settings", "master: route pattern"},
		{"HEAD", "/account/settings", "master: route pattern"},
		{"GET", "/account", "master: route pattern"},           // a ServeMux would redirect to /account/
		{"GET", "//account/settings", "master: route pattern"}, // and from here to the clean path
		{"GET", "/x/../account/settings", "master: route pattern"},
		{"GET", "http://api.example.com/anything", "master: route pattern"},
		{"GET", "http://api.example.com:8080/anything", "master: route pattern"},
		{"GET", "http://example.com/", "master: route pattern"},
		{"GET", "http://example.com/other", "slave-1: method"},
		{"DELETE", "/cache/a/now", "slave-1: route pattern"},
		{"DELETE", "/cache/a", "master: method"},
	} {
		t.Run(test.method+" "+test.target, func(t *testing.T) {
			expect(t, serve(s, test.method, test.target), test.want)
		})
	}
	s.plugin.SetAutoReadOnSlave(false)
	expect(t, serve(s, "POST", "/search"), "slave-1: route pattern")
	expect(t, serve(s, "GET", "/search"), "master: switched off")
}

// TestSwitchWorksWhileARequestRuns flips it between two queries of one request.
func TestSwitchWorksWhileARequestRuns(t *testing.T) {
	s := newSetup(t, 1, gorm.Config{}, nil)
	s.plugin.Middleware(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		db := s.db.WithContext(r.Context())
		db.First(&User{})
		s.plugin.SetAutoReadOnSlave(false)
		db.First(&User{})
		s.plugin.SetAutoReadOnSlave(true)
		db.First(&User{})
	})).ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil))
	expect(t, s.routes.take(), "slave-1: method", "master: switched off", "slave-1: method")
}

func TestMiddlewareBeforeUse(t *testing.T) {
	log, routes := &fakeLog{}, &routes{}
	db := openFake(t, openPool(t, &fake{name: "master", log: log}), gorm.Config{})
	p := replicated.New(replicated.Config{Observer: routes, Slaves: []gorm.Dialector{
		replicated.Server{Dialector: dialector(openPool(t, &fake{name: "slave", log: log})), ID: "slave"},
	}})
	handler := p.Middleware(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		db.WithContext(r.Context()).First(&User{})
	}))
	get := func() {
		handler.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil))
	}
	get()
	expect(t, log.servers(), "master")
	if err := db.Use(p); err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	get()
	expect(t, log.servers(), "slave")
	expect(t, routes.take(), "slave: method")
}

// TestMiddlewareTwice has what one layer wrote be seen by the other.
func TestMiddlewareTwice(t *testing.T) {
	s := newSetup(t, 1, gorm.Config{}, nil)
	inner := s.plugin.Middleware(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		s.db.WithContext(r.Context()).First(&User{})
	}))
	outer := func(write bool) http.Handler {
		return s.plugin.Middleware(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if write {
				s.db.WithContext(r.Context()).Create(&User{Name: "a"})
			}
			inner.ServeHTTP(w, r)
		}))
	}
	outer(false).ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil))
	expect(t, s.routes.take(), "slave-1: method")
	outer(true).ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil))
	expect(t, s.routes.take(), "master: write", "master: session wrote")
}

// TestTwoPlugins has two databases in one request; a write to one does not
// move the reads of the other.
func TestTwoPlugins(t *testing.T) {
	a, b := newSetup(t, 1, gorm.Config{}, nil), newSetup(t, 1, gorm.Config{}, nil)
	for name, wrap := range map[string]func(http.Handler) http.Handler{
		"a outside": func(h http.Handler) http.Handler { return a.plugin.Middleware(b.plugin.Middleware(h)) },
		"b outside": func(h http.Handler) http.Handler { return b.plugin.Middleware(a.plugin.Middleware(h)) },
	} {
		t.Run(name, func(t *testing.T) {
			wrap(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				a.db.WithContext(r.Context()).Create(&User{Name: "a"})
				a.db.WithContext(r.Context()).First(&User{})
				b.db.WithContext(r.Context()).First(&User{})
			})).ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil))
			expect(t, a.routes.take(), "master: write", "master: session wrote")
			expect(t, b.routes.take(), "slave-1: method")
		})
	}
}

// TestConfigIsCopied has the caller go on using what it passed.
func TestConfigIsCopied(t *testing.T) {
	methods, patterns, off := []string{"GET"}, map[string]replicated.Intent{
		"POST /search": replicated.Slave,
	}, true
	s := newSetup(t, 1, gorm.Config{}, func(c *replicated.Config) {
		c.ReadOnlyMethods, c.Routes, c.AutoReadOnSlave = methods, patterns, &off
	})
	methods[0], off = "PUT", false
	delete(patterns, "POST /search")
	var wg sync.WaitGroup
	wg.Go(func() { patterns["/"] = replicated.Master })
	expect(t, serve(s, "GET", "/"), "slave-1: method")
	expect(t, serve(s, "POST", "/search"), "slave-1: route pattern")
	wg.Wait()
}
