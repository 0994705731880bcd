package faults_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"gorm.io/gorm"

	"github.com/gorm-replicated/replicated"
	"github.com/gorm-replicated/replicated/integration/servers"
)

// TestKilledSlave kills one slave after the other, by kill -9, and starts it again, under load.
func TestKilledSlave(t *testing.T) {
	eachEngine(t, func(t *testing.T, e *engine) {
		c := e.cluster(t)
		a := open(t, e, c, nil)
		other := a.control(t)
		a.writes(t, 10)
		l := a.read(t, 200)
		control := readOf(t, other, 60)
		l.served(t, 20, "slave 2", "slave 3")
		var backAfter []time.Duration
		var down tally
		for cycle := range inSoak(3, 10) {
			victim := a.slaves[cycle%2]
			before := control.so()
			healed(t, ensure(victim.Server))
			must(t, victim.Kill())
			l.more(t, 200)
			l.ended(t)
			eventually(t, "the control, dbresolver: reads fail", func() error {
				if control.so().failed == before.failed {
					return errNotYet
				}
				return nil
			})
			lost := control.so().since(before)
			down.reads, down.failed = down.reads+lost.reads, down.failed+lost.failed
			must(t, victim.Start(t.Context()))
			backAfter = append(backAfter, l.served(t, 1, victim.String()).Round(time.Millisecond))
		}
		l.stop()
		control.stop()
		t.Logf("%v; a slave that was started again served after %v", l.so(), backAfter)
		t.Logf("the control, dbresolver: %d of %d reads failed while a slave was down", down.failed, down.reads)
		l.noneFailed(t)
	})
}

// ensure returns what starts a server unless it runs.
func ensure(s *servers.Server) func(context.Context) error {
	return func(ctx context.Context) error {
		if err := s.Start(ctx); err != nil && !strings.Contains(err.Error(), "it is running") {
			return err
		}
		return nil
	}
}

// thawed returns what thaws a server if it is frozen.
func thawed(s *servers.Server) func(context.Context) error {
	return func(context.Context) error { return s.Thaw() }
}

// goesOn thaws a server. A node that its cluster has thrown out notices that late: until it is back its reads
// wait.
func (n *node) goesOn(ctx context.Context) error {
	if err := n.Thaw(); err != nil || n.engine.positioned() {
		return err
	}
	return n.CatchUp(ctx)
}

// TestFrozenSlave has a slave stand still, by SIGSTOP: it accepts connections, and does not answer.
func TestFrozenSlave(t *testing.T) {
	eachEngine(t, func(t *testing.T, e *engine) {
		c := e.cluster(t)
		a := open(t, e, c, nil)
		other := a.control(t)
		a.writes(t, 10)
		l := a.read(t, 200)
		control := readOf(t, other, 20)
		for cycle := range inSoak(2, 10) {
			victim := a.slaves[cycle%2]
			l.served(t, 20, "slave 2", "slave 3")
			healed(t, thawed(victim.Server))
			must(t, victim.Freeze())
			left := eventually(t, "the frozen slave leaves", func() error { return a.notServing(victim) })
			l.ended(t) // that is, none waits for the thaw
			ended := time.Now()
			now := l.more(t, 100)
			if !control.waits(ended) {
				t.Error("the control, dbresolver: no read waits for the thaw")
			}
			must(t, victim.Thaw())
			// More than what had begun to answer before it was frozen.
			again := l.served(t, 10, victim.String())
			t.Logf("%v left after %v, served %v after its thaw; meanwhile %v", victim,
				left.Round(time.Millisecond), again.Round(time.Millisecond), now)
			if n := now.served[victim.String()]; n > 0 {
				t.Errorf("%d reads by a server that is frozen", n)
			}
		}
		l.stop()
		control.stop()
		t.Logf("%v", l.so())
		l.noneFailed(t)
	})
}

