package positions

import (
	"context"
	"testing"
	"time"

	"github.com/gorm-replicated/replicated/integration/servers"
	"github.com/gorm-replicated/replicated/internal/position"
)

// TestPrimaryChanges has a member of a group take the primary's place. Whatever it is that the address of the
// master leads to, no member has diverged: what is written to the group has the group's UUID, whoever is the
// primary.
func TestPrimaryChanges(t *testing.T) {
	for _, k := range kinds {
		if !k.group {
			continue
		}
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute) // so that nothing hangs
		defer cancel()
		c, err := k.start(ctx, servers.Config{Slaves: 2})
		servers.Check(t, err)
		t.Cleanup(func() { ok(t, c.Close()) })
		former, latter, other := c.Master, c.Slaves[0], c.Slaves[1]
		exec(ctx, t, former, "CREATE TABLE test.notes (id INT PRIMARY KEY)",
			"INSERT INTO test.notes VALUES (1)")
		ok(t, c.CatchUp(ctx))
		before := roles(ctx, t, k, c, former, latter, other)
		await(ctx, t, before, "all in the view", have(0, 1))

		exec(ctx, t, latter, "DO group_replication_set_as_primary(@@GLOBAL.server_uuid)",
			"INSERT INTO test.notes VALUES (2)")
		stays(t, before, have(0, 1)) // the address of the master leads to the former one, for some time
		follows(ctx, t, k, former, latter)
		follows(ctx, t, k, other, latter)
		master := asked(ctx, t, k, latter, true)
		for _, s := range []*servers.Server{former, other} {
			r := asked(ctx, t, k, s, false)
			if errant := position.Errant(r.Own, master); errant.Known() || !r.ReadOnly {
				t.Errorf("%v: errant are %v: %+v", s, errant, r)
			}
		}
		after := roles(ctx, t, k, c, latter, former, other)
		await(ctx, t, after, "all in the view", have(0, 1))
		stays(t, after, have(0, 1))
		// The control: the primary is told from its slaves.
		among := roles(ctx, t, k, c, latter, former, latter)
		await(ctx, t, among, "without the primary", out(1, "is the master: the same server as "))
	}
}
