package replicated

import (
	"context"
	"math/bits"
	"slices"
	"sync"
	"time"

	"github.com/gorm-replicated/replicated/internal/cluster"
	"github.com/gorm-replicated/replicated/internal/position"
	"github.com/gorm-replicated/replicated/internal/token"
)

// Tokens come in by accept, which makes the session demand what they hold. Before a token goes out, catchUp
// adds what the session has written and read, and seal encrypts all of it.

// readMaster makes a session, and the next one of its client if that hears of it, read the master for some
// time.
func (s *session) readMaster(d time.Duration) {
	now := time.Now()
	s.take(point{until: now.Add(d)}, now)
}

// take makes a session demand p, and tells whether a group is known to be on its history, or may be.
func (s *session) take(p point, now time.Time) (known bool) {
	s.points.add(p, s.router.config.Token.TTL)
	return s.impose(&p, now)
}

// accept takes in a token, and tells whether there is something in it for the session. One that was not
// sealed here has nothing to say. One that was, and cannot be read, may say anything: the master is read for
// it.
func (s *session) accept(text string) bool {
	rt, now := s.router, time.Now()
	if rt.sealer == nil || text == "" {
		return false
	}
	ttl := rt.config.Token.TTL
	t, err := rt.sealer.Open(text, now, ttl)
	switch {
	case err == nil:
	case text == token.Marker: // of an instance that has no secrets yet
		s.readMaster(rt.config.Token.Window)
		return true
	case err == token.ErrExpired:
		rt.tokens.expired.Add(1)
		return false
	case err == token.ErrFuture:
		rt.tokens.future.Add(1)
		s.readMaster(ttl)
		return true
	case err == token.ErrVersion, err == token.ErrTooLarge:
		rt.tokens.unread.Add(1)
		s.readMaster(ttl)
		return true
	default:
		rt.tokens.forged.Add(1)
		return false
	}
	known := true
	for _, e := range t {
		q := point{history: e.History, until: e.Until, since: e.Since}
		if q.since.IsZero() {
			q.since = now
		}
		if q.position, err = position.Parse(e.Position); err != nil {
			// It is of a kind to come: only the master does for it.
			q.until = later(q.until, q.since.Add(ttl))
		}
		if !q.over(now, ttl) {
			found := s.take(q, now)
			known = known && (found || !q.position.Known())
		}
	}
	rt.tokens.accepted.Add(1)
	if !known {
		rt.tokens.otherHistory.Add(1)
	}
	return true
}

// await waits until a slave may have what a statement demands, and tells whether it is worth a look. All
// reads of a session together wait for Token.Wait.
func (s *session) await(ctx context.Context, g *group, d *minPosition, v *cluster.View) bool {
	if s == nil || s.router.config.Token.Wait == 0 {
		return false
	}
	now, most := time.Now(), s.router.config.Token.Wait
	s.carried.waiting.CompareAndSwap(0, now.Add(most).UnixNano())
	left := min(most, time.Unix(0, s.carried.waiting.Load()).Sub(now)) // the clock may have been set back
	changed := v.Changed
	switch window := d.until.Sub(now); {
	case window > left:
		return false
	case window > 0:
		left, changed = window, nil
	case left <= 0 || g.unwatched != "":
		return false
	}
	timeout := time.NewTimer(left)
	defer timeout.Stop()
	select {
	case <-changed:
		return true
	case <-timeout.C:
		return changed == nil
	case <-ctx.Done():
		return false
	}
}

