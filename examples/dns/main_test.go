package main

import (
	"context"
	"errors"
	"log"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/glebarez/sqlite"
	"gorm.io/driver/mysql"
	"gorm.io/gorm"
	"gorm.io/gorm/logger"

	"github.com/gorm-replicated/replicated"
)

// site is a master and as many slaves as have an address, in SQLite files. Each has one note, which is its
// own address.
type site struct {
	db       *gorm.DB
	plugin   *replicated.Plugin
	follower *follower

	found []string // by the next lookup
	err   error
	sets  int
}

func newSite(t *testing.T) *site {
	t.Helper()
	dir := t.TempDir()
	open := func(address string) gorm.Dialector {
		return sqlite.Open(filepath.Join(dir, strings.ReplaceAll(address, ":", "_")+".db"))
	}
	for _, address := range []string{"master", "192.0.2.1", "192.0.2.2", "2001:db8::3"} {
		fill(t, open(address), address)
	}
	s := &site{}
	var err error
	if s.db, err = gorm.Open(open("master"), &gorm.Config{Logger: logger.Discard}); err != nil {
		t.Fatal(err)
	}
	master, err := s.db.DB()
	if err != nil {
		t.Fatal(err)
	}
	s.plugin = replicated.New(replicated.Config{DefaultIntent: replicated.Slave,
		Logger: slog.New(slog.DiscardHandler)})
	t.Cleanup(func() {
		if err := errors.Join(s.plugin.Close(), master.Close()); err != nil {
			t.Error(err)
		}
	})
	if err := s.db.Use(s.plugin); err != nil {
		t.Fatal(err)
	}
	s.follower = &follower{
		name:   "slaves",
		lookup: func(context.Context, string) ([]string, error) { return slices.Clone(s.found), s.err },
		slave: func(address string) gorm.Dialector {
			return replicated.Server{Dialector: open(address), ID: address}
		},
		set: func(slaves ...gorm.Dialector) error {
			s.sets++
			return s.plugin.SetSlaves(slaves...)
		},
	}
	return s
}

func fill(t *testing.T, server gorm.Dialector, text string) {
	t.Helper()
	db, err := gorm.Open(server, &gorm.Config{Logger: logger.Discard})
	if err != nil {
		t.Fatal(err)
	}
	pool, err := db.DB()
	if err != nil {
		t.Fatal(err)
	}
	err = errors.Join(db.AutoMigrate(&Note{}), db.Create(&Note{Text: text}).Error, pool.Close())
	if err != nil {
		t.Fatal(err)
	}
}

