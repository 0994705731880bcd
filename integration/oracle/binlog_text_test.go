package oracle

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// binlogKnown are statements of which the truth is known: what the oracle must see, each in its own way.
var binlogKnown = map[truth][]string{
	invalid: {"SELECT FROM", "SELECT 1 FROM nothing_there", "FROBNICATE t", "SELECT 'open", ""},
	read: {
		"SELECT 1", "SELECT * FROM t", "SELECT UUID(), RAND(), NOW(6), SYSDATE(6), UUID_SHORT()", "SHOW TABLES",
		"EXPLAIN SELECT * FROM t", "SELECT twice(2)", "CALL looks()",
		"SELECT a, COUNT(*) FROM (SELECT DISTINCT a, b FROM t) x GROUP BY a ORDER BY 2", "DO 1",
		"SELECT 'INSERT INTO t'", "SELECT @@GLOBAL.sql_mode",
	},
	locking: {
		"SELECT * FROM t FOR UPDATE", "SELECT * FROM here.u LOCK IN SHARE MODE",
		"SELECT a FROM t WHERE id = 1 FOR UPDATE NOWAIT",
		"SELECT (SELECT a FROM t WHERE id = 2 FOR UPDATE)", "WITH x AS (SELECT * FROM t FOR UPDATE) SELECT * " +
			"FROM x",
	},
	stateful: {
		"SELECT @a", "SELECT @new := 1", "SELECT 1 INTO @new", "SELECT LAST_INSERT_ID()",
		"SELECT LAST_INSERT_ID(5)", "SELECT FOUND_ROWS()",
		"SELECT ROW_COUNT()", "SELECT CONNECTION_ID()", "SELECT DATABASE()", "SELECT CURRENT_ROLE()",
		"SELECT GET_LOCK('new', 0)", "SELECT RELEASE_LOCK('held')", "SELECT IS_FREE_LOCK('held')",
		"SELECT IS_USED_LOCK('held')",
		"SELECT @@warning_count", "SELECT remembers()", "SELECT * FROM who",
		"SET @new = 1", "SET SESSION sort_buffer_size = 100000", "SET NAMES latin1", "USE there", "BEGIN", "COMMIT",
		"ROLLBACK", "SAVEPOINT x",
		"ROLLBACK TO sp", "RELEASE SAVEPOINT sp", "LOCK TABLES t READ", "LOCK TABLES t WRITE",
		"PREPARE x FROM 'SELECT 1'", "EXECUTE prepared",
		"DEALLOCATE PREPARE prepared", "HANDLER t OPEN", "HANDLER tree READ FIRST", "SHOW WARNINGS", "XA START 'x'",
		"SET ROLE NONE",
		"SELECT holds()", "GET DIAGNOSTICS @n = NUMBER", "FLUSH TABLES WITH READ LOCK",
	},
	write: {
		"INSERT INTO t (a) VALUES (9)", "UPDATE t SET a = 9", "UPDATE t SET a = a", "DELETE FROM u",
		"REPLACE INTO mem VALUES (1, 1)", "INSERT INTO isam VALUES (9, 9)",
		"TRUNCATE t", "CREATE TABLE made (a INT)", "DROP TABLE t", "ALTER TABLE u ADD x INT",
		"CREATE TEMPORARY TABLE tmp (a INT)", "SELECT adds()", "CALL writes()",
		"SELECT 1 INTO OUTFILE '{files}/x'", "SELECT * FROM t LIMIT 1 INTO OUTFILE '{files}/x'",
		"SELECT 1 INTO DUMPFILE '{files}/x'", "SELECT 1 INTO OUTFILE '/tmp/not/allowed'",
		"SET GLOBAL net_write_timeout = 61", "SELECT 1; DELETE FROM isam",
		"SELECT 1 INTO OUTFILE '{files}/x'; DELETE FROM isam", "SELECT 1 INTO OUTFILE '{files}/x'; SELECT 1 FROM",
		"CREATE USER somebody", "GRANT SELECT ON here.* TO oracle@'%'", "ANALYZE TABLE t", "FLUSH TABLES",
		"XA BEGIN 'x'; DELETE FROM u; XA END 'x'; XA PREPARE 'x'",
	},
}

