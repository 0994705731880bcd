package main

import (
	"bytes"
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
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// source is a package of the repository, parsed and with its types.
type source struct {
	root  string // of the repository
	dir   string // of the package, from there, with slashes
	name  string
	fset  *token.FileSet
	files []file
	info  *types.Info
}

// file is one that is to be mutated.
type file struct {
	name string // from the root of the repository, with slashes
	path string
	text []byte
	tree *ast.File
}

// listed is what "go list" tells of a package.
type listed struct {
	ImportPath, Dir, Name, Export string
	GoFiles                       []string
	DepOnly                       bool
}

// load reads the package in a folder. Of its files those that are named are to be mutated, all if none is.
func load(root, dir string, named []string) (*source, error) {
	list, err := goList(root, dir)
	if err != nil {
		return nil, err
	}
	exports := make(map[string]string)
	var self listed
	for _, p := range list {
		exports[p.ImportPath] = p.Export
		if !p.DepOnly {
			self = p
		}
	}
	s := &source{root: root, dir: path.Clean(dir), name: self.Name, fset: token.NewFileSet()}
	var trees []*ast.File
	for _, name := range self.GoFiles {
		f := file{name: path.Join(s.dir, name), path: filepath.Join(self.Dir, name)}
		if f.text, err = os.ReadFile(f.path); err != nil {
			return nil, err
		}
		if f.tree, err = parser.ParseFile(s.fset, f.path, f.text, parser.SkipObjectResolution); err != nil {
			return nil, err
		}
		trees = append(trees, f.tree)
		if len(named) == 0 || slices.Contains(named, name) {
			s.files = append(s.files, f)
		}
	}
	for _, name := range named {
		if !slices.Contains(self.GoFiles, name) {
			return nil, fmt.Errorf("%s has no file %s", dir, name)
		}
	}
	s.info = &types.Info{
		Types: make(map[ast.Expr]types.TypeAndValue),
		Uses:  make(map[*ast.Ident]types.Object),
	}
	exported := func(path string) (io.ReadCloser, error) { return os.Open(exports[path]) }
	conf := types.Config{Importer: importer.ForCompiler(s.fset, "gc", exported)}
	_, err = conf.Check(self.ImportPath, s.fset, trees, s.info)
	return s, err
}

// goList returns a package and what it imports, compiled.
func goList(root, dir string) ([]listed, error) {
	const fields = "-json=ImportPath,Dir,Name,Export,GoFiles,DepOnly"
	cmd := exec.Command("go", "list", "-deps", "-export", fields, "./"+dir)
	cmd.Dir = root
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("go list ./%s: %w: %s", dir, err, strings.TrimSpace(stderr.String()))
	}
	var list []listed
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		var p listed
		switch err := d.Decode(&p); {
		case errors.Is(err, io.EOF):
			return list, nil
		case err != nil:
			return nil, err
		}
		list = append(list, p)
	}
}

// at returns the offset of a position in its file.
func (s *source) at(p token.Pos) int { return s.fset.Position(p).Offset }

// line returns the line of a position.
func (s *source) line(p token.Pos) int { return s.fset.Position(p).Line }

// of returns the text of a node, as it is.
func (f *file) of(s *source, n ast.Node) string { return string(f.text[s.at(n.Pos()):s.at(n.End())]) }
