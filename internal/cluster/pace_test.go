package cluster

import (
	"context"
	"database/sql"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gorm-replicated/replicated/internal/position"
)

// everySecond returns so many seconds.
func everySecond(n int) (all []time.Duration) {
	for i := range n {
		all = append(all, time.Duration(i+1)*time.Second)
	}
	return all
}

func TestPace(t *testing.T) {
	ms := time.Millisecond
	keepCalling := func(call func(*stage)) func(*stage, context.Context) {
		return func(g *stage, ctx context.Context) {
			for sleep(ctx, 5*ms) {
				call(g)
			}
		}
	}
	for _, test := range []struct {
		name string
		set  func(*stage) // before the time below begins
		use  func(*stage, context.Context)
		run  time.Duration
		want []time.Duration // when rounds begin; the latest began at 0
	}{
		{name: "nothing is routed", run: 40 * time.Second,
			want: []time.Duration{15 * time.Second, 30 * time.Second}},
		{name: "used", run: 3500 * ms, use: keepCalling((*stage).used),
			want: []time.Duration{1000 * ms, 2000 * ms, 3000 * ms}},
		{name: "used once", run: 20 * time.Second, set: (*stage).used,
			want: []time.Duration{time.Second, 16 * time.Second}},
		{name: "used after a while", run: 20 * time.Second,
			want: []time.Duration{4 * time.Second, 19 * time.Second},
			use:  func(g *stage, ctx context.Context) { sleep(ctx, 4*time.Second); g.Used() }},
		{name: "hurry", run: time.Second,
			use:  func(g *stage, ctx context.Context) { g.Hurry(); sleep(ctx, 500*ms); g.Hurry() },
			want: []time.Duration{10 * ms, 500 * ms}},
		{name: "hurry all the time, in vain", run: 200 * ms, use: keepCalling(func(g *stage) { g.Hurry() }),
			want: []time.Duration{10 * ms, 20 * ms, 30 * ms, 40 * ms, 50 * ms, 60 * ms, 70 * ms, 80 * ms, 90 * ms,
				100 * ms, 111250 * time.Microsecond,
				123906250, 138144531, 154162597, 172182921, 192455786}},
		{name: "hurry all the time, and slaves advance", run: 300 * ms,
			set: func(g *stage) { time.Sleep(250 * ms) },
			use: func(g *stage, ctx context.Context) {
				for n := uint64(2); sleep(ctx, 5*ms); n++ {
					g.slaves[1].is(at(n))
					g.Hurry()
				}
			}, want: []time.Duration{255 * ms, 265 * ms, 275 * ms, 285 * ms, 295 * ms}},
		{name: "somebody wants 200 ms", run: 180 * ms, set: func(g *stage) { g.Want(200 * ms) },
			want: []time.Duration{50 * ms, 100 * ms, 150 * ms}},
		{name: "the least that is wanted counts", run: 120 * ms,
			set:  func(g *stage) { g.Want(time.Second); g.Want(200 * ms); g.Want(time.Hour) },
			want: []time.Duration{50 * ms, 100 * ms}},
		{name: "less than there can be", run: 35 * ms, set: func(g *stage) { g.Want(0) },
			want: []time.Duration{10 * ms, 20 * ms, 30 * ms}},
		{name: "wanted for ten seconds", run: 20 * time.Second, set: func(g *stage) { g.Want(12 * time.Second) },
			want: []time.Duration{3 * time.Second, 6 * time.Second, 9 * time.Second}},
		{name: "wanted again", run: 20 * time.Second, set: func(g *stage) { g.Want(12 * time.Second) },
			use:  func(g *stage, ctx context.Context) { sleep(ctx, 5*time.Second); g.Want(12 * time.Second) },
			want: []time.Duration{3 * time.Second, 6 * time.Second, 9 * time.Second, 12 * time.Second}},
		{name: "wanted again too soon to be noted", run: 20 * time.Second,
			set:  func(g *stage) { g.Want(4 * time.Second) },
			use:  func(g *stage, ctx context.Context) { sleep(ctx, 900*ms); g.Want(4 * time.Second) },
			want: everySecond(9)},
		{name: "less is wanted, and then it is over", run: 20 * time.Second,
			set:  func(g *stage) { g.Want(4 * time.Second) },
			use:  func(g *stage, ctx context.Context) { sleep(ctx, wantedFor); g.Want(12 * time.Second) },
			want: append(everySecond(9), 12*time.Second, 15*time.Second, 18*time.Second)},
		{name: "a master's position is known everywhere", run: time.Second, set: (*stage).write},
		{name: "a master's position is not yet known everywhere", run: 200 * ms,
			set: func(g *stage) { g.master.is(at(2)); g.write() },
			want: []time.Duration{10 * ms, 20 * ms, 30 * ms, 40 * ms, 50 * ms, 60 * ms, 70 * ms, 80 * ms, 90 * ms,
				101250 * time.Microsecond,
				113906250, 128144531, 144162597, 162182921, 182455786}},
		{name: "it is not yet known everywhere, and slaves advance", run: 300 * ms, set: func(g *stage) {
			g.master.is(at(1000))
			g.write()
			time.Sleep(250 * ms)
			g.slaves[0].since(epoch)
		}, use: func(g *stage, ctx context.Context) {
			for n := uint64(2); sleep(ctx, 5*ms); n++ {
				g.slaves[1].is(at(n))
			}
		}, want: []time.Duration{259785678, 269785678, 279785678, 289785678, 299785678}},
		{name: "it may be that a slave is of another history", run: 65 * ms,
			set:  func(g *stage) { g.slaves[1].is(at(9)); g.rounds(2) },
			want: []time.Duration{30 * ms, 40 * ms, 50 * ms, 60 * ms}},
		{name: "a slave is out", run: 14 * time.Second,
			set: func(g *stage) { g.slaves[1].isDead(); g.Failed(g.slavesOf()[1], errDead) }},
		{name: "until it is known everywhere", run: time.Second, want: []time.Duration{10 * ms, 20 * ms},
			set: func(g *stage) {
				g.master.is(at(2))
				time.AfterFunc(15*ms, func() { g.slaves[0].is(at(2)); g.slaves[1].is(at(2)) })
				g.write()
			}},
		{name: "a slave does not answer", run: 38 * ms,
			set:  func(g *stage) { g.slaves[0].isDead(); g.Hurry(); time.Sleep(12 * ms) },
			want: []time.Duration{10 * ms, 20 * ms, 30 * ms}},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := newStage(t, 1, 2, stageConfig)
				g.begin(t)
				start := g.began()
				if test.set != nil {
					test.set(g)
				}
				if test.name == "a slave does not answer" {
					start = g.began()
				}
				g.slaves[0].since(start)
				ctx, cancel := context.WithTimeout(t.Context(), test.run-time.Since(start))
				defer cancel()
				if test.use != nil {
					test.use(g, ctx)
				}
				<-ctx.Done()
				synctest.Wait()
				// Slaves are asked in rounds only; masters by callers as well.
				if got := g.slaves[0].since(start); !slices.Equal(got, test.want) {
					t.Errorf("rounds began at %v, want %v", got, test.want)
				}
				g.end(t)
			})
		})
	}
}

