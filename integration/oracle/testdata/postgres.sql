--# What PostgreSQL 15 understands. Statements end at an empty line. See corpus_test.go.
--# The schemas are made by postgres_schema.sql. {files} is a folder to which the server may write.

--# Queries

SELECT 1

SELECT

SELECT * FROM t

select t.id, u.name from t left join u on u.t_id = t.id where t.a > 1 order by t.id limit 10 offset 1

SELECT DISTINCT ON (a) a, b FROM t ORDER BY a, b DESC NULLS LAST

SELECT a, count(*) AS n FROM t GROUP BY a HAVING count(*) > 1

SELECT a, b, sum(d) FROM t GROUP BY ROLLUP (a, b)

SELECT a, b, count(*), grouping(a, b) FROM t GROUP BY GROUPING SETS ((a), (b), ())

SELECT a, b, count(*) FROM t GROUP BY DISTINCT CUBE (a, b)

SELECT * FROM t WHERE a IN (1, 2) AND b LIKE '%o%' OR c IS NULL

SELECT * FROM t WHERE (a, b) IN ((1, 'one'), (2, 'two'))

SELECT * FROM t WHERE a = ANY (ARRAY[1, 2]) AND a <> ALL ('{5,6}'::int[])

SELECT * FROM t WHERE a = (SELECT max(a) FROM t)

SELECT * FROM t WHERE EXISTS (SELECT FROM u WHERE u.t_id = t.id)

SELECT * FROM t NATURAL JOIN v

SELECT * FROM t JOIN u USING (id) AS j

SELECT * FROM t FULL OUTER JOIN u ON t.id = u.t_id CROSS JOIN tree

SELECT * FROM (t JOIN u ON t.id = u.t_id) AS j (k, l, m)

SELECT * FROM t, LATERAL (SELECT * FROM u WHERE u.t_id = t.id LIMIT 1) x

SELECT * FROM t LEFT JOIN LATERAL unnest(tags) WITH ORDINALITY AS g (tag, n) ON true

SELECT * FROM ROWS FROM (generate_series(1, 3), unnest(ARRAY['a', 'b'])) WITH ORDINALITY AS x (a, b, n)

SELECT * FROM generate_series(1, 10, 3) g

SELECT * FROM json_to_recordset('[{"a": 1, "b": "x"}]') AS x (a int, b text)

SELECT * FROM t TABLESAMPLE SYSTEM (50) REPEATABLE (1)

SELECT * FROM ONLY t

SELECT * FROM t *

SELECT * FROM parts WHERE y < 2000

SELECT tableoid > 0, xmin IS NOT NULL, ctid FROM t

(SELECT 1)

((SELECT a FROM t LIMIT 1)) UNION (SELECT 2) ORDER BY 1 LIMIT 1

SELECT 1 UNION ALL SELECT 2 UNION DISTINCT SELECT 3

SELECT a FROM t EXCEPT ALL SELECT t_id FROM u

SELECT a FROM t INTERSECT SELECT id FROM tree

VALUES (1, 'a'), (2, 'b')

TABLE t

TABLE ONLY t ORDER BY a LIMIT 2

SELECT * FROM (VALUES (1, 2), (3, 4)) v (a, b)

SELECT * FROM t ORDER BY a USING < FETCH FIRST 2 ROWS WITH TIES

SELECT * FROM t ORDER BY id OFFSET 1 ROWS FETCH NEXT ROW ONLY

SELECT * FROM t LIMIT ALL

SELECT * FROM v WHERE a = 2

SELECT * FROM grouped

SELECT * FROM mv

SELECT "update", delete, insert, "into", "for", lock, replace, value, next, nextval, setval, share, set, no, key, copy, call, "user", lastval FROM words

SELECT words.update, words.delete, words.into, words.for, words.lock, words.replace, words.set, words.user FROM words

--# once
SELECT w.nextval, w.setval FROM words AS w WHERE w."update" = 1 AND w.delete = 2

SELECT delete, update FROM words

SELECT 1 AS update, 2 AS delete, 3 AS insert, 5 AS user

SELECT update FROM words ORDER BY update

SELECT "名字", naïf, 用户.* FROM 用户 WHERE 名字 = 'é'

SELECT 1 é, 2 AS ünïcode

SELECT "t"."a", here.t.b FROM here.t

SELECT t . a FROM here . t

SELECT (t).a, (t.*)::text, t FROM t

--# once
SELECT U&"\0061" FROM t

SELECT 1 AS "INTO OUTFILE", 2 AS "for update", 3 AS ";", 4 AS "/*", 5 AS "--", 6 AS "a""b"

--# Expressions

SELECT 1 + 1, 2 - 1, 3 * 4, 5 / 2, 5 % 2, 2 ^ 3, |/ 25.0, ||/ 27.0, @ -5, -1, +1, ~1, 5 & 4, 5 | 2, 5 # 1, 1 << 2, 8 >> 1

