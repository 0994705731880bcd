package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"flag"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/gorm-replicated/replicated"
)

// visitor is a browser, which keeps no cookies unless that is said, in front of a guestbook in files.
type visitor struct {
	t      *testing.T
	site   *site
	server *httptest.Server
	client *http.Client
}

func visitFiles(t *testing.T) *visitor {
	t.Helper()
	return visitBackend(t, newFiles(t), secret())
}

func newFiles(t *testing.T) *backend {
	t.Helper()
	b, err := openFiles()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	return b
}

func secret() []byte {
	secret := make([]byte, 32)
	rand.Read(secret)
	return secret
}

func visitBackend(t *testing.T, b *backend, secrets ...[]byte) *visitor {
	t.Helper()
	s, err := newSite(t.Context(), b, secrets...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	server := httptest.NewServer(s.Handler())
	t.Cleanup(server.Close)
	client := server.Client()
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &visitor{t, s, server, client}
}

// keepCookies has the visitor keep cookies from now on.
func (v *visitor) keepCookies() {
	v.t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		v.t.Fatal(err)
	}
	v.client.Jar = jar
}

// each does something to every slave.
func (v *visitor) each(do func(*slave)) {
	for _, s := range v.site.backend.replication.slaves {
		do(s)
	}
}

// awaitReplay waits until the slaves have all that the master has.
func (v *visitor) awaitReplay() {
	v.t.Helper()
	if err := v.site.backend.replication.Await(v.t.Context()); err != nil {
		v.t.Fatal(err)
	}
}

func (v *visitor) request(method, path string, form url.Values) *http.Request {
	v.t.Helper()
	r, err := http.NewRequestWithContext(v.t.Context(), method, v.server.URL+path,
		strings.NewReader(form.Encode()))
	if err != nil {
		v.t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	return r
}

// do returns the response and its body.
func (v *visitor) do(r *http.Request, wantStatus int) (*http.Response, string) {
	v.t.Helper()
	response, err := v.client.Do(r)
	if err != nil {
		v.t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		v.t.Fatal(err)
	}
	if response.StatusCode != wantStatus {
		v.t.Fatalf("%s %s: status %d, want %d\n%s", r.Method, r.URL.Path, response.StatusCode, wantStatus, body)
	}
	return response, string(body)
}

func (v *visitor) get(path string) string {
	v.t.Helper()
	_, body := v.do(v.request("GET", path, nil), http.StatusOK)
	return body
}

func (v *visitor) post(path string, wantStatus int, pairs ...string) (location, body string) {
	v.t.Helper()
	form := url.Values{}
	for i := 0; i+1 < len(pairs); i += 2 {
		form.Add(pairs[i], pairs[i+1])
	}
	response, body := v.do(v.request("POST", path, form), wantStatus)
	return response.Header.Get("Location"), body
}

// total is how many entries the master has.
func (v *visitor) total() int64 {
	v.t.Helper()
	_, n, err := v.site.store.Latest(context.Background())
	if err != nil {
		v.t.Fatal(err)
	}
	return n
}

func contains(t *testing.T, body string, want ...string) {
	t.Helper()
	for _, w := range want {
		if !strings.Contains(body, w) {
			t.Errorf("the page lacks %q:\n%s", w, body)
		}
	}
}

func lacks(t *testing.T, body string, unwanted ...string) {
	t.Helper()
	for _, u := range unwanted {
		if strings.Contains(body, u) {
			t.Errorf("the page has %q:\n%s", u, body)
		}
	}
}

func TestTour(t *testing.T) {
	var out bytes.Buffer
	if err := run(t.Context(), []string{"-tour"}, &out); err != nil {
		t.Fatalf("%v\n%s", err, &out)
	}
	table := out.String()
	contains(t, table, "GET / after POST, slaves behind: entry there", "GET / by another visitor: entry missing")
	lacks(t, table, "NO:", "slave-1", "slave-2") // the last two vary from run to run
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(readme), table) {
		t.Errorf("the README has another table than this:\n%s", table)
	}
}