// catchUp brings the demands of a session up to what it has written and, if tokens are monotonic, read. It
// tells which of that its client has to hear of.
func (s *session) catchUp(ctx context.Context) (wrote, read bool) {
	rt := s.router
	wrote = s.carried.raised.Load()
	var asking sync.WaitGroup // one server that hangs must not take the others' time
	var questions context.Context
	for _, g := range rt.groups {
		m := s.memoryOf(g)
		gWrote, gRead := m.wrote.Load(), m.readServers.Load()
		if !gWrote && gRead == 0 || rt.sealer == nil && !g.givesCookies.Load() {
			continue
		}
		wrote, read = wrote || gWrote, true
		if rt.sealer == nil {
			continue
		}
		if g.unwatched != "" {
			s.takeAnswer(g, g.cluster.Masters[0], gWrote, position.Reading{Reason: g.unwatched}, nil)
			continue
		}
		if questions == nil {
			// Not the end of ctx: that of a request may be an outer timeout's, which answers in our place.
			var cancel context.CancelFunc
			questions, cancel = context.WithTimeout(context.WithoutCancel(ctx), rt.config.Token.Timeout)
			defer cancel()
		}
		for _, server := range g.used(m, gWrote, gRead) {
			asking.Go(func() {
				reading, err := g.position(questions, server)
				s.takeAnswer(g, server, gWrote, reading, err)
			})
		}
	}
	asking.Wait()
	return wrote, read
}

// used returns the servers whose positions cover what a session has written to g and read of it.
func (g *group) used(m *memory, wrote bool, read uint64) (servers []*cluster.Server) {
	if wrote || read>>masterRead != 0 { // the master has all that slaves have shown, too
		servers = append(servers, g.master(m))
		if first := g.cluster.Masters[0]; g.several() && servers[0] != first {
			servers = append(servers, first) // db.Connection writes there
		}
		return servers
	}
	all := g.cluster.View().All
	for ; read != 0; read &= read - 1 {
		slot := bits.TrailingZeros64(read)
		i := slices.IndexFunc(all, func(s cluster.State) bool { return s.Server.Slot() == slot })
		if i < 0 { // it has left
			return []*cluster.Server{g.master(m)}
		}
		servers = append(servers, all[i].Server)
	}
	return servers
}

// position asks a server of g. Of a group without slaves, another one that has this master is watched.
func (g *group) position(ctx context.Context, s *cluster.Server) (position.Reading, error) {
	for _, other := range g.related {
		if at := slices.IndexFunc(other.cluster.Masters, s.Same); !g.hasSlaves() && other.hasSlaves() && at >= 0 {
			return other.cluster.Position(ctx, other.cluster.Masters[at])
		}
	}
	return g.cluster.Position(ctx, s)
}

// demand makes a session demand what a server said when it was asked for its position, or a time if it did
// not say.
func (s *session) takeAnswer(
	g *group, server *cluster.Server, wrote bool, answer position.Reading, err error,
) {
	rt, now := s.router, time.Now()
	if err == nil && !wrote && !answer.Position.Known() {
		return // no positions: a client that only reads would read the master for good
	}
	q := point{history: g.historyOf(server, answer), position: answer.Position, since: now}
	if err == nil && q.position.Known() {
		s.take(q, now)
		return
	}
	q.position, q.until = position.Position{}, now.Add(rt.config.Token.Window)
	s.take(q, now)
	if err == nil && slices.ContainsFunc(g.related, func(g *group) bool { return g.saidNoPositions.Load() }) {
		rt.tokens.timeOnly.Add(1) // warnNoPositions has said that it will be so
		return
	}
	if err != nil {
		answer.Reason = cluster.Describe(err)
	}
	rt.noteTimeOnly(g.name, answer.Reason)
}

// historyOf names the history that a server of g is on: a slave's is that of its master. It returns ""
// where the history is not known.
func (g *group) historyOf(s *cluster.Server, reading position.Reading) string {
	if !s.Slave && reading.Position.Known() {
		return reading.History()
	}
	if s.Slave {
		s = g.cluster.Masters[0]
	}
	if latest := s.Latest(); latest != nil {
		return latest.History
	}
	return ""
}

// seal returns the token of all that the session must not read behind; "" if there is nothing.
func (s *session) seal() (string, error) {
	rt, now := s.router, time.Now()
	t := s.points.token(now, rt.config.Token.TTL)
	if len(t) == 0 {
		return "", nil
	}
	text, err := rt.sealer.Seal(t, now)
	for shortened := true; err == token.ErrTooLarge && shortened; {
		if t, shortened = shorten(t, now.Add(rt.config.Token.Window)); shortened {
			rt.noteTimeOnly("", "all positions together do not fit into a header")
			text, err = rt.sealer.Seal(t, now)
		}
	}
	return text, err
}
