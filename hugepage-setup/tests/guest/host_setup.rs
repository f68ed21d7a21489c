//! `hugepage-setup` on NICs that are there: what it says of them, what it makes of the host, and how that is taken back.

use crate::machine::{Machine, Place, SHARE};
use crate::nics::{self, Pair};
use crate::world::{self, INSIDE, OUTSIDE, SERVER};
use serde_json::Value;
use std::fs;

/// The isolated cores, which the workers have. They are on the NICs' node.
const CORES: [u64; 4] = [2, 3, 4, 5];
/// Where the daemon of the guest keeps what it writes.
pub const STATE: &str = "/run/postern";

/// A pair as the kernel has it.
pub struct Before {
    /// PCI addresses.
    pub addresses: [String; 2],
    /// The interfaces' names.
    pub names: [String; 2],
}

fn both(pair: &Pair) -> [String; 2] {
    [pair.mac(world::Place::Client), pair.mac(world::Place::Server)]
}

/// Loads the kernel's driver, gives the interfaces names that no kernel would, and reads what `status` says of them.
#[track_caller]
pub fn kernel_has_it(machine: &mut Machine, pair: &Pair) -> Before {
    let [inside, outside] = both(pair);
    let names = ["lan", "wan"].map(|name| format!("{name}-{}", pair.family.module.replace('_', "")));
    let mut script = format!("modprobe {}\nset -e\n", pair.family.module);
    for (mac, name) in [(inside, &names[0]), (outside, &names[1])] {
        script.push_str(&format!(
            "old=$(basename $(dirname $(grep -l {mac} /sys/class/net/*/address)))\n\
             ip link set $old name {name}\nip link set {name} up\n"
        ));
    }
    machine.ok(30, &script);
    let addresses = names.clone().map(|name| {
        // A virtio device is a child of its PCI device.
        let find =
            format!("readlink -f /sys/class/net/{name}/device | grep -o '[0-9a-f:]*\\.[0-9]' | tail -n 1");
        machine.ok(10, &find).trim().to_owned()
    });
    Before { addresses, names }
}

/// `status --json`'s account of the pair.
#[track_caller]
fn status(machine: &mut Machine, place: &Place, before: &Before) -> [Value; 2] {
    let said = machine.ok(60, &format!("{} status --json 2>/dev/null", place.program("hugepage-setup")));
    let status: Value = serde_json::from_str(&said).unwrap_or_else(|e| panic!("{e}: {said}"));
    let nics = status["nics"].as_array().unwrap_or_else(|| panic!("no NICs in {said}"));
    before.addresses.each_ref().map(|address| {
        let own = nics.iter().find(|nic| nic["address"] == *address);
        own.unwrap_or_else(|| panic!("no {address} in {said}")).clone()
    })
}

/// Both NICs are with the kernel: driver, DPDK driver, node, group and interface are told.
#[track_caller]
fn is_with_the_kernel(machine: &mut Machine, place: &Place, pair: &Pair, before: &Before) {
    for ((nic, name), mac) in status(machine, place, before).iter().zip(&before.names).zip(both(pair)) {
        assert_eq!(nic["driver"], pair.family.driver, "{nic:#}");
        assert_eq!(nic["driver_override"], "", "{nic:#}");
        assert_eq!(nic["node"], 1, "{nic:#}");
        assert_eq!(nic["pmd"]["name"], pair.family.pmd, "{nic:#}");
        assert!(nic["group"].is_string(), "{nic:#}");
        let interfaces = nic["interfaces"].as_array().unwrap();
        assert_eq!(interfaces.len(), 1, "{nic:#}");
        assert_eq!(
            (&interfaces[0]["name"], &interfaces[0]["mac"]),
            (&name.as_str().into(), &mac.into()),
            "{nic:#}"
        );
    }
}

