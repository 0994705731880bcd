package servers

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
)

// mySQL is the engine of MySQL 5.6, whose later versions are installed in another way. It differs in what matters here:
// its GTIDs are sets, and a slave has the GTID of a transaction before others see what that has written.
type mySQL struct{ binlog }

var _ engine = mySQL{}

// mySQLDir returns the folder with mysqld, libaio.so.1 and share: REPLICATED_MYSQL, or where .ci/deps puts it.
func mySQLDir() (string, error) {
	dir := os.Getenv("REPLICATED_MYSQL")
	if dir == "" {
		cache, err := os.UserCacheDir()
		if err != nil {
			return "", fmt.Errorf("%w: MySQL 5.6, for which there is no place: %w", ErrNotInstalled, err)
		}
		dir = filepath.Join(cache, "gorm-replicated", "mysql-5.6.24")
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", fmt.Errorf("servers: %w", err)
	}
	if _, err := exec.LookPath(filepath.Join(dir, "mysqld")); err != nil {
		return "", fmt.Errorf("%w: mysqld of MySQL 5.6 in %s (make deps fetches it, for Linux on x86-64)", ErrNotInstalled, dir)
	}
	return dir, nil
}

// mysqld returns the command that runs the server's program.
func (mySQL) mysqld(options ...string) (command, error) {
	dir, err := mySQLDir()
	if err != nil {
		return command{}, err
	}
	libraries := dir
	if others := os.Getenv("LD_LIBRARY_PATH"); others != "" {
		libraries += ":" + others
	}
	return command{
		// --no-defaults has to stay first.
		argv: slices.Concat([]string{filepath.Join(dir, "mysqld")}, options, []string{"--basedir=" + dir}),
		env:  append(os.Environ(), "LD_LIBRARY_PATH="+libraries),
	}, nil
}

func (m mySQL) install(ctx context.Context, c *Cluster, dir string) error {
	bootstrap, err := m.mysqld(append(m.common(dir), "--bootstrap", "--tmpdir="+c.reaper.dir)...)
	if err != nil {
		return err
	}
	// As mysql_install_db does it, but without the accounts and privileges for everybody that come with it.
	share := filepath.Join(filepath.Dir(bootstrap.argv[0]), "share")
	tables, err := os.ReadFile(filepath.Join(share, "mysql_system_tables.sql"))
	if err != nil {
		return fmt.Errorf("servers: %w", err)
	}
	bootstrap.stdin = dir + ".sql"
	sql := slices.Concat([]byte("CREATE DATABASE mysql;\nUSE mysql;\n"), tables, []byte(m.accounts(c)))
	if err := errors.Join(os.WriteFile(bootstrap.stdin, sql, 0o600), os.Mkdir(dir, 0o700)); err != nil {
		return fmt.Errorf("servers: %w", err)
	}
	if err := c.reaper.runToEnd(ctx, dir+".log", bootstrap); err != nil {
		return fmt.Errorf("servers: installing MySQL: %w", err)
	}
	return nil
}

func (m mySQL) command(s *Server) (command, error) {
	return m.mysqld(append(m.running(s),
		"--gtid-mode=ON",
		"--enforce-gtid-consistency=ON", // required by the former
		// In InnoDB, and with each transaction: a slave that is killed goes on where it was.
		"--master-info-repository=TABLE",
		"--relay-log-info-repository=TABLE",
		"--relay-log-recovery=ON",
		"--binlog-rows-query-log-events=ON", // the SQL as well, as MariaDB does
	)...)
}

func (m mySQL) follow(ctx context.Context, s *Server) error {
	return m.followBy(ctx, s, "MASTER_AUTO_POSITION=1")
}

func (mySQL) position(ctx context.Context, master *Server) (position string, err error) {
	err = master.db.QueryRowContext(ctx, "SELECT @@GLOBAL.gtid_executed").Scan(&position)
	return position, err
}

func (m mySQL) replayed(ctx context.Context, s *Server, position string) error {
	// WAIT_UNTIL_SQL_THREAD_AFTER_GTIDS would not wait for a slave that is held.
	var broken error
	err := poll(ctx, func() error {
		var has bool
		if has, broken = m.has(ctx, s, position); has || broken != nil {
			return nil
		}
		return errors.New("it is behind") // merely slow, or held, or its master is down
	})
	if err := cmp.Or(err, broken); err != nil {
		return fmt.Errorf("waiting for %s: %w", position, err)
	}
	return nil
}

// has says whether everybody sees on the slave what is in the position. It is an error if that is not to be expected.
func (m mySQL) has(ctx context.Context, s *Server, position string) (has bool, err error) {
	err = s.db.QueryRowContext(ctx, "SELECT GTID_SUBSET(?, @@GLOBAL.gtid_executed)", position).Scan(&has)
	if err != nil {
		return false, err
	}
	if !has {
		status, err := m.status(ctx, s)
		if err == nil && status["Last_SQL_Errno"] != "0" {
			err = errors.New(status["Last_SQL_Error"])
		}
		return false, err
	}
	// MySQL 5.6 tells the GTID of a transaction some milliseconds before others see what it has written. Of each that a
	// slave replays this row is a part, locked until it is over.
	return true, m.exec(ctx, s, "SELECT * FROM mysql.slave_relay_log_info LOCK IN SHARE MODE")
}

func (m mySQL) ownTransactions(ctx context.Context, s *Server) ([]string, error) {
	// What the server has executed under its own name: tells at once that there is none, however long the log.
	var executed string
	var some bool
	err := s.db.QueryRowContext(ctx, "SELECT @@GLOBAL.gtid_executed, "+
		"INSTR(@@GLOBAL.gtid_executed, @@GLOBAL.server_uuid) > 0").Scan(&executed, &some)
	if err != nil || !some {
		return nil, err
	}
	return m.own(ctx, s, executed)
}
