package replicated_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"gorm.io/gorm"

	"github.com/gorm-replicated/replicated"
)

// TestAPoolInUseElsewhereStaysOpen has a slave leave whose pool is that of another one, which stays.
func TestAPoolInUseElsewhereStaysOpen(t *testing.T) {
	t.Run("in another group", func(t *testing.T) {
		log := &fakeLog{}
		shared := openPool(t, &fake{name: "shared", log: log})
		db := openFake(t, openPool(t, &fake{name: "master", log: log}), gorm.Config{})
		p := replicated.New(replicated.Config{
			Slaves: []gorm.Dialector{dialector(shared)},
			Probe:  replicated.ProbeConfig{Interval: -1}, Policy: inOrder, Logger: slog.New(slog.DiscardHandler),
		}).Register(replicated.Group{Slaves: []gorm.Dialector{dialector(shared)}}, "orders")
		if err := db.Use(p); err != nil {
			t.Fatal(err)
		}
		defer p.Close()
		s := &setup{db: db, plugin: p, log: log, routes: &routes{}}
		s.replaceSlaves(t)
		if err := s.in(replicated.WithSlave(t.Context()), nil).Find(&[]Order{}).Error; err != nil {
			t.Error(err)
		}
		expect(t, log.servers(), "shared")
	})
	t.Run("twice in one", func(t *testing.T) {
		s := newOpened(t, 0, nil)
		shared := openPool(t, &fake{name: "shared", log: s.log})
		s.replaceSlaves(t, dialector(shared), dialector(shared))
		s.replaceSlaves(t, dialector(shared))
		if err := s.in(replicated.WithSlave(t.Context()), nil).Find(&[]User{}).Error; err != nil {
			t.Error(err)
		}
		expect(t, s.log.servers(), "shared")
	})
	t.Run("the control: the last one leaves", func(t *testing.T) {
		s := newOpened(t, 0, nil)
		only := openPool(t, &fake{name: "only", log: s.log})
		s.replaceSlaves(t, dialector(only))
		s.replaceSlaves(t)
		eventually(t, func() error {
			if only.PingContext(t.Context()) == nil {
				return errors.New("its pool is open")
			}
			return nil
		})
	})
}

// TestAFrozenSlaveThatIsRemoved has a read hang on a slave that leaves then: it moves on no later than if the
// slave had stayed.
func TestAFrozenSlaveThatIsRemoved(t *testing.T) {
	for _, test := range []struct {
		name    string
		stay    int // of two slaves
		answers string
	}{
		{"another one stays", 1, "slave-2"},
		{"none stays", 0, "master"},
	} {
		bubble(t, test.name, func(t *testing.T) {
			var second []gorm.Dialector
			s := newFailover(t, 2, gorm.Config{}, false, func(c *replicated.Config) { second = c.Slaves[1:] })
			cancelled := s.slaves[0].freeze(always)
			s.slaves[0].connect = nil // the read itself hangs, not its connection
			time.AfterFunc(500*time.Millisecond, func() {
				if err := s.plugin.SetSlaves(second[:test.stay]...); err != nil {
					t.Error(err)
				}
			})
			start := time.Now()
			if err := s.in(replicated.WithSlave(endless(t)), nil).Find(&[]User{}).Error; err != nil {
				t.Error(err)
			}
			if took := time.Since(start); took < 500*time.Millisecond || took > 3*time.Second {
				t.Errorf("took %v", took)
			}
			if n := cancelled.Load(); n != 1 {
				t.Errorf("%d statements were cancelled there", n)
			}
			expect(t, s.log.servers(), test.answers)
		})
	}
}

