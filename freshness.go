package replicated

import (
	"context"
	"errors"
	"math/bits"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gorm-replicated/replicated/internal/cluster"
	"github.com/gorm-replicated/replicated/internal/position"
	"github.com/gorm-replicated/replicated/internal/token"
)

var (
	errNoSecrets = errors.New("replicated: Token needs Config.Secrets")
	errNoSession = errors.New("replicated: Token needs the context of a request behind Middleware, or one of WithToken")
)

// Token returns what the next session of the same client has to bring along to see what this one has written and what it
// was itself begun with: for a client or another service by any way but HTTP's, such as the arguments of a background job or
// the user's record in a store. The responses of requests behind [Plugin.Middleware] bring it without being asked. It is "" if there
// is nothing to bring.
//
// After a write it reads the master's position, each time anew, in at most Token.Timeout. Call it once all is
// committed: it does not cover what is committed later. ctx is that of a request behind Middleware, or of [Plugin.WithToken].
// It is an error if it is neither, or without [Config].Secrets.
func (p *Plugin) Token(ctx context.Context) (string, error) {
	session := lookup(ctx).of(p)
	switch {
	case p.config.Secrets == nil:
		return "", errNoSecrets
	case session == nil:
		return "", errNoSession
	}
	session.settle(ctx)
	return session.seal()
}

