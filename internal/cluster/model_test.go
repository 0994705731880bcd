package cluster

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// sleep tells whether the context did not end first.
func sleep(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}

var errDead error = syscall.ECONNREFUSED

// check holds a view against the truth.
func (w *world) check(v *View) {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := time.Now()
	w.views++
	say := func(format string, args ...any) {
		w.violations = append(w.violations,
			fmt.Sprintf("at %s: ", now.Format("05.000000000"))+fmt.Sprintf(format, args...))
	}
	for _, m := range w.masters {
		if m.isSurprising(now) {
			return
		}
	}
	for i, state := range v.All {
		s := w.slaves[i]
		in := slices.Contains(v.Slaves, s.Server)
		if in {
			w.seen++
		}
		if in && !state.Up {
			say("%s is in the view but not up", s.ID)
		}
		if in != (state.Reason == "") && !state.FreshAsOf.IsZero() {
			say("%s: in the view %v, because %q", s.ID, in, state.Reason)
		}
		patience := w.cfg.MaxLag/4 + missed*(w.cfg.Interval+questionTimeout) + grace
		if state.Up && (s.state == dead || s.state == frozen || s.state == rude) && now.Sub(s.since) > patience &&
			now.Before(s.until) {
			say("%s is up, though it has not answered since %v", s.ID, now.Sub(s.since))
		}
		if strings.HasPrefix(state.Reason, "is of another history") { // no slave of this world is
			say("%s: %s", s.ID, state.Reason)
		}
		waits := len(v.Masters) > 0 && now.Sub(w.began) < w.cfg.MaxLag && !w.lacked
		if in && waits && !w.cluster.monitor.everHad() {
			say("%s is read, though its lag is not known", s.ID)
		}
		if s.isSurprising(now) {
			continue
		}
		since, any := w.missing(s)
		if any && state.FreshAsOf.After(since) {
			say("%s: fresh as of %v, but it does not have what was committed at %v", s.ID, state.FreshAsOf, since)
		}
		lag, known := state.Lag(now)
		if any && known && state.stood.IsZero() && lag < now.Sub(since) {
			say("%s: lag %v, really %v", s.ID, lag, now.Sub(since))
		}
		ref := now
		if !state.stood.IsZero() {
			ref = state.stood
		}
		if in && any && ref.Sub(since) > w.cfg.MaxLag+1 && w.cluster.monitor.everHad() {
			say("%s is in the view, but lacks what was committed %v ago", s.ID, ref.Sub(since))
		}
		if m := w.masters[0]; !state.stood.IsZero() && m.state == well && s.state == well &&
			min(now.Sub(m.since), now.Sub(s.since)) > patience {
			say("%s: lag stands still, though the master can be asked", s.ID)
		}
	}
}

// everHad tells whether the monitor knows a position of the master.
func (m *monitor) everHad() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.picture.positions
}

// use calls what the users of a cluster call, at random.
func (w *world) use(ctx context.Context) {
	for {
		w.mu.Lock()
		pause := w.between(0, 300*time.Millisecond)
		if w.rng.IntN(10) == 0 {
			pause = w.between(0, 2*w.cfg.MaxLag)
		}
		what, d := w.rng.IntN(6), w.between(0, 3*time.Second)
		w.mu.Unlock()
		if !sleep(ctx, pause) {
			return
		}
		switch what {
		case 0, 1:
			w.cluster.Used()
		case 2:
			w.cluster.Hurry()
		case 3:
			w.cluster.Want(d)
		case 4:
			_, _ = w.cluster.Position(ctx, w.masters[0].Server)
		case 5:
			_, _ = w.cluster.Position(ctx, w.slaves[0].Server)
		}
	}
}

