package cluster

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"io"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"gorm.io/gorm"
)

// variables is a server that knows nothing but some of its variables, and is down at first for some attempts.
type variables struct {
	rows [][]driver.Value
	down atomic.Int32
}

func (v *variables) Connect(context.Context) (driver.Conn, error) {
	if v.down.Add(-1) >= 0 {
		return nil, errors.New("down")
	}
	return variablesConn{v}, nil
}
func (v *variables) Driver() driver.Driver { return nil }

type variablesConn struct{ v *variables }

func (c variablesConn) Prepare(string) (driver.Stmt, error) { return nil, errors.New("unused") }
func (c variablesConn) Close() error                        { return nil }
func (c variablesConn) Begin() (driver.Tx, error)           { return nil, errors.New("unused") }
func (c variablesConn) QueryContext(context.Context, string, []driver.NamedValue) (driver.Rows, error) {
	return &variablesRows{c.v.rows}, nil
}

type variablesRows struct{ left [][]driver.Value }

func (r *variablesRows) Columns() []string { return make([]string, len(r.left[0])) }
func (r *variablesRows) Close() error      { return nil }
func (r *variablesRows) Next(dest []driver.Value) error {
	if len(r.left) == 0 {
		return io.EOF
	}
	copy(dest, r.left[0])
	r.left = r.left[1:]
	return nil
}

func TestAskWritable(t *testing.T) {
	for _, test := range []struct {
		name, dialect string
		rows          [][]driver.Value
		down          int32
		handedOver    bool
		want          bool
	}{
		{"read_only", "mysql", [][]driver.Value{{"innodb_read_only", "OFF"}, {"read_only", "ON"}}, 0, false, false},
		{"innodb_read_only", "mysql", [][]driver.Value{{"innodb_read_only", "ON"}, {"read_only", "OFF"}}, 0, false, false},
		{"a value of MariaDB 11.8", "mysql", [][]driver.Value{{"read_only", "NO_LOCK_NO_ADMIN"}}, 0, false, false},
		{"writable", "mysql", [][]driver.Value{{"innodb_read_only", "OFF"}, {"read_only", "OFF"}}, 0, false, true},
		{"writable, and down at first", "mysql", [][]driver.Value{{"read_only", "OFF"}}, 5, false, true},
		{"a standby", "postgres", [][]driver.Value{{"on"}}, 0, false, false},
		{"no standby", "postgres", [][]driver.Value{{"off"}}, 0, false, true},
		{"another dialect", "sqlite", [][]driver.Value{{"off"}}, 0, false, false},
		{"handed over", "mysql", [][]driver.Value{{"read_only", "OFF"}}, 0, true, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				v := &variables{rows: test.rows}
				v.down.Store(test.down)
				slave := &Server{ID: "slave", Pool: sql.OpenDB(v), Slave: true, opened: !test.handedOver}
				c := New(nil, []*Server{slave})
				var found atomic.Int32
				c.AskWritable(test.dialect, func(*Server) { found.Add(1) })
				<-time.After(10 * time.Minute) // by the bubble's clock
				synctest.Wait()
				if got := slave.Writable(); got != test.want || found.Load() > 1 || (found.Load() == 1) != test.want {
					t.Errorf("Writable: %v, found %d times", got, found.Load())
				}
				if err := c.Close(); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// TestCloseEndsAsking has Close not wait for a slave that never answers.
func TestCloseEndsAsking(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := &variables{}
		v.down.Store(1 << 30)
		c := New(nil, []*Server{{ID: "slave", Pool: gorm.ConnPool(sql.OpenDB(v)), Slave: true, opened: true}})
		c.AskWritable("mysql", func(*Server) { t.Error("it does not answer") })
		<-time.After(time.Hour)
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
}
