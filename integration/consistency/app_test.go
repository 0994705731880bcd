package consistency

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"gorm.io/gorm"
	"gorm.io/gorm/logger"

	"github.com/gorm-replicated/replicated"
	"github.com/gorm-replicated/replicated/integration/servers"
)

// Entry is the n-th that a client has written.
type Entry struct {
	ID     int64
	Client string `gorm:"size:60;index:of_client,priority:1"`
	N      int    `gorm:"index:of_client,priority:2"`
}

// secret seals tokens.
var secret = bytes.Repeat([]byte("consistency"), 3)

// app is an application as people write it, behind the plugin's middleware:
//
//	POST /entries?client=c&n=7&write=…&answer=…   writes the client's n-th entry
//	GET /entries/{client}                         shows the latest one, and who answered
//	GET /entries/{client}?staleness=300ms         the same, by WithMaxStaleness
//	GET /entries/{client}?slave=yes               the same, by WithSlave
type app struct {
	number    int64 // of the one that is opened
	db        *gorm.DB
	plugin    *replicated.Plugin
	url       string
	transport *http.Transport // of the clients
	names     map[string]string
	header    string // of the token
	cookie    string
	log       *lines
}

// opened counts applications.
var opened atomic.Int64

// open opens the cluster with the plugin, and serves the application.
func open(t *testing.T, e engine, c *servers.Cluster, change func(*replicated.Config)) *app {
	t.Helper()
	gormConfig := &gorm.Config{Logger: logger.Discard}
	db, err := gorm.Open(e.dial(c.Master.DSN()), gormConfig)
	if err != nil {
		t.Fatal(err)
	}
	master, err := db.DB()
	if err != nil {
		t.Fatal(err)
	}
	master.SetMaxOpenConns(30) // the slaves' pools take it over
	master.SetMaxIdleConns(30)
	// Before there is a plugin, and so without one statement of it.
	if err := db.AutoMigrate(&Entry{}); err != nil {
		t.Fatal(err)
	}
	if err := c.CatchUp(t.Context()); err != nil {
		t.Fatal(err)
	}
	log := &lines{}
	cfg := replicated.Config{
		Secrets:  [][]byte{secret},
		Logger:   slog.New(slog.NewTextHandler(log, nil)),
		Observer: observer{},
	}
	for _, slave := range c.Slaves {
		cfg.Slaves = append(cfg.Slaves, e.dial(slave.DSN()))
	}
	if change != nil {
		change(&cfg)
	}
	a := &app{number: opened.Add(1), db: db, plugin: replicated.New(cfg), header: "Replicated-Token", cookie: "replicated", log: log,
		names: map[string]string{c.Master.Addr(): "master"}}
	for _, slave := range c.Slaves {
		a.names[slave.Addr()] = slave.String()
	}
	if err := db.Use(a.plugin); err != nil {
		t.Fatal(err)
	}
	// Every request leaves a trail, which the plugin's observer writes.
	handler := a.plugin.Middleware(a.routes())
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		handler.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), trailKey{}, &trail{})))
	}))
	a.url = server.URL
	a.transport = &http.Transport{MaxIdleConnsPerHost: 200}
	t.Cleanup(func() {
		a.transport.CloseIdleConnections()
		server.Close()
		if err := a.plugin.Close(); err != nil {
			t.Error(err)
		}
		_ = master.Close()
		if t.Failed() {
			t.Logf("the plugin's log:\n%s", log)
		}
	})
	return a
}

// page is what GET /entries/{client} answers.
type page struct {
	N      int    // the client's latest entry
	Server string // who answered, by its name here: "master", "slave 2"
	Slave  bool
	Reason string // why it was asked
	Token  string // what the client brought
}

func (a *app) routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /entries", a.write)
	mux.HandleFunc("GET /entries/{client}", a.read)
	return mux
}