SELECT true AND false, true OR false, NOT true, 1 <> 2, 1 != 2, 'a' || 'b', 'a' ~ 'a', 'a' ~* 'A', 'a' !~ 'b', 'a' ~~ 'a%', 'a' ^@ 'a'

SELECT 5--1
, 6

SELECT CASE a WHEN 1 THEN 'x' WHEN 2 THEN 'y' ELSE 'z' END, CASE WHEN a > 1 THEN 1 END FROM t

SELECT coalesce(NULL, a, 1), nullif(a, 1), greatest(1, 2), least(1, 2) FROM t

SELECT CAST('1' AS int), '1'::int, int '1', int4('1'), float8 '1.5', '2020-01-01'::date, date '2020-01-01', interval '1' day, INTERVAL '1 day' HOUR TO MINUTE

SELECT a BETWEEN 1 AND 2, a NOT BETWEEN SYMMETRIC 2 AND 1, a IN (1, 2), b LIKE 'a%' ESCAPE '!', b ILIKE 'A%', b SIMILAR TO 'a|b' FROM t

SELECT a IS NULL, a IS NOT NULL, a IS DISTINCT FROM 1, (a > 1) IS TRUE, (a > 1) IS NOT UNKNOWN, a ISNULL, a NOTNULL FROM t

SELECT now() + interval '1 day', c - interval '1 month', age(c, '2000-01-01'), extract(year FROM c), date_part('month', c), date_trunc('day', c) FROM t

SELECT c AT TIME ZONE 'UTC', (c, c + interval '1 day') OVERLAPS (c, c) FROM t

SELECT trim(LEADING 'x' FROM 'xax'), trim(' a '), substring('abc' FROM 2 FOR 1), substring('abc' SIMILAR 'a%' ESCAPE '#'), position('b' IN 'abc'), overlay('abc' PLACING 'x' FROM 2 FOR 1)

SELECT replace('abc', 'b', 'x'), left('abc', 1), right('abc', 1), repeat('a', 3), format('%s %I %L', 'a', 'b', 'c'), concat('a', 1), string_to_array('a,b', ','), array_to_string(ARRAY[1, 2], ',')

SELECT string_agg(b, '; ' ORDER BY b DESC), array_agg(DISTINCT a), json_agg(t), jsonb_object_agg(id, a) FILTER (WHERE a > 1) FROM t

SELECT count(*), count(DISTINCT a), sum(a), avg(a), min(b), max(b), bool_and(a > 0), every(true), bit_or(a), stddev(a), variance(a), corr(a, d), mode() WITHIN GROUP (ORDER BY a), percentile_cont(0.5) WITHIN GROUP (ORDER BY a) FROM t

SELECT ARRAY[1, 2, 3], ARRAY[[1, 2], [3, 4]], ARRAY(SELECT a FROM t), '{1,2}'::int[], (ARRAY[1, 2, 3])[2], (ARRAY[1, 2, 3])[1:2], (ARRAY[1, 2])[:]

SELECT tags[1], tags[1:2], tags @> ARRAY['x'], tags && '{x}', array_length(tags, 1), cardinality(tags) FROM t

SELECT ROW(1, 2), (1, 2), ROW(1, 'x')::pair, (ROW(1, 'x')::pair).x

SELECT r @> 3, lower(r), upper_inc(r), r * '[2,3]', int4range(1, 5), '{[1,2]}'::int4multirange FROM t

SELECT 'sad'::mood < 'ok'::mood, enum_range(NULL::mood), 5::positive

SELECT to_tsvector('a cat') @@ to_tsquery('cat'), ts_headline('a cat', 'cat'::tsquery), plainto_tsquery('a b')

SELECT * FROM u WHERE search @@ websearch_to_tsquery('english', 'update -delete')

SELECT point(1, 2) <-> point(3, 4), box '((0,0),(1,1))' @> point(0.5, 0.5), circle '<(0,0),1>'

SELECT xmlelement(name a, xmlattributes(1 AS b), 'c'), xmlforest(a, b), xmlpi(name php, 'x') FROM t

SELECT xmlparse(CONTENT 'abc'), xmlserialize(CONTENT '<a/>'::xml AS text), xmlconcat('<a/>', '<b/>'), '<a/>' IS DOCUMENT

SELECT gen_random_uuid() IS NOT NULL, random() < 2, md5('x'), sha256('x'), encode('x', 'base64'), decode('eA==', 'base64')

SELECT now() IS NOT NULL, current_timestamp(0) IS NOT NULL, current_date > '2000-01-01', current_time IS NOT NULL, localtime IS NOT NULL, localtimestamp(3) IS NOT NULL, clock_timestamp() > '2000-01-01', statement_timestamp() IS NOT NULL, timeofday() IS NOT NULL

SELECT version(), pg_typeof(1), pg_column_size('x'), pg_size_pretty(1000::bigint), pg_is_in_recovery()

SELECT pg_sleep(0), pg_sleep_for('0'), pg_sleep_until('2000-01-01')

