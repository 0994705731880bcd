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
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	driversql "github.com/go-sql-driver/mysql"
	"gorm.io/gorm"
	"gorm.io/gorm/clause"
	"gorm.io/plugin/dbresolver"

	"github.com/gorm-replicated/replicated"
	"github.com/gorm-replicated/replicated/internal/cluster"
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

// TestFailover has each way to read meet each kind of failure. Nobody notices but the Observer and Status,
// and the next read does not try that slave again.
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
		var before []string
		if way.before {
			before = []string{"slave-1: context"}
		}
		if f.breaks && top.dead == 2 { // it may be the statement that breaks them
			if err := way.run(db); !errors.Is(err, f.err) {
				t.Errorf("got %v", err)
			}
			expect(t, s.routes.take(), slices.Concat(before, []string{"slave-1: context", "slave-2: failover"})...)
			if s.state("slave-1").Serving || !s.state("slave-2").Serving {
				t.Errorf("Status: %+v, %+v", s.state("slave-1"), s.state("slave-2"))
			}
			return
		}
		if err := way.run(db); err != nil {
			t.Errorf("the failure shows: %v", err)
		}
		answers := append(slices.Clone([]string{"slave-1", "slave-2"}[:top.slaves]), "master")[top.dead]
		want := append(before, "slave-1: context")
		if way.before {
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
			case !f.stays && !strings.Contains(state.Reason, cluster.Describe(f.err)):
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
			t.Run(way.name+"/"+f.name+"/later", func(t *testing.T) {
				try(t, way, f, topologies[0], plain, false, true)
			})
		}
		for _, f := range faultsOfPostgreSQL {
			t.Run(way.name+"/"+f.name, func(t *testing.T) { try(t, way, f, topologies[0], plain, true, true) })
		}
		// GORM leaves a goroutine for each cache of prepared statements: fewer of these.
		for _, f := range []fault{faultsOfMySQL[0], faultsOfMySQL[8]} {
			t.Run(way.name+"/"+f.name+"/prepared", func(t *testing.T) {
				try(t, way, f, topologies[0], prepared, false, false)
			})
			t.Run(way.name+"/"+f.name+"/prepared, later", func(t *testing.T) {
				try(t, way, f, topologies[0], prepared, false, true)
			})
		}
		t.Run(way.name+"/prepared per session", func(t *testing.T) {
			try(t, way, faultsOfMySQL[1], topologies[0], perSession, false, true)
		})
		t.Run(way.name+"/prepared, all slaves", func(t *testing.T) {
			try(t, way, faultsOfMySQL[0], topologies[2], prepared, false, true)
		})
	}
	for _, f := range faultsOfMySQL {
		t.Run("Row, prepared/"+f.name, func(t *testing.T) {
			try(t, waysToRead[7], f, topologies[0], prepared, false, true)
		})
	}
}

// TestNoFailoverOfTheMaster is the control of TestFailover: what moves a read on from a slave comes back from
// the master as it is.
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

// TestNotADeadServer has errors of which no server is guilty. They come back as they are; nothing runs twice,
// and the slave stays.
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
		{"no record", nothing, func(db *gorm.DB) error { return db.First(&User{}).Error },
			gorm.ErrRecordNotFound, 1},
		{"no rows, says the driver", with(sql.ErrNoRows), find, sql.ErrNoRows, 1},
		{"an error of the driver's own", with(driver.ErrSkip), find, driver.ErrSkip, -1},
		{"rows that break, Find", breaks(io.ErrUnexpectedEOF), find, io.ErrUnexpectedEOF, 1},
		{"rows that break, Rows", breaks(driversql.ErrInvalidConn), rows, driversql.ErrInvalidConn, 1},
		{"rows that break, 1927", breaks(mysqlError(1927)), rows, mysqlError(1927), 1},
		{"rows that break, Row", breaks(io.ErrUnexpectedEOF), row, io.ErrUnexpectedEOF, 1},
		{"in a transaction, 1053", with(mysqlError(1053)), inTx(find), mysqlError(1053), 1},
		{"in a transaction, connection lost", with(driversql.ErrInvalidConn), inTx(find),
			driversql.ErrInvalidConn, 1},
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
				// preparing is one
				allowed := test.tries
				if allowed > 0 && tries > allowed && !(mode.name != "plain" && tries <= 2*allowed) {
					t.Errorf("%d statements", tries)
				}
				for _, r := range s.log.take() {
					if r.server != "slave-1" {
						t.Errorf("ran on %s: %s", r.server, r.sql)
					}
				}
				state := s.state("slave-1")
				if !state.Serving || state.Reason != "" && !strings.Contains(state.Reason, "ready-made") {
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

// TestComingBack has a slave that failed answer again: it is read after a while, and less than the others at
// first.
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
				c.Probe.Source = &asking{h, func(ctx context.Context, conn *sql.Conn) error {
					return conn.PingContext(ctx)
				}}
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
			got := reads(t, s, ctx, 5*time.Second)
			if got["slave-1: default intent"] > 0.1 || got["slave-2: failover"] > 0.1 ||
				got["slave-2: default intent"] < 99 {
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
			got := reads(t, s, ctx, time.Second)
			if got["master: recovering"] < 50 || got["slave-1: default intent"] < 5 {
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
