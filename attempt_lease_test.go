package replicated_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	driversql "github.com/go-sql-driver/mysql"
	"gorm.io/gorm"
	"gorm.io/gorm/clause"
	"gorm.io/plugin/dbresolver"

	"github.com/gorm-replicated/replicated"
)

// TestMaxOnMaster has more reads fall back to the master than may at once.
func TestMaxOnMaster(t *testing.T) {
	limited := func(t *testing.T, config gorm.Config, change func(*replicated.Config)) *setup {
		s := newFailover(t, 1, config, false, func(c *replicated.Config) {
			c.Failover.MaxOnMaster = 2
			if change != nil {
				change(c)
			}
		})
		s.slaves[0].dying(errRefused, "").Store(true)
		return s
	}
	onMaster := func(t *testing.T, s *setup, want int) {
		t.Helper()
		eventually(t, func() error {
			if n := s.plugin.Status().Groups[0].OnMaster; n != want {
				return fmt.Errorf("OnMaster is %d, want %d", n, want)
			}
			return nil
		})
	}
	holds := []struct {
		name string
		hold func(*gorm.DB) (letGo func(), err error)
	}{
		{"rows", func(db *gorm.DB) (func(), error) {
			rows, err := db.Model(&User{}).Rows()
			return func() { rows.Close() }, err
		}},
		{"a row", func(db *gorm.DB) (func(), error) {
			row := db.Raw("SELECT * FROM users").Row()
			return func() { _ = row.Scan(new(int64), new(string)) }, row.Err()
		}},
		{"transactions, committed", func(db *gorm.DB) (func(), error) {
			tx := db.Begin(readOnlyTx)
			return func() { tx.Commit() }, tx.Error
		}},
		{"transactions, rolled back", func(db *gorm.DB) (func(), error) {
			tx := db.Begin(readOnlyTx)
			return func() { tx.Rollback() }, tx.Error
		}},
	}
	for _, mode := range modes[:3] {
		for _, way := range holds {
			t.Run(way.name+"/"+mode.name, func(t *testing.T) {
				s := limited(t, mode.config, nil)
				db := func() *gorm.DB { return s.in(replicated.WithSlave(t.Context()), mode.session) }
				for round := range 2 {
					var letGo []func()
					for range 2 {
						f, err := way.hold(db())
						if err != nil {
							t.Fatal(err)
						}
						letGo = append(letGo, f)
					}
					onMaster(t, s, 2)
					if round > 0 {
						letGo[0]()
						letGo[1]()
						continue
					}
					s.log.take()
					for _, read := range waysToRead {
						if err := read.run(db()); !errors.Is(err, replicated.ErrMasterBusy) {
							t.Errorf("%s: %v", read.name, err)
						}
					}
					row := db().Raw("SELECT * FROM users").Row()
					err, scan := row.Err(), row.Scan()
					if !errors.Is(err, replicated.ErrMasterBusy) || !errors.Is(scan, replicated.ErrMasterBusy) {
						t.Errorf("Row: Err %v, Scan %v", err, scan)
					}
					if ran := s.log.take(); len(ran) > 0 {
						t.Errorf("ran %v", ran)
					}
					letGo[0]()
					onMaster(t, s, 1)
					for _, read := range waysToRead {
						if err := read.run(db()); err != nil {
							t.Errorf("one is free: %s: %v", read.name, err)
						}
						onMaster(t, s, 1)
					}
					letGo[1]()
				}
				onMaster(t, s, 0)
				eventually(t, func() error {
					if n := s.raw.Stats().InUse; n != 0 {
						return fmt.Errorf("%d connections to the master are leaked", n)
					}
					return nil
				})
			})
		}
	}
	for _, test := range []struct {
		name string
		run  func(context.Context, *setup) error
	}{
		{"a session that wrote", func(ctx context.Context, s *setup) error {
			db := s.db.WithContext(s.plugin.WithToken(ctx, ""))
			return errors.Join(db.Create(&User{}).Error, db.Find(&[]User{}).Error)
		}},
		{"WithMaster", func(ctx context.Context, s *setup) error {
			return s.db.WithContext(replicated.WithMaster(ctx)).Find(&[]User{}).Error
		}},
		{"a clause", func(ctx context.Context, s *setup) error {
			return s.db.WithContext(replicated.WithSlave(ctx)).Clauses(replicated.Master).Find(&[]User{}).Error
		}},
		{"dbresolver's clause", func(ctx context.Context, s *setup) error {
			return s.db.WithContext(replicated.WithSlave(ctx)).Clauses(dbresolver.Write).Find(&[]User{}).Error
		}},
		{"unknown SQL", func(ctx context.Context, s *setup) error {
			return s.db.WithContext(replicated.WithSlave(ctx)).Raw("CALL something()").Scan(&[]User{}).Error
		}},
		{"a write", func(ctx context.Context, s *setup) error {
			return s.db.WithContext(replicated.WithSlave(ctx)).Create(&User{}).Error
		}},
		{"a locking read", func(ctx context.Context, s *setup) error {
			db := s.db.WithContext(replicated.WithSlave(ctx))
			return db.Clauses(clause.Locking{Strength: "UPDATE"}).Find(&[]User{}).Error
		}},
		{"a transaction that may write", func(ctx context.Context, s *setup) error {
			db := s.db.WithContext(replicated.WithSlave(ctx))
			return db.Transaction(func(tx *gorm.DB) error { return tx.Find(&[]User{}).Error })
		}},
		{"FirstOrCreate", func(ctx context.Context, s *setup) error {
			return s.db.WithContext(replicated.WithSlave(ctx)).FirstOrCreate(&User{}).Error
		}},
		{"shadow mode", func(ctx context.Context, s *setup) error {
			s.plugin.SetShadow(true)
			defer s.plugin.SetShadow(false)
			return s.db.WithContext(replicated.WithSlave(ctx)).Find(&[]User{}).Error
		}},
		{"the method", func(_ context.Context, s *setup) (err error) {
			s.request("POST", func(db *gorm.DB) { err = db.Find(&[]User{}).Error })
			return err
		}},
	} {
		t.Run("not counted: "+test.name, func(t *testing.T) {
			s := limited(t, gorm.Config{}, nil)
			for range 2 {
				rows, err := s.in(replicated.WithSlave(t.Context()), nil).Model(&User{}).Rows()
				if err != nil {
					t.Fatal(err)
				}
				defer rows.Close()
			}
			if err := test.run(t.Context(), s); err != nil {
				t.Error(err)
			}
			onMaster(t, s, 2)
		})
	}
	t.Run("the control: no limit", func(t *testing.T) {
		s := limited(t, gorm.Config{}, func(c *replicated.Config) { c.Failover.MaxOnMaster = 0 })
		for range 5 {
			rows, err := s.in(replicated.WithSlave(t.Context()), nil).Model(&User{}).Rows()
			if err != nil {
				t.Fatal(err)
			}
			defer rows.Close()
		}
	})
	t.Run("a master's pool of another type", func(t *testing.T) {
		log := &fakeLog{}
		raw := openPool(t, &fake{name: "master", log: log})
		db := openFake(t, barePool{ConnPool: raw}, gorm.Config{})
		slave := &fake{name: "slave", log: log}
		slave.dying(errRefused, "").Store(true)
		p := replicated.New(replicated.Config{
			Slaves:   []gorm.Dialector{dialector(openPool(t, slave))},
			Failover: replicated.FailoverConfig{MaxOnMaster: 2}, Logger: slog.New(slog.DiscardHandler),
		})
		if err := db.Use(p); err != nil {
			t.Fatal(err)
		}
		defer p.Close()
		s := &setup{plugin: p, db: db}
		for range 5 { // each counts while it is begun: nobody can tell when its rows are closed
			for _, way := range waysToRead {
				if err := way.run(db.WithContext(replicated.WithSlave(t.Context()))); err != nil {
					t.Errorf("%s: %v", way.name, err)
				}
				onMaster(t, s, 0)
			}
		}
	})
	t.Run("errors on the master", func(t *testing.T) {
		s := limited(t, gorm.Config{}, nil)
		s.master.fail = func(string) error { return mysqlError(1064) }
		s.master.begin = mysqlError(1064)
		for range 3 {
			for _, way := range waysToRead {
				var got *driversql.MySQLError
				if err := way.run(s.in(replicated.WithSlave(t.Context()), nil)); !errors.As(err, &got) {
					t.Errorf("%s: %v", way.name, err)
				}
			}
		}
		onMaster(t, s, 0)
	})
	t.Run("a full pool of the master", func(t *testing.T) {
		s := limited(t, gorm.Config{}, nil)
		s.raw.SetMaxOpenConns(1)
		tx := s.db.Begin()
		defer tx.Rollback()
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		defer cancel()
		err := s.in(replicated.WithSlave(ctx), nil).Find(&[]User{}).Error
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		onMaster(t, s, 0)
	})
	t.Run("never more than that", func(t *testing.T) {
		s := limited(t, gorm.Config{}, nil)
		var now, most atomic.Int64
		s.master.run = func(context.Context, string) error {
			n := now.Add(1)
			for old := most.Load(); n > old && !most.CompareAndSwap(old, n); old = most.Load() {
			}
			time.Sleep(100 * time.Microsecond)
			now.Add(-1)
			return nil
		}
		var busy, served atomic.Int64
		var callers sync.WaitGroup
		for range 20 {
			callers.Go(func() {
				for range 20 {
					switch err := s.in(replicated.WithSlave(t.Context()), nil).Find(&[]User{}).Error; {
					case err == nil:
						served.Add(1)
					case errors.Is(err, replicated.ErrMasterBusy):
						busy.Add(1)
					default:
						t.Error(err)
					}
				}
			})
		}
		callers.Wait()
		if most.Load() > 2 || busy.Load() == 0 || served.Load() == 0 {
			t.Errorf("%d at once, %d served, %d refused", most.Load(), served.Load(), busy.Load())
		}
		onMaster(t, s, 0)
	})
}
