package cluster

import (
	"context"
	"sync"
	"time"
)

// A slave that hangs gives neither a result nor an error, and a read that waits for it cannot look after
// itself. So each slave has a list of the reads that are in flight on it, the oldest first, and one timer,
// which is set for the moment when the oldest has taken too long. Then the slave is asked whether it is
// alive. If it is, the read is a slow one, goes on, and gets the same time again; if not, it is cancelled.
//
// A read costs the list two short locks, and no timer: most are over long before the timer of an earlier one
// fires. It finds another read to be the oldest then, and is set for that one.

// Flight is what one caller, such as a request, has in flight on one slave. It must not be copied, and is for
// one server only.
type Flight struct {
	Cancel context.CancelFunc // ends the caller's reads there; set before the first Begin

	// Guarded by flights.mu of the server:
	reads          int
	since          time.Duration // when the first of them began; later, if the slave has answered that it lives
	downs          uint64        // Server.Downs when it began
	cancelled      bool
	older, younger *Flight
}

// flights is all that is in flight on a slave.
type flights struct {
	mu               sync.Mutex
	oldest, youngest *Flight     // by since
	timer            *time.Timer // nil before the first flight
	set              bool        // the timer is, or look is under way
}

// origin is what Now counts from.
var origin = time.Now()

// Now is a time for [Server.FitsAt] and [Cluster.Begin], on the monotonic clock. It costs half of what
// time.Now does.
func Now() time.Duration { return time.Since(origin) }

// FitsAt is Fits for a caller that knows the time.
func (s *Server) FitsAt(now time.Duration) bool {
	state := s.state.Load()
	return state != nil && state.Readable && (state.Until.IsZero() || state.Until.Sub(origin) > now)
}

// Begin notes that a read begins on s. When it has taken longer than timeout, which has to be the same each
// time, s is asked whether it is alive.
func (c *Cluster) Begin(s *Server, f *Flight, now, timeout time.Duration) {
	all := &s.flights
	all.mu.Lock()
	defer all.mu.Unlock()
	if f.reads++; f.reads > 1 || f.cancelled {
		return
	}
	f.since, f.downs = now, s.Downs()
	all.add(f)
	switch {
	case all.set:
		return
	case all.timer == nil:
		all.timer = time.AfterFunc(timeout, func() { c.lookAfter(s, timeout) })
	default:
		all.timer.Reset(timeout)
	}
	all.set = true
}

// End notes that a read has ended, and tells whether it was cancelled because s hangs.
func (s *Server) End(f *Flight) (cancelled bool) {
	s.flights.mu.Lock()
	defer s.flights.mu.Unlock()
	if f.reads--; f.reads == 0 && !f.cancelled {
		s.flights.remove(f)
	}
	return f.cancelled
}

// lookAfter is called when the oldest flight may have taken too long.
func (c *Cluster) lookAfter(s *Server, timeout time.Duration) {
	all := &s.flights
	all.mu.Lock()
	defer all.mu.Unlock()
	limit, downs := Now()-timeout, s.Downs()
	// No answer will come over a connection from before the server was down for certain.
	all.cancel(limit, func(f *Flight) bool { return f.downs != downs })
	if all.oldest != nil && all.oldest.since <= limit {
		all.mu.Unlock()
		alive := c.Answers(s, downs) // it takes a second at most
		all.mu.Lock()
		if alive {
			all.renew(limit, Now())
		} else {
			all.cancel(limit, func(*Flight) bool { return true })
		}
	}
	if all.set = all.oldest != nil; all.set {
		all.timer.Reset(max(0, all.oldest.since+timeout-Now()))
	}
}

// cancel cancels, of what has been in flight since then or earlier, all for which which says so.
func (all *flights) cancel(since time.Duration, which func(*Flight) bool) {
	for f := all.oldest; f != nil && f.since <= since; {
		next := f.younger
		if which(f) {
			all.remove(f)
			f.cancelled = true
			go f.Cancel() // it may run code of others
		}
		f = next
	}
}

// renew gives what has been in flight since then or earlier the same time again, from now on.
func (all *flights) renew(since, now time.Duration) {
	for f := all.oldest; f != nil && f.since <= since; f = all.oldest {
		all.remove(f)
		f.since = now
		all.add(f)
	}
}

// add adds f as the youngest.
func (all *flights) add(f *Flight) {
	if f.older = all.youngest; f.older == nil {
		all.oldest = f
	} else {
		f.older.younger = f
		f.since = max(f.since, f.older.since) // the other may have looked at the clock later, and come sooner
	}
	all.youngest = f
}

func (all *flights) remove(f *Flight) {
	if f.older == nil {
		all.oldest = f.younger
	} else {
		f.older.younger = f.younger
	}
	if f.younger == nil {
		all.youngest = f.older
	} else {
		f.younger.older = f.older
	}
	f.older, f.younger = nil, nil
}
