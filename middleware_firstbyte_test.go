package replicated_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"gorm.io/gorm"

	"github.com/gorm-replicated/replicated"
)

// TestPositionIsReadAfterCommitAndBeforeTheFirstByte has the ways to write and the ways to answer. Whatever
// they are, what was committed is behind the position, and the token is in the response's header.
func TestPositionIsReadAfterCommitAndBeforeTheFirstByte(t *testing.T) {
	type answer = func(http.ResponseWriter, *http.Request)
	none := func(http.ResponseWriter, *http.Request) {}
	body := func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "a") }
	insert := func(db *gorm.DB) error { return db.Create(&User{}).Error }
	for _, test := range []struct {
		name   string
		write  func(*gorm.DB) error
		answer answer
		want   string // what happened, in its order
	}{
		{"GORM's own transaction", insert, body, "BEGIN INSERT COMMIT position byte"},
		{"none", func(db *gorm.DB) error { return insert(db.Session(&gorm.Session{SkipDefaultTransaction: true})) },
			body, "INSERT position byte"},
		{"raw SQL", func(db *gorm.DB) error { return db.Exec("INSERT INTO users VALUES (1)").Error }, body,
			"INSERT position byte"},
		{"Transaction", func(db *gorm.DB) error { return db.Transaction(insert) }, body,
			"BEGIN INSERT COMMIT position byte"},
		{"Begin and Commit", func(db *gorm.DB) error {
			tx := db.Begin()
			return errors.Join(insert(tx), tx.Commit().Error)
		}, body, "BEGIN INSERT COMMIT position byte"},
		{"Rollback", func(db *gorm.DB) error {
			tx := db.Begin()
			return errors.Join(insert(tx), tx.Rollback().Error)
		}, body, "BEGIN INSERT ROLLBACK position byte"}, // once too often does no harm
		{"in goroutines", func(db *gorm.DB) error {
			var done sync.WaitGroup
			done.Go(func() { _ = db.Exec("INSERT INTO users VALUES (1)").Error })
			done.Wait()
			return nil
		}, body, "INSERT position byte"},
		{"nothing is written", func(db *gorm.DB) error { return db.Find(&[]User{}).Error }, body, "SELECT byte"},

		{"no answer", insert, none, "BEGIN INSERT COMMIT position"},
		{"WriteHeader", insert, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(201) },
			"BEGIN INSERT COMMIT position byte"},
		{"204", insert, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(204) },
			"BEGIN INSERT COMMIT position byte"},
		{"302", insert, func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/", http.StatusFound) },
			"BEGIN INSERT COMMIT position byte"},
		{"103 before it", insert, func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(103)
			w.WriteHeader(200)
		}, "BEGIN INSERT COMMIT byte position byte"},
		{"an error", insert, func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "no", 500) },
			"BEGIN INSERT COMMIT position byte byte"},
		{"a panic", insert, func(http.ResponseWriter, *http.Request) { panic("as intended") },
			"BEGIN INSERT COMMIT position"},
		{"twice", insert, func(w http.ResponseWriter, r *http.Request) { body(w, r); body(w, r) },
			"BEGIN INSERT COMMIT position byte byte"},
	} {
		bubble(t, test.name, func(t *testing.T) {
			s := newSite(t, func(c *replicated.Config) { c.Slaves = c.Slaves[:1]; c.Probe.MinInterval = time.Second })
			synctest.Wait()
			s.log.take()
			s.history.log = s.log
			handler := s.plugin.Middleware(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if err := test.write(s.db.WithContext(r.Context())); err != nil {
					t.Error(err)
				}
				test.answer(w, r)
			}))
			w := httptest.NewRecorder()
			func() {
				defer func() { _ = recover() }()
				handler.ServeHTTP(&byteLog{w, s.log}, httptest.NewRequest("POST", "/", nil))
			}()
			var happened []string
			for _, r := range s.log.take() {
				verb, _, _ := strings.Cut(r.sql, " ")
				happened = append(happened, verb)
			}
			if got := strings.Join(happened, " "); got != test.want {
				t.Errorf("got  %s\nwant %s", got, test.want)
			}
			if got := w.Header().Get("Replicated-Token") != ""; got != strings.Contains(test.want, "position") {
				t.Errorf("a token in the header: %v", got)
			}
		})
	}
}

