// Package rowsctx makes contexts for reads that can be cancelled apart from the caller's context, and lets a
// caller know when the rows of a read are closed. It knows nothing of the plugin.
//
// How database/sql ends rows: QueryContext hands the caller's context to the driver, and, if it can be
// cancelled, derives another one from it for the rows (Rows.initContextClose). It cancels that one when the
// rows are closed, or have been read to their end; a transaction has one as well, which ends with Commit or
// Rollback. So a context must live for as long as the rows do: one that is cancelled when QueryContext
// returns takes the rows with it.
//
//	QueryContext(ctx) ── ctx ──► driver
//	                      └──── derived ──► Rows, or Tx: cancelled when they end
//
// There are two ways to have such a context, and not to keep it for longer than it is needed:
//
//   - Shared serves many reads. It ends with its parent, which holds it until then: it is for parents that
//     end soon, such as a request's.
//   - A Single serves one read. It hears of the context that is derived from it (package context asks a
//     parent for an AfterFunc method), so it knows when the rows are closed, and lets go of its parent then.
package rowsctx

import (
	"context"
	"slices"
	"sync"
)

// Shared is a context for many reads.
type Shared struct {
	context.Context
	Cancel context.CancelFunc

	parent context.Context
	done   <-chan struct{} // the parent's, which a framework may use again for another request
}

// NewShared returns a context for reads that are given parent, which has to be comparable.
func NewShared(parent context.Context) Shared {
	s := Shared{parent: parent, done: parent.Done()}
	s.Context, s.Cancel = context.WithCancel(parent)
	return s
}

// Serves tells whether s may be used for a read that is given ctx.
func (s *Shared) Serves(ctx context.Context) bool {
	return s.parent == ctx && s.done == ctx.Done() && s.Err() == nil
}

// Single is the context of a read that can be cancelled apart from the caller's, and tells when its rows
// are closed or its transaction ends. At that moment it forgets the caller's context and is not cancelled:
// drivers go on to use it for COMMIT.
type Single struct {
	context.Context // the caller's
	over            func()

	forget func() bool // the caller's context
	done   chan struct{}
	ended  sync.Once // done is closed

	mu      sync.Mutex
	killed  bool
	derived []*derived // that have not ended
	handed  bool       // the rows are with the caller
}

// derived is a context that was derived from a Single.
type derived struct {
	cancel func()
	forget func() bool // the caller's context
}

// NewSingle returns a context for a read that is given parent. It calls over at most once: when the rows are
// closed that HandOver has spoken of.
func NewSingle(parent context.Context, over func()) *Single {
	s := &Single{Context: parent, over: over, done: make(chan struct{})}
	s.forget = context.AfterFunc(parent, s.end)
	return s
}

func (s *Single) end() { s.ended.Do(func() { close(s.done) }) }

// Forget lets go of the caller's context. It is for a read that has failed, or whose rows are closed.
func (s *Single) Forget() { s.forget() }

// Cancel cancels the context.
func (s *Single) Cancel() {
	s.mu.Lock()
	all := s.derived
	s.killed, s.derived = true, nil
	s.mu.Unlock()
	s.forget()
	s.end()
	for _, d := range all {
		d.forget()
		go d.cancel()
	}
}

// HandOver says that the rows are with the caller. It returns false if nothing will tell when they are
// closed.
func (s *Single) HandOver() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.handed = true
	return len(s.derived) > 0
}

// Done is a channel of its own: otherwise package context would derive from the caller's context.
func (s *Single) Done() <-chan struct{} { return s.done }

// Err implements [context.Context].
func (s *Single) Err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.killed {
		return context.Canceled
	}
	return s.Context.Err()
}

// AfterFunc is what package context calls to derive a context; it calls what that returns when the derived
// one ends.
func (s *Single) AfterFunc(f func()) func() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.killed {
		go f()
		return func() bool { return false }
	}
	d := &derived{cancel: f}
	d.forget = context.AfterFunc(s.Context, func() { // then nothing else tells
		f()
		s.drop(d)
	})
	s.derived = append(s.derived, d)
	return func() bool {
		s.drop(d)
		return d.forget()
	}
}

// drop says that a derived context has ended.
func (s *Single) drop(d *derived) {
	s.mu.Lock()
	i := slices.Index(s.derived, d)
	if i >= 0 {
		s.derived = slices.Delete(s.derived, i, i+1)
	}
	over := i >= 0 && s.handed && len(s.derived) == 0
	s.handed = s.handed && !over // a driver may derive another one for COMMIT
	s.mu.Unlock()
	if over {
		s.forget()
		s.over()
	}
}
