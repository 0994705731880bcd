// Package replicated is a GORM plugin that sends the reads of a request to the
// slaves of a database and everything else to its master.
//
//	p := replicated.New(replicated.Config{
//		Slaves:  []gorm.Dialector{mysql.Open(slaveDSN)},
//		Secrets: [][]byte{secret},
//	})
//	if err := db.Use(p); err != nil { … }
//	http.ListenAndServe(addr, p.Middleware(mux))
//
// Handlers take part by using the request's context:
//
//	db.WithContext(r.Context()).Find(&posts)
//
// A GET or HEAD reads from one slave; other methods use the master. A write
// always goes to the master, and from then on the request reads there, too. Its response brings a token: the client's next
// request reads a slave that has replayed the write, or the master. Handlers are marked with
// [UseMaster] and [UseSlave], requests by pattern with [Config].Routes, contexts with [WithMaster] and
// [WithSlave], and single statements with db.Clauses(replicated.Master). An [Observer] is told where each statement
// went, and why.
//
// docs/routing.md has the rules, docs/consistency.md what is promised and why it holds, docs/configuration.md every option.
package replicated

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"
	"gorm.io/plugin/dbresolver"

	"github.com/gorm-replicated/replicated/internal/cluster"
	"github.com/gorm-replicated/replicated/internal/logqueue"
	"github.com/gorm-replicated/replicated/internal/position"
	"github.com/gorm-replicated/replicated/internal/sqlkind"
	"github.com/gorm-replicated/replicated/internal/token"
)

const pluginName = "replicated"

// ErrWriteOnSlave is the error of a write that Config.RejectWrites refused, and of what writes or takes locks
// in a transaction that was begun on a slave. Nothing was executed.
var ErrWriteOnSlave = errors.New("replicated: refused: it writes or takes a lock, and the intent is to read from a slave")

// Plugin routes the statements of one *gorm.DB: give it to db.Use, and wrap
// the HTTP handlers with [Plugin.Middleware]. Make one with [New]. All its methods are safe for
// concurrent use, but db.Use, as every use of GORM's callbacks, must not run beside queries.
type Plugin struct {
	// What every statement looks at stands first and together: in a real program it comes from memory, not
	// from the nearest cache. But for the atomics all is immutable after Initialize.
	rootStmts   *gorm.PreparedStmtDB // those of the *gorm.DB, if there are any
	root        *pool                // what is inside them, or else in the *gorm.DB itself
	prepared    *pool                // its counterpart for what is prepared
	auto        atomic.Bool          // AutoReadOnSlave
	shadow      atomic.Bool
	wrapped     atomic.Bool // a pool of another plugin was seen around one of ours
	initialized atomic.Bool
	rejects     bool // RejectWrites
	locksShow   bool // in the SQL: SQLite's dialector leaves clause.Locking out
	fallback    Intent
	dialect     sqlkind.Dialect
	kinds       atomic.Pointer[sqlkind.Cache]
	names       atomic.Pointer[index] // nil while there is one group
	timeout     time.Duration         // Failover.SlaveTimeout
	base        time.Time
	watches     sync.Pool // of *watch
	observer    Observer
	groups      []*group // the global one first

	own         gorm.ConnPool // the pool that sessions made before db.Use still carry; nil if it cannot be recognised
	routes      *matcher
	sealer      *token.Sealer // nil without Secrets
	tokens      tokens
	marks       atomic.Bool // some group has
	probes      bool        // the configuration asks for it, see ProbeConfig
	callbacks   any         // of the *gorm.DB
	dialectName string
	config      Config          // its Logger is that of log
	log         *logqueue.Queue // to the Logger of the configuration
	notices     *slog.Logger    // of the monitor, which waits for nobody
	parse       func(model any) (table string, err error)

	ownServer *cluster.Server // of the connection of the *gorm.DB

	settings      sync.Mutex // held by setUsual
	policies      sync.Mutex // see group
	unknown       names      // in dbresolver.Use, that nobody registered
	initializing  sync.Mutex
	registered    []registration
	withoutIntent atomic.Uint64
	replans       atomic.Uint64 // see another
	warned        sync.Once     // of dbresolver
	saidWrapped   sync.Once
	saidSharding  sync.Once
}

