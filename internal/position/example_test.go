package position_test

import (
	"context"
	"database/sql"
	"fmt"

	"github.com/gorm-replicated/replicated/internal/position"
)

func ExamplePosition_Covers() {
	master, _ := position.ParseMySQL("3E11FA47-71CA-11E1-9E33-C80AA9429562:1-7")
	slave, _ := position.ParseMySQL("3E11FA47-71CA-11E1-9E33-C80AA9429562:1-5:7")
	fmt.Println(master.Covers(slave), slave.Covers(master))

	var unknown position.Position
	fmt.Println(master.Covers(unknown), unknown.Covers(unknown))
	// Output:
	// true false
	// false false
}

func ExamplePosition_Append() {
	seen, _ := position.ParseMariaDB("0-1-1000,1-7-3")
	wrote, _ := position.ParseMariaDB("0-1-1003")
	form := position.Merge(seen, wrote).Append(nil)

	demand, err := position.Parse(form)
	fmt.Println(len(form), demand, err)
	// Output:
	// 8 0-1-1003,1-7-3 <nil>
}

// log is a replication that an application has built itself: the master keeps a log of its changes, and a
// slave writes down which row it has replayed, in the transaction that replays it.
type log struct{}

func (log) MasterPosition(ctx context.Context, conn *sql.Conn) (position.Position, error) {
	return read(ctx, conn, "SELECT coalesce(max(seq), 0) FROM log")
}

func (log) SlavePosition(ctx context.Context, conn *sql.Conn) (position.Position, error) {
	return read(ctx, conn, "SELECT seq FROM replayed")
}

func read(ctx context.Context, conn *sql.Conn, query string) (position.Position, error) {
	var n uint64
	err := conn.QueryRowContext(ctx, query).Scan(&n)
	return position.Sequence("log", n), err
}

var _ position.Source = log{}

func ExampleSource() {
	fmt.Println(position.Sequence("log", 7).Covers(position.Sequence("log", 5)))
	// Output:
	// true
}
