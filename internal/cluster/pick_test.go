package cluster

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

func TestPickWeighted(t *testing.T) {
	// misfit is Pearson's chi-square of what was drawn against what these weights would give.
	misfit := func(drawn, weights []int) (chi2 float64) {
		sum, draws := 0, 0
		for i, w := range weights {
			sum, draws = sum+max(1, w), draws+drawn[i]
		}
		for i, w := range weights {
			expected := float64(draws*max(1, w)) / float64(sum)
			chi2 += (float64(drawn[i]) - expected) * (float64(drawn[i]) - expected) / expected
		}
		return chi2
	}
	for _, weights := range [][]int{
		{1, 1}, {3, 1}, {0, 1}, {0, 0, 0}, {1, 1, 1}, {5, 3, 2}, {7, 7, 7, 7}, {1, 100},
	} {
		for seed := range uint64(3) {
			r := rand.New(rand.NewPCG(seed, 1))
			servers := make([]*Server, len(weights))
			for i, w := range weights {
				servers[i] = &Server{Weight: w}
			}
			drawn, pairs := make([]int, len(weights)), make([]int, len(weights))
			for range 50_000 {
				drawn[slices.Index(servers, PickWeighted(servers, r.Uint64))]++
				a, b := drawTwo(servers, r.Uint64())
				if a == b {
					t.Fatalf("weights %v, seed %d: a pair of one server", weights, seed)
				}
				pairs[slices.Index(servers, a)]++
			}
			const bound = 21.1 // with three degrees of freedom chance exceeds it once in 10,000 times
			for _, d := range [][]int{drawn, pairs} {
				if chi2 := misfit(d, weights); chi2 > bound {
					t.Errorf("weights %v, seed %d: drawn %v, chi-square %.1f", weights, seed, d, chi2)
				}
			}
			reversed := slices.Clone(weights)
			slices.Reverse(reversed)
			if uneven := weights[0] > 1 && weights[0] != reversed[0]; uneven && misfit(drawn, reversed) < bound {
				t.Errorf("control: weights %v, seed %d: drawn %v also fits %v", weights, seed, drawn, reversed)
			}
		}
	}
}

// TestPickLeastCosts has the figures of PickLeast's comment.
func TestPickLeastCosts(t *testing.T) {
	const ms = time.Millisecond
	server := func(latency time.Duration, inFlight, weight int) *Server {
		s := &Server{Weight: weight}
		s.Load.Begin()
		s.Load.End(1, latency, true)
		for range inFlight {
			s.Load.Begin()
		}
		return s
	}
	a, b, c := server(2*ms, 4, 1), server(5*ms, 2, 3), server(20*ms, 0, 1)
	for _, test := range []struct {
		s    *Server
		want float64
	}{{a, 10e6}, {b, 25e6 / 3}, {c, 20e6}} {
		if got := test.s.cost(); math.Abs(got-test.want) > 1e-6*test.want {
			t.Errorf("costs %v, not %v", got, test.want)
		}
	}
	for _, test := range []struct {
		name    string
		servers []*Server
		want    [2]*Server // if the first, or the second, is drawn first
	}{
		{"nearly as good", []*Server{a, b}, [2]*Server{a, b}},
		{"much better", []*Server{a, c}, [2]*Server{a, a}},
		{"better, by its weight", []*Server{b, c}, [2]*Server{b, b}},
	} {
		first := PickLeast(test.servers, 1, func() uint64 { return 0 })
		second := PickLeast(test.servers, 1, func() uint64 { return math.MaxUint64 })
		if first != test.want[0] || second != test.want[1] {
			t.Errorf("%s: another one", test.name)
		}
	}
}

func TestPickOfFew(t *testing.T) {
	never := func() uint64 { panic("there is no choice") }
	one := &Server{}
	if PickWeighted(nil, never) != nil || PickLeast(nil, 1, never) != nil {
		t.Error("there is one of none")
	}
	if PickWeighted([]*Server{one}, never) != one || PickLeast([]*Server{one}, 1, never) != one {
		t.Error("the only one was not picked")
	}
}

// The second of a pair is drawn in proportion to weight as well, among those that are left.
func TestDrawTwoOfThree(t *testing.T) {
	for _, c := range []struct {
		weights []int
		second  float64 // how often it is the second server, after the first
	}{{[]int{1, 1, 1}, 1. / 2}, {[]int{5, 3, 1}, 3. / 4}} {
		servers := []*Server{{Weight: c.weights[0]}, {Weight: c.weights[1]}, {Weight: c.weights[2]}}
		r := rand.New(rand.NewPCG(1, 2))
		var first, then float64
		for range 100_000 {
			if a, b := drawTwo(servers, r.Uint64()); a == servers[0] {
				first++
				if b == servers[1] {
					then++
				}
			}
		}
		if math.Abs(then/first-c.second) > 0.01 {
			t.Errorf("weights %v: after the first the second in %.3f of the cases, not %.3f", c.weights, then/first,
				c.second)
		}
	}
}

