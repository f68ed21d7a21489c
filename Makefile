# Postern. `make demo` shows it, `make test` proves it; both install what they miss.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

PREFIX     ?= /usr/local
SYSCONFDIR ?= /etc
DESTDIR    ?=
CARGO      ?= cargo
# Where cargo puts what it builds. The loom models need another cfg, hence a folder of their own.
TARGET     := $(or $(CARGO_TARGET_DIR),$(CURDIR)/target)
RELEASE    := $(TARGET)/release
BINARIES   := posternd posternctl hugepage-setup

.PHONY: help deps deps-guest build demo test test-unit test-doc test-loom test-dpdk test-ns test-guest test-fuzz fuzz bench bench-parts bench-worker bench-gate bench-peers bench-ndr lint install clean

help: ## This list
	@sed -n 's/^\([a-z-]*\):[^#]*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 20

deps: ## Install the Debian packages that are missing; check the Rust toolchain
	@scripts/deps.sh

deps-guest: deps ## Install QEMU and what else the guest of test-guest needs; unpack Debian's stock kernel below target/
	@CARGO_TARGET_DIR="$(TARGET)" scripts/deps-guest.sh

build: deps ## Release build of posternd, posternctl and hugepage-setup
	$(CARGO) build --release --locked -p control -p posternctl -p hugepage-setup

demo: build ## Real FTP through the gateway, told as a story (root; no NIC, no hugepages)
	@POSTERN_BIN_DIR="$(RELEASE)" scripts/demo.sh

test: deps ## Every test: units, properties, documentation, loom models, DPDK ports, namespaces
	@for part in unit doc loom dpdk fuzz ns; do $(MAKE) --no-print-directory test-$$part; done

test-unit: ## Unit, property and scenario tests in one process
	@scripts/test.sh unit

test-doc: ## The examples in the documentation comments
	@scripts/test.sh doc

test-loom: ## Models of the lock-free parts, all interleavings within bounds
	@CARGO_TARGET_DIR="$(TARGET)/loom" scripts/test.sh loom

test-dpdk: ## DPDK ports without a NIC, one process a test
	@scripts/test.sh dpdk

test-fuzz: ## A short run of every fuzz target, the same inputs every time, and all that was ever found
	@CARGO_TARGET_DIR="$(TARGET)" scripts/fuzz.sh --runs 2000

test-ns: ## Real clients and servers in network namespaces (root)
	@scripts/test.sh ns

test-guest: deps-guest build ## Emulated PCI NICs: hugepage-setup and posternd in a guest of QEMU (root; minutes; not part of `make test`)
	@CARGO_TARGET_DIR="$(TARGET)" POSTERN_BIN_DIR="$(RELEASE)" scripts/test.sh guest

SECONDS ?= 60
fuzz: deps ## Every fuzz target for SECONDS each (default 60), other inputs every time; the corpus is kept
	@CARGO_TARGET_DIR="$(TARGET)" scripts/fuzz.sh --seconds $(SECONDS)

bench: deps ## Every benchmark but the comparison with others, and which goals are met (BENCH_ARGS=--quick: a few minutes)
	@CARGO_TARGET_DIR="$(TARGET)" benches/bench.sh $(BENCH_ARGS)

bench-parts: deps ## Micro-benchmarks; the flow table beside librte_hash and hashbrown
	@CARGO_TARGET_DIR="$(TARGET)" benches/bench.sh --parts $(BENCH_ARGS)

bench-worker: deps ## Cycles per packet, new sessions, latency, handoff, two cores (BENCH_ARGS="--help" says more)
	@CARGO_TARGET_DIR="$(TARGET)" benches/throughput.sh $(BENCH_ARGS)

bench-peers: deps ## Beside testpmd, OVS-DPDK, the kernel and VPP, interleaved (root; installs the peers' packages)
	@CARGO_TARGET_DIR="$(TARGET)" benches/peers.sh $(BENCH_ARGS)

bench-ndr: deps ## RFC 2544 style searches through a gateway (BENCH_ARGS="own --help" says how; "--dry-run" needs no NIC)
	@CARGO_TARGET_DIR="$(TARGET)" benches/ndr.sh $(or $(BENCH_ARGS),--dry-run)

bench-gate: deps ## Instructions per packet under callgrind, against benches/gate.tsv
	@CARGO_TARGET_DIR="$(TARGET)" benches/gate.sh

lint: deps ## Formatting, clippy with warnings as errors, licences and advisories, shell scripts
	@scripts/lint.sh

install: ## Install what `make build` built, an example configuration and a systemd unit (PREFIX, DESTDIR)
	@for b in $(BINARIES); do test -x "$(RELEASE)/$$b" || { echo "install: $(RELEASE)/$$b is missing; run \`make build\` first" >&2; exit 1; }; done
	install -d "$(DESTDIR)$(PREFIX)/bin" "$(DESTDIR)$(PREFIX)/lib/systemd/system" "$(DESTDIR)$(PREFIX)/share/doc/postern" "$(DESTDIR)$(SYSCONFDIR)/postern"
	install -m 0755 $(BINARIES:%="$(RELEASE)/%") "$(DESTDIR)$(PREFIX)/bin/"
	install -m 0644 docs/examples/*.toml LICENSE README.md "$(DESTDIR)$(PREFIX)/share/doc/postern/"
	install -m 0640 docs/examples/nic.toml "$(DESTDIR)$(SYSCONFDIR)/postern/postern.toml.example"
	sed -e 's|@PREFIX@|$(PREFIX)|g' -e 's|@SYSCONFDIR@|$(SYSCONFDIR)|g' packaging/postern.service.in > "$(DESTDIR)$(PREFIX)/lib/systemd/system/postern.service"

clean: ## Remove what was built
	$(CARGO) clean
	rm -rf "$(TARGET)/loom"