func (a *app) read(w http.ResponseWriter, r *http.Request) {
	ctx := r.Context()
	if d, err := time.ParseDuration(r.FormValue("staleness")); err == nil {
		ctx = replicated.WithMaxStaleness(ctx, d)
	}
	if r.FormValue("slave") != "" {
		ctx = replicated.WithSlave(ctx)
	}
	var entry Entry
	err := a.db.WithContext(ctx).Where("client = ?", r.PathValue("client")).Order("n DESC").Limit(1).Find(&entry).Error
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	route := trailOf(r.Context()).last()
	p := page{N: entry.N, Server: a.name(route.Server), Slave: route.Intent == replicated.Slave, Reason: route.Reason.String()}
	p.Token = r.Header.Get(a.header)
	if cookie, err := r.Cookie(a.cookie); err == nil {
		p.Token += cookie.Value
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(p) // without WriteHeader: the first Write is the first byte
}

// name is how the tests call a server.
func (a *app) name(id string) string {
	if name, ok := a.names[id]; ok {
		return name
	}
	return id
}

// writes are the ways in which handlers write.
var writes = map[string]func(*gorm.DB, *Entry) error{
	"default": func(db *gorm.DB, e *Entry) error { return db.Create(e).Error },
	"plain": func(db *gorm.DB, e *Entry) error {
		return db.Session(&gorm.Session{SkipDefaultTransaction: true}).Create(e).Error
	},
	"transaction": func(db *gorm.DB, e *Entry) error {
		return db.Transaction(func(tx *gorm.DB) error {
			if err := tx.Where("client = ?", e.Client).Order("n DESC").Limit(1).Find(&Entry{}).Error; err != nil {
				return err
			}
			return tx.Create(e).Error
		})
	},
	"raw": func(db *gorm.DB, e *Entry) error {
		return db.Exec("INSERT INTO entries (client, n) VALUES (?, ?)", e.Client, e.N).Error
	},
	"nothing": func(db *gorm.DB, e *Entry) error { // a write all the same
		return db.Exec("UPDATE entries SET n = 0 WHERE client = 'nobody'").Error
	},
}

func (a *app) write(w http.ResponseWriter, r *http.Request) {
	n, err := strconv.Atoi(r.FormValue("n"))
	write := writes[r.FormValue("write")]
	if err != nil || write == nil {
		http.Error(w, fmt.Sprintf("n: %v; write: %q", err, r.FormValue("write")), http.StatusBadRequest)
		return
	}
	entry := Entry{Client: r.FormValue("client"), N: n}
	if err := write(a.db.WithContext(r.Context()), &entry); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	switch r.FormValue("answer") {
	case "303":
		http.Redirect(w, r, "/entries/"+entry.Client, http.StatusSeeOther)
	case "204":
		w.WriteHeader(http.StatusNoContent)
	case "201":
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusCreated)
		_ = json.NewEncoder(w).Encode(entry)
	case "200":
		_ = json.NewEncoder(w).Encode(entry)
	case "": // nothing at all: net/http answers when the handler has returned
	}
}

// state says how the plugin sees its servers.
func (a *app) state() string {
	var b strings.Builder
	s := a.plugin.Status()
	for _, g := range s.Groups {
		for _, server := range g.Servers {
			fmt.Fprintf(&b, "\n  %s: serving %v, lag %v (known %v), at %s; %s",
				a.name(server.ID), server.Serving, server.Lag, server.LagKnown, server.Position, server.Reason)
		}
	}
	fmt.Fprintf(&b, "\n  tokens: %+v", s.Tokens)
	return b.String()
}

// slave returns the status of a slave.
func (a *app) slave(s *servers.Server) replicated.ServerStatus {
	for _, g := range a.plugin.Status().Groups {
		if i := slices.IndexFunc(g.Servers, func(status replicated.ServerStatus) bool { return status.ID == s.Addr() }); i >= 0 {
			return g.Servers[i]
		}
	}
	return replicated.ServerStatus{}
}

// observer writes each statement's route into the trail of its request.
type observer struct{}

func (observer) Routed(ctx context.Context, r replicated.Route) {
	if t := trailOf(ctx); t != nil {
		t.mu.Lock()
		defer t.mu.Unlock()
		t.routes = append(t.routes, r)
	}
}

type trailKey struct{}

// trail is where the statements of one request went.
type trail struct {
	mu     sync.Mutex
	routes []replicated.Route
}

func trailOf(ctx context.Context) *trail {
	t, _ := ctx.Value(trailKey{}).(*trail)
	return t
}

func (t *trail) last() replicated.Route {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.routes) == 0 {
		return replicated.Route{}
	}
	return t.routes[len(t.routes)-1]
}

// lines is a log.
type lines struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}
