package cluster

import (
	"sync/atomic"
	"time"
)

const (
	// wantedFor is how long rounds go by what Want said.
	wantedFor = 10 * time.Second
	// eagerness: what began a while ago may go on for this part of that while until the next round.
	eagerness = 8
	// jitter is the part of a pause by which it may be shorter, so that many processes do not ask at the same
	// time.
	jitter = 0.1
)

// want is what Want said, and when.
type want struct {
	staleness time.Duration
	at        time.Time
}

// raise sets used or hurried.
func (m *monitor) raise(flag *atomic.Bool) {
	if !flag.Load() && !flag.Swap(true) {
		m.wake()
	}
}

// want remembers the least staleness that somebody wanted lately.
func (m *monitor) want(staleness time.Duration, now time.Time) {
	if w := m.wanted.Load(); w != nil && w.staleness <= staleness {
		enough := wantedFor
		if w.staleness == staleness {
			enough /= 10 // it was said long enough ago to be remembered anew
		}
		if now.Sub(w.at) < enough {
			return
		}
	}
	m.wanted.Store(&want{staleness, now})
	m.wake()
}

// due returns when the next round begins: MinInterval after the latest one at the soonest, whatever anybody
// asks for.
func (m *monitor) due(now time.Time) time.Time {
	switch {
	case m.cfg.Blind || len(m.picture.slaves) == 0:
		return now.Add(m.cfg.MaxLag)
	case m.began.IsZero():
		return now
	}
	pause := m.cfg.MaxLag / 4
	if m.used.Load() {
		pause = min(pause, m.cfg.Interval)
	}
	if w := m.wanted.Load(); w != nil && now.Sub(w.at) < wantedFor {
		pause = min(pause, w.staleness/4)
	}
	if m.handed != nil {
		pause = min(pause, m.hopeful(m.handedSince))
	}
	for _, w := range m.servers {
		if !w.trouble.IsZero() {
			pause = min(pause, m.eager(w.trouble))
		}
	}
	switch {
	case !m.hurried.Load():
	case m.hurriedSince.IsZero():
		pause = 0
	default:
		pause = min(pause, m.hopeful(m.hurriedSince))
	}
	return m.began.Add(max(m.cfg.MinInterval, time.Duration(float64(pause)*m.shorten)))
}

// eager returns the pause after the latest round while something goes on that began then.
func (m *monitor) eager(since time.Time) time.Duration {
	return min(m.cfg.Interval, m.began.Sub(since)/eagerness)
}

// hopeful is eager for what may end at any moment as long as slaves advance.
func (m *monitor) hopeful(since time.Time) time.Duration {
	if m.advanced.After(since) {
		since = m.advanced
	}
	return m.eager(since)
}

// look notes since when a server does not answer, or a slave is not in the view that could be, or may be of
// another history.
func (m *monitor) look(now time.Time) {
	for _, master := range m.picture.masters {
		master.note(!master.answered() || master.failed > 0, now)
	}
	for _, s := range m.picture.slaves {
		settled := s.life == LifeServing && (s.isRead() && !s.ahead.undecided || s.outcast())
		s.note(!settled && !s.life.out(), now) // one that is out is asked apart from rounds
	}
}

// note notes since when there is trouble with a server, or that there is none.
func (w *watched) note(trouble bool, now time.Time) {
	switch {
	case !trouble:
		w.trouble = time.Time{}
	case w.trouble.IsZero():
		w.trouble = now
	}
}

// next returns when there is something to do if nothing happens.
func (m *monitor) next(now time.Time) time.Time {
	next := now.Add(m.cfg.MaxLag)
	sooner := func(t time.Time) {
		if t.Before(next) {
			next = t
		}
	}
	if m.waiting == 0 {
		sooner(m.due(now))
	}
	if len(m.leaving) > 0 {
		sooner(now.Add(time.Second))
	}
	for _, s := range m.picture.slaves {
		m.picture.changes(s, now, sooner)
	}
	if end := m.allHeard.Add(firstDelay); !m.allHeard.IsZero() && now.Before(end) {
		sooner(end)
	}
	return next
}

// changes calls at with the times at which there will be something to do for a slave if nothing happens.
func (p *picture) changes(s *slave, now time.Time, at func(time.Time)) {
	if s.life.out() {
		at(s.askAt)
	}
	if end := s.returned.Add(rampUp); s.isRead() && now.Before(end) {
		at(end)
	}
	if end := s.begun.Add(p.maxLag); !p.positions && now.Before(end) {
		at(end) // then it may enter
	}
	if s.isRead() && p.positions && s.stood.IsZero() {
		at(s.freshAsOf.Add(p.maxLag + 1)) // then it leaves the view
	}
}
