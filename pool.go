package replicated

import (
	"cmp"
	"context"
	"database/sql"
	"reflect"
	"slices"
	"sync/atomic"
	"time"

	"gorm.io/gorm"

	"github.com/gorm-replicated/replicated/internal/cluster"
	"github.com/gorm-replicated/replicated/internal/sqlkind"
)

// pin is what is settled for a statement before its SQL is known, and for
// what GORM derives from it.
type pin uint8

const (
	noPin        pin = iota
	masterPin        // a clause asks for the master
	slavePin         // a clause asks for a slave
	vouchedPin       // the statement that has that clause
	inheritedPin     // what GORM derives from it
	writePin         // a create, update or delete
	barePin          // one without GORM's transaction around it
	followsPin       // in a hook of one
	firstOrPin       // FirstOrCreate, FirstOrInit
	lockingPin       // clause.Locking, where the SQL may not show it
	catalogPin       // the Migrator asks for a table's columns
	pins         = iota
)

func pinOf(c choice) pin {
	switch c {
	case chooseMaster:
		return masterPin
	case chooseSlave:
		return slavePin
	}
	return noPin
}

// next returns the pin of a query that came with p.
func (p pin) next(stmt *gorm.Statement) pin {
	switch p {
	case slavePin, vouchedPin, inheritedPin:
		if clauseOf(stmt) == chooseSlave {
			return vouchedPin
		}
		return inheritedPin
	case writePin, barePin:
		return followsPin
	}
	return p
}

// clause is the clause that holds for a statement of the given nature. Only a
// clause of its own vouches for SQL that is not provably a read; only Begin directly behind one puts a transaction
// that may write on a slave.
func (p pin) clause(n nature) choice {
	switch p {
	case masterPin:
		return chooseMaster
	case slavePin:
		return chooseSlave
	case vouchedPin:
		if n != begins {
			return chooseSlave
		}
	case inheritedPin:
		if n == reads {
			return chooseSlave
		}
	}
	return undecided
}

// pool is the gorm.ConnPool of a routed statement. It sees the final SQL and
// decides then. The pool of the *gorm.DB itself is one too: that is how Begin, for which GORM runs
// no callback, is routed.
type pool struct {
	router   *router
	observer Observer                      // the plugin's
	short    atomic.Pointer[sqlkind.Cache] // what usual asks; nil: it is never the usual way, as with every pin
	group    *group
	pin      pin
	prepared bool // through the servers' prepared statements
	built    bool // GORM built the SQL, in a dialect that cannot be judged

	bare bool // nothing watches reads on slaves, or measures them

	on *cluster.Server // the master to use, if not any
}

var (
	_ gorm.ConnPool         = (*pool)(nil)
	_ gorm.ConnPoolBeginner = (*pool)(nil)
	_ gorm.GetDBConnector   = (*pool)(nil)
)

// GetDBConn returns the master's *sql.DB: it is what db.DB() calls.
func (c *pool) GetDBConn() (*sql.DB, error) { return c.first().DB() }

// first is the master for what no context tells the session of.
func (c *pool) first() *cluster.Server { return cmp.Or(c.on, c.group.cluster.Masters[0]) }

func (c *pool) master(m *memory) *cluster.Server {
	if c.on != nil {
		return c.on
	}
	return c.group.master(m)
}

// follow returns the group of a statement that came with c, and the master that it has to use, if any: g, or if that
// is nil the global group.
func (c *pool) follow(g *group) (*group, *cluster.Server) {
	g = c.router.orGlobal(g)
	if g != c.group {
		return g, nil
	}
	return g, c.on
}

// PrepareContext prepares on the first master of its own group: a statement outlives the request, so
// it cannot follow its intent, and GORM keeps it with others of that server. What may write counts as written.
func (c *pool) PrepareContext(ctx context.Context, query string) (*sql.Stmt, error) {
	c = c.chosen(ctx)
	if err := c.admit(ctx, query); err != nil {
		return nil, err
	}
	return c.first().Pool.PrepareContext(ctx, query)
}

// admit judges a statement that runs on the first master of c's own group.
func (c *pool) admit(ctx context.Context, query string) error {
	j := c.router.judge(query, c.built)
	if c.group.err != nil {
		return c.group.err
	}
	q := question{nature: j.nature, clause: c.pin.clause(j.nature)}
	c.router.ask(ctx, c.group, &q)
	if c.router.refuses(&q) {
		return ErrWriteOnSlave
	}
	if j.mayWriteOnMaster() {
		c.router.mark(ctx, j, c.group)
	}
	return nil
}

