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
)

// TestRandomFaults has faults befall all servers, in an order and for times that a seed decides, while clients write and read.
func TestRandomFaults(t *testing.T) {
	lasts := inSoak(30*time.Second, soak)
	eachEngine(t, func(t *testing.T, e *engine) {
		seed, err := strconv.ParseUint(os.Getenv("FAULTS_SEED"), 10, 64)
		if err != nil {
			seed = rand.Uint64()
		}
		t.Logf("FAULTS_SEED=%d", seed)
		c := e.cluster(t)
		s := openSite(t, e, c, func(cfg *replicated.Config) {
			cfg.MaxLag = 10 * time.Second
			if seed/2%2 == 1 {
				cfg.Pool.MaxLifetime = time.Second // new connections are what "account locked" is about
			}
			if seed%2 == 1 {
				cfg.Policy = replicated.LeastLatency()
			}
		})
		e.create(t, c)
		nodes := s.slaves[:2]
		eventually(t, "both serve", func() error { return s.serving(nodes...) })
		writers := s.writers(t, 10, 100*time.Millisecond)
		readers := s.readers(t, 10, 100*time.Millisecond)
		l := s.readUnless(t, inSoak(40, 100), s.trouble.overlaps)
		left := map[bool][]fault{} // to have before any comes again
		next := func(master bool, random *rand.Rand) fault {
			if len(left[master]) == 0 {
				if left[master] = ofSlaves(); master {
					left[master] = ofMasters()
				}
				left[master] = slices.DeleteFunc(left[master], func(f fault) bool { return e.group && f.leaves })
				all := left[master]
				random.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
			}
			f := left[master][0]
			left[master] = left[master][1:]
			return f
		}
		ctx, cancel := context.WithTimeout(t.Context(), lasts)
		defer cancel()
		var lanes sync.WaitGroup
		var failed error
		var mu sync.Mutex
		fail := func(n *node, what string, err error) {
			if err != nil {
				mu.Lock()
				defer mu.Unlock()
				failed = errors.Join(failed, fmt.Errorf("%v: %s: %w", n, what, err))
				cancel()
			}
		}
		// suffer has a fault befall n, for some time.
		suffer := func(n *node, f fault, d time.Duration, around func(*node, bool)) {
			around(n, true)
			s.line.add("%v: %s, for %v", n, f.name, d.Round(time.Millisecond))
			end, err := f.begin(context.Background(), n)
			fail(n, f.name, err)
			pass(ctx, d)
			if end != nil {
				fail(n, "after "+f.name, end(context.Background()))
			}
			s.line.add("%v: no longer %s", n, f.name)
			around(n, false)
		}
		var kinds int
		lane := func(random *rand.Rand, master bool, pause time.Duration, around func(*node, bool)) {
			for ctx.Err() == nil {
				pass(ctx, time.Duration(random.Int64N(int64(pause))))
				if ctx.Err() != nil {
					return
				}
				mu.Lock()
				f, g := next(master, random), fault{}
				if !master && random.IntN(5) == 0 {
					g = next(master, random)
				}
				kinds++
				mu.Unlock()
				d := 200*time.Millisecond + time.Duration(random.Int64N(int64(2*time.Second)))
				if master {
					suffer(s.master, f, d/2, around)
					continue
				}
				victims := random.Perm(2)
				var both sync.WaitGroup
				if g.name != "" { // both at once
					both.Go(func() { suffer(nodes[victims[1]], g, d, around) })
				}
				suffer(nodes[victims[0]], f, d, around)
				both.Wait()
			}
		}
		lanes.Go(func() { // the log is full now and then, for longer than any fault lasts
			random := rand.New(rand.NewPCG(seed, 3))
			for ctx.Err() == nil {
				pass(ctx, time.Duration(random.Int64N(int64(10*time.Second))))
				s.line.add("the log blocks")
				s.log.pipe.Lock()
				pass(ctx, time.Duration(random.Int64N(int64(10*time.Second))))
				s.log.pipe.Unlock()
				s.line.add("the log does not block any longer")
			}
		})
		nobody := func(*node, bool) {}
		lanes.Go(func() { lane(rand.New(rand.NewPCG(seed, 1)), false, 1500*time.Millisecond, nobody) })
		lanes.Go(func() {
			lane(rand.New(rand.NewPCG(seed, 2)), true, 6*time.Second, func(_ *node, begins bool) {
				if begins {
					s.trouble.begin()
				} else {
					s.trouble.end()
				}
			})
		})
		pass(ctx, lasts/3)
		third := heap()
		lanes.Wait()
		must(t, failed)
		healedAt := time.Now()
		eventually(t, "all serve again", func() error { return s.serving(nodes...) })
		l.served(t, 5, "slave 2", "slave 3")
		again := time.Since(healedAt)
		end := heap()
		writers.stop()
		readers.stop()
		l.stop()
		t.Logf("%d faults; both served %v after the last; heap %d MB after a third, %d MB at the end", kinds, again.Round(time.Millisecond), third>>20, end>>20)
		t.Logf("writers: %v", writers.so())
		t.Logf("readers: %v", readers.so())
		t.Logf("steady: %s", l.report())
		writers.fine(t, "writers")
		readers.fine(t, "readers")
		if l.so().failed > 0 {
			t.Errorf("steady: %s", l.report())
		}
		must(t, c.CatchUp(t.Context()))
		s.compare(t, c.Master)
		for _, n := range nodes {
			s.compare(t, n.Server)
		}
		if end > 2*third+32<<20 {
			t.Errorf("the heap has grown from %d MB to %d MB", third>>20, end>>20)
		}
		for _, status := range s.plugin.Status().Groups[0].Servers {
			if open := status.Pool.OpenConnections; open > connections {
				t.Errorf("%s: %d connections", s.name(status.ID), open)
			}
		}
		if t.Failed() {
			t.Logf("the plugin sees:%s", s.state())
			t.Logf("FAULTS_SEED=%d; timeline:\n%v", seed, s.line)
		}
	})
}
