package replicated_test

import (
	"bytes"
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
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
	"github.com/gorm-replicated/replicated/internal/position"
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
	return newSiteIn(t, gorm.Config{}, change)
}

func newSiteIn(t testing.TB, gormConfig gorm.Config, change func(*replicated.Config)) *site {
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

// TestGetAfterPost is the problem that Flask-Replicated leaves open.
func TestGetAfterPost(t *testing.T) {
	bubble(t, "by position", func(t *testing.T) {
		s := newSite(t, nil)
		c, other := s.client(), s.client()
		served(t, c.get(), bySlave)
		c.do("POST")
		served(t, c.get(), byToken)
		served(t, other.get(), bySlave) // the control: who brings no token reads behind
		time.Sleep(20 * time.Second)    // the slaves stand still: no time is long enough
		served(t, c.get(), byToken)
		s.replay("slave-2")
		c.get() // slaves so far behind are watched more closely only once somebody asks
		time.Sleep(time.Second)
		for range 20 { // one of two is enough, and only that one
			served(t, c.get(), "slave-2: method")
		}
	})
	bubble(t, "by position, in a header", func(t *testing.T) {
		s := newSite(t, nil)
		c := s.client()
		c.header = true
		c.do("POST")
		served(t, c.get(), byToken)
		s.replay("slave-1", "slave-2")
		time.Sleep(time.Second)
		served(t, c.get(), bySlave)
	})
	bubble(t, "by time where there are no positions", func(t *testing.T) {
		s := newSite(t, func(c *replicated.Config) { c.Probe.Source = nil })
		c := s.client()
		c.do("POST")
		time.Sleep(5*time.Second - time.Millisecond)
		served(t, c.get(), byToken)
		time.Sleep(2 * time.Millisecond)
		served(t, c.get(), bySlave)
		if n := s.plugin.Status().Tokens.TimeOnly; n != 1 {
			t.Errorf("TimeOnly is %d", n)
		}
		logs := s.logs.String() // at the start, and not again
		if strings.Count(logs, "tokens carry a time") != 1 || strings.Contains(logs, "carries a time") {
			t.Errorf("log: %s", logs)
		}
	})
	bubble(t, "by a cookie without content where there are no secrets", func(t *testing.T) {
		s := newSite(t, func(c *replicated.Config) { c.Secrets = nil })
		c := s.client()
		if w := c.do("POST"); w.Header.Get("Replicated-Token") != "" {
			t.Error("a header that nobody would know when to drop")
		}
		cookie := c.cookies["replicated"]
		if cookie == nil || cookie.Value != "1" || cookie.MaxAge != 5 {
			t.Fatalf("cookie %v", cookie)
		}
		s.replay("slave-1", "slave-2")
		time.Sleep(time.Second)
		served(t, c.get(), byToken)
		delete(c.cookies, "replicated") // as the browser does after Max-Age
		served(t, c.get(), bySlave)
		c.do("POST")
		if n := strings.Count(s.logs.String(), "Secrets is not set"); n != 1 {
			t.Errorf("logged %d times", n)
		}
	})
}

func TestCookie(t *testing.T) {
	no := false
	for _, test := range []struct {
		name string
		cfg  replicated.TokenConfig
		tls  bool
		want string
	}{
		{"as it is", replicated.TokenConfig{}, false, "replicated=…; Path=/; Max-Age=300; HttpOnly; SameSite=Lax"},
		{"over TLS", replicated.TokenConfig{}, true,
			"replicated=…; Path=/; Max-Age=300; HttpOnly; Secure; SameSite=Lax"},
		{"over TLS, but not secure", replicated.TokenConfig{Secure: &no}, true,
			"replicated=…; Path=/; Max-Age=300; HttpOnly; SameSite=Lax"},
		{"everything set", replicated.TokenConfig{Cookie: "ours", Domain: "example.com", Path: "/app",
			SameSite: http.SameSiteStrictMode, TTL: 1200500 * time.Millisecond}, false,
			"ours=…; Path=/app; Domain=example.com; Max-Age=1201; HttpOnly; SameSite=Strict"},
	} {
		bubble(t, test.name, func(t *testing.T) {
			s := newSite(t, func(c *replicated.Config) { c.Token = test.cfg })
			r := httptest.NewRequest("POST", "/", nil)
			if test.tls {
				r = httptest.NewRequest("POST", "https://example.com/", nil)
			}
			w := httptest.NewRecorder()
			s.handler.ServeHTTP(w, r)
			got := w.Header().Get("Set-Cookie")
			if value := w.Header().Get("Replicated-Token"); strings.Replace(got, value, "…", 1) != test.want {
				t.Errorf("got  %s\nwant %s", got, test.want)
			}
			if n := len(w.Header()["Set-Cookie"]); n != 1 {
				t.Errorf("%d cookies", n)
			}
		})
	}
}

// TestWhatAsksForASlave has what happens to demands where the code asks for a slave, and where it does not.
func TestWhatAsksForASlave(t *testing.T) {
	in := func(ctx func(context.Context) context.Context) func(*gorm.DB) *gorm.DB {
		return func(db *gorm.DB) *gorm.DB { return db.WithContext(ctx(db.Statement.Context)) }
	}
	within := func(d time.Duration) func(*gorm.DB) *gorm.DB {
		return in(func(ctx context.Context) context.Context { return replicated.WithMaxStaleness(ctx, d) })
	}
	slave := in(replicated.WithSlave)
	clause := func(db *gorm.DB) *gorm.DB { return db.Clauses(replicated.Slave) }
	plain := func(db *gorm.DB) *gorm.DB { return db }
	for _, test := range []struct {
		name  string
		how   func(*gorm.DB) *gorm.DB
		fresh string // who answers when the slave has what the token demands
		token string // when it has not
		lag   string // when it is also further behind than MaxLag
	}{
		{"the method alone", plain, "slave-1: method", byToken, byLag},
		{"WithSlave drops the token's demand, then MaxLag", slave, "slave-1: context", "slave-1: context",
			"slave-1: context"},
		{"so does a clause", clause, "slave-1: clause", "slave-1: clause", "slave-1: clause"},
		{"WithMaxStaleness", within(2 * time.Second), "slave-1: method", byToken, byLag},
		{"WithMaxStaleness is never dropped", func(db *gorm.DB) *gorm.DB {
			return within(2 * time.Second)(slave(db))
		}, "slave-1: context", "slave-1: context", byLag},
		{"no staleness at all: the master", within(0), byStale, byStale, byLag},
	} {
		bubble(t, test.name, func(t *testing.T) {
			s := newSite(t, func(c *replicated.Config) { c.Slaves, c.MaxLag = c.Slaves[:1], 10*time.Second })
			c := s.client()
			get := func() string {
				s.handler = s.plugin.Middleware(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					test.how(s.db.WithContext(r.Context())).Find(&[]User{})
				}))
				defer func() { s.handler = s.plugin.Middleware(http.HandlerFunc(s.serve)) }()
				return c.get()
			}
			served(t, get(), test.fresh)
			c.do("POST")
			served(t, get(), test.token)
			time.Sleep(13 * time.Second)
			served(t, get(), test.lag)
			s.replay("slave-1")
			time.Sleep(3 * time.Second)
			get() // has the slave watched more closely
			time.Sleep(time.Second)
			served(t, get(), test.fresh)
		})
	}
}

