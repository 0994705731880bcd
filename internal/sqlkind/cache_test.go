package sqlkind

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"unsafe"
)

func TestCacheAgreesWithClassify(t *testing.T) {
	c := NewCache(MySQL)
	for range 2 { // missed, then found
		for _, tt := range mysqlTests {
			if got := c.Kind(tt.sql); got != tt.want {
				t.Errorf("Kind(%q) = %v, want %v", tt.sql, got, tt.want)
			}
		}
	}
	if got := NewCache(Other).Kind("SELECT 1"); got != Unknown {
		t.Errorf("Kind of another dialect = %v, want unknown", got)
	}
}

func TestCacheWriteFunctions(t *testing.T) {
	c := NewCache(MySQL, "Audit", "app.`Next_Number`")
	for sql, want := range map[string]Kind{
		"SELECT audit(1)":             Write,
		"SELECT AUDIT (1)":            Write,
		"SELECT app.`next_number`()":  Write,
		"SELECT other.next_number()":  Write,
		"SELECT audit FROM t":         Read,
		"SELECT auditor(1)":           Read,
		"DO AUDIT(1)":                 Write,
		"SELECT get_lock(audit(), 1)": Write,
	} {
		if got := c.Kind(sql); got != want {
			t.Errorf("Kind(%q) = %v, want %v", sql, got, want)
		}
	}
	if got := NewCache(MySQL).Kind("SELECT audit(1)"); got != Read {
		t.Errorf("without write functions: %v, want read", got)
	}
}

func TestCacheWriteFunctionsPostgreSQL(t *testing.T) {
	long := strings.Repeat("é", 40) // 80 bytes, of which the server sees 62
	c := NewCache(PostgreSQL, "Audit", `app."Next_Number"`, long, "ÉTAT")
	for sql, want := range map[string]Kind{
		"SELECT audit(1)":                     Write,
		`SELECT app."next_number"()`:          Write,
		"SELECT t.audit FROM t":               Write, // audit(t), if t has no such column
		"SELECT (t).audit, (t.*) . audit":     Write,
		"SELECT audit FROM t":                 Read,
		"SELECT auditor(1)":                   Read,
		"SELECT pg_sleep(audit())":            Write,
		"SELECT " + long + "()":               Write,
		"SELECT " + long[:62] + "()":          Write,
		"SELECT " + long[:62] + "something()": Read,
		"SELECT " + long[:60] + "()":          Read,
		"SELECT " + long + " FROM t":          Read,
		"SELECT ÉTAT()":                       Write,
	} {
		if got := c.Kind(sql); got != want {
			t.Errorf("Kind(%q) = %v, want %v", sql, got, want)
		}
	}
	if got := NewCache(PostgreSQL).Kind("SELECT t.audit FROM t"); got != Read {
		t.Errorf("without write functions: %v, want read", got)
	}
}

func TestCacheHitAllocatesNothing(t *testing.T) {
	c := NewCache(MySQL)
	c.Kind(benchText)
	if n := testing.AllocsPerRun(1000, func() { c.Kind(benchText) }); n != 0 {
		t.Errorf("a hit allocates %v times", n)
	}
	// The control: a text that is not remembered costs an entry and a copy.
	texts := make([]string, 1000)
	for i := range texts {
		texts[i] = fmt.Sprintf("SELECT %d", i)
	}
	i := 0
	if n := testing.AllocsPerRun(len(texts)-1, func() { c.Kind(texts[i]); i++ }); n < 1 {
		t.Errorf("a miss allocates %v times: nothing is remembered", n)
	}
}

func TestClassifyAllocatesNothing(t *testing.T) {
	for _, sql := range []string{benchText, "UPDATE t SET a = 1", "SELECT f(1)", "SHOW TABLES", `SELECT '\''`,
		"SELECT @@x",
		"SELECT ($1).a, pg_catalog.nextval('s'::regclass) FROM pg_class, cron.x(E'a' -- \n'b')"} {
		if n := testing.AllocsPerRun(100, func() {
			Classify(MySQL, sql)
			Classify(SQLite, sql)
			Classify(PostgreSQL,
				sql)
		}); n != 0 {
			t.Errorf("Classify(%q) allocates %v times", sql, n)
		}
	}
}

func TestCacheIsBounded(t *testing.T) {
	c := NewCache(MySQL)
	for i := range 20 * cacheSets {
		c.Kind(fmt.Sprintf("SELECT %d", i))
	}
	n := 0
	for i := range c.sets {
		for j := range c.sets[i] {
			if e := c.sets[i][j].Load(); e != nil {
				n++
				if len(e.sql) > longestText {
					t.Errorf("a text of %d bytes is held", len(e.sql))
				}
			}
		}
	}
	if most := setPlaces * cacheSets; n < most/2 || n > most {
		t.Errorf("%d texts are held, want nearly %d", n, most)
	}
}

