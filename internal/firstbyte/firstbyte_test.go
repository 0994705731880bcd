package firstbyte

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"net/textproto"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

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
