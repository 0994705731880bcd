package replicated_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gorm-replicated/replicated"
)

// TestQuestions has what the freshness costs: nothing for what reads, one question for what writes.
func TestQuestions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, func(c *replicated.Config) { c.Probe.MinInterval = time.Second })
		c := s.client()
		c.do("POST")
		time.Sleep(5 * time.Second)
		synctest.Wait()
		s.questions("master")
		s.questions("slave-1")
		for range 100 {
			c.get()
		}
		synctest.Wait()
		// one round, begun by the first that found no slave
		if n := s.questions("master") + s.questions("slave-1"); n > 4 {
			t.Errorf("%d questions of reads", n)
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		s.questions("master")
		const writes = 100
		for range writes {
			c.do("POST")
		}
		if n := s.questions("master"); n > writes+1 {
			t.Errorf("%d questions of %d writes", n, writes)
		}
		s.log.take()
	})
}

func TestPositionThatCannotBeRead(t *testing.T) {
	for _, test := range []struct {
		name   string
		spoil  func(*site)
		reason string
	}{
		{"the master does not say", func(s *site) { s.fail("master", io.ErrUnexpectedEOF) }, "unexpected EOF"},
		{"it does not fit into a cookie", func(s *site) {
			s.history.mu.Lock()
			s.name = strings.Repeat("x", 4000)
			s.history.mu.Unlock()
		}, "do not fit"},
	} {
		bubble(t, test.name, func(t *testing.T) {
			s := newSite(t, nil)
			test.spoil(s)
			c := s.client()
			w := c.do("POST")
			if n := len(w.Header.Get("Set-Cookie")); n == 0 || n > 4096 {
				t.Errorf("a cookie of %d bytes", n)
			}
			s.replay("slave-1", "slave-2")
			time.Sleep(time.Second)
			served(t, c.get(), byToken)
			if !strings.Contains(s.logs.String(), test.reason) {
				t.Errorf("log: %s", &s.logs)
			}
			if n := s.plugin.Status().Tokens.TimeOnly; n == 0 {
				t.Error("not counted")
			}
			time.Sleep(5 * time.Second)
			if got := c.get(); got == byToken {
				t.Error("the window does not end")
			}
		})
	}
}

// TestWritesBesideClose: the servers are not watched any longer, but other instances go on.
func TestWritesBesideClose(t *testing.T) {
	for _, meanwhile := range []bool{true, false} {
		name := map[bool]string{true: "the request runs meanwhile", false: "the request comes later"}[meanwhile]
		closing := func(t *testing.T, s *site) {
			t.Helper()
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
