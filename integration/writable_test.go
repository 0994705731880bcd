package integration

import (
	"bytes"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"gorm.io/gorm"

	"github.com/gorm-replicated/replicated"
)

// safeBuffer is a buffer for a log that is written in the background.
type safeBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *safeBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *safeBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// TestWritableSlaves has the slaves of these tests, which take writes on
// purpose, be found out.
func TestWritableSlaves(t *testing.T) {
	eachHouse(t, func(t *testing.T, h house) {
		if !h.refuses {
			testWritableSlaves(t, h)
		}
	})
}

func testWritableSlaves(t *testing.T, h house) {
	var logged safeBuffer
	_, p := h.open(t, gorm.Config{}, func(cfg *replicated.Config) {
		cfg.Logger = slog.New(slog.NewTextHandler(&logged, nil))
	})
	writable := func() (ids []string) {
		for _, s := range p.Status().Groups[0].Servers {
			if s.Writable {
				ids = append(ids, s.ID)
			}
		}
		return ids
	}
	deadline := time.After(30 * time.Second)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for len(writable()) < len(h.Slaves) {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("found %q; logged:\n%s", writable(), &logged)
		}
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	for _, slave := range h.Slaves {
		if n := strings.Count(logged.String(), "server="+slave.Addr()); n != 1 {
			t.Errorf("%v: logged %d times:\n%s", slave, n, &logged)
		}
	}
}
