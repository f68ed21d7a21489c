#!/usr/bin/env bash
# Brings what `make test-guest` needs: QEMU 8 or newer, tools for the guest's first files, and Debian's stock kernel.
# The kernel is unpacked below target/guest and not installed. Changes nothing when nothing is missing.
set -euo pipefail
cd "$(dirname "$0")/.."
cache="${CARGO_TARGET_DIR:-$PWD/target}/guest"

# hugepage-setup loads modules with kmod's modprobe; the clients and servers are those of the namespace tests.
packages=(busybox-static cpio kmod xz-utils iproute2 ethtool iperf3 vsftpd curl)
# The first with an igb.
qemu_wanted=8

say() { printf 'deps-guest: %s\n' "$*"; }
fail() { printf 'deps-guest: %s\n' "$*" >&2; exit 1; }

run=()
if [ "$(id -u)" -ne 0 ]; then
    run=(sudo)
fi

installed() {
    [ "$(dpkg-query -W -f='${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
}

# QEMU's major version, whatever stands before it; 0 if there is none.
qemu_major() {
    local version
    version=$(qemu-system-x86_64 --version 2>/dev/null | sed -n 's/^QEMU emulator version \([0-9]*\)\..*/\1/p')
    echo "${version:-0}"
}

candidate_major() {
    local version
    version=$(apt-cache policy qemu-system-x86 | sed -n 's/^ *Candidate: \(.*\)/\1/p')
    version=${version#*:}
    version=${version%%.*}
    case "$version" in
        '' | *[!0-9]*) echo 0 ;;
        *) echo "$version" ;;
    esac
}

# Options of apt-get and packages, in one list.
install() {
    "${run[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -y -q --no-install-recommends install "$@" </dev/null
}

# The machine's own Debian sources with the backports beside them, in lists of their own: what the machine installs
# otherwise stays as it is.
backports_view() {
    local view=$1 suite=$2 file
    mkdir -p "$view/parts" "$view/lists/partial" "$view/cache/archives/partial"
    rm -f "$view"/parts/*
    for file in /etc/apt/sources.list /etc/apt/sources.list.d/*.list; do
        [ -e "$file" ] || continue
        # "deb [options] URI bookworm main": once more with the other suite.
        awk -v suite="$suite" '
            /^deb / { for (i = 2; i < NF; i++) if ($i == suite) { print; $i = suite "-backports"; print } }
        ' "$file" >"$view/parts/$(basename "$file" .list).list"
    done
    for file in /etc/apt/sources.list.d/*.sources; do
        [ -e "$file" ] || continue
        # A paragraph whose Suites name the release itself.
        awk -v suite="$suite" '
            BEGIN { RS = ""; FS = "\n"; ORS = "\n\n" }
            {
                ours = 0
                for (i = 1; i <= NF; i++) {
                    if ($i !~ /^Suites:/) continue
                    n = split($i, word, " ")
                    for (j = 2; j <= n; j++) if (word[j] == suite) ours = 1
                    if (ours) $i = $i " " suite "-backports"
                }
                if (ours) { text = $1; for (i = 2; i <= NF; i++) text = text "\n" $i; print text }
            }
        ' "$file" >"$view/parts/$(basename "$file")"
    done
    find "$view/parts" -type f -empty -delete
    [ -n "$(ls "$view/parts")" ] || return 1
}

qemu() {
    local suite view options
    [ "$(qemu_major)" -lt "$qemu_wanted" ] || return 0
    if [ "$(candidate_major)" -ge "$qemu_wanted" ]; then
        say "installing qemu-system-x86"
        install qemu-system-x86
        return
    fi
    suite=$(sed -n 's/^VERSION_CODENAME=//p' /etc/os-release)
    view="$cache/apt"
    backports_view "$view" "$suite" || fail "no source of $suite found; install QEMU $qemu_wanted or newer yourself"
    options=(
        -o Dir::Etc::sourcelist=/dev/null -o "Dir::Etc::sourceparts=$view/parts"
        -o "Dir::State::lists=$view/lists" -o "Dir::Cache=$view/cache"
    )
    say "installing qemu-system-x86 from $suite-backports"
    "${run[@]}" apt-get "${options[@]}" update -q
    install "${options[@]}" -t "$suite-backports" qemu-system-x86
    "${run[@]}" rm -rf "$view"
    [ "$(qemu_major)" -ge "$qemu_wanted" ] || fail "QEMU is older than $qemu_wanted still; igb came with $qemu_wanted"
}

tools() {
    local missing=() p
    for p in "${packages[@]}"; do
        installed "$p" || missing+=("$p")
    done
    [ "${#missing[@]}" -gt 0 ] || return 0
    say "installing ${missing[*]}"
    install "${missing[@]}"
}

# The stock kernel: the one for clouds lacks igb and e1000e. Leaves the version's name in $cache/kernel/release.
kernel() {
    local package place="$cache/kernel"
    [ ! -s "$place/release" ] || return 0
    apt-cache show linux-image-amd64 >/dev/null 2>&1 || "${run[@]}" apt-get update -q
    package=$(apt-cache depends linux-image-amd64 | sed -n 's/^ *Depends: \(linux-image-[^ ]*\)$/\1/p' | head -n 1)
    [ -n "$package" ] || fail "the package lists know no linux-image-amd64"
    say "unpacking $package below $place"
    rm -rf "$place"
    mkdir -p "$place"
    # As root apt would have another user download, who may not write here.
    (cd "$place" && apt-get -o APT::Sandbox::User=root -q download "$package" && dpkg-deb -x ./*.deb . && rm -- *.deb)
    printf '%s\n' "${package#linux-image-}" >"$place/release.new"
    mv "$place/release.new" "$place/release"
}

if ! command -v apt-get >/dev/null || ! command -v dpkg-deb >/dev/null; then
    fail "this is not a Debian-like system: bring QEMU $qemu_wanted or newer, ${packages[*]}, and unpack Debian's linux-image-amd64 below $cache/kernel"
fi
mkdir -p "$cache"
tools
qemu
kernel
