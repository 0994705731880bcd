package replicated_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	driversql "github.com/go-sql-driver/mysql"
	"gorm.io/gorm"
	"gorm.io/gorm/clause"
	"gorm.io/plugin/dbresolver"

	"github.com/gorm-replicated/replicated"
)

var errRefused = &net.OpError{Op: "dial", Net: "tcp",
	Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}

var errReset = &net.OpError{Op: "read", Net: "tcp", Err: syscall.ECONNRESET}

func mysqlError(n uint16) error {
	return &driversql.MySQLError{Number: n, Message: "as the server says"}
}

// sqlState is an error as drivers of PostgreSQL have it.
type sqlState string

func (s sqlState) Error() string    { return "SQLSTATE " + string(s) }
func (s sqlState) SQLState() string { return string(s) }

// postgresFake is a dialector that goes for PostgreSQL's.
type postgresFake struct{ gorm.Dialector }

func (postgresFake) Name() string { return "postgres" }

func (postgresFake) QuoteTo(w clause.Writer, name string) {
	_, _ = w.WriteString(`"` + strings.ReplaceAll(name, ".", `"."`) + `"`)
}

func (postgresFake) BindVarTo(w clause.Writer, stmt *gorm.Statement, _ any) {
	_, _ = w.WriteString(fmt.Sprintf("$%d", len(stmt.Vars)))
}

// inOrder is a policy that takes the first of those that may serve.
var inOrder = dbresolver.PolicyFunc(func(pools []gorm.ConnPool) gorm.ConnPool { return pools[0] })

// dying has f fail with err, from the first statement on that contains from, while it is switched on.
func (f *fake) dying(err error, from string) *atomic.Bool {
	on, dead := new(atomic.Bool), new(atomic.Bool)
	gone := func() error {
		if on.Load() && dead.Load() {
			return err
		}
		return nil
	}
	f.run = func(_ context.Context, query string) error {
		if on.Load() && strings.Contains(query, from) {
			dead.Store(true)
		}
		switch gone := gone(); {
		case gone == error(errRefused): // that is told when connecting; connections that are open break
			return driver.ErrBadConn
		default:
			return gone
		}
	}
	f.connect = func(context.Context) error {
		if on.Load() && from == "" {
			dead.Store(true)
		}
		if err == error(errRefused) {
			return gone()
		}
		return nil
	}
	f.ping = func(context.Context) error { return gone() }
	return on
}

// fault is a way in which a server fails.
type fault struct {
	name   string
	err    error
	stays  bool // it is not the server's: it may go on
	breaks bool // the connection ends under the statement, without a word
}

var (
	faultsOfMySQL = []fault{
		{name: "connection refused", err: errRefused},
		{name: "bad connection, for good", err: driver.ErrBadConn},
		{name: "invalid connection", err: driversql.ErrInvalidConn, breaks: true},
		{name: "the connection ends", err: io.EOF, breaks: true},
		{name: "the connection ends amidst", err: io.ErrUnexpectedEOF, breaks: true},
		{name: "the connection is reset", err: errReset, breaks: true},
		{name: "1040, too many connections", err: mysqlError(1040)},
		{name: "1045, access denied", err: mysqlError(1045)},
		{name: "1053, shutdown", err: mysqlError(1053)},
		{name: "1927, killed", err: mysqlError(1927)},
		{name: "1047, in no cluster", err: mysqlError(1047)},
		{name: "1205, a lock's timeout",
			err:   &driversql.MySQLError{Number: 1205, SQLState: [5]byte([]byte("HY000"))},
			stays: true},
	}
	faultsOfPostgreSQL = []fault{
		{name: "57P01, admin shutdown", err: sqlState("57P01")},
		{name: "57P03, cannot connect now", err: sqlState("57P03")},
		{name: "53300, too many connections", err: sqlState("53300")},
		{name: "08006, connection failure", err: sqlState("08006")},
		{name: "28P01, invalid password", err: sqlState("28P01")},
		{name: "40001, a conflict with replay", err: sqlState("40001"), stays: true},
		{name: "40P01, a deadlock with replay", err: sqlState("40P01"), stays: true},
	}
)

