package cluster

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-sql-driver/mysql"

	"github.com/gorm-replicated/replicated/internal/position"
)

func TestServes(t *testing.T) {
	run := func(name string, f func(*testing.T, *stage, *Server)) {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := newStage(t, 1, 1, stageConfig)
				g.begin(t)
				f(t, g, g.slavesOf()[0])
				g.end(t)
			})
		})
	}
	is := func(t *testing.T, got, want Serving) {
		t.Helper()
		if got != want {
			t.Errorf("got %d, want %d", got, want)
		}
	}
	run("it does", func(t *testing.T, g *stage, s *Server) {
		is(t, g.Serves(t.Context(), s), Serves)
		if !s.Fits() || !s.doubted.Load() {
			t.Errorf("in the view %v, over a new connection %v", s.Fits(), s.doubted.Load())
		}
	})
	run("it is dead", func(t *testing.T, g *stage, s *Server) {
		g.slaves[0].isDead()
		is(t, g.Serves(t.Context(), s), ServesNot)
		if s.Fits() {
			t.Error("it is in the view")
		}
		asked := len(g.slaves[0].since(time.Now()))
		is(t, g.Serves(t.Context(), s), ServesNot)
		if asked == 0 || len(g.slaves[0].since(time.Now())) > 0 {
			t.Error("it was asked again although it is known to be out")
		}
	})
	run("it refuses whoever connects", func(t *testing.T, g *stage, s *Server) {
		g.slaves[0].says(func(context.Context) (position.Reading, error) {
			return position.Reading{}, &mysql.MySQLError{Number: 1040}
		})
		if !g.Answers(s, s.Downs()) || !s.Fits() {
			t.Error("the control: for a read that is under way it lives")
		}
		is(t, g.Serves(t.Context(), s), ServesNot)
	})
	run("a question from before does not count", func(t *testing.T, g *stage, s *Server) {
		g.slaves[0].says(func(context.Context) (position.Reading, error) {
			time.Sleep(100 * time.Millisecond)
			g.slaves[0].isDead()
			return position.Reading{Position: at(1)}, nil
		})
		g.Hurry()
		synctest.Wait()
		time.Sleep(50 * time.Millisecond) // it is under way
		if !g.Answers(s, s.Downs()) {
			t.Error("the control: it has answered that one")
		}
		is(t, g.Serves(t.Context(), s), ServesNot)
	})
	run("whoever asks meanwhile shares it", func(t *testing.T, g *stage, s *Server) {
		g.slaves[0].says(func(context.Context) (position.Reading, error) {
			time.Sleep(100 * time.Millisecond)
			return position.Reading{Position: at(1)}, nil
		})
		var all sync.WaitGroup
		for range 50 {
			all.Go(func() { is(t, g.Serves(t.Context(), s), Serves) })
		}
		all.Wait()
		if n := len(g.slaves[0].since(time.Now())); n > 2 {
			t.Errorf("asked %d times", n)
		}
	})
	run("the caller goes", func(t *testing.T, g *stage, s *Server) {
		g.slaves[0].freezes()
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		is(t, g.Serves(ctx, s), Unasked)
		if !s.Fits() {
			t.Error("it is not in the view")
		}
		g.slaves[0].is(at(1))
	})
	run("nothing can be told", func(t *testing.T, g *stage, s *Server) {
		g.slaves[0].says(func(context.Context) (position.Reading, error) { return position.Reading{}, errBusy })
		is(t, g.Serves(t.Context(), s), Serves)
	})
	run("it has left", func(t *testing.T, g *stage, _ *Server) {
		is(t, g.Serves(t.Context(), &Server{ID: "another", Slave: true}), Serves)
	})
}

