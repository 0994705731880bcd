package replicated_test

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"testing"
	"time"

	"gorm.io/gorm"

	"github.com/gorm-replicated/replicated"
)

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
