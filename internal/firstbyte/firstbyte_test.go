package firstbyte

import (
	"bufio"
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"net/http/httputil"
	"net/textproto"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/felixge/httpsnoop"
)

// watcher is Before, or a naive one that a check has to catch.
type watcher func(w http.ResponseWriter, before func()) (inner http.ResponseWriter, finish func())

func watchFirstByte(w http.ResponseWriter, before func()) (http.ResponseWriter, func()) {
	inner, f := Before(w, before)
	return inner, f.Finish
}

// watched is a middleware that sets X-Position before the first byte.
type watched struct {
	watch watcher
	calls atomic.Int32
}

func (m *watched) handler(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		inner, finish := m.watch(w, func() {
			m.calls.Add(1)
			w.Header().Set("X-Position", "7")
		})
		defer finish()
		next.ServeHTTP(inner, r)
	})
}

// answer is what the client got.
type answer struct {
	*http.Response
	body []byte
	err  error
}

// protocols send a request for a handler to a server of their own.
var protocols = []struct {
	name string
	send func(t *testing.T, h http.Handler, r *http.Request) answer
}{
	{"HTTP/1.0", func(t *testing.T, h http.Handler, r *http.Request) answer {
		s := newServer(t, h, false)
		conn, err := net.Dial("tcp", s.Listener.Addr().String())
		orFatal(t, err)
		defer conn.Close()
		fmt.Fprintf(conn, "%s %s HTTP/1.0\r\nHost: example.com\r\n", r.Method, r.URL.Path)
		r.Header.Write(conn)
		fmt.Fprint(conn, "\r\n")
		buffered := bufio.NewReader(conn)
		for {
			got, err := http.ReadResponse(buffered, r)
			if err != nil || got.StatusCode > 199 {
				return readAnswer(got, err)
			}
		}
	}},
	{"HTTP/1.1", func(t *testing.T, h http.Handler, r *http.Request) answer {
		return sendTo(newServer(t, h, false), r)
	}},
	{"HTTP/2", func(t *testing.T, h http.Handler, r *http.Request) answer {
		return sendTo(newServer(t, h, true), r)
	}},
}

func newServer(t *testing.T, h http.Handler, http2 bool) *httptest.Server {
	t.Helper()
	s := httptest.NewUnstartedServer(h)
	s.Config.ErrorLog = log.New(io.Discard, "", 0) // the panics of handlers
	s.EnableHTTP2 = http2
	if http2 {
		s.StartTLS()
	} else {
		s.Start()
	}
	t.Cleanup(s.Close)
	s.Client().CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return s
}

func sendTo(s *httptest.Server, r *http.Request) answer {
	r.URL, _ = url.Parse(s.URL + r.URL.Path)
	r.RequestURI = ""
	return readAnswer(s.Client().Do(r))
}

func readAnswer(response *http.Response, err error) answer {
	if err != nil {
		return answer{err: err}
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	return answer{response, body, err}
}

func orFatal(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// orError is orFatal for the goroutines of servers.
func orError(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Error(err)
	}
}

type wrapHandler func(http.Handler) http.Handler

// statusWriter is how most middlewares wrap a writer since Unwrap is known.
type statusWriter struct{ http.ResponseWriter }

func (w statusWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func insideStatusWriter(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { next.ServeHTTP(statusWriter{w}, r) })
}

// insideChiWriter has the methods of the writer of chi's logger.
func insideChiWriter(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ProtoMajor == 2 {
			next.ServeHTTP(struct {
				statusWriter
				http.Flusher
				http.Pusher
			}{statusWriter{w}, w.(http.Flusher), w.(http.Pusher)}, r)
			return
		}
		next.ServeHTTP(struct {
			statusWriter
			http.Flusher
			http.Hijacker
			io.ReaderFrom
		}{statusWriter{w}, w.(http.Flusher), w.(http.Hijacker), w.(io.ReaderFrom)}, r)
	})
}

// insideUnlisted has a set of methods that is left to httpsnoop.
func insideUnlisted(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ProtoMajor == 2 {
			next.ServeHTTP(struct {
				statusWriter
				http.Flusher
				flushErrorer
				http.Pusher
			}{statusWriter{w}, w.(http.Flusher), w.(flushErrorer), w.(http.Pusher)}, r)
			return
		}
		next.ServeHTTP(struct {
			statusWriter
			http.Flusher
			flushErrorer
			http.Hijacker
			io.ReaderFrom
		}{statusWriter{w}, w.(http.Flusher), w.(flushErrorer), w.(http.Hijacker), w.(io.ReaderFrom)}, r)
	})
}

func insideRecovering(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() {
			if recover() != nil {
				http.Error(w, "sorry", 500)
			}
		}()
		next.ServeHTTP(w, r)
	})
}

func insideTimeout(d time.Duration) wrapHandler {
	return func(next http.Handler) http.Handler { return http.TimeoutHandler(next, d, "too late") }
}

