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
	"strings"
	"testing"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"
	"gorm.io/plugin/dbresolver"

	"github.com/gorm-replicated/replicated"
)

type Author struct {
	ID    int64
	Name  string
	Posts []Post `gorm:"foreignKey:ID"` // the fake's rows all have the same
}

type Post struct {
	ID   int64
	Name string
}

// TestStatements runs what GORM can make of the six processors under a Slave
// intent, in every mode of prepared statements: reads on the slave, all else on the master.
func TestStatements(t *testing.T) {
	var name string
	var n int64
	for _, test := range []struct {
		name string
		run  func(*gorm.DB) error
		want string
	}{
		{"First", func(db *gorm.DB) error { return db.First(&User{}).Error }, "slave-1: context"},
		{"Take", func(db *gorm.DB) error { return db.Take(&User{}).Error }, "slave-1: context"},
		{"Last", func(db *gorm.DB) error { return db.Last(&User{}).Error }, "slave-1: context"},
		{"Find", func(db *gorm.DB) error { return db.Find(&[]User{}).Error }, "slave-1: context"},
		{"Find one", func(db *gorm.DB) error { return db.Limit(1).Find(&User{}).Error }, "slave-1: context"},
		{"Find by primary key", func(db *gorm.DB) error { return db.Find(&User{}, 1).Error }, "slave-1: context"},
		{"FindInBatches", func(db *gorm.DB) error {
			return db.FindInBatches(&[]User{}, 10, func(*gorm.DB, int) error { return nil }).Error
		}, "slave-1: context"},
		{"Count", func(db *gorm.DB) error { return db.Model(&User{}).Count(&n).Error }, "slave-1: context"},
		{"Pluck", func(db *gorm.DB) error { return db.Model(&User{}).Pluck("name", &[]string{}).Error },
			"slave-1: context"},
		{"Scan", func(db *gorm.DB) error { return db.Model(&User{}).Scan(&[]User{}).Error }, "slave-1: context"},
		{"Row", func(db *gorm.DB) error { return db.Model(&User{}).Row().Scan(&n, &name) }, "slave-1: context"},
		{"Rows", func(db *gorm.DB) error { return closeRows(db.Model(&User{}).Rows()) }, "slave-1: context"},
		{"raw Scan", func(db *gorm.DB) error { return db.Raw("SELECT id, name FROM users").Scan(&[]User{}).Error },
			"slave-1: context"},
		{"raw Row", func(db *gorm.DB) error { return db.Raw("SELECT id, name FROM users").Row().Scan(&n, &name) },
			"slave-1: context"},
		{"raw Rows", func(db *gorm.DB) error { return closeRows(db.Raw("SELECT id, name FROM users").Rows()) },
			"slave-1: context"},
		{"raw Find", func(db *gorm.DB) error { return db.Raw("SELECT id, name FROM users").Find(&[]User{}).Error },
			"slave-1: context"},
		{"Exec of a SELECT", func(db *gorm.DB) error { return db.Exec("SELECT 1").Error }, "slave-1: context"},
		{"generics", func(db *gorm.DB) error {
			_, err := gorm.G[User](db).First(db.Statement.Context)
			return err
		}, "slave-1: context"},

		{"clause.Locking", func(db *gorm.DB) error {
			return db.Clauses(clause.Locking{Strength: "UPDATE"}).Find(&[]User{}).Error
		}, "master: locking read"},
		{"raw FOR UPDATE", func(db *gorm.DB) error {
			return db.Raw("SELECT * FROM users FOR UPDATE").Scan(&[]User{}).Error
		}, "master: locking read"},
		{"raw FOR SHARE", func(db *gorm.DB) error {
			return db.Raw("SELECT * FROM users FOR SHARE;").Scan(&[]User{}).Error
		}, "master: locking read"},
		{"raw LOCK IN SHARE MODE", func(db *gorm.DB) error {
			return db.Raw("SELECT * FROM users LOCK IN SHARE MODE").Scan(&[]User{}).Error
		}, "master: locking read"},
		{"GET_LOCK", func(db *gorm.DB) error {
			return db.Raw("SELECT GET_LOCK('a', 1), 'b'").Row().Scan(&n, &name)
		}, "master: locking read"},
		{"a function in a clause", func(db *gorm.DB) error {
			return db.Where("GET_LOCK('a', 1)").Find(&[]User{}).Error
		}, "master: locking read"},
		{"FirstOrInit of a map", func(db *gorm.DB) error {
			return db.Model(&User{}).FirstOrInit(&map[string]any{}).Error
		}, "master: first or create"},
		{"FirstOrCreate with a scope", func(db *gorm.DB) error {
			return db.Scopes(func(db *gorm.DB) *gorm.DB {
				return db.Order("name").Limit(3)
			}).FirstOrCreate(&User{}).Error
		}, "master: first or create"},
		{"FirstOrInit", func(db *gorm.DB) error { return db.FirstOrInit(&User{}).Error },
			"master: first or create"},
		{"FirstOrCreate", func(db *gorm.DB) error { return db.FirstOrCreate(&User{}).Error },
			"master: first or create"},

		{"Create", func(db *gorm.DB) error { return db.Create(&User{Name: "a"}).Error }, "master: write"},
		{"CreateInBatches", func(db *gorm.DB) error { return db.CreateInBatches(&[]User{{Name: "a"}}, 10).Error },
			"master: write"},
		{"Save", func(db *gorm.DB) error { return db.Save(&User{ID: 1, Name: "a"}).Error }, "master: write"},
		{"Update", func(db *gorm.DB) error { return db.Model(&User{ID: 1}).Update("name", "a").Error },
			"master: write"},
		{"UpdateColumn", func(db *gorm.DB) error { return db.Model(&User{ID: 1}).UpdateColumn("name", "a").Error },
			"master: write"},
		{"Delete", func(db *gorm.DB) error { return db.Delete(&User{ID: 1}).Error }, "master: write"},
		{"Exec", func(db *gorm.DB) error { return db.Exec("UPDATE users SET name = 'a'").Error }, "master: write"},
		{"INSERT through a query", func(db *gorm.DB) error {
			return db.Raw("INSERT INTO users (name) VALUES ('a') RETURNING id, name").Scan(&[]User{}).Error
		}, "master: write"},
		{"CALL", func(db *gorm.DB) error { return db.Raw("CALL report()").Scan(&[]User{}).Error },
			"master: unknown SQL"},
	} {
		for _, mode := range modes {
			t.Run(test.name+"/"+mode.name, func(t *testing.T) {
				s := newSetup(t, 1, mode.config, nil)
				if err := test.run(s.in(replicated.WithSlave(t.Context()), mode.session)); err != nil {
					t.Fatal(err)
				}
				expect(t, s.routes.take(), test.want)
				server, _, _ := strings.Cut(test.want, ":")
				expect(t, s.log.servers(), server)
			})
		}
	}
}

