package firstbyte

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

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
	test, err := os.ReadFile("firstbyte_sets_test.go")
	orFatal(t, err)
	_, writer, found := bytes.Cut(test, []byte("// everyWriter has"))
	writer, _, ended := bytes.Cut(writer, []byte("\n\n// TestFirstByteOfEverySet"))
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
