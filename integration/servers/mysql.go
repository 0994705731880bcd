package servers

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// mySQL is the engine of MySQL, from 8.0.26 on, where SLAVE and MASTER became REPLICA and SOURCE. Its servers
// have GTIDs, unless the options of a [Config] say otherwise: --gtid-mode=OFF, or ON_PERMISSIVE.
type mySQL struct {
	binlog
	program string
	version []int
}

var _ engine = mySQL{}

// findMySQL finds the server's program: REPLICATED_MYSQL, which names it or its folder; or else a mysqld in
// PATH; or else what .ci/deps has fetched.
func findMySQL() (mySQL, error) {
	if named := os.Getenv("REPLICATED_MYSQL"); named != "" {
		for _, below := range []string{"", "mysqld", "bin/mysqld"} {
			if m, ok := askMySQL(filepath.Join(named, below)); ok {
				return m, nil
			}
		}
		return mySQL{}, fmt.Errorf("%w: mysqld of MySQL 8.0.26 or later, which REPLICATED_MYSQL says to be %s",
			ErrNotInstalled, named)
	}
	if path, err := program("mysqld", ""); err == nil {
		if m, ok := askMySQL(path); ok {
			return m, nil
		}
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return mySQL{}, fmt.Errorf("%w: mysqld, for which there is no place: %w", ErrNotInstalled, err)
	}
	path := filepath.Join(cache, "gorm-replicated", "mysql-9", "bin", "mysqld")
	if m, ok := askMySQL(path); ok {
		return m, nil
	}
	return mySQL{}, fmt.Errorf("%w: mysqld of MySQL 8.0.26 or later, neither in PATH nor at %s "+
		"(make deps fetches it)", ErrNotInstalled, path)
}

// mySQLVersion is in what the program says of itself: "/usr/sbin/mysqld  Ver 9.7.4 for Linux on x86_64".
var mySQLVersion = regexp.MustCompile(` Ver (\d+)\.(\d+)\.(\d+)(\S*)`)

// askMySQL says whether a program is a server that this package knows. MariaDB's packages have a mysqld, too.
func askMySQL(path string) (m mySQL, ok bool) {
	out, err := exec.Command(path, "--no-defaults", "--version").Output()
	version := mySQLVersion.FindStringSubmatch(string(out))
	if err != nil || version == nil || strings.Contains(version[4], "MariaDB") {
		return mySQL{}, false
	}
	m.program = path
	for _, text := range version[1:4] {
		n, err := strconv.Atoi(text)
		if err != nil {
			return mySQL{}, false
		}
		m.version = append(m.version, n)
	}
	return m, m.isFrom(8, 0, 26)
}

// isFrom says whether the server has this version, or a later one.
func (m mySQL) isFrom(version ...int) bool { return slices.Compare(m.version, version) >= 0 }

// mysqld returns the command that runs the server's program.
func (m mySQL) mysqld(options ...string) command {
	return command{argv: slices.Concat([]string{m.program}, options, []string{
		"--mysqlx=OFF", // it would take a port and a socket of its own
		"--innodb-doublewrite=OFF",
		"--loose-innodb-redo-log-capacity=32M", // from 8.0.30 on
	})}
}

func (m mySQL) install(ctx context.Context, c *Cluster, dir string) error {
	file := dir + ".sql"
	if err := os.WriteFile(file, []byte(m.accounts(c)), 0o600); err != nil {
		return fmt.Errorf("servers: %w", err)
	}
	initialize := m.mysqld(append(m.common(dir),
		"--initialize-insecure", "--tmpdir="+c.reaper.dir, "--init-file="+file)...)
	if err := c.reaper.runToEnd(ctx, dir+".log", initialize); err != nil {
		return fmt.Errorf("servers: installing MySQL: %w", err)
	}
	// It has the server's UUID, of which each copy makes one of its own.
	if err := os.Remove(filepath.Join(dir, "auto.cnf")); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("servers: %w", err)
	}
	return nil
}

