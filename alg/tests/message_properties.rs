//! SIP and RTSP: how the streams were cut never changes what the ALG answers in total, and no bytes make one panic.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod common;

use common::{fuzz_body, fuzz_datagrams};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

const SIP: [&str; 8] = [
    "INVITE sip:bob@203.0.113.9 SIP/2.0\r\nVia: SIP/2.0/TCP 10.1.0.2:40000\r\nCall-ID: a@10.1.0.2\r\nCSeq: 1 INVITE\r\n\
     Contact: <sip:alice@10.1.0.2:40000>\r\nContent-Type: application/sdp\r\nContent-Length: 63\r\n\r\n\
     v=0\r\nc=IN IP4 10.1.0.2\r\nm=audio 40002 RTP/AVP 0\r\na=rtcp:40009\r\n",
    "SIP/2.0 200 OK\r\nVia: SIP/2.0/TCP 198.51.100.1:20001\r\ni: a@10.1.0.2\r\nCSeq: 1 INVITE\r\n\
     c: application/sdp\r\nl: 49\r\n\r\nv=0\r\nc=IN IP4 203.0.113.9\r\nm=audio 6000 RTP/AVP 0",
    "BYE sip:bob@203.0.113.9 SIP/2.0\r\nCall-ID: a\r\nCSeq: 2 BYE\r\nContent-Length: 0\r\n\r\n",
    "SIP/2.0 200 OK\r\nCall-ID: a\r\nCSeq: 2 BYE\r\nContent-Length: 0\r\n\r\n",
    "REGISTER sip:a SIP/2.0\r\nCall-ID: r\r\nm: <sip:a@10.1.0.2:5060;transport=tcp>;expires=60\r\nl: 0\r\n\r\n",
    "MESSAGE sip:a SIP/2.0\r\nVia: x\r\nFrom: b\r\nTo: c\r\nCall-ID: m\r\nCSeq: 1 MESSAGE\r\nl: 5\r\n\r\nhello",
    "\r\n\r\n",
    "OPTIONS sip:a SIP/2.0\r\nCall-ID: o\r\nSubject: a\r\n b\r\n\r\n",
];

const RTSP: [&str; 7] = [
    "SETUP rtsp://203.0.113.9/a RTSP/1.0\r\nCSeq: 1\r\nTransport: RTP/AVP;unicast;client_port=50000-50001\r\n\r\n",
    "RTSP/1.0 200 OK\r\nCSeq: 1\r\nTransport: RTP/AVP;unicast;server_port=6000-6001\r\n\r\n",
    "RTSP/1.0 454 no\r\nCSeq: 1\r\n\r\n",
    "TEARDOWN rtsp://203.0.113.9/a RTSP/1.0\r\nCSeq: 1\r\n\r\n",
    "$\u{0}\u{0}\u{4}abcd",
    "ANNOUNCE rtsp://203.0.113.9/a RTSP/1.0\r\nCSeq: 2\r\nContent-Length: 4\r\n\r\n$abc",
    "OPTIONS * RTSP/1.0\r\nCSeq: 3\r\n\r\n",
];

/// Messages from both ends, perhaps with a byte changed; true: from the responder.
fn said(messages: &'static [&'static str]) -> impl Strategy<Value = Vec<(bool, Vec<u8>)>> {
    let said = (select(messages), any::<bool>(), any::<prop::sample::Index>(), any::<u8>(), 0..4_u8);
    vec(said, 1..8).prop_map(|said| {
        let changed = |(message, from, at, with, change): (&str, bool, prop::sample::Index, u8, u8)| {
            let mut bytes = message.as_bytes().to_vec();
            if change == 0 {
                let at = at.index(bytes.len());
                bytes[at] = with;
            }
            (from, bytes)
        };
        said.into_iter().map(changed).collect()
    })
}

/// The same as a script of the fuzz target for streams.
fn script(messages: &'static [&'static str]) -> impl Strategy<Value = Vec<u8>> {
    said(messages).prop_map(|said| {
        let mut script = Vec::new();
        for (from, bytes) in said {
            for piece in bytes.chunks(127) {
                script.push(piece.len() as u8 | u8::from(from) << 7);
                script.extend_from_slice(piece);
            }
        }
        script
    })
}

/// The same as a script of the fuzz target for datagrams, with some setting, on two sessions, with time between.
fn datagrams(messages: &'static [&'static str]) -> impl Strategy<Value = Vec<u8>> {
    let setting = prop_oneof![Just([0; 3]), any::<[u8; 3]>()];
    (setting, said(messages), vec((any::<u8>(), 0..4_u16), 8)).prop_map(|(setting, said, how)| {
        let datagram = |((from, bytes), (time, bits)): ((bool, Vec<u8>), (u8, u16))| {
            let head = bytes.len() as u16 | u16::from(from) << 15 | bits << 13;
            [&[time][..], &head.to_be_bytes(), &bytes].concat()
        };
        setting.into_iter().chain(said.into_iter().zip(how).flat_map(datagram)).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn sip_streams(script in script(&SIP)) {
        fuzz_body::sip_stream(&script);
    }

    #[test]
    fn rtsp_streams(script in script(&RTSP)) {
        fuzz_body::rtsp(&script);
    }

    #[test]
    fn random_bytes(bytes in vec(any::<u8>(), 0..400)) {
        fuzz_body::sip_stream(&bytes);
        fuzz_body::rtsp(&bytes);
        fuzz_datagrams::datagrams(&bytes);
    }

    #[test]
    fn sip_datagrams(script in datagrams(&SIP)) {
        fuzz_datagrams::datagrams(&script);
    }
}
