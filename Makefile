# unrollnet: everything needs Go >= 1.26, git and make, and no C compiler.
#
#   make build       bin/unrollnet, one static binary
#   make demo        restores a real photograph and compares, pictures in bin/demo
#   make test        the test suite (under ten minutes on two cores)
#   make test-long   the same with the long checks
#   make check       import rules, gofmt, vet, generated code up to date
#   make generate    writes the assembly kernels anew from pkg/kernel/_gen
#   make fuzz        every fuzz target for FUZZTIME (default 30s) each
#   make clean       removes bin/

GO       ?= go
FUZZTIME ?= 30s

export CGO_ENABLED = 0

VERSION := $(shell git describe --tags --always --dirty 2>/dev/null)

.PHONY: all build demo test test-long check generate fuzz clean

all: build

build:
	$(GO) build -trimpath -ldflags '-s -w -X main.version=$(VERSION)' -o bin/unrollnet ./cmd/unrollnet

demo: build
	$(GO) run ./scripts/demo

test:
	$(GO) test -timeout 20m ./...

test-long:
	UNROLLNET_LONG=1 $(GO) test -count=1 -timeout 3h ./...

check:
	@GO='$(GO)' sh scripts/check.sh

generate:
	sh pkg/kernel/generate.sh

fuzz:
	GO='$(GO)' FUZZTIME='$(FUZZTIME)' sh scripts/fuzz.sh

clean:
	rm -rf bin
