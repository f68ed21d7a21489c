//! The texts of SIP (RFC 3261, RFC 3581), with descriptions of one medium (RFC 3264).

use super::{Step, View};
use std::fmt::Write as _;
use std::net::Ipv4Addr;

fn description(addr: Ipv4Addr, port: u16, session: u32) -> String {
    format!(
        "v=0\r\no=- {session} 1 IN IP4 media.example.com\r\ns=-\r\nc=IN IP4 {addr}\r\nt=0 0\r\n\
         m=audio {port} RTP/AVP 0 8 101\r\na=rtpmap:0 PCMU/8000\r\na=rtpmap:8 PCMA/8000\r\n\
         a=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-15\r\na=sendrecv\r\na=ptime:20\r\n"
    )
}

pub(super) fn write(step: Step, view: &View, transport: &str, out: &mut String) {
    let ((client, port), (server, server_port)) = (view.client, view.server);
    let View { session, cycle, .. } = *view;
    let Step::Cycle(step) = step else { return };
    let (method, status) = match step {
        0 => ("INVITE", None),
        1 => ("INVITE", Some("200 OK")),
        2 => ("ACK", None),
        3 => ("BYE", None),
        _ => ("BYE", Some("200 OK")),
    };
    let number = if method == "BYE" { 2 } else { 1 };
    let branch = format!("z9hG4bK-{session}-{cycle}-{}", if method == "INVITE" { 0 } else { step.min(3) });
    // A server fills in where it saw the request come from.
    let (rport, tag) = match status {
        Some(_) => (format!("rport={port};received={client}"), true),
        None => ("rport".to_owned(), step != 0),
    };
    let _ = match status {
        Some(status) => write!(out, "SIP/2.0 {status}\r\n"),
        None => write!(out, "{method} sip:bob@{server}:{server_port} SIP/2.0\r\n"),
    };
    let _ = write!(out, "Via: SIP/2.0/{transport} {client}:{port};branch={branch};{rport}\r\n");
    if status.is_none() {
        out.push_str("Max-Forwards: 70\r\n");
    }
    let _ = write!(
        out,
        "From: \"Alice\" <sip:alice@example.com>;tag=a{session}\r\nTo: <sip:bob@example.net>{}\r\n\
         Call-ID: {cycle}-{session}-7f3a@phones.example.com\r\nCSeq: {number} {method}\r\n",
        if tag { ";tag=b1" } else { "" },
    );
    let body = match step {
        0 => {
            let _ = write!(out, "Contact: <sip:alice@{client}:{port};transport={transport}>\r\n");
            out.push_str("Allow: INVITE, ACK, BYE, CANCEL, OPTIONS, UPDATE\r\nUser-Agent: Phone/4.2\r\n");
            description(client, view.data, session)
        }
        1 => {
            let _ = write!(out, "Contact: <sip:bob@{server}:{server_port};transport={transport}>\r\n");
            description(server, view.server_data, session)
        }
        _ => String::new(),
    };
    if !body.is_empty() {
        out.push_str("Content-Type: application/sdp\r\n");
    }
    let _ = write!(out, "Content-Length: {}\r\n\r\n{body}", body.len());
}
