// Package consistency shows on real servers what the plugin promises about freshness: nobody reads a page
// without what he has just written, and slaves serve all the same.
package consistency

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"gorm.io/driver/mysql"
	"gorm.io/driver/postgres"
	"gorm.io/gorm"

	"github.com/gorm-replicated/replicated/integration/servers"
)

// starter is servers.StartMariaDB and the like.
type starter func(context.Context, servers.Config) (*servers.Cluster, error)

// engine is a kind of servers.
type engine struct {
	name   string
	kind   string // as servers.Wanted knows it
	dial   func(dsn string) gorm.Dialector
	start  starter
	shared func() (*servers.Cluster, error)
}

var (
	mariaDB    = newEngine("MariaDB", mysql.Open, servers.StartMariaDB)
	postgreSQL = newEngine("PostgreSQL", postgres.Open, servers.StartPostgreSQL)
	mySQL      = newEngine("MySQL", mysql.Open, servers.StartMySQL)
	pgBouncer  = newEngine("PgBouncer", postgres.Open, servers.StartPgBouncer)
	// Its slaves refuse writes: one that goes astray fails.
	groupReplication = newEngine("Group Replication", mysql.Open, servers.StartGroupReplication)

	// withPositions are the engines whose positions count.
	withPositions = wanted(mariaDB, postgreSQL, mySQL, pgBouncer, groupReplication)

	// withoutPositions have none that prove anything.
	withoutPositions = wanted(mySQL.with("--gtid-mode=OFF"), mySQL.with("--gtid-mode=ON_PERMISSIVE"))
)

func newEngine(kind string, dial func(string) gorm.Dialector, start starter) engine {
	return engine{name: kind, kind: kind, dial: dial, start: start, shared: shared(start)}
}

// with returns the engine with an option for all servers.
func (e engine) with(option string) engine {
	start := e.start
	e.name += " with " + option
	e.start = func(ctx context.Context, cfg servers.Config) (*servers.Cluster, error) {
		cfg.MasterOptions, cfg.SlaveOptions = append(cfg.MasterOptions, option), append(cfg.SlaveOptions, option)
		return start(ctx, cfg)
	}
	e.shared = shared(e.start)
	return e
}

// wanted leaves out the engines that tests are not to run on.
func wanted(engines ...engine) []engine {
	return slices.DeleteFunc(engines, func(e engine) bool { return !servers.Wanted(e.kind) })
}

// shared starts a master and two slaves when it is called for the first time.
func shared(start starter) func() (*servers.Cluster, error) {
	return sync.OnceValues(func() (*servers.Cluster, error) {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		c, err := start(ctx, servers.Config{Slaves: 2})
		if err == nil {
			started.Lock()
			started.clusters = append(started.clusters, c)
			started.Unlock()
		}
		return c, err
	})
}

// started are the clusters that tests share.
var started struct {
	sync.Mutex
	clusters []*servers.Cluster
}

