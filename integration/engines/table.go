package main

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
)

// row is what came of one suite on one engine.
type row struct {
	engine, version, suite, result string
	seconds                        float64
	date                           string
	green                          bool // not in the table
}

const (
	begin = "<!-- make engines: begin -->"
	end   = "<!-- make engines: end -->"
)

// replace returns the rows with r in the place of the one of its engine and suite, in the order of engines
// and suites. Rows of others that there are no longer are left out.
func replace(rows []row, r row) []row {
	var all []row
	for _, e := range engines {
		for _, suite := range e.suites {
			of := func(old row) bool { return old.engine == e.name && old.suite == suite }
			if of(r) {
				all = append(all, r)
			} else if i := slices.IndexFunc(rows, of); i >= 0 {
				all = append(all, rows[i])
			}
		}
	}
	return all
}

const header = "| engine | version | suite | result | seconds | run on |\n|---|---|---|---|--:|---|\n"

func render(rows []row) string {
	var b strings.Builder
	b.WriteString(header)
	for _, r := range rows {
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %.0f | %s |\n",
			r.engine, r.version, r.suite, strings.ReplaceAll(r.result, "|", `\|`), r.seconds, r.date)
	}
	return b.String()
}

// parse returns the rows of a table that render has written, and nothing of anything else.
func parse(text string) []row {
	_, text, _ = strings.Cut(text, header)
	var rows []row
	for line := range strings.Lines(text) {
		line = strings.ReplaceAll(strings.TrimSpace(line), `\|`, "\x00")
		cells := strings.Split(line, "|")
		if len(cells) != 8 {
			continue
		}
		for i, cell := range cells {
			cells[i] = strings.ReplaceAll(strings.TrimSpace(cell), "\x00", "|")
		}
		seconds, _ := strconv.ParseFloat(cells[5], 64)
		rows = append(rows, row{engine: cells[1], version: cells[2], suite: cells[3], result: cells[4],
			seconds: seconds, date: cells[6]})
	}
	return rows
}

// cut returns what is before, between and after the markers, each of which is there once.
func cut(text string) (before, between, after string, err error) {
	before, rest, _ := strings.Cut(text, begin)
	between, after, _ = strings.Cut(rest, end)
	if strings.Count(text, begin) != 1 || strings.Count(rest, end) != 1 || strings.Count(text, end) != 1 {
		return "", "", "", fmt.Errorf("there have to be %s and, after it, %s, once", begin, end)
	}
	return before, between, after, nil
}

func readRows(file string) ([]row, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	_, between, _, err := cut(string(text))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return parse(between), nil
}

// writeRows puts the table between the markers of the file.
func writeRows(file string, rows []row, cores int) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	before, _, after, err := cut(string(text))
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	between := fmt.Sprintf("\n%s\nThe last run was on %d cores.\n", render(rows), cores)
	return os.WriteFile(file, []byte(before+begin+between+end+after), 0o644)
}