// onHistory gives all servers of an instance a history of this name.
func onHistory(name string) func(*replicated.Config) {
	return func(c *replicated.Config) { c.Probe.Source.(*history).name = name }
}

// TestTokensThatAreNone: what nobody of us has sealed says nothing.
func TestTokensThatAreNone(t *testing.T) {
	forged := func(s replicated.TokenStatus) uint64 { return s.Forged }
	theirCookie := func(c *replicated.Config) { c.Token.Cookie = "theirs" }
	others := func(c *replicated.Config) { c.Secrets = [][]byte{bytes.Repeat([]byte("0123456789"), 4)} }
	for _, test := range []struct {
		name   string
		sealed func(*replicated.Config) // how the instance is configured that sealed it
		spoil  func(string) string
		age    time.Duration
		count  func(replicated.TokenStatus) uint64
	}{
		{name: "of another secret", sealed: others, count: forged},
		{name: "of another cookie", sealed: theirCookie, count: forged},
		{name: "changed", spoil: func(s string) string { return s[:30] + "AAAA" + s[34:] }, count: forged},
		{name: "rubbish", spoil: func(string) string { return "rubbish" }, count: forged},
		{name: "expired", age: 5 * time.Minute, count: func(s replicated.TokenStatus) uint64 { return s.Expired }},
	} {
		bubble(t, test.name, func(t *testing.T) {
			sealer := newSite(t, test.sealed)
			from := sealer.client()
			from.do("POST")
			token := from.token
			if test.spoil != nil {
				token = test.spoil(token)
			}
			if test.age > 0 { // a control: it counts until then
				time.Sleep(test.age - time.Millisecond)
				served(t, sealer.carrier(token).get(), byLag)
				sealer.replay("slave-1", "slave-2")
				time.Sleep(time.Millisecond)
			}
			s := newSite(t, nil)
			served(t, s.carrier(token).get(), bySlave)
			if n := test.count(s.plugin.Status().Tokens); n != 1 {
				t.Errorf("counted %d: %+v", n, s.plugin.Status().Tokens)
			}
		})
	}
}