SELECT twice(a), rows_of_t(), series(2), here.twice(2), twice(x => 2), twice(x := 2) FROM t

SELECT product(a) FROM t

SELECT COLLATION FOR ('x' COLLATE "C"), 'a' COLLATE "C" < 'B'

SELECT NULL, TRUE, FALSE, 1, 1.5, .5, 1., 1e5, 1.5e-3, 9223372036854775807, 12345678901234567890

SELECT B'101', X'1F', b'1', x'a'

SELECT 1 OPERATOR(pg_catalog.+) 2, 3 OPERATOR(+) 4

SELECT normalize('x', NFC), 'x' IS NFKC NORMALIZED, unistr('\0061'), ascii('a'), chr(65)

SELECT jsonb_path_query(doc, '$.b[*] ? (@ > 1)'), jsonb_path_exists(doc, '$.a') FROM t

SELECT doc -> 'a', doc ->> 'a', doc #> '{b,0}', doc #>> '{b,0}', doc @> '{"a": 1}', doc ? 'a', doc ?| ARRAY['a'], doc ?& ARRAY['a'], doc @? '$.a', doc @@ '$.a == 1', doc['b'][0] FROM t

SELECT to_json(t), row_to_json(t), jsonb_build_object('a', a), jsonb_set(doc, '{a}', '2'), doc || '{"x": 1}', doc - 'a', jsonb_pretty(doc), jsonb_strip_nulls(doc) FROM t WHERE jsonb_typeof(doc) = 'object'

SELECT * FROM jsonb_each('{"a": 1}'), jsonb_array_elements('[1, 2]') WITH ORDINALITY, jsonb_to_record('{"a": 1}') AS x (a int)

SELECT regexp_replace('abc', 'b', 'x'), regexp_matches('abc', '(b)'), regexp_split_to_table('a b', ' ')

SELECT txid_visible_in_snapshot(1, txid_current_snapshot()), pg_current_snapshot() IS NOT NULL

SELECT * FROM t WHERE b = any (string_to_array('one,two', ','))

SELECT coalesce((SELECT a FROM t LIMIT 1), 0) AS x WINDOW w AS ()

--# Quotes and comments

SELECT 'it''s', 'say "hi"', '', E'it\'s', E'a\nb\\', e'\x41\u0061', U&'\0061', U&'d!0061' UESCAPE '!', N'x'

SELECT 'C:\dir\', '\'

SELECT 'INSERT INTO t; DELETE FROM t FOR UPDATE', '; DROP TABLE t', '/*', '*/', '--'

SELECT $$it's; DELETE FROM t$$, $a$ $$ $b$ $a$, $ü$x$ü$, $$$$

SELECT $q$'; DELETE FROM t; --$q$

SELECT 'a'
'b'

SELECT 'a' -- ; DELETE FROM t
'b'

SELECT 'first
second; FOR UPDATE
third'

SELECT/**/1/* FOR UPDATE */+/* ' */1

SELECT 1 /* a /* nested; DELETE FROM t */ */

SELECT 1 /* /* */ */ + 1

SELECT 1 -- FOR UPDATE

-- DELETE FROM t
SELECT 1

/* INSERT INTO t VALUES (1) */ SELECT 1

SELECT 1 /* */;

SELECT 1 ; ;

SELECT 1--
+ 2

SELECT a AS "x" FROM t WHERE b = 'two' AND a = '2'

SELECT * FROM t /*controller='users',traceparent='00-5bd6'*/

SELECT 1 /*+ SeqScan(t) */ FROM t

SELECT 1 /*! FOR UPDATE */

SELECT /* ; DELETE FROM t */ 1

SELECT '\''||'x' -- '

--# once
SELECT E'\\', '\\', ' -- '

SELECT 1 AS a$b, 2 AS _c

SELECT 5 *-- x
 3, 5 */* x */ 3

SELECT 1 # 2, 1#2

--# Window functions

SELECT row_number() OVER (PARTITION BY a ORDER BY id) FROM t

SELECT a, rank() OVER w, dense_rank() OVER w, percent_rank() OVER w, cume_dist() OVER w, ntile(2) OVER w FROM t WINDOW w AS (ORDER BY a)

SELECT sum(a) OVER (ORDER BY id ROWS BETWEEN 1 PRECEDING AND CURRENT ROW EXCLUDE TIES), avg(a) OVER (ORDER BY a RANGE UNBOUNDED PRECEDING), count(*) FILTER (WHERE a > 1) OVER (ORDER BY a GROUPS 1 PRECEDING) FROM t

SELECT lag(a) OVER (ORDER BY id), lead(a, 2) OVER (ORDER BY id), first_value(a) OVER w2, last_value(a) OVER (w2 ROWS CURRENT ROW), nth_value(a, 2) OVER w2 FROM t WINDOW w1 AS (PARTITION BY a), w2 AS (w1 ORDER BY id)

