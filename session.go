package replicated

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/gorm-replicated/replicated/internal/cluster"
)

type scopeKey struct{}

// scope is all that a context says about routing. It is one value under one
// key, so that a statement looks it up once; it is never changed, only
// replaced in a derived context.
type scope struct {
	explicit choice   // WithMaster, WithSlave
	handler  choice   // UseMaster, UseSlave
	limited  bool     // WithMaxStaleness
	forgets  bool     // WithForgottenWrites
	sessions *session // of each plugin whose Middleware the request went through, or whose WithToken

	staleness time.Duration // if limited

	chosen *pool // by a callback, for a statement whose pool is another plugin's
}

// scoped is a context with a scope. It is a type of our own because a statement's context often is one itself: then there is nothing to
// search.
type scoped struct {
	context.Context
	// done is the parent's Done, which database/sql asks for several times in a query, if that is net/http's: the
	// contexts of others may be used again for another request, and have another one then.
	done  <-chan struct{}
	scope scope
}

// Done implements [context.Context].
func (c *scoped) Done() <-chan struct{} {
	if c.done != nil {
		return c.done
	}
	return c.Context.Done()
}

// Value implements [context.Context].
func (c *scoped) Value(key any) any {
	if _, ok := key.(scopeKey); ok {
		return &c.scope
	}
	return c.Context.Value(key)
}

// scopeOf returns a copy of ctx's scope.
func scopeOf(ctx context.Context) scope {
	if s := lookup(ctx); s != nil {
		return *s
	}
	return scope{}
}

func lookup(ctx context.Context) *scope {
	switch c := ctx.(type) {
	case nil:
		return nil
	case *scoped:
		return &c.scope
	}
	s, _ := ctx.Value(scopeKey{}).(*scope)
	return s
}

// in returns ctx with s.
func (s scope) in(ctx context.Context) scoped {
	if ctx == nil {
		panic("cannot create context from nil parent") // as package context does
	}
	c := scoped{Context: ctx, scope: s}
	if parent, ok := ctx.(*scoped); ok {
		c.done = parent.done
	}
	return c
}

func (s scope) context(ctx context.Context) context.Context {
	c := s.in(ctx)
	return &c
}

// session is what one plugin remembers for one request, or for what WithToken begins.
type session struct {
	plugin     *Plugin
	request    bool    // not WithToken
	reads      Reason  // if what follows from pattern and method, while AutoReadOnSlave is on, is Slave: why; otherwise 0
	pattern    choice  // Config.Routes
	method     choice  // Config.ReadOnlyMethods
	memory     *memory // of the global group: own, or that of the request's outer session
	own        memory
	others     []memory // of the other groups, in their order
	points     *points  // own, or those of the outer session
	carried    *carried // own, or that of the outer session
	next       *session // of another plugin
	ownPoints  points
	ownCarried carried
}

// of returns the session of p in s, or nil.
func (s *scope) of(p *Plugin) *session {
	if s == nil {
		return nil
	}
	for v := s.sessions; v != nil; v = v.next {
		if v.plugin == p {
			return v
		}
	}
	return nil
}

// remembers returns the session of p in s that is to remember a write, or nil.
func (s *scope) remembers(p *Plugin) *session {
	if s == nil || s.forgets {
		return nil
	}
	return s.of(p)
}

// memoryOf returns what the session remembers of a group. Without a session there is nothing to remember it
// in: nil.
func (s *session) memoryOf(g *group) *memory {
	switch {
	case s == nil || g == nil || g.err != nil:
		return nil
	case g.index == 0:
		return s.memory
	}
	return &s.others[g.index-1]
}

// markWritten remembers that the session has written to a group.
func (s *session) markWritten(g *group) {
	m := s.memoryOf(g)
	if m == nil {
		return
	}
	if !m.wrote.Load() { // most often it is set already: a load is cheaper
		m.wrote.Store(true)
	}
	if s.carried.late() {
		s.plugin.tooLate()
	}
}

// memory is the part of a session that changes while the request is served,
// by as many goroutines as the handler likes. There is one for each group.
type memory struct {
	wrote  atomic.Bool
	demand atomic.Pointer[demand] // of its tokens; nil: none
	slave  atomic.Pointer[cluster.Server]
	read   atomic.Uint64                  // which servers, with Token.Monotonic: see noteRead
	master atomic.Pointer[cluster.Server] // if there are several
	span   atomic.Pointer[span]           // of its reads
}

func (m *memory) wroteTo() bool { return m != nil && m.wrote.Load() }

// demands returns what the session must not read behind, or nil.
func (m *memory) demands() *demand {
	if m == nil {
		return nil
	}
	return m.demand.Load()
}

// kept returns the slave that serves the session: its first one, while that
// may be read. One request reads one state.
func (m *memory) kept() *cluster.Server {
	if m == nil {
		return nil
	}
	if slave := m.slave.Load(); slave != nil && slave.Fits() {
		return slave
	}
	return nil
}

// keep makes slave the session's, unless another goroutine of the request was
// faster, and returns the session's.
func (m *memory) keep(slave *cluster.Server) *cluster.Server {
	if m == nil {
		return slave
	}
	return keep(&m.slave, slave)
}

// change makes slave the session's, whatever it was before, and returns it.
func (m *memory) change(slave *cluster.Server) *cluster.Server {
	if m != nil {
		m.slave.Store(slave)
	}
	return slave
}

// keep stores server in p, unless one is there that may be read, and returns what is there then.
func keep(p *atomic.Pointer[cluster.Server], server *cluster.Server) *cluster.Server {
	for {
		old := p.Load()
		if old != nil && old.Fits() {
			return old
		}
		if p.CompareAndSwap(old, server) {
			return server
		}
	}
}