// deliveries are the ways in which a response begins.
func deliveries(t *testing.T) []delivery {
	t.Helper()
	file := filepath.Join(t.TempDir(), "file.txt")
	orFatal(t, os.WriteFile(file, bytes.Repeat([]byte("file "), 4000), 0o600))
	backend := newServer(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Link", "</style.css>")
		w.WriteHeader(http.StatusEarlyHints)
		io.WriteString(w, "backend")
	}), false)
	target, err := url.Parse(backend.URL)
	orFatal(t, err)
	proxy := httputil.NewSingleHostReverseProxy(target)
	lost := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http"})
	lost.ErrorLog = log.New(io.Discard, "", 0)
	type W = http.ResponseWriter // keeps the rows on their lines
	type R = *http.Request
	return []delivery{
		{name: "a handler that does nothing", status: 200, handle: func(W, R) {}},
		{name: "an explicit status", status: 418, handle: func(w W, _ R) { w.WriteHeader(418) }},
		{name: "two statuses", status: 201, handle: func(w W, _ R) { w.WriteHeader(201); w.WriteHeader(202) }},
		{name: "no content", status: 204, handle: func(w W, _ R) { w.WriteHeader(204) }},
		{name: "not modified", status: 304, handle: func(w W, _ R) { w.WriteHeader(304) }},
		{name: "Write", status: 200, body: "ab",
			handle: func(w W, _ R) { w.Write([]byte("a")); w.Write([]byte("b")) }},
		{name: "an empty Write", status: 200, handle: func(w W, _ R) { w.Write(nil) }},
		{name: "Write after a status", status: 201, body: "a",
			handle: func(w W, _ R) { w.WriteHeader(201); w.Write([]byte("a")) }},
		{name: "WriteString", status: 200, body: "ab",
			handle: func(w W, _ R) { io.WriteString(w, "a"); io.WriteString(w, "b") }},
		{name: "ReadFrom a reader", status: 200, body: "copied",
			handle: func(w W, _ R) { io.Copy(w, io.LimitReader(strings.NewReader("copied"), 6)) }},
		{name: "ReadFrom a file", status: 200, body: "file file", handle: func(w W, _ R) { copyFile(t, w, file) }},
		{name: "Flush first", status: 200, body: "a",
			handle: func(w W, _ R) { flushIfFlusher(w); w.Write([]byte("a")) }},
		{name: "Flush of a controller first", status: 200, body: "a",
			handle: func(w W, _ R) { flushController(t, w); w.Write([]byte("a")) }},
		{name: "Flush of a controller inside of a writer that only has Unwrap", status: 200,
			outer: insideStatusWriter, handle: func(w W, _ R) { flushController(t, w) }},
		{name: "Flush of a controller outside of one", status: 200, inner: insideStatusWriter,
			handle: func(w W, _ R) { flushController(t, w) }},
		{name: "Flush inside of the logger of chi", status: 200, outer: insideChiWriter,
			handle: func(w W, _ R) { flushIfFlusher(w) }},
		{name: "a file inside of the logger of chi", status: 200, body: "file file", outer: insideChiWriter,
			handle: func(w W, r R) { http.ServeFile(w, r, file) }},
		{name: "Write to what Unwrap returns inside of a writer that has Unwrap", status: 200, body: "a",
			outer: insideStatusWriter, handle: func(w W, _ R) { w.(unwrapper).Unwrap().Write([]byte("a")) }},
		{name: "all that a controller can set, then Write", status: 200, body: "a",
			handle: func(w W, _ R) { controlAll(t, w); w.Write([]byte("a")) }},
		{name: "the same through Unwrap", status: 200, body: "a", outer: insideStatusWriter,
			handle: func(w W, _ R) { controlAll(t, w); w.Write([]byte("a")) }},
		{name: "see other", status: 303,
			handle: func(w W, r R) { http.Redirect(w, r, "/new", http.StatusSeeOther) }},
		{name: "found", status: 302, handle: func(w W, r R) { http.Redirect(w, r, "/new", http.StatusFound) }},
		{name: "an error page", status: 404, body: "nothing",
			handle: func(w W, _ R) { http.Error(w, "nothing", 404) }},
		{name: "early hints, then nothing", status: 200, handle: func(w W, _ R) { w.WriteHeader(103) }},
		{name: "HEAD", status: 200, method: "HEAD", handle: func(w W, _ R) { io.WriteString(w, "a") }},
		{name: "HEAD of a file", status: 200, method: "HEAD",
			handle: func(w W, r R) { http.ServeFile(w, r, file) }},
		{name: "ServeFile", status: 200, body: "file file", handle: func(w W, r R) { http.ServeFile(w, r, file) }},
		{name: "ServeContent", status: 200, body: "content", handle: serveContent},
		{name: "ServeContent of a part", status: 206, body: "ten", header: http.Header{"Range": {"bytes=3-5"}},
			handle: serveContent},
		{name: "ServeContent out of range", status: 416, header: http.Header{"Range": {"bytes=99-"}},
			handle: serveContent},
		{name: "ServeContent that was not modified", status: 304, header: http.Header{"If-None-Match": {`"tag"`}},
			handle: serveContent},
		{name: "a reverse proxy, with early hints", status: 200, body: "backend", handle: proxy.ServeHTTP},
		{name: "a reverse proxy without its backend", status: 502, handle: lost.ServeHTTP},
		{name: "a panic in front of a recovering middleware", status: 500, body: "sorry", outer: insideRecovering,
			handle: func(W, R) { panic("oops") }},
		{name: "a status that does not exist", status: 500, body: "sorry", outer: insideRecovering,
			handle: func(w W, _ R) { w.WriteHeader(7) }},
		{name: "a recovering handler inside", status: 500, body: "sorry", inner: insideRecovering,
			handle: func(W, R) { panic("oops") }},
		{name: "a TimeoutHandler inside, in time", status: 200, body: "a", inner: insideTimeout(time.Hour),
			handle: func(w W, _ R) { io.WriteString(w, "a") }},
		{name: "a TimeoutHandler inside, too late", status: 503, body: "too late", inner: insideTimeout(1),
			handle: func(W, R) { <-t.Context().Done() }},
		{name: "a TimeoutHandler outside, in time", status: 201, body: "a", outer: insideTimeout(time.Hour),
			handle: func(w W, _ R) { w.WriteHeader(201); w.Write([]byte("a")) }},
		{name: "a Hijack that fails", status: 500, body: "no connection", outer: insideBrokenHijacker,
			handle: failToHijack},
	}
}

