package sqlkind

import (
	"hash/maphash"
	"strings"
	"sync"
	"sync/atomic"
)

const (
	cacheSets   = 2048 // a power of two
	longestText = 2048 // longer texts are classified each time
)

// Cache remembers the verdicts on the texts it has seen. It holds a fixed number of them, of limited length, about 8 MB
// at the very most; which ones stay is a matter of luck and of how recently they came. [Cache.Kind] is the usual method.
//
// A Cache is made by [NewCache]. It is safe for concurrent use; Kind takes no lock, and allocates nothing for a text it
// knows.
type Cache struct {
	dialect Dialect
	writers map[string]struct{}
	watched watched
	seed    maphash.Seed
	sets    [cacheSets]cacheSet

	learning sync.Mutex // held by Learn; Kind takes no lock
}

type entry struct {
	sql     string
	kind    Kind
	learned bool
	tables  *Tables
}

// NewCache returns an empty Cache for d. A call of one of writeFunctions makes a text a Write; they are names of functions
// in any case, and of what is qualified with a schema the last part counts.
func NewCache(d Dialect, writeFunctions ...string) *Cache {
	c := &Cache{dialect: d, seed: maphash.MakeSeed()}
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

// Watch makes the Cache look for tables of these names, which may be qualified with a schema. It has to be called before
// anything else.
func (c *Cache) Watch(tables []string) {
	c.watched = make(watched, len(tables))
	for _, t := range tables {
		c.watched[string(lower(nil, t))] = t
	}
}

// Kind returns the verdict on sql: that of [Classify], unless the Cache was told of functions that write or learned
// otherwise.
func (c *Cache) Kind(sql string) Kind {
	k, _ := c.Look(sql)
	return k
}

// Look returns the verdict on sql, and which watched tables it names: nil if none are watched.
func (c *Cache) Look(sql string) (Kind, *Tables) {
	if len(sql) > longestText {
		return classify(c.dialect, sql, c.writers), c.tables(sql)
	}
	set := c.set(sql)
	for i := range set {
		if e := set[i].Load(); e != nil && e.sql == sql {
			return e.kind, e.tables
		}
	}
	e := entry{kind: classify(c.dialect, sql, c.writers), tables: c.tables(sql)}
	// The caller's text may be a piece of a larger buffer, which must not live as long as the Cache.
	e.sql = strings.Clone(sql)
	set.add(&e)
	return e.kind, e.tables
}

func (c *Cache) tables(sql string) *Tables {
	if c.watched == nil {
		return nil
	}
	return c.watched.find(c.dialect, sql)
}

// Learn makes sql a Write from now on, because a server found that it is one. Such a verdict gives way to nothing but
// others that were learned. It reports whether that is news; a text too long to be remembered never is.
func (c *Cache) Learn(sql string) bool {
	if len(sql) > longestText {
		return false
	}
	c.learning.Lock()
	defer c.learning.Unlock()
	set := c.set(sql)
	for i := range set {
		if e := set[i].Load(); e != nil && e.sql == sql {
			if e.learned {
				return false
			}
			break
		}
	}
	// The first place, so that no other verdict on the same text is found before it.
	if old := set[0].Load(); old != nil && old.learned {
		set[1].Store(old)
	}
	set[0].Store(&entry{sql: strings.Clone(sql), kind: Write, learned: true, tables: c.tables(sql)})
	return true
}

// cacheSet is the places that a text may be in.
type cacheSet [2]atomic.Pointer[entry]

func (c *Cache) set(sql string) *cacheSet {
	return &c.sets[maphash.String(c.seed, sql)%cacheSets]
}

// add puts a verdict in the first place and what was there in the second. What somebody else changed meanwhile, or
// learned, stays: then the verdict is not remembered, and will be found again.
func (set *cacheSet) add(e *entry) {
	first, second := set[0].Load(), set[1].Load()
	if second != nil && second.learned {
		return // then so is the first, unless another goroutine is about to make it so
	}
	if first != nil && first.learned {
		set[1].CompareAndSwap(second, e)
		return
	}
	if first != nil && !set[1].CompareAndSwap(second, first) {
		return
	}
	set[0].CompareAndSwap(first, e)
}
