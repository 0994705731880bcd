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
	redoLog      = refman + "innodb-redo-log.html"
	openFiles    = refman + "innodb-parameters.html"

	optionTracker = "dev.mysql.com/doc/refman/9.3/en/option-tracker-component-functions.html"

	mle = "dev.mysql.com/doc/refman/9.3/en/mle-component-functions.html"

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

	pgManual         = "postgresql.org/docs/18/"
	pgSequence       = pgManual + "functions-sequence.html"
	pgInformation    = pgManual + "functions-info.html"
	pgAdministration = pgManual + "functions-admin.html"
	pgXML            = pgManual + "functions-xml.html"
	pgTextSearch     = pgManual + "functions-textsearch.html"
	pgLargeObjects   = pgManual + "lo-funcs.html"
	pgStatistics     = pgManual + "monitoring-stats.html"
	pgDblink         = pgManual + "dblink.html"
	pgBackup         = "postgresql.org/docs/14/functions-admin.html"
	pgAdminpack      = "postgresql.org/docs/16/adminpack.html"
	pgProc           = "github.com/postgres/postgres/blob/master/src/include/catalog/pg_proc.dat"

	postgis         = "postgis.net/docs/reference.html"
	postgisRaster   = "postgis.net/docs/RT_reference.html"
	postgisTopology = "postgis.net/docs/Topology.html"
	pgRouting       = "docs.pgrouting.org/latest/en/"
	timescale       = "docs.tigerdata.com/api/latest/"
	citus           = "docs.citusdata.com/en/stable/develop/api_udf.html"
	age             = "age.apache.org/age-manual/master/"
	hypopg          = "hypopg.readthedocs.io"
	orafce          = "github.com/orafce/orafce"
	pgai            = "github.com/timescale/pgai/tree/main/docs"
	pgHTTP          = "github.com/pramsey/pgsql-http"
	pgMemcache      = "github.com/ohmu/pgmemcache"
	pgIVM           = "github.com/sraoss/pg_ivm"
	pgStatMonitor   = "docs.percona.com/pg-stat-monitor/"
	pgVariables     = "github.com/postgrespro/pg_variables"
	plv8            = "plv8.github.io"
	powa            = "powa.readthedocs.io/en/latest/components/stats_extensions/"
)

// functionsMySQL lists the functions of MySQL, MariaDB, their relatives and their better known extensions.
//
// Left out, because a slave's answer is as good or because they only wait: MASTER_POS_WAIT and its kin,
// SLEEP, UUID, RAND, USER, DATABASE, VERSION.
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
	{"get_lock", Locking, locking},
	{"release_lock", Locking, locking},
	{"release_all_locks", Locking, locking},
	{"is_free_lock", Locking, locking},
	{"is_used_lock", Locking, locking},
	{"service_get_read_locks", Locking, lockService},
	{"service_get_write_locks", Locking, lockService},
	{"service_release_locks", Locking, lockService},
	{"version_tokens_lock_shared", Locking, versionToken},
	{"version_tokens_lock_exclusive", Locking, versionToken},
	{"version_tokens_unlock", Locking, versionToken},

	// Threads, files and logs of one server.
	{"version_tokens_show", Stateful, versionToken},
	{"ps_current_thread_id", Stateful, perfSchema},
	{"ps_thread_id", Stateful, perfSchema},
	{"ps_is_thread_instrumented", Stateful, sysSchema},
	{"ps_thread_account", Stateful, sysSchema},
	{"ps_thread_stack", Write, sysSchema}, // switches the instruments of its own thread off
	{"ps_thread_trx_info", Stateful, sysSchema},
	{"format_statement", Stateful, sysSchema}, // keeps a setting in @sys.statement_truncate_len
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
	{"innodb_redo_log_archive_start", Write, redoLog},
	{"innodb_redo_log_archive_stop", Write, redoLog},
	{"innodb_redo_log_archive_flush", Write, redoLog},
	{"innodb_redo_log_consumer_register", Write, redoLog},
	{"innodb_redo_log_consumer_unregister", Write, redoLog},
	{"innodb_redo_log_consumer_advance", Write, redoLog},
	{"innodb_redo_log_sharp_checkpoint", Write, redoLog},
	{"innodb_set_open_files_limit", Write, openFiles},
	{"option_tracker_option_register", Write, optionTracker},
	{"option_tracker_option_unregister", Write, optionTracker},
	{"option_tracker_usage_set", Write, optionTracker},
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

// connectionVariables are those system variables, asked for as @@name, whose value belongs to one connection:
// what it did before, what it did to itself, who it is. @@session.name and @@local.name are that in so many
// words.
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

// writerPrefixesSQLite are beginnings of the names of SpatiaLite's functions that write, where listing them
// would be long: CreateSpatialIndex, ImportSHP, ExportGeoJSON, gpkgCreateTilesTable,
// SE_RegisterVectorCoverage, TopoGeo_AddPoint.
var writerPrefixesSQLite = []string{
	"create", "import", "export", "gpkgadd", "gpkgcreate", "gpkginsert", "se_", "topogeo_", "toponet_", "wms_",
}

// readingPragmas read, with an argument (the name of a table or an index) and without one
// (sqlite.org/pragma.html).
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

