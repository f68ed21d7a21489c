#!/usr/bin/env bash
# Instructions per packet of the hit path, per new flow, per packet that is handed over, and per message that an ALG reads,
# counted by callgrind and held against gate.tsv. Fails if one has grown by more than 3 %, or if traffic that no ALG reads
# pays more than 1 % for ALGs that are on. `--update` writes gate.tsv afresh: say in the commit why.
# `--parts CASE` prints where the instructions of one case are, by source file.
#
# What is counted is the worker's poll without ports, generator and check, in the release build. Two runs of different
# length are subtracted, so that only what a packet costs is left. The count does not depend on the machine's load.
set -euo pipefail
cd "$(dirname "$0")/.."

readonly table=benches/gate.tsv
readonly tolerance=3
# What traffic that no ALG reads may pay for all ALGs being on, in percent of its instructions with all off.
readonly bystander=1

fail() { printf 'gate: %s\n' "$*" >&2; exit 1; }

command -v valgrind >/dev/null || fail "valgrind is missing: run \`make deps\`"
cargo=${CARGO:-cargo}
"$cargo" build --quiet --release --locked -p benches --bin throughput
binary=${CARGO_TARGET_DIR:-target}/release/throughput
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

# Name, length of the short run (the long one is three times that), the flags of the workload.
cases=(
    "udp 20000 --workload established --protocol udp"
    "tcp 20000 --workload established --protocol tcp"
    "tcp-algs-off 20000 --workload established --protocol tcp --no-algs"
    "udp-algs-off 20000 --workload established --protocol udp --no-algs"
    "udp-1514 20000 --workload established --protocol udp --size 1514"
    "udp-handoff 20000 --workload handoff --protocol udp"
    "udp-open 5000 --workload new --protocol udp"
    "tcp-open 5000 --workload new --protocol tcp"
    "udp-open-algs-off 5000 --workload new --protocol udp --no-algs"
    "tcp-open-algs-off 5000 --workload new --protocol tcp --no-algs"
    "udp-open-1000-rules 2000 --workload new --protocol udp --rules 1000"
    "udp-open-binding 5000 --workload new --protocol udp --pool 2"
    "udp-open-dependent 5000 --workload new --protocol udp --pool 2 --endpoint-dependent"
    "udp-pinholes 20000 --workload established --protocol udp --pinholes 1M"
    "udp-open-pinholes 5000 --workload new --protocol udp --pinholes 1M"
    "ftp-message 10000 --workload alg --exchange ftp"
    "sip-udp-message 10000 --workload alg --exchange sip-udp"
    "sip-tcp-message 10000 --workload alg --exchange sip-tcp"
    "rtsp-message 10000 --workload alg --exchange rtsp"
)

run() { # output file, packets, flags
    local out=$1 packets=$2
    shift 2
    valgrind --tool=callgrind --collect-atstart=no --callgrind-out-file="$out" \
        "$binary" --flows 1k --callgrind "$packets" "$@" 2>"$scratch/log" \
        || { cat "$scratch/log" >&2; fail "the run under valgrind failed"; }
}

count() { # packets, flags: instructions
    run "$scratch/out" "$@"
    sed -n 's/^\(summary\|totals\): \([0-9]*\).*/\2/p' "$scratch/out" | head -n 1
}

if [ "${1:-}" = --parts ]; then
    for entry in "${cases[@]}"; do
        read -r name short flags <<<"$entry"
        [ "$name" = "${2:-}" ] || continue
        # shellcheck disable=SC2086 # the flags are words
        run "$scratch/out" $((3 * short)) $flags
        # A cost line belongs to the file that the last fl=, fi= or fe= named; the line after a calls= is another function's.
        awk -v packets=$((3 * short)) '
            /^(fl|fi|fe)=/ {
                id = $0; sub(/^f.=/, "", id); file = id
                if (match(id, /^\([0-9]+\)/)) {
                    key = substr(id, 1, RLENGTH); rest = substr(id, RLENGTH + 2)
                    if (rest != "") names[key] = rest
                    file = names[key]
                }
                next
            }
            /^calls=/ { skip = 1; next }
            /^[0-9+*-]/ { if (!skip) cost[file] += $2; skip = 0 }
            END { for (f in cost) if (cost[f] / packets >= 0.5) printf "%9.1f  %s\n", cost[f] / packets, f }' "$scratch/out" \
            | sed -E 's|/.*/registry/src/[^/]*/||; s|/.*/library/|std: |' | sort -rn
        exit 0
    done
    fail "no case \"${2:-}\"; there are: $(for entry in "${cases[@]}"; do printf '%s ' "${entry%% *}"; done)"
fi

measured=$scratch/measured
for entry in "${cases[@]}"; do
    read -r name short flags <<<"$entry"
    # shellcheck disable=SC2086 # the flags are words
    a=$(count "$short" $flags)
    # shellcheck disable=SC2086
    b=$(count $((3 * short)) $flags)
    awk -v n="$name" -v d=$((b - a)) -v p=$((2 * short)) 'BEGIN { printf "%s\t%.1f\n", n, d / p }' >>"$measured"
done

if [ "${1:-}" = --update ]; then
    {
        printf '# Instructions in the stages, source NAT: per packet of 1k established flows (60 B, or as named); per packet that two\n'
        printf '# workers share; per flow that opens (TCP: three segments); per message of 1k sessions. Made by gate.sh --update\n'
        printf '# with %s. A commit that raises a figure says why.\n' "$(rustc --version)"
        cat "$measured"
    } >"$table"
    cat "$table"
    exit 0
fi

awk -F '\t' -v tolerance=$tolerance -v bystander=$bystander -v version="$(rustc --version)" '
    /^#/ { if (index($0, version)) same = 1; next }
    NR == FNR { known[$1] = $2; next }
    {
        if (!($1 in known)) { printf "gate: %-20s %8.1f instructions; gate.tsv does not know it\n", $1, $2; bad = 1; next }
        change = ($2 / known[$1] - 1) * 100
        printf "gate: %-20s %8.1f instructions, %+.1f %% against %.1f\n", $1, $2, change, known[$1]
        now[$1] = $2
        if (change > tolerance) bad = 1
        if (change < -tolerance) better = 1
    }
    END {
        if (!same) print "gate: gate.tsv was made with another compiler; part of the difference may be its"
        if (better) print "gate: fewer than before: keep it with benches/gate.sh --update"
        for (name in now) {
            if (name !~ /-algs-off$/) continue
            with = name; sub(/-algs-off$/, "", with)
            more = (now[with] / now[name] - 1) * 100
            printf "gate: %s with all ALGs on, none reading: %+.2f %% instructions over all off, at most %+d %%\n", with, more, bystander
            if (more > bystander) { print "gate: FAILED: traffic that no ALG reads pays for them"; bad = 1 }
        }
        if (bad) { print "gate: FAILED: more than " tolerance " % more instructions, an unknown case, or as said above"; exit 1 }
    }' "$table" "$measured"
