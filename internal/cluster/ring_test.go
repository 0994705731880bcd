package cluster

import (
	"math"
	"testing"
	"time"

	"github.com/gorm-replicated/replicated/internal/position"
)

func at(n uint64) position.Position { return position.Sequence("log", n) }

var epoch = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)

// TestRingIsBounded adds entries at various rates, and in an order made to keep as many as possible.
func TestRingIsBounded(t *testing.T) {
	for _, maxLag := range []time.Duration{time.Second, time.Minute, time.Hour} {
		// Of three that are left in a row the oldest is older than the newest by a part of the middle one's age:
		// so with each second one the age grows by that part, from a nanosecond to maxLag.
		most := int(2 * math.Log(float64(maxLag)) / math.Log(1+1./thinning))
		for _, step := range []time.Duration{0, 1, time.Microsecond, 100 * time.Microsecond, 10 * time.Millisecond,
			time.Second} {
			r, now, largest := ring{maxLag: maxLag}, epoch, 0
			for n := range uint64(300_000) {
				now = now.Add(step)
				r.add(now, at(n+1))
				largest = max(largest, len(r.entries))
			}
			if limit := most + most/2 + 20; largest > limit {
				t.Errorf("maxLag %v, one each %v: %d entries, more than %d", maxLag, step, largest, limit)
			}
			t.Logf("maxLag %v, one each %v: %d entries at most", maxLag, step, largest)
		}
		r, largest := ring{maxLag: maxLag}, 0
		for n, age := uint64(1), maxLag; age > 1; n, age = n+1, age-age/(4*thinning)-1 {
			r.add(epoch.Add(maxLag-age), at(n))
			largest = max(largest, len(r.entries))
		}
		if largest > most+most/2+20 {
			t.Errorf("maxLag %v, at a falling distance: %d entries", maxLag, largest)
		}
	}
}

func TestRingIsExactEnough(t *testing.T) {
	const maxLag, step = time.Minute, 3 * time.Millisecond
	r, now, n := ring{maxLag: maxLag}, epoch, uint64(0)
	for now.Before(epoch.Add(3 * maxLag)) {
		n++
		now = now.Add(step)
		r.add(now, at(n))
		if n%5000 != 0 {
			continue
		}
		for behind := uint64(0); time.Duration(behind)*step <= maxLag && behind < n; behind = behind*5/4 + 1 {
			true := time.Duration(behind) * step
			fresh := r.freshAsOf(at(n - behind))
			if lag := now.Sub(fresh); lag < true || lag > true+true/8+step {
				t.Fatalf("entry %d: a lag of %v is told as %v", n, true, lag)
			}
		}
	}
}

func TestRing(t *testing.T) {
	r := ring{maxLag: time.Minute}
	if got := r.freshAsOf(at(1)); !got.IsZero() || !r.last().IsZero() {
		t.Errorf("an empty ring: %v", got)
	}
	second := func(n int) time.Time { return epoch.Add(time.Duration(n) * time.Second) }
	r.add(second(1), at(10))
	r.add(second(2), at(10)) // idle
	r.add(second(3), at(20))
	r.add(second(3), at(25)) // the clock stands still
	r.add(second(4), at(30))
	for _, test := range []struct {
		name string
		p    position.Position
		want time.Time
	}{
		{"all", at(31), second(4)},
		{"just the newest", at(30), second(4)},
		{"between two", at(29), second(3)},
		{"the middle", at(20), second(3)},
		{"as the idle master", at(19), second(2)},
		{"nothing of it", at(9), time.Time{}},
		{"unknown", position.Position{}, time.Time{}},
		{"another history", position.Sequence("other", 100), time.Time{}},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := r.freshAsOf(test.p); !got.Equal(test.want) {
				t.Errorf("got %v, want %v", got, test.want)
			}
		})
	}
}

// TestRingByExample has the figures of ring's comment.
func TestRingByExample(t *testing.T) {
	second := func(n float64) time.Time { return epoch.Add(time.Duration(n * float64(time.Second))) }
	r := ring{maxLag: time.Minute}
	for i := range 4 {
		r.add(second(float64(10+i)), at(uint64(100+10*i)))
	}
	if lag := second(14.5).Sub(r.freshAsOf(at(125))); lag != 2500*time.Millisecond {
		t.Errorf("lag %v", lag)
	}
	if got := r.freshAsOf(at(130)); !got.Equal(second(13)) {
		t.Errorf("fresh as of %v", got)
	}
	r.add(second(60), at(130))
	if got := r.freshAsOf(at(130)); !got.Equal(second(60)) {
		t.Errorf("the master was idle: fresh as of %v", got)
	}
}

func BenchmarkRingAdd(b *testing.B) {
	r, now, n := ring{maxLag: time.Minute}, epoch, uint64(0)
	for b.Loop() {
		n++
		now = now.Add(100 * time.Microsecond)
		r.add(now, at(n))
	}
}
