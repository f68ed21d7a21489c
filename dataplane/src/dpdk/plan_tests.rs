use super::*;
use crate::home::BUCKETS;

const ALL: u64 = u64::MAX;

/// An 82576, as DPDK describes it.
fn igb() -> Nic {
    Nic {
        driver: "net_e1000_igb".into(),
        pci: true,
        rx_queues: 16,
        tx_queues: 16,
        rx_desc: DescLimits { least: 32, most: 4_096, multiple: 8 },
        tx_desc: DescLimits { least: 32, most: 4_096, multiple: 8 },
        reta: 128,
        key: 40,
        flows: ALL,
        rx_offloads: ALL,
        tx_offloads: ALL,
        node: Some(0),
    }
}

fn wish(workers: u16) -> Wish {
    Wish {
        number: 0,
        workers,
        rx_desc: 1_024,
        tx_desc: 1_024,
        spread: Spread::Auto,
        offloads: true,
        tx_checksums: false,
        lro: false,
        tso: false,
        one_pool: true,
        nodes: vec![Some(0); usize::from(workers)],
    }
}

fn of(nic: &Nic, wish: &Wish) -> Plan {
    plan(nic, wish, &Home::new(u8::try_from(wish.workers).unwrap())).unwrap()
}

fn lack<'a>(plan: &'a Plan, what: &str) -> &'a str {
    &plan
        .choices
        .iter()
        .find(|c| c.what == what)
        .unwrap_or_else(|| panic!("no {what}: {:?}", plan.choices))
        .lacks
}

/// Which worker polls each receive queue. Each must have exactly one.
fn pollers(plan: &Plan) -> Vec<u16> {
    (0..plan.rx_queues)
        .map(|queue| {
            let who: Vec<u16> = (0..plan.tx_queues).filter(|w| plan.rx_queue_of(*w) == Some(queue)).collect();
            assert_eq!(who.len(), 1, "queue {queue}: {who:?}");
            who[0]
        })
        .collect()
}

#[test]
fn a_nic_that_can_all_lacks_nothing() {
    let plan = of(&igb(), &wish(4));
    assert_eq!((plan.rx_queues, plan.tx_queues, plan.rx_desc, plan.tx_desc), (4, 4, 1_024, 1_024));
    assert_eq!(plan.rss, Some(Rss { flows: FLOWS, key: 40 }));
    assert_eq!(plan.reta.len(), 128);
    assert!(plan.reta.iter().zip(Home::new(4).table()).all(|(queue, home)| *queue == u16::from(home.0)));
    assert_eq!(pollers(&plan), [0, 1, 2, 3]);
    assert_eq!((plan.rx_offloads, plan.tx_offloads), (RX_CHECKSUMS, sys::POSTERN_TX_FAST_FREE));
    assert!(plan.choices.iter().all(|c| c.lacks.is_empty() && !c.chosen.is_empty()), "{:?}", plan.choices);
    assert_eq!(plan.descriptors(), (4 * 1_024, 4 * 1_024));
}

#[test]
fn one_worker_needs_no_hash() {
    let plan = of(&igb(), &wish(1));
    assert_eq!((plan.rx_queues, plan.rss, plan.reta.len()), (1, None, 0));
    assert_eq!(lack(&plan, "queues"), "");
}

#[test]
fn without_a_hash_one_worker_receives_and_hands_over() {
    let mut blind = igb();
    blind.flows = 0;
    let mut single = igb();
    single.rx_queues = 1;
    let mut vmxnet3 = igb();
    vmxnet3.driver = "net_vmxnet3".into();
    for (nic, says) in [(&blind, "hash"), (&single, "no more"), (&vmxnet3, "spread = \"on\"")] {
        for number in 0..5 {
            let plan = of(nic, &Wish { number, ..wish(4) });
            assert_eq!((plan.rx_queues, plan.tx_queues, plan.rss), (1, 4, None), "{says}");
            assert_eq!(pollers(&plan), [number % 4], "ports are shared out");
            assert!(lack(&plan, "queues").contains(says), "{:?}", plan.choices);
        }
    }
    let off = of(&igb(), &Wish { spread: Spread::Off, ..wish(4) });
    assert_eq!((off.rx_queues, off.rss), (1, None));
    let on = of(&vmxnet3, &Wish { spread: Spread::On, ..wish(4) });
    assert_eq!((on.rx_queues, on.rss.is_some()), (4, true));
    // No wish makes a hash where there is none.
    assert_eq!(of(&blind, &Wish { spread: Spread::On, ..wish(4) }).rx_queues, 1);
}

