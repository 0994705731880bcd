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
	"github.com/gorm-replicated/replicated/internal/token"
)

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

// maxWeight is far from where sums would overflow.
const maxWeight = 1_000_000

// group returns the group of all tables that are in no other.
func (c Config) group() Group { return Group{c.Slaves, c.Masters, c.Policy, c.MaxLag, c.Pool} }

// normalised returns a copy of c with the defaults filled in.
func (c TokenConfig) normalised() TokenConfig {
	c.TTL = cmp.Or(c.TTL, 5*time.Minute)
	c.Window = cmp.Or(c.Window, 5*time.Second)
	c.Timeout = cmp.Or(c.Timeout, 250*time.Millisecond)
	c.Cookie = cmp.Or(c.Cookie, "replicated")
	c.Header = http.CanonicalHeaderKey(cmp.Or(c.Header, "Replicated-Token"))
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

// validate adds every mistake in a normalised g to found; field begins the names of its fields.
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
	}
	prefix := strings.HasPrefix(c.Cookie, "__Host-") || strings.HasPrefix(c.Cookie, "__Secure-")
	if (prefix || c.SameSite == http.SameSiteNoneMode) && (c.Secure == nil || !*c.Secure) {
		found.add("Token.Secure: browsers drop a cookie that is not Secure if its SameSite is None " +
			"or its name begins with __Host- or __Secure-: set it to true")
	}
}

// sealer returns what seals the tokens of a normalised c, or nil if there are no secrets; groups are those
// of the plugin.
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
			found.add("Token.TTL: %v is less than MaxLag, %v, and %v: "+
				"a client that comes back when its token is over could miss what it wrote",
				c.Token.TTL, lag, token.MaxSkew)
		}
	}
	return sealer
}

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
		specs[i] = cluster.Spec{
			Field: fields[i], ID: s.ID, Dialector: d, Master: i < len(g.Masters), Weight: s.Weight, Limits: limits,
		}
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

// isToken tells whether s is a token in the sense of RFC 9110: methods, and the names of headers and
// cookies, have to be.
func isToken(s string) bool {
	return s != "" && strings.IndexFunc(s, func(r rune) bool {
		letter := 'A' <= r && r <= 'Z' || 'a' <= r && r <= 'z'
		return !letter && !('0' <= r && r <= '9') && !strings.ContainsRune("!#$%&'*+-.^_`|~", r)
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
