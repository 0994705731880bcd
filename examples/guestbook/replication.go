package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/glebarez/sqlite"
)

// SQLite has no replication, so the guestbook brings its own, of the oldest kind: triggers on the master
// write every change as a statement into a log, in the transaction that makes the change, and each slave
// executes that log in order, some time later. Rolled back work never reaches the log, and the log is in
// commit order because SQLite has one writer at a time.

const entriesSchema = `
CREATE TABLE guestbook_entries (
	id         INTEGER PRIMARY KEY AUTOINCREMENT,
	name       TEXT NOT NULL,
	message    TEXT NOT NULL,
	created_at DATETIME NOT NULL
);`

// The log's time is in milliseconds since 1970.
const masterSchema = entriesSchema + `
CREATE TABLE log (
	seq       INTEGER PRIMARY KEY AUTOINCREMENT,
	at        INTEGER NOT NULL DEFAULT (CAST(ROUND((julianday('now') - 2440587.5) * 86400000.0) AS INTEGER)),
	statement TEXT NOT NULL
);
CREATE TRIGGER log_insert AFTER INSERT ON guestbook_entries BEGIN
	INSERT INTO log (statement) VALUES (
		'INSERT INTO guestbook_entries (id, name, message, created_at) VALUES (' || quote(new.id) || ', ' ||
		quote(new.name) || ', ' || quote(new.message) || ', ' || quote(new.created_at) || ')');
END;
CREATE TRIGGER log_update AFTER UPDATE ON guestbook_entries BEGIN
	INSERT INTO log (statement) VALUES (
		'UPDATE guestbook_entries SET id = ' || quote(new.id) || ', name = ' || quote(new.name) || ', message = ' ||
		quote(new.message) || ', created_at = ' || quote(new.created_at) || ' WHERE id = ' || quote(old.id));
END;
CREATE TRIGGER log_delete AFTER DELETE ON guestbook_entries BEGIN
	INSERT INTO log (statement) VALUES ('DELETE FROM guestbook_entries WHERE id = ' || quote(old.id));
END;`

// A slave keeps its position in the file that it replays into: both change in one transaction.
const slaveSchema = entriesSchema + `
CREATE TABLE replayed (seq INTEGER NOT NULL);
INSERT INTO replayed VALUES (0);`

const (
	replayBatch = 100         // log rows executed in one transaction
	replayRetry = time.Second // after an error
)

// replication is one master and its slaves in SQLite files. Its methods may be called concurrently.
type replication struct {
	dir    string
	log    *sql.DB // the master's file, to read its log
	slaves []*slave

	cancel context.CancelFunc
	done   sync.WaitGroup
}

// startReplication makes a master and n slaves in dir, where there must be none yet, and begins to replay.
func startReplication(dir string, n int) (*replication, error) {
	r := &replication{dir: dir}
	var err error
	if r.log, err = createFile(masterDSN(dir), masterSchema); err != nil {
		return nil, fmt.Errorf("make the master: %w", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	r.cancel = cancel
	for i := range n {
		db, err := createFile(fileDSN(slavePath(dir, i)), slaveSchema)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("make slave %d: %w", i+1, err), r.Close())
		}
		s, err := newSlave(slaveName(i), r.log, db)
		if err != nil {
			return nil, errors.Join(err, db.Close(), r.Close())
		}
		r.slaves = append(r.slaves, s)
		r.done.Go(func() { s.run(ctx) })
	}
	return r, nil
}

// MasterDSN is where the application reads and writes.
func (r *replication) MasterDSN() string { return masterDSN(r.dir) }

// SlaveDSNs are where the application reads. They open the files read-only: only the replay writes there.
func (r *replication) SlaveDSNs() []string {
	var dsns []string
	for i := range r.slaves {
		dsns = append(dsns, fileDSN(slavePath(r.dir, i), "mode", "ro"))
	}
	return dsns
}

// Written tells the slaves that the log may have grown.
func (r *replication) Written() {
	for _, s := range r.slaves {
		s.nudge()
	}
}

// Slave returns the slave of that name, or nil.
func (r *replication) Slave(name string) *slave {
	for _, s := range r.slaves {
		if s.name == name {
			return s
		}
	}
	return nil
}

