package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

const (
	tourTimeout = time.Minute             // for the whole of it
	tourPoll    = 20 * time.Millisecond   // how often it asks again for what it waits for
	tourLag     = 1500 * time.Millisecond // long enough to ask within it
	tourTries   = 5                       // on a machine that is too slow for tourLag
	tourTimes   = 10                      // where one answer would prove little
)

var errNotAsExpected = errors.New("not everything is as expected")

// runTour drives the guestbook at url over HTTP, as two visitors, and prints who answered. The text does not
// vary from run to run. It returns errNotAsExpected if a row is not as expected.
func runTour(ctx context.Context, url string, slaves []string, lag bool, out io.Writer) error {
	ctx, cancel := context.WithTimeout(ctx, tourTimeout)
	defer cancel()
	t, err := newTour(ctx, url, slaves)
	if err != nil {
		return err
	}
	defer t.ada.CloseIdleConnections()
	defer t.other.CloseIdleConnections()
	err = t.walk(lag)
	t.print(out)
	if !lag {
		fmt.Fprintln(out, "\nLeft out, because the guestbook does not control the replication of real servers: "+
			"a slave that is behind.")
	}
	if err != nil {
		return fmt.Errorf("the tour stopped: %w", err)
	}
	if t.failed {
		return errNotAsExpected
	}
	return nil
}

// tour is a walk through the guestbook.
type tour struct {
	ctx    context.Context
	url    string
	slaves []string
	ada    *http.Client // who signs the book, and whose browser keeps the token
	other  *http.Client // who only reads, unless a row says something else
	rows   []tourRow
	failed bool
	signed int // entries so far
}

func newTour(ctx context.Context, url string, slaves []string) (*tour, error) {
	jar, err := cookiejar.New(nil)
	if err != nil {
		return nil, err
	}
	stay := func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &tour{
		ctx:    ctx,
		url:    strings.TrimSuffix(url, "/"),
		slaves: slaves,
		ada:    &http.Client{CheckRedirect: stay, Jar: jar},
		other:  &http.Client{CheckRedirect: stay},
	}, nil
}

// tourRow is a line of the table.
type tourRow struct{ request, server, reason, verdict string }

// reply is what the tour needs of a response.
type reply struct {
	status  int
	body    string
	answers []answer
}