// TestTokensThatCannotBeRead: what one of us may have sealed, and this instance cannot read or compare, the
// master is read for. The next token says so, too, which takes the place of the first; and it ends some time.
func TestTokensThatCannotBeRead(t *testing.T) {
	ttl := 5 * time.Minute
	unread := func(s replicated.TokenStatus) uint64 { return s.Unread }
	ours := func(t *testing.T) string { return newSite(t, nil).newToken() }
	sealed := func(t *testing.T, e token.Entry, at time.Time) string {
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
	for _, test := range []struct {
		name  string
		text  func(*testing.T) string
		lasts time.Duration
		count func(replicated.TokenStatus) uint64
	}{
		{"of another history", func(t *testing.T) string { return newSite(t, onHistory("other")).newToken() }, ttl,
			func(s replicated.TokenStatus) uint64 { return s.OtherHistory }},
		{"of a kind of position to come", func(t *testing.T) string {
			return sealed(t, token.Entry{Position: []byte{99, 1}, Since: time.Now()}, time.Now())
		}, ttl, func(s replicated.TokenStatus) uint64 { return s.Accepted }},
		{"of a version to come", func(t *testing.T) string { return "v2." + ours(t) }, ttl, unread},
		{"too large", func(t *testing.T) string { return strings.Repeat(ours(t), 100) }, ttl, unread},
		{"from the future", func(t *testing.T) string {
			return sealed(t, token.Entry{Position: position.Sequence("log", 1).Append(nil)}, time.Now().Add(time.Hour))
		}, ttl, func(s replicated.TokenStatus) uint64 { return s.Future }},
		{"a cookie of an instance without secrets", func(*testing.T) string { return token.Marker },
			5 * time.Second,
			func(s replicated.TokenStatus) uint64 { return 1 - s.Forged }},
	} {
		bubble(t, test.name, func(t *testing.T) {
			s := newSite(t, nil)
			served(t, s.client().get(), bySlave) // the control
			c := s.carrier(test.text(t))
			served(t, c.get(), byToken)
			if n := test.count(s.plugin.Status().Tokens); n != 1 {
				t.Errorf("counted %d: %+v", n, s.plugin.Status().Tokens)
			}
			before := c.token
			c.do("POST")
			s.replay("slave-1", "slave-2")
			time.Sleep(test.lasts - time.Second)
			if c.token == before {
				t.Fatal("no new token")
			}
			served(t, c.get(), byToken)
			time.Sleep(time.Second)
			served(t, c.get(), bySlave)
		})
	}
}

// TestTokensOfOtherHistoriesTravelOn: another application of the same secrets may need them, but not for
// longer than if they had stayed a token of their own.
func TestTokensOfOtherHistoriesTravelOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		theirs, s := newSite(t, onHistory("theirs")), newSite(t, nil)
		text := theirs.newToken()
		time.Sleep(time.Minute)
		c := s.carrier(text)
		c.do("POST") // adds its own
		s.replay("slave-1", "slave-2")
		if c.token == text {
			t.Fatal("no new token")
		}
		theirs.get(t, c.token, byToken)
		theirs.get(t, "", bySlave) // the control
		time.Sleep(4*time.Minute - time.Millisecond)
		s.get(t, c.token, byToken) // nobody here knows that history
		time.Sleep(time.Millisecond)
		s.get(t, c.token, bySlave)
	})
}

