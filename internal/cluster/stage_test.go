package cluster

import (
	"context"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gorm-replicated/replicated/internal/position"
)

// stage is a cluster of servers that follow scripts, all of them at position 1 at first. Without jitter.
type stage struct {
	*Cluster
	master  *script // the first
	masters []*script
	slaves  []*script
	notices []string
}

var stageConfig = Monitoring{Interval: time.Second, MinInterval: 10 * time.Millisecond, MaxLag: time.Minute}

func newStage(t *testing.T, masters, slaves int, cfg Monitoring) *stage {
	t.Helper()
	g := &stage{}
	scripts := map[*Server]asker{}
	make := func(n int, slave bool) (servers []*Server, all []*script) {
		for i := range n {
			s := &Server{ID: "master-" + string(rune('0'+i)), Slave: slave}
			if slave {
				s.ID = "slave-" + string(rune('0'+i))
			}
			x := &script{}
			x.is(at(1))
			scripts[s], servers, all = x, append(servers, s), append(all, x)
		}
		return servers, all
	}
	ms, mscripts := make(masters, false)
	ss, sscripts := make(slaves, true)
	g.master, g.masters, g.slaves = mscripts[0], mscripts, sscripts
	g.Cluster = New(ms, ss)
	cfg.Notice = func(s *Server, in bool, reason, _ string) {
		if in {
			reason = "in"
		}
		g.notices = append(g.notices, s.ID+": "+reason)
	}
	g.monitor = newMonitor(g.Cluster, cfg, func(s *Server) asker { return scripts[s] })
	g.monitor.random = func() float64 { return 0 }
	return g
}

// begin starts the monitor, waits for the first round, and forgets who was asked when.
func (g *stage) begin(t *testing.T) {
	t.Helper()
	g.monitor.start()
	g.AwaitFirst(t.Context())
	time.Sleep(0)
	synctest.Wait()
	for _, s := range slices.Concat(g.masters, g.slaves) {
		s.since(time.Now())
	}
}

func (g *stage) end(t *testing.T) {
	t.Helper()
	if err := g.Close(); err != nil {
		t.Error(err)
	}
}

// began returns when the latest round began.
func (g *stage) began() time.Time {
	g.monitor.mu.Lock()
	defer g.monitor.mu.Unlock()
	return g.monitor.began
}

func (g *stage) used() { g.Used() }

// write asks for a position, as a request does that wrote.
func (g *stage) write() { _, _ = g.Position(context.Background(), g.Masters[0]) }

// script answers as a test says, and remembers when it was asked.
type script struct {
	mu     sync.Mutex
	answer func(ctx context.Context) (position.Reading, error)
	asked  []time.Time
	atOnce int // questions under way
	closed bool
}

func (s *script) ask(ctx context.Context) (position.Reading, error) {
	s.mu.Lock()
	s.asked = append(s.asked, time.Now())
	answer := s.answer
	if s.atOnce++; s.atOnce > 1 {
		panic("two questions at once")
	}
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		s.atOnce--
		s.mu.Unlock()
	}()
	return answer(ctx)
}

func (s *script) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || s.atOnce > 0 {
		panic("closed at a wrong time")
	}
	s.closed = true
}

// says has the server say this from now on.
func (s *script) says(answer func(ctx context.Context) (position.Reading, error)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answer = answer
}

func (s *script) is(p position.Position) {
	s.says(func(context.Context) (position.Reading, error) { return position.Reading{Position: p}, nil })
}

func (s *script) answers(reading position.Reading) {
	s.says(func(context.Context) (position.Reading, error) { return reading, nil })
}

func (s *script) lacks(reason string) {
	s.says(func(context.Context) (position.Reading, error) { return position.Reading{Reason: reason}, nil })
}

func (s *script) isDead() {
	s.says(func(context.Context) (position.Reading, error) { return position.Reading{}, errDead })
}

func (s *script) freezes() {
	s.says(func(ctx context.Context) (position.Reading, error) {
		<-ctx.Done()
		return position.Reading{}, ctx.Err()
	})
}

// since returns how long after start it was asked, and forgets it.
func (s *script) since(start time.Time) (times []time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, at := range s.asked {
		times = append(times, at.Sub(start))
	}
	s.asked = nil
	return times
}

func (g *stage) slavesOf() []*Server { return g.Cluster.slaves }

// slow has a server take that long for an answer, which is a larger position each time.
func (s *script) slow(d time.Duration) {
	n := uint64(1)
	s.says(func(ctx context.Context) (position.Reading, error) {
		n++
		now := n // as of the beginning
		time.Sleep(d)
		return position.Reading{Position: at(now)}, ctx.Err()
	})
}

// hangsUntil has a server answer nothing until stuck is closed, whatever becomes of the context.
func (s *script) hangsUntil(stuck chan struct{}) {
	s.says(func(context.Context) (position.Reading, error) {
		<-stuck
		return position.Reading{}, errDead
	})
}

// rounds lets n rounds go by, MinInterval apart.
func (g *stage) rounds(n int) {
	for range n {
		before := g.began()
		g.Hurry()
		for g.began() == before { // in vain, it hurries less and less
			time.Sleep(stageConfig.MinInterval)
			synctest.Wait()
		}
	}
}

// shows returns the view in a few words: of each slave whether it is up and in the view, its lag, and the
// reason.
func (g *stage) shows() string {
	synctest.Wait()
	var all []string
	v := g.View()
	for _, s := range v.All {
		text := "down"
		switch {
		case slices.Contains(v.Slaves, s.Server):
			text = "in"
		case s.Up:
			text = "out"
		}
		if s.Server.Fits() != slices.Contains(v.Slaves, s.Server) {
			text += " but the flag differs"
		}
		if lag, known := s.Lag(time.Now()); known {
			text += " " + lag.String()
		}
		if s.Position.Known() {
			text += " at " + s.Position.String()
		}
		if s.Reason != "" {
			text += " (" + s.Reason + ")"
		}
		all = append(all, text)
	}
	return seconds.ReplaceAllStringFunc(strings.Join(all, "; "), func(s string) string {
		d, _ := time.ParseDuration(s)
		return d.Truncate(time.Second).String()
	})
}

// seconds finds durations, of which the tests look at whole seconds.
var seconds = regexp.MustCompile(`\b[\d.hm]+[mµn]?s\b`)

func (g *stage) expect(t *testing.T, when, want string) {
	t.Helper()
	if got := g.shows(); got != want {
		t.Errorf("%s:\n got %s\nwant %s", when, got, want)
	}
}

// remembered returns the time of the ring's newest entry.
func (g *stage) remembered() time.Time {
	g.monitor.mu.Lock()
	defer g.monitor.mu.Unlock()
	return g.monitor.picture.ring.last()
}

func (s *script) isWrong() {
	s.says(func(context.Context) (position.Reading, error) {
		return position.Reading{WrongRole: true, Reason: "another role", Remedy: "another server"}, nil
	})
}

func (s *script) needs(remedy string) {
	s.says(func(context.Context) (position.Reading, error) {
		return position.Reading{Reason: "no position", Remedy: remedy}, nil
	})
}
