package cluster

import (
	"math/bits"
	"time"
)

const (
	// unknownAtOnce is how many reads may be in flight on a server of which nothing is known.
	unknownAtOnce = 2
	// asGood is how much less a server must cost to be cheaper. Equal servers measure a little differently:
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
// same time: Mitzenmacher, "The Power of Two Choices in Randomized Load Balancing", 2001.
//
// A server costs latency × (1 + reads in flight / weight), nearly as in Finagle's Peak EWMA. Divided by the
// weight as a whole, the heavier one would get all reads of a quiet time. For example:
//
//	server  latency  in flight  weight  costs
//	a       2 ms     4          1       2 ms × (1 + 4/1) = 10 ms
//	b       5 ms     2          3       5 ms × (1 + 2/3) =  8.3 ms
//	c       20 ms    0          1       20 ms
//
// Of a and b the one that was drawn first gets the read: 8.3 ms is not less than asGood of 10 ms. Of a and c
// it is a, of b and c it is b. Nobody gets c for its 20 ms, but for one read in 200: now and then the dearer
// one gets the read, lest its recovery go unnoticed.
//
// Begin must follow at once.
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
