package replicated_test

import (
	"log/slog"
	"net/http"
	"testing"
	"time"

	"github.com/gorm-replicated/replicated"
)

// TestALoggerThatBlocks has the Logger block at the first thing that there is to tell: the servers go on being watched,
// requests being served, and Close returns.
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