type delivery struct {
	name         string
	method       string
	header       http.Header
	outer, inner wrapHandler // around the watched part and in it
	handle       http.HandlerFunc
	status       int
	body         string // how it starts
}

type unwrapper interface{ Unwrap() http.ResponseWriter }

func flushIfFlusher(w http.ResponseWriter) {
	if f, ok := w.(http.Flusher); ok {
		f.Flush()
	}
}

func serveContent(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Etag", `"tag"`)
	http.ServeContent(w, r, "name.txt", time.Time{}, strings.NewReader("content"))
}

func flushController(t *testing.T, w http.ResponseWriter) {
	t.Helper()
	orError(t, http.NewResponseController(w).Flush())
}

func copyFile(t *testing.T, w http.ResponseWriter, name string) {
	t.Helper()
	f, err := os.Open(name)
	orError(t, err)
	defer f.Close()
	orError(t, onlyError(io.Copy(w, f)))
}

// controlAll does what sends nothing.
func controlAll(t *testing.T, w http.ResponseWriter) {
	t.Helper()
	c, late := http.NewResponseController(w), time.Now().Add(time.Hour)
	orError(t, errors.Join(c.SetReadDeadline(late), c.SetWriteDeadline(late), c.EnableFullDuplex()))
	if w.Header().Get("X-Position") != "" {
		t.Error("a deadline is not a byte")
	}
}

func failToHijack(w http.ResponseWriter, _ *http.Request) {
	_, _, err := http.NewResponseController(w).Hijack()
	http.Error(w, err.Error(), 500)
}

// brokenHijacker has the method, but not the connection.
type brokenHijacker struct{ statusWriter }

func (brokenHijacker) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	return nil, nil, errors.New("no connection")
}

func insideBrokenHijacker(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		next.ServeHTTP(brokenHijacker{statusWriter{w}}, r)
	})
}

// missed returns what is wrong with a response and its header under watch.
func missed(t *testing.T, watch watcher, outside wrapHandler,
	send func(*testing.T, http.Handler, *http.Request) answer, d delivery) (wrong []string) {
	t.Helper()
	m := &watched{watch: watch}
	var handler http.Handler = d.handle
	for _, around := range []wrapHandler{d.inner, m.handler, d.outer, outside} {
		if around != nil {
			handler = around(handler)
		}
	}
	r := httptest.NewRequest(cmp.Or(d.method, "GET"), "/", nil)
	if d.header != nil {
		r.Header = d.header.Clone()
	}
	got := send(t, handler, r)
	if got.err != nil {
		return []string{got.err.Error()}
	}
	if got.Header.Get("X-Position") != "7" {
		wrong = append(wrong, "the header is missing")
	}
	if n := m.calls.Load(); n != 1 {
		wrong = append(wrong, fmt.Sprint("calls: ", n))
	}
	if got.StatusCode != d.status || !bytes.HasPrefix(got.body, []byte(d.body)) {
		wrong = append(wrong, fmt.Sprintf("%d %.40q", got.StatusCode, got.body))
	}
	return wrong
}

func TestFirstByteHeaderArrives(t *testing.T) {
	for _, outside := range []struct {
		name string
		wrapHandler
	}{{"bare", nil}, {"of an unlisted set", insideUnlisted}} {
		for _, protocol := range protocols {
			for _, d := range deliveries(t) {
				t.Run(protocol.name+" "+outside.name+"/"+d.name, func(t *testing.T) {
					for _, wrong := range missed(t, watchFirstByte, outside.wrapHandler, protocol.send, d) {
						t.Error(wrong)
					}
				})
			}
		}
	}
}

