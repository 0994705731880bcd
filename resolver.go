package replicated

import (
	"errors"
	"slices"
	"time"

	"gorm.io/gorm"

	"github.com/gorm-replicated/replicated/internal/cluster"
	"github.com/gorm-replicated/replicated/internal/sqlkind"
)

// nature is what routing needs to know of a statement.
type nature uint8

const (
	unknown      nature = iota // not provably anything: it may write
	reads                      // provably read-only
	catalog                    // reads the catalog
	locks                      // takes locks, and writes nothing
	stateful                   // depends on the state of one connection
	writes                     // writes
	begins                     // BEGIN of a transaction that may write
	serializable               // BEGIN of a transaction that standbys refuse
	firstOr                    // the read of FirstOrCreate or FirstOrInit
	followsWrite               // a read in a hook of a write
)

// mayWrite tells whether a statement counts as a write of its session.
func (n nature) mayWrite() bool { return n == writes || n == unknown }

var natures = [...]nature{
	sqlkind.Unknown:  unknown,
	sqlkind.Read:     reads,
	sqlkind.Catalog:  catalog,
	sqlkind.Locking:  locks,
	sqlkind.Stateful: stateful,
	sqlkind.Write:    writes,
}

// origin says where a statement comes from, as far as that bears on its route.
type origin uint8

const (
	direct      origin = iota // from the caller; also Begin right behind a clause
	ofWrite                   // a create, update or delete, with GORM's transaction around it
	ofBareWrite               // one without
	hasClause                 // a query that has a clause for a slave itself
	ofClause                  // what GORM derives from one that has: preloads, hooks
	inHook                    // in a hook of a create, update or delete
	ofFirstOr                 // FirstOrCreate, FirstOrInit
	ofLocking                 // clause.Locking, where the SQL may not show it
	ofMigrator                // the Migrator asks for a table's columns
)

// natureOf returns the nature of a statement whose SQL tells n.
func (o origin) natureOf(n nature) nature {
	if n != reads {
		return n
	}
	switch o {
	case ofWrite, ofBareWrite, inHook:
		return followsWrite
	case ofFirstOr:
		return firstOr
	case ofLocking:
		return locks
	case ofMigrator:
		return catalog
	}
	return n
}

// clauseFor returns which clause counts for a statement of nature n that came with c. A clause for a slave
// counts for SQL that is not provably a read only on that very statement, and for BEGIN only right behind
// the clause.
func (o origin) clauseFor(n nature, c choice) choice {
	if c == chooseSlave && (o == hasClause && n == begins || o == ofClause && n != reads) {
		return undecided
	}
	return c
}

// facts is everything that the rules of routing look at.
type facts struct {
	bound     bool   // to a transaction or a connection
	hasSlaves bool   // the group has slaves
	nature    nature // of the statement
	clause    choice // replicated.Master/Slave, dbresolver.Write/Read
	explicit  choice // WithMaster, WithSlave
	wrote     bool   // the session has written to this group
	handler   choice // UseMaster, UseSlave
	inRequest bool   // the context has the session of a request: not one of WithToken
	pattern   choice // Config.Routes
	method    choice // Config.ReadOnlyMethods
	auto      bool   // AutoReadOnSlave
	byDefault Intent // Config.DefaultIntent

	limited   bool          // WithMaxStaleness
	staleness time.Duration // if limited

	failed []*cluster.Server // have failed the statement
}

// resolve applies the rules of routing: the first that applies decides. docs/routing.md lists them by the
// same numbers.
func resolve(f *facts) (Intent, Reason) {
	switch {
	case f.bound: // 1
		return Master, ReasonBound
	case !f.hasSlaves: // 2
		return Master, ReasonNoSlaves
	case onMaster[f.nature] != 0: // 3
		return Master, onMaster[f.nature]
	case f.clause != undecided: // 4
		return f.clause.intent(), ReasonClause
	case f.nature == unknown: // 5
		return Master, ReasonUnknownSQL
	case f.nature == begins:
		return Master, ReasonTransaction
	case f.explicit != undecided: // 6
		return f.explicit.intent(), ReasonContext
	case f.wrote: // 7
		return Master, ReasonWrote
	case f.handler != undecided: // 8
		return f.handler.intent(), ReasonHandler
	case f.pattern != undecided: // 9
		return f.pattern.intent(), ReasonPattern
	case !f.auto: // the rest of 9, and 10
		return Master, ReasonSwitchedOff
	case f.inRequest:
		return f.method.intent(), ReasonMethod
	}
	return f.byDefault, ReasonDefault // 10
}