// Await waits until every slave has replayed all that is in the log now.
func (r *replication) Await(ctx context.Context) error {
	end, err := r.end(ctx)
	if err != nil {
		return err
	}
	for _, s := range r.slaves {
		if err := s.await(ctx, end); err != nil {
			return fmt.Errorf("wait for %s to replay %d: %w", s.name, end, err)
		}
	}
	return nil
}

// Status returns a snapshot of every slave, in the order of their names.
func (r *replication) Status(ctx context.Context) ([]slaveStatus, error) {
	end, err := r.end(ctx)
	if err != nil {
		return nil, err
	}
	var all []slaveStatus
	for _, s := range r.slaves {
		status := s.Status()
		// A slave may have replayed what was written after end was read.
		status.Behind = max(0, end-status.Position)
		all = append(all, status)
	}
	return all, nil
}

// Close ends the replay, waits for it and closes the files.
func (r *replication) Close() error {
	if r.cancel != nil {
		r.cancel()
	}
	r.done.Wait()
	var errs []error
	for _, s := range r.slaves {
		errs = append(errs, s.db.Close())
	}
	return errors.Join(append(errs, r.log.Close())...)
}

// end is the position of the last row of the log.
func (r *replication) end(ctx context.Context) (int64, error) {
	var seq int64
	err := r.log.QueryRowContext(ctx, "SELECT coalesce(max(seq), 0) FROM log").Scan(&seq)
	if err != nil {
		return 0, fmt.Errorf("read the end of the log: %w", err)
	}
	return seq, nil
}

// A slave replays the master's log into a file of its own.
type slave struct {
	name string
	log  *sql.DB // the master's
	db   *sql.DB // its own
	wake chan struct{}

	mu       sync.Mutex // held while a batch is replayed too, so that after Stop nothing changes
	lag      time.Duration
	stopped  bool
	position int64         // the last row of the log that it has replayed
	err      error         // of the last batch
	changed  chan struct{} // closed when position grows
}

// slaveStatus is what a visitor sees of a slave.
type slaveStatus struct {
	Name     string
	Lag      time.Duration // how old a change has to be before it is replayed
	Stopped  bool
	Position int64 // the last row of the log that was replayed
	Behind   int64 // rows of the log that were not
	Err      error // why the last attempt to replay failed
}

// newSlave goes on where db says that replay had got to. It replays once run is called.
func newSlave(name string, log, db *sql.DB) (*slave, error) {
	s := &slave{name: name, log: log, db: db, wake: make(chan struct{}, 1), changed: make(chan struct{})}
	if err := db.QueryRow("SELECT seq FROM replayed").Scan(&s.position); err != nil {
		return nil, fmt.Errorf("read the position of %s: %w", name, err)
	}
	return s, nil
}

// SetLag sets how old a change must be before the slave replays it. It holds for changes already waiting,
// too.
func (s *slave) SetLag(lag time.Duration) {
	s.mu.Lock()
	s.lag = lag
	s.mu.Unlock()
	s.nudge()
}

// Stop stops the replay, as STOP SLAVE does: the slave goes on answering, and does not change any more once
// Stop has returned.
func (s *slave) Stop() {
	s.mu.Lock()
	s.stopped = true
	s.mu.Unlock()
}

// Start undoes Stop.
func (s *slave) Start() {
	s.mu.Lock()
	s.stopped = false
	s.mu.Unlock()
	s.nudge()
}

// Status returns a snapshot; Behind is left to who knows the master.
func (s *slave) Status() slaveStatus {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slaveStatus{Name: s.name, Lag: s.lag, Stopped: s.stopped, Position: s.position, Err: s.err}
}

// nudge makes run look at the log again. A nudge while one is pending would say nothing new.
func (s *slave) nudge() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// run replays until ctx ends. It looks at the log when nudged and when the next row is due, not in between.
func (s *slave) run(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.wake:
		case <-timer.C:
		}
		timer.Stop()
		wait, more, err := s.replay(ctx, time.Now())
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			slog.Error("replay failed", "slave", s.name, "error", err)
			timer.Reset(replayRetry)
		case more:
			timer.Reset(wait)
		}
	}
}