// TestWhoIsNotAsked: without slaves nobody is asked, and of a blind monitor only slaves that have failed.
func TestWhoIsNotAsked(t *testing.T) {
	for _, test := range []struct {
		name          string
		blind         bool
		then          func(*stage)
		master, slave bool // are asked
	}{
		{"the control", false, func(*stage) {}, true, true},
		{"no slaves", false, func(g *stage) { g.SetSlaves(nil, func(*Server) bool { return false }) },
			false, false},
		{"blind", true, func(*stage) {}, false, false},
		{"blind, a slave fails", true, func(g *stage) { g.Failed(g.slavesOf()[0], errDead) }, false, true},
		{"blind, a slave is back", true, func(g *stage) {
			g.Failed(g.slavesOf()[0], errDead)
			for !g.slavesOf()[0].Fits() {
				time.Sleep(recheck)
			}
			g.slaves[0].since(epoch)
		}, false, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				cfg := stageConfig
				cfg.Blind = test.blind
				g := newStage(t, 1, 1, cfg)
				for _, s := range g.slavesOf() {
					s.Pool = sql.OpenDB(&wire{})
				}
				if !test.blind {
					g.begin(t)
				}
				test.then(g)
				time.Sleep(stageConfig.MaxLag)
				synctest.Wait()
				if n := len(g.master.since(epoch)); (n > 0) != test.master {
					t.Errorf("the master was asked %d times", n)
				}
				if n := len(g.slaves[0].since(epoch)); (n > 0) != test.slave {
					t.Errorf("the slave was asked %d times", n)
				}
				g.end(t)
			})
		})
	}
}

