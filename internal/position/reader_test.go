package position

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"strings"
	"testing"

	"github.com/DATA-DOG/go-sqlmock"
)

// mock returns a connection to a server that expects exactly what it is told to, in that order.
func mock(t *testing.T) (*sql.Conn, sqlmock.Sqlmock) {
	t.Helper()
	db, m, err := sqlmock.New(sqlmock.QueryMatcherOption(sqlmock.QueryMatcherEqual),
		sqlmock.MonitorPingsOption(true))
	if err != nil {
		t.Fatal(err)
	}
	conn, err := db.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.ExpectationsWereMet(); err != nil {
			t.Error(err)
		}
		m.ExpectClose()
		_ = conn.Close()
		_ = db.Close()
	})
	return conn, m
}

// row is what one query answers.
func row(values ...driver.Value) *sqlmock.Rows {
	columns := make([]string, len(values))
	for i := range columns {
		columns[i] = "c"
	}
	return sqlmock.NewRows(columns).AddRow(values...)
}

// variables is what SHOW answers: version, version_comment and aurora_version, as far as they are given.
func variables(values ...driver.Value) *sqlmock.Rows {
	rows := sqlmock.NewRows([]string{"Variable_name", "Value"})
	for i, value := range values {
		rows.AddRow([]string{"version", "version_comment", "aurora_version"}[i], value)
	}
	return rows
}

// text is a value as go-sql-driver/mysql hands it over.
func text(s string) []byte { return []byte(s) }

