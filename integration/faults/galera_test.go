package faults_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	mysqldriver "github.com/go-sql-driver/mysql"

	"github.com/gorm-replicated/replicated/integration/galera"
	"github.com/gorm-replicated/replicated/integration/servers"
)

var galeraNodes = galeraEngine(galera.Reading)

// galeraEngine is a Galera cluster, with what is added to the slaves' DSN.
func galeraEngine(reading string) *engine {
	e := mariaDBEngine("Galera", servers.StartGalera)
	e.group = true
	e.reading, e.source = reading, galera.Source{}
	e.lose = nil
	e.sever = func(ctx context.Context, s *servers.Server) (ending, error) {
		address, err := ask[string](ctx, s, "SELECT @@GLOBAL.wsrep_cluster_address")
		if err != nil {
			return nil, err
		}
		undo := func(ctx context.Context) error {
			return exec(ctx, s, "SET GLOBAL wsrep_cluster_address = '"+address+"'")
		}
		return undo, exec(ctx, s, "SET GLOBAL wsrep_cluster_address = ''")
	}
	// All nodes take writes.
	e.promote = func(_ context.Context, slaves []*servers.Server) (*servers.Server, error) {
		return slaves[0], nil
	}
	e.attach = func(ctx context.Context, former, _ *servers.Server) error { return former.Start(ctx) }
	return e
}

// TestNodeLeaves has a node leave its cluster: from then on it refuses reads, with error 1047. Clients that
// write and read notice nothing.
func TestNodeLeaves(t *testing.T) {
	servers.Want(t, "Galera")
	e := galeraNodes
	c := e.cluster(t)
	s := openSite(t, e, c, nil)
	other := s.control(t)
	writers := s.writers(t, 6, 50*time.Millisecond)
	l := s.read(t, 100)
	control := readOf(t, other, 20)
	l.served(t, 20, "slave 2", "slave 3")
	for cycle := range inSoak(2, 10) {
		victim := s.slaves[cycle%2]
		before, written := control.so(), writers.so().acked
		end := unstopped.befall(t, victim)
		eventually(t, "it leaves", func() error { return s.notServing(victim) })
		var refused *mysqldriver.MySQLError
		_, err := ask[int](t.Context(), victim.Server, "SELECT COUNT(*) FROM test.items")
		if !errors.As(err, &refused) || refused.Number != 1047 {
			t.Errorf("the node that left: %v, want error 1047", err)
		}
		eventually(t, "the control, dbresolver: reads fail", func() error {
			if control.so().failed == before.failed {
				return errNotYet
			}
			return nil
		})
		l.ended(t) // which may have begun before
		during := l.more(t, 100)
		if n := during.served[victim.String()]; n > 0 {
			t.Errorf("%d reads by the node that left", n)
		}
		eventually(t, "writes go on", func() error {
			if writers.so().acked < written+20 {
				return errNotYet
			}
			return nil
		})
		end()
		again := l.served(t, 5, victim.String())
		t.Logf("%v: %v; it served again after %v", victim, during, again.Round(time.Millisecond))
	}
	writers.stop()
	l.stop()
	control.stop()
	t.Logf("%v\nwriters: %v", l.so(), writers.so())
	l.noneFailed(t)
	writers.fine(t, "writers")
	must(t, c.CatchUp(t.Context()))
	for _, on := range append(slices.Clone(c.Slaves), c.Master) {
		s.compare(t, on)
	}
}

// TestNodeHeld has a node apply nothing of what it receives: reads on it wait until it does. The control are
// reads that do not wait.
func TestNodeHeld(t *testing.T) {
	servers.Want(t, "Galera")
	c := galeraNodes.cluster(t)
	for _, test := range []struct {
		name   string
		engine *engine
		stale  bool
	}{
		{"reads wait", galeraNodes, false},
		{"control: reads do not wait", galeraEngine(""), true},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := openSite(t, test.engine, c, nil)
			victim := s.slaves[0]
			eventually(t, "both serve", func() error { return s.serving(s.slaves[:2]...) })
			writers := s.writers(t, 6, 50*time.Millisecond)
			l := s.read(t, 50)
			l.served(t, 10, "slave 2", "slave 3")
			end := held.befall(t, victim)
			l.more(t, 10)
			began := time.Now()
			must(t, s.db.WithContext(t.Context()).Create(&Entry{Client: "held"}).Error)
			l.more(t, 50)
			if waits := l.waits(began); waits == test.stale {
				t.Errorf("a read waits until the node goes on: %v", waits)
			}
			if test.stale {
				eventually(t, "stale reads", func() error {
					if writers.so().stale == 0 {
						return errNotYet
					}
					return nil
				})
			}
			end()
			l.served(t, 5, victim.String())
			writers.more(t, 20)
			writers.stop()
			l.stop()
			t.Logf("%v\nwriters: %v", l.so(), writers.so())
			l.noneFailed(t)
			if !test.stale {
				writers.fine(t, "writers")
			}
		})
	}
}
