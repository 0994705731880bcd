// Package servers runs real database servers for tests: a master and its slaves, MariaDB, MySQL or
// PostgreSQL, as child processes on free ports of the loopback interface, in a temporary folder.
//
//	func TestReading(t *testing.T) {
//		c := servers.MariaDB(t, servers.Config{Slaves: 2})
//		db, err := gorm.Open(mysql.Open(c.Master.DSN()), &gorm.Config{})
//		…
//		c.Slaves[0].Hold(ctx)   // replays nothing from here on
//		c.Slaves[1].Kill()      // kill -9
//	}
//
// [MariaDB], [MySQL] and [PostgreSQL] end the cluster with the test. Tests that share one start it with
// [StartMariaDB], [StartMySQL], [StartPostgreSQL] or [StartPgBouncer] and pass its error to [Check]. Whatever
// happens to the test process (a panic, os.Exit, kill -9, at any moment), no server and no folder stays
// behind: see reaper.
//
// MariaDB's and MySQL's slaves are writable on purpose: a write that went astray succeeds, and
// [Server.OwnTransactions] proves it. PostgreSQL's cannot be: there it finds what they refused.
//
// MySQL is the server that REPLICATED_MYSQL names, a program or its folder; or else a mysqld of 8.0.26 or
// later in PATH; or else the one in gorm-replicated/mysql-9 in the user's cache, into which .ci/deps fetches
// it. MariaDB and PostgreSQL are those in PATH, or else Debian's.
//
// Galera is the library that REPLICATED_GALERA names, or else lib/galera/libgalera_smm.so beside the folder
// of MariaDB's program, or else Debian's.
//
// REPLICATED_KINDS restricts tests to some kinds of servers: see [Wanted].
//
// PostgreSQL and PgBouncer refuse to run as root. Where the tests do, they run as the account postgres, if
// there is one, or nobody, which has to be able to reach the folder for temporary files (TMPDIR).
//
// # Adding an engine
//
// What servers of one kind do in their own way is the interface engine; mariadb.go, mysql.go and
// postgresql.go implement it, the first two with binlog.go in common. groupreplication.go and galera.go
// differ from mysql.go and mariadb.go in how servers replicate. Another kind is one more file: an
// implementation, a pair of functions like [StartMariaDB] and [MariaDB], and a row in the table of kinds that
// the package's tests run on. Everything else (processes, ports, faults, the folder and its removal) is
// shared and speaks no SQL. An engine that has clients reach each server through another process is a fronted
// one as well: see pgbouncer.go.
package servers

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// limit bounds every operation of this package whose context does not end earlier. It is far above what any
// of them takes: it is there so that nothing hangs.
const limit = time.Minute

// ErrNotInstalled is returned, wrapped with the name of the program, if a program that a server needs is not
// there.
var ErrNotInstalled = errors.New("servers: not installed")

// Config says which servers to start. The zero value starts a master without slaves.
type Config struct {
	// Slaves is the number of slaves.
	Slaves int

	// MasterOptions and SlaveOptions are added to the command line of the master and of each slave, after the
	// options of this package, so that they win: "--max-connections=50". Default none. (Some settings of a
	// PostgreSQL slave, max_connections among them, must not be lower than its master's.)
	MasterOptions, SlaveOptions []string

	// PgBouncer says how the PgBouncer before each server is run; only [StartPgBouncer] heeds it.
	PgBouncer PgBouncer
}

// Cluster is a running master with its slaves. Its methods, and those of its servers, may be called
// concurrently.
type Cluster struct {
	Master *Server
	Slaves []*Server

	engine   engine
	reaper   *reaper
	password string // of the accounts on all servers; nobody else's server lets us in with it

	close func() error
}

