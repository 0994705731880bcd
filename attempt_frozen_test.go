package replicated_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	driversql "github.com/go-sql-driver/mysql"
	"gorm.io/gorm"

	"github.com/gorm-replicated/replicated"
)

// TestSlowIsNotDead has a slave take ten seconds for a read and answer questions meanwhile: the read ends
// there, once.
func TestSlowIsNotDead(t *testing.T) {
	for _, way := range waysToRead {
		if way.before {
			continue
		}
		for _, test := range []struct {
			name   string
			watch  bool
			change func(*replicated.Config)
		}{
			{"blind", false, nil},
			{"watched", true, nil},
			{"an impatient one", false, func(c *replicated.Config) { c.Failover.SlaveTimeout = time.Millisecond }},
		} {
			bubble(t, way.name+"/"+test.name, func(t *testing.T) {
				h := newHistory()
				h.set("master", 1)
				h.replay("slave-1", "slave-2")
				s := newFailover(t, 2, gorm.Config{}, false, func(c *replicated.Config) {
					if test.watch {
						c.Probe.Source = h
					}
					if test.change != nil {
						test.change(c)
					}
				})
				var began atomic.Int64
				s.slaves[0].run = func(ctx context.Context, query string) error {
					if !strings.Contains(query, way.from) {
						return nil
					}
					began.Add(1)
					return pause(ctx, 10*time.Second)
				}
				start := time.Now()
				if err := way.run(s.in(replicated.WithSlave(endless(t)), nil)); err != nil {
					t.Error(err)
				}
				if took := time.Since(start); took != 10*time.Second {
					t.Errorf("took %v", took)
				}
				if n := began.Load(); n != 1 {
					t.Errorf("ran %d times", n)
				}
				expect(t, s.log.servers(), "slave-1")
				if !s.state("slave-1").Serving {
					t.Errorf("Status: %+v", s.state("slave-1"))
				}
			})
		}
	}
}

// TestFrozenSlaves has reads move on from a slave that answers neither them nor questions.
func TestFrozenSlaves(t *testing.T) {
	for _, way := range waysToRead {
		if way.before || way.after != "" && way.name != "Begin" {
			continue
		}
		for _, test := range []struct {
			name    string
			timeout time.Duration
			watch   bool
			since   time.Duration // it is frozen from then on
			after   time.Duration // the read moves on, 1 s later at most
		}{
			{"blind", 0, false, 0, time.Second},
			{"watched", 0, true, 0, time.Second},
			{"after 3 s", 3 * time.Second, false, 0, 3 * time.Second},
			{"after 100 ms", 100 * time.Millisecond, false, 0, 100 * time.Millisecond},
			{"after the first suspicion", 0, false, 1500 * time.Millisecond, 2 * time.Second},
			{"after the third suspicion", 0, true, 3500 * time.Millisecond, 4 * time.Second},
		} {
			bubble(t, way.name+"/"+test.name, func(t *testing.T) {
				h := newHistory()
				h.set("master", 1)
				h.replay("slave-1", "slave-2")
				s := newFailover(t, 2, gorm.Config{}, false, func(c *replicated.Config) {
					c.Failover.SlaveTimeout = test.timeout
					if test.watch {
						c.Probe.Source = &asking{h, func(ctx context.Context, conn *sql.Conn) error {
							return conn.PingContext(ctx)
						}}
					}
				})
				start := time.Now()
				cancelled := s.slaves[0].freeze(func() bool { return time.Since(start) >= test.since })
				if test.since > 0 { // the read is slow
					hang := s.slaves[0].run
					s.slaves[0].run = func(ctx context.Context, query string) error {
						_ = pause(ctx, test.since)
						return hang(ctx, query)
					}
				}
				ctx, cancel := context.WithCancel(endless(t))
				defer cancel()
				if err := way.run(s.in(replicated.WithSlave(ctx), nil)); err != nil {
					t.Error(err)
				}
				if took := time.Since(start); took < test.after || took > test.after+time.Second {
					t.Errorf("took %v", took)
				}
				if n := cancelled.Load(); n > 1 || n == 0 && test.since > 0 { // without a connection it hangs sooner
					t.Errorf("%d statements were cancelled there", n)
				}
				if ctx.Err() != nil {
					t.Error("the caller's context was cancelled")
				}
				expect(t, s.log.servers(), "slave-2")
				if state := s.state("slave-1"); state.Serving || state.Reason == "" {
					t.Errorf("Status: %+v", state)
				}
				s.routes.take()
				again := time.Now()
				if err := way.run(s.in(replicated.WithSlave(ctx), nil)); err != nil {
					t.Error(err)
				}
				if took := time.Since(again); took != 0 {
					t.Errorf("the next one took %v", took)
				}
				for _, r := range s.routes.take() {
					if !strings.HasPrefix(r, "slave-2: ") {
						t.Errorf("the next one: %s", r)
					}
				}
			})
		}
		bubble(t, way.name+"/the control: no time-out", func(t *testing.T) {
			s := newFailover(t, 2, gorm.Config{}, false, func(c *replicated.Config) { c.Failover.SlaveTimeout = -1 })
			s.slaves[0].freeze(always)
			ctx, cancel := context.WithTimeout(endless(t), 30*time.Second)
			defer cancel()
			start := time.Now()
			if err := way.run(s.in(replicated.WithSlave(ctx), nil)); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("got %v", err)
			}
			if took := time.Since(start); took != 30*time.Second {
				t.Errorf("took %v", took)
			}
			if !s.state("slave-1").Serving {
				t.Error("the caller's deadline is blamed on the slave")
			}
		})
	}
}

func TestAFrozenSlaveAndASoonerDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFailover(t, 2, gorm.Config{}, false, nil)
		s.slaves[0].freeze(always)
		ctx, cancel := context.WithTimeout(endless(t), 500*time.Millisecond)
		defer cancel()
		start := time.Now()
		err := s.in(replicated.WithSlave(ctx), nil).Find(&[]User{}).Error
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
		if took := time.Since(start); took != 500*time.Millisecond {
			t.Errorf("took %v", took)
		}
		if !s.state("slave-1").Serving {
			t.Error("it is blamed on the slave")
		}
	})
}

func TestAFrozenSlaveAndADeadlineDuringTheQuestion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFailover(t, 2, gorm.Config{}, false, nil)
		s.slaves[0].freeze(always)
		ctx, cancel := context.WithTimeout(endless(t), 1500*time.Millisecond)
		defer cancel()
		start := time.Now()
		err := s.in(replicated.WithSlave(ctx), nil).Find(&[]User{}).Error
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
		if took := time.Since(start); took != 1500*time.Millisecond {
			t.Errorf("took %v", took)
		}
		expect(t, s.log.servers())
	})
}

func TestAFrozenSlaveOfManyReaders(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFailover(t, 2, gorm.Config{}, false, nil)
		s.slaves[0].freeze(always)
		var pings atomic.Int64
		hang := s.slaves[0].connect
		s.slaves[0].connect = func(ctx context.Context) error { pings.Add(1); return hang(ctx) }
		start := time.Now()
		var reads sync.WaitGroup
		for range 50 {
			reads.Go(func() {
				if err := s.in(replicated.WithSlave(endless(t)), nil).Find(&[]User{}).Error; err != nil {
					t.Error(err)
				}
			})
		}
		reads.Wait()
		if took := time.Since(start); took > 2*time.Second {
			t.Errorf("took %v", took)
		}
		if n := pings.Load(); n > 50+3 { // theirs, and questions
			t.Errorf("%d connections for 50 reads", n)
		}
	})
}

func TestFrozenSlavesAllAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFailover(t, 3, gorm.Config{}, false, nil)
		for _, slave := range s.slaves {
			slave.freeze(always)
		}
		start := time.Now()
		if err := s.in(replicated.WithSlave(endless(t)), nil).Find(&[]User{}).Error; err != nil {
			t.Error(err)
		}
		if took := time.Since(start); took > 6*time.Second {
			t.Errorf("took %v", took)
		}
		expect(t, s.routes.take(), "slave-1: context", "slave-2: failover", "slave-3: failover", "master: failover")
	})
}

