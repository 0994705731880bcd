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
	"os/exec"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
	"unsafe"

	driversql "github.com/go-sql-driver/mysql"
	"gorm.io/gorm"
	"gorm.io/gorm/clause"
	"gorm.io/plugin/dbresolver"

	"github.com/gorm-replicated/replicated"
)

var errRefused = &net.OpError{Op: "dial", Net: "tcp", Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}

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
	name  string
	err   error
	stays bool // it is not the server's: it may go on
}

var (
	faultsOfMySQL = []fault{
		{"connection refused", errRefused, false},
		{"bad connection, for good", driver.ErrBadConn, false},
		{"invalid connection", driversql.ErrInvalidConn, false},
		{"the connection ends", io.EOF, false},
		{"the connection ends amidst", io.ErrUnexpectedEOF, false},
		{"the connection is reset", &net.OpError{Op: "read", Net: "tcp", Err: syscall.ECONNRESET}, false},
		{"1040, too many connections", mysqlError(1040), false},
		{"1045, access denied", mysqlError(1045), false},
		{"1053, shutdown", mysqlError(1053), false},
		{"1927, killed", mysqlError(1927), false},
	}
	faultsOfPostgreSQL = []fault{
		{"57P01, admin shutdown", sqlState("57P01"), false},
		{"57P03, cannot connect now", sqlState("57P03"), false},
		{"53300, too many connections", sqlState("53300"), false},
		{"08006, connection failure", sqlState("08006"), false},
		{"28P01, invalid password", sqlState("28P01"), false},
		{"40001, a conflict with replay", sqlState("40001"), true},
		{"40P01, a deadlock with replay", sqlState("40P01"), true},
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
	{name: "Preload's second query", run: func(db *gorm.DB) error { return db.Preload("Orders").Find(&[]Customer{}).Error }, from: "orders", before: true},
	{name: "Raw, Scan", run: func(db *gorm.DB) error { return db.Raw("SELECT * FROM users").Scan(&[]User{}).Error }},
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
func newFailover(t testing.TB, slaves int, gormConfig gorm.Config, postgres bool, change func(*replicated.Config)) *setup {
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
	db, err := gorm.Open(postgresFake{dialector(s.raw)}, &gormConfig)
	if err != nil {
		t.Fatal(err)
	}
	s.db = db
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

// TestFailover has each way to read meet each kind of failure. Nobody notices but the Observer and Status, and the next read does not try
// that slave again.
func TestFailover(t *testing.T) {
	type topology struct {
		name         string
		slaves, dead int
		next         string
	}
	topologies := []topology{
		{"another slave", 2, 1, "slave-2: context"},
		{"the only slave", 1, 1, "master: no slave within MaxLag"},
		{"all slaves", 2, 2, "master: no slave within MaxLag"},
	}
	try := func(t *testing.T, way wayToRead, f fault, top topology, mode int, postgres, warm bool) {
		s := newFailover(t, top.slaves, modes[mode].config, postgres, nil)
		var dead []*atomic.Bool
		for _, slave := range s.slaves[:top.dead] {
			dead = append(dead, slave.dying(f.err, way.from))
		}
		db := s.in(replicated.WithSlave(t.Context()), modes[mode].session)
		if warm {
			if err := way.run(db); err != nil {
				t.Fatalf("before: %v", err)
			}
			s.log.take()
			s.routes.take()
		}
		for _, d := range dead {
			d.Store(true)
		}
		if err := way.run(db); err != nil {
			t.Errorf("the failure shows: %v", err)
		}
		answers := append(slices.Clone([]string{"slave-1", "slave-2"}[:top.slaves]), "master")[top.dead]
		want := []string{"slave-1: context"}
		if way.before {
			want = append(want, "slave-1: context")
			expect(t, s.log.servers(), "slave-1", answers)
		} else {
			expect(t, s.log.servers(), answers)
		}
		if top.dead == 2 {
			want = append(want, "slave-2: failover")
		}
		if want = append(want, answers+": failover"); way.after != "" {
			want = append(want, answers+": "+way.after)
		}
		expect(t, s.routes.take(), want...)
		for i := range top.dead {
			id := fmt.Sprintf("slave-%d", i+1)
			switch state := s.state(id); {
			case state.Serving != f.stays:
				t.Errorf("Status: %s: Serving is %v", id, state.Serving)
			case !f.stays && !strings.Contains(state.Reason, f.err.Error()):
				t.Errorf("Status: %s: Reason is %q", id, state.Reason)
			}
		}
		if f.stays {
			return
		}
		if err := db.Find(&[]User{}).Error; err != nil {
			t.Errorf("the next read: %v", err)
		}
		expect(t, s.log.servers(), answers)
		expect(t, s.routes.take(), top.next)
	}
	const plain, prepared, perSession = 0, 1, 2
	for _, way := range waysToRead {
		for _, f := range faultsOfMySQL {
			for _, top := range topologies {
				t.Run(way.name+"/"+f.name+"/"+top.name, func(t *testing.T) { try(t, way, f, top, plain, false, false) })
			}
			t.Run(way.name+"/"+f.name+"/later", func(t *testing.T) { try(t, way, f, topologies[0], plain, false, true) })
		}
		for _, f := range faultsOfPostgreSQL {
			t.Run(way.name+"/"+f.name, func(t *testing.T) { try(t, way, f, topologies[0], plain, true, true) })
		}
		// GORM leaves a goroutine for each cache of prepared statements: fewer of these.
		for _, f := range []fault{faultsOfMySQL[0], faultsOfMySQL[8]} {
			t.Run(way.name+"/"+f.name+"/prepared", func(t *testing.T) { try(t, way, f, topologies[0], prepared, false, false) })
			t.Run(way.name+"/"+f.name+"/prepared, later", func(t *testing.T) { try(t, way, f, topologies[0], prepared, false, true) })
		}
		t.Run(way.name+"/prepared per session", func(t *testing.T) { try(t, way, faultsOfMySQL[1], topologies[0], perSession, false, true) })
		t.Run(way.name+"/prepared, all slaves", func(t *testing.T) { try(t, way, faultsOfMySQL[0], topologies[2], prepared, false, true) })
	}
	for _, f := range faultsOfMySQL {
		t.Run("Row, prepared/"+f.name, func(t *testing.T) { try(t, waysToRead[7], f, topologies[0], prepared, false, true) })
	}
}

// TestNoFailoverOfTheMaster is the control of TestFailover: what moves a read on from a slave comes back from the master as it is.
func TestNoFailoverOfTheMaster(t *testing.T) {
	for _, way := range waysToRead {
		for _, f := range []fault{faultsOfMySQL[0], faultsOfMySQL[2], faultsOfMySQL[8]} {
			t.Run(way.name+"/"+f.name, func(t *testing.T) {
				s := newFailover(t, 2, gorm.Config{}, false, nil)
				s.master.dying(f.err, way.from).Store(true)
				err := way.run(s.in(replicated.WithMaster(t.Context()), nil))
				if !errors.Is(err, f.err) {
					t.Errorf("got %v", err)
				}
				for _, r := range s.routes.take() {
					if r != "master: context" {
						t.Errorf("routed: %s", r)
					}
				}
			})
		}
	}
}

// TestNotADeadServer has errors of which no server is guilty. They come back as they are; nothing runs twice, and the slave stays.
func TestNotADeadServer(t *testing.T) {
	nothing := func(f *fake) {
		f.answer = func(string) driver.Rows { return &fakeRows{columns: fakeColumns, done: true} }
	}
	with := func(err error) func(*fake) { return func(f *fake) { f.fail = func(string) error { return err } } }
	breaks := func(err error) func(*fake) {
		return func(f *fake) { f.answer = func(string) driver.Rows { return &brokenRows{err: err} } }
	}
	find := func(db *gorm.DB) error { return db.Find(&[]User{}).Error }
	row := func(db *gorm.DB) error { return db.Raw("SELECT * FROM users").Row().Scan(new(int64), new(string)) }
	rows := func(db *gorm.DB) error {
		rows, err := db.Raw("SELECT * FROM users").Rows()
		if err != nil {
			return fmt.Errorf("too soon: %v", err)
		}
		for rows.Next() {
		}
		return errors.Join(rows.Err(), rows.Close())
	}
	inTx := func(read func(*gorm.DB) error) func(*gorm.DB) error {
		return func(db *gorm.DB) error { return db.Transaction(read, readOnlyTx) }
	}
	for _, test := range []struct {
		name  string
		set   func(*fake)
		run   func(*gorm.DB) error
		want  error
		tries int // statements that reached a server
	}{
		{"a syntax error", with(mysqlError(1064)), find, mysqlError(1064), 1},
		{"no such table", with(mysqlError(1146)), find, mysqlError(1146), 1},
		{"no such table, Row", with(mysqlError(1146)), row, mysqlError(1146), 1},
		{"a lock's timeout", with(mysqlError(1205)), find, mysqlError(1205), 1},
		{"a query that was interrupted", with(mysqlError(1317)), find, mysqlError(1317), 1},
		{"no rows", nothing, row, sql.ErrNoRows, 1},
		{"no record", nothing, func(db *gorm.DB) error { return db.First(&User{}).Error }, gorm.ErrRecordNotFound, 1},
		{"no rows, says the driver", with(sql.ErrNoRows), find, sql.ErrNoRows, 1},
		{"an error of the driver's own", with(driver.ErrSkip), find, driver.ErrSkip, -1},
		{"rows that break, Find", breaks(io.ErrUnexpectedEOF), find, io.ErrUnexpectedEOF, 1},
		{"rows that break, Rows", breaks(driversql.ErrInvalidConn), rows, driversql.ErrInvalidConn, 1},
		{"rows that break, 1927", breaks(mysqlError(1927)), rows, mysqlError(1927), 1},
		{"rows that break, Row", breaks(io.ErrUnexpectedEOF), row, io.ErrUnexpectedEOF, 1},
		{"in a transaction, 1053", with(mysqlError(1053)), inTx(find), mysqlError(1053), 1},
		{"in a transaction, connection lost", with(driversql.ErrInvalidConn), inTx(find), driversql.ErrInvalidConn, 1},
		{"in a transaction, bad connection", with(driver.ErrBadConn), inTx(find), driver.ErrBadConn, 1},
	} {
		for _, mode := range modes[:3] {
			t.Run(test.name+"/"+mode.name, func(t *testing.T) {
				s := newFailover(t, 2, mode.config, false, nil)
				tries := 0
				test.set(s.slaves[0])
				s.slaves[0].run = func(_ context.Context, query string) error {
					if !strings.HasPrefix(query, "BEGIN") {
						tries++
					}
					return nil
				}
				err := test.run(s.in(replicated.WithSlave(t.Context()), mode.session))
				if want, ok := test.want.(*driversql.MySQLError); ok {
					var got *driversql.MySQLError
					if !errors.As(err, &got) || got.Number != want.Number {
						t.Errorf("got %v", err)
					}
				} else if !errors.Is(err, test.want) {
					t.Errorf("got %v", err)
				}
				if allowed := test.tries; allowed > 0 && tries > allowed && !(mode.name != "plain" && tries <= 2*allowed) { // preparing is one
					t.Errorf("%d statements", tries)
				}
				for _, r := range s.log.take() {
					if r.server != "slave-1" {
						t.Errorf("ran on %s: %s", r.server, r.sql)
					}
				}
				if state := s.state("slave-1"); !state.Serving || state.Reason != "" && !strings.Contains(state.Reason, "ready-made") {
					t.Errorf("Status: %+v", state)
				}
				for _, r := range s.routes.take() {
					if strings.Contains(r, "failover") {
						t.Errorf("routed: %s", r)
					}
				}
			})
		}
	}
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

// TestTheCallersContextEnds has nobody blamed for it, and nothing run again.
func TestTheCallersContextEnds(t *testing.T) {
	for _, way := range waysToRead {
		for _, mode := range modes[:2] {
			if way.before {
				continue
			}
			t.Run(way.name+"/"+mode.name+"/before", func(t *testing.T) {
				s := newFailover(t, 2, mode.config, false, nil)
				ctx, cancel := context.WithCancel(t.Context())
				cancel()
				if err := way.run(s.in(replicated.WithSlave(ctx), mode.session)); !errors.Is(err, context.Canceled) {
					t.Errorf("got %v", err)
				}
				if ran := s.log.take(); len(ran) > 0 {
					t.Errorf("ran %v", ran)
				}
				expect(t, s.routes.take(), "slave-1: context")
				if !s.state("slave-1").Serving {
					t.Error("it is blamed on the slave")
				}
			})
			for _, how := range []string{"as the context says", "as a broken connection"} {
				t.Run(way.name+"/"+mode.name+"/during/"+how, func(t *testing.T) {
					s := newFailover(t, 2, mode.config, false, nil)
					ctx, cancel := context.WithCancel(t.Context())
					defer cancel()
					s.slaves[0].run = func(ctx context.Context, query string) error {
						if !strings.Contains(query, way.from) {
							return nil
						}
						cancel()
						<-ctx.Done()
						if how != "as the context says" {
							return driversql.ErrInvalidConn // drivers close the connection to end a query
						}
						return ctx.Err()
					}
					if err := way.run(s.in(replicated.WithSlave(ctx), mode.session)); err == nil {
						t.Error("no error")
					}
					if ran := s.log.take(); len(ran) > 0 {
						t.Errorf("ran %v", ran)
					}
					expect(t, s.routes.take(), "slave-1: context")
					if !s.state("slave-1").Serving {
						t.Error("it is blamed on the slave")
					}
				})
			}
		}
	}
}

// freeze has f answer nothing while frozen tells so: statements, pings and connecting hang until their context ends, or f thaws. It returns how many
// statements have been cancelled there.
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

// TestSlowIsNotDead has a slave take ten seconds for a read and answer questions meanwhile: the read ends there, once.
func TestSlowIsNotDead(t *testing.T) {
	for _, way := range waysToRead {
		if way.before {
			continue
		}
		for _, test := range []struct {
			name   string
			watch  bool
			change func(*replicated.Config)
		}{
			{"blind", false, nil},
			{"watched", true, nil},
			{"an impatient one", false, func(c *replicated.Config) { c.Failover.SlaveTimeout = time.Millisecond }},
		} {
			bubble(t, way.name+"/"+test.name, func(t *testing.T) {
				h := newHistory()
				h.set("master", 1)
				h.replay("slave-1", "slave-2")
				s := newFailover(t, 2, gorm.Config{}, false, func(c *replicated.Config) {
					if test.watch {
						c.Probe.Source = h
					}
					if test.change != nil {
						test.change(c)
					}
				})
				var began atomic.Int64
				s.slaves[0].run = func(ctx context.Context, query string) error {
					if !strings.Contains(query, way.from) {
						return nil
					}
					began.Add(1)
					return pause(ctx, 10*time.Second)
				}
				start := time.Now()
				if err := way.run(s.in(replicated.WithSlave(endless(t)), nil)); err != nil {
					t.Error(err)
				}
				if took := time.Since(start); took != 10*time.Second {
					t.Errorf("took %v", took)
				}
				if n := began.Load(); n != 1 {
					t.Errorf("ran %d times", n)
				}
				expect(t, s.log.servers(), "slave-1")
				if !s.state("slave-1").Serving {
					t.Errorf("Status: %+v", s.state("slave-1"))
				}
			})
		}
	}
}

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

// endless returns a context that never ends. For one that may end the plugin counts on the garbage collector, which is outside of any bubble.
func endless(t testing.TB) context.Context { return context.WithoutCancel(t.Context()) }

// TestFrozenSlaves has reads move on from a slave that answers neither them nor questions.
func TestFrozenSlaves(t *testing.T) {
	for _, way := range waysToRead {
		if way.before || way.after != "" && way.name != "Begin" {
			continue
		}
		for _, test := range []struct {
			name    string
			timeout time.Duration
			watch   bool
			since   time.Duration // it is frozen from then on
			after   time.Duration // the read moves on, 1 s later at most
		}{
			{"blind", 0, false, 0, time.Second},
			{"watched", 0, true, 0, time.Second},
			{"after 3 s", 3 * time.Second, false, 0, 3 * time.Second},
			{"after 100 ms", 100 * time.Millisecond, false, 0, 100 * time.Millisecond},
			{"after the first suspicion", 0, false, 1500 * time.Millisecond, 2 * time.Second},
			{"after the third suspicion", 0, true, 3500 * time.Millisecond, 4 * time.Second},
		} {
			bubble(t, way.name+"/"+test.name, func(t *testing.T) {
				h := newHistory()
				h.set("master", 1)
				h.replay("slave-1", "slave-2")
				s := newFailover(t, 2, gorm.Config{}, false, func(c *replicated.Config) {
					c.Failover.SlaveTimeout = test.timeout
					if test.watch {
						c.Probe.Source = &asking{h, func(ctx context.Context, conn *sql.Conn) error { return conn.PingContext(ctx) }}
					}
				})
				start := time.Now()
				cancelled := s.slaves[0].freeze(func() bool { return time.Since(start) >= test.since })
				if test.since > 0 { // the read is slow
					hang := s.slaves[0].run
					s.slaves[0].run = func(ctx context.Context, query string) error {
						_ = pause(ctx, test.since)
						return hang(ctx, query)
					}
				}
				ctx, cancel := context.WithCancel(endless(t))
				defer cancel()
				if err := way.run(s.in(replicated.WithSlave(ctx), nil)); err != nil {
					t.Error(err)
				}
				if took := time.Since(start); took < test.after || took > test.after+time.Second {
					t.Errorf("took %v", took)
				}
				if n := cancelled.Load(); n > 1 || n == 0 && test.since > 0 { // without a connection it hangs sooner
					t.Errorf("%d statements were cancelled there", n)
				}
				if ctx.Err() != nil {
					t.Error("the caller's context was cancelled")
				}
				expect(t, s.log.servers(), "slave-2")
				if state := s.state("slave-1"); state.Serving || state.Reason == "" {
					t.Errorf("Status: %+v", state)
				}
				s.routes.take()
				again := time.Now()
				if err := way.run(s.in(replicated.WithSlave(ctx), nil)); err != nil {
					t.Error(err)
				}
				if took := time.Since(again); took != 0 {
					t.Errorf("the next one took %v", took)
				}
				for _, r := range s.routes.take() {
					if !strings.HasPrefix(r, "slave-2: ") {
						t.Errorf("the next one: %s", r)
					}
				}
			})
		}
		bubble(t, way.name+"/the control: no time-out", func(t *testing.T) {
			s := newFailover(t, 2, gorm.Config{}, false, func(c *replicated.Config) { c.Failover.SlaveTimeout = -1 })
			s.slaves[0].freeze(always)
			ctx, cancel := context.WithTimeout(endless(t), 30*time.Second)
			defer cancel()
			start := time.Now()
			if err := way.run(s.in(replicated.WithSlave(ctx), nil)); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("got %v", err)
			}
			if took := time.Since(start); took != 30*time.Second {
				t.Errorf("took %v", took)
			}
			if !s.state("slave-1").Serving {
				t.Error("the caller's deadline is blamed on the slave")
			}
		})
	}
	bubble(t, "the caller's deadline is sooner", func(t *testing.T) {
		s := newFailover(t, 2, gorm.Config{}, false, nil)
		s.slaves[0].freeze(always)
		ctx, cancel := context.WithTimeout(endless(t), 500*time.Millisecond)
		defer cancel()
		start := time.Now()
		if err := s.in(replicated.WithSlave(ctx), nil).Find(&[]User{}).Error; !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
		if took := time.Since(start); took != 500*time.Millisecond {
			t.Errorf("took %v", took)
		}
		if !s.state("slave-1").Serving {
			t.Error("it is blamed on the slave")
		}
	})
	bubble(t, "the caller's deadline is during the question", func(t *testing.T) {
		s := newFailover(t, 2, gorm.Config{}, false, nil)
		s.slaves[0].freeze(always)
		ctx, cancel := context.WithTimeout(endless(t), 1500*time.Millisecond)
		defer cancel()
		start := time.Now()
		if err := s.in(replicated.WithSlave(ctx), nil).Find(&[]User{}).Error; !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
		if took := time.Since(start); took != 1500*time.Millisecond {
			t.Errorf("took %v", took)
		}
		expect(t, s.log.servers())
	})
	bubble(t, "many at once", func(t *testing.T) {
		s := newFailover(t, 2, gorm.Config{}, false, nil)
		s.slaves[0].freeze(always)
		var pings atomic.Int64
		hang := s.slaves[0].connect
		s.slaves[0].connect = func(ctx context.Context) error { pings.Add(1); return hang(ctx) }
		start := time.Now()
		var reads sync.WaitGroup
		for range 50 {
			reads.Go(func() {
				if err := s.in(replicated.WithSlave(endless(t)), nil).Find(&[]User{}).Error; err != nil {
					t.Error(err)
				}
			})
		}
		reads.Wait()
		if took := time.Since(start); took > 2*time.Second {
			t.Errorf("took %v", took)
		}
		if n := pings.Load(); n > 50+3 { // theirs, and questions
			t.Errorf("%d connections for 50 reads", n)
		}
	})
	bubble(t, "all slaves", func(t *testing.T) {
		s := newFailover(t, 3, gorm.Config{}, false, nil)
		for _, slave := range s.slaves {
			slave.freeze(always)
		}
		start := time.Now()
		if err := s.in(replicated.WithSlave(endless(t)), nil).Find(&[]User{}).Error; err != nil {
			t.Error(err)
		}
		if took := time.Since(start); took > 6*time.Second {
			t.Errorf("took %v", took)
		}
		expect(t, s.routes.take(), "slave-1: context", "slave-2: failover", "slave-3: failover", "master: failover")
	})
}

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

// TestAFullPoolIsNotDead has a transaction hold the only connection to a slave. Other reads wait for it, and nobody is blamed.
func TestAFullPoolIsNotDead(t *testing.T) {
	newFull := func(t *testing.T, watch bool) (*setup, *gorm.DB) {
		h := newHistory()
		h.set("master", 1)
		h.replay("slave-1")
		var pool *sql.DB
		log := &fakeLog{}
		s := newFailover(t, 1, gorm.Config{}, false, func(c *replicated.Config) {
			pool = openPool(t, &fake{name: "slave-1", log: log})
			pool.SetMaxOpenConns(1)
			c.Slaves = []gorm.Dialector{dialector(pool)}
			if watch {
				c.Probe.Source = h
			}
		})
		s.log = log
		synctest.Wait()
		tx := s.in(replicated.WithSlave(endless(t)), nil).Begin(readOnlyTx)
		if tx.Error != nil {
			t.Fatal(tx.Error)
		}
		s.routes.take()
		log.take()
		return s, tx
	}
	for _, watch := range []bool{false, true} {
		for _, way := range waysToRead {
			if way.before {
				continue
			}
			bubble(t, fmt.Sprintf("%s, watched: %v", way.name, watch), func(t *testing.T) {
				s, tx := newFull(t, watch)
				time.AfterFunc(5*time.Second, func() { tx.Commit() })
				start := time.Now()
				if err := way.run(s.in(replicated.WithSlave(endless(t)), nil)); err != nil {
					t.Error(err)
				}
				if took := time.Since(start); took < 5*time.Second || took > 6*time.Second { // a question may be first
					t.Errorf("took %v", took)
				}
				expect(t, s.log.servers(), "slave-1")
				for _, r := range s.routes.take() {
					if !strings.HasPrefix(r, "slave-1: ") {
						t.Errorf("routed: %s", r)
					}
				}
				if !s.state("slave-1").Serving {
					t.Errorf("Status: %+v", s.state("slave-1"))
				}
			})
		}
		bubble(t, fmt.Sprintf("until the caller's deadline, watched: %v", watch), func(t *testing.T) {
			s, tx := newFull(t, watch)
			defer tx.Rollback()
			ctx, cancel := context.WithTimeout(endless(t), 5*time.Second)
			defer cancel()
			if err := s.in(replicated.WithSlave(ctx), nil).Find(&[]User{}).Error; !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("got %v", err)
			}
			if !s.state("slave-1").Serving {
				t.Errorf("Status: %+v", s.state("slave-1"))
			}
		})
	}
}

// TestContextsOfReads has those of one session share a context that is not the caller's.
func TestContextsOfReads(t *testing.T) {
	for _, test := range []struct {
		name    string
		session bool
		timeout time.Duration
		want    int // different ones, of three reads
		own     bool
	}{
		{"in a session", true, 0, 1, false},
		{"without one", false, 0, 1, false},
		{"no time-out", true, -1, 1, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := newFailover(t, 1, gorm.Config{}, false, func(c *replicated.Config) { c.Failover.SlaveTimeout = test.timeout })
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			if test.session {
				ctx = s.plugin.WithToken(ctx, "")
			}
			ctx = replicated.WithSlave(ctx)
			var seen []<-chan struct{}
			s.slaves[0].run = func(ctx context.Context, _ string) error {
				if !slices.Contains(seen, ctx.Done()) {
					seen = append(seen, ctx.Done())
				}
				return nil
			}
			for range 3 {
				if err := s.db.WithContext(ctx).Find(&[]User{}).Error; err != nil {
					t.Error(err)
				}
			}
			if len(seen) != test.want || (seen[0] == ctx.Done()) != test.own {
				t.Errorf("%d contexts; the caller's: %v", len(seen), seen[0] == ctx.Done())
			}
		})
	}
}

// TestOpenRowsAreNotCut has other reads end, of whatever, while rows are read.
func TestOpenRowsAreNotCut(t *testing.T) {
	for _, session := range []bool{false, true} {
		for _, test := range []struct {
			name string
			end  func(*testing.T, *setup, *gorm.DB)
		}{
			{"a good one", func(t *testing.T, s *setup, db *gorm.DB) { db.Find(&[]User{}) }},
			{"Exec", func(t *testing.T, s *setup, db *gorm.DB) { db.Exec("SELECT 1") }},
			{"a transaction", func(t *testing.T, s *setup, db *gorm.DB) { db.Begin(readOnlyTx).Rollback() }},
			{"an error", func(t *testing.T, s *setup, db *gorm.DB) {
				if err := db.Raw("SELECT wrong").Scan(&[]User{}).Error; err == nil {
					t.Error("no error")
				}
			}},
			{"an error, Row", func(t *testing.T, s *setup, db *gorm.DB) {
				if err := db.Raw("SELECT wrong").Row().Err(); err == nil {
					t.Error("no error")
				}
			}},
			{"a conflict", func(t *testing.T, s *setup, db *gorm.DB) {
				if err := db.Raw("SELECT conflict").Scan(&[]User{}).Error; err != nil {
					t.Error(err)
				}
			}},
			{"a broken connection", func(t *testing.T, s *setup, db *gorm.DB) {
				if err := db.Raw("SELECT broken").Scan(&[]User{}).Error; err != nil {
					t.Error(err)
				}
			}},
			{"another that is cancelled", func(t *testing.T, s *setup, db *gorm.DB) {
				ctx, cancel := context.WithCancel(db.Statement.Context)
				cancel()
				db.WithContext(ctx).Find(&[]User{})
			}},
			{"garbage is collected", func(t *testing.T, s *setup, db *gorm.DB) {
				for range 3 {
					runtime.GC()
					time.Sleep(time.Millisecond)
				}
			}},
		} {
			t.Run(fmt.Sprintf("%s, session: %v", test.name, session), func(t *testing.T) {
				s := newFailover(t, 1, gorm.Config{}, false, nil)
				s.slaves[0].answer = func(string) driver.Rows { return &brokenRows{err: io.EOF, rows: 100} }
				s.slaves[0].run = func(_ context.Context, query string) error {
					switch query {
					case "SELECT wrong":
						return mysqlError(1064)
					case "SELECT conflict":
						return sqlState("40001")
					case "SELECT broken":
						return io.EOF
					}
					return nil
				}
				ctx, cancel := context.WithCancel(replicated.WithSlave(t.Context()))
				defer cancel()
				if session {
					ctx = s.plugin.WithToken(ctx, "")
				}
				db := s.db.WithContext(ctx)
				rows, err := db.Model(&User{}).Rows()
				if err != nil {
					t.Fatal(err)
				}
				defer rows.Close()
				for n := range 100 {
					if n == 50 {
						test.end(t, s, db)
						time.Sleep(5 * time.Millisecond)
					}
					if !rows.Next() {
						t.Fatalf("%d rows, then: %v", n, rows.Err())
					}
				}
				if rows.Next() || rows.Err() != nil {
					t.Error(rows.Err())
				}
			})
		}
		t.Run(fmt.Sprintf("the control: the caller's context ends, session: %v", session), func(t *testing.T) {
			s := newFailover(t, 1, gorm.Config{}, false, nil)
			s.slaves[0].answer = func(string) driver.Rows { return &brokenRows{err: io.EOF, rows: 1 << 30} }
			ctx, cancel := context.WithCancel(replicated.WithSlave(t.Context()))
			if session {
				ctx = s.plugin.WithToken(ctx, "")
			}
			rows, err := s.db.WithContext(ctx).Model(&User{}).Rows()
			if err != nil {
				t.Fatal(err)
			}
			defer rows.Close()
			cancel()
			for rows.Next() {
			}
			if !errors.Is(rows.Err(), context.Canceled) {
				t.Error(rows.Err())
			}
		})
	}
}

// childrenOf returns how many contexts a context made by context.WithCancel keeps, to end them when it ends.
func childrenOf(ctx context.Context) int {
	v := reflect.ValueOf(ctx).Elem()
	mu := (*sync.Mutex)(unsafe.Pointer(v.FieldByName("mu").UnsafeAddr()))
	mu.Lock()
	defer mu.Unlock()
	return v.FieldByName("children").Len()
}

// TestContextsDoNotPileUp has a context that lasts, such as a program's own, be the parent of many reads.
func TestContextsDoNotPileUp(t *testing.T) {
	for _, session := range []bool{false, true} {
		for _, way := range waysToRead {
			t.Run(fmt.Sprintf("%s, session: %v", way.name, session), func(t *testing.T) {
				s := newFailover(t, 2, gorm.Config{}, false, nil)
				parent, cancel := context.WithCancel(context.Background())
				defer cancel()
				ctx := replicated.WithSlave(parent)
				if session {
					ctx = s.plugin.WithToken(ctx, "")
				}
				goroutines := runtime.NumGoroutine()
				s.slaves[1].log, s.slaves[0].log = nil, nil
				for n := range 1000 {
					if n == 500 {
						s.slaves[0].fail = func(string) error { return mysqlError(1064) }
						s.slaves[0].begin = mysqlError(1064)
					}
					if err := way.run(s.db.WithContext(ctx)); (err == nil) != (n < 500) {
						t.Fatal(n, err)
					}
				}
				eventually(t, func() error {
					runtime.GC()
					if n := childrenOf(parent); n > 1 { // one is what all reads share
						return fmt.Errorf("%d contexts are left", n)
					}
					if n := runtime.NumGoroutine(); n > goroutines+3 {
						return fmt.Errorf("%d goroutines, %d before", n, goroutines)
					}
					return nil
				})
			})
		}
	}
	t.Run("the control: rows that are not closed", func(t *testing.T) {
		s := newFailover(t, 1, gorm.Config{}, false, nil)
		parent, cancel := context.WithCancel(context.Background())
		defer cancel()
		var all []*sql.Rows
		for range 10 {
			rows, err := s.db.WithContext(replicated.WithSlave(parent)).Model(&User{}).Rows()
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, rows)
		}
		runtime.GC()
		if n := childrenOf(parent); n < 10 {
			t.Errorf("%d contexts are seen", n)
		}
		for _, rows := range all {
			rows.Close()
		}
	})
}

