// Command gin is the plugin with gin. The middleware goes around the engine, and handlers use
// c.Request.Context(): a *gin.Context is a context.Context too, but not the one that carries the request's
// session.
//
// The table is made by ../nethttp, which is the complete program.
//
//	export MASTER_DSN='user:password@tcp(db1:3306)/app' SLAVE_DSN='user:password@tcp(db2:3306)/app'
//	export SECRET=$(openssl rand -base64 32) # the same for all instances
//	go run ./gin
package main

import (
	"log"
	"net/http"
	"os"

	"github.com/gin-gonic/gin"
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
	log.Fatal(http.ListenAndServe("127.0.0.1:8080", plugin.Middleware(routes(db))))
}

func routes(db *gorm.DB) http.Handler {
	engine := gin.New()
	engine.GET("/notes", list(db))
	engine.POST("/notes", create(db))
	engine.GET("/fresh", useMaster, list(db))
	return engine
}

// useMaster is what replicated.UseMaster is to handlers of net/http.
func useMaster(c *gin.Context) {
	c.Request = c.Request.WithContext(replicated.WithMaster(c.Request.Context()))
}

func list(db *gorm.DB) gin.HandlerFunc {
	return func(c *gin.Context) {
		var notes []Note
		if err := db.WithContext(c.Request.Context()).Find(&notes).Error; err != nil {
			c.String(http.StatusInternalServerError, "cannot read")
			return
		}
		c.JSON(http.StatusOK, notes)
	}
}

func create(db *gorm.DB) gin.HandlerFunc {
	return func(c *gin.Context) {
		note := Note{Text: c.PostForm("text")}
		if err := db.WithContext(c.Request.Context()).Create(&note).Error; err != nil {
			c.String(http.StatusInternalServerError, "cannot write")
			return
		}
		c.Status(http.StatusCreated)
	}
}
