package faults_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/gorm-replicated/replicated"
)

// TestBothSlavesDown has all reads fall back to the master: as many as it is told to bear, and no others.
func TestBothSlavesDown(t *testing.T) {
	eachEngine(t, func(t *testing.T, e *engine) {
		c := e.cluster(t)
		for _, limit := range []int{4, 0} {
			t.Run(fmt.Sprintf("MaxOnMaster %d", limit), func(t *testing.T) {
				a := open(t, e, c, func(cfg *replicated.Config) { cfg.Failover.MaxOnMaster = limit })
				l := a.read(t, 100)
				l.served(t, 10, "slave 2", "slave 3")
				for _, n := range a.slaves[:2] {
					n.refuse()
				}
				l.more(t, 50) // the last of which begin when both are away
				for _, n := range a.slaves[:2] {
					eventually(t, "it leaves", func() error { return a.notServing(n) })
				}
				l.ended(t)
				if limit == 0 {
					if now := l.more(t, 100); now.served["master"] != now.reads-now.broken {
						t.Errorf("with no slave: %v", now)
					}
				} else {
					l = a.onlySome(t, l, limit)
				}
				for _, n := range a.slaves[:2] {
					must(t, n.accept())
				}
				again := l.served(t, 5, "slave 2", "slave 3")
				healthy := l.more(t, 50)
				l.stop()
				t.Logf("%v; both served again after %v", l.so(), again.Round(time.Millisecond))
				if l.so().failed > 0 {
					t.Errorf("failed: %s", l.report())
				}
				if healthy.busy > 0 || limit == 0 && l.so().busy > 0 {
					t.Errorf("ErrMasterBusy: %d reads, %d of them with both slaves serving", l.so().busy, healthy.busy)
				}
			})
		}
	})
}

// onlySome has as many reads run on the master as may, and tries more. Of the two loads, before and after
// that, it ends the first, which would take the places, and returns the second.
func (a *app) onlySome(t *testing.T, l *load, limit int) *load {
	t.Helper()
	l.stop()
	if l.so().failed > 0 {
		t.Errorf("before: %s", l.report())
	}
	var held []*sql.Rows
	for range limit {
		rows, err := a.db.WithContext(t.Context()).Model(&Item{}).Rows()
		if err != nil {
			t.Fatalf("with %d of %d reads on the master: %v", len(held), limit, err)
		}
		defer rows.Close()
		held = append(held, rows)
	}
	during := a.read(t, 200)
	a.masterBusy(t)
	during.more(t, 100)
	during.stop()
	t.Logf("with %d reads on the master: %v", limit, during.so())
	if s := during.so(); s.busy != s.reads {
		t.Errorf("with %d reads on the master: want all others busy: %s", limit, during.report())
	}
	// One place is free again, and only one.
	must(t, drain(held[0], items))
	must(t, held[0].Close())
	eventually(t, "a place on the master is free", func() error {
		return forms[0].read(a.db.WithContext(t.Context()), nil)
	})
	for i, f := range forms {
		if err := f.read(a.db.WithContext(t.Context()), nil); err != nil {
			// The one before has ended, and its place is free a moment later.
			eventually(t, fmt.Sprintf("%s, the %d. in that place", f.name, i+1), func() error {
				return f.read(a.db.WithContext(t.Context()), nil)
			})
		}
	}
	for _, rows := range held[1:] {
		must(t, drain(rows, items))
		must(t, rows.Close())
	}
	// All at once: the limit holds, and nothing leaks.
	var wg sync.WaitGroup
	var mu sync.Mutex
	outcomes := map[string]int{}
	for i := range 200 {
		wg.Go(func() {
			err := forms[i%len(forms)].read(a.db.WithContext(t.Context()), nil)
			mu.Lock()
			defer mu.Unlock()
			outcomes[fmt.Sprint(err)]++
		})
	}
	wg.Wait()
	t.Logf("200 at once: %v", outcomes)
	if n := outcomes["<nil>"]; n == 0 || n+outcomes[replicated.ErrMasterBusy.Error()] != 200 {
		t.Errorf("200 reads at once: %v", outcomes)
	}
	return a.read(t, 100)
}

// masterBusy fails the test unless all reads that fall back to the master are refused there.
func (a *app) masterBusy(t *testing.T) {
	t.Helper()
	for _, f := range forms {
		if err := f.read(a.db.WithContext(t.Context()), nil); !errors.Is(err, replicated.ErrMasterBusy) {
			t.Errorf("%s, one more than MaxOnMaster: %v, want ErrMasterBusy", f.name, err)
		}
		// Who has to read the master is none of those.
		if err := f.read(a.db.WithContext(replicated.WithMaster(t.Context())), nil); err != nil {
			t.Errorf("%s, by WithMaster: %v", f.name, err)
		}
	}
}