var (
	_ gorm.Plugin            = (*Plugin)(nil)
	_ clause.Expression      = Master
	_ gorm.StatementModifier = Master
)

// New returns a plugin for db.Use. Mistakes in cfg are reported there.
func New(cfg Config) *Plugin {
	probes := len(cfg.Secrets) > 0 || cfg.MaxLag > 0 || cfg.Probe.Interval > 0 || cfg.Probe.Source != nil
	cfg = cfg.normalised()
	p := &Plugin{probes: probes, config: cfg, rejects: cfg.RejectWrites, fallback: cfg.DefaultIntent, observer: cfg.Observer, timeout: cfg.Failover.SlaveTimeout, base: time.Now()}
	p.log = logqueue.New(cfg.Logger.Handler())
	p.config.Logger, p.notices = p.log.Logger(), p.log.Notices()
	p.watches.New = newWatch
	p.auto.Store(*cfg.AutoReadOnSlave)
	return p
}

// From returns the plugin that db uses, or nil.
func From(db *gorm.DB) *Plugin {
	if db == nil || db.Config == nil {
		return nil
	}
	p, _ := db.Plugins[pluginName].(*Plugin)
	return p
}

// Name returns "replicated".
func (p *Plugin) Name() string { return pluginName }

// SetAutoReadOnSlave turns AutoReadOnSlave on or off. Statements that start
// after it returns see the change, also those of requests that already run.
func (p *Plugin) SetAutoReadOnSlave(on bool) {
	p.auto.Store(on)
	p.setUsual()
}

// SetShadow turns shadow mode on or off: everything runs on the master, whatever is marked, while [Observer] and [Status] report what would have
// run on which slave. The slaves stay open and watched. It is for a careful roll-out, and for a night on which slaves must not be read.
// Transactions that have begun stay where they are. Off at first.
func (p *Plugin) SetShadow(on bool) {
	p.shadow.Store(on)
	p.setUsual()
}

// setUsual notes whether there is a usual way at all, after something has changed that matters for it.
func (p *Plugin) setUsual() {
	if !p.initialized.Load() {
		return // it will be called then
	}
	p.settings.Lock()
	defer p.settings.Unlock()
	var kinds *sqlkind.Cache
	// With SQLite a callback has to look for clauses that the text will not have: it goes without.
	if p.auto.Load() && !p.shadow.Load() && !p.wrapped.Load() &&
		p.index() == nil && !p.config.Token.Monotonic && p.locksShow {
		kinds = p.kinds.Load()
	}
	p.root.short.Store(kinds)
	p.prepared.short.Store(kinds)
}

// now is a time that costs half of what time.Now does.
func (p *Plugin) now() time.Duration { return time.Since(p.base) }

// Initialize is called by db.Use. It opens the slaves, waits for the first answers of those that it watches, in 2 seconds for all of that, and registers the
// callbacks. It reports every mistake in the configuration at once; after an error nothing is left
// registered or open. A plugin serves one *gorm.DB: a second call is an error.
func (p *Plugin) Initialize(db *gorm.DB) error {
	p.initializing.Lock()
	defer p.initializing.Unlock()
	if p.initialized.Load() && db.Plugins[pluginName] == gorm.Plugin(p) && p.callbacks != any(db.Callback()) {
		// gorm.Open with a copy of our database's gorm.Config brings us along. That is how
		// dbresolver opens its replicas; notice tells of it.
		return nil
	}
	if err := p.initialize(db, time.Now().Add(cluster.OpenTimeout)); err != nil {
		return fmt.Errorf("replicated: %w", err)
	}
	p.initialized.Store(true)
	p.setUsual()
	return nil
}

