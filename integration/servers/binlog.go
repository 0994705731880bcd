package servers

import (
	"context"
	"database/sql"
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
	binlogAdmin    = "admin"
	binlogUser     = "test"
	binlogDatabase = "test"
)

// binlog is what the engines of MariaDB and MySQL have in common: servers that replicate their binary log.
type binlog struct{}

// common are the options of installing and of running.
func (binlog) common(data string) []string {
	options := []string{
		"--no-defaults", // first, or it is not taken
		"--datadir=" + data,
		"--skip-name-resolve",
		"--innodb-buffer-pool-size=32M",
		"--innodb-use-native-aio=OFF", // its queues are few, and belong to the machine
	}
	if os.Geteuid() == 0 {
		options = append(options, "--user=root") // it refuses to run as root unless told to
	}
	return options
}

// running are the options of running s, common ones included.
func (b binlog) running(s *Server) []string {
	return slices.Concat(b.common(s.data()), []string{
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
		// Logs a statement that changed no row, too: so it is found on a slave where it does not belong.
		"--binlog-format=MIXED",
		// 2 and 0: a server that is killed loses nothing, as all has reached the kernel; with 0 and strict mode
		// MariaDB's replication could stop for good. Nothing here has to survive the machine.
		"--innodb-flush-log-at-trx-commit=2",
		"--sync-binlog=0",
		"--read-only=OFF", // a write gone astray shall succeed, and be found
		"--performance-schema=OFF",
		"--innodb-buffer-pool-dump-at-shutdown=OFF",
		"--innodb-buffer-pool-load-at-startup=OFF",
		"--key-buffer-size=1M",
		"--character-set-server=utf8mb4",
		"--default-time-zone=+00:00",
	})
}

// accounts is the SQL that makes the accounts while a server is installed. A server that is being installed
// checks no privileges, and knows no accounts until it is told to load them.
func (binlog) accounts(c *Cluster) string {
	return fmt.Sprintf(`FLUSH PRIVILEGES;
CREATE USER %[1]s@'%%' IDENTIFIED BY '%[4]s';
GRANT ALL ON *.* TO %[1]s@'%%' WITH GRANT OPTION;
CREATE USER %[2]s@'%%' IDENTIFIED BY '%[4]s';
GRANT ALL ON %[3]s.* TO %[2]s@'%%';
`, binlogAdmin, binlogUser, binlogDatabase, c.password)
}

// create copies: so all servers start from the same state without having replicated anything.
func (binlog) create(_ context.Context, s *Server, installed string) error {
	return os.CopyFS(s.data(), os.DirFS(installed))
}

func (binlog) stopSignal() syscall.Signal { return syscall.SIGTERM }

func (binlog) portTaken(log string) bool { return strings.Contains(log, "Bind on TCP/IP port") }

func (binlog) config(s *Server, user string) *mysql.Config {
	cfg := mysql.NewConfig()
	cfg.Net, cfg.Addr = "tcp", s.Addr()
	cfg.User, cfg.Passwd = user, s.cluster.password
	cfg.ParseTime = true
	return cfg
}

func (b binlog) open(s *Server) (*sql.DB, error) {
	cfg := b.config(s, binlogAdmin)
	cfg.Logger = &mysql.NopLogger{} // that connections break is what this package is for
	connector, err := mysql.NewConnector(cfg)
	if err != nil {
		return nil, err
	}
	return sql.OpenDB(connector), nil
}

func (b binlog) dsn(s *Server) string {
	cfg := b.config(s, binlogUser)
	cfg.DBName = binlogDatabase
	return cfg.FormatDSN()
}

func (binlog) answers(ctx context.Context, s *Server, db *sql.DB) error {
	var id int
	if err := db.QueryRowContext(ctx, "SELECT @@server_id").Scan(&id); err != nil {
		return err
	}
	if id != s.id {
		return fmt.Errorf("server %d is at %s", id, s.Addr()) // it was faster to take the port
	}
	return nil
}

// exec runs the statements on one server. The binary log gets none of those that are used here, but for those
// meant for the master.
func (binlog) exec(ctx context.Context, s *Server, statements ...string) error {
	for _, q := range statements {
		if _, err := s.db.ExecContext(ctx, s.Words(q)); err != nil {
			verb, _, _ := strings.Cut(q, " MASTER_") // no password in an error
			return fmt.Errorf("%s: %w", verb, err)
		}
	}
	return nil
}

