package integration

import (
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"
	"gorm.io/plugin/dbresolver"

	"github.com/gorm-replicated/replicated"
	"github.com/gorm-replicated/replicated/integration/servers"
)

// dbrCase is something that an application for dbresolver does, and which server answers.
type dbrCase struct {
	name   string
	layout *dbrLayout
	do     func(r *dbrRun)
	want   dbrWant
}

// dbrWant is what dbresolver 1.6.2 answers, and what the plugin does.
type dbrWant struct {
	old, new string   // in their order; "replica" stands for replica_1 or replica_2, likewise "orders_source"
	why      string   // they differ: the beginning of an item of the list in docs/migrating.md
	engines  []string // those that it is for; nil: all
	mode     string   // likewise
}

func dbrSame(answers string) dbrWant { return dbrWant{old: answers, new: answers} }

func dbrDiffer(old, new, why string) dbrWant { return dbrWant{old: old, new: new, why: why} }

// binlogs are the engines whose servers replicate their binary log, and speak the same SQL.
var binlogs = []string{"MariaDB", "MySQL"}

func (w dbrWant) on(engines ...string) dbrWant { w.engines = engines; return w }

func (w dbrWant) with(mode string) dbrWant { w.mode = mode; return w }

// The configurations of the cases.
var (
	// dbrReadme is the first program of dbresolver's README.
	dbrReadme = &dbrLayout{groups: []dbrGroup{
		{sources: []string{"source"}, replicas: []string{"replica_1", "replica_2"},
			policy: func() dbresolver.Policy { return dbresolver.RandomPolicy{} }},
		{replicas: []string{"users_replica"}, tables: []any{&DBRUser{}}},
		{sources: []string{"orders_source_1", "orders_source_2"}, replicas: []string{"orders_replica"},
			tables: []any{"orders", &DBRProduct{}, "secondary"}},
	}}
	// dbrTest is that of dbresolver's TestDBResolver.
	dbrTest = &dbrLayout{groups: []dbrGroup{
		{replicas: []string{"replica_1", "replica_2"}},
		{sources: []string{"source"}, replicas: []string{"replica_2"}, tables: []any{"users", &DBRProduct{}}},
	}}
	// dbrConnPool is that of dbresolver's TestConnPool.
	dbrConnPool = &dbrLayout{groups: []dbrGroup{
		{sources: []string{"source"}, replicas: []string{"replica_1"}},
		{sources: []string{"orders_source_1"}, replicas: []string{"replica_1"},
			tables: []any{"users", &DBRProduct{}}},
	}}
)

// dbrNoReplicas has groups without replicas; dbrNoGlobal has no other servers than those of one group.
var (
	dbrNoReplicas = &dbrLayout{groups: []dbrGroup{
		{replicas: []string{"replica_1"}},
		{sources: []string{"source"}, tables: []any{&DBRUser{}}},
		{tables: []any{"orders"}},
	}}
	dbrNoGlobal = &dbrLayout{groups: []dbrGroup{
		{sources: []string{"source"}, replicas: []string{"users_replica"}, tables: []any{&DBRUser{}}},
	}}
)

// dbrParts has a group for a table that is not there yet, dbrSources several masters.
var (
	dbrParts = &dbrLayout{groups: []dbrGroup{
		{sources: []string{"source"}, replicas: []string{"replica_1"}},
		{sources: []string{"orders_source_1"}, replicas: []string{"orders_replica"}, tables: []any{&DBRPart{}}},
	}}
	dbrSources = &dbrLayout{groups: []dbrGroup{
		{sources: []string{"own", "source"}, replicas: []string{"replica_1"},
			policy: dbresolver.StrictRoundRobinPolicy},
	}}
)

// dbrOther is dbrReadme in a dialect that the plugin does not know.
var dbrOther = &dbrLayout{groups: dbrReadme.groups, dialect: "other"}

// dbrRobinLayout has a policy.
func dbrRobinLayout(policy func() dbresolver.Policy) *dbrLayout {
	return &dbrLayout{groups: []dbrGroup{{replicas: []string{"replica_1", "replica_2"}, policy: policy}}}
}

// dbrRaw is a case of raw SQL under dbrReadme.
func dbrRaw(query string, want dbrWant) dbrCase {
	return dbrCase{query, dbrReadme, func(r *dbrRun) { r.scan(r.DB, query) }, want}
}

func dbrFourPets(r *dbrRun) {
	for range 4 {
		r.first(r.DB, &DBRPet{})
	}
}

// Why the plugin answers differently: the beginnings of the items of the list in docs/migrating.md.
const (
	dbrWhyBegin      = "`Begin` without a clause is on `Config.Masters`"
	dbrWhyUseBegin   = "`Begin` after `dbresolver.Use` alone is on a master"
	dbrWhyReadTx     = "A transaction begun with `dbresolver.Read` is read-only"
	dbrWhyReadOnly   = "A transaction with `sql.TxOptions{ReadOnly: true}` is a read"
	dbrWhyDB         = "`db.DB()` is a master's, whatever the clauses"
	dbrWhyConnection = "`db.Connection` keeps its statements on its connection"
	dbrWhyLocking    = "A locking read runs on a master, however it is written"
	dbrWhyState      = "What depends on a connection, or writes by a function, runs on a master"
	dbrWhyReadWrite  = "`dbresolver.Read` sends no write and no locking read to a slave"
	dbrWhyIsRead     = "More is known to be a read"
	dbrWhyRawTable   = "The table of raw SQL is found by its grammar"
	dbrWhyAlias      = "An alias or a derived table does not hide the table"
	dbrWhyInto       = "Raw SQL goes by its own table, not by what it is read into"
	dbrWhyFirstOr    = "`FirstOrCreate` and `FirstOrInit` look on a master"
	dbrWhyHooks      = "A read in a hook of a write follows the write"
	dbrWhyMigrator   = "The Migrator asks the server that it changes"
	dbrWhyRobin      = "A policy is asked once for a statement, and never twice at once"
	dbrWhyDialect    = "Raw SQL is judged for MySQL, MariaDB, PostgreSQL and SQLite"
	dbrWhyNewDB      = "A clause outlives `Session{NewDB: true}`"
	dbrWhySession    = "In a request, reads follow its writes"
	dbrWhyMethod     = "In a request, the method counts"
	dbrWhyOne        = "A request stays on one slave, and on one master"
	dbrWhyPools      = "Limits are a group's, and leave the connection of the `*gorm.DB` alone"
	dbrWhyIdle       = "Pools keep more idle connections, and replace them"
	dbrWhyLate       = "`Register` after `db.Use` is an error"
	dbrWhyTwice      = "A plugin serves one `*gorm.DB`"
	dbrWhyWatched    = "Slaves are watched"
	dbrWhyClose      = "There is a `Close`"
	dbrWhyConnPool   = "`Statement.ConnPool` is a type of the plugin's"
	dbrWhyTrace      = "An `Observer` hears where a statement goes, the log does not"
)