func (p *Plugin) initialize(db *gorm.DB, deadline time.Time) error {
	if p.initialized.Load() {
		return errors.New("this plugin is already in use; make another with New for another *gorm.DB")
	}
	if usesDBResolver(db) {
		return errDBResolver
	}
	routes, mistakes := p.config.validate()
	p.sealer = p.config.sealer(append([]registration{{group: p.config.group()}}, p.registered...), &mistakes)
	own, statements := unwrap(db.ConnPool)
	if _, ok := own.(*pool); ok {
		return errors.New("another plugin of this package already routes this *gorm.DB")
	}
	p.parse = parser(db)
	groups, index, err := p.openGroups(db, own, mistakes)
	if err != nil {
		return err
	}

	p.dialectName = db.Dialector.Name()
	p.dialect = sqlkind.DialectOf(p.dialectName)
	p.locksShow = p.dialect == sqlkind.MySQL || p.dialect == sqlkind.PostgreSQL
	p.groups = groups
	p.watch(index)
	p.own, p.routes, p.callbacks = recognisable(own), routes, db.Callback()
	if err := p.register(db); err != nil {
		p.abandonGroups()
		return err
	}
	p.relate()
	p.grant()
	p.monitor(deadline)
	p.root, p.prepared, p.rootStmts = groups[0].pool(noPin, false, false), groups[0].pool(noPin, true, false), statements
	if statements == nil {
		if db.Statement != nil {
			if _, tx := db.Statement.ConnPool.(gorm.TxCommitter); !tx {
				db.Statement.ConnPool = p.root
			}
		}
		db.ConnPool = p.root
	} else {
		// PostgreSQL's Migrator looks for GORM's type: ours goes inside.
		p.adopt(statements)
		statements.ConnPool = p.root
	}
	p.judgeStatements(db)
	p.tellOfShards(db)
	return nil
}

// monitor begins to watch the servers, and waits until the deadline for what they say first.
func (p *Plugin) monitor(deadline time.Time) {
	ctx, cancel := context.WithDeadline(context.Background(), deadline)
	defer cancel()
	var known position.Source
	if p.config.Probe.Source != nil {
		known = source{p.config.Probe.Source}
	}
	var watched []*group
	for _, g := range p.groups {
		none := p.unwatched(g)
		g.unwatched = none.Reason
		if none.Remedy != "" && g.hasSlaves() {
			p.warnNoPositions(g, g.cluster.Masters[0], none.Reason, none.Remedy)
		}
		g.cluster.Watch(cluster.Monitoring{
			Blind: g.unwatched != "", Dialect: p.dialectName, Source: known,
			Interval: p.config.Probe.Interval, MinInterval: p.config.Probe.MinInterval, MaxLag: g.maxLag,
			Notice: func(s *cluster.Server, in bool, reason, remedy string) {
				log := p.notices.With("group", g.name, "server", s.ID)
				switch {
				case in && s.Slave:
					log.Info("replicated: a slave is read")
				case in:
					log.Info("replicated: the master answers again")
				case s.Slave:
					why := []any{"reason", reason}
					if remedy != "" {
						why = append(why, "remedy", remedy)
					}
					log.Warn("replicated: a slave is not read", why...)
				default:
					log.Warn("replicated: the master cannot be asked how far it is: the lag of slaves stands still, and tokens carry a time", "reason", reason)
				}
			},
			NoPositions: func(s *cluster.Server, reason, remedy string) {
				p.warnNoPositions(g, s, reason, remedy)
			},
			Writable: func(s *cluster.Server) {
				p.notices.Warn("replicated: a slave takes writes: run it with read_only, so that none can go astray",
					"group", g.name, "server", s.ID)
			},
		})
		watched = append(watched, g)
		if p.marks.Load() && !slices.ContainsFunc(g.related, (*group).hasSlaves) {
			g.askMasters() // it may be on the master of another one: see shares
		}
	}
	for _, g := range watched {
		g.cluster.AwaitFirst(ctx)
	}
	p.log.Flush(ctx) // whoever waited for the first answers finds in the log what they were
}

