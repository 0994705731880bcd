package replicated

import (
	"cmp"
	"context"
	"database/sql"

	"gorm.io/gorm"

	"github.com/gorm-replicated/replicated/internal/cluster"
)

// pool is the gorm.ConnPool of a routed statement. It sees the final SQL and decides then. The pool of the
// *gorm.DB itself is one too: that is how Begin, for which GORM runs no callback, is routed. What GORM
// derives from a statement gets its pool, so what was settled for the statement stands in it. It is never
// changed.
type pool struct {
	router   *router
	group    *group
	on       *cluster.Server // the only master that will do; nil: any
	origin   origin
	clause   choice // that came with the statement, or with what it is derived from
	prepared bool   // through the servers' prepared statements
	built    bool   // GORM built the SQL, in a dialect that cannot be judged
}

var (
	_ gorm.ConnPool         = (*pool)(nil)
	_ gorm.ConnPoolBeginner = (*pool)(nil)
	_ gorm.GetDBConnector   = (*pool)(nil)
)

// makePools makes the usual pools of g once, so that a statement allocates none.
func (rt *router) makePools(g *group) {
	for i := range g.pools {
		g.pools[i] = &pool{router: rt, group: g, origin: origin(i >> 1), prepared: i&1 != 0}
	}
}

// pool returns a pool with these fields: one that was made before, or a new one.
func (rt *router) pool(like pool) *pool {
	at := int(like.origin) << 1
	if at < pooled && like.clause == undecided && !like.built && like.on == nil {
		if like.prepared {
			at++
		}
		return like.group.pools[at].(*pool)
	}
	c := like
	c.router = rt
	return &c
}

// GetDBConn returns the master's *sql.DB: it is what db.DB() calls.
func (c *pool) GetDBConn() (*sql.DB, error) { return c.firstMaster().DB() }

// firstMaster is the master for calls that come without a context.
func (c *pool) firstMaster() *cluster.Server { return cmp.Or(c.on, c.group.cluster.Masters[0]) }

// chosen returns the pool that the callback put into ctx, if the pool of another plugin is around ours;
// else c.
func (c *pool) chosen(ctx context.Context) *pool {
	if !c.router.wrapped.Load() {
		return c
	}
	if s := lookup(ctx); s != nil {
		if chosen, ok := s.chosen.(*pool); ok && chosen.router == c.router {
			return chosen
		}
	}
	return c
}

// choose has a statement run on c.
func (c *pool) choose(stmt *gorm.Statement, wrapped bool) {
	// Also where this statement has no wrapper: its context may be that of one that has.
	if c.router.wrapped.Load() {
		s := scopeOf(stmt.Context)
		s.chosen = c
		stmt.Context = s.context(stmt.Context)
	}
	if !wrapped && stmt.ConnPool != gorm.ConnPool(c) {
		stmt.ConnPool = c // most often it is there already, and a store is dear while the garbage collector runs
	}
}

// PrepareContext prepares on the first master. The statement outlives the request, so the intent of the
// request says nothing about later uses; and GORM keeps it with others of that server. What may write
// counts as written.
func (c *pool) PrepareContext(ctx context.Context, query string) (*sql.Stmt, error) {
	c = c.chosen(ctx)
	if err := c.admit(ctx, query); err != nil {
		return nil, err
	}
	return c.firstMaster().Pool.PrepareContext(ctx, query)
}

// admit judges a statement that runs on the first master of c's own group.
func (c *pool) admit(ctx context.Context, query string) error {
	j := c.router.judge(query, c.built)
	if c.group.err != nil {
		return c.group.err
	}
	f := facts{nature: j.nature, clause: c.origin.clauseFor(j.nature, c.clause)}
	c.router.fill(ctx, c.group, &f)
	if c.router.rejectsWrite(&f) {
		return ErrWriteOnSlave
	}
	if j.mayWriteOnMaster() {
		c.router.remember(ctx, j, c.group)
	}
	return nil
}

// statement returns a new statement with the settings of c. lookAt judges its SQL.
func (c *pool) statement() statement {
	return statement{router: c.router, group: c.group, on: c.on, built: c.built, prepared: c.prepared}
}

// route decides where a statement runs, by its SQL, and begins the first attempt there.
func (c *pool) route(ctx context.Context, st *statement, args []any) (attempt, error) {
	to := destination{server: c.firstMaster()}
	if c.origin != ofWrite && c.origin != ofBareWrite { // those were decided, remembered and reported before
		c.lookAt(st, args)
		var err error
		if to, err = st.decide(ctx); err != nil {
			return attempt{}, err
		}
	}
	return st.begin(ctx, to)
}

// lookAt fills in what the SQL of a statement tells: its nature, its tables, and its group.
func (c *pool) lookAt(st *statement, args []any) {
	j := c.router.judge(st.query, st.built)
	st.tables, st.strange = j.tables, j.strange
	if c.group.index == 0 { // neither a clause nor a table has named a group: the SQL may
		if x := c.router.index(); x != nil {
			if g := x.about(j.tables, j.nature, st.query, args); g != nil {
				st.group, st.on = g, nil
			}
		}
	}
	st.nature = c.origin.natureOf(j.nature)
	st.clause = c.origin.clauseFor(st.nature, c.clause)
}

