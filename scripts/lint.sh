#!/usr/bin/env bash
# What CI refuses to take: unformatted code, warnings, forbidden licences, sloppy shell.
set -euo pipefail
cd "$(dirname "$0")/.."
cargo=${CARGO:-cargo}

$cargo fmt --all --check
$cargo fmt --manifest-path fuzz/Cargo.toml --check
$cargo clippy --locked --workspace --all-targets -- -D warnings

if command -v cargo-deny >/dev/null; then
    $cargo deny --all-features check
else
    echo "lint: SKIPPED licences and advisories: cargo-deny is not installed (cargo install --locked cargo-deny)"
fi

mapfile -t shell < <(git ls-files '*.sh' .ci/run)
for f in "${shell[@]}"; do bash -n "$f"; done
if command -v shellcheck >/dev/null; then
    shellcheck "${shell[@]}"
else
    echo "lint: SKIPPED shell scripts: shellcheck is not installed (apt-get install shellcheck)"
fi
echo "lint: clean"
