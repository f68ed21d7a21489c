//! FTP through the gateway: vsftpd and curl, with the ALG and without. The rule allows the control port and nothing
//! else, so a data connection passes only as an expected child.

use super::gateway::{Config, Gateway};
use super::nat::{CALLED, Nat};
use super::peers::{FILE_SIZE, FtpServer, Mode, same_content};
use super::world::{CLIENT, OUTSIDE, Place, SERVER, World};

/// Only the service `ftp` is allowed: port 21 and, where its ALG is on, what that negotiates.
fn only_ftp() -> Config {
    Config::allowing(&["ftp"])
}

/// Download and upload in one mode, both complete; what the server saw, and the records of it.
fn both_ways(mode: Mode, config: &Config) {
    let Some(world) = World::new() else { return };
    let gateway = Gateway::start(&world, config);
    let server = FtpServer::start(&world);
    server.fetch_ok(&world, mode);
    server.send_ok(&world, mode);

    let (before, after) = match mode {
        Mode::Port => (format!("PORT {},", comma(CLIENT)), format!("PORT {},", comma(OUTSIDE))),
        Mode::Eprt => (format!("EPRT |1|{CLIENT}|"), format!("EPRT |1|{OUTSIDE}|")),
        Mode::Pasv | Mode::Epsv => (mode.command().to_owned(), mode.command().to_owned()),
    };
    server.saw(&format!("\"{after}"));
    if matches!(mode, Mode::Port | Mode::Eprt) {
        assert!(!server.protocol().contains(CLIENT), "the inside address leaked:\n{}", server.protocol());
        assert!(
            !server.protocol().contains(&comma(CLIENT)),
            "the inside address leaked:\n{}",
            server.protocol()
        );
        gateway.audited("alg-message", |r| r.to_string().contains(&before) && r.to_string().contains(&after));
    }
    // Nothing of the control connections was lost, their ends included.
    assert_eq!(gateway.counter("stream-conflicts"), 0);
    // A child for the download and one for the upload, each with its parent's rule and its own translation.
    assert_eq!(gateway.counter("expectations-opened"), 2);
    assert_eq!(gateway.counter("expectations-hit"), 2);
    let opened = gateway.audited("expectation-opened", |r| r["application"] == "ftp-data");
    let hit = gateway.audited("expectation-hit", |r| r["id"] == opened["id"]);
    let child = gateway.audited("session-open", |r| r["id"] == hit["child"]);
    assert_eq!(child["parent"], opened["parent"]);
    assert_eq!(child["application"], "ftp-data");
    assert_eq!(child["rule"], "under test");
    let (inside, outside) = match mode {
        Mode::Port | Mode::Eprt => ("translated_destination", "destination"),
        Mode::Pasv | Mode::Epsv => ("source", "translated_source"),
    };
    let has = |field: &str, address: &str| {
        let value = child[field].as_str().unwrap_or_default();
        assert!(value.starts_with(&format!("{address}:")), "{field} is {value}, not {address}");
    };
    has(inside, CLIENT);
    has(outside, OUTSIDE);
}

/// An address, as PORT and 227 have it.
pub fn comma(address: &str) -> String {
    address.replace('.', ",")
}

#[test]
fn pasv() {
    both_ways(Mode::Pasv, &only_ftp());
}

#[test]
fn epsv() {
    both_ways(Mode::Epsv, &only_ftp());
}

#[test]
fn port() {
    both_ways(Mode::Port, &only_ftp());
}

#[test]
fn eprt() {
    both_ways(Mode::Eprt, &only_ftp());
}

#[test]
fn every_mode_survives_misrouting() {
    let Some(world) = World::new() else { return };
    let gateway = Gateway::start(&world, &Config { misroute: true, ..only_ftp() });
    let server = FtpServer::start(&world);
    for mode in Mode::ALL {
        server.fetch_ok(&world, mode);
    }
    assert!(gateway.counter("handed-off") > 0, "misrouting must hand packets over");
    assert_eq!(gateway.counter("expectations-hit"), 4);
}

