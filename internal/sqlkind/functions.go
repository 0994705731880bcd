package sqlkind

// function is a function that a read must not call on a slave. Names are in lower case.
type function struct {
	name   string
	kind   Kind
	source string // where it is documented
}

const (
	refman       = "dev.mysql.com/doc/refman/8.4/en/"
	loadable     = refman + "loadable-function-reference.html"
	information  = refman + "information-functions.html"
	locking      = refman + "locking-functions.html"
	perfSchema   = refman + "performance-schema-functions.html"
	sysSchema    = refman + "sys-schema-functions.html"
	auditLog     = refman + "audit-log-reference.html"
	firewall     = refman + "firewall-reference.html"
	rewriter     = refman + "rewriter-query-rewrite-plugin-reference.html"
	groupRepl    = refman + "group-replication-functions.html"
	failover     = refman + "replication-functions-async-failover.html"
	keyring      = refman + "keyring-functions-general-purpose.html"
	keyringOther = refman + "keyring-functions-plugin-specific.html"
	masking      = refman + "data-masking-component-functions.html"
	lockService  = refman + "locking-service.html"
	versionToken = refman + "version-tokens-reference.html"
	mle          = "dev.mysql.com/doc/refman/9.3/en/mle-component-functions.html"

	mariadb     = "mariadb.com/kb/en/"
	sequences   = mariadb + "sequence-functions/"
	galera      = mariadb + "galera-functions/"
	spider      = mariadb + "spider-functions/"
	connectJSON = mariadb + "connect-json-table-type/"
	columnStore = mariadb + "columnstore-information-functions/"

	aurora      = "docs.aws.amazon.com/AmazonRDS/latest/AuroraUserGuide/AuroraMySQL.Integrating.Lambda.html"
	percona     = "docs.percona.com/percona-server/8.0/binlogging-replication-improvements.html"
	mroonga     = "mroonga.org/docs/reference/udf.html"
	udfSys      = "github.com/mysqludf/lib_mysqludf_sys"
	udfMemcache = "launchpad.net/memcached-udfs"
	udfGearman  = "gearman.org/manual/mysql_udf/"

	sqliteCore  = "sqlite.org/lang_corefunc.html"
	sqliteShell = "sqlite.org/cli.html"
	sqliteFTS   = "sqlite.org/fts3.html"
	sqliteExt   = "sqlite.org/src/dir/ext/misc"
	sqlean      = "github.com/nalgeon/sqlean/tree/main/docs"
	sqlcipher   = "zetetic.net/sqlcipher/sqlcipher-api/"
	crsql       = "vlcn.io/docs/cr-sqlite/api-methods/"
	spatialite  = "gaia-gis.it/gaia-sins/spatialite-sql-latest.html"
)

