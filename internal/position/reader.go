package position

import (
	"context"
	"database/sql"
	"fmt"
)

// Config says how servers are asked. The zero value knows no server, and reads no positions.
type Config struct {
	// Dialect is the name of the GORM dialector: "mysql" for MySQL and MariaDB, "postgres" for PostgreSQL. Of
	// others nothing is known.
	Dialect string

	// Source is asked instead, whatever the Dialect. Default nil: the servers that this package knows.
	Source Source

	// Refuses, if not nil, tells whether an error says that a server serves nobody. One that answers a
	// question with it does not count as answering, even if a ping gets through.
	Refuses func(error) bool
}

// Source reads positions where this package cannot: from servers of another kind, from the tables of a
// replication that an application has built itself, from a test's own variable. A position is usually a
// [Sequence]:
//
//	func (replicator) MasterPosition(ctx context.Context, conn *sql.Conn) (position.Position, error) {
//		var n uint64
//		err := conn.QueryRowContext(ctx, "SELECT coalesce(max(id), 0) FROM log").Scan(&n)
//		return position.Sequence("log", n), err
//	}
//
// conn is a connection to the server in question that nobody else uses meanwhile; a method must leave it as
// it was, and need not use it. The methods may be called concurrently, for several connections. They return
// the unknown position if there is none at the moment, and an error if they could not find out.
type Source interface {
	// MasterPosition returns a position on the master that covers everything committed there before the call.
	// It should not be larger than it must: slaves have to reach it even if nothing more is committed.
	MasterPosition(ctx context.Context, conn *sql.Conn) (Position, error)

	// SlavePosition returns a position that a slave has replayed entirely, so that every query that begins after
	// the call sees it. Where two values are needed for that, the slave has read the one for the position first.
	SlavePosition(ctx context.Context, conn *sql.Conn) (Position, error)
}

// Reading is what a server said when it was asked once.
type Reading struct {
	// Position is unknown if there is none that means anything.
	Position Position

	// Most, of a PostgreSQL master, is what no slave can be beyond; Position may be less. Otherwise unknown:
	// it is Position.
	Most Position

	// Reason says why there is no position, in a few words, for status and logs: "gtid_mode is OFF". Empty if
	// there is one.
	Reason string

	// Remedy says what to set or change so that there is a position, for logs: "log_bin on the master". Empty
	// if there is one, or if nothing has to be changed for it to come: "nothing has been replayed yet".
	Remedy string

	// ReadOnly: the server refuses writes of ordinary accounts (read_only of MySQL and MariaDB), or those of
	// this connection (transaction_read_only of PostgreSQL, which is on where it replays). False where it is not
	// known.
	ReadOnly bool

	// Writable: it certainly takes them: it said that it is not ReadOnly.
	Writable bool

	// Err is what it answered, if that was an error. Whether there is a position is not known then, and the
	// Reason is for the caller to say: the error's words may quote a password.
	Err error

	// WrongRole: the server is not what it was asked as. A master that is ReadOnly is none: after a planned
	// switchover the address of the master leads to another server, while a connection from before still
	// leads to this one. On PostgreSQL, so is one that replays, and a slave that does not, or does no longer.
	// Then there is no position.
	WrongRole bool

	// Identity is the same for readings of one server, whatever the address it was asked at, and another for
	// servers that replicate from one another. Empty where it is not known, as it is of PostgreSQL, which tells
	// by WrongRole.
	Identity string

	// Own is what the server has itself written, as far as its GTIDs tell: of MySQL the part of its position
	// that has its own UUID, of MariaDB the last transaction of each domain. Unknown if that is nothing, or not
	// known. See [Errant].
	Own Position

	// Origins is what else a MariaDB server knows of who has written what it has.
	Origins Origins
}

// Reader asks one server, over one connection, for its position. [Reader.Master] and [Reader.Slave] are the
// usual methods.
//
// What kind of server it is, which version, and whether its positions mean anything, a Reader finds out when
// it is first asked, in one round trip more; from then on it takes one round trip each time. What may change
// while the connection lasts, such as gtid_mode, it reads each time. Everything is open to an ordinary
// account.
//
// A Reader is made by [NewReader]. One method may be called at a time.
type Reader struct {
	conn   *sql.Conn
	cfg    Config
	server server // nil until it is known
}

// server is how servers of one kind are asked. An error means that the server could not be asked, or refused.
type server interface {
	String() string
	master(ctx context.Context, conn *sql.Conn) (Reading, error)
	slave(ctx context.Context, conn *sql.Conn) (Reading, error)
}

// NewReader returns a Reader that uses conn and asks nothing yet. The connection remains the caller's, and
// should be used for nothing else. When it is replaced by a new one, behind which there may be another
// server, so must be the Reader.
func NewReader(conn *sql.Conn, cfg Config) *Reader {
	return &Reader{conn: conn, cfg: cfg}
}

// Server returns kind and version of the server, "MariaDB 10.11.6", for status and logs. It is empty until
// the server has answered.
func (r *Reader) Server() string {
	if r.server == nil {
		return ""
	}
	return r.server.String()
}

