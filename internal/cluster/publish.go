package cluster

import (
	"slices"
	"time"
)

// publish gives the cluster a view as of now, if that differs from the one it has, and notes what there is to
// tell of it.
func (m *monitor) publish(now time.Time) {
	old := m.cluster.View()
	v := newView(m.slaveStates(now))
	for _, master := range m.picture.masters {
		v.Masters = append(v.Masters, master.state())
	}
	v.Recovering = slices.ContainsFunc(v.All, func(s State) bool {
		return s.Readable && now.Sub(s.returned) < rampUp
	})
	if v.Recovering != old.Recovering || !slices.EqualFunc(v.Masters, old.Masters, State.same) ||
		!v.isCurrent(old) {
		m.cluster.publish(v)
	}
	m.look(now)
	if m.firstIsOver(now) {
		m.noteNews(v)
	}
}

// slaveStates returns what there is to say of the slaves, and does at once what has to follow.
func (m *monitor) slaveStates(now time.Time) []State {
	states := make([]State, len(m.picture.slaves))
	for i, s := range m.picture.slaves {
		var before State
		if known := s.server.State(); known != nil {
			before = *known
		}
		states[i] = m.picture.state(s, now)
		if states[i].lost && !before.lost {
			s.server.downs.Add(1)
		}
		if states[i].Life.out() && !before.Life.out() {
			m.tasks.Go(s.server.DropIdle)
		}
	}
	return states
}

// isCurrent tells whether the slaves' states are those that their servers have by the current view, or by
// what has lapsed since.
func (v *View) isCurrent(current *View) bool {
	return slices.EqualFunc(v.All, current.All, func(s, old State) bool {
		return s.Server == old.Server && s.same(*s.Server.State())
	})
}

// firstDelay is how long AwaitFirst waits for slaves that answer but are not in the view.
const firstDelay = 200 * time.Millisecond

// firstIsOver tells whether the first round is over.
func (m *monitor) firstIsOver(now time.Time) bool {
	if m.started {
		return true
	}
	waits := false
	for _, s := range m.picture.slaves {
		if s.life == LifeNew && s.failed == 0 {
			return false
		}
		waits = waits || s.isUp() && !s.isRead()
	}
	if m.allHeard.IsZero() {
		m.allHeard = now
	}
	if waits && now.Sub(m.allHeard) < firstDelay {
		return false
	}
	m.started = true
	return true
}

// endFirst has AwaitFirst return.
func (m *monitor) endFirst() {
	select {
	case <-m.first:
	default:
		close(m.first)
	}
}
