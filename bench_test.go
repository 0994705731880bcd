package replicated_test

import (
	"context"
	"database/sql"
	"fmt"
	"log/slog"
	"math/rand/v2"
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
	ctx  context.Context // of a GET
}

// contenders returns plain GORM twice, the least that a routing plugin does, dbresolver and this plugin, without and with a SlaveTimeout, with the context
// of a GET as net/http hands it out; with a SlaveTimeout also without a session, which many reads would share a span of.
func contenders(b testing.TB, cfg gorm.Config) []contender {
	b.Helper()
	open := func() *gorm.DB { return openFake(b, idlePool(b, "master"), cfg) }
	slaves := func() []gorm.Dialector {
		return []gorm.Dialector{dialector(idlePool(b, "slave-1")), dialector(idlePool(b, "slave-2"))}
	}
	plain, again, least, theirs, ours := open(), open(), open(), open(), open()
	swap := &passOn{least.ConnPool}
	for _, register := range []func(string, func(*gorm.DB)) error{
		least.Callback().Query().Before("*").Register, least.Callback().Row().Before("*").Register, least.Callback().Create().Before("*").Register,
	} {
		if err := register("swap", func(db *gorm.DB) { db.Statement.ConnPool = swap }); err != nil {
			b.Fatal(err)
		}
	}
	if err := theirs.Use(dbresolver.Register(dbresolver.Config{Replicas: slaves()})); err != nil {
		b.Fatal(err)
	}
	use := func(db *gorm.DB, timeout time.Duration) *replicated.Plugin {
		p := replicated.New(replicated.Config{Slaves: slaves(), Logger: slog.New(slog.DiscardHandler), Failover: replicated.FailoverConfig{SlaveTimeout: timeout}})
		if err := db.Use(p); err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { p.Close() })
		return p
	}
	ctx := requestContext(b)
	timed := open()
	return []contender{
		{"plain", plain, ctx},
		{"again", again, ctx},
		{"least", least, ctx},
		{"dbresolver", theirs, ctx},
		{"replicated", ours, inRequest(use(ours, -1), ctx)},
		{"timeout", timed, inRequest(use(timed, 0), ctx)},
		{"timeout-alone", timed, replicated.WithSlave(ctx)},
	}
}

// passOn is the least that a callback can put in a statement: a pool that
// passes everything on to the one there was.
type passOn struct{ gorm.ConnPool }

func (p *passOn) BeginTx(ctx context.Context, opts *sql.TxOptions) (gorm.ConnPool, error) {
	switch pool := p.ConnPool.(type) {
	case gorm.TxBeginner:
		return pool.BeginTx(ctx, opts)
	case gorm.ConnPoolBeginner:
		return pool.BeginTx(ctx, opts)
	}
	return nil, gorm.ErrInvalidTransaction
}

func idlePool(b testing.TB, name string) *sql.DB {
	db := openPool(b, &fake{name: name})
	db.SetMaxIdleConns(64)
	return db
}

