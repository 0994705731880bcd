package oracle

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
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
			findings[i].worsen(c.finding, b.modes[c.mode].name)
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
		if err := b.revive(ctx, c); err != nil {
			return err
		}
		if err := set(); err != nil {
			return err
		}
	}
	return nil
}

// revive starts the server again, which c has ended.
func (b *binlog) revive(ctx context.Context, c *binlogCase) error {
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
	return b.rebuild(ctx)
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
	changes      = regexp.MustCompile(`(?i)^\s*` +
		`(update|insert|replace|delete|truncate|load|create|alter|drop|grant|revoke)\b`)
)
