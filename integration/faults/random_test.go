package faults_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/gorm-replicated/replicated"
	"github.com/gorm-replicated/replicated/integration/servers"
)

// TestRandomFaults has faults befall all servers, in an order and for times that a seed decides, while
// clients write and read. Among them are planned switchovers, where servers are promoted from outside.
func TestRandomFaults(t *testing.T) {
	lasts := inSoak(30*time.Second, soak)
	eachEngine(t, func(t *testing.T, e *engine) {
		seed, err := strconv.ParseUint(os.Getenv("FAULTS_SEED"), 10, 64)
		if err != nil {
			seed = rand.Uint64()
		}
		t.Logf("FAULTS_SEED=%d", seed)
		c := e.clusterToSwitch(t)
		s := openSite(t, e, c, func(cfg *replicated.Config) {
			cfg.MaxLag = 10 * time.Second
			cfg.Pool.MaxOpen = atOnce
			if seed/2%2 == 1 {
				cfg.Pool.MaxLifetime = time.Second // new connections are what "account locked" is about
			}
			if seed%2 == 1 {
				cfg.Policy = replicated.LeastLatency()
			}
		})
		defer func() {
			if t.Failed() {
				t.Logf("the plugin sees:%s", s.state())
				t.Logf("FAULTS_SEED=%d; timeline:\n%v", seed, s.line)
			}
		}()
		pool, err := s.db.DB()
		must(t, err)
		pool.SetMaxOpenConns(atOnce)
		e.create(t, c)
		nodes := s.slaves[:2]
		eventually(t, "both serve", func() error { return s.serving(nodes...) })
		writers := s.writers(t, writing, 100*time.Millisecond)
		readers := s.readers(t, reading, 100*time.Millisecond)
		l := s.readUnless(t, inSoak(40, 100), s.trouble.overlaps, steady)
		storm := newStorm(t, s, seed, lasts)
		storm.begin()
		pass(storm.ctx, lasts/3)
		third := heap()
		if err := storm.over(); err != nil {
			t.Error(err)
			writers.stop()
			readers.stop()
			l.stop() // gives up what holds up the others
			storm.lanes.Wait()
		}
		must(t, storm.failed)
		healedAt := time.Now()
		eventually(t, "all serve again", func() error { return s.serving(nodes...) })
		l.served(t, 5, "slave 2", "slave 3")
		again := time.Since(healedAt)
		end := heap()
		writers.stop()
		readers.stop()
		l.stop()
		t.Logf("%d faults, and %d planned switchovers; both served %v after the last; "+
			"heap %d MB after a third, %d MB at the end",
			storm.faults, storm.switchovers, again.Round(time.Millisecond), third>>20, end>>20)
		t.Logf("writers: %v", writers.so())
		t.Logf("readers: %v", readers.so())
		t.Logf("steady: %s", l.report())
		writers.fine(t, "writers")
		readers.fine(t, "readers")
		if l.so().failed > 0 {
			t.Errorf("steady: %s", l.report())
		}
		storm.compare(t, c)
		if end > 2*third+32<<20 {
			t.Errorf("the heap has grown from %d MB to %d MB", third>>20, end>>20)
		}
		for _, status := range s.plugin.Status().Groups[0].Servers {
			if open := status.Pool.OpenConnections; open > atOnce {
				t.Errorf("%s: %d connections", s.name(status.ID), open)
			}
		}
	})
}

// How many are at work at once. Each pool has a connection for every one of them: GORM locks up for ever when
// transactions hold all connections of a pool, and wait for a statement that somebody outside of them
// prepares, who waits for a connection.
const (
	writing = 10
	reading = 10
	steady  = 40
	faulty  = 2 // statements that are faults themselves
	atOnce  = writing + reading + steady + faulty
)

// clusterToSwitch is cluster, but where the master is replaced the servers are the test's own.
func (e *engine) clusterToSwitch(t *testing.T) *servers.Cluster {
	t.Helper()
	if e.switchesOver() {
		return e.own(t, 3)
	}
	return e.cluster(t)
}

// storm is faults that befall the servers of a site, each lane of them one after the other.
type storm struct {
	site  *site
	nodes []*node // the slaves that are read
	roles *roles  // nil: nobody is promoted from outside
	seed  uint64
	lasts time.Duration

	ctx    context.Context // ends when they have lasted long enough, or when one could not be brought about
	cancel context.CancelFunc
	lanes  sync.WaitGroup
	calm   sync.RWMutex // a fault holds it for reading; a switchover, which needs all servers, for writing

	mu          sync.Mutex
	left        map[bool][]fault // of a master, or of slaves: to have before any comes again
	faults      int
	switchovers int
	failed      error
}

func newStorm(t *testing.T, s *site, seed uint64, lasts time.Duration) *storm {
	t.Helper()
	st := &storm{site: s, nodes: s.slaves[:2], seed: seed, lasts: lasts, left: map[bool][]fault{}}
	if s.engine.switchesOver() {
		st.roles = rolesOf(s.app)
	}
	st.ctx, st.cancel = context.WithTimeout(t.Context(), lasts)
	t.Cleanup(func() { st.cancel(); st.lanes.Wait() })
	return st
}

