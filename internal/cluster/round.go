package cluster

import (
	"slices"
	"time"
)

// begin begins a round.
func (m *monitor) begin(now time.Time) {
	if m.began, m.shorten = now, 1-jitter*m.random(); !m.hurried.Load() {
		m.hurry = time.Time{}
	} else if m.hurry.IsZero() {
		m.hurry = now
	}
	m.used.Store(false)
	for _, w := range m.servers {
		w.server.marked.Store(false) // after m.used: who comes between the two is forgotten, the other way round all would be until the next round
	}
	m.hurried.Store(false)
	m.round = nil
	for _, master := range m.picture.masters {
		// Of one that did not answer the last time it is heard what it says, but it must not hold up the others.
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
		if !s.down {
			s.probe.ask()
		}
	}
}

func (m *monitor) hearMaster(w *watched, q *question) {
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
			m.since = q.began // which is worth a round at once: see due
		}
		m.handed = q
	}
	m.wake()
}

func (m *monitor) hearSlave(w *watched, q *question) {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := time.Now()
	if m.picture.hearSlave(w, q, now, m.random()) && now.Sub(w.freshAsOf) < hopeless {
		m.advance = now
	}
	if !w.down {
		w.server.refused.Store(false)
	}
	if m.handed != nil && m.picture.covered(m.handed.reading.Position, now) {
		m.handed = nil
	}
	if q.err == nil && w.down && w.good == 1 {
		m.tasks.Go(w.server.DropIdle) // also those that have come to be idle since
	}
	if q.err == nil {
		w.server.writable.Store(q.reading.Writable)
		m.picture.compare(w, now)
	}
	m.wake()
}
