package replicated_test

import (
	"context"
	"log/slog"
	"testing"
	"time"

	mysqldriver "github.com/go-sql-driver/mysql"
	"gorm.io/gorm"

	"github.com/gorm-replicated/replicated"
)

// TestSaidAtStart: when db.Use returns, the log tells once of a group without positions, and what mends it.
func TestSaidAtStart(t *testing.T) {
	const unproven = " publishes GTIDs before others see the transaction"
	on, off, mariaDBOff := mySQL("ON"), mySQL("OFF"), mariaDB("0")
	old := func(version string) recorded { return recorded{version: version} }
	unlogged, empty := on, on
	unlogged.logBin, empty.position = "0", ""
	tiDB, aurora := recorded{version: "8.0.11-TiDB-v7.5.0"}, recorded{version: "8.0.32", aurora: "3.05.2"}
	maxLag := func(c *replicated.Config) { c.MaxLag = 10 * time.Second }
	unasked := func(c *replicated.Config) { c.Probe.Interval = -1 }
	for _, test := range []struct {
		name                   string
		master, slave1, slave2 recorded
		change                 func(*replicated.Config)
		msg, server            string // nothing is said if they are empty
		reason, remedy         string
	}{
		{"MySQL, OFF", off, off, off, nil, groupWarning, "master", "gtid_mode is OFF", gtidModeRemedy},
		{"MySQL, OFF, MaxLag is set", off, off, off, maxLag,
			groupWarning, "master", "gtid_mode is OFF", gtidModeRemedy},
		{"MySQL, OFF_PERMISSIVE", mySQL("OFF_PERMISSIVE"), off, off, nil,
			groupWarning, "master", "gtid_mode is OFF_PERMISSIVE", gtidModeRemedy},
		{"MySQL, ON_PERMISSIVE", mySQL("ON_PERMISSIVE"), on, on, nil,
			groupWarning, "master", "gtid_mode is ON_PERMISSIVE", gtidModeRemedy},
		{"MySQL, only the master OFF", off, on, on, nil,
			groupWarning, "master", "gtid_mode is OFF", gtidModeRemedy},
		{"MySQL, one slave OFF", on, on, off, nil,
			slaveWarning, "slave-2", "gtid_mode is OFF", gtidModeRemedy},
		{"MySQL, one slave ON_PERMISSIVE", on, mySQL("ON_PERMISSIVE"), on, nil,
			slaveWarning, "slave-1", "gtid_mode is ON_PERMISSIVE", gtidModeRemedy},
		{"MySQL, no binary log", unlogged, on, on, nil,
			groupWarning, "master", "log_bin is OFF", "log_bin on the master"},
		{"MySQL 5.6", old("5.6.51-log"), old("5.6.51-log"), old("5.6.51-log"), nil,
			groupWarning, "master", "MySQL 5.6.51-log" + unproven, oldMySQLRemedy},
		{"MySQL 5.6 is a slave", on, on, old("5.6.51"), nil,
			slaveWarning, "slave-2", "MySQL 5.6.51" + unproven, oldMySQLRemedy},
		{"MySQL 5.5", old("5.5.62"), old("5.5.62"), old("5.5.62"), nil,
			groupWarning, "master", "MySQL 5.5.62 has no GTIDs", oldMySQLRemedy},
		{"MariaDB, no binary log", mariaDBOff, mariaDBOff, mariaDBOff, nil,
			groupWarning, "master", "log_bin is OFF", mariaDBRemedy},
		{"MariaDB 5.5", old("5.5.68-MariaDB"), old("5.5.68-MariaDB"), old("5.5.68-MariaDB"), nil,
			groupWarning, "master", "MariaDB 5.5.68-MariaDB has no GTIDs",
			"MariaDB 10.0 or later, with " + mariaDBRemedy},
		{"TiDB", tiDB, tiDB, tiDB, nil, groupWarning, "master", "TiDB has no GTIDs", sourceRemedy},
		{"Aurora", aurora, aurora, aurora, nil,
			groupWarning, "master", "Aurora MySQL 3.05.2 replicates without GTIDs", sourceRemedy},

		{"MySQL, ON", on, on, on, nil, "", "", "", ""},
		{"MySQL, slaves without a binary log", on, unlogged, unlogged, nil, "", "", "", ""},
		{"MySQL, before the first write", empty, empty, empty, nil, "", "", "", ""},
		{"MariaDB, on", mariaDB("1"), mariaDBOff, mariaDBOff, nil, "", "", "", ""},
		{"nobody is asked", off, off, off, unasked, "", "", "", ""},
	} {
		bubble(t, test.name, func(t *testing.T) {
			var logs logBuffer
			cfg := logs.config(t, newRecorded("slave-1", test.slave1), newRecorded("slave-2", test.slave2))
			if test.change != nil {
				test.change(&cfg)
			}
			db := newRecorded("master", test.master).use(t, replicated.New(cfg))
			var want []warning
			if test.msg != "" {
				want = []warning{{"WARN", test.msg, "default", test.server, test.reason, test.remedy}}
			}
			logs.expect(t, "after db.Use", want...)
			keepReading(t, db)
			logs.expect(t, "later", want...)
		})
	}
}