func TestMain(m *testing.M) {
	code := m.Run()
	for _, c := range started.clusters {
		if err := c.Close(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

// cluster returns the engine's master and two slaves, which tests share one after the other. The test fails
// if a write goes astray to a slave.
func (e engine) cluster(t testing.TB) *servers.Cluster {
	t.Helper()
	c, err := e.shared()
	servers.Check(t, err)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		for _, s := range c.Slaves {
			if own, err := s.OwnTransactions(ctx); err != nil || len(own) > 0 {
				t.Errorf("writes went astray to %v: %q, %v", s, own, err)
			}
		}
	})
	return c
}

// hold keeps these slaves from replaying, until the test ends or they are released.
func hold(t testing.TB, slaves ...*servers.Server) {
	t.Helper()
	t.Cleanup(func() { release(t, slaves...) })
	for _, s := range slaves {
		if err := s.Hold(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

// release lets slaves replay, and waits until they have caught up. It does no harm to those that are not
// held.
func release(t testing.TB, slaves ...*servers.Server) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute) // that of the test may have ended
	defer cancel()
	for _, s := range slaves {
		if err := errors.Join(s.Release(ctx), s.CatchUp(ctx)); err != nil {
			t.Error(err)
		}
	}
}

// weather is how far slaves are behind, hour by hour.
type weather struct {
	slaves []*servers.Server
	phases []phase

	mu     sync.Mutex
	lags   []time.Duration // how far a slave was behind at most, each time it wandered
	past   int             // phases that are over, for each slave
	failed error
}

// phase is a part of the weather.
type phase struct {
	lasts time.Duration
	stops []int // these slaves replay nothing, from its begin to its end; the others wander
}

// maxLag is up to where lag wanders.
const maxLag = 500 * time.Millisecond

// begin lets the weather rage, phase by phase and over again, until the function that it returns is called.
// That returns when all slaves have caught up.
func (w *weather) begin(t *testing.T) (end func()) {
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	began := time.Now()
	for i, s := range w.slaves {
		wg.Go(func() {
			if err := w.rage(ctx, i, s, began); err != nil {
				w.mu.Lock()
				w.failed = errors.Join(w.failed, err)
				w.mu.Unlock()
			}
		})
	}
	end = sync.OnceFunc(func() {
		cancel()
		wg.Wait()
		release(t, w.slaves...)
		if w.failed != nil {
			t.Error(w.failed)
		}
	})
	t.Cleanup(end)
	return end
}

func (w *weather) rage(ctx context.Context, i int, s *servers.Server, began time.Time) error {
	random := rand.New(rand.NewPCG(uint64(i), 1))
	ends := began
	for n := 0; ctx.Err() == nil; n++ {
		p := w.phases[n%len(w.phases)]
		ends = ends.Add(p.lasts)
		stops := false
		for _, stopped := range p.stops {
			stops = stops || stopped == i
		}
		var err error
		if stops {
			err = w.stop(ctx, s, ends)
		} else {
			err = w.wander(ctx, s, ends, random)
		}
		switch {
		case ctx.Err() != nil: // the end of the weather, or of the test
		case err != nil:
			return err
		default:
			w.mu.Lock()
			w.past++
			w.mu.Unlock()
		}
	}
	return nil
}

// stop has s replay nothing until ends.
func (w *weather) stop(ctx context.Context, s *servers.Server, ends time.Time) error {
	if err := s.Hold(ctx); err != nil {
		return err
	}
	pass(ctx, time.Until(ends))
	return s.Release(context.WithoutCancel(ctx))
}

// wander has the lag of s grow to something below maxLag, and fall to nothing, again and again until ends.
// (No server can delay by less than a second.)
func (w *weather) wander(ctx context.Context, s *servers.Server, ends time.Time, random *rand.Rand) error {
	// Some milliseconds are left for Hold, Release and catching up.
	const most = maxLag - 30*time.Millisecond
	for ctx.Err() == nil && time.Now().Before(ends) {
		began := time.Now()
		if err := s.Hold(ctx); err != nil {
			return err
		}
		pass(ctx, min(time.Until(ends), time.Duration(random.Int64N(int64(most)))))
		if err := s.Release(context.WithoutCancel(ctx)); err != nil {
			return err
		}
		if err := s.CatchUp(ctx); err != nil {
			return err
		}
		w.mu.Lock()
		w.lags = append(w.lags, time.Since(began))
		w.mu.Unlock()
		pass(ctx, min(time.Until(ends), time.Duration(random.Int64N(int64(maxLag/2)))))
	}
	return nil
}

// whole says whether every phase has passed at least once, or none will any longer.
func (w *weather) whole() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.failed != nil || w.past >= len(w.phases)*len(w.slaves)
}

func (w *weather) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	l := latencies(w.lags)
	return fmt.Sprintf("%d of %d phases; lag of %d wanderings: %v", w.past/len(w.slaves), len(w.phases),
		len(w.lags), l)
}

// pass lets time pass: what clients think, how long a lag lasts. It is never there to wait for something.
func pass(ctx context.Context, d time.Duration) {
	if d <= 0 {
		return
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// eventually waits until ready returns nil, and fails the test with its last error if that takes too long.
func eventually(t testing.TB, within time.Duration, ready func() error) {
	t.Helper()
	if err := await(t.Context(), within, ready); err != nil {
		t.Fatal(err)
	}
}

func await(ctx context.Context, within time.Duration, ready func() error) error {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	for {
		err := ready()
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return fmt.Errorf("not within %v: %w", within, err)
		}
		pass(ctx, 2*time.Millisecond)
	}
}
