package cluster

import (
	"context"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// monitor watches the servers of a cluster, in rounds: at the time t0 the masters are asked for their position, then each
// slave for its own. A slave that covers what the masters had at t0 is fresh as of t0, otherwise as of the latest earlier
// time whose position it covers: see ring. That needs no clock but this process's, and an idle master makes nobody lag.
//
// One goroutine begins the rounds and publishes the views. Questions have goroutines of their own, which take in the
// answers: those that callers got from a master as well.
type monitor struct {
	cluster *Cluster
	cfg     Monitoring
	servers []*watched
	leaving []*watched     // have left, but reads still run there; guarded by mu, as servers is
	random  func() float64 // for jitter

	newAsker func(*Server) asker

	ctx    context.Context // ends with stop
	cancel context.CancelFunc
	tasks  sync.WaitGroup // the probes', and the closing of what has left
	ended  chan struct{}  // closed when the goroutine has ended
	woken  chan struct{}
	first  chan struct{} // closed when AwaitFirst may return, by the goroutine
	begun  sync.Once     // the goroutine

	used, hurried atomic.Bool // since the latest round began
	wanted        atomic.Pointer[want]

	mu      sync.Mutex
	picture picture
	began   time.Time   // the latest round
	shorten float64     // the pause after it, by jitter
	round   []*question // which it put to masters
	waiting int         // for how many of them it waits, before it asks the slaves
	handed  *question   // the latest of a master that a caller had the answer of, until the slaves cover it
	since   time.Time   // when the first such question began
	hurry   time.Time   // since when every round has been hurried; zero if the latest was not
	news    []func()    // to be told by the goroutine
	advance time.Time   // when a slave that is not far behind was last seen to have advanced
	heard   time.Time   // since when each slave has answered or failed to
	started bool        // the first round is over
	lacks   bool        // NoPositions was told
}

func newMonitor(c *Cluster, cfg Monitoring, newAsker func(*Server) asker) *monitor {
	m := &monitor{cluster: c, cfg: cfg, newAsker: newAsker, random: rand.Float64, ended: make(chan struct{}), woken: make(chan struct{}, 1), first: make(chan struct{})}
	m.ctx, m.cancel = context.WithCancel(context.Background())
	m.picture = picture{
		maxLag: cfg.MaxLag, patience: patience(cfg.Interval), blind: cfg.Blind, ring: ring{maxLag: cfg.MaxLag},
	}
	for _, s := range c.Masters {
		m.picture.masters = append(m.picture.masters, m.watch(s))
	}
	for _, s := range c.slaves {
		m.picture.slaves = append(m.picture.slaves, m.watch(s))
	}
	m.servers = slices.Concat(m.picture.masters, m.picture.slaves)
	return m
}

func (m *monitor) watch(s *Server) *watched {
	now := time.Now()
	w := &watched{server: s, begun: now, ahead: ahead{unproven: now}, told: true, answered: m.cfg.Blind}
	heard := m.hearMaster
	if s.Slave {
		heard = m.hearSlave
	}
	w.probe = &probe{asker: m.newAsker(s), heard: func(q *question) { heard(w, q) }, ctx: m.ctx, tasks: &m.tasks}
	return w
}

// setSlaves watches these slaves from now on, and no others.
func (m *monitor) setSlaves(slaves []*Server) {
	m.mu.Lock()
	defer m.mu.Unlock()
	before := m.picture.slaves
	m.picture.slaves = nil
	for _, s := range slaves {
		if i := slices.IndexFunc(before, func(w *watched) bool { return w.server == s }); i >= 0 {
			m.picture.slaves = append(m.picture.slaves, before[i])
			continue
		}
		w := m.watch(s)
		w.added = true
		m.picture.slaves = append(m.picture.slaves, w)
	}
	for _, w := range before {
		if !slices.Contains(m.picture.slaves, w) {
			m.leaving = append(m.leaving, w) // reads on it may want to know whether it is alive
			m.start()
		}
	}
	m.servers = slices.Concat(m.picture.masters, m.picture.slaves)
	m.hurried.Store(true)
	if m.ctx.Err() != nil {
		return
	}
	m.publish(time.Now())
	if len(slaves) > 0 && !m.cfg.Blind {
		m.start()
	}
	m.wake()
}

// start begins to watch. There is nothing to do without slaves, nor, if it is blind, until one fails.
func (m *monitor) start() {
	m.begun.Do(func() {
		select {
		case <-m.ctx.Done():
			close(m.ended)
		default:
			go m.run()
		}
	})
}

// stop ends the goroutine, and the questions under way by their context. It waits for them, but not for ever: what a driver
// that does not heed the context has not closed by then it closes when it returns.
func (m *monitor) stop() {
	m.mu.Lock() // who begins a task under it looks first
	m.cancel()
	m.mu.Unlock()
	m.begun.Do(func() { close(m.ended) })
	<-m.ended
	for _, w := range slices.Concat(m.servers, m.leaving) {
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
		m.begin(now)
	}
	for _, s := range m.picture.slaves {
		if s.down && !now.Before(s.askAt) {
			s.askAt = now.Add(questionTimeout + grace) // or when it has been heard
			s.probe.ask()
		}
	}
	m.leaving = slices.DeleteFunc(m.leaving, func(w *watched) bool {
		kept := 0
		if !m.cfg.Blind && !w.server.reopens() {
			kept = 1
		}
		if !w.server.unused(kept) {
			return false
		}
		w.probe.close()
		if !w.server.shared {
			m.tasks.Go(func() { _ = w.server.close() })
		}
		return true
	})
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
