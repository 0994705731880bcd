package replicated

import (
	"cmp"
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"gorm.io/gorm"

	"github.com/gorm-replicated/replicated/internal/cluster"
)

// errUnanswered is what a slave gave that neither answered a read nor the question whether it is alive.
var errUnanswered = errors.New("replicated: the slave does not answer")

// run is a statement on its way: where it runs, and what has failed it.
type run struct {
	judgement
	pool     *pool
	server   *cluster.Server
	query    string
	asked    string // query before it became another text; "" if it has not
	plain    bool   // not by a statement that was prepared before
	fallback bool   // on the master for want of a slave
	spared   bool   // on the master to spare a slave

	failed []*cluster.Server
	broke  bool            // a connection has ended under it
	repeat *cluster.Server // which failed it and serves: for it to run there once more, if on no other slave
	ends   error           // what to end with, rather than have it run on the master
	again  int             // how often it was tried again on the same server
	memory *memory         // to note in what was read; nil without Token.Monotonic

	// Of the attempt under way:
	watch *watch // nil: it may take its time
	span  *span
	began time.Duration
	lease *lease // of a read that counts as fallen back
}

// begin begins an attempt, and returns what to run it on, and with which context.
func (r *run) begin(ctx context.Context) (gorm.ConnPool, context.Context, error) {
	for {
		at, within, err := r.start(ctx)
		if err == nil {
			return at, within, nil
		}
		if err = r.instead(ctx, err); err != nil {
			return nil, nil, err
		}
	}
}

func (r *run) start(ctx context.Context) (gorm.ConnPool, context.Context, error) {
	g, rt := r.pool.group, r.pool.router
	r.span = nil
	if !r.server.Slave {
		if r.fallback && g.maxOnMaster > 0 {
			lease, err := g.lease(ctx, r.server)
			if err != nil {
				return nil, nil, err
			}
			if r.lease = lease; lease.conn != nil {
				return lease.conn, lease, nil
			}
		}
		return r.at(), ctx, nil
	}
	if g.measures {
		r.began = rt.now()
		r.server.Load.Begin()
	}
	if rt.timeout > 0 {
		r.span = g.spanOf(rt, ctx, r.server)
		r.watch = rt.watches.Get().(*watch)
		r.watch.begin(g.cluster, r.server, r.span, rt.timeout)
		ctx = r.span.ctx
	}
	return r.at(), ctx, nil
}

// at returns what runs the statement on its server.
func (r *run) at() gorm.ConnPool {
	if r.plain {
		return r.server.Pool
	}
	return r.pool.at(r.server)
}

// at returns what runs a statement on a server.
func (c *pool) at(server *cluster.Server) gorm.ConnPool {
	if c.prepared {
		return server.Prepared()
	}
	return server.Pool
}

// beginTx begins a transaction.
func (r *run) beginTx(ctx context.Context, opts *sql.TxOptions) (gorm.ConnPool, error) {
	for {
		pool, within, err := r.begin(ctx)
		if err != nil {
			return nil, err
		}
		there := opts
		if r.server.Slave {
			there = r.pool.router.readOnly(opts)
		}
		conn, err := cluster.BeginTx(within, pool, there)
		failed := r.ended(err)
		if failed == nil {
			if _, ok := conn.(*sql.Tx); ok {
				r.finish()
			} else {
				r.endLease()
			}
			return conn, nil
		}
		if tx, ok := conn.(*sql.Tx); ok && err == nil { // it was cancelled at the last moment
			_ = tx.Rollback()
		}
		if err = r.instead(ctx, failed); err != nil {
			return nil, err
		}
	}
}

// ended ends an attempt with its error, and returns that, or errUnanswered if it was cancelled. Then there may be a result that is not to be used.
func (r *run) ended(err error) error {
	if r.watch != nil {
		if r.watch.end(&r.pool.router.watches) || err != nil && r.span.cancelled() {
			err = errUnanswered
		}
		if r.watch = nil; err != nil && !r.span.shared {
			r.span.cancel()
		}
	}
	if g := r.pool.group; g.measures && r.server.Slave {
		now := r.pool.router.now()
		r.server.Load.End(now, now-r.began, err == nil)
	}
	if err != nil {
		r.endLease()
	} else if r.memory != nil {
		r.memory.noteRead(r.server)
	}
	return err
}

// finish lets go of what an attempt needed, once its result is not read any longer.
func (r *run) finish() {
	switch {
	case r.span != nil && r.span.reading != nil:
		r.span.reading.handOver()
	case r.lease != nil && r.lease.conn != nil:
		r.lease.watch()
	case r.lease != nil:
		r.lease.end()
	}
}

