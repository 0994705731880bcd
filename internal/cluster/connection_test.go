package cluster

import (
	"database/sql"
	"errors"
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
