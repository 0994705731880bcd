--# What PostgreSQL understands from 18 on. See postgres.sql.

SELECT uuidv7() IS NOT NULL, uuidv4() IS NOT NULL, uuid_extract_version(uuidv7()), uuidv7(interval '1 hour') IS NOT NULL

SELECT casefold('X'), crc32('x'), crc32c('x'), reverse('\x0102'::bytea), gamma(5), lgamma(5), array_sort(ARRAY[2, 1]), array_reverse(ARRAY[1, 2])

SELECT json_strip_nulls('{"a": null}', true), to_regtypemod('varchar(3)'), pg_get_acl('pg_class'::regclass, 't'::regclass, 0)

EXPLAIN (ANALYZE, BUFFERS OFF) SELECT * FROM t

EXPLAIN (ANALYZE) SELECT * FROM t WHERE a = 1 OR a = 2

SELECT * FROM pg_aios

SELECT * FROM pg_get_loaded_modules() LIMIT 1

SELECT has_largeobject_privilege(4711, 'SELECT')

SELECT sum(a) FROM t GROUP BY b HAVING count(*) > 1 FETCH FIRST 1 ROW ONLY

UPDATE t SET a = 1 RETURNING old.a, new.a

DELETE FROM u RETURNING WITH (OLD AS o) o.id

WITH x AS (UPDATE t SET a = 1 RETURNING old.id) SELECT * FROM x

INSERT INTO u (id) VALUES (60) ON CONFLICT (id) DO UPDATE SET name = 'x' RETURNING old.name, new.name

MERGE INTO t USING u ON t.id = u.t_id WHEN MATCHED THEN UPDATE SET a = 5 RETURNING old.a

CREATE TABLE made (a int, b int GENERATED ALWAYS AS (a + 1) VIRTUAL)

ALTER TABLE t ADD CONSTRAINT made CHECK (a > 0) NOT ENFORCED

VACUUM (ONLY_DATABASE_STATS)

SELECT pg_restore_relation_stats('schemaname', 'here', 'relname', 't', 'relpages', 5)

SELECT pg_clear_relation_stats('here', 't')

CREATE FOREIGN DATA WRAPPER made
