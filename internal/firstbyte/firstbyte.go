// Package firstbyte tells of the moment before a response's first byte: the last one at which a header can be
// added. It knows nothing of the plugin.
//
//	w, response := firstbyte.Before(w, func() { w.Header().Set("X-Position", "7") })
//	defer response.Finish()
//	next.ServeHTTP(w, r)
//
// A wrapped [http.ResponseWriter] has exactly the optional methods of the one below, as httpsnoop makes it.
// The sets of methods that are met every day have types of their own here, which cost an allocation or two.
package firstbyte

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/felixge/httpsnoop"
)

// Response watches a response for the moment in which its first byte leaves.
// Its methods may be called by several goroutines.
type Response struct {
	w      http.ResponseWriter
	before func()

	once      sync.Once
	preparing sync.Mutex // held while before runs
	started   atomic.Bool
	returned  atomic.Bool // the handler has, and nothing was written
}

// Before calls before once, at the last moment at which a header can
// be added to the response: when the final status, the first part of the body
// or a flush is about to go to w. Other goroutines that write at that time
// wait until before has returned; a panic of before goes to the one that
// called it. A response to which nothing is written needs a deferred Finish,
// which calls before as well.
//
// The returned writer is for the next handler. It has the optional methods of
// w, no more and no less; before must not write to it.
//
// One way around it is left. If w has a set of methods that only httpsnoop
// knows, without Flush or without Hijack, and an Unwrap to a writer that has
// them, http.ResponseController flushes or hijacks that one unseen.
func Before(w http.ResponseWriter, before func()) (http.ResponseWriter, *Response) {
	f := &Response{w: w, before: before}
	h1, h2 := http1Writer{bothWriter{f}}, http2Writer{bothWriter{f}}
	// The sets that are met every day cost one allocation or two; wrap has all.
	switch methods := optionalMethodsOf(w); methods {
	case 0:
		return f, f
	case http1Methods:
		return h1, f
	case http2Methods:
		return h2, f
	case hasFlush | hasWriteString: // httptest.ResponseRecorder
		return struct {
			*Response
			http.Flusher
			io.StringWriter
		}{f, h1, h1}, f
	case hasFlush | hasHijack | hasReadFrom: // the logger of chi, for HTTP/1
		return struct {
			*Response
			http.Flusher
			http.Hijacker
			io.ReaderFrom
		}{f, h1, h1, h1}, f
	default:
		return h1.wrap(methods), f
	}
}

// Finish calls before for a response that nothing was written to. It is to be
// deferred: a header set while a handler panics still goes out with the error
// page that an outer handler makes of it.
//
// An outer handler that knows the writer, as Echo's for errors does, may use it
// after that. Then before is called again at the first byte: what was committed
// in between shall not be missing.
func (f *Response) Finish() {
	if f.started.Load() {
		return
	}
	f.returned.Store(true)
	f.preparing.Lock()
	defer f.preparing.Unlock()
	if !f.started.Load() {
		f.before()
	}
}

// Begun reports whether it may be too late for before to look at anything new:
// whether the first byte has left, or the handler has returned and nobody may
// write anything through this writer. It is true from before's first moment
// on, so that what happens next to it is seen by before, or finds Begun true,
// or both.
func (f *Response) Begun() bool { return f.started.Load() || f.returned.Load() }

func (f *Response) start() { f.once.Do(f.callBefore) }

func (f *Response) callBefore() {
	f.preparing.Lock()
	defer f.preparing.Unlock()
	f.started.Store(true)
	f.before()
}

func (f *Response) Header() http.Header { return f.w.Header() }

func (f *Response) WriteHeader(status int) {
	// Informational responses precede the real one, but nothing follows 101.
	if status < 100 || status > 199 || status == http.StatusSwitchingProtocols {
		f.start()
	}
	f.w.WriteHeader(status)
}

func (f *Response) Write(p []byte) (int, error) {
	f.start()
	return f.w.Write(p)
}

// Unwrap is how http.ResponseController gets at deadlines that w does not have itself.
func (f *Response) Unwrap() http.ResponseWriter {
	if _, ok := f.w.(interface{ Unwrap() http.ResponseWriter }); !ok {
		return f.w
	}
	methods := http1Writer{bothWriter{f}}
	return unwrapped{f, methods, methods}
}

// unwrapped stands between a Response and a w that has an Unwrap as well, to catch
// Flush and Hijack of http.ResponseController if it is only the writer under w that has them.
type unwrapped struct {
	*Response
	flushErrorer
	http.Hijacker
}

func (u unwrapped) Unwrap() http.ResponseWriter { return u.w }

// bothWriter has what net/http's writers of HTTP/1 and HTTP/2 have in common.
// It is a single pointer, as are the types that embed it: making an interface
// of one does not allocate.
type bothWriter struct{ *Response }

