// Package servers gives the tests of the examples a master and a slave, in SQLite files that do not replicate: each
// keeps the rows that were put there, so that what a program reads says where it came from.
package servers

import (
	"context"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/glebarez/sqlite"
	"gorm.io/gorm"
	"gorm.io/gorm/logger"

	"github.com/gorm-replicated/replicated"
)

// Pair is a master with one slave, named "slave-1".
type Pair struct {
	DB     *gorm.DB // the master, with Plugin in use
	Plugin *replicated.Plugin
	Slave  *gorm.DB // the slave alone

	mu     sync.Mutex
	routes []string
}

// Start makes a pair with the table of a model on both servers.
func Start(t testing.TB, model any) *Pair {
	t.Helper()
	dir := t.TempDir()
	p := &Pair{DB: open(t, filepath.Join(dir, "master.db"), model)}
	slave := filepath.Join(dir, "slave.db")
	p.Slave = open(t, slave, model)
	p.Plugin = replicated.New(replicated.Config{
		Slaves:   []gorm.Dialector{replicated.Server{Dialector: sqlite.Open(slave), ID: "slave-1"}},
		Observer: p,
	})
	if err := p.DB.Use(p.Plugin); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Plugin.Close() })
	return p
}

func open(t testing.TB, path string, model any) *gorm.DB {
	t.Helper()
	db, err := gorm.Open(sqlite.Open(path), &gorm.Config{Logger: logger.Discard})
	if err != nil {
		t.Fatal(err)
	}
	pool, err := db.DB()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { pool.Close() })
	if err := db.AutoMigrate(model); err != nil {
		t.Fatal(err)
	}
	return db
}

// Routed makes a Pair an observer.
func (p *Pair) Routed(_ context.Context, r replicated.Route) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.routes = append(p.routes, r.Server+": "+r.Reason.String())
}

// Step is a request for notes, and what is expected of the answer. Form is nil, or posted.
type Step struct {
	Method, Path string
	Form         url.Values
	Status       int
	Body         string // a part of it
	Route        string // of its only query, as "server: reason"
}

// Check gives h the steps, with one note on the slave to begin with, and expects that the one note they post is on the
// master alone.
func (p *Pair) Check(t *testing.T, h http.Handler, steps []Step) {
	t.Helper()
	if err := p.Slave.Exec("INSERT INTO notes (text) VALUES ('from the slave')").Error; err != nil {
		t.Fatal(err)
	}
	for _, step := range steps {
		t.Run(step.Method+" "+step.Path, func(t *testing.T) {
			status, body, routes := p.serve(h, step.Method, step.Path, step.Form)
			if status != step.Status || !strings.Contains(body, step.Body) || !slices.Equal(routes, []string{step.Route}) {
				t.Errorf("status %d, body %q, routes %q; want %+v", status, body, routes, step)
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

// serve gives h a request, with a form unless it is nil. It returns the status, the body, and for each query the
// server and the reason.
func (p *Pair) serve(h http.Handler, method, path string, form url.Values) (status int, body string, routes []string) {
	p.mu.Lock()
	p.routes = nil
	p.mu.Unlock()
	r := httptest.NewRequest(method, path, strings.NewReader(form.Encode()))
	if form != nil {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	p.mu.Lock()
	defer p.mu.Unlock()
	return w.Code, w.Body.String(), p.routes
}
