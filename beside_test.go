package replicated_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"
	"gorm.io/plugin/dbresolver"

	"github.com/gorm-replicated/replicated"
)

// tracer is a plugin that puts pools of its own around others: around that of each statement, or, once,
// around that of the *gorm.DB.
type tracer struct {
	once bool
	seen *int
}

func (tracer) Name() string { return "tracer" }

func (p tracer) Initialize(db *gorm.DB) error {
	if p.once {
		db.ConnPool = hiding{tracing{db.ConnPool, p.seen}}
		db.Statement.ConnPool = db.ConnPool
		return nil
	}
	wrap := func(db *gorm.DB) { db.Statement.ConnPool = &tracing{db.Statement.ConnPool, p.seen} }
	for _, err := range []error{
		db.Callback().Create().Before("*").Register("tracer", wrap),
		db.Callback().Query().Before("*").Register("tracer", wrap),
		db.Callback().Update().Before("*").Register("tracer", wrap),
		db.Callback().Delete().Before("*").Register("tracer", wrap),
		db.Callback().Row().Before("*").Register("tracer", wrap),
		db.Callback().Raw().Before("*").Register("tracer", wrap),
	} {
		if err != nil {
			return err
		}
	}
	return nil
}

// tracing counts the statements that it passes on.
type tracing struct {
	gorm.ConnPool
	seen *int
}

func (t tracing) ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error) {
	*t.seen++
	return t.ConnPool.ExecContext(ctx, query, args...)
}

func (t tracing) QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	*t.seen++
	return t.ConnPool.QueryContext(ctx, query, args...)
}

func (t tracing) QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row {
	*t.seen++
	return t.ConnPool.QueryRowContext(ctx, query, args...)
}

func (t tracing) BeginTx(ctx context.Context, opts *sql.TxOptions) (gorm.ConnPool, error) {
	if beginner, ok := t.ConnPool.(gorm.ConnPoolBeginner); ok {
		return beginner.BeginTx(ctx, opts)
	}
	return nil, gorm.ErrInvalidTransaction // it is in one
}

// hiding is one whose inner pool is in no exported field.
type hiding struct{ inner tracing }

func (h hiding) PrepareContext(ctx context.Context, query string) (*sql.Stmt, error) {
	return h.inner.PrepareContext(ctx, query)
}

func (h hiding) ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error) {
	return h.inner.ExecContext(ctx, query, args...)
}

func (h hiding) QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	return h.inner.QueryContext(ctx, query, args...)
}

func (h hiding) QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row {
	return h.inner.QueryRowContext(ctx, query, args...)
}

func (h hiding) BeginTx(ctx context.Context, opts *sql.TxOptions) (gorm.ConnPool, error) {
	return h.inner.BeginTx(ctx, opts)
}

func (h hiding) GetDBConn() (*sql.DB, error) {
	return h.inner.ConnPool.(gorm.GetDBConnector).GetDBConn()
}

// besides are the ways to use a plugin that wraps pools.
var besides = []struct {
	name          string
	before, after []gorm.Plugin
}{
	{"none", nil, nil},
	{"before", []gorm.Plugin{tracer{seen: new(int)}}, nil},
	{"after", nil, []gorm.Plugin{tracer{seen: new(int)}}},
	{"the pool of the database", nil, []gorm.Plugin{tracer{once: true, seen: new(int)}}},
}

// newBeside makes a setup with two groups and other plugins.
func newBeside(t *testing.T, config gorm.Config, before, after []gorm.Plugin) *setup {
	t.Helper()
	s := &setup{log: &fakeLog{}, routes: &routes{}}
	server := func(name string) gorm.Dialector {
		return replicated.Server{Dialector: dialector(openPool(t, &fake{name: name, log: s.log})), ID: name}
	}
	s.db = openFake(t, openPool(t, &fake{name: "master", log: s.log}), config)
	s.plugin = replicated.New(replicated.Config{
		Slaves: []gorm.Dialector{server("slave")}, Observer: s.routes,
		Logger: slog.New(slog.NewTextHandler(&s.logged, nil)),
	}).Register(replicated.Group{
		Masters: []gorm.Dialector{server("orders-master")}, Slaves: []gorm.Dialector{server("orders-slave")},
	}, "orders")
	for _, p := range slices.Concat(before, []gorm.Plugin{s.plugin}, after) {
		if err := s.db.Use(p); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() { s.plugin.Close() })
	return s
}

