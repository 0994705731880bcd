package positions

import (
	"context"
	"fmt"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gorm-replicated/replicated/integration/servers"
	"github.com/gorm-replicated/replicated/internal/position"
)

var (
	portOf = regexp.MustCompile(`port='?\d+'?`)
	quotes = strings.NewReplacer("'", "''")
)

const strayed = "is of another history: it has "

// TestSlaveOfALostHistoryIsNotRead promotes a slave that lacks the last commits of its master. Another slave
// has them: it is ahead of the new master, and stays another one's when that has come further.
func TestSlaveOfALostHistoryIsNotRead(t *testing.T) {
	binlogKinds(t, func(ctx context.Context, t *testing.T, k kind) {
		c, err := k.start(ctx, servers.Config{Slaves: 2})
		servers.Check(t, err)
		t.Cleanup(func() { ok(t, c.Close()) })
		former, latter, slave := c.Master, c.Slaves[0], c.Slaves[1]
		exec(ctx, t, former, "CREATE TABLE test.notes (id INT PRIMARY KEY)")
		ok(t, c.CatchUp(ctx))
		exec(ctx, t, latter, "STOP SLAVE")
		for i := range 20 {
			exec(ctx, t, former, fmt.Sprintf("INSERT INTO test.notes VALUES (%d)", i))
		}
		follows(ctx, t, k, slave, former)
		exec(ctx, t, slave, "STOP SLAVE", "SET GLOBAL read_only = ON")
		promote(ctx, t, latter)
		exec(ctx, t, latter, "INSERT INTO test.notes VALUES (100)")
		if k.name == "MariaDB" { // the control: by its number it has what was just written
			if s, m := asked(ctx, t, k, slave, false), asked(ctx, t, k, latter, true); !s.Position.Covers(m.Position) {
				t.Errorf("%v does not cover %v: then this tests nothing", s.Position, m.Position)
			}
		}
		watched := roles(ctx, t, k, c, latter, slave)
		await(ctx, t, watched, "without it", out(0, strayed))
		t.Log(watched.View().All[0].Reason)
		for i := range 40 {
			exec(ctx, t, latter, fmt.Sprintf("INSERT INTO test.notes VALUES (%d)", 200+i))
		}
		stays(t, watched, out(0, strayed))
	})
}

// TestSlaveOfARestoredMasterIsNotRead gives a MySQL master back the numbers of its last transactions, as a
// restore does.
func TestSlaveOfARestoredMasterIsNotRead(t *testing.T) {
	binlogKinds(t, func(ctx context.Context, t *testing.T, k kind) {
		if k.name == "MariaDB" {
			return // its numbers go on, as they are counted by domain: see above
		}
		c, err := k.start(ctx, servers.Config{Slaves: 1})
		servers.Check(t, err)
		t.Cleanup(func() { ok(t, c.Close()) })
		slave := c.Slaves[0]
		exec(ctx, t, c.Master, "CREATE TABLE test.notes (id INT PRIMARY KEY)")
		ok(t, c.CatchUp(ctx))
		before := asked(ctx, t, k, c.Master, true).Position
		for i := range 20 {
			exec(ctx, t, c.Master, fmt.Sprintf("INSERT INTO test.notes VALUES (%d)", i))
		}
		ok(t, c.CatchUp(ctx))
		exec(ctx, t, slave, "STOP SLAVE", "SET GLOBAL read_only = ON")
		watched := roles(ctx, t, k, c, c.Master, slave)
		await(ctx, t, watched, "with it", have(0))
		exec(ctx, t, c.Master, "RESET MASTER", fmt.Sprintf("SET GLOBAL gtid_purged = '%v'", before),
			"INSERT INTO test.notes VALUES (100)")
		written := asked(ctx, t, k, c.Master, true).Position
		if s := asked(ctx, t, k, slave, false); !s.Position.Covers(written) { // the control
			t.Errorf("%v does not cover %v: then this tests nothing", s.Position, written)
		}
		await(ctx, t, watched, "without it", out(0, strayed))
		t.Log(watched.View().All[0].Reason)
		stays(t, watched, out(0, strayed))
	})
}

