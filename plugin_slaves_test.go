package replicated_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"gorm.io/driver/mysql"
	"gorm.io/gorm"

	"github.com/gorm-replicated/replicated"
)

// reads reads from a slave, and returns which server answered.
func (s *setup) reads(t testing.TB) string {
	t.Helper()
	if err := s.in(replicated.WithSlave(t.Context()), nil).Find(&[]User{}).Error; err != nil {
		t.Error(err)
	}
	return strings.Join(s.log.servers(), " ")
}

// eventuallyReads waits until that is this server.
func (s *setup) eventuallyReads(t testing.TB, want string) {
	t.Helper()
	eventually(t, func() error {
		if got := s.reads(t); got != want {
			return fmt.Errorf("read %s, want %s", got, want)
		}
		return nil
	})
}

func TestSetSlavesAddsOne(t *testing.T) {
	s := newOpened(t, 1, nil)
	if got := s.reads(t); got != "db1" {
		t.Error(got)
	}
	second := &fake{name: "db2", log: s.log}
	if err := s.plugin.SetSlaves(opened(second), opened(s.slaves[0])); err != nil {
		t.Fatal(err)
	}
	expect(t, s.slaveIDs(), "db2:3306", "db1:3306")
	s.eventuallyReads(t, "db2") // the first in order
	if n := s.state("db1:3306").Pool.OpenConnections; n != 1 {
		t.Errorf("the slave that stays has %d connections, not that which it had", n)
	}
}

func TestSetSlavesKeepsTheSame(t *testing.T) {
	s := newOpened(t, 2, nil)
	s.reads(t)
	var connects atomic.Int64
	for _, f := range s.slaves {
		f.connect = func(context.Context) error { connects.Add(1); return nil }
	}
	for range 3 {
		if err := s.plugin.SetSlaves(opened(s.slaves[0]), opened(s.slaves[1])); err != nil {
			t.Fatal(err)
		}
		if got := s.reads(t); got != "db1" {
			t.Error(got)
		}
	}
	if n := connects.Load(); n != 0 {
		t.Errorf("%d new connections", n)
	}
	expect(t, s.slaveIDs(), "db1:3306", "db2:3306")
	// The control: under another name it is another one.
	if err := s.plugin.SetSlaves(replicated.Server{Dialector: opened(s.slaves[0]), ID: "renamed"}); err != nil {
		t.Fatal(err)
	}
	expect(t, s.slaveIDs(), "renamed")
	s.eventuallyReads(t, "db1")
	if connects.Swap(0) == 0 {
		t.Error("no new connection")
	}
	for range 2 { // it stays under its name
		err := s.plugin.SetSlaves(replicated.Server{Dialector: opened(s.slaves[0]), ID: "renamed"})
		if err != nil {
			t.Fatal(err)
		}
		expect(t, s.slaveIDs(), "renamed")
		if got, n := s.reads(t), connects.Load(); got != "db1" || n != 0 {
			t.Errorf("read %s over %d new connections", got, n)
		}
	}
}

func TestSetSlavesLimitsNewPools(t *testing.T) {
	s := newOpened(t, 1, func(c *replicated.Config) { c.Pool.MaxOpen = 3 })
	if err := s.plugin.SetSlaves(opened(&fake{name: "db2", log: s.log})); err != nil {
		t.Fatal(err)
	}
	if n := s.state("db2:3306").Pool.MaxOpenConnections; n != 3 {
		t.Errorf("MaxOpen is %d", n)
	}
}

func TestSetSlavesKeepsTheReadyMade(t *testing.T) {
	var ready gorm.Dialector
	s := newSetup(t, 1, gorm.Config{}, func(c *replicated.Config) { ready = c.Slaves[0] })
	for range 3 {
		if err := s.plugin.SetSlaves(ready); err != nil {
			t.Fatal(err)
		}
		if got := s.reads(t); got != "slave-1" {
			t.Error(got)
		}
	}
}

