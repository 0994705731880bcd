package logqueue

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/slogtest"
	"testing/synctest"
	"time"
)

// gate is a handler that lets nothing pass while it is shut.
type gate struct {
	slog.Handler
	open chan struct{}
}

func (g gate) Handle(ctx context.Context, r slog.Record) error {
	<-g.open
	return g.Handler.Handle(ctx, r)
}

func shutGate(to *bytes.Buffer) gate {
	withoutTime := &slog.HandlerOptions{ReplaceAttr: func(groups []string, a slog.Attr) slog.Attr {
		if len(groups) == 0 && a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}}
	return gate{slog.NewTextHandler(to, withoutTime), make(chan struct{})}
}

// TestWrittenOnReturn: a handler that does not block has written a record when the logger returns.
func TestWrittenOnReturn(t *testing.T) {
	var written bytes.Buffer
	log := New(slog.NewTextHandler(&written, nil)).Logger()
	for range 100 {
		written.Reset()
		log.With("a", 1).WithGroup("g").Warn("hello", "b", 2)
		if got := written.String(); !strings.HasSuffix(got, "level=WARN msg=hello a=1 g.b=2\n") {
			t.Fatalf("got %q", got)
		}
	}
}

func TestHandler(t *testing.T) {
	var written bytes.Buffer
	q := New(slog.NewJSONHandler(&written, nil))
	lines := func() []map[string]any { return parseJSON(t, written.Bytes()) }
	if err := slogtest.TestHandler(q.Logger().Handler(), lines); err != nil {
		t.Error(err)
	}
}

func parseJSON(t *testing.T, lines []byte) (all []map[string]any) {
	for d := json.NewDecoder(bytes.NewReader(lines)); d.More(); {
		var line map[string]any
		if err := d.Decode(&line); err != nil {
			t.Fatal(err)
		}
		all = append(all, line)
	}
	return all
}

func TestHandlerThatBlocks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var written bytes.Buffer
		g := shutGate(&written)
		q := New(g)
		took := func(log *slog.Logger) time.Duration {
			began := time.Now()
			log.Info("n")
			return time.Since(began)
		}
		if d := took(q.Notices()); d != 0 {
			t.Errorf("a notice took %v", d)
		}
		if d := took(q.Logger()); d != patience {
			t.Errorf("the first record took %v", d)
		}
		if d := took(q.Logger()); d != 0 {
			t.Errorf("the second record took %v", d)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if q.Flush(ctx); ctx.Err() == nil {
			t.Error("flushed through a gate that is shut")
		}
		var tasks sync.WaitGroup
		for range 4 * most {
			tasks.Go(func() { took(q.Logger()) })
		}
		tasks.Wait()
		close(g.open)
		q.Flush(t.Context())
		// One is with the handler, and most wait: the others are dropped, and that is said.
		lines := strings.Split(strings.TrimSpace(written.String()), "\n")
		if n := len(lines); n != 1+most+1 {
			t.Errorf("%d lines", n)
		}
		const want = `level=WARN msg="replicated: messages were dropped: the Logger blocked" messages=770`
		if last := lines[len(lines)-1]; last != want {
			t.Errorf("the last line is %s", last)
		}
		if d := took(q.Logger()); d != 0 || !strings.HasSuffix(written.String(), "level=INFO msg=n\n") {
			t.Errorf("afterwards a record took %v: it has to be written at once", d)
		}
	})
}

// fails is a handler that fails in its own way before it writes.
type fails struct {
	slog.Handler
	way func()
}

func (h fails) Handle(ctx context.Context, r slog.Record) error {
	if r.Message == "hello" {
		h.way()
	}
	return h.Handler.Handle(ctx, r)
}

// TestHandlerThatFails: neither the process nor the queue ends with one record.
func TestHandlerThatFails(t *testing.T) {
	for name, way := range map[string]func(){
		"it panics":          func() { panic("a mistake") },
		"it ends goroutines": runtime.Goexit,
		"it does not":        func() {},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var written bytes.Buffer
				q := New(fails{slog.NewTextHandler(&written, nil), way})
				began := time.Now()
				for range 3 {
					q.Logger().Warn("hello")
				}
				q.Logger().Warn("goodbye")
				q.Flush(t.Context())
				if d := time.Since(began); d != 0 {
					t.Errorf("it took %v", d)
				}
				if n := strings.Count(written.String(), "hello"); (n == 3) != (name == "it does not") {
					t.Errorf("%d records are written", n)
				}
				if !strings.Contains(written.String(), "goodbye") {
					t.Error("nothing is written any longer")
				}
			})
		})
	}
}

// talks is a handler that logs what it does, by way of the queue.
type talks struct {
	slog.Handler
	log *slog.Logger
}

func (h *talks) Handle(ctx context.Context, r slog.Record) error {
	if r.Message == "hello" {
		h.log.Info("a record came")
	}
	return h.Handler.Handle(ctx, r)
}

func TestHandlerThatLogs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var written bytes.Buffer
		h := &talks{Handler: slog.NewTextHandler(&written, nil)}
		q := New(h)
		h.log = q.Logger()
		q.Logger().Info("hello")
		q.Flush(t.Context())
		if n := strings.Count(written.String(), "\n"); n != 2 {
			t.Errorf("%d lines", n)
		}
	})
}

func TestLevels(t *testing.T) {
	var written bytes.Buffer
	q := New(slog.NewTextHandler(&written, &slog.HandlerOptions{Level: slog.LevelWarn}))
	q.Logger().Info("no")
	q.Logger().Warn("yes")
	if got := written.String(); strings.Contains(got, "no") || !strings.Contains(got, "yes") {
		t.Errorf("got %q", got)
	}
}
