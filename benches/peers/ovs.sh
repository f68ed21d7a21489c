#!/usr/bin/env bash
# Open vSwitch with DPDK, user-space datapath: forwarding, source NAT in one pass and as its manual has it, new sessions.
# It has a database, sockets and logs of its own. Prints figures; benches/peers.sh sets the variables (common.sh).
#
#   ovs.sh FLOWS...
set -euo pipefail
# shellcheck source=benches/peers/common.sh
. "$(dirname "$0")/common.sh"
daemon=${PEERS_OVS:-/usr/lib/openvswitch-switch-dpdk/ovs-vswitchd-dpdk}
home=$PEERS_SCRATCH/ovs

pids=()
end() {
    local pid
    for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
    for pid in "${pids[@]}"; do wait "$pid" 2>/dev/null || true; done
    rm -rf "$home"
}
trap end EXIT
vsctl() { ovs-vsctl --db="unix:$home/db.sock" --timeout=30 "$@"; }

start() {
    mkdir -p "$home"
    export OVS_RUNDIR=$home OVS_LOGDIR=$home OVS_DBDIR=$home
    rm -f "$PEERS_SCRATCH/control"
    truncate -s 20480 "$PEERS_SCRATCH/control"
    ovsdb-tool create "$home/conf.db" /usr/share/openvswitch/vswitch.ovsschema
    ovsdb-server "$home/conf.db" --remote="punix:$home/db.sock" --unixctl="$home/db.ctl" --no-chdir >"$home/db.log" 2>&1 &
    pids=($!)
    for _ in $(seq 50); do [ -S "$home/db.sock" ] && break; sleep 0.1; done
    vsctl --no-wait init
    vsctl --no-wait set Open_vSwitch . other_config:dpdk-init=true other_config:dpdk-lcore-mask=0x1 \
        other_config:pmd-cpu-mask="$(printf '0x%x' $((1 << PEERS_CPU)))" \
        other_config:dpdk-extra="$(eal_memory 1536) --no-pci --file-prefix=postern-ovs-$$ -d postern-frames.so"
    POSTERN_CONTROL=$PEERS_SCRATCH/control POSTERN_FRAMES=$PEERS_FRAMES LD_LIBRARY_PATH=$PEERS_PLUGIN \
        "$daemon" "unix:$home/db.sock" --unixctl="$home/sw.ctl" --no-chdir >"$home/sw.log" 2>&1 &
    pids+=($!)
    vsctl add-br br0 -- set bridge br0 datapath_type=netdev fail-mode=secure \
        -- add-port br0 in -- set interface in type=dpdk ofport_request=1 options:dpdk-devargs=net_null0,size=60 \
        -- add-port br0 out -- set interface out type=dpdk ofport_request=2 options:dpdk-devargs=net_null1,size=60,no-rx=1
    favour "${pids[1]}" "pmd-c*"
}
rules() {
    ovs-ofctl del-flows "unix:$home/br0.mgmt"
    ovs-ofctl add-flows "unix:$home/br0.mgmt" -
}
forget() { ovs-appctl -t "$home/sw.ctl" dpctl/flush-conntrack; }

one_pass() { rules <<<'in_port=1,udp,actions=ct(commit,zone=1,nat(src=198.51.100.1)),output:2'; }
canonical() {
    rules <<'RULES'
table=0,in_port=1,ip,actions=ct(table=1,zone=1,nat)
table=1,in_port=1,ip,ct_state=+trk+new,actions=ct(commit,zone=1,nat(src=198.51.100.1)),output:2
table=1,in_port=1,ip,ct_state=+trk+est,actions=output:2
RULES
}

start || { tail -n 5 "$home/sw.log" >&2; say "Open vSwitch does not start; left out"; exit 0; }
for flows in "$@"; do
    forget
    rules <<<'in_port=1,actions=output:2'
    turn "ovs-dpdk, no tracking" packets "$flows" --untranslated
    one_pass
    if [ "$flows" -ge "$PEERS_NEW" ]; then turn "ovs-dpdk ct+nat, one pass" sessions "$flows" --once; fi
    turn "ovs-dpdk ct+nat, one pass" packets "$flows"
    canonical
    turn "ovs-dpdk ct+nat, canonical" packets "$flows"
    if [ "$flows" -ge "$PEERS_NEW" ]; then
        forget
        turn "ovs-dpdk ct+nat, canonical" sessions "$flows" --once
    fi
done
