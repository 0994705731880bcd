package conventions

import (
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
)

// notOurs are words of CONTRIBUTING.md that look like names of the code, and are none. A folder stands for
// what is in it, too.
var notOurs = strings.Fields(`
	Galera MariaDB MySQL PgBouncer PostgreSQL
	mysqld nobody pgbouncer postgres uptime
	again least timeout
	bin build gorm-replicated
`)

// TestNames has everything exist that CONTRIBUTING.md names. It looks at code only: spans, and blocks,
// drawings among them. These are names:
//
//   - the only word of a span: an identifier, identifiers joined by dots, a VARIABLE, a path, a file's name
//   - among other words: a file's name; an identifier before a parenthesis, or spelled likeThis, or several
//     joined by dots; a path into a folder that is there; a VARIABLE before an equals sign
//   - the target behind "make", and every TestX, BenchmarkX and FuzzX
//
// An identifier and the name of a file without its folder belong to the root, or to a folder named in the
// same section of the document: "Plugin.Close", "pool.go". A package may stand before an identifier:
// "cluster.View".
func TestNames(t *testing.T) {
	document, err := fs.ReadFile(repository, "CONTRIBUTING.md")
	if err != nil {
		t.Fatal(err)
	}
	wrong, looked := wrongNames(readCode(t, repository), string(document), notOurs)
	for _, w := range wrong {
		t.Errorf("CONTRIBUTING.md:%s", w)
	}
	if looked < 50 {
		t.Errorf("only %d names were found", looked)
	}
}

// TestWrongNames has each kind of a name that does not exist reported, and none that does.
func TestWrongNames(t *testing.T) {
	tree := fstest.MapFS{
		"Makefile": source("TIME := 1m\ntest: lint\n\tgo test ./...\nlint:\n\tgofmt -l .\n"),
		".ci/run":  source("export CI=true\n"),
		"house.go": source(`package replicated

import "gorm.io/gorm"

type House struct{ *rooms; Doors []gorm.ConnPool }
type rooms struct{ number int }
const most = 7
func (r *rooms) enter() {}
func open() {}
`),
		"house_test.go":             source("package replicated\n\nfunc TestHouse() {}\nfunc made() {}\n"),
		"internal/cellar/stairs.go": source("package cellar; type Stairs struct{ Steps int }; func descend() {}"),
		"internal/garden/gate.go":   source("package garden\n"),
	}
	for _, test := range []struct{ document, want string }{
		{"`House`, `House.Doors`, `House.enter`, `enter`, `rooms.number`, `most`, `replicated`", ""},
		{"`open()`, `open(x)`, `(*rooms).enter`, `*House`", ""},
		{"`Hut`, `House.Windows`, `rooms.Doors`, `least`, `close()`, `(*rooms).leave`",
			"Hut House.Windows rooms.Doors least close rooms.leave"},
		{"what a test declares: `made`", "made"},
		{"prose is no code: House.Windows, close(), hut.go, but TestHouse and TestHut", "TestHut"},
		{"`gorm.ConnPool`, `gorm.io/gorm`, `gorm.DB`, `gorm.io/other`", "gorm.DB gorm.io/other"},
		{"`house.go`, `Makefile`, `.ci/run`, `internal/garden/`, `internal/*/gate.go`", ""},
		{"`hut.go`, `.ci/walk`, `internal/attic`", "hut.go .ci/walk internal/attic"},
		{"`internal/*/hut.go`, `internal/*/gate.go`", "internal/*/hut.go"},
		{"`cellar.Stairs`, `cellar.Stairs.Steps`, `cellar.Lift`", "cellar.Lift"},
		{"`stairs.go`, `Stairs`", "stairs.go Stairs"},
		{"# Below\n`internal/cellar`\n\n| `stairs.go` | `Stairs`, `descend`, `ascend` |", "ascend"},
		{"`internal/cellar/stairs.go`: `descend`, `ascend`", "ascend"},
		{"# Below\n`internal/cellar`\n# Above\n`descend`", "descend"},
		{"`make test`, `make lint TIME=5m`, `make all`, `SPACE=1 make test`", "all SPACE"},
		{"`CI=true`, `CI`, `TIME`, `SPACE`", "SPACE"},
		{"`two words`, `-race`, `/var/cache`, `${HOME}/x`, `sid`", ""},
		{"    make test  # all of it\n    make most\n    internal/attic/x gone/y", "most internal/attic/x"},
		{"```\nGET ──► rooms.enter ──► descend(x)\n  h.open(w).Find(&x) ──► lastStep, step\n```",
			"descend h.open lastStep"},
		{"```\n# no heading\ninternal/cellar: descend()\n```", ""},
	} {
		wrong, _ := wrongNames(readCode(t, tree), test.document, []string{"sid"})
		var got []string
		for _, w := range wrong {
			got = append(got, w.text)
		}
		if strings.Join(got, " ") != test.want {
			t.Errorf("%s\nwrong: %q, want %q", test.document, strings.Join(got, " "), test.want)
		}
	}
}

// wrong is a word that names what there is not.
type wrong struct {
	word
	why string
}

func (w wrong) String() string { return fmt.Sprintf("%d: %s: %s", w.line, w.text, w.why) }

// wrongNames returns the words of a document that name what there is not in the code, and how many words it
// looked at. Words that are exempt name nothing.
func wrongNames(c *code, document string, exempt []string) (all []wrong, looked int) {
	for _, section := range sections(document) {
		folders := c.foldersIn(section)
		for _, w := range section {
			first, _, _ := strings.Cut(path.Clean(w.text), "/")
			if slices.Contains(exempt, first) || w.kind == inside && !c.exists(first) {
				continue
			}
			looked++
			if why := c.missing(w, folders); why != "" {
				all = append(all, wrong{w, why})
			}
		}
	}
	return all, looked
}
