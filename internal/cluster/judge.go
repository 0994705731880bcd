package cluster

// Place is where an attempt at a statement has failed.
type Place uint8

const (
	Anywhere   Place = iota // it cannot be told: the pool was brought ready-made
	Connecting              // there was no connection to run the statement on
	Executing               // there was one
)

// Serving is what a server answers that is asked whether it serves.
type Serving uint8

const (
	Unasked Serving = iota
	Serves
	ServesNot // it does not answer, refuses connections, or says that it serves nobody
)

// Failure is what is known of an attempt at a statement that has failed.
type Failure struct {
	Err     error
	Dialect string
	Place   Place
	Serving Serving

	Ended      bool // the caller's context has
	Unanswered bool // the slave has answered neither the statement within SlaveTimeout nor a question
	Left       bool // the slave is none of the group's any longer, and its pool is closed
	Master     bool // it was on a master
	Spared     bool // and there only because a slave has just come back

	Broke    bool // a connection has ended under the statement before
	Repeated bool // it is run once more already, after a slave that serves failed it
}

// Verdict is what becomes of a statement whose attempt has failed.
type Verdict uint8

const (
	Return   Verdict = iota // its error is the statement's own, or its caller's
	Replan                  // it is prepared again: its plan went stale
	ToMaster                // it goes there, as do all like it from now on: it writes
	Next                    // it goes to another slave, or else to the master
	Blame                   // the same, and the slave is not read until it is well again
	Ask                     // the slave is asked whether it serves, and the failure judged again
	Repeat                  // it runs once more, on a slave: another one, or else the same. Never on the master
)

// Judge decides whose fault a failure is. Nothing else decides that. docs/operations.md tells what users
// see of it.
//
// A slave is blamed if a connection to it could not be made, or for what it answers when it is asked; never
// for the error of one statement. A statement can raise any error, and can bring down the connection that it
// runs on. So one that has done so twice is not handed on, whatever the servers answer: there would soon be
// none.
func Judge(f Failure) Verdict {
	switch {
	case IsStalePlan(f.Err):
		return Replan
	case f.Master && (f.Ended || !f.Spared || f.Place != Connecting && kindOf(f.Err, f.Place) < suspicious):
		return Return
	case f.Master:
		return Next // better a slave that has just come back than none
	case f.Ended:
		return Return
	case f.Left, f.Unanswered:
		return Next
	case f.Place == Connecting:
		return Blame
	case IsReadOnly(f.Dialect, f.Err):
		return ToMaster
	}
	switch kind := kindOf(f.Err, f.Place); {
	case kind == own:
		return Return
	case kind == passing:
		return Next
	case kind == broken && f.Broke:
		return Return
	case f.Serving == Unasked:
		return Ask
	case f.Serving == ServesNot:
		return Blame
	case kind == terminated, f.Repeated:
		return Return
	}
	return Repeat
}

// Breaks tells whether the connection has ended under the statement without a word: that may be its own
// doing.
func (f Failure) Breaks() bool {
	return f.Place != Connecting && !f.Unanswered && kindOf(f.Err, f.Place) == broken
}
