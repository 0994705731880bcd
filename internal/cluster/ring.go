package cluster

import (
	"sort"
	"time"

	"github.com/gorm-replicated/replicated/internal/position"
)

// ring remembers where the master was when. A slave that covers an entry has everything that was committed
// before the entry's time, whenever it was asked itself. For example:
//
//	the master was asked at  10 s  11 s  12 s  13 s
//	and had come to           100   110   120   130
//
// A slave that has come to 125 is fresh as of 12 s: what it lacks was committed after that. At 14.5 s its
// lag is told as 2.5 s, which is no less than it is. One that has come to 130 is fresh as of 13 s. While
// the master is idle, its last entry is of the latest question: at 60 s that slave is fresh as of 60 s, or
// a little less.
//
// The ring spans maxLag and is thinned: entries may be the further apart the older they are. The neighbours
// of one that is 32 s old may be 2 s apart without it. So a lag of 32 s may be told as 34 s, and there are
// some hundred entries however often the master is asked (TestRingIsBounded).
type ring struct {
	maxLag  time.Duration
	entries []entry // in the order of time
	thinAt  int     // how many entries there may be until they are thinned again
}

type entry struct {
	at       time.Time // before the master was asked
	position position.Position
}

// thinning is the part of an entry's age up to which its neighbours may be apart without it.
const thinning = 16

// add remembers that the master was at p, or had not got there yet, at the time at.
func (r *ring) add(at time.Time, p position.Position) {
	if n := len(r.entries); n > 0 {
		last := &r.entries[n-1]
		if last.position.Covers(p) && p.Covers(last.position) {
			last.at = at // nothing has been committed in between
			return
		}
		if !at.After(last.at) {
			return // the other is of the same time, and a slave covers it sooner
		}
	}
	if r.entries = append(r.entries, entry{at, p}); len(r.entries) > r.thinAt {
		r.thin(at)
		// From time to time only: so an entry costs a few steps, not one for each other entry.
		r.thinAt = len(r.entries) + len(r.entries)/2 + 16
	}
}

func (r *ring) thin(now time.Time) {
	last := len(r.entries) - 1
	kept := r.entries[:1]
	for i := 1; i < last; i++ {
		e, before, after := r.entries[i], &kept[len(kept)-1], r.entries[i+1]
		switch age := now.Sub(e.at); {
		case age > r.maxLag:
			*before = e // one beyond maxLag is enough
		case after.at.Sub(before.at) >= age/thinning:
			kept = append(kept, e)
		}
	}
	if last > 0 {
		kept = append(kept, r.entries[last])
	}
	clear(r.entries[len(kept):])
	r.entries = kept
}

// freshAsOf returns the latest time of which a server at p has everything, zero if there is none that is
// remembered.
//
// Of several masters that are not all heard each time, an entry need not cover the one before it. The search
// may then miss a later time, but any that it returns is one that p covers.
func (r *ring) freshAsOf(p position.Position) time.Time {
	n := len(r.entries)
	if n > 0 && p.Covers(r.entries[n-1].position) {
		return r.entries[n-1].at
	}
	if i := sort.Search(n, func(i int) bool { return !p.Covers(r.entries[i].position) }); i > 0 {
		return r.entries[i-1].at
	}
	return time.Time{}
}

// last returns the time of the newest entry.
func (r *ring) last() time.Time {
	if len(r.entries) == 0 {
		return time.Time{}
	}
	return r.entries[len(r.entries)-1].at
}