// binlogText is what a mutation works with.
var binlogText = text{
	token: regexp.MustCompile("(?s)" + `\s+|/\*.*?\*/|-- [^\n]*(?:\n|$)|#[^\n]*(?:\n|$)` +
		`|'(?:[^'\\]|\\.|'')*'|"(?:[^"\\]|\\.|"")*"` + "|`(?:[^`]|``)*`" + `|\w+|.`),
	nothing: regexp.MustCompile(`(?s)^(\s*|/\*[^!M].*|/\*\*/|#.*|--.*|;|\(|\))$`),
	hidden:  regexp.MustCompile(`adds`),
	blanks: []string{
		" ", "\n", "\t", "\v", "\f", "\r\n", "  ", "/**/", " /* x */ ", "/* ' */", "/* FOR UPDATE */",
		"/***/", " -- x\n", " --\n", " # '\n", "/*\n*/", " -- ;\n ",
		"/*+ x */", " --\t\"\n", "/* */ /* */", "\xa0",
	},
	inserts: []string{
		"FOR UPDATE", "LOCK IN SHARE MODE", "FOR UPDATE SKIP LOCKED", "INTO @v", "INTO @v, @w",
		"INTO OUTFILE '{files}/m'", "INTO DUMPFILE '{files}/m'",
		";", "; DELETE FROM isam", "1.", ".5", "1e5", "'", "\"", "`", "\\", "(", ")", ",", "@v",
		"@v := 1", "@@last_insert_id",
		"NULL", "1", "'x'", "\"x\"", "`a`",
		"LAST_INSERT_ID(5)", "GET_LOCK('m', 0)", "RELEASE_ALL_LOCKS()", "FOUND_ROWS()", "CONNECTION_ID()",
		"DATABASE()",
		"SELECT", "FROM t", "WHERE 1", "UNION SELECT 1", "UNION ALL", "AS x", "LIMIT 1", "DISTINCT",
		"UPDATE t SET a = 1", "DELETE FROM u", "INSERT INTO mem", "SET", "IGNORE",
		"/*! FOR UPDATE */", "/*!50000 INTO OUTFILE '{files}/m' */", "/*!999999 x */", "/*!*/",
		"/*! SQL_NO_CACHE */", "/*!50000 USE INDEX (a) */", "\\N", "-", "--", "!", "~", "COLLATE utf8mb4_bin",
		"ESCAPE '\\\\'", "adds()", "twice(1)",
	},
	around: []string{
		"EXPLAIN %s", "EXPLAIN FORMAT=JSON %s", "(%s)", "((%s))", "SELECT * FROM (%s) x", "SELECT (%s)",
		"SELECT EXISTS (%s)", "WITH x AS (%s) SELECT * FROM x",
		"%s UNION %s", "(%s) UNION ALL (SELECT 1)", "%s;", " ; %s", "SELECT 1 WHERE 1 IN (%s)",
		"PREPARE x FROM '%s'", "CREATE VIEW made AS %s", "DESCRIBE %s", "SET @v = (%s)", "-- x\n%s", "/* x */ %s",
		"SELECT * FROM t WHERE a = (%s)",
		"INSERT INTO mem (id) %s", "SELECT '%s'", "SELECT `%s`", "SELECT \"%s\"", "/* %s */ SELECT 1",
		"SELECT 1 -- %s\n", "SELECT * FROM t ORDER BY (%s)", "%s LIMIT 1", "%s FOR UPDATE",
	},
}

// text is what a mutation works with on this engine.
func (e *binlogEngine) text() text {
	x := binlogText
	x.inserts = slices.Concat(x.inserts, e.inserts)
	x.around = slices.Concat(x.around, e.around)
	return x
}