// onMaster is rule 3: what belongs on the master by its nature, and why.
var onMaster = [...]Reason{
	unknown:      0,
	reads:        0,
	catalog:      ReasonCatalog,
	locks:        ReasonLocking,
	stateful:     ReasonConnectionState,
	writes:       ReasonWrite,
	begins:       0,
	serializable: ReasonSerializable,
	firstOr:      ReasonFirstOr,
	followsWrite: ReasonFollowsWrite,
}

// meansMaster tells whether the rules send the statement to the master, as if there were slaves.
func (f facts) meansMaster() bool {
	f.hasSlaves = true
	intent, _ := resolve(&f)
	return intent == Master
}

// intended is what the code and the request ask for, whatever the statement is and whatever happened before:
// where a read would go.
func (f facts) intended() (Intent, Reason) {
	f.bound, f.hasSlaves, f.nature, f.wrote = false, true, reads, false
	return resolve(&f)
}

// asksForSlave tells whether code asks for a slave, by a clause, a context or a handler's mark, and not
// just the method or a pattern.
func (f facts) asksForSlave() bool {
	switch _, reason := f.intended(); reason {
	case ReasonClause, ReasonContext, ReasonHandler:
		return true
	}
	return false
}

// writesAgainstIntent tells whether Config.RejectWrites refuses the statement: it writes, or may well write,
// and the intent was to read.
func (f facts) writesAgainstIntent() bool {
	if !f.nature.mayWrite() || f.nature == unknown && f.clause == chooseSlave {
		return false // where there is a clause, the code vouches for this very statement
	}
	intent, _ := f.intended()
	return intent == Slave
}

// demands is what a slave has to meet for a statement.
type demands struct {
	token     *minPosition      // of the session; nil: none
	limited   bool              // WithMaxStaleness
	staleness time.Duration     // if limited
	now       time.Time         // zero if nothing depends on it: see setNow
	failed    []*cluster.Server // have failed the statement
}

// metBy tells whether the slave with this state meets all demands, MaxLag included.
func (d *demands) metBy(s *cluster.State) bool {
	return d.readable(s) && !slices.Contains(d.failed, s.Server) &&
		d.freshEnough(s) && d.token.metBy(s.Position, d.now)
}

func (d *demands) freshEnough(s *cluster.State) bool {
	return !d.limited || d.staleness > 0 && !s.FreshAsOf.IsZero() && s.Age(d.now) <= d.staleness
}

// readable tells whether a slave is within MaxLag, and what is known of it still holds.
func (d *demands) readable(s *cluster.State) bool { return s.Readable && s.Holds(d.now) }

// setNow sets now, if anything depends on it.
func (d *demands) setNow(v *cluster.View) {
	if d.limited || v.Recovering || !v.Until.IsZero() || d.token.timed() {
		d.now = time.Now()
	}
}

// candidates returns the slaves that will do for a statement whose intent is Slave, and their pools. Where
// the code asks for a slave, demands are dropped until one will: first the token's, then MaxLag, never
// WithMaxStaleness. If there is none all the same, missing is the reason.
func candidates(v *cluster.View, d *demands, asked bool) (
	servers []*cluster.Server, pools []gorm.ConnPool, missing Reason,
) {
	find := func(met func(*cluster.State) bool) bool {
		for i := range v.All {
			if s := &v.All[i]; s.Up && !slices.Contains(d.failed, s.Server) && met(s) {
				servers, pools = append(servers, s.Server), append(pools, s.Server.Pool)
			}
		}
		return len(servers) > 0
	}
	if find(d.metBy) {
		return servers, pools, 0
	}
	missing = ReasonLag
	if find(func(s *cluster.State) bool { return d.readable(s) && d.freshEnough(s) }) {
		missing = ReasonToken
	} else if slices.ContainsFunc(v.All, func(s cluster.State) bool { return d.readable(&s) }) {
		missing = ReasonStaleness
	}
	if asked && (len(servers) > 0 || find(d.freshEnough)) {
		return servers, pools, 0
	}
	return nil, nil, missing
}

// ErrWriteOnSlave is the error of a write that Config.RejectWrites refused, and of what writes or takes locks
// in a transaction that was begun on a slave. Nothing was executed.
var ErrWriteOnSlave = errors.New(
	"replicated: refused: it writes or takes a lock, and the intent is to read from a slave")
