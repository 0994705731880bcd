package cluster

import (
	"context"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// firstDelay is how long AwaitFirst waits for slaves that answer but are not in the view.
const firstDelay = 200 * time.Millisecond

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

// begin begins a round.
func (m *monitor) begin(now time.Time) {
	if m.began, m.shorten = now, 1-jitter*m.random(); !m.hurried.Load() {
		m.hurry = time.Time{}
	} else if m.hurry.IsZero() {
		m.hurry = now
	}
	m.used.Store(false)
	for _, w := range m.servers {
		w.server.marked.Store(false) // after m.used: who comes between the two is forgotten, the other way round all would be until the next round
	}
	m.hurried.Store(false)
	m.round = nil
	for _, master := range m.picture.masters {
		// Of one that did not answer the last time it is heard what it says, but it must not hold up the others.
		if q, begins := master.probe.join(false); begins && master.failed == 0 {
			m.round = append(m.round, q)
		}
	}
	if m.waiting = len(m.round); m.waiting == 0 {
		m.askSlaves()
	}
}

// askSlaves is the second half of a round.
func (m *monitor) askSlaves() {
	if len(m.picture.masters) > 1 {
		m.picture.learn(m.began, m.round...)
	}
	for _, s := range m.picture.slaves {
		if !s.down {
			s.probe.ask()
		}
	}
}

func (m *monitor) hearMaster(w *watched, q *question) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if w.failed > 0 && q.err == nil {
		m.hurried.Store(true) // it is back, and the round did not wait for it
	}
	m.picture.hearMaster(w, q)
	if q.err == nil {
		for _, s := range m.picture.slaves {
			m.picture.compare(s, time.Now())
		}
	}
	if slices.Contains(m.round, q) {
		if m.waiting--; m.waiting == 0 {
			m.askSlaves()
		}
	}
	if q.called && q.reading.Position.Known() && !m.picture.covered(q.reading.Position, q.began) {
		if m.handed == nil {
			m.since = q.began // which is worth a round at once: see due
		}
		m.handed = q
	}
	m.wake()
}

func (m *monitor) hearSlave(w *watched, q *question) {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := time.Now()
	if m.picture.hearSlave(w, q, now, m.random()) && now.Sub(w.freshAsOf) < hopeless {
		m.advance = now
	}
	if !w.down {
		w.server.refused.Store(false)
	}
	if m.handed != nil && m.picture.covered(m.handed.reading.Position, now) {
		m.handed = nil
	}
	if q.err == nil && w.down && w.good == 1 {
		m.tasks.Go(w.server.DropIdle) // also those that have come to be idle since
	}
	if q.err == nil {
		w.server.writable.Store(q.reading.Writable)
		m.picture.compare(w, now)
	}
	m.wake()
}

// publish gives the cluster a view as of now, if that differs from the one it has, and notes what there is to tell of it.
func (m *monitor) publish(now time.Time) {
	old := m.cluster.View()
	states := make([]State, len(m.picture.slaves))
	changed, recovering := len(states) != len(old.All), false
	for i, s := range m.picture.slaves {
		var fits bool
		states[i], fits = m.picture.state(s, now)
		changed = changed || old.All[i].Server != s.server || fits != s.fits || !states[i].same(old.All[i])
		s.fits = fits
		gone := s.down && s.founded && !spoke(s.err)
		if gone && !s.gone {
			s.server.downs.Add(1)
		}
		if s.down && !s.left {
			m.tasks.Go(s.server.DropIdle)
		}
		s.left, s.gone = s.down, gone
		s.server.returned.Store(s.returned.UnixNano())
		s.server.alone.Store(s.alone)
		recovering = recovering || fits && now.Sub(s.returned) < rampUp
	}
	masters := make([]State, len(m.picture.masters))
	for i, w := range m.picture.masters {
		masters[i] = w.masterState()
		changed = changed || i >= len(old.Masters) || !masters[i].same(old.Masters[i])
	}
	if changed || recovering != old.Recovering {
		v := newView(states, func(i int) bool { return m.picture.slaves[i].fits })
		v.Masters, v.Recovering = masters, recovering
		m.cluster.publish(v)
	}
	m.look(now)
	if !m.firstIsOver(now) {
		return
	}
	if w := m.picture.lacking(); w != nil && !m.lacks {
		m.lacks = true
		if reading := w.reading; m.cfg.NoPositions != nil {
			m.news = append(m.news, func() { m.cfg.NoPositions(w.server, reading.Reason, reading.Remedy) })
		}
	}
	tell := func(w *watched, in bool, state State) {
		if in != w.told && m.cfg.Notice != nil {
			m.news = append(m.news, func() { m.cfg.Notice(w.server, in, state.Reason, state.Remedy) })
		}
		w.told = in
	}
	for i, w := range m.picture.masters {
		tell(w, masters[i].Up, masters[i])
	}
	for i, s := range m.picture.slaves {
		if s.added {
			if !s.fits && !s.down {
				continue // it has not had the time to answer
			}
			s.added, s.told = false, !s.fits
		}
		tell(s, s.fits, states[i])
		if !s.writes && s.server.Writable() && m.cfg.Writable != nil {
			s.writes = true
			m.news = append(m.news, func() { m.cfg.Writable(s.server) })
		}
	}
}

// firstIsOver tells whether the first round is over.
func (m *monitor) firstIsOver(now time.Time) bool {
	if m.started {
		return true
	}
	waits := false
	for _, s := range m.picture.slaves {
		if !s.answered && s.failed == 0 {
			return false
		}
		waits = waits || s.isUp() && !s.fits
	}
	if m.heard.IsZero() {
		m.heard = now
	}
	if waits && now.Sub(m.heard) < firstDelay {
		return false
	}
	m.started = true
	return true
}

// endFirst has AwaitFirst return.
func (m *monitor) endFirst() {
	select {
	case <-m.first:
	default:
		close(m.first)
	}
}

// next returns when there is something to do if nothing happens.
func (m *monitor) next(now time.Time) time.Time {
	next := now.Add(m.cfg.MaxLag)
	sooner := func(t time.Time) {
		if t.Before(next) {
			next = t
		}
	}
	if m.waiting == 0 {
		sooner(m.due(now))
	}
	if len(m.leaving) > 0 {
		sooner(now.Add(time.Second))
	}
	for _, s := range m.picture.slaves {
		if s.down {
			sooner(s.askAt)
		}
		if end := s.returned.Add(rampUp); s.fits && now.Before(end) {
			sooner(end)
		}
		if end := s.begun.Add(m.cfg.MaxLag); !m.picture.positions && now.Before(end) {
			sooner(end) // then it may enter
		}
		if s.fits && m.picture.positions && s.stood.IsZero() {
			sooner(s.freshAsOf.Add(m.cfg.MaxLag + 1)) // then it leaves the view
		}
	}
	if !m.heard.IsZero() && now.Before(m.heard.Add(firstDelay)) {
		sooner(m.heard.Add(firstDelay))
	}
	return next
}
