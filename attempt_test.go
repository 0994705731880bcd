package replicated_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	driversql "github.com/go-sql-driver/mysql"
	"gorm.io/gorm"

	"github.com/gorm-replicated/replicated"
	"github.com/gorm-replicated/replicated/internal/cluster"
)

// converting is a fake for which database/sql converts arguments, as it does for most drivers.
type converting struct{ *fake }

func (c converting) Connect(ctx context.Context) (driver.Conn, error) {
	conn, err := c.fake.Connect(ctx)
	if err != nil {
		return nil, err
	}
	return convertingConn{conn.(*fakeConn)}, nil
}

type convertingConn struct{ *fakeConn }

func (convertingConn) CheckNamedValue(v *driver.NamedValue) (err error) {
	v.Value, err = driver.DefaultParameterConverter.ConvertValue(v.Value)
	return err
}

// unconvertible is an argument that fails.
type unconvertible struct{ error }

func (u unconvertible) Value() (driver.Value, error) { return nil, u.error }

// TestAnArgumentIsNoFailureOfASlave has the application's own driver.Valuer fail, with what would otherwise
// be a sign of a dead server.
func TestAnArgumentIsNoFailureOfASlave(t *testing.T) {
	for _, test := range []struct {
		name string
		err  error
	}{
		{"a file that ends", io.ErrUnexpectedEOF},
		{"connection refused", errRefused},
		{"bad connection", driver.ErrBadConn},
		{"an error of MySQL", mysqlError(1053)},
	} {
		t.Run(test.name, func(t *testing.T) {
			log := &fakeLog{}
			s := newFailover(t, 0, gorm.Config{}, false, func(c *replicated.Config) {
				for _, name := range []string{"slave-1", "slave-2"} {
					pool := sql.OpenDB(converting{&fake{name: name, log: log}})
					t.Cleanup(func() { pool.Close() })
					c.Slaves = append(c.Slaves, dialector(pool))
				}
			})
			db := s.in(replicated.WithSlave(t.Context()), nil)
			if err := db.Where("name = ?", unconvertible{test.err}).Find(&[]User{}).Error; !errors.Is(err, test.err) {
				t.Errorf("got %v", err)
			}
			expect(t, s.routes.take(), "slave-1: context")
			for _, id := range []string{"slave-1", "slave-2"} {
				if state := s.state(id); !state.Serving {
					t.Errorf("%s is blamed: %s", id, state.Reason)
				}
			}
			if err := db.Where("name = ?", "a").Find(&[]User{}).Error; err != nil {
				t.Errorf("the control, an argument that is good: %v", err)
			}
			expect(t, log.servers(), "slave-1")
		})
	}
}

// TestAFailedSlaveDoesNotCountAsRead has a session demand the state of the slave that answered it, not of one
// that it tried.
func TestAFailedSlaveDoesNotCountAsRead(t *testing.T) {
	start := func(t *testing.T) (*site, *client, *atomic.Bool) {
		t.Helper()
		s := newSite(t, func(c *replicated.Config) { c.Token.Monotonic, c.Policy = true, inOrder })
		s.commit()
		s.replay("slave-1") // slave-2 has less
		time.Sleep(2 * time.Second)
		return s, s.client(), s.slaves[0].dying(errRefused, "")
	}
	bubble(t, "it fails the read", func(t *testing.T) {
		_, c, dead := start(t)
		dead.Store(true)
		served(t, c.get(), "slave-1: method, slave-2: failover")
		for range 3 {
			served(t, c.get(), "slave-2: method")
		}
	})
	bubble(t, "the control: it answers, and fails then", func(t *testing.T) {
		_, c, dead := start(t)
		served(t, c.get(), "slave-1: method")
		synctest.Wait() // until the view has the position that the token demands
		dead.Store(true)
		served(t, c.get(), "slave-1: method, master: failover")
		served(t, c.get(), byToken)
	})
}

