package oracle

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/gorm-replicated/replicated/integration/servers"
	"github.com/gorm-replicated/replicated/internal/sqlkind"
)

func TestMariaDB(t *testing.T) {
	t.Parallel()
	m := newMariaDB(t)
	// The oracle itself: what it says of statements of which the truth is known.
	known(t, m, mariaDBKnown)
	defer func() {
		for _, q := range m.crashes {
			t.Logf("the server crashed, or never answered: %s", q)
		}
	}()

	seed := setting(t, "ORACLE_SEED", 1)
	n := setting(t, "ORACLE_STATEMENTS", 2000)
	t.Logf("ORACLE_SEED=%d ORACLE_STATEMENTS=%d", seed, n)
	g := newGenerator(t, "mariadb.grammar", uint64(seed))
	calls := m.validCalls(t, mariaDBCalls(t, m))
	g.calls = slices.DeleteFunc(slices.Clone(calls), func(s statement) bool { return s.hidden })
	written := slices.Concat(corpus(t, "mariadb.sql"), inBytes(mariaDBBytes))
	findings := all(t, m, written, func(found []finding) []statement {
		return slices.Concat(m.words(t), calls, g.statements(n/2), g.mutated(mariaDBText, found, n-n/2))
	})
	classify := func(q string) sqlkind.Kind { return sqlkind.Classify(sqlkind.MySQL, q) }
	version := m.version(t)
	consult(t, "MariaDB "+version, findings, classify, strings.HasPrefix(version, "10.11."), limits{reads: 1500, locking: 50, stateful: 100, writes: 200},
		blind(classify, func(q string) sqlkind.Kind { return sqlkind.Classify(sqlkind.SQLite, q) }))
}

// mariaDB asks a MariaDB server. A statement meets it four times, each time on a connection of its own:
//
//  1. In a read-only transaction of an account that may do everything but write while the server is read_only, which it
//     is. What is refused is a write, or reads rows in order to lock them; a file that appears is a write, too.
//  2. In a transaction that may write, on a server that may. Its log, the counters of rows written and all global settings
//     show writes; settings, variables, locks and the transaction of the connection show whether its state has changed;
//     somebody else who locks all rows that can be locked finds out which are locked.
//  3. On a connection in another state: no transaction, another database of the same content, none of the variables, locks,
//     prepared statements, warnings and rows found before. An answer that differs is stateful.
//  4. If it differs, twice again in each of the two states: what is different each time, like UUID(), depends on no state.
type mariaDB struct {
	server *servers.Server
	pool   *sql.DB // never keeps a connection
	admin  *sql.DB
	files  string // where the server may write files

	signature string              // of the data as it should be
	globals   map[string]string   // the global settings as they should be
	baseline  map[string][]string // by mode and question: what snapshot says of a connection to which nothing was done
	watch     *sql.Conn           // kept, for position and probe
	lockable  string              // see probe
	rows      string
	crashes   []string // statements that ended the server
}

// mariaDBModes change what a text means.
var mariaDBModes = []struct{ name, sql string }{
	{"default", ""},
	{"ANSI_QUOTES", "; SET sql_mode = 'ANSI_QUOTES'"},
	{"NO_BACKSLASH_ESCAPES", "; SET sql_mode = 'NO_BACKSLASH_ESCAPES'"},
	{"ORACLE", "; SET sql_mode = 'ORACLE'"},
	{"latin1", "; SET NAMES latin1"},
	{"gbk", "; SET NAMES gbk"},
	{"sjis", "; SET NAMES sjis"},
	{"big5", "; SET NAMES big5"},
	{"all of them", "; SET NAMES latin1; SET sql_mode = 'ANSI_QUOTES,NO_BACKSLASH_ESCAPES,IGNORE_SPACE,PIPES_AS_CONCAT,HIGH_NOT_PRECEDENCE'"},
}

