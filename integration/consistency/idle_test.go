package consistency

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/gorm-replicated/replicated"
	"github.com/gorm-replicated/replicated/integration/servers"
)

// TestIdlePostgreSQL has the log of an idle PostgreSQL master end beyond what its slaves can replay. Nobody is behind
// for that.
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
		source  replicated.PositionSource
		most    time.Duration // of lag
		behind  bool          // it is more
	}{
		{"after pg_switch_wal", switchWAL, nil, rounds, false},
		{"with an open transaction", func(t *testing.T, c *servers.Cluster) { begin(t, c, "SELECT count(*) FROM entries") }, nil, rounds, false},
		{"with an open transaction that has an id", func(t *testing.T, c *servers.Cluster) { begin(t, c, "SELECT pg_current_xact_id()") }, nil, rounds, false},
		{"with an open transaction that has written", func(t *testing.T, c *servers.Cluster) {
			begin(t, c, "INSERT INTO entries (client, n) VALUES ('open', 1)")
		}, nil, rounds, false},
		// Then what has been flushed ends with a page, in the middle of a record, and no slave can replay it to there for up to 15 s.
		{"with an open transaction that has written pages", func(t *testing.T, c *servers.Cluster) {
			begin(t, c, "INSERT INTO entries (client, n) SELECT 'open', n FROM generate_series(1, 100) AS n")
		}, nil, rounds, false},
		// The control: by what has been inserted into the log, slaves are behind for good.
		{"after pg_switch_wal, by the insert LSN", switchWAL, insertLSN{}, rounds, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := postgreSQL.cluster(t)
			a := open(t, postgreSQL, c, func(cfg *replicated.Config) {
				cfg.Probe.Interval, cfg.Probe.Source = rounds/5, test.source
			})
			test.prepare(t, c)
			err := a.keepsUp(t, c, test.most)
			t.Logf("%v%s", cmp.Or(err, errors.New("nobody is behind")), a.state())
			if (err != nil) != test.behind {
				t.Errorf("%v; want slaves to be behind: %v", err, test.behind)
			}
		})
	}
}

// rounds is how long some rounds take: five, at the interval that the application sets.
const rounds = 500 * time.Millisecond

func switchWAL(t *testing.T, c *servers.Cluster) {
	t.Helper()
	if _, err := c.Master.DB().ExecContext(t.Context(), "SELECT pg_switch_wal()"); err != nil {
		t.Fatal(err)
	}
}

// keepsUp returns an error if slaves look behind: if their lag is larger than most, readers are sent to the master, or a token
// is not covered after some rounds.
func (a *app) keepsUp(t *testing.T, c *servers.Cluster, most time.Duration) error {
	t.Helper()
	notBehind := func() error {
		for _, s := range c.Slaves {
			if status := a.slave(s); !status.Serving || !status.LagKnown || status.Lag > most || status.Reason != "" {
				return fmt.Errorf("%v: %+v", s, status)
			}
		}
		return nil
	}
	reader := a.client(t, "reader", byCookie)
	if err := await(t.Context(), rounds, notBehind); err != nil {
		return err
	}
	// From here on it stays so: twice as long as lag would need to show.
	for end := time.Now().Add(2 * rounds); time.Now().Before(end); pass(t.Context(), 5*time.Millisecond) {
		if err := notBehind(); err != nil {
			return err
		}
		p, err := reader.get(t.Context(), "nobody")
		if err != nil {
			return err
		}
		if !p.Slave {
			return fmt.Errorf("a read by %s (%s)", p.Server, p.Reason)
		}
	}
	// A token for the end of the log as it is: this UPDATE writes nothing.
	writer := a.client(t, "writer", byCookie)
	if _, err := writer.post(t.Context(), 0, "nothing", "201"); err != nil {
		return err
	}
	return await(t.Context(), rounds, func() error {
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
type insertLSN struct{}

func (insertLSN) MasterPosition(ctx context.Context, conn *sql.Conn) (replicated.Position, error) {
	return lsn(ctx, conn, "SELECT (pg_current_wal_insert_lsn() - '0/0')::bigint")
}

func (insertLSN) SlavePosition(ctx context.Context, conn *sql.Conn) (replicated.Position, error) {
	return lsn(ctx, conn, "SELECT (pg_last_wal_replay_lsn() - '0/0')::bigint")
}

func lsn(ctx context.Context, conn *sql.Conn, query string) (replicated.Position, error) {
	var n uint64
	err := conn.QueryRowContext(ctx, query).Scan(&n)
	return replicated.Sequence("wal", n), err
}
