package replicated_test

import (
	"context"
	"database/sql"
	"fmt"
	"log/slog"
	"math"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"gorm.io/gorm"
	"gorm.io/plugin/dbresolver"

	"github.com/gorm-replicated/replicated"
)

// contender is a *gorm.DB on a driver that does nothing: plain, or with one of
// the plugins and two slaves.
type contender struct {
	db  *gorm.DB
	ctx context.Context // of a GET, as net/http hands it out
}

// contenders makes plain GORM, the least that a routing plugin does, dbresolver and this plugin, without
// and with a SlaveTimeout; with one also without a session, where many reads would share a span.
var contenders = []struct {
	name string
	make func(testing.TB, gorm.Config) contender
}{
	{"again", plainGORM},
	{"least", func(b testing.TB, cfg gorm.Config) contender {
		c := plainGORM(b, cfg)
		swap := &passOn{c.db.ConnPool}
		for _, register := range []func(string, func(*gorm.DB)) error{
			c.db.Callback().Query().Before("*").Register,
			c.db.Callback().Row().Before("*").Register,
			c.db.Callback().Create().Before("*").Register,
		} {
			if err := register("swap", func(db *gorm.DB) { db.Statement.ConnPool = swap }); err != nil {
				b.Fatal(err)
			}
		}
		return c
	}},
	{"dbresolver", func(b testing.TB, cfg gorm.Config) contender {
		c := plainGORM(b, cfg)
		if err := c.db.Use(dbresolver.Register(dbresolver.Config{Replicas: idleSlaves(b)})); err != nil {
			b.Fatal(err)
		}
		return c
	}},
	{"replicated", func(b testing.TB, cfg gorm.Config) contender {
		c := plainGORM(b, cfg)
		c.ctx = inRequest(usePlugin(b, c.db, -1), c.ctx)
		return c
	}},
	{"timeout", func(b testing.TB, cfg gorm.Config) contender {
		c := plainGORM(b, cfg)
		c.ctx = inRequest(usePlugin(b, c.db, 0), c.ctx)
		return c
	}},
	{"timeout-alone", func(b testing.TB, cfg gorm.Config) contender {
		c := plainGORM(b, cfg)
		usePlugin(b, c.db, 0)
		c.ctx = replicated.WithSlave(c.ctx)
		return c
	}},
}

func plainGORM(b testing.TB, cfg gorm.Config) contender {
	return contender{openFake(b, idlePool(b, "master"), cfg), requestContext(b)}
}

func usePlugin(b testing.TB, db *gorm.DB, timeout time.Duration) *replicated.Plugin {
	p := replicated.New(replicated.Config{
		Slaves: idleSlaves(b), Logger: slog.New(slog.DiscardHandler),
		Failover: replicated.FailoverConfig{SlaveTimeout: timeout},
	})
	if err := db.Use(p); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { p.Close() })
	return p
}

func idleSlaves(b testing.TB) []gorm.Dialector {
	return []gorm.Dialector{dialector(idlePool(b, "slave-1")), dialector(idlePool(b, "slave-2"))}
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

// BenchmarkCompare does what a handler does, db.WithContext(ctx).First(&user) and the like. It runs this
// plugin, dbresolver and the least that a plugin could do each in a pair with plain GORM, by turns in short
// batches, and reports for each the median of the batches' times relative to that of the plain batch beside
// it, and the allocations it adds to an operation. Where things happen to lie in memory is worth several
// percent: so a pair is made anew after a few batches, and what plain GORM takes relative to itself
// ("again-x") shows what is left of that.
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
	const batch, turns = 100, 5
	batchOf := func(c contender) float64 {
		var arrived, taken atomic.Int64
		var wg sync.WaitGroup
		for range workers {
			wg.Go(func() {
				// To wake a thread takes as long as many operations.
				for arrived.Add(1); arrived.Load() < int64(workers); {
					runtime.Gosched()
				}
				start := time.Now()
				for range batch {
					if err := run(c.db.WithContext(c.ctx)); err != nil {
						b.Error(err)
					}
				}
				taken.Add(int64(time.Since(start)))
			})
		}
		wg.Wait()
		return float64(taken.Load()) / float64(batch*workers*workers)
	}
	allocs := func(c contender) float64 {
		defer debug.SetGCPercent(debug.SetGCPercent(-1)) // it empties pools
		batchOf(c)                                       // warm
		const runs = 5000
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		for range runs {
			_ = run(c.db.WithContext(c.ctx))
		}
		runtime.ReadMemStats(&after)
		return float64(after.Mallocs-before.Mallocs) / runs
	}

	b.ResetTimer()
	var times []float64
	relative := map[string][]float64{}
	for done := 0; done < b.N; done += batch * turns {
		for _, i := range rand.Perm(len(contenders)) {
			w := &world{TB: b}
			// Neither is always the first: the garbage collector comes every few batches.
			var plain, other contender
			makings := []func(){
				func() { plain = plainGORM(w, cfg); batchOf(plain) },
				func() { other = contenders[i].make(w, cfg); batchOf(other) },
			}
			for _, k := range rand.Perm(2) {
				makings[k]()
			}
			for range turns {
				var p, o float64
				batches := []func(){func() { p = batchOf(plain) }, func() { o = batchOf(other) }}
				for _, k := range rand.Perm(2) {
					batches[k]()
				}
				times, relative[contenders[i].name] = append(times, p), append(relative[contenders[i].name], o/p)
			}
			w.end()
		}
	}
	b.StopTimer()
	w := &world{TB: b}
	defer w.end()
	plain := allocs(plainGORM(w, cfg))
	b.ReportMetric(0, "ns/op") // that of all of them together: not shown
	b.ReportMetric(median(times), "plain-ns/op")
	for _, c := range contenders {
		b.ReportMetric(median(relative[c.name]), c.name+"-x")
		b.ReportMetric(math.Round(10*(allocs(c.make(w, cfg))-plain))/10+0, c.name+"+allocs")
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
		{"WithMaxStaleness", false, false, func(ctx context.Context) context.Context {
			return replicated.WithMaxStaleness(ctx, time.Minute)
		}},
	} {
		b.Run(test.name, func(b *testing.B) {
			db := openFake(b, idlePool(b, "master"), gorm.Config{PrepareStmt: test.prepare})
			p := replicated.New(replicated.Config{
				Slaves:  []gorm.Dialector{dialector(idlePool(b, "slave-1")), dialector(idlePool(b, "slave-2"))},
				Secrets: [][]byte{secret}, Probe: replicated.ProbeConfig{Source: history},
				Logger: slog.New(slog.DiscardHandler),
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
		"methods": nil,
		"patterns": {
			"POST /search": replicated.Slave, "/admin/": replicated.Master, "/users/{id}": replicated.Slave,
		},
	} {
		b.Run(name, func(b *testing.B) {
			db := openFake(b, idlePool(b, "master"), gorm.Config{})
			p := replicated.New(replicated.Config{
				Slaves: []gorm.Dialector{dialector(idlePool(b, "slave"))}, Routes: routes, Secrets: [][]byte{secret},
			})
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
