#!/usr/bin/env bash
# The kernel: live frames from an XDP program into a veth, routed, masqueraded or not, counted and dropped by the far side in the
# same core's soft interrupt. Prints figures; benches/peers.sh sets the variables (common.sh).
#
#   kernel.sh FLOWS...
set -euo pipefail
# shellcheck source=benches/peers/common.sh
. "$(dirname "$0")/common.sh"
inside=postern-peers-$$ outside=postern-far-$$
limits=/proc/sys/net/netfilter
kept=()

# What tracks connections is one table for all namespaces: it is made large enough, and put back at the end.
room() { # name, value
    local was
    was=$(cat "$limits/$1" 2>/dev/null) || return 0
    [ "$was" -lt "$2" ] || return 0
    if echo "$2" 2>/dev/null >"$limits/$1"; then kept+=("$1=$was"); fi
}
down() {
    ip netns del "$inside" 2>/dev/null || true
    ip netns del "$outside" 2>/dev/null || true
}
end() {
    local pair
    down
    for pair in "${kept[@]}"; do echo "${pair#*=}" >"$limits/${pair%%=*}" || true; done
}
trap end EXIT

# Two namespaces: one that forwards, one whose interface counts and drops.
up() {
    local here=(ip netns exec "$inside") there=(ip netns exec "$outside") i
    ip netns add "$inside"
    ip netns add "$outside"
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
masquerade() {
    ip netns exec "$inside" nft -f - <<'RULES'
table ip nat {
    chain post {
        type nat hook postrouting priority 100
        oifname "out0" masquerade
    }
}
RULES
}

# Without real-time priority: the kernel's own threads share the work and would never run.
send() { # flows, packets, more: packets and nanoseconds
    taskset -c "$PEERS_CPU" ip netns exec "$inside" "$PEERS_TRAFFIC" kernel in0 "$@"
}
arrived() { ip netns exec "$outside" cat /sys/class/net/far0/statistics/rx_packets; }

# Whether what arrives is what it must be. The socket that looks costs, so nothing is measured meanwhile.
right() { # system, flows, more
    local system=$1 flows=$2 ready verdict=
    shift 2
    exec {looks}< <(ip netns exec "$outside" "$PEERS_TRAFFIC" look far0 "$@" 2>"$PEERS_SCRATCH/fault")
    read -r -u "$looks" ready || ready=
    [ "$ready" != ready ] || send "$flows" 2000 >/dev/null
    read -r -u "$looks" verdict || verdict=
    exec {looks}<&-
    case "$verdict" in
        right*) return 0 ;;
        *) say "$system, $flows flows: left out: $(tail -n 1 "$PEERS_SCRATCH/fault")"; return 1 ;;
    esac
}

# Sends, and notes the rate if next to nothing got lost.
measure() { # system, packets or sessions, flows, packets, more
    local system=$1 what=$2 flows=$3 packets=$4 before after n t
    shift 4
    before=$(arrived)
    read -r n t <<<"$(send "$flows" "$packets" "$@")"
    after=$(arrived)
    if [ $((after - before)) -lt $((n * 99 / 100)) ]; then
        say "$system, $flows flows: left out: only $((after - before)) of $n packets came out"
        return 0
    fi
    note "$system" "$what" "$flows" "$(awk -v n=$((after - before)) -v t="$t" 'BEGIN { printf "%.4f", n / t * 1e3 }')" -
}
run() { # system, flows, more for the look
    local system=$1 flows=$2 n t
    shift 2
    right "$system" "$flows" "$@" || return 0
    # As many packets as fit into the time, after a first guess.
    read -r n t <<<"$(send "$flows" 100000)"
    measure "$system" packets "$flows" "$(awk -v n="$n" -v t="$t" -v s="$PEERS_SECONDS" 'BEGIN { printf "%d", n / t * 1e9 * s }')"
}

most=0
for flows in "$@"; do [ "$flows" -le "$most" ] || most=$flows; done
# Any rule that tracks loads what has the limits.
up || { say "no namespaces with nftables here; the kernel is left out"; exit 0; }
masquerade
room nf_conntrack_max $((most * 5 / 4 + 100000))
room nf_conntrack_buckets "$most"
limit=$(cat "$limits/nf_conntrack_max" 2>/dev/null || echo 0)
down

for flows in "$@"; do
    up
    run "kernel forwarding, no tracking" "$flows" --untranslated
    masquerade
    if [ "$limit" -le "$flows" ]; then
        say "kernel nftables masquerade, $flows flows: left out: it may track $limit connections, and that cannot be changed here"
    elif right "kernel nftables masquerade" "$flows"; then
        if [ "$flows" -ge "$PEERS_NEW" ]; then
            measure "kernel nftables masquerade" sessions "$flows" "$flows" --in-order
        else
            send "$flows" "$flows" --in-order >/dev/null
        fi
        run "kernel nftables masquerade" "$flows"
    fi
    down
    # The kernel forgets a namespace's connections behind its end, on any core.
    sleep $((flows / 500000))
done
