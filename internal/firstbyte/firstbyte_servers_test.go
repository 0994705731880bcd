package firstbyte

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
)

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
