package cluster

import (
	"time"
)

// publish gives the cluster a view as of now, if that differs from the one it has, and notes what there is to tell of it.
func (m *monitor) publish(now time.Time) {
	old := m.cluster.View()
	states := make([]State, len(m.picture.slaves))
	changed, recovering := len(states) != len(old.All), false
	for i, s := range m.picture.slaves {
		var fits bool
		states[i], fits = m.picture.state(s, now)
		changed = changed || old.All[i].Server != s.server || fits != s.fits || !states[i].same(old.All[i])
		s.fits = fits
		gone := s.down && s.founded && !spoke(s.err)
		if gone && !s.gone {
			s.server.downs.Add(1)
		}
		if s.down && !s.left {
			m.tasks.Go(s.server.DropIdle)
		}
		s.left, s.gone = s.down, gone
		s.server.returned.Store(s.returned.UnixNano())
		s.server.alone.Store(s.alone)
		recovering = recovering || fits && now.Sub(s.returned) < rampUp
	}
	masters := make([]State, len(m.picture.masters))
	for i, w := range m.picture.masters {
		masters[i] = w.masterState()
		changed = changed || i >= len(old.Masters) || !masters[i].same(old.Masters[i])
	}
	if changed || recovering != old.Recovering {
		v := newView(states, func(i int) bool { return m.picture.slaves[i].fits })
		v.Masters, v.Recovering = masters, recovering
		m.cluster.publish(v)
	}
	m.look(now)
	if !m.firstIsOver(now) {
		return
	}
	if w := m.picture.lacking(); w != nil && !m.lacks {
		m.lacks = true
		if reading := w.reading; m.cfg.NoPositions != nil {
			m.news = append(m.news, func() { m.cfg.NoPositions(w.server, reading.Reason, reading.Remedy) })
		}
	}
	tell := func(w *watched, in bool, state State) {
		if in != w.told && m.cfg.Notice != nil {
			m.news = append(m.news, func() { m.cfg.Notice(w.server, in, state.Reason, state.Remedy) })
		}
		w.told = in
	}
	for i, w := range m.picture.masters {
		tell(w, masters[i].Up, masters[i])
	}
	for i, s := range m.picture.slaves {
		if s.added {
			if !s.fits && !s.down {
				continue // it has not had the time to answer
			}
			s.added, s.told = false, !s.fits
		}
		tell(s, s.fits, states[i])
		if !s.writes && s.server.Writable() && m.cfg.Writable != nil {
			s.writes = true
			m.news = append(m.news, func() { m.cfg.Writable(s.server) })
		}
	}
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
		if !s.answered && s.failed == 0 {
			return false
		}
		waits = waits || s.isUp() && !s.fits
	}
	if m.heard.IsZero() {
		m.heard = now
	}
	if waits && now.Sub(m.heard) < firstDelay {
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