// TestAnAnswerThatRefusesIsALife has a slave refuse new connections in words while a slow read runs there:
// that ends there, once.
func TestAnAnswerThatRefusesIsALife(t *testing.T) {
	for _, test := range []struct {
		name      string
		err       error
		cancelled int64
		answers   string
	}{
		{"1040, too many connections", mysqlError(1040), 0, "slave-1"},
		{"1045, access denied", mysqlError(1045), 0, "slave-1"},
		{"the control: connection refused", errRefused, 1, "master"},
	} {
		bubble(t, test.name, func(t *testing.T) {
			s := newFailover(t, 1, gorm.Config{}, false, nil)
			var refuses atomic.Bool
			s.slaves[0].connect = func(context.Context) error {
				if refuses.Load() {
					return test.err
				}
				return nil
			}
			var began, cancelled atomic.Int64
			s.slaves[0].run = func(ctx context.Context, query string) error {
				if !strings.Contains(query, "slow") {
					return nil
				}
				began.Add(1)
				err := pause(ctx, 10*time.Second)
				if err != nil {
					cancelled.Add(1)
				}
				return err
			}
			db := s.in(replicated.WithSlave(endless(t)), nil)
			time.AfterFunc(100*time.Millisecond, func() {
				refuses.Store(true)
				if err := db.Find(&[]User{}).Error; err != nil {
					t.Error(err)
				}
				expect(t, s.log.servers(), "master")
			})
			if err := db.Raw("SELECT * FROM users /* slow */").Scan(&[]User{}).Error; err != nil {
				t.Error(err)
			}
			if began.Load() != 1 || cancelled.Load() != test.cancelled {
				t.Errorf("began %d times, cancelled %d times", began.Load(), cancelled.Load())
			}
			expect(t, s.log.servers(), test.answers)
		})
	}
}

