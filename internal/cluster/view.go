package cluster

import (
	"time"

	"gorm.io/gorm"

	"github.com/gorm-replicated/replicated/internal/position"
)

// View is an immutable picture of a group's slaves. Slaves[i] is opened as Pools[i]. What it says of them
// holds until a time that stands in it.
type View struct {
	Slaves  []*Server       // up and within MaxLag: what reads may use while their states hold
	Pools   []gorm.ConnPool // theirs
	All     []State         // every slave of the group in order of configuration; empty after Close
	Masters []State         // as the monitor sees them; none without one
	Until   time.Time       // then the first of the Slaves' states does not hold any longer; zero: for ever
	Changed <-chan struct{} // closed when there is a newer view

	// Recovering: one of Slaves has failed not long ago, and should not get its whole share of reads: see
	// Server.Share.
	Recovering bool

	changed chan struct{} // the same
}

// State is what is known of one slave.
type State struct {
	Server    *Server
	Life      Life
	Up        bool              // answers, and is what it should be
	Readable  bool              // is in Slaves
	Writable  bool              // takes writes, as far as is known
	Until     time.Time         // if Readable: until when that holds; zero: for ever
	FreshAsOf time.Time         // zero: not known
	Position  position.Position // the latest; unknown if not Up
	Reason    string            // why it is not in Slaves, or has no position; empty if all is well
	Remedy    string            // what mends that, if it is known

	stood    time.Time     // up to when lag counts, if the master could not be asked since; otherwise zero
	renew    time.Duration // how much longer a state has to hold to be worth another view
	returned time.Time     // when the slave came back last; zero: never
	alone    bool          // then no other slave was read
	lost     bool          // it does not answer at all: connections from before lead nowhere
}

// Lag returns how far a slave is behind at most. While the master cannot be asked it stands still: it is how
// far the slave is behind what the master had when it last could be.
func (s State) Lag(now time.Time) (lag time.Duration, known bool) {
	if s.FreshAsOf.IsZero() {
		return 0, false
	}
	if !s.stood.IsZero() {
		now = s.stood
	}
	return max(0, since(s.FreshAsOf, now)), true
}

// same tells whether two states of one server look the same to those who read the view. That one holds a
// little longer than the other is nothing new.
func (s State) same(t State) bool {
	if longer := s.Until.Sub(t.Until); longer < 0 || longer > s.renew {
		return false
	}
	samePosition := s.Position.Known() == t.Position.Known() &&
		(!s.Position.Known() || s.Position.Covers(t.Position) && t.Position.Covers(s.Position))
	sameTimes := s.FreshAsOf.Equal(t.FreshAsOf) && s.stood.Equal(t.stood) && s.returned.Equal(t.returned)
	return samePosition && sameTimes && s.Life == t.Life && s.Reason == t.Reason && s.flags() == t.flags()
}

func (s State) flags() [5]bool { return [5]bool{s.Up, s.Readable, s.Writable, s.alone, s.lost} }

// Of returns what is known of s, nil if it is not in the view.
func (v *View) Of(s *Server) *State {
	for i := range v.All {
		if v.All[i].Server == s {
			return &v.All[i]
		}
	}
	return nil
}

// newView returns a view of slaves with these states.
func newView(states []State) *View {
	v := &View{All: states, changed: make(chan struct{})}
	v.Changed = v.changed
	for _, s := range states {
		if s.Readable {
			v.Slaves = append(v.Slaves, s.Server)
			if !s.Until.IsZero() && (v.Until.IsZero() || s.Until.Before(v.Until)) {
				v.Until = s.Until
			}
		}
	}
	v.Pools = pools(v.Slaves)
	return v
}

// publish makes v the view of the cluster. There is one caller at a time.
func (c *Cluster) publish(v *View) {
	old := c.view.Load()
	if old == nil {
		old = newView(nil)
	}
	for i := range v.All {
		v.All[i].Server.state.Store(&v.All[i])
	}
	for _, s := range old.All {
		if v.Of(s.Server) == nil {
			s.Server.state.Store(&State{Server: s.Server, Life: LifeLeft, lost: s.lost})
		}
	}
	c.view.Store(v)
	close(old.changed)
}

// unwatched is the view of slaves that nobody watches.
func unwatched(slaves []*Server) *View {
	states := make([]State, len(slaves))
	for i, s := range slaves {
		states[i] = State{Server: s, Life: LifeServing, Up: true, Readable: true}
	}
	return newView(states)
}
