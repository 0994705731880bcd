// Command nethttp is a complete program on net/http: a GET reads from the slave, a POST writes on the master.
//
//	export MASTER_DSN='user:password@tcp(db1:3306)/app' SLAVE_DSN='user:password@tcp(db2:3306)/app'
//	export SECRET=$(openssl rand -base64 32) # the same for all instances
//	go run ./nethttp
package main

import (
	"encoding/json"
	"log"
	"net/http"
	"os"

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
	if err := db.AutoMigrate(&Note{}); err != nil {
		log.Fatal(err)
	}
	log.Fatal(http.ListenAndServe("127.0.0.1:8080", plugin.Middleware(routes(db))))
}

func routes(db *gorm.DB) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /notes", func(w http.ResponseWriter, r *http.Request) {
		var notes []Note
		if err := db.WithContext(r.Context()).Find(&notes).Error; err != nil { // on the slave
			http.Error(w, "cannot read", http.StatusInternalServerError)
			return
		}
		json.NewEncoder(w).Encode(notes)
	})
	mux.HandleFunc("POST /notes", func(w http.ResponseWriter, r *http.Request) {
		note := Note{Text: r.FormValue("text")}
		if err := db.WithContext(r.Context()).Create(&note).Error; err != nil { // on the master
			http.Error(w, "cannot write", http.StatusInternalServerError)
			return
		}
		w.WriteHeader(http.StatusCreated)
	})
	return mux
}