#[test]
fn every_queue_that_somebody_else_fills_is_polled() {
    let software = Nic { driver: "net_af_packet".into(), pci: false, flows: 0, node: None, ..igb() };
    for spread in [Spread::Auto, Spread::On, Spread::Off] {
        let plan = of(&software, &Wish { spread, ..wish(4) });
        assert_eq!((plan.rx_queues, plan.rss), (4, None));
        assert_eq!(pollers(&plan), [0, 1, 2, 3]);
        let virtio = Nic { driver: "net_virtio".into(), flows: 0, reta: 0, ..igb() };
        let plan = of(&virtio, &Wish { spread, ..wish(4) });
        assert_eq!((plan.rx_queues, plan.rss, plan.rx_offloads), (4, None, 0));
        assert!(lack(&plan, "queues").contains("VIRTIO_NET_F_RSS"));
    }
    let virtio = Nic { driver: "net_virtio".into(), ..igb() };
    assert_eq!(lack(&of(&virtio, &wish(4)), "queues"), "");
    assert!(of(&virtio, &Wish { spread: Spread::Off, ..wish(4) }).rss.is_some(), "its queues come in pairs");
    // Software that has a hash uses it when told to.
    let null = Nic { driver: "net_null".into(), pci: false, ..igb() };
    assert_eq!(of(&null, &wish(2)).rss, None);
    assert!(of(&null, &Wish { spread: Spread::On, ..wish(2) }).rss.is_some());
}

#[test]
fn a_wish_that_cannot_be_had_is_answered() {
    let off = |nic: &Nic, workers| {
        let plan = of(nic, &Wish { spread: Spread::Off, ..wish(workers) });
        lack(&plan, "queues").to_owned()
    };
    let virtio = Nic { driver: "net_virtio".into(), ..igb() };
    let says = "spread = \"off\" is passed over, since whoever is at the other end fills every queue";
    assert_eq!(off(&virtio, 4), says);
    assert_eq!(off(&virtio, 1), "", "one queue is what was wished for");
    for (nic, first) in [
        (Nic { flows: 0, ..virtio.clone() }, "VIRTIO_NET_F_RSS"),
        (Nic { rx_queues: 3, ..virtio }, "no more than 3"),
        (Nic { driver: "net_af_packet".into(), pci: false, flows: 0, ..igb() }, "no device spreads"),
    ] {
        let lack = off(&nic, 4);
        assert!(lack.contains(first) && lack.ends_with(&format!("; {says}")), "{lack}");
    }
    assert!(!off(&igb(), 4).contains("passed over"), "a NIC does what it is told");
}

#[test]
fn software_that_stands_for_nics_spreads_as_they_do() {
    for driver in ["net_bonding", "net_failsafe"] {
        // A bond knows neither key nor table before it is configured.
        let bond = Nic { driver: driver.into(), pci: false, key: 0, reta: 0, node: None, ..igb() };
        let plan = of(&bond, &wish(4));
        assert_eq!((plan.rx_queues, plan.rss), (4, Some(Rss { flows: FLOWS, key: 40 })), "{driver}");
        assert_eq!((lack(&plan, "queues"), pollers(&plan).as_slice()), ("", [0, 1, 2, 3].as_slice()));
        let full = Nic { reta: 128, ..bond.clone() };
        assert_eq!(of(&full, &wish(4)).reta.len(), 128);
        let off = of(&bond, &Wish { spread: Spread::Off, ..wish(4) });
        assert_eq!((off.rx_queues, off.rss), (1, None));
        let blind = of(&Nic { flows: 0, ..bond }, &wish(4));
        assert_eq!((blind.rx_queues, blind.rss), (1, None));
        assert!(lack(&blind, "queues").contains("hash"));
    }
}

