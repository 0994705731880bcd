package integration

import (
	"context"
	"database/sql"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"
	"time"

	"gorm.io/driver/mysql"
	"gorm.io/gorm"
	"gorm.io/gorm/logger"
	"gorm.io/plugin/dbresolver"

	"github.com/gorm-replicated/replicated"
	"github.com/gorm-replicated/replicated/integration/servers"
)

// BenchmarkMariaDB reads a row of a slave over loopback, as a handler does that serves a client with a token:
// with everything on, watching included. It runs the plugin and dbresolver by turns with plain GORM on that
// slave, and reports for each the median of the batches' times relative to the plain batch beside it;
// "again-x" is plain GORM's.
func BenchmarkMariaDB(b *testing.B) {
	c, err := servers.StartMariaDB(b.Context(), servers.Config{Slaves: 1})
	servers.Check(b, err)
	defer c.Close()
	open := func(d gorm.Dialector) *gorm.DB {
		db, err := gorm.Open(d, &gorm.Config{Logger: logger.Discard})
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { closeDB(db) })
		return db
	}
	var pools []*sql.DB // of the slave
	slave := func() gorm.Dialector {
		pool, err := sql.Open("mysql", c.Slaves[0].DSN())
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { pool.Close() })
		pools = append(pools, pool)
		return mysql.New(mysql.Config{Conn: pool})
	}
	plain, again := open(slave()), open(slave())
	routed, resolved := open(mysql.Open(c.Master.DSN())), open(mysql.Open(c.Master.DSN()))
	if err := routed.AutoMigrate(&Note{}); err != nil {
		b.Fatal(err)
	}
	if err := routed.Create(&Note{Text: "first"}).Error; err != nil {
		b.Fatal(err)
	}
	if err := c.CatchUp(b.Context()); err != nil {
		b.Fatal(err)
	}
	counted := &counter{}
	p := replicated.New(replicated.Config{
		Slaves:   []gorm.Dialector{slave()},
		Secrets:  [][]byte{[]byte("0123456789 0123456789 0123456789")},
		Observer: counted,
	})
	if err := routed.Use(p); err != nil {
		b.Fatal(err)
	}
	defer p.Close()
	resolver := dbresolver.Register(dbresolver.Config{Replicas: []gorm.Dialector{slave()}})
	if err := resolved.Use(resolver); err != nil {
		b.Fatal(err)
	}

	var ctx context.Context
	keep := p.Middleware(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { ctx = r.Context() }))
	post := httptest.NewRecorder()
	p.Middleware(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		routed.WithContext(r.Context()).Create(&Note{Text: "second"})
	})).ServeHTTP(post, httptest.NewRequest("POST", "/", nil))
	get := httptest.NewRequest("GET", "/", nil)
	get.Header.Set("Replicated-Token", post.Header().Get("Replicated-Token"))
	inRequest, cancel := context.WithCancel(context.Background()) // as net/http hands out
	defer cancel()
	keep.ServeHTTP(httptest.NewRecorder(), get.WithContext(inRequest))
	if err := c.CatchUp(b.Context()); err != nil {
		b.Fatal(err)
	}

	const batch, turns = 100, 4
	batchOf := func(db *gorm.DB) float64 {
		start := time.Now()
		for range batch {
			var n Note
			if err := db.WithContext(ctx).First(&n).Error; err != nil {
				b.Fatal(err)
			}
		}
		return float64(time.Since(start).Nanoseconds()) / batch
	}
	for counted.bySlave == 0 { // until the slave is known to have what the token demands
		batchOf(routed)
	}
	counted.byMaster = 0
	b.ResetTimer()
	var times []float64
	others := []struct {
		name  string
		db    *gorm.DB
		times []float64 // relative to plain GORM's
	}{{name: "again", db: again}, {name: "replicated", db: routed}, {name: "dbresolver", db: resolved}}
	for done := 0; done < b.N; done += batch * turns {
		for _, i := range rand.Perm(len(others)) {
			other := &others[i]
			for _, pool := range pools { // one connection is faster than another, for as long as it lasts
				pool.SetMaxIdleConns(-1)
				pool.SetMaxIdleConns(2)
			}
			batchOf(plain)
			batchOf(other.db)
			for range turns {
				var p, o float64
				batches := []func(){func() { p = batchOf(plain) }, func() { o = batchOf(other.db) }}
				for _, k := range rand.Perm(2) { // neither always goes first
					batches[k]()
				}
				times, other.times = append(times, p), append(other.times, o/p)
			}
		}
	}
	b.StopTimer()
	if counted.byMaster > 0 {
		b.Errorf("%d reads on the master", counted.byMaster)
	}
	median := func(v []float64) float64 { slices.Sort(v); return v[len(v)/2] }
	b.ReportMetric(0, "ns/op") // that of all of them together: not shown
	b.ReportMetric(median(times), "plain-ns/op")
	for _, other := range others {
		b.ReportMetric(median(other.times), other.name+"-x")
	}
}

// counter counts who serves, one statement at a time.
type counter struct{ bySlave, byMaster int }

func (c *counter) Routed(_ context.Context, r replicated.Route) {
	if r.Intent == replicated.Slave {
		c.bySlave++
	} else {
		c.byMaster++
	}
}
