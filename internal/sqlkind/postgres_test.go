package sqlkind

import (
	"os"
	"slices"
	"strings"
	"testing"
)

var postgresTests = slices.Concat(postgresQueries, postgresStatements)

var postgresQueries = []kindTest{
	// What GORM builds.
	{"find", `SELECT * FROM "users" WHERE "users"."deleted_at" IS NULL ORDER BY "users"."id" LIMIT $1`, Read},
	{"first", `SELECT * FROM "users" WHERE "users"."id" = $1 AND "users"."deleted_at" IS NULL ORDER BY ` +
		`"users"."id" LIMIT $2`, Read},
	{"count", `SELECT count(*) FROM "users"`, Read},
	{"count of a group", `SELECT count(*) FROM (SELECT "name" FROM "users" GROUP BY "name") as "x"`, Read},
	{"in", `SELECT * FROM "users" WHERE "users"."id" IN ($1,$2,$3)`, Read},
	{"joins", `SELECT "users"."id","Company"."id" AS "Company__id" FROM "users" LEFT JOIN "companies" ` +
		`"Company" ON "users"."company_id" = "Company"."id"`, Read},
	{"pluck of a column called update", `SELECT "update" FROM "users"`, Read},
	{"clause.Locking", `SELECT * FROM "users" WHERE "id" = $1 FOR UPDATE`, Locking},
	{"clause.Locking of a table", `SELECT * FROM "users" FOR UPDATE OF "users" SKIP LOCKED`, Locking},
	{"create", `INSERT INTO "users" ("name") VALUES ($1) RETURNING "id"`, Write},
	{"upsert", `INSERT INTO "users" ("name") VALUES ($1) ON CONFLICT ("id") DO UPDATE SET ` +
		`"name"="excluded"."name" RETURNING "id"`, Write},
	{"save", `UPDATE "users" SET "name"=$1 WHERE "id" = $2`, Write},
	{"delete", `DELETE FROM "users" WHERE "id" = $1`, Write},
	{"savepoint", "SAVEPOINT sp0x1234", Stateful},
	{"rollback to savepoint", "ROLLBACK TO SAVEPOINT sp0x1234", Stateful},
	{"migrator: current database", "SELECT CURRENT_DATABASE()", Stateful},
	{"migrator: current schema", "SELECT CURRENT_SCHEMA()", Stateful},
	{"migrator: has table", "SELECT count(*) FROM information_schema.tables WHERE table_schema = $1 AND " +
		"table_name = $2 AND table_type = $3", Catalog},
	{"migrator: has table of the current schema", "SELECT count(*) FROM information_schema.tables WHERE " +
		"table_schema = CURRENT_SCHEMA() AND table_name = $1", Stateful},
	{"migrator: has column", "SELECT count(*) FROM INFORMATION_SCHEMA.columns WHERE table_schema = $1 AND " +
		"table_name = $2 AND column_name = $3", Catalog},
	{"migrator: has index", "SELECT count(*) FROM pg_indexes WHERE tablename = $1 AND indexname = $2 AND " +
		"schemaname = $3", Catalog},
	{"migrator: comment", "SELECT description FROM pg_catalog.pg_description WHERE objoid = (SELECT oid FROM " +
		"pg_catalog.pg_class WHERE relname = $1)", Catalog},
	{"migrator: indexes", "SELECT ct.relname AS table_name FROM pg_index i LEFT JOIN pg_class ct ON ct.oid = " +
		"i.indrelid WHERE a.attnum = ANY(i.indkey)", Catalog},
	{"migrator: type of a column", "SELECT format_type(a.atttypid, a.atttypmod) AS data_type FROM " +
		"pg_attribute a JOIN pg_class b ON a.attrelid = b.oid", Catalog},
	{"migrator: create", `CREATE TABLE "users" ("id" bigserial,PRIMARY KEY ("id"))`, Write},
	{"migrator: version", "SELECT version()", Read},
	{"migrator: comment on a column", `COMMENT ON COLUMN "users"."name" IS 'x'`, Write},
	{"comment hint", "SELECT /* request 42 */ * FROM users", Read},
	{"sqlcommenter", "SELECT * FROM users /*controller='users',traceparent='00-5bd6'*/", Read},

	// Queries.
	{"lower case", "select 1", Read},
	{"odd case", "SeLeCt 1", Read},
	{"nothing selected", "SELECT", Read},
	{"comment as a blank", "select/**/1", Read},
	{"line comment", "-- hello\nSELECT 1", Read},
	{"line comment at the end", "SELECT 1 --", Read},
	{"blanks of all kinds", "\t\n\f\rSELECT\t1\f\r", Read},
	{"semicolon at the end", "SELECT 1;", Read},
	{"semicolons at the end", "SELECT 1 ; ; -- done", Read},
	{"semicolons everywhere else", `SELECT ';', ";" /* ; DROP TABLE t */, $$;$$ FROM t`, Read},
	{"writes in quotes", `SELECT 'INSERT INTO t; DELETE FROM t FOR UPDATE', "INTO t" FROM t`, Read},
	{"parenthesised", "((SELECT 1))", Read},
	{"union of parentheses", "(select 1) union (select 2)", Read},
	{"except and intersect", "SELECT 1 EXCEPT ALL SELECT 2 INTERSECT SELECT 3", Read},
	{"values", "VALUES (1, 'a'), (2, 'b') ORDER BY 1", Read},
	{"table", "TABLE ONLY t ORDER BY a LIMIT 10", Read},
	{"cte", "WITH x AS (SELECT 1) SELECT * FROM x", Read},
	{"ctes", `WITH x (a, b) AS MATERIALIZED (SELECT 1, 2), "y" AS NOT MATERIALIZED (SELECT 3) SELECT * FROM ` +
		`x, y`, Read},
	{"recursive cte", "WITH RECURSIVE x(n) AS (SELECT 1 UNION ALL SELECT n+1 FROM x WHERE n < 10) SELECT * " +
		"FROM x", Read},
	{"search", "WITH RECURSIVE x(n) AS (SELECT 1 UNION ALL SELECT n+1 FROM x WHERE n < 10) SEARCH DEPTH " +
		"FIRST BY n SET o SELECT * FROM x ORDER BY o", Read},
	{"cycle", "WITH RECURSIVE x(n) AS (SELECT 1 UNION ALL SELECT n FROM x) CYCLE n SET c USING p SELECT * " +
		"FROM x", Read},
	{"search and cycle", "WITH RECURSIVE x(n) AS (SELECT 1 UNION ALL SELECT n FROM x) SEARCH BREADTH FIRST " +
		"BY n SET o CYCLE n SET c TO 'y' DEFAULT 'n' USING p, y AS (SELECT 2) SELECT * FROM x, y", Read},
	{"cte in parentheses", "(WITH x AS (SELECT 1) SELECT * FROM x)", Read},
	{"cte before parentheses", "WITH x AS (SELECT 1) (SELECT * FROM x)", Read},
	{"cte before table", "WITH x AS (SELECT 1) TABLE x", Read},
	{"cte values", "WITH x AS (VALUES (1)) VALUES (2)", Read},
	{"window function", "SELECT row_number() OVER (PARTITION BY a ORDER BY b ROWS BETWEEN UNBOUNDED " +
		"PRECEDING AND CURRENT ROW EXCLUDE TIES) FROM t", Read},
	{"filter", "SELECT count(*) FILTER (WHERE a > 1), percentile_cont(0.5) WITHIN GROUP (ORDER BY b) FROM t",
		Read},
	{"distinct on", "SELECT DISTINCT ON (a) a, b FROM t ORDER BY a, b DESC NULLS LAST", Read},
	{"lateral", "SELECT * FROM t, LATERAL (SELECT t.a + 1 AS x) y", Read},
	{"with ordinality", "SELECT * FROM unnest(ARRAY[1,2]) WITH ORDINALITY AS u(a, n)", Read},
	{"rows from", "SELECT * FROM ROWS FROM (generate_series(1,2), generate_series(1,3)) AS x(a, b)", Read},
	{"grouping sets", "SELECT a, sum(b) FROM t GROUP BY GROUPING SETS ((a), ()), ROLLUP (a), CUBE (b)", Read},
	{"tablesample", "SELECT * FROM t TABLESAMPLE BERNOULLI (10) REPEATABLE (1)", Read},
	{"fetch first", "SELECT * FROM t ORDER BY a OFFSET 2 ROWS FETCH FIRST 3 ROWS WITH TIES", Read},
	{"for read only", "SELECT 1 FOR READ ONLY", Read},
	{"substring", "SELECT substring('hello' FROM 2 FOR 3), overlay('abc' PLACING 'x' FROM 2 FOR 1), " +
		"position('a' IN 'b')", Read},
	{"extract", "SELECT extract(year FROM now()), now() AT TIME ZONE 'UTC', interval '1 day'", Read},
	{"casts", "SELECT 1::text, CAST('2' AS integer), date '2020-01-01', '{}'::jsonb::text", Read},
	{"arrays", "SELECT (ARRAY[1,2,3])[1:2], a[1], '{1,2}'::int[] FROM t", Read},
	{"named arguments", "SELECT make_interval(days => 10, hours := 3)", Read},
	{"json operators", `SELECT '{"a":1}'::jsonb -> 'a', '{}'::jsonb ->> 'b', '{}'::jsonb #> '{a}', ` +
		`'{}'::jsonb #>> '{a}', '{"a":1}'::jsonb @> '{}', '[1]'::jsonb @? '$[*]'`, Read},
	{"question marks", `SELECT '{}'::jsonb ? 'a', '{}'::jsonb ?| ARRAY['a'], '{}'::jsonb ?& ARRAY['b']`, Read},
	{"placeholders of another driver", "SELECT * FROM t WHERE a = ? AND b = ?", Read},
	{"json table", "SELECT * FROM JSON_TABLE('[1]', '$[*]' COLUMNS (id FOR ORDINALITY, v int PATH '$')) AS jt",
		Read},
	{"xml table", "SELECT * FROM XMLTABLE('/r' PASSING '<r/>' COLUMNS n FOR ORDINALITY)", Read},
	{"full text search", "SELECT * FROM t WHERE to_tsvector('english'::regconfig, b) @@ " +
		"plainto_tsquery('english', $1)", Read},
	{"full text search with a dictionary", "SELECT ts_lexize('simple'::regdictionary, 'a')", Read},
	{"regular expression", "SELECT * FROM t WHERE b ~* '^a' AND b !~ 'z$'", Read},
	{"names of the catalog's schema", "SELECT 1 OPERATOR(pg_catalog.+) 2, pg_catalog.now(), 1::pg_catalog.int8",
		Read},
	{"composite value", "SELECT (r).a, (r).b FROM (SELECT ROW(1,2)::t AS r) x", Read},
	{"collation", `SELECT b COLLATE "C" FROM t`, Read},
	{"replace function", "SELECT replace(b, 'x', 'y') FROM t", Read},
	{"columns behind a dot", "SELECT t.update, t.delete, t.into, t.user FROM t", Read},
	{"columns like keywords", "SELECT updated_at, for_update, deleted, last_insert, users FROM t", Read},
	{"columns called update and delete", "SELECT insert, update, delete FROM permissions WHERE update AND " +
		"delete", Read},
	{"a column called update in an expression", "SELECT coalesce(update, 0), max(delete) FROM t ORDER BY 1",
		Read},
	{"an alias called update", "SELECT a AS update, b AS delete FROM t", Read},
	{"an alias called user", "SELECT name AS user FROM t", Read},
	{"hstore's delete", "SELECT delete('a=>1', 'a')", Read},
	{"an alias called share", "SELECT a AS share, b AS key FROM t", Read},
	{"a column called key", "SELECT key, no, share FROM t", Read},
	{"a column called like a function", "SELECT currval, nextval, lastval FROM t", Read},
	{"unknown function", "SELECT my_function(1), app.my_function(2)", Read},
	{"harmless functions", "SELECT random(), gen_random_uuid(), now(), clock_timestamp(), pg_sleep(0), " +
		"pg_typeof(1), pg_size_pretty(1::bigint)", Read},
	{"who answers", "SELECT inet_server_addr(), inet_server_port(), version(), pg_is_in_recovery(), " +
		"pg_postmaster_start_time()", Read},
	{"types and views that are not of the catalog", "SELECT name, '0/0'::pg_lsn, " +
		"NULL::pg_catalog.pg_snapshot FROM pg_timezone_names", Read},
	{"what was replayed", "SELECT pg_last_wal_replay_lsn(), pg_last_wal_receive_lsn(), " +
		"pg_last_xact_replay_timestamp(), pg_wal_lsn_diff('0/1', '0/0')", Read},
	{"size of a table", "SELECT pg_total_relation_size('t')", Read},
	{"large object", "SELECT lo_get(1)", Read},
	{"snapshot", "SELECT pg_current_snapshot(), txid_current_snapshot()", Read},
	{"names beyond ASCII", "SELECT naïf, 数量 FROM 用户 WHERE 名字 = 'é'", Read},
	{"keywords in names beyond ASCII", "SELECT 用户update FROM t", Read},
	{"name with a dollar sign", "SELECT a$b, a$ FROM t$1", Read},
	{"latin1 string", "SELECT 'caf\xe9'", Read},
	{"numbers", "SELECT 1, 1.5, .5, 1e5, 1.5e-3, 1., 0x1F, 0o17, 0b01, 1_000", Read},
	{"parameters", "SELECT $1, $2::int, ($3).a, $4[1]", Read},

	// Strings, names and comments.
	{"doubled quotes", `SELECT 'it''s FOR UPDATE', "a"" FOR UPDATE"`, Read},
	{"escaped quote", `SELECT E'it\'s FOR UPDATE', e'\\'`, Read},
	{"escape string behind a word", `SELECT 1 AS some'x'`, Read},
	{"and of two columns", "SELECT a&b, a&'1' FROM t", Read},
	{"comment that is open where a backslash does not escape", `SELECT '\' /* '`, Read},
	{"two strings on one line", "SELECT E'a' 'b\\' FOR UPDATE --'", Locking},
	{"bit strings", "SELECT B'101', x'1F', b'', X''", Read},
	{"national string", "SELECT N'x'", Read},
	{"unicode string", `SELECT U&'d\0061t', u&'d!0061' UESCAPE '!'`, Read},
	{"string over several lines", "SELECT 'a'\n'b' \r\n 'c'", Read},
	{"escape string over several lines", "SELECT E'a' -- c\n'b\\' INTO t'", Read},
	{"string over several lines that a comment cuts", "SELECT E'a' /* c */\n'b\\' FOR UPDATE --'", Locking},
	{"dollar quotes", "SELECT $$it's; DROP TABLE t$$, $a$ $$ $b$ $a$, $é$'$é$, $_1$\"$_1$", Read},
	{"empty dollar quotes", "SELECT $$$$, $a$$a$", Read},
	{"dollar quotes that nearly end", "SELECT $a$ INTO $A$ x $a $a$", Read},
	{"dollar quotes in a row", "SELECT $a$$b$$a$", Read},
	{"dollar sign in a name", "SELECT a$$ FROM t -- $$", Read},
	{"dollar quotes behind a number", "SELECT * FROM t WHERE a=1$$ INTO t$$", Read},
	{"dollar quotes behind an operator", "SELECT 1||$$ INTO t$$", Read},
	{"backslash in a string", `SELECT 'C:\dir', 'a\b'`, Read},
	{"backslash at the end of a string", `SELECT 'C:\' FROM t`, Read},
	{"like with a backslash", `SELECT * FROM t WHERE b LIKE '50\%'`, Read},
	{"string for servers of old", `SELECT 'it\'s' FROM t`, Read},
	{"backslash in a name", `SELECT "a\" FROM t`, Read},
	{"nested comments", "SELECT 1 /* a /* b */ FOR UPDATE */ + 1", Read},
	{"stars in a comment", "SELECT /***/ 1 /**/ + /* * / **/ 1", Read},
	{"comment with a slash", "SELECT 1 /*/ FOR UPDATE /**/ */", Read},
	{"comment in an operator", "SELECT 1 +/* FOR UPDATE */ 1, 2 *-- FOR UPDATE\n3", Read},
	{"comment without a blank", "SELECT 5--1 FOR UPDATE", Read},
	{"comment signs in strings", `SELECT '/*', '--', "--", $$/*$$`, Read},
	{"quotes in comments", "SELECT 1 /* ' $$ \" */ + 1 -- '\n + 1", Read},

	// Locking reads.
	{"for update", "SELECT * FROM t FOR UPDATE", Locking},
	{"for no key update", "SELECT * FROM t FOR NO KEY UPDATE NOWAIT", Locking},
	{"for share", "SELECT * FROM t FOR SHARE OF t", Locking},
	{"for key share", "select * from t for key share skip locked", Locking},
	{"comments inside for update", "SELECT * FROM t FOR/**/NO -- x\r KEY/**/UPDATE", Locking},
	{"for update in a subquery", "SELECT * FROM t WHERE a IN (SELECT a FROM t FOR UPDATE)", Locking},
	{"for update in a cte", "WITH x AS (SELECT * FROM t FOR UPDATE) SELECT * FROM x", Locking},
	{"for update after a union", "(select 1) union (select 2) for update", Locking},
	{"for update after a number with a dot", "SELECT 1.FOR UPDATE", Locking},
	{"for update after a string", "SELECT 'x'FOR UPDATE", Locking},
	{"for update after dollar quotes", "SELECT $$x$$FOR UPDATE", Locking},
	{"for update after a name", `SELECT * FROM "t"FOR UPDATE`, Locking},
	{"for update behind a comment ended by CR", "SELECT * FROM t -- x\r FOR UPDATE", Locking},
	{"for update behind a comment in an operator", "SELECT 1 +--\n1 FROM t FOR UPDATE", Locking},
	{"for update behind a comment that only seems open", "SELECT 1 /* -- */ FROM t FOR UPDATE", Locking},
	{"for update behind a parameter", "SELECT * FROM t WHERE a=$1FOR UPDATE", Locking},
	{"lock table", "LOCK TABLE t IN SHARE MODE", Locking},
	{"index check", "SELECT bt_index_parent_check('i')", Locking},

	// Writes in the clothes of a read.
	{"into a table", "SELECT * INTO t2 FROM t", Write},
	{"into a temporary table", "SELECT 1 AS a INTO TEMP x", Write},
	{"into behind a number", "SELECT 1.INTO t2", Write},
	{"into behind a string", "SELECT ''INTO t2", Write},
	{"into behind a comment", "SELECT 1/**/INTO/**/t2", Write},
	{"into in a union", "SELECT 1 INTO t2 UNION SELECT 2", Write},
	{"delete in a cte", "WITH x AS (DELETE FROM t RETURNING *) SELECT * FROM x", Write},
	{"update in a cte", "WITH x AS (UPDATE t SET a = 1 RETURNING *) SELECT * FROM x", Write},
	{"update of a quoted table in a cte", `WITH x AS NOT MATERIALIZED (UPDATE "t" SET a = 1) SELECT 1`, Write},
	{"update only in a cte", "WITH x AS (UPDATE ONLY t SET a = 1) SELECT 1", Write},
	{"insert in a cte", "WITH x AS (INSERT INTO t VALUES (1) RETURNING *) SELECT * FROM x", Write},
	{"merge in a cte", "WITH x AS (MERGE INTO t USING s ON true WHEN MATCHED THEN DELETE RETURNING *) SELECT " +
		"* FROM x", Write},
	{"write behind a cte in a cte", "WITH x AS (WITH y AS (SELECT 1) DELETE FROM t RETURNING *) SELECT * FROM x",
		Write},
	{"write behind a searched cte in a cte", "WITH x AS (WITH RECURSIVE y AS (SELECT 1 AS a UNION SELECT a " +
		"FROM y) SEARCH DEPTH FIRST BY a SET key UPDATE t SET a=1 RETURNING *) SELECT 1", Write},
	{"write behind a cycled cte in a cte", `WITH x AS (WITH RECURSIVE y AS (SELECT 1 AS a UNION SELECT a ` +
		`FROM y) CYCLE a SET c USING "as" DELETE FROM t RETURNING *) SELECT 1`, Write},
	{"cte delete", "WITH x AS (SELECT 1) DELETE FROM t", Write},
	{"cte update", "WITH x AS (SELECT 1) UPDATE t SET a = 1", Write},
	{"cte insert", "WITH x AS (SELECT 1) INSERT INTO t SELECT * FROM x", Write},
	{"cte merge", "WITH x AS (SELECT 1) MERGE INTO t USING x ON true WHEN MATCHED THEN DELETE", Write},
	{"searched cte update", "WITH RECURSIVE x AS (SELECT 1 AS a UNION SELECT a FROM x) SEARCH DEPTH FIRST BY " +
		"a SET o UPDATE t SET a = 1", Write},
	{"write behind a cte with a comment", "WITH x AS (/* */ DELETE/**/FROM t) SELECT 1", Write},
	{"two statements", "SELECT 1; DROP TABLE t", Write},
	{"two reads", "SELECT 1; SELECT 2", Write},
	{"two statements behind comments", "SELECT 1 -- ;\n; /* */ DROP TABLE t", Write},
	{"statement behind an empty one", "; SELECT 1", Write},
	{"backslash hides a write", `SELECT '\'; DELETE FROM t -- '`, Write},
	{"escaped quote hides a write", `SELECT '\'' INTO t2 -- '`, Write},
	{"escape string hides nothing", `SELECT E'\\'; DELETE FROM t -- '`, Write},
	{"bit string hides nothing", `SELECT B'\'; DELETE FROM t -- '`, Write},
	{"dollar quotes hide nothing", "SELECT $a$ $b$ $a$; DELETE FROM t -- $b$", Write},
	{"name with a dollar sign hides nothing", "SELECT a$b$; DELETE FROM t -- $b$", Write},
	{"parameter hides nothing", "SELECT $1$; DELETE FROM t -- $1$", Unknown},
	{"nested comment hides nothing", "SELECT 1 /* /* */ */; DELETE FROM t -- */", Write},
	{"comment of MySQL", "SELECT 1 # '\n; DELETE FROM t -- '", Read},
	{"carriage return ends a comment", "SELECT 1 -- '\r; DELETE FROM t -- '", Write},
	{"string over several lines hides a write", "SELECT 'a'\n'\\'; DELETE FROM t -- '", Write},

	// Functions.
	{"nextval", "SELECT nextval('s')", Write},
	{"quoted nextval", `SELECT "nextval"('s')`, Write},
	{"qualified nextval", "SELECT pg_catalog.nextval('s')", Write},
	{"quoted and qualified nextval", `SELECT "pg_catalog" . "nextval" ('s')`, Write},
	{"nextval behind a comment", "SELECT nextval /* /* */ */ ('s')", Write},
	{"nextval of a cast", "SELECT nextval('s'::regclass)", Write},
	{"nextval as an attribute", "SELECT ('s'::regclass).nextval", Write},
	{"nextval as a quoted attribute", `SELECT ('s'::regclass) . "nextval"`, Write},
	{"nextval as an attribute of an element", "SELECT (ARRAY['s'::regclass])[1].nextval", Write},
	{"nextval as an attribute of a parameter", "SELECT $1.nextval", Write},
	{"nextval as an attribute of an attribute", "SELECT (x).a.nextval FROM x", Write},
	{"nextval as an attribute of a function's result", "SELECT f.nextval FROM to_regclass('s') AS f", Write},
	{"lo_unlink as an attribute", "SELECT f.LO_UNLINK FROM abs(4711) f", Write},
	{"a function of a family as an attribute", "SELECT f.pg_stat_reset_shared FROM text('wal') f", Write},
	{"a function that runs SQL as an attribute", "SELECT f.ts_stat FROM text('SELECT 1') f", Unknown},
	{"setseed as an attribute", "SELECT f.setseed FROM float8(0.5) f", Stateful},
	{"a column called nextval, maybe", "SELECT t.nextval FROM t", Write},
	{"columns called like functions", "SELECT t.http, t.lastval, t.inet_client_addr, s.t.ssl_version FROM s.t",
		Read},
	{"an attribute of a composite value", "SELECT (x).a.b, (x).c FROM x", Read},
	{"nextval in unicode", `SELECT U&"\006eextval"('s')`, Unknown},
	{"nextval in unicode of another escape", `SELECT u&"!006eextval" UESCAPE '!' ('s')`, Unknown},
	{"setval", "SELECT setval('s', 42)", Write},
	{"currval", "SELECT currval('s'), lastval()", Stateful},
	{"transaction id", "SELECT txid_current()", Write},
	{"notify", "SELECT pg_notify('a', 'b')", Write},
	{"large objects", "SELECT lo_create(0)", Write},
	{"large object exported", "SELECT lo_export(1, '/tmp/x')", Write},
	{"large object opened to read", "SELECT loread(pg_catalog.lo_open(1, 262144), 10)", Stateful},
	{"large objects opened to read", "SELECT lo_open(1, 262144), lo_open(2, /* x */ 262144)", Stateful},
	{"large object opened to write", "SELECT lo_open(1, 131072)", Unknown},
	{"large objects, one of them opened to write", "SELECT lo_open(1, 262144), lo_open(1, 131072)", Unknown},
	{"large objects, one of them opened to write, the other way round", "SELECT lo_open(1, 131072), " +
		"lo_open(1, 262144)", Unknown},
	{"large object opened with flags nobody knows", "SELECT lo_open(1, $1)", Unknown},
	{"large object opened with flags that are computed", "SELECT lo_open(1, 1 + 262144)", Unknown},
	{"large object opened with flags in a string", "SELECT lo_open(1, '262144')", Unknown},
	{"large object opened with flags in a column", `SELECT lo_open(1, "262144") FROM t`, Unknown},
	{"large object opened with a longer number", "SELECT lo_open(1, 262144_0)", Unknown},
	{"large object opened inside of flags", "SELECT lo_open(1, lo_open(1, 262144))", Unknown},
	{"large object opened with the flags of another call", "SELECT f(lo_open(1, 131072), 262144)", Unknown},
	{"advisory lock", "SELECT pg_advisory_lock(1)", Locking},
	{"advisory lock of a transaction", "SELECT pg_try_advisory_xact_lock_shared(1, 2)", Locking},
	{"backend", "SELECT pg_backend_pid()", Stateful},
	{"setting", "SELECT current_setting('search_path'), set_config('a.b', 'c', false)", Stateful},
	{"client's port", "SELECT inet_client_port()", Stateful},
	{"files", "SELECT pg_read_file('x'), pg_ls_dir('.')", Stateful},
	{"position of the master", "SELECT pg_current_wal_flush_lsn()", Stateful},
	{"current user", "SELECT current_user, current_role", Stateful},
	{"user", "SELECT user", Stateful},
	{"session user", "SELECT session_user", Stateful},
	{"current schema", "SELECT current_schema", Stateful},
	{"current schemas", "SELECT current_schemas(true)", Stateful},
	{"current catalog", "SELECT CURRENT_CATALOG", Stateful},
	{"seed", "SELECT setseed(0.5)", Stateful},
	{"snapshot exported", "SELECT pg_export_snapshot()", Write},
	{"slot", "SELECT * FROM pg_create_logical_replication_slot('a', 'b')", Write},
	{"slot read", "SELECT * FROM pg_logical_slot_get_changes('a', NULL, NULL)", Write},
	{"statistics reset", "SELECT pg_stat_reset_shared('wal')", Write},
	{"other backends", "SELECT pg_terminate_backend(1)", Write},
	{"query to xml", "SELECT query_to_xml('DELETE FROM t', true, false, '')", Unknown},
	{"table to xml", "SELECT table_to_xml('t', true, false, '')", Read},
	{"crosstab", "SELECT * FROM crosstab('SELECT 1') AS x(a int)", Unknown},
	{"dblink", "SELECT * FROM dblink('x', 'DELETE FROM t') AS y(a int)", Unknown},
	{"dblink_exec", "SELECT dblink_exec('x', 'DELETE FROM t')", Write},
	{"a new function of PostgreSQL", "SELECT pg_frobnicate(1)", Unknown},
	{"schema of an extension", "SELECT cron.schedule('* * * * *', 'VACUUM'), pgmq.pop('q')", Write},
	{"function of another schema", "SELECT schedule(1), app.schedule(2)", Read},
	{"table in the schema of an extension", "SELECT * FROM cron.job", Read},
	{"sequence as a relation", "SELECT last_value FROM s", Catalog},
	{"sequence, its other columns", `SELECT S."Log_Cnt", (s).is_called FROM s`, Catalog},
	{"sequence of a serial column", "SELECT * FROM tickets_id_seq", Catalog},
	{"sequence of a serial column, qualified", `SELECT s FROM public . "Tickets_ID_seq" AS s`, Catalog},
	{"sequence, TABLE", "TABLE tickets_id_seq", Catalog},
	{"sequence, joined", "SELECT * FROM t JOIN ONLY tickets_id_seq ON true", Catalog},
	{"sequence behind a comma", "SELECT * FROM t AS u, (tickets_id_seq CROSS JOIN v)", Catalog},
	{"sequence in a subquery", "SELECT a, (SELECT b FROM c_seq) FROM t", Catalog},
	{"sequence at the end of a list", "SELECT a FROM (SELECT 1 FROM t) x, LATERAL (SELECT 2) y, c_seq", Catalog},
	{"sequence and a lock", "SELECT last_value FROM s FOR UPDATE", Locking},
	{"window function last_value", "SELECT last_value(a) OVER (ORDER BY b) FROM t", Read},
	{"window function last_value, its name", "SELECT last_value(a) OVER w AS last_value FROM t", Read},
	{"column like a sequence's name", "SELECT line_seq, a, t.order_seq FROM t, u WHERE f(a, line_seq) = 1 " +
		"ORDER BY a, line_seq", Read},
	{"function and alias like a sequence's name", "SELECT * FROM f_seq(1) AS a_seq, t b_seq WHERE b_seq.a IN " +
		"(1, c_seq)", Read},
	{"name of a sequence's suffix alone", "SELECT * FROM _seq", Read},
}

// TestVolatileFunctions holds the verdict on every volatile function of PostgreSQL 15 and of its contrib
// modules, so that none is forgotten.
func TestVolatileFunctions(t *testing.T) {
	text, err := os.ReadFile("testdata/volatile_postgres.txt")
	if err != nil {
		t.Fatal(err)
	}
	functions := 0
	for line := range strings.Lines(string(text)) {
		fields := strings.Fields(line)
		if len(fields) == 0 || fields[0] == "#" {
			continue
		}
		for _, f := range fields[1:] {
			functions++
			sql := "SELECT " + f + "(1)"
			if got := Classify(PostgreSQL, sql).String() + ":"; got != fields[0] {
				t.Errorf("Classify(PostgreSQL, %q) = %v, want %v", sql, got, fields[0])
			}
		}
	}
	if functions != 222+131 {
		t.Errorf("%d functions", functions)
	}
}