// eventually waits for what happens in goroutines that nobody can wait for.
func eventually(t testing.TB, check func() error) {
	t.Helper()
	var err error
	for range 200 {
		if err = check(); err == nil {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Error(err)
}

// TestPreparingIsCancelled has the caller cancel its context who prepares a statement that another waits for.
func TestPreparingIsCancelled(t *testing.T) {
	for _, way := range waysToRead {
		if way.before || way.after != "" {
			continue
		}
		for _, mode := range modes[1:3] {
			for _, slaves := range []int{1, 2} {
				t.Run(fmt.Sprintf("%s/%s/%d", way.name, mode.name, slaves), func(t *testing.T) {
					s := newFailover(t, slaves, mode.config, false, nil)
					preparing := make(chan struct{})
					var once sync.Once
					s.slaves[0].run = func(ctx context.Context, _ string) (err error) {
						once.Do(func() {
							close(preparing)
							<-ctx.Done()
							err = ctx.Err()
						})
						return err
					}
					ctx, cancel := context.WithCancel(t.Context())
					first, second := make(chan error, 1), make(chan error, 1)
					go func() { first <- way.run(s.in(replicated.WithSlave(ctx), mode.session)) }()
					<-preparing
					go func() { second <- way.run(s.in(replicated.WithSlave(t.Context()), mode.session)) }()
					time.Sleep(5 * time.Millisecond) // until it waits; there is no way to see it
					cancel()
					if err := <-first; !errors.Is(err, context.Canceled) {
						t.Errorf("the first: %v", err)
					}
					if err := <-second; err != nil {
						t.Errorf("the second: %v", err)
					}
					if !s.state("slave-1").Serving {
						t.Error("it is blamed on the slave")
					}
				})
			}
		}
	}
}

// TestContextsOfManyCallers has more long-lived contexts, and more that are derived from them, than there are places for what their reads share.
func TestContextsOfManyCallers(t *testing.T) {
	for _, test := range []struct {
		name   string
		derive func(*replicated.Plugin, context.Context) context.Context
	}{
		{"each its own", func(_ *replicated.Plugin, ctx context.Context) context.Context { return ctx }},
		{"a context for each read", func(_ *replicated.Plugin, ctx context.Context) context.Context { return replicated.WithSlave(ctx) }},
		{"a session for each read, as of a job", func(p *replicated.Plugin, ctx context.Context) context.Context { return p.WithToken(ctx, "") }},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := newFailover(t, 2, gorm.Config{}, false, func(c *replicated.Config) { c.Policy, c.DefaultIntent = nil, replicated.Slave })
			s.slaves[0].log, s.slaves[1].log = nil, nil
			parents := make([]context.Context, 100)
			for i := range parents {
				parent, cancel := context.WithCancel(context.Background())
				defer cancel()
				parents[i] = parent
			}
			for range 30 {
				for _, parent := range parents {
					if err := s.db.WithContext(test.derive(s.plugin, parent)).Find(&[]User{}).Error; err != nil {
						t.Fatal(err)
					}
				}
			}
			eventually(t, func() error {
				runtime.GC()
				all := 0
				for _, parent := range parents {
					all += childrenOf(parent)
				}
				if all > 200 {
					return fmt.Errorf("%d contexts are left of 3000 reads with 100", all)
				}
				return nil
			})
		})
	}
}

