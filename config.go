package replicated

import (
	"cmp"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"time"

	"gorm.io/gorm"
	"gorm.io/plugin/dbresolver"

	"github.com/gorm-replicated/replicated/internal/cluster"
)

// Config configures a [Plugin]. Most applications set Slaves and nothing else.
// The zero value has no slaves: everything runs on the master.
//
// [New] copies it: changing it later has no effect.
type Config struct {
	// Slaves are the servers to read from, opened by Initialize. A pool that a
	// dialector brings ready-made (mysql.Config.Conn) becomes the plugin's once db.Use succeeds: Close closes it.
	// Wrap one in [Server] to name it. Default: none.
	Slaves []gorm.Dialector

	// Masters are the servers to write to, opened by Initialize. Several have to be equal: each takes writes, and what is
	// written to one appears on the others. A request stays on one of them. They are never closed.
	// db.DB() is the first. Default: the connection of the *gorm.DB itself, which is not used otherwise.
	Masters []gorm.Dialector

	// Policy picks the slave of a request, or of a statement outside of any; where there are several masters, the master
	// as well. It is given the
	// connection pools of those that may serve, as dbresolver does; nil or a pool it was not
	// given means any of them. Calls are serialised. It must not change the slice.
	// Default: dbresolver.RandomPolicy{}.
	Policy dbresolver.Policy

	// Pool limits the connection pool of each server of Slaves and Masters. That of the *gorm.DB itself is never touched.
	Pool PoolConfig

	// AutoReadOnSlave lets the request's method and DefaultIntent choose a
	// slave (AUTO_READ_ON_SLAVE in Flask-Replicated). If it is false, only what is marked
	// reads from slaves: UseSlave, WithSlave, Routes, a clause.
	// [Plugin.SetAutoReadOnSlave] changes it while requests run. Default: true.
	AutoReadOnSlave *bool

	// ReadOnlyMethods are the HTTP methods whose requests only read; their case does not matter.
	// Default, if nil: GET and HEAD. Empty and not nil: none.
	ReadOnlyMethods []string

	// Routes gives requests an intent by pattern, whatever their method and
	// whether or not AutoReadOnSlave is on: {"POST /search": replicated.Slave}.
	// Patterns are those of [http.ServeMux], matched against the request as Middleware sees it;
	// the most specific one counts. Default: none.
	Routes map[string]Intent

	// DefaultIntent is the intent where there is no request, such as in a
	// background job, while AutoReadOnSlave is on. Default: Master.
	DefaultIntent Intent

	// RejectWrites makes a write under a Slave intent fail with
	// [ErrWriteOnSlave], before anything is executed. Default: it runs on the master.
	RejectWrites bool

	// WriteFunctions names functions that write although a SELECT calls them, such as stored ones. Case and
	// schema do not matter. Default: none; those of the databases themselves are known (docs/routing.md).
	WriteFunctions []string

	// Logger takes what an operator should know. Default: slog.Default().
	Logger *slog.Logger

	// Observer is told about every routed statement. Default: none.
	Observer Observer
}

// Group is servers for some of the tables, for use with [Plugin.Register]. Its fields are
// those of [Config]: without Masters, the master is the connection of the *gorm.DB itself; without Slaves, everything
// about these tables runs on the master.
type Group struct {
	Slaves, Masters []gorm.Dialector
	Policy          dbresolver.Policy
	Pool            PoolConfig
}

// PoolConfig limits the connection pool of each server that is opened. A pool that a dialector
// brings ready-made keeps its own limits.
type PoolConfig struct {
	// MaxOpen is the number of connections at most. Default: as the pool of the *gorm.DB has it.
	MaxOpen int
	// MaxIdle is the number of idle connections at most; negative: none are kept.
	// Default: MaxOpen, or 16 if that is unlimited.
	MaxIdle int
	// MaxLifetime is the age at which a connection is closed; negative: none.
	// Default: 3 minutes; none for SQLite.
	MaxLifetime time.Duration
	// MaxIdleTime is how long a connection may be idle. Default: any time.
	MaxIdleTime time.Duration
}