SELECT count(*) OVER () FROM t WHERE a > 0

--# Common table expressions

WITH x AS (SELECT 1 AS a) SELECT * FROM x

WITH x (a, b) AS MATERIALIZED (SELECT id, a FROM t), y AS NOT MATERIALIZED (SELECT a FROM x WHERE b > 1) SELECT * FROM y JOIN x USING (a)

WITH RECURSIVE n AS (SELECT 1 AS i UNION ALL SELECT i + 1 FROM n WHERE i < 10) SELECT sum(i) FROM n

WITH RECURSIVE x AS (SELECT id, parent FROM tree WHERE parent IS NULL UNION ALL SELECT tree.id, tree.parent FROM tree JOIN x ON tree.parent = x.id) SEARCH DEPTH FIRST BY id SET o CYCLE id SET c USING p SELECT * FROM x ORDER BY o

WITH RECURSIVE x (a, b) AS (SELECT 1, 2 UNION SELECT b, a FROM x) CYCLE a, b SET c TO 'y' DEFAULT 'n' USING p SELECT * FROM x

(WITH x AS (SELECT 1) SELECT * FROM x)

WITH x AS (SELECT 1) (SELECT * FROM x) UNION SELECT 2

WITH x AS (VALUES (1), (2)) TABLE x

WITH x AS (SELECT 1 AS a) VALUES (1), (2)

SELECT * FROM (WITH x AS (SELECT 1 AS a) SELECT * FROM x) y

WITH "select" AS (SELECT 1) SELECT * FROM "select"

WITH update AS (SELECT 1 AS delete) SELECT delete FROM update

WITH x AS (WITH y AS (SELECT 1) SELECT * FROM y) SELECT * FROM x

--# EXPLAIN and SHOW

EXPLAIN SELECT * FROM t JOIN u ON t.id = u.t_id

EXPLAIN ANALYZE SELECT * FROM t

EXPLAIN VERBOSE SELECT * FROM t

EXPLAIN ANALYZE VERBOSE SELECT * FROM t

EXPLAIN (ANALYZE, BUFFERS, COSTS OFF, TIMING OFF, SUMMARY OFF, FORMAT json) SELECT * FROM t

EXPLAIN (ANALYZE false, WAL off) SELECT * FROM t

EXPLAIN (SELECT 1) UNION (SELECT 2)

EXPLAIN (COSTS OFF) (SELECT 1)

EXPLAIN WITH x AS (SELECT 1) SELECT * FROM x

EXPLAIN VALUES (1)

EXPLAIN TABLE t

SHOW work_mem

SHOW ALL

SHOW search_path

SHOW TIME ZONE

SHOW TRANSACTION ISOLATION LEVEL

SHOW SESSION AUTHORIZATION

SHOW transaction_read_only

SHOW server_version

SHOW my.setting

--# The catalog

SELECT count(*) FROM information_schema.tables WHERE table_schema = 'here'

SELECT * FROM pg_catalog.pg_class WHERE relname = 't'

SELECT relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE nspname = 'here'

SELECT column_name FROM INFORMATION_SCHEMA.columns WHERE table_name = 't'

SELECT * FROM "pg_tables" WHERE schemaname = 'here'

SELECT 't'::regclass::text, 'twice'::regproc, to_regclass('nothing'), 'int'::regtype

SELECT pg_get_viewdef('v'), pg_get_functiondef('twice'::regproc), pg_get_constraintdef(oid) FROM pg_constraint LIMIT 1

SELECT format_type(atttypid, atttypmod), col_description(attrelid, attnum) FROM pg_attribute WHERE attrelid = 't'::regclass

SELECT obj_description('t'::regclass, 'pg_class'), has_table_privilege('t', 'select'), pg_table_is_visible('t'::regclass)

SELECT pg_relation_size('t'), pg_total_relation_size('t'), pg_table_size('t'), pg_indexes_size('t')

SELECT table_to_xml('tree', true, false, '')

--# hidden
SELECT schema_to_xml('here', true, false, '') IS NOT NULL

SELECT * FROM pg_sequences WHERE sequencename = 'mine'

SELECT pg_sequence_last_value('s'), pg_get_serial_sequence('t', 'id')

SELECT * FROM pg_stat_user_tables WHERE relname = 't'

SELECT * FROM pg_stat_activity

SELECT * FROM pg_locks

SELECT name, setting FROM pg_settings WHERE name = 'work_mem'

SELECT * FROM pg_timezone_names LIMIT 1

SELECT * FROM pg_ls_dir('.') LIMIT 1

SELECT pg_read_file('PG_VERSION'), pg_stat_file('PG_VERSION')

SELECT * FROM pg_available_extensions LIMIT 1

SELECT * FROM pg_get_keywords() LIMIT 1

SELECT * FROM pg_stats WHERE tablename = 't'

SELECT pg_current_wal_lsn(), pg_current_wal_insert_lsn(), pg_current_wal_flush_lsn()

