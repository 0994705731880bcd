package sqlkind

import (
	"strings"
	"testing"
)

func TestCallsUnknown(t *testing.T) {
	all := []Dialect{MySQL, SQLite, PostgreSQL}
	my, lite, pg := all[:1], all[1:2], all[2:]
	for _, tt := range []struct {
		dialects []Dialect
		sql      string
		want     bool
	}{
		{all, "SELECT create_order(?)", true},
		{all, "SELECT CREATE_ORDER (?)", true},
		{all, "select create_order/* */(?)", true},
		{all, "SELECT count(*) FROM users WHERE audit(id) = 1", true},
		{all, "SELECT lower(create_order(1))", true},
		{all, "SELECT a FROM (SELECT create_order(1) AS a) t", true},
		{all, "WITH x AS (SELECT create_order(1)) SELECT * FROM x", true},
		{all, "SELECT * FROM users WHERE (a) AND create_order(1)", true},
		{all, "SELECT CASE WHEN (a) THEN create_order(1) END FROM t", true},
		{all, "SELECT shop.create_order(1)", true},
		{all, "SELECT shop.lower(1)", true}, // not the server's own
		{all, "SELECT größe(1), überlower(1)", true},
		{all, "SELECT größ(1)", true},
		{my, "SELECT `" + strings.Repeat("ä", 64) + "`(1)", true}, // 64 characters, 128 bytes
		{lite, `SELECT "` + strings.Repeat("a", 100) + `"(1)`, true},

		{all, "SELECT 1", false},
		{all, "SELECT count(*), max(a), lower(b), coalesce(a, b), round(a) FROM t", false},
		{all, "SELECT * FROM users WHERE id IN (1, 2) AND (a OR b) AND NOT (c) AND EXISTS (SELECT 1)", false},
		{all, "SELECT row_number() OVER (PARTITION BY a ORDER BY b) FROM t", false},
		{all, "WITH x (a, b) AS (SELECT 1, 2), y (c) AS (SELECT 1) SELECT * FROM x, y", false},
		{all, "WITH RECURSIVE orders (a) AS (SELECT 1 UNION ALL (SELECT 1)) SELECT * FROM orders", false},
		{all, "SELECT * FROM a JOIN b USING (id) LEFT JOIN c ON (a.id = c.id) WHERE (1)", false},
		{all, "SELECT CAST(a AS DECIMAL(10, 2)), CAST(b AS CHAR(3)) FROM t", false},
		{all, "SELECT 'create_order(1)', /* create_order(1) */ 2 -- create_order(1)", false},
		{all, "SELECT create_order FROM t", false},

		{my, "SELECT `create_order`(1)", true},
		{my, "SELECT `in`(1)", false}, // IN is in the server's own list
		{my, "SELECT `where`(1)", true},
		{my, "SELECT * FROM t WHERE a = 'it\\'s' AND create_order(1)", true},
		{my, "SELECT shop.format_bytes(1), sys.create_order(1)", true},
		{my, "SET @a = create_order(1)", true},
		{my, "SELECT sys.format_bytes(1), `sys`.`format_time`(1)", false},
		{my, "SELECT GET_LOCK('a', 1), LAST_INSERT_ID(), NOW(3), CURRENT_TIMESTAMP(6)", false},
		{my, "SELECT MATCH (a) AGAINST ('b'), JSON_EXTRACT(a, '$.b'), IF(a, 1, 2), DATE(b) FROM t", false},
		{my, "SELECT * FROM JSON_TABLE(?, '$[*]' COLUMNS (a INT PATH '$', b VARCHAR(3) PATH '$')) t", false},
		{my, "SELECT * FROM t PARTITION (p0) USE INDEX (a) FORCE INDEX FOR JOIN (b)", false},
		{my, "SELECT * FROM t WHERE a RLIKE ('b') AND c MEMBER OF ('[1]') AND d DIV (2) XOR (e)", false},
		{my, "SELECT GROUP_CONCAT(a ORDER BY b SEPARATOR ',') FROM t GROUP BY (a) HAVING (1) LIMIT 1", false},
		{my, "SELECT ST_AsText(g), ST_Distance_Sphere(g, POINT(1, 2)) FROM t", false},

		{pg, `SELECT "create_order"(1), pg_catalog.lower('a')`, true},
		{pg, `SELECT "where"(1)`, true},
		{pg, "SELECT DISTINCT ON (a) create_order(a) FROM t", true},
		{pg, "SELECT * FROM create_order(1) AS t (a int, b varchar(3))", true},
		{pg, "SELECT * FROM t, LATERAL create_order(t.a) o", true},
		{pg, "SELECT pg_catalog.create_order(1)", true},
		{pg, "SELECT DISTINCT ON (a) lower(a) FROM t", false},
		{pg, "SELECT pg_catalog.lower('a'), \"lower\"('a')", false},
		{pg, "SELECT * FROM (VALUES (1, 2)) AS t (a, b), (VALUES (1)) u (c)", false},
		{pg, "SELECT * FROM unnest(?::int[]) WITH ORDINALITY AS t (a, n)", false},
		{pg, "SELECT a::numeric(10, 2), b::varchar(3), c::timestamp(3), ARRAY(SELECT 1) FROM t", false},
		{pg, "SELECT sum(a) FILTER (WHERE b), percentile_cont(0.5) WITHIN GROUP (ORDER BY a)", false},
		{pg, "SELECT a FROM t GROUP BY GROUPING SETS ((a), ()), ROLLUP (a), CUBE (b)", false},
		{pg, "SELECT public.st_distance(a, b), extensions.uuid_generate_v4(), similarity(a, b)", false},
		{pg, "SELECT jsonb_build_object('a', 1), to_tsvector('b'), date_trunc('day', now())", false},
		{pg, "SELECT extract(epoch FROM a), substring(b FROM 1), trim(BOTH FROM c) FROM t", false},
		{pg, "SELECT (t).total, (a).b.c, t.create_order FROM t", false},
		{pg, "SELECT pg_advisory_lock(1), nextval('s'), dbms_output.put_line('a')", false},
		{pg, "EXPLAIN (ANALYZE, BUFFERS) SELECT 1", false},
		{pg, "SELECT * FROM t TABLESAMPLE BERNOULLI (10) WHERE a = ANY (?) AND b LIKE ALL (?)", false},

		{lite, "SELECT strftime('%Y', a), json_extract(b, '$.c'), iif(a, 1, 2) FROM t", false},
		{lite, "SELECT * FROM json_each(?) WHERE a MATCH ('b') AND c GLOB ('d')", false},
	} {
		for _, d := range tt.dialects {
			if got := CallsUnknown(d, tt.sql); got != tt.want {
				t.Errorf("%v: %s: %t, want %t", d, tt.sql, got, tt.want)
			}
			c := NewCache(d)
			for range 2 { // the second time it is remembered
				if v := c.Look(tt.sql); v.CallsUnknown != tt.want || v.Kind != Classify(d, tt.sql) {
					t.Errorf("%v: %s: a Cache says %+v", d, tt.sql, v)
				}
			}
		}
	}
}

// TestKnownNames looks for a name that is listed in vain, or that stands where nobody looks for it.
func TestKnownNames(t *testing.T) {
	for file, list := range map[string]string{
		"mysql": knownMySQL, "mysql_sys": knownMySQLSys, "mysql_words": wordsMySQL,
		"postgresql": knownPostgreSQL, "postgresql_extensions": knownPostgreSQLExtensions,
		"postgresql_words": wordsPostgreSQL, "sqlite": knownSQLite, "sqlite_words": wordsSQLite,
	} {
		last := ""
		for name := range names(list) {
			if name != strings.ToLower(name) || len(name) > longestName {
				t.Errorf("%s: %q is found by nobody", file, name)
			}
			if name <= last {
				t.Errorf("%s: %q stands behind %q", file, name, last)
			}
			last = name
		}
		if last == "" {
			t.Errorf("%s is empty", file)
		}
	}
}
