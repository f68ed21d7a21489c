//! SIP user agents and the line between two of them. Each builds its messages from what it has received, as a real one
//! does: whatever the gateway changes, the answers must find their way back.

use super::gateway::Gateway;
use super::network::*;
use super::seen::Seen;
use super::tcp::Pair;
use alg::Side;
use control::audit::Records;
use dataplane::drop_reason::DropReason;
use dataplane::packet::build;
use dataplane::packet::flag::{ACK, PSH};
use std::net::Ipv4Addr;

pub const SIP: u16 = 5060;

/// What carries the signalling.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carrier {
    Udp,
    Tcp,
}

/// Both of them.
pub const CARRIERS: [Carrier; 2] = [Carrier::Udp, Carrier::Tcp];

/// A caller, what it calls, and who answers.
#[derive(Clone, Copy, Debug)]
pub struct Way {
    pub caller: Host,
    pub called: Ipv4Addr,
    pub callee: Host,
    /// Translated between them.
    pub caller_seen: Ipv4Addr,
    /// What becomes of media from the callee that nobody expects.
    pub unexpected: DropReason,
}

impl Way {
    /// A configuration as it is, and with the other mapping of source NAT too where the caller is translated, by each carrier.
    pub fn each(&self, text: &str) -> impl Iterator<Item = (Carrier, String)> + use<> {
        let texts: Vec<_> = mappings(text, self.caller_seen != self.caller.addr).collect();
        CARRIERS
            .into_iter()
            .flat_map(move |carrier| texts.clone().into_iter().map(move |text| (carrier, text)))
    }
}

/// An address of the third network that destination NAT listens at.
pub const DMZ_PUBLIC: Ipv4Addr = Ipv4Addr::new(10, 2, 0, 100);

/// Source NAT, destination NAT, none, and both at once.
pub const WAYS: [Way; 4] = [
    Way {
        caller: CLIENT,
        called: SERVER.addr,
        callee: SERVER,
        caller_seen: GW_OUTSIDE,
        unexpected: DropReason::NatNoSession,
    },
    Way {
        caller: SERVER,
        called: GW_OUTSIDE,
        callee: CLIENT,
        caller_seen: SERVER.addr,
        unexpected: DropReason::PolicyDeny,
    },
    Way {
        caller: CLIENT,
        called: DMZ_HOST.addr,
        callee: DMZ_HOST,
        caller_seen: CLIENT.addr,
        unexpected: DropReason::PolicyDeny,
    },
    Way {
        caller: CLIENT2,
        called: DMZ_PUBLIC,
        callee: DMZ_HOST,
        caller_seen: Ipv4Addr::new(10, 2, 0, 1),
        unexpected: DropReason::NatNoSession,
    },
];

/// SIP and nothing else, with the translations of [`WAYS`].
pub const SIP_ONLY: &str = r#"
[[nat]]
type = "source"
from = "trust"
to = "dmz"
source = ["10.1.0.3"]
translate = "interface"

[[nat]]
type = "destination"
from = "untrust"
destination = ["198.51.100.1"]
service = ["sip", "sip-tcp"]
translate = "10.1.0.2"

[[nat]]
type = "destination"
from = "trust"
destination = ["10.2.0.100"]
service = ["sip", "sip-tcp"]
translate = "10.2.0.2"

[[rule]]
name = "sip only"
from = "any"
to = "any"
service = ["sip", "sip-tcp"]
action = "allow"
log = true
"#;

pub const OFF: &str = "
[[alg]]
name = \"no-sip\"
protocol = \"sip\"
mode = \"off\"
";

/// The gateway of these scenarios.
pub fn sip_text() -> String {
    [SMALL, SHORT, LINKS, NAT, SIP_ONLY].concat()
}

/// A user agent.
#[derive(Clone, Debug)]
pub struct Agent {
    pub host: Host,
    /// Its signalling port.
    pub port: u16,
    /// The port of its audio; RTCP follows.
    pub media: u16,
    pub carrier: Carrier,
    pub name: &'static str,
    cseq: u32,
}

impl Agent {
    pub fn new(name: &'static str, host: Host, carrier: Carrier, media: u16) -> Self {
        Self { host, port: SIP, media, carrier, name, cseq: 0 }
    }

    /// Another one at the same signalling port.
    pub fn like(&self, name: &'static str, host: Host, media: u16) -> Self {
        Self { name, host, media, ..self.clone() }
    }