// Server is a server with a name, for use in Slaves and Masters of [Config] and [Group].
type Server struct {
	gorm.Dialector
	// ID names the server in routes, logs and Status. It must not hold a credential.
	// Default: host:port where the DSN shows it, otherwise slave-1, slave-2 and so on, or master-1.
	ID string
}

// normalised returns a copy of c with the defaults filled in.
func (c Config) normalised() Config {
	g := c.group().normalised()
	c.Slaves, c.Masters, c.Policy = g.Slaves, g.Masters, g.Policy
	c.Routes = maps.Clone(c.Routes)
	c.WriteFunctions = slices.Clone(c.WriteFunctions)
	if c.AutoReadOnSlave == nil {
		c.AutoReadOnSlave = new(bool)
		*c.AutoReadOnSlave = true
	} else {
		on := *c.AutoReadOnSlave
		c.AutoReadOnSlave = &on
	}
	if c.ReadOnlyMethods == nil {
		c.ReadOnlyMethods = []string{http.MethodGet, http.MethodHead}
	}
	c.ReadOnlyMethods = slices.Clone(c.ReadOnlyMethods)
	for i, m := range c.ReadOnlyMethods {
		c.ReadOnlyMethods[i] = strings.ToUpper(m)
	}
	c.Logger = cmp.Or(c.Logger, slog.Default())
	return c
}

// group returns the group of all tables that are in no other.
func (c Config) group() Group { return Group{c.Slaves, c.Masters, c.Policy, c.Pool} }

// normalised returns a copy of g with the defaults filled in.
func (g Group) normalised() Group {
	g.Slaves, g.Masters = slices.Clone(g.Slaves), slices.Clone(g.Masters)
	if g.Policy == nil {
		g.Policy = dbresolver.RandomPolicy{}
	}
	return g
}

// servers returns the masters and the slaves, with the names of their fields.
func (g Group) servers(field string) (all []gorm.Dialector, fields []string) {
	for i := range g.Masters {
		fields = append(fields, fmt.Sprintf("%sMasters[%d]", field, i))
	}
	for i := range g.Slaves {
		fields = append(fields, fmt.Sprintf("%sSlaves[%d]", field, i))
	}
	return slices.Concat(g.Masters, g.Slaves), fields
}

// validate adds every mistake in a normalised g to found; field begins the
// names of its fields.
func (g Group) validate(field string, found *mistakes) {
	ids := map[string]string{}
	servers, fields := g.servers(field)
	for i, d := range servers {
		s, d := named(d)
		if isNil(d) {
			found.add("%s: nil dialector", fields[i])
		}
		if s.ID == "" {
			continue
		}
		if other, ok := ids[s.ID]; ok {
			found.add("%s: ID %q is that of %s", fields[i], s.ID, other)
		}
		ids[s.ID] = fields[i]
	}
	if isNil(g.Policy) {
		found.add("%sPolicy: nil %T", field, g.Policy)
	}
	if g.Pool.MaxOpen < 0 {
		found.add("%sPool.MaxOpen: negative: %d", field, g.Pool.MaxOpen)
	}
	if g.Pool.MaxIdleTime < 0 {
		found.add("%sPool.MaxIdleTime: negative: %v", field, g.Pool.MaxIdleTime)
	}
}

// validate returns the compiled Routes of a normalised c, and every mistake that can be seen without a
// database, but for those of its group.
func (c Config) validate() (*matcher, mistakes) {
	var found mistakes
	for i, m := range c.ReadOnlyMethods {
		if !validMethod(m) {
			found.add("ReadOnlyMethods[%d]: not a method: %q", i, m)
		}
	}
	if !c.DefaultIntent.valid() {
		found.add("DefaultIntent: unknown intent %v", c.DefaultIntent)
	}
	for i, f := range c.WriteFunctions {
		if strings.TrimSpace(f) == "" {
			found.add("WriteFunctions[%d]: empty name", i)
		}
	}
	routes := compileRoutes(c.Routes, &found)
	return routes, found
}

