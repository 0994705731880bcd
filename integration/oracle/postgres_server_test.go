package oracle

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/gorm-replicated/replicated/integration/servers"
)

//go:embed testdata/postgres_schema.sql
var postgreSQLSchema string

// The purposes of connections, and the settings that each begins with.
var postgreSQLSettings = map[string]map[string]string{
	"refuse": {"default_transaction_read_only": "on", "search_path": "here,public"},
	"this":   {"search_path": "here,public"},
	"that":   {"search_path": "there,public"},
	"watch":  {"search_path": "here,public", "lock_timeout": "20ms", "statement_timeout": "0"},
}

// postgreSQLExtensions makes all extensions that are there, as far as they can be made.
const postgreSQLExtensions = `DO $$ DECLARE e text; BEGIN
	FOR e IN SELECT name FROM pg_available_extensions WHERE installed_version IS NULL ORDER BY 1 LOOP
		BEGIN EXECUTE format('CREATE EXTENSION %I SCHEMA public CASCADE', e); EXCEPTION WHEN OTHERS THEN NULL; END;
	END LOOP; END $$`

func newPostgreSQL(t *testing.T) *postgreSQL {
	t.Helper()
	// The server may be another user's.
	files := t.TempDir()
	for _, dir := range []string{files, filepath.Dir(files)} {
		if err := os.Chmod(dir, 0o777); err != nil {
			t.Fatal(err)
		}
	}
	c := servers.PostgreSQL(t, servers.Config{MasterOptions: []string{"--checkpoint_timeout=1d",
		"--max_prepared_transactions=5", "--wal_level=logical",
		"--max_wal_size=4GB", "--track_commit_timestamp=on"}})
	ctx := t.Context()
	for _, q := range []string{"CREATE ROLE oracle SUPERUSER LOGIN PASSWORD 'oracle'",
		"CREATE ROLE part SUPERUSER"} {
		if _, err := c.Master.DB().ExecContext(ctx, q); err != nil {
			t.Fatal(err)
		}
	}
	config, err := pgconn.ParseConfig(c.Master.DSN())
	if err != nil {
		t.Fatal(err)
	}
	config.User, config.Password = "oracle", "oracle"
	maps.Copy(config.RuntimeParams, map[string]string{"statement_timeout": "2s", "lock_timeout": "1s",
		"escape_string_warning": "off", "client_min_messages": "error",
		"idle_in_transaction_session_timeout": "0"})
	p := &postgreSQL{config: config, conns: map[string]*pgconn.PgConn{}, files: files,
		baseline: map[int][]string{}}
	t.Cleanup(func() {
		for _, conn := range p.conns {
			_ = conn.Close(context.Background())
		}
	})
	a := p.ask(ctx, "SELECT split_part(current_setting('server_version'), ' ', 1), "+
		"current_setting('server_version_num')::int / 10000")
	if a.err != nil {
		t.Fatal(a.err)
	}
	p.version = a.rows[0][0]
	if p.major, err = strconv.Atoi(a.rows[0][1]); err != nil {
		t.Fatal(err)
	}
	p.needMajor(t, 15)
	// Extensions bring functions with them, some of which write.
	if a := p.run(ctx, "watch", postgreSQLExtensions); a.err != nil {
		t.Fatal(a.err)
	}
	if err := p.rebuild(ctx); err != nil {
		t.Fatal(err)
	}
	return p
}

// needMajor skips the test on older servers, which is a failure under CI=true.
func (p *postgreSQL) needMajor(t *testing.T, major int) {
	t.Helper()
	const missing = "PostgreSQL %s: MERGE and pg_stat_force_next_flush are there from %d on"
	switch {
	case p.major >= major:
	case os.Getenv("CI") == "true":
		t.Fatalf(missing, p.version, major)
	default:
		t.Skipf(missing, p.version, major)
	}
}

// pgAnswer is what a text was answered with.
type pgAnswer struct {
	answer
	rows   [][]string // of all results
	status byte       // of the transaction: I, T or E
}

