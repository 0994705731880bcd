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

// testBinlog compares what sqlkind says with what a server of the engine shows.
func testBinlog(t *testing.T, e *binlogEngine) {
	t.Parallel()
	b := newBinlog(t, e)
	// The oracle itself: what it says of statements of which the truth is known.
	known(t, b, binlogKnown)
	known(t, b, e.known)
	defer func() {
		for _, q := range b.crashes {
			t.Logf("the server crashed, or never answered: %s", q)
		}
	}()

	seed := setting(t, "ORACLE_SEED", 1)
	n := setting(t, "ORACLE_STATEMENTS", 2000)
	t.Logf("ORACLE_SEED=%d ORACLE_STATEMENTS=%d", seed, n)
	g := newGenerator(t, uint64(seed), "binlog.grammar", e.files+".grammar")
	calls := b.validCalls(t, b.calls(t))
	g.calls = slices.DeleteFunc(slices.Clone(calls), func(s statement) bool { return s.hidden || s.probing })
	written := slices.Concat(corpus(t, "binlog.sql"), corpus(t, e.files+".sql"), inBytes(binlogBytes))
	findings := all(t, b, written, func(found []finding) []statement {
		return slices.Concat(b.words(t), calls, g.statements(n/2), g.mutated(e.text(), found, n-n/2))
	})
	classify := func(q string) sqlkind.Kind { return sqlkind.Classify(sqlkind.MySQL, q) }
	version := b.version(t)
	expected := slices.ContainsFunc(e.versions, func(v string) bool { return strings.HasPrefix(version, v) })
	consult(t, e.name+" "+version, findings, classify, expected,
		limits{reads: 1500, locking: 50, stateful: 100, writes: 200},
		blind(classify, func(q string) sqlkind.Kind { return sqlkind.Classify(sqlkind.SQLite, q) }))
}

// binlog asks a server of MariaDB or MySQL. A statement meets it four times, each time on a connection of its
// own:
//
//  1. In a read-only transaction of an account that may do everything but write while the server is
//     read_only, which it is. What is refused is a write, or reads rows in order to lock them; a file that
//     appears is a write, too.
//  2. In a transaction that may write, on a server that may. Its log, the counters of rows written and all
//     global settings show writes; settings, variables, locks and the transaction of the connection show
//     whether its state has changed; somebody else who locks all rows that can be locked finds out which are
//     locked.
//  3. On a connection in another state: no transaction, another database of the same content, none of the
//     variables, locks, prepared statements, warnings and rows found before. An answer that differs is
//     stateful.
//  4. If it differs, twice again in each of the two states: what is different each time, like UUID(), depends
//     on no state.
type binlog struct {
	*binlogEngine
	server *servers.Server
	pool   *sql.DB // never keeps a connection
	admin  *sql.DB
	dir    string // where the server may write files

	signature string              // of the data as it should be
	globals   map[string]string   // the global settings as they should be
	baseline  map[string][]string // by mode and question: what snapshot says of an untouched connection
	watch     *sql.Conn           // kept, for position and probe
	lockable  string              // see probe
	rows      string
	crashes   []string // statements that ended the server
}

// binlogModes change what a text means on both engines.
var binlogModes = []mode{
	{"default", ""},
	{"ANSI_QUOTES", "; SET sql_mode = 'ANSI_QUOTES'"},
	{"NO_BACKSLASH_ESCAPES", "; SET sql_mode = 'NO_BACKSLASH_ESCAPES'"},
	{"latin1", "; SET NAMES latin1"},
	{"gbk", "; SET NAMES gbk"},
	{"sjis", "; SET NAMES sjis"},
	{"big5", "; SET NAMES big5"},
	{"all of them", "; SET NAMES latin1; SET sql_mode = 'ANSI_QUOTES,NO_BACKSLASH_ESCAPES,IGNORE_SPACE," +
		"PIPES_AS_CONCAT,HIGH_NOT_PRECEDENCE'"},
}

type mode struct{ name, sql string }

