package cluster

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"gorm.io/driver/mysql"
	"gorm.io/gorm"

	"github.com/gorm-replicated/replicated/internal/position"
)

// wire is a driver whose connections are counted, and can be broken.
type wire struct {
	mu     sync.Mutex
	dialed int
	open   int
	pings  []int // which connection each came by
	broken error
	killed int // a connection that an operator has ended
	// Connections up to the n-th lead to a server that is read-only.
	readOnlyTo int
}

func (w *wire) Connect(context.Context) (driver.Conn, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.broken != nil {
		return nil, w.broken
	}
	w.dialed++
	w.open++
	return &wireConn{w, w.dialed}, nil
}

func (w *wire) Driver() driver.Driver            { return w }
func (w *wire) Open(string) (driver.Conn, error) { return w.Connect(context.Background()) }

type wireConn struct {
	w *wire
	n int
}

func (c *wireConn) Prepare(string) (driver.Stmt, error) { return nil, errors.New("unused") }
func (c *wireConn) Begin() (driver.Tx, error)           { return nil, errors.New("unused") }
func (c *wireConn) Close() error {
	c.w.mu.Lock()
	defer c.w.mu.Unlock()
	c.w.open--
	return nil
}

func (c *wireConn) Ping(context.Context) error {
	c.w.mu.Lock()
	defer c.w.mu.Unlock()
	c.w.pings = append(c.w.pings, c.n)
	if c.n == c.w.killed {
		return io.ErrUnexpectedEOF
	}
	return c.w.broken
}

// QueryContext tells a Reader that this is MariaDB, and which connection this is for a position.
func (c *wireConn) QueryContext(_ context.Context, query string, _ []driver.NamedValue) (driver.Rows, error) {
	if err := c.Ping(context.Background()); err != nil {
		return nil, err
	}
	if strings.HasPrefix(query, "SHOW") {
		return &wireRows{columns: 2, left: [][]driver.Value{{"version", "10.11.6-MariaDB"}}}, nil
	}
	c.w.mu.Lock()
	defer c.w.mu.Unlock()
	readOnly := "0"
	if c.n <= c.w.readOnlyTo {
		readOnly = "1"
	}
	row := []driver.Value{fmt.Sprintf("0-1-%d", c.n), "ON", "1", readOnly, nil, nil, nil, nil, nil}
	return &wireRows{columns: 9, left: [][]driver.Value{row}}, nil
}

type wireRows struct {
	columns int
	left    [][]driver.Value
}

func (r *wireRows) Columns() []string { return make([]string, r.columns) }
func (r *wireRows) Close() error      { return nil }
func (r *wireRows) Next(dest []driver.Value) error {
	if len(r.left) == 0 {
		return io.EOF
	}
	copy(dest, r.left[0])
	r.left = r.left[1:]
	return nil
}

// is tells which connections were opened, are open, and are in use of db.
func (w *wire) is(t *testing.T, when string, dialed, open, inUse int, db *sql.DB) {
	t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.dialed != dialed || w.open != open || db.Stats().InUse != inUse {
		t.Errorf("%s: %d dialed, %d open, %d in use; want %d, %d, %d", when, w.dialed, w.open, db.Stats().InUse,
			dialed, open, inUse)
	}
}

func (w *wire) breaks(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.broken = err
}

// kill ends a connection.
func (w *wire) kill(n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.killed = n
}

// asks asks once, and says which connection answered.
func asks(t *testing.T, c *connection) string {
	t.Helper()
	reading, err := c.ask(t.Context())
	if err != nil {
		return Describe(err)
	}
	if reading.Position.Known() {
		return reading.Position.String()
	}
	return reading.Reason
}

func TestConnectionOfAPool(t *testing.T) {
	for _, test := range []struct {
		name    string
		maxOpen int
		kept    int // connections in use between questions
	}{
		{"without a limit", 0, 1},
		{"large enough", pinnable, 1},
		{"small", pinnable - 1, 0},
		{"of one", 1, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := &wire{}
				db := sql.OpenDB(w)
				db.SetMaxOpenConns(test.maxOpen)
				c := &connection{server: &Server{Pool: db, Slave: true}, cfg: position.Config{Dialect: "mysql"}}
				for range 3 {
					if got := asks(t, c); got != "0-1-1" {
						t.Errorf("got %q", got)
					}
					w.is(t, "between questions", 1, 1, test.kept, db)
				}
				w.breaks(syscall.EPIPE)
				if got := asks(t, c); !strings.Contains(got, "broken pipe") {
					t.Errorf("got %q", got)
				}
				w.is(t, "broken", 1, 0, 0, db) // nobody gets it again
				w.breaks(nil)
				if got := asks(t, c); got != "0-1-2" {
					t.Errorf("after that: %q", got)
				}
				if last := w.pings[len(w.pings)-2:]; last[0] != 2 || last[1] != 2 { // which server it is, and where
					t.Errorf("no new Reader: %v", w.pings)
				}
				c.close()
				w.is(t, "closed", 2, 1, 0, db) // it is the pool's again
				_ = db.Close()
			})
		})
	}
}

