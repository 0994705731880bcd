package conventions

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// rooms are the files of the root from the top down, under the headings of CONTRIBUTING.md. A file uses
// what files below it declare, and nothing of those above.
var rooms = []struct{ heading, files string }{
	{"doors", "middleware.go token.go status.go plugin.go open.go"},
	{"the way", "callbacks.go bound.go beside.go pool.go slavetx.go attempt.go statement.go lease.go " +
		"statements.go"},
	{"deciding", "written.go facts.go freshness.go history.go resolver.go scope.go session.go minposition.go " +
		"points.go tables.go router.go group.go"},
	{"words", "policy.go validate.go routes.go config.go position.go route.go intent.go"},
}

func TestMap(t *testing.T) {
	const root = "../.."
	var order []string
	for _, room := range rooms {
		order = append(order, strings.Fields(room.files)...)
	}
	listed, err := listPackage(root)
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range listed.files {
		if name := filepath.Base(file); !slices.Contains(order, name) {
			t.Errorf("%s: not on the map", name)
		}
	}
	for _, name := range order {
		if !slices.ContainsFunc(listed.files, func(file string) bool { return filepath.Base(file) == name }) {
			t.Errorf("%s: on the map, and not in the root", name)
		}
	}
	uses := usesIn(t, root)
	up := upward(uses, order)
	for _, u := range up {
		t.Error(u)
	}
	t.Logf("%d pairs of files of which one uses the other's names, %d of them run up", pairs(uses), pairs(up))
}
