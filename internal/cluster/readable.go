package cluster

import (
	"cmp"
	"fmt"
	"slices"
	"time"
)

// masterState returns what a master's state is.
func (w *watched) masterState() State {
	state := State{Server: w.server, Up: w.failed < missed, Position: w.reading.Position, Reason: w.reading.Reason}
	if !state.Up {
		state.Reason = "does not answer: " + Describe(w.err)
	}
	return state
}

// state returns what a slave's state is at the time now, and whether it belongs into the view.
//
// A slave of which it is not known how far it is behind does not, however many questions the master has left
// unanswered. A master that is away for a moment, while a process starts, must not have slaves read that are
// an hour behind. There are two exceptions. Where the master says that it has no positions, slaves are read
// at once. Where it has not told one when a slave has been watched for maxLag, that slave is read: better
// than none.
func (p *picture) state(s *watched, now time.Time) (_ State, fits bool) {
	state, fits := p.judge(s, now)
	if !fits {
		return state, false
	}
	state.Until, state.renew = p.until(s), p.maxLag/4
	if state.Holds(now) {
		return state, true
	}
	state.Up, state.Reason = false, "was not asked for too long"
	return state, false
}

// judge is state without the time until which it holds.
func (p *picture) judge(s *watched, now time.Time) (State, bool) {
	state := State{Server: s.server, Up: s.isUp(), stood: s.stood}
	if p.positions {
		state.FreshAsOf = s.freshAsOf
	}
	switch {
	case s.answered && s.reading.WrongRole:
		state.Reason, state.Remedy = "not a slave: "+s.reading.Reason, s.reading.Remedy
	case s.answered && s.against != "" && !s.down:
		state.Reason = s.against
	case s.answered && s.ahead.strayed && !s.down:
		state.Reason = s.ahead.reason()
	case s.down && s.failed == 0:
		state.Reason = "failed, and has to answer for a while before it is read: " + Describe(s.err)
	case !state.Up && s.failed > 0:
		state.Reason = "does not answer: " + Describe(s.err)
	case !state.Up:
		state.Reason = "has not answered yet"
	}
	if !state.Up {
		return state, false
	}
	if p.blind {
		return state, true // what it answered says nothing: it was asked for a sign of life
	}
	state.Position, state.Reason, state.Remedy = s.reading.Position, s.reading.Reason, s.reading.Remedy
	if !p.positions {
		for _, m := range p.masters {
			switch lacks := "the master has no position: " + m.reading.Reason; {
			case m.lacksPosition():
				state.Reason = cmp.Or(state.Reason, lacks)
			case now.Sub(s.begun) >= p.maxLag: // better a slave of unknown lag than none
			case m.answered:
				state.Reason, state.Remedy = lacks, m.reading.Remedy
				return state, false
			default:
				state.Reason, state.Remedy = "the master has not answered yet", ""
				return state, false
			}
		}
		return state, true
	}
	lag, known := state.Lag(now)
	switch {
	case !state.Position.Known():
		return state, false
	case !known:
		state.Reason = "it is not known how far it is behind"
		return state, false
	case lag > p.maxLag: // by how much is in Lag, and changes all the time
		state.Reason = fmt.Sprintf("behind by more than %v", p.maxLag)
		return state, false
	case !s.ahead.unproven.IsZero() && now.Sub(s.ahead.unproven) < p.maxLag:
		state.Reason = "it is not known whether the master has all that it has"
		return state, false
	}
	return state, true
}

// lacksPosition tells whether a master has said that it has no position. An error says nothing, nor does a
// server that is no master.
func (w *watched) lacksPosition() bool {
	return w.answered && !w.reading.WrongRole && w.reading.Err == nil && !w.reading.Position.Known()
}

// lacking returns a server because of which the group has no positions, nil if there is none. A server does
// not count if nobody has to do anything for its position to come. Nor does a slave beside a master that has
// a position: that slave is not read, but the others are. While no slave is read, because the master may
// still have a position, there is no such server.
func (p *picture) lacking() *watched {
	fits := func(s *watched) bool { return s.fits }
	settled := slices.ContainsFunc(p.masters, (*watched).lacksPosition) || slices.ContainsFunc(p.slaves, fits)
	if p.positions || p.blind || !settled {
		return nil
	}
	for _, m := range p.masters {
		if m.reading.Remedy != "" {
			return m
		}
	}
	for _, m := range p.masters {
		if !m.answered && m.failed < missed {
			return nil // it is late, and may have a position
		}
	}
	for _, s := range p.slaves {
		if s.isUp() && s.reading.Remedy != "" {
			return s
		}
	}
	return nil
}