// get has a client with this token read once.
func (s *site) get(t testing.TB, token, want string) {
	t.Helper()
	served(t, s.carrier(token).get(), want)
}

func TestRotatingSecrets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		newer := bytes.Repeat([]byte("0123456789"), 4)
		old := newSite(t, nil)
		both := newSite(t, func(c *replicated.Config) { c.Secrets = [][]byte{newer, secret} })
		after := newSite(t, func(c *replicated.Config) { c.Secrets = [][]byte{newer} })
		c := old.client()
		c.do("POST")
		c.site = both
		served(t, c.get(), byToken)
		c.do("POST")
		c.site = after
		served(t, c.get(), byToken)
		c.site = old // the control: it does not have the new one yet
		served(t, c.get(), bySlave)
	})
}

func TestTokenOutsideOfRequests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, func(c *replicated.Config) { c.DefaultIntent = replicated.Slave })
		read := func(ctx context.Context) string {
			s.routes.take()
			s.db.WithContext(ctx).Find(&[]User{})
			return strings.Join(s.routes.take(), ", ")
		}
		ctx := s.plugin.WithToken(t.Context(), "")
		if token, err := s.plugin.Token(ctx); token != "" || err != nil {
			t.Errorf("a token of nothing: %q, %v", token, err)
		}
		if got := read(ctx); !strings.HasSuffix(got, ": default intent") || !strings.HasPrefix(got, "slave-") {
			t.Error(got)
		}
		s.db.WithContext(ctx).Create(&User{})
		s.commit()
		served(t, read(ctx), "master: session wrote")
		token, err := s.plugin.Token(ctx)
		if err != nil || token == "" {
			t.Fatal(token, err)
		}
		job := s.plugin.WithToken(t.Context(), token)
		served(t, read(job), byToken)
		if got := read(t.Context()); !strings.HasPrefix(got, "slave-") { // the control
			t.Error(got)
		}
		if again, err := s.plugin.Token(job); err != nil || again == "" || again == token {
			t.Errorf("what it was begun with goes on: %q, %v", again, err)
		}
		s.replay("slave-1", "slave-2")
		time.Sleep(time.Second)
		if got := read(job); !strings.HasPrefix(got, "slave-") {
			t.Error(got)
		}

		if _, err := s.plugin.Token(t.Context()); err == nil || !strings.Contains(err.Error(), "WithToken") {
			t.Errorf("without a session: %v", err)
		}
		bare := newSite(t, func(c *replicated.Config) { c.Secrets = nil })
		_, err = bare.plugin.Token(bare.plugin.WithToken(t.Context(), ""))
		if err == nil || !strings.Contains(err.Error(), "Secrets") {
			t.Errorf("without secrets: %v", err)
		}
		if unused := replicated.New(replicated.Config{}); unused.WithToken(t.Context(), token) != t.Context() {
			t.Error("a session before db.Use")
		}
	})
}

