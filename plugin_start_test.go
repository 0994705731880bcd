package replicated_test

import (
	"context"
	"database/sql"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"gorm.io/gorm"

	"github.com/gorm-replicated/replicated"
)

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
