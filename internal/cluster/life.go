package cluster

// Life is where a slave is between its first question and its removal. Whether it is read depends on more:
// see [State.Readable].
//
//	New ────answer───► Serving ◄──answer─── Suspected ◄─┐
//	 │                  │  ▲  └──no answer────►  │  └───┘ no answer
//	 │       a read failed │ enough answers      │
//	 │                  ▼  │                     │
//	 │   answer ┌─► ComingBack ◄──answer─┐       │
//	 │          └──────┘  └──no answer──►│       │
//	 └──────too many missing──────────► Away ◄───┘ too many missing
//
// From each it may come to Left.
type Life uint8

const (
	LifeNew        Life = iota // it has answered nothing yet
	LifeServing                // it answers
	LifeSuspected              // it left its latest questions unanswered, and may be read all the same
	LifeAway                   // it left too many unanswered
	LifeComingBack             // it has failed, and has to answer for a while
	LifeLeft                   // it is none of the group's any longer
)

func (l Life) String() string {
	switch l {
	case LifeNew:
		return "new"
	case LifeServing:
		return "serving"
	case LifeSuspected:
		return "suspected"
	case LifeAway:
		return "away"
	case LifeComingBack:
		return "coming back"
	case LifeLeft:
		return "left"
	}
	return "unknown"
}

// event is what happens to a slave.
type event uint8

const (
	answerCame     event = iota
	answerMissing        // one, and not too many in a row
	tooManyMissing       // in a row; one is too many if a read waits for it
	readFailed           // and the slave is to blame: see Judge
	answeredEnough       // in a row, since it failed
	wasRemoved
)

// after returns what a slave is that was l when e happened. Nothing else decides that.
func (l Life) after(e event) Life {
	switch {
	case l == LifeLeft, e == wasRemoved:
		return LifeLeft
	case e == answeredEnough, e == answerCame && !l.out():
		return LifeServing
	case e == answerCame, e == readFailed && l != LifeSuspected && l != LifeAway:
		return LifeComingBack
	case e == answerMissing && l == LifeNew:
		return LifeNew
	case e == answerMissing && !l.out():
		return LifeSuspected
	}
	return LifeAway
}

// out tells whether the slave has failed, and is not back.
func (l Life) out() bool { return l == LifeAway || l == LifeComingBack }
