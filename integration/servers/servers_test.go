package servers

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestCluster takes one cluster through everything that can be done to it, in an order: each step leaves it whole but
// for the last, which writes to a slave.
func TestCluster(t *testing.T) {
	ctx := t.Context()
	began := time.Now()
	c := MariaDB(t, Config{Slaves: 2})
	t.Logf("%d servers started in %v", len(c.servers()), time.Since(began).Round(time.Millisecond))
	first, second := c.Slaves[0], c.Slaves[1]
	app := open(t, c.Master)
	run(t, app, "CREATE TABLE notes (id INT PRIMARY KEY, at DATETIME(6) DEFAULT NOW(6))")

	// write adds a note on the master; sees says whether a server has it.
	notes := 0
	write := func(t *testing.T) int {
		t.Helper()
		notes++
		run(t, app, "INSERT INTO notes (id) VALUES (?)", notes)
		return notes
	}
	sees := func(t *testing.T, s *Server, note int) bool {
		t.Helper()
		var n int
		if err := s.DB().QueryRowContext(ctx, "SELECT COUNT(*) FROM test.notes WHERE id = ?", note).Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n == 1
	}
	mustSee := func(t *testing.T, note int, servers ...*Server) {
		t.Helper()
		for _, s := range servers {
			if !sees(t, s, note) {
				t.Errorf("%v does not have note %d", s, note)
			}
		}
	}

	t.Run("every server has its id and address, and the slaves are writable", func(t *testing.T) {
		seen := map[string]bool{}
		for i, s := range c.servers() {
			var id int
			var readOnly bool
			var now time.Time
			err := open(t, s).QueryRowContext(ctx, "SELECT @@server_id, @@read_only, NOW()").Scan(&id, &readOnly, &now)
			if err != nil {
				t.Fatal(err)
			}
			if id != i+1 || s.ID() != i+1 || readOnly || seen[s.Addr()] || !strings.Contains(s.DSN(), s.Addr()) {
				t.Errorf("%v at %s: ID %d, @@server_id %d, @@read_only %v, DSN %s", s, s.Addr(), s.ID(), id, readOnly, s.DSN())
			}
			if d := time.Since(now); d < -time.Minute || d > time.Minute {
				t.Errorf("%v: its time differs by %v", s, d)
			}
			seen[s.Addr()] = true
		}
	})
	t.Run("the test's account has its database and no other", func(t *testing.T) {
		if _, err := app.ExecContext(ctx, "CREATE DATABASE other"); err == nil {
			t.Error("it could create another database")
		}
	})
	t.Run("a row reaches the slaves", func(t *testing.T) {
		note := write(t)
		ok(t, c.CatchUp(ctx))
		mustSee(t, note, first, second)
	})
	t.Run("a held slave replays nothing until it is released", func(t *testing.T) {
		ok(t, first.Hold(ctx))
		note := write(t)
		ok(t, second.CatchUp(ctx))
		mustSee(t, note, second)
		if sees(t, first, note) {
			t.Error("the held slave has it")
		}
		short, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
		defer cancel()
		if err := first.CatchUp(short); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("catching up: %v, want a deadline exceeded", err)
		}
		ok(t, first.Release(ctx))
		ok(t, first.CatchUp(ctx))
		mustSee(t, note, first)
	})
	t.Run("a delayed slave replays later", func(t *testing.T) {
		ok(t, first.Delay(ctx, 2*time.Second))
		began := time.Now()
		note := write(t)
		ok(t, second.CatchUp(ctx))
		mustSee(t, note, second)
		ok(t, first.CatchUp(ctx))
		if d := time.Since(began); d < time.Second {
			t.Errorf("it had it after %v", d)
		}
		mustSee(t, note, first)
		ok(t, first.Delay(ctx, 0))
	})
	t.Run("delaying a held slave leaves it held", func(t *testing.T) {
		ok(t, first.Hold(ctx))
		ok(t, first.Delay(ctx, time.Second))
		ok(t, first.Delay(ctx, 0))
		note := write(t)
		ok(t, second.CatchUp(ctx))
		if sees(t, first, note) {
			t.Error("the held slave has it")
		}
		ok(t, first.Release(ctx))
		ok(t, c.CatchUp(ctx))
	})
	t.Run("a frozen server does not answer until it is thawed", func(t *testing.T) {
		db := open(t, first)
		ok(t, db.PingContext(ctx))
		ok(t, first.Freeze())
		for what, db := range map[string]*sql.DB{"an open connection": db, "a new one": open(t, first)} {
			short, cancel := context.WithTimeout(ctx, 200*time.Millisecond)
			var one int
			err := db.QueryRowContext(short, "SELECT 1").Scan(&one)
			cancel()
			if !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("on %s: %v, want a deadline exceeded", what, err)
			}
		}
		note := write(t)
		ok(t, first.Thaw())
		ok(t, first.CatchUp(ctx))
		mustSee(t, note, first)
	})
	t.Run("a killed slave rejoins where it was", func(t *testing.T) {
		ok(t, first.Kill())
		ok(t, first.Kill())
		if err := first.DB().PingContext(ctx); err == nil {
			t.Error("it answers")
		}
		if err := first.Freeze(); err == nil {
			t.Error("it could be frozen")
		}
		note := write(t)
		ok(t, first.Start(ctx))
		ok(t, c.CatchUp(ctx))
		mustSee(t, note, first, second)
		if err := first.Start(ctx); err == nil {
			t.Error("it could be started twice")
		}
	})
	t.Run("the slaves come back to a killed master", func(t *testing.T) {
		before := write(t)
		ok(t, c.Master.Freeze())
		ok(t, c.Master.Kill())
		ok(t, c.Master.Start(ctx))
		after := write(t)
		ok(t, c.CatchUp(ctx))
		mustSee(t, before, first, second)
		mustSee(t, after, first, second)
	})
	t.Run("a server stops cleanly, also when frozen, and starts again", func(t *testing.T) {
		ok(t, second.Freeze())
		ok(t, second.Stop(ctx))
		if err := second.proc.err; err != nil {
			t.Errorf("it ended with: %v", err)
		}
		ok(t, second.Stop(ctx))
		ok(t, second.Start(ctx))
		ok(t, c.Master.Restart(ctx))
		note := write(t)
		ok(t, c.CatchUp(ctx))
		mustSee(t, note, first, second)
	})
	t.Run("what only a slave can do is refused by the master", func(t *testing.T) {
		for what, err := range map[string]error{
			"Hold": c.Master.Hold(ctx), "Release": c.Master.Release(ctx),
			"Delay": c.Master.Delay(ctx, 0), "CatchUp": c.Master.CatchUp(ctx),
		} {
			if err == nil {
				t.Errorf("%s: no error", what)
			}
		}
		if err := first.Delay(ctx, 1500*time.Millisecond); err == nil {
			t.Error("a delay of 1.5 s was not refused")
		}
	})
	t.Run("writes that go astray are found", func(t *testing.T) {
		for _, s := range c.Slaves {
			if own, err := s.OwnTransactions(ctx); err != nil || len(own) != 0 {
				t.Fatalf("before: %v: %q, %v, want none", s, own, err)
			}
		}
		astray := open(t, second)
		run(t, astray, "INSERT INTO notes (id) VALUES (-1)")
		run(t, astray, "UPDATE notes SET at = NOW() WHERE id = -2") // changes nothing
		own, err := second.OwnTransactions(ctx)
		ok(t, err)
		if len(own) != 2 || !strings.HasPrefix(own[0], "0-3-") ||
			!strings.Contains(own[0], "VALUES (-1)") || !strings.Contains(own[1], "id = -2") {
			t.Errorf("got %q, want the two of them", own)
		}
		ok(t, second.Restart(ctx)) // the log has a new file now
		again, err := second.OwnTransactions(ctx)
		ok(t, err)
		if fmt.Sprint(again) != fmt.Sprint(own) {
			t.Errorf("after a restart: %q", again)
		}
		if own, err := first.OwnTransactions(ctx); err != nil || len(own) != 0 {
			t.Errorf("the other slave: %q, %v, want none", own, err)
		}
		// The slave now has a history of its own, and its replication stops: CatchUp says so instead of waiting.
		write(t)
		if err := second.CatchUp(ctx); err == nil || errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("catching up: %v, want the reason why it cannot", err)
		}
	})
	t.Run("Close leaves nothing, and can be called again", func(t *testing.T) {
		var pids []int
		for _, s := range c.servers() {
			pids = append(pids, s.proc.cmd.Process.Pid)
			if !alive(pids[len(pids)-1]) {
				t.Errorf("%v is not there", s)
			}
		}
		ok(t, first.Freeze())
		ok(t, c.Close())
		ok(t, c.Close())
		for _, pid := range append(pids, c.reaper.cmd.Process.Pid) {
			if alive(pid) {
				t.Errorf("process %d is there", pid)
			}
		}
		if _, err := os.Stat(c.reaper.dir); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("the folder: %v", err)
		}
		if err := first.Start(ctx); err == nil {
			t.Error("a server could be started")
		}
	})
}