#[test]
fn fewer_receive_queues_than_workers_still_spread() {
    let few = Nic { rx_queues: 3, ..igb() };
    let plan = of(&few, &wish(4));
    assert_eq!((plan.rx_queues, plan.tx_queues), (3, 4));
    assert_eq!(pollers(&plan), [0, 1, 2]);
    assert!(plan.reta.iter().all(|queue| *queue < 3));
    assert!(lack(&plan, "queues").contains("no more than 3"));
    assert!(lack(&plan, "table").contains("75 %"), "{:?}", plan.choices);
}

#[test]
fn fewer_transmit_queues_than_workers_are_refused() {
    let single = Nic { rx_queues: 1, tx_queues: 1, flows: 0, ..igb() };
    // It says two, and means one.
    let e1000e = Nic { driver: "net_e1000_em".into(), rx_queues: 2, tx_queues: 2, flows: 0, ..igb() };
    for nic in [&single, &e1000e] {
        let plan = plan(nic, &wish(1), &Home::new(1)).unwrap();
        assert_eq!((plan.rx_queues, plan.tx_queues), (1, 1));
    }
    assert_eq!(plan(&e1000e, &wish(2), &Home::new(2)), Err(Refusal::TxQueues { most: 1, workers: 2 }));
    let refusal = plan(&single, &wish(4), &Home::new(4)).unwrap_err();
    assert_eq!(
        refusal.to_string(),
        "the device has 1 transmit queue, and each of 4 workers needs one of its own; expected at most 1 core in workers under \
         [dataplane]"
    );
    assert_eq!(plan(&Nic::default(), &wish(1), &Home::new(1)), Err(Refusal::NoQueue));
}

#[test]
fn a_table_of_another_size_is_exact_where_the_numbers_allow() {
    for (size, workers, exact) in [
        (64, 4, true),  // the halves of our table are alike
        (64, 3, false), // they are not
        (512, 3, true), // four times our table
        (512, 4, true),
        (2_048, 7, true),
        (100, 3, false), // no power of two
        (1, 1, true),
    ] {
        let nic = Nic { reta: size, ..igb() };
        if workers == 1 {
            continue;
        }
        let plan = of(&nic, &wish(workers));
        assert_eq!(plan.reta.len(), usize::from(size));
        assert_eq!(lack(&plan, "table").is_empty(), exact, "{size} {workers}: {:?}", plan.choices);
    }
    let plan = of(&Nic { reta: 0, ..igb() }, &wish(4));
    assert!(plan.reta.is_empty() && lack(&plan, "table").contains("nobody"));
    assert_eq!(BUCKETS, 128);
}

#[test]
fn hash_types_that_lack_are_named() {
    let nic = Nic { flows: ALL & !sys::POSTERN_RSS_UDP, ..igb() };
    let plan = of(&nic, &wish(2));
    assert!(lack(&plan, "hash").contains("UDP") && !lack(&plan, "hash").contains("TCP"));
    assert_eq!(plan.rss.map(|rss| rss.flows & sys::POSTERN_RSS_IPV4_UDP), Some(0));
    // A device that does not say gets a key of 40 bytes.
    assert_eq!(of(&Nic { key: 0, ..igb() }, &wish(2)).rss.map(|rss| rss.key), Some(40));
    assert_eq!(of(&Nic { key: 52, ..igb() }, &wish(2)).rss.map(|rss| rss.key), Some(52));
}

