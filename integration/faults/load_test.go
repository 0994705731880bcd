package faults_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"gorm.io/gorm"

	"github.com/gorm-replicated/replicated"
)

// tally is what became of reads.
type tally struct {
	reads   int
	failed  int // of those that no server had answered yet
	broken  int // of those whose rows, or transaction, had been handed out
	busy    int // with ErrMasterBusy
	excused int
	ended   int // whose session an operator has ended
	twice   int // under which the connections to two slaves have ended
	spared  int // by the master, although a slave served all the while that was not asked
	served  map[string]int
	// longest is the longest that a read waited for its first row, or for its error.
	longest time.Duration
}

// most is how many reads of a load are under way at once: more than a fault ever holds up if the machine
// bears the load.
const most = 200

// load is reads at a steady rate: each begins when its time has come, whatever became of those before.
type load struct {
	cancel context.CancelFunc
	reads  context.Context // that of the reads themselves
	giveUp context.CancelCauseFunc
	tasks  sync.WaitGroup
	excuse func(began, ended time.Time) bool // tells whether a read may fail; nil: none may
	state  func() string                     // how the plugin sees its servers
	slaves func() []string                   // that serve

	operator bool // ends sessions: then a read may fail by that

	mu      sync.Mutex
	tally   tally
	running map[*trail]since
	errors  map[string]int // by form and text
	reasons map[string]int
	slowest string // how the longest went
}

// since says when a read that is under way began.
type since int

const (
	lately  since = iota
	earlier       // than the latest call of load.ended
)

// read begins a load, which lasts until stop, or the end of the test.
func (a *app) read(t *testing.T, perSecond int) *load {
	t.Helper()
	return a.readUnless(t, perSecond, nil, most)
}

// readUnless is read, but that reads may fail when there is an excuse, and so many are under way at once.
func (a *app) readUnless(
	t *testing.T, perSecond int, excuse func(began, ended time.Time) bool, most int,
) *load {
	t.Helper()
	return loadOf(t, a, perSecond, excuse, most, func(l *load, n int) { l.one(l.reads, a.db, n) })
}

// readOf is a load on what is not the plugin's.
func readOf(t *testing.T, db *gorm.DB, perSecond int) *load {
	t.Helper()
	return loadOf(t, nil, perSecond, nil, most, func(l *load, n int) { l.one(l.reads, db, n) })
}

// readInRequests has GETs read some times each, with pauses: what befalls their slave befalls many in
// between.
func (a *app) readInRequests(t *testing.T, perSecond int) *load {
	t.Helper()
	const reads, pause = 8, 50 * time.Millisecond
	return loadOf(t, a, max(1, perSecond/reads), nil, most, func(l *load, n int) {
		a.plugin.Middleware(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			for i := range reads {
				l.one(r.Context(), a.db, n+i)
				pass(r.Context(), pause)
			}
		})).ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/", nil))
	})
}

func loadOf(
	t *testing.T, a *app, perSecond int, excuse func(began, ended time.Time) bool, most int,
	one func(l *load, n int),
) *load {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	l := &load{cancel: cancel, excuse: excuse,
		state: func() string { return "" }, slaves: func() []string { return nil },
		running: map[*trail]since{}, errors: map[string]int{}, reasons: map[string]int{}}
	if a != nil {
		l.state, l.slaves = a.state, a.served
	}
	l.reads, l.giveUp = context.WithCancelCause(context.Background())
	l.tally.served = map[string]int{}
	room := make(chan struct{}, most)
	l.tasks.Go(func() {
		ticker := time.NewTicker(time.Second / time.Duration(perSecond))
		defer ticker.Stop()
		for n := 0; ; n++ {
			select {
			case <-ctx.Done():
				return
			case <-ticker.C:
			}
			select {
			case room <- struct{}{}:
			default: // the machine cannot bear that many
				continue
			}
			l.tasks.Go(func() { defer func() { <-room }(); one(l, n) })
		}
	})
	t.Cleanup(l.stop)
	return l
}