#[test]
fn a_close_record_carries_the_bytes_of_the_child() {
    let Some(world) = World::new() else { return };
    let gateway = Gateway::start(&world, &Config { time_wait: 1, ..only_ftp() });
    let server = FtpServer::start(&world);
    server.fetch_ok(&world, Mode::Port);
    let record = gateway.audited("session-close", |r| r["application"] == "ftp-data");
    assert_eq!(record["close_reason"], "fin", "{record}");
    // The server opened it, and sent the file; its headers count too.
    let sent = record["bytes"][0].as_u64().unwrap();
    let size = FILE_SIZE as u64;
    assert!((size..size + size / 10).contains(&sent), "{record}");
    assert!(record["packets"][0].as_u64().unwrap() > size / 1500, "{record}");
}

pub const OFF: &str = "[[alg]]\nname = \"no-ftp\"\nprotocol = \"ftp\"\nmode = \"off\"\n";

/// Every mode, there and back, through one translation.
fn through(nat: Nat) {
    let Some(world) = World::new() else { return };
    let gateway = nat.start(&world, "ftp", "");
    let server = FtpServer::start(&world);
    for mode in Mode::ALL {
        let (output, target) = server.fetch_at(&world, mode, nat.called());
        output.expect_ok(&format!("download with {} through {nat:?}", mode.command()));
        same_content(&target, &server.content);
        server.send_to(&world, mode, nat.called());
        server.saw(&format!("\"{}", mode.command()));
    }
    // The server reads the address that it can call, and the client the one that it has called.
    let client = if nat.translates_the_client() { OUTSIDE } else { CLIENT };
    server.saw(&format!("\"PORT {},", comma(client)));
    server.saw(&format!("\"EPRT |1|{client}|"));
    let read = |text: &str| gateway.audited("alg-message", |r| r["after"].to_string().contains(text));
    read(&format!("({},", comma(nat.called())));
    // A child for each transfer, and no other session but the control sessions.
    assert_eq!(gateway.counter("expectations-opened"), 8);
    assert_eq!(gateway.counter("expectations-hit"), 8);
    assert_eq!(gateway.counter("sessions-opened"), 16);
    // The two directions that children open in, as each end sees them.
    let child = |fits: &dyn Fn(&serde_json::Value) -> bool| {
        gateway.audited("session-open", |r| r["application"] == "ftp-data" && fits(r))
    };
    let starts = |value: &serde_json::Value, addr: &str| {
        value.as_str().is_some_and(|value| value.starts_with(&format!("{addr}:")))
    };
    let passive = child(&|r| starts(&r["source"], CLIENT));
    for (field, addr) in
        [("destination", nat.called()), ("translated_source", client), ("translated_destination", SERVER)]
    {
        assert!(starts(&passive[field], addr), "{field} of {passive}");
    }
    let active = child(&|r| r["source"] == format!("{SERVER}:20"));
    assert_eq!(active["translated_source"], format!("{}:20", nat.called()), "{active}");
    for (field, addr) in [("destination", client), ("translated_destination", CLIENT)] {
        assert!(starts(&active[field], addr), "{field} of {active}");
    }
}

/// The same with the ALG off: no mode gets a data connection, and the control connection is not to blame.
fn without_the_alg(nat: Nat) {
    let Some(world) = World::new() else { return };
    let gateway = nat.start(&world, "ftp", OFF);
    let server = FtpServer::start(&world);
    server.fetch_none(&world, nat.called(), 8);
    // Nobody changed what the client said of itself.
    server.saw(&format!("\"PORT {},", comma(CLIENT)));
    server.saw(&format!("\"EPRT |1|{CLIENT}|"));
    assert_eq!((gateway.counter("expectations-opened"), gateway.counter("sessions-opened")), (0, 4));
    let refused = ["policy-deny", "nat-no-session", "local-unsupported"].map(|name| gateway.counter(name));
    assert!(refused.iter().sum::<u64>() > 0, "no data connection was tried: {refused:?}");
    // From outside as well, where the server has agreed to call.
    if !nat.translates_the_client() {
        gateway.audited("deny", |r| r["source"] == format!("{SERVER}:20"));
    }
}

#[test]
fn every_mode_through_source_nat() {
    through(Nat::Source);
}

#[test]
fn every_mode_through_destination_nat() {
    through(Nat::Destination);
}

#[test]
fn every_mode_through_both() {
    through(Nat::Both);
}

#[test]
fn every_mode_without_nat() {
    through(Nat::None);
}

#[test]
fn no_mode_through_source_nat_without_the_alg() {
    without_the_alg(Nat::Source);
}

