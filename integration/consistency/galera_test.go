package consistency

import (
	"testing"
	"time"

	"gorm.io/driver/mysql"

	"github.com/gorm-replicated/replicated"
	"github.com/gorm-replicated/replicated/integration/galera"
	"github.com/gorm-replicated/replicated/integration/servers"
)

// TestGalera has fifty clients read right after they have written, with slaves set up as docs/engines.md
// says.
func TestGalera(t *testing.T) {
	servers.Want(t, "Galera")
	e := newEngine("Galera", mysql.Open, servers.StartGalera)
	c := e.cluster(t)
	for _, test := range []struct {
		name     string
		option   string // of the slaves' DSN
		source   replicated.PositionSource
		bySlaves bool
		stale    bool // some reads are
	}{
		{"reads wait", galera.Reading, galera.Source{}, true, false},
		{"control: reads do not wait, and a slave applies nothing", "", galera.Source{}, true, true},
		{"without a Source all is read on the master", "", nil, false, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			a := open(t, e, c, func(cfg *replicated.Config) {
				cfg.Probe.Source = test.source
				cfg.Token.Timeout = endless // or, on a busy machine, tokens carry a time
				for i, s := range c.Slaves {
					cfg.Slaves[i] = mysql.Open(s.DSN() + test.option)
				}
			})
			if test.stale {
				hold(t, c.Slaves[0])
			}
			y := a.run(t, "writer", load{clients: 50, rounds: 40, pace: 75 * time.Millisecond, round: roundOf,
				carry: alternately})
			t.Logf("%v", y)
			switch {
			case y.failed != nil || y.reads != 2000:
				t.Errorf("%d reads, want 2000: %v", y.reads, y.failed)
			case test.stale && y.stale == 0:
				t.Error("the control: no read was stale")
			case !test.stale:
				y.noneStale(t, "clients")
			}
			if test.bySlaves != (y.bySlave > 0) {
				t.Errorf("%d reads by slaves%s", y.bySlave, a.state())
			}
		})
	}
}