func (m mySQL) command(s *Server) (command, error) {
	return m.mysqld(append(m.running(s),
		"--gtid-mode=ON",
		"--enforce-gtid-consistency=ON", // required by the former
		"--relay-log-recovery=ON",
		"--binlog-rows-query-log-events=ON", // the SQL as well, as MariaDB does
	)...), nil
}

func (m mySQL) words(statement string) string {
	statement = mySQLWords.Replace(statement)
	if m.isFrom(8, 2) {
		statement = mySQLLogWords.Replace(statement)
	}
	return statement
}

// hasGTIDs says whether every transaction of s has a GTID.
func (mySQL) hasGTIDs(ctx context.Context, s *Server) (has bool, err error) {
	err = s.db.QueryRowContext(ctx, "SELECT @@GLOBAL.gtid_mode = 'ON'").Scan(&has)
	return has, err
}

func (m mySQL) follow(ctx context.Context, s *Server) error {
	has, err := m.hasGTIDs(ctx, s)
	if err != nil {
		return err
	}
	if has {
		return m.followBy(ctx, s, "MASTER_AUTO_POSITION=1")
	}
	file, at, err := m.logged(ctx, s.master)
	if err != nil {
		return err
	}
	return m.followBy(ctx, s, fmt.Sprintf("MASTER_LOG_FILE='%s', MASTER_LOG_POS=%d", file, at))
}

// logged returns where the binary log of s ends.
func (m mySQL) logged(ctx context.Context, s *Server) (file string, at int64, err error) {
	var ignored [3]sql.NullString
	err = s.db.QueryRowContext(ctx, s.Words("SHOW MASTER STATUS")).
		Scan(&file, &at, &ignored[0], &ignored[1], &ignored[2])
	return file, at, err
}

// position returns a GTID set or, where not all transactions have GTIDs, the end of the binary log:
// file/position.
func (m mySQL) position(ctx context.Context, master *Server) (position string, err error) {
	has, err := m.hasGTIDs(ctx, master)
	if err != nil {
		return "", err
	}
	if !has {
		file, at, err := m.logged(ctx, master)
		return fmt.Sprintf("%s/%d", file, at), err
	}
	err = master.db.QueryRowContext(ctx, "SELECT @@GLOBAL.gtid_executed").Scan(&position)
	return position, err
}

// replayed asks again and again: MySQL's own functions for waiting do not wait for a slave that is held.
func (m mySQL) replayed(ctx context.Context, s *Server, position string) error {
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

// has says whether everybody sees on the slave what is in the position. It is an error if that is not to be
// expected.
func (m mySQL) has(ctx context.Context, s *Server, position string) (has bool, err error) {
	status, err := m.status(ctx, s)
	if err != nil {
		return false, err
	}
	if file, at, found := strings.Cut(position, "/"); found {
		end, err := strconv.ParseInt(at, 10, 64)
		if err != nil {
			return false, err
		}
		done, err := strconv.ParseInt(status["Exec_Master_Log_Pos"], 10, 64)
		if err != nil {
			return false, err
		}
		in := status["Relay_Master_Log_File"] // their names have numbers of one length
		has = in > file || in == file && done >= end
	} else {
		err = s.db.QueryRowContext(ctx, "SELECT GTID_SUBSET(?, @@GLOBAL.gtid_executed)", position).Scan(&has)
	}
	if err != nil || has {
		return has, err
	}
	if number := status["Last_SQL_Errno"]; number != "" && number != "0" {
		return false, errors.New(status["Last_SQL_Error"])
	}
	return false, nil
}

func (m mySQL) ownTransactions(ctx context.Context, s *Server) ([]string, error) {
	has, err := m.hasGTIDs(ctx, s)
	if err != nil {
		return nil, err
	}
	if !has {
		return m.ownInAll(ctx, s)
	}
	// What the server has executed under its own UUID tells at once that there is none, however long the log.
	var executed string
	var some bool
	err = s.db.QueryRowContext(ctx, "SELECT @@GLOBAL.gtid_executed, "+
		"INSTR(@@GLOBAL.gtid_executed, @@GLOBAL.server_uuid) > 0").Scan(&executed, &some)
	if err != nil || !some {
		return nil, err
	}
	return m.own(ctx, s, executed)
}
