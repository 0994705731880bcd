package main

import (
	"bytes"
	"context"
	"embed"
	"errors"
	"fmt"
	"html/template"
	"log/slog"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"gorm.io/gorm"

	"github.com/gorm-replicated/replicated"
)

//go:embed pages
var files embed.FS

const (
	maxBody      = 16 << 10         // bytes of a form
	maxSearch    = 100              // bytes
	queryTimeout = 10 * time.Second // for all that one request asks
	seedTimeout  = 10 * time.Second

	// A minute is the default. With less, a visitor who stops a replay soon sees that slave not being read any
	// more.
	maxLag = 20 * time.Second
)

// lags are those that a visitor can choose from.
var lags = []time.Duration{0, 500 * time.Millisecond, 2 * time.Second, 10 * time.Second}

// site is the web application.
type site struct {
	backend *backend
	db      *gorm.DB
	plugin  *replicated.Plugin
	store   store
	visits  visits
	pages   *template.Template
}

// newSite opens the database of b, with the plugin. The secrets seal its tokens.
func newSite(ctx context.Context, b *backend, secrets ...[]byte) (*site, error) {
	pages, err := template.New("").Funcs(functions).ParseFS(files, "pages/*.html")
	if err != nil {
		return nil, err
	}
	db, err := gorm.Open(b.master, quiet())
	if err != nil {
		return nil, fmt.Errorf("open the master: %w", err)
	}
	s := &site{backend: b, db: db, store: store{db}, pages: pages}
	s.plugin = replicated.New(replicated.Config{
		Slaves:   b.slaves,
		MaxLag:   maxLag,
		Secrets:  secrets,
		Probe:    replicated.ProbeConfig{Source: b.source},
		Routes:   map[string]replicated.Intent{"POST /search": replicated.Slave},
		Observer: observer{},
	})
	if err := db.Use(s.plugin); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	if b.replication != nil {
		if err := s.seed(ctx); err != nil {
			return nil, errors.Join(err, s.Close())
		}
	}
	return s, nil
}

// seed writes the first entries, so that there is something to read, and waits for the slaves to have them.
func (s *site) seed(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, seedTimeout)
	defer cancel()
	for _, e := range []Entry{
		{Name: "Ada", Message: "The first entry. It was written on the master, like every other one."},
		{Name: "Grace", Message: "I am reading this from a slave, a moment later."},
		{Name: "Edgar",
			Message: "Set a lag of ten seconds and sign the book: you find your entry, on the master. Others wait."},
	} {
		if _, err := s.store.Add(ctx, e.Name, e.Message); err != nil {
			return fmt.Errorf("write the first entries: %w", err)
		}
	}
	s.backend.replication.Written()
	return s.backend.replication.Await(ctx)
}

// Close closes the connections to the master and to the slaves.
func (s *site) Close() error {
	err := s.plugin.Close()
	if master, e := s.db.DB(); e == nil {
		err = errors.Join(err, master.Close())
	}
	return err
}

// Handler is the whole of the site. The plugin's middleware stands around the handlers that ask the database,
// and the record around the plugin's, because what it puts in the context is for the observer.
func (s *site) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", s.home)
	mux.HandleFunc("POST /entries", s.sign)
	mux.HandleFunc("POST /search", s.search) // in Config.Routes: a POST that only reads
	mux.Handle("GET /fresh", replicated.UseMaster(http.HandlerFunc(s.fresh)))
	mux.Handle("GET /archive", replicated.UseSlave(http.HandlerFunc(s.archive)))
	mux.Handle("POST /archive", replicated.UseSlave(http.HandlerFunc(s.archive)))
	mux.Handle("GET /both", replicated.UseSlave(replicated.UseMaster(http.HandlerFunc(s.both))))
	mux.HandleFunc("GET /rules", s.rules)
	mux.HandleFunc("GET /rules/{name}", s.rules)

	mux.HandleFunc("POST /auto-read-on-slave", s.switchAuto)
	mux.HandleFunc("POST /slaves/{name}/lag", s.control(setLag))
	mux.HandleFunc("POST /slaves/{name}/stop", s.control(stopReplay))
	mux.HandleFunc("POST /slaves/{name}/start", s.control(startReplay))
	mux.HandleFunc("POST /forget", s.forget)
	mux.HandleFunc("GET /style.css", style)

	var h http.Handler = mux
	h = s.plugin.Middleware(h)
	h = s.visits.Record(h)
	h = http.MaxBytesHandler(h, maxBody)
	h = http.NewCrossOriginProtection().Handler(h)
	h = withTimeout(h, queryTimeout)
	return withHeaders(h)
}

