package cluster

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"testing"
	"time"

	mysqldriver "github.com/go-sql-driver/mysql"
	"gorm.io/driver/mysql"
	"gorm.io/gorm"
)

// openSlave opens a slave whose connections are w's.
func openSlave(t *testing.T, d gorm.Dialector, limits Limits) *Server {
	t.Helper()
	own := NewServer("master", sql.OpenDB(&wire{}), mysql.Open("app:secret@tcp(db1)/shop"), 0, 0)
	servers, err := Open(own, []Spec{{ID: "slave", Dialector: d, Limits: limits}})
	if err != nil {
		t.Fatal(err)
	}
	return servers[0]
}

func TestPlaceOf(t *testing.T) {
	locked := &mysqldriver.MySQLError{Number: 3118, Message: "account locked"}
	w := &wire{}
	byDSN := mysql.New(mysql.Config{DriverName: w.register(), DSN: "app:secret@tcp(db2)/shop"})
	s := openSlave(t, byDSN, Limits{MaxOpen: 7, MaxIdle: 1})
	db := s.Pool.(*sql.DB)
	if n := db.Stats().MaxOpenConnections; n != 7 {
		t.Errorf("the pool may have %d connections", n)
	}
	conn, err := db.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	err = conn.Raw(func(c any) error {
		if _, ok := c.(*wireConn); !ok {
			t.Errorf("a connection is a %T, not the driver's own", c)
		}
		return nil
	})
	if err = errors.Join(err, conn.Close()); err != nil {
		t.Error(err)
	}

	w.breaks(locked)
	if _, err = db.Query("SELECT 1"); err != error(locked) || s.PlaceOf(err) != Executing {
		t.Errorf("executing: place %d, %v", s.PlaceOf(err), err)
	}
	db.SetMaxIdleConns(-1)
	_, err = db.Query("SELECT 1")
	var said *mysqldriver.MySQLError
	if s.PlaceOf(err) != Connecting || err.Error() != locked.Error() || !errors.As(err, &said) {
		t.Errorf("connecting: place %d, %v", s.PlaceOf(err), err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	past, cancel := context.WithDeadline(t.Context(), time.Now().Add(-time.Second))
	defer cancel()
	for _, ctx := range []context.Context{ended, past} {
		if _, err := wraps(w).Connect(ctx); s.PlaceOf(err) == Connecting {
			t.Errorf("it is the caller's: %v", err)
		}
	}
	if _, err := wraps(w).Connect(t.Context()); s.PlaceOf(err) != Connecting {
		t.Errorf("the control: %v", err)
	}
	if err := s.close(); err != nil || w.open != 0 {
		t.Errorf("%d connections are open after closing, %v", w.open, err)
	}

	brought := openSlave(t, mysql.New(mysql.Config{Conn: sql.OpenDB(w)}), Limits{})
	if _, err = brought.Pool.(*sql.DB).Query("SELECT 1"); brought.PlaceOf(err) != Anywhere {
		t.Errorf("a pool that was brought: place %d, %v", brought.PlaceOf(err), err)
	}
}

func wraps(c driver.Connector) *connector { return &connector{Connector: c} }

// TestThePoolThatWasOpenedIsClosed has a dialector open a connection while it opens the pool.
func TestThePoolThatWasOpenedIsClosed(t *testing.T) {
	w := &wire{}
	d := mysql.New(mysql.Config{
		DriverName: w.register(), DSN: "app:secret@tcp(db2)/shop", SkipInitializeWithVersion: true,
	})
	s := openSlave(t, asking{d}, Limits{MaxIdle: 2})
	if w.open != 1 {
		t.Fatalf("the control: %d connections", w.open)
	}
	if err := s.close(); err != nil || w.open != 0 {
		t.Errorf("%d connections are open after closing, %v", w.open, err)
	}
}

// asking is a dialector that asks the server for something while it opens.
type asking struct{ gorm.Dialector }

func (d asking) Initialize(db *gorm.DB) error {
	if err := d.Dialector.Initialize(db); err != nil {
		return err
	}
	return db.ConnPool.(*sql.DB).Ping()
}

// TestAKilledConnectionIsNoAnswer has somebody end the connection that questions are asked over.
func TestAKilledConnectionIsNoAnswer(t *testing.T) {
	w := &wire{}
	d := mysql.New(mysql.Config{DriverName: w.register(), DSN: "app:secret@tcp(db2)/shop"})
	server := NewServer("slave", nil, d, 0, 0)
	server.Slave = true
	c := &connection{server: server, cfg: Monitoring{Dialect: "mysql"}.questions()}
	defer c.close()
	if got := asks(t, c); got != "0-1-1" {
		t.Errorf("got %q", got)
	}
	w.kill(1)
	if got := asks(t, c); got != "0-1-2" {
		t.Errorf("killed: %q", got)
	}
	c.server.doubted.Store(true)
	if got := asks(t, c) + asks(t, c); got != "0-1-30-1-3" {
		t.Errorf("doubted: %q", got)
	}
	c.server.refused.Store(true)
	if got := asks(t, c) + asks(t, c); got != "0-1-40-1-5" {
		t.Errorf("refused: %q", got)
	}
	w.breaks(errors.New("shut down"))
	if _, err := c.ask(t.Context()); err == nil {
		t.Error("the control: it answers although it is down")
	}
}
