//! One call that rings at several phones.

use super::*;

fn from_fork(status: &str, fork: &str, body: &str) -> String {
    reply(status, "INVITE", body).replace(";tag=b", &format!(";tag={fork}"))
}

fn remotes(s: &Datagrams) -> Vec<(Opener, Option<String>)> {
    s.expectations.iter().map(|e| (e.opener, e.reverse.map(|r| r.to_string()))).collect()
}

/// A proxy brings the call to several phones: each that rings has media of its own, the first 2xx decides.
#[test]
fn a_forked_call_has_media_with_each_phone_until_one_answers() {
    let mut s = sip();
    s.send(IN, invite(&sdp("10.1.0.2", &[AUDIO]))).unwrap();
    let ring = |fork, host| from_fork("183 Session Progress", fork, &sdp(host, &["m=audio 6000 RTP/AVP 0"]));
    s.send(OUT, ring("b", "203.0.113.77")).unwrap();
    let first: Vec<u32> = s.expectations.iter().map(|e| e.tag).collect();
    s.send(OUT, ring("c", "203.0.113.78")).unwrap();
    let second: Vec<u32> = s.expectations.iter().map(|e| e.tag).collect();
    assert!(first.iter().all(|tag| !second.contains(tag)), "{first:?} {second:?}");
    assert!(s.orders.is_empty(), "both ring");
    let host = Opener::Host(OUT, end("203.0.113.78:1").addr);
    assert_eq!(
        remotes(&s),
        [(host, Some("203.0.113.78:6000".into())), (host, Some("203.0.113.78:6001".into()))]
    );
    // What the first one says again is still its own.
    s.send(OUT, ring("b", "203.0.113.77")).unwrap();
    assert_eq!(s.expectations.iter().map(|e| e.tag).collect::<Vec<_>>(), first);
    s.send(OUT, from_fork("200 OK", "c", "")).unwrap();
    let close = |tag: &u32| Order::Close { tag: *tag, children: true };
    assert_eq!(s.orders[..2], first.iter().map(close).collect::<Vec<_>>());
    let lives = |tag: &u32| Order::Lifetime { tag: *tag, ms: 43_200_000 };
    assert_eq!(s.orders[2..], second.iter().map(lives).collect::<Vec<_>>(), "as long as the call may last");
    // A late refusal of the other changes nothing, nor does a BYE of one that nobody knows.
    s.send(OUT, from_fork("487 Request Terminated", "b", "")).unwrap();
    assert!(s.orders.is_empty());
    s.send(OUT, reply("200 OK", "BYE", "").replace(";tag=b", ";tag=d")).unwrap();
    assert!(s.orders.is_empty());
    s.send(OUT, reply("200 OK", "BYE", "").replace(";tag=b", ";tag=c")).unwrap();
    assert_eq!(s.orders, second.iter().map(close).collect::<Vec<_>>());
    s.send(OUT, reply("200 OK", "BYE", "").replace(";tag=b", ";tag=c")).unwrap();
    assert!(s.orders.is_empty(), "once");
}

/// Both are behind the same host: what it sends is told apart by its port.
#[test]
fn forks_behind_one_media_host() {
    let mut s = sip();
    s.send(IN, invite(&sdp("10.1.0.2", &[AUDIO]))).unwrap();
    for (fork, port, opener) in [
        ("b", 6000, Opener::Host(OUT, end("203.0.113.77:1").addr)),
        ("c", 7000, Opener::Exact(OUT, end("203.0.113.77:7000"))),
        ("d", 8000, Opener::Exact(OUT, end("203.0.113.77:8000"))),
    ] {
        let media = format!("m=audio {port} RTP/AVP 0");
        s.send(OUT, from_fork("183 Session Progress", fork, &sdp("203.0.113.77", &[&media]))).unwrap();
        assert_eq!(remotes(&s)[0], (opener, Some(format!("203.0.113.77:{port}"))));
    }
}