// wayToRead is one of the ways in which GORM reads.
type wayToRead struct {
	name   string
	run    func(*gorm.DB) error
	from   string // the server fails from the statement on that contains this
	before bool   // one has run before that
	after  string // the route of what follows
}

var readOnlyTx = &sql.TxOptions{ReadOnly: true}

var waysToRead = []wayToRead{
	{name: "Find", run: func(db *gorm.DB) error { return db.Find(&[]User{}).Error }},
	{name: "First", run: func(db *gorm.DB) error { return db.First(&User{}).Error }},
	{name: "Take", run: func(db *gorm.DB) error { return db.Take(&User{}).Error }},
	{name: "Count", run: func(db *gorm.DB) error { return db.Model(&User{}).Count(new(int64)).Error }},
	{name: "Pluck", run: func(db *gorm.DB) error { return db.Model(&User{}).Pluck("name", &[]string{}).Error }},
	{name: "Preload's second query", run: func(db *gorm.DB) error {
		return db.Preload("Orders").Find(&[]Customer{}).Error
	}, from: "orders", before: true},
	{name: "Raw, Scan", run: func(db *gorm.DB) error {
		return db.Raw("SELECT * FROM users").Scan(&[]User{}).Error
	}},
	{name: "Row", run: func(db *gorm.DB) error {
		var u User
		return db.Raw("SELECT * FROM users").Row().Scan(&u.ID, &u.Name)
	}},
	{name: "Row, Err", run: func(db *gorm.DB) error {
		row := db.Raw("SELECT * FROM users").Row()
		err := row.Err()
		return errors.Join(err, row.Scan(new(int64), new(string)))
	}},
	{name: "Rows", run: func(db *gorm.DB) error {
		rows, err := db.Raw("SELECT * FROM users").Rows()
		if err != nil {
			return err
		}
		n := 0
		for rows.Next() {
			n++
		}
		if n != 1 {
			return fmt.Errorf("%d rows", n)
		}
		return errors.Join(rows.Err(), rows.Close())
	}},
	{name: "Exec", run: func(db *gorm.DB) error { return db.Exec("SELECT * FROM users").Error }},
	{name: "FindInBatches", run: func(db *gorm.DB) error {
		return db.FindInBatches(&[]User{}, 10, func(*gorm.DB, int) error { return nil }).Error
	}},
	{name: "the second of FindInBatches", run: func(db *gorm.DB) error {
		enough := errors.New("enough")
		err := db.FindInBatches(&[]User{}, 1, func(_ *gorm.DB, batch int) error {
			if batch == 2 {
				return enough
			}
			return nil
		}).Error
		if err == enough {
			return nil
		}
		return err
	}, from: "> ", before: true},
	{name: "Begin", run: func(db *gorm.DB) error {
		tx := db.Begin(readOnlyTx)
		if tx.Error != nil {
			return tx.Error
		}
		return errors.Join(tx.Find(&[]User{}).Error, tx.Commit().Error)
	}, from: "BEGIN", after: "bound"},
	{name: "Transaction", run: func(db *gorm.DB) error {
		return db.Transaction(func(tx *gorm.DB) error { return tx.First(&User{}).Error }, readOnlyTx)
	}, from: "BEGIN", after: "bound"},
}