func (st *storm) begin() {
	st.lanes.Go(st.blockLog)
	st.lanes.Go(func() { st.lane(1, false, 1500*time.Millisecond) })
	st.lanes.Go(func() { st.lane(2, true, 6*time.Second) })
	if st.roles != nil {
		st.lanes.Go(st.switchOver)
	}
}

// over returns when all faults are over, or with an error if one hangs. It may wait for a lock, which heeds
// no context.
func (st *storm) over() error {
	over := make(chan struct{})
	go func() { defer close(over); st.lanes.Wait() }()
	<-st.ctx.Done()
	select {
	case <-over:
		return nil
	case <-time.After(2 * hangs): // one ends within hangs, and what waited for it within hangs again
		return fmt.Errorf("a fault hangs; the goroutines:\n%s", goroutines())
	}
}

// random returns what decides about one lane.
func (st *storm) random(lane uint64) *rand.Rand { return rand.New(rand.NewPCG(st.seed, lane)) }

// lane has faults befall the master, or one slave or two.
func (st *storm) lane(number uint64, master bool, pause time.Duration) {
	random := st.random(number)
	for {
		pass(st.ctx, time.Duration(random.Int64N(int64(pause))))
		if st.ctx.Err() != nil {
			return
		}
		f, g := st.next(master, random), fault{}
		if !master && random.IntN(5) == 0 {
			g = st.next(master, random)
		}
		d := 200*time.Millisecond + time.Duration(random.Int64N(int64(2*time.Second)))
		st.calm.RLock()
		if master {
			st.site.trouble.begin()
			st.suffer(st.site.master, f, d/2)
			st.site.trouble.end()
		} else {
			st.slaves(random.Perm(2), f, g, d)
		}
		st.calm.RUnlock()
	}
}

// slaves has f befall the first of two victims and g, unless it is none, the other one at the same time.
func (st *storm) slaves(victims []int, f, g fault, d time.Duration) {
	var both sync.WaitGroup
	if g.name != "" {
		both.Go(func() { st.suffer(st.nodes[victims[1]], g, d) })
	}
	st.suffer(st.nodes[victims[0]], f, d)
	both.Wait()
}

// next returns the fault whose turn it is.
func (st *storm) next(master bool, random *rand.Rand) fault {
	st.mu.Lock()
	defer st.mu.Unlock()
	if len(st.left[master]) == 0 {
		all := ofSlaves()
		if master {
			all = ofMasters()
		}
		all = slices.DeleteFunc(all, func(f fault) bool { return st.site.engine.group && f.leaves })
		random.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
		st.left[master] = all
	}
	f := st.left[master][0]
	st.left[master] = st.left[master][1:]
	st.faults++
	return f
}

// suffer has a fault befall n, for some time.
func (st *storm) suffer(n *node, f fault, d time.Duration) {
	ctx, cancel := context.WithTimeout(context.Background(), hangs)
	defer cancel()
	st.site.line.add("%v: %s, for %v", n, f.name, d.Round(time.Millisecond))
	end, err := f.begin(ctx, n)
	st.fail(fmt.Sprintf("%v: %s", n, f.name), err)
	pass(st.ctx, d)
	if end != nil {
		st.fail(fmt.Sprintf("%v: after %s", n, f.name), end(ctx))
	}
	st.site.line.add("%v: no longer %s", n, f.name)
}

func (st *storm) fail(what string, err error) {
	if err != nil {
		st.mu.Lock()
		defer st.mu.Unlock()
		st.failed = errors.Join(st.failed, fmt.Errorf("%s: %w", what, err))
		st.cancel()
	}
}

// blockLog has the log be full now and then, for longer than any fault lasts.
func (st *storm) blockLog() {
	random := st.random(3)
	for st.ctx.Err() == nil {
		pass(st.ctx, time.Duration(random.Int64N(int64(10*time.Second))))
		st.site.line.add("the log blocks")
		st.site.log.pipe.Lock()
		pass(st.ctx, time.Duration(random.Int64N(int64(10*time.Second))))
		st.site.log.pipe.Unlock()
		st.site.line.add("the log does not block any longer")
	}
}

// switchOver has a planned switchover take place in each round, in the first half of it: in CI in one round,
// in a soak every few minutes. Faults wait until it is over.
func (st *storm) switchOver() {
	random := st.random(4)
	round := inSoak(st.lasts, min(st.lasts, 2*time.Minute))
	for {
		at := time.Duration(random.Int64N(int64(round / 2)))
		pass(st.ctx, at)
		if st.ctx.Err() != nil {
			return
		}
		st.calm.Lock()
		st.fail("a planned switchover", st.site.switchOver(context.Background(), st.roles))
		st.switchovers++
		st.calm.Unlock()
		pass(st.ctx, round-at)
	}
}

// compare compares what was acknowledged with what the servers have once they have replayed all.
func (st *storm) compare(t *testing.T, c *servers.Cluster) {
	t.Helper()
	all := []*servers.Server{c.Master, st.nodes[0].Server, st.nodes[1].Server}
	if st.roles == nil {
		must(t, c.CatchUp(t.Context()))
	} else {
		must(t, st.site.replicated(t.Context(), st.roles))
		all = append([]*servers.Server{st.roles.master}, st.roles.slaves()...)
	}
	for _, server := range all {
		st.site.compare(t, server)
	}
}
