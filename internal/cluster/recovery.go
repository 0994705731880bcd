package cluster

import "time"

const (
	// Between questions: to a slave that does not answer, at first and at most; to one that answers again.
	firstPause   = 10 * time.Millisecond
	longestPause = time.Second
	recheck      = 100 * time.Millisecond
	// leastAnswers is how many answers in a row it takes to be read again. By chance, while every other
	// question is lost, that happens once in a thousand times. It takes up to someAnswers, which is some
	// seconds, for a slave that comes and goes, and up to mostAnswers for one that answers questions and
	// fails reads.
	leastAnswers = 10
	someAnswers  = 25
	mostAnswers  = 50
	// settled is for how long a slave has to be read for its past to be forgotten.
	settled = 10 * time.Second
)

// recovery is what a slave goes through that has failed. It is asked with growing pauses until it answers,
// and has to go on answering for a while. One that answers by fits and starts has to for longer each time, so
// that it does not come and go.
type recovery struct {
	life    Life
	since   time.Time // when it failed
	askAt   time.Time // when it is asked next
	good    int       // answers in a row since
	needed  int       // how many it takes
	founded bool      // it did leave a question unanswered since; otherwise only a read has failed

	returned time.Time // when it came back last; zero: never
}

// happens takes in what has happened to the slave. jittered is in [0, 1).
func (r *recovery) happens(e event, now time.Time, jittered float64) {
	shorter := func(d time.Duration) time.Time {
		return now.Add(time.Duration(float64(d) * (1 - jitter*jittered)))
	}
	was := r.life
	if was.out() && e == answerCame {
		if r.good++; r.good >= r.needed {
			e = answeredEnough
		}
	}
	r.life = was.after(e)
	switch {
	case !was.out() && r.life.out():
		r.fail(now, e == tooManyMissing)
	case was.out() && (e == answerMissing || e == tooManyMissing):
		if r.good > 0 {
			r.needed = max(r.needed, min(2*r.needed, someAnswers))
		}
		r.good, r.founded = 0, true
		r.askAt = shorter(min(longestPause, max(firstPause, now.Sub(r.since)/2)))
	case r.life == LifeComingBack:
		r.askAt = shorter(recheck)
	case e == answeredEnough:
		r.returned = now
	}
}

// fail begins the recovery.
func (r *recovery) fail(now time.Time, founded bool) {
	switch {
	case r.needed == 0, now.Sub(r.returned) > settled:
		r.needed = leastAnswers
	case r.founded: // it comes and goes
		r.needed = max(r.needed, min(2*r.needed, someAnswers))
	default: // its reads fail, and its answers contradict
		r.needed = min(2*r.needed, mostAnswers)
	}
	r.founded, r.since, r.askAt, r.good = founded, now, now, 0
	if founded {
		r.askAt = now.Add(firstPause)
	}
}
