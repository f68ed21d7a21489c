//! NICs: what is bound, how, and what is refused.

use crate::fake::Fake;
use crate::fixture::{DISK, Fixture, LEFT, MELLANOX, PROGRAM, RIGHT, UPLINK, about, need, only};
use hugepage_setup::apply::{Applied, apply};
use hugepage_setup::facts::Facts;
use hugepage_setup::facts::reach::Carries;
use hugepage_setup::host::link_name;
use hugepage_setup::topic::{Level, Topic};
use hugepage_setup::undo::undo;
use std::path::Path;

fn applied(kernel: &Fake<'_>, options: &[&str]) -> Applied {
    apply(kernel, &need(options), None, Path::new(PROGRAM)).unwrap()
}

fn bind(addresses: &[&str]) -> String {
    format!("--bind={}", addresses.join(","))
}

fn driver(fixture: &Fixture, address: &str) -> Option<String> {
    link_name(&fixture.host.pci(address).join("driver"))
}

#[test]
fn the_list_says_what_a_device_is_and_who_needs_it() {
    let fixture = Fixture::new();
    fixture.group(RIGHT, "20");
    fixture.file(&format!("sys/bus/pci/devices/{LEFT}/sriov_totalvfs"), "63\n");
    fixture.file(&format!("sys/bus/pci/devices/{LEFT}/sriov_numvfs"), "2\n");
    fixture.link(&format!("sys/bus/pci/devices/{RIGHT}/physfn"), &format!("../{LEFT}"));
    let facts = Facts::read(&fixture.host, None).unwrap();
    let addresses: Vec<&str> = facts.nics.iter().map(|nic| nic.address.as_str()).collect();
    assert_eq!(addresses, [UPLINK, LEFT, RIGHT, MELLANOX]);
    assert_eq!(facts.others, [DISK]);
    let nic = facts.nic(LEFT).unwrap();
    assert_eq!((nic.driver.as_deref(), nic.node, nic.group.as_deref()), (Some("ixgbe"), Some(1), Some("20")));
    assert_eq!((nic.vfs, nic.max_vfs), (2, 63));
    assert_eq!(nic.members[0].address, RIGHT);
    assert_eq!((nic.interfaces[0].name.as_str(), nic.interfaces[0].speed), ("ens1f0", Some(10_000)));
    assert_eq!(nic.pmd.as_ref().unwrap().name, "net_ixgbe");
    assert_eq!(facts.nic(RIGHT).unwrap().physical.as_deref(), Some(LEFT));
    assert!(facts.nic(MELLANOX).unwrap().is_shared_with_kernel());
    assert_eq!(facts.nic(UPLINK).unwrap().carries, [Carries::DefaultRoute]);
}

#[test]
fn a_nic_goes_to_vfio_and_comes_back_under_its_name() {
    let fixture = Fixture::new();
    let before = fixture.dump();
    let kernel = Fake::new(&fixture);
    let outcome = applied(&kernel, &[&bind(&[LEFT, RIGHT])]);
    assert!(outcome.is_ready(), "{outcome:#?}");
    for address in [LEFT, RIGHT] {
        assert_eq!(driver(&fixture, address).as_deref(), Some("vfio-pci"));
        assert_eq!(fixture.read(&format!("sys/bus/pci/devices/{address}/driver_override")), "vfio-pci\n");
    }
    assert!(!fixture.path("sys/class/net/ens1f0").exists());
    assert_eq!(about(&fixture.plan(&[&bind(&[LEFT, RIGHT])]).findings, Topic::NicReady).len(), 2);
    // udev has another rule by now.
    *kernel.comes_back_as.borrow_mut() = Some("eth7".to_owned());
    assert!(undo(&kernel, false).unwrap().is_complete());
    assert_eq!(fixture.dump(), before);
}

/// Whoever manages the network has brought it up when its name comes back.
#[test]
fn an_interface_that_is_up_gets_its_name_back_and_stays_up() {
    for (live, links) in
        [(false, &["eth7 down", "eth7 is ens1f0", "ens1f0 up"][..]), (true, &["eth7 is ens1f0"])]
    {
        let fixture = Fixture::new();
        let before = fixture.dump();
        let kernel = Fake::new(&fixture);
        kernel.renames_live.set(live);
        assert!(applied(&kernel, &[&bind(&[LEFT])]).is_ready());
        *kernel.comes_back_as.borrow_mut() = Some("eth7".to_owned());
        let undone = undo(&kernel, false).unwrap();
        assert!(undone.is_complete(), "{undone:#?}");
        assert_eq!(*kernel.links.borrow(), links);
        assert_eq!(fixture.dump(), before);
    }
}

