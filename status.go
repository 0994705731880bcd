package replicated

import (
	"cmp"
	"database/sql"
	"encoding/json"
	"net/http"
	"time"

	"github.com/gorm-replicated/replicated/internal/cluster"
	"github.com/gorm-replicated/replicated/internal/position"
)

// Status is a snapshot of a plugin, in plain values.
type Status struct {
	AutoReadOnSlave bool
	Shadow          bool // see [Plugin.SetShadow]
	// WithoutIntent counts the statements whose context said nothing about routing, such as those of a handler
	// that forgot db.WithContext(r.Context()). It counts while Config.DefaultIntent is Master.
	WithoutIntent uint64
	Tokens        TokenStatus
	Groups        []GroupStatus // the global one first; none before Initialize
}

// GroupStatus is a snapshot of a master, or several, with the slaves.
type GroupStatus struct {
	Name    string // as in Route
	MaxLag  time.Duration
	Servers []ServerStatus // masters first
	// OnMaster is how many reads run on the master now for want of a slave, counted while Failover.MaxOnMaster
	// is set.
	OnMaster int
}

// TokenStatus counts what has happened to tokens since [New].
type TokenStatus struct {
	Issued   uint64 // responses that brought one
	Accepted uint64 // that a request or another session brought
	Expired  uint64 // older than Token.TTL
	Future   uint64 // by more than a minute: the clocks of two instances differ
	Forged   uint64 // none of ours: changed, invented, of other Secrets or of another Cookie's name
	// OtherHistory counts those accepted tokens that hold a history which no group here is on, as far as is
	// known: their sessions read the master.
	OtherHistory uint64
	// Unread counts the tokens that were not looked at, because they are too many in one request, too long,
	// or of a version that is not known here: their sessions read the master.
	Unread   uint64
	TimeOnly uint64 // times that stand for a position which could not be had
	// LateWrites counts the statements that wrote, and the tokens that Transport brought, after the first byte
	// of their response, whose token cannot tell of them.
	LateWrites uint64
}

// ServerStatus is a snapshot of one server.
type ServerStatus struct {
	ID   string
	Role Intent      // Master or Slave
	Pool sql.DBStats // zero if the pool is not a *sql.DB
	// Serving tells whether reads may go there: always to a master, to a slave that answers and is within
	// MaxLag. Reason says why they may not, why there is no position, or that a master does not answer.
	Serving bool
	Reason  string
	// Lag is how far a slave is behind at most, if LagKnown. While the master does not answer it stands still.
	Lag      time.Duration
	LagKnown bool
	// Position is the latest that is known, as the server writes it.
	Position string
	// Latency is how long reads on a slave take lately until their first row, with [LeastLatency].
	Latency time.Duration
	// Shadowed counts the statements that would have run on a slave but for SetShadow.
	Shadowed uint64
	// Writable is true for a slave that says that it takes writes: one that goes astray would succeed there.
	Writable bool
}

// Status returns a snapshot. It asks no server.
func (p *Plugin) Status() Status {
	t := &p.tokens
	s := Status{
		AutoReadOnSlave: p.auto.Load(), Shadow: p.shadow.Load(), WithoutIntent: p.withoutIntent.Load(),
		Tokens: TokenStatus{
			t.issued.Load(), t.accepted.Load(), t.expired.Load(), t.future.Load(), t.forged.Load(),
			t.otherHistory.Load(), t.unread.Load(), t.timeOnly.Load(), t.late.Load(),
		},
	}
	if !p.initialized.Load() {
		return s
	}
	for _, g := range p.groups {
		status := GroupStatus{Name: g.name, MaxLag: g.maxLag, OnMaster: int(g.onMaster.Load())}
		view, now := g.cluster.View(), time.Now()
		for i, master := range g.cluster.Masters {
			server := statusOf(master)
			if i < len(view.Masters) {
				server.Reason, server.Position = view.Masters[i].Reason, text(view.Masters[i].Position)
			}
			status.Servers = append(status.Servers, server)
		}
		for _, slave := range view.All {
			server := statusOf(slave.Server)
			server.Latency, server.Shadowed = slave.Server.Load.Latency(), slave.Server.Shadowed.Load()
			server.Serving, server.Reason = slave.Readable, cmp.Or(slave.Reason, g.unwatched)
			if server.Serving && !slave.Holds(now) {
				server.Serving, server.Reason = false, "what is known of it is too old: the monitor is late"
			}
			server.Lag, server.LagKnown = slave.Lag(now)
			server.Position = text(slave.Position)
			status.Servers = append(status.Servers, server)
		}
		s.Groups = append(s.Groups, status)
	}
	return s
}

// StatusHandler serves [Status] as JSON, with durations in nanoseconds. It shows the servers' names and
// positions, so it is for operators only.
func (p *Plugin) StatusHandler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Cache-Control", "no-store")
		_ = json.NewEncoder(w).Encode(p.Status()) // plain values; the client may be gone
	})
}

func text(p position.Position) string {
	if !p.Known() {
		return ""
	}
	return p.String()
}

func statusOf(s *cluster.Server) ServerStatus {
	status := ServerStatus{ID: s.ID, Role: roleOf(s), Serving: !s.Slave, Writable: s.Writable()}
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
