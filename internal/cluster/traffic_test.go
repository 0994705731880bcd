package cluster

import (
	"cmp"
	"container/heap"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"time"
)

// policy is PickLeast, or what it is compared with.
type policy func(servers []*Server, now time.Duration, random func() uint64) *Server

func atRandom(servers []*Server, _ time.Duration, random func() uint64) *Server {
	return PickWeighted(servers, random)
}

// unexploring is PickLeast without exploring reads.
func unexploring(servers []*Server, now time.Duration, random func() uint64) *Server {
	for _, s := range servers {
		s.Load.turnedDown.Store(0)
	}
	return PickLeast(servers, now, random)
}

// unlimited is PickLeast without a limit for servers of which nothing is known.
func unlimited(servers []*Server, now time.Duration, random func() uint64) *Server {
	if i := slices.IndexFunc(servers, isUnknown); i >= 0 && !all(servers, isUnknown) {
		return servers[i]
	}
	return PickLeast(servers, now, random)
}

func isUnknown(s *Server) bool { return s.Load.Latency() == 0 }

func all(servers []*Server, is func(*Server) bool) bool {
	return !slices.ContainsFunc(servers, func(s *Server) bool { return !is(s) })
}

// servedRead is a read on a server, from start to end.
type servedRead struct {
	server     int
	start, end time.Duration
	failed     bool
}

type inOrderOfEnd []servedRead

func (q inOrderOfEnd) Len() int { return len(q) }

func (q inOrderOfEnd) Less(i, j int) bool { return q[i].end < q[j].end }

func (q inOrderOfEnd) Swap(i, j int) { q[i], q[j] = q[j], q[i] }

func (q *inOrderOfEnd) Push(x any) { *q = append(*q, x.(servedRead)) }

func (q *inOrderOfEnd) Pop() any {
	last := len(*q) - 1
	defer func() { *q = (*q)[:last] }()
	return (*q)[last]
}

// traffic is a Poisson stream of reads to servers that are as slow as took says, in virtual time.
type traffic struct {
	seed      uint64
	weights   []int
	perSecond float64
	lasts     time.Duration
	took      took
}

// took tells how long a read takes that begins on a server now.
type took func(server int, now time.Duration, r *rand.Rand) (took time.Duration, failed bool)

func (tr traffic) String() string {
	return fmt.Sprintf("seed %d, weights %v, %v reads/s", tr.seed, tr.weights, tr.perSecond)
}

// run returns the reads in the order of their start. look, if not nil, is called after each.
func (tr traffic) run(pick policy, look func(servers []*Server, read servedRead)) (reads []servedRead) {
	r := rand.New(rand.NewPCG(tr.seed, 0))
	var servers []*Server
	for _, weight := range tr.weights {
		servers = append(servers, &Server{Weight: weight})
	}
	var inFlight inOrderOfEnd
	random := r.Uint64
	pause := func() time.Duration { return time.Duration(r.ExpFloat64() / tr.perSecond * float64(time.Second)) }
	for now := time.Duration(1); now < tr.lasts; now += pause() {
		for len(inFlight) > 0 && inFlight[0].end <= now {
			read := heap.Pop(&inFlight).(servedRead)
			servers[read.server].Load.End(read.end, read.end-read.start, !read.failed)
		}
		s := pick(servers, now, random)
		s.Load.Begin()
		i := slices.Index(servers, s)
		took, failed := tr.took(i, now, r)
		read := servedRead{i, now, now + took, failed}
		heap.Push(&inFlight, read)
		reads = append(reads, read)
		if look != nil {
			look(servers, read)
		}
	}
	return reads
}

func exponential(r *rand.Rand) float64 { return r.ExpFloat64() }

func lognormal(r *rand.Rand) float64 { return math.Exp(0.5*r.NormFloat64() - 0.125) } // its mean is 1

// slowFirst makes the first server ten times slower than the others from one time to another.
func slowFirst(from, to time.Duration, jitter func(*rand.Rand) float64) took {
	return func(server int, now time.Duration, r *rand.Rand) (time.Duration, bool) {
		mean := float64(time.Millisecond)
		if server == 0 && now >= from && now < to {
			mean *= 10
		}
		return time.Duration(mean * jitter(r)), false
	}
}

// between returns the reads that started from one time to another.
func between(reads []servedRead, from, to time.Duration) []servedRead {
	index := func(at time.Duration) int {
		i, _ := slices.BinarySearchFunc(reads, at,
			func(r servedRead, at time.Duration) int { return cmp.Compare(r.start, at) })
		return i
	}
	return reads[index(from):index(to)]
}

// part returns which part of the reads a server got.
func part(reads []servedRead, server int) float64 {
	n := 0
	for _, r := range reads {
		if r.server == server {
			n++
		}
	}
	return float64(n) / float64(len(reads))
}

func p99(reads []servedRead) time.Duration {
	var took []time.Duration
	for _, r := range reads {
		took = append(took, r.end-r.start)
	}
	slices.Sort(took)
	return took[len(took)*99/100]
}

const forever = math.MaxInt64
