package oracle

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
)

const (
	pgRowsChanged = "rows were changed"
	pgLocked      = "rows or tables were locked"
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
	return p.settle(ctx, c, f, !this.equal(that), this.err)
}

// settle completes f, what was seen of c, by what it answered: differently in the two states, or with an
// error.
func (p *postgreSQL) settle(
	ctx context.Context, c *pgCase, f finding, differs bool, failed error,
) (finding, error) {
	switch {
	case f.truth == stateful || f.truth == locking:
	case differs && !c.measures():
		constant, err := p.constant(ctx, c)
		if err := errors.Join(err, p.written(&f)); err != nil || f.truth == write {
			return f, err
		}
		if constant {
			return finding{truth: stateful, why: "answers depend on the connection's state"}, nil
		}
	case failed != nil && f.truth < read:
		return finding{truth: invalid, why: failed.Error()}, nil
	}
	if f.truth == invalid {
		f = finding{truth: read, why: "nothing was found"}
	}
	return f, nil
}

// pgMine matches what asks for the last number of a sequence. Only for that one is taken, because it is a
// write.
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
	this, constant, err := p.same(ctx, "this", c)
	if err != nil {
		return false, err
	}
	var that pgAnswer
	if constant {
		if that, constant, err = p.same(ctx, "that", c); err != nil {
			return false, err
		}
	}
	if p.last, err = p.global(ctx); err != nil {
		return false, err
	}
	return constant && !this.equal(that), nil
}

// same returns the answer on the connection for a purpose, and whether it is the same each time.
func (p *postgreSQL) same(
	ctx context.Context, purpose string, c *pgCase,
) (first pgAnswer, is bool, err error) {
	// array_shuffle of two elements has two answers: that it only seems to be constant, and different, has to
	// be unlikely.
	const times = 8
	for i := range times {
		if err := p.begin(ctx, purpose, c); err != nil {
			return first, false, err
		}
		if purpose == "this" && pgMine.MatchString(c.sql) { // it takes numbers from a sequence
			a := p.run(ctx, purpose, "SELECT setval('mine', 1); COMMIT; BEGIN; SAVEPOINT sp")
			if a.err != nil {
				return first, false, a.err
			}
		}
		a := p.run(ctx, purpose, c.sql)
		if err := p.fresh(ctx, purpose); err != nil {
			return first, false, err
		}
		if i == 0 {
			first = a
		}
		if !a.equal(first) {
			return first, false, nil
		}
	}
	return first, true, nil
}

// pgSnapshot asks for what a statement can have changed on a connection.
const pgSnapshot = `SELECT pg_current_xact_id_if_assigned() IS NOT NULL, concat_ws(' ', current_user,
	session_user, current_schemas(true)::text,
	nullif(current_setting('my.setting', true), ''), nullif(current_setting('my.new', true), ''),
	current_setting('work_mem'), current_setting('search_path'), current_setting('timezone'),
	current_setting('client_encoding'),
	current_setting('standard_conforming_strings'), current_setting('transaction_isolation'),
	current_setting('transaction_read_only'), current_setting('datestyle'), current_setting('xmloption'),
	current_setting('role'), current_setting('default_transaction_read_only'),
	current_setting('application_name')),
	(SELECT string_agg(name, ' ' ORDER BY name) FROM pg_cursor()
	WHERE statement !~ '^SELECT pg_current_xact'),
	(SELECT string_agg(name, ' ' ORDER BY name) FROM pg_prepared_statement()),
	(SELECT string_agg(concat_ws(' ', classid, objid, mode), ',' ORDER BY classid, objid, mode)
	FROM pg_lock_status() WHERE pid = pg_backend_pid() AND locktype = 'advisory'),
	(SELECT string_agg(c, ' ') FROM pg_listening_channels() c)`

// snapshot is what became of a connection.
func (p *postgreSQL) snapshot(ctx context.Context, purpose string) (xid bool, state []string, err error) {
	a := p.run(ctx, purpose, pgSnapshot)
	if a.err != nil {
		return false, nil, a.err
	}
	return a.rows[0][0] == "t", a.rows[0][1:], nil
}