// TestAFullPoolIsNotDead has a transaction hold the only connection to a slave. Other reads wait for it, and
// nobody is blamed.
func TestAFullPoolIsNotDead(t *testing.T) {
	newFull := func(t *testing.T, watch bool) (*setup, *gorm.DB) {
		t.Helper()
		h := newHistory()
		h.set("master", 1)
		h.replay("slave-1")
		var pool *sql.DB
		log := &fakeLog{}
		s := newFailover(t, 1, gorm.Config{}, false, func(c *replicated.Config) {
			pool = openPool(t, &fake{name: "slave-1", log: log})
			pool.SetMaxOpenConns(1)
			c.Slaves = []gorm.Dialector{dialector(pool)}
			if watch {
				c.Probe.Source = h
			}
		})
		s.log = log
		synctest.Wait()
		tx := s.in(replicated.WithSlave(endless(t)), nil).Begin(readOnlyTx)
		if tx.Error != nil {
			t.Fatal(tx.Error)
		}
		s.routes.take()
		log.take()
		return s, tx
	}
	for _, watch := range []bool{false, true} {
		for _, way := range waysToRead {
			if way.before {
				continue
			}
			bubble(t, fmt.Sprintf("%s, watched: %v", way.name, watch), func(t *testing.T) {
				s, tx := newFull(t, watch)
				time.AfterFunc(5*time.Second, func() { tx.Commit() })
				start := time.Now()
				if err := way.run(s.in(replicated.WithSlave(endless(t)), nil)); err != nil {
					t.Error(err)
				}
				if took := time.Since(start); took < 5*time.Second || took > 6*time.Second { // a question may be first
					t.Errorf("took %v", took)
				}
				expect(t, s.log.servers(), "slave-1")
				for _, r := range s.routes.take() {
					if !strings.HasPrefix(r, "slave-1: ") {
						t.Errorf("routed: %s", r)
					}
				}
				if !s.state("slave-1").Serving {
					t.Errorf("Status: %+v", s.state("slave-1"))
				}
			})
		}
		bubble(t, fmt.Sprintf("until the caller's deadline, watched: %v", watch), func(t *testing.T) {
			s, tx := newFull(t, watch)
			defer tx.Rollback()
			ctx, cancel := context.WithTimeout(endless(t), 5*time.Second)
			defer cancel()
			err := s.in(replicated.WithSlave(ctx), nil).Find(&[]User{}).Error
			if !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("got %v", err)
			}
			if !s.state("slave-1").Serving {
				t.Errorf("Status: %+v", s.state("slave-1"))
			}
		})
	}
}

// TestSlowIsNotDeadWhenAConnectionBreaks has a slow read run on a slave that answers questions, while another
// read there is killed, or meets the limit of connections: the slave leaves the view, but that is no reason
// to run the slow one twice.
func TestSlowIsNotDeadWhenAConnectionBreaks(t *testing.T) {
	for name, err := range map[string]error{"1927, killed": mysqlError(1927),
		"1040, too many connections": mysqlError(1040), "invalid connection": driversql.ErrInvalidConn} {
		bubble(t, name, func(t *testing.T) {
			s := newFailover(t, 2, gorm.Config{}, false, nil)
			var began atomic.Int64
			s.slaves[0].run = func(ctx context.Context, query string) error {
				if query == "SELECT killed" {
					return err
				}
				began.Add(1)
				return pause(ctx, 10*time.Second)
			}
			time.AfterFunc(500*time.Millisecond, func() {
				err := s.in(replicated.WithSlave(endless(t)), nil).Raw("SELECT killed").Scan(&[]User{}).Error
				if err != nil {
					t.Error(err)
				}
				s.log.take()
			})
			start := time.Now()
			if err := s.in(replicated.WithSlave(endless(t)), nil).Find(&[]User{}).Error; err != nil {
				t.Error(err)
			}
			expect(t, s.log.servers(), "slave-1")
			if took := time.Since(start); took != 10*time.Second {
				t.Errorf("took %v", took)
			}
		})
	}
}

// TestFrozenSlavesPrepared has many read what one of them prepares, on a slave that freezes. It takes its
// time: GORM's caches do not work in bubbles.
func TestFrozenSlavesPrepared(t *testing.T) {
	for _, warm := range []bool{false, true} {
		for _, way := range []wayToRead{waysToRead[0], waysToRead[7], waysToRead[10]} {
			t.Run(fmt.Sprintf("%s, prepared before: %v", way.name, warm), func(t *testing.T) {
				t.Parallel()
				s := newFailover(t, 2, gorm.Config{PrepareStmt: true}, false, func(c *replicated.Config) {
					c.Failover.SlaveTimeout = 50 * time.Millisecond
				})
				var frozen atomic.Bool
				s.slaves[0].freeze(frozen.Load)
				ctx := replicated.WithSlave(context.Background())
				if warm {
					if err := way.run(s.db.WithContext(ctx)); err != nil {
						t.Fatal(err)
					}
				}
				s.log.take()
				frozen.Store(true)
				start := time.Now()
				var readers sync.WaitGroup
				for range 10 {
					readers.Go(func() {
						if err := way.run(s.db.WithContext(ctx)); err != nil {
							t.Error(err)
						}
					})
				}
				readers.Wait()
				if took := time.Since(start); took < 50*time.Millisecond || took > 5*time.Second {
					t.Errorf("took %v", took)
				}
				expect(t, s.log.servers(), "slave-2")
				if s.state("slave-1").Serving {
					t.Error("it is still in the view")
				}
			})
		}
	}
}