const (
	// What every connection has in common: nothing takes long, and clocks and dice stand still.
	binlogCommon = "SET lock_wait_timeout = 1, innodb_lock_wait_timeout = 1, timestamp = 1700000000.123456, " +
		"rand_seed1 = 5, rand_seed2 = 7, "

	// A state, and another one.
	binlogThis = "; DO RELEASE_ALL_LOCKS(), GET_LOCK('held', 5); SET ROLE part" +
		"; SET @a = 1, @b = 'x', @c = 2.5, @v = 7; SET last_insert_id = 42" +
		"; PREPARE prepared FROM 'SELECT 1'; HANDLER tree OPEN"
	binlogThisLast = "; START TRANSACTION; SAVEPOINT sp; SELECT 1/0 UNION ALL SELECT 2"
	binlogThatLast = "; SELECT 1; DO 0"
)

// probe counts the rows that can be locked.
func (b *binlog) probe(ctx context.Context) (string, error) {
	a := b.look(ctx, b.impatient+b.lockable)
	return digest(a.sets), a.err
}

var _ judge = (*binlog)(nil)

// binlogCase is a statement in one mode, and what is found out about it.
type binlogCase struct {
	statement
	engine  *binlogEngine
	mode    int // of the engine's
	finding finding
	failed  error // in the read-only transaction
}

func (b *binlog) find(ctx context.Context, statements []statement) ([]finding, error) {
	cases := make([][]*binlogCase, len(statements))
	var all []*binlogCase
	for i, s := range statements {
		s.sql = strings.ReplaceAll(s.sql, "{files}", b.dir)
		for _, mode := range b.modesOf(s, i) {
			c := &binlogCase{statement: s, engine: b.binlogEngine, mode: mode}
			cases[i] = append(cases[i], c)
			all = append(all, c)
		}
	}
	if err := b.each(ctx, "ON", all, b.findRefused); err != nil {
		return nil, err
	}
	// What slipped through while the server was read-only.
	if err := b.restore(ctx); err != nil {
		return nil, err
	}
	if err := b.each(ctx, "OFF", all, b.findEffects); err != nil {
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
					worst.why += ", " + b.modes[c.mode].name
				}
			}
			worst.refused = refused
		}
	}
	return findings, nil
}

