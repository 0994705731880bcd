package consistency

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"
)

// TestReadYourWrites has fifty clients write and read while the lag of both slaves wanders between nothing
// and half a second, and each, then both, stop replaying altogether. No page lacks what its client has just
// written. The same requests are stale again and again if clients do not carry the token; and who does not
// write reads from slaves.
//
// CONSISTENCY_ROUNDS is how often each client writes and reads at least; the default is 40. The weather may
// want more.
func TestReadYourWrites(t *testing.T) {
	const clients = 50
	rounds := 40
	if text := os.Getenv("CONSISTENCY_ROUNDS"); text != "" {
		var err error
		if rounds, err = strconv.Atoi(text); err != nil {
			t.Fatalf("CONSISTENCY_ROUNDS: %v", err)
		}
	}
	for _, e := range slices.Concat(withPositions, withoutPositions) { // the latter by the time window
		t.Run(e.name, func(t *testing.T) {
			c := e.cluster(t)
			a := open(t, e, c, nil)
			const pace = 75 * time.Millisecond
			w := &weather{slaves: c.Slaves, phases: []phase{
				{lasts: 2 * time.Second},
				{lasts: 3 * time.Second, stops: []int{0}},
				{lasts: 2 * time.Second},
				{lasts: 3 * time.Second, stops: []int{1}},
				{lasts: 1 * time.Second},
				{lasts: 1500 * time.Millisecond, stops: []int{0, 1}},
			}}
			end := w.begin(t)
			began := time.Now()
			var writers, forgetting, readers *tally
			var wg sync.WaitGroup
			more := func() bool { return !w.whole() }
			wg.Go(func() {
				writers = a.run(t, "writer", load{
					clients: clients, rounds: rounds, more: more, pace: pace, round: roundOf,
					carry: func(i int) carrier {
						if i%5 == 0 {
							return byHeader
						}
						return byCookie
					},
				})
			})
			wg.Go(func() {
				forgetting = a.run(t, "forgetful", load{
					clients: 10, rounds: 10, more: more, pace: 4 * pace, round: roundOf,
					carry: func(int) carrier { return forgetful },
				})
			})
			stop := make(chan struct{})
			var reading sync.WaitGroup
			reading.Go(func() { readers = a.readers(t, 10, stop) })
			wg.Wait()
			close(stop)
			reading.Wait()
			took := time.Since(began)
			end()

			t.Logf("%v; %v", took.Round(time.Millisecond), w)
			t.Logf("clients that write: %v", writers)
			t.Logf("clients that forget the token: %v", forgetting)
			t.Logf("clients that never write: %v", readers)
			t.Logf("the plugin: %s", a.state())
			writers.noneStale(t, "clients that write")
			if want := clients * rounds; writers.reads < want {
				t.Errorf("%d reads, want %d at least", writers.reads, want)
			}
			readers.noneStale(t, "clients that never write")
			if readers.bySlave == 0 {
				t.Errorf("clients that never write: none of their %d reads by a slave", readers.reads)
			}
			if forgetting.stale == 0 || forgetting.failed != nil {
				t.Errorf("the control: none of %d reads stale; %v", forgetting.reads, forgetting.failed)
			}
			forgetting.noneWrong(t, "clients that forget the token")
		})
	}
}

// readers has clients that never write read until stop is closed.
func (a *app) readers(t *testing.T, clients int, stop <-chan struct{}) *tally {
	t.Helper()
	const think = 100 * time.Millisecond
	var y tally
	var wg sync.WaitGroup
	for i := range clients {
		c := a.client(t, fmt.Sprintf("reader-%d", i), byCookie)
		wg.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				case <-time.After(think):
				}
				began := time.Now()
				p, err := c.get(t.Context(), a.nameOf(fmt.Sprintf("writer-%d", i)))
				if err != nil {
					y.fail(c, round{n: n}, err)
					return
				}
				y.saw(c, round{}, p, time.Since(began)) // nothing is stale for who has not written
			}
		})
	}
	wg.Wait()
	return &y
}
