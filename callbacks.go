package replicated

import (
	"cmp"
	"errors"
	"reflect"
	"slices"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"
	"gorm.io/plugin/dbresolver"

	"github.com/gorm-replicated/replicated/internal/sqlkind"
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
	} else if c, _, _ := rt.poolOf(stmt); c != nil { // Use
		rt.carry(stmt, c.origin, c.clause)
	}
}

// routeRead runs before queries, rows and raw SQL: what is not bound gets a pool that decides when it sees
// the final SQL.
func (rt *router) routeRead(db *gorm.DB) {
	stmt := db.Statement
	c, prepared, wrapped := rt.poolOf(stmt)
	if c == nil {
		rt.boundRead(db)
		return
	}
	to := pool{group: rt.orGlobal(rt.groupOf(stmt)), clause: c.clause, prepared: prepared}
	if to.group == c.group {
		to.on = c.on
	}
	to.origin, to.clause = c.derive(stmt, wrapped)
	if built := stmt.SQL.Len() == 0; built {
		to.built = rt.dialect == sqlkind.Other
		if to.clause != chooseMaster {
			rt.lookAtClauses(stmt, &to)
		}
	}
	rt.pool(to).choose(stmt, wrapped)
}

// poolOf returns the pool of this plugin that a statement came with, whether what runs on it is prepared, and
// whether it is inside of another plugin's. It is nil for what is bound or foreign.
func (rt *router) poolOf(stmt *gorm.Statement) (c *pool, prepared, wrapped bool) {
	if c, prepared = rt.ours(stmt.ConnPool); c != nil {
		return c, prepared, false
	}
	if c = rt.within(stmt); c != nil {
		return c, c.prepared, true
	}
	return nil, false, false
}

// derive returns where a query comes from that came with c, and the clause that counts for it.
func (c *pool) derive(stmt *gorm.Statement, wrapped bool) (origin, choice) {
	counts := c.clause
	if wrapped { // the pool of a wrapper does not carry the clause
		counts = cmp.Or(clauseOf(stmt), counts)
	}
	switch {
	case counts == chooseSlave && clauseOf(stmt) == chooseSlave:
		return hasClause, counts
	case counts == chooseSlave:
		return ofClause, counts
	case counts == undecided && (c.origin == ofWrite || c.origin == ofBareWrite):
		return inHook, undecided
	}
	return c.origin, counts
}

// lookAtClauses looks for what GORM has built of a query that its SQL will not show.
func (rt *router) lookAtClauses(stmt *gorm.Statement, to *pool) {
	switch {
	case stmt.RaiseErrorOnNotFound && rt.locksShow: // First, Take and Last need no look
	case isFirstOr(stmt):
		to.origin = ofFirstOr
	case isColumnTypes(stmt):
		to.origin = ofMigrator
	case !rt.locksShow && isLocking(stmt):
		to.origin = ofLocking
	}
}

