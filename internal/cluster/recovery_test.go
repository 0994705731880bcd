package cluster

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gorm-replicated/replicated/internal/position"
)

// changeOfState is when a slave left the view, or entered it again.
type changeOfState struct {
	slave string
	at    time.Duration
	in    bool
}

// changes runs a cluster of one master and two slaves that answer as lose tells, for so long, and returns
// which slaves came and went when. eager has a slave be read again after its first answer, which is what
// recovery prevents.
func changes(t *testing.T, d time.Duration, eager, reads bool,
	lose func(slave int) func(time.Duration) (lost, hangs bool)) (all []changeOfState) {
	synctest.Test(t, func(t *testing.T) {
		g := newStage(t, 1, 2, stageConfig)
		g.monitor.cfg.Notice = nil
		start := time.Now()
		for i, s := range g.slaves {
			loses := lose(i)
			s.says(func(ctx context.Context) (position.Reading, error) {
				if eager {
					g.monitor.mu.Lock()
					g.monitor.picture.slaves[i].needed = 1
					g.monitor.mu.Unlock()
				}
				switch lost, hangs := loses(time.Since(start)); {
				case lost && hangs:
					<-ctx.Done()
					return position.Reading{}, ctx.Err()
				case lost:
					return position.Reading{}, errors.New("lost")
				}
				return position.Reading{Position: at(1)}, nil
			})
		}
		in := map[string]bool{}
		look := func() {
			for _, s := range g.View().All {
				now := slices.Contains(g.View().Slaves, s.Server)
				if before, seen := in[s.Server.ID]; seen && before != now {
					all = append(all, changeOfState{s.Server.ID, time.Since(start), now})
				}
				in[s.Server.ID] = now
			}
		}
		g.monitor.start()
		g.AwaitFirst(t.Context())
		for time.Since(start) < d {
			look()
			if reads {
				g.Used()
			}
			select {
			case <-g.View().Changed:
			case <-time.After(50 * time.Millisecond):
			}
		}
		g.end(t)
	})
	return all
}

// hasty returns those of some changes of which two of one slave were within this time.
func hasty(all []changeOfState, within time.Duration) (hasty []string) {
	last := map[string]time.Duration{}
	for _, c := range all {
		if before, ok := last[c.slave]; ok && c.at-before < within {
			hasty = append(hasty, fmt.Sprintf("%s: %v and %v", c.slave, before, c.at))
		}
		last[c.slave] = c.at
	}
	return hasty
}

// TestFlapping has slaves lose every other question by chance. They do not come and go.
func TestFlapping(t *testing.T) {
	lossy := func(seed uint64, timeouts bool) func(int) func(time.Duration) (bool, bool) {
		return func(slave int) func(time.Duration) (bool, bool) {
			random := rand.New(rand.NewPCG(seed, uint64(slave)))
			return func(now time.Duration) (bool, bool) { // at first all is well
				return now > time.Second && random.IntN(2) == 0, timeouts && random.IntN(2) == 0
			}
		}
	}
	for _, timeouts := range []bool{false, true} {
		left, naive := 0, 0
		for seed := range uint64(20) {
			all := changes(t, 5*time.Minute, false, true, lossy(seed, timeouts))
			if found := hasty(all, 10*time.Second); len(found) > 0 {
				t.Errorf("time-outs: %v, seed %d: %v", timeouts, seed, found)
			}
			left += len(all)
			if seed < 5 {
				naive += len(hasty(changes(t, time.Minute, true, true, lossy(seed, timeouts)), 10*time.Second))
			}
		}
		if left < 20 {
			t.Errorf("time-outs: %v: only %d changes", timeouts, left)
		}
		if naive == 0 {
			t.Errorf("time-outs: %v: the control: read again after the first answer, they do not flap either",
				timeouts)
		}
	}
}

// TestFitsAndStarts has a slave answer for a while and then not, again and again: it has to answer for
// longer each time.
func TestFitsAndStarts(t *testing.T) {
	for _, test := range []struct{ up, down time.Duration }{
		{1500 * time.Millisecond, 1500 * time.Millisecond},
		{2 * time.Second, 5 * time.Second},
		{3 * time.Second, time.Second},
		{500 * time.Millisecond, 500 * time.Millisecond},
	} {
		t.Run(fmt.Sprintf("%v up, %v down", test.up, test.down), func(t *testing.T) {
			all := changes(t, 5*time.Minute, false, true, func(int) func(time.Duration) (bool, bool) {
				return func(now time.Duration) (bool, bool) { return now%(test.up+test.down) > test.up, false }
			})
			// At first it may come back some times.
			all = slices.DeleteFunc(all, func(c changeOfState) bool { return c.at < time.Minute })
			if found := hasty(all, 10*time.Second); len(found) > 1 {
				t.Errorf("%d times, first %s", len(found), found[0])
			}
		})
	}
}

// TestReadsFailAndQuestionsDoNot has a slave answer all questions and fail each read: it is tried less and
// less often.
func TestReadsFailAndQuestionsDoNot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newStage(t, 1, 1, stageConfig)
		g.begin(t)
		slave := g.slavesOf()[0]
		var pauses []time.Duration
		for range 8 {
			g.Failed(slave, errors.New("out of memory"))
			if slave.Fits() {
				t.Fatal("it is in the view")
			}
			left := time.Now()
			for !slave.Fits() {
				time.Sleep(time.Millisecond)
				if time.Since(left) > time.Minute {
					t.Fatal("it does not come back")
				}
			}
			pauses = append(pauses, time.Since(left).Round(100*time.Millisecond))
			time.Sleep(10 * time.Millisecond)
		}
		if pauses[0] > 1100*time.Millisecond || pauses[1] < 2*pauses[0]-200*time.Millisecond ||
			pauses[7] < 4*time.Second || pauses[7] > 6*time.Second {
			t.Errorf("it came back after %v", pauses)
		}
		time.Sleep(settled + time.Second)
		g.Failed(slave, errors.New("out of memory"))
		left := time.Now()
		for !slave.Fits() {
			time.Sleep(time.Millisecond)
		}
		if d := time.Since(left); d > 1100*time.Millisecond {
			t.Errorf("after a while in the view it came back after %v", d)
		}
		g.end(t)
	})
}

// TestPausesOfADeadSlave has one that does not answer be asked at once, and then less and less often.
func TestPausesOfADeadSlave(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newStage(t, 1, 1, stageConfig)
		g.begin(t)
		g.slaves[0].isDead()
		g.slaves[0].since(time.Now())
		start := time.Now()
		g.Failed(g.slavesOf()[0], errDead)
		time.Sleep(10 * time.Second)
		asked := g.slaves[0].since(start)
		if len(asked) < 12 || len(asked) > 25 || asked[0] > firstPause ||
			asked[len(asked)-1]-asked[len(asked)-2] != longestPause {
			t.Errorf("asked %d times: %v", len(asked), asked)
		}
		g.slaves[0].is(at(1))
		back := time.Now()
		for !g.slavesOf()[0].Fits() {
			time.Sleep(time.Millisecond)
		}
		if d := time.Since(back); d < (leastAnswers-1)*recheck || d > longestPause+leastAnswers*recheck {
			t.Errorf("it came back after %v", d)
		}
		g.end(t)
	})
}
