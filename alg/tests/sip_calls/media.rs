//! Descriptions: what media they name, and in which messages.

use super::*;

#[test]
fn many_media_fax_rtcp_and_stopped_streams() {
    let mut s = sip();
    let offer = sdp(
        "10.1.0.2",
        &[
            "m=audio 40000 RTP/AVP 0",
            "a=rtcp:40009 IN IP4 10.1.0.2",
            "m=video 40002/2 RTP/AVP 96",
            "c=IN IP4 10.1.0.2",
            "m=image 40010 udptl t38",
            "m=audio 0 RTP/AVP 0",
            "m=audio 40020 UDP/TLS/RTP/SAVPF 96",
            "a=rtcp:40020",
            "a=rtcp-mux",
            "a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:x",
        ],
    );
    let left = s.text(IN, invite(&offer));
    let expected = sdp(
        "198.51.100.1",
        &[
            "m=audio 41024 RTP/AVP 0",
            "a=rtcp:41033 IN IP4 198.51.100.1",
            "m=video 41026/2 RTP/AVP 96",
            "c=IN IP4 198.51.100.1",
            "m=image 41034 udptl t38",
            "m=audio 0 RTP/AVP 0",
            "m=audio 41044 UDP/TLS/RTP/SAVPF 96",
            "a=rtcp:41044",
            "a=rtcp-mux",
            "a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:x",
        ],
    );
    let body = left.split("\r\n\r\n").nth(1).unwrap();
    assert_eq!(body, expected.replace("o=- 1 1 IN IP4 198.51.100.1", "o=- 1 1 IN IP4 10.1.0.2"));
    assert!(left.contains(&format!("Content-Length: {}\r\n", body.len())));
    let listeners: Vec<_> = s.expectations.iter().map(|e| (e.listener.port, e.application)).collect();
    use Application::{Rtcp, Rtp, T38};
    let expected = [
        (40000, Rtp),
        (40009, Rtcp),
        (40002, Rtp),
        (40003, Rtcp),
        (40004, Rtp),
        (40005, Rtcp),
        (40010, T38),
        (40020, Rtp),
    ];
    assert_eq!(listeners, expected);
    let mut tags: Vec<u32> = s.expectations.iter().map(|e| e.tag).collect();
    tags.dedup();
    assert_eq!(tags.len(), 8, "each has its own");
    // The second stream is stopped: its pinholes close.
    let mut again = vec!["m=audio 40000 RTP/AVP 0", "m=video 0 RTP/AVP 96"];
    again.push("m=image 0 udptl t38");
    s.send(IN, invite(&sdp("10.1.0.2", &again))).unwrap();
    let closes = s.orders.iter().filter(|o| matches!(o, Order::Close { children: false, .. })).count();
    assert_eq!(closes, 4 + 1, "two pairs of the video, one port of the fax");
}

#[test]
fn hold_keeps_what_is_open() {
    let mut s = sip();
    s.send(IN, invite(&sdp("10.1.0.2", &[AUDIO]))).unwrap();
    let hold = invite(&sdp("0.0.0.0", &[AUDIO, "a=inactive"]));
    let left = s.text(IN, &hold);
    assert!(left.contains("c=IN IP4 0.0.0.0\r\n") && left.contains("m=audio 40000"));
    assert_eq!((s.expectations.len(), s.orders.len()), (0, 0));
}

#[test]
fn ice_speaks_for_itself() {
    let mut s = sip();
    let offer = sdp("10.1.0.2", &[AUDIO, "a=candidate:1 1 UDP 2130706431 10.1.0.2 40000 typ host"]);
    let left = s.text(IN, invite(&offer));
    assert!(left.ends_with(&offer));
    assert!(s.expectations.is_empty());
}

