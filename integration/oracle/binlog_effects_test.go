package oracle

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"strings"
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
	this, f, err := b.runThis(ctx, c, func() (err error) {
		log, rows, err = b.position(ctx)
		return err
	})
	if err != nil {
		return f, err
	}
	if is, err := b.wrote(ctx, &f, log, rows); is || err != nil {
		return f, err
	}
	that, g, err := b.runThat(ctx, c)
	if err != nil {
		return f, err
	}
	if is, err := b.wrote(ctx, &g, log, rows); is || err != nil {
		return g, err
	}
	if g.truth > f.truth {
		f = g
	}
	return b.settle(ctx, c, f, !this.equal(that), this.err)
}

// settle completes f, what was seen of c, by what it answered: differently in the two states, or with an
// error.
func (b *binlog) settle(
	ctx context.Context, c *binlogCase, f finding, differs bool, failed error,
) (finding, error) {
	switch {
	case f.truth == stateful:
	case differs && !c.measures():
		constant, err := b.constant(ctx, c)
		if err := errors.Join(err, b.written(&f)); err != nil || f.truth == write {
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

// wrote reports whether something was written since the log and the counter of rows were as given, and says
// so in f.
func (b *binlog) wrote(ctx context.Context, f *finding, log, rows string) (bool, error) {
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
	switch i := firstDifference(base, seen); {
	case seen.err != nil:
		f = finding{truth: stateful, why: "the connection was of no use afterwards: " + seen.err.Error()}
	case i >= 0:
		f, err = b.changed(ctx, parts[i])
	case lockErr != nil:
		f = finding{truth: stateful, why: "others are kept waiting: " + lockErr.Error()}
	case locked != b.rows:
		f = finding{truth: locking, why: "rows were locked"}
	}
	return this, f, err
}

// firstDifference returns where an answer begins to differ from what it was, or -1.
func firstDifference(was []string, is answer) int {
	for i := range was {
		if is.err == nil && is.sets[i] != was[i] {
			return i
		}
	}
	return -1
}

// changed judges a statement after which this part of the connection's state was not as before.
func (b *binlog) changed(ctx context.Context, part string) (finding, error) {
	f := finding{truth: stateful, why: "the connection has changed: " + part}
	if part != allSettings {
		return f, nil
	}
	now, err := b.globalSettings(ctx)
	if err == nil && !maps.Equal(now, b.globals) {
		f = finding{truth: write, why: "global settings were changed"}
	}
	return f, err
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
