package replicated_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/DATA-DOG/go-sqlmock"
	"gorm.io/gorm"
	"gorm.io/gorm/logger"
	"gorm.io/plugin/dbresolver"

	"github.com/gorm-replicated/replicated"
)

// TestFlaskReplicated holds the behaviour of Flask-Replicated 2.1, row by row
// of the table in docs/routing.md: exactly the expected queries, not one more.
func TestFlaskReplicated(t *testing.T) {
	const read, write = "SELECT * FROM `users`", "INSERT INTO `users` (`name`) VALUES (?)"
	off := false
	find := func(db *gorm.DB) error { return db.Find(&[]User{}).Error }
	create := func(db *gorm.DB) error { return db.Create(&User{Name: "a"}).Error }
	bare := func(h http.Handler) http.Handler { return h }
	both := func(h http.Handler) http.Handler { return replicated.UseMaster(replicated.UseSlave(h)) }
	bothSwapped := func(h http.Handler) http.Handler { return replicated.UseSlave(replicated.UseMaster(h)) }

	for _, test := range []struct {
		name    string
		config  replicated.Config
		method  string
		mark    func(http.Handler) http.Handler
		query   func(*gorm.DB) error
		writes  bool
		noSlave bool
		want    string
	}{
		{name: "GET reads the slave", method: "GET", query: find, want: "slave"},
		{name: "HEAD reads the slave", method: "HEAD", query: find, want: "slave"},
		{name: "POST uses the master", method: "POST", query: find, want: "master"},
		{name: "PUT uses the master", method: "PUT", query: find, want: "master"},
		{name: "PATCH uses the master", method: "PATCH", query: find, want: "master"},
		{name: "DELETE uses the master", method: "DELETE", query: find, want: "master"},
		{name: "OPTIONS uses the master", method: "OPTIONS", query: find, want: "master"},
		{name: "an invented method uses the master", method: "get", query: find, want: "master"},
		{name: "READONLY_METHODS", config: replicated.Config{ReadOnlyMethods: []string{"report"}}, method: "REPORT",
			query: find, want: "slave"},
		{name: "READONLY_METHODS replaces", config: replicated.Config{ReadOnlyMethods: []string{"REPORT"}},
			method: "GET", query: find, want: "master"},
		{name: "no READONLY_METHODS", config: replicated.Config{ReadOnlyMethods: []string{}}, method: "GET",
			query: find, want: "master"},
		{name: "switched off, GET uses the master", config: replicated.Config{AutoReadOnSlave: &off}, method: "GET",
			query: find, want: "master"},
		{name: "switched off, a marked view reads the slave", config: replicated.Config{AutoReadOnSlave: &off},
			method: "GET", mark: replicated.UseSlave, query: find, want: "slave"},
		{name: "use_master_database", method: "GET", mark: replicated.UseMaster, query: find, want: "master"},
		{name: "use_slave_database", method: "POST", mark: replicated.UseSlave, query: find, want: "slave"},
		{name: "marked both ways, master outside", method: "GET", mark: both, query: find, want: "master"},
		{name: "marked both ways, slave outside", method: "GET", mark: bothSwapped, query: find, want: "master"},
		{name: "marked slave and switched off, POST", config: replicated.Config{AutoReadOnSlave: &off},
			method: "POST", mark: replicated.UseSlave, query: find, want: "slave"},
		{name: "no slave configured", method: "GET", query: find, noSlave: true, want: "master"},
		{name: "no slave configured, marked slave", method: "GET", mark: replicated.UseSlave, query: find,
			noSlave: true, want: "master"},
		{name: "outside of a request", query: find, want: "master"},
		{name: "outside of a request, DefaultIntent", config: replicated.Config{DefaultIntent: replicated.Slave},
			query: find, want: "slave"},
		{name: "outside of a request, DefaultIntent, switched off", config: replicated.Config{
			DefaultIntent: replicated.Slave, AutoReadOnSlave: &off,
		}, query: find, want: "master"},
		{name: "explicit bind: master", method: "GET", want: "master",
			query: func(db *gorm.DB) error { return find(db.Clauses(replicated.Master)) }},
		{name: "explicit bind: slave", method: "POST", want: "slave",
			query: func(db *gorm.DB) error { return find(db.Clauses(replicated.Slave)) }},
		{name: "explicit bind: dbresolver.Write", method: "GET", want: "master",
			query: func(db *gorm.DB) error { return find(db.Clauses(dbresolver.Write)) }},
		{name: "explicit bind: dbresolver.Read", method: "POST", want: "slave",
			query: func(db *gorm.DB) error { return find(db.Clauses(dbresolver.Read)) }},
		{name: "unlike Flask-Replicated, a write in a GET", method: "GET", query: create, writes: true,
			want: "master"},
		{name: "unlike Flask-Replicated, a write in a marked view", method: "POST", mark: replicated.UseSlave,
			query: create, writes: true, want: "master"},
	} {
		t.Run(test.name, func(t *testing.T) {
			master, masterMock := newMock(t)
			slave, slaveMock := newMock(t)
			mock := map[string]sqlmock.Sqlmock{"master": masterMock, "slave": slaveMock}[test.want]
			if test.writes {
				mock.ExpectExec(write).WithArgs("a").WillReturnResult(sqlmock.NewResult(1, 1))
			} else {
				mock.ExpectQuery(read).WillReturnRows(sqlmock.NewRows([]string{"id", "name"}).AddRow(1, "a"))
			}

			db, err := gorm.Open(dialector(master), &gorm.Config{Logger: logger.Discard, SkipDefaultTransaction: true})
			if err != nil {
				t.Fatal(err)
			}
			if !test.noSlave {
				test.config.Slaves = []gorm.Dialector{dialector(slave)}
			}
			p := replicated.New(test.config)
			if err := db.Use(p); err != nil {
				t.Fatal(err)
			}
			if test.method == "" {
				err = test.query(db.WithContext(t.Context()))
			} else {
				if test.mark == nil {
					test.mark = bare
				}
				handler := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
					err = test.query(db.WithContext(r.Context()))
				})
				p.Middleware(test.mark(handler)).ServeHTTP(httptest.NewRecorder(),
					httptest.NewRequest(test.method, "/", nil))
			}
			if err != nil {
				t.Error(err)
			}
			for name, mock := range map[string]sqlmock.Sqlmock{"master": masterMock, "slave": slaveMock} {
				if err := mock.ExpectationsWereMet(); err != nil {
					t.Errorf("%s: %v", name, err)
				}
			}
		})
	}
}

