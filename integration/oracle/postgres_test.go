package oracle

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/gorm-replicated/replicated/internal/sqlkind"
)

func TestPostgreSQL(t *testing.T) {
	t.Parallel()
	p := newPostgreSQL(t)
	known(t, p, postgreSQLKnown)

	defer func() {
		for _, q := range p.crashes {
			t.Logf("the server crashed: %s", q)
		}
	}()

	seed := setting(t, "ORACLE_SEED", 1)
	n := setting(t, "ORACLE_STATEMENTS", 2000)
	t.Logf("ORACLE_SEED=%d ORACLE_STATEMENTS=%d", seed, n)
	g := newGenerator(t, uint64(seed), "postgres.grammar")
	calls := p.validCalls(t, p.functions(t, max(1, 8000/max(1, n))))
	g.calls = slices.DeleteFunc(slices.Clone(calls), func(s statement) bool {
		// Unknown, whatever its arguments: once is enough
		return s.probing || s.hidden || strings.Contains(s.sql, "ts_rewrite")
	})
	written := slices.Concat(corpus(t, "postgres.sql"), inBytes(postgreSQLBytes))
	for _, since := range []int{17, 18} {
		if p.major >= since {
			written = append(written, corpus(t, fmt.Sprintf("postgres_%d.sql", since))...)
		}
	}
	findings := all(t, p, written, func(found []finding) []statement {
		return slices.Concat(p.words(t), calls, g.statements(n/2), g.mutated(postgreSQLText, found, n-n/2))
	})
	classify := func(q string) sqlkind.Kind { return sqlkind.Classify(sqlkind.PostgreSQL, q) }
	consult(t, "PostgreSQL "+p.version, findings, classify, slices.Contains([]int{15, 17, 18}, p.major),
		limits{reads: 1500, locking: 50, stateful: 100, writes: 200},
		blind(classify, func(q string) sqlkind.Kind { return sqlkind.Classify(sqlkind.MySQL, q) }))
}

// postgreSQL asks a PostgreSQL server. A statement meets it three times or more:
//
//  1. In a read-only transaction. What is refused is a write, or reads rows in order to lock them; a file
//     that appears is a write, too.
//  2. In a transaction that may write, which is rolled back. A transaction id that was taken, rows that were
//     changed, sequences, large objects, slots, statistics, files and the write-ahead log show writes;
//     settings, locks, cursors and the like show whether the connection's state has changed; somebody else
//     who locks all rows finds out which are locked.
//  3. On a connection in another state: no transaction, another schema of the same content, another role,
//     none of the settings, locks, prepared statements, cursors and channels found before. An answer that
//     differs is stateful.
//  4. If it differs, several times again in each of the two states: what is not the same each time depends on
//     no state.
type postgreSQL struct {
	config  *pgconn.Config
	conns   map[string]*pgconn.PgConn // by what they are for
	files   string
	version string
	major   int // its first number

	signature string
	lockable  string
	rows      string
	baseline  map[int][]string // what snapshot says of a connection to which nothing was done, by mode and state
	last      pgGlobal         // as it was when last looked at
	crashes   []string         // statements that ended the server
}

// postgreSQLModes change what a text means.
var postgreSQLModes = []struct{ name, sql string }{
	{"default", ""},
	{"standard_conforming_strings off", "SET standard_conforming_strings = off;"},
	{"latin1", "SET client_encoding = latin1;"},
	{"sjis", "SET client_encoding = sjis;"},
	{"gbk", "SET client_encoding = gbk;"},
	{"big5", "SET client_encoding = big5;"},
}

// A state, and another one.
const (
	postgreSQLThis = "SELECT pg_advisory_lock(42), pg_stat_force_next_flush(); LISTEN listening; PREPARE " +
		"prepared AS SELECT 1; SET my.setting = 'this';" +
		"DECLARE held CURSOR WITH HOLD FOR SELECT id FROM tree ORDER BY id; SET SESSION AUTHORIZATION part"
	postgreSQLThat = "SET my.setting = 'that'; LISTEN other"
)

// probe counts the rows that can be locked.
func (p *postgreSQL) probe(ctx context.Context) (string, error) {
	a := p.ask(ctx, "BEGIN;"+p.lockable+"ROLLBACK")
	if a.err != nil {
		_ = p.ask(ctx, "ROLLBACK")
	}
	return digest(a.sets), a.err
}

// pgCase is a statement in one mode, and what is found out about it.
type pgCase struct {
	statement
	mode    int
	finding finding
	failed  error // where nothing may be written
}

var _ judge = (*postgreSQL)(nil)

func (p *postgreSQL) find(ctx context.Context, statements []statement) ([]finding, error) {
	findings := make([]finding, len(statements))
	for i, s := range statements {
		findings[i] = finding{statement: s}
		modes := []int{0}
		switch {
		case !utf8.ValidString(s.sql):
			modes = []int{0, 1, 2, 3, 4, 5}
		case strings.ContainsRune(s.sql, '\\'):
			modes = append(modes, 1)
		}
		for _, mode := range modes {
			c := &pgCase{statement: s, mode: mode}
			c.sql = strings.ReplaceAll(s.sql, "{files}", p.files)
			if err := p.findOne(ctx, c); err != nil {
				return nil, fmt.Errorf("%q: %w", c.sql, err)
			}
			findings[i].worsen(c.finding, postgreSQLModes[mode].name)
		}
	}
	return findings, nil
}

