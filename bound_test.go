package replicated_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"
	"gorm.io/plugin/dbresolver"

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
		{"serializable", slave, nil, &sql.TxOptions{ReadOnly: true, Isolation: sql.LevelSerializable},
			"master: serializable", "BEGIN READ ONLY"},
		{"clause Slave", master, []replicated.Intent{replicated.Slave}, nil, "slave-1: clause", "BEGIN READ ONLY"},
		{"clause Slave, read-only", master, []replicated.Intent{replicated.Slave}, readOnly, "slave-1: clause",
			"BEGIN READ ONLY"},
		{"clause Master, read-only", slave, []replicated.Intent{replicated.Master}, readOnly, "master: clause",
			"BEGIN READ ONLY"},
		{"the last clause counts", slave, []replicated.Intent{replicated.Slave, replicated.Master}, readOnly,
			"master: clause", "BEGIN READ ONLY"},
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
			if err := s.in(t.Context(), mode.session).Transaction(func(*gorm.DB) error {
				return nil
			}); !errors.Is(err, broken) {
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
				seen = append(seen, fmt.Sprintf("committer %v, beginner %v, master %v, %v", committer, beginner,
					pool == s.raw, err))
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
	p := replicated.New(replicated.Config{
		Slaves: []gorm.Dialector{dialector(openPool(t, &fake{name: "slave", log: log}))},
	})
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
		"Create": func() error { return slave.Create(&User{Name: "a"}).Error },
		"Transaction": func() error {
			return slave.Transaction(func(tx *gorm.DB) error { return tx.First(&User{}).Error })
		},
	} {
		if err := run(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		ran := log.take()
		if len(ran) != 3 || ran[0].sql != "BEGIN" || ran[2].sql != "COMMIT" || ran[1].server != "master" {
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

// TestPreparedInATransactionOfTwoGroups: GORM gives a statement in a transaction what the first master has
// prepared, which is of no use on another.
func TestPreparedInATransactionOfTwoGroups(t *testing.T) {
	prepared := &gorm.Session{PrepareStmt: true}
	for _, test := range []struct {
		name   string
		clause clause.Expression
		want   string
	}{
		{"the other group's", dbresolver.Use("orders"), "orders-master"},
		{"the control: of the first", replicated.Master, "master"},
	} {
		for _, mode := range modes {
			t.Run(test.name+"/"+mode.name, func(t *testing.T) {
				log := &fakeLog{}
				db := openFake(t, openPool(t, &fake{name: "master", log: log}), mode.config)
				p := replicated.New(replicated.Config{}).Register(replicated.Group{
					Masters: []gorm.Dialector{dialector(openPool(t, &fake{name: "orders-master", log: log}))},
				}, "orders")
				if err := db.Use(p); err != nil {
					t.Fatal(err)
				}
				defer p.Close()
				if mode.session != nil {
					db = db.Session(mode.session)
				}
				run := func(db *gorm.DB) error {
					return errors.Join(db.Create(&User{Name: "a"}).Error, db.First(&User{}).Error,
						db.Raw("SELECT 1").Scan(&[]User{}).Error, db.Exec("DELETE FROM users").Error)
				}
				if err := run(db.Session(prepared)); err != nil {
					t.Fatal(err)
				}
				expect(t, log.servers(), "master")
				for range 2 { // the second time the statements are prepared
					err := db.Clauses(test.clause).Transaction(func(tx *gorm.DB) error {
						return errors.Join(run(tx), run(tx.Session(prepared)))
					})
					if err != nil {
						t.Error(err)
					}
					expect(t, log.servers(), test.want)
				}
			})
		}
	}
}

// TestStalePlanInATransaction has DDL change what a prepared statement returns. It fails the transaction,
// whose statement cannot be run again, but not the next one.
func TestStalePlanInATransaction(t *testing.T) {
	find := func(tx *gorm.DB) error { return tx.Find(&[]User{}).Error }
	row := func(tx *gorm.DB) error { return tx.Raw("SELECT * FROM users").Row().Scan(new(int64), new(string)) }
	exec := func(tx *gorm.DB) error { return tx.Exec("SELECT * FROM users").Error }
	for _, test := range []struct {
		name   string
		intent replicated.Intent
		run    func(*gorm.DB) error
		err    error
		anew   bool // it is prepared anew once the error is over
	}{
		{"a slave's, Find", replicated.Slave, find, mysqlError(1615), true},
		{"a slave's, Row", replicated.Slave, row, mysqlError(1615), true},
		{"a slave's, Exec", replicated.Slave, exec, mysqlError(1615), true},
		{"the master's, Find", replicated.Master, find, mysqlError(1615), true},
		{"the master's, Row", replicated.Master, row, mysqlError(1615), true},
		{"the master's, Exec", replicated.Master, exec, mysqlError(1615), true},
		{"the control: another error, a slave's", replicated.Slave, exec, mysqlError(1064), false},
		{"the control: another error, the master's", replicated.Master, exec, mysqlError(1064), false},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := newSetup(t, 1, gorm.Config{PrepareStmt: true}, nil)
			server := map[replicated.Intent]*fake{replicated.Master: s.master,
				replicated.Slave: s.slaves[0]}[test.intent]
			server.prepared = new(atomic.Int64)
			db := s.db.WithContext(t.Context()).Clauses(test.intent)
			inTx := func() error { return db.Transaction(test.run, readOnlyTx) }
			if err := errors.Join(test.run(db), inTx()); err != nil { // GORM keeps what was prepared outside
				t.Fatal(err)
			}
			server.fail = func(string) error { return test.err }
			if err := inTx(); !errors.Is(err, test.err) {
				t.Errorf("got %v, want %v", err, test.err)
			}
			server.fail = nil
			server.prepared.Store(0)
			if err := inTx(); err != nil {
				t.Error(err)
			}
			if n := server.prepared.Load(); (n > 0) != test.anew {
				t.Errorf("prepared %d statements, anew: %v", n, test.anew)
			}
		})
	}
}
