package replicated_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"gorm.io/gorm"
	"gorm.io/plugin/dbresolver"

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
	for waited := time.Now(); !s.state("slave-1").Serving; time.Sleep(time.Millisecond) {
		if time.Since(waited) > time.Minute {
			t.Fatal("the slave does not come back")
		}
	}
	s.routes.take()
	s.log.take()
	return s
}

// replaceSlaves has s.plugin, which opened its slaves, make these its slaves, and waits until the pools of
// those that leave are closed where that is due: a slave is closed by then that leaves after them.
func (s *setup) replaceSlaves(t testing.TB, slaves ...gorm.Dialector) {
	t.Helper()
	last := &fake{name: "last", log: s.log, closed: new(atomic.Int64)}
	if err := s.plugin.SetSlaves(append([]gorm.Dialector{opened(last)}, slaves...)...); err != nil {
		t.Fatal(err)
	}
	s.log.take()
	if err := s.in(replicated.WithSlave(t.Context()), nil).Find(&[]User{}).Error; err != nil {
		t.Fatal(err)
	}
	expect(t, s.log.servers(), "last")
	if err := s.plugin.SetSlaves(slaves...); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() error {
		if last.closed.Load() == 0 {
			return errors.New("the slave that left last is not closed")
		}
		return nil
	})
	s.routes.take()
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

// converting is a fake for which database/sql converts arguments, as it does for most drivers.
type converting struct{ *fake }

func (c converting) Connect(ctx context.Context) (driver.Conn, error) {
	conn, err := c.fake.Connect(ctx)
	if err != nil {
		return nil, err
	}
	return convertingConn{conn.(*fakeConn)}, nil
}

type convertingConn struct{ *fakeConn }

func (convertingConn) CheckNamedValue(v *driver.NamedValue) (err error) {
	v.Value, err = driver.DefaultParameterConverter.ConvertValue(v.Value)
	return err
}

// unconvertible is an argument that fails.
type unconvertible struct{ error }

func (u unconvertible) Value() (driver.Value, error) { return nil, u.error }

// TestAnArgumentIsNoFailureOfASlave has the application's own driver.Valuer fail, with what would otherwise
// be a sign of a dead server.
func TestAnArgumentIsNoFailureOfASlave(t *testing.T) {
	for _, test := range []struct {
		name string
		err  error
	}{
		{"a file that ends", io.ErrUnexpectedEOF},
		{"connection refused", errRefused},
		{"bad connection", driver.ErrBadConn},
		{"an error of MySQL", mysqlError(1053)},
	} {
		t.Run(test.name, func(t *testing.T) {
			log := &fakeLog{}
			s := newFailover(t, 0, gorm.Config{}, false, func(c *replicated.Config) {
				for _, name := range []string{"slave-1", "slave-2"} {
					pool := sql.OpenDB(converting{&fake{name: name, log: log}})
					t.Cleanup(func() { pool.Close() })
					c.Slaves = append(c.Slaves, dialector(pool))
				}
			})
			db := s.in(replicated.WithSlave(t.Context()), nil)
			if err := db.Where("name = ?", unconvertible{test.err}).Find(&[]User{}).Error; !errors.Is(err, test.err) {
				t.Errorf("got %v", err)
			}
			expect(t, s.routes.take(), "slave-1: context")
			for _, id := range []string{"slave-1", "slave-2"} {
				if state := s.state(id); !state.Serving {
					t.Errorf("%s is blamed: %s", id, state.Reason)
				}
			}
			if err := db.Where("name = ?", "a").Find(&[]User{}).Error; err != nil {
				t.Errorf("the control, an argument that is good: %v", err)
			}
			expect(t, log.servers(), "slave-1")
		})
	}
}

