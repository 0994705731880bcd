package replicated_test

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"

	"github.com/gorm-replicated/replicated"
)

// TestNoWriteInASlavesTransaction tries every way to write in one.
func TestNoWriteInASlavesTransaction(t *testing.T) {
	for _, mode := range modes {
		t.Run(mode.name, func(t *testing.T) {
			s := newSetup(t, 1, mode.config, nil)
			tx := s.in(t.Context(), mode.session).Clauses(replicated.Slave).Begin()
			for name, err := range map[string]error{
				"Create":            tx.Create(&User{Name: "a"}).Error,
				"Update":            tx.Model(&User{ID: 1}).Update("name", "a").Error,
				"Delete":            tx.Delete(&User{ID: 1}).Error,
				"Exec":              tx.Exec("DELETE FROM users").Error,
				"Scan":              tx.Raw("DELETE FROM users RETURNING id").Scan(&[]User{}).Error,
				"Row":               tx.Raw("DELETE FROM users RETURNING id").Row().Err(),
				"Find":              tx.Select("nextval(s)").Find(&[]User{}).Error,
				"a session of it":   tx.Session(&gorm.Session{PrepareStmt: true}).Exec("DELETE FROM users").Error,
				"a nested block":    tx.Transaction(func(tx *gorm.DB) error { return tx.Create(&User{Name: "a"}).Error }),
				"the pool, Prepare": second(tx.Statement.ConnPool.PrepareContext(t.Context(), "DELETE FROM users")),
			} {
				if !errors.Is(err, replicated.ErrWriteOnSlave) {
					t.Errorf("%s: got %v, want ErrWriteOnSlave", name, err)
				}
			}
			if sqlDB, err := tx.DB(); err != nil || sqlDB != s.raw {
				t.Errorf("DB: %p, %v; want the master's %p", sqlDB, err, s.raw)
			}
			if err := tx.Connection(func(c *gorm.DB) error { return c.Create(&User{Name: "a"}).Error }); err != nil {
				t.Errorf("Connection: %v", err)
			}
			if err := tx.Migrator().DropTable("users"); err != nil {
				t.Errorf("DropTable: %v", err)
			}
			for _, r := range s.log.take() {
				if r.server != "master" && r.sql != "BEGIN READ ONLY" && !strings.Contains(r.sql, "SAVEPOINT") {
					t.Errorf("executed: %v", r)
				}
			}
			if err := tx.First(&User{}).Error; err != nil {
				t.Errorf("a read after the refusals: %v", err)
			}
			if err := tx.Commit().Error; err != nil {
				t.Error(err)
			}
			for _, r := range s.log.take() {
				if strings.Contains(r.sql, "DELETE") || strings.Contains(r.sql, "INSERT") ||
					strings.Contains(r.sql, "UPDATE") {
					t.Errorf("executed: %v", r)
				}
			}
		})
	}
}