func TestOptionsOfARole(t *testing.T) {
	c := MariaDB(t, Config{
		Slaves:        1,
		MasterOptions: []string{"--max-connections=21"},
		SlaveOptions:  []string{"--max-connections=22"},
	})
	for s, want := range map[*Server]int{c.Master: 21, c.Slaves[0]: 22} {
		var got int
		if err := s.DB().QueryRowContext(t.Context(), "SELECT @@max_connections").Scan(&got); err != nil || got != want {
			t.Errorf("%v: %d, %v, want %d", s, got, err, want)
		}
	}
}

func TestAServerThatCannotStartSaysWhy(t *testing.T) {
	c, err := StartMariaDB(t.Context(), Config{MasterOptions: []string{"--no-such-option"}})
	if errors.Is(err, ErrNotInstalled) {
		Check(t, err)
	}
	if err == nil {
		_ = c.Close()
		t.Fatal("it started")
	}
	if !strings.Contains(err.Error(), "no-such-option") {
		t.Errorf("%v", err)
	}
}

func TestAPortTakenByAnotherIsReplaced(t *testing.T) {
	ctx := t.Context()
	c, err := newCluster(mariaDB{}, Config{})
	ok(t, err)
	defer c.Close()
	silent, err := net.Listen("tcp", "127.0.0.1:0") // accepts, as far as the kernel goes, and says nothing
	ok(t, err)
	defer silent.Close()
	taken := silent.Addr().(*net.TCPAddr).Port
	asked := 0
	ports := func() (int, error) {
		if asked++; asked == 1 {
			return taken, nil
		}
		return freePort()
	}
	s := c.Master
	ok(t, os.Mkdir(s.dir, 0o700))
	Check(t, c.engine.install(ctx, c, s.data()))
	ok(t, s.startFirst(ctx, ports))
	if asked != 2 || s.port == taken {
		t.Errorf("it is at %d, after %d attempts", s.port, asked)
	}
	ok(t, s.DB().PingContext(ctx))
}

