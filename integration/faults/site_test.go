package faults_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"gorm.io/gorm"

	"github.com/gorm-replicated/replicated"
	"github.com/gorm-replicated/replicated/integration/servers"
)

// site is an application behind the plugin's middleware:
//
//	POST /entries/{client}/{n}   writes the client's n-th entry
//	GET /entries/{client}        shows the latest one
//	GET /items/{form}            reads items in one of the forms
type site struct {
	*app
	url       string
	transport *http.Transport
	line      *timeline
	trouble   trouble // of the master

	mu    sync.Mutex
	acked map[string]map[int]bool // entries, by client: whether their write was acknowledged
}

func openSite(t *testing.T, e *engine, c *servers.Cluster, change func(*replicated.Config)) *site {
	t.Helper()
	s := &site{line: newTimeline(), acked: map[string]map[int]bool{}}
	s.app = openWith(t, e, c, &gorm.Config{PrepareStmt: true}, change)
	mux := http.NewServeMux()
	mux.HandleFunc("POST /entries/{client}/{n}", func(w http.ResponseWriter, r *http.Request) {
		n, err := strconv.Atoi(r.PathValue("n"))
		if err == nil {
			err = s.db.WithContext(r.Context()).Create(&Entry{Client: r.PathValue("client"), N: n}).Error
		}
		s.answer(w, r, "written", err)
	})
	mux.HandleFunc("GET /entries/{client}", func(w http.ResponseWriter, r *http.Request) {
		var latest Entry
		written := s.db.WithContext(r.Context()).Where("client = ?", r.PathValue("client"))
		err := written.Order("n DESC").Limit(1).Find(&latest).Error
		s.answer(w, r, strconv.Itoa(latest.N), err)
	})
	mux.HandleFunc("GET /items/{form}", func(w http.ResponseWriter, r *http.Request) {
		n, err := strconv.Atoi(r.PathValue("form"))
		if err == nil {
			err = forms[n%len(forms)].read(s.db.WithContext(r.Context()), trailOf(r.Context()))
		}
		s.answer(w, r, "read", err)
	})
	handler := s.plugin.Middleware(mux)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx, _ := tracked(r.Context())
		handler.ServeHTTP(w, r.WithContext(ctx))
	}))
	s.url, s.transport = server.URL, &http.Transport{MaxIdleConnsPerHost: 100}
	t.Cleanup(func() {
		s.transport.CloseIdleConnections()
		server.Close()
	})
	return s
}

// What a response tells of how it came about.
const (
	byHeader     = "By"     // the server that answered
	pathHeader   = "Path"   // all that were asked
	brokenHeader = "Broken" // it had begun to answer when it failed, or nobody else was asked for it on purpose
)

func (s *site) answer(w http.ResponseWriter, r *http.Request, text string, err error) {
	trail := trailOf(r.Context())
	by, all := trail.last()
	w.Header().Set(byHeader, by)
	w.Header().Set(pathHeader, strings.Join(all, ", "))
	trail.mu.Lock()
	broken := !trail.answered.IsZero()
	trail.mu.Unlock()
	trail.mu.Lock()
	broken = broken || ended(err) || brokeTwice(err, trail.routes)
	trail.mu.Unlock()
	if err != nil {
		if broken && !errors.Is(err, errTruncated) {
			w.Header().Set(brokenHeader, "yes")
		}
		http.Error(w, fmt.Sprintf("%T: %v", err, err), http.StatusInternalServerError)
		return
	}
	_, _ = io.WriteString(w, text) // without WriteHeader: the first Write is the first byte
}

// trouble is when a server had a fault.
type trouble struct {
	mu    sync.Mutex
	spans [][2]time.Time // from, to; zero: not over
}

func (t *trouble) begin() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.spans = append(t.spans, [2]time.Time{time.Now()})
}

func (t *trouble) end() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.spans[len(t.spans)-1][1] = time.Now()
}

// overlaps tells whether it had one between two moments, or so shortly before that its connections may still
// be broken.
func (t *trouble) overlaps(from, to time.Time) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.ContainsFunc(t.spans, func(s [2]time.Time) bool {
		return s[0].Before(to) && (s[1].IsZero() || from.Before(s[1].Add(4*idle+20*late.Since(s[0]))))
	})
}

