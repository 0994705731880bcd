package replicated_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	driversql "github.com/go-sql-driver/mysql"
	"gorm.io/gorm"

	"github.com/gorm-replicated/replicated"
)

// errNoKey is what go-sql-driver says where caching_sha2_password gets neither TLS nor the server's key.
var errNoKey = errors.New("unexpected resp from server for caching_sha2_password")

// serving fails the test unless these slaves serve, and no others.
func (s *setup) serving(t testing.TB, ids ...string) {
	t.Helper()
	var serve []string
	for _, id := range s.slaveIDs() {
		if s.state(id).Serving {
			serve = append(serve, id)
		}
	}
	expect(t, serve, ids...)
}

// TestAStatementsErrorBlamesNobody has statements raise what servers say that refuse connections, or are shut
// down. Each comes back as it is, the slaves serve on, and the master is left alone.
func TestAStatementsErrorBlamesNobody(t *testing.T) {
	errs := []error{
		raised("28P01"), raised("28000"), raised("08000"), raised("53300"), raised("57P03"), raised("3D000"),
		&pgError{"08001", "ERROR", "connect_pg_server"}, // of a foreign table
		&pgError{"08P01", "ERROR", ""},
	}
	for _, n := range []uint16{1040, 1044, 1045, 1049, 1129, 1130, 1203, 1226, 1862, 3118, 3159, 4151} {
		errs = append(errs, mysqlError(n)) // of SIGNAL
	}
	for _, err := range errs {
		t.Run(err.Error(), func(t *testing.T) {
			start := func() (*setup, *gorm.DB) {
				s := newOpened(t, 2, func(c *replicated.Config) { c.Failover.MaxOnMaster, c.Pool.MaxIdle = 1, -1 })
				return s, s.in(replicated.WithSlave(t.Context()), nil)
			}
			s, db := start()
			runs := 0
			for _, f := range s.slaves {
				f.fail = func(string) error { runs++; return err }
			}
			for range 5 {
				if got := db.Find(&[]User{}).Error; !errors.Is(got, err) {
					t.Errorf("got %v", got)
				}
			}
			if runs != 5 {
				t.Errorf("ran %d times", runs)
			}
			s.serving(t, "db1:3306", "db2:3306")
			expect(t, slices.Compact(s.routes.take()), "db1:3306: context")

			s, db = start() // the control
			for _, f := range s.slaves {
				f.connect = func(context.Context) error { return err }
			}
			if got := db.Find(&[]User{}).Error; got != nil {
				t.Errorf("the control, they refuse connections with it: %v", got)
			}
			s.serving(t)
			expect(t, s.log.servers(), "master")
		})
	}
}

