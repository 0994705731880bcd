package replicated_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
	"unsafe"

	driversql "github.com/go-sql-driver/mysql"
	"gorm.io/gorm"

	"github.com/gorm-replicated/replicated"
)

// TestTheCallersContextEnds has nobody blamed for it, and nothing run again.
func TestTheCallersContextEnds(t *testing.T) {
	for _, way := range waysToRead {
		for _, mode := range modes[:2] {
			if way.before {
				continue
			}
			t.Run(way.name+"/"+mode.name+"/before", func(t *testing.T) {
				s := newFailover(t, 2, mode.config, false, nil)
				ctx, cancel := context.WithCancel(t.Context())
				cancel()
				if err := way.run(s.in(replicated.WithSlave(ctx), mode.session)); !errors.Is(err, context.Canceled) {
					t.Errorf("got %v", err)
				}
				if ran := s.log.take(); len(ran) > 0 {
					t.Errorf("ran %v", ran)
				}
				expect(t, s.routes.take(), "slave-1: context")
				if !s.state("slave-1").Serving {
					t.Error("it is blamed on the slave")
				}
			})
			for _, how := range []string{"as the context says", "as a broken connection"} {
				t.Run(way.name+"/"+mode.name+"/during/"+how, func(t *testing.T) {
					s := newFailover(t, 2, mode.config, false, nil)
					ctx, cancel := context.WithCancel(t.Context())
					defer cancel()
					s.slaves[0].run = func(ctx context.Context, query string) error {
						if !strings.Contains(query, way.from) {
							return nil
						}
						cancel()
						<-ctx.Done()
						if how != "as the context says" {
							return driversql.ErrInvalidConn // drivers close the connection to end a query
						}
						return ctx.Err()
					}
					if err := way.run(s.in(replicated.WithSlave(ctx), mode.session)); err == nil {
						t.Error("no error")
					}
					if ran := s.log.take(); len(ran) > 0 {
						t.Errorf("ran %v", ran)
					}
					expect(t, s.routes.take(), "slave-1: context")
					if !s.state("slave-1").Serving {
						t.Error("it is blamed on the slave")
					}
				})
			}
		}
	}
}

// TestContextsOfReads has those of one session share a context that is not the caller's.
func TestContextsOfReads(t *testing.T) {
	for _, test := range []struct {
		name    string
		session bool
		timeout time.Duration
		want    int // different ones, of three reads
		own     bool
	}{
		{"in a session", true, 0, 1, false},
		{"without one", false, 0, 1, false},
		{"no time-out", true, -1, 1, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := newFailover(t, 1, gorm.Config{}, false, func(c *replicated.Config) {
				c.Failover.SlaveTimeout = test.timeout
			})
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			if test.session {
				ctx = s.plugin.WithToken(ctx, "")
			}
			ctx = replicated.WithSlave(ctx)
			var seen []<-chan struct{}
			s.slaves[0].run = func(ctx context.Context, _ string) error {
				if !slices.Contains(seen, ctx.Done()) {
					seen = append(seen, ctx.Done())
				}
				return nil
			}
			for range 3 {
				if err := s.db.WithContext(ctx).Find(&[]User{}).Error; err != nil {
					t.Error(err)
				}
			}
			if len(seen) != test.want || (seen[0] == ctx.Done()) != test.own {
				t.Errorf("%d contexts; the caller's: %v", len(seen), seen[0] == ctx.Done())
			}
		})
	}
}

// collect returns when what is garbage has been collected, and its cleanups have run.
func collect() {
	for range 2 { // what a first cleanup lets go of is garbage then
		var done atomic.Bool
		runtime.AddCleanup(new([16]byte), func(done *atomic.Bool) { done.Store(true) }, &done)
		for !done.Load() {
			runtime.GC()
		}
	}
}