// TestFirstByteControls wants the same check to fail where the watching has a hole.
func TestFirstByteControls(t *testing.T) {
	for _, test := range []struct {
		name  string
		watch watcher
		wrong []string // among others
	}{
		{"an embedded writer with Flush", watchEmbedding, []string{"Flush first", "a handler that does nothing"}},
		{"no finish", func(w http.ResponseWriter, before func()) (http.ResponseWriter, func()) {
			inner, _ := Before(w, before)
			return inner, func() {}
		}, []string{"a handler that does nothing", "a panic in front of a recovering middleware"}},
		{"nothing but finish",
			func(w http.ResponseWriter, before func()) (http.ResponseWriter, func()) { return w, before },
			[]string{"an explicit status", "Write", "WriteString", "ReadFrom a file", "Flush first", "see other",
				"a reverse proxy, with early hints"}},
		{"no hook for ReadFrom", watchHooked, []string{"ReadFrom a file", "Flush first"}},
		{"an Unwrap that skips the watching",
			func(w http.ResponseWriter, before func()) (http.ResponseWriter, func()) {
				inner, finish := watchFirstByte(w, before)
				return struct {
					http.ResponseWriter
					unwrapper
				}{inner, statusWriter{w}}, finish
			}, []string{"Flush of a controller inside of a writer that only has Unwrap"}},
		{"more than once", func(w http.ResponseWriter, before func()) (http.ResponseWriter, func()) {
			inner, finish := watchFirstByte(w, before)
			return inner, func() { finish(); before() }
		}, []string{"an explicit status"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			for _, d := range deliveries(t) {
				if slices.Contains(test.wrong, d.name) && missed(t, test.watch, nil, protocols[1].send, d) == nil {
					t.Errorf("%s: not caught", d.name)
				}
			}
		})
	}
}

type embeddingWriter struct {
	http.ResponseWriter
	before func()
}

func (w embeddingWriter) WriteHeader(status int)      { w.before(); w.ResponseWriter.WriteHeader(status) }
func (w embeddingWriter) Write(p []byte) (int, error) { w.before(); return w.ResponseWriter.Write(p) }
func (w embeddingWriter) Flush()                      { flushIfFlusher(w.ResponseWriter) }

func watchEmbedding(w http.ResponseWriter, before func()) (http.ResponseWriter, func()) {
	once := sync.OnceFunc(before)
	return embeddingWriter{w, once}, func() {}
}

func watchHooked(w http.ResponseWriter, before func()) (http.ResponseWriter, func()) {
	once := sync.OnceFunc(before)
	return httpsnoop.Wrap(w, httpsnoop.Hooks{
		WriteHeader: func(next httpsnoop.WriteHeaderFunc) httpsnoop.WriteHeaderFunc {
			return func(status int) { once(); next(status) }
		},
		Write: func(next httpsnoop.WriteFunc) httpsnoop.WriteFunc {
			return func(p []byte) (int, error) { once(); return next(p) }
		},
	}), once
}

// TestFirstByteInformational: what goes before the response passes as it is.
func TestFirstByteInformational(t *testing.T) {
	for _, test := range []struct {
		name  string
		watch watcher
		want  string
	}{
		{"of ours", watchFirstByte, "103 Link=a X-Position=, 200 Link=a X-Position=7"},
		{"of one that does not know 1xx", watchEmbedding, "103 Link=a X-Position=7, 200 Link=a X-Position=7"},
	} {
		for _, protocol := range protocols[1:] {
			t.Run(protocol.name+" "+test.name, func(t *testing.T) {
				m := &watched{watch: test.watch}
				var seen []string
				see := func(status int, h http.Header) {
					seen = append(seen, fmt.Sprintf("%d Link=%s X-Position=%s", status, h.Get("Link"), h.Get("X-Position")))
				}
				r := httptest.NewRequest("GET", "/", nil)
				r = r.WithContext(httptrace.WithClientTrace(r.Context(), &httptrace.ClientTrace{
					Got1xxResponse: func(status int, h textproto.MIMEHeader) error {
						see(status, http.Header(h))
						return nil
					},
				}))
				got := protocol.send(t, m.handler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
					w.Header().Set("Link", "a")
					w.WriteHeader(103)
					w.WriteHeader(200)
				})), r)
				orFatal(t, got.err)
				see(got.StatusCode, got.Header)
				if all := strings.Join(seen, ", "); all != test.want {
					t.Errorf("got %s, want %s", all, test.want)
				}
			})
		}
	}
}

func TestFirstByteHijack(t *testing.T) {
	const raw = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nraw"
	hijack := func(w http.ResponseWriter) (net.Conn, *bufio.ReadWriter, error) {
		return w.(http.Hijacker).Hijack()
	}
	ofController := func(w http.ResponseWriter) (net.Conn, *bufio.ReadWriter, error) {
		return http.NewResponseController(w).Hijack()
	}
	for _, test := range []struct {
		name     string
		outer    wrapHandler
		hijack   func(http.ResponseWriter) (net.Conn, *bufio.ReadWriter, error)
		status   int // before
		raw      string
		hijacked bool
		position string
	}{
		{name: "Hijack", hijack: hijack, raw: raw, hijacked: true},
		{name: "Hijack of a controller", hijack: ofController, raw: raw, hijacked: true},
		{name: "Hijack inside of the logger of chi", outer: insideChiWriter, hijack: hijack, raw: raw,
			hijacked: true},
		{name: "Hijack inside of an unlisted set", outer: insideUnlisted, hijack: hijack, raw: raw, hijacked: true},
		{name: "Hijack of a controller inside of a writer that only has Unwrap", outer: insideStatusWriter,
			hijack: ofController, raw: raw, hijacked: true},
		{name: "Switching Protocols, then Hijack", hijack: hijack, status: 101, position: "7"},
		{name: "an error page, then Hijack", hijack: hijack, status: 400, position: "7"},
	} {
		t.Run(test.name, func(t *testing.T) {
			served := make(chan *Response, 1)
			var calls atomic.Int32
			var handler http.Handler = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				inner, f := Before(w, func() { calls.Add(1); w.Header().Set("X-Position", "7") })
				defer func() { f.Finish(); served <- f }()
				inner.Header().Set("Connection", "close")
				if test.status != 0 {
					inner.Header().Set("Content-Length", "0")
					inner.WriteHeader(test.status)
				}
				conn, buffered, err := test.hijack(inner)
				if err != nil {
					t.Error(err)
					return
				}
				defer conn.Close()
				orError(t, errors.Join(onlyError(buffered.WriteString(test.raw)), buffered.Flush()))
			})
			if test.outer != nil {
				handler = test.outer(handler)
			}
			got := protocols[1].send(t, handler, httptest.NewRequest("GET", "/", nil))
			f := <-served
			orFatal(t, got.err)
			if p := got.Header.Get("X-Position"); p != test.position {
				t.Errorf("X-Position %q, want %q", p, test.position)
			}
			if test.hijacked == (calls.Load() == 1) || !f.Begun() {
				t.Errorf("begun: %v, calls: %d", f.Begun(), calls.Load())
			}
		})
	}
}

