package consistency

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/gorm-replicated/replicated"
	"github.com/gorm-replicated/replicated/integration/servers"
)

// TestMaxLag has slaves leave when they are too far behind, first one and then the other, and come back.
func TestMaxLag(t *testing.T) {
	for _, e := range withPositions {
		t.Run(e.name, func(t *testing.T) {
			t.Parallel() // on servers of their own, with little to do
			const maxLag = time.Second
			const round = maxLag / 4 // no less often are slaves asked
			const slack = 250 * time.Millisecond
			c := e.cluster(t)
			a := open(t, e, c, func(cfg *replicated.Config) { cfg.MaxLag = maxLag })
			newHeart(t, a).beat(t)
			reader := a.client(t, "reader", byCookie)
			all := map[string]bool{"slave 2 method": true, "slave 3 method": true}
			a.answers(t, reader, "by both, healthy", all)

			held := time.Now()
			hold(t, c.Slaves[0])
			left := a.leaves(t, c.Slaves[0], reader)
			t.Logf("%v left %v after it was held", c.Slaves[0], left.Sub(held).Round(time.Millisecond))
			if d := left.Sub(held); d > maxLag+round+slack {
				t.Errorf("%v left after %v, want at most MaxLag %v and a round of %v", c.Slaves[0], d, maxLag, round)
			} else if d < maxLag/2 {
				t.Errorf("%v left after %v, long before MaxLag %v: not for its lag?%s", c.Slaves[0], d, maxLag, a.state())
			}
			a.answers(t, reader, "by the other one", map[string]bool{"slave 3 method": true})

			hold(t, c.Slaves[1])
			a.leaves(t, c.Slaves[1], reader)
			lag := replicated.ReasonLag.String()
			a.answers(t, reader, "by the master, both held", map[string]bool{"master " + lag: true})
			explicit := replicated.ReasonContext.String()
			a.answers(t, reader, "by slaves nevertheless", map[string]bool{"slave 2 " + explicit: true, "slave 3 " + explicit: true}, "slave", "yes")

			release(t, c.Slaves...)
			for _, s := range c.Slaves {
				eventually(t, 5*time.Second, func() error {
					if status := a.slave(s); !status.Serving {
						return fmt.Errorf("%v, released: %+v", s, status)
					}
					return nil
				})
			}
			a.answers(t, reader, "by both again", all)
		})
	}
}

// leaves waits until no read is served by s for its lag, and returns since when at the latest.
func (a *app) leaves(t *testing.T, s *servers.Server, reader *client) time.Time {
	t.Helper()
	last := time.Now() // that s served a read
	eventually(t, 5*time.Second, func() error {
		p, err := reader.get(t.Context(), "anybody")
		if err != nil {
			return err
		}
		if p.Server == s.String() {
			last = time.Now()
			return fmt.Errorf("%v still serves", s)
		}
		if status := a.slave(s); status.Serving {
			return fmt.Errorf("%v has not left: %+v", s, status)
		}
		return nil
	})
	return last
}

// answers has the reader read, and fails the test unless all those and nobody else answer, each at least once.
func (a *app) answers(t *testing.T, reader *client, what string, want map[string]bool, query ...string) {
	t.Helper()
	const reads = 60 // that one of two gets them all by chance: once in 2^59
	got := map[string]int{}
	for range reads {
		p, err := reader.get(t.Context(), "anybody", query...)
		if err != nil {
			t.Fatal(err)
		}
		got[p.Server+" "+p.Reason]++
	}
	t.Logf("%s: %v", what, got)
	for who := range got {
		if !want[who] {
			t.Errorf("%s: %v, want %v%s", what, got, want, a.state())
			return
		}
	}
	if len(got) != len(want) {
		t.Errorf("%s: %v, want %v%s", what, got, want, a.state())
	}
}

// heart is a client that writes one entry after the other, and remembers when each was there for everybody.
type heart struct {
	*client

	mu        sync.Mutex
	committed []time.Time // entry n at n-1
}

