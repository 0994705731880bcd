package replicated

import (
	"cmp"
	"context"
	"database/sql"
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
	"github.com/gorm-replicated/replicated/internal/position"
	"github.com/gorm-replicated/replicated/internal/token"
)

// Config configures a [Plugin]. Most applications set Slaves and Secrets.
// The zero value has no slaves: everything runs on the master.
//
// [New] copies it: changing it later has no effect.
type Config struct {
	// Slaves are the servers to read from, opened by Initialize: each one server, not an address that leads to several. A pool that a
	// dialector brings ready-made (mysql.Config.Conn) becomes the plugin's once db.Use succeeds: Close closes it.
	// Wrap one in [Server] to name or weigh it. Default: none.
	Slaves []gorm.Dialector

	// Masters are the servers to write to, opened by Initialize. Several have to be equal: each takes writes, and what is
	// written to one appears on the others. A request stays on one of them. They are never closed.
	// db.DB() is the first. Default: the connection of the *gorm.DB itself, which is not used otherwise.
	Masters []gorm.Dialector

	// Policy picks the slave of a request, or of a statement outside of any; where there are several masters,
	// the master as well. It is given the connection pools of those that may serve, as dbresolver does; nil
	// or a pool it was not given means any of them. Calls are serialised, so it must not block: all reads
	// that need a slave would wait. It must not change the slice. Default: dbresolver.RandomPolicy{}.
	Policy dbresolver.Policy

	// MaxLag is how far behind a slave may be that is read. It is compared with an upper bound of its lag, which Probe finds out.
	// Default: 60 s; less turns every burst of lag into load on the master.
	MaxLag time.Duration

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

	// Secrets seal the tokens by which a client reads what it has written: the first one seals, all open. Each is at least 32
	// random bytes, such as "openssl rand -base64 32" prints, the same in all instances of the application. To replace one, add
	// the new one behind it everywhere, then swap them, and remove the old one after Token.TTL.
	// Default: none. Then a cookie without content sends a client that wrote to the master for Token.Window.
	Secrets [][]byte

	// Token says how tokens travel, and how long they count.
	Token TokenConfig

	// Probe says how the servers are watched.
	Probe ProbeConfig

	// Failover says what happens when servers fail.
	Failover FailoverConfig

	// Logger takes what an operator should know: above all, when db.Use is called, that a group has no
	// positions, and what to set. One that blocks stops nothing: messages that it does not take are
	// dropped, and their number is logged when it takes some again. Default: slog.Default().
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
	MaxLag          time.Duration // default: that of Config
	Pool            PoolConfig
}

// TokenConfig says how a client carries what it must not read behind from a response to its next request: in a cookie, and for
// clients without cookies in a header.
type TokenConfig struct {
	// TTL is how long a token counts: at least MaxLag and a minute, by which the clocks of two instances may differ. A client
	// that comes back later finds every slave that is read to have caught up. Default: 5 minutes.
	TTL time.Duration
	// Window is how long a client that wrote reads the master where there is no position to compare with: without
	// Secrets, on SQLite, with the binary log off. Slaves that are further behind show it stale data. Default: 5 s.
	Window time.Duration
	// Timeout bounds the reading of the master's position after a write. When it is over the token carries a time, as
	// for Window. Default: 250 ms.
	Timeout time.Duration
	// Wait is how long a request waits at most, from its first wait on, for a slave to catch up with its token, before it reads the
	// master. Default: 0, it does not wait.
	Wait time.Duration
	// Monotonic makes a token rise with what was read before the response began, too: a client never sees an older state than before, whichever slave
	// answers. It costs the responses of reading requests a question to the slave, shared by those that end at the same time. It needs
	// Secrets, and servers with positions. Reads have a cookie of their own, the name of which ends in "-read".
	// Default: false.
	Monotonic bool

	// Cookie and Header are the names of the cookie and of the header, in requests and responses. Each plugin
	// of a request, and each database that clients of one host or services behind one Transport meet, needs a
	// cookie and a header of its own, unless all groups of all of them are on the same masters: a token of a
	// master that an instance does not know sends its client to the masters that it does know. Tokens of one
	// cookie's name do not open under another. Of the cookie "replicated", "replicated-read" is taken as well.
	// Default: "replicated" and "Replicated-Token".
	Cookie, Header string
	// Domain, Path, SameSite and Secure are the cookie's attributes, see [http.Cookie]. It is always HttpOnly.
	// Default: none, "/", Lax, and secure where the request came by TLS.
	Domain, Path string
	SameSite     http.SameSite
	Secure       *bool
}