func closeRows(rows *sql.Rows, err error) error {
	if err != nil {
		return err
	}
	return rows.Close()
}

// TestClausesReachWhatFollows has an explicit clause survive all that GORM
// derives from a statement.
func TestClausesReachWhatFollows(t *testing.T) {
	get := func(s *setup, f func(context.Context)) {
		handler := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { f(r.Context()) })
		s.plugin.Middleware(handler).ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil))
	}
	for _, explicit := range []struct {
		name   string
		clause clause.Expression
		method string
		want   string
	}{
		{"Master", replicated.Master, "GET", "master"},
		{"dbresolver.Write", dbresolver.Write, "GET", "master"},
		{"Slave", replicated.Slave, "POST", "slave-1"},
		{"dbresolver.Read", dbresolver.Read, "POST", "slave-1"},
	} {
		for _, test := range []struct {
			name string
			run  func(*gorm.DB) error
		}{
			{"itself", func(db *gorm.DB) error { return db.Find(&[]User{}).Error }},
			{"Preload", func(db *gorm.DB) error { return db.Preload("Posts").Find(&[]Author{}).Error }},
			{"raw", func(db *gorm.DB) error { return db.Raw("SELECT 1").Scan(&[]User{}).Error }},
			{"Session", func(db *gorm.DB) error { return db.Session(&gorm.Session{}).Find(&[]User{}).Error }},
			{"Session with PrepareStmt", func(db *gorm.DB) error {
				return db.Session(&gorm.Session{PrepareStmt: true}).Find(&[]User{}).Error
			}},
			{"Transaction", func(db *gorm.DB) error {
				return db.Transaction(func(tx *gorm.DB) error { return tx.Find(&[]User{}).Error })
			}},
			{"Association", func(db *gorm.DB) error {
				return db.Model(&Author{ID: 1}).Association("Posts").Find(&[]Post{})
			}},
		} {
			for _, mode := range modes {
				t.Run(explicit.name+"/"+test.name+"/"+mode.name, func(t *testing.T) {
					s := newSetup(t, 1, mode.config, nil)
					get(s, func(ctx context.Context) {
						if explicit.method == "POST" {
							ctx = replicated.WithMaster(ctx)
						}
						if err := test.run(s.in(ctx, mode.session).Clauses(explicit.clause)); err != nil {
							t.Error(err)
						}
					})
					expect(t, s.log.servers(), explicit.want)
				})
			}
		}
	}
}

