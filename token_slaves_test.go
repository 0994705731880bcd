package replicated_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/gorm-replicated/replicated"
)

// TestTokensAfterTheFirstSlave has a plugin begin with no slaves. What a client wrote then counts later.
func TestTokensAfterTheFirstSlave(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, func(c *replicated.Config) { c.Slaves = nil })
		c := s.client()
		c.do("POST")
		slave := &fake{name: "slave-1", log: s.log}
		if err := s.plugin.SetSlaves(dialector(openPool(t, slave))); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Second)
		served(t, c.get(), byLag) // it has not what has been committed before
		s.replay("slave-1")
		time.Sleep(2 * time.Second)
		served(t, c.get(), "slave-1: method")
		s.client().do("POST")
		served(t, c.get(), "slave-1: method")
		c.do("POST")
		served(t, c.get(), byToken)
		s.replay("slave-1")
		time.Sleep(2 * time.Second)
		served(t, c.get(), "slave-1: method")
	})
}

// TestTokensWithoutSlaves: other instances, or another service, may have slaves where this one has none, for
// good or for a while.
func TestTokensWithoutSlaves(t *testing.T) {
	for _, test := range []struct {
		name      string
		secrets   [][]byte
		slaves    bool // at first
		token     bool
		questions int
	}{
		{"with secrets, no slaves", [][]byte{secret}, false, true, 1},
		{"with secrets, slaves taken away", [][]byte{secret}, true, true, 1},
		{"without secrets, slaves taken away", nil, true, true, 0},
		{"without secrets, no slaves: nothing changes", nil, false, false, 0}, // the control
	} {
		bubble(t, test.name, func(t *testing.T) {
			s := newSite(t, func(c *replicated.Config) {
				if c.Secrets = test.secrets; !test.slaves {
					c.Slaves = nil
				}
			})
			if err := s.plugin.SetSlaves(); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			s.questions("master")
			c := s.client()
			if c.do("POST"); (len(c.cookies) > 0) != test.token {
				t.Errorf("cookies %v", c.cookies)
			}
			if n := s.questions("master"); n != test.questions {
				t.Errorf("%d questions for the write, want %d", n, test.questions)
			}
			if c.do("GET"); s.questions("master") != 0 {
				t.Error("a question for a read")
			}
			other := newSite(t, func(c *replicated.Config) { c.Secrets = test.secrets })
			c.site = other
			want := bySlave
			if test.token {
				want = byToken
			}
			served(t, c.get(), want)
		})
	}
}

// TestMarkersAfterTheFirstSlave has a plugin without Secrets begin with no slaves.
func TestMarkersAfterTheFirstSlave(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, func(c *replicated.Config) { c.Slaves, c.Secrets = nil, nil })
		if c := s.client(); c.do("POST") != nil && len(c.cookies) > 0 {
			t.Errorf("without slaves: cookies %v", c.cookies)
		}
		if err := s.plugin.SetSlaves(dialector(openPool(t, &fake{name: "slave-1", log: s.log}))); err != nil {
			t.Fatal(err)
		}
		s.replay("slave-1")
		time.Sleep(2 * time.Second)
		c := s.client()
		c.do("POST")
		served(t, c.get(), byToken)
		served(t, s.client().get(), "slave-1: method") // the control
	})
}
