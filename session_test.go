package replicated_test

import (
	"fmt"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"gorm.io/gorm"

	"github.com/gorm-replicated/replicated"
)

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
			time.Sleep(1)
			if got := s.read(job); got != "slave-1: default intent" && got != "slave-2: default intent" {
				t.Errorf("after the window: %s", got)
			}
		})
	}
}

// TestMonotonicInASlavesTransaction has a token rise with what the slave has shown, not with what the master
// has.
func TestMonotonicInASlavesTransaction(t *testing.T) {
	for _, test := range []struct {
		name   string
		intent replicated.Intent
		want   string
	}{
		{"a slave's", replicated.Slave, bySlave},
		{"the control: the master's", replicated.Master, byToken},
	} {
		bubble(t, test.name, func(t *testing.T) {
			s := newSite(t, func(c *replicated.Config) { c.Token.Monotonic = true })
			s.commit()
			s.with(func(_ http.ResponseWriter, r *http.Request) {
				err := s.db.WithContext(r.Context()).Clauses(test.intent).Transaction(func(tx *gorm.DB) error {
					return tx.Find(&[]User{}).Error
				}, readOnlyTx)
				if err != nil {
					t.Error(err)
				}
			})
			c := s.client()
			c.do("GET")
			synctest.Wait()
			s.with(s.serve)
			served(t, c.get(), test.want)
		})
	}
}