// engine is what servers of one kind do in their own way. Contexts that are passed to it have a deadline. SQL
// that it runs on a slave must not count as one of the slave's own transactions.
type engine interface {
	daemon

	// install makes dir, the data folder of a server without a history, for the servers of c. In it there is an
	// account that may do everything, for this package.
	install(ctx context.Context, c *Cluster, dir string) error

	// create makes the data folder of s, which is about to be started for the first time: from the installed one
	// or, if s is a slave, from its master, which runs. It may take the installed one away if s is the master.
	create(ctx context.Context, s *Server, installed string) error

	// dsn is [Server.DSN].
	dsn(s *Server) string

	// words is [Server.Words].
	words(statement string) string

	// follow lets the slave s, which has just been started for the first time, replicate from its master.
	follow(ctx context.Context, s *Server) error

	// createDatabase gives the account of [Server.DSN] its database, in the first transaction there is on the
	// master.
	createDatabase(ctx context.Context, master *Server) error

	// position returns how far the history of the master goes; replayed waits until the slave s has replayed as
	// much.
	position(ctx context.Context, master *Server) (string, error)
	replayed(ctx context.Context, s *Server, position string) error

	// hold, release, delay and ownTransactions are the methods of [Server].
	hold(ctx context.Context, s *Server) error
	release(ctx context.Context, s *Server) error
	delay(ctx context.Context, s *Server, seconds int) error
	ownTransactions(ctx context.Context, s *Server) ([]string, error)
}

// daemon is how the process of a server is run.
type daemon interface {
	// command returns the program that runs s in the foreground, in the process that it is started as. What
	// it prints goes to the log.
	command(s *Server) (command, error)

	// stopSignal is what ends a server cleanly, without waiting for its clients.
	stopSignal() syscall.Signal

	// portTaken tells from the log of a server that ended whether it did because somebody else had its port.
	portTaken(log string) bool

	// open returns a pool of connections to s for this package; it need not be up.
	open(s *Server) (*sql.DB, error)

	// answers returns nil if what answers at db is s, and serves.
	answers(ctx context.Context, s *Server, db *sql.DB) error
}

// fronted is an engine with another process before each server, through which clients reach it.
type fronted interface {
	// front returns how that process is run, and whether it is on a machine of its own.
	front() (_ daemon, apart bool)
}

// StartMariaDB starts a MariaDB master and its slaves, and returns when every slave replicates. The context
// ends the attempt, not the servers: they run until Close, or until this process ends. If MariaDB is not
// there, the error is [ErrNotInstalled].
func StartMariaDB(ctx context.Context, cfg Config) (*Cluster, error) {
	return start(ctx, mariaDB{}, cfg)
}

// StartMySQL is as StartMariaDB, with a MySQL master and slaves that replicate by GTIDs
// (SOURCE_AUTO_POSITION=1) or, with --gtid-mode=OFF or ON_PERMISSIVE in both options of the Config, by places
// in the master's binary log. What MySQL cannot replicate by GTIDs, CREATE TEMPORARY TABLE in a transaction
// for one, it refuses.
func StartMySQL(ctx context.Context, cfg Config) (*Cluster, error) {
	m, err := findMySQL()
	if err != nil {
		return nil, err
	}
	return start(ctx, m, cfg)
}

// StartPostgreSQL is as StartMariaDB, with a PostgreSQL master and hot standbys that stream from it, each
// with a replication slot.
func StartPostgreSQL(ctx context.Context, cfg Config) (*Cluster, error) {
	return start(ctx, postgreSQL{}, cfg)
}

// StartPgBouncer is StartPostgreSQL with a PgBouncer in transaction mode before each server, through which
// [Server.DSN] leads. What this package does itself goes past it: replication, [Server.DB].
func StartPgBouncer(ctx context.Context, cfg Config) (*Cluster, error) {
	return start(ctx, pgBouncer{settings: cfg.PgBouncer}, cfg)
}

// StartGroupReplication is as StartMySQL, with the members of a group (Group Replication) that has a single
// primary. The slaves refuse writes. A member that was killed returns when the others have expelled it, after
// some 5 s. Where the master is away, another member becomes the primary; when the master starts again, it is
// the primary again, unless the other one's group_replication_member_weight is above the default, 50.
func StartGroupReplication(ctx context.Context, cfg Config) (*Cluster, error) {
	m, err := findMySQL()
	if err != nil {
		return nil, err
	}
	return start(ctx, newGroupReplication(m), cfg)
}