// dbrCases are what dbresolver's README, its documentation on gorm.io and its tests have, what else its users
// do, and what it is known to do wrong.
var dbrCases = []dbrCase{
	// The README, "Automatic connection switching".
	{"Table, Rows", dbrReadme, func(r *dbrRun) { r.rows(r.Table("users").Rows()) }, dbrSame("users_replica")},
	{"Model, Find into another", dbrReadme, func(r *dbrRun) {
		var reports []DBRReport
		r.saw(r.Model(&DBRUser{}).Find(&reports).Error, dbrAll(reports)...)
	}, dbrSame("users_replica")},
	{"Exec of an update", dbrReadme, func(r *dbrRun) {
		r.wrote(r.Exec("update users set note = ?", r.mark).Error, "users")
	}, dbrSame("own")},
	{"Raw, Row", dbrReadme, func(r *dbrRun) {
		var name string
		r.saw(r.Raw("select name from users").Row().Scan(&name), name)
	}, dbrSame("users_replica")},
	{"Create", dbrReadme, func(r *dbrRun) {
		r.wrote(r.DB.Create(&DBRUser{DBRRow: r.row()}).Error, "users")
	}, dbrSame("own")},
	{"Delete", dbrReadme, func(r *dbrRun) {
		r.plant("users")
		r.deleted(r.Delete(&DBRUser{}, "note = ?", r.mark).Error, "users")
	}, dbrSame("own")},
	{"Table, Update", dbrReadme, func(r *dbrRun) {
		r.wrote(r.Table("users").Where("id = 1").Update("note", r.mark).Error, "users")
	}, dbrSame("own")},
	{"Find in no group", dbrReadme, func(r *dbrRun) {
		var pets []DBRPet
		r.saw(r.Find(&pets).Error, dbrAll(pets)...)
	}, dbrSame("replica")},
	{"Save in no group", dbrReadme, func(r *dbrRun) { r.wrote(r.Save(&DBRPet{r.row()}).Error, "pets") },
		dbrSame("source")},
	{"Find of a registered name", dbrReadme, func(r *dbrRun) {
		var orders []DBROrder
		r.saw(r.Find(&orders).Error, dbrAll(orders)...)
	}, dbrSame("orders_replica")},
	{"Table, Find into another", dbrReadme, func(r *dbrRun) {
		var reports []DBRReport
		r.saw(r.Table("orders").Find(&reports).Error, dbrAll(reports)...)
	}, dbrSame("orders_replica")},
	{"Find of a registered model", dbrReadme, func(r *dbrRun) { r.first(r.DB, &DBRProduct{}) },
		dbrSame("orders_replica")},
	{"Create of a registered model", dbrReadme, func(r *dbrRun) {
		r.wrote(r.DB.Create(&DBRProduct{r.row()}).Error, "products")
	}, dbrSame("orders_source")},

	// "Manual connection switching".
	{"Write", dbrReadme, func(r *dbrRun) { r.first(r.Clauses(dbresolver.Write), &DBRUser{}) }, dbrSame("own")},
	{"Write, in no group", dbrReadme, func(r *dbrRun) { r.first(r.Clauses(dbresolver.Write), &DBRPet{}) },
		dbrSame("source")},
	{"Read", dbrReadme, func(r *dbrRun) { r.first(r.Clauses(dbresolver.Read), &DBRPet{}) }, dbrSame("replica")},
	{"Use", dbrReadme, func(r *dbrRun) { r.first(r.Clauses(dbresolver.Use("secondary")), &DBRUser{}) },
		dbrSame("orders_replica")},
	{"Use of a table's name", dbrReadme,
		func(r *dbrRun) { r.first(r.Clauses(dbresolver.Use("orders")), &DBRPet{}) }, dbrSame("orders_replica")},
	{"Use of a model's table", dbrReadme,
		func(r *dbrRun) { r.first(r.Clauses(dbresolver.Use("users")), &DBRPet{}) }, dbrSame("users_replica")},
	{"Use of an unknown name", dbrReadme,
		func(r *dbrRun) { r.first(r.Clauses(dbresolver.Use("nowhere")), &DBRUser{}) }, dbrSame("users_replica")},
	{"Use, Write", dbrReadme, func(r *dbrRun) {
		r.first(r.Clauses(dbresolver.Use("secondary"), dbresolver.Write), &DBRUser{})
	}, dbrSame("orders_source")},
	{"Write, Use", dbrReadme, func(r *dbrRun) {
		r.first(r.Clauses(dbresolver.Write, dbresolver.Use("secondary")), &DBRUser{})
	}, dbrSame("orders_source")},
	{"Write, then Use", dbrReadme, func(r *dbrRun) {
		r.first(r.Clauses(dbresolver.Write).Clauses(dbresolver.Use("secondary")), &DBRUser{})
	}, dbrSame("orders_source")},
	{"Use, Read", dbrReadme, func(r *dbrRun) {
		r.first(r.Clauses(dbresolver.Use("secondary"), dbresolver.Read), &DBRUser{})
	}, dbrSame("orders_replica")},
	{"Read, Write: the last counts", dbrReadme, func(r *dbrRun) {
		r.first(r.Clauses(dbresolver.Read, dbresolver.Write), &DBRUser{})
	}, dbrSame("own")},
	{"Write, Read: the last counts", dbrReadme, func(r *dbrRun) {
		r.first(r.Clauses(dbresolver.Write, dbresolver.Read), &DBRUser{})
	}, dbrSame("users_replica")},
	{"Use, Use: the last counts", dbrReadme, func(r *dbrRun) {
		r.first(r.Clauses(dbresolver.Use("secondary"), dbresolver.Use("users")), &DBRPet{})
	}, dbrSame("users_replica")},
	{"Use, Create", dbrReadme, func(r *dbrRun) {
		r.wrote(r.Clauses(dbresolver.Use("secondary")).Create(&DBRUser{DBRRow: r.row()}).Error, "users")
	}, dbrSame("orders_source")},
	{"Read, Create", dbrReadme, func(r *dbrRun) {
		r.wrote(r.Clauses(dbresolver.Read).Create(&DBRUser{DBRRow: r.row()}).Error, "users")
	}, dbrSame("own")},
	{"Read, Update", dbrReadme, func(r *dbrRun) {
		r.wrote(r.Clauses(dbresolver.Read).Model(&DBRPet{}).Where("id = 1").Update("note", r.mark).Error, "pets")
	}, dbrSame("source")},
	{"a session with Write, twice", dbrReadme, func(r *dbrRun) {
		db := r.Clauses(dbresolver.Write).Session(&gorm.Session{})
		r.first(db, &DBRPet{})
		r.first(db, &DBRUser{})
		r.first(db, &DBROrder{})
	}, dbrSame("source own orders_source")},
	{"a session with Use, twice", dbrReadme, func(r *dbrRun) {
		db := r.Clauses(dbresolver.Use("secondary")).Session(&gorm.Session{})
		r.first(db, &DBRPet{})
		r.wrote(db.Create(&DBRPet{r.row()}).Error, "pets")
	}, dbrSame("orders_replica orders_source")},
	{"Write, WithContext", dbrReadme, func(r *dbrRun) {
		r.first(r.Clauses(dbresolver.Write).WithContext(r.t.Context()), &DBRUser{})
	}, dbrSame("own")},
	{"WithContext, Use", dbrReadme, func(r *dbrRun) {
		r.first(r.WithContext(r.t.Context()).Clauses(dbresolver.Use("secondary")), &DBRUser{})
	}, dbrSame("orders_replica")},
	{"Scopes with Write", dbrReadme, func(r *dbrRun) {
		r.first(r.Scopes(func(db *gorm.DB) *gorm.DB { return db.Clauses(dbresolver.Write) }), &DBRUser{})
	}, dbrSame("own")},
	{"Scopes with Use", dbrReadme, func(r *dbrRun) {
		r.first(r.Scopes(func(db *gorm.DB) *gorm.DB { return db.Clauses(dbresolver.Use("secondary")) }), &DBRUser{})
	}, dbrSame("orders_replica")},
	{"Scopes with Table", dbrReadme, func(r *dbrRun) {
		r.first(r.Scopes(func(db *gorm.DB) *gorm.DB { return db.Table("orders") }), &DBRPet{})
	}, dbrSame("orders_replica")},
	{"Write, Session{NewDB: true}", dbrReadme, func(r *dbrRun) {
		r.first(r.Clauses(dbresolver.Write).Session(&gorm.Session{NewDB: true}), &DBRUser{})
	}, dbrDiffer("users_replica", "own", dbrWhyNewDB)},
	{"Write, Session{PrepareStmt: true}", dbrReadme, func(r *dbrRun) {
		db := r.Clauses(dbresolver.Write).Session(&gorm.Session{PrepareStmt: true})
		r.first(db, &DBRUser{})
		r.firstIn(db, &DBRPet{})
	}, dbrDiffer("own own", "own source", dbrWhyNewDB)},
	{"PrepareStmt for a session", dbrReadme, func(r *dbrRun) {
		db := r.Session(&gorm.Session{PrepareStmt: true})
		r.first(db, &DBRUser{})
		r.first(db.Clauses(dbresolver.Write), &DBRUser{})
		r.wrote(db.Create(&DBRProduct{r.row()}).Error, "products")
	}, dbrSame("users_replica own orders_source")},
	{"generics", dbrReadme, func(r *dbrRun) {
		pet, err := gorm.G[DBRPet](r.DB).First(r.t.Context())
		r.saw(err, pet.Name)
		pet, err = gorm.G[DBRPet](r.DB, dbresolver.Write).First(r.t.Context())
		r.saw(err, pet.Name)
		order, err := gorm.G[DBROrder](r.DB).First(r.t.Context())
		r.saw(err, order.Name)
		pet, err = gorm.G[DBRPet](r.DB, dbresolver.Use("secondary")).First(r.t.Context())
		r.saw(err, pet.Name)
		user := DBRUser{DBRRow: r.row()}
		r.wrote(gorm.G[DBRUser](r.DB).Create(r.t.Context(), &user), "users")
	}, dbrSame("replica source orders_replica orders_replica own")},

	// "Transaction".
	{"Begin", dbrReadme, func(r *dbrRun) { r.firstIn(r.DB, &DBRPet{}) },
		dbrDiffer("own", "source", dbrWhyBegin)},
	{"Begin without Sources", dbrTest, func(r *dbrRun) { r.firstIn(r.DB, &DBRPet{}) }, dbrSame("own")},
	{"Read, Begin", dbrReadme, func(r *dbrRun) { r.firstIn(r.Clauses(dbresolver.Read), &DBRPet{}) },
		dbrSame("replica")},
	{"Write, Begin", dbrReadme, func(r *dbrRun) { r.firstIn(r.Clauses(dbresolver.Write), &DBRPet{}) },
		dbrSame("source")},
	{"Use, Write, Begin", dbrReadme, func(r *dbrRun) {
		r.firstIn(r.Clauses(dbresolver.Use("secondary"), dbresolver.Write), &DBRPet{})
	}, dbrSame("orders_source")},
	{"Write, Use, Begin", dbrReadme, func(r *dbrRun) {
		r.firstIn(r.Clauses(dbresolver.Write, dbresolver.Use("secondary")), &DBRPet{})
	}, dbrSame("orders_source")},
	{"Use, Read, Begin", dbrReadme, func(r *dbrRun) {
		r.firstIn(r.Clauses(dbresolver.Use("secondary"), dbresolver.Read), &DBRPet{})
	}, dbrSame("orders_replica")},
	{"Use, Begin", dbrReadme, func(r *dbrRun) {
		r.firstIn(r.Clauses(dbresolver.Use("secondary")), &DBRPet{})
	}, dbrDiffer("orders_replica", "orders_source", dbrWhyUseBegin)},
	{"Use, Begin, Create", dbrReadme, func(r *dbrRun) {
		err := r.Clauses(dbresolver.Use("secondary")).
			Transaction(func(tx *gorm.DB) error { return tx.Create(&DBRPet{r.row()}).Error })
		r.wrote(err, "pets")
	}, dbrDiffer("orders_replica", "orders_source", dbrWhyUseBegin)},
	{"Table, Write, Begin", dbrReadme, func(r *dbrRun) {
		r.in(r.Table("users").Clauses(dbresolver.Write), func(tx *gorm.DB) error {
			r.scan(tx.Session(&gorm.Session{NewDB: true}), "SELECT name FROM pets")
			return nil
		})
	}, dbrSame("own")},
	{"Write, Table, Begin: the clause saw no table", dbrReadme, func(r *dbrRun) {
		r.firstIn(r.Clauses(dbresolver.Write).Table("users"), &DBRPet{})
	}, dbrSame("source")},
	{"Use of an unknown name, Write, Begin", dbrReadme, func(r *dbrRun) {
		r.firstIn(r.Clauses(dbresolver.Use("nowhere"), dbresolver.Write), &DBRPet{})
	}, dbrSame("source")},
	{"Model, Write, Begin", dbrReadme, func(r *dbrRun) {
		r.in(r.Model(&DBRProduct{}).Clauses(dbresolver.Write), func(tx *gorm.DB) error {
			r.scan(tx.Session(&gorm.Session{NewDB: true}), "SELECT name FROM pets")
			return nil
		})
	}, dbrSame("orders_source")},
	{"in a transaction nothing moves", dbrTest, func(r *dbrRun) {
		r.in(r.DB, func(tx *gorm.DB) error {
			r.first(tx, &DBRPet{})
			r.first(tx, &DBRUser{})
			r.first(tx.Clauses(dbresolver.Read), &DBRProduct{})
			r.first(tx.Clauses(dbresolver.Use("users"), dbresolver.Write), &DBRUser{})
			r.scan(tx, "SELECT name FROM users")
			r.rows(tx.Table("users").Rows())
			return nil
		})
	}, dbrSame("own own own own own own")},
	{"in a transaction writes do not move", dbrTest, func(r *dbrRun) {
		err := r.Transaction(func(tx *gorm.DB) error {
			return errors.Join(tx.Create(&DBRUser{DBRRow: r.row()}).Error,
				tx.Exec("UPDATE products SET note = ?", r.mark).Error)
		})
		r.wrote(err, "users")
		r.wrote(err, "products")
	}, dbrSame("own own")},
	{"Write, Begin, and what follows", dbrReadme, func(r *dbrRun) {
		r.in(r.Clauses(dbresolver.Use("secondary"), dbresolver.Write), func(tx *gorm.DB) error {
			r.first(tx, &DBRUser{})
			r.first(tx, &DBRPet{})
			return tx.Transaction(func(tx *gorm.DB) error { r.first(tx, &DBROrder{}); return nil }) // a savepoint
		})
		r.first(r.DB, &DBROrder{})
	}, dbrSame("orders_source orders_source orders_source orders_replica")},
	{"Read, Begin, a savepoint", dbrReadme, func(r *dbrRun) {
		r.in(r.Clauses(dbresolver.Read), func(tx *gorm.DB) error {
			return tx.Transaction(func(tx *gorm.DB) error { r.first(tx, &DBRPet{}); return nil })
		})
	}, dbrSame("replica")},
	{"Read, Begin, Create", dbrReadme, func(r *dbrRun) {
		err := r.Clauses(dbresolver.Read).
			Transaction(func(tx *gorm.DB) error { return tx.Create(&DBRPet{r.row()}).Error })
		r.wrote(err, "pets")
	}, dbrDiffer("replica", "ErrWriteOnSlave", dbrWhyReadTx)},
	{"Read, Begin, Exec", dbrReadme, func(r *dbrRun) {
		err := r.Clauses(dbresolver.Read).
			Transaction(func(tx *gorm.DB) error { return tx.Exec("UPDATE pets SET note = ?", r.mark).Error })
		r.wrote(err, "pets")
	}, dbrDiffer("replica", "ErrWriteOnSlave", dbrWhyReadTx)},
	{"Read, Begin, CALL", dbrReadme, func(r *dbrRun) {
		err := r.Clauses(dbresolver.Read).
			Transaction(func(tx *gorm.DB) error { return tx.Exec("CALL sign(?)", r.mark).Error })
		r.wrote(err, "pets")
	}, dbrDiffer("replica", "error", dbrWhyReadTx)},
	{"Begin, read-only", dbrReadme, func(r *dbrRun) {
		r.firstIn(r.DB, &DBRPet{}, &sql.TxOptions{ReadOnly: true})
		r.firstIn(r.Clauses(dbresolver.Write), &DBRPet{}, &sql.TxOptions{ReadOnly: true})
	}, dbrDiffer("own source", "replica source", dbrWhyReadOnly)},
	{"Read, Begin, DB", dbrReadme, func(r *dbrRun) {
		r.in(r.Clauses(dbresolver.Read), func(tx *gorm.DB) error { r.pool(tx.DB()); return nil })
	}, dbrDiffer("replica", "source", dbrWhyDB)},

	// The configuration of dbresolver's TestDBResolver. Its assertions on orders are on pets here.
	{"test: Begin", dbrTest, func(r *dbrRun) {
		r.firstIn(r.DB, &DBRPet{})
		r.firstIn(r.Clauses(dbresolver.Read), &DBRPet{})
		r.firstIn(r.Clauses(dbresolver.Write), &DBRPet{})
		r.firstIn(r.Clauses(dbresolver.Use("users"), dbresolver.Write), &DBRPet{})
		r.firstIn(r.Clauses(dbresolver.Write, dbresolver.Use("users")), &DBRPet{})
	}, dbrSame("own replica own source source")},
	{"test: First", dbrTest, func(r *dbrRun) {
		r.first(r.DB, &DBRPet{})
		r.first(r.Clauses(dbresolver.Write), &DBRPet{})
		r.first(r.Clauses(dbresolver.Use("users")), &DBRPet{})
		r.first(r.Clauses(dbresolver.Use("users"), dbresolver.Write), &DBRPet{})
	}, dbrSame("replica own replica_2 source")},
	{"test: First of a table of the group", dbrTest, func(r *dbrRun) {
		r.first(r.DB, &DBRUser{})
		r.first(r.Clauses(dbresolver.Write), &DBRUser{})
		r.first(r.DB, &DBRProduct{})
		r.first(r.Clauses(dbresolver.Write), &DBRProduct{})
	}, dbrSame("replica_2 source replica_2 source")},
	{"test: Write, Preload", dbrTest, func(r *dbrRun) {
		var user DBRUser
		r.saw(r.Clauses(dbresolver.Write).Preload("Orders").First(&user).Error,
			append([]string{user.Name}, dbrAll(user.Orders)...)...)
	}, dbrSame("source own")},
	{"test: Preload with Write", dbrTest, func(r *dbrRun) {
		var user DBRUser
		err := r.Preload("Orders", func(tx *gorm.DB) *gorm.DB { return tx.Clauses(dbresolver.Write) }).
			First(&user).Error
		r.saw(err, append([]string{user.Name}, dbrAll(user.Orders)...)...)
	}, dbrSame("replica_2 own")},
	{"test: stale read after a write", dbrTest, func(r *dbrRun) {
		created := r.DB.Create(&DBRUser{DBRRow: r.row()}).Error
		r.saw(r.First(&DBRUser{}, "note = ?", r.mark).Error, "found")
		r.saw(r.Clauses(dbresolver.Write).First(&DBRUser{}, "note = ?", r.mark).Error, "found")
		r.wrote(created, "users")
	}, dbrSame("nothing found source")},
	{"test: raw", dbrTest, func(r *dbrRun) {
		r.scan(r.DB, "select name from users")
		r.scan(r.DB, "select name from users where id = ? for update", 1)
		r.scan(r.DB, " select name from users where id = ?", 1)
		r.scan(r.DB, "\nselect name\nfrom users where id = ?", 1)
		r.scan(r.Clauses(dbresolver.Write), "select name from users where id = ?", 1)
	}, dbrSame("replica_2 source replica_2 replica_2 source")},
	{"test: Update, Delete", dbrTest, func(r *dbrRun) {
		r.wrote(r.Model(&DBRUser{}).Where("id = 1").Update("note", r.mark).Error, "users")
		r.plant("users")
		r.deleted(r.Where("note = ?", r.mark).Delete(&DBRUser{}).Error, "users")
	}, dbrSame("source source")},
	{"test: prepared in a transaction", dbrTest, func(r *dbrRun) {
		r.in(r.DB, func(tx *gorm.DB) error {
			r.answer(fmt.Sprintf("%T", tx.First(&DBRPet{}).Statement.ConnPool))
			return nil
		})
	}, dbrSame("*gorm.PreparedStmtTX").with("PrepareStmt")},
	{"test: prepared", dbrTest, func(r *dbrRun) {
		r.answer(fmt.Sprintf("%T", r.First(&DBRPet{}).Statement.ConnPool))
	}, dbrDiffer("*gorm.PreparedStmtDB", "*replicated.pool", dbrWhyConnPool).with("PrepareStmt")},
	{"test: not prepared", dbrTest, func(r *dbrRun) {
		r.answer(fmt.Sprintf("%T", r.First(&DBRPet{}).Statement.ConnPool))
		r.in(r.DB, func(tx *gorm.DB) error {
			r.answer(fmt.Sprintf("%T", tx.First(&DBRPet{}).Statement.ConnPool))
			return nil
		})
	}, dbrDiffer("*sql.DB *sql.Tx", "*replicated.pool *sql.Tx", dbrWhyConnPool).with("plain")},

	// Its TestConnPool.
	{"DB", dbrConnPool, func(r *dbrRun) { r.pool(r.DB.DB()) }, dbrDiffer("own", "source", dbrWhyDB)},
	{"DB without Sources", dbrTest, func(r *dbrRun) { r.pool(r.DB.DB()) }, dbrSame("own")},
	{"Write, DB", dbrConnPool, func(r *dbrRun) { r.pool(r.Clauses(dbresolver.Write).DB()) }, dbrSame("source")},
	{"Read, DB", dbrConnPool, func(r *dbrRun) { r.pool(r.Clauses(dbresolver.Read).DB()) },
		dbrDiffer("replica", "source", dbrWhyDB)},
	{"Table, DB", dbrConnPool, func(r *dbrRun) { r.pool(r.Table("users").DB()) },
		dbrDiffer("own", "source", dbrWhyDB)},
	{"Table, Write, DB", dbrConnPool,
		func(r *dbrRun) { r.pool(r.Table("users").Clauses(dbresolver.Write).DB()) }, dbrSame("orders_source")},
	{"Table, Read, DB", dbrConnPool, func(r *dbrRun) {
		r.pool(r.Table("users").Clauses(dbresolver.Read).DB())
	}, dbrDiffer("replica", "orders_source", dbrWhyDB)},
	{"Model, DB", dbrConnPool, func(r *dbrRun) { r.pool(r.Model(&DBRProduct{}).DB()) },
		dbrDiffer("own", "source", dbrWhyDB)},
	{"Model, Write, DB", dbrConnPool, func(r *dbrRun) {
		r.pool(r.Model(&DBRProduct{}).Clauses(dbresolver.Write).DB())
	}, dbrSame("orders_source")},
	{"Model, Read, DB", dbrConnPool, func(r *dbrRun) {
		r.pool(r.Model(&DBRProduct{}).Clauses(dbresolver.Read).DB())
	}, dbrDiffer("replica", "orders_source", dbrWhyDB)},

	// Sources, replicas and groups of every kind.
	{"several Sources: writes", &dbrLayout{groups: dbrSources.groups}, func(r *dbrRun) {
		for range 4 {
			r.wrote(r.DB.Create(&DBRPet{r.row()}).Error, "pets")
		}
		r.first(r.DB, &DBRPet{})
	}, dbrSame("source own source own replica_1")},
	{"several Sources, no Replicas: reads", &dbrLayout{groups: []dbrGroup{
		{sources: []string{"own", "source"}, policy: dbresolver.StrictRoundRobinPolicy},
	}}, func(r *dbrRun) {
		for range 4 {
			r.first(r.DB, &DBRPet{})
		}
	}, dbrSame("source own source own")},
	{"no Sources, no Replicas", &dbrLayout{groups: []dbrGroup{{}}}, func(r *dbrRun) {
		r.first(r.DB, &DBRPet{})
		r.wrote(r.DB.Create(&DBRPet{r.row()}).Error, "pets")
	}, dbrSame("own own")},
	{"a group without Replicas", dbrNoReplicas, func(r *dbrRun) {
		r.first(r.DB, &DBRUser{})
		r.wrote(r.DB.Create(&DBRUser{DBRRow: r.row()}).Error, "users")
		r.first(r.DB, &DBRPet{})
	}, dbrSame("source source replica_1")},
	{"a group of nothing but a table", dbrNoReplicas, func(r *dbrRun) {
		r.first(r.DB, &DBROrder{})
		r.wrote(r.DB.Create(&DBROrder{DBRRow: r.row()}).Error, "orders")
	}, dbrSame("own own")},
	{"a group alone", dbrNoGlobal, func(r *dbrRun) {
		r.first(r.DB, &DBRUser{})
		r.wrote(r.DB.Create(&DBRUser{DBRRow: r.row()}).Error, "users")
		r.first(r.Clauses(dbresolver.Write), &DBRUser{})
		r.firstIn(r.Clauses(dbresolver.Use("users"), dbresolver.Write), &DBRUser{})
	}, dbrSame("users_replica source source source")},
	{"a group alone, and other tables", dbrNoGlobal, func(r *dbrRun) {
		r.first(r.DB, &DBRPet{})
		r.first(r.Clauses(dbresolver.Read), &DBRPet{})
		r.wrote(r.DB.Create(&DBRPet{r.row()}).Error, "pets")
		r.scan(r.DB, "SELECT name FROM pets")
		r.firstIn(r.DB, &DBRPet{})
		r.firstIn(r.Clauses(dbresolver.Write), &DBRPet{})
	}, dbrSame("own own own own own own")},

	// Policies.
	{"RandomPolicy reaches all", dbrReadme, func(r *dbrRun) {
		var seen []string
		for range 40 { // that one gets them all by chance: once in 2^39
			var pet DBRPet
			if err := r.First(&pet).Error; err != nil {
				r.failed(err)
			}
			seen = append(seen, pet.Name)
		}
		slices.Sort(seen)
		r.answer(slices.Compact(seen)...)
	}, dbrSame("replica_1 replica_2")},
	{"RandomPolicy reaches all masters", dbrReadme, func(r *dbrRun) {
		var seen []string
		for range 40 {
			var order DBROrder
			if err := r.Clauses(dbresolver.Write).First(&order).Error; err != nil {
				r.failed(err)
			}
			seen = append(seen, order.Name)
		}
		slices.Sort(seen)
		r.answer(slices.Compact(seen)...)
	}, dbrSame("orders_source_1 orders_source_2")},
	{"RoundRobinPolicy", dbrRobinLayout(dbresolver.RoundRobinPolicy), dbrFourPets,
		dbrSame("replica_2 replica_1 replica_2 replica_1")},
	{"StrictRoundRobinPolicy", dbrRobinLayout(dbresolver.StrictRoundRobinPolicy), dbrFourPets,
		dbrSame("replica_2 replica_1 replica_2 replica_1")},
	{"StrictRoundRobinPolicy, raw", dbrRobinLayout(dbresolver.StrictRoundRobinPolicy), func(r *dbrRun) {
		for range 4 {
			r.scan(r.DB, "SELECT name FROM pets")
		}
	}, dbrSame("replica_2 replica_1 replica_2 replica_1")},
	{"StrictRoundRobinPolicy, with a clause", dbrRobinLayout(dbresolver.StrictRoundRobinPolicy),
		func(r *dbrRun) {
			for range 4 {
				r.first(r.Clauses(dbresolver.Read), &DBRPet{})
			}
		}, dbrDiffer("replica_1 replica_1 replica_1 replica_1", "replica_2 replica_1 replica_2 replica_1",
			dbrWhyRobin)},
	{"RoundRobinPolicy, at once", dbrRobinLayout(dbresolver.RoundRobinPolicy), func(r *dbrRun) {
		r.atOnce(4, 25) // in dbresolver that is a data race, so one after the other there
	}, dbrSame("replica_1:50 replica_2:50")},
	{"a policy of one's own", dbrRobinLayout(func() dbresolver.Policy {
		return dbresolver.PolicyFunc(func(pools []gorm.ConnPool) gorm.ConnPool { return pools[len(pools)-1] })
	}), dbrFourPets, dbrSame("replica_2 replica_2 replica_2 replica_2")},
	{"a policy that asks the pools", dbrRobinLayout(func() dbresolver.Policy {
		return dbresolver.PolicyFunc(func(pools []gorm.ConnPool) gorm.ConnPool {
			for _, pool := range pools {
				var name string
				if pool.(*sql.DB).QueryRow("SELECT name FROM pets").Scan(&name) == nil && name == "replica_1" {
					return pool
				}
			}
			return pools[1]
		})
	}), dbrFourPets, dbrSame("replica_1 replica_1 replica_1 replica_1")},

	// What else GORM has.
	{"Find, Take, Last, Count, Pluck, FindInBatches", dbrReadme, func(r *dbrRun) {
		var orders []DBROrder
		var order DBROrder
		r.saw(r.Find(&orders).Error, dbrAll(orders)...)
		r.saw(r.Take(&order).Error, order.Name)
		r.saw(r.Last(&order).Error, order.Name)
		for _, server := range []string{"orders_replica", "orders_source_1", "orders_source_2", "source", "own"} {
			var n int64
			if err := r.Model(&DBROrder{}).Where("name = ?", server).Count(&n).Error; err != nil || n > 0 {
				r.saw(err, server)
			}
		}
		var names []string
		r.saw(r.Model(&DBROrder{}).Pluck("name", &names).Error, names...)
		r.saw(r.FindInBatches(&orders, 1, func(*gorm.DB, int) error { return nil }).Error, dbrAll(orders)...)
	}, dbrSame("orders_replica orders_replica orders_replica orders_replica orders_replica")},
	{"Model, Select, Scan", dbrReadme, func(r *dbrRun) {
		var name string
		r.saw(r.Model(&DBRProduct{}).Select("name").Scan(&name).Error, name)
		r.saw(r.Model(&DBRProduct{}).Select("name").Row().Scan(&name), name)
		r.rows(r.Model(&DBRProduct{}).Rows())
	}, dbrSame("orders_replica orders_replica orders_replica")},
	{"Write, Table, Rows", dbrReadme,
		func(r *dbrRun) { r.rows(r.Clauses(dbresolver.Write).Table("orders").Rows()) }, dbrSame("orders_source")},
	{"another table of a model", dbrReadme, func(r *dbrRun) {
		var pet DBRPet
		r.saw(r.Model(&DBRUser{}).Table("pets").Take(&pet).Error, pet.Name)
	}, dbrSame("users_replica")},
	{"a subquery of another group", dbrReadme, func(r *dbrRun) {
		r.first(r.Where("id IN (?)", r.Table("orders").Select("id")), &DBRUser{})
	}, dbrSame("users_replica")},
	{"Preload across groups", dbrReadme, func(r *dbrRun) {
		var users []DBRUser
		err := r.Preload("Orders").Find(&users).Error
		r.saw(err, dbrAll(users)...)
		for _, user := range users {
			r.answer(dbrAll(user.Orders)...)
		}
	}, dbrSame("users_replica orders_replica")},
	{"Write, Preload across groups", dbrReadme, func(r *dbrRun) {
		var order DBROrder
		r.saw(r.Clauses(dbresolver.Write).Preload("User").First(&order).Error, order.Name, order.User.Name)
	}, dbrSame("orders_source own")},
	{"Use, Preload", dbrReadme, func(r *dbrRun) {
		var user DBRUser
		r.saw(r.Clauses(dbresolver.Use("secondary")).Preload("Orders").First(&user).Error,
			append([]string{user.Name}, dbrAll(user.Orders)...)...)
		var order DBROrder
		r.saw(r.Clauses(dbresolver.Use("users")).Preload("User").First(&order).Error, order.Name, order.User.Name)
		r.saw(r.Clauses(dbresolver.Use("secondary")).Preload("User").First(&order).Error, order.Name,
			order.User.Name)
	}, dbrSame("orders_replica orders_replica users_replica users_replica orders_replica users_replica")},
	{"Joins of a relation", dbrReadme, func(r *dbrRun) {
		var order DBROrder
		r.saw(r.Joins("User").First(&order).Error, order.Name, order.User.Name)
	}, dbrSame("orders_replica orders_replica")},
	{"Joins by SQL", dbrReadme, func(r *dbrRun) {
		r.first(r.Joins("JOIN orders ON orders.user_id = users.id"), &DBRUser{})
	}, dbrSame("users_replica")},
	{"Association, Find", dbrReadme, func(r *dbrRun) {
		var orders []DBROrder
		r.saw(r.Model(&DBRUser{DBRRow: DBRRow{ID: 1}}).Association("Orders").Find(&orders), dbrAll(orders)...)
	}, dbrSame("orders_replica")},
	{"Association, Append", dbrReadme, func(r *dbrRun) {
		r.wrote(r.Model(&DBRUser{DBRRow: DBRRow{ID: 1}}).Association("Orders").
			Append(&DBROrder{DBRRow: r.row()}), "orders")
	}, dbrSame("own")},
	{"Association, Count, Delete, Replace", dbrReadme, func(r *dbrRun) {
		orders := func() *gorm.Association { return r.Model(&DBRUser{DBRRow: DBRRow{ID: 1}}).Association("Orders") }
		r.answer(fmt.Sprint(orders().Count()))
		err := orders().Delete(&DBROrder{DBRRow: DBRRow{ID: 1}})
		there := r.servers.where(r.t, "SELECT count(*) FROM orders WHERE user_id = 1")
		for _, name := range r.servers.names() {
			if !slices.Contains(there, name) {
				r.saw(err, name)
				r.execOn(name, "UPDATE orders SET user_id = 1")
			}
		}
		r.wrote(orders().Replace(&DBROrder{DBRRow: r.row()}), "orders")
		r.restore("orders")
	}, dbrSame("1 orders_source own")},
	{"Create with an association", dbrReadme, func(r *dbrRun) {
		err := r.DB.Create(&DBRUser{DBRRow: r.row(), Orders: []DBROrder{{DBRRow: r.row()}}}).Error
		r.wrote(err, "users")
		r.wrote(err, "orders")
	}, dbrSame("own own")},
	{"Create with an association, without a transaction", dbrReadme, func(r *dbrRun) {
		err := r.Session(&gorm.Session{SkipDefaultTransaction: true}).
			Create(&DBRUser{DBRRow: r.row(), Orders: []DBROrder{{DBRRow: r.row()}}}).Error
		r.wrote(err, "users")
		r.wrote(err, "orders")
	}, dbrSame("own orders_source")},
	{"Save of a row that is there", dbrReadme, func(r *dbrRun) {
		r.plant("products")
		row := r.row()
		row.ID, row.Name = 2, "saved"
		r.saw(r.Save(&DBRProduct{row}).Error)
		r.answer(r.servers.where(r.t, "SELECT count(*) FROM products WHERE name = 'saved'")...)
		r.clean("products", r.servers.names()...)
	}, dbrSame("orders_source")},
	{"Updates of a map, UpdateColumn", dbrReadme, func(r *dbrRun) {
		r.wrote(r.Table("orders").Where("id = 1").Updates(map[string]any{"note": r.mark}).Error, "orders")
		r.wrote(r.Model(&DBRProduct{}).Where("id = 1").UpdateColumn("note", r.mark).Error, "products")
	}, dbrSame("orders_source orders_source")},
	{"CreateInBatches", dbrReadme, func(r *dbrRun) {
		r.wrote(r.CreateInBatches([]DBRPet{{r.row()}, {r.row()}, {r.row()}}, 2).Error, "pets")
	}, dbrDiffer("own", "source", dbrWhyBegin)},
	{"CreateInBatches of a registered model", dbrTest, func(r *dbrRun) {
		r.wrote(r.CreateInBatches([]DBRProduct{{r.row()}, {r.row()}, {r.row()}}, 2).Error, "products")
	}, dbrSame("own")},
	{"Write, Use, CreateInBatches", dbrReadme, func(r *dbrRun) {
		db := r.Clauses(dbresolver.Write, dbresolver.Use("secondary"))
		r.wrote(db.CreateInBatches([]DBRProduct{{r.row()}, {r.row()}, {r.row()}}, 2).Error, "products")
	}, dbrSame("orders_source")},
	{"FirstOrCreate: there is none", dbrReadme, func(r *dbrRun) {
		var pet DBRPet
		r.wrote(r.Where("note = ?", r.mark).Attrs(DBRPet{r.row()}).FirstOrCreate(&pet).Error, "pets")
	}, dbrSame("source")},
	{"FirstOrCreate: there is one", dbrReadme, func(r *dbrRun) {
		var pet DBRPet
		r.saw(r.FirstOrCreate(&pet, "id = 1").Error, pet.Name)
	}, dbrDiffer("replica", "source", dbrWhyFirstOr)},
	{"FirstOrCreate: there is one, but not on the replica yet", dbrReadme, func(r *dbrRun) {
		r.execOn("source", "INSERT INTO pets (name, note) VALUES ('early', '"+r.mark+"')")
		var pet DBRPet
		err := r.Where("note = ?", r.mark).Attrs(DBRPet{r.row()}).FirstOrCreate(&pet).Error
		r.saw(err, pet.Name)
		r.wrote(err, "pets")
	}, dbrDiffer("written source", "early source", dbrWhyFirstOr)},
	{"FirstOrInit", dbrReadme, func(r *dbrRun) {
		var order DBROrder
		r.saw(r.FirstOrInit(&order, "id = 1").Error, order.Name)
	}, dbrDiffer("orders_replica", "orders_source", dbrWhyFirstOr)},
	{"a hook that reads", dbrReadme, func(r *dbrRun) {
		r.hook(r.DB)
	}, dbrSame("orders_source")},
	{"a hook that reads, without a transaction", dbrReadme, func(r *dbrRun) {
		r.hook(r.Session(&gorm.Session{SkipDefaultTransaction: true}))
	}, dbrDiffer("orders_replica", "orders_source", dbrWhyHooks)},
	{"a hook of a read", dbrReadme, func(r *dbrRun) {
		var product DBRHooked
		r.saw(r.First(&product).Error, product.Name, product.seen)
	}, dbrSame("orders_replica orders_replica")},
	{"a hook of a read, Write", dbrReadme, func(r *dbrRun) {
		var product DBRHooked
		r.saw(r.Clauses(dbresolver.Write).First(&product).Error, product.Name, product.seen)
	}, dbrDiffer("orders_source orders_replica", "orders_source orders_source", dbrWhyNewDB)},
	{"a statement used again", dbrReadme, func(r *dbrRun) {
		db := r.Model(&DBROrder{}).Where("id = 1")
		var n int64
		var order DBROrder
		r.saw(db.Count(&n).Error)
		r.saw(db.Take(&order).Error, order.Name)
	}, dbrSame("orders_replica")},
	{"a statement used again after its write", dbrReadme, func(r *dbrRun) {
		db := r.Model(&DBROrder{}).Where("id = 1")
		r.wrote(db.Update("note", r.mark).Error, "orders")
		var order DBROrder
		r.saw(db.Take(&order).Error, order.Name)
	}, dbrSame("orders_source orders_replica")},
	{"Locking", dbrReadme, func(r *dbrRun) {
		r.first(r.Clauses(clause.Locking{Strength: "UPDATE"}), &DBRUser{})
		r.first(r.Clauses(clause.Locking{Strength: "UPDATE"}, dbresolver.Read), &DBRUser{})
		r.first(r.Clauses(clause.Locking{Strength: "UPDATE"}, dbresolver.Use("secondary")), &DBRUser{})
	}, dbrSame("own own orders_source")},

	// Connections.
	{"Connection", dbrReadme, func(r *dbrRun) {
		r.connection(r.DB, func(tx *gorm.DB) { r.first(tx, &DBRPet{}) })
	}, dbrDiffer("replica", "source", dbrWhyConnection)},
	{"Connection, Create", dbrTest, func(r *dbrRun) {
		r.connection(r.DB, func(tx *gorm.DB) { r.wrote(tx.Create(&DBRUser{DBRRow: r.row()}).Error, "users") })
	}, dbrDiffer("source", "own", dbrWhyConnection)},
	{"Connection, and what it is for", dbrTest, func(r *dbrRun) {
		r.connection(r.DB, func(tx *gorm.DB) {
			if err := tx.Exec("SET @here = 1").Error; err != nil {
				r.failed(err)
			}
			var name string
			r.saw(tx.Raw("SELECT name FROM pets WHERE @here = 1").Scan(&name).Error, "["+name+"]")
		})
	}, dbrDiffer("[]", "[own]", dbrWhyConnection).on(binlogs...)},
	{"Connection, and what it is for", dbrTest, func(r *dbrRun) {
		r.connection(r.DB, func(tx *gorm.DB) {
			if err := tx.Exec("SET my.here = '1'").Error; err != nil {
				r.failed(err)
			}
			var name string
			r.saw(tx.Raw("SELECT name FROM pets WHERE current_setting('my.here', true) = '1'").Scan(&name).Error,
				"["+name+"]")
		})
	}, dbrDiffer("[]", "[own]", dbrWhyConnection).on("PostgreSQL")},
	{"Read, Connection", dbrReadme, func(r *dbrRun) {
		r.connection(r.Clauses(dbresolver.Read), func(tx *gorm.DB) {
			var name string
			r.saw(tx.Statement.ConnPool.QueryRowContext(r.t.Context(), "SELECT name FROM pets").Scan(&name), name)
		})
	}, dbrDiffer("replica", "source", dbrWhyDB)},
	{"Write, Connection", dbrReadme, func(r *dbrRun) {
		r.connection(r.Clauses(dbresolver.Use("secondary"), dbresolver.Write),
			func(tx *gorm.DB) { r.first(tx, &DBRPet{}) })
	}, dbrSame("orders_source")},

	// Raw SQL: what is a read.
	dbrRaw("SELECT name FROM pets", dbrSame("replica")),
	dbrRaw("select name from pets", dbrSame("replica")),
	dbrRaw("  SELECT name FROM pets", dbrSame("replica")),
	dbrRaw("\t\nSELECT name FROM pets\n", dbrSame("replica")),
	dbrRaw("SELECT name FROM pets;", dbrSame("replica")),
	dbrRaw("SELECT name FROM pets UNION SELECT name FROM pets", dbrSame("replica")),
	dbrRaw("SELECT name FROM pets WHERE 'for update' = 'for update'", dbrSame("replica")),
	dbrRaw("SELECT name FROM pets WHERE note <> 'for update'", dbrSame("replica")),
	dbrRaw("SELECT name FROM pets WHERE 1 = 1 -- for update", dbrDiffer("source", "replica", dbrWhyIsRead)),
	dbrRaw("/* by hand */ SELECT name FROM pets", dbrDiffer("source", "replica", dbrWhyIsRead)),
	dbrRaw("-- by hand\nSELECT name FROM pets", dbrDiffer("source", "replica", dbrWhyIsRead)),
	dbrRaw("(SELECT name FROM pets)", dbrDiffer("source", "replica", dbrWhyIsRead)),
	dbrRaw("WITH p AS (SELECT name FROM pets) SELECT name FROM p", dbrDiffer("source", "replica", dbrWhyIsRead)),
	dbrRaw("WITH p AS (SELECT name FROM users) SELECT name FROM p",
		dbrDiffer("own", "users_replica", dbrWhyIsRead)),
	dbrRaw("SELECT f()", dbrDiffer("source", "replica", dbrWhyIsRead)),
	{"TABLE", dbrReadme, func(r *dbrRun) { r.rows(r.Raw("TABLE users").Rows()) },
		dbrDiffer("source", "users_replica", dbrWhyIsRead).on("PostgreSQL")},

	dbrRaw("WITH users AS (SELECT name FROM pets) SELECT name FROM users",
		dbrDiffer("source", "replica", dbrWhyIsRead)),

	{"SELECT in another dialect", dbrOther, func(r *dbrRun) {
		r.scan(r.DB, "SELECT name FROM users")
		r.scan(r.Clauses(dbresolver.Read), "SELECT name FROM users")
		r.first(r.DB, &DBRUser{})
		r.first(r.Clauses(clause.Locking{Strength: "UPDATE"}), &DBRUser{})
	}, dbrDiffer("users_replica users_replica users_replica own", "own users_replica users_replica own",
		dbrWhyDialect)},

	// Raw SQL: what locks.
	dbrRaw("SELECT name FROM pets FOR UPDATE", dbrSame("source")),
	dbrRaw("SELECT name FROM pets for update  ", dbrSame("source")),
	dbrRaw("SELECT name FROM pets FOR UPDATE;", dbrDiffer("replica", "source", dbrWhyLocking)),
	dbrRaw("SELECT name FROM pets FOR  UPDATE", dbrDiffer("replica", "source", dbrWhyLocking)),
	dbrRaw("SELECT name FROM pets FOR UPDATE -- it", dbrDiffer("replica", "source", dbrWhyLocking)),
	dbrRaw("SELECT name FROM pets FOR UPDATE NOWAIT", dbrDiffer("replica", "source", dbrWhyLocking)),
	dbrRaw("SELECT name FROM pets FOR UPDATE SKIP LOCKED", dbrDiffer("replica", "source", dbrWhyLocking)),
	dbrRaw("SELECT name FROM pets LOCK IN SHARE MODE",
		dbrDiffer("replica", "source", dbrWhyLocking).on(binlogs...)),
	dbrRaw("SELECT name FROM pets FOR SHARE", dbrDiffer("replica", "source", dbrWhyLocking).on("PostgreSQL")),
	dbrRaw("SELECT name FROM pets FOR NO KEY UPDATE",
		dbrDiffer("replica", "source", dbrWhyLocking).on("PostgreSQL")),
	dbrRaw("SELECT name FROM (SELECT name FROM users FOR UPDATE) AS u",
		dbrDiffer("users_replica", "own", dbrWhyLocking)),

	// Raw SQL: what depends on a connection, or writes.
	dbrRaw("SELECT name FROM pets WHERE NEXTVAL(numbers) > 0",
		dbrDiffer("replica", "source", dbrWhyState).on("MariaDB")),
	dbrRaw("SELECT name FROM pets WHERE GET_LOCK(CONCAT('l', UUID()), 0) = 1",
		dbrDiffer("replica", "source", dbrWhyState).on(binlogs...)),
	dbrRaw("SELECT name FROM pets WHERE LAST_INSERT_ID() >= 0",
		dbrDiffer("replica", "source", dbrWhyState).on(binlogs...)),
	dbrRaw("SELECT name FROM pets WHERE @x IS NULL", dbrDiffer("replica", "source", dbrWhyState).on(binlogs...)),
	dbrRaw("SELECT name FROM pets WHERE nextval('numbers') > 0",
		dbrDiffer("replica", "source", dbrWhyState).on("PostgreSQL")),
	dbrRaw("SELECT name FROM pets WHERE pg_try_advisory_xact_lock(1)",
		dbrDiffer("replica", "source", dbrWhyState).on("PostgreSQL")),
	dbrRaw("SELECT name FROM pets WHERE set_config('my.x', 'y', false) = 'y'",
		dbrDiffer("replica", "source", dbrWhyState).on("PostgreSQL")),
	{"a function of one's own that writes", dbrReadme, func(r *dbrRun) {
		r.wrote(r.Raw("SELECT signs(?)", r.mark).Row().Err(), "pets")
	}, dbrSame("replica")},
	{"a function of one's own that writes, in WriteFunctions", &dbrLayout{groups: dbrReadme.groups,
		change: func(config *replicated.Config) { config.WriteFunctions = []string{"signs"} }}, func(r *dbrRun) {
		var n int
		r.wrote(r.Raw("SELECT signs(?)", r.mark).Scan(&n).Error, "pets")
	}, dbrDiffer("replica", "source", dbrWhyState)},
	{"SELECT INTO", dbrReadme, func(r *dbrRun) {
		r.tables(r.Exec("SELECT name INTO parts FROM pets").Error, "parts")
	}, dbrDiffer("replica", "source", dbrWhyState).on("PostgreSQL")},
	{"CALL", dbrReadme, func(r *dbrRun) { r.wrote(r.Exec("CALL sign(?)", r.mark).Error, "pets") },
		dbrSame("source")},
	{"INSERT RETURNING", dbrReadme, func(r *dbrRun) {
		var id int64
		r.wrote(r.Raw("INSERT INTO pets (name, note) VALUES ('', ?) RETURNING id", r.mark).Scan(&id).Error, "pets")
		err := r.Raw("INSERT INTO orders (name, note) VALUES ('', ?) RETURNING id", r.mark).Row().Scan(&id)
		r.wrote(err, "orders")
		var user DBRUser
		err = r.Raw("INSERT INTO users (name, note) VALUES ('', ?) RETURNING *", r.mark).Find(&user).Error
		r.wrote(err, "users")
	}, dbrSame("source orders_source own").on("MariaDB", "PostgreSQL")},
	{"INSERT RETURNING in a WITH", dbrReadme, func(r *dbrRun) {
		var id int64
		r.wrote(r.Raw("WITH i AS (INSERT INTO pets (name, note) VALUES ('', ?) RETURNING id) SELECT id FROM i",
			r.mark).Scan(&id).Error, "pets")
	}, dbrSame("source").on("PostgreSQL")},

	// Raw SQL and clauses.
	{"Write, raw", dbrReadme, func(r *dbrRun) { r.scan(r.Clauses(dbresolver.Write), "SELECT name FROM users") },
		dbrSame("own")},
	{"Read, raw", dbrReadme, func(r *dbrRun) { r.scan(r.Clauses(dbresolver.Read), "SELECT name FROM users") },
		dbrSame("users_replica")},
	{"raw, Write", dbrReadme, func(r *dbrRun) {
		var name string
		r.saw(r.Raw("SELECT name FROM users").Clauses(dbresolver.Write).Scan(&name).Error, name)
	}, dbrSame("own")},
	{"Use, raw", dbrReadme,
		func(r *dbrRun) { r.scan(r.Clauses(dbresolver.Use("secondary")), "SELECT name FROM users") },
		dbrSame("orders_replica")},
	{"Use, Write, raw", dbrReadme, func(r *dbrRun) {
		r.scan(r.Clauses(dbresolver.Use("secondary"), dbresolver.Write), "SELECT name FROM users")
	}, dbrSame("orders_source")},
	{"Use, Exec", dbrReadme, func(r *dbrRun) {
		r.wrote(r.Clauses(dbresolver.Use("secondary")).Exec("UPDATE users SET note = ?", r.mark).Error, "users")
	}, dbrSame("orders_source")},
	{"Read, Exec", dbrReadme, func(r *dbrRun) {
		r.wrote(r.Clauses(dbresolver.Read).Exec("UPDATE pets SET note = ?", r.mark).Error, "pets")
	}, dbrDiffer("replica", "source", dbrWhyReadWrite)},
	{"Read, raw, locking", dbrReadme, func(r *dbrRun) {
		r.scan(r.Clauses(dbresolver.Read), "SELECT name FROM pets FOR UPDATE")
	}, dbrDiffer("replica", "source", dbrWhyReadWrite)},
	{"Read, CALL: unknown SQL is vouched for", dbrReadme, func(r *dbrRun) {
		r.wrote(r.Clauses(dbresolver.Read).Exec("CALL sign(?)", r.mark).Error, "pets")
	}, dbrSame("replica")},

	// Raw SQL: its table.
	dbrRaw("SELECT u.name FROM users AS u", dbrSame("users_replica")),
	dbrRaw("SELECT name FROM (SELECT * FROM users) AS u", dbrSame("users_replica")),
	dbrRaw("SELECT users.name FROM users, orders", dbrSame("users_replica")),
	dbrRaw("SELECT users.name FROM users JOIN orders ON orders.user_id = users.id", dbrSame("users_replica")),
	dbrRaw("SELECT name FROM `users`", dbrSame("users_replica").on(binlogs...)),
	dbrRaw(`SELECT name FROM "users"`, dbrSame("users_replica").on("PostgreSQL")),
	dbrRaw("SELECT name\nFROM\nusers", dbrDiffer("replica", "users_replica", dbrWhyRawTable)),
	dbrRaw("SELECT name FROM users\nWHERE id = 1", dbrDiffer("replica", "users_replica", dbrWhyRawTable)),
	dbrRaw("SELECT name FROM  users", dbrDiffer("replica", "users_replica", dbrWhyRawTable)),
	dbrRaw("SELECT name FROM users;", dbrDiffer("replica", "users_replica", dbrWhyRawTable)),
	dbrRaw("SELECT name FROM public.users",
		dbrDiffer("replica", "users_replica", dbrWhyRawTable).on("PostgreSQL")),
	dbrRaw("SELECT name FROM USERS", dbrDiffer("replica", "users_replica", dbrWhyRawTable).on("PostgreSQL")),
	dbrRaw("SELECT name FROM pets WHERE '' <> ' FROM users '", dbrSame("replica")),
	dbrRaw("SELECT REPLACE(' FROM users ', ' FROM users ', name) FROM pets",
		dbrDiffer("users_replica", "replica", dbrWhyRawTable)),
	dbrRaw("SELECT (SELECT p.name FROM pets AS p WHERE p.id = users.id) FROM users",
		dbrDiffer("replica", "users_replica", dbrWhyRawTable)),
	dbrRaw("SELECT name /* FROM orders */ FROM users",
		dbrDiffer("orders_replica", "users_replica", dbrWhyRawTable)),
	dbrRaw("SELECT TRIM(' ' FROM name) FROM users", dbrDiffer("replica", "users_replica", dbrWhyRawTable)),
	dbrRaw("SELECT name FROM ONLY users",
		dbrDiffer("replica", "users_replica", dbrWhyRawTable).on("PostgreSQL")),
	dbrRaw("SELECT pets.name FROM pets JOIN users ON users.id = pets.id", dbrSame("replica")),
	{"UPDATE behind a comment", dbrReadme, func(r *dbrRun) {
		r.wrote(r.Exec("/* by hand */ UPDATE users SET note = ?", r.mark).Error, "users")
	}, dbrSame("own")},
	{"INSERT without INTO", dbrReadme, func(r *dbrRun) {
		r.wrote(r.Exec("INSERT orders (name, note) VALUES ('', ?)", r.mark).Error, "orders")
	}, dbrDiffer("source", "orders_source", dbrWhyRawTable).on(binlogs...)},
	{"INSERT", dbrReadme, func(r *dbrRun) {
		r.wrote(r.Exec("INSERT INTO users (name, note) VALUES ('', ?)", r.mark).Error, "users")
	}, dbrSame("own")},
	{"INSERT IGNORE", dbrReadme, func(r *dbrRun) {
		r.wrote(r.Exec("insert ignore into orders (name, note) values ('', ?)", r.mark).Error, "orders")
	}, dbrSame("orders_source").on(binlogs...)},
	{"REPLACE", dbrReadme, func(r *dbrRun) {
		r.wrote(r.Exec("REPLACE INTO orders (id, name, note) VALUES (2, '', ?)", r.mark).Error, "orders")
	}, dbrDiffer("source", "orders_source", dbrWhyRawTable).on(binlogs...)},
	{"TRUNCATE", dbrParts, func(r *dbrRun) {
		for _, name := range r.servers.names() {
			r.execOn(name, "CREATE TABLE parts (id INT)")
			r.execOn(name, "INSERT INTO parts VALUES (1)")
		}
		err := r.Exec("TRUNCATE TABLE parts").Error
		there := r.servers.where(r.t, "SELECT count(*) FROM parts")
		for _, name := range r.servers.names() {
			if !slices.Contains(there, name) {
				r.saw(err, name)
			}
			r.execOn(name, "DROP TABLE parts")
		}
	}, dbrDiffer("source", "orders_source_1", dbrWhyRawTable)},
	{"MERGE", dbrReadme, func(r *dbrRun) {
		r.wrote(r.Exec("MERGE INTO users USING (SELECT 1 AS one) AS o ON users.id = o.one "+
			"WHEN MATCHED THEN UPDATE SET note = ?", r.mark).Error, "users")
	}, dbrSame("own").on("PostgreSQL")},
	{"DELETE", dbrReadme, func(r *dbrRun) {
		r.plant("users")
		r.deleted(r.Exec("DELETE FROM users WHERE note = ?", r.mark).Error, "users")
	}, dbrSame("own")},
	{"DDL of a table of a group", dbrReadme, func(r *dbrRun) {
		r.wrote(errors.Join(
			r.Exec("ALTER TABLE users ADD extra VARCHAR(80)").Error,
			r.Clauses(dbresolver.Use("users")).Exec("UPDATE users SET note = ?, extra = ''", r.mark).Error,
			r.Exec("ALTER TABLE users DROP extra").Error,
		), "users")
	}, dbrDiffer("error", "own", dbrWhyRawTable)},
	{"raw into a model of a group", dbrReadme, func(r *dbrRun) {
		var order DBROrder
		r.saw(r.Raw("SELECT * FROM pets").Find(&order).Error, order.Name)
	}, dbrSame("orders_replica")},
	{"raw of a group into a model of another", dbrReadme, func(r *dbrRun) {
		var order DBROrder
		r.saw(r.Raw("SELECT * FROM users").Find(&order).Error, order.Name)
	}, dbrDiffer("orders_replica", "users_replica", dbrWhyInto)},
	{"Table with an alias", dbrReadme, func(r *dbrRun) {
		var report DBRReport
		r.saw(r.Table("orders AS o").Take(&report).Error, report.Name)
		r.rows(r.Table("orders AS o").Rows())
	}, dbrDiffer("replica replica", "orders_replica orders_replica", dbrWhyAlias)},
	{"Table with an alias, without AS", dbrReadme, func(r *dbrRun) {
		var report DBRReport
		r.saw(r.Table("orders o").Take(&report).Error, report.Name)
	}, dbrDiffer("replica", "orders_replica", dbrWhyAlias)},
	{"Table of a query", dbrReadme, func(r *dbrRun) {
		var report DBRReport
		r.saw(r.Table("(?) AS o", r.Model(&DBROrder{})).Take(&report).Error, report.Name)
	}, dbrDiffer("replica", "orders_replica", dbrWhyAlias)},

	// The Migrator.
	{"AutoMigrate, twice", dbrReadme, func(r *dbrRun) {
		r.tables(errors.Join(r.AutoMigrate(&DBRPart{}), r.AutoMigrate(&DBRPart{})), "parts")
	}, dbrDiffer("error source", "source", dbrWhyMigrator)},
	{"AutoMigrate of a registered model", dbrParts, func(r *dbrRun) {
		r.tables(r.AutoMigrate(&DBRPart{}), "parts")
	}, dbrDiffer("source", "orders_source_1", dbrWhyMigrator)},
	{"Use, AutoMigrate, twice", dbrParts, func(r *dbrRun) {
		db := r.Clauses(dbresolver.Use("parts"))
		r.tables(errors.Join(db.AutoMigrate(&DBRPart{}), db.AutoMigrate(&DBRPart{})), "parts")
	}, dbrDiffer("error orders_source_1", "orders_source_1", dbrWhyMigrator)},
	{"Use, Write, AutoMigrate, twice", dbrParts, func(r *dbrRun) {
		db := r.Clauses(dbresolver.Use("parts"), dbresolver.Write)
		r.tables(errors.Join(db.AutoMigrate(&DBRPart{}), db.AutoMigrate(&DBRPart{})), "parts")
	}, dbrSame("orders_source_1")},
	{"HasTable", dbrReadme, func(r *dbrRun) {
		r.execOn("source", "CREATE TABLE parts (id INT)")
		r.answer(fmt.Sprint(r.Migrator().HasTable("parts")))
		r.tables(nil, "parts")
	}, dbrDiffer("false source", "true source", dbrWhyMigrator)},
	{"CurrentDatabase", dbrReadme, func(r *dbrRun) {
		r.answer(r.Migrator().CurrentDatabase()) // which is named after the server
	}, dbrDiffer("replica", "source", dbrWhyMigrator)},

	// In a request that comes through Middleware.
	{"a GET", dbrReadme, func(r *dbrRun) {
		r.request("GET", func(db *gorm.DB) { r.first(db, &DBRPet{}) })
	}, dbrSame("replica")},
	{"a POST that only reads", dbrReadme, func(r *dbrRun) {
		r.request("POST", func(db *gorm.DB) { r.first(db, &DBRPet{}) })
	}, dbrDiffer("replica", "source", dbrWhyMethod)},
	{"a GET that writes, and reads", dbrReadme, func(r *dbrRun) {
		r.request("GET", func(db *gorm.DB) {
			r.wrote(db.Create(&DBRPet{r.row()}).Error, "pets")
			r.first(db, &DBRPet{})
		})
	}, dbrDiffer("source replica", "source source", dbrWhySession)},
	{"a GET that writes to one group, and reads another", dbrReadme, func(r *dbrRun) {
		r.request("GET", func(db *gorm.DB) {
			r.wrote(db.Create(&DBRProduct{r.row()}).Error, "products")
			r.first(db, &DBRPet{})
			r.first(db, &DBRUser{})
		})
	}, dbrSame("orders_source replica users_replica")},
	{"a GET that reads more than once", dbrRobinLayout(dbresolver.StrictRoundRobinPolicy), func(r *dbrRun) {
		r.request("GET", func(db *gorm.DB) { r.different(4, func() { r.first(db, &DBRPet{}) }) })
	}, dbrDiffer("2", "1", dbrWhyOne)},
	{"a POST that writes more than once", dbrSources, func(r *dbrRun) {
		r.request("POST",
			func(db *gorm.DB) { r.different(4, func() { r.wrote(db.Create(&DBRPet{r.row()}).Error, "pets") }) })
	}, dbrDiffer("2", "1", dbrWhyOne)},

	// The pools, and the plugin itself.
	{"limits", &dbrLayout{
		groups: []dbrGroup{
			{replicas: []string{"replica_1"}, pool: replicated.PoolConfig{MaxOpen: 5}},
			{sources: []string{"source"}, replicas: []string{"users_replica"}, pool: replicated.PoolConfig{MaxOpen: 7},
				tables: []any{"users"}},
		},
		limit: func(dr *dbresolver.DBResolver) { dr.SetMaxOpenConns(5) },
	}, func(r *dbrRun) { r.limits() }, dbrDiffer("own:5 replica_1:5 source:5 users_replica:5",
		"own:0 replica_1:5 source:7 users_replica:7", dbrWhyPools)},
	{"no limits", dbrNoReplicas, func(r *dbrRun) { r.limits() }, dbrSame("own:0 replica_1:0 source:0")},
	{"idle connections", dbrNoReplicas, func(r *dbrRun) { r.idle() }, dbrDiffer("false", "true", dbrWhyIdle)},
	{"Register after Use", &dbrLayout{groups: dbrNoReplicas.groups[:1], alone: true}, func(r *dbrRun) {
		r.later(dbrGroup{replicas: []string{"users_replica"}, tables: []any{"users"}})
		r.first(r.DB, &DBRUser{})
		r.first(r.DB, &DBRPet{})
	}, dbrDiffer("users_replica replica", "error replica", dbrWhyLate)},
	{"two global groups", dbrReadme, func(r *dbrRun) {
		r.use(&dbrLayout{groups: []dbrGroup{{}, {tables: []any{}}}})
	}, dbrSame("error")},
	{"Use twice", dbrReadme, func(r *dbrRun) {
		if err := r.DB.Use(r.plugin()); err != nil {
			r.failed(err)
		}
	}, dbrSame("error")},
	{"one plugin for two databases", dbrReadme, func(r *dbrRun) {
		other := r.servers.plain(r.t, "orders_source_1")
		if err := other.Use(r.plugin()); err != nil {
			r.failed(err)
		}
		r.first(other, &DBRPet{}) // dbresolver does nothing here
	}, dbrDiffer("orders_source_1", "error orders_source_1", dbrWhyTwice)},
	{"Close", &dbrLayout{groups: dbrReadme.groups, alone: true}, func(r *dbrRun) {
		if c, ok := r.plugin().(interface{ Close() error }); ok {
			r.saw(c.Close(), "closed")
		}
		r.first(r.DB, &DBRPet{})
	}, dbrDiffer("replica", "closed source", dbrWhyClose)},
	{"TraceResolverMode", dbrReadme, func(r *dbrRun) {
		r.first(r.DB, &DBRPet{})
		r.wrote(r.DB.Create(&DBRPet{r.row()}).Error, "pets")
		for _, line := range r.log.take() {
			if mode, _, ok := strings.Cut(line, "] "); ok {
				r.answer(mode + "]")
			} else if fields := strings.Split(line, ", "); strings.HasPrefix(line, "(") {
				r.answer(fields[1])
			}
		}
	}, dbrDiffer("replica source [replica] [source]", "replica source slave master", dbrWhyTrace)},
	{"a replica that replicates nothing", &dbrLayout{groups: dbrReadme.groups,
		change: func(config *replicated.Config) { config.Probe.Interval = time.Second }}, func(r *dbrRun) {
		r.first(r.DB, &DBRPet{})
	}, dbrDiffer("replica", "source", dbrWhyWatched)},
}

