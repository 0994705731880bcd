package replicated

import (
	"context"
	"database/sql"
	"reflect"
	"slices"

	"gorm.io/gorm"

	"github.com/gorm-replicated/replicated/internal/cluster"
)

// boundRead handles a query, row or raw statement that is bound to a transaction or a connection, or runs
// on a pool that the plugin does not know. It stays there.
func (rt *router) boundRead(db *gorm.DB) {
	stmt := db.Statement
	stmt.ConnPool = dismiss(stmt.ConnPool)
	if db.Error != nil || db.DryRun {
		return
	}
	tx, prepared := slaveTxOf(stmt.ConnPool)
	if rt.config.Token.Monotonic && tx == nil {
		g, _ := rt.boundTo(stmt.ConnPool)
		lookup(stmt.Context).of(rt).memoryOf(g).noteRead(g.cluster.Masters[0])
	}
	rt.reportBound(db, tx)
	switch {
	case tx == nil:
		rt.ownStatements(stmt)
	case prepared:
		stmt.ConnPool = tx.withStatements() // GORM attached the master's
	}
	rt.attend(stmt)
}

var (
	_ gorm.Tx             = (*slaveTx)(nil)
	_ gorm.GetDBConnector = (*slaveTx)(nil)
)

// boundWrite handles a create, update or delete that is bound, or runs on a pool that the plugin does not
// know.
func (rt *router) boundWrite(db *gorm.DB) {
	stmt := db.Statement
	if tx, _ := slaveTxOf(rt.lookInto(stmt.ConnPool).bound); tx != nil {
		_ = db.AddError(ErrWriteOnSlave)
		return
	}
	rt.rememberTable(stmt)
	if len(rt.groups) > 1 {
		_, master := rt.boundTo(stmt.ConnPool)
		rt.misplaced(rt.tableGroup(stmt), master)
	}
	rt.reportBound(db, nil)
	rt.ownStatements(stmt)
	stmt.ConnPool = admitted(stmt.ConnPool)
	if _, tx := stmt.ConnPool.(gorm.TxCommitter); !tx && !db.SkipDefaultTransaction {
		stmt.Settings.Store(connKey{}, stmt.ConnPool)
	}
}

// attendant stands before the pool of a bound statement until its final SQL comes by, to see whether it
// writes. Then it steps back.
type attendant struct {
	gorm.ConnPool
	runsOn gorm.ConnPool // see admitted
	router *router
	stmt   *gorm.Statement
	built  bool // GORM builds the SQL
	locks  bool // with clause.Locking, which the SQL does not show
}

// txAttendant is an attendant that can be told for a transaction, and connAttendant one that can begin one:
// callbacks that run in between look.
type (
	txAttendant struct {
		*attendant
		tx gorm.Tx
	}
	connAttendant struct {
		*attendant
		conn gorm.TxBeginner
	}
)

var (
	_ gorm.Tx             = txAttendant{}
	_ gorm.GetDBConnector = txAttendant{}
	_ gorm.TxBeginner     = connAttendant{}
)

func (a txAttendant) Commit() error { return a.tx.Commit() }

func (a txAttendant) Rollback() error { return a.tx.Rollback() }

func (a txAttendant) StmtContext(ctx context.Context, s *sql.Stmt) *sql.Stmt {
	return a.tx.StmtContext(ctx, s)
}

func (a connAttendant) BeginTx(ctx context.Context, opts *sql.TxOptions) (*sql.Tx, error) {
	return a.conn.BeginTx(ctx, opts)
}

// attend sets an attendant before the pool of a bound statement.
func (rt *router) attend(stmt *gorm.Statement) {
	a := &attendant{
		ConnPool: stmt.ConnPool, runsOn: admitted(stmt.ConnPool), router: rt, stmt: stmt,
		built: stmt.SQL.Len() == 0, locks: !rt.locksShow && isLocking(stmt),
	}
	switch bound := stmt.ConnPool.(type) {
	case gorm.Tx:
		stmt.ConnPool = txAttendant{a, bound}
	case gorm.TxBeginner:
		stmt.ConnPool = connAttendant{a, bound}
	default:
		stmt.ConnPool = a
	}
}