func (b bothWriter) WriteString(s string) (int, error) {
	b.start()
	return b.w.(io.StringWriter).WriteString(s)
}

func (b bothWriter) Flush() {
	b.start()
	b.w.(http.Flusher).Flush()
}

func (b bothWriter) FlushError() error {
	b.start()
	return http.NewResponseController(b.w).Flush()
}

func (b bothWriter) CloseNotify() <-chan bool { return b.w.(closeNotifier).CloseNotify() }

func (b bothWriter) SetReadDeadline(t time.Time) error { return b.w.(deadliner).SetReadDeadline(t) }

func (b bothWriter) SetWriteDeadline(t time.Time) error { return b.w.(deadliner).SetWriteDeadline(t) }

func (b bothWriter) EnableFullDuplex() error { return b.w.(fullDuplexer).EnableFullDuplex() }

type http1Writer struct{ bothWriter }

// ReadFrom starts before the first read of src: with a reader in between, the
// kernel could not copy a file to the connection.
func (h http1Writer) ReadFrom(src io.Reader) (int64, error) {
	h.start()
	return h.w.(io.ReaderFrom).ReadFrom(src)
}

// Hijack keeps before from being called: headers are not sent then. If it fails, the handler can still
// answer.
func (h http1Writer) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, buffered, err := http.NewResponseController(h.w).Hijack()
	if err == nil {
		h.once.Do(func() { h.started.Store(true) })
	}
	return conn, buffered, err
}

type http2Writer struct{ bothWriter }

func (h http2Writer) Push(target string, options *http.PushOptions) error {
	return h.w.(http.Pusher).Push(target, options)
}

// wrap gives w's optional methods to any writer. A hook costs three allocations, hence
// none for what w does not have.
func (h http1Writer) wrap(methods optionalMethods) http.ResponseWriter {
	hooks := httpsnoop.Hooks{
		WriteHeader: func(httpsnoop.WriteHeaderFunc) httpsnoop.WriteHeaderFunc { return h.WriteHeader },
		Write:       func(httpsnoop.WriteFunc) httpsnoop.WriteFunc { return h.Write },
	}
	if methods&hasFlush != 0 {
		hooks.Flush = func(httpsnoop.FlushFunc) httpsnoop.FlushFunc { return h.Flush }
	}
	if methods&hasFlushError != 0 {
		hooks.FlushError = func(httpsnoop.FlushErrorFunc) httpsnoop.FlushErrorFunc { return h.FlushError }
	}
	if methods&hasHijack != 0 {
		hooks.Hijack = func(httpsnoop.HijackFunc) httpsnoop.HijackFunc { return h.Hijack }
	}
	if methods&hasReadFrom != 0 {
		hooks.ReadFrom = func(httpsnoop.ReadFromFunc) httpsnoop.ReadFromFunc { return h.ReadFrom }
	}
	if methods&hasWriteString != 0 {
		hooks.WriteString = func(httpsnoop.WriteStringFunc) httpsnoop.WriteStringFunc { return h.WriteString }
	}
	return httpsnoop.Wrap(h.w, hooks)
}

// optionalMethods is a set of what a ResponseWriter may have besides its three methods.
type optionalMethods uint16

const (
	hasFlush optionalMethods = 1 << iota
	hasFlushError
	hasCloseNotify
	hasHijack
	hasReadFrom
	hasDeadlines
	hasFullDuplex
	hasPush
	hasWriteString

	bothMethods  = hasFlush | hasFlushError | hasCloseNotify | hasDeadlines | hasFullDuplex | hasWriteString
	http1Methods = bothMethods | hasHijack | hasReadFrom
	http2Methods = bothMethods | hasPush
)

// The interfaces that net/http has no name for, or a deprecated one.
type (
	flushErrorer  interface{ FlushError() error }
	closeNotifier interface{ CloseNotify() <-chan bool }
	fullDuplexer  interface{ EnableFullDuplex() error }
	deadliner     interface {
		SetReadDeadline(time.Time) error
		SetWriteDeadline(time.Time) error
	}
)

func optionalMethodsOf(w http.ResponseWriter) optionalMethods {
	return optional[http.Flusher](w, hasFlush) |
		optional[flushErrorer](w, hasFlushError) |
		optional[closeNotifier](w, hasCloseNotify) |
		optional[http.Hijacker](w, hasHijack) |
		optional[io.ReaderFrom](w, hasReadFrom) |
		optional[deadliner](w, hasDeadlines) |
		optional[fullDuplexer](w, hasFullDuplex) |
		optional[http.Pusher](w, hasPush) |
		optional[io.StringWriter](w, hasWriteString)
}

func optional[T any](w http.ResponseWriter, method optionalMethods) optionalMethods {
	if _, ok := w.(T); ok {
		return method
	}
	return 0
}
