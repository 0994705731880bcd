package positions

import (
	"context"
	"database/sql"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/gorm-replicated/replicated/integration/servers"
	"github.com/gorm-replicated/replicated/internal/cluster"
	"github.com/gorm-replicated/replicated/internal/position"
)

// binlogKinds are those whose servers say what they have written themselves, and that can be written to.
func binlogKinds(t *testing.T, test func(context.Context, *testing.T, kind)) {
	for _, k := range kinds {
		if k.driver != "mysql" || k.group {
			continue
		}
		t.Run(k.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute) // so that nothing hangs
			defer cancel()
			test(ctx, t, k)
		})
	}
}

// asked returns what s says to an ordinary account, and that it says the same over another connection.
func asked(ctx context.Context, t *testing.T, k kind, s *servers.Server, master bool) position.Reading {
	t.Helper()
	var readings [2]position.Reading
	for i := range readings {
		db, err := sql.Open(k.driver, s.DSN())
		ok(t, err)
		defer db.Close()
		conn, err := db.Conn(ctx)
		ok(t, err)
		defer conn.Close()
		reader := position.NewReader(conn, k.config)
		ask := reader.Slave
		if master {
			ask = reader.Master
		}
		readings[i], err = ask(ctx)
		ok(t, err)
	}
	if readings[0].Identity == "" || readings[0].Identity != readings[1].Identity {
		t.Errorf("%v is %q, and %q", s, readings[0].Identity, readings[1].Identity)
	}
	return readings[1]
}

func exec(ctx context.Context, t *testing.T, s *servers.Server, statements ...string) {
	t.Helper()
	for _, q := range statements {
		if _, err := s.DB().ExecContext(ctx, s.Words(q)); err != nil {
			t.Fatalf("%v: %s: %v", s, q[:min(len(q), 30)], err)
		}
	}
}

// promote makes a slave a master that does not replicate.
func promote(ctx context.Context, t *testing.T, s *servers.Server) {
	t.Helper()
	exec(ctx, t, s, "STOP SLAVE", "RESET SLAVE ALL", "GRANT REPLICATION SLAVE ON *.* TO test@'%'")
}

// attach makes the former master a slave of another, as its manual says.
func attach(ctx context.Context, t *testing.T, k kind, former, master *servers.Server) {
	t.Helper()
	option := "MASTER_AUTO_POSITION=1"
	if k.name == "MariaDB" {
		var pos string
		ok(t, former.DB().QueryRowContext(ctx, "SELECT @@GLOBAL.gtid_binlog_pos").Scan(&pos))
		exec(ctx, t, former, fmt.Sprintf("SET GLOBAL gtid_slave_pos='%s'", pos))
		option = "MASTER_USE_GTID=slave_pos"
	}
	exec(ctx, t, former,
		fmt.Sprintf("CHANGE MASTER TO MASTER_HOST='127.0.0.1', MASTER_PORT=%d, MASTER_USER='test', "+
			"MASTER_PASSWORD='%s', MASTER_CONNECT_RETRY=1, %s", master.Port(), password(t, k, master), option),
		"START SLAVE")
}