func onlyError[T any](_ T, err error) error { return err }

// TestFirstByteOfABrokenResponse: nobody gets the header, but before is called.
func TestFirstByteOfABrokenResponse(t *testing.T) {
	for _, test := range []struct {
		name   string
		handle http.HandlerFunc
	}{
		{"a panic", func(http.ResponseWriter, *http.Request) { panic("oops") }},
		{"an abort", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }},
		{"an abort in the middle",
			func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte("a")); panic(http.ErrAbortHandler) }},
		{"an exit of the goroutine", func(http.ResponseWriter, *http.Request) { runtime.Goexit() }},
	} {
		t.Run(test.name, func(t *testing.T) {
			m := &watched{watch: watchFirstByte}
			done := make(chan any, 1)
			go func() {
				defer func() { done <- recover() }()
				m.handler(test.handle).ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil))
			}()
			<-done
			if n := m.calls.Load(); n != 1 {
				t.Errorf("calls: %d", n)
			}
			if strings.HasPrefix(test.name, "an exit") {
				return // it would keep the server's connection open
			}
			for i, protocol := range protocols {
				if got := protocol.send(t, m.handler(test.handle), httptest.NewRequest("GET", "/", nil)); got.err == nil {
					t.Errorf("%s: %s", protocol.name, got.Status)
				}
				if n := m.calls.Load(); n < int32(i+2) { // the client of HTTP/1.1 may have tried again
					t.Errorf("%s: calls: %d", protocol.name, n)
				}
			}
		})
	}
}

// TestFirstByteBehindATimeout: the 503 of a TimeoutHandler outside is not ours,
// and the handler goes on without anyone to hear it.
func TestFirstByteBehindATimeout(t *testing.T) {
	for _, protocol := range protocols {
		t.Run(protocol.name, func(t *testing.T) {
			m := &watched{watch: watchFirstByte}
			answered, served := make(chan struct{}), make(chan error, 1)
			got := protocol.send(t, insideTimeout(1)(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				m.handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					<-answered
					_, err := w.Write([]byte("a"))
					served <- err
				})).ServeHTTP(w, r)
			})), httptest.NewRequest("GET", "/", nil))
			close(answered)
			if err := <-served; !errors.Is(err, http.ErrHandlerTimeout) {
				t.Error(err)
			}
			orFatal(t, got.err)
			if got.StatusCode != 503 || got.Header.Get("X-Position") != "" || m.calls.Load() != 1 {
				t.Errorf("status %d, X-Position %q, calls: %d", got.StatusCode, got.Header.Get("X-Position"),
					m.calls.Load())
			}
		})
	}
}

func TestFirstByteKeepsTrailers(t *testing.T) {
	for _, protocol := range protocols[1:] {
		t.Run(protocol.name, func(t *testing.T) {
			m := &watched{watch: watchFirstByte}
			got := protocol.send(t, m.handler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Trailer", "X-Announced")
				io.WriteString(w, "a")
				w.Header().Set("X-Announced", "yes")
				w.Header().Set(http.TrailerPrefix+"X-Surprise", "yes")
			})), httptest.NewRequest("GET", "/", nil))
			orFatal(t, got.err)
			if got.Header.Get("X-Position") != "7" || got.Trailer.Get("X-Announced") != "yes" ||
				got.Trailer.Get("X-Surprise") != "yes" || len(got.Trailer) != 2 {
				t.Errorf("header %v, trailer %v", got.Header, got.Trailer)
			}
		})
	}
}

