#!/usr/bin/env bash
# Builds the fuzz targets and runs them one after the other. Works with the stable toolchain: the coverage counters are a pass
# of LLVM, and libFuzzer comes with its crate. What is found is written to fuzz/artifacts/TARGET and printed; put it into
# fuzz/regressions/TARGET, and every later run begins with it.
#
#   fuzz.sh --seconds N [TARGET...]   each target for N seconds, other inputs every time; the corpus is kept
#   fuzz.sh --runs N [TARGET...]      each target N times, the same inputs every time (part of `make test`)
#
# FUZZ_SANITIZER=address also watches memory; that needs a nightly toolchain (FUZZ_TOOLCHAIN, default +nightly).
set -euo pipefail
cd "$(dirname "$0")/.."

usage() {
    sed -n '6,7s/^# *//p' "$0" >&2
    exit 2
}
[ $# -ge 2 ] || usage
case "$1" in
    --seconds) limit=(-max_total_time="$2" -seed=0) corpus=1 ;;
    --runs) limit=(-runs="$2" -seed=1) corpus=0 ;;
    *) usage ;;
esac
[[ $2 =~ ^[1-9][0-9]*$ ]] || { echo "fuzz: '$2' is no number of 1 or more" >&2; exit 2; }
shift 2

known=()
for file in fuzz/fuzz_targets/*.rs; do known+=("$(basename "$file" .rs)"); done
targets=("${@:-${known[@]}}")
for target in "${targets[@]}"; do
    [ -e "fuzz/fuzz_targets/$target.rs" ] || { echo "fuzz: no target '$target'; expected one of: ${known[*]}" >&2; exit 2; }
done

host=$(rustc -vV | sed -n 's/^host: //p')
out=${CARGO_TARGET_DIR:-$PWD/target}/fuzz
flags=(-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table
    -Cllvm-args=-sanitizer-coverage-trace-compares --cfg fuzzing)
cargo=("${CARGO:-cargo}")
if [ -n "${FUZZ_SANITIZER:-}" ]; then
    flags+=("-Zsanitizer=$FUZZ_SANITIZER")
    out+=-$FUZZ_SANITIZER
    cargo+=("${FUZZ_TOOLCHAIN:-+nightly}")
fi
bins=()
for target in "${targets[@]}"; do bins+=(--bin "$target"); done
# The host's own build scripts are not instrumented: a target is named.
RUSTFLAGS="${RUSTFLAGS:-} ${flags[*]}" "${cargo[@]}" build --locked --release --manifest-path fuzz/Cargo.toml \
    --target "$host" --target-dir "$out" "${bins[@]}"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failed=()
for target in "${targets[@]}"; do
    found=fuzz/artifacts/$target
    mkdir -p "$found" "$work/$target"
    inputs=("$work/$target")
    [ $corpus = 0 ] || { inputs=("$out/corpus/$target"); mkdir -p "${inputs[0]}"; }
    for seeds in "fuzz/seeds/$target" "fuzz/regressions/$target"; do
        [ ! -d "$seeds" ] || inputs+=("$seeds")
    done
    [ "$target" != config ] || inputs+=(docs/examples)
    words=fuzz/dictionaries/${target%_stream}.dict
    [ ! -e "$words" ] || inputs+=("-dict=$words")
    echo "fuzz: $target"
    if TMPDIR=$work "$out/$host/release/$target" "${limit[@]}" -max_len=8192 -timeout=25 -rss_limit_mb=3000 \
        -artifact_prefix="$found/" -print_final_stats=1 "${inputs[@]}" >"$work/log" 2>&1; then
        sed -n 's/^stat::number_of_executed_units: */fuzz:   inputs run: /p' "$work/log"
        grep -aoE 'cov: [0-9]+ ft: [0-9]+' "$work/log" | tail -1 | sed 's/^/fuzz:   /'
    else
        tail -60 "$work/log" >&2
        failed+=("$target")
    fi
done
[ ${#failed[@]} -eq 0 ] || { echo "fuzz: FOUND something in: ${failed[*]} (the input is in fuzz/artifacts)" >&2; exit 1; }