SELECT * FROM pg_control_checkpoint(), pg_control_system()

--# Locking reads

SELECT * FROM t FOR UPDATE

SELECT * FROM t FOR NO KEY UPDATE

SELECT * FROM t FOR SHARE

SELECT * FROM t FOR KEY SHARE

SELECT * FROM t WHERE id = 1 FOR UPDATE NOWAIT

SELECT * FROM t FOR UPDATE OF t SKIP LOCKED

SELECT * FROM t JOIN u ON t.id = u.t_id FOR UPDATE OF t FOR SHARE OF u

SELECT * FROM t FOR UPDATE LIMIT 1

SELECT * FROM t LIMIT 1 FOR UPDATE

SELECT * FROM t FOR/**/UPDATE

SELECT * FROM t FOR -- x
 NO/* */KEY
UPDATE

SELECT a FROM (SELECT * FROM t FOR UPDATE) x

SELECT (SELECT a FROM t WHERE id = 1 FOR UPDATE)

WITH x AS (SELECT * FROM t FOR UPDATE) SELECT * FROM x

WITH x AS MATERIALIZED (SELECT * FROM t FOR KEY SHARE) SELECT count(*) FROM x

SELECT 'x'FROM t FOR UPDATE

SELECT*FROM"t"FOR UPDATE

SELECT $$x$$FROM t FOR UPDATE

SELECT E'\'' FROM t FOR UPDATE

TABLE t FOR UPDATE

(SELECT * FROM t FOR UPDATE)

EXPLAIN ANALYZE SELECT * FROM t FOR UPDATE

EXPLAIN SELECT * FROM t FOR UPDATE

LOCK TABLE t

LOCK t IN ACCESS SHARE MODE

LOCK TABLE ONLY t, u IN SHARE ROW EXCLUSIVE MODE NOWAIT

SELECT * FROM v FOR UPDATE

SELECT array(SELECT id FROM t FOR SHARE)

--# Writes in the clothes of reads

SELECT * INTO made FROM t

SELECT 1 AS a INTO TEMP made

SELECT a INTO UNLOGGED TABLE made FROM t

SELECT 1 AS a INTO/**/made

SELECT 'x'AS a INTO"made"

SELECT * FROM (SELECT xmlelement(name a)) x, xmltable('/r/a' PASSING XMLPARSE(DOCUMENT '<r><a>1</a></r>') COLUMNS n FOR ORDINALITY, a int PATH '.')

(SELECT 1 AS a INTO made) UNION SELECT 2

SELECT 1 AS a INTO made UNION SELECT 2

WITH x AS (SELECT 1 AS a) SELECT * INTO made FROM x

WITH x AS (INSERT INTO fast VALUES (50, 1) RETURNING *) SELECT * FROM x

WITH x AS (INSERT INTO fast VALUES (50, 1)) SELECT 1

WITH x AS (UPDATE t SET a = 1 RETURNING id) SELECT count(*) FROM x

WITH x AS (DELETE FROM u RETURNING *) SELECT * FROM x

WITH x AS MATERIALIZED (DELETE FROM u RETURNING *) SELECT * FROM x

WITH x AS (SELECT 1), y AS (DELETE FROM ONLY u WHERE false RETURNING *) SELECT * FROM x, y

WITH x AS (UPDATE "t" SET a = 1 RETURNING 1) TABLE x

WITH x AS (UPDATE/**/ONLY/**/(t) SET a = 1 RETURNING 1) TABLE x

WITH x AS (UPDATE here.t SET a = 1 RETURNING 1) TABLE x

WITH x AS (UPDATE t * SET a = 1) SELECT 1

WITH x AS (UPDATE 用户 SET "naïf" = 2) SELECT 1

WITH x AS (DELETE/**/FROM/**/"u") SELECT 1

WITH x AS NOT MATERIALIZED (SELECT 1), update AS (DELETE FROM u) SELECT * FROM x

WITH x AS (WITH y AS (SELECT 1) UPDATE t SET a = 1) SELECT 1

WITH x AS (WITH RECURSIVE y AS (SELECT 1 AS i UNION SELECT i FROM y) CYCLE i SET c USING p UPDATE t SET a = 1) SELECT 1

SELECT * FROM (WITH x AS (SELECT 1 AS a) SELECT * FROM x) y, t WHERE EXISTS (SELECT 1 FROM t FOR UPDATE)

WITH x AS (/* */UPDATE/* */t SET a = 1) SELECT 1

WITH x AS (WITH y AS (SELECT 1) DELETE FROM u RETURNING 1) SELECT * FROM x

WITH RECURSIVE x AS (SELECT 1), y AS (UPDATE ONLY "t" SET a = 2) TABLE x

WITH x AS (SELECT 1) DELETE FROM u

WITH x AS (SELECT 1) UPDATE t SET a = 1

WITH x AS (SELECT 60 AS id, 1 AS x) INSERT INTO fast SELECT * FROM x

