package cluster

import (
	"fmt"
	"time"

	"github.com/gorm-replicated/replicated/internal/position"
)

// A slave that is ahead of its masters is of another history, one that they have lost: the master was failed
// over to a server that lacked its last commits, or was restored. Then the slave covers numbers that the
// masters are yet to give to other transactions: of a new write it would be said that the slave has it. So
// what a slave said last is held against each answer that the masters give to a question which began after
// that.
//
//   - It is no proof that a slave is ahead of what a master said before. Transactions were committed in
//     between.
//   - A slave whose lag is known may be ahead for a moment: see [position.Ahead]. So the masters have to lack
//     the same for aheadFor. Where each commit waits for a moment, the slave is always ahead, each time by
//     other transactions: that is no other history.
//   - A slave of which the masters have not yet been seen to have all that it has is not read: at the start,
//     and when the masters' history has changed. With an idle master that is seen at once, otherwise a round
//     later.
//   - Numbers do not tell any longer that a slave was ahead when the masters have come as far. So one that
//     was for longer than any commit takes stays out, until it has lost what it was ahead with, or was away:
//     then it may have been built anew.

const (
	// aheadFor is for how long a slave has to be ahead of the masters to be taken out of the view.
	aheadFor = time.Second
	// aheadForGood is for how long it has to be to stay out when the masters have come as far. It is longer
	// than a master waits for a semi-synchronous slave by default (rpl_semi_sync_master_timeout).
	aheadForGood = 15 * time.Second
)

// ahead is what is known of a slave that has something which the masters lack.
type ahead struct {
	unproven time.Time         // since when it is not known whether the masters have all it has; zero: they do
	by       position.Position // what they lack; unknown if there is nothing
	first    position.Position // what they lacked at since; they still lack some of it, unless it has strayed
	since    time.Time
	strayed  bool // it is of another history

	undecided bool // the next answers tell more of this
}

// compare holds what a slave said last against what the masters said.
func (p *picture) compare(s *slave, now time.Time) { s.ahead.undecided = p.weigh(s, now) }

// weigh is compare, and tells whether the next answers may decide more.
func (p *picture) weigh(s *slave, now time.Time) bool {
	a := &s.ahead
	if !s.reading.Position.Known() || len(p.masters) == 0 {
		return false
	}
	if a.by.Known() && (!s.reading.Position.Covers(a.by) || s.life.out() && s.founded) {
		a.by, a.strayed = position.Position{}, false // it has lost that, or may have been built anew
	}
	readings, after := p.since(s.heard)
	if readings == nil {
		return false
	}
	by := position.Ahead(s.reading, readings...)
	switch {
	case !by.Known():
		a.overtaken(now)
		return false
	case !after:
		return !a.unproven.IsZero() || a.by.Known() && !a.strayed
	}
	a.lacking(by, s.reading, readings, now)
	return !a.strayed
}

// since returns what the masters said last, nil if one of them has nothing to be held against a slave; and
// whether all were asked after the time t.
func (p *picture) since(t time.Time) (readings []position.Reading, after bool) {
	after = true
	for _, m := range p.masters {
		if !m.tells() || !m.reading.Position.Known() {
			return nil, false
		}
		readings, after = append(readings, m.reading), after && m.asked.After(t)
	}
	return readings, after
}

// overtaken notes that the masters have all that the slave has.
func (a *ahead) overtaken(now time.Time) {
	a.unproven = time.Time{}
	if !a.strayed || now.Sub(a.since) < aheadForGood {
		a.by, a.strayed = position.Position{}, false
	}
}

// lacking notes that the masters lack this of what the slave has, and lacked it when they were asked after
// it.
func (a *ahead) lacking(by position.Position, s position.Reading, masters []position.Reading, now time.Time) {
	first := s
	first.Position = a.first
	switch {
	case a.strayed:
	case !a.by.Known(), !position.Ahead(first, masters...).Known():
		a.first, a.since = by, now
	case now.Sub(a.since) >= aheadFor:
		a.strayed = true
	}
	a.by = by
}

// reason says why a slave that is ahead is not read, "" if it may be.
func (a *ahead) reason() string {
	if !a.strayed {
		return ""
	}
	return fmt.Sprintf("is of another history: it has %s, which the master lacks", brief(a.by))
}
