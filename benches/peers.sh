#!/usr/bin/env bash
# The worker, and the daemon on DPDK ports, beside others on the same core in the same run, interleaved: the same work (source NAT of UDP, 60 B, random
# order; and new sessions) by Open vSwitch with DPDK, by the kernel's nftables, and by VPP where there is one; dpdk-testpmd,
# which has no state, as the limit. What leaves the others is sampled: one that does not translate has no figure.
# Prints a table of tab-separated values and which goals were met. It stays with a plot in target/bench/.
#
#   peers.sh [--no-install] [--quick] [--to FOLDER]
#
# --to FOLDER keeps peers.tsv and peers.svg there too. Needs root and two cores. Installs the peers' packages unless --no-install
# is given; a peer that is missing is said so and left out. Everything it starts, it ends; its namespaces are named after its
# process.
#
# PEERS_REPETITIONS (3), PEERS_SECONDS (3) for each run, PEERS_CPU (the last core), PEERS_GENTLE (any value: no real-time
# priority).
set -euo pipefail
cd "$(dirname "$0")/.."

fail() { printf 'peers: %s\n' "$*" >&2; exit 1; }
say() { printf 'peers: %s\n' "$*" >&2; }

install=1 keep=
repetitions=${PEERS_REPETITIONS:-3} seconds=${PEERS_SECONDS:-3}
while [ $# -gt 0 ]; do
    case "$1" in
        --no-install) install=0 ;;
        --quick) repetitions=1 seconds=2 ;;
        --to) keep=${2:-}; [ -n "$keep" ] || fail "--to needs a folder"; shift ;;
        *) fail "unknown argument $1; there are --no-install, --quick and --to FOLDER" ;;
    esac
    shift
done
[ "$(id -u)" -eq 0 ] || fail "namespaces and the DPDK programs need root"
cpu=${PEERS_CPU:-$(($(nproc) - 1))}
[ "$cpu" -gt 0 ] || fail "two cores are needed: the peers' main threads have the first"