// functionsPostgreSQL lists the functions of PostgreSQL, of its contrib modules and of better known
// extensions. What is not listed here goes by families; see there.
//
// A function that is listed as Read is one that would be Unknown by its family. Those that tell of whichever
// server answers, and answer on every server, are reads: pg_is_in_recovery is asked by those who want to know
// where they are, as are inet_server_port and version. Those about the server's own position, files, memory,
// logs and connections are Stateful: the answer is the master's, as without slaves, and many of them fail on
// a slave.
var functionsPostgreSQL = []function{
	// What the connection is, or did before.
	{"currval", Stateful, pgSequence},
	{"lastval", Stateful, pgSequence},
	{"current_database", Stateful, pgInformation},
	{"current_schema", Stateful, pgInformation},
	{"current_schemas", Stateful, pgInformation},
	{"current_user", Stateful, pgInformation},
	{"getpgusername", Stateful, pgInformation},
	{"inet_client_addr", Stateful, pgInformation},
	{"inet_client_port", Stateful, pgInformation},
	{"pg_backend_pid", Stateful, pgInformation},
	{"pg_conf_load_time", Stateful, pgInformation}, // when this connection noticed
	{"pg_current_xact_id_if_assigned", Stateful, pgInformation},
	{"pg_is_other_temp_schema", Stateful, pgInformation},
	{"pg_listening_channels", Stateful, pgInformation},
	{"pg_my_temp_schema", Stateful, pgInformation},
	{"pg_trigger_depth", Stateful, pgInformation},
	{"row_security_active", Stateful, pgInformation},
	{"txid_current_if_assigned", Stateful, pgInformation},
	{"current_setting", Stateful, pgAdministration},
	{"set_config", Stateful, pgAdministration},
	{"setseed", Stateful, pgManual + "functions-math.html"},
	{"pg_client_encoding", Stateful, pgManual + "functions-string.html"},
	{"pg_cursor", Stateful, pgManual + "views.html"},
	{"pg_prepared_statement", Stateful, pgManual + "views.html"},
	{"cursor_to_xml", Stateful, pgXML},
	{"cursor_to_xmlschema", Stateful, pgXML},
	{"lo_close", Stateful, pgLargeObjects},
	{"lo_lseek", Stateful, pgLargeObjects},
	{"lo_lseek64", Stateful, pgLargeObjects},
	{"lo_open", Unknown, pgLargeObjects}, // may open to write; Stateful if its arguments show that it does not
	{"lo_tell", Stateful, pgLargeObjects},
	{"lo_tell64", Stateful, pgLargeObjects},
	{"loread", Stateful, pgLargeObjects},
	{"ssl_cipher", Stateful, pgManual + "sslinfo.html"},
	{"ssl_client_cert_present", Stateful, pgManual + "sslinfo.html"},
	{"ssl_client_dn", Stateful, pgManual + "sslinfo.html"},
	{"ssl_client_dn_field", Stateful, pgManual + "sslinfo.html"},
	{"ssl_client_serial", Stateful, pgManual + "sslinfo.html"},
	{"ssl_extension_info", Stateful, pgManual + "sslinfo.html"},
	{"ssl_is_used", Stateful, pgManual + "sslinfo.html"},
	{"ssl_issuer_dn", Stateful, pgManual + "sslinfo.html"},
	{"ssl_issuer_field", Stateful, pgManual + "sslinfo.html"},
	{"ssl_version", Stateful, pgManual + "sslinfo.html"},
	{"set_limit", Stateful, pgManual + "pgtrgm.html"},
	{"show_limit", Stateful, pgManual + "pgtrgm.html"},
	{"dblink_close", Stateful, pgDblink},
	{"dblink_connect", Stateful, pgDblink},
	{"dblink_connect_u", Stateful, pgDblink},
	{"dblink_disconnect", Stateful, pgDblink},
	{"dblink_error_message", Stateful, pgDblink},
	{"dblink_fetch", Stateful, pgDblink},
	{"dblink_get_connections", Stateful, pgDblink},
	{"dblink_get_notify", Stateful, pgDblink},
	{"dblink_get_result", Stateful, pgDblink},
	{"dblink_is_busy", Stateful, pgDblink},
	{"postgres_fdw_disconnect", Stateful, pgManual + "postgres-fdw.html"},
	{"postgres_fdw_disconnect_all", Stateful, pgManual + "postgres-fdw.html"},
	{"postgres_fdw_get_connections", Stateful, pgManual + "postgres-fdw.html"},
	{"plv8_reset", Stateful, plv8},
	{"http_list_curlopt", Stateful, pgHTTP},
	{"http_reset_curlopt", Stateful, pgHTTP},
	{"http_set_curlopt", Stateful, pgHTTP},

	// Locks of one server. (The advisory ones are a family.)
	{"pg_blocking_pids", Stateful, pgInformation},
	{"pg_safe_snapshot_blocking_pids", Stateful, pgInformation},
	{"pg_isolation_test_session_is_blocked", Stateful, pgProc},
	{"pg_lock_status", Stateful, pgProc},
	{"pgrowlocks", Stateful, pgManual + "pgrowlocks.html"},
	{"bt_index_parent_check", Locking, pgManual + "amcheck.html"},

	// Position, transactions, files, memory and logs of one server.
	{"pg_available_wal_summaries", Stateful, pgInformation},
	{"pg_last_committed_xact", Stateful, pgInformation},
	{"pg_get_loaded_modules", Stateful, pgInformation},
	{"pg_notification_queue_usage", Stateful, pgInformation},
	{"pg_wal_summary_contents", Stateful, pgInformation},
	{"pg_xact_status", Stateful, pgInformation},
	{"txid_status", Stateful, pgInformation},
	{"pg_current_logfile", Stateful, pgInformation},
	{"pg_collation_actual_version", Stateful, pgAdministration},
	{"pg_database_collation_actual_version", Stateful, pgAdministration},
	{"pg_logical_slot_peek_binary_changes", Stateful, pgAdministration},
	{"pg_logical_slot_peek_changes", Stateful, pgAdministration},
	{"pg_read_binary_file", Stateful, pgAdministration},
	{"pg_read_file", Stateful, pgAdministration},
	{"pg_replication_origin_progress", Stateful, pgAdministration},
	{"pg_replication_origin_session_is_setup", Stateful, pgAdministration},
	{"pg_replication_origin_session_progress", Stateful, pgAdministration},
	{"pg_walfile_name", Stateful, pgAdministration},
	{"pg_walfile_name_offset", Stateful, pgAdministration},
	{"pg_backup_start_time", Stateful, pgBackup},
	{"pg_is_in_backup", Stateful, pgBackup},
	{"pg_available_extension_versions", Stateful, pgManual + "views.html"},
	{"pg_available_extensions", Stateful, pgManual + "views.html"},
	{"pg_config", Stateful, pgManual + "views.html"},
	{"pg_hba_file_rules", Stateful, pgManual + "views.html"},
	{"pg_ident_file_mappings", Stateful, pgManual + "views.html"},
	{"pg_prepared_xact", Stateful, pgManual + "views.html"},
	{"pg_get_aios", Stateful, pgProc},
	{"pg_get_backend_memory_contexts", Stateful, pgProc},
	{"pg_get_multixact_members", Stateful, pgProc},
	{"pg_get_replication_slots", Stateful, pgProc},
	{"pg_get_shmem_allocations", Stateful, pgProc},
	{"pg_get_shmem_allocations_numa", Stateful, pgProc},
	{"pg_read_file_old", Stateful, pgProc},
	{"pg_freespace", Stateful, pgManual + "pgfreespacemap.html"},
	{"pg_prewarm", Stateful, pgManual + "pgprewarm.html"},
	{"pg_check_frozen", Stateful, pgManual + "pgvisibility.html"},
	{"pg_check_visible", Stateful, pgManual + "pgvisibility.html"},
	{"pg_visibility", Stateful, pgManual + "pgvisibility.html"},
	{"pg_visibility_map", Stateful, pgManual + "pgvisibility.html"},
	{"pg_visibility_map_summary", Stateful, pgManual + "pgvisibility.html"},
	{"pg_file_length", Stateful, pgAdminpack},
	{"pg_file_read", Stateful, pgAdminpack},
	{"pg_logdir_ls", Stateful, pgAdminpack},
	{"pg_old_snapshot_time_mapping", Stateful, "postgresql.org/docs/16/oldsnapshot.html"},
	{"pg_get_logical_snapshot_info", Stateful, pgManual + "pglogicalinspect.html"},
	{"pg_get_logical_snapshot_meta", Stateful, pgManual + "pglogicalinspect.html"},

	// The catalog.
	{"col_description", Catalog, pgInformation},
	{"format_type", Catalog, pgInformation},
	{"has_any_column_privilege", Catalog, pgInformation},
	{"has_column_privilege", Catalog, pgInformation},
	{"has_database_privilege", Catalog, pgInformation},
	{"has_foreign_data_wrapper_privilege", Catalog, pgInformation},
	{"has_function_privilege", Catalog, pgInformation},
	{"has_language_privilege", Catalog, pgInformation},
	{"has_largeobject_privilege", Catalog, pgInformation},
	{"has_parameter_privilege", Catalog, pgInformation},
	{"has_schema_privilege", Catalog, pgInformation},
	{"has_sequence_privilege", Catalog, pgInformation},
	{"has_server_privilege", Catalog, pgInformation},
	{"has_table_privilege", Catalog, pgInformation},
	{"has_tablespace_privilege", Catalog, pgInformation},
	{"has_type_privilege", Catalog, pgInformation},
	{"obj_description", Catalog, pgInformation},
	{"pg_basetype", Catalog, pgInformation},
	{"pg_collation_is_visible", Catalog, pgInformation},
	{"pg_conversion_is_visible", Catalog, pgInformation},
	{"pg_function_is_visible", Catalog, pgInformation},
	{"pg_opclass_is_visible", Catalog, pgInformation},
	{"pg_operator_is_visible", Catalog, pgInformation},
	{"pg_opfamily_is_visible", Catalog, pgInformation},
	{"pg_statistics_obj_is_visible", Catalog, pgInformation},
	{"pg_table_is_visible", Catalog, pgInformation},
	{"pg_ts_config_is_visible", Catalog, pgInformation},
	{"pg_ts_dict_is_visible", Catalog, pgInformation},
	{"pg_ts_parser_is_visible", Catalog, pgInformation},
	{"pg_ts_template_is_visible", Catalog, pgInformation},
	{"pg_type_is_visible", Catalog, pgInformation},
	{"pg_describe_object", Catalog, pgInformation},
	{"pg_has_role", Catalog, pgInformation},
	{"pg_identify_object", Catalog, pgInformation},
	{"pg_identify_object_as_address", Catalog, pgInformation},
	{"pg_index_column_has_property", Catalog, pgInformation},
	{"pg_index_has_property", Catalog, pgInformation},
	{"pg_indexam_has_property", Catalog, pgInformation},
	{"pg_options_to_table", Catalog, pgInformation},
	{"pg_settings_get_flags", Catalog, pgInformation},
	{"pg_tablespace_databases", Catalog, pgInformation},
	{"pg_tablespace_location", Catalog, pgInformation},
	{"shobj_description", Catalog, pgInformation},
	{"to_regclass", Catalog, pgInformation},
	{"to_regcollation", Catalog, pgInformation},
	{"to_regnamespace", Catalog, pgInformation},
	{"to_regoper", Catalog, pgInformation},
	{"to_regoperator", Catalog, pgInformation},
	{"to_regproc", Catalog, pgInformation},
	{"to_regprocedure", Catalog, pgInformation},
	{"to_regrole", Catalog, pgInformation},
	{"to_regtype", Catalog, pgInformation},
	{"to_regtypemod", Catalog, pgInformation},
	{"pg_filenode_relation", Catalog, pgAdministration},
	{"pg_partition_ancestors", Catalog, pgAdministration},
	{"pg_partition_root", Catalog, pgAdministration},
	{"pg_partition_tree", Catalog, pgAdministration},
	{"pg_relation_filenode", Catalog, pgAdministration},
	{"pg_relation_filepath", Catalog, pgAdministration},
	{"pg_replication_origin_oid", Catalog, pgAdministration},
	{"regclass", Catalog, pgManual + "datatype-oid.html"},
	{"regcollation", Catalog, pgManual + "datatype-oid.html"},
	{"regnamespace", Catalog, pgManual + "datatype-oid.html"},
	{"regoper", Catalog, pgManual + "datatype-oid.html"},
	{"regoperator", Catalog, pgManual + "datatype-oid.html"},
	{"regproc", Catalog, pgManual + "datatype-oid.html"},
	{"regprocedure", Catalog, pgManual + "datatype-oid.html"},
	{"regrole", Catalog, pgManual + "datatype-oid.html"},
	{"regtype", Catalog, pgManual + "datatype-oid.html"},
	{"pg_extension_update_paths", Catalog, pgManual + "extend-extensions.html"},
	{"pg_column_is_updatable", Catalog, pgProc},
	{"pg_relation_is_publishable", Catalog, pgProc},
	{"pg_relation_is_updatable", Catalog, pgProc},
	{"pg_sequence_last_value", Catalog, pgProc},
	{"pg_sequence_parameters", Catalog, pgProc},
	{"database_to_xml", Catalog, pgXML},
	{"database_to_xml_and_xmlschema", Catalog, pgXML},
	{"database_to_xmlschema", Catalog, pgXML},
	{"schema_to_xml", Catalog, pgXML},
	{"schema_to_xml_and_xmlschema", Catalog, pgXML},
	{"schema_to_xmlschema", Catalog, pgXML},
	{"dblink_get_pkey", Catalog, pgDblink},

	// Reads.
	{"pg_get_wal_replay_pause_state", Read, pgAdministration},
	{"pg_is_in_recovery", Read, pgAdministration},
	{"pg_is_wal_replay_paused", Read, pgAdministration},
	{"pg_last_wal_receive_lsn", Read, pgAdministration},
	{"pg_last_wal_replay_lsn", Read, pgAdministration},
	{"pg_last_xact_replay_timestamp", Read, pgAdministration},
	{"pg_jit_available", Read, pgInformation},
	{"pg_numa_available", Read, pgInformation},
	{"pg_postmaster_start_time", Read, pgInformation},
	{"pg_char_to_encoding", Read, pgInformation},
	{"pg_collation_for", Read, pgInformation},
	{"pg_current_snapshot", Read, pgInformation},
	{"pg_encoding_to_char", Read, pgInformation},
	{"pg_input_error_info", Read, pgInformation},
	{"pg_input_is_valid", Read, pgInformation},
	{"pg_typeof", Read, pgInformation},
	{"pg_visible_in_snapshot", Read, pgInformation},
	{"pg_xact_commit_timestamp", Read, pgInformation},
	{"pg_xact_commit_timestamp_origin", Read, pgInformation},
	{"pg_column_compression", Read, pgAdministration},
	{"pg_column_size", Read, pgAdministration},
	{"pg_column_toast_chunk_id", Read, pgAdministration},
	{"pg_database_size", Read, pgAdministration},
	{"pg_indexes_size", Read, pgAdministration},
	{"pg_relation_size", Read, pgAdministration},
	{"pg_size_bytes", Read, pgAdministration},
	{"pg_size_pretty", Read, pgAdministration},
	{"pg_split_walfile_name", Read, pgAdministration},
	{"pg_table_size", Read, pgAdministration},
	{"pg_tablespace_size", Read, pgAdministration},
	{"pg_total_relation_size", Read, pgAdministration},
	{"pg_wal_lsn_diff", Read, pgAdministration},
	{"pg_sleep", Read, pgManual + "functions-datetime.html"},
	{"pg_sleep_for", Read, pgManual + "functions-datetime.html"},
	{"pg_sleep_until", Read, pgManual + "functions-datetime.html"},
	{"pg_timezone_abbrevs", Read, pgManual + "views.html"},
	{"pg_timezone_abbrevs_abbrevs", Read, pgManual + "views.html"},
	{"pg_timezone_abbrevs_zone", Read, pgManual + "views.html"},
	{"pg_timezone_names", Read, pgManual + "views.html"},
	{"pg_relpages", Read, pgManual + "pgstattuple.html"},
	{"pg_encoding_max_length", Read, pgProc},
	{"pg_indexam_progress_phasename", Read, pgProc},
	{"dblink_build_sql_delete", Read, pgDblink},
	{"dblink_build_sql_insert", Read, pgDblink},
	{"dblink_build_sql_update", Read, pgDblink},
	{"dblink_current_query", Read, pgDblink},

	// They run an SQL text, or Cypher, that they are given.
	{"query_to_xml", Unknown, pgXML},
	{"query_to_xml_and_xmlschema", Unknown, pgXML},
	{"query_to_xmlschema", Unknown, pgXML},
	{"ts_rewrite", Unknown, pgTextSearch},
	{"ts_stat", Unknown, pgTextSearch},
	{"connectby", Unknown, pgManual + "tablefunc.html"},
	{"crosstab", Unknown, pgManual + "tablefunc.html"},
	{"crosstab2", Unknown, pgManual + "tablefunc.html"},
	{"crosstab3", Unknown, pgManual + "tablefunc.html"},
	{"crosstab4", Unknown, pgManual + "tablefunc.html"},
	{"xpath_table", Unknown, pgManual + "xml2.html"},
	{"cypher", Unknown, age},
	{"dblink_exec", Write, pgDblink},
	{"dblink_send_query", Write, pgDblink},

	// Sequences, transactions, notifications, large objects.
	{"nextval", Write, pgSequence},
	{"setval", Write, pgSequence},
	{"pg_current_xact_id", Write, pgInformation},
	{"txid_current", Write, pgInformation},
	{"pg_notify", Write, pgManual + "sql-notify.html"},
	{"lo_creat", Write, pgLargeObjects},
	{"lo_create", Write, pgLargeObjects},
	{"lo_export", Write, pgLargeObjects},
	{"lo_from_bytea", Write, pgLargeObjects},
	{"lo_import", Write, pgLargeObjects},
	{"lo_put", Write, pgLargeObjects},
	{"lo_truncate", Write, pgLargeObjects},
	{"lo_truncate64", Write, pgLargeObjects},
	{"lo_unlink", Write, pgLargeObjects},
	{"lowrite", Write, pgLargeObjects},

	// Administration by function. (pg_stat_reset and its kin are a family.)
	{"brin_desummarize_range", Write, pgAdministration},
	{"brin_summarize_new_values", Write, pgAdministration},
	{"brin_summarize_range", Write, pgAdministration},
	{"gin_clean_pending_list", Write, pgAdministration},
	{"pg_backup_start", Write, pgAdministration},
	{"pg_backup_stop", Write, pgAdministration},
	{"pg_cancel_backend", Write, pgAdministration},
	{"pg_clear_attribute_stats", Write, pgAdministration},
	{"pg_clear_relation_stats", Write, pgAdministration},
	{"pg_copy_logical_replication_slot", Write, pgAdministration},
	{"pg_copy_physical_replication_slot", Write, pgAdministration},
	{"pg_create_logical_replication_slot", Write, pgAdministration},
	{"pg_create_physical_replication_slot", Write, pgAdministration},
	{"pg_create_restore_point", Write, pgAdministration},
	{"pg_drop_replication_slot", Write, pgAdministration},
	{"pg_export_snapshot", Write, pgAdministration},
	{"pg_import_system_collations", Write, pgAdministration},
	{"pg_log_backend_memory_contexts", Write, pgAdministration},
	{"pg_log_standby_snapshot", Write, pgAdministration},
	{"pg_logical_emit_message", Write, pgAdministration},
	{"pg_logical_slot_get_binary_changes", Write, pgAdministration},
	{"pg_logical_slot_get_changes", Write, pgAdministration},
	{"pg_promote", Write, pgAdministration},
	{"pg_reload_conf", Write, pgAdministration},
	{"pg_replication_slot_advance", Write, pgAdministration},
	{"pg_restore_attribute_stats", Write, pgAdministration},
	{"pg_restore_relation_stats", Write, pgAdministration},
	{"pg_rotate_logfile", Write, pgAdministration},
	{"pg_switch_wal", Write, pgAdministration},
	{"pg_sync_replication_slots", Write, pgAdministration},
	{"pg_terminate_backend", Write, pgAdministration},
	{"pg_wal_replay_pause", Write, pgAdministration},
	{"pg_wal_replay_resume", Write, pgAdministration},
	{"pg_start_backup", Write, pgBackup},
	{"pg_stop_backup", Write, pgBackup},
	{"pg_extension_config_dump", Write, pgManual + "extend-extensions.html"},
	{"pg_nextoid", Write, pgProc},
	{"pg_rotate_logfile_old", Write, pgProc},
	{"pg_stop_making_pinned_objects", Write, pgProc},
	{"pg_file_rename", Write, pgAdminpack},
	{"pg_file_sync", Write, pgAdminpack},
	{"pg_file_unlink", Write, pgAdminpack},
	{"pg_file_write", Write, pgAdminpack},
	{"pg_logfile_rotate", Write, pgAdminpack},
	{"pg_buffercache_evict", Write, pgManual + "pgbuffercache.html"},
	{"pg_buffercache_evict_all", Write, pgManual + "pgbuffercache.html"},
	{"pg_buffercache_evict_relation", Write, pgManual + "pgbuffercache.html"},
	{"autoprewarm_dump_now", Write, pgManual + "pgprewarm.html"},
	{"autoprewarm_start_worker", Write, pgManual + "pgprewarm.html"},
	{"pg_stat_statements_reset", Write, pgManual + "pgstatstatements.html"},
	{"heap_force_freeze", Write, pgManual + "pgsurgery.html"},
	{"heap_force_kill", Write, pgManual + "pgsurgery.html"},
	{"pg_truncate_visibility_map", Write, pgManual + "pgvisibility.html"},
	{"pg_qualstats_reset", Write, powa},
	{"pg_stat_kcache_reset", Write, powa},
	{"pg_wait_sampling_reset_profile", Write, powa},
	{"pg_stat_monitor_reset", Write, pgStatMonitor},

	// The world outside. (pg_net and the functions of clouds are schemas.)
	{"http", Write, pgHTTP},
	{"http_delete", Write, pgHTTP},
	{"http_patch", Write, pgHTTP},
	{"http_post", Write, pgHTTP},
	{"http_put", Write, pgHTTP},
	{"memcache_add", Write, pgMemcache},
	{"memcache_append", Write, pgMemcache},
	{"memcache_decr", Write, pgMemcache},
	{"memcache_delete", Write, pgMemcache},
	{"memcache_flush_all", Write, pgMemcache},
	{"memcache_incr", Write, pgMemcache},
	{"memcache_prepend", Write, pgMemcache},
	{"memcache_replace", Write, pgMemcache},
	{"memcache_set", Write, pgMemcache},
	{"oracle_execute", Write, "github.com/laurenz/oracle_fdw"},

	// PostGIS. (Its topology editors are a family.)
	{"addgeometrycolumn", Write, postgis},
	{"dropgeometrycolumn", Write, postgis},
	{"dropgeometrytable", Write, postgis},
	{"populate_geometry_columns", Write, postgis},
	{"updategeometrysrid", Write, postgis},
	{"postgis_extensions_upgrade", Write, postgis},
	{"addauth", Write, postgis},
	{"checkauth", Write, postgis},
	{"disablelongtransactions", Write, postgis},
	{"enablelongtransactions", Write, postgis},
	{"lockrow", Write, postgis},
	{"unlockrows", Write, postgis},
	{"addoverviewconstraints", Write, postgisRaster},
	{"addrasterconstraints", Write, postgisRaster},
	{"dropoverviewconstraints", Write, postgisRaster},
	{"droprasterconstraints", Write, postgisRaster},
	{"st_createoverview", Write, postgisRaster},
	{"updaterastersrid", Write, postgisRaster},
	{"addedge", Write, postgisTopology},
	{"addface", Write, postgisTopology},
	{"addnode", Write, postgisTopology},
	{"addtopogeometrycolumn", Write, postgisTopology},
	{"cleartopogeom", Write, postgisTopology},
	{"copytopology", Write, postgisTopology},
	{"createtopogeom", Write, postgisTopology},
	{"createtopology", Write, postgisTopology},
	{"droptopogeometrycolumn", Write, postgisTopology},
	{"droptopology", Write, postgisTopology},
	{"polygonize", Write, postgisTopology},
	{"removeunusedprimitives", Write, postgisTopology},
	{"renametopogeometrycolumn", Write, postgisTopology},
	{"renametopology", Write, postgisTopology},
	{"populate_topology_layer", Write, postgisTopology},
	{"st_addedgemodface", Write, postgisTopology},
	{"st_addedgenewfaces", Write, postgisTopology},
	{"st_addisoedge", Write, postgisTopology},
	{"st_addisonode", Write, postgisTopology},
	{"st_changeedgegeom", Write, postgisTopology},
	{"st_createtopogeo", Write, postgisTopology},
	{"st_inittopogeo", Write, postgisTopology},
	{"st_modedgeheal", Write, postgisTopology},
	{"st_modedgesplit", Write, postgisTopology},
	{"st_moveisonode", Write, postgisTopology},
	{"st_newedgeheal", Write, postgisTopology},
	{"st_newedgessplit", Write, postgisTopology},
	{"st_remedgemodface", Write, postgisTopology},
	{"st_remedgenewface", Write, postgisTopology},
	{"st_remisoedge", Write, postgisTopology},
	{"st_remisonode", Write, postgisTopology},
	{"st_removeisoedge", Write, postgisTopology},
	{"st_removeisonode", Write, postgisTopology},
	{"topogeom_addelement", Write, postgisTopology},
	{"topogeom_addtopogeom", Write, postgisTopology},
	{"topogeom_remelement", Write, postgisTopology},
	{"totopogeom", Write, postgisTopology},
	{"pgr_analyzegraph", Write, pgRouting},
	{"pgr_analyzeoneway", Write, pgRouting},
	{"pgr_createtopology", Write, pgRouting},
	{"pgr_createverticestable", Write, pgRouting},
	{"pgr_nodenetwork", Write, pgRouting},

	// TimescaleDB.
	{"add_compression_policy", Write, timescale},
	{"add_continuous_aggregate_policy", Write, timescale},
	{"add_data_node", Write, timescale},
	{"add_dimension", Write, timescale},
	{"add_job", Write, timescale},
	{"add_policies", Write, timescale},
	{"add_reorder_policy", Write, timescale},
	{"add_retention_policy", Write, timescale},
	{"alter_job", Write, timescale},
	{"alter_policies", Write, timescale},
	{"attach_data_node", Write, timescale},
	{"attach_tablespace", Write, timescale},
	{"compress_chunk", Write, timescale},
	{"create_chunk", Write, timescale},
	{"create_distributed_hypertable", Write, timescale},
	{"create_hypertable", Write, timescale},
	{"decompress_chunk", Write, timescale},
	{"delete_data_node", Write, timescale},
	{"delete_job", Write, timescale},
	{"detach_data_node", Write, timescale},
	{"detach_tablespace", Write, timescale},
	{"detach_tablespaces", Write, timescale},
	{"disable_chunk_skipping", Write, timescale},
	{"drop_chunks", Write, timescale},
	{"enable_chunk_skipping", Write, timescale},
	{"move_chunk", Write, timescale},
	{"recompress_chunk", Write, timescale},
	{"remove_all_policies", Write, timescale},
	{"remove_compression_policy", Write, timescale},
	{"remove_continuous_aggregate_policy", Write, timescale},
	{"remove_policies", Write, timescale},
	{"remove_reorder_policy", Write, timescale},
	{"remove_retention_policy", Write, timescale},
	{"reorder_chunk", Write, timescale},
	{"set_chunk_time_interval", Write, timescale},
	{"set_integer_now_func", Write, timescale},
	{"set_number_partitions", Write, timescale},
	{"set_partitioning_interval", Write, timescale},
	{"timescaledb_post_restore", Write, timescale},
	{"timescaledb_pre_restore", Write, timescale},

	// Citus.
	{"alter_columnar_table_reset", Write, citus},
	{"alter_columnar_table_set", Write, citus},
	{"alter_distributed_table", Write, citus},
	{"alter_old_partitions_set_access_method", Write, citus},
	{"alter_table_set_access_method", Write, citus},
	{"citus_activate_node", Write, citus},
	{"citus_add_inactive_node", Write, citus},
	{"citus_add_local_table_to_metadata", Write, citus},
	{"citus_add_node", Write, citus},
	{"citus_add_rebalance_strategy", Write, citus},
	{"citus_add_secondary_node", Write, citus},
	{"citus_cleanup_orphaned_resources", Write, citus},
	{"citus_copy_shard_placement", Write, citus},
	{"citus_create_restore_point", Write, citus},
	{"citus_disable_node", Write, citus},
	{"citus_drain_node", Write, citus},
	{"citus_job_cancel", Write, citus},
	{"citus_job_wait", Write, citus},
	{"citus_move_shard_placement", Write, citus},
	{"citus_rebalance_start", Write, citus},
	{"citus_rebalance_stop", Write, citus},
	{"citus_rebalance_wait", Write, citus},
	{"citus_remove_node", Write, citus},
	{"citus_schema_distribute", Write, citus},
	{"citus_schema_move", Write, citus},
	{"citus_schema_undistribute", Write, citus},
	{"citus_set_coordinator_host", Write, citus},
	{"citus_set_default_rebalance_strategy", Write, citus},
	{"citus_set_node_property", Write, citus},
	{"citus_split_shard_by_split_points", Write, citus},
	{"citus_stat_statements_reset", Write, citus},
	{"citus_update_node", Write, citus},
	{"create_distributed_function", Write, citus},
	{"create_distributed_table", Write, citus},
	{"create_distributed_table_concurrently", Write, citus},
	{"create_reference_table", Write, citus},
	{"create_time_partitions", Write, citus},
	{"drop_old_time_partitions", Write, citus},
	{"isolate_tenant_to_new_shard", Write, citus},
	{"mark_tables_colocated", Write, citus},
	{"master_activate_node", Write, citus},
	{"master_add_inactive_node", Write, citus},
	{"master_add_node", Write, citus},
	{"master_append_table_to_shard", Write, citus},
	{"master_apply_delete_command", Write, citus},
	{"master_copy_shard_placement", Write, citus},
	{"master_create_distributed_table", Write, citus},
	{"master_create_empty_shard", Write, citus},
	{"master_create_worker_shards", Write, citus},
	{"master_disable_node", Write, citus},
	{"master_drain_node", Write, citus},
	{"master_modify_multiple_shards", Write, citus},
	{"master_move_shard_placement", Write, citus},
	{"master_remove_node", Write, citus},
	{"master_update_node", Write, citus},
	{"rebalance_table_shards", Write, citus},
	{"remove_local_tables_from_metadata", Write, citus},
	{"replicate_table_shards", Write, citus},
	{"run_command_on_all_nodes", Write, citus},
	{"run_command_on_colocated_placements", Write, citus},
	{"run_command_on_coordinator", Write, citus},
	{"run_command_on_placements", Write, citus},
	{"run_command_on_shards", Write, citus},
	{"run_command_on_workers", Write, citus},
	{"start_metadata_sync_to_node", Write, citus},
	{"stop_metadata_sync_to_node", Write, citus},
	{"truncate_local_data_after_distributing_table", Write, citus},
	{"undistribute_table", Write, citus},
	{"update_distributed_table_colocation", Write, citus},
	{"upgrade_to_reference_table", Write, citus},

	// Other extensions.
	{"alter_graph", Write, age},
	{"create_elabel", Write, age},
	{"create_graph", Write, age},
	{"create_vlabel", Write, age},
	{"drop_graph", Write, age},
	{"drop_label", Write, age},
	{"load_edges_from_file", Write, age},
	{"load_labels_from_file", Write, age},
	{"create_immv", Write, pgIVM},
	{"refresh_immv", Write, pgIVM},
	{"create_vectorizer", Write, pgai},
	{"drop_vectorizer", Write, pgai},
}