// A dialect of which nothing is known is not asked.
func TestSaidOfAnUnknownDialect(t *testing.T) {
	for _, test := range []struct {
		name   string
		change func(*replicated.Config)
		want   []warning
	}{
		{"no Source", nil, []warning{
			{"WARN", groupWarning, "default", "master",
				`no positions are known of the dialect "sqlserver"`, sourceRemedy},
		}},
		{"a Source", func(c *replicated.Config) { c.Probe.Source = newHistory() }, nil},
		{"nobody is asked", func(c *replicated.Config) { c.Probe.Interval = -1 }, nil},
		{"no slaves", func(c *replicated.Config) { c.Slaves = nil }, nil},
	} {
		bubble(t, test.name, func(t *testing.T) {
			var logs logBuffer
			master, slave := newRecorded("master", mySQL("ON")), newRecorded("slave-1", mySQL("ON"))
			master.dialect, slave.dialect = "sqlserver", "sqlserver"
			cfg := logs.config(t, slave)
			if test.change != nil {
				test.change(&cfg)
			}
			master.use(t, replicated.New(cfg))
			logs.expect(t, "after db.Use", test.want...)
		})
	}
}

// Each group is told of by itself.
func TestSaidOfEachGroup(t *testing.T) {
	for _, test := range []struct {
		name          string
		users, orders recorded
		want          []warning
	}{
		{"both", mySQL("OFF"), mySQL("ON_PERMISSIVE"), []warning{
			{"WARN", groupWarning, "default", "master", "gtid_mode is OFF", gtidModeRemedy},
			{"WARN", groupWarning, "orders", "orders-master", "gtid_mode is ON_PERMISSIVE", gtidModeRemedy},
		}},
		{"one", mySQL("ON"), mySQL("OFF"), []warning{
			{"WARN", groupWarning, "orders", "orders-master", "gtid_mode is OFF", gtidModeRemedy},
		}},
		{"none", mySQL("ON"), mySQL("ON"), nil},
	} {
		bubble(t, test.name, func(t *testing.T) {
			var logs logBuffer
			p := replicated.New(logs.config(t, newRecorded("slave", test.users))).Register(replicated.Group{
				Masters: []gorm.Dialector{newRecorded("orders-master", test.orders).dialector(t)},
				Slaves:  []gorm.Dialector{newRecorded("orders-slave", test.orders).dialector(t)},
			}, "orders")
			db := newRecorded("master", test.users).use(t, p)
			logs.expectInAnyOrder(t, "after db.Use", test.want...)
			keepReading(t, db)
			logs.expectInAnyOrder(t, "later", test.want...)
		})
	}
}