func TestPickLeastKeepsTheTailShort(t *testing.T) {
	jitters := map[string]func(*rand.Rand) float64{"exponential": exponential, "lognormal": lognormal}
	for name, jitter := range jitters {
		for _, weights := range [][]int{{1, 1}, {1, 1, 1}} {
			for _, perSecond := range []float64{20, 50, 200, 2000} {
				const warmUp = 5 * time.Second
				tr := traffic{7, weights, perSecond, warmUp + time.Duration(10_000/perSecond)*time.Second,
					slowFirst(0, forever, jitter)}
				tail := func(pick policy) time.Duration { return p99(between(tr.run(pick, nil), warmUp, forever)) }
				random, least := tail(atRandom), tail(PickLeast)
				t.Logf("%s, %v: p99 %v, at random %v", name, tr, least, random)
				if least > random/5 {
					t.Errorf("%s, %v: p99 is %v, at random %v", name, tr, least, random)
				}
				tr.seed++
				if again := tail(atRandom); again <= random/5 {
					t.Errorf("control: %s, %v: p99 is %v at random, and %v", name, tr, random, again)
				}
			}
		}
	}
}

func TestPickLeastFollowsChanges(t *testing.T) {
	const at = 20 * time.Second
	for _, c := range []struct {
		name     string
		from, to time.Duration // in which the first is slow
		after    time.Duration // when to look, for ten seconds
		holds    func(part float64) bool
		control  policy
	}{
		{"a slow server becomes fast", 0, at, 0, func(part float64) bool { return part >= 0.25 }, unexploring},
		{"a fast server becomes slow", at, forever, 2 * time.Second,
			func(part float64) bool { return part <= 0.02 }, atRandom},
	} {
		const seeds = 10
		controls := 0
		for seed := range uint64(seeds) {
			tr := traffic{seed, []int{1, 1}, 200, at + c.after + 10*time.Second, slowFirst(c.from, c.to, exponential)}
			got := func(pick policy) float64 { return part(between(tr.run(pick, nil), at+c.after, forever), 0) }
			if p := got(PickLeast); !c.holds(p) {
				t.Errorf("%s, %v: it gets %.3f of the reads", c.name, tr, p)
			} else if seed == 0 {
				t.Logf("%s, %v: it gets %.3f of the reads", c.name, tr, p)
			}
			if !c.holds(got(c.control)) {
				controls++
			}
		}
		// Even without exploring, the last read of a slow server may happen to be a fast one.
		if controls < 0.8*seeds {
			t.Errorf("control: %s: only %d of %d fail", c.name, controls, seeds)
		}
	}
}

// A server that always costs more gets reads: one at a time, one in a second and one in 200 picks at the
// most, but not much fewer. It is so much slower that the other is never busy enough to make it the cheaper
// one.
func TestPickLeastExplores(t *testing.T) {
	for _, perSecond := range []float64{20, 200, 1000} {
		for _, slow := range []time.Duration{200 * time.Millisecond, 3 * time.Second} {
			const warmUp, lasts = 10 * time.Second, 60 * time.Second
			tr := traffic{3, []int{1, 1}, perSecond, warmUp + lasts,
				func(server int, _ time.Duration, _ *rand.Rand) (time.Duration, bool) {
					return []time.Duration{slow, time.Millisecond}[server], false
				}}
			explored := func(pick policy) (n int) {
				previous, picks := time.Duration(0), 0
				for _, read := range between(tr.run(pick, nil), warmUp, forever) {
					if picks++; read.server != 0 {
						continue
					}
					if n++; n > 1 && (picks < exploreAfter || read.start-previous < slow+exploreEvery) {
						t.Errorf("%v: explored at %v after %v and %d picks", tr, read.start, read.start-previous, picks)
					}
					previous, picks = read.start, 0
				}
				return n
			}
			n, due := explored(PickLeast), min(lasts.Seconds()*perSecond/exploreAfter,
				float64(lasts)/float64(slow+exploreEvery))
			t.Logf("%v, %v: %d exploring reads", tr, slow, n)
			if n < int(0.8*due) {
				t.Errorf("%v, %v: explored %d times, not %.1f", tr, slow, n, due)
			}
			if n := explored(unexploring); n > 0 {
				t.Errorf("control: %v, %v: explored %d times", tr, slow, n)
			}
		}
	}
}

