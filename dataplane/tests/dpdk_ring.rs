//! Rings carry packets unchanged; what does not fit is freed.
#![cfg(feature = "dpdk")]

mod dpdk_common;

use dataplane::{
    buf::PacketBuf,
    dpdk::{EthQueue, Mbuf, ring_pair},
    port::{BURST, Burst, Port},
};

#[test]
fn rings_carry_packets() {
    let eal = dpdk_common::eal("ring", &["ring:0"]);
    let mut pool = dpdk_common::pool(&eal, 511);

    // A ring device receives what it sent, queue by queue.
    let looped = dpdk_common::port(&eal, "net_ring0", &pool, 2);
    let (mut q0, mut q1) = (looped.queue(0).unwrap(), looped.queue(1).unwrap());
    let bytes: Vec<u8> = (0..1500_u32).map(|i| (i * 7) as u8).collect();
    let mut burst = Burst::new();
    burst.push(dpdk_common::packet(&mut pool, &bytes));
    burst.push(dpdk_common::packet(&mut pool, b"second"));
    assert_eq!(q1.tx_burst(&mut burst), 2);
    assert_eq!(q0.rx_burst(&mut burst), 0);
    assert_eq!(q1.rx_burst(&mut burst), 2);
    assert_eq!(burst[0].bytes(), bytes);
    assert_eq!(burst[1].bytes(), b"second");
    burst.clear();

    // What the device says is broken comes in no burst, wherever it stands; what was in the burst before stays.
    let mut send = |queue: &mut EthQueue, wrong: [Option<bool>; 4]| {
        let mut burst = Burst::new();
        for (n, wrong) in (0..).zip(wrong) {
            let mut packet = dpdk_common::packet(&mut pool, &[n]);
            if let Some(of_header) = wrong {
                packet.set_checksum_wrong(of_header);
            }
            burst.push(packet);
        }
        assert_eq!(queue.tx_burst(&mut burst), 4);
    };
    let first = |burst: &Burst<Mbuf>| burst.iter().map(|m| m.bytes()[0]).collect::<Vec<_>>();
    send(&mut q1, [Some(true), None, Some(false), None]);
    assert_eq!((q1.rx_burst(&mut burst), q1.refused()), (4, 0), "nobody looks");
    q1.believe(true);
    send(&mut q1, [Some(true), None, Some(false), None]);
    assert_eq!(q1.rx_burst(&mut burst), 2);
    assert_eq!(first(&burst), [0, 1, 2, 3, 1, 3]);
    assert_eq!((q1.refused(), q1.refused()), (2, 0));
    burst.clear();
    send(&mut q1, [Some(true); 4]);
    assert_eq!((q1.rx_burst(&mut burst), q1.refused()), (0, 4));
    send(&mut q1, [None; 4]);
    assert_eq!((q1.rx_burst(&mut burst), q1.refused()), (4, 0));
    burst.clear();
    assert_eq!(pool.available(), 511);

    // A pair crosses over: two workers on one side, the test on the other.
    let [a, b] = ring_pair(&eal, "pair", 2, 32).unwrap();
    let (a, b) = (dpdk_common::port(&eal, &a, &pool, 2), dpdk_common::port(&eal, &b, &pool, 2));
    let worker = |index: u16| {
        let mut queue = b.queue(index).unwrap();
        move || {
            let mut burst = Burst::new();
            while queue.rx_burst(&mut burst) == 0 {
                std::hint::spin_loop();
            }
            for packet in &mut burst {
                packet.bytes_mut().reverse();
            }
            assert_eq!(queue.tx_burst(&mut burst), 1);
        }
    };
    let workers = [std::thread::spawn(worker(0)), std::thread::spawn(worker(1))];
    let (mut a0, mut a1) = (a.queue(0).unwrap(), a.queue(1).unwrap());
    burst.push(dpdk_common::packet(&mut pool, b"abc"));
    assert_eq!(a0.tx_burst(&mut burst), 1);
    burst.push(dpdk_common::packet(&mut pool, b"xyz"));
    assert_eq!(a1.tx_burst(&mut burst), 1);
    for worker in workers {
        worker.join().unwrap();
    }
    assert_eq!((a0.rx_burst(&mut burst), a1.rx_burst(&mut burst)), (1, 1));
    assert_eq!((burst[0].bytes(), burst[1].bytes()), (&b"cba"[..], &b"zyx"[..]));
    burst.clear();
    assert_eq!(pool.available(), 511);

    // The ring holds 31. The rest is freed at once, in order from the end.
    for i in 0..BURST {
        burst.push(dpdk_common::packet(&mut pool, &[i as u8]));
    }
    assert_eq!(a0.tx_burst(&mut burst), 31);
    assert!(burst.is_empty());
    assert_eq!(pool.available(), 511 - 31);
    let mut b0 = b.queue(0).unwrap();
    assert_eq!(b0.rx_burst(&mut burst), 31);
    assert!(burst.iter().enumerate().all(|(i, m)| m.bytes() == [i as u8]));
    burst.clear();
    assert_eq!(pool.available(), 511);

    // What lies in the rings when the ports close comes back too.
    for queue in [&mut a0, &mut b0, &mut q0] {
        burst.push(dpdk_common::packet(&mut pool, b"left behind"));
        assert_eq!(queue.tx_burst(&mut burst), 1);
    }
    assert_eq!(pool.available(), 508);
    drop((q0, q1, looped));
    drop((a0, a1, b0, a, b));
    assert_eq!(pool.available(), 511);
}
