package main

import (
	"fmt"
	"go/ast"
	"go/token"
	"go/types"
	"strings"
)

// mutant is one change at one place.
type mutant struct {
	id     int
	file   string // from the root of the repository
	line   int
	change string // the function and the change, such as "later: a.sequence < b.sequence → true"
}

func (m mutant) String() string { return fmt.Sprintf("%s:%d: %s", m.file, m.line, m.change) }

// finder finds the mutants of a file, and the edits by which all of them come into its text.
type finder struct {
	*source
	file    *file
	next    func() int
	mutants []mutant
	edits   []edit

	function   string
	results    [][]types.Type    // of the functions around, the innermost last
	conditions map[ast.Expr]bool // those that are made true or false: to negate them, too, shows nothing new
}

func find(s *source, f *file, next func() int) *finder {
	d := &finder{source: s, file: f, next: next, conditions: make(map[ast.Expr]bool)}
	for _, decl := range f.tree.Decls {
		d.function = nameOf(decl)
		d.inspect(decl)
	}
	return d
}

// nameOf returns what to call a declaration in the list: "later", "gtidSet.covers", "var".
func nameOf(decl ast.Decl) string {
	f, ok := decl.(*ast.FuncDecl)
	if !ok {
		return "var"
	}
	if f.Recv == nil {
		return f.Name.Name
	}
	name := strings.TrimPrefix(types.ExprString(f.Recv.List[0].Type), "*")
	name, _, _ = strings.Cut(name, "[")
	return name + "." + f.Name.Name
}

// add notes a mutant that changes n, and returns its number.
func (d *finder) add(n ast.Node, from, to string) int {
	m := mutant{id: d.next(), file: d.file.name, line: d.line(n.Pos())}
	m.change = d.function + ": " + oneLine(from)
	if to != "" {
		m.change += " → " + oneLine(to)
	}
	d.mutants = append(d.mutants, m)
	return m.id
}

func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }

// around puts text before and behind n. What is put around first is outside.
func (d *finder) around(id int, n ast.Node, before, behind string) {
	d.edits = append(d.edits,
		edit{mutant: id, at: d.at(n.Pos()), text: before, line: d.line(n.Pos()), order: len(d.edits)},
		edit{mutant: id, at: d.at(n.End()), text: behind, order: -1 - len(d.edits)})
}

// replace puts text in the place of what is between two positions.
func (d *finder) replace(id int, from, to token.Pos, text string) {
	d.edits = append(d.edits,
		edit{mutant: id, at: d.at(from), length: d.at(to) - d.at(from), text: text, order: len(d.edits)})
}

func (d *finder) text(n ast.Node) string { return d.file.of(d.source, n) }

func (d *finder) inspect(n ast.Node) { ast.Inspect(n, d.visit) }

// visit adds the mutants of one node, and reports whether there may be more inside.
func (d *finder) visit(n ast.Node) bool {
	if e, ok := n.(ast.Expr); ok && d.info.Types[e].Value != nil {
		d.number(e)
		return false
	}
	switch n := n.(type) {
	case *ast.GenDecl:
		return n.Tok == token.VAR
	case *ast.FuncDecl:
		if n.Body != nil {
			d.inside(n.Type, n.Body)
		}
		return false
	case *ast.FuncLit:
		d.inside(n.Type, n.Body)
		return false
	case *ast.ArrayType: // its length is a constant
		return false
	case *ast.BlockStmt, *ast.CaseClause, *ast.CommClause:
		d.statements(n)
	case *ast.IfStmt:
		d.condition(n.Cond, "true", "false")
	case *ast.ForStmt:
		d.condition(n.Cond, "false")
	case *ast.SwitchStmt:
		d.cases(n)
	case *ast.ReturnStmt:
		d.returned(n)
	case *ast.BinaryExpr:
		d.binary(n)
	case *ast.UnaryExpr:
		if n.Op == token.NOT && !d.conditions[n] {
			d.negate(n, d.text(n.X))
		}
	case *ast.CallExpr:
		return d.call(n)
	case *ast.CompositeLit:
		d.elements(n)
		return false
	}
	return true
}

// inside goes through the body of a function.
func (d *finder) inside(t *ast.FuncType, body *ast.BlockStmt) {
	var results []types.Type
	if t.Results != nil {
		for _, f := range t.Results.List {
			for range max(1, len(f.Names)) {
				results = append(results, d.info.TypeOf(f.Type))
			}
		}
	}
	d.results = append(d.results, results)
	d.inspect(body)
	d.results = d.results[:len(d.results)-1]
}

// elements goes through a composite literal. The keys of arrays must be constants, those of structs are
// names.
func (d *finder) elements(n *ast.CompositeLit) {
	for _, e := range n.Elts {
		if pair, ok := e.(*ast.KeyValueExpr); ok {
			e = pair.Value
		}
		d.inspect(e)
	}
}

