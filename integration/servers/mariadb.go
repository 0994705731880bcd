package servers

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/go-sql-driver/mysql"
)

// The accounts, the password of which is the cluster's, and the database.
const (
	mariaDBAdmin    = "admin"
	mariaDBUser     = "test"
	mariaDBDatabase = "test"
	mariaDBPackage  = "mariadb-server"
)

// mariaDB is the engine of MariaDB, from 10.6 on.
type mariaDB struct{}

var _ engine = mariaDB{}

// common are the options of installing and of running.
func (mariaDB) common(data string) []string {
	options := []string{
		"--no-defaults", // first, or it is not taken
		"--datadir=" + data,
		"--skip-name-resolve",
		"--innodb-log-file-size=16M",
		"--innodb-buffer-pool-size=32M",
		"--innodb-use-native-aio=OFF", // its queues are few, and belong to the machine
	}
	if os.Geteuid() == 0 {
		options = append(options, "--user=root") // it refuses to run as root unless told to
	}
	return options
}

func (m mariaDB) install(ctx context.Context, c *Cluster, dir string) error {
	path, err := program("mariadb-install-db", mariaDBPackage)
	if err != nil {
		return err
	}
	if _, err := program("mariadbd", mariaDBPackage); err != nil {
		return err // mariadb-install-db would not name it
	}
	// While it installs, the server does not check privileges, so it does not know accounts, until told to load them.
	sql := fmt.Sprintf(`FLUSH PRIVILEGES;
CREATE USER %[1]s@'%%' IDENTIFIED BY '%[4]s';
GRANT ALL ON *.* TO %[1]s@'%%' WITH GRANT OPTION;
CREATE USER %[2]s@'%%' IDENTIFIED BY '%[4]s';
GRANT ALL ON %[3]s.* TO %[2]s@'%%';
`, mariaDBAdmin, mariaDBUser, mariaDBDatabase, c.password)
	file := dir + ".sql"
	if err := os.WriteFile(file, []byte(sql), 0o600); err != nil {
		return fmt.Errorf("servers: %w", err)
	}
	err = c.reaper.runToEnd(ctx, dir+".log", command{argv: slices.Concat([]string{path}, m.common(dir), []string{
		"--tmpdir=" + c.reaper.dir, "--skip-test-db", "--extra-file=" + file})})
	if err != nil {
		return fmt.Errorf("servers: installing MariaDB: %w", err)
	}
	return nil
}

// create copies: so all servers start from the same state without having replicated anything.
func (mariaDB) create(_ context.Context, s *Server, installed string) error {
	return os.CopyFS(s.data(), os.DirFS(installed))
}

func (m mariaDB) command(s *Server) (command, error) {
	path, err := program("mariadbd", mariaDBPackage)
	if err != nil {
		return command{}, err
	}
	return command{argv: slices.Concat([]string{path}, m.common(s.data()), []string{
		"--socket=socket", // relative to the data folder: the path of a socket must not be long
		"--pid-file=pid",
		"--tmpdir=" + s.dir,
		"--bind-address=127.0.0.1",
		"--skip-networking=OFF",
		fmt.Sprintf("--port=%d", s.port),
		fmt.Sprintf("--server-id=%d", s.id),
		"--log-bin=binlog",
		"--relay-log=relay",
		"--log-slave-updates=ON",
		"--gtid-strict-mode=ON",
		// Logs a statement that changed no row, too: so it is found on a slave where it does not belong.
		"--binlog-format=MIXED",
		// 2 and 0: a server that is killed loses nothing, as all has reached the kernel; with 0 and strict mode its
		// replication could stop for good. Nothing here has to survive the machine.
		"--innodb-flush-log-at-trx-commit=2",
		"--sync-binlog=0",
		"--read-only=OFF", // a write gone astray shall succeed, and be found
		"--performance-schema=OFF",
		"--innodb-buffer-pool-dump-at-shutdown=OFF",
		"--innodb-buffer-pool-load-at-startup=OFF",
		"--key-buffer-size=1M",
		"--aria-pagecache-buffer-size=8M",
		"--character-set-server=utf8mb4",
		"--default-time-zone=+00:00",
	})}, nil
}

func (mariaDB) stopSignal() syscall.Signal { return syscall.SIGTERM }

func (mariaDB) portTaken(log string) bool { return strings.Contains(log, "Bind on TCP/IP port") }

func (mariaDB) config(s *Server, user string) *mysql.Config {
	cfg := mysql.NewConfig()
	cfg.Net, cfg.Addr = "tcp", s.Addr()
	cfg.User, cfg.Passwd = user, s.cluster.password
	cfg.ParseTime = true
	return cfg
}

func (m mariaDB) open(s *Server) (*sql.DB, error) {
	cfg := m.config(s, mariaDBAdmin)
	cfg.Logger = &mysql.NopLogger{} // that connections break is what this package is for
	connector, err := mysql.NewConnector(cfg)
	if err != nil {
		return nil, err
	}
	return sql.OpenDB(connector), nil
}

func (m mariaDB) dsn(s *Server) string {
	cfg := m.config(s, mariaDBUser)
	cfg.DBName = mariaDBDatabase
	return cfg.FormatDSN()
}