#[test]
fn descriptors_fit_the_device_and_the_difference_is_told() {
    let limits = |least, most, multiple| DescLimits { least, most, multiple };
    for (asked, limits, got) in [
        (1_024, limits(32, 4_096, 8), 1_024),
        (100, limits(32, 4_096, 32), 128),
        (1_024, limits(64, 512, 1), 512),
        (128, limits(512, 4_096, 512), 512),
        (1_024, limits(0, 0, 0), 1_024),
        (u16::MAX, limits(0, 0, 32), u16::MAX / 32 * 32),
        (1_000, limits(0, 1_000, 64), 960),
    ] {
        assert_eq!(fit(asked, limits), got, "{asked} {limits:?}");
    }
    let nic = Nic { tx_desc: limits(32, 512, 8), ..igb() };
    let plan = of(&nic, &wish(2));
    assert_eq!((plan.rx_desc, plan.tx_desc), (1_024, 512));
    assert_eq!(
        lack(&plan, "descriptors"),
        "1024 to send were asked for, 512 is the nearest that the device takes"
    );
}

#[test]
fn offloads_are_what_the_device_has_and_nobody_lies_about() {
    let plan = of(&igb(), &Wish { offloads: false, ..wish(2) });
    assert_eq!((plan.rx_offloads, plan.tx_offloads), (0, 0));
    let plan = of(&Nic { rx_offloads: sys::POSTERN_RX_IPV4_CKSUM, ..igb() }, &wish(2));
    assert_eq!(plan.rx_offloads, sys::POSTERN_RX_IPV4_CKSUM);
    assert!(!lack(&plan, "checksums").is_empty());
    let plan = of(&Nic { rx_offloads: 0, ..igb() }, &wish(2));
    assert!(!lack(&plan, "checksums").is_empty());
    for driver in ["net_virtio", "net_vmxnet3"] {
        assert_eq!(of(&Nic { driver: driver.into(), ..igb() }, &wish(2)).rx_offloads, 0, "{driver}");
    }
    assert_eq!(of(&igb(), &Wish { one_pool: false, ..wish(2) }).tx_offloads, 0);
}

#[test]
fn sent_checksums_are_left_to_a_device_that_does_both_and_is_asked() {
    let asked = Wish { tx_checksums: true, ..wish(2) };
    let plan = of(&igb(), &asked);
    assert_eq!(plan.tx_offloads, TX_CHECKSUMS | sys::POSTERN_TX_FAST_FREE);
    assert_eq!(lack(&plan, "sent checksums"), "");
    for one in [0, sys::POSTERN_TX_TCP_CKSUM, sys::POSTERN_TX_UDP_CKSUM] {
        let plan = of(&Nic { tx_offloads: one, ..igb() }, &asked);
        assert_eq!(plan.tx_offloads, 0);
        assert!(lack(&plan, "sent checksums").contains("TCP and UDP"));
    }
    let plan = of(&igb(), &wish(2));
    assert_eq!(plan.tx_offloads & TX_CHECKSUMS, 0, "most drivers pay for it: nobody has asked");
    assert!(plan.choices.iter().all(|c| c.what != "sent checksums"));
}

#[test]
fn segments_are_put_together_by_a_device_that_says_how_long_they_were() {
    let asked = Wish { lro: true, ..wish(2) };
    let virtio = Nic { driver: "net_virtio".into(), ..igb() };
    let plan = of(&virtio, &asked);
    let left = sys::POSTERN_RX_TCP_CKSUM | sys::POSTERN_RX_UDP_CKSUM;
    assert_eq!(plan.rx_offloads, sys::POSTERN_RX_LRO | sys::POSTERN_RX_SCATTER | left);
    assert_eq!(lack(&plan, "lro"), "");
    let small = Nic { rx_offloads: sys::POSTERN_RX_LRO, ..virtio.clone() };
    assert_eq!(of(&small, &asked).rx_offloads, sys::POSTERN_RX_LRO);
    let none = Nic { rx_offloads: 0, ..virtio.clone() };
    for (nic, says) in [
        (none, "does not put"),
        (Nic { driver: "mlx5_pci".into(), ..igb() }, "average"),
        (Nic { driver: "net_vmxnet3".into(), ..igb() }, "first version"),
        (igb(), "not known"),
    ] {
        let plan = of(&nic, &asked);
        assert_eq!(plan.rx_offloads & sys::POSTERN_RX_LRO, 0, "{says}");
        assert!(lack(&plan, "lro").contains(says), "{:?}", plan.choices);
    }
    let plan = of(&virtio, &wish(2));
    assert_eq!(plan.rx_offloads, 0, "nobody has asked");
    assert!(plan.choices.iter().all(|c| c.what != "lro"));
}

