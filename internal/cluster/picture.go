package cluster

import (
	"slices"
	"time"

	"github.com/gorm-replicated/replicated/internal/position"
)

// missed is how many questions in a row a slave may leave unanswered before it leaves the view.
const missed = 3

// watched is a server, and what is known of it.
type watched struct {
	server *Server
	probe  *probe
	begun  time.Time // when the monitor began to watch it

	answered bool             // at least once
	reading  position.Reading // the latest answer
	failed   int              // questions in a row without an answer since
	err      error            // of the latest of them
	trouble  time.Time        // since when the monitor has to look at it more often; zero if it need not

	// Of a master:
	position position.Position // the latest that is known
	asked    time.Time         // when the question began that it answered last

	// Of a slave:
	heard     time.Time // when it answered last
	freshAsOf time.Time // zero: not known
	stood     time.Time // if the master could not be asked since the latest reading, when it last could
	against   string    // why it must not be read although it answers: see disowned
	ahead     ahead     // of the masters
	recovery            // since it failed
	left      bool      // it is down, and its Server was told
	gone      bool      // for certain, too
	fits      bool      // is in the view
	told      bool      // what Notice was told of that
	added     bool      // by setSlaves, and Notice was told nothing yet
	writes    bool      // Writable was told
}

// picture is what is known of a group's servers. It judges, and neither asks nor waits: what it hears is in the order in
// which each server answered.
type picture struct {
	maxLag          time.Duration
	patience        time.Duration
	blind           bool // nobody is asked for positions
	masters, slaves []*watched

	ring ring

	// The masters have positions, so lag can be told. It is false until the first is seen, and again when the masters have
	// answered without one for maxLag: then GTIDs were switched off, it is no hiccup of one question.
	positions bool
	without   time.Time // since when they have been answering without one; zero if they do not
	silent    bool      // they could not be asked for a position
}

func (w *watched) hear(q *question) {
	if q.err == errBusy {
		return
	}
	if q.err != nil {
		w.failed, w.err = w.failed+1, q.err
		if q.err == errHangs {
			w.failed += missed // there will be no other question until it returns
		}
		return
	}
	w.answered, w.failed, w.reading, w.asked = true, 0, q.reading, q.began
}

// isUp tells whether a slave answers, and is what it should be.
func (w *watched) isUp() bool {
	return w.answered && !w.down && !w.outcast()
}

// outcast tells whether a slave that answers must not be read, because it is none of this group's masters.
func (w *watched) outcast() bool { return w.reading.WrongRole || w.against != "" || w.ahead.strayed }

// hearMaster takes in what a master answered.
func (p *picture) hearMaster(m *watched, q *question) {
	m.hear(q)
	if q.err == nil && q.reading.Position.Known() {
		if m.position.Known() && !q.reading.Position.Covers(m.position) {
			p.forget() // a failover, a reset, a restore, a crash: what was before proves nothing about what is now
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
// Of several masters those are left out that do not answer, or are none any longer; once there are positions, an error is no answer. What they committed before they
// became unreachable may then be missing on a slave that counts as fresh: whoever must not miss it has a token.
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

// hearSlave takes in what a slave answered, and tells whether it has advanced. Its position may be smaller than before: what counts is
// where it is now.
func (p *picture) hearSlave(s *watched, q *question, now time.Time, jittered float64) (advanced bool) {
	before := s.reading.Position
	s.hear(q)
	switch {
	case q.err == errBusy: // it says nothing about the server
		s.askAt = now.Add(recheck)
	case s.down:
		if s.recovery.hear(q.err == nil, now, jittered); !s.down {
			s.alone = !slices.ContainsFunc(p.slaves, func(other *watched) bool {
				return other != s && other.fits && !(other.alone && now.Sub(other.returned) < rampUp)
			})
		}
	case s.failed >= missed:
		s.leave(now, true)
	}
	if q.err != nil {
		return false
	}
	s.heard = now
	s.against = p.disowned(s, s.against)
	fresh := p.ring.freshAsOf(s.reading.Position)
	if s.freshAsOf.After(fresh) && s.reading.Position.Covers(before) {
		fresh = s.freshAsOf // the ring has thrown away that entry, but the slave has not what it covered it with
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
		if s.isUp() && !s.reading.Position.Covers(q) && (s.freshAsOf.IsZero() || now.Sub(s.freshAsOf) < hopeless) {
			return false
		}
	}
	return true
}
