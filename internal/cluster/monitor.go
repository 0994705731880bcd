package cluster

import (
	"context"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// monitor watches the servers of a cluster, in rounds: at the time t0 the masters are asked for their
// position, then each slave for its own. A slave that covers what the masters had at t0 is fresh as of t0,
// otherwise as of the latest earlier time whose position it covers: see ring. That needs no clock but this
// process's, and an idle master makes nobody lag.
//
// One goroutine begins the rounds and publishes the views. Questions have goroutines of their own, which take
// in the answers: those that callers got from a master as well.
type monitor struct {
	// Never changed:
	cluster  *Cluster
	cfg      Monitoring
	random   func() float64 // for jitter
	newAsker func(*Server) asker
	ctx      context.Context // ends with stop
	cancel   context.CancelFunc
	woken    chan struct{}
	first    chan struct{} // closed when AwaitFirst may return, by the goroutine
	ended    chan struct{} // closed when the goroutine has ended

	starting sync.Once      // the goroutine
	tasks    sync.WaitGroup // the probes', and the closing of what has left

	used, hurried atomic.Bool // since the latest round began
	wanted        atomic.Pointer[want]

	mu           sync.Mutex // the fields below
	picture      picture
	servers      []*watched  // all of the picture's
	leaving      []*slave    // they have left, but reads still run there
	began        time.Time   // the latest round
	shorten      float64     // the pause after it, by jitter
	round        []*question // which it put to masters
	waiting      int         // for how many of them it waits, before it asks the slaves
	handed       *question   // the latest that brought a caller a master's position which not all slaves cover
	handedSince  time.Time   // when the first such question began
	hurriedSince time.Time   // since when every round has been hurried; zero if the latest was not
	advanced     time.Time   // when a slave that is not far behind was last seen to have advanced
	allHeard     time.Time   // since when each slave has answered or failed to
	started      bool        // the first round is over
	lacks        bool        // NoPositions was told
	news         []func()    // to be told by the goroutine
}

func newMonitor(c *Cluster, cfg Monitoring, newAsker func(*Server) asker) *monitor {
	m := &monitor{
		cluster: c, cfg: cfg, newAsker: newAsker, random: rand.Float64,
		ended: make(chan struct{}), woken: make(chan struct{}, 1), first: make(chan struct{}),
	}
	m.ctx, m.cancel = context.WithCancel(context.Background())
	m.picture = picture{
		maxLag: cfg.MaxLag, patience: patience(cfg.Interval), blind: cfg.Blind, ring: ring{maxLag: cfg.MaxLag},
	}
	for _, s := range c.Masters {
		m.picture.masters = append(m.picture.masters, m.watchMaster(s))
	}
	for _, s := range c.slaves {
		m.picture.slaves = append(m.picture.slaves, m.watchSlave(s))
	}
	m.servers = m.picture.servers()
	return m
}

func (m *monitor) watchMaster(s *Server) *master {
	w := &master{watched: watched{server: s}, told: true}
	w.probe = m.newProbe(s, func(q *question) { m.hearMaster(w, q) })
	return w
}

func (m *monitor) watchSlave(s *Server) *slave {
	now := time.Now()
	w := &slave{watched: watched{server: s}, begun: now, ahead: ahead{unproven: now}, told: told{in: true}}
	if m.cfg.Blind {
		w.life = LifeServing
	}
	w.probe = m.newProbe(s, func(q *question) { m.hearSlave(w, q) })
	return w
}

func (m *monitor) newProbe(s *Server, heard func(*question)) *probe {
	return &probe{asker: m.newAsker(s), heard: heard, ctx: m.ctx, tasks: &m.tasks}
}

// setSlaves watches these slaves from now on, and no others.
func (m *monitor) setSlaves(slaves []*Server) {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := time.Now()
	before := m.picture.slaves
	m.picture.slaves = nil
	for _, s := range slaves {
		w := find(before, s)
		if w == nil {
			w = m.watchSlave(s)
			w.told.added = true
		}
		m.picture.slaves = append(m.picture.slaves, w)
	}
	for _, w := range before {
		if !slices.Contains(m.picture.slaves, w) {
			w.happens(wasRemoved, now, 0)
			m.leaving = append(m.leaving, w) // reads on it may want to know whether it is alive
			m.start()
		}
	}
	m.servers = m.picture.servers()
	m.hurried.Store(true)
	if m.ctx.Err() != nil {
		return
	}
	m.publish(now)
	if len(slaves) > 0 && !m.cfg.Blind {
		m.start()
	}
	m.wake()
}

// start begins to watch. There is nothing to do without slaves, nor, if it is blind, until one fails.
func (m *monitor) start() {
	m.starting.Do(func() {
		select {
		case <-m.ctx.Done():
			close(m.ended)
		default:
			go m.run()
		}
	})
}

// stop ends the goroutine, and the questions under way by their context. It waits for them, but not for ever:
// what a driver that does not heed the context has not closed by then it closes when it returns.
func (m *monitor) stop() {
	m.mu.Lock() // whoever begins a task holds it, and looks first whether ctx has ended
	m.cancel()
	m.mu.Unlock()
	m.starting.Do(func() { close(m.ended) })
	<-m.ended
	for _, w := range m.servers {
		w.probe.close()
	}
	for _, w := range m.leaving {
		w.probe.close()
	}
	closed := make(chan struct{})
	go func() {
		m.tasks.Wait()
		close(closed)
	}()
	select {
	case <-closed:
	case <-time.After(grace):
	}
}

func (m *monitor) run() {
	defer close(m.ended)
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-m.ctx.Done():
			return
		case <-m.woken:
		case <-timer.C:
		}
		timer.Reset(m.step())
	}
}

// wake has the goroutine see what there is to do.
func (m *monitor) wake() {
	select {
	case m.woken <- struct{}{}:
	default: // it will
	}
}

// step does what there is to do, and returns how long there will be nothing unless something happens.
func (m *monitor) step() time.Duration {
	m.mu.Lock()
	now := time.Now()
	if m.waiting == 0 && !now.Before(m.due(now)) {
		m.beginRound(now)
	}
	for _, s := range m.picture.slaves {
		if s.life.out() && !now.Before(s.askAt) {
			s.askAt = now.Add(questionTimeout + grace) // or when it has been heard
			s.probe.ask()
		}
	}
	m.leaving = slices.DeleteFunc(m.leaving, m.letGo)
	m.publish(now)
	news := m.news
	m.news = nil
	pause := m.next(now).Sub(now)
	started := m.started
	m.mu.Unlock()
	for _, tell := range news {
		tell()
	}
	if started {
		m.endFirst() // after the news: whoever waits for the first round finds in the log what it showed
	}
	return pause
}

// letGo lets go of a slave that has left as soon as no read runs there any longer, and tells whether it did.
func (m *monitor) letGo(s *slave) bool {
	kept := 0
	if !m.cfg.Blind && !s.server.reopens() {
		kept = 1
	}
	if !s.server.unused(kept) {
		return false
	}
	s.probe.close()
	if !s.server.shared {
		m.tasks.Go(func() { _ = s.server.close() })
	}
	return true
}
