package cluster

import (
	"cmp"
	"context"
	"errors"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gorm-replicated/replicated/internal/position"
)

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

func (s *script) isWrong() {
	s.says(func(context.Context) (position.Reading, error) {
		return position.Reading{WrongRole: true, Reason: "another role", Remedy: "another server"}, nil
	})
}

func (g *stage) expect(t *testing.T, when, want string) {
	t.Helper()
	if got := g.shows(); got != want {
		t.Errorf("%s:\n got %s\nwant %s", when, got, want)
	}
}

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

func TestView(t *testing.T) {
	for _, test := range []struct {
		name  string
		steps func(*testing.T, *stage)
	}{
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
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := newStage(t, 1, 2, stageConfig)
				test.steps(t, g)
				g.end(t)
			})
		})
	}
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

// ahead returns what the masters lack that a slave has.
func (g *stage) ahead(slave int) position.Position {
	g.monitor.mu.Lock()
	defer g.monitor.mu.Unlock()
	return g.monitor.picture.slaves[slave].ahead.by
}

// remembered returns the time of the ring's newest entry.
func (g *stage) remembered() time.Time {
	g.monitor.mu.Lock()
	defer g.monitor.mu.Unlock()
	return g.monitor.picture.ring.last()
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

func TestAwaitFirst(t *testing.T) {
	for _, test := range []struct {
		name string
		set  func(*stage)
		want time.Duration
	}{
		{"all is well", func(*stage) {}, 0},
		{"a slave is dead", func(g *stage) { g.slaves[1].isDead() }, 0},
		{"a slave is frozen", func(g *stage) { g.slaves[1].freezes() }, time.Second},
		{"the master is frozen", func(g *stage) { g.master.freezes() }, time.Second + firstDelay},
		{"a slave is behind", func(g *stage) { g.master.is(at(2)); g.slaves[0].is(at(2)) }, firstDelay},
		{"a slave is behind for a moment", func(g *stage) {
			g.master.is(at(2))
			g.slaves[0].is(at(2))
			time.AfterFunc(35*time.Millisecond, func() { g.slaves[1].is(at(2)) })
		}, 40 * time.Millisecond},
		{"no slave is one", func(g *stage) { g.slaves[0].isWrong(); g.slaves[1].isWrong() }, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := newStage(t, 1, 2, stageConfig)
				test.set(g)
				began := time.Now()
				g.monitor.start()
				g.AwaitFirst(t.Context())
				if took := time.Since(began); took != test.want {
					t.Errorf("took %v, want %v", took, test.want)
				}
				g.end(t)
			})
		})
	}
	synctest.Test(t, func(t *testing.T) {
		g := newStage(t, 1, 1, stageConfig)
		g.slaves[0].freezes()
		g.monitor.start()
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		began := time.Now()
		if g.AwaitFirst(ctx); time.Since(began) != time.Millisecond {
			t.Error("the context was not heeded")
		}
		g.end(t)
	})
}

func TestNotices(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newStage(t, 1, 3, stageConfig)
		g.slaves[2].isDead() // from the beginning
		g.begin(t)
		g.slaves[0].isDead()
		g.rounds(5)
		g.slaves[0].is(at(1))
		time.Sleep(2 * leastAnswers * recheck)
		g.slaves[1].isWrong()
		g.rounds(2)
		g.end(t)
		want := []string{"slave-2: does not answer: connection refused",
			"slave-0: does not answer: connection refused", "slave-0: in", "slave-1: not a slave: another role"}
		if slices.Sort(g.notices[2:]); !slices.Equal(g.notices, want) {
			t.Errorf("got %q", g.notices)
		}
	})
}

func (s *script) needs(remedy string) {
	s.says(func(context.Context) (position.Reading, error) {
		return position.Reading{Reason: "no position", Remedy: remedy}, nil
	})
}

