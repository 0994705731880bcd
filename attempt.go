package replicated

import (
	"cmp"
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"reflect"
	"sync/atomic"
	"time"

	"gorm.io/gorm"

	"github.com/gorm-replicated/replicated/internal/cluster"
	"github.com/gorm-replicated/replicated/internal/rowsctx"
)

// errUnanswered is the error of a read that was cancelled because its slave is dead: that answered neither
// the read nor the question whether it is alive.
var errUnanswered = errors.New("replicated: the slave does not answer")

// attempt is one run of a statement on one server. The zero value is none.
type attempt struct {
	destination
	pool gorm.ConnPool   // to run it on
	ctx  context.Context // to run it with

	flight *flight // of a read on a slave; nil without SlaveTimeout
	lease  *lease  // of a read that counts against MaxOnMaster
	began  time.Duration
}

// begin begins an attempt there or, where that fails, on the next server.
func (st *statement) begin(ctx context.Context, to destination) (attempt, error) {
	a, err := st.beginThere(ctx, to)
	if err != nil {
		return st.next(ctx, a, err)
	}
	return a, nil
}

func (st *statement) beginThere(ctx context.Context, to destination) (attempt, error) {
	a := attempt{destination: to, pool: to.server.Pool, ctx: ctx}
	// Where reads fall back, they meet a master that may have no connection to spare. GORM has whoever needs a
	// statement that another goroutine prepares wait for that, also in a transaction: all transactions
	// together can hold the connection for which the preparing waits. So a read that falls back prepares
	// nothing.
	if st.prepared && !st.unprepared && !to.fallback {
		a.pool = to.server.Prepared()
	}
	switch {
	case to.server.Slave:
		st.takeOff(&a)
	case to.fallback && st.group.maxOnMaster > 0:
		lease, err := st.group.lease(ctx, to.server)
		if err != nil {
			return a, err
		}
		if a.lease = lease; lease.conn != nil {
			a.pool, a.ctx = lease.conn, lease
		}
	}
	return a, nil
}

// takeOff puts an attempt on a slave on the list of what is in flight there.
func (st *statement) takeOff(a *attempt) {
	g := st.group
	if g.measures {
		a.began = st.router.now()
		a.server.Load.Begin()
	}
	if timeout := st.router.timeout; timeout > 0 {
		a.flight = st.flightOn(a.ctx, a.server)
		a.ctx = a.flight.ctx
		if st.now == 0 {
			st.now = cluster.Now()
		}
		g.cluster.Begin(a.server, &a.flight.reads, st.now, timeout)
	}
}

// end ends an attempt with its error, and returns that, or errUnanswered if it was cancelled. Then the
// caller has to close a result that has come all the same.
func (st *statement) end(a *attempt, err error) error {
	if f := a.flight; f != nil {
		if a.server.End(&f.reads) {
			err = errUnanswered
		}
		if err != nil && f.single != nil {
			f.single.Cancel()
		}
	}
	if st.group.measures && a.server.Slave {
		now := st.router.now()
		a.server.Load.End(now, now-a.began, err == nil)
	}
	if err != nil {
		a.endLease()
	} else if st.router.config.Token.Monotonic {
		st.memory.noteRead(a.server)
	}
	return err
}

// handOver is for an attempt whose rows or transaction the caller has now: what it holds is freed when they
// end.
func (a *attempt) handOver() {
	switch {
	case a.flight != nil && a.flight.single != nil:
		a.flight.single.HandOver()
	case a.lease != nil && a.lease.conn != nil:
		a.lease.endWithRows()
	case a.lease != nil:
		a.lease.end()
	}
}

// finish is for an attempt whose result is complete: what it holds is freed now.
func (a *attempt) finish() {
	if a.flight != nil && a.flight.single != nil {
		a.flight.single.Cancel()
	}
	a.endLease()
}

func (a *attempt) endLease() {
	if a.lease != nil {
		a.lease.end()
		a.lease = nil
	}
}

// mostRetries is how often a statement is tried again on the same server, which did not execute it.
const mostRetries = 2

