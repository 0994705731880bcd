package replicated_test

import (
	"context"
	"database/sql"
	"errors"
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