// TestOpenRowsAreNotCut has other reads end, of whatever, while rows are read.
func TestOpenRowsAreNotCut(t *testing.T) {
	for _, session := range []bool{false, true} {
		for _, test := range []struct {
			name string
			end  func(*testing.T, *setup, *gorm.DB)
		}{
			{"a good one", func(t *testing.T, s *setup, db *gorm.DB) { db.Find(&[]User{}) }},
			{"Exec", func(t *testing.T, s *setup, db *gorm.DB) { db.Exec("SELECT 1") }},
			{"a transaction", func(t *testing.T, s *setup, db *gorm.DB) { db.Begin(readOnlyTx).Rollback() }},
			{"an error", func(t *testing.T, s *setup, db *gorm.DB) {
				if err := db.Raw("SELECT wrong").Scan(&[]User{}).Error; err == nil {
					t.Error("no error")
				}
			}},
			{"an error, Row", func(t *testing.T, s *setup, db *gorm.DB) {
				if err := db.Raw("SELECT wrong").Row().Err(); err == nil {
					t.Error("no error")
				}
			}},
			{"a conflict", func(t *testing.T, s *setup, db *gorm.DB) {
				if err := db.Raw("SELECT conflict").Scan(&[]User{}).Error; err != nil {
					t.Error(err)
				}
			}},
			{"a broken connection", func(t *testing.T, s *setup, db *gorm.DB) {
				if err := db.Raw("SELECT broken").Scan(&[]User{}).Error; !errors.Is(err, io.EOF) {
					t.Errorf("got %v", err)
				}
			}},
			{"another that is cancelled", func(t *testing.T, s *setup, db *gorm.DB) {
				ctx, cancel := context.WithCancel(db.Statement.Context)
				cancel()
				db.WithContext(ctx).Find(&[]User{})
			}},
			{"garbage is collected", func(t *testing.T, s *setup, db *gorm.DB) {
				collect()
			}},
		} {
			bubble(t, fmt.Sprintf("%s, session: %v", test.name, session), func(t *testing.T) {
				s := newFailover(t, 1, gorm.Config{}, false, nil)
				s.slaves[0].answer = func(string) driver.Rows { return &brokenRows{err: io.EOF, rows: 100} }
				s.slaves[0].run = func(_ context.Context, query string) error {
					switch query {
					case "SELECT wrong":
						return mysqlError(1064)
					case "SELECT conflict":
						return sqlState("40001")
					case "SELECT broken":
						return io.EOF
					}
					return nil
				}
				ctx, cancel := context.WithCancel(replicated.WithSlave(t.Context()))
				defer cancel()
				if session {
					ctx = s.plugin.WithToken(ctx, "")
				}
				db := s.db.WithContext(ctx)
				rows, err := db.Model(&User{}).Rows()
				if err != nil {
					t.Fatal(err)
				}
				defer rows.Close()
				for n := range 100 {
					if n == 50 {
						test.end(t, s, db)
						synctest.Wait()
					}
					if !rows.Next() {
						t.Fatalf("%d rows, then: %v", n, rows.Err())
					}
				}
				if rows.Next() || rows.Err() != nil {
					t.Error(rows.Err())
				}
			})
		}
		t.Run(fmt.Sprintf("the control: the caller's context ends, session: %v", session), func(t *testing.T) {
			s := newFailover(t, 1, gorm.Config{}, false, nil)
			s.slaves[0].answer = func(string) driver.Rows { return &brokenRows{err: io.EOF, rows: 1 << 30} }
			ctx, cancel := context.WithCancel(replicated.WithSlave(t.Context()))
			if session {
				ctx = s.plugin.WithToken(ctx, "")
			}
			rows, err := s.db.WithContext(ctx).Model(&User{}).Rows()
			if err != nil {
				t.Fatal(err)
			}
			defer rows.Close()
			cancel()
			for rows.Next() {
			}
			if !errors.Is(rows.Err(), context.Canceled) {
				t.Error(rows.Err())
			}
		})
	}
}