// next begins the attempt after the failed one, or returns the error to end with.
func (st *statement) next(ctx context.Context, a attempt, err error) (attempt, error) {
	for {
		st.now = 0
		to, final := st.retryOn(ctx, &a, err)
		if final != nil {
			return a, final
		}
		if a, err = st.beginThere(ctx, to); err == nil {
			return a, nil
		}
	}
}

// retryOn decides where a statement runs again after its attempt has failed, or returns the error to end
// with.
func (st *statement) retryOn(ctx context.Context, a *attempt, err error) (destination, error) {
	switch {
	case st.retryThere(ctx, a, err):
		st.retries++
		return a.destination, nil
	case err == ErrMasterBusy && a.spared && ctx.Err() == nil:
		return st.elsewhere(ctx, a.server)
	case err == ErrMasterBusy:
		return a.destination, err
	}
	verdict, serving := st.verdict(ctx, a, err)
	switch verdict {
	case cluster.Replan:
		if st.retries == mostRetries {
			return a.destination, err
		}
		st.retries++
		a.server.Forget(st.query)
		st.original, st.unprepared = cmp.Or(st.original, st.query), true
		st.query = st.router.anotherText(st.original)
		return a.destination, nil
	case cluster.ToMaster:
		return st.toMaster(ctx, a.server)
	case cluster.Blame:
		st.group.cluster.Failed(a.server, err)
		return st.elsewhere(ctx, a.server)
	case cluster.Next:
		return st.elsewhere(ctx, a.server)
	case cluster.Repeat:
		st.repeatOn, st.final = a.server, err
		return st.elsewhere(ctx, a.server)
	}
	if serving == cluster.Serves {
		a.server.DropIdle() // an operator may have ended other sessions with this one
	}
	if ended := ctx.Err(); ended != nil && err == errUnanswered {
		return a.destination, ended
	}
	return a.destination, err
}

// retryThere tells whether a statement is to be tried again on the same server because of how it was run
// there.
func (st *statement) retryThere(ctx context.Context, a *attempt, err error) bool {
	switch {
	case st.retries >= mostRetries:
		return false
	case st.prepared && err.Error() == "sql: statement is closed": // database/sql has no value for it
		st.unprepared = true // another goroutine has closed the prepared statement
		return true
	}
	// A lease is one connection, which database/sql does not replace by itself.
	return a.fallback && st.group.maxOnMaster > 0 && errors.Is(err, driver.ErrBadConn) && ctx.Err() == nil
}

// verdict decides whose fault it is that an attempt has failed. It may ask the slave, and says what that
// answered.
func (st *statement) verdict(ctx context.Context, a *attempt, err error) (cluster.Verdict, cluster.Serving) {
	failure := cluster.Failure{
		Err: err, Dialect: st.router.dialectName, Place: a.server.PlaceOf(err),
		Ended: ctx.Err() != nil, Unanswered: err == errUnanswered, Left: a.server.Left(),
		Master: !a.server.Slave, Spared: a.spared,
		Broke: st.broke, Repeated: st.final != nil,
	}
	verdict := cluster.Judge(failure)
	if verdict == cluster.Ask {
		failure.Serving = st.group.cluster.Serves(ctx, a.server)
		failure.Ended = ctx.Err() != nil
		verdict = cluster.Judge(failure)
	}
	st.broke = st.broke || failure.Breaks()
	if st.repeatOn == a.server {
		st.repeatOn = nil // that was the one more run, whatever has become of it
	}
	return verdict, failure.Serving
}

// elsewhere has decide choose again, without the slave that failed the statement.
func (st *statement) elsewhere(ctx context.Context, failed *cluster.Server) (destination, error) {
	st.failed = append(st.failed, failed)
	return st.decide(ctx)
}