// ProbeConfig says how the servers are watched: what the master has, and what the slaves have of it. The questions
// go over connections of their own, one for each server, and need no privilege.
//
// Servers are asked where the dialect is MySQL's or PostgreSQL's, or there is a Source. Pools that a dialector, or the *gorm.DB,
// brings ready-made are asked only if Secrets, MaxLag, Interval or Source is set.
//
// Where servers have no positions, as MySQL has none while gtid_mode is not ON, lag is not known, MaxLag has
// no effect, and tokens carry a time. That is logged once for each group, with the remedy.
type ProbeConfig struct {
	// Interval is between two rounds of questions while slaves are read; if they are not it is a quarter of MaxLag.
	// Default: 1 s. Negative: no questions at all. Then lag is not known, and tokens carry a time.
	Interval time.Duration
	// MinInterval is between two rounds at least, while a slave is awaited. Default: 10 ms.
	MinInterval time.Duration
	// Source reads positions of servers that the plugin does not know. Default: none.
	Source PositionSource
}

// FailoverConfig says what happens when servers fail. A read whose slave cannot be reached, breaks the connection or says that it does not
// serve runs on the next slave, then on the master, in the same call: docs/operations.md.
type FailoverConfig struct {
	// SlaveTimeout is after how long a read that a slave has not answered makes the plugin ask whether that slave is alive, over a connection
	// of its own, for a second at most. If it is, the read goes on, for as long as it takes; it runs once. If not, it is cancelled there and
	// runs elsewhere. What counts is the time until the first row. Default: 1 s. Negative: reads wait for as long as their context allows.
	SlaveTimeout time.Duration

	// MaxOnMaster is how many reads of each group may run on the master at once, until their rows are closed, because no slave is there for
	// them; more fail at once with [ErrMasterBusy]. Reads that belong on the master anyway do not count: those of a session that wrote,
	// or whose token no slave covers yet. Default: 0, unlimited.
	MaxOnMaster int
}

// Position is a point in a master's history, as a [PositionSource] reads it; see [Sequence]. The zero value is none.
type Position struct{ position position.Position }

// Sequence returns position n of a history that is a sequence of numbers, such as the rows of a log: a slave
// that has replayed n has replayed all up to n. The name keeps apart sequences that have nothing to do with
// each other: two masters need two names, and one master the same in every instance. It travels in tokens, so
// a short one serves best. Numbers begin at 1; 0 is no position.
func Sequence(name string, n uint64) Position { return Position{position.Sequence(name, n)} }

// Covers reports whether a server at p has everything that belongs to q. The zero value covers nothing, and nothing covers it, itself included.
func (p Position) Covers(q Position) bool { return p.position.Covers(q.position) }

// String returns what a log may show, such as "log:17", or "unknown" for the zero value.
func (p Position) String() string { return p.position.String() }

// source is a PositionSource as internal/position knows it.
type source struct{ PositionSource }

func (s source) MasterPosition(ctx context.Context, conn *sql.Conn) (position.Position, error) {
	p, err := s.PositionSource.MasterPosition(ctx, conn)
	return p.position, err
}

func (s source) SlavePosition(ctx context.Context, conn *sql.Conn) (position.Position, error) {
	p, err := s.PositionSource.SlavePosition(ctx, conn)
	return p.position, err
}