// familiesPostgreSQL judges the functions that are not listed by the beginnings of their names; the first
// that fits counts. PostgreSQL has some 250 functions whose names begin with pg_: one that is not known here
// may do anything.
var familiesPostgreSQL = []function{
	{"binary_upgrade_", Write, pgManual + "pgupgrade.html"},
	{"dblink", Unknown, pgDblink},
	{"hypopg", Stateful, hypopg},
	{"topogeo_", Write, postgisTopology},
	{"pgv_", Stateful, pgVariables},
	{"pg_advisory_", Locking, pgAdministration},
	{"pg_try_advisory_", Locking, pgAdministration},
	{"pg_buffercache_", Stateful, pgManual + "pgbuffercache.html"},
	{"pg_control_", Stateful, pgInformation},
	{"pg_current_wal_", Stateful, pgAdministration},
	{"pg_ddl_command_", Read, pgProc}, // of types: in, out, recv and send
	{"pg_dependencies_", Read, pgProc},
	{"pg_event_trigger_", Stateful, pgManual + "functions-event-triggers.html"},
	{"pg_get_wal_", Stateful, pgManual + "pgwalinspect.html"},
	{"pg_get_", Catalog, pgInformation},
	{"pg_ls_", Stateful, pgAdministration},
	{"pg_lsn", Read, pgManual + "datatype-pg-lsn.html"},
	{"pg_mcv_list_", Read, pgProc},
	{"pg_ndistinct_", Read, pgProc},
	{"pg_node_tree_", Read, pgProc},
	{"pg_replication_origin_", Write, pgAdministration},
	{"pg_show_", Stateful, pgManual + "views.html"},
	{"pg_snapshot_", Read, pgInformation},
	{"pg_stat_reset", Write, pgStatistics},
	{"pg_stat_", Stateful, pgStatistics},
	{"pg_", Unknown, pgProc},
}

