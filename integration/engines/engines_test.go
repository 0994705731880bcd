package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// events are what go test -json prints, one "action test output" to a line.
func events(t *testing.T, lines ...string) *outcome {
	t.Helper()
	var b strings.Builder
	for _, line := range lines {
		action, rest, _ := strings.Cut(line, " ")
		name, output, _ := strings.Cut(rest, " ")
		fmt.Fprintf(&b, `{"Action":%q,"Test":%q,"Output":%q,"Elapsed":1.5}`+"\n", action, name, output)
	}
	o, err := readEvents(strings.NewReader(b.String()), io.Discard, "MySQL")
	if err != nil {
		t.Fatal(err)
	}
	return o
}

func TestOutcome(t *testing.T) {
	const unwanted = "output TestA/MariaDB a_test.go:7: not wanted: REPLICATED_KINDS does not name MariaDB"
	for _, row := range []struct {
		name   string
		exited bool
		want   string
		green  bool
		events []string
	}{
		{"all pass", false, "ok (2 tests)", true, []string{"run TestA/MySQL", "run TestB/MySQL",
			"pass TestA/MySQL", "pass TestB/MySQL", "pass"}},
		{"a test made of others does not count", false, "ok (2 tests)", true, []string{"run TestA/MySQL",
			"run TestA/MySQL/x", "run TestA/MySQL/y", "pass TestA/MySQL/x", "pass TestA/MySQL/y",
			"pass TestA/MySQL", "pass"}},
		{"what is not wanted does not count", false, "ok (1 tests)", true, []string{"run TestA", "run TestA/MySQL",
			"run TestA/MariaDB", unwanted, "skip TestA/MariaDB", "pass TestA/MySQL", "pass TestA", "pass"}},
		{"only what is not wanted", false, "no test ran on it", false, []string{"run TestA", "run TestA/MariaDB",
			unwanted, "skip TestA/MariaDB", "pass TestA", "pass"}},
		{"only what is on no kind", false, "no test ran on it", false, []string{"run TestA", "pass TestA", "pass"}},
		{"nothing", false, "no test ran on it", false, []string{"pass"}},
		{"a skip", false, "ok (1 tests); 1 skipped: TestA", false, []string{"run TestA", "run TestB/MySQL",
			"skip TestA", "pass TestB/MySQL", "pass"}},
		{"a failure", true, "1 of 2 failed: TestA/MySQL/x", false, []string{"run TestA/MySQL", "run TestA/MySQL/x",
			"run TestB/MySQL", "fail TestA/MySQL/x", "fail TestA/MySQL", "pass TestB/MySQL", "fail"}},
		{"a failure and a skip", true, "1 of 1 failed: TestA; 1 skipped: TestB", false, []string{"run TestA",
			"run TestB", "fail TestA", "skip TestB", "fail"}},
		{"a test made of others that fails by itself", true, "1 of 2 failed: TestA", false, []string{"run TestA",
			"run TestA/MySQL", "pass TestA/MySQL", "fail TestA", "fail"}},
		{"many failures", true, "6 of 6 failed: TestA, TestB, TestC, TestD and 2 more", false, []string{
			"fail TestA", "fail TestB", "fail TestC", "fail TestD", "fail TestE", "fail TestF"}},
		{"a test that does not end", true, "1 of 1 failed: TestA", false, []string{"run TestA",
			"output TestA panic", "fail"}},
		{"a failure of TestMain", true, "failed outside of its tests", false, []string{"run TestA/MySQL",
			"pass TestA/MySQL", "fail"}},
		{"what does not compile", true, "failed outside of its tests", false, []string{"build-output", "build-fail",
			"fail"}},
	} {
		t.Run(row.name, func(t *testing.T) {
			o := events(t, row.events...)
			o.exited = row.exited
			if got := o.String(); got != row.want || o.green() != row.green {
				t.Errorf("got %q, green: %t; want %q, %t", got, o.green(), row.want, row.green)
			}
		})
	}
}

func TestIsOn(t *testing.T) {
	for _, row := range []struct {
		name, kind string
		want       bool
	}{
		{"TestA/MySQL", "MySQL", true},
		{"TestA/MySQL/b", "MySQL", true},
		{"TestA/b/MySQL", "MySQL", true},
		{"TestA/MySQL,_4_workers", "MySQL", true},
		{"TestA/MySQL_with_--gtid-mode=OFF/b", "MySQL", true},
		{"TestMySQL/b", "MySQL", true},
		{"TestIdleMySQL", "MySQL", true},
		{"TestA/Group_Replication/b", "Group Replication", true},
		{"TestGroupReplication", "Group Replication", true},
		{"TestA", "MySQL", false},
		{"TestA/MariaDB", "MySQL", false},
		{"TestA/MySQLRouter", "MySQL", false},
	} {
		if got := isOn(row.name, row.kind); got != row.want {
			t.Errorf("%s, %s: got %t", row.name, row.kind, got)
		}
	}
}