// TestNoPositions: it is told once of which server a group has no positions, and what mends that.
func TestNoPositions(t *testing.T) {
	masterNeeds := func(g *stage) { g.master.needs("GTIDs") }
	for _, test := range []struct {
		name          string
		masters       int
		first, second func(*stage)
		want          string // what is told first and then, of the first round and of what is known later
	}{
		{"all have some", 1, func(*stage) {}, func(*stage) {}, ""},
		{"the master has none", 1, masterNeeds, func(*stage) {}, "master-0: GTIDs; "},
		{"no server has", 1, func(g *stage) {
			g.master.needs("GTIDs")
			g.slaves[0].needs("GTIDs")
			g.slaves[1].needs("GTIDs")
		}, func(*stage) {}, "master-0: GTIDs; "},
		{"one of two masters has none", 2, func(g *stage) { g.masters[1].needs("GTIDs") }, func(*stage) {},
			"master-1: GTIDs; "},
		{"a slave has none", 1, func(g *stage) { g.slaves[1].needs("GTIDs") }, func(*stage) {}, ""},
		{"the master's comes by itself", 1, func(g *stage) { g.master.lacks("nothing yet") },
			func(*stage) {}, ""},
		{"the master is down, a slave has none", 1, func(g *stage) {
			g.master.isDead()
			g.slaves[1].needs("GTIDs")
		}, func(*stage) {}, "; slave-1: GTIDs"}, // when it is read
		{"the master is down, and no server has", 1, func(g *stage) {
			g.master.isDead()
			g.slaves[1].needs("GTIDs")
		}, masterNeeds, "; master-0: GTIDs"},
		{"the master is late, a slave has none", 1, func(g *stage) {
			g.master.freezes()
			g.slaves[1].needs("GTIDs")
		}, func(g *stage) { g.master.is(at(1)) }, ""},
		{"the master is down, and comes back without", 1, func(g *stage) { g.master.isDead() }, masterNeeds,
			"; master-0: GTIDs"},
		{"the master is down, a slave is none", 1, func(g *stage) {
			g.master.isDead()
			g.slaves[0].isWrong()
		}, func(g *stage) { g.master.is(at(1)) }, ""},
		{"GTIDs are switched off", 1, func(*stage) {}, masterNeeds, "; master-0: GTIDs"},
		{"GTIDs are switched on, and off again", 1, masterNeeds, func(g *stage) {
			g.master.is(at(1))
			g.rounds(3)
			g.master.needs("GTIDs")
		}, "master-0: GTIDs; "},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var told []string
				cfg := stageConfig
				cfg.NoPositions = func(s *Server, _, remedy string) { told = append(told, s.ID+": "+remedy) }
				g := newStage(t, test.masters, 2, cfg)
				test.first(g)
				g.begin(t)
				first := strings.Join(told, ", ")
				told = nil
				test.second(g)
				for range 3 { // a master without a position is believed after MaxLag
					g.rounds(3)
					time.Sleep(stageConfig.MaxLag)
				}
				if got := first + "; " + strings.Join(told, ", "); got != cmp.Or(test.want, "; ") {
					t.Errorf("got %q, want %q", got, test.want)
				}
				g.end(t)
			})
		})
	}
}

// TestNewsIsToldBeforeAwaitFirstReturns: whoever waits for the first round finds in the log what it showed.
func TestNewsIsToldBeforeAwaitFirstReturns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := stageConfig
		cfg.NoPositions = func(*Server, string, string) { time.Sleep(time.Second) }
		g := newStage(t, 1, 1, cfg)
		g.master.needs("GTIDs")
		began := time.Now()
		g.monitor.start()
		g.AwaitFirst(t.Context())
		if took := time.Since(began); took != time.Second {
			t.Errorf("took %v", took)
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

func TestWritable(t *testing.T) {
	for _, test := range []struct {
		name    string
		reading position.Reading
		err     error
		want    bool
	}{
		{"read-only", position.Reading{Position: at(1), ReadOnly: true}, nil, false},
		{"takes writes", position.Reading{Position: at(1), Writable: true}, nil, true},
		{"takes writes, without a position", position.Reading{Reason: "gtid_mode is OFF", Writable: true}, nil,
			true},
		{"a server of which nothing is known", position.Reading{Reason: "has no GTIDs"}, nil, false},
		{"does not answer", position.Reading{}, errors.New("dead"), false},
		{"a Source asked", position.Reading{Position: at(1)}, nil, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				told := 0
				cfg := stageConfig
				cfg.Writable = func(*Server) { told++ }
				g := newStage(t, 1, 1, cfg)
				g.slaves[0].says(func(context.Context) (position.Reading, error) { return test.reading, test.err })
				g.begin(t)
				g.rounds(5)
				if got := g.slavesOf()[0].Writable(); got != test.want || (told == 1) != test.want || told > 1 {
					t.Errorf("got %v, told %d times", got, told)
				}
				g.slaves[0].says(func(context.Context) (position.Reading, error) {
					return position.Reading{Position: at(1), ReadOnly: true}, nil
				})
				g.rounds(2)
				if g.slavesOf()[0].Writable() {
					t.Error("it still is")
				}
				g.end(t)
			})
		})
	}
}
