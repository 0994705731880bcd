package replicated

import (
	"context"
	"errors"
	"iter"
	"math/bits"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gorm-replicated/replicated/internal/cluster"
	"github.com/gorm-replicated/replicated/internal/firstbyte"
	"github.com/gorm-replicated/replicated/internal/position"
	"github.com/gorm-replicated/replicated/internal/token"
)

var (
	errNoSecrets = errors.New("replicated: Token needs db.Use, and Config.Secrets")
	errNoSession = errors.New("replicated: Token needs the context of a request behind Middleware, or one of WithToken")
)

// Token returns what the next session of the same client has to bring along to see what this one has written and what it
// was itself begun with: for a client or another service by any way but HTTP's, such as the arguments of a background job or
// the user's record in a store. The responses of requests behind [Plugin.Middleware] bring it without being asked. It is "" if there
// is nothing to bring.
//
// After a write it reads the master's position, each time anew, in at most Token.Timeout. Call it once all is
// committed: it does not cover what is committed later. ctx is that of a request behind Middleware, or of [Plugin.WithToken].
// It is an error if it is neither, if it has ended, or without [Config].Secrets. The end of ctx does not end the question.
func (p *Plugin) Token(ctx context.Context) (string, error) {
	session := lookup(ctx).of(p)
	switch {
	case p.sealer == nil:
		return "", errNoSecrets
	case session == nil:
		return "", errNoSession
	case ctx.Err() != nil:
		return "", ctx.Err()
	}
	session.settle(ctx)
	return session.seal()
}

// WithToken returns a context that begins a session outside of HTTP, with a token or "": slaves that are behind the token are
// not read through it, and once it has written it reads the master. It does not say where to read: outside of requests that is
// Config.DefaultIntent, and WithSlave reads a slave that is behind if there is no other.
//
// If ctx is in a session, that one gets the token: two tokens make one by
// p.Token(p.WithToken(p.WithToken(ctx, a), b)). Tokens that are forged or expired have no effect but that
// [Status] counts them. Before db.Use it returns ctx.
func (p *Plugin) WithToken(ctx context.Context, token string) context.Context {
	if !p.initialized.Load() {
		return ctx
	}
	if session := lookup(ctx).of(p); session != nil {
		session.bring(token)
		return ctx
	}
	begun, session := p.newSession(ctx)
	session.accept(token)
	return begun
}

// bring takes in a token that came in while the session ran, and that its client has to hear of.
func (s *session) bring(text string) {
	if !s.accept(text) {
		return
	}
	s.carried.raised.Store(true)
	if s.carried.late() {
		s.plugin.tooLate()
	}
}

// carried is what a session has to do with its client, beside the points.
type carried struct {
	response *firstbyte.Response // nil outside of Middleware
	clashes  bool                // see Plugin.clashes
	issued   atomic.Bool         // the response brings a token
	raised   atomic.Bool         // by a token that came in later
	waiting  atomic.Int64        // until when reads may wait for a slave, in nanoseconds since 1970; 0: none has
}

// late tells whether it is too late for the client to hear of more.
func (c *carried) late() bool { return c.response != nil && c.response.Begun() }

// tokens counts what happened to tokens.
type tokens struct {
	issued, accepted, expired, future, forged, otherHistory, unread, timeOnly, late atomic.Uint64

	saidTimeOnly, saidLate, saidMarker, saidClash sync.Once
}

// textsOfRequest is how many tokens of one request are looked at, which bounds the work: one in the header, one in the cookie, one of
// reads, and some that another application has left under the cookie's name.
const textsOfRequest = 8