// TestNoLockInASlavesTransaction tries every way to lock in one: the lock would keep nobody out, and may stop
// the replay.
func TestNoLockInASlavesTransaction(t *testing.T) {
	lock := clause.Locking{Strength: "UPDATE"}
	for _, test := range []struct {
		name, dialect string
		run           func(tx *gorm.DB) error
		want          error
	}{
		{"clause.Locking", "mysql", func(tx *gorm.DB) error {
			return tx.Clauses(lock).Find(&[]User{}).Error
		}, replicated.ErrWriteOnSlave},
		{"clause.Locking, Row", "mysql", func(tx *gorm.DB) error {
			return tx.Model(&User{}).Clauses(lock).Row().Err()
		}, replicated.ErrWriteOnSlave},
		{"clause.Locking, SQLite leaves it out", "sqlite", func(tx *gorm.DB) error {
			return tx.Clauses(lock).First(&User{}).Error
		}, replicated.ErrWriteOnSlave},
		{"clause.Locking, unknown dialect", "sqlserver", func(tx *gorm.DB) error {
			return tx.Clauses(lock).Find(&[]User{}).Error
		}, replicated.ErrWriteOnSlave},
		{"FOR SHARE", "mysql", func(tx *gorm.DB) error {
			return tx.Raw("SELECT * FROM users FOR SHARE").Scan(&[]User{}).Error
		}, replicated.ErrWriteOnSlave},
		{"LOCK IN SHARE MODE", "mysql", func(tx *gorm.DB) error {
			return tx.Exec("SELECT * FROM users LOCK IN SHARE MODE").Error
		}, replicated.ErrWriteOnSlave},
		{"a lock beside state", "mysql", func(tx *gorm.DB) error {
			return tx.Raw("SELECT @x := id FROM users FOR UPDATE").Row().Err()
		}, replicated.ErrWriteOnSlave},
		{"GET_LOCK", "mysql", func(tx *gorm.DB) error {
			return tx.Where("GET_LOCK('a', 1)").Find(&[]User{}).Error
		}, replicated.ErrWriteOnSlave},
		{"LOCK TABLES", "mysql", func(tx *gorm.DB) error {
			return tx.Exec("LOCK TABLES users READ").Error
		}, replicated.ErrWriteOnSlave},
		{"pg_advisory_xact_lock", "postgres", func(tx *gorm.DB) error {
			return tx.Raw("SELECT pg_advisory_xact_lock(1)").Row().Err()
		}, replicated.ErrWriteOnSlave},
		{"FOR KEY SHARE", "postgres", func(tx *gorm.DB) error {
			return tx.Raw("SELECT * FROM users FOR KEY SHARE").Scan(&[]User{}).Error
		}, replicated.ErrWriteOnSlave},
		{"the pool itself", "mysql", func(tx *gorm.DB) error {
			return second(tx.Statement.ConnPool.QueryContext(tx.Statement.Context, "SELECT * FROM users FOR UPDATE"))
		}, replicated.ErrWriteOnSlave},

		{"a savepoint", "mysql", func(tx *gorm.DB) error {
			return tx.Transaction(func(tx *gorm.DB) error { return tx.First(&User{}).Error })
		}, nil},
		{"what depends on the connection", "mysql", func(tx *gorm.DB) error {
			return tx.Raw("SELECT CONNECTION_ID(), @x").Scan(&[]User{}).Error
		}, nil},
		{"the catalog", "postgres", func(tx *gorm.DB) error {
			return tx.Raw("SELECT * FROM pg_class").Scan(&[]User{}).Error
		}, nil},
		{"a read", "sqlite", func(tx *gorm.DB) error { return tx.First(&User{}).Error }, nil},
	} {
		for _, mode := range modes {
			t.Run(test.name+"/"+mode.name, func(t *testing.T) {
				log := &fakeLog{}
				open := func(server string) gorm.Dialector {
					d := dialector(openPool(t, &fake{name: server, log: log}))
					if test.dialect == "mysql" {
						return d
					}
					return named{d, test.dialect} // without savepoints
				}
				db := openDialector(t, open("master"), mode.config)
				if test.dialect == "sqlite" {
					db.ClauseBuilders["FOR"] = func(clause.Clause, clause.Builder) {}
				}
				p := replicated.New(replicated.Config{
					Slaves: []gorm.Dialector{open("slave")},
					Probe:  replicated.ProbeConfig{Interval: -1},
					Logger: slog.New(slog.DiscardHandler),
				})
				if err := db.Use(p); err != nil {
					t.Fatal(err)
				}
				defer p.Close()
				if mode.session != nil {
					db = db.Session(mode.session)
				}
				tx := db.Clauses(replicated.Slave).Begin()
				if err := test.run(tx); !errors.Is(err, test.want) {
					t.Errorf("got %v, want %v", err, test.want)
				}
				statements := 0
				for _, r := range log.take() {
					if strings.HasPrefix(r.sql, "SELECT") || strings.HasPrefix(r.sql, "LOCK") {
						statements++
					}
				}
				if executed := statements > 0; executed != (test.want == nil) {
					t.Errorf("executed: %v", executed)
				}
				if err := tx.First(&User{}).Error; err != nil {
					t.Errorf("a read afterwards: %v", err)
				}
				if err := tx.Commit().Error; err != nil {
					t.Error(err)
				}
			})
		}
	}
}

func second[T any](_ T, err error) error { return err }

