package conventions

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// code knows the names in a tree of files.
type code struct {
	tree     fs.FS
	declared map[string]*names   // by folder
	packages map[string][]string // the folders of the packages of a name
	imported set                 // import paths
	selected set                 // identifiers that are joined by dots in any file: "gorm.ConnPool"
	tests    set                 // functions in files of tests
	targets  set                 // of the Makefile
	capitals set                 // words in CAPITALS in Go, in the Makefile, and in scripts of .ci
}

type set map[string]bool

// names are the names that a package declares outside of its tests.
type names struct {
	all      set                 // "Plugin", "Plugin.Close", and "Close"
	embedded map[string][]string // by type: the types of the package that are embedded in it
}

func readCode(t *testing.T, tree fs.FS) *code {
	t.Helper()
	c := &code{
		tree: tree, declared: map[string]*names{}, packages: map[string][]string{},
		imported: set{}, selected: set{}, tests: set{}, targets: set{}, capitals: set{},
	}
	words := regexp.MustCompile(`\b[A-Z][A-Z0-9_]+\b`)
	noteCapitals := func(_, content string) error {
		for _, w := range words.FindAllString(content, -1) {
			c.capitals[w] = true
		}
		return nil
	}
	eachFile(t, tree, ".", ".go", func(name, content string) error {
		parsed, err := parser.ParseFile(token.NewFileSet(), name, content, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		c.read(name, parsed)
		return noteCapitals(name, content)
	})
	eachFile(t, tree, ".ci", "", noteCapitals)
	makefile, err := fs.ReadFile(tree, "Makefile")
	if err != nil {
		t.Fatal(err)
	}
	_ = noteCapitals("Makefile", string(makefile))
	for _, found := range regexp.MustCompile(`(?m)^([a-z]+):`).FindAllStringSubmatch(string(makefile), -1) {
		c.targets[found[1]] = true
	}
	return c
}

// read notes the names in one file.
func (c *code) read(name string, f *ast.File) {
	for _, spec := range f.Imports {
		if imported, err := strconv.Unquote(spec.Path.Value); err == nil {
			c.imported[imported] = true
		}
	}
	ast.Inspect(f, func(n ast.Node) bool {
		if s, ok := n.(*ast.SelectorExpr); ok {
			c.selected[joined(s)] = true
		}
		return true
	})
	folder := path.Dir(name)
	if c.declared[folder] == nil {
		c.declared[folder] = &names{set{}, map[string][]string{}}
	}
	if strings.HasSuffix(name, "_test.go") {
		for _, d := range f.Decls {
			if d, ok := d.(*ast.FuncDecl); ok && d.Recv == nil {
				c.tests[d.Name.Name] = true
			}
		}
		return
	}
	if !slices.Contains(c.packages[f.Name.Name], folder) {
		c.packages[f.Name.Name] = append(c.packages[f.Name.Name], folder)
	}
	for _, d := range f.Decls {
		c.declared[folder].add(d)
	}
}

// joined returns what a selector reads as: "r.Context". It is empty if it is not made of identifiers.
func joined(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.Ident:
		return e.Name
	case *ast.SelectorExpr:
		if x := joined(e.X); x != "" {
			return x + "." + e.Sel.Name
		}
	}
	return ""
}

// add notes the names of a declaration.
func (n *names) add(declaration ast.Decl) {
	switch d := declaration.(type) {
	case *ast.FuncDecl:
		n.all[d.Name.Name] = true
		if d.Recv != nil {
			n.all[typeName(d.Recv.List[0].Type)+"."+d.Name.Name] = true
		}
	case *ast.GenDecl:
		for _, spec := range d.Specs {
			switch s := spec.(type) {
			case *ast.ValueSpec:
				for _, name := range s.Names {
					n.all[name.Name] = true
				}
			case *ast.TypeSpec:
				n.all[s.Name.Name] = true
				n.addMembers(s)
			}
		}
	}
}

// addMembers notes the fields of a struct, and the methods of an interface.
func (n *names) addMembers(of *ast.TypeSpec) {
	var members *ast.FieldList
	switch t := of.Type.(type) {
	case *ast.StructType:
		members = t.Fields
	case *ast.InterfaceType:
		members = t.Methods
	default:
		return
	}
	for _, m := range members.List {
		for _, name := range m.Names {
			n.all[name.Name], n.all[of.Name.Name+"."+name.Name] = true, true
		}
		if m.Names == nil {
			n.embedded[of.Name.Name] = append(n.embedded[of.Name.Name], typeName(m.Type))
		}
	}
}

// typeName returns the name of a type: "store" for *store[S, C].
func typeName(e ast.Expr) (name string) {
	ast.Inspect(e, func(n ast.Node) bool {
		if id, ok := n.(*ast.Ident); ok && name == "" {
			name = id.Name
		}
		return name == ""
	})
	return name
}

// has reports whether a name, or a member of a type, is declared.
func (n *names) has(name string) bool {
	if n.all[name] {
		return true
	}
	of, member, ok := strings.Cut(name, ".")
	return ok && slices.ContainsFunc(n.embedded[of], func(e string) bool { return n.has(e + "." + member) })
}

// foldersIn returns the root, and the folders with Go that the words of a section name, or in which a file is
// that they name.
func (c *code) foldersIn(section []word) []string {
	folders := []string{"."}
	for _, w := range section {
		folder := path.Clean(w.text)
		if path.Ext(folder) == ".go" {
			folder = path.Dir(folder)
		}
		if c.declared[folder] != nil && !slices.Contains(folders, folder) {
			folders = append(folders, folder)
		}
	}
	return folders
}

// missing says what is not there of that which a word names, or nothing. The folders are those in which an
// identifier or a file is looked for.
func (c *code) missing(w word, folders []string) string {
	switch w.kind {
	case target:
		return unless(c.targets[w.text], "the Makefile has no such target")
	case variable:
		return unless(c.capitals[w.text], "no program and no script has such a variable")
	case testFunc:
		return unless(c.tests[w.text], "there is no such test")
	case identifier:
		return unless(c.knows(w.text, folders), "not declared in "+strings.Join(folders, ", "))
	}
	if strings.Contains(w.text, "/") {
		return unless(c.exists(path.Clean(w.text)) || c.imported[w.text], "there is no such path")
	}
	for _, folder := range folders {
		if c.exists(path.Join(folder, w.text)) {
			return ""
		}
	}
	return "not in " + strings.Join(folders, ", ")
}

func unless(ok bool, why string) string {
	if ok {
		return ""
	}
	return why
}

func (c *code) exists(pattern string) bool {
	found, err := fs.Glob(c.tree, pattern)
	return err == nil && len(found) > 0
}

// knows reports whether the code has an identifier, or identifiers joined by dots.
func (c *code) knows(name string, folders []string) bool {
	if c.packages[name] != nil || c.selected[name] || c.exists(name) {
		return true
	}
	if of, rest, ok := strings.Cut(name, "."); ok && c.packages[of] != nil {
		name, folders = rest, c.packages[of]
	}
	return slices.ContainsFunc(folders, func(folder string) bool {
		return c.declared[folder] != nil && c.declared[folder].has(name)
	})
}
