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

// DialectOf returns the Dialect for the name of a GORM dialector. Names are compared exactly; those it does
// not know are Other.
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

// severity orders the kinds; it is not the order of the constants because the zero value has to be the
// careful one.
var severity = [...]uint8{Read: 0, Catalog: 1, Stateful: 2, Locking: 3, Unknown: 4, Write: 5}

func worse(a, b Kind) Kind {
	if severity[b] > severity[a] {
		return b
	}
	return a
}