// Of equal servers each gets its share, and not only in the long run.
func TestPickLeastStarvesNobody(t *testing.T) {
	for seed := range uint64(3) {
		for _, weights := range [][]int{{1, 1}, {1, 1, 1}} {
			const window = 5 * time.Second
			tr := traffic{seed, weights, 200, 20 * window, slowFirst(0, 0, exponential)}
			reads := tr.run(PickLeast, nil)
			for i := range weights {
				fair, least := 1/float64(len(weights)), 1.
				for from := window; from < tr.lasts; from += window {
					least = min(least, part(between(reads, from, from+window), i))
				}
				if p := part(reads, i); math.Abs(p-fair) > fair/10 || least < fair/4 {
					t.Errorf("%v: equal server %d gets %.3f of the reads, and once %.3f", tr, i, p, least)
				}
			}
		}
	}
}

func TestPickLeastRespectsWeight(t *testing.T) {
	share := func(weights ...int) float64 {
		tr := traffic{5, weights, 5000, 10 * time.Second, slowFirst(0, 0, exponential)}
		p := part(between(tr.run(PickLeast, nil), time.Second, forever), 0)
		t.Logf("%v: the first gets %.3f of the reads", tr, p)
		return p
	}
	for _, p := range []float64{share(3, 1), 1 - share(1, 3)} {
		if p < 0.65 || p > 0.85 {
			t.Errorf("weight 3 gets %.3f of the reads, weight 1 the others", p)
		}
	}
	if p := share(1, 1); p > 0.65 {
		t.Errorf("control: an equal server gets %.3f of the reads", p)
	}
}

// A server whose first reads take a second does not attract all that come in the meantime.
func TestNoStampede(t *testing.T) {
	for _, weights := range [][]int{{1, 1}, {1, 1, 1}, {3, 1}} {
		tr := traffic{11, weights, 2000, 3 * time.Second,
			func(server int, _ time.Duration, _ *rand.Rand) (time.Duration, bool) {
				if server == 0 {
					return time.Second, false
				}
				return time.Millisecond, false
			}}
		most := func(pick policy) (most int64, tried bool) {
			tr.run(pick, func(servers []*Server, read servedRead) {
				tried = tried || read.server == 0
				if isUnknown(servers[0]) && !all(servers[1:], isUnknown) {
					most = max(most, servers[0].Load.InFlight())
				}
			})
			return most, tried
		}
		if n, tried := most(PickLeast); n > unknownAtOnce || !tried {
			t.Errorf("%v: tried %v, %d reads at once on a server of which nothing is known", tr, tried, n)
		}
		if n, _ := most(unlimited); n <= unknownAtOnce {
			t.Errorf("control: %v: %d reads at once on a server of which nothing is known", tr, n)
		}
	}
}

// A server that has only ever failed is fast at it, and seldom asked.
func TestPickLeastAvoidsFailingServer(t *testing.T) {
	for _, fails := range []time.Duration{100 * time.Microsecond, 5 * time.Second} {
		tr := traffic{13, []int{1, 1}, 200, 50 * time.Second,
			func(server int, _ time.Duration, _ *rand.Rand) (time.Duration, bool) {
				if server == 0 {
					return fails, true
				}
				return time.Millisecond, false
			}}
		if p := part(tr.run(PickLeast, nil), 0); p > 0.006 {
			t.Errorf("%v: a server that fails after %v gets %.4f of the reads", tr, fails, p)
		}
		if p := part(tr.run(atRandom, nil), 0); p <= 0.006 {
			t.Errorf("control: %v: a server that fails after %v gets %.4f of the reads", tr, fails, p)
		}
	}
}

// With all servers as busy as they may be while nothing is known, and with all failing, one is picked all
// the same.
func TestPickLeastOfUnknown(t *testing.T) {
	servers := []*Server{{}, {}, {}}
	for n := range 3 * 5 {
		PickLeast(servers, 1, rand.Uint64).Load.Begin()
		for _, s := range servers {
			if n%3 == 2 && n > 3*unknownAtOnce && s.Load.InFlight() != int64(n/3+1) {
				t.Errorf("after %d reads one has %d", n+1, s.Load.InFlight())
			}
		}
	}
	servers[2].Load.End(1, time.Minute, true)
	for range 100 {
		if PickLeast(servers, 1, rand.Uint64) != servers[2] {
			t.Fatal("not the one of which something is known")
		}
	}
}