// register makes w a driver of database/sql, and returns its name.
func (w *wire) register() string {
	name := fmt.Sprintf("wire-%p", w)
	sql.Register(name, w)
	return name
}

func TestConnectionOfItsOwn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &wire{}
		db := sql.OpenDB(w)
		db.SetMaxOpenConns(1)
		full, err := db.Conn(t.Context()) // by the application
		if err != nil {
			t.Fatal(err)
		}
		d := mysql.New(mysql.Config{DriverName: w.register(), DSN: "app:s3cr3t@tcp(db1)/shop"})
		c := &connection{server: NewServer("master", db, d, 0, 0), cfg: position.Config{Dialect: "mysql"}}
		for range 3 {
			if got := asks(t, c); got != "0-1-2" {
				t.Errorf("got %q", got)
			}
		}
		w.is(t, "asked", 2, 2, 1, c.own)
		if n := c.own.Stats().MaxOpenConnections; n != 1 {
			t.Errorf("the pool may have %d connections", n)
		}
		w.breaks(errors.New("cannot connect as app:s3cr3t@tcp(db1)/shop"))
		for range 2 { // asking, and connecting
			if got := asks(t, c); !strings.Contains(got, "an error of type") {
				t.Errorf("got %q", got)
			}
		}
		w.breaks(nil)
		if got := asks(t, c); got != "0-1-3" {
			t.Errorf("after that: %q", got)
		}
		time.Sleep(connectionLifetime + 1)
		if got := asks(t, c); got != "0-1-4" {
			t.Errorf("after a while: %q", got)
		}
		w.is(t, "after a while", 4, 2, 1, c.own)
		c.close()
		w.is(t, "closed", 4, 1, 1, db)
		_ = full.Close()
		_ = db.Close()
		synctest.Wait()
	})
}

// TestMasterThatIsReadOnly asks over a new connection, within the same question, when the server at the end
// of the old one is not the master any longer.
func TestMasterThatIsReadOnly(t *testing.T) {
	const none = "read_only is on: it takes no writes, and another server may be the master"
	for _, test := range []struct {
		name  string
		slave bool
		own   bool // it is asked over a pool of the monitor's own
		small bool // otherwise: the pool lends a connection for each question
		// Four questions: at first; when the first connection leads to a server that is read-only; twice when
		// all do. And how many connections have been made by then.
		want   [4]string
		dialed [4]int
	}{
		{"one of its own", false, true, false, [4]string{"0-1-1", "0-1-2", none, none}, [4]int{1, 2, 3, 4}},
		// Of another pool's connections nobody knows how old they are.
		{"one of the pool", false, false, false, [4]string{"0-1-1", "0-1-2", none, none}, [4]int{1, 2, 3, 5}},
		{"a small pool", false, false, true, [4]string{"0-1-1", "0-1-2", none, none}, [4]int{1, 2, 3, 5}},
		{"a slave may be", true, true, false, [4]string{"0-1-1", "0-1-1", "0-1-1", "0-1-1"}, [4]int{1, 1, 1, 1}},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := &wire{}
				db := sql.OpenDB(w)
				if test.small {
					db.SetMaxOpenConns(1)
				}
				var d gorm.Dialector
				if test.own {
					d = mysql.New(mysql.Config{DriverName: w.register(), DSN: "app:s3cr3t@tcp(db1)/shop"})
				}
				server := NewServer("master", db, d, 0, 0)
				server.Slave = test.slave
				c := &connection{server: server, cfg: position.Config{Dialect: "mysql"}}
				for i, readOnlyTo := range []int{0, 1, 100, 100} {
					w.mu.Lock()
					w.readOnlyTo = readOnlyTo
					w.mu.Unlock()
					if got := asks(t, c); got != test.want[i] {
						t.Errorf("question %d: %q, want %q", i, got, test.want[i])
					}
					if w.dialed != test.dialed[i] {
						t.Errorf("question %d: %d connections were made, want %d", i, w.dialed, test.dialed[i])
					}
				}
				c.close()
				_ = db.Close()
				synctest.Wait()
			})
		})
	}
}

// TestOpeningAsksNothing opens servers that would never answer.
func TestOpeningAsksNothing(t *testing.T) {
	s := NewServer("master", nil, mysql.Open("app:secret@tcp(192.0.2.1)/shop"), 0, 0)
	began := time.Now()
	db, err := s.reopen()
	if err != nil || time.Since(began) > time.Minute {
		t.Fatalf("after %v: %v", time.Since(began), err)
	}
	_ = db.Close()
}

// TestOnePoolForSeveralClusters has two monitors open the same master at the same time.
func TestOnePoolForSeveralClusters(t *testing.T) {
	s := NewServer("master", nil, mysql.Open("app:secret@tcp(192.0.2.1)/shop"), 0, 0)
	var tasks sync.WaitGroup
	for range 4 {
		tasks.Go(func() {
			if db, err := s.reopen(); err != nil {
				t.Error(err)
			} else {
				_ = db.Close()
			}
		})
	}
	tasks.Wait()
}

