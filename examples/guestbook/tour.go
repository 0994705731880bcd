package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
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
)

var errNotAsExpected = errors.New("not everything is as expected")

const forNow = "yes, for now: a later release solves it"

// runTour drives the guestbook at url over HTTP, as a visitor without cookies would, and prints who answered. The text
// does not vary from run to run. It returns errNotAsExpected if a row is not as expected.
func runTour(ctx context.Context, url string, slaves []string, lag bool, out io.Writer) error {
	ctx, cancel := context.WithTimeout(ctx, tourTimeout)
	defer cancel()
	t := &tour{
		ctx:    ctx,
		url:    strings.TrimSuffix(url, "/"),
		slaves: slaves,
		client: &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }},
	}
	defer t.client.CloseIdleConnections()
	err := t.walk(lag)
	t.print(out)
	if !lag {
		fmt.Fprintln(out, "\nLeft out, because the guestbook does not control the replication of real servers: a slave that is behind.")
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
	client *http.Client
	rows   []tourRow
	failed bool
	signed int // entries so far
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
	steps := []func() error{t.methods, t.marks, t.rules, t.theSwitch}
	if lag {
		steps = append(steps, t.behind)
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
	r, err := t.until(message)
	if err != nil {
		return err
	}
	t.judge("GET / when the slave has replayed it: entry there", r, "slave", "method")
	incomplete := url.Values{"name": {"Ada"}}
	if err := t.ask("POST", "/entries", incomplete, "POST /entries without a message: only reads", "master", "method"); err != nil {
		return err
	}
	return t.ask("POST", "/search", url.Values{"text": {"Ada"}}, "POST /search, which is in Routes", "slave", "route pattern")
}

func (t *tour) marks() error {
	if err := t.ask("GET", "/fresh", nil, "GET /fresh, in UseMaster", "master", "handler"); err != nil {
		return err
	}
	if err := t.ask("GET", "/archive", nil, "GET /archive, in UseSlave", "slave", "handler"); err != nil {
		return err
	}
	if err := t.ask("POST", "/archive", url.Values{}, "POST /archive, in UseSlave", "slave", "handler"); err != nil {
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
	if _, err := t.do("POST", "/auto-read-on-slave", url.Values{"on": {"false"}}); err != nil {
		return err
	}
	if err := t.ask("GET", "/", nil, "AUTO_READ_ON_SLAVE off: GET /", "master", "switched off"); err != nil {
		return err
	}
	if err := t.ask("GET", "/archive", nil, "AUTO_READ_ON_SLAVE off: GET /archive", "slave", "handler"); err != nil {
		return err
	}
	if err := t.ask("POST", "/search", url.Values{"text": {"Ada"}}, "AUTO_READ_ON_SLAVE off: POST /search", "slave", "route pattern"); err != nil {
		return err
	}
	if _, err := t.do("POST", "/auto-read-on-slave", url.Values{"on": {"true"}}); err != nil {
		return err
	}
	return t.ask("GET", "/", nil, "AUTO_READ_ON_SLAVE on again: GET /", "slave", "method")
}

// behind shows what is left to solve: a visitor who has written, and reads from a slave that has not replayed it.
func (t *tour) behind() error {
	if err := t.control("lag", url.Values{"lag": {tourLag.String()}}); err != nil {
		return err
	}
	message, r, err := t.signAndReadWithin(tourLag)
	if err != nil {
		return err
	}
	t.missing("GET / after POST, slave behind: entry missing", r, message)
	if r, err = t.until(message); err != nil {
		return err
	}
	t.judge("GET / when the lag has passed: entry there", r, "slave", "method")

	if err := t.control("lag", url.Values{"lag": {"0s"}}); err != nil {
		return err
	}
	if err := t.control("stop", url.Values{}); err != nil {
		return err
	}
	if message, err = t.sign(""); err != nil {
		return err
	}
	if r, err = t.do("GET", "/", nil); err != nil {
		return err
	}
	t.missing("GET / after POST, replay stopped: entry missing", r, message)
	if r, err = t.do("GET", "/fresh", nil); err != nil {
		return err
	}
	t.there("GET /fresh meanwhile: entry there", r, message, "master", "handler")
	if err := t.control("start", url.Values{}); err != nil {
		return err
	}
	if r, err = t.until(message); err != nil {
		return err
	}
	t.judge("GET / when the replay has caught up: entry there", r, "slave", "method")
	return nil
}

// ask makes one request and judges who answered it. The label is the request itself if it is empty.
func (t *tour) ask(method, path string, form url.Values, label, role string, reasons ...string) error {
	r, err := t.do(method, path, form)
	if err != nil {
		return err
	}
	t.judge(cmp.Or(label, method+" "+path), r, role, reasons...)
	return nil
}

// judge adds a row: every query was to be answered by one server of that role, for those reasons, in that order.
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

// missing is judge for a page that, for now, cannot show the message.
func (t *tour) missing(label string, r reply, message string) {
	t.judge(label, r, "slave", "method")
	if strings.Contains(r.body, message) {
		t.amend("NO: it is there")
	} else if t.rows[len(t.rows)-1].verdict == "yes" {
		t.amend(forNow)
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
		r, err := t.do("GET", "/", nil)
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

// sign writes an entry and returns its text. With a label it adds a row, too.
func (t *tour) sign(label string) (message string, err error) {
	t.signed++
	message = fmt.Sprintf("Entry %d of the tour of %s.", t.signed, time.Now().UTC().Format("2006-01-02 15:04:05.000000"))
	r, err := t.do("POST", "/entries", url.Values{"name": {"Ada"}, "message": {message}})
	if err == nil && r.status != http.StatusSeeOther {
		err = fmt.Errorf("POST /entries: status %d: %s", r.status, r.body)
	}
	if err == nil && label != "" {
		t.judge(label, r, "master", "write", "session wrote")
	}
	return message, err
}

// signAndReadWithin writes an entry and reads the first page before that time has passed, so that no slave with such a
// lag can have the entry.
func (t *tour) signAndReadWithin(lag time.Duration) (message string, r reply, err error) {
	for range tourTries {
		begin := time.Now()
		if message, err = t.sign(""); err != nil {
			return message, r, err
		}
		if r, err = t.do("GET", "/", nil); err != nil || time.Since(begin) < lag {
			return message, r, err
		}
	}
	return message, r, fmt.Errorf("this machine did not manage a POST and a GET within %v", lag)
}

// until reads the first page until it shows the message.
func (t *tour) until(message string) (reply, error) {
	tick := time.NewTicker(tourPoll)
	defer tick.Stop()
	for {
		r, err := t.do("GET", "/", nil)
		if err != nil {
			return r, fmt.Errorf("wait for an entry to appear: %w", err)
		}
		if strings.Contains(r.body, message) {
			return r, nil
		}
		select {
		case <-t.ctx.Done():
			return r, fmt.Errorf("wait for an entry to appear: %w", t.ctx.Err())
		case <-tick.C:
		}
	}
}

// control sends a form of the page to every slave.
func (t *tour) control(action string, form url.Values) error {
	for _, name := range t.slaves {
		r, err := t.do("POST", "/slaves/"+name+"/"+action, form)
		if err != nil {
			return err
		}
		if r.status != http.StatusSeeOther {
			return fmt.Errorf("%s %s: status %d: %s", action, name, r.status, r.body)
		}
	}
	return nil
}

// do makes one request, which carries a form unless it is nil.
func (t *tour) do(method, path string, form url.Values) (reply, error) {
	request, err := http.NewRequestWithContext(t.ctx, method, t.url+path, strings.NewReader(form.Encode()))
	if err != nil {
		return reply{}, err
	}
	if form != nil {
		request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	response, err := t.client.Do(request)
	if err != nil {
		return reply{}, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return reply{}, err
	}
	r := reply{status: response.StatusCode, body: string(body)}
	servers, roles, reasons := response.Header.Values(headerServer), response.Header.Values(headerRole), response.Header.Values(headerReason)
	if len(roles) != len(servers) || len(reasons) != len(servers) {
		return r, fmt.Errorf("%s %s: headers of different lengths: %q, %q, %q", method, path, servers, roles, reasons)
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
