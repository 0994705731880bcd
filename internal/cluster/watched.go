package cluster

import (
	"slices"
	"time"

	"github.com/gorm-replicated/replicated/internal/position"
)

// missed is how many questions in a row a server may leave unanswered before it counts as away.
const missed = 3

// watched is a server that is asked, and what it has said.
type watched struct {
	server *Server
	probe  *probe

	reading position.Reading // the latest answer
	asked   time.Time        // when the question began that it answered last; zero: it never did
	failed  int              // questions in a row without an answer since
	err     error            // of the latest of them
	trouble time.Time        // since when the monitor has to look at it more often; zero if it need not
}

// hear takes in what became of a question.
func (w *watched) hear(q *question) {
	switch q.err {
	case nil:
		w.failed, w.reading, w.asked = 0, q.reading, q.began
	case errBusy: // it says nothing about the server
	case errHangs:
		w.failed, w.err = w.failed+1+missed, q.err // there will be no other question until it returns
	default:
		w.failed, w.err = w.failed+1, q.err
	}
}

func (w *watched) answered() bool { return !w.asked.IsZero() }

// master is a master that is watched.
type master struct {
	watched
	position position.Position // the latest that is known
	told     bool              // that it answers; see news
}

func (m *master) isUp() bool { return m.failed < missed }

// tells tells whether what a master said last can be held against a slave.
func (m *master) tells() bool {
	return m.answered() && m.isUp() && !m.reading.WrongRole && m.reading.Err == nil
}

// lacksPosition tells whether a master has said that it has no position. An error says nothing, nor does a
// server that is no master.
func (m *master) lacksPosition() bool {
	return m.answered() && !m.reading.WrongRole && m.reading.Err == nil && !m.reading.Position.Known()
}

// state returns what the view says of a master.
func (m *master) state() State {
	state := State{Server: m.server, Up: m.isUp(), Position: m.reading.Position, Reason: m.reading.Reason}
	if !state.Up {
		state.Reason = "does not answer: " + Describe(m.err)
	}
	return state
}

// slave is a slave that is watched.
type slave struct {
	watched
	recovery
	begun time.Time // when the monitor began to watch it

	heard     time.Time // when it answered last
	freshAsOf time.Time // zero: not known
	stood     time.Time // if the master could not be asked since the latest answer: when it last could
	against   string    // why it must not be read although it answers: see disowned
	ahead     ahead     // of the masters
	alone     bool      // when it came back last, no other slave was read
	told      told
}

// isUp tells whether a slave answers, and is what it should be.
func (s *slave) isUp() bool {
	return (s.life == LifeServing || s.life == LifeSuspected) && !s.outcast()
}

// outcast tells whether a slave that answers must not be read, because it is none of this group's masters.
func (s *slave) outcast() bool { return s.reading.WrongRole || s.against != "" || s.ahead.strayed }

// isLost tells whether a slave that has failed does not answer at all.
func (s *slave) isLost() bool { return s.life.out() && s.founded && !spoke(s.err) }

// hear takes in what became of a question at the time now.
func (s *slave) hear(q *question, now time.Time, jittered float64) {
	s.watched.hear(q)
	switch {
	case q.err == errBusy:
		s.askAt = now.Add(recheck)
	case q.err == nil:
		s.heard = now
		s.happens(answerCame, now, jittered)
	case s.failed >= missed:
		s.happens(tooManyMissing, now, jittered)
	default:
		s.happens(answerMissing, now, jittered)
	}
}

// isRead tells whether the current view has a slave be read.
func (s *slave) isRead() bool {
	state := s.server.State()
	return state != nil && state.Readable
}

// cameBackLately tells whether a slave does not get its whole share of reads yet.
func (s *slave) cameBackLately(now time.Time) bool { return now.Sub(s.returned) < rampUp }

// find returns what is known of s, nil if it is not among all.
func find(all []*slave, s *Server) *slave {
	if i := slices.IndexFunc(all, func(w *slave) bool { return w.server == s }); i >= 0 {
		return all[i]
	}
	return nil
}
