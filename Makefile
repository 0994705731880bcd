# make test does all that CI does. The other targets are for work.

MODULES     := . examples integration
STATICCHECK := go run honnef.co/go/tools/cmd/staticcheck@v0.7.0
FUZZTIME    := 30s
SOAKTIME    := 30m

# What decides, by package. MUTANTS of each are tried, those that SEED chooses; 0: all.
MUTATE  := .:resolver.go,session.go,statement.go,attempt.go,bound.go,middleware.go \
	internal/cluster:judge.go,errors.go,picture.go,watched.go,life.go,readable.go,view.go,hold.go \
	internal/position internal/token internal/logqueue
MUTANTS := 0
SEED    := 1

.PHONY: test lint deps bench fuzz soak engines mutate

# Servers make tests wait more than compute: four packages at once, those that take longest first.
test: deps lint
	@echo "== go test -race"; go test -race -p 4 -timeout 60m \
		./integration/faults ./integration ./integration/oracle ./integration/consistency ./... ./examples/... ./integration/...

# Each line that it prints says what is wrong, and where. golangci-lint would do the first half of it: to be built on a
# fresh machine it needs 194 modules and some two minutes, which is longer than all of this takes.
lint:
	@echo "== gofmt"; files=$$(git ls-files '*.go' | xargs gofmt -l); \
		for f in $$files; do echo "$$f: gofmt would change it"; done; [ -z "$$files" ]
	@set -e; for m in $(MODULES); do echo "== go vet and staticcheck, $$m"; (cd $$m && go vet ./... && $(STATICCHECK) ./...); done
	@echo "== conventions"; go test -count=1 ./internal/conventions

# What the tests need beside Go: a C compiler for the race detector, the servers of MariaDB, MySQL and PostgreSQL.
deps:
	@sh .ci/deps

# Compares with plain GORM and dbresolver in one run; see CONTRIBUTING.md.
bench:
	go test -run '^$$' -bench . -benchtime 200000x .
	cd integration && go test -run '^$$' -bench . -benchtime 20000x .
	cd integration && go test -run '^$$' -bench . -benchtime 40x ./consistency

# Random faults for SOAKTIME on each engine, and long versions of the other tests of faults.
soak: deps
	cd integration && SOAK=$(SOAKTIME) go test -race -v -timeout 0 ./faults

# The suites on other versions and kinds of servers, into docs/engines.md: hours. See CONTRIBUTING.md.
engines: deps
	cd integration && go run ./engines -engines '$(ENGINES)' -suites '$(SUITES)'

# Would the tests notice if the code were wrong? See integration/mutate.
mutate:
	cd integration && go run ./mutate -mutants $(MUTANTS) -seed $(SEED) $(MUTATE)

fuzz:
	@set -e; for d in $$(dirname $$(git grep -l 'func Fuzz' -- '*_test.go') | sort -u); do \
		for f in $$(grep -ho 'func Fuzz[A-Za-z0-9_]*' $$d/*_test.go | cut -c6-); do \
			echo "== $$f, $$d"; go test -run '^$$' -fuzz "^$$f$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 10x ./$$d; done; done
