// Package sqlkind tells from the text of an SQL statement whether it is provably read-only.
//
//	sqlkind.Classify(sqlkind.MySQL, "SELECT * FROM users WHERE id = ?")            // Read
//	sqlkind.Classify(sqlkind.MySQL, "SELECT * FROM users WHERE id = ? FOR UPDATE") // Locking
//	sqlkind.Classify(sqlkind.MySQL, "WITH x AS (SELECT 1) DELETE FROM users")      // Write
//
// It looks at nothing but the text, so the verdict has to hold under every setting that changes what a text means:
// every sql_mode, standard_conforming_strings on and off, every version of the servers, every connection character set
// that is a superset of ASCII. Where those disagree the worst reading counts; where a text cannot be read with certainty
// the verdict is [Unknown].
//
// What it does not know is what the names in a text stand for. A function that is in none of its tables is taken for
// harmless, and so is a view. But it tells whether a text calls such a function: [CallsUnknown]. A [Cache]
// can be told of functions that write.
//
// One assumption is made of the character set: text that is valid UTF-8 was not meant to be GBK, Big5, Shift-JIS,
// GB18030, UHC or Johab, in which a backslash or a backtick can be the second half of a character.
//
// Time is linear in the length of the text, memory constant; no text panics. Programs want a [Cache] in front.
package sqlkind

import "strconv"

// Dialect is the language a text is written in. The zero value is a language nothing is known of.
type Dialect uint8

const (
	Other      Dialect = iota // nothing is provable: a text is Write or Locking by its look, or Unknown
	MySQL                     // MySQL and MariaDB
	SQLite                    // SQLite 3
	PostgreSQL                // PostgreSQL 10 to 18
)

// DialectOf returns the Dialect for the name of a GORM dialector. Names are compared exactly; those it does not know
// are Other.
func DialectOf(name string) Dialect {
	switch name {
	case "mysql":
		return MySQL
	case "sqlite", "sqlite3":
		return SQLite
	case "postgres":
		return PostgreSQL
	default:
		return Other
	}
}

func (d Dialect) String() string {
	switch d {
	case Other:
		return "other"
	case MySQL:
		return "mysql"
	case SQLite:
		return "sqlite"
	case PostgreSQL:
		return "postgres"
	default:
		return "Dialect(" + strconv.Itoa(int(d)) + ")"
	}
}

// Kind is a verdict. The zero value, Unknown, is the careful one: it has to be treated like Write.
type Kind uint8

const (
	Unknown Kind = iota // not provably anything: may write
	Read                // provably a read that any slave may answer
	// Catalog is a read of the catalog, which migrations decide on: information_schema, pg_class, SHOW TABLES,
	// sqlite_schema. So is one of a sequence, which on a slave may be ahead of the master's.
	Catalog
	// Locking takes locks and writes no data: FOR UPDATE, FOR SHARE, LOCK IN SHARE MODE, LOCK TABLE; GET_LOCK,
	// pg_advisory_lock and what frees or shows such locks.
	Locking
	Stateful // reads or changes the state of one connection, or of one server; writes no data
	Write    // writes, or calls something that does
)

func (k Kind) String() string {
	switch k {
	case Unknown:
		return "unknown"
	case Read:
		return "read"
	case Catalog:
		return "catalog"
	case Locking:
		return "locking"
	case Stateful:
		return "stateful"
	case Write:
		return "write"
	default:
		return "Kind(" + strconv.Itoa(int(k)) + ")"
	}
}

// Classify returns the verdict on sql. A text in which several things are found gets the worst of them:
// Write, then Unknown, then Locking, then Stateful, then Catalog, then Read.
func Classify(d Dialect, sql string) Kind {
	l := looker{dialect: d}
	return l.look(sql).Kind
}

// CallsUnknown reports whether sql calls a function of which nobody knows what it does: none of the server's
// own, and none of an extension that is listed. It is for texts that are judged to be less than a [Write].
func CallsUnknown(d Dialect, sql string) bool {
	l := looker{dialect: d}
	return l.look(sql).CallsUnknown
}

// severity orders the kinds; it is not the order of the constants because the zero value has to be the careful one.
var severity = [...]uint8{Read: 0, Catalog: 1, Stateful: 2, Locking: 3, Unknown: 4, Write: 5}

func worse(a, b Kind) Kind {
	if severity[b] > severity[a] {
		return b
	}
	return a
}
