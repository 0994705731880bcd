package replicated_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	driversql "github.com/go-sql-driver/mysql"
	"gorm.io/driver/mysql"
	"gorm.io/gorm"

	"github.com/gorm-replicated/replicated"
)

// byDSN is a driver whose servers are fakes, by the host of their DSN. The plugin opens their pools itself.
type byDSN struct {
	mu    sync.Mutex
	fakes map[string]*fake
}

var fakesByDSN = sync.OnceValue(func() *byDSN {
	d := &byDSN{fakes: map[string]*fake{}}
	sql.Register("fakes of replicated", d)
	return d
})

func (d *byDSN) Open(string) (driver.Conn, error) { panic("OpenConnector is used") }

func (d *byDSN) OpenConnector(dsn string) (driver.Connector, error) {
	cfg, err := driversql.ParseDSN(dsn)
	if err != nil {
		return nil, err
	}
	host, _, err := net.SplitHostPort(cfg.Addr)
	if err != nil {
		return nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.fakes[host], nil
}

// opened returns a dialector by which the plugin opens f.
func opened(f *fake) gorm.Dialector {
	d := fakesByDSN()
	d.mu.Lock()
	defer d.mu.Unlock()
	d.fakes[f.name] = f
	return mysql.New(mysql.Config{DriverName: "fakes of replicated",
		DSN: "app:s3cr3t@tcp(" + f.name + ":3306)/shop", SkipInitializeWithVersion: true})
}

// newOpened makes a setup whose slaves the plugin opens, unwatched.
func newOpened(t testing.TB, slaves int, change func(*replicated.Config)) *setup {
	t.Helper()
	var fakes []*fake
	s := newFailover(t, 0, gorm.Config{}, false, func(c *replicated.Config) {
		c.Probe.Interval = -1
		for i := range slaves {
			f := &fake{name: fmt.Sprintf("db%d", i+1)}
			fakes = append(fakes, f)
			c.Slaves = append(c.Slaves, opened(f))
		}
		if change != nil {
			change(c)
		}
	})
	for _, f := range fakes {
		f.log = s.log
	}
	s.slaves = fakes
	return s
}

// slaveIDs returns those of the slaves that Status shows.
func (s *setup) slaveIDs() (ids []string) {
	for _, server := range s.plugin.Status().Groups[0].Servers {
		if server.Role == replicated.Slave {
			ids = append(ids, server.ID)
		}
	}
	return ids
}

func TestSetSlaves(t *testing.T) {
	read := func(t *testing.T, s *setup) string {
		t.Helper()
		if err := s.in(replicated.WithSlave(t.Context()), nil).Find(&[]User{}).Error; err != nil {
			t.Error(err)
		}
		return strings.Join(s.log.servers(), " ")
	}
	eventuallyReads := func(t *testing.T, s *setup, want string) {
		t.Helper()
		eventually(t, func() error {
			if got := read(t, s); got != want {
				return fmt.Errorf("read %s, want %s", got, want)
			}
			return nil
		})
	}
	t.Run("one more", func(t *testing.T) {
		s := newOpened(t, 1, nil)
		if got := read(t, s); got != "db1" {
			t.Error(got)
		}
		second := &fake{name: "db2", log: s.log}
		if err := s.plugin.SetSlaves(opened(second), opened(s.slaves[0])); err != nil {
			t.Fatal(err)
		}
		expect(t, s.slaveIDs(), "db2:3306", "db1:3306")
		eventuallyReads(t, s, "db2") // the first in order
		if n := s.state("db1:3306").Pool.OpenConnections; n != 1 {
			t.Errorf("the slave that stays has %d connections, not that which it had", n)
		}
	})
	t.Run("the same ones keep their pools", func(t *testing.T) {
		s := newOpened(t, 2, nil)
		read(t, s)
		var connects atomic.Int64
		for _, f := range s.slaves {
			f.connect = func(context.Context) error { connects.Add(1); return nil }
		}
		for range 3 {
			if err := s.plugin.SetSlaves(opened(s.slaves[0]), opened(s.slaves[1])); err != nil {
				t.Fatal(err)
			}
			if got := read(t, s); got != "db1" {
				t.Error(got)
			}
		}
		if n := connects.Load(); n != 0 {
			t.Errorf("%d new connections", n)
		}
		expect(t, s.slaveIDs(), "db1:3306", "db2:3306")
		// The control: under another name it is another one.
		if err := s.plugin.SetSlaves(replicated.Server{Dialector: opened(s.slaves[0]), ID: "renamed"}); err != nil {
			t.Fatal(err)
		}
		expect(t, s.slaveIDs(), "renamed")
		eventuallyReads(t, s, "db1")
		if connects.Swap(0) == 0 {
			t.Error("no new connection")
		}
		for range 2 { // it stays under its name
			err := s.plugin.SetSlaves(replicated.Server{Dialector: opened(s.slaves[0]), ID: "renamed"})
			if err != nil {
				t.Fatal(err)
			}
			expect(t, s.slaveIDs(), "renamed")
			if got, n := read(t, s), connects.Load(); got != "db1" || n != 0 {
				t.Errorf("read %s over %d new connections", got, n)
			}
		}
	})
	t.Run("a new one has the limits of the group's pools", func(t *testing.T) {
		s := newOpened(t, 1, func(c *replicated.Config) { c.Pool.MaxOpen = 3 })
		if err := s.plugin.SetSlaves(opened(&fake{name: "db2", log: s.log})); err != nil {
			t.Fatal(err)
		}
		if n := s.state("db2:3306").Pool.MaxOpenConnections; n != 3 {
			t.Errorf("MaxOpen is %d", n)
		}
	})
	t.Run("one that is ready-made, too", func(t *testing.T) {
		var ready gorm.Dialector
		s := newSetup(t, 1, gorm.Config{}, func(c *replicated.Config) { ready = c.Slaves[0] })
		for range 3 {
			if err := s.plugin.SetSlaves(ready); err != nil {
				t.Fatal(err)
			}
			if got := read(t, s); got != "slave-1" {
				t.Error(got)
			}
		}
	})
	t.Run("one leaves while it is read", func(t *testing.T) {
		s := newOpened(t, 2, nil)
		s.slaves[0].answer = func(string) driver.Rows { return &brokenRows{err: errors.New("EOF"), rows: 100} }
		var closed atomic.Int64
		s.slaves[0].closed = &closed
		rows, err := s.in(replicated.WithSlave(t.Context()), nil).Model(&User{}).Rows()
		if err != nil {
			t.Fatal(err)
		}
		tx := s.in(replicated.WithSlave(t.Context()), nil).Begin(readOnlyTx)
		if tx.Error != nil {
			t.Fatal(tx.Error)
		}
		s.slaves[0].answer = nil
		s.log.take()
		if err := s.plugin.SetSlaves(opened(s.slaves[1])); err != nil {
			t.Fatal(err)
		}
		expect(t, s.slaveIDs(), "db2:3306")
		if got := read(t, s); got != "db2" {
			t.Error(got)
		}
		for n := range 100 {
			if !rows.Next() {
				t.Fatalf("%d rows, then %v", n, rows.Err())
			}
		}
		if err := tx.Find(&[]User{}).Error; err != nil {
			t.Errorf("in the transaction: %v", err)
		}
		expect(t, s.log.servers(), "db1")
		if n := closed.Load(); n != 0 {
			t.Errorf("%d connections were closed too soon", n)
		}
		rows.Close()
		if err := tx.Commit().Error; err != nil {
			t.Error(err)
		}
		eventually(t, func() error {
			if n := closed.Load(); n != 2 {
				return fmt.Errorf("%d connections were closed", n)
			}
			return nil
		})
	})
	t.Run("none, and then one", func(t *testing.T) {
		s := newOpened(t, 1, nil)
		if err := s.plugin.SetSlaves(); err != nil {
			t.Fatal(err)
		}
		s.routes.take()
		if got := read(t, s); got != "master" {
			t.Error(got)
		}
		expect(t, s.routes.take(), "master: no slaves")
		if err := s.plugin.SetSlaves(opened(s.slaves[0])); err != nil {
			t.Fatal(err)
		}
		eventuallyReads(t, s, "db1")
	})
	t.Run("prepared statements", func(t *testing.T) {
		s := newOpened(t, 2, nil)
		read := func() {
			t.Helper()
			err := s.in(replicated.WithSlave(t.Context()), &gorm.Session{PrepareStmt: true}).Find(&[]User{}).Error
			if err != nil {
				t.Error(err)
			}
		}
		read()
		for range 3 {
			for _, f := range s.slaves {
				if err := s.plugin.SetSlaves(opened(f)); err != nil {
					t.Fatal(err)
				}
				read()
				read()
			}
		}
	})
	t.Run("mistakes, all together", func(t *testing.T) {
		s := newOpened(t, 2, nil)
		err := s.plugin.SetSlaves(nil, replicated.Server{Dialector: opened(s.slaves[0]), ID: "a", Weight: -1},
			replicated.Server{Dialector: opened(s.slaves[1]), ID: "a"})
		if err == nil {
			t.Fatal("no error")
		}
		for _, want := range []string{"Slaves[0]: nil dialector", "Slaves[1]: Weight",
			`Slaves[2]: ID "a" is that of Slaves[1]`} {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%q is not in: %v", want, err)
			}
		}
		for _, wrong := range []gorm.Dialector{
			postgresFake{opened(s.slaves[0])},
			mysql.Open("app:s3cr3t@tcp(nowhere"), // cannot be parsed
			dialector(s.raw),                     // the master
		} {
			err := s.plugin.SetSlaves(opened(&fake{name: "db9"}), wrong)
			if err == nil || strings.Contains(err.Error(), "s3cr3t") {
				t.Errorf("got %v", err)
			}
		}
		expect(t, s.slaveIDs(), "db1:3306", "db2:3306")
		if got := read(t, s); got != "db1" {
			t.Error(got)
		}
	})
	t.Run("an ID that a slave has which stays", func(t *testing.T) {
		s := newOpened(t, 1, nil)
		err := s.plugin.SetSlaves(opened(s.slaves[0]),
			replicated.Server{Dialector: opened(&fake{name: "db2", log: s.log}), ID: "db1:3306"})
		if err == nil {
			if ids := s.slaveIDs(); len(ids) != 2 || ids[0] == ids[1] {
				t.Errorf("two of one name: %q", ids)
			}
		}
	})
	t.Run("one server twice", func(t *testing.T) {
		s := newOpened(t, 1, nil)
		if err := s.plugin.SetSlaves(opened(s.slaves[0]), opened(s.slaves[0])); err != nil {
			t.Fatal(err)
		}
		if ids := s.slaveIDs(); len(ids) != 2 || ids[0] == ids[1] {
			t.Errorf("IDs %q", ids)
		}
	})
	t.Run("before db.Use, after Close, of an unknown group", func(t *testing.T) {
		slave := opened(&fake{name: "db1"})
		if err := replicated.New(replicated.Config{}).SetSlaves(slave); err == nil {
			t.Error("before db.Use: no error")
		}
		s := newOpened(t, 1, nil)
		err := s.plugin.SetGroupSlaves("nowhere", slave)
		if err == nil || !strings.Contains(err.Error(), `"nowhere"`) {
			t.Errorf("an unknown group: %v", err)
		}
		if err := s.plugin.Close(); err != nil {
			t.Fatal(err)
		}
		if err := s.plugin.SetSlaves(slave); err == nil || !strings.Contains(err.Error(), "closed") {
			t.Errorf("after Close: %v", err)
		}
		if got := read(t, s); got != "master" {
			t.Error(got)
		}
	})
	t.Run("of a group", func(t *testing.T) {
		s := newGroups(t, gorm.Config{})
		if err := s.plugin.SetGroupSlaves("orders", replicated.Server{
			Dialector: dialector(openPool(t, &fake{name: "other", log: s.log})), ID: "other",
		}); err != nil {
			t.Fatal(err)
		}
		eventually(t, func() error {
			if err := s.in(replicated.WithSlave(t.Context()), nil).Find(&[]Order{}).Error; err != nil {
				t.Error(err)
			}
			if got := s.log.servers(); !slices.Equal(got, []string{"other"}) {
				return fmt.Errorf("read %q", got)
			}
			return nil
		})
		if err := s.in(replicated.WithSlave(t.Context()), nil).Find(&[]User{}).Error; err != nil {
			t.Error(err)
		}
		expect(t, s.log.servers(), "slave")
	})
}