const (
	// What every connection has in common: nothing takes long, and clocks and dice stand still.
	mariaDBCommon = "SET max_statement_time = 2, lock_wait_timeout = 1, innodb_lock_wait_timeout = 1, " +
		"timestamp = 1700000000.123456, rand_seed1 = 5, rand_seed2 = 7"

	// A state, and another one.
	mariaDBThis = "; DO RELEASE_ALL_LOCKS(), GET_LOCK('held', 5); SET ROLE part" +
		"; SET @a = 1, @b = 'x', @c = 2.5, @v = 7; SET last_insert_id = 42" +
		"; PREPARE prepared FROM 'SELECT 1'; HANDLER tree OPEN"
	mariaDBOnce     = "; DO NEXTVAL(mine)" // what cannot be done twice with the same result
	mariaDBThisLast = "; START TRANSACTION; SAVEPOINT sp; SELECT 1/0 UNION ALL SELECT 2"
	mariaDBThatLast = "; SELECT 1; DO 0"
)

// probe counts the rows that can be locked.
func (m *mariaDB) probe(ctx context.Context) (string, error) {
	a := m.look(ctx, "SET lock_wait_timeout = 0, innodb_lock_wait_timeout = 0;"+m.lockable)
	return digest(a.sets), a.err
}

var _ judge = (*mariaDB)(nil)

// mariaDBCase is a statement in one mode, and what is found out about it.
type mariaDBCase struct {
	statement
	mode    int
	finding finding
	failed  error // in the read-only transaction
}

func (m *mariaDB) find(ctx context.Context, statements []statement) ([]finding, error) {
	cases := make([][]*mariaDBCase, len(statements))
	var all []*mariaDBCase
	for i, s := range statements {
		s.sql = strings.ReplaceAll(s.sql, "{files}", m.files)
		for _, mode := range m.modesOf(s, i) {
			c := &mariaDBCase{statement: s, mode: mode}
			cases[i] = append(cases[i], c)
			all = append(all, c)
		}
	}
	if err := m.each(ctx, "ON", all, m.findRefused); err != nil {
		return nil, err
	}
	// What slipped through while the server was read-only.
	if err := m.restore(ctx); err != nil {
		return nil, err
	}
	if err := m.each(ctx, "OFF", all, m.findEffects); err != nil {
		return nil, err
	}
	findings := make([]finding, len(statements))
	for i, cs := range cases {
		findings[i] = finding{statement: statements[i]}
		for _, c := range cs {
			worst := &findings[i]
			refused := worst.refused || c.finding.refused
			if c.finding.truth >= worst.truth {
				*worst = finding{statement: statements[i], truth: c.finding.truth, why: c.finding.why}
				if c.mode != 0 {
					worst.why += ", " + mariaDBModes[c.mode].name
				}
			}
			worst.refused = refused
		}
	}
	return findings, nil
}

// each does something with all cases while the server is read_only, or is not. There are statements that crash it, or that it
// never comes to an end with: it is started again, and they prove nothing.
func (m *mariaDB) each(ctx context.Context, readOnly string, all []*mariaDBCase, do func(context.Context, *mariaDBCase) error) error {
	set := func() error {
		_, err := m.admin.ExecContext(ctx, "SET GLOBAL read_only = "+readOnly)
		return err
	}
	if err := set(); err != nil {
		return err
	}
	for _, c := range all {
		err := do(ctx, c)
		if err == nil && c.finding.truth != invalid {
			continue
		}
		if !errors.Is(err, context.DeadlineExceeded) && m.admin.PingContext(ctx) == nil {
			if err != nil {
				return fmt.Errorf("%q: %w", c.sql, err)
			}
			continue
		}
		const most = 20
		if m.crashes = append(m.crashes, c.sql); len(m.crashes) > most {
			return fmt.Errorf("too many crashes: %q", m.crashes)
		}
		c.finding = finding{truth: invalid}
		c.failed = errCrashed
		// Dying takes it a while.
		for m.server.Kill() != nil && ctx.Err() == nil {
		}
		m.watch = nil
		if err := m.server.Start(ctx); err != nil {
			return err
		}
		if err := m.rebuild(ctx); err != nil {
			return err
		}
		if err := set(); err != nil {
			return err
		}
	}
	return nil
}

var errCrashed = errors.New("the server crashed, or never answered")

var singleQuoted = regexp.MustCompile(`'[^']*'`)

