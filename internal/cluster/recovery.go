package cluster

import "time"

const (
	// Between questions: to a slave that does not answer, at first and at most; to one that answers again.
	firstPause   = 10 * time.Millisecond
	longestPause = time.Second
	recheck      = 100 * time.Millisecond
	// leastAnswers is how many answers in a row it takes to be read again: by chance, while every other question is lost, that happens once in
	// a thousand times. It takes up to someAnswers, which is some seconds, for one that comes and goes, and up to mostAnswers for one
	// that answers questions and fails reads.
	leastAnswers = 10
	someAnswers  = 25
	mostAnswers  = 50
	// settled is for how long a slave has to be read for its past to be forgotten.
	settled = 10 * time.Second

	// rampUp is how long a slave that came back takes to get its whole share of reads, and firstShare what it gets at once.
	rampUp     = 5 * time.Second
	firstShare = 0.1
)

// recovery is what a slave that has failed goes through until it is read again: it is asked with growing pauses until it answers, and has to
// go on answering for a while. One that does so by fits and starts has to for longer each time, so that it does not come and go.
type recovery struct {
	down    bool      // it has failed, and is not back
	since   time.Time // when it failed
	askAt   time.Time // when it is asked next
	good    int       // answers in a row since
	needed  int       // how many it takes
	founded bool      // it did leave a question unanswered since

	returned time.Time // when it came back last; zero: never
	alone    bool      // then the master had all its reads
}

// leave begins it. founded tells whether questions were left unanswered; otherwise only a read has failed.
func (r *recovery) leave(now time.Time, founded bool) {
	switch {
	case r.needed == 0, now.Sub(r.returned) > settled:
		r.needed = leastAnswers
	case r.founded: // it comes and goes
		r.needed = max(r.needed, min(2*r.needed, someAnswers))
	default: // its reads fail, and its answers contradict
		r.needed = min(2*r.needed, mostAnswers)
	}
	r.down, r.founded, r.since, r.askAt, r.good = true, founded, now, now, 0
	if founded {
		r.askAt = now.Add(firstPause)
	}
}

// hear takes in whether a question was answered. jitter is in [0, 1).
func (r *recovery) hear(answered bool, now time.Time, jittered float64) {
	shorter := func(d time.Duration) time.Duration { return time.Duration(float64(d) * (1 - jitter*jittered)) }
	if !answered {
		if r.good > 0 {
			r.needed = max(r.needed, min(2*r.needed, someAnswers))
		}
		r.good, r.founded = 0, true
		r.askAt = now.Add(shorter(min(longestPause, max(firstPause, now.Sub(r.since)/2))))
		return
	}
	if r.good++; r.good < r.needed {
		r.askAt = now.Add(shorter(recheck))
		return
	}
	r.down, r.returned = false, now
}