// findOne finds the truth about one case. A statement that crashes the server, which then starts again by
// itself, proves nothing.
func (p *postgreSQL) findOne(ctx context.Context, c *pgCase) error {
	err := p.ponder(ctx, c)
	if err == nil || pgCode(err) != "broken" && !strings.HasPrefix(pgCode(err), "57P") {
		return err
	}
	const most = 20
	if p.crashes = append(p.crashes, c.sql); len(p.crashes) > most {
		return fmt.Errorf("too many crashes: %q", p.crashes)
	}
	c.finding = finding{truth: invalid, why: "the server crashed"}
	up, cancel := context.WithTimeout(ctx, timeLimit)
	defer cancel()
	for p.ask(up, "SELECT 1").err != nil && up.Err() == nil {
		p.close("watch")
	}
	return p.rebuild(ctx)
}

func (p *postgreSQL) ponder(ctx context.Context, c *pgCase) error {
	if err := p.refuse(ctx, c); err != nil {
		return err
	}
	switch {
	case c.finding.truth == write && !(c.finding.refused && pgReconsidered.MatchString(c.sql)):
		return nil
	case c.finding.truth != write && pgHopeless(c.failed):
		c.finding = finding{truth: invalid, why: c.failed.Error()}
		return nil
	}
	f, err := p.effects(ctx, c)
	if err != nil {
		return err
	}
	if c.finding.refused && f.truth < write && f.truth != invalid {
		f = finding{truth: max(f.truth, locking), why: c.failed.Error() + "; but it writes nothing"}
	}
	f.refused = c.finding.refused
	c.finding = f
	return nil
}

// pgReconsidered matches what may be refused although it writes nothing: FOR UPDATE, LOCK TABLE, PREPARE.
var pgReconsidered = regexp.MustCompile(`(?is)share|for\b.*\bupdate|lock|prepare|listen|declare`)

// refuse runs c where nothing may be written.
func (p *postgreSQL) refuse(ctx context.Context, c *pgCase) error {
	if a := p.run(ctx, "refuse", postgreSQLModes[c.mode].sql+"BEGIN READ ONLY"); a.err != nil {
		return a.err
	}
	a := p.run(ctx, "refuse", c.sql)
	c.failed = a.err
	if err := p.fresh(ctx, "refuse"); err != nil {
		return err
	}
	if pgCode(a.err) == "25006" {
		c.finding = finding{truth: write, why: a.err.Error(), refused: true}
	}
	now, err := p.global(ctx)
	if err != nil {
		return err
	}
	last := p.last
	p.last = now
	if now.rest != last.rest {
		c.finding.truth, c.finding.why = write, "something is not as it was"
		if err := p.restore(ctx); err != nil {
			return err
		}
	}
	return p.written(&c.finding)
}

// written finds and removes files that were written.
func (p *postgreSQL) written(f *finding) error {
	entries, err := os.ReadDir(p.files)
	if err != nil {
		return err
	}
	for _, e := range entries {
		f.truth, f.why = write, "wrote the file "+e.Name()
		if err := os.RemoveAll(filepath.Join(p.files, e.Name())); err != nil {
			return err
		}
	}
	return nil
}

// pgGlobal is what is there for all connections: transaction ids, the write-ahead log, and everything else.
type pgGlobal struct{ xid, lsn, rest string }

func (p *postgreSQL) global(ctx context.Context) (pgGlobal, error) {
	// Prepared, because planning takes longer than anything else.
	a := p.ask(ctx, "EXECUTE look")
	if pgCode(a.err) == "26000" {
		a = p.ask(ctx, `PREPARE look AS SELECT pg_snapshot_xmax(pg_current_snapshot()), pg_current_wal_insert_lsn(),
			concat_ws(' ', (SELECT last_value FROM here.s), (SELECT last_value FROM here.n),
				(SELECT last_value FROM there.s), (SELECT last_value FROM there.n),
				(SELECT string_agg(oid::text, ' ') FROM pg_largeobject_metadata),
				(SELECT string_agg(gid, ' ') FROM pg_prepared_xacts),
				(SELECT string_agg(concat(slot_name, restart_lsn), ' ') FROM pg_replication_slots),
				(SELECT string_agg(roname, ' ') FROM pg_replication_origin),
				(SELECT stats_reset FROM pg_stat_database WHERE datname = current_database()),
				(SELECT stats_reset FROM pg_stat_bgwriter),
				(SELECT stats_reset FROM pg_stat_wal), (SELECT stats_reset FROM pg_stat_archiver),
				(SELECT max(stats_reset) FROM pg_stat_slru),
				(SELECT string_agg(f, ' ' ORDER BY f) FROM pg_ls_dir('.') f),
				(SELECT modification FROM pg_stat_file('postgresql.auto.conf'))); EXECUTE look`)
	}
	if a.err != nil {
		return pgGlobal{}, a.err
	}
	return pgGlobal{a.rows[0][0], a.rows[0][1], a.rows[0][2]}, nil
}