// functionSchemasPostgreSQL lists schemas of extensions whose functions, written with the schema, all count
// alike.
var functionSchemasPostgreSQL = []function{
	{"amqp", Write, "github.com/omniti-labs/pg_amqp"},
	{"apg_plan_mgmt", Write, "docs.aws.amazon.com/AmazonRDS/latest/AuroraUserGuide/AuroraPostgreSQL.Optimize.html"},
	{"aws_lambda", Write, "docs.aws.amazon.com/AmazonRDS/latest/UserGuide/PostgreSQL-Lambda.html"},
	{"aws_s3", Write, "docs.aws.amazon.com/AmazonRDS/latest/UserGuide/postgresql-s3-export.html"},
	{"bdr", Write, "enterprisedb.com/docs/pgd/latest/reference/"},
	{"cron", Write, "github.com/citusdata/pg_cron"},
	{"dbms_alert", Write, orafce},
	{"dbms_output", Stateful, orafce},
	{"dbms_pipe", Write, orafce},
	{"dbms_sql", Unknown, orafce},
	{"utl_file", Write, orafce},
	{"graphql", Unknown, "github.com/supabase/pg_graphql"},
	{"londiste", Write, "github.com/pgq/londiste-sql"},
	{"net", Write, "github.com/supabase/pg_net"},
	{"partman", Write, "github.com/pgpartman/pg_partman/blob/master/doc/pg_partman.md"},
	{"pgivm", Write, pgIVM},
	{"pglogical", Write, "github.com/2ndQuadrant/pglogical"},
	{"pgmq", Write, "pgmq.github.io/pgmq/latest/api/sql/functions"},
	{"pgq", Write, "github.com/pgq/pgq"},
	{"pgq_coop", Write, "github.com/pgq/pgq-coop"},
	{"pgq_node", Write, "github.com/pgq/pgq-node"},
	{"pgtle", Write, "github.com/aws/pg_tle/tree/main/docs"},
	{"repack", Write, "reorg.github.io/pg_repack/"},
	{"repmgr", Write, "repmgr.org/docs/current/"},
	{"spock", Write, "github.com/pgEdge/spock"},
	{"sqlj", Write, "tada.github.io/pljava/use/sqlj.html"},
	{"squeeze", Write, "github.com/cybertec-postgresql/pg_squeeze"},
	{"vault", Write, "github.com/supabase/vault"},
}

