package consistency

import (
	"fmt"
	"testing"
	"time"

	"github.com/gorm-replicated/replicated"
)

// TestHealthySlavesServe has slaves that are not behind answer those who have just written, too: after 20 ms, or at once
// if requests may wait that long. One lone client, for whom alone the slaves are asked, is served no worse than fifty.
//
// It is about where requests go, not about how many there are: on a machine that is busy with other things, the clients come
// less often.
func TestHealthySlavesServe(t *testing.T) {
	const moment = 20 * time.Millisecond
	for _, e := range withPositions {
		t.Run(e.name, func(t *testing.T) {
			c := e.cluster(t)
			for _, test := range []struct {
				name            string
				clients, rounds int
				pace            time.Duration
				think           time.Duration // between POST and GET
				wait            time.Duration // Token.Wait
				least, most     float64       // of the reads by slaves
			}{
				{"one client, after 20 ms", 1, 40, 40 * time.Millisecond, moment, 0, 0.95, 1},
				{"fifty clients, after 20 ms", 50, 10, 300 * time.Millisecond, moment, 0, 0.95, 1},
				{"one client, at once, waiting", 1, 40, 40 * time.Millisecond, 0, moment, 0.90, 1},
				{"fifty clients, at once, waiting", 50, 10, 300 * time.Millisecond, 0, moment, 0.90, 1},
				// The control of both: who neither thinks nor waits is too early for the slaves.
				{"fifty clients, at once", 50, 4, 300 * time.Millisecond, 0, 0, 0, 0.9},
			} {
				t.Run(test.name, func(t *testing.T) {
					a := open(t, e, c, func(cfg *replicated.Config) { cfg.Token.Wait = test.wait })
					y := a.sustained(t, load{clients: test.clients, rounds: test.rounds, pace: test.pace,
						carry: func(i int) carrier { return []carrier{byCookie, byHeader}[i%2] },
						round: func(n int) round {
							r := roundOf(n)
							if test.think > 0 && r.answer == "303" {
								r.answer = "201" // a redirect is followed at once
							}
							r.think = test.think
							return r
						}})
					y.noneStale(t, "clients")
					if want := test.clients * test.rounds; y.reads != want {
						t.Errorf("%d reads, want %d", y.reads, want)
					}
					if share := y.share(y.bySlave); share < test.least || share > test.most {
						t.Errorf("%.1f %% by slaves, want %.0f to %.0f %%%s", 100*share, 100*test.least, 100*test.most, a.state())
					}
				})
			}
		})
	}
}

// sustained runs a load, with more and more time between rounds until the machine is not the bottleneck, and returns what
// clients saw the last time.
func (a *app) sustained(t *testing.T, l load) *tally {
	t.Helper()
	const enough = 60 * time.Millisecond // for all but a few rounds; half of it, if the machine has nothing else to do
	for try := 1; ; try++ {
		y := a.run(t, fmt.Sprintf("client-%d", try), l)
		t.Logf("%d clients, a round each %v: %v", l.clients, l.pace, y)
		if try == 4 || y.failed != nil || latencies(y.took).at(0.95) <= enough {
			return y
		}
		l.pace *= 2
	}
}
