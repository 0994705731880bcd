package cluster

import (
	"math"
	"math/bits"
	"sync/atomic"
	"time"
)

const (
	// memory is the time constant of the latency. What was before a silence of that length counts no more.
	memory = time.Second
	// unknownAtOnce is how many reads may be in flight on a server of which nothing is known.
	unknownAtOnce = 2
	// asGood is how much less a server must cost to be cheaper: equal ones measure a little differently, and
	// without it the luckier one would get all reads of a quiet time.
	asGood = 0.8
	// A server that is turned down gets an exploring read after exploreEvery and exploreAfter picks at the
	// soonest. As those picks are its own, the exploring reads of all servers together are one in exploreAfter,
	// which is beyond the 99th percentile.
	exploreEvery = time.Second
	exploreAfter = 200
	// unwanted is what a server costs that gets a read only if there is no other: more than decades of latency.
	unwanted = 1e18
)

// Load is what is known of how busy a server is. The zero value is a server of which nothing is known yet.
// Safe for concurrent use. Times are monotonic, since a base that all servers share, and greater than zero.
type Load struct {
	inFlight   atomic.Int64
	average    atomic.Uint64 // packed; 0 if nothing is known
	updated    atomic.Int64  // when average was
	tried      atomic.Int64  // when it was explored last, or failed while nothing was known; 0 if neither
	turnedDown atomic.Int64  // picks since the latest exploring read
}

// Begin notes that a read begins.
func (l *Load) Begin() { l.inFlight.Add(1) }

// End notes that a read has ended at now, after it took this long. ok is false if the server failed it or it
// was cancelled: then took counts only if it is longer than what is known, and not if nothing is, since a
// refused connection is fast and says nothing.
func (l *Load) End(now, took time.Duration, ok bool) {
	l.learn(now, max(took, 1), ok)
	l.inFlight.Add(-1) // last: otherwise a server of which nothing is known would look free too soon
}

// InFlight returns how many reads have begun and not ended.
func (l *Load) InFlight() int64 { return l.inFlight.Load() }

// Latency returns how long reads have taken lately, 0 if that is not known. It stays as it is while there
// are no reads.
func (l *Load) Latency() time.Duration { return unpack(l.average.Load()).latency() }

// PickWeighted returns one of servers at random, each in proportion to its Weight; nil if there are none.
func PickWeighted(servers []*Server, random func() uint64) *Server {
	if len(servers) < 2 {
		return only(servers)
	}
	r := random()
	if alike(servers) {
		i, _ := bits.Mul64(r, uint64(len(servers)))
		return servers[i]
	}
	s, _ := draw(servers, nil, total(servers), r)
	return s
}

// PickLeast returns the cheaper of two servers, which it draws in proportion to their Weight; nil if there
// are none. Two are enough to keep off the busy one, without all callers going for the same best one at the
// same time: Mitzenmacher, "The Power of Two Choices in Randomized Load Balancing", 2001. A server costs
// latency × (1 + reads in flight / weight), nearly as in Finagle's Peak EWMA: divided by the weight as a
// whole, the heavier one would get all reads of a quiet time. Now and then the dearer one gets the read,
// lest its recovery go unnoticed. Begin must follow at once.
func PickLeast(servers []*Server, now time.Duration, random func() uint64) *Server {
	if len(servers) < 2 {
		return only(servers)
	}
	s, other := drawTwo(servers, random())
	cost, others := s.cost(), other.cost()
	if others < asGood*cost {
		s, other, cost = other, s, others
	}
	if cost >= unwanted { // both
		for _, third := range servers {
			if c := third.cost(); c < cost {
				s, cost = third, c
			}
		}
	}
	if other.Load.explore(now) {
		return other
	}
	return s
}