// overtaken lets several goroutines write at once and reports calls of before,
// and writes that went out while it had not returned.
func overtaken(watch watcher) (calls int, early bool) {
	var returned, overtook atomic.Bool
	var ready, done sync.WaitGroup
	w := &everyWriter{call: func(string) {
		if !returned.Load() {
			overtook.Store(true)
		}
	}}
	var mu sync.Mutex
	inner, finish := watch(struct{ http.ResponseWriter }{w}, func() {
		mu.Lock()
		calls++
		mu.Unlock()
		for range 1000 { // the others have every opportunity
			if runtime.Gosched(); overtook.Load() {
				break
			}
		}
		returned.Store(true)
	})
	start := make(chan struct{})
	for range 8 {
		ready.Add(1)
		done.Go(func() {
			ready.Done()
			<-start
			inner.Write([]byte("a"))
		})
	}
	ready.Wait()
	close(start)
	done.Wait()
	finish()
	return calls, overtook.Load()
}

func TestFirstByteOfSeveralGoroutines(t *testing.T) {
	if calls, early := overtaken(watchFirstByte); calls != 1 || early {
		t.Errorf("calls: %d, overtaken: %v", calls, early)
	}
	control := func(w http.ResponseWriter, before func()) (http.ResponseWriter, func()) {
		var called atomic.Bool
		once := func() {
			if called.CompareAndSwap(false, true) {
				before()
			}
		}
		return embeddingWriter{w, once}, once
	}
	for range 100 {
		if _, early := overtaken(control); early {
			return
		}
	}
	t.Error("a watcher that does not wait was not caught")
}

// everyWriter has all the methods there are, and tells which one is called.
type everyWriter struct{ call func(method string) }

func (w *everyWriter) Header() http.Header                  { return http.Header{} }
func (w *everyWriter) WriteHeader(int)                      { w.call("WriteHeader") }
func (w *everyWriter) Write([]byte) (int, error)            { w.call("Write"); return 1, nil }
func (w *everyWriter) WriteString(string) (int, error)      { w.call("WriteString"); return 2, nil }
func (w *everyWriter) ReadFrom(io.Reader) (int64, error)    { w.call("ReadFrom"); return 3, nil }
func (w *everyWriter) Flush()                               { w.call("Flush") }
func (w *everyWriter) FlushError() error                    { w.call("FlushError"); return nil }
func (w *everyWriter) CloseNotify() <-chan bool             { w.call("CloseNotify"); return nil }
func (w *everyWriter) SetReadDeadline(time.Time) error      { w.call("SetReadDeadline"); return nil }
func (w *everyWriter) SetWriteDeadline(time.Time) error     { w.call("SetWriteDeadline"); return nil }
func (w *everyWriter) EnableFullDuplex() error              { w.call("EnableFullDuplex"); return nil }
func (w *everyWriter) Push(string, *http.PushOptions) error { w.call("Push"); return nil }
func (w *everyWriter) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	w.call("Hijack")
	return nil, nil, nil
}

// TestFirstByteBegun: what happens next to before must not be lost between the two.
func TestFirstByteBegun(t *testing.T) {
	var f *Response
	during := false
	inner, f := Before(httptest.NewRecorder(), func() { during = f.Begun() })
	inner.WriteHeader(103)
	if f.Begun() {
		t.Error("begun with an informational response")
	}
	inner.WriteHeader(200)
	if !during || !f.Begun() {
		t.Errorf("during: %v, then: %v", during, f.Begun())
	}
}

func TestFirstByteWhenBeforePanics(t *testing.T) {
	calls := 0
	recorder := httptest.NewRecorder()
	inner, f := Before(recorder, func() { calls++; panic("oops") })
	func() {
		defer func() {
			if recover() != "oops" {
				t.Error("the panic was swallowed")
			}
		}()
		io.WriteString(inner, "never")
	}()
	http.Error(inner, "sorry", 500)
	f.Finish()
	if calls != 1 || recorder.Code != 500 || recorder.Body.String() != "sorry\n" || !f.Begun() {
		t.Errorf("calls: %d, got %d %q", calls, recorder.Code, recorder.Body)
	}
}

// countingListener tells whether a response reaches the connection in the way
// that lets the kernel copy a file.
type countingListener struct {
	net.Listener
	copied atomic.Int64
}

type countingConn struct {
	*net.TCPConn
	copied *atomic.Int64
}

func (l *countingListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return countingConn{conn.(*net.TCPConn), &l.copied}, nil
}

func (c countingConn) ReadFrom(r io.Reader) (int64, error) {
	n, err := c.TCPConn.ReadFrom(r)
	c.copied.Add(n)
	return n, err
}

func TestFirstByteSendfile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file.txt")
	orFatal(t, os.WriteFile(file, make([]byte, 100_000), 0o600))
	for _, test := range []struct {
		name  string
		watch watcher
		want  int64
	}{
		{"of ours", watchFirstByte, 100_000 - 512}, // net/http reads a little to tell the type
		{"of a writer without ReadFrom", watchEmbedding, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			m := &watched{watch: test.watch}
			s := httptest.NewUnstartedServer(m.handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				http.ServeFile(w, r, file)
			})))
			l := &countingListener{Listener: s.Listener}
			s.Listener = l
			s.Start()
			got := sendTo(s, httptest.NewRequest("GET", "/", nil))
			s.Close()
			orFatal(t, got.err)
			if len(got.body) != 100_000 || l.copied.Load() != test.want {
				t.Errorf("got %d bytes, %d of them copied, want %d", len(got.body), l.copied.Load(), test.want)
			}
		})
	}
}