func (c *pool) ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error) {
	if c = c.chosen(ctx); c.built {
		c = c.group.poolOn(c.on, c.pin, c.prepared, false) // GORM executes no query that it built
	}
	r := run{pool: c, query: query}
	if err := r.route(ctx, args); err != nil {
		return nil, err
	}
	for {
		at, within, err := r.begin(ctx)
		if err != nil {
			return nil, err
		}
		result, err := at.ExecContext(within, r.query, args...)
		if err = r.ended(err); err == nil {
			r.done()
			return result, nil
		}
		if err = r.instead(ctx, err); err != nil {
			return nil, err
		}
	}
}

func (c *pool) QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	slave := c.usual(ctx, query)
	if slave == nil || !c.bare {
		return c.query(ctx, query, args, slave, nil)
	}
	rows, err := c.at(slave).QueryContext(ctx, query, args...)
	if err != nil {
		return c.query(ctx, query, args, slave, err)
	}
	return rows, nil
}

// query is QueryContext for a read that slave is to serve, or has failed with answer; and for all others.
func (c *pool) query(ctx context.Context, query string, args []any, slave *cluster.Server, answer error) (*sql.Rows, error) {
	r := run{pool: c.chosen(ctx), query: query}
	if err := r.enter(ctx, args, slave, answer); err != nil {
		return nil, err
	}
	for {
		at, within, err := r.begin(ctx)
		if err != nil {
			return nil, err
		}
		rows, err := at.QueryContext(within, r.query, args...)
		failed := r.ended(err)
		if failed == nil {
			r.finish()
			return rows, nil
		}
		if err == nil { // it was cancelled at the last moment
			_ = rows.Close()
		}
		if err = r.instead(ctx, failed); err != nil {
			return nil, err
		}
	}
}

func (c *pool) QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row {
	r := run{pool: c.chosen(ctx), query: query}
	if err := r.enter(ctx, args, c.usual(ctx, query), nil); err != nil {
		return errorRow(err)
	}
	for {
		at, within, err := r.begin(ctx)
		if err != nil {
			return errorRow(err)
		}
		row := at.QueryRowContext(within, r.query, args...)
		if *row == (sql.Row{}) {
			// GORM's answer to a statement that could not be prepared: its Err is nil and its Scan panics.
			// Unprepared, the server says what is wrong.
			row = r.server.Pool.QueryRowContext(within, r.query, args...)
		}
		err = row.Err()
		failed := r.ended(err)
		if failed == nil {
			r.finish()
			return row
		}
		if err == nil { // it was cancelled at the last moment
			_ = row.Scan()
		}
		if err := r.instead(ctx, failed); err == failed {
			return row
		} else if err != nil {
			return errorRow(err)
		}
	}
}

// BeginTx begins a transaction: on a slave if it is read-only and the intent
// is Slave, or if a clause asks for it; otherwise on the master.
func (c *pool) BeginTx(ctx context.Context, opts *sql.TxOptions) (gorm.ConnPool, error) {
	c = c.chosen(ctx)
	r := run{pool: c, server: c.first(), plain: true}
	if c.pin != writePin { // that is GORM's own transaction around a write
		r.nature = c.natureOfBegin(opts)
		if err := r.decide(ctx); err != nil {
			return (*sql.Tx)(nil), err
		}
	}
	conn, err := r.beginTx(ctx, opts)
	if err != nil {
		// As GORM has it without the plugin, so that a Rollback adds no second error.
		return (*sql.Tx)(nil), err
	}
	server := r.server
	if !server.Slave && !c.prepared {
		return conn, nil
	}
	tx, ok := conn.(gorm.Tx)
	if !ok { // it cannot be wrapped
		if committer, ok := conn.(gorm.TxCommitter); ok {
			if err := committer.Rollback(); err != nil {
				return (*sql.Tx)(nil), err
			}
		}
		return (*sql.Tx)(nil), gorm.ErrInvalidTransaction // GORM compares, and goes on without one around a single write
	}
	switch {
	case server.Slave:
	case c.pin == writePin: // what GORM runs in it was judged before
		return &gorm.PreparedStmtTX{Tx: tx, PreparedStmtDB: server.Prepared()}, nil
	default:
		return &gorm.PreparedStmtTX{Tx: tx, PreparedStmtDB: c.router.judged(server, server.Pool)}, nil
	}
	onSlave := &slaveTx{Tx: tx, group: c.group, router: c.router, server: server}
	if c.prepared {
		return onSlave.withStatements(), nil
	}
	return onSlave, nil
}

func (c *pool) natureOfBegin(opts *sql.TxOptions) nature {
	switch {
	case opts != nil && opts.Isolation >= sql.LevelSerializable:
		return serializable
	case opts == nil || !opts.ReadOnly:
		return begins
	case c.pin == followsPin || c.pin == barePin:
		return followsWrite
	}
	return reads
}

