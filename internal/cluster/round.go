package cluster

import (
	"slices"
	"time"
)

// beginRound has the masters asked, and then the slaves.
func (m *monitor) beginRound(now time.Time) {
	if m.began, m.shorten = now, 1-jitter*m.random(); !m.hurried.Load() {
		m.hurriedSince = time.Time{}
	} else if m.hurriedSince.IsZero() {
		m.hurriedSince = now
	}
	// Reset used before marked: in the other order a reader could set marked and lose used for a whole round.
	m.used.Store(false)
	for _, w := range m.servers {
		w.server.marked.Store(false)
	}
	m.hurried.Store(false)
	m.round = nil
	for _, master := range m.picture.masters {
		// A master that did not answer the last time is heard, but the round does not wait for it.
		if q, begins := master.probe.join(false); begins && master.failed == 0 {
			m.round = append(m.round, q)
		}
	}
	if m.waiting = len(m.round); m.waiting == 0 {
		m.askSlaves()
	}
}

// askSlaves is the second half of a round.
func (m *monitor) askSlaves() {
	if len(m.picture.masters) > 1 {
		m.picture.learn(m.began, m.round...)
	}
	for _, s := range m.picture.slaves {
		if !s.life.out() {
			s.probe.ask()
		}
	}
}

func (m *monitor) hearMaster(w *master, q *question) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if w.failed > 0 && q.err == nil {
		m.hurried.Store(true) // it is back, and the round did not wait for it
	}
	m.picture.hearMaster(w, q)
	if q.err == nil {
		for _, s := range m.picture.slaves {
			m.picture.compare(s, time.Now())
		}
	}
	if slices.Contains(m.round, q) {
		if m.waiting--; m.waiting == 0 {
			m.askSlaves()
		}
	}
	if q.called && q.reading.Position.Known() && !m.picture.covered(q.reading.Position, q.began) {
		if m.handed == nil {
			m.handedSince = q.began // which is worth a round at once: see due
		}
		m.handed = q
	}
	m.wake()
}

func (m *monitor) hearSlave(s *slave, q *question) {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := time.Now()
	if m.picture.hearSlave(s, q, now, m.random()) && now.Sub(s.freshAsOf) < hopeless {
		m.advanced = now
	}
	if !s.life.out() {
		s.server.refused.Store(false)
	}
	if m.handed != nil && m.picture.covered(m.handed.reading.Position, now) {
		m.handed = nil
	}
	if q.err == nil && s.life == LifeComingBack && s.good == 1 {
		m.tasks.Go(s.server.DropIdle) // also those that have come to be idle since
	}
	if q.err == nil {
		m.picture.compare(s, now)
	}
	m.wake()
}
