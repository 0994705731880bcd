package oracle

import (
	_ "embed"
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/gorm-replicated/replicated/integration/servers"
)

func TestMySQL(t *testing.T) { testBinlog(t, mySQL) }

// The variables that say nothing of what a statement did, or that tell connections apart anyway.
const mySQLIgnored = "'error_count','warning_count','pseudo_thread_id','statement_id','gtid_executed'," +
	"'gtid_owned','timestamp','rand_seed1','rand_seed2'"

const (
	mySQLThread = "thread_id = PS_CURRENT_THREAD_ID()"

	// Whether a transaction is open, but for that of the statement that asks. There is no variable that tells.
	mySQLInTransaction = "(SELECT COUNT(*) FROM performance_schema.events_transactions_current " +
		"WHERE " + mySQLThread + " AND state = 'ACTIVE' AND autocommit = 'NO')"

	mySQLSettings = "(SELECT BIT_XOR(CRC32(CONCAT_WS('=', variable_name, variable_value))) " +
		"FROM performance_schema.%s_variables WHERE variable_name NOT IN (" + mySQLIgnored + "))"
)

var mySQL = &binlogEngine{
	name:     "MySQL",
	versions: []string{"9.7."},
	files:    "mysql",

	start:   servers.MySQL,
	options: []string{"--performance-schema=ON"},
	account: []string{
		"REVOKE SUPER, CONNECTION_ADMIN ON *.* FROM oracle@'%'", "CREATE RESOURCE GROUP slow TYPE = USER",
	},

	modes:     binlogModes,
	limit:     "max_execution_time = 2000",
	impatient: "SET lock_wait_timeout = 1, innodb_lock_wait_timeout = 1;", // there is no less

	variables: "SELECT variable_name, variable_value FROM performance_schema.global_variables " +
		"WHERE variable_name NOT IN (" + mySQLIgnored + ") UNION ALL " +
		"SELECT CONCAT('persisted ', variable_name), variable_value FROM performance_schema.persisted_variables",
	settings: "SELECT " + fmt.Sprintf(mySQLSettings, "global") + ", " + fmt.Sprintf(mySQLSettings, "session") +
		", (SELECT COUNT(*) FROM performance_schema.persisted_variables)",
	reset: "RESET PERSIST",
	session: binlogSession + ", @@transaction_isolation, @@max_execution_time" +
		"; SELECT " + mySQLInTransaction + ", DATABASE(), CURRENT_ROLE()" +
		"; SELECT BIT_XOR(CRC32(CONCAT_WS('=', variable_name, variable_value))) " +
		"FROM performance_schema.user_variables_by_thread WHERE " + mySQLThread +
		"; SELECT object_name, lock_type FROM performance_schema.metadata_locks " +
		"WHERE owner_" + mySQLThread + " AND object_type = 'USER LEVEL LOCK' ORDER BY 1, 2" +
		"; SELECT resource_group FROM performance_schema.threads WHERE " + mySQLThread,
	sessionParts: []string{
		"settings", "transaction, database or role", "user variables", "user locks", "resource group",
	},
	left: "SELECT " + mySQLInTransaction + ", DATABASE(), COUNT(*) FROM performance_schema.metadata_locks " +
		"WHERE owner_" + mySQLThread + " AND COALESCE(object_schema, '') <> 'performance_schema'",
	logAndRows: "SHOW MASTER STATUS; SELECT SUM(count_insert + count_update + count_delete) " +
		"FROM performance_schema.table_io_waits_summary_by_table " +
		"WHERE object_schema IN ('here', 'there', 'mysql')",
	system: "'columns_priv', 'component', 'db', 'default_roles', 'func', 'global_grants', " +
		"'innodb_index_stats', " +
		"'innodb_table_stats', 'password_history', 'plugin', 'procs_priv', 'proxies_priv', 'role_edges', " +
		"'server_cost', 'servers', 'tables_priv', 'user'",
	data: "SELECT table_id, name, n_cols FROM information_schema.innodb_tables" +
		"; SELECT table_id, index_id, name FROM information_schema.innodb_indexes" +
		"; SELECT table_schema, table_name, view_definition FROM information_schema.views" +
		"; SELECT routine_schema, routine_name, routine_definition FROM information_schema.routines " +
		"WHERE routine_schema <> 'sys'" +
		"; SELECT event_schema, event_name, status FROM information_schema.events" +
		"; SELECT trigger_schema, trigger_name FROM information_schema.triggers" +
		"; SELECT schema_name, table_name, column_name FROM information_schema.column_statistics" +
		"; SELECT resource_group_name, resource_group_enabled, thread_priority " +
		"FROM information_schema.resource_groups",
	prepared: "XA RECOVER CONVERT XID",
	xid: func(row []string) string {
		global, err := strconv.Atoi(row[1])
		if err != nil {
			return row[1]
		}
		digits := 2 + 2*global // 0x, and two for each byte
		return fmt.Sprintf("x'%s', x'%s', %s", row[3][2:digits], row[3][digits:], row[0])
	},

	known: mySQLKnown,
	inserts: []string{
		"FOR SHARE", "FOR SHARE OF t SKIP LOCKED", "FOR UPDATE OF t NOWAIT", "TABLE t", "VALUES ROW(1)",
		"INTERSECT SELECT 1", "EXCEPT TABLE u",
		"/*+ SET_VAR(sort_buffer_size = 100000) */", "/*+ RESOURCE_GROUP(slow) */",
		"/*!90000 INTO OUTFILE '{files}/m' */", "/*!080000 ; DELETE FROM isam */",
		"/*!99999 x */", "$$ x $$", "$a$", "LATERAL", "QUALIFY 1", "AS NEW", "ROW(1)", "->'$.a'",
		"MEMBER OF ('[1]')",
	},
	around: []string{
		"EXPLAIN ANALYZE %s", "EXPLAIN FORMAT=TREE %s", "EXPLAIN FORMAT=JSON INTO @x %s",
		"EXPLAIN FOR SCHEMA here %s", "SELECT * FROM t, LATERAL (%s) x",
		"%s INTERSECT %s", "(%s) EXCEPT (TABLE u)", "INSERT INTO mem TABLE isam; %s",
	},
	functions: mySQLFunctions,
	arguments: map[string][]string{
		"SOURCE_POS_WAIT": {"'binlog.000001', 4, 1"}, "WAIT_FOR_EXECUTED_GTID_SET": {"'', 1"},
		"GROUPING": {"a"}, "JSON_VALUE": {`'{"a": 1}', '$.a' RETURNING SIGNED`},
		"CONVERT": {"'1', SIGNED"}, "TRY_CAST": {"'1' AS SIGNED"},
	},
}

