package cluster

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
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

func (s *modelServer) become(state state, now time.Time, d time.Duration) {
	s.state, s.since, s.until = state, now, now.Add(d)
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