// functionsMySQL lists the functions of MySQL, MariaDB, their relatives and their better known extensions.
//
// Left out, because a slave's answer is as good or because they only wait: MASTER_POS_WAIT and its kin, SLEEP, UUID, RAND,
// USER, DATABASE, VERSION.
var functionsMySQL = []function{
	// What the connection did before.
	{"last_insert_id", Stateful, information},
	{"found_rows", Stateful, information},
	{"row_count", Stateful, information},
	{"connection_id", Stateful, information},
	{"current_role", Stateful, information},
	{"database", Stateful, information}, // USE changes it; and the Migrator asks for it
	{"schema", Stateful, information},
	{"lastval", Stateful, sequences},
	{"callastinsertid", Stateful, columnStore},
	{"calgetstats", Stateful, columnStore},
	{"calgettrace", Stateful, columnStore},
	{"calsettrace", Stateful, columnStore},
	{"wsrep_last_written_gtid", Stateful, galera},
	{"wsrep_last_seen_gtid", Stateful, galera},
	{"mle_session_state", Stateful, mle},
	{"mle_session_reset", Stateful, mle},
	{"mle_set_session_state", Stateful, mle},

	// Locks of one server.
	{"get_lock", Stateful, locking},
	{"release_lock", Stateful, locking},
	{"release_all_locks", Stateful, locking},
	{"is_free_lock", Stateful, locking},
	{"is_used_lock", Stateful, locking},
	{"service_get_read_locks", Stateful, lockService},
	{"service_get_write_locks", Stateful, lockService},
	{"service_release_locks", Stateful, lockService},
	{"version_tokens_lock_shared", Stateful, versionToken},
	{"version_tokens_lock_exclusive", Stateful, versionToken},
	{"version_tokens_unlock", Stateful, versionToken},
	{"version_tokens_show", Stateful, versionToken},

	// Threads, files and logs of one server.
	{"ps_current_thread_id", Stateful, perfSchema},
	{"ps_thread_id", Stateful, perfSchema},
	{"ps_is_thread_instrumented", Stateful, sysSchema},
	{"ps_thread_account", Stateful, sysSchema},
	{"ps_thread_stack", Stateful, sysSchema},
	{"ps_thread_trx_info", Stateful, sysSchema},
	{"load_file", Stateful, refman + "string-functions.html"},
	{"binlog_gtid_pos", Stateful, mariadb + "binlog_gtid_pos/"},
	{"audit_log_read", Stateful, auditLog},
	{"audit_log_read_bookmark", Stateful, auditLog},
	{"get_binlog_by_gtid", Stateful, percona},
	{"get_last_gtid_from_binlog", Stateful, percona},
	{"get_gtid_set_by_binlog", Stateful, percona},
	{"get_binlog_by_gtid_set", Stateful, percona},
	{"get_first_record_timestamp_by_binlog", Stateful, percona},
	{"get_last_record_timestamp_by_binlog", Stateful, percona},

	// Sequences.
	{"nextval", Write, sequences},
	{"setval", Write, sequences},

	// Administration by function.
	{"version_tokens_set", Write, versionToken},
	{"version_tokens_edit", Write, versionToken},
	{"version_tokens_delete", Write, versionToken},
	{"audit_api_message_emit_udf", Write, loadable},
	{"audit_log_encryption_password_set", Write, auditLog},
	{"audit_log_filter_flush", Write, auditLog},
	{"audit_log_filter_remove_filter", Write, auditLog},
	{"audit_log_filter_remove_user", Write, auditLog},
	{"audit_log_filter_set_filter", Write, auditLog},
	{"audit_log_filter_set_user", Write, auditLog},
	{"audit_log_rotate", Write, auditLog},
	{"firewall_group_delist", Write, firewall},
	{"firewall_group_enlist", Write, firewall},
	{"mysql_firewall_flush_status", Write, firewall},
	{"read_firewall_group_allowlist", Write, firewall},
	{"read_firewall_groups", Write, firewall},
	{"read_firewall_users", Write, firewall},
	{"read_firewall_whitelist", Write, firewall},
	{"set_firewall_group_mode", Write, firewall},
	{"set_firewall_mode", Write, firewall},
	{"load_rewrite_rules", Write, rewriter},
	{"asynchronous_connection_failover_add_managed", Write, failover},
	{"asynchronous_connection_failover_add_source", Write, failover},
	{"asynchronous_connection_failover_delete_managed", Write, failover},
	{"asynchronous_connection_failover_delete_source", Write, failover},
	{"asynchronous_connection_failover_reset", Write, failover},
	{"group_replication_disable_member_action", Write, groupRepl},
	{"group_replication_enable_member_action", Write, groupRepl},
	{"group_replication_reset_member_actions", Write, groupRepl},
	{"group_replication_set_as_primary", Write, groupRepl},
	{"group_replication_set_communication_protocol", Write, groupRepl},
	{"group_replication_set_write_concurrency", Write, groupRepl},
	{"group_replication_switch_to_multi_primary_mode", Write, groupRepl},
	{"group_replication_switch_to_single_primary_mode", Write, groupRepl},
	{"keyring_key_generate", Write, keyring},
	{"keyring_key_remove", Write, keyring},
	{"keyring_key_store", Write, keyring},
	{"keyring_aws_rotate_cmk", Write, keyringOther},
	{"keyring_aws_rotate_keys", Write, keyringOther},
	{"keyring_hashicorp_update_config", Write, keyringOther},
	{"gen_dictionary_drop", Write, loadable},
	{"gen_dictionary_load", Write, loadable},
	{"masking_dictionaries_flush", Write, masking},
	{"masking_dictionary_remove", Write, masking},
	{"masking_dictionary_term_add", Write, masking},
	{"masking_dictionary_term_remove", Write, masking},

	// Storage engines of MariaDB.
	{"spider_direct_sql", Write, spider},
	{"spider_bg_direct_sql", Write, spider},
	{"spider_copy_tables", Write, spider},
	{"spider_flush_table_mon_cache", Write, spider},
	{"mroonga_command", Write, mroonga},
	{"jfile_make", Write, connectJSON},
	{"jfile_convert", Write, connectJSON},
	{"bfile_make", Write, connectJSON},
	{"bfile_convert", Write, connectJSON},
	{"calflushcache", Write, columnStore},
	{"calsetparms", Write, columnStore},
	{"calcleartablelock", Write, columnStore},
	{"caldroppartitions", Write, columnStore},
	{"caldroppartitionsbyvalue", Write, columnStore},
	{"caldisablepartitions", Write, columnStore},
	{"caldisablepartitionsbyvalue", Write, columnStore},
	{"calenablepartitions", Write, columnStore},
	{"calenablepartitionsbyvalue", Write, columnStore},

	// The world outside.
	{"lambda_sync", Write, aurora},
	{"lambda_async", Write, aurora},
	{"sys_exec", Write, udfSys},
	{"sys_eval", Write, udfSys},
	{"sys_bineval", Write, udfSys},
	{"sys_set", Write, udfSys},
	{"memc_set", Write, udfMemcache},
	{"memc_set_by_key", Write, udfMemcache},
	{"memc_add", Write, udfMemcache},
	{"memc_add_by_key", Write, udfMemcache},
	{"memc_replace", Write, udfMemcache},
	{"memc_replace_by_key", Write, udfMemcache},
	{"memc_append", Write, udfMemcache},
	{"memc_append_by_key", Write, udfMemcache},
	{"memc_prepend", Write, udfMemcache},
	{"memc_prepend_by_key", Write, udfMemcache},
	{"memc_cas", Write, udfMemcache},
	{"memc_cas_by_key", Write, udfMemcache},
	{"memc_delete", Write, udfMemcache},
	{"memc_delete_by_key", Write, udfMemcache},
	{"memc_increment", Write, udfMemcache},
	{"memc_decrement", Write, udfMemcache},
	{"memc_servers_set", Write, udfMemcache},
	{"memc_servers_behavior_set", Write, udfMemcache},
	{"gman_do", Write, udfGearman},
	{"gman_do_high", Write, udfGearman},
	{"gman_do_low", Write, udfGearman},
	{"gman_do_background", Write, udfGearman},
	{"gman_do_high_background", Write, udfGearman},
	{"gman_do_low_background", Write, udfGearman},
	{"gman_servers_set", Write, udfGearman},
}