// TestHealthySlavesAreNotAhead commits as fast as a master can, and compares each slave with what the master
// has next. A slave that has what the master does not show yet is no slave of another history: when asked
// again, the master has it.
func TestHealthySlavesAreNotAhead(t *testing.T) {
	for _, k := range kinds {
		t.Run(k.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute) // so that nothing hangs
			defer cancel()
			c, err := k.start(ctx, servers.Config{Slaves: 1})
			servers.Check(t, err)
			t.Cleanup(func() { ok(t, c.Close()) })
			beats := "test.beats"
			if k.driver == "pgx" {
				beats = "beats"
			}
			exec(ctx, t, c.Master, "CREATE TABLE "+beats+" (id INT PRIMARY KEY, n INT)")
			var writers sync.WaitGroup
			writing, stop := context.WithCancel(ctx)
			defer stop()
			for i := range 4 {
				exec(ctx, t, c.Master, fmt.Sprintf("INSERT INTO %s VALUES (%d, 0)", beats, i))
				writers.Go(func() {
					for writing.Err() == nil {
						_, _ = c.Master.DB().ExecContext(ctx, fmt.Sprintf("UPDATE %s SET n = n + 1 WHERE id = %d", beats, i))
					}
				})
			}
			ask := func(s *servers.Server, master bool) func() position.Reading {
				conn, err := s.DB().Conn(ctx)
				ok(t, err)
				t.Cleanup(func() { _ = conn.Close() })
				reader := position.NewReader(conn, k.config)
				return func() position.Reading {
					t.Helper()
					read := reader.Slave
					if master {
						read = reader.Master
					}
					r, err := read(ctx)
					ok(t, err)
					return r
				}
			}
			slave, master := ask(c.Slaves[0], false), ask(c.Master, true)
			pairs, ahead, longest := 3000, 0, time.Duration(0)
			for range pairs {
				s := slave()
				m, since := master(), time.Now()
				if !position.Ahead(s, m).Known() {
					continue
				}
				ahead++
				for position.Ahead(s, m).Known() {
					if m = master(); time.Since(since) > time.Minute {
						t.Fatalf("the slave is at %v, the master at %v, since a minute", s.Position, m.Position)
					}
				}
				longest = max(longest, time.Since(since))
			}
			stop()
			writers.Wait()
			t.Logf("of %d times the slave was ahead %d times, for %v at most", pairs, ahead, longest)
			// The control: a slave that has what the master had not, when that was asked before, is ahead of that.
			before := master()
			exec(ctx, t, c.Master, "INSERT INTO "+beats+" VALUES (100, 0)")
			ok(t, c.CatchUp(ctx))
			if s := slave(); !position.Ahead(s, before).Known() {
				t.Errorf("%v is not ahead of %v", s.Position, before.Position)
			}
		})
	}
}

// TestSemiSynchronousMaster has a MySQL master wait for one slave more than there is. Until it gives up, the
// slave has what the master does not show: it is ahead, and not read, and that is over when the master shows
// it.
func TestSemiSynchronousMaster(t *testing.T) {
	binlogKinds(t, func(ctx context.Context, t *testing.T, k kind) {
		if k.name == "MariaDB" {
			return // gtid_binlog_pos has a transaction when the binary log has it
		}
		c, err := k.start(ctx, servers.Config{Slaves: 1})
		servers.Check(t, err)
		t.Cleanup(func() { ok(t, c.Close()) })
		slave := c.Slaves[0]
		exec(ctx, t, c.Master, "CREATE TABLE test.notes (id INT PRIMARY KEY)")
		ok(t, c.CatchUp(ctx))
		exec(ctx, t, c.Master, "INSTALL PLUGIN rpl_semi_sync_source SONAME 'semisync_source.so'",
			"SET GLOBAL rpl_semi_sync_source_wait_for_replica_count = 2",
			"SET GLOBAL rpl_semi_sync_source_timeout = 60000",
			"SET GLOBAL rpl_semi_sync_source_enabled = ON")
		exec(ctx, t, slave, "INSTALL PLUGIN rpl_semi_sync_replica SONAME 'semisync_replica.so'",
			"SET GLOBAL rpl_semi_sync_replica_enabled = ON", "STOP SLAVE", "SET GLOBAL read_only = ON", "START SLAVE")
		for name, clients := "", 0; clients == 0; time.Sleep(10 * time.Millisecond) {
			ok(t, c.Master.DB().QueryRowContext(ctx, "SHOW GLOBAL STATUS LIKE 'Rpl_semi_sync_source_clients'").
				Scan(&name, &clients))
		}
		watched := roles(ctx, t, k, c, c.Master, slave)
		await(ctx, t, watched, "with it", have(0))
		before := asked(ctx, t, k, c.Master, true)
		began, committed := time.Now(), make(chan error, 1)
		go func() {
			_, err := c.Master.DB().ExecContext(ctx, "INSERT INTO test.notes VALUES (1)")
			committed <- err
		}()
		await(ctx, t, watched, "without it", out(0, strayed))
		ahead := asked(ctx, t, k, slave, false)
		if position.Ahead(ahead, before).String() == "unknown" {
			t.Errorf("%v is not ahead of %v", ahead.Position, before.Position)
		}
		t.Logf("it is taken out %v after the commit began: %s", time.Since(began), watched.View().All[0].Reason)
		exec(ctx, t, c.Master, "SET GLOBAL rpl_semi_sync_source_enabled = OFF") // it waits no longer
		ok(t, <-committed)
		t.Logf("the commit took %v", time.Since(began))
		await(ctx, t, watched, "with it again", have(0))
		if m := asked(ctx, t, k, c.Master, true); position.Ahead(ahead, m).Known() {
			t.Errorf("%v is ahead of %v for good", ahead.Position, m.Position)
		}
	})
}

