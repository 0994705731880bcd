package replicated

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"gorm.io/gorm"
	"gorm.io/plugin/dbresolver"

	"github.com/gorm-replicated/replicated/internal/cluster"
	"github.com/gorm-replicated/replicated/internal/position"
	"github.com/gorm-replicated/replicated/internal/sqlkind"
)

// openGroups opens the servers of all groups, after every mistake in their configuration was added to
// found. It returns the groups, the global one first, and the index of the others.
func (rt *router) openGroups(db *gorm.DB, own gorm.ConnPool, found mistakes) ([]*group, index, error) {
	all := append([]registration{{group: rt.config.group()}}, rt.registered...)
	groups := make([]*group, len(all))
	var x index
	for i, r := range all {
		groups[i] = &group{name: globalName, index: i}
		if i > 0 {
			x = r.name(groups[i], x, rt.parse, &found)
		}
		r.group.validate(groups[i].field(), &found)
	}
	if len(found) > 0 {
		return nil, nil, errors.Join(found...)
	}

	var specs []cluster.Spec
	for i, r := range all {
		specs = append(specs, r.group.specs(groups[i].field(), db.Dialector.Name(), own, &found)...)
	}
	if len(found) > 0 {
		return nil, nil, errors.Join(found...)
	}
	id := masterID(db.Dialector, specs)
	rt.ownServer = cluster.NewServer(id, own, db.Dialector, db.PrepareStmtMaxSize, db.PrepareStmtTTL)
	servers, err := cluster.Open(rt.ownServer, specs)
	if err != nil {
		return nil, nil, err
	}
	if !db.DisableAutomaticPing {
		if err := pingMasters(servers, specs); err != nil {
			return nil, nil, err
		}
	}
	for i, r := range all {
		masters, slaves := []*cluster.Server{rt.ownServer}, servers[len(r.group.Masters):]
		if n := len(r.group.Masters); n > 0 {
			masters = servers[:n:n]
		}
		groups[i].limits = r.group.Pool
		groups[i].maxLag = cmp.Or(r.group.MaxLag, rt.config.MaxLag)
		rt.probes = rt.probes || i > 0 && r.group.MaxLag > 0
		n := len(r.group.Slaves)
		rt.openGroup(groups[i], cluster.New(masters, slaves[:n:n]), r.group.Policy)
		servers = slaves[n:]
	}
	return groups, x, nil
}

// openGroup gives g its servers.
func (rt *router) openGroup(g *group, servers *cluster.Cluster, policy dbresolver.Policy) {
	g.cluster, g.policies, g.now = servers, &rt.policies, rt.now
	g.maxOnMaster = rt.config.Failover.MaxOnMaster
	switch policy.(type) {
	case dbresolver.RandomPolicy:
	case leastLatency:
		g.measures = true
	default:
		g.policy = policy
	}
	rt.makePools(g)
}

// pingMasters has every master answer that was opened, as gorm.Open does, or closes all servers.
func pingMasters(servers []*cluster.Server, specs []cluster.Spec) error {
	var masters []*cluster.Server
	var theirs []cluster.Spec
	for i, s := range servers {
		if !s.Slave {
			masters, theirs = append(masters, s), append(theirs, specs[i])
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), cluster.OpenTimeout)
	defer cancel()
	err := cluster.Ping(ctx, masters, theirs)
	if err != nil {
		cluster.Discard(servers)
	}
	return err
}

// name names g after what was registered with it, and returns x with these names.
func (r registration) name(g *group, x index, parse func(any) (string, error), found *mistakes) index {
	if len(r.tables) == 0 {
		found.add("Register: no tables: the group of all that is in no other is that of Config")
		return x
	}
	names := r.names(parse, found)
	g.name = names[0]
	if slices.Contains(names, globalName) {
		found.add("Register: %q is the name of the group of Config", globalName)
	}
	x, taken := x.with(g, names)
	for _, name := range taken {
		found.add("Register: %q is in two groups", name)
	}
	return x
}

// labels describes what was registered.
func labels(tables []any) string {
	var labels []string
	for _, t := range tables {
		if name, ok := t.(string); ok {
			labels = append(labels, fmt.Sprintf("%q", name))
		} else {
			labels = append(labels, fmt.Sprintf("%T", t))
		}
	}
	return strings.Join(labels, ", ")
}