WITH x AS (SELECT 1 AS id) MERGE INTO fast USING x ON fast.id = x.id WHEN MATCHED THEN DELETE

WITH RECURSIVE x AS (SELECT 1 AS a UNION SELECT a FROM x) CYCLE a SET c USING p DELETE FROM u

WITH RECURSIVE x AS (SELECT 1 AS a UNION SELECT a FROM x) SEARCH BREADTH FIRST BY a SET "o" UPDATE t SET a = 1

EXPLAIN ANALYZE INSERT INTO fast VALUES (70, 1)

EXPLAIN (ANALYZE) WITH x AS (DELETE FROM u RETURNING *) SELECT * FROM x

EXPLAIN ANALYZE SELECT nextval('s')

EXPLAIN ANALYZE CREATE TABLE made AS SELECT 1

SELECT nextval('s')

SELECT nextval('here.s'::regclass)

SELECT pg_catalog.nextval('s')

SELECT "nextval"('s')

SELECT nextval/* x */('s')

SELECT ('s'::regclass).nextval

SELECT (('n')::regclass).nextval, 1

SELECT (ARRAY['s'::regclass])[1].nextval

SELECT (x).c.nextval FROM (SELECT 's'::regclass AS c) x

SELECT (x.c).nextval FROM (SELECT 's'::regclass AS c) x

SELECT f.nextval FROM to_regclass('s') AS f

SELECT f."nextval" FROM unnest(ARRAY['s'::regclass]) f

SELECT f.nextval FROM CAST('s' AS regclass) AS f

SELECT f.nextval FROM text('s') f

SELECT to_regclass.nextval FROM to_regclass('s')

SELECT f.lo_unlink FROM abs(4711) AS f

SELECT f.pg_create_restore_point FROM text('x') f

SELECT f.pg_stat_reset_shared FROM text('bgwriter') f

SELECT f.pg_advisory_lock FROM generate_series(5, 5) AS f

SELECT f.current_setting FROM text('my.setting') f

--# hidden
SELECT f.adds FROM abs(1) f

SELECT * FROM nextval('s')

SELECT * FROM t, LATERAL nextval('s') x

SELECT * FROM t WHERE (SELECT nextval('s')) > 0 ORDER BY nextval('n') LIMIT 1

SELECT count(*) FILTER (WHERE nextval('s') > 0) FROM t

SELECT sum(nextval('s')) OVER () FROM t

SELECT CASE WHEN a > 0 THEN nextval('s') END FROM t

SELECT ARRAY[nextval('s')], ROW(nextval('s')), (VALUES (nextval('s')))

SELECT * FROM ROWS FROM (nextval('s'), generate_series(1, 2))

SELECT pg_catalog . "nextval" ('s')

SELECT pg_catalog./* */nextval--
('s')

SELECT "setval"('n', 3000)

SELECT * FROM t JOIN u ON nextval('s') > 0

SELECT DISTINCT ON (nextval('s')) a FROM t

SELECT a FROM t GROUP BY a HAVING max(nextval('s')) > 0

SELECT a FROM t LIMIT nextval('s')

SELECT xmlelement(name x, nextval('s'))

--# hidden
TABLE ticket

SELECT * FROM t WHERE id = nextval('s')

SELECT setval('n', 1000), setval('n', 2000, false)

VALUES (nextval('s'))

WITH x AS (SELECT nextval('s') AS n) SELECT n FROM x

SELECT lo_create(0), lo_creat(-1), lo_from_bytea(0, 'x')

SELECT lo_unlink(4711)

SELECT lo_put(4711, 0, 'x')

SELECT lowrite(lo_open(4711, 131072), 'x')

SELECT lo_export(4711, '{files}/lo')

SELECT lo_import('/etc/hostname')

SELECT query_to_xml('SELECT nextval(''s'')', true, false, '')

SELECT ts_stat('SELECT to_tsvector(''a'') FROM (SELECT nextval(''s'')) x')

SELECT pg_notify('x', 'y')

SELECT txid_current()

SELECT pg_current_xact_id()

SELECT pg_logical_emit_message(false, 'a', 'b')

SELECT pg_logical_emit_message(true, 'a', 'b')

SELECT pg_create_restore_point('x')

SELECT pg_stat_reset()

SELECT pg_stat_reset_shared('bgwriter')

SELECT pg_create_physical_replication_slot('x')

SELECT pg_replication_origin_create('x')

SELECT pg_import_system_collations('here')

SELECT 1; DELETE FROM fast

SELECT 1 ;-- x
 DELETE FROM fast

SELECT ';'; DELETE FROM fast

SELECT '\'; DELETE FROM fast --'

SELECT E'\''; DELETE FROM fast --'

SELECT $$'$$; DELETE FROM fast -- '

SELECT 'a' -- '
; DELETE FROM fast -- '

SELECT 1 /* /* */ ; */; DELETE FROM fast

--# Functions, operators and views of the user's own