// isFirstOr tells the query of FirstOrCreate and FirstOrInit from nearly all others: it asks for one
// struct, ordered by primary key among other things, and takes not finding it for a result.
func isFirstOr(stmt *gorm.Statement) bool {
	kind := stmt.ReflectValue.Kind()
	if stmt.RaiseErrorOnNotFound || kind != reflect.Struct && kind != reflect.Map {
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

// routeWrite runs before creates, updates and deletes, and before the transaction that GORM wraps around
// them.
func (rt *router) routeWrite(db *gorm.DB) {
	if db.Error != nil {
		return
	}
	stmt := db.Statement
	rt.keepShards(db)
	c, prepared, wrapped := rt.poolOf(stmt)
	g := rt.orGlobal(rt.groupOf(stmt))
	if db.DryRun {
		if c != nil {
			// GORM begins a transaction even so.
			rt.pool(pool{group: g, origin: ofWrite, prepared: prepared}).choose(stmt, wrapped)
		}
		return
	}
	f := facts{nature: writes, clause: clauseOf(stmt)}
	if c != nil && f.clause == undecided {
		f.clause = c.origin.clauseFor(writes, c.clause) // inherited
	}
	memory := rt.admitWrite(db, g, &f)
	switch {
	case db.Error != nil:
	case c == nil:
		rt.boundWrite(db)
	default:
		to := pool{group: g, origin: ofWrite, prepared: prepared}
		if db.SkipDefaultTransaction {
			to.origin = ofBareWrite
		}
		if g == c.group {
			to.on = c.on
		}
		if to.on == nil && g.several() {
			to.on = g.master(memory) // all that the write brings about stays there
		}
		rt.rememberTable(stmt)
		rt.pool(to).choose(stmt, wrapped)
		rt.reportWrite(stmt, &to, &f)
	}
}

// admitWrite fills in what bears on a write of g, and adds an error to db if it must not run. It returns
// what the session remembers of g.
func (rt *router) admitWrite(db *gorm.DB, g *group, f *facts) *memory {
	if g.err != nil {
		_ = db.AddError(g.err)
		return nil
	}
	stmt := db.Statement
	_, memory := rt.fill(stmt.Context, g, f)
	if rt.rejectsWrite(f) {
		_ = db.AddError(ErrWriteOnSlave)
		return memory
	}
	if rt.rejectWrites && f.clause == chooseMaster {
		// It holds for associations and hooks, which do not inherit the clause.
		stmt.Context = WithMaster(stmt.Context)
	}
	return memory
}

func (rt *router) reportWrite(stmt *gorm.Statement, to *pool, f *facts) {
	if rt.observer == nil {
		return
	}
	f.hasSlaves = to.group.hasSlaves()
	_, reason := resolve(f)
	rt.observer.Routed(stmt.Context, Route{
		Group: to.group.name, Server: to.firstMaster().ID, Intent: Master, Reason: reason,
	})
}

// settleWrite runs after creates, updates and deletes. When GORM ends the transaction around one, it resets
// the statement to the pool of the *gorm.DB, which would take the rest of a db.Connection block off its
// connection.
func (rt *router) settleWrite(db *gorm.DB) {
	if db.SkipDefaultTransaction || recognisable(db.ConnPool) == nil || db.Statement.ConnPool != db.ConnPool {
		return
	}
	if conn, ok := db.Statement.Settings.LoadAndDelete(connKey{}); ok {
		db.Statement.ConnPool = conn.(gorm.ConnPool)
	}
}

// notice is called whenever somebody registers a callback for queries: GORM asks then which of them apply.
// Ours always does; dbresolver's would undo it.
func (rt *router) notice(db *gorm.DB) bool {
	if db.Callback().Create().Get(clauseName) != nil {
		rt.saidUndone.Do(func() { rt.config.Logger.Error("replicated: routing is undone", "error", errDBResolver) })
	}
	return true
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
		rt.config.Logger.Warn("replicated: gorm.io/sharding is in use, so GORM begins no transaction around "+
			"single writes, as with that plugin alone: set SkipDefaultTransaction to say so, and use db.Transaction",
			"plugin", sharding)
	})
	return true
}

// settle settles, by a clause, where one statement runs, and those that GORM derives from it. The pool
// carries it to preloads, hooks and Begin, where clauses get lost; the clause tells the statement itself
// from those derived from it.
func (rt *router) settle(stmt *gorm.Statement, i Intent) {
	if !rt.initialized.Load() {
		return
	}
	if rt.index() != nil { // Use, which may follow, looks for these
		stmt.Settings.Delete(writeName)
		stmt.Settings.Delete(readName)
	}
	rt.pin(stmt, i)
}

func (rt *router) pin(stmt *gorm.Statement, i Intent) {
	if !rt.initialized.Load() {
		return
	}
	stmt.Clauses[pluginName] = clause.Clause{Expression: i}
	rt.carry(stmt, direct, choose(i))
}

// carry gives a statement that is not bound a pool with this clause, of the group that it is about: Begin and
// Connection take it from there.
func (rt *router) carry(stmt *gorm.Statement, from origin, c choice) {
	was, prepared, wrapped := rt.poolOf(stmt)
	if was == nil {
		return
	}
	g := rt.orGlobal(rt.groupOf(stmt))
	own := rt.pool(pool{group: g, origin: from, clause: c, prepared: prepared})
	if own.choose(stmt, wrapped); wrapped {
		return
	}
	var carried gorm.ConnPool = own
	if _, statements := unwrap(stmt.DB.ConnPool); statements != nil {
		carried = rt.judged(g.cluster.Masters[0], carried) // what is prepared through here runs there
	}
	// GORM goes back to the configured pool after a write and in Session{PrepareStmt: true}: that has to be this
	// one, too, in a configuration of this statement's own.
	config := *stmt.DB.Config
	config.ConnPool = carried
	stmt.DB.Config = &config
}

// errDBResolver says how to move over.
var errDBResolver = errors.New("dbresolver is registered on the same *gorm.DB, " +
	"and would move statements too: " +
	"remove db.Use(dbresolver.Register(…)), give its Replicas to Config.Slaves, its Sources to Config.Masters " +
	"and its Policy to Config.Policy, " +
	"what it registers for single tables to Plugin.Register, " +
	"and set Config.DefaultIntent to Slave to go on reading from slaves outside of requests")

func usesDBResolver(db *gorm.DB) bool {
	for _, plugin := range db.Plugins {
		if _, ok := plugin.(*dbresolver.DBResolver); ok {
			return true
		}
	}
	return false
}