// WithToken returns a context that begins a session outside of HTTP, with a token or "": slaves that are behind the token are
// not read through it, and once it has written it reads the master. It does not say where to read: outside of requests that is
// Config.DefaultIntent, and WithSlave reads a slave that is behind if there is no other.
//
// If ctx is in a session, that one gets the token: two tokens make one by
// p.Token(p.WithToken(p.WithToken(ctx, a), b)). Tokens that are forged, expired or of something else have no effect but that
// [Status] counts them. Before db.Use it returns ctx.
func (p *Plugin) WithToken(ctx context.Context, token string) context.Context {
	if !p.initialized.Load() {
		return ctx
	}
	if session := lookup(ctx).of(p); session != nil {
		session.bring(token)
		return ctx
	}
	ctx, session := p.newSession(ctx)
	session.accept(token)
	return ctx
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

// demand is what a session must not read behind in one group. It is never changed.
type demand struct {
	position position.Position // a slave has to cover it, if it is known
	until    time.Time         // the master has to be read until then
}

// metBy tells whether a slave at p may be read.
func (d *demand) metBy(p position.Position, now time.Time) bool {
	return d == nil || !now.Before(d.until) && (!d.position.Known() || p.Covers(d.position))
}

// and returns what demands as much as d and newer do. Two positions may have no common one, such as those before and after a
// failover: then what is left of the older one is in the history of the newer one, which counts, and for a while only the
// master does for both.
func (d *demand) and(newer *demand, now time.Time, window time.Duration) *demand {
	if d == nil {
		return newer
	}
	both := demand{newer.position, later(d.until, newer.until)}
	switch merged := position.Merge(d.position, newer.position); {
	case merged.Known():
		both.position = merged
	case !newer.position.Known():
		both.position = d.position
	case d.position.Known():
		both.until = later(both.until, now.Add(window))
	}
	return &both
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// raise adds to what the session must not read behind.
func (m *memory) raise(newer *demand, now time.Time, window time.Duration) {
	for {
		old := m.demand.Load()
		if m.demand.CompareAndSwap(old, old.and(newer, now, window)) {
			return
		}
	}
}

// masterRead is the bit of memory.read for the master, and for all slaves that have none.
const masterRead = 63

// noteRead remembers which server was read.
func (m *memory) noteRead(s *cluster.Server, v *cluster.View) {
	bit := masterRead
	if s.Slave {
		bit = min(bit, slices.IndexFunc(v.All, func(state cluster.State) bool { return state.Server == s }))
	}
	if bit >= 0 { // else Close has emptied the view
		m.read.Or(1 << bit)
	}
}

// carried is what a session takes to the next one, beside the demands of its groups.
type carried struct {
	response *firstByte   // nil outside of Middleware
	raised   atomic.Bool  // by a token that came in later
	waiting  atomic.Int64 // until when reads may wait for a slave, in nanoseconds since 1970; 0: none has

	mu     sync.Mutex
	others token.Token // of groups that are not known here
}

// late tells whether it is too late for the client to hear of more.
func (c *carried) late() bool { return c.response != nil && c.response.begun() }

// keepOthers takes in the entries of groups that are not known here: another application may need them.
func (c *carried) keepOthers(entries token.Token) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, e := range entries {
		c.others = slices.DeleteFunc(c.others, func(old token.Entry) bool { return old.Group == e.Group })
		c.others = append(c.others, e)
	}
}

// tokens counts what happened to tokens.
type tokens struct {
	issued, accepted, expired, forged, otherGroup, timeOnly, late atomic.Uint64

	saidTimeOnly, saidLate, saidMarker, saidClash sync.Once
}

// textsOfRequest is how many tokens of one request are looked at: one in a cookie, one in the header, and one each that an
// application at another path or host has left.
const textsOfRequest = 4

// receive takes in the tokens that a request came with.
func (s *session) receive(r *http.Request) {
	cfg := &s.plugin.config.Token
	var texts []string
	if mayHoldCookie(r.Header["Cookie"], cfg.Cookie) {
		for _, c := range r.CookiesNamed(cfg.Cookie) {
			texts = append(texts, c.Value)
		}
	}
	if s.plugin.sealer == nil {
		if len(texts) > 0 { // whatever is in it: it lives for Window
			s.readMaster()
		}
		return
	}
	texts = append(texts, r.Header[cfg.Header]...)
	for _, text := range texts[:min(len(texts), textsOfRequest)] {
		s.accept(text)
	}
}

// mayHoldCookie saves the parsing of the cookies where there is none of ours.
func mayHoldCookie(lines []string, name string) bool {
	return slices.ContainsFunc(lines, func(line string) bool { return strings.Contains(line, name) })
}

// readMaster makes a session read the master for Token.Window.
func (s *session) readMaster() {
	now := time.Now()
	for _, g := range s.plugin.groups {
		s.memoryOf(g).raise(&demand{until: now.Add(s.plugin.config.Token.Window)}, now, 0)
	}
}

// accept takes in a token. One that does not open, or is of groups that are not known, counts as none.
func (s *session) accept(text string) bool {
	p, now := s.plugin, time.Now()
	if p.sealer == nil || text == "" {
		return false
	}
	t, err := p.sealer.Open(text, now, p.config.Token.TTL)
	switch {
	case err == token.ErrExpired:
		p.tokens.expired.Add(1)
		return false
	case err != nil:
		p.tokens.forged.Add(1)
		return false
	}
	known := false
	for i, e := range t {
		g := p.groupNamed(e.Group)
		if g == nil {
			s.carried.keepOthers(t[i : i+1])
			continue
		}
		d := &demand{until: e.Until}
		if d.position, err = position.Parse(e.Position); err != nil { // of a version to come: only the master does for it
			d.until = later(d.until, now.Add(p.config.Token.Window))
		}
		s.memoryOf(g).raise(d, now, p.config.Token.Window)
		known = true
	}
	if known {
		p.tokens.accepted.Add(1)
	} else {
		p.tokens.otherGroup.Add(1)
	}
	return true
}

// await waits for a view that is newer than v, in which a slave may have what the session must not read behind. It tells whether there
// is one; the reads of a session wait no longer than Token.Wait together.
func (s *session) await(ctx context.Context, d *demand, v *cluster.View) bool {
	if s == nil || s.plugin.config.Token.Wait == 0 {
		return false
	}
	now := time.Now()
	s.carried.waiting.CompareAndSwap(0, now.Add(s.plugin.config.Token.Wait).UnixNano())
	end := time.Unix(0, s.carried.waiting.Load())
	if !now.Before(end) || d.until.After(end) {
		return false
	}
	timeout := time.NewTimer(end.Sub(now))
	defer timeout.Stop()
	select {
	case <-v.Changed:
		return true
	case <-timeout.C:
	case <-ctx.Done():
	}
	return false
}

// settle brings the demands of a session up to what it has written and, if tokens are monotonic, read, and tells whether its
// client has to hear of them.
func (s *session) settle(ctx context.Context) bool {
	p := s.plugin
	changed := s.carried.raised.Load()
	var deadline time.Time // of all questions together
	for _, g := range p.groups {
		m := s.memoryOf(g)
		wrote, read := m.wrote.Load(), m.read.Load()
		if !wrote && read == 0 || !g.hasSlaves() {
			continue
		}
		changed = true
		if deadline.IsZero() {
			deadline = time.Now().Add(p.config.Token.Timeout)
		}
		s.reach(ctx, deadline, g, m, wrote, read)
	}
	return changed
}

// reach makes a session demand of a group what the servers that it used have now.
func (s *session) reach(ctx context.Context, deadline time.Time, g *group, m *memory, wrote bool, read uint64) {
	if s.plugin.sealer == nil || g.unwatched != "" {
		s.demand(g, m, position.Reading{Reason: g.unwatched}, nil)
		return
	}
	ctx, cancel := context.WithDeadline(ctx, deadline)
	defer cancel()
	if wrote || read>>masterRead != 0 { // the master has all that slaves have shown, too
		reading, err := g.cluster.MasterPosition(ctx, g.master(m))
		s.demand(g, m, reading, err)
		return
	}
	for all := g.cluster.View().All; read != 0; read &= read - 1 {
		if i := bits.TrailingZeros64(read); i < len(all) {
			reading, err := g.cluster.SlavePosition(ctx, all[i].Server)
			s.demand(g, m, reading, err)
		}
	}
}

// demand makes a session demand what a server said when it was asked for its position, or a time if it did not say.
func (s *session) demand(g *group, m *memory, reading position.Reading, err error) {
	p, now := s.plugin, time.Now()
	window := p.config.Token.Window
	if err == nil && reading.Position.Known() {
		m.raise(&demand{position: reading.Position}, now, window)
		return
	}
	m.raise(&demand{until: now.Add(window)}, now, window)
	if p.sealer == nil {
		return // it is said elsewhere
	}
	if err != nil {
		reading.Reason = err.Error()
	}
	p.timeOnly(g.name, reading.Reason)
}

// timeOnly tells that a token carries a time instead of a position.
func (p *Plugin) timeOnly(group, reason string) {
	p.tokens.timeOnly.Add(1)
	p.tokens.saidTimeOnly.Do(func() {
		p.config.Logger.Warn("replicated: a token carries a time instead of a position: its client reads the master for Token.Window, "+
			"and stale data from a slave that is further behind", "group", group, "reason", reason, "window", p.config.Token.Window)
	})
}

// tooLate tells of a write that the token of its response cannot tell of.
func (p *Plugin) tooLate() {
	p.tokens.late.Add(1)
	p.tokens.saidLate.Do(func() {
		p.config.Logger.Warn("replicated: a handler wrote to the database after the first byte of its response: the client's next request may not see it; " +
			"write first, then answer (counted in Status)")
	})
}

// seal returns the token of all that the session must not read behind; "" if there is nothing.
func (s *session) seal() (string, error) {
	p, now := s.plugin, time.Now()
	s.carried.mu.Lock()
	entries := slices.Clone(s.carried.others)
	s.carried.mu.Unlock()
	for _, g := range p.groups {
		d := s.memoryOf(g).demand.Load()
		if d == nil {
			continue
		}
		e := token.Entry{Group: g.name, Position: d.position.Append(nil)}
		if now.Before(d.until) {
			e.Until = d.until
		}
		if len(e.Position) > 0 || !e.Until.IsZero() {
			entries = append(entries, e)
		}
	}
	if len(entries) == 0 {
		return "", nil
	}
	text, err := p.sealer.Seal(entries, now)
	if err == token.ErrTooLarge {
		p.timeOnly(entries[0].Group, "the position does not fit into a cookie")
		entries = slices.DeleteFunc(entries, func(e token.Entry) bool { return p.groupNamed(e.Group) == nil })
		for i := range entries {
			entries[i].Position, entries[i].Until = nil, later(entries[i].Until, now.Add(p.config.Token.Window))
		}
		text, err = p.sealer.Seal(entries, now)
	}
	return text, err
}
