package cluster

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gorm-replicated/replicated/internal/position"
)

func TestUnwatched(t *testing.T) {
	g := newStage(t, 1, 1, stageConfig)
	g.monitor = nil
	g.AwaitFirst(t.Context())
	g.Used()
	g.Hurry()
	g.Want(0)
	v := g.View()
	if s := g.slavesOf()[0]; len(v.Slaves) != 1 || len(v.Pools) != 1 || len(v.All) != 1 || !v.All[0].Up ||
		!s.Fits() || v.All[0].Position.Known() {
		t.Errorf("%+v", v)
	}
	if _, known := v.All[0].Lag(time.Now()); known {
		t.Error("there is a lag")
	}
	if r, err := g.Position(t.Context(), g.Masters[0]); err != nil || r.Reason != "not watched" {
		t.Errorf("got %v, %v", r, err)
	}
	if err := g.Close(); err != nil || len(g.View().Slaves) > 0 {
		t.Errorf("Close: %v, %+v", err, g.View())
	}
}

// scene is what happens to a master and two slaves, and what the view shows of it.
type scene struct {
	name  string
	steps func(*testing.T, *stage)
}

func play(t *testing.T, scenes []scene) {
	for _, scene := range scenes {
		t.Run(scene.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := newStage(t, 1, 2, stageConfig)
				scene.steps(t, g)
				g.end(t)
			})
		})
	}
}

// TestViewOfSlaves has something happen to slaves.
func TestViewOfSlaves(t *testing.T) {
	play(t, []scene{
		{"all is well", func(t *testing.T, g *stage) {
			g.begin(t)
			g.expect(t, "at once", "in 0s at log:1; in 0s at log:1")
			time.Sleep(10 * time.Second)
			g.expect(t, "later", "in 10s at log:1; in 10s at log:1")
			time.Sleep(5 * time.Second)
			g.expect(t, "after a round", "in 0s at log:1; in 0s at log:1")
		}},
		{"a slave is behind", func(t *testing.T, g *stage) {
			g.begin(t)
			g.master.is(at(2))
			g.slaves[0].is(at(2))
			g.rounds(1)
			g.expect(t, "a bit", "in 0s at log:2; in 0s at log:1")
			time.Sleep(time.Minute)
			g.rounds(1)
			g.expect(t, "too far", "in 0s at log:2; out 1m0s at log:1 (behind by more than 1m0s)")
			g.slaves[1].is(at(2))
			g.rounds(1)
			g.expect(t, "and again", "in 0s at log:2; in 0s at log:2")
		}},
		{"a slave falls back", func(t *testing.T, g *stage) {
			g.begin(t)
			g.master.is(at(2))
			g.slaves[0].is(at(2))
			g.slaves[1].is(at(2))
			g.rounds(2)
			g.slaves[1].is(position.Sequence("log", 1))
			g.rounds(1)
			g.expect(t, "at once", "in 0s at log:2; in 0s at log:1")
		}},
		{"a slave dies", func(t *testing.T, g *stage) {
			g.begin(t)
			g.slaves[1].isDead()
			g.rounds(2)
			g.expect(t, "two questions", "in 0s at log:1; in 0s at log:1")
			g.rounds(1)
			g.expect(t, "three", "in 0s at log:1; down 0s (does not answer: connection refused)")
			g.slaves[1].is(at(1))
			time.Sleep(recheck)
			g.expect(t, "it answers",
				"in 0s at log:1; down 0s (failed, and has to answer for a while before it is read: connection refused)")
			time.Sleep((leastAnswers - 1) * recheck)
			g.rounds(1)
			g.expect(t, "and comes back", "in 0s at log:1; in 0s at log:1")
		}},
		{"a slave is promoted", func(t *testing.T, g *stage) {
			g.begin(t)
			g.slaves[0].isWrong()
			g.rounds(1)
			g.expect(t, "at once", "down (not a slave: another role); in 0s at log:1")
		}},
		{"a slave's address leads to the master", func(t *testing.T, g *stage) {
			g.begin(t)
			g.master.answers(position.Reading{Position: at(1), Identity: "m"})
			g.slaves[0].answers(position.Reading{Position: at(1), Identity: "m"})
			g.rounds(1)
			g.expect(t, "at once", "down 0s (is the master: the same server as master-0); in 0s at log:1")
			g.slaves[0].answers(position.Reading{Position: at(1), Identity: "s"})
			g.rounds(1)
			g.expect(t, "it leads to a slave again", "in 0s at log:1; in 0s at log:1")
		}},
		{"somebody writes to a slave", func(t *testing.T, g *stage) {
			const in = "in 0s at " + uuidM + ":1-9"
			const has = "down 0s (has diverged: it takes writes, and has transactions of its own "
			g.master.answers(mySQL(t, "m", uuidM+":1-9", ""))
			g.slaves[0].answers(mySQL(t, "s", uuidM+":1-9", ""))
			g.slaves[1].answers(mySQL(t, "t", uuidM+":1-9", ""))
			g.begin(t)
			g.expect(t, "before", in+"; "+in)
			g.slaves[0].answers(mySQL(t, "s", uuidM+":1-9,"+uuidS+":1", uuidS+":1"))
			g.rounds(1)
			g.expect(t, "at once", has+"("+uuidS+":1)); "+in)
			g.master.isDead()
			g.rounds(missed + 1)
			g.expect(t, "while the master is away", has+"("+uuidS+":1)); "+in)
			g.slaves[0].answers(mySQL(t, "s", uuidM+":1-9", ""))
			g.rounds(1)
			g.expect(t, "it was built anew", in+"; "+in)
		}},
		{"a slave has no position", func(t *testing.T, g *stage) {
			g.begin(t)
			g.slaves[0].lacks("gtid_mode is OFF")
			g.rounds(1)
			g.expect(t, "at once", "out (gtid_mode is OFF); in 0s at log:1")
		}},
		{"a slave leaves without a round", func(t *testing.T, g *stage) {
			g.begin(t)
			g.master.is(at(2))
			g.slaves[1].is(at(2))
			g.rounds(1)
			time.Sleep(time.Until(g.View().All[0].FreshAsOf.Add(time.Minute)))
			g.expect(t, "just within", "in 1m0s at log:1; in 14s at log:2")
			time.Sleep(1 * time.Nanosecond)
			// That is worth another round.
			g.expect(t, "a nanosecond later", "out 1m0s at log:1 (behind by more than 1m0s); in 0s at log:2")
		}},
	})
}

