#!/usr/bin/env bash
# dpdk-testpmd, which has no state, as the limit. Prints figures; benches/peers.sh sets the variables (common.sh).
#
#   testpmd.sh FLOWS...
set -euo pipefail
# shellcheck source=benches/peers/common.sh
. "$(dirname "$0")/common.sh"

pid=
end() {
    end_process "$pid" INT
    pid=
}
trap end EXIT

start() { # mode, EAL arguments; it ends if its input does
    local mode=$1 memory
    shift
    read -ra memory <<<"$(eal_memory 512)"
    POSTERN_CONTROL=$PEERS_SCRATCH/control POSTERN_FRAMES=$PEERS_FRAMES LD_LIBRARY_PATH=$PEERS_PLUGIN \
        dpdk-testpmd "${memory[@]}" --no-pci --file-prefix "postern-testpmd-$$" -l "0,$PEERS_CPU" "$@" -- \
        --forward-mode="$mode" --nb-cores=1 --burst=64 --stats-period 1 --total-num-mbufs=16384 \
        < <(exec sleep 600) >"$PEERS_SCRATCH/testpmd" 2>&1 &
    pid=$!
    favour "$pid" "*-worker-$PEERS_CPU"
}

# Both ports' receive rates together, the mean of the seconds after the first two.
bare() { # mode
    start "$1" --vdev net_null0,size=60 --vdev net_null1,size=60
    # It takes its time to start, and then tells both ports once a second.
    for _ in $(seq 300); do
        [ "$(grep -c Rx-pps: "$PEERS_SCRATCH/testpmd" || true)" -lt $((2 * (PEERS_SECONDS + 2))) ] || break
        sleep 0.1
    done
    end
    local rate
    if rate=$(awk '$1 == "Rx-pps:" { v[++k] = $2 }
        END { for (i = 5; i + 1 <= k; i += 2) { sum += v[i] + v[i + 1]; rows++ }
              if (!rows || !sum) exit 1; printf "%.4f\n", sum / rows / 1e6 }' "$PEERS_SCRATCH/testpmd"); then
        note "testpmd $1, bare null ports" packets 1 "$rate" 0
    else
        tail -n 5 "$PEERS_SCRATCH/testpmd" >&2
        say "testpmd $1 gave no rates"
    fi
}

for mode in io macswap; do bare "$mode"; done
rm -f "$PEERS_SCRATCH/control"
truncate -s 20480 "$PEERS_SCRATCH/control"
start io -d postern-frames.so --vdev net_null0,size=60 --vdev net_null1,size=60,no-rx=1
for flows in "$@"; do turn "testpmd io, the plug-in's frames" packets "$flows" --untranslated; done
end
