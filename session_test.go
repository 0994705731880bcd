package replicated_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"gorm.io/gorm"

	"github.com/gorm-replicated/replicated"
)

// TestGetAfterPost is the problem that Flask-Replicated leaves open.
func TestGetAfterPost(t *testing.T) {
	bubble(t, "by position", func(t *testing.T) {
		s := newSite(t, nil)
		c, other := s.client(), s.client()
		served(t, c.get(), bySlave)
		c.do("POST")
		served(t, c.get(), byToken)
		served(t, other.get(), bySlave) // the control: who brings no token reads behind
		time.Sleep(20 * time.Second)    // the slaves stand still: no time is long enough
		served(t, c.get(), byToken)
		s.replay("slave-2")
		c.get() // slaves so far behind are watched more closely only once somebody asks
		time.Sleep(time.Second)
		for range 20 { // one of two is enough, and only that one
			served(t, c.get(), "slave-2: method")
		}
	})
	bubble(t, "by position, in a header", func(t *testing.T) {
		s := newSite(t, nil)
		c := s.client()
		c.header = true
		c.do("POST")
		served(t, c.get(), byToken)
		s.replay("slave-1", "slave-2")
		time.Sleep(time.Second)
		served(t, c.get(), bySlave)
	})
	bubble(t, "by time where there are no positions", func(t *testing.T) {
		s := newSite(t, func(c *replicated.Config) { c.Probe.Source = nil })
		c := s.client()
		c.do("POST")
		time.Sleep(5*time.Second - time.Millisecond)
		served(t, c.get(), byToken)
		time.Sleep(2 * time.Millisecond)
		served(t, c.get(), bySlave)
		if n := s.plugin.Status().Tokens.TimeOnly; n != 1 {
			t.Errorf("TimeOnly is %d", n)
		}
		logs := s.logs.String() // at the start, and not again
		if strings.Count(logs, "tokens carry a time") != 1 || strings.Contains(logs, "carries a time") {
			t.Errorf("log: %s", logs)
		}
	})
	bubble(t, "by a cookie without content where there are no secrets", func(t *testing.T) {
		s := newSite(t, func(c *replicated.Config) { c.Secrets = nil })
		c := s.client()
		if w := c.do("POST"); w.Header.Get("Replicated-Token") != "" {
			t.Error("a header that nobody would know when to drop")
		}
		cookie := c.cookies["replicated"]
		if cookie == nil || cookie.Value != "1" || cookie.MaxAge != 5 {
			t.Fatalf("cookie %v", cookie)
		}
		s.replay("slave-1", "slave-2")
		time.Sleep(time.Second)
		served(t, c.get(), byToken)
		delete(c.cookies, "replicated") // as the browser does after Max-Age
		served(t, c.get(), bySlave)
		c.do("POST")
		if n := strings.Count(s.logs.String(), "Secrets is not set"); n != 1 {
			t.Errorf("logged %d times", n)
		}
	})
}

// TestWhatAsksForASlave has what happens to demands where the code asks for a slave, and where it does not.
func TestWhatAsksForASlave(t *testing.T) {
	in := func(ctx func(context.Context) context.Context) func(*gorm.DB) *gorm.DB {
		return func(db *gorm.DB) *gorm.DB { return db.WithContext(ctx(db.Statement.Context)) }
	}
	within := func(d time.Duration) func(*gorm.DB) *gorm.DB {
		return in(func(ctx context.Context) context.Context { return replicated.WithMaxStaleness(ctx, d) })
	}
	slave := in(replicated.WithSlave)
	clause := func(db *gorm.DB) *gorm.DB { return db.Clauses(replicated.Slave) }
	plain := func(db *gorm.DB) *gorm.DB { return db }
	for _, test := range []struct {
		name  string
		how   func(*gorm.DB) *gorm.DB
		fresh string // who answers when the slave has what the token demands
		token string // when it has not
		lag   string // when it is also further behind than MaxLag
	}{
		{"the method alone", plain, "slave-1: method", byToken, byLag},
		{"WithSlave drops the token's demand, then MaxLag", slave, "slave-1: context", "slave-1: context",
			"slave-1: context"},
		{"so does a clause", clause, "slave-1: clause", "slave-1: clause", "slave-1: clause"},
		{"WithMaxStaleness", within(2 * time.Second), "slave-1: method", byToken, byLag},
		{"WithMaxStaleness is never dropped", func(db *gorm.DB) *gorm.DB {
			return within(2 * time.Second)(slave(db))
		}, "slave-1: context", "slave-1: context", byLag},
		{"no staleness at all: the master", within(0), byStale, byStale, byLag},
	} {
		bubble(t, test.name, func(t *testing.T) {
			s := newSite(t, func(c *replicated.Config) { c.Slaves, c.MaxLag = c.Slaves[:1], 10*time.Second })
			c := s.client()
			get := func() string {
				s.handler = s.plugin.Middleware(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					test.how(s.db.WithContext(r.Context())).Find(&[]User{})
				}))
				defer func() { s.handler = s.plugin.Middleware(http.HandlerFunc(s.serve)) }()
				return c.get()
			}
			served(t, get(), test.fresh)
			c.do("POST")
			served(t, get(), test.token)
			time.Sleep(13 * time.Second)
			served(t, get(), test.lag)
			s.replay("slave-1")
			time.Sleep(3 * time.Second)
			get() // has the slave watched more closely
			time.Sleep(time.Second)
			served(t, get(), test.fresh)
		})
	}
}

