package oracle

import (
	"context"
	"errors"
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
		return s.probing || s.hidden || strings.Contains(s.sql, "ts_rewrite") // Unknown, whatever its arguments: once is enough
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
//  1. In a read-only transaction. What is refused is a write, or reads rows in order to lock them; a file that appears is a
//     write, too.
//  2. In a transaction that may write, which is rolled back. A transaction id that was taken, rows that were changed,
//     sequences, large objects, slots, statistics, files and the write-ahead log show writes; settings, locks, cursors and
//     the like show whether the connection's state has changed; somebody else who locks all rows finds out which are locked.
//  3. On a connection in another state: no transaction, another schema of the same content, another role, none of the settings,
//     locks, prepared statements, cursors and channels found before. An answer that differs is stateful.
//  4. If it differs, several times again in each of the two states: what is not the same each time depends
//     on no state.
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
	postgreSQLThis = "SELECT pg_advisory_lock(42), pg_stat_force_next_flush(); LISTEN listening; PREPARE prepared AS SELECT 1; SET my.setting = 'this';" +
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
			refused := findings[i].refused || c.finding.refused
			if c.finding.truth >= findings[i].truth {
				findings[i].truth, findings[i].why = c.finding.truth, c.finding.why
				if mode != 0 {
					findings[i].why += ", " + postgreSQLModes[mode].name
				}
			}
			findings[i].refused = refused
		}
	}
	return findings, nil
}

