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
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

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