// The tour can fail: with the switch off, the first page comes from the master.
func TestTourNoticesWhatIsNotAsExpected(t *testing.T) {
	v := visitFiles(t)
	v.post("/auto-read-on-slave", http.StatusSeeOther, "on", "false")
	walk, err := newTour(t.Context(), v.server.URL, []string{"slave-1", "slave-2"})
	if err != nil {
		t.Fatal(err)
	}
	if err := walk.ask("GET", "/", nil, "", "slave", "method"); err != nil {
		t.Fatal(err)
	}
	if !walk.failed || walk.rows[0].verdict != "NO: want a slave" {
		t.Errorf("row %+v, failed %v; want a row that says NO", walk.rows[0], walk.failed)
	}
	if err := walk.ask("GET", "/archive", nil, "", "slave", "some other reason"); err != nil {
		t.Fatal(err)
	}
	if walk.rows[1].verdict != "NO: want some other reason" {
		t.Errorf("row %+v; want one that says NO", walk.rows[1])
	}
	var out bytes.Buffer
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := runTour(ctx, v.server.URL, []string{"slave-1"}, true, &out); err == nil ||
		errors.Is(err, errNotAsExpected) {
		t.Errorf("error %v of a tour that cannot go on; want one that says why", err)
	}
}

// The tour fails where it is about tokens if nobody keeps them.
func TestTourNoticesThatThereAreNoTokens(t *testing.T) {
	v := visitFiles(t)
	walk, err := newTour(t.Context(), v.server.URL, []string{"slave-1", "slave-2"})
	if err != nil {
		t.Fatal(err)
	}
	walk.ada = walk.other // who keeps no cookies
	for _, step := range []func() error{walk.behind, walk.allStopped} {
		if err := step(); err != nil {
			t.Fatal(err)
		}
	}
	rows := map[string]string{}
	for _, row := range walk.rows {
		rows[row.request] = row.verdict
	}
	for request, failed := range map[string]bool{
		"GET / after POST, slaves behind: entry there":           true,
		"GET / by another visitor: entry missing":                false,
		"GET / after POST, replay stopped: entry there":          true,
		"GET /archive, in UseSlave, all the same: entry missing": false,
		"GET /fresh by another visitor: entry there":             false,
	} {
		if verdict, ok := rows[request]; !ok || strings.HasPrefix(verdict, "NO") != failed {
			t.Errorf("%s: verdict %q; want one that says NO: %v", request, verdict, failed)
		}
	}
}

func TestTourNoticesAChangeOfSlaveWithinARequest(t *testing.T) {
	walk := &tour{}
	answers := []answer{{"slave-1", "slave", "method"}, {"slave-2", "slave", "method"}}
	walk.judge("GET /", reply{status: 200, answers: answers}, "slave", "method")
	if !walk.failed {
		t.Errorf("row %+v; want one that says NO", walk.rows[0])
	}
}

func TestEntriesAreEscaped(t *testing.T) {
	v := visitFiles(t)
	const evil = `<script>alert("x")</script>`
	v.post("/entries", http.StatusSeeOther, "name", `Eve <img src=x onerror=alert(1)>`, "message", evil)
	body := v.get("/fresh")
	lacks(t, body, "<script", "<img")
	contains(t, body, "&lt;script&gt;alert(&#34;x&#34;)&lt;/script&gt;",
		"Eve &lt;img src=x onerror=alert(1)&gt;")

	_, body = v.post("/search", http.StatusOK, "text", `"><script>alert(1)</script>`)
	lacks(t, body, "<script", `value=""`)
	_, body = v.post("/entries", http.StatusUnprocessableEntity, "name", "", "message", "</textarea>"+evil)
	lacks(t, body, "<script", "</textarea>&lt;")
}

