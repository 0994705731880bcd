package consistency

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/gorm-replicated/replicated"
)

// TestMonotonic has clients that only read go from one slave to the other, which are not equally far behind.
// With Token.Monotonic what they have seen once does not go away again; without, it does.
func TestMonotonic(t *testing.T) {
	for _, e := range withPositions {
		t.Run(e.name, func(t *testing.T) {
			t.Parallel() // on servers of their own
			c := e.cluster(t)
			apps := map[bool]*app{}
			for _, monotonic := range []bool{true, false} {
				apps[monotonic] = open(t, e, c, func(cfg *replicated.Config) {
					cfg.Token.Monotonic = monotonic
					cfg.Probe.Interval = 50 * time.Millisecond // so that what each slave has is known, and both are read
				})
			}
			h := newHeart(t, apps[false])
			h.beat(t)
			w := &weather{slaves: c.Slaves, phases: []phase{
				{lasts: 1500 * time.Millisecond},
				{lasts: time.Second, stops: []int{0}},
				{lasts: time.Second, stops: []int{1}},
				{lasts: 500 * time.Millisecond},
			}}
			defer w.begin(t)()

			const clients = 4
			tallies := map[bool]*tally{true: {}, false: {}}
			// Until the weather is over, and has brought about what the test is about: however often clients come.
			latest := time.Now().Add(endless)
			enough := func() bool {
				return time.Now().After(latest) ||
					w.whole() && tallies[true].by(c.Slaves[0]) > 0 && tallies[true].by(c.Slaves[1]) > 0 &&
						tallies[false].isStale()
			}
			var wg sync.WaitGroup
			for monotonic, a := range apps {
				y := tallies[monotonic]
				for i := range clients {
					reader := a.client(t, fmt.Sprintf("reader-%d", i), []carrier{byCookie, byHeader}[i%2])
					wg.Go(func() {
						seen := 0 // the highest count so far, which no later page may fall behind
						for n := 0; !enough(); n++ {
							began := time.Now()
							p, err := reader.get(t.Context(), h.name)
							if err != nil {
								y.fail(reader, round{n: n}, err)
								return
							}
							y.saw(reader, round{n: seen}, p, time.Since(began))
							seen = max(seen, p.N)
							pass(t.Context(), 10*time.Millisecond)
						}
					})
				}
			}
			wg.Wait()
			t.Logf("%v", w)
			t.Logf("Monotonic: %v", tallies[true])
			t.Logf("not Monotonic: %v", tallies[false])
			t.Logf("Monotonic: %s", apps[true].state())
			tallies[true].noneStale(t, "Monotonic")
			for _, s := range c.Slaves {
				if tallies[true].by(s) == 0 {
					t.Errorf("%v served none of the reads: that proves little", s)
				}
			}
			if y := tallies[false]; y.stale == 0 || y.failed != nil {
				t.Errorf("the control: no page went back; %v", y.failed)
			}
			tallies[false].noneWrong(t, "not Monotonic")
		})
	}
}
