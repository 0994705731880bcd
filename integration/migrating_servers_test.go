package integration

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"gorm.io/driver/mysql"
	"gorm.io/driver/postgres"
	"gorm.io/gorm"
	"gorm.io/gorm/logger"
	"gorm.io/plugin/dbresolver"

	"github.com/gorm-replicated/replicated"
	"github.com/gorm-replicated/replicated/integration/servers"
)

// dbrEngine is a kind of server on which TestMigratingFromDBResolver runs.
type dbrEngine struct {
	name   string
	start  func(context.Context, servers.Config) (*servers.Cluster, error)
	config servers.Config
	open   func(dsn string) gorm.Dialector
	grant  string   // what an administrator does for a database of the ordinary account's, by its name
	schema []string // what is in each; %s is the server's name
}

// dbrBinlogSchema is what both MariaDB and MySQL have.
var dbrBinlogSchema = []string{
	"CREATE FUNCTION f() RETURNS VARCHAR(40) DETERMINISTIC NO SQL RETURN '%s'",
	"CREATE PROCEDURE sign(IN t VARCHAR(80)) INSERT INTO pets (name, note) VALUES ('sign', t)",
	"CREATE FUNCTION signs(t VARCHAR(80)) RETURNS INT MODIFIES SQL DATA " +
		"BEGIN INSERT INTO pets (name, note) VALUES ('signs', t); RETURN 1; END",
}

var dbrEngines = []*dbrEngine{
	{
		name: "MariaDB", start: servers.StartMariaDB, open: mysql.Open,
		config: servers.Config{MasterOptions: []string{"--log-bin-trust-function-creators=ON"}},
		grant:  "GRANT ALL ON %s.* TO test@'%%'",
		schema: append([]string{"CREATE SEQUENCE numbers"}, dbrBinlogSchema...),
	},
	{
		name: "MySQL", start: servers.StartMySQL, open: mysql.Open,
		config: servers.Config{MasterOptions: []string{"--log-bin-trust-function-creators=ON"}},
		grant:  "GRANT ALL ON %s.* TO test@'%%'",
		schema: dbrBinlogSchema,
	},
	{
		name: "PostgreSQL", start: servers.StartPostgreSQL, open: postgres.Open,
		grant: "ALTER DATABASE %s OWNER TO test",
		schema: []string{
			"CREATE SEQUENCE numbers",
			"CREATE FUNCTION f() RETURNS text LANGUAGE sql AS $$ SELECT '%s'::text $$",
			"CREATE PROCEDURE sign(t text) LANGUAGE sql AS $$ INSERT INTO pets (name, note) VALUES ('sign', t) $$",
			"CREATE FUNCTION signs(t text) RETURNS int LANGUAGE sql AS " +
				"$$ INSERT INTO pets (name, note) VALUES ('signs', t); SELECT 1 $$",
		},
	},
}

// The servers of the cases, named by what they are in the first program of dbresolver's README. There they
// are db1 to db8.
var (
	dbrMasters = []string{"own", "source", "orders_source_1", "orders_source_2"}
	dbrSlaves  = []string{"replica_1", "replica_2", "users_replica", "orders_replica"}
	dbrTables  = []string{"pets", "users", "orders", "products"}
)

// The models of the cases. Every table has one row, with the id 1, that names its server; what the cases
// write bears their mark in its note.
type (
	DBRRow struct {
		ID   int64
		Name string
		Note string
	}
	DBRPet  struct{ DBRRow }
	DBRUser struct {
		DBRRow
		Orders []DBROrder `gorm:"foreignKey:UserID"`
	}
	DBROrder struct {
		DBRRow
		UserID *int64
		User   *DBRUser
	}
	DBRProduct struct{ DBRRow }
	// DBRReport is something to read into.
	DBRReport struct{ Name string }
	// DBRPart is of a table that is not there yet.
	DBRPart struct{ DBRRow }
)

func (DBRPet) TableName() string     { return "pets" }
func (DBRUser) TableName() string    { return "users" }
func (DBROrder) TableName() string   { return "orders" }
func (DBRProduct) TableName() string { return "products" }
func (DBRPart) TableName() string    { return "parts" }