// stop ends the load, and returns when the reads under way have ended. Those that hang have failed.
func (l *load) stop() {
	l.cancel()
	over := make(chan struct{})
	go func() { defer close(over); l.tasks.Wait() }()
	select {
	case <-over:
	case <-time.After(hangs):
		l.mu.Lock()
		l.errors["then the goroutines were:\n"+goroutines()]++
		l.mu.Unlock()
		l.giveUp(errHangs)
		<-over
	}
	l.giveUp(nil)
}

// errHangs is why a read was given up.
var errHangs = fmt.Errorf("it has not ended for %v", hangs)

// one reads in the n-th form.
func (l *load) one(ctx context.Context, db *gorm.DB, n int) {
	f := forms[n%len(forms)]
	// A context that could be cancelled, as those of requests, and is not: what fails, fails by the servers.
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ctx, trail := tracked(ctx)
	l.mu.Lock()
	l.running[trail] = lately
	l.mu.Unlock()
	slaves := l.slaves()
	err := f.read(db.WithContext(ctx), trail)
	if cause := context.Cause(ctx); err != nil && cause != nil {
		err = cause
	}
	over := time.Now()
	server, routes := trail.last()
	trail.mu.Lock()
	handed := trail.answered
	reasons, asked := slices.Clone(trail.reasons), slices.Clone(trail.routes)
	slaves = slices.DeleteFunc(slaves, func(s string) bool {
		return !slices.Contains(trail.serving, s) || slices.Contains(asked, s)
	})
	trail.mu.Unlock()
	if !handed.IsZero() {
		over = handed
	}

	l.mu.Lock()
	defer l.mu.Unlock()
	began := l.running[trail]
	if delete(l.running, trail); began == earlier && err == nil {
		return
	}
	l.tally.reads++
	if server == "master" && len(slaves) > 0 && reasons[len(reasons)-1] != replicated.ReasonRecovering {
		l.tally.spared++
		l.errors[fmt.Sprintf("%s by %s, although %v served", f.name, bare(routes), slaves)]++
	}
	if took := over.Sub(trail.began); took > l.tally.longest {
		l.tally.longest = took
		l.slowest = fmt.Sprintf("%s by %s: %v", f.name, strings.Join(routes, ", "), err)
	}
	for _, r := range reasons {
		l.reasons[r.String()]++
	}
	switch {
	case err == nil:
		l.tally.served[server]++
		return
	case errors.Is(err, errHangs):
		l.tally.failed++
		l.errors[fmt.Sprintf("%s by %s: %v", f.name, bare(routes), err)]++
	case errors.Is(err, replicated.ErrMasterBusy):
		l.tally.busy++
		return
	case handed.IsZero() && l.excuse != nil && l.excuse(trail.began, over):
		l.tally.excused++
		l.errors[fmt.Sprintf("excused: %s by %s: %T: %v", f.name, bare(routes), err, err)]++
	case handed.IsZero() && ended(err):
		l.tally.ended++
		l.errors[fmt.Sprintf("%s by %s: %v", f.name, bare(routes), err)]++
	case handed.IsZero() && brokeTwice(err, asked):
		l.tally.twice++
		l.errors[fmt.Sprintf("broken twice: %s by %s: %v", f.name, bare(routes), err)]++
	case errors.Is(err, errTruncated) || handed.IsZero():
		l.tally.failed++
		l.errors[fmt.Sprintf("%s by %s: %T: %v", f.name, bare(routes), err, err)]++
	default:
		l.tally.broken++
	}
}

// bare returns routes without their times.
func bare(routes []string) string {
	return regexp.MustCompile(`, at [^)]*`).ReplaceAllString(strings.Join(routes, ", "), "")
}

// so returns the tally so far.
func (l *load) so() tally {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.tally
	s.served = maps.Clone(s.served)
	return s
}

// since returns what has been added to a tally from before.
func (s tally) since(before tally) tally {
	d := tally{reads: s.reads - before.reads, failed: s.failed - before.failed, broken: s.broken - before.broken,
		busy: s.busy - before.busy, excused: s.excused - before.excused,
		ended: s.ended - before.ended, twice: s.twice - before.twice,
		spared: s.spared - before.spared, served: map[string]int{}, longest: s.longest}
	for server, n := range s.served {
		d.served[server] = n - before.served[server]
	}
	return d
}