--# hidden
SELECT adds()

--# hidden
SELECT * FROM t WHERE adds() = 2

--# hidden
SELECT here.adds(1)

--# hidden
SELECT (1).adds

--# hidden
SELECT 1 +@+ 2

--# hidden
SELECT 1 OPERATOR(here.+@+) 2

--# hidden
SELECT * FROM ticket

--# hidden
SELECT * FROM who

--# hidden
SELECT locks()

--# hidden
SELECT remembers()

--# hidden
EXPLAIN ANALYZE SELECT adds()

--# The state of the connection

SELECT currval('mine'), lastval()

SELECT current_setting('my.setting', true)

SELECT set_config('my.setting', 'x', false)

SELECT set_config('my.setting', 'x', true)

SELECT set_config('work_mem', '1MB', false)

SELECT setseed(0.5)

SELECT pg_backend_pid()

SELECT current_user, user, session_user, current_role, current_catalog, current_schema

SELECT current_schema(), current_schemas(true), current_database()

SELECT CURRENT_USER FROM t

SELECT inet_client_addr(), inet_client_port()

SELECT pg_my_temp_schema()

SELECT pg_listening_channels()

SELECT * FROM pg_prepared_statements

SELECT * FROM pg_cursors

SELECT pg_advisory_lock(1)

SELECT pg_try_advisory_lock(1), pg_advisory_xact_lock(2), pg_try_advisory_xact_lock_shared(3)

SELECT pg_advisory_unlock(42), pg_advisory_unlock_all()

SELECT pg_try_advisory_lock(42)

SELECT pg_current_xact_id_if_assigned(), txid_current_if_assigned()

SELECT pg_trigger_depth()

SELECT lo_open(4711, 262144)

SELECT loread(lo_open(4711, 262144), 10)

SELECT pg_client_encoding()

SELECT cursor_to_xml('held', 1, false, false, '')

SET work_mem = '1MB'

SET SESSION work_mem TO DEFAULT

SET LOCAL work_mem = '1MB'

SET my.setting = 'x'

SET TIME ZONE 'Europe/Berlin'

SET search_path = there, public

SET SCHEMA 'there'

SET NAMES 'latin1'

SET ROLE oracle

SET ROLE NONE

SET SESSION AUTHORIZATION DEFAULT

SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY

SET TRANSACTION ISOLATION LEVEL SERIALIZABLE

SET CONSTRAINTS ALL DEFERRED

SET XML OPTION DOCUMENT

SET standard_conforming_strings = off

RESET my.setting

RESET ALL

RESET ROLE

DISCARD ALL

DISCARD PLANS

DISCARD TEMP

DISCARD SEQUENCES

BEGIN

BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY

START TRANSACTION READ WRITE

COMMIT

COMMIT AND CHAIN

END

ROLLBACK

ABORT

SAVEPOINT x

RELEASE SAVEPOINT sp

ROLLBACK TO SAVEPOINT sp

PREPARE x AS SELECT 1

PREPARE x (int) AS SELECT * FROM t WHERE a = $1

PREPARE x AS DELETE FROM u

EXECUTE prepared

DEALLOCATE prepared

DEALLOCATE ALL

DECLARE x CURSOR FOR SELECT * FROM t

DECLARE x CURSOR WITH HOLD FOR SELECT * FROM t

DECLARE x BINARY INSENSITIVE SCROLL CURSOR FOR SELECT * FROM t

FETCH held

FETCH 2 FROM held

FETCH NEXT IN held

MOVE held

MOVE FORWARD ALL FROM held

CLOSE held

CLOSE ALL

LISTEN x

UNLISTEN *

UNLISTEN listening

LOAD 'auto_explain'

--# once
COPY t TO STDOUT

DECLARE x CURSOR FOR SELECT * FROM t FOR UPDATE

EXPLAIN DECLARE x CURSOR FOR SELECT * FROM t

--# Writes

INSERT INTO fast VALUES (60, 1)

INSERT INTO fast (id) VALUES (60), (61) RETURNING id

INSERT INTO u (id, name) VALUES (60, 'x') ON CONFLICT (name) DO UPDATE SET note = excluded.note

INSERT INTO fast VALUES (1, 1) ON CONFLICT DO NOTHING

INSERT INTO fast SELECT id + 100, a FROM t

INSERT INTO t DEFAULT VALUES

INSERT INTO t OVERRIDING SYSTEM VALUE VALUES (77)

INSERT INTO fast TABLE fast LIMIT 0

UPDATE t SET a = 1 WHERE id = 1

UPDATE ONLY t AS x SET (a, b) = (1, 'x') FROM u WHERE u.t_id = x.id RETURNING x.*

UPDATE t SET a = 5 WHERE id = 12345

UPDATE v SET b = 'x'

DELETE FROM u

DELETE FROM u USING t WHERE u.t_id = t.id RETURNING u.id

DELETE FROM u WHERE false

