package replicated

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"
	"gorm.io/plugin/dbresolver"

	"github.com/gorm-replicated/replicated/internal/cluster"
	"github.com/gorm-replicated/replicated/internal/sqlkind"
)

// globalName is the name of the group of all that is in no other.
const globalName = "default"

// group is one master, or several equal ones, with its slaves, and the pools that statements run on.
type group struct {
	pools     [pins][2][2]pool // by pin, prepared, built: a statement takes one without an allocation
	name      string
	index     int   // in Plugin.groups
	err       error // why nothing runs here: it was registered too late
	cluster   *cluster.Cluster
	maxLag    time.Duration
	limits    PoolConfig
	related   []*group     // those on the same master, g too
	marks     atomic.Bool  // without Secrets: who wrote to it gets a cookie
	asked     atomic.Int64 // when askUnwatched last did, in nanoseconds since 1970
	unwatched string       // why its servers are not asked for anything; "" if they are

	now         func() time.Duration
	maxOnMaster int                      // Failover.MaxOnMaster
	onMaster    atomic.Int64             // reads that count, while there is a limit
	spans       [64]atomic.Pointer[span] // of reads without a session, by their contexts

	policies *sync.Mutex       // serialises all policies: dbresolver's round robin races, and may be used twice
	policy   dbresolver.Policy // nil: any server
	measures bool              // the policy is LeastLatency
	warned   sync.Once         // that a transaction elsewhere writes its tables

	saidNoPositions atomic.Bool // see warnNoPositions
}

// open gives g its servers.
func (g *group) open(p *Plugin, servers *cluster.Cluster, policy dbresolver.Policy) {
	g.cluster, g.policies = servers, &p.policies
	g.maxOnMaster = p.config.Failover.MaxOnMaster
	g.now = p.now
	switch policy.(type) {
	case dbresolver.RandomPolicy:
	case leastLatency:
		g.measures = true
	default:
		g.policy = policy
	}
	for pin := range pin(pins) {
		for _, prepared := range []bool{false, true} {
			for _, built := range []bool{false, true} {
				*g.pool(pin, prepared, built) = pool{
					plugin: p, observer: p.observer, group: g, pin: pin, prepared: prepared, built: built, bare: p.timeout <= 0 && !g.measures,
				}
			}
		}
	}
}

func (g *group) pool(p pin, prepared, built bool) *pool {
	pools := &g.pools[p][0]
	if prepared {
		pools = &g.pools[p][1]
	}
	if built {
		return &pools[1]
	}
	return &pools[0]
}

// poolOn is pool for a statement that follows one which ran on this master, or on none if that is nil.
func (g *group) poolOn(master *cluster.Server, p pin, prepared, built bool) *pool {
	shared := g.pool(p, prepared, built)
	if master == nil {
		return shared
	}
	return &pool{plugin: shared.plugin, group: g, pin: p, prepared: prepared, built: built, on: master}
}

// choose asks the policy for one of some servers, whose pools are given as well.
func (g *group) choose(servers []*cluster.Server, pools []gorm.ConnPool) *cluster.Server {
	if len(servers) == 1 {
		return servers[0]
	}
	if g.policy != nil {
		g.policies.Lock()
		defer g.policies.Unlock()
		if chosen := recognisable(g.policy.Resolve(slices.Clone(pools))); chosen != nil {
			for _, s := range servers {
				if s.Pool == chosen {
					return s
				}
			}
		}
	}
	if g.measures && servers[0].Slave {
		return cluster.PickLeast(servers, g.now(), rand.Uint64)
	}
	return cluster.PickWeighted(servers, rand.Uint64)
}

// leastLatency is LeastLatency: the plugin chooses by what it measures.
type leastLatency struct{ dbresolver.RandomPolicy }

// LeastLatency returns a policy that prefers the slave whose reads are answered sooner: of two random ones that by latency and reads in flight ("power of
// two choices": Mitzenmacher, 2001). The latency is that until the first row, as an average that decays within seconds. A slave that is
// turned down for long gets a read now and then, one in a second at most, so that it is noticed when it has become faster. [Server].Weight counts.
//
// It is for Config.Policy and Group.Policy, and may be used for several groups. Outside of this plugin it is dbresolver.RandomPolicy.
func LeastLatency() dbresolver.Policy { return leastLatency{} }