// TestPluginsThatWrapPools has statements run where they run without such a plugin, and be reported as often.
func TestPluginsThatWrapPools(t *testing.T) {
	first := func(db *gorm.DB) error { return db.First(&User{}).Error }
	for _, test := range []struct {
		name string
		run  func(*gorm.DB) error
	}{
		{"First", first},
		{"Find", func(db *gorm.DB) error { return db.Find(&[]User{}).Error }},
		{"raw", func(db *gorm.DB) error { return db.Raw("SELECT id, name FROM users").Scan(&[]User{}).Error }},
		{"Row", func(db *gorm.DB) error { return db.Model(&User{}).Select("name").Row().Scan(new(string)) }},
		{"Count", func(db *gorm.DB) error { return db.Model(&User{}).Count(new(int64)).Error }},
		{"FirstOrCreate", func(db *gorm.DB) error { return db.FirstOrCreate(&User{}).Error }},
		{"the clause Master", func(db *gorm.DB) error { return first(db.Clauses(replicated.Master)) }},
		{"the clause Master, a preload", func(db *gorm.DB) error {
			return db.Clauses(replicated.Master).Preload("Posts").Find(&[]Author{}).Error
		}},
		{"dbresolver.Write", func(db *gorm.DB) error { return first(db.Clauses(dbresolver.Write)) }},
		{"a preload", func(db *gorm.DB) error { return db.Preload("Posts").Find(&[]Author{}).Error }},
		{"a locking read", func(db *gorm.DB) error {
			return db.Clauses(clause.Locking{Strength: "UPDATE"}).Find(&[]User{}).Error
		}},
		{"another group", func(db *gorm.DB) error { return db.First(&Order{}).Error }},
		{"Use", func(db *gorm.DB) error { return first(db.Clauses(dbresolver.Use("orders"))) }},
		{"Use and Write", func(db *gorm.DB) error {
			return first(db.Clauses(dbresolver.Use("orders"), dbresolver.Write))
		}},
		{"Create", func(db *gorm.DB) error { return db.Create(&User{Name: "a"}).Error }},
		{"Create in another group", func(db *gorm.DB) error { return db.Create(&Order{Name: "a"}).Error }},
		{"Create with what belongs to it", func(db *gorm.DB) error {
			return db.Create(&Author{Name: "a", Posts: []Post{{Name: "b"}}}).Error
		}},
		{"Update", func(db *gorm.DB) error { return db.Model(&User{ID: 1}).Update("name", "a").Error }},
		{"Delete", func(db *gorm.DB) error { return db.Delete(&User{ID: 1}).Error }},
		{"Exec", func(db *gorm.DB) error { return db.Exec("UPDATE users SET name = 'a'").Error }},
		{"a transaction", func(db *gorm.DB) error {
			return db.Transaction(func(tx *gorm.DB) error { return first(tx) })
		}},
		{"a transaction of another group", func(db *gorm.DB) error {
			return db.Clauses(dbresolver.Use("orders"), dbresolver.Write).Transaction(first)
		}},
		{"a slave's transaction", func(db *gorm.DB) error {
			return db.Clauses(replicated.Slave).Transaction(first)
		}},
		{"writes in a slave's transaction", func(db *gorm.DB) error {
			return db.Clauses(replicated.Slave).Transaction(func(tx *gorm.DB) error {
				for _, err := range []error{
					tx.Create(&User{Name: "a"}).Error, tx.Exec("DELETE FROM users").Error,
					tx.Raw("SELECT * FROM users FOR UPDATE").Scan(&[]User{}).Error,
				} {
					if !errors.Is(err, replicated.ErrWriteOnSlave) {
						return fmt.Errorf("got %v", err)
					}
				}
				return nil
			})
		}},
		{"a connection", func(db *gorm.DB) error { return db.Connection(first) }},
		{"a write on a connection", func(db *gorm.DB) error {
			return db.Connection(func(tx *gorm.DB) error { return tx.Exec("DELETE FROM users").Error })
		}},
		{"one statement after the other", func(db *gorm.DB) error {
			tx := db.Clauses(replicated.Master).First(&User{})
			if tx.Error != nil {
				return tx.Error
			}
			return first(db)
		}},
	} {
		for _, config := range []gorm.Config{{}, {SkipDefaultTransaction: true}} {
			var routes, ran []string
			for _, beside := range besides {
				t.Run(fmt.Sprintf("%s/%t/%s", test.name, config.SkipDefaultTransaction, beside.name), func(t *testing.T) {
					s := newBeside(t, config, beside.before, beside.after)
					if err := test.run(s.db.WithContext(replicated.WithSlave(t.Context()))); err != nil {
						t.Fatal(err)
					}
					gotRoutes, gotRan := s.routes.take(), s.log.servers()
					if beside.name == "none" {
						routes, ran = gotRoutes, gotRan
					}
					expect(t, gotRoutes, routes...)
					expect(t, gotRan, ran...)
				})
			}
		}
	}
	for _, beside := range besides[1:] {
		for _, p := range slices.Concat(beside.before, beside.after) {
			if *p.(tracer).seen == 0 {
				t.Errorf("%s: the other plugin saw nothing", beside.name)
			}
		}
	}
}

