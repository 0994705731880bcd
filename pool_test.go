package replicated_test

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"
	"gorm.io/gorm"
	"gorm.io/plugin/dbresolver"

	"github.com/gorm-replicated/replicated"
)

// TestPreparingAWriteCountsAsWriting covers statements that are prepared by hand.
func TestPreparingAWriteCountsAsWriting(t *testing.T) {
	prepare := func(s *setup, query string) (err error) {
		s.plugin.Middleware(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			db := s.db.WithContext(r.Context())
			var stmt *sql.Stmt
			if stmt, err = db.Statement.ConnPool.PrepareContext(r.Context(), query); err == nil {
				stmt.Close()
			}
			db.First(&User{})
		})).ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil))
		return err
	}
	s := newSetup(t, 1, gorm.Config{}, nil)
	for query, want := range map[string]string{"DELETE FROM users": "master: session wrote",
		"SELECT 1": "slave-1: method"} {
		if err := prepare(s, query); err != nil {
			t.Error(err)
		}
		expect(t, s.routes.take(), want)
	}
	s = newSetup(t, 1, gorm.Config{}, func(c *replicated.Config) { c.RejectWrites = true })
	if err := prepare(s, "DELETE FROM users"); !errors.Is(err, replicated.ErrWriteOnSlave) {
		t.Errorf("with RejectWrites: %v", err)
	}
}

func TestOneSlavePerRequest(t *testing.T) {
	s := newSetup(t, 3, gorm.Config{}, func(c *replicated.Config) { c.Policy = dbresolver.RoundRobinPolicy() })
	seen := map[string]bool{}
	handler := s.plugin.Middleware(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		db := s.db.WithContext(r.Context())
		for range 10 {
			db.First(&User{})
			db.Raw("SELECT 1").Scan(&[]User{})
		}
		db.Transaction(func(tx *gorm.DB) error { return tx.First(&User{}).Error }, &sql.TxOptions{ReadOnly: true})
	}))
	for range 6 {
		handler.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil))
		servers := s.log.servers()
		if len(servers) != 1 {
			t.Errorf("one request was served by %v", servers)
		}
		seen[servers[0]] = true
	}
	if len(seen) != 3 {
		t.Errorf("six requests in turn were served by %v", seen)
	}

	// The control: outside of a request every statement takes the next slave.
	db := s.db.WithContext(replicated.WithSlave(t.Context()))
	for range 3 {
		db.First(&User{})
	}
	if servers := s.log.servers(); len(servers) != 3 {
		t.Errorf("three statements in turn were served by %v", servers)
	}
}