// byteLog remembers when a byte of the response leaves.
type byteLog struct {
	http.ResponseWriter
	log *fakeLog
}

func (w *byteLog) WriteHeader(code int) {
	w.log.add("client", "byte")
	w.ResponseWriter.WriteHeader(code)
}

func (w *byteLog) Write(p []byte) (int, error) {
	w.log.add("client", "byte")
	return w.ResponseWriter.Write(p)
}

// TestTimeoutHandler: its 503 brings the token if Middleware is outside of it. Otherwise it does not, as is
// documented.
func TestTimeoutHandler(t *testing.T) {
	for _, test := range []struct {
		name string
		wrap func(*site, http.Handler) http.Handler
		want string
	}{
		{"inside of Middleware", func(s *site, h http.Handler) http.Handler {
			return s.plugin.Middleware(http.TimeoutHandler(h, time.Second, "late"))
		}, byToken},
		{"outside of it", func(s *site, h http.Handler) http.Handler {
			return http.TimeoutHandler(s.plugin.Middleware(h), time.Second, "late")
		}, bySlave},
	} {
		bubble(t, test.name, func(t *testing.T) {
			s := newSite(t, nil)
			s.handler = test.wrap(s, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				s.write(r.Context())
				time.Sleep(5 * time.Second)
			}))
			c := s.client()
			if w := c.do("POST"); w.StatusCode != http.StatusServiceUnavailable {
				t.Errorf("status %d", w.StatusCode)
			}
			time.Sleep(20 * time.Second)
			s.with(s.serve)
			served(t, c.get(), test.want)
		})
	}
}

// TestAnErrorThatIsWrittenOutside of the middleware, after its handler has returned and before any byte has
// left, as by the HTTPErrorHandler of Echo behind echo.WrapMiddleware: by the writer that the middleware was
// given, or by the one that it has given to the handler. Who has the latter may commit even then.
func TestAnErrorThatIsWrittenOutside(t *testing.T) {
	for _, test := range []struct {
		name                    string
		write, inner, lateWrite bool
		want                    string
		issued                  uint64
	}{
		{"by the outer writer", true, false, false, byToken, 1},
		{"by the inner writer", true, true, false, byToken, 1},
		{"by the inner writer, which commits first", true, true, true, byToken, 1},
		{"by the inner writer, which writes first", false, true, true, byToken, 1},
		{"by the outer writer, which nobody watches", false, false, true, bySlave, 0}, // the controls
		{"nobody writes", false, true, false, bySlave, 0},
	} {
		bubble(t, test.name, func(t *testing.T) {
			s := newSite(t, nil)
			var w http.ResponseWriter
			var ctx context.Context
			s.with(func(inner http.ResponseWriter, r *http.Request) {
				if ctx = r.Context(); test.inner {
					w = inner
				}
				if test.write {
					s.db.WithContext(ctx).Create(&User{})
				}
				if test.write && !test.lateWrite {
					s.commit()
				}
			})
			middleware := s.handler
			s.handler = http.HandlerFunc(func(outer http.ResponseWriter, r *http.Request) {
				w = outer
				middleware.ServeHTTP(outer, r)
				if test.lateWrite && !test.write {
					s.db.WithContext(ctx).Create(&User{})
				}
				if test.lateWrite {
					s.commit()
				}
				http.Error(w, "no such page", http.StatusNotFound)
			})
			c := s.client()
			if response := c.do("POST"); response.StatusCode != http.StatusNotFound {
				t.Errorf("status %d", response.StatusCode)
			}
			if n := s.plugin.Status().Tokens.Issued; n != test.issued {
				t.Errorf("%d tokens issued", n)
			}
			s.with(s.serve)
			served(t, c.get(), test.want)
		})
	}
}
