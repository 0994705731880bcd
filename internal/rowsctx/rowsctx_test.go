package rowsctx

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"io"
	"sync"
	"sync/atomic"
	"testing"
)

// table is a database of two rows, or of rows without an end. If hangs is set, what it is asked waits until
// the context ends.
type table struct{ hangs, endless bool }

func (t table) Connect(context.Context) (driver.Conn, error) { return conn{t}, nil }

func (t table) Driver() driver.Driver { return nil }

type conn struct{ table }

func (c conn) Prepare(string) (driver.Stmt, error) { return nil, errors.New("not prepared") }

func (c conn) Close() error { return nil }

func (c conn) Begin() (driver.Tx, error) { return c, nil }

func (c conn) BeginTx(ctx context.Context, _ driver.TxOptions) (driver.Tx, error) {
	return tx{c, ctx}, nil
}

// tx derives from its context to commit, as drivers do that bound it.
type tx struct {
	conn
	ctx context.Context
}

func (t tx) Commit() error {
	_, cancel := context.WithCancel(t.ctx)
	cancel()
	return nil
}

func (c conn) Commit() error { return nil }

func (c conn) Rollback() error { return nil }

func (c conn) QueryContext(ctx context.Context, query string, _ []driver.NamedValue) (driver.Rows, error) {
	if query == "wrong" {
		return nil, errors.New("wrong")
	}
	if c.hangs {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return &numbers{endless: c.endless}, nil
}

type numbers struct {
	read    int
	endless bool
}

func (r *numbers) Columns() []string { return []string{"n"} }

func (r *numbers) Close() error { return nil }

func (r *numbers) Next(to []driver.Value) error {
	if r.read++; r.read > 2 && !r.endless {
		return io.EOF
	}
	to[0] = int64(r.read)
	return nil
}

// parent counts what is registered with it.
type parent struct {
	context.Context
	registered atomic.Int64
}

func (p *parent) AfterFunc(f func()) func() bool {
	p.registered.Add(1)
	stop := context.AfterFunc(p.Context, f)
	return func() bool {
		p.registered.Add(-1)
		return stop()
	}
}

// Value hides the context inside: package context would take the short way to it.
func (p *parent) Value(any) any { return nil }

func open(t *testing.T, db table) *sql.DB {
	pool := sql.OpenDB(db)
	t.Cleanup(func() { pool.Close() })
	return pool
}

// TestSingleEndsWithRows: whoever reads hears once when rows or a transaction end, and nothing is left with
// the caller's context.
func TestSingleEndsWithRows(t *testing.T) {
	read := func(t *testing.T, db *sql.DB, ctx context.Context) *sql.Rows {
		rows, err := db.QueryContext(ctx, "numbers")
		if err != nil {
			t.Fatal(err)
		}
		return rows
	}
	begin := func(t *testing.T, db *sql.DB, ctx context.Context) *sql.Tx {
		tx, err := db.BeginTx(ctx, nil)
		if err != nil {
			t.Fatal(err)
		}
		return tx
	}
	for _, test := range []struct {
		name  string
		begin func(*testing.T, *sql.DB, context.Context) (end func() error)
	}{
		{"rows are read to their end", func(t *testing.T, db *sql.DB, ctx context.Context) func() error {
			rows := read(t, db, ctx)
			return func() error {
				for rows.Next() {
				}
				return rows.Err()
			}
		}},
		{"rows are closed early", func(t *testing.T, db *sql.DB, ctx context.Context) func() error {
			rows := read(t, db, ctx)
			rows.Next()
			return rows.Close
		}},
		{"Commit", func(t *testing.T, db *sql.DB, ctx context.Context) func() error {
			return begin(t, db, ctx).Commit
		}},
		{"Rollback", func(t *testing.T, db *sql.DB, ctx context.Context) func() error {
			return begin(t, db, ctx).Rollback
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			p := &parent{Context: ctx}
			over := make(chan struct{}, 2)
			s := NewSingle(p, func() { over <- struct{}{} })
			end := test.begin(t, open(t, table{}), s)
			if !s.HandOver() {
				t.Error("nothing will tell when they end")
			}
			if len(over) != 0 || p.registered.Load() == 0 {
				t.Error("over before they have ended, or the control: nothing is registered")
			}
			if err := end(); err != nil {
				t.Error(err)
			}
			<-over
			if n := p.registered.Load(); n != 0 {
				t.Errorf("%d are left with the caller's context", n)
			}
			cancel()
			if len(over) != 0 {
				t.Error("over twice")
			}
		})
	}
}

// TestSingleIsCancelled: a read ends that waits for an answer, or whose rows are open; the caller's context
// does not.
func TestSingleIsCancelled(t *testing.T) {
	t.Run("it waits", func(t *testing.T) {
		s := NewSingle(t.Context(), func() { t.Error("over, and there are no rows") })
		go s.Cancel()
		if _, err := open(t, table{hangs: true}).QueryContext(s, "numbers"); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
		if t.Context().Err() != nil || s.Err() != context.Canceled {
			t.Error("the caller's context is cancelled, or the read's is not")
		}
	})
	t.Run("its rows are open", func(t *testing.T) {
		s := NewSingle(t.Context(), func() {})
		rows, err := open(t, table{endless: true}).QueryContext(s, "numbers")
		if err != nil || !rows.Next() {
			t.Fatal(err)
		}
		s.HandOver()
		s.Cancel()
		for rows.Next() { // until database/sql closes them, in a goroutine of its own
		}
		if err := rows.Err(); !errors.Is(err, context.Canceled) {
			t.Errorf("they ended with %v", err)
		}
	})
	t.Run("before it has begun", func(t *testing.T) {
		s := NewSingle(t.Context(), func() {})
		s.Cancel()
		if _, err := open(t, table{}).QueryContext(s, "numbers"); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("the caller's context ends", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		s := NewSingle(ctx, func() {})
		go cancel()
		if _, err := open(t, table{hangs: true}).QueryContext(s, "numbers"); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
		<-s.Done()
		if s.Err() != context.Canceled {
			t.Errorf("it ended with %v", s.Err())
		}
	})
}

// TestNothingTells: what has failed derives nothing that goes on, so nothing tells when it ends.
func TestNothingTells(t *testing.T) {
	s := NewSingle(t.Context(), func() { t.Error("over, and there are no rows") })
	if _, err := open(t, table{}).QueryContext(s, "wrong"); err == nil {
		t.Error("no error")
	}
	if s.HandOver() {
		t.Error("something will tell")
	}
	s.Forget()
}

// TestSingleConcurrently has rows end and a read be cancelled at the same time.
func TestSingleConcurrently(t *testing.T) {
	db := open(t, table{})
	for range 200 {
		ctx, cancel := context.WithCancel(t.Context())
		var overs atomic.Int64
		s := NewSingle(ctx, func() { overs.Add(1) })
		rows, err := db.QueryContext(s, "numbers")
		if err != nil {
			t.Fatal(err)
		}
		s.HandOver()
		var ends sync.WaitGroup
		ends.Go(func() { _ = rows.Close() })
		ends.Go(s.Cancel)
		ends.Go(cancel)
		ends.Wait()
		<-s.Done()
		if n := overs.Load(); n > 1 {
			t.Fatalf("over %d times", n)
		}
	}
}

// TestShared has reads with one context share one, until that is cancelled.
func TestShared(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	again := &reused{Context: ctx}
	s := NewShared(again)
	if !s.Serves(again) || s.Serves(ctx) {
		t.Error("it serves its own context only")
	}
	next, end := context.WithCancel(t.Context())
	defer end()
	again.Context = next // as a framework does for its next request
	if s.Serves(again) {
		t.Error("it serves the next request")
	}
	again.Context = ctx
	s.Cancel()
	if s.Serves(again) || ctx.Err() != nil {
		t.Error("it serves though it was cancelled, or it has cancelled the caller's")
	}
}

type reused struct{ context.Context }