// TestAStatementThatBreaksItsConnection has statements end connections to slaves that serve.
func TestAStatementThatBreaksItsConnection(t *testing.T) {
	for _, err := range []error{
		driversql.ErrInvalidConn, io.EOF, io.ErrUnexpectedEOF, fatal("XX000"), mysqlError(1927), mysqlError(1053),
		errRefused, // as a driver.Valuer may have it
	} {
		for _, test := range []struct {
			name   string
			slaves int
			times  int // it breaks that many connections
			routes []string
		}{
			{"once", 2, 1, []string{"db1:3306: context", "db2:3306: failover"}},
			{"twice", 2, 2, []string{"db1:3306: context", "db2:3306: failover"}},
			{"each", 3, 9, []string{"db1:3306: context", "db2:3306: failover"}},
			{"once, a single slave", 1, 1, []string{"db1:3306: context", "db1:3306: failover"}},
			{"each, a single slave", 1, 9, []string{"db1:3306: context", "db1:3306: failover"}},
		} {
			t.Run(fmt.Sprintf("%v/%s", err, test.name), func(t *testing.T) {
				s := newOpened(t, test.slaves, func(c *replicated.Config) { c.Failover.MaxOnMaster = 1 })
				var broken int
				for _, f := range s.slaves {
					f.fail = func(string) error {
						if broken++; broken <= test.times {
							return err
						}
						return nil
					}
				}
				got := s.in(replicated.WithSlave(t.Context()), nil).Find(&[]User{}).Error
				if test.times == 1 && got != nil || test.times > 1 && !errors.Is(got, err) {
					t.Errorf("got %v", got)
				}
				if broken != 2 {
					t.Errorf("ran %d times", broken)
				}
				expect(t, s.routes.take(), test.routes...)
				s.serving(t, []string{"db1:3306", "db2:3306", "db3:3306"}[:test.slaves]...)
				if n := s.plugin.Status().Groups[0].OnMaster; n != 0 {
					t.Errorf("OnMaster is %d", n)
				}
			})
		}
		t.Run(fmt.Sprintf("%v/the control: it does not serve", err), func(t *testing.T) {
			s := newOpened(t, 1, nil)
			s.slaves[0].fail = func(string) error { return err }
			s.slaves[0].ping = func(context.Context) error { return err }
			if err := s.in(replicated.WithSlave(t.Context()), nil).Find(&[]User{}).Error; err != nil {
				t.Error(err)
			}
			expect(t, s.log.servers(), "master")
			s.serving(t)
		})
	}
}

// TestOneMoreRun has a slave that serves break a statement's connection, and then refuse the one more run
// that it gets, each time anew, for a moment's reason.
func TestOneMoreRun(t *testing.T) {
	conflict := &pgError{"40001", "ERROR", "ProcessInterrupts"}
	for _, test := range []struct {
		name   string
		first  error
		wants  error
		routes []string
	}{
		{"it broke its connection", io.EOF, io.EOF, []string{"db1:3306: context", "db1:3306: failover"}},
		{"the control: it did not", conflict, nil, []string{"db1:3306: context", "master: failover"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := newOpened(t, 1, nil)
			runs := 0
			s.slaves[0].fail = func(string) error {
				switch runs++; {
				case runs == 1:
					return test.first
				case runs < 10: // there is an end to it where the test fails
					return conflict
				}
				return nil
			}
			err := s.in(replicated.WithSlave(t.Context()), nil).Find(&[]User{}).Error
			if !errors.Is(err, test.wants) {
				t.Errorf("got %v, want %v", err, test.wants)
			}
			expect(t, s.routes.take(), test.routes...)
			s.serving(t, "db1:3306")
		})
	}
}

// TestWhatBreaksIsKeptOffTheMaster has the rules change while a statement breaks its connection: they would
// now have it run on the master.
func TestWhatBreaksIsKeptOffTheMaster(t *testing.T) {
	for _, test := range []struct {
		name      string
		meanwhile func(*replicated.Plugin)
		answers   []string
	}{
		{"reads on slaves are switched off", func(p *replicated.Plugin) { p.SetAutoReadOnSlave(false) }, nil},
		{"shadow mode", func(p *replicated.Plugin) { p.SetShadow(true) }, nil},
		{"the control: nothing changes", func(*replicated.Plugin) {}, []string{"db2"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := newOpened(t, 2, func(c *replicated.Config) { c.DefaultIntent = replicated.Slave })
			s.slaves[0].fail = func(string) error { test.meanwhile(s.plugin); return io.EOF }
			err := s.db.WithContext(t.Context()).Find(&[]User{}).Error
			if fails := test.answers == nil; fails != errors.Is(err, io.EOF) {
				t.Errorf("got %v", err)
			}
			expect(t, s.log.servers(), test.answers...)
			for _, r := range s.routes.take() {
				if strings.HasPrefix(r, "master") {
					t.Errorf("routed: %s", r)
				}
			}
		})
	}
}