// TestLostPosition has a slave fall to an earlier position than it has shown. Who wrote before, and has seen
// it there, never reads what it has then.
func TestLostPosition(t *testing.T) {
	eachOf(t, (*engine).positioned, func(t *testing.T, e *engine) {
		a := open(t, e, e.cluster(t), func(cfg *replicated.Config) { cfg.Slaves = cfg.Slaves[:1] })
		victim := a.slaves[0]
		client := fmt.Sprintf("lost-%d", clients.Add(1))
		var token string
		n := 0
		write := func() error {
			ctx := a.plugin.WithToken(t.Context(), "")
			n++
			err := a.db.WithContext(ctx).Create(&Entry{Client: client, N: n}).Error
			if err == nil {
				token, err = a.plugin.Token(ctx)
			}
			return err
		}
		// read returns the server that showed what was written last.
		read := func() (string, error) {
			ctx, trail := tracked(a.plugin.WithToken(t.Context(), token))
			var latest Entry
			err := a.db.WithContext(ctx).Where("client = ?", client).Order("n DESC").Limit(1).Find(&latest).Error
			server, routes := trail.last()
			if err == nil && latest.N != n {
				err = fmt.Errorf("%d was written, and %d is read: %v", n, latest.N, routes)
			}
			return server, err
		}
		shows := func() error {
			server, err := read()
			if err == nil && server != victim.String() {
				err = fmt.Errorf("%s shows it; the plugin sees:%s", server, a.state())
			}
			return err
		}
		must(t, write())
		eventually(t, "the slave shows it", shows)

		var reader sync.WaitGroup
		fallen := make(chan struct{})
		stopped := sync.OnceFunc(func() { close(fallen); reader.Wait() })
		t.Cleanup(stopped)
		reads, served := 0, map[string]int{}
		falls := fault{name: "falls", begin: func(ctx context.Context, n *node) (ending, error) {
			return e.lose(ctx, n.Server, func(context.Context) error {
				if err := write(); err != nil {
					return err
				}
				if err := await(ctx, shows); err != nil {
					return err
				}
				reader.Go(func() {
					for {
						select {
						case <-fallen:
							return
						default:
						}
						server, err := read()
						if err != nil {
							t.Errorf("while it falls: %v", err)
							return
						}
						served[server]++
						reads++
					}
				})
				return nil
			})
		}}
		end := falls.befall(t, victim)
		stopped()
		known := func() error { return a.serving(victim) } // it is back, and within MaxLag
		if e.forgets {
			known = func() error { return a.notServing(victim) } // and it gets no more rows
			must(t, write())
		}
		eventually(t, "the plugin has asked it", known)
		// The control: so reads who asks it past the plugin.
		there, err := ask[int](t.Context(), victim.Server,
			fmt.Sprintf("SELECT COALESCE(MAX(n), 0) FROM %sentries WHERE client = '%s'", e.schema, client))
		must(t, err)
		if there >= n {
			t.Errorf("the control: it has %d of %d entries: has it lost anything?", there, n)
		}
		for range 200 {
			if server, err := read(); err != nil || server != "master" {
				t.Fatalf("by %s: %v; the plugin sees:%s", server, err, a.state())
			}
		}
		must(t, known())
		reason := a.status(victim).Reason
		end()
		again := eventually(t, "the slave shows it again", shows)
		t.Logf("it had %d of %d entries; reason %q; %d reads while it fell, by %v; it shows all again after %v",
			there, n, reason, reads, served, again.Round(time.Millisecond))
	})
}

// TestSlowQuery lets a query on a healthy slave take many times SlaveTimeout.
func TestSlowQuery(t *testing.T) {
	eachEngine(t, func(t *testing.T, e *engine) {
		c := e.cluster(t)
		a := open(t, e, c, nil)
		l := a.read(t, 50)
		const word = "rather_slow"
		takes := inSoak(3*time.Second, 10*time.Second)
		ctx, trail := tracked(t.Context())
		type result struct {
			took time.Duration
			err  error
		}
		done := make(chan result, 1)
		go func() {
			var answer int
			began := time.Now()
			err := a.db.WithContext(ctx).Raw(e.slow(takes, word)).Row().Scan(&answer)
			done <- result{time.Since(began), err}
		}()
		all := append([]*servers.Server{c.Master}, c.Slaves...)
		seen := map[string]bool{}
		ticker := time.NewTicker(50 * time.Millisecond)
		defer ticker.Stop()
		for running := true; running; {
			select {
			case r := <-done:
				if running = false; r.err != nil || r.took < takes {
					t.Errorf("the query took %v: %v", r.took, r.err)
				}
			case <-ticker.C:
				for _, s := range all {
					found, err := lines(t.Context(), s, e.active, "%"+word+"%")
					must(t, err)
					for _, line := range found {
						seen[fmt.Sprintf("%v: %s", s, line)] = true
					}
				}
				if err := a.serving(a.slaves[:2]...); err != nil {
					t.Fatal(err)
				}
			}
		}
		l.stop()
		l.noneFailed(t)
		_, routes := trail.last()
		t.Logf("%v; routes %v", seen, routes)
		if len(seen) != 1 || len(routes) != 1 || !strings.HasPrefix(routes[0], "slave") {
			t.Errorf("it ran as %v, by %v; want once, on a slave", seen, routes)
		}
	})
}

