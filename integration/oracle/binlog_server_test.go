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

//go:embed testdata/binlog_schema.sql
var binlogSchema string

// binlogEngine is what MariaDB and MySQL differ in.
type binlogEngine struct {
	name     string
	versions []string // where the version begins with one of these, all that is written by hand has to be valid
	files    string   // how the names of its files in testdata begin; binlog is what both engines understand
	schema   string   // beside binlogSchema

	start   func(testing.TB, servers.Config) *servers.Cluster
	options []string
	account []string // SQL after which the account oracle may do all but write while the server is read_only

	modes     []mode
	limit     string // settings that end what takes long
	impatient string // settings of those who do not wait for locks
	once      string // a part of the first state that cannot be done twice with the same result

	variables    string // asks for the global settings, by name
	settings     string // asks for one row that differs if any setting, global or of the connection, does
	reset        string // undoes the settings that outlive the server
	session      string // asks what a statement can have changed on a connection, apart from that
	sessionParts []string
	left         string // asks for one row: transactions left open, the database, locks left
	logAndRows   string // asks where the binary log ends, and how many rows were ever changed, for good or not
	system       string // tables of the schema mysql, as a list of strings, that a statement could change
	data         string // asks for what else is there
	prepared     string // asks for XA transactions that were prepared
	xid          func(row []string) string

	known     map[truth][]string // beside binlogKnown
	inserts   []string           // what may change the meaning of a statement, beside binlogText's
	around    []string           // statements around a statement, beside binlogText's
	functions func(*testing.T, *binlog) []string
	arguments map[string][]string // beside binlogArguments
}

// binlogSession is the beginning of what asks for settings of a connection that are looked at each time.
const binlogSession = "SELECT @@last_insert_id, @@insert_id, @@sql_mode, @@autocommit, @@time_zone, " +
	"@@character_set_client, @@character_set_results, @@collation_connection, @@sql_log_bin, @@sql_select_limit"

// common is what every connection begins with.
func (e *binlogEngine) common() string { return binlogCommon + e.limit }