// TestMaxOnMaster has more reads fall back to the master than may at once.
func TestMaxOnMaster(t *testing.T) {
	limited := func(t *testing.T, config gorm.Config, change func(*replicated.Config)) *setup {
		s := newFailover(t, 1, config, false, func(c *replicated.Config) {
			c.Failover.MaxOnMaster = 2
			if change != nil {
				change(c)
			}
		})
		s.slaves[0].dying(errRefused, "").Store(true)
		return s
	}
	onMaster := func(t *testing.T, s *setup, want int) {
		t.Helper()
		eventually(t, func() error {
			if n := s.plugin.Status().Groups[0].OnMaster; n != want {
				return fmt.Errorf("OnMaster is %d, want %d", n, want)
			}
			return nil
		})
	}
	holds := []struct {
		name string
		hold func(*gorm.DB) (letGo func(), err error)
	}{
		{"rows", func(db *gorm.DB) (func(), error) {
			rows, err := db.Model(&User{}).Rows()
			return func() { rows.Close() }, err
		}},
		{"a row", func(db *gorm.DB) (func(), error) {
			row := db.Raw("SELECT * FROM users").Row()
			return func() { _ = row.Scan(new(int64), new(string)) }, row.Err()
		}},
		{"transactions, committed", func(db *gorm.DB) (func(), error) {
			tx := db.Begin(readOnlyTx)
			return func() { tx.Commit() }, tx.Error
		}},
		{"transactions, rolled back", func(db *gorm.DB) (func(), error) {
			tx := db.Begin(readOnlyTx)
			return func() { tx.Rollback() }, tx.Error
		}},
	}
	for _, mode := range modes[:3] {
		for _, way := range holds {
			t.Run(way.name+"/"+mode.name, func(t *testing.T) {
				s := limited(t, mode.config, nil)
				db := func() *gorm.DB { return s.in(replicated.WithSlave(t.Context()), mode.session) }
				for round := range 2 {
					var letGo []func()
					for range 2 {
						f, err := way.hold(db())
						if err != nil {
							t.Fatal(err)
						}
						letGo = append(letGo, f)
					}
					onMaster(t, s, 2)
					if round > 0 {
						letGo[0]()
						letGo[1]()
						continue
					}
					s.log.take()
					for _, read := range waysToRead {
						if err := read.run(db()); !errors.Is(err, replicated.ErrMasterBusy) {
							t.Errorf("%s: %v", read.name, err)
						}
					}
					row := db().Raw("SELECT * FROM users").Row()
					if err, scan := row.Err(), row.Scan(); !errors.Is(err, replicated.ErrMasterBusy) || !errors.Is(scan, replicated.ErrMasterBusy) {
						t.Errorf("Row: Err %v, Scan %v", err, scan)
					}
					if ran := s.log.take(); len(ran) > 0 {
						t.Errorf("ran %v", ran)
					}
					letGo[0]()
					onMaster(t, s, 1)
					for _, read := range waysToRead {
						if err := read.run(db()); err != nil {
							t.Errorf("one is free: %s: %v", read.name, err)
						}
						onMaster(t, s, 1)
					}
					letGo[1]()
				}
				onMaster(t, s, 0)
				eventually(t, func() error {
					if n := s.raw.Stats().InUse; n != 0 {
						return fmt.Errorf("%d connections to the master are leaked", n)
					}
					return nil
				})
			})
		}
	}
	for _, test := range []struct {
		name string
		run  func(context.Context, *setup) error
	}{
		{"a session that wrote", func(ctx context.Context, s *setup) error {
			db := s.db.WithContext(s.plugin.WithToken(ctx, ""))
			return errors.Join(db.Create(&User{}).Error, db.Find(&[]User{}).Error)
		}},
		{"WithMaster", func(ctx context.Context, s *setup) error {
			return s.db.WithContext(replicated.WithMaster(ctx)).Find(&[]User{}).Error
		}},
		{"a clause", func(ctx context.Context, s *setup) error {
			return s.db.WithContext(replicated.WithSlave(ctx)).Clauses(replicated.Master).Find(&[]User{}).Error
		}},
		{"dbresolver's clause", func(ctx context.Context, s *setup) error {
			return s.db.WithContext(replicated.WithSlave(ctx)).Clauses(dbresolver.Write).Find(&[]User{}).Error
		}},
		{"unknown SQL", func(ctx context.Context, s *setup) error {
			return s.db.WithContext(replicated.WithSlave(ctx)).Raw("CALL something()").Scan(&[]User{}).Error
		}},
		{"a write", func(ctx context.Context, s *setup) error {
			return s.db.WithContext(replicated.WithSlave(ctx)).Create(&User{}).Error
		}},
		{"a locking read", func(ctx context.Context, s *setup) error {
			return s.db.WithContext(replicated.WithSlave(ctx)).Clauses(clause.Locking{Strength: "UPDATE"}).Find(&[]User{}).Error
		}},
		{"a transaction that may write", func(ctx context.Context, s *setup) error {
			return s.db.WithContext(replicated.WithSlave(ctx)).Transaction(func(tx *gorm.DB) error { return tx.Find(&[]User{}).Error })
		}},
		{"FirstOrCreate", func(ctx context.Context, s *setup) error {
			return s.db.WithContext(replicated.WithSlave(ctx)).FirstOrCreate(&User{}).Error
		}},
		{"shadow mode", func(ctx context.Context, s *setup) error {
			s.plugin.SetShadow(true)
			defer s.plugin.SetShadow(false)
			return s.db.WithContext(replicated.WithSlave(ctx)).Find(&[]User{}).Error
		}},
		{"the method", func(_ context.Context, s *setup) (err error) {
			s.request("POST", func(db *gorm.DB) { err = db.Find(&[]User{}).Error })
			return err
		}},
	} {
		t.Run("not counted: "+test.name, func(t *testing.T) {
			s := limited(t, gorm.Config{}, nil)
			for range 2 {
				rows, err := s.in(replicated.WithSlave(t.Context()), nil).Model(&User{}).Rows()
				if err != nil {
					t.Fatal(err)
				}
				defer rows.Close()
			}
			if err := test.run(t.Context(), s); err != nil {
				t.Error(err)
			}
			onMaster(t, s, 2)
		})
	}
	t.Run("the control: no limit", func(t *testing.T) {
		s := limited(t, gorm.Config{}, func(c *replicated.Config) { c.Failover.MaxOnMaster = 0 })
		for range 5 {
			rows, err := s.in(replicated.WithSlave(t.Context()), nil).Model(&User{}).Rows()
			if err != nil {
				t.Fatal(err)
			}
			defer rows.Close()
		}
	})
	t.Run("a master's pool of another type", func(t *testing.T) {
		log := &fakeLog{}
		raw := openPool(t, &fake{name: "master", log: log})
		db := openFake(t, barePool{ConnPool: raw}, gorm.Config{})
		slave := &fake{name: "slave", log: log}
		slave.dying(errRefused, "").Store(true)
		p := replicated.New(replicated.Config{Slaves: []gorm.Dialector{dialector(openPool(t, slave))}, Failover: replicated.FailoverConfig{MaxOnMaster: 2}, Logger: slog.New(slog.DiscardHandler)})
		if err := db.Use(p); err != nil {
			t.Fatal(err)
		}
		defer p.Close()
		s := &setup{plugin: p, db: db}
		for range 5 { // each counts while it is begun: nobody can tell when its rows are closed
			for _, way := range waysToRead {
				if err := way.run(db.WithContext(replicated.WithSlave(t.Context()))); err != nil {
					t.Errorf("%s: %v", way.name, err)
				}
				onMaster(t, s, 0)
			}
		}
	})
	t.Run("errors on the master", func(t *testing.T) {
		s := limited(t, gorm.Config{}, nil)
		s.master.fail = func(string) error { return mysqlError(1064) }
		s.master.begin = mysqlError(1064)
		for range 3 {
			for _, way := range waysToRead {
				var got *driversql.MySQLError
				if err := way.run(s.in(replicated.WithSlave(t.Context()), nil)); !errors.As(err, &got) {
					t.Errorf("%s: %v", way.name, err)
				}
			}
		}
		onMaster(t, s, 0)
	})
	t.Run("a full pool of the master", func(t *testing.T) {
		s := limited(t, gorm.Config{}, nil)
		s.raw.SetMaxOpenConns(1)
		tx := s.db.Begin()
		defer tx.Rollback()
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		defer cancel()
		if err := s.in(replicated.WithSlave(ctx), nil).Find(&[]User{}).Error; !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		onMaster(t, s, 0)
	})
	t.Run("never more than that", func(t *testing.T) {
		s := limited(t, gorm.Config{}, nil)
		var now, most atomic.Int64
		s.master.run = func(context.Context, string) error {
			n := now.Add(1)
			for old := most.Load(); n > old && !most.CompareAndSwap(old, n); old = most.Load() {
			}
			time.Sleep(100 * time.Microsecond)
			now.Add(-1)
			return nil
		}
		var busy, served atomic.Int64
		var callers sync.WaitGroup
		for range 20 {
			callers.Go(func() {
				for range 20 {
					switch err := s.in(replicated.WithSlave(t.Context()), nil).Find(&[]User{}).Error; {
					case err == nil:
						served.Add(1)
					case errors.Is(err, replicated.ErrMasterBusy):
						busy.Add(1)
					default:
						t.Error(err)
					}
				}
			})
		}
		callers.Wait()
		if most.Load() > 2 || busy.Load() == 0 || served.Load() == 0 {
			t.Errorf("%d at once, %d served, %d refused", most.Load(), served.Load(), busy.Load())
		}
		onMaster(t, s, 0)
	})
}

