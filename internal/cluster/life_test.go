package cluster

import (
	"errors"
	"fmt"
	"testing"
	"time"
)

// TestLife is the table of what becomes of a slave.
func TestLife(t *testing.T) {
	const no, sv, su, aw, cb, le = LifeNew, LifeServing, LifeSuspected, LifeAway, LifeComingBack, LifeLeft
	events := []event{answerCame, answerMissing, tooManyMissing, readFailed, answeredEnough, wasRemoved}
	for was, want := range map[Life][]Life{
		//   answer, missing, too many, read failed, enough, removed
		no: {sv, no, aw, cb, sv, le},
		sv: {sv, su, aw, cb, sv, le},
		su: {sv, su, aw, aw, sv, le},
		aw: {cb, aw, aw, aw, sv, le},
		cb: {cb, aw, aw, cb, sv, le},
		le: {le, le, le, le, le, le},
	} {
		for i, e := range events {
			t.Run(fmt.Sprintf("%v, %d", was, e), func(t *testing.T) {
				if got := was.after(e); got != want[i] {
					t.Errorf("got %v, want %v", got, want[i])
				}
			})
		}
	}
	if got := Life(99).String(); got != "unknown" {
		t.Errorf("got %q", got)
	}
}

// TestRecovery has a slave answer (.) or not (x), fail a read (r), be read for a while (-), and asks what has
// become of it by then, and how many answers in a row it takes to be read.
func TestRecovery(t *testing.T) {
	const ten = ".........." // leastAnswers
	for _, test := range []struct {
		name, happens string
		want          Life
		needed        int
	}{
		{"nothing", "", LifeNew, 0},
		{"it never answers", "xx", LifeNew, 0},
		{"it never answers at all", "xxx", LifeAway, 10},
		{"it answers", ".", LifeServing, 0},
		{"it misses a question", ".xx", LifeSuspected, 0},
		{"it misses one now and then", ".xx.xx.xx", LifeSuspected, 0},
		{"it misses too many", ".xxx", LifeAway, 10},
		{"it answers again", ".xxx.........", LifeComingBack, 10},
		{"for long enough", ".xxx" + ten, LifeServing, 10},
		{"by fits and starts", ".xxx...x", LifeAway, 20},
		{"that often", ".xxx...x.x.x", LifeAway, 25},
		{"it answers for longer", ".xxx...x" + ten, LifeComingBack, 20},
		{"for long enough then", ".xxx...x" + ten + ten, LifeServing, 20},
		{"it comes and goes", ".xxx" + ten + "xxx", LifeAway, 20},
		{"it has been well for a while since", ".xxx" + ten + "-xxx", LifeAway, 10},
		{"a read fails", ".r", LifeComingBack, 10},
		{"a read fails, while questions get lost", ".xr", LifeAway, 10},
		{"it answers, and another read fails", ".r" + ten + "r", LifeComingBack, 20},
		{"and another", ".r" + ten + "r" + ten + ten + "r", LifeComingBack, 40},
		{"and others", ".r" + ten + "r" + ten + ten + "r" + ten + ten + ten + ten + "r", LifeComingBack, 50},
		{"a read fails, then questions", ".rx", LifeAway, 10},
		{"answers from before a missing one do not count", ".xxx.........x" + ten + ".", LifeComingBack, 20},
		{"reads fail, and it comes and goes", ".r" + ten + "rx" + ten + ten + "r", LifeComingBack, 25},
		{"reads fail, and it answers by fits and starts", ".r" + ten + "r" + ten + ten + "r..x", LifeAway, 40},
		{"it is removed", ".xxxl" + ten, LifeLeft, 10},
	} {
		t.Run(test.name, func(t *testing.T) {
			s, now := &slave{watched: watched{server: &Server{}}}, epoch
			for _, c := range test.happens {
				now = now.Add(recheck)
				switch c {
				case '.':
					s.hear(&question{began: now}, now, 0)
				case 'x':
					s.hear(&question{err: errors.New("no answer")}, now, 0)
				case 'r':
					s.happens(readFailed, now, 0)
				case 'l':
					s.happens(wasRemoved, now, 0)
				case '-':
					now = now.Add(settled + time.Second)
				}
			}
			if s.life != test.want || s.needed != test.needed {
				t.Errorf("got %v, %d answers; want %v, %d", s.life, s.needed, test.want, test.needed)
			}
		})
	}
}

// TestBusyQuestion: where no connection was free to ask over, nothing is known. It is asked again soon.
func TestBusyQuestion(t *testing.T) {
	for _, life := range []Life{LifeNew, LifeServing, LifeSuspected, LifeAway, LifeComingBack} {
		s := &slave{recovery: recovery{life: life, good: 3, needed: 10, askAt: epoch.Add(time.Hour)}}
		s.failed = 1
		s.hear(&question{err: errBusy}, epoch, 0)
		if s.life != life || s.failed != 1 || s.good != 3 || !s.askAt.Equal(epoch.Add(recheck)) {
			t.Errorf("%v: %v, %d without an answer, asked at %v", life, s.life, s.failed, s.askAt)
		}
	}
}

// TestPauses: a slave that does not answer is asked again after half of the time that it has been away.
func TestPauses(t *testing.T) {
	for _, test := range []struct {
		away, want time.Duration
		jittered   float64
	}{
		{0, firstPause, 0},
		{600 * time.Millisecond, 300 * time.Millisecond, 0},
		{600 * time.Millisecond, 270 * time.Millisecond, 1},
		{time.Hour, longestPause, 0},
	} {
		r := recovery{life: LifeAway, since: epoch.Add(-test.away), needed: 10}
		r.happens(answerMissing, epoch, test.jittered)
		if got := r.askAt.Sub(epoch); got != test.want {
			t.Errorf("away for %v: asked after %v, want %v", test.away, got, test.want)
		}
	}
}
