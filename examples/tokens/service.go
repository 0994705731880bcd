package tokens

import (
	"io"
	"net/http"
	"net/url"
	"strings"

	"gorm.io/gorm"

	"github.com/gorm-replicated/replicated"
)

// Shop serves customers, and Stock serves the shop, at the address stock. With the client's requests travels
// what the session of the shop's request has written, if its transport is the plugin's.
func Shop(db *gorm.DB, client *http.Client, stock string) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /orders", list(db))
	mux.HandleFunc("POST /orders", func(w http.ResponseWriter, r *http.Request) {
		if err := db.WithContext(r.Context()).Create(&Order{Item: r.FormValue("item")}).Error; err != nil {
			http.Error(w, "cannot order", http.StatusInternalServerError)
			return
		}
		pass(w, r, client, http.MethodGet, stock+"/orders") // reads what was just written
	})
	mux.HandleFunc("POST /gifts", func(w http.ResponseWriter, r *http.Request) {
		pass(w, r, client, http.MethodPost, stock+"/orders") // writes what the customer will read
	})
	return replicated.From(db).Middleware(mux)
}

// Stock is another service on the same databases, with the same Secrets.
func Stock(db *gorm.DB) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /orders", list(db))
	mux.HandleFunc("POST /orders", create(db))
	return replicated.From(db).Middleware(mux)
}

// pass answers with what another service says. It is asked with the context of r, which is where the session
// is.
func pass(w http.ResponseWriter, r *http.Request, client *http.Client, method, to string) {
	form := url.Values{"item": {r.FormValue("item")}}
	request, err := http.NewRequestWithContext(r.Context(), method, to, strings.NewReader(form.Encode()))
	if err != nil {
		http.Error(w, "cannot ask", http.StatusInternalServerError)
		return
	}
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	response, err := client.Do(request)
	if err != nil {
		http.Error(w, "no answer", http.StatusBadGateway)
		return
	}
	defer response.Body.Close()
	w.WriteHeader(response.StatusCode)
	_, _ = io.Copy(w, response.Body) // the customer may have gone
}