// readers returns who answers reads: each of the servers that may.
func (s *site) readers(t *testing.T) []string {
	t.Helper()
	var all []string
	for range 100 { // by chance one of three is left out once in 10^17 times
		var note Note
		if err := s.db.WithContext(t.Context()).First(&note).Error; err != nil {
			t.Fatal(err)
		}
		all = append(all, note.Text)
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// logged has what is logged go to a text instead.
func logged(t *testing.T) *strings.Builder {
	t.Helper()
	var text strings.Builder
	before := log.Writer()
	log.SetOutput(&text)
	t.Cleanup(func() { log.SetOutput(before) })
	return &text
}

func TestSlavesFollowTheName(t *testing.T) {
	s := newSite(t)
	text := logged(t)
	failure := errors.New("no such host")
	for _, step := range []struct {
		name    string
		found   []string
		err     error
		sets    int // so far
		readers []string
		log     string // a part of what is logged, "" for nothing
	}{
		{"no resolver at first: the master serves", nil, failure, 0, []string{"master"}, "no such host"},
		{"the first addresses", []string{"192.0.2.2", "192.0.2.1"}, nil, 1, []string{"192.0.2.1", "192.0.2.2"},
			"leads to [192.0.2.1 192.0.2.2]"},
		{"the same the other way round, and twice", []string{"192.0.2.1", "192.0.2.2", "192.0.2.1"}, nil, 1,
			[]string{"192.0.2.1", "192.0.2.2"}, ""},
		{"the resolver fails: they stay", nil, failure, 1, []string{"192.0.2.1", "192.0.2.2"},
			"the slaves stay [192.0.2.1 192.0.2.2]"},
		{"the resolver has none: they stay", nil, nil, 1, []string{"192.0.2.1", "192.0.2.2"}, "no addresses"},
		{"one is added, by IPv6", []string{"192.0.2.1", "192.0.2.2", "2001:db8::3"}, nil, 2,
			[]string{"192.0.2.1", "192.0.2.2", "2001:db8::3"}, "2001:db8::3"},
		{"two are gone", []string{"2001:db8::3"}, nil, 3, []string{"2001:db8::3"}, "no longer to [192.0.2.1"},
		{"one is back", []string{"192.0.2.1", "2001:db8::3"}, nil, 4, []string{"192.0.2.1", "2001:db8::3"},
			"leads to"},
	} {
		text.Reset()
		s.found, s.err = step.found, step.err
		s.follower.look(t.Context())
		if s.sets != step.sets {
			t.Errorf("%s: SetSlaves was called %d times so far, want %d", step.name, s.sets, step.sets)
		}
		if readers := s.readers(t); !slices.Equal(readers, step.readers) {
			t.Errorf("%s: reads are answered by %v, want %v", step.name, readers, step.readers)
		}
		if got := text.String(); !strings.Contains(got, step.log) || step.log == "" && got != "" {
			t.Errorf("%s: logged %q, want %q", step.name, got, step.log)
		}
	}
}

func TestWhatCouldNotBeSetIsTriedAgain(t *testing.T) {
	s := newSite(t)
	text := logged(t)
	set := s.follower.set
	s.follower.set = func(...gorm.Dialector) error { return errors.New("refused") }
	s.found = []string{"192.0.2.1"}
	s.follower.look(t.Context())
	if !strings.Contains(text.String(), "refused") {
		t.Errorf("logged %q, want the error", text)
	}
	s.follower.set = set
	s.follower.look(t.Context())
	if readers := s.readers(t); !slices.Equal(readers, s.found) {
		t.Errorf("reads are answered by %v, want %v", readers, s.found)
	}
}

func TestSlavesOf(t *testing.T) {
	name, slave, err := slavesOf("app:p@ss:w/rd@tcp(slaves.example.net:3307)/shop?parseTime=true&timeout=2s")
	if err != nil || name != "slaves.example.net" {
		t.Fatalf("the name is %q: %v", name, err)
	}
	for address, want := range map[string]string{
		"192.0.2.1":   "app:p@ss:w/rd@tcp(192.0.2.1:3307)/shop?parseTime=true&timeout=2s",
		"2001:db8::3": "app:p@ss:w/rd@tcp([2001:db8::3]:3307)/shop?parseTime=true&timeout=2s",
	} {
		if got := slave(address).(*mysql.Dialector).DSN; got != want {
			t.Errorf("the slave at %s has the DSN %q, want %q", address, got, want)
		}
	}
	for _, dsn := range []string{"app:secret@unix(/run/mysqld.sock)/shop", "app:secret@tcp(db1:3306"} {
		if _, _, err := slavesOf(dsn); err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("%q: %v, want an error without the password", dsn, err)
		}
	}
}

func TestBusyMaster(t *testing.T) {
	for err, want := range map[error]int{
		errors.Join(replicated.ErrMasterBusy): http.StatusServiceUnavailable,
		errors.New("syntax error"):            http.StatusInternalServerError,
	} {
		w := httptest.NewRecorder()
		failed(w, err)
		if after := w.Header().Get("Retry-After"); w.Code != want ||
			(after != "") != (want == http.StatusServiceUnavailable) {
			t.Errorf("%v: status %d, Retry-After %q; want %d", err, w.Code, after, want)
		}
	}
}
