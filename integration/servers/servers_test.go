package servers

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"gorm.io/driver/mysql"
	"gorm.io/driver/postgres"
	"gorm.io/gorm"
)

// kind is a kind of server that the tests run on.
type kind struct {
	name  string
	find  func() (engine, error)
	start func(context.Context, Config) (*Cluster, error)

	driver string // of database/sql
	gorm   func(dsn string) gorm.Dialector
	notes  string // the table, as Server.DB calls it
	port   string // the expression for the port of who answers
	own    func(*testing.T, *Server)
	astray func(*testing.T, kind, *Cluster)

	// group: the servers are members of a group. They apply what they receive at once, or not at all. Where
	// one dies, the others have to agree that it is gone before the next one may leave: so most of them have
	// to be there all the time.
	group bool
}

var kinds = []kind{
	{"MariaDB", func() (engine, error) { _, err := program("mariadbd", mariaDBPackage); return mariaDB{}, err },
		StartMariaDB, "mysql", mysql.Open, "test.notes", "@@port", ownOfBinlog, astrayOnBinlog, false},
	{"MySQL", func() (engine, error) { return findMySQL() },
		StartMySQL, "mysql", mysql.Open, "test.notes", "@@port", ownOfBinlog, astrayOnBinlog, false},
	{"Group Replication", func() (engine, error) { m, err := findMySQL(); return newGroupReplication(m), err },
		StartGroupReplication, "mysql", mysql.Open, "test.notes", "@@port",
		ownOfGroupReplication, astrayOnGroupReplication, true},
	{"Galera", func() (engine, error) { return findGalera() },
		StartGalera, "mysql", mysql.Open, "test.notes", "@@port", ownOfBinlog, astrayOnGalera, true},
	{"PostgreSQL", func() (engine, error) { _, err := postgreSQLBin(); return postgreSQL{}, err },
		StartPostgreSQL, "pgx", postgres.Open, "notes", "inet_server_port()",
		ownOfPostgreSQL, astrayOnPostgreSQL, false},
}

// eachKind runs a test on every kind of server.
func eachKind(t *testing.T, test func(*testing.T, kind)) {
	t.Helper()
	for _, k := range kinds {
		if !Wanted(k.name) {
			continue
		}
		t.Run(k.name, func(t *testing.T) {
			t.Parallel()
			test(t, k)
		})
	}
}

// engine skips or fails the test if the servers are not installed.
func (k kind) engine(t *testing.T) engine {
	t.Helper()
	e, err := k.find()
	Check(t, err)
	return e
}