// dismiss takes an attendant away that saw nothing: somebody answered the statement in the place of GORM.
func dismiss(p gorm.ConnPool) gorm.ConnPool {
	switch a := p.(type) {
	case txAttendant:
		return a.ConnPool
	case connAttendant:
		return a.ConnPool
	case *attendant:
		return a.ConnPool
	}
	return p
}

// GetDBConn returns what db.DB() returns without an attendant.
func (a *attendant) GetDBConn() (*sql.DB, error) {
	return (&gorm.DB{Config: &gorm.Config{ConnPool: a.ConnPool}}).DB()
}

func (a *attendant) see(ctx context.Context, query string) error {
	a.stmt.ConnPool = a.ConnPool
	return a.router.admitBound(ctx, a.ConnPool, query, a.built, a.locks, clauseOf(a.stmt))
}

// admitBound judges a statement that runs on bound, a transaction or a connection. That it locks may be known
// apart from its SQL; clause is what one on it says.
func (rt *router) admitBound(
	ctx context.Context, bound gorm.ConnPool, query string, built, locks bool, clause choice,
) error {
	if tx, _ := slaveTxOf(rt.lookInto(bound).bound); tx != nil {
		if locks || tx.rejects(query) {
			return ErrWriteOnSlave
		}
		return nil
	}
	j := rt.judge(query, built)
	var about *group
	if j.tables != nil && j.tables.Main != "" {
		if about = rt.index().named(j.tables.Main); about != nil && about.err != nil {
			return about.err
		}
	}
	f := facts{nature: j.nature, clause: clause}
	rt.fill(ctx, rt.groups[0], &f)
	if rt.rejectsWrite(&f) {
		return ErrWriteOnSlave
	}
	if !j.mayWriteOnMaster() {
		return nil
	}
	rt.remember(ctx, j, rt.boundGroup(bound, j, about))
	return nil
}

// boundGroup returns the group of a transaction or a connection, or nil if that is not known. A statement
// in it may be about a table of another group.
func (rt *router) boundGroup(bound gorm.ConnPool, j judgement, about *group) *group {
	if len(rt.groups) == 1 {
		return nil
	}
	g, master := rt.boundTo(bound)
	if master == nil {
		return nil
	}
	if j.nature.mayWrite() {
		rt.misplaced(about, master)
	}
	return g
}

func (a *attendant) ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error) {
	if err := a.see(ctx, query); err != nil {
		return nil, err
	}
	result, err := a.runsOn.ExecContext(ctx, query, args...)
	a.heed(query, err)
	return result, err
}

func (a *attendant) QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	if err := a.see(ctx, query); err != nil {
		return nil, err
	}
	rows, err := a.runsOn.QueryContext(ctx, query, args...)
	a.heed(query, err)
	return rows, err
}

func (a *attendant) QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row {
	if err := a.see(ctx, query); err != nil {
		return errorRow(err)
	}
	row := a.runsOn.QueryRowContext(ctx, query, args...)
	if *row != (sql.Row{}) {
		a.heed(query, row.Err())
	}
	return row
}

// heed forgets a prepared statement whose plan has gone stale. This transaction has failed; the next one
// shall not.
func (a *attendant) heed(query string, err error) {
	if err == nil || !cluster.IsStalePlan(err) {
		return
	}
	if tx, _ := slaveTxOf(a.ConnPool); tx != nil {
		tx.server.Forget(query)
	} else if _, master := a.router.boundTo(a.ConnPool); master != nil {
		master.Forget(query)
	}
}