// toMaster has the statement run on the master, because a slave says that it writes: it looks like a read,
// and calls a function that does.
func (st *statement) toMaster(ctx context.Context, slave *cluster.Server) (to destination, err error) {
	rt, g := st.router, st.group
	original := cmp.Or(st.original, st.query)
	if shape, isNew := rt.kinds.Load().Learn(original); isNew {
		rt.config.Logger.Warn("replicated: a slave refused a statement as a write; "+
			"from now on it goes to the master", "server", slave.ID, "sql", shape)
	}
	if rt.rejectWrites {
		return to, ErrWriteOnSlave
	}
	rt.remember(ctx, judgement{unknown, false, rt.judge(original, st.built).tables}, g)
	to = destination{server: st.master(st.memory), reason: ReasonRefused}
	if rt.observer != nil {
		rt.observer.Routed(ctx, Route{Group: g.name, Server: to.server.ID, Intent: Master, Reason: to.reason})
	}
	return to, nil
}

// anotherText returns the same query with a new comment at its end, so that no server and no driver has
// prepared it: each connection has its own stale plan, and pgx finds it by the text.
func (rt *router) anotherText(query string) string {
	return fmt.Sprintf("%s\n/* %d */", query, rt.replans.Add(1))
}

// flightOn finds or makes the flight of a read on server:
//
//   - In a request, all of its reads on one slave share a flight: its context ends soon.
//   - Without one, reads with the same context share a flight, if it has a place in the table of the group.
//   - A read has one of its own, which ends with its rows, if the place is taken by one that has not ended.
//
// Only contexts that are pointers are compared: others may panic, or look the same and be different.
func (st *statement) flightOn(ctx context.Context, server *cluster.Server) *flight {
	if st.inRequest {
		if f := st.memory.flight.Load(); f != nil && f.server == server && f.shared.Serves(ctx) {
			return f
		}
	}
	g := st.group
	var place *atomic.Pointer[flight]
	v := reflect.ValueOf(ctx)
	isPointer := v.Kind() == reflect.Pointer
	if st.inRequest { // its context ends soon
		place = &st.memory.flight
	} else if isPointer {
		place = &g.flights[(v.Pointer()>>6+uintptr(server.Slot()))%uintptr(len(g.flights))]
	} else if isPointer = ctx == context.Background(); isPointer { // it is none, and compares

		place = &g.flights[server.Slot()%len(g.flights)]
	}
	var old *flight
	if isPointer {
		if old = place.Load(); old != nil && old.server == server && old.shared.Serves(ctx) {
			return old
		}
	}
	f := &flight{server: server}
	if isPointer && (old == nil || old.ctx.Err() != nil) {
		f.shared = rowsctx.NewShared(ctx)
		f.ctx, f.reads.Cancel = f.shared.Context, f.shared.Cancel
		place.Store(f) // if another is just stored there, that ends with its parent as well
		return f
	}
	f.single = rowsctx.NewSingle(ctx, func() {})
	f.ctx, f.reads.Cancel = f.single, f.single.Cancel
	return f
}

// beginTx begins a transaction. The attempt that succeeded tells where.
func (st *statement) beginTx(
	ctx context.Context, to destination, opts *sql.TxOptions,
) (gorm.ConnPool, attempt, error) {
	a, err := st.begin(ctx, to)
	for err == nil {
		there := opts
		if a.server.Slave {
			there = st.router.readOnly(opts)
		}
		var conn gorm.ConnPool
		conn, err = cluster.BeginTx(a.ctx, a.pool, there)
		failed := st.end(&a, err)
		tx, isTx := conn.(*sql.Tx)
		switch {
		case failed == nil && isTx:
			a.handOver()
			return conn, a, nil
		case failed == nil:
			a.endLease()
			return conn, a, nil
		case err == nil && isTx: // it was cancelled at the last moment
			_ = tx.Rollback()
		}
		a, err = st.next(ctx, a, failed)
	}
	return nil, a, err
}

// readOnly returns opts for a transaction on a slave. Where the database can,
// it refuses the writes that nobody sees in the SQL, such as a stored function's.
func (rt *router) readOnly(opts *sql.TxOptions) *sql.TxOptions {
	if name := rt.dialectName; name != "mysql" && name != "postgres" {
		return opts
	}
	readOnly := sql.TxOptions{ReadOnly: true}
	if opts != nil {
		readOnly.Isolation = opts.Isolation
	}
	return &readOnly
}
