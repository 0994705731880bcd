package faults_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gorm-replicated/replicated"
	"github.com/gorm-replicated/replicated/integration/servers"
)

// address leads connections to a server. When it is moved to another one, those that are there stay where
// they are, as with a name of DNS, and with a virtual address that a load balancer holds.
type address struct {
	listener net.Listener
	tasks    sync.WaitGroup

	mu sync.Mutex
	to string
}

func newAddress(t *testing.T, to *servers.Server) *address {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	a := &address{listener: listener, to: to.Addr()}
	a.tasks.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			a.tasks.Go(func() { a.carry(conn) })
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		a.tasks.Wait()
	})
	return a
}

func (a *address) carry(from net.Conn) {
	defer from.Close()
	a.mu.Lock()
	addr := a.to
	a.mu.Unlock()
	to, err := net.Dial("tcp", addr)
	if err != nil {
		return
	}
	defer to.Close()
	back := make(chan struct{})
	go func() {
		defer close(back)
		_, _ = io.Copy(from, to)
		_ = from.Close()
	}()
	_, _ = io.Copy(to, from)
	_ = to.Close()
	<-back
}

func (a *address) move(to *servers.Server) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.to = to.Addr()
}

// throughAddress has the node's proxy lead to a.
func (n *node) throughAddress(a *address) error {
	n.refuse()
	n.mu.Lock()
	n.proxy.Upstream = a.listener.Addr().String()
	n.mu.Unlock()
	return n.accept()
}

// careless reads positions as the plugin does, but does not look whether the master is one: how many
// transactions a server has. (PostgreSQL's log would not do: a master writes to it by itself now and then.)
type careless struct{ engine *engine }

func (s careless) MasterPosition(ctx context.Context, conn *sql.Conn) (replicated.Position, error) {
	return s.position(ctx, conn, map[string]string{
		"MariaDB": "SELECT @@GLOBAL.gtid_binlog_pos", "PostgreSQL": postgreSQLTransactions})
}

func (s careless) SlavePosition(ctx context.Context, conn *sql.Conn) (replicated.Position, error) {
	return s.position(ctx, conn, map[string]string{
		"MariaDB": "SELECT @@GLOBAL.gtid_slave_pos", "PostgreSQL": postgreSQLTransactions})
}

// postgreSQLTransactions counts those that have ended, of a standby those that it has replayed.
const postgreSQLTransactions = "SELECT pg_snapshot_xmax(pg_current_snapshot())::text"

func (s careless) position(
	ctx context.Context, conn *sql.Conn, queries map[string]string,
) (p replicated.Position, err error) {
	kind := s.engine.name
	if s.engine.dial("").Name() == "postgres" { // behind PgBouncer, too
		kind = "PostgreSQL"
	}
	query := queries[kind]
	if query == "" {
		query = "SELECT @@GLOBAL.gtid_executed"
	}
	var text string
	if err := conn.QueryRowContext(ctx, query).Scan(&text); err != nil {
		return p, err
	}
	return replicated.Sequence("log", amount(kind, text)), nil
}

// amount returns how many transactions a position of a kind of server stands for.
func amount(kind, text string) (has uint64) {
	separates := func(r rune) bool { return r == ',' || r == '\n' || r == ':' }
	for _, part := range strings.FieldsFunc(text, separates) {
		first, last, isRange := strings.Cut(part, "-")
		if kind == "MariaDB" {
			last = part[strings.LastIndex(part, "-")+1:]
			first, isRange = "1", true
		}
		from, err := strconv.ParseUint(first, 10, 64)
		if err != nil {
			continue // a UUID
		}
		if kind == "PostgreSQL" {
			has = from
			continue
		}
		to := from
		if isRange {
			if to, err = strconv.ParseUint(last, 10, 64); err != nil {
				continue // a UUID that begins with digits
			}
		}
		has += to - from + 1
	}
	return has
}

// TestPlannedSwitchover has a slave take the place of the master behind one address, as it is done on
// purpose: the master is made read-only, the slaves catch up, one is promoted, the address is moved. The
// master lives on, and so do the connections to it. What a client has written to the new one it sees, though
// the old one goes on telling its position.
func TestPlannedSwitchover(t *testing.T) {
	eachOf(t, (*engine).switchesOver, func(t *testing.T, e *engine) {
		t.Run("checked", func(t *testing.T) {
			s, writers, release := afterSwitchover(t, e, nil)
			t.Logf("%v; tokens %+v", writers.so(), s.plugin.Status().Tokens)
			writers.fine(t, "writers")
			release()
			w := s.writers(t, 4, 50*time.Millisecond)
			eventually(t, "a slave is read by those who write", func() error {
				if now := w.so(); now.served[s.slaves[1].String()]+now.served[s.slaves[0].String()] < 20 {
					return fmt.Errorf("%v%s", now, s.state())
				}
				return nil
			})
			w.stop()
			w.fine(t, "writers, with all slaves")
		})
		t.Run("control", func(t *testing.T) {
			_, writers, _ := afterSwitchover(t, e, func(cfg *replicated.Config) { cfg.Probe.Source = careless{e} })
			t.Log(writers.so())
			if writers.so().stale == 0 {
				t.Error("no stale read, though nobody looked whether the master is one")
			}
		})
	})
}