// TestComingBack has a slave that failed answer again: it is read after a while, and less than the others at first.
func TestComingBack(t *testing.T) {
	type probing struct {
		name  string
		watch bool
	}
	both := []probing{{"blind", false}, {"watched", true}}
	start := func(t *testing.T, slaves int, watch bool, change func(*replicated.Config)) (*setup, *atomic.Bool) {
		h := newHistory()
		h.set("master", 1)
		h.replay("slave-1", "slave-2")
		s := newFailover(t, slaves, gorm.Config{}, false, func(c *replicated.Config) {
			c.Policy, c.DefaultIntent = nil, replicated.Slave
			if watch {
				c.Probe.Source = &asking{h, func(ctx context.Context, conn *sql.Conn) error { return conn.PingContext(ctx) }}
			}
			if change != nil {
				change(c)
			}
		})
		return s, s.slaves[0].dying(mysqlError(1053), "")
	}
	// reads reads for so long, each 2 ms, and returns how many of a hundred ran where.
	reads := func(t *testing.T, s *setup, ctx context.Context, d time.Duration) map[string]float64 {
		t.Helper()
		s.routes.take()
		n := 0
		for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(2 * time.Millisecond) {
			n++
			if err := s.db.WithContext(ctx).Find(&[]User{}).Error; err != nil {
				t.Fatal(err)
			}
		}
		shares := map[string]float64{}
		for _, r := range s.routes.take() {
			shares[r] += 100 / float64(n)
		}
		return shares
	}
	for _, probing := range both {
		bubble(t, "one of two, "+probing.name, func(t *testing.T) {
			s, dead := start(t, 2, probing.watch, nil)
			ctx := endless(t)
			if got := reads(t, s, ctx, time.Second)["slave-1: default intent"]; got < 35 || got > 65 {
				t.Errorf("before: %.0f %%", got)
			}
			dead.Store(true)
			if got := reads(t, s, ctx, 5*time.Second); got["slave-1: default intent"] > 0.1 || got["slave-2: failover"] > 0.1 || got["slave-2: default intent"] < 99 {
				t.Errorf("while it is dead: %v", got)
			}
			dead.Store(false)
			if got := reads(t, s, ctx, 800*time.Millisecond); got["slave-2: default intent"] < 99.9 {
				t.Errorf("it has just answered: %v", got)
			}
			for waited := time.Now(); !s.state("slave-1").Serving; time.Sleep(time.Millisecond) {
				if time.Since(waited) > 2*time.Second {
					t.Fatal("it does not come back")
				}
			}
			if s.state("slave-1").Reason != "" && probing.watch {
				t.Errorf("Status: %+v", s.state("slave-1"))
			}
			if got := reads(t, s, ctx, time.Second)["slave-1: default intent"]; got == 0 || got > 20 {
				t.Errorf("at first: %.0f %%", got)
			}
			time.Sleep(5 * time.Second)
			if got := reads(t, s, ctx, 2*time.Second)["slave-1: default intent"]; got < 35 || got > 65 {
				t.Errorf("in the end: %.0f %%", got)
			}
		})
		bubble(t, "the only one, "+probing.name, func(t *testing.T) {
			s, dead := start(t, 1, probing.watch, nil)
			ctx := endless(t)
			dead.Store(true)
			if got := reads(t, s, ctx, 2*time.Second); got["master: no slave within MaxLag"] < 99 {
				t.Errorf("while it is dead: %v", got)
			}
			dead.Store(false)
			for !s.state("slave-1").Serving {
				time.Sleep(time.Millisecond)
			}
			if got := reads(t, s, ctx, time.Second); got["master: recovering"] < 50 || got["slave-1: default intent"] < 5 {
				t.Errorf("at first: %v", got)
			}
			if got := reads(t, s, replicated.WithSlave(ctx), 500*time.Millisecond); got["slave-1: context"] < 99.9 {
				t.Errorf("who asks for it: %v", got)
			}
			time.Sleep(4 * time.Second)
			if got := reads(t, s, ctx, time.Second); got["slave-1: default intent"] < 99.9 {
				t.Errorf("in the end: %v", got)
			}
		})
		bubble(t, "the only one, and the master is busy, "+probing.name, func(t *testing.T) {
			s, dead := start(t, 1, probing.watch, func(c *replicated.Config) { c.Failover.MaxOnMaster = 1 })
			ctx := endless(t)
			dead.Store(true)
			// Rows that are held would stop the bubble's clock: closing their connection waits in a mutex.
			s.master.run = func(context.Context, string) error { return pause(context.Background(), time.Minute) }
			var held sync.WaitGroup
			defer held.Wait()
			held.Go(func() { s.db.WithContext(ctx).Find(&[]User{}) })
			time.Sleep(2 * time.Second)
			dead.Store(false)
			for !s.state("slave-1").Serving {
				time.Sleep(time.Millisecond)
			}
			if got := reads(t, s, ctx, time.Second); got["slave-1: default intent"] < 99.9 {
				t.Errorf("%v", got)
			}
		})
		bubble(t, "one request reads one slave, "+probing.name, func(t *testing.T) {
			s, dead := start(t, 2, probing.watch, nil)
			dead.Store(true)
			reads(t, s, endless(t), time.Second)
			dead.Store(false)
			for !s.state("slave-1").Serving {
				time.Sleep(time.Millisecond)
			}
			for range 200 {
				s.routes.take()
				s.request("GET", func(db *gorm.DB) {
					for range 5 {
						db.Find(&[]User{})
					}
				})
				if got := slices.Compact(s.routes.take()); len(got) != 1 {
					t.Errorf("a request was on %v", got)
				}
				time.Sleep(10 * time.Millisecond)
			}
		})
	}
}