// childrenOf returns how many contexts a context made by context.WithCancel keeps, to end them when it ends.
func childrenOf(ctx context.Context) int {
	v := reflect.ValueOf(ctx).Elem()
	mu := (*sync.Mutex)(unsafe.Pointer(v.FieldByName("mu").UnsafeAddr()))
	mu.Lock()
	defer mu.Unlock()
	return v.FieldByName("children").Len()
}

// TestContextsDoNotPileUp has a context that lasts, such as a program's own, be the parent of many reads.
func TestContextsDoNotPileUp(t *testing.T) {
	for _, session := range []bool{false, true} {
		for _, way := range waysToRead {
			t.Run(fmt.Sprintf("%s, session: %v", way.name, session), func(t *testing.T) {
				s := newFailover(t, 2, gorm.Config{}, false, nil)
				parent, cancel := context.WithCancel(context.Background())
				defer cancel()
				ctx := replicated.WithSlave(parent)
				if session {
					ctx = s.plugin.WithToken(ctx, "")
				}
				goroutines := runtime.NumGoroutine()
				s.slaves[1].log, s.slaves[0].log = nil, nil
				for n := range 1000 {
					if n == 500 {
						s.slaves[0].fail = func(string) error { return mysqlError(1064) }
						s.slaves[0].begin = mysqlError(1064)
					}
					if err := way.run(s.db.WithContext(ctx)); (err == nil) != (n < 500) {
						t.Fatal(n, err)
					}
				}
				eventually(t, func() error {
					runtime.GC()
					if n := childrenOf(parent); n > 1 { // one is what all reads share
						return fmt.Errorf("%d contexts are left", n)
					}
					if n := runtime.NumGoroutine(); n > goroutines+3 {
						return fmt.Errorf("%d goroutines, %d before", n, goroutines)
					}
					return nil
				})
			})
		}
	}
	t.Run("the control: rows that are not closed", func(t *testing.T) {
		s := newFailover(t, 1, gorm.Config{}, false, nil)
		parent, cancel := context.WithCancel(context.Background())
		defer cancel()
		var all []*sql.Rows
		for range 10 {
			rows, err := s.db.WithContext(replicated.WithSlave(parent)).Model(&User{}).Rows()
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, rows)
		}
		runtime.GC()
		if n := childrenOf(parent); n < 10 {
			t.Errorf("%d contexts are seen", n)
		}
		for _, rows := range all {
			rows.Close()
		}
	})
}

// TestPreparingIsCancelled has the caller cancel its context who prepares a statement that another waits for.
func TestPreparingIsCancelled(t *testing.T) {
	for _, way := range waysToRead {
		if way.before || way.after != "" {
			continue
		}
		for _, mode := range modes[1:3] {
			for _, slaves := range []int{1, 2} {
				bubble(t, fmt.Sprintf("%s/%s/%d", way.name, mode.name, slaves), func(t *testing.T) {
					s := newFailover(t, slaves, mode.config, false, nil)
					preparing := make(chan struct{})
					var once sync.Once
					s.slaves[0].run = func(ctx context.Context, _ string) (err error) {
						once.Do(func() {
							close(preparing)
							<-ctx.Done()
							err = ctx.Err()
						})
						return err
					}
					ctx, cancel := context.WithCancel(t.Context())
					first, second := make(chan error, 1), make(chan error, 1)
					go func() { first <- way.run(s.in(replicated.WithSlave(ctx), mode.session)) }()
					<-preparing
					go func() { second <- way.run(s.in(replicated.WithSlave(t.Context()), mode.session)) }()
					synctest.Wait()
					if len(first)+len(second) > 0 {
						t.Error("the second does not wait for the first")
					}
					cancel()
					if err := <-first; !errors.Is(err, context.Canceled) {
						t.Errorf("the first: %v", err)
					}
					if err := <-second; err != nil {
						t.Errorf("the second: %v", err)
					}
					if !s.state("slave-1").Serving {
						t.Error("it is blamed on the slave")
					}
				})
			}
		}
	}
}

