#!/bin/busybox sh
# shellcheck shell=dash
# The guest's first process: the host's root, read-only over 9p, below a layer of memory; then the agent in it.
# Ends with the machine switched off, whatever happens.
b=/bin/busybox
$b mount -t proc proc /proc
$b mount -t sysfs sys /sys
$b mount -t devtmpfs dev /dev
off() {
    echo "guest: $*"
    $b poweroff -f
}
while read -r module; do
    $b insmod "/modules/$module" || off "cannot load $module"
done </modules/order
nine=trans=virtio,version=9p2000.L,msize=524288
$b mount -t 9p -o "ro,cache=loose,$nine" root /host || off "cannot reach the host's root"
$b mount -t 9p -o "rw,cache=none,$nine" share /share || off "cannot reach the shared folder"
$b mount -t tmpfs -o size=256m over /over
$b mkdir /over/upper /over/work
$b mount -t overlay -o lowerdir=/host,upperdir=/over/upper,workdir=/over/work root /new ||
    off "cannot lay memory over the host's root"
for at in proc sys dev; do $b mount --move "/$at" "/new/$at"; done
$b mount -t tmpfs run /new/run
$b mkdir -p /new/run/share
$b mount --move /share /new/run/share
release=$($b uname -r)
$b mkdir -p "/new/lib/modules/$release"
modules=$($b sed -n 's/^modules //p' /new/run/share/guest)
agent=$($b sed -n 's/^agent //p' /new/run/share/guest)
$b mount --bind "/new$modules/$release" "/new/lib/modules/$release" || off "cannot reach the kernel's modules"
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root
$b chroot /new /bin/sh "$agent" /run/share || off "the agent has ended with an error"
off "the agent has ended"
