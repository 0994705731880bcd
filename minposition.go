package replicated

import (
	"sync/atomic"
	"time"

	"github.com/gorm-replicated/replicated/internal/cluster"
	"github.com/gorm-replicated/replicated/internal/position"
)

// minPosition is what a session must not read behind in one group. Nothing but met changes once it is made.
type minPosition struct {
	position position.Position // a slave has to cover it, if it is known
	until    time.Time         // the master has to be read until then

	met atomic.Pointer[cluster.State] // a state of a slave that was seen to meet it, and goes on to
}

// metBy tells whether a slave at p may be read.
func (d *minPosition) metBy(p position.Position, now time.Time) bool {
	return d == nil || !now.Before(d.until) && (!d.position.Known() || p.Covers(d.position))
}

// timed tells whether metBy needs to know the time.
func (d *minPosition) timed() bool { return d != nil && !d.until.IsZero() }

// and returns what demands as much as d and newer do. Two positions may have no common one, such as those
// before and after a failover: then only the master does for both, for as long as the older one may count.
func (d *minPosition) and(newer *minPosition, now time.Time, ttl time.Duration) *minPosition {
	if d == nil {
		return newer
	}
	both := minPosition{position: newer.position, until: later(d.until, newer.until)}
	switch merged := position.Merge(d.position, newer.position); {
	case merged.Known():
		both.position = merged
	case !newer.position.Known():
		both.position = d.position
	case d.position.Known():
		both.until = later(both.until, now.Add(ttl))
	}
	return &both
}

// forever is the time of a demand that no slave meets.
var forever = time.Unix(1<<40, 0)
