package replicated

import (
	"context"
	"database/sql"
	"fmt"
	"slices"

	"github.com/gorm-replicated/replicated/internal/cluster"
)

// Observer is told about every routed statement.
type Observer interface {
	// Routed is called with the statement's context once its route is decided, before it runs, in the
	// goroutine that runs it: the statement waits. It is called concurrently.
	Routed(ctx context.Context, r Route)
}

// Route is the decision for one statement.
type Route struct {
	Group  string // "default", or the first name that was given to Register
	Server string // the server's ID; "" for a pool that is not the plugin's
	Intent Intent // whether that server is the master or a slave
	Reason Reason
}

// Reason says which rule decided a route.
type Reason uint8

// The reasons; docs/routing.md has the rule that each belongs to.
const (
	ReasonDefault         Reason = iota // no request: Config.DefaultIntent
	ReasonBound                         // bound to a transaction or a connection: left where it is
	ReasonNoSlaves                      // the group has no slaves
	ReasonWrite                         // it writes
	ReasonLocking                       // it locks rows
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
}

// String returns a short text, such as "method" or "session wrote", for logs
// and labels: it stays the same for a reason.
func (r Reason) String() string {
	if int(r) < len(reasons) {
		return reasons[r]
	}
	return fmt.Sprintf("Reason(%d)", uint8(r))
}

// Status is a snapshot of a plugin, in plain values.
type Status struct {
	AutoReadOnSlave bool
	// WithoutIntent counts the statements whose context said nothing about routing, such as
	// those of a handler that forgot db.WithContext(r.Context()). It counts while Config.DefaultIntent is Master.
	WithoutIntent uint64
	Groups        []GroupStatus // none before Initialize
}

// GroupStatus is a snapshot of a master, or several, with the slaves.
type GroupStatus struct {
	Name    string         // as in Route
	Servers []ServerStatus // masters first
}

// ServerStatus is a snapshot of one server.
type ServerStatus struct {
	ID   string
	Role Intent      // Master or Slave
	Pool sql.DBStats // zero if the pool is not a *sql.DB
	// Writable is true for a slave that said, when it first answered, that it takes writes: one that goes astray would
	// succeed there. It is asked if its pool was opened by the plugin, on MySQL, MariaDB and PostgreSQL.
	Writable bool
}

// Status returns a snapshot. It asks no server.
func (p *Plugin) Status() Status {
	s := Status{AutoReadOnSlave: p.auto.Load(), WithoutIntent: p.withoutIntent.Load()}
	if !p.initialized.Load() {
		return s
	}
	for _, g := range p.groups {
		var servers []ServerStatus
		for _, server := range slices.Concat(g.cluster.Masters, g.cluster.View().Slaves) {
			servers = append(servers, statusOf(server))
		}
		s.Groups = append(s.Groups, GroupStatus{Name: g.name, Servers: servers})
	}
	return s
}

func statusOf(s *cluster.Server) ServerStatus {
	status := ServerStatus{ID: s.ID, Role: roleOf(s), Writable: s.Writable()}
	if db, err := s.DB(); err == nil {
		status.Pool = db.Stats()
	}
	return status
}

func roleOf(s *cluster.Server) Intent {
	if s.Slave {
		return Slave
	}
	return Master
}