// binlogArguments are those of functions for which no plausible argument is right, or of which waiting is
// what they do.
var binlogArguments = map[string][]string{
	"SLEEP": {"0"}, "GET_LOCK": {"'x', 0"}, "BENCHMARK": {"2, SHA2('x', 256)"},
	"EXTRACT": {"YEAR FROM '2020-01-01'"}, "CAST": {"1 AS CHAR"},
	"POSITION": {"'a' IN 'ba'"}, "DATE_ADD": {"'2020-01-01', INTERVAL 1 DAY"},
	"DATE_SUB": {"'2020-01-01', INTERVAL 1 DAY"}, "NAME_CONST": {"'x', 1"},
	"GET_FORMAT": {"DATE, 'USA'"}, "LOAD_FILE": {"'{files}/x'"}, "DEFAULT": {"a"}, "VALUES": {"a"},
	"IF": {"1, 2, 3"}, "INTERVAL": {"1, 2, 3"},
	"CHAR": {"65 USING latin1"},
}

// calls returns a call for every function, with every plausible kind and number of arguments.
func (b *binlog) calls(t *testing.T) []statement {
	t.Helper()
	// The user's own, and those of the grammar, which are in no list.
	names := slices.Concat(b.functions(t, b), strings.Fields("twice rows_of_t adds holds remembers "+
		"ASCII AVG CHAR CHARSET COALESCE CURRENT_DATE CURRENT_ROLE CURRENT_TIME CURRENT_TIMESTAMP "+
		"CURRENT_USER DATE DAY DEFAULT EXTRACT "+
		"FORMAT_PICO_TIME GET_FORMAT HOUR IF INSERT INTERVAL JSON_ARRAYAGG LAST_VALUE LEFT LOCALTIME "+
		"LOCALTIMESTAMP MINUTE MONTH QUARTER "+
		"REPEAT REPLACE REVERSE RIGHT ROW ROW_NUMBER SECOND SYSDATE TIME TIMESTAMP TRUNCATE USER UTC_DATE "+
		"UTC_TIME UTC_TIMESTAMP UUID VALUES "+
		"WEIGHT_STRING YEAR INET_ATON IS_IPV4 POINT LINESTRING POLYGON GEOMETRYCOLLECTION MBRCONTAINS"))
	slices.Sort(names)
	names = slices.Compact(names)
	arguments := []string{
		"", "1", "'a'", "NULL", "'2020-01-02 03:04:05'", `'{"a": [1, 2]}'`, "POINT(1, 2)", "g",
		"1, 2", "'abc', 'b'", `'{"a": 1}', '$.a'`, "'2020-01-01', '10:00:00'", "POINT(1, 2), POINT(1, 2)", "'a', 1",
		"'2020-01-01', '%Y'", "DATE'2020-01-01', INTERVAL 1 DAY",
		"1, 2, 3", "'abc', 'b', 'c'", "'abc', 1, 2", `'{"a": 1}', '$.b', 2`,
		"'2020-01-01 00:00:00', '+00:00', '+01:00'", "'<a>x</a>', '/a', '<b/>'",
		"1, 2, 3, 4", "'abc', 1, 2, 'x'", `'{"a": 1}', 'one', 'b', NULL, '$.a'`,
	}
	// Those of the schema sys are functions of somebody's, and read.
	sys, err := b.column(t.Context(), "SELECT CONCAT('sys.', routine_name) FROM "+
		"information_schema.routines WHERE routine_schema = 'sys' AND routine_type = 'FUNCTION' ORDER BY 1")
	if err != nil {
		t.Fatal(err)
	}
	names = append(names, sys...)
	var calls []statement
	for _, name := range names {
		upper := strings.ToUpper(name)
		args := slices.Concat(binlogArguments[upper], b.arguments[upper])
		if args == nil {
			args = arguments
		}
		for _, a := range args {
			q := fmt.Sprintf("SELECT %s(%s)", name, a)
			if a == "g" || a == "a" {
				q = fmt.Sprintf("SELECT %s(%s) FROM %s", name, a, map[string]string{"g": "geo", "a": "t"}[a])
			}
			hidden := slices.Contains([]string{"ADDS", "HOLDS", "REMEMBERS"}, upper)
			calls = append(calls, statement{sql: q, from: "function", hidden: hidden})
		}
		calls = append(calls, statement{sql: fmt.Sprintf("SELECT %s(a) OVER (ORDER BY id) FROM t", name),
			from: "function"})
	}
	return calls
}

