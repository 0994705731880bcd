package oracle

import (
	"slices"
	"testing"

	"github.com/gorm-replicated/replicated/internal/sqlkind"
)

// binlogStated are statements of which the truth is stated by hand: they would hurt the server that is asked,
// or leave no trace that it shows, or are of engines and plugins that are not there.
var binlogStated = map[truth][]string{
	write: {
		// They hurt.
		"SHUTDOWN", "SHUTDOWN WAIT FOR ALL SLAVES", "RESTART", "KILL 5", "KILL QUERY 5", "KILL HARD CONNECTION 5",
		"KILL USER oracle", "RESET MASTER", "RESET MASTER TO 5", "RESET SLAVE ALL",
		"RESET BINARY LOGS AND GTIDS", "RESET REPLICA", "RESET PERSIST", "PURGE BINARY LOGS TO 'binlog.000009'",
		"PURGE MASTER LOGS BEFORE NOW()", "CHANGE MASTER TO MASTER_HOST = 'x'",
		"CHANGE REPLICATION SOURCE TO SOURCE_HOST = 'x'", "CHANGE REPLICATION FILTER REPLICATE_DO_DB = (a)",
		"START SLAVE", "STOP SLAVE", "START REPLICA", "STOP ALL SLAVES", "START GROUP_REPLICATION",
		"STOP GROUP_REPLICATION", "DROP USER oracle", "DROP DATABASE mysql", "SET GLOBAL read_only = OFF",
		"SET @@GLOBAL.super_read_only = 0", "SET PERSIST max_connections = 5",
		"SET PERSIST_ONLY max_connections = 5",
		"INSTALL PLUGIN x SONAME 'x'", "UNINSTALL PLUGIN x", "INSTALL COMPONENT 'file://x'",
		"UNINSTALL COMPONENT 'file://x'", "CLONE LOCAL DATA DIRECTORY = '/x'",
		"ALTER INSTANCE ROTATE INNODB MASTER KEY",
		"FLUSH LOGS", "FLUSH BINARY LOGS", "FLUSH NO_WRITE_TO_BINLOG HOSTS", "BINLOG 'abc'",
		"BACKUP STAGE BLOCK_COMMIT", "CREATE FUNCTION f RETURNS STRING SONAME 'x.so'", "SET RESOURCE GROUP g FOR 5",
		"CREATE TABLESPACE x ADD DATAFILE 'x'", "ALTER UNDO TABLESPACE x SET INACTIVE",
		"CREATE RESOURCE GROUP x TYPE = USER", "IMPORT TABLE FROM 'x.sdi'", "LOCK INSTANCE FOR BACKUP; DROP " +
			"TABLE t",
		// They leave no trace.
		"CACHE INDEX isam IN keep", "LOAD INDEX INTO CACHE isam", "FLUSH STATUS",
		"SET GLOBAL keep.key_buffer_size = 100000", "LOAD DATA LOCAL INFILE 'x' INTO TABLE t",
		"LOAD XML INFILE 'x' INTO TABLE t",
		// MySQL's own.
		"TABLE t INTO OUTFILE 'x'", "TABLE t ORDER BY a LIMIT 1 INTO DUMPFILE 'x'",
		"VALUES ROW(1, 2) INTO OUTFILE 'x'", "SELECT * FROM t FOR UPDATE INTO OUTFILE 'x'",
		"SELECT * FROM t INTO OUTFILE 'x' FOR SHARE SKIP LOCKED",
		"(TABLE t) UNION (TABLE u) INTO OUTFILE 'x'", "SELECT * FROM t INTO OUTFILE S3 's3://x'",
		"WITH x AS (SELECT 1) DELETE FROM t", "WITH x AS (SELECT 1) UPDATE t SET a = 1",
		"WITH RECURSIVE x AS (SELECT 1) DELETE t FROM t JOIN x",
		"EXPLAIN ANALYZE DELETE FROM t", "EXPLAIN ANALYZE FORMAT=TREE UPDATE t SET a = 1",
		"EXPLAIN FORMAT=JSON INTO @x DELETE FROM t", "INSERT INTO t TABLE u",
		"REPLACE INTO t VALUES ROW(1), ROW(2)", "INSERT INTO t VALUES (1) AS n ON DUPLICATE KEY UPDATE a = n.a",
		"ANALYZE TABLE t UPDATE HISTOGRAM ON a", "SELECT keyring_key_store('a', 'AES', 'x')",
		"SELECT group_replication_set_as_primary('x')", "SELECT version_tokens_set('a=b')",
		"SELECT audit_log_filter_flush()",
		"SELECT innodb_redo_log_archive_start('x', 'y')", "SELECT innodb_redo_log_archive_flush()",
		"SELECT innodb_redo_log_sharp_checkpoint()", "DO innodb_set_open_files_limit(100)",
		"SELECT option_tracker_usage_set('x', '{}')", "SELECT innodb_redo_log_consumer_register()",
		"DO LAST_INSERT_ID(1), keyring_key_remove('x')", "SELECT asynchronous_connection_failover_reset()",
		"XA COMMIT 'x'", "XA ROLLBACK 'x'", "XA PREPARE 'x'",
		// Of engines that are not here.
		"SELECT SPIDER_DIRECT_SQL('DELETE FROM t', '', 'srv \"x\"')", "SELECT mroonga_command('table_remove t')",
		"SELECT sys_exec('rm -rf /')", "SELECT lambda_async('arn', '{}')", "SELECT jfile_make('{}', 'x')",
	},
	stateful: {
		"SELECT SQL_CALC_FOUND_ROWS * FROM t LIMIT 1", "SELECT @@last_gtid", "SELECT @@session.sql_mode",
		"SELECT PS_CURRENT_THREAD_ID()", "SELECT sys.ps_thread_id(NULL)", "EXPLAIN FOR CONNECTION 5",
		"SELECT service_get_write_locks('a', 'b', 0)",
		"SELECT 1 INTO @x FOR UPDATE", "SELECT * FROM t FOR UPDATE INTO @a, @b", "TABLE t LIMIT 1 INTO @x",
		"SHOW REPLICA STATUS", "SHOW BINARY LOG STATUS", "SELECT @x := @x + 1 FROM t, (SELECT @x := 0) z",
		"SET SESSION TRANSACTION READ ONLY",
		"EXPLAIN FORMAT=JSON INTO @x SELECT 1", "SET ROLE ALL EXCEPT x", "GET STACKED DIAGNOSTICS @n = NUMBER",
		"SET @@SESSION.gtid_next = 'AUTOMATIC'", "SELECT @@gtid_next",
	},
	locking: {
		"SELECT * FROM t FOR SHARE", "SELECT * FROM t FOR SHARE OF t NOWAIT",
		"SELECT * FROM t, u FOR SHARE OF t FOR UPDATE OF u SKIP LOCKED", "TABLE t FOR UPDATE",
		"(SELECT * FROM t FOR SHARE) UNION (SELECT * FROM u)",
		"SELECT * FROM t JOIN LATERAL (SELECT * FROM u FOR UPDATE) x",
	},
	read: {
		"TABLE t ORDER BY a LIMIT 1 OFFSET 1", "VALUES ROW(1, 2), ROW(3, 4) ORDER BY column_0",
		"EXPLAIN ANALYZE SELECT * FROM t", "EXPLAIN FORMAT=TREE SELECT 1", "SELECT * FROM t, LATERAL (SELECT * " +
			"FROM u WHERE u.a = t.a) x", "(TABLE t) UNION (TABLE u)",
		"SELECT /*+ SET_VAR(sort_buffer_size = 16M) MAX_EXECUTION_TIME(10) BKA(t) */ * FROM t",
		"SELECT JSON_VALUE(doc, '$.a' RETURNING SIGNED) FROM t", "SELECT doc->>'$.a', 1 MEMBER OF (doc) FROM t",
		"SELECT GROUPING(a) FROM t GROUP BY a WITH ROLLUP",
		"SELECT BIN_TO_UUID(UUID_TO_BIN(UUID())), ANY_VALUE(a), REGEXP_LIKE(b, 'a'), STATEMENT_DIGEST('x'), " +
			"RANDOM_BYTES(4) FROM t", "WITH x AS (TABLE t) TABLE x", "SELECT * FROM t PARTITION (p0) USE INDEX FOR " +
			"GROUP BY (a)", "SELECT VECTOR_DIM(TO_VECTOR('[1,2]'))",
		"EXPLAIN FORMAT=JSON FOR SCHEMA x SELECT 1", "SELECT 1 INTERSECT SELECT 2 EXCEPT SELECT 3",
		"SELECT INSERT('a', 1, 1, 'b'), ST_AsGeoJSON(g) FROM t", "SHOW CHARACTER SET", "SHOW ENGINES",
	},
}