// PositionSource reads the positions of servers that the plugin does not know, such as those of a replication of the application's own:
//
//	func (log) MasterPosition(ctx context.Context, conn *sql.Conn) (replicated.Position, error) {
//		var n uint64
//		err := conn.QueryRowContext(ctx, "SELECT coalesce(max(id), 0) FROM log").Scan(&n)
//		return replicated.Sequence("log", n), err
//	}
//
// conn is a connection to the server in question that nobody else uses meanwhile; a method must leave it as it was, and
// need not use it. The methods may be called concurrently, for several connections. They return the zero Position if there is none
// at the moment, and an error if they could not find out.
type PositionSource interface {
	// MasterPosition returns a position on the master that covers everything committed there before the call. It
	// should not be larger than it must: slaves have to reach it even if nothing more is committed.
	MasterPosition(ctx context.Context, conn *sql.Conn) (Position, error)

	// SlavePosition returns a position that a slave has replayed entirely, so that every query that begins after the
	// call sees it.
	SlavePosition(ctx context.Context, conn *sql.Conn) (Position, error)
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

// Server is a server with a name and a weight, for use in Slaves and Masters of [Config] and [Group].
type Server struct {
	gorm.Dialector
	// ID names the server in routes, logs and Status. It must not hold a credential.
	// Default: host:port where the DSN shows it, otherwise slave-1, slave-2 and so on, or master-1.
	ID string
	// Weight is a slave's part of the reads, compared with the Weight of the others: with dbresolver.RandomPolicy{}, which is the default Policy, and
	// with [LeastLatency]. Other policies do not see it. 1,000,000 at most. Default: 1.
	Weight int
}

// maxWeight is far from where sums would overflow.
const maxWeight = 1_000_000

// normalised returns a copy of c with the defaults filled in.
func (c Config) normalised() Config {
	c.Slaves, c.Masters = slices.Clone(c.Slaves), slices.Clone(c.Masters)
	if c.Policy == nil {
		c.Policy = dbresolver.RandomPolicy{}
	}
	c.MaxLag = cmp.Or(c.MaxLag, time.Minute)
	c.Secrets = slices.Clone(c.Secrets)
	c.Token = c.Token.normalised()
	c.Probe.Interval = cmp.Or(c.Probe.Interval, time.Second)
	c.Probe.MinInterval = cmp.Or(c.Probe.MinInterval, 10*time.Millisecond)
	c.Failover.SlaveTimeout = cmp.Or(c.Failover.SlaveTimeout, time.Second)
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
func (c Config) group() Group { return Group{c.Slaves, c.Masters, c.Policy, c.MaxLag, c.Pool} }

// normalised returns a copy of c with the defaults filled in.
func (c TokenConfig) normalised() TokenConfig {
	c.TTL = cmp.Or(c.TTL, 5*time.Minute)
	c.Window = cmp.Or(c.Window, 5*time.Second)
	c.Timeout = cmp.Or(c.Timeout, 250*time.Millisecond)
	c.Cookie, c.Header = cmp.Or(c.Cookie, "replicated"), http.CanonicalHeaderKey(cmp.Or(c.Header, "Replicated-Token"))
	c.Path, c.SameSite = cmp.Or(c.Path, "/"), cmp.Or(c.SameSite, http.SameSiteLaxMode)
	if c.Secure != nil {
		secure := *c.Secure
		c.Secure = &secure
	}
	return c
}

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
		if s.Weight < 0 || s.Weight > maxWeight {
			found.add("%s: Weight: %d is not between 0 and %d", fields[i], s.Weight, maxWeight)
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
	if g.MaxLag < 0 {
		found.add("%sMaxLag: negative: %v", field, g.MaxLag)
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
		if !isToken(m) {
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
	c.Token.validate(&found)
	if c.Probe.MinInterval < 0 {
		found.add("Probe.MinInterval: negative: %v", c.Probe.MinInterval)
	} else if c.Probe.Interval > 0 && c.Probe.MinInterval > c.Probe.Interval {
		found.add("Probe.MinInterval: %v is more than Probe.Interval, %v", c.Probe.MinInterval, c.Probe.Interval)
	}
	if c.Failover.MaxOnMaster < 0 {
		found.add("Failover.MaxOnMaster: negative: %d", c.Failover.MaxOnMaster)
	}
	if isNil(c.Probe.Source) && c.Probe.Source != nil {
		found.add("Probe.Source: nil %T", c.Probe.Source)
	}
	routes := compileRoutes(c.Routes, &found)
	return routes, found
}

// validate adds every mistake in a normalised c to found.
func (c TokenConfig) validate(found *mistakes) {
	for _, d := range []struct {
		name  string
		value time.Duration
	}{{"TTL", c.TTL}, {"Window", c.Window}, {"Timeout", c.Timeout}, {"Wait", c.Wait}} {
		if d.value < 0 {
			found.add("Token.%s: negative: %v", d.name, d.value)
		}
	}
	if !isToken(c.Cookie) {
		found.add("Token.Cookie: not the name of a cookie: %q", c.Cookie)
	} else if err := (&http.Cookie{Name: c.Cookie, Domain: c.Domain, Path: c.Path}).Valid(); err != nil {
		found.add("Token: Domain %q and Path %q: %w", c.Domain, c.Path, err)
	}
	if !isToken(c.Header) {
		found.add("Token.Header: not the name of a header: %q", c.Header)
	}
	if c.SameSite < http.SameSiteDefaultMode || c.SameSite > http.SameSiteNoneMode {
		found.add("Token.SameSite: unknown: %d", c.SameSite)
	} else if prefix := strings.HasPrefix(c.Cookie, "__Host-") || strings.HasPrefix(c.Cookie, "__Secure-"); (prefix || c.SameSite == http.SameSiteNoneMode) && (c.Secure == nil || !*c.Secure) {
		found.add("Token.Secure: browsers drop a cookie that is not Secure if its SameSite is None or its name begins with __Host- or __Secure-: set it to true")
	}
}

// sealer returns what seals the tokens of a normalised c, or nil if there are no secrets; groups are those of the plugin.
func (c Config) sealer(groups []registration, found *mistakes) *token.Sealer {
	if len(c.Secrets) == 0 {
		if c.Token.Monotonic {
			found.add("Token.Monotonic: needs Secrets")
		}
		return nil
	}
	if c.Token.TTL >= 0 && c.Token.TTL < c.Token.Window {
		found.add("Token.TTL: %v is less than Token.Window, %v", c.Token.TTL, c.Token.Window)
	}
	sealer, err := token.NewSealer(c.Secrets, c.Token.Cookie)
	if err != nil {
		*found = append(*found, err)
	}
	for _, r := range groups {
		if lag := cmp.Or(r.group.MaxLag, c.MaxLag); c.Token.TTL >= 0 && c.Token.TTL < lag+token.MaxSkew {
			found.add("Token.TTL: %v is less than MaxLag, %v, and %v: a client that comes back when its token is over could miss what it wrote",
				c.Token.TTL, lag, token.MaxSkew)
		}
	}
	return sealer
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
		specs[i] = cluster.Spec{Field: fields[i], ID: s.ID, Dialector: d, Master: i < len(g.Masters), Weight: s.Weight, Limits: limits}
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
func isToken(s string) bool {
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
