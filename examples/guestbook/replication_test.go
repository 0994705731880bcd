package main

import (
	"context"
	"database/sql"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/glebarez/sqlite"

	"github.com/gorm-replicated/replicated"
)

// start runs a master and two slaves.
func start(t *testing.T) (*replication, *sql.DB) {
	t.Helper()
	r, err := startReplication(t.TempDir(), 2)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	return r, open(t, r.MasterDSN())
}

// still makes a master and one slave whose replay is called by the test, not by run.
func still(t *testing.T) (s *slave, master *sql.DB) {
	t.Helper()
	dir := t.TempDir()
	master, err := createFile(masterDSN(dir), masterSchema)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { master.Close() })
	db, err := createFile(fileDSN(slavePath(dir, 0)), slaveSchema)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	if s, err = newSlave("slave-1", master, db); err != nil {
		t.Fatal(err)
	}
	return s, master
}

func open(t *testing.T, dsn string) *sql.DB {
	t.Helper()
	db, err := sql.Open(sqlite.DriverName, dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

func exec(t *testing.T, db *sql.DB, query string, args ...any) {
	t.Helper()
	if _, err := db.Exec(query, args...); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
}

func sign(t *testing.T, master *sql.DB, message string) {
	t.Helper()
	exec(t, master, "INSERT INTO guestbook_entries (name, message, created_at) VALUES ('Ada', ?, ?)",
		message, time.Now())
}

// contents is a table as text, a line for each entry.
func contents(t *testing.T, db *sql.DB) []string {
	t.Helper()
	rows, err := db.Query(
		"SELECT id || '|' || name || '|' || message || '|' || created_at FROM guestbook_entries ORDER BY id")
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	var lines []string
	for rows.Next() {
		var line string
		if err := rows.Scan(&line); err != nil {
			t.Fatal(err)
		}
		lines = append(lines, line)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return lines
}

// logged is the time that the log has for its last row.
func logged(t *testing.T, master *sql.DB) time.Time {
	t.Helper()
	var ms int64
	if err := master.QueryRow("SELECT at FROM log ORDER BY seq DESC LIMIT 1").Scan(&ms); err != nil {
		t.Fatal(err)
	}
	return time.UnixMilli(ms)
}

func await(t *testing.T, r *replication) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if err := r.Await(ctx); err != nil {
		t.Fatal(err)
	}
}

func TestSlavesBecomeWhatTheMasterIs(t *testing.T) {
	r, master := start(t)
	for _, message := range []string{
		"plain", "", "it's", `back\slash "quoted"`, "two\nlines", "a?b:c@d$e; DROP TABLE guestbook_entries; --",
		"emoji 🙂, ümläut, 中文", "'; DELETE FROM guestbook_entries; --", "%s %d",
	} {
		sign(t, master, message)
	}
	exec(t, master, "UPDATE guestbook_entries SET message = 'changed', id = 100 WHERE message = 'plain'")
	exec(t, master, "DELETE FROM guestbook_entries WHERE message = ''")
	exec(t, master, "INSERT INTO guestbook_entries (name, message, created_at) "+
		"SELECT name, message, created_at FROM guestbook_entries")
	r.Written()
	await(t, r)
	want := contents(t, master)
	if len(want) != 16 {
		t.Fatalf("the master has %d entries, want 16", len(want))
	}
	for i, dsn := range r.SlaveDSNs() {
		if got := contents(t, open(t, dsn)); !slices.Equal(got, want) {
			t.Errorf("%s has\n%s\nwant\n%s", slaveName(i), strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	}
}

// Whenever one looks, a slave has a beginning of the master's history: no gap, nothing twice, nothing early.
func TestReplayKeepsTheOrder(t *testing.T) {
	r, master := start(t)
	const writers, each = 4, 60
	var writing sync.WaitGroup
	for w := range writers {
		writing.Go(func() {
			for i := range each {
				_, err := master.Exec("INSERT INTO guestbook_entries (name, message, created_at) VALUES (?, ?, ?)",
					fmt.Sprint(w), fmt.Sprint(i), time.Now())
				if err != nil {
					t.Error(err)
					return
				}
				r.Written()
			}
		})
	}
	replica := open(t, r.SlaveDSNs()[0])
	s := r.Slave("slave-1")
	for target := int64(1); target <= writers*each; target += 20 {
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		err := s.await(ctx, target)
		cancel()
		if err != nil {
			t.Fatal(err)
		}
		var n, last int
		if err := replica.QueryRow("SELECT count(*), max(id) FROM guestbook_entries").Scan(&n, &last); err != nil {
			t.Fatal(err)
		}
		if n != last || n < int(target) {
			t.Fatalf("after position %d: %d entries, the last is number %d", target, n, last)
		}
	}
	writing.Wait()
	await(t, r)
	if got, want := contents(t, replica), contents(t, master); !slices.Equal(got, want) {
		t.Errorf("slave-1 differs from the master: %d entries, want %d", len(got), len(want))
	}
}

func TestReplayWaitsForTheLag(t *testing.T) {
	s, master := still(t)
	s.lag = 2 * time.Second
	sign(t, master, "first")
	at := logged(t, master)

	wait, more, err := s.replay(t.Context(), at.Add(1500*time.Millisecond))
	if wait != 500*time.Millisecond || !more || err != nil {
		t.Errorf("half a second early: wait %v, more %v, error %v; want 500ms, true, none", wait, more, err)
	}
	if got := contents(t, s.db); len(got) != 0 {
		t.Errorf("half a second early: the slave has %q", got)
	}
	wait, more, err = s.replay(t.Context(), at.Add(2*time.Second))
	if wait != 0 || more || err != nil {
		t.Errorf("in time: wait %v, more %v, error %v; want 0, false, none", wait, more, err)
	}
	if got := contents(t, s.db); len(got) != 1 {
		t.Errorf("in time: the slave has %q, want one entry", got)
	}
}

// A row that is not due holds back those after it, even when the clock has jumped back in between.
func TestReplayNeverOvertakes(t *testing.T) {
	s, master := still(t)
	s.lag = time.Second
	for _, message := range []string{"first", "second", "third"} {
		sign(t, master, message)
	}
	now := time.Now().Add(time.Minute)
	exec(t, master, "UPDATE log SET at = ? WHERE seq = 2", now.Add(time.Hour).UnixMilli())
	if _, more, err := s.replay(t.Context(), now); !more || err != nil {
		t.Errorf("more %v, error %v; want true, none", more, err)
	}
	if got := contents(t, s.db); len(got) != 1 || !strings.Contains(got[0], "first") {
		t.Errorf("the slave has %q, want the first entry only", got)
	}
}

func TestReplayTakesABatchAtATime(t *testing.T) {
	s, master := still(t)
	for range replayBatch + 1 {
		sign(t, master, "many")
	}
	now := time.Now().Add(time.Second)
	if wait, more, err := s.replay(t.Context(), now); wait != 0 || !more || err != nil ||
		s.position != replayBatch {
		t.Errorf("first batch: wait %v, more %v, error %v, position %d", wait, more, err, s.position)
	}
	if _, more, err := s.replay(t.Context(), now); more || err != nil || s.position != replayBatch+1 {
		t.Errorf("second batch: more %v, error %v, position %d", more, err, s.position)
	}
}

func TestReplayGoesOnWhereItStopped(t *testing.T) {
	s, master := still(t)
	now := time.Now().Add(time.Minute)
	sign(t, master, "first")
	if _, _, err := s.replay(t.Context(), now); err != nil {
		t.Fatal(err)
	}
	sign(t, master, "second")
	again, err := newSlave("slave-1", master, s.db)
	if err != nil {
		t.Fatal(err)
	}
	if again.position != 1 {
		t.Errorf("a new process begins at position %d, want 1", again.position)
	}
	if _, _, err := again.replay(t.Context(), now); err != nil {
		t.Fatal(err)
	}
	if got, want := contents(t, s.db), contents(t, master); !slices.Equal(got, want) {
		t.Errorf("the slave has %q, want %q", got, want)
	}
}

func TestReplayIsAllOrNothing(t *testing.T) {
	s, master := still(t)
	sign(t, master, "first")
	sign(t, master, "second")
	exec(t, s.db, "INSERT INTO guestbook_entries VALUES (2, 'x', 'in the way', '')")
	if _, _, err := s.replay(t.Context(), time.Now().Add(time.Minute)); err == nil {
		t.Fatal("no error although entry 2 is there already")
	}
	if status := s.Status(); status.Position != 0 || status.Err == nil {
		t.Errorf("position %d, error %v; want 0 and an error", status.Position, status.Err)
	}
	if got := contents(t, s.db); len(got) != 1 {
		t.Errorf("the slave has %q, want what it had", got)
	}
	exec(t, s.db, "DELETE FROM guestbook_entries")
	if _, _, err := s.replay(t.Context(), time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	if status := s.Status(); status.Position != 2 || status.Err != nil {
		t.Errorf("position %d, error %v; want 2 and none", status.Position, status.Err)
	}
}

func TestRolledBackWorkIsNotReplayed(t *testing.T) {
	s, master := still(t)
	tx, err := master.Begin()
	if err != nil {
		t.Fatal(err)
	}
	_, err = tx.Exec("INSERT INTO guestbook_entries (name, message, created_at) VALUES ('Ada', 'never', '')")
	if err != nil {
		t.Fatal(err)
	}
	if err := tx.Rollback(); err != nil {
		t.Fatal(err)
	}
	sign(t, master, "stays")
	if _, _, err := s.replay(t.Context(), time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	if got, want := contents(t, s.db), contents(t, master); !slices.Equal(got, want) {
		t.Errorf("the slave has %q, want %q", got, want)
	}
}

func TestAStoppedSlaveAnswersAndDoesNotChange(t *testing.T) {
	r, master := start(t)
	stopped := r.Slave("slave-1")
	stopped.Stop()
	sign(t, master, "first")
	r.Written()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if err := r.Slave("slave-2").await(ctx, 1); err != nil {
		t.Fatal(err)
	}
	// The other slave's having it is no proof; that replay itself refuses is.
	if _, more, err := stopped.replay(ctx, time.Now().Add(time.Hour)); more || err != nil {
		t.Errorf("stopped: more %v, error %v; want false, none", more, err)
	}
	if got := contents(t, open(t, r.SlaveDSNs()[0])); len(got) != 0 {
		t.Errorf("stopped: the slave has %q", got)
	}
	status, err := r.Status(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if !status[0].Stopped || status[0].Behind != 1 || status[1].Stopped || status[1].Behind != 0 {
		t.Errorf("status %+v; want slave-1 stopped and 1 behind, slave-2 neither", status)
	}
	stopped.Start()
	await(t, r)
}

// The loop itself: woken by a write, it comes back when the row is due, and not before.
func TestRunRespectsTheLag(t *testing.T) {
	r, master := start(t)
	const lag = 80 * time.Millisecond
	for _, s := range r.slaves {
		s.SetLag(lag)
	}
	sign(t, master, "first")
	at := logged(t, master)
	r.Written()
	await(t, r)
	if took := time.Since(at); took < lag {
		t.Errorf("replayed after %v, before the lag of %v was over", took, lag)
	}
}

func TestANewLagHoldsForWhatIsWaiting(t *testing.T) {
	r, master := start(t)
	for _, s := range r.slaves {
		s.SetLag(time.Hour)
	}
	sign(t, master, "first")
	r.Written()
	for _, s := range r.slaves {
		if got := s.Status().Position; got != 0 {
			t.Errorf("%s is at position %d within the hour", s.name, got)
		}
		s.SetLag(0)
	}
	await(t, r)
}

func TestAwaitEndsWithItsContext(t *testing.T) {
	r, master := start(t)
	r.Slave("slave-2").Stop()
	sign(t, master, "first")
	r.Written()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := r.Await(ctx); err == nil {
		t.Error("Await returned although slave-2 is stopped")
	}
}

func TestTheApplicationCannotWriteOnASlave(t *testing.T) {
	r, _ := start(t)
	for _, dsn := range r.SlaveDSNs() {
		slave := open(t, dsn)
		_, err := slave.Exec("INSERT INTO guestbook_entries (name, message, created_at) VALUES ('Eve', 'hi', '')")
		if err == nil || !strings.Contains(err.Error(), "readonly") {
			t.Errorf("%s: error %v, want one about a readonly database", dsn, err)
		}
	}
}

func TestPathsInDSNs(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a b?c%d#e")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	r, err := startReplication(dir, 1)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for _, name := range []string{"master.db", "slave-1.db"} {
		if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
			t.Error(err)
		}
	}
}

// A position of the master covers what was committed before, one of a slave is there to be read, and one that
// has nothing yet has a position as well.
func TestPositions(t *testing.T) {
	r, master := start(t)
	ctx, replay, slave := t.Context(), r.Slave("slave-1"), open(t, r.SlaveDSNs()[0])
	type reader func(context.Context, *sql.Conn) (replicated.Position, error)
	position := func(db *sql.DB, read reader) replicated.Position {
		t.Helper()
		conn, err := db.Conn(ctx)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		p, err := read(ctx, conn)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	of := func() (m, s replicated.Position) {
		t.Helper()
		return position(master, positions{}.MasterPosition), position(slave, positions{}.SlavePosition)
	}
	if m, s := of(); !s.Covers(m) {
		t.Errorf("nothing written: master %v, slave %v; want them equal and known", m, s)
	}
	for n := 1; n <= 3; n++ {
		replay.Stop()
		sign(t, master, "hello")
		m, before := of()
		if before.Covers(m) {
			t.Errorf("entry %d not replayed: slave %v covers master %v", n, before, m)
		}
		replay.Start()
		r.Written()
		await(t, r)
		if m, after := of(); !after.Covers(m) || before.Covers(after) {
			t.Errorf("entry %d replayed: master %v, slave %v, before %v", n, m, after, before)
		}
		if got := contents(t, slave); len(got) != n {
			t.Errorf("a slave at %v has %q, want %d entries", position(slave, positions{}.SlavePosition), got, n)
		}
	}
	conn, err := slave.Conn(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if p, err := (positions{}).MasterPosition(ctx, conn); err == nil {
		t.Errorf("position %v of a file without a log, want an error", p)
	}
}
