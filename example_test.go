package replicated_test

import (
	"context"
	"database/sql"
	"fmt"
	"net/http"
	"net/http/httptest"

	"gorm.io/driver/mysql"
	"gorm.io/gorm"
	"gorm.io/gorm/logger"

	"github.com/gorm-replicated/replicated"
)

// The whole of it: a master, two slaves, and handlers that use the request's
// context.
func Example() {
	db, err := gorm.Open(mysql.Open("app:secret@tcp(db0:3306)/shop"), &gorm.Config{})
	if err != nil {
		return // no such server here
	}
	p := replicated.New(replicated.Config{Slaves: []gorm.Dialector{
		mysql.Open("app:secret@tcp(db1:3306)/shop"),
		mysql.Open("app:secret@tcp(db2:3306)/shop"),
	}})
	if err := db.Use(p); err != nil {
		panic(err)
	}
	http.HandleFunc("/users", func(w http.ResponseWriter, r *http.Request) {
		var users []User
		db.WithContext(r.Context()).Find(&users)
		fmt.Fprintln(w, len(users))
	})
	http.ListenAndServe(":8080", p.Middleware(http.DefaultServeMux))
}

// printer is an Observer that prints every route.
type printer struct{}

func (printer) Routed(_ context.Context, r replicated.Route) {
	fmt.Printf("%s (%v)\n", r.Server, r.Reason)
}

// exampleDB is a *gorm.DB with one slave, on servers that answer everything.
func exampleDB(cfg replicated.Config) (*gorm.DB, *replicated.Plugin) {
	open := func(name string) gorm.Dialector { return dialector(sql.OpenDB(&fake{name: name})) }
	db, err := gorm.Open(open("master"), &gorm.Config{Logger: logger.Discard})
	if err != nil {
		panic(err)
	}
	cfg.Slaves = []gorm.Dialector{replicated.Server{Dialector: open("slave"), ID: "slave"}}
	cfg.Observer = printer{}
	p := replicated.New(cfg)
	if err := db.Use(p); err != nil {
		panic(err)
	}
	return db, p
}

func ExamplePlugin_Middleware() {
	db, p := exampleDB(replicated.Config{})
	handler := p.Middleware(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		db := db.WithContext(r.Context())
		if r.Method == http.MethodPost {
			db.Create(&User{Name: "gopher"})
		}
		db.First(&User{})
	}))
	handler.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil))
	handler.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("POST", "/", nil))
	// Output:
	// slave (method)
	// master (write)
	// master (session wrote)
}

func ExampleUseMaster() {
	db, p := exampleDB(replicated.Config{})
	account := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		db.WithContext(r.Context()).First(&User{})
	})
	mux := http.NewServeMux()
	mux.Handle("/account", replicated.UseMaster(account))
	p.Middleware(mux).ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/account", nil))
	// Output: master (handler)
}

func ExampleUseSlave() {
	db, p := exampleDB(replicated.Config{})
	search := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		db.WithContext(r.Context()).Find(&[]User{})
	})
	mux := http.NewServeMux()
	mux.Handle("/search", replicated.UseSlave(search))
	p.Middleware(mux).ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("POST", "/search", nil))
	// Output: slave (handler)
}

func ExampleWithMaster() {
	db, _ := exampleDB(replicated.Config{DefaultIntent: replicated.Slave})
	ctx := context.Background()
	db.WithContext(ctx).First(&User{})
	db.WithContext(replicated.WithMaster(ctx)).First(&User{})
	// Output:
	// slave (default intent)
	// master (context)
}

func ExampleWithSlave() {
	db, _ := exampleDB(replicated.Config{})
	ctx := replicated.WithSlave(context.Background())
	db.WithContext(ctx).Find(&[]User{})
	db.WithContext(ctx).Create(&User{Name: "gopher"}) // a write is a write
	// Output:
	// slave (context)
	// master (write)
}

func ExampleIntent() {
	db, _ := exampleDB(replicated.Config{})
	db.Clauses(replicated.Slave).First(&User{})
	db.Clauses(replicated.Slave).Transaction(func(tx *gorm.DB) error {
		return tx.First(&User{}).Error
	})
	// Output:
	// slave (clause)
	// slave (clause)
	// slave (bound)
}

func ExampleConfig_routes() {
	db, p := exampleDB(replicated.Config{Routes: map[string]replicated.Intent{
		"POST /search": replicated.Slave,
		"/admin/":      replicated.Master,
	}})
	handler := p.Middleware(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		db.WithContext(r.Context()).Find(&[]User{})
	}))
	handler.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("POST", "/search", nil))
	handler.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/admin/users", nil))
	// Output:
	// slave (route pattern)
	// master (route pattern)
}

func ExamplePlugin_SetAutoReadOnSlave() {
	db, p := exampleDB(replicated.Config{DefaultIntent: replicated.Slave})
	db.First(&User{})
	p.SetAutoReadOnSlave(false) // the slaves are in trouble
	db.First(&User{})
	// Output:
	// slave (default intent)
	// master (switched off)
}
