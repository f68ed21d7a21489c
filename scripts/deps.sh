#!/usr/bin/env bash
# Installs the Debian packages that building and testing need and that are missing, and checks the Rust toolchain.
# Changes nothing when nothing is missing.
set -euo pipefail
cd "$(dirname "$0")/.."

# Building, then what the tests and the demo drive the gateway with.
packages=(
    build-essential pkg-config libdpdk-dev clang libclang-dev
    iproute2 iputils-ping traceroute ethtool procps util-linux valgrind
    vsftpd tftpd-hpa tftp-hpa curl lftp openssl netcat-openbsd socat sip-tester baresip-core tcpdump iperf3
    python3-gi gir1.2-gst-rtsp-server-1.0 gstreamer1.0-tools gstreamer1.0-plugins-base gstreamer1.0-plugins-good
)

say() { printf 'deps: %s\n' "$*"; }
fail() { printf 'deps: %s\n' "$*" >&2; exit 1; }

installed() {
    [ "$(dpkg-query -W -f='${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
}

# A service that a package has enabled, and whatever it takes to be root.
switch_off() {
    local service=$1
    shift
    say "switching off the $service service that the package enabled"
    "$@" systemctl disable --now "$service" >/dev/null 2>&1 || say "could not switch off $service; check it yourself"
}

debian_packages() {
    local missing=() unknown=() p run=()
    for p in "${packages[@]}"; do
        installed "$p" || missing+=("$p")
    done
    [ "${#missing[@]}" -gt 0 ] || return 0

    if [ "$(id -u)" -ne 0 ]; then
        command -v sudo >/dev/null || fail "missing packages, and neither root nor sudo to install them: ${missing[*]}"
        run=(sudo)
    fi
    for p in "${missing[@]}"; do
        apt-cache show "$p" >/dev/null 2>&1 || unknown+=("$p")
    done
    if [ "${#unknown[@]}" -gt 0 ]; then
        say "the package lists do not know ${unknown[*]}; updating them"
        "${run[@]}" apt-get update -q
    fi
    say "installing ${missing[*]}"
    "${run[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "${missing[@]}" </dev/null

    # Debian starts a server that it installs. Nobody asked for a public one: only the tests run them.
    for p in vsftpd tftpd-hpa; do
        case " ${missing[*]} " in
            *" $p "*) [ ! -d /run/systemd/system ] || switch_off "$p" "${run[@]}" ;;
        esac
    done
}

gst_rtsp_server() {
    /usr/bin/python3 -c 'import gi; gi.require_version("GstRtspServer", "1.0")' 2>/dev/null
}

# On other distributions: name what is missing, by what it is for.
other_distribution() {
    local missing=() c
    for c in cc clang pkg-config ip ping traceroute ethtool vsftpd in.tftpd tftp curl lftp openssl nc socat sipp baresip tcpdump iperf3 \
        gst-launch-1.0 setpriv sysctl; do
        command -v "$c" >/dev/null || [ -x "/usr/sbin/$c" ] || missing+=("$c")
    done
    if command -v pkg-config >/dev/null && ! pkg-config --exists libdpdk; then
        missing+=("libdpdk (headers, libraries and its pkg-config file; 22.11 or newer)")
    fi
    gst_rtsp_server || missing+=("gst-rtsp-server and PyGObject, for /usr/bin/python3")
    [ "${#missing[@]}" -eq 0 ] && return 0
    say "this is not a Debian-like system, so nothing is installed for you. Missing:" >&2
    printf '  %s\n' "${missing[@]}" >&2
    fail "install these (and libclang for bindgen), then run this again"
}

rust_toolchain() {
    local want have how
    want=$(sed -n 's/^rust-version *= *"\(.*\)"/\1/p' Cargo.toml)
    how="install it with rustup (https://rustup.rs): rustup toolchain install stable"
    command -v cargo >/dev/null || fail "no cargo on the PATH; Postern needs Rust $want or newer. $how"
    command -v rustc >/dev/null || fail "no rustc on the PATH; Postern needs Rust $want or newer. $how"
    have=$(rustc --version | sed 's/^rustc \([0-9.]*\).*/\1/')
    if [ "$(printf '%s\n%s\n' "$want" "$have" | sort -V | head -n 1)" != "$want" ]; then
        fail "rustc $have is too old; Postern needs $want or newer. $how"
    fi
}

if command -v dpkg-query >/dev/null && command -v apt-get >/dev/null; then
    debian_packages
else
    other_distribution
fi
rust_toolchain
