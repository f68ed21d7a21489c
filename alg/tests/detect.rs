//! A flow that nobody has named is read as one that was: the ALG answers the same, from the first byte on, however the
//! dialogue was cut.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod common;

use alg::Application;
use common::fuzz_body::detected;
use proptest::collection::vec;
use proptest::prelude::*;

/// Who says a line; true: the server.
type Dialogue = &'static [(bool, &'static str)];

const GREETED: Dialogue = &[
    (true, "220-Welcome to the\r\n220 FTP server\r\n"),
    (false, "USER a\r\n"),
    (true, "331 pass\r\n"),
    (false, "PASS b\r\nPORT 10,1,0,2,156,65\r\n"),
    (true, "230 in\r\n200 ok\r\n"),
    (false, "PASV\r\n"),
    (true, "227 Entering (203,0,113,9,156,70)\r\n"),
];
const BARE: Dialogue = &[
    (true, "220-Welcome\r\n text\r\n220 Ready.\r\n"),
    (false, "AUTH TLS\r\n"),
    (true, "502 no\r\n"),
    (false, "USER a\r\nEPRT |1|10.1.0.2|40001|\r\n"),
    (true, "230 in\r\n200 ok\r\n"),
];
const SIP: Dialogue = &[
    (
        false,
        "INVITE sip:bob@203.0.113.9 SIP/2.0\r\nVia: SIP/2.0/TCP 10.1.0.2:40000\r\nFrom: a\r\nTo: b\r\n\
         Call-ID: a@10.1.0.2\r\nCSeq: 1 INVITE\r\nContact: <sip:alice@10.1.0.2:40000>\r\n\
         Content-Type: application/sdp\r\nContent-Length: 63\r\n\r\n\
         v=0\r\nc=IN IP4 10.1.0.2\r\nm=audio 40002 RTP/AVP 0\r\na=rtcp:40009\r\n",
    ),
    (true, "SIP/2.0 100 Trying\r\nCall-ID: a@10.1.0.2\r\nCSeq: 1 INVITE\r\nl: 0\r\n\r\n"),
];
const RTSP: Dialogue = &[
    (false, "OPTIONS * RTSP/1.0\r\nCSeq: 1\r\n\r\n"),
    (true, "RTSP/1.0 200 OK\r\nCSeq: 1\r\n\r\n"),
    (
        false,
        "SETUP rtsp://203.0.113.9/a RTSP/1.0\r\nCSeq: 2\r\nTransport: RTP/AVP;unicast;client_port=50000-50001\r\n\r\n",
    ),
    (true, "RTSP/1.0 200 OK\r\nCSeq: 2\r\nTransport: RTP/AVP;unicast;server_port=6000-6001\r\n\r\n"),
];

/// A script of the fuzz target, cut as `cuts` say.
fn script(dialogue: &[(bool, Vec<u8>)], cuts: &[usize]) -> Vec<u8> {
    let mut cuts = cuts.iter().cycle();
    let mut script = Vec::new();
    for (server, bytes) in dialogue {
        let mut rest = bytes.as_slice();
        while !rest.is_empty() {
            let (piece, more) = rest.split_at((*cuts.next().unwrap()).min(rest.len()));
            script.push(piece.len() as u8 | u8::from(*server) << 7);
            script.extend_from_slice(piece);
            rest = more;
        }
    }
    script
}

fn bytes(dialogue: Dialogue) -> Vec<(bool, Vec<u8>)> {
    dialogue.iter().map(|(server, text)| (*server, text.as_bytes().to_vec())).collect()
}

const ALL: [(Dialogue, Application); 4] = [
    (GREETED, Application::Ftp),
    (BARE, Application::Ftp),
    (SIP, Application::Sip),
    (RTSP, Application::Rtsp),
];

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn dialogues_cut_anywhere(cuts in vec(1..128_usize, 1..20)) {
        for (dialogue, application) in ALL {
            prop_assert_eq!(detected(&script(&bytes(dialogue), &cuts)), Some(application));
        }
    }

    /// With a byte changed, two turns exchanged, or anything else in front.
    #[test]
    fn dialogues_gone_wrong(
        which in 0..ALL.len(),
        cuts in vec(1..128_usize, 1..20),
        (line, place, with) in (any::<prop::sample::Index>(), any::<prop::sample::Index>(), any::<u8>()),
        swap in any::<bool>(),
    ) {
        let mut dialogue = bytes(ALL[which].0);
        let line = line.index(dialogue.len());
        let place = place.index(dialogue[line].1.len());
        dialogue[line].1[place] = with;
        if swap {
            dialogue.swap(0, line);
        }
        detected(&script(&dialogue, &cuts));
    }

    #[test]
    fn random_bytes(bytes in vec(any::<u8>(), 0..400)) {
        detected(&bytes);
    }
}
