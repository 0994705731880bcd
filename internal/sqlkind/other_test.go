package sqlkind

import (
	"strings"
	"testing"
)

var otherTests = []kindTest{
	{"a read", "SELECT * FROM users", Unknown},
	{"a function", "SELECT nextval('s')", Unknown},
	{"a CTE", "WITH x AS (DELETE FROM users RETURNING *) SELECT * FROM x", Unknown},
	{"insert", "INSERT INTO users VALUES (1) RETURNING id", Write},
	{"update", "\n\tupdate users set name = 'a'", Write},
	{"delete behind a comment", "/* x */ -- y\nDELETE FROM users", Write},
	{"merge", "MERGE INTO users USING x", Write},
	{"DDL", "ALTER TABLE users ADD COLUMN a int", Write},
	{"truncate", "TRUNCATE users", Write},
	{"a name that begins alike", "updates", Unknown},
	{"for update", "SELECT * FROM users FOR UPDATE", Locking},
	{"for share", "select * from users for\n share skip locked", Locking},
	{"for no key update", "SELECT * FROM users FOR NO KEY UPDATE OF users", Locking},
	{"for key share", "SELECT * FROM users FOR KEY SHARE", Locking},
	{"in a subquery", "SELECT * FROM a WHERE id IN (SELECT id FROM b FOR UPDATE)", Locking},
	{"substring", "SELECT substring(a FROM 1 FOR 2) FROM t WHERE update_at > 1", Unknown},
	{"nothing", "", Unknown},
	{"an open comment", "/* DELETE FROM users", Unknown},
	{"a call", "CALL p()", Unknown},
}

func TestHostileTextsOfOtherDialects(t *testing.T) {
	for _, piece := range []string{"(", "/*", "--\n", "for "} {
		expect(t, Other, Unknown, "SELECT "+strings.Repeat(piece, 1<<20/len(piece)))
	}
}
