package replicated

import (
	"cmp"
	"errors"
	"reflect"
	"slices"

	"github.com/gorm-replicated/replicated/internal/sqlkind"
	"gorm.io/gorm"
	"gorm.io/gorm/clause"
)

func (rt *router) register(db *gorm.DB) error {
	cb := db.Callback()
	errs := []error{
		cb.Create().Before("*").Register(routeName, rt.routeWrite),
		cb.Update().Before("*").Register(routeName, rt.routeWrite),
		cb.Delete().Before("*").Register(routeName, rt.routeWrite),
		cb.Query().Match(rt.notice).Before("*").Register(clauseName, rt.routeQuery),
		cb.Row().Before("*").Register(routeName, rt.routeRead),
		cb.Raw().Before("*").Register(routeName, rt.routeRead),

		cb.Create().After("*").Register(settleName, rt.settleWrite),
		cb.Update().After("*").Register(settleName, rt.settleWrite),
		cb.Delete().After("*").Register(settleName, rt.settleWrite),
	}
	if err := errors.Join(errs...); err != nil {
		for _, remove := range []func(string) error{
			cb.Create().Remove, cb.Update().Remove, cb.Delete().Remove, cb.Row().Remove, cb.Raw().Remove,
		} {
			_, _ = remove(routeName), remove(settleName)
		}
		_ = cb.Query().Remove(clauseName)
		return err
	}
	return nil
}

// routeQuery runs before queries. It is also what db.Clauses(dbresolver.Write),
// Read and Use end up in, which call it by its name before there is anything to build.
func (rt *router) routeQuery(db *gorm.DB) {
	stmt := db.Statement
	if len(stmt.BuildClauses) > 0 {
		rt.routeRead(db)
	} else if _, ok := stmt.Settings.Load(writeName); ok {
		rt.pin(stmt, Master)
	} else if _, ok := stmt.Settings.Load(readName); ok {
		rt.pin(stmt, Slave)
	} else if c, _ := rt.ours(stmt.ConnPool); c != nil { // Use
		rt.carry(stmt, c.pin)
	} else if c := rt.within(stmt); c != nil {
		rt.carry(stmt, c.pin)
	}
}

// routeRead runs before queries, rows and raw SQL: what is not bound gets a
// pool that decides when it sees the final SQL.
func (rt *router) routeRead(db *gorm.DB) {
	stmt := db.Statement
	if stmt.RaiseErrorOnNotFound || stmt.SQL.Len() > 0 { // First, Take, Last and raw SQL: nothing but the text matters
		switch c := stmt.ConnPool.(type) {
		case *pool:
			if c.router == rt && c.short.Load() != nil {
				return
			}
		case *gorm.PreparedStmtDB:
			if c == rt.rootStmts && rt.prepared.short.Load() != nil {
				stmt.ConnPool = rt.prepared
				return
			}
		}
	}
	c, prepared := rt.ours(stmt.ConnPool)
	wrapped := false
	if c == nil {
		if c = rt.within(stmt); c == nil {
			rt.boundRead(db)
			return
		}
		wrapped, prepared = true, c.prepared
	}
	g, on := c.follow(rt.groupOf(stmt))
	pin := c.pin.next(stmt)
	if asked := clauseOf(stmt); wrapped && asked != undecided { // its pool does not carry the clause
		pin = pinOf(asked).next(stmt)
	}
	built := stmt.SQL.Len() == 0
	if built && pin != masterPin && !(stmt.RaiseErrorOnNotFound && rt.locksShow) { // First, Take and Last need no look
		switch {
		case isFirstOr(stmt):
			pin = firstOrPin
		case isColumnTypes(stmt):
			pin = catalogPin
		case !rt.locksShow && isLocking(stmt):
			pin = lockingPin
		}
	}
	g.poolOn(on, pin, prepared, built && rt.dialect == sqlkind.Other).choose(stmt, wrapped)
}

