package replicated

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"gorm.io/gorm"
	"gorm.io/plugin/dbresolver"

	"github.com/gorm-replicated/replicated/internal/cluster"
	"github.com/gorm-replicated/replicated/internal/rowsctx"
)

// globalName is the name of the group of all that is in no other.
const globalName = "default"

// group is one master, or several equal ones, with its slaves, and the pools that statements run on.
type group struct {
	// pools are what statements run on of which every request has some: see router.pool, which makes them.
	pools        [pooled]gorm.ConnPool
	name         string
	index        int   // in router.groups
	err          error // why nothing runs here: it was registered too late
	cluster      *cluster.Cluster
	maxLag       time.Duration
	limits       PoolConfig
	related      []*group     // those on the same master, g too
	givesCookies atomic.Bool  // to those that wrote to it, without Secrets
	lastAsked    atomic.Int64 // when askUnwatched last did, in nanoseconds since 1970
	unwatched    string       // why its servers are not asked for anything; "" if they are

	now         func() time.Duration
	maxOnMaster int                        // Failover.MaxOnMaster
	onMaster    atomic.Int64               // reads that count, while there is a limit
	flights     [64]atomic.Pointer[flight] // of reads without a session, by their contexts

	policies      *sync.Mutex       // held while any policy is asked: dbresolver's round robin races
	policy        dbresolver.Policy // nil: any server
	measures      bool              // the policy is LeastLatency
	saidMisplaced sync.Once         // that a transaction elsewhere writes its tables

	saidNoPositions atomic.Bool // see warnNoPositions
}

// flight is the context of reads on one slave, which can be cancelled apart from the caller's, and what the
// slave knows of them.
type flight struct {
	server *cluster.Server
	ctx    context.Context
	reads  cluster.Flight
	shared rowsctx.Shared  // for the reads of one context
	single *rowsctx.Single // instead, for a single read, if the caller's context may last
}

// pooled is how many of a group's pools are made once: for what comes from a caller and for writes with and
// without GORM's transaction, each for what is prepared as well.
const pooled = 6

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

// several tells whether there is more than one master.
func (g *group) several() bool { return len(g.cluster.Masters) > 1 }

// hasSlaves tells whether g was given slaves that Close has not closed.
func (g *group) hasSlaves() bool { return len(g.cluster.View().All) > 0 }

// index maps the names that were registered, and what they are in lower case, to their groups. It is never
// changed.
type index map[string]*group

// named returns the group of a table, or of a name, or nil. What was registered without a schema stands for
// itself in every schema.
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

// field begins the names of the group's fields in errors.
func (g *group) field() string {
	if g.index == 0 {
		return ""
	}
	return fmt.Sprintf("group %q: ", g.name)
}

// recognisable returns p, or nil if comparing it would panic.
func recognisable(p gorm.ConnPool) gorm.ConnPool {
	if p != nil && reflect.TypeOf(p).Comparable() {
		return p
	}
	return nil
}
