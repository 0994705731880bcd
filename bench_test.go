package replicated_test

import (
	"context"
	"database/sql"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"gorm.io/gorm"
	"gorm.io/plugin/dbresolver"

	"github.com/gorm-replicated/replicated"
)

// contender is a *gorm.DB on a driver that does nothing: plain, or with one of
// the plugins and two slaves.
type contender struct {
	name string
	db   *gorm.DB
}

// contenders returns plain GORM, dbresolver and this plugin, with the context
// of a GET as net/http hands it out.
func contenders(b *testing.B, cfg gorm.Config) []contender {
	b.Helper()
	open := func() *gorm.DB { return openFake(b, idlePool(b, "master"), cfg) }
	slaves := func() []gorm.Dialector {
		return []gorm.Dialector{dialector(idlePool(b, "slave-1")), dialector(idlePool(b, "slave-2"))}
	}
	plain, theirs, ours := open(), open(), open()
	if err := theirs.Use(dbresolver.Register(dbresolver.Config{Replicas: slaves()})); err != nil {
		b.Fatal(err)
	}
	p := replicated.New(replicated.Config{Slaves: slaves()})
	if err := ours.Use(p); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { p.Close() })
	ctx := requestContext(b)
	return []contender{
		{"plain", plain.WithContext(ctx)},
		{"dbresolver", theirs.WithContext(ctx)},
		{"replicated", ours.WithContext(inRequest(p, ctx))},
	}
}

func idlePool(b *testing.B, name string) *sql.DB {
	db := openPool(b, &fake{name: name})
	db.SetMaxIdleConns(64)
	return db
}

// requestContext is layered like the one of a request that net/http serves.
func requestContext(b *testing.B) context.Context {
	ctx := context.WithValue(context.Background(), http.ServerContextKey, &http.Server{})
	ctx = context.WithValue(ctx, http.LocalAddrContextKey, net.Addr(&net.TCPAddr{}))
	ctx, cancel := context.WithCancel(ctx) // the connection's
	b.Cleanup(cancel)
	ctx, cancel = context.WithCancel(ctx) // the request's
	b.Cleanup(cancel)
	return ctx
}

// inRequest returns the context that a GET's handler gets to see.
func inRequest(p *replicated.Plugin, ctx context.Context) (seen context.Context) {
	p.Middleware(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { seen = r.Context() })).
		ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil).WithContext(ctx))
	return seen
}

// BenchmarkCompare runs plain GORM, dbresolver and this plugin by turns, in
// short batches, and reports for both plugins the median of the batches' times relative to plain GORM's,
// and the allocations added to each operation.
func BenchmarkCompare(b *testing.B) {
	operations := []struct {
		name string
		run  func(*gorm.DB) error
	}{
		{"First", func(db *gorm.DB) error { var u User; return db.First(&u).Error }},
		{"RawScan", func(db *gorm.DB) error {
			var u User
			return db.Raw("SELECT id, name FROM users WHERE id = ?", 1).Scan(&u).Error
		}},
		{"Create", func(db *gorm.DB) error { return db.Create(&User{Name: "a"}).Error }},
	}
	for _, operation := range operations {
		for _, prepare := range []bool{false, true} {
			for _, workers := range []int{1, runtime.GOMAXPROCS(0)} {
				name := operation.name
				if prepare {
					name += "/PrepareStmt"
				} else {
					name += "/Plain"
				}
				if workers == 1 {
					name += "/serial"
				} else {
					name += fmt.Sprintf("/parallel-%d", workers)
				}
				b.Run(name, func(b *testing.B) { compare(b, gorm.Config{PrepareStmt: prepare}, workers, operation.run) })
			}
		}
	}
}

func compare(b *testing.B, cfg gorm.Config, workers int, run func(*gorm.DB) error) {
	const batch = 100
	all := contenders(b, cfg)
	batchOf := func(c contender) time.Duration {
		start := time.Now()
		var wg sync.WaitGroup
		for range workers {
			wg.Go(func() {
				for range batch {
					if err := run(c.db); err != nil {
						b.Error(err)
					}
				}
			})
		}
		wg.Wait()
		return time.Since(start)
	}
	var allocs [3]float64
	for i, c := range all {
		batchOf(c) // warm
		allocs[i] = testing.AllocsPerRun(1000, func() { _ = run(c.db) })
	}

	b.ResetTimer()
	var plain []time.Duration
	relative := [3][]float64{}
	for done := 0; done < b.N; done += batch * workers {
		var took [3]time.Duration
		for i := range all {
			next := (i + len(plain)) % len(all) // nobody always follows the same one
			took[next] = batchOf(all[next])
		}
		plain = append(plain, took[0])
		for i := range all {
			relative[i] = append(relative[i], float64(took[i])/float64(took[0]))
		}
	}
	b.StopTimer()
	b.ReportMetric(0, "ns/op") // the sum of three: hide it
	b.ReportMetric(float64(median(plain).Nanoseconds())/float64(batch*workers), "plain-ns/op")
	for i := 1; i < len(all); i++ {
		b.ReportMetric(median(relative[i]), all[i].name+"-x")
		b.ReportMetric(allocs[i]-allocs[0], all[i].name+"+allocs")
	}
}

func median[T int | float64 | time.Duration](v []T) T {
	slices.Sort(v)
	return v[len(v)/2]
}

// BenchmarkDecision measures the way from the callback to the chosen server.
func BenchmarkDecision(b *testing.B) {
	const query = "SELECT * FROM `users` WHERE `users`.`deleted_at` IS NULL ORDER BY `users`.`id` LIMIT ?"
	for _, prepare := range []bool{false, true} {
		b.Run(fmt.Sprintf("PrepareStmt=%v", prepare), func(b *testing.B) {
			db := openFake(b, idlePool(b, "master"), gorm.Config{PrepareStmt: prepare})
			p := replicated.New(replicated.Config{Slaves: []gorm.Dialector{dialector(idlePool(b, "slave-1")), dialector(idlePool(b, "slave-2"))}})
			if err := db.Use(p); err != nil {
				b.Fatal(err)
			}
			defer p.Close()
			ctx := inRequest(p, requestContext(b))
			db = db.WithContext(ctx).Model(&User{})
			b.ReportAllocs()
			for b.Loop() {
				if p.Decide(db, ctx, query) == "master" {
					b.Fatal("the decision was the master")
				}
			}
		})
	}
}

// BenchmarkMiddleware measures it around an empty handler.
func BenchmarkMiddleware(b *testing.B) {
	for name, routes := range map[string]map[string]replicated.Intent{
		"methods":  nil,
		"patterns": {"POST /search": replicated.Slave, "/admin/": replicated.Master, "/users/{id}": replicated.Slave},
	} {
		b.Run(name, func(b *testing.B) {
			db := openFake(b, idlePool(b, "master"), gorm.Config{})
			p := replicated.New(replicated.Config{Slaves: []gorm.Dialector{dialector(idlePool(b, "slave"))}, Routes: routes})
			if err := db.Use(p); err != nil {
				b.Fatal(err)
			}
			defer p.Close()
			h := p.Middleware(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
			w, r := httptest.NewRecorder(), httptest.NewRequest("GET", "/users/7", nil).WithContext(requestContext(b))
			b.ReportAllocs()
			for b.Loop() {
				h.ServeHTTP(w, r)
			}
		})
	}
}