// TestFailover has each way to read meet each kind of failure. Nobody notices but the Observer and Status,
// and the next read does not try that slave again.
func TestFailover(t *testing.T) {
	type topology struct {
		name         string
		slaves, dead int
		next         string
	}
	topologies := []topology{
		{"another slave", 2, 1, "slave-2: context"},
		{"the only slave", 1, 1, "master: no slave within MaxLag"},
		{"all slaves", 2, 2, "master: no slave within MaxLag"},
	}
	try := func(t *testing.T, way wayToRead, f fault, top topology, mode int, postgres, warm bool) {
		t.Helper()
		s := newFailover(t, top.slaves, modes[mode].config, postgres, nil)
		var dead []*atomic.Bool
		for _, slave := range s.slaves[:top.dead] {
			dead = append(dead, slave.dying(f.err, way.from))
		}
		db := s.in(replicated.WithSlave(t.Context()), modes[mode].session)
		if warm {
			if err := way.run(db); err != nil {
				t.Fatalf("before: %v", err)
			}
			s.log.take()
			s.routes.take()
		}
		for _, d := range dead {
			d.Store(true)
		}
		var before []string
		if way.before {
			before = []string{"slave-1: context"}
		}
		if f.breaks && top.dead == 2 { // it may be the statement that breaks them
			if err := way.run(db); !errors.Is(err, f.err) {
				t.Errorf("got %v", err)
			}
			expect(t, s.routes.take(), slices.Concat(before, []string{"slave-1: context", "slave-2: failover"})...)
			if s.state("slave-1").Serving || !s.state("slave-2").Serving {
				t.Errorf("Status: %+v, %+v", s.state("slave-1"), s.state("slave-2"))
			}
			return
		}
		if err := way.run(db); err != nil {
			t.Errorf("the failure shows: %v", err)
		}
		answers := append(slices.Clone([]string{"slave-1", "slave-2"}[:top.slaves]), "master")[top.dead]
		want := append(before, "slave-1: context")
		if way.before {
			expect(t, s.log.servers(), "slave-1", answers)
		} else {
			expect(t, s.log.servers(), answers)
		}
		if top.dead == 2 {
			want = append(want, "slave-2: failover")
		}
		if want = append(want, answers+": failover"); way.after != "" {
			want = append(want, answers+": "+way.after)
		}
		expect(t, s.routes.take(), want...)
		for i := range top.dead {
			id := fmt.Sprintf("slave-%d", i+1)
			switch state := s.state(id); {
			case state.Serving != f.stays:
				t.Errorf("Status: %s: Serving is %v", id, state.Serving)
			case !f.stays && !strings.Contains(state.Reason, cluster.Describe(f.err)):
				t.Errorf("Status: %s: Reason is %q", id, state.Reason)
			}
		}
		if f.stays {
			return
		}
		if err := db.Find(&[]User{}).Error; err != nil {
			t.Errorf("the next read: %v", err)
		}
		expect(t, s.log.servers(), answers)
		expect(t, s.routes.take(), top.next)
	}
	const plain, prepared, perSession = 0, 1, 2
	for _, way := range waysToRead {
		for _, f := range faultsOfMySQL {
			for _, top := range topologies {
				t.Run(way.name+"/"+f.name+"/"+top.name, func(t *testing.T) { try(t, way, f, top, plain, false, false) })
			}
			t.Run(way.name+"/"+f.name+"/later", func(t *testing.T) {
				try(t, way, f, topologies[0], plain, false, true)
			})
		}
		for _, f := range faultsOfPostgreSQL {
			t.Run(way.name+"/"+f.name, func(t *testing.T) { try(t, way, f, topologies[0], plain, true, true) })
		}
		// GORM leaves a goroutine for each cache of prepared statements: fewer of these.
		for _, f := range []fault{faultsOfMySQL[0], faultsOfMySQL[8]} {
			t.Run(way.name+"/"+f.name+"/prepared", func(t *testing.T) {
				try(t, way, f, topologies[0], prepared, false, false)
			})
			t.Run(way.name+"/"+f.name+"/prepared, later", func(t *testing.T) {
				try(t, way, f, topologies[0], prepared, false, true)
			})
		}
		t.Run(way.name+"/prepared per session", func(t *testing.T) {
			try(t, way, faultsOfMySQL[1], topologies[0], perSession, false, true)
		})
		t.Run(way.name+"/prepared, all slaves", func(t *testing.T) {
			try(t, way, faultsOfMySQL[0], topologies[2], prepared, false, true)
		})
	}
	for _, f := range faultsOfMySQL {
		t.Run("Row, prepared/"+f.name, func(t *testing.T) {
			try(t, waysToRead[7], f, topologies[0], prepared, false, true)
		})
	}
}

// TestNoFailoverOfTheMaster is the control of TestFailover: what moves a read on from a slave comes back from
// the master as it is.
func TestNoFailoverOfTheMaster(t *testing.T) {
	for _, way := range waysToRead {
		for _, f := range []fault{faultsOfMySQL[0], faultsOfMySQL[2], faultsOfMySQL[8]} {
			t.Run(way.name+"/"+f.name, func(t *testing.T) {
				s := newFailover(t, 2, gorm.Config{}, false, nil)
				s.master.dying(f.err, way.from).Store(true)
				err := way.run(s.in(replicated.WithMaster(t.Context()), nil))
				if !errors.Is(err, f.err) {
					t.Errorf("got %v", err)
				}
				for _, r := range s.routes.take() {
					if r != "master: context" {
						t.Errorf("routed: %s", r)
					}
				}
			})
		}
	}
}