// TestFirstByteServers fails when a new Go gives its writers other methods: those deserve new types here.
func TestFirstByteServers(t *testing.T) {
	for _, test := range []struct {
		protocol int
		want     optionalMethods
	}{{1, http1Methods}, {2, http2Methods}} {
		got := protocols[test.protocol].send(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			inner, _ := Before(w, func() {})
			fmt.Fprintf(w, "%b %b %v", optionalMethodsOf(w), optionalMethodsOf(inner), inner.(unwrapper).Unwrap() == w)
		}), httptest.NewRequest("GET", "/", nil))
		orFatal(t, got.err)
		if want := fmt.Sprintf("%b %b true", test.want, test.want); string(got.body) != want {
			t.Errorf("%s: got %s, want %s", protocols[test.protocol].name, got.body, want)
		}
	}
}

// TestFirstByteOfEverySet has a writer of each of the 512 sets of optional methods. They are
// 512 types, so it writes a program that has them.
func TestFirstByteOfEverySet(t *testing.T) {
	if _, err := exec.LookPath("go"); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal(err)
		}
		t.Skip("the go command is missing")
	}
	names := []string{"http.Flusher", "flushErrorer", "closeNotifier", "http.Hijacker", "io.ReaderFrom",
		"deadliner", "fullDuplexer", "http.Pusher", "io.StringWriter"}
	var types strings.Builder
	for set := range 1 << len(names) {
		fields, values := "http.ResponseWriter", "every"
		for i, name := range names {
			if set&(1<<i) != 0 {
				fields += "; " + name
				values += ", every"
			}
		}
		fmt.Fprintf(&types, "\tstruct{ %s }{%s},\n", fields, values)
	}
	ours, err := os.ReadFile("firstbyte.go")
	orFatal(t, err)
	test, err := os.ReadFile("firstbyte_test.go")
	orFatal(t, err)
	_, writer, found := bytes.Cut(test, []byte("// everyWriter has"))
	writer, _, ended := bytes.Cut(writer, []byte("\n\n// TestFirstByteBegun"))
	if !found || !ended {
		t.Fatal("everyWriter has moved")
	}
	program := strings.NewReplacer("TYPES", types.String(), "WRITER",
		"// everyWriter has"+string(writer)).Replace(everySet)
	dir := t.TempDir()
	files := []string{filepath.Join(dir, "main.go"), filepath.Join(dir, "firstbyte.go")}
	orFatal(t, os.WriteFile(files[0], []byte(program), 0o600))
	orFatal(t, os.WriteFile(files[1],
		bytes.Replace(ours, []byte("\npackage firstbyte\n"), []byte("\npackage main\n"), 1), 0o600))
	out, err := exec.Command("go", "run", files[0], files[1]).CombinedOutput()
	const want = "ours: 0 wrong\nembedded, with Flush: 511 wrong\n" +
		"no hooks but Write and WriteHeader: 496 wrong\n"
	if err != nil || string(out) != want {
		t.Errorf("%v, got:\n%s\nwant:\n%s", err, out, want)
	}
}

