// Package servers runs real database servers for tests: a master and its slaves, as child processes on free ports of
// the loopback interface, in a temporary folder.
//
//	func TestReading(t *testing.T) {
//		c := servers.MariaDB(t, servers.Config{Slaves: 2})
//		db, err := gorm.Open(mysql.Open(c.Master.DSN()), &gorm.Config{})
//		…
//		c.Slaves[0].Hold(ctx)   // replays nothing from here on
//		c.Slaves[1].Kill()      // kill -9
//	}
//
// [MariaDB] ends the cluster with the test. Tests that share one start it with [StartMariaDB] and pass its error to
// [Check]. Whatever happens to the test process (a panic, os.Exit, kill -9, at any moment), no server and no folder
// stays behind: see reaper.
//
// The slaves are writable on purpose. A write that went astray then succeeds, and [Server.OwnTransactions] proves it.
//
// # Adding an engine
//
// What servers of one kind do in their own way is the interface engine; mariadb.go implements it for MariaDB. Another
// kind is one more file: an implementation, a pair of functions like [StartMariaDB] and [MariaDB], and the package's
// tests run on it too. Everything else (processes, ports, faults, the folder and its removal) is shared and speaks no
// SQL. Three things to know beforehand: MySQL tells servers apart by auto.cnf, which must not be copied with the data
// folder; PostgreSQL refuses to run as root, wants SIGINT where [Server.Stop] sends SIGTERM, and runs as several
// processes in groups of their own, all of which [Server.Freeze] has to stop.
package servers

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"
)

// limit bounds every operation of this package whose context does not end earlier. It is far above what any of them
// takes: it is there so that nothing hangs.
const limit = time.Minute

// ErrNotInstalled is returned, wrapped with the name of the program, if a program that a server needs is not there.
var ErrNotInstalled = errors.New("servers: not installed")

// Config says which servers to start. The zero value starts a master without slaves.
type Config struct {
	// Slaves is the number of slaves.
	Slaves int

	// MasterOptions and SlaveOptions are added to the command line of the master and of each slave, after the
	// options of this package, so that they win: "--log-bin=OFF". Default none.
	MasterOptions, SlaveOptions []string
}

// Cluster is a running master with its slaves. Its methods, and those of its servers, may be called concurrently.
type Cluster struct {
	Master *Server
	Slaves []*Server

	engine   engine
	reaper   *reaper
	password string // of the accounts on all servers; nobody else's server lets us in with it

	close func() error
}

// engine is what servers of one kind do in their own way. Contexts that are passed to it have a deadline. SQL that it
// runs on a slave must not count as one of the slave's own transactions.
type engine interface {
	// install makes dir, the data folder from which all servers of c start, with two accounts in it: one that may do
	// everything, for this package, and that of [Server.DSN].
	install(ctx context.Context, c *Cluster, dir string) error

	// command returns the program, and its arguments, that runs s in the foreground, in the process that it is
	// started as. What it prints goes to the log.
	command(s *Server) ([]string, error)

	// portTaken tells from the log of a server that ended whether it did because somebody else had its port.
	portTaken(log string) bool

	// open returns a pool of connections to s for this package; it need not be up.
	open(s *Server) (*sql.DB, error)

	// dsn is [Server.DSN].
	dsn(s *Server) string

	// answers returns nil if what answers at db is s, and serves.
	answers(ctx context.Context, s *Server, db *sql.DB) error

	// follow lets the slave s, which has just been started for the first time, replicate from its master.
	follow(ctx context.Context, s *Server) error

	// createDatabase creates the database of [Server.DSN] on the master: the first transaction there is.
	createDatabase(ctx context.Context, master *Server) error

	// position returns how far the history of the master goes; replayed waits until the slave s has replayed as much.
	position(ctx context.Context, master *Server) (string, error)
	replayed(ctx context.Context, s *Server, position string) error

	// hold, release, delay and ownTransactions are the methods of [Server].
	hold(ctx context.Context, s *Server) error
	release(ctx context.Context, s *Server) error
	delay(ctx context.Context, s *Server, seconds int) error
	ownTransactions(ctx context.Context, s *Server) ([]string, error)
}

// StartMariaDB starts a MariaDB master and its slaves, and returns when every slave replicates. The context ends the
// attempt, not the servers: they run until Close, or until this process ends. If MariaDB is not there, the error is
// [ErrNotInstalled].
func StartMariaDB(ctx context.Context, cfg Config) (*Cluster, error) {
	return start(ctx, mariaDB{}, cfg)
}

// MariaDB is StartMariaDB for one test: it fails or skips the test as [Check] does, and closes the cluster at its end.
func MariaDB(t testing.TB, cfg Config) *Cluster {
	t.Helper()
	c, err := StartMariaDB(t.Context(), cfg)
	Check(t, err)
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

// Check does nothing if err, from StartMariaDB, is nil. If it is ErrNotInstalled, the test is skipped, naming what is
// missing; but where everything should be present, which the environment says with CI=true, and for all other errors,
// the test fails.
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
	c.Master = &Server{cluster: c, id: 1, dir: filepath.Join(r.dir, "1"), options: cfg.MasterOptions}
	for i := range cfg.Slaves {
		id := i + 2
		c.Slaves = append(c.Slaves, &Server{cluster: c, master: c.Master, id: id,
			dir: filepath.Join(r.dir, strconv.Itoa(id)), options: cfg.SlaveOptions})
	}
	return c, nil
}

func (c *Cluster) start(ctx context.Context) error {
	// Installed once, copied for each server: they start from the same state without having replicated anything.
	installed := filepath.Join(c.reaper.dir, "installed")
	if err := c.engine.install(ctx, c, installed); err != nil {
		return err
	}
	err := each(c.servers(), func(s *Server) error {
		if err := os.Mkdir(s.dir, 0o700); err != nil {
			return fmt.Errorf("servers: %w", err)
		}
		if err := os.CopyFS(s.data(), os.DirFS(installed)); err != nil {
			return fmt.Errorf("servers: copying the data folder: %w", err)
		}
		return s.startFirst(ctx, freePort)
	})
	if err != nil {
		return err
	}
	err = each(c.Slaves, func(s *Server) error {
		return s.slave(ctx, "starting the replication of", func(ctx context.Context) error { return c.engine.follow(ctx, s) })
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

// Close ends all servers, whatever state they are in, and removes the folder. Calling it again does nothing more, and
// returns the same error.
func (c *Cluster) Close() error { return c.close() }

func (c *Cluster) closeNow() error {
	err := each(c.servers(), func(s *Server) error {
		// First the server: closing a connection to one that is frozen could take its time.
		err := s.Kill()
		if db := s.DB(); db != nil {
			err = errors.Join(err, db.Close())
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

// program returns the path of a program of the operating system's package. Servers often live where only root looks.
func program(name, pkg string) (string, error) {
	if path, err := exec.LookPath(name); err == nil {
		return path, nil
	}
	for _, dir := range []string{"/usr/sbin", "/usr/local/sbin", "/sbin"} {
		if path, err := exec.LookPath(filepath.Join(dir, name)); err == nil {
			return path, nil
		}
	}
	return "", fmt.Errorf("%w: %s (Debian has it in the package %s)", ErrNotInstalled, name, pkg)
}

// poll calls ready, at intervals, until it returns nil. When the context ends first, the error is ready's last one.
func poll(ctx context.Context, ready func() error) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		err := ready()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w; last: %w", context.Cause(ctx), err)
		case <-tick.C:
		}
	}
}