// usual returns the slave for most reads, by the shortest way: those of a request that only reads, and reads from a slave already which meets what its token
// demands, as far as that was seen before.
// It is nil for all that decide has to look at. Where it is not, decide would find the same: the test of it asks both.
func (c *pool) usual(ctx context.Context, query string) *cluster.Server {
	kinds := c.short.Load()
	if kinds == nil {
		return nil
	}
	scope := lookup(ctx)
	if scope == nil || scope.explicit|scope.handler != undecided || scope.limited {
		return nil
	}
	session := scope.sessions
	if session == nil || session.router != c.router || session.reads == 0 {
		return nil
	}
	m := session.memory
	slave := m.slave.Load()
	if slave == nil || m.wrote.Load() || !slave.Fits() {
		return nil
	}
	if token := m.demand.Load(); token != nil && token.met.Load() != slave.State() {
		return nil
	}
	if kinds.Look(query).Kind != sqlkind.Read {
		return nil
	}
	if !slave.Mark() {
		c.group.cluster.Used()
	}
	if c.observer != nil {
		c.observer.Routed(ctx, Route{Group: c.group.name, Server: slave.ID, Intent: Slave, Reason: session.reads})
	}
	return slave
}

// enter decides for a statement, unless that is done: for a read that slave is to serve, or has failed with err.
func (r *run) enter(ctx context.Context, args []any, slave *cluster.Server, err error) error {
	if slave == nil {
		return r.route(ctx, args)
	}
	r.server, r.nature = slave, reads
	if err != nil {
		return r.instead(ctx, err)
	}
	return nil
}

// route decides for a statement by its SQL.
func (r *run) route(ctx context.Context, args []any) error {
	if pin := r.pool.pin; pin == writePin || pin == barePin {
		r.server = r.pool.first()
		return nil // decided, marked and reported before GORM began its transaction
	}
	r.pool, r.judgement = r.pool.judge(r.query, args)
	return r.decide(ctx)
}

// judge returns what the SQL of a statement tells, and the pool of the group that it is about.
func (c *pool) judge(query string, args []any) (*pool, judgement) {
	j := c.router.judge(query, c.built)
	if c.group.index == 0 { // nothing but the SQL has told
		if x := c.router.index(); x != nil {
			if g := x.about(j.tables, j.nature, query, args); g != nil {
				c = g.pool(c.pin, c.prepared, c.built)
			}
		}
	}
	if j.nature != reads || c.pin <= inheritedPin {
		return c, j
	}
	switch c.pin {
	case followsPin:
		j.nature = followsWrite
	case firstOrPin:
		j.nature = firstOr
	case lockingPin:
		j.nature = locks
	case catalogPin:
		j.nature = catalog
	}
	return c, j
}

// decide asks the rules, and does what follows from the answer but running
// the statement.
func (r *run) decide(ctx context.Context) error {
	c := r.pool
	if c.group.err != nil {
		return c.group.err
	}
	rt := c.router
	q := question{nature: r.nature, clause: c.pin.clause(r.nature), failed: r.failed}
	session, memory := rt.ask(ctx, c.group, &q)
	if !q.wrote && len(rt.groups) > 1 {
		q.wrote = rt.wrote(ctx, c.group, r.tables)
	}
	switch {
	case r.nature.mayWrite():
		if rt.refuses(&q) {
			return ErrWriteOnSlave
		}
		rt.mark(ctx, r.judgement, c.group)
	case r.strange && q.meansMaster():
		rt.mark(ctx, r.judgement, c.group)
	}
	view := c.group.cluster.View()
	q.hasSlaves = len(view.All) > 0
	intent, reason := resolve(&q)
	var server *cluster.Server
	r.fallback, r.spared = false, false
	wanted := intent == Slave
	if wanted {
		var missing Reason
		server, missing = c.slave(ctx, session, r.tables, view, &q)
		if server == nil && r.repeat != nil {
			q.failed = slices.DeleteFunc(slices.Clone(q.failed), func(s *cluster.Server) bool { return s == r.repeat })
			if server, missing = c.slave(ctx, session, r.tables, view, &q); server == r.repeat {
				server.DropIdle() // its other connections may have ended, too
			}
		}
		if server == nil {
			intent, reason = Master, missing
			r.fallback = missing != ReasonToken && missing != ReasonStaleness
			r.spared = missing == ReasonRecovering
		}
	}
	if r.failed != nil && wanted {
		r.fallback, reason = intent == Master, ReasonFailover
	}
	if intent == Master {
		server = c.master(memory)
	}
	r.server = server
	if rt.shadow.Load() {
		if r.fallback, r.spared = false, false; intent == Slave {
			server.Shadowed.Add(1)
			r.server = c.master(memory)
		}
	}
	if r.ends != nil && !r.server.Slave {
		return r.ends
	}
	if rt.config.Token.Monotonic {
		r.memory = memory
	}
	if rt.observer != nil {
		rt.observer.Routed(ctx, Route{Group: c.group.name, Server: server.ID, Intent: intent, Reason: reason, Shadow: server != r.server})
	}
	return nil
}

