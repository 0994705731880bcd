package replicated_test

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/gorm-replicated/replicated"
)

// TestALoggerThatBlocks has the Logger block at the first thing that there is to tell: the servers go on
// being watched, requests being served, and Close returns.
func TestALoggerThatBlocks(t *testing.T) {
	bubble(t, "", func(t *testing.T) {
		blocks := hangingHandler{make(chan struct{})}
		s := newSite(t, func(c *replicated.Config) { c.Logger = slog.New(blocks) })
		c := s.client()
		readFor := func(d time.Duration) (last string) {
			for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(time.Second) {
				last = c.get()
			}
			return last
		}
		if got := readFor(10 * time.Second); got != "slave-1: method" && got != "slave-2: method" {
			t.Errorf("at first: %s", got)
		}
		s.commit()
		s.replay("slave-2")
		if got := readFor(2 * time.Minute); got != "slave-2: method" {
			t.Errorf("when slave-1 is behind: %s", got)
		}
		s.commit()
		if got := readFor(20 * time.Minute); got != byLag {
			t.Errorf("when slave-2 is behind, too: %s", got)
		}
		s.replay("slave-1", "slave-2")
		if got := readFor(10 * time.Second); got != "slave-1: method" && got != "slave-2: method" {
			t.Errorf("when both have replayed: %s", got)
		}
		// A statement that has something to tell goes on, too.
		s.handler = s.plugin.Middleware(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(http.StatusOK)
			s.db.WithContext(r.Context()).Create(&User{Name: "late"})
		}))
		began := time.Now()
		for range 100 {
			c.do("POST")
		}
		if took := time.Since(began); took > time.Second {
			t.Errorf("a hundred requests with something to tell took %v", took)
		}
		began = time.Now()
		if err := s.plugin.Close(); err != nil || time.Since(began) > 2*time.Second {
			t.Errorf("Close took %v: %v", time.Since(began), err)
		}
		close(blocks.until)
	})
}

// TestAMonitorThatHangs: slaves leave by themselves, by every way to them, and also the one that a request
// has begun on.
func TestAMonitorThatHangs(t *testing.T) {
	bubble(t, "", func(t *testing.T) {
		const maxLag = time.Minute
		s := newSite(t, func(c *replicated.Config) { c.Probe.Interval = -1 })
		hangs := make(chan struct{})
		s.plugin.HangMonitor(maxLag, func() { <-hangs })
		defer close(hangs)
		inGet(s.plugin, func(ctx context.Context) {
			time.Sleep(time.Second)
			s.db.WithContext(ctx).Find(&[]User{})
			first, allowed := s.plugin.ByTheRules(ctx, "SELECT * FROM users")
			if first == "master" || !slices.Contains(allowed, first) {
				t.Errorf("at first: %s, but the rules allow %v", first, allowed)
			}
			other := map[string]string{"slave-1": "slave-2", "slave-2": "slave-1"}[first]
			s.fail(other, errors.New("broken")) // of which there is to tell
			time.Sleep(3 * maxLag)              // three unanswered questions, and then as long as anything may hold
			if all := s.plugin.Status().Groups[0].Servers; all[1].Serving || all[2].Serving {
				t.Errorf("Status says that slaves serve: %+v", all)
			}
			if got, _ := s.plugin.ByTheRules(ctx, "SELECT * FROM users"); got != "master" {
				t.Errorf("then: %s", got)
			}
			if got := s.client().get(); got != byLag {
				t.Errorf("another request: %s", got)
			}
			asked := replicated.WithSlave(ctx) // does without what is known of lag
			if got, _ := s.plugin.ByTheRules(asked, "SELECT * FROM users"); got == "master" {
				t.Error("who asks for a slave gets the master")
			}
		})
	})
}
