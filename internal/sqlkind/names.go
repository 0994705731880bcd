package sqlkind

// The names below mean something without being called. Each list is in the order of the alphabet.

// connectionVariables are those system variables of MySQL and MariaDB, asked for as @@name, whose value
// belongs to one connection: what it did before, what it did to itself, who it is. @@session.name and
// @@local.name say so in so many words.
var connectionVariables = set(
	"autocommit", "error_count", "external_user", "gtid_next", "gtid_owned", "gtid_seq_no", "identity",
	"immediate_server_version", "in_transaction", "insert_id", "last_gtid", "last_insert_id", "local",
	"original_commit_timestamp", "original_server_version", "proxy_user", "pseudo_replica_mode",
	"pseudo_slave_mode", "pseudo_thread_id", "rand_seed1", "rand_seed2", "session", "skip_replication",
	"sql_log_bin", "statement_id", "timestamp", "warning_count", "wsrep_trx_fragment_size",
)

// readingPragmas read, with an argument (the name of a table or an index) and without one
// (sqlite.org/pragma.html).
var readingPragmas = set(
	"collation_list", "compile_options", "database_list", "foreign_key_check", "foreign_key_list",
	"function_list", "index_info", "index_list", "index_xinfo", "integrity_check", "module_list", "pragma_list",
	"quick_check", "table_info", "table_list", "table_xinfo",
)

// questionPragmas read as long as they have no argument; with one they write.
var questionPragmas = set(
	"application_id", "auto_vacuum", "encoding", "freelist_count", "max_page_count", "page_count", "page_size",
	"schema_version", "user_version",
)

// connectionPragmas read or change a setting of one connection, and nothing of the database.
var connectionPragmas = set(
	"busy_timeout", "case_sensitive_like", "data_version", "defer_foreign_keys", "foreign_keys",
	"ignore_check_constraints", "query_only", "read_uncommitted", "recursive_triggers",
	"reverse_unordered_selects",
)

// columnNames are functions whose names, behind a dot, are taken for those of columns: f.http is hardly
// http(f).
var columnNames = set(
	"cypher", "http", "polygonize",
)

// attributesOfState are those stateful functions of one argument whose names, behind a dot, are not taken for
// those of columns.
var attributesOfState = set(
	"current_setting", "currval", "dblink_close", "dblink_connect", "dblink_disconnect", "lo_close", "lo_tell",
	"lo_tell64", "pgrowlocks", "set_limit", "setseed",
)

// sequenceColumns are those of PostgreSQL's sequences, which can be read like tables.
var sequenceColumns = set(
	"is_called", "last_value", "log_cnt",
)

// registryTypes are types whose values are looked up in the catalog: 'users'::regclass. They can be called
// like functions, too. regconfig and regdictionary are left out: they are looked up in the catalog, too, but
// by every full-text search.
var registryTypes = set(
	"regclass", "regcollation", "regnamespace", "regoper", "regoperator", "regproc", "regprocedure", "regrole",
	"regtype",
)

// plainNames are types and views whose names begin with pg_, and which have nothing to do with the catalog.
var plainNames = set(
	"pg_brin_bloom_summary", "pg_brin_minmax_multi_summary", "pg_catalog", "pg_ddl_command", "pg_dependencies",
	"pg_lsn", "pg_mcv_list", "pg_ndistinct", "pg_node_tree", "pg_snapshot", "pg_timezone_abbrevs",
	"pg_timezone_names",
)

// serverViews are relations of pg_catalog and of contrib modules that show the state of one connection or of
// one server (postgresql.org/docs/18/views.html). Those whose names begin with pg_stat_ or pg_statio_ do,
// too.
var serverViews = set(
	"pg_aios", "pg_available_extension_versions", "pg_available_extensions", "pg_backend_memory_contexts",
	"pg_buffercache", "pg_config", "pg_cursors", "pg_file_settings", "pg_hba_file_rules",
	"pg_ident_file_mappings", "pg_locks", "pg_prepared_statements", "pg_prepared_xacts",
	"pg_replication_origin_status", "pg_replication_slots", "pg_settings", "pg_shmem_allocations",
	"pg_shmem_allocations_numa",
)

// reservedPostgreSQL are words that no table and no column can be called. They help to tell a statement
// inside of another from a column called update: WITH x AS (UPDATE t …, SELECT update FROM t
var reservedPostgreSQL = set(
	"and", "any", "as", "asc", "both", "case", "desc", "distinct", "else", "end", "except", "fetch", "for",
	"from", "group", "having", "ilike", "in", "intersect", "into", "is", "leading", "like", "limit", "not",
	"offset", "on", "or", "order", "select", "similar", "some", "then", "trailing", "union", "using", "variadic",
	"when", "where", "window", "with",
)

func set(names ...string) map[string]bool {
	m := make(map[string]bool, len(names))
	for _, n := range names {
		m[n] = true
	}
	return m
}