// receive takes in the tokens that a request came with. A client may bring several: in the header, which
// proxies may have made one of, and in cookies of several paths. If they are too many to look at, its own may
// be among the others: then the master is read for all of them.
func (s *session) receive(r *http.Request) {
	cfg := &s.plugin.config.Token
	var texts [textsOfRequest]string
	n := 0
	take := func(text string) {
		if text == "" {
			return
		}
		if n < len(texts) {
			texts[n] = text
		}
		n++
	}
	for text := range tokensIn(r.Header[cfg.Header]) {
		take(text)
	}
	cookiesNamed(r.Header["Cookie"], cfg.Cookie, take)
	switch {
	case n == 0:
	case s.plugin.sealer == nil: // whatever is in it: it lives for Window
		s.readMaster(cfg.Window)
	case n > len(texts):
		s.plugin.tokens.unread.Add(uint64(n))
		s.readMaster(cfg.TTL)
	default:
		for _, text := range texts[:n] {
			s.accept(text)
		}
	}
}

// tokensIn returns the texts in headers of tokens, of which a proxy may have made one.
func tokensIn(lines []string) iter.Seq[string] {
	return func(yield func(string) bool) {
		for _, line := range lines {
			for text := range strings.SplitSeq(line, ",") {
				if !yield(strings.Trim(text, " \t")) {
					return
				}
			}
		}
	}
}

// cookiesNamed calls f with the value of each cookie of tokens in these headers. It does not use
// [http.Request.Cookies], which gives up on all cookies where there are too many.
func cookiesNamed(lines []string, name string, f func(value string)) {
	for _, line := range lines {
		if !strings.Contains(line, name) {
			continue
		}
		for pair := range strings.SplitSeq(line, ";") {
			if key, value, found := strings.Cut(strings.Trim(pair, " \t"), "="); found && isOurs(key, name) {
				f(strings.Trim(value, `"`))
			}
		}
	}
}

// isOurs tells whether a cookie is that of tokens, or that of reads.
func isOurs(key, name string) bool {
	rest, found := strings.CutPrefix(key, name)
	return found && (rest == "" || rest == ofReads)
}

// readMaster makes a session, and the next one of its client if that hears of it, read the master for some
// time.
func (s *session) readMaster(d time.Duration) {
	now := time.Now()
	s.take(point{until: now.Add(d)}, now)
}

// take makes a session demand p, and tells whether a group is known to be on its history, or may be.
func (s *session) take(p point, now time.Time) (known bool) {
	s.points.add(p, s.plugin.config.Token.TTL)
	return s.impose(&p, now)
}

