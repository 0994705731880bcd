package conventions

import (
	"fmt"
	"go/parser"
	"go/token"
	"io/fs"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/fstest"
)

const module = "github.com/gorm-replicated/replicated"

// mayImport says which packages of internal import which others. None imports the root.
var mayImport = map[string][]string{"cluster": {"position"}}

func TestImports(t *testing.T) {
	stray, looked := strayImports(t, repository)
	for _, s := range stray {
		t.Error(s)
	}
	if looked < 50 {
		t.Errorf("only %d files of internal were found", looked)
	}
}

// TestStrayImports has each kind of an import that is not allowed found, and those that are allowed passed
// over.
func TestStrayImports(t *testing.T) {
	got, _ := strayImports(t, fstest.MapFS{
		"pool.go":                        source(`package replicated; import "` + module + `/internal/position"`),
		"internal/position/reader.go":    source("package position\n\nimport \"" + module + `/internal/cluster"`),
		"internal/cluster/probe.go":      source(`package cluster; import "` + module + `/internal/position"`),
		"internal/cluster/probe_test.go": source(`package cluster_test; import "` + module + `/internal/cluster"`),
		"internal/token/token.go":        source(`package token; import "` + module + `"`),
		"internal/token/deep/deep.go":    source(`package deep; import "` + module + `/internal/sqlkind"`),
	})
	want := []string{
		"internal/position/reader.go:3:8: imports internal/cluster",
		"internal/token/deep/deep.go:1:22: imports internal/sqlkind",
		"internal/token/token.go:1:23: imports the root",
	}
	if !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

// strayImports returns the imports that are not allowed in the packages of internal and in their tests, and
// the number of files that it looked at.
func strayImports(t *testing.T, tree fs.FS) (stray []string, looked int) {
	t.Helper()
	eachFile(t, tree, "internal", ".go", func(name, content string) error {
		looked++
		fset := token.NewFileSet()
		parsed, err := parser.ParseFile(fset, name, content, parser.ImportsOnly)
		if err != nil {
			return err
		}
		for _, spec := range parsed.Imports {
			imported, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				return err
			}
			if where, ok := ofModule(imported); ok && !allowed(name, where) {
				stray = append(stray, fmt.Sprintf("%v: imports %s", fset.Position(spec.Pos()), where))
			}
		}
		return nil
	})
	return stray, looked
}

// ofModule returns where in this module an imported package is, if it is one of its packages.
func ofModule(imported string) (where string, ok bool) {
	if imported == module {
		return "the root", true
	}
	return strings.CutPrefix(imported, module+"/")
}

// allowed reports whether a file of internal may import the package there.
func allowed(name, where string) bool {
	own := packageOfInternal(name)
	other := packageOfInternal(where)
	return other != "" && (other == own || slices.Contains(mayImport[own], other))
}

// packageOfInternal returns the name of the folder of internal in which something is, or "" if it is
// elsewhere.
func packageOfInternal(where string) string {
	below, _ := strings.CutPrefix(where, "internal/")
	if below == where {
		return ""
	}
	name, _, _ := strings.Cut(below, "/")
	return name
}
