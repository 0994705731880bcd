package cluster

import (
	"slices"
	"time"

	"github.com/gorm-replicated/replicated/internal/position"
)

// picture is what is known of a group's servers. It judges, and neither asks nor waits: what it hears is in
// the order in which each server answered.
type picture struct {
	maxLag   time.Duration
	patience time.Duration
	blind    bool // nobody is asked for positions
	masters  []*master
	slaves   []*slave

	ring ring

	// The masters have positions, so lag can be told. It is false until the first is seen, and again when the
	// masters have answered without one for maxLag: then GTIDs were switched off, it is no hiccup of one
	// question.
	positions bool
	without   time.Time // since when they have been answering without one; zero if they do not
	silent    bool      // they could not be asked for a position
}

// servers returns all that are watched.
func (p *picture) servers() (all []*watched) {
	for _, m := range p.masters {
		all = append(all, &m.watched)
	}
	for _, s := range p.slaves {
		all = append(all, &s.watched)
	}
	return all
}

// hearMaster takes in what a master answered.
func (p *picture) hearMaster(m *master, q *question) {
	m.hear(q)
	if q.err == nil && q.reading.Position.Known() {
		if m.position.Known() && !q.reading.Position.Covers(m.position) {
			// A failover, a reset, a restore, a crash: what was before proves nothing about what is now.
			p.forget()
			for _, s := range p.slaves {
				s.ahead.unproven = q.began
			}
		}
		m.position = q.reading.Position
		m.server.latest.Store(&Latest{q.reading.History(), q.reading.Position})
	}
	if len(p.masters) == 1 {
		p.learn(q.began, q)
	}
}

// learn takes in what all masters together answered to questions that began at the time at, or later.
//
// Of several masters those are left out that do not answer, or are none any longer. Once there are positions,
// an error is no answer. What such a master committed before it became unreachable may then be missing on a
// slave that counts as fresh: whoever must not miss it has a token.
func (p *picture) learn(at time.Time, answers ...*question) {
	var all position.Position
	n := 0
	for _, q := range answers {
		if q.err != nil || q.reading.WrongRole || q.reading.Err != nil && p.positions {
			continue
		}
		if n++; n == 1 {
			all = q.reading.Position
		} else {
			all = position.Merge(all, q.reading.Position)
		}
	}
	if all.Known() {
		p.positions, p.without, p.silent = true, time.Time{}, false
		p.ring.add(at, all)
		return
	}
	switch {
	case n == 0:
		p.without = time.Time{}
	case p.without.IsZero():
		p.without = at
	case p.positions && at.Sub(p.without) > p.maxLag:
		p.positions = false
		p.forget()
	}
	p.silent = true
	for _, s := range p.slaves {
		if s.stood.IsZero() {
			s.stood = p.ring.last()
		}
	}
}

// forget drops what was known of the master's history.
func (p *picture) forget() {
	p.ring.entries = nil
	for _, s := range p.slaves {
		s.freshAsOf = time.Time{}
	}
}

// hearSlave takes in what a slave answered, and tells whether it has advanced. Its position may be smaller
// than before: what counts is where it is now.
func (p *picture) hearSlave(s *slave, q *question, now time.Time, jittered float64) (advanced bool) {
	before, was := s.reading.Position, s.life
	s.hear(q, now, jittered)
	if was.out() && !s.life.out() {
		s.alone = !slices.ContainsFunc(p.slaves, func(other *slave) bool {
			return other != s && other.isRead() && !(other.alone && other.cameBackLately(now))
		})
	}
	if q.err != nil {
		return false
	}
	s.against = p.disowned(s, s.against)
	fresh := p.ring.freshAsOf(s.reading.Position)
	if s.freshAsOf.After(fresh) && s.reading.Position.Covers(before) {
		fresh = s.freshAsOf // the ring has thrown away the entry that the slave covered then
	}
	s.freshAsOf = fresh
	if !p.silent {
		s.stood = time.Time{}
	}
	return s.reading.Position.Known() && !before.Covers(s.reading.Position)
}

// hopeless is how far behind a slave is for which it is not worth to ask more often.
const hopeless = 2 * time.Second

// covered tells whether each slave that is up, and not far behind anyway, has been seen to cover q.
func (p *picture) covered(q position.Position, now time.Time) bool {
	for _, s := range p.slaves {
		near := s.freshAsOf.IsZero() || now.Sub(s.freshAsOf) < hopeless
		if s.isUp() && near && !s.reading.Position.Covers(q) {
			return false
		}
	}
	return true
}
