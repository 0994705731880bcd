package replicated

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"math/rand/v2"
	"reflect"
	"sync"

	"gorm.io/gorm"
	"gorm.io/plugin/dbresolver"

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
	case writePin:
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

// group is a master with its slaves, and the pools that statements run on.
type group struct {
	name    string
	cluster *cluster.Cluster
	pools   [pins][2][2]pool // by pin, prepared, built: a statement takes one without an allocation

	mu     sync.Mutex        // serialises policy: dbresolver's round robin races
	policy dbresolver.Policy // nil: any slave
}

func newGroup(p *Plugin, name string, servers *cluster.Cluster, policy dbresolver.Policy) *group {
	g := &group{name: name, cluster: servers}
	if _, random := policy.(dbresolver.RandomPolicy); !random {
		g.policy = policy
	}
	for pin := range pin(pins) {
		for _, prepared := range []bool{false, true} {
			for _, built := range []bool{false, true} {
				*g.pool(pin, prepared, built) = pool{plugin: p, group: g, pin: pin, prepared: prepared, built: built}
			}
		}
	}
	return g
}

func (g *group) pool(p pin, prepared, built bool) *pool {
	pools := &g.pools[p][0]
	if prepared {
		pools = &g.pools[p][1]
	}
	if built {
		return &pools[1]
	}
	return &pools[0]
}

// choose asks the policy for one of the slaves of v, which has some.
func (g *group) choose(v *cluster.View) *cluster.Server {
	if len(v.Slaves) == 1 {
		return v.Slaves[0]
	}
	if g.policy != nil {
		g.mu.Lock()
		defer g.mu.Unlock()
		if chosen := recognisable(g.policy.Resolve(v.Pools)); chosen != nil {
			for i, p := range v.Pools {
				if p == chosen {
					return v.Slaves[i]
				}
			}
		}
	}
	return v.Slaves[rand.IntN(len(v.Slaves))]
}

// pool is the gorm.ConnPool of a routed statement. It sees the final SQL and
// decides then. The pool of the *gorm.DB itself is one too: that is how Begin, for which GORM runs
// no callback, is routed.
type pool struct {
	plugin   *Plugin
	group    *group
	pin      pin
	prepared bool // through the servers' prepared statements
	built    bool // GORM built the SQL, in a dialect that cannot be judged
}

var (
	_ gorm.ConnPool         = (*pool)(nil)
	_ gorm.ConnPoolBeginner = (*pool)(nil)
	_ gorm.GetDBConnector   = (*pool)(nil)
)

// GetDBConn returns the master's *sql.DB: it is what db.DB() calls.
func (c *pool) GetDBConn() (*sql.DB, error) { return c.master().DB() }

// PrepareContext prepares on the master: a statement outlives the request, so
// it cannot follow its intent. What may write counts as written.
func (c *pool) PrepareContext(ctx context.Context, query string) (*sql.Stmt, error) {
	q := question{nature: c.natureOf(query)}
	q.clause = c.pin.clause(q.nature)
	if session := c.plugin.ask(ctx, &q); q.nature.mayWrite() {
		if c.plugin.refuses(&q) {
			return nil, ErrWriteOnSlave
		}
		session.markWritten()
	}
	return c.master().Pool.PrepareContext(ctx, query)
}

func (c *pool) ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error) {
	if c.built {
		c = c.group.pool(c.pin, c.prepared, false) // GORM executes no query that it built
	}
	server, err := c.route(ctx, query)
	if err != nil {
		return nil, err
	}
	result, err := c.on(server).ExecContext(ctx, query, args...)
	if err != nil && server != c.master() {
		if server, err = c.instead(ctx, server, query, err); err == nil {
			return c.on(server).ExecContext(ctx, query, args...)
		}
	}
	return result, err
}

func (c *pool) QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	server, err := c.route(ctx, query)
	if err != nil {
		return nil, err
	}
	rows, err := c.on(server).QueryContext(ctx, query, args...)
	if err != nil && server != c.master() {
		if server, err = c.instead(ctx, server, query, err); err == nil {
			return c.on(server).QueryContext(ctx, query, args...)
		}
	}
	return rows, err
}

