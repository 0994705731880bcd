package cluster

import (
	"context"
	"slices"
	"testing"
	"testing/synctest"
	"time"
	"unsafe"

	"github.com/gorm-replicated/replicated/internal/position"
)

// asleep returns t as a machine tells it that was suspended for d since: its wall clock has gone on, its
// monotonic clock has not. Package time makes no such value but by time.Now, so the test looks into it:
// seconds of the wall clock stand above 30 bits of nanoseconds.
func asleep(t time.Time, d time.Duration) time.Time {
	wall := (*uint64)(unsafe.Pointer(&t))
	*wall += uint64(d/time.Second) << 30
	return t
}

func TestAsleep(t *testing.T) {
	now := time.Now()
	later := asleep(now, time.Hour)
	if m, w := later.Sub(now), later.Round(0).Sub(now.Round(0)); m != 0 || w != time.Hour {
		t.Fatalf("the clocks went on by %v and %v", m, w)
	}
}

func TestSince(t *testing.T) {
	now := time.Now()
	for _, test := range []struct {
		name string
		now  time.Time
		want time.Duration
	}{
		{"both clocks go on", now.Add(time.Second), time.Second},
		{"the machine was suspended", asleep(now.Add(time.Second), time.Hour), time.Hour + time.Second},
		{"the wall clock was set back", asleep(now.Add(time.Second), -time.Hour), time.Second},
		{"before", now.Add(-time.Second), -time.Second},
		{"without a monotonic clock", now.Add(time.Second).Round(0), time.Second},
	} {
		if got := since(now, test.now); got != test.want {
			t.Errorf("%s: %v, want %v", test.name, got, test.want)
		}
	}
}

// TestUntilByExample has the figures of hold.go.
func TestUntilByExample(t *testing.T) {
	second := func(n int) time.Time { return epoch.Add(time.Duration(n) * time.Second) }
	for _, test := range []struct {
		name                    string
		positions, blind, stood bool
		want                    time.Time
	}{
		{name: "with positions", positions: true, want: second(155).Add(1)},
		{name: "while the master is away", positions: true, stood: true, want: second(167)},
		{name: "without positions", want: second(167)},
		{name: "nobody is asked for positions", blind: true},
	} {
		p := picture{
			maxLag: time.Minute, patience: patience(time.Second), positions: test.positions, blind: test.blind,
		}
		s := &slave{heard: second(100), freshAsOf: second(95)}
		if test.stood {
			s.stood = second(95)
		}
		if got := p.until(s); !got.Equal(test.want) {
			t.Errorf("%s: %v, want %v", test.name, got, test.want)
		}
	}
}

// TestMonitorThatHangs: what is known of slaves ends by itself. Who does not look at the clock goes on
// reading them.
func TestMonitorThatHangs(t *testing.T) {
	for _, test := range []struct {
		name  string
		lacks bool // the group has no positions
		holds time.Duration
	}{
		{"with positions", false, stageConfig.MaxLag + 1},
		{"without", true, stageConfig.MaxLag + patience(stageConfig.Interval)},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				hangs := make(chan struct{})
				g := newStage(t, 1, 2, stageConfig)
				g.monitor.cfg.Notice = func(*Server, bool, string, string) { <-hangs }
				if test.lacks {
					g.master.lacks("none")
				}
				g.begin(t)
				slave := g.slavesOf()[1]
				g.Failed(g.slavesOf()[0], errDead) // of which there is to tell
				latest := g.began()
				synctest.Wait()
				time.Sleep(time.Until(latest.Add(test.holds - time.Millisecond)))
				if v := g.View(); !slave.Fits() || !v.Holds(time.Now()) || !v.Of(slave).Holds(time.Now()) {
					t.Error("what was known of the slave ends too early")
				}
				time.Sleep(time.Millisecond)
				if v := g.View(); slave.Fits() || v.Holds(time.Now()) || v.Of(slave).Holds(time.Now()) {
					t.Error("the slave is still read")
				}
				if !slices.Contains(g.View().Slaves, slave) { // the control
					t.Error("the monitor has taken the slave out of the view: then this tests nothing")
				}
				close(hangs)
				time.Sleep(time.Second)
				synctest.Wait()
				if !slave.Fits() {
					t.Error("the monitor goes on, but the slave is not read")
				}
				g.end(t)
			})
		})
	}
}

