package replicated_test

import (
	"bytes"
	"database/sql"
	"errors"
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
			t.Helper()
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

// TestNoSlaves has everything as it is without the plugin.
func TestNoSlaves(t *testing.T) {
	for _, mode := range modes {
		t.Run(mode.name, func(t *testing.T) {
			s := newSetup(t, 0, mode.config, nil)
			db := s.in(replicated.WithSlave(t.Context()), mode.session)
			db.First(&User{})
			db.Clauses(replicated.Slave).First(&User{})
			db.Create(&User{Name: "a"})
			db.Transaction(func(tx *gorm.DB) error { return tx.First(&User{}).Error }, &sql.TxOptions{ReadOnly: true})
			expect(t, s.log.servers(), "master")
			for _, route := range s.routes.take() {
				if route != "master: no slaves" && route != "master: bound" {
					t.Error(route)
				}
			}
		})
	}
}

func TestDBStillIsTheMaster(t *testing.T) {
	for _, mode := range modes {
		t.Run(mode.name, func(t *testing.T) {
			s := newSetup(t, 1, mode.config, nil)
			db := s.in(replicated.WithSlave(t.Context()), mode.session)
			if got, err := db.DB(); err != nil || got != s.raw {
				t.Errorf("DB: %p, %v; want %p", got, err, s.raw)
			}
			tx := db.Begin()
			defer tx.Rollback()
			if got, err := tx.DB(); err != nil || got != s.raw {
				t.Errorf("DB of a transaction: %p, %v; want %p", got, err, s.raw)
			}
		})
	}
}

func TestClose(t *testing.T) {
	for _, mode := range modes {
		t.Run(mode.name, func(t *testing.T) {
			s := newSetup(t, 2, mode.config, nil)
			db := s.in(replicated.WithSlave(t.Context()), mode.session)
			rows, err := db.Model(&User{}).Rows()
			if err != nil {
				t.Fatal(err)
			}
			tx := db.Begin(&sql.TxOptions{ReadOnly: true})
			for range 2 {
				if err := s.plugin.Close(); err != nil {
					t.Errorf("Close: %v", err)
				}
			}
			if !rows.Next() || rows.Close() != nil {
				t.Error("a running query did not finish")
			}
			if err := tx.Rollback().Error; err != nil {
				t.Errorf("a running transaction did not finish: %v", err)
			}
			s.log.take()
			for _, err := range []error{db.First(&User{}).Error, db.Create(&User{Name: "a"}).Error,
				db.Clauses(replicated.Slave).First(&User{}).Error} {
				if err != nil {
					t.Errorf("after Close: %v", err)
				}
			}
			expect(t, s.log.servers(), "master")
		})
	}
	if err := replicated.New(replicated.Config{}).Close(); err != nil {
		t.Errorf("Close before Initialize: %v", err)
	}
}

// TestCloseWhileQueriesRun has readers and Close race: no read may fail.
func TestCloseWhileQueriesRun(t *testing.T) {
	for _, mode := range modes {
		t.Run(mode.name, func(t *testing.T) {
			s := newSetup(t, 2, mode.config, nil)
			db := s.in(replicated.WithSlave(t.Context()), mode.session)
			started, done := make(chan struct{}, 8), make(chan error)
			for range 4 {
				go func() {
					var errs []error
					for i := range 200 {
						var id int64
						var name string
						errs = append(errs, db.First(&User{}).Error, db.Raw("SELECT 1").Row().Scan(&id, &name),
							db.Exec("SELECT 1").Error)
						if i == 20 {
							started <- struct{}{}
						}
					}
					done <- errors.Join(errs...)
				}()
			}
			<-started
			if err := s.plugin.Close(); err != nil {
				t.Errorf("Close: %v", err)
			}
			for range 4 {
				if err := <-done; err != nil {
					t.Error(err)
				}
			}
		})
	}
}
