package replicated_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"gorm.io/gorm"

	"github.com/gorm-replicated/replicated"
)

// newBackAlone makes a setup whose only slave has failed and has just come back: the master still has most of
// its reads, to spare it. It is used in a bubble.
func newBackAlone(t testing.TB, change func(*replicated.Config)) *setup {
	t.Helper()
	s := newFailover(t, 1, gorm.Config{}, false, func(c *replicated.Config) {
		c.DefaultIntent = replicated.Slave
		if change != nil {
			change(c)
		}
	})
	dead := s.slaves[0].dying(mysqlError(1053), "")
	dead.Store(true)
	if err := s.db.WithContext(endless(t)).Find(&[]User{}).Error; err != nil {
		t.Fatal(err)
	}
	dead.Store(false)
	s.awaitReturn(t)
	s.routes.take()
	s.log.take()
	return s
}

// TestADeadMasterIsTriedOnce has the master fail reads that it has for a slave that has just come back.
// However the rules change meanwhile, the reads end.
func TestADeadMasterIsTriedOnce(t *testing.T) {
	nothing := func(*replicated.Plugin) {}
	for _, test := range []struct {
		name         string
		first, after func(*replicated.Plugin) // before the read; when the master has failed it
		most         int64                    // attempts on the master
	}{
		{"the control: it goes to the slave then", nothing, nothing, 1},
		{"shadow mode", func(p *replicated.Plugin) { p.SetShadow(true) }, nothing, 2},
		{"shadow mode, switched on meanwhile", func(p *replicated.Plugin) { p.SetShadow(false) },
			func(p *replicated.Plugin) { p.SetShadow(true) }, 2},
		{"reads on slaves are switched off meanwhile", func(p *replicated.Plugin) { p.SetAutoReadOnSlave(true) },
			func(p *replicated.Plugin) { p.SetAutoReadOnSlave(false) }, 2},
	} {
		bubble(t, test.name, func(t *testing.T) {
			s := newBackAlone(t, nil)
			all := int64(0)
			for range 20 {
				test.first(s.plugin)
				ctx, cancel := context.WithCancel(endless(t))
				var tries atomic.Int64
				s.master.run = func(context.Context, string) error {
					test.after(s.plugin)
					if tries.Add(1) > 100 {
						cancel() // it would never end
					}
					return mysqlError(1053)
				}
				_ = s.db.WithContext(ctx).Find(&[]User{}).Error
				cancel()
				if n := tries.Load(); n > test.most {
					t.Errorf("%d attempts on the master", n)
				}
				all += tries.Load()
			}
			if all == 0 {
				t.Error("no read was on the master")
			}
		})
	}
}

// lingering is an Observer that takes its time, so that many reads are decided before any of them runs. It is
// used in a bubble.
type lingering struct{ replicated.Observer }

func (l lingering) Routed(ctx context.Context, r replicated.Route) {
	l.Observer.Routed(ctx, r)
	time.Sleep(time.Millisecond)
}

// TestARecoveringSlaveIsReadWhenTheMasterIsBusy has no read fail while a slave serves, even if the master had
// it to spare that slave.
func TestARecoveringSlaveIsReadWhenTheMasterIsBusy(t *testing.T) {
	load := func(t *testing.T, s *setup) (busy int64) {
		t.Helper()
		s.master.run = func(context.Context, string) error { return pause(context.Background(), time.Millisecond) }
		var refused atomic.Int64
		var callers sync.WaitGroup
		for range 20 {
			callers.Go(func() {
				for range 50 {
					switch err := s.db.WithContext(endless(t)).Find(&[]User{}).Error; {
					case errors.Is(err, replicated.ErrMasterBusy):
						refused.Add(1)
					case err != nil:
						t.Error(err)
					}
				}
			})
		}
		callers.Wait()
		return refused.Load()
	}
	limited := func(c *replicated.Config) { c.Failover.MaxOnMaster, c.Observer = 2, lingering{c.Observer} }
	bubble(t, "it has just come back", func(t *testing.T) {
		s := newBackAlone(t, limited)
		if n := load(t, s); n > 0 {
			t.Errorf("%d reads were refused although the slave serves", n)
		}
		if !slices.Contains(s.routes.take(), "master: recovering") {
			t.Error("the slave was not spared")
		}
	})
	bubble(t, "the control: it is dead again", func(t *testing.T) {
		s := newBackAlone(t, limited)
		s.slaves[0].dying(mysqlError(1053), "").Store(true)
		if n := load(t, s); n == 0 {
			t.Error("no read was refused")
		}
	})
}