// TestContextsOfManyCallers has more long-lived contexts, and more that are derived from them, than there
// are places for what their reads share.
func TestContextsOfManyCallers(t *testing.T) {
	for _, test := range []struct {
		name   string
		derive func(*replicated.Plugin, context.Context) context.Context
	}{
		{"each its own", func(_ *replicated.Plugin, ctx context.Context) context.Context { return ctx }},
		{"a context for each read", func(_ *replicated.Plugin, ctx context.Context) context.Context {
			return replicated.WithSlave(ctx)
		}},
		{"a session for each read, as of a job", func(p *replicated.Plugin, ctx context.Context) context.Context {
			return p.WithToken(ctx, "")
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := newFailover(t, 2, gorm.Config{}, false, func(c *replicated.Config) {
				c.Policy, c.DefaultIntent = nil, replicated.Slave
			})
			s.slaves[0].log, s.slaves[1].log = nil, nil
			parents := make([]context.Context, 100)
			for i := range parents {
				parent, cancel := context.WithCancel(context.Background())
				defer cancel()
				parents[i] = parent
			}
			for range 30 {
				for _, parent := range parents {
					if err := s.db.WithContext(test.derive(s.plugin, parent)).Find(&[]User{}).Error; err != nil {
						t.Fatal(err)
					}
				}
			}
			eventually(t, func() error {
				runtime.GC()
				all := 0
				for _, parent := range parents {
					all += childrenOf(parent)
				}
				if all > 200 {
					return fmt.Errorf("%d contexts are left of 3000 reads with 100", all)
				}
				return nil
			})
		})
	}
}

// TestBubbles has reads run in bubbles of testing/synctest, as in the tests of applications, beside others.
// Each is a process of its own: what can go wrong ends it.
func TestBubbles(t *testing.T) {
	read := func(t *testing.T, s *setup, ctx context.Context) {
		t.Helper()
		if err := s.db.WithContext(replicated.WithSlave(ctx)).Find(&[]User{}).Error; err != nil {
			t.Error(err)
		}
	}
	for name, f := range map[string]func(*testing.T){
		"a read in a bubble, then one outside": func(t *testing.T) {
			for range 20 {
				synctest.Test(t, func(t *testing.T) { read(t, newSetup(t, 1, gorm.Config{}, nil), t.Context()) })
				read(t, newSetup(t, 1, gorm.Config{}, nil), t.Context())
			}
		},
		"a read outside, then a frozen slave in a bubble": func(t *testing.T) {
			for range 20 {
				read(t, newSetup(t, 1, gorm.Config{}, nil), t.Context())
				synctest.Test(t, func(t *testing.T) {
					s := newSetup(t, 1, gorm.Config{}, func(c *replicated.Config) {
						c.Logger = slog.New(slog.DiscardHandler)
					})
					s.slaves[0].freeze(always)
					ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
					defer cancel()
					read(t, s, ctx)
				})
			}
		},
		"garbage is collected in a bubble": func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newSetup(t, 2, gorm.Config{}, nil)
				for range 200 { // more contexts than there are places
					ctx, cancel := context.WithCancel(t.Context())
					defer cancel()
					read(t, s, ctx)
				}
				collect()
			})
			collect()
		},
		"rows are held on the master": func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newSetup(t, 1, gorm.Config{}, func(c *replicated.Config) {
					c.Failover.MaxOnMaster, c.Logger = 2, slog.New(slog.DiscardHandler)
				})
				s.slaves[0].dying(errRefused, "").Store(true)
				rows, err := s.db.WithContext(replicated.WithSlave(endless(t))).Model(&User{}).Rows()
				if err != nil {
					t.Fatal(err)
				}
				time.Sleep(time.Second)
				rows.Close()
			})
		},
	} {
		t.Run(name, func(t *testing.T) {
			if os.Getenv("REPLICATED_BUBBLE") != "" {
				f(t)
				return
			}
			cmd := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$", "-test.timeout=60s")
			cmd.Env = append(os.Environ(), "REPLICATED_BUBBLE=1")
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("%v: %.300s", err, out)
			}
		})
	}
}