// TestReadAfterWriteInOneRequest has everything that writes move the reads
// that follow to the master, and everything that does not leave them.
func TestReadAfterWriteInOneRequest(t *testing.T) {
	type step func(*gorm.DB) error
	inTx := func(f step, opts ...*sql.TxOptions) step {
		return func(db *gorm.DB) error {
			return db.Transaction(func(tx *gorm.DB) error { return f(tx) }, opts...)
		}
	}
	onConn := func(f step) step {
		return func(db *gorm.DB) error { return db.Connection(func(tx *gorm.DB) error { return f(tx) }) }
	}
	create := func(db *gorm.DB) error { return db.Create(&User{Name: "a"}).Error }
	exec := func(db *gorm.DB) error { return db.Exec("UPDATE users SET name = 'a'").Error }
	read := func(db *gorm.DB) error { return db.First(&User{}).Error }
	lock := func(db *gorm.DB) error { return db.Raw("SELECT * FROM users FOR UPDATE").Scan(&[]User{}).Error }
	for _, test := range []struct {
		name string
		step step
		want string
	}{
		{"Create", create, "master"},
		{"Exec", exec, "master"},
		{"INSERT through a query", func(db *gorm.DB) error {
			return db.Raw("INSERT INTO users (name) VALUES ('a') RETURNING id, name").Scan(&[]User{}).Error
		}, "master"},
		{"unknown SQL", func(db *gorm.DB) error { return db.Exec("CALL p()").Error }, "master"},
		{"a writing function that GORM built in",
			func(db *gorm.DB) error { return db.Select("nextval(s)").Find(&[]User{}).Error }, "master"},
		{"Create in a transaction", inTx(create), "master"},
		{"Exec in a transaction", inTx(exec), "master"},
		{"nested transaction", inTx(inTx(create)), "master"},
		{"a writing function in a transaction",
			inTx(func(tx *gorm.DB) error { return tx.Select("nextval(s)").Find(&[]User{}).Error }), "master"},
		{"INSERT through Row in a transaction", inTx(func(tx *gorm.DB) error {
			return tx.Raw("INSERT INTO users VALUES (1) RETURNING id, name").Row().Err()
		}), "master"},
		{"Create on a connection", onConn(create), "master"},
		{"Exec on a connection", onConn(exec), "master"},

		{"a read", read, "slave-1"},
		{"a locking read", lock, "slave-1"},
		{"GET_LOCK", func(db *gorm.DB) error { return db.Exec("SELECT GET_LOCK('a', 1)").Error }, "slave-1"},
		{"a read in a transaction", inTx(read), "slave-1"},
		{"a read in a read-only transaction", inTx(read, &sql.TxOptions{ReadOnly: true}), "slave-1"},
		{"a locking read in a transaction", inTx(lock), "slave-1"},
		{"a nested transaction that reads", inTx(inTx(read)), "slave-1"},
		{"a read on a connection", onConn(read), "slave-1"},
		{"DryRun", func(db *gorm.DB) error { return create(db.Session(&gorm.Session{DryRun: true})) }, "slave-1"},
	} {
		for _, mode := range modes {
			t.Run(test.name+"/"+mode.name, func(t *testing.T) {
				s := newSetup(t, 1, mode.config, nil)
				handler := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
					db := s.in(r.Context(), mode.session)
					if err := test.step(db); err != nil {
						t.Errorf("step: %v", err)
					}
					s.log.take()
					if err := read(db); err != nil {
						t.Errorf("read: %v", err)
					}
				})
				s.plugin.Middleware(handler).ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil))
				expect(t, s.log.servers(), test.want)

				// The next request has written nothing.
				s.plugin.Middleware(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
					if err := read(s.in(r.Context(), mode.session)); err != nil {
						t.Error(err)
					}
				})).ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil))
				expect(t, s.log.servers(), "slave-1")
			})
		}
	}
}

type hooked struct {
	ID   int64
	Name string
}

func (hooked) TableName() string { return "users" }