func newHeart(t *testing.T, a *app) *heart {
	return &heart{client: a.client(t, "heart", forgetful)}
}

// beat writes until the test ends, every few milliseconds.
func (h *heart) beat(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	t.Cleanup(func() {
		cancel()
		wg.Wait()
	})
	wg.Go(func() {
		for n := 1; ctx.Err() == nil; n++ {
			if _, err := h.post(context.WithoutCancel(ctx), n, "plain", "204"); err != nil {
				t.Error(err)
				return
			}
			h.mu.Lock()
			h.committed = append(h.committed, time.Now())
			h.mu.Unlock()
			pass(ctx, 5*time.Millisecond)
		}
	})
}

// at returns the latest entry that was there for everybody before t.
func (h *heart) at(t time.Time) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	n := len(h.committed)
	for n > 0 && !h.committed[n-1].Before(t) {
		n--
	}
	return n
}

// age returns how long the n-th entry has no longer been the latest one at t.
func (h *heart) age(n int, t time.Time) time.Duration {
	h.mu.Lock()
	defer h.mu.Unlock()
	if n >= len(h.committed) {
		return 0
	}
	return max(0, t.Sub(h.committed[n]))
}

// TestMaxStaleness has requests that ask for a page at most 300 ms old get none that lacks what had been committed 300 ms
// before they began, while slaves are behind by more and by less. Who does not ask gets older ones.
func TestMaxStaleness(t *testing.T) {
	const staleness = 300 * time.Millisecond
	for _, e := range withPositions {
		t.Run(e.name, func(t *testing.T) {
			t.Parallel() // on servers of their own
			c := e.cluster(t)
			a := open(t, e, c, nil)
			h := newHeart(t, a)
			h.beat(t)
			w := &weather{slaves: c.Slaves, phases: []phase{
				{lasts: 1500 * time.Millisecond},
				{lasts: time.Second, stops: []int{0}},
				{lasts: time.Second},
				{lasts: time.Second, stops: []int{0, 1}},
			}}
			defer w.begin(t)()

			// All clocks are the same one, so nothing has to be tolerated: what was committed more than 300 ms before the
			// request was sent has to be there.
			type seen struct {
				reads, bySlave, old int
				oldest              time.Duration
				first               string
			}
			read := func(reader *client, query ...string) (s seen) {
				for !w.whole() {
					began := time.Now()
					want := h.at(began.Add(-staleness))
					p, err := reader.get(t.Context(), h.name, query...)
					if err != nil {
						t.Error(err)
						return s
					}
					s.reads++
					if p.Slave {
						s.bySlave++
					}
					s.oldest = max(s.oldest, h.age(p.N, began))
					if stale(want, p) {
						s.old++
						if s.first == "" {
							s.first = fmt.Sprintf("read %d: sees %d, not %d, from %s (%s), %v old%s",
								s.reads, p.N, want, p.Server, p.Reason, h.age(p.N, began), a.state())
						}
					}
					pass(t.Context(), 5*time.Millisecond)
				}
				return s
			}
			var wg sync.WaitGroup
			var asking, control seen
			wg.Go(func() { asking = read(a.client(t, "asking", byCookie), "staleness", staleness.String()) })
			wg.Go(func() { control = read(a.client(t, "control", byCookie)) })
			wg.Wait()
			t.Logf("%v", w)
			t.Logf("asking for 300 ms: %d reads, %d by slaves, %d too old, the oldest by %v", asking.reads, asking.bySlave, asking.old, asking.oldest)
			t.Logf("not asking: %d reads, %d by slaves, %d older, the oldest by %v", control.reads, control.bySlave, control.old, control.oldest)
			if asking.old > 0 {
				t.Errorf("%d of %d pages older than 300 ms; the first: %s", asking.old, asking.reads, asking.first)
			}
			if asking.bySlave < asking.reads/10 {
				t.Errorf("%d of %d reads by slaves: that proves little", asking.bySlave, asking.reads)
			}
			if control.old == 0 {
				t.Errorf("the control: none of %d pages older than 300 ms", control.reads)
			}
		})
	}
}
