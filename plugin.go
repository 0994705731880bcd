// Package replicated is a GORM plugin that sends the reads of a request to the
// slaves of a database and everything else to its master.
//
//	p := replicated.New(replicated.Config{
//		Slaves:  []gorm.Dialector{mysql.Open(slaveDSN)},
//		Secrets: [][]byte{secret},
//	})
//	if err := db.Use(p); err != nil { … }
//	http.ListenAndServe(addr, p.Middleware(mux))
//
// Handlers take part by using the request's context:
//
//	db.WithContext(r.Context()).Find(&posts)
//
// A GET or HEAD reads from one slave; other methods use the master. A write always goes to the master, and
// from then on the request reads there, too. Its response brings a token: the client's next request reads a
// slave that has replayed the write, or the master. Handlers are marked with [UseMaster] and [UseSlave],
// requests by pattern with [Config].Routes, contexts with [WithMaster] and [WithSlave], and single
// statements with db.Clauses(replicated.Master). An [Observer] is told where each statement went, and why.
//
// docs/routing.md has the rules, docs/consistency.md what is promised and why it holds,
// docs/configuration.md every option.
package replicated

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"

	"github.com/gorm-replicated/replicated/internal/cluster"
	"github.com/gorm-replicated/replicated/internal/logqueue"
	"github.com/gorm-replicated/replicated/internal/sqlkind"
)

// Plugin routes the statements of one *gorm.DB: give it to db.Use, and wrap the HTTP handlers with
// [Plugin.Middleware]. Make one with [New]. All its methods are safe for concurrent use, but db.Use, as
// every use of GORM's callbacks, must not run beside queries.
type Plugin struct{ router }

var (
	_ gorm.Plugin            = (*Plugin)(nil)
	_ clause.Expression      = Master
	_ gorm.StatementModifier = Master
)

// New returns a plugin for db.Use. Mistakes in cfg are reported there.
func New(cfg Config) *Plugin {
	probes := len(cfg.Secrets) > 0 || cfg.MaxLag > 0 || cfg.Probe.Interval > 0 || cfg.Probe.Source != nil
	cfg = cfg.normalised()
	p := &Plugin{router{
		probes: probes, config: cfg, rejectWrites: cfg.RejectWrites, byDefault: cfg.DefaultIntent,
		observer: cfg.Observer,
		timeout:  cfg.Failover.SlaveTimeout, base: time.Now(),
	}}
	p.log = logqueue.New(cfg.Logger.Handler())
	p.config.Logger, p.notices = p.log.Logger(), p.log.Notices()
	p.auto.Store(*cfg.AutoReadOnSlave)
	return p
}

// From returns the plugin that db uses, or nil.
func From(db *gorm.DB) *Plugin {
	if db == nil || db.Config == nil {
		return nil
	}
	p, _ := db.Plugins[pluginName].(*Plugin)
	return p
}

// Name returns "replicated".
func (p *Plugin) Name() string { return pluginName }

// SetAutoReadOnSlave turns AutoReadOnSlave on or off. Statements that start after it returns see the
// change, also those of requests that already run.
func (p *Plugin) SetAutoReadOnSlave(on bool) {
	p.auto.Store(on)
}

// SetShadow turns shadow mode on or off: everything runs on the master, whatever is marked, while
// [Observer] and [Status] report what would have run on which slave. The slaves stay open and watched. It
// is for a careful roll-out, and for a night on which slaves must not be read. Transactions that have begun
// stay where they are. Off at first.
func (p *Plugin) SetShadow(on bool) {
	p.shadow.Store(on)
}

// Initialize is called by db.Use. It opens the slaves, waits for the first answers of those that it
// watches, in 2 seconds for all of that, and registers the callbacks. It reports every mistake in the
// configuration at once; after an error nothing is left registered or open. A plugin serves one *gorm.DB: a
// second call is an error.
func (p *Plugin) Initialize(db *gorm.DB) error {
	p.initializing.Lock()
	defer p.initializing.Unlock()
	if p.initialized.Load() && db.Plugins[pluginName] == gorm.Plugin(p) && p.callbacks != any(db.Callback()) {
		// gorm.Open with a copy of our database's gorm.Config brings us along. That is how
		// dbresolver opens its replicas; notice tells of it.
		return nil
	}
	if err := p.initialize(db, time.Now().Add(cluster.OpenTimeout)); err != nil {
		return fmt.Errorf("replicated: %w", err)
	}
	p.initialized.Store(true)
	return nil
}