func withTimeout(next http.Handler, d time.Duration) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), d)
		defer cancel()
		next.ServeHTTP(w, r.WithContext(ctx))
	})
}

func withHeaders(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy",
			"default-src 'none'; style-src 'self'; img-src data:; form-action 'self'; "+
				"base-uri 'none'; frame-ancestors 'none'")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "same-origin")
		h.Set("Cache-Control", "no-store") // a page is about the very request that asked for it
		next.ServeHTTP(w, r)
	})
}

func (s *site) home(w http.ResponseWriter, r *http.Request) {
	p := page{Title: "Latest entries", Place: "/", Intro: introHome, CanSign: true}
	s.showLatest(w, r, http.StatusOK, p)
}

// showLatest fills p with the latest entries and sends it.
func (s *site) showLatest(w http.ResponseWriter, r *http.Request, status int, p page) {
	var err error
	if p.Entries, p.Total, err = s.store.Latest(r.Context()); err != nil {
		s.fail(w, r, "read the latest entries", err)
		return
	}
	if signed, err := strconv.ParseInt(r.URL.Query().Get("signed"), 10, 64); err == nil && signed > 0 {
		p.Signed = signed
		// Numbers only grow. A slave that has replayed this entry shows it, or later ones.
		p.SignedHere = len(p.Entries) > 0 && p.Entries[0].ID >= signed
	}
	s.send(w, r, status, p)
}

func (s *site) sign(w http.ResponseWriter, r *http.Request) {
	if !parseForm(w, r) {
		return
	}
	name, message, complaint := checkEntry(r.PostForm.Get("name"), r.PostForm.Get("message"))
	if complaint != "" {
		s.showLatest(w, r, http.StatusUnprocessableEntity, page{
			Title: "Latest entries", Place: "/", Intro: introHome,
			CanSign: true, Name: name, Message: message, Complaint: complaint,
		})
		return
	}
	entry, err := s.store.Add(r.Context(), name, message)
	if err != nil {
		s.fail(w, r, "write an entry", err)
		return
	}
	if s.backend.replication != nil {
		s.backend.replication.Written()
	}
	s.redirect(w, r, "/?signed="+strconv.FormatInt(entry.ID, 10))
}

func (s *site) fresh(w http.ResponseWriter, r *http.Request) {
	s.showLatest(w, r, http.StatusOK, page{Title: "Fresh from the master", Place: "/fresh", Intro: introFresh})
}

func (s *site) both(w http.ResponseWriter, r *http.Request) {
	s.showLatest(w, r, http.StatusOK, page{Title: "Marked both ways", Place: "/both", Intro: introBoth})
}

func (s *site) archive(w http.ResponseWriter, r *http.Request) {
	if !parseForm(w, r) {
		return
	}
	before, err := strconv.ParseInt(r.PostForm.Get("before"), 10, 64)
	if err != nil || before < 0 {
		before = 0 // from the newest on
	}
	p := page{Title: "Archive", Place: "/archive", Intro: introArchive, Total: -1}
	if p.Entries, err = s.store.Before(r.Context(), before); err != nil {
		s.fail(w, r, "read the archive", err)
		return
	}
	if len(p.Entries) == pageSize {
		p.Older = p.Entries[pageSize-1].ID
	}
	s.send(w, r, http.StatusOK, p)
}

func (s *site) search(w http.ResponseWriter, r *http.Request) {
	if !parseForm(w, r) {
		return
	}
	text := r.PostForm.Get("text")
	if len(text) > maxSearch {
		http.Error(w, fmt.Sprintf("Please search for %d bytes at most.", maxSearch), http.StatusUnprocessableEntity)
		return
	}
	p := page{Title: "Search", Place: "/", Intro: introSearch, Search: text, Total: -1}
	var err error
	if p.Entries, err = s.store.Search(r.Context(), text); err != nil {
		s.fail(w, r, "search", err)
		return
	}
	s.send(w, r, http.StatusOK, p)
}