/// The next boot: the kernel has its NIC, and udev has not named the interface yet.
fn boots_anew(fixture: &Fixture, boot: &str) {
    fixture.file("proc/sys/kernel/random/boot_id", &format!("{boot}\n"));
    for path in ["sys/module/vfio", "sys/module/vfio_pci", "sys/bus/pci/drivers/vfio-pci"] {
        if fixture.path(path).exists() {
            fixture.remove(path);
        }
    }
    fixture.remove(&format!("sys/bus/pci/devices/{LEFT}/driver"));
    fixture.device(LEFT, "0x020000", [0x8086, 0x10fb], "ixgbe", 1);
    fixture.interface(LEFT, "eth0", "00:00:00:00:00:01");
}

/// One boot stops at its pages, before it takes the NIC: the name is known all the same.
#[test]
fn a_name_outlives_a_boot_that_did_not_come_to_the_nic() {
    let fixture = Fixture::new();
    let before = fixture.dump();
    let options = [&bind(&[LEFT]), "--pages-2m=8", "--persist"];
    assert!(applied(&Fake::new(&fixture), &options).is_ready());
    for boot in ["boot-2", "boot-3"] {
        boots_anew(&fixture, boot);
        fixture.file(&Fixture::pool(1), "0\n");
        let kernel = Fake::new(&fixture);
        kernel.most_pages.set(2);
        only(&applied(&kernel, &options).findings, Topic::PagesFragmented, Level::Fail);
        assert_eq!(driver(&fixture, LEFT).as_deref(), Some("ixgbe"), "it stopped");
    }
    let kernel = Fake::new(&fixture);
    assert!(applied(&kernel, &options).is_ready());
    assert!(undo(&kernel, false).unwrap().is_complete());
    fixture.file("proc/sys/kernel/random/boot_id", "boot-1\n");
    assert_eq!(fixture.dump(), before);
}

#[test]
fn a_nic_that_was_taken_again_at_boot_comes_back_under_its_first_name() {
    let fixture = Fixture::new();
    let before = fixture.dump();
    let options = [&bind(&[LEFT]), "--persist"];
    assert!(applied(&Fake::new(&fixture), &options).is_ready());
    boots_anew(&fixture, "boot-2");
    let kernel = Fake::new(&fixture);
    assert!(applied(&kernel, &options).is_ready());
    assert!(undo(&kernel, false).unwrap().is_complete());
    fixture.file("proc/sys/kernel/random/boot_id", "boot-1\n");
    assert_eq!(fixture.dump(), before);
}

#[test]
fn virtio_devices_have_their_interfaces_one_folder_down() {
    let fixture = Fixture::new();
    fixture.file(&format!("sys/bus/pci/devices/{LEFT}/virtio3/net/ens9/address"), "00:00:00:00:00:09\n");
    let facts = Facts::read(&fixture.host, None).unwrap();
    let names: Vec<&str> = facts.nic(LEFT).unwrap().interfaces.iter().map(|i| i.name.as_str()).collect();
    assert_eq!(names, ["ens1f0", "ens9"]);
}

#[test]
fn a_shared_group_is_refused_with_the_names_of_the_others() {
    let fixture = Fixture::new();
    for address in [RIGHT, DISK] {
        fixture.group(address, "20");
    }
    let kernel = Fake::new(&fixture);
    let outcome = applied(&kernel, &[&bind(&[LEFT])]);
    let text = only(&outcome.plan.findings, Topic::NicGroup, Level::Refuse);
    assert!(text.contains(&format!("{RIGHT} (ixgbe)")) && text.contains(&format!("{DISK} (ahci)")), "{text}");
    assert_eq!(kernel.changes.get(), 0);
    // Bridges, and what vfio or nobody has, are in nobody's way.
    for harmless in ["pcieport", "pci-stub", "vfio-pci"] {
        fixture.remove(&format!("sys/bus/pci/devices/{DISK}/driver"));
        fixture.link(&format!("sys/bus/pci/devices/{DISK}/driver"), &format!("../../drivers/{harmless}"));
        assert!(!fixture.plan(&[&bind(&[LEFT, RIGHT])]).is_refused(), "{harmless}");
    }
    fixture.remove(&format!("sys/bus/pci/devices/{DISK}/driver"));
    assert!(!fixture.plan(&[&bind(&[LEFT, RIGHT])]).is_refused());
    assert!(fixture.plan(&[&bind(&[LEFT])]).is_refused(), "the other port is still the kernel's");
    // A device that stays with its driver is in the way, also if it is one of the gateway's.
    fixture.group(MELLANOX, "20");
    let text =
        only(&fixture.plan(&[&bind(&[RIGHT, MELLANOX, LEFT])]).findings[..], Topic::NicBifurcated, Level::Ok);
    assert!(text.contains("mlx5_core"));
    let plan = fixture.plan(&[&bind(&[RIGHT, MELLANOX, LEFT])]);
    assert!(about(&plan.findings, Topic::NicGroup).iter().all(|finding| finding.text.contains(MELLANOX)));
    assert_eq!(about(&plan.findings, Topic::NicGroup).len(), 2);
}

