package tokens

import (
	"io"
	"net/http"
	"net/url"
	"strings"

	"gorm.io/gorm"

	"github.com/gorm-replicated/replicated"
)

// Shop serves customers. It asks Stock, which is at the address stock. If the client's transport is the
// plugin's, its requests carry what the session of the customer's request has written.
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

// pass answers with what another service says. The request to that service has the context of r, and so its
// session.
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