// open returns a pool as the code under test would have it.
func (k kind) open(t *testing.T, s *Server) *sql.DB {
	t.Helper()
	db, err := sql.Open(k.driver, s.DSN())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

// TestCluster takes one cluster through everything that can be done to it, in an order: each step leaves it
// whole but for the last, in which writes go astray.
func TestCluster(t *testing.T) { eachKind(t, testCluster) }

func testCluster(t *testing.T, k kind) {
	ctx := t.Context()
	began := time.Now()
	c, err := k.start(ctx, Config{Slaves: 2})
	forTest(t, c, err)
	t.Logf("%d servers started in %v", len(c.servers()), time.Since(began).Round(time.Millisecond))
	first, second := c.Slaves[0], c.Slaves[1]
	app := k.open(t, c.Master)
	run(t, app, "CREATE TABLE notes (id INT PRIMARY KEY, at TIMESTAMP DEFAULT CURRENT_TIMESTAMP)")

	// write adds a note on the master; sees says whether a server has it.
	notes := 0
	write := func(t *testing.T) int {
		t.Helper()
		notes++
		run(t, app, fmt.Sprintf("INSERT INTO notes (id) VALUES (%d)", notes))
		return notes
	}
	sees := func(t *testing.T, s *Server, note int) bool {
		t.Helper()
		var n int
		query := fmt.Sprintf("SELECT COUNT(*) FROM %s WHERE id = %d", k.notes, note)
		if err := s.DB().QueryRowContext(ctx, query).Scan(&n); err != nil {
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

	t.Run("every server has its id and address, and tells UTC", func(t *testing.T) {
		seen := map[string]bool{}
		for i, s := range c.servers() {
			var port int
			var now time.Time
			err := k.open(t, s).QueryRowContext(ctx, "SELECT "+k.port+", LOCALTIMESTAMP").Scan(&port, &now)
			if err != nil {
				t.Fatal(err)
			}
			if s.ID() != i+1 || port != s.Port() || seen[s.Addr()] || !strings.Contains(s.DSN(), s.Addr()) ||
				!strings.HasSuffix(s.Addr(), fmt.Sprint(":", port)) {
				t.Errorf("%v at %s: ID %d, port %d, of who answers %d, DSN %s", s, s.Addr(), s.ID(), s.Port(),
					port, s.DSN())
			}
			if d := time.Since(now); now.Location() != time.UTC || d < -time.Minute || d > time.Minute {
				t.Errorf("%v: its time is %v, which differs by %v", s, now, d)
			}
			seen[s.Addr()] = true
			k.own(t, s)
		}
	})
	t.Run("GORM takes the DSN", func(t *testing.T) {
		type Visit struct {
			ID int
			At time.Time
		}
		db, err := gorm.Open(k.gorm(c.Master.DSN()))
		ok(t, err)
		pool, err := db.DB()
		ok(t, err)
		defer pool.Close()
		ok(t, db.AutoMigrate(&Visit{}))
		want := Visit{ID: 1, At: time.Date(2024, 2, 29, 23, 59, 59, 123e6, time.FixedZone("", 3600))}
		ok(t, db.Create(&want).Error)
		var got Visit
		ok(t, db.First(&got).Error)
		if got.ID != want.ID || !got.At.Equal(want.At) {
			t.Errorf("got %v, want %v", got, want)
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
		if k.group {
			if err := first.Delay(ctx, time.Second); !errors.Is(err, errors.ErrUnsupported) {
				t.Errorf("delaying a member: %v, want unsupported", err)
			}
			return
		}
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
		if k.group {
			return
		}
		ok(t, first.Hold(ctx))
		ok(t, first.Delay(ctx, 2*time.Second))
		began := time.Now()
		note := write(t)
		ok(t, second.CatchUp(ctx))
		if sees(t, first, note) {
			t.Error("the held slave has it")
		}
		ok(t, first.Release(ctx))
		ok(t, first.CatchUp(ctx))
		if d := time.Since(began); d < time.Second {
			t.Errorf("it had it after %v", d)
		}
		ok(t, first.Delay(ctx, 0))
	})
	t.Run("a slave can be held while it waits to replay", func(t *testing.T) {
		if k.group {
			return
		}
		ok(t, first.Delay(ctx, time.Hour))
		note := write(t)
		ok(t, second.CatchUp(ctx))
		ok(t, first.Hold(ctx))
		ok(t, first.Delay(ctx, 0))
		ok(t, first.Hold(ctx))
		if sees(t, first, note) {
			t.Error("the held slave has it")
		}
		ok(t, first.Release(ctx))
		ok(t, c.CatchUp(ctx))
		mustSee(t, note, first)
	})
	t.Run("a frozen server does not answer until it is thawed", func(t *testing.T) {
		db := k.open(t, first)
		ok(t, db.PingContext(ctx))
		ok(t, first.Freeze())
		for what, db := range map[string]*sql.DB{"an open connection": db, "a new one": k.open(t, first)} {
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
		ok(t, first.Thaw()) // it is not frozen
	})
	t.Run("nothing of a frozen server runs, whatever came just before", func(t *testing.T) {
		// Connections come and go.
		ctx, cancel := context.WithCancel(ctx)
		var clients sync.WaitGroup
		defer clients.Wait()
		defer cancel()
		for range 4 {
			clients.Go(func() {
				for ctx.Err() == nil {
					db, err := sql.Open(k.driver, first.DSN())
					if err != nil {
						t.Error(err)
						return
					}
					_ = db.PingContext(ctx)
					_ = db.Close()
				}
			})
		}
		for range 20 {
			ok(t, first.Freeze())
			for _, p := range tree(t, first) {
				if !p.still() {
					t.Errorf("process %d runs", p.pid)
				}
			}
			ok(t, first.Thaw())
			// Or it would never get to taking connections.
			ok(t, first.DB().PingContext(ctx))
		}
	})
	t.Run("a killed slave rejoins where it was", func(t *testing.T) {
		all := tree(t, first)
		ok(t, first.Kill())
		for _, p := range all {
			if !p.ended() {
				t.Errorf("process %d is there", p.pid)
			}
		}
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
	t.Run("a slave starts without its master", func(t *testing.T) {
		if k.group {
			return
		}
		before := write(t)
		ok(t, c.CatchUp(ctx))
		ok(t, c.Master.Kill())
		ok(t, first.Restart(ctx))
		ok(t, second.Kill())
		ok(t, second.Start(ctx))
		mustSee(t, before, first, second)
		ok(t, c.Master.Start(ctx))
		after := write(t)
		ok(t, c.CatchUp(ctx))
		mustSee(t, after, first, second)
	})
	t.Run("the master stops cleanly while a slave is frozen", func(t *testing.T) {
		if k.group {
			return
		}
		ok(t, first.Freeze())
		ok(t, c.Master.Restart(ctx))
		ok(t, first.Thaw())
		note := write(t)
		ok(t, c.CatchUp(ctx))
		mustSee(t, note, first, second)
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
		k.astray(t, k, c)
		if own, err := first.OwnTransactions(ctx); err != nil || len(own) != 0 {
			t.Errorf("the other slave: %q, %v, want none", own, err)
		}
		if k.name == "Galera" {
			return // the slave has passed it on
		}
		// The slave now has a history of its own, and its replication stops: CatchUp says so instead of waiting.
		write(t)
		if err := second.CatchUp(ctx); err == nil || errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("catching up: %v, want the reason why it cannot", err)
		}
	})
	t.Run("Close leaves nothing, and can be called again", func(t *testing.T) {
		all := []task{{pid: c.reaper.cmd.Process.Pid}}
		var memory []string
		for _, s := range c.servers() {
			all = append(all, task{pid: s.proc.cmd.Process.Pid})
			memory = append(memory, segments(t, s.data())...)
		}
		for _, p := range all {
			if p.ended() {
				t.Errorf("process %d is not there", p.pid)
			}
		}
		all = withDescendants(t, all)
		mustHaveSegments(t, k, memory, len(c.servers()))
		ok(t, first.Freeze())
		ok(t, c.Close())
		ok(t, c.Close())
		for _, p := range all {
			if !p.ended() {
				t.Errorf("process %d is there", p.pid)
			}
		}
		mustHaveNoSegments(t, memory)
		if _, err := os.Stat(c.reaper.dir); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("the folder: %v", err)
		}
		if err := first.Start(ctx); err == nil {
			t.Error("a server could be started")
		}
	})
}

// ownOfBinlog checks what only MariaDB and MySQL have.
func ownOfBinlog(t *testing.T, s *Server) {
	t.Helper()
	var id int
	var readOnly bool
	ok(t, s.DB().QueryRowContext(t.Context(), "SELECT @@server_id, @@read_only").Scan(&id, &readOnly))
	if id != s.ID() || readOnly {
		t.Errorf("%v: @@server_id %d, @@read_only %v", s, id, readOnly)
	}
}

// ownOfGroupReplication checks what only a group with a single primary has.
func ownOfGroupReplication(t *testing.T, s *Server) {
	t.Helper()
	var id int
	var state, role string
	var readOnly bool
	err := s.DB().QueryRowContext(t.Context(),
		"SELECT @@server_id, member_state, member_role, @@super_read_only "+
			"FROM performance_schema.replication_group_members WHERE member_id = @@server_uuid").
		Scan(&id, &state, &role, &readOnly)
	ok(t, err)
	want := "SECONDARY"
	if s.master == nil {
		want = "PRIMARY"
	}
	if id != s.ID() || state != "ONLINE" || role != want || readOnly != (s.master != nil) {
		t.Errorf("%v: @@server_id %d, %s, %s, @@super_read_only %v", s, id, state, role, readOnly)
	}
}

// ownOfPostgreSQL checks what only PostgreSQL has.
func ownOfPostgreSQL(t *testing.T, s *Server) {
	t.Helper()
	var standby, super bool
	err := s.DB().QueryRowContext(t.Context(), "SELECT pg_is_in_recovery(), rolsuper FROM pg_roles "+
		"WHERE rolname = current_user").Scan(&standby, &super)
	if err != nil {
		t.Fatal(err)
	}
	if standby != (s.master != nil) || !super {
		t.Errorf("%v: a standby: %v, DB a superuser: %v", s, standby, super)
	}
	for _, database := range []string{"postgres", "template1"} {
		dsn, err := url.Parse(s.DSN())
		ok(t, err)
		dsn.Path = database
		other, err := sql.Open("pgx", dsn.String())
		ok(t, err)
		defer other.Close()
		if err := other.PingContext(t.Context()); err == nil || !strings.Contains(err.Error(), "42501") {
			t.Errorf("%v: connecting to %s: %v, want insufficient privilege", s, database, err)
		}
	}
}

func astrayOnBinlog(t *testing.T, k kind, c *Cluster) {
	ctx, slave := t.Context(), c.Slaves[1]
	prefix := "0-3-"
	if k.name == "MySQL" {
		ok(t, slave.DB().QueryRowContext(ctx, "SELECT CONCAT(@@server_uuid, ':')").Scan(&prefix))
	}
	astray := k.open(t, slave)
	run(t, astray, "INSERT INTO notes (id) VALUES (-1)")
	run(t, astray, "UPDATE notes SET at = NOW() WHERE id = -2") // changes nothing
	own, err := slave.OwnTransactions(ctx)
	ok(t, err)
	if len(own) != 2 || !strings.HasPrefix(own[0], prefix) || !strings.HasPrefix(own[1], prefix) ||
		!strings.Contains(own[0], "VALUES (-1)") || !strings.Contains(own[1], "id = -2") {
		t.Errorf("got %q, want the two of them", own)
	}
	ok(t, slave.Restart(ctx)) // the log has a new file now
	again, err := slave.OwnTransactions(ctx)
	ok(t, err)
	if fmt.Sprint(again) != fmt.Sprint(own) {
		t.Errorf("after a restart: %q", again)
	}
	if k.name == "MySQL" { // which minds no history of the slave's own, but that the master's next note is there
		run(t, astray, "INSERT INTO notes (id) SELECT MAX(id) + 1 FROM notes")
	}
}

// astrayOnGroupReplication writes to a slave that has been told to take it, first as a member and then not as
// one.
func astrayOnGroupReplication(t *testing.T, k kind, c *Cluster) {
	ctx, slave := t.Context(), c.Slaves[1]
	astray := k.open(t, slave)
	if _, err := astray.ExecContext(ctx, "INSERT INTO notes (id) VALUES (-1)"); err == nil {
		t.Error("a slave takes writes")
	}
	if own, err := slave.OwnTransactions(ctx); err != nil || len(own) != 0 {
		t.Errorf("what it refused is among its own: %q, %v", own, err)
	}
	run(t, slave.DB(), "SET GLOBAL read_only = OFF") // and super_read_only
	run(t, astray, "INSERT INTO notes (id) VALUES (-1)")
	run(t, slave.DB(), "STOP GROUP_REPLICATION")
	run(t, slave.DB(), "SET GLOBAL read_only = OFF")
	run(t, astray, "INSERT INTO notes (id) SELECT MAX(id) + 1 FROM notes")
	own, err := slave.OwnTransactions(ctx)
	ok(t, err)
	if len(own) != 2 || !strings.Contains(own[0], "VALUES (-1)") || !strings.Contains(own[1], "MAX(id)") {
		t.Errorf("got %q, want the two of them", own)
	}
}

// astrayOnGalera writes to a slave, which the others then have as well.
func astrayOnGalera(t *testing.T, k kind, c *Cluster) {
	ctx, slave := t.Context(), c.Slaves[1]
	run(t, k.open(t, slave), "INSERT INTO notes (id) VALUES (-1)")
	own, err := slave.OwnTransactions(ctx)
	ok(t, err)
	if len(own) != 1 || !strings.HasPrefix(own[0], "1 ") {
		t.Errorf("got %q, want one", own)
	}
}

func astrayOnPostgreSQL(t *testing.T, k kind, c *Cluster) {
	ctx, slave := t.Context(), c.Slaves[1]
	astray := k.open(t, slave)
	for _, row := range []struct {
		name, query string
		args        []any
		code        string // with which it fails
		found       bool
	}{
		{"a statement", "INSERT INTO notes (id) VALUES (-1)", nil, "25006", true},
		{"of several lines", "INSERT INTO notes (id)\n\tVALUES\n\n(-2)\n", nil, "25006", true},
		{"with arguments", "UPDATE notes SET id = $1 WHERE id = $2", []any{1, -3}, "25006", true},
		{"a schema", "CREATE TABLE others (id INT)", nil, "25006", true},
		{"a lock", "SELECT id FROM notes FOR UPDATE", nil, "25006", true},
		{"a long one", "INSERT INTO notes (id) VALUES (-4) -- " + strings.Repeat("x", 1e6), nil, "25006", true},
		{"one that fails otherwise", "SELECT 1/0", nil, "22012", false},
		{"one that looks like the log", "SELECT 1/0 /*\n2024-02-29 23:59:59.999 UTC [1] 25006 ERROR:  no\n*/", nil,
			"22012", false},
		{"one that is none", "INSERT INTO", nil, "42601", false},
	} {
		t.Run(row.name, func(t *testing.T) {
			before, err := slave.OwnTransactions(ctx)
			ok(t, err)
			_, err = astray.ExecContext(ctx, row.query, row.args...)
			if err == nil || !strings.Contains(err.Error(), row.code) {
				t.Fatalf("%v, want SQLSTATE %s", err, row.code)
			}
			own, err := slave.OwnTransactions(ctx)
			ok(t, err)
			want := len(before)
			if row.found {
				want++
			}
			if len(own) != want {
				t.Fatalf("got %q, want %d", own, want)
			}
			const refused = " in a read-only transaction: "
			if last := want - 1; row.found && !strings.HasSuffix(own[last], refused+row.query) {
				t.Errorf("got %.1000q", own[last])
			}
		})
	}
	t.Run("each is there as soon as it was refused", func(t *testing.T) {
		var clients sync.WaitGroup
		for client := range 4 {
			clients.Go(func() {
				for n := range 25 {
					query := fmt.Sprintf("DELETE FROM notes\nWHERE id = %d", 1000*client+n)
					if _, err := astray.ExecContext(ctx, query); err == nil {
						t.Errorf("%s: no error", query)
					}
					own, err := slave.OwnTransactions(ctx)
					found := func(o string) bool { return strings.HasSuffix(o, query) }
					if err != nil || !slices.ContainsFunc(own, found) {
						t.Errorf("%s is not found, %v", query, err)
					}
				}
			})
		}
		clients.Wait()
	})
	own, err := slave.OwnTransactions(ctx)
	ok(t, err)
	ok(t, slave.Kill())
	ok(t, slave.Start(ctx))
	again, err := slave.OwnTransactions(ctx)
	ok(t, err)
	if !slices.Equal(again, own) || len(own) != 106 {
		t.Errorf("%d, after a restart %d", len(own), len(again))
	}
	run(t, slave.DB(), "ALTER SYSTEM SET log_min_messages = 'log'")
	ok(t, slave.Restart(ctx))
	if own, err := slave.OwnTransactions(ctx); err != nil {
		t.Errorf("%q, %v: the command line wins", own, err)
	}
	run(t, slave.DB(), "SELECT pg_promote()")
	own, err = slave.OwnTransactions(ctx)
	if err != nil || len(own) != 107 || !strings.Contains(own[106], "no longer a standby") {
		t.Errorf("after it was promoted: %d, %v", len(own), err)
	}
}

func TestOwnTransactionsNeedTheLog(t *testing.T) {
	c := PostgreSQL(t, Config{Slaves: 1, SlaveOptions: []string{"--log_min_error_statement=panic"}})
	own, err := c.Slaves[0].OwnTransactions(t.Context())
	if err == nil || !strings.Contains(err.Error(), `log_min_error_statement is "panic"`) {
		t.Errorf("%q, %v, want what is wrong", own, err)
	}
}

func TestPostgreSQLComesBackToAnIDThatIsTaken(t *testing.T) {
	ctx := t.Context()
	c := PostgreSQL(t, Config{Slaves: 1})
	slave := c.Slaves[0]
	ok(t, slave.Kill())
	// As if the id of the one that was killed were that of another process of the same account by now.
	name := filepath.Join(slave.data(), "postmaster.pid")
	b, err := os.ReadFile(name)
	ok(t, err)
	_, rest, _ := strings.Cut(string(b), "\n")
	ok(t, os.WriteFile(name, fmt.Appendf(nil, "%d\n%s", c.Master.proc.cmd.Process.Pid, rest), 0o600))
	ok(t, slave.Start(ctx))
	ok(t, slave.CatchUp(ctx))
}

func TestPostgreSQLIsKilledWhateverItDoes(t *testing.T) {
	ctx := t.Context()
	c := PostgreSQL(t, Config{})
	busy := make(chan error, 1)
	go func() {
		_, err := c.Master.DB().ExecContext(ctx, "SELECT count(*) FROM generate_series(1, 1e12)")
		busy <- err
	}()
	// One that looks after neither its parent nor its client.
	working := func() error {
		var n int
		err := c.Master.DB().QueryRowContext(ctx,
			"SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%1e12%' "+
				"AND state = 'active' AND pid <> pg_backend_pid()").Scan(&n)
		if err == nil && n != 1 {
			err = fmt.Errorf("%d at work", n)
		}
		return err
	}
	short, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	ok(t, poll(short, working))
	all := tree(t, c.Master)
	ok(t, c.Master.Kill())
	for _, p := range all {
		if !p.ended() {
			t.Errorf("process %d is there", p.pid)
		}
	}
	if err := <-busy; err == nil {
		t.Error("it counted to the end")
	}
	ok(t, c.Master.Start(ctx))
	if err := working(); err == nil {
		t.Error("it still counts")
	}
}

func TestOptionsOfARole(t *testing.T) {
	eachKind(t, func(t *testing.T, k kind) {
		c, err := k.start(t.Context(), Config{
			Slaves:        1,
			MasterOptions: []string{"--max-connections=21"},
			SlaveOptions:  []string{"--max-connections=22"},
		})
		forTest(t, c, err)
		query := map[string]string{"mysql": "SELECT @@max_connections", "pgx": "SHOW max_connections"}[k.driver]
		for s, want := range map[*Server]int{c.Master: 21, c.Slaves[0]: 22} {
			var got int
			if err := s.DB().QueryRowContext(t.Context(), query).Scan(&got); err != nil || got != want {
				t.Errorf("%v: %d, %v, want %d", s, got, err, want)
			}
		}
	})
}

func TestAServerThatCannotStartSaysWhy(t *testing.T) {
	eachKind(t, func(t *testing.T, k kind) {
		c, err := k.start(t.Context(), Config{MasterOptions: []string{"--no-such-option"}})
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
	})
}

func TestAPortTakenByAnotherIsReplaced(t *testing.T) {
	eachKind(t, func(t *testing.T, k kind) {
		ctx := t.Context()
		engine := k.engine(t)
		c, err := newCluster(engine, Config{})
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
		installed := filepath.Join(c.reaper.dir, "installed")
		Check(t, engine.install(ctx, c, installed))
		ok(t, os.Mkdir(s.dir, 0o700))
		ok(t, engine.create(ctx, s, installed))
		ok(t, s.startFirst(ctx, ports))
		if asked != 2 || s.Port() == taken {
			t.Errorf("it is at %d, after %d attempts", s.Port(), asked)
		}
		ok(t, s.DB().PingContext(ctx))
	})
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
	for _, row := range []struct {
		name, where string
		find        func() (string, error)
	}{
		{"MariaDB", "/usr/sbin/mariadbd", func() (string, error) { return program("mariadbd", mariaDBPackage) }},
		{"PostgreSQL", "/usr/lib/postgresql/*/bin", postgreSQLBin},
	} {
		t.Run(row.name, func(t *testing.T) {
			all, err := filepath.Glob(row.where)
			ok(t, err)
			if len(all) == 0 {
				if os.Getenv("CI") == "true" {
					t.Fatalf("no %s", row.where)
				}
				t.Skipf("it is about programs where Debian has them: no %s", row.where)
			}
			t.Setenv("PATH", "")
			if path, err := row.find(); err != nil || !slices.Contains(all, path) {
				t.Errorf("%q, %v, want one of %q", path, err, all)
			}
		})
	}
}

func TestPostgreSQLInPathIsPreferredIfComplete(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("PATH", dir)
	for _, name := range postgreSQLPrograms {
		if got, _ := postgreSQLBin(); got == dir {
			t.Errorf("without %s it was taken", name)
		}
		ok(t, os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\n"), 0o700))
	}
	if got, err := postgreSQLBin(); err != nil || got != dir {
		t.Errorf("%q, %v, want %q", got, err, dir)
	}
}

func TestMySQLIsFound(t *testing.T) {
	write := func(t *testing.T, path, version string) string {
		t.Helper()
		ok(t, os.MkdirAll(filepath.Dir(path), 0o700))
		script := fmt.Sprintf("#!/bin/sh\necho '%s  Ver %s for Linux on x86_64'\n", path, version)
		ok(t, os.WriteFile(path, []byte(script), 0o700))
		return path
	}
	const none = ""
	for _, row := range []struct {
		name                 string
		named                string // a path below the test's folder
		there                string // such a path, at which there is a program
		inPath, cached, want string // versions
	}{
		{name: "nowhere"},
		{name: "fetched", cached: "9.7.4", want: "cached"},
		{name: "in PATH", inPath: "8.0.36", cached: "9.7.4", want: "in PATH"},
		{name: "in PATH, the first that speaks of sources", inPath: "8.0.26", cached: "9.7.4", want: "in PATH"},
		{name: "in PATH, too old", inPath: "8.0.25", cached: "9.7.4", want: "cached"},
		{name: "in PATH, far too old", inPath: "5.7.44", want: none},
		{name: "in PATH, MariaDB's", inPath: "10.11.14-MariaDB-0+deb12u2", cached: "9.7.4", want: "cached"},
		{name: "named", named: "mine/server", there: "mine/server", inPath: "8.0.36", cached: "9.7.4",
			want: "named"},
		{name: "named by its folder", named: "mine", there: "mine/mysqld", cached: "9.7.4", want: "named"},
		{name: "named by the folder above", named: "mine", there: "mine/bin/mysqld", cached: "9.7.4",
			want: "named"},
		{name: "named, and not there", named: "mine", cached: "9.7.4", want: none},
	} {
		t.Run(row.name, func(t *testing.T) {
			dir := t.TempDir()
			programs := map[string]string{}
			t.Setenv("PATH", filepath.Join(dir, "path")+":"+os.Getenv("PATH"))
			t.Setenv("XDG_CACHE_HOME", filepath.Join(dir, "cache"))
			t.Setenv("REPLICATED_MYSQL", "")
			if row.named != "" {
				t.Setenv("REPLICATED_MYSQL", filepath.Join(dir, row.named))
			}
			if row.there != "" {
				programs["named"] = write(t, filepath.Join(dir, row.there), "8.0.36")
			}
			if row.cached != "" {
				programs["cached"] = write(t, filepath.Join(dir, "cache/gorm-replicated/mysql-9/bin/mysqld"), row.cached)
			}
			// Whatever this machine has in PATH is not what is asked about.
			programs["in PATH"] = write(t, filepath.Join(dir, "path/mysqld"), cmp.Or(row.inPath, "5.0.0"))
			got, err := findMySQL()
			if got.program != programs[row.want] || (err == nil) != (row.want != none) {
				t.Errorf("%q, %v, want the one %s, %q", got.program, err, row.want, programs[row.want])
			}
			if err != nil && !errors.Is(err, ErrNotInstalled) {
				t.Errorf("%v, want that it is not installed", err)
			}
		})
	}
}

// recorder is a testing.TB that notes how a test would have ended.
type recorder struct {
	testing.TB
	got string
}

func (r *recorder) Skip(args ...any)  { r.got = "skip: " + fmt.Sprint(args...) }
func (r *recorder) Fatal(args ...any) { r.got = "fatal: " + fmt.Sprint(args...) }

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

// tree returns the processes of a server.
func tree(t *testing.T, s *Server) []task {
	t.Helper()
	return withDescendants(t, []task{{pid: s.proc.cmd.Process.Pid}})
}

// withDescendants returns these processes and all that descend from them.
func withDescendants(t *testing.T, all []task) []task {
	t.Helper()
	for level := all; len(level) > 0; {
		found, err := children(level)
		ok(t, err)
		level = nil
		for _, child := range found {
			if !slices.ContainsFunc(all, func(known task) bool { return known.pid == child.pid }) {
				level = append(level, child)
			}
		}
		all = append(all, level...)
	}
	return all
}

// segments returns the id of the segment of System V's shared memory that belongs to a data folder; only
// PostgreSQL has one.
func segments(t *testing.T, data string) []string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(data, "postmaster.pid"))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	ok(t, err)
	keyAndID := strings.Fields(strings.Split(string(b), "\n")[6])
	return keyAndID[1:]
}

// mustHaveSegments is the control of mustHaveNoSegments.
func mustHaveSegments(t *testing.T, k kind, ids []string, servers int) {
	t.Helper()
	want := 0
	if k.name == "PostgreSQL" {
		want = servers
	}
	if n := len(present(t, ids)); len(ids) != want || n != want {
		t.Errorf("%d of the segments of shared memory %q are there, want %d", n, ids, want)
	}
}

func mustHaveNoSegments(t *testing.T, ids []string) {
	t.Helper()
	if left := present(t, ids); len(left) > 0 {
		t.Errorf("segments of shared memory %q are there", left)
	}
}

// present returns those of the segments that there are on this machine.
func present(t *testing.T, ids []string) []string {
	t.Helper()
	b, err := os.ReadFile("/proc/sysvipc/shm")
	ok(t, err)
	var found []string
	for line := range strings.Lines(string(b)) {
		if fields := strings.Fields(line); len(fields) > 1 && slices.Contains(ids, fields[1]) {
			found = append(found, fields[1])
		}
	}
	return found
}
