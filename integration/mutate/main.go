// Command mutate asks whether the tests of a package would notice if its code were wrong. It changes the code
// at one place (a mutant), runs the package's tests, and does so again with the next:
//
//	cd integration && go run ./mutate internal/position internal/cluster:judge.go,picture.go
//
// A mutant that no test notices survives. It is printed, unless explained.txt says why it changes nothing
// that matters. The score is the share of the others that are caught.
//
//	go list, go/types ─► find: the mutants of a file ─► rewrite: all of them in one text, each behind a number
//	                                                                      │ go test -c -overlay, once
//	baseline: each test alone; what it takes, which mutants it reaches ◄──┘
//	      └─► for each mutant, by its number: the tests that reach it, the quick ones first ─► caught, or not
//
// So a mutant costs no compiler and no linker, and of the tests only those that can notice it, up to the
// first that does. Mutated are comparisons (a < b → a <= b, a >= b), conditions (true, false), their parts
// and their && and ||, arithmetic, min and max, numbers (n → n + 1), results (the zero value, the other truth
// value), and statements (left out).
//
// Why not a tool that exists: gremlins 0.6 exchanges operators only, leaves no statement out, has no list of
// what is explained, and compiles and links for each mutant. Constants that are declared are not mutated.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/signal"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
)

// options are the flags.
type options struct {
	root     string
	list     explained
	mutants  int // of a package; 0: all
	seed     uint64
	parallel int
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "mutate:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	var o options
	flag.StringVar(&o.root, "root", "..", "the root of the repository")
	flag.IntVar(&o.mutants, "mutants", 0, "how many mutants of a package are tried; 0: all")
	flag.Uint64Var(&o.seed, "seed", 1, "which ones, if not all")
	flag.IntVar(&o.parallel, "parallel", runtime.NumCPU(), "how many tests run at once")
	list := flag.String("explained", "mutate/explained.txt", "the survivors that are explained")
	least := flag.Float64("least", 97, "the least score, in percent")
	flag.Parse()
	var err error
	if o.list, err = readExplained(*list); err != nil {
		return err
	}
	var errs []error
	for _, arg := range flag.Args() {
		dir, files, _ := strings.Cut(arg, ":")
		named := strings.FieldsFunc(files, func(r rune) bool { return r == ',' })
		r, err := o.mutate(ctx, dir, named)
		if err != nil {
			return err
		}
		r.print(dir)
		if r.score() < *least {
			errs = append(errs, fmt.Errorf("%s: %.1f%%: at least %g%% are wanted", dir, r.score(), *least))
		}
		for _, entry := range r.outdated {
			errs = append(errs, fmt.Errorf("%s: there is no such mutant: %s", *list, entry))
		}
	}
	return errors.Join(errs...)
}

// result is what came out for a package.
type result struct {
	caught    int
	survivors []string
	explained int
	invalid   int      // do not compile
	needless  []string // explained, and caught
	outdated  []string // explained, and not there
	leftOut   []string // tests
}

// score is the share of mutants that were caught, without those that are explained, in percent.
func (r *result) score() float64 {
	return 100 * float64(r.caught) / float64(max(1, r.caught+len(r.survivors)))
}

func (r *result) print(dir string) {
	for _, s := range r.survivors {
		fmt.Println(s)
	}
	for _, s := range r.needless {
		fmt.Println("needs no explanation, it is caught:", s)
	}
	for _, s := range r.leftOut {
		fmt.Println("left out, since it fails without a mutant:", s)
	}
	fmt.Printf("%s: %.1f%%: %d of %d mutants are caught; %d more are explained, and %d do not compile\n",
		dir, r.score(), r.caught, r.caught+len(r.survivors), r.explained, r.invalid)
}

// mutate tries the mutants of a package, or of some of its files.
func (o *options) mutate(ctx context.Context, dir string, named []string) (*result, error) {
	s, err := load(o.root, dir, named)
	if err != nil {
		return nil, err
	}
	var found []*finder
	var all []mutant
	n := 0
	for i := range s.files {
		d := find(s, &s.files[i], func() int { n++; return n })
		found, all = append(found, d), append(all, d.mutants...)
	}
	temp, err := os.MkdirTemp("", "mutate")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(temp)
	b, err := build(ctx, s, found, temp)
	if err != nil {
		return nil, err
	}
	r := &result{invalid: len(b.invalid), outdated: o.outdated(s, all)}
	if r.leftOut, err = b.list(ctx, o.parallel); err != nil {
		return nil, err
	}
	all = slices.DeleteFunc(all, func(m mutant) bool { return b.invalid[m.id] })
	return r, o.try(ctx, b, o.sample(all), r)
}

// try tries mutants, and adds what came out to r.
func (o *options) try(ctx context.Context, b *binary, mutants []mutant, r *result) error {
	fates := make([]fate, len(mutants))
	inParallel(len(mutants), o.parallel, func(i int) {
		if ctx.Err() == nil {
			fates[i] = b.fate(ctx, mutants[i])
		}
	})
	for i, m := range mutants {
		_, known := o.list[m.key()]
		switch {
		case known && fates[i] == caught:
			r.needless = append(r.needless, m.String())
			r.explained++
		case known:
			r.explained++
		case fates[i] == caught:
			r.caught++
		default:
			r.survivors = append(r.survivors, m.String()+": "+string(fates[i]))
		}
	}
	return ctx.Err()
}

// outdated returns the explained of these files, and of files that are gone, that no mutant matches.
func (o *options) outdated(s *source, all []mutant) (outdated []string) {
	keys := make(map[string]bool)
	for _, m := range all {
		keys[m.key()] = true
	}
	for entry := range o.list {
		name, _, _ := strings.Cut(entry, ":")
		_, err := os.Stat(filepath.Join(o.root, name))
		gone := err != nil && path.Dir(name) == s.dir
		mutated := slices.ContainsFunc(s.files, func(f file) bool { return f.name == name })
		if gone || mutated && !keys[entry] {
			outdated = append(outdated, entry)
		}
	}
	slices.Sort(outdated)
	return outdated
}

// sample returns as many mutants as were asked for, in their order.
func (o *options) sample(all []mutant) []mutant {
	if o.mutants == 0 || o.mutants >= len(all) {
		return all
	}
	chosen := rand.New(rand.NewPCG(o.seed, 0)).Perm(len(all))[:o.mutants]
	slices.Sort(chosen)
	var sample []mutant
	for _, i := range chosen {
		sample = append(sample, all[i])
	}
	return sample
}
