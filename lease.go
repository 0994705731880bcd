package replicated

import (
	"context"
	"database/sql"
	"errors"
	"slices"
	"sync"

	"github.com/gorm-replicated/replicated/internal/cluster"
)

// ErrMasterBusy is the error of a read for which there was no slave while Failover.MaxOnMaster others ran on the master for the same reason.
// Nothing was executed.
var ErrMasterBusy = errors.New("replicated: no slave serves, and the master is busy with reads that fell back to it")

// busy tells whether no more reads may fall back to the master.
func (g *group) busy() bool {
	return g.maxOnMaster > 0 && g.onMaster.Load() >= int64(g.maxOnMaster)
}

// lease lets one read fall back to the master, until its rows are closed or its transaction ends.
type lease struct {
	*reading
	group *group
	conn  *sql.Conn // nil if the master's pool is not database/sql's: then the lease ends with the call
	ended sync.Once
}

// lease returns one for a read on the master, or ErrMasterBusy.
func (g *group) lease(ctx context.Context, master *cluster.Server) (*lease, error) {
	if g.onMaster.Add(1) > int64(g.maxOnMaster) {
		g.onMaster.Add(-1)
		return nil, ErrMasterBusy
	}
	l := &lease{group: g}
	if db, ok := master.Pool.(*sql.DB); ok {
		var err error
		if l.conn, err = db.Conn(ctx); err != nil {
			l.end()
			return nil, err
		}
	}
	l.reading = newReading(ctx, l.end)
	return l, nil
}

// end ends the lease. It may be called in the middle of the closing of rows, after which the connection can be closed.
func (l *lease) end() {
	l.ended.Do(func() {
		l.group.onMaster.Add(-1)
		if l.reading != nil {
			l.forget()
		}
		if l.conn != nil {
			go l.conn.Close()
		}
	})
}

// watch ends the lease when the rows are closed, or the transaction.
func (l *lease) watch() {
	if l.handOver() {
		return
	}
	go func() { // database/sql has become another one; but it says that this waits for them
		_ = l.conn.Close()
		l.end()
	}()
}

// reading is the context of a read that can be cancelled apart from the caller's, and tells when its rows are closed or its transaction ends. Nothing in
// database/sql says so; but it derives a context for them, which it ends then, and a context hears of those that are derived from it.
// At that moment the reading forgets the caller's context and is not cancelled: drivers go on to use it for COMMIT.
type reading struct {
	context.Context // the caller's
	over            func()

	forget func() bool // the caller's context
	done   chan struct{}
	ended  sync.Once // done is closed

	mu      sync.Mutex
	killed  bool
	derived []*derived // that have not ended
	handed  bool       // the rows are with the caller
}

// derived is a context that was derived from a reading.
type derived struct {
	cancel func()
	forget func() bool // the caller's context
}

// newReading returns a reading that calls over at most once.
func newReading(ctx context.Context, over func()) *reading {
	r := &reading{Context: ctx, over: over, done: make(chan struct{})}
	r.forget = context.AfterFunc(ctx, r.end)
	return r
}

func (r *reading) end() { r.ended.Do(func() { close(r.done) }) }

// kill cancels the reading.
func (r *reading) kill() {
	r.mu.Lock()
	all := r.derived
	r.killed, r.derived = true, nil
	r.mu.Unlock()
	r.forget()
	r.end()
	for _, d := range all {
		d.forget()
		go d.cancel()
	}
}

// handOver says that the rows are with the caller. It returns false if nothing will tell when they are closed.
func (r *reading) handOver() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.handed = true
	return len(r.derived) > 0
}

// Done is a channel of its own: otherwise package context would derive from the caller's context.
func (r *reading) Done() <-chan struct{} { return r.done }

func (r *reading) Err() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.killed {
		return context.Canceled
	}
	return r.Context.Err()
}

// AfterFunc is what package context calls to derive a context; it calls what that returns when the derived one ends.
func (r *reading) AfterFunc(f func()) func() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.killed {
		go f()
		return func() bool { return false }
	}
	d := &derived{cancel: f}
	d.forget = context.AfterFunc(r.Context, func() { // then nothing else tells
		f()
		r.drop(d)
	})
	r.derived = append(r.derived, d)
	return func() bool {
		r.drop(d)
		return d.forget()
	}
}

// drop says that a derived context has ended.
func (r *reading) drop(d *derived) {
	r.mu.Lock()
	i := slices.Index(r.derived, d)
	if i >= 0 {
		r.derived = slices.Delete(r.derived, i, i+1)
	}
	over := i >= 0 && r.handed && len(r.derived) == 0
	r.mu.Unlock()
	if over {
		r.forget()
		r.over()
	}
}
