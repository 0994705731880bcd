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

// mySQL is the engine of MySQL, from 8.0.23 on, where SLAVE and MASTER became REPLICA and SOURCE. Its servers have
// GTIDs, unless the options of a [Config] say otherwise: --gtid-mode=OFF, or ON_PERMISSIVE.
type mySQL struct{ binlog }

var _ engine = mySQL{}

// mySQLProgram returns the server's program: REPLICATED_MYSQL, which names it or its folder; or else a mysqld in PATH;
// or else what .ci/deps has fetched.
func mySQLProgram() (string, error) {
	if named := os.Getenv("REPLICATED_MYSQL"); named != "" {
		for _, path := range []string{named, filepath.Join(named, "mysqld"), filepath.Join(named, "bin", "mysqld")} {
			if path, err := exec.LookPath(path); err == nil {
				return filepath.Abs(path)
			}
		}
		return "", fmt.Errorf("%w: mysqld, which REPLICATED_MYSQL says to be %s", ErrNotInstalled, named)
	}
	if path, err := program("mysqld", ""); err == nil && isMySQL(path) {
		return path, nil
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("%w: mysqld, for which there is no place: %w", ErrNotInstalled, err)
	}
	path := filepath.Join(cache, "gorm-replicated", "mysql-9", "bin", "mysqld")
	if _, err := exec.LookPath(path); err != nil {
		return "", fmt.Errorf("%w: mysqld of MySQL 8.0 or later, neither in PATH nor at %s (make deps fetches it)",
			ErrNotInstalled, path)
	}
	return path, nil
}

var mySQLVersion = regexp.MustCompile(`Ver (\d+)\.(\d+)\.(\d+)`)

// isMySQL says whether a program is a server that this package knows. MariaDB's packages have a mysqld, too.
func isMySQL(path string) bool {
	out, err := exec.Command(path, "--no-defaults", "--version").Output()
	version := mySQLVersion.FindStringSubmatch(string(out))
	if err != nil || version == nil || strings.Contains(string(out), "MariaDB") {
		return false
	}
	var numbers []int
	for _, text := range version[1:] {
		n, err := strconv.Atoi(text)
		if err != nil {
			return false
		}
		numbers = append(numbers, n)
	}
	return slices.Compare(numbers, []int{8, 0, 23}) >= 0
}

// mysqld returns the command that runs the server's program.
func (mySQL) mysqld(options ...string) (command, error) {
	path, err := mySQLProgram()
	if err != nil {
		return command{}, err
	}
	return command{argv: slices.Concat([]string{path}, options, []string{
		"--mysqlx=OFF", // it would take a port and a socket of its own
		"--innodb-doublewrite=OFF",
		"--loose-innodb-redo-log-capacity=32M", // from 8.0.30 on
	})}, nil
}

func (m mySQL) install(ctx context.Context, c *Cluster, dir string) error {
	file := dir + ".sql"
	if err := os.WriteFile(file, []byte(m.accounts(c)), 0o600); err != nil {
		return fmt.Errorf("servers: %w", err)
	}
	initialize, err := m.mysqld(append(m.common(dir),
		"--initialize-insecure", "--tmpdir="+c.reaper.dir, "--init-file="+file)...)
	if err != nil {
		return err
	}
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
	)...)
}

func (mySQL) words(statement string) string { return mySQLWords.Replace(statement) }

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
	for _, query := range logStatus {
		err = s.db.QueryRowContext(ctx, query).Scan(&file, &at, &ignored[0], &ignored[1], &ignored[2])
		if err == nil {
			break
		}
	}
	return file, at, err
}

// position returns a GTID set or, where not all transactions have GTIDs, the end of the binary log: file/position.
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

// replayed asks, as what MySQL has for waiting would not wait for a slave that is held.
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

// has says whether everybody sees on the slave what is in the position. It is an error if that is not to be expected.
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
	// What the server has executed under its own name: tells at once that there is none, however long the log.
	var executed string
	var some bool
	err = s.db.QueryRowContext(ctx, "SELECT @@GLOBAL.gtid_executed, "+
		"INSTR(@@GLOBAL.gtid_executed, @@GLOBAL.server_uuid) > 0").Scan(&executed, &some)
	if err != nil || !some {
		return nil, err
	}
	return m.own(ctx, s, executed)
}
