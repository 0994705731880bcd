package positions

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"gorm.io/driver/mysql"
	"gorm.io/gorm"

	"github.com/gorm-replicated/replicated"
	"github.com/gorm-replicated/replicated/integration/servers"
)

// journal is a log that is read while it is written.
type journal struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.Write(p)
}

func (j *journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.String()
}

// line is a line of the log.
type line struct{ Level, Msg, Group, Server, Reason, Remedy string }

// remedies returns the lines that say what to set.
func (j *journal) remedies(t *testing.T) (lines []line) {
	t.Helper()
	for text := range strings.Lines(j.String()) {
		var l line
		ok(t, json.Unmarshal([]byte(text), &l))
		if l.Remedy != "" {
			lines = append(lines, l)
		}
	}
	return lines
}

// TestStartSaysThatThereAreNoPositions uses the plugin on MySQL in each gtid_mode that people run: where it
// is not ON, db.Use says so once, and what to set.
func TestStartSaysThatThereAreNoPositions(t *testing.T) {
	servers.Want(t, "MySQL")
	for _, mode := range []string{"OFF", "ON_PERMISSIVE", "ON"} {
		t.Run(mode, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute) // so that nothing hangs
			defer cancel()
			options := []string{"--gtid-mode=" + mode}
			c := servers.MySQL(t, servers.Config{Slaves: 2, MasterOptions: options, SlaveOptions: options})
			db, err := gorm.Open(mysql.Open(c.Master.DSN()), &gorm.Config{})
			ok(t, err)
			own, err := db.DB()
			ok(t, err)
			t.Cleanup(func() { ok(t, own.Close()) })
			var log journal
			p := replicated.New(replicated.Config{
				Slaves: []gorm.Dialector{mysql.Open(c.Slaves[0].DSN()), mysql.Open(c.Slaves[1].DSN())},
				MaxLag: 10 * time.Second,
				Logger: slog.New(slog.NewJSONHandler(&log, nil)),
			})
			ok(t, db.Use(p))
			t.Cleanup(func() { ok(t, p.Close()) })

			want := line{
				Level: "WARN", Group: "default", Reason: "gtid_mode is " + mode,
				Server: fmt.Sprintf("127.0.0.1:%d", c.Master.Port()),
				Msg: "replicated: a group has no positions: the lag of its slaves is not known, " +
					"MaxLag has no effect, and tokens carry a time",
				Remedy: "gtid_mode=ON and enforce_gtid_consistency=ON on every server of the group",
			}
			check := func(when string) {
				t.Helper()
				switch said := log.remedies(t); {
				case mode == "ON" && len(said) > 0:
					t.Errorf("%s: there are positions, and the log says %+v", when, said)
				case mode != "ON" && (len(said) != 1 || said[0] != want):
					t.Errorf("%s: the log says %+v, want %+v once", when, said, want)
				}
			}
			// On a busy machine db.Use does not wait for their answers.
			tick := time.NewTicker(5 * time.Millisecond)
			defer tick.Stop()
			for mode != "ON" && len(log.remedies(t)) == 0 && ctx.Err() == nil {
				<-tick.C
			}
			check("after db.Use")
			ok(t, db.Exec("CREATE TABLE test.notes (id INT PRIMARY KEY)").Error)
			ok(t, c.CatchUp(ctx))
			for range 20 {
				var n int
				read := db.WithContext(replicated.WithSlave(ctx)).Raw("SELECT count(*) FROM test.notes")
				ok(t, read.Scan(&n).Error)
			}
			check("after a write and reads")
			for _, s := range append([]*servers.Server{c.Master}, c.Slaves...) {
				if strings.Contains(log.String(), password(t, mySQL, s)) {
					t.Errorf("the password of %v is in the log: %s", s, &log)
				}
			}
		})
	}
}