func (r DBRRow) from() string    { return r.Name }
func (r DBRReport) from() string { return r.Name }

// dbrAnswer is a row that tells which server it is from.
type dbrAnswer interface{ from() string }

// dbrServers are the servers of the cases. They do not replicate from each other: a read tells by what it
// finds where it was, as in dbresolver's own tests, and a slave is as far behind as can be. Each is a
// database of its own, and neither plugin sees more of it. The databases of the masters are on one real
// server, those of the slaves on another.
type dbrServers struct {
	engine *dbrEngine
	dsn    map[string]string
	real   []*servers.Server
	direct map[string]*sql.DB // past the plugins
}

func startDBRServers(t *testing.T, e *dbrEngine) *dbrServers {
	t.Helper()
	s := &dbrServers{engine: e, dsn: map[string]string{}, direct: map[string]*sql.DB{}}
	sides := [][]string{dbrMasters, dbrSlaves}
	clusters, errs := make([]*servers.Cluster, len(sides)), make([]error, len(sides))
	var starting sync.WaitGroup
	for i := range sides {
		starting.Go(func() { clusters[i], errs[i] = e.start(t.Context(), e.config) })
	}
	starting.Wait()
	for _, c := range clusters {
		if c != nil {
			t.Cleanup(func() {
				if err := c.Close(); err != nil {
					t.Error(err)
				}
			})
		}
	}
	servers.Check(t, errors.Join(errs...))
	for i, names := range sides {
		real := clusters[i].Master
		s.real = append(s.real, real)
		for _, name := range names {
			for _, q := range []string{"CREATE DATABASE " + name, fmt.Sprintf(e.grant, name)} {
				if _, err := real.DB().Exec(q); err != nil {
					t.Fatal(q, err)
				}
			}
			s.dsn[name] = strings.Replace(real.DSN(), "/test?", "/"+name+"?", 1)
			s.stock(t, name)
		}
	}
	return s
}

// stock makes the tables of a server.
func (s *dbrServers) stock(t *testing.T, name string) {
	t.Helper()
	db := s.plain(t, name)
	var err error
	if s.direct[name], err = db.DB(); err != nil {
		t.Fatal(err)
	}
	id := map[string]string{"mysql": "BIGINT AUTO_INCREMENT", "postgres": "BIGSERIAL"}[db.Name()]
	var statements []string
	for _, table := range dbrTables {
		statements = append(statements,
			fmt.Sprintf("CREATE TABLE %s (id %s PRIMARY KEY, name VARCHAR(40), note VARCHAR(80), user_id BIGINT)",
				table, id),
			fmt.Sprintf("INSERT INTO %s (name, note, user_id) VALUES ('%s', '', 1)", table, name))
	}
	for _, q := range append(statements, s.engine.schema...) {
		if strings.Contains(q, "%s") {
			q = fmt.Sprintf(q, name)
		}
		if _, err := s.direct[name].Exec(q); err != nil {
			t.Fatal(q, err)
		}
	}
}

// plain opens a server without a plugin.
func (s *dbrServers) plain(t *testing.T, name string) *gorm.DB {
	t.Helper()
	db, err := gorm.Open(s.engine.open(s.dsn[name]), &gorm.Config{Logger: logger.Discard})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeDB(db) })
	return db
}

// names returns all servers.
func (s *dbrServers) names() []string { return slices.Concat(dbrMasters, dbrSlaves) }

// where returns the servers on which the query, past the plugins, counts anything.
func (s *dbrServers) where(t *testing.T, query string, args ...any) (found []string) {
	t.Helper()
	for _, name := range s.names() {
		var n int
		if err := s.direct[name].QueryRow(query, args...).Scan(&n); err != nil {
			t.Fatal(query, err)
		}
		if n > 0 {
			found = append(found, name)
		}
	}
	return found
}

// dbrGroup is a group of servers as an application for dbresolver configures it, and what corresponds to it.
type dbrGroup struct {
	sources, replicas []string
	policy            func() dbresolver.Policy
	pool              replicated.PoolConfig // has no counterpart: dbresolver's limits are one for all
	tables            []any                 // nil: the global group
}

