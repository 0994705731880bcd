// Command chi is the plugin with chi: its middleware and its marks are of the shape that chi takes.
//
// The table is made by ../nethttp, which is the complete program.
//
//	export MASTER_DSN='user:password@tcp(db1:3306)/app' SLAVE_DSN='user:password@tcp(db2:3306)/app'
//	export SECRET=$(openssl rand -base64 32) # the same for all instances
//	go run ./chi
package main

import (
	"encoding/json"
	"log"
	"net/http"
	"os"

	"github.com/go-chi/chi/v5"
	"gorm.io/driver/mysql"
	"gorm.io/gorm"

	"github.com/gorm-replicated/replicated"
)

type Note struct {
	ID   uint
	Text string
}

func main() {
	db, err := gorm.Open(mysql.Open(os.Getenv("MASTER_DSN")), &gorm.Config{})
	if err != nil {
		log.Fatal(err)
	}
	plugin := replicated.New(replicated.Config{
		Slaves:  []gorm.Dialector{mysql.Open(os.Getenv("SLAVE_DSN"))},
		Secrets: [][]byte{[]byte(os.Getenv("SECRET"))}, // openssl rand -base64 32
	})
	if err := db.Use(plugin); err != nil {
		log.Fatal(err)
	}
	log.Fatal(http.ListenAndServe("127.0.0.1:8080", routes(db, plugin)))
}

func routes(db *gorm.DB, plugin *replicated.Plugin) http.Handler {
	r := chi.NewRouter()
	r.Use(plugin.Middleware)
	r.Get("/notes", list(db))
	r.Post("/notes", create(db))
	r.With(replicated.UseMaster).Get("/fresh", list(db))
	return r
}

func list(db *gorm.DB) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var notes []Note
		if err := db.WithContext(r.Context()).Find(&notes).Error; err != nil {
			http.Error(w, "cannot read", http.StatusInternalServerError)
			return
		}
		json.NewEncoder(w).Encode(notes)
	}
}

func create(db *gorm.DB) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		note := Note{Text: r.FormValue("text")}
		if err := db.WithContext(r.Context()).Create(&note).Error; err != nil {
			http.Error(w, "cannot write", http.StatusInternalServerError)
			return
		}
		w.WriteHeader(http.StatusCreated)
	}
}
