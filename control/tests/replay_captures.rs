//! `posternd replay`: captures that are odd, broken or spoilt by the host that made them; and its command line.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod film;

use alg::Side::{Initiator, Responder};
use control::replay::ReplayError;
use dataplane::packet::build;
use dataplane::packet::flag::{ACK, PSH, SYN};
use film::*;
use serde_json::{Value, json};
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::Command;

fn studio(film: &Film) -> Studio {
    Studio::new(&[LINKS, RULES].concat(), &film.pcap())
}

#[test]
fn what_does_not_pass_the_gateway_is_counted_and_why() {
    let mut film = Film::new();
    let neighbor = Ipv4Addr::new(10, 1, 0, 3);
    film.frame(build::udp(&ends(CLIENT, neighbor), 1, 2, b"both inside"));
    film.frame(build::udp(&ends(SERVER, GATEWAY), 1, 2, b"both outside"));
    film.frame(build::arp_request([2, 0, 0, 0, 0, 9], CLIENT, neighbor));
    film.frame(build::ethernet([2, 0, 0, 0, 0, 9], [2, 0, 0, 0, 0, 8], 0x88cc, b"link layer discovery"));
    let mut v6 = vec![0x60, 0, 0, 0, 0, 8, 17, 64];
    v6.extend([0x20; 16]);
    v6.extend([0x21; 16]);
    v6.extend([0, 1, 0, 2, 0, 8, 0, 0]);
    film.frame(build::ethernet([2, 0, 0, 0, 0, 9], [2, 0, 0, 0, 0, 8], 0x86dd, &v6));
    let group = Ipv4Addr::new(239, 1, 1, 1);
    film.frame(build::udp(&ends(CLIENT, group), 1, 2, b"to a group"));
    let mut cut = build::udp(&ends(CLIENT, SERVER), 1, 2, &[0; 200]);
    let wire = cut.len();
    cut.truncate(60);
    film.packets.push((film.now, wire, cut));
    let mut no_length = build::udp(&ends(CLIENT, SERVER), 1, 2, b"longer than it is");
    no_length[16] = 9;
    film.frame(no_length);
    let mut studio = studio(&film);
    let report = studio.report();
    assert_eq!(
        report["drops"],
        json!({
            "same-side": 3, // IPv6 from outside to outside among them
            "eth-type-unsupported": 1,
            "ipv4-multicast": 1,
            "capture-truncated": 1,
            "ipv4-checksum": 1,
        })
    );
    assert_eq!((&report["packets"], &report["forwarded"]), (&json!(8), &json!(0)));
    let ignored = events(&report, "ignored");
    assert_eq!((&ignored[0]["reason"], &ignored[0]["packets"]), (&json!("arp"), &json!(1)));
    assert_eq!(flows(&report), &Vec::<Value>::new());

    // With the right networks inside, IPv6 meets the gateway, which has no IPv6 yet.
    studio.options.inside.push("2020::/16".parse().unwrap());
    assert_eq!(studio.report()["drops"]["eth-type-unsupported"], 2);
}

/// The conversation of [`Film::ftp`] and a passive transfer, each packet changed.
fn spoilt(change: impl Fn(&mut Vec<u8>)) -> Film {
    let mut film = Film::new();
    let mut ftp = film.ftp();
    film.say(&mut ftp, Initiator, "PASV\r\n");
    film.say(&mut ftp, Responder, format!("227 Passive ({}).\r\n", six(SERVER, 50_009)));
    film.transfer((CLIENT, 50_001), (SERVER, 50_009), Responder);
    for (_, wire, frame) in &mut film.packets {
        change(frame);
        *wire = frame.len();
    }
    film
}

#[track_caller]
fn assert_whole(report: &Value) {
    assert_eq!(report["drops"], json!({}));
    assert_eq!(report["expectations"]["hit"], 1);
    assert_eq!(report["forwarded"], report["packets"]);
}

#[test]
fn vlan_tags_are_taken_off() {
    let film = spoilt(|frame| {
        frame.splice(12..12, [0x88, 0xa8, 0, 7, 0x81, 0, 0, 42]);
    });
    let report = studio(&film).report();
    assert_whole(&report);
    assert_eq!(events(&report, "vlan-tags-removed")[0]["packets"], report["packets"]);
}

