package replicated_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"

	"github.com/gorm-replicated/replicated"
)

// TestTransactions has BEGIN routed by intent and options: a transaction goes
// to a slave only if it says that it reads only.
func TestTransactions(t *testing.T) {
	readOnly := &sql.TxOptions{ReadOnly: true}
	master, slave := replicated.WithMaster, replicated.WithSlave
	for _, test := range []struct {
		name   string
		ctx    func(context.Context) context.Context
		clause []replicated.Intent
		opts   *sql.TxOptions
		want   string
		begin  string
	}{
		{"read-only, intent Slave", slave, nil, readOnly, "slave-1: context", "BEGIN READ ONLY"},
		{"read-only, intent Master", master, nil, readOnly, "master: context", "BEGIN READ ONLY"},
		{"intent Slave", slave, nil, nil, "master: transaction", "BEGIN"},
		{"intent Slave, not read-only", slave, nil, &sql.TxOptions{}, "master: transaction", "BEGIN"},
		{"intent Master", master, nil, nil, "master: transaction", "BEGIN"},
		{"serializable", slave, nil, &sql.TxOptions{ReadOnly: true, Isolation: sql.LevelSerializable}, "master: serializable", "BEGIN READ ONLY"},
		{"clause Slave", master, []replicated.Intent{replicated.Slave}, nil, "slave-1: clause", "BEGIN READ ONLY"},
		{"clause Slave, read-only", master, []replicated.Intent{replicated.Slave}, readOnly, "slave-1: clause", "BEGIN READ ONLY"},
		{"clause Master, read-only", slave, []replicated.Intent{replicated.Master}, readOnly, "master: clause", "BEGIN READ ONLY"},
		{"the last clause counts", slave, []replicated.Intent{replicated.Slave, replicated.Master}, readOnly, "master: clause", "BEGIN READ ONLY"},
	} {
		for _, mode := range modes {
			t.Run(test.name+"/"+mode.name, func(t *testing.T) {
				s := newSetup(t, 1, mode.config, nil)
				db := s.in(test.ctx(t.Context()), mode.session)
				for _, i := range test.clause {
					db = db.Clauses(i)
				}
				server, _, _ := strings.Cut(test.want, ":")
				err := db.Transaction(func(tx *gorm.DB) error {
					for range 2 { // the second finds its statement prepared
						if err := tx.First(&User{}).Error; err != nil {
							return err
						}
					}
					return nil
				}, test.opts)
				if err != nil {
					t.Fatal(err)
				}
				expect(t, s.routes.take(), test.want, server+": bound", server+": bound")
				ran := s.log.take()
				if len(ran) != 4 || ran[3].sql != "COMMIT" || ran[0].sql != test.begin {
					t.Errorf("ran %q", ran)
				}
				for _, r := range ran {
					if r.server != server {
						t.Errorf("%q ran on %s", r.sql, r.server)
					}
				}
			})
		}
	}
}

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
				if strings.Contains(r.sql, "DELETE") || strings.Contains(r.sql, "INSERT") || strings.Contains(r.sql, "UPDATE") {
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

func TestBeginError(t *testing.T) {
	broken := errors.New("no connection")
	for _, mode := range modes {
		t.Run(mode.name, func(t *testing.T) {
			s := newSetup(t, 1, mode.config, nil)
			s.master.begin = broken
			tx := s.in(t.Context(), mode.session).Begin()
			if !errors.Is(tx.Error, broken) {
				t.Errorf("Begin: %v", tx.Error)
			}
			if err := s.in(t.Context(), mode.session).Transaction(func(*gorm.DB) error { return nil }); !errors.Is(err, broken) {
				t.Errorf("Transaction: %v", err)
			}
		})
	}
}

// TestBoundStatementsLookAlike has a callback between ours and GORM's find
// what it finds without the plugin.
func TestBoundStatementsLookAlike(t *testing.T) {
	for _, mode := range modes {
		t.Run(mode.name, func(t *testing.T) {
			s := newSetup(t, 1, mode.config, nil)
			var seen []string
			err := s.db.Callback().Query().Before("gorm:query").Register("look", func(db *gorm.DB) {
				_, committer := db.Statement.ConnPool.(gorm.TxCommitter)
				_, beginner := db.Statement.ConnPool.(gorm.TxBeginner)
				pool, err := db.DB()
				seen = append(seen, fmt.Sprintf("committer %v, beginner %v, master %v, %v", committer, beginner, pool == s.raw, err))
				if err := db.Session(&gorm.Session{NewDB: true, PrepareStmt: true}).Exec("SELECT 1").Error; err != nil {
					t.Error(err)
				}
			})
			if err != nil {
				t.Fatal(err)
			}
			db := s.in(replicated.WithSlave(t.Context()), mode.session)
			if err := db.Transaction(func(tx *gorm.DB) error { return tx.First(&User{}).Error }); err != nil {
				t.Error(err)
			}
			expect(t, seen, "committer true, beginner false, master true, <nil>")
			expect(t, s.log.servers(), "master")
			seen = nil
			if err := db.Connection(func(tx *gorm.DB) error { return tx.First(&User{}).Error }); err != nil {
				t.Error(err)
			}
			expect(t, seen, "committer false, beginner true, master false, "+gorm.ErrInvalidDB.Error())
		})
	}
}

// barePool is a master's pool as a library might wrap one: its transactions
// can commit and roll back and nothing more, and it cannot be compared.
type barePool struct {
	gorm.ConnPool
	_ []int
}

type bareTx struct {
	gorm.ConnPool
	tx *sql.Tx
}

func (t *bareTx) Commit() error { return t.tx.Commit() }

func (t *bareTx) Rollback() error { return t.tx.Rollback() }

func (p barePool) BeginTx(ctx context.Context, opts *sql.TxOptions) (gorm.ConnPool, error) {
	tx, err := p.ConnPool.(*sql.DB).BeginTx(ctx, opts)
	return &bareTx{tx, tx}, err
}

func TestMasterPoolOfAnotherType(t *testing.T) {
	log := &fakeLog{}
	raw := openPool(t, &fake{name: "master", log: log})
	db := openFake(t, barePool{ConnPool: raw}, gorm.Config{})
	before := db.WithContext(replicated.WithSlave(t.Context()))
	p := replicated.New(replicated.Config{Slaves: []gorm.Dialector{dialector(openPool(t, &fake{name: "slave", log: log}))}})
	if err := db.Use(p); err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	slave := db.WithContext(replicated.WithSlave(t.Context()))
	if err := slave.First(&User{}).Error; err != nil {
		t.Error(err)
	}
	expect(t, log.servers(), "slave")
	if err := errors.Join(before.Create(&User{Name: "a"}).Error, before.First(&User{}).Error); err != nil {
		t.Errorf("a session made before Use: %v", err)
	}
	expect(t, log.servers(), "master") // its pool cannot be recognised
	for name, run := range map[string]func() error{
		"Create":      func() error { return slave.Create(&User{Name: "a"}).Error },
		"Transaction": func() error { return slave.Transaction(func(tx *gorm.DB) error { return tx.First(&User{}).Error }) },
	} {
		if err := run(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if ran := log.take(); len(ran) != 3 || ran[0].sql != "BEGIN" || ran[2].sql != "COMMIT" || ran[1].server != "master" {
			t.Errorf("%s: ran %v", name, ran)
		}
	}
	if n := raw.Stats().InUse; n != 0 {
		t.Errorf("%d connections are leaked", n)
	}
}

// TestRejectWritesInATransaction has the refusal leave the transaction usable.
func TestRejectWritesInATransaction(t *testing.T) {
	for _, mode := range modes {
		t.Run(mode.name, func(t *testing.T) {
			s := newSetup(t, 1, mode.config, func(c *replicated.Config) { c.RejectWrites = true })
			err := s.in(replicated.WithSlave(t.Context()), mode.session).Transaction(func(tx *gorm.DB) error {
				for _, err := range []error{
					tx.Create(&User{Name: "a"}).Error,
					tx.Exec("DELETE FROM users").Error,
					tx.Raw("DELETE FROM users RETURNING id").Row().Scan(),
					tx.Raw("DELETE FROM users RETURNING id").Scan(&[]User{}).Error,
				} {
					if !errors.Is(err, replicated.ErrWriteOnSlave) {
						t.Errorf("got %v, want ErrWriteOnSlave", err)
					}
				}
				return tx.First(&User{}).Error
			})
			if err != nil {
				t.Error(err)
			}
			for _, r := range s.log.take() {
				if r.server != "master" || strings.Contains(r.sql, "INSERT") || strings.Contains(r.sql, "DELETE") {
					t.Errorf("executed: %v", r)
				}
			}
		})
	}
}

func TestConnectionIsLeftAlone(t *testing.T) {
	for _, mode := range modes {
		t.Run(mode.name, func(t *testing.T) {
			s := newSetup(t, 1, mode.config, nil)
			s.raw.SetMaxOpenConns(2)
			err := s.in(replicated.WithSlave(t.Context()), mode.session).Connection(func(tx *gorm.DB) error {
				conn := tx.Statement.ConnPool
				for range 2 {
					if err := tx.Session(&gorm.Session{}).First(&User{}).Error; err != nil {
						return err
					}
					if err := tx.Create(&User{Name: "a"}).Error; err != nil {
						return err
					}
					if tx.Statement.ConnPool != conn {
						return fmt.Errorf("the block was moved from its connection to a %T", tx.Statement.ConnPool)
					}
				}
				return nil
			})
			if err != nil {
				t.Error(err)
			}
			expect(t, s.log.servers(), "master")
			for _, route := range s.routes.take() {
				if route != "master: bound" {
					t.Error(route)
				}
			}
		})
	}
}

type found struct{ ID int64 }

func (found) TableName() string { return "users" }

func (*found) AfterFind(tx *gorm.DB) error {
	if _, ok := tx.Statement.ConnPool.(*sql.Tx); !ok {
		return fmt.Errorf("the pool is a %T", tx.Statement.ConnPool)
	}
	return nil
}

// TestTransactionsOnTheMasterAreGORMs has applications and hooks take the
// *sql.Tx out of a statement, as they do without the plugin.
func TestTransactionsOnTheMasterAreGORMs(t *testing.T) {
	s := newSetup(t, 1, gorm.Config{}, nil)
	err := s.db.WithContext(replicated.WithSlave(t.Context())).Transaction(func(tx *gorm.DB) error {
		if _, ok := tx.Statement.ConnPool.(*sql.Tx); !ok {
			t.Errorf("the pool is a %T", tx.Statement.ConnPool)
		}
		return tx.First(&found{}).Error
	})
	if err != nil {
		t.Error(err)
	}
}
