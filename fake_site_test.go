package replicated_test

import (
	"cmp"
	"context"
	"database/sql"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"gorm.io/gorm"

	"github.com/gorm-replicated/replicated"
	"github.com/gorm-replicated/replicated/internal/token"
)

// history is a Source: how many commits there were on the master, and how many of them each slave has
// replayed.
type history struct {
	mu     sync.Mutex
	name   string            // of the sequence
	names  map[string]string // of the sequences of servers that are on another one
	at     map[string]uint64
	asked  map[string]int // by server
	broken map[string]error
	log    *fakeLog // of when the master was asked; may be nil
}

func newHistory() *history {
	return &history{
		name: "log", names: map[string]string{},
		at: map[string]uint64{}, asked: map[string]int{}, broken: map[string]error{},
	}
}

func (h *history) set(server string, n uint64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.at[server] = n
}

// on puts a server on another sequence.
func (h *history) on(server, name string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.names[server] = name
}

func (h *history) commit() uint64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.at["master"]++
	return h.at["master"]
}

// replay makes slaves have all that the master has.
func (h *history) replay(slaves ...string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, s := range slaves {
		h.at[s] = h.at["master"]
	}
}

func (h *history) fail(server string, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.broken[server] = err
}

// questions returns how often a server has been asked since the last call.
func (h *history) questions(server string) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	n := h.asked[server]
	h.asked[server] = 0
	return n
}

func (h *history) MasterPosition(_ context.Context, conn *sql.Conn) (replicated.Position, error) {
	var name string
	if err := conn.Raw(func(c any) error { name = c.(*fakeConn).name; return nil }); err != nil {
		return replicated.Position{}, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.asked[name]++
	if name == "master" {
		h.log.add(name, "position")
	}
	return replicated.Sequence(cmp.Or(h.names[name], h.name), h.at[name]), h.broken[name]
}

func (h *history) SlavePosition(ctx context.Context, conn *sql.Conn) (replicated.Position, error) {
	return h.MasterPosition(ctx, conn)
}

var secret = []byte("ein Geheimnis, das keines ist: 0123456789abcdef")

// site is an application on fakes: POST / writes, GET / reads.
type site struct {
	*setup
	*history
	log     *fakeLog
	handler http.Handler
	logs    logBuffer
}

// newSite makes one with positions and two slaves that have all; change may be nil. It is used in a bubble.
func newSite(t testing.TB, change func(*replicated.Config)) *site {
	t.Helper()
	return newSiteIn(t, gorm.Config{}, change)
}

func newSiteIn(t testing.TB, gormConfig gorm.Config, change func(*replicated.Config)) *site {
	t.Helper()
	s := &site{history: newHistory()}
	s.set("master", 1)
	s.replay("slave-1", "slave-2")
	s.setup = newSetup(t, 2, gormConfig, func(c *replicated.Config) {
		c.Secrets = [][]byte{secret}
		c.Probe.Source = s.history
		c.Logger = slog.New(slog.NewTextHandler(&s.logs, nil))
		if change != nil {
			change(c)
		}
	})
	s.log = s.setup.log
	s.handler = s.plugin.Middleware(http.HandlerFunc(s.serve))
	return s
}

func (s *site) serve(w http.ResponseWriter, r *http.Request) {
	db := s.db.WithContext(r.Context())
	if r.Method == http.MethodPost {
		db.Create(&User{Name: "a"})
		s.commit()
		http.Redirect(w, r, "/", http.StatusSeeOther)
		return
	}
	db.Find(&[]User{})
}

// client sends requests with the cookies that it was given; with header, it keeps the token instead.
type client struct {
	site    *site
	cookies map[string]*http.Cookie
	header  bool
	token   string
}

func (s *site) client() *client { return &client{site: s, cookies: map[string]*http.Cookie{}} }

func (c *client) do(method string) *http.Response {
	r := httptest.NewRequest(method, "/", nil)
	if c.header && c.token != "" {
		r.Header.Set("Replicated-Token", c.token)
	} else if !c.header {
		for _, cookie := range c.cookies {
			r.AddCookie(cookie)
		}
	}
	w := httptest.NewRecorder()
	c.site.handler.ServeHTTP(w, r)
	response := w.Result()
	for _, cookie := range response.Cookies() {
		c.cookies[cookie.Name] = cookie
	}
	if token := response.Header.Get("Replicated-Token"); token != "" {
		c.token = token
	}
	return response
}

// get sends a GET and returns its route.
func (c *client) get() string {
	c.site.routes.take()
	c.do("GET")
	return strings.Join(c.site.routes.take(), ", ")
}

// bubble runs f in a bubble of synctest.
func bubble(t *testing.T, name string, f func(*testing.T)) {
	t.Helper()
	t.Run(name, func(t *testing.T) { synctest.Test(t, f) })
}

const (
	bySlave  = "a slave"
	byToken  = "master: no slave covers the token"
	byLag    = "master: no slave within MaxLag"
	byStale  = "master: no slave is fresh enough"
	byMethod = "method"
)

// served checks a route; bySlave is any slave by the request's method.
func served(t testing.TB, got, want string) {
	t.Helper()
	if want == bySlave && strings.HasPrefix(got, "slave-") && strings.HasSuffix(got, ": "+byMethod) {
		return
	}
	if got != want {
		t.Errorf("served by %q, want %q", got, want)
	}
}

// onHistory gives all servers of an instance a history of this name.
func onHistory(name string) func(*replicated.Config) {
	return func(c *replicated.Config) { c.Probe.Source.(*history).name = name }
}

// get has a client with this token read once.
func (s *site) get(t testing.TB, token, want string) {
	t.Helper()
	served(t, s.carrier(token).get(), want)
}

// with has the site serve with this handler from now on, behind its Middleware.
func (s *site) with(f http.HandlerFunc) { s.handler = s.plugin.Middleware(f) }

// write is what a POST does before it answers.
func (s *site) write(ctx context.Context) {
	s.db.WithContext(ctx).Create(&User{})
	s.commit()
}

// read returns the route of a read outside of requests.
func (s *site) read(ctx context.Context) string {
	s.routes.take()
	s.db.WithContext(ctx).Find(&[]User{})
	return strings.Join(s.routes.take(), ", ")
}

// newToken returns the token of another client's write.
func (s *site) newToken() string {
	c := s.client()
	c.do("POST")
	return c.token
}

// carrier returns a client that has a token in its header.
func (s *site) carrier(token string) *client {
	c := s.client()
	c.header, c.token = true, token
	return c
}

func slaveByDefault(c *replicated.Config) { c.DefaultIntent = replicated.Slave }

// sealed returns a token as an instance of the site may have sealed it at that time.
func sealed(t testing.TB, e token.Entry, at time.Time) string {
	t.Helper()
	sealer, err := token.NewSealer([][]byte{secret}, "replicated")
	if err != nil {
		t.Fatal(err)
	}
	text, err := sealer.Seal(token.Token{e}, at)
	if err != nil {
		t.Fatal(err)
	}
	return text
}
