#!/usr/bin/env bash
# The worker beside others on the same core in the same run, interleaved: the same work (source NAT of UDP, 60 B, random
# order) by Open vSwitch with DPDK and by the kernel's nftables; dpdk-testpmd, which has no state, as the limit.
# Prints a table of tab-separated values: system, million packets a second (median, least, most), TSC cycles per packet, and
# how many times the worker's cycles that is at the same number of flows. The same table and a plot stay in target/bench/.
#
#   peers.sh [--no-install] [--quick]
#
# Needs root and two cores. Installs the peers' packages unless --no-install is given; a peer that is missing is said so and
# left out. Everything it starts, it ends; its namespaces are named after its process.
#
# PEERS_REPETITIONS (3), PEERS_SECONDS (4) for each run, PEERS_CPU (the last core).
set -euo pipefail
cd "$(dirname "$0")/.."

fail() { printf 'peers: %s\n' "$*" >&2; exit 1; }
say() { printf 'peers: %s\n' "$*" >&2; }

install=1
repetitions=${PEERS_REPETITIONS:-3} seconds=${PEERS_SECONDS:-4}
for arg in "$@"; do
    case "$arg" in
        --no-install) install=0 ;;
        --quick) repetitions=1 seconds=3 ;;
        *) fail "unknown argument $arg; there are --no-install and --quick" ;;
    esac
done
[ "$(id -u)" -eq 0 ] || fail "namespaces and the DPDK programs need root"
cpu=${PEERS_CPU:-$(($(nproc) - 1))}
[ "$cpu" -gt 0 ] || fail "two cores are needed: the peers' main threads have the first"

# What only this comparison needs. The services that come with it are not wanted: it starts its own, in private folders.
readonly packages=(dpdk-dev librte-net-null23 librte-net-pcap23 openvswitch-switch-dpdk nftables)
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
target=${CARGO_TARGET_DIR:-target}
worker=$target/release/throughput traffic=$(realpath "$target/release/peer-traffic")
results=$target/bench
mkdir -p "$results"

scratch=$(mktemp -d)
ovs_pids=()
inside=postern-peers-$$ outside=postern-far-$$
end() {
    for pid in "${ovs_pids[@]}"; do kill "$pid" 2>/dev/null || true; done
    for pid in "${ovs_pids[@]}"; do wait "$pid" 2>/dev/null || true; done
    ip netns del "$inside" 2>/dev/null || true
    ip netns del "$outside" 2>/dev/null || true
    rm -rf "$scratch"
}
trap end EXIT
realtime=()
chrt -f 50 true 2>/dev/null && realtime=(chrt -f 50)
flow_counts=(1000 100000)
for n in "${flow_counts[@]}"; do "$traffic" pcap "$n" "$scratch/$n.pcap"; done

# Adds a figure: system, flows, million packets a second.
note() { printf '%s\t%s\t%s\n' "$1" "$2" "$3" >>"$scratch/rates"; }

# Memory for a DPDK program that keeps every packet of a capture in a buffer.
memory() { if [ "$1" -gt 10000 ]; then echo 2048; else echo 512; fi; }