// run lets the world turn for some time, and checks every view as well as the current one at random moments.
func (w *world) run(d time.Duration, faults bool, also func(*View)) {
	if faults && len(w.masters) == 1 && w.rng.IntN(4) == 0 { // a master that is away when it all begins
		for _, m := range w.masters {
			m.become([]state{dead, frozen, wrong}[w.rng.IntN(3)], time.Now(), w.between(0, 2*w.cfg.MaxLag))
		}
	}
	w.cluster.monitor.start()
	ctx, cancel := context.WithCancel(context.Background())
	var tasks sync.WaitGroup
	tasks.Go(func() { w.happen(ctx, faults) })
	tasks.Go(func() { w.use(ctx) })
	check := func(v *View) {
		w.check(v)
		if also != nil {
			also(v)
		}
	}
	tasks.Go(func() {
		for ctx.Err() == nil {
			v := w.cluster.View()
			check(v)
			select {
			case <-v.Changed:
			case <-ctx.Done():
			}
		}
	})
	for end := time.Now().Add(d); time.Now().Before(end); {
		w.mu.Lock()
		pause := w.between(0, 100*time.Millisecond)
		w.mu.Unlock()
		time.Sleep(pause)
		check(w.cluster.View())
	}
	cancel()
	tasks.Wait()
	_ = w.cluster.Close()
	time.Sleep(4 * w.cfg.MaxLag) // what is rude returns
	synctest.Wait()
}

func modelConfig(seed uint64) Monitoring {
	return Monitoring{Interval: time.Second, MinInterval: 10 * time.Millisecond,
		MaxLag: []time.Duration{3, 6, 20}[seed%3] * time.Second}
}

// TestModel holds monitors against worlds in which everything goes wrong that may.
func TestModel(t *testing.T) {
	runs := 50
	if testing.Short() {
		runs = 30
	}
	first := rand.Uint64N(1 << 40)
	var views, seen int
	// One bubble for all: the race detector never gets back the memory of one.
	synctest.Test(t, func(t *testing.T) {
		for seed := first; seed < first+uint64(runs) && !t.Failed(); seed++ {
			w := newWorld(seed, 1+int(seed/2%2), 1+int(seed%4), "", modelConfig(seed))
			w.run(time.Minute, true, nil)
			views, seen = views+w.views, seen+w.seen
			for _, v := range w.violations[:min(5, len(w.violations))] {
				t.Errorf("seed %d: %s", seed, v)
			}
		}
	})
	t.Logf("%d views, with %d slaves", views, seen)
	if seen < views/4 {
		t.Errorf("the views are nearly empty: nothing was tested")
	}
}

// TestModelControls has the same checks find monitors that do something wrong.
func TestModelControls(t *testing.T) {
	for _, wrong := range []string{"time of another reading", "unknown covers", "keeps the larger"} {
		t.Run(wrong, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				for seed := range uint64(60) {
					w := newWorld(seed, 1, 2, wrong, modelConfig(seed))
					w.run(time.Minute, true, nil)
					if len(w.violations) > 0 {
						return
					}
				}
				t.Error("was not found")
			})
		})
	}
}

// TestModelIsUseful has lag not be told much larger than it is, and slaves be in the view, while all is well.
func TestModelIsUseful(t *testing.T) {
	first := rand.Uint64N(1 << 40)
	synctest.Test(t, func(t *testing.T) {
		for seed := first; seed < first+20 && !t.Failed(); seed++ {
			cfg := modelConfig(2) // 20 s
			w := newWorld(seed, 1+int(seed%2), 3, "", cfg)
			start := time.Now()
			ctx, cancel := context.WithCancel(context.Background())
			go func() {
				for sleep(ctx, 5*time.Millisecond) {
					w.cluster.Used()
				}
			}()
			w.run(time.Minute, false, func(v *View) {
				now := time.Now()
				if now.Sub(start) < cfg.MaxLag {
					return
				}
				for i, s := range v.All {
					delay := w.slaves[i].delay + 80*time.Millisecond // two ticks of the world, and a question
					lag, known := s.Lag(now)
					if most := delay + delay/8 + 2*cfg.Interval; !known || lag > most || s.Reason != "" {
						t.Errorf("seed %d: lag %v (known: %v) at a delay of %v; %s", seed, lag, known, delay, s.Reason)
					}
				}
			})
			cancel()
			for _, v := range w.violations {
				t.Errorf("seed %d: %s", seed, v)
			}
		}
	})
}
