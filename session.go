package replicated

import (
	"context"
	"sync/atomic"

	"github.com/gorm-replicated/replicated/internal/cluster"
)

type scopeKey struct{}

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

func (s scope) in(ctx context.Context) context.Context {
	return context.WithValue(ctx, scopeKey{}, &s)
}

// session is what one plugin remembers for one request.
type session struct {
	plugin  *Plugin
	pattern choice // Config.Routes
	method  choice // Config.ReadOnlyMethods
	memory  *memory
	next    *session // of another plugin
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

// pick returns the slave that serves this session. One request reads one
// state: its first slave is kept while it is in the view.
func (m *memory) pick(v *cluster.View, choose func(*cluster.View) *cluster.Server) *cluster.Server {
	kept := m.slave.Load()
	if kept != nil && v.Has(kept) {
		return kept
	}
	if s := choose(v); m.slave.CompareAndSwap(kept, s) {
		return s
	}
	return m.slave.Load()
}