# What only this comparison needs. The services that come with it are not wanted: it starts its own, in private folders.
readonly packages=(dpdk-dev librte-net-null23 openvswitch-switch-dpdk nftables)
if [ "$install" -eq 1 ] && command -v apt-get >/dev/null; then
    missing=()
    for p in "${packages[@]}"; do
        [ "$(dpkg-query -W -f='${db:Status-Status}' "$p" 2>/dev/null)" = installed ] || missing+=("$p")
    done
    if [ ${#missing[@]} -gt 0 ]; then
        say "installing ${missing[*]}"
        DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "${missing[@]}" </dev/null >&2 \
            || say "not all of them could be installed; what is missing is left out"
        if [ -d /run/systemd/system ]; then
            systemctl disable --now openvswitch-switch dpdk nftables >/dev/null 2>&1 || true
        fi
    fi
fi

"${CARGO:-cargo}" build --quiet --release --locked -p benches --bin throughput --bin peer-traffic
"${CARGO:-cargo}" build --quiet --release --locked -p control --bin posternd
target=${CARGO_TARGET_DIR:-target}
worker=$target/release/throughput
PEERS_TRAFFIC=$(realpath "$target/release/peer-traffic")
PEERS_POSTERND=$(realpath "$target/release/posternd")
results=$target/bench
mkdir -p "$results"

PEERS_SCRATCH=$(mktemp -d)
trap 'rm -rf "$PEERS_SCRATCH"' EXIT
realtime=()
if [ -z "${PEERS_GENTLE:-}" ] && chrt -f 50 true 2>/dev/null; then realtime=(chrt -f 50); fi
readonly flow_counts=(1000 100000 1000000) most=1000000

# 2 MiB pages for everybody, or for nobody: enough for Open vSwitch's packets, or for the worker's table.
readonly pages_needed=1300
pages_are() { awk -v n="$1:" '$1 == n { print $2 }' /proc/meminfo; }
free=$(pages_are HugePages_Free) verdict=()
if [ "$(pages_are Hugepagesize)" = 2048 ] && [ "${free:-0}" -ge "$pages_needed" ]; then PEERS_PAGES=huge; else PEERS_PAGES=small; fi

# The rig's flows in a file that a plug-in plays inside the DPDK programs.
PEERS_PLUGIN=$PEERS_SCRATCH PEERS_FRAMES=$PEERS_SCRATCH/frames
PEERS_CPU=$cpu PEERS_SECONDS=$seconds
export PEERS_TRAFFIC PEERS_POSTERND PEERS_SCRATCH PEERS_CPU PEERS_SECONDS PEERS_PAGES PEERS_PLUGIN PEERS_FRAMES PEERS_HZ
"$PEERS_TRAFFIC" frames "$most" "$PEERS_FRAMES"
read -ra dpdk_flags <<<"$(pkg-config --cflags --libs libdpdk)"
"${CC:-cc}" -O2 -shared -fPIC -o "$PEERS_PLUGIN/postern-frames.so" benches/peers/frames.c -pthread "${dpdk_flags[@]}" \
    || fail "the plug-in does not compile"

have() { command -v "$1" >/dev/null || { say "$1 is missing; its figures are left out"; return 1; }; }
peers=(posternd)
if have dpdk-testpmd; then peers+=(testpmd); fi
if have ovs-vsctl && [ -x /usr/lib/openvswitch-switch-dpdk/ovs-vswitchd-dpdk ]; then peers+=(ovs); fi
if have nft && have ip; then peers+=(kernel); fi
if command -v vpp >/dev/null && have vppctl; then
    peers+=(vpp)
    for flows in "${flow_counts[@]}"; do "$PEERS_TRAFFIC" pcap "$flows" "$PEERS_SCRATCH/$flows.pcap"; done
else
    say "VPP is not in Debian and there is none on the PATH: figures of it are quoted"
fi

calibrations=()
calibrate() { calibrations+=("$("${realtime[@]}" taskset -c "$cpu" "$PEERS_TRAFFIC" calibrate)"); }
throughput() { # workload, flows
    "${realtime[@]}" "$worker" --workload "$1" --repetitions 1 --packets 2M --cpu "$cpu" --flows "$2" --json >"$PEERS_SCRATCH/json" \
        || fail "throughput failed"
    "$PEERS_TRAFFIC" postern "$PEERS_SCRATCH/json"
}

began=$(date +%s)
figures=$PEERS_SCRATCH/figures
for r in $(seq "$repetitions"); do
    say "repetition $r of $repetitions"
    calibrate
    read -r PEERS_HZ _ <<<"${calibrations[0]}"
    throughput new "$most" >>"$figures"
    throughput established "$(IFS=,; echo "${flow_counts[*]}")" >>"$figures"
    # Of the last number of flows: whether its tables lie on hugepages.
    ours=$(grep -o '"hugepages":[a-z]*' "$PEERS_SCRATCH/json" | tail -n 1)
    for peer in "${peers[@]}"; do
        "benches/peers/$peer.sh" "${flow_counts[@]}" >>"$figures" || say "$peer failed; what it has measured counts"
    done
done
calibrate

notes=(--note "$(date -u +%F), $(awk -F ': ' '/^model name/ { print $2; exit }' /proc/cpuinfo), $(nproc) cores, Linux $(uname -r), $(dpkg-query -W -f='${Package} ${Version}, ' dpdk-dev openvswitch-switch-dpdk 2>/dev/null || true)$repetitions repetitions, $((($(date +%s) - began) / 60)) minutes")
case "$PEERS_PAGES $ours" in
    "huge \"hugepages\":true") notes+=(--note "tables and packets on 2 MiB pages, the worker's and the DPDK peers'") ;;
    "small \"hugepages\":false") notes+=(--note "everybody on small pages: $pages_needed free pages of 2 MiB are needed, ${free:-0} are free (sysctl vm.nr_hugepages)") ;;
    *)
        verdict=(--no-verdict)
        notes+=(--note "unequal, hence no verdict: the DPDK peers on $PEERS_PAGES pages, the worker $ours; ${free:-0} pages of 2 MiB were free, $pages_needed are needed")
        ;;
esac
# The core's own clock may wander by a few percent; more than that is somebody else.
if awk '{ v = $2; if (NR == 1 || v < low) low = v; if (v > high) high = v } END { exit !(high > 1.2 * low || high > 3) }' \
    <<<"$(printf '%s\n' "${calibrations[@]}")"; then
    verdict=(--no-verdict)
    notes+=(--note "disturbed, hence no verdict: the calibration below shows that others had the core")
fi
for c in "${calibrations[@]}"; do
    read -r hz addition chase <<<"$c"
    notes+=(--note "calibration: TSC $((hz / 1000000)) MHz, $addition cycles for an addition that waits for the one before, $chase ns for a read from memory that does (64 MiB, small pages)")
done
"$PEERS_TRAFFIC" report "$figures" --hz "$PEERS_HZ" "${notes[@]}" "${verdict[@]}" --table "$results/peers.tsv" --plot "$results/peers.svg"
say "the table and a plot are in $results/peers.tsv and peers.svg"
if [ -n "$keep" ]; then
    mkdir -p "$keep"
    cp "$results/peers.tsv" "$results/peers.svg" "$keep/"
    say "and in $keep"
fi