// run sends q to the connection for a purpose, and reads all that is answered.
func (p *postgreSQL) run(ctx context.Context, purpose, q string) (a pgAnswer) {
	ctx, cancel := context.WithTimeout(ctx, timeLimit)
	defer cancel()
	conn, err := p.connect(ctx, purpose)
	if err != nil {
		a.err = err
		return a
	}
	front := conn.Frontend()
	front.SendQuery(&pgproto3.Query{String: q})
	if a.err = front.Flush(); a.err != nil {
		return a
	}
	var lines []string
	for {
		message, err := conn.ReceiveMessage(ctx)
		if err != nil {
			a.err = err
			return a
		}
		switch m := message.(type) {
		case *pgproto3.DataRow:
			row := make([]string, len(m.Values))
			line := ""
			for i, v := range m.Values {
				row[i] = string(v)
				line += fmt.Sprintf("%t %d %s,", v == nil, len(v), v)
			}
			a.rows = append(a.rows, row)
			lines = append(lines, line)
		case *pgproto3.CopyData:
			lines = append(lines, string(m.Data))
		case *pgproto3.CommandComplete:
			slices.Sort(lines) // in any order, as no order is promised
			a.sets = append(a.sets, string(m.CommandTag)+digest(lines))
			lines = nil
		case *pgproto3.CopyInResponse:
			front.Send(&pgproto3.CopyDone{})
			if a.err = front.Flush(); a.err != nil {
				return a
			}
		case *pgproto3.ErrorResponse:
			a.err = pgconn.ErrorResponseToPgError(m)
		case *pgproto3.ReadyForQuery:
			a.status = m.TxStatus
			return a
		}
	}
}

// connect returns the connection for a purpose, a new one if there is none.
func (p *postgreSQL) connect(ctx context.Context, purpose string) (*pgconn.PgConn, error) {
	if conn := p.conns[purpose]; conn != nil && !conn.IsClosed() {
		return conn, nil
	}
	config := p.config.Copy()
	maps.Copy(config.RuntimeParams, postgreSQLSettings[purpose])
	conn, err := pgconn.ConnectConfig(ctx, config)
	if err == nil {
		p.conns[purpose] = conn
	}
	return conn, err
}

// ask is run for the connection that only looks.
func (p *postgreSQL) ask(ctx context.Context, q string) pgAnswer { return p.run(ctx, "watch", q) }

// fresh brings the connection for a purpose back to its beginnings.
func (p *postgreSQL) fresh(ctx context.Context, purpose string) error {
	// DISCARD ALL has to be on its own, outside of a transaction.
	for _, q := range []string{"ROLLBACK", "DISCARD ALL"} {
		if a := p.run(ctx, purpose, q); a.err != nil {
			p.close(purpose)
			return nil // the next one is new
		}
	}
	return nil
}

func (p *postgreSQL) close(purpose string) {
	if conn := p.conns[purpose]; conn != nil {
		_ = conn.Close(context.Background())
		delete(p.conns, purpose)
	}
}

// rebuild makes the two schemas anew.
func (p *postgreSQL) rebuild(ctx context.Context) error {
	for _, q := range []string{"DROP DATABASE IF EXISTS made", "DROP ROLE IF EXISTS made"} {
		if a := p.ask(ctx, q); a.err != nil {
			return a.err
		}
	}
	for _, schema := range []string{"here", "there"} {
		q := fmt.Sprintf("DROP SCHEMA IF EXISTS %[1]s CASCADE; CREATE SCHEMA %[1]s; SET search_path = %[1]s, "+
			"public; %[2]s; "+
			"SET search_path = here, public", schema, postgreSQLSchema)
		if a := p.ask(ctx, q); a.err != nil {
			return fmt.Errorf("making the schema %s: %w", schema, a.err)
		}
	}
	if a := p.ask(ctx,
		"SELECT lo_unlink(oid) FROM pg_largeobject_metadata; SELECT lo_from_bytea(4711, 'large')"); a.err != nil {
		return a.err
	}
	// What is frozen already will not be by a read.
	if a := p.ask(ctx, "VACUUM (FREEZE, ANALYZE)"); a.err != nil {
		return a.err
	}
	a := p.ask(ctx, "SELECT format('SELECT count(*) FROM (SELECT FROM %I.%I FOR UPDATE SKIP LOCKED) x;', "+
		"schemaname, tablename) FROM pg_tables WHERE schemaname = 'here' ORDER BY 1")
	if a.err != nil {
		return a.err
	}
	p.lockable = ""
	for _, row := range a.rows {
		p.lockable += row[0]
	}
	var err error
	if p.rows, err = p.probe(ctx); err != nil {
		return err
	}
	if p.signature, err = p.sign(ctx); err != nil {
		return err
	}
	p.last, err = p.global(ctx)
	return err
}