// TestASessionThatIsEnded has an operator end a session: nothing of it runs again. The control is a shutdown,
// which says the same, and takes no questions.
func TestASessionThatIsEnded(t *testing.T) {
	for _, test := range []struct {
		name    string
		down    bool
		answers []string
	}{
		{"by an operator", false, nil},
		{"the control: by a shutdown", true, []string{"db2"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := newOpened(t, 2, nil)
			idle(t, s, 3)
			s.slaves[0].fail = func(string) error { return fatal("57P01") }
			s.slaves[0].ping = func(context.Context) error {
				if test.down {
					return fatal("57P03")
				}
				return nil
			}
			err := s.in(replicated.WithSlave(t.Context()), nil).Find(&[]User{}).Error
			if test.down == (err != nil) {
				t.Errorf("got %v", err)
			}
			expect(t, s.log.servers(), test.answers...)
			state := s.state("db1:3306")
			if state.Serving == test.down {
				t.Errorf("Status: %+v", state)
			}
			if n := state.Pool.Idle; !test.down && n > 1 { // the driver would close the one under the statement
				t.Errorf("%d idle connections are left, which may have ended, too", n)
			}
		})
	}
}

// idle has the first slave's pool keep n connections.
func idle(t *testing.T, s *setup, n int) {
	t.Helper()
	var open []*sql.Rows
	for range n {
		rows, err := s.in(replicated.WithSlave(t.Context()), nil).Model(&User{}).Rows()
		if err != nil {
			t.Fatal(err)
		}
		open = append(open, rows)
	}
	for _, rows := range open {
		rows.Close()
	}
	if got := s.state("db1:3306").Pool.Idle; got != n {
		t.Fatalf("%d connections are idle, want %d", got, n)
	}
	s.log.take()
}

// TestRefusedConnections has slaves refuse connections while what is connected goes on. No read fails, none
// is tried on such a slave again, and Status does not say that it serves, until it takes connections again.
func TestRefusedConnections(t *testing.T) {
	timeout := &net.OpError{Op: "dial", Err: context.DeadlineExceeded} // for errors.Is, as one of Go's
	errs := []error{errNoKey, errRefused, timeout, fatal("28000"), raised("P0001")}
	for _, n := range []uint16{1040, 1044, 1045, 1049, 1129, 1226, 1862, 3118, 3159, 4151, 65000} {
		errs = append(errs, mysqlError(n))
	}
	for _, err := range errs {
		for _, watched := range []bool{false, true} {
			bubble(t, fmt.Sprintf("%v, watched %v", err, watched), func(t *testing.T) {
				h := newHistory()
				h.set("master", 1)
				h.replay("db1", "db2")
				s := newOpened(t, 2, func(c *replicated.Config) {
					c.Pool.MaxLifetime = time.Second
					if watched {
						c.Probe.Interval, c.Probe.Source = 0, h
					}
				})
				var refuses atomic.Bool
				var refused atomic.Int64
				s.slaves[0].connect = func(context.Context) error {
					if refuses.Load() {
						refused.Add(1)
						return err
					}
					return nil
				}
				db := s.in(replicated.WithSlave(endless(t)), nil)
				read := func(d time.Duration) {
					t.Helper()
					for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
						if err := db.Find(&[]User{}).Error; err != nil {
							t.Error(err)
						}
					}
				}
				read(3 * time.Second)
				s.serving(t, "db1:3306", "db2:3306")
				refuses.Store(true)
				read(2 * time.Second)
				s.serving(t, "db2:3306")
				s.routes.take()
				tried := refused.Load()
				read(time.Minute)
				s.serving(t, "db2:3306")
				expect(t, slices.Compact(s.routes.take()), "db2:3306: context")
				if n := refused.Load() - tried; n > 70 {
					t.Errorf("tried to connect %d times within a minute", n)
				}
				refuses.Store(false)
				read(20 * time.Second)
				s.serving(t, "db1:3306", "db2:3306")
				if why := s.state("db1:3306").Reason; !watched && why != "Probe.Interval is negative" {
					t.Errorf("Status says that it has no position because %s", why)
				}
			})
		}
	}
}

