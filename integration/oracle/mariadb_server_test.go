package oracle

import (
	"context"
	"database/sql"
	_ "embed"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"

	"github.com/gorm-replicated/replicated/integration/servers"
)

//go:embed testdata/mariadb_schema.sql
var mariaDBSchema string

// The variables that say nothing of what a statement did, or that tell connections apart anyway.
const mariaDBIgnored = "'error_count','warning_count','last_gtid','pseudo_thread_id','in_transaction'," +
	"'gtid_binlog_pos','gtid_binlog_state','gtid_current_pos','timestamp','rand_seed1','rand_seed2'"

func newMariaDB(t *testing.T) *mariaDB {
	t.Helper()
	files := t.TempDir()
	// The server may be another user's.
	if err := os.Chmod(files, 0o777); err != nil {
		t.Fatal(err)
	}
	c := servers.MariaDB(t, servers.Config{MasterOptions: []string{
		"--secure-file-priv=" + files, "--sysdate-is-now", "--log-bin-trust-function-creators=ON",
		"--innodb-stats-auto-recalc=OFF", "--event-scheduler=OFF", "--userstat=ON", "--plugin-load-add=metadata_lock_info"}})
	m := &mariaDB{server: c.Master, admin: c.Master.DB(), files: files, baseline: map[string][]string{}}
	ctx := t.Context()
	for _, q := range []string{
		"CREATE ROLE part",
		"CREATE USER oracle@'%' IDENTIFIED BY 'oracle'",
		"GRANT ALL ON *.* TO oracle@'%' WITH GRANT OPTION",
		"REVOKE READ ONLY ADMIN ON *.* FROM oracle@'%'",
		"GRANT part TO oracle@'%'",
	} {
		if _, err := m.admin.ExecContext(ctx, q); err != nil {
			t.Fatalf("%s: %v", q, err)
		}
	}
	cfg := mysql.NewConfig()
	cfg.Net, cfg.Addr, cfg.User, cfg.Passwd = "tcp", c.Master.Addr(), "oracle", "oracle"
	cfg.MultiStatements = true
	cfg.Logger = &mysql.NopLogger{}
	connector, err := mysql.NewConnector(cfg)
	if err != nil {
		t.Fatal(err)
	}
	m.pool = sql.OpenDB(connector)
	m.pool.SetMaxIdleConns(-1)
	t.Cleanup(func() {
		if m.watch != nil {
			_ = m.watch.Close()
		}
		if err := m.pool.Close(); err != nil {
			t.Error(err)
		}
	})
	if err := m.rebuild(ctx); err != nil {
		t.Fatal(err)
	}
	if m.globals, err = m.globalSettings(ctx); err != nil {
		t.Fatal(err)
	}
	return m
}

// rebuild makes the two databases anew.
func (m *mariaDB) rebuild(ctx context.Context) error {
	for _, db := range []string{"here", "there"} {
		q := fmt.Sprintf("SET timestamp = 1600000000; DROP DATABASE IF EXISTS %[1]s; CREATE DATABASE %[1]s CHARACTER SET utf8mb4; USE %[1]s; %[2]s", db, mariaDBSchema)
		if err := m.do(ctx, q); err != nil {
			return fmt.Errorf("making the database %s: %w", db, err)
		}
	}
	var err error
	var tables []string
	const innodb = "SELECT CONCAT('`', table_schema, '`.`', table_name, '`') FROM information_schema.tables " +
		"WHERE table_schema = 'here' AND table_type = 'BASE TABLE' AND engine = 'InnoDB' ORDER BY 1"
	if tables, err = m.column(ctx, innodb, 0); err != nil {
		return err
	}
	m.lockable = ""
	for _, t := range tables {
		m.lockable += "SELECT COUNT(*) FROM " + t + " FOR UPDATE SKIP LOCKED;"
	}
	if m.rows, err = m.probe(ctx); err != nil {
		return err
	}
	m.signature, err = m.sign(ctx)
	return err
}

