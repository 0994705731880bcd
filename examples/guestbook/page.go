package main

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"fmt"
	"html/template"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"gorm.io/gorm"

	"github.com/gorm-replicated/replicated"
)

// page is what the template shows.
type page struct {
	Title string
	Place string        // the path that the navigation marks, and to which forms lead back
	Intro template.HTML // ours, never a visitor's

	Entries []Entry
	Total   int64 // of all entries; negative if nobody asked
	Older   int64 // the archive goes on before this number; zero if it does not
	Search  string
	Rules   []shownRule

	CanSign             bool
	Name, Message       string // what the visitor wrote, if there is a Complaint
	Complaint           string
	Signed              int64 // the number of the entry that this visitor just wrote, or zero
	SignedHere          bool  // whether this page has it
	MaxName, MaxMessage int

	Method, Path string
	Again        string // where the same page is, with news
	Shares       []share
	Servers      []server
	Visits       []visit
	Auto         bool
	Token        bool // whether the request brought one
	Places       []place
	Lags         []time.Duration
}

// server is a server as the page shows it.
type server struct {
	Name     string
	Role     string
	Address  string // where there is one
	Answered int64  // queries of this request
	Replay   *slaveStatus
	Plugin   replicated.ServerStatus // what the plugin knows of a slave
}

// place is a page in the navigation.
type place struct{ Path, Name string }

var places = []place{
	{"/", "Latest"}, {"/fresh", "Fresh"}, {"/archive", "Archive"}, {"/both", "Both"}, {"/rules", "Rules"},
}

const (
	introHome = `A plain handler. The method decides: GET and HEAD only read, so a slave answers; ` +
		`anything else may write, so the master does. Whoever has written brings a token, and is answered by ` +
		`a slave that has replayed it, or by the master.`
	introFresh   = `This handler is wrapped in <code>UseMaster</code>: a GET that must see the newest state.`
	introArchive = `This handler is wrapped in <code>UseSlave</code>: its reads go to a slave whatever ` +
		`the method is, and whether or not the switch is on.`
	introBoth   = `This handler is marked both ways. The master wins.`
	introSearch = `A POST that only reads: <code>Config.Routes</code> says so, with the pattern ` +
		`<code>POST /search</code>.`
	introRules = `One GET request, whose queries ask for their server in one way after another.`
)

// rule is a query that shows one rule of routing.
type rule struct {
	Name string // in its path
	Says string
	Code string
	run  func(db *gorm.DB) error // db has the request's context
}

type shownRule struct {
	rule
	Answers []answer
}

var rules = []rule{
	{"read", "a read", `db.WithContext(ctx).Find(&entries)`, readOne},
	{"clause", "a clause on the statement", `db.WithContext(ctx).Clauses(replicated.Master).Find(&entries)`,
		func(db *gorm.DB) error {
			return readOne(db.Clauses(replicated.Master))
		}},
	{"context", "a context for the master", `db.WithContext(replicated.WithMaster(ctx)).Find(&entries)`,
		func(db *gorm.DB) error {
			return readOne(db.WithContext(replicated.WithMaster(db.Statement.Context)))
		}},
	{"innermost", "two contexts: the innermost counts",
		`db.WithContext(replicated.WithSlave(replicated.WithMaster(ctx))).Find(&entries)`,
		func(db *gorm.DB) error {
			return readOne(db.WithContext(replicated.WithSlave(replicated.WithMaster(db.Statement.Context))))
		}},
	{"sql", "SQL that provably only reads",
		`db.WithContext(ctx).Raw("SELECT count(*) FROM guestbook_entries").Scan(&n)`,
		func(db *gorm.DB) error {
			var n int64
			return db.Raw("SELECT count(*) FROM guestbook_entries").Scan(&n).Error
		}},
	{"connection", "SQL that depends on its connection",
		`db.WithContext(ctx).Raw("SELECT last_insert_rowid()").Scan(&id)`,
		func(db *gorm.DB) error {
			var id int64
			return db.Raw(lastInsertID[db.Name()]).Scan(&id).Error
		}},
	{"read-only", "a read-only transaction",
		`db.WithContext(ctx).Transaction(find, &sql.TxOptions{ReadOnly: true})`,
		func(db *gorm.DB) error {
			return db.Transaction(readOne, &sql.TxOptions{ReadOnly: true})
		}},
	{"transaction", "a transaction that may write", `db.WithContext(ctx).Transaction(find)`,
		func(db *gorm.DB) error {
			return db.Transaction(readOne)
		}},
}

// lastInsertID is the same question in each dialect.
var lastInsertID = map[string]string{
	"sqlite": "SELECT last_insert_rowid()",
	"mysql":  "SELECT last_insert_id()",
}

