#!/usr/bin/env bash
# Builds and runs the throughput harness, its arguments being ours. Where that is allowed it runs at real-time priority, so that nothing
# else on the core is measured; where hugepages are reserved (vm.nr_hugepages) it uses them.
set -euo pipefail
cd "$(dirname "$0")/.."
"${CARGO:-cargo}" build --quiet --release --locked -p benches --bin throughput
run=()
if chrt -f 50 true 2>/dev/null; then
    run=(chrt -f 50)
else
    echo "throughput: no right to real-time priority; other work on the core will be in the figures" >&2
fi
if [ "$(awk '/^HugePages_Free:/ { print $2 }' /proc/meminfo)" -lt 512 ]; then
    echo "throughput: fewer than 512 free hugepages of 2 MiB; the figures of many flows will show the page tables" >&2
    echo "throughput: (sysctl vm.nr_hugepages=2600 is enough for all of the suite)" >&2
fi
exec "${run[@]}" "${CARGO_TARGET_DIR:-target}/release/throughput" "$@"
