package cluster

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"
)

func TestLatency(t *testing.T) {
	type sample struct {
		at, took time.Duration
		failed   bool
		times    int
	}
	const ms, s = time.Millisecond, time.Second
	for _, c := range []struct {
		name       string
		samples    []sample
		from, upTo time.Duration
	}{
		{"nothing is known", nil, 0, 0},
		{"the first counts", []sample{{at: s, took: 5 * ms}}, 5 * ms, 5 * ms},
		{"samples at one instant count alike",
			[]sample{{at: s, took: 2 * ms}, {at: s, took: 4 * ms}, {at: s, took: 3 * ms, times: 98}},
			299 * ms / 100, 301 * ms / 100},
		{"a sample of an earlier instant counts as well",
			[]sample{{at: s, took: 2 * ms}, {at: s - ms, took: 4 * ms}}, 3 * ms, 3 * ms},
		{"the newest after a silence counts alone",
			[]sample{{at: s, took: ms, times: 1000}, {at: 3 * s, took: 100 * ms}}, 100 * ms, 100 * ms},
		{"the newest after a pause counts most", []sample{{at: s, took: ms}, {at: s + 600*ms, took: 9 * ms}},
			6 * ms, 8 * ms},
		{"one in many hardly counts", []sample{{at: s, took: ms, times: 1000}, {at: s, took: 100 * ms}}, ms,
			12 * ms / 10},
		{"one that took a minute at most doubles it",
			[]sample{{at: s, took: ms, times: 10}, {at: s, took: time.Minute}}, 2 * ms, 2 * ms},
		{"many slow ones count", []sample{{at: s, took: ms, times: 10}, {at: s, took: time.Minute, times: 30}},
			20 * s, 40 * s},
		{"a failure says nothing of an unknown server",
			[]sample{{at: s, took: ms, failed: true}, {at: s, took: time.Minute, failed: true}}, 0, 0},
		{"a fast failure says nothing", []sample{{at: s, took: 5 * ms}, {at: 3 * s, took: ms, failed: true}},
			5 * ms, 5 * ms},
		{"a slow failure counts", []sample{{at: s, took: 5 * ms}, {at: 3 * s, took: 30 * ms, failed: true}},
			30 * ms, 30 * ms},
		{"a read that took no time at all counts", []sample{{at: s}}, 1, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			var l Load
			for _, x := range c.samples {
				for range max(1, x.times) {
					l.Begin()
					l.End(x.at, x.took, !x.failed)
				}
			}
			// Of what a float32 holds.
			if got := l.Latency(); got < c.from-c.from/1_000_000 || got > c.upTo+c.upTo/1_000_000 {
				t.Errorf("%v, not from %v to %v", got, c.from, c.upTo)
			}
			if l.InFlight() != 0 {
				t.Errorf("%d in flight", l.InFlight())
			}
		})
	}
}

func TestLoadIsConcurrent(t *testing.T) {
	servers := known(1, 2, 3)
	for _, s := range servers {
		s.Load.Begin()
		// After the silence, which would let the first samples get lost.
		s.Load.End(time.Second, time.Millisecond, true)
	}
	const goroutines, each = 16, 10_000
	var wg sync.WaitGroup
	start := make(chan struct{})
	for g := range goroutines {
		r := rand.New(rand.NewPCG(uint64(g), 3))
		wg.Go(func() {
			<-start
			for range each {
				s := PickLeast(servers, time.Second, r.Uint64)
				s.Load.Begin()
				if n := s.Load.InFlight(); n < 1 || n > goroutines {
					t.Errorf("%d in flight", n)
				}
				s.Load.End(time.Second, time.Millisecond, true)
			}
		})
	}
	close(start)
	wg.Wait()
	var counted float32
	for _, s := range servers {
		if s.Load.InFlight() != 0 || s.Load.Latency() != time.Millisecond {
			t.Errorf("%d in flight, latency %v", s.Load.InFlight(), s.Load.Latency())
		}
		counted += unpack(s.Load.average.Load()).samples
	}
	if want := float32(goroutines*each + len(servers)); counted != want {
		t.Errorf("%v of %v samples count", counted, want)
	}
}

// Goroutines that pick at the same time send one exploring read between them.
func TestExploreIsConcurrent(t *testing.T) {
	for range 5000 {
		slow := &Server{}
		slow.Load.Begin()
		slow.Load.End(1, time.Second, true)
		slow.Load.turnedDown.Store(exploreAfter)
		explored, start := make(chan bool, 8), make(chan struct{})
		for range cap(explored) {
			go func() {
				<-start
				explored <- slow.Load.explore(2 * exploreEvery)
			}()
		}
		close(start)
		n := 0
		for range cap(explored) {
			if <-explored {
				n++
			}
		}
		if n != 1 {
			t.Fatalf("%d exploring reads at once", n)
		}
	}
}

// known returns servers of these weights whose reads take a millisecond.
func known(weights ...int) (servers []*Server) {
	for _, w := range weights {
		s := &Server{Weight: w}
		s.Load.Begin()
		s.Load.End(1, time.Millisecond, true)
		servers = append(servers, s)
	}
	return servers
}

func TestPickAllocatesNothing(t *testing.T) {
	for _, servers := range [][]*Server{known(1, 1), known(3, 1, 1)} {
		if n := testing.AllocsPerRun(100, func() {
			PickWeighted(servers, rand.Uint64)
			s := PickLeast(servers, time.Second, rand.Uint64)
			s.Load.Begin()
			s.Load.End(time.Second, time.Millisecond, true)
		}); n != 0 {
			t.Errorf("%v allocations", n)
		}
	}
}

// BenchmarkIntN is what BenchmarkPickWeighted is to be compared with.
func BenchmarkIntN(b *testing.B) {
	servers := known(1, 1)
	b.ReportAllocs()
	for b.Loop() {
		_ = servers[rand.IntN(len(servers))]
	}
}

func BenchmarkPickWeighted(b *testing.B) {
	for _, weights := range [][]int{{1, 1}, {3, 1}, {1, 1, 1, 1, 1}, {5, 4, 3, 2, 1}} {
		b.Run(fmt.Sprint(weights), func(b *testing.B) {
			servers := known(weights...)
			b.ReportAllocs()
			for b.Loop() {
				PickWeighted(servers, rand.Uint64)
			}
		})
	}
}

func BenchmarkPickLeast(b *testing.B) {
	for _, weights := range [][]int{{1, 1}, {3, 1}, {1, 1, 1, 1, 1}, {5, 4, 3, 2, 1}} {
		b.Run(fmt.Sprint(weights), func(b *testing.B) {
			servers := known(weights...)
			b.ReportAllocs()
			for b.Loop() {
				PickLeast(servers, time.Second, rand.Uint64)
			}
		})
	}
}

func BenchmarkLoad(b *testing.B) {
	var l Load
	now := time.Second
	b.ReportAllocs()
	for b.Loop() {
		now += time.Microsecond
		l.Begin()
		l.End(now, time.Millisecond, true)
	}
}

// BenchmarkRead is all that a read costs, by goroutines that share two servers.
func BenchmarkRead(b *testing.B) {
	servers := known(1, 1)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for now := time.Second; pb.Next(); now += time.Microsecond {
			s := PickLeast(servers, now, rand.Uint64)
			s.Load.Begin()
			s.Load.End(now, time.Millisecond, true)
		}
	})
}
