#!/usr/bin/env bash
# Instructions per packet of the hit path, counted by callgrind and held against gate.tsv. Fails if one has grown by
# more than 3 %. `--update` writes gate.tsv afresh: say in the commit why.
#
# What is counted is the worker's poll without ports, generator and check, in the release build. Two runs of different
# length are subtracted, so that only what a packet costs is left. The count does not depend on the machine's load.
set -euo pipefail
cd "$(dirname "$0")/.."

readonly table=benches/gate.tsv
readonly short=20000 long=60000 tolerance=3

fail() { printf 'gate: %s\n' "$*" >&2; exit 1; }

command -v valgrind >/dev/null || fail "valgrind is missing: run \`make deps\`"
cargo=${CARGO:-cargo}
"$cargo" build --quiet --release --locked -p benches --bin throughput
binary=${CARGO_TARGET_DIR:-target}/release/throughput
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

# Name, then the flags of the workload.
cases=(
    "udp --protocol udp"
    "tcp --protocol tcp"
    "tcp-algs-off --protocol tcp --no-algs"
    "udp-1514 --protocol udp --size 1514"
)

count() { # packets, flags: instructions
    local packets=$1
    shift
    valgrind --tool=callgrind --collect-atstart=no --callgrind-out-file="$scratch/out" \
        "$binary" --workload established --flows 1k --callgrind "$packets" "$@" 2>"$scratch/log" \
        || { cat "$scratch/log" >&2; fail "the run under valgrind failed"; }
    sed -n 's/^\(summary\|totals\): \([0-9]*\).*/\2/p' "$scratch/out" | head -n 1
}

measured=$scratch/measured
for entry in "${cases[@]}"; do
    read -r name flags <<<"$entry"
    # shellcheck disable=SC2086 # the flags are words
    a=$(count $short $flags)
    # shellcheck disable=SC2086
    b=$(count $long $flags)
    awk -v n="$name" -v d=$((b - a)) -v p=$((long - short)) 'BEGIN { printf "%s\t%.1f\n", n, d / p }' >>"$measured"
done

if [ "${1:-}" = --update ]; then
    {
        printf '# Instructions per packet in the stages: 60 B (or as named), 1k established flows, source NAT. Made by gate.sh --update\n'
        printf '# with %s. A commit that raises a figure says why.\n' "$(rustc --version)"
        cat "$measured"
    } >"$table"
    cat "$table"
    exit 0
fi

awk -F '\t' -v tolerance=$tolerance -v version="$(rustc --version)" '
    /^#/ { if (index($0, version)) same = 1; next }
    NR == FNR { known[$1] = $2; next }
    {
        if (!($1 in known)) { printf "gate: %-14s %8.1f instructions per packet; gate.tsv does not know it\n", $1, $2; bad = 1; next }
        change = ($2 / known[$1] - 1) * 100
        printf "gate: %-14s %8.1f instructions per packet, %+.1f %% against %.1f\n", $1, $2, change, known[$1]
        if (change > tolerance) bad = 1
        if (change < -tolerance) better = 1
    }
    END {
        if (!same) print "gate: gate.tsv was made with another compiler; part of the difference may be its"
        if (better) print "gate: fewer than before: keep it with benches/gate.sh --update"
        if (bad) { print "gate: FAILED: more than " tolerance " % more instructions (or an unknown case)"; exit 1 }
    }' "$table" "$measured"