    fn contact(&self) -> String {
        let transport = if self.carrier == Carrier::Tcp { ";transport=tcp" } else { "" };
        format!("<sip:{}@{}:{}{transport}>", self.name, self.host.addr, self.port)
    }

    /// A session description that names its audio.
    pub fn sdp(&self) -> String {
        self.sdp_at(self.host.addr, &[])
    }

    /// The same at another address, with more lines.
    pub fn sdp_at(&self, addr: Ipv4Addr, more: &[&str]) -> String {
        let more: String = more.iter().map(|l| format!("{l}\r\n")).collect();
        format!(
            "v=0\r\no={} 1 1 IN IP4 {own}\r\ns=-\r\nc=IN IP4 {addr}\r\nt=0 0\r\nm=audio {} RTP/AVP 0 101\r\n\
             a=rtpmap:0 PCMU/8000\r\n{more}",
            self.name,
            self.media,
            own = self.host.addr,
        )
    }

    /// A new request of this agent's.
    pub fn request(&mut self, method: &str, uri: &str, call: &str, more: &[String], body: &str) -> String {
        if method != "ACK" && method != "CANCEL" {
            self.cseq += 1;
        }
        let (carrier, own, n) = (self.carrier, self.host.addr, self.cseq);
        let carrier = if carrier == Carrier::Tcp { "TCP" } else { "UDP" };
        let mut lines = vec![
            format!("{method} {uri} SIP/2.0"),
            format!("Via: SIP/2.0/{carrier} {own}:{};branch=z9hG4bK{call}{n};rport", self.port),
            "Max-Forwards: 70".to_owned(),
            format!("From: <sip:{}@example.net>;tag=of{}", self.name, self.name),
            "To: <sip:other@example.net>".to_owned(),
            format!("Call-ID: {call}@example.net"),
            format!("CSeq: {n} {method}"),
            format!("Contact: {}", self.contact()),
        ];
        lines.extend(more.iter().cloned());
        message(&lines, body)
    }

    /// An answer of this agent's to a request as it came.
    pub fn answer(&self, request: &str, status: &str, more: &[String], body: &str) -> String {
        let mut lines = vec![format!("SIP/2.0 {status}")];
        for line in request.lines().take_while(|l| !l.is_empty()) {
            let kept = ["via:", "from:", "call-id:", "cseq:"];
            let lower = line.to_ascii_lowercase();
            if kept.iter().any(|name| lower.starts_with(name)) {
                lines.push(line.to_owned());
            } else if lower.starts_with("to:") {
                let tag =
                    if line.contains(";tag=") { String::new() } else { format!(";tag=of{}", self.name) };
                lines.push(format!("{line}{tag}"));
            }
        }
        lines.push(format!("Contact: {}", self.contact()));
        lines.extend(more.iter().cloned());
        message(&lines, body)
    }
}

fn message(lines: &[String], body: &str) -> String {
    let kind = if body.is_empty() { "" } else { "Content-Type: application/sdp\r\n" };
    let head: String = lines.iter().map(|l| format!("{l}\r\n")).collect();
    format!("{head}{kind}Content-Length: {}\r\n\r\n{body}", body.len())
}

/// The value of a header.
pub fn header<'a>(message: &'a str, name: &str) -> &'a str {
    let mut lines = message.lines().take_while(|l| !l.is_empty());
    let line = lines.find(|l| l.get(..name.len()).is_some_and(|n| n.eq_ignore_ascii_case(name)));
    line.unwrap_or_else(|| panic!("no {name} in {message}"))[name.len()..].trim_start_matches(':').trim()
}

/// The URI of the Contact.
pub fn contact(message: &str) -> String {
    let value = header(message, "Contact");
    value.trim_start_matches('<').split('>').next().unwrap().to_owned()
}

/// Address and port of the first medium of a message, whose length must be what it says.
pub fn media_of(message: &str) -> (Ipv4Addr, u16) {
    let body = whole(message);
    let field = |prefix: &str, n: usize| {
        let line =
            body.lines().find(|l| l.starts_with(prefix)).unwrap_or_else(|| panic!("no {prefix} in {body}"));
        line.split(' ').nth(n).unwrap().to_owned()
    };
    (field("c=", 2).parse().unwrap(), field("m=", 1).parse().unwrap())
}

