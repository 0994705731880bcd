package cluster

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gorm-replicated/replicated/internal/position"
)

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
