//! Packets come from a pool and go back to it, on whatever thread.
#![cfg(feature = "dpdk")]

mod dpdk_common;

use dataplane::{
    buf::BufPool,
    dpdk::{Mempool, MempoolError, lcore},
    port::Burst,
};

#[test]
fn every_packet_comes_back() {
    let eal = dpdk_common::eal("mempool", &[]);
    let mut pool = dpdk_common::pool(&eal, 255);
    assert_eq!((pool.size(), pool.available()), (255, 255));

    let one = pool.alloc().unwrap();
    assert_eq!(pool.available(), 254);
    drop(one);
    assert_eq!(pool.available(), 255);

    let mut burst = Burst::new();
    assert!(pool.alloc_bulk(&mut burst, 40));
    assert!(!pool.alloc_bulk(&mut burst, 25), "the burst has room for 24");
    assert_eq!((burst.len(), pool.available()), (40, 215));
    burst.clear();
    assert_eq!(pool.available(), 255);

    let all: Vec<_> = std::iter::from_fn(|| pool.alloc()).collect();
    assert_eq!((all.len(), pool.available()), (255, 0));
    assert!(!pool.alloc_bulk(&mut burst, 1), "an empty pool gives nothing");

    // Freed on an lcore of another thread, where they pass through that lcore's own cache.
    std::thread::spawn({
        let eal = eal.clone();
        move || {
            let lcore = lcore::register(&eal, None).unwrap();
            assert_ne!(lcore.id(), 0, "the main thread has that");
            drop(all);
        }
    })
    .join()
    .unwrap();
    assert_eq!(pool.available(), 255);

    let too_large = Mempool::create(&eal, "huge", 10_000_000, 0, None).err().unwrap();
    assert!(matches!(too_large, MempoolError::Create { .. }), "{too_large}");
    assert!(
        too_large.to_string().starts_with("no packet pool of 10000000 buffers (22583 MB): "),
        "{too_large}"
    );
    let taken = Mempool::create(&eal, "packets", 63, 0, None).err().unwrap();
    assert!(taken.to_string().contains("exists"), "{taken}");
    assert!(matches!(Mempool::create(&eal, "", 63, 0, None), Err(MempoolError::Name(_))));
}