// TestLeaseEndsWithTheContext has a read on the master count no longer than its context lasts, even if nobody
// closes its rows or ends its transaction.
func TestLeaseEndsWithTheContext(t *testing.T) {
	rows := func(db *gorm.DB) (func(), error) {
		rows, err := db.Model(&User{}).Rows()
		return func() { rows.Close() }, err
	}
	row := func(db *gorm.DB) (func(), error) {
		row := db.Raw("SELECT * FROM users").Row()
		return func() { _ = row.Scan(new(int64), new(string)) }, row.Err()
	}
	tx := func(db *gorm.DB) (func(), error) {
		tx := db.Begin(readOnlyTx)
		return func() { tx.Rollback() }, tx.Error
	}
	newLimited := func(t *testing.T) *setup {
		t.Helper()
		s := newFailover(t, 1, gorm.Config{}, false, func(c *replicated.Config) { c.Failover.MaxOnMaster = 1 })
		s.slaves[0].dying(errRefused, "").Store(true)
		return s
	}
	free := func(t *testing.T, s *setup) {
		t.Helper()
		eventually(t, func() error {
			if n, used := s.plugin.Status().Groups[0].OnMaster, s.raw.Stats().InUse; n != 0 || used != 0 {
				return fmt.Errorf("OnMaster is %d, %d connections are in use", n, used)
			}
			return nil
		})
		if err := s.in(replicated.WithSlave(t.Context()), nil).Find(&[]User{}).Error; err != nil {
			t.Errorf("the next read: %v", err)
		}
	}
	const never = time.Hour
	for _, test := range []struct {
		name  string
		hold  func(*gorm.DB) (letGo func(), err error)
		lasts time.Duration
	}{
		{"rows, cancelled", rows, never},
		{"rows, a deadline", rows, 300 * time.Millisecond},
		{"a row, cancelled", row, never},
		{"a transaction, cancelled", tx, never},
		{"a transaction, a deadline", tx, 300 * time.Millisecond},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := newLimited(t)
			ctx, cancel := context.WithTimeout(replicated.WithSlave(t.Context()), test.lasts)
			defer cancel()
			letGo, err := test.hold(s.db.WithContext(ctx))
			if err != nil {
				t.Fatal(err)
			}
			if n := s.plugin.Status().Groups[0].OnMaster; n != 1 && ctx.Err() == nil {
				t.Errorf("OnMaster is %d while it is held", n)
			}
			if test.lasts == never {
				cancel()
			}
			<-ctx.Done()
			free(t, s)
			letGo()
			free(t, s)
		})
	}
	t.Run("cancelled while the master works", func(t *testing.T) {
		s := newLimited(t)
		ctx, cancel := context.WithCancel(replicated.WithSlave(t.Context()))
		defer cancel()
		s.master.run = func(within context.Context, _ string) error {
			cancel()
			<-within.Done()
			return nil
		}
		if err := s.db.WithContext(ctx).Find(&[]User{}).Error; err != nil && !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err) // it may also have its answer just in time
		}
		s.master.run = nil
		free(t, s)
	})
}

// TestAReadThatBelongsOnTheMasterDoesNotCount has a read fail on a slave and then go to the master by the
// rules, not for want of a slave.
func TestAReadThatBelongsOnTheMasterDoesNotCount(t *testing.T) {
	for _, test := range []struct {
		name      string
		meanwhile func(*replicated.Plugin)
		route     string
		counted   int
	}{
		{"reads on slaves are switched off", func(p *replicated.Plugin) { p.SetAutoReadOnSlave(false) },
			"master: switched off", 0},
		{"the control: they are not", func(*replicated.Plugin) {}, "master: failover", 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := newFailover(t, 1, gorm.Config{}, false, func(c *replicated.Config) {
				c.DefaultIntent, c.Failover.MaxOnMaster = replicated.Slave, 1
			})
			s.slaves[0].run = func(context.Context, string) error {
				test.meanwhile(s.plugin)
				return mysqlError(1053)
			}
			s.slaves[0].ping = func(context.Context) error { return mysqlError(1053) }
			rows, err := s.db.WithContext(t.Context()).Model(&User{}).Rows()
			if err != nil {
				t.Fatal(err)
			}
			defer rows.Close()
			expect(t, s.routes.take(), "slave-1: default intent", test.route)
			if n := s.plugin.Status().Groups[0].OnMaster; n != test.counted {
				t.Errorf("OnMaster is %d", n)
			}
		})
	}
}

