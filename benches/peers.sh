#!/usr/bin/env bash
# The worker beside what others do on the same core in the same run, interleaved: dpdk-testpmd between two null ports
# (io: nothing is touched; macswap: the Ethernet header is). They are the limit, not peers in function: neither has state.
# Prints a table of tab-separated values: system, million packets a second and TSC cycles per packet (median, least, most).
#
# PEERS_REPETITIONS (3), PEERS_SECONDS (4) for each testpmd run, PEERS_CPU (the last core).
set -euo pipefail
cd "$(dirname "$0")/.."

fail() { printf 'peers: %s\n' "$*" >&2; exit 1; }
say() { printf 'peers: %s\n' "$*" >&2; }

[ "$(id -u)" -eq 0 ] || fail "testpmd needs root"
command -v dpdk-testpmd >/dev/null || fail "dpdk-testpmd is missing: install Debian's package \"dpdk\""
repetitions=${PEERS_REPETITIONS:-3}
seconds=${PEERS_SECONDS:-4}
last=$(($(nproc) - 1))
cpu=${PEERS_CPU:-$last}
[ "$cpu" -gt 0 ] || fail "two cores are needed: testpmd's main thread has the first"

"${CARGO:-cargo}" build --quiet --release --locked -p benches --bin throughput
binary=${CARGO_TARGET_DIR:-target}/release/throughput
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
realtime=()
chrt -f 50 true 2>/dev/null && realtime=(chrt -f 50)

# Receive rates of both ports together, the mean of the full seconds after the first.
testpmd() { # mode
    # It ends at once if its input does, and does not end when its input ends later: hence both.
    timeout --signal=INT --kill-after=5 "$((seconds + 4))" "${realtime[@]}" dpdk-testpmd --no-huge --no-shconf -m 512 --no-pci \
        --file-prefix "postern-peers-$$" -l "0,$cpu" \
        --vdev net_null0,size=60 --vdev net_null1,size=60 -- \
        --forward-mode="$1" --nb-cores=1 --burst=64 --stats-period 1 --total-num-mbufs=16384 \
        < <(exec sleep "$((seconds + 6))") >"$scratch/testpmd" 2>&1 || true
    awk '$1 == "Rx-pps:" && $2 > 0 { n++; if (n > 2) { sum += $2; m++ } }
         END { if (m < 2) exit 1; printf "%.4f\n", 2 * sum / m / 1e6 }' "$scratch/testpmd" \
        || { cat "$scratch/testpmd" >&2; fail "testpmd $1 gave no rates"; }
}

# Prints "stages ports" of an established workload.
worker() { # flags
    "${realtime[@]}" "$binary" --workload established --repetitions 1 --cpu "$cpu" --json "$@" >"$scratch/json" \
        || fail "throughput failed"
    local stages ports
    stages=$(grep -o '"stages":{[^}]*}' "$scratch/json" | grep -o '"median":[0-9.]*' | cut -d: -f2)
    ports=$(grep -o '"ports":{[^}]*}' "$scratch/json" | grep -o '"median":[0-9.]*' | cut -d: -f2)
    echo "$stages $ports"
}

hz=
for r in $(seq "$repetitions"); do
    say "repetition $r of $repetitions"
    for mode in io macswap; do
        rate=$(testpmd "$mode")
        printf 'testpmd %s\t%s\n' "$mode" "$rate" >>"$scratch/rates"
    done
    for flows in 1k 100k 1M; do
        read -r stages ports <<<"$(worker --flows "$flows")"
        hz=$(grep -o '"tsc_hz":[0-9.]*' "$scratch/json" | cut -d: -f2)
        awk -v f="$flows" -v s="$stages" -v p="$ports" -v hz="$hz" 'BEGIN {
            printf "postern source NAT, UDP, %s flows, stages\t%.4f\n", f, hz / 1e6 / s
            printf "postern source NAT, UDP, %s flows, with ports, generator and check\t%.4f\n", f, hz / 1e6 / (s + p)
        }' >>"$scratch/rates"
    done
done

printf 'system (60 B, one core)\tM packets/s\tmin\tmax\tcycles per packet\tmin\tmax\n'
cut -f1 "$scratch/rates" | awk '!seen[$0]++' | while IFS= read -r system; do
    awk -F '\t' -v s="$system" '$1 == s { print $2 }' "$scratch/rates" | sort -n \
        | awk -v s="$system" -v hz="$hz" '{ v[NR] = $1 } END {
            m = v[int((NR + 1) / 2)]
            printf "%s\t%.2f\t%.2f\t%.2f\t%.0f\t%.0f\t%.0f\n", s, m, v[1], v[NR], hz / 1e6 / m, hz / 1e6 / v[NR], hz / 1e6 / v[1]
        }'
done