// TestMasterDown kills the master for three times MaxLag: slaves are read as if nothing had happened.
func TestMasterDown(t *testing.T) {
	eachEngine(t, func(t *testing.T, e *engine) {
		c := e.cluster(t)
		// More than it takes until it is known that the master does not answer, or slaves leave before that.
		maxLag := 3 * time.Second
		if e.silent {
			maxLag += 2 * time.Second // in which a question is answered or fails, twice
		}
		a := open(t, e, c, func(cfg *replicated.Config) { cfg.MaxLag = maxLag })
		l := a.read(t, 100)
		l.served(t, 10, "slave 2", "slave 3")
		healed(t, ensure(c.Master))
		must(t, c.Master.Kill())
		before := l.so()
		down := time.Now()
		for time.Since(down) < 3*maxLag {
			ctx, cancel := context.WithTimeout(t.Context(), hangs)
			err := a.db.WithContext(ctx).Create(&Entry{Client: "nobody"}).Error
			cancel()
			if err == nil || errors.Is(err, replicated.ErrMasterBusy) || errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("a write without a master: %v, want the driver's error", err)
			}
			pass(t.Context(), 100*time.Millisecond)
		}
		l.ended(t)
		during := l.so().since(before)
		state := a.state()
		must(t, c.Master.Start(t.Context()))
		entry := Entry{Client: "again"}
		wrote := eventually(t, "a write after the master is back", func() error {
			return a.db.WithContext(t.Context()).Create(&entry).Error
		})
		eventually(t, "both slaves serve, and have the write", func() error {
			ctx := replicated.WithMaxStaleness(t.Context(), 5*time.Second)
			ctx, trail := tracked(ctx)
			var seen Entry
			if err := a.db.WithContext(ctx).Limit(1).Find(&seen, entry.ID).Error; err != nil {
				return err
			}
			if server, _ := trail.last(); seen.ID != entry.ID || server == "master" {
				return fmt.Errorf("%s shows %+v", server, seen)
			}
			return a.serving(a.slaves[:2]...)
		})
		l.stop()
		t.Logf("%v; while the master was down: %v; the first write %v after it was back",
			l.so(), during, wrote.Round(time.Millisecond))
		l.noneFailed(t)
		if n := during.served["slave 2"] + during.served["slave 3"]; n != during.reads-during.broken {
			t.Errorf("while the master was down: %v; then the plugin saw:%s", during, state)
		}
	})
}

// TestReadOnlyMaster has the master refuse writes for a while: they fail with what it says, and reads go on.
func TestReadOnlyMaster(t *testing.T) {
	eachEngine(t, func(t *testing.T, e *engine) {
		a := open(t, e, e.cluster(t), nil)
		client := fmt.Sprintf("read-only-%d", clients.Add(1))
		n := 0
		write := func() error {
			n++
			return a.db.WithContext(t.Context()).Create(&Entry{Client: client, N: n}).Error
		}
		master := a.db.WithContext(replicated.WithMaster(t.Context()))
		l := a.read(t, 100)
		l.served(t, 10, "slave 2", "slave 3")
		must(t, write())
		end := readOnly.befall(t, a.master)
		eventually(t, "the control: writes fail", func() error { // PostgreSQL tells its processes a moment later
			if write() == nil {
				return errNotYet
			}
			return nil
		})
		before, since := l.so(), n
		for range 20 {
			if err := write(); !saysReadOnly(err) {
				t.Errorf("a write: %T: %v, want that the master is read-only", err, err)
			}
			must(t, forms[0].read(master, nil))
			l.more(t, 5)
			must(t, a.serving(a.slaves[:2]...))
		}
		during := l.so().since(before)
		end()
		again := eventually(t, "a write", write)
		l.stop()
		t.Logf("while the master was read-only: %v; a write %v after that", during, again.Round(time.Millisecond))
		l.noneFailed(t)
		if during.served["master"] > 0 {
			t.Errorf("while the master was read-only, it served: %v", during)
		}
		var found int64
		failed := master.Model(&Entry{}).Where("client = ? AND n BETWEEN ? AND ?", client, since, since+20)
		must(t, failed.Count(&found).Error)
		if found > 0 {
			t.Errorf("%d of the writes that failed are there", found)
		}
	})
}