// TestViewOfMasters has something happen to the master.
func TestViewOfMasters(t *testing.T) {
	play(t, []scene{
		{"the master dies", func(t *testing.T, g *stage) {
			g.begin(t)
			g.master.is(at(2))
			g.slaves[0].is(at(2))
			g.rounds(1)
			g.master.isDead()
			g.rounds(1)
			time.Sleep(time.Hour)
			g.expect(t, "for an hour", "in 0s at log:2; in 0s at log:1")
			g.slaves[1].is(at(2))
			g.rounds(1)
			g.expect(t, "a slave catches up", "in 0s at log:2; in 0s at log:2")
			changed := g.View().Changed
			g.master.is(at(2))
			g.Hurry()
			<-changed
			if len(g.View().Slaves) != 2 {
				t.Error("slaves left when the master came back")
			}
			time.Sleep(2 * stageConfig.MinInterval)
			g.expect(t, "it is back", "in 0s at log:2; in 0s at log:2")
		}},
		{"the master comes back while nothing is routed", func(t *testing.T, g *stage) {
			g.begin(t)
			g.master.isDead()
			g.rounds(1)
			time.Sleep(10 * time.Second)
			g.master.slow(time.Millisecond) // the slaves are asked meanwhile
			g.slaves[0].is(at(2))
			time.Sleep(1100 * time.Millisecond)
			if fresh := g.View().All[0].FreshAsOf; time.Since(fresh) > 1200*time.Millisecond {
				t.Errorf("fresh as of %v ago", time.Since(fresh))
			}
		}},
		{"the master becomes a slave", func(t *testing.T, g *stage) {
			g.begin(t)
			g.master.isWrong()
			g.rounds(1)
			time.Sleep(time.Hour)
			g.expect(t, "it is no master", "in 0s at log:1; in 0s at log:1")
		}},
		{"the master never answered", func(t *testing.T, g *stage) {
			began := time.Now()
			g.master.isDead()
			g.slaves[1].isDead()
			g.begin(t)
			const deads = "; down (does not answer: connection refused)"
			g.rounds(20)
			g.expect(t, "it may yet", "out at log:1 (the master has not answered yet)"+deads)
			time.Sleep(time.Until(began.Add(stageConfig.MaxLag - 1)))
			g.expect(t, "it may still", "out at log:1 (the master has not answered yet)"+deads)
			time.Sleep(time.Nanosecond)
			g.expect(t, "long enough", "in at log:1"+deads)
			added, script := &Server{ID: "slave-2", Slave: true}, &script{}
			script.is(at(1))
			g.monitor.newAsker = func(*Server) asker { return script }
			g.SetSlaves([]*Server{g.slavesOf()[0], added}, func(*Server) bool { return false })
			g.rounds(20)
			g.expect(t, "of one that was added", "in at log:1; out at log:1 (the master has not answered yet)")
			time.Sleep(stageConfig.MaxLag)
			g.expect(t, "long enough for that, too", "in at log:1; in at log:1")
			g.master.is(at(1))
			g.rounds(2)
			g.expect(t, "it does", "in 0s at log:1; in 0s at log:1")
		}},
		{"the master answers with an error", func(t *testing.T, g *stage) {
			g.master.says(func(context.Context) (position.Reading, error) {
				return position.Reading{Reason: "no right to ask", Err: errors.New("no")}, nil
			})
			g.begin(t)
			g.rounds(20)
			const out = "out at log:1 (the master has no position: no right to ask)"
			g.expect(t, "it may yet have one", out+"; "+out)
			time.Sleep(stageConfig.MaxLag)
			g.expect(t, "long enough", "in at log:1; in at log:1")
		}},
		{"the master never had a position", func(t *testing.T, g *stage) {
			g.master.lacks("gtid_mode is OFF")
			g.slaves[1].lacks("gtid_mode is ON")
			g.begin(t)
			g.expect(t, "all that are up",
				"in at log:1 (the master has no position: gtid_mode is OFF); in (gtid_mode is ON)")
		}},
		{"the master loses its positions", func(t *testing.T, g *stage) {
			g.begin(t)
			g.slaves[1].is(position.Sequence("other", 1))
			g.rounds(1)
			g.master.lacks("gtid_mode is OFF")
			g.rounds(5)
			g.expect(t, "it may be a hiccup", "in 0s at log:1; out at other:1 (it is not known how far it is behind)")
			time.Sleep(2 * time.Minute)
			const none = " (the master has no position: gtid_mode is OFF)"
			g.expect(t, "no", "in at log:1"+none+"; in at other:1"+none)
			g.master.is(at(1))
			g.rounds(2)
			g.expect(t, "and back", "in 0s at log:1; out at other:1 (it is not known how far it is behind)")
		}},
		{"another master", func(t *testing.T, g *stage) {
			g.begin(t)
			g.master.is(position.Sequence("other", 7))
			g.slaves[0].is(position.Sequence("other", 7))
			g.rounds(1)
			g.expect(t, "a slave that follows it",
				"in 0s at other:7; out at log:1 (it is not known how far it is behind)")
			g.master.is(position.Sequence("other", 5))
			g.write()
			g.rounds(1)
			const second = "; out at log:1 (it is not known how far it is behind)"
			const unknown = " (it is not known whether the master has all that it has)"
			g.expect(t, "it falls back", "out 0s at other:7"+unknown+second)
			g.master.is(position.Sequence("other", 7))
			g.rounds(1)
			g.expect(t, "it comes as far", "in 0s at other:7"+second)
		}},
	})
}

