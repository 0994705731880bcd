package oracle

import (
	_ "embed"
	"slices"
	"strings"
	"testing"

	"github.com/gorm-replicated/replicated/integration/servers"
)

func TestMariaDB(t *testing.T) { testBinlog(t, mariaDB) }

//go:embed testdata/mariadb_schema.sql
var mariaDBSchema string

// The variables that say nothing of what a statement did, or that tell connections apart anyway.
const mariaDBIgnored = "'error_count','warning_count','last_gtid','pseudo_thread_id','in_transaction'," +
	"'gtid_binlog_pos','gtid_binlog_state','gtid_current_pos','timestamp','rand_seed1','rand_seed2'"

var mariaDB = &binlogEngine{
	name:     "MariaDB",
	versions: []string{"10.11.", "11.8."},
	files:    "mariadb",
	schema:   mariaDBSchema,

	start:   servers.MariaDB,
	options: []string{"--userstat=ON", "--plugin-load-add=metadata_lock_info"},
	account: []string{"REVOKE READ ONLY ADMIN ON *.* FROM oracle@'%'"},

	modes:     slices.Concat(binlogModes, []mode{{"ORACLE", "; SET sql_mode = 'ORACLE'"}}),
	limit:     "max_statement_time = 2",
	impatient: "SET lock_wait_timeout = 0, innodb_lock_wait_timeout = 0;",
	once:      "; DO NEXTVAL(mine)",

	variables: "SELECT variable_name, global_value FROM information_schema.system_variables " +
		"WHERE global_value IS NOT NULL AND variable_name NOT IN (" + mariaDBIgnored + ")",
	settings: "SELECT BIT_XOR(CRC32(CONCAT_WS('=', variable_name, global_value))), " +
		"BIT_XOR(CRC32(CONCAT_WS('=', variable_name, session_value))) " +
		"FROM information_schema.system_variables WHERE variable_name NOT IN (" + mariaDBIgnored + ")",
	session: binlogSession + ", @@tx_isolation, @@max_statement_time" +
		"; SELECT @@in_transaction, DATABASE(), CURRENT_ROLE()" +
		"; SELECT BIT_XOR(CRC32(CONCAT_WS('=', variable_name, variable_value))) " +
		"FROM information_schema.user_variables" +
		"; SELECT lock_type, table_schema FROM information_schema.metadata_lock_info " +
		"WHERE thread_id = CONNECTION_ID() AND lock_type LIKE 'User%' ORDER BY 1, 2",
	sessionParts: []string{"settings", "transaction, database or role", "user variables", "user locks"},
	left: "SELECT @@in_transaction, DATABASE(), COUNT(*) " +
		"FROM information_schema.metadata_lock_info WHERE thread_id = CONNECTION_ID()",
	logAndRows: "SHOW MASTER STATUS; " +
		"SELECT COALESCE(SUM(rows_changed), 0) FROM information_schema.table_statistics",
	system: "'global_priv', 'db', 'func', 'plugin', 'servers', 'roles_mapping', 'tables_priv', " +
		"'index_stats', 'table_stats', 'column_stats', 'proc', 'event'",
	data: "SELECT schema_name, schema_comment FROM information_schema.schemata" +
		"; SELECT table_id, name, n_cols FROM information_schema.innodb_sys_tables" +
		"; SELECT table_id, index_id, name FROM information_schema.innodb_sys_indexes",
	prepared: "XA RECOVER FORMAT = 'SQL'",
	xid:      func(row []string) string { return row[3] },

	known: mariaDBKnown,
	inserts: []string{"NEXTVAL(s)", "NEXT VALUE FOR s", "/*! , NEXTVAL(s) */", "PROCEDURE ANALYSE()",
		"/*M! ; DELETE FROM isam */", "RETURNING id"},
	around:    []string{"ANALYZE %s", "SET STATEMENT max_statement_time = 1 FOR %s"},
	functions: mariaDBFunctions,
	arguments: map[string][]string{
		"MASTER_POS_WAIT": {"'binlog.000001', 4, 0.01"}, "MASTER_GTID_WAIT": {"'0-1-1', 0"},
		"WSREP_SYNC_WAIT_UPTO_GTID": {"'', 0"},
		"NEXTVAL":                   {"s"}, "LASTVAL": {"mine"}, "SETVAL": {"n, 500"}, "COLUMN_CREATE": {"'a', 1"},
		"COLUMN_GET": {"COLUMN_CREATE('a', 1), 'a' AS INT"},
		"COLUMN_ADD": {"COLUMN_CREATE('a', 1), 'b', 2"}, "VALUE": {"a"},
		"BINLOG_GTID_POS": {"'binlog.000001', 4"}, "DECODE_HISTOGRAM": {"'SINGLE_PREC_HB', 'x'"},
	},
}

var mariaDBKnown = map[truth][]string{
	read: {"ANALYZE FORMAT=JSON SELECT * FROM t JOIN u", "EXECUTE IMMEDIATE 'SELECT 1'",
		"SELECT @@sql_mode"},
	stateful: {"SELECT LASTVAL(mine)", "SELECT @@in_transaction"},
	write: {
		"SELECT NEXTVAL(s)", "SELECT NEXT VALUE FOR n", "SELECT SETVAL(s, 5)", "SELECT * FROM ticket",
		"EXECUTE IMMEDIATE 'DELETE FROM u'", "BEGIN NOT ATOMIC DELETE FROM u; END",
		"SET PASSWORD = PASSWORD('x')",
		"XA BEGIN 'x'; DELETE FROM isam; XA END 'x'; XA PREPARE 'x'",
	},
}

const mariaDBFunctionNames = "SELECT DISTINCT function FROM information_schema.sql_functions " +
	"UNION ALL " +
	// Those of the schema sys are functions of somebody's, and read.
	"SELECT CONCAT('sys.', routine_name) FROM information_schema.routines WHERE routine_schema = 'sys' " +
	"AND routine_type = 'FUNCTION'"

// mariaDBFunctions returns the names of all functions but those of the user's own.
func mariaDBFunctions(t *testing.T, b *binlog) []string {
	t.Helper()
	names, err := b.column(t.Context(), mariaDBFunctionNames)
	if err != nil {
		t.Fatal(err)
	}
	// The grammar has them, so they are not in the list; or they are of a plugin.
	return append(names, strings.Fields("LASTVAL NEXTVAL OLD_PASSWORD PASSWORD PREVIOUS ROWNUM SETVAL "+
		"TO_DATE VALUE "+
		"ST_AREA ST_ASTEXT ST_ASWKB ST_ASGEOJSON ST_BUFFER ST_CENTROID ST_CONTAINS ST_CONVEXHULL "+
		"ST_CROSSES ST_DIFFERENCE ST_DIMENSION ST_DISJOINT ST_DISTANCE "+
		"ST_ENDPOINT ST_ENVELOPE ST_EQUALS ST_GEOMFROMTEXT ST_GEOMFROMWKB ST_GEOMETRYTYPE ST_INTERSECTS "+
		"ST_ISEMPTY ST_ISRING ST_LENGTH ST_NUMPOINTS ST_POINTN "+
		"ST_SRID ST_STARTPOINT ST_TOUCHES ST_UNION ST_WITHIN ST_X ST_Y ST_SIMPLIFY ST_DISTANCE_SPHERE "+
		"COLUMN_CREATE COLUMN_GET COLUMN_ADD COLUMN_DELETE SYS_GUID")...)
}