func (*hooked) AfterCreate(tx *gorm.DB) error { return tx.First(&User{}).Error }

// TestHooksOfAWriteReadTheMaster needs no session: outside of a transaction
// and of a request, a hook still sees what was just written.
func TestHooksOfAWriteReadTheMaster(t *testing.T) {
	for _, mode := range modes {
		t.Run(mode.name, func(t *testing.T) {
			s := newSetup(t, 1, mode.config, func(c *replicated.Config) { c.DefaultIntent = replicated.Slave })
			if err := s.in(t.Context(), mode.session).Create(&hooked{Name: "a"}).Error; err != nil {
				t.Fatal(err)
			}
			expect(t, s.log.servers(), "master")
			if err := s.in(t.Context(), mode.session).First(&User{}).Error; err != nil {
				t.Fatal(err)
			}
			expect(t, s.log.servers(), "slave-1") // the control
		})
	}
}

func TestRejectWrites(t *testing.T) {
	for _, test := range []struct {
		name string
		run  func(*gorm.DB) error
	}{
		{"Create", func(db *gorm.DB) error { return db.Create(&User{Name: "a"}).Error }},
		{"Update", func(db *gorm.DB) error { return db.Model(&User{ID: 1}).Update("name", "a").Error }},
		{"Delete", func(db *gorm.DB) error { return db.Delete(&User{ID: 1}).Error }},
		{"Exec", func(db *gorm.DB) error { return db.Exec("DELETE FROM users").Error }},
		{"Scan", func(db *gorm.DB) error { return db.Raw("DELETE FROM users RETURNING id").Scan(&[]User{}).Error }},
		{"Row", func(db *gorm.DB) error {
			return db.Raw("DELETE FROM users RETURNING id").Row().Err()
		}},
		{"Rows", func(db *gorm.DB) error { return closeRows(db.Raw("DELETE FROM users RETURNING id").Rows()) }},
		{"a function in a query", func(db *gorm.DB) error { return db.Select("nextval(s)").Find(&[]User{}).Error }},
		{"unknown SQL", func(db *gorm.DB) error { return db.Exec("CALL p()").Error }},
	} {
		for _, mode := range modes {
			t.Run(test.name+"/"+mode.name, func(t *testing.T) {
				s := newSetup(t, 1, mode.config, func(c *replicated.Config) { c.RejectWrites = true })
				db := s.in(replicated.WithSlave(t.Context()), mode.session)
				if err := test.run(db); !errors.Is(err, replicated.ErrWriteOnSlave) {
					t.Errorf("got %v, want ErrWriteOnSlave", err)
				}
				if ran := s.log.take(); len(ran) > 0 {
					t.Errorf("executed: %v", ran)
				}
				if err := test.run(db.Clauses(replicated.Master)); err != nil {
					t.Errorf("with the clause: %v", err)
				}
				if err := test.run(s.in(replicated.WithMaster(t.Context()), mode.session)); err != nil {
					t.Errorf("under WithMaster: %v", err)
				}
				expect(t, s.log.servers(), "master")
			})
		}
	}
}

type parent struct {
	ID       int64
	Name     string
	Children []child `gorm:"foreignKey:ID"`
}

func (parent) TableName() string { return "users" }

func (*parent) AfterCreate(tx *gorm.DB) error { return tx.Exec("UPDATE users SET name = 'b'").Error }

type child struct {
	ID   int64
	Name string
}

// TestMasterClauseHoldsForWhatFollows has RejectWrites let through what a
// write that was let through brings with it.
func TestMasterClauseHoldsForWhatFollows(t *testing.T) {
	for _, mode := range modes {
		t.Run(mode.name, func(t *testing.T) {
			s := newSetup(t, 1, mode.config, func(c *replicated.Config) { c.RejectWrites = true })
			db := func() *gorm.DB {
				return s.in(replicated.WithSlave(t.Context()), mode.session).Clauses(replicated.Master)
			}
			for name, err := range map[string]error{
				"associations and hooks": db().Create(&parent{Name: "a", Children: []child{{Name: "b"}}}).Error,
				"Append":                 db().Model(&parent{ID: 1}).Association("Children").Append(&child{Name: "b"}),
				"a transaction": db().Transaction(func(tx *gorm.DB) error {
					return tx.Create(&parent{Name: "a"}).Error
				}),
			} {
				if err != nil {
					t.Errorf("%s: %v", name, err)
				}
			}
			expect(t, s.log.servers(), "master")
			err := s.in(replicated.WithSlave(t.Context()), mode.session).Create(&parent{Name: "a"}).Error
			if !errors.Is(err, replicated.ErrWriteOnSlave) {
				t.Errorf("the control, without the clause: %v", err)
			}
		})
	}
}

