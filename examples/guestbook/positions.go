package main

import (
	"context"
	"database/sql"

	"github.com/gorm-replicated/replicated"
)

// positions tells the plugin how far the servers in files are, which it has no way to know: the master in its
// log, a slave in the replay of it. The log gets its rows in the transactions that make the changes, in the
// order of their commits, so its end covers all that is committed. A slave's number is in its file, changed
// by the transaction that replays: whoever reads the file after that number was read sees all of it.
type positions struct{}

var _ replicated.PositionSource = positions{}

// MasterPosition implements replicated.PositionSource.
func (positions) MasterPosition(ctx context.Context, conn *sql.Conn) (replicated.Position, error) {
	return logPosition(ctx, conn, "SELECT coalesce(max(seq), 0) FROM log")
}

// SlavePosition implements replicated.PositionSource.
func (positions) SlavePosition(ctx context.Context, conn *sql.Conn) (replicated.Position, error) {
	return logPosition(ctx, conn, "SELECT seq FROM replayed")
}

func logPosition(ctx context.Context, conn *sql.Conn, query string) (replicated.Position, error) {
	var seq uint64
	err := conn.QueryRowContext(ctx, query).Scan(&seq)
	return replicated.Sequence("log", seq+1), err // 0 would be no position, and an empty log is one
}