// TestWeights has slaves get reads by their Weight.
func TestWeights(t *testing.T) {
	share := func(policy dbresolver.Policy, first, second int) float64 {
		s := newFailover(t, 0, gorm.Config{}, false, func(c *replicated.Config) {
			c.Policy = policy
			for i, weight := range []int{first, second} {
				f := &fake{name: fmt.Sprintf("slave-%d", i+1)}
				c.Slaves = append(c.Slaves, replicated.Server{Dialector: dialector(openPool(t, f)), ID: f.name, Weight: weight})
			}
		})
		const reads = 4000
		for range reads {
			s.in(replicated.WithSlave(t.Context()), nil).Find(&[]User{})
		}
		n := 0
		for _, r := range s.routes.take() {
			if strings.HasPrefix(r, "slave-1: ") {
				n++
			}
		}
		return float64(n) / reads
	}
	for _, test := range []struct {
		name          string
		policy        dbresolver.Policy
		first, second int
		want          float64
	}{
		{"3:1", dbresolver.RandomPolicy{}, 3, 1, 0.75},
		{"3:1, the default policy", nil, 3, 1, 0.75},
		{"none is 1", dbresolver.RandomPolicy{}, 3, 0, 0.75},
		{"the control: alike", dbresolver.RandomPolicy{}, 0, 0, 0.5},
		{"the control: a policy that does not see it", dbresolver.StrictRoundRobinPolicy(), 3, 1, 0.5},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := share(test.policy, test.first, test.second); got < test.want-0.05 || got > test.want+0.05 {
				t.Errorf("the first got %.2f, want %.2f", got, test.want)
			}
		})
	}
}