// warnNoPositions says that g has no positions, and what mends it: once, see cluster.Monitoring.
func (p *Plugin) warnNoPositions(g *group, s *cluster.Server, reason, remedy string) {
	g.saidNoPositions.Store(true)
	p.notices.Warn("replicated: a group has no positions: the lag of its slaves is not known, "+
		"MaxLag has no effect, and tokens carry a time",
		"group", g.name, "server", s.ID, "reason", reason, "remedy", remedy)
}

// unwatched tells why the servers of g are not asked for anything, "" if they are: see ProbeConfig. There is
// a remedy where that is not the configuration's own choice.
func (p *Plugin) unwatched(g *group) position.Reading {
	none, known := position.ByDialect(p.dialectName)
	switch {
	case p.config.Probe.Interval < 0:
		return position.Reading{Reason: "Probe.Interval is negative"}
	case p.config.Probe.Source == nil && !known:
		return none
	case !p.probes && !g.cluster.Watchable():
		return position.Reading{
			Reason: "a connection pool was brought ready-made: set Probe.Interval to have it watched",
		}
	}
	return position.Reading{}
}

// masterID names the *gorm.DB's own server by its address, or else "master", unless one of the others
// has that name: two databases of one server have one address.
func masterID(d gorm.Dialector, others []cluster.Spec) string {
	taken := func(id string) bool {
		return id == "" || slices.ContainsFunc(others, func(s cluster.Spec) bool { return s.ID == id })
	}
	id := cluster.Address(d)
	for n := 1; taken(id); n++ {
		if id = "master"; n > 1 {
			id = fmt.Sprintf("master-%d", n)
		}
	}
	return id
}

// Close closes the connection pools of the slaves, and waits for the queries
// that run on them. From then on everything runs on the masters, whose pools stay open, and tokens carry a time. Closing
// twice, or before Initialize, does nothing.
func (p *Plugin) Close() error {
	if !p.initialized.Load() {
		return nil
	}
	return p.closeGroups()
}

func (p *Plugin) closeGroups() error {
	errs := make([]error, len(p.groups))
	for i, g := range p.groups {
		errs[i] = g.cluster.Close()
	}
	return errors.Join(errs...)
}

// abandonGroups closes what Initialize has opened, and nothing that was open before.
func (p *Plugin) abandonGroups() {
	for _, g := range p.groups {
		g.cluster.Abandon()
	}
}

