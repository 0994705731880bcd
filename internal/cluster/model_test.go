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

	"github.com/gorm-replicated/replicated/internal/position"
)

// world is a group of servers of which it is known what each has and when it was committed, so that what a
// monitor says of them can be held against the truth. It is used in a synctest bubble.
type world struct {
	cfg     Monitoring
	cluster *Cluster
	wrong   string // what the monitor is made to do wrong, for controls

	mu         sync.Mutex
	rng        *rand.Rand
	masters    []*modelMaster
	slaves     []*modelSlave
	violations []string
	began      time.Time
	lacked     bool // a master has said that it has no position
	views      int
	seen       int // slaves in views
}

// modelServer is what can happen to a server.
type modelServer struct {
	*Server
	state state
	since time.Time // the state
	until time.Time // then it is well again

	// Something has happened to its data that nobody can know before it was asked again.
	surprises int
	surprised bool
	known     time.Time
}

type state int

const (
	well state = iota
	dead
	frozen  // answers when its state ends, or when the context ends
	rude    // the same, but heeds no context
	wrong   // says that it is not what it should be
	unknown // has no position
)

type modelMaster struct {
	modelServer
	commits []time.Time
	epoch   int
	forks   []int // forks[e] is how many commits epoch e shares with the one before
	past    []entry
}

type modelSlave struct {
	modelServer
	epoch   []int // of each master
	has     []int // how many of its commits
	delay   time.Duration
	stopped time.Time // until then it replays nothing
	largest position.Position
}

func newWorld(seed uint64, masters, slaves int, wrong string, cfg Monitoring) *world {
	now := time.Now()
	w := &world{cfg: cfg, wrong: wrong, rng: rand.New(rand.NewPCG(seed, 0)), began: now}
	var ms, ss []*Server
	for i := range masters {
		s := &Server{ID: fmt.Sprintf("master-%d", i)}
		m := &modelMaster{modelServer: modelServer{Server: s}, forks: []int{0}}
		for range 3 { // before anybody watched
			m.commits = append(m.commits, now.Add(-time.Second))
		}
		w.masters, ms = append(w.masters, m), append(ms, s)
	}
	for i := range slaves {
		s := &Server{ID: fmt.Sprintf("slave-%d", i), Slave: true}
		slave := &modelSlave{modelServer: modelServer{Server: s}, epoch: make([]int, masters),
			has: make([]int, masters), delay: w.randomDelay()}
		for i := range slave.has {
			slave.has[i] = 1
		}
		w.slaves, ss = append(w.slaves, slave), append(ss, s)
	}
	w.cluster = New(ms, ss)
	w.cluster.monitor = newMonitor(w.cluster, cfg, func(s *Server) asker { return modelAsker{w, s} })
	return w
}

func (w *world) randomDelay() time.Duration {
	return time.Millisecond << w.rng.IntN(12) * time.Duration(1+w.rng.IntN(4)) // up to 8 s
}

// between returns a random duration.
func (w *world) between(a, b time.Duration) time.Duration {
	return a + time.Duration(w.rng.Int64N(int64(b-a)))
}

// position returns that of somebody who has so many commits of each master's epoch.
func (w *world) position(epoch, has []int) position.Position {
	if len(has) == 1 {
		return position.Sequence(fmt.Sprintf("epoch %d", epoch[0]), uint64(has[0]))
	}
	var list []string
	for i, n := range has {
		list = append(list, fmt.Sprintf("%d-1-%d", i+1, n))
	}
	p, err := position.ParseMariaDB(strings.Join(list, ","))
	if err != nil {
		panic(err)
	}
	return p
}

// missing returns when the first commit was made that a slave does not have.
func (w *world) missing(s *modelSlave) (since time.Time, any bool) {
	for i, m := range w.masters {
		has := s.has[i]
		for _, fork := range m.forks[s.epoch[i]+1:] {
			has = min(has, fork)
		}
		if has < len(m.commits) && (!any || m.commits[has].Before(since)) {
			since, any = m.commits[has], true
		}
	}
	return since, any
}

// surprise notes that nobody can know yet what has happened.
func (s *modelServer) surprise() { s.surprised, s.known = true, time.Time{}; s.surprises++ }

// isSurprising tells whether that goes on: until the time after an answer has come back.
func (s *modelServer) isSurprising(now time.Time) bool {
	return s.surprised && (s.known.IsZero() || !now.After(s.known))
}

// happen lets things happen at random, with faults or without, until the context ends.
func (w *world) happen(ctx context.Context, faults bool) {
	for {
		w.mu.Lock()
		now := time.Now()
		for _, m := range w.masters {
			if m.state != dead && m.state != frozen && w.rng.IntN(2) == 0 {
				m.commits = append(m.commits, now)
			}
			if faults && len(w.masters) == 1 {
				w.harmMaster(m, now)
			}
		}
		for _, s := range w.slaves {
			if faults {
				w.harmSlave(s, now)
			}
			w.replay(s, now)
		}
		pause := w.between(time.Millisecond, 40*time.Millisecond)
		w.mu.Unlock()
		if !sleep(ctx, pause) {
			return
		}
	}
}

// sleep tells whether the context did not end first.
func sleep(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}

func (s *modelServer) become(state state, now time.Time, d time.Duration) {
	s.state, s.since, s.until = state, now, now.Add(d)
}

