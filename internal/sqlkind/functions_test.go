package sqlkind

import (
	"slices"
	"strings"
	"testing"
)

// functionLists are the texts in functions, and how a name is quoted in their dialects.
var functionLists = map[Dialect]struct{ list, quote string }{
	MySQL:      {functionsMySQL, "`"},
	SQLite:     {functionsSQLite, "`"},
	PostgreSQL: {functionsPostgreSQL, `"`},
}

func TestFunctionLists(t *testing.T) {
	for d, l := range functionLists {
		seen := map[string]bool{}
		headings := map[string]bool{}
		var last row
		for r := range rows(l.list) {
			verdict, why, _ := strings.Cut(r.heading, ": ")
			below := last.heading == r.heading && last.source == r.source
			switch {
			case r.kind.String() != verdict || why == "":
				t.Errorf("%v: heading %q tells no verdict, or no reason", d, r.heading)
			case r.heading != last.heading && headings[r.heading]:
				t.Errorf("%v: heading %q is there twice", d, r.heading)
			case r.source == "":
				t.Errorf("%v: %q has no source", d, r.name)
			case below && last.name >= r.name:
				t.Errorf("%v: %q stands behind %q", d, r.name, last.name)
			case seen[r.name]:
				t.Errorf("%v: %q is there twice", d, r.name)
			case r.name != strings.ToLower(r.name) || len(r.name) > longestName:
				t.Errorf("%v: %q is found by nobody", d, r.name)
			}
			last, seen[r.name], headings[r.heading] = r, true, true
		}
		if len(seen) == 0 {
			t.Errorf("%v: the list is empty", d)
		}
	}
}

func TestListedFunctions(t *testing.T) {
	for d, l := range functionLists {
		for name, k := range functionsOf[d]().kinds {
			expect(t, d, k, "SELECT "+name+"(1)", "SELECT s."+strings.ToUpper(name)+" (1)",
				"SELECT "+l.quote+name+l.quote+"(1)")
			expect(t, d, ofColumn(d, name, k), "SELECT t."+name+" FROM t") // the control
		}
	}
}

// ofColumn returns the verdict on a column that is called like the function name, which is a k.
func ofColumn(d Dialect, name string, k Kind) Kind {
	switch {
	case d == MySQL && name == "nextval":
		return Write
	case d == PostgreSQL && (k == Write || k == Unknown) && !columnNames[name]: // it may be a call all the same
		return k
	case d == PostgreSQL && attributesOfState[name]:
		return Stateful
	case d == PostgreSQL && strings.HasPrefix(name, "pg_"):
		return catalogKind(name)
	}
	return Read
}

func TestFunctionFamilies(t *testing.T) {
	for _, d := range []Dialect{SQLite, PostgreSQL} {
		for _, f := range functionsOf[d]().families {
			name := f.beginning + "frob"
			expect(t, d, f.kind, "SELECT "+name+"(1)", "SELECT "+strings.ToUpper(name)+"(1)", `SELECT "`+name+`"(1)`)
			expect(t, d, Read, "SELECT x"+name+"(1)") // the control
		}
	}
}

func TestFunctionSchemas(t *testing.T) {
	for schema, k := range functionsOf[PostgreSQL]().schemas {
		expect(t, PostgreSQL, k, "SELECT "+schema+".frob(1)", `SELECT * FROM "`+schema+`" . "frob" (1)`)
		expect(t, PostgreSQL, Read, "SELECT a.frob FROM "+schema+".frob a") // the control
	}
}

// expect fails for each of the texts on which Classify does not return want.
func expect(t *testing.T, d Dialect, want Kind, texts ...string) {
	t.Helper()
	for _, sql := range texts {
		if got := Classify(d, sql); got != want {
			t.Errorf("Classify(%v, %q) = %v, want %v", d, sql, got, want)
		}
	}
}

// A family that is part of another one is found first.
func TestFamilyWithTheLongestBeginning(t *testing.T) {
	f := newFunctions("write: a\n\tb\n\t\tx*\nread: c\n\td\n\t\txy* z.*\nstateful: e\n\tf\n\t\txyz\n")
	for name, want := range map[string]Kind{"xa": Write, "xya": Read, "xyz": Read} {
		if k, ok := f.ofFamily([]byte(name)); k != want || !ok {
			t.Errorf("%s: %v, %v, want %v", name, k, ok, want)
		}
	}
	if k, ok := f.ofFamily([]byte("y")); ok {
		t.Errorf("y is of the family of a %v", k)
	}
	if f.kinds["xyz"] != Stateful || len(f.kinds) != 1 || len(f.schemas) != 1 {
		t.Errorf("%+v", f)
	}
}

// A heading that is misspelled is no reason to run something on a slave.
func TestKindOfAMisspelledHeading(t *testing.T) {
	list := slices.Collect(rows("reed: x\n\ty\n\t\tz\n"))
	if want := (row{name: "z", kind: Unknown, heading: "reed: x", source: "y"}); len(list) != 1 ||
		list[0] != want {
		t.Errorf("%+v, want %+v", list, want)
	}
}