// isFirstOr tells the query of FirstOrCreate and FirstOrInit from nearly all
// others: it asks for one struct, ordered by primary key among other things, and takes not finding it for a result.
func isFirstOr(stmt *gorm.Statement) bool {
	if kind := stmt.ReflectValue.Kind(); stmt.RaiseErrorOnNotFound || kind != reflect.Struct && kind != reflect.Map {
		return false
	}
	if _, ok := stmt.Clauses["LIMIT"]; !ok {
		return false
	}
	order, _ := stmt.Clauses["ORDER BY"].Expression.(clause.OrderBy)
	return slices.ContainsFunc(order.Columns, func(by clause.OrderByColumn) bool {
		return by.Column.Table == clause.CurrentTable && by.Column.Name == clause.PrimaryKey
	})
}

// isColumnTypes tells the query by which the Migrator learns the columns of a
// table: one row of it, of no model.
func isColumnTypes(stmt *gorm.Statement) bool {
	if stmt.Model != nil || stmt.Dest != nil || len(stmt.Selects) > 0 {
		return false
	}
	for name := range stmt.Clauses {
		if name != "LIMIT" && name != usingName && name != pluginName {
			return false
		}
	}
	limit, ok := stmt.Clauses["LIMIT"].Expression.(clause.Limit)
	return ok && limit.Limit != nil && *limit.Limit == 1
}

func isLocking(stmt *gorm.Statement) bool {
	_, ok := stmt.Clauses["FOR"]
	return ok
}

// routeWrite runs before creates, updates and deletes, and before the
// transaction that GORM wraps around them.
func (rt *router) routeWrite(db *gorm.DB) {
	if db.Error != nil {
		return
	}
	stmt := db.Statement
	rt.keepShards(db)
	c, prepared := rt.ours(stmt.ConnPool)
	wrapped := false
	if c == nil {
		if c = rt.within(stmt); c != nil {
			wrapped, prepared = true, c.prepared
		}
	}
	g := rt.orGlobal(rt.groupOf(stmt))
	if db.DryRun {
		if c != nil {
			g.pool(writePin, prepared, false).choose(stmt, wrapped) // GORM begins a transaction even so
		}
		return
	}
	asked := clauseOf(stmt)
	if c != nil && asked == undecided {
		asked = c.pin.clause(writes) // inherited
	}
	if g.err != nil {
		_ = db.AddError(g.err)
		return
	}
	q := question{nature: writes, clause: asked}
	_, memory := rt.ask(stmt.Context, g, &q)
	if rt.refuses(&q) {
		_ = db.AddError(ErrWriteOnSlave)
		return
	}
	if rt.rejects && asked == chooseMaster {
		stmt.Context = WithMaster(stmt.Context) // it holds for associations and hooks, which do not inherit the clause
	}
	if c == nil {
		if tx, _ := slaveTxOf(stmt.ConnPool); tx != nil {
			_ = db.AddError(ErrWriteOnSlave)
			return
		}
		rt.markTable(stmt)
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
		return
	}
	rt.markTable(stmt)
	_, on := c.follow(g)
	if on == nil && g.several() {
		on = g.master(memory) // all that the write brings about stays there
	}
	pin := writePin
	if db.SkipDefaultTransaction {
		pin = barePin
	}
	g.poolOn(on, pin, prepared, false).choose(stmt, wrapped)
	if rt.observer != nil {
		q.hasSlaves = g.hasSlaves()
		_, reason := resolve(&q)
		rt.observer.Routed(stmt.Context, Route{Group: g.name, Server: cmp.Or(on, g.cluster.Masters[0]).ID, Intent: Master, Reason: reason})
	}
}

// markTable remembers that a session has written to the table of a create, update or delete.
func (rt *router) markTable(stmt *gorm.Statement) {
	session := lookup(stmt.Context).remembers(rt)
	if session == nil {
		return
	}
	session.markWritten(rt.orGlobal(rt.tableGroup(stmt)))
	if stmt.TableExpr != nil && rt.index() != nil { // "users AS u, orders AS o"
		tables := rt.kinds.Load().Look("TABLE " + stmt.TableExpr.SQL).Tables
		rt.mark(stmt.Context, judgement{writes, false, tables}, nil)
	}
}