// TestAStaleConnectionToTheMaster has a read that falls back to the master meet an idle connection that has
// broken: it takes another one, as database/sql does.
func TestAStaleConnectionToTheMaster(t *testing.T) {
	for _, limit := range []int{0, 5} {
		for _, way := range waysToRead {
			t.Run(fmt.Sprintf("%s, MaxOnMaster: %d", way.name, limit), func(t *testing.T) {
				s := newFailover(t, 1, gorm.Config{}, false, func(c *replicated.Config) {
					c.Failover.MaxOnMaster = limit
				})
				s.slaves[0].dying(errRefused, "").Store(true)
				db := s.in(replicated.WithSlave(t.Context()), nil)
				if err := db.Find(&[]User{}).Error; err != nil {
					t.Fatal(err)
				}
				stale := true
				s.master.run = func(context.Context, string) error {
					if stale {
						stale = false
						return driver.ErrBadConn
					}
					return nil
				}
				if err := way.run(db); err != nil {
					t.Error(err)
				}
				if stale {
					t.Error("nothing ran on it")
				}
				s.master.run = func(context.Context, string) error { return driver.ErrBadConn }
				if err := way.run(db); !errors.Is(err, driver.ErrBadConn) {
					t.Errorf("the control, all of them are broken: got %v", err)
				}
			})
		}
	}
}

// TestSetSlavesRefusesMasters has the pool of any group's master be no slave's: it would be closed with that.
func TestSetSlavesRefusesMasters(t *testing.T) {
	log := &fakeLog{}
	first, second, own := openPool(t, &fake{name: "first", log: log}), openPool(t,
		&fake{name: "second", log: log}), openPool(t, &fake{name: "own", log: log})
	db := openFake(t, own, gorm.Config{})
	p := replicated.New(replicated.Config{
		Masters: []gorm.Dialector{dialector(first)}, Slaves: []gorm.Dialector{opened(&fake{name: "db1", log: log})},
		Probe: replicated.ProbeConfig{Interval: -1}, Policy: inOrder, Logger: slog.New(slog.DiscardHandler),
	}).Register(replicated.Group{Masters: []gorm.Dialector{dialector(second)}}, "orders")
	if err := db.Use(p); err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	s := &setup{db: db, plugin: p, log: log, routes: &routes{}}
	for _, test := range []struct {
		name, group string
		pool        *sql.DB
	}{
		{"its own master", "", first},
		{"another group's", "", second},
		{"the *gorm.DB's", "", own},
		{"of a group, its own", "orders", second},
		{"of a group, another's", "orders", first},
	} {
		t.Run(test.name, func(t *testing.T) {
			set := p.SetSlaves
			if test.group != "" {
				set = func(slaves ...gorm.Dialector) error { return p.SetGroupSlaves(test.group, slaves...) }
			}
			if err := set(dialector(test.pool)); err == nil || !strings.Contains(err.Error(), "is the master's") {
				t.Errorf("got %v", err)
			}
			expect(t, s.slaveIDs(), "db1:3306")
		})
	}
	s.replaceSlaves(t)
	err := errors.Join(db.Create(&User{}).Error, db.Create(&Order{}).Error, own.PingContext(t.Context()))
	if err != nil {
		t.Errorf("after the slaves have left: %v", err)
	}
	expect(t, log.servers(), "first", "second")
}

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

// TestPoliciesMayReorder has a policy change the list that it is given: the read runs on what it chose, and
// the next list is as before.
func TestPoliciesMayReorder(t *testing.T) {
	names := map[gorm.ConnPool]string{}
	log := &fakeLog{}
	var given []string
	var chosen string
	s := newFailover(t, 0, gorm.Config{}, false, func(c *replicated.Config) {
		for i := range 3 {
			f := &fake{name: fmt.Sprintf("slave-%d", i+1), log: log}
			pool := openPool(t, f)
			names[pool] = f.name
			c.Slaves = append(c.Slaves, dialector(pool))
		}
		c.Policy = dbresolver.PolicyFunc(func(pools []gorm.ConnPool) gorm.ConnPool {
			given = nil
			for _, p := range pools {
				given = append(given, names[p])
			}
			pools[0], pools[2] = pools[2], pools[0]
			chosen = names[pools[0]]
			return pools[0]
		})
	})
	for range 4 {
		if err := s.in(replicated.WithSlave(t.Context()), nil).Find(&[]User{}).Error; err != nil {
			t.Error(err)
		}
		expect(t, given, "slave-1", "slave-2", "slave-3")
		expect(t, log.servers(), chosen)
	}
}