// TestPoliciesSeeWhoMayServe has a user's own policy be asked about servers that may be read, and no others.
func TestPoliciesSeeWhoMayServe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHistory()
		h.set("master", 1)
		names := map[gorm.ConnPool]string{}
		all := map[string]*fake{}
		var given []string
		var dialectors []gorm.Dialector
		log := &fakeLog{}
		for i := range 5 {
			f := &fake{name: fmt.Sprintf("slave-%d", i+1), log: log}
			h.replay(f.name)
			pool := openPool(t, f)
			names[pool], all[f.name] = f.name, f
			dialectors = append(dialectors, dialector(pool))
		}
		s := newFailover(t, 0, gorm.Config{}, false, func(c *replicated.Config) {
			c.Slaves, c.DefaultIntent, c.MaxLag = dialectors, replicated.Slave, 10*time.Second
			c.Probe.Source = &asking{h, func(ctx context.Context, conn *sql.Conn) error { return conn.PingContext(ctx) }}
			c.Policy = dbresolver.PolicyFunc(func(pools []gorm.ConnPool) gorm.ConnPool {
				given = nil
				for _, p := range pools {
					given = append(given, names[p])
				}
				return pools[0]
			})
		})
		read := func(want ...string) {
			t.Helper()
			given = nil
			if err := s.db.WithContext(endless(t)).Find(&[]User{}).Error; err != nil {
				t.Error(err)
			}
			expect(t, given, want...)
		}
		read("slave-1", "slave-2", "slave-3", "slave-4", "slave-5")
		all["slave-1"].dying(mysqlError(1053), "").Store(true)
		read("slave-2", "slave-3", "slave-4", "slave-5") // asked twice: the first time for all
		read("slave-2", "slave-3", "slave-4", "slave-5")
		h.commit()
		h.replay("slave-3", "slave-4", "slave-5") // slave-2 does not
		for range 30 {
			time.Sleep(time.Second)
			h.commit()
			h.replay("slave-3", "slave-4", "slave-5")
			_ = s.db.WithContext(endless(t)).Find(&[]User{}).Error
		}
		read("slave-3", "slave-4", "slave-5")
		if err := s.plugin.SetSlaves(append(slices.Clone(dialectors[:2]), dialectors[3:]...)...); err != nil {
			t.Fatal(err)
		}
		read("slave-4", "slave-5")
	})
}

