package consistency

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
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
	"github.com/gorm-replicated/replicated/internal/position"
	"github.com/gorm-replicated/replicated/internal/token"
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
	tokens    *token.Sealer // opens what the plugin seals
	ttl       time.Duration // of tokens
	maxLag    time.Duration
	log       *lines
}

// opened counts applications.
var opened atomic.Int64

// open opens the cluster with the plugin, and serves the application.
func open(t testing.TB, e engine, c *servers.Cluster, change func(*replicated.Config)) *app {
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
	a := &app{number: opened.Add(1), db: db, plugin: replicated.New(cfg),
		header: "Replicated-Token", cookie: "replicated",
		ttl: cmp.Or(cfg.Token.TTL, 5*time.Minute), maxLag: cmp.Or(cfg.MaxLag, time.Minute),
		log: log, names: map[string]string{c.Master.Addr(): "master"}}
	if a.tokens, err = token.NewSealer(cfg.Secrets, a.cookie); err != nil {
		t.Fatal(err)
	}
	for _, slave := range c.Slaves {
		a.names[slave.Addr()] = slave.String()
	}
	if err := db.Use(a.plugin); err != nil {
		t.Fatal(err)
	}
	// Every request leaves a trail, which the plugin's observer writes.
	handler := a.plugin.Middleware(a.routes())
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		trail := &trail{plugin: a.plugin, began: time.Now(), before: a.plugin.Status()}
		handler.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), trailKey{}, trail)))
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
	Better string // the slave that should have answered instead of the master; "" if none should
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
	err := a.db.WithContext(ctx).Where("client = ?", r.PathValue("client")).Order("n DESC").Limit(1).
		Find(&entry).Error
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	trail := trailOf(r.Context())
	route := trail.last()
	p := page{
		N:      entry.N,
		Server: a.name(route.Server),
		Slave:  route.Intent == replicated.Slave,
		Reason: route.Reason.String(),
		Token:  r.Header.Get(a.header),
	}
	if cookie, err := r.Cookie(a.cookie); err == nil {
		p.Token += cookie.Value
	}
	p.Better = a.passedOver(r, trail)
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(p) // without WriteHeader: the first Write is the first byte
}

// passedOver returns the slave that should have answered a read which the master did; "" if the master is
// right. A slave should have answered if it served both when the request came and when its route was decided,
// and if it was known, when the request came, to have what the tokens of the request demand. Its lag, as
// known when the request came, must not have grown beyond MaxLag since: the slave may have left then, and
// come back. None of this depends on when slaves are asked, or on how long anything takes.
func (a *app) passedOver(r *http.Request, t *trail) string {
	route := t.last()
	switch {
	case route.Intent == replicated.Slave || route.Reason == replicated.ReasonStaleness:
		return ""
	case route.Reason == replicated.ReasonFailover, route.Reason == replicated.ReasonRecovering:
		// These are not about freshness.
		return ""
	}
	demanded, decidable := a.demanded(r, t.began)
	if !decidable {
		return ""
	}
	for _, before := range slavesOf(t.before) {
		covers := true
		for _, p := range demanded {
			covers = covers && positionOf(before, p.Kind()).Covers(p)
		}
		within := !before.LagKnown || before.Lag+t.decidedAt.Sub(t.began) <= a.maxLag
		if covers && within && before.Serving && statusOf(t.decided, before.ID).Serving {
			return a.name(before.ID)
		}
	}
	return ""
}

// demanded returns the positions that the tokens of a request demand. They are not decidable if one demands a
// time that was not over when the request came.
func (a *app) demanded(r *http.Request, began time.Time) (positions []position.Position, decidable bool) {
	texts := r.Header.Values(a.header)
	for _, cookie := range r.Cookies() {
		if cookie.Name == a.cookie || cookie.Name == a.cookie+"-read" { // the latter is that of Token.Monotonic
			texts = append(texts, cookie.Value)
		}
	}
	for _, text := range texts {
		opened, err := a.tokens.Open(text, began, a.ttl)
		if err != nil {
			continue // it counts as none
		}
		for _, entry := range opened {
			if began.Before(entry.Until) {
				return nil, false
			}
			p, err := position.Parse(entry.Position)
			if err != nil {
				return nil, false
			}
			if p.Known() {
				positions = append(positions, p)
			}
		}
	}
	return positions, true
}

// positionOf returns the position of a server. One of another kind covers nothing.
func positionOf(s replicated.ServerStatus, kind position.Kind) (p position.Position) {
	parse := position.ParseMariaDB
	switch kind {
	case position.MySQL:
		parse = position.ParseMySQL
	case position.PostgreSQL:
		parse = position.ParsePostgreSQL
	}
	p, _ = parse(s.Position) // unknown, and so covers nothing, if the text is empty
	return p
}

// slavesOf returns the slaves of a plugin.
func slavesOf(s replicated.Status) (slaves []replicated.ServerStatus) {
	for _, g := range s.Groups {
		for _, server := range g.Servers {
			if server.Role == replicated.Slave {
				slaves = append(slaves, server)
			}
		}
	}
	return slaves
}

// statusOf returns the status of the slave with this ID.
func statusOf(s replicated.Status, id string) replicated.ServerStatus {
	for _, slave := range slavesOf(s) {
		if slave.ID == id {
			return slave
		}
	}
	return replicated.ServerStatus{}
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
	return statusOf(a.plugin.Status(), s.Addr())
}

// observer writes each statement's route into the trail of its request.
type observer struct{}

func (observer) Routed(ctx context.Context, r replicated.Route) {
	if t := trailOf(ctx); t != nil {
		t.mu.Lock()
		defer t.mu.Unlock()
		t.routes = append(t.routes, r)
		if r.Intent == replicated.Master {
			t.decided, t.decidedAt = t.plugin.Status(), time.Now()
		}
	}
}

type trailKey struct{}

// trail is where the statements of one request went.
type trail struct {
	plugin *replicated.Plugin
	began  time.Time
	before replicated.Status // how the plugin saw its servers when the request came

	mu        sync.Mutex
	routes    []replicated.Route
	decided   replicated.Status // the same, when the master was last decided on
	decidedAt time.Time
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