#[test]
fn a_driver_that_shares_its_device_stays() {
    let fixture = Fixture::new();
    let kernel = Fake::new(&fixture);
    let outcome = applied(&kernel, &[&bind(&[MELLANOX])]);
    assert!(outcome.is_ready() && outcome.plan.steps.is_empty(), "{outcome:#?}");
    only(&outcome.plan.findings, Topic::NicBifurcated, Level::Ok);
    assert_eq!(driver(&fixture, MELLANOX).as_deref(), Some("mlx5_core"));
    fixture.remove("sys/module/ib_uverbs");
    only(&fixture.plan(&[&bind(&[MELLANOX])]).findings, Topic::NicVerbs, Level::Fail);
    // Known by its driver where DPDK is not installed.
    fixture.remove("dpdk");
    assert!(fixture.plan(&[&bind(&[MELLANOX])]).steps.is_empty());
    let plan = fixture.plan(&[&bind(&[LEFT])]);
    only(&plan.findings, Topic::NicNoDpdk, Level::Warn);
    assert!(!plan.is_refused());
}

#[test]
fn what_dpdk_cannot_drive_is_refused() {
    let fixture = Fixture::new();
    fixture.remove("dpdk/librte_net_ixgbe.so");
    let text = only(&fixture.plan(&[&bind(&[LEFT])]).findings, Topic::NicPmd, Level::Refuse);
    assert!(text.contains("8086:10fb"), "{text}");
    let uio = "PMD_INFO_STRING= {\"name\": \"net_x\", \"kmod\": \"* igb_uio\", \"pci_ids\": [[32902, 4347, 65535, 65535]]}";
    fixture.file("dpdk/librte_net_x.so", uio);
    only(&fixture.plan(&[&bind(&[LEFT])]).findings, Topic::NicNoVfio, Level::Refuse);
    only(&fixture.plan(&["--bind=77:00.0"]).findings, Topic::NicMissing, Level::Refuse);
    only(&fixture.plan(&[&bind(&[DISK])]).findings, Topic::NicNotNetwork, Level::Refuse);
    fixture.file(&format!("sys/bus/pci/devices/{UPLINK}/sriov_numvfs"), "4\n");
    only(&fixture.plan(&[&bind(&[UPLINK]), "--force"]).findings, Topic::NicVfs, Level::Refuse);
}

#[test]
fn a_kernel_without_vfio_is_told_before_anything_is_unbound() {
    let fixture = Fixture::new();
    only(&fixture.plan(&[&bind(&[LEFT])]).findings, Topic::VfioLater, Level::Ok);
    fixture.file("modules/6.1.0-18-amd64/modules.dep", "kernel/drivers/net/igb.ko.xz:\n");
    let kernel = Fake::new(&fixture);
    let outcome = applied(&kernel, &[&bind(&[LEFT])]);
    only(&outcome.plan.findings, Topic::VfioMissing, Level::Refuse);
    fixture.remove("modules");
    only(&fixture.plan(&[&bind(&[LEFT])]).findings, Topic::VfioMissing, Level::Refuse);
    assert_eq!(kernel.changes.get(), 0);
    assert_eq!(driver(&fixture, LEFT).as_deref(), Some("ixgbe"));
}