// requestContext is layered like the one of a request that net/http serves.
func requestContext(b testing.TB) context.Context {
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

// BenchmarkCompare does what a handler does, db.WithContext(ctx).First(&user) and the like. It runs this plugin, dbresolver and the least that a plugin could do by turns with plain GORM,
// in short batches, and reports for each the median of the batches' times relative to the plain batch beside it, and
// the allocations it adds to an operation. Where things happen to lie in memory is worth several percent: so all are made anew
// after a few batches, and what plain GORM takes relative to itself ("again-x") shows what is left of that.
func BenchmarkCompare(b *testing.B) {
	operations := []struct {
		name string
		run  func(*gorm.DB) error
	}{
		{"First", func(db *gorm.DB) error { var u User; return db.First(&u).Error }},
		{"FirstInOwnContext", func(db *gorm.DB) error { // as with a timeout for each query
			ctx, cancel := context.WithCancel(db.Statement.Context)
			defer cancel()
			var u User
			return db.WithContext(ctx).First(&u).Error
		}},
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
	const batch, turns = 100, 20
	batchOf := func(c contender) float64 {
		start := time.Now()
		var wg sync.WaitGroup
		for range workers {
			wg.Go(func() {
				for range batch {
					if err := run(c.db.WithContext(c.ctx)); err != nil {
						b.Error(err)
					}
				}
			})
		}
		wg.Wait()
		return float64(time.Since(start).Nanoseconds()) / float64(batch*workers)
	}
	allocs := func(c contender) float64 {
		batchOf(c) // warm
		return testing.AllocsPerRun(5000, func() { _ = run(c.db.WithContext(c.ctx)) })
	}

	b.ResetTimer()
	var times []float64
	relative, added := map[string][]float64{}, map[string]float64{}
	for done := 0; done < b.N; done += batch * workers * turns {
		w := &world{TB: b}
		all := contenders(w, cfg)
		plain, others := all[0], all[1:]
		for _, c := range all {
			batchOf(c) // warm
		}
		for range turns {
			// In no fixed order: the garbage collector comes every few batches, and would come to the same ones.
			for _, i := range rand.Perm(len(others)) {
				c := others[i]
				var a, z float64
				if rand.IntN(2) == 0 {
					a, z = batchOf(plain), batchOf(c)
				} else {
					z, a = batchOf(c), batchOf(plain)
				}
				times, relative[c.name] = append(times, a), append(relative[c.name], z/a)
			}
		}
		w.end()
	}
	w := &world{TB: b}
	defer w.end()
	all := contenders(w, cfg)
	for _, c := range all[1:] {
		added[c.name] = allocs(c) - allocs(all[0])
	}
	b.ReportMetric(0, "ns/op") // that of all of them together: not shown
	b.ReportMetric(median(times), "plain-ns/op")
	for name := range relative {
		b.ReportMetric(median(relative[name]), name+"-x")
		b.ReportMetric(added[name], name+"+allocs")
	}
}

// world is what there is for some batches.
type world struct {
	testing.TB
	cleanups []func()
}

func (w *world) Cleanup(f func()) { w.cleanups = append(w.cleanups, f) }

func (w *world) end() {
	for _, f := range slices.Backward(w.cleanups) {
		f()
	}
}

func median(v []float64) float64 {
	slices.Sort(v)
	return v[len(v)/2]
}

// BenchmarkDecision measures the way from the callback to the chosen server.
func BenchmarkDecision(b *testing.B) {
	const query = "SELECT * FROM `users` WHERE `users`.`deleted_at` IS NULL ORDER BY `users`.`id` LIMIT ?"
	history := newHistory()
	history.set("master", 1)
	history.replay("slave-1", "slave-2")
	for _, test := range []struct {
		name    string
		prepare bool
		token   bool // the request brings one
		ctx     func(context.Context) context.Context
	}{
		{"plain", false, false, nil},
		{"PrepareStmt", true, false, nil},
		{"with a token", false, true, nil},
		{"WithMaxStaleness", false, false, func(ctx context.Context) context.Context { return replicated.WithMaxStaleness(ctx, time.Minute) }},
	} {
		b.Run(test.name, func(b *testing.B) {
			db := openFake(b, idlePool(b, "master"), gorm.Config{PrepareStmt: test.prepare})
			p := replicated.New(replicated.Config{
				Slaves:  []gorm.Dialector{dialector(idlePool(b, "slave-1")), dialector(idlePool(b, "slave-2"))},
				Secrets: [][]byte{secret}, Probe: replicated.ProbeConfig{Source: history},
			})
			if err := db.Use(p); err != nil {
				b.Fatal(err)
			}
			defer p.Close()
			ctx := inRequest(p, requestContext(b))
			if test.token {
				wrote := p.WithToken(context.Background(), "")
				db.WithContext(wrote).Exec("UPDATE users SET name = 'a'")
				token, err := p.Token(wrote)
				if err != nil {
					b.Fatal(err)
				}
				p.WithToken(ctx, token)
			}
			if test.ctx != nil {
				ctx = test.ctx(ctx)
			}
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
			p := replicated.New(replicated.Config{Slaves: []gorm.Dialector{dialector(idlePool(b, "slave"))}, Routes: routes, Secrets: [][]byte{secret}})
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