func (c *pool) QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row {
	server, err := c.route(ctx, query)
	if err != nil {
		return errorRow(err)
	}
	row := c.queryRow(ctx, server, query, args)
	if err := row.Err(); err != nil && server != c.master() {
		switch other, instead := c.instead(ctx, server, query, err); {
		case instead == nil:
			return c.queryRow(ctx, other, query, args)
		case instead != err:
			return errorRow(instead)
		}
	}
	return row
}

// instead says where a read may run after a slave failed it with err, or
// returns the error to end with.
func (c *pool) instead(ctx context.Context, slave *cluster.Server, query string, err error) (*cluster.Server, error) {
	switch p := c.plugin; {
	case slave.Left():
		return c.master(), nil // Close closed its pool
	case cluster.IsReadOnly(p.dialectName, err):
		// The SQL looks like a read, and calls a function that writes.
		if p.kinds.Learn(query) {
			p.config.Logger.Warn("replicated: a slave refused a statement as a write; from now on it goes to the master",
				"server", slave.ID, "sql", query)
		}
		if p.rejects {
			return nil, ErrWriteOnSlave
		}
		lookup(ctx).of(p).markWritten()
		if p.observer != nil {
			p.observer.Routed(ctx, Route{c.group.name, c.master().ID, Master, ReasonRefused})
		}
		return c.master(), nil
	}
	return nil, err
}

func (c *pool) queryRow(ctx context.Context, server *cluster.Server, query string, args []any) *sql.Row {
	row := c.on(server).QueryRowContext(ctx, query, args...)
	if c.prepared && *row == (sql.Row{}) {
		// GORM's answer to a statement that could not be prepared: its Err is nil and its Scan panics.
		// Unprepared, the server says what is wrong.
		return server.Pool.QueryRowContext(ctx, query, args...)
	}
	return row
}

// BeginTx begins a transaction: on a slave if it is read-only and the intent
// is Slave, or if a clause asks for it; otherwise on the master.
func (c *pool) BeginTx(ctx context.Context, opts *sql.TxOptions) (gorm.ConnPool, error) {
	server := c.master()
	if c.pin != writePin { // that is GORM's own transaction around a write
		server, _ = c.decide(ctx, c.natureOfBegin(opts))
	}
	slave := server != c.master()
	if slave {
		opts = c.plugin.readOnly(opts)
	}
	conn, err := server.BeginTx(ctx, opts)
	if err != nil && server.Left() {
		slave = false
		conn, err = c.master().BeginTx(ctx, opts)
	}
	if err != nil {
		// As GORM has it without the plugin, so that a Rollback adds no second error.
		return (*sql.Tx)(nil), err
	}
	if !slave && !c.prepared {
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
	if !slave {
		return &gorm.PreparedStmtTX{Tx: tx, PreparedStmtDB: c.master().Prepared()}, nil
	}
	onSlave := &slaveTx{Tx: tx, plugin: c.plugin, server: server}
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
	case c.pin == followsPin:
		return followsWrite
	}
	return reads
}

// readOnly returns opts for a transaction on a slave. Where the database can,
// it refuses the writes that nobody sees in the SQL, such as a stored function's.
func (p *Plugin) readOnly(opts *sql.TxOptions) *sql.TxOptions {
	if name := p.dialectName; name != "mysql" && name != "postgres" {
		return opts
	}
	readOnly := sql.TxOptions{ReadOnly: true}
	if opts != nil {
		readOnly.Isolation = opts.Isolation
	}
	return &readOnly
}

// route decides for a statement with this SQL.
func (c *pool) route(ctx context.Context, query string) (*cluster.Server, error) {
	if c.pin == writePin {
		return c.master(), nil // decided, marked and reported before GORM began its transaction
	}
	return c.decide(ctx, c.natureOf(query))
}