// modesOf returns the modes in which the i-th statement is run: all if it may read differently.
func (m *mariaDB) modesOf(s statement, i int) []int {
	switch {
	case !utf8.ValidString(s.sql):
		return []int{0, 2, 4, 5, 6, 7, 8}
	case strings.ContainsRune(s.sql, '\\'):
		return []int{0, 1, 2, 3, 4, 8}
	case strings.ContainsRune(singleQuoted.ReplaceAllString(s.sql, ""), '"'):
		return []int{0, 1}
	case strings.ContainsFunc(s.sql, func(r rune) bool { return r > 0x7e || r < ' ' && r != '\n' }):
		return []int{0, 4}
	}
	if s.valid || i%8 == 0 {
		return []int{0, 3}
	}
	return []int{0}
}

// findRefused runs c on the server while that is read-only.
func (m *mariaDB) findRefused(ctx context.Context, c *mariaDBCase) error {
	conn, err := m.pool.Conn(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	if a := run(ctx, conn, "USE here; "+mariaDBCommon+mariaDBModes[c.mode].sql+"; START TRANSACTION READ ONLY"); a.err != nil {
		return a.err
	}
	a := run(ctx, conn, c.sql)
	if errors.Is(a.err, context.DeadlineExceeded) {
		return a.err
	}
	c.failed = a.err
	if mariaDBRefusal(a.err) {
		c.finding = finding{truth: write, why: a.err.Error(), refused: true}
	} else if err := m.written(&c.finding); err != nil {
		return err
	}
	_ = run(ctx, conn, "ROLLBACK; DO RELEASE_ALL_LOCKS(); UNLOCK TABLES")
	return nil
}

// written finds and removes files that were written.
func (m *mariaDB) written(f *finding) error {
	entries, err := os.ReadDir(m.files)
	if err != nil {
		return err
	}
	for _, e := range entries {
		f.truth, f.why = write, "wrote a file"
		if err := os.RemoveAll(filepath.Join(m.files, e.Name())); err != nil {
			return err
		}
	}
	return nil
}

// reconsidered matches statements that may be refused although they write nothing: FOR UPDATE, LOCK TABLES, PREPARE.
var (
	reconsidered = regexp.MustCompile(`(?i)update|share|lock|prepare`)
	changes      = regexp.MustCompile(`(?i)^\s*(update|insert|replace|delete|truncate|load|create|alter|drop|grant|revoke)\b`)
)

// findEffects runs c on the server while it may write, unless it is known to.
func (m *mariaDB) findEffects(ctx context.Context, c *mariaDBCase) error {
	if c.finding.truth == write {
		// Only running them tells whether these are writes. Other statements would do nothing but damage.
		if !c.finding.refused || !reconsidered.MatchString(c.sql) || changes.MatchString(c.sql) {
			return nil
		}
	} else if mariaDBHopeless(c.failed) || c.failed == errCrashed {
		c.finding = finding{truth: invalid, why: c.failed.Error()}
		return nil
	}
	f, err := m.effects(ctx, c)
	if err != nil {
		return err
	}
	if c.finding.refused && f.truth < write {
		if f.truth != invalid { // or it fails where it is not refused
			f = finding{truth: max(f.truth, locking), why: c.failed.Error() + "; but it writes nothing"}
		}
	}
	f.refused = c.finding.refused
	c.finding = f
	return nil
}

// effects runs c on two connections in different states.
func (m *mariaDB) effects(ctx context.Context, c *mariaDBCase) (finding, error) {
	var log, rows string // before the first of the two
	written := func(f *finding) (bool, error) {
		nowLog, nowRows, err := m.position(ctx)
		if err != nil {
			return false, err
		}
		if err := m.written(f); err != nil {
			return false, err
		}
		switch {
		case nowLog != log:
			*f = finding{truth: write, why: "the binary log grew"}
		case nowRows != rows:
			*f = finding{truth: write, why: "rows were changed"}
			return true, nil // and changed back, or the log would know
		}
		if f.truth == write {
			return true, m.restore(ctx)
		}
		return false, nil
	}
	this, f, err := m.runThis(ctx, c, func() (err error) {
		log, rows, err = m.position(ctx)
		return err
	})
	if err != nil {
		return f, err
	}
	if is, err := written(&f); is || err != nil {
		return f, err
	}
	that, g, err := m.runThat(ctx, c)
	if err != nil {
		return f, err
	}
	if is, err := written(&g); is || err != nil {
		return g, err
	}
	if g.truth > f.truth {
		f = g
	}
	switch {
	case f.truth == stateful:
	case !this.equal(that) && !c.measures():
		constant, err := m.constant(ctx, c)
		if err != nil {
			return f, err
		}
		if constant {
			return finding{truth: stateful, why: "answers depend on the connection's state"}, nil
		}
	case this.err != nil && f.truth < read:
		return finding{truth: invalid, why: this.err.Error()}, nil
	}
	if f.truth == invalid {
		f = finding{truth: read, why: "nothing was found"}
	}
	return f, nil
}

// state brings a connection into the first state, perhaps again, or into the second.
func (c *mariaDBCase) state(this, again bool) string {
	mode, db := c.mode, "here"
	if c.elsewhere() {
		db = "there"
	}
	switch {
	case this && again:
		return "ROLLBACK; HANDLER tree CLOSE; USE here; " + mariaDBCommon + mariaDBThis + mariaDBModes[mode].sql + mariaDBThisLast
	case this:
		return "USE here; " + mariaDBCommon + mariaDBThis + mariaDBOnce + mariaDBModes[mode].sql + mariaDBThisLast
	}
	return "USE " + db + "; " + mariaDBCommon + mariaDBModes[mode].sql + mariaDBThatLast
}

// constant says whether, on each of two connections in different states, two answers are the same, and of the two
// connections different.
func (m *mariaDB) constant(ctx context.Context, c *mariaDBCase) (bool, error) {
	var answers [2][2]answer
	for i := range answers {
		conn, err := m.pool.Conn(ctx)
		if err != nil {
			return false, err
		}
		for j := range answers[i] {
			if a := run(ctx, conn, c.state(i == 0, j > 0)); a.err != nil {
				// It cannot be brought back into the state: it has changed.
				return true, conn.Close()
			}
			answers[i][j] = run(ctx, conn, c.sql)
		}
		_ = run(ctx, conn, "ROLLBACK; DO RELEASE_ALL_LOCKS()")
		if err := conn.Close(); err != nil && !errors.Is(err, driver.ErrBadConn) {
			return false, err
		}
	}
	return answers[0][0].equal(answers[0][1]) && answers[1][0].equal(answers[1][1]) && !answers[0][0].equal(answers[1][0]), nil
}

// What a statement can have changed on a connection. All settings take longest, so they are asked for only where there may be
// something new; a statement that was made from others can do to most of them only what those did.
const (
	mariaDBSettings = "SELECT BIT_XOR(CRC32(CONCAT_WS('=', variable_name, global_value))), BIT_XOR(CRC32(CONCAT_WS('=', variable_name, session_value))) " +
		"FROM information_schema.system_variables WHERE variable_name NOT IN (" + mariaDBIgnored + "); "
	mariaDBStatements = "SHOW SESSION STATUS WHERE variable_name IN ('Com_prepare_sql', 'Com_savepoint'); "
	mariaDBSnapshot   = "SELECT @@last_insert_id, @@insert_id, @@sql_mode, @@autocommit, @@time_zone, @@character_set_client, @@character_set_results, " +
		"@@collation_connection, @@tx_isolation, @@sql_log_bin, @@max_statement_time, @@sql_select_limit" +
		"; SELECT @@in_transaction, DATABASE(), CURRENT_ROLE()" +
		"; SELECT BIT_XOR(CRC32(CONCAT_WS('=', variable_name, variable_value))) FROM information_schema.user_variables" +
		"; SELECT lock_type, table_schema FROM information_schema.metadata_lock_info WHERE thread_id = CONNECTION_ID() AND lock_type LIKE 'User%' ORDER BY 1, 2"
)

var (
	mariaDBSets   = regexp.MustCompile(`(?i)set|password|flush|reset|install`)
	mariaDBCounts = regexp.MustCompile(`(?i)prepare|savepoint`)
)

// snapshot is the question, and what its parts are about; the first may be about global settings.
func (c *mariaDBCase) snapshot() (question string, parts []string) {
	if c.original() || mariaDBSets.MatchString(c.sql) {
		question, parts = mariaDBSettings, append(parts, allSettings)
	}
	if mariaDBCounts.MatchString(c.sql) {
		question, parts = question+mariaDBStatements, append(parts, "prepared statements and savepoints")
	}
	return question + mariaDBSnapshot, append(parts, "settings", "transaction, database or role", "user variables", "user locks")
}

const allSettings = "settings, of the connection or for all"

// position is where the binary log ends, and how many rows were ever changed, for good or not.
func (m *mariaDB) position(ctx context.Context) (log, rows string, err error) {
	a := m.look(ctx, "SHOW MASTER STATUS; SELECT COALESCE(SUM(rows_changed), 0) FROM information_schema.table_statistics")
	if a.err != nil {
		return "", "", a.err
	}
	return a.sets[0], a.sets[1], nil
}

// runThis runs c in the first state, and looks for everything. It calls before once the connection is in that state.
func (m *mariaDB) runThis(ctx context.Context, c *mariaDBCase, before func() error) (this answer, f finding, err error) {
	conn, err := m.pool.Conn(ctx)
	if err != nil {
		return this, f, err
	}
	defer conn.Close()
	if a := run(ctx, conn, c.state(true, false)); a.err != nil {
		return this, f, a.err
	}
	question, parts := c.snapshot()
	key := fmt.Sprint(c.mode, parts)
	base := m.baseline[key]
	if base == nil { // the first statement of a mode is none
		a := run(ctx, conn, question)
		if a.err != nil {
			return this, f, a.err
		}
		m.baseline[key] = a.sets
		if err := conn.Close(); err != nil { // it holds a lock
			return this, f, err
		}
		return m.runThis(ctx, c, before)
	}
	if err := before(); err != nil {
		return this, f, err
	}
	this = run(ctx, conn, c.sql)
	seen := run(ctx, conn, question)
	if errors.Is(this.err, context.DeadlineExceeded) || seen.err != nil && m.admin.PingContext(ctx) != nil {
		return this, f, errors.Join(this.err, seen.err)
	}
	locked, lockErr := m.probe(ctx)
	_ = run(ctx, conn, "ROLLBACK; DO RELEASE_ALL_LOCKS(); UNLOCK TABLES")
	different := -1
	for i := range base {
		if seen.err == nil && different < 0 && seen.sets[i] != base[i] {
			different = i
		}
	}
	switch {
	case seen.err != nil:
		f = finding{truth: stateful, why: "the connection was of no use afterwards: " + seen.err.Error()}
	case different >= 0:
		f = finding{truth: stateful, why: "the connection has changed: " + parts[different]}
		if parts[different] == allSettings {
			now, err := m.globalSettings(ctx)
			if err != nil {
				return this, f, err
			}
			if !maps.Equal(now, m.globals) {
				f = finding{truth: write, why: "global settings were changed"}
			}
		}
	case lockErr != nil:
		f = finding{truth: stateful, why: "others are kept waiting: " + lockErr.Error()}
	case locked != m.rows:
		f = finding{truth: locking, why: "rows were locked"}
	}
	return this, f, nil
}

// runThat runs c in the second state, and looks for what could not be seen in the first.
func (m *mariaDB) runThat(ctx context.Context, c *mariaDBCase) (that answer, f finding, err error) {
	conn, err := m.pool.Conn(ctx)
	if err != nil {
		return that, f, err
	}
	defer conn.Close()
	if a := run(ctx, conn, c.state(false, false)); a.err != nil {
		return that, f, a.err
	}
	that = run(ctx, conn, c.sql)
	if errors.Is(that.err, context.DeadlineExceeded) {
		return that, f, that.err
	}
	const left = "SELECT @@in_transaction, DATABASE(), COUNT(*) FROM information_schema.metadata_lock_info WHERE thread_id = CONNECTION_ID()"
	var in, locks int
	var db sql.NullString
	scanErr := conn.QueryRowContext(ctx, left).Scan(&in, &db, &locks)
	_ = run(ctx, conn, "ROLLBACK; DO RELEASE_ALL_LOCKS(); UNLOCK TABLES")
	switch {
	case scanErr != nil:
		f = finding{truth: stateful, why: "the connection was of no use afterwards: " + scanErr.Error()}
	case in != 0 || locks != 0 || !strings.Contains(c.state(false, false), "USE "+db.String+";"):
		f = finding{truth: stateful, why: "left a transaction or locks open, or another database"}
	}
	return that, f, nil
}