// sign describes all data that a statement could have changed.
func (m *mariaDB) sign(ctx context.Context) (string, error) {
	const names = "SELECT CONCAT('`', table_schema, '`.`', table_name, '`') FROM information_schema.tables " +
		"WHERE table_schema IN ('here', 'there') AND table_type = 'BASE TABLE' OR table_schema = 'mysql' AND table_name " +
		"IN ('global_priv', 'db', 'func', 'plugin', 'servers', 'roles_mapping', 'tables_priv', 'index_stats', 'table_stats', 'column_stats', 'proc', 'event') ORDER BY 1"
	tables, err := m.column(ctx, names, 0)
	if err != nil {
		return "", err
	}
	return m.sets(ctx, "CHECKSUM TABLE "+strings.Join(tables, ", ")+
		"; SELECT table_schema, table_name FROM information_schema.tables WHERE table_schema NOT IN ('information_schema', 'performance_schema')"+
		"; SELECT schema_name, default_character_set_name, schema_comment FROM information_schema.schemata"+
		"; SELECT table_id, name, n_cols FROM information_schema.innodb_sys_tables"+
		"; SELECT table_id, index_id, name FROM information_schema.innodb_sys_indexes"+
		"; XA RECOVER")
}

// restore puts everything back as it was before something was written.
func (m *mariaDB) restore(ctx context.Context) error {
	if err := m.forget(ctx); err != nil {
		return err
	}
	now, err := m.globalSettings(ctx)
	if err != nil {
		return err
	}
	for name, value := range m.globals {
		if now[name] == value {
			continue
		}
		if _, err := m.admin.ExecContext(ctx, "SET GLOBAL "+name+" = '"+value+"'"); err != nil {
			if _, err := m.admin.ExecContext(ctx, "SET GLOBAL "+name+" = "+value); err != nil {
				return fmt.Errorf("setting %s back from %q to %q: %w", name, now[name], value, err)
			}
		}
	}
	if now, err = m.globalSettings(ctx); err != nil {
		return err
	} else if !maps.Equal(now, m.globals) {
		return errors.New("the global settings could not be put back")
	}
	signature, err := m.sign(ctx)
	if err != nil || signature == m.signature {
		return err
	}
	// Most of what gets through are changes to the tables without transactions.
	err = m.do(ctx, "DELETE FROM here.isam; INSERT INTO here.isam VALUES (1, 10), (2, 20); DELETE FROM here.mem; INSERT INTO here.mem VALUES (1, 10), (2, 20)")
	if err == nil {
		if signature, err = m.sign(ctx); err == nil && signature == m.signature {
			return nil
		}
	}
	return m.rebuild(ctx)
}

// forget rolls back XA transactions that were prepared. Each is its connection's until the server has noticed that the
// connection is closed, and an unknown one for everybody else.
func (m *mariaDB) forget(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	for {
		ids, err := m.column(ctx, "XA RECOVER FORMAT = 'SQL'", 3)
		if err != nil || len(ids) == 0 {
			return err
		}
		for _, id := range ids {
			if _, err := m.admin.ExecContext(ctx, "XA ROLLBACK "+id); err != nil && errorNumber(err) != 1397 {
				return fmt.Errorf("XA ROLLBACK %s: %w", id, err)
			}
		}
	}
}

func (m *mariaDB) globalSettings(ctx context.Context) (map[string]string, error) {
	rows, err := m.admin.QueryContext(ctx, "SELECT variable_name, COALESCE(global_value, '') FROM information_schema.system_variables "+
		"WHERE global_value IS NOT NULL AND variable_name NOT IN ("+mariaDBIgnored+")")
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	settings := make(map[string]string)
	for rows.Next() {
		var name, value string
		if err := rows.Scan(&name, &value); err != nil {
			return nil, err
		}
		settings[name] = value
	}
	return settings, rows.Err()
}