#[test]
fn descriptions_in_every_method_that_may_carry_one_and_in_no_other() {
    let body = sdp("10.1.0.2", &[AUDIO]);
    for method in alg::sip::METHODS {
        let method = core::str::from_utf8(method).unwrap();
        let mut s = sip();
        s.profile.sip.unknown_methods = false;
        let request = invite(&body).replace("INVITE", method);
        let left = s.text(IN, &request);
        let carries = ["INVITE", "ACK", "PRACK", "UPDATE"].contains(&method);
        assert_eq!(left.contains("m=audio 41024 "), carries, "{method}");
        assert_eq!(
            s.expectations.iter().filter(|e| e.application == Application::Rtp).count(),
            usize::from(carries)
        );
        assert!(
            left.contains("m: <sip:alice@198.51.100.1:20001>"),
            "{method}: the dialog's target is translated"
        );
    }
    assert_eq!(alg::sip::METHODS.len(), 14, "RFC 3261, 3262, 3265, 3311, 3428, 3515, 3903, 6086");
}

#[test]
fn an_offer_in_the_answer_and_its_answer_in_the_ack() {
    let mut s = sip();
    s.send(IN, invite("")).unwrap();
    s.send(OUT, reply("200 OK", "INVITE", &sdp("203.0.113.77", &["m=audio 6000 RTP/AVP 0"]))).unwrap();
    let ack = invite(&sdp("10.1.0.2", &[AUDIO])).replace("INVITE", "ACK");
    assert!(s.text(IN, ack).contains("m=audio 41024 "));
    let rtp = opened(&s.expectations[0]);
    assert_eq!((rtp.0.as_str(), rtp.3.as_deref()), ("10.1.0.2:40000", Some("203.0.113.77:6000")));
    assert_eq!(rtp.2, Opener::Host(OUT, end("203.0.113.77:1").addr));
}

#[test]
fn an_update_moves_the_media() {
    let mut s = sip();
    s.send(IN, invite(&sdp("10.1.0.2", &[AUDIO]))).unwrap();
    s.send(OUT, reply("183 Session Progress", "INVITE", &sdp("203.0.113.9", &["m=audio 6000 RTP/AVP 0"])))
        .unwrap();
    let tags: Vec<u32> = s.expectations.iter().map(|e| e.tag).collect();
    let moved = invite(&sdp("10.1.0.2", &["m=audio 42000 RTP/AVP 0"])).replace("INVITE", "UPDATE");
    assert!(s.text(IN, moved).contains("m=audio 43024 "));
    assert_eq!(
        s.expectations.iter().map(|e| e.tag).collect::<Vec<_>>(),
        tags,
        "the same pinholes, elsewhere"
    );
    assert_eq!(s.expectations[0].listener, end("10.1.0.2:42000"));
    let answer = reply("200 OK", "UPDATE", &sdp("203.0.113.77", &["m=audio 7000 RTP/AVP 0"]));
    s.send(OUT, answer).unwrap();
    assert_eq!(s.expectations[0].reverse, Some(end("203.0.113.77:7000")));
}

#[test]
fn multipart_bodies_have_their_description_read() {
    let part = sdp("10.1.0.2", &[AUDIO]);
    let body = format!(
        "preamble\r\n--b1\r\nContent-Type: application/sdp\r\n\r\n{part}\r\n--b1\r\nContent-Type: text/plain\r\n\r\n\
         c=IN IP4 10.1.0.2\r\n--b1--\r\n"
    );
    let head = invite("").replace("Content-Length: 0\r\n\r\n", "");
    let typed =
        format!("{head}Content-Type: multipart/mixed;boundary=\"b1\"\r\nl: {}\r\n\r\n{body}", body.len());
    let mut s = sip();
    let left = s.text(IN, &typed);
    assert!(left.contains("c=IN IP4 198.51.100.1\r\nt=0 0\r\nm=audio 41024"));
    assert!(left.ends_with("text/plain\r\n\r\nc=IN IP4 10.1.0.2\r\n--b1--\r\n"));
    let length =
        left.split("\r\n\r\n").next().unwrap().rsplit("l: ").next().unwrap().parse::<usize>().unwrap();
    assert_eq!(length, left.len() - left.find("\r\n\r\n").unwrap() - 4);
}

