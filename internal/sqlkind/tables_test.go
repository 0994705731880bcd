package sqlkind

import (
	"slices"
	"strings"
	"testing"
)

func TestTables(t *testing.T) {
	for _, tt := range []struct {
		sql  string
		main string // "" if none of the watched ones
		all  string
	}{
		{"SELECT * FROM users", "users", "users"},
		{"select * from USERS where id = 1", "users", "users"},
		{"SELECT * FROM `users`", "users", "users"},
		{`SELECT * FROM "users" LIMIT 1`, "users", "users"},
		{"SELECT * FROM shop.users", "users", "users"},
		{"SELECT * FROM `shop` . `users` AS u", "users", "users"},
		{"SELECT * FROM shop /* of */ . -- all\n users", "users", "users"},
		{"SELECT * FROM archive.items", "archive.items", "archive.items"},
		{"SELECT * FROM items", "", ""},
		{"SELECT * FROM pets", "", ""},
		{"SELECT 1", "", ""},
		{"SELECT users.name FROM pets AS users2", "", "users"},
		{"SELECT * FROM pets JOIN users ON users.id = pets.user_id", "", "users"},
		{"SELECT * FROM users LEFT JOIN orders ON orders.user_id = users.id", "users", "users orders"},
		{"SELECT * FROM pets p, users u, (SELECT 1) x, orders o WHERE a, b", "", "users orders"},
		{"SELECT * FROM users GROUP BY orders, pets", "users", "users orders"},
		{"SELECT (SELECT count(*) FROM users) FROM orders", "orders", "users orders"},
		{"SELECT EXTRACT(YEAR FROM users) FROM orders", "orders", "users orders"},
		{"SELECT a IS DISTINCT FROM users FROM orders", "orders", "users orders"},
		{"SELECT * FROM pets WHERE id IN (SELECT pet_id FROM users)", "", "users"},
		{"SELECT * FROM (SELECT * FROM users) AS u JOIN orders", "users", "users orders"},
		{"SELECT * FROM (users JOIN orders)", "users", "users orders"},
		{"SELECT * FROM LATERAL (SELECT (SELECT 1 FROM orders) FROM users) u", "users", "orders users"},
		{"(SELECT * FROM users) UNION (SELECT * FROM orders)", "users", "users orders"},
		{"WITH recent AS (SELECT * FROM orders) SELECT * FROM recent", "orders", "orders"},
		{"WITH RECURSIVE a (x, y) AS (SELECT 1), orders AS NOT MATERIALIZED (SELECT * FROM users) SELECT * FROM " +
			"orders", "users", "orders users"},
		{"WITH gone AS (DELETE FROM users RETURNING *) INSERT INTO orders SELECT * FROM gone", "orders",
			"users orders"},
		{"WITH u AS (SELECT * FROM orders) SELECT * FROM users", "users", "orders users"},
		{"INSERT INTO users (name, orders) VALUES (1, 2), (3, 4)", "users", "users orders"},
		{"INSERT INTO pets SELECT * FROM users", "", "users"},
		{"INSERT IGNORE users VALUES (1)", "users", "users"},
		{"INSERT INTO users (id) VALUES (1) ON DUPLICATE KEY UPDATE orders = 1", "users", "users orders"},
		{"INSERT INTO users (id) VALUES (1) ON CONFLICT DO UPDATE SET orders = 1", "users", "users orders"},
		{"REPLACE INTO users VALUES (1)", "users", "users"},
		{"UPDATE users SET name = 'FROM orders', orders = 1", "users", "users orders"},
		{"UPDATE LOW_PRIORITY IGNORE users, orders SET x = 1", "users", "users orders"},
		{"UPDATE ONLY users SET x = 1", "users", "users"},
		{"DELETE FROM users WHERE id = 1", "users", "users"},
		{"DELETE u FROM users u JOIN orders o", "users", "users orders"},
		{"DELETE FROM users USING orders", "users", "users orders"},
		{"MERGE INTO users USING orders ON a = b", "users", "users orders"},
		{"SELECT * FROM users FOR UPDATE", "users", "users"},
		{"SELECT * FROM pets FOR UPDATE OF users", "", "users"},
		{"TRUNCATE users", "users", "users"},
		{"TRUNCATE TABLE users", "users", "users"},
		{"CREATE TABLE IF NOT EXISTS users (id int, orders int REFERENCES pets ON DELETE CASCADE)", "users",
			"users orders"},
		{"ALTER TABLE `users` ADD COLUMN x int", "users", "users"},
		{"DROP TABLE IF EXISTS pets, users CASCADE", "", "users"},
		{"CREATE UNIQUE INDEX idx ON users (name)", "users", "users"},
		{"DROP INDEX idx ON users", "users", "users"},
		{"CREATE VIEW v AS SELECT * FROM users", "users", "users"},
		{`COMMENT ON COLUMN "users"."name" IS 'x'`, "users", "users"},
		{`COMMENT ON COLUMN shop.users.name IS 'x'`, "users", "users"},
		{"COMMENT ON TABLE users IS 'x'", "users", "users"},
		{"SHOW COLUMNS FROM users", "users", "users"},
		{"DESCRIBE users", "users", "users"},
		{"TABLE users", "users", "users"},
		{"LOCK TABLES pets READ, users WRITE", "", "tables users"},
		{"EXPLAIN SELECT * FROM users", "users", "users"},
		{"/* FROM orders */ SELECT * -- FROM orders\n FROM users", "users", "users"},
		{"SELECT 'FROM orders' FROM users", "users", "users"},
		{"SELECT * FROM /* x */ users", "users", "users"},
		{"SELECT * FROM usersé", "", ""},
		{"SELECT * FROM 用户", "用户", "用户"},
		{"SELECT * FROM ((((users))))", "users", "users"},
		{"SELECT * FROM " + strings.Repeat("(", 100) + "users" + strings.Repeat(")", 100) + " JOIN orders",
			"orders", "users orders"},
		{"))) FROM users", "users", "users"},
		{"INSERT OR REPLACE INTO users VALUES (1)", "users", "users"},
		{"INSERT OR IGNORE INTO users SELECT * FROM orders", "users", "users orders"},
		{"UPDATE OR ROLLBACK users SET a = 1", "users", "users"},
		{"SELECT STRAIGHT_JOIN o.id FROM orders o STRAIGHT_JOIN users u", "orders", "orders users"},
		{"SELECT * FROM tables", "tables", "tables"},
		{"UPDATE tables SET a = 1", "tables", "tables"},
		{"SHOW FULL TABLES FROM users", "users", "tables users"},
		{"UPDATE Ärzte SET a = 1", "Ärzte", "Ärzte"},
		{"UPDATE `Ärzte` SET a = 1", "Ärzte", "Ärzte"},
		{"WITH orders AS (SELECT 1) DELETE FROM orders", "orders", "orders"},
		{"WITH orders AS (SELECT * FROM users) INSERT INTO orders SELECT * FROM orders", "orders", "orders users"},
		{"CREATE INDEX i USING BTREE ON orders (a)", "orders", "orders"},
		{"CREATE TRIGGER t BEFORE UPDATE OF name ON orders FOR EACH ROW SET a = 1", "orders", "orders"},
		{"MERGE orders AS t USING users ON a = b", "orders", "orders users"},
		{"GRANT SELECT ON orders TO somebody", "orders", "orders"},
		{`SELECT '\', name FROM pets WHERE x=' FROM orders'`, "", ""}, // not in MySQL
		{"", "", ""},

		// Names that hide a table.
		{"WITH orders AS (SELECT * FROM orders) SELECT * FROM orders", "orders", "orders"},
		{"WITH orders AS (SELECT 1) SELECT * FROM orders", "", "orders"},
		{"UPDATE (users, orders) SET a = 1", "users", "users orders"},
		{"SELECT * FROM (pets, users)", "", "users"},
		{"SELECT shop.orders.id FROM users", "users", "orders users"},
		{"SELECT archive . items FROM users", "users", "archive.items users"},
		{"SELECT a.b.archive.items.c FROM pets", "", "archive.items"},
		{"RENAME TABLE users TO orders", "users", "users orders"},
		{"HANDLER orders OPEN", "", "orders"},
		{"SELECT * FROM pets AS orders", "", "orders"},
		{"SHOW FULL TABLES", "", "tables"},
	} {
		for _, d := range []Dialect{MySQL, SQLite, PostgreSQL, Other} {
			if d == MySQL && strings.Contains(tt.sql, `\`) || d == PostgreSQL && strings.Contains(tt.sql, "`") {
				continue
			}
			expectTables(t, d, tt.sql, tt.main, strings.Fields(tt.all))
		}
	}
}