MERGE INTO fast USING tree ON fast.id = tree.id WHEN MATCHED THEN UPDATE SET x = 1 WHEN NOT MATCHED THEN INSERT VALUES (tree.id, 1)

TRUNCATE fast

TRUNCATE TABLE ONLY t RESTART IDENTITY CASCADE

COPY fast FROM STDIN

COPY fast (id) FROM STDIN WITH (FORMAT csv)

COPY t TO '{files}/copy'

COPY (SELECT 1) TO '{files}/copy' CSV

COPY (SELECT 1) TO PROGRAM 'cat > {files}/copy'

COPY fast FROM PROGRAM 'true'

COPY (DELETE FROM u RETURNING *) TO STDOUT

COPY (SELECT nextval('s')) TO STDOUT

CALL writes()

CALL here.writes()

DO $$ BEGIN DELETE FROM fast; END $$

DO LANGUAGE plpgsql 'BEGIN INSERT INTO fast VALUES (90, 1); END'

PREPARE x AS DELETE FROM fast; EXECUTE x

CREATE TABLE made (a int)

CREATE TABLE made AS SELECT * FROM t

CREATE TABLE IF NOT EXISTS t (a int)

CREATE TEMP TABLE made (a int)

CREATE TEMPORARY TABLE made ON COMMIT DROP AS SELECT 1

CREATE UNLOGGED TABLE made (a int)

CREATE VIEW made AS SELECT * FROM t

CREATE OR REPLACE VIEW made AS SELECT 1

CREATE MATERIALIZED VIEW made AS SELECT 1

CREATE INDEX i ON t (c)

CREATE INDEX CONCURRENTLY i ON t (c)

CREATE SEQUENCE made

CREATE SCHEMA made

CREATE DATABASE made

CREATE TYPE made AS (a int)

CREATE DOMAIN made AS int

CREATE FUNCTION made() RETURNS int LANGUAGE sql AS 'SELECT 1'

CREATE OR REPLACE PROCEDURE made() LANGUAGE sql AS 'SELECT 1'

CREATE TRIGGER made AFTER DELETE ON t FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger()

CREATE RULE made AS ON DELETE TO t DO ALSO NOTHING

CREATE EXTENSION IF NOT EXISTS plpgsql

CREATE ROLE made

CREATE USER made

CREATE AGGREGATE made (int) (SFUNC = int4pl, STYPE = int)

CREATE OPERATOR ++@ (RIGHTARG = int, FUNCTION = twice)

CREATE CAST (int AS pair) WITHOUT FUNCTION

CREATE POLICY made ON t

CREATE PUBLICATION made FOR TABLE t

CREATE STATISTICS made ON a, b FROM t

CREATE COLLATION made FROM "C"

CREATE TEXT SEARCH CONFIGURATION made (COPY = simple)

CREATE EVENT TRIGGER made ON ddl_command_start EXECUTE FUNCTION trg()

ALTER TABLE t ADD COLUMN x int

ALTER TABLE t RENAME TO x

ALTER TABLE IF EXISTS nothing_there ADD COLUMN x int

ALTER SEQUENCE s RESTART

ALTER ROLE oracle SET work_mem = '2MB'

ALTER DATABASE test SET my.setting = 'x'

ALTER SYSTEM SET my.setting = 'x'

ALTER VIEW v RENAME TO made

ALTER TYPE mood ADD VALUE 'new'

ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO part

ALTER FUNCTION twice(int) VOLATILE

DROP TABLE u

DROP TABLE IF EXISTS nothing_there

DROP VIEW v, grouped

DROP INDEX name

DROP INDEX CONCURRENTLY name

DROP SEQUENCE s

DROP SCHEMA there CASCADE

DROP FUNCTION twice

DROP OWNED BY part

REASSIGN OWNED BY part TO oracle

GRANT SELECT ON t TO part

GRANT part TO oracle WITH ADMIN OPTION

REVOKE ALL ON t FROM PUBLIC

COMMENT ON TABLE t IS 'x'

SECURITY LABEL ON TABLE t IS NULL; DELETE FROM fast

NOTIFY x

NOTIFY x, 'y'

REFRESH MATERIALIZED VIEW mv

ANALYZE t

ANALYZE

VACUUM t

VACUUM (FULL, ANALYZE) t

CLUSTER t USING name

REINDEX TABLE t

REINDEX INDEX CONCURRENTLY name

CHECKPOINT

IMPORT FOREIGN SCHEMA x FROM SERVER nothing INTO here; DELETE FROM fast

BEGIN; DELETE FROM fast; COMMIT

BEGIN; DELETE FROM fast WHERE id = 1; PREPARE TRANSACTION 'x'

--# once
EXPLAIN UPDATE t SET a = 1

--# Reads that are called writes, because nobody can know

--# once
CALL looks()

--# once
DO $$ BEGIN PERFORM 1; END $$

--# once
SELECT 1; SELECT 2

--# once
EXPLAIN EXECUTE prepared
