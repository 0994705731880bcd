package cluster

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gorm-replicated/replicated/internal/position"
)

// TestMasterWithoutPosition has a master answer once a second, with a position (p), without one (-), with an
// error (e), that it is none (w), or not at all (x). Do its positions still count then?
func TestMasterWithoutPosition(t *testing.T) {
	for _, test := range []struct {
		name, says        string
		positions, silent bool
	}{
		{"it has one", "p", true, false},
		{"it never had one", "-", false, true},
		{"for a moment it has none", "p---", true, true},
		{"for MaxLag it has none", "p-----", true, true},
		{"for longer it has none", "p------", false, true},
		{"it has one again", "p------p", true, false},
		{"it has one now and then", "p---p---", true, true},
		{"it does not answer", "pxxxxxxxx", true, true},
		{"it did not answer in between", "p---x---", true, true},
		{"it answers with errors", "peeeeeeee", true, true},
		{"an error in between", "p---e---", true, true},
		{"it is none", "pwwwwwwww", true, true},
		{"at first it answers with an error", "e", false, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			m := &master{watched: watched{server: &Server{}}}
			p := picture{maxLag: 4 * time.Second, masters: []*master{m}, ring: ring{maxLag: 4 * time.Second}}
			for i, c := range test.says {
				q := &question{began: epoch.Add(time.Duration(i) * time.Second)}
				switch c {
				case 'p':
					q.reading.Position = at(1)
				case 'e':
					q.reading.Err = errors.New("no")
				case 'w':
					q.reading.WrongRole = true
				case 'x':
					q.err = errDead
				}
				p.hearMaster(m, q)
			}
			if p.positions != test.positions || p.silent != test.silent {
				t.Errorf("positions %v, silent %v", p.positions, p.silent)
			}
			if forgotten := p.ring.last().IsZero(); forgotten == test.positions {
				t.Errorf("its history is forgotten: %v", forgotten)
			}
		})
	}
}

// TestLatest: it is the latest position that a master had, though it may not have one any longer.
func TestLatest(t *testing.T) {
	m := &master{watched: watched{server: &Server{}}}
	p := picture{maxLag: time.Minute, masters: []*master{m}}
	if m.server.Latest() != nil {
		t.Error("it has one before it was asked")
	}
	for _, reading := range []position.Reading{{Position: at(1)}, {Position: at(7)}, {Reason: "none"}} {
		p.hearMaster(m, &question{began: epoch, reading: reading})
	}
	if got := m.server.Latest(); got == nil || got.Position.String() != at(7).String() {
		t.Errorf("got %v", got)
	}
}

// TestCovered: one slave is up to date, of the other it depends whether it is waited for.
func TestCovered(t *testing.T) {
	now := epoch.Add(time.Hour)
	other := func(change func(*slave)) *slave {
		s := &slave{recovery: recovery{life: LifeServing}, freshAsOf: now.Add(-time.Second)}
		s.reading.Position = at(1)
		change(s)
		return s
	}
	for _, test := range []struct {
		name  string
		other *slave
		want  bool
	}{
		{"it has it", other(func(s *slave) { s.reading.Position = at(5) }), true},
		{"it has not", other(func(*slave) {}), false},
		{"it has not, and its lag is not known", other(func(s *slave) { s.freshAsOf = time.Time{} }), false},
		{"it is far behind", other(func(s *slave) { s.freshAsOf = now.Add(-hopeless) }), true},
		{"it is away", other(func(s *slave) { s.life = LifeAway }), true},
	} {
		p := picture{slaves: []*slave{other(func(s *slave) { s.reading.Position = at(5) }), test.other}}
		if got := p.covered(at(5), now); got != test.want {
			t.Errorf("%s: %v", test.name, got)
		}
	}
}

// TestCameBackAlone has slaves fail and come back.
func TestCameBackAlone(t *testing.T) {
	await := func(g *stage, slave int) {
		for !g.slavesOf()[slave].Fits() {
			time.Sleep(recheck)
		}
	}
	for _, test := range []struct {
		name string
		then func(*stage)
		want [2]bool
	}{
		{"nothing", func(*stage) {}, [2]bool{}},
		{"one fails, and is back", func(g *stage) {
			g.Failed(g.slavesOf()[0], errDead)
			await(g, 0)
		}, [2]bool{}},
		{"both fail, and one is back", func(g *stage) {
			g.slaves[1].isDead()
			g.Failed(g.slavesOf()[0], errDead)
			g.Failed(g.slavesOf()[1], errDead)
			await(g, 0)
		}, [2]bool{true, false}},
		{"the other follows soon", func(g *stage) {
			g.slaves[1].isDead()
			g.Failed(g.slavesOf()[0], errDead)
			g.Failed(g.slavesOf()[1], errDead)
			await(g, 0)
			g.slaves[1].is(at(1))
			await(g, 1)
		}, [2]bool{true, true}},
		{"the other follows when the first has all its reads", func(g *stage) {
			g.slaves[1].isDead()
			g.Failed(g.slavesOf()[0], errDead)
			g.Failed(g.slavesOf()[1], errDead)
			await(g, 0)
			time.Sleep(rampUp)
			g.slaves[1].is(at(1))
			await(g, 1)
		}, [2]bool{true, false}},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := newStage(t, 1, 2, stageConfig)
				g.begin(t)
				test.then(g)
				for i, s := range g.slavesOf() {
					if s.CameBackAlone() != test.want[i] {
						t.Errorf("slave %d: %v", i, s.CameBackAlone())
					}
				}
				g.end(t)
			})
		})
	}
}
