package cluster

import (
	"context"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

const flightTimeout = time.Second

// airport is a stage with one slave, on which reads are in flight.
type airport struct {
	*stage
	slave *Server
}

func atAirport(t *testing.T, name string, f func(*testing.T, airport)) {
	t.Run(name, func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			cfg := stageConfig
			cfg.Interval, cfg.MaxLag = time.Hour, 24*time.Hour // no round asks meanwhile
			g := newStage(t, 1, 1, cfg)
			g.begin(t)
			time.Sleep(time.Minute) // what was answered in the first round is long ago
			g.slaves[0].since(time.Now())
			f(t, airport{g, g.slavesOf()[0]})
			time.Sleep(10 * time.Minute)
			g.end(t)
		})
	})
}

// depart begins a read whose flight ends a context when it is cancelled.
func (a airport) depart() (*Flight, context.Context) {
	ctx, cancel := context.WithCancel(context.Background())
	f := &Flight{Cancel: cancel}
	a.Begin(a.slave, f, Now(), flightTimeout)
	return f, ctx
}

// asked returns after how long since then the slave was asked.
func (a airport) asked(since time.Time) []time.Duration { return a.slaves[0].since(since) }

func expectTimes(t *testing.T, got []time.Duration, want ...time.Duration) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("asked after %v, want %v", got, want)
	}
}

func TestFlight(t *testing.T) {
	ended := func(ctx context.Context) bool { synctest.Wait(); return ctx.Err() != nil }
	atAirport(t, "a read that is over in time has nobody asked", func(t *testing.T, a airport) {
		began := time.Now()
		f, ctx := a.depart()
		time.Sleep(flightTimeout - 1)
		if a.slave.End(f) || ended(ctx) {
			t.Error("it was cancelled")
		}
		time.Sleep(time.Minute)
		expectTimes(t, a.asked(began))
	})
	atAirport(t, "the slave lives: asked each time the timeout is over", func(t *testing.T, a airport) {
		began := time.Now()
		f, ctx := a.depart()
		time.Sleep(3*flightTimeout + 1)
		expectTimes(t, a.asked(began), flightTimeout, 2*flightTimeout, 3*flightTimeout)
		if a.slave.End(f) || ended(ctx) {
			t.Error("a slow read was cancelled")
		}
	})
	atAirport(t, "the slave is dead: the read is cancelled", func(t *testing.T, a airport) {
		a.slaves[0].isDead()
		f, ctx := a.depart()
		time.Sleep(flightTimeout - 1)
		if ended(ctx) {
			t.Error("it was cancelled before the slave was asked")
		}
		time.Sleep(questionTimeout + 1)
		if !ended(ctx) || !a.slave.End(f) {
			t.Error("it was not cancelled")
		}
	})
	atAirport(t, "one that has taken less time is asked about in its turn", func(t *testing.T, a airport) {
		began := time.Now()
		old, oldCtx := a.depart()
		time.Sleep(flightTimeout / 2)
		young, youngCtx := a.depart()
		a.slave.End(old)
		time.Sleep(flightTimeout + 1)
		expectTimes(t, a.asked(began), flightTimeout*3/2)
		if ended(oldCtx) || ended(youngCtx) || a.slave.End(young) {
			t.Error("one was cancelled")
		}
	})
	atAirport(t, "others that begin meanwhile do not put off the question", func(t *testing.T, a airport) {
		began := time.Now()
		old, _ := a.depart()
		time.Sleep(flightTimeout / 2)
		young, _ := a.depart()
		time.Sleep(flightTimeout/2 + 1)
		expectTimes(t, a.asked(began), flightTimeout)
		a.slave.End(old)
		a.slave.End(young)
	})
	atAirport(t, "the connection is from before the slave was lost", func(t *testing.T, a airport) {
		f, ctx := a.depart()
		a.slave.downs.Add(1)
		later, laterCtx := a.depart()
		time.Sleep(flightTimeout + 1)
		if !ended(ctx) || !a.slave.End(f) {
			t.Error("no answer comes over it, and it was not cancelled")
		}
		if ended(laterCtx) || a.slave.End(later) {
			t.Error("the control: a later one has a connection from after that")
		}
	})
	atAirport(t, "the reads of one caller count as one, since the first", func(t *testing.T, a airport) {
		began := time.Now()
		f, _ := a.depart()
		time.Sleep(flightTimeout / 2)
		a.Begin(a.slave, f, Now(), flightTimeout)
		a.slave.End(f)
		time.Sleep(flightTimeout)
		expectTimes(t, a.asked(began), flightTimeout)
		a.slave.End(f)
	})
	atAirport(t, "a read that begins after the cancellation is cancelled, too", func(t *testing.T, a airport) {
		a.slaves[0].isDead()
		f, ctx := a.depart()
		time.Sleep(flightTimeout + questionTimeout + 1)
		if !ended(ctx) {
			t.Error("the control: it was not cancelled")
		}
		a.Begin(a.slave, f, Now(), flightTimeout)
		for range 2 {
			if !a.slave.End(f) {
				t.Error("it was not cancelled")
			}
		}
		if a.slave.flights.oldest != nil {
			t.Error("it is in flight")
		}
	})
}

// TestFlightsInOrder has many reads come and go, and holds the list against what is in flight.
func TestFlightsInOrder(t *testing.T) {
	for seed := range uint64(100) {
		random := rand.New(rand.NewPCG(seed, 0))
		var all flights
		inFlight := map[*Flight]bool{}
		for range 200 {
			switch {
			case len(inFlight) == 0 || random.IntN(2) == 0:
				f := &Flight{since: time.Duration(random.IntN(100)), Cancel: func() {}}
				all.add(f)
				inFlight[f] = true
			case random.IntN(8) == 0:
				since := time.Duration(random.IntN(100))
				all.renew(since, 100)
			default:
				for f := range inFlight {
					all.remove(f)
					delete(inFlight, f)
					break
				}
			}
			n, before := 0, (*Flight)(nil)
			for f := all.oldest; f != nil; f = f.younger {
				if !inFlight[f] || f.older != before || before != nil && f.since < before.since {
					t.Fatalf("seed %d: the list is wrong", seed)
				}
				n, before = n+1, f
			}
			if n != len(inFlight) || all.youngest != before {
				t.Fatalf("seed %d: %d on the list, %d in flight", seed, n, len(inFlight))
			}
		}
	}
}
