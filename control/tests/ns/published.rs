//! Servers inside that clients outside call: by destination NAT, as one publishes them; by static NAT; and as they are. With the
//! ALG and without: the rule lets the control port in, and nothing out.

use super::command::wait_until;
use super::ftp::comma;
use super::nat::{INCOMING, Published};
use super::peers::{FtpServer, Mode, same_content};
use super::world::{CLIENT, Place, SERVER, World};
use super::{ftp, rtsp, tftp};
use serde_json::Value;
use std::time::Duration;

/// A field of a record names this address.
#[track_caller]
fn names(record: &Value, field: &str, address: &str) {
    let value = record[field].as_str().unwrap_or_default();
    assert!(value.starts_with(&format!("{address}:")), "{field} is {value}, not {address}: {record}");
}

/// Every mode, there and back.
fn files(published: Published) {
    let Some(world) = World::new() else { return };
    let gateway = published.start(&world, &["ftp"], "");
    let server = FtpServer::start_inside(&world);
    for mode in Mode::ALL {
        let (output, target) = server.fetch_at(&world, mode, published.called());
        output.expect_ok(&format!("download with {}, {published:?}", mode.command()));
        same_content(&target, &server.content);
        server.send_to(&world, mode, published.called());
        server.saw(&format!("\"{}", mode.command()));
    }
    server.saw(&format!("\"PORT {},", comma(SERVER)));
    gateway.audited("alg-message", |r| {
        r["after"].to_string().contains(&format!("({},", comma(published.called())))
    });
    assert_eq!((gateway.counter("expectations-opened"), gateway.counter("expectations-hit")), (8, 8));
    assert_eq!((gateway.counter("sessions-opened"), gateway.counter("alg-denied")), (16, 0));
    // The two directions that children open in, as each end sees them.
    let child = |source: &str| {
        let of = |r: &Value| r["source"].as_str().is_some_and(|from| from.starts_with(source));
        gateway.audited("session-open", |r| r["application"] == "ftp-data" && of(r))
    };
    let passive = child(&format!("{SERVER}:"));
    names(&passive, "destination", published.called());
    names(&passive, "translated_destination", CLIENT);
    let active = child(&format!("{CLIENT}:20"));
    assert_eq!(active["translated_source"], format!("{}:20", published.called()), "{active}");
    for child in [passive, active] {
        assert_eq!(child["rule"], INCOMING);
    }
}

#[test]
fn ftp_through_destination_nat() {
    files(Published::Destination);
}

#[test]
fn ftp_through_static_nat() {
    files(Published::Static);
}

#[test]
fn ftp_without_nat() {
    files(Published::Plain);
}

#[test]
fn no_mode_of_ftp_without_the_alg() {
    for published in Published::ALL {
        let Some(world) = World::new() else { return };
        let gateway = published.start(&world, &["ftp"], ftp::OFF);
        let server = FtpServer::start_inside(&world);
        server.fetch_none(&world, published.called(), 3);
        assert_eq!((gateway.counter("expectations-opened"), gateway.counter("sessions-opened")), (0, 4));
        // The server has tried to call back.
        gateway.audited("deny", |r| r["source"] == format!("{CLIENT}:20"));
    }
}

#[test]
fn tftp() {
    for published in Published::ALL {
        let Some(world) = World::new() else { return };
        let gateway = published.start(&world, &["tftp"], "");
        let server = tftp::Server::start_inside(&world);
        server.serves(&world, published.called());
        assert_eq!((gateway.counter("expectations-opened"), gateway.counter("expectations-hit")), (4, 4));
        assert_eq!(gateway.counter("alg-denied"), 0);
        let child = gateway.audited("session-open", |r| r["application"] == "tftp-data");
        assert_eq!(child["rule"], INCOMING);
        // The server opens the transfer, and is seen at the address that was called.
        names(&child, "source", CLIENT);
        names(&child, "translated_source", published.called());
        names(&child, "destination", SERVER);
    }
}

#[test]
fn no_transfer_of_tftp_without_the_alg() {
    for published in Published::ALL {
        let Some(world) = World::new() else { return };
        let gateway = published.start(&world, &["tftp"], tftp::OFF);
        let server = tftp::Server::start_inside(&world);
        server.serves_nobody(&world, published.called());
        assert!(gateway.counter("policy-deny") >= 4, "{published:?}");
        assert_eq!(gateway.counter("expectations-opened"), 0);
    }
}

#[test]
fn rtsp_over_udp() {
    for published in Published::ALL {
        let Some(world) = World::new() else { return };
        let gateway = published.start(&world, &["rtsp"], "");
        let _server = rtsp::server_at(&world, Place::Client, (CLIENT, 554));
        let mut client = rtsp::Client::from(&world, Place::Server, published.called(), "udp", 60);
        let _player = client.play(&world);
        let what = format!("both tracks play, {published:?}");
        wait_until(&what, Duration::from_secs(20), || client.plays());
        wait_until("RTCP goes both ways", Duration::from_secs(20), || {
            let both = |s: &Value| s["packets"].as_array().unwrap().iter().all(|n| n.as_u64() > Some(0));
            gateway.sessions("rtcp").iter().filter(|s| both(s)).count() == 2
        });
        assert_eq!((gateway.counter("expectations-hit"), gateway.counter("alg-denied")), (4, 0));
        let sound = gateway.audited("session-open", |r| r["application"] == "rtp");
        assert_eq!(sound["rule"], INCOMING);
    }
}

#[test]
fn nothing_of_rtsp_plays_without_the_alg() {
    for published in Published::ALL {
        let Some(world) = World::new() else { return };
        let gateway = published.start(&world, &["rtsp"], rtsp::OFF);
        let _server = rtsp::server_at(&world, Place::Client, (CLIENT, 554));
        let mut client = rtsp::Client::from(&world, Place::Server, published.called(), "udp", 20);
        client.plays_nothing(&format!("without an ALG, {published:?}"));
        assert!(gateway.counter("policy-deny") > 0, "{published:?}");
        assert_eq!(gateway.counter("expectations-opened"), 0);
    }
}
