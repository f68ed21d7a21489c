//! The cables: TAP interfaces that QEMU has made in its namespace, moved to the client and the server.

use crate::command::run;
use crate::nics::Pair;
use crate::world::{CLIENT, INSIDE, Place, SERVER, World, name};
use std::fs::File;
use std::os::fd::AsFd as _;

/// Plugs the pair's cables in, as `eth0` of the client and of the server. `last`: the pair that has them until now; none
/// where they are still those of a world without a guest.
#[track_caller]
pub fn plug(world: &World, pair: &Pair, last: Option<&Pair>) {
    for (place, mac, address) in
        [(Place::Client, "02:00:00:00:00:c1", CLIENT), (Place::Server, "02:00:00:00:00:51", SERVER)]
    {
        let tap = pair.tap(place);
        match last {
            None => world.ip(place, "link del eth0"),
            // QEMU holds it: it goes back to where it was made.
            Some(last) => {
                let home = name(Place::Gateway);
                world.ip(place, &format!("link set eth0 netns {home} name {}", last.tap(place)));
            }
        }
        world.ip(Place::Gateway, &format!("link set {tap} netns {}", name(place)));
        world.ip(place, &format!("link set {tap} down"));
        world.ip(place, &format!("link set {tap} name eth0 address {mac}"));
        // What the kernel leaves to hardware would reach the guest undone, unless its NIC takes that.
        let off = ["tx", "off", "rx", "off", "gro", "off", "gso", "off", "tso", "off"];
        if !pair.family.merges {
            run(world.command(place, "ethtool").args(["-K", "eth0"]).args(off)).expect_ok("ethtool -K");
        }
        world.ip(place, "link set eth0 up");
        world.ip(place, &format!("addr add {address}/24 dev eth0"));
    }
    world.ip(Place::Client, &format!("route add default via {INSIDE}"));
}

/// Does something in a place's network namespace: sockets that it opens belong there for good.
#[track_caller]
pub fn in_place<T: Send>(place: Place, what: impl FnOnce() -> T + Send) -> T {
    let namespace = File::open(format!("/run/netns/{}", name(place))).unwrap();
    std::thread::scope(|scope| {
        let there = scope.spawn(|| {
            use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
            move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
            what()
        });
        there.join().unwrap()
    })
}