// TestSlaveClauseVouchesForItsStatementAlone has what GORM derives from a
// statement read from the slave, but not run unknown SQL or write in a transaction there.
func TestSlaveClauseVouchesForItsStatementAlone(t *testing.T) {
	for _, mode := range modes {
		t.Run(mode.name, func(t *testing.T) {
			s := newSetup(t, 1, mode.config, nil)
			explicit := func() *gorm.DB { return s.in(t.Context(), mode.session).Clauses(replicated.Slave) }
			if err := explicit().Exec("CALL p()").Error; err != nil {
				t.Error(err)
			}
			expect(t, s.log.servers(), "slave-1")
			inBatch := func(f func(*gorm.DB) error) {
				t.Helper()
				err := explicit().FindInBatches(&[]User{}, 10, func(tx *gorm.DB, _ int) error {
					s.log.take()
					return f(tx)
				}).Error
				if err != nil {
					t.Error(err)
				}
			}
			inBatch(func(tx *gorm.DB) error { return tx.First(&User{}).Error })
			expect(t, s.log.servers(), "slave-1")
			inBatch(func(tx *gorm.DB) error { return tx.Exec("CALL p()").Error })
			expect(t, s.log.servers(), "master")
			inBatch(func(tx *gorm.DB) error {
				return tx.Transaction(func(tx *gorm.DB) error { return tx.Create(&User{Name: "a"}).Error })
			})
			expect(t, s.log.servers(), "master")
		})
	}
}

// TestClauseOutlivesWhatReplacesThePool has GORM go back to the configured
// pool after a write, and in a session that prepares.
func TestClauseOutlivesWhatReplacesThePool(t *testing.T) {
	readOnly := &sql.TxOptions{ReadOnly: true}
	for _, mode := range modes {
		t.Run(mode.name, func(t *testing.T) {
			s := newSetup(t, 1, mode.config, nil)
			master := func() *gorm.DB {
				return s.in(replicated.WithSlave(t.Context()), mode.session).Clauses(replicated.Master)
			}
			slave := func() *gorm.DB { return s.in(t.Context(), mode.session).Clauses(replicated.Slave) }
			read := func(tx *gorm.DB) error { return tx.First(&User{}).Error }

			db := master()
			err := errors.Join(db.Create(&User{Name: "a"}).Error,
				db.Session(&gorm.Session{NewDB: true}).First(&User{}).Error)
			if err != nil {
				t.Error(err)
			}
			expect(t, s.log.servers(), "master")
			if err := master().Session(&gorm.Session{PrepareStmt: true}).Transaction(read, readOnly); err != nil {
				t.Error(err)
			}
			expect(t, s.log.servers(), "master")
			for range 2 {
				if err := slave().Session(&gorm.Session{PrepareStmt: true}).Transaction(read); err != nil {
					t.Error(err)
				}
				expect(t, s.log.servers(), "slave-1")
			}
			// The clause was for that handle alone.
			if err := s.in(replicated.WithSlave(t.Context()), mode.session).First(&User{}).Error; err != nil {
				t.Error(err)
			}
			expect(t, s.log.servers(), "slave-1")
		})
	}
}

// TestDryRun executes nothing that was asked for, marks nothing and reports nothing.
func TestDryRun(t *testing.T) {
	s := newSetup(t, 1, gorm.Config{SkipDefaultTransaction: true}, nil)
	db := s.db.WithContext(replicated.WithSlave(t.Context())).Session(&gorm.Session{DryRun: true})
	db.Create(&User{Name: "a"})
	db.First(&User{})
	db.Exec("DELETE FROM users")
	s.db.ToSQL(func(tx *gorm.DB) *gorm.DB { return tx.First(&User{}) })
	if ran, routes := s.log.take(), s.routes.take(); len(ran)+len(routes) > 0 {
		t.Errorf("ran %v, reported %v", ran, routes)
	}
	s = newSetup(t, 1, gorm.Config{}, nil)
	s.db.Session(&gorm.Session{DryRun: true}).Create(&User{Name: "a"}) // GORM wraps even this in a transaction
	if routes := s.routes.take(); len(routes) > 0 {
		t.Errorf("reported %v", routes)
	}
	tx := s.db.Begin()
	defer tx.Rollback()
	failed := tx.Session(&gorm.Session{})
	_ = failed.AddError(errors.New("an error before"))
	s.log.take()
	s.routes.take()
	for _, db := range []*gorm.DB{tx.Session(&gorm.Session{DryRun: true}), failed} {
		db.First(&User{})
		db.Exec("DELETE FROM users")
		db.Raw("SELECT 1").Scan(&[]User{})
	}
	if ran, routes := s.log.take(), s.routes.take(); len(ran)+len(routes) > 0 {
		t.Errorf("in a transaction: ran %v, reported %v", ran, routes)
	}
	tx.First(&User{}) // the control
	expect(t, s.routes.take(), "master: bound")
}