// findOne finds the truth about one case. A statement that crashes the server, which then starts again by itself, proves nothing.
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
			concat_ws(' ', (SELECT last_value FROM here.s), (SELECT last_value FROM here.n), (SELECT last_value FROM there.s), (SELECT last_value FROM there.n),
				(SELECT string_agg(oid::text, ' ') FROM pg_largeobject_metadata), (SELECT string_agg(gid, ' ') FROM pg_prepared_xacts),
				(SELECT string_agg(concat(slot_name, restart_lsn), ' ') FROM pg_replication_slots), (SELECT string_agg(roname, ' ') FROM pg_replication_origin),
				(SELECT stats_reset FROM pg_stat_database WHERE datname = current_database()), (SELECT stats_reset FROM pg_stat_bgwriter),
				(SELECT stats_reset FROM pg_stat_wal), (SELECT stats_reset FROM pg_stat_archiver), (SELECT max(stats_reset) FROM pg_stat_slru),
				(SELECT string_agg(f, ' ' ORDER BY f) FROM pg_ls_dir('.') f), (SELECT modification FROM pg_stat_file('postgresql.auto.conf'))); EXECUTE look`)
	}
	if a.err != nil {
		return pgGlobal{}, a.err
	}
	return pgGlobal{a.rows[0][0], a.rows[0][1], a.rows[0][2]}, nil
}

const (
	pgRowsChanged = "rows were changed"
	pgTookID      = "it took a transaction id in a transaction"
)

// effects runs c on two connections in different states.
func (p *postgreSQL) effects(ctx context.Context, c *pgCase) (finding, error) {
	this, f, locks, err := p.runThis(ctx, c)
	if err != nil {
		return f, err
	}
	if f.truth == write {
		if f.why == pgRowsChanged || f.why == pgTookID {
			return f, nil // and that was rolled back
		}
		return f, p.restore(ctx)
	}
	that, g, err := p.runThat(ctx, c, locks)
	if err != nil {
		return f, err
	}
	if g.truth == write {
		p.close("that")
		return g, p.restore(ctx)
	}
	if g.truth > f.truth {
		f = g
	}
	switch {
	case f.truth == stateful || f.truth == locking:
	case !this.equal(that) && !c.measures():
		constant, err := p.constant(ctx, c)
		if err := errors.Join(err, p.written(&f)); err != nil || f.truth == write {
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

// pgMine matches what asks for the last number of a sequence. Only for that one is taken, because it is a write.
var pgMine = regexp.MustCompile(`(?i)mine|lastval|currval`)

// begin brings the connection for a purpose into its state.
func (p *postgreSQL) begin(ctx context.Context, purpose string, c *pgCase) error {
	mode := postgreSQLModes[c.mode].sql
	if purpose == "this" && pgMine.MatchString(c.sql) {
		mode += "SELECT nextval('mine');"
	}
	if purpose == "that" {
		if !c.elsewhere() {
			mode += "SET search_path = here, public;"
		}
		return p.run(ctx, purpose, mode+postgreSQLThat).err
	}
	if a := p.run(ctx, purpose, mode+postgreSQLThis); a.err != nil {
		return a.err
	}
	return p.run(ctx, purpose, "BEGIN; SAVEPOINT sp").err
}

// constant says whether, on each of two connections in different states, the answers are the same each time,
// and of the two connections different.
func (p *postgreSQL) constant(ctx context.Context, c *pgCase) (bool, error) {
	// array_shuffle of two elements has two answers: that it only seems to be constant, and different, has to
	// be unlikely.
	const times = 8
	answers := map[string][]pgAnswer{}
	constant := true
	for _, purpose := range []string{"this", "that"} {
		for i := 0; i < times && constant; i++ {
			if err := p.begin(ctx, purpose, c); err != nil {
				return false, err
			}
			if purpose == "this" && pgMine.MatchString(c.sql) { // it takes numbers from a sequence
				if a := p.run(ctx, purpose, "SELECT setval('mine', 1); COMMIT; BEGIN; SAVEPOINT sp"); a.err != nil {
					return false, a.err
				}
			}
			a := p.run(ctx, purpose, c.sql)
			if err := p.fresh(ctx, purpose); err != nil {
				return false, err
			}
			answers[purpose] = append(answers[purpose], a)
			constant = a.equal(answers[purpose][0])
		}
	}
	var err error
	if p.last, err = p.global(ctx); err != nil {
		return false, err
	}
	return constant && !answers["this"][0].equal(answers["that"][0]), nil
}

// pgSnapshot asks for what a statement can have changed on a connection.
const pgSnapshot = `SELECT pg_current_xact_id_if_assigned() IS NOT NULL, concat_ws(' ', current_user, session_user, current_schemas(true)::text,
	nullif(current_setting('my.setting', true), ''), nullif(current_setting('my.new', true), ''), current_setting('work_mem'), current_setting('search_path'), current_setting('timezone'), current_setting('client_encoding'),
	current_setting('standard_conforming_strings'), current_setting('transaction_isolation'), current_setting('transaction_read_only'), current_setting('datestyle'), current_setting('xmloption'),
	current_setting('role'), current_setting('default_transaction_read_only'), current_setting('application_name')),
	(SELECT string_agg(name, ' ' ORDER BY name) FROM pg_cursor() WHERE statement !~ '^SELECT pg_current_xact'), (SELECT string_agg(name, ' ' ORDER BY name) FROM pg_prepared_statement()),
	(SELECT string_agg(concat_ws(' ', classid, objid, mode), ',' ORDER BY classid, objid, mode) FROM pg_lock_status() WHERE pid = pg_backend_pid() AND locktype = 'advisory'),
	(SELECT string_agg(c, ' ') FROM pg_listening_channels() c)`

// snapshot is what became of a connection.
func (p *postgreSQL) snapshot(ctx context.Context, purpose string) (xid bool, state []string, err error) {
	a := p.run(ctx, purpose, pgSnapshot)
	if a.err != nil {
		return false, nil, a.err
	}
	return a.rows[0][0] == "t", a.rows[0][1:], nil
}

// runThis runs c in the first state, and looks for everything. It says whether anything was locked, whatever else is true.
func (p *postgreSQL) runThis(ctx context.Context, c *pgCase) (this pgAnswer, f finding, locks bool, err error) {
	if err := p.begin(ctx, "this", c); err != nil {
		return this, f, locks, err
	}
	base := p.baseline[c.mode]
	if base == nil { // the first statement of a mode is none
		if _, base, err = p.snapshot(ctx, "this"); err != nil {
			return this, f, locks, err
		}
		p.baseline[c.mode] = base
	}
	before := p.last
	if pgMine.MatchString(c.sql) {
		if before, err = p.global(ctx); err != nil {
			return this, f, locks, err
		}
	}
	this = p.run(ctx, "this", c.sql)
	switch {
	case pgCode(this.err) == "broken":
		f = finding{truth: stateful, why: "the connection broke: " + this.err.Error()}
	case this.status == 'I':
		f = finding{truth: stateful, why: "it ended the transaction"}
	case this.status == 'T':
		xid, state, err := p.snapshot(ctx, "this")
		locked, lockErr := p.probe(ctx)
		switch {
		case err != nil:
			f = finding{truth: stateful, why: "the connection was of no use afterwards: " + err.Error()}
		case xid:
			rows := p.run(ctx, "this", "SELECT coalesce(sum(n_tup_ins + n_tup_upd + n_tup_del), 0) FROM pg_stat_xact_all_tables")
			switch {
			case rows.err != nil || rows.rows[0][0] != "0":
				f = finding{truth: write, why: pgRowsChanged}
			case lockErr != nil || locked != p.rows || c.failed != nil && strings.Contains(c.failed.Error(), "cannot execute SELECT FOR"):
				f = finding{truth: locking, why: "rows or tables were locked"} // perhaps in the catalog
			default:
				f = finding{truth: write, why: pgTookID}
			}
		case lockErr != nil || locked != p.rows:
			f = finding{truth: locking, why: "rows or tables were locked"}
		}
		locks = f.truth == locking
		if err == nil && f.truth < stateful && !slices.Equal(state, base) {
			f = finding{truth: stateful, why: fmt.Sprintf("the connection has changed: %q, not %q", state, base)}
		}
	}
	if err := p.fresh(ctx, "this"); err != nil {
		return this, f, locks, err
	}
	after, err := p.global(ctx)
	if err != nil {
		return this, f, locks, err
	}
	p.last = after
	switch {
	case after.rest != before.rest:
		f = finding{truth: write, why: "something is not as it was: " + after.rest + " was " + before.rest}
	case f.truth == stateful && this.status == 'I' && after.xid != before.xid:
		f = finding{truth: write, why: "it took a transaction id"}
	}
	return this, f, locks, p.written(&f)
}

// runThat runs c in the second state, and looks for what could not be seen in the first.
func (p *postgreSQL) runThat(ctx context.Context, c *pgCase, locks bool) (that pgAnswer, f finding, err error) {
	logged := 0
	for {
		if err := p.begin(ctx, "that", c); err != nil {
			return that, f, err
		}
		key := ^c.mode
		if !c.elsewhere() {
			key -= len(postgreSQLModes)
		}
		base := p.baseline[key]
		if base == nil {
			if _, base, err = p.snapshot(ctx, "that"); err != nil {
				return that, f, err
			}
			p.baseline[key] = base
		}
		before := p.last
		that = p.run(ctx, "that", c.sql)
		status := that.status
		_, state, snapErr := p.snapshot(ctx, "that")
		if err := p.fresh(ctx, "that"); err != nil {
			return that, f, err
		}
		after, err := p.global(ctx)
		if err != nil {
			return that, f, err
		}
		p.last = after
		f = finding{}
		switch {
		case after.rest != before.rest:
			f = finding{truth: write, why: "something is not as it was: " + after.rest + " was " + before.rest}
		case that.err != nil && (after.xid != before.xid || after.lsn != before.lsn):
			// For a lock, perhaps; what fails is rolled back, unless it is several statements.
			locks = true
			signature, err := p.sign(ctx)
			if err != nil {
				return that, f, err
			}
			if signature != p.signature {
				f = finding{truth: write, why: "it failed, but the data is not as it was"}
			}
		case after.xid != before.xid && !locks:
			f = finding{truth: write, why: "it took a transaction id"}
		case snapErr != nil:
			f = finding{truth: stateful, why: "the connection was of no use afterwards: " + snapErr.Error()}
		case status != 'I':
			f = finding{truth: stateful, why: "it left a transaction open"}
		case !slices.Equal(state, base):
			f = finding{truth: stateful, why: fmt.Sprintf("the connection has changed: %q, not %q", state, base)}
		}
		if err := p.written(&f); err != nil || f.truth == write {
			return that, f, err
		}
		// The log grows by itself now and then, but not each time.
		if locks || after.lsn == before.lsn {
			return that, f, nil
		}
		if logged++; logged == 3 {
			return that, finding{truth: write, why: "the write-ahead log grew"}, nil
		}
	}
}