#[test]
fn no_mode_through_destination_nat_without_the_alg() {
    without_the_alg(Nat::Destination);
}

#[test]
fn no_mode_through_both_without_the_alg() {
    without_the_alg(Nat::Both);
}

#[test]
fn no_mode_without_nat_and_without_the_alg() {
    without_the_alg(Nat::None);
}

/// The server's port is translated too: the client as it is, and translated. The client believes the address in 227, and the
/// server calls back from port 20.
#[test]
fn the_server_behind_another_port() {
    let more = "[[nat]]\ntype = \"destination\"\nfrom = \"trust\"\ndestination = [\"10.1.0.100\"]\n\
                service = [\"tcp/2121\"]\ntranslate = \"198.51.100.2:21\"\n";
    for source_nat in [false, true] {
        let Some(world) = World::new() else { return };
        if !source_nat {
            world.ip(Place::Server, &format!("route add {CLIENT}/32 via {OUTSIDE}"));
        }
        let gateway = Gateway::start(&world, &Config { source_nat, more, misroute: true, ..only_ftp() });
        let server = FtpServer::start(&world);
        for mode in Mode::ALL {
            let (output, target) = server.fetch_at(&world, mode, &format!("{CALLED}:2121"));
            output.expect_ok(&format!("download with {} of {CALLED}", mode.command()));
            same_content(&target, &server.content);
            server.saw(&format!("\"{}", mode.command()));
        }
        let seen = if source_nat { OUTSIDE } else { CLIENT };
        server.saw(&format!("\"PORT {},", comma(seen)));
        gateway.audited("alg-message", |r| {
            r.to_string().contains(&format!("({},", comma(SERVER)))
                && r.to_string().contains(&format!("({},", comma(CALLED)))
        });
        // The server is seen at the address that was called, also when it calls.
        let passive = gateway.audited("session-open", |r| r["application"] == "ftp-data");
        assert!(passive["destination"].as_str().unwrap().starts_with(&format!("{CALLED}:")), "{passive}");
        let active = gateway.audited("session-open", |r| r["source"] == format!("{SERVER}:20"));
        assert_eq!(active["translated_source"], format!("{CALLED}:20"), "{active}");
        assert_eq!(gateway.counter("expectations-hit"), 4);
    }
}

const DETECT: &str = "[[alg]]\nname = \"any-port\"\nprotocol = \"ftp\"\ndetect = true\n";

/// A port that no service and no profile names: the server's greeting says what it is, or the client's first command where
/// the greeting does not.
#[test]
fn every_mode_on_a_port_that_says_nothing() {
    for banner in ["", "ftpd_banner=Welcome\n"] {
        let Some(world) = World::new() else { return };
        let config = Config { more: DETECT, misroute: true, ..Config::allowing(&["tcp/2121"]) };
        let gateway = Gateway::start(&world, &config);
        let server = FtpServer::start_at(&world, 2121, banner);
        let place = format!("{SERVER}:2121");
        for mode in Mode::ALL {
            let (output, target) = server.fetch_at(&world, mode, &place);
            output.expect_ok(&format!("download with {} on another port", mode.command()));
            same_content(&target, &server.content);
            server.send_to(&world, mode, &place);
            server.saw(&format!("\"{}", mode.command()));
        }
        server.saw(&format!("\"PORT {},", comma(OUTSIDE)));
        server.saw(&format!("\"EPRT |1|{OUTSIDE}|"));
        gateway.audited("alg-bound", |r| r["application"] == "ftp");
        assert_eq!((gateway.counter("alg-detected"), gateway.counter("alg-undetected")), (8, 0));
        assert_eq!((gateway.counter("expectations-opened"), gateway.counter("expectations-hit")), (8, 8));
    }
}

/// The same where nobody asks.
#[test]
fn no_mode_on_a_port_that_says_nothing_where_nobody_looks() {
    let Some(world) = World::new() else { return };
    let gateway = Gateway::start(&world, &Config::allowing(&["tcp/2121"]));
    let server = FtpServer::start_at(&world, 2121, "");
    server.fetch_none(&world, &format!("{SERVER}:2121"), 8);
    server.saw(&format!("\"PORT {},", comma(CLIENT)));
    assert_eq!((gateway.counter("expectations-opened"), gateway.counter("sessions-opened")), (0, 4));
}