// TestSetSlavesWhileReading has slaves come and go while reads run. None fails.
func TestSetSlavesWhileReading(t *testing.T) {
	for _, session := range []*gorm.Session{nil, {PrepareStmt: true}} {
		t.Run(fmt.Sprintf("prepared: %v", session != nil), func(t *testing.T) {
			s := newOpened(t, 3, func(c *replicated.Config) { c.Policy = nil })
			for _, f := range append(s.slaves, s.master) {
				f.log = nil
			}
			stop := make(chan struct{})
			var readers sync.WaitGroup
			for n := range 6 {
				readers.Go(func() {
					for i := n; ; i++ {
						select {
						case <-stop:
							return
						default:
						}
						ctx := replicated.WithSlave(t.Context())
						if n%2 == 0 {
							ctx = s.plugin.WithToken(ctx, "")
						}
						way := waysToRead[i%len(waysToRead)]
						if err := way.run(s.in(ctx, session)); err != nil {
							t.Errorf("%s: %v", way.name, err)
						}
					}
				})
			}
			changes := 100
			if session != nil {
				changes = 30 // GORM leaves a goroutine for each cache of prepared statements
			}
			for i := range changes {
				var next []gorm.Dialector
				for j, f := range s.slaves {
					if (i+j)%3 > 0 {
						next = append(next, opened(f))
					}
				}
				if err := s.plugin.SetSlaves(next...); err != nil {
					t.Error(err)
				}
				s.plugin.Status()
				time.Sleep(200 * time.Microsecond)
			}
			close(stop)
			readers.Wait()
		})
	}
}

