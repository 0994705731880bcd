package replicated

import (
	"context"
	"database/sql"
	"errors"
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

// lease lets one read fall back to the master, until its rows are closed. database/sql tells nobody when that is. But a connection can only be closed
// when they are: so the read gets one of its own, conn. That is noticed a moment late, in another goroutine, and who reads one thing after the other
// would be in his own way; so the lease is also the context of the read, from which database/sql derives one that it ends with the rows.
type lease struct {
	context.Context
	group *group
	conn  *sql.Conn // nil if the master's pool is not database/sql's: then the lease ends with the call
	ended sync.Once

	mu       sync.Mutex
	done     chan struct{}
	detach   func() bool // from the caller's context
	derived  int         // contexts that have not ended
	returned bool        // the rows are with the caller
}

// lease returns one for a read on the master, or ErrMasterBusy.
func (g *group) lease(ctx context.Context, master *cluster.Server) (*lease, error) {
	if g.onMaster.Add(1) > int64(g.maxOnMaster) {
		g.onMaster.Add(-1)
		return nil, ErrMasterBusy
	}
	l := &lease{Context: ctx, group: g, done: make(chan struct{})}
	l.detach = context.AfterFunc(ctx, func() { close(l.done) })
	if db, ok := master.Pool.(*sql.DB); ok {
		var err error
		if l.conn, err = db.Conn(ctx); err != nil {
			l.end()
			return nil, err
		}
	}
	return l, nil
}

// end ends the lease. The connection is given back as soon as nobody reads from it.
func (l *lease) end() {
	l.uncount()
	if l.conn != nil {
		_ = l.conn.Close()
	}
}

func (l *lease) uncount() {
	l.ended.Do(func() {
		l.detach()
		l.group.onMaster.Add(-1)
	})
}

// watch ends the lease when the rows are closed, or the transaction.
func (l *lease) watch() {
	l.mu.Lock()
	l.returned = true
	l.mu.Unlock()
	go func() {
		_ = l.conn.Close() // waits for them
		l.uncount()
	}()
}

// Done is a channel of the lease's own: otherwise package context would take the caller's context for the one to derive from.
func (l *lease) Done() <-chan struct{} { return l.done }

// AfterFunc is what package context calls to derive a context from this one; it calls what that returns when the derived one ends.
func (l *lease) AfterFunc(f func()) func() bool {
	l.mu.Lock()
	l.derived++
	l.mu.Unlock()
	forget := context.AfterFunc(l.Context, f)
	var once sync.Once
	return func() bool {
		once.Do(func() {
			l.mu.Lock()
			l.derived--
			over := l.returned && l.derived == 0
			l.mu.Unlock()
			if over {
				l.uncount()
			}
		})
		return forget()
	}
}