// expectTables asks a Cache twice: the second time it remembers.
func expectTables(t *testing.T, d Dialect, sql, main string, all []string) {
	t.Helper()
	c := NewCache(d)
	c.Watch([]string{"users", "orders", "archive.items", "用户", "tables", "Ärzte"})
	for range 2 {
		if found := c.Look(sql).Tables; found.Main != main || !slices.Equal(found.All, all) {
			t.Errorf("%v: %q: main %q, all %q; want %q, %q", d, sql, found.Main, found.All, main, all)
		}
	}
}

// SQLite takes a string for a name where it expects one.
func TestTablesInStrings(t *testing.T) {
	expectTables(t, SQLite, "SELECT * FROM 'users'", "users", []string{"users"})
	expectTables(t, SQLite, "SELECT 'orders' FROM users", "users", []string{"users"})
	expectTables(t, MySQL, "SELECT * FROM 'users'", "", nil)
	expectTables(t, PostgreSQL, "SELECT * FROM 'users'", "", nil)
}

func TestTablesPostgreSQL(t *testing.T) {
	for sql, want := range map[string]string{
		`SELECT 'C:\' FROM "users"`:                            "users",
		"SELECT $$ FROM orders $$, E'\\\\' FROM users":         "users",
		"SELECT '{}'::jsonb ? 'a' FROM ONLY public.users":      "users",
		"SELECT /* /* */ FROM orders */ U&'\\0061' FROM users": "users",
		"SELECT a # 1 FROM users":                              "users",
		"SELECT * FROM usersé":                                 "",
	} {
		c := NewCache(PostgreSQL)
		c.Watch([]string{"users", "orders"})
		found := c.Look(sql).Tables
		if found.Main != want || len(found.All) > 1 {
			t.Errorf("%q: main %q, all %q; want %q", sql, found.Main, found.All, want)
		}
	}
}