// dbrLayout is a configuration of both.
type dbrLayout struct {
	groups  []dbrGroup
	limit   func(*dbresolver.DBResolver)
	change  func(*replicated.Config)
	dialect string // its name, if not the engine's
	alone   bool   // a case that uses it changes it: every run has one of its own
}

// dialector opens a server.
func (s *dbrServers) dialector(l *dbrLayout, name string) gorm.Dialector {
	d := s.engine.open(s.dsn[name])
	if l.dialect != "" {
		return dbrDialector{d, l.dialect}
	}
	return d
}

// dbrDialector has another name.
type dbrDialector struct {
	gorm.Dialector
	name string
}

func (d dbrDialector) Name() string { return d.name }

// dbrDB is a database with one of the plugins.
type dbrDB struct {
	*gorm.DB
	old *dbresolver.DBResolver // either
	new *replicated.Plugin     // or
	log *dbrLog
}

// open opens the layout with dbresolver, or with the plugin.
func (s *dbrServers) open(t *testing.T, l *dbrLayout, config gorm.Config, withNew bool) dbrDB {
	t.Helper()
	db := dbrDB{log: &dbrLog{}}
	config.Logger = db.log
	var err error
	if db.DB, err = gorm.Open(s.dialector(l, "own"), &config); err != nil {
		t.Fatal(err)
	}
	own, err := db.DB.DB()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { own.Close() })
	if withNew {
		db.new = s.replicated(l, db.log)
		err = db.Use(db.new)
		t.Cleanup(func() {
			if err := db.new.Close(); err != nil {
				t.Error(err)
			}
			db.closeMasters()
		})
	} else {
		db.old = s.dbresolver(l)
		err = db.Use(db.old)
		t.Cleanup(func() {
			// It has no Close.
			_ = db.old.Call(func(pool gorm.ConnPool) error { return pool.(*sql.DB).Close() })
		})
	}
	if err != nil {
		t.Fatal(err)
	}
	return db
}

// closeMasters closes what the plugin leaves open: the masters, as far as an application gets hold of them.
func (db dbrDB) closeMasters() {
	closeDB(db.DB)
	for _, g := range db.new.Status().Groups {
		closeDB(db.Clauses(dbresolver.Use(g.Name)))
	}
}

func (s *dbrServers) dbresolver(l *dbrLayout) *dbresolver.DBResolver {
	dr := &dbresolver.DBResolver{}
	for _, g := range l.groups {
		dr.Register(s.dbresolverConfig(l, g), g.tables...)
	}
	if l.limit != nil {
		l.limit(dr)
	}
	return dr
}

func (s *dbrServers) dbresolverConfig(l *dbrLayout, g dbrGroup) dbresolver.Config {
	config := dbresolver.Config{TraceResolverMode: true}
	for _, name := range g.sources {
		config.Sources = append(config.Sources, s.dialector(l, name))
	}
	for _, name := range g.replicas {
		config.Replicas = append(config.Replicas, s.dialector(l, name))
	}
	if g.policy != nil {
		config.Policy = g.policy()
	}
	return config
}

func (s *dbrServers) replicated(l *dbrLayout, log *dbrLog) *replicated.Plugin {
	config := replicated.Config{DefaultIntent: replicated.Slave, Observer: log,
		Logger: slog.New(slog.DiscardHandler)}
	config.Probe.Interval = -1 // these slaves replicate nothing: watched, none would be read
	var groups []dbrGroup
	for _, g := range l.groups {
		if g.tables == nil {
			r := s.replicatedGroup(l, g)
			config.Masters, config.Slaves, config.Policy, config.Pool = r.Masters, r.Slaves, r.Policy, r.Pool
		} else {
			groups = append(groups, g)
		}
	}
	if l.change != nil {
		l.change(&config)
	}
	p := replicated.New(config)
	for _, g := range groups {
		p.Register(s.replicatedGroup(l, g), g.tables...)
	}
	return p
}

