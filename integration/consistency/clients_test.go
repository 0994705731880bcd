package consistency

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gorm-replicated/replicated/integration/servers"
)

// carrier is how a client carries the token from one response to its next request.
type carrier string

const (
	byCookie  carrier = "cookie"
	byHeader  carrier = "header"
	forgetful carrier = "nothing" // the control
)

// client is a browser, or a program.
type client struct {
	name string
	app  *app
	http *http.Client
}

func (a *app) client(t testing.TB, name string, carry carrier) *client {
	t.Helper()
	c := &client{name: a.nameOf(name), app: a, http: &http.Client{Transport: a.transport}}
	switch carry {
	case byCookie:
		jar, err := cookiejar.New(nil)
		if err != nil {
			t.Fatal(err)
		}
		c.http.Jar = jar
	case byHeader:
		c.http.Transport = &headers{base: a.transport, header: a.header}
	}
	return c
}

// nameOf makes a client's name one that no other test on the same servers has.
func (a *app) nameOf(client string) string { return fmt.Sprintf("%d-%s", a.number, client) }

// headers carries the token without cookies, through redirects too.
type headers struct {
	base   http.RoundTripper
	header string
	token  atomic.Value
}

func (h *headers) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Del(h.header) // the client has copied that of the request which was redirected
	if token, ok := h.token.Load().(string); ok {
		r.Header.Set(h.header, token)
	}
	response, err := h.base.RoundTrip(r)
	if err == nil && response.Header.Get(h.header) != "" {
		h.token.Store(response.Header.Get(h.header))
	}
	return response, err
}

// do sends a request, follows where it is redirected to, and returns the body of what is answered then.
func (c *client) do(ctx context.Context, method, path string, query url.Values) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, method, c.app.url+path+"?"+query.Encode(), nil)
	if err != nil {
		return nil, err
	}
	response, err := c.http.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode >= 300 {
		err = fmt.Errorf("%s %s: %s: %s", method, path, response.Status, body)
	}
	return body, err
}

// get shows the latest entry of somebody, who may be the client itself.
func (c *client) get(ctx context.Context, of string, query ...string) (page, error) {
	values := url.Values{}
	for i := 0; i+1 < len(query); i += 2 {
		values.Set(query[i], query[i+1])
	}
	body, err := c.do(ctx, "GET", "/entries/"+of, values)
	return pageOf(body, err)
}

func pageOf(body []byte, err error) (page, error) {
	var p page
	if err == nil {
		err = json.Unmarshal(body, &p)
	}
	return p, err
}

// post writes the client's n-th entry.
func (c *client) post(ctx context.Context, n int, write, answer string) ([]byte, error) {
	return c.do(ctx, "POST", "/entries",
		url.Values{"client": {c.name}, "n": {strconv.Itoa(n)}, "write": {write}, "answer": {answer}})
}

// round is a POST, and the GET that follows it.
type round struct {
	n             int
	write, answer string
	think         time.Duration // between the two
}

// Every second POST is redirected to its GET; the others answer in turn. Each way to write meets each way to
// answer.
func roundOf(n int) round {
	r := round{n: n, answer: "303"}
	if n%2 == 1 {
		r.answer = []string{"200", "201", "204", ""}[n/2%4]
	}
	r.write = []string{"default", "transaction", "raw", "plain"}[n/8%4]
	return r
}

// play returns the page that the client sees after its POST.
func (c *client) play(ctx context.Context, r round) (page, error) {
	body, err := c.post(ctx, r.n, r.write, r.answer)
	if err != nil || r.answer == "303" {
		return pageOf(body, err)
	}
	pass(ctx, r.think)
	return c.get(ctx, c.name)
}

// stale says whether a page lacks the client's n-th entry. It is what every count of stale reads here goes
// by, those of the controls too.
func stale(n int, p page) bool { return p.N < n }

// tally is what clients of one kind have seen. The zero value is empty.
type tally struct {
	mu      sync.Mutex
	reads   int
	stale   int
	bySlave int
	wrong   int            // by the master, although a slave should have answered
	routes  map[string]int // by server and reason
	failed  error          // the first request that failed
	first   []string       // the first reads that were stale or wrong, in detail
	took    []time.Duration
}

