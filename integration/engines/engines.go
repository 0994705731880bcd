package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

// engine is what suites run on.
type engine struct {
	name     string // in the table
	kind     string // as servers.Wanted knows it
	programs []program
	suites   []string
}

// program is one that an engine runs, the first one in PATH of its name.
type program struct {
	fetch string // what .ci/fetch calls what it is part of
	name  string
	label string // before its version in the table, unless it is the engine itself
}

var (
	suites = []string{
		"servers", "matrix", "routing", "migrating", "oracle", "positions", "consistency", "faults"}
	clusters = []string{"servers", "positions", "consistency", "faults"}
)

var engines = []engine{
	{"MySQL 9", "MySQL", []program{{"mysql-9", "mysqld", ""}}, suites},
	{"MariaDB 11.8", "MariaDB", []program{{"mariadb-11.8", "mariadbd", ""}}, suites},
	{"PostgreSQL 17", "PostgreSQL", []program{{"postgresql-17", "postgres", ""}}, suites},
	{"PostgreSQL 18", "PostgreSQL", []program{{"postgresql-18", "postgres", ""}}, suites},
	{"Galera", "Galera", []program{{"mariadb-11.8", "mariadbd", "MariaDB"}}, clusters},
	{"Group Replication", "Group Replication", []program{{"mysql-9", "mysqld", "MySQL"}}, clusters},
	{"PgBouncer", "PgBouncer",
		[]program{{"pgbouncer", "pgbouncer", ""}, {"postgresql-17", "postgres", "PostgreSQL"}}, clusters},
}

// mySQL is the path of the engine's mysqld, or empty.
func (e engine) mySQL(f fetched) string {
	for i, p := range e.programs {
		if p.name == "mysqld" {
			return filepath.Join(f.bin[i], p.name)
		}
	}
	return ""
}

var version = regexp.MustCompile(`(?:Ver|PgBouncer|\(PostgreSQL\)) (\d+(?:\.\d+)+)`)

// versionOf is the version in what a program prints if asked for it; all of that if there is none.
func versionOf(text string) string {
	if found := version.FindStringSubmatch(text); found != nil {
		return found[1]
	}
	return strings.TrimSpace(text)
}

var testFunc = regexp.MustCompile(`(?m)^func (Test\w+)\(t \*testing\.T\)`)

// goTest returns the arguments for go that run a suite of the module in dir. A suite is a package; but three
// are in the module's root: matrix and migrating are the tests in files of these names, and routing is the
// rest.
func goTest(dir, suite string) ([]string, error) {
	args := []string{"test", "-race", "-count=1", "-timeout=0", "-json"}
	if _, err := os.Stat(filepath.Join(dir, suite)); err == nil {
		return append(args, "./"+suite), nil
	}
	files, err := filepath.Glob(filepath.Join(dir, "*_test.go"))
	if err != nil {
		return nil, err
	}
	var tests []string
	for _, file := range files {
		name, _, _ := strings.Cut(filepath.Base(file), "_")
		if name != "matrix" && name != "migrating" {
			name = "routing"
		}
		if name != suite {
			continue
		}
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		for _, found := range testFunc.FindAllStringSubmatch(string(text), -1) {
			tests = append(tests, found[1])
		}
	}
	if tests == nil {
		return nil, fmt.Errorf("there is no test of the suite %s", suite)
	}
	return append(args, "-run=^("+strings.Join(tests, "|")+")$", "."), nil
}