// TestUnknownSQLInASlavesTransaction: what is not known to write goes to the server, which sees for itself in
// a read-only transaction. SQLite has none.
func TestUnknownSQLInASlavesTransaction(t *testing.T) {
	refusal := mysqlError(1792)
	for _, test := range []struct {
		dialect, sql string
		want         error
	}{
		{"mysql", "CALL book_seat(1)", refusal},
		{"postgres", "FROBNICATE users", refusal},
		{"sqlserver", "FROBNICATE users", refusal},
		{"sqlite", "FROBNICATE users", replicated.ErrWriteOnSlave},
	} {
		for name, run := range map[string]func(*gorm.DB) error{
			"Exec": func(tx *gorm.DB) error { return tx.Exec(test.sql).Error },
			"Scan": func(tx *gorm.DB) error { return tx.Raw(test.sql).Scan(&[]User{}).Error },
			"Row":  func(tx *gorm.DB) error { return tx.Raw(test.sql).Row().Err() },
			"the pool, Exec": func(tx *gorm.DB) error {
				return second(tx.Statement.ConnPool.ExecContext(tx.Statement.Context, test.sql))
			},
			"the pool, QueryRow": func(tx *gorm.DB) error {
				return tx.Statement.ConnPool.QueryRowContext(tx.Statement.Context, test.sql).Err()
			},
		} {
			t.Run(test.dialect+"/"+name, func(t *testing.T) {
				slave := &fake{name: "slave", fail: func(string) error { return refusal }}
				open := func(f *fake) gorm.Dialector { return named{dialector(openPool(t, f)), test.dialect} }
				db := openDialector(t, open(&fake{name: "master"}), gorm.Config{})
				p := replicated.New(replicated.Config{
					Slaves: []gorm.Dialector{open(slave)},
					Probe:  replicated.ProbeConfig{Interval: -1},
					Logger: slog.New(slog.DiscardHandler),
				})
				if err := db.Use(p); err != nil {
					t.Fatal(err)
				}
				defer p.Close()
				tx := db.Clauses(replicated.Slave).Begin()
				defer tx.Rollback()
				if err := run(tx); !errors.Is(err, test.want) {
					t.Errorf("got %v, want %v", err, test.want)
				}
			})
		}
	}
}

// TestNothingIsPreparedUnasked: a pooler such as PgBouncer may know nothing of prepared statements, and
// servers limit how many there are.
func TestNothingIsPreparedUnasked(t *testing.T) {
	find := func(db *gorm.DB) error { return db.Find(&[]User{}).Error }
	inTx := func(db *gorm.DB) error { return db.Transaction(find, readOnlyTx) }
	for _, mode := range modes {
		asked := mode.config.PrepareStmt || mode.session != nil && mode.session.PrepareStmt
		for _, test := range []struct {
			name string
			ctx  func(context.Context) context.Context
			run  func(*gorm.DB) error
		}{
			{"a read on a slave", replicated.WithSlave, find},
			{"a slave's transaction", replicated.WithSlave, inTx},
			{"a slave's transaction, by a clause", replicated.WithMaster, func(db *gorm.DB) error {
				return inTx(db.Clauses(replicated.Slave))
			}},
			{"a read on the master", replicated.WithMaster, find},
			{"the master's transaction", replicated.WithMaster, inTx},
			{"the master's transaction, by a clause", replicated.WithSlave, func(db *gorm.DB) error {
				return inTx(db.Clauses(replicated.Master))
			}},
			{"a write", replicated.WithMaster, func(db *gorm.DB) error { return db.Create(&User{Name: "a"}).Error }},
		} {
			t.Run(test.name+"/"+mode.name, func(t *testing.T) {
				s := newSetup(t, 1, mode.config, nil)
				var prepared atomic.Int64
				s.master.prepared, s.slaves[0].prepared = &prepared, &prepared
				if err := test.run(s.in(test.ctx(t.Context()), mode.session)); err != nil {
					t.Fatal(err)
				}
				if n := prepared.Load(); (n > 0) != asked {
					t.Errorf("prepared %d statements; PrepareStmt: %v", n, asked)
				}
			})
		}
	}
}