func TestWriteFunctions(t *testing.T) {
	s := newSetup(t, 1, gorm.Config{}, func(c *replicated.Config) {
		c.WriteFunctions = []string{"shop.Book_Seat"}
	})
	db := s.db.WithContext(replicated.WithSlave(t.Context()))
	for _, sql := range []string{"SELECT book_seat(1), 1", "SELECT `shop`.BOOK_SEAT (1), 1",
		"SELECT read_seat(1), 1"} {
		if err := db.Raw(sql).Scan(&[]User{}).Error; err != nil {
			t.Error(err)
		}
	}
	expect(t, s.routes.take(), "master: write", "master: write", "slave-1: context")
}

// TestSessionsMadeBeforeUse carry the master's raw pool, and are routed all the same.
func TestSessionsMadeBeforeUse(t *testing.T) {
	for _, mode := range modes {
		t.Run(mode.name, func(t *testing.T) {
			log := &fakeLog{}
			db := openFake(t, openPool(t, &fake{name: "master", log: log}), mode.config)
			before := db.WithContext(replicated.WithSlave(t.Context()))
			if mode.session != nil {
				before = before.Session(mode.session)
			}
			p := replicated.New(replicated.Config{
				Slaves: []gorm.Dialector{dialector(sql.OpenDB(&fake{name: "slave", log: log}))},
			})
			if err := db.Use(p); err != nil {
				t.Fatal(err)
			}
			defer p.Close()
			if err := before.First(&User{}).Error; err != nil {
				t.Fatal(err)
			}
			expect(t, log.servers(), "slave")
			if err := before.Create(&User{Name: "a"}).Error; err != nil {
				t.Fatal(err)
			}
			expect(t, log.servers(), "master")
		})
	}
}

func TestFrom(t *testing.T) {
	s := newSetup(t, 1, gorm.Config{}, nil)
	if got := replicated.From(s.db.WithContext(t.Context())); got != s.plugin {
		t.Errorf("From: %p, want %p", got, s.plugin)
	}
	if got := replicated.From(openFake(t, openPool(t, &fake{}), gorm.Config{})); got != nil {
		t.Errorf("From without the plugin: %p", got)
	}
	if got := replicated.From(nil); got != nil {
		t.Errorf("From(nil): %p", got)
	}
}

// TestPluginInGormConfig initializes the plugin while GORM opens the database.
func TestPluginInGormConfig(t *testing.T) {
	log := &fakeLog{}
	p := replicated.New(replicated.Config{
		Slaves: []gorm.Dialector{dialector(sql.OpenDB(&fake{name: "slave", log: log}))},
	})
	db := openFake(t, openPool(t, &fake{name: "master", log: log}),
		gorm.Config{Plugins: map[string]gorm.Plugin{p.Name(): p}})
	defer p.Close()
	if replicated.From(db) != p {
		t.Error("From does not find it")
	}
	if err := db.WithContext(replicated.WithSlave(t.Context())).First(&User{}).Error; err != nil {
		t.Fatal(err)
	}
	expect(t, log.servers(), "slave")
}

