package cluster

import (
	"database/sql"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gorm-replicated/replicated/internal/position"
)

// add adds a slave that follows a script of its own to those of the stage.
func (g *stage) add(id string) (*Server, *script) {
	s, x := &Server{ID: id, Slave: true}, &script{}
	x.is(at(1))
	g.monitor.newAsker = func(*Server) asker { return x }
	return s, x
}

func never(*Server) bool { return false }

// awaitFits waits until a slave is read.
func (g *stage) awaitFits(s *Server) {
	for !s.Fits() {
		time.Sleep(recheck)
	}
	synctest.Wait()
}

// TestPublished has what happens to a server be seen in the view, in its Server, or in what is told.
func TestPublished(t *testing.T) {
	for _, test := range []struct {
		name  string
		steps func(*testing.T, *stage)
	}{
		{"a slave gets its whole share again", func(t *testing.T, g *stage) {
			g.Failed(g.slavesOf()[0], errDead)
			if g.View().Recovering {
				t.Error("recovering, though it is not read")
			}
			g.awaitFits(g.slavesOf()[0])
			if !g.View().Recovering {
				t.Error("not recovering, though it is back")
			}
			time.Sleep(rampUp)
			synctest.Wait()
			if g.View().Recovering {
				t.Error("still recovering")
			}
		}},
		{"a slave comes back, and is not read", func(t *testing.T, g *stage) {
			g.Failed(g.slavesOf()[0], errDead)
			g.slaves[0].is(position.Sequence("another", 1))
			time.Sleep(2 * leastAnswers * recheck)
			g.rounds(1)
			if v := g.View(); !v.All[0].Up || v.All[0].Readable || v.Recovering {
				t.Errorf("up %v, readable %v, recovering %v", v.All[0].Up, v.All[0].Readable, v.Recovering)
			}
		}},
		{"the master is away, and comes back", func(t *testing.T, g *stage) {
			g.master.isDead()
			g.rounds(missed)
			synctest.Wait()
			if m := g.View().Masters[0]; m.Up || m.Reason != "does not answer: connection refused" {
				t.Errorf("up %v, %q", m.Up, m.Reason)
			}
			g.master.is(at(1))
			g.rounds(1)
			synctest.Wait()
			if m := g.View().Masters[0]; !m.Up || m.Reason != "" {
				t.Errorf("it is back: up %v, %q", m.Up, m.Reason)
			}
		}},
		{"a slave is lost twice", func(t *testing.T, g *stage) {
			s := g.slavesOf()[0]
			for n := range uint64(2) {
				g.slaves[0].isDead()
				g.rounds(missed)
				time.Sleep(time.Minute)
				if got := s.Downs(); got != n+1 {
					t.Errorf("lost %d times, not %d", got, n+1)
				}
				g.slaves[0].is(at(1))
				g.awaitFits(s)
			}
		}},
		{"slaves change places", func(t *testing.T, g *stage) {
			all := slices.Clone(g.slavesOf())
			slices.Reverse(all)
			g.SetSlaves(all, never)
			v := g.View()
			if v.All[0].Server != all[0] || v.Slaves[0] != all[0] || v.All[1].Server != all[1] {
				t.Error("the view has them where they were")
			}
		}},
		{"a slave is removed", func(t *testing.T, g *stage) {
			s := g.slavesOf()[0]
			if s.Left() || g.View().Of(s) == nil {
				t.Error("the control: it has not left")
			}
			g.SetSlaves(g.slavesOf()[1:], never)
			if !s.Left() || s.Fits() || g.View().Of(s) != nil || s.State().Life != LifeLeft {
				t.Errorf("left %v, read %v", s.Left(), s.Fits())
			}
		}},
		{"a slave is added", func(t *testing.T, g *stage) {
			s, _ := g.add("new")
			g.SetSlaves(append(slices.Clone(g.slavesOf()), s), never)
			g.awaitFits(s)
			if !slices.Equal(g.notices, []string{"new: in"}) {
				t.Errorf("told %q", g.notices)
			}
		}},
		{"a slave is added that is dead", func(t *testing.T, g *stage) {
			s, x := g.add("new")
			x.isDead()
			g.SetSlaves(append(slices.Clone(g.slavesOf()), s), never)
			g.rounds(missed + 1)
			synctest.Wait()
			if !slices.Equal(g.notices, []string{"new: does not answer: connection refused"}) {
				t.Errorf("told %q", g.notices)
			}
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := newStage(t, 1, 2, stageConfig)
				g.begin(t)
				test.steps(t, g)
				g.end(t)
			})
		})
	}
}

// TestIdleConnectionsAreDropped when a slave fails, and when it answers again: they may lead nowhere.
func TestIdleConnectionsAreDropped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newStage(t, 1, 1, stageConfig)
		w := &wire{}
		s, db := g.slavesOf()[0], sql.OpenDB(w)
		s.Pool, s.opened, s.maxIdle = db, true, 2
		idle := func(when string, want int) {
			t.Helper()
			synctest.Wait()
			if n := db.Stats().Idle; n != want {
				t.Errorf("%s: %d idle connections, want %d", when, n, want)
			}
		}
		g.begin(t)
		_ = db.PingContext(t.Context())
		idle("the control", 1)
		g.slaves[0].isDead()
		g.Failed(s, errDead)
		idle("it has failed", 0)
		_ = db.PingContext(t.Context())
		time.Sleep(time.Second)
		idle("the control: it does not answer", 1)
		g.slaves[0].is(at(1))
		time.Sleep(longestPause)
		idle("it answers again", 0)
		_ = db.PingContext(t.Context())
		time.Sleep(2 * leastAnswers * recheck)
		idle("it is back", 1)
		g.end(t)
	})
}
