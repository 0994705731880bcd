// Package servers gives the examples' tests a master and a slave, in SQLite files that do not replicate: each
// keeps the rows that were put there, so that what a program reads says where it came from.
package servers

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/glebarez/sqlite"
	"gorm.io/gorm"
	"gorm.io/gorm/logger"

	"github.com/gorm-replicated/replicated"
)

// Pair is a master with one slave, named "slave-1", which stays as it is: whatever is written, it is behind.
type Pair struct {
	DB       *gorm.DB // the master, with Plugin in use
	Plugin   *replicated.Plugin
	Slave    *gorm.DB      // the slave alone
	Replayed atomic.Uint64 // how many rows of the master the slave says it has

	config replicated.Config
	files  []string // of the master, of the slave

	mu     sync.Mutex
	routes []string
	close  []func() error
}

// Start is Open for a test, with tokens.
func Start(t testing.TB, model any) *Pair {
	t.Helper()
	p, err := Open(model, replicated.Config{Secrets: [][]byte{Secret()}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	return p
}

// Secret returns one for Config.Secrets.
func Secret() []byte {
	secret := make([]byte, 32)
	rand.Read(secret) // cannot fail
	return secret
}

// Open makes a pair with the table of a model on both servers. It fills in what cfg says about servers.
func Open(model any, cfg replicated.Config) (_ *Pair, err error) {
	dir, err := os.MkdirTemp("", "servers-")
	if err != nil {
		return nil, err
	}
	p := &Pair{files: []string{filepath.Join(dir, "master.db"), filepath.Join(dir, "slave.db")}}
	p.close = append(p.close, func() error { return os.RemoveAll(dir) })
	defer func() {
		if err != nil {
			err = errors.Join(err, p.Close())
		}
	}()
	if p.Slave, err = p.open(p.files[1]); err != nil {
		return nil, err
	}
	table := &gorm.Statement{DB: p.Slave}
	if err := errors.Join(table.Parse(model), p.Slave.AutoMigrate(model)); err != nil {
		return nil, err
	}
	p.config = cfg
	p.config.Probe.Source = source{p, table.Schema.Table}
	p.config.Observer = p
	if p.DB, err = p.open(p.files[0]); err != nil {
		return nil, err
	}
	if err := p.DB.AutoMigrate(model); err != nil {
		return nil, err
	}
	p.Plugin, err = p.use(p.DB)
	return p, err
}

// Another returns the master with another plugin of the same Config in use, as another process has them.
func (p *Pair) Another() (*gorm.DB, *replicated.Plugin, error) {
	db, err := p.open(p.files[0])
	if err != nil {
		return nil, nil, err
	}
	plugin, err := p.use(db)
	return db, plugin, err
}

// Close closes everything and removes the files.
func (p *Pair) Close() error {
	var errs []error
	for _, c := range slices.Backward(p.close) {
		errs = append(errs, c())
	}
	return errors.Join(errs...)
}

func (p *Pair) open(path string) (*gorm.DB, error) {
	db, err := gorm.Open(sqlite.Open(path+"?_pragma=busy_timeout(5000)&_pragma=journal_mode(WAL)"),
		&gorm.Config{Logger: logger.Discard})
	if err != nil {
		return nil, err
	}
	pool, err := db.DB()
	if err == nil {
		p.close = append(p.close, pool.Close)
	}
	return db, err
}

func (p *Pair) use(db *gorm.DB) (*replicated.Plugin, error) {
	cfg := p.config
	cfg.Slaves = []gorm.Dialector{replicated.Server{Dialector: sqlite.Open(p.files[1]), ID: "slave-1"}}
	plugin := replicated.New(cfg)
	p.close = append(p.close, plugin.Close)
	return plugin, db.Use(plugin)
}

// source tells how far the servers are, in rows. Positions begin at 1, also where there are none.
type source struct {
	pair  *Pair
	table string
}

// MasterPosition implements replicated.PositionSource.
func (s source) MasterPosition(ctx context.Context, conn *sql.Conn) (replicated.Position, error) {
	var rows uint64
	err := conn.QueryRowContext(ctx, "SELECT count(*) FROM "+s.table).Scan(&rows)
	return replicated.Sequence(s.table, 1+rows), err
}

// SlavePosition implements replicated.PositionSource.
func (s source) SlavePosition(context.Context, *sql.Conn) (replicated.Position, error) {
	return replicated.Sequence(s.table, 1+s.pair.Replayed.Load()), nil
}

// Routed makes a Pair an observer.
func (p *Pair) Routed(_ context.Context, r replicated.Route) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.routes = append(p.routes, r.Server+": "+r.Reason.String())
}

// Routes returns the routes of all statements since it was last called, as "server: reason".
func (p *Pair) Routes() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	routes := p.routes
	p.routes = nil
	return routes
}

// Step is a request for notes, and what is expected of the answer. Form is nil, or posted.
type Step struct {
	Method, Path string
	Form         url.Values
	Cookie       bool // of the latest response that brought one
	Status       int
	Body         string // a part of it
	Route        string // of its only query, as "server: reason"
}

// Check gives h the steps, with one note on the slave to begin with, and expects that the one note they post
// is on the master alone.
func (p *Pair) Check(t *testing.T, h http.Handler, steps []Step) {
	t.Helper()
	if err := p.Slave.Exec("INSERT INTO notes (text) VALUES ('from the slave')").Error; err != nil {
		t.Fatal(err)
	}
	var cookies []*http.Cookie
	for _, step := range steps {
		t.Run(step.Method+" "+step.Path, func(t *testing.T) {
			if brought := p.check(t, h, step, cookies); len(brought) > 0 {
				cookies = brought
			}
		})
	}
	for name, db := range map[string]*gorm.DB{"slave": p.Slave, "master": p.DB} {
		var notes int64
		if err := db.Table("notes").Count(&notes).Error; err != nil || notes != 1 {
			t.Errorf("%d notes on the %s, want 1; %v", notes, name, err)
		}
	}
}

// check gives h one step, with the cookies if it is to have them, and returns those of the response.
func (p *Pair) check(t *testing.T, h http.Handler, step Step, cookies []*http.Cookie) []*http.Cookie {
	t.Helper()
	r := httptest.NewRequest(step.Method, step.Path, strings.NewReader(step.Form.Encode()))
	if step.Form != nil {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	if step.Cookie {
		for _, c := range cookies {
			r.AddCookie(c)
		}
	}
	p.Routes() // those of earlier steps
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	routes := p.Routes()
	if w.Code != step.Status || !strings.Contains(w.Body.String(), step.Body) ||
		!slices.Equal(routes, []string{step.Route}) {
		t.Errorf("status %d, body %q, routes %q; want %+v", w.Code, w.Body, routes, step)
	}
	return w.Result().Cookies()
}