func TestSigning(t *testing.T) {
	v := visitFiles(t)
	before := v.total()
	location, _ := v.post("/entries", http.StatusSeeOther, "name", "  Joan ", "message",
		"\r\n two\r\nlines \r\n")
	if want := "/?signed=" + strconv.FormatInt(before+1, 10); location != want {
		t.Errorf("redirected to %q, want %q", location, want)
	}
	contains(t, v.get("/fresh"), "<b>Joan</b>", "two\nlines")
	contains(t, v.get("/fresh"+strings.TrimPrefix(location, "/")), "Thank you.")
}

func TestWhatCannotBeWritten(t *testing.T) {
	v := visitFiles(t)
	for _, tt := range []struct{ name, who, message, complaint string }{
		{"no name", " ", "hello", "tell us your name"},
		{"no message", "Joan", "\n", "write something"},
		{"a long name", strings.Repeat("é", maxName+1), "hello", "shorter name"},
		{"a long message", "Joan", strings.Repeat("é", maxMessage+1), "write less"},
		{"a NUL", "Joan", "a\x00b", "can be printed"},
		{"an escape in the name", "\x1b[31mJoan", "hello", "can be printed"},
		{"a line in the name", "Jo\nan", "hello", "can be printed"},
		{"not UTF-8", "Joan", "a\xffb", "can be printed"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			before := v.total()
			_, body := v.post("/entries", http.StatusUnprocessableEntity, "name", tt.who, "message", tt.message)
			contains(t, body, tt.complaint, `role="alert"`)
			if after := v.total(); after != before {
				t.Errorf("%d entries, %d before", after, before)
			}
		})
	}
	v.post("/entries", http.StatusSeeOther, "name", strings.Repeat("é", maxName), "message",
		strings.Repeat("é", maxMessage))
	v.post("/entries", http.StatusRequestEntityTooLarge, "name", "Joan", "message", strings.Repeat("x", maxBody))
	v.post("/search", http.StatusUnprocessableEntity, "text", strings.Repeat("x", maxSearch+1))
}

func TestSearchTakesTextAsItIs(t *testing.T) {
	v := visitFiles(t)
	for _, message := range []string{"100% sure", "a_b", "wow!", "axb"} {
		v.post("/entries", http.StatusSeeOther, "name", "Joan", "message", message)
	}
	v.awaitReplay()
	for text, want := range map[string]string{"%": "100% sure", "_": "a_b", "!": "wow!"} {
		_, body := v.post("/search", http.StatusOK, "text", text)
		contains(t, body, `<p class="message">`+want)
		if n := strings.Count(body, `<p class="message">`); n != 1 {
			t.Errorf("%q found %d entries, want 1", text, n)
		}
	}
	_, body := v.post("/search", http.StatusOK, "text", "no such text")
	contains(t, body, "Nobody wrote that.")
}

func TestTheArchiveGoesOn(t *testing.T) {
	v := visitFiles(t)
	for range pageSize {
		v.post("/entries", http.StatusSeeOther, "name", "Joan", "message", "again")
	}
	v.awaitReplay()
	contains(t, v.get("/archive"), `name="before" value="4"`)
	_, body := v.post("/archive", http.StatusOK, "before", "4")
	contains(t, body, "No. 3", "No. 1")
	lacks(t, body, "No. 4", `name="before"`)
}

