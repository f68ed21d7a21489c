//! An exchange inside that is published by destination NAT, by static NAT, or as it is, and a phone outside that is registered
//! there and is called. The rule lets the phone in; whom the exchange calls is let out by the phone's registration alone.

use super::command::wait_until;
use super::nat::{INCOMING, Published};
use super::registered::{Ends, OFF, Registered};
use super::voice::Over;
use super::world::{CLIENT, OUTSIDE, Place, SERVER, World};
use std::time::Duration;

fn registered<'w>(world: &'w World, published: Published, over: Over, more: &str) -> Registered<'w> {
    let gateway = published.start(world, &["sip", "sip-tcp"], more);
    let called = published.called();
    let ends = Ends { phone: (Place::Server, SERVER), registrar: (Place::Client, CLIENT), called };
    let all = Registered::new(world, over, gateway, ends);
    assert!(all.place().starts_with(SERVER), "{}", all.contact);
    all
}

/// From another port than the one that it is registered at; over UDP from that one too, by the session that the phone has made.
fn calls_out(published: Published) {
    for over in Over::ALL {
        let Some(world) = World::new() else { return };
        let mut all = registered(&world, published, over, "");
        all.call_ok("another-port", (CLIENT, 5070));
        let child =
            all.gateway.audited("session-open", |r| r["application"] == "sip" && !r["parent"].is_null());
        assert_eq!(child["rule"], INCOMING);
        let seen = child["translated_source"].as_str().unwrap();
        assert!(seen.starts_with(&format!("{}:", published.called())), "{child}");
        let sound = all.gateway.audited("session-open", |r| r["application"] == "rtp");
        assert_eq!(sound["rule"], INCOMING);
        if over == Over::Udp {
            all.end_registrar();
            all.call_ok("its-own-port", (CLIENT, 5060));
        }
        assert_eq!(all.gateway.counter("alg-denied"), 0);
        assert!(all.gateway.counter("handed-off") > 0, "misrouting must hand packets over");
    }
}

#[test]
fn behind_destination_nat_it_calls_a_phone_outside() {
    calls_out(Published::Destination);
}

#[test]
fn behind_static_nat_it_calls_a_phone_outside() {
    calls_out(Published::Static);
}

#[test]
fn without_nat_it_calls_a_phone_outside() {
    calls_out(Published::Plain);
}

/// The control case: a new session is not let out, and on the phone's own the call is answered, and silent.
#[test]
fn with_the_alg_off_nobody_is_heard() {
    for published in Published::ALL {
        for over in Over::ALL {
            let Some(world) = World::new() else { return };
            if published != Published::Plain {
                // Sound that is sent to the exchange's own address comes as far as the gateway.
                world.ip(Place::Server, &format!("route add {CLIENT}/32 via {OUTSIDE}"));
            }
            let mut all = registered(&world, published, over, OFF);
            let lost = || all.gateway.counter("policy-deny");
            let before = lost();
            match over {
                Over::Tcp => {
                    let _call = all.call("another-port", (CLIENT, 5070), &all.place());
                    wait_until("the call is not let out", Duration::from_secs(20), || lost() > before);
                }
                Over::Udp => {
                    all.end_registrar();
                    let lost = || all.gateway.counter("policy-deny");
                    let _call = all.call("its-own-port", (CLIENT, 5060), &all.place());
                    wait_until("the phone speaks in vain", Duration::from_secs(20), || lost() > before + 25);
                }
            }
            all.nobody_was_heard();
            assert_eq!(all.gateway.counter("expectations-opened"), 0);
        }
    }
}
