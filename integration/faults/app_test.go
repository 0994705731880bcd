package faults_test

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"runtime/pprof"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"gorm.io/gorm"
	"gorm.io/gorm/logger"

	"github.com/gorm-replicated/replicated"
	"github.com/gorm-replicated/replicated/integration/servers"
)

// Item is what is read.
type Item struct {
	ID   int64
	Text string `gorm:"size:400"`
}

// items is how many there are. All of them are some 60 KB: more than what fits into one read from a
// connection.
const items = 200

// Entry is the n-th that a client has written.
type Entry struct {
	ID     int64
	Client string `gorm:"size:60;index:of_client,priority:1"`
	N      int    `gorm:"index:of_client,priority:2"`
}

// connections is how many each pool may have.
const connections = 20

// app is an application with the plugin, which reaches its servers through proxies.
type app struct {
	engine *engine
	db     *gorm.DB
	plugin *replicated.Plugin
	master *node
	slaves []*node
	log    *logLines
}

// open opens the cluster with the plugin. Two of the slaves are read.
func open(t *testing.T, e *engine, c *servers.Cluster, change func(*replicated.Config)) *app {
	t.Helper()
	return openWith(t, e, c, &gorm.Config{}, change)
}

func openWith(
	t *testing.T, e *engine, c *servers.Cluster, config *gorm.Config, change func(*replicated.Config),
) *app {
	t.Helper()
	leakless(t)
	a := &app{engine: e, master: newNode(t, e, c.Master), log: &logLines{}}
	a.master.app = a
	all := []*servers.Server{c.Master}
	for _, s := range c.Slaves {
		n := newNode(t, e, s)
		n.app = a
		a.slaves = append(a.slaves, n)
		all = append(all, s)
	}
	config.Logger = logger.Discard
	db, err := gorm.Open(e.dial(a.master.dsn()), config)
	must(t, err)
	a.db = db
	pool, err := db.DB()
	must(t, err)
	pool.SetMaxOpenConns(connections) // the slaves' pools take it over
	pool.SetMaxIdleConns(connections)
	// Or one that a fault has broken may lie there unused for long, as database/sql takes the one that was used
	// last, and fail a write then.
	pool.SetConnMaxIdleTime(idle)
	fill(t, db)
	must(t, c.CatchUp(t.Context()))
	must(t, db.Callback().Query().Before("gorm:query").Register("faults:query", handing))
	must(t, db.Callback().Row().Before("gorm:row").Register("faults:row", handing))

	cfg := replicated.Config{
		Secrets:       [][]byte{bytes.Repeat([]byte("faults"), 6)},
		DefaultIntent: replicated.Slave, // as if all contexts were those of GET
		Failover:      replicated.FailoverConfig{SlaveTimeout: slaveTimeout},
		Logger:        slog.New(slog.NewTextHandler(a.log, nil)),
		Observer:      observer{a},
		Probe:         replicated.ProbeConfig{Source: e.source},
	}
	for _, n := range a.slaves[:min(2, len(a.slaves))] {
		cfg.Slaves = append(cfg.Slaves, a.dialector(n))
	}
	if change != nil {
		change(&cfg)
	}
	a.plugin = replicated.New(cfg)
	must(t, db.Use(a.plugin))
	t.Cleanup(func() {
		a.unused(t)
		a.end(t, func() {
			if err := a.plugin.Close(); err != nil {
				t.Error(err)
			}
			_ = pool.Close()
		})
		a.disconnected(t, all)
		if t.Failed() {
			t.Logf("the plugin's log:\n%s", a.log)
		}
	})
	return a
}

// fill makes the tables, and the items.
func fill(t *testing.T, db *gorm.DB) {
	t.Helper()
	must(t, db.AutoMigrate(&Item{}, &Entry{}))
	var n int64
	must(t, db.Model(&Item{}).Count(&n).Error)
	if n == items {
		return
	}
	all := make([]Item, items)
	for i := range all {
		all[i] = Item{ID: int64(i + 1), Text: strings.Repeat(fmt.Sprintf("item %3d ", i+1), 30)}
	}
	must(t, db.Create(&all).Error)
}

// dialector is that of a server, which routes and Status call by its name here.
func (a *app) dialector(n *node) gorm.Dialector {
	return replicated.Server{Dialector: a.engine.dial(n.dsn() + a.engine.reading), ID: n.String()}
}

// end has end end the application, which must not hang.
func (a *app) end(t *testing.T, end func()) {
	t.Helper()
	ended := make(chan struct{})
	go func() { defer close(ended); end() }()
	select {
	case <-ended:
	case <-time.After(hangs):
		t.Error("Plugin.Close, or that of the master's pool, hangs")
	}
}

// unused fails the test if connections are in use although nobody uses them: a pool that loses one with each
// fault is empty one day.
func (a *app) unused(t *testing.T) {
	t.Helper()
	err := await(context.Background(), func() error { // what was given up is closed in the background
		for _, g := range a.plugin.Status().Groups {
			for _, s := range g.Servers {
				if s.Pool.InUse > 0 {
					return fmt.Errorf("%s: %d connections are in use, and nobody uses them", a.name(s.ID), s.Pool.InUse)
				}
			}
		}
		return nil
	})
	if err != nil {
		t.Errorf("%v; the goroutines:\n%s", err, goroutines())
	}
}

// goroutines says what they do.
func goroutines() string {
	var stacks bytes.Buffer
	_ = pprof.Lookup("goroutine").WriteTo(&stacks, 1)
	return stacks.String()
}

