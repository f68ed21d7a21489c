#!/usr/bin/env bash
# What the scripts of the peers share. Sourced by them; benches/peers.sh sets the variables.
#
# PEERS_TRAFFIC (peer-traffic), PEERS_SCRATCH (a folder), PEERS_CPU (the core that works), PEERS_SECONDS (of a run),
# PEERS_PAGES (huge or small), PEERS_PLUGIN (a folder with postern-frames.so), PEERS_FRAMES (what it plays).
# PEERS_NEW: with this number of flows or more, new sessions are measured (1000000). PEERS_GENTLE: no real-time priority.
set -euo pipefail
: "${PEERS_TRAFFIC:?}" "${PEERS_SCRATCH:?}" "${PEERS_CPU:?}" "${PEERS_SECONDS:?}" "${PEERS_PAGES:?}" "${PEERS_NEW:=1000000}"

say() { printf 'peers: %s\n' "$*" >&2; }

# A figure: system, packets or sessions, flows, millions a second, cycles of generator and check.
note() { printf '%s\t%s\t%s\t%s\t%s\n' "$@"; }

# Gives one thread of a process real-time priority, the one that polls. Not the whole process: its other threads have no
# core of their own then, and the first of them that waits for another by polling keeps it from running for good.
favour() { # pid, the thread's name as a pattern
    local task name
    if [ -n "${PEERS_GENTLE:-}" ] || ! chrt -f 50 true 2>/dev/null; then return 0; fi
    for _ in $(seq 100); do
        for task in "/proc/$1/task/"*; do
            read -r name 2>/dev/null <"$task/comm" || continue
            # shellcheck disable=SC2254 # a pattern
            case "$name" in $2) chrt -f -p 50 "${task##*/}"; return 0 ;; esac
        done
        sleep 0.1
    done
    say "process $1 has no thread $2"
    return 1
}

# Ends a program, by force if it does not end by itself. No process: nothing.
end_process() { # pid, signal
    [ -n "$1" ] || return 0
    kill -"$2" "$1" 2>/dev/null || true
    for _ in $(seq 50); do kill -0 "$1" 2>/dev/null || break; sleep 0.1; done
    kill -KILL "$1" 2>/dev/null || true
    wait "$1" 2>/dev/null || true
}

# Memory of a DPDK program: hugepages that nobody else can open and that are free again when it ends, or small pages.
eal_memory() { # megabytes
    if [ "$PEERS_PAGES" = huge ]; then echo "--in-memory"; else echo "--no-huge --legacy-mem --no-shconf -m $1"; fi
}

# A turn of the plug-in: the figure, if what leaves is right. Arguments of `peer-traffic watch` come last.
turn() { # system, packets or sessions, flows, more
    local system=$1 what=$2 flows=$3 answer rate own
    shift 3
    if answer=$("$PEERS_TRAFFIC" watch "$PEERS_SCRATCH/control" --flows "$flows" --seconds "$PEERS_SECONDS" "$@" 2>"$PEERS_SCRATCH/fault"); then
        read -r rate own _ <<<"$answer"
        note "$system" "$what" "$flows" "$rate" "$own"
    else
        say "$system, $flows flows: left out: $(tail -n 1 "$PEERS_SCRATCH/fault")"
    fi
}
