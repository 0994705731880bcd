package replicated

import (
	"context"

	"gorm.io/gorm"
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
