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
	st := c.statement()
	st.query = query
	c.lookAt(&st, nil)
	to, _ := st.decide(ctx)
	db.Statement.ConnPool = before
	return to.server.ID
}

// ByTheRules returns the server for a query, and those that the rules allow, whatever the session remembers
// of the slave that it has read: all from one view of the servers.
func (p *Plugin) ByTheRules(ctx context.Context, query string) (server string, allowed []string) {
	c := p.groups[0].pools[0].(*pool)
	for {
		view := p.groups[0].cluster.View()
		st := c.statement()
		st.query = query
		c.lookAt(&st, nil)
		to, err := st.decide(ctx)
		if err != nil {
			return err.Error(), []string{err.Error()}
		}
		session := lookup(ctx).of(&p.router)
		fresh := demands{limited: st.limited, staleness: st.staleness, now: time.Now()}
		if token := session.minPositionOn(st.group, st.tables); token != nil {
			fresh.token = &minPosition{position: token.position, until: token.until}
		}
		var fit []*cluster.Server
		if intent, _ := resolve(&st.facts); intent == Slave && !p.shadow.Load() {
			fit, _, _ = candidates(view, &fresh, st.asksForSlave())
		}
		if st.group.cluster.View() != view && st.group == p.groups[0] {
			continue
		}
		for _, s := range fit {
			allowed = append(allowed, s.ID)
		}
		if len(allowed) == 0 {
			allowed = []string{st.group.cluster.Masters[0].ID}
			if st.group != p.groups[0] && to.server.Slave {
				allowed = append(allowed, to.server.ID)
			}
		}
		return to.server.ID, allowed
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

// InFlight returns how many reads count as under way on the slaves, for LeastLatency.
func (p *Plugin) InFlight() (n int64) {
	for _, s := range p.groups[0].cluster.View().All {
		n += s.Server.Load.InFlight()
	}
	return n
}