func (t *tour) walk(lag bool) error {
	steps := []func() error{t.methods, t.marks, t.rules, t.theSwitch, t.atOnce}
	if lag {
		steps = append(steps, t.behind, t.oneStopped, t.allStopped)
	}
	for _, step := range steps {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

func (t *tour) methods() error {
	if err := t.ask("GET", "/", nil, "", "slave", "method"); err != nil {
		return err
	}
	if err := t.ask("HEAD", "/", nil, "", "slave", "method"); err != nil {
		return err
	}
	if err := t.everySlave(); err != nil {
		return err
	}
	message, err := t.sign("POST /entries: writes, and reads it back")
	if err != nil {
		return err
	}
	r, err := t.until(t.other, shows(message))
	if err != nil {
		return err
	}
	t.judge("GET / when the slave has replayed it: entry there", r, "slave", "method")
	incomplete := url.Values{"name": {"Ada"}}
	err = t.ask("POST", "/entries", incomplete, "POST /entries without a message: only reads",
		"master", "method")
	if err != nil {
		return err
	}
	search := url.Values{"text": {"Ada"}}
	return t.ask("POST", "/search", search, "POST /search, which is in Routes", "slave", "route pattern")
}

func (t *tour) marks() error {
	if err := t.ask("GET", "/fresh", nil, "GET /fresh, in UseMaster", "master", "handler"); err != nil {
		return err
	}
	if err := t.ask("GET", "/archive", nil, "GET /archive, in UseSlave", "slave", "handler"); err != nil {
		return err
	}
	err := t.ask("POST", "/archive", url.Values{}, "POST /archive, in UseSlave", "slave", "handler")
	if err != nil {
		return err
	}
	return t.ask("GET", "/both", nil, "GET /both, in UseSlave and UseMaster", "master", "handler")
}

func (t *tour) rules() error {
	for _, want := range []struct {
		name, role string
		reasons    []string
	}{
		{"clause", "master", []string{"clause"}},
		{"context", "master", []string{"context"}},
		{"innermost", "slave", []string{"context"}},
		{"sql", "slave", []string{"method"}},
		{"connection", "master", []string{"connection state"}},
		{"read-only", "slave", []string{"method", "bound"}},
		{"transaction", "master", []string{"transaction", "bound"}},
	} {
		i := slices.IndexFunc(rules, func(r rule) bool { return r.Name == want.name })
		label := "GET /rules/" + want.name + ": " + rules[i].Says
		if err := t.ask("GET", "/rules/"+want.name, nil, label, want.role, want.reasons...); err != nil {
			return err
		}
	}
	return nil
}

func (t *tour) theSwitch() error {
	if _, err := t.do(t.other, "POST", "/auto-read-on-slave", url.Values{"on": {"false"}}); err != nil {
		return err
	}
	const off = "AUTO_READ_ON_SLAVE off: "
	if err := t.ask("GET", "/", nil, off+"GET /", "master", "switched off"); err != nil {
		return err
	}
	if err := t.ask("GET", "/archive", nil, off+"GET /archive", "slave", "handler"); err != nil {
		return err
	}
	search := url.Values{"text": {"Ada"}}
	if err := t.ask("POST", "/search", search, off+"POST /search", "slave", "route pattern"); err != nil {
		return err
	}
	if _, err := t.do(t.other, "POST", "/auto-read-on-slave", url.Values{"on": {"true"}}); err != nil {
		return err
	}
	return t.ask("GET", "/", nil, "AUTO_READ_ON_SLAVE on again: GET /", "slave", "method")
}

// atOnce has Ada read what she has just written, however fast the slaves are.
func (t *tour) atOnce() error {
	verdict := "yes"
	for range tourTimes {
		message, err := t.sign("")
		if err != nil {
			return err
		}
		r, err := t.do(t.ada, "GET", "/", nil)
		if err != nil {
			return err
		}
		if !strings.Contains(r.body, message) {
			verdict = fmt.Sprintf("NO: missing, %v", r.answers)
		}
	}
	t.add(tourRow{"POST and GET / at once, over and over: entry there", "one that has it", "varies", verdict})
	return nil
}

// behind has Ada, and somebody else, read what she has written and slaves do not have.
func (t *tour) behind() error {
	if err := t.control("lag", url.Values{"lag": {tourLag.String()}}, t.slaves...); err != nil {
		return err
	}
	message, own, others, err := t.signAndReadWithin(tourLag)
	if err != nil {
		return err
	}
	t.there("GET / after POST, slaves behind: entry there", own, message, "master", "no slave covers the token")
	t.missing("GET / by another visitor: entry missing", others, message, "slave", "method")
	r, err := t.until(t.ada, fromSlave)
	if err != nil {
		return err
	}
	t.there("GET / when a slave has replayed it: entry there", r, message, "slave", "method")
	return t.control("lag", url.Values{"lag": {"0s"}}, t.slaves...)
}

// oneStopped leaves Ada the slave that goes on.
func (t *tour) oneStopped() error {
	if err := t.control("stop", nil, t.slaves[0]); err != nil {
		return err
	}
	message, err := t.sign("")
	if err != nil {
		return err
	}
	if _, err := t.until(t.ada, fromSlave); err != nil {
		return err
	}
	r, err := t.again(t.ada, message)
	if err != nil {
		return err
	}
	t.there("GET / after POST, one slave stopped: always the other", r, message, "slave", "method")
	return nil
}

// allStopped leaves Ada the master, unless the code asks for a slave.
func (t *tour) allStopped() error {
	if err := t.control("stop", nil, t.slaves...); err != nil {
		return err
	}
	message, err := t.sign("")
	if err != nil {
		return err
	}
	r, err := t.again(t.ada, message)
	if err != nil {
		return err
	}
	t.there("GET / after POST, replay stopped: entry there", r, message, "master", "no slave covers the token")
	if r, err = t.do(t.ada, "GET", "/archive", nil); err != nil {
		return err
	}
	t.missing("GET /archive, in UseSlave, all the same: entry missing", r, message, "slave", "handler")
	if r, err = t.do(t.other, "GET", "/fresh", nil); err != nil {
		return err
	}
	t.there("GET /fresh by another visitor: entry there", r, message, "master", "handler")
	if err := t.control("start", nil, t.slaves...); err != nil {
		return err
	}
	if r, err = t.until(t.ada, fromSlave); err != nil {
		return err
	}
	t.there("GET / when the replay has caught up: entry there", r, message, "slave", "method")
	return nil
}

// ask makes one request, without a token, and judges who answered it. The label is the request itself if it
// is empty.
func (t *tour) ask(method, path string, form url.Values, label, role string, reasons ...string) error {
	r, err := t.do(t.other, method, path, form)
	if err != nil {
		return err
	}
	t.judge(cmp.Or(label, method+" "+path), r, role, reasons...)
	return nil
}

// judge adds a row: every query was to be answered by one server of that role, for those reasons, in that
// order.
func (t *tour) judge(label string, r reply, role string, reasons ...string) {
	got := distinct(r.answers, func(a answer) string { return a.Reason })
	servers := distinct(r.answers, func(a answer) string { return a.Server })
	roles := distinct(r.answers, func(a answer) string { return a.Role })
	verdict := "yes"
	switch {
	case r.status >= http.StatusInternalServerError:
		verdict = fmt.Sprintf("NO: status %d", r.status)
	case !slices.Equal(roles, []string{role}) || len(servers) != 1:
		verdict = "NO: want " + show(role)
	case !slices.Equal(got, reasons):
		verdict = "NO: want " + strings.Join(reasons, ", ")
	}
	for i, one := range roles {
		roles[i] = show(one)
	}
	if len(servers) > len(roles) {
		roles = append(roles, "changing within the request: "+strings.Join(servers, ", "))
	}
	t.add(tourRow{label, strings.Join(roles, ", "), strings.Join(got, ", "), verdict})
}

// there is judge for a page that has to show the message.
func (t *tour) there(label string, r reply, message, role string, reasons ...string) {
	t.judge(label, r, role, reasons...)
	if !strings.Contains(r.body, message) {
		t.amend("NO: it is missing")
	}
}

// missing is judge for a page that cannot show the message yet.
func (t *tour) missing(label string, r reply, message, role string, reasons ...string) {
	t.judge(label, r, role, reasons...)
	if strings.Contains(r.body, message) {
		t.amend("NO: it is there")
	}
}

func (t *tour) add(row tourRow) {
	t.rows = append(t.rows, row)
	t.failed = t.failed || strings.HasPrefix(row.verdict, "NO")
}

// amend changes the last row's verdict.
func (t *tour) amend(verdict string) {
	row := t.rows[len(t.rows)-1]
	t.rows = t.rows[:len(t.rows)-1]
	row.verdict = verdict
	t.add(row)
}

// everySlave asks until each slave has answered at least once.
func (t *tour) everySlave() error {
	missing := map[string]bool{}
	for _, name := range t.slaves {
		missing[name] = true
	}
	for len(missing) > 0 {
		r, err := t.do(t.other, "GET", "/", nil)
		if err != nil {
			return fmt.Errorf("wait for every slave to answer: %w", err)
		}
		if len(r.answers) != 2 || r.answers[0].Server != r.answers[1].Server {
			t.add(tourRow{"GET / again and again", fmt.Sprint(r.answers), "", "NO: want one slave for both queries"})
			return nil
		}
		delete(missing, r.answers[0].Server)
	}
	t.add(tourRow{"GET / again and again: one for both queries, all in turn", "every slave", "method", "yes"})
	return nil
}

// sign has Ada write an entry and returns its text. With a label it adds a row, too.
func (t *tour) sign(label string) (message string, err error) {
	t.signed++
	now := time.Now().UTC().Format("2006-01-02 15:04:05.000000")
	message = fmt.Sprintf("Entry %d of the tour of %s.", t.signed, now)
	r, err := t.do(t.ada, "POST", "/entries", url.Values{"name": {"Ada"}, "message": {message}})
	if err == nil && r.status != http.StatusSeeOther {
		err = fmt.Errorf("POST /entries: status %d: %s", r.status, r.body)
	}
	if err == nil && label != "" {
		t.judge(label, r, "master", "write", "session wrote")
	}
	return message, err
}

// signAndReadWithin has Ada write an entry, and her and another visitor read the first page before that time
// has passed, so that no slave with such a lag can have the entry.
func (t *tour) signAndReadWithin(lag time.Duration) (message string, own, others reply, err error) {
	for range tourTries {
		begin := time.Now()
		if message, err = t.sign(""); err != nil {
			return message, own, others, err
		}
		if own, err = t.do(t.ada, "GET", "/", nil); err != nil {
			return message, own, others, err
		}
		if others, err = t.do(t.other, "GET", "/", nil); err != nil || time.Since(begin) < lag {
			return message, own, others, err
		}
	}
	return message, own, others, fmt.Errorf("this machine did not manage a POST and two GETs within %v", lag)
}

// until reads the first page until it is the one that is waited for.
func (t *tour) until(who *http.Client, awaited func(reply) bool) (reply, error) {
	tick := time.NewTicker(tourPoll)
	defer tick.Stop()
	for {
		r, err := t.do(who, "GET", "/", nil)
		if err != nil {
			return r, fmt.Errorf("wait for a slave: %w", err)
		}
		if awaited(r) {
			return r, nil
		}
		select {
		case <-t.ctx.Done():
			return r, fmt.Errorf("wait for a slave: %w", t.ctx.Err())
		case <-tick.C:
		}
	}
}

// shows tells whether a page has the message.
func shows(message string) func(reply) bool {
	return func(r reply) bool { return strings.Contains(r.body, message) }
}

// fromSlave tells whether a page was read from a slave.
func fromSlave(r reply) bool { return len(r.answers) > 0 && r.answers[0].Role == "slave" }

// again reads the first page several times, and returns all answers as one: a page without the message, if
// there was any.
func (t *tour) again(who *http.Client, message string) (all reply, err error) {
	for n := range tourTimes {
		r, err := t.do(who, "GET", "/", nil)
		if err != nil {
			return all, err
		}
		if n == 0 || !shows(message)(r) {
			all.status, all.body = r.status, r.body
		}
		all.answers = append(all.answers, r.answers...)
	}
	return all, nil
}

// control sends a form of the page to slaves.
func (t *tour) control(action string, form url.Values, slaves ...string) error {
	for _, name := range slaves {
		r, err := t.do(t.other, "POST", "/slaves/"+name+"/"+action, form)
		if err != nil {
			return err
		}
		if r.status != http.StatusSeeOther {
			return fmt.Errorf("%s %s: status %d: %s", action, name, r.status, r.body)
		}
	}
	return nil
}

// do has somebody make one request, with a form unless that is nil.
func (t *tour) do(who *http.Client, method, path string, form url.Values) (reply, error) {
	request, err := http.NewRequestWithContext(t.ctx, method, t.url+path, strings.NewReader(form.Encode()))
	if err != nil {
		return reply{}, err
	}
	if form != nil {
		request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	response, err := who.Do(request)
	if err != nil {
		return reply{}, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return reply{}, err
	}
	r := reply{status: response.StatusCode, body: string(body)}
	servers, roles, reasons := response.Header.Values(headerServer), response.Header.Values(headerRole),
		response.Header.Values(headerReason)
	if len(roles) != len(servers) || len(reasons) != len(servers) {
		return r, fmt.Errorf("%s %s: headers of different lengths: %q, %q, %q", method, path, servers,
			roles, reasons)
	}
	for i := range servers {
		r.answers = append(r.answers, answer{Server: servers[i], Role: roles[i], Reason: reasons[i]})
	}
	return r, nil
}

// print writes the rows as a table that Markdown understands, too.
func (t *tour) print(out io.Writer) {
	table := [][]string{{"request", "server", "reason", "as expected"}}
	for _, r := range t.rows {
		table = append(table, []string{r.request, r.server, r.reason, r.verdict})
	}
	widths := make([]int, len(table[0]))
	for _, cells := range table {
		for i, cell := range cells {
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	for n, cells := range table {
		for i, cell := range cells {
			fmt.Fprintf(out, "| %-*s ", widths[i], cell)
		}
		fmt.Fprintln(out, "|")
		if n == 0 {
			for _, width := range widths {
				fmt.Fprint(out, "|", strings.Repeat("-", width+2))
			}
			fmt.Fprintln(out, "|")
		}
	}
}

// show names a role in the table, where the name of the slave would vary from run to run.
func show(role string) string {
	if role == "slave" {
		return "a slave"
	}
	return role
}

// distinct returns what of says of the answers, each value once, in order.
func distinct(all []answer, of func(answer) string) []string {
	var values []string
	for _, a := range all {
		if v := of(a); !slices.Contains(values, v) {
			values = append(values, v)
		}
	}
	return values
}