// postgreSQLStated are the same for PostgreSQL, and what does its harm on a slave, where none of it is
// refused.
var postgreSQLStated = map[truth][]string{
	write: {
		// They hurt.
		"SELECT pg_terminate_backend(5)", "SELECT pg_cancel_backend(pid) FROM pg_stat_activity",
		"SELECT pg_promote()", "SELECT pg_promote(false, 5)", "SELECT pg_stop_making_pinned_objects()",
		"DROP ROLE oracle", "DROP DATABASE test", "DROP TABLESPACE x", "DROP EXTENSION plpgsql CASCADE",
		"ALTER SYSTEM RESET ALL", "SELECT heap_force_kill('t', '{}')", "SELECT heap_force_freeze('t'::regclass, " +
			"ARRAY['(0,1)']::tid[])", "SELECT pg_truncate_visibility_map('t')", "COPY t TO PROGRAM 'sh'",
		"COPY t FROM PROGRAM 'sh'", "DO $$ BEGIN PERFORM pg_terminate_backend(1); END $$",
		"ALTER ROLE oracle PASSWORD 'x'", "DROP SUBSCRIPTION x", "CREATE SUBSCRIPTION x CONNECTION 'x' " +
			"PUBLICATION x", "CREATE TABLESPACE x LOCATION '/x'", "PREPARE TRANSACTION 'x'", "COMMIT PREPARED 'x'",
		"ROLLBACK PREPARED 'x'",
		// On a slave, too, they change what the server does.
		"SELECT pg_wal_replay_pause()", "SELECT pg_wal_replay_resume()", "SELECT pg_reload_conf()",
		"SELECT pg_rotate_logfile()", "SELECT pg_stat_reset()", "SELECT pg_stat_reset_slru('x')",
		"SELECT pg_stat_reset_shared('wal')", "SELECT pg_stat_statements_reset()",
		"SELECT pg_create_physical_replication_slot('x')",
		"SELECT pg_drop_replication_slot('x')", "SELECT pg_replication_slot_advance('x', '0/1')",
		"SELECT pg_copy_physical_replication_slot('x', 'y')", "SELECT * FROM pg_logical_slot_get_changes('x', " +
			"NULL, NULL)", "SELECT lo_export(5, '/tmp/x')", "SELECT pg_file_write('x', 'y', true)",
		"SELECT pg_file_unlink('x')", "SELECT pg_file_rename('x', 'y')",
		"SELECT pg_backup_start('x')", "SELECT * FROM pg_backup_stop()", "SELECT pg_start_backup('x')",
		"SELECT pg_switch_wal()", "SELECT pg_switch_xlog()", "SELECT pg_log_backend_memory_contexts(5)",
		"COPY t TO '/tmp/x'", "COPY (SELECT 1) TO '/tmp/x' WITH CSV",
		// The world outside.
		"SELECT dblink_exec('host=x', 'DELETE FROM t')", "SELECT * FROM dblink('host=x', 'DELETE FROM t " +
			"RETURNING 1') AS x (a int)", "SELECT dblink_send_query('x', 'DELETE FROM t')",
		"SELECT * FROM http_post('http://x', '')", "SELECT net.http_post('http://x')",
		"SELECT cron.schedule('x', '* * * * *', 'DELETE FROM t')",
		"SELECT aws_lambda.invoke('x', '{}')", "SELECT pgmq.send('x', '{}')",
		// They run SQL that they are given.
		"SELECT query_to_xml('DELETE FROM t', true, false, '')", "SELECT * FROM crosstab('SELECT " +
			"nextval(''s'')') AS x (a int)", "SELECT ts_stat('SELECT nextval(''s'')')",
		"SELECT ts_rewrite('a', 'SELECT nextval(''s'')')", "SELECT xpath_table('a', 'b', 'c', 'd', '1=1')",
		"SELECT * FROM connectby('t', 'a', 'b', 'c', 0) AS x (a text, b text, c int)",
		// Newer than the server here.
		"MERGE INTO t USING u ON true WHEN MATCHED THEN DELETE RETURNING *",
		"WITH x AS (MERGE INTO t USING u ON true WHEN MATCHED THEN DELETE RETURNING *) SELECT * FROM x",
		"UPDATE t SET a = 1 RETURNING WITH (OLD AS o) o.a", "SELECT pg_restore_relation_stats('relation', 't')",
		"SELECT pg_clear_attribute_stats('t', 'a', false)",
		"SELECT pg_sync_replication_slots()", "CREATE PROPERTY GRAPH g", "REPACK t", "VACUUM (ONLY_DATABASE_STATS)",
		"SELECT pg_stat_reset_backend_stats(5)",
	},
	stateful: {
		"SELECT pg_export_snapshot()", "SET TRANSACTION SNAPSHOT '00000003-0000001B-1'",
		"SELECT pg_advisory_lock(1)", "SELECT pg_catalog.set_config('a.b', 'c', false)",
		"SELECT hypopg_create_index('x')", "SELECT pgv_set('a', 'b', 1)", "SELECT * FROM pg_temp.t",
		"SELECT set_limit(0.5)", "SELECT dblink_connect('x', 'y')",
		"DISCARD TEMP", "LOAD 'x'", "SHOW ALL", "SELECT pg_stat_clear_snapshot()",
	},
	locking: {
		"SELECT * FROM t FOR NO KEY UPDATE OF t NOWAIT", "SELECT * FROM t ORDER BY a FOR KEY SHARE SKIP LOCKED",
		"LOCK TABLE t IN EXCLUSIVE MODE", "LOCK t NOWAIT", "VALUES (1) FOR UPDATE", "TABLE t FOR SHARE",
		"SELECT * FROM JSON_TABLE('[1]', '$[*]' COLUMNS (a int PATH '$')) x FOR UPDATE",
	},
	read: {
		"SELECT * FROM JSON_TABLE('[1]', '$[*]' COLUMNS (id FOR ORDINALITY, a int PATH '$' DEFAULT 0 ON EMPTY)) x",
		"SELECT JSON_VALUE(doc, '$.a' RETURNING int), JSON_QUERY(doc, '$' WITH WRAPPER), JSON_EXISTS(doc, " +
			"'$.a') FROM t", "SELECT JSON('{}'), JSON_SCALAR(1), JSON_SERIALIZE('{}'), '{}' IS JSON OBJECT",
		"SELECT ANY_VALUE(a), 0x1F, 0b101, 0o17, 1_000_000 FROM t", "SELECT uuidv7(), uuidv4(), random(1, 2), " +
			"array_shuffle(ARRAY[1]), casefold('x'), crc32('x')", "SELECT a FROM t GROUP BY ALL",
		"SELECT * FROM (SELECT 1)", "EXPLAIN (GENERIC_PLAN, MEMORY, SERIALIZE text) SELECT * FROM t",
		"SELECT merge_action FROM t", "WITH x AS (SELECT 1 AS a) SELECT * FROM x CROSS JOIN LATERAL (SELECT a + " +
			"1) y", "SELECT pg_is_in_recovery(), pg_last_wal_replay_lsn(), pg_last_xact_replay_timestamp()",
		"SELECT * FROM t WHERE a = $1 AND b = ANY ($2)",
	},
}

func TestStated(t *testing.T) {
	for _, tt := range []struct {
		name    string
		dialect sqlkind.Dialect
		stated  map[truth][]string
	}{{"MariaDB and MySQL", sqlkind.MySQL, binlogStated}, {"PostgreSQL", sqlkind.PostgreSQL, postgreSQLStated}} {
		t.Run(tt.name, func(t *testing.T) {
			var findings []finding
			for tr, texts := range tt.stated {
				for _, q := range texts {
					findings = append(findings, finding{statement: statement{sql: q, from: "stated"}, truth: tr,
						why: "by hand"})
				}
			}
			c := compare(func(q string) sqlkind.Kind { return sqlkind.Classify(tt.dialect, q) }, findings)
			for _, d := range slices.Concat(c.holes, c.alarms, c.wary) {
				t.Error(d)
			}
			// The control.
			c = compare(func(string) sqlkind.Kind { return sqlkind.Read }, findings)
			if want := len(findings) - len(tt.stated[read]); len(c.holes) != want {
				t.Errorf("%d of %d statements that are no reads were noticed", len(c.holes), want)
			}
		})
	}
}