// disconnected fails the test if servers still have connections, or prepared statements, of an application
// that has ended.
func (a *app) disconnected(t *testing.T, all []*servers.Server) {
	t.Helper()
	ctx := context.Background()
	for _, s := range all {
		if conn, err := net.Dial("tcp", s.Addr()); err != nil {
			continue // the test has left it down
		} else {
			_ = conn.Close()
		}
		if err := await(ctx, func() error { return a.engine.unused(ctx, s) }); err != nil {
			t.Errorf("%v, after the application has ended: %v", s, err)
		}
	}
}

// unused returns nil if a server has nothing of the application's.
func (e *engine) unused(ctx context.Context, s *servers.Server) error {
	n, err := e.connected(ctx, s)
	if err == nil && n > 0 {
		err = fmt.Errorf("%d connections", n)
	}
	if err != nil || e.prepared == "" {
		return err
	}
	if n, err = ask[int](ctx, s, e.prepared); err == nil && n > 0 {
		err = fmt.Errorf("%d prepared statements", n)
	}
	return err
}

// status returns that of a slave.
func (a *app) status(n *node) replicated.ServerStatus {
	groups := a.plugin.Status().Groups
	if len(groups) == 0 {
		return replicated.ServerStatus{}
	}
	i := slices.IndexFunc(groups[0].Servers, func(s replicated.ServerStatus) bool { return s.ID == n.String() })
	if i < 0 {
		return replicated.ServerStatus{}
	}
	return groups[0].Servers[i]
}

// serving returns nil if the plugin says that it reads from a slave.
func (a *app) serving(all ...*node) error {
	for _, n := range all {
		if s := a.status(n); !s.Serving {
			return fmt.Errorf("%v is not serving: %s", n, s.Reason)
		}
	}
	return nil
}

// served returns the slaves that the plugin says that it reads from.
func (a *app) served() (names []string) {
	for _, n := range a.slaves {
		if a.serving(n) == nil {
			names = append(names, n.String())
		}
	}
	return names
}

// notServing returns nil if the plugin says that it does not read from a slave.
func (a *app) notServing(n *node) error {
	if a.status(n).Serving {
		return fmt.Errorf("%v is serving", n)
	}
	return nil
}

// state says how the plugin sees its servers.
func (a *app) state() string {
	var b strings.Builder
	for _, g := range a.plugin.Status().Groups {
		for _, s := range g.Servers {
			fmt.Fprintf(&b, "\n  %s: serving %v, lag %v (known %v), at %s; %s; pool %+v",
				a.name(s.ID), s.Serving, s.Lag, s.LagKnown, s.Position, s.Reason, s.Pool)
		}
	}
	return b.String()
}

// name returns how a server with this ID is called here.
func (a *app) name(id string) string {
	if strings.HasPrefix(id, "127.0.0.1:") { // nobody has named it
		return "master"
	}
	return id
}

// trail is what became of one read.
type trail struct {
	began time.Time

	mu       sync.Mutex
	routes   []string // by name of the server
	reasons  []replicated.Reason
	serving  []string        // the slaves that served when the latest route was decided, if that is the master
	times    []time.Duration // since began
	answered time.Time       // when its rows, or its transaction, were handed out; zero if they were not
}

type trailKey struct{}

func trailOf(ctx context.Context) *trail {
	t, _ := ctx.Value(trailKey{}).(*trail)
	return t
}

// tracked returns a context whose routes are noted.
func tracked(ctx context.Context) (context.Context, *trail) {
	t := &trail{began: time.Now()}
	return context.WithValue(ctx, trailKey{}, t), t
}

// answer notes that a server has answered: what fails from here on cannot be done again elsewhere.
func (t *trail) answer() {
	if t == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.answered.IsZero() {
		t.answered = time.Now()
	}
}

// waits tells whether no server has answered yet.
func (t *trail) waits() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.answered.IsZero()
}

// last returns the server that it was sent to last, and all of them.
func (t *trail) last() (server string, all []string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.routes) == 0 {
		return "", nil
	}
	for i, r := range t.routes {
		all = append(all, fmt.Sprintf("%s (%v, at %v)", r, t.reasons[i], t.times[i].Round(time.Millisecond)))
	}
	return t.routes[len(t.routes)-1], all
}

// observer notes routes.
type observer struct{ app *app }

func (o observer) Routed(ctx context.Context, r replicated.Route) {
	if t := trailOf(ctx); t != nil {
		t.mu.Lock()
		defer t.mu.Unlock()
		if r.Reason == replicated.ReasonBound {
			return
		}
		t.routes, t.reasons = append(t.routes, o.app.name(r.Server)), append(t.reasons, r.Reason)
		t.times = append(t.times, time.Since(t.began))
		if r.Intent == replicated.Master {
			t.serving = o.app.served()
		}
	}
}

// handing has the pool of a statement, once it is known, note when it hands out rows.
func handing(db *gorm.DB) {
	if t := trailOf(db.Statement.Context); t != nil && db.Error == nil {
		db.Statement.ConnPool = handingPool{db.Statement.ConnPool, t}
	}
}

type handingPool struct {
	gorm.ConnPool
	trail *trail
}

func (p handingPool) QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	rows, err := p.ConnPool.QueryContext(ctx, query, args...)
	if err == nil {
		p.trail.answer()
	}
	return rows, err
}

func (p handingPool) QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row {
	row := p.ConnPool.QueryRowContext(ctx, query, args...)
	if row.Err() == nil {
		p.trail.answer()
	}
	return row
}

// logLines is a log.
type logLines struct {
	pipe sync.Mutex // held while it takes nothing, as a pipe that nobody reads

	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logLines) Write(p []byte) (int, error) {
	l.pipe.Lock()
	defer l.pipe.Unlock()
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *logLines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

var errNotYet = errors.New("not yet")