// Texts that come once, with a literal or the id of a request in them, do not push out what comes again.
func TestCacheKeepsWhatComesAgain(t *testing.T) {
	c := NewCache(MySQL)
	ordinary := make([]string, 100)
	for i := range ordinary {
		ordinary[i] = fmt.Sprintf("SELECT a%d FROM t", i)
	}
	missing := func(behind string) (n int) {
		for _, sql := range ordinary {
			if !c.holds(sql + behind) {
				n++
			}
		}
		return n
	}
	misses, controls := 0, 0
	for i := range 50_000 {
		c.Kind(fmt.Sprintf("SELECT %d /* once */", i))
		if i%1000 != 0 {
			continue
		}
		if i > 10_000 {
			misses += missing("")
			controls += missing(" ") // nobody asks for these
		}
		for _, sql := range ordinary {
			c.Kind(sql)
			c.Kind(sql)
		}
	}
	const asked = 100 * 39
	if misses > asked/100 {
		t.Errorf("an ordinary text was not held %d times of %d", misses, asked)
	}
	if controls != asked {
		t.Errorf("the control: texts that nobody asked for are held")
	}
}

// What was ordinary once gives way to what is ordinary now.
func TestCacheForgetsWhatDoesNotComeAgain(t *testing.T) {
	c := NewCache(MySQL)
	text := func(round, i int) string { return fmt.Sprintf("SELECT a%d_%d FROM t", round, i) }
	for round := range 3 {
		for range 4 * longLived {
			for i := range setPlaces * cacheSets / 2 {
				c.Kind(text(round, i))
			}
		}
	}
	held := 0
	for i := range setPlaces * cacheSets / 2 {
		if c.holds(text(2, i)) {
			held++
		}
	}
	if all := setPlaces * cacheSets / 2; held < all*8/10 {
		t.Errorf("%d of %d texts of the last round are held", held, all)
	}
}

func TestCacheDoesNotHoldLongTexts(t *testing.T) {
	c := NewCache(MySQL)
	for _, tt := range []struct {
		length int
		held   bool
	}{{longestText, true}, {longestText + 1, false}} {
		sql := "SELECT " + strings.Repeat("1", tt.length-len("SELECT "))
		if got := c.Kind(sql); got != Read {
			t.Errorf("Kind of %d bytes = %v, want read", tt.length, got)
		}
		if held := c.holds(sql); held != tt.held {
			t.Errorf("a text of %d bytes: held %v, want %v", tt.length, held, tt.held)
		}
	}
}

// holds reports whether the verdict on sql is remembered.
func (c *Cache) holds(sql string) bool {
	set := c.set(sql)
	for i := range set {
		if e := set[i].Load(); e != nil && e.sql == sql {
			return true
		}
	}
	return false
}

func TestCacheCopiesTheText(t *testing.T) {
	c := NewCache(MySQL)
	buffer := strings.Repeat("x", 1<<20) + "SELECT 1"
	sql := buffer[1<<20:]
	c.Kind(sql)
	set := c.set(sql)
	e := set[0].Load()
	if e == nil || e.sql != sql {
		t.Fatal("the text is not held")
	}
	if unsafe.StringData(e.sql) == unsafe.StringData(sql) {
		t.Error("the text held is a piece of the caller's buffer")
	}
}

func TestCacheLearn(t *testing.T) {
	c := NewCache(MySQL)
	const refused = "SELECT audit(1) FROM t WHERE a IN (1, 2)"
	long := "SELECT audit(1) FROM t WHERE a IN (" + strings.Repeat("7, ", longestText) + "8)"
	same := []string{
		refused, "select audit('x') -- trace 77\nFROM t WHERE a IN (?,?,?)",
		"SELECT /* 3f */ audit(-2.5e3)FROM t WHERE a IN (0x1F)",
		long,
	}
	others := []string{"SELECT lower(1) FROM t WHERE a IN (1, 2)", "SELECT audit FROM t WHERE a IN (1, 2)",
		benchText}
	kinds := func(texts []string, want Kind) {
		t.Helper()
		for _, sql := range texts {
			if got := c.Kind(sql); got != want {
				t.Errorf("Kind(%.60q) = %v, want %v", sql, got, want)
			}
		}
	}
	kinds(slices.Concat(same, others), Read)
	text, news := c.Learn(refused)
	if want := "select audit ( ? ) from t where a in ( ? )"; text != want || !news {
		t.Errorf("Learn = %q, %v, want %q and news", text, news, want)
	}
	check := func() {
		t.Helper()
		kinds(same, Write) // as learned
		kinds(others, Read)
		for _, sql := range same {
			if _, news := c.Learn(sql); news {
				t.Errorf("%.60q is news although its shape is known", sql)
			}
		}
	}
	check()
	check() // found now
	// Whatever comes later does not push it out.
	for i := range 20 * cacheSets {
		c.Kind(fmt.Sprintf("SELECT %d", i))
	}
	check()
}

