package sqlkind

import "testing"

var sqliteTests = []struct {
	name string
	sql  string
	want Kind
}{
	{"find", "SELECT * FROM `users` WHERE `users`.`deleted_at` IS NULL ORDER BY `users`.`id` LIMIT 1", Read},
	{"create", "INSERT INTO `users` (`name`) VALUES (?) RETURNING `id`", Write},
	{"save", "UPDATE `users` SET `name`=? WHERE `id` = ?", Write},
	{"savepoint", "SAVEPOINT sp1", Stateful},
	{"rollback to", "ROLLBACK TO SAVEPOINT sp1", Stateful},
	{"migrator: has table", "SELECT count(*) FROM sqlite_master WHERE type='table' AND name=?", Catalog},
	{"migrator: ddl", "SELECT sql FROM sqlite_master WHERE type IN (?,?) AND tbl_name = ? AND sql IS NOT NULL order by type = ? desc", Catalog},
	{"values", "VALUES (1), (2)", Read},
	{"cte", "WITH x AS (SELECT 1) SELECT * FROM x", Read},
	{"materialized cte", "WITH x(a) AS NOT MATERIALIZED (SELECT 1), y AS MATERIALIZED (SELECT 2) SELECT * FROM x, y", Read},
	{"cte values", "WITH x AS (SELECT 1) VALUES (1)", Read},
	{"cte insert", "WITH x AS (SELECT 1) INSERT INTO t SELECT * FROM x", Write},
	{"cte replace", "WITH x AS (SELECT 1) REPLACE INTO t SELECT * FROM x", Write},
	{"cte update", "WITH x AS (SELECT 1) UPDATE t SET a = 1", Write},
	{"cte delete", "WITH x AS (SELECT 1) DELETE FROM t", Write},
	{"cte of nothing", "WITH x AS (SELECT 1)", Unknown},
	{"explain", "EXPLAIN SELECT 1", Read},
	{"explain query plan", "EXPLAIN QUERY PLAN SELECT 1", Read},
	{"explain insert", "EXPLAIN INSERT INTO t VALUES (1)", Write},
	{"explain explain", "EXPLAIN EXPLAIN SELECT 1", Unknown},
	{"parenthesised", "(SELECT 1)", Unknown},
	{"comment", "/* x */ SELECT 1 -- y", Read},
	{"comment without a blank", "SELECT 1 --x", Read},
	{"dashes are a comment", "SELECT 5--1 FROM t; DELETE FROM t", Read},
	{"comment ends", "SELECT 5--1\n; DELETE FROM t", Write},
	{"open comment", "SELECT 1 /* x", Unknown},
	{"executable comment of MySQL", "SELECT 1 /*! DELETE FROM t */", Read},
	{"hash", "SELECT 1 # x", Unknown},
	{"backslash in a string", `SELECT 'a\', b FROM t`, Read},
	{"backslash does not escape", `SELECT 'a\'; DELETE FROM t --'`, Write},
	{"doubled quotes", "SELECT 'it''s', \"a\"\"b\", `c``d`", Read},
	{"brackets", "SELECT [a; DELETE FROM t] FROM [t]", Read},
	{"open bracket", "SELECT [a", Unknown},
	{"parameters", "SELECT ?, ?1, :a, @b, $c, $d::e", Read},
	{"parameter with a quote in its name", "SELECT $a('); DELETE FROM t --')", Unknown},
	{"keyword after a parameter", "SELECT ?1UPDATE t", Write},
	{"two statements", "SELECT 1; DELETE FROM t", Write},
	{"semicolon at the end", "SELECT 1;", Read},
	{"replace function", "SELECT replace(a, 'x', 'y') FROM t", Read},
	{"column called replace", "SELECT replace FROM t", Write},
	{"column after a dot", "SELECT t.[update], t.\"delete\" FROM t", Read},
	{"json", "SELECT a->>'$.b' FROM t", Read},
	{"NUL", "SELECT 1\x00", Unknown},
	{"unicode", "SELECT * FROM 用户", Read},
	{"byte order mark", "\ufeffSELECT 1", Read},
	{"last_insert_rowid", "SELECT last_insert_rowid()", Stateful},
	{"changes", "SELECT changes(), total_changes()", Stateful},
	{"quoted changes", `SELECT "changes"(), [total_changes]()`, Stateful},
	{"load_extension", "SELECT load_extension('x')", Write},
	{"writefile", "SELECT writefile('x', 'y')", Write},
	{"edit", "SELECT edit(a) FROM t", Write},
	{"optimize", "SELECT optimize(t) FROM t LIMIT 1", Write},
	{"sqlcipher", "SELECT sqlcipher_export('x')", Write},
	{"spatialite", "SELECT InitSpatialMetaData(1)", Write},
	{"spatialite by prefix", "SELECT CreateSpatialIndex('t', 'geom')", Write},
	{"unknown function", "SELECT my_function(1)", Read},
	{"pragma table_info", "PRAGMA table_info(`users`)", Catalog},
	{"pragma with a schema", "PRAGMA main.table_info('users');", Catalog},
	{"pragma database_list", "PRAGMA database_list", Catalog},
	{"pragma with =", "PRAGMA table_info = users", Unknown},
	{"pragma user_version", "PRAGMA user_version", Catalog},
	{"pragma user_version set", "PRAGMA user_version = 5", Unknown},
	{"pragma user_version set by argument", "PRAGMA user_version(5)", Unknown},
	{"pragma foreign_keys", "PRAGMA foreign_keys", Stateful},
	{"pragma foreign_keys set", "PRAGMA foreign_keys = ON", Stateful},
	{"pragma journal_mode", "PRAGMA journal_mode=WAL", Unknown},
	{"pragma optimize", "PRAGMA optimize", Unknown},
	{"pragma with a longer name", "PRAGMA user_versioné", Unknown},
	{"pragma nothing", "PRAGMA", Unknown},
	{"pragma, and something else", "PRAGMA database_list; DELETE FROM t", Write},
	{"pragma table", "SELECT name FROM pragma_table_info('users')", Catalog},
	{"pragma table that writes", "SELECT * FROM pragma_optimize", Unknown},
	{"qualified pragma table", "SELECT * FROM main.pragma_optimize", Unknown},
	{"quoted pragma table", `SELECT * FROM "pragma_optimize"`, Unknown},
	{"begin immediate", "BEGIN IMMEDIATE", Stateful},
	{"end", "END TRANSACTION", Stateful},
	{"release", "RELEASE sp1", Stateful},
	{"attach", "ATTACH 'x' AS y", Unknown},
	{"vacuum", "VACUUM", Write},
	{"for update", "SELECT * FROM t FOR UPDATE", Write},
	{"nothing", "", Unknown},
}

func TestClassifySQLite(t *testing.T) {
	for _, tt := range sqliteTests {
		t.Run(tt.name, func(t *testing.T) {
			if got := Classify(SQLite, tt.sql); got != tt.want {
				t.Errorf("Classify(SQLite, %q) = %v, want %v", tt.sql, got, tt.want)
			}
		})
	}
}
