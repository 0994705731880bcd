package faults_test

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"net"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/jackc/pgx/v5/pgconn"
	"gorm.io/gorm"
	"gorm.io/gorm/logger"

	"github.com/gorm-replicated/replicated"
	"github.com/gorm-replicated/replicated/integration/servers"
)

// raiser is a statement that raises what a server says that does not serve.
type raiser struct {
	query string
	says  string // a part of its error
}

// unreachable is an argument that cannot be had from where it is.
type unreachable struct{}

func (unreachable) Value() (driver.Value, error) {
	return nil, &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}
}

// create has the master, and with it the slaves, have what an engine's statements need.
func (e *engine) create(t *testing.T, c *servers.Cluster) {
	t.Helper()
	must(t, exec(t.Context(), c.Master, e.creates...))
	must(t, c.CatchUp(t.Context()))
}

// slavesOnly fails the test unless a read was on so many servers, none of them the master.
func slavesOnly(t *testing.T, trail *trail, n int) {
	t.Helper()
	_, routes := trail.last()
	other := func(route string) bool { return !strings.HasPrefix(route, "slave") }
	if len(routes) != n || slices.ContainsFunc(routes, other) {
		t.Errorf("by %v; want %d attempts on slaves", routes, n)
	}
}

// TestStatementsErrorBlamesNobody has statements raise, under load, what a server says that does not serve.
// Each fails by itself, on one slave. TestRefusedConnections is the control: there slaves say the same to who
// connects.
func TestStatementsErrorBlamesNobody(t *testing.T) {
	eachEngine(t, func(t *testing.T, e *engine) {
		c := e.cluster(t)
		a := open(t, e, c, func(cfg *replicated.Config) { cfg.Failover.MaxOnMaster = 4 })
		e.create(t, c)
		l := a.read(t, 100)
		l.served(t, 10, "slave 2", "slave 3")
		statements := map[string]func(*gorm.DB) error{
			"an argument": func(db *gorm.DB) error { return db.Where("id = ?", unreachable{}).Find(&[]Item{}).Error },
		}
		says := map[string]string{"an argument": "refused"}
		for _, r := range e.raises {
			statements[r.query] = func(db *gorm.DB) error { return db.Raw(r.query).Row().Scan(new(int)) }
			says[r.query] = r.says
		}
		for name, run := range statements {
			for range 3 {
				ctx, trail := tracked(t.Context())
				if err := run(a.db.WithContext(ctx)); err == nil || !strings.Contains(err.Error(), says[name]) {
					t.Errorf("%s: %v; want %q in it", name, err, says[name])
				}
				slavesOnly(t, trail, 1)
				if err := a.serving(a.slaves[:2]...); err != nil {
					t.Fatalf("%s: %v", name, err)
				}
			}
		}
		l.more(t, 20)
		l.stop()
		l.noneFailed(t)
	})
}

// kills has a read bring down its own connection, or more.
func (a *app) kills(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, hangs)
	defer cancel()
	_ = a.db.WithContext(ctx).Raw(a.engine.dies).Row().Scan(new(int))
	return ctx.Err()
}

// runsAway begins a read that takes long, and has an operator end its connection, wherever it is, until it
// ends.
func (a *app) runsAway(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, hangs)
	defer cancel()
	word := fmt.Sprintf("runaway_%d", runaways.Add(1))
	done := make(chan error, 1)
	go func() { done <- a.db.WithContext(ctx).Raw(a.engine.slow(10*time.Second, word)).Row().Scan(new(int)) }()
	for {
		for _, n := range append(a.slaves[:2:2], a.master) {
			// It may be down, by another fault.
			ids, _ := lines(ctx, n.Server, a.engine.active, "%"+word+"%")
			for _, id := range ids {
				id, _, _ = strings.Cut(id, "/")
				_ = exec(ctx, n.Server, fmt.Sprintf(a.engine.kill, id))
			}
		}
		select {
		case <-done:
			return ctx.Err()
		default:
			pass(ctx, 20*time.Millisecond)
		}
	}
}

var runaways atomic.Int64

// ended tells whether a read failed because an operator has ended its session. PostgreSQL says so; it is not
// run again.
func ended(err error) bool {
	var said *pgconn.PgError
	return errors.As(err, &said) && said.Code == "57P01"
}

// brokeTwice tells whether a read failed because the connections to two slaves have ended under it. It is not
// handed on: it may be the read that breaks them.
func brokeTwice(err error, routes []string) bool {
	if len(routes) < 2 || slices.Contains(routes, "master") {
		return false
	}
	var network net.Error
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) ||
		errors.Is(err, mysql.ErrInvalidConn) || errors.As(err, &network)
}

// TestKilledRead has an operator end the connection of a report that runs away. It is not begun again on
// every server.
func TestKilledRead(t *testing.T) {
	eachEngine(t, func(t *testing.T, e *engine) {
		c := e.cluster(t)
		a := open(t, e, c, nil)
		l := a.read(t, 50)
		l.served(t, 5, "slave 2", "slave 3")
		for range 4 {
			word := fmt.Sprintf("runaway_%d", runaways.Add(1))
			ctx, trail := tracked(t.Context())
			done := make(chan error, 1)
			go func() { done <- a.db.WithContext(ctx).Raw(e.slow(time.Minute, word)).Row().Scan(new(int)) }()
			var err error
			eventually(t, "it ends", func() error {
				for _, s := range a.slaves[:2] {
					ids, err := lines(t.Context(), s.Server, e.active, "%"+word+"%")
					must(t, err)
					for _, id := range ids {
						id, _, _ = strings.Cut(id, "/")
						must(t, exec(t.Context(), s.Server, fmt.Sprintf(e.kill, id)))
					}
				}
				select {
				case err = <-done:
					return nil
				default:
					return errNotYet
				}
			})
			_, routes := trail.last()
			t.Logf("by %v: %v", routes, err)
			if err == nil || len(routes) > 2 {
				t.Errorf("it ended with %v, by %v", err, routes)
			}
			slavesOnly(t, trail, len(routes))
			must(t, a.serving(a.slaves[:2]...))
		}
		l.stop()
		l.noneFailed(t)
	})
}