// TestPrepareErrorComesAsARow covers GORM's empty Row, whose Scan panics.
func TestPrepareErrorComesAsARow(t *testing.T) {
	broken := errors.New("no such table")
	s := newSetup(t, 1, gorm.Config{PrepareStmt: true}, nil)
	s.slaves[0].fail = func(string) error { return broken }
	var id int64
	err := s.db.WithContext(replicated.WithSlave(t.Context())).Raw("SELECT id FROM users").Row().Scan(&id)
	if !errors.Is(err, broken) {
		t.Errorf("got %v, want %v", err, broken)
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
						err := db.Transaction(func(tx *gorm.DB) error {
							return tx.First(&User{}).Error
						}, &sql.TxOptions{ReadOnly: true})
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
				s := newSetup(t, 1, mode.config, func(c *replicated.Config) {
					c.Logger = slog.New(slog.NewTextHandler(&logged, nil))
				})
				s.slaves[0].fail = func(sql string) error {
					if strings.Contains(sql, "book_seat") {
						return &mysql.MySQLError{Number: 1290,
							Message: "The MariaDB server is running with the --read-only option"}
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
		s := newSetup(t, 1, gorm.Config{}, func(c *replicated.Config) {
			c.RejectWrites, c.Logger = true, slog.New(slog.DiscardHandler)
		})
		s.slaves[0].fail = func(string) error { return &mysql.MySQLError{Number: 1792} }
		for range 2 {
			err := s.db.WithContext(replicated.WithSlave(t.Context())).Raw(text).Row().Err()
			if !errors.Is(err, replicated.ErrWriteOnSlave) {
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
		err := s.db.WithContext(replicated.WithSlave(t.Context())).Raw(text).Scan(&[]User{}).Error
		if !errors.As(err, &refusal) || refusal.Number != 1064 {
			t.Errorf("got %v, want the slave's own", err)
		}
		if ran := s.log.take(); len(ran) > 0 {
			t.Errorf("executed elsewhere: %v", ran)
		}
	})
}

// TestRefusedByShape has a slave refuse texts that differ in literals and comments alone: one detour for all
// of them, one line in the log without their literals.
func TestRefusedByShape(t *testing.T) {
	for _, test := range []struct {
		name    string
		text    string
		detours int
	}{
		{"a trace in a comment", "SELECT book_seat('s3cret') /* trace %d */", 1},
		{"an inlined literal", "SELECT book_seat(%d)", 1},
		{"the control: another function", "SELECT book_seat_%d()", 200},
	} {
		t.Run(test.name, func(t *testing.T) {
			var logged logBuffer
			s := newSetup(t, 1, gorm.Config{}, func(c *replicated.Config) {
				c.Logger = slog.New(slog.NewTextHandler(&logged, nil))
			})
			lines := func() int { return strings.Count(logged.String(), "refused a statement") }
			refused := 0
			s.slaves[0].fail = func(string) error { refused++; return mysqlError(1792) }
			for i := range 200 {
				db := s.db.WithContext(replicated.WithSlave(t.Context()))
				if err := db.Raw(fmt.Sprintf(test.text, i)).Scan(&[]User{}).Error; err != nil {
					t.Fatal(err)
				}
				// A log that is behind drops lines: let it keep up.
				for until := time.Now().Add(10 * time.Second); lines() < refused && time.Now().Before(until); {
					runtime.Gosched()
				}
			}
			if refused != test.detours || lines() != test.detours {
				t.Errorf("%d detours, %d lines in the log, want %d", refused, lines(), test.detours)
			}
			if strings.Contains(logged.String(), "s3cret") {
				t.Errorf("a literal is in the log:\n%s", logged.String())
			}
		})
	}
}

// TestStalePlan has a server refuse a prepared statement because DDL changed
// what it returns: it is prepared anew there, by the bounded number of attempts that this may take.
func TestStalePlan(t *testing.T) {
	stale := &mysql.MySQLError{Number: 1615, Message: "Prepared statement needs to be re-prepared"}
	for _, mode := range modes {
		for _, test := range []struct {
			name string
			ctx  context.Context
			run  func(*gorm.DB) error
			on   string
		}{
			{"Find", replicated.WithSlave(t.Context()), func(db *gorm.DB) error { return db.Find(&[]User{}).Error },
				"slave-1"},
			{"Row", replicated.WithSlave(t.Context()),
				func(db *gorm.DB) error { return db.Raw("SELECT 1").Row().Err() }, "slave-1"},
			{"Exec", replicated.WithSlave(t.Context()), func(db *gorm.DB) error { return db.Exec("SELECT 1").Error },
				"slave-1"},
			{"on the master", replicated.WithMaster(t.Context()),
				func(db *gorm.DB) error { return db.Find(&[]User{}).Error }, "master"},
		} {
			t.Run(test.name+"/"+mode.name, func(t *testing.T) {
				s := newSetup(t, 1, mode.config, nil)
				db := s.in(test.ctx, mode.session)
				if err := test.run(db); err != nil {
					t.Fatal(err)
				}
				failures := 0
				fail := func(string) error {
					if failures > 0 {
						failures--
						return stale
					}
					return nil
				}
				s.master.fail, s.slaves[0].fail = fail, fail
				for n, want := range map[int]error{1: nil, 2: nil, 100: stale} {
					s.log.take()
					failures = n
					if err := test.run(db); !errors.Is(err, want) {
						t.Errorf("%d times: %v, want %v", n, err, want)
					}
					if want != nil && failures < n-6 {
						t.Errorf("tried %d times", n-failures)
					}
					failures = 0
					if want == nil {
						expect(t, s.log.servers(), test.on)
					}
				}
				if err := test.run(db); err != nil {
					t.Errorf("afterwards: %v", err)
				}
			})
		}
	}
}

// TestStalePlanOfAWrite has a slave refuse a statement as a write that it had to prepare anew: it is known as
// a write by the text that was asked.
func TestStalePlanOfAWrite(t *testing.T) {
	for _, mode := range modes {
		t.Run(mode.name, func(t *testing.T) {
			s := newSetup(t, 1, mode.config, nil)
			attempts := 0
			s.slaves[0].fail = func(string) error {
				if attempts++; attempts == 1 {
					return &mysql.MySQLError{Number: 1615, Message: "Prepared statement needs to be re-prepared"}
				}
				return &mysql.MySQLError{Number: 1290, Message: "The MySQL server is running with the --read-only option"}
			}
			db := s.in(replicated.WithSlave(t.Context()), mode.session)
			for range 2 {
				if err := db.Raw("SELECT next_number()").Scan(&[]User{}).Error; err != nil {
					t.Error(err)
				}
				expect(t, s.log.servers(), "master")
			}
			if attempts != 2 {
				t.Errorf("the slave was asked %d times, want 2: it was learned the first time", attempts)
			}
		})
	}
}