// TestReader asks one server once.
func TestReader(t *testing.T) {
	const (
		mysql80   = "8.0.36-28"
		mariadb11 = "11.4.2-MariaDB-ubu2404-log"

		writableMaster = "an address of the master that leads to a server that takes writes"
	)
	set, list := uuidA+":1-5", "0-1-5"
	type answer = []driver.Value
	whichPG15 := answer{"15.4 (Debian 15.4-1)", "150004", "7711070308038412141", int64(16 << 20), "8192", false}
	tests := []struct {
		name    string
		cfg     Config
		slave   bool
		which   string // the query that finds out what server it is, if there is one
		version answer // what it answers
		query   string // what is asked then
		answer  answer // nil: it is not asked, but pinged
		want    string // the position, or the reason why there is none
		server  string
		remedy  string // if it is not known, and does not come by itself

		readOnly, wrongRole bool
	}{
		{name: "MySQL, master", cfg: Config{Dialect: "mysql"}, which: whichMySQL,
			version: answer{text(mysql80), text("Percona Server (GPL)")},
			query:   mySQLAny, answer: answer{text(set), text("ON"), int64(1), int64(0)}, want: set,
			server: "MySQL 8.0.36-28"},
		{name: "MySQL, a master that is read-only", cfg: Config{Dialect: "mysql"},
			which: whichMySQL, version: answer{text(mysql80), text("")},
			query: mySQLAny, answer: answer{text(set), text("ON"), int64(1), int64(1)}, want: "read_only is on",
			server: "MySQL 8.0.36-28", remedy: writableMaster, readOnly: true, wrongRole: true},
		{name: "MySQL, slave", cfg: Config{Dialect: "mysql"}, slave: true, which: whichMySQL,
			version: answer{text("9.1.0"), text("MySQL Community Server - GPL")},
			query:   mySQLAny, answer: answer{text(set + ":tag:1"), text("ON"), text("0"), text("1")},
			want: set + ":tag:1", server: "MySQL 9.1.0", readOnly: true},
		{name: "MySQL 5.7, line ends", cfg: Config{Dialect: "mysql"}, which: whichMySQL,
			version: answer{text("5.7.44-log"), text("")},
			query:   mySQLAny, answer: answer{text(set + ",\n" + uuidB + ":1"), text("ON"), text("1"), text("0")},
			want: set + "," + uuidB + ":1", server: "MySQL 5.7.44-log"},
		{name: "MySQL, GTIDs off", cfg: Config{Dialect: "mysql"}, which: whichMySQL,
			version: answer{text(mysql80), text("")},
			query:   mySQLAny, answer: answer{text(set), text("OFF"), int64(1), int64(1)},
			want: "gtid_mode is OFF", server: "MySQL 8.0.36-28", remedy: gtidModeRemedy, readOnly: true},
		{name: "MySQL, GTIDs halfway", cfg: Config{Dialect: "mysql"}, slave: true, which: whichMySQL,
			version: answer{text(mysql80), text("")},
			query:   mySQLAny, answer: answer{text(set), text("ON_PERMISSIVE"), int64(1), int64(0)},
			want: "gtid_mode is ON_PERMISSIVE", server: "MySQL 8.0.36-28",
			remedy: gtidModeRemedy},
		{name: "MySQL, GTIDs begin", cfg: Config{Dialect: "mysql"},
			which: whichMySQL, version: answer{text(mysql80), text("")},
			query: mySQLAny, answer: answer{text(set), text("OFF_PERMISSIVE"), int64(1), int64(0)},
			want: "gtid_mode is OFF_PERMISSIVE", server: "MySQL 8.0.36-28", remedy: gtidModeRemedy},
		{name: "MySQL, master without a binary log", cfg: Config{Dialect: "mysql"}, which: whichMySQL,
			version: answer{text(mysql80), text("")},
			query:   mySQLAny, answer: answer{text(set), text("ON"), int64(0), int64(0)},
			want: "log_bin is OFF", server: "MySQL 8.0.36-28", remedy: logBinRemedy},
		{name: "MySQL, slave without a binary log", cfg: Config{Dialect: "mysql"}, slave: true, which: whichMySQL,
			version: answer{text(mysql80), text("")},
			query:   mySQLAny, answer: answer{text(set), text("ON"), int64(0), int64(0)}, want: set,
			server: "MySQL 8.0.36-28"},
		{name: "MySQL, nothing yet", cfg: Config{Dialect: "mysql"}, which: whichMySQL,
			version: answer{text(mysql80), text("")},
			query:   mySQLAny, answer: answer{text(""), text("ON"), int64(1), int64(0)},
			want: "nothing with a GTID has happened yet", server: "MySQL 8.0.36-28"},
		{name: "MySQL, NULLs", cfg: Config{Dialect: "mysql"}, which: whichMySQL,
			version: answer{text(mysql80), nil},
			query:   mySQLAny, answer: answer{nil, nil, nil, nil},
			want: "gtid_mode is ", server: "MySQL 8.0.36-28", remedy: gtidModeRemedy},
		{name: "MySQL, garbage", cfg: Config{Dialect: "mysql"}, which: whichMySQL,
			version: answer{text(mysql80), text("")},
			query:   mySQLAny, answer: answer{text("0-1-5"), text("ON"), int64(1), int64(0)},
			want: "expected a UUID", server: "MySQL 8.0.36-28", remedy: takesSource},
		{name: "MySQL 5.6", cfg: Config{Dialect: "mysql"}, which: whichMySQL,
			version: answer{text("5.6.51-log"), text("")},
			want:    "publishes GTIDs before others see the transaction", server: "MySQL 5.6.51-log",
			remedy: oldMySQLRemedy},
		{name: "MySQL 5.6, slave", cfg: Config{Dialect: "mysql"}, slave: true, which: whichMySQL,
			version: answer{text("5.6.51-log"), text("MySQL Community Server (GPL)")},
			want:    "publishes GTIDs before others see the transaction", server: "MySQL 5.6.51-log",
			remedy: oldMySQLRemedy},
		{name: "MySQL 5.5", cfg: Config{Dialect: "mysql"},
			which: whichMySQL, version: answer{text("5.5.62"), text("")},
			want: "has no GTIDs", server: "MySQL 5.5.62", remedy: oldMySQLRemedy},
		{name: "MySQL, no version", cfg: Config{Dialect: "mysql"}, which: whichMySQL, version: answer{nil, nil},
			want: "has no GTIDs", server: "MySQL ", remedy: oldMySQLRemedy},
		{name: "TiDB", cfg: Config{Dialect: "mysql"}, which: whichMySQL,
			version: answer{text("8.0.11-TiDB-v7.5.0"), text("TiDB Server (Apache License 2.0)")},
			want:    "TiDB has no GTIDs", server: "TiDB 8.0.11-TiDB-v7.5.0", remedy: takesSource},

		{name: "Aurora MySQL", cfg: Config{Dialect: "mysql"}, which: whichMySQL,
			version: answer{text("8.0.32"), text("Source distribution"), text("3.05.2")},
			want:    "replicates without GTIDs", server: "Aurora MySQL 3.05.2", remedy: takesSource},
		{name: "MySQL, no variables at all", cfg: Config{Dialect: "mysql"}, which: whichMySQL,
			want: "has no GTIDs", server: "MySQL ", remedy: oldMySQLRemedy},

		{name: "MariaDB, master", cfg: Config{Dialect: "mysql"}, which: whichMySQL,
			version: answer{text(mariadb11), text("mariadb.org binary distribution")},
			query:   mariaDBMaster, answer: answer{text(list), text("ON"), int64(1), int64(0)}, want: list,
			server: "MariaDB 11.4.2-MariaDB-ubu2404-log"},
		{name: "MariaDB, a master that is read-only", cfg: Config{Dialect: "mysql"},
			which: whichMySQL, version: answer{text("12.1.1-MariaDB"), text("")},
			query: mariaDBMaster, answer: answer{text(list), text("ON"), int64(1), text("NO_LOCK")},
			want: "read_only is on", server: "MariaDB 12.1.1-MariaDB", remedy: writableMaster,
			readOnly: true, wrongRole: true},
		{name: "MariaDB, slave", cfg: Config{Dialect: "mysql"}, slave: true, which: whichMySQL,
			version: answer{text(mariadb11), text("")},
			query:   mariaDBSlave, answer: answer{text(list), text("ON"), int64(1), int64(1)}, want: list,
			server: "MariaDB 11.4.2-MariaDB-ubu2404-log", readOnly: true},
		{name: "MariaDB 12.1, read_only is a word", cfg: Config{Dialect: "mysql"}, slave: true, which: whichMySQL,
			version: answer{text("12.1.1-MariaDB"), text("")},
			query:   mariaDBSlave, answer: answer{text(list), text("ON"), int64(1), text("NO_LOCK_NO_ADMIN")},
			want: list, server: "MariaDB 12.1.1-MariaDB", readOnly: true},
		{name: "MariaDB 12.1, read_only is OFF", cfg: Config{Dialect: "mysql"}, slave: true, which: whichMySQL,
			version: answer{text("12.1.1-MariaDB"), text("")},
			query:   mariaDBSlave, answer: answer{text(list), text("ON"), int64(1), text("OFF")}, want: list,
			server: "MariaDB 12.1.1-MariaDB"},
		{name: "MariaDB by its comment", cfg: Config{Dialect: "mysql"}, slave: true, which: whichMySQL,
			version: answer{text("10.6.1"), text("MariaDB Server")},
			query:   mariaDBSlave, answer: answer{text(list), text("ON"), int64(1), int64(0)}, want: list,
			server: "MariaDB 10.6.1"},
		{name: "MariaDB, master without a binary log", cfg: Config{Dialect: "mysql"}, which: whichMySQL,
			version: answer{text(mariadb11), text("")},
			query:   mariaDBMaster, answer: answer{text(""), text("ON"), int64(0), int64(0)},
			want:   "log_bin is OFF",
			server: "MariaDB 11.4.2-MariaDB-ubu2404-log", remedy: mariaDBLogBinRemedy},
		{name: "MariaDB, slave without a binary log", cfg: Config{Dialect: "mysql"}, slave: true, which: whichMySQL,
			version: answer{text(mariadb11), text("")},
			query:   mariaDBSlave, answer: answer{text(list), text("ON"), int64(0), int64(0)}, want: list,
			server: "MariaDB 11.4.2-MariaDB-ubu2404-log"},
		{name: "MariaDB, a slave that has replayed nothing", cfg: Config{Dialect: "mysql"}, slave: true,
			which: whichMySQL, version: answer{text(mariadb11), text("")},
			query: mariaDBSlave, answer: answer{text(""), text("ON"), int64(1), int64(0)},
			want: "nothing with a GTID has happened yet", server: "MariaDB 11.4.2-MariaDB-ubu2404-log"},
		{name: "MariaDB 5.5", cfg: Config{Dialect: "mysql"}, which: whichMySQL,
			version: answer{text("5.5.68-MariaDB"), text("")},
			want:    "has no GTIDs", server: "MariaDB 5.5.68-MariaDB", remedy: oldMariaDBRemedy},

		{name: "PostgreSQL, master", cfg: Config{Dialect: "postgres"}, which: whichPostgreSQL, version: whichPG15,
			query: postgreSQLMaster, answer: answer{false, "16/B374D848", "00000002", "off", nil},
			want: "7711070308038412141:2:16/B374D848", server: "PostgreSQL 15.4 (Debian 15.4-1)"},
		{name: "PostgreSQL, master behind the header of a page", cfg: Config{Dialect: "postgres"},
			which: whichPostgreSQL, version: whichPG15,
			query: postgreSQLMaster, answer: answer{"f", "0/4000028", "0000000A", "off", nil},
			want: "7711070308038412141:10:0/4000000", server: "PostgreSQL 15.4 (Debian 15.4-1)"},
		{name: "PostgreSQL, a master that is read-only", cfg: Config{Dialect: "postgres"},
			which: whichPostgreSQL, version: whichPG15,
			query: postgreSQLMaster, answer: answer{"f", "0/4000028", "0000000A", "on", nil},
			want: "transaction_read_only is on", server: "PostgreSQL 15.4 (Debian 15.4-1)",
			remedy: writableMaster, readOnly: true, wrongRole: true},
		{name: "PostgreSQL, slave", cfg: Config{Dialect: "postgres"}, slave: true, which: whichPostgreSQL,
			version: whichPG15,
			query:   postgreSQLSlave, answer: answer{true, "16/B374D848", "1f", "on", nil},
			want: "7711070308038412141:31:16/B374D848", server: "PostgreSQL 15.4 (Debian 15.4-1)", readOnly: true},
		{name: "PostgreSQL, a master that is a standby", cfg: Config{Dialect: "postgres"}, which: whichPostgreSQL,
			version: whichPG15,
			query:   postgreSQLMaster, answer: answer{true, nil, nil, "on", nil},
			want: "in recovery: a standby, not a master", server: "PostgreSQL 15.4 (Debian 15.4-1)",
			remedy: "an address of the master that leads to the primary", readOnly: true, wrongRole: true},
		{name: "PostgreSQL, a slave that was promoted", cfg: Config{Dialect: "postgres"}, slave: true,
			which: whichPostgreSQL, version: whichPG15,
			// It remembers what it replayed last.
			query: postgreSQLSlave, answer: answer{false, "16/B374D848", "2", "off", nil},
			want: "not in recovery: promoted, or never a standby", server: "PostgreSQL 15.4 (Debian 15.4-1)",
			remedy: "slaves that are standbys", wrongRole: true},
		{name: "PostgreSQL, nothing replayed", cfg: Config{Dialect: "postgres"}, slave: true,
			which: whichPostgreSQL, version: whichPG15,
			query: postgreSQLSlave, answer: answer{true, nil, "1", "on", nil},
			want: "nothing has been replayed yet", server: "PostgreSQL 15.4 (Debian 15.4-1)", readOnly: true},
		{name: "PostgreSQL, no timeline", cfg: Config{Dialect: "postgres"}, slave: true, which: whichPostgreSQL,
			version: whichPG15,
			query:   postgreSQLSlave, answer: answer{true, "16/B374D848", nil, "on", nil},
			want: "nothing has been replayed yet", server: "PostgreSQL 15.4 (Debian 15.4-1)", readOnly: true},
		{name: "PostgreSQL, LSN 0", cfg: Config{Dialect: "postgres"}, slave: true, which: whichPostgreSQL,
			version: whichPG15,
			query:   postgreSQLSlave, answer: answer{true, "0/0", "1", "on", nil},
			want: "nothing has been replayed yet", server: "PostgreSQL 15.4 (Debian 15.4-1)", readOnly: true},
		{name: "PostgreSQL, a timeline that is none", cfg: Config{Dialect: "postgres"}, slave: true,
			which: whichPostgreSQL, version: whichPG15,
			query: postgreSQLSlave, answer: answer{true, "16/B374D848", "x", "on", nil},
			want: "the timeline", server: "PostgreSQL 15.4 (Debian 15.4-1)",
			remedy: takesSource, readOnly: true},
		{name: "PostgreSQL, garbage", cfg: Config{Dialect: "postgres"}, slave: true, which: whichPostgreSQL,
			version: whichPG15,
			query:   postgreSQLSlave, answer: answer{true, "16-B374D848", "1", "on", nil},
			want: "expected '/'", server: "PostgreSQL 15.4 (Debian 15.4-1)",
			remedy: takesSource, readOnly: true},
		{name: "PostgreSQL, a system identifier beyond 2038", cfg: Config{Dialect: "postgres"}, slave: true,
			which:   whichPostgreSQL,
			version: answer{"19.0", "190000", "-7", int64(16 << 20), "8192", false},
			query:   postgreSQLSlave, answer: answer{true, "0/00000001", "1", "on", nil},
			want: "18446744073709551609:1:0/1", server: "PostgreSQL 19.0", readOnly: true},
		{name: "PostgreSQL 9.6", cfg: Config{Dialect: "postgres"}, which: whichPostgreSQL,
			version: answer{"9.6.24", "90624", "7", int64(16 << 20), "8192", false},
			want:    "cannot be asked for a position", server: "PostgreSQL 9.6.24",
			remedy: "PostgreSQL 10 or later"},
		{name: "PostgreSQL, no system identifier", cfg: Config{Dialect: "postgres"}, which: whichPostgreSQL,
			version: answer{"15.4", "150004", nil, int64(16 << 20), "8192", false},
			want:    "the system identifier", server: "",
			remedy: "an account that may ask this, or " + takesSource},
		{name: "Aurora PostgreSQL", cfg: Config{Dialect: "postgres"}, slave: true, which: whichPostgreSQL,
			version: answer{"15.4", "150004", "7", int64(16 << 20), "8192", true},
			want:    "replicates in its own way", server: "Aurora PostgreSQL 15.4", remedy: takesSource},

		{name: "another dialect", cfg: Config{Dialect: "sqlite"},
			want: `no positions are known of the dialect "sqlite"`, server: "sqlite", remedy: takesSource},
		{name: "no dialect",
			want: `no positions are known of the dialect ""`, server: "", remedy: takesSource},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			conn, m := mock(t)
			switch {
			case tt.which == whichMySQL:
				m.ExpectQuery(whichMySQL).WillReturnRows(variables(tt.version...))
			case tt.which != "":
				m.ExpectQuery(tt.which).WillReturnRows(row(tt.version...))
			}
			switch {
			case tt.answer == nil:
				m.ExpectPing()
			case tt.which == whichMySQL: // it does not have what tells who it is: see TestReaderSelf
				m.ExpectQuery(tt.query + noSelf).WillReturnRows(row(append(tt.answer, nil, nil, nil, nil, nil)...))
			default:
				m.ExpectQuery(tt.query).WillReturnRows(row(tt.answer...))
			}
			r := NewReader(conn, tt.cfg)
			if got := r.Server(); got != "" {
				t.Errorf("the server is %q before it was asked", got)
			}
			ask := r.Master
			if tt.slave {
				ask = r.Slave
			}
			got, err := ask(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if got.Err != nil {
				got.Reason = got.Err.Error()
			}
			if got.Position.Known() == (got.Reason != "") {
				t.Errorf("the position is %v, the reason %q", got.Position, got.Reason)
			}
			if got.Position.Known() && got.Position.String() != tt.want ||
				!got.Position.Known() && !strings.Contains(got.Reason, tt.want) {
				t.Errorf("the position is %v, the reason %q, want %q", got.Position, got.Reason, tt.want)
			}
			if got.Remedy != tt.remedy {
				t.Errorf("the remedy is %q, want %q", got.Remedy, tt.remedy)
			}
			if got.ReadOnly != tt.readOnly || got.WrongRole != tt.wrongRole {
				t.Errorf("read-only %t, in the wrong role %t", got.ReadOnly, got.WrongRole)
			}
			if got.Identity != "" || got.Own.Known() {
				t.Errorf("it is %q and has itself written %v", got.Identity, got.Own)
			}
			if r.Server() != tt.server {
				t.Errorf("the server is %q, want %q", r.Server(), tt.server)
			}
		})
	}
}