func (s *dbrServers) replicatedGroup(l *dbrLayout, g dbrGroup) replicated.Group {
	group := replicated.Group{Pool: g.pool}
	server := func(name string) gorm.Dialector {
		return replicated.Server{Dialector: s.dialector(l, name), ID: name}
	}
	for _, name := range g.sources {
		group.Masters = append(group.Masters, server(name))
	}
	for _, name := range g.replicas {
		group.Slaves = append(group.Slaves, server(name))
	}
	if g.policy != nil {
		group.Policy = g.policy()
	}
	return group
}

// dbrLog is GORM's logger, and the plugin's Observer. It remembers what it was told since it was asked.
type dbrLog struct {
	mu    sync.Mutex
	lines []string
}

var (
	_ logger.Interface    = (*dbrLog)(nil)
	_ replicated.Observer = (*dbrLog)(nil)
)

func (l *dbrLog) add(line string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, line)
}

func (l *dbrLog) take() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	lines := l.lines
	l.lines = nil
	return lines
}

func (l *dbrLog) LogMode(logger.LogLevel) logger.Interface { return l }

func (l *dbrLog) Info(context.Context, string, ...any) {}

func (l *dbrLog) Warn(context.Context, string, ...any) {}

func (l *dbrLog) Error(_ context.Context, text string, args ...any) {
	l.add(fmt.Sprintf(text, args...))
}

func (l *dbrLog) Trace(_ context.Context, _ time.Time, f func() (string, int64), err error) {
	sql, _ := f()
	if err != nil {
		sql += ": " + err.Error()
	}
	l.add(sql)
}

func (l *dbrLog) Routed(_ context.Context, r replicated.Route) {
	l.add(fmt.Sprintf("(%s: %v, %v, %v)", r.Group, r.Server, r.Intent, r.Reason))
}

// dbrRun is one run of a case, with one of the plugins.
type dbrRun struct {
	dbrDB
	t       *testing.T
	servers *dbrServers
	mark    string // belongs to this run alone
	answers []string
	errs    []error
}

// answer adds to the answers; servers among them may be compared without their numbers.
func (r *dbrRun) answer(words ...string) { r.answers = append(r.answers, words...) }

// saw takes down what a read found, or its error.
func (r *dbrRun) saw(err error, names ...string) {
	if err != nil {
		r.failed(err)
		return
	}
	r.answer(names...)
}

func (r *dbrRun) failed(err error) {
	r.errs = append(r.errs, err)
	switch {
	case errors.Is(err, replicated.ErrWriteOnSlave):
		r.answer("ErrWriteOnSlave")
	case errors.Is(err, gorm.ErrRecordNotFound):
		r.answer("nothing")
	default:
		r.answer("error")
	}
}

// first reads a row of the table of into.
func (r *dbrRun) first(db *gorm.DB, into dbrAnswer) {
	r.saw(db.First(into).Error, dbrFrom(into)...)
}

// dbrFrom returns the server that a row is from, after it has been read.
func dbrFrom(row dbrAnswer) []string { return []string{row.from()} }

// scan reads a server's name by raw SQL.
func (r *dbrRun) scan(db *gorm.DB, query string, args ...any) {
	var name string
	r.saw(db.Raw(query, args...).Scan(&name).Error, name)
}

// wrote looks for the run's mark in a table, and takes down on which servers it is.
func (r *dbrRun) wrote(err error, table string) {
	if err != nil {
		r.failed(err)
		return
	}
	found := r.servers.where(r.t, fmt.Sprintf("SELECT count(*) FROM %s WHERE note = '%s'", table, r.mark))
	if len(found) == 0 {
		r.answer("nowhere")
	}
	r.answer(found...)
	r.clean(table, found...)
}

// clean restores a table on these servers.
func (r *dbrRun) clean(table string, names ...string) {
	for _, name := range names {
		r.execOn(name, fmt.Sprintf("DELETE FROM %s WHERE id > 1", table))
		r.execOn(name, fmt.Sprintf("UPDATE %s SET note = '' WHERE id = 1", table))
	}
}

// plant puts a row with the mark and the id 2 on all servers.
func (r *dbrRun) plant(table string) {
	for _, name := range r.servers.names() {
		r.execOn(name, fmt.Sprintf("INSERT INTO %s (id, name, note) VALUES (2, 'planted', '%s')", table, r.mark))
	}
}