/// The gateway's configuration on a pair, where the guest reads it.
fn configuration(machine: &Machine, pair: &Pair, before: &Before) -> String {
    let cores = &CORES[..pair.family.workers];
    let nics::Family { eal_args, mapping, offloads, keys, .. } = pair.family;
    let [inside, outside] = &before.addresses;
    let text = format!(
        "[dataplane]\nworkers = {cores:?}\nsessions = 16384\nidle = \"sleep\"\neal_args = {eal_args:?}\n\n\
         [log]\naudit = \"{STATE}/audit.jsonl\"\n\n\
         [control]\nsocket = \"{STATE}/control.sock\"\n\n\
         [[interface]]\nname = \"inside\"\ndevice = \"{inside}\"\noffloads = {offloads:?}\n{keys}zone = \"trust\"\naddresses = [\"{INSIDE}/24\"]\n\n\
         [[interface]]\nname = \"outside\"\ndevice = \"{outside}\"\noffloads = {offloads:?}\n{keys}zone = \"untrust\"\n\
         addresses = [\"{OUTSIDE}/24\"]\n\n\
         [[route]]\nto = \"0.0.0.0/0\"\nvia = \"{SERVER}\"\n\n\
         [[nat]]\ntype = \"source\"\nfrom = \"trust\"\nto = \"untrust\"\ntranslate = \"interface\"\n\
         mapping = {mapping:?}\n\n\
         [[rule]]\nname = \"under test\"\nfrom = \"trust\"\nto = \"untrust\"\n\
         service = [\"icmp\", \"ftp\", \"tcp/5000-5999\", \"udp/5000-5999\"]\naction = \"allow\"\nlog = true\n"
    );
    fs::write(machine.share.join("postern.toml"), text).unwrap();
    format!("{SHARE}/postern.toml")
}

/// Runs `plan`, `apply` and `verify` for a gateway on the pair, and gives its configuration's place in the guest.
#[track_caller]
pub fn prepare(machine: &mut Machine, place: &Place, pair: &Pair, before: &Before) -> String {
    is_with_the_kernel(machine, place, pair, before);
    let config = configuration(machine, pair, before);
    let tool = place.program("hugepage-setup");
    let json = |said: &str| -> Value { serde_json::from_str(said).unwrap_or_else(|e| panic!("{e}: {said}")) };

    let plan = json(&machine.ok(60, &format!("{tool} plan --config {config} --json 2>/dev/null")));
    assert_eq!((&plan["refused"], &plan["ready"]), (&Value::from(false), &Value::from(false)), "{plan:#}");
    let verified = machine.run(60, &format!("{tool} verify --config {config}"));
    assert_eq!(verified.code, 1, "nothing is prepared yet: {}", verified.text);

    let applied = json(&machine.ok(90, &format!("{tool} apply --config {config} --json 2>/dev/null")));
    assert_eq!(applied["ready"], true, "{applied:#}");
    // What was planned is what was made.
    let paths = |list: &Value| -> Vec<Value> {
        list.as_array().unwrap().iter().map(|step| step["path"].clone()).collect()
    };
    assert_eq!(paths(&applied["made"]), paths(&plan["steps"]), "{applied:#}");

    machine.ok(60, &format!("{tool} verify"));
    let again = json(&machine.ok(60, &format!("{tool} apply --config {config} --json 2>/dev/null")));
    assert_eq!(again["made"], Value::Array(Vec::new()), "a second apply has nothing to do: {again:#}");
    for nic in status(machine, place, before) {
        assert_eq!(
            (&nic["driver"], &nic["interfaces"]),
            (&"vfio-pci".into(), &Value::Array(Vec::new())),
            "{nic:#}"
        );
    }
    // The pages are on the NICs' node, and the kernel keeps no interface.
    machine.ok(
        10,
        &format!(
            "set -e\ntest $(cat /sys/devices/system/node/node1/hugepages/hugepages-2048kB/nr_hugepages) -gt 0\n\
             test $(cat /sys/devices/system/node/node0/hugepages/hugepages-2048kB/nr_hugepages) -eq 0\n\
             test ! -e /sys/class/net/{}\ntest ! -e /sys/class/net/{}",
            before.names[0], before.names[1]
        ),
    );
    config
}

/// Runs `undo`: the kernel has the NICs, the interfaces their names, and the memory its pages.
#[track_caller]
pub fn take_back(machine: &mut Machine, place: &Place, pair: &Pair, before: &Before) {
    let tool = place.program("hugepage-setup");
    machine.ok(90, &format!("{tool} undo"));
    is_with_the_kernel(machine, place, pair, before);
    machine.ok(
        10,
        "set -e\ntest $(cat /sys/devices/system/node/node1/hugepages/hugepages-2048kB/nr_hugepages) -eq 0\n\
         test ! -e /var/lib/postern-host\ntest ! -e /sys/module/vfio_pci",
    );
    let verified = machine.run(60, &format!("{tool} verify --config {SHARE}/postern.toml"));
    assert_eq!(verified.code, 1, "nothing is prepared any more: {}", verified.text);
}
