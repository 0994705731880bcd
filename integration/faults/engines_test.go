package faults_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"gorm.io/gorm"

	"github.com/gorm-replicated/replicated"
	"github.com/gorm-replicated/replicated/integration/servers"
)

// starter is servers.StartMariaDB and the like.
type starter = func(context.Context, servers.Config) (*servers.Cluster, error)

// ending ends a fault, beginning brings it about. The ending has to be called also after an error, unless it
// is nil.
type (
	ending    = func(context.Context) error
	beginning = func(context.Context, *servers.Server) (ending, error)
)

// engine is a kind of servers, and how faults are brought about there. All is done past the plugin, and what
// is done to a slave is no transaction of its own.
type engine struct {
	name  string
	dial  func(dsn string) gorm.Dialector
	start starter

	// through returns the DSN with another address.
	through func(dsn, addr string) string
	// slow returns a read that takes a while, with a word that tells it from others.
	slow func(d time.Duration, word string) string
	// active is a query for the statements that contain a word (its argument, for LIKE) and have run for a
	// moment: one line for each, the same as long as it runs.
	active string
	// data is a query for the data folder.
	data string
	// schema is before the name of a table of the application's, for this package's account.
	schema string
	// connections is a query for the number of those that the application's account has; killAll ends them.
	connections, killAll string
	// clients, where it is set, returns that number instead.
	clients func(context.Context, *servers.Server) (int, error)
	// prepared is a query for the number of prepared statements on the server; "" where each connection has its
	// own.
	prepared string

	// kill ends a connection, by the number that active begins with.
	kill string
	// creates are the statements that create what raises needs.
	creates []string
	raises  []raiser
	// dies is a query of a slave whose backend does not survive it. It does no harm to a master.
	dies string
	// refusals have the server refuse connections, and leave alone those that there are.
	refusals []refusal

	// crowd has the server refuse whoever connects, for too many connections, until that is undone.
	crowd beginning
	// lockAccount has the server refuse new connections of the application's account.
	lockAccount beginning
	// lockOut has the server refuse the application's account, which loses the connections that it has.
	lockOut beginning
	// readOnly has the server refuse the application's writes.
	readOnly beginning
	// sever has the slave receive nothing from its master.
	sever beginning
	// lose has the slave fall to an earlier position than it has shown, and stay there. It calls meanwhile just
	// before.
	lose func(_ context.Context, _ *servers.Server, meanwhile func(context.Context) error) (ending, error)
	// forgets: a slave that fell has its rows all the same, and no position.
	forgets bool
	// promote makes the slave that has come the furthest the master of the others. Their master must be down.
	promote func(context.Context, []*servers.Server) (*servers.Server, error)
	// retire ends a master that could not become a slave of its successor if it were still there when that is
	// promoted. Its slaves have all that it has.
	retire func(context.Context, *servers.Server) error
	// attach makes the former master a slave of the server that took its place. It may have been killed.
	attach func(ctx context.Context, former, master *servers.Server) error

	// group: the servers are members of a group, which stops where most of them are gone, or cannot agree on
	// who is. So TestRandomFaults, in which several may be gone at once, has none of its members die, stand
	// still or leave.
	group bool

	// reading is added to the slaves' DSN: their reads wait until they show what was committed when they began.
	// So slaves have no position that they could fall behind, or lose. The source stands in for it.
	reading string
	source  replicated.PositionSource

	options []string // of all servers
	silent  bool     // who asks a server that was killed waits, and is not refused at once
	prepare func(context.Context, *servers.Cluster) error

	once   sync.Once
	shared *servers.Cluster
	err    error
}

var engines = slices.DeleteFunc([]*engine{mariaDB, mySQL, postgreSQL, groupReplication, galeraNodes},
	func(e *engine) bool { return !servers.Wanted(e.name) })

// positioned tells whether slaves have positions.
func (e *engine) positioned() bool { return e.source == nil }

// exec runs statements on one connection of this package's account.
func exec(ctx context.Context, s *servers.Server, statements ...string) error {
	conn, err := s.DB().Conn(ctx)
	if err != nil {
		return fmt.Errorf("%v: %w", s, err)
	}
	defer conn.Close()
	return execOn(ctx, conn, s, statements...)
}

func execOn(ctx context.Context, conn *sql.Conn, s *servers.Server, statements ...string) error {
	for _, q := range statements {
		if _, err := conn.ExecContext(ctx, s.Words(q)); err != nil {
			verb, _, _ := strings.Cut(q, "'") // no password in an error
			return fmt.Errorf("%v: %s: %w", s, verb, err)
		}
	}
	return nil
}

func ask[T any](ctx context.Context, s *servers.Server, query string, args ...any) (answer T, err error) {
	if err = s.DB().QueryRowContext(ctx, query, args...).Scan(&answer); err != nil {
		err = fmt.Errorf("%v: %s: %w", s, query, err)
	}
	return answer, err
}

// connected returns how many connections the application's account has to a server.
func (e *engine) connected(ctx context.Context, s *servers.Server) (int, error) {
	if e.clients != nil {
		return e.clients(ctx, s)
	}
	return ask[int](ctx, s, e.connections)
}

// ordered returns what has statements change a server, and others undo that.
func ordered(do, undo []string) func(context.Context, *servers.Server) (func(context.Context) error, error) {
	return func(ctx context.Context, s *servers.Server) (func(context.Context) error, error) {
		return func(ctx context.Context) error { return exec(ctx, s, undo...) }, exec(ctx, s, do...)
	}
}

// lines returns the first column of all rows.
func lines(ctx context.Context, s *servers.Server, query string, args ...any) (all []string, err error) {
	rows, err := s.DB().QueryContext(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var line string
		if err := rows.Scan(&line); err != nil {
			return nil, err
		}
		all = append(all, line)
	}
	return all, rows.Err()
}

// logged returns the end of a server's log, which is beside its data folder.
func logged(ctx context.Context, s *servers.Server, query string) string {
	dir, err := ask[string](ctx, s, query)
	if err != nil {
		return err.Error()
	}
	b, err := os.ReadFile(filepath.Join(filepath.Dir(filepath.Clean(dir)), "log"))
	if err != nil {
		return err.Error()
	}
	return string(b[max(0, len(b)-3000):])
}

// occupy opens connections of the application's account, past the proxies, until there are n of them or the
// server refuses another one. It returns what closes them.
func occupy(
	ctx context.Context, e *engine, s *servers.Server, n int,
) (free func() error, refused error, err error) {
	db, err := gorm.Open(e.dial(s.DSN()), &gorm.Config{DisableAutomaticPing: true})
	if err != nil {
		return nil, nil, err
	}
	pool, err := db.DB()
	if err != nil {
		return nil, nil, err
	}
	var conns []*sql.Conn
	free = func() error {
		var errs []error
		for _, c := range conns {
			errs = append(errs, c.Close())
		}
		return errors.Join(append(errs, pool.Close())...)
	}
	for range n {
		conn, err := pool.Conn(ctx)
		if err != nil {
			return free, err, nil
		}
		conns = append(conns, conn)
	}
	return free, nil, nil
}
