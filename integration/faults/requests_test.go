package faults_test

import (
	"testing"
	"time"

	"gorm.io/gorm"

	"github.com/gorm-replicated/replicated"
)

// TestReadsInRequests has faults befall one slave after the other while requests go on to read from theirs:
// the plugin has a shorter way for that, the shortest if nobody observes it. A read that fails on it runs
// elsewhere all the same.
func TestReadsInRequests(t *testing.T) {
	for _, variant := range []struct {
		name    string
		timeout time.Duration
		prepare bool
		faults  []fault
	}{
		{"SlaveTimeout", slaveTimeout, false, []fault{frozen, blackHole, disconnected, killed}},
		// A read that hangs would hang.
		{"no SlaveTimeout, prepared", -1, true, []fault{refused, reset, lockedOut, killed}},
	} {
		t.Run(variant.name, func(t *testing.T) {
			eachEngine(t, func(t *testing.T, e *engine) {
				c := e.cluster(t)
				a := openWith(t, e, c, &gorm.Config{PrepareStmt: variant.prepare}, func(cfg *replicated.Config) {
					cfg.Failover.SlaveTimeout = variant.timeout
					cfg.Observer, cfg.DefaultIntent = nil, replicated.Master
				})
				eventually(t, "both serve", func() error { return a.serving(a.slaves[:2]...) })
				l := a.readInRequests(t, 100)
				l.operator = true
				for i, f := range variant.faults {
					victim := a.slaves[i%2]
					l.more(t, 30)
					end := f.befall(t, victim)
					during := l.more(t, 100)
					if f.name != disconnected.name {
						eventually(t, "it leaves", func() error { return a.notServing(victim) })
					}
					l.ended(t)
					end()
					again := eventually(t, "it serves again", func() error { return a.serving(victim) })
					t.Logf("%v %s: %v; it served again after %v", victim, f.name, during, again)
				}
				l.more(t, 30)
				l.stop()
				l.noneFailed(t)
			})
		})
	}
}