// TestTransport has a front service that writes nothing itself, and a back service that does.
func TestTransport(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, nil)
		back := s.plugin.Middleware(http.HandlerFunc(s.serve))
		front := func(transport http.RoundTripper) http.Handler {
			return s.plugin.Middleware(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				req := httptest.NewRequest(r.Method, "http://back/", nil).WithContext(r.Context())
				req.RequestURI = ""
				if _, err := transport.RoundTrip(req); err != nil {
					t.Error(err)
				}
				if r.Method == http.MethodGet {
					s.db.WithContext(r.Context()).Find(&[]User{})
				}
			}))
		}
		base := roundTripper(func(r *http.Request) (*http.Response, error) {
			w := httptest.NewRecorder()
			back.ServeHTTP(w, r.WithContext(context.Background()))
			return w.Result(), nil
		})
		s.handler = front(s.plugin.Transport(base))
		c := s.client()
		c.do("POST")
		served(t, c.get(), byToken+", "+byToken)
		s.handler = front(base) // the control: nobody carries it to the back, but the front has it
		if got := c.get(); !strings.HasPrefix(got, "slave-") || !strings.HasSuffix(got, byToken) {
			t.Error(got)
		}
		failing := s.plugin.Transport(roundTripper(func(*http.Request) (*http.Response, error) {
			return nil, errors.ErrUnsupported
		}))
		if _, err := failing.RoundTrip(httptest.NewRequest("GET", "/", nil)); err != errors.ErrUnsupported {
			t.Error(err)
		}
	})
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// TestWait has slaves that catch up a while after the POST.
func TestWait(t *testing.T) {
	for _, test := range []struct {
		wait, after time.Duration
		want        string
		took        time.Duration // at most
	}{
		{0, 15 * time.Millisecond, byToken, 0},
		{20 * time.Millisecond, 0, bySlave, 11 * time.Millisecond},
		{50 * time.Millisecond, 15 * time.Millisecond, bySlave, 30 * time.Millisecond},
		{50 * time.Millisecond, time.Minute, byToken, 50 * time.Millisecond},
	} {
		bubble(t, fmt.Sprintf("%v, slaves %v behind", test.wait, test.after), func(t *testing.T) {
			s := newSite(t, func(c *replicated.Config) { c.Token.Wait = test.wait })
			time.Sleep(time.Second)
			c := s.client()
			c.do("POST")
			catchUp := time.AfterFunc(test.after, func() { s.replay("slave-1", "slave-2") })
			defer catchUp.Stop()
			start := time.Now()
			served(t, c.get(), test.want)
			if took := time.Since(start); took > test.took {
				t.Errorf("took %v", took)
			}
		})
	}
	bubble(t, "once for all reads of a request", func(t *testing.T) {
		s := newSite(t, func(c *replicated.Config) { c.Token.Wait = time.Second })
		c := s.client()
		c.do("POST")
		s.handler = s.plugin.Middleware(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			for range 3 {
				s.db.WithContext(r.Context()).Find(&[]User{})
			}
		}))
		start := time.Now()
		served(t, c.get(), byToken+", "+byToken+", "+byToken)
		if took := time.Since(start); took != time.Second {
			t.Errorf("took %v", took)
		}
	})
	bubble(t, "no longer than the request", func(t *testing.T) {
		s := newSite(t, func(c *replicated.Config) { c.Token.Wait = time.Minute })
		c := s.client()
		c.do("POST")
		ctx, cancel := context.WithTimeout(s.plugin.WithToken(t.Context(), c.token), time.Second)
		defer cancel()
		start := time.Now()
		s.db.WithContext(replicated.WithMaxStaleness(ctx, time.Hour)).Find(&[]User{})
		s.db.WithContext(ctx).Find(&[]User{})
		if took := time.Since(start); took > time.Second {
			t.Errorf("took %v", took)
		}
	})
}

// TestMonotonic has slaves of which one is behind, and a client that reads from both.
func TestMonotonic(t *testing.T) {
	for _, monotonic := range []bool{true, false} {
		bubble(t, fmt.Sprint(monotonic), func(t *testing.T) {
			s := newSite(t, func(c *replicated.Config) { c.Token.Monotonic = monotonic })
			c := s.client()
			back := 0
			for range 50 {
				s.commit()
				s.replay("slave-1") // slave-2 never gets there
				time.Sleep(2 * time.Second)
				first := c.get()
				second := c.get()
				if strings.HasPrefix(first, "slave-1") && strings.HasPrefix(second, "slave-2") {
					back++
				}
			}
			if (back > 0) == monotonic {
				t.Errorf("saw an older state %d times", back)
			}
		})
	}
	bubble(t, "after a read on the master", func(t *testing.T) {
		s := newSite(t, func(c *replicated.Config) { c.Token.Monotonic = true })
		s.commit()
		c := s.client()
		s.handler = s.plugin.Middleware(replicated.UseMaster(http.HandlerFunc(s.serve)))
		served(t, c.get(), "master: handler")
		s.handler = s.plugin.Middleware(http.HandlerFunc(s.serve))
		served(t, c.get(), byToken)
	})
}

