#!/usr/bin/env bash
# Packs the guest's first files: busybox, and what reaches the host's root. Everything else comes from there.
# files.sh CACHE OUT: CACHE is where deps-guest.sh has left the kernel.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
cache=$1
out=$2
kernel="$cache/kernel"
release=$(cat "$kernel/release")

# As in a package that is installed.
[ -e "$kernel/lib/modules/$release/modules.dep" ] || depmod -b "$kernel" "$release"

tree=$(mktemp -d)
trap 'rm -rf "$tree"' EXIT
mkdir -p "$tree"/{bin,dev,proc,sys,modules,host,share,over,new}
cp /bin/busybox "$tree/bin/busybox"
install -m 0755 "$here/init.sh" "$tree/init"

# In the order in which they are loaded, what one needs first.
for module in virtio_pci 9pnet_virtio 9p overlay; do
    modprobe -d "$kernel" -S "$release" --show-depends "$module"
done | sed -n 's/^insmod \([^ ]*\).*/\1/p' | awk '!seen[$0]++' | while read -r path; do
    case "$path" in
        *.xz) xz -dc "$path" >"$tree/modules/$(basename "$path" .xz)" ;;
        *) cp "$path" "$tree/modules/" ;;
    esac
    basename "$path" .xz >>"$tree/modules/order"
done

(cd "$tree" && find . | cpio -o -H newc --quiet | gzip -1) >"$out.new"
mv "$out.new" "$out"