// TestSeveralMasters have domains of their own; a slave has to cover them all.
func TestSeveralMasters(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		list := func(s string) position.Position {
			p, err := position.ParseMariaDB(s)
			if err != nil {
				t.Fatal(err)
			}
			return p
		}
		g := newStage(t, 2, 2, stageConfig)
		g.masters[0].is(list("1-1-5"))
		g.masters[1].is(list("2-2-5"))
		g.slaves[0].is(list("1-1-5,2-2-5"))
		g.slaves[1].is(list("1-1-5"))
		g.begin(t)
		g.expect(t, "one follows both", "in 0s at 1-1-5,2-2-5; out at 1-1-5 (it is not known how far it is behind)")
		// What one master says to a caller proves nothing of the other.
		before := g.remembered()
		time.Sleep(time.Millisecond)
		_, _ = g.Position(t.Context(), g.Masters[0])
		if now := g.remembered(); !now.Equal(before) {
			t.Errorf("it went into the ring, at %v after %v", now, before)
		}
		// One freezes: the round waits for it once, then it is left out.
		g.masters[1].freezes()
		g.Hurry()
		time.Sleep(time.Second + 20*time.Millisecond)
		g.rounds(2)
		g.expect(t, "one is frozen", "in 0s at 1-1-5,2-2-5; in 0s at 1-1-5")
		g.masters[1].is(list("2-2-5"))
		time.Sleep(2 * time.Second)
		g.masters[0].is(list("1-1-6"))
		g.slaves[0].is(list("1-1-6,2-2-5"))
		g.slaves[1].is(list("1-1-6"))
		g.rounds(3)
		if got := g.View(); got.All[0].FreshAsOf.Sub(got.All[1].FreshAsOf) < time.Second {
			t.Errorf("it is back: %s", g.shows())
		}
		g.end(t)
	})
}

// TestFrozenSlave must not hold up the others.
func TestFrozenSlave(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newStage(t, 1, 2, stageConfig)
		g.begin(t)
		g.slaves[0].freezes()
		g.rounds(20)
		if n := len(g.slaves[1].since(epoch)); n != 20 {
			t.Errorf("the other was asked %d times", n)
		}
		if n := len(g.slaves[0].since(epoch)); n != 1 {
			t.Errorf("it was asked %d times", n)
		}
		g.end(t)
	})
}

// TestViewChanges has a new view be published only if there is something new to see in it.
func TestViewChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newStage(t, 1, 1, stageConfig)
		g.begin(t)
		g.master.is(at(2))
		g.rounds(2)
		v := g.View()
		g.rounds(3) // the slave says what it said before
		for range 100 {
			g.write()
		}
		synctest.Wait()
		if g.View() != v {
			t.Error("there is another view, though nothing has changed")
		}
		g.slaves[0].is(at(2))
		g.rounds(1)
		select {
		case <-v.Changed:
		default:
			t.Error("nobody was told")
		}
		if now := g.View(); now == v || !now.All[0].Position.Covers(at(2)) {
			t.Error("it has not changed")
		}
		g.end(t)
	})
}