#[test]
fn aggregates_are_cut_by_a_device_that_can() {
    let asked = Wish { tso: true, ..wish(2) };
    let needed = sys::POSTERN_TX_TSO | sys::POSTERN_TX_MULTI_SEGS | sys::POSTERN_TX_TCP_CKSUM;
    let plan = of(&igb(), &asked);
    let ipv4 = sys::POSTERN_TX_IPV4_CKSUM;
    assert_eq!(plan.tx_offloads, needed | ipv4, "what lies in several pieces is not freed in bulk");
    assert_eq!(lack(&plan, "tso"), "");
    assert_eq!(of(&Nic { tx_offloads: ALL & !ipv4, ..igb() }, &asked).tx_offloads, needed);
    for lacks in [sys::POSTERN_TX_TSO, sys::POSTERN_TX_MULTI_SEGS] {
        let plan = of(&Nic { tx_offloads: ALL & !lacks, ..igb() }, &asked);
        assert_eq!(plan.tx_offloads, sys::POSTERN_TX_FAST_FREE);
        assert!(lack(&plan, "tso").contains("several pieces"));
    }
    assert!(lack(&of(&Nic { driver: "net_tap".into(), ..igb() }, &asked), "tso").contains("MTU"));
    assert_eq!(of(&igb(), &wish(2)).tx_offloads, sys::POSTERN_TX_FAST_FREE, "nobody has asked");
}

#[test]
fn workers_on_another_node_are_named() {
    let plan = of(&igb(), &Wish { nodes: vec![Some(0), Some(1), None], ..wish(3) });
    assert_eq!(lack(&plan, "node"), "worker 1 runs on node 1: each packet crosses between them");
    assert!(of(&Nic { node: None, ..igb() }, &wish(2)).choices.iter().all(|c| c.what != "node"));
}

#[test]
fn a_tuple_comes_in_at_the_queue_of_its_home() {
    use crate::key::ZoneId;
    use core::net::Ipv4Addr;
    let key = |protocol, port| {
        let (from, to) = (Ipv4Addr::new(10, 1, 0, 2), Ipv4Addr::new(198, 51, 100, 2));
        FlowKey::v4(protocol, ZoneId(1), (from, port), (to, 53))
    };
    for (workers, reta) in [(2, 128), (3, 128), (4, 128), (4, 512)] {
        let plan = of(&Nic { reta, ..igb() }, &wish(workers));
        let home = Home::new(u8::try_from(workers).unwrap());
        for port in 1..1_000 {
            let key = key(Protocol::Udp, port);
            let queue = Some(u16::from(home.of_tuple(&key).0));
            assert_eq!(
                (plan.rx_queue_for(&key), plan.rx_queue_for(&key.reversed(ZoneId(2)))),
                (queue, queue)
            );
        }
    }
    // Half a hash says nothing of what it does not read; a table of the driver's own is as good as any.
    let plan = of(&Nic { flows: ALL & !sys::POSTERN_RSS_UDP, ..igb() }, &wish(2));
    assert_eq!(plan.rx_queue_for(&key(Protocol::Udp, 1)), None);
    assert!(plan.rx_queue_for(&key(Protocol::Tcp, 1)).is_some());
    assert_eq!(plan.rx_queue_for(&key(Protocol::Icmp, 1)), None);
    for nic in [Nic { reta: 0, ..igb() }, Nic { pci: false, flows: 0, ..igb() }] {
        let plan = of(&nic, &wish(4));
        let queues: std::collections::BTreeSet<_> =
            (1..1_000).filter_map(|port| plan.rx_queue_for(&key(Protocol::Udp, port))).collect();
        assert_eq!(queues.into_iter().collect::<Vec<_>>(), [0, 1, 2, 3]);
    }
}
