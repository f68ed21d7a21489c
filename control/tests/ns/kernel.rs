//! The bench proves itself: the same peers with the kernel as the router, without `posternd`. If these fail, the
//! machine or the harness is at fault, not the gateway.

use super::peers::{FtpServer, Mode, ping, tcp_echo};
use super::world::{CLIENT, INSIDE, OUTSIDE, Place, SERVER, World};
use super::{bulk, command::run};

/// A world in which the kernel forwards and the server knows the way back.
pub fn routed() -> Option<World> {
    let world = World::new()?;
    world.set(Place::Gateway, "net.ipv4.ip_forward=1");
    world.ip(Place::Gateway, &format!("addr add {INSIDE}/24 dev pgw0"));
    world.ip(Place::Gateway, &format!("addr add {OUTSIDE}/24 dev pgw1"));
    world.ip(Place::Server, &format!("route add default via {OUTSIDE}"));
    Some(world)
}

#[test]
fn peers_reach_each_other() {
    let Some(world) = routed() else { return };
    ping(&world, &["-c", "1", "-w", "5", SERVER]).expect_ok("ping");
    let _echo = tcp_echo(&world, 7000);
    bulk::udp_datagrams_return(&world);
    bulk::stream_arrives_both_ways(&world);
}

#[test]
fn ftp_works_in_every_mode() {
    let Some(world) = routed() else { return };
    let server = FtpServer::start(&world);
    for mode in Mode::ALL {
        server.fetch_ok(&world, mode);
        server.send_ok(&world, mode);
    }
    // Untranslated, as the client sent it.
    server.saw(&format!("\"PORT {},", CLIENT.replace('.', ",")));
    server.saw(&format!("\"EPRT |1|{CLIENT}|"));
}

#[test]
fn without_a_router_nothing_arrives() {
    let Some(world) = World::new() else { return };
    ping(&world, &["-c", "2", "-i", "0.2", "-w", "2", SERVER]).expect_failure("ping without a gateway");
    // Nor is there another way out.
    let routes = run(world.command(Place::Server, "ip").args(["route", "get", CLIENT]));
    routes.expect_failure("a route from the server to the client");
}
