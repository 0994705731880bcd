// Package tokens shows how tokens travel where no cookie does: to a background job, to another service, and
// for clients that keep nothing. Each file is something to copy, and the examples prove that it works.
package tokens

import (
	"fmt"
	"net/http"

	"gorm.io/gorm"
)

// Order is what is written and read here.
type Order struct {
	ID   uint
	Item string
}

// create takes an order.
func create(db *gorm.DB) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if err := db.WithContext(r.Context()).Create(&Order{Item: r.FormValue("item")}).Error; err != nil {
			http.Error(w, "cannot order", http.StatusInternalServerError)
			return
		}
		w.WriteHeader(http.StatusCreated)
	}
}

// list shows all orders.
func list(db *gorm.DB) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var items []string
		if err := db.WithContext(r.Context()).Model(&Order{}).Order("id").Pluck("item", &items).Error; err != nil {
			http.Error(w, "cannot read the orders", http.StatusInternalServerError)
			return
		}
		fmt.Fprintf(w, "%q", items)
	}
}