// saysReadOnly tells whether a server refused a write because it is read-only.
func saysReadOnly(err error) bool {
	var ofMariaDB *mysql.MySQLError
	var ofPostgreSQL *pgconn.PgError
	return errors.As(err, &ofMariaDB) && ofMariaDB.Number == 1290 ||
		errors.As(err, &ofPostgreSQL) && ofPostgreSQL.Code == "25006"
}

// TestLastSlaveWithoutMaster has the master go down just when the only slave that is left has come back, and
// does not get its whole share of the reads yet. There is nobody else to serve the rest.
func TestLastSlaveWithoutMaster(t *testing.T) {
	eachEngine(t, func(t *testing.T, e *engine) {
		c := e.cluster(t)
		a := open(t, e, c, func(cfg *replicated.Config) { cfg.Slaves = cfg.Slaves[:1] })
		last := a.slaves[0]
		l := a.read(t, 100)
		l.served(t, 10, last.String())
		last.refuse()
		eventually(t, "it leaves", func() error { return a.notServing(last) })
		must(t, last.accept())
		eventually(t, "it comes back", func() error { return a.serving(last) })
		l.ended(t) // what began while it was away has nowhere else to go than to the master
		before := l.so()
		a.master.refuse()
		l.more(t, 150)
		l.ended(t)
		during := l.so().since(before)
		must(t, a.master.accept())
		l.stop()
		t.Logf("while the master was down, and the slave had just come back: %v", during)
		l.noneFailed(t)
	})
}

// TestPromotion has one of the slaves take the master's place, as the operator's tools do it: the address of
// the master leads there from then on. The application is not restarted.
func TestPromotion(t *testing.T) {
	eachEngine(t, func(t *testing.T, e *engine) {
		c := e.own(t, 2)
		line := newTimeline()
		site := openSite(t, e, c, nil)
		a := site.app
		eventually(t, "both serve", func() error { return a.serving(a.slaves...) })
		w := site.writers(t, 6, 50*time.Millisecond)
		l := a.read(t, 50)
		w.more(t, 50)
		w.stop()
		must(t, c.CatchUp(t.Context())) // what is not on the slave that is promoted would be lost, by its nature
		site.trouble.begin()
		must(t, c.Master.Kill())
		line.add("the master is killed")
		l.more(t, 25)
		promoted, err := e.promote(t.Context(), c.Slaves)
		must(t, err)
		t.Cleanup(func() {
			if t.Failed() {
				for _, s := range c.Slaves {
					t.Logf("%v's log:\n%s", s, logged(context.Background(), s, e.data))
				}
			}
		})
		line.add("%v is promoted", promoted)
		must(t, a.master.lead(promoted))
		site.trouble.end() // for some time yet a write may get one of the old connections, and fails with it
		line.add("the master's address leads there")
		// A slave that is none any longer has no business among them, if it can be told; by position at the latest.
		var former, other *node
		for _, n := range a.slaves {
			if n.Server == promoted {
				former = n
			} else {
				other = n
			}
		}
		wrote := eventually(t, "a write", func() error {
			return a.db.WithContext(t.Context()).Create(&Entry{Client: "again"}).Error
		})
		w = site.writers(t, 6, 50*time.Millisecond)
		// Their reads are by the other slave again.
		before := w.so()
		read := eventually(t, "the other slave is read by those who write", func() error {
			if now := w.so(); now.served[other.String()] < before.served[other.String()]+20 {
				return fmt.Errorf("%v%s", now, a.state())
			}
			return nil
		})
		w.more(t, 100)
		line.add("%v serves", other)
		t.Logf("writes after %v, reads by %v after %v; %v was promoted; status %+v", wrote.Round(time.Millisecond),
			other, read.Round(time.Millisecond), promoted, a.status(former))

		// The former master comes back as a slave, where the promoted one was.
		must(t, e.attach(t.Context(), c.Master, promoted))
		must(t, former.lead(c.Master))
		line.add("%v's address leads to the former master, which is a slave now", former)
		l.served(t, 5, former.String())
		w.more(t, 50)
		w.stop()
		l.stop()
		t.Logf("%v\nwriters: %v", l.so(), w.so())
		w.fine(t, "writers")
		if s := l.so(); s.failed > 0 {
			t.Errorf("reads: %s", l.report())
		}
		site.compare(t, promoted)
		if t.Failed() {
			t.Logf("timeline:\n%v\nthe plugin sees:%s", line, a.state())
		}
	})
}