func newBinlog(t *testing.T, e *binlogEngine) *binlog {
	t.Helper()
	files := t.TempDir()
	// The server may be another user's.
	if err := os.Chmod(files, 0o777); err != nil {
		t.Fatal(err)
	}
	c := e.start(t, servers.Config{MasterOptions: slices.Concat(e.options, []string{
		"--secure-file-priv=" + files, "--sysdate-is-now", "--log-bin-trust-function-creators=ON",
		"--innodb-stats-auto-recalc=OFF", "--event-scheduler=OFF"})})
	b := &binlog{
		binlogEngine: e, server: c.Master, admin: c.Master.DB(), dir: files, baseline: map[string][]string{},
	}
	ctx := t.Context()
	for _, q := range slices.Concat([]string{
		"CREATE ROLE part",
		"CREATE USER oracle@'%' IDENTIFIED BY 'oracle'",
		"GRANT ALL ON *.* TO oracle@'%' WITH GRANT OPTION",
		"GRANT part TO oracle@'%'",
	}, e.account) {
		if _, err := b.admin.ExecContext(ctx, q); err != nil {
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
	b.pool = sql.OpenDB(connector)
	b.pool.SetMaxIdleConns(-1)
	t.Cleanup(func() {
		if b.watch != nil {
			_ = b.watch.Close()
		}
		if err := b.pool.Close(); err != nil {
			t.Error(err)
		}
	})
	if err := b.rebuild(ctx); err != nil {
		t.Fatal(err)
	}
	if b.globals, err = b.globalSettings(ctx); err != nil {
		t.Fatal(err)
	}
	return b
}

// rebuild makes the two databases anew.
func (b *binlog) rebuild(ctx context.Context) error {
	for _, db := range []string{"here", "there"} {
		q := fmt.Sprintf("SET timestamp = 1600000000; DROP DATABASE IF EXISTS %[1]s; "+
			"CREATE DATABASE %[1]s CHARACTER SET utf8mb4; USE %[1]s; %[2]s %[3]s", db, binlogSchema, b.schema)
		if err := b.do(ctx, q); err != nil {
			return fmt.Errorf("making the database %s: %w", db, err)
		}
	}
	var err error
	var tables []string
	const innodb = "SELECT CONCAT('`', table_schema, '`.`', table_name, '`') FROM " +
		"information_schema.tables " +
		"WHERE table_schema = 'here' AND table_type = 'BASE TABLE' AND engine = 'InnoDB' ORDER BY 1"
	if tables, err = b.column(ctx, innodb); err != nil {
		return err
	}
	b.lockable = ""
	for _, t := range tables {
		b.lockable += "SELECT COUNT(*) FROM " + t + " FOR UPDATE SKIP LOCKED;"
	}
	if b.rows, err = b.probe(ctx); err != nil {
		return err
	}
	b.signature, err = b.sign(ctx)
	return err
}

// sign describes all data that a statement could have changed.
func (b *binlog) sign(ctx context.Context) (string, error) {
	tables, err := b.column(ctx, "SELECT CONCAT('`', table_schema, '`.`', table_name, '`') "+
		"FROM information_schema.tables WHERE table_schema IN ('here', 'there') AND table_type = 'BASE TABLE' "+
		"OR table_schema = 'mysql' AND table_name IN ("+b.system+") ORDER BY 1")
	if err != nil {
		return "", err
	}
	return b.sets(ctx, "CHECKSUM TABLE "+strings.Join(tables, ", ")+
		"; SELECT table_schema, table_name FROM information_schema.tables WHERE table_schema NOT IN "+
		"('information_schema', 'performance_schema')"+
		"; SELECT schema_name, default_character_set_name FROM information_schema.schemata"+
		"; "+b.data+"; "+b.prepared)
}

// restore puts everything back as it was before something was written.
func (b *binlog) restore(ctx context.Context) error {
	if err := b.forget(ctx); err != nil {
		return err
	}
	if err := b.restoreSettings(ctx); err != nil {
		return err
	}
	signature, err := b.sign(ctx)
	if err != nil || signature == b.signature {
		return err
	}
	// Most of what gets through are changes to the tables without transactions.
	err = b.do(ctx, "DELETE FROM here.isam; INSERT INTO here.isam VALUES (1, 10), (2, 20); DELETE FROM "+
		"here.mem; INSERT INTO here.mem VALUES (1, 10), (2, 20)")
	if err == nil {
		if signature, err = b.sign(ctx); err == nil && signature == b.signature {
			return nil
		}
	}
	return b.rebuild(ctx)
}

func (b *binlog) restoreSettings(ctx context.Context) error {
	now, err := b.globalSettings(ctx)
	if err != nil {
		return err
	}
	if b.reset != "" && !maps.Equal(now, b.globals) {
		if _, err := b.admin.ExecContext(ctx, b.reset); err != nil {
			return err
		}
	}
	for name, value := range b.globals {
		if now[name] == value {
			continue
		}
		if _, err := b.admin.ExecContext(ctx, "SET GLOBAL "+name+" = '"+value+"'"); err == nil {
			continue
		}
		if _, err := b.admin.ExecContext(ctx, "SET GLOBAL "+name+" = "+value); err != nil {
			return fmt.Errorf("setting %s back from %q to %q: %w", name, now[name], value, err)
		}
	}
	if now, err = b.globalSettings(ctx); err != nil {
		return err
	}
	if !maps.Equal(now, b.globals) {
		return errors.New("the global settings could not be put back")
	}
	return nil
}

// forget rolls back XA transactions that were prepared. Each is its connection's until the server has noticed
// that the connection is closed, and an unknown one for everybody else.
func (b *binlog) forget(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	for {
		rows, err := b.table(ctx, b.prepared)
		if err != nil || len(rows) == 0 {
			return err
		}
		for _, row := range rows {
			id := b.xid(row)
			if _, err := b.admin.ExecContext(ctx, "XA ROLLBACK "+id); err != nil && errorNumber(err) != 1397 {
				return fmt.Errorf("XA ROLLBACK %s: %w", id, err)
			}
		}
	}
}

func (b *binlog) globalSettings(ctx context.Context) (map[string]string, error) {
	rows, err := b.table(ctx, b.variables)
	settings := make(map[string]string, len(rows))
	for _, row := range rows {
		settings[row[0]] = row[1]
	}
	return settings, err
}

// table returns the answer to q, with NULL as nothing.
func (b *binlog) table(ctx context.Context, q string) ([][]string, error) {
	rows, err := b.admin.QueryContext(ctx, q)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	names, err := rows.Columns()
	if err != nil {
		return nil, err
	}
	var table [][]string
	for rows.Next() {
		values := make([]sql.NullString, len(names))
		into := make([]any, len(names))
		for i := range values {
			into[i] = &values[i]
		}
		if err := rows.Scan(into...); err != nil {
			return nil, err
		}
		row := make([]string, len(names))
		for i, v := range values {
			row[i] = v.String
		}
		table = append(table, row)
	}
	return table, rows.Err()
}

// column returns the first column of the answer to q.
func (b *binlog) column(ctx context.Context, q string) ([]string, error) {
	rows, err := b.table(ctx, q)
	column := make([]string, len(rows))
	for i, row := range rows {
		column[i] = row[0]
	}
	return column, err
}

// do runs q on a connection of its own.
func (b *binlog) do(ctx context.Context, q string) error {
	_, err := b.sets(ctx, q)
	return err
}

// sets is the answer to q, which only has to be told from another.
func (b *binlog) sets(ctx context.Context, q string) (string, error) {
	conn, err := b.pool.Conn(ctx)
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

// binlogRefusal says whether a server refused because it is read-only.
func binlogRefusal(err error) bool {
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

// binlogHopeless says whether a statement that failed with err fails whatever the state of the connection.
func binlogHopeless(err error) bool {
	switch errorNumber(err) {
	case 1305:
		return !strings.Contains(err.Error(), "SAVEPOINT")
	case 1064, 1054, 1146, 1149, 1630, 1582, 1583, 1221, 1111, 1222, 1235, 1248, 1066, 1052, 1049, 1327, 1318,
		1193:
		return true
	}
	return false
}

// look runs q on the connection that is kept for looking.
func (b *binlog) look(ctx context.Context, q string) answer {
	if b.watch == nil {
		conn, err := b.pool.Conn(ctx)
		if err != nil {
			return answer{err: err}
		}
		b.watch = conn
	}
	a := run(ctx, b.watch, q)
	if a.err != nil {
		_ = b.watch.Close()
		b.watch = nil
	}
	return a
}

func (b *binlog) version(t *testing.T) string {
	t.Helper()
	version, err := b.column(t.Context(), "SELECT SUBSTRING_INDEX(VERSION(), '-', 1)")
	if err != nil {
		t.Fatal(err)
	}
	return version[0]
}