func newMock(t *testing.T) (gorm.ConnPool, sqlmock.Sqlmock) {
	t.Helper()
	db, mock, err := sqlmock.New(sqlmock.QueryMatcherOption(sqlmock.QueryMatcherEqual))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		mock.ExpectClose()
		db.Close()
	})
	return db, mock
}

// TestMarksWorkOnBothSidesOfMiddleware has the mark outside of the middleware.
func TestMarksWorkOnBothSidesOfMiddleware(t *testing.T) {
	s := newSetup(t, 1, gorm.Config{}, nil)
	handler := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		s.db.WithContext(r.Context()).Find(&[]User{})
	})
	for _, test := range []struct {
		name, method string
		handler      http.Handler
		want         string
	}{
		{"UseSlave inside", "POST", s.plugin.Middleware(replicated.UseSlave(handler)), "slave-1: handler"},
		{"UseSlave outside", "POST", replicated.UseSlave(s.plugin.Middleware(handler)), "slave-1: handler"},
		{"UseMaster inside", "GET", s.plugin.Middleware(replicated.UseMaster(handler)), "master: handler"},
		{"UseMaster outside", "GET", replicated.UseMaster(s.plugin.Middleware(handler)), "master: handler"},
		{"without Middleware", "POST", replicated.UseSlave(handler), "slave-1: handler"},
		{"one inside, one outside", "GET", replicated.UseSlave(s.plugin.Middleware(replicated.UseMaster(handler))),
			"master: handler"},
	} {
		t.Run(test.name, func(t *testing.T) {
			test.handler.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(test.method, "/", nil))
			expect(t, s.routes.take(), test.want)
		})
	}
}

func TestInnermostContextWins(t *testing.T) {
	s := newSetup(t, 1, gorm.Config{}, nil)
	ctx := context.Background()
	for _, test := range []struct {
		name string
		ctx  context.Context
		want string
	}{
		{"WithSlave", replicated.WithSlave(ctx), "slave-1: context"},
		{"WithMaster", replicated.WithMaster(ctx), "master: context"},
		{"WithMaster in WithSlave", replicated.WithMaster(replicated.WithSlave(ctx)), "master: context"},
		{"WithSlave in WithMaster", replicated.WithSlave(replicated.WithMaster(ctx)), "slave-1: context"},
		{"neither", ctx, "master: default intent"},
	} {
		t.Run(test.name, func(t *testing.T) {
			s.db.WithContext(test.ctx).First(&User{})
			expect(t, s.routes.take(), test.want)
		})
	}
}

func TestNilContextAndNilHandlerPanic(t *testing.T) {
	p := replicated.New(replicated.Config{})
	var none context.Context
	for name, call := range map[string]func(){
		"WithMaster": func() { replicated.WithMaster(none) },
		"WithSlave":  func() { replicated.WithSlave(none) },
		"UseMaster":  func() { replicated.UseMaster(nil) },
		"UseSlave":   func() { replicated.UseSlave(nil) },
		"Middleware": func() { p.Middleware(nil) },
	} {
		t.Run(name, func(t *testing.T) {
			defer func() {
				if recover() == nil {
					t.Error("no panic")
				}
			}()
			call()
		})
	}
}

func TestIntentString(t *testing.T) {
	expect(t, []string{replicated.Master.String(), replicated.Slave.String(), replicated.Intent(7).String()},
		"master", "slave", "Intent(7)")
}

func TestUnknownIntentAsClause(t *testing.T) {
	s := newSetup(t, 1, gorm.Config{}, nil)
	if err := s.db.Clauses(replicated.Intent(7)).Find(&[]User{}).Error; err == nil {
		t.Error("no error")
	}
	if ran := s.log.take(); len(ran) > 0 {
		t.Errorf("executed: %v", ran)
	}
}

// TestClauseWithoutPlugin shows that a clause alone changes nothing.
func TestClauseWithoutPlugin(t *testing.T) {
	log := &fakeLog{}
	db := openFake(t, openPool(t, &fake{name: "master", log: log}), gorm.Config{})
	if err := db.Clauses(replicated.Slave).Find(&[]User{}).Error; err != nil {
		t.Fatal(err)
	}
	expect(t, log.servers(), "master")
}