// TestCrashingStatement has a statement crash its server process. No more than two slaves see it, and the
// master never.
func TestCrashingStatement(t *testing.T) {
	servers.Want(t, postgreSQL.name)
	e := postgreSQL
	c := e.own(t, 2)
	a := open(t, e, c, nil)
	e.create(t, c)
	eventually(t, "both serve", func() error { return a.serving(a.slaves[:2]...) })
	master, err := c.Master.DB().Conn(t.Context()) // which a crash of any process there would end
	must(t, err)
	defer master.Close()
	ctx, trail := tracked(t.Context())
	err = a.db.WithContext(ctx).Raw("SELECT crash()").Row().Err()
	_, routes := trail.last()
	t.Logf("by %v: %v", routes, err)
	if err == nil {
		t.Error("the control: nothing has crashed")
	}
	slavesOnly(t, trail, 2)
	if err := master.PingContext(t.Context()); err != nil {
		t.Errorf("the master: %v", err)
	}
	eventually(t, "both serve again", func() error { return a.serving(a.slaves[:2]...) })
}

// TestStandbyCannotSerialize has slaves' sessions be serializable by default, unwatched: each read ends on
// the master.
func TestStandbyCannotSerialize(t *testing.T) {
	servers.Want(t, postgreSQL.name)
	e := postgreSQL
	c := e.cluster(t)
	const serializable = "&default_transaction_isolation=serializable"
	a := open(t, e, c, func(cfg *replicated.Config) {
		cfg.Slaves, cfg.Probe.Interval = nil, -1
		for _, s := range c.Slaves[:2] {
			slave := replicated.Server{Dialector: e.dial(s.DSN() + serializable), ID: s.String()}
			cfg.Slaves = append(cfg.Slaves, slave)
		}
	})
	for _, f := range forms[:len(forms)-1] { // what fails in a transaction is its caller's
		ctx, trail := tracked(t.Context())
		err := f.read(a.db.WithContext(ctx), trail)
		if server, routes := trail.last(); err != nil || server != "master" || len(routes) != 3 {
			t.Errorf("%s: by %v: %v; want both slaves, then the master", f.name, routes, err)
		}
	}
	must(t, a.serving(a.slaves[:2]...))
	plain, err := gorm.Open(e.dial(c.Slaves[0].DSN()+serializable), &gorm.Config{Logger: logger.Discard})
	must(t, err)
	pool, err := plain.DB()
	must(t, err)
	defer pool.Close()
	if err := plain.First(&Item{}).Error; err == nil {
		t.Error("the control: a standby does it")
	}
}

// TestRefusedConnections has a slave refuse connections for many reasons, while those that there are go on
// until they are a second old. No read fails, and Status says that the slave does not serve.
func TestRefusedConnections(t *testing.T) {
	eachEngine(t, func(t *testing.T, e *engine) {
		for _, refusal := range e.refusals {
			t.Run(refusal.name, func(t *testing.T) {
				const lifetime = time.Second
				c := e.cluster(t)
				a := open(t, e, c, func(cfg *replicated.Config) { cfg.Pool.MaxLifetime = lifetime })
				plain, err := gorm.Open(e.dial(a.slaves[0].DSN()), &gorm.Config{Logger: logger.Discard})
				must(t, err)
				pool, err := plain.DB()
				must(t, err)
				pool.SetConnMaxLifetime(lifetime)
				t.Cleanup(func() { pool.Close() })
				l := a.read(t, 100)
				l.served(t, 10, "slave 2", "slave 3")
				control := readOf(t, plain, 20)
				victim, other := a.slaves[0], a.slaves[1]
				end := fault{name: refusal.name, begin: func(ctx context.Context, n *node) (ending, error) {
					return refusal.begin(ctx, n.Server)
				}}.befall(t, victim)
				left := eventually(t, "it leaves", func() error { return a.notServing(victim) })
				l.ended(t)
				during := l.more(t, 200)
				reason := a.status(victim).Reason
				if n := during.served[victim.String()]; n > 0 {
					t.Errorf("%d reads after it has left", n)
				}
				if !regexp.MustCompile(refusal.says).MatchString(reason) {
					t.Errorf("the reason is %q, want %q in it", reason, refusal.says)
				}
				l.served(t, 1, other.String())
				if control.so().failed == 0 {
					t.Error("the control: no read past the plugin failed")
				}
				end()
				again := l.served(t, 5, victim.String())
				l.stop()
				control.stop()
				t.Logf("it left after %v: %s; served again after %v; %v; the control: %v", left.Round(time.Millisecond),
					reason, again.Round(time.Millisecond), l.so(), control.so())
				l.noneFailed(t)
			})
		}
	})
}

// refusal is a reason for which a server refuses connections.
type refusal struct {
	name  string
	begin beginning
	says  string // a pattern of the reason in Status
}