// runThis runs c in the first state, and looks for everything. It says whether anything was locked, whatever
// else is true.
func (p *postgreSQL) runThis(
	ctx context.Context, c *pgCase,
) (this pgAnswer, f finding, locks bool, err error) {
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
		f, locks = p.judgeOpen(ctx, c, base)
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

// judgeOpen looks at the transaction that c has left open, on the connection that was as base before.
func (p *postgreSQL) judgeOpen(ctx context.Context, c *pgCase, base []string) (f finding, locks bool) {
	xid, state, err := p.snapshot(ctx, "this")
	locked, lockErr := p.probe(ctx)
	waits := lockErr != nil || locked != p.rows
	switch {
	case err != nil:
		return finding{truth: stateful, why: "the connection was of no use afterwards: " + err.Error()}, false
	case xid:
		f = p.judgeID(ctx, c, waits)
	case waits:
		f = finding{truth: locking, why: pgLocked}
	}
	locks = f.truth == locking
	if f.truth < stateful && !slices.Equal(state, base) {
		f = finding{truth: stateful, why: fmt.Sprintf("the connection has changed: %q, not %q", state, base)}
	}
	return f, locks
}

// judgeID tells why c took a transaction id.
func (p *postgreSQL) judgeID(ctx context.Context, c *pgCase, waits bool) finding {
	rows := p.run(ctx, "this",
		"SELECT coalesce(sum(n_tup_ins + n_tup_upd + n_tup_del), 0) FROM pg_stat_xact_all_tables")
	switch {
	case rows.err != nil || rows.rows[0][0] != "0":
		return finding{truth: write, why: pgRowsChanged}
	case waits || c.failed != nil && strings.Contains(c.failed.Error(), "cannot execute SELECT FOR"):
		return finding{truth: locking, why: pgLocked} // perhaps in the catalog
	default:
		return finding{truth: write, why: pgTookID}
	}
}

// runThat runs c in the second state, and looks for what could not be seen in the first: again, if the
// write-ahead log has grown. It grows by itself now and then, but not each time.
func (p *postgreSQL) runThat(
	ctx context.Context, c *pgCase, locks bool,
) (that pgAnswer, f finding, err error) {
	for range 3 {
		var grew bool
		that, f, grew, err = p.runThatOnce(ctx, c, locks)
		if err != nil || f.truth == write || !grew {
			return that, f, err
		}
	}
	return that, finding{truth: write, why: "the write-ahead log grew"}, nil
}

// runThatOnce also reports whether the write-ahead log grew, and a lock does not explain it.
func (p *postgreSQL) runThatOnce(
	ctx context.Context, c *pgCase, locks bool,
) (that pgAnswer, f finding, grew bool, err error) {
	if err := p.begin(ctx, "that", c); err != nil {
		return that, f, false, err
	}
	base, err := p.baselineOfThat(ctx, c)
	if err != nil {
		return that, f, false, err
	}
	before := p.last
	that = p.run(ctx, "that", c.sql)
	_, state, snapErr := p.snapshot(ctx, "that")
	if err := p.fresh(ctx, "that"); err != nil {
		return that, f, false, err
	}
	after, err := p.global(ctx)
	if err != nil {
		return that, f, false, err
	}
	p.last = after
	failed := that.err != nil && (after.xid != before.xid || after.lsn != before.lsn)
	switch {
	case after.rest != before.rest:
		f = finding{truth: write, why: "something is not as it was: " + after.rest + " was " + before.rest}
	case failed: // it was for a lock, perhaps; what fails is rolled back, unless it is several statements
		f, err = p.judgeFailed(ctx)
	case after.xid != before.xid && !locks:
		f = finding{truth: write, why: "it took a transaction id"}
	case snapErr != nil:
		f = finding{truth: stateful, why: "the connection was of no use afterwards: " + snapErr.Error()}
	case that.status != 'I':
		f = finding{truth: stateful, why: "it left a transaction open"}
	case !slices.Equal(state, base):
		f = finding{truth: stateful, why: fmt.Sprintf("the connection has changed: %q, not %q", state, base)}
	}
	grew = after.lsn != before.lsn && !locks && !failed
	return that, f, grew, errors.Join(err, p.written(&f))
}

// judgeFailed judges a statement that failed, and took an id or wrote to the log.
func (p *postgreSQL) judgeFailed(ctx context.Context) (f finding, err error) {
	signature, err := p.sign(ctx)
	if err == nil && signature != p.signature {
		f = finding{truth: write, why: "it failed, but the data is not as it was"}
	}
	return f, err
}

// baselineOfThat is what the snapshot says of a connection in the second state to which nothing was done.
func (p *postgreSQL) baselineOfThat(ctx context.Context, c *pgCase) ([]string, error) {
	key := ^c.mode
	if !c.elsewhere() {
		key -= len(postgreSQLModes)
	}
	if p.baseline[key] == nil {
		_, base, err := p.snapshot(ctx, "that")
		if err != nil {
			return nil, err
		}
		p.baseline[key] = base
	}
	return p.baseline[key], nil
}