// saw counts a page, and says whether it was stale.
func (y *tally) saw(c *client, r round, p page, took time.Duration) {
	y.mu.Lock()
	defer y.mu.Unlock()
	y.reads++
	y.took = append(y.took, took)
	if y.routes == nil {
		y.routes = map[string]int{}
	}
	y.routes[p.Server+", "+p.Reason]++
	if p.Slave {
		y.bySlave++
	}
	if stale(r.n, p) {
		y.stale++
	}
	if p.Better != "" {
		y.wrong++
	}
	if (stale(r.n, p) || p.Better != "") && len(y.first) < 3 {
		y.first = append(y.first, fmt.Sprintf("%s, round %d (%s, answered with %q): "+
			"sees %d, from %s (%s; better from %q), "+
			"with the token %q; the plugin sees now:%s",
			c.name, r.n, r.write, r.answer, p.N, p.Server, p.Reason, p.Better, p.Token, c.app.state()))
	}
}

func (y *tally) fail(c *client, r round, err error) {
	y.mu.Lock()
	defer y.mu.Unlock()
	if y.failed == nil {
		y.failed = fmt.Errorf("%s, round %d (%s, answered with %q): %w", c.name, r.n, r.write, r.answer, err)
	}
}

// by returns how many reads this slave has answered.
func (y *tally) by(s *servers.Server) (n int) {
	y.mu.Lock()
	defer y.mu.Unlock()
	for route, count := range y.routes {
		if strings.HasPrefix(route, s.String()+",") {
			n += count
		}
	}
	return n
}

// isStale says whether a read was stale.
func (y *tally) isStale() bool {
	y.mu.Lock()
	defer y.mu.Unlock()
	return y.stale > 0
}

// share is the part of all reads.
func (y *tally) share(of int) float64 {
	if y.reads == 0 {
		return 0
	}
	return float64(of) / float64(y.reads)
}

func (y *tally) String() string {
	y.mu.Lock()
	defer y.mu.Unlock()
	var routes []string
	for _, route := range slices.Sorted(maps.Keys(y.routes)) {
		routes = append(routes, fmt.Sprintf("%s %d", route, y.routes[route]))
	}
	return fmt.Sprintf("%d reads, %d stale (%.1f %%), %.1f %% by slaves, %d wrongly by the master [%s], "+
		"a round takes %v", y.reads, y.stale, 100*y.share(y.stale), 100*y.share(y.bySlave), y.wrong,
		strings.Join(routes, "; "), latencies(y.took))
}

// noneStale fails the test if a read was stale or went to the master for no reason, or a request failed.
func (y *tally) noneStale(t testing.TB, who string) {
	t.Helper()
	if y.failed != nil {
		t.Errorf("%s: %v", who, y.failed)
	}
	if y.stale > 0 {
		t.Errorf("%s: %d of %d reads stale; the first:\n%s", who, y.stale, y.reads, strings.Join(y.first, "\n"))
	}
	y.noneWrong(t, who)
}

// noneWrong fails the test if a read went to the master although a slave should have answered.
func (y *tally) noneWrong(t testing.TB, who string) {
	t.Helper()
	if y.wrong > 0 {
		t.Errorf("%s: %d of %d reads by the master for no reason; the first:\n%s",
			who, y.wrong, y.reads, strings.Join(y.first, "\n"))
	}
}

// load is what the clients of one kind do.
type load struct {
	clients, rounds int
	carry           func(i int) carrier
	pace            time.Duration // from the beginning of one round to that of the next, at least
	round           func(n int) round
	more            func() bool // whether there are rounds beyond those; nil: none
}

// run has the clients play their rounds at once, and returns what they saw.
func (a *app) run(t testing.TB, name string, l load) *tally {
	t.Helper()
	var y tally
	var wg sync.WaitGroup
	for i := range l.clients {
		c := a.client(t, fmt.Sprintf("%s-%d", name, i), l.carry(i))
		wg.Go(func() {
			next := time.Now().Add(l.pace * time.Duration(i) / time.Duration(l.clients)) // not all at once
			for n := 1; n <= l.rounds || l.more != nil && l.more(); n++ {
				pass(t.Context(), time.Until(next))
				next = next.Add(l.pace)
				r, began := l.round(n), time.Now()
				p, err := c.play(t.Context(), r)
				if err != nil {
					y.fail(c, r, err)
					return
				}
				y.saw(c, r, p, time.Since(began))
			}
		})
	}
	wg.Wait()
	return &y
}

// latencies prints as what is to know of some durations.
type latencies []time.Duration

// at returns the duration that this part of them do not exceed.
func (l latencies) at(part float64) time.Duration {
	if len(l) == 0 {
		return 0
	}
	return slices.Sorted(slices.Values(l))[int(part*float64(len(l)-1))].Round(100 * time.Microsecond)
}

func (l latencies) String() string {
	return fmt.Sprintf("%v (median; 95 %%: %v; most: %v)", l.at(0.5), l.at(0.95), l.at(1))
}
