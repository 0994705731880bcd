package servers

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Server is one server of a [Cluster]. It keeps its address and its data when it is stopped, killed and
// started.
type Server struct {
	cluster *Cluster
	daemon  daemon
	master  *Server // nil for the master
	id      int
	dir     string // holds the data folder, the log and temporary files
	options []string
	port    int     // set, like db, by startFirst, before anybody else sees the server
	db      *sql.DB // nil if startFirst failed

	front  *Server // what clients reach it through; nil: nothing
	behind *Server // of a front: its server
	apart  bool    // of a front: it does not share the fate of its server

	mu   sync.Mutex
	proc *process // the latest one; nil before the first

	replay sync.Mutex // held by what changes how the slave replays
}

// ID returns the server's id, on MariaDB and MySQL as in @@server_id: 1 is the master, 2 the first slave.
func (s *Server) ID() int { return s.id }

// String returns "master" or "slave 2": the role and the ID.
func (s *Server) String() string {
	if s.behind != nil {
		return "front of " + s.behind.String()
	}
	if s.master == nil {
		return "master"
	}
	return "slave " + strconv.Itoa(s.id)
}

// Addr returns the address to which the DSN leads: 127.0.0.1 and the server's port, or that of the PgBouncer
// before it.
func (s *Server) Addr() string {
	if s.front != nil {
		return s.front.Addr()
	}
	return s.ownAddr()
}

func (s *Server) ownAddr() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(s.port)) }

// Port returns the server's port. It tells who answered a query: @@port on MariaDB and MySQL,
// inet_server_port() on PostgreSQL.
func (s *Server) Port() int { return s.port }

// DSN returns what the engine's Go driver (go-sql-driver/mysql, pgx) and GORM's dialector connect with as an
// ordinary account: it may do everything in one database, which is there and empty, and nothing outside it.
// Times are UTC, and scanned as time.Time; only those of PostgreSQL's timestamptz pgx returns in the zone of
// this process.
func (s *Server) DSN() string { return s.cluster.engine.dsn(s) }

// DB returns a pool of connections of this package's own, on which everything is allowed. On MariaDB and
// MySQL no database is selected, on PostgreSQL it is connected to that of the DSN. It is for looking at the
// server past the code under test; writing to a slave with it makes one of the [Server.OwnTransactions].
func (s *Server) DB() *sql.DB { return s.db }

// Start starts the server after Stop or Kill, and returns when it answers. A slave goes on replicating by
// itself, also if it was held before.
func (s *Server) Start(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	if s.running() {
		return fmt.Errorf("servers: starting %v: it is running", s)
	}
	if err := s.start(ctx, s.db); err != nil {
		return err
	}
	return s.sharing(func(front *Server) error { return front.Start(ctx) })
}

// sharing does to what clients reach s through what befalls s, if it shares its fate.
func (s *Server) sharing(do func(front *Server) error) error {
	if s.front == nil || s.front.apart {
		return nil
	}
	return do(s.front)
}

// Stop ends the server cleanly, without waiting for its clients, and waits until it has ended. It may be
// frozen, or not running at all. A PostgreSQL master first sends its slaves the rest, and waits about 5 s for
// one that is frozen. MySQL gives its clients 2 s, and its slaves 8 s more.
func (s *Server) Stop(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	if err := s.sharing(func(front *Server) error { return front.Stop(ctx) }); err != nil {
		return err
	}
	if !s.running() {
		return nil
	}
	if err := s.proc.signal(s.daemon.stopSignal()); err != nil && s.running() {
		return fmt.Errorf("servers: stopping %v: %w", s, err)
	}
	// Who is frozen hears it only once thawed.
	if err := s.proc.thaw(); err != nil {
		return fmt.Errorf("servers: stopping %v: %w", s, err)
	}
	if err := s.proc.wait(ctx); err != nil {
		return fmt.Errorf("servers: stopping %v: %w; the end of its log:\n%s", s, err, s.logged())
	}
	return nil
}