// accept takes in a token, and tells whether there is something in it for the session. One that was not
// sealed here has nothing to say. One that was, and cannot be read, may say anything: the master is read for
// it.
func (s *session) accept(text string) bool {
	p, now := s.plugin, time.Now()
	if p.sealer == nil || text == "" {
		return false
	}
	ttl := p.config.Token.TTL
	t, err := p.sealer.Open(text, now, ttl)
	switch {
	case err == nil:
	case text == token.Marker: // of an instance that has no secrets yet
		s.readMaster(p.config.Token.Window)
		return true
	case err == token.ErrExpired:
		p.tokens.expired.Add(1)
		return false
	case err == token.ErrFuture:
		p.tokens.future.Add(1)
		s.readMaster(ttl)
		return true
	case err == token.ErrVersion, err == token.ErrTooLarge:
		p.tokens.unread.Add(1)
		s.readMaster(ttl)
		return true
	default:
		p.tokens.forged.Add(1)
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
	p.tokens.accepted.Add(1)
	if !known {
		p.tokens.otherHistory.Add(1)
	}
	return true
}

// await waits until a slave may have what a statement demands, and tells whether it is worth a look. All reads of a session together
// wait for Token.Wait.
func (s *session) await(ctx context.Context, g *group, d *demand, v *cluster.View) bool {
	if s == nil || s.plugin.config.Token.Wait == 0 {
		return false
	}
	now, most := time.Now(), s.plugin.config.Token.Wait
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

// settle brings the demands of a session up to what it has written and, if tokens are monotonic, read. It tells which of that
// its client has to hear of.
func (s *session) settle(ctx context.Context) (wrote, read bool) {
	p := s.plugin
	wrote = s.carried.raised.Load()
	var asking sync.WaitGroup // one server that hangs must not take the others' time
	var questions context.Context
	for _, g := range p.groups {
		m := s.memoryOf(g)
		gWrote, gRead := m.wrote.Load(), m.read.Load()
		if !gWrote && gRead == 0 || p.sealer == nil && !g.marks.Load() {
			continue
		}
		wrote, read = wrote || gWrote, true
		if p.sealer == nil {
			continue
		}
		if g.unwatched != "" {
			s.demand(g, g.cluster.Masters[0], gWrote, position.Reading{Reason: g.unwatched}, nil)
			continue
		}
		if questions == nil {
			// Not the end of ctx: that of a request may be an outer timeout's, which answers in our place.
			var cancel context.CancelFunc
			questions, cancel = context.WithTimeout(context.WithoutCancel(ctx), p.config.Token.Timeout)
			defer cancel()
		}
		for _, server := range g.used(m, gWrote, gRead) {
			asking.Go(func() {
				reading, err := g.position(questions, server)
				s.demand(g, server, gWrote, reading, err)
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
		i := slices.IndexFunc(all, func(s cluster.State) bool { return s.Server.Slot() == bits.TrailingZeros64(read) })
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

// demand makes a session demand what a server said when it was asked for its position, or a time if it did not say.
func (s *session) demand(g *group, server *cluster.Server, wrote bool, reading position.Reading, err error) {
	p, now := s.plugin, time.Now()
	if err == nil && !wrote && !reading.Position.Known() {
		return // there are no positions: who only reads would read the master for good
	}
	q := point{history: g.historyOf(server, reading), position: reading.Position, since: now}
	if err == nil && q.position.Known() {
		s.take(q, now)
		return
	}
	q.position, q.until = position.Position{}, now.Add(p.config.Token.Window)
	s.take(q, now)
	if err == nil && slices.ContainsFunc(g.related, func(g *group) bool { return g.saidNoPositions.Load() }) {
		p.tokens.timeOnly.Add(1) // warnNoPositions has said that it will be so
		return
	}
	if err != nil {
		reading.Reason = cluster.Describe(err)
	}
	p.timeOnly(g.name, reading.Reason)
}

// historyOf names the history that a server of g is on: a slave's is that of its master. "" if it is not
// known.
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

// timeOnly tells that a token carries a time instead of a position.
func (p *Plugin) timeOnly(group, reason string) {
	p.tokens.timeOnly.Add(1)
	p.tokens.saidTimeOnly.Do(func() {
		p.config.Logger.Warn("replicated: a token carries a time instead of a position: its client reads the master for Token.Window, "+
			"and stale data from a slave that is further behind", "group", group, "reason", reason, "window", p.config.Token.Window)
	})
}

// tooLate tells of a write, or a token, that the response's own token cannot tell of.
func (p *Plugin) tooLate() {
	p.tokens.late.Add(1)
	p.tokens.saidLate.Do(func() {
		p.config.Logger.Warn("replicated: a handler wrote to the database, or to another service, after the first byte of its response: the client's next request " +
			"may not see it; write first, then answer (counted in Status)")
	})
}

// seal returns the token of all that the session must not read behind; "" if there is nothing.
func (s *session) seal() (string, error) {
	p, now := s.plugin, time.Now()
	t := s.points.token(now, p.config.Token.TTL)
	if len(t) == 0 {
		return "", nil
	}
	text, err := p.sealer.Seal(t, now)
	for shortened := true; err == token.ErrTooLarge && shortened; {
		if t, shortened = shorten(t, now.Add(p.config.Token.Window)); shortened {
			p.timeOnly("", "all positions together do not fit into a header")
			text, err = p.sealer.Seal(t, now)
		}
	}
	return text, err
}
