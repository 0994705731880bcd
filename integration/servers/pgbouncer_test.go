package servers

import (
	"context"
	"database/sql"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// TestPgBouncer reaches servers through PgBouncer, which shares their fate unless it is on a machine of its
// own.
func TestPgBouncer(t *testing.T) {
	Want(t, "PgBouncer")
	for _, apart := range []bool{false, true} {
		t.Run(fmt.Sprintf("apart %v", apart), func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			c, err := StartPgBouncer(ctx, Config{Slaves: 1, PgBouncer: PgBouncer{Apart: apart}})
			c = forTest(t, c, err)
			slave := c.Slaves[0]
			db, err := sql.Open("pgx", slave.DSN())
			if err != nil {
				t.Fatal(err)
			}
			defer db.Close()
			port := func() (int, error) { // of who answers through PgBouncer
				ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
				defer cancel()
				var port int
				return port, db.QueryRowContext(ctx, "SELECT inet_server_port()").Scan(&port)
			}
			serves := func() {
				t.Helper()
				var got int
				err := poll(ctx, func() (err error) { got, err = port(); return err })
				if err != nil || got != slave.Port() {
					t.Errorf("port %d, %v; want the server's, %d", got, err, slave.Port())
				}
			}
			serves()
			if slave.Addr() == slave.ownAddr() {
				t.Errorf("the DSN leads past PgBouncer, to %s", slave.Addr())
			}

			must := func(err error) {
				t.Helper()
				if err != nil {
					t.Fatal(err)
				}
			}
			// reachable says whether there is a PgBouncer that accepts connections, and answers itself.
			reachable := func() bool {
				ctx, cancel := context.WithTimeout(ctx, time.Second)
				defer cancel()
				conn, err := pgconn.Connect(ctx, slave.DSN())
				if err != nil {
					return false
				}
				must(conn.Close(ctx))
				return true
			}
			for _, fault := range []struct {
				name string
				do   func() error
				undo func() error
			}{
				{"killed", slave.Kill, func() error { return slave.Start(ctx) }},
				{"stopped", func() error { return slave.Stop(ctx) }, func() error { return slave.Start(ctx) }},
				{"frozen", slave.Freeze, slave.Thaw},
			} {
				must(fault.do())
				if got, err := port(); err == nil {
					t.Errorf("%s: %d answers", fault.name, got)
				} else {
					t.Logf("%s: %v", fault.name, err)
				}
				if got := reachable(); got != apart {
					t.Errorf("%s: PgBouncer answers: %v, want %v", fault.name, got, apart)
				}
				must(fault.undo())
				serves()
			}
		})
	}
}