// Restart stops the server cleanly and starts it again.
func (s *Server) Restart(ctx context.Context) error {
	if err := s.Stop(ctx); err != nil {
		return err
	}
	return s.Start(ctx)
}

// Kill ends the server by kill -9 of all its processes, and waits until they have ended. It may be frozen, or
// not running at all.
func (s *Server) Kill() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	if err := s.sharing((*Server).Kill); err != nil {
		return err
	}
	if !s.running() {
		return nil
	}
	if err := s.proc.kill(ctx); err != nil {
		return fmt.Errorf("servers: killing %v: %w", s, err)
	}
	return nil
}

// Freeze stops the server in its tracks, with all its processes, by SIGSTOP, and returns when it stands
// still: the kernel goes on accepting connections for it, but nothing answers.
func (s *Server) Freeze() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	if !s.running() {
		return fmt.Errorf("servers: freezing %v: it is not running", s)
	}
	if err := s.sharing((*Server).Freeze); err != nil {
		return err
	}
	if err := s.proc.freeze(ctx); err != nil {
		return fmt.Errorf("servers: freezing %v: %w", s, err)
	}
	if !s.running() {
		return fmt.Errorf("servers: freezing %v: it ended", s)
	}
	return nil
}

// Thaw lets a frozen server go on, by SIGCONT.
func (s *Server) Thaw() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.running() {
		return fmt.Errorf("servers: thawing %v: it is not running", s)
	}
	if err := s.proc.thaw(); err != nil {
		return fmt.Errorf("servers: thawing %v: %w", s, err)
	}
	return s.sharing((*Server).Thaw)
}

// CatchUp waits until the slave has replayed what the master has now.
func (s *Server) CatchUp(ctx context.Context) error {
	return s.slave(ctx, "catching up", func(ctx context.Context) error {
		position, err := s.cluster.engine.position(ctx, s.master)
		if err != nil {
			return fmt.Errorf("reading the position of the master: %w", err)
		}
		return s.cluster.engine.replayed(ctx, s, position)
	})
}

// Hold keeps the slave from replaying what it receives; it goes on receiving. A restart of the slave ends it.
func (s *Server) Hold(ctx context.Context) error {
	return s.replaying(ctx, "holding", func(ctx context.Context) error { return s.cluster.engine.hold(ctx, s) })
}

// Release lets the slave replay again after Hold.
func (s *Server) Release(ctx context.Context) error {
	return s.replaying(ctx, "releasing",
		func(ctx context.Context) error { return s.cluster.engine.release(ctx, s) })
}

// Delay lets the slave replay everything d after it happened on the master; 0 ends it. Servers count in whole
// seconds, so d has to be a multiple of one, and the actual delay may be up to a second shorter. It outlasts
// restarts. (What PostgreSQL delays is the commits.)
func (s *Server) Delay(ctx context.Context, d time.Duration) error {
	if d < 0 || d%time.Second != 0 {
		return fmt.Errorf("servers: delaying %v by %v: not a number of whole seconds", s, d)
	}
	return s.replaying(ctx, "delaying", func(ctx context.Context) error {
		return s.cluster.engine.delay(ctx, s, int(d/time.Second))
	})
}

// OwnTransactions returns what was written on the slave itself and not replicated, in order. As long as there
// is nothing, no write has ever gone astray to it. The slave has to be up.
//
// On MariaDB and MySQL these are the transactions that the slave has in its binary log as its own, each with
// its position and its SQL: the slave is writable, so a write that goes astray succeeds.
//
// A node of Galera passes on what is written to it, and a slave of Group Replication refuses it, unless it is
// told not to. On Galera the answer is a count of what the node has passed on since it was started.
//
// A PostgreSQL standby cannot be written to. There it returns the statements that the standby refused as
// writes (SQLSTATE 25006), each with its time, its process, the message and the SQL. They are found in the
// server's log, which has them before the client gets the error. Locking reads (SELECT … FOR UPDATE) are
// among them, and writes in a transaction that the client itself made read-only; an error that PL/pgSQL
// caught within the server is not. A standby that was promoted has one more entry, the last, which says so;
// what was written to it since is not found.
func (s *Server) OwnTransactions(ctx context.Context) ([]string, error) {
	var own []string
	err := s.slave(ctx, "reading the own transactions of", func(ctx context.Context) (err error) {
		own, err = s.cluster.engine.ownTransactions(ctx, s)
		return err
	})
	return own, err
}