// TestWaitingForAConnectionIsNoRefusal has reads wait for a connection of a full pool until their contexts
// end.
func TestWaitingForAConnectionIsNoRefusal(t *testing.T) {
	for _, connecting := range []bool{false, true} {
		bubble(t, fmt.Sprintf("while one is made %v", connecting), func(t *testing.T) {
			s := newOpened(t, 1, func(c *replicated.Config) { c.Pool.MaxOpen, c.Failover.SlaveTimeout = 1, -1 })
			hold := func(ctx context.Context) error { return pause(ctx, 10*time.Second) }
			if connecting {
				s.slaves[0].connect = hold
			} else {
				s.slaves[0].run = func(ctx context.Context, _ string) error { return hold(ctx) }
			}
			first := make(chan error)
			go func() { first <- s.in(replicated.WithSlave(endless(t)), nil).Find(&[]User{}).Error }()
			ctx, cancel := context.WithTimeout(replicated.WithSlave(endless(t)), time.Second)
			defer cancel()
			if err := s.db.WithContext(ctx).Find(&[]User{}).Error; !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("got %v", err)
			}
			if err := <-first; err != nil {
				t.Errorf("the control, who has the time: %v", err)
			}
			s.serving(t, "db1:3306")
			expect(t, s.log.servers(), "db1")
		})
	}
}

// TestAStandbyThatCannotSerialize has reads move on, and the standbys stay.
func TestAStandbyThatCannotSerialize(t *testing.T) {
	for _, test := range []struct {
		name, routine string
		routes        []string
	}{
		{"it cannot", "GetSerializableTransactionSnapshot",
			[]string{"db1:3306: context", "db2:3306: failover", "master: failover"}},
		{"the control: what nobody can", "transformLockingClause", []string{"db1:3306: context"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := newOpened(t, 2, nil)
			failure := &pgError{"0A000", "ERROR", test.routine}
			for _, f := range s.slaves {
				f.fail = func(string) error { return failure }
			}
			err := s.in(replicated.WithSlave(t.Context()), nil).Find(&[]User{}).Error
			if fails := len(test.routes) == 1; fails != errors.Is(err, failure) || !fails && err != nil {
				t.Errorf("got %v", err)
			}
			expect(t, s.routes.take(), test.routes...)
			s.serving(t, "db1:3306", "db2:3306")
		})
	}
}

// TestTheSlaveLeavesBeforeTheOneMoreRun: a slave answers that it serves, and others find out that it does
// not before the statement has run there once more. Then the statement is not to blame.
func TestTheSlaveLeavesBeforeTheOneMoreRun(t *testing.T) {
	for _, leaves := range []bool{true, false} {
		s := newOpened(t, 1, func(c *replicated.Config) { c.Pool.MaxIdle = -1 })
		db := s.in(replicated.WithSlave(t.Context()), nil)
		broken, refuses := 0, false
		slave := s.slaves[0]
		slave.connect = func(context.Context) error {
			if refuses {
				return mysqlError(1040)
			}
			return nil
		}
		slave.run = func(context.Context, string) error { broken++; return driversql.ErrInvalidConn }
		slave.ping = func(context.Context) error {
			if leaves && !refuses {
				refuses = true
				if err := db.Find(&[]User{}).Error; err != nil {
					t.Errorf("the other read: %v", err)
				}
			}
			return nil
		}
		err := db.Find(&[]User{}).Error
		ran := s.log.servers()
		switch {
		case leaves && (err != nil || broken != 1):
			t.Errorf("got %v after %d runs on the slave", err, broken)
		case leaves:
			expect(t, ran, "master")
		case !errors.Is(err, driversql.ErrInvalidConn) || broken != 2 || len(ran) > 0: // the control
			t.Errorf("the slave stays: got %v after %d runs there, and ran %v", err, broken, ran)
		}
	}
}
