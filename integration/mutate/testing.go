package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// binary is the test binary of a package with all of its mutants, each of which is on if a variable says so.
type binary struct {
	path string
	dir  string // in which it runs: that of the package
	temp string

	invalid map[int]bool // mutants that do not compile
	tests   []test
}

// test is a test, an example or a fuzz target with its seeds.
type test struct {
	name  string
	took  time.Duration
	reach map[int]bool // the mutants that it comes by
}

// build compiles the tests of a package. Mutants that do not compile it leaves out.
func build(ctx context.Context, s *source, found []*finder, temp string) (*binary, error) {
	b := &binary{path: filepath.Join(temp, "test"), dir: filepath.Join(s.root, s.dir), temp: temp,
		invalid: make(map[int]bool)}
	for {
		output, err := b.compile(ctx, s, found)
		if err == nil {
			return b, nil
		}
		before := len(b.invalid)
		for _, at := range regexp.MustCompile(`(?m)^(\S+\.go):(\d+):`).FindAllStringSubmatch(output, -1) {
			b.leaveOut(found, at[1], at[2])
		}
		if len(b.invalid) == before {
			return nil, fmt.Errorf("the tests of %s do not compile: %w\n%s", s.dir, err, output)
		}
	}
}

// leaveOut leaves out the mutants of a line of a file, of which the compiler tells one path or the other.
func (b *binary) leaveOut(found []*finder, file, line string) {
	for _, d := range found {
		for _, m := range d.mutants {
			if path.Base(m.file) == filepath.Base(file) && strconv.Itoa(m.line) == line {
				b.invalid[m.id] = true
			}
		}
	}
}

func (b *binary) compile(ctx context.Context, s *source, found []*finder) (output string, err error) {
	overlay := struct{ Replace map[string]string }{make(map[string]string)}
	write := func(path, name string, text []byte) {
		overlay.Replace[path] = filepath.Join(b.temp, name)
		err = errors.Join(err, os.WriteFile(overlay.Replace[path], text, 0o600))
	}
	last := 0
	for _, d := range found {
		text := rewrite(d.file.text, d.edits, func(mutant int) bool { return !b.invalid[mutant] })
		write(d.file.path, filepath.Base(d.file.path), text)
		for _, m := range d.mutants {
			last = max(last, m.id)
		}
	}
	dir, _ := filepath.Abs(b.dir)
	write(filepath.Join(dir, "mutate_prelude.go"), "mutate_prelude.go", prelude(s.name, last))
	list, _ := json.Marshal(overlay)
	write("", "overlay.json", list)
	if err != nil {
		return "", err
	}
	cmd := exec.CommandContext(ctx, "go", "test", "-c", "-vet=off", "-gcflags=-e", "-ldflags=-s -w",
		"-overlay", filepath.Join(b.temp, "overlay.json"), "-o", b.path, "./"+s.dir)
	cmd.Dir = s.root
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// memory is how much address space a test's process may take, in KiB: a mutant may go on allocating.
const memory = 6 << 20

// run runs tests. It is an error if one fails, or if together they take longer than allowed: they hang, then.
func (b *binary) run(ctx context.Context, allowed time.Duration, env string, tests ...test) error {
	ctx, cancel := context.WithTimeout(ctx, allowed)
	defer cancel()
	var names []string
	for _, t := range tests {
		names = append(names, t.name)
	}
	// Without a timeout of its own, the process ends by itself when all of its goroutines wait for each other.
	cmd := exec.CommandContext(ctx, "sh", "-c", fmt.Sprintf(`ulimit -v %d; exec "$0" "$@"`, memory), b.path,
		"-test.failfast", "-test.timeout=0", "-test.run=^("+strings.Join(names, "|")+")$")
	cmd.Dir = b.dir
	cmd.Env = append(os.Environ(), env)
	cmd.WaitDelay = time.Second
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("%w\n%s", err, out)
	}
	return nil
}

// patience is how long tests may take, at least.
const patience = 30 * time.Second

// list finds the tests, runs each alone without a mutant, and notes how long it takes and what it reaches.
// One that fails, such as by what the mutants' code allocates, is left out, and said to be.
func (b *binary) list(ctx context.Context, parallel int) (leftOut []string, err error) {
	cmd := exec.CommandContext(ctx, b.path, "-test.list", ".")
	cmd.Dir = b.dir
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("which tests there are: %w", err)
	}
	var names []string
	for name := range strings.Lines(string(out)) {
		if name = strings.TrimSpace(name); !strings.HasPrefix(name, "Benchmark") {
			names = append(names, name)
		}
	}
	tests := make([]test, len(names))
	failed := make([]error, len(names))
	inParallel(len(names), parallel, func(i int) { tests[i], failed[i] = b.try(ctx, names[i], i) })
	for i, t := range tests {
		if failed[i] != nil {
			leftOut = append(leftOut, fmt.Sprintf("%s: %v", t.name, failed[i]))
			continue
		}
		b.tests = append(b.tests, t)
	}
	slices.SortStableFunc(b.tests, func(a, b test) int { return int(a.took - b.took) })
	return leftOut, ctx.Err()
}

func (b *binary) try(ctx context.Context, name string, i int) (test, error) {
	t := test{name: name, reach: make(map[int]bool)}
	reach := filepath.Join(b.temp, "reach"+strconv.Itoa(i))
	began := time.Now()
	if err := b.run(ctx, 20*patience, envReach+"="+reach, t); err != nil {
		return t, err
	}
	t.took = time.Since(began)
	text, _ := os.ReadFile(reach) // there is none if it reaches nothing
	for line := range bytes.Lines(text) {
		id, err := strconv.Atoi(string(bytes.TrimSpace(line)))
		if err != nil {
			return t, err
		}
		t.reach[id] = true
	}
	return t, nil
}

// quick is how long tests take that are run together, in one process, before the others.
const quick = 300 * time.Millisecond

// Fates of a mutant.
type fate string

const (
	caught    fate = "caught"
	survives  fate = "survives"
	unreached fate = "no test comes here"
)

// fate runs the tests that come by a mutant, those that take long last.
func (b *binary) fate(ctx context.Context, m mutant) fate {
	var together []test
	var alone [][]test
	for _, t := range b.tests {
		switch {
		case !t.reach[m.id]:
		case t.took <= quick:
			together = append(together, t)
		default:
			alone = append(alone, []test{t})
		}
	}
	if len(together) > 0 {
		alone = slices.Insert(alone, 0, together)
	}
	if len(alone) == 0 {
		return unreached
	}
	for _, tests := range alone {
		allowed := patience
		for _, t := range tests {
			allowed += 5 * t.took
		}
		if b.run(ctx, allowed, envMutant+"="+strconv.Itoa(m.id), tests...) != nil {
			return caught
		}
	}
	return survives
}

// inParallel calls do with 0 to n-1, so many at a time.
func inParallel(n, parallel int, do func(i int)) {
	var tasks sync.WaitGroup
	free := make(chan struct{}, parallel)
	for i := range n {
		free <- struct{}{}
		tasks.Go(func() {
			defer func() { <-free }()
			do(i)
		})
	}
	tasks.Wait()
}
