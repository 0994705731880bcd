package oracle

import (
	"cmp"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// postgreSQLKnown are statements of which the truth is known: what the oracle must see, each in its own way.
var postgreSQLKnown = map[truth][]string{
	invalid: {"SELECT FROM WHERE", "SELECT 1 FROM nothing_there", "FROBNICATE t", "SELECT 'open", "SELECT 1/0"},
	read: {
		"SELECT 1", "SELECT * FROM t", "SELECT now(), random(), clock_timestamp(), gen_random_uuid()",
		"SELECT 'INSERT INTO t'",
		"EXPLAIN SELECT * FROM t", "EXPLAIN ANALYZE SELECT * FROM t JOIN u ON true", "SELECT twice(2)",
		"CALL looks()",
		"SELECT a, count(*) FROM (SELECT DISTINCT a, b FROM t) x GROUP BY a", "DO $$ BEGIN PERFORM 1; END $$",
		"COPY t TO STDOUT",
		"SELECT * FROM pg_class", "SELECT pg_relation_size('t')", "SELECT version()", "SELECT 't'::regclass::text",
		"SELECT 1; SELECT 2",
	},
	locking: {
		"SELECT * FROM t FOR UPDATE", "SELECT * FROM here.u FOR SHARE", "SELECT a FROM t WHERE id = 1 FOR NO " +
			"KEY UPDATE NOWAIT", "SELECT * FROM t FOR KEY SHARE",
		"SELECT (SELECT a FROM t WHERE id = 2 FOR UPDATE)", "WITH x AS (SELECT * FROM t FOR UPDATE) SELECT * " +
			"FROM x", "SELECT locks()", "LOCK TABLE t",
		"EXPLAIN ANALYZE SELECT * FROM t FOR UPDATE",
	},
	stateful: {
		"SELECT currval('mine')", "SELECT lastval()", "SELECT current_setting('my.setting', true)",
		"SELECT set_config('my.new', 'x', false)", "SELECT pg_backend_pid()",
		"SELECT current_user", "SELECT session_user", "SELECT user", "SELECT current_schema",
		"SELECT pg_try_advisory_lock(1)", "SELECT pg_advisory_xact_lock(1)", "SELECT pg_advisory_unlock(42)",
		"SELECT pg_try_advisory_lock(42)", "SELECT remembers()", "SELECT * FROM who",
		"SELECT pg_listening_channels()", "SELECT name FROM pg_prepared_statements", "SELECT name FROM pg_cursors",
		"SET work_mem = '1MB'", "SET LOCAL work_mem = '1MB'", "SET my.new = 'x'", "RESET my.setting",
		"SET search_path = there", "SET ROLE oracle", "SET TIME ZONE 'Europe/Berlin'", "DISCARD ALL",
		"BEGIN", "COMMIT", "ROLLBACK", "ROLLBACK TO sp", "RELEASE sp", "PREPARE x AS SELECT 1", "EXECUTE prepared",
		"DEALLOCATE prepared",
		"DECLARE x CURSOR FOR SELECT 1", "FETCH held", "MOVE held", "CLOSE held", "LISTEN x", "UNLISTEN *",
		"SELECT inet_client_port()",
	},
	write: {
		"INSERT INTO t (a) VALUES (9)", "UPDATE t SET a = 9", "UPDATE t SET a = a", "DELETE FROM u",
		"MERGE INTO fast USING tree ON fast.id = tree.id WHEN MATCHED THEN DELETE",
		"TRUNCATE fast", "CREATE TABLE made (a int)", "DROP TABLE t", "ALTER TABLE u ADD x int",
		"CREATE TEMP TABLE tmp (a int)", "SELECT 1 AS a INTO made", "SELECT 1 AS a INTO TEMP made",
		"WITH x AS (DELETE FROM fast RETURNING *) SELECT * FROM x", "WITH x AS (INSERT INTO fast VALUES (9, 9)) " +
			"SELECT * FROM t FOR UPDATE",
		"SELECT nextval('s')", "SELECT setval('s', 5)", "SELECT * FROM ticket", "SELECT adds()", "CALL writes()",
		"SELECT 1 +@+ 2",
		"COPY t TO '{files}/x'", "COPY (SELECT 1) TO PROGRAM 'cat > {files}/x'",
		"SELECT lo_export(4711, '{files}/x')", "SELECT lo_create(0)", "SELECT lo_unlink(4711)",
		"DO $$ BEGIN DELETE FROM fast; END $$", "SELECT 1; DELETE FROM fast",
		"SELECT query_to_xml('SELECT nextval(''s'')', true, false, '')",
		"CREATE ROLE made", "GRANT SELECT ON t TO part", "REFRESH MATERIALIZED VIEW mv", "ANALYZE t",
		"VACUUM FULL t", "NOTIFY x", "SELECT pg_notify('x', 'y')", "SELECT txid_current()",
		"SELECT pg_logical_emit_message(false, 'a', 'b')", "SELECT pg_create_restore_point('x')",
		"SELECT pg_stat_reset()", "SELECT pg_create_physical_replication_slot('made')",
		"BEGIN; DELETE FROM fast; COMMIT", "BEGIN; DELETE FROM fast; PREPARE TRANSACTION 'x'",
		"ALTER SYSTEM SET work_mem = '2MB'", "CREATE DATABASE made", "SELECT pg_replication_origin_create('x')",
		"COPY fast FROM STDIN",
	},
}

// postgreSQLText is what a mutation works with.
var postgreSQLText = text{
	token: regexp.MustCompile(`(?s)\s+|/\*.*?\*/|--[^\n]*(?:\n|$)` +
		`|[Ee]'(?:[^'\\]|\\.|'')*'|'(?:[^']|'')*'|"(?:[^"]|"")*"|\$\$.*?\$\$|\$a\$.*?\$a\$` +
		`|\$q\$.*?\$q\$|[\pL\d_]+|::|.`),
	nothing: regexp.MustCompile(`(?s)^(\s*|/\*.*|--.*|[;()*/])$`),
	hidden:  regexp.MustCompile(`adds|\+@\+`),
	blanks: []string{
		" ", "\n", "\t", "\f", "\v", "\r\n", "\r", "  ", "/**/", " /* x */ ", "/* ' */", "/* FOR UPDATE */",
		"/***/", " -- x\n", " --\n", "--'\n", "/*\n*/", " -- ;\n ",
		"/* /* */ */", "--\r", "/* $$ */", "/*+ x */",
	},
	inserts: []string{
		"FOR UPDATE", "FOR SHARE", "FOR KEY SHARE", "FOR NO KEY UPDATE", "FOR UPDATE SKIP LOCKED", "INTO made",
		"INTO TEMP made", ";", "; DELETE FROM fast", "1.", ".5", "1e5", "'", "\"", "$$", "$a$", "\\", "(", ")", ",",
		"::text", "::regclass", "nextval('s')", "setval('n', 5)", "('s'::regclass).nextval", "currval('mine')",
		"lastval()", "pg_try_advisory_lock(7)", "set_config('my.new', 'x', true)", "current_user",
		"pg_backend_pid()",
		"NULL", "1", "'x'", "\"x\"", "E'\\''", "U&\"\\0061\"", "SELECT", "FROM t", "WHERE true", "UNION SELECT 1",
		"UNION ALL", "AS x", "LIMIT 1", "DISTINCT", "UPDATE t SET a = 1", "DELETE FROM u", "UPDATE", "DELETE",
		"INSERT INTO fast VALUES (50, 1)",
		"RETURNING id", "adds()", "twice(1)", "+@+", "-", "--", "!", "~", "COLLATE \"C\"", "ARRAY[1]", "[1]", ".a",
		"update", "delete", "into", "USER", "TABLE t", "ONLY", "LATERAL", "txid_current()", "pg_notify('x', 'y')",
	},
	around: []string{
		"EXPLAIN %s", "EXPLAIN ANALYZE %s", "EXPLAIN (ANALYZE, COSTS OFF) %s", "(%s)", "((%s))",
		"SELECT * FROM (%s) x", "SELECT (%s)", "SELECT EXISTS (%s)", "SELECT ARRAY(%s)",
		"WITH x AS (%s) SELECT * FROM x", "WITH x AS MATERIALIZED (%s) SELECT 1",
		"WITH RECURSIVE x AS (%s) TABLE x",
		"%s UNION %s", "(%s) UNION ALL (SELECT NULL)", "%s;", "SELECT 1 WHERE 1 IN (%s)", "PREPARE x AS %s",
		"DECLARE c CURSOR FOR %s", "CREATE VIEW made AS %s", "CREATE TABLE made AS %s",
		"-- x\n%s", "/* x */ %s", "SELECT * FROM t WHERE a = (%s)", "INSERT INTO fast (id) %s", "SELECT '%s'",
		"SELECT \"%s\"", "SELECT $$%s$$", "SELECT $x$%s$x$", "/* %s */ SELECT 1", "SELECT 1 -- %s\n",
		"SELECT * FROM t ORDER BY (%s)", "%s LIMIT 1", "%s FOR UPDATE", "SELECT * FROM t, LATERAL (%s) x",
		"SELECT E'%s'",
	},
}

// postgreSQLValues are arguments by the name of their type; of those not listed there is NULL.
var postgreSQLValues = map[string]string{
	"int2": "1::int2", "int4": "1", "int8": "1::int8", "float4": "1::float4", "float8": "1::float8",
	"numeric": "1.5", "oid": "'t'::regclass::oid", "bool": "true", "text": "'a'::text",
	"varchar": "'a'::varchar",
	"bpchar":  "'a'::bpchar", "name": "'a'::name", "char": `'a'::"char"`, "bytea": `'\x41'::bytea`,
	"json": `'{"a": 1}'::json`, "jsonb": `'{"a": 1}'::jsonb`, "jsonpath": "'$.a'::jsonpath",
	"date": "'2020-01-01'::date", "time": "'10:00'::time",
	"timetz": "'10:00+00'::timetz", "timestamp": "'2020-01-01'::timestamp",
	"timestamptz": "'2020-01-01'::timestamptz", "interval": "'1 day'::interval", "point": "point(1, 2)",
	"box": "'((0,0),(1,1))'::box", "circle": "'<(1,2),3>'::circle",
	"lseg": "'[(0,0),(1,1)]'::lseg", "path": "'[(0,0),(1,1)]'::path", "polygon": "'((0,0),(1,1))'::polygon",
	"line": "'{1,2,3}'::line", "inet": "'10.0.0.1'::inet", "cidr": "'10.0.0.0/8'::cidr",
	"macaddr": "'08:00:2b:01:02:03'::macaddr", "macaddr8": "'08:00:2b:01:02:03:04:05'::macaddr8",
	"bit": "B'1'", "varbit": "B'1'::varbit", "money": "'1'::money", "tsvector": "'a b'::tsvector",
	"tsquery": "'a'::tsquery", "pg_lsn": "'0/1000000'::pg_lsn", "xid": "'1'::xid", "xid8": "'1'::xid8",
	"cid": "'1'::cid", "tid": "'(0,1)'::tid",
	"uuid": "'00000000-0000-0000-0000-000000000001'::uuid", "xml": "'<a/>'::xml", "regclass": "'t'::regclass",
	"regproc": "'now'::regproc", "regprocedure": "'twice(int)'::regprocedure", "regtype": "'int'::regtype",
	"regrole": "'oracle'::regrole", "regnamespace": "'here'::regnamespace",
	"regconfig": "'english'::regconfig", "regdictionary": "'simple'::regdictionary",
	"refcursor": "'held'::refcursor", "record": "ROW(1, 2)", "any": "1", "anyelement": "1", "anynonarray": "1",
	"anycompatible": "1", "anycompatiblenonarray": "1", "anyarray": "ARRAY[1, 2]",
	"anycompatiblearray": "ARRAY[1, 2]",
	"anyenum":            "'ok'::mood",
	"anyrange":           "'[1,5)'::int4range", "anymultirange": "'{[1,5)}'::int4multirange",
	"anycompatiblerange": "'[1,5)'::int4range", "_text": "ARRAY['a', 'b']", "_int4": "ARRAY[1, 2]",
	"_int8": "ARRAY[1, 2]::int8[]", "_float8": "ARRAY[1, 2]::float8[]", "_numeric": "ARRAY[1, 2]::numeric[]",
	"int4range": "'[1,5)'::int4range", "numrange": "'[1,5)'::numrange",
	"tsrange": "'[2020-01-01,2021-01-01)'::tsrange", "txid_snapshot": "txid_current_snapshot()",
	"pg_snapshot": "pg_current_snapshot()", "aclitem": "'oracle=r/oracle'::aclitem",
	"_aclitem": "'{oracle=r/oracle}'::aclitem[]",
	"hstore":   "'a=>1'::hstore", "ltree": "'a.b'::ltree", "lquery": "'a.*'::lquery", "citext": "'a'::citext",
	"cube": "'(1,2)'::cube", "_tid": "ARRAY['(0,1)']::tid[]", "_char": `'{a}'::"char"[]`, "_oid": "'{1}'::oid[]",
	"seg": "'1'::seg", "unknown": "'a'",
}

// postgreSQLByHand are arguments for functions of which no plausible argument is right, or of which waiting
// is the work; and none for those that would hurt.
var postgreSQLByHand = map[string][]string{
	"nextval": {"'s'"}, "setval": {"'n', 500"}, "currval": {"'mine'"}, "pg_sleep": {"0"},
	"pg_sleep_for": {"'0'"}, "pg_sleep_until": {"now()"}, "pg_read_file": {"'PG_VERSION'"},
	"pg_read_binary_file": {"'PG_VERSION'"}, "pg_stat_file": {"'PG_VERSION'"}, "pg_ls_dir": {"'pg_wal'"},
	"lo_open": {"4711, 262144", "4711, 131072"}, "lo_get": {"4711"}, "lo_put": {"4711, 0, 'x'"},
	"lo_unlink": {"4711"}, "lo_export": {"4711, '{files}/f'"}, "lo_import": {"'/etc/hostname'"},
	"loread": {"lo_open(4711, 262144), 1"}, "lowrite": {"lo_open(4711, 131072), 'x'"},
	"lo_truncate": {"lo_open(4711, 131072), 0"},
	"lo_close":    {"lo_open(4711, 262144)"}, "lo_tell": {"lo_open(4711, 262144)"},
	"lo_lseek": {"lo_open(4711, 262144), 0, 0"}, "lo_creat": {"-1"}, "lo_create": {"0"},
	"lo_from_bytea": {"0, 'x'"}, "set_config": {"'my.new', 'x', false", "'work_mem', '1MB', true"},
	"current_setting": {"'my.setting', true", "'work_mem'"},
	"pg_backup_start": {"'x', true"}, "pg_create_logical_replication_slot": {"'x', 'pgoutput'"},
	"pg_replication_origin_create": {"'x'"}, "cursor_to_xml": {"'held', 1, true, false, ''"},
	"pg_file_write": {"'{files}/f', 'x', false"}, "pg_file_rename": {"'nothing', 'more'"},
	"pg_export_snapshot": {""},
	"pg_advisory_lock":   {"5", "5, 6"}, "pg_get_wal_record_info": {"pg_current_wal_lsn()"},
	"generate_series": {"1, 2"}, "pg_stat_reset_shared": {"'bgwriter'"},
	"pg_drop_replication_slot": {"'nothing'"}, "dblink_connect": {"'nothing'"},
	"pg_terminate_backend": nil, "pg_cancel_backend": nil, "pg_stop_making_pinned_objects": nil,
	"pg_promote": nil, "heap_force_kill": nil, "heap_force_freeze": nil, "pg_log_backend_memory_contexts": nil,
	"crosstab": {"'SELECT id, a, b FROM t'"},
}

// functions returns calls of the server's functions: of every one that may do anything, of some of those that
// are immutable.
func (p *postgreSQL) functions(t *testing.T, share int) []statement {
	t.Helper()
	const q = "SELECT proname, provolatile, prokind, pg_get_function_result(p.oid) ~ " +
		"'trigger|handler|internal', " +
		"array_to_string(ARRAY(SELECT typname FROM unnest(proargtypes::oid[]) WITH ORDINALITY a (o, i) JOIN " +
		"pg_type ON pg_type.oid = o ORDER BY i), ' ') " +
		"FROM pg_proc p WHERE prokind IN ('f', 'a', 'w') AND pronamespace IN ('pg_catalog'::regnamespace, " +
		"'public'::regnamespace) ORDER BY 1, 5"
	a := p.ask(t.Context(), q)
	if a.err != nil {
		t.Fatal(a.err)
	}
	var calls []statement
	immutable := 0
	for _, row := range a.rows {
		f := pgFunction{name: row[0], volatile: row[1], kind: row[2], types: strings.Fields(row[4])}
		if row[3] == "t" || slices.Contains(f.types, "internal") || slices.Contains(f.types, "cstring") {
			continue
		}
		if f.volatile == "i" {
			if immutable++; immutable%share != 0 {
				continue
			}
		}
		calls = append(calls, f.calls()...)
	}
	return calls
}

// pgFunction is a function as the catalog describes it.
type pgFunction struct {
	name, volatile, kind string
	types                []string // of its arguments
}

// calls returns calls with arguments by hand, or else with plausible ones; and, if it may do anything, also
// with texts that some functions run, and with NULL.
func (f pgFunction) calls() (calls []statement) {
	if byHand, ok := postgreSQLByHand[f.name]; ok {
		for _, args := range byHand {
			calls = append(calls, f.call(args, false))
		}
		return calls
	}
	plausible, nulls := make([]string, len(f.types)), make([]string, len(f.types))
	for i, typ := range f.types {
		nulls[i] = pgNull(typ)
		plausible[i] = cmp.Or(postgreSQLValues[typ], nulls[i])
	}
	calls = append(calls, f.call(strings.Join(plausible, ", "), false))
	if f.volatile == "i" || len(f.types) == 0 {
		return calls
	}
	// Some take the name of a table, or SQL.
	if i := slices.Index(f.types, "text"); i >= 0 {
		for _, text := range []string{"'t'::text", "'SELECT a FROM t'::text", "'DELETE FROM fast'::text"} {
			plausible[i] = text
			calls = append(calls, f.call(strings.Join(plausible, ", "), false))
		}
	}
	return append(calls, f.call(strings.Join(nulls, ", "), true))
}

func (f pgFunction) call(args string, probing bool) statement {
	over := ""
	if f.kind == "w" {
		over = " OVER ()"
	}
	return statement{
		sql:  fmt.Sprintf("SELECT %s(%s)%s", quoteName(f.name), args, over),
		from: "function", probing: probing || f.volatile == "v", hidden: readsTables.MatchString(f.name),
	}
}

// pgNull is NULL of a type. A type that stands for many has to be known by a value.
func pgNull(typ string) string {
	null := "NULL::" + quoteName(strings.TrimPrefix(typ, "_"))
	switch {
	case strings.HasPrefix(typ, "any") || typ == "record":
		return postgreSQLValues[typ]
	case strings.HasPrefix(typ, "_"):
		return null + "[]"
	}
	return null
}

// readsTables matches functions that read all tables and views of a schema, so that they do what the user's
// views do.
var readsTables = regexp.MustCompile(`^(database|schema)_to_xml`)

var plainName = regexp.MustCompile(`^[a-z_][a-z0-9_]*$`)

func quoteName(name string) string {
	if plainName.MatchString(name) && name != "any" && name != "char" && name != "overlay" &&
		name != "position" && name != "substring" && name != "normalize" && name != "xmlexists" &&
		name != "timezone" && name != "interval" && name != "time" && name != "timestamp" && name != "bit" {
		return name
	}
	return `"` + name + `"`
}

// words returns a statement for every word of the server's grammar: some are functions without parentheses.
func (p *postgreSQL) words(t *testing.T) []statement {
	t.Helper()
	a := p.ask(t.Context(), "SELECT word FROM pg_get_keywords() ORDER BY 1")
	if a.err != nil {
		t.Fatal(a.err)
	}
	var all []statement
	for _, row := range a.rows {
		all = append(all, statement{sql: "SELECT " + row[0], from: "word"})
	}
	return all
}

// postgreSQLBytes are texts in which bytes above 0x7f matter: in some character sets a backslash or a letter
// is the second half of a character.
var postgreSQLBytes = []string{
	"SELECT 'caf\xc3\xa9', \"na\xc3\xafve\" FROM (SELECT 1 AS \"na\xc3\xafve\") x", "SELECT 1 AS a\xc3\xa0",
	"SELECT 1 AS \xe9", "SELECT 'caf\xe9'",
	"SELECT 1\xa0AS a INTO made", "SELECT 1 AS a\xc2\xa0INTO made", "SELECT 1 AS a\xe3\x80\x80INTO made",
	"SELECT * FROM t\xa0FOR UPDATE", "SELECT * FROM t x\xc3\xa0 FOR UPDATE",
	"SELECT E'\x83\\', 'x' AS a INTO made --'", "SELECT E'\x83\\'; DELETE FROM fast --'",
	"SELECT E'\x95\\\\'; DELETE FROM fast --'", "SELECT '\x83\\'; DELETE FROM fast --'",
	"SELECT '\x83\\\\'; DELETE FROM fast --'",
	"SELECT \"\x83\\\" FROM t", "SELECT E'\xa5\\' || ' ; DELETE FROM fast --'", "SELECT $\x83\x5c$ FROM t",
	"SELECT $\xe9$'$\xe9$; DELETE FROM fast --'", "SELECT $\xc3\xa9$;$\xc3\xa9$",
	"WITH \xc3\xa9 AS (DELETE FROM u RETURNING *) TABLE \xc3\xa9", "SELECT nextval\xc2\xa0('s')",
	"SELECT nextval\xa0('s')", "SELECT '\xe2\x80\xa8'; DELETE FROM fast",
	"--\xe2\x80\xa8 DELETE FROM t\nSELECT 1",
}

// validCalls returns those calls that the server takes, a few for each function.
func (p *postgreSQL) validCalls(t *testing.T, calls []statement) []statement {
	t.Helper()
	const most = 2
	taken := map[string]int{}
	var valid []statement
	for _, c := range calls {
		name, _, _ := strings.Cut(c.sql, "(")
		if taken[name] == most {
			continue
		}
		if a := p.run(t.Context(), "refuse", "ROLLBACK; BEGIN READ ONLY"); a.err != nil {
			t.Fatal(a.err)
		}
		a := p.run(t.Context(), "refuse", strings.ReplaceAll(c.sql, "{files}", p.files))
		if a.err == nil || pgCode(a.err) == "25006" {
			taken[name]++
			valid = append(valid, c)
		}
	}
	if err := p.fresh(t.Context(), "refuse"); err != nil {
		t.Fatal(err)
	}
	var f finding
	if err := errors.Join(p.written(&f), p.restore(t.Context())); err != nil {
		t.Fatal(err)
	}
	const functions = 250
	if len(taken) < functions {
		t.Errorf("only %d functions could be called, want %d", len(taken), functions)
	}
	return valid
}
