package integration

import (
	"context"
	"net/http"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-gormigrate/gormigrate/v2"
	"gorm.io/driver/mysql"
	"gorm.io/gorm"
	"gorm.io/plugin/dbresolver"

	"github.com/gorm-replicated/replicated"
)

// dbrBefore is the program for dbresolver in docs/migrating.md, dbrAfter the one that takes its place.
func dbrBefore(db *gorm.DB, db2, db3, db4, db5, db6, db7, db8 string) error {
	type (
		User    struct{ ID int64 }
		Address struct{ ID int64 }
		Product struct{ ID int64 }
	)
	if err := db.Use(dbresolver.Register(dbresolver.Config{
		Sources:           []gorm.Dialector{mysql.Open(db2)},
		Replicas:          []gorm.Dialector{mysql.Open(db3), mysql.Open(db4)},
		Policy:            dbresolver.RandomPolicy{},
		TraceResolverMode: true,
	}).Register(dbresolver.Config{
		Replicas: []gorm.Dialector{mysql.Open(db5)},
	}, &User{}, &Address{}).Register(dbresolver.Config{
		Sources:  []gorm.Dialector{mysql.Open(db6), mysql.Open(db7)},
		Replicas: []gorm.Dialector{mysql.Open(db8)},
	}, "orders", &Product{}, "secondary").SetMaxOpenConns(100)); err != nil {
		return err
	}
	return nil
}

func dbrAfter(db *gorm.DB, db2, db3, db4, db5, db6, db7, db8 string) error {
	type (
		User    struct{ ID int64 }
		Address struct{ ID int64 }
		Product struct{ ID int64 }
	)
	limits := replicated.PoolConfig{MaxOpen: 100}
	plugin := replicated.New(replicated.Config{
		Masters:       []gorm.Dialector{mysql.Open(db2)},
		Slaves:        []gorm.Dialector{mysql.Open(db3), mysql.Open(db4)},
		Policy:        dbresolver.RandomPolicy{},
		Pool:          limits,
		DefaultIntent: replicated.Slave,
	}).Register(replicated.Group{
		Slaves: []gorm.Dialector{mysql.Open(db5)},
		Pool:   limits,
	}, &User{}, &Address{}).Register(replicated.Group{
		Masters: []gorm.Dialector{mysql.Open(db6), mysql.Open(db7)},
		Slaves:  []gorm.Dialector{mysql.Open(db8)},
		Pool:    limits,
	}, "orders", &Product{}, "secondary")
	if err := db.Use(plugin); err != nil {
		return err
	}
	return nil
}

// dbrGuide runs both programs of the guide.
func dbrGuide(t *testing.T, s *dbrServers) {
	for _, program := range []struct {
		name string
		use  func(db *gorm.DB, db2, db3, db4, db5, db6, db7, db8 string) error
	}{{"before", dbrBefore}, {"after", dbrAfter}} {
		t.Run(program.name, func(t *testing.T) {
			// A master without a position does not tell that its slaves replicate nothing.
			for _, real := range s.real {
				if _, err := real.DB().Exec(real.Words("RESET MASTER")); err != nil {
					t.Fatal(err)
				}
			}
			db := s.plain(t, "own")
			err := program.use(db, s.dsn["source"], s.dsn["replica_1"], s.dsn["replica_2"], s.dsn["users_replica"],
				s.dsn["orders_source_1"], s.dsn["orders_source_2"], s.dsn["orders_replica"])
			if err != nil {
				t.Fatal(err)
			}
			r := &dbrRun{t: t, servers: s, dbrDB: dbrDB{DB: db, log: &dbrLog{}}}
			for _, query := range []string{"pets", "users", "orders", "products"} {
				r.scan(db, "SELECT name FROM "+query)
				r.scan(db, "SELECT name FROM "+query+" FOR UPDATE")
			}
			want := strings.Fields(
				"replica source users_replica own orders_replica orders_source orders_replica orders_source")
			if !dbrMatch(want, r.answers) {
				t.Errorf("answered by %v, want %v; %v", r.answers, want, r.errs)
			}
			if p := replicated.From(db); p != nil {
				t.Cleanup(func() { p.Close() })
			} else {
				dr := db.Plugins["gorm:db_resolver"].(*dbresolver.DBResolver)
				t.Cleanup(func() {
					_ = dr.Call(func(pool gorm.ConnPool) error { return pool.(interface{ Close() error }).Close() })
				})
			}
		})
	}
}