var mySQLKnown = map[truth][]string{
	read: {
		"TABLE t", "VALUES ROW(1, 2), ROW(3, 4)", "EXPLAIN ANALYZE SELECT * FROM t JOIN u",
		"EXPLAIN FORMAT=TREE SELECT * FROM t", "SELECT @@GLOBAL.gtid_executed",
		"SELECT /*+ SET_VAR(sort_buffer_size = 100000) RESOURCE_GROUP(slow) */ 1", "SHOW CREATE TABLE t",
	},
	locking: {
		"SELECT * FROM t FOR SHARE", "TABLE t FOR UPDATE", "SELECT * FROM t, u FOR SHARE OF t SKIP LOCKED",
	},
	stateful: {
		"EXPLAIN FORMAT=JSON INTO @new SELECT 1", "TABLE t LIMIT 1 INTO @a, @b, @c, @d, @e, @f, @g",
		"SELECT PS_CURRENT_THREAD_ID()",
		"SET autocommit = 0", "SET TRANSACTION READ ONLY",
		"SELECT @@session.sort_buffer_size, @@last_insert_id",
	},
	write: {
		"INSERT INTO u (id) SELECT a + 100 FROM t", "TABLE t INTO OUTFILE '{files}/x'",
		"VALUES ROW(1) INTO DUMPFILE '{files}/x'", "SET PERSIST net_write_timeout = 61",
		"CREATE RESOURCE GROUP made TYPE = USER", "ANALYZE TABLE t UPDATE HISTOGRAM ON a",
		"SET PASSWORD = 'x'", "ALTER INSTANCE ROTATE INNODB MASTER KEY", "REPLACE INTO mem TABLE isam",
	},
}

// mySQLFunctionNames asks the server's help, which knows its own; those that are loaded and do their work
// unseen are stated by hand.
const mySQLFunctionNames = "SELECT REGEXP_SUBSTR(name, '^[A-Z0-9_]+') FROM mysql.help_topic " +
	"WHERE REGEXP_LIKE(name, '^[A-Z0-9_]+( FUNCTION|[(][)])?$', 'c') UNION ALL " +
	"SELECT udf_name FROM performance_schema.user_defined_functions WHERE udf_name NOT LIKE 'innodb%' " +
	"UNION ALL " +
	"SELECT CONCAT('sys.', routine_name) FROM information_schema.routines WHERE routine_schema = 'sys' " +
	"AND routine_type = 'FUNCTION'"

// mySQLFunctions returns the names of all functions but those of the user's own.
func mySQLFunctions(t *testing.T, b *binlog) []string {
	t.Helper()
	names, err := b.column(t.Context(), mySQLFunctionNames)
	if err != nil {
		t.Fatal(err)
	}
	return append(names, strings.Fields("ATAN2 CONVERT CRC32 CURTIME EXTRACTVALUE GREATEST GTID_SUBSET "+
		"GTID_SUBTRACT ISNULL JSON_TABLE JSON_QUOTE LEAST NOW "+
		"SOURCE_POS_WAIT ST_GEOMETRYCOLLECTIONFROMTEXT ST_SRID STRING_TO_VECTOR TRY_CAST UPDATEXML "+
		"VECTOR_DIM VECTOR_TO_STRING "+
		"WAIT_FOR_EXECUTED_GTID_SET ETAG MD5 SHA1 SHA")...)
}
