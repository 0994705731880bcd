package cluster

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gorm-replicated/replicated/internal/position"
)

// TestQuestionsAreShared has many ask while a question is under way, at the same time and later.
func TestQuestionsAreShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newStage(t, 1, 1, stageConfig)
		g.begin(t)
		g.master.slow(50 * time.Millisecond)
		ask := func(callers *sync.WaitGroup, n int) {
			for range n {
				callers.Go(func() {
					began := time.Now()
					reading, err := g.Position(t.Context(), g.Masters[0])
					if err != nil {
						t.Error(err)
					}
					// The position says which question it was; the one under way when we came began before us.
					g.master.mu.Lock()
					defer g.master.mu.Unlock()
					for i, asked := range g.master.asked {
						if reading.Position.Covers(at(uint64(i)+2)) && !reading.Position.Covers(at(uint64(i)+3)) &&
							asked.Before(began) {
							t.Errorf("came at %v, and got an answer to a question of %v", began, asked)
						}
					}
					if waited := time.Since(began); waited > 100*time.Millisecond {
						t.Errorf("waited for %v", waited)
					}
				})
			}
		}
		var callers sync.WaitGroup
		ask(&callers, 50)
		time.Sleep(20 * time.Millisecond)
		synctest.Wait()
		ask(&callers, 50)
		callers.Wait()
		if asked := g.master.since(epoch); len(asked) > 3 { // the monitor joins in
			t.Errorf("asked %d times", len(asked))
		}
		g.end(t)
	})
}

func TestNobodyWaitsForLongerThanItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newStage(t, 1, 1, stageConfig)
		g.begin(t)
		g.master.slow(500 * time.Millisecond)
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		began := time.Now()
		if _, err := g.Position(ctx, g.Masters[0]); !errors.Is(err, context.DeadlineExceeded) ||
			time.Since(began) != 100*time.Millisecond {
			t.Errorf("after %v: %v", time.Since(began), err)
		}
		// The question goes on, for the others.
		if reading, err := g.Position(t.Context(), g.Masters[0]); err != nil || !reading.Position.Known() {
			t.Errorf("got %v, %v", reading, err)
		}
		g.end(t)
	})
}

func TestQuestionsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newStage(t, 1, 1, stageConfig)
		g.begin(t)
		g.slaves[0].freezes()
		began := time.Now()
		if _, err := g.Position(t.Context(), g.slavesOf()[0]); err == nil || time.Since(began) != questionTimeout {
			t.Errorf("after %v: %v", time.Since(began), err)
		}
		g.end(t)
	})
}

// TestADriverThatHeedsNoContext has one question hang for good. Nothing else does.
func TestADriverThatHeedsNoContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newStage(t, 1, 2, stageConfig)
		g.begin(t)
		stuck := make(chan struct{})
		g.slaves[0].hangsUntil(stuck)
		slave := g.slavesOf()[0]
		var callers sync.WaitGroup
		for range 3 { // the first hangs, the others wait behind it
			callers.Go(func() {
				if _, err := g.Position(t.Context(), slave); err != errHangs {
					t.Error(err)
				}
			})
			synctest.Wait()
		}
		began := time.Now()
		callers.Wait()
		if took := time.Since(began); took != questionTimeout+grace {
			t.Errorf("took %v", took)
		}
		if _, err := g.Position(t.Context(), slave); err != errHangs {
			t.Errorf("another: %v", err)
		}
		synctest.Wait()
		if v := g.View(); slave.Fits() || v.All[0].Up || !strings.Contains(v.All[0].Reason, errHangs.Error()) ||
			!g.slavesOf()[1].Fits() {
			t.Errorf("%+v", v.All)
		}
		began = time.Now()
		g.end(t)
		if took := time.Since(began); took != grace {
			t.Errorf("Close took %v", took)
		}
		close(stuck)
		synctest.Wait()
		if !g.slaves[0].closed || !g.slaves[1].closed || !g.master.closed {
			t.Error("something was not closed")
		}
	})
}

// TestADriverComesBack has a question hang for a while only.
func TestADriverComesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newStage(t, 1, 1, stageConfig)
		g.begin(t)
		stuck := make(chan struct{})
		g.master.hangsUntil(stuck)
		if _, err := g.Position(t.Context(), g.Masters[0]); err != errHangs {
			t.Error(err)
		}
		g.master.is(at(1))
		close(stuck)
		synctest.Wait()
		if _, err := g.Position(t.Context(), g.Masters[0]); err != nil {
			t.Error(err)
		}
		g.end(t)
	})
}

// TestCloseEndsQuestions has Close come while everything is frozen: it does not wait. Goroutines
// that were left would be an error of the bubble.
func TestCloseEndsQuestions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newStage(t, 2, 3, stageConfig)
		g.begin(t)
		for _, s := range append(g.masters, g.slaves...) {
			s.freezes()
		}
		g.Hurry()
		time.Sleep(20 * time.Millisecond)
		var callers sync.WaitGroup
		callers.Go(func() {
			if _, err := g.Position(t.Context(), g.Masters[1]); err == nil {
				t.Error("there was an answer")
			}
		})
		synctest.Wait()
		old, began := g.View(), time.Now()
		g.end(t)
		if took := time.Since(began); took != 0 {
			t.Errorf("took %v", took)
		}
		callers.Wait()
		synctest.Wait()
		for _, s := range append(g.masters, g.slaves...) {
			if !s.closed {
				t.Error("a connection is left open")
			}
		}
		select {
		case <-old.Changed:
		default:
			t.Error("the view changed, and nobody was told")
		}
		v := g.View()
		if s := g.slavesOf()[0]; len(v.All)+len(v.Slaves)+len(v.Pools) > 0 || s.Fits() || !s.Left() {
			t.Errorf("after Close: %+v", v)
		}
		if _, err := g.Position(t.Context(), g.Masters[0]); err != errClosed {
			t.Errorf("after Close: %v", err)
		}
		g.Used()
		g.Hurry()
		g.Want(0)
		g.AwaitFirst(t.Context())
		g.end(t)
	})
}

func BenchmarkPosition(b *testing.B) {
	c := New([]*Server{{ID: "master"}}, []*Server{{ID: "slave", Slave: true}})
	c.monitor = newMonitor(c, stageConfig, func(*Server) asker { return instant{} })
	c.monitor.start()
	defer c.Close()
	for b.Loop() {
		_, _ = c.Position(b.Context(), c.Masters[0])
	}
}

func BenchmarkUsed(b *testing.B) {
	c := New([]*Server{{ID: "master"}}, []*Server{{ID: "slave", Slave: true}})
	c.monitor = newMonitor(c, stageConfig, func(*Server) asker { return instant{} })
	c.monitor.start()
	defer c.Close()
	b.ReportAllocs()
	for b.Loop() {
		c.Used()
	}
}

// instant is a server that answers at once.
type instant struct{}

func (instant) ask(context.Context) (position.Reading, error) {
	return position.Reading{Position: at(1)}, nil
}

func (instant) close() {}
