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

// question is everything that the rules of routing look at.
type question struct {
	bound     bool   // to a transaction or a connection
	hasSlaves bool   // the group has slaves
	nature    nature // of the statement
	clause    choice // replicated.Master/Slave, dbresolver.Write/Read
	explicit  choice // WithMaster, WithSlave
	wrote     bool   // the session has written to this group
	handler   choice // UseMaster, UseSlave
	inRequest bool   // the context has a session
	pattern   choice // Config.Routes
	method    choice // Config.ReadOnlyMethods
	auto      bool   // AutoReadOnSlave
	fallback  Intent // Config.DefaultIntent

	limited   bool          // WithMaxStaleness
	staleness time.Duration // if limited

	failed []*cluster.Server // have failed the statement
}

// resolve applies the rules of routing: the first that applies decides.
// docs/routing.md lists them by the same numbers.
func resolve(q *question) (Intent, Reason) {
	if q.bound { // 1
		return Master, ReasonBound
	}
	if !q.hasSlaves { // 2
		return Master, ReasonNoSlaves
	}
	switch q.nature { // 3
	case writes:
		return Master, ReasonWrite
	case locks:
		return Master, ReasonLocking
	case catalog:
		return Master, ReasonCatalog
	case stateful:
		return Master, ReasonConnectionState
	case serializable:
		return Master, ReasonSerializable
	case firstOr:
		return Master, ReasonFirstOr
	case followsWrite:
		return Master, ReasonFollowsWrite
	}
	if q.clause != undecided { // 4
		return q.clause.intent(), ReasonClause
	}
	switch q.nature { // 5
	case unknown:
		return Master, ReasonUnknownSQL
	case begins:
		return Master, ReasonTransaction
	}
	intent, reason := intended(q)
	if q.wrote && reason != ReasonContext { // 7 comes after 6 and before the rest
		return Master, ReasonWrote
	}
	return intent, reason
}

// meansMaster tells whether the rules say that the statement runs on the master, also where there are slaves.
func (q question) meansMaster() bool {
	q.hasSlaves = true
	intent, _ := resolve(&q)
	return intent == Master
}

// intended is what the code and the request ask for, whatever the statement
// is and whatever happened before: rules 4, 6, 8, 9 and 10.
func intended(q *question) (Intent, Reason) {
	switch {
	case q.clause != undecided: // 4
		return q.clause.intent(), ReasonClause
	case q.explicit != undecided: // 6
		return q.explicit.intent(), ReasonContext
	case q.handler != undecided: // 8
		return q.handler.intent(), ReasonHandler
	case q.pattern != undecided: // 9
		return q.pattern.intent(), ReasonPattern
	case !q.auto: // the rest of 9, and 10
		return Master, ReasonSwitchedOff
	case q.inRequest:
		return q.method.intent(), ReasonMethod
	}
	return q.fallback, ReasonDefault // 10
}

// asked tells whether the code asks for a slave.
func asked(q *question) bool {
	switch _, reason := intended(q); reason {
	case ReasonClause, ReasonContext, ReasonHandler:
		return true
	}
	return false
}

// demands is what a slave has to meet for a statement.
type demands struct {
	token     *demand           // of the session; nil: none
	limited   bool              // WithMaxStaleness
	staleness time.Duration     // if limited
	now       time.Time         // zero if nothing depends on it: see demands.tellTime
	failed    []*cluster.Server // have failed the statement
}

// metBy tells whether the slave with this state meets all demands, MaxLag included.
func (d *demands) metBy(v *cluster.View, s *cluster.State) bool {
	return d.within(v, s) && !slices.Contains(d.failed, s.Server) &&
		d.freshEnough(s) && d.token.metBy(s.Position, d.now)
}

func (d *demands) freshEnough(s *cluster.State) bool {
	return !d.limited || d.staleness > 0 && !s.FreshAsOf.IsZero() && s.Age(d.now) <= d.staleness
}

// within tells whether a slave is within MaxLag, as far as is still known.
func (d *demands) within(v *cluster.View, s *cluster.State) bool {
	return slices.Contains(v.Slaves, s.Server) && s.Holds(d.now)
}

// tellTime asks for the time, if anything depends on it.
func (d *demands) tellTime(v *cluster.View) {
	if d.limited || v.Recovering || !v.Until.IsZero() || d.token.timed() {
		d.now = time.Now()
	}
}

// candidates returns the slaves that will do for a statement whose intent is Slave, and their pools. Where
// the code asks for a slave, demands are dropped until one will: first the token's, then MaxLag, never WithMaxStaleness. If there is
// none all the same, the reason says what there is no slave for.
func candidates(v *cluster.View, d *demands, asked bool) (servers []*cluster.Server, pools []gorm.ConnPool, missing Reason) {
	find := func(met func(*cluster.State) bool) bool {
		for i := range v.All {
			if s := &v.All[i]; s.Up && !slices.Contains(d.failed, s.Server) && met(s) {
				servers, pools = append(servers, s.Server), append(pools, s.Server.Pool)
			}
		}
		return len(servers) > 0
	}
	if find(func(s *cluster.State) bool { return d.metBy(v, s) }) {
		return servers, pools, 0
	}
	missing = ReasonLag
	if find(func(s *cluster.State) bool { return d.within(v, s) && d.freshEnough(s) }) {
		missing = ReasonToken
	} else if slices.ContainsFunc(v.All, func(s cluster.State) bool { return d.within(v, &s) }) {
		missing = ReasonStaleness
	}
	if asked && (len(servers) > 0 || find(d.freshEnough)) {
		return servers, pools, 0
	}
	return nil, nil, missing
}

// refuses tells whether Config.RejectWrites refuses the statement: it writes,
// or may well write, and the intent was to read.
func refuses(q *question) bool {
	if !q.nature.mayWrite() {
		return false
	}
	if q.nature == unknown && q.clause == chooseSlave {
		return false // the code vouches for this very statement
	}
	intent, _ := intended(q)
	return intent == Slave
}

// ErrWriteOnSlave is the error of a write that Config.RejectWrites refused, and of what writes or takes locks
// in a transaction that was begun on a slave. Nothing was executed.
var ErrWriteOnSlave = errors.New("replicated: refused: it writes or takes a lock, and the intent is to read from a slave")
