package servers

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
)

const mariaDBPackage = "mariadb-server"

// mariaDB is the engine of MariaDB, from 10.6 on.
type mariaDB struct{ binlog }

var _ engine = mariaDB{}

func (m mariaDB) install(ctx context.Context, c *Cluster, dir string) error {
	path, err := program("mariadb-install-db", mariaDBPackage)
	if err != nil {
		return err
	}
	if _, err := program("mariadbd", mariaDBPackage); err != nil {
		return err // mariadb-install-db would not name it
	}
	file := dir + ".sql"
	if err := os.WriteFile(file, []byte(m.accounts(c)), 0o600); err != nil {
		return fmt.Errorf("servers: %w", err)
	}
	err = c.reaper.runToEnd(ctx, dir+".log", command{argv: slices.Concat([]string{path}, m.common(dir), []string{
		"--innodb-log-file-size=16M", "--tmpdir=" + c.reaper.dir, "--skip-test-db", "--extra-file=" + file})})
	if err != nil {
		return fmt.Errorf("servers: installing MariaDB: %w", err)
	}
	return nil
}

func (m mariaDB) command(s *Server) (command, error) {
	path, err := program("mariadbd", mariaDBPackage)
	if err != nil {
		return command{}, err
	}
	return command{argv: slices.Concat([]string{path}, m.running(s), []string{
		"--gtid-strict-mode=ON",
		"--innodb-log-file-size=16M",
		"--aria-pagecache-buffer-size=8M",
	})}, nil
}

func (m mariaDB) follow(ctx context.Context, s *Server) error {
	return m.followBy(ctx, s, "MASTER_USE_GTID=slave_pos")
}

func (mariaDB) words(statement string) string { return statement }

func (mariaDB) position(ctx context.Context, master *Server) (position string, err error) {
	err = master.db.QueryRowContext(ctx, "SELECT @@GLOBAL.gtid_binlog_pos").Scan(&position)
	return position, err
}

func (m mariaDB) replayed(ctx context.Context, s *Server, position string) error {
	for {
		var late int // 0 or, after a second, -1
		err := s.db.QueryRowContext(ctx, "SELECT MASTER_GTID_WAIT(?, 1)", position).Scan(&late)
		if err == nil && late == 0 {
			return nil
		}
		status, statusErr := m.status(ctx, s)
		if err == nil && statusErr == nil && status["Last_SQL_Errno"] == "0" {
			continue // merely slow, or held, or its master is down
		}
		return fmt.Errorf("waiting for %s: %w", position,
			cmp.Or(err, statusErr, errors.New(status["Last_SQL_Error"])))
	}
}

func (m mariaDB) ownTransactions(ctx context.Context, s *Server) ([]string, error) {
	// The last GTIDs of all who ever wrote here tell at once that there is none, however long the log.
	var state string
	if err := s.db.QueryRowContext(ctx, "SELECT @@GLOBAL.gtid_binlog_state").Scan(&state); err != nil {
		return nil, err
	}
	if !strings.Contains(state, fmt.Sprintf("-%d-", s.id)) {
		return nil, nil
	}
	return m.own(ctx, s, state)
}