// TestAPolicyThatPanics has its panic reach the caller, and the next read run.
func TestAPolicyThatPanics(t *testing.T) {
	var panics atomic.Bool
	s := newFailover(t, 2, gorm.Config{}, false, func(c *replicated.Config) {
		c.Policy = dbresolver.PolicyFunc(func(pools []gorm.ConnPool) gorm.ConnPool {
			if panics.Load() {
				panic("the policy's own")
			}
			return pools[0]
		})
	})
	db := s.in(replicated.WithSlave(t.Context()), nil)
	panics.Store(true)
	func() {
		defer func() {
			if v := recover(); v != "the policy's own" {
				t.Errorf("recovered %v", v)
			}
		}()
		db.Find(&[]User{})
	}()
	panics.Store(false)
	if err := db.Find(&[]User{}).Error; err != nil {
		t.Error(err)
	}
	expect(t, s.log.servers(), "slave-1")
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

// TestAFailedSlaveDoesNotCountAsRead has a session demand the state of the slave that answered it, not of one
// that it tried.
func TestAFailedSlaveDoesNotCountAsRead(t *testing.T) {
	start := func(t *testing.T) (*site, *client, *atomic.Bool) {
		s := newSite(t, func(c *replicated.Config) { c.Token.Monotonic, c.Policy = true, inOrder })
		s.commit()
		s.replay("slave-1") // slave-2 has less
		time.Sleep(2 * time.Second)
		return s, s.client(), s.slaves[0].dying(errRefused, "")
	}
	bubble(t, "it fails the read", func(t *testing.T) {
		_, c, dead := start(t)
		dead.Store(true)
		served(t, c.get(), "slave-1: method, slave-2: failover")
		for range 3 {
			served(t, c.get(), "slave-2: method")
		}
	})
	bubble(t, "the control: it answers, and fails then", func(t *testing.T) {
		_, c, dead := start(t)
		served(t, c.get(), "slave-1: method")
		synctest.Wait() // until the view has the position that the token demands
		dead.Store(true)
		served(t, c.get(), "slave-1: method, master: failover")
		served(t, c.get(), byToken)
	})
}

// TestAnAnswerThatRefusesIsALife has a slave refuse new connections in words while a slow read runs there:
// that ends there, once.
func TestAnAnswerThatRefusesIsALife(t *testing.T) {
	for _, test := range []struct {
		name      string
		err       error
		cancelled int64
		answers   string
	}{
		{"1040, too many connections", mysqlError(1040), 0, "slave-1"},
		{"1045, access denied", mysqlError(1045), 0, "slave-1"},
		{"the control: connection refused", errRefused, 1, "master"},
	} {
		bubble(t, test.name, func(t *testing.T) {
			s := newFailover(t, 1, gorm.Config{}, false, nil)
			var refuses atomic.Bool
			s.slaves[0].connect = func(context.Context) error {
				if refuses.Load() {
					return test.err
				}
				return nil
			}
			var began, cancelled atomic.Int64
			s.slaves[0].run = func(ctx context.Context, query string) error {
				if !strings.Contains(query, "slow") {
					return nil
				}
				began.Add(1)
				err := pause(ctx, 10*time.Second)
				if err != nil {
					cancelled.Add(1)
				}
				return err
			}
			db := s.in(replicated.WithSlave(endless(t)), nil)
			time.AfterFunc(100*time.Millisecond, func() {
				refuses.Store(true)
				if err := db.Find(&[]User{}).Error; err != nil {
					t.Error(err)
				}
				expect(t, s.log.servers(), "master")
			})
			if err := db.Raw("SELECT * FROM users /* slow */").Scan(&[]User{}).Error; err != nil {
				t.Error(err)
			}
			if began.Load() != 1 || cancelled.Load() != test.cancelled {
				t.Errorf("began %d times, cancelled %d times", began.Load(), cancelled.Load())
			}
			expect(t, s.log.servers(), test.answers)
		})
	}
}
