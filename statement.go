package replicated

import (
	"context"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/gorm-replicated/replicated/internal/cluster"
	"github.com/gorm-replicated/replicated/internal/sqlkind"
	"gorm.io/gorm"
)

// statement is one statement on its way: what bears on its route, and what has failed it.
type statement struct {
	facts
	strange bool            // it calls a function of which nobody knows whether it writes
	tables  *sqlkind.Tables // that have been registered; nil for a transaction

	router *router
	group  *group
	memory *memory         // what the session remembers of the group; nil without a session
	now    time.Duration   // by cluster.Now, when the slaves were looked at; 0: not yet, or too long ago
	on     *cluster.Server // the only master that will do; nil: any
	query  string
	built  bool // GORM built the SQL, in a dialect that cannot be judged

	prepared   bool // it runs through the servers' prepared statements
	unprepared bool // but not this time

	original string          // the query as it came, if anotherText has changed it; else ""
	broke    bool            // a connection has ended under it
	repeatOn *cluster.Server // failed it, and serves: if no other slave will do, it runs there once more
	final    error           // if set, it must not run on the master: it ends with this error instead
	retries  int             // how often it was tried again on the same server
}

// destination is where a statement runs, and why.
type destination struct {
	server   *cluster.Server
	intent   Intent
	reason   Reason
	fallback bool // it is the master because there was no slave
	spared   bool // there was one, too cold yet to get all reads
}

// decide asks the rules, picks the server, remembers a write, and tells the Observer. It does not run the
// statement.
func (st *statement) decide(ctx context.Context) (to destination, err error) {
	rt, g := st.router, st.group
	if g.err != nil {
		return to, g.err
	}
	var session *session
	session, st.memory = rt.fill(ctx, g, &st.facts)
	if !st.wrote && len(rt.groups) > 1 {
		st.wrote = rt.wrote(ctx, g, st.tables)
	}
	switch {
	case st.nature.mayWrite():
		if rt.rejectsWrite(&st.facts) {
			return to, ErrWriteOnSlave
		}
		rt.remember(ctx, st.judgement(), g)
	case st.strange && st.meansMaster():
		rt.remember(ctx, st.judgement(), g)
	}
	view := g.cluster.View()
	st.hasSlaves = len(view.All) > 0
	if to.intent, to.reason = resolve(&st.facts); to.intent == Slave {
		st.slaveOrMaster(ctx, &to, session, view)
	}
	if to.intent == Master {
		to.server = st.master(st.memory)
	}
	decided := to.server
	if rt.shadow.Load() {
		if to.fallback, to.spared = false, false; to.intent == Slave {
			to.server.Shadowed.Add(1)
			to.server = st.master(st.memory)
		}
	}
	if st.final != nil && !to.server.Slave && !st.leftMeanwhile(view) {
		return to, st.final
	}
	if rt.observer != nil {
		rt.observer.Routed(ctx, Route{
			Group: g.name, Server: decided.ID, Intent: to.intent, Reason: to.reason, Shadow: decided != to.server,
		})
	}
	return to, nil
}

// leftMeanwhile tells whether the slave that was to run the statement once more has turned out not to
// serve: others have asked it as well. Then the end of the connection was its doing, and not the
// statement's.
func (st *statement) leftMeanwhile(view *cluster.View) bool {
	if st.repeatOn == nil {
		return false
	}
	state := view.Of(st.repeatOn)
	return state == nil || !state.Up
}

// judgement is what the SQL has told, and where the statement comes from.
func (st *statement) judgement() judgement { return judgement{st.nature, st.strange, st.tables} }

func (st *statement) master(m *memory) *cluster.Server {
	if st.on != nil {
		return st.on
	}
	return st.group.master(m)
}

// slaveOrMaster sets the slave on which a statement runs whose intent is Slave, or the master and the reason.
func (st *statement) slaveOrMaster(
	ctx context.Context, to *destination, session *session, view *cluster.View,
) {
	var missing Reason
	to.server, missing = st.slave(ctx, session, view)
	if to.server == nil && st.repeatOn != nil {
		failed := st.failed
		st.failed = slices.DeleteFunc(slices.Clone(failed), func(s *cluster.Server) bool {
			return s == st.repeatOn
		})
		if to.server, missing = st.slave(ctx, session, view); to.server == st.repeatOn {
			to.server.DropIdle() // its other connections may have ended, too
		}
		st.failed = failed
	}
	if to.server == nil {
		to.intent, to.reason = Master, missing
		to.fallback = missing != ReasonToken && missing != ReasonStaleness
		to.spared = missing == ReasonRecovering
	}
	if st.failed != nil {
		to.fallback, to.reason = to.intent == Master, ReasonFailover
	}
}