// visits is what became of the requests of some clients.
type visits struct {
	writes, acked int
	reads         int
	stale         int
	broken        int // by a server that had begun to answer, by an operator, or with two connections
	excused       int // while the master had a fault
	failed        int
	served        map[string]int
	longest       time.Duration
}

// crowd is clients at work.
type crowd struct {
	site   *site
	cancel context.CancelFunc
	tasks  sync.WaitGroup

	mu     sync.Mutex
	visits visits
	errors map[string]int
	first  []string // stale reads
}

var clients atomic.Int64

func (s *site) crowd(
	t *testing.T, n int, pace time.Duration,
	visit func(ctx context.Context, c *crowd, name string, client *http.Client, n int),
) *crowd {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	c := &crowd{site: s, cancel: cancel, errors: map[string]int{}, visits: visits{served: map[string]int{}}}
	for range n {
		name := fmt.Sprintf("client-%d", clients.Add(1))
		jar, err := cookiejar.New(nil)
		must(t, err)
		client := &http.Client{Transport: s.transport, Jar: jar, Timeout: hangs}
		c.tasks.Go(func() {
			for n := 1; ctx.Err() == nil; n++ {
				visit(ctx, c, name, client, n)
				pass(ctx, pace)
			}
		})
	}
	t.Cleanup(c.stop)
	return c
}

func (c *crowd) stop() {
	c.cancel()
	c.tasks.Wait()
}

// writers are clients that write, and look at what they have written.
func (s *site) writers(t *testing.T, n int, pace time.Duration) *crowd {
	t.Helper()
	latest := sync.Map{} // by client: the latest n that was acknowledged
	return s.crowd(t, n, pace, func(ctx context.Context, c *crowd, name string, client *http.Client, n int) {
		_, err := c.request(client, "POST", fmt.Sprintf("/entries/%s/%d", name, n))
		s.note(name, n, err == nil)
		if err == nil {
			latest.Store(name, n)
		}
		for range 3 {
			text, err := c.request(client, "GET", "/entries/"+name)
			if err != nil {
				continue
			}
			want, _ := latest.LoadOrStore(name, 0)
			if got, err := strconv.Atoi(text); err != nil || got < want.(int) {
				c.stale(fmt.Sprintf("%s wrote %d and sees %s%s", name, want, text, s.state()))
			}
		}
	})
}

// readers are clients that only read.
func (s *site) readers(t *testing.T, n int, pace time.Duration) *crowd {
	t.Helper()
	return s.crowd(t, n, pace, func(_ context.Context, c *crowd, _ string, client *http.Client, n int) {
		_, _ = c.request(client, "GET", fmt.Sprintf("/items/%d", n))
	})
}

// note remembers an entry, and whether its write was acknowledged.
func (s *site) note(client string, n int, acked bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.acked[client] == nil {
		s.acked[client] = map[int]bool{}
	}
	s.acked[client][n] = acked
}

// request sends a request, and notes what became of it.
func (c *crowd) request(client *http.Client, method, path string) (string, error) {
	began := time.Now()
	header, body, err := answerTo(client, method, c.site.url+path)
	c.count(method, path, header, began, err)
	return body, err
}

// answerTo returns an error also for a status that is one.
func answerTo(client *http.Client, method, url string) (header http.Header, body string, err error) {
	r, err := http.NewRequest(method, url, nil) // not to be given up when the crowd goes home
	if err != nil {
		return nil, "", err
	}
	response, err := client.Do(r)
	if err != nil {
		return nil, "", err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", response.Status, text)
	}
	return response.Header, string(text), err
}

