package cluster

import (
	"errors"
	"testing"
	"time"

	"github.com/gorm-replicated/replicated/internal/position"
)

// TestReadable is the table of what the view says of a slave.
func TestReadable(t *testing.T) {
	now := epoch.Add(time.Hour)
	ago := func(d time.Duration) time.Time { return now.Add(-d) }
	const (
		stale  = "was not asked for too long"
		silent = "does not answer: connection refused"
		failed = "failed, and has to answer for a while before it is read: connection refused"
	)
	for _, test := range []struct {
		name   string
		change func(*picture, *slave)
		want   bool
		up     bool
		reason string
	}{
		{"all is well", func(*picture, *slave) {}, true, true, ""},
		{"it missed a question", func(_ *picture, s *slave) { s.life, s.failed = LifeSuspected, 1 },
			true, true, ""},
		{"just within MaxLag", func(_ *picture, s *slave) { s.freshAsOf = ago(time.Minute) }, true, true, ""},
		{"behind", func(_ *picture, s *slave) { s.freshAsOf = ago(time.Minute + 1) },
			false, true, "behind by more than 1m0s"},
		{"behind by nobody knows what", func(_ *picture, s *slave) { s.freshAsOf = time.Time{} },
			false, true, "it is not known how far it is behind"},
		{"without a position", func(_ *picture, s *slave) { s.reading = position.Reading{Reason: "GTIDs are off"} },
			false, true, "GTIDs are off"},
		{"it may be ahead", func(_ *picture, s *slave) { s.ahead.unproven = ago(time.Minute - 1) },
			false, true, "it is not known whether the master has all that it has"},
		{"it may be ahead, for long", func(_ *picture, s *slave) { s.ahead.unproven = ago(time.Minute) },
			true, true, ""},
		{"nobody asked it", func(_ *picture, s *slave) { s.stood, s.heard = s.freshAsOf, ago(67*time.Second) },
			false, false, stale},
		{"hardly anybody asked it", func(_ *picture, s *slave) {
			s.stood, s.heard = s.freshAsOf, ago(67*time.Second-1)
		}, true, true, ""},
		{"nobody is asked for positions", func(p *picture, s *slave) {
			p.blind, p.positions, s.reading = true, false, position.Reading{Reason: "none"}
		}, true, true, ""},

		{"it has never answered", func(_ *picture, s *slave) { s.life, s.failed = LifeNew, 0 },
			false, false, "has not answered yet"},
		{"it did not answer yet", func(_ *picture, s *slave) { s.life, s.failed = LifeNew, 1 },
			false, false, silent},
		{"it is away", func(_ *picture, s *slave) { s.life, s.failed = LifeAway, 3 }, false, false, silent},
		{"it is away for a read that waited", func(_ *picture, s *slave) { s.life = LifeAway },
			false, false, silent},
		{"it comes back", func(_ *picture, s *slave) { s.life = LifeComingBack }, false, false, failed},
		{"it is no slave", func(_ *picture, s *slave) {
			s.reading = position.Reading{WrongRole: true, Reason: "a"}
		}, false, false, "not a slave: a"},
		{"it was no slave, and is away", func(_ *picture, s *slave) {
			s.life, s.reading = LifeAway, position.Reading{WrongRole: true, Reason: "a"}
		}, false, false, "not a slave: a"},
		{"it is the master", func(_ *picture, s *slave) { s.against = "is the master" },
			false, false, "is the master"},
		{"it was the master, and is away", func(_ *picture, s *slave) {
			s.against, s.life = "is the master", LifeAway
		}, false, false, silent},
		{"it strayed", func(_ *picture, s *slave) { s.ahead = ahead{strayed: true, by: at(9)} },
			false, false, "is of another history: it has log:9, which the master lacks"},
		{"it strayed, and comes back", func(_ *picture, s *slave) {
			s.ahead, s.life = ahead{strayed: true, by: at(9)}, LifeComingBack
		}, false, false, failed},

		{"the master has no position", func(p *picture, _ *slave) {
			p.positions, p.masters[0].reading = false, position.Reading{Reason: "GTIDs are off"}
		}, true, true, "the master has no position: GTIDs are off"},
		{"neither has one", func(p *picture, s *slave) {
			p.positions, p.masters[0].reading = false, position.Reading{Reason: "GTIDs are off"}
			s.reading = position.Reading{Reason: "GTIDs are off here"}
		}, true, true, "GTIDs are off here"},
		{"the master answered with an error", func(p *picture, _ *slave) {
			p.positions, p.masters[0].reading = false, position.Reading{Reason: "b", Err: errors.New("b")}
		}, false, true, "the master has no position: b"},
		{"the master has not answered", func(p *picture, _ *slave) {
			p.positions, p.masters[0].asked = false, time.Time{}
		}, false, true, "the master has not answered yet"},
		{"the master has not answered for MaxLag", func(p *picture, s *slave) {
			p.positions, p.masters[0].asked, s.begun = false, time.Time{}, ago(time.Minute)
		}, true, true, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := picture{maxLag: time.Minute, patience: patience(time.Second), positions: true}
			p.masters = []*master{answering("master", position.Reading{Position: at(5)})}
			s := &slave{
				watched:  watched{server: &Server{}, reading: position.Reading{Position: at(5)}, err: errDead},
				recovery: recovery{life: LifeServing}, begun: ago(time.Minute - 1),
				heard: now, freshAsOf: ago(time.Second),
			}
			test.change(&p, s)
			state := p.state(s, now)
			if state.Readable != test.want || state.Up != test.up || state.Reason != test.reason {
				t.Errorf("readable %v, up %v, %q", state.Readable, state.Up, state.Reason)
			}
			shown := !p.blind && s.reading.Position.Known()
			if state.Life != s.life || state.Up && state.Position.Known() != shown {
				t.Errorf("its life is %v, its position %v", state.Life, state.Position)
			}
			if known := !state.FreshAsOf.IsZero(); known && !p.positions {
				t.Error("it has a lag though the masters have no positions")
			}
		})
	}
}

// TestLacking: it is a slave because of which a group has no positions, where the master has not answered.
func TestLacking(t *testing.T) {
	for _, test := range []struct {
		name   string
		change func(*picture, *slave)
		want   bool
	}{
		{"it needs something", func(*picture, *slave) {}, true},
		{"it needs nothing", func(_ *picture, s *slave) { s.reading.Remedy = "" }, false},
		{"it is no slave", func(_ *picture, s *slave) { s.reading.WrongRole = true }, false},
		{"nobody is asked for positions", func(p *picture, _ *slave) { p.blind = true }, false},
		{"there are positions", func(p *picture, _ *slave) { p.positions = true }, false},
		{"the master may still answer", func(p *picture, _ *slave) { p.masters[0].failed = missed - 1 }, false},
		{"no slave is read", func(p *picture, _ *slave) { p.slaves = p.slaves[:1] }, false},
	} {
		m := &master{watched: watched{server: &Server{}, failed: missed}}
		s := &slave{watched: watched{server: &Server{}}, recovery: recovery{life: LifeServing}}
		s.reading.Remedy = "GTIDs"
		read := &slave{watched: watched{server: &Server{}}}
		read.server.state.Store(&State{Readable: true})
		p := picture{masters: []*master{m}, slaves: []*slave{s, read}}
		test.change(&p, s)
		if w := p.lacking(); (w != nil) != test.want || w != nil && w != &s.watched {
			t.Errorf("%s: lacks %v", test.name, w != nil)
		}
	}
}