// connectionVariables are those system variables, asked for as @@name, whose value belongs to one connection: what it did
// before, what it did to itself, who it is. @@session.name and @@local.name are that in so many words.
var connectionVariables = set(
	"session", "local",
	"autocommit",
	"error_count",
	"external_user",
	"gtid_next",
	"gtid_owned",
	"gtid_seq_no",
	"identity",
	"immediate_server_version",
	"in_transaction",
	"insert_id",
	"last_gtid",
	"last_insert_id",
	"original_commit_timestamp",
	"original_server_version",
	"proxy_user",
	"pseudo_replica_mode",
	"pseudo_slave_mode",
	"pseudo_thread_id",
	"rand_seed1",
	"rand_seed2",
	"skip_replication",
	"sql_log_bin",
	"statement_id",
	"timestamp",
	"warning_count",
	"wsrep_trx_fragment_size",
)

// functionsSQLite lists the functions of SQLite, of its shell and of its better known extensions.
var functionsSQLite = []function{
	{"last_insert_rowid", Stateful, sqliteCore},
	{"changes", Stateful, sqliteCore},
	{"total_changes", Stateful, sqliteCore},
	{"load_extension", Write, sqliteCore},
	{"writefile", Write, sqliteShell},
	{"edit", Write, sqliteShell},
	{"fts3_tokenizer", Write, sqliteFTS},
	{"optimize", Write, sqliteFTS},
	{"eval", Write, sqliteExt},
	{"sha3_query", Write, sqliteExt}, // runs the SQL it is given
	{"sha1_query", Write, sqliteExt},
	{"define", Write, sqlean},
	{"define_free", Write, sqlean},
	{"undefine", Write, sqlean},
	{"fileio_append", Write, sqlean},
	{"fileio_mkdir", Write, sqlean},
	{"fileio_symlink", Write, sqlean},
	{"fileio_write", Write, sqlean},
	{"mkdir", Write, sqlean},
	{"symlink", Write, sqlean},
	{"sqlcipher_export", Write, sqlcipher},
	{"crsql_as_crr", Write, crsql},
	{"crsql_as_table", Write, crsql},
	{"crsql_begin_alter", Write, crsql},
	{"crsql_commit_alter", Write, crsql},
	{"crsql_finalize", Write, crsql},

	{"initspatialmetadata", Write, spatialite},
	{"initspatialmetadatafull", Write, spatialite},
	{"initadvancedmetadata", Write, spatialite},
	{"insertepsgsrid", Write, spatialite},
	{"addgeometrycolumn", Write, spatialite},
	{"addtemporarygeometrycolumn", Write, spatialite},
	{"recovergeometrycolumn", Write, spatialite},
	{"discardgeometrycolumn", Write, spatialite},
	{"registervirtualgeometry", Write, spatialite},
	{"dropvirtualgeometry", Write, spatialite},
	{"disablespatialindex", Write, spatialite},
	{"recoverspatialindex", Write, spatialite},
	{"rebuildgeometrytriggers", Write, spatialite},
	{"upgradegeometrytriggers", Write, spatialite},
	{"updatelayerstatistics", Write, spatialite},
	{"invalidatelayerstatistics", Write, spatialite},
	{"addvirtualtableextent", Write, spatialite},
	{"removevirtualtableextent", Write, spatialite},
	{"removeduplicaterows", Write, spatialite},
	{"elementarygeometries", Write, spatialite},
	{"clonetable", Write, spatialite},
	{"droptable", Write, spatialite},
	{"dropgeotable", Write, spatialite},
	{"renametable", Write, spatialite},
	{"renamecolumn", Write, spatialite},
	{"autofdostart", Write, spatialite},
	{"autofdostop", Write, spatialite},
	{"autogpkgstart", Write, spatialite},
	{"autogpkgstop", Write, spatialite},
	{"dropnetwork", Write, spatialite},
	{"droptopology", Write, spatialite},
	{"sqlproc_execute", Write, spatialite},
	{"sqlproc_executeloop", Write, spatialite},
	{"storedproc_createtables", Write, spatialite},
	{"storedproc_delete", Write, spatialite},
	{"storedproc_execute", Write, spatialite},
	{"storedproc_executeloop", Write, spatialite},
	{"storedproc_register", Write, spatialite},
	{"storedproc_update_sql", Write, spatialite},
	{"storedproc_update_title", Write, spatialite},
	{"storedvar_delete", Write, spatialite},
	{"storedvar_register", Write, spatialite},
	{"storedvar_updatetitle", Write, spatialite},
	{"storedvar_updatevalue", Write, spatialite},
	{"st_addedgemodface", Write, spatialite},
	{"st_addedgenewfaces", Write, spatialite},
	{"st_addisoedge", Write, spatialite},
	{"st_addisonetnode", Write, spatialite},
	{"st_addisonode", Write, spatialite},
	{"st_addlink", Write, spatialite},
	{"st_changeedgegeom", Write, spatialite},
	{"st_changelinkgeom", Write, spatialite},
	{"st_createtopogeo", Write, spatialite},
	{"st_inittopogeo", Write, spatialite},
	{"st_inittoponet", Write, spatialite},
	{"st_lognetfromtgeo", Write, spatialite},
	{"st_modedgeheal", Write, spatialite},
	{"st_modedgesplit", Write, spatialite},
	{"st_modgeolinksplit", Write, spatialite},
	{"st_modlinkheal", Write, spatialite},
	{"st_modloglinksplit", Write, spatialite},
	{"st_moveisonetnode", Write, spatialite},
	{"st_moveisonode", Write, spatialite},
	{"st_newedgeheal", Write, spatialite},
	{"st_newedgessplit", Write, spatialite},
	{"st_newgeolinksplit", Write, spatialite},
	{"st_newlinkheal", Write, spatialite},
	{"st_newloglinksplit", Write, spatialite},
	{"st_remedgemodface", Write, spatialite},
	{"st_remedgenewface", Write, spatialite},
	{"st_remisoedge", Write, spatialite},
	{"st_remisonetnode", Write, spatialite},
	{"st_remisonode", Write, spatialite},
	{"st_remlink", Write, spatialite},
	{"st_spatnetfromgeom", Write, spatialite},
	{"st_spatnetfromtgeo", Write, spatialite},
}