// several tells whether there is more than one master.
func (g *group) several() bool { return len(g.cluster.Masters) > 1 }

// master returns the master for a session: the one it has used, if there are several.
func (g *group) master(m *memory) *cluster.Server {
	if !g.several() {
		return g.cluster.Masters[0]
	}
	if m == nil {
		return g.choose(g.cluster.Masters, g.cluster.MasterPools)
	}
	if m.master.Load() == nil {
		m.master.CompareAndSwap(nil, g.choose(g.cluster.Masters, g.cluster.MasterPools))
	}
	return m.master.Load()
}

// hasSlaves tells whether g was given slaves that Close has not closed.
func (g *group) hasSlaves() bool { return len(g.cluster.View().All) > 0 }

// registration is a call of Register.
type registration struct {
	group  Group
	tables []any
}

// names returns the names of the tables, models and groups that were registered; "" for a mistake. parse tells a model's table.
func (r registration) names(parse func(model any) (string, error), found *mistakes) []string {
	names := make([]string, len(r.tables))
	for i, t := range r.tables {
		name, ok := t.(string)
		if !ok {
			var err error
			if name, err = parse(t); err != nil {
				found.add("Register: %T: %w", t, err)
				continue
			}
		}
		if name == "" {
			found.add("Register: empty name")
		} else if strings.ContainsAny(name, " \t\r\n`'\",;()") {
			found.add("Register: not the name of a table: %q", name)
		}
		names[i] = name
	}
	return names
}

// parser returns a function that tells the table of a model.
func parser(db *gorm.DB) func(any) (string, error) {
	return func(model any) (table string, err error) {
		defer func() {
			if v := recover(); v != nil { // a model's TableName on a nil pointer
				err = fmt.Errorf("%v", v)
			}
		}()
		stmt := gorm.Statement{DB: db}
		if err := stmt.Parse(model); err != nil {
			return "", err
		}
		return stmt.Schema.Table, nil
	}
}

// index maps the names that were registered, and what they are in lower case, to their groups. It is never changed.
type index map[string]*group

// named returns the group of a table, or of a name, or nil. What was registered without a schema stands for itself in
// every schema.
func (x index) named(name string) *group {
	if g := x.exactly(name); g != nil {
		return g
	}
	if dot := strings.LastIndexByte(name, '.'); dot >= 0 {
		return x.exactly(name[dot+1:])
	}
	return nil
}

func (x index) exactly(name string) *group {
	if g, ok := x[name]; ok {
		return g
	}
	return x[strings.ToLower(name)]
}

// about returns the group of a statement by its SQL, or nil. What asks the catalog, as the Migrator does, has the table's name among its arguments.
func (x index) about(tables *sqlkind.Tables, n nature, query string, args []any) *group {
	if tables != nil && tables.Main != "" {
		return x.named(tables.Main)
	}
	if n == catalog {
		return x.named(catalogArgument(query, args))
	}
	return nil
}

// catalogArgument returns the argument that a query of the catalog compares with the name of a table, or "".
func catalogArgument(query string, args []any) string {
	at := tableName.FindStringSubmatchIndex(query)
	if at == nil {
		return ""
	}
	n := strings.Count(query[:at[1]], "?")
	if at[2] >= 0 {
		n, _ = strconv.Atoi(query[at[2]:at[3]])
	}
	if n < 1 || n > len(args) {
		return ""
	}
	name, _ := args[n-1].(string)
	return name
}

// tableName matches where the Migrators of MySQL and PostgreSQL compare the name of a table.
var tableName = regexp.MustCompile(`(?i)\b(?:table_?name|relname)"?\s*=\s*(?:\?|\$([0-9]+))`)

// with returns a copy of x that also has g under these names. Names that are there already are returned.
func (x index) with(g *group, names []string) (_ index, taken []string) {
	x = maps.Clone(x)
	if x == nil {
		x = index{}
	}
	for _, name := range names {
		if other := x.exactly(name); other != nil && other != g {
			taken = append(taken, name)
		}
		x[name] = g
	}
	for _, name := range names {
		if lower := strings.ToLower(name); x[lower] == nil {
			x[lower] = g
		}
	}
	return x, taken
}