func TestSetSlavesTakesOneAwayThatIsRead(t *testing.T) {
	s := newOpened(t, 2, nil)
	s.slaves[0].answer = func(string) driver.Rows { return &brokenRows{err: errors.New("EOF"), rows: 100} }
	var closed atomic.Int64
	s.slaves[0].closed = &closed
	rows, err := s.in(replicated.WithSlave(t.Context()), nil).Model(&User{}).Rows()
	if err != nil {
		t.Fatal(err)
	}
	tx := s.in(replicated.WithSlave(t.Context()), nil).Begin(readOnlyTx)
	if tx.Error != nil {
		t.Fatal(tx.Error)
	}
	s.slaves[0].answer = nil
	s.log.take()
	if err := s.plugin.SetSlaves(opened(s.slaves[1])); err != nil {
		t.Fatal(err)
	}
	expect(t, s.slaveIDs(), "db2:3306")
	if got := s.reads(t); got != "db2" {
		t.Error(got)
	}
	for n := range 100 {
		if !rows.Next() {
			t.Fatalf("%d rows, then %v", n, rows.Err())
		}
	}
	if err := tx.Find(&[]User{}).Error; err != nil {
		t.Errorf("in the transaction: %v", err)
	}
	expect(t, s.log.servers(), "db1")
	if n := closed.Load(); n != 0 {
		t.Errorf("%d connections were closed too soon", n)
	}
	rows.Close()
	if err := tx.Commit().Error; err != nil {
		t.Error(err)
	}
	eventually(t, func() error {
		if n := closed.Load(); n != 2 {
			return fmt.Errorf("%d connections were closed", n)
		}
		return nil
	})
}

func TestSetSlavesToNone(t *testing.T) {
	s := newOpened(t, 1, nil)
	if err := s.plugin.SetSlaves(); err != nil {
		t.Fatal(err)
	}
	s.routes.take()
	if got := s.reads(t); got != "master" {
		t.Error(got)
	}
	expect(t, s.routes.take(), "master: no slaves")
	if err := s.plugin.SetSlaves(opened(s.slaves[0])); err != nil {
		t.Fatal(err)
	}
	s.eventuallyReads(t, "db1")
}

func TestSetSlavesPrepared(t *testing.T) {
	s := newOpened(t, 2, nil)
	read := func() {
		t.Helper()
		err := s.in(replicated.WithSlave(t.Context()), &gorm.Session{PrepareStmt: true}).Find(&[]User{}).Error
		if err != nil {
			t.Error(err)
		}
	}
	read()
	for range 3 {
		for _, f := range s.slaves {
			if err := s.plugin.SetSlaves(opened(f)); err != nil {
				t.Fatal(err)
			}
			read()
			read()
		}
	}
}

// TestSetSlavesMistakes has all of them reported at once, and nothing changed.
func TestSetSlavesMistakes(t *testing.T) {
	s := newOpened(t, 2, nil)
	err := s.plugin.SetSlaves(nil, replicated.Server{Dialector: opened(s.slaves[0]), ID: "a", Weight: -1},
		replicated.Server{Dialector: opened(s.slaves[1]), ID: "a"})
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{"Slaves[0]: nil dialector", "Slaves[1]: Weight",
		`Slaves[2]: ID "a" is that of Slaves[1]`} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not in: %v", want, err)
		}
	}
	for _, wrong := range []gorm.Dialector{
		postgresFake{opened(s.slaves[0])},
		mysql.Open("app:s3cr3t@tcp(nowhere"), // cannot be parsed
		dialector(s.raw),                     // the master
	} {
		err := s.plugin.SetSlaves(opened(&fake{name: "db9"}), wrong)
		if err == nil || strings.Contains(err.Error(), "s3cr3t") {
			t.Errorf("got %v", err)
		}
	}
	expect(t, s.slaveIDs(), "db1:3306", "db2:3306")
	if got := s.reads(t); got != "db1" {
		t.Error(got)
	}
}