#[test]
fn checksums_that_were_left_to_the_nic_are_put_right_and_others_only_if_asked() {
    // As Linux leaves it: the sum of the pseudo header.
    let partial = spoilt(|frame| {
        let len = (frame.len() - 34) as u32;
        let words = frame[26..34].chunks(2).map(|w| u32::from(w[0]) << 8 | u32::from(w[1]));
        let sum = words.sum::<u32>() + 6 + len;
        let sum = (sum & 0xffff) + (sum >> 16);
        let sum = (sum & 0xffff) + (sum >> 16);
        frame[50..52].copy_from_slice(&(sum as u16).to_be_bytes());
    });
    let report = studio(&partial).report();
    assert_whole(&report);
    assert_eq!(events(&report, "checksums-repaired")[0]["packets"], report["packets"]);

    let wrong = spoilt(|frame| frame[51] ^= 0x55);
    let mut studio = studio(&wrong);
    assert!(studio.report()["drops"]["tcp-checksum"].as_u64().unwrap() > 0);
    studio.options.fix_checksums = true;
    assert_whole(&studio.report());
}

#[test]
fn segments_that_the_nic_was_to_cut_go_through_whole() {
    let mut film = Film::new();
    let mut ftp = film.ftp();
    film.say(&mut ftp, Initiator, "PASV\r\n");
    film.say(&mut ftp, Responder, format!("227 Passive ({}).\r\n", six(SERVER, 50_009)));
    let mut data = film.open((CLIENT, 50_001), (SERVER, 50_009));
    film.say(&mut data, Responder, vec![7; 40_000]);
    let mut frame = data.segment(Responder, PSH | ACK, &[8; 60_000]);
    frame[16..18].copy_from_slice(&[0, 0]);
    film.frame(frame);
    let report = studio(&film).report();
    assert_whole(&report);
    assert_eq!(events(&report, "lengths-repaired")[0]["packets"], 1);
    assert_eq!(flows(&report)[1]["bytes"][1].as_u64().unwrap(), 40_000 + 60_000 + 4 * 40 - 40);
}

#[test]
fn a_capture_without_ethernet_is_as_good() {
    for (link, header) in
        [(101_u32, &[][..]), (0, &[2, 0, 0, 0]), (113, &[0, 0, 0, 1, 0, 6, 1, 2, 3, 4, 5, 6, 0, 0, 8, 0])]
    {
        let film = spoilt(|frame| {
            frame.splice(..14, header.iter().copied());
        });
        let mut file = film.pcap();
        file[20..24].copy_from_slice(&link.to_le_bytes());
        assert_whole(&Studio::new(&[LINKS, RULES].concat(), &file).report());
    }
}

#[test]
fn a_link_layer_that_is_not_understood_is_counted() {
    let mut film = Film::new();
    film.ftp();
    let mut file = film.pcap();
    file[20] = 127;
    let report = Studio::new(&[LINKS, RULES].concat(), &file).report();
    assert_eq!(report["drops"], json!({"link-unsupported": film.packets.len()}));
}

#[test]
fn fragments_belong_to_the_flow_of_the_first_one() {
    let whole = build::udp(&ends(CLIENT, SERVER), 5_000, 21, &[5; 64]);
    let piece = |from: usize, to: usize, more: u8| {
        let mut out = whole[..34].to_vec();
        out.extend(&whole[34 + from..34 + to]);
        out[16..18].copy_from_slice(&((20 + to - from) as u16).to_be_bytes());
        out[18..20].copy_from_slice(&[0x12, 0x34]);
        out[20..22].copy_from_slice(&[more << 5, (from / 8) as u8]);
        out[24..26].copy_from_slice(&[0, 0]);
        out
    };
    let mut film = Film::new();
    film.frame(piece(0, 40, 1));
    film.frame(piece(40, 72, 0));
    let report = studio(&film).report();
    let drops: u64 = report["drops"].as_object().unwrap().values().map(|n| n.as_u64().unwrap()).sum();
    assert!(drops > 0, "no rule allows it: {report:#}");
    assert_eq!(events(&report, "checksums-repaired")[0]["packets"], 2, "the header's, left at 0");
}

