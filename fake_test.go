package replicated_test

import (
	"bytes"
	"context"
	"database/sql"
	"database/sql/driver"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"gorm.io/driver/mysql"
	"gorm.io/gorm"
	"gorm.io/gorm/logger"

	"github.com/gorm-replicated/replicated"
)

// named is a dialector under another name.
type named struct {
	gorm.Dialector
	name string
}

func (n named) Name() string { return n.name }

// User is the model of most tests. Every query finds one, whose name is the
// server that answered.
type User struct {
	ID   int64
	Name string
}

// ran is a statement that reached a server.
type ran struct{ server, sql string }

// fake is a database server behind database/sql that remembers what it was
// asked and answers everything with one row. With a nil log it only answers, for benchmarks.
type fake struct {
	name string
	log  *fakeLog
	fail func(sql string) error // answers instead, unless nil

	begin error // of every BEGIN

	// Unless nil, these decide too, and may block until the context ends: about a new connection; about each
	// statement, also while it is prepared, and BEGIN; about a ping.
	connect func(context.Context) error
	run     func(ctx context.Context, sql string) error
	ping    func(context.Context) error
	answer  func(sql string) driver.Rows // instead of the one row, unless it returns nil

	closed   *atomic.Int64 // counts the connections that were closed, unless nil
	prepared *atomic.Int64 // counts the statements that were prepared, unless nil
}

type fakeLog struct {
	mu  sync.Mutex
	ran []ran
}

func (l *fakeLog) add(server, sql string) {
	if l == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ran = append(l.ran, ran{server, sql})
}

// take returns what was run since the last call.
func (l *fakeLog) take() []ran {
	l.mu.Lock()
	defer l.mu.Unlock()
	taken := l.ran
	l.ran = nil
	return taken
}

// servers returns where the statements since the last call ran, BEGIN, COMMIT
// and ROLLBACK left out, in the order of their first statement.
func (l *fakeLog) servers() []string {
	var servers []string
	for _, r := range l.take() {
		if r.sql != "BEGIN" && r.sql != "BEGIN READ ONLY" && r.sql != "COMMIT" && r.sql != "ROLLBACK" &&
			!slices.Contains(servers, r.server) {
			servers = append(servers, r.server)
		}
	}
	return servers
}

func (f *fake) Connect(ctx context.Context) (driver.Conn, error) {
	if f.connect != nil {
		if err := f.connect(ctx); err != nil {
			return nil, err
		}
	}
	return &fakeConn{f}, nil
}

func (f *fake) Driver() driver.Driver            { return f }
func (f *fake) Open(string) (driver.Conn, error) { return f.Connect(context.Background()) }

// fails tells how a statement fails, if it does.
func (f *fake) fails(ctx context.Context, query string) error {
	if f.run != nil {
		if err := f.run(ctx, query); err != nil {
			return err
		}
	}
	if f.fail != nil {
		return f.fail(query)
	}
	return nil
}

type fakeConn struct{ *fake }

func (c *fakeConn) Close() error {
	if c.closed != nil {
		c.closed.Add(1)
	}
	return nil
}

func (c *fakeConn) Begin() (driver.Tx, error)                 { panic("BeginTx is used") }
func (c *fakeConn) Prepare(query string) (driver.Stmt, error) { return &fakeStmt{c, query}, nil }
func (c *fakeConn) CheckNamedValue(*driver.NamedValue) error  { return nil }
func (c *fakeConn) ResetSession(context.Context) error        { return nil }
func (c *fakeConn) Commit() error                             { c.log.add(c.name, "COMMIT"); return nil }
func (c *fakeConn) Rollback() error                           { c.log.add(c.name, "ROLLBACK"); return nil }

func (c *fakeConn) BeginTx(ctx context.Context, opts driver.TxOptions) (driver.Tx, error) {
	if c.begin != nil {
		return nil, c.begin
	}
	begin := "BEGIN"
	if opts.ReadOnly {
		begin = "BEGIN READ ONLY"
	}
	if c.run != nil {
		if err := c.run(ctx, begin); err != nil {
			return nil, err
		}
	}
	c.log.add(c.name, begin)
	return c, nil
}

func (c *fakeConn) Ping(ctx context.Context) error {
	if c.ping != nil {
		return c.ping(ctx)
	}
	return nil
}

func (c *fakeConn) PrepareContext(ctx context.Context, query string) (driver.Stmt, error) {
	if err := c.fails(ctx, query); err != nil {
		return nil, err
	}
	if c.prepared != nil {
		c.prepared.Add(1)
	}
	return &fakeStmt{c, query}, nil
}

func (c *fakeConn) QueryContext(ctx context.Context, query string, _ []driver.NamedValue) (driver.Rows,
	error) {
	if err := c.fails(ctx, query); err != nil {
		return nil, err
	}
	c.log.add(c.name, query)
	if c.answer != nil {
		if rows := c.answer(query); rows != nil {
			return rows, nil
		}
	}
	switch {
	case strings.HasPrefix(query, "SELECT count("):
		return &fakeRows{columns: fakeColumns[:1], row: [2]driver.Value{int64(1)}}, nil
	case strings.HasPrefix(query, "SELECT `name`"):
		return &fakeRows{columns: fakeColumns[1:], row: [2]driver.Value{c.name}}, nil
	}
	return &fakeRows{columns: fakeColumns, row: [2]driver.Value{int64(1), c.name}}, nil
}

func (c *fakeConn) ExecContext(ctx context.Context, query string, _ []driver.NamedValue) (driver.Result,
	error) {
	if err := c.fails(ctx, query); err != nil {
		return nil, err
	}
	c.log.add(c.name, query)
	return fakeResult{}, nil
}