// TestTruncated cuts the connection while a large answer is being read: that is an error, and never a short
// answer.
func TestTruncated(t *testing.T) {
	eachEngine(t, func(t *testing.T, e *engine) {
		c := e.cluster(t)
		a := open(t, e, c, func(cfg *replicated.Config) { cfg.Slaves = cfg.Slaves[:1] })
		victim := a.slaves[0]
		eventually(t, "it serves", func() error { return a.serving(victim) })
		large := map[string]func(*gorm.DB, *trail) error{
			"Rows": func(db *gorm.DB, _ *trail) error { return readRows(db, items) },
			"Find": func(db *gorm.DB, _ *trail) error {
				var all []Item
				if err := db.Find(&all).Error; err != nil {
					return err
				} else if len(all) != items {
					return fmt.Errorf("%w: %d items", errTruncated, len(all))
				}
				return nil
			},
			"prepared": func(db *gorm.DB, _ *trail) error {
				return readRows(db.Session(&gorm.Session{PrepareStmt: true}), items)
			},
		}
		for name, read := range large {
			eventually(t, "it serves", func() error { return a.serving(victim) })
			must(t, victim.poison("limit_data", "downstream", attributes{"bytes": 30000}))
			ctx, trail := tracked(t.Context())
			err := read(a.db.WithContext(ctx), trail)
			server, routes := trail.last()
			t.Logf("%s, of which half arrived: %v; by %v", name, err, routes)
			trail.mu.Lock()
			handed := !trail.answered.IsZero()
			trail.mu.Unlock()
			if err == nil && server == victim.String() ||
				strings.Contains(fmt.Sprint(err), errTruncated.Error()) || err != nil && !handed {
				t.Errorf("%s: %v, by %v; rows were handed out: %v; want an error after that", name, err, routes, handed)
			}
			if err := forms[0].read(a.db.WithContext(ctx), nil); err != nil {
				t.Errorf("%s: the next read: %v", name, err)
			}
			victim.cleanse()
		}
	})
}

// TestSetSlaves adds a slave and takes one away, under load.
func TestSetSlaves(t *testing.T) {
	eachEngine(t, func(t *testing.T, e *engine) {
		c := e.cluster(t)
		a := open(t, e, c, nil)
		second, third, fourth := a.slaves[0], a.slaves[1], a.slaves[2]
		a.writes(t, 10)
		l := a.read(t, 200)
		l.served(t, 20, "slave 2", "slave 3")
		must(t, a.plugin.SetSlaves(a.dialector(second), a.dialector(third), a.dialector(fourth)))
		added := l.served(t, 20, "slave 2", "slave 3", "slave 4")

		// Somebody is reading from the one that is to go.
		var open func() error
		for open == nil {
			ctx, trail := tracked(t.Context())
			rows, err := a.db.WithContext(ctx).Model(&Item{}).Rows()
			must(t, err)
			finish := func() error { defer rows.Close(); return drain(rows, items) }
			if server, _ := trail.last(); server == third.String() {
				open = finish
			} else {
				must(t, finish())
			}
		}
		must(t, a.plugin.SetSlaves(a.dialector(second), a.dialector(fourth)))
		l.ended(t) // which may have begun before
		after := l.more(t, 200)
		if n := after.served[third.String()]; n > 0 {
			t.Errorf("%d reads by the slave that was taken away", n)
		}
		if s := a.status(third); s.ID != "" {
			t.Errorf("Status still has it: %+v", s)
		}
		if err := open(); err != nil {
			t.Errorf("reading on from a slave that was taken away: %v", err)
		}
		none := eventually(t, "it has no connections", func() error {
			n, err := e.connected(t.Context(), third.Server)
			if err == nil && n > 0 {
				err = fmt.Errorf("%d connections", n)
			}
			return err
		})
		// And back, which is a slave like any other.
		must(t, a.plugin.SetSlaves(a.dialector(second), a.dialector(third), a.dialector(fourth)))
		again := l.served(t, 5, third.String())
		l.stop()
		t.Logf("%v; the new slave had served after %v, the old one had no connections after %v, "+
			"and served again after %v", l.so(),
			added.Round(time.Millisecond), none.Round(time.Millisecond), again.Round(time.Millisecond))
		l.noneFailed(t)
		ids := []string{}
		for _, s := range a.plugin.Status().Groups[0].Servers {
			ids = append(ids, a.name(s.ID))
		}
		if want := []string{"master", "slave 2", "slave 3", "slave 4"}; !slices.Equal(ids, want) {
			t.Errorf("Status has %v, want %v", ids, want)
		}
	})
}
