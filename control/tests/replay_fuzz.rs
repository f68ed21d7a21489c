//! The bodies of the `gateway` and `capture` fuzz targets on scripts that a fixed seed makes.
#![allow(clippy::unwrap_used, clippy::panic)]

mod film;
mod fuzz_body;

use film::Film;
use proptest::collection::vec;
use proptest::prelude::*;

/// What is worth saying to an ALG.
const WORDS: [&[u8]; 12] = [
    b"220 hi\r\n",
    b"PORT 10,1,0,2,156,65\r\n",
    b"200 ok\r\n",
    b"PASV\r\n227 (203,0,113,9,200,1)\r\n",
    b"EPRT |1|10.1.0.2|40001|\r\n",
    b"\x00\x01file\x00octet\x00",
    b"\x00\x03\x00\x01data",
    b"SETUP rtsp://203.0.113.9/a RTSP/1.0\r\nCSeq: 1\r\nTransport: RTP/AVP;unicast;client_port=5000-5001\r\n\r\n",
    b"INVITE sip:a@203.0.113.9 SIP/2.0\r\nVia: SIP/2.0/UDP 10.1.0.2:5060;branch=z9hG4bK1\r\nContact: <sip:b@10.1.0.2>\r\n",
    b"Content-Type: application/sdp\r\nContent-Length: 74\r\n\r\n",
    b"v=0\r\no=- 1 1 IN IP4 10.1.0.2\r\ns=-\r\nc=IN IP4 10.1.0.2\r\nt=0 0\r\nm=audio 5004 RTP/AVP 0\r\n",
    b"",
];

/// One step of a script.
fn step() -> impl Strategy<Value = Vec<u8>> {
    let word = prop_oneof![3 => proptest::sample::select(&WORDS[..]).prop_map(<[u8]>::to_vec), 1 => vec(any::<u8>(), 0..60)];
    (prop_oneof![1 => Just(0_u8), 4 => any::<u8>()], any::<u8>(), any::<bool>(), word, 1_usize..200).prop_map(
        |(what, which, whole, word, cut)| {
            let len = if whole { word.len() } else { cut.min(word.len()) };
            let mut step = vec![what, which & 0xF9, len as u8];
            step.extend(&word[..len]);
            step
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_script_upsets_the_gateway(steps in vec(step(), 1..120)) {
        fuzz_body::gateway(&steps.concat());
    }

    #[test]
    fn no_file_upsets_the_replay(
        flips in vec((any::<prop::sample::Index>(), any::<u8>()), 0..8),
        cut in any::<prop::sample::Index>(), do_cut in any::<bool>(),
    ) {
        let mut film = Film::new();
        let mut ftp = film.ftp();
        film.say(&mut ftp, alg::Side::Initiator, "PASV\r\n");
        let mut file = film.pcap();
        for (at, value) in flips {
            let at = at.index(file.len());
            file[at] = value;
        }
        if do_cut {
            file.truncate(cut.index(file.len()));
        }
        fuzz_body::capture(&file);
    }
}