func (l *Load) learn(now, took time.Duration, ok bool) {
	old := l.average.Load()
	switch known := unpack(old).latency(); {
	case ok:
	case known == 0:
		l.tried.Store(int64(now)) // from now on it is explored: failures would let it seem free all the time
		return
	case took <= known:
		return
	}
	// Ends at the same time share the silence out among them. Right after a long one they may overtake each
	// other, and a few of the first samples get lost.
	silence := now - time.Duration(l.updated.Swap(int64(now)))
	for !l.average.CompareAndSwap(old, unpack(old).with(silence, took).pack()) {
		old = l.average.Load()
	}
}

// explore tells whether a server that is turned down gets the read nevertheless.
func (l *Load) explore(now time.Duration) bool {
	if l.turnedDown.Add(1) < exploreAfter || l.inFlight.Load() > 0 {
		return false
	}
	tried := l.tried.Load()
	if now-time.Duration(max(tried, l.updated.Load())) < exploreEvery ||
		!l.tried.CompareAndSwap(tried, int64(now)) {
		return false
	}
	l.turnedDown.Store(0)
	return true
}

func (s *Server) cost() float64 {
	latency, inFlight := unpack(s.Load.average.Load()).nanoseconds, s.Load.inFlight.Load()
	switch {
	case latency > 0:
		return float64(latency) * (1 + float64(inFlight)/float64(s.weight()))
	case inFlight < unknownAtOnce && s.Load.tried.Load() == 0:
		return 0
	}
	return unwanted * float64(inFlight+1)
}

// average is an exponentially weighted moving average (EWMA) of latency. It has no fixed smoothing factor:
// each sample weighs 1 and fades with time, so that many at one instant count alike, and one after a long
// silence counts alone.
type average struct {
	nanoseconds float32
	samples     float32 // what they weigh together
}

func unpack(a uint64) average {
	return average{math.Float32frombits(uint32(a)), math.Float32frombits(uint32(a >> 32))}
}

func (a average) pack() uint64 {
	return uint64(math.Float32bits(a.samples))<<32 | uint64(math.Float32bits(a.nanoseconds))
}

func (a average) latency() time.Duration { return time.Duration(a.nanoseconds) }

// with returns the average with one more sample, which comes this long after the latest.
func (a average) with(silence, took time.Duration) average {
	a.samples *= min(1, max(0, 1-float32(silence)/float32(memory))) // 1-x is exp(-x) for small x, but reaches 0
	next := a.nanoseconds + (float32(took)-a.nanoseconds)/(a.samples+1)
	if a.samples >= 1 {
		next = min(next, 2*a.nanoseconds) // one report that took a minute says little of the server
	}
	return average{next, a.samples + 1}
}

func (s *Server) weight() uint64 { return uint64(max(1, s.Weight)) }

// only returns the one of servers, or nil.
func only(servers []*Server) *Server {
	if len(servers) == 0 {
		return nil
	}
	return servers[0]
}

// alike tells whether servers weigh the same. That is the usual case, and it is drawn from without a branch
// that the processor cannot foretell.
func alike(servers []*Server) bool {
	for _, s := range servers[1:] {
		if s.Weight != servers[0].Weight {
			return false
		}
	}
	return true
}

func total(servers []*Server) (weight uint64) {
	for _, s := range servers {
		weight += s.weight()
	}
	return weight
}

// drawTwo draws two different servers.
func drawTwo(servers []*Server, r uint64) (a, b *Server) {
	if alike(servers) {
		n := uint64(len(servers))
		i, rest := bits.Mul64(r, n)
		j, _ := bits.Mul64(rest, n-1)
		if j >= i {
			j++
		}
		return servers[i], servers[j]
	}
	weight := total(servers)
	a, rest := draw(servers, nil, weight, r)
	b, _ = draw(servers, a, weight-a.weight(), rest)
	return a, b
}

// draw draws one of servers other than except, which weigh this much together, by the random number r. What
// that leaves of r is random too, enough for one more draw.
func draw(servers []*Server, except *Server, weight, r uint64) (drawn *Server, rest uint64) {
	at, rest := bits.Mul64(r, weight)
	for _, s := range servers {
		if s == except {
			continue
		}
		if drawn = s; at < s.weight() {
			break
		}
		at -= s.weight()
	}
	return drawn, rest
}