func (rt *router) setSlaves(g *group, slaves []gorm.Dialector) error {
	var found mistakes
	next := Group{Slaves: slaves, Pool: g.limits}.normalised()
	next.validate(g.field(), &found)
	if len(found) > 0 {
		return errors.Join(found...)
	}
	specs := next.specs(g.field(), rt.dialectName, rt.ownServer.Pool, &found)
	if len(found) > 0 {
		return errors.Join(found...)
	}
	servers, fresh := next.reuse(g.cluster.Slaves(), specs)
	var others []*cluster.Server
	for _, other := range rt.groups {
		others = slices.Concat(others, other.cluster.Masters, other.cluster.Slaves())
	}
	opened, err := cluster.Open(rt.ownServer, fresh, others...)
	if err != nil {
		return err
	}
	for i := range servers {
		if servers[i] == nil {
			servers[i], opened = opened[0], opened[1:]
		}
	}
	used := func(s *cluster.Server) bool { // by another group
		return slices.ContainsFunc(rt.groups, func(other *group) bool {
			return other != g && slices.ContainsFunc(other.cluster.Slaves(), s.SharesPool)
		})
	}
	if !g.cluster.SetSlaves(servers, used) {
		cluster.Discard(servers)
		return errors.New("the plugin is closed")
	}
	rt.grant()
	return nil
}

// reuse returns which of the slaves that are there are those of g, nil where none is, and how to open the
// others.
func (g Group) reuse(before []*cluster.Server, specs []cluster.Spec) (
	servers []*cluster.Server, fresh []cluster.Spec,
) {
	servers = make([]*cluster.Server, len(specs))
	taken := map[string]bool{}
	for i, spec := range specs {
		s, _ := named(g.Slaves[i])
		same := slices.IndexFunc(before, func(old *cluster.Server) bool {
			return old.OpenedBy(spec.Dialector) && (s.ID == "" || s.ID == old.ID) && !slices.Contains(servers, old)
		})
		if same >= 0 {
			servers[i] = before[same]
			taken[servers[i].ID] = true
		}
	}
	for i, spec := range specs {
		if servers[i] != nil {
			continue
		}
		base := spec.ID
		for n := 2; taken[spec.ID]; n++ {
			spec.ID = fmt.Sprintf("%s-%d", base, n)
		}
		taken[spec.ID] = true
		fresh = append(fresh, spec)
	}
	return servers, fresh
}

// masterID names the *gorm.DB's own server by its address, or else "master", unless one of the others
// has that name: two databases of one server have one address.
func masterID(d gorm.Dialector, others []cluster.Spec) string {
	taken := func(id string) bool {
		return id == "" || slices.ContainsFunc(others, func(s cluster.Spec) bool { return s.ID == id })
	}
	id := cluster.Address(d)
	for n := 1; taken(id); n++ {
		if id = "master"; n > 1 {
			id = fmt.Sprintf("master-%d", n)
		}
	}
	return id
}

func (rt *router) closeGroups() error {
	errs := make([]error, len(rt.groups))
	for i, g := range rt.groups {
		errs[i] = g.cluster.Close()
	}
	return errors.Join(errs...)
}

// abandonGroups closes what Initialize has opened, and nothing that was open before.
func (rt *router) abandonGroups() {
	for _, g := range rt.groups {
		g.cluster.Abandon()
	}
}