// reportBound reports a statement that stays where it is; tx is the slave's transaction that it is bound
// to, if any.
func (rt *router) reportBound(db *gorm.DB, tx *slaveTx) {
	if rt.observer == nil {
		return
	}
	var route Route
	_, route.Reason = resolve(&facts{bound: true})
	if tx == nil {
		tx, _ = slaveTxOf(rt.lookInto(db.Statement.ConnPool).bound)
	}
	if tx != nil {
		route.Group, route.Server, route.Intent = tx.group.name, tx.server.ID, Slave
	} else {
		g, master := rt.boundTo(db.Statement.ConnPool)
		route.Group = g.name
		if master != nil {
			route.Server = master.ID
		}
	}
	rt.observer.Routed(db.Statement.Context, route)
}

// boundTo returns the group and the master that a transaction or a connection belongs to, or the global
// group and nil.
func (rt *router) boundTo(pool gorm.ConnPool) (*group, *cluster.Server) {
	w := rt.lookInto(pool)
	if w.bound == nil && w.pool != nil {
		return w.pool.group, w.pool.firstMaster()
	}
	if tx, _ := slaveTxOf(w.bound); tx != nil {
		return tx.group, nil
	}
	if db := sqlDBOf(w.bound); db != nil {
		for _, g := range rt.groups {
			for _, master := range g.cluster.Masters {
				if own, err := master.DB(); err == nil && own == db {
					return g, master
				}
			}
		}
	}
	return rt.groups[0], nil
}

// ownStatements gives a statement in a transaction the prepared statements of the master that it is on.
// Those that GORM attaches are of the first master.
func (rt *router) ownStatements(stmt *gorm.Statement) {
	tx, ok := stmt.ConnPool.(*gorm.PreparedStmtTX)
	if !ok || len(rt.groups) == 1 && rt.groups[0].cluster.Masters[0] == rt.ownServer {
		return
	}
	if _, master := rt.boundTo(tx); master != nil {
		if own := master.Prepared(); own.Mux != tx.PreparedStmtDB.Mux {
			stmt.ConnPool = &gorm.PreparedStmtTX{Tx: tx.Tx, PreparedStmtDB: own}
		}
	}
}

// sqlDBOf returns the *sql.DB that a transaction or a connection belongs to, or nil. database/sql does not
// tell; GORM's own DB method looks into *sql.Tx the same way.
func sqlDBOf(p gorm.ConnPool) *sql.DB {
	for {
		t, ok := p.(*gorm.PreparedStmtTX)
		if !ok {
			break
		}
		p = t.Tx
	}
	switch p.(type) {
	case *sql.Tx, *sql.Conn:
		if f := reflect.ValueOf(p).Elem().FieldByName("db"); f.IsValid() && f.Type() == reflect.TypeFor[*sql.DB]() {
			return (*sql.DB)(f.UnsafePointer())
		}
	}
	return nil
}

// admitPrepared judges a statement that is about to run on conn as a prepared one: our own pool, or what is
// bound.
func (rt *router) admitPrepared(ctx context.Context, conn any, query string) error {
	cp, ok := conn.(gorm.ConnPool)
	if !ok {
		return nil
	}
	if c, _ := rt.ours(cp); c != nil {
		return c.admit(ctx, query)
	}
	return rt.admitBound(ctx, cp, query, false, false, undecided)
}

// connKey is the setting under which a write remembers the connection that it is bound to.
type connKey struct{}

func isLocking(stmt *gorm.Statement) bool {
	_, ok := stmt.Clauses["FOR"]
	return ok
}

// misplaced says, once for each group, that a transaction on another database writes to its tables.
func (rt *router) misplaced(g *group, master *cluster.Server) {
	if g == nil || master == nil || slices.Contains(g.cluster.Masters, master) {
		return
	}
	g.saidMisplaced.Do(func() {
		rt.config.Logger.Warn("replicated: a transaction or connection of another group writes to a table of "+
			"this one, and stays where it is: begin it behind db.Clauses(dbresolver.Use(name))",
			"group", g.name, "server", master.ID)
	})
}
