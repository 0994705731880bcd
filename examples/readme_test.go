// Package examples has programs that use the plugin. Its tests keep the README true to them.
package examples

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestReadmeQuotesWhatIsCompiled has every piece of Go in the README stand, line by line, in one of the
// programs.
func TestReadmeQuotesWhatIsCompiled(t *testing.T) {
	readme, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	var programs []string
	files, err := filepath.Glob("*/main.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		program, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		programs = append(programs, unindented(string(program)))
	}
	blocks := regexp.MustCompile("(?s)```go\n(.*?)```").FindAllStringSubmatch(string(readme), -1)
	if len(blocks) < 4 {
		t.Errorf("found %d pieces of Go, want the program and what differs for chi and gin", len(blocks))
	}
	for _, block := range blocks {
		found := false
		for _, program := range programs {
			found = found || strings.Contains(program, unindented(block[1]))
		}
		if !found {
			t.Errorf("in none of %v:\n%s", files, block[1])
		}
	}
}

func unindented(s string) string {
	lines := strings.Split(s, "\n")
	for i, line := range lines {
		lines[i] = strings.TrimSpace(line)
	}
	return strings.Join(lines, "\n")
}