// Master asks a master. The position covers everything that was committed there before the call: by whomever,
// and whether or not a slave has it. It may cover more.
//
// PostgreSQL's position is what has been flushed to its disk, because all of that is on its way to the
// slaves. Where synchronous_commit is off for this account or database, commits return before they are
// flushed, and the position is what has been inserted into the log. Commits of a transaction that sets
// synchronous_commit to off for itself are covered after three times wal_writer_delay (0.6 s by default).
//
// The error is that of the connection: the server did not answer. One that answers, but with an error, has no
// position, and the Err of the Reading is the error.
func (r *Reader) Master(ctx context.Context) (Reading, error) {
	return r.read(ctx, server.master)
}

// Slave asks a slave. It has replayed the position, and every query that begins after the call sees that. The
// position is where the server is now; it may be behind that of an earlier reading, if the server crashed in
// between and lost what it had not yet written to its disk.
//
// The error is as for [Reader.Master].
func (r *Reader) Slave(ctx context.Context) (Reading, error) {
	return r.read(ctx, server.slave)
}

// question is a method of server: what a master or a slave is asked.
type question func(server, context.Context, *sql.Conn) (Reading, error)

func (r *Reader) read(ctx context.Context, ask question) (Reading, error) {
	reading, err := r.ask(ctx, ask)
	if err == nil {
		return reading, nil
	}
	if end := ctx.Err(); end != nil {
		return Reading{}, fmt.Errorf("position: asking the server: %w", end) // what drivers say then differs
	}
	// No driver's errors are known here. But a server that answers another question has heard this one, too.
	refused := r.cfg.Refuses != nil && r.cfg.Refuses(err)
	if refused || r.conn.PingContext(ctx) != nil {
		return Reading{}, fmt.Errorf("position: asking the server: %w", err)
	}
	return Reading{Err: err, Remedy: r.failureRemedy()}, nil
}

// failureRemedy is the remedy where a server answers the question with an error.
func (r *Reader) failureRemedy() string {
	if r.cfg.Source != nil {
		return "a Probe.Source that gets an answer from this server"
	}
	return "an account that may ask this, or " + takesSource
}

func (r *Reader) ask(ctx context.Context, ask question) (Reading, error) {
	if r.server == nil {
		s, err := identify(ctx, r.conn, r.cfg)
		if err != nil {
			return Reading{}, err
		}
		r.server = s
	}
	return ask(r.server, ctx, r.conn)
}

// identify finds out what conn is connected to.
func identify(ctx context.Context, conn *sql.Conn, cfg Config) (server, error) {
	switch {
	case cfg.Source != nil:
		return sourceServer{cfg.Source}, nil
	case cfg.Dialect == "mysql":
		return identifyMySQL(ctx, conn)
	case cfg.Dialect == "postgres":
		return identifyPostgreSQL(ctx, conn)
	default:
		none, _ := ByDialect(cfg.Dialect)
		return noServer{cfg.Dialect, none.Reason, none.Remedy}, nil
	}
}

// noWrites returns what to say of a master that is ReadOnly because setting is on.
func noWrites(setting string) Reading {
	return Reading{
		Reason:   setting + " is on: it takes no writes, and another server may be the master",
		Remedy:   "an address of the master that leads to a server that takes writes",
		ReadOnly: true, WrongRole: true,
	}
}

// takesSource is the remedy for servers that only a Source can ask. It is replicated.Config's name for it.
const takesSource = "Probe.Source"

// ByDialect tells whether a Reader without a Source knows servers of a dialect. If not, none is what it
// says of them.
func ByDialect(dialect string) (none Reading, known bool) {
	if dialect == "mysql" || dialect == "postgres" {
		return Reading{}, true
	}
	reason := fmt.Sprintf("no positions are known of the dialect %q", dialect)
	return Reading{Reason: reason, Remedy: takesSource}, false
}

// readingAt returns what to say of a server that is at p.
func readingAt(p Position, err error, empty string) Reading {
	switch {
	case err != nil:
		return Reading{Reason: err.Error(), Remedy: takesSource}
	case !p.Known():
		return Reading{Reason: empty}
	default:
		return Reading{Position: p}
	}
}

// sourceServer is a server that somebody else knows how to ask.
type sourceServer struct{ Source }

func (s sourceServer) String() string { return fmt.Sprintf("%T", s.Source) }

func (s sourceServer) master(ctx context.Context, conn *sql.Conn) (Reading, error) {
	p, err := s.MasterPosition(ctx, conn)
	return readingAt(p, nil, "the Source has none"), err
}

func (s sourceServer) slave(ctx context.Context, conn *sql.Conn) (Reading, error) {
	p, err := s.SlavePosition(ctx, conn)
	return readingAt(p, nil, "the Source has none"), err
}

// noServer is a server without positions. It is asked for a sign of life.
type noServer struct{ name, reason, remedy string }

func (s noServer) String() string { return s.name }

func (s noServer) master(ctx context.Context, conn *sql.Conn) (Reading, error) {
	return Reading{Reason: s.reason, Remedy: s.remedy}, conn.PingContext(ctx)
}

func (s noServer) slave(ctx context.Context, conn *sql.Conn) (Reading, error) {
	return Reading{Reason: s.reason, Remedy: s.remedy}, conn.PingContext(ctx)
}
