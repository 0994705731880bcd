package replicated_test

import (
	"context"
	"database/sql/driver"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"gorm.io/gorm"

	"github.com/gorm-replicated/replicated"
)

// recorded is what a server of some version answers to the questions about it and its position.
type recorded struct {
	version, comment, aurora string // as SHOW GLOBAL VARIABLES has them; aurora is "" where it is none

	position, gtidMode, logBin string
	readOnly                   bool
	fails                      error // instead of the position
}

func (r recorded) answer(query string) driver.Rows {
	switch {
	case strings.HasPrefix(query, "SHOW GLOBAL VARIABLES "):
		rows := &recordedRows{rows: [][]driver.Value{{"version", r.version}, {"version_comment", r.comment}}}
		if r.aurora != "" {
			rows.rows = append(rows.rows, []driver.Value{"aurora_version", r.aurora})
		}
		return rows
	case strings.Contains(query, "@@GLOBAL.gtid_"): // and nothing of what tells who it is
		readOnly := "0"
		if r.readOnly {
			readOnly = "1"
		}
		row := []driver.Value{r.position, r.gtidMode, r.logBin, readOnly, nil, nil, nil, nil, nil}
		return &recordedRows{rows: [][]driver.Value{row}}
	}
	return nil
}

// recordedRows are rows of any width.
type recordedRows struct {
	rows [][]driver.Value
	next int
}

func (r *recordedRows) Columns() []string { return make([]string, len(r.rows[0])) }
func (r *recordedRows) Close() error      { return nil }
func (r *recordedRows) Next(dest []driver.Value) error {
	if r.next == len(r.rows) {
		return io.EOF
	}
	copy(dest, r.rows[r.next])
	r.next++
	return nil
}

// recordedServer answers as recorded, and can be down.
type recordedServer struct {
	*fake
	dialect string
	down    atomic.Bool
}

func newRecorded(name string, r recorded) *recordedServer {
	r.readOnly = !strings.Contains(name, "master")
	s := &recordedServer{fake: &fake{name: name, answer: r.answer}, dialect: "mysql"}
	s.connect = func(context.Context) error {
		if s.down.Load() {
			return errors.New("connection refused")
		}
		return nil
	}
	s.run = func(_ context.Context, query string) error {
		if strings.Contains(query, "@@GLOBAL.gtid_") {
			return r.fails
		}
		return nil
	}
	return s
}

// groupWarning is what is logged of a group without positions, slaveWarning of a slave beside a master that
// has one.
const (
	groupWarning = "replicated: a group has no positions: the lag of its slaves is not known, " +
		"MaxLag has no effect, and tokens carry a time"
	slaveWarning = "replicated: a slave is not read"

	gtidModeRemedy = "gtid_mode=ON and enforce_gtid_consistency=ON on every server of the group"
	oldMySQLRemedy = "MySQL 5.7 or later, with " + gtidModeRemedy
	mariaDBRemedy  = "log_bin on the master, and log_slave_updates=ON on a slave that may be promoted"
	sourceRemedy   = "Probe.Source"
)

// warning is a line of the log.
type warning struct{ Level, Msg, Group, Server, Reason, Remedy string }

// warned returns the lines so far that say what to set.
func (b *logBuffer) warned(t *testing.T) (all []warning) {
	t.Helper()
	for line := range strings.Lines(b.String()) {
		var w warning
		if err := json.Unmarshal([]byte(line), &w); err != nil {
			t.Fatal(err)
		}
		if w.Remedy != "" {
			all = append(all, w)
		}
	}
	return all
}

func (b *logBuffer) expect(t *testing.T, when string, want ...warning) {
	t.Helper()
	if got := b.warned(t); !slices.Equal(got, want) {
		t.Errorf("%s:\n got %q\nwant %q", when, got, want)
	}
}

// expectInAnyOrder is expect for several groups, whose monitors log side by side.
func (b *logBuffer) expectInAnyOrder(t *testing.T, when string, want ...warning) {
	t.Helper()
	got := b.warned(t)
	slices.SortFunc(got, func(x, y warning) int { return strings.Compare(x.Group, y.Group) })
	if !slices.Equal(got, want) {
		t.Errorf("%s:\n got %q\nwant %q", when, got, want)
	}
}

// config has these slaves, and a log.
func (b *logBuffer) config(t *testing.T, slaves ...*recordedServer) replicated.Config {
	cfg := replicated.Config{Secrets: [][]byte{secret}, Logger: slog.New(slog.NewJSONHandler(b, nil))}
	for _, s := range slaves {
		cfg.Slaves = append(cfg.Slaves, s.dialector(t))
	}
	return cfg
}

func (s *recordedServer) dialector(t *testing.T) gorm.Dialector {
	t.Helper()
	return replicated.Server{Dialector: named{dialector(openPool(t, s.fake)), s.dialect}, ID: s.name}
}

// use has a database on master use p, which is closed after the test.
func (s *recordedServer) use(t *testing.T, p *replicated.Plugin) *gorm.DB {
	t.Helper()
	d := named{dialector(openPool(t, s.fake)), s.dialect}
	db := openDialector(t, d, gorm.Config{DisableAutomaticPing: true}) // it may be down
	if err := db.Use(p); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	return db
}

// keepReading reads from slaves for four minutes, in which the monitor asks often, and connects anew.
func keepReading(t *testing.T, db *gorm.DB) {
	t.Helper()
	for range 120 {
		if err := db.WithContext(replicated.WithSlave(t.Context())).Find(&[]User{}).Error; err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Second)
	}
}

const recordedSet = "3e11fa47-71ca-11e1-9e33-c80aa9429562:1-5"

func mySQL(gtidMode string) recorded {
	return recorded{version: "8.0.36", position: recordedSet, gtidMode: gtidMode, logBin: "1"}
}

func mariaDB(logBin string) recorded {
	return recorded{version: "11.4.2-MariaDB-log", position: "0-1-5", gtidMode: "ON", logBin: logBin}
}
