package cluster

import "time"

// What is known of a slave ends by itself. A monitor that hangs, or a machine that was suspended, asks
// nobody: then nothing takes a slave out of the view, and yet it must not be read as if it had been asked a
// moment ago. So each state in the view carries the time until which it holds, and those who read compare it
// with a clock:
//
//   - Where lag is known, the state holds until the slave may be further behind than MaxLag.
//   - In any case it holds for MaxLag and some questions' time after the slave's latest answer. Answers come
//     once per quarter of MaxLag at least, so that a busy machine, which is late with a round or two, drops
//     nobody.
//
// With MaxLag 60 s and Interval 1 s a slave that answered at 100 s, and was fresh as of 95 s, is read until
// 155 s if nobody asks it any longer; without positions, until 167 s.
//
// Two clocks are looked at, and the one that says more counts. The monotonic clock stands still while a
// machine is suspended (CLOCK_MONOTONIC on Linux); the wall clock may be set back. One that is set forward
// costs a round.

// since is how long ago t was, by whichever clock says more.
func since(t, now time.Time) time.Duration {
	return max(now.Sub(t), now.Round(0).Sub(t.Round(0)))
}

// holdFor is for how long a slave's latest answer holds, if nothing is known of its lag.
func (p *picture) holdFor() time.Duration { return p.maxLag + p.patience }

// patience is how much time it takes until a slave that leaves questions unanswered is away.
func patience(interval time.Duration) time.Duration { return missed*(interval+questionTimeout) + grace }

// until returns until when it holds that s belongs into the view; zero: for ever.
func (p *picture) until(s *slave) time.Time {
	if p.blind {
		return time.Time{}
	}
	until := s.heard.Add(p.holdFor())
	if fresh := s.freshAsOf.Add(p.maxLag + 1); p.positions && s.stood.IsZero() && fresh.Before(until) {
		return fresh
	}
	return until
}

// Holds tells whether what the state says of a slave in the view still holds.
func (s *State) Holds(now time.Time) bool { return s.Until.IsZero() || since(s.Until, now) < 0 }

// Age is how long ago FreshAsOf was. It does not stand still as Lag does.
func (s *State) Age(now time.Time) time.Duration { return since(s.FreshAsOf, now) }

// Holds tells whether what the view says holds for all of Slaves.
func (v *View) Holds(now time.Time) bool { return v.Until.IsZero() || since(v.Until, now) < 0 }

// Lapse takes those slaves out of service of which what the view says does not hold any longer, by either
// clock, and has them asked. It is for the beginning of requests: Fits, which every read asks, has no time
// for the wall clock.
func (c *Cluster) Lapse(now time.Time) {
	v := c.View()
	if v.Holds(now) {
		return
	}
	for i := range v.All {
		if s := &v.All[i]; s.Readable && !s.Holds(now) {
			lapsed := *s
			lapsed.Readable = false
			s.Server.state.CompareAndSwap(s, &lapsed) // not what a newer view has said
		}
	}
	c.Hurry()
}