// slave picks the slave for a statement. If none will do, it returns nil and the reason.
func (st *statement) slave(
	ctx context.Context, session *session, view *cluster.View,
) (*cluster.Server, Reason) {
	g := st.group
	st.now = cluster.Now()
	kept, token := st.memory.currentSlave(st.now), session.minPositionOn(g, st.tables)
	if slave := st.atOnce(view, kept, token); slave != nil {
		return slave, 0
	}
	st.now = 0
	g.cluster.Used()
	if st.limited && st.staleness > 0 {
		g.cluster.Want(st.staleness)
	}
	for {
		d := demands{token: token, limited: st.limited, staleness: st.staleness, failed: st.failed}
		d.setNow(view)
		slave, missing := st.among(view, &d, kept)
		if slave != nil || missing == ReasonRecovering {
			return slave, missing
		}
		g.hurry(&d, missing)
		if missing != ReasonToken || st.router.shadow.Load() || !session.await(ctx, g, token, view) {
			return nil, missing
		}
		view = g.cluster.View()
	}
}

// atOnce returns the session's own slave, if nothing has changed since it was picked, or any readable one,
// if the statement demands nothing of it. It returns nil if the slaves have to be looked at more closely.
func (st *statement) atOnce(
	view *cluster.View, kept *cluster.Server, token *minPosition,
) *cluster.Server {
	g := st.group
	switch {
	case st.limited, len(st.failed) > 0:
		return nil
	case kept != nil && (token == nil || token.met.Load() == kept.State()):
		if !kept.NoteUse() {
			g.cluster.Used()
		}
		return kept
	case token == nil && len(view.Slaves) > 0 && !view.Recovering && view.Holds(time.Now()):
		g.cluster.Used()
		return st.memory.stickTo(g.choose(view.Slaves, view.Pools))
	}
	return nil
}

// hurry has the servers asked sooner, if an answer could bring a slave that will do.
func (g *group) hurry(d *demands, missing Reason) {
	switch missing {
	case ReasonToken:
		if !d.now.Before(d.token.until) { // before that the token says: the master. An answer changes nothing
			g.cluster.Hurry()
		}
	case ReasonStaleness:
		if d.staleness > 0 {
			g.cluster.Hurry()
		}
	case ReasonLag:
		g.cluster.Lapse(d.now)
	}
}

// among picks a slave of the view that meets the demands: the session's own, which is kept, if it does.
func (st *statement) among(
	view *cluster.View, d *demands, kept *cluster.Server,
) (*cluster.Server, Reason) {
	if s := view.Of(kept); s != nil && d.metBy(s) {
		if d.token != nil {
			d.token.met.Store(s)
		}
		return kept, 0
	}
	insists := st.asksForSlave()
	fit, pools, missing := candidates(view, d, insists)
	if len(fit) > 0 && view.Recovering {
		var spare bool
		if fit, pools, spare = st.group.takingPart(view, fit, pools, d.now, insists || len(d.failed) > 0); spare {
			return nil, ReasonRecovering
		}
	}
	if len(fit) > 0 {
		return st.memory.switchTo(st.group.choose(fit, pools)), 0
	}
	return nil, missing
}

// takingPart returns those slaves that take part this time. One that has just come back takes only a part
// of the reads, by chance. If chance leaves none, spare says that the master takes the read, which it
// served until now: unless it is not up or busy, or somebody insists on a slave.
func (g *group) takingPart(
	view *cluster.View, servers []*cluster.Server, pools []gorm.ConnPool, now time.Time, insists bool,
) (_ []*cluster.Server, _ []gorm.ConnPool, spare bool) {
	var present []*cluster.Server
	var theirs []gorm.ConnPool
	for i, s := range servers {
		if share := s.Share(now); share >= 1 || rand.Float64() < share {
			present, theirs = append(present, s), append(theirs, pools[i])
		}
	}
	switch {
	case len(present) > 0:
		return present, theirs, false
	case insists, g.busy(),
		slices.ContainsFunc(servers, func(s *cluster.Server) bool { return !s.CameBackAlone() }),
		slices.ContainsFunc(view.Masters, func(m cluster.State) bool { return !m.Up }):
		return servers, pools, false
	}
	return nil, nil, true
}