// dbrCalls has the calls that the tables of the guide name. It is compiled, and not run.
func dbrCalls(config dbresolver.Config, group replicated.Group, db *gorm.DB, r *http.Request) {
	type User struct{}
	const n, d = 1, time.Second
	f := func(gorm.ConnPool) error { return nil }
	_ = dbresolver.Register(config).
		Register(config, &User{}, "orders", "secondary").
		SetMaxOpenConns(n).
		SetMaxIdleConns(n).
		SetConnMaxLifetime(d).
		SetConnMaxIdleTime(d).
		Call(f)
	_ = []dbresolver.Policy{dbresolver.RandomPolicy{}, dbresolver.RoundRobinPolicy(),
		dbresolver.StrictRoundRobinPolicy()}
	_ = db.Plugins["gorm:db_resolver"]

	sqlDB, err := db.DB()
	_ = err
	sqlDB.SetMaxOpenConns(n)
	_ = mysql.New(mysql.Config{Conn: sqlDB})
	_ = db.Clauses(dbresolver.Write)
	_ = db.Clauses(dbresolver.Read)
	_ = db.Clauses(replicated.Master)
	_ = db.Clauses(replicated.Slave)
	_ = db.Clauses(dbresolver.Use("secondary"))
	_ = db.Clauses(dbresolver.Use("secondary"), dbresolver.Write)
	_ = db.Clauses(dbresolver.Read).Begin()
	_ = db.Clauses(dbresolver.Write).Begin()
	_ = db.Clauses(dbresolver.Use("secondary"), dbresolver.Write).Begin()

	plugin := replicated.New(replicated.Config{DefaultIntent: replicated.Slave}).
		Register(group, &User{}, "orders", "secondary")
	_ = plugin.Status()
	_ = replicated.From(db)
	plugin.SetAutoReadOnSlave(false)
	{
		var config replicated.Config
		_ = db.Use(replicated.New(config))
	}
	mux := http.NewServeMux()
	_ = plugin.Middleware(mux)
	var handler http.Handler = mux
	_ = replicated.UseMaster(handler)
	_ = replicated.UseSlave(handler)
	_ = db.WithContext(r.Context())
	var ctx context.Context
	_ = replicated.WithSlave(ctx)
	_ = db.WithContext(replicated.WithMaster(ctx))

	var options *gormigrate.Options
	var migrations []*gormigrate.Migration
	_ = gormigrate.New(db.WithContext(replicated.WithMaster(ctx)), options, migrations)
}

var _ = dbrCalls

// TestMigratingGuide keeps docs/migrating.md true to what is compiled and run here.
func TestMigratingGuide(t *testing.T) {
	read := func(name string) string {
		t.Helper()
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	guide, code := read("../docs/migrating.md"), read("migrating_guide_test.go")

	t.Run("programs", func(t *testing.T) {
		unindented := func(s string) string { return regexp.MustCompile(`(?m)^\s+`).ReplaceAllString(s, "") }
		programs := regexp.MustCompile("(?s)```go\n(.*?)```").FindAllStringSubmatch(guide, -1)
		if len(programs) != 2 {
			t.Errorf("%d programs, want the one before and the one after", len(programs))
		}
		for _, program := range programs {
			if !strings.Contains(unindented(code), unindented(program[1])) {
				t.Errorf("not in the code:\n%s", program[1])
			}
		}
	})

	t.Run("calls", func(t *testing.T) {
		fields := map[string]reflect.Type{
			"Config": reflect.TypeFor[replicated.Config](), "Group": reflect.TypeFor[replicated.Group](),
			"Pool": reflect.TypeFor[replicated.PoolConfig](),
		}
		field := regexp.MustCompile(`^(Config|Group|Pool)\.(\w+)$`)
		calls, named := 0, 0
		for row := range strings.Lines(guide) {
			cells := strings.Split(row, "|")
			if len(cells) < 4 {
				continue
			}
			for i, cell := range cells[1:3] {
				for _, span := range regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(cell, -1) {
					text := span[1]
					if m := field.FindStringSubmatch(text); m != nil && i == 1 {
						named++
						if _, ok := fields[m[1]].FieldByName(m[2]); !ok {
							t.Errorf("no field: %s", text)
						}
					}
					// A text without its end is one to search for, and what is given to an app is not Go.
					if strings.HasSuffix(text, ")") && !strings.HasSuffix(text, "()") && !strings.HasSuffix(text, "(app)") {
						calls++
						if !strings.Contains(code, strings.TrimPrefix(text, ".")) {
							t.Errorf("not in the code: %s", text)
						}
					}
				}
			}
		}
		if calls < 25 || named < 10 {
			t.Errorf("found %d calls and %d fields: the tables are not what they were", calls, named)
		}
	})

	// What differs is a list, and every item of it has a case.
	t.Run("differences", func(t *testing.T) {
		_, list, _ := strings.Cut(guide, "### What differs\n")
		list, _, _ = strings.Cut(list, "### What to search for\n")
		var items, reasons []string
		for _, item := range regexp.MustCompile(`(?m)^- \*\*(.*?)\*\*`).FindAllStringSubmatch(list, -1) {
			items = append(items, item[1])
		}
		for _, c := range dbrCases {
			if c.want.why != "" && !slices.Contains(reasons, c.want.why) {
				reasons = append(reasons, c.want.why)
			}
		}
		for _, item := range items {
			if !slices.Contains(reasons, item) {
				t.Errorf("no case: %s", item)
			}
		}
		for _, reason := range reasons {
			if !slices.Contains(items, reason) {
				t.Errorf("not in the guide: %s", reason)
			}
		}
	})
}
