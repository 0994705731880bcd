package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"unicode"
)

// outcome is what came of a suite on a kind of servers.
type outcome struct {
	kind    string
	tests   map[string]*test
	seconds float64 // of its tests, without compiling them
	exited  bool    // go test failed, be it in a test or elsewhere
}

type test struct {
	action   string // the last one: pass, fail or skip, or run if it never ended
	unwanted bool
}

// notWanted is in the output of a test for a kind of servers that REPLICATED_KINDS leaves out (servers.Want).
const notWanted = ": not wanted: "

// readEvents reads what go test -json prints, and writes the text in it to log.
func readEvents(r io.Reader, log io.Writer, kind string) (*outcome, error) {
	o := &outcome{kind: kind, tests: map[string]*test{}}
	// A Decoder would not come past what is not JSON.
	lines := bufio.NewReader(r)
	for {
		line, err := lines.ReadBytes('\n')
		if len(line) > 0 {
			var e struct {
				Action, Test, Output string
				Elapsed              float64
			}
			if json.Unmarshal(line, &e) != nil {
				e.Output = string(line)
			}
			if _, err := io.WriteString(log, e.Output); err != nil {
				return o, err
			}
			o.add(e.Action, e.Test, e.Output, e.Elapsed)
		}
		switch err {
		case nil:
		case io.EOF:
			return o, nil
		default:
			return o, err
		}
	}
}

func (o *outcome) add(action, name, output string, elapsed float64) {
	if name == "" {
		if action == "pass" || action == "fail" {
			o.seconds += elapsed
		}
		return
	}
	t := o.tests[name]
	if t == nil {
		t = &test{}
		o.tests[name] = t
	}
	switch action {
	case "run", "pass", "fail", "skip":
		t.action = action
	case "output":
		t.unwanted = t.unwanted || strings.Contains(output, notWanted)
	}
}

// named returns the tests for which is holds, and for no test within them.
func (o *outcome) named(is func(*test) bool) []string {
	var names []string
	for _, name := range slices.Sorted(maps.Keys(o.tests)) {
		if is(o.tests[name]) {
			names = append(names, name)
		}
	}
	all := slices.Clone(names)
	return slices.DeleteFunc(names, func(name string) bool {
		return slices.ContainsFunc(all, func(other string) bool { return strings.HasPrefix(other, name+"/") })
	})
}

// passed returns the tests on the kind of servers that passed, without those that are made of others. Tests
// of no kind do not count: a test of all kinds for which there is none of this kind passes as well.
func (o *outcome) passed() []string {
	innermost := o.named(func(*test) bool { return true })
	return slices.DeleteFunc(innermost, func(name string) bool {
		return o.tests[name].action != "pass" || !isOn(name, o.kind)
	})
}

// isOn says whether a test is on a kind of servers: its name says so, or that of a test it is part of.
func isOn(name, kind string) bool {
	within := strings.Split(name, "/")
	if strings.Contains(within[0], strings.ReplaceAll(kind, " ", "")) { // TestPostgreSQL
		return true
	}
	return slices.ContainsFunc(within[1:], func(name string) bool { // MySQL, or MySQL,_4_workers
		variant, ok := strings.CutPrefix(name, strings.ReplaceAll(kind, " ", "_"))
		return ok && strings.TrimLeftFunc(variant, unicode.IsLetter) == variant
	})
}

func (o *outcome) failed() []string {
	return o.named(func(t *test) bool { return t.action == "fail" || t.action == "run" })
}

func (o *outcome) skipped() []string {
	return o.named(func(t *test) bool { return t.action == "skip" && !t.unwanted })
}

// green says whether tests ran, and all that are wanted passed.
func (o *outcome) green() bool {
	return !o.exited && len(o.passed()) > 0 && len(o.failed()) == 0 && len(o.skipped()) == 0
}

func (o *outcome) String() string {
	passed, failed, skipped := o.passed(), o.failed(), o.skipped()
	var parts []string
	switch {
	case len(failed) > 0:
		parts = append(parts,
			fmt.Sprintf("%d of %d failed: %s", len(failed), len(failed)+len(passed), list(failed)))
	case o.exited:
		parts = append(parts, "failed outside of its tests")
	case len(passed) == 0:
		parts = append(parts, "no test ran on it")
	default:
		parts = append(parts, fmt.Sprintf("ok (%d tests)", len(passed)))
	}
	if len(skipped) > 0 {
		parts = append(parts, fmt.Sprintf("%d skipped: %s", len(skipped), list(skipped)))
	}
	return strings.Join(parts, "; ")
}

// list joins names, the first ones if they are many.
func list(names []string) string {
	const most = 4
	if more := len(names) - most; more > 0 {
		return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), more)
	}
	return strings.Join(names, ", ")
}