func TestWritesAfterTheFirstByte(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, nil)
		s.handler = s.plugin.Middleware(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprint(w, "a")
			s.db.WithContext(r.Context()).Create(&User{})
			s.db.WithContext(r.Context()).Exec("UPDATE users SET name = 'b'")
		}))
		if w := s.client().do("POST"); len(w.Cookies()) != 0 {
			t.Error("a token that cannot be right")
		}
		if n := s.plugin.Status().Tokens.LateWrites; n != 2 {
			t.Errorf("counted %d", n)
		}
		if n := strings.Count(s.logs.String(), "after the first byte"); n != 1 {
			t.Errorf("logged %d times: %s", n, &s.logs)
		}
	})
}

// TestQuestions has what the freshness costs: nothing for what reads, one question for what writes.
func TestQuestions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, func(c *replicated.Config) { c.Probe.MinInterval = time.Second })
		c := s.client()
		c.do("POST")
		time.Sleep(5 * time.Second)
		synctest.Wait()
		s.questions("master")
		s.questions("slave-1")
		for range 100 {
			c.get()
		}
		synctest.Wait()
		// one round, begun by the first that found no slave
		if n := s.questions("master") + s.questions("slave-1"); n > 4 {
			t.Errorf("%d questions of reads", n)
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		s.questions("master")
		const writes = 100
		for range writes {
			c.do("POST")
		}
		if n := s.questions("master"); n > writes+1 {
			t.Errorf("%d questions of %d writes", n, writes)
		}
		s.log.take()
	})
}

func TestPositionThatCannotBeRead(t *testing.T) {
	for _, test := range []struct {
		name   string
		spoil  func(*site)
		reason string
	}{
		{"the master does not say", func(s *site) { s.fail("master", io.ErrUnexpectedEOF) }, "unexpected EOF"},
		{"it does not fit into a cookie", func(s *site) {
			s.history.mu.Lock()
			s.name = strings.Repeat("x", 4000)
			s.history.mu.Unlock()
		}, "do not fit"},
	} {
		bubble(t, test.name, func(t *testing.T) {
			s := newSite(t, nil)
			test.spoil(s)
			c := s.client()
			w := c.do("POST")
			if n := len(w.Header.Get("Set-Cookie")); n == 0 || n > 4096 {
				t.Errorf("a cookie of %d bytes", n)
			}
			s.replay("slave-1", "slave-2")
			time.Sleep(time.Second)
			served(t, c.get(), byToken)
			if !strings.Contains(s.logs.String(), test.reason) {
				t.Errorf("log: %s", &s.logs)
			}
			if n := s.plugin.Status().Tokens.TimeOnly; n == 0 {
				t.Error("not counted")
			}
			time.Sleep(5 * time.Second)
			if got := c.get(); got == byToken {
				t.Error("the window does not end")
			}
		})
	}
}

// TestTokensHoldForAllGroupsOfAMaster: it is not known which group's tables a client has written to.
func TestTokensHoldForAllGroupsOfAMaster(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHistory()
		h.set("master", 1)
		h.replay("slave-1", "orders-slave")
		log, observed := &fakeLog{}, &routes{}
		p := replicated.New(replicated.Config{
			Slaves: []gorm.Dialector{
				dialector(openPool(t, &fake{name: "slave-1", log: log})),
			}, Secrets: [][]byte{secret},
			Probe: replicated.ProbeConfig{Source: h}, Observer: observed,
		})
		p.Register(replicated.Group{Slaves: []gorm.Dialector{replicated.Server{
			Dialector: dialector(openPool(t, &fake{name: "orders-slave", log: log})), ID: "orders-slave",
		}}}, "orders")
		db := openFake(t, openPool(t, &fake{name: "master", log: log}), gorm.Config{})
		if err := db.Use(p); err != nil {
			t.Fatal(err)
		}
		defer p.Close()
		ctx := p.WithToken(t.Context(), "")
		db.WithContext(ctx).Exec("UPDATE orders SET a = 1")
		h.commit()
		token, err := p.Token(ctx)
		if err != nil {
			t.Fatal(err)
		}
		observed.take()
		next := func(ctx context.Context) *gorm.DB { return db.WithContext(ctx) }
		serveWith := func(token string) []string {
			r := httptest.NewRequest("GET", "/", nil)
			r.Header.Set("Replicated-Token", token)
			p.Middleware(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				next(r.Context()).Find(&[]User{})
				next(r.Context()).Table("orders").Find(&[]map[string]any{})
			})).ServeHTTP(httptest.NewRecorder(), r)
			return observed.take()
		}
		expect(t, serveWith(token), byToken, byToken)
		expect(t, serveWith(""), "slave-1: method", "orders-slave: method")
	})
}