// each does something with all cases while the server is read_only, or is not. There are statements that
// crash it, or that it never comes to an end with: it is started again, and they prove nothing.
func (b *binlog) each(
	ctx context.Context, readOnly string, all []*binlogCase, do func(context.Context, *binlogCase) error,
) error {
	set := func() error {
		_, err := b.admin.ExecContext(ctx, "SET GLOBAL read_only = "+readOnly)
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
		if !errors.Is(err, context.DeadlineExceeded) && b.admin.PingContext(ctx) == nil {
			if err != nil {
				return fmt.Errorf("%q: %w", c.sql, err)
			}
			continue
		}
		const most = 20
		if b.crashes = append(b.crashes, c.sql); len(b.crashes) > most {
			return fmt.Errorf("too many crashes: %q", b.crashes)
		}
		c.finding = finding{truth: invalid}
		c.failed = errCrashed
		// Dying takes it a while.
		for b.server.Kill() != nil && ctx.Err() == nil {
		}
		b.watch = nil
		if err := b.server.Start(ctx); err != nil {
			return err
		}
		if err := b.rebuild(ctx); err != nil {
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
func (b *binlog) modesOf(s statement, i int) []int {
	var names []string
	switch {
	case !utf8.ValidString(s.sql):
		names = []string{"NO_BACKSLASH_ESCAPES", "latin1", "gbk", "sjis", "big5", "all of them"}
	case strings.ContainsRune(s.sql, '\\'):
		names = []string{"ANSI_QUOTES", "NO_BACKSLASH_ESCAPES", "ORACLE", "latin1", "all of them"}
	case strings.ContainsRune(singleQuoted.ReplaceAllString(s.sql, ""), '"'):
		names = []string{"ANSI_QUOTES"}
	case strings.ContainsFunc(s.sql, func(r rune) bool { return r > 0x7e || r < ' ' && r != '\n' }):
		names = []string{"latin1"}
	case s.valid || i%8 == 0:
		names = []string{"ORACLE"}
	}
	modes := []int{0}
	for i, mode := range b.modes {
		if slices.Contains(names, mode.name) {
			modes = append(modes, i)
		}
	}
	return modes
}

// findRefused runs c on the server while that is read-only.
func (b *binlog) findRefused(ctx context.Context, c *binlogCase) error {
	conn, err := b.pool.Conn(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	begin := "USE here; " + b.common() + b.modes[c.mode].sql + "; START TRANSACTION READ ONLY"
	if a := run(ctx, conn, begin); a.err != nil {
		return a.err
	}
	a := run(ctx, conn, c.sql)
	if errors.Is(a.err, context.DeadlineExceeded) {
		return a.err
	}
	c.failed = a.err
	// In any case: what the first of several statements wrote must not be found after the next text.
	if err := b.written(&c.finding); err != nil {
		return err
	}
	if binlogRefusal(a.err) {
		c.finding = finding{truth: write, why: a.err.Error(), refused: true}
	}
	_ = run(ctx, conn, "ROLLBACK; DO RELEASE_ALL_LOCKS(); UNLOCK TABLES")
	return nil
}

// written finds and removes files that were written.
func (b *binlog) written(f *finding) error {
	entries, err := os.ReadDir(b.dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		f.truth, f.why = write, "wrote the file "+e.Name()
		if err := os.RemoveAll(filepath.Join(b.dir, e.Name())); err != nil {
			return err
		}
	}
	return nil
}

// reconsidered matches statements that may be refused although they write nothing: FOR UPDATE, LOCK TABLES,
// PREPARE.
var (
	reconsidered = regexp.MustCompile(`(?i)update|share|lock|prepare`)
	changes      = regexp.MustCompile(`(?i)^\s*(update|insert|replace|delete|truncate|load|create|alter|drop|grant|revoke)\b`)
)

// findEffects runs c on the server while it may write, unless it is known to.
func (b *binlog) findEffects(ctx context.Context, c *binlogCase) error {
	if c.finding.truth == write {
		// Only running them tells whether these are writes. Other statements would do nothing but damage.
		if !c.finding.refused || !reconsidered.MatchString(c.sql) || changes.MatchString(c.sql) {
			return nil
		}
	} else if binlogHopeless(c.failed) || c.failed == errCrashed {
		c.finding = finding{truth: invalid, why: c.failed.Error()}
		return nil
	}
	f, err := b.effects(ctx, c)
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
func (b *binlog) effects(ctx context.Context, c *binlogCase) (finding, error) {
	var log, rows string // before the first of the two
	written := func(f *finding) (bool, error) {
		nowLog, nowRows, err := b.position(ctx)
		if err != nil {
			return false, err
		}
		if err := b.written(f); err != nil {
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
			return true, b.restore(ctx)
		}
		return false, nil
	}
	this, f, err := b.runThis(ctx, c, func() (err error) {
		log, rows, err = b.position(ctx)
		return err
	})
	if err != nil {
		return f, err
	}
	if is, err := written(&f); is || err != nil {
		return f, err
	}
	that, g, err := b.runThat(ctx, c)
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
		constant, err := b.constant(ctx, c)
		if err := errors.Join(err, b.written(&f)); err != nil || f.truth == write {
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
func (c *binlogCase) state(this, again bool) string {
	e, db := c.engine, "here"
	if c.elsewhere() {
		db = "there"
	}
	mode := e.modes[c.mode].sql
	switch {
	case this && again:
		return "ROLLBACK; HANDLER tree CLOSE; USE here; " + e.common() + binlogThis + mode + binlogThisLast
	case this:
		return "USE here; " + e.common() + binlogThis + e.once + mode + binlogThisLast
	}
	return "USE " + db + "; " + e.common() + mode + binlogThatLast
}

// constant says whether, on each of two connections in different states, two answers are the same, and of the
// two connections different.
func (b *binlog) constant(ctx context.Context, c *binlogCase) (bool, error) {
	var answers [2][2]answer
	for i := range answers {
		conn, err := b.pool.Conn(ctx)
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
	this, that := answers[0], answers[1]
	return this[0].equal(this[1]) && that[0].equal(that[1]) && !this[0].equal(that[0]), nil
}

// All settings take longest, so they are asked for only where there may be something new; a statement that
// was made from others can do to most of them only what those did.
var (
	binlogSets   = regexp.MustCompile(`(?i)set|password|flush|reset|install`)
	binlogCounts = regexp.MustCompile(`(?i)prepare|savepoint`)
)

// snapshot is the question, and what its parts are about; the first may be about global settings.
func (c *binlogCase) snapshot() (question string, parts []string) {
	if c.original() || binlogSets.MatchString(c.sql) {
		question, parts = c.engine.settings+"; ", append(parts, allSettings)
	}
	if binlogCounts.MatchString(c.sql) {
		question += "SHOW SESSION STATUS WHERE variable_name IN ('Com_prepare_sql', 'Com_savepoint'); "
		parts = append(parts, "prepared statements and savepoints")
	}
	return question + c.engine.session, append(parts, c.engine.sessionParts...)
}

const allSettings = "settings, of the connection or for all"

// position is where the binary log ends, and how many rows were ever changed, for good or not.
func (b *binlog) position(ctx context.Context) (log, rows string, err error) {
	a := b.look(ctx, b.server.Words(b.logAndRows))
	if a.err != nil {
		return "", "", a.err
	}
	return a.sets[0], a.sets[1], nil
}

// runThis runs c in the first state, and looks for everything. It calls before once the connection is in that
// state.
func (b *binlog) runThis(
	ctx context.Context, c *binlogCase, before func() error,
) (this answer, f finding, err error) {
	conn, err := b.pool.Conn(ctx)
	if err != nil {
		return this, f, err
	}
	defer conn.Close()
	if a := run(ctx, conn, c.state(true, false)); a.err != nil {
		return this, f, a.err
	}
	question, parts := c.snapshot()
	key := fmt.Sprint(c.mode, parts)
	base := b.baseline[key]
	if base == nil { // the first statement of a mode is none
		a := run(ctx, conn, question)
		if a.err != nil {
			return this, f, a.err
		}
		b.baseline[key] = a.sets
		if err := conn.Close(); err != nil { // it holds a lock
			return this, f, err
		}
		return b.runThis(ctx, c, before)
	}
	if err := before(); err != nil {
		return this, f, err
	}
	this = run(ctx, conn, c.sql)
	seen := run(ctx, conn, question)
	if errors.Is(this.err, context.DeadlineExceeded) || seen.err != nil && b.admin.PingContext(ctx) != nil {
		return this, f, errors.Join(this.err, seen.err)
	}
	locked, lockErr := b.probe(ctx)
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
			now, err := b.globalSettings(ctx)
			if err != nil {
				return this, f, err
			}
			if !maps.Equal(now, b.globals) {
				f = finding{truth: write, why: "global settings were changed"}
			}
		}
	case lockErr != nil:
		f = finding{truth: stateful, why: "others are kept waiting: " + lockErr.Error()}
	case locked != b.rows:
		f = finding{truth: locking, why: "rows were locked"}
	}
	return this, f, nil
}

// runThat runs c in the second state, and looks for what could not be seen in the first.
func (b *binlog) runThat(ctx context.Context, c *binlogCase) (that answer, f finding, err error) {
	conn, err := b.pool.Conn(ctx)
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
	var in, locks int
	var db sql.NullString
	scanErr := conn.QueryRowContext(ctx, b.left).Scan(&in, &db, &locks)
	_ = run(ctx, conn, "ROLLBACK; DO RELEASE_ALL_LOCKS(); UNLOCK TABLES")
	switch {
	case scanErr != nil:
		f = finding{truth: stateful, why: "the connection was of no use afterwards: " + scanErr.Error()}
	case in != 0 || locks != 0 || !strings.Contains(c.state(false, false), "USE "+db.String+";"):
		f = finding{truth: stateful, why: "left a transaction or locks open, or another database"}
	}
	return that, f, nil
}
