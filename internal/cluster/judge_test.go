package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"testing"

	"github.com/go-sql-driver/mysql"
)

// TestJudge has whose fault a failure is, as a table.
func TestJudge(t *testing.T) {
	number := func(n uint16) error { return &mysql.MySQLError{Number: n} }
	fatal := func(state string) error { return &pgError{code: state, Severity: "FATAL"} }
	raised := func(state string) error {
		return &pgError{code: state, Severity: "ERROR", Routine: "exec_stmt_raise"}
	}
	locked := number(3118)
	killed, ends, syntax := fatal("57P01"), io.ErrUnexpectedEOF, number(1064)
	for _, test := range []struct {
		name    string
		failure Failure
		want    Verdict
	}{
		{"connecting: access denied", Failure{Err: number(1045), Place: Connecting}, Blame},
		{"connecting: account locked", Failure{Err: locked, Place: Connecting}, Blame},
		{"connecting: the driver's own error", Failure{Err: errors.New("no RSA key"), Place: Connecting}, Blame},
		{"connecting: a dial timeout", Failure{Err: dialled(t), Place: Connecting}, Blame},
		{"connecting: what is the statement's own elsewhere", Failure{Err: syntax, Place: Connecting}, Blame},
		{"connecting: the caller has gone", Failure{Err: locked, Place: Connecting, Ended: true}, Return},
		{"connecting: it is to run once more", Failure{Err: locked, Place: Connecting, Repeated: true}, Blame},

		{"account locked, raised by SIGNAL", Failure{Err: locked, Place: Executing}, Return},
		{"account locked, or raised by SIGNAL", Failure{Err: locked}, Ask},
		{"it serves", Failure{Err: locked, Serving: Serves}, Repeat},
		{"it serves, and raises it again", Failure{Err: locked, Serving: Serves, Repeated: true}, Return},
		{"it serves not", Failure{Err: locked, Serving: ServesNot}, Blame},

		{"the connection ends", Failure{Err: ends, Place: Executing}, Ask},
		{"the connection ends, it serves", Failure{Err: ends, Place: Executing, Serving: Serves}, Repeat},
		{"the connection ends, it serves not", Failure{Err: ends, Place: Executing, Serving: ServesNot}, Blame},
		{"a second connection ends", Failure{Err: ends, Place: Executing, Broke: true}, Return},
		{"a second connection ends, after it was run once more",
			Failure{Err: ends, Place: Executing, Broke: true, Repeated: true}, Return},
		{"a session is ended after that", Failure{Err: killed, Place: Executing, Broke: true}, Ask},
		{"the connection ends, the caller has gone", Failure{Err: ends, Place: Executing, Ended: true}, Return},
		{"the caller goes while it is asked",
			Failure{Err: ends, Place: Executing, Ended: true, Serving: Unasked}, Return},

		{"a session is ended", Failure{Err: killed, Place: Executing}, Ask},
		{"a session is ended, by an operator", Failure{Err: killed, Place: Executing, Serving: Serves}, Return},
		{"a session is ended, by a shutdown", Failure{Err: killed, Place: Executing, Serving: ServesNot}, Blame},
		{"another FATAL", Failure{Err: fatal("57P05"), Place: Executing, Serving: Serves}, Repeat},
		{"MySQL: shutdown", Failure{Err: number(1053), Place: Executing}, Ask},
		{"MySQL: shutdown, raised by SIGNAL",
			Failure{Err: number(1053), Place: Executing, Serving: Serves}, Repeat},

		{"no answer to anything", Failure{Err: errors.New("unanswered"), Unanswered: true}, Next},
		{"no answer, and the caller has gone",
			Failure{Err: errors.New("unanswered"), Unanswered: true, Ended: true}, Return},

		{"syntax", Failure{Err: syntax, Place: Executing}, Return},
		{"RAISE: a wrong password", Failure{Err: raised("28P01"), Place: Executing}, Return},
		{"RAISE: a wrong password, in a pool that was brought", Failure{Err: raised("28P01")}, Return},
		{"RAISE: read-only", Failure{Err: raised("25006"), Dialect: "postgres", Place: Executing}, Return},
		{"conflict with replay", Failure{Err: sqlState("40001"), Place: Executing}, Next},
		{"somebody else's context", Failure{Err: context.Canceled, Place: Executing}, Next},
		{"a stale plan", Failure{Err: number(1615), Place: Executing}, Replan},
		{"a stale plan on a master", Failure{Err: number(1615), Master: true}, Replan},
		{"it writes", Failure{Err: number(1792), Dialect: "mysql", Place: Executing}, ToMaster},

		{"the slave has left", Failure{Err: errors.New("sql: database is closed"), Left: true}, Next},
		{"a master", Failure{Err: ends, Master: true}, Return},
		{"a master that spares a slave", Failure{Err: ends, Master: true, Spared: true}, Next},
		{"the same, the statement's own", Failure{Err: syntax, Master: true, Spared: true}, Return},
		{"the same, the master shuts down", Failure{Err: number(1053), Master: true, Spared: true}, Next},
		{"the same, connecting to the master fails",
			Failure{Err: locked, Place: Connecting, Master: true, Spared: true}, Next},
		{"the same, the caller has gone", Failure{Err: ends, Master: true, Spared: true, Ended: true}, Return},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := Judge(test.failure); got != test.want {
				t.Errorf("got %d, want %d", got, test.want)
			}
		})
	}
}

func TestBreaks(t *testing.T) {
	for _, test := range []struct {
		name    string
		failure Failure
		want    bool
	}{
		{"the connection ends", Failure{Err: io.EOF, Place: Executing}, true},
		{"the connection ends, or was not made", Failure{Err: io.EOF}, true},
		{"it was not made", Failure{Err: io.EOF, Place: Connecting}, false},
		{"it was cancelled, because nobody answered", Failure{Err: io.EOF, Unanswered: true}, false},
		{"the session is ended with a word", Failure{Err: &mysql.MySQLError{Number: 1053}}, false},
	} {
		if got := test.failure.Breaks(); got != test.want {
			t.Errorf("%s: got %v", test.name, got)
		}
	}
}

// TestNothingGoesRound has a statement fail in every way, on servers that answer in every way: however it
// goes, no more than two connections end under it, and after the first it is on the master only if its slave
// did not serve.
func TestNothingGoesRound(t *testing.T) {
	for _, err := range []error{
		io.EOF, mysql.ErrInvalidConn, &mysql.MySQLError{Number: 1053}, &mysql.MySQLError{Number: 3118},
		&pgError{code: "57P01", Severity: "FATAL"}, &pgError{code: "08P01", Severity: "FATAL"},
	} {
		for _, place := range []Place{Anywhere, Executing} {
			t.Run(fmt.Sprintf("%v, %d", err, place), func(t *testing.T) {
				f := Failure{Err: err, Place: place}
				runs := 0
				for verdict := Ask; verdict != Return; {
					if runs++; runs > 3 {
						t.Fatal("it runs on and on")
					}
					f.Serving = Unasked
					if verdict = Judge(f); verdict == Ask {
						f.Serving = Serves
						verdict = Judge(f)
					}
					if verdict == Next || verdict == Blame || verdict == ToMaster {
						t.Fatalf("verdict %d", verdict)
					}
					f.Broke, f.Repeated = f.Broke || f.Breaks(), true
				}
				if runs > 2 {
					t.Errorf("it ran %d times", runs)
				}
			})
		}
	}
}
