#!/usr/bin/env bash
# The daemon itself on DPDK's null ports, with the plug-in that the other DPDK programs have: what the ports of DPDK cost is in
# its figures, as in theirs. Prints figures; benches/peers.sh sets the variables (common.sh). PEERS_POSTERND: the program.
#
#   posternd.sh FLOWS...
set -euo pipefail
# shellcheck source=benches/peers/common.sh
. "$(dirname "$0")/common.sh"
home=$PEERS_SCRATCH/posternd

pid=
end() {
    end_process "$pid" TERM
    pid=
    rm -rf "$home"
}
trap end EXIT

# Room for all that a turn with the most flows leaves behind: sessions without an answer stay half a minute.
start() {
    mkdir -p "$home"
    rm -f "$PEERS_SCRATCH/control"
    truncate -s 20480 "$PEERS_SCRATCH/control"
    "$PEERS_TRAFFIC" config --sessions 1500000 --cpu "$PEERS_CPU" --socket "$home/control.sock" -- -d postern-frames.so \
        >"$home/postern.toml"
    POSTERN_CONTROL=$PEERS_SCRATCH/control POSTERN_FRAMES=$PEERS_FRAMES LD_LIBRARY_PATH=$PEERS_PLUGIN \
        "$PEERS_POSTERND" --config "$home/postern.toml" >"$home/log" 2>&1 &
    pid=$!
    favour "$pid" "worker-0"
}

start || { tail -n 5 "$home/log" >&2; say "posternd does not start; left out"; exit 0; }
for flows in "$@"; do turn "posternd, DPDK's null ports" packets "$flows"; done
