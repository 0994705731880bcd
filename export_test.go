package replicated

import (
	"context"
	"time"

	"gorm.io/gorm"

	"github.com/gorm-replicated/replicated/internal/cluster"
)

// Decide does what happens to a query between the callback and the chosen
// server, which it returns the ID of, and nothing else.
func (p *Plugin) Decide(db *gorm.DB, ctx context.Context, query string) string {
	before := db.Statement.ConnPool
	p.routeRead(db)
	c := db.Statement.ConnPool.(*pool)
	r := run{pool: c, query: query}
	_ = r.enter(ctx, nil, c.usual(ctx, query), nil)
	db.Statement.ConnPool = before
	return r.server.ID
}

// BothWays returns the server for a query by the short way, "" if that leaves it to the rules, and by the rules, both from one view of the servers.
func (p *Plugin) BothWays(ctx context.Context, query string) (usual, rules string) {
	g := p.groups[0]
	for pin := pin(1); pin < pins; pin++ {
		if slave := g.pool(pin, false, false).usual(ctx, query); slave != nil {
			return "taken in spite of a pin", ""
		}
	}
	for {
		view := g.cluster.View()
		plain, prepared := g.pool(noPin, false, false).usual(ctx, query), g.pool(noPin, true, false).usual(ctx, query)
		r := run{pool: g.pool(noPin, false, false), query: query}
		if err := r.route(ctx, nil); err != nil {
			rules = err.Error()
		} else {
			rules = r.server.ID
		}
		if g.cluster.View() != view {
			continue
		}
		if plain != nil {
			usual = plain.ID
		}
		if prepared != nil && prepared.ID != rules {
			usual = "for what is prepared: " + prepared.ID
		}
		return usual, rules
	}
}

// HangMonitor has servers that nobody watched be watched by a monitor that hangs as soon as there is anything
// to tell.
func (p *Plugin) HangMonitor(maxLag time.Duration, hang func()) {
	g := p.groups[0]
	g.unwatched = ""
	g.cluster.Watch(cluster.Monitoring{
		Interval: p.config.Probe.Interval, MinInterval: p.config.Probe.MinInterval, MaxLag: maxLag,
		Source: source{p.config.Probe.Source},
		Notice: func(*cluster.Server, bool, string, string) { hang() },
	})
}