// followBy lets the slave s replicate from its master; the option says by which positions.
func (b binlog) followBy(ctx context.Context, s *Server, option string) error {
	return b.exec(ctx, s,
		fmt.Sprintf("CHANGE MASTER TO MASTER_HOST='127.0.0.1', MASTER_PORT=%d, MASTER_USER='%s', "+
			"MASTER_PASSWORD='%s', MASTER_CONNECT_RETRY=1, %s", // seconds until it tries again
			s.master.port, binlogAdmin, s.cluster.password, option), "START SLAVE")
}

func (b binlog) createDatabase(ctx context.Context, master *Server) error {
	return b.exec(ctx, master, "CREATE DATABASE "+binlogDatabase)
}

func (b binlog) hold(ctx context.Context, s *Server) error {
	return b.exec(ctx, s, "STOP SLAVE SQL_THREAD")
}

func (b binlog) release(ctx context.Context, s *Server) error {
	return b.exec(ctx, s, "START SLAVE SQL_THREAD")
}

func (b binlog) delay(ctx context.Context, s *Server, seconds int) error {
	status, err := b.status(ctx, s)
	if err != nil {
		return err
	}
	again := "START SLAVE"
	if status["Slave_SQL_Running"] == "No" {
		again = "START SLAVE IO_THREAD" // it is held, and stays so
	}
	return b.exec(ctx, s, "STOP SLAVE", fmt.Sprintf("CHANGE MASTER TO MASTER_DELAY=%d", seconds), again)
}

// status returns the slave's view of its replication, by MariaDB's names of its columns.
func (binlog) status(ctx context.Context, s *Server) (map[string]string, error) {
	rows, err := s.db.QueryContext(ctx, s.Words("SHOW SLAVE STATUS"))
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
			status[slaveColumns.Replace(name)] = values[i].String
		}
	}
	return status, rows.Err()
}

// own returns the server's own transactions, when the text history has shown that there are some.
func (b binlog) own(ctx context.Context, s *Server, history string) ([]string, error) {
	own, err := b.ownInAll(ctx, s)
	if err == nil && own == nil {
		err = fmt.Errorf("there are some, according to %q, but the logs with them are gone", history)
	}
	return own, err
}

// ownInAll returns the server's own transactions in all files of its binary log.
func (b binlog) ownInAll(ctx context.Context, s *Server) ([]string, error) {
	logs, err := b.logs(ctx, s)
	if err != nil {
		return nil, err
	}
	var own []string
	for _, log := range logs {
		more, err := b.ownIn(ctx, s, log)
		if err != nil {
			return nil, err
		}
		own = append(own, more...)
	}
	return own, nil
}

// logs returns the names of the files of the binary log.
func (binlog) logs(ctx context.Context, s *Server) ([]string, error) {
	rows, err := s.db.QueryContext(ctx, "SHOW BINARY LOGS")
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	columns, err := rows.Columns()
	if err != nil {
		return nil, err
	}
	var logs []string
	for rows.Next() {
		var name string
		into := []any{&name}
		for range columns[1:] { // its size and, on MySQL, whether it is encrypted
			into = append(into, new(any))
		}
		if err := rows.Scan(into...); err != nil {
			return nil, err
		}
		logs = append(logs, name)
	}
	return logs, rows.Err()
}

// ownIn returns the server's own transactions in one file of its binary log.
func (binlog) ownIn(ctx context.Context, s *Server, log string) ([]string, error) {
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
		if id != s.id {
			continue
		}
		switch kind {
		case "Gtid", "Anonymous_Gtid": // a transaction begins
			own = append(own, gtidOf(text))
		// Of what follows, what was written as SQL, also where the change itself is in rows.
		case "Query", "Annotate_rows", "Rows_query":
			if len(own) > 0 && text != "BEGIN" && text != "COMMIT" {
				own[len(own)-1] += ": " + text
			}
		}
	}
	return own, rows.Err()
}

// gtidOf returns the position in the event with which a transaction begins: "BEGIN GTID 0-2-7" on MariaDB,
// "SET @@SESSION.GTID_NEXT= 'uuid:7'" on MySQL, where it is ANONYMOUS if it has none.
func gtidOf(text string) string {
	if _, gtid, found := strings.Cut(text, "GTID "); found {
		return gtid
	}
	_, gtid, _ := strings.Cut(text, "= ")
	return strings.Trim(gtid, "'")
}