// columnNames are functions whose names, behind a dot, are taken for those of columns: f.http is hardly
// http(f).
var columnNames = set("cypher", "http", "polygonize")

// sequenceColumns are those of PostgreSQL's sequences, which can be read like tables.
var sequenceColumns = set("is_called", "last_value", "log_cnt")

// attributesOfState are those Stateful functions of one argument whose names, behind a dot, are not taken for
// those of columns.
var attributesOfState = set(
	"currval", "current_setting", "dblink_close", "dblink_connect", "dblink_disconnect", "lo_close", "lo_tell", "lo_tell64",
	"pgrowlocks", "set_limit", "setseed",
)

// registryTypes are types whose values are looked up in the catalog: 'users'::regclass. They can be called
// like functions, too. regconfig and regdictionary are left out: they are looked up in the catalog, too, but
// by every full-text search.
var registryTypes = set(
	"regclass", "regcollation", "regnamespace", "regoper", "regoperator", "regproc", "regprocedure", "regrole", "regtype",
)

// plainNames are types and views whose names begin with pg_, and which have nothing to do with the catalog.
var plainNames = set(
	"pg_brin_bloom_summary", "pg_brin_minmax_multi_summary", "pg_catalog", "pg_ddl_command", "pg_dependencies", "pg_lsn",
	"pg_mcv_list", "pg_ndistinct", "pg_node_tree", "pg_snapshot", "pg_timezone_abbrevs", "pg_timezone_names",
)

// serverViews are relations of pg_catalog and of contrib modules that show the state of one connection or of
// one server (postgresql.org/docs/18/views.html). Those whose names begin with pg_stat_ or pg_statio_ do,
// too.
var serverViews = set(
	"pg_aios", "pg_available_extension_versions", "pg_available_extensions", "pg_backend_memory_contexts", "pg_buffercache",
	"pg_config", "pg_cursors", "pg_file_settings", "pg_hba_file_rules", "pg_ident_file_mappings", "pg_locks",
	"pg_prepared_statements", "pg_prepared_xacts", "pg_replication_origin_status", "pg_replication_slots", "pg_settings",
	"pg_shmem_allocations", "pg_shmem_allocations_numa",
)

var (
	callsMySQL      = byName(functionsMySQL)
	callsSQLite     = byName(functionsSQLite)
	callsPostgreSQL = byName(functionsPostgreSQL)

	schemasPostgreSQL = byName(functionSchemasPostgreSQL)
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