/// The body of a message, of the length that its head says.
pub fn whole(message: &str) -> &str {
    let (_, body) = message.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no body in {message}"));
    assert_eq!(header(message, "Content-Length").parse::<usize>().unwrap(), body.len(), "{message}");
    body
}

/// The signalling between two agents.
#[derive(Debug)]
pub struct Line {
    pub caller: Agent,
    pub callee: Agent,
    pub called: (Ipv4Addr, u16),
    /// Of UDP: the caller, as the callee sees it.
    pub seen: Option<(Ipv4Addr, u16)>,
    pub pair: Option<Pair>,
}

impl Line {
    /// Of TCP the connection is made.
    pub fn new<R: Records>(gw: &mut Gateway<R>, way: Way, carrier: Carrier) -> Self {
        let caller = Agent::new("alice", way.caller, carrier, 40_000);
        let callee = Agent::new("bob", way.callee, carrier, 50_000);
        Self::between(gw, caller, way.called, callee)
    }

    pub fn between<R: Records>(gw: &mut Gateway<R>, caller: Agent, called: Ipv4Addr, callee: Agent) -> Self {
        let pair = (caller.carrier == Carrier::Tcp).then(|| {
            let mut pair = Pair::new((caller.host, 33_000), (called, SIP), (callee.host, SIP));
            pair.handshake(gw);
            pair
        });
        Self { caller, callee, called: (called, SIP), seen: None, pair }
    }

    /// A datagram of one end's, as it goes in.
    pub fn frame(&self, from: Side, text: &str) -> Vec<u8> {
        match from {
            Side::Initiator => {
                let ends = self.caller.host.to(self.called.0);
                build::udp(&ends, self.caller.port, self.called.1, text.as_bytes())
            }
            Side::Responder => {
                let seen = self.seen.expect("the caller speaks first");
                build::udp(&self.callee.host.to(seen.0), self.callee.port, seen.1, text.as_bytes())
            }
        }
    }

    pub fn agent(&self, side: Side) -> &Agent {
        match side {
            Side::Initiator => &self.caller,
            Side::Responder => &self.callee,
        }
    }

    pub fn agent_mut(&mut self, side: Side) -> &mut Agent {
        match side {
            Side::Initiator => &mut self.caller,
            Side::Responder => &mut self.callee,
        }
    }

    /// One end says a message; what the other receives.
    pub fn say<R: Records>(&mut self, gw: &mut Gateway<R>, from: Side, text: &str) -> String {
        let said = match &mut self.pair {
            Some(pair) => pair.say(gw, from, text),
            None => {
                let frame = self.frame(from, text);
                let (here, there) = (self.agent(from).host, self.agent(from.other()).host);
                let seen = gw.pass(here.interface, &frame, there.interface);
                if from == Side::Initiator {
                    self.seen = Some(seen.source);
                    assert_eq!(seen.destination, (self.callee.host.addr, self.callee.port));
                } else {
                    assert_eq!(seen.source, self.called, "the callee is seen as it was called");
                    assert_eq!(seen.destination, (self.caller.host.addr, self.caller.port));
                }
                seen.text()
            }
        };
        whole(&said);
        said
    }

    /// A message that the gateway answers itself: the answer that its sender reads.
    pub fn refused<R: Records>(&mut self, gw: &mut Gateway<R>, from: Side, text: &str) -> String {
        let here = self.agent(from).host;
        match &mut self.pair {
            None => {
                let frame = self.frame(from, text);
                gw.inject(here.interface, &frame);
            }
            Some(pair) => {
                let frame = pair.frame(from, PSH | ACK, text.as_bytes());
                gw.inject(here.interface, &frame);
                pair.sent(from, text.len() as u32);
            }
        }
        gw.run();
        let mut told = String::new();
        while let Some(seen) = gw.recv(here.interface) {
            told += &seen.text();
            if let Some(pair) = &mut self.pair {
                pair.arrived(from, &seen, seen.payload.len() as u32);
            }
        }
        gw.assert_silent();
        told
    }
}

/// A call that is up.
#[derive(Debug)]
pub struct Call {
    pub id: &'static str,
    /// Where each end was told to send its media to, by side.
    pub told: [(Ipv4Addr, u16); 2],
    /// The contact of the other end, by side.
    pub contacts: [String; 2],
}