func TestSecondInitialize(t *testing.T) {
	s := newSetup(t, 1, gorm.Config{}, nil)
	other := openFake(t, openPool(t, &fake{name: "other"}), gorm.Config{})
	for name, db := range map[string]*gorm.DB{"the same database": s.db, "another database": other} {
		if err := s.plugin.Initialize(db); err == nil || !strings.Contains(err.Error(), "already in use") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := s.db.Use(replicated.New(replicated.Config{})); err == nil {
		t.Error("two plugins on one database: no error")
	}
	err := replicated.New(replicated.Config{}).Initialize(s.db)
	if err == nil || !strings.Contains(err.Error(), "already routes") {
		t.Errorf("two plugins on one database, Initialize: %v", err)
	}
	if err := other.Use(replicated.New(replicated.Config{})); err != nil {
		t.Errorf("the refused database is spoilt: %v", err)
	}
}

func TestDBResolverOnTheSameDB(t *testing.T) {
	resolver := func(log *fakeLog) gorm.Plugin {
		return dbresolver.Register(dbresolver.Config{
			Replicas: []gorm.Dialector{dialector(openPool(t, &fake{name: "replica", log: log}))},
		})
	}
	t.Run("before", func(t *testing.T) {
		db := openFake(t, openPool(t, &fake{}), gorm.Config{})
		if err := db.Use(resolver(nil)); err != nil {
			t.Fatal(err)
		}
		err := db.Use(replicated.New(replicated.Config{}))
		if err == nil || !strings.Contains(err.Error(), "Config.Slaves") {
			t.Errorf("got %v, want how to move over", err)
		}
	})
	t.Run("after", func(t *testing.T) {
		var logged bytes.Buffer
		s := newSetup(t, 1, gorm.Config{}, func(c *replicated.Config) {
			c.Logger = slog.New(slog.NewTextHandler(&logged, nil))
		})
		s.db.First(&User{})
		if logged.Len() > 0 {
			t.Errorf("logged without dbresolver: %s", &logged)
		}
		if err := s.db.Use(resolver(s.log)); err != nil {
			t.Fatal(err)
		}
		for range 3 {
			s.db.First(&User{})
		}
		if n := strings.Count(logged.String(), "Config.Slaves"); n != 1 {
			t.Errorf("logged %d times how to move over:\n%s", n, &logged)
		}
	})
}

func TestWithoutIntentIsCounted(t *testing.T) {
	s := newSetup(t, 1, gorm.Config{}, nil)
	s.plugin.Middleware(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		s.db.WithContext(r.Context()).First(&User{})
		if n := s.plugin.Status().WithoutIntent; n != 0 {
			t.Errorf("with the request's context: counted %d", n)
		}
		s.db.First(&User{})
		s.db.Create(&User{Name: "a"})
	})).ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil))
	if n := s.plugin.Status().WithoutIntent; n != 2 {
		t.Errorf("without it: counted %d, want 2", n)
	}
	expect(t, s.routes.take(), "slave-1: method", "master: default intent", "master: write")
}

func TestStatus(t *testing.T) {
	if got := replicated.New(replicated.Config{}).Status(); !got.AutoReadOnSlave || got.Groups != nil {
		t.Errorf("before Initialize: %+v", got)
	}
	s := newSetup(t, 2, gorm.Config{}, nil)
	status := s.plugin.Status()
	if len(status.Groups) != 1 {
		t.Fatalf("%+v", status)
	}
	var servers []string
	for _, server := range status.Groups[0].Servers {
		servers = append(servers, fmt.Sprintf("%s %v", server.ID, server.Role))
	}
	expect(t, servers, "master master", "slave-1 slave", "slave-2 slave")
}

// named is a dialector under another name.
type named struct {
	gorm.Dialector
	name string
}

func (n named) Name() string { return n.name }