func TestReadEvents(t *testing.T) {
	var log strings.Builder
	o, err := readEvents(strings.NewReader(`{"Action":"start"}
{"Action":"run","Test":"TestA"}
{"Action":"output","Test":"TestA","Output":"=== RUN   TestA\n"}
not JSON
{"Action":"pass","Test":"TestA","Elapsed":2}
{"Action":"output","Output":"PASS\n"}
{"Action":"pass","Elapsed":2.25}`), &log, "MySQL")
	if err != nil {
		t.Fatal(err)
	}
	if want := "=== RUN   TestA\nnot JSON\nPASS\n"; log.String() != want {
		t.Errorf("the log is %q, want %q", log.String(), want)
	}
	if o.seconds != 2.25 {
		t.Errorf("it took %v s", o.seconds)
	}
}

func TestTable(t *testing.T) {
	file := filepath.Join(t.TempDir(), "doc.md")
	empty := "# Before\n\n| a | b |\n" + begin + "\n" + end + "\nafter\n"
	if err := os.WriteFile(file, []byte(empty), 0o644); err != nil {
		t.Fatal(err)
	}
	write := func(r row) {
		t.Helper()
		rows, err := readRows(file)
		if err != nil {
			t.Fatal(err)
		}
		if err := writeRows(file, replace(rows, r), 2); err != nil {
			t.Fatal(err)
		}
	}
	write(row{"PostgreSQL 18", "18.6", "oracle", "1 of 2 failed: TestA/a|b", 12.6, "2026-11-01", false})
	write(row{"MySQL 9", "9.7.4", "faults", "ok (3 tests)", 100, "2026-11-02", true})
	write(row{"PostgreSQL 18", "18.6", "servers", "ok (4 tests)", 5, "2026-11-03", true})
	write(row{"MySQL 9", "9.7.5", "faults", "ok (5 tests)", 101, "2026-11-04", true})
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	want := "# Before\n\n| a | b |\n" + begin + `
| engine | version | suite | result | seconds | run on |
|---|---|---|---|--:|---|
| MySQL 9 | 9.7.5 | faults | ok (5 tests) | 101 | 2026-11-04 |
| PostgreSQL 18 | 18.6 | servers | ok (4 tests) | 5 | 2026-11-03 |
| PostgreSQL 18 | 18.6 | oracle | 1 of 2 failed: TestA/a\|b | 13 | 2026-11-01 |

The last run was on 2 cores.
` + end + "\nafter\n"
	if string(text) != want {
		t.Errorf("got\n%s\nwant\n%s", text, want)
	}
}

func TestMarkers(t *testing.T) {
	for _, row := range []struct{ name, text string }{
		{"none", "text"},
		{"no end", begin},
		{"no begin", end},
		{"the wrong order", end + begin},
		{"two tables", begin + end + begin + end},
		{"two ends", begin + end + end},
	} {
		if _, _, _, err := cut(row.text); err == nil {
			t.Errorf("%s: no error", row.name)
		}
	}
}

func TestVersions(t *testing.T) {
	for _, row := range []struct{ printed, want string }{
		{"/cache/mysql-9.1/bin/mysqld  Ver 9.7.4-2 for Linux on x86_64 ((Debian))", "9.7.4"},
		{"mariadbd  Ver 11.8.9-MariaDB-0+deb13u1 from Debian for debian-linux-gnu on x86_64", "11.8.9"},
		{"postgres (PostgreSQL) 18.6 (Debian 18.6-3)\n", "18.6"},
		{"PgBouncer 1.24.1\nlibevent 2.1.13-stable\n", "1.24.1"},
		{"postgres (PostgreSQL) 19beta1\n", "postgres (PostgreSQL) 19beta1"},
	} {
		if got := versionOf(row.printed); got != row.want {
			t.Errorf("%q: got %q, want %q", row.printed, got, row.want)
		}
	}
}

func TestChoose(t *testing.T) {
	all := []string{"MySQL 9", "Galera"}
	if got, err := choose("", all); err != nil || !got["MySQL 9"] || !got["Galera"] {
		t.Errorf("nothing chosen: got %v, %v", got, err)
	}
	if got, err := choose(" Galera", all); err != nil || got["MySQL 9"] || !got["Galera"] {
		t.Errorf("one chosen: got %v, %v", got, err)
	}
	if got, err := choose("Galera,MySQL 8", all); err == nil {
		t.Errorf("one that there is not: got %v", got)
	}
}

// Each test of the module's root belongs to one suite.
func TestSuites(t *testing.T) {
	var run []string
	for _, suite := range suites {
		args, err := goTest("..", suite)
		if err != nil {
			t.Fatal(err)
		}
		filter, ok := strings.CutPrefix(args[len(args)-2], "-run=^(")
		if !ok {
			continue // a package
		}
		tests := strings.Split(strings.TrimSuffix(filter, ")$"), "|")
		for _, test := range tests {
			if slices.Contains(run, test) {
				t.Errorf("%s is in two suites", test)
			}
		}
		run = append(run, tests...)
	}
	files, err := filepath.Glob("../*_test.go")
	if err != nil {
		t.Fatal(err)
	}
	count := 0
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		count += len(testFunc.FindAllString(string(text), -1))
	}
	if count == 0 || len(run) != count {
		t.Errorf("%d of %d tests are in a suite", len(run), count)
	}
	if args, err := goTest("..", "none"); err == nil {
		t.Errorf("a suite that there is not: got %v", args)
	}
}
