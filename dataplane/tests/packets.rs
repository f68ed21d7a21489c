//! The body of the `packet` fuzz target on frames that were right, and of which some bytes are others now.
#![allow(clippy::unwrap_used)]

mod packets {
    pub mod script;
}

use dataplane::packet::build::{self, Ends, Tcp};
use packets::script;
use proptest::collection::vec;
use proptest::prelude::*;
use std::net::Ipv4Addr;

fn frame() -> impl Strategy<Value = Vec<u8>> {
    let ends = Ends::new([2, 0, 0, 1, 0, 2], Ipv4Addr::new(10, 1, 0, 2), [2; 6], Ipv4Addr::new(10, 9, 9, 9));
    let back = Ends::new([2; 6], Ipv4Addr::new(10, 9, 9, 9), [2, 0, 0, 1, 0, 2], Ipv4Addr::new(10, 1, 0, 2));
    let inner = build::udp(&back, 5, 53, b"asked");
    (0_u8..5, vec(any::<u8>(), 0..40), vec(any::<u8>(), 0..100)).prop_map(move |(kind, options, payload)| {
        match kind {
            0 => build::tcp(&ends, &Tcp { options: &options, ..Tcp::default() }, &payload),
            1 => build::udp(&ends, 5000, 53, &payload),
            2 => build::echo_request(&ends, 7, 1, &payload),
            3 => build::ipv4(&ends, 6, &options, &build::tcp(&ends, &Tcp::default(), &payload)[34..]),
            _ => build::ipv4(&ends, 1, &[], &[&[3, 1, 0, 0, 0, 0, 0, 0], &inner[14..], &payload].concat()),
        }
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4_096, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_frame_leads_out_of_its_bytes(
        mut frame in frame(),
        sums in any::<u8>(),
        flips in vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        behind in vec(any::<u8>(), 0..8),
    ) {
        for (at, value) in flips {
            let at = at.index(frame.len());
            frame[at] = value;
        }
        script::run(&[&[sums][..], &frame, &behind].concat());
    }

    #[test]
    fn no_bytes_do(sums in any::<u8>(), bytes in vec(any::<u8>(), 0..120)) {
        script::run(&[&[sums][..], &bytes].concat());
    }
}