// TestWait has slaves that catch up a while after the POST.
func TestWait(t *testing.T) {
	for _, test := range []struct {
		wait, after time.Duration
		want        string
		took        time.Duration // at most
	}{
		{0, 15 * time.Millisecond, byToken, 0},
		{20 * time.Millisecond, 0, bySlave, 11 * time.Millisecond},
		{50 * time.Millisecond, 15 * time.Millisecond, bySlave, 30 * time.Millisecond},
		{50 * time.Millisecond, time.Minute, byToken, 50 * time.Millisecond},
	} {
		bubble(t, fmt.Sprintf("%v, slaves %v behind", test.wait, test.after), func(t *testing.T) {
			s := newSite(t, func(c *replicated.Config) { c.Token.Wait = test.wait })
			time.Sleep(time.Second)
			c := s.client()
			c.do("POST")
			catchUp := time.AfterFunc(test.after, func() { s.replay("slave-1", "slave-2") })
			defer catchUp.Stop()
			start := time.Now()
			served(t, c.get(), test.want)
			if took := time.Since(start); took > test.took {
				t.Errorf("took %v", took)
			}
		})
	}
	bubble(t, "once for all reads of a request", func(t *testing.T) {
		s := newSite(t, func(c *replicated.Config) { c.Token.Wait = time.Second })
		c := s.client()
		c.do("POST")
		s.handler = s.plugin.Middleware(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			for range 3 {
				s.db.WithContext(r.Context()).Find(&[]User{})
			}
		}))
		start := time.Now()
		served(t, c.get(), byToken+", "+byToken+", "+byToken)
		if took := time.Since(start); took != time.Second {
			t.Errorf("took %v", took)
		}
	})
	bubble(t, "no longer than the request", func(t *testing.T) {
		s := newSite(t, func(c *replicated.Config) { c.Token.Wait = time.Minute })
		c := s.client()
		c.do("POST")
		ctx, cancel := context.WithTimeout(s.plugin.WithToken(t.Context(), c.token), time.Second)
		defer cancel()
		start := time.Now()
		s.db.WithContext(replicated.WithMaxStaleness(ctx, time.Hour)).Find(&[]User{})
		s.db.WithContext(ctx).Find(&[]User{})
		if took := time.Since(start); took > time.Second {
			t.Errorf("took %v", took)
		}
	})
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

// TestASessionLeavesItsSlave when that is not read any longer, and only then.
func TestASessionLeavesItsSlave(t *testing.T) {
	for _, test := range []struct {
		name      string
		meanwhile func(t *testing.T, s *site, second gorm.Dialector)
		want      string
	}{
		{"it has left", func(t *testing.T, s *site, second gorm.Dialector) {
			if err := s.plugin.SetSlaves(second); err != nil {
				t.Fatal(err)
			}
		}, "slave-2: method"},
		{"it falls behind", func(_ *testing.T, s *site, _ gorm.Dialector) {
			s.commit()
			s.replay("slave-2")
			time.Sleep(3 * time.Minute)
		}, "slave-2: method"},
		{"the control: nothing happens", func(*testing.T, *site, gorm.Dialector) {}, "slave-1: method"},
	} {
		for _, monotonic := range []bool{false, true} {
			bubble(t, fmt.Sprintf("%s, monotonic: %v", test.name, monotonic), func(t *testing.T) {
				var second gorm.Dialector
				s := newSite(t, func(c *replicated.Config) {
					c.Policy, c.Token.Monotonic, second = inOrder, monotonic, c.Slaves[1]
				})
				s.handler = s.plugin.Middleware(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					s.serve(w, r)
					test.meanwhile(t, s, second)
					s.serve(w, r)
				}))
				served(t, s.client().get(), "slave-1: method, "+test.want)
			})
		}
	}
}

// TestATimeEndsWithinASession: a job that outlives its token's time reads slaves again, whether or not they
// are watched.
func TestATimeEndsWithinASession(t *testing.T) {
	for name, interval := range map[string]time.Duration{"unwatched": -1, "watched, no positions": time.Second} {
		bubble(t, name, func(t *testing.T) {
			s := newSite(t, func(c *replicated.Config) {
				c.DefaultIntent, c.Probe.Source, c.Probe.Interval = replicated.Slave, nil, interval
			})
			job := s.plugin.WithToken(endless(t), s.newToken())
			served(t, s.read(job), byToken)
			time.Sleep(5*time.Second - 1)
			served(t, s.read(job), byToken)
			time.Sleep(time.Nanosecond)
			if got := s.read(job); got != "slave-1: default intent" && got != "slave-2: default intent" {
				t.Errorf("after the window: %s", got)
			}
		})
	}
}
