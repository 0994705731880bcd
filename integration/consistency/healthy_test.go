package consistency

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/gorm-replicated/replicated"
)

// endless is longer than any test waits for what should happen. What takes longer hangs.
const endless = time.Minute

// onlyForTokens has slaves be asked for the sake of tokens alone, and not because it is time: what is known
// of them within a minute is known because a client wrote. Each write waits for its position, so that no
// token demands a time.
func onlyForTokens(cfg *replicated.Config) {
	cfg.MaxLag, cfg.Token.TTL, cfg.Probe.Interval = time.Hour, 2*time.Hour, time.Hour
	cfg.Token.Timeout = endless
}

// TestHealthySlavesServe has slaves that are not behind answer those who have just written, too. A read goes
// to the master only as long as no answer has shown a slave to have what its token demands; sooner or later
// one does, for a lone client as for each of fifty. A client that may wait need not try twice.
// BenchmarkHealthySlaves shows what part of the reads that is, at which speed.
func TestHealthySlavesServe(t *testing.T) {
	for _, e := range withPositions {
		t.Run(e.name, func(t *testing.T) {
			c := e.cluster(t)
			for _, test := range []struct {
				name            string
				clients, rounds int
			}{
				{"one client", 1, 20},
				{"fifty clients", 50, 2},
			} {
				t.Run(test.name, func(t *testing.T) {
					a := open(t, e, c, onlyForTokens)
					y := a.insisting(t, test.clients, test.rounds)
					t.Logf("%d clients: %v", test.clients, y)
					y.noneStale(t, "clients")
					if want := test.clients * test.rounds; y.failed == nil && y.bySlave != want {
						t.Errorf("%d reads by slaves, want %d%s", y.bySlave, want, a.state())
					}
				})
				t.Run(test.name+", waiting", func(t *testing.T) {
					a := open(t, e, c, func(cfg *replicated.Config) {
						onlyForTokens(cfg)
						cfg.Token.Wait = endless
					})
					y := a.run(t, "client", load{clients: test.clients, rounds: test.rounds,
						round: roundOf, carry: alternately})
					t.Logf("%d clients: %v", test.clients, y)
					y.noneStale(t, "clients")
					if want := test.clients * test.rounds; y.bySlave != want {
						t.Errorf("%d of %d reads by slaves%s", y.bySlave, want, a.state())
					}
				})
			}
			for _, wait := range []time.Duration{0, 20 * time.Millisecond} {
				t.Run(fmt.Sprintf("control: slaves that are behind, waiting %v", wait), func(t *testing.T) {
					a := open(t, e, c, func(cfg *replicated.Config) {
						onlyForTokens(cfg)
						cfg.Token.Wait = wait
					})
					hold(t, c.Slaves...)
					y := a.run(t, "client", load{clients: 10, rounds: 2, round: roundOf, carry: alternately})
					t.Logf("%v", y)
					y.noneStale(t, "clients")
					if want := "master, " + replicated.ReasonToken.String(); y.routes[want] != 20 {
						t.Errorf("%v; want 20 by the %s%s", y, want, a.state())
					}
				})
			}
			t.Run("control: a plugin that reads no slave", func(t *testing.T) {
				a := open(t, e, c, onlyForTokens)
				a.insisting(t, 1, 1) // from here on a slave is known to have what its writer wrote
				reader := a.client(t, "reader", byCookie)
				for _, slaves := range []bool{true, false} {
					a.plugin.SetAutoReadOnSlave(slaves)
					p, err := reader.get(t.Context(), "nobody")
					if err != nil {
						t.Fatal(err)
					}
					if wrong := p.Better != ""; p.Slave != slaves || wrong == slaves {
						t.Errorf("slaves are read: %v; by %s (%s), better from %q", slaves, p.Server, p.Reason, p.Better)
					}
				}
			})
		})
	}
}

// alternately has clients carry the token in the one way, then the other.
func alternately(i int) carrier { return []carrier{byCookie, byHeader}[i%2] }

// insisting has clients write, and then read until a slave answers, some rounds each.
func (a *app) insisting(t testing.TB, clients, rounds int) *tally {
	t.Helper()
	var y tally
	var wg sync.WaitGroup
	for i := range clients {
		c := a.client(t, fmt.Sprintf("insisting-%d", i), alternately(i))
		wg.Go(func() {
			for n := 1; n <= rounds; n++ {
				r := roundOf(n)
				if r.answer == "303" {
					r.answer = "201" // a redirect is followed without being asked
				}
				if err := c.insist(t.Context(), r, &y); err != nil {
					y.fail(c, r, err)
					return
				}
			}
		})
	}
	wg.Wait()
	return &y
}

func (c *client) insist(ctx context.Context, r round, y *tally) error {
	began := time.Now()
	if _, err := c.post(ctx, r.n, r.write, r.answer); err != nil {
		return err
	}
	return await(ctx, endless, func() error {
		p, err := c.get(ctx, c.name)
		if err != nil {
			return err
		}
		if y.saw(c, r, p, time.Since(began)); !p.Slave {
			err = fmt.Errorf("answered by %s (%s)%s", p.Server, p.Reason, c.app.state())
		}
		return err
	})
}

// BenchmarkHealthySlaves shows what part of the reads of those who have just written slaves answer, and how
// long a round of both takes: 20 ms after the write, or at once if requests may wait that long. A lone
// client, for whom the slaves have to be asked, should be served no worse than fifty.
func BenchmarkHealthySlaves(b *testing.B) {
	const moment = 20 * time.Millisecond
	for _, e := range withPositions {
		for _, test := range []struct {
			name    string
			clients int
			pace    time.Duration
			think   time.Duration // between POST and GET
			wait    time.Duration // Token.Wait
		}{
			{"one client, after 20 ms", 1, 40 * time.Millisecond, moment, 0},
			{"fifty clients, after 20 ms", 50, 300 * time.Millisecond, moment, 0},
			{"one client, at once, waiting", 1, 40 * time.Millisecond, 0, moment},
			{"fifty clients, at once, waiting", 50, 300 * time.Millisecond, 0, moment},
			{"fifty clients, at once", 50, 300 * time.Millisecond, 0, 0},
		} {
			b.Run(e.name+"/"+test.name, func(b *testing.B) {
				a := open(b, e, e.cluster(b), func(cfg *replicated.Config) { cfg.Token.Wait = test.wait })
				b.ResetTimer()
				y := a.run(b, "client", load{clients: test.clients, rounds: b.N, pace: test.pace, carry: alternately,
					round: func(n int) round {
						r := roundOf(n)
						if test.think > 0 && r.answer == "303" {
							r.answer = "201" // a redirect is followed at once
						}
						r.think = test.think
						return r
					}})
				b.StopTimer()
				y.noneStale(b, "clients")
				b.ReportMetric(100*y.share(y.bySlave), "%slaves")
				b.ReportMetric(float64(latencies(y.took).at(0.5).Microseconds())/1000, "ms/round")
				b.ReportMetric(0, "ns/op") // which is the pace
			})
		}
	}
}
