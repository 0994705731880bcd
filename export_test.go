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
	r := run{pool: db.Statement.ConnPool.(*pool), query: query}
	_ = r.route(ctx, nil)
	db.Statement.ConnPool = before
	return r.server.ID
}
