// Package servers gives the tests of the examples a master and a slave, in SQLite files that do not replicate: each
// keeps the rows that were put there, so that what a program reads says where it came from.
package servers

import (
	"context"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
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

// Serve gives h a request, with a form unless it is nil. It returns the status, the body, and for each query the
// server and the reason.
func (p *Pair) Serve(h http.Handler, method, path string, form url.Values) (status int, body string, routes []string) {
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