// StartGalera is as StartMariaDB, with the nodes of a Galera cluster. All of them take writes. A slave that
// was written to has passed that on: its own transactions are on all nodes.
func StartGalera(ctx context.Context, cfg Config) (*Cluster, error) {
	g, err := findGalera()
	if err != nil {
		return nil, err
	}
	return start(ctx, g, cfg)
}

// MariaDB is StartMariaDB for one test: it fails or skips the test as [Check] does, and closes the cluster at
// its end.
func MariaDB(t testing.TB, cfg Config) *Cluster {
	t.Helper()
	c, err := StartMariaDB(t.Context(), cfg)
	return forTest(t, c, err)
}

// MySQL is StartMySQL for one test, as MariaDB is StartMariaDB.
func MySQL(t testing.TB, cfg Config) *Cluster {
	t.Helper()
	c, err := StartMySQL(t.Context(), cfg)
	return forTest(t, c, err)
}

// PostgreSQL is StartPostgreSQL for one test, as MariaDB is StartMariaDB.
func PostgreSQL(t testing.TB, cfg Config) *Cluster {
	t.Helper()
	c, err := StartPostgreSQL(t.Context(), cfg)
	return forTest(t, c, err)
}

func forTest(t testing.TB, c *Cluster, err error) *Cluster {
	t.Helper()
	Check(t, err)
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

// Check does nothing if err, from StartMariaDB or its like, is nil. If it is ErrNotInstalled, the test is
// skipped, naming what is missing; but where everything should be present, which the environment says with
// CI=true, and for all other errors, the test fails.
func Check(t testing.TB, err error) {
	t.Helper()
	switch {
	case err == nil:
	case errors.Is(err, ErrNotInstalled) && os.Getenv("CI") != "true":
		t.Skip(err)
	default:
		t.Fatal(err)
	}
}

// Wanted says whether tests are to run on a kind of servers: "MariaDB", "MySQL", "PostgreSQL" and what a
// suite has besides. REPLICATED_KINDS names them, separated by commas. The default are these three.
func Wanted(kind string) bool {
	all := []string{"MariaDB", "MySQL", "PostgreSQL", "Galera", "Group Replication", "PgBouncer"}
	named := os.Getenv("REPLICATED_KINDS")
	if named == "" {
		return slices.Contains(all[:3], kind)
	}
	wanted := strings.Split(named, ",")
	for _, name := range wanted {
		if !slices.Contains(all, name) { // or all tests would pass, on nothing
			panic(fmt.Sprintf("REPLICATED_KINDS: %q is none of %q", name, all))
		}
	}
	return slices.Contains(wanted, kind)
}

// Want skips a test of one kind of servers if tests are not to run on it.
func Want(t testing.TB, kind string) {
	t.Helper()
	if !Wanted(kind) {
		t.Skipf("not wanted: REPLICATED_KINDS does not name %s", kind)
	}
}

func start(ctx context.Context, e engine, cfg Config) (*Cluster, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	if cfg.Slaves < 0 {
		return nil, fmt.Errorf("servers: Slaves is %d", cfg.Slaves)
	}
	c, err := newCluster(e, cfg)
	if err != nil {
		return nil, err
	}
	if err := c.start(ctx); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

// newCluster returns a cluster of which nothing runs yet but the reaper.
func newCluster(e engine, cfg Config) (*Cluster, error) {
	r, err := startReaper()
	if err != nil {
		return nil, err
	}
	c := &Cluster{engine: e, reaper: r, password: password()}
	c.close = sync.OnceValue(c.closeNow)
	c.Master = c.newServer(1, cfg.MasterOptions)
	for i := range cfg.Slaves {
		s := c.newServer(i+2, cfg.SlaveOptions)
		s.master = c.Master
		c.Slaves = append(c.Slaves, s)
	}
	return c, nil
}

func (c *Cluster) newServer(id int, options []string) *Server {
	s := &Server{cluster: c, daemon: c.engine, id: id, options: options,
		dir: filepath.Join(c.reaper.dir, strconv.Itoa(id))}
	if e, ok := c.engine.(fronted); ok {
		front, apart := e.front()
		s.front = &Server{cluster: c, daemon: front, id: id, dir: s.dir + ".front", behind: s, apart: apart}
	}
	return s
}

func (c *Cluster) start(ctx context.Context) error {
	installed := filepath.Join(c.reaper.dir, "installed")
	if err := c.engine.install(ctx, c, installed); err != nil {
		return err
	}
	startFirst := func(s *Server) error {
		if err := os.Mkdir(s.dir, 0o700); err != nil {
			return fmt.Errorf("servers: %w", err)
		}
		if err := c.engine.create(ctx, s, installed); err != nil {
			return fmt.Errorf("servers: making the data folder of %v: %w", s, err)
		}
		if err := s.startFirst(ctx, freePort); err != nil || s.front == nil {
			return err
		}
		if err := os.Mkdir(s.front.dir, 0o700); err != nil {
			return fmt.Errorf("servers: %w", err)
		}
		return s.front.startFirst(ctx, freePort)
	}
	// The master first: it may be what the slaves are made from.
	if err := startFirst(c.Master); err != nil {
		return err
	}
	if err := each(c.Slaves, startFirst); err != nil {
		return err
	}
	err := each(c.Slaves, func(s *Server) error {
		follow := func(ctx context.Context) error { return c.engine.follow(ctx, s) }
		return s.slave(ctx, "starting the replication of", follow)
	})
	if err != nil {
		return err
	}
	// The master's position is not empty from here on, and having replayed this proves that a slave replicates.
	if err := c.engine.createDatabase(ctx, c.Master); err != nil {
		return fmt.Errorf("servers: %w", err)
	}
	return c.CatchUp(ctx)
}

// CatchUp waits until every slave has replayed what the master has now.
func (c *Cluster) CatchUp(ctx context.Context) error {
	return each(c.Slaves, func(s *Server) error { return s.CatchUp(ctx) })
}

// Close ends all servers, whatever state they are in, and removes the folder. Calling it again does nothing
// more, and returns the same error.
func (c *Cluster) Close() error { return c.close() }

func (c *Cluster) closeNow() error {
	all := c.servers()
	for _, s := range c.servers() {
		if s.front != nil {
			all = append(all, s.front)
		}
	}
	err := each(all, func(s *Server) error {
		// First the server: closing a connection to one that is frozen could take its time.
		err := s.Kill()
		if db := s.DB(); db != nil {
			_ = db.Close() // all that it could say is that the server is gone
		}
		return err
	})
	return errors.Join(err, c.reaper.close())
}

func (c *Cluster) servers() []*Server {
	return append([]*Server{c.Master}, c.Slaves...)
}

// each calls do for all servers at once, and returns all errors.
func each(servers []*Server, do func(*Server) error) error {
	errs := make([]error, len(servers))
	var wg sync.WaitGroup
	for i, s := range servers {
		wg.Go(func() { errs[i] = do(s) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

// program returns the path of a program of the operating system's package. Servers often live where only root
// looks.
func program(name, pkg string) (string, error) {
	if path, err := exec.LookPath(name); err == nil {
		return path, nil
	}
	for _, dir := range []string{"/usr/sbin", "/usr/local/sbin", "/sbin"} {
		if path, err := exec.LookPath(filepath.Join(dir, name)); err == nil {
			return path, nil
		}
	}
	return "", notInstalled(name, pkg)
}

func notInstalled(name, pkg string) error {
	return fmt.Errorf("%w: %s (Debian has it in the package %s)", ErrNotInstalled, name, pkg)
}

// poll calls ready, at intervals, until it returns nil. When the context ends first, the error is ready's
// last one.
func poll(ctx context.Context, ready func() error) error {
	// Most of what is waited for is there in a moment; what is not shall not cost much.
	const least, most = time.Millisecond, 20 * time.Millisecond
	for pause := least; ; pause = min(2*pause, most) {
		err := ready()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w; last: %w", context.Cause(ctx), err)
		case <-time.After(pause):
		}
	}
}