func (c *pool) ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error) {
	c = c.chosen(ctx)
	st := c.statement()
	// What GORM builds and executes is a write, which its callback has judged. The rest is the caller's own SQL.
	st.query, st.built = query, false
	a, err := c.route(ctx, &st, args)
	for err == nil {
		var result sql.Result
		result, err = a.pool.ExecContext(a.ctx, st.query, args...)
		if err = st.end(&a, err); err == nil {
			a.finish()
			return result, nil
		}
		a, err = st.next(ctx, a, err)
	}
	return nil, err
}

// QueryContext runs a query where the rules say, and again elsewhere if the server fails it before it has
// handed out its first row. After that nobody runs it again: the caller gets the error.
func (c *pool) QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	c = c.chosen(ctx)
	st := c.statement()
	st.query = query
	a, err := c.route(ctx, &st, args)
	for err == nil {
		var rows *sql.Rows
		rows, err = a.pool.QueryContext(a.ctx, st.query, args...)
		failed := st.end(&a, err)
		if failed == nil {
			a.handOver()
			return rows, nil
		}
		if err == nil { // it was cancelled at the last moment
			_ = rows.Close()
		}
		a, err = st.next(ctx, a, failed)
	}
	return nil, err
}

func (c *pool) QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row {
	c = c.chosen(ctx)
	st := c.statement()
	st.query = query
	a, err := c.route(ctx, &st, args)
	for err == nil {
		row := a.pool.QueryRowContext(a.ctx, st.query, args...)
		if *row == (sql.Row{}) {
			// GORM's answer to a statement that could not be prepared: its Err is nil and its Scan panics.
			// Unprepared, the server says what is wrong.
			row = a.server.Pool.QueryRowContext(a.ctx, st.query, args...)
		}
		err = row.Err()
		failed := st.end(&a, err)
		if failed == nil {
			a.handOver()
			return row
		}
		if err == nil { // it was cancelled at the last moment
			_ = row.Scan()
		}
		a, err = st.next(ctx, a, failed)
	}
	return errorRow(err)
}

// BeginTx begins a transaction: on a slave if it is read-only and the intent is Slave, or if a clause asks
// for it; otherwise on the master.
func (c *pool) BeginTx(ctx context.Context, opts *sql.TxOptions) (gorm.ConnPool, error) {
	c = c.chosen(ctx)
	st := c.statement()
	st.unprepared = true
	to := destination{server: c.firstMaster()}
	if c.origin != ofWrite { // that is GORM's own transaction around a write
		st.nature = c.origin.natureOf(natureOfBegin(opts))
		st.clause = c.origin.clauseFor(st.nature, c.clause)
		var err error
		if to, err = st.decide(ctx); err != nil {
			return (*sql.Tx)(nil), err
		}
	}
	conn, a, err := st.beginTx(ctx, to, opts)
	if err != nil {
		// As GORM has it without the plugin, so that a Rollback adds no second error.
		return (*sql.Tx)(nil), err
	}
	return c.wrapTx(conn, a.server)
}

// natureOfBegin returns the nature of a BEGIN. Serializable goes first: standbys refuse such a transaction
// also if it is read-only.
func natureOfBegin(opts *sql.TxOptions) nature {
	switch {
	case opts != nil && opts.Isolation >= sql.LevelSerializable:
		return serializable
	case opts == nil || !opts.ReadOnly:
		return begins
	}
	return reads
}

// wrapTx returns what GORM is to use of a transaction on server.
func (c *pool) wrapTx(conn gorm.ConnPool, server *cluster.Server) (gorm.ConnPool, error) {
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
		// On this very error GORM goes on without a transaction around a single write.
		return (*sql.Tx)(nil), gorm.ErrInvalidTransaction
	}
	switch {
	case server.Slave:
		onSlave := &slaveTx{Tx: tx, group: c.group, router: c.router, server: server}
		if c.prepared {
			return onSlave.withStatements(), nil
		}
		return onSlave, nil
	case c.origin == ofWrite: // what GORM runs in it was judged before
		return &gorm.PreparedStmtTX{Tx: tx, PreparedStmtDB: server.Prepared()}, nil
	}
	return &gorm.PreparedStmtTX{Tx: tx, PreparedStmtDB: c.router.judged(server, server.Pool)}, nil
}

// unwrap takes a pool out of GORM's prepared statements, which nest, and returns the innermost of those as
// well.
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

// ours returns the pool of this plugin that cp is or wraps, and whether it is wrapped in prepared
// statements. It returns nil for what is bound or foreign.
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
	case !ok && inner != nil && inner == rt.ownPool:
		return rt.pool(pool{group: rt.groups[0]}), statements != nil
	}
	return nil, false
}

// adopt has our own server use the prepared statements that GORM keeps for the *gorm.DB. PostgreSQL's
// Migrator resets those after it has changed a table. With Config.Masters they are not those of the server
// that statements run on.
func (rt *router) adopt(statements *gorm.PreparedStmtDB) {
	rt.ownServer.Adopt(unjudged(statements))
}
