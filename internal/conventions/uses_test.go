package conventions

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestUpward has every kind of a use that runs up found in a package made for it, and nothing else.
func TestUpward(t *testing.T) {
	uses := usesIn(t, filepath.Join("testdata", "house"))
	var got []string
	for _, u := range upward(uses, []string{"door.go", "room.go", "bed.go"}) {
		got = append(got, u.String())
	}
	want := []string{
		"bed.go:5: uses Door, which door.go:6 declares",
		"bed.go:5: uses room, which room.go:5 declares",
		"bed.go:7: uses beds, which room.go:5 declares",
		"room.go:8: uses Door, which door.go:6 declares",
		"room.go:9: uses width, which door.go:8 declares",
		"room.go:10: uses knock, which door.go:13 declares",
		"room.go:10: uses Open, which door.go:11 declares",
	}
	if !slices.Equal(got, want) {
		t.Errorf("these run up:\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	// Those that run down are the door's of the room, and the room's of the bed.
	if got := pairs(uses); got != 5 {
		t.Errorf("%d pairs, want 5", got)
	}
}

// use is one place where a file uses what another file of its package declares: a name of the package, a
// method or a field.
type use struct {
	name         string
	at, declared token.Position
}

func (u use) String() string {
	return fmt.Sprintf("%s:%d: uses %s, which %s:%d declares", filepath.Base(u.at.Filename), u.at.Line, u.name,
		filepath.Base(u.declared.Filename), u.declared.Line)
}

// upward returns the uses of what a file further up declares. The order is that of the files, from the top
// down.
func upward(uses []use, order []string) (up []use) {
	place := func(p token.Position) int { return slices.Index(order, filepath.Base(p.Filename)) }
	for _, u := range uses {
		if place(u.declared) < place(u.at) {
			up = append(up, u)
		}
	}
	return up
}

// pairs returns how many pairs of files there are of which one uses what the other declares.
func pairs(uses []use) int {
	found := map[[2]string]bool{}
	for _, u := range uses {
		found[[2]string{u.at.Filename, u.declared.Filename}] = true
	}
	return len(found)
}

// usesIn returns the uses between the files of the package in a folder, place by place. Its tests do not
// count.
func usesIn(t *testing.T, dir string) (uses []use) {
	t.Helper()
	p, err := listPackage(dir)
	if err != nil {
		t.Fatal(err)
	}
	fset := token.NewFileSet()
	var files []*ast.File
	for _, name := range p.files {
		file, err := parser.ParseFile(fset, name, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, file)
	}
	info := types.Info{Uses: map[*ast.Ident]types.Object{}}
	pkg, err := (&types.Config{Importer: p.importer(fset)}).Check(dir, fset, files, &info)
	if err != nil {
		t.Fatal(err)
	}
	for name, object := range info.Uses {
		at, declared := fset.Position(name.Pos()), fset.Position(object.Pos())
		if object.Pkg() == pkg && at.Filename != declared.Filename {
			uses = append(uses, use{name.Name, at, declared})
		}
	}
	slices.SortFunc(uses, func(a, b use) int {
		return cmp.Or(strings.Compare(a.at.Filename, b.at.Filename), cmp.Compare(a.at.Offset, b.at.Offset))
	})
	return uses
}

// goPackage is what the go command says of a package, and of all that it imports.
type goPackage struct {
	files    []string
	compiled map[string]string // the files of export data, by import path
}

func listPackage(dir string) (goPackage, error) {
	list := exec.Command("go", "list", "-export", "-deps", "-json=Dir,ImportPath,DepOnly,GoFiles,Export", ".")
	list.Dir, list.Stderr = dir, os.Stderr
	out, err := list.Output()
	if err != nil {
		return goPackage{}, fmt.Errorf("%v in %s: %w", list, dir, err)
	}
	all := goPackage{compiled: map[string]string{}}
	for listed := json.NewDecoder(bytes.NewReader(out)); ; {
		var p struct {
			Dir, ImportPath, Export string
			DepOnly                 bool
			GoFiles                 []string
		}
		if err := listed.Decode(&p); errors.Is(err, io.EOF) {
			return all, nil
		} else if err != nil {
			return goPackage{}, err
		}
		all.compiled[p.ImportPath] = p.Export
		if !p.DepOnly {
			for _, name := range p.GoFiles {
				all.files = append(all.files, filepath.Join(p.Dir, name))
			}
		}
	}
}

// importer returns an importer of the package's imports, as they were compiled.
func (p goPackage) importer(fset *token.FileSet) types.Importer {
	return importer.ForCompiler(fset, "gc", func(path string) (io.ReadCloser, error) {
		return os.Open(p.compiled[path])
	})
}