// writerPrefixesSQLite are beginnings of the names of SpatiaLite's functions that write, where listing them would be
// long: CreateSpatialIndex, ImportSHP, ExportGeoJSON, gpkgCreateTilesTable, SE_RegisterVectorCoverage, TopoGeo_AddPoint.
var writerPrefixesSQLite = []string{
	"create", "import", "export", "gpkgadd", "gpkgcreate", "gpkginsert", "se_", "topogeo_", "toponet_", "wms_",
}

// readingPragmas read, with an argument (the name of a table or an index) and without one (sqlite.org/pragma.html).
var readingPragmas = set(
	"collation_list", "compile_options", "database_list", "foreign_key_check", "foreign_key_list", "function_list",
	"index_info", "index_list", "index_xinfo", "integrity_check", "module_list", "pragma_list", "quick_check",
	"table_info", "table_list", "table_xinfo",
)

// questionPragmas read as long as they have no argument; with one they write.
var questionPragmas = set(
	"application_id", "auto_vacuum", "encoding", "freelist_count", "max_page_count", "page_count", "page_size",
	"schema_version", "user_version",
)

// connectionPragmas read or change a setting of one connection, and nothing of the database.
var connectionPragmas = set(
	"busy_timeout", "case_sensitive_like", "data_version", "defer_foreign_keys", "foreign_keys", "ignore_check_constraints",
	"query_only", "read_uncommitted", "recursive_triggers", "reverse_unordered_selects",
)

var (
	callsMySQL  = byName(functionsMySQL)
	callsSQLite = byName(functionsSQLite)
)

func byName(functions []function) map[string]Kind {
	m := make(map[string]Kind, len(functions))
	for _, f := range functions {
		m[f.name] = f.kind
	}
	return m
}

func set(names ...string) map[string]bool {
	m := make(map[string]bool, len(names))
	for _, n := range names {
		m[n] = true
	}
	return m
}
