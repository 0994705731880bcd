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

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
