package consistency

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/gorm-replicated/replicated"
	"github.com/gorm-replicated/replicated/integration/metronome"
	"github.com/gorm-replicated/replicated/integration/servers"
)

// TestMaxLag has slaves leave when they are too far behind, first one and then the other, and come back.
func TestMaxLag(t *testing.T) {
	for _, e := range withPositions {
		t.Run(e.name, func(t *testing.T) {
			t.Parallel() // on servers of their own, with little to do
			const maxLag = time.Second
			c := e.cluster(t)
			a := open(t, e, c, func(cfg *replicated.Config) { cfg.MaxLag = maxLag })
			h := newHeart(t, a)
			h.beat(t)
			reader := a.client(t, "reader", byCookie)
			first, second := c.Slaves[0], c.Slaves[1]
			const method, lag, explicit = replicated.ReasonMethod, replicated.ReasonLag, replicated.ReasonContext
			both := []answer{{first.String(), method}, {second.String(), method}}
			a.answers(t, reader, "healthy", nil, both)

			hold(t, first)
			h.leaves(t, first, reader, maxLag)
			a.answers(t, reader, "one held", c.Slaves[:1], []answer{{second.String(), method}})

			hold(t, second)
			h.leaves(t, second, reader, maxLag)
			a.answers(t, reader, "both held", c.Slaves, []answer{{"master", lag}})
			a.answers(t, reader, "both held, asked for a slave", nil,
				[]answer{{first.String(), explicit}, {second.String(), explicit}}, "slave", "yes")

			release(t, c.Slaves...)
			a.answers(t, reader, "released", nil, both)
		})
	}
}

// leaves waits until s, which is held, is no longer read. It fails the test if the reason is not its lag, or
// if s is read when it is further behind than maxLag. The monitor's timer may be as late as any other
// goroutine.
func (h *heart) leaves(t *testing.T, s *servers.Server, reader *client, maxLag time.Duration) {
	t.Helper()
	const slack = 250 * time.Millisecond
	late := metronome.New()
	defer late.Stop()
	var last time.Time // when the last read began that s answered
	var age time.Duration
	eventually(t, endless, func() error {
		began := time.Now()
		p, err := reader.get(t.Context(), h.name)
		if err != nil {
			return err
		}
		if p.Server == s.String() {
			last, age = began, h.age(p.N, began)
			return fmt.Errorf("%v still serves", s)
		}
		if status := h.app.slave(s); status.Serving {
			return fmt.Errorf("%v has not left: %+v", s, status)
		}
		return nil
	})
	status := h.app.slave(s)
	most := maxLag + slack + 10*late.Most()
	t.Logf("%v left; what it answered last was %v old, at most %v are allowed; now %+v",
		s, age.Round(time.Millisecond), most, status)
	if !last.IsZero() && age > most {
		t.Errorf("%v answered with what was %v old, MaxLag is %v, and goroutines ran %v late at most",
			s, age, maxLag, late.Most())
	}
	if !status.LagKnown || status.Lag <= maxLag {
		t.Errorf("%v left, though not for its lag: %+v", s, status)
	}
}

// answer is who answers a read, and why.
type answer struct {
	server string
	reason replicated.Reason
}

// answers has the reader read, until all of want and nobody else answer for a while. It fails the test at
// once if one of never answers (the plugin does not read those any longer), or if the master answers though a
// slave should.
func (a *app) answers(
	t *testing.T, reader *client, what string, never []*servers.Server, want []answer, query ...string,
) {
	t.Helper()
	const reads = 60 // that one of two gets them all by chance: once in 2^59
	wanted := map[string]bool{}
	for _, w := range want {
		wanted[w.server+" "+w.reason.String()] = true
	}
	eventually(t, endless, func() error {
		got := map[string]int{}
		for range reads {
			p, err := reader.get(t.Context(), "anybody", query...)
			if err != nil {
				t.Fatal(err)
			}
			for _, s := range never {
				if p.Server == s.String() {
					t.Fatalf("%s: %v answers (%s)%s", what, s, p.Reason, a.state())
				}
			}
			if p.Better != "" {
				t.Fatalf("%s: the master answers (%s), not %s%s", what, p.Reason, p.Better, a.state())
			}
			got[p.Server+" "+p.Reason]++
		}
		for who := range got {
			if !wanted[who] {
				return fmt.Errorf("%s: %v, want %v%s", what, got, want, a.state())
			}
		}
		if len(got) != len(wanted) {
			return fmt.Errorf("%s: %v, want %v%s", what, got, want, a.state())
		}
		t.Logf("%s: %v", what, got)
		return nil
	})
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

// TestMaxStaleness has requests that ask for a page at most 300 ms old, or 3 s, get none that lacks what had
// been committed that long before they began, while slaves are behind by more and by less. Who does not ask
// gets older ones.
func TestMaxStaleness(t *testing.T) {
	// On a slow machine perhaps no slave is known to be as fresh as the first asks for, but some are as fresh as
	// the second does.
	const strict, lax = 300 * time.Millisecond, 3 * time.Second
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

			// There is one clock, so nothing has to be tolerated: what was committed that long before the request was
			// sent has to be there.
			type seen struct {
				reads, bySlave, old int
				oldest              time.Duration
				first               string
			}
			// read goes on until the weather is over and there was what is looked for, but not without end.
			read := func(reader *client, limits []time.Duration, found func(seen) bool, asks bool) (s seen) {
				latest := time.Now().Add(endless)
				for !w.whole() || !found(s) && time.Now().Before(latest) {
					limit := limits[s.reads%len(limits)]
					var query []string
					if asks {
						query = []string{"staleness", limit.String()}
					}
					began := time.Now()
					want := h.at(began.Add(-limit))
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
							s.first = fmt.Sprintf("read %d, at most %v: sees %d, not %d, from %s (%s), %v old%s",
								s.reads, limit, p.N, want, p.Server, p.Reason, h.age(p.N, began), a.state())
						}
					}
					pass(t.Context(), 5*time.Millisecond)
				}
				return s
			}
			var wg sync.WaitGroup
			var asking, control seen
			wg.Go(func() {
				asking = read(a.client(t, "asking", byCookie), []time.Duration{strict, lax},
					func(s seen) bool { return s.bySlave > 0 }, true)
			})
			wg.Go(func() {
				control = read(a.client(t, "control", byCookie), []time.Duration{strict},
					func(s seen) bool { return s.old > 0 }, false)
			})
			wg.Wait()
			t.Logf("%v", w)
			t.Logf("asking for %v, and for %v: %d reads, %d by slaves, %d too old, the oldest by %v",
				strict, lax, asking.reads, asking.bySlave, asking.old, asking.oldest)
			t.Logf("not asking: %d reads, %d by slaves, %d older, the oldest by %v",
				control.reads, control.bySlave, control.old, control.oldest)
			if asking.old > 0 {
				t.Errorf("%d of %d pages older than they may be; the first: %s", asking.old, asking.reads, asking.first)
			}
			if asking.bySlave == 0 {
				t.Errorf("none of %d reads by a slave: that proves little", asking.reads)
			}
			if control.old == 0 {
				t.Errorf("the control: none of %d pages older than %v", control.reads, strict)
			}
		})
	}
}