// TestNotADeadServer has errors of which no server is guilty. They come back as they are; nothing runs twice,
// and the slave stays.
func TestNotADeadServer(t *testing.T) {
	nothing := func(f *fake) {
		f.answer = func(string) driver.Rows { return &fakeRows{columns: fakeColumns, done: true} }
	}
	with := func(err error) func(*fake) { return func(f *fake) { f.fail = func(string) error { return err } } }
	breaks := func(err error) func(*fake) {
		return func(f *fake) { f.answer = func(string) driver.Rows { return &brokenRows{err: err} } }
	}
	find := func(db *gorm.DB) error { return db.Find(&[]User{}).Error }
	row := func(db *gorm.DB) error { return db.Raw("SELECT * FROM users").Row().Scan(new(int64), new(string)) }
	rows := func(db *gorm.DB) error {
		rows, err := db.Raw("SELECT * FROM users").Rows()
		if err != nil {
			return fmt.Errorf("too soon: %v", err)
		}
		for rows.Next() {
		}
		return errors.Join(rows.Err(), rows.Close())
	}
	inTx := func(read func(*gorm.DB) error) func(*gorm.DB) error {
		return func(db *gorm.DB) error { return db.Transaction(read, readOnlyTx) }
	}
	for _, test := range []struct {
		name  string
		set   func(*fake)
		run   func(*gorm.DB) error
		want  error
		tries int // statements that reached a server
	}{
		{"a syntax error", with(mysqlError(1064)), find, mysqlError(1064), 1},
		{"no such table", with(mysqlError(1146)), find, mysqlError(1146), 1},
		{"no such table, Row", with(mysqlError(1146)), row, mysqlError(1146), 1},
		{"a lock's timeout", with(mysqlError(1205)), find, mysqlError(1205), 1},
		{"a query that was interrupted", with(mysqlError(1317)), find, mysqlError(1317), 1},
		{"no rows", nothing, row, sql.ErrNoRows, 1},
		{"no record", nothing, func(db *gorm.DB) error { return db.First(&User{}).Error },
			gorm.ErrRecordNotFound, 1},
		{"no rows, says the driver", with(sql.ErrNoRows), find, sql.ErrNoRows, 1},
		{"an error of the driver's own", with(driver.ErrSkip), find, driver.ErrSkip, -1},
		{"rows that break, Find", breaks(io.ErrUnexpectedEOF), find, io.ErrUnexpectedEOF, 1},
		{"rows that break, Rows", breaks(driversql.ErrInvalidConn), rows, driversql.ErrInvalidConn, 1},
		{"rows that break, 1927", breaks(mysqlError(1927)), rows, mysqlError(1927), 1},
		{"rows that break, Row", breaks(io.ErrUnexpectedEOF), row, io.ErrUnexpectedEOF, 1},
		{"in a transaction, 1053", with(mysqlError(1053)), inTx(find), mysqlError(1053), 1},
		{"in a transaction, connection lost", with(driversql.ErrInvalidConn), inTx(find),
			driversql.ErrInvalidConn, 1},
		{"in a transaction, bad connection", with(driver.ErrBadConn), inTx(find), driver.ErrBadConn, 1},
	} {
		for _, mode := range modes[:3] {
			t.Run(test.name+"/"+mode.name, func(t *testing.T) {
				s := newFailover(t, 2, mode.config, false, nil)
				tries := 0
				test.set(s.slaves[0])
				s.slaves[0].run = func(_ context.Context, query string) error {
					if !strings.HasPrefix(query, "BEGIN") {
						tries++
					}
					return nil
				}
				err := test.run(s.in(replicated.WithSlave(t.Context()), mode.session))
				if want, ok := test.want.(*driversql.MySQLError); ok {
					var got *driversql.MySQLError
					if !errors.As(err, &got) || got.Number != want.Number {
						t.Errorf("got %v", err)
					}
				} else if !errors.Is(err, test.want) {
					t.Errorf("got %v", err)
				}
				// preparing is one
				allowed := test.tries
				if allowed > 0 && tries > allowed && !(mode.name != "plain" && tries <= 2*allowed) {
					t.Errorf("%d statements", tries)
				}
				for _, r := range s.log.take() {
					if r.server != "slave-1" {
						t.Errorf("ran on %s: %s", r.server, r.sql)
					}
				}
				state := s.state("slave-1")
				if !state.Serving || state.Reason != "" && !strings.Contains(state.Reason, "ready-made") {
					t.Errorf("Status: %+v", state)
				}
				for _, r := range s.routes.take() {
					if strings.Contains(r, "failover") {
						t.Errorf("routed: %s", r)
					}
				}
			})
		}
	}
}