// TestTokensAfterTheFirstSlave has a plugin begin with no slaves. What a client wrote then counts later.
func TestTokensAfterTheFirstSlave(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, func(c *replicated.Config) { c.Slaves = nil })
		c := s.client()
		c.do("POST")
		slave := &fake{name: "slave-1", log: s.log}
		if err := s.plugin.SetSlaves(dialector(openPool(t, slave))); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Second)
		served(t, c.get(), byLag) // it has not what has been committed before
		s.replay("slave-1")
		time.Sleep(2 * time.Second)
		served(t, c.get(), "slave-1: method")
		s.client().do("POST")
		served(t, c.get(), "slave-1: method")
		c.do("POST")
		served(t, c.get(), byToken)
		s.replay("slave-1")
		time.Sleep(2 * time.Second)
		served(t, c.get(), "slave-1: method")
	})
}

// TestTokensWithoutSlaves: other instances, or another service, may have slaves where this one has none, for
// good or for a while.
func TestTokensWithoutSlaves(t *testing.T) {
	for _, test := range []struct {
		name      string
		secrets   [][]byte
		slaves    bool // at first
		token     bool
		questions int
	}{
		{"with secrets, no slaves", [][]byte{secret}, false, true, 1},
		{"with secrets, slaves taken away", [][]byte{secret}, true, true, 1},
		{"without secrets, slaves taken away", nil, true, true, 0},
		{"without secrets, no slaves: nothing changes", nil, false, false, 0}, // the control
	} {
		bubble(t, test.name, func(t *testing.T) {
			s := newSite(t, func(c *replicated.Config) {
				if c.Secrets = test.secrets; !test.slaves {
					c.Slaves = nil
				}
			})
			if err := s.plugin.SetSlaves(); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			s.questions("master")
			c := s.client()
			if c.do("POST"); (len(c.cookies) > 0) != test.token {
				t.Errorf("cookies %v", c.cookies)
			}
			if n := s.questions("master"); n != test.questions {
				t.Errorf("%d questions for the write, want %d", n, test.questions)
			}
			if c.do("GET"); s.questions("master") != 0 {
				t.Error("a question for a read")
			}
			other := newSite(t, func(c *replicated.Config) { c.Secrets = test.secrets })
			c.site = other
			want := bySlave
			if test.token {
				want = byToken
			}
			served(t, c.get(), want)
		})
	}
}