// TestAnswers asks about a slave for a read that has begun when it was as it is after set.
func TestAnswers(t *testing.T) {
	refuses := func(context.Context) (position.Reading, error) {
		return position.Reading{}, &mysql.MySQLError{Number: 1040}
	}
	for _, test := range []struct {
		name  string
		set   func(*stage) // before the read begins
		then  func(*stage) // before it is asked whether the slave lives
		lives bool
		asked int // the slave, by that
		fits  bool
	}{
		{name: "it answers", lives: true, asked: 1, fits: true},
		{name: "it has just answered", then: func(g *stage) { g.rounds(1); g.slaves[0].isDead() }, lives: true,
			fits: true},
		{name: "it answered a while ago", then: func(g *stage) {
			g.rounds(1)
			g.slaves[0].isDead()
			time.Sleep(answerCounts)
		}, asked: 1},
		{name: "it is dead", then: func(g *stage) { g.slaves[0].isDead() }, asked: 1},
		{name: "it has just failed to answer", then: func(g *stage) { g.slaves[0].isDead(); g.rounds(1) },
			asked: 1},
		{name: "it refuses whoever connects", then: func(g *stage) { g.slaves[0].says(refuses) },
			lives: true, asked: 1, fits: true},
		{name: "no connection is free to ask over", then: func(g *stage) {
			g.slaves[0].says(func(context.Context) (position.Reading, error) { return position.Reading{}, errBusy })
		}, lives: true, asked: 1, fits: true},
		{name: "it was away since", then: func(g *stage) {
			g.slaves[0].isDead()
			g.rounds(missed)
			g.slaves[0].is(at(1))
			for !g.slavesOf()[0].Fits() {
				time.Sleep(recheck)
			}
			time.Sleep(answerCounts)
		}, fits: true},
		{name: "it refused everybody since", then: func(g *stage) {
			g.slaves[0].says(refuses)
			g.rounds(missed)
			g.slaves[0].is(at(1))
			for !g.slavesOf()[0].Fits() {
				time.Sleep(recheck)
			}
			time.Sleep(answerCounts)
		}, lives: true, asked: 1, fits: true},
		{name: "it was away before", set: func(g *stage) {
			g.slaves[0].isDead()
			g.rounds(missed)
			g.slaves[0].is(at(1))
			for !g.slavesOf()[0].Fits() {
				time.Sleep(recheck)
			}
			time.Sleep(answerCounts)
		}, lives: true, asked: 1, fits: true},
		{name: "it is away", set: func(g *stage) { g.slaves[0].isDead(); g.rounds(missed) }},
		{name: "another read failed", then: func(g *stage) { g.Failed(g.slavesOf()[0], errDead) }, lives: true,
			asked: 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := newStage(t, 1, 1, stageConfig)
				g.begin(t)
				time.Sleep(answerCounts)
				if test.set != nil {
					test.set(g)
				}
				s := g.slavesOf()[0]
				downs := s.Downs()
				if test.then != nil {
					test.then(g)
				}
				g.slaves[0].since(epoch)
				if got := g.Answers(s, downs); got != test.lives {
					t.Errorf("it lives: %v", got)
				}
				if n := len(g.slaves[0].since(epoch)); n != test.asked {
					t.Errorf("asked %d times", n)
				}
				synctest.Wait() // the monitor may be about to take it out
				if s.Fits() != test.fits {
					t.Errorf("it is in the view: %v", s.Fits())
				}
				g.end(t)
			})
		})
	}
}

// TestRefusedUntilItIsBack has each question to a slave that is out be asked over a new connection.
func TestRefusedUntilItIsBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newStage(t, 1, 1, stageConfig)
		g.begin(t)
		s := g.slavesOf()[0]
		if s.refused.Load() {
			t.Error("the control: nothing has failed")
		}
		g.Failed(s, errors.New("account locked"))
		for !s.Fits() {
			if !s.refused.Load() && !s.Fits() {
				t.Fatal("it may be asked over a connection from before")
			}
			time.Sleep(recheck / 2)
			synctest.Wait()
		}
		if s.refused.Load() {
			t.Error("it is back")
		}
		g.end(t)
	})
}