func TestAnEntryThatTheSlavesDoNotHaveYet(t *testing.T) {
	const missing, there = "not on this page yet", `class="mine"`
	for _, tt := range []struct {
		name           string
		source, secret bool
		cookies        bool
		stopped, again string // what the page has while the replay is stopped, and when it has caught up
		by, byThen     string // who answered
	}{
		{"whoever wrote it sees it", true, true, true, there, there, "master", "slave"},
		{"a browser that keeps no cookies", true, true, false, missing, there, "slave", "slave"},
		// Without a position to compare with, the master answers for a while, whatever the slaves have.
		{"without the source of positions", false, true, true, there, there, "master", "master"},
		{"without secrets", true, false, true, there, there, "master", "master"},
		{"without secrets and cookies", true, false, false, missing, there, "slave", "slave"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := newFiles(t)
			var secrets [][]byte
			if tt.secret {
				secrets = append(secrets, secret())
			}
			if !tt.source {
				b.source = nil
			}
			v := visitBackend(t, b, secrets...)
			if tt.cookies {
				v.keepCookies()
			}
			v.each((*slave).Stop)
			location, _ := v.post("/entries", http.StatusSeeOther, "name", "Joan", "message", "hello")
			answered := `was answered by <strong class="`
			contains(t, v.get(location), tt.stopped, "1 change behind", "Replay is stopped.", answered+tt.by)
			v.each((*slave).Start)
			v.awaitReplay()
			// The plugin has still to hear that the slaves have it.
			body, end := v.get(location), time.Now().Add(3*time.Second)
			for !strings.Contains(body, answered+tt.byThen) && time.Now().Before(end) {
				time.Sleep(tourPoll)
				body = v.get(location)
			}
			contains(t, body, "Thank you.", "Has all 4 changes.", tt.again, answered+tt.byThen)
		})
	}
}

func TestWhoForgetsTheTokenIsSomebodyElse(t *testing.T) {
	v := visitFiles(t)
	v.keepCookies()
	v.each((*slave).Stop)
	contains(t, v.get("/archive"), "You bring none")
	location, _ := v.post("/entries", http.StatusSeeOther, "name", "Joan", "message", "hello")
	contains(t, v.get(location), "You bring one", `class="mine"`, "no slave covers the token")
	if to, _ := v.post("/forget", http.StatusSeeOther, "from", "/archive"); to != "/archive" {
		t.Errorf("redirected to %q, want /archive", to)
	}
	contains(t, v.get(location), "You bring none", "not on this page yet")
}

// What the page says of a slave is what the plugin knows.
func TestTheLagOfSlaves(t *testing.T) {
	v := visitFiles(t)
	contains(t, v.get("/"), " s behind.")
	lacks(t, v.get("/"), "Its lag is not known: no positions are known of the dialect", "Not read")

	b := newFiles(t)
	b.source = nil
	contains(t, visitBackend(t, b, secret()).get("/"),
		"Its lag is not known: no positions are known of the dialect")

	for _, tt := range []struct {
		status replicated.ServerStatus
		want   string
	}{
		{replicated.ServerStatus{Serving: true, LagKnown: true, Lag: 1234 * time.Millisecond},
			"At most 1.3 s behind."},
		{replicated.ServerStatus{LagKnown: true, Lag: time.Hour, Reason: "behind by 1h"},
			`<b class="warn">Not read: behind by 1h.</b>`},
		{replicated.ServerStatus{Serving: true, Reason: "log_bin is OFF"}, "Its lag is not known: log_bin is OFF."},
	} {
		var text strings.Builder
		if err := v.site.pages.ExecuteTemplate(&text, "lag", server{Plugin: tt.status}); err != nil ||
			strings.TrimSpace(text.String()) != tt.want {
			t.Errorf("%+v shows as %q, error %v; want %q", tt.status, &text, err, tt.want)
		}
	}
	for d, want := range map[time.Duration]string{
		0: "0.0 s", 1: "0.1 s", 100 * time.Millisecond: "0.1 s", 101 * time.Millisecond: "0.2 s",
		12 * time.Second: "12.0 s",
	} {
		if got := showBound(d); got != want {
			t.Errorf("showBound(%v) = %q, want %q", d, got, want)
		}
	}
}