func (s tally) String() string {
	return fmt.Sprintf("%d reads, %d failed, %d broken, %d broken twice, %d ended, %d busy, %d excused, "+
		"served %v, the longest wait %v", s.reads, s.failed, s.broken, s.twice, s.ended, s.busy, s.excused,
		s.served, s.longest.Round(time.Millisecond))
}

// served waits until these servers have each answered n more reads.
func (l *load) served(t *testing.T, n int, names ...string) time.Duration {
	t.Helper()
	before := l.so()
	return eventually(t, "waiting to be served", func() error {
		now := l.so().since(before)
		for _, name := range names {
			if now.served[name] < n {
				return fmt.Errorf("%s has answered %d reads of %v%s", name, now.served[name], now, l.state())
			}
		}
		return nil
	})
}

// more waits until there have been n more reads, and returns what became of them.
func (l *load) more(t *testing.T, n int) tally {
	t.Helper()
	before := l.so()
	eventually(t, fmt.Sprintf("waiting for %d reads", n), func() error {
		if now := l.so().since(before); now.reads < n {
			return fmt.Errorf("%v", now)
		}
		return nil
	})
	return l.so().since(before)
}

// noneFailed fails the test if a read failed.
func (l *load) noneFailed(t *testing.T) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.tally.failed > 0 || l.tally.busy > 0 || l.tally.twice > 0 || l.tally.ended > 0 && !l.operator {
		t.Errorf("%v; want none failed, none busy:%s", l.tally, l.grouped())
	}
	if l.tally.reads == 0 {
		t.Error("there were no reads")
	}
}

// ended waits until the reads that are under way have ended, but for those that have been handed their first
// row, or their transaction, and fails the test if one hangs. While a fault lasts, that shows that nobody
// waits for its end. What is counted from here on began after the call.
func (l *load) ended(t *testing.T) {
	t.Helper()
	l.mu.Lock()
	before := slices.Collect(maps.Keys(l.running))
	l.mu.Unlock()
	eventually(t, "waiting for the reads that are under way", func() error {
		l.mu.Lock()
		defer l.mu.Unlock()
		for _, trail := range before {
			if _, running := l.running[trail]; running && trail.waits() {
				_, routes := trail.last()
				return fmt.Errorf("a read by %s has waited for %v", strings.Join(routes, ", "), time.Since(trail.began))
			}
		}
		for _, trail := range before {
			if _, running := l.running[trail]; running {
				l.running[trail] = earlier
			}
		}
		return nil
	})
}

// waits tells whether a read that began before then still waits for its first row.
func (l *load) waits(then time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for trail := range l.running {
		if trail.began.Before(then) && trail.waits() {
			return true
		}
	}
	return false
}

// grouped returns the errors, with how often each occurred. l.mu is held.
func (l *load) grouped() string {
	var b strings.Builder
	oftenFirst := func(a, b string) int { return l.errors[b] - l.errors[a] }
	for i, text := range slices.SortedFunc(maps.Keys(l.errors), oftenFirst) {
		if i == 15 {
			fmt.Fprintf(&b, "\n  … and %d others", len(l.errors)-i)
			break
		}
		fmt.Fprintf(&b, "\n  %4d × %s", l.errors[text], text)
	}
	fmt.Fprintf(&b, "\n  reasons: %v; the slowest: %s", l.reasons, l.slowest)
	return b.String()
}

func (l *load) report() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.tally.String() + l.grouped()
}

// writes has entries written at a steady rate, so that positions move; it lasts until the test ends or stop
// is called. Those that fail are nobody's business.
func (a *app) writes(t *testing.T, perSecond int) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var tasks sync.WaitGroup
	tasks.Go(func() {
		ticker := time.NewTicker(time.Second / time.Duration(perSecond))
		defer ticker.Stop()
		for n := 0; ; n++ {
			select {
			case <-ctx.Done():
				return
			case <-ticker.C:
			}
			limited, cancel := context.WithTimeout(ctx, time.Second)
			_ = a.db.WithContext(limited).Create(&Entry{Client: "background", N: n}).Error
			cancel()
		}
	})
	stop = sync.OnceFunc(func() { cancel(); tasks.Wait() })
	t.Cleanup(stop)
	return stop
}
