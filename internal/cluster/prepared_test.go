package cluster

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/DATA-DOG/go-sqlmock"
	"gorm.io/gorm"
)

// TestPreparedStatementsExpire has a slave's prepared statements have the limits of gorm.Config, and leave no
// goroutine.
func TestPreparedStatementsExpire(t *testing.T) {
	for _, test := range []struct {
		name       string
		max        int
		ttl        time.Duration
		prepared   int
		after      time.Duration
		left       int
		afterwards int // when the TTL is over
	}{
		{"as configured", 0, time.Hour, 5, 59 * time.Minute, 5, 0},
		{"by default", 0, 0, 5, 23 * time.Hour, 5, 0},
		{"no more than PrepareStmtMaxSize", 3, time.Hour, 5, time.Minute, 3, 0},
		{"the control: for ever", 0, NoExpiry, 5, 365 * 24 * time.Hour, 5, 5},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { // it fails if a goroutine is left
				db, mock, err := sqlmock.New()
				if err != nil {
					t.Fatal(err)
				}
				mock.MatchExpectationsInOrder(false)
				s := NewServer("slave", db, nil, test.max, test.ttl)
				prepared := s.Prepared()
				for i := range test.prepared {
					query := fmt.Sprintf("SELECT %d", i)
					mock.ExpectPrepare(query).WillBeClosed().ExpectQuery().WillReturnRows(sqlmock.NewRows([]string{"a"}))
					if err := closing(t.Context(), prepared, query); err != nil {
						t.Fatal(err)
					}
				}
				time.Sleep(test.after)
				synctest.Wait()
				if n := len(prepared.Stmts.Keys()); n != test.left {
					t.Errorf("%d statements are left after %v, want %d", n, test.after, test.left)
				}
				time.Sleep(25 * time.Hour)
				synctest.Wait()
				if n := len(prepared.Stmts.Keys()); n != test.afterwards {
					t.Errorf("%d statements are left when their time is over, want %d", n, test.afterwards)
				}
				mock.ExpectClose()
				if err := s.close(); err != nil {
					t.Error(err)
				}
				synctest.Wait()
				if err := mock.ExpectationsWereMet(); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// closing runs a query, and closes its rows.
func closing(ctx context.Context, pool gorm.ConnPool, query string) error {
	rows, err := pool.QueryContext(ctx, query)
	if err != nil {
		return err
	}
	return rows.Close()
}