// connKey is the setting under which a write remembers the connection that
// it is bound to.
type connKey struct{}

// settleWrite runs after creates, updates and deletes. When GORM ends the
// transaction around one, it resets the statement to the pool of the *gorm.DB, which would take
// the rest of a db.Connection block off its connection.
func (rt *router) settleWrite(db *gorm.DB) {
	if db.SkipDefaultTransaction || recognisable(db.ConnPool) == nil || db.Statement.ConnPool != db.ConnPool {
		return
	}
	if conn, ok := db.Statement.Settings.LoadAndDelete(connKey{}); ok {
		db.Statement.ConnPool = conn.(gorm.ConnPool)
	}
}

// notice is called whenever somebody registers a callback for queries: GORM
// asks then which of them apply. Ours always does; dbresolver's would undo it.
func (rt *router) notice(db *gorm.DB) bool {
	if db.Callback().Create().Get(clauseName) != nil {
		rt.warned.Do(func() { rt.config.Logger.Error("replicated: routing is undone", "error", errDBResolver) })
	}
	return true
}

// pin settles the question for one statement and for those that GORM derives
// from it. The pool carries it to preloads, hooks and Begin, where clauses get lost; the clause
// tells the statement itself from those derived from it.
func (rt *router) pin(stmt *gorm.Statement, i Intent) {
	if !rt.initialized.Load() {
		return
	}
	stmt.Clauses[pluginName] = clause.Clause{Expression: i}
	rt.carry(stmt, pinOf(choose(i)))
}

// carry gives a statement that is not bound the pool with this pin, of the group that it is about: Begin and Connection
// take it from there.
func (rt *router) carry(stmt *gorm.Statement, to pin) {
	c, prepared := rt.ours(stmt.ConnPool)
	if c == nil {
		if c = rt.within(stmt); c != nil {
			rt.orGlobal(rt.groupOf(stmt)).pool(to, c.prepared, false).choose(stmt, true)
		}
		return
	}
	g := rt.orGlobal(rt.groupOf(stmt))
	own := g.pool(to, prepared, false)
	own.choose(stmt, false)
	var pinned gorm.ConnPool = own
	if _, statements := unwrap(stmt.DB.ConnPool); statements != nil {
		pinned = rt.judged(g.cluster.Masters[0], pinned) // what is prepared through here runs there
	}
	// GORM goes back to the configured pool after a write and in Session{PrepareStmt: true}: that has to be the
	// pinned one too, in a configuration of this statement's own.
	config := *stmt.DB.Config
	config.ConnPool = pinned
	stmt.DB.Config = &config
}

func clauseOf(stmt *gorm.Statement) choice {
	if i, ok := stmt.Clauses[pluginName].Expression.(Intent); ok {
		return choose(i)
	}
	return undecided
}

// sharding is the name of gorm.io/sharding. Its pool says that it begins transactions. But if the pool inside
// really does, what it returns is that one's transaction, which knows of no shards. Over a bare *sql.DB it
// begins none.
const sharding = "gorm:sharding"

// keepShards has GORM begin no transaction around a single write where gorm.io/sharding is in use, as it
// would be without this plugin. One that the program begins is not concerned: its statements pass by the
// other plugin's callbacks.
func (rt *router) keepShards(db *gorm.DB) {
	if len(db.Plugins) < 2 || !rt.tellOfShards(db) {
		return
	}
	config := *db.Config
	config.SkipDefaultTransaction = true
	db.Config = &config
}

// tellOfShards tells whether gorm.io/sharding is in use, and GORM would begin transactions around single
// writes. The first time it goes to the log, too.
func (rt *router) tellOfShards(db *gorm.DB) bool {
	if db.SkipDefaultTransaction || db.Plugins[sharding] == nil {
		return false
	}
	rt.saidSharding.Do(func() {
		rt.config.Logger.Warn("replicated: gorm.io/sharding is in use, so GORM begins no transaction around single "+
			"writes, as with that plugin alone: set SkipDefaultTransaction to say so, and use db.Transaction",
			"plugin", sharding)
	})
	return true
}