// execOn runs the statement on a server, past the plugins.
func (r *dbrRun) execOn(name, query string) {
	r.t.Helper()
	if _, err := r.servers.direct[name].Exec(query); err != nil {
		r.t.Fatal(query, err)
	}
}

// deleted takes down from which servers the planted row is gone.
func (r *dbrRun) deleted(err error, table string) {
	if err != nil {
		r.failed(err)
		return
	}
	there := r.servers.where(r.t, fmt.Sprintf("SELECT count(*) FROM %s WHERE note = '%s'", table, r.mark))
	for _, name := range r.servers.names() {
		if !slices.Contains(there, name) {
			r.answer(name)
		}
	}
	r.clean(table, there...)
}

// tables takes down on which servers there is a table of this name, and drops it.
func (r *dbrRun) tables(err error, table string) {
	if err != nil {
		r.failed(err)
	}
	schema := map[string]string{"mysql": "DATABASE()", "postgres": "'public'"}[r.Dialector.Name()]
	found := r.servers.where(r.t, fmt.Sprintf("SELECT count(*) FROM information_schema.tables "+
		"WHERE table_name = '%s' AND table_schema IN (%s)", table, schema))
	for _, name := range found {
		r.execOn(name, "DROP TABLE "+table)
	}
	r.answer(found...)
}

// in runs f in a transaction that db begins, and takes down its error.
func (r *dbrRun) in(db *gorm.DB, f func(tx *gorm.DB) error, opts ...*sql.TxOptions) {
	if err := db.Transaction(f, opts...); err != nil {
		r.failed(err)
	}
}

// firstIn is first in a transaction that db begins.
func (r *dbrRun) firstIn(db *gorm.DB, into dbrAnswer, opts ...*sql.TxOptions) {
	r.in(db, func(tx *gorm.DB) error { r.first(tx, into); return nil }, opts...)
}

// pool asks a *sql.DB whose it is.
func (r *dbrRun) pool(sqlDB *sql.DB, err error) {
	var name string
	if err == nil {
		err = sqlDB.QueryRow("SELECT name FROM pets WHERE id = 1").Scan(&name)
	}
	r.saw(err, name)
}

// request has f run for a request, through the plugin's Middleware if there is one.
func (r *dbrRun) request(method string, f func(db *gorm.DB)) {
	var handler http.Handler = http.HandlerFunc(func(_ http.ResponseWriter, request *http.Request) {
		f(r.WithContext(request.Context()))
	})
	if r.new != nil {
		handler = r.new.Middleware(handler)
	}
	handler.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(method, "/", nil))
}

// restore puts back what connects a table's rows.
func (r *dbrRun) restore(table string) {
	for _, name := range r.servers.names() {
		r.execOn(name, fmt.Sprintf("UPDATE %s SET user_id = 1", table))
	}
}

// row is a row with the run's mark.
func (r *dbrRun) row() DBRRow { return DBRRow{Name: "written", Note: r.mark} }

// dbrAll returns the servers that rows are from.
func dbrAll[T dbrAnswer](rows []T) (names []string) {
	for _, row := range rows {
		names = append(names, row.from())
	}
	return names
}

// rows reads names from rows.
func (r *dbrRun) rows(rows *sql.Rows, err error) {
	if err != nil {
		r.failed(err)
		return
	}
	defer rows.Close()
	for rows.Next() {
		var report DBRReport
		r.saw(r.ScanRows(rows, &report), report.Name)
	}
	if err := rows.Err(); err != nil {
		r.failed(err)
	}
}

// connection runs f in db.Connection.
func (r *dbrRun) connection(db *gorm.DB, f func(tx *gorm.DB)) {
	if err := db.Connection(func(tx *gorm.DB) error { f(tx.Session(&gorm.Session{})); return nil }); err != nil {
		r.failed(err)
	}
}

// hook creates a product whose hook reads an order.
func (r *dbrRun) hook(db *gorm.DB) {
	product := DBRHooked{DBRProduct: DBRProduct{r.row()}}
	if err := db.Create(&product).Error; err != nil {
		r.failed(err)
	}
	r.answer(product.seen)
	r.clean("products")
}