func TestSetSlavesOfAnIDThatStays(t *testing.T) {
	s := newOpened(t, 1, nil)
	err := s.plugin.SetSlaves(opened(s.slaves[0]),
		replicated.Server{Dialector: opened(&fake{name: "db2", log: s.log}), ID: "db1:3306"})
	if err == nil {
		if ids := s.slaveIDs(); len(ids) != 2 || ids[0] == ids[1] {
			t.Errorf("two of one name: %q", ids)
		}
	}
}

func TestSetSlavesOfOneServerTwice(t *testing.T) {
	s := newOpened(t, 1, nil)
	if err := s.plugin.SetSlaves(opened(s.slaves[0]), opened(s.slaves[0])); err != nil {
		t.Fatal(err)
	}
	if ids := s.slaveIDs(); len(ids) != 2 || ids[0] == ids[1] {
		t.Errorf("IDs %q", ids)
	}
}

func TestSetSlavesTooSoonOrTooLate(t *testing.T) {
	slave := opened(&fake{name: "db1"})
	if err := replicated.New(replicated.Config{}).SetSlaves(slave); err == nil {
		t.Error("before db.Use: no error")
	}
	s := newOpened(t, 1, nil)
	err := s.plugin.SetGroupSlaves("nowhere", slave)
	if err == nil || !strings.Contains(err.Error(), `"nowhere"`) {
		t.Errorf("an unknown group: %v", err)
	}
	if err := s.plugin.Close(); err != nil {
		t.Fatal(err)
	}
	if err := s.plugin.SetSlaves(slave); err == nil || !strings.Contains(err.Error(), "closed") {
		t.Errorf("after Close: %v", err)
	}
	if got := s.reads(t); got != "master" {
		t.Error(got)
	}
}

func TestSetGroupSlaves(t *testing.T) {
	s := newGroups(t, gorm.Config{})
	if err := s.plugin.SetGroupSlaves("orders", replicated.Server{
		Dialector: dialector(openPool(t, &fake{name: "other", log: s.log})), ID: "other",
	}); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() error {
		if err := s.in(replicated.WithSlave(t.Context()), nil).Find(&[]Order{}).Error; err != nil {
			t.Error(err)
		}
		if got := s.log.servers(); !slices.Equal(got, []string{"other"}) {
			return fmt.Errorf("read %q", got)
		}
		return nil
	})
	if err := s.in(replicated.WithSlave(t.Context()), nil).Find(&[]User{}).Error; err != nil {
		t.Error(err)
	}
	expect(t, s.log.servers(), "slave")
}

// TestSetSlavesWhileReading has slaves come and go while reads run. None fails.
func TestSetSlavesWhileReading(t *testing.T) {
	for _, session := range []*gorm.Session{nil, {PrepareStmt: true}} {
		t.Run(fmt.Sprintf("prepared: %v", session != nil), func(t *testing.T) {
			s := newOpened(t, 3, func(c *replicated.Config) { c.Policy = nil })
			for _, f := range append(s.slaves, s.master) {
				f.log = nil
			}
			stop := make(chan struct{})
			var readers sync.WaitGroup
			for n := range 6 {
				readers.Go(func() {
					for i := n; ; i++ {
						select {
						case <-stop:
							return
						default:
						}
						ctx := replicated.WithSlave(t.Context())
						if n%2 == 0 {
							ctx = s.plugin.WithToken(ctx, "")
						}
						way := waysToRead[i%len(waysToRead)]
						if err := way.run(s.in(ctx, session)); err != nil {
							t.Errorf("%s: %v", way.name, err)
						}
					}
				})
			}
			changes := 100
			if session != nil {
				changes = 30 // GORM leaves a goroutine for each cache of prepared statements
			}
			for i := range changes {
				var next []gorm.Dialector
				for j, f := range s.slaves {
					if (i+j)%3 > 0 {
						next = append(next, opened(f))
					}
				}
				if err := s.plugin.SetSlaves(next...); err != nil {
					t.Error(err)
				}
				s.plugin.Status()
				time.Sleep(200 * time.Microsecond)
			}
			close(stop)
			readers.Wait()
		})
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