func (s *site) rules(w http.ResponseWriter, r *http.Request) {
	p := page{Title: "Rules", Place: "/rules", Intro: introRules, Total: -1}
	for _, rule := range rules {
		if name := r.PathValue("name"); name != "" && name != rule.Name {
			continue
		}
		before := len(answersOf(r.Context()).list())
		if err := rule.run(s.db.WithContext(r.Context())); err != nil {
			s.fail(w, r, rule.Says, err)
			return
		}
		p.Rules = append(p.Rules, shownRule{rule, answersOf(r.Context()).list()[before:]})
	}
	if len(p.Rules) == 0 {
		http.NotFound(w, r)
		return
	}
	s.send(w, r, http.StatusOK, p)
}

func (s *site) switchAuto(w http.ResponseWriter, r *http.Request) {
	if !parseForm(w, r) {
		return
	}
	on, err := strconv.ParseBool(r.PostForm.Get("on"))
	if err != nil {
		http.Error(w, "on has to be true or false.", http.StatusBadRequest)
		return
	}
	s.plugin.SetAutoReadOnSlave(on)
	s.redirect(w, r, origin(r))
}

const tokenCookie = "replicated" // the default of Config.Token

func hasToken(r *http.Request) bool {
	c, err := r.Cookie(tokenCookie)
	return err == nil && c.Value != ""
}

// forget takes the visitor's token away, so that one browser can be somebody else, too.
func (s *site) forget(w http.ResponseWriter, r *http.Request) {
	if parseForm(w, r) {
		http.SetCookie(w, &http.Cookie{Name: tokenCookie, Path: "/", MaxAge: -1})
		s.redirect(w, r, origin(r))
	}
}

// control finds the slave that a form is about.
func (s *site) control(change func(*slave, url.Values) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if s.backend.replication == nil {
			http.NotFound(w, r) // real servers are not the guestbook's to control
			return
		}
		slave := s.backend.replication.Slave(r.PathValue("name"))
		if slave == nil {
			http.NotFound(w, r)
			return
		}
		if !parseForm(w, r) {
			return
		}
		if err := change(slave, r.PostForm); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		s.redirect(w, r, origin(r))
	}
}

func setLag(s *slave, form url.Values) error {
	lag, err := time.ParseDuration(form.Get("lag"))
	if err != nil || lag < 0 || lag > time.Minute {
		return errors.New("lag has to be between 0s and 1m")
	}
	s.SetLag(lag)
	return nil
}

func stopReplay(s *slave, _ url.Values) error  { s.Stop(); return nil }
func startReplay(s *slave, _ url.Values) error { s.Start(); return nil }

// origin is the page that a form was sent from, if it says so.
func origin(r *http.Request) string {
	for _, place := range places {
		if r.PostForm.Get("from") == place.Path {
			return place.Path
		}
	}
	return "/"
}

// parseForm reads a form, or answers that it cannot.
func parseForm(w http.ResponseWriter, r *http.Request) bool {
	err := r.ParseForm()
	var tooLarge *http.MaxBytesError
	if errors.As(err, &tooLarge) {
		http.Error(w, "That is too long.", http.StatusRequestEntityTooLarge)
	} else if err != nil {
		http.Error(w, "That form cannot be read.", http.StatusBadRequest)
	}
	return err == nil
}

// send renders p, completes it with what is on every page, and sends it.
func (s *site) send(w http.ResponseWriter, r *http.Request, status int, p page) {
	all := answersOf(r.Context()).list()
	if err := s.complete(&p, r, all); err != nil {
		s.fail(w, r, "ask for the state of the slaves", err)
		return
	}
	var body bytes.Buffer
	if err := s.pages.ExecuteTemplate(&body, "page.html", p); err != nil {
		s.fail(w, r, "render", err)
		return
	}
	describe(w.Header(), all)
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Content-Length", strconv.Itoa(body.Len()))
	w.WriteHeader(status)
	_, _ = body.WriteTo(w) // the visitor may have gone
}

func (s *site) redirect(w http.ResponseWriter, r *http.Request, to string) {
	describe(w.Header(), answersOf(r.Context()).list())
	http.Redirect(w, r, to, http.StatusSeeOther)
}

// fail tells the visitor that something went wrong, and the log what it was.
func (s *site) fail(w http.ResponseWriter, r *http.Request, doing string, err error) {
	slog.Error("request failed", "method", r.Method, "path", r.URL.Path, "doing", doing, "error", err)
	describe(w.Header(), answersOf(r.Context()).list())
	http.Error(w, "Something went wrong. The server's log says what.", http.StatusInternalServerError)
}
