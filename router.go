package replicated

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"gorm.io/gorm"

	"github.com/gorm-replicated/replicated/internal/cluster"
	"github.com/gorm-replicated/replicated/internal/logqueue"
	"github.com/gorm-replicated/replicated/internal/sqlkind"
	"github.com/gorm-replicated/replicated/internal/token"
)

// router is what all of the plugin looks at: the settings, the groups, the switches and what is counted.
// [Plugin] is a door to it.
type router struct {
	// Every statement looks at these. They stand together: in a real program they come from memory, not from the
	// nearest cache. But for the atomics they are immutable after Initialize.
	auto         atomic.Bool // AutoReadOnSlave
	shadow       atomic.Bool // SetShadow
	wrapped      atomic.Bool // a pool of another plugin was seen around one of ours
	initialized  atomic.Bool // db.Use has succeeded
	rejectWrites bool        // Config.RejectWrites
	locksShow    bool        // clause.Locking shows in the SQL: SQLite's dialector leaves it out
	byDefault    Intent      // Config.DefaultIntent
	dialect      sqlkind.Dialect
	kinds        atomic.Pointer[sqlkind.Cache]
	byName       atomic.Pointer[index] // what was registered, to its groups; nil while there is one group
	timeout      time.Duration         // Failover.SlaveTimeout
	base         time.Time             // now counts from here
	observer     Observer
	groups       []*group // the global one first

	// These are immutable after Initialize, too.
	config      Config // its Logger is that of log
	dialectName string
	ownPool     gorm.ConnPool   // of sessions made before db.Use; nil if it cannot be recognised
	ownServer   *cluster.Server // of the connection of the *gorm.DB
	callbacks   any             // of the *gorm.DB
	routes      *matcher
	sealer      *token.Sealer // nil without Secrets
	probes      bool          // the configuration asks for it, see ProbeConfig
	log         *logqueue.Queue
	notices     *slog.Logger // of the monitor, which waits for nobody
	parse       func(model any) (table string, err error)
	admit       func(ctx context.Context, conn any, query string) error // see router.admitPrepared

	initializing sync.Mutex     // held by what changes the groups: Initialize, Register, SetSlaves
	registered   []registration // until Initialize
	givesCookies atomic.Bool    // some group does
	policies     sync.Mutex     // held while any policy is asked: see group

	// What is counted, and what was said once.
	tokens        tokens
	withoutIntent atomic.Uint64
	replans       atomic.Uint64 // see anotherText
	unregistered  nameSet       // in dbresolver.Use, that nobody registered
	saidUndone    sync.Once
	saidWrapped   sync.Once
	saidSharding  sync.Once
}

// tokens counts what happened to tokens.
type tokens struct {
	issued, accepted, expired, future, forged, otherHistory, unread, timeOnly, late atomic.Uint64

	saidTimeOnly, saidLate, saidMarker, saidClash sync.Once
}

// noteTimeOnly tells that a token carries a time instead of a position.
func (rt *router) noteTimeOnly(group, reason string) {
	rt.tokens.timeOnly.Add(1)
	rt.tokens.saidTimeOnly.Do(func() {
		rt.config.Logger.Warn("replicated: a token carries a time instead of a position: its client reads the "+
			"master for Token.Window, and stale data from a slave that is further behind",
			"group", group, "reason", reason, "window", rt.config.Token.Window)
	})
}

// noteLate tells of a write, or a token, that the response's own token cannot tell of.
func (rt *router) noteLate() {
	rt.tokens.late.Add(1)
	rt.tokens.saidLate.Do(func() {
		rt.config.Logger.Warn("replicated: a handler wrote to the database, or to another service, after the " +
			"first byte of its response: the client's next request may not see it; " +
			"write first, then answer (counted in Status)")
	})
}

// index returns nil while there is only the global group.
func (rt *router) index() index {
	if x := rt.byName.Load(); x != nil {
		return *x
	}
	return nil
}

// now is a time that costs half of what time.Now does.
func (rt *router) now() time.Duration { return time.Since(rt.base) }

// nameSet remembers names, but no more than mostNames: they may come with a request.
type nameSet struct {
	mu    sync.Mutex
	known map[string]bool
}

const mostNames = 16

// add reports whether the name is new, and remembered from now on.
func (n *nameSet) add(name string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.known[name] || len(n.known) == mostNames {
		return false
	}
	if n.known == nil {
		n.known = make(map[string]bool)
	}
	n.known[strings.Clone(name)] = true
	return true
}