func (p *Plugin) initialize(db *gorm.DB, deadline time.Time) error {
	if p.initialized.Load() {
		return errors.New("this plugin is already in use; make another with New for another *gorm.DB")
	}
	if usesDBResolver(db) {
		return errDBResolver
	}
	routes, mistakes := p.config.validate()
	p.sealer = p.config.sealer(append([]registration{{group: p.config.group()}}, p.registered...), &mistakes)
	own, statements := unwrap(db.ConnPool)
	if _, ok := own.(*pool); ok {
		return errors.New("another plugin of this package already routes this *gorm.DB")
	}
	p.parse = parser(db)
	groups, index, err := p.openGroups(db, own, mistakes)
	if err != nil {
		return err
	}

	p.dialectName = db.Dialector.Name()
	p.dialect = sqlkind.DialectOf(p.dialectName)
	p.locksShow = p.dialect == sqlkind.MySQL || p.dialect == sqlkind.PostgreSQL
	p.groups = groups
	p.setIndex(index)
	p.ownPool, p.routes, p.callbacks = recognisable(own), routes, db.Callback()
	if err := p.register(db); err != nil {
		p.abandonGroups()
		return err
	}
	p.relate()
	p.grant()
	p.monitor(deadline)
	p.admit = p.admitPrepared
	root := groups[0].pools[0]
	if statements == nil {
		if db.Statement != nil {
			if _, tx := db.Statement.ConnPool.(gorm.TxCommitter); !tx {
				db.Statement.ConnPool = root
			}
		}
		db.ConnPool = root
	} else {
		// PostgreSQL's Migrator looks for GORM's type: ours goes inside.
		p.adopt(statements)
		statements.ConnPool = root
	}
	p.judgeStatements(db)
	p.tellOfShards(db)
	return nil
}

// Close closes the connection pools of the slaves, and waits for the queries that run on them. From then on
// everything runs on the masters, whose pools stay open, and tokens carry a time. Closing twice, or before
// Initialize, does nothing.
func (p *Plugin) Close() error {
	if !p.initialized.Load() {
		return nil
	}
	return p.closeGroups()
}

// Register adds a group for these tables, given by name or by a model of theirs. Statements about them run
// on the servers of g; all others on those of [Config]. A string may as well be a name of your own, for
// db.Clauses(dbresolver.Use("name")). The first name is the group's name in routes and Status.
//
// It returns p. It has to be called before db.Use, which reports mistakes. After that it is an error, which
// goes to Config.Logger and to every statement about these tables: they do not run on servers that were not
// meant for them.
func (p *Plugin) Register(g Group, tables ...any) *Plugin {
	p.initializing.Lock()
	defer p.initializing.Unlock()
	r := registration{g.normalised(), slices.Clone(tables)}
	if !p.initialized.Load() {
		p.registered = append(p.registered, r)
		return p
	}
	err := fmt.Errorf("replicated: Register(%v) was called after db.Use: groups have to be registered before",
		labels(tables))
	p.config.Logger.Error(err.Error())
	var ignored mistakes
	names := slices.DeleteFunc(r.names(p.parse, &ignored), func(name string) bool { return name == "" })
	late := &group{name: globalName, err: err}
	p.openGroup(late, p.groups[0].cluster, nil)
	late.related = []*group{late}
	x, _ := p.index().with(late, names)
	p.setIndex(x)
	return p
}

// SetSlaves makes these the slaves of the group of [Config], as Config.Slaves does: new ones are opened,
// and read once they answer, or at once if they are not watched (see [ProbeConfig]); those that are not
// among them any longer are not read from now on, and their pools close when the last query on them ends.
// One that is the same as before, by its DSN or because it is the same dialector, and by its ID if it has
// one, stays as it is: its Weight, too. It reports every mistake at once; then nothing has changed. It is
// an error before db.Use and after Close.
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