// TestARecoveringSlaveIsReadWhenTheMasterIsDead has no read fail while a slave serves, with a limit of reads
// on the master and without one.
func TestARecoveringSlaveIsReadWhenTheMasterIsDead(t *testing.T) {
	for _, limit := range []int{0, 5} {
		bubble(t, fmt.Sprintf("MaxOnMaster: %d", limit), func(t *testing.T) {
			s := newBackAlone(t, func(c *replicated.Config) { c.Failover.MaxOnMaster = limit })
			s.raw.SetMaxIdleConns(-1)
			s.master.connect = func(context.Context) error { return errRefused }
			for range 50 {
				if err := s.db.WithContext(endless(t)).Find(&[]User{}).Error; err != nil {
					t.Error(err)
				}
			}
			expect(t, s.log.servers(), "slave-1")
			if !slices.Contains(s.routes.take(), "master: recovering") {
				t.Error("the slave was not spared")
			}
		})
	}
}

// newMortal makes a setup whose first slave can die, watched or not. Only a bubble has the time for it.
func newMortal(t testing.TB, slaves int, watch bool, change func(*replicated.Config)) (*setup, *atomic.Bool) {
	t.Helper()
	h := newHistory()
	h.set("master", 1)
	h.replay("slave-1", "slave-2")
	s := newFailover(t, slaves, gorm.Config{}, false, func(c *replicated.Config) {
		c.Policy, c.DefaultIntent = nil, replicated.Slave
		if watch {
			c.Probe.Source = &asking{h, func(ctx context.Context, conn *sql.Conn) error {
				return conn.PingContext(ctx)
			}}
		}
		if change != nil {
			change(c)
		}
	})
	return s, s.slaves[0].dying(mysqlError(1053), "")
}

// shares reads for so long, each 2 ms, and returns how many of a hundred reads went where.
func (s *setup) shares(t testing.TB, ctx context.Context, d time.Duration) map[string]float64 {
	t.Helper()
	s.routes.take()
	n := 0
	for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(2 * time.Millisecond) {
		n++
		if err := s.db.WithContext(ctx).Find(&[]User{}).Error; err != nil {
			t.Fatal(err)
		}
	}
	shares := map[string]float64{}
	for _, r := range s.routes.take() {
		shares[r] += 100 / float64(n)
	}
	return shares
}

// awaitReturn waits until the first slave is read again.
func (s *setup) awaitReturn(t testing.TB) {
	t.Helper()
	for waited := time.Now(); !s.state("slave-1").Serving; time.Sleep(time.Millisecond) {
		if time.Since(waited) > time.Minute {
			t.Fatal("the slave does not come back")
		}
	}
}

// watchedOrNot runs f in two bubbles.
func watchedOrNot(t *testing.T, f func(t *testing.T, watch bool)) {
	t.Helper()
	bubble(t, "blind", func(t *testing.T) { f(t, false) })
	bubble(t, "watched", func(t *testing.T) { f(t, true) })
}

