# Two commands for a newcomer: `make demo` and `make test`. Everything else is for those who change the code.
GO ?= go
# The race detector needs a C compiler; CI must have one, a laptop may not.
RACE := $(if $(CI),-race,$(shell command -v $${CC:-gcc} >/dev/null 2>&1 && echo -race))
FUZZTIME ?= 5s

.PHONY: gate scenarios demo build test check lint generate fuzz bench

demo: build ## six nodes on this machine, with a page
	@bin/tern demo

build: ## the one binary
	$(GO) build -trimpath -o bin/tern ./cmd/tern

# Real clients over the whole mesh depend on the machine's speed: they run alone, and without the race detector, under which
# pools forget at random, too.
test: ## all tests
	$(GO) test $(RACE) -shuffle=on -timeout 15m -skip '^TestEndToEnd' ./...
	$(GO) test -count=1 -run NoAllocationPerPacket ./node/udp
	TERN_ARTIFACTS="$(CURDIR)/bin/artifacts" $(GO) test -count=1 -timeout 15m -v -p 1 -run '^TestEndToEnd' ./sim/demo ./ebpf

check: lint generate test fuzz ## what CI runs

lint: ## gofmt, vet, staticcheck, module hygiene
	@unformatted=$$(gofmt -l $$(git ls-files '*.go')); test -z "$$unformatted" || { echo "gofmt: $$unformatted"; exit 1; }
	$(GO) vet ./...
	GOOS=darwin $(GO) vet ./cmd/tern
	$(GO) tool staticcheck ./...
	$(GO) mod tidy -diff

generate: ## BPF objects and the console; fails if they differ from what is committed
	.ci/generate

fuzz: ## every fuzz target for FUZZTIME
	.ci/fuzz $(FUZZTIME)

gate: ## stable figures against the committed ones
	.ci/gate

scenarios: ## whole nodes in virtual time, under all checkers
	.ci/scenarios

bench: ## figures as ratios, into bench/results
	.ci/bench