// newFailover makes a setup of slaves that are taken in order, of MySQL or PostgreSQL.
func newFailover(t testing.TB, slaves int, gormConfig gorm.Config, postgres bool,
	change func(*replicated.Config)) *setup {
	t.Helper()
	configure := func(c *replicated.Config) {
		c.Policy, c.Logger = inOrder, slog.New(slog.DiscardHandler)
		if change != nil {
			change(c)
		}
	}
	if !postgres {
		return newSetup(t, slaves, gormConfig, configure)
	}
	s := &setup{log: &fakeLog{}, routes: &routes{}}
	answer := func(query string) driver.Rows {
		if strings.HasPrefix(query, `SELECT "name"`) {
			return &fakeRows{columns: fakeColumns[1:], row: [2]driver.Value{"a"}}
		}
		return nil
	}
	s.master = &fake{name: "master", log: s.log, answer: answer}
	s.raw = openPool(t, s.master)
	s.db = openDialector(t, postgresFake{dialector(s.raw)}, gormConfig)
	cfg := replicated.Config{Observer: s.routes, Probe: replicated.ProbeConfig{Interval: -1}}
	for i := range slaves {
		f := &fake{name: fmt.Sprintf("slave-%d", i+1), log: s.log, answer: answer}
		s.slaves = append(s.slaves, f)
		cfg.Slaves = append(cfg.Slaves, postgresFake{dialector(openPool(t, f))})
	}
	configure(&cfg)
	s.plugin = replicated.New(cfg)
	if err := s.db.Use(s.plugin); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.plugin.Close() })
	return s
}

// state returns what Status says of a server.
func (s *setup) state(id string) replicated.ServerStatus {
	for _, g := range s.plugin.Status().Groups {
		for _, server := range g.Servers {
			if server.ID == id {
				return server
			}
		}
	}
	return replicated.ServerStatus{Reason: "no such server"}
}

// brokenRows are one row, and then an error.
type brokenRows struct {
	err  error
	rows int
}

func (r *brokenRows) Columns() []string { return fakeColumns }
func (r *brokenRows) Close() error      { return nil }

func (r *brokenRows) Next(dest []driver.Value) error {
	if r.rows > 0 {
		dest[0], dest[1] = int64(1), "a"
		r.rows--
		return nil
	}
	return r.err
}

// eventually waits for what happens in goroutines that nobody can wait for.
func eventually(t testing.TB, check func() error) {
	t.Helper()
	var err error
	for range 1000 {
		if err = check(); err == nil {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Error(err)
}

// freeze has f answer nothing while frozen tells so: statements, pings and connecting hang until their
// context ends, or f thaws. It returns how many statements have been cancelled there.
func (f *fake) freeze(frozen func() bool) *atomic.Int64 {
	cancelled := new(atomic.Int64)
	hang := func(ctx context.Context) error {
		if !frozen() {
			return nil
		}
		<-ctx.Done()
		return ctx.Err()
	}
	f.connect, f.ping = hang, hang
	f.run = func(ctx context.Context, _ string) error {
		err := hang(ctx)
		if err != nil {
			cancelled.Add(1)
		}
		return err
	}
	return cancelled
}

func always() bool { return true }

// pause sleeps as a driver does that heeds the context.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

// endless returns a context that never ends. For one that may end the plugin counts on the garbage collector,
// which is outside of any bubble.
func endless(t testing.TB) context.Context { return context.WithoutCancel(t.Context()) }

// asking is a history whose slaves and master are asked something first.
type asking struct {
	*history
	ask func(context.Context, *sql.Conn) error
}

func (a *asking) MasterPosition(ctx context.Context, conn *sql.Conn) (replicated.Position, error) {
	if err := a.ask(ctx, conn); err != nil {
		return replicated.Position{}, err
	}
	return a.history.MasterPosition(ctx, conn)
}

func (a *asking) SlavePosition(ctx context.Context, conn *sql.Conn) (replicated.Position, error) {
	return a.MasterPosition(ctx, conn)
}

// pgError is an error as pgx has it.
type pgError struct{ Code, SeverityUnlocalized, Routine string }

func (e *pgError) Error() string    { return e.SeverityUnlocalized + ": SQLSTATE " + e.Code }
func (e *pgError) SQLState() string { return e.Code }
func raised(state string) error     { return &pgError{state, "ERROR", "exec_stmt_raise"} }
func fatal(state string) error      { return &pgError{state, "FATAL", ""} }