// monitor begins to watch the servers, and waits until the deadline for what they say first.
func (rt *router) monitor(deadline time.Time) {
	ctx, cancel := context.WithDeadline(context.Background(), deadline)
	defer cancel()
	var known position.Source
	if rt.config.Probe.Source != nil {
		known = source{rt.config.Probe.Source}
	}
	var watched []*group
	for _, g := range rt.groups {
		none := rt.unwatched(g)
		g.unwatched = none.Reason
		if none.Remedy != "" && g.hasSlaves() {
			rt.warnNoPositions(g, g.cluster.Masters[0], none.Reason, none.Remedy)
		}
		g.cluster.Watch(cluster.Monitoring{
			Blind: g.unwatched != "", Dialect: rt.dialectName, Source: known,
			Interval: rt.config.Probe.Interval, MinInterval: rt.config.Probe.MinInterval, MaxLag: g.maxLag,
			Notice: func(s *cluster.Server, in bool, reason, remedy string) {
				rt.tellOfChange(g, s, in, reason, remedy)
			},
			NoPositions: func(s *cluster.Server, reason, remedy string) {
				rt.warnNoPositions(g, s, reason, remedy)
			},
			Writable: func(s *cluster.Server) {
				rt.notices.Warn("replicated: a slave takes writes: run it with read_only, so that none can go astray",
					"group", g.name, "server", s.ID)
			},
		})
		watched = append(watched, g)
		if rt.givesCookies.Load() && !slices.ContainsFunc(g.related, (*group).hasSlaves) {
			g.askMasters() // it may be on the master of another one: see shares
		}
	}
	for _, g := range watched {
		g.cluster.AwaitFirst(ctx)
	}
	rt.log.Flush(ctx) // whoever waited for the first answers finds in the log what they were
}

// tellOfChange says that a slave comes or goes, or that a master answers or does not.
func (rt *router) tellOfChange(g *group, s *cluster.Server, in bool, reason, remedy string) {
	log := rt.notices.With("group", g.name, "server", s.ID)
	switch {
	case in && s.Slave:
		log.Info("replicated: a slave is read")
	case in:
		log.Info("replicated: the master answers again")
	case s.Slave:
		why := []any{"reason", reason}
		if remedy != "" {
			why = append(why, "remedy", remedy)
		}
		log.Warn("replicated: a slave is not read", why...)
	default:
		log.Warn("replicated: the master cannot be asked how far it is: the lag of slaves stands still, "+
			"and tokens carry a time", "reason", reason)
	}
}

// warnNoPositions says that g has no positions, and what mends it: once, see cluster.Monitoring.
func (rt *router) warnNoPositions(g *group, s *cluster.Server, reason, remedy string) {
	g.saidNoPositions.Store(true)
	rt.notices.Warn("replicated: a group has no positions: the lag of its slaves is not known, "+
		"MaxLag has no effect, and tokens carry a time",
		"group", g.name, "server", s.ID, "reason", reason, "remedy", remedy)
}

// unwatched tells why the servers of g are not asked for anything, "" if they are: see ProbeConfig. There is
// a remedy where that is not the configuration's own choice.
func (rt *router) unwatched(g *group) position.Reading {
	none, known := position.ByDialect(rt.dialectName)
	switch {
	case rt.config.Probe.Interval < 0:
		return position.Reading{Reason: "Probe.Interval is negative"}
	case rt.config.Probe.Source == nil && !known:
		return none
	case !rt.probes && !g.cluster.Watchable():
		return position.Reading{
			Reason: "a connection pool was brought ready-made: set Probe.Interval to have it watched",
		}
	}
	return position.Reading{}
}

// relate finds out which groups share a master, as far as pools and addresses tell: see shares.
func (rt *router) relate() {
	share := func(a, b *group) bool {
		return slices.ContainsFunc(a.cluster.Masters, func(s *cluster.Server) bool {
			return slices.ContainsFunc(b.cluster.Masters, s.Same)
		})
	}
	for _, g := range rt.groups {
		for _, other := range rt.groups {
			if share(g, other) {
				g.related = append(g.related, other)
			}
		}
	}
}

// grant finds out which groups' clients get a cookie where there are no Secrets: those of one with slaves,
// and of one whose master has slaves in another group. They go on getting it when the slaves are taken away
// for a while, as other instances may still have theirs. With Secrets every client that wrote gets a token.
func (rt *router) grant() {
	for _, g := range rt.groups {
		if slices.ContainsFunc(g.related, (*group).hasSlaves) {
			g.givesCookies.Store(true)
			rt.givesCookies.Store(true)
		}
	}
}

// setIndex has SQL be looked through for the names of x from now on. A statement that runs meanwhile may find
// a name in its SQL and not in the index.
func (rt *router) setIndex(x index) {
	kinds := sqlkind.NewCache(rt.dialect, rt.config.WriteFunctions...)
	if len(x) > 0 {
		kinds.Watch(slices.Collect(maps.Keys(x)))
	}
	rt.kinds.Store(kinds)
	if len(x) > 0 {
		rt.byName.Store(&x)
	}
}
