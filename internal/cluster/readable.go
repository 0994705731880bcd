package cluster

import (
	"cmp"
	"fmt"
	"slices"
	"time"
)

// state returns what the view says of a slave at the time now: whether it may be read, until when that holds,
// and if not, why.
func (p *picture) state(s *slave, now time.Time) State {
	state := State{
		Server: s.server, Life: s.life, Up: s.isUp(), Writable: s.reading.Writable,
		stood: s.stood, returned: s.returned, alone: s.alone, lost: s.isLost(),
	}
	if p.positions {
		state.FreshAsOf = s.freshAsOf
	}
	switch {
	case !state.Up:
		state.Reason, state.Remedy = s.whyNotUp()
		return state
	case p.blind: // what it answered says nothing: it was asked for a sign of life
	default:
		state.Position, state.Reason, state.Remedy = s.reading.Position, s.reading.Reason, s.reading.Remedy
		judge := p.judgeWithoutLag
		if p.positions {
			judge = p.judgeLag
		}
		if !judge(s, &state, now) {
			return state
		}
	}
	state.Until, state.renew = p.until(s), p.maxLag/4
	if state.Readable = state.Holds(now); !state.Readable {
		state.Up, state.Reason = false, "was not asked for too long"
	}
	return state
}

// whyNotUp says why a slave that is not up is not, and what mends that if it is known.
func (s *slave) whyNotUp() (reason, remedy string) {
	out := s.life.out()
	switch {
	case s.reading.WrongRole:
		return "not a slave: " + s.reading.Reason, s.reading.Remedy
	case s.against != "" && !out:
		return s.against, ""
	case s.ahead.strayed && !out:
		return s.ahead.reason(), ""
	case s.life == LifeComingBack:
		return "failed, and has to answer for a while before it is read: " + Describe(s.err), ""
	case s.failed > 0 || out:
		return "does not answer: " + Describe(s.err), ""
	}
	return "has not answered yet", ""
}

// judgeLag tells whether a slave that is up may be read, where the masters have positions.
func (p *picture) judgeLag(s *slave, state *State, now time.Time) bool {
	lag, known := state.Lag(now)
	switch {
	case !state.Position.Known():
	case !known:
		state.Reason = "it is not known how far it is behind"
	case lag > p.maxLag: // by how much is in Lag, and changes all the time
		state.Reason = fmt.Sprintf("behind by more than %v", p.maxLag)
	case !s.ahead.unproven.IsZero() && now.Sub(s.ahead.unproven) < p.maxLag:
		state.Reason = "it is not known whether the master has all that it has"
	default:
		return true
	}
	return false
}

// judgeWithoutLag is judgeLag where no master has told a position.
//
// A slave of which it is not known how far it is behind is not read, however many questions the master has
// left unanswered. A master that is away for a moment, while a process starts, must not have slaves read
// that are an hour behind. There are two exceptions. Where the master says that it has no positions, slaves
// are read at once. Where it has not told one when a slave has been watched for maxLag, that slave is read:
// better than none.
func (p *picture) judgeWithoutLag(s *slave, state *State, now time.Time) bool {
	for _, m := range p.masters {
		switch lacks := "the master has no position: " + m.reading.Reason; {
		case m.lacksPosition():
			state.Reason = cmp.Or(state.Reason, lacks)
		case now.Sub(s.begun) >= p.maxLag:
		case m.answered():
			state.Reason, state.Remedy = lacks, m.reading.Remedy
			return false
		default:
			state.Reason, state.Remedy = "the master has not answered yet", ""
			return false
		}
	}
	return true
}

// lacking returns a server because of which the group has no positions, nil if there is none. A server does
// not count if nobody has to do anything for its position to come. Nor does a slave beside a master that has
// a position: that slave is not read, but the others are. While no slave is read, because the master may
// still have a position, there is no such server.
func (p *picture) lacking() *watched {
	settled := slices.ContainsFunc(p.masters, (*master).lacksPosition) ||
		slices.ContainsFunc(p.slaves, (*slave).isRead)
	if p.positions || p.blind || !settled {
		return nil
	}
	for _, m := range p.masters {
		if m.reading.Remedy != "" {
			return &m.watched
		}
	}
	for _, m := range p.masters {
		if !m.answered() && m.isUp() {
			return nil // it is late, and may have a position
		}
	}
	for _, s := range p.slaves {
		if s.isUp() && s.reading.Remedy != "" {
			return &s.watched
		}
	}
	return nil
}