// TestDialects has what is different where the SQL cannot be judged, or does
// not show what the clauses asked for.
func TestDialects(t *testing.T) {
	for _, test := range []struct {
		name, dialect string
		run           func(*gorm.DB) error
		want          string // the statement's route
		after         string // that of a read after it
	}{
		{"built query, unknown dialect", "sqlserver", func(db *gorm.DB) error { return db.First(&User{}).Error },
			"slave: method", "slave: method"},
		{"raw query, unknown dialect", "sqlserver", func(db *gorm.DB) error {
			return db.Raw("SELECT 1").Scan(&[]User{}).Error
		}, "master: unknown SQL", "master: session wrote"},
		{"raw query in a transaction, unknown dialect", "sqlserver", func(db *gorm.DB) error {
			return db.Transaction(func(tx *gorm.DB) error { return tx.Raw("SELECT 1").Scan(&[]User{}).Error })
		}, "master: transaction", "master: session wrote"},
		{"built query in a transaction, unknown dialect", "sqlserver", func(db *gorm.DB) error {
			return db.Transaction(func(tx *gorm.DB) error { return tx.First(&User{}).Error })
		}, "master: transaction", "slave: method"},
		{"raw query with a clause, unknown dialect", "sqlserver", func(db *gorm.DB) error {
			return db.Clauses(replicated.Slave).Raw("SELECT 1").Scan(&[]User{}).Error
		}, "slave: clause", "master: session wrote"},
		{"locking, unknown dialect", "sqlserver", func(db *gorm.DB) error {
			return db.Clauses(clause.Locking{Strength: "UPDATE"}).Find(&[]User{}).Error
		}, "master: locking read", "slave: method"},
		{"locking, SQLite leaves it out", "sqlite", func(db *gorm.DB) error {
			return db.Clauses(clause.Locking{Strength: "UPDATE"}).Find(&[]User{}).Error
		}, "master: locking read", "slave: method"},
		{"locking in a subquery, unknown dialect", "sqlserver", func(db *gorm.DB) error {
			ids := db.Session(&gorm.Session{NewDB: true}).Model(&User{}).Select("id")
			return db.Where("id IN (?)", ids.Clauses(clause.Locking{Strength: "UPDATE"})).Find(&[]User{}).Error
		}, "master: locking read", "slave: method"},
		{"raw locking, unknown dialect", "sqlserver", func(db *gorm.DB) error {
			return db.Raw("SELECT * FROM users FOR UPDATE").Scan(&[]User{}).Error
		}, "master: unknown SQL", "master: session wrote"},
		{"raw write with a clause, unknown dialect", "sqlserver", func(db *gorm.DB) error {
			return db.Clauses(replicated.Slave).Exec("UPDATE users SET name = 'a'").Error
		}, "master: write", "master: session wrote"},
		{"the pool of a finished query, unknown dialect", "sqlserver", func(db *gorm.DB) error {
			tx := db.Clauses(replicated.Slave).Find(&[]User{})
			_, err := tx.Statement.ConnPool.ExecContext(db.Statement.Context, "UPDATE users SET name = 'a'")
			return err
		}, "slave: clause", "master: session wrote"},
		{"raw query, PostgreSQL", "postgres", func(db *gorm.DB) error {
			return db.Raw("SELECT 1").Scan(&[]User{}).Error
		}, "slave: method", "slave: method"},
		{"locking, PostgreSQL", "postgres", func(db *gorm.DB) error {
			return db.Clauses(clause.Locking{Strength: "NO KEY UPDATE"}).First(&User{}).Error
		}, "master: locking read", "slave: method"},
		{"a sequence, PostgreSQL", "postgres", func(db *gorm.DB) error {
			return db.Raw("SELECT nextval('s')").Scan(&[]User{}).Error
		}, "master: write", "master: session wrote"},
		{"a procedure, PostgreSQL", "postgres", func(db *gorm.DB) error { return db.Exec("CALL p()").Error },
			"master: unknown SQL", "master: session wrote"},
		{"raw query, SQLite", "sqlite", func(db *gorm.DB) error { return db.Raw("SELECT 1").Scan(&[]User{}).Error },
			"slave: method", "slave: method"},
		{"raw write, SQLite", "sqlite", func(db *gorm.DB) error { return db.Exec("VACUUM").Error }, "master: write",
			"master: session wrote"},
	} {
		run := func(t *testing.T, config gorm.Config) {
			routes := &routes{}
			db := openDialector(t, named{dialector(openPool(t, &fake{name: "master"})), test.dialect}, config)
			if test.dialect == "sqlite" {
				db.ClauseBuilders["FOR"] = func(clause.Clause, clause.Builder) {}
			}
			p := replicated.New(replicated.Config{Observer: routes, Slaves: []gorm.Dialector{
				replicated.Server{Dialector: named{dialector(openPool(t, &fake{name: "slave"})), test.dialect},
					ID: "slave"},
			}, Probe: replicated.ProbeConfig{Interval: -1}}) // a fake answers no questions
			if err := db.Use(p); err != nil {
				t.Fatal(err)
			}
			defer p.Close()
			p.Middleware(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				db := db.WithContext(r.Context())
				if err := test.run(db); err != nil {
					t.Error(err)
				}
				if got := routes.take(); len(got) == 0 || got[0] != test.want {
					t.Errorf("got %q, want %q", got, test.want)
				}
				db.First(&User{})
				expect(t, routes.take(), test.after)
			})).ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil))
		}
		t.Run(test.name, func(t *testing.T) { run(t, gorm.Config{}) })
		t.Run(test.name+"/PrepareStmt", func(t *testing.T) { run(t, gorm.Config{PrepareStmt: true}) })
	}
}
