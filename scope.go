package replicated

import (
	"context"
	"net/http"
	"time"

	"gorm.io/gorm"
)

type scopeKey struct{}

// scope is all that a context says about routing. It is one value under one key, so that a statement looks
// it up once; it is never changed, only replaced in a derived context.
type scope struct {
	explicit choice   // WithMaster, WithSlave
	handler  choice   // UseMaster, UseSlave
	limited  bool     // WithMaxStaleness
	forgets  bool     // WithForgottenWrites
	sessions *session // of each plugin whose Middleware the request went through, or whose WithToken

	staleness time.Duration // if limited

	chosen gorm.ConnPool // by a callback, for a statement whose pool is another plugin's
}

// scoped is a context with a scope. It is a type of our own because a statement's context often is one
// itself: then there is nothing to search.
type scoped struct {
	context.Context
	// done is the parent's Done, which database/sql asks for several times in a query, if that is net/http's:
	// the contexts of others may be used again for another request, and have another one then.
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

// of returns the session of rt's plugin in s, or nil.
func (s *scope) of(rt *router) *session {
	if s == nil {
		return nil
	}
	for v := s.sessions; v != nil; v = v.next {
		if v.router == rt {
			return v
		}
	}
	return nil
}

// sessionOfWrite returns the session of rt's plugin that is to remember a write, or nil.
func (s *scope) sessionOfWrite(rt *router) *session {
	if s == nil || s.forgets {
		return nil
	}
	return s.of(rt)
}

// WithMaster returns a context whose statements run on the master. The innermost of WithMaster and
// WithSlave counts; both win over what the request and its handler say.
//
// It works on any context, with or without [Plugin.Middleware]. Like [context.WithValue] it panics if ctx
// is nil.
func WithMaster(ctx context.Context) context.Context {
	s := scopeOf(ctx)
	s.explicit = chooseMaster
	return s.context(ctx)
}

// WithSlave returns a context whose reads run on a slave, even after the session has written; what is not
// provably a read still runs on the master. Otherwise it is like [WithMaster].
func WithSlave(ctx context.Context) context.Context {
	s := scopeOf(ctx)
	s.explicit = chooseSlave
	return s.context(ctx)
}

// WithMaxStaleness returns a context whose reads run on slaves only that are known to be at most d behind,
// otherwise on the master: also where the code asks for a slave. The innermost one counts. It asks for a
// closer watch on the slaves for some seconds, so that small values work, but for zero: that reads the
// master. Where lag is not known (see [ProbeConfig]), no slave is fresh enough.
func WithMaxStaleness(ctx context.Context, d time.Duration) context.Context {
	s := scopeOf(ctx)
	s.limited, s.staleness = true, d
	return s.context(ctx)
}

// Wrote tells every plugin whose session is in ctx that this session has written to all of its groups: call
// it after writes that no plugin sees, such as those through db.DB(), by COPY, or by another library. Then it
// is as if GORM had written: the session reads the master from now on, and the response to its request brings
// a token. So it has to be called after the commit, and before the first byte of the response.
//
// A context without a session has nothing to remember it in: then Wrote does nothing.
func Wrote(ctx context.Context) {
	scope := lookup(ctx)
	if scope == nil {
		return
	}
	for session := scope.sessions; session != nil; session = session.next {
		for _, g := range session.router.groups {
			session.markWritten(g)
		}
	}
}

// WithForgottenWrites returns a context whose writes the session does not remember: for bookkeeping that
// nobody needs to read back, such as when a user was seen last.
//
// These writes run on the master, as all do. But they bring the client no token, and later reads in the same
// session, and the client's next requests, may go to slaves that do not have them yet. It holds for all that
// GORM derives from a statement with this context, and it changes nothing about where a statement runs, or
// whether [Config].RejectWrites refuses it. [Wrote] counts all the same.
func WithForgottenWrites(ctx context.Context) context.Context {
	s := scopeOf(ctx)
	s.forgets = true
	return s.context(ctx)
}

// UseMaster marks a handler: its queries run on the master, whatever the method. A handler that is marked
// both ways uses the master, whichever mark wraps the other.
//
// The mark travels in the request's context: it works inside and outside of [Plugin.Middleware], and for
// every plugin. A nil handler panics.
func UseMaster(next http.Handler) http.Handler { return setHandlerIntent(next, chooseMaster) }

// UseSlave marks a handler: its reads run on a slave, whatever the method and
// whether or not AutoReadOnSlave is on, until the session writes. Otherwise it
// is like [UseMaster].
func UseSlave(next http.Handler) http.Handler { return setHandlerIntent(next, chooseSlave) }

func setHandlerIntent(next http.Handler, c choice) http.Handler {
	mustHandler(next)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s := scopeOf(r.Context())
		if s.handler != chooseMaster {
			s.handler = c
		}
		next.ServeHTTP(w, r.WithContext(s.context(r.Context())))
	})
}

// mustHandler fails where the mistake is made, as http.Handle does, rather than in the first request.
func mustHandler(h http.Handler) {
	if h == nil {
		panic("replicated: nil handler")
	}
}

// newSession returns ctx with a new session in it, and that session. If ctx has a session of the same
// plugin already, the two share one memory: what one part of a request writes, all of it must see.
func (rt *router) newSession(ctx context.Context) (*scoped, *session) {
	both := &struct { // in one piece: a statement looks at both
		scoped  scoped
		session session
	}{scoped: scopeOf(ctx).in(ctx)}
	scope, session := &both.scoped.scope, &both.session
	session.router, session.next = rt, scope.sessions
	if outer := scope.of(rt); outer != nil {
		session.memory, session.others = outer.memory, outer.others
		session.points, session.carried = outer.points, outer.carried
	} else {
		session.memory, session.points, session.carried = &session.own, &session.ownPoints, &session.ownCarried
		for now, i := time.Now(), 0; i < len(rt.groups); i++ {
			rt.groups[i].cluster.Lapse(now)
		}
		if others := len(rt.groups) - 1; others > 0 {
			session.others = make([]memory, others)
		}
	}
	scope.sessions = session
	return &both.scoped, session
}