func TestReopens(t *testing.T) {
	for _, test := range []struct {
		name string
		d    gorm.Dialector
		want bool
	}{
		{"MySQL", mysql.Open("app:secret@tcp(db1)/shop"), true},
		{"MySQL, ready-made", mysql.New(mysql.Config{Conn: &sql.DB{}}), false},
		{"MySQL, both", mysql.New(mysql.Config{DSN: "app:secret@tcp(db1)/shop", Conn: &sql.DB{}}), false},
		{"PostgreSQL", named{"postgres", other{otherConfig: &otherConfig{"host=db1"}}}, true},
		{"PostgreSQL, wrapped", named{"postgres", other{}}, false},
		{"SQLite", named{"sqlite", other{otherConfig: &otherConfig{"app.db"}}}, false},
		{"none", nil, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := (&Server{dialector: test.d}).reopens(); got != test.want {
				t.Errorf("got %v", got)
			}
		})
	}
}

// named is a dialector that has a name.
type named struct {
	name string
	other
}

func (n named) Name() string { return n.name }

func TestWatchable(t *testing.T) {
	byDSN := &Server{dialector: mysql.Open("app:secret@tcp(db1)/shop")}
	brought := &Server{dialector: mysql.New(mysql.Config{Conn: &sql.DB{}})}
	for _, test := range []struct {
		name    string
		servers []*Server
		want    bool
	}{
		{"all by DSN", []*Server{byDSN, byDSN}, true},
		{"the slave brought", []*Server{byDSN, brought}, false},
		{"the master brought", []*Server{brought, byDSN}, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := New(test.servers[:1], test.servers[1:]).Watchable(); got != test.want {
				t.Errorf("got %v", got)
			}
		})
	}
}

// TestWatch is the whole of it, over pools.
func TestWatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var servers []*Server
		var wires []*wire
		for i := range 3 {
			w := &wire{}
			if i > 0 {
				w.readOnlyTo = 100
			}
			wires = append(wires, w)
			servers = append(servers, &Server{ID: fmt.Sprint(i), Pool: sql.OpenDB(w), Slave: i > 0})
		}
		c := New(servers[:1], servers[1:])
		cfg := stageConfig
		cfg.Dialect = "mysql"
		c.Watch(cfg)
		c.AwaitFirst(t.Context())
		if v := c.View(); len(v.Slaves) != 2 || v.All[0].Position.Kind() != position.MariaDB ||
			v.All[0].Server.Writable() {
			t.Errorf("%+v", v)
		}
		if r, err := c.Position(t.Context(), servers[0]); err != nil || r.Position.String() != "0-1-1" {
			t.Errorf("got %v, %v", r, err)
		}
		if err := c.Close(); err != nil {
			t.Error(err)
		}
		for i, w := range wires {
			if want := map[bool]int{true: 1, false: 0}[i == 0]; w.open != want { // the master's pool is not ours
				t.Errorf("server %d has %d connections", i, w.open)
			}
		}
		_ = servers[0].close()
	})
}

// TestNoPool has servers whose pools are something else.
func TestNoPool(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pool := struct{ gorm.ConnPool }{}
		c := New([]*Server{{ID: "master", Pool: pool}}, []*Server{{ID: "slave", Pool: pool, Slave: true}})
		c.Watch(stageConfig)
		c.AwaitFirst(t.Context())
		if v := c.View(); len(v.Slaves) != 1 || v.All[0].Reason != errNoPool.Error() {
			t.Errorf("%+v", v)
		}
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
}

// TestOneDialectorForSeveralServers has a dialector that writes to itself while it opens, as PostgreSQL's
// does.
func TestOneDialectorForSeveralServers(t *testing.T) {
	d := &selfish{Dialector: mysql.New(mysql.Config{Conn: sql.OpenDB(&wire{}), SkipInitializeWithVersion: true})}
	own := NewServer("master", sql.OpenDB(&wire{}), d, 0, 0)
	three := []Spec{{ID: "a", Dialector: d}, {ID: "b", Dialector: d}, {ID: "c", Dialector: d}}
	if _, err := Open(own, three); err != nil || d.opened != 3 {
		t.Errorf("opened %d times, %v", d.opened, err) // and the race detector is silent
	}
	slaveOfAnotherGroup := NewServer("other", sql.OpenDB(&wire{}), d, 0, 0)
	own = NewServer("master", sql.OpenDB(&wire{}), mysql.Open("app:secret@tcp(db1)/shop"), 0, 0)
	if s, err := Open(own, []Spec{{ID: "d", Dialector: d}}, slaveOfAnotherGroup); err != nil ||
		s[0].reopening != slaveOfAnotherGroup.reopening {
		t.Errorf("it may be opened while another server opens it: %v", err)
	}
}

type selfish struct {
	gorm.Dialector
	opened int
}

func (d *selfish) Initialize(db *gorm.DB) error {
	d.opened++
	return d.Dialector.Initialize(db)
}
