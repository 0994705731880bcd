package replicated

import (
	"context"
	"fmt"
)

// Observer is told about every routed statement.
type Observer interface {
	// Routed is called with the statement's context once its route is decided, before it runs, in the
	// goroutine that runs it: the statement waits. If a slave fails it, it is called again, for the server on
	// which it runs next. It is called concurrently.
	Routed(ctx context.Context, r Route)
}

// Route is the decision for one statement.
type Route struct {
	Group  string // "default", or the first name that was given to Register
	Server string // the server's ID; "" for a pool that is not the plugin's
	Intent Intent // whether that server is the master or a slave
	Reason Reason
	// Shadow is true for what would have run on Server, but ran on the master: see [Plugin.SetShadow].
	Shadow bool
}

// Reason says which rule decided a route.
type Reason uint8

// The reasons; docs/routing.md has the rule that each belongs to.
const (
	ReasonDefault         Reason = iota // no request: Config.DefaultIntent
	ReasonBound                         // bound to a transaction or a connection: left where it is
	ReasonNoSlaves                      // the group has no slaves
	ReasonWrite                         // it writes
	ReasonLocking                       // it takes locks: of rows, or by name
	ReasonConnectionState               // it depends on the state of one connection
	ReasonCatalog                       // it reads the catalog, which migrations decide on
	ReasonSerializable                  // a serializable transaction, which standbys refuse
	ReasonFirstOr                       // FirstOrCreate or FirstOrInit, which decide on the newest state
	ReasonFollowsWrite                  // a read in a hook of a write
	ReasonClause                        // a clause on the statement
	ReasonUnknownSQL                    // its SQL is not provably read-only
	ReasonTransaction                   // a transaction that was not begun as read-only
	ReasonContext                       // WithMaster or WithSlave
	ReasonWrote                         // the session has written
	ReasonHandler                       // UseMaster or UseSlave
	ReasonPattern                       // Config.Routes
	ReasonMethod                        // the request's method
	ReasonSwitchedOff                   // AutoReadOnSlave is off
	ReasonRefused                       // a slave refused it as a write
	ReasonToken                         // no slave has what the session's token demands
	ReasonStaleness                     // no slave is as fresh as WithMaxStaleness demands
	ReasonLag                           // no slave answers and is within MaxLag
	ReasonFailover                      // the slave that it was on failed it
	ReasonRecovering                    // the only slave has just come back, and gets its load gradually
)

var reasons = [...]string{
	ReasonDefault:         "default intent",
	ReasonBound:           "bound",
	ReasonNoSlaves:        "no slaves",
	ReasonWrite:           "write",
	ReasonLocking:         "locking read",
	ReasonConnectionState: "connection state",
	ReasonCatalog:         "catalog",
	ReasonSerializable:    "serializable",
	ReasonFirstOr:         "first or create",
	ReasonFollowsWrite:    "follows a write",
	ReasonClause:          "clause",
	ReasonUnknownSQL:      "unknown SQL",
	ReasonTransaction:     "transaction",
	ReasonContext:         "context",
	ReasonWrote:           "session wrote",
	ReasonHandler:         "handler",
	ReasonPattern:         "route pattern",
	ReasonMethod:          "method",
	ReasonSwitchedOff:     "switched off",
	ReasonRefused:         "refused by a slave",
	ReasonToken:           "no slave covers the token",
	ReasonStaleness:       "no slave is fresh enough",
	ReasonLag:             "no slave within MaxLag",
	ReasonFailover:        "failover",
	ReasonRecovering:      "recovering",
}

// String returns a short text, such as "method" or "session wrote", for logs and labels: it stays the same
// for a reason.
func (r Reason) String() string {
	if int(r) < len(reasons) {
		return reasons[r]
	}
	return fmt.Sprintf("Reason(%d)", uint8(r))
}
