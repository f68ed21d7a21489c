#!/usr/bin/env bash
# Runs one part of the tests: unit, doc, loom, dpdk, ns or guest. Uses cargo-nextest when it is installed (a process a test),
# cargo test otherwise.
set -euo pipefail
cd "$(dirname "$0")/.."
cargo=${CARGO:-cargo}
export RUST_BACKTRACE=${RUST_BACKTRACE:-1}
# The properties draw the same cases on every run. Another number, other cases.
export PROPTEST_RNG_SEED=${PROPTEST_RNG_SEED:-1}

nextest() { command -v cargo-nextest >/dev/null; }

unit() {
    scripts/stream-mutants.sh --texts
    if nextest; then
        $cargo nextest run --locked --workspace -E 'not (binary(/^dpdk/) + binary(/^ns_/))'
    else
        $cargo test --locked --workspace --lib --bins --tests -- --skip ns::
    fi
}

doc() {
    $cargo test --locked --workspace --doc
}

# `--cfg loom` would leak into tokio, so the sync facade has a cfg of its own. Exploring needs optimised code, but
# only where it explores.
loom() {
    local fast=() package
    for package in loom generator dataplane; do
        fast+=(--config "profile.dev.package.$package.opt-level=2")
    done
    export RUSTFLAGS="${RUSTFLAGS:-} --cfg postern_loom"
    export LOOM_MAX_PREEMPTIONS=${LOOM_MAX_PREEMPTIONS:-3}
    $cargo test --locked "${fast[@]}" -p dataplane --test 'loom_*'
}

# The EAL starts once a process: each of these files holds one test.
dpdk() {
    if nextest; then
        $cargo nextest run --locked --workspace -E 'binary(/^dpdk/)'
    else
        $cargo test --locked --workspace --test 'dpdk*'
    fi
}

ns() {
    $cargo build --locked -p control -p posternctl -p dataplane -p ndr --bins --example weather --example flood
    if [ "$(id -u)" -ne 0 ]; then
        if [ "${POSTERN_REQUIRE_NS:-0}" = 1 ]; then
            echo "test: the namespace tests need root, and POSTERN_REQUIRE_NS=1 says that they must run" >&2
            exit 1
        fi
        printf '%s\n' \
            "test: ==================================================================" \
            "test: SKIPPED: the namespace tests (real clients and servers) need root." \
            "test: Run \`sudo make test-ns\` for them. Only what needs no root runs now." \
            "test: ==================================================================" >&2
        if nextest; then
            $cargo nextest run --locked -p control -E 'binary(/^ns_/) & test(/::unprivileged::/)'
        else
            $cargo test --locked -p control --test 'ns_*' -- ::unprivileged::
        fi
        return
    fi
    # One after the other: two cores carry one daemon.
    export POSTERN_REQUIRE_NS=1
    if nextest; then
        $cargo nextest run --locked -p control -E 'binary(/^ns_/)'
    else
        $cargo test --locked -p control --test 'ns_*' -- --test-threads=1
    fi
}

# Needs `make build` and `make deps-guest`. A guest that hangs is ended.
guest() {
    if [ "$(id -u)" -ne 0 ]; then
        echo "test: the guest with NICs needs root: run \`sudo make test-guest\`" >&2
        exit 1
    fi
    export POSTERN_GUEST=${CARGO_TARGET_DIR:-$PWD/target}/guest
    # shellcheck disable=SC2086 # more than a word, perhaps
    timeout -k 10 720 $cargo test --locked -p hugepage-setup --test guest_nics -- --nocapture
}

case "${1:-}" in
    unit | doc | loom | dpdk | ns | guest) "$1" ;;
    *) echo "usage: $0 unit|doc|loom|dpdk|ns|guest" >&2; exit 2 ;;
esac