func readOne(db *gorm.DB) error { return db.Limit(1).Find(&[]Entry{}).Error }

// complete fills in what every page shows.
func (s *site) complete(p *page, r *http.Request, all []answer) error {
	p.Method, p.Path = r.Method, r.URL.Path
	p.Shares = shares(all)
	p.Again = p.Place
	if p.Signed > 0 {
		p.Again += "?signed=" + strconv.FormatInt(p.Signed, 10)
	}
	p.Visits = s.visits.Latest()
	p.Auto, p.Token = s.plugin.Status().AutoReadOnSlave, hasToken(r)
	p.Places, p.Lags, p.MaxName, p.MaxMessage = places, lags, maxName, maxMessage
	servers, err := s.servers(r.Context(), all)
	p.Servers = servers
	return err
}

// servers returns the master and the slaves, with what they answered.
func (s *site) servers(ctx context.Context, all []answer) ([]server, error) {
	servers := []server{{Name: masterName, Role: "master", Address: s.backend.addresses[masterName]}}
	for i := range s.backend.slaves {
		servers = append(servers,
			server{Name: slaveName(i), Role: "slave", Address: s.backend.addresses[slaveName(i)]})
	}
	if s.backend.replication != nil {
		status, err := s.backend.replication.Status(ctx)
		if err != nil {
			return nil, err
		}
		for i := range status {
			servers[i+1].Replay = &status[i]
		}
	}
	for _, status := range s.plugin.Status().Groups[0].Servers {
		i := slices.IndexFunc(servers, func(s server) bool { return s.Role == "slave" && s.Name == status.ID })
		if i >= 0 {
			servers[i].Plugin = status
		}
	}
	for i := range servers {
		servers[i].Answered = servers[i].answered(all)
	}
	return servers, nil
}

// answered returns how many of the answers are the server's.
func (s server) answered(all []answer) (n int64) {
	for _, a := range all {
		// There is one master, whatever the plugin calls it.
		if a.Role == s.Role && (a.Role == "master" || a.Server == s.Name) {
			n++
		}
	}
	return n
}

var functions = template.FuncMap{
	"lag":   showLag,
	"bound": showBound,
	"tally": tally,
	"clock": func(t time.Time) string { return t.Local().Format("15:04:05") },
	"date":  func(t time.Time) string { return t.Local().Format("2 January 2006, 15:04:05") },
	"iso":   func(t time.Time) string { return t.UTC().Format(time.RFC3339) },
	"count": count,
	"style": styleURL,
}

func showLag(d time.Duration) string {
	switch {
	case d == 0:
		return "none"
	case d < time.Second:
		return fmt.Sprintf("%d ms", d.Milliseconds())
	}
	return fmt.Sprintf("%g s", d.Seconds())
}

// showBound rounds up: it is said of "at most".
func showBound(d time.Duration) string {
	const tenth = time.Second / 10
	return fmt.Sprintf("%.1f s", ((d + tenth - 1).Truncate(tenth)).Seconds())
}

func count(n int64, one, more string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, more)
}

// tallied is a run of equal answers.
type tallied struct {
	answer
	Times int
}

// tally joins equal answers that follow each other.
func tally(all []answer) []tallied {
	var runs []tallied
	for _, a := range all {
		if n := len(runs); n > 0 && runs[n-1].answer == a {
			runs[n-1].Times++
			continue
		}
		runs = append(runs, tallied{a, 1})
	}
	return runs
}

// share is what one server answered of a request.
type share struct {
	Server  string
	Role    string
	Queries int64
	Reasons string
}

// shares sums up by server, in the order in which they were first asked.
func shares(all []answer) []share {
	var sums []share
	for _, a := range all {
		i := slices.IndexFunc(sums, func(s share) bool { return s.Server == a.Server && s.Role == a.Role })
		if i < 0 {
			i = len(sums)
			sums = append(sums, share{Server: a.Server, Role: a.Role})
		}
		sums[i].Queries++
		if reasons := strings.Split(sums[i].Reasons, ", "); reasons[0] == "" {
			sums[i].Reasons = a.Reason
		} else if !slices.Contains(reasons, a.Reason) {
			sums[i].Reasons += ", " + a.Reason
		}
	}
	return sums
}

// styleURL changes with the style, so that browsers may keep what it names for good.
var styleURL = sync.OnceValue(func() string {
	css, err := files.ReadFile(styleFile)
	if err != nil {
		panic(err) // it is embedded
	}
	return fmt.Sprintf("/style.css?v=%x", sha256.Sum256(css))[:len("/style.css?v=")+12]
})

const styleFile = "pages/style.css"

func style(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "public, max-age=31536000, immutable")
	http.ServeFileFS(w, r, files, styleFile)
}
