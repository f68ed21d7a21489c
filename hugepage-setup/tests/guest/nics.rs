//! The NICs of the guest: two of each family, each on a root port of its own on node 1.

use crate::world::Place;

/// A family of NICs.
#[derive(Debug)]
pub struct Family {
    /// QEMU's name for the device.
    pub device: &'static str,
    /// Further properties of it.
    pub properties: &'static str,
    /// Properties of what it is connected to.
    pub backend: &'static str,
    /// The kernel's module.
    pub module: &'static str,
    /// The driver that it is bound to.
    pub driver: &'static str,
    /// DPDK's driver.
    pub pmd: &'static str,
    /// What DPDK is told beyond the device.
    pub eal_args: &'static [&'static str],
    /// Workers of the gateway, which want a queue each.
    pub workers: usize,
    /// Workers that packets come in at.
    pub receivers: usize,
    /// How source NAT maps.
    pub mapping: &'static str,
    /// Whether the NIC brings every packet to the worker that has its session, so that nothing is handed over.
    pub brings_home: bool,
    /// What `interface show` says of some settings.
    pub settings: &'static [(&'static str, &'static str)],
    /// Whether it shall look at the checksums of what it receives, as far as it can.
    pub offloads: &'static str,
    /// Whether it does.
    pub looks: bool,
    /// Whether its cable is pulled out while the gateway runs.
    pub pulled: bool,
    /// Further keys of its interfaces.
    pub keys: &'static str,
    /// Whether it puts TCP segments together and cuts them again. The peers' kernels then leave both to it, and checksums.
    pub merges: bool,
}

/// The families, the one first that has most.
pub const FAMILIES: [Family; 4] = [
    Family {
        device: "igb",
        properties: "",
        backend: "",
        module: "igb",
        driver: "igb",
        pmd: "net_e1000_igb",
        eal_args: &[],
        // As many as it has queues.
        workers: 4,
        receivers: 4,
        // Its hash and table are the gateway's own, and the port is chosen for them.
        mapping: "endpoint-dependent",
        brings_home: true,
        settings: &[
            ("queues", "4 to receive, 4 to send"),
            ("checksums", "received ones looked at by the device"),
            ("sent checksums", "of what the gateway writes filled in by the device"),
            ("hash in force", "symmetric"),
            ("table in force", "128 entries"),
        ],
        offloads: "auto",
        looks: true,
        pulled: true,
        keys: "tx_checksums = \"on\"\n",
        merges: false,
    },
    Family {
        device: "virtio-net-pci",
        // Modern, behind the IOMMU.
        properties: ",disable-legacy=on,iommu_platform=on,mq=on,rss=on,vectors=10",
        backend: ",queues=4,vhost=off",
        module: "virtio_net",
        driver: "virtio-pci",
        pmd: "net_virtio",
        eal_args: &[],
        workers: 2,
        receivers: 2,
        mapping: "endpoint-independent",
        brings_home: false,
        settings: &[
            ("sent checksums", "of what the gateway writes filled in by the device"),
            ("lro", "TCP segments put together by the device"),
            ("tso", "aggregates cut by the device"),
        ],
        offloads: "auto",
        looks: false,
        pulled: false,
        keys: "tx_checksums = \"on\"\nlro = \"on\"\ntso = \"on\"\n",
        merges: true,
    },
    // Granted two queues it delivers on the first alone: the gateway takes one of each NIC, whose worker hands over.
    Family {
        device: "vmxnet3",
        properties: "",
        backend: "",
        module: "vmxnet3",
        driver: "vmxnet3",
        pmd: "net_vmxnet3",
        eal_args: &[],
        workers: 2,
        receivers: 2,
        mapping: "endpoint-independent",
        brings_home: false,
        settings: &[],
        offloads: "auto",
        looks: false,
        pulled: false,
        keys: "",
        merges: false,
    },
    Family {
        device: "e1000e",
        properties: "",
        backend: "",
        module: "e1000e",
        driver: "e1000e",
        pmd: "net_e1000_em",
        // By MSI-X the emulated device interrupts without end.
        eal_args: &["--vfio-intr=legacy"],
        workers: 1,
        receivers: 1,
        mapping: "endpoint-independent",
        brings_home: false,
        settings: &[
            ("queues", "1 to receive, 1 to send"),
            ("checksums", "in software"),
            ("sent checksums", "of what the gateway writes filled in by the device"),
        ],
        offloads: "off",
        looks: false,
        pulled: true,
        keys: "tx_checksums = \"on\"\n",
        merges: false,
    },
];

/// Two NICs of a family: one to the client, one to the server.
pub struct Pair {
    /// The family.
    pub family: &'static Family,
    number: usize,
}

impl Pair {
    /// The pair of the family with this number.
    pub fn new(number: usize, family: &'static Family) -> Self {
        Self { family, number }
    }

    /// Its name in messages.
    pub fn name(&self) -> &'static str {
        self.family.device
    }

    /// The MAC address of the NIC to that place.
    pub fn mac(&self, place: Place) -> String {
        format!("02:00:00:00:{:02x}:{:02x}", self.number + 1, side(place))
    }

    /// The host's end of the cable to that place: a TAP interface, made by QEMU in its namespace.
    pub fn tap(&self, place: Place) -> String {
        format!("tap{}{}", self.number, side(place))
    }

    /// QEMU's name for the cable to that place.
    pub fn cable(&self, place: Place) -> String {
        format!("n{}{}", self.number, side(place))
    }

    /// QEMU's options for it.
    fn devices(&self) -> Vec<String> {
        let of = |place| {
            let id = self.cable(place);
            let port = self.number * 2 + side(place) + 1;
            let Family { device, properties, backend, .. } = self.family;
            [
                "-device".to_owned(),
                format!("pcie-root-port,id=p{id},bus=far,chassis={port},slot={port}"),
                "-netdev".to_owned(),
                format!("tap,id={id},ifname={},script=no,downscript=no{backend}", self.tap(place)),
                "-device".to_owned(),
                format!("{device},netdev={id},bus=p{id},mac={}{properties}", self.mac(place)),
            ]
        };
        [of(Place::Client), of(Place::Server)].concat()
    }
}

fn side(place: Place) -> usize {
    match place {
        Place::Client => 0,
        _ => 1,
    }
}

/// QEMU's options for all of them: a bus on node 1, and a root port for each NIC.
pub fn devices(pairs: &[Pair]) -> Vec<String> {
    let mut all = ["-device", "pxb-pcie,id=far,bus_nr=64,numa_node=1,bus=pcie.0"].map(str::to_owned).to_vec();
    all.extend(pairs.iter().flat_map(Pair::devices));
    all
}
