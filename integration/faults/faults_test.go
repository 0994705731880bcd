// Package faults_test breaks real servers, and the network before them, under load, and holds the plugin to
// what docs/operations.md promises: nobody notices but those whose answer was being read.
//
// CI runs a short version. SOAK=30m runs the long one: the random faults for that long on each engine, ten
// cycles of kill and freeze instead of three and one, and the defaults where CI has shorter times.
// FAULTS_SEED repeats a sequence of random faults.
package faults_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"
	"go.uber.org/goleak"

	"github.com/gorm-replicated/replicated/integration/metronome"
	"github.com/gorm-replicated/replicated/integration/servers"
)

// soak is how long the random faults last on each engine; 0 in CI.
var soak = func() time.Duration {
	d, err := time.ParseDuration(os.Getenv("SOAK"))
	if err != nil && os.Getenv("SOAK") != "" {
		panic(fmt.Sprintf("SOAK: %v", err))
	}
	return d
}()

// inSoak returns the second value in a soak, otherwise the first.
func inSoak[T any](ci, long T) T {
	if soak > 0 {
		return long
	}
	return ci
}

// hangs is what takes longer than that. Nothing here is about speed: what must not wait for a fault to end
// has to happen while it lasts, and how long that may take is shown in virtual time, by
// attempt_frozen_test.go of the root and internal/cluster.
const hangs = 2 * time.Minute

// idle is after how long an unused connection to the master is closed: one that a fault has broken.
const idle = 500 * time.Millisecond

// slaveTimeout is Failover.SlaveTimeout of the tests.
var slaveTimeout = inSoak(300*time.Millisecond, time.Second)

func TestMain(m *testing.M) {
	_ = mysql.SetLogger(&mysql.NopLogger{}) // that connections break is what this package is for
	code := m.Run()
	late.Stop()
	for _, e := range engines {
		if err := e.close(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	if code == 0 {
		if err := await(context.Background(), func() error { return goleak.Find(endless...) }); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

// endless are the goroutines that never end, and are not ours.
var endless = []goleak.Option{
	// GORM starts one with each cache of prepared statements: "done channel is never closed, so deleteExpired()
	// goroutine will never exit" (internal/lru).
	goleak.IgnoreAnyFunction("gorm.io/gorm/internal/lru.NewLRU[...].func1"),
	// Toxiproxy's limit_data and reset_peer stop reading when they cut a connection: what comes in after that,
	// nobody takes from the two in front of them.
	goleak.IgnoreAnyFunction("github.com/Shopify/toxiproxy/v2.(*ToxicLink).read"),
	goleak.IgnoreAnyFunction("github.com/Shopify/toxiproxy/v2/toxics.(*NoopToxic).Pipe"),
	// Its slicer sends without looking for an interruption: for ever, when the connection behind it has ended.
	goleak.IgnoreAnyFunction("github.com/Shopify/toxiproxy/v2/toxics.(*SlicerToxic).Pipe"),
}

// ofServers are the goroutines that wait for the processes of servers, which tests share.
var ofServers = goleak.IgnoreAnyFunction(
	"github.com/gorm-replicated/replicated/integration/servers.(*reaper).run.func1")

// leakless fails the test if, once all of its other cleanups have run, goroutines are left that were not
// there before.
func leakless(t *testing.T) {
	t.Helper()
	before := append([]goleak.Option{goleak.IgnoreCurrent(), ofServers}, endless...)
	t.Cleanup(func() {
		// pgx gives the server 15 s to hear of a query that was given up.
		if err := await(context.Background(), func() error { return goleak.Find(before...) }); err != nil {
			t.Error(err)
		}
	})
}

// eachEngine runs a test on each engine, one after the other.
func eachEngine(t *testing.T, test func(*testing.T, *engine)) {
	t.Helper()
	eachOf(t, func(*engine) bool { return true }, test)
}

// eachOf runs a test on each engine of which is holds.
func eachOf(t *testing.T, is func(*engine) bool, test func(*testing.T, *engine)) {
	t.Helper()
	for _, e := range engines {
		if is(e) {
			t.Run(e.name, func(t *testing.T) { test(t, e) })
		}
	}
}

// cluster returns the engine's master and three slaves, which tests share one after the other, all as they
// should be.
func (e *engine) cluster(t *testing.T) *servers.Cluster {
	t.Helper()
	e.once.Do(func() { e.shared, e.err = e.begin(context.Background(), 3) })
	servers.Check(t, e.err)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := e.shared.CatchUp(ctx); err != nil {
		t.Fatalf("the test before has left the servers broken: %v", err)
	}
	return e.shared
}

// own returns servers of the test's own.
func (e *engine) own(t *testing.T, slaves int) *servers.Cluster {
	t.Helper()
	c, err := e.begin(t.Context(), slaves)
	servers.Check(t, err)
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

func (e *engine) begin(ctx context.Context, slaves int) (*servers.Cluster, error) {
	c, err := e.start(ctx, servers.Config{Slaves: slaves, MasterOptions: e.options, SlaveOptions: e.options})
	if err != nil {
		return nil, err
	}
	if err := e.prepare(ctx, c); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	for _, s := range append([]*servers.Server{c.Master}, c.Slaves...) {
		// An idle connection to a server that is killed is a goroutine that looks like ours.
		s.DB().SetMaxIdleConns(0)
	}
	return c, nil
}

func (e *engine) close() error {
	if e.shared == nil {
		return nil
	}
	return e.shared.Close()
}

// healed does again what a test has to leave behind, whether or not it got as far as doing it itself.
func healed(t *testing.T, heal func(context.Context) error) {
	t.Helper()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := heal(ctx); err != nil {
			t.Errorf("healing: %v", err)
		}
	})
}

// pass lets time pass where that is the point: how long a fault lasts, what a client thinks. It is never
// there to wait for something.
func pass(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// eventually waits until ready returns nil, and fails the test with its last error if that hangs.
func eventually(t *testing.T, what string, ready func() error) time.Duration {
	t.Helper()
	began := time.Now()
	if err := await(t.Context(), ready); err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	return time.Since(began)
}

func await(ctx context.Context, ready func() error) error {
	ctx, cancel := context.WithTimeout(ctx, hangs)
	defer cancel()
	for {
		err := ready()
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return fmt.Errorf("not within %v: %w", hangs, err)
		}
		pass(ctx, 5*time.Millisecond)
	}
}

// late tells how late goroutines come to run.
var late = metronome.New()

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// timeline is what was done to the servers, and when.
type timeline struct {
	began time.Time

	mu     sync.Mutex
	events []string
}

func newTimeline() *timeline { return &timeline{began: time.Now()} }

func (l *timeline) add(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	at := time.Since(l.began).Seconds()
	l.events = append(l.events, fmt.Sprintf("%7.2f s  %s", at, fmt.Sprintf(format, args...)))
}

func (l *timeline) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Join(l.events, "\n")
}

// heap returns how much memory is in use when there is no garbage.
func heap() uint64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC() // what finalizers held
	runtime.ReadMemStats(&m)
	return m.HeapInuse
}