// mistakes are those of a configuration.
type mistakes []error

func (m *mistakes) add(format string, args ...any) { *m = append(*m, fmt.Errorf(format, args...)) }

// named splits a server's dialector from the name it may be wrapped in.
func named(d gorm.Dialector) (Server, gorm.Dialector) {
	switch s := d.(type) {
	case Server:
		return s, s.Dialector
	case *Server:
		if s == nil {
			return Server{}, nil
		}
		return *s, s.Dialector
	}
	return Server{}, d
}

// specs says how to open the servers of a validated g, masters first, beside the *gorm.DB's own of the
// given dialect. field begins the names of its fields.
func (g Group) specs(field, dialect string, own gorm.ConnPool, found *mistakes) []cluster.Spec {
	servers, fields := g.servers(field)
	specs := make([]cluster.Spec, len(servers))
	taken := map[string]bool{}
	limits := cluster.Limits(g.Pool).Fill(dialect, own)
	for i, server := range servers {
		s, d := named(server)
		taken[s.ID] = true
		specs[i] = cluster.Spec{Field: fields[i], ID: s.ID, Dialector: d, Master: i < len(g.Masters), Limits: limits}
	}
	for i := range specs {
		d := specs[i].Dialector
		if specs[i].ID == "" {
			base := fmt.Sprintf("slave-%d", i-len(g.Masters)+1)
			if specs[i].Master {
				base = fmt.Sprintf("master-%d", i+1)
			}
			base = cmp.Or(cluster.Address(d), base)
			id := base
			for n := 2; taken[id]; n++ { // two databases of one server
				id = fmt.Sprintf("%s-%d", base, n)
			}
			taken[id] = true
			specs[i].ID = id
		}
		if d.Name() != dialect {
			found.add("%s (%s): dialect %q, but the master's is %q", specs[i].Field, specs[i].ID, d.Name(), dialect)
		}
	}
	return specs
}

// matcher finds the pattern of Config.Routes that a request matches.
type matcher struct {
	mux    *http.ServeMux
	routes map[string]choice
}

func compileRoutes(routes map[string]Intent, found *mistakes) *matcher {
	m := &matcher{mux: http.NewServeMux(), routes: make(map[string]choice, len(routes))}
	for _, pattern := range slices.Sorted(maps.Keys(routes)) {
		if !routes[pattern].valid() {
			found.add("Routes[%q]: unknown intent %v", pattern, routes[pattern])
		}
		if err := register(m.mux, pattern); err != nil {
			found.add("Routes[%q]: %w", pattern, err)
		}
		m.routes[pattern] = choose(routes[pattern])
	}
	return m
}

// register turns the panic with which a ServeMux refuses a pattern into an error.
func register(mux *http.ServeMux, pattern string) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("%v", v)
		}
	}()
	mux.Handle(pattern, http.NotFoundHandler())
	return nil
}

// match returns what Config.Routes says about r. A request that a ServeMux
// would redirect, such as one for //search, counts as the one it leads to: the
// application's own router may serve it without a redirect.
func (m *matcher) match(r *http.Request) choice {
	if len(m.routes) == 0 {
		return undecided
	}
	_, pattern := m.mux.Handler(r)
	return m.routes[pattern]
}

// validMethod tells whether s is a token, as RFC 9110 (section 9.1) wants a
// method to be.
func validMethod(s string) bool {
	return s != "" && strings.IndexFunc(s, func(r rune) bool {
		return !('A' <= r && r <= 'Z' || 'a' <= r && r <= 'z' || '0' <= r && r <= '9' || strings.ContainsRune("!#$%&'*+-.^_`|~", r))
	}) < 0
}

// isNil tells whether v is nil, or an interface around a nil.
func isNil(v any) bool {
	switch rv := reflect.ValueOf(v); rv.Kind() {
	case reflect.Invalid:
		return true
	case reflect.Pointer, reflect.Func, reflect.Map, reflect.Chan, reflect.Slice, reflect.Interface:
		return rv.IsNil()
	}
	return false
}