/// RTCP at the port of RTP (RFC 5761): only when both have said so, and until one takes it back.
#[test]
fn an_answer_that_takes_rtcp_mux_closes_the_port_of_rtcp() {
    const MUX: &[&str] = &[AUDIO, "a=rtcp-mux"];
    for (accepted, answer) in
        [(true, &["m=audio 6000 RTP/AVP 0", "a=rtcp-mux"][..]), (false, &["m=audio 6000 RTP/AVP 0"])]
    {
        let mut s = sip();
        s.send(IN, invite(&sdp("10.1.0.2", MUX))).unwrap();
        assert!(s.expectations.iter().all(|e| e.armed), "an offer alone keeps both");
        let [rtp, rtcp] = s.expectations[..] else { unreachable!("{:?}", s.expectations) };
        s.send(OUT, reply("200 OK", "INVITE", &sdp("203.0.113.9", answer))).unwrap();
        let armed: Vec<_> = s.expectations.iter().filter(|e| e.armed).map(|e| e.tag).collect();
        if !accepted {
            assert_eq!((armed, s.orders.len()), (vec![rtp.tag, rtcp.tag], 0));
            continue;
        }
        assert_eq!(armed, [rtp.tag]);
        assert_eq!(s.orders, [Order::Close { tag: rtcp.tag, children: true }]);
        // Its port stays the call's: it may be wanted again.
        let [_, kept] = s.expectations[..] else { unreachable!("{:?}", s.expectations) };
        assert_eq!((kept.armed, kept.published, kept.listener), (false, rtcp.published, rtcp.listener));
        assert_ne!(kept.tag, rtcp.tag);
        // A re-INVITE without it.
        s.send(IN, invite(&sdp("10.1.0.2", &[AUDIO]))).unwrap();
        assert_eq!(
            s.expectations.iter().map(|e| (e.tag, e.armed)).collect::<Vec<_>>(),
            [(rtp.tag, true), (rtcp.tag, true)]
        );
        // And with it again.
        s.send(IN, invite(&sdp("10.1.0.2", MUX))).unwrap();
        s.send(OUT, reply("200 OK", "INVITE", &sdp("203.0.113.9", answer))).unwrap();
        s.send(OUT, reply("200 OK", "BYE", "")).unwrap();
        let closed: Vec<_> = s
            .orders
            .iter()
            .map(|o| match o {
                Order::Close { tag, .. } => *tag,
                _ => 0,
            })
            .collect();
        assert_eq!(closed, [rtp.tag, rtcp.tag, kept.tag]);
    }
    // Without a translation there is no port to keep.
    let mut flow = common::flow("10.1.0.2", "10.1.0.2", "203.0.113.9", "203.0.113.9");
    (flow.initiator.port, flow.initiator_translated.port) = (5060, 5060);
    (flow.responder.port, flow.responder_translated.port) = (5060, 5060);
    let mut s = Datagrams::new(Application::Sip, flow);
    s.send(IN, invite(&sdp("10.1.0.2", MUX))).unwrap();
    s.send(OUT, reply("200 OK", "INVITE", &sdp("203.0.113.9", &["m=audio 6000 RTP/AVP 0", "a=rtcp-mux"])))
        .unwrap();
    assert_eq!((s.expectations.len(), s.orders.len()), (1, 1));
}

/// Each end is reached at ports of its own: RTP and RTCP of six media, both ways.
#[test]
fn as_many_media_as_a_description_may_have_with_both_ends_translated() {
    let mut flow = common::flow("10.1.0.3", "10.2.0.1", "10.2.0.2", "10.2.0.100");
    (flow.initiator.port, flow.responder.port, flow.responder_translated.port) = (5060, 5060, 5060);
    let mut s = Datagrams::new(Application::Sip, flow);
    let media = |first: u16| -> Vec<String> {
        (0..6).map(|n| format!("m=audio {} RTP/AVP 0", first + 2 * n)).collect()
    };
    let body = |addr: &str, first: u16| {
        let lines = media(first);
        sdp(addr, &lines.iter().map(String::as_str).collect::<Vec<_>>())
    };
    let own = |text: String| text.replace("10.1.0.2", "10.1.0.3");
    s.send(IN, own(invite(&body("10.1.0.3", 40000)))).unwrap();
    s.send(OUT, reply("200 OK", "INVITE", &body("10.2.0.2", 50000))).unwrap();
    let mut tags: Vec<u32> = s.expectations.iter().map(|e| e.tag).collect();
    tags.sort_unstable();
    tags.dedup();
    assert_eq!(tags.len(), 24);
    s.send(OUT, reply("200 OK", "BYE", "")).unwrap();
    assert_eq!(s.orders.len(), 24, "all are closed");
}