// column returns the i-th column of the answer to q.
func (m *mariaDB) column(ctx context.Context, q string, i int) ([]string, error) {
	rows, err := m.admin.QueryContext(ctx, q)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	names, err := rows.Columns()
	if err != nil {
		return nil, err
	}
	var values []string
	for rows.Next() {
		row := make([]sql.NullString, len(names))
		into := make([]any, len(names))
		for i := range row {
			into[i] = &row[i]
		}
		if err := rows.Scan(into...); err != nil {
			return nil, err
		}
		values = append(values, row[i].String)
	}
	return values, rows.Err()
}

// answer is what a text was answered with.
type answer struct {
	sets []string // a digest of each result set
	err  error
}

func (a answer) equal(b answer) bool {
	return slices.Equal(a.sets, b.sets) && errorNumber(a.err) == errorNumber(b.err)
}

// run sends q, which may be several statements, and reads all that is answered.
func run(ctx context.Context, conn *sql.Conn, q string) (a answer) {
	ctx, cancel := context.WithTimeout(ctx, timeLimit)
	defer cancel()
	rows, err := conn.QueryContext(ctx, q)
	if err != nil {
		return answer{err: err}
	}
	defer rows.Close()
	for {
		names, err := rows.Columns()
		if err != nil {
			a.err = err
			return a
		}
		values := make([]sql.RawBytes, len(names))
		into := make([]any, len(names))
		for i := range values {
			into[i] = &values[i]
		}
		var lines []string // in any order, as no order is promised
		for rows.Next() {
			if err := rows.Scan(into...); err != nil {
				a.err = err
				return a
			}
			var line strings.Builder
			for _, v := range values {
				fmt.Fprintf(&line, "%t %d %s,", v == nil, len(v), v)
			}
			lines = append(lines, line.String())
		}
		slices.Sort(lines)
		a.sets = append(a.sets, digest(lines))
		if !rows.NextResultSet() {
			a.err = rows.Err()
			return a
		}
	}
}

// do runs q on a connection of its own.
func (m *mariaDB) do(ctx context.Context, q string) error {
	_, err := m.sets(ctx, q)
	return err
}

// sets is the answer to q, which only has to be told from another.
func (m *mariaDB) sets(ctx context.Context, q string) (string, error) {
	conn, err := m.pool.Conn(ctx)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	a := run(ctx, conn, q)
	return strings.Join(a.sets, "\n"), a.err
}

// errorNumber is the server's, 0 for none, -1 for errors of another kind.
func errorNumber(err error) int {
	var my *mysql.MySQLError
	if errors.As(err, &my) {
		return int(my.Number)
	}
	if err != nil {
		return -1
	}
	return 0
}

// mariaDBRefusal says whether a server refused because it is read-only.
func mariaDBRefusal(err error) bool {
	switch errorNumber(err) {
	case 1792, 1836: // READ ONLY transaction; read-only mode
		return true
	case 1290: // --read-only; or --secure-file-priv, when writing or loading a file elsewhere
		return true
	case 1227:
		return strings.Contains(err.Error(), "READ_ONLY ADMIN")
	}
	return false
}

// mariaDBHopeless says whether a statement that failed with err fails whatever the state of the connection.
func mariaDBHopeless(err error) bool {
	switch errorNumber(err) {
	case 1305:
		return !strings.Contains(err.Error(), "SAVEPOINT")
	case 1064, 1054, 1146, 1149, 1630, 1582, 1583, 1221, 1111, 1222, 1235, 1248, 1066, 1052, 1049, 1327, 1318, 1193:
		return true
	}
	return false
}

// look runs q on the connection that is kept for looking.
func (m *mariaDB) look(ctx context.Context, q string) answer {
	if m.watch == nil {
		conn, err := m.pool.Conn(ctx)
		if err != nil {
			return answer{err: err}
		}
		m.watch = conn
	}
	a := run(ctx, m.watch, q)
	if a.err != nil {
		_ = m.watch.Close()
		m.watch = nil
	}
	return a
}

func (m *mariaDB) version(t *testing.T) string {
	t.Helper()
	version, err := m.column(t.Context(), "SELECT SUBSTRING_INDEX(VERSION(), '-', 1)", 0)
	if err != nil {
		t.Fatal(err)
	}
	return version[0]
}
