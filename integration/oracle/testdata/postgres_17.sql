--# What PostgreSQL understands from 17 on. See postgres.sql.

SELECT * FROM JSON_TABLE('[{"a": 1, "b": [1, 2]}]', '$[*]' COLUMNS (id FOR ORDINALITY, a int PATH '$.a' DEFAULT 0 ON EMPTY, NESTED PATH '$.b[*]' COLUMNS (b int PATH '$'))) x

SELECT t.id, j.v FROM t, JSON_TABLE(coalesce(t.doc, '{}'), '$' PASSING 1 AS x COLUMNS (v text FORMAT JSON PATH '$.a' OMIT QUOTES, w boolean EXISTS PATH '$.b')) j

SELECT JSON_VALUE('{"a": 1}', '$.a' RETURNING int), JSON_QUERY('[1]', '$' WITH WRAPPER), JSON_EXISTS('{}', '$.a'), JSON('{}'), JSON_SCALAR(1), JSON_SERIALIZE('{}')

SELECT random(1, 10) > 0, random(1.5, 2.5) > 0, to_bin(5), to_oct(8), pg_basetype('int'::regtype), unicode_version(), unicode_assigned('x')

SELECT any_value(a), array_agg(id ORDER BY id) FROM t

SELECT array_shuffle(ARRAY[1, 2]), array_sample(ARRAY[1, 2, 3], 2), random_normal() IS NOT NULL

SELECT now() AT LOCAL, 0x1F, 0b11, 0o17, 1_000, '{}' IS JSON OBJECT

SELECT * FROM (SELECT 1)

EXPLAIN (MEMORY, SERIALIZE TEXT, ANALYZE) SELECT * FROM t

EXPLAIN (GENERIC_PLAN) SELECT * FROM t WHERE a = $1

WITH x AS (SELECT 1 AS a) SELECT * FROM JSON_TABLE('[1]', '$[*]' COLUMNS (a int PATH '$')) y JOIN x USING (a), t FOR UPDATE OF t

SELECT * FROM pg_wait_events LIMIT 1

SELECT lo_open(4711, 131072)

SELECT lo_close(lo_open(4711, 131072))

SET transaction_timeout = '10s'

MERGE INTO t USING u ON t.id = u.t_id WHEN MATCHED THEN UPDATE SET a = 5 RETURNING merge_action(), t.*

MERGE INTO t USING u ON t.id = u.t_id WHEN NOT MATCHED BY SOURCE THEN DELETE

WITH x AS (MERGE INTO t USING u ON t.id = u.t_id WHEN MATCHED THEN DELETE RETURNING t.id) SELECT * FROM x

COPY t (a) FROM STDIN (ON_ERROR ignore, LOG_VERBOSITY verbose)

ALTER TABLE t ALTER COLUMN a SET STATISTICS DEFAULT

CREATE TABLE made (a int CONSTRAINT c NOT NULL, b int GENERATED ALWAYS AS IDENTITY)

GRANT MAINTAIN ON t TO part
