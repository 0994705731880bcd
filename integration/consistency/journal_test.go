package consistency

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/gorm-replicated/replicated/integration/servers"
)

// statement is one that a server has been told to execute by the application's account, which is also the
// plugin's.
type statement struct {
	at   time.Time // by the server's clock
	text string
}

// isProbe says whether the plugin asks for a position with it. (Also in the queries of internal/position.)
func (s statement) isProbe() bool {
	for _, name := range []string{
		"gtid_binlog_pos", "gtid_slave_pos", "gtid_executed", "pg_current_wal", "pg_last_wal_replay_lsn",
	} {
		if strings.Contains(s.text, name) {
			return true
		}
	}
	return false
}

// isEntries says whether the application reads or writes with it.
func (s statement) isEntries() bool { return strings.Contains(s.text, "entries") }

// journal is what a server notes of all statements, whoever claims to have sent them. It has a statement
// before the client has the answer.
type journal struct {
	server *servers.Server
	read   func(ctx context.Context, s *servers.Server, from int) (statements []statement, end int, err error)
	from   int // in what it is kept in
}

// journals has all servers of a cluster note the statements of connections that are opened from now on, until
// the test ends.
func (e engine) journals(t *testing.T, c *servers.Cluster) []*journal {
	t.Helper()
	all := append([]*servers.Server{c.Master}, c.Slaves...)
	exec := func(s *servers.Server, statements ...string) {
		t.Helper()
		for _, q := range statements {
			if _, err := s.DB().ExecContext(context.WithoutCancel(t.Context()), q); err != nil {
				t.Errorf("%v: %s: %v", s, q, err)
			}
		}
	}
	var journals []*journal
	isPostgreSQL := e.kind == postgreSQL.kind || e.kind == pgBouncer.kind
	for _, s := range all {
		j := &journal{server: s, read: generalLog}
		if isPostgreSQL {
			j.read = serverLog
		} else {
			exec(s, "SET GLOBAL log_output = 'TABLE'", "SET GLOBAL general_log = ON")
			t.Cleanup(func() { exec(s, "SET GLOBAL general_log = OFF", "SET GLOBAL log_output = 'FILE'") })
		}
		journals = append(journals, j)
	}
	if isPostgreSQL { // this the slaves replay
		exec(c.Master, "ALTER ROLE test SET log_statement = 'all'")
		t.Cleanup(func() { exec(c.Master, "ALTER ROLE test RESET log_statement") })
		if err := c.CatchUp(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if e.kind == pgBouncer.kind {
		// Connections that are opened from now on may get one to the server that was there before.
		for _, s := range all {
			exec(s, "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE usename = 'test'")
		}
	}
	return journals
}

// begin has the journal forget what it has so far.
func (j *journal) begin(t *testing.T) {
	t.Helper()
	_, end, err := j.read(t.Context(), j.server, j.from)
	if err != nil {
		t.Fatalf("the journal of %v: %v", j.server, err)
	}
	j.from = end
}

func (j *journal) statements(t *testing.T) []statement {
	t.Helper()
	all, _, err := j.read(t.Context(), j.server, j.from)
	if err != nil {
		t.Fatalf("the journal of %v: %v", j.server, err)
	}
	return all
}

// generalLog reads the general query log of MariaDB and MySQL, from the statement with this number on. With a
// prepared statement only its execution counts.
func generalLog(ctx context.Context, s *servers.Server, from int) ([]statement, int, error) {
	rows, err := s.DB().QueryContext(ctx, "SELECT event_time, argument FROM mysql.general_log "+
		"WHERE command_type IN ('Query', 'Execute') AND user_host LIKE 'test[test]%' LIMIT 1000000 OFFSET ?", from)
	if err != nil {
		return nil, 0, err
	}
	defer rows.Close()
	var all []statement
	for rows.Next() {
		var st statement
		if err := rows.Scan(&st.at, &st.text); err != nil {
			return nil, 0, err
		}
		all = append(all, st)
	}
	return all, from + len(all), rows.Err()
}

var serverLogLine = regexp.MustCompile(
	`(?m)^(\S+ \S+) UTC \[\d+\] \S+ LOG:  (?:statement|execute [^:]*): (.*)$`)

// serverLog reads what PostgreSQL logs, which the package servers has it do to a file beside the data folder,
// from this byte on.
func serverLog(ctx context.Context, s *servers.Server, from int) ([]statement, int, error) {
	var data string
	if err := s.DB().QueryRowContext(ctx, "SHOW data_directory").Scan(&data); err != nil {
		return nil, 0, err
	}
	file, err := os.Open(filepath.Join(filepath.Dir(data), "log"))
	if err != nil {
		return nil, 0, err
	}
	defer file.Close()
	log, err := io.ReadAll(io.NewSectionReader(file, int64(from), math.MaxInt64-int64(from)))
	if err != nil {
		return nil, 0, err
	}
	log = log[:bytes.LastIndexByte(log, '\n')+1]
	var all []statement
	for _, line := range serverLogLine.FindAllStringSubmatch(string(log), -1) {
		if line[2] == "-- ping" { // from pgx, when it takes a connection that has been idle for a second
			continue
		}
		at, err := time.Parse("2006-01-02 15:04:05.000", line[1])
		if err != nil {
			return nil, 0, err
		}
		all = append(all, statement{at, line[2]})
	}
	return all, from + len(log), nil
}

// isGreeting says whether the plugin asks with it which server there is, as it does over each new connection
// of its own: if a probe was not answered within a second, there is one.
func (s statement) isGreeting() bool {
	return strings.Contains(s.text, "'server_uuid', 'server_id'") ||
		strings.Contains(s.text, "pg_control_system")
}

// sorted tells the statements of a journal apart: those of the application, probes, and the rest. A greeting
// is in none.
func sorted(all []statement) (entries, probes, others []statement) {
	for _, s := range all {
		switch {
		case s.isGreeting():
		case s.isEntries():
			entries = append(entries, s)
		case s.isProbe():
			probes = append(probes, s)
		default:
			others = append(others, s)
		}
	}
	return entries, probes, others
}

// texts prints statements for the message of a failure.
func texts(statements []statement) string {
	var b strings.Builder
	for i, s := range statements {
		if i == 20 {
			fmt.Fprintf(&b, "\n  and %d more", len(statements)-i)
			break
		}
		fmt.Fprintf(&b, "\n  %s %s", s.at.Format("05.000"), s.text)
	}
	return b.String()
}