func TestControls(t *testing.T) {
	v := visitFiles(t)
	slave := v.site.backend.replication.Slave("slave-2")
	v.post("/slaves/slave-2/lag", http.StatusSeeOther, "lag", "2s")
	v.post("/slaves/slave-2/stop", http.StatusSeeOther)
	if got := slave.Status(); got.Lag != 2*time.Second || !got.Stopped {
		t.Errorf("status %+v, want a lag of 2 s, stopped", got)
	}
	contains(t, v.get("/"), `value="2s" aria-pressed="true"`, "/slaves/slave-2/start")
	v.post("/slaves/slave-2/start", http.StatusSeeOther)
	if got := slave.Status(); got.Stopped {
		t.Errorf("status %+v, want started", got)
	}
	for _, lag := range []string{"", "-1s", "2m", "soon"} {
		v.post("/slaves/slave-2/lag", http.StatusBadRequest, "lag", lag)
	}
	v.post("/slaves/slave-3/stop", http.StatusNotFound)
	v.post("/slaves/slave-2/drop", http.StatusNotFound)
	v.post("/auto-read-on-slave", http.StatusBadRequest, "on", "maybe")
	v.do(v.request("GET", "/slaves/slave-2/stop", nil), http.StatusMethodNotAllowed)

	v.post("/auto-read-on-slave", http.StatusSeeOther, "on", "false")
	contains(t, v.get("/"), `aria-checked="false"`, "was answered by <strong class=\"master\">")
	v.post("/auto-read-on-slave", http.StatusSeeOther, "on", "true")
	contains(t, v.get("/"), `aria-checked="true"`, "was answered by <strong class=\"slave\">")
}

func TestControlsLeadBackToThePage(t *testing.T) {
	v := visitFiles(t)
	for from, want := range map[string]string{
		"/archive": "/archive", "": "/", "https://example.com/": "/", "//example.com": "/", "/nowhere": "/",
	} {
		location, _ := v.post("/auto-read-on-slave", http.StatusSeeOther, "on", "true", "from", from)
		if location != want {
			t.Errorf("from %q: redirected to %q, want %q", from, location, want)
		}
	}
}

func TestOtherSitesCannotPost(t *testing.T) {
	v := visitFiles(t)
	before := v.total()
	r := v.request("POST", "/entries", url.Values{"name": {"Eve"}, "message": {"hello"}})
	r.Header.Set("Sec-Fetch-Site", "cross-site")
	v.do(r, http.StatusForbidden)
	r = v.request("POST", "/slaves/slave-1/stop", nil)
	r.Header.Set("Origin", "https://example.com")
	v.do(r, http.StatusForbidden)
	if after := v.total(); after != before {
		t.Errorf("%d entries, %d before", after, before)
	}
	if v.site.backend.replication.Slave("slave-1").Status().Stopped {
		t.Error("slave-1 was stopped")
	}
}

func TestEveryPage(t *testing.T) {
	v := visitFiles(t)
	for _, place := range places {
		response, body := v.do(v.request("GET", place.Path, nil), http.StatusOK)
		contains(t, body, `<a href="`+place.Path+`" aria-current="page">`+place.Name, "</html>", styleURL())
		for name, want := range map[string]string{
			"Content-Type": "text/html; charset=utf-8", "X-Content-Type-Options": "nosniff",
			"Cache-Control": "no-store",
		} {
			if got := response.Header.Get(name); got != want {
				t.Errorf("%s: %s %q, want %q", place.Path, name, got, want)
			}
		}
		contains(t, response.Header.Get("Content-Security-Policy"), "default-src 'none'")
		if len(response.Header.Values(headerServer)) == 0 {
			t.Errorf("%s does not say who answered", place.Path)
		}
	}
	response, _ := v.do(v.request("GET", styleURL(), nil), http.StatusOK)
	contains(t, response.Header.Get("Content-Type"), "text/css")
	contains(t, response.Header.Get("Cache-Control"), "immutable")
	v.do(v.request("GET", "/rules/none", nil), http.StatusNotFound)
	v.do(v.request("GET", "/nowhere", nil), http.StatusNotFound)
}

func TestRecentRequests(t *testing.T) {
	v := visitFiles(t)
	v.get("/fresh")
	v.post("/search", http.StatusOK, "text", "x")
	v.get(styleURL())
	latest := v.site.visits.Latest()
	if len(latest) != 2 || latest[0].Path != "/search" || latest[1].Path != "/fresh" {
		t.Fatalf("recent requests %+v, want the search and the page before it", latest)
	}
	contains(t, v.get("/"), "<code>POST /search</code>", "<code>GET /fresh</code>")
	for range maxVisits {
		v.get("/")
	}
	if latest = v.site.visits.Latest(); len(latest) != maxVisits || latest[maxVisits-1].Path != "/" {
		t.Errorf("%d recent requests, the oldest for %s; want %d, for /", len(latest),
			latest[len(latest)-1].Path, maxVisits)
	}
}