func TestCheck(t *testing.T) {
	_, missing := program("no-such-server", "its-package")
	const named = "servers: not installed: no-such-server (Debian has it in the package its-package)"
	for _, row := range []struct {
		name string
		err  error
		ci   string
		want string
	}{
		{"nothing missing", nil, "", ""},
		{"a program is missing", missing, "", "skip: " + named},
		{"a program is missing in CI", missing, "true", "fatal: " + named},
		{"another error", errors.New("broken"), "", "fatal: broken"},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Setenv("CI", row.ci)
			r := &recorder{TB: t}
			Check(r, row.err)
			if r.got != row.want {
				t.Errorf("got %q, want %q", r.got, row.want)
			}
		})
	}
}

func TestProgramsAreFoundWithoutPath(t *testing.T) {
	if _, err := os.Stat("/usr/sbin/mariadbd"); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skipf("it is about a program where Debian has it: %v", err)
	}
	t.Setenv("PATH", "")
	if path, err := program("mariadbd", mariaDBPackage); err != nil || path != "/usr/sbin/mariadbd" {
		t.Errorf("%q, %v", path, err)
	}
}

// recorder is a testing.TB that notes how a test would have ended.
type recorder struct {
	testing.TB
	got string
}

func (r *recorder) Skip(args ...any)  { r.got = "skip: " + fmt.Sprint(args...) }
func (r *recorder) Fatal(args ...any) { r.got = "fatal: " + fmt.Sprint(args...) }

// open returns a pool as the code under test would have it.
func open(t *testing.T, s *Server) *sql.DB {
	t.Helper()
	db, err := sql.Open("mysql", s.DSN())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

func run(t *testing.T, db *sql.DB, query string, args ...any) {
	t.Helper()
	if _, err := db.ExecContext(t.Context(), query, args...); err != nil {
		t.Fatal(err)
	}
}

func ok(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// alive says whether there is a process that has not ended: one that nobody has waited for yet has.
func alive(pid int) bool {
	if b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid)); err == nil {
		return !strings.HasPrefix(string(b[strings.LastIndexByte(string(b), ')')+1:]), " Z")
	}
	return syscall.Kill(pid, 0) == nil
}