type fakeResult struct{}

func (fakeResult) LastInsertId() (int64, error) { return 1, nil }
func (fakeResult) RowsAffected() (int64, error) { return 1, nil }

type fakeStmt struct {
	conn *fakeConn
	sql  string
}

func (s *fakeStmt) Close() error                               { return nil }
func (s *fakeStmt) NumInput() int                              { return -1 }
func (s *fakeStmt) CheckNamedValue(*driver.NamedValue) error   { return nil }
func (s *fakeStmt) Exec([]driver.Value) (driver.Result, error) { panic("ExecContext is used") }
func (s *fakeStmt) Query([]driver.Value) (driver.Rows, error)  { panic("QueryContext is used") }

func (s *fakeStmt) ExecContext(ctx context.Context, args []driver.NamedValue) (driver.Result, error) {
	return s.conn.ExecContext(ctx, s.sql, args)
}

func (s *fakeStmt) QueryContext(ctx context.Context, args []driver.NamedValue) (driver.Rows, error) {
	return s.conn.QueryContext(ctx, s.sql, args)
}

var fakeColumns = []string{"id", "name"}

type fakeRows struct {
	columns []string
	row     [2]driver.Value
	done    bool
}

func (r *fakeRows) Columns() []string { return r.columns }
func (r *fakeRows) Close() error      { return nil }

func (r *fakeRows) Next(dest []driver.Value) error {
	if r.done {
		return io.EOF
	}
	r.done = true
	copy(dest, r.row[:])
	return nil
}

// routes is an Observer that remembers.
type routes struct {
	mu     sync.Mutex
	routes []replicated.Route
}

func (o *routes) Routed(_ context.Context, r replicated.Route) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.routes = append(o.routes, r)
}

// take returns the routes since the last call, each as "server: reason".
func (o *routes) take() []string {
	o.mu.Lock()
	defer o.mu.Unlock()
	var taken []string
	for _, r := range o.routes {
		taken = append(taken, fmt.Sprintf("%s: %v", r.Server, r.Reason))
	}
	o.routes = nil
	return taken
}

// setup is a *gorm.DB on a fake master with fake slaves, routed by a plugin.
type setup struct {
	db     *gorm.DB
	plugin *replicated.Plugin
	log    *fakeLog
	routes *routes
	master *fake
	slaves []*fake
	raw    *sql.DB // the master's pool
	logged logBuffer
}

// newSetup makes one with the given number of slaves, named slave-1 and so
// on; change may be nil.
func newSetup(t testing.TB, slaves int, gormConfig gorm.Config, change func(*replicated.Config)) *setup {
	t.Helper()
	s := &setup{log: &fakeLog{}, routes: &routes{}}
	s.master = &fake{name: "master", log: s.log}
	s.raw = sql.OpenDB(s.master)
	s.db = openFake(t, s.raw, gormConfig)
	t.Cleanup(func() { s.raw.Close() })

	cfg := replicated.Config{Observer: s.routes}
	for i := range slaves {
		f := &fake{name: fmt.Sprintf("slave-%d", i+1), log: s.log}
		s.slaves = append(s.slaves, f)
		cfg.Slaves = append(cfg.Slaves, dialector(openPool(t, f)))
	}
	if change != nil {
		change(&cfg)
	}
	s.plugin = replicated.New(cfg)
	if err := s.db.Use(s.plugin); err != nil {
		t.Fatalf("Use: %v", err)
	}
	t.Cleanup(func() {
		if err := s.plugin.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return s
}

func openFake(t testing.TB, pool gorm.ConnPool, cfg gorm.Config) *gorm.DB {
	t.Helper()
	return openDialector(t, dialector(pool), cfg)
}

// openDialector gives GORM's caches of statements the one TTL with which they start no goroutine
// (noEvictionTTL of gorm/internal/lru). The goroutine of any other never ends: thousands of them, after some
// rounds of -count.
func openDialector(t testing.TB, d gorm.Dialector, cfg gorm.Config) *gorm.DB {
	t.Helper()
	if cfg.Logger == nil {
		cfg.Logger = logger.Discard
	}
	cfg.PrepareStmtTTL = 10 * 365 * 24 * time.Hour
	db, err := gorm.Open(d, &cfg)
	if err != nil {
		t.Fatalf("gorm.Open: %v", err)
	}
	return db
}

func dialector(pool gorm.ConnPool) gorm.Dialector {
	return mysql.New(mysql.Config{Conn: pool, SkipInitializeWithVersion: true})
}

// modes are the ways to use prepared statements: the same routing in all.
var modes = []struct {
	name    string
	config  gorm.Config
	session *gorm.Session
}{
	{"plain", gorm.Config{}, nil},
	{"PrepareStmt", gorm.Config{PrepareStmt: true}, nil},
	{"PrepareStmt per session", gorm.Config{}, &gorm.Session{PrepareStmt: true}},
	{"PrepareStmt twice", gorm.Config{PrepareStmt: true}, &gorm.Session{PrepareStmt: true}},
	{"SkipDefaultTransaction", gorm.Config{SkipDefaultTransaction: true}, nil},
}

// in returns s's database as a mode uses it, with ctx.
func (s *setup) in(ctx context.Context, session *gorm.Session) *gorm.DB {
	db := s.db.WithContext(ctx)
	if session != nil {
		db = db.Session(session)
	}
	return db
}

// openPool returns a connection pool to f, closed after the test.
func openPool(t testing.TB, f *fake) *sql.DB {
	t.Helper()
	db := sql.OpenDB(f)
	t.Cleanup(func() { db.Close() })
	return db
}

func expect(t testing.TB, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

// logBuffer is a buffer that a log may be written to while a test reads it.
type logBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *logBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}