testpmd() { # name, flows, mode, first port, second port
    # It ends at once if its input does, and does not end when its input ends later: hence both.
    timeout --signal=INT --kill-after=5 "$((seconds + 8))" "${realtime[@]}" dpdk-testpmd --no-huge --no-shconf \
        -m "$(memory "$2")" --no-pci --file-prefix "postern-peers-$$" -l "0,$cpu" --vdev "$4" --vdev "$5" -- \
        --forward-mode="$3" --nb-cores=1 --burst=64 --stats-period 1 --total-num-mbufs=$(($2 > 10000 ? 262144 : 16384)) \
        < <(exec sleep "$((seconds + 10))") >"$scratch/testpmd" 2>&1 || true
    # Both ports' receive rates together, the mean of the seconds after the first two.
    local rate
    rate=$(awk '$1 == "Rx-pps:" { v[++k] = $2 }
        END { for (i = 5; i + 1 <= k; i += 2) { sum += v[i] + v[i + 1]; rows++ }
              if (!rows || !sum) exit 1; printf "%.4f\n", sum / rows / 1e6 }' "$scratch/testpmd") \
        || { tail -5 "$scratch/testpmd" >&2; say "testpmd $3 gave no rates"; return 0; }
    note "$1" "$2" "$rate"
}

ovs() { ovs-vsctl --db="unix:$scratch/ovs/db.sock" --timeout=20 "$@"; }
ovs_start() { # flows
    rm -rf "$scratch/ovs"
    mkdir -p "$scratch/ovs"
    export OVS_RUNDIR=$scratch/ovs OVS_LOGDIR=$scratch/ovs OVS_DBDIR=$scratch/ovs
    ovsdb-tool create "$scratch/ovs/conf.db" /usr/share/openvswitch/vswitch.ovsschema
    ovsdb-server "$scratch/ovs/conf.db" --remote="punix:$scratch/ovs/db.sock" --unixctl="$scratch/ovs/db.ctl" \
        --no-chdir >"$scratch/ovs/db.log" 2>&1 &
    ovs_pids=($!)
    for _ in $(seq 50); do [ -S "$scratch/ovs/db.sock" ] && break; sleep 0.1; done
    ovs --no-wait init
    ovs --no-wait set Open_vSwitch . other_config:dpdk-init=true other_config:dpdk-lcore-mask=0x1 \
        other_config:pmd-cpu-mask="$(printf '0x%x' $((1 << cpu)))" \
        other_config:dpdk-extra="--no-huge --legacy-mem --no-shconf --no-pci -m $(($(memory "$1") + 512)) --file-prefix=postern-ovs-$$"
    "${realtime[@]}" /usr/lib/openvswitch-switch-dpdk/ovs-vswitchd-dpdk "unix:$scratch/ovs/db.sock" --unixctl="$scratch/ovs/sw.ctl" \
        --no-chdir >"$scratch/ovs/sw.log" 2>&1 &
    ovs_pids+=($!)
    ovs add-br br0 -- set bridge br0 datapath_type=netdev fail-mode=secure \
        -- add-port br0 in -- set interface in type=dpdk ofport_request=1 \
        options:dpdk-devargs="net_pcap0,rx_pcap=$scratch/$1.pcap,infinite_rx=1" \
        -- add-port br0 out -- set interface out type=dpdk ofport_request=2 \
        options:dpdk-devargs="net_null1,size=60,no-rx=1"
}
ovs_stop() {
    for pid in "${ovs_pids[@]}"; do kill "$pid" 2>/dev/null || true; done
    for pid in "${ovs_pids[@]}"; do wait "$pid" 2>/dev/null || true; done
    ovs_pids=()
}
ovs_sent() { ovs get interface out statistics:tx_packets 2>/dev/null || echo 0; }

ovs_run() { # name, flows, rules on standard input
    ovs-ofctl del-flows "unix:$scratch/ovs/br0.mgmt"
    ovs-ofctl add-flows "unix:$scratch/ovs/br0.mgmt" -
    sleep 2
    local a b from to
    a=$(ovs_sent) from=$(date +%s%N)
    sleep "$seconds"
    b=$(ovs_sent) to=$(date +%s%N)
    if [ "$b" -le "$a" ]; then
        tail -5 "$scratch/ovs/sw.log" >&2
        say "$1 moved nothing; left out"
        return 0
    fi
    note "$1" "$2" "$(awk -v n=$((b - a)) -v t=$((to - from)) 'BEGIN { printf "%.4f", n / t * 1e3 }')"
}
ovs_all() { # flows
    ovs_start "$1" || { tail -5 "$scratch/ovs/sw.log" >&2; say "Open vSwitch does not start; left out"; ovs_stop; return 0; }
    ovs_run "ovs-dpdk, no tracking" "$1" <<<'in_port=1,actions=output:2'
    ovs_run "ovs-dpdk ct+nat, one pass" "$1" <<<'in_port=1,udp,actions=ct(commit,zone=1,nat(src=198.51.100.1)),output:2'
    ovs_run "ovs-dpdk ct+nat, canonical" "$1" <<'RULES'
table=0,in_port=1,ip,actions=ct(table=1,zone=1,nat)
table=1,in_port=1,ip,ct_state=+trk+new,actions=ct(commit,zone=1,nat(src=198.51.100.1)),output:2
table=1,in_port=1,ip,ct_state=+trk+est,actions=output:2
RULES
    ovs_stop
}

# Two namespaces: one that forwards, one whose interface counts and drops.
kernel_start() {
    ip netns add "$inside"
    ip netns add "$outside"
    local here=(ip netns exec "$inside") there=(ip netns exec "$outside")
    ip -n "$inside" link add in0 type veth peer name in1
    ip -n "$inside" link add out0 type veth peer name far0 netns "$outside"
    for i in in0 in1 out0; do ip -n "$inside" link set "$i" up; done
    ip -n "$outside" link set far0 up
    ip -n "$inside" addr add 10.0.0.1/24 dev in0
    ip -n "$inside" addr add 198.51.100.1/24 dev out0
    ip -n "$inside" route add 10.1.0.0/16 dev in0
    ip -n "$inside" route add 198.18.0.0/15 via 198.51.100.2
    ip -n "$inside" neigh add 198.51.100.2 dev out0 lladdr 02:00:00:00:01:02
    "${here[@]}" sysctl -q -w net.ipv4.ip_forward=1 net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.in0.rp_filter=0
    "${there[@]}" nft -f - <<'RULES'
table netdev count {
    chain ingress { type filter hook ingress device "far0" priority 0; policy drop; }
}
RULES
}
pinned=("${realtime[@]}" taskset -c "$cpu")
kernel_run() { # name, flows
    local n t a b
    # Once over all flows, to open them; then for as long as the others.
    "${pinned[@]}" ip netns exec "$inside" "$traffic" kernel in0 "$2" $(($2 * 8 + 10000)) >/dev/null
    read -r n t <<<"$("${pinned[@]}" ip netns exec "$inside" "$traffic" kernel in0 "$2" 100000)"
    a=$(ip netns exec "$outside" cat /sys/class/net/far0/statistics/rx_packets)
    read -r n t <<<"$("${pinned[@]}" ip netns exec "$inside" "$traffic" kernel in0 "$2" \
        "$(awk -v n="$n" -v t="$t" -v s="$seconds" 'BEGIN { printf "%d", n / t * 1e9 * s }')")"
    b=$(ip netns exec "$outside" cat /sys/class/net/far0/statistics/rx_packets)
    if [ $((b - a)) -lt $((n * 9 / 10)) ]; then
        say "$1, $2 flows: only $((b - a)) of $n packets came out; left out"
        return 0
    fi
    note "$1" "$2" "$(awk -v n=$((b - a)) -v t="$t" 'BEGIN { printf "%.4f", n / t * 1e3 }')"
}
kernel_all() { # flows
    ip netns exec "$inside" nft flush ruleset
    kernel_run "kernel forwarding, no tracking" "$1"
    ip netns exec "$inside" nft -f - <<'RULES'
table ip nat {
    chain post {
        type nat hook postrouting priority 100
        oifname "out0" masquerade
    }
}
RULES
    kernel_run "kernel nftables masquerade" "$1"
}

# Prints "stages ports" of an established workload.
postern() { # flows
    "${realtime[@]}" "$worker" --workload established --repetitions 1 --packets 2M --cpu "$cpu" --json --flows "$1" >"$scratch/json" \
        || fail "throughput failed"
    local part
    for part in stages ports; do
        grep -o "\"$part\":{[^}]*}" "$scratch/json" | grep -o '"median":[0-9.]*' | head -n 1 | cut -d: -f2
    done | paste -sd' '
}

have() { command -v "$1" >/dev/null || { say "$1 is missing; its figures are left out"; return 1; }; }
with_testpmd=0 with_ovs=0 with_kernel=0
have dpdk-testpmd && with_testpmd=1
have ovs-vsctl && [ -x /usr/lib/openvswitch-switch-dpdk/ovs-vswitchd-dpdk ] && with_ovs=1
have nft && have ip && with_kernel=1
[ "$with_kernel" -eq 0 ] || kernel_start || { say "no namespaces with nftables here; the kernel is left out"; with_kernel=0; }

hz=
for r in $(seq "$repetitions"); do
    say "repetition $r of $repetitions"
    for flows in "${flow_counts[@]}"; do
        read -r stages ports <<<"$(postern "$flows")"
        hz=$(grep -o '"tsc_hz":[0-9.]*' "$scratch/json" | cut -d: -f2)
        note "postern, stages" "$flows" "$(awk -v s="$stages" -v hz="$hz" 'BEGIN { printf "%.4f", hz / 1e6 / s }')"
        note "postern, with ports, generator and check" "$flows" \
            "$(awk -v s="$stages" -v p="$ports" -v hz="$hz" 'BEGIN { printf "%.4f", hz / 1e6 / (s + p) }')"
        if [ "$with_testpmd" -eq 1 ]; then
            if [ "$flows" = "${flow_counts[0]}" ]; then
                for mode in io macswap; do
                    testpmd "testpmd $mode, null ports" "$flows" "$mode" net_null0,size=60 net_null1,size=60
                done
            fi
            testpmd "testpmd io, the ports of ovs-dpdk" "$flows" io \
                "net_pcap0,rx_pcap=$scratch/$flows.pcap,infinite_rx=1" net_null1,size=60,no-rx=1
        fi
        [ "$with_ovs" -eq 0 ] || ovs_all "$flows"
        [ "$with_kernel" -eq 0 ] || kernel_all "$flows"
    done
done

{
    printf 'system\tM packets/s\tmin\tmax\tcycles per packet\ttimes postern with ports\n'
    cut -f1,2 "$scratch/rates" | awk '!seen[$0]++' | while IFS=$'\t' read -r system flows; do
        awk -F '\t' -v s="$system" -v f="$flows" '$1 == s && $2 == f { print $3 }' "$scratch/rates" | sort -n >"$scratch/sorted"
        ours=$(awk -F '\t' -v f="$flows" '$1 == "postern, with ports, generator and check" && $2 == f { print $3 }' "$scratch/rates" \
            | sort -n | awk '{ v[NR] = $1 } END { print v[int((NR + 1) / 2)] }')
        awk -v s="$system" -v f="$flows" -v hz="$hz" -v ours="$ours" '{ v[NR] = $1 } END {
            m = v[int((NR + 1) / 2)]
            printf "%s, %s flows\t%.3f\t%.3f\t%.3f\t%.0f\t%.2f\n", s, f, m, v[1], v[NR], hz / 1e6 / m, ours / m }' "$scratch/sorted"
    done
} | tee "$results/peers.tsv"
"$traffic" plot "$results/peers.tsv" "$results/peers.svg"
if ! command -v vpp >/dev/null; then
    say "VPP is not in Debian and was not run; measured elsewhere (26.10, nat44-ed, its nodes alone, EPYC at 2,445 MHz): 415 cycles"
    say "per packet at 1k flows, 1,045 at 100k, 1,040 at 1M; forwarding without NAT 86. Compare cycles, not packets a second."
else
    say "a vpp is on the PATH; this comparison does not drive it yet"
fi
awk -F '\t' '/^postern, with ports, generator and check, 1000 / { p = $2 } /^testpmd io, null ports/ { t = $2 }
    END { if (p && t) printf "peers: the whole worker is %.2f of testpmd io between null ports (goal: 0.40)\n", p / t }' "$results/peers.tsv" >&2
say "the table and a plot are in $results/peers.tsv and peers.svg"
