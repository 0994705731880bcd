package faults_test

import (
	"fmt"
	"regexp"
	"slices"
	"testing"
	"time"

	"github.com/gorm-replicated/replicated"
)

// effect is what a fault does to a slave.
type effect int

const (
	leaves effect = iota // it is not read any longer, until it is over
	stays                // it is read all the time
	either               // it is read as often as it answers
)

// TestSingleFaults has one fault after the other befall one of two slaves, under load. Nobody notices; the
// plugin says what is wrong; and when it is over, the slave is read again.
func TestSingleFaults(t *testing.T) {
	smallLag := func(cfg *replicated.Config) { cfg.MaxLag = 2 * time.Second }
	tests := []struct {
		fault  fault
		effect effect
		reason string // a pattern of what Status says, if it leaves
		change func(*replicated.Config)
	}{
		{fault: refused, effect: leaves, reason: "refused|EOF|reset"},
		{fault: stopped, effect: leaves, reason: "refused|EOF|reset|shut|terminat|kill|closed|broken|connection|" +
			"conn crashed|login has been failing"},
		{fault: reset, effect: leaves, reason: "reset|EOF|closed|broken|bad connection|invalid connection"},
		{fault: blackHole, effect: leaves, reason: "answer|deadline|timeout"},
		{fault: oneWay, effect: leaves, reason: "answer|deadline|timeout"},
		{fault: cut, effect: either},
		{fault: latency, effect: stays},
		{fault: trickle, effect: stays},
		{fault: slowClose, effect: stays},
		// Each read has a connection of its own to make; that of the monitor, which it made before, goes on.
		{fault: crowded, effect: either, change: func(cfg *replicated.Config) { cfg.Pool.MaxIdle = -1 }},
		{fault: lockedOut, effect: leaves, reason: "denied|1045|reject|28000|login has been failing"},
		{fault: accountLocked, effect: leaves, reason: "3118|4151|28000|login has been failing",
			change: func(cfg *replicated.Config) { cfg.Pool.MaxLifetime = time.Second }},
		{fault: disconnected, effect: either},
		{fault: killedRead, effect: stays},
		{fault: held, effect: leaves, reason: "behind by more than 2s", change: smallLag},
		// 1047 is what a node of Galera says that has left its cluster.
		{fault: unstopped, effect: leaves, reason: "behind by more than 2s|1047", change: smallLag},
		{fault: readOnly, effect: stays},
		// MariaDB has no position at all then; that of PostgreSQL may be from before the time that is remembered.
		{fault: lost, effect: leaves, reason: "nothing with a GTID|behind", change: smallLag},
	}
	eachEngine(t, func(t *testing.T, e *engine) {
		for _, test := range tests {
			// What has no position cannot fall behind. Held, it lets reads wait: see TestNodeHeld.
			if !e.positioned() && (test.fault.name == held.name || test.fault.name == lost.name) {
				continue
			}
			// PgBouncer goes on with the connections that it has; without them it is what lockedOut does.
			if e.clients != nil && test.fault.name == accountLocked.name {
				continue
			}
			t.Run(test.fault.name, func(t *testing.T) {
				c := e.cluster(t)
				a := open(t, e, c, test.change)
				a.writes(t, 10)
				l := a.read(t, 100)
				l.operator = slices.Contains([]string{disconnected.name, lockedOut.name}, test.fault.name)
				l.served(t, 10, "slave 2", "slave 3")
				victim, other := a.slaves[0], a.slaves[1]
				end := test.fault.befall(t, victim)
				var during tally
				var reason string
				switch test.effect {
				case leaves:
					left := eventually(t, "it leaves", func() error { return a.notServing(victim) })
					// First it may be one connection that has failed, and then why there is no other.
					pattern := regexp.MustCompile("(?i)" + test.reason)
					eventually(t, "it says why", func() error {
						if reason = a.status(victim).Reason; !pattern.MatchString(reason) {
							return fmt.Errorf("the reason is %q, want %q in it", reason, test.reason)
						}
						return nil
					})
					l.ended(t) // which may have begun before
					during = l.more(t, 60)
					if n := during.served[victim.String()]; n > 0 {
						t.Errorf("after it has left: %v; the plugin sees:%s", during, a.state())
					}
					l.served(t, 1, other.String())
					t.Logf("it left after %v: %s", left.Round(time.Millisecond), reason)
				case stays:
					before := l.so()
					eventually(t, "150 reads", func() error {
						if err := a.serving(victim, other); err != nil {
							t.Fatalf("it left: %v", err)
						}
						if now := l.so().since(before); now.reads < 150 || now.served[victim.String()] < 20 {
							return errNotYet
						}
						return nil
					})
					during = l.so().since(before)
				case either:
					during = l.more(t, 200)
					l.ended(t)
					reason = a.status(victim).Reason
				}
				end()
				again := l.served(t, 5, victim.String())
				l.stop()
				t.Logf("during it: %v; reason %q; served again after %v; in all %v", during, reason,
					again.Round(time.Millisecond), l.so())
				if l.so().failed+l.so().busy > 0 {
					t.Logf("the plugin saw:%s", a.state())
				}
				l.noneFailed(t)
				if during.spared > 0 {
					t.Errorf("the master answered %d of %d reads for no reason:%s", during.spared, during.reads, l.report())
				}
			})
		}
	})
}
