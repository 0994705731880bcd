// Package conventions has tests of the code as text: it is built as CONTRIBUTING.md says. Each check looks at
// a tree of files, so that a control can show it a tree that was made up, in which the same check has to find
// something.
package conventions

import (
	"io/fs"
	"os"
	"path"
	"testing"
	"testing/fstest"
)

// repository is the tree of this repository.
var repository = os.DirFS("../..")

// source returns a file of a tree that is made up.
func source(content string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(content)} }

// eachFile calls look for each file of a tree below a folder whose name ends in ext, in the order of their
// names. What Git and the build keep for themselves does not count.
func eachFile(t *testing.T, tree fs.FS, folder, ext string, look func(name, content string) error) {
	t.Helper()
	err := fs.WalkDir(tree, folder, func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() {
			if name == "build" || name == ".git" {
				return fs.SkipDir
			}
			return nil
		}
		if path.Ext(name) != ext {
			return nil
		}
		content, err := fs.ReadFile(tree, name)
		if err != nil {
			return err
		}
		return look(name, string(content))
	})
	if err != nil {
		t.Fatal(err)
	}
}
