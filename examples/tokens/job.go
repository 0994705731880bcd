package tokens

import (
	"context"
	"net/http"

	"gorm.io/gorm"

	"github.com/gorm-replicated/replicated"
)

// Job is an invoice to be written later. The queue may be a table, or on another machine: a token is text.
type Job struct {
	Order uint
	Token string
}

// Sell takes an order, and leaves the invoice to a job.
func Sell(db *gorm.DB, queue chan<- Job) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		order := Order{Item: r.FormValue("item")}
		if err := db.WithContext(r.Context()).Create(&order).Error; err != nil {
			http.Error(w, "cannot order", http.StatusInternalServerError)
			return
		}
		token, err := replicated.From(db).Token(r.Context()) // tells of what is committed by now
		if err != nil {
			http.Error(w, "cannot write an invoice", http.StatusInternalServerError)
			return
		}
		queue <- Job{order.ID, token}
		w.WriteHeader(http.StatusAccepted)
	}
}

// Invoice does a job. It reads from a slave that has the order, if there is one, because Config.DefaultIntent
// is Slave here. WithSlave would not do: it asks for a slave, even for one that is behind.
func Invoice(ctx context.Context, db *gorm.DB, job Job) (string, error) {
	ctx = replicated.From(db).WithToken(ctx, job.Token)
	var order Order
	if err := db.WithContext(ctx).First(&order, job.Order).Error; err != nil {
		return "", err
	}
	return "one " + order.Item, nil
}
