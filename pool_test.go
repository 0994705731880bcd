package replicated_test

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/go-sql-driver/mysql"
	"gorm.io/gorm"

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

// TestConcurrentRequests mixes everything that changes while requests run.
func TestConcurrentRequests(t *testing.T) {
	for _, mode := range modes {
		t.Run(mode.name, func(t *testing.T) {
			s := newSetup(t, 3, mode.config, nil)
			s.raw.SetMaxIdleConns(8)
			handler := s.plugin.Middleware(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				db := s.in(r.Context(), mode.session)
				var wg sync.WaitGroup
				for range 3 { // goroutines of one request
					wg.Go(func() {
						if err := db.First(&User{}).Error; err != nil {
							t.Error(err)
						}
						if r.Method == "POST" {
							if err := db.Create(&User{Name: "a"}).Error; err != nil {
								t.Error(err)
							}
							var user User
							if err := db.First(&user).Error; err != nil || user.Name != "master" {
								t.Errorf("after a write: read from %s, %v", user.Name, err)
							}
						}
						err := db.Transaction(func(tx *gorm.DB) error { return tx.First(&User{}).Error }, &sql.TxOptions{ReadOnly: true})
						if err != nil {
							t.Error(err)
						}
					})
				}
				wg.Wait()
				s.plugin.Status()
			}))
			var wg sync.WaitGroup
			for i := range 8 {
				wg.Go(func() {
					for j := range 10 {
						method := "GET"
						if (i+j)%2 == 0 {
							method = "POST"
						}
						handler.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(method, "/", nil))
						s.plugin.SetAutoReadOnSlave(j%2 == 0)
					}
				})
			}
			wg.Wait()
			for _, r := range s.log.take() {
				if strings.HasPrefix(r.sql, "INSERT") && r.server != "master" {
					t.Errorf("%q ran on %s", r.sql, r.server)
				}
			}
		})
	}
}

// TestSlaveRefusesAWrite has a SELECT call a function that writes: the slave
// says so, the master runs it in the same call, and gets it directly from then on.
func TestSlaveRefusesAWrite(t *testing.T) {
	const text = "SELECT book_seat(1), 'a'"
	for _, test := range []struct {
		name string
		run  func(*gorm.DB) error
	}{
		{"Scan", func(db *gorm.DB) error { return db.Raw(text).Scan(&[]User{}).Error }},
		{"Row", func(db *gorm.DB) error {
			var u User
			return db.Raw(text).Row().Scan(&u.ID, &u.Name)
		}},
		{"Exec", func(db *gorm.DB) error { return db.Exec(text).Error }},
	} {
		for _, mode := range modes {
			t.Run(test.name+"/"+mode.name, func(t *testing.T) {
				var logged bytes.Buffer
				s := newSetup(t, 1, mode.config, func(c *replicated.Config) { c.Logger = slog.New(slog.NewTextHandler(&logged, nil)) })
				s.slaves[0].fail = func(sql string) error {
					if strings.Contains(sql, "book_seat") {
						return &mysql.MySQLError{Number: 1290, Message: "The MariaDB server is running with the --read-only option so it cannot execute this statement"}
					}
					return nil
				}
				s.plugin.Middleware(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
					db := s.in(r.Context(), mode.session)
					if err := test.run(db); err != nil {
						t.Errorf("refused by the slave: %v", err)
					}
					expect(t, s.routes.take(), "slave-1: method", "master: refused by a slave")
					db.First(&User{})
					expect(t, s.routes.take(), "master: session wrote")
				})).ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil))
				for range 3 {
					if err := test.run(s.in(replicated.WithSlave(t.Context()), mode.session)); err != nil {
						t.Errorf("known by now: %v", err)
					}
					expect(t, s.routes.take(), "master: write")
				}
				if n := strings.Count(logged.String(), "book_seat"); n != 1 {
					t.Errorf("logged %d times:\n%s", n, &logged)
				}
			})
		}
	}
	t.Run("RejectWrites", func(t *testing.T) {
		s := newSetup(t, 1, gorm.Config{}, func(c *replicated.Config) { c.RejectWrites, c.Logger = true, slog.New(slog.DiscardHandler) })
		s.slaves[0].fail = func(string) error { return &mysql.MySQLError{Number: 1792} }
		for range 2 {
			if err := s.db.WithContext(replicated.WithSlave(t.Context())).Raw(text).Row().Err(); !errors.Is(err, replicated.ErrWriteOnSlave) {
				t.Errorf("got %v, want ErrWriteOnSlave", err)
			}
		}
		if ran := s.log.take(); len(ran) > 0 {
			t.Errorf("executed: %v", ran)
		}
	})
	t.Run("another error", func(t *testing.T) {
		s := newSetup(t, 1, gorm.Config{}, nil)
		s.slaves[0].fail = func(string) error { return &mysql.MySQLError{Number: 1064} }
		var refusal *mysql.MySQLError
		if err := s.db.WithContext(replicated.WithSlave(t.Context())).Raw(text).Scan(&[]User{}).Error; !errors.As(err, &refusal) || refusal.Number != 1064 {
			t.Errorf("got %v, want the slave's own", err)
		}
		if ran := s.log.take(); len(ran) > 0 {
			t.Errorf("executed elsewhere: %v", ran)
		}
	})
}