// TestLateRounds has a busy machine be late with questions: that drops no slave, whether or not there are
// positions and the master can be asked.
func TestLateRounds(t *testing.T) {
	for _, test := range []struct {
		name string
		set  func(*stage)
	}{
		{"with positions", func(*stage) {}},
		{"without", func(g *stage) { g.master.lacks("none") }},
		{"while the master is away", func(g *stage) { g.master.isDead() }},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := newStage(t, 1, 1, stageConfig)
				g.begin(t)
				test.set(g)
				answers := 0
				g.slaves[0].says(func(ctx context.Context) (position.Reading, error) {
					time.Sleep(900 * time.Millisecond)
					if answers++; answers%3 > 0 {
						return position.Reading{}, errDead // two of three get lost
					}
					return position.Reading{Position: at(1)}, nil
				})
				for range 600 { // nobody reads: rounds are as far apart as they may be
					time.Sleep(time.Second)
					if slave := g.slavesOf()[0]; !slave.Fits() {
						t.Fatalf("the slave is not read: %s", g.shows())
					}
				}
				g.end(t)
			})
		})
	}
}

// TestSuspendedMachine wakes a machine an hour after its slave has stopped to replay.
func TestSuspendedMachine(t *testing.T) {
	began := time.Now()
	p := picture{maxLag: time.Minute, patience: 7 * time.Second, ring: ring{maxLag: time.Minute}}
	m, s := &master{watched: watched{server: &Server{}}}, &slave{watched: watched{server: &Server{Slave: true}}}
	p.masters, p.slaves = []*master{m}, []*slave{s}
	hear := func(began time.Time, n uint64, heard func(*question)) {
		heard(&question{began: began, reading: position.Reading{Position: at(n)}})
	}
	hearMaster := func(q *question) { p.hearMaster(m, q) }
	hear(began, 1, hearMaster)
	hear(began, 1, func(q *question) { p.hearSlave(s, q, began, 0) })
	state := p.state(s, began)
	if !state.Readable {
		t.Fatalf("before: %+v", state)
	}
	awake := asleep(began.Add(time.Second), time.Hour)
	if state.Holds(awake) {
		t.Error("what was known before the machine was suspended holds when it is awake")
	}
	if !state.Holds(began.Add(time.Second)) || awake.Sub(state.Until) >= 0 { // the control
		t.Error("it would not hold by the monotonic clock alone: then this tests nothing")
	}
	if lag, _ := state.Lag(awake); lag != time.Hour+time.Second {
		t.Errorf("lag %v", lag)
	}
	if age := state.Age(awake); age != time.Hour+time.Second {
		t.Errorf("age %v", age)
	}

	// The first round: the master has gone on.
	hear(awake, 2, hearMaster)
	hear(awake, 1, func(q *question) { p.hearSlave(s, q, awake, 0) })
	if state := p.state(s, awake); state.Readable {
		t.Errorf("after: %+v", state)
	}
	hear(awake, 2, func(q *question) { p.hearSlave(s, q, awake, 0) })
	if state := p.state(s, awake); !state.Readable || !state.Holds(awake.Add(time.Second)) {
		t.Errorf("when it has replayed: %+v", state)
	}
}

// TestLapse takes out of service what does not hold by the wall clock, which Fits does not look at.
func TestLapse(t *testing.T) {
	t.Run("with positions", func(t *testing.T) { testLapse(t, func(*stage) {}) })
	t.Run("without", func(t *testing.T) { testLapse(t, func(g *stage) { g.master.lacks("none") }) })
}

func testLapse(t *testing.T, set func(*stage)) {
	synctest.Test(t, func(t *testing.T) {
		g := newStage(t, 1, 1, stageConfig)
		set(g)
		g.begin(t)
		slave, rounds := g.slavesOf()[0], g.began()
		g.Lapse(time.Now())
		time.Sleep(2 * stageConfig.MinInterval)
		synctest.Wait()
		if !slave.Fits() || !g.began().Equal(rounds) {
			t.Error("it was taken out of service, or asked, though all holds")
		}
		g.slaves[0].slow(time.Millisecond) // for the view to be looked at before the answer is there
		g.Lapse(time.Now().Add(time.Hour)) // in a bubble of synctest there is one clock only
		if slave.Fits() {
			t.Error("it is still read")
		}
		time.Sleep(2 * stageConfig.MinInterval)
		synctest.Wait()
		if !slave.Fits() || g.began().Equal(rounds) {
			t.Error("it was not asked at once, or is not read though it answers")
		}
		g.end(t)
	})
}