// TestRoundRobinStillWorks has dbresolver's policies go round, while a slave fails and after that.
func TestRoundRobinStillWorks(t *testing.T) {
	for _, test := range []struct {
		name   string
		policy dbresolver.Policy
	}{{"RoundRobinPolicy", dbresolver.RoundRobinPolicy()}, {"StrictRoundRobinPolicy", dbresolver.StrictRoundRobinPolicy()}} {
		t.Run(test.name, func(t *testing.T) {
			s := newFailover(t, 3, gorm.Config{}, false, func(c *replicated.Config) { c.Policy = test.policy })
			count := func() map[string]int {
				t.Helper()
				for range 30 {
					if err := s.in(replicated.WithSlave(t.Context()), nil).Find(&[]User{}).Error; err != nil {
						t.Error(err)
					}
				}
				n := map[string]int{}
				for _, r := range s.log.take() {
					n[r.server]++
				}
				return n
			}
			if n := count(); n["slave-1"] != 10 || n["slave-2"] != 10 || n["slave-3"] != 10 {
				t.Errorf("%v", n)
			}
			s.slaves[1].dying(driver.ErrBadConn, "").Store(true)
			if n := count(); n["slave-1"]+n["slave-3"] != 30 || n["slave-1"] < 12 || n["slave-3"] < 12 {
				t.Errorf("one is dead: %v", n)
			}
		})
	}
}

