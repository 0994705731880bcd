package replicated

import (
	"context"
	"sync/atomic"

	"github.com/gorm-replicated/replicated/internal/cluster"
)

// scopeKey holds a pointer, which makes comparing keys cheaper than an empty
// struct would.
type scopeKey struct{ _ *byte }

// scope is all that a context says about routing. It is one value under one
// key, so that a statement looks it up once; it is never changed, only
// replaced in a derived context.
type scope struct {
	explicit choice   // WithMaster, WithSlave
	handler  choice   // UseMaster, UseSlave
	sessions *session // of each plugin whose Middleware the request went through
}

// scopeOf returns a copy of ctx's scope. A nil ctx is left for
// context.WithValue to complain about.
func scopeOf(ctx context.Context) scope {
	if s := lookup(ctx); s != nil {
		return *s
	}
	return scope{}
}

func lookup(ctx context.Context) *scope {
	if ctx == nil {
		return nil
	}
	s, _ := ctx.Value(scopeKey{}).(*scope)
	return s
}

func (s *scope) in(ctx context.Context) context.Context {
	return context.WithValue(ctx, scopeKey{}, s)
}

// session is what one plugin remembers for one request.
type session struct {
	plugin  *Plugin
	pattern choice   // Config.Routes
	method  choice   // Config.ReadOnlyMethods
	memory  *memory  // own, or that of the request's outer session
	next    *session // of another plugin
	own     memory
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

// markWritten remembers that the request has written. Without a session there
// is nothing to remember it in.
func (s *session) markWritten() {
	if s != nil && !s.memory.wrote.Load() { // most often it is set already: a load is cheaper
		s.memory.wrote.Store(true)
	}
}

// memory is the part of a session that changes while the request is served,
// by as many goroutines as the handler likes.
type memory struct {
	wrote atomic.Bool
	slave atomic.Pointer[cluster.Server]
}

// kept returns the slave that serves the session: its first one, while that
// is there. One request reads one state.
func (s *session) kept() *cluster.Server {
	if s == nil {
		return nil
	}
	if slave := s.memory.slave.Load(); slave != nil && !slave.Left() {
		return slave
	}
	return nil
}

// keep makes slave the session's, unless another goroutine of the request was
// faster, and returns the session's.
func (s *session) keep(slave *cluster.Server) *cluster.Server {
	for s != nil {
		old := s.memory.slave.Load()
		if old != nil && !old.Left() {
			return old
		}
		if s.memory.slave.CompareAndSwap(old, slave) {
			break
		}
	}
	return slave
}