// dbrModes are the ways to prepare statements.
var dbrModes = []struct {
	name   string
	config gorm.Config
}{
	{"plain", gorm.Config{}},
	{"PrepareStmt", gorm.Config{PrepareStmt: true}},
}

// dbrRounds is how often a case runs, so that policies have a choice.
const dbrRounds = 2

// TestMigratingFromDBResolver runs every case with dbresolver and with the plugin, on the same servers.
func TestMigratingFromDBResolver(t *testing.T) {
	for _, e := range dbrEngines {
		if !servers.Wanted(e.name) {
			continue
		}
		t.Run(e.name, func(t *testing.T) {
			s := startDBRServers(t, e)
			if e.name != "PostgreSQL" { // the guide's programs are for the others
				dbrGuide(t, s)
			}
			for _, mode := range dbrModes {
				t.Run(mode.name, func(t *testing.T) {
					open := map[*dbrLayout][2]dbrDB{}
					for i, c := range dbrCases {
						if c.want.engines != nil && !slices.Contains(c.want.engines, e.name) ||
							c.want.mode != "" && c.want.mode != mode.name {
							continue
						}
						dbs, ok := open[c.layout]
						if !ok {
							dbs = [2]dbrDB{s.open(t, c.layout, mode.config, false), s.open(t, c.layout, mode.config, true)}
							open[c.layout] = dbs
						}
						t.Run(c.name, func(t *testing.T) {
							rounds := dbrRounds
							if c.layout.alone {
								rounds = 1
							}
							for round := range rounds {
								for _, db := range dbs {
									r := &dbrRun{t: t, servers: s, dbrDB: db, mark: fmt.Sprintf("case %d, round %d", i, round)}
									db.log.take()
									c.do(r)
									c.check(r)
								}
							}
						})
					}
				})
			}
		})
	}
}

// check compares what a run has seen with what was expected of its plugin.
func (c *dbrCase) check(r *dbrRun) {
	r.t.Helper()
	who, want := "dbresolver", c.want.old
	if r.new != nil {
		who, want = "replicated", c.want.new
	}
	if !dbrMatch(strings.Fields(want), r.answers) {
		r.t.Errorf("%s: answered %q, want %q; the plugin: %s; errors: %v; what was told:\n\t%s",
			c.name, strings.Join(r.answers, " "), want, who, r.errs, strings.Join(r.log.take(), "\n\t"))
	}
}

// dbrMatch compares answers, of which servers may have a number that the expected ones do not have.
func dbrMatch(want, got []string) bool {
	return slices.EqualFunc(want, got, func(want, got string) bool {
		return want == got || want+"_1" == got || want+"_2" == got
	})
}