// TestTwoPluginsWithOneCookie: one token would be lost, and somebody would read stale data. So the inner
// plugin issues none, and its requests read the master.
func TestTwoPluginsWithOneCookie(t *testing.T) {
	cookieOfReads := func(c *replicated.Config) {
		c.Token.Cookie, c.Token.Header = "replicated-read", "Two-Token"
	}
	for _, test := range []struct {
		name          string
		first, second func(*replicated.Config)
		clash         bool
	}{
		{"the same", nil, nil, true},
		{"the same header", nil, func(c *replicated.Config) { c.Token.Cookie = "two" }, true},
		{"the same cookie", nil, func(c *replicated.Config) { c.Token.Header = "Two-Token" }, true},
		{"the cookie of the other's reads", nil, cookieOfReads, true},
		{"the cookie of whose reads is the other's", cookieOfReads, nil, true},
		{"the inner without secrets", nil, func(c *replicated.Config) { c.Secrets = nil }, true},
		{"the outer without secrets", func(c *replicated.Config) { c.Secrets = nil }, nil, true},
		{"each its own", nil, func(c *replicated.Config) { c.Token.Cookie, c.Token.Header = "two", "Two-Token" },
			false},
	} {
		bubble(t, test.name, func(t *testing.T) {
			one, two := newSite(t, test.first), newSite(t, test.second)
			serve := func(sites ...*site) http.Handler {
				return one.plugin.Middleware(two.plugin.Middleware(http.HandlerFunc(
					func(w http.ResponseWriter, r *http.Request) {
						for _, s := range sites {
							s.serve(httptest.NewRecorder(), r)
						}
					})))
			}
			one.handler = serve(one, two)
			c := one.client()
			c.do("POST")
			one.routes.take()
			two.routes.take()
			c.do("GET")
			expect(t, one.routes.take(), byToken)
			want := byToken
			if test.clash {
				want = "master: method"
			}
			expect(t, two.routes.take(), want)
			if logged := strings.Contains(two.logs.String(), "two plugins in one request"); logged != test.clash {
				t.Errorf("logged: %s", &two.logs)
			}
			if n := two.plugin.Status().Tokens; test.clash && n.Accepted+n.Forged > 0 {
				t.Errorf("the inner one took a token: %+v", n)
			}

			one.handler = serve(two)
			issued := two.plugin.Status().Tokens.Issued
			w := httptest.NewRecorder()
			one.handler.ServeHTTP(w, httptest.NewRequest("POST", "/", nil))
			if brings := len(w.Header()["Set-Cookie"]) > 0; brings == test.clash {
				t.Errorf("what the inner one wrote brings %v", w.Header())
			}
			if n := two.plugin.Status().Tokens.Issued - issued; (n > 0) == test.clash {
				t.Errorf("the inner one issued %d tokens", n)
			}
		})
	}
}

func TestStatusHandler(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, nil)
		s.client().do("POST")
		w := httptest.NewRecorder()
		s.plugin.StatusHandler().ServeHTTP(w, httptest.NewRequest("GET", "/", nil))
		for _, want := range []string{`"ID":"slave-1","Role":"slave"`, `"Serving":true`, `"LagKnown":true`,
			`"Position":"log:1"`, `"Issued":1`} {
			if !strings.Contains(w.Body.String(), want) {
				t.Errorf("no %s in %s", want, w.Body)
			}
		}
	})
}