// TestLeastLatency has one of three slaves be ten times slower. With LeastLatency hardly a read notices, with RandomPolicy many do.
func TestLeastLatency(t *testing.T) {
	p99 := func(t *testing.T, policy dbresolver.Policy, slow int) (late time.Duration, latencies []time.Duration) {
		s := newFailover(t, 3, gorm.Config{}, false, func(c *replicated.Config) { c.Policy = policy })
		for i, f := range s.slaves {
			f.log = nil
			takes := time.Millisecond
			if i == slow {
				takes = 10 * time.Millisecond
			}
			f.run = func(ctx context.Context, _ string) error { return pause(ctx, takes) }
		}
		ctx := replicated.WithSlave(endless(t))
		var mu sync.Mutex
		var took []time.Duration
		begin := time.Now()
		var callers sync.WaitGroup
		for n := range 8 {
			callers.Go(func() {
				time.Sleep(time.Duration(n) * 100 * time.Microsecond)
				for range 1000 {
					start := time.Now()
					if err := s.db.WithContext(ctx).Find(&[]User{}).Error; err != nil {
						t.Error(err)
					}
					if start.Sub(begin) > 100*time.Millisecond { // the warm-up
						mu.Lock()
						took = append(took, time.Since(start))
						mu.Unlock()
					}
					time.Sleep(time.Millisecond)
				}
			})
		}
		callers.Wait()
		slices.Sort(took)
		for i := range s.slaves {
			latencies = append(latencies, s.state(fmt.Sprintf("slave-%d", i+1)).Latency)
		}
		return took[len(took)*99/100], latencies
	}
	synctest.Test(t, func(t *testing.T) {
		for slow := range 3 {
			random, _ := p99(t, dbresolver.RandomPolicy{}, slow)
			least, latencies := p99(t, replicated.LeastLatency(), slow)
			if random < 5*least {
				t.Errorf("slave-%d is slow: the 99th percentile is %v with LeastLatency, %v with RandomPolicy", slow+1, least, random)
			}
			for i, l := range latencies {
				if i != slow && (l < time.Millisecond/2 || l > 2*time.Millisecond) || i == slow && l < 5*time.Millisecond {
					t.Errorf("Status: the latency of slave-%d is %v", i+1, l)
				}
			}
		}
	})
	t.Run("for masters it chooses at random", func(t *testing.T) {
		log := &fakeLog{}
		db := openFake(t, openPool(t, &fake{name: "own", log: log}), gorm.Config{})
		p := replicated.New(replicated.Config{
			Masters: []gorm.Dialector{dialector(openPool(t, &fake{name: "master-1", log: log})), dialector(openPool(t, &fake{name: "master-2", log: log}))},
			Policy:  replicated.LeastLatency(),
		})
		if err := db.Use(p); err != nil {
			t.Fatal(err)
		}
		defer p.Close()
		n := map[string]int{}
		for range 200 {
			db.Exec("UPDATE users SET name = 'a'")
		}
		for _, r := range log.take() {
			n[r.server]++
		}
		if n["master-1"] < 50 || n["master-2"] < 50 {
			t.Errorf("%v", n)
		}
	})
}

// TestBubbles has reads run in bubbles of testing/synctest, as in the tests of applications, beside others. Each is a process of its own: what can go wrong ends it.
func TestBubbles(t *testing.T) {
	read := func(t *testing.T, s *setup, ctx context.Context) {
		t.Helper()
		if err := s.db.WithContext(replicated.WithSlave(ctx)).Find(&[]User{}).Error; err != nil {
			t.Error(err)
		}
	}
	for name, f := range map[string]func(*testing.T){
		"a read in a bubble, then one outside": func(t *testing.T) {
			for range 20 {
				synctest.Test(t, func(t *testing.T) { read(t, newSetup(t, 1, gorm.Config{}, nil), t.Context()) })
				read(t, newSetup(t, 1, gorm.Config{}, nil), t.Context())
			}
		},
		"a read outside, then a frozen slave in a bubble": func(t *testing.T) {
			for range 20 {
				read(t, newSetup(t, 1, gorm.Config{}, nil), t.Context())
				synctest.Test(t, func(t *testing.T) {
					s := newSetup(t, 1, gorm.Config{}, func(c *replicated.Config) { c.Logger = slog.New(slog.DiscardHandler) })
					s.slaves[0].freeze(always)
					ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
					defer cancel()
					read(t, s, ctx)
				})
			}
		},
		"garbage is collected in a bubble": func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newSetup(t, 2, gorm.Config{}, nil)
				for range 200 { // more contexts than there are places
					ctx, cancel := context.WithCancel(t.Context())
					defer cancel()
					read(t, s, ctx)
				}
				for range 3 {
					runtime.GC()
					time.Sleep(time.Second)
				}
			})
			time.Sleep(100 * time.Millisecond)
		},
		"rows are held on the master": func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newSetup(t, 1, gorm.Config{}, func(c *replicated.Config) { c.Failover.MaxOnMaster, c.Logger = 2, slog.New(slog.DiscardHandler) })
				s.slaves[0].dying(errRefused, "").Store(true)
				rows, err := s.db.WithContext(replicated.WithSlave(endless(t))).Model(&User{}).Rows()
				if err != nil {
					t.Fatal(err)
				}
				time.Sleep(time.Second)
				rows.Close()
			})
		},
	} {
		t.Run(name, func(t *testing.T) {
			if os.Getenv("REPLICATED_BUBBLE") != "" {
				f(t)
				return
			}
			cmd := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$", "-test.timeout=5s")
			cmd.Env = append(os.Environ(), "REPLICATED_BUBBLE=1")
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("%v: %.300s", err, out)
			}
		})
	}
}

// TestSlowIsNotDeadWhenAConnectionBreaks has a slow read run on a slave that answers questions, while another read there is killed, or meets the limit of
// connections: the slave leaves the view, but that is no reason to run the slow one twice.
func TestSlowIsNotDeadWhenAConnectionBreaks(t *testing.T) {
	for name, err := range map[string]error{"1927, killed": mysqlError(1927), "1040, too many connections": mysqlError(1040), "invalid connection": driversql.ErrInvalidConn} {
		bubble(t, name, func(t *testing.T) {
			s := newFailover(t, 2, gorm.Config{}, false, nil)
			var began atomic.Int64
			s.slaves[0].run = func(ctx context.Context, query string) error {
				if query == "SELECT killed" {
					return err
				}
				began.Add(1)
				return pause(ctx, 10*time.Second)
			}
			time.AfterFunc(500*time.Millisecond, func() {
				if err := s.in(replicated.WithSlave(endless(t)), nil).Raw("SELECT killed").Scan(&[]User{}).Error; err != nil {
					t.Error(err)
				}
				s.log.take()
			})
			start := time.Now()
			if err := s.in(replicated.WithSlave(endless(t)), nil).Find(&[]User{}).Error; err != nil {
				t.Error(err)
			}
			expect(t, s.log.servers(), "slave-1")
			if took := time.Since(start); took != 10*time.Second {
				t.Errorf("took %v", took)
			}
		})
	}
}

// TestFrozenSlavesPrepared has many read what one of them prepares, on a slave that freezes. It takes its time: GORM's caches do not work in bubbles.
func TestFrozenSlavesPrepared(t *testing.T) {
	for _, warm := range []bool{false, true} {
		for _, way := range []wayToRead{waysToRead[0], waysToRead[7], waysToRead[10]} {
			t.Run(fmt.Sprintf("%s, prepared before: %v", way.name, warm), func(t *testing.T) {
				t.Parallel()
				s := newFailover(t, 2, gorm.Config{PrepareStmt: true}, false, func(c *replicated.Config) { c.Failover.SlaveTimeout = 50 * time.Millisecond })
				var frozen atomic.Bool
				s.slaves[0].freeze(frozen.Load)
				ctx := replicated.WithSlave(context.Background())
				if warm {
					if err := way.run(s.db.WithContext(ctx)); err != nil {
						t.Fatal(err)
					}
				}
				s.log.take()
				frozen.Store(true)
				start := time.Now()
				var readers sync.WaitGroup
				for range 10 {
					readers.Go(func() {
						if err := way.run(s.db.WithContext(ctx)); err != nil {
							t.Error(err)
						}
					})
				}
				readers.Wait()
				if took := time.Since(start); took < 50*time.Millisecond || took > 5*time.Second {
					t.Errorf("took %v", took)
				}
				expect(t, s.log.servers(), "slave-2")
				if s.state("slave-1").Serving {
					t.Error("it is still in the view")
				}
			})
		}
	}
}