// call swaps min and max. How large make makes room, and what panics, changes nothing that a test could see.
func (d *finder) call(n *ast.CallExpr) bool {
	name, ok := n.Fun.(*ast.Ident)
	if !ok {
		return true
	}
	if _, ok := d.info.Uses[name].(*types.Builtin); !ok {
		return true
	}
	other := map[string]string{"min": "max", "max": "min"}[name.Name]
	if other != "" {
		id := d.add(n, d.text(n), strings.Replace(d.text(n), name.Name, other, 1))
		d.replace(id, n.Pos(), n.Lparen+1, fmt.Sprintf("mutant_%s(%d, ", name.Name, id))
	}
	return name.Name != "make" && name.Name != "panic"
}

// number adds one to a constant that is written there, and not a name.
func (d *finder) number(e ast.Expr) {
	basic, ok := d.info.TypeOf(e).(*types.Basic)
	if !ok || basic.Info()&types.IsInteger == 0 || basic.Info()&types.IsUntyped != 0 {
		return
	}
	switch e := e.(type) {
	case *ast.BasicLit, *ast.BinaryExpr:
		id := d.add(e, d.text(e), d.text(e)+" + 1")
		d.around(id, e, fmt.Sprintf("mutant_number[%s](%d, ", basic.Name(), id), ")")
	}
}

// swapped has what an operator becomes.
var swapped = map[token.Token]token.Token{
	token.LSS: token.LEQ, token.LEQ: token.LSS, token.GTR: token.GEQ, token.GEQ: token.GTR,
	token.LAND: token.LOR, token.LOR: token.LAND,
	token.ADD: token.SUB, token.SUB: token.ADD, token.MUL: token.ADD, token.QUO: token.MUL, token.REM: token.MUL,
	token.AND: token.OR, token.OR: token.AND, token.XOR: token.OR, token.AND_NOT: token.AND,
	token.SHL: token.SHR, token.SHR: token.SHL,
}

// opposite has the comparison that is true where another is false.
var opposite = map[token.Token]token.Token{
	token.EQL: token.NEQ, token.NEQ: token.EQL,
	token.LSS: token.GEQ, token.GEQ: token.LSS, token.GTR: token.LEQ, token.LEQ: token.GTR,
}

func (d *finder) binary(n *ast.BinaryExpr) {
	with := func(op token.Token) string { return d.text(n.X) + " " + op.String() + " " + d.text(n.Y) }
	switch n.Op {
	case token.LAND, token.LOR:
		d.instead(n, with(swapped[n.Op]))
		neutral := map[token.Token]string{token.LAND: "true", token.LOR: "false"}[n.Op]
		d.condition(n.X, neutral)
		d.condition(n.Y, neutral)
	case token.EQL, token.NEQ, token.LSS, token.LEQ, token.GTR, token.GEQ:
		if to, ordered := swapped[n.Op]; ordered {
			d.instead(n, with(to))
		}
		if !d.conditions[n] {
			d.negate(n, with(opposite[n.Op]))
		}
	default:
		d.arithmetic(n, with(swapped[n.Op]))
	}
}

// arithmetic has a call in the place of an operator, so that its operands are evaluated once: see
// prelude.txt.
func (d *finder) arithmetic(n *ast.BinaryExpr, to string) {
	left, ok := d.info.TypeOf(n.X).Underlying().(*types.Basic)
	if !ok || left.Info()&types.IsNumeric == 0 || left.Info()&types.IsUntyped != 0 {
		return
	}
	call := "integer"
	switch {
	case left.Info()&types.IsInteger == 0:
		call = "float"
	case n.Op == token.SHL || n.Op == token.SHR:
		call = "shift"
	}
	id := d.add(n, d.text(n), to)
	d.around(id, n, fmt.Sprintf("mutant_%s(%d, ", call, id), ")")
	operators := fmt.Sprintf(", %q, %q,", n.Op, swapped[n.Op])
	d.replace(id, n.OpPos, n.OpPos+token.Pos(len(n.Op.String())), operators)
}

func (d *finder) negate(n ast.Expr, to string) {
	id := d.add(n, d.text(n), to)
	d.around(id, n, fmt.Sprintf("(mutant_is(%d) != (", id), "))")
}

// instead puts another truth value in the place of one.
func (d *finder) instead(n ast.Expr, to string) {
	id := d.add(n, d.text(n), to)
	d.around(id, n, fmt.Sprintf("(mutant_is(%d) && (%s) || !mutant_is(%d) && (", id, to, id), "))")
}

// condition makes a condition always true, or always false.
func (d *finder) condition(e ast.Expr, values ...string) {
	if e == nil || d.info.Types[e].Value != nil {
		return
	}
	d.conditions[ast.Unparen(e)] = true
	for _, value := range values {
		id := d.add(e, d.text(e), value)
		if value == "true" {
			d.around(id, e, fmt.Sprintf("(mutant_is(%d) || (", id), "))")
		} else {
			d.around(id, e, fmt.Sprintf("(!mutant_is(%d) && (", id), "))")
		}
	}
}

// cases makes the conditions of a switch without a tag true and false.
func (d *finder) cases(n *ast.SwitchStmt) {
	if n.Tag != nil {
		return
	}
	for _, clause := range n.Body.List {
		for _, e := range clause.(*ast.CaseClause).List {
			d.condition(e, "true", "false")
		}
	}
}
