package consistency

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"gorm.io/gorm"
	"gorm.io/gorm/logger"

	"github.com/gorm-replicated/replicated"
)

// TestProbes counts on the servers what the plugin asks them: nothing in a reading request, one position in a
// writing one, and beside requests no server more often than it may.
func TestProbes(t *testing.T) {
	for _, e := range withPositions {
		t.Run(e.name, func(t *testing.T) {
			t.Run("reading requests", func(t *testing.T) { probesOfReading(t, e) })
			t.Run("writing requests", func(t *testing.T) { probesOfWriting(t, e) })
			for _, storm := range storms {
				t.Run(storm.name, func(t *testing.T) { probesInStorm(t, e, storm) })
			}
		})
	}
}

// rarely has few probes made, so that those of the requests stand out: none is made for a read that is slow,
// and each position is waited for.
func rarely(cfg *replicated.Config) {
	cfg.Probe.Interval, cfg.Probe.MinInterval = 2*time.Second, leastPause
	cfg.Failover.SlaveTimeout = -1
	cfg.Token.Timeout = endless
}

// leastPause is between two probes of a server, at least.
const leastPause = 500 * time.Millisecond

// atMost is how many probes there are, at their interval, in d: both edges, and one for the clocks.
func atMost(interval, d time.Duration) int { return int(d/interval) + 3 }

func probesOfReading(t *testing.T, e engine) {
	c := e.cluster(t)
	journals := e.journals(t, c)
	a := open(t, e, c, rarely)
	writer, reader := a.client(t, "writer", byCookie), a.client(t, "reader", byCookie)
	if _, err := writer.post(t.Context(), 1, "default", "201"); err != nil {
		t.Fatal(err)
	}
	// From here on the token is known to be covered.
	eventually(t, endless, func() error {
		p, err := writer.get(t.Context(), writer.name)
		if err == nil && !p.Slave {
			err = fmt.Errorf("answered by %s (%s)", p.Server, p.Reason)
		}
		return err
	})
	for _, test := range []struct {
		name   string
		client *client
	}{{"without a token", reader}, {"with a token that slaves cover", writer}} {
		t.Run(test.name, func(t *testing.T) {
			for _, j := range journals {
				j.begin(t)
			}
			const requests = 200
			began := time.Now()
			for range requests {
				if _, err := test.client.get(t.Context(), writer.name); err != nil {
					t.Fatal(err)
				}
			}
			reads := 0
			for _, j := range journals {
				entries, probes, others := sorted(j.statements(t))
				took := time.Since(began)
				t.Logf("%v: %d requests in %v: %d statements of theirs, %d probes, %d others",
					j.server, requests, took.Round(time.Millisecond), len(entries), len(probes), len(others))
				reads += len(entries)
				if len(others) > 0 {
					t.Errorf("%v: %d statements that nobody ordered:%s", j.server, len(others), texts(others))
				}
				if most := atMost(leastPause, took); len(probes) > most {
					t.Errorf("%v: %d probes in %v, want at most %d:%s", j.server, len(probes), took, most, texts(probes))
				}
			}
			if reads != requests {
				t.Errorf("%d statements for %d requests", reads, requests)
			}
		})
	}
}