// However much is learned, the verdicts on other texts are remembered all the same.
func TestCacheLearnMany(t *testing.T) {
	c := NewCache(MySQL)
	text := func(i int) string { return fmt.Sprintf("SELECT audit(a%d) /* %d */", i, i) }
	news := 0
	for i := range 2 * mostShapes {
		if _, is := c.Learn(text(i)); is {
			news++
		}
	}
	if news != mostShapes {
		t.Errorf("%d were news, want %d", news, mostShapes)
	}
	if n := len(c.shapes.sums); n != mostShapes || len(c.shapes.order) != mostShapes {
		t.Errorf("%d shapes in %d places are remembered, want %d", n, len(c.shapes.order), mostShapes)
	}
	for _, i := range []int{mostShapes, mostShapes + 1, 2*mostShapes - 1} {
		if got := c.Kind(text(i)); got != Write {
			t.Errorf("shape %d, one of the latest: %v, want write", i, got)
		}
	}
	for _, i := range []int{0, 1, mostShapes - 1} {
		if got := c.Kind(text(i)); got != Read {
			t.Errorf("shape %d, one of the oldest: %v, want it forgotten", i, got)
		}
	}
	for i := range 5000 {
		c.Learn(fmt.Sprintf("SELECT audit(a) /* %d */", i))
	}
	c.Kind(benchText)
	if n := testing.AllocsPerRun(1000, func() { c.Kind(benchText) }); n != 0 {
		t.Errorf("an ordinary text allocates %v times", n)
	}
}

func TestCacheConcurrently(t *testing.T) {
	c := NewCache(MySQL)
	c.Learn("SELECT f(7)")
	text := func(n int) (sql string, want Kind) {
		switch n % 6 {
		case 0:
			return fmt.Sprintf("SELECT f(%d)", n), Write
		case 1, 4:
			return fmt.Sprintf("DELETE FROM t WHERE id = %d", n), Write
		case 2, 5:
			return fmt.Sprintf("SELECT %d FOR UPDATE", n), Locking
		default:
			return fmt.Sprintf("SELECT %d", n), Read
		}
	}
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			for i := range 20000 {
				n := (i*31 + g) % (3 * cacheSets)
				if sql, want := text(n); c.Kind(sql) != want {
					t.Errorf("%q is not %v", sql, want)
					return
				}
				if i%500 == 0 {
					c.Learn(fmt.Sprintf("SELECT f(%d)", n))
				}
			}
		})
	}
	wg.Wait()
}

func BenchmarkCacheHit(b *testing.B) {
	c := NewCache(MySQL)
	c.Kind(benchText)
	sql := strings.Clone(benchText) // not the same memory, as GORM builds its text each time
	b.ReportAllocs()
	for b.Loop() {
		c.Kind(sql)
	}
}

func BenchmarkCacheHitParallel(b *testing.B) {
	c := NewCache(MySQL)
	c.Kind(benchText)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			c.Kind(benchText)
		}
	})
}

func BenchmarkCacheHitAfterLearning(b *testing.B) {
	c := NewCache(MySQL)
	for i := range 5000 {
		c.Learn(fmt.Sprintf("SELECT audit(%d) FROM t%d", i, i))
	}
	c.Kind(benchText)
	b.ReportAllocs()
	for b.Loop() {
		c.Kind(benchText)
	}
}

func BenchmarkCacheMiss(b *testing.B) {
	for _, bb := range []struct {
		name    string
		watched []string
	}{{"no tables", nil}, {"tables", []string{"users", "orders", "archive.items"}}} {
		b.Run(bb.name, func(b *testing.B) {
			c := NewCache(MySQL)
			if bb.watched != nil {
				c.Watch(bb.watched)
			}
			texts := make([]string, 16*cacheSets)
			for i := range texts {
				texts[i] = fmt.Sprintf("%s OFFSET %d", benchText, i)
			}
			i := 0
			b.ReportAllocs()
			for b.Loop() {
				c.Kind(texts[i%len(texts)])
				i++
			}
		})
	}
}
