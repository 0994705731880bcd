package positions

import (
	"context"
	"database/sql"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gorm-replicated/replicated/integration/servers"
	"github.com/gorm-replicated/replicated/internal/position"
)

// acknowledged counts commits that have returned. A node whose reads wait for what the cluster has committed
// has to show all that were counted when the read began.
type acknowledged struct{ n atomic.Uint64 }

func (a *acknowledged) MasterPosition(context.Context, *sql.Conn) (position.Position, error) {
	return position.Sequence("acknowledged", a.n.Add(1)), nil
}

func (a *acknowledged) SlavePosition(context.Context, *sql.Conn) (position.Position, error) {
	return position.Sequence("acknowledged", a.n.Load()), nil
}

// logged takes the end of a node's binary log for its position.
type logged struct{}

func (logged) MasterPosition(ctx context.Context, conn *sql.Conn) (position.Position, error) {
	return logged{}.SlavePosition(ctx, conn)
}

func (logged) SlavePosition(ctx context.Context, conn *sql.Conn) (position.Position, error) {
	var text string
	if err := conn.QueryRowContext(ctx, "SELECT @@GLOBAL.gtid_binlog_pos").Scan(&text); err != nil {
		return position.Position{}, err
	}
	return position.ParseMariaDB(text)
}

// TestGalera has what docs/engines.md says of Galera: nodes have no position that would prove anything, but
// their reads can wait for what the cluster has committed.
func TestGalera(t *testing.T) {
	servers.Want(t, "Galera")
	ctx, cancel := context.WithTimeout(t.Context(), time.Hour) // so that nothing hangs
	defer cancel()
	c, err := servers.StartGalera(ctx, servers.Config{Slaves: 2})
	servers.Check(t, err)
	t.Cleanup(func() { ok(t, c.Close()) })
	n := int(setting(t, "POSITIONS_COMMITS", 20_000))
	waits := kind{driver: "mysql", arg: "?", set: "SET SESSION wsrep_sync_wait = 1"}
	does := waits
	does.set = ""

	// hammer commits n rows, and checks them on both slaves.
	hammer := func(t *testing.T, table string, source position.Source, kinds ...kind) (checkers []*checker) {
		t.Helper()
		writes := kind{driver: "mysql", arg: "?", config: position.Config{Source: source}}
		l := newLedger(ctx, t, writes, c, table)
		errs := make([]error, len(kinds))
		var done sync.WaitGroup
		for i, k := range kinds {
			k.config = writes.config
			checkers = append(checkers, l.checker(ctx, t, k, c.Slaves[i]))
			done.Go(func() { errs[i] = checkers[i].run(ctx) })
		}
		err := l.write(ctx, writes, c.Master, n)
		done.Wait()
		ok(t, errors.Join(append(errs, err)...))
		for i, checker := range checkers {
			t.Logf("%v: %v", c.Slaves[i], checker)
			if checker.checked != n {
				t.Errorf("%v: %d of %d were checked", c.Slaves[i], checker.checked, n)
			}
		}
		return checkers
	}

	t.Run("a slave has no position", func(t *testing.T) {
		k := kind{driver: "mysql", config: position.Config{Dialect: "mysql"}}
		for _, s := range c.Slaves {
			if r := asked(ctx, t, k, s, false); r.Position.Known() || r.Own.Known() {
				t.Errorf("%v: %+v", s, r)
			}
		}
	})
	t.Run("reads that wait show what was committed", func(t *testing.T) {
		checkers := hammer(t, "waited", new(acknowledged), waits, does)
		if late := checkers[0].late; late > 0 {
			t.Errorf("%d rows were not visible", late)
		}
		if checkers[1].late == 0 {
			t.Error("the control: without waiting all rows were visible")
		}
	})
	t.Run("the end of the binary log", func(t *testing.T) {
		for _, checker := range hammer(t, "logged", logged{}, does, does) {
			t.Logf("%d of %d rows that it covered were not visible: it is no position", checker.late, n)
		}
	})
}