// replay executes the rows of the log that are due at now, one batch at most. If it leaves rows behind that
// will be due by themselves, more is true and wait says when to come back.
func (s *slave) replay(ctx context.Context, now time.Time) (wait time.Duration, more bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	defer func() { s.err = err }()
	if s.stopped {
		return 0, false, nil
	}
	rows, err := s.readLog(ctx)
	if err != nil {
		return 0, false, fmt.Errorf("read the log after %d: %w", s.position, err)
	}
	more = len(rows) == replayBatch
	for i, row := range rows {
		if wait = row.at.Add(s.lag).Sub(now); wait > 0 {
			rows, more = rows[:i], true
			break
		}
		wait = 0
	}
	if len(rows) == 0 {
		return wait, more, nil
	}
	if err := s.execute(ctx, rows); err != nil {
		return 0, false, fmt.Errorf("replay after %d: %w", s.position, err)
	}
	s.position = rows[len(rows)-1].seq
	close(s.changed)
	s.changed = make(chan struct{})
	return wait, more, nil
}

// logRow is one change on the master.
type logRow struct {
	seq       int64
	at        time.Time
	statement string
}

// readLog returns the next rows after the slave's position, replayBatch at most.
func (s *slave) readLog(ctx context.Context) ([]logRow, error) {
	rows, err := s.log.QueryContext(ctx,
		"SELECT seq, at, statement FROM log WHERE seq > ? ORDER BY seq LIMIT ?", s.position, replayBatch)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var all []logRow
	for rows.Next() {
		var row logRow
		var ms int64
		if err := rows.Scan(&row.seq, &ms, &row.statement); err != nil {
			return nil, err
		}
		row.at = time.UnixMilli(ms)
		all = append(all, row)
	}
	return all, rows.Err()
}

// execute runs the rows' statements and moves the position, both or neither.
func (s *slave) execute(ctx context.Context, rows []logRow) error {
	tx, err := s.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback() // says so if it was committed, which is of no interest
	for _, row := range rows {
		if _, err := tx.ExecContext(ctx, row.statement); err != nil {
			return fmt.Errorf("row %d: %w", row.seq, err)
		}
	}
	if _, err := tx.ExecContext(ctx, "UPDATE replayed SET seq = ?", rows[len(rows)-1].seq); err != nil {
		return err
	}
	return tx.Commit()
}

// await waits until the slave has replayed the row seq of the log.
func (s *slave) await(ctx context.Context, seq int64) error {
	for {
		s.mu.Lock()
		position, changed := s.position, s.changed
		s.mu.Unlock()
		if position >= seq {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-changed:
		}
	}
}

func slaveName(i int) string { return fmt.Sprintf("slave-%d", i+1) }

func slavePath(dir string, i int) string { return filepath.Join(dir, slaveName(i)+".db") }

func masterDSN(dir string) string {
	return fileDSN(filepath.Join(dir, "master.db"), "_txlock", "immediate")
}

// fileDSN names a file to the driver, with the parameters given as names and values in turn.
func fileDSN(path string, params ...string) string {
	query := url.Values{"_pragma": {"busy_timeout(5000)"}}
	for i := 0; i+1 < len(params); i += 2 {
		query.Add(params[i], params[i+1])
	}
	path = filepath.ToSlash(path)
	if !strings.HasPrefix(path, "/") {
		path = "/" + path // a drive letter
	}
	return "file:" + (&url.URL{Path: path}).EscapedPath() + "?" + query.Encode()
}

// createFile opens a file with a write-ahead log, which lets readers read while one writes, and fills it.
func createFile(dsn, schema string) (*sql.DB, error) {
	db, err := sql.Open(sqlite.DriverName, dsn)
	if err != nil {
		return nil, err
	}
	// The journal mode is a property of the file, and stays. One connection, so that the statements of the
	// schema follow each other.
	db.SetMaxOpenConns(1)
	for _, statement := range []string{"PRAGMA journal_mode = WAL", schema} {
		if _, err := db.Exec(statement); err != nil {
			return nil, errors.Join(err, db.Close())
		}
	}
	return db, nil
}
