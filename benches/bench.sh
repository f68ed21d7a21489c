#!/usr/bin/env bash
# All benchmarks of this tree, then the table of goals: what was to be reached, what this run measured, met or not.
#
#   bench.sh [--quick]          parts, table, workers, goals; under 15 minutes (under 5 with --quick) once it is built
#   bench.sh --parts [--quick]  parts and table only
#
# Results stay in target/bench/: race.json (the table beside others), worker.json, latency.svg.
set -euo pipefail
cd "$(dirname "$0")/.."

parts_only=0 quick=()
for arg in "$@"; do
    case "$arg" in
        --parts) parts_only=1 ;;
        --quick) quick=(--quick) ;;
        *) printf 'bench: unknown argument %s; there are --parts and --quick\n' "$arg" >&2; exit 2 ;;
    esac
done

results=${CARGO_TARGET_DIR:-target}/bench
mkdir -p "$results"
cargo=${CARGO:-cargo}
run=()
if chrt -f 50 true 2>/dev/null; then
    run=(chrt -f 50)
fi
# On the last core, as the worker's benchmark: the first one has the system's own work.
command -v taskset >/dev/null && run+=(taskset -c "$(($(nproc) - 1))")

"$cargo" bench --quiet --locked -p benches --no-run
[ ${#quick[@]} -eq 0 ] || export BENCH_QUICK=1
"${run[@]}" "$cargo" bench --quiet --locked -p benches --bench parts -- --warm-up-time 0.2 --measurement-time 0.6 --sample-size 20
RACE_JSON=$(realpath "$results")/race.json "${run[@]}" "$cargo" bench --quiet --locked -p benches --bench table
[ "$parts_only" -eq 0 ] || exit 0

benches/throughput.sh "${quick[@]}" --json-to "$results/worker.json" --plot "$results/latency.svg" --goals "$results/race.json"
printf 'bench: results are in %s\n' "$results"