func (c *pool) natureOf(query string) nature {
	n := c.plugin.natureOf(query, c.built)
	if n != reads || c.pin <= inheritedPin {
		return n
	}
	switch c.pin {
	case followsPin:
		return followsWrite
	case firstOrPin:
		return firstOr
	case lockingPin:
		return locks
	case catalogPin:
		return catalog
	}
	return reads
}

// decide asks the rules, and does what follows from the answer but running
// the statement.
func (c *pool) decide(ctx context.Context, n nature) (*cluster.Server, error) {
	p := c.plugin
	q := question{nature: n, clause: c.pin.clause(n)}
	session := p.ask(ctx, &q)
	if n.mayWrite() {
		if p.refuses(&q) {
			return nil, ErrWriteOnSlave
		}
		session.markWritten()
	}
	slave := session.kept()
	var view *cluster.View
	if slave == nil {
		view = c.group.cluster.View()
	}
	q.hasSlaves = slave != nil || len(view.Slaves) > 0
	intent, reason := resolve(&q)
	server := slave
	switch {
	case intent == Master:
		server = c.master()
	case slave == nil:
		server = session.keep(c.group.choose(view))
	}
	if p.observer != nil {
		p.observer.Routed(ctx, Route{c.group.name, server.ID, intent, reason})
	}
	return server, nil
}

func (c *pool) master() *cluster.Server { return c.group.cluster.Master }

func (c *pool) on(server *cluster.Server) gorm.ConnPool {
	if c.prepared {
		return server.Prepared()
	}
	return server.Pool
}

// errorRow returns a row whose Err and Scan return err. Only database/sql can
// make one.
func errorRow(err error) *sql.Row {
	db := sql.OpenDB(failing{err})
	defer db.Close()
	return db.QueryRowContext(context.Background(), "")
}

// failing is a driver.Connector that cannot connect.
type failing struct{ err error }

func (f failing) Connect(context.Context) (driver.Conn, error) { return nil, f.err }

func (f failing) Driver() driver.Driver { return f }

func (f failing) Open(string) (driver.Conn, error) { return nil, f.err }

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
func (p *Plugin) ours(cp gorm.ConnPool) (_ *pool, prepared bool) {
	if c, ok := cp.(*pool); ok && c.plugin == p {
		return c, c.prepared
	}
	inner, statements := unwrap(cp)
	if statements != nil {
		p.group.cluster.Master.Adopt(statements)
	}
	switch c, ok := inner.(*pool); {
	case ok && c.plugin == p:
		return c, statements != nil || c.prepared
	case !ok && inner != nil && inner == p.master:
		return p.group.pool(noPin, false, false), statements != nil
	}
	return nil, false
}

// ask fills in what the context and the configuration say. q is filled in
// place: copying so many small fields costs more than the rules do.
func (p *Plugin) ask(ctx context.Context, q *question) *session {
	q.auto, q.fallback = p.auto.Load(), p.fallback
	scope := lookup(ctx)
	session := scope.of(p)
	if scope != nil {
		q.explicit, q.handler = scope.explicit, scope.handler
	}
	if session != nil {
		q.inRequest, q.pattern, q.method = true, session.pattern, session.method
		q.wrote = session.memory.wrote.Load()
	} else if q.explicit == undecided && q.handler == undecided && q.fallback == Master {
		p.withoutIntent.Add(1)
	}
	return session
}

// natureOf judges SQL. Where the dialect is not known, what GORM built is
// taken for the read it looks like, and anything else may write.
func (p *Plugin) natureOf(query string, built bool) nature {
	n := natures[p.kinds.Kind(query)]
	if p.dialect == sqlkind.Other {
		n = n.unjudged(built)
	}
	return n
}

// unjudged is what n is worth in a dialect that is not known.
func (n nature) unjudged(built bool) nature {
	switch {
	case n == writes:
		return writes
	case !built:
		return unknown
	case n == unknown:
		return reads
	}
	return n // locks
}

// refuses applies Config.RejectWrites. Raw SQL in a dialect that cannot be
// judged is not refused: most of it only reads.
func (p *Plugin) refuses(q *question) bool {
	return p.rejects && refuses(q) && !(q.nature == unknown && p.dialect == sqlkind.Other)
}
