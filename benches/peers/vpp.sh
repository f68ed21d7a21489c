#!/usr/bin/env bash
# VPP's nat44-ed, its packet generator playing the flows from memory: cycles in its nodes alone, from `show runtime`, without
# those of the generator (pg-input) and of the interface that drops (pg1-tx). Its files are in the scratch folder.
# Prints figures; benches/peers.sh sets the variables (common.sh),
# and makes FLOWS.pcap in the scratch folder. PEERS_HZ: cycles a second.
#
#   vpp.sh FLOWS...
set -euo pipefail
# shellcheck source=benches/peers/common.sh
. "$(dirname "$0")/common.sh"
home=$PEERS_SCRATCH/vpp

pid=
end() {
    end_process "$pid" TERM
    pid=
    rm -rf "$home"
}
trap end EXIT

vpp_says() { vppctl -s "$home/cli.sock" "$@" </dev/null; }
# vppctl is content with anything: an error is a sentence.
vpp_do() {
    local answer
    if answer=$(vpp_says "$@") && ! grep -qiE 'unknown|error|fail|expect|invalid|already|please|not ' <<<"$answer"; then return 0; fi
    say "vpp: $*: ${answer:-no answer}"
    return 1
}

start() {
    local buffers=default-hugepage
    [ "$PEERS_PAGES" = huge ] || buffers=default
    mkdir -p "$home"
    cat >"$home/startup.conf" <<CONF
unix { nodaemon cli-listen $home/cli.sock log $home/vpp.log runtime-dir $home }
api-segment { prefix postern-$$ }
socksvr { socket-name $home/api.sock }
statseg { socket-name $home/stats.sock }
cpu { main-core 0 corelist-workers $PEERS_CPU }
memory { main-heap-size 3G main-heap-page-size $buffers }
buffers { buffers-per-numa 32768 page-size $buffers }
plugins { plugin dpdk_plugin.so { disable } }
CONF
    vpp -c "$home/startup.conf" >"$home/out" 2>&1 &
    pid=$!
    for _ in $(seq 300); do
        [ -S "$home/cli.sock" ] && vpp_says show version >/dev/null 2>&1 && break
        kill -0 "$pid" 2>/dev/null || return 1
        sleep 0.1
    done
    favour "$pid" "vpp_wk_*" || return 1
    local command
    while read -r command; do
        # shellcheck disable=SC2086 # words
        vpp_do $command || return 1
    done <<'COMMANDS'
create packet-generator interface pg0
create packet-generator interface pg1
set interface mac address pg0 02:00:00:00:00:01
set interface state pg0 up
set interface state pg1 up
set interface ip address pg0 10.0.0.1/24
set interface ip address pg1 198.51.100.1/24
set ip neighbor pg1 198.51.100.2 02:00:00:00:01:02
ip route add 198.18.0.0/15 via 198.51.100.2 pg1
ip route add 10.1.0.0/16 via 10.0.0.2 pg0
nat44 plugin enable sessions 1300000
nat44 add address 198.51.100.1
set interface nat44 in pg0 out pg1
COMMANDS
}
# The generator plays the flows: that many packets, or until it is stopped.
play() { # stream, flows, packets
    vpp_do packet-generator new "{ name $1 limit $3 worker 0 interface pg0 node ethernet-input pcap $PEERS_SCRATCH/$2.pcap }" \
        && vpp_do packet-generator enable-stream "$1"
}
stop() {
    vpp_do packet-generator disable-stream "$1" && vpp_do packet-generator delete "$1"
}

# From `show runtime`: packets generated, packets sent, cycles per packet sent of all nodes but the generator's.
# A node's line: name, state (one word or two), calls, vectors, suspends, clocks per vector, vectors per call.
runtime() {
    vpp_says show runtime | tr -d '\r' | awk '
        $1 == "Thread" { worker = $3 ~ /^vpp_wk/ }
        worker && NF >= 7 && $(NF - 3) ~ /^[0-9]+$/ && $(NF - 3) > 0 {
            if ($1 == "pg-input") given = $(NF - 3)
            else if ($1 == "pg1-tx") sent = $(NF - 3)
            else cycles += $(NF - 3) * $(NF - 1)
        }
        END { printf "%d %d %.1f\n", given, sent, sent ? cycles / sent : 0 }'
}

# Notes the cycles since the counters were cleared.
result() { # packets or sessions, flows
    local given sent cycles
    read -r given sent cycles <<<"$(runtime)"
    if [ "$sent" -eq 0 ] || [ "$sent" -lt $((given * 99 / 100)) ]; then
        say "vpp nat44-ed, $2 flows: left out: only $sent of $given packets came out"
        return 0
    fi
    note "vpp nat44-ed, its nodes alone" "$1" "$2" "$(awk -v c="$cycles" -v hz="$PEERS_HZ" 'BEGIN { printf "%.4f", hz / 1e6 / c }')" 0
}

# What leaves is captured and looked at.
right() { # flows
    local file=$PEERS_SCRATCH/vpp-$1.pcap
    rm -f "$file"
    vpp_do packet-generator capture pg1 pcap "$file" count 200 || return 1
    play look "$1" 2000 || return 1
    sleep 1
    stop look || return 1
    vpp_do packet-generator capture pg1 disable || return 1
    "$PEERS_TRAFFIC" check "$file" >/dev/null 2>"$PEERS_SCRATCH/fault" && return 0
    say "vpp nat44-ed, $1 flows: left out: $(tail -n 1 "$PEERS_SCRATCH/fault")"
    return 1
}

# Each flow once: new sessions. Waits until the generator has no more.
new() { # flows
    local before=-1 given=0
    vpp_do clear runtime
    play new "$1" "$1" || return 1
    while [ "$given" -ne "$before" ]; do
        before=$given
        sleep 1
        read -r given _ <<<"$(runtime)"
    done
    stop new || return 1
    if [ "$1" -ge "$PEERS_NEW" ]; then result sessions "$1"; fi
}

: "${PEERS_HZ:?}"
for flows in "$@"; do
    # A table of its own for each number of flows.
    start || { tail -n 5 "$home/out" "$home/vpp.log" >&2 2>/dev/null || true; say "vpp does not start as it should; left out"; exit 0; }
    if right "$flows" && new "$flows" && play on "$flows" 1000000000000; then
        sleep 0.5
        vpp_do clear runtime
        sleep "$PEERS_SECONDS"
        result packets "$flows"
    fi
    end
done