// What the server is, it is asked once; what may change, each time.
func TestReaderAsksAgain(t *testing.T) {
	conn, m := mock(t)
	r := NewReader(conn, Config{Dialect: "mysql"})
	m.ExpectQuery(whichMySQL).WillReturnRows(variables("8.0.36", ""))
	steps := []struct{ set, mode, want string }{
		{"", "ON", "unknown"},
		{uuidA + ":1-5", "ON", uuidA + ":1-5"},
		{uuidA + ":1-5", "ON", uuidA + ":1-5"},
		{uuidA + ":1-5", "OFF", "unknown"}, // it stands still from now on
		{uuidA + ":1-5", "ON", uuidA + ":1-5"},
		{uuidA + ":1-3", "ON", uuidA + ":1-3"}, // it has crashed
		{"?", "ON", "unknown"},
		{uuidA + ":1-3", "ON", uuidA + ":1-3"},
	}
	for i, step := range steps {
		m.ExpectQuery(mySQLAny + noSelf).WillReturnRows(row(step.set, step.mode, "1", "0", nil, nil, nil, nil, nil))
		got, err := r.Slave(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if got.Position.String() != step.want {
			t.Errorf("step %d: %v, want %v", i, got.Position, step.want)
		}
	}
}

// A standby's timeline goes forward only: what shows the newest one comes and goes with the connection to the
// master.
func TestReaderKeepsTimeline(t *testing.T) {
	conn, m := mock(t)
	r := NewReader(conn, Config{Dialect: "postgres"})
	m.ExpectQuery(whichPostgreSQL).WillReturnRows(row("15.4", "150004", "7", int64(16<<20), "8192", false))
	for _, step := range []struct{ lsn, timeline, want string }{
		{"0/5", "1", "7:1:0/5"},
		{"0/6", "2", "7:2:0/6"},
		{"0/7", "1", "7:2:0/7"},
		{"0/4", "3", "7:3:0/4"},
	} {
		m.ExpectQuery(postgreSQLSlave).WillReturnRows(row(true, step.lsn, step.timeline, "on", nil))
		got, err := r.Slave(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if got.Position.String() != step.want {
			t.Errorf("got %v, want %v", got.Position, step.want)
		}
	}
}

// A master's log is flushed into the middle of a record while a transaction writes: what was flushed before
// covers all that is committed, as long as the snapshot says that nothing has been since.
func TestReaderSettles(t *testing.T) {
	conn, m := mock(t)
	r := NewReader(conn, Config{Dialect: "postgres"})
	m.ExpectQuery(whichPostgreSQL).WillReturnRows(row("15.4", "150004", "7", int64(16<<20), "8192", false))
	for _, step := range []struct{ name, lsn, timeline, snapshot, want string }{
		{"the first", "0/E1FF00", "1", "10:10:", "7:1:0/E1FF00"},
		{"a page's end, nothing committed", "0/E20000", "1", "10:10:", "7:1:0/E1FF00"},
		{"the next page's end", "0/E22000", "1", "10:10:", "7:1:0/E1FF00"},
		{"flushed beyond it", "0/E22100", "1", "10:10:", "7:1:0/E22100"},
		{"a page's end again", "0/E24000", "1", "10:10:", "7:1:0/E22100"},
		{"something was committed", "0/E24000", "1", "10:12:10", "7:1:0/E24000"},
		{"another timeline", "0/E26000", "2", "10:12:10", "7:2:0/E26000"},
	} {
		m.ExpectQuery(postgreSQLMaster).WillReturnRows(row(false, step.lsn, step.timeline, "off", step.snapshot))
		got, err := r.Master(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if got.Position.String() != step.want {
			t.Errorf("%s: got %v, want %v", step.name, got.Position, step.want)
		}
	}
}

func TestReaderErrors(t *testing.T) {
	denied := errors.New("permission denied for function pg_control_system")
	broken := errors.New("connection reset by peer")
	tests := []struct {
		name    string
		which   error // instead of an answer to which server it is
		query   error
		ping    error
		refused bool // it is a reading, with a reason
		refuses bool // whoever asks anything: then a ping proves nothing
	}{
		{name: "the server refuses to say what it is", which: denied, refused: true},
		{name: "the server refuses to say where it is", query: denied, refused: true},
		{name: "the server refuses all", which: broken, refuses: true},
		{name: "the connection breaks at once", which: broken, ping: broken},
		{name: "the connection breaks later", query: broken, ping: broken},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			conn, m := mock(t)
			expect := func(query string, err error, answer ...driver.Value) {
				if q := m.ExpectQuery(query); err != nil {
					q.WillReturnError(err)
				} else {
					q.WillReturnRows(row(answer...))
				}
			}
			expect(whichPostgreSQL, tt.which, "15.4", "150004", "7", int64(16<<20), "8192", false)
			if tt.which == nil {
				expect(postgreSQLSlave, tt.query)
			}
			m.ExpectPing().WillReturnError(tt.ping)
			refuses := func(err error) bool { return tt.refuses && errors.Is(err, broken) }
			r := NewReader(conn, Config{Dialect: "postgres", Refuses: refuses})
			got, err := r.Slave(t.Context())
			if tt.refuses { // it would get through
				if err := conn.PingContext(t.Context()); err != nil {
					t.Errorf("the control: %v", err)
				}
			}
			if got.Position.Known() || got.ReadOnly || got.WrongRole {
				t.Errorf("the reading is %+v", got)
			}
			if tt.refused {
				if err != nil || !errors.Is(got.Err, denied) || got.Remedy != r.failureRemedy() || got.Reason != "" {
					t.Fatalf("the reading is %+v, the error %v", got, err)
				}
				// It may be in a better mood next time.
				if tt.which != nil {
					expect(whichPostgreSQL, nil, "15.4", "150004", "7", int64(16<<20), "8192", false)
				}
				expect(postgreSQLSlave, nil, true, "0/5", "1", "on", nil)
				if got, err := r.Slave(t.Context()); err != nil || !got.Position.Known() {
					t.Errorf("the second time: %+v, %v", got, err)
				}
			} else if !errors.Is(err, broken) || !strings.HasPrefix(err.Error(), "position: ") || got.Reason != "" {
				t.Errorf("the error is %v, the reason %q", err, got.Reason)
			}
		})
	}
}

// That the caller has no time left says nothing of the server.
func TestReaderContextEnds(t *testing.T) {
	for _, tt := range []struct {
		cfg   Config
		query string
	}{
		{Config{Dialect: "mysql"}, whichMySQL}, {Config{Dialect: "postgres"}, whichPostgreSQL},
		{Config{Source: counter{}}, ""},
	} {
		conn, m := mock(t)
		if tt.query != "" {
			m.ExpectQuery(tt.query).WillReturnError(errors.New("canceling statement due to user request"))
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if got, err := NewReader(conn, tt.cfg).Master(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("%+v: %+v, %v", tt.cfg, got, err)
		}
	}
}

func TestReaderConnIsClosed(t *testing.T) {
	conn, _ := mock(t)
	if err := conn.Close(); err != nil {
		t.Fatal(err)
	}
	for _, dialect := range []string{"mysql", "postgres", "sqlite"} {
		got, err := NewReader(conn, Config{Dialect: dialect}).Master(t.Context())
		if !errors.Is(err, sql.ErrConnDone) {
			t.Errorf("%s: %+v, %v", dialect, got, err)
		}
	}
}

// counter is a Source that asks nobody.
type counter struct {
	master, slave uint64
	err           error
}

func (c counter) MasterPosition(ctx context.Context, _ *sql.Conn) (Position, error) {
	return Sequence("counter", c.master), errors.Join(c.err, ctx.Err())
}

func (c counter) SlavePosition(ctx context.Context, _ *sql.Conn) (Position, error) {
	return Sequence("counter", c.slave), errors.Join(c.err, ctx.Err())
}

func TestSource(t *testing.T) {
	conn, m := mock(t)
	r := NewReader(conn, Config{Dialect: "mysql", Source: counter{master: 7, slave: 5}})
	master, err := r.Master(t.Context())
	if err != nil || master.Position.String() != "counter:7" {
		t.Errorf("%+v, %v", master, err)
	}
	slave, err := r.Slave(t.Context())
	if err != nil || slave.Position.String() != "counter:5" {
		t.Errorf("%+v, %v", slave, err)
	}
	if r.Server() != "position.counter" {
		t.Errorf("the server is %q", r.Server())
	}

	none, err := NewReader(conn, Config{Source: counter{}}).Slave(t.Context())
	if err != nil || none.Position.Known() || none.Reason != "the Source has none" || none.Remedy != "" {
		t.Errorf("%+v, %v", none, err)
	}
	m.ExpectPing()
	full := errors.New("the log is full")
	failed, err := NewReader(conn, Config{Source: counter{master: 7, err: full}}).Master(t.Context())
	if err != nil || failed.Position.Known() || !errors.Is(failed.Err, full) ||
		failed.Remedy != "a Probe.Source that gets an answer from this server" {
		t.Errorf("%+v, %v", failed, err)
	}
}
