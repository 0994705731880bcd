package replicated

import (
	"slices"
	"sync"
	"time"

	"github.com/gorm-replicated/replicated/internal/position"
	"github.com/gorm-replicated/replicated/internal/token"
)

// A token names histories, not groups. Two versions of an application, of which a deploy runs both for a
// while, may call a group by two names, put their groups in another order, or have one more: what a client
// wrote through one of them it must see through the other. So whoever gets a token finds out which of its own
// groups are on the histories in it.

// point is what a session must not read behind in one history: what a token carries.
type point struct {
	history  string            // as [position.Reading.History] names it; "" if it is not known
	position position.Position // a slave has to cover it, if it is known
	until    time.Time         // the master has to be read until then
	since    time.Time         // when the session last learned of the position
}

// over tells whether there is nothing left of p. When a token as old as p would have expired, every slave
// that is read has p.
func (p *point) over(now time.Time, ttl time.Duration) bool {
	return !now.Before(p.until) && (!p.position.Known() || !now.Before(p.since.Add(ttl)))
}

// and returns what demands as much as p and q, which are of one history.
func (p point) and(q point, ttl time.Duration) point {
	older, newer := p, q
	if q.since.Before(p.since) {
		older, newer = q, p
	}
	both := point{p.history, newer.position, later(p.until, q.until), newer.since}
	switch merged := position.Merge(p.position, q.position); {
	case merged.Known():
		both.position = merged
	case !newer.position.Known():
		both.position = older.position
	case older.position.Known(): // no position covers both: the master does
		both.until = later(both.until, older.since.Add(ttl))
	}
	return both
}

// points is what a session's token carries. The zero value is empty.
type points struct {
	mu  sync.Mutex
	all []point // one for each history
}

func (p *points) add(q point, ttl time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if i := slices.IndexFunc(p.all, func(p point) bool { return p.history == q.history }); i >= 0 {
		p.all[i] = p.all[i].and(q, ttl)
		return
	}
	p.all = append(p.all, q)
}

// token returns what is left to carry.
func (p *points) token(now time.Time, ttl time.Duration) (t token.Token) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, q := range p.all {
		if q.over(now, ttl) {
			continue
		}
		e := token.Entry{History: q.history}
		if now.Before(q.since.Add(ttl)) {
			e.Position = q.position.Append(nil)
		}
		if len(e.Position) > 0 {
			e.Since = q.since
		}
		if now.Before(q.until) {
			e.Until = q.until
		}
		t = append(t, e)
	}
	return t
}

// shorten makes a token shorter that is too large: of one history, the one with the longest position, nothing
// remains but that the master has to be read until some time, and that for whatever history. It tells whether
// it could.
func shorten(t token.Token, until time.Time) (token.Token, bool) {
	longest := -1
	for i, e := range t {
		if (e.History != "" || len(e.Position) > 0) && (longest < 0 || len(e.Position) > len(t[longest].Position)) {
			longest = i
		}
	}
	if longest < 0 {
		return t, false
	}
	rest := token.Entry{Until: later(until, t[longest].Until)}
	t = slices.Delete(t, longest, longest+1)
	if i := slices.IndexFunc(t, func(e token.Entry) bool { return e.History == "" }); i >= 0 {
		t[i].Until = later(t[i].Until, rest.Until)
		return t, true
	}
	return append(t, rest), true
}

// relation is what a group has to do with a history. The greater one is the stronger one.
type relation uint8

const (
	isOnAnother relation = iota // as far as positions tell
	isUnheardOf                 // its master has not been heard of, or has no positions
	mayBeOn                     // it may have gone on from the point, such as after a failover
	isOn
)

// relationTo returns what g has to do with the history of p.
func (g *group) relationTo(p *point) (r relation) {
	for _, master := range g.cluster.Masters {
		switch latest := master.Latest(); {
		case latest == nil:
			r = max(r, isUnheardOf)
		case latest.History != "" && latest.History == p.history:
			return isOn
		case position.Related(p.position, latest.Position):
			r = max(r, mayBeOn)
		}
	}
	return r
}

// comparesTo tells whether slaves of g, which may be on the history of p, can come to cover p.
func (g *group) comparesTo(p *point) bool {
	for _, master := range g.cluster.Masters {
		if latest := master.Latest(); latest != nil && position.Comparable(p.position, latest.Position) {
			return true
		}
	}
	return false
}

// impose makes the groups that p concerns demand it, and tells whether any is known to be on its history, or
// may be.
//
//   - A group on the history demands the position.
//   - If there is none, a group that may be on it does. Where the positions of the two do not compare, and where
//     its master has not been heard of, it demands the master instead, for as long as the token counts.
//   - If there is none of these either, nobody knows what became of the history: every group demands the
//     master.
func (s *session) impose(p *point, now time.Time) (known bool) {
	ttl := s.plugin.config.Token.TTL
	strongest := isOnAnother
	for _, g := range s.plugin.groups {
		strongest = max(strongest, g.relationTo(p))
	}
	for _, g := range s.plugin.groups {
		d := &demand{position: p.position, until: p.until}
		switch r := g.relationTo(p); {
		case r == isOn, r == mayBeOn && strongest == mayBeOn && g.comparesTo(p):
		case strongest == isOn, strongest == mayBeOn && r == isOnAnother:
			continue
		case p.position.Known():
			d = &demand{until: later(p.until, p.since.Add(ttl))}
		}
		s.memoryOf(g).raise(d, now, ttl)
	}
	if strongest < isOn {
		s.plugin.askUnwatched(now)
	}
	return strongest >= mayBeOn
}

// askUnwatched asks the masters of groups without slaves, whom no monitor asks, which history they are on. A
// token of theirs would be taken for one of a history that nobody knows. It does so once a second at most.
func (p *Plugin) askUnwatched(now time.Time) {
	for _, g := range p.groups {
		last := g.asked.Load()
		if g.unwatched != "" || g.hasSlaves() || now.Sub(time.Unix(0, last)).Abs() < time.Second {
			continue
		}
		if g.asked.CompareAndSwap(last, now.UnixNano()) {
			g.askMasters()
		}
	}
}

// askMasters has the masters of g asked for what Latest tells.
func (g *group) askMasters() {
	for _, master := range g.cluster.Masters {
		g.cluster.Ask(master)
	}
}

// shares tells whether g and other are on one master, by their pools and addresses or by what their masters
// have said.
func (g *group) shares(other *group) bool {
	if slices.Contains(g.related, other) {
		return true
	}
	for _, a := range g.cluster.Masters {
		for _, b := range other.cluster.Masters {
			x, y := a.Latest(), b.Latest()
			if x != nil && y != nil && x.History != "" && x.History == y.History {
				return true
			}
		}
	}
	return false
}