const everySet = `package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/felixge/httpsnoop"
)

WRITER

var (
	calls []string
	every = &everyWriter{call: func(method string) { calls = append(calls, method) }}
)

var writers = []http.ResponseWriter{
TYPES}

type watcher func(w http.ResponseWriter, before func()) (http.ResponseWriter, func())

// check tells whether the writer that watch makes of w has the methods that it should have, and calls
// before ahead of those of w that send something.
func check(watch watcher, w http.ResponseWriter, set optionalMethods, guarded bool) string {
	if got := optionalMethodsOf(w); got != set {
		return fmt.Sprintf("%b is taken for %b", set, got)
	}
	for _, method := range []struct {
		needs optionalMethods
		call  func(w http.ResponseWriter)
		want  string
	}{
		{0, func(w http.ResponseWriter) {}, "before"},
		{0, func(w http.ResponseWriter) { w.WriteHeader(200) }, "before WriteHeader"},
		{0, func(w http.ResponseWriter) { w.WriteHeader(101) }, "before WriteHeader"},
		{0, func(w http.ResponseWriter) { w.WriteHeader(100) }, "WriteHeader before"},
		{0, func(w http.ResponseWriter) { w.WriteHeader(199) }, "WriteHeader before"},
		{0, func(w http.ResponseWriter) { w.Write(nil) }, "before Write"},
		{hasWriteString, func(w http.ResponseWriter) { io.WriteString(w, "") }, "before WriteString"},
		{hasReadFrom, func(w http.ResponseWriter) { w.(io.ReaderFrom).ReadFrom(nil) }, "before ReadFrom"},
		{hasFlush, func(w http.ResponseWriter) { w.(http.Flusher).Flush() }, "before Flush"},
		{hasFlushError, func(w http.ResponseWriter) { w.(flushErrorer).FlushError() }, "before FlushError"},
		{hasCloseNotify, func(w http.ResponseWriter) { w.(closeNotifier).CloseNotify() }, "CloseNotify before"},
		{hasDeadlines, func(w http.ResponseWriter) { w.(deadliner).SetReadDeadline(time.Time{}) },
			"SetReadDeadline before"},
		{hasDeadlines, func(w http.ResponseWriter) { w.(deadliner).SetWriteDeadline(time.Time{}) },
			"SetWriteDeadline before"},
		{hasFullDuplex, func(w http.ResponseWriter) { w.(fullDuplexer).EnableFullDuplex() },
			"EnableFullDuplex before"},
		{hasPush, func(w http.ResponseWriter) { w.(http.Pusher).Push("", nil) }, "Push before"},
		{hasHijack, func(w http.ResponseWriter) { w.(http.Hijacker).Hijack() }, "Hijack"},
	} {
		if set&method.needs != method.needs {
			continue
		}
		calls = nil
		inner, finish := watch(w, func() { calls = append(calls, "before") })
		if got := optionalMethodsOf(inner); got != set {
			return fmt.Sprintf("%b becomes %b", set, got)
		}
		if inner.(interface{ Unwrap() http.ResponseWriter }).Unwrap() != w {
			return fmt.Sprintf("%b: Unwrap", set)
		}
		if !guarded {
			continue
		}
		method.call(inner)
		finish()
		if got := strings.Join(calls, " "); got != method.want {
			return fmt.Sprintf("%b: %s, want %s", set, got, method.want)
		}
	}
	return ""
}

type embedding struct{ http.ResponseWriter }

func (e embedding) Flush()                      {}
func (e embedding) Unwrap() http.ResponseWriter { return e.ResponseWriter }

func main() {
	for _, control := range []struct {
		name    string
		guarded bool
		watch   watcher
	}{
		{"ours", true, func(w http.ResponseWriter, before func()) (http.ResponseWriter, func()) {
			inner, f := Before(w, before)
			return inner, f.Finish
		}},
		{"embedded, with Flush", false, func(w http.ResponseWriter, before func()) (http.ResponseWriter, func()) {
			return embedding{w}, before
		}},
		{"no hooks but Write and WriteHeader", true, func(
			w http.ResponseWriter, before func(),
		) (http.ResponseWriter, func()) {
			_, f := Before(w, before)
			return httpsnoop.Wrap(w, httpsnoop.Hooks{
				WriteHeader: func(httpsnoop.WriteHeaderFunc) httpsnoop.WriteHeaderFunc { return f.WriteHeader },
				Write:       func(httpsnoop.WriteFunc) httpsnoop.WriteFunc { return f.Write },
			}), f.Finish
		}},
	} {
		wrong := 0
		for set, w := range writers {
			if reason := check(control.watch, w, optionalMethods(set), control.guarded); reason != "" {
				wrong++
				if control.name == "ours" {
					fmt.Println(reason)
				}
			}
		}
		fmt.Printf("%s: %d wrong\n", control.name, wrong)
	}
}
`

// quietWriter costs nothing itself.
type quietWriter struct{}

func (quietWriter) Header() http.Header         { return nil }
func (quietWriter) WriteHeader(int)             {}
func (quietWriter) Write(p []byte) (int, error) { return len(p), nil }

type (
	bothSet interface {
		http.Flusher
		flushErrorer
		closeNotifier
		deadliner
		fullDuplexer
		io.StringWriter
	}
	http1Set interface {
		bothSet
		http.Hijacker
		io.ReaderFrom
	}
	http2Set interface {
		bothSet
		http.Pusher
	}
)

// quietWriters are writers of each case of Before, and what they may cost:
// allocations without that of the closure.
var quietWriters = []struct {
	name   string
	w      http.ResponseWriter
	allocs float64
}{
	{"nothing optional", quietWriter{}, 1},
	{"HTTP/1", struct {
		quietWriter
		http1Set
	}{}, 1},
	{"HTTP/2", struct {
		quietWriter
		http2Set
	}{}, 1},
	{"ResponseRecorder", httptest.NewRecorder(), 2},
	{"the logger of chi", struct {
		quietWriter
		http.Flusher
		http.Hijacker
		io.ReaderFrom
	}{}, 2},
	{"a TimeoutHandler", struct {
		quietWriter
		http.Pusher
	}{}, 8},
	{"an unlisted set of two", struct {
		quietWriter
		http.Flusher
		http.Hijacker
	}{}, 14},
	{"every method", struct {
		quietWriter
		http1Set
		http.Pusher
	}{}, 23},
}

func TestFirstByteAllocations(t *testing.T) {
	for _, test := range quietWriters {
		t.Run(test.name, func(t *testing.T) {
			before := func() {}
			if n := testing.AllocsPerRun(100, func() { serveNothing(test.w, before) }); n > test.allocs {
				t.Errorf("%v allocations, want %v", n, test.allocs)
			}
		})
	}
}

//go:noinline
func serveNothing(w http.ResponseWriter, before func()) http.ResponseWriter {
	inner, f := Before(w, before)
	defer f.Finish()
	return inner
}

func BenchmarkFirstByte(b *testing.B) {
	for _, test := range quietWriters {
		b.Run("empty handler/"+test.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				calls := 0
				serveNothing(test.w, func() { calls++ })
			}
		})
	}
	body := []byte("a")
	for _, test := range quietWriters {
		b.Run("later Write/"+test.name, func(b *testing.B) {
			b.ReportAllocs()
			inner := serveNothing(test.w, func() {})
			for b.Loop() {
				inner.Write(body)
			}
		})
	}
}
