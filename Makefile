# `make demo` and `make test` need Go and make, nothing else; docs/contributing.md tells what each target is for.
GO      ?= go
VERSION ?= 0.1.0
COMMIT  ?= $(shell git describe --always --dirty 2>/dev/null || echo unknown)
PREFIX  ?= /usr
LDFLAGS := -s -w -X fleetmesh/agent.Version=$(VERSION) -X fleetmesh/agent.Build=$(COMMIT) -X main.version=$(VERSION)
BUILD   := CGO_ENABLED=0 $(GO) build -trimpath -ldflags '$(LDFLAGS)'
FUZZTIME ?= 20s
SEEDS    ?= 20000
EXPRESSIONS ?= 500
BENCH    ?= full

.PHONY: build demo test e2e race lint fuzz bench dist install clean

build:
	@mkdir -p bin
	$(BUILD) -o bin/ ./cmd/meshd ./cmd/meshctl

demo: build
	@bash test/demo/demo.sh

test:
	$(GO) test -timeout 9m ./...

# Root: the real AWS CLI, processes killed for good. bin/failpoint/meshd ends itself at named points, or has a wrong
# clock, when its environment asks for it; nothing else is built with that tag.
e2e: build
	$(BUILD) -tags failpoint -o bin/failpoint/ ./cmd/meshd
	@bash test/e2e/run.sh

race:
	CGO_ENABLED=1 $(GO) test -race -timeout 20m ./...

lint:
	@unformatted=$$(gofmt -l $$(git ls-files '*.go')); if [ -n "$$unformatted" ]; then echo "not gofmt-ed:"; echo "$$unformatted"; exit 1; fi
	$(GO) vet ./...
	$(GO) vet -tags e2e ./test/e2e ./patcher
	$(GO) vet -tags failpoint ./...
	$(GO) tool staticcheck ./...
	$(GO) tool staticcheck -tags e2e ./test/e2e ./patcher
	$(GO) tool staticcheck -tags failpoint ./...
	$(GO) mod verify >/dev/null
	$(GO) mod tidy -diff

# SEEDS new schedules of the models of dispatch and of the voters, EXPRESSIONS new cron expressions against brute force,
# then every fuzz target for FUZZTIME each.
fuzz:
	$(GO) test ./agent/leader -timeout 0 -run '^(TestSimulation|TestPlanSchedules)$$' -sim.first=0 -sim.seeds=$(SEEDS) -plan.first=0 -plan.seeds=$(SEEDS)
	$(GO) test ./internal/schedule -timeout 0 -run '^TestOracle$$' -oracle.first=0 -oracle.seeds=$(EXPRESSIONS) -oracle.zones=all
	@set -e; for package in $$($(GO) list ./...); do \
	  for target in $$($(GO) test -list '^Fuzz' $$package | grep '^Fuzz' || true); do \
	    echo "$$package $$target"; $(GO) test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) $$package; \
	  done; done

# BENCH is full, quick (no peers, about 3 minutes), or a list of tables. A full run installs the peers, which needs root.
bench: build
	@$(BUILD) -o bin/ ./test/bench
	@BENCH=$(BENCH) bash test/bench/bench.sh

dist:
	@echo "make $@ is not in this version" >&2; exit 2

install: build
	install -D -m 0755 bin/meshd $(DESTDIR)$(PREFIX)/sbin/meshd
	install -D -m 0755 bin/meshctl $(DESTDIR)$(PREFIX)/bin/meshctl
	install -D -m 0644 systemd/meshd.service $(DESTDIR)$(PREFIX)/lib/systemd/system/meshd.service
	install -D -m 0644 systemd/meshd.tmpfiles $(DESTDIR)$(PREFIX)/lib/tmpfiles.d/meshd.conf
	[ -e $(DESTDIR)/etc/meshd/meshd.yaml ] || install -D -m 0600 systemd/meshd.yaml $(DESTDIR)/etc/meshd/meshd.yaml
	install -d -m 0700 $(DESTDIR)/var/lib/meshd

clean:
	rm -rf bin dist
