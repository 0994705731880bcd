package replicated_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"gorm.io/gorm"

	"github.com/gorm-replicated/replicated"
)

// TestMonotonic has slaves of which one is behind, and a client that reads from both.
func TestMonotonic(t *testing.T) {
	for _, monotonic := range []bool{true, false} {
		bubble(t, fmt.Sprint(monotonic), func(t *testing.T) {
			s := newSite(t, func(c *replicated.Config) { c.Token.Monotonic = monotonic })
			c := s.client()
			back := 0
			for range 50 {
				s.commit()
				s.replay("slave-1") // slave-2 never gets there
				time.Sleep(2 * time.Second)
				first := c.get()
				second := c.get()
				if strings.HasPrefix(first, "slave-1") && strings.HasPrefix(second, "slave-2") {
					back++
				}
			}
			if (back > 0) == monotonic {
				t.Errorf("saw an older state %d times", back)
			}
		})
	}
	bubble(t, "after a read on the master", func(t *testing.T) {
		s := newSite(t, func(c *replicated.Config) { c.Token.Monotonic = true })
		s.commit()
		c := s.client()
		s.handler = s.plugin.Middleware(replicated.UseMaster(http.HandlerFunc(s.serve)))
		served(t, c.get(), "master: handler")
		s.handler = s.plugin.Middleware(http.HandlerFunc(s.serve))
		served(t, c.get(), byToken)
	})
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

// TestMonotonicWhenASlaveLeaves has the slave leave that a session has read.
func TestMonotonicWhenASlaveLeaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var second gorm.Dialector
		s := newSite(t, func(c *replicated.Config) {
			c.Token.Monotonic = true
			second = c.Slaves[1]
			c.Policy = inOrder
		})
		s.commit()
		s.replay("slave-1") // slave-2 has less
		time.Sleep(2 * time.Second)
		c := s.client()
		served(t, c.get(), "slave-1: method")
		inSession := s.plugin.Middleware(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			s.serve(w, r)
			if err := s.plugin.SetSlaves(second); err != nil {
				t.Error(err)
			}
			s.serve(w, r)
		}))
		before := s.handler
		s.handler = inSession
		c.do("GET") // it leaves during this request, after a read
		s.handler = before
		served(t, c.get(), byToken) // never the older state
		s.replay("slave-2")
		c.do("GET") // has slave-2 asked: the question that SetSlaves brought about may have been before the replay
		time.Sleep(2 * time.Second)
		served(t, c.get(), "slave-2: method")
	})
}

// TestMonotonicWhereBound has a token rise with what the server of a transaction or a connection has shown:
// the master has a commit that no slave has.
func TestMonotonicWhereBound(t *testing.T) {
	find := func(tx *gorm.DB) error { return tx.Find(&[]User{}).Error }
	connection := func(db *gorm.DB) error { return db.Connection(find) }
	begun := func(i replicated.Intent) func(*gorm.DB) error {
		return func(db *gorm.DB) error { return db.Clauses(i).Transaction(find, readOnlyTx) }
	}
	for _, test := range []struct {
		name      string
		monotonic bool
		read      func(*gorm.DB) error
		next      string // the route of the client's next request
	}{
		{"a connection", true, connection, byToken},
		{"the master's transaction", true, begun(replicated.Master), byToken},
		{"a slave's transaction", true, begun(replicated.Slave), bySlave},
		{"the control: a connection, not monotonic", false, connection, bySlave},
		{"the control: the master's transaction, not monotonic", false, begun(replicated.Master), bySlave},
	} {
		bubble(t, test.name, func(t *testing.T) {
			s := newSite(t, func(c *replicated.Config) { c.Token.Monotonic = test.monotonic })
			s.commit()
			s.with(func(_ http.ResponseWriter, r *http.Request) {
				if err := test.read(s.db.WithContext(r.Context())); err != nil {
					t.Error(err)
				}
			})
			c := s.client()
			c.do("GET")
			s.with(s.serve)
			served(t, c.get(), test.next)
		})
	}
}