// count notes what became of a request that ends now.
func (c *crowd) count(method, path string, header http.Header, began time.Time, err error) {
	ended := time.Now()
	if ended.Sub(began) >= hangs {
		c.site.line.add("    %s %s hung; the goroutines:\n%s", method, path, goroutines())
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	v := &c.visits
	v.longest = max(v.longest, ended.Sub(began))
	if method == "POST" {
		v.writes++
	} else {
		v.reads++
	}
	switch {
	case err == nil:
		if method == "POST" {
			v.acked++
		} else {
			v.served[header.Get(byHeader)]++
		}
	case method == "GET" && header.Get(brokenHeader) != "":
		v.broken++
	case ended.Sub(began) < hangs && c.site.trouble.overlaps(began, ended):
		v.excused++
	default:
		v.failed++
		text := fmt.Sprintf("%s %s by %s: %v", method, strings.Join(strings.Split(path, "/")[:2], "/"),
			bare([]string{header.Get(pathHeader)}), err)
		if c.errors[text]++; c.errors[text] == 1 {
			c.site.line.add("    %s, begun %v ago%s", text, ended.Sub(began).Round(time.Millisecond), c.site.state())
		}
	}
}

func (c *crowd) stale(text string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.visits.stale++; len(c.first) < 3 {
		c.first = append(c.first, text)
		c.site.line.add("    %s", text)
	}
}

func (c *crowd) so() visits {
	c.mu.Lock()
	defer c.mu.Unlock()
	v := c.visits
	v.served = maps.Clone(v.served)
	return v
}

func (v visits) String() string {
	return fmt.Sprintf("%d of %d writes acknowledged; %d reads, %d stale, %d broken, served %v; "+
		"%d failed while the master had a fault, %d others; the longest took %v",
		v.acked, v.writes, v.reads, v.stale, v.broken, v.served,
		v.excused, v.failed, v.longest.Round(time.Millisecond))
}

// more waits until there have been n more reads.
func (c *crowd) more(t *testing.T, n int) {
	t.Helper()
	before := c.so()
	eventually(t, "waiting for clients", func() error {
		if now := c.so(); now.reads < before.reads+n {
			return fmt.Errorf("%d reads of %d: %v", now.reads-before.reads, n, now)
		}
		return nil
	})
}

// fine fails the test if somebody saw what he must not, or failed without an excuse.
func (c *crowd) fine(t *testing.T, who string) {
	t.Helper()
	v := c.so()
	if v.stale > 0 {
		t.Errorf("%s: %d stale reads; the first: %s", who, v.stale, strings.Join(c.first, "\n"))
	}
	if v.failed > 0 {
		t.Errorf("%s: %v", who, v)
		for text, n := range c.errors {
			t.Errorf("%4d × %s", n, text)
		}
	}
}

// compare compares what was acknowledged with what a server has.
func (s *site) compare(t *testing.T, on *servers.Server) {
	t.Helper()
	has := s.entries(t, on)
	s.mu.Lock()
	defer s.mu.Unlock()
	acked, unsure, lost, doubled := 0, 0, []string{}, []string{}
	for client, entries := range s.acked {
		for n, ok := range entries {
			if ok {
				acked++
			} else {
				unsure++
			}
			switch count := has[client][n]; {
			case ok && count == 0:
				lost = append(lost, fmt.Sprintf("%s/%d", client, n))
			case count > 1:
				doubled = append(doubled, fmt.Sprintf("%s/%d", client, n))
			}
		}
	}
	t.Logf("%d writes acknowledged, %d not; of the former %d lost; %d doubled",
		acked, unsure, len(lost), len(doubled))
	if len(lost)+len(doubled) > 0 {
		t.Errorf("%v: lost %v, doubled %v", on, lost, doubled)
	}
	if acked == 0 {
		t.Error("no write was acknowledged")
	}
}

// entries returns how often a server has each entry, by client and n.
func (s *site) entries(t *testing.T, on *servers.Server) map[string]map[int]int {
	t.Helper()
	rows, err := on.DB().QueryContext(t.Context(),
		"SELECT client, n, COUNT(*) FROM "+s.engine.schema+"entries GROUP BY client, n")
	must(t, err)
	defer rows.Close()
	has := map[string]map[int]int{}
	for rows.Next() {
		var client string
		var n, count int
		must(t, rows.Scan(&client, &n, &count))
		if has[client] == nil {
			has[client] = map[int]int{}
		}
		has[client][n] = count
	}
	must(t, rows.Err())
	return has
}
