package integration

import (
	"context"
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

// BenchmarkMariaDB reads a row of a slave over loopback, as a handler does that serves a client with a token: with everything on, watching
// included. It runs the plugin and dbresolver by turns with plain GORM on that slave, and reports for each the median of the batches' times
// relative to the plain batch beside it.
func BenchmarkMariaDB(b *testing.B) {
	c, err := servers.StartMariaDB(b.Context(), servers.Config{Slaves: 1})
	servers.Check(b, err)
	defer c.Close()
	open := func(dsn string) *gorm.DB {
		db, err := gorm.Open(mysql.Open(dsn), &gorm.Config{Logger: logger.Discard})
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { closeDB(db) })
		return db
	}
	slave := c.Slaves[0].DSN()
	plain, routed, resolved := open(slave), open(c.Master.DSN()), open(c.Master.DSN())
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
		Slaves: []gorm.Dialector{mysql.Open(slave)}, Secrets: [][]byte{[]byte("0123456789 0123456789 0123456789")}, Observer: counted,
	})
	if err := routed.Use(p); err != nil {
		b.Fatal(err)
	}
	defer p.Close()
	if err := resolved.Use(dbresolver.Register(dbresolver.Config{Replicas: []gorm.Dialector{mysql.Open(slave)}})); err != nil {
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

	const batch = 200
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
	batchOf(plain)
	batchOf(resolved)
	b.ResetTimer()
	var times, ours, theirs []float64
	for done := 0; done < b.N; done += batch {
		for _, other := range []struct {
			db   *gorm.DB
			into *[]float64
		}{{routed, &ours}, {resolved, &theirs}} {
			var a, z float64
			if len(times)%4 < 2 { // neither always goes first
				a, z = batchOf(plain), batchOf(other.db)
			} else {
				z, a = batchOf(other.db), batchOf(plain)
			}
			times, *other.into = append(times, a), append(*other.into, z/a)
		}
	}
	b.StopTimer()
	if counted.byMaster > 0 {
		b.Errorf("%d reads on the master", counted.byMaster)
	}
	median := func(v []float64) float64 { slices.Sort(v); return v[len(v)/2] }
	b.ReportMetric(0, "ns/op") // that of all of them together: not shown
	b.ReportMetric(median(times), "plain-ns/op")
	b.ReportMetric(median(ours), "replicated-x")
	b.ReportMetric(median(theirs), "dbresolver-x")
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