// FuzzTables holds that no table is missing which is named outside of strings and comments, and that no text
// panics.
func FuzzTables(f *testing.F) {
	for _, sql := range []string{
		"SELECT * FROM @", "WITH @ AS (SELECT * FROM @) SELECT * FROM @", "UPDATE (a, @) SET b = 1",
		"SELECT '\\', @ FROM b",
		"SELECT a.@.b FROM c", "CREATE INDEX i ON @", "COMMENT ON COLUMN @.a IS 'x'", "SELECT * FROM \"@\", `@`",
		"@@@", "((((@))",
		"DELETE a FROM @ USING b; WITH RECURSIVE a AS (TABLE @", "SELECT $a$ @ $a$ /*! @ */ -- @",
	} {
		for d := range uint8(4) {
			f.Add(sql, d)
		}
	}
	f.Fuzz(func(t *testing.T, sql string, dialect uint8) {
		d := Dialect(dialect % 4)
		sql = strings.ReplaceAll(sql, "@", " users ")
		w := watched{"users": "users", "archive.items": "archive.items"}
		l := looker{dialect: d, watched: w}
		found := l.look(sql).Tables
		if d == Other {
			d = SQLite
		}
		named := false
		lex := newLexer(d, sql, readingsOf(d)[0])
		for tok := lex.next(); tok.kind != tokEOF; tok = lex.next() {
			text := sql[tok.start:tok.end]
			named = named || text == "users" && tok.kind == tokWord && tok.start > 0 && sql[tok.start-1] == ' '
		}
		if named && !slices.Contains(found.All, "users") {
			t.Errorf("%v: %q names users: %+v", d, sql, found)
		}
		if found.Main != "" && !slices.Contains(found.All, found.Main) {
			t.Errorf("%v: %q is about a table that it does not name: %+v", d, sql, found)
		}
	})
}

