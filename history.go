package replicated

import (
	"slices"
	"time"

	"github.com/gorm-replicated/replicated/internal/position"
)

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
//   - If there is none, a group that may be on it does. Where the positions of the two do not compare, and
//     where its master has not been heard of, it demands the master instead, for as long as the token counts.
//   - If there is none of these either, nobody knows what became of the history: every group demands the
//     master.
func (s *session) impose(p *point, now time.Time) (known bool) {
	ttl := s.router.config.Token.TTL
	strongest := isOnAnother
	for _, g := range s.router.groups {
		strongest = max(strongest, g.relationTo(p))
	}
	for _, g := range s.router.groups {
		d := &minPosition{position: p.position, until: p.until}
		switch r := g.relationTo(p); {
		case r == isOn, r == mayBeOn && strongest == mayBeOn && g.comparesTo(p):
		case strongest == isOn, strongest == mayBeOn && r == isOnAnother:
			continue
		case p.position.Known():
			d = &minPosition{until: later(p.until, p.since.Add(ttl))}
		}
		s.memoryOf(g).raise(d, now, ttl)
	}
	if strongest < isOn && (p.history != "" || p.position.Known()) { // else no answer would tell more
		s.router.askUnwatched(now)
	}
	return strongest >= mayBeOn
}

// askUnwatched asks the masters of groups without slaves, whom no monitor asks, which history they are on. A
// token of theirs would be taken for one of a history that nobody knows. It does so once a second at most.
func (rt *router) askUnwatched(now time.Time) {
	for _, g := range rt.groups {
		last := g.lastAsked.Load()
		if g.unwatched != "" || g.hasSlaves() || now.Sub(time.Unix(0, last)).Abs() < time.Second {
			continue
		}
		if g.lastAsked.CompareAndSwap(last, now.UnixNano()) {
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