// sign describes all data that a statement could have changed.
func (p *postgreSQL) sign(ctx context.Context) (string, error) {
	a := p.ask(ctx, `SELECT tablename, query_to_xml(format('SELECT * FROM %I.%I ORDER BY 1', schemaname,
		tablename), true, false, '')::text FROM pg_tables WHERE schemaname IN ('here', 'there') ORDER BY 1;
		SELECT oid, relname, relfilenode FROM pg_class WHERE relnamespace IN (SELECT oid FROM pg_namespace
		WHERE nspname IN ('here', 'there', 'public')) ORDER BY 1;
		SELECT oid, proname, provolatile FROM pg_proc WHERE pronamespace <> 'pg_catalog'::regnamespace ORDER BY 1;
		SELECT oid, nspname FROM pg_namespace WHERE nspname !~ '^pg_' ORDER BY 1;
		SELECT oid, datname FROM pg_database ORDER BY 1;
		SELECT oid, rolname, rolconfig FROM pg_roles ORDER BY 1;
		SELECT loid, pageno, data FROM pg_largeobject ORDER BY 1, 2;
		SELECT * FROM pg_db_role_setting ORDER BY 1, 2; SELECT oid FROM pg_publication;
		SELECT oid FROM pg_event_trigger; SELECT roname FROM pg_replication_origin`)
	return digest(a.sets), a.err
}

// restore puts everything back as it was before something was written.
func (p *postgreSQL) restore(ctx context.Context) (err error) {
	defer func() {
		if err == nil {
			p.last, err = p.global(ctx)
		}
	}()
	a := p.ask(ctx, "SELECT format('ROLLBACK PREPARED %L', gid) FROM pg_prepared_xacts UNION ALL "+
		"SELECT format('SELECT pg_drop_replication_slot(%L)', slot_name) FROM pg_replication_slots WHERE NOT "+
		"active UNION ALL "+
		"SELECT format('SELECT pg_replication_origin_drop(%L)', roname) FROM pg_replication_origin UNION ALL "+
		"SELECT 'ALTER SYSTEM RESET ALL' WHERE EXISTS (SELECT FROM pg_file_settings WHERE sourcefile ~ 'auto')")
	if a.err != nil {
		return a.err
	}
	for _, row := range a.rows {
		if b := p.ask(ctx, row[0]); b.err != nil {
			return fmt.Errorf("%s: %w", row[0], b.err)
		}
	}
	if signature, err := p.sign(ctx); err != nil || signature == p.signature {
		return err
	}
	for _, purpose := range []string{"this", "that", "refuse"} {
		if err := p.fresh(ctx, purpose); err != nil { // it may hold locks
			return err
		}
	}
	return p.rebuild(ctx)
}

// pgCode is the server's, "" for none, "broken" for errors of another kind.
func pgCode(err error) string {
	var e *pgconn.PgError
	if errors.As(err, &e) {
		return e.Code
	}
	if err != nil {
		return "broken"
	}
	return ""
}

func (a pgAnswer) equal(b pgAnswer) bool {
	return slices.Equal(a.sets, b.sets) && pgCode(a.err) == pgCode(b.err)
}

// pgHopeless says whether a statement that failed with err fails whatever the state of the connection.
func pgHopeless(err error) bool {
	code := pgCode(err)
	if code == "42P03" || code == "42P05" {
		return false // a cursor or a prepared statement of that name is there
	}
	return strings.HasPrefix(code, "42") || strings.HasPrefix(code, "22") || code == "0A000"
}