// Register adds a group for these tables, given by name or by a model of theirs. Statements about them run
// on the servers of g; all others on those of [Config]. A string may as well be a name of your own, for
// db.Clauses(dbresolver.Use("name")). The first name is the group's name in routes and Status.
//
// It returns p. It has to be called before db.Use, which reports mistakes. After that it is an error, which goes to
// Config.Logger and to every statement about these tables: they do not run on servers that were not meant for them.
func (p *Plugin) Register(g Group, tables ...any) *Plugin {
	p.initializing.Lock()
	defer p.initializing.Unlock()
	r := registration{g.normalised(), slices.Clone(tables)}
	if !p.initialized.Load() {
		p.registered = append(p.registered, r)
		return p
	}
	err := fmt.Errorf("replicated: Register(%v) was called after db.Use: groups have to be registered before", labels(tables))
	p.config.Logger.Error(err.Error())
	var ignored mistakes
	names := slices.DeleteFunc(r.names(p.parse, &ignored), func(name string) bool { return name == "" })
	late := &group{name: globalName, err: err}
	late.open(p, p.groups[0].cluster, nil)
	late.related = []*group{late}
	x, _ := p.index().with(late, names)
	p.watch(x)
	return p
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

// index returns nil while there is only the global group.
func (p *Plugin) index() index {
	if x := p.names.Load(); x != nil {
		return *x
	}
	return nil
}

// watch has SQL be looked through for the names of x from now on. A statement that runs meanwhile may find a name in its SQL and not
// in the index.
func (p *Plugin) watch(x index) {
	kinds := sqlkind.NewCache(p.dialect, p.config.WriteFunctions...)
	if len(x) > 0 {
		kinds.Watch(slices.Collect(maps.Keys(x)))
	}
	p.kinds.Store(kinds)
	if len(x) > 0 {
		p.names.Store(&x)
	}
	p.setUsual()
}

// groupNamed returns the group of this name, or nil.
func (p *Plugin) groupNamed(name string) *group {
	for _, g := range p.groups {
		if g.name == name {
			return g
		}
	}
	return nil
}

// groupOf returns the group that a statement is about: as a clause says, else that of its table. It is nil where that
// does not tell: then the SQL may, and otherwise it is the global group.
func (p *Plugin) groupOf(stmt *gorm.Statement) *group {
	x := p.index()
	if x == nil {
		return nil
	}
	if name := usedGroup(stmt); name != "" {
		if g := x.exactly(name); g != nil {
			return g
		}
		if p.unknown.add(name) {
			p.config.Logger.Warn("replicated: dbresolver.Use of a name that was not registered has no effect", "name", name)
		}
	}
	return p.tableGroup(stmt)
}

// names remembers names, but no more than mostNames: they may come with a request.
type names struct {
	mu    sync.Mutex
	known map[string]bool
}

const mostNames = 16

// add reports whether the name is new, and remembered from now on.
func (n *names) add(name string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.known[name] || len(n.known) == mostNames {
		return false
	}
	if n.known == nil {
		n.known = make(map[string]bool)
	}
	n.known[strings.Clone(name)] = true
	return true
}

// tableGroup returns the group of a statement's table, or nil.
func (p *Plugin) tableGroup(stmt *gorm.Statement) *group {
	x := p.index()
	if x == nil {
		return nil
	}
	if stmt.SQL.Len() > 0 {
		if tables := p.kinds.Load().Look(stmt.SQL.String()).Tables; tables.Main != "" {
			return x.named(tables.Main)
		}
	}
	if expr := stmt.TableExpr; expr != nil { // "users AS u", of which stmt.Table is the u
		if tables := p.kinds.Load().Look("TABLE " + expr.SQL).Tables; tables.Main != "" {
			return x.named(tables.Main)
		}
		if len(expr.Vars) > 0 { // a ? alone may be an operator
			if table, ok := expr.Vars[0].(clause.Table); ok {
				return x.named(table.Name)
			}
			return nil // a query, which the SQL will show
		}
	} else if g := x.named(stmt.Table); g != nil {
		return g
	}
	if stmt.Schema != nil {
		if g := x.named(stmt.Schema.Table); g != nil {
			return g
		}
	} else if stmt.Model != nil { // not parsed yet
		if table, err := parser(stmt.DB)(stmt.Model); err == nil {
			if g := x.named(table); g != nil {
				return g
			}
		}
	}
	return nil
}

// orGlobal returns g, or the global group if there is none.
func (p *Plugin) orGlobal(g *group) *group {
	if g == nil {
		return p.groups[0]
	}
	return g
}

// usedGroup returns the name in a clause dbresolver.Use, or "". The clause's type is not exported, but its field is.
func usedGroup(stmt *gorm.Statement) string {
	c, ok := stmt.Clauses[usingName]
	if !ok {
		return ""
	}
	if v := reflect.ValueOf(c.Expression); v.Kind() == reflect.Struct {
		if f := v.FieldByName("Use"); f.Kind() == reflect.String {
			return f.String()
		}
	}
	return ""
}

// SetSlaves makes these the slaves of the group of [Config], as Config.Slaves does: new ones are opened, and read once they answer, or at once if they are not watched (see [ProbeConfig]); those that are not
// among them any longer are not read from now on, and their pools close when the last query on them ends. One that is the same as before,
// by its DSN or because it is the same dialector, and by its ID if it has one, stays as it is: its Weight, too. It reports every mistake at once; then nothing has
// changed. It is an error before db.Use and after Close.
func (p *Plugin) SetSlaves(slaves ...gorm.Dialector) error {
	return p.SetGroupSlaves(globalName, slaves...)
}

// SetGroupSlaves is [Plugin.SetSlaves] for the group of this name: the first one that was given to Register.
func (p *Plugin) SetGroupSlaves(group string, slaves ...gorm.Dialector) error {
	p.initializing.Lock()
	defer p.initializing.Unlock()
	if !p.initialized.Load() {
		return errors.New("replicated: SetSlaves before db.Use")
	}
	g := p.groupNamed(group)
	if g == nil {
		return fmt.Errorf("replicated: SetSlaves: no group %q", group)
	}
	if err := p.setSlaves(g, slaves); err != nil {
		return fmt.Errorf("replicated: SetSlaves: %w", err)
	}
	return nil
}

func (p *Plugin) setSlaves(g *group, slaves []gorm.Dialector) error {
	var found mistakes
	next := Group{Slaves: slaves, Pool: g.limits}.normalised()
	next.validate(g.field(), &found)
	if len(found) > 0 {
		return errors.Join(found...)
	}
	specs := next.specs(g.field(), p.dialectName, p.ownServer.Pool, &found)
	if len(found) > 0 {
		return errors.Join(found...)
	}
	servers, fresh := next.keep(g.cluster.Slaves(), specs)
	var others []*cluster.Server
	for _, other := range p.groups {
		others = slices.Concat(others, other.cluster.Masters, other.cluster.Slaves())
	}
	opened, err := cluster.Open(p.ownServer, fresh, others...)
	if err != nil {
		return err
	}
	for i := range servers {
		if servers[i] == nil {
			servers[i], opened = opened[0], opened[1:]
		}
	}
	used := func(s *cluster.Server) bool { // by another group
		return slices.ContainsFunc(p.groups, func(other *group) bool {
			return other != g && slices.ContainsFunc(other.cluster.Slaves(), s.SharesPool)
		})
	}
	if !g.cluster.SetSlaves(servers, used) {
		cluster.Discard(servers)
		return errors.New("the plugin is closed")
	}
	p.grant()
	return nil
}

// keep returns which of the slaves that are there are those of g, nil where none is, and how to open the others.
func (g Group) keep(before []*cluster.Server, specs []cluster.Spec) (servers []*cluster.Server, fresh []cluster.Spec) {
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

// openGroups opens the servers of all groups, after every mistake in their configuration was added to found. It
// returns the groups, the global one first, and the index of the others.
func (p *Plugin) openGroups(db *gorm.DB, own gorm.ConnPool, found mistakes) ([]*group, index, error) {
	all := append([]registration{{group: p.config.group()}}, p.registered...)
	groups := make([]*group, len(all))
	var x index
	for i, r := range all {
		groups[i] = &group{name: globalName, index: i}
		if i > 0 {
			x = r.name(groups[i], x, p.parse, &found)
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
	p.ownServer = cluster.NewServer(masterID(db.Dialector, specs), own, db.Dialector, db.PrepareStmtMaxSize, db.PrepareStmtTTL)
	servers, err := cluster.Open(p.ownServer, specs)
	if err != nil {
		return nil, nil, err
	}
	if !db.DisableAutomaticPing {
		if err := pingMasters(servers, specs); err != nil {
			return nil, nil, err
		}
	}
	for i, r := range all {
		masters, slaves := []*cluster.Server{p.ownServer}, servers[len(r.group.Masters):]
		if n := len(r.group.Masters); n > 0 {
			masters = servers[:n:n]
		}
		groups[i].limits = r.group.Pool
		groups[i].maxLag = cmp.Or(r.group.MaxLag, p.config.MaxLag)
		p.probes = p.probes || i > 0 && r.group.MaxLag > 0
		n := len(r.group.Slaves)
		groups[i].open(p, cluster.New(masters, slaves[:n:n]), r.group.Policy)
		servers = slaves[n:]
	}
	return groups, x, nil
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

// field begins the names of the group's fields in errors.
func (g *group) field() string {
	if g.index == 0 {
		return ""
	}
	return fmt.Sprintf("group %q: ", g.name)
}

// touched calls f with the groups that a statement of g may read, until it returns true: those of the tables that it names, or if it is a
// transaction, for which tables is nil, those on the same master. It tells whether f did.
func (p *Plugin) touched(g *group, tables *sqlkind.Tables, f func(*group) bool) bool {
	if tables == nil {
		return slices.ContainsFunc(p.groups, func(other *group) bool { return g.shares(other) && f(other) })
	}
	if f(g) || tables.Others && f(p.groups[0]) {
		return true
	}
	return slices.ContainsFunc(tables.All, func(t string) bool { return f(p.index().named(t)) })
}

// wrote tells whether the session has written to what a statement of g may read.
func (p *Plugin) wrote(ctx context.Context, g *group, tables *sqlkind.Tables) bool {
	session := lookup(ctx).of(p)
	return session != nil && p.touched(g, tables, func(other *group) bool { return session.memoryOf(other).wroteTo() })
}

// mark remembers that a session has written to the groups of the tables that a statement names, which ran on a master of g, or on
// one that is not known if that is nil. If its SQL is unknown, or a function in it, it may have written to
// every group that is there.
func (p *Plugin) mark(ctx context.Context, j judgement, g *group) {
	session := lookup(ctx).remembers(p)
	if session == nil {
		return
	}
	if len(p.groups) == 1 {
		session.markWritten(p.groups[0])
		return
	}
	tables := j.tables
	named := tables != nil && (tables.Others || len(tables.All) > 0)
	if j.nature == unknown || j.strange || !named {
		for _, other := range p.groups {
			if g == nil || g.shares(other) {
				session.markWritten(other)
			}
		}
	}
	if !named {
		return
	}
	if tables.Others {
		session.markWritten(p.groups[0])
	}
	for _, t := range tables.All {
		session.markWritten(p.index().named(t))
	}
}

// relate finds out which groups share a master, as far as pools and addresses tell: see shares.
func (p *Plugin) relate() {
	share := func(a, b *group) bool {
		return slices.ContainsFunc(a.cluster.Masters, func(s *cluster.Server) bool {
			return slices.ContainsFunc(b.cluster.Masters, s.Same)
		})
	}
	for _, g := range p.groups {
		for _, other := range p.groups {
			if share(g, other) {
				g.related = append(g.related, other)
			}
		}
	}
}

// grant finds out which groups' clients get a cookie where there are no Secrets: those of one with slaves,
// and of one whose master has slaves in another group. They go on getting it when the slaves are taken away
// for a while, as other instances may still have theirs. With Secrets every client that wrote gets a token.
func (p *Plugin) grant() {
	for _, g := range p.groups {
		if slices.ContainsFunc(g.related, (*group).hasSlaves) {
			g.marks.Store(true)
			p.marks.Store(true)
		}
	}
}

// misplaced says, once for each group, that a transaction on another database writes to its tables.
func (p *Plugin) misplaced(g *group, master *cluster.Server) {
	if g == nil || master == nil || slices.Contains(g.cluster.Masters, master) {
		return
	}
	g.warned.Do(func() {
		p.config.Logger.Warn("replicated: a transaction or connection of another group writes to a table of this one, "+
			"and stays where it is: begin it behind db.Clauses(dbresolver.Use(name))", "group", g.name, "server", master.ID)
	})
}