// errDBResolver says how to move over.
var errDBResolver = errors.New("dbresolver is registered on the same *gorm.DB, and would move statements too: " +
	"remove db.Use(dbresolver.Register(…)), give its Replicas to Config.Slaves, its Sources to Config.Masters and its Policy to Config.Policy, " +
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

const (
	routeName  = pluginName + ":route"
	settleName = pluginName + ":settle"
	// dbresolver's clauses call the query callback of this name; its plugin gives it to all of its callbacks.
	clauseName = "gorm:db_resolver"
	usingName  = clauseName + ":using" // of the clause dbresolver.Use
	writeName  = clauseName + ":write" // of the settings that its Write and Read make
	readName   = clauseName + ":read"
)

func (p *Plugin) register(db *gorm.DB) error {
	cb := db.Callback()
	errs := []error{
		cb.Create().Before("*").Register(routeName, p.routeWrite),
		cb.Update().Before("*").Register(routeName, p.routeWrite),
		cb.Delete().Before("*").Register(routeName, p.routeWrite),
		cb.Query().Match(p.notice).Before("*").Register(clauseName, p.routeQuery),
		cb.Row().Before("*").Register(routeName, p.routeRead),
		cb.Raw().Before("*").Register(routeName, p.routeRead),

		cb.Create().After("*").Register(settleName, p.settleWrite),
		cb.Update().After("*").Register(settleName, p.settleWrite),
		cb.Delete().After("*").Register(settleName, p.settleWrite),
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

// routeRead runs before queries, rows and raw SQL: what is not bound gets a
// pool that decides when it sees the final SQL.
func (p *Plugin) routeRead(db *gorm.DB) {
	stmt := db.Statement
	if stmt.RaiseErrorOnNotFound || stmt.SQL.Len() > 0 { // First, Take, Last and raw SQL: nothing but the text matters
		switch c := stmt.ConnPool.(type) {
		case *pool:
			if c.plugin == p && c.short.Load() != nil {
				return
			}
		case *gorm.PreparedStmtDB:
			if c == p.rootStmts && p.prepared.short.Load() != nil {
				stmt.ConnPool = p.prepared
				return
			}
		}
	}
	c, prepared := p.ours(stmt.ConnPool)
	wrapped := false
	if c == nil {
		if c = p.within(stmt); c == nil {
			p.boundRead(db)
			return
		}
		wrapped, prepared = true, c.prepared
	}
	g, on := c.follow(p.groupOf(stmt))
	pin := c.pin.next(stmt)
	if asked := clauseOf(stmt); wrapped && asked != undecided { // its pool does not carry the clause
		pin = pinOf(asked).next(stmt)
	}
	built := stmt.SQL.Len() == 0
	if built && pin != masterPin && !(stmt.RaiseErrorOnNotFound && p.locksShow) { // First, Take and Last need no look
		switch {
		case isFirstOr(stmt):
			pin = firstOrPin
		case isColumnTypes(stmt):
			pin = catalogPin
		case !p.locksShow && isLocking(stmt):
			pin = lockingPin
		}
	}
	g.poolOn(on, pin, prepared, built && p.dialect == sqlkind.Other).choose(stmt, wrapped)
}

// routeWrite runs before creates, updates and deletes, and before the
// transaction that GORM wraps around them.
func (p *Plugin) routeWrite(db *gorm.DB) {
	if db.Error != nil {
		return
	}
	stmt := db.Statement
	p.keepShards(db)
	c, prepared := p.ours(stmt.ConnPool)
	wrapped := false
	if c == nil {
		if c = p.within(stmt); c != nil {
			wrapped, prepared = true, c.prepared
		}
	}
	g := p.orGlobal(p.groupOf(stmt))
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
	_, memory := p.ask(stmt.Context, g, &q)
	if p.refuses(&q) {
		_ = db.AddError(ErrWriteOnSlave)
		return
	}
	if p.rejects && asked == chooseMaster {
		stmt.Context = WithMaster(stmt.Context) // it holds for associations and hooks, which do not inherit the clause
	}
	if c == nil {
		if tx, _ := slaveTxOf(stmt.ConnPool); tx != nil {
			_ = db.AddError(ErrWriteOnSlave)
			return
		}
		p.markTable(stmt)
		if len(p.groups) > 1 {
			_, master := p.boundTo(stmt.ConnPool)
			p.misplaced(p.tableGroup(stmt), master)
		}
		p.reportBound(db, nil)
		p.ownStatements(stmt)
		stmt.ConnPool = admitted(stmt.ConnPool)
		if _, tx := stmt.ConnPool.(gorm.TxCommitter); !tx && !db.SkipDefaultTransaction {
			stmt.Settings.Store(connKey{}, stmt.ConnPool)
		}
		return
	}
	p.markTable(stmt)
	_, on := c.follow(g)
	if on == nil && g.several() {
		on = g.master(memory) // all that the write brings about stays there
	}
	pin := writePin
	if db.SkipDefaultTransaction {
		pin = barePin
	}
	g.poolOn(on, pin, prepared, false).choose(stmt, wrapped)
	if p.observer != nil {
		q.hasSlaves = g.hasSlaves()
		_, reason := resolve(&q)
		p.observer.Routed(stmt.Context, Route{Group: g.name, Server: cmp.Or(on, g.cluster.Masters[0]).ID, Intent: Master, Reason: reason})
	}
}

// connKey is the setting under which a write remembers the connection that
// it is bound to.
type connKey struct{}

// settleWrite runs after creates, updates and deletes. When GORM ends the
// transaction around one, it resets the statement to the pool of the *gorm.DB, which would take
// the rest of a db.Connection block off its connection.
func (p *Plugin) settleWrite(db *gorm.DB) {
	if db.SkipDefaultTransaction || recognisable(db.ConnPool) == nil || db.Statement.ConnPool != db.ConnPool {
		return
	}
	if conn, ok := db.Statement.Settings.LoadAndDelete(connKey{}); ok {
		db.Statement.ConnPool = conn.(gorm.ConnPool)
	}
}

// notice is called whenever somebody registers a callback for queries: GORM
// asks then which of them apply. Ours always does; dbresolver's would undo it.
func (p *Plugin) notice(db *gorm.DB) bool {
	if db.Callback().Create().Get(clauseName) != nil {
		p.warned.Do(func() { p.config.Logger.Error("replicated: routing is undone", "error", errDBResolver) })
	}
	return true
}

// pin settles the question for one statement and for those that GORM derives
// from it. The pool carries it to preloads, hooks and Begin, where clauses get lost; the clause
// tells the statement itself from those derived from it.
func (p *Plugin) pin(stmt *gorm.Statement, i Intent) {
	if !p.initialized.Load() {
		return
	}
	stmt.Clauses[pluginName] = clause.Clause{Expression: i}
	p.carry(stmt, pinOf(choose(i)))
}

// markTable remembers that a session has written to the table of a create, update or delete.
func (p *Plugin) markTable(stmt *gorm.Statement) {
	session := lookup(stmt.Context).remembers(p)
	if session == nil {
		return
	}
	session.markWritten(p.orGlobal(p.tableGroup(stmt)))
	if stmt.TableExpr != nil && p.index() != nil { // "users AS u, orders AS o"
		tables := p.kinds.Load().Look("TABLE " + stmt.TableExpr.SQL).Tables
		p.mark(stmt.Context, judgement{writes, false, tables}, nil)
	}
}

// carry gives a statement that is not bound the pool with this pin, of the group that it is about: Begin and Connection
// take it from there.
func (p *Plugin) carry(stmt *gorm.Statement, to pin) {
	c, prepared := p.ours(stmt.ConnPool)
	if c == nil {
		if c = p.within(stmt); c != nil {
			p.orGlobal(p.groupOf(stmt)).pool(to, c.prepared, false).choose(stmt, true)
		}
		return
	}
	g := p.orGlobal(p.groupOf(stmt))
	own := g.pool(to, prepared, false)
	own.choose(stmt, false)
	var pinned gorm.ConnPool = own
	if _, statements := unwrap(stmt.DB.ConnPool); statements != nil {
		pinned = p.judged(g.cluster.Masters[0], pinned) // what is prepared through here runs there
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

// routeQuery runs before queries. It is also what db.Clauses(dbresolver.Write),
// Read and Use end up in, which call it by its name before there is anything to build.
func (p *Plugin) routeQuery(db *gorm.DB) {
	stmt := db.Statement
	if len(stmt.BuildClauses) > 0 {
		p.routeRead(db)
	} else if _, ok := stmt.Settings.Load(writeName); ok {
		p.pin(stmt, Master)
	} else if _, ok := stmt.Settings.Load(readName); ok {
		p.pin(stmt, Slave)
	} else if c, _ := p.ours(stmt.ConnPool); c != nil { // Use
		p.carry(stmt, c.pin)
	} else if c := p.within(stmt); c != nil {
		p.carry(stmt, c.pin)
	}
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
