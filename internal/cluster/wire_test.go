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
	"testing"
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

// register makes w a driver of database/sql, and returns its name.
func (w *wire) register() string {
	name := fmt.Sprintf("wire-%p", w)
	sql.Register(name, w)
	return name
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

func (w *wire) Driver() driver.Driver { return w }

func (w *wire) Open(string) (driver.Conn, error) { return w.Connect(context.Background()) }

type wireConn struct {
	w *wire
	n int
}

func (c *wireConn) Prepare(string) (driver.Stmt, error) { return nil, errors.New("unused") }

func (c *wireConn) Begin() (driver.Tx, error) { return nil, errors.New("unused") }

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

func (r *wireRows) Close() error { return nil }

func (r *wireRows) Next(dest []driver.Value) error {
	if len(r.left) == 0 {
		return io.EOF
	}
	copy(dest, r.left[0])
	r.left = r.left[1:]
	return nil
}