func probesOfWriting(t *testing.T, e engine) {
	c := e.cluster(t)
	journals := e.journals(t, c)
	const requests = 100
	for _, write := range []string{"default", "plain", "raw"} {
		t.Run(write, func(t *testing.T) {
			// What the same writes are without the plugin.
			plain, err := gorm.Open(e.dial(c.Master.DSN()), &gorm.Config{Logger: logger.Discard})
			if err != nil {
				t.Fatal(err)
			}
			pool, err := plain.DB()
			if err != nil {
				t.Fatal(err)
			}
			defer pool.Close()
			master := journals[0]
			master.begin(t)
			for n := range requests {
				if err := writes[write](plain.WithContext(t.Context()), &Entry{Client: "plain", N: n}); err != nil {
					t.Fatal(err)
				}
			}
			want := len(master.statements(t))

			a := open(t, e, c, rarely)
			client := a.client(t, "writer", byCookie)
			// The first one makes the connections that there will be.
			if _, err := client.post(t.Context(), 0, write, "201"); err != nil {
				t.Fatal(err)
			}
			for _, j := range journals {
				j.begin(t)
			}
			began := time.Now()
			for n := range requests {
				if _, err := client.post(t.Context(), n, write, "201"); err != nil {
					t.Fatal(err)
				}
			}
			for _, j := range journals {
				entries, probes, others := sorted(j.statements(t))
				took := time.Since(began)
				t.Logf("%v: %d requests in %v: %d statements of theirs, %d positions, %d others",
					j.server, requests, took.Round(time.Millisecond), len(entries), len(probes), len(others))
				wantStatements, wantProbes := 0, atMost(leastPause, took)
				if j == master {
					wantStatements, wantProbes = want, wantProbes+requests
				}
				if got := len(entries) + len(others); got != wantStatements {
					t.Errorf("%v: %d statements, without the plugin %d:%s", j.server, got, wantStatements, texts(others))
				}
				if len(probes) > wantProbes {
					t.Errorf("%v: %d times asked for a position, want at most %d", j.server, len(probes), wantProbes)
				}
			}
			// The control: positions are seen when they are asked for.
			if _, probes, _ := sorted(master.statements(t)); len(probes) < requests {
				t.Errorf("the master was asked for %d positions by %d writing requests: does the journal work?",
					len(probes), requests)
			}
		})
	}
}

// storms are reading requests that would like to know more than the plugin does.
var storms = []storm{
	{name: "a storm with tokens that no slave covers"},
	{name: "a storm with tokens that no slave covers, and waiting", wait: 5 * time.Millisecond},
	{name: "a storm with a staleness that no slave has", query: []string{"staleness", "1ms"}},
}

type storm struct {
	name  string
	wait  time.Duration // Token.Wait
	query []string
}

// probesInStorm has the storm rage until there were many more requests than there may be probes, however fast
// either is.
func probesInStorm(t *testing.T, e engine, storm storm) {
	c := e.cluster(t)
	journals := e.journals(t, c)
	a := open(t, e, c, func(cfg *replicated.Config) {
		rarely(cfg)
		cfg.Token.Wait = storm.wait
	})
	hold(t, c.Slaves...)
	const clients = 12
	var all []*client
	for i := range clients {
		one := a.client(t, fmt.Sprintf("storm-%d", i), byHeader)
		if _, err := one.post(t.Context(), 1, "default", "201"); err != nil {
			t.Fatal(err)
		}
		all = append(all, one)
	}
	since := make([]time.Time, len(journals)) // while one journal begins, those before it are written already
	for i, j := range journals {
		since[i] = time.Now()
		j.begin(t)
	}
	const least = 3 // probes that there are to be
	began := time.Now()
	var requests, bySlave atomic.Int64
	enough := func() bool {
		took := time.Since(began)
		return took > least*leastPause*2 && requests.Load() > 4*int64(atMost(leastPause, took)) || took > endless
	}
	var wg sync.WaitGroup
	for _, one := range all {
		wg.Go(func() {
			for !enough() {
				p, err := one.get(t.Context(), one.name, storm.query...)
				if err != nil {
					t.Error(err)
					return
				}
				requests.Add(1)
				if p.Slave {
					bySlave.Add(1)
				}
			}
		})
	}
	wg.Wait()
	for i, j := range journals {
		_, probes, others := sorted(j.statements(t))
		took := time.Since(since[i])
		t.Logf("%v: %d of %d requests answered by slaves: %d probes in %v; %d others",
			j.server, bySlave.Load(), requests.Load(), len(probes), took.Round(time.Millisecond), len(others))
		if most := atMost(leastPause, took); len(probes) > most {
			t.Errorf("%v: %d probes in %v, want at most %d:%s", j.server, len(probes), took, most, texts(probes))
		}
		if len(others) > 0 {
			t.Errorf("%v: %d statements that nobody ordered:%s", j.server, len(others), texts(others))
		}
		// The controls: there was something to hold back, and it was not held back altogether.
		if requests.Load() < 2*int64(len(probes)) {
			t.Errorf("%v: %d requests and %d probes: this is no storm", j.server, requests.Load(), len(probes))
		}
		if len(probes) < least {
			t.Errorf("%v: %d probes: does the journal work?", j.server, len(probes))
		}
	}
}