func TestRealServersAreNotControlled(t *testing.T) {
	b := newFiles(t)
	addresses := map[string]string{"slave-1": "db1:3306"}
	v := visitBackend(t, &backend{master: b.master, slaves: b.slaves, addresses: addresses})
	body := v.get("/")
	contains(t, body, "db1:3306", "slave-2")
	lacks(t, body, "/slaves/", "Lag")
	v.post("/slaves/slave-1/stop", http.StatusNotFound)
}

func TestErrorsStayInTheLog(t *testing.T) {
	var log bytes.Buffer
	old := slog.Default()
	slog.SetDefault(slog.New(slog.NewTextHandler(&log, nil)))
	t.Cleanup(func() { slog.SetDefault(old) })
	v := visitFiles(t)
	master, err := v.site.db.DB()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := master.Exec("DROP TABLE guestbook_entries"); err != nil {
		t.Fatal(err)
	}
	_, body := v.do(v.request("GET", "/fresh", nil), http.StatusInternalServerError)
	lacks(t, body, "guestbook_entries", "SQL")
	contains(t, log.String(), "no such table: guestbook_entries", "path=/fresh")
}

func TestFlags(t *testing.T) {
	for _, tt := range []struct {
		name string
		args []string
		want string
	}{
		{"a master without slaves", []string{"-master", "u:secret@tcp(h)/d"}, "go together"},
		{"slaves without a master", []string{"-slave", "u:secret@tcp(h)/d"}, "go together"},
		{"an argument", []string{"tour"}, `unexpected argument "tour"`},
		{"an unknown flag", []string{"-slaves", "x"}, "not defined"},
		{"a bad DSN", []string{"-master", "u:secret@tcp(h)/d", "-slave", "u:secret@tcp(h"}, "the DSN of slave-1"},
		{"a bad address", []string{"-addr", "127.0.0.1:http-or-so"}, "http-or-so"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			err := run(t.Context(), tt.args, io.Discard)
			if err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "secret") {
				t.Errorf("error %v, want one with %q and no password", err, tt.want)
			}
		})
	}
	var out bytes.Buffer
	if err := run(t.Context(), []string{"-h"}, &out); !errors.Is(err, flag.ErrHelp) ||
		!strings.Contains(out.String(), "-tour") {
		t.Errorf("error %v, output %q; want flag.ErrHelp and the flags", err, &out)
	}
}

// An interrupt lets requests finish, and ends the server.
func TestServeFinishesWhatIsUnderWay(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, interrupt := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() {
		served <- serve(ctx, listener, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			interrupt()
			// The listener is closed once the server shuts down.
			for {
				c, err := net.Dial("tcp", listener.Addr().String())
				if err != nil {
					break
				}
				c.Close()
			}
			io.WriteString(w, "finished")
		}))
	}()
	response, err := http.Get("http://" + listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if body, err := io.ReadAll(response.Body); err != nil || string(body) != "finished" {
		t.Errorf("body %q, error %v", body, err)
	}
	if err := <-served; err != nil {
		t.Errorf("serve: %v", err)
	}
}

func TestShares(t *testing.T) {
	got := shares([]answer{
		{"slave-1", "slave", "method"}, {"master", "master", "clause"}, {"slave-1", "slave", "method"},
		{"slave-1", "slave", "context"},
	})
	want := []share{{"slave-1", "slave", 3, "method, context"}, {"master", "master", 1, "clause"}}
	if len(got) != 2 || got[0] != want[0] || got[1] != want[1] {
		t.Errorf("shares %+v, want %+v", got, want)
	}
	if got := shares(nil); got != nil {
		t.Errorf("shares of nothing %+v", got)
	}
}
