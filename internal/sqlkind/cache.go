package sqlkind

import (
	"hash/maphash"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
)

const (
	cacheSets   = 1024 // a power of two
	setPlaces   = 4
	longestText = 2048 // longer texts are classified each time
)

// Cache remembers the verdicts on the texts that it has seen. It holds a fixed number of texts, of limited
// length: about 8 MB at the very most. A text that comes again and again stays, however many others come by.
// [Cache.Look] is the usual method.
//
// A Cache is made by [NewCache]. It is safe for concurrent use. For a text that it knows, it takes no lock
// and allocates nothing.
type Cache struct {
	looker
	seed    maphash.Seed
	lessons atomic.Uint64 // how many shapes were learned: a verdict from before is looked at again
	sets    [cacheSets]cacheSet

	learning sync.RWMutex // guards shapes; Look takes it only where it has to look at them
	shapes   shapes
}

type entry struct {
	Verdict
	sql     string
	fresh   atomic.Int32  // see cacheSet
	lessons atomic.Uint64 // so many were learned when the verdict was last found right
}

func newEntry(sql string, v Verdict, lessons uint64) *entry {
	e := &entry{sql: sql, Verdict: v}
	e.lessons.Store(lessons)
	return e
}

// NewCache returns an empty Cache for d. A call of one of writeFunctions makes a text a Write. These are
// names of functions, in upper or lower case. A schema before a name does not count.
func NewCache(d Dialect, writeFunctions ...string) *Cache {
	c := &Cache{looker: looker{dialect: d}, seed: maphash.MakeSeed()}
	if len(writeFunctions) > 0 {
		c.writers = make(map[string]struct{}, len(writeFunctions))
	}
	for _, f := range writeFunctions {
		name := lastName(f)
		if d == PostgreSQL {
			name = cutName(name)
		}
		c.writers[name] = struct{}{}
	}
	return c
}

// Watch makes the Cache look for tables of these names, which may be qualified with a schema. It has to be
// called before anything else.
func (c *Cache) Watch(tables []string) {
	c.watched = make(watched, len(tables))
	for _, t := range tables {
		c.watched[string(lower(nil, t))] = t
	}
}

// Kind returns the kind of sql: that of [Classify], unless the Cache knows better, because it was told of
// functions that write, or because it learned.
func (c *Cache) Kind(sql string) Kind {
	return c.Look(sql).Kind
}

// Look returns all that is known of sql.
func (c *Cache) Look(sql string) Verdict {
	lessons := c.lessons.Load()
	if len(sql) > longestText {
		return c.judge(sql, lessons)
	}
	set := c.set(sql)
	for i := range set {
		e := set[i].Load()
		if e == nil || e.sql != sql {
			continue
		}
		if e.lessons.Load() != lessons { // something was learned since
			if learned := c.refused(e.Verdict, sql); learned != e.Verdict {
				set[i].CompareAndSwap(e, newEntry(e.sql, learned, lessons))
				return learned
			}
			e.lessons.Store(lessons)
		}
		e.use()
		return e.Verdict
	}
	// The caller's text may be a piece of a larger buffer, which must not live as long as the Cache.
	e := newEntry(strings.Clone(sql), c.judge(sql, lessons), lessons)
	set.add(e)
	return e.Verdict
}

// judge finds the verdict on sql, when so many lessons were learned.
func (c *Cache) judge(sql string, lessons uint64) Verdict {
	v := c.look(sql)
	if lessons == 0 {
		return v
	}
	return c.refused(v, sql)
}

// refused returns the verdict v on sql, or that it writes if a server has refused a text of its shape.
func (c *Cache) refused(v Verdict, sql string) Verdict {
	if v.Kind != Read && v.Kind != Unknown { // no slave sees such a text
		return v
	}
	s := shapeOf(c.dialect, sql)
	sum := s.sum(c.seed)
	c.learning.RLock()
	defer c.learning.RUnlock()
	if _, learned := c.shapes.sums[sum]; learned {
		v.Kind, v.CallsUnknown = Write, false
	}
	return v
}

// Learn makes every text of sql's shape a Write from now on, because a server found that this one is.
// Literals, comments and white space do not count for the shape. It returns the shape, which may be logged,
// and reports whether it is news. The latest 4,096 shapes are remembered. Once there are so many, others are
// no news, so that no log fills with them.
func (c *Cache) Learn(sql string) (text string, news bool) {
	s := shapeOf(c.dialect, sql)
	sum := s.sum(c.seed)
	c.learning.Lock()
	defer c.learning.Unlock()
	added, news := c.shapes.add(sum)
	if added {
		c.lessons.Add(1)
	}
	return s.String(), news
}

// shapes is a set of the latest sums of shapes.
type shapes struct {
	sums   map[uint64]struct{}
	order  []uint64 // a ring, once it is full
	oldest int
}

const mostShapes = 4096

// add reports whether sum was not there, and whether that is news.
func (s *shapes) add(sum uint64) (added, news bool) {
	if _, known := s.sums[sum]; known {
		return false, false
	}
	if s.sums == nil {
		s.sums = make(map[uint64]struct{})
	}
	s.sums[sum] = struct{}{}
	if len(s.order) < mostShapes {
		s.order = append(s.order, sum)
		return true, true
	}
	delete(s.sums, s.order[s.oldest])
	s.order[s.oldest] = sum
	s.oldest = (s.oldest + 1) % mostShapes
	return true, false
}

// cacheSet is the places that a text may be in. A newcomer takes the place of an entry that nobody has asked
// for again yet; if there is none, of the one that was asked for longest ago. So texts that come once push
// out each other, and no others.
//
// The field fresh of an entry is 0 until somebody asks for it again. Then it is longLived, and each newcomer
// takes 1 from it.
type cacheSet [setPlaces]atomic.Pointer[entry]

const longLived = 8

// use notes that somebody asked for e. Most often that is noted already: so it loads first, which is cheaper
// than to store.
func (e *entry) use() {
	if e.fresh.Load() != longLived {
		e.fresh.Store(longLived)
	}
}

func (c *Cache) set(sql string) *cacheSet {
	return &c.sets[maphash.String(c.seed, sql)%cacheSets]
}

// add puts an entry in its place. Among equals chance decides: if the order did, two entries that come in
// turn could push out each other for ever, and leave alone one that nobody asks for any longer. Two
// goroutines may undo each other's change of fresh now and then, which does no harm.
func (set *cacheSet) add(e *entry) {
	for i := range set {
		if set[i].CompareAndSwap(nil, e) {
			return
		}
	}
	place, least := 0, int32(longLived+1)
	first := rand.IntN(setPlaces)
	for i := range set {
		i = (first + i) % setPlaces
		old := set[i].Load()
		fresh := old.fresh.Load()
		if fresh < least {
			place, least = i, fresh
		}
		if fresh > 0 {
			old.fresh.Store(fresh - 1)
		}
	}
	set[place].Store(e)
}
