// Package logqueue keeps a slog.Handler that blocks, is slow or panics away from those who log.
//
//	q := logqueue.New(slog.Default().Handler())
//	q.Logger().Warn("a request says this")    // is written when it returns, unless the handler takes too long
//	q.Notices().Info("a monitor says this")   // does not wait at all
//
// All of the handler's methods run in one goroutine of the queue's own. See [Queue].
package logqueue

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

const (
	// most is how many records may wait for the handler.
	most = 256
	// patience is how long somebody who logs waits for the handler. While it blocks, only the first one does.
	patience = 100 * time.Millisecond
)

// Queue hands records to a handler, one after the other. Records that come while [most] of them wait are
// dropped, and counted; their number is logged when the handler has taken the rest.
//
// Its goroutine ends when nothing waits, so there is nothing to close, and nobody has to wait for a handler
// that blocks. Safe for concurrent use. A Queue is made by [New].
type Queue struct {
	handler slog.Handler

	mu      sync.Mutex
	waiting []entry
	running bool          // the goroutine
	empty   chan struct{} // closed when the goroutine has written everything; nil unless it runs
	blocks  bool          // somebody has lost patience since the queue was empty
	dropped int           // since it was last logged
}

// entry is a record on its way to a handler that is derived from the queue's.
type entry struct {
	derive  func(slog.Handler) slog.Handler
	record  slog.Record
	written chan struct{}
}

// New returns a queue to h.
func New(h slog.Handler) *Queue { return &Queue{handler: h} }

// Logger returns a logger whose records are written when it returns, unless the handler takes longer than a
// tenth of a second, or is known to.
func (q *Queue) Logger() *slog.Logger {
	return slog.New(&handler{queue: q, derive: itself, waits: true})
}

// Notices returns a logger that waits for nothing.
func (q *Queue) Notices() *slog.Logger { return slog.New(&handler{queue: q, derive: itself}) }

// Flush returns when all that was logged before is written, or ctx ends.
func (q *Queue) Flush(ctx context.Context) {
	q.mu.Lock()
	empty := q.empty
	q.mu.Unlock()
	if empty == nil {
		return
	}
	select {
	case <-empty:
	case <-ctx.Done():
	}
}

func (q *Queue) put(e entry) (blocks bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.waiting) == most {
		q.dropped++
		return true
	}
	q.waiting = append(q.waiting, e)
	if !q.running {
		q.running, q.empty = true, make(chan struct{})
		go q.run()
	}
	return q.blocks
}

// run is the queue's goroutine. A handler that calls [runtime.Goexit] ends it: another one goes on then.
func (q *Queue) run() {
	ended := false
	defer func() {
		if !ended {
			go q.run()
		}
	}()
	for {
		q.mu.Lock()
		if len(q.waiting) == 0 {
			lost := q.dropped
			if q.dropped = 0; lost == 0 {
				ended = true
				q.running, q.blocks = false, false
				close(q.empty)
				q.empty = nil
				q.mu.Unlock()
				return
			}
			q.waiting = append(q.waiting, loss(lost))
		}
		e := q.waiting[0]
		q.waiting = q.waiting[1:]
		q.mu.Unlock()
		q.write(e)
	}
}

// write calls the handler, which is anybody's code. If it panics in our goroutine, nobody else can save the
// process.
func (q *Queue) write(e entry) {
	defer close(e.written)
	defer func() { _ = recover() }()
	if h, ctx := e.derive(q.handler), context.Background(); h.Enabled(ctx, e.record.Level) {
		_ = h.Handle(ctx, e.record)
	}
}

// loss tells of records that were dropped.
func loss(n int) entry {
	r := slog.NewRecord(time.Now(), slog.LevelWarn, "replicated: messages were dropped: the Logger blocked", 0)
	r.Add("messages", n)
	return entry{derive: itself, record: r, written: make(chan struct{})}
}

func itself(h slog.Handler) slog.Handler { return h }

// handler puts records into a queue. What is to be done with the queue's own handler it leaves to the
// goroutine.
type handler struct {
	queue  *Queue
	derive func(slog.Handler) slog.Handler
	waits  bool
}

var _ slog.Handler = (*handler)(nil)

// Enabled implements [slog.Handler]: the goroutine asks.
func (h *handler) Enabled(context.Context, slog.Level) bool { return true }

// Handle implements [slog.Handler].
func (h *handler) Handle(_ context.Context, r slog.Record) error {
	e := entry{h.derive, r.Clone(), make(chan struct{})}
	if blocks := h.queue.put(e); blocks || !h.waits {
		return nil
	}
	timeout := time.NewTimer(patience)
	defer timeout.Stop()
	select {
	case <-e.written:
	case <-timeout.C:
		h.queue.mu.Lock()
		h.queue.blocks = h.queue.running
		h.queue.mu.Unlock()
	}
	return nil
}

// WithAttrs implements [slog.Handler].
func (h *handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return h.with(func(to slog.Handler) slog.Handler { return to.WithAttrs(attrs) })
}

// WithGroup implements [slog.Handler].
func (h *handler) WithGroup(name string) slog.Handler {
	return h.with(func(to slog.Handler) slog.Handler { return to.WithGroup(name) })
}

func (h *handler) with(next func(slog.Handler) slog.Handler) slog.Handler {
	derive := h.derive
	return &handler{h.queue, func(to slog.Handler) slog.Handler { return next(derive(to)) }, h.waits}
}