// follows waits until slave has all that master has.
func follows(ctx context.Context, t *testing.T, k kind, slave, master *servers.Server) {
	t.Helper()
	want := asked(ctx, t, k, master, true).Position
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for !asked(ctx, t, k, slave, false).Position.Covers(want) {
		if ctx.Err() != nil {
			t.Fatalf("%v has not replayed %v", slave, want)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// TestWhatIsErrant asks servers what they have written themselves, and holds that against what their master
// has.
func TestWhatIsErrant(t *testing.T) {
	binlogKinds(t, func(ctx context.Context, t *testing.T, k kind) {
		c, err := k.start(ctx, servers.Config{Slaves: 2})
		servers.Check(t, err)
		t.Cleanup(func() { ok(t, c.Close()) })
		exec(ctx, t, c.Master, "CREATE TABLE test.notes (id INT PRIMARY KEY)", "INSERT INTO test.notes VALUES (1)")
		ok(t, c.CatchUp(ctx))
		master := asked(ctx, t, k, c.Master, true)
		if !master.Own.Known() {
			t.Error("the master has written nothing")
		}
		for _, s := range c.Slaves {
			r := asked(ctx, t, k, s, false)
			if r.Own.Known() || r.Identity == master.Identity || !r.Writable {
				t.Errorf("%v, to which nobody wrote: %+v", s, r)
			}
		}
		if a, b := asked(ctx, t, k, c.Slaves[0], false).Identity,
			asked(ctx, t, k, c.Slaves[1], false).Identity; a == b {
			t.Errorf("both slaves are %q", a)
		}

		exec(ctx, t, c.Slaves[0], "INSERT INTO test.notes VALUES (100)")
		astray := asked(ctx, t, k, c.Slaves[0], false)
		own, err := c.Slaves[0].OwnTransactions(ctx)
		ok(t, err)
		errant := position.Errant(astray.Own, master)
		if len(own) != 1 || !strings.HasPrefix(own[0], errant.String()+":") {
			t.Errorf("it has %q, errant are %v", own, errant)
		}
		exec(ctx, t, c.Master, "INSERT INTO test.notes VALUES (2)", "INSERT INTO test.notes VALUES (3)")
		master = asked(ctx, t, k, c.Master, true)
		if errant := position.Errant(astray.Own, master); !errant.Known() {
			t.Errorf("%v is no longer errant, the master is at %v", astray.Own, master.Position)
		}
	})
}

// TestOldMasterIsNotErrant promotes a slave and attaches its former master.
func TestOldMasterIsNotErrant(t *testing.T) {
	binlogKinds(t, func(ctx context.Context, t *testing.T, k kind) {
		for _, updates := range []string{"ON", "OFF"} {
			t.Run("log_slave_updates "+updates, func(t *testing.T) {
				c, err := k.start(ctx, servers.Config{Slaves: 1,
					SlaveOptions: []string{"--log-slave-updates=" + updates}})
				servers.Check(t, err)
				t.Cleanup(func() { ok(t, c.Close()) })
				former, latter := c.Master, c.Slaves[0]
				exec(ctx, t, former, "CREATE TABLE test.notes (id INT PRIMARY KEY)", "INSERT INTO test.notes VALUES (1)")
				ok(t, c.CatchUp(ctx))
				promote(ctx, t, latter)
				attach(ctx, t, k, former, latter)
				for i := range 3 {
					exec(ctx, t, latter, fmt.Sprintf("INSERT INTO test.notes VALUES (%d)", 10+i))
					follows(ctx, t, k, former, latter)
					slave, master := asked(ctx, t, k, former, false), asked(ctx, t, k, latter, true)
					if errant := position.Errant(slave.Own, master); !slave.Own.Known() || errant.Known() {
						t.Errorf("it wrote %v, of which errant is %v: %+v", slave.Own, errant, master.Origins)
					}
				}

				// The control: what the former master has that the latter never got.
				exec(ctx, t, former, "INSERT INTO test.notes VALUES (1000)")
				if errant := position.Errant(asked(ctx, t, k, former, false).Own,
					asked(ctx, t, k, latter, true)); !errant.Known() {
					t.Error("what was written to it since is not errant")
				}
			})
		}
	})
}

// TestLostCommitIsErrant promotes a slave that does not have all that its master wrote.
func TestLostCommitIsErrant(t *testing.T) {
	binlogKinds(t, func(ctx context.Context, t *testing.T, k kind) {
		c, err := k.start(ctx, servers.Config{Slaves: 1})
		servers.Check(t, err)
		t.Cleanup(func() { ok(t, c.Close()) })
		former, latter := c.Master, c.Slaves[0]
		exec(ctx, t, latter, "STOP SLAVE")
		exec(ctx, t, former, "CREATE TABLE test.lost (id INT PRIMARY KEY)")
		promote(ctx, t, latter)
		exec(ctx, t, latter, "CREATE TABLE test.notes (id INT PRIMARY KEY)", "INSERT INTO test.notes VALUES (1)")
		slave, master := asked(ctx, t, k, former, false), asked(ctx, t, k, latter, true)
		own := slave.Own // MariaDB tells the last of them only
		if k.name != "MariaDB" {
			var err error
			own, err = position.ParseMySQL(strings.Replace(slave.Own.String(), ":1-", ":", 1))
			ok(t, err)
		}
		if errant := position.Errant(slave.Own, master); errant.String() != own.String() {
			t.Errorf("errant is %v of %v, want %v", errant, slave.Own, own)
		}
	})
}

// roles watches these servers as if they were the master and the slaves, in that order.
func roles(ctx context.Context, t *testing.T, k kind, c *servers.Cluster,
	all ...*servers.Server) *cluster.Cluster {
	t.Helper()
	as := *c
	as.Master, as.Slaves = all[0], all[1:]
	return watch(ctx, t, k, &as, cluster.Monitoring{Interval: 100 * time.Millisecond,
		MinInterval: 10 * time.Millisecond})
}

// out tells whether slave i is not in the view for that reason, and all others are.
func out(i int, reason string) func(*cluster.View) bool {
	return func(v *cluster.View) bool {
		var others []int
		for j := range v.All {
			if j != i {
				others = append(others, j)
			}
		}
		return have(others...)(v) && !v.All[i].Up && strings.HasPrefix(v.All[i].Reason, reason)
	}
}

// stays fails if is does not hold for a while.
func stays(t *testing.T, c *cluster.Cluster, is func(*cluster.View) bool) {
	t.Helper()
	for end := time.Now().Add(maxLag / 2); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if v := c.View(); !is(v) {
			t.Fatalf("not for long: %s", describe(v))
		}
	}
}

const diverged = "has diverged: it takes writes, and has transactions of its own ("

// TestDivergedSlaveIsNotRead writes to slaves.
func TestDivergedSlaveIsNotRead(t *testing.T) {
	binlogKinds(t, func(ctx context.Context, t *testing.T, k kind) {
		c, err := k.start(ctx, servers.Config{Slaves: 2})
		servers.Check(t, err)
		t.Cleanup(func() { ok(t, c.Close()) })
		exec(ctx, t, c.Master, "CREATE TABLE test.notes (id INT PRIMARY KEY)")
		watched := roles(ctx, t, k, c, c.Master, c.Slaves[0], c.Slaves[1])
		await(ctx, t, watched, "all in the view, though all take writes", have(0, 1))
		stays(t, watched, have(0, 1))

		exec(ctx, t, c.Slaves[0], "INSERT INTO test.notes VALUES (100)")
		await(ctx, t, watched, "without the one", out(0, diverged))
		t.Log(watched.View().All[0].Reason)
		exec(ctx, t, c.Master, "INSERT INTO test.notes VALUES (1)", "INSERT INTO test.notes VALUES (2)")
		stays(t, watched, out(0, diverged))
		// To one that has just been started it was written before.
		again := roles(ctx, t, k, c, c.Master, c.Slaves[0], c.Slaves[1])
		stays(t, again, out(0, diverged))

		ok(t, c.Master.Kill())
		await(ctx, t, watched, "told that the master is away",
			func(v *cluster.View) bool { return !v.Masters[0].Up })
		stays(t, watched, out(0, diverged))
		// While the master is away the other one is promoted: it goes on being read.
		exec(ctx, t, c.Slaves[1], "STOP SLAVE", "INSERT INTO test.notes VALUES (200)")
		stays(t, watched, out(0, diverged))
		ok(t, c.Master.Start(ctx))
		await(ctx, t, watched, "without both", func(v *cluster.View) bool {
			return have()(v) && strings.HasPrefix(v.All[0].Reason, diverged) &&
				strings.HasPrefix(v.All[1].Reason, diverged)
		})
	})
}

// TestDivergedSlaveIsReadAgain once it takes no writes any longer.
func TestDivergedSlaveIsReadAgain(t *testing.T) {
	binlogKinds(t, func(ctx context.Context, t *testing.T, k kind) {
		c, err := k.start(ctx, servers.Config{Slaves: 1})
		servers.Check(t, err)
		t.Cleanup(func() { ok(t, c.Close()) })
		watched := roles(ctx, t, k, c, c.Master, c.Slaves[0])
		await(ctx, t, watched, "all in the view", have(0))
		exec(ctx, t, c.Slaves[0], "CREATE TABLE test.astray (id INT PRIMARY KEY)")
		await(ctx, t, watched, "without it", out(0, diverged))
		exec(ctx, t, c.Slaves[0], "SET GLOBAL read_only = ON")
		await(ctx, t, watched, "all in the view", have(0))
	})
}

// TestRolesChange has a slave become the master, and the master a slave.
func TestRolesChange(t *testing.T) {
	binlogKinds(t, func(ctx context.Context, t *testing.T, k kind) {
		c, err := k.start(ctx, servers.Config{Slaves: 2})
		servers.Check(t, err)
		t.Cleanup(func() { ok(t, c.Close()) })
		former, latter := c.Master, c.Slaves[0]
		exec(ctx, t, former, "CREATE TABLE test.notes (id INT PRIMARY KEY)", "INSERT INTO test.notes VALUES (1)")
		ok(t, c.CatchUp(ctx))
		promote(ctx, t, latter)
		attach(ctx, t, k, former, latter)
		exec(ctx, t, latter, "INSERT INTO test.notes VALUES (2)")
		follows(ctx, t, k, former, latter)
		watched := roles(ctx, t, k, c, latter, former, latter)
		await(ctx, t, watched, "with the former master, without the new one",
			out(1, "is the master: the same server as "))
		stays(t, watched, func(v *cluster.View) bool { return have(0)(v) && v.All[0].Reason == "" })
	})
}

// TestPromotedStandbyIsNotRead promotes one of two standbys.
func TestPromotedStandbyIsNotRead(t *testing.T) {
	for _, k := range kinds {
		if k.driver != "pgx" {
			continue
		}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute) // so that nothing hangs
		defer cancel()
		c, err := k.start(ctx, servers.Config{Slaves: 2})
		servers.Check(t, err)
		t.Cleanup(func() { ok(t, c.Close()) })
		watched := roles(ctx, t, k, c, c.Master, c.Slaves[0], c.Slaves[1])
		await(ctx, t, watched, "all in the view", have(0, 1))
		exec(ctx, t, c.Slaves[0], "SELECT pg_promote()")
		await(ctx, t, watched, "without the one",
			out(0, "not a slave: not in recovery: promoted, or never a standby"))
		stays(t, watched, out(0, "not a slave: "))
	}
}