#[test]
fn a_capture_that_is_cut_short_is_reported_as_far_as_it_goes() {
    let mut film = Film::new();
    let mut ftp = film.ftp();
    film.close(&mut ftp, Initiator);
    let file = film.pcap();
    let studio = Studio::new(&[LINKS, RULES].concat(), &file[..file.len() - 3]);
    let (done, text) = studio.run();
    let error = done.unwrap_err();
    assert!(error.is_input());
    assert!(error.to_string().contains("in.pcap: cut short at byte"), "{error}");
    let report: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(report["packets"], film.packets.len() - 1);
}

#[test]
fn merged_captures_keep_their_own_dates() {
    let mut film = Film::new();
    film.ftp();
    film.now -= 86_400_000 * 1_000_000;
    let mut other = film.open((CLIENT, 41_000), (SERVER, 21));
    film.close(&mut other, Initiator);
    let report = studio(&film).report();
    assert_eq!(report["drops"], json!({}));
    assert_eq!(events(&report, "time-ran-backwards")[0]["packets"], 1);
    let opened = events(&report, "session-open");
    assert!(opened[1]["time"].as_str().unwrap().starts_with("2024-02-29T12:00:00"), "{opened:?}");
}

/// `posternd replay` with these arguments: exit status, standard output and error.
fn posternd(studio: &Studio, args: &[&str]) -> (i32, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_posternd"))
        .arg("replay")
        .args(args)
        .current_dir(studio.dir.path())
        .output()
        .unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

#[test]
fn the_command_says_what_is_wrong_and_exits_with_2() {
    let mut film = Film::new();
    film.ftp();
    let studio = studio(&film);
    let usual = ["--config", "postern.toml", "--capture", "in.pcap", "--inside", "10.0.0.0/8"];
    let (status, out, err) = posternd(&studio, &[&usual[..], &["--json", "--write", "out.pcapng"]].concat());
    assert_eq!((status, err.as_str()), (0, ""), "{out}");
    assert_eq!(serde_json::from_str::<Value>(&out).unwrap()["packets"], film.packets.len());
    assert!(studio.output().exists());

    let write = |name: &str, bytes: &[u8]| std::fs::write(studio.dir.path().join(name), bytes).unwrap();
    write("text.pcap", b"this is a text and nothing else");
    write("bad.toml", b"[[interface]]\nnam = \"inside\"\n");
    write(
        "one.toml",
        b"[[interface]]\nname = \"a\"\ndevice = \"ring:0\"\nzone = \"x\"\naddresses = [\"10.0.0.1/24\"]\n",
    );
    let with = |at: usize, value| {
        let mut args = usual;
        args[at] = value;
        posternd(&studio, &args)
    };
    for ((status, out, err), said) in [
        (with(3, "none.pcap"), "posternd: none.pcap: cannot read it: No such file"),
        (
            with(3, "text.pcap"),
            "posternd: text.pcap: it begins with something else; expected a pcap or pcapng file",
        ),
        (with(1, "bad.toml"), "bad.toml:2:1: unknown key \"nam\""),
        (with(1, "one.toml"), "posternd: one.toml: the configuration has 1 interface; expected one inside"),
        (with(5, "10.0.0.0/99"), "--inside <CIDR>"),
        (posternd(&studio, &usual[..4]), "--inside <CIDR>"),
        (
            posternd(&studio, &[&usual[..], &["--inside-interface", "lan"]].concat()),
            "unknown interface \"lan\"",
        ),
    ] {
        assert_eq!((status, out.as_str()), (2, ""), "{err}");
        assert!(err.contains(said), "{said}\n{err}");
    }
    let (status, _, err) = posternd(&studio, &[&usual[..], &["--write", "no/where.pcapng"]].concat());
    assert_eq!(status, 1);
    assert!(err.contains("posternd: cannot write no/where.pcapng: No such file"), "{err}");
    assert!(!Path::new("no").exists());
}

#[test]
fn errors_tell_input_from_host() {
    let error = ReplayError::Report(std::io::Error::other("full"));
    assert!(!error.is_input());
    let mut film = Film::new();
    let mut talk = Talk::new((CLIENT, 1), (SERVER, 2));
    film.segment(&mut talk, Initiator, SYN, b"");
    let mut studio = studio(&film);
    studio.options.outside_interface = Some("inside".to_owned());
    studio.options.inside_interface = Some("inside".to_owned());
    let (done, _) = studio.run();
    assert!(done.unwrap_err().is_input());
}