// slave picks the slave for a statement. Without one that will do it returns nil and what there is no slave for.
func (c *pool) slave(ctx context.Context, session *session, tables *sqlkind.Tables, view *cluster.View, q *question) (*cluster.Server, Reason) {
	servers := c.group.cluster
	servers.Used()
	m := session.memoryOf(c.group)
	kept, token := m.kept(), session.demandsOn(c.group, tables)
	if !q.limited && token == nil && len(q.failed) == 0 {
		if kept != nil {
			return kept, 0
		}
		if len(view.Slaves) > 0 && !view.Recovering && view.Holds(time.Now()) {
			return m.keep(c.group.choose(view.Slaves, view.Pools)), 0
		}
	}
	if q.limited && q.staleness > 0 {
		servers.Want(q.staleness)
	}
	for {
		d := demands{token: token, limited: q.limited, staleness: q.staleness, failed: q.failed}
		d.tellTime(view)
		if s := view.Of(kept); s != nil && d.metBy(view, s) {
			if token != nil {
				token.met.Store(s)
			}
			return kept, 0
		}
		fit, pools, missing := candidates(view, &d, asked(q))
		if len(fit) > 0 && view.Recovering {
			var spare bool
			if fit, pools, spare = c.group.present(view, fit, pools, d.now, asked(q) || len(q.failed) > 0); spare {
				return nil, ReasonRecovering
			}
		}
		if len(fit) > 0 {
			return m.change(c.group.choose(fit, pools)), 0
		}
		// Another round finds out more about positions, and nothing about a time that is not over.
		if missing == ReasonToken && !d.now.Before(token.until) || missing == ReasonStaleness && q.staleness > 0 {
			servers.Hurry()
		}
		if missing == ReasonLag {
			servers.Lapse(d.now)
		}
		if missing != ReasonToken || c.router.shadow.Load() || !session.await(ctx, c.group, token, view) {
			return nil, missing
		}
		view = servers.View()
	}
}

// unwrap takes a pool out of GORM's prepared statements, which nest, and
// returns the innermost of those as well.
func unwrap(p gorm.ConnPool) (gorm.ConnPool, *gorm.PreparedStmtDB) {
	var innermost *gorm.PreparedStmtDB
	for {
		prepared, ok := p.(*gorm.PreparedStmtDB)
		if !ok {
			return p, innermost
		}
		p, innermost = prepared.ConnPool, prepared
	}
}

// recognisable returns p, or nil if comparing it would panic.
func recognisable(p gorm.ConnPool) gorm.ConnPool {
	if p != nil && reflect.TypeOf(p).Comparable() {
		return p
	}
	return nil
}

// ours returns the pool of this plugin that cp is or wraps, and whether it is
// wrapped in prepared statements. It returns nil for what is bound or foreign.
func (rt *router) ours(cp gorm.ConnPool) (_ *pool, prepared bool) {
	if c, ok := cp.(*pool); ok && c.router == rt {
		return c, c.prepared
	}
	inner, statements := unwrap(cp)
	if statements != nil {
		rt.adopt(statements)
	}
	switch c, ok := inner.(*pool); {
	case ok && c.router == rt:
		return c, statements != nil || c.prepared
	case !ok && inner != nil && inner == rt.own:
		return rt.groups[0].pool(noPin, false, false), statements != nil
	}
	return nil, false
}

// adopt uses the statements that GORM keeps for the *gorm.DB for its own server: so PostgreSQL's Migrator can reset them. With
// Config.Masters that is not the server on which they run.
func (rt *router) adopt(statements *gorm.PreparedStmtDB) {
	rt.ownServer.Adopt(unjudged(statements))
}

// ask fills in what the context and the configuration say about a statement of g, and returns the session and what that remembers
// of g. q is filled in place: copying so many small fields costs more than the rules do.
func (rt *router) ask(ctx context.Context, g *group, q *question) (*session, *memory) {
	q.auto, q.fallback = rt.auto.Load(), rt.fallback
	scope := lookup(ctx)
	session := scope.of(rt)
	if scope != nil {
		q.explicit, q.handler = scope.explicit, scope.handler
		q.limited, q.staleness = scope.limited, scope.staleness
	}
	if session == nil {
		if q.explicit == undecided && q.handler == undecided && q.fallback == Master {
			rt.withoutIntent.Add(1)
		}
		return nil, nil
	}
	memory := session.memoryOf(g)
	q.inRequest, q.pattern, q.method = session.request, session.pattern, session.method
	q.wrote = memory.wrote.Load()
	return session, memory
}