// done is finish for a result that is complete.
func (r *run) done() {
	if r.span != nil && !r.span.shared {
		r.span.cancel()
	}
	r.endLease()
}

func (r *run) endLease() {
	if r.lease != nil {
		r.lease.end()
		r.lease = nil
	}
}

// mostAgain is how often a statement is tried again on the same server, which did not execute it.
const mostAgain = 2

// instead decides where the statement runs again after its server failed it with err, or returns the error to end with.
func (r *run) instead(ctx context.Context, err error) error {
	c, rt := r.pool, r.pool.router
	if r.again < mostAgain {
		r.again++
		switch {
		case c.prepared && err.Error() == "sql: statement is closed": // database/sql has no value for it
			r.plain = true // another call has forgotten it meanwhile
			return nil
		case r.fallback && errors.Is(err, driver.ErrBadConn) && ctx.Err() == nil && rt.config.Failover.MaxOnMaster > 0:
			return nil // of a single connection database/sql itself does not try another
		}
		r.again--
	}
	if err == ErrMasterBusy {
		if r.spared && ctx.Err() == nil {
			return r.elsewhere(ctx)
		}
		return err
	}
	failure := cluster.Failure{
		Err: err, Dialect: rt.dialectName, Place: r.server.PlaceOf(err),
		Ended: ctx.Err() != nil, Unanswered: err == errUnanswered, Left: r.server.Left(),
		Master: !r.server.Slave, Spared: r.spared,
		Broke: r.broke, Repeated: r.ends != nil,
	}
	verdict := cluster.Judge(failure)
	if verdict == cluster.Ask {
		failure.Serving = c.group.cluster.Serves(ctx, r.server)
		failure.Ended = ctx.Err() != nil
		verdict = cluster.Judge(failure)
	}
	r.broke = r.broke || failure.Breaks()
	if r.repeat == r.server {
		r.repeat = nil // that was the one more run, whatever has become of it
	}
	switch verdict {
	case cluster.Replan:
		if r.again == mostAgain {
			return err
		}
		r.again++
		r.server.Forget(r.query)
		r.asked, r.plain = cmp.Or(r.asked, r.query), true
		r.query = rt.another(r.asked)
		return nil
	case cluster.ToMaster:
		return r.refused(ctx)
	case cluster.Blame:
		c.group.cluster.Failed(r.server, err)
		return r.elsewhere(ctx)
	case cluster.Next:
		return r.elsewhere(ctx)
	case cluster.Repeat:
		r.repeat, r.ends = r.server, err
		return r.elsewhere(ctx)
	}
	if failure.Serving == cluster.Serves {
		r.server.DropIdle() // an operator may have ended other sessions with this one
	}
	if ended := ctx.Err(); ended != nil && err == errUnanswered {
		return ended
	}
	return err
}

// elsewhere has the statement run on another slave, or else where decide says.
func (r *run) elsewhere(ctx context.Context) error {
	r.failed = append(r.failed, r.server)
	return r.decide(ctx)
}

// refused has the statement run on the master, because a slave says that it writes: it looks like a read, and calls a function that does.
func (r *run) refused(ctx context.Context) error {
	c, rt := r.pool, r.pool.router
	asked := cmp.Or(r.asked, r.query)
	if shape, news := rt.kinds.Load().Learn(asked); news {
		rt.config.Logger.Warn("replicated: a slave refused a statement as a write; from now on it goes to the master",
			"server", r.server.ID, "sql", shape)
	}
	if rt.rejects {
		return ErrWriteOnSlave
	}
	rt.mark(ctx, judgement{unknown, false, rt.judge(asked, c.built).tables}, c.group)
	r.server = c.master(c.group.memory(rt, ctx))
	if rt.observer != nil {
		rt.observer.Routed(ctx, Route{Group: c.group.name, Server: r.server.ID, Intent: Master, Reason: ReasonRefused})
	}
	return nil
}

// another returns a text that means what query does and that no server and no driver has prepared: each connection
// has its own stale plan, and pgx finds it by the text.
func (rt *router) another(query string) string {
	return fmt.Sprintf("%s\n/* %d */", query, rt.replans.Add(1))
}

// span is a context for reads on one slave, which can be cancelled apart from the caller's. It is not cancelled when a read returns, since its rows
// would be lost: it ends with its parent, which remembers it until then. So one serves many reads where that is possible; one that does not ends with its rows.
type span struct {
	parent context.Context
	done   <-chan struct{} // the parent's, which a framework may use again for another request
	server *cluster.Server
	ctx    context.Context
	cancel context.CancelFunc
	shared bool

	reading *reading // if it is for a single read, and the parent may last
}

