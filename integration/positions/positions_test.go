// Package positions asks real servers whether internal/position is right about them.
//
// MySQL compares GTID sets itself, so what it says is set beside what internal/position says:
// gtidset_test.go. And of every position that a slave tells, other connections to that slave have to see all
// that it covers: visible_test.go.
//
// Fewer or more can be asked, and of other sets:
//
//	POSITIONS_SEED=7 POSITIONS_PAIRS=1000000 POSITIONS_COMMITS=1000000 go test -v -timeout 2h ./positions
package positions

import (
	"os"
	"strconv"
	"testing"
)

// setting returns a number from the environment.
func setting(t *testing.T, name string, otherwise uint64) uint64 {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return n
}

func ok(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