// curious is a model whose hook looks something up in another database, with the context of its own
// statement.
type curious struct {
	ID   int64
	Name string
}

func (curious) TableName() string { return "users" }

// elsewhere is the key under which a hook finds the other database.
type elsewhere struct{}

func (*curious) AfterFind(tx *gorm.DB) error {
	ctx := tx.Statement.Context
	return ctx.Value(elsewhere{}).(*gorm.DB).WithContext(ctx).First(&User{}).Error
}

// TestTwoDatabasesWhosePoolsAreWrapped: a hook gives the context of its statement on to another database.
func TestTwoDatabasesWhosePoolsAreWrapped(t *testing.T) {
	for _, beside := range besides {
		t.Run(beside.name, func(t *testing.T) {
			one, two := newBeside(t, gorm.Config{}, beside.before, beside.after),
				newBeside(t, gorm.Config{}, beside.before, beside.after)
			ctx := context.WithValue(replicated.WithSlave(t.Context()), elsewhere{}, two.db)
			for range 2 { // after the first time the wrappers are known
				if err := one.db.WithContext(ctx).First(&curious{}).Error; err != nil {
					t.Fatal(err)
				}
				expect(t, one.log.servers(), "slave")
				expect(t, two.log.servers(), "slave")
				expect(t, one.routes.take(), "slave: context")
				expect(t, two.routes.take(), "slave: context")
			}
		})
	}
}

// TestPluginsThatWrapPreparedStatements has the log say that reads stay on the master, which cannot be
// helped.
func TestPluginsThatWrapPreparedStatements(t *testing.T) {
	for _, test := range []struct {
		name          string
		before, after []gorm.Plugin
		server        string
	}{
		{"before", []gorm.Plugin{tracer{seen: new(int)}}, nil, "slave"},
		{"after", nil, []gorm.Plugin{tracer{seen: new(int)}}, "master"},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := newBeside(t, gorm.Config{PrepareStmt: true}, test.before, test.after)
			for range 2 {
				if err := s.db.WithContext(replicated.WithSlave(t.Context())).Find(&[]User{}).Error; err != nil {
					t.Fatal(err)
				}
				if routes := s.routes.take(); len(routes) != 1 || !strings.HasPrefix(routes[0], test.server+":") {
					t.Errorf("reported %q", routes)
				}
				expect(t, s.log.servers(), test.server)
			}
			want := 0
			if test.server == "master" {
				want = 1
			}
			if got := strings.Count(s.logged.String(), "register that plugin before this one"); got != want {
				t.Errorf("said %d times, want %d: %s", got, want, s.logged.String())
			}
		})
	}
}

// shardsLike is a plugin by the name of gorm.io/sharding, whose pool begins the transactions of the one
// inside, and is not around them.
type shardsLike struct{ tracer }

func (shardsLike) Name() string { return "gorm:sharding" }

// TestShardsAreKept has GORM begin no transaction around a single write where gorm.io/sharding is in use: in
// it, nothing would pass through that plugin's pool. The control is the same plugin by another name.
func TestShardsAreKept(t *testing.T) {
	for _, test := range []struct {
		name  string
		other func(*int) gorm.Plugin
		kept  bool
	}{
		{"gorm:sharding", func(seen *int) gorm.Plugin { return shardsLike{tracer{seen: seen}} }, true},
		{"control: tracer", func(seen *int) gorm.Plugin { return tracer{seen: seen} }, false},
	} {
		for _, after := range []bool{false, true} {
			for _, config := range []gorm.Config{{}, {PrepareStmt: true}} {
				name := fmt.Sprintf("%s/after: %t, prepared: %t", test.name, after, config.PrepareStmt)
				t.Run(name, func(t *testing.T) {
					seen := 0
					other := []gorm.Plugin{test.other(&seen)}
					var s *setup
					if after {
						s = newBeside(t, config, nil, other)
					} else {
						s = newBeside(t, config, other, nil)
					}
					if said := strings.Contains(s.logged.String(), "gorm.io/sharding"); said != (test.kept && !after) {
						t.Errorf("db.Use said: %s", s.logged.String())
					}
					for range 2 {
						if err := s.db.Create(&User{Name: "a"}).Error; err != nil {
							t.Fatal(err)
						}
					}
					if kept := seen == 2; kept != test.kept {
						t.Errorf("%d of 2 writes passed through the other plugin's pool", seen)
					}
					if said := strings.Count(s.logged.String(), "gorm.io/sharding"); (said == 1) != test.kept {
						t.Errorf("said %d times", said)
					}
					before := seen
					err := s.db.Transaction(func(tx *gorm.DB) error { return tx.Create(&User{Name: "a"}).Error })
					if err != nil || seen != before+1 {
						t.Errorf("a write in a transaction passed through it %d times: %v", seen-before, err)
					}
				})
			}
		}
	}
}
