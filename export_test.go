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
	r, _ := db.Statement.ConnPool.(*pool).route(ctx, query, nil)
	db.Statement.ConnPool = before
	return r.server.ID
}
