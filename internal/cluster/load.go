package cluster

import (
	"math"
	"sync/atomic"
	"time"
)

// memory is the time constant of the latency. What was before a silence of that length counts no more.
const memory = time.Second

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