impl Call {
    /// INVITE, 100, 180, 200, ACK.
    pub fn set_up<R: Records>(gw: &mut Gateway<R>, line: &mut Line, id: &'static str) -> Self {
        let (offer, answer) = (line.caller.sdp(), line.callee.sdp());
        Self::offer(gw, line, Side::Initiator, id, &offer, &answer)
    }

    /// The same with these descriptions, by either end.
    pub fn offer<R: Records>(
        gw: &mut Gateway<R>,
        line: &mut Line,
        from: Side,
        id: &'static str,
        offer: &str,
        answer: &str,
    ) -> Self {
        let to = from.other();
        let uri = match (from, line.seen) {
            (Side::Responder, Some((addr, port))) => format!("sip:alice@{addr}:{port}"),
            _ => format!("sip:bob@{}:{SIP}", line.called.0),
        };
        let invite = line.agent_mut(from).request("INVITE", &uri, id, &[], offer);
        let rung = line.say(gw, from, &invite);
        for status in ["100 Trying", "180 Ringing"] {
            let reply = line.agent(to).answer(&rung, status, &[], "");
            let heard = line.say(gw, to, &reply);
            assert_eq!(header(&heard, "Via"), header(&invite, "Via"), "the caller's own Via comes back");
        }
        let ok = line.agent(to).answer(&rung, "200 OK", &[], answer);
        let heard = line.say(gw, to, &ok);
        let uri = contact(&heard);
        let ack = line.agent_mut(from).request("ACK", &uri, id, &[], "");
        let acked = line.say(gw, from, &ack);
        let at = line.agent(to);
        let own = format!("ACK sip:{}@{}:{}", at.name, at.host.addr, at.port);
        assert!(acked.starts_with(&own), "the contact is the callee's own again: {acked}");
        let (mut told, mut contacts) = ([media_of(&heard), media_of(&rung)], [uri, contact(&rung)]);
        if from == Side::Responder {
            told.swap(0, 1);
            contacts.swap(0, 1);
        }
        Self { id, told, contacts }
    }

    /// BYE of one end, and the answer.
    pub fn hang_up<R: Records>(&self, gw: &mut Gateway<R>, line: &mut Line, from: Side) {
        let uri = &self.contacts[from as usize];
        let bye = line.agent_mut(from).request("BYE", uri, self.id, &[], "");
        let heard = line.say(gw, from, &bye);
        let at = line.agent(from.other());
        assert!(heard.starts_with(&format!("BYE sip:{}@{}:{}", at.name, at.host.addr, at.port)), "{heard}");
        let ok = line.agent(from.other()).answer(&heard, "200 OK", &[], "");
        line.say(gw, from.other(), &ok);
        // The control core ends the children.
        gw.advance(1_000);
    }

    /// A packet of one end's media, RTP or the RTCP beside it, as it goes in.
    pub fn packet(&self, line: &Line, from: Side, rtcp: u16) -> Vec<u8> {
        let (me, to) = (line.agent(from), self.told[from as usize]);
        build::udp(&me.host.to(to.0), me.media + rtcp, to.1 + rtcp, b"\x80\0media")
    }

    /// One arrives, from where the receiver was told to send to.
    pub fn speaks<R: Records>(&self, gw: &mut Gateway<R>, line: &Line, from: Side, rtcp: u16) -> Seen {
        let (me, peer) = (line.agent(from).host, line.agent(from.other()));
        let seen = gw.pass(me.interface, &self.packet(line, from, rtcp), peer.host.interface);
        assert_eq!(seen.destination, (peer.host.addr, peer.media + rtcp), "{from:?}");
        let (addr, port) = self.told[from.other() as usize];
        assert_eq!(seen.source, (addr, port + rtcp), "{from:?} comes from where its peer sends to");
        seen
    }

    /// RTP and RTCP both ways, `first` first.
    pub fn talk<R: Records>(&self, gw: &mut Gateway<R>, line: &Line, first: Side) {
        for _ in 0..3 {
            for rtcp in [0, 1] {
                self.speaks(gw, line, first, rtcp);
                self.speaks(gw, line, first.other(), rtcp);
            }
        }
    }

    /// None passes.
    pub fn is_silent<R: Records>(&self, gw: &mut Gateway<R>, line: &Line) {
        for from in [Side::Initiator, Side::Responder] {
            for rtcp in [0, 1] {
                gw.inject(line.agent(from).host.interface, &self.packet(line, from, rtcp));
                gw.run();
                gw.assert_silent();
            }
        }
    }
}
