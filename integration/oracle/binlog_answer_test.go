package oracle

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"strings"
)

// answer is what a text was answered with.
type answer struct {
	sets []string // a digest of each result set
	err  error
}

func (a answer) equal(b answer) bool {
	return slices.Equal(a.sets, b.sets) && errorNumber(a.err) == errorNumber(b.err)
}

// run sends q, which may be several statements, and reads all that is answered.
func run(ctx context.Context, conn *sql.Conn, q string) (a answer) {
	ctx, cancel := context.WithTimeout(ctx, timeLimit)
	defer cancel()
	rows, err := conn.QueryContext(ctx, q)
	if err != nil {
		return answer{err: err}
	}
	defer rows.Close()
	for {
		lines, err := readSet(rows)
		if err != nil {
			a.err = err
			return a
		}
		a.sets = append(a.sets, digest(lines))
		if !rows.NextResultSet() {
			a.err = rows.Err()
			return a
		}
	}
}

// readSet returns the rows of one result set, in any order, as no order is promised.
func readSet(rows *sql.Rows) ([]string, error) {
	names, err := rows.Columns()
	if err != nil {
		return nil, err
	}
	values := make([]sql.RawBytes, len(names))
	into := make([]any, len(names))
	for i := range values {
		into[i] = &values[i]
	}
	var lines []string
	for rows.Next() {
		if err := rows.Scan(into...); err != nil {
			return nil, err
		}
		var line strings.Builder
		for _, v := range values {
			fmt.Fprintf(&line, "%t %d %s,", v == nil, len(v), v)
		}
		lines = append(lines, line.String())
	}
	slices.Sort(lines)
	return lines, nil
}