// validCalls returns those calls that the server takes, a few for each function.
func (b *binlog) validCalls(t *testing.T, calls []statement) []statement {
	t.Helper()
	const most = 5
	conn, err := b.pool.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if a := run(t.Context(), conn, "USE here; "+b.common()+"; START TRANSACTION READ ONLY"); a.err != nil {
		t.Fatal(a.err)
	}
	taken := map[string]int{}
	var valid []statement
	for _, c := range calls {
		name, _, _ := strings.Cut(c.sql, "(")
		if taken[name] == most {
			continue
		}
		a := run(t.Context(), conn, c.sql)
		refused := binlogRefusal(a.err)
		if a.err == nil || refused {
			c.probing = refused
			taken[name]++
			valid = append(valid, c)
		}
	}
	if a := run(t.Context(), conn, "ROLLBACK; DO RELEASE_ALL_LOCKS()"); a.err != nil {
		t.Fatal(a.err)
	}
	const functions = 250
	if len(taken) < functions {
		t.Errorf("only %d functions could be called, want %d", len(taken), functions)
	}
	return valid
}

// words returns a statement for every word of the server's grammar: some are functions without parentheses.
func (b *binlog) words(t *testing.T) []statement {
	t.Helper()
	words, err := b.column(t.Context(), "SELECT word FROM information_schema.keywords WHERE word RLIKE "+
		"'^[A-Z_0-9]+$' ORDER BY 1")
	if err != nil {
		t.Fatal(err)
	}
	var all []statement
	for _, w := range words {
		all = append(all, statement{sql: "SELECT " + w, from: "word"})
	}
	return all
}

// binlogBytes are texts in which bytes above 0x7f matter: in latin1 one of them is a blank, in others a
// backslash or a backtick is the second half of a character.
var binlogBytes = []string{
	"SELECT 'caf\xc3\xa9'", "SELECT 'caf\xe9'", "SELECT 1 AS `na\xc3\xafve`",
	"SELECT `\xc3\xa9` FROM (SELECT 1 AS `\xc3\xa9`) x", "SELECT 1 a\xc3\xa0", "SELECT\xa01",
	"SELECT a\xa0FROM\xa0t",
	"SELECT 1\xa0INTO OUTFILE '{files}/a'", "SELECT 1\xa0INTO\xa0OUTFILE\xa0'{files}/a'",
	"SELECT 1 a\xc3\xa0INTO OUTFILE '{files}/a'", "SELECT * FROM t\xa0FOR UPDATE",
	"SELECT * FROM t FOR\xa0UPDATE", "SELECT * FROM t LOCK\xa0IN\xa0SHARE MODE",
	"SELECT GET_LOCK\xa0('x', 0)", "SELECT 1 --\xa0\n INTO OUTFILE '{files}/a'", "SELECT 1 --\xa01",
	"SELECT 1;\xa0DELETE FROM isam", "SELECT @\xa0x",
	"SELECT '\xbf\\' INTO OUTFILE '{files}/a' -- '", "SELECT '\xbf\\'; DELETE FROM isam -- '",
	"SELECT '\x83\\'; DELETE FROM isam -- '", "SELECT '\xa5\\'; DELETE FROM isam -- '",
	"SELECT \"\xbf\\\"; DELETE FROM isam -- \"",
	"SELECT 1 AS `\x81`; DELETE FROM isam -- `", "SELECT 1 AS `\x81`` ; DELETE FROM isam -- `",
	"SELECT '\xe3\x81\xbd\\'; DELETE FROM isam -- '", "SELECT 1 \xe3\x80\x80INTO OUTFILE '{files}/a'",
	"SELECT 1\x85INTO OUTFILE '{files}/a'",
}
