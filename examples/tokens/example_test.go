package tokens

import (
	"context"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"

	"github.com/gorm-replicated/replicated"
	"github.com/gorm-replicated/replicated/examples/internal/servers"
)

// A job reads what the request has written that queued it.
func Example_job() {
	pair := open() // a master, and a slave that is behind
	defer pair.Close()
	queue := make(chan Job, 1)
	post(pair.Plugin.Middleware(Sell(pair.DB, queue)), "/orders", "item", "teapot")
	pair.Routes()

	job := <-queue
	invoice, err := Invoice(context.Background(), pair.DB, job)
	fmt.Println(invoice, err, pair.Routes())

	job.Token = "" // as if it had been forgotten
	_, err = Invoice(context.Background(), pair.DB, job)
	fmt.Println(err, pair.Routes())
	// Output:
	// one teapot <nil> [master: no slave covers the token]
	// record not found [slave-1: default intent]
}

// Two services read each other's writes, and the client of one those of both.
func Example_service() {
	pair := open()
	defer pair.Close()
	db, _, err := pair.Another()
	if err != nil {
		log.Fatal(err)
	}
	stock := httptest.NewServer(Stock(db))
	defer stock.Close()

	shop := Shop(pair.DB, &http.Client{Transport: pair.Plugin.Transport(nil)}, stock.URL)
	answer, _ := post(shop, "/orders", "item", "teapot")
	fmt.Println("the stock reads", answer, pair.Routes())

	_, token := post(shop, "/gifts", "item", "biscuit")
	pair.Routes()
	fmt.Println("the customer reads", get(shop, "/orders", token), pair.Routes())
	fmt.Println("others read", get(shop, "/orders", ""), pair.Routes())

	shop = Shop(pair.DB, http.DefaultClient, stock.URL) // which takes no token along
	answer, _ = post(shop, "/orders", "item", "cup")
	fmt.Println("without the transport the stock reads", answer, pair.Routes())
	// Output:
	// the stock reads ["teapot"] [master: write master: no slave covers the token]
	// the customer reads ["teapot" "biscuit"] [master: no slave covers the token]
	// others read [] [slave-1: method]
	// without the transport the stock reads [] [master: write slave-1: method]
}

// Clients that keep nothing read what they have written, if the application knows who they are.
func Example_users() {
	pair := open()
	defer pair.Close()
	mux := http.NewServeMux()
	mux.HandleFunc("GET /orders", list(pair.DB))
	mux.HandleFunc("POST /orders", create(pair.DB))
	users := &Users{Plugin: pair.Plugin, Name: func(r *http.Request) string { return r.FormValue("user") }}
	site := users.Middleware(mux)

	post(site, "/orders", "item", "teapot", "user", "ann")
	pair.Routes()
	for _, name := range []string{"ann", "bob", ""} {
		fmt.Printf("%q reads %s %v\n", name, get(site, "/orders?user="+name, ""), pair.Routes())
	}
	// Output:
	// "ann" reads ["teapot"] [master: no slave covers the token]
	// "bob" reads [] [slave-1: method]
	// "" reads [] [slave-1: method]
}

func open() *servers.Pair {
	pair, err := servers.Open(&Order{},
		replicated.Config{Secrets: [][]byte{servers.Secret()}, DefaultIntent: replicated.Slave})
	if err != nil {
		log.Fatal(err)
	}
	return pair
}

// post sends a form of names and values in turn. It returns the body of the response, and its token.
func post(h http.Handler, path string, pairs ...string) (body, newToken string) {
	form := url.Values{}
	for i := 0; i+1 < len(pairs); i += 2 {
		form.Set(pairs[i], pairs[i+1])
	}
	r := httptest.NewRequest(http.MethodPost, path, strings.NewReader(form.Encode()))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	return send(h, r, "")
}

func get(h http.Handler, path, token string) string {
	body, _ := send(h, httptest.NewRequest(http.MethodGet, path, nil), token)
	return body
}

func send(h http.Handler, r *http.Request, token string) (body, newToken string) {
	if token != "" {
		r.Header.Set(tokenHeader, token)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	response := w.Result()
	text, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode >= http.StatusBadRequest {
		log.Fatal(response.Status, ": ", string(text), err)
	}
	return string(text), response.Header.Get(tokenHeader)
}