// A master that answers with an error may have a position: for MaxLag its slaves are not read, and it is said
// why.
func TestSaidWhenTheMasterRefuses(t *testing.T) {
	bubble(t, "", func(t *testing.T) {
		var logs logBuffer
		refusing := mySQL("ON")
		refusing.fails = &mysqldriver.MySQLError{Number: 1193}
		const why = "MySQL error 1193: unknown system variable"
		of := func(msg, server, why string) warning {
			return warning{"WARN", msg, "default", server, why, "an account that may ask this, or Probe.Source"}
		}
		atStart := []warning{of(slaveWarning, "slave-1", "the master has no position: "+why)}
		cfg := logs.config(t, newRecorded("slave-1", mySQL("ON")))
		db := newRecorded("master", refusing).use(t, replicated.New(cfg))
		logs.expect(t, "after db.Use", atStart...)
		keepReading(t, db)
		logs.expect(t, "later", append(atStart, of(groupWarning, "master", why))...)
	})
}

// What cannot be known at the start is told as soon as it is: once.
func TestSaidWhenAServerIsBack(t *testing.T) {
	of := func(server string) warning {
		return warning{"WARN", groupWarning, "default", server, "gtid_mode is OFF", gtidModeRemedy}
	}
	for _, test := range []struct {
		name                    string
		master, slave           recorded
		masterIsDown, slaveDown bool
		atStart, later          []warning
	}{
		{"both are down", mySQL("OFF"), mySQL("OFF"), true, true, nil, []warning{of("master")}},
		{"the master is down, the slave has a position", mySQL("OFF"), mySQL("ON"), true, false,
			nil, []warning{of("master")}},
		{"the master is down, the slave has none", mySQL("OFF"), mySQL("OFF"), true, false,
			nil, []warning{of("master")}},
		{"the slave is down", mySQL("OFF"), mySQL("OFF"), false, true,
			[]warning{of("master")}, []warning{of("master")}},
		{"both are down, and have positions", mySQL("ON"), mySQL("ON"), true, true, nil, nil},
	} {
		bubble(t, test.name, func(t *testing.T) {
			var logs logBuffer
			master, slave := newRecorded("master", test.master), newRecorded("slave-1", test.slave)
			master.down.Store(test.masterIsDown)
			slave.down.Store(test.slaveDown)
			start := time.Now()
			db := master.use(t, replicated.New(logs.config(t, slave)))
			if took := time.Since(start); took > 2*time.Second {
				t.Errorf("db.Use took %v", took)
			}
			logs.expect(t, "after db.Use", test.atStart...)
			master.down.Store(false)
			time.Sleep(time.Minute) // the warning names whoever answers first
			slave.down.Store(false)
			keepReading(t, db)
			logs.expect(t, "when they are back", test.later...)
			master.down.Store(true)
			time.Sleep(time.Minute)
			master.down.Store(false)
			keepReading(t, db)
			logs.expect(t, "after another failure", test.later...)
		})
	}
}

// TestALoggerThatHangsAtStart holds up db.Use no longer than a server does that does not answer.
func TestALoggerThatHangsAtStart(t *testing.T) {
	for _, dialect := range []string{"mysql", "sqlserver"} {
		bubble(t, dialect, func(t *testing.T) {
			master, slave := newRecorded("master", mySQL("OFF")), newRecorded("slave-1", mySQL("OFF"))
			master.dialect, slave.dialect = dialect, dialect
			var logs logBuffer
			cfg := logs.config(t, slave)
			hangs := hangingHandler{make(chan struct{})}
			cfg.Logger = slog.New(hangs)
			start := time.Now()
			master.use(t, replicated.New(cfg))
			if took := time.Since(start); took != 2*time.Second {
				t.Errorf("db.Use took %v", took)
			}
			close(hangs.until)
		})
	}
}

// hangingHandler handles nothing until a channel is closed.
type hangingHandler struct{ until chan struct{} }

func (h hangingHandler) Enabled(context.Context, slog.Level) bool { return true }
func (h hangingHandler) WithAttrs([]slog.Attr) slog.Handler       { return h }
func (h hangingHandler) WithGroup(string) slog.Handler            { return h }
func (h hangingHandler) Handle(context.Context, slog.Record) error {
	<-h.until
	return nil
}
