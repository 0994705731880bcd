package cluster

import (
	"database/sql"
	"fmt"
	"testing"
	"testing/synctest"

	"gorm.io/driver/mysql"
	"gorm.io/gorm"

	"github.com/gorm-replicated/replicated/internal/position"
)

func TestWatchable(t *testing.T) {
	byDSN := &Server{dialector: mysql.Open("app:secret@tcp(db1)/shop")}
	brought := &Server{dialector: mysql.New(mysql.Config{Conn: &sql.DB{}})}
	for _, test := range []struct {
		name    string
		servers []*Server
		want    bool
	}{
		{"all by DSN", []*Server{byDSN, byDSN}, true},
		{"the slave brought", []*Server{byDSN, brought}, false},
		{"the master brought", []*Server{brought, byDSN}, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := New(test.servers[:1], test.servers[1:]).Watchable(); got != test.want {
				t.Errorf("got %v", got)
			}
		})
	}
}

// TestWatch is the whole of it, over pools.
func TestWatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var servers []*Server
		var wires []*wire
		for i := range 3 {
			w := &wire{}
			if i > 0 {
				w.readOnlyTo = 100
			}
			wires = append(wires, w)
			servers = append(servers, &Server{ID: fmt.Sprint(i), Pool: sql.OpenDB(w), Slave: i > 0})
		}
		c := New(servers[:1], servers[1:])
		cfg := stageConfig
		cfg.Dialect = "mysql"
		c.Watch(cfg)
		c.AwaitFirst(t.Context())
		if v := c.View(); len(v.Slaves) != 2 || v.All[0].Position.Kind() != position.MariaDB ||
			v.All[0].Server.Writable() {
			t.Errorf("%+v", v)
		}
		if r, err := c.Position(t.Context(), servers[0]); err != nil || r.Position.String() != "0-1-1" {
			t.Errorf("got %v, %v", r, err)
		}
		if err := c.Close(); err != nil {
			t.Error(err)
		}
		for i, w := range wires {
			if want := map[bool]int{true: 1, false: 0}[i == 0]; w.open != want { // the master's pool is not ours
				t.Errorf("server %d has %d connections", i, w.open)
			}
		}
		_ = servers[0].close()
	})
}

// TestNoPool has servers whose pools are something else.
func TestNoPool(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pool := struct{ gorm.ConnPool }{}
		c := New([]*Server{{ID: "master", Pool: pool}}, []*Server{{ID: "slave", Pool: pool, Slave: true}})
		c.Watch(stageConfig)
		c.AwaitFirst(t.Context())
		if v := c.View(); len(v.Slaves) != 1 || v.All[0].Reason != errNoPool.Error() {
			t.Errorf("%+v", v)
		}
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
}
