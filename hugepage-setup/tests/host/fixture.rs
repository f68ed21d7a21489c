//! A server with two nodes, four cores and four NICs, as files.

use clap::Parser;
use hugepage_setup::facts::Facts;
use hugepage_setup::host::Host;
use hugepage_setup::need::Need;
use hugepage_setup::plan::Plan;
use hugepage_setup::topic::{Finding, Level, Topic};
use std::collections::BTreeMap;
use std::fs;
use std::net::IpAddr;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// Two ports of a card on node 1.
pub const LEFT: &str = "0000:3b:00.0";
pub const RIGHT: &str = "0000:3b:00.1";
/// Carries the default route.
pub const UPLINK: &str = "0000:01:00.0";
/// Shares its device with the kernel.
pub const MELLANOX: &str = "0000:5e:00.0";
/// No network device.
pub const DISK: &str = "0000:02:00.0";

pub struct Fixture {
    root: TempDir,
    pub host: Host,
}

impl Fixture {
    pub fn new() -> Self {
        // In memory where there is such a place: the journal waits for the disk at every line.
        let memory = Path::new("/dev/shm");
        let root = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.unwrap();
        let at = |name: &str| root.path().join(name);
        let host = Host {
            sysfs: at("sys"),
            procfs: at("proc"),
            etc: at("etc"),
            sbin: at("sbin"),
            boot: at("boot"),
            modules: at("modules"),
            dpdk: vec![at("dpdk")],
            pci_ids: Vec::new(),
            netlink: Some(at("netlink")),
            state: at("state/postern"),
        };
        let fixture = Self { root, host };
        fixture.memory();
        fixture.processors();
        fixture.processes();
        fixture.network();
        fixture.folder("etc");
        fixture.file("sbin/update-grub", "");
        fixture
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    pub fn file(&self, name: &str, text: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    pub fn folder(&self, name: &str) {
        fs::create_dir_all(self.path(name)).unwrap();
    }

    pub fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    pub fn remove(&self, name: &str) {
        let path = self.path(name);
        if path.is_dir() && !path.is_symlink() {
            fs::remove_dir_all(path).unwrap();
        } else {
            fs::remove_file(path).unwrap();
        }
    }

    pub fn link(&self, name: &str, to: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        symlink(to, path).unwrap();
    }

    pub fn pool(node: u32) -> String {
        format!("sys/devices/system/node/node{node}/hugepages/hugepages-2048kB/nr_hugepages")
    }

    fn memory(&self) {
        for node in 0..2 {
            let folder = format!("sys/devices/system/node/node{node}");
            for size in ["2048", "1048576"] {
                for name in ["nr_hugepages", "free_hugepages", "surplus_hugepages"] {
                    self.file(&format!("{folder}/hugepages/hugepages-{size}kB/{name}"), "0\n");
                }
            }
            let text = format!("Node {node} MemTotal: 16777216 kB\nNode {node} MemFree: 8388608 kB\n");
            self.file(&format!("{folder}/meminfo"), &text);
        }
        self.file("sys/kernel/mm/transparent_hugepage/enabled", "[always] madvise never\n");
        self.file("proc/sys/vm/compact_memory", "");
        self.file("proc/sys/vm/swappiness", "60\n");
        self.file("proc/swaps", "Filename Type Size\n/dev/sda2 partition 8\n");
        self.file("proc/self/mounts", "proc /proc proc rw 0 0\nsysfs /sys sysfs rw 0 0\n");
    }

    fn processors(&self) {
        self.file("sys/devices/system/cpu/online", "0-3\n");
        for core in 0..4u32 {
            let folder = format!("sys/devices/system/cpu/cpu{core}");
            self.folder(&format!("{folder}/node{}", core / 2));
            let pair = core / 2 * 2;
            self.file(&format!("{folder}/topology/thread_siblings_list"), &format!("{pair}-{}\n", pair + 1));
            self.file(&format!("{folder}/cpufreq/scaling_governor"), "powersave\n");
            for (state, name, latency) in [("state0", "POLL", "0"), ("state1", "C6", "133")] {
                self.file(&format!("{folder}/cpuidle/{state}/name"), name);
                self.file(&format!("{folder}/cpuidle/{state}/latency"), latency);
                self.file(&format!("{folder}/cpuidle/{state}/disable"), "0");
            }
        }
        self.file("sys/devices/system/cpu/isolated", "\n");
        self.file("sys/devices/system/cpu/intel_pstate/no_turbo", "0\n");
        self.file(
            "proc/cpuinfo",
            "processor : 0\nflags : sse4_2 ssse3 popcnt pdpe1gb constant_tsc nonstop_tsc\n",
        );
    }

    fn processes(&self) {
        self.file("proc/sys/kernel/osrelease", "6.1.0-18-amd64\n");
        self.file("proc/sys/kernel/random/boot_id", "boot-1\n");
        self.file("proc/cmdline", "BOOT_IMAGE=/vmlinuz root=/dev/sda1 ro quiet\n");
        self.file("proc/self/limits", "Max locked memory         8388608   8388608   bytes\n");
        self.process(1, "systemd", 0, "");
        self.process(100, "bash", 1, "PATH=/bin\0");
        self.file("proc/self/stat", "101 (hugepage-setup) R 100 101 100\n");
        self.file("modules/6.1.0-18-amd64/modules.dep", "kernel/drivers/vfio/pci/vfio-pci.ko.xz: vfio.ko\n");
    }

    fn network(&self) {
        for address in [LEFT, RIGHT] {
            self.device(address, "0x020000", [0x8086, 0x10fb], "ixgbe", 1);
        }
        self.device(UPLINK, "0x020000", [0x8086, 0x1521], "igb", 0);
        self.device(MELLANOX, "0x020000", [0x15b3, 0x1017], "mlx5_core", 0);
        self.device(DISK, "0x010601", [0x8086, 0xa282], "ahci", 0);
        self.interface(LEFT, "ens1f0", "00:00:00:00:00:01");
        self.interface(RIGHT, "ens1f1", "00:00:00:00:00:02");
        self.interface(UPLINK, "eno1", "00:00:00:00:00:03");
        self.interface(MELLANOX, "ens2", "00:00:00:00:00:04");
        for (address, group) in [(LEFT, "20"), (RIGHT, "21"), (UPLINK, "10"), (DISK, "11"), (MELLANOX, "30")]
        {
            self.group(address, group);
        }
        self.file("sys/bus/pci/drivers_probe", "");
        self.folder("sys/module/ib_uverbs");
        self.file("sys/class/net/lo/ifindex", "1\n");
        self.routes(&[default("eno1")]);
        self.file("proc/net/tcp", "  sl  local_address\n");
        let pmd = |name: &str, kmod: &str, ids: &str| {
            format!("PMD_INFO_STRING= {{\"name\": \"{name}\", \"kmod\": \"{kmod}\", \"pci_ids\": [{ids}]}}\0")
        };
        let any = "* igb_uio | vfio-pci";
        self.file("dpdk/librte_net_ixgbe.so", &pmd("net_ixgbe", any, "[32902, 4347, 65535, 65535]"));
        self.file("dpdk/librte_net_e1000.so", &pmd("net_e1000_igb", any, "[32902, 5409, 65535, 65535]"));
        let mlx5 = pmd("mlx5_eth", "* ib_uverbs & mlx5_core & mlx5_ib", "[5555, 4119, 65535, 65535]");
        self.file("dpdk/librte_net_mlx5.so", &mlx5);
    }

    pub fn device(&self, address: &str, class: &str, [vendor, device]: [u16; 2], driver: &str, node: u32) {
        let folder = format!("sys/bus/pci/devices/{address}");
        for (name, value) in [
            ("class", class.to_owned()),
            ("vendor", format!("{vendor:#06x}")),
            ("device", format!("{device:#06x}")),
            ("numa_node", node.to_string()),
            ("driver_override", "(null)".to_owned()),
            ("current_link_width", "8".to_owned()),
            ("max_link_width", "8".to_owned()),
            ("current_link_speed", "5.0 GT/s PCIe".to_owned()),
            ("max_link_speed", "5.0 GT/s PCIe".to_owned()),
        ] {
            self.file(&format!("{folder}/{name}"), &format!("{value}\n"));
        }
        self.driver(driver);
        self.link(&format!("{folder}/driver"), &format!("../../drivers/{driver}"));
    }

    pub fn driver(&self, driver: &str) {
        for name in ["bind", "unbind"] {
            self.file(&format!("sys/bus/pci/drivers/{driver}/{name}"), "");
        }
    }

    pub fn group(&self, address: &str, group: &str) {
        let link = format!("sys/bus/pci/devices/{address}/iommu_group");
        if self.path(&link).is_symlink() {
            self.remove(&link);
        }
        self.link(&link, &format!("../../../../kernel/iommu_groups/{group}"));
        self.folder(&format!("sys/kernel/iommu_groups/{group}/devices/{address}"));
    }

    pub fn interface(&self, address: &str, name: &str, mac: &str) {
        let folder = format!("sys/bus/pci/devices/{address}/net/{name}");
        for (file, value) in [("address", mac), ("operstate", "up"), ("carrier", "1"), ("speed", "10000")] {
            self.file(&format!("{folder}/{file}"), &format!("{value}\n"));
        }
        let number = 10 + mac.rsplit(':').next().and_then(|last| last.parse::<u32>().ok()).unwrap();
        self.file(&format!("sys/class/net/{name}/ifindex"), &format!("{number}\n"));
        self.file(&format!("sys/class/net/{name}/flags"), "0x1003\n");
        let device = format!("sys/class/net/{name}/device");
        if !self.path(&device).is_symlink() {
            self.link(&device, &format!("../../../bus/pci/devices/{address}"));
        }
    }

    /// A process, by its parent and its environment.
    pub fn process(&self, number: u32, name: &str, parent: u32, environment: &str) {
        self.file(&format!("proc/{number}/comm"), &format!("{name}\n"));
        self.file(&format!("proc/{number}/stat"), &format!("{number} ({name}) S {parent} 1 1\n"));
        self.file(&format!("proc/{number}/environ"), environment);
    }

    /// What the kernel says of its routes.
    pub fn routes(&self, routes: &[Route]) {
        let message = |route: &Route| {
            let number: u32 =
                self.read(&format!("sys/class/net/{}/ifindex", route.over)).trim().parse().unwrap();
            route.message(number)
        };
        let bytes: Vec<u8> = routes.iter().flat_map(message).collect();
        let path = self.path("netlink/routes");
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    /// A host without an IOMMU.
    pub fn without_iommu(&self) {
        self.remove("sys/kernel/iommu_groups");
        for address in [LEFT, RIGHT, UPLINK, MELLANOX, DISK] {
            self.remove(&format!("sys/bus/pci/devices/{address}/iommu_group"));
        }
    }

    pub fn plan(&self, options: &[&str]) -> Plan {
        self.plan_over(options, None)
    }

    pub fn plan_over(&self, options: &[&str], connection: Option<&str>) -> Plan {
        let facts = Facts::read(&self.host, connection).unwrap();
        Plan::make(&self.host, &facts, &need(options), Path::new(PROGRAM)).unwrap()
    }

    /// Every file, folder and link but the journal's, byte for byte.
    pub fn dump(&self) -> BTreeMap<PathBuf, String> {
        let mut all = BTreeMap::new();
        let mut folders = vec![self.root.path().to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(&folder).unwrap() {
                let path = entry.unwrap().path();
                let name = path.strip_prefix(self.root.path()).unwrap().to_owned();
                if path.starts_with(&self.host.state) {
                    continue;
                }
                let content = if path.is_symlink() {
                    format!("-> {}", fs::read_link(&path).unwrap().display())
                } else if path.is_dir() {
                    folders.push(path);
                    "folder".to_owned()
                } else {
                    String::from_utf8_lossy(&fs::read(&path).unwrap()).into_owned()
                };
                all.insert(name, content);
            }
        }
        // The folder above the journal's is made for it, and is nobody's.
        all.remove(Path::new("state"));
        all
    }
}

/// A route of the kernel's.
pub struct Route {
    pub to: IpAddr,
    pub length: u8,
    pub over: &'static str,
    pub table: u32,
    /// `RTN_UNICAST`, `RTN_LOCAL`, ...
    pub kind: u8,
}

impl Route {
    /// As rtnetlink tells it.
    fn message(&self, over: u32) -> Vec<u8> {
        let attribute = |kind: u16, value: &[u8]| {
            let head = [(4 + value.len() as u16).to_ne_bytes(), kind.to_ne_bytes()].concat();
            [&head, value].concat()
        };
        let (family, to) = match self.to {
            IpAddr::V4(to) => (2, to.octets().to_vec()),
            IpAddr::V6(to) => (10, to.octets().to_vec()),
        };
        let mut body = vec![family, self.length, 0, 0, 0, 0, 0, self.kind, 0, 0, 0, 0];
        body.extend(attribute(15, &self.table.to_ne_bytes()));
        if self.length > 0 {
            body.extend(attribute(1, &to));
        }
        body.extend(attribute(4, &over.to_ne_bytes()));
        let mut head = (16 + body.len() as u32).to_ne_bytes().to_vec();
        head.extend([24_u16.to_ne_bytes(), 2_u16.to_ne_bytes()].concat());
        head.resize(16, 0);
        [head, body].concat()
    }
}

/// A default route of the main table.
pub fn default(over: &'static str) -> Route {
    Route { to: IpAddr::from([0, 0, 0, 0]), length: 0, over, table: 254, kind: 1 }
}

/// A network of the main table.
pub fn network(to: &str, length: u8, over: &'static str) -> Route {
    Route { to: to.parse().unwrap(), length, ..default(over) }
}

/// An address of this host.
pub fn own(address: &str, over: &'static str) -> Route {
    let to: IpAddr = address.parse().unwrap();
    let length = if to.is_ipv4() { 32 } else { 128 };
    Route { to, length, table: 255, kind: 2, ..default(over) }
}

/// What the tool is called by.
pub const PROGRAM: &str = "/usr/local/bin/hugepage-setup";

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    need: Need,
}

pub fn need(options: &[&str]) -> Need {
    Line::try_parse_from(["hugepage-setup"].iter().chain(options))
        .unwrap_or_else(|error| panic!("{error}"))
        .need
}

/// The messages about a topic.
pub fn about(findings: &[Finding], topic: Topic) -> Vec<&Finding> {
    findings.iter().filter(|finding| finding.topic == topic).collect()
}

/// The only message about a topic, of that level.
pub fn only(findings: &[Finding], topic: Topic, level: Level) -> String {
    match about(findings, topic).as_slice() {
        [finding] if finding.level == level => {
            if level > Level::Note {
                assert!(finding.fix.is_some(), "{finding:?} gives no advice");
            }
            format!("{} FIX {}", finding.text, finding.fix.clone().unwrap_or_default())
        }
        found => panic!("{topic:?} at {level:?}: {found:?} of {findings:#?}"),
    }
}
