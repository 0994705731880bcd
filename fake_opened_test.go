package replicated_test

import (
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"testing"

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

// replaceSlaves has s.plugin, which opened its slaves, make these its slaves, and waits until the pools of
// those that leave are closed where that is due: a slave is closed by then that leaves after them.
func (s *setup) replaceSlaves(t testing.TB, slaves ...gorm.Dialector) {
	t.Helper()
	last := &fake{name: "last", log: s.log, closed: new(atomic.Int64)}
	if err := s.plugin.SetSlaves(append([]gorm.Dialector{opened(last)}, slaves...)...); err != nil {
		t.Fatal(err)
	}
	s.log.take()
	if err := s.in(replicated.WithSlave(t.Context()), nil).Find(&[]User{}).Error; err != nil {
		t.Fatal(err)
	}
	expect(t, s.log.servers(), "last")
	if err := s.plugin.SetSlaves(slaves...); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() error {
		if last.closed.Load() == 0 {
			return errors.New("the slave that left last is not closed")
		}
		return nil
	})
	s.routes.take()
}
