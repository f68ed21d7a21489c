//! The catalogue of messages: each has a name, by which `docs/bare-metal.md` explains it, and the reason why it matters.

use serde::{Serialize, Serializer};

macro_rules! topics {
    ($($variant:ident $name:literal $reason:literal;)*) => {
        /// What a message is about.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Topic {
            $(#[doc = $reason] $variant,)*
        }

        impl Topic {
            /// All of them.
            pub const ALL: &'static [Topic] = &[$(Self::$variant),*];

            /// Its name.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $name),* }
            }

            /// Why it matters.
            #[must_use]
            pub fn reason(self) -> &'static str {
                match self { $(Self::$variant => $reason),* }
            }
        }
    };
}

topics! {
    Config "config" "posternd computes what it will take: its sizes and these are the same";
    PagesReady "pages-ready" "Packets and sessions lie on hugepages: fewer misses of the TLB";
    PagesSize "pages-size" "The kernel hands out only the sizes that it was built and booted with";
    PagesMemory "pages-memory" "Hugepages are taken from the node's memory, and what is left must carry the host";
    PagesFragmented "pages-fragmented" "A hugepage is one piece of memory; after a while few such pieces are left";
    PagesInUse "pages-in-use" "Pages that a program holds are not free for the gateway";
    PagesGigantic "pages-gigantic" "Pieces of 1 GiB are rare once the host has run for a while";
    MountReady "mount-ready" "A mounted hugetlbfs serves DPDK programs that do not run in memory";
    MountOther "mount-other" "Options of a mounted hugetlbfs cannot be changed: page size, owner, mode and limit are those of its mount";
    NicReady "nic-ready" "A NIC that is bound to vfio-pci belongs to user space";
    NicMissing "nic-missing" "The gateway cannot start without its NICs";
    NicNotNetwork "nic-not-network" "Only network devices are bound";
    NicPmd "nic-no-pmd" "DPDK needs a driver that knows the device";
    NicNoDpdk "nic-no-dpdk" "What DPDK can drive is read from its drivers";
    NicNoVfio "nic-no-vfio" "Some drivers of DPDK work over uio only, which this tool does not set up: it has no protection";
    NicBifurcated "nic-bifurcated" "Its DPDK driver works beside the kernel's and needs it";
    NicVerbs "nic-verbs" "The DPDK driver reaches the device through the verbs modules";
    NicDefaultRoute "nic-default-route" "The host would be cut off";
    NicSsh "nic-ssh" "You would be cut off";
    NicUnknown "nic-unknown" "What cannot be read may be the way to this host";
    NicGroup "nic-group" "Devices of one IOMMU group can write each other's memory: the kernel hands out all of them or none";
    NicVfs "nic-vfs" "Virtual functions end when their physical function changes its driver";
    NicLink "nic-link" "A NIC in too small a slot loses packets at line rate";
    NicNode "nic-node" "Memory of another node costs every packet a trip between the sockets";
    NicCarrier "nic-carrier" "Nothing arrives over a link that is down";
    VfioMissing "vfio-missing" "Without vfio-pci no NIC can be handed to user space";
    VfioLater "vfio-modules" "The module is loaded when it is needed";
    IommuOn "iommu-on" "The IOMMU confines a NIC to the gateway's memory";
    IommuOff "iommu-off" "Without an IOMMU a NIC may write all memory";
    IommuPassthrough "iommu-passthrough" "Without iommu=pt the kernel's own devices pay for translation too";
    NoIommu "noiommu" "The NIC may write all memory, and the kernel marks itself tainted";
    NoIommuAbsent "noiommu-absent" "The kernel must be built with CONFIG_VFIO_NOIOMMU";
    NoIommuNeedless "noiommu-needless" "An IOMMU works: protection costs nothing here";
    CoreMissing "core-missing" "A worker runs on one core";
    CoreShared "core-shared" "What the kernel runs on a worker's core delays packets";
    CoreTick "core-tick" "The timer interrupts a worker hundreds of times a second";
    CoreRcu "core-rcu" "The kernel's deferred work runs on the cores that made it";
    CoreSibling "core-sibling" "Two threads of one core share its execution units and caches";
    CoreNode "core-node" "Memory of another node costs every packet a trip between the sockets";
    CoreReady "core-ready" "The kernel leaves the workers' cores alone";
    Governor "governor" "A core that lowers its clock is slow when packets come";
    Turbo "turbo" "The clock, and with it what is measured, changes with the temperature";
    IdleStates "idle-states" "A core that sleeps deeply wakes late; workers that poll never sleep";
    Irqbalance "irqbalance" "It moves interrupts to the workers' cores";
    Transparent "thp" "The kernel stops programs to build hugepages that they did not ask for";
    Swappiness "swappiness" "A page that was swapped out stops the control core";
    Memlock "memlock" "vfio locks the memory that NICs may write";
    CpuFlags "cpu-flags" "DPDK and the gateway are built for these instructions";
    CpuGigantic "cpu-pages-1g" "Pages of 1 GiB need the processor's help";
    Clock "clock" "Packets are stamped by the processor's counter: it must not change its rate or stop";
    KernelVersion "kernel-version" "Newer kernels touch memory ahead of time and have mended vfio";
    Boot "boot-parameters" "Some things are decided when the kernel starts";
    Persist "persist" "What is written to sysfs is gone after a reboot";
    PersistBoot "persist-boot" "GRUB reads its drop-in when update-grub runs";
    NotTaken "not-taken" "The kernel took the write and did something else";
    Failed "failed" "The kernel refused";
    ReadOnly "read-only" "sysfs is mounted read-only: containers see it so";
    Permission "permission" "Only root changes the host";
    Undone "undone" "The host is as it was before";
    UndoneAlready "undone-already" "Somebody else, or the kernel, has done it before";
    UndoneReboot "undone-reboot" "What is written to sysfs is gone after a reboot";
    Vanished "vanished" "A device was taken out, or a kernel without the attribute runs";
    ChangedSince "changed-since" "Somebody else has changed it after this tool: it is theirs";
    Left "left" "Undo goes on with the rest and can be run again";
}

impl Serialize for Topic {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

/// How much a message matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Level {
    /// As it should be.
    Ok,
    /// Worth knowing.
    Note,
    /// Slower or less safe than it could be.
    Warn,
    /// Not ready.
    Fail,
    /// So wrong that nothing is changed.
    Refuse,
}

impl Level {
    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Note => "note",
            Self::Warn => "warn",
            Self::Fail => "fail",
            Self::Refuse => "refuse",
        }
    }
}

/// A message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How much it matters.
    pub level: Level,
    /// What it is about.
    pub topic: Topic,
    /// What is found.
    pub text: String,
    /// Why it matters.
    pub reason: &'static str,
    /// What to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fix: Option<String>,
}

impl Finding {
    /// A message without advice.
    #[must_use]
    pub fn new(level: Level, topic: Topic, text: impl Into<String>) -> Self {
        Self { level, topic, text: text.into(), reason: topic.reason(), fix: None }
    }

    /// With advice.
    #[must_use]
    pub fn fix(mut self, fix: impl Into<String>) -> Self {
        self.fix = Some(fix.into());
        self
    }
}