// TestPositionIsReadAfterCommitAndBeforeTheFirstByte has the ways to write and the ways to answer. Whatever
// they are, what was committed is behind the position, and the token is in the response's header.
func TestPositionIsReadAfterCommitAndBeforeTheFirstByte(t *testing.T) {
	type answer = func(http.ResponseWriter, *http.Request)
	none := func(http.ResponseWriter, *http.Request) {}
	body := func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "a") }
	insert := func(db *gorm.DB) error { return db.Create(&User{}).Error }
	for _, test := range []struct {
		name   string
		write  func(*gorm.DB) error
		answer answer
		want   string // what happened, in its order
	}{
		{"GORM's own transaction", insert, body, "BEGIN INSERT COMMIT position byte"},
		{"none", func(db *gorm.DB) error { return insert(db.Session(&gorm.Session{SkipDefaultTransaction: true})) },
			body, "INSERT position byte"},
		{"raw SQL", func(db *gorm.DB) error { return db.Exec("INSERT INTO users VALUES (1)").Error }, body,
			"INSERT position byte"},
		{"Transaction", func(db *gorm.DB) error { return db.Transaction(insert) }, body,
			"BEGIN INSERT COMMIT position byte"},
		{"Begin and Commit", func(db *gorm.DB) error {
			tx := db.Begin()
			return errors.Join(insert(tx), tx.Commit().Error)
		}, body, "BEGIN INSERT COMMIT position byte"},
		{"Rollback", func(db *gorm.DB) error {
			tx := db.Begin()
			return errors.Join(insert(tx), tx.Rollback().Error)
		}, body, "BEGIN INSERT ROLLBACK position byte"}, // once too often does no harm
		{"in goroutines", func(db *gorm.DB) error {
			var done sync.WaitGroup
			done.Go(func() { _ = db.Exec("INSERT INTO users VALUES (1)").Error })
			done.Wait()
			return nil
		}, body, "INSERT position byte"},
		{"nothing is written", func(db *gorm.DB) error { return db.Find(&[]User{}).Error }, body, "SELECT byte"},

		{"no answer", insert, none, "BEGIN INSERT COMMIT position"},
		{"WriteHeader", insert, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(201) },
			"BEGIN INSERT COMMIT position byte"},
		{"204", insert, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(204) },
			"BEGIN INSERT COMMIT position byte"},
		{"302", insert, func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/", http.StatusFound) },
			"BEGIN INSERT COMMIT position byte"},
		{"103 before it", insert, func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(103)
			w.WriteHeader(200)
		}, "BEGIN INSERT COMMIT byte position byte"},
		{"an error", insert, func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "no", 500) },
			"BEGIN INSERT COMMIT position byte byte"},
		{"a panic", insert, func(http.ResponseWriter, *http.Request) { panic("as intended") },
			"BEGIN INSERT COMMIT position"},
		{"twice", insert, func(w http.ResponseWriter, r *http.Request) { body(w, r); body(w, r) },
			"BEGIN INSERT COMMIT position byte byte"},
	} {
		bubble(t, test.name, func(t *testing.T) {
			s := newSite(t, func(c *replicated.Config) { c.Slaves = c.Slaves[:1]; c.Probe.MinInterval = time.Second })
			synctest.Wait()
			s.log.take()
			s.history.log = s.log
			handler := s.plugin.Middleware(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if err := test.write(s.db.WithContext(r.Context())); err != nil {
					t.Error(err)
				}
				test.answer(w, r)
			}))
			w := httptest.NewRecorder()
			func() {
				defer func() { _ = recover() }()
				handler.ServeHTTP(&byteLog{w, s.log}, httptest.NewRequest("POST", "/", nil))
			}()
			var happened []string
			for _, r := range s.log.take() {
				verb, _, _ := strings.Cut(r.sql, " ")
				happened = append(happened, verb)
			}
			if got := strings.Join(happened, " "); got != test.want {
				t.Errorf("got  %s\nwant %s", got, test.want)
			}
			if got := w.Header().Get("Replicated-Token") != ""; got != strings.Contains(test.want, "position") {
				t.Errorf("a token in the header: %v", got)
			}
		})
	}
}

// byteLog remembers when a byte of the response leaves.
type byteLog struct {
	http.ResponseWriter
	log *fakeLog
}

func (w *byteLog) WriteHeader(code int) {
	w.log.add("client", "byte")
	w.ResponseWriter.WriteHeader(code)
}

func (w *byteLog) Write(p []byte) (int, error) {
	w.log.add("client", "byte")
	return w.ResponseWriter.Write(p)
}