func (mariaDB) answers(ctx context.Context, s *Server, db *sql.DB) error {
	var id int
	if err := db.QueryRowContext(ctx, "SELECT @@server_id").Scan(&id); err != nil {
		return err
	}
	if id != s.id {
		return fmt.Errorf("server %d is at %s", id, s.Addr()) // it was faster to take the port
	}
	return nil
}

// exec runs the statements on one server. None of those used here is written to the binary log, but for those meant
// for the master.
func (mariaDB) exec(ctx context.Context, s *Server, statements ...string) error {
	for _, q := range statements {
		if _, err := s.db.ExecContext(ctx, q); err != nil {
			verb, _, _ := strings.Cut(q, " MASTER_") // no password in an error
			return fmt.Errorf("%s: %w", verb, err)
		}
	}
	return nil
}

func (m mariaDB) follow(ctx context.Context, s *Server) error {
	return m.exec(ctx, s, fmt.Sprintf("CHANGE MASTER TO MASTER_HOST='127.0.0.1', MASTER_PORT=%d, MASTER_USER='%s', "+
		"MASTER_PASSWORD='%s', MASTER_USE_GTID=slave_pos, MASTER_CONNECT_RETRY=1", // seconds until it tries again
		s.master.port, mariaDBAdmin, s.cluster.password), "START SLAVE")
}

func (m mariaDB) createDatabase(ctx context.Context, master *Server) error {
	return m.exec(ctx, master, "CREATE DATABASE "+mariaDBDatabase)
}

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
		return fmt.Errorf("waiting for %s: %w", position, cmp.Or(err, statusErr, errors.New(status["Last_SQL_Error"])))
	}
}

func (m mariaDB) hold(ctx context.Context, s *Server) error {
	return m.exec(ctx, s, "STOP SLAVE SQL_THREAD")
}

func (m mariaDB) release(ctx context.Context, s *Server) error {
	return m.exec(ctx, s, "START SLAVE SQL_THREAD")
}

func (m mariaDB) delay(ctx context.Context, s *Server, seconds int) error {
	status, err := m.status(ctx, s)
	if err != nil {
		return err
	}
	again := "START SLAVE"
	if status["Slave_SQL_Running"] == "No" {
		again = "START SLAVE IO_THREAD" // it is held, and stays so
	}
	return m.exec(ctx, s, "STOP SLAVE", fmt.Sprintf("CHANGE MASTER TO MASTER_DELAY=%d", seconds), again)
}

// status returns the slave's view of its replication, by column name.
func (mariaDB) status(ctx context.Context, s *Server) (map[string]string, error) {
	rows, err := s.db.QueryContext(ctx, "SHOW ALL SLAVES STATUS")
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	names, err := rows.Columns()
	if err != nil {
		return nil, err
	}
	status := make(map[string]string)
	for rows.Next() {
		values := make([]sql.NullString, len(names))
		into := make([]any, len(names))
		for i := range values {
			into[i] = &values[i]
		}
		if err := rows.Scan(into...); err != nil {
			return nil, err
		}
		for i, name := range names {
			status[name] = values[i].String
		}
	}
	return status, rows.Err()
}

func (m mariaDB) ownTransactions(ctx context.Context, s *Server) ([]string, error) {
	// The last GTID of every server that ever wrote here: tells at once that there is none, however long the log.
	var state string
	if err := s.db.QueryRowContext(ctx, "SELECT @@GLOBAL.gtid_binlog_state").Scan(&state); err != nil {
		return nil, err
	}
	if !strings.Contains(state, fmt.Sprintf("-%d-", s.id)) {
		return nil, nil
	}
	logs, err := m.logs(ctx, s)
	if err != nil {
		return nil, err
	}
	var own []string
	for _, log := range logs {
		more, err := m.ownIn(ctx, s, log)
		if err != nil {
			return nil, err
		}
		own = append(own, more...)
	}
	if own == nil {
		return nil, fmt.Errorf("there are some, according to %q, but the logs with them are gone", state)
	}
	return own, nil
}

// logs returns the names of the files of the binary log.
func (mariaDB) logs(ctx context.Context, s *Server) ([]string, error) {
	rows, err := s.db.QueryContext(ctx, "SHOW BINARY LOGS")
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var logs []string
	for rows.Next() {
		var name string
		var size int64
		if err := rows.Scan(&name, &size); err != nil {
			return nil, err
		}
		logs = append(logs, name)
	}
	return logs, rows.Err()
}

// ownIn returns the server's own transactions in one file of its binary log.
func (mariaDB) ownIn(ctx context.Context, s *Server, log string) ([]string, error) {
	rows, err := s.db.QueryContext(ctx, fmt.Sprintf("SHOW BINLOG EVENTS IN '%s'", filepath.Base(log)))
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var own []string
	for rows.Next() {
		var name, kind, text string
		var id int
		var from, to int64
		if err := rows.Scan(&name, &from, &kind, &id, &to, &text); err != nil {
			return nil, err
		}
		switch {
		case id != s.id:
		case kind == "Gtid": // a transaction begins: "BEGIN GTID 0-2-7"
			_, gtid, _ := strings.Cut(text, "GTID ")
			own = append(own, gtid)
		// Of what follows, what was written as SQL, also where the change itself is in rows.
		case (kind == "Query" || kind == "Annotate_rows") && len(own) > 0 && text != "COMMIT":
			own[len(own)-1] += ": " + text
		}
	}
	return own, rows.Err()
}