#[test]
fn a_call_has_four_dialogs_at_most_and_an_answer_makes_room() {
    let mut s = sip();
    s.send(IN, invite(&sdp("10.1.0.2", &[AUDIO]))).unwrap();
    let from = |n: u8, status: &str| {
        let host = format!("203.0.113.{}", 70 + n);
        from_fork(status, &format!("t{n}"), &sdp(&host, &["m=audio 6000 RTP/AVP 0"]))
    };
    for n in 0..4 {
        s.send(OUT, from(n, "183 Session Progress")).unwrap();
    }
    assert_eq!(s.send(OUT, from(4, "183 Session Progress")), Err(Denial::Limit));
    assert!(s.reply.is_empty(), "nobody answers a response");
    assert!(s.send(OUT, from_fork("180 Ringing", "t4", "")).is_ok(), "it rings all the same");
    s.send(OUT, from(4, "200 OK")).unwrap();
    assert_eq!((s.expectations.len(), s.orders.len()), (2, 8), "one is open, four are shut");
    // A second phone has answered too: it has a dialog of its own, and a BYE of its own (RFC 3261 §13.2.2.4).
    let winner: Vec<u32> = s.expectations.iter().map(|e| e.tag).collect();
    s.send(OUT, from(0, "200 OK")).unwrap();
    let second: Vec<u32> = s.expectations.iter().map(|e| e.tag).collect();
    assert!(s.orders.is_empty() && winner.iter().all(|tag| !second.contains(tag)));
    s.send(OUT, reply("200 OK", "BYE", "").replace(";tag=b", ";tag=t0")).unwrap();
    let close = |tag: &u32| Order::Close { tag: *tag, children: true };
    assert_eq!(s.orders, second.iter().map(close).collect::<Vec<_>>());
    s.send(OUT, reply("200 OK", "BYE", "").replace(";tag=b", ";tag=t4")).unwrap();
    assert_eq!(s.orders, winner.iter().map(close).collect::<Vec<_>>());
}

/// A final refusal is of the whole call, whichever phone's tag it has.
#[test]
fn a_refused_forked_call_closes_what_all_have_opened() {
    let mut s = sip();
    s.send(IN, invite(&sdp("10.1.0.2", &[AUDIO]))).unwrap();
    for (fork, host) in [("b", "203.0.113.77"), ("c", "203.0.113.78")] {
        let body = sdp(host, &["m=audio 6000 RTP/AVP 0"]);
        s.send(OUT, from_fork("183 Session Progress", fork, &body)).unwrap();
    }
    s.send(OUT, from_fork("486 Busy Here", "z", "")).unwrap();
    assert_eq!(s.orders.len(), 4);
    s.send(OUT, from_fork("486 Busy Here", "z", "")).unwrap();
    assert!(s.orders.is_empty());
}

/// As many pinholes as a message can close, of all dialogs of a call at once. More are refused, and what is open closes whole.
#[test]
fn a_call_has_no_more_pinholes_than_one_message_closes() {
    let mut flow = common::flow("10.1.0.3", "10.2.0.1", "10.2.0.2", "10.2.0.100");
    (flow.initiator.port, flow.responder.port, flow.responder_translated.port) = (5060, 5060, 5060);
    let mut s = Datagrams::new(Application::Sip, flow);
    // Eight pairs with room for RTCP beside RTP: six pinholes each, with both ends translated.
    let media = |first: u16, lines: usize| -> Vec<String> {
        let of = |n: u16| [format!("m=audio {}/4 RTP/AVP 0", first + 8 * n), "a=rtcp-mux".to_owned()];
        (0..lines as u16).flat_map(of).collect()
    };
    let body = |addr: &str, first: u16, lines: usize| {
        let lines = media(first, lines);
        sdp(addr, &lines.iter().map(String::as_str).collect::<Vec<_>>())
    };
    let own = |text: String| text.replace("10.1.0.2", "10.1.0.3");
    s.send(IN, own(invite(&body("10.1.0.3", 40000, 2)))).unwrap();
    for n in 0..4_u16 {
        let ring =
            from_fork("183 Session Progress", &format!("t{n}"), &body("10.2.0.2", 50_000 + 100 * n, 2));
        s.send(OUT, ring).unwrap();
    }
    // A medium more, where the others have named theirs before.
    let more = ["m=audio 0 RTP/AVP 0", "m=audio 0 RTP/AVP 0", "m=audio 60000/4 RTP/AVP 0", "a=rtcp-mux"];
    let hold = sdp("10.2.0.2", &more).replace("m=audio 0 ", "m=audio 60100 ").replacen(
        "a=rtcp-mux",
        "c=IN IP4 10.2.0.2\r\na=rtcp-mux",
        1,
    );
    assert_eq!(s.send(OUT, from_fork("183 Session Progress", "t0", &hold)), Err(Denial::Limit));
    s.send(OUT, reply("486 Busy Here", "INVITE", "")).unwrap();
    let mut tags: Vec<_> =
        s.orders.iter().map(|o| if let Order::Close { tag, .. } = o { *tag } else { 0 }).collect();
    tags.sort_unstable();
    tags.dedup();
    assert_eq!(tags.len(), 4 * 48, "each pinhole of each dialog");
}
