package cluster

import (
	"context"
	"sync"
	"time"

	"github.com/gorm-replicated/replicated/internal/position"
)

const (
	// questionTimeout bounds a question, connecting included.
	questionTimeout = time.Second
	// grace is how much longer a question may take if its driver does not heed the context. Then nobody waits
	// for it any longer.
	grace = time.Second
)

const (
	errHangs  = ownError("a question hangs, whose driver does not heed the context")
	errClosed = ownError("the servers are not watched any longer")
	errBusy   = ownError("no connection was free to ask over")
)

// asker asks one server for its position, one question at a time.
type asker interface {
	// ask ends soon after ctx does. An error means that the server did not answer.
	ask(ctx context.Context) (position.Reading, error)
	close()
}

// question is a question to a server, and then its answer.
type question struct {
	done    chan struct{} // closed when it is over; what follows is set by then
	began   time.Time
	reading position.Reading
	err     error // there was no answer
	called  bool  // somebody wants to know, other than the monitor; guarded by probe.mu until it is over
	over    bool  // guarded by probe.mu
}

// probe asks one server, one question at a time, and all who want to know share the answers.
//
// It assumes that an asker returns when its context ends. One that does not keeps its goroutine, and until
// it returns no other question can begin: whoever asks is told so at once.
type probe struct {
	asker asker
	heard func(*question) // is told of each question that is over, before those who wait for it
	ctx   context.Context // ends with the cluster
	tasks *sync.WaitGroup // counts the goroutine

	mu            sync.Mutex
	running, next *question
	hangs, closed bool
}

// join returns a question that begins after the call: if one is under way, the next, which is then
// everybody's. It is over already, and heard of by nobody, if none can begin.
func (p *probe) join(called bool) (_ *question, begins bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.closed:
		return failed(errClosed), false
	case p.hangs:
		return failed(errHangs), false
	case p.running == nil:
		p.begin(called)
		return p.running, true
	case p.next == nil:
		p.next = &question{done: make(chan struct{})}
	}
	p.next.called = p.next.called || called
	return p.next, true
}

// current returns the question that is under way, or one that begins now.
func (p *probe) current() *question {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.closed:
		return failed(errClosed)
	case p.hangs:
		return failed(errHangs)
	case p.running == nil:
		p.begin(false)
	}
	return p.running
}

// ask asks for the monitor, unless an answer is still owed.
func (p *probe) ask() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.running == nil && !p.closed {
		p.begin(false)
	}
}

// close closes the asker, in the background, as soon as it has nothing to answer any longer.
func (p *probe) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed = true; p.running == nil {
		p.tasks.Go(p.asker.close)
	}
}

func failed(err error) *question {
	q := &question{done: make(chan struct{}), err: err}
	close(q.done)
	return q
}

func (p *probe) begin(called bool) {
	q := &question{done: make(chan struct{}), called: called}
	p.running = q
	p.tasks.Go(func() {
		for ; q != nil; q = p.following() {
			p.put(q)
		}
	})
}

// put asks q.
func (p *probe) put(q *question) {
	ctx, cancel := context.WithTimeout(p.ctx, questionTimeout)
	defer cancel()
	q.began = time.Now()
	defer time.AfterFunc(questionTimeout+grace, func() { p.giveUp(q) }).Stop()
	reading, err := p.answer(ctx)
	p.mu.Lock()
	late := q.over
	q.over = true
	p.mu.Unlock()
	if !late {
		q.reading, q.err = reading, err
		p.end(q)
	}
}

// answer asks. Somebody else's Source may panic: that must not end the process.
func (p *probe) answer(ctx context.Context) (_ position.Reading, err error) {
	defer func() {
		if v := recover(); v != nil {
			err = panicked("asking panicked", v)
		}
	}()
	return p.asker.ask(ctx)
}

// giveUp ends a question that hangs, and the one behind it.
func (p *probe) giveUp(q *question) {
	p.mu.Lock()
	if q.over {
		p.mu.Unlock()
		return
	}
	next := p.next
	q.over, p.hangs, p.next = true, true, nil
	p.mu.Unlock()
	for _, q := range []*question{q, next} {
		if q != nil {
			q.err = errHangs
			p.end(q)
		}
	}
}

func (p *probe) end(q *question) {
	p.heard(q)
	close(q.done)
}

// following returns the question to go on with, if there is any.
func (p *probe) following() *question {
	p.mu.Lock()
	p.running, p.next, p.hangs = p.next, nil, false
	q, closed := p.running, p.closed
	p.mu.Unlock()
	if q == nil && closed {
		p.asker.close()
	}
	return q
}