func TestTablesAsTheyWereGiven(t *testing.T) {
	c := NewCache(MySQL)
	c.Watch([]string{"Users"})
	if found := c.Look("SELECT * FROM users").Tables; found == nil || found.Main != "Users" {
		t.Errorf("found %+v", found)
	}
	if found := NewCache(MySQL).Look("SELECT * FROM users").Tables; found != nil {
		t.Errorf("without Watch: %+v", found)
	}
}

func TestTablesOfMySQL(t *testing.T) {
	c := NewCache(MySQL)
	c.Watch([]string{"users", "orders"})
	for sql, want := range map[string]Tables{
		"UPDATE /*! orders */ SET a = 1":                 {Main: "orders", All: []string{"orders"}},
		"/*!40000 ALTER TABLE orders DISABLE KEYS */":    {Main: "orders", All: []string{"orders"}},
		"SELECT * FROM /*M!100100 users */":              {Main: "users", All: []string{"users"}},
		`SELECT 'it\'s FROM orders' FROM users`:          {Main: "users", All: []string{"users"}},
		"SELECT 1":                                       {},
		"SELECT * FROM pets":                             {Others: true},
		"UPDATE (users, pets) SET a = 1":                 {Main: "users", All: []string{"users"}, Others: true},
		"WITH pets AS (SELECT * FROM pets) UPDATE users": {Main: "users", All: []string{"users"}, Others: true},
		"HANDLER users OPEN":                             {All: []string{"users"}, Others: true},
		"RENAME TABLE users TO pets":                     {Main: "users", All: []string{"users"}, Others: true},
		`SELECT '\', x FROM users JOIN pets`:             {Main: "users", All: []string{"users"}, Others: true},
		"SELECT * FROM users WHERE a = 'x":               {All: []string{"orders", "users"}, Others: true},
		`SELECT 'it\'s' FROM users`:                      {Main: "users", All: []string{"users"}},
		`SELECT '\' , b FROM users -- '`:                 {All: []string{"users"}},
		"WITH a AS (SELECT * FROM users), b AS (SELECT * FROM a) SELECT * FROM b, a": {
			Main: "users", All: []string{"users"},
		},
		"WITH RECURSIVE a AS (SELECT * FROM users UNION SELECT * FROM a) SELECT * FROM a": {
			Main: "users", All: []string{"users"},
		},
		"SELECT * FROM (WITH a AS (SELECT 1) SELECT * FROM a) x, users, a": {
			All: []string{"users"}, Others: true,
		},
		"SELECT * FROM users JOIN pets":                   {Main: "users", All: []string{"users"}, Others: true},
		"SELECT * FROM users WHERE a IN (SELECT 1)":       {Main: "users", All: []string{"users"}},
		"WITH a AS (SELECT * FROM users) SELECT * FROM a": {Main: "users", All: []string{"users"}},
	} {
		got := c.Look(sql).Tables
		if got.Main != want.Main || !slices.Equal(got.All, want.All) || got.Others != want.Others {
			t.Errorf("%q: %+v, want %+v", sql, *got, want)
		}
	}
}
