package main

import (
	"fmt"
	"go/ast"
	"go/token"
	"go/types"
	"slices"
	"strings"
)

// statements drops one statement of a list after the other.
func (d *finder) statements(n ast.Node) {
	var list []ast.Stmt
	switch n := n.(type) {
	case *ast.BlockStmt:
		list = n.List
	case *ast.CaseClause:
		list = n.Body
	case *ast.CommClause:
		list = n.Body
	}
	for _, s := range list {
		if d.droppable(s) {
			first, _, more := strings.Cut(d.text(s), "\n")
			if more {
				first += " …"
			}
			id := d.add(s, "without "+first, "")
			d.around(id, s, fmt.Sprintf("if !mutant_is(%d) { ", id), " }")
		}
	}
}

// droppable reports whether the rest still compiles without a statement.
func (d *finder) droppable(s ast.Stmt) bool {
	switch s := s.(type) {
	case *ast.AssignStmt:
		blank, ok := s.Lhs[0].(*ast.Ident)
		return s.Tok != token.DEFINE && !(ok && blank.Name == "_" && len(s.Lhs) == 1)
	case *ast.ExprStmt:
		call, ok := s.X.(*ast.CallExpr)
		return ok && types.ExprString(call.Fun) != "panic"
	case *ast.BranchStmt:
		return s.Tok == token.BREAK || s.Tok == token.CONTINUE
	case *ast.ForStmt:
		return s.Cond != nil
	case *ast.IncDecStmt, *ast.GoStmt, *ast.DeferStmt, *ast.SendStmt, *ast.RangeStmt:
		return true
	}
	return false
}

// returned has one result after the other be what says nothing: nil, 0, "". Of truth values it is the other
// one.
func (d *finder) returned(n *ast.ReturnStmt) {
	results := d.results[len(d.results)-1]
	texts := make([]string, len(results))
	switch {
	case len(n.Results) == 0:
		return
	case len(n.Results) < len(results): // those of a call
		for i, t := range results {
			texts[i] = d.zero(t)
		}
		d.returns(n, texts)
		return
	}
	for i, e := range n.Results {
		texts[i] = d.text(e)
	}
	for i, e := range n.Results {
		if isBool(results[i]) {
			d.otherBool(e)
		} else if zero := d.zero(results[i]); !saysNothing(texts[i]) && d.info.Types[e].Value == nil {
			mutated := slices.Clone(texts)
			mutated[i] = zero
			d.returns(n, mutated)
		}
	}
}

// returns has a mutant return something else.
func (d *finder) returns(n *ast.ReturnStmt, results []string) {
	to := "return " + strings.Join(results, ", ")
	id := d.add(n, d.text(n), to)
	d.around(id, n, fmt.Sprintf("if mutant_is(%d) { %s }; ", id, to), "")
}

func isBool(t types.Type) bool {
	b, ok := t.(*types.Basic)
	return ok && b.Kind() == types.Bool
}

// otherBool negates a truth value that is not changed as an expression already.
func (d *finder) otherBool(e ast.Expr) {
	switch e := ast.Unparen(e).(type) {
	case *ast.BinaryExpr, *ast.UnaryExpr:
	default:
		d.negate(e, "!"+d.text(e))
	}
}

// saysNothing reports whether an expression is nil, or T{}.
func saysNothing(text string) bool { return text == "nil" || strings.HasSuffix(text, "{}") }

// zero returns the zero value of a type, as the file would write it.
func (d *finder) zero(t types.Type) string {
	switch u := t.Underlying().(type) {
	case *types.Pointer, *types.Slice, *types.Map, *types.Chan, *types.Signature:
		return "nil"
	case *types.Interface:
		if _, generic := t.(*types.TypeParam); !generic {
			return "nil"
		}
	case *types.Basic:
		switch {
		case u.Info()&types.IsString != 0:
			return `""`
		case u.Info()&types.IsBoolean != 0:
			return "false"
		case u.Info()&types.IsNumeric != 0:
			return "0"
		}
	}
	return "*new(" + types.TypeString(t, func(p *types.Package) string {
		if p.Name() == d.name {
			return ""
		}
		return p.Name()
	}) + ")"
}
