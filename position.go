package replicated

import (
	"context"
	"database/sql"

	"github.com/gorm-replicated/replicated/internal/position"
)

// Position is a point in a master's history, as a [PositionSource] reads it; see [Sequence]. The zero value
// is none.
type Position struct{ position position.Position }

// Sequence returns position n of a history that is a sequence of numbers, such as the rows of a log: a slave
// that has replayed n has replayed all up to n. The name keeps apart sequences that have nothing to do with
// each other: two masters need two names, and one master the same in every instance. It travels in tokens, so
// a short one serves best. Numbers begin at 1; 0 is no position.
func Sequence(name string, n uint64) Position { return Position{position.Sequence(name, n)} }

// Covers reports whether a server at p has everything that belongs to q. The zero value covers nothing, and
// nothing covers it, itself included.
func (p Position) Covers(q Position) bool { return p.position.Covers(q.position) }

// String returns what a log may show, such as "log:17", or "unknown" for the zero value.
func (p Position) String() string { return p.position.String() }

// source is a PositionSource as internal/position knows it.
type source struct{ PositionSource }

func (s source) MasterPosition(ctx context.Context, conn *sql.Conn) (position.Position, error) {
	p, err := s.PositionSource.MasterPosition(ctx, conn)
	return p.position, err
}

func (s source) SlavePosition(ctx context.Context, conn *sql.Conn) (position.Position, error) {
	p, err := s.PositionSource.SlavePosition(ctx, conn)
	return p.position, err
}

// PositionSource reads the positions of servers that the plugin does not know, such as those of a
// replication of the application's own:
//
//	func (log) MasterPosition(ctx context.Context, conn *sql.Conn) (replicated.Position, error) {
//		var n uint64
//		err := conn.QueryRowContext(ctx, "SELECT coalesce(max(id), 0) FROM log").Scan(&n)
//		return replicated.Sequence("log", n), err
//	}
//
// conn is a connection to the server in question that nobody else uses meanwhile; a method must leave it as
// it was, and need not use it. The methods may be called concurrently, for several connections. They return
// the zero Position if there is none at the moment, and an error if they could not find out.
type PositionSource interface {
	// MasterPosition returns a position on the master that covers everything committed there before the call. It
	// should not be larger than it must: slaves have to reach it even if nothing more is committed.
	MasterPosition(ctx context.Context, conn *sql.Conn) (Position, error)

	// SlavePosition returns a position that a slave has replayed entirely, so that every query that begins
	// after the call sees it.
	SlavePosition(ctx context.Context, conn *sql.Conn) (Position, error)
}