// TestStatementsOfSlavesThatLeftAreForgotten has slaves come and go whose statements are prepared: nothing
// runs on for those that went.
func TestStatementsOfSlavesThatLeftAreForgotten(t *testing.T) {
	s := newOpened(t, 2, nil)
	change := func(times int) {
		t.Helper()
		for i := range times {
			if err := s.plugin.SetSlaves(opened(s.slaves[i%2])); err != nil {
				t.Fatal(err)
			}
			err := s.in(replicated.WithSlave(t.Context()), &gorm.Session{PrepareStmt: true}).Find(&[]User{}).Error
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	change(4)
	before := runtime.NumGoroutine()
	change(60)
	eventually(t, func() error {
		if n := runtime.NumGoroutine(); n > before+20 {
			return fmt.Errorf("%d goroutines, %d before 60 changes", n, before)
		}
		return nil
	})
}

// TestADeadSlaveThatIsAddedUnwatched has a new slave be read that nobody has asked anything: no read fails
// for it.
func TestADeadSlaveThatIsAddedUnwatched(t *testing.T) {
	s := newOpened(t, 1, nil)
	dead := &fake{name: "dead", log: s.log}
	dead.dying(errRefused, "").Store(true)
	if err := s.plugin.SetSlaves(opened(dead), opened(s.slaves[0])); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if err := s.in(replicated.WithSlave(t.Context()), nil).Find(&[]User{}).Error; err != nil {
			t.Error(err)
		}
	}
	expect(t, s.log.servers(), "db1")
	expect(t, s.routes.take(), "dead:3306: context", "db1:3306: failover", "db1:3306: context",
		"db1:3306: context")
	if s.state("dead:3306").Serving {
		t.Error("it is still in the view")
	}
}

// TestTransactionsOutliveTheirSlave has the slave of a transaction leave meanwhile: it ends as it began.
func TestTransactionsOutliveTheirSlave(t *testing.T) {
	for _, mode := range modes[:3] {
		t.Run(mode.name, func(t *testing.T) {
			s := newOpened(t, 2, nil)
			s.slaves[0].closed = new(atomic.Int64)
			db := s.in(replicated.WithSlave(t.Context()), mode.session)
			if err := db.Find(&[]User{}).Error; err != nil {
				t.Fatal(err)
			}
			tx := db.Begin(readOnlyTx)
			if tx.Error != nil {
				t.Fatal(tx.Error)
			}
			if err := tx.Find(&[]User{}).Error; err != nil {
				t.Errorf("before: %v", err)
			}
			s.replaceSlaves(t, opened(s.slaves[1]))
			s.log.take()
			if err := errors.Join(tx.Find(&[]User{}).Error, tx.First(&User{}).Error); err != nil {
				t.Errorf("after: %v", err)
			}
			expect(t, s.log.servers(), "db1")
			if err := tx.Commit().Error; err != nil {
				t.Errorf("COMMIT: %v", err)
			}
			eventually(t, func() error {
				if s.slaves[0].closed.Load() == 0 {
					return errors.New("no connection to it was closed")
				}
				return nil
			})
		})
	}
}

// TestCloseWhileSlavesComeAndGo has the plugin close amidst reads and changes: reads go on, at last on the
// master.
func TestCloseWhileSlavesComeAndGo(t *testing.T) {
	for range 5 {
		s := newOpened(t, 2, func(c *replicated.Config) { c.Failover.MaxOnMaster = 3 })
		for _, f := range append(s.slaves, s.master) {
			f.log = nil
		}
		stop := make(chan struct{})
		var reads atomic.Int64
		var running sync.WaitGroup
		for i := range 4 {
			running.Go(func() {
				for {
					select {
					case <-stop:
						return
					default:
					}
					ctx, cancel := context.WithCancel(replicated.WithSlave(t.Context()))
					err := s.in(ctx, &gorm.Session{PrepareStmt: i%2 == 0}).Find(&[]User{}).Error
					if cancel(); err != nil && !errors.Is(err, replicated.ErrMasterBusy) {
						t.Error(err)
					}
					reads.Add(1)
				}
			})
		}
		for i := range 3 {
			running.Go(func() {
				for range 10 {
					err := s.plugin.SetSlaves(opened(s.slaves[i%2]))
					if err != nil && !strings.Contains(err.Error(), "closed") {
						t.Error(err)
					}
					s.plugin.Status()
				}
			})
		}
		someReads := func() {
			t.Helper()
			until := reads.Load() + 50
			eventually(t, func() error {
				if reads.Load() < until {
					return errors.New("the reads have stopped")
				}
				return nil
			})
		}
		someReads()
		for range 2 {
			if err := s.plugin.Close(); err != nil {
				t.Error(err)
			}
		}
		someReads()
		close(stop)
		running.Wait()
		s.routes.take()
		if err := s.in(replicated.WithSlave(t.Context()), nil).Find(&[]User{}).Error; err != nil {
			t.Error(err)
		}
		for _, r := range s.routes.take() {
			if !strings.HasPrefix(r, "master: ") {
				t.Errorf("after Close: %s", r)
			}
		}
	}
}