// afterSwitchover does it, to servers of their own. Then the slave that is left does not replay, until
// release, while the writers it returns have written and read.
func afterSwitchover(
	t *testing.T, e *engine, change func(*replicated.Config),
) (s *site, writers *crowd, release func()) {
	t.Helper()
	c := e.own(t, 2)
	there := newAddress(t, c.Master) // before the application: it ends when its connections have ended
	s = openSite(t, e, c, change)
	pool, err := s.db.DB()
	must(t, err)
	pool.SetMaxIdleConns(0) // of those that are there each would fail its next user
	must(t, s.master.throughAddress(there))
	pool.SetMaxIdleConns(connections)
	pool.SetConnMaxLifetime(100 * time.Millisecond) // the application's writes go where the address leads
	eventually(t, "both serve", func() error { return s.serving(s.slaves...) })
	before := s.writers(t, 4, 50*time.Millisecond)
	before.more(t, 20)
	s.trouble.begin()
	_, err = e.readOnly(t.Context(), c.Master) // for good
	must(t, err)
	before.stop()
	before.fine(t, "before")
	must(t, c.CatchUp(t.Context()))
	promoted, err := e.promote(t.Context(), c.Slaves)
	must(t, err)
	other := c.Slaves[0]
	if other == promoted {
		other = c.Slaves[1]
	}
	must(t, other.Hold(t.Context())) // whoever reads there what was written from now on does not see it
	healed(t, other.Release)
	there.move(promoted)
	eventually(t, "a write", func() error {
		return s.db.WithContext(t.Context()).Create(&Entry{Client: "again"}).Error
	})
	s.trouble.end()
	writers = s.writers(t, 4, 50*time.Millisecond)
	writers.more(t, 100)
	writers.stop()
	return s, writers, func() { t.Helper(); must(t, other.Release(t.Context())) }
}

// switchesOver tells whether somebody from outside promotes a server of this kind. The members of a group
// promote one of themselves (Group Replication), or all take writes (Galera).
func (e *engine) switchesOver() bool { return !e.group }

// roles says which server is the master, and which slave is not read. A switchover has these two change
// places, so that another one can follow.
type roles struct {
	master, spare *servers.Server
	read          []*node
}

func rolesOf(a *app) *roles { return &roles{a.master.Server, a.slaves[2].Server, a.slaves[:2]} }

// slaves returns all of them, the spare one first.
func (r *roles) slaves() []*servers.Server {
	all := []*servers.Server{r.spare}
	for _, n := range r.read {
		all = append(all, n.Server)
	}
	return all
}

// switchOver is a planned switchover: the master is made read-only, the slaves catch up, one is promoted, the
// master's address leads there, and the former master becomes a slave. No connection to the former master is
// left when the new one takes writes: a read over one would not see them. Clients may be at work: until then
// their writes fail. No server may suffer from anything else.
func (s *site) switchOver(ctx context.Context, r *roles) error {
	ctx, cancel := context.WithTimeout(ctx, hangs)
	defer cancel()
	former, next := r.master, r.spare
	writable := nothing
	s.trouble.begin()
	for _, step := range []struct {
		what string
		do   func() error
	}{
		{"is made read-only", func() (err error) {
			writable, err = s.engine.readOnly(ctx, former)
			return err
		}},
		{"waits until the slaves have caught up", func() error { return s.replicated(ctx, r) }},
		{"ends, if it cannot follow otherwise", func() error { return s.engine.retire(ctx, former) }},
		{"is replaced", func() error { return s.promote(ctx, r) }},
		{"no longer is where its address leads", func() error { return s.master.lead(next) }},
		{"has a successor that takes writes", func() error { return s.takesWrites(ctx) }},
		{"becomes a slave", func() error {
			s.trouble.end()
			return errors.Join(s.engine.attach(ctx, former, next), writable(ctx))
		}},
		{"waits until all have what was written since", func() error { return s.replicated(ctx, r) }},
	} {
		s.line.add("switchover: %v %s", former, step.what)
		if err := step.do(); err != nil {
			return fmt.Errorf("%v %s: %w", former, step.what, err)
		}
	}
	s.line.add("switchover: it is over")
	return nil
}

// promote has the spare slave take the master's place among the servers.
func (s *site) promote(ctx context.Context, r *roles) error {
	promoted, err := s.engine.promote(ctx, r.slaves())
	if err == nil && promoted != r.spare {
		err = fmt.Errorf("%v was promoted", promoted)
	}
	r.master, r.spare = r.spare, r.master
	s.master.Server = r.master
	return err
}

// takesWrites waits until the application can write.
func (s *site) takesWrites(ctx context.Context) error {
	return await(ctx, func() error {
		ctx, cancel := context.WithTimeout(ctx, slaveTimeout*10)
		defer cancel()
		return s.db.WithContext(ctx).Create(&Entry{Client: "again"}).Error
	})
}

// replicated waits until the slaves have what was written so far. It writes to the master, which may be
// read-only, what they replay last.
func (s *site) replicated(ctx context.Context, r *roles) error {
	last := clients.Add(1)
	table := s.engine.schema + "entries"
	err := exec(ctx, r.master, "START TRANSACTION READ WRITE",
		fmt.Sprintf("INSERT INTO %s (client, n) VALUES ('last', %d)", table, last), "COMMIT")
	if err != nil {
		return err
	}
	query := fmt.Sprintf("SELECT COUNT(*) FROM %s WHERE client = 'last' AND n = %d", table, last)
	for _, slave := range r.slaves() {
		err := await(ctx, func() error {
			n, err := ask[int](ctx, slave, query)
			if err == nil && n == 0 {
				err = fmt.Errorf("%v does not have the last write", slave)
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}