#[test]
fn without_an_iommu_only_who_asks_for_it_gets_it() {
    let fixture = Fixture::new();
    fixture.without_iommu();
    let before = fixture.dump();
    let plan = fixture.plan(&[&bind(&[LEFT])]);
    let text = only(&plan.findings, Topic::IommuOff, Level::Refuse);
    assert!(text.contains("intel_iommu=on") && text.contains("--noiommu"), "{text}");
    assert!(plan.boot.contains(&"intel_iommu=on".to_owned()) && plan.boot.contains(&"iommu=pt".to_owned()));

    let kernel = Fake::new(&fixture);
    let outcome = applied(&kernel, &[&bind(&[LEFT]), "--noiommu"]);
    assert!(outcome.is_ready(), "{outcome:#?}");
    let text = only(&outcome.plan.findings, Topic::NoIommu, Level::Warn);
    assert!(text.contains("tainted") && text.contains("all memory"), "{text}");
    assert_eq!(fixture.read("sys/module/vfio/parameters/enable_unsafe_noiommu_mode"), "Y\n");
    assert_eq!(driver(&fixture, LEFT).as_deref(), Some("vfio-pci"));
    // The group that vfio has made up is none.
    let again = fixture.plan(&[&bind(&[LEFT]), "--noiommu"]);
    assert!(again.is_ready() && again.steps.is_empty(), "{again:#?}");
    only(&again.findings, Topic::NoIommu, Level::Warn);
    only(&fixture.plan(&[&bind(&[LEFT])]).findings, Topic::IommuOff, Level::Refuse);
    assert!(undo(&kernel, false).unwrap().is_complete());
    assert_eq!(fixture.dump(), before);
}

#[test]
fn an_iommu_that_does_not_reach_a_device_does_not_protect_from_it() {
    let fixture = Fixture::new();
    fixture.remove(&format!("sys/bus/pci/devices/{LEFT}/iommu_group"));
    let text = only(&fixture.plan(&[&bind(&[LEFT, RIGHT])]).findings, Topic::IommuOff, Level::Refuse);
    assert!(text.contains("ens1f0") && !text.contains("ens1f1"), "{text}");
    only(&fixture.plan(&[&bind(&[RIGHT])]).findings, Topic::IommuOn, Level::Ok);
}

#[test]
fn a_kernel_without_the_noiommu_mode_is_detected() {
    // By its configuration while vfio is not loaded, by the missing switch when it is.
    let fixture = Fixture::new();
    fixture.without_iommu();
    fixture.file("boot/config-6.1.0-18-amd64", "# CONFIG_VFIO_NOIOMMU is not set\n");
    let options = [&bind(&[LEFT]), "--noiommu"];
    only(&fixture.plan(&options).findings, Topic::NoIommuAbsent, Level::Refuse);
    fixture.file("boot/config-6.1.0-18-amd64", "CONFIG_VFIO_NOIOMMU=y\n");
    assert!(!fixture.plan(&options).is_refused());
    fixture.folder("sys/module/vfio");
    only(&fixture.plan(&options).findings, Topic::NoIommuAbsent, Level::Refuse);
    // Where nothing says, the write does: the device is still the kernel's.
    fixture.remove("sys/module/vfio");
    fixture.remove("boot");
    let kernel = Fake::new(&fixture);
    assert!(applied(&kernel, &options).is_ready());
}

#[test]
fn noiommu_is_passed_over_where_an_iommu_works() {
    let fixture = Fixture::new();
    let plan = fixture.plan(&[&bind(&[LEFT]), "--noiommu"]);
    only(&plan.findings, Topic::NoIommuNeedless, Level::Warn);
    assert!(!plan.steps.iter().any(|step| step.action.path().ends_with("enable_unsafe_noiommu_mode")));
}

#[test]
fn a_probe_that_binds_nothing_is_noticed_and_undone() {
    let fixture = Fixture::new();
    let before = fixture.dump();
    let kernel = Fake::new(&fixture);
    kernel.probe_is_deaf.set(true);
    let outcome = applied(&kernel, &[&bind(&[LEFT, RIGHT])]);
    assert!(!outcome.is_ready());
    let text = only(&outcome.findings, Topic::NotTaken, Level::Fail);
    assert!(text.contains("wanted vfio-pci, got nothing"), "{text}");
    assert_eq!(driver(&fixture, RIGHT).as_deref(), Some("ixgbe"), "it stopped");
    assert!(undo(&kernel, false).unwrap().is_complete());
    assert_eq!(fixture.dump(), before);
}

#[test]
fn a_device_that_was_pulled_out_is_no_obstacle_to_undo() {
    let fixture = Fixture::new();
    let kernel = Fake::new(&fixture);
    assert!(applied(&kernel, &[&bind(&[LEFT]), "--pages-2m=0:8"]).is_ready());
    fixture.remove(&format!("sys/bus/pci/devices/{LEFT}"));
    let undone = undo(&kernel, false).unwrap();
    assert!(undone.is_complete(), "{undone:#?}");
    assert_eq!(undone.steps.iter().filter(|(_, finding)| finding.topic == Topic::Vanished).count(), 3);
    assert_eq!(fixture.read(&Fixture::pool(0)), "0\n");
    assert!(!fixture.host.state.exists());
}