// TestComingBack has a slave that failed answer again, beside another one: it is read after a while, and less
// than the other at first.
func TestComingBack(t *testing.T) {
	watchedOrNot(t, func(t *testing.T, watch bool) {
		s, dead := newMortal(t, 2, watch, nil)
		ctx := endless(t)
		if got := s.shares(t, ctx, time.Second)["slave-1: default intent"]; got < 35 || got > 65 {
			t.Errorf("before: %.0f %%", got)
		}
		dead.Store(true)
		got := s.shares(t, ctx, 5*time.Second)
		if got["slave-1: default intent"] > 0.1 || got["slave-2: failover"] > 0.1 ||
			got["slave-2: default intent"] < 99 {
			t.Errorf("while it is dead: %v", got)
		}
		dead.Store(false)
		if got := s.shares(t, ctx, 800*time.Millisecond); got["slave-2: default intent"] < 99.9 {
			t.Errorf("it has just answered: %v", got)
		}
		for waited := time.Now(); !s.state("slave-1").Serving; time.Sleep(time.Millisecond) {
			if time.Since(waited) > 2*time.Second {
				t.Fatal("it does not come back")
			}
		}
		if s.state("slave-1").Reason != "" && watch {
			t.Errorf("Status: %+v", s.state("slave-1"))
		}
		if got := s.shares(t, ctx, time.Second)["slave-1: default intent"]; got == 0 || got > 20 {
			t.Errorf("at first: %.0f %%", got)
		}
		time.Sleep(5 * time.Second)
		if got := s.shares(t, ctx, 2*time.Second)["slave-1: default intent"]; got < 35 || got > 65 {
			t.Errorf("in the end: %.0f %%", got)
		}
	})
}

// TestComingBackAlone has the master take most reads at first, to spare the slave.
func TestComingBackAlone(t *testing.T) {
	watchedOrNot(t, func(t *testing.T, watch bool) {
		s, dead := newMortal(t, 1, watch, nil)
		ctx := endless(t)
		dead.Store(true)
		if got := s.shares(t, ctx, 2*time.Second); got["master: no slave within MaxLag"] < 99 {
			t.Errorf("while it is dead: %v", got)
		}
		dead.Store(false)
		s.awaitReturn(t)
		got := s.shares(t, ctx, time.Second)
		if got["master: recovering"] < 50 || got["slave-1: default intent"] < 5 {
			t.Errorf("at first: %v", got)
		}
		if got := s.shares(t, replicated.WithSlave(ctx), 500*time.Millisecond); got["slave-1: context"] < 99.9 {
			t.Errorf("who asks for it: %v", got)
		}
		time.Sleep(4 * time.Second)
		if got := s.shares(t, ctx, time.Second); got["slave-1: default intent"] < 99.9 {
			t.Errorf("in the end: %v", got)
		}
	})
}

// TestComingBackAloneWhileTheMasterIsBusy has nobody spare a slave at the cost of reads that fail.
func TestComingBackAloneWhileTheMasterIsBusy(t *testing.T) {
	watchedOrNot(t, func(t *testing.T, watch bool) {
		s, dead := newMortal(t, 1, watch, func(c *replicated.Config) { c.Failover.MaxOnMaster = 1 })
		ctx := endless(t)
		dead.Store(true)
		// Rows that are held would stop the bubble's clock: closing their connection waits in a mutex.
		s.master.run = func(context.Context, string) error { return pause(context.Background(), time.Minute) }
		var held sync.WaitGroup
		defer held.Wait()
		held.Go(func() { s.db.WithContext(ctx).Find(&[]User{}) })
		time.Sleep(2 * time.Second)
		dead.Store(false)
		s.awaitReturn(t)
		if got := s.shares(t, ctx, time.Second); got["slave-1: default intent"] < 99.9 {
			t.Errorf("%v", got)
		}
	})
}

// TestComingBackDuringRequests has each request read one slave, whether or not another comes back.
func TestComingBackDuringRequests(t *testing.T) {
	watchedOrNot(t, func(t *testing.T, watch bool) {
		s, dead := newMortal(t, 2, watch, nil)
		dead.Store(true)
		s.shares(t, endless(t), time.Second)
		dead.Store(false)
		s.awaitReturn(t)
		for range 200 {
			s.routes.take()
			s.request("GET", func(db *gorm.DB) {
				for range 5 {
					db.Find(&[]User{})
				}
			})
			if got := slices.Compact(s.routes.take()); len(got) != 1 {
				t.Errorf("a request was on %v", got)
			}
			time.Sleep(10 * time.Millisecond)
		}
	})
}
