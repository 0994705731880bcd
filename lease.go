package replicated

import (
	"context"
	"database/sql"
	"errors"
	"sync"

	"github.com/gorm-replicated/replicated/internal/cluster"
	"github.com/gorm-replicated/replicated/internal/rowsctx"
)

// ErrMasterBusy is the error of a read for which there was no slave while Failover.MaxOnMaster others ran
// on the master for the same reason. Nothing was executed.
var ErrMasterBusy = errors.New(
	"replicated: no slave serves, and the master is busy with reads that fell back to it")

// busy tells whether no more reads may fall back to the master.
func (g *group) busy() bool {
	return g.maxOnMaster > 0 && g.onMaster.Load() >= int64(g.maxOnMaster)
}

// lease lets one read fall back to the master, until its rows are closed or its transaction ends.
type lease struct {
	*rowsctx.Single
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
	l.Single = rowsctx.NewSingle(ctx, l.end)
	return l, nil
}

// end ends the lease. It may be called in the middle of the closing of rows, after which the connection can
// be closed.
func (l *lease) end() {
	l.ended.Do(func() {
		l.group.onMaster.Add(-1)
		if l.Single != nil {
			l.Forget()
		}
		if l.conn != nil {
			go l.conn.Close()
		}
	})
}

// endWithRows ends the lease when the rows are closed, or the transaction ends.
func (l *lease) endWithRows() {
	if l.HandOver() {
		return
	}
	go func() { // database/sql has become another one; but it says that this waits for them
		_ = l.conn.Close()
		l.end()
	}()
}
