package consistency

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gorm-replicated/replicated"
	"github.com/gorm-replicated/replicated/integration/servers"
)

// TestIdlePostgreSQL has the log of an idle PostgreSQL master end beyond what its slaves can replay. Nobody
// is behind for that.
func TestIdlePostgreSQL(t *testing.T) {
	servers.Want(t, postgreSQL.kind)
	// begin opens a transaction that lasts until the test ends.
	begin := func(t *testing.T, c *servers.Cluster, query string) {
		t.Helper()
		tx, err := c.Master.DB().BeginTx(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = tx.Rollback() })
		if _, err := tx.Exec(query); err != nil {
			t.Fatal(err)
		}
	}
	for _, test := range []struct {
		name    string
		prepare func(*testing.T, *servers.Cluster)
		source  *insertLSN // in place of the plugin's own
		behind  bool       // slaves look as if they were
	}{
		{"after pg_switch_wal", switchWAL, nil, false},
		{"with an open transaction", func(t *testing.T, c *servers.Cluster) {
			begin(t, c, "SELECT count(*) FROM entries")
		}, nil, false},
		{"with an open transaction that has an id", func(t *testing.T, c *servers.Cluster) {
			begin(t, c, "SELECT pg_current_xact_id()")
		}, nil, false},
		{"with an open transaction that has written", func(t *testing.T, c *servers.Cluster) {
			begin(t, c, "INSERT INTO entries (client, n) VALUES ('open', 1)")
		}, nil, false},
		// Then what has been flushed ends with a page, in the middle of a record, and no slave can replay it
		// to there for up to 15 s.
		{"with an open transaction that has written pages", func(t *testing.T, c *servers.Cluster) {
			begin(t, c, "INSERT INTO entries (client, n) SELECT 'open', n FROM generate_series(1, 100) AS n")
		}, nil, false},
		// The control: by what has been inserted into the log, slaves are behind for good.
		{"after pg_switch_wal, by the insert LSN", switchWAL, &insertLSN{}, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := postgreSQL.cluster(t)
			a := open(t, postgreSQL, c, func(cfg *replicated.Config) {
				if cfg.Probe.Interval = 100 * time.Millisecond; test.source != nil {
					cfg.Probe.Source = test.source
				}
			})
			for try := 1; ; try++ {
				test.prepare(t, c)
				err := a.keepsUp(t, c, test.source)
				t.Logf("%v%s", cmp.Or(err, errors.New("nobody is behind")), a.state())
				if test.behind && err == nil && try < 10 {
					continue // the server itself has written on, as it does now and then
				}
				if (err != nil) != test.behind {
					t.Errorf("%v; want slaves to be behind: %v", err, test.behind)
				}
				return
			}
		})
	}
}

func switchWAL(t *testing.T, c *servers.Cluster) {
	t.Helper()
	if _, err := c.Master.DB().ExecContext(t.Context(), "SELECT pg_switch_wal()"); err != nil {
		t.Fatal(err)
	}
}

// keepsUp returns an error if slaves look behind: if no new round finds them to have all that the master has,
// if readers are sent to the master, or if no slave covers a token. A source counts the rounds: with one, it
// takes several rounds that find a slave behind.
func (a *app) keepsUp(t *testing.T, c *servers.Cluster, source *insertLSN) error {
	t.Helper()
	// freshSince returns nil if each slave is known to have had all that the master had at some moment after
	// this one.
	freshSince := func(moment time.Time) error {
		for _, s := range c.Slaves {
			now := time.Now()
			status := a.slave(s)
			if !status.Serving || !status.LagKnown || !now.Add(-status.Lag).After(moment) || status.Reason != "" {
				return fmt.Errorf("%v: %+v, %v later", s, status, now.Sub(moment))
			}
		}
		return nil
	}
	reader := a.client(t, "reader", byCookie)
	for range 10 { // it stays so
		moment, several := time.Now(), source.after(5*len(c.Slaves))
		var behind error
		err := await(t.Context(), endless, func() error {
			p, err := reader.get(t.Context(), "nobody") // while slaves are read, the next round is soon
			if err != nil {
				return err
			}
			if !p.Slave {
				return fmt.Errorf("a read by %s (%s)", p.Server, p.Reason)
			}
			over := several() // which has to be asked before
			if behind = freshSince(moment); over {
				return nil
			}
			return behind
		})
		if err := cmp.Or(err, behind); err != nil {
			return err
		}
	}
	// The token is for the end of the log as it is: this UPDATE writes nothing.
	writer := a.client(t, "writer", byCookie)
	if _, err := writer.post(t.Context(), 0, "nothing", "201"); err != nil {
		return err
	}
	return await(t.Context(), endless, func() error {
		p, err := writer.get(t.Context(), "nobody")
		switch {
		case err != nil:
			return err
		case p.Token == "":
			return fmt.Errorf("no token")
		case !p.Slave:
			return fmt.Errorf("a read with the token by %s (%s)", p.Server, p.Reason)
		}
		return nil
	})
}

// insertLSN is a Source that people might well write, and that is wrong.
type insertLSN struct {
	asked atomic.Int64 // how often slaves were
}

// after returns what tells whether slaves have been asked n times since. Without a source it never does.
func (s *insertLSN) after(n int) func() bool {
	if s == nil {
		return func() bool { return false }
	}
	asked := s.asked.Load()
	return func() bool { return s.asked.Load() >= asked+int64(n) }
}

func (*insertLSN) MasterPosition(ctx context.Context, conn *sql.Conn) (replicated.Position, error) {
	return lsn(ctx, conn, "SELECT (pg_current_wal_insert_lsn() - '0/0')::bigint")
}

func (s *insertLSN) SlavePosition(ctx context.Context, conn *sql.Conn) (replicated.Position, error) {
	defer s.asked.Add(1)
	return lsn(ctx, conn, "SELECT (pg_last_wal_replay_lsn() - '0/0')::bigint")
}

func lsn(ctx context.Context, conn *sql.Conn, query string) (replicated.Position, error) {
	var n uint64
	err := conn.QueryRowContext(ctx, query).Scan(&n)
	return replicated.Sequence("wal", n), err
}