// spanOf returns the span of reads on server with a context: that of its request, or without one that of whoever uses the context; or one of its own for
// a single read, if the place is taken by one that has not ended.
func (g *group) spanOf(rt *router, ctx context.Context, server *cluster.Server) *span {
	var place *atomic.Pointer[span]
	v := reflect.ValueOf(ctx)
	comparable := v.Kind() == reflect.Pointer
	if s := lookup(ctx).of(rt); s != nil && s.request { // its context ends soon
		place = &s.memoryOf(g).span
	} else if comparable {
		place = &g.spans[(v.Pointer()>>6+uintptr(server.Slot()))%uintptr(len(g.spans))]
	} else if comparable = ctx == context.Background(); comparable {
		place = &g.spans[server.Slot()%len(g.spans)]
	}
	var old *span
	if comparable {
		if old = place.Load(); old != nil && old.server == server && old.parent == ctx && old.done == ctx.Done() && old.ctx.Err() == nil {
			return old
		}
	}
	s := &span{parent: ctx, done: ctx.Done(), server: server}
	if s.shared = comparable && (old == nil || old.ctx.Err() != nil); !s.shared && ctx.Done() != nil {
		s.reading = newReading(ctx, func() {})
		s.ctx, s.cancel = s.reading, s.reading.kill
		return s
	}
	s.ctx, s.cancel = context.WithCancel(ctx)
	if s.shared {
		place.Store(s) // if another is just stored there, that ends with its parent as well
	}
	return s
}

// cancelled tells whether the reads were cancelled, and not by the caller.
func (s *span) cancelled() bool { return s.ctx.Err() != nil && s.parent.Err() == nil }

// watch looks after an attempt: when it takes long it asks whether the slave is alive, and cancels its span if not. They are used again, for the sake of the
// timer.
type watch struct {
	mu      sync.Mutex
	timer   *time.Timer
	timeout time.Duration
	cluster *cluster.Cluster
	server  *cluster.Server
	span    *span
	downs   uint64
	over    bool
	dead    bool
}

// newWatch is for a pool of the plugin's own: timers belong to the synctest bubble in which they were made.
func newWatch() any {
	w := new(watch)
	w.timer = time.AfterFunc(time.Hour, w.suspect)
	w.timer.Stop()
	return w
}

func (w *watch) begin(c *cluster.Cluster, server *cluster.Server, span *span, timeout time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.cluster, w.server, w.span, w.timeout, w.downs = c, server, span, timeout, server.Downs()
	w.timer.Reset(timeout)
}

// end tells whether the attempt was cancelled.
func (w *watch) end(pool *sync.Pool) (dead bool) {
	if w.timer.Stop() {
		w.mu.Lock()
		w.span = nil
		w.mu.Unlock()
		pool.Put(w)
		return false
	}
	w.mu.Lock() // it asks, or has asked; it is not used again
	defer w.mu.Unlock()
	w.over = true
	return w.dead
}

// suspect is called when the attempt has taken long, and again for as long as it does.
func (w *watch) suspect() {
	alive := w.cluster.Answers(w.server, w.downs)
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case w.over:
	case alive:
		w.timer.Reset(w.timeout)
	default:
		w.dead = true
		w.span.cancel()
	}
}

// present returns those of some slaves that take part this time: one that has just come back does not always. If none does, it tells whether the
// master shall have the read: it has had them before they came back, can have it now, and nobody insists on a slave.
func (g *group) present(view *cluster.View, servers []*cluster.Server, pools []gorm.ConnPool, now time.Time, insists bool) (_ []*cluster.Server, _ []gorm.ConnPool, spare bool) {
	var present []*cluster.Server
	var theirs []gorm.ConnPool
	for i, s := range servers {
		if share := s.Share(now); share >= 1 || rand.Float64() < share {
			present, theirs = append(present, s), append(theirs, pools[i])
		}
	}
	switch {
	case len(present) > 0:
		return present, theirs, false
	case insists, g.busy(),
		slices.ContainsFunc(servers, func(s *cluster.Server) bool { return !s.CameBackAlone() }),
		slices.ContainsFunc(view.Masters, func(m cluster.State) bool { return !m.Up }):
		return servers, pools, false
	}
	return nil, nil, true
}

// memory returns what the session of ctx remembers of g, or nil.
func (g *group) memory(rt *router, ctx context.Context) *memory {
	return lookup(ctx).of(rt).memoryOf(g)
}
