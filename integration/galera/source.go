// Package galera has the Source that docs/engines.md gives for Galera, for the suites that run there.
package galera

import (
	"context"
	"database/sql"

	"github.com/go-sql-driver/mysql"

	"github.com/gorm-replicated/replicated"
)

// Reading is added to the DSN of a slave: its reads wait for what the cluster has committed.
const Reading = "&wsrep_sync_wait=1"

// Source leaves own writes to the nodes, whose reads wait, and tells whether a node may be read.
type Source struct{}

var _ replicated.PositionSource = Source{}

func (Source) MasterPosition(context.Context, *sql.Conn) (replicated.Position, error) {
	return replicated.Sequence("galera", 1), nil
}

func (Source) SlavePosition(ctx context.Context, conn *sql.Conn) (replicated.Position, error) {
	var name, ready string
	if err := conn.QueryRowContext(ctx, "SHOW STATUS LIKE 'wsrep_ready'").Scan(&name, &ready); err != nil {
		return replicated.Position{}, err
	}
	if ready != "ON" { // what reads on it get
		return replicated.Position{}, &mysql.MySQLError{Number: 1047, Message: "wsrep_ready is " + ready}
	}
	return replicated.Sequence("galera", 1), nil
}
