#!/usr/bin/env bash
# Builds and runs postern-ndr, its arguments being ours. With --dry-run it runs against a posternd of its own on the same machine, joined by two
# memif cables: what it finds then is what two cores and shared memory carry, and no figure of a NIC. It shows that the procedures work.
set -euo pipefail
cd "$(dirname "$0")/.."
target=${CARGO_TARGET_DIR:-target}

dry=0
if [ "${1:-}" = --dry-run ]; then
    dry=1
    shift
fi
if [ "${POSTERN_BIN_DIR:-}" = "" ]; then
    packages=(-p ndr)
    [ "$dry" = 0 ] || packages+=(-p control -p posternctl)
    "${CARGO:-cargo}" build --quiet --release --locked "${packages[@]}" --bins
fi
bin=${POSTERN_BIN_DIR:-$target/release}
[ "$dry" = 1 ] || exec "$bin/postern-ndr" "$@"

folder=$(mktemp -d "${TMPDIR:-/tmp}/postern-ndr.XXXXXX")
daemon=
# shellcheck disable=SC2317 # a trap calls it
finish() {
    [ -z "$daemon" ] || kill "$daemon" 2>/dev/null || true
    [ -z "$daemon" ] || wait "$daemon" 2>/dev/null || true
    rm -rf "$folder"
}
trap finish EXIT
trap 'exit 130' INT TERM

# The gateway on the last core that we may use, the generator on the first.
mapfile -t cores < <(taskset -cp $$ | sed 's/.*: //' | tr , '\n' | while IFS=- read -r a b; do seq "$a" "${b:-$a}"; done)
first=${cores[0]} last=${cores[${#cores[@]} - 1]}
[ "$first" != "$last" ] || echo "ndr: one core for gateway and generator; they take turns, and the figures show it" >&2

cat > "$folder/postern.toml" <<END
[gateway]
name = "dut"
[dataplane]
workers = [$last]
sessions = 262144
idle = "busy"
[[interface]]
name = "inside"
device = "memif:role=server,id=0,socket=$folder/inside.sock"
zone = "trust"
addresses = ["10.1.0.1/16"]
[[interface]]
name = "outside"
device = "memif:role=server,id=1,socket=$folder/outside.sock"
zone = "untrust"
addresses = ["203.0.113.1/24"]
[[route]]
to = "198.51.100.0/24"
via = "203.0.113.2"
[[nat]]
type = "source"
from = "trust"
to = "untrust"
translate = ["203.0.113.16/28"]
[[rule]]
name = "the generator's"
from = "trust"
to = "untrust"
action = "allow"
[timeouts]
udp_new = 8
tcp_time_wait = 0.5
port_hold_down = 0
[log]
audit = "off"
[control]
socket = "$folder/control.sock"
END

"$bin/posternd" --config "$folder/postern.toml" 2> "$folder/posternd.log" &
daemon=$!
for _ in $(seq 300); do
    [ ! -S "$folder/control.sock" ] || break
    kill -0 "$daemon" 2>/dev/null || { cat "$folder/posternd.log" >&2; exit 1; }
    sleep 0.1
done
status=0
"$bin/postern-ndr" own \
    --client "memif:role=client,id=0,socket=$folder/inside.sock" --client-link 10.1.0.2,10.1.0.1 \
    --server "memif:role=client,id=1,socket=$folder/outside.sock" --server-link 203.0.113.2,203.0.113.1 \
    --clients 10.1.1.1-10.1.1.200 --servers 198.51.100.2-198.51.100.9 --core "$first" "$@" || status=$?
"$bin/posternctl" --socket "$folder/control.sock" counter show 2>/dev/null | awk '$2 > 0' | sed 's/^/gateway: /' >&2 || true
[ "$status" = 0 ] || tail -n 5 "$folder/posternd.log" >&2
exit "$status"