func (w *world) harmMaster(m *modelMaster, now time.Time) {
	if now.After(m.until) && m.state != well {
		m.become(well, now, 0)
	}
	if w.rng.IntN(500) != 0 {
		return
	}
	switch what := w.rng.IntN(7); what {
	default:
		if m.state == well {
			// Not without a position for so long that it would count as one that has none.
			m.become(dead+state(what), now, w.between(0, w.cfg.MaxLag*3/4))
		}
	case 5: // it crashes and loses what no slave has
		n := 1
		for _, s := range w.slaves {
			n = max(n, s.has[0])
		}
		if n < len(m.commits) {
			m.commits = m.commits[:n]
		}
	case 6: // another server takes over, which has some history of its own
		n := 1 + w.rng.IntN(len(m.commits))
		last := m.commits[n-1]
		m.commits = slices.Clone(m.commits[:n])
		for range w.rng.IntN(3) {
			m.commits = append(m.commits, last.Add(time.Duration(w.rng.Int64N(int64(now.Sub(last))+1))))
		}
		slices.SortFunc(m.commits, time.Time.Compare)
		m.epoch++
		m.forks = append(m.forks, n)
		m.surprise()
	}
}

func (w *world) harmSlave(s *modelSlave, now time.Time) {
	if now.After(s.until) && s.state != well {
		s.become(well, now, 0)
	}
	if w.rng.IntN(40) == 0 {
		s.delay = w.randomDelay()
	}
	if w.rng.IntN(300) != 0 {
		return
	}
	switch d := w.between(0, 2*w.cfg.MaxLag); w.rng.IntN(7) {
	case 0, 1:
		s.stopped = now.Add(d)
	case 2: // it crashes and loses what it had replayed
		for i := range s.has {
			s.has[i] = max(1, s.has[i]-w.rng.IntN(200))
		}
		s.stopped = now.Add(d)
		s.surprise()
	default:
		if s.state == well {
			s.become(dead+state(w.rng.IntN(int(unknown))), now, d)
		}
	}
}

// replay brings a slave to where it should be.
func (w *world) replay(s *modelSlave, now time.Time) {
	if now.Before(s.stopped) {
		return
	}
	for i, m := range w.masters {
		if s.epoch[i] != m.epoch {
			if w.rng.IntN(20) == 0 { // it follows the new master from now on
				for _, fork := range m.forks[s.epoch[i]+1:] {
					s.has[i] = min(s.has[i], fork)
				}
				s.epoch[i] = m.epoch
			}
			continue
		}
		for s.has[i] < len(m.commits) && now.Sub(m.commits[s.has[i]]) >= s.delay {
			s.has[i]++
		}
	}
}

// modelAsker asks a server of the world.
type modelAsker struct {
	w *world
	s *Server
}

func (modelAsker) close() {}

var errDead error = syscall.ECONNREFUSED

func (a modelAsker) ask(ctx context.Context) (position.Reading, error) {
	w := a.w
	w.mu.Lock()
	there, back := w.between(0, 3*time.Millisecond), w.between(0, 3*time.Millisecond)
	began := time.Now()
	w.mu.Unlock()
	time.Sleep(there)

	w.mu.Lock()
	server, read := w.find(a.s, began)
	state, wait := server.state, time.Until(server.until)
	reading, n := read(), server.surprises
	w.mu.Unlock()
	switch state {
	case dead:
		return position.Reading{}, errDead
	case frozen:
		if !sleep(ctx, wait) {
			return position.Reading{}, ctx.Err()
		}
	case rude:
		time.Sleep(wait)
		if ctx.Err() != nil {
			return position.Reading{}, ctx.Err()
		}
	case wrong:
		reading = position.Reading{WrongRole: true, Reason: "another role"}
	case unknown:
		if w.wrong != "unknown covers" {
			reading = position.Reading{Reason: "no position"}
		}
	}
	time.Sleep(back)
	w.mu.Lock()
	w.lacked = w.lacked || state == unknown && !server.Slave
	defer w.mu.Unlock()
	if server.surprises == n && (server.Slave || reading.Position.Known()) {
		server.known = time.Now()
	}
	return reading, nil
}

// find returns a server, and what reads its position.
func (w *world) find(s *Server, began time.Time) (*modelServer, func() position.Reading) {
	for i, m := range w.masters {
		if m.Server != s {
			continue
		}
		return &m.modelServer, func() position.Reading {
			epoch, has := make([]int, len(w.masters)), make([]int, len(w.masters))
			epoch[i], has[i] = m.epoch, len(m.commits)
			p := w.position(epoch, has)
			m.past = append(m.past, entry{time.Now(), p})
			if w.wrong == "time of another reading" { // the position is older than the time that it is remembered with
				for len(m.past) > 1 && began.Sub(m.past[0].at) > 20*time.Millisecond && !m.past[1].at.After(began) {
					m.past = m.past[1:]
				}
				p = m.past[0].position
			}
			return position.Reading{Position: p}
		}
	}
	i := slices.IndexFunc(w.slaves, func(slave *modelSlave) bool { return slave.Server == s })
	slave := w.slaves[i]
	return &slave.modelServer, func() position.Reading {
		p := w.position(slave.epoch, slave.has)
		switch {
		case w.wrong == "unknown covers" && slave.state == unknown:
			m := w.masters[0]
			p = w.position([]int{m.epoch}, []int{len(m.commits)})
		case w.wrong == "keeps the larger" && slave.largest.Covers(p):
			p = slave.largest
		}
		slave.largest = p
		return position.Reading{Position: p}
	}
}

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