// TestMarkersAfterTheFirstSlave has a plugin without Secrets begin with no slaves.
func TestMarkersAfterTheFirstSlave(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, func(c *replicated.Config) { c.Slaves, c.Secrets = nil, nil })
		if c := s.client(); c.do("POST") != nil && len(c.cookies) > 0 {
			t.Errorf("without slaves: cookies %v", c.cookies)
		}
		if err := s.plugin.SetSlaves(dialector(openPool(t, &fake{name: "slave-1", log: s.log}))); err != nil {
			t.Fatal(err)
		}
		s.replay("slave-1")
		time.Sleep(2 * time.Second)
		c := s.client()
		c.do("POST")
		served(t, c.get(), byToken)
		served(t, s.client().get(), "slave-1: method") // the control
	})
}

// TestMonotonicWhenASlaveLeaves has the slave leave that a session has read.
func TestMonotonicWhenASlaveLeaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var second gorm.Dialector
		s := newSite(t, func(c *replicated.Config) {
			c.Token.Monotonic = true
			second = c.Slaves[1]
			c.Policy = inOrder
		})
		s.commit()
		s.replay("slave-1") // slave-2 has less
		time.Sleep(2 * time.Second)
		c := s.client()
		served(t, c.get(), "slave-1: method")
		inSession := s.plugin.Middleware(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			s.serve(w, r)
			if err := s.plugin.SetSlaves(second); err != nil {
				t.Error(err)
			}
			s.serve(w, r)
		}))
		before := s.handler
		s.handler = inSession
		c.do("GET") // it leaves during this request, after a read
		s.handler = before
		served(t, c.get(), byToken) // never the older state
		s.replay("slave-2")
		c.do("GET") // has slave-2 asked: the question that SetSlaves brought about may have been before the replay
		time.Sleep(2 * time.Second)
		served(t, c.get(), "slave-2: method")
	})
}