// replaying changes how the slave replays.
func (s *Server) replaying(ctx context.Context, what string, do func(context.Context) error) error {
	s.replay.Lock()
	defer s.replay.Unlock()
	return s.slave(ctx, what, do)
}

// slave does something that only a slave can do.
func (s *Server) slave(ctx context.Context, what string, do func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	if s.master == nil {
		return fmt.Errorf("servers: %s %v: it is not a slave", what, s)
	}
	if err := do(ctx); err != nil {
		return fmt.Errorf("servers: %s %v: %w", what, s, err)
	}
	return nil
}

func (s *Server) data() string { return filepath.Join(s.dir, "data") }
func (s *Server) log() string  { return filepath.Join(s.dir, "log") }

// startFirst starts the server for the first time, at one of these ports, which it keeps.
func (s *Server) startFirst(ctx context.Context, ports func() (int, error)) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		var err error
		if s.port, err = ports(); err != nil {
			return err
		}
		db, err := s.daemon.open(s)
		if err != nil {
			return fmt.Errorf("servers: %w", err)
		}
		err = s.start(ctx, db)
		if err == nil {
			s.db = db
			return nil
		}
		_ = db.Close() // nothing went over it
		// Free a moment ago, taken now: try another port, until the context ends.
		if ctx.Err() != nil || s.running() || !s.daemon.portTaken(s.logged()) {
			return err
		}
		if err := os.Remove(s.log()); err != nil {
			return fmt.Errorf("servers: %w", err)
		}
	}
}

// start runs the server and waits until it answers at db.
func (s *Server) start(ctx context.Context, db *sql.DB) error {
	cmd, err := s.daemon.command(s)
	if err != nil {
		return err
	}
	cmd.argv = append(cmd.argv, s.options...)
	p, err := s.cluster.reaper.run(s.log(), cmd)
	if err != nil {
		return fmt.Errorf("servers: starting %v: %w", s, err)
	}
	s.proc = p
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go func() {
		select {
		case <-p.done:
			cancel(errors.New("it ended"))
		case <-ctx.Done():
		}
	}()
	err = poll(ctx, func() error { return s.daemon.answers(ctx, s, db) })
	if err != nil {
		return fmt.Errorf("servers: starting %v: %w; the end of its log:\n%s", s, err, s.logged())
	}
	return nil
}

// running says whether the server's process is there; it may have ended by itself. s.mu is held, as in what
// follows.
func (s *Server) running() bool { return s.proc != nil && !s.proc.ended() }

// logged returns the end of the server's log.
func (s *Server) logged() string {
	const lines = 20
	b, err := os.ReadFile(s.log())
	if err != nil {
		return err.Error()
	}
	all := strings.Split(strings.TrimSpace(string(b)), "\n")
	// Many notes follow the line that says why a server ended: of plugins that shut down, of threads that start.
	all = slices.DeleteFunc(all, func(line string) bool {
		return strings.Contains(line, "Shutting down plugin") || strings.Contains(line, " [Note] ")
	})
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}

// freePort returns a port at which nobody listens. It is below those that the kernel takes for outgoing
// connections: one of them could otherwise sit on the port of a server that is down, and keep it from coming
// back.
func freePort() (int, error) {
	var last error
	for range 100 {
		port := 10000 + mathrand.IntN(20000)
		l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		if err == nil {
			return port, l.Close()
		}
		last = err
	}
	return 0, fmt.Errorf("servers: no free port: %w", last)
}

// password returns a new password, of letters and digits.
func password() string { return rand.Text() }