#[test]
fn places_that_cost_packets_are_told() {
    let fixture = Fixture::new();
    let slot = |name: &str, value: &str| fixture.file(&format!("sys/bus/pci/devices/{LEFT}/{name}"), value);
    let plan = fixture.plan(&[&bind(&[LEFT]), "--cores=0,2"]);
    let text = only(&plan.findings, Topic::NicNode, Level::Warn);
    assert!(text.contains("on node 1, but not these cores: 0 "), "{text}");
    assert!(about(&plan.findings, Topic::NicLink).is_empty());
    let apart = fixture.plan(&[&bind(&[LEFT]), "--pages-2m=0:8"]);
    assert!(only(&apart.findings, Topic::NicNode, Level::Warn).contains("no hugepages are asked for there"));
    slot("current_link_width", "4");
    let text = only(&fixture.plan(&[&bind(&[LEFT])]).findings, Topic::NicLink, Level::Note);
    assert!(text.contains("x4 at 5 GT/s, and it could at x8 at 5 GT/s"), "{text}");
    slot("current_link_width", "1");
    let text = only(&fixture.plan(&[&bind(&[LEFT])]).findings, Topic::NicLink, Level::Warn);
    assert!(text.contains("10 Gbit/s, its slot carries 4.0"), "{text}");
    slot("net/ens1f0/carrier", "0");
    only(&fixture.plan(&[&bind(&[LEFT])]).findings, Topic::NicCarrier, Level::Note);
}

/// The card's lanes are for all of its ports.
#[test]
fn ports_of_one_card_share_its_slot() {
    let fixture = Fixture::new();
    let speed = |address: &str, name: &str, speed: &str| {
        fixture.file(&format!("sys/bus/pci/devices/{address}/net/{name}/speed"), speed);
    };
    let plan = |addresses: &[&str]| fixture.plan(&[&bind(addresses)]);
    // 32 Gbit/s: enough for each, and for both.
    assert!(about(&plan(&[LEFT, RIGHT, LEFT]).findings, Topic::NicLink).is_empty());
    speed(LEFT, "ens1f0", "25000");
    speed(RIGHT, "ens1f1", "25000");
    for one in [LEFT, RIGHT] {
        assert!(about(&plan(&[one]).findings, Topic::NicLink).is_empty());
    }
    let text = only(&plan(&[LEFT, RIGHT, UPLINK]).findings, Topic::NicLink, Level::Warn);
    assert!(text.contains("together send and receive 50 Gbit/s, their slot carries 32.0"), "{text}");
    assert!(text.contains(LEFT) && text.contains(RIGHT) && !text.contains(UPLINK), "{text}");
    assert!(text.contains("FIX use fewer ports of the card"), "{text}");
    fixture.file(&format!("sys/bus/pci/devices/{LEFT}/max_link_speed"), "8.0 GT/s PCIe\n");
    let text = only(&plan(&[LEFT, RIGHT]).findings, Topic::NicLink, Level::Warn);
    assert!(text.contains("FIX move the card to a slot of x8 at 8 GT/s"), "{text}");
    // Virtual functions have the rate of their port between them.
    fixture.link(&format!("sys/bus/pci/devices/{LEFT}/physfn"), &format!("../{UPLINK}"));
    fixture.link(&format!("sys/bus/pci/devices/{RIGHT}/physfn"), &format!("../{UPLINK}"));
    assert!(about(&plan(&[LEFT, RIGHT]).findings, Topic::NicLink).iter().all(|f| f.level == Level::Note));
}

/// Nobody says how fast a port is once it is taken, nor at a boot whose link is not up yet.
#[test]
fn a_slot_is_too_narrow_also_for_a_nic_that_is_taken() {
    let fixture = Fixture::new();
    let width = format!("sys/bus/pci/devices/{LEFT}/current_link_width");
    fixture.file(&width, "1\n");
    let options = [&bind(&[LEFT]), "--persist"];
    assert!(applied(&Fake::new(&fixture), &options).is_ready());
    let warned = || {
        let text = only(&fixture.plan(&options).findings, Topic::NicLink, Level::Warn);
        assert!(text.contains("10 Gbit/s, its slot carries 4.0"), "{text}");
    };
    warned();
    for boot in ["boot-2", "boot-3"] {
        boots_anew(&fixture, boot);
        fixture.file(&width, "1\n");
        fixture.file(&format!("sys/bus/pci/devices/{LEFT}/net/eth0/speed"), "-1\n");
        assert!(applied(&Fake::new(&fixture), &options).is_ready());
        warned();
    }
}
