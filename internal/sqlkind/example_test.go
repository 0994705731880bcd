package sqlkind_test

import (
	"fmt"

	"github.com/gorm-replicated/replicated/internal/sqlkind"
)

func ExampleClassify() {
	for _, sql := range []string{
		"SELECT * FROM users WHERE id = ?",
		"SELECT * FROM users WHERE id = ? FOR UPDATE",
		"SELECT LAST_INSERT_ID()",
		"WITH old AS (SELECT 1) DELETE FROM users",
		"CALL archive()",
	} {
		fmt.Println(sqlkind.Classify(sqlkind.MySQL, sql))
	}
	// Output:
	// read
	// locking
	// stateful
	// write
	// unknown
}

func ExampleCache() {
	c := sqlkind.NewCache(sqlkind.MySQL, "next_invoice_number")
	fmt.Println(c.Kind("SELECT next_invoice_number()"))
	fmt.Println(c.Kind("SELECT archive_and_count()"))
	c.Learn("SELECT archive_and_count()") // a server refused it: it writes
	fmt.Println(c.Kind("SELECT archive_and_count()"))
	// Output:
	// write
	// read
	// write
}

func ExampleClassify_postgreSQL() {
	for _, sql := range []string{
		`SELECT * FROM "users" WHERE "id" = $1`,
		"SELECT * FROM users FOR NO KEY UPDATE",
		"SELECT ('invoices_id_seq'::regclass).nextval",
		"WITH old AS (DELETE FROM users RETURNING *) SELECT * FROM old",
		"SELECT count(*) FROM pg_indexes",
		"DO $$BEGIN PERFORM archive(); END$$",
	} {
		fmt.Println(sqlkind.Classify(sqlkind.PostgreSQL, sql))
	}
	// Output:
	// read
	// locking
	// write
	// write
	// catalog
	// unknown
}