// DBRHooked is a product that reads an order when it has been created.
type DBRHooked struct {
	DBRProduct
	seen string
}

func (h *DBRHooked) AfterFind(tx *gorm.DB) error { return h.AfterCreate(tx) }

func (h *DBRHooked) AfterCreate(tx *gorm.DB) error {
	var order DBROrder
	err := tx.Session(&gorm.Session{NewDB: true}).First(&order).Error
	h.seen = order.Name
	return err
}

// different does something n times, and takes down how many answers there are.
func (r *dbrRun) different(n int, do func()) {
	before := r.answers
	r.answers = nil
	for range n {
		do()
	}
	slices.Sort(r.answers)
	r.answers = append(before, fmt.Sprint(len(slices.Compact(r.answers))))
}

// plugin returns either.
func (r *dbrRun) plugin() gorm.Plugin {
	if r.new != nil {
		return r.new
	}
	return r.old
}

// use uses another plugin of the kind for a database of its own.
func (r *dbrRun) use(l *dbrLayout) {
	var plugin gorm.Plugin = r.servers.dbresolver(l)
	if r.new != nil {
		plugin = r.servers.replicated(l, r.log)
	}
	if err := r.servers.plain(r.t, "own").Use(plugin); err != nil {
		r.failed(err)
	}
}

// later registers a group now.
func (r *dbrRun) later(g dbrGroup) {
	l := &dbrLayout{}
	if r.new != nil {
		r.new.Register(r.servers.replicatedGroup(l, g), g.tables...)
	} else {
		r.old.Register(r.servers.dbresolverConfig(l, g), g.tables...)
	}
}

// stats returns the pools' by server.
func (r *dbrRun) stats() map[string]sql.DBStats {
	stats := map[string]sql.DBStats{}
	if r.new == nil {
		err := r.old.Call(func(pool gorm.ConnPool) error {
			var name string
			err := pool.QueryRowContext(r.t.Context(), "SELECT name FROM pets WHERE id = 1").Scan(&name)
			stats[name] = pool.(*sql.DB).Stats()
			return err
		})
		if err != nil {
			r.failed(err)
		}
		return stats
	}
	for _, g := range r.new.Status().Groups {
		for _, server := range g.Servers {
			name := server.ID
			if !slices.Contains(r.servers.names(), name) {
				name = "own" // which has no name but its address
			}
			stats[name] = server.Pool
		}
	}
	return stats
}

// limits takes down how many connections each pool opens at most.
func (r *dbrRun) limits() {
	stats := r.stats()
	for _, name := range slices.Sorted(maps.Keys(stats)) {
		r.answer(fmt.Sprintf("%s:%d", name, stats[name].MaxOpenConnections))
	}
}

// idle takes down whether replica_1 keeps four connections that have been used at once.
func (r *dbrRun) idle() {
	var all []*sql.Rows
	for range 4 {
		rows, err := r.Raw("SELECT name FROM pets").Rows()
		if err != nil {
			r.failed(err)
			continue
		}
		all = append(all, rows)
	}
	for _, rows := range all {
		if err := rows.Close(); err != nil {
			r.failed(err)
		}
	}
	r.answer(fmt.Sprint(r.stats()["replica_1"].Idle >= 4))
}

// atOnce has several goroutines read n pets each, and takes down how many each server gave.
func (r *dbrRun) atOnce(goroutines, n int) {
	var mu sync.Mutex
	seen := map[string]int{}
	read := func() {
		for range n {
			var pet DBRPet
			err := r.First(&pet).Error
			mu.Lock()
			if err != nil {
				r.failed(err)
			}
			seen[pet.Name]++
			mu.Unlock()
		}
	}
	var running sync.WaitGroup
	for range goroutines {
		if r.new != nil {
			running.Go(read)
		} else {
			read()
		}
	}
	running.Wait()
	for _, name := range slices.Sorted(maps.Keys(seen)) {
		r.answer(fmt.Sprintf("%s:%d", name, seen[name]))
	}
}
