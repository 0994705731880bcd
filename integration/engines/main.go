// Command engines runs the suites on servers of the versions that people run, one after the other, prints a
// table of what came out, and writes it into docs/engines.md:
//
//	cd integration && go run ./engines -engines "PostgreSQL 18,Galera" -suites oracle,faults
//
// Without the flags it runs all of them, which takes hours. .ci/fetch fetches the servers. Each row is
// written when its suite has ended, and replaces the one of an earlier run: a run that is interrupted keeps
// what it has done.
//
// It exits with 1 if a row that it wrote is not green: if a test failed, was skipped, or none ran
// on the engine.
package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "engines:", err)
		os.Exit(1)
	}
}

var errInterrupted = errors.New("interrupted")

func run(ctx context.Context) error {
	p, err := parseFlags()
	if err != nil {
		return err
	}
	rows, err := readRows(p.doc)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(p.logs, 0o755); err != nil {
		return err
	}
	fmt.Println("The output of each suite is in", p.logs)

	var ran []row
	keep := func(r row) error {
		ran, rows = append(ran, r), replace(rows, r)
		return writeRows(p.doc, rows, runtime.NumCPU())
	}
	for _, e := range engines {
		if !p.engines[e.name] {
			continue
		}
		if err := p.runOn(ctx, e, keep); err != nil {
			return err
		}
	}
	fmt.Print("\n", render(ran))
	failed := 0
	for _, r := range ran {
		if !r.green {
			failed++
		}
	}
	if failed > 0 || len(ran) == 0 {
		return fmt.Errorf("of %d rows, %d are not green", len(ran), failed)
	}
	return nil
}

// plan is what the command line asks for.
type plan struct {
	engines, suites map[string]bool // by name
	doc             string          // the document with the table
	logs            string          // the folder for the output of the suites
}

func parseFlags() (p plan, err error) {
	var all []string
	for _, e := range engines {
		all = append(all, e.name)
	}
	engineNames := flag.String("engines", "", "what to run on, separated by commas: "+strings.Join(all, ","))
	suiteNames := flag.String("suites", "", "what to run, separated by commas: "+strings.Join(suites, ","))
	flag.StringVar(&p.doc, "doc", "../docs/engines.md", "the document with the table")
	flag.StringVar(&p.logs, "logs", "../build/engines", "the folder for the output of the suites")
	flag.Parse()
	if p.engines, err = choose(*engineNames, all); err != nil {
		return p, err
	}
	p.suites, err = choose(*suiteNames, suites)
	return p, err
}

// runOn runs the chosen suites on an engine. It hands each row to keep as soon as its suite has ended.
func (p plan) runOn(ctx context.Context, e engine, keep func(row) error) error {
	programs, missing := e.fetch(ctx)
	if ctx.Err() != nil {
		return errInterrupted
	}
	for _, suite := range e.suites {
		if !p.suites[suite] {
			continue
		}
		r := row{engine: e.name, version: programs.version, suite: suite, date: time.Now().Format(time.DateOnly)}
		if missing != nil {
			r.result = "not run: " + missing.Error()
		} else if err := p.fill(ctx, &r, e, programs); err != nil {
			return err
		}
		if err := keep(r); err != nil {
			return err
		}
	}
	return nil
}

// fill runs the suite of a row on its engine, and fills in what came of it.
func (p plan) fill(ctx context.Context, r *row, e engine, programs fetched) error {
	fmt.Printf("== %s %s, %s\n", r.engine, r.version, r.suite)
	o, err := e.test(ctx, programs, r.suite, p.logs)
	if ctx.Err() != nil {
		return errInterrupted
	}
	if err != nil {
		return err
	}
	r.result, r.seconds, r.green = o.String(), o.seconds, o.green()
	fmt.Printf("   %s, %.0f s\n", r.result, r.seconds)
	return nil
}

// choose returns the names in the list, or all of them if it is empty.
func choose(list string, all []string) (map[string]bool, error) {
	chosen := map[string]bool{}
	for name := range strings.SplitSeq(cmp.Or(list, strings.Join(all, ",")), ",") {
		chosen[strings.TrimSpace(name)] = true
	}
	known := 0
	for _, name := range all {
		if chosen[name] {
			known++
		}
	}
	if known < len(chosen) {
		return nil, fmt.Errorf("%q names what there is not: there are %s", list, strings.Join(all, ", "))
	}
	return chosen, nil
}

// fetched are the programs of an engine.
type fetched struct {
	bin     []string // folders
	version string
}

// fetch has .ci/fetch fetch what the engine needs, and asks the programs for their version.
func (e engine) fetch(ctx context.Context) (fetched, error) {
	var f fetched
	var versions []string
	for _, p := range e.programs {
		cmd := exec.CommandContext(ctx, "sh", "../.ci/fetch", p.fetch)
		// Not SIGKILL, or it would leave its half-filled folder behind.
		cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
		cmd.WaitDelay = time.Minute
		var stderr bytes.Buffer
		cmd.Stderr = io.MultiWriter(os.Stderr, &stderr)
		dir, err := cmd.Output()
		if err != nil {
			lines := strings.Split(strings.TrimSpace(stderr.String()), "\n")
			return f, fmt.Errorf("%s could not be fetched: %s", p.fetch, lines[len(lines)-1])
		}
		bin := filepath.Join(strings.TrimSpace(string(dir)), "bin")
		out, err := exec.CommandContext(ctx, filepath.Join(bin, p.name), "--version").Output()
		if err != nil {
			return f, fmt.Errorf("%s --version: %w", p.name, err)
		}
		f.bin = append(f.bin, bin)
		versions = append(versions, strings.TrimSpace(p.label+" "+versionOf(string(out))))
	}
	f.version = strings.Join(versions, ", ")
	return f, nil
}

// test runs a suite on the engine, with its output in a file of the folder logs.
func (e engine) test(ctx context.Context, f fetched, suite, logs string) (*outcome, error) {
	args, err := goTest(".", suite)
	if err != nil {
		return nil, err
	}
	name := strings.ReplaceAll(strings.ToLower(e.name+" "+suite), " ", "-") + ".log"
	log, err := os.Create(filepath.Join(logs, name))
	if err != nil {
		return nil, err
	}
	defer log.Close()
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Env = append(os.Environ(),
		"PATH="+strings.Join(append(f.bin, os.Getenv("PATH")), string(os.PathListSeparator)),
		"REPLICATED_KINDS="+e.kind,
		"REPLICATED_MYSQL="+e.mySQL(f),
		"POSITIONS_COMMITS="+cmp.Or(os.Getenv("POSITIONS_COMMITS"), "50000"),
		"CONSISTENCY_ROUNDS="+cmp.Or(os.Getenv("CONSISTENCY_ROUNDS"), "200"),
		"CI=true", // what is missing fails
	)
	cmd.Stderr = log
	// A group of its own: when this is interrupted, so are the tests, and they end their servers.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGINT) }
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	o, err := readEvents(stdout, log, e.kind)
	if err != nil {
		cmd.Cancel()
	}
	var exit *exec.ExitError
	if waitErr := cmd.Wait(); errors.As(waitErr, &exit) {
		o.exited = true
	} else {
		err = errors.Join(err, waitErr)
	}
	return o, err
}
