package replicated

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"
)

// Intent says what a request, or a piece of code, means to do.
//
// It is also a clause: db.Clauses(replicated.Slave).Find(&posts) settles the
// question for one statement and for what follows from it: preloads, hooks,
// and the transaction that Begin opens.
type Intent uint8

const (
	// Master is the intent to write, or to see the newest state. It is the zero value.
	Master Intent = iota
	// Slave is the intent to read only. Statements that write, lock rows or
	// depend on one connection's state run on the master all the same.
	Slave
)

// String returns "master" or "slave".
func (i Intent) String() string {
	switch i {
	case Master:
		return "master"
	case Slave:
		return "slave"
	}
	return fmt.Sprintf("Intent(%d)", uint8(i))
}

// MarshalText returns what [Intent.String] does, for JSON.
func (i Intent) MarshalText() ([]byte, error) { return []byte(i.String()), nil }

func (i Intent) valid() bool { return i <= Slave }

// Build makes Intent a [clause.Expression]; it writes nothing.
func (i Intent) Build(clause.Builder) {}

// ModifyStatement makes Intent a [gorm.StatementModifier]: it is what
// db.Clauses(replicated.Master) calls. Without the plugin it does nothing.
func (i Intent) ModifyStatement(stmt *gorm.Statement) {
	if !i.valid() {
		_ = stmt.AddError(fmt.Errorf("replicated: unknown intent %v as a clause", i))
		return
	}
	if p := From(stmt.DB); p != nil {
		if p.index() != nil { // Use, which may follow, looks for these
			stmt.Settings.Delete(writeName)
			stmt.Settings.Delete(readName)
		}
		p.pin(stmt, i)
	}
}

// choice is an intent, or none.
type choice uint8

const (
	undecided choice = iota
	chooseMaster
	chooseSlave
)

func choose(i Intent) choice {
	if i == Slave {
		return chooseSlave
	}
	return chooseMaster
}

func (c choice) intent() Intent {
	if c == chooseSlave {
		return Slave
	}
	return Master
}

// WithMaster returns a context whose statements run on the master. The
// innermost of WithMaster and WithSlave counts; both win over what the request
// and its handler say.
//
// It works on any context, with or without [Plugin.Middleware]. Like
// [context.WithValue] it panics if ctx is nil.
func WithMaster(ctx context.Context) context.Context {
	s := scopeOf(ctx)
	s.explicit = chooseMaster
	return s.context(ctx)
}

// WithSlave returns a context whose reads run on a slave, even after the
// session has written; what is not provably a read still runs on the master.
// Otherwise it is like [WithMaster].
func WithSlave(ctx context.Context) context.Context {
	s := scopeOf(ctx)
	s.explicit = chooseSlave
	return s.context(ctx)
}

// WithMaxStaleness returns a context whose reads run on slaves only that are known to be at most d behind, otherwise
// on the master: also where the code asks for a slave. The innermost one counts. It asks for a closer watch on
// the slaves for some seconds, so that small values work, but for zero: that reads the master. Where lag is
// not known (see [ProbeConfig]), no slave is fresh enough.
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
		for _, g := range session.plugin.groups {
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

// UseMaster marks a handler: its queries run on the master, whatever the
// method. A handler that is marked both ways uses the master, whichever mark
// wraps the other.
//
// The mark travels in the request's context: it works inside and outside of
// [Plugin.Middleware], and for every plugin. A nil handler panics.
func UseMaster(next http.Handler) http.Handler { return mark(next, chooseMaster) }

// UseSlave marks a handler: its reads run on a slave, whatever the method and
// whether or not AutoReadOnSlave is on, until the session writes. Otherwise it
// is like [UseMaster].
func UseSlave(next http.Handler) http.Handler { return mark(next, chooseSlave) }

func mark(next http.Handler, c choice) http.Handler {
	mustHandler(next)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s := scopeOf(r.Context())
		if s.handler != chooseMaster {
			s.handler = c
		}
		next.ServeHTTP(w, r.WithContext(s.context(r.Context())))
	})
}

// mustHandler fails where the mistake is made, as http.Handle does, rather
// than in the first request.
func mustHandler(h http.Handler) {
	if h == nil {
		panic("replicated: nil handler")
	}
}
