package cluster

import (
	"testing"
	"time"

	"github.com/gorm-replicated/replicated/internal/position"
)

// TestViewOfHistories has a slave be ahead of the master.
func TestViewOfHistories(t *testing.T) {
	play(t, []scene{
		{"a slave is ahead for a moment", func(t *testing.T, g *stage) {
			g.begin(t)
			g.slaves[1].is(at(9))
			g.rounds(1)
			g.expect(t, "the master was asked before it", "in 0s at log:1; in 0s at log:9")
			g.rounds(2)
			g.expect(t, "it was asked after it, too", "in 0s at log:1; in 0s at log:9")
			g.master.is(at(9))
			g.rounds(1)
			time.Sleep(aheadFor)
			g.rounds(2)
			g.expect(t, "the master has it", "in 1s at log:1; in 0s at log:9")
		}},
		{"a slave is always ahead by the latest commits", func(t *testing.T, g *stage) {
			g.begin(t)
			for n := uint64(10); n < 100; n++ { // each commit waits for another slave for two rounds
				g.master.is(at(n - 2))
				g.slaves[0].is(at(n - 2))
				g.slaves[1].is(at(n))
				time.Sleep(aheadFor / 4)
				g.rounds(1)
				if !g.slavesOf()[1].Fits() {
					t.Errorf("at %d: %s", n, g.shows())
					break
				}
			}
			if lacks := g.ahead(1); !lacks.Known() { // the control
				t.Error("the slave is not ahead: then this tests nothing")
			}
			g.master.is(at(90))
			g.slaves[0].is(at(90))
			time.Sleep(aheadFor)
			g.rounds(2)
			g.expect(t, "a commit gets stuck",
				"in 0s at log:90; down 0s (is of another history: it has log:99, which the master lacks)")
		}},
		{"a slave is of another history", func(t *testing.T, g *stage) {
			const stray = "; down 0s (is of another history: it has log:9, which the master lacks)"
			g.begin(t)
			g.slaves[1].is(at(9))
			g.rounds(2)
			time.Sleep(aheadFor)
			g.rounds(2)
			g.expect(t, "it goes on being ahead", "in 0s at log:1"+stray)
			g.master.is(at(20))
			g.slaves[0].is(at(20))
			g.rounds(2)
			g.expect(t, "the master comes further, soon", "in 0s at log:20; in 0s at log:9")
			g.master.is(at(21))
			g.slaves[0].is(at(21))
			g.slaves[1].is(at(30))
			g.rounds(2)
			for range 20 {
				time.Sleep(aheadFor)
				g.rounds(1)
			}
			g.master.is(at(40))
			g.slaves[0].is(at(40))
			g.rounds(2)
			const strayed = " (is of another history: it has log:30, which the master lacks)"
			g.expect(t, "the master comes further, after long", "in 0s at log:40; down 1s"+strayed)
			g.slaves[1].is(at(40))
			g.rounds(2)
			g.expect(t, "and so does it", "in 0s at log:40; down 0s"+strayed)
			g.slaves[1].is(at(29))
			g.rounds(2)
			g.slaves[1].is(at(40))
			g.rounds(2)
			g.expect(t, "it was built anew", "in 0s at log:40; in 0s at log:40")
		}},
		{"a slave of another history is built anew", func(t *testing.T, g *stage) {
			g.begin(t)
			g.slaves[1].is(at(9))
			for range 20 {
				time.Sleep(aheadFor)
				g.rounds(1)
			}
			g.master.is(at(20))
			g.slaves[0].is(at(20))
			g.slaves[1].isDead()
			g.rounds(4)
			g.slaves[1].is(at(20))
			time.Sleep(10 * time.Second)
			g.rounds(1)
			g.expect(t, "it is back", "in 0s at log:20; in 0s at log:20")
		}},
		{"a slave is ahead at the start", func(t *testing.T, g *stage) {
			g.slaves[1].is(at(9))
			g.begin(t)
			const unknown = " (it is not known whether the master has all that it has)"
			g.expect(t, "at once", "in 0s at log:1; out 0s at log:9"+unknown)
			g.master.is(at(10))
			g.rounds(2)
			g.expect(t, "the master had it", "in 0s at log:1; in 0s at log:9")
		}},
	})
}

// ahead returns what the masters lack that a slave has.
func (g *stage) ahead(slave int) position.Position {
	g.monitor.mu.Lock()
	defer g.monitor.mu.Unlock()
	return g.monitor.picture.slaves[slave].ahead.by
}

// TestWhatMastersTell: only what all masters have told as masters is held against a slave.
func TestWhatMastersTell(t *testing.T) {
	for _, test := range []struct {
		name   string
		change func(*master)
		tell   bool
	}{
		{"all is well", func(*master) {}, true},
		{"one missed a question", func(m *master) { m.failed = missed - 1 }, true},
		{"one does not answer", func(m *master) { m.failed = missed }, false},
		{"one has no position", func(m *master) { m.reading.Position = position.Position{} }, false},
		{"one answered with an error", func(m *master) { m.reading.Err = errDead }, false},
		{"one is none", func(m *master) { m.reading.WrongRole = true }, false},
	} {
		p := picture{masters: []*master{
			answering("a", position.Reading{Position: at(1)}), answering("b", position.Reading{Position: at(1)}),
		}}
		test.change(p.masters[1])
		readings, after := p.since(epoch.Add(-1))
		if (readings != nil) != test.tell || after != test.tell {
			t.Errorf("%s: %v, %v", test.name, readings, after)
		}
	}
}