// TestTwoTimelinesOfOneNumber promotes two standbys of one master, neither of which hears of the other: both
// call their history timeline 2. A standby of the one that is compared with the other is found while it is
// ahead of that. While it is behind, nothing that an ordinary account is shown tells them apart:
// docs/operations.md says so.
func TestTwoTimelinesOfOneNumber(t *testing.T) {
	for _, k := range kinds {
		if k.driver != "pgx" {
			continue
		}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute) // so that nothing hangs
		defer cancel()
		c, err := k.start(ctx, servers.Config{Slaves: 3})
		servers.Check(t, err)
		t.Cleanup(func() { ok(t, c.Close()) })
		ours, theirs, standby := c.Slaves[0], c.Slaves[1], c.Slaves[2]
		exec(ctx, t, c.Master, "CREATE TABLE notes (id INT PRIMARY KEY)")
		ok(t, c.CatchUp(ctx))
		ok(t, c.Master.Kill())
		exec(ctx, t, ours, "SELECT pg_promote(true, 60)")
		exec(ctx, t, theirs, "SELECT pg_promote(true, 60)",
			fmt.Sprintf("SELECT pg_create_physical_replication_slot('slave_%d', true)", standby.ID()))
		var info string
		ok(t, standby.DB().QueryRowContext(ctx, "SHOW primary_conninfo").Scan(&info))
		info = portOf.ReplaceAllString(info, fmt.Sprintf("port=%d", theirs.Port()))
		exec(ctx, t, standby, "ALTER SYSTEM SET primary_conninfo = '"+quotes.Replace(info)+"'",
			"SELECT pg_reload_conf()")
		write := func(s *servers.Server, from, n int) {
			for i := range n {
				exec(ctx, t, s, fmt.Sprintf("INSERT INTO notes VALUES (%d)", from+i))
			}
		}
		write(theirs, 1000, 200)
		exec(ctx, t, theirs, "CHECKPOINT")
		read := func(s *servers.Server, master bool) position.Reading {
			conn, err := s.DB().Conn(ctx)
			ok(t, err)
			defer conn.Close()
			reader := position.NewReader(conn, k.config)
			ask := reader.Slave
			if master {
				ask = reader.Master
			}
			r, err := ask(ctx)
			ok(t, err)
			return r
		}
		// The account of these questions is shown the timeline that a standby receives.
		for end := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
			s, m := read(standby, false).Position, read(theirs, true).Position
			if s.Covers(m) {
				break
			} else if time.Now().After(end) {
				t.Fatalf("the standby is at %v, its master at %v", s, m)
			}
		}
		write(ours, 1, 1)
		s, m := read(standby, false), read(ours, true)
		if !s.Position.Covers(m.Position) {
			t.Fatalf("%v does not cover %v: then timelines are told apart", s.Position, m.Position)
		}
		if ahead := position.Ahead(s, m); !ahead.Known() {
			t.Errorf("%v is not ahead of %v", s.Position, m.Position)
		}
		write(ours, 2, 1000)
		if further := read(ours, true); !position.Ahead(s, further).Known() {
			t.Logf("the limit: %v covers %v, of another history, and cannot be told from one that is behind %v",
				s.Position, m.Position, further.Position)
		} else {
			t.Errorf("%v is still ahead of %v", s.Position, further.Position)
		}
	}
}