// TestStart has slaves be dead or frozen when the program starts.
func TestStart(t *testing.T) {
	for _, test := range []struct {
		name  string
		watch bool
		set   func(*fake) (revive func())
		most  time.Duration
	}{
		{"refused, blind", false, func(f *fake) func() {
			on := f.dying(errRefused, "")
			on.Store(true)
			return func() { on.Store(false) }
		}, 0},
		{"refused, watched", true, func(f *fake) func() {
			on := f.dying(errRefused, "")
			on.Store(true)
			return func() { on.Store(false) }
		}, time.Second},
		{"frozen, blind", false, func(f *fake) func() {
			var alive atomic.Bool
			f.freeze(func() bool { return !alive.Load() })
			return func() { alive.Store(true) }
		}, 0},
		{"frozen, watched", true, func(f *fake) func() {
			var alive atomic.Bool
			f.freeze(func() bool { return !alive.Load() })
			return func() { alive.Store(true) }
		}, 2 * time.Second},
	} {
		bubble(t, test.name, func(t *testing.T) {
			h := newHistory()
			h.set("master", 1)
			h.replay("slave-1", "slave-2")
			var revive []func()
			start := time.Now()
			s := newFailover(t, 0, gorm.Config{}, false, func(c *replicated.Config) {
				for i := range 2 {
					f := &fake{name: fmt.Sprintf("slave-%d", i+1), log: &fakeLog{}}
					revive = append(revive, test.set(f))
					c.Slaves = append(c.Slaves, dialector(openPool(t, f)))
				}
				c.DefaultIntent = replicated.Slave
				if test.watch {
					c.Probe.Source = &asking{h, func(ctx context.Context, conn *sql.Conn) error {
						return conn.PingContext(ctx)
					}}
				}
			})
			if took := time.Since(start); took > test.most {
				t.Errorf("db.Use took %v", took)
			}
			ctx := endless(t)
			for range 3 {
				if err := s.db.WithContext(ctx).Find(&[]User{}).Error; err != nil {
					t.Error(err)
				}
			}
			expect(t, s.log.servers(), "master")
			revive[0]()
			time.Sleep(10 * time.Second)
			s.routes.take()
			if err := s.db.WithContext(ctx).Find(&[]User{}).Error; err != nil {
				t.Error(err)
			}
			expect(t, s.routes.take(), "slave-1: default intent")
		})
	}
}

// TestDeadMasters has a server of Config.Masters not answer when the program starts: that is an error.
func TestDeadMasters(t *testing.T) {
	for name, set := range map[string]func(*fake){
		"refused": func(f *fake) { f.connect = func(context.Context) error { return errRefused } },
		"access denied": func(f *fake) {
			f.connect = func(context.Context) error { return fmt.Errorf("app:s3cr3t: %w", mysqlError(1045)) }
		},
		"frozen": func(f *fake) { f.freeze(always) },
	} {
		bubble(t, name, func(t *testing.T) {
			master := &fake{name: "db1"}
			set(master)
			db := openFake(t, openPool(t, &fake{name: "own"}), gorm.Config{})
			start := time.Now()
			err := db.Use(replicated.New(replicated.Config{
				Masters: []gorm.Dialector{opened(master)}, Logger: slog.New(slog.DiscardHandler),
			}))
			if err == nil || !strings.Contains(err.Error(), "Masters[0]") || strings.Contains(err.Error(), "s3cr3t") {
				t.Errorf("got %v", err)
			}
			if took := time.Since(start); took > 2*time.Second {
				t.Errorf("took %v", took)
			}
		})
	}
	t.Run("the control: it answers", func(t *testing.T) {
		s := newOpened(t, 0, func(c *replicated.Config) {
			c.Masters = []gorm.Dialector{opened(&fake{name: "db1"})}
		})
		if err := s.db.Find(&[]User{}).Error; err != nil {
			t.Error(err)
		}
	})
}