// TestPaceHasALimit has many ask for everything at once. In any second there are 100 rounds at most, jitter
// or not.
func TestPaceHasALimit(t *testing.T) {
	for _, random := range []float64{0, 1} {
		synctest.Test(t, func(t *testing.T) {
			g := newStage(t, 1, 2, stageConfig)
			g.monitor.random = func() float64 { return random }
			n := uint64(1)
			g.master.says(func(context.Context) (position.Reading, error) {
				time.Sleep(100 * time.Microsecond)
				n++
				return position.Reading{Position: at(n)}, nil
			})
			g.monitor.start()
			ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
			defer cancel()
			var callers sync.WaitGroup
			for range 20 {
				callers.Go(func() {
					for ctx.Err() == nil {
						g.Hurry()
						g.Want(time.Millisecond)
						g.Used()
						g.write()
					}
				})
			}
			callers.Wait()
			rounds := g.slaves[0].since(epoch)
			for i := 1; i < len(rounds); i++ {
				// A round begins with the master; when that has answered is up to the callers' question before it.
				if rounds[i]-rounds[i-1] < 10*time.Millisecond-200*time.Microsecond {
					t.Fatalf("rounds at %v and %v", rounds[i-1], rounds[i])
				}
			}
			if n := len(rounds); n > 301 || n < 200 {
				t.Errorf("%d rounds in three seconds", n)
			}
			g.end(t)
			if most := len(g.monitor.picture.ring.entries); most > 2000 {
				t.Errorf("%d entries in the ring", most)
			}
		})
	}
}

func TestJitterOnlyShortens(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newStage(t, 1, 1, stageConfig)
		g.monitor.random = func() float64 { return 0.5 }
		g.begin(t)
		start := g.began()
		time.Sleep(15 * time.Second)
		synctest.Wait()
		if got := g.slaves[0].since(start); !slices.Equal(got, []time.Duration{14250 * time.Millisecond}) {
			t.Errorf("got %v", got)
		}
		g.end(t)
	})
}

// TestSlaveAlwaysAhead has each commit of a busy master wait for longer than the shortest pause between
// rounds, while a slave has it at once. That decides nothing, so it must not have all asked on and on.
func TestSlaveAlwaysAhead(t *testing.T) {
	for _, test := range []struct {
		name      string
		waits     uint64 // each commit, in MinIntervals
		insists   bool   // somebody wants fresher slaves all the time
		mostOften int    // rounds in 10 seconds
	}{
		{"it is ahead", 10, false, 20},
		{"it is not", 0, false, 20},
		{"the control: somebody is never content", 10, true, 1000},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				cfg := stageConfig
				cfg.MaxLag = 10 * time.Second
				g := newStage(t, 1, 1, cfg)
				began := time.Now()
				done := func() uint64 { return 100 + uint64(time.Since(began)/stageConfig.MinInterval) }
				g.master.says(func(context.Context) (position.Reading, error) {
					return position.Reading{Position: at(done() - test.waits)}, nil
				})
				g.slaves[0].says(func(context.Context) (position.Reading, error) {
					return position.Reading{Position: at(done())}, nil
				})
				g.begin(t)
				time.Sleep(cfg.MaxLag) // the slave is read by then
				g.master.since(began)
				end := time.Now().Add(10 * time.Second)
				for g.Used(); time.Now().Before(end); g.Used() {
					if test.insists {
						g.Hurry()
					}
					time.Sleep(stageConfig.MinInterval)
				}
				if !g.slavesOf()[0].Fits() {
					t.Errorf("the slave is not read: %s", g.shows())
				}
				rounds := len(g.master.since(began))
				if most := test.mostOften; rounds > most || test.insists && rounds < most/2 {
					t.Errorf("%d rounds in 10 seconds", rounds)
				}
				g.end(t)
			})
		})
	}
}
