//! The body of the fuzz target for datagrams: TFTP, and SIP over UDP.
//!
//! The input is a script. Its first bytes choose a profile, a translation and limits ([`Setting`]). Then each datagram has a
//! byte of time that goes by before it, and two bytes with its length, who sends it, on which of two sessions, and whether
//! the gateway finds no room for its pinholes afterwards.
//!
//! The gateway is a model that keeps books: which port leads where, and which pinhole holds it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a panic is how a finding is told"
)]

use alg::profile::WhenEncrypted;
use alg::rules::{Pattern, Rate, Rule};
use alg::{
    Action, Answer, Application, BoundDatagram, CommandPolicy, Context, DatagramAlg, Denial, Edit, Endpoint,
    ExpectationRequest, FlowContext, Gateway, Order, Parity, Profile, PublishError, Side, Tables, Transport,
    Verdict,
};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 1, 0, 2));
const OUTSIDE: IpAddr = IpAddr::V4(Ipv4Addr::new(198, 51, 100, 1));
const SERVER: IpAddr = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 9));
const SERVER_INSIDE: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 2, 0, 9));

/// How long a pinhole waits whose request does not say so.
const WAIT_MS: u32 = 120_000;
/// Longer than anything that is remembered.
const ALL_IS_OVER_MS: u32 = 26 * 60 * 60 * 1000;

/// What the first bytes of a script choose.
struct Setting {
    profile: Profile,
    client_hidden: bool,
    server_hidden: bool,
    one_group: bool,
    /// No port is ever free.
    exhausted: bool,
    limit: usize,
}

impl Setting {
    fn of([flags, policy, gateway]: [u8; 3]) -> Self {
        let bit = |byte: u8, n: u8| byte >> n & 1 != 0;
        let mut profile = Profile {
            watch: bit(flags, 0),
            strict: bit(flags, 1),
            third_party: bit(flags, 2),
            encrypted: if bit(policy, 7) { WhenEncrypted::Deny } else { WhenEncrypted::Allow },
            ..Profile::default()
        };
        if bit(flags, 3) {
            profile.sip.rewrite = alg::sip::Rewrite::Full;
        }
        profile.sip.mask_software = bit(flags, 4);
        profile.sip.pass_malformed = bit(flags, 5);
        profile.sip.unknown_methods = !bit(flags, 6);
        profile.sip.bye_closes_media = !bit(flags, 7);
        profile.tftp.write = !bit(flags, 7);
        profile.sip.max_dialogs = [u32::MAX, 1, 2, 8][usize::from(policy >> 3 & 3)];
        if bit(policy, 5) {
            profile.forbidden_ports.push((40_010, 40_019));
            profile.sip.longest_message = 700;
        }
        if bit(policy, 6) {
            (profile.sip.call_idle_s, profile.sip.max_call_s) = (300, 3600);
        }
        let pattern = |text| Some(Pattern::regex(text).unwrap());
        let (deny, none) = (Some(Action::Deny), Rule::default());
        let rule = match policy & 7 {
            1 => Some(Rule { methods: Box::new(["INVITE".into(), "RRQ".into()]), action: deny, ..none }),
            2 => Some(Rule { action: Some(Action::Mask), ..none }),
            3 => Some(Rule { argument: pattern("bob|octet"), action: Some(Action::Reset), ..none }),
            4 => Some(Rule { rate: Some(Rate { count: 2, per_ms: 10_000 }), action: deny, ..none }),
            5 => Some(Rule { longer_than: Some(300), action: None, ..none }),
            6 => Some(Rule { domain: pattern("203"), action: deny, ..none }),
            _ => None,
        };
        profile.rules = CommandPolicy::new(rule);
        Self {
            profile,
            client_hidden: !bit(gateway, 0),
            server_hidden: bit(gateway, 1),
            one_group: !bit(gateway, 2),
            exhausted: bit(gateway, 3),
            limit: [usize::MAX, 0, 3, 20][usize::from(gateway >> 4 & 3)],
        }
    }

    /// The first or the second session of a client with one server.
    fn flow(&self, second: bool, port: u16, now_ms: u32) -> FlowContext {
        let n = u16::from(second);
        let initiator = Endpoint::new(CLIENT, 40_000 + n);
        let responder = Endpoint::new(if self.server_hidden { SERVER_INSIDE } else { SERVER }, port);
        FlowContext {
            id: 1 + u64::from(second),
            group: if self.one_group { 1 } else { 1 + u64::from(second) },
            turned: false,
            transport: Transport::Udp,
            now_ms,
            initiator,
            initiator_translated: if self.client_hidden {
                Endpoint::new(OUTSIDE, 20_001 + n)
            } else {
                initiator
            },
            responder,
            responder_translated: Endpoint::new(SERVER, port),
        }
    }
}

/// A translated endpoint, and whether it is TCP's.
type At = (bool, IpAddr, u16);

fn at(transport: Transport, endpoint: Endpoint) -> At {
    (transport == Transport::Tcp, endpoint.addr, endpoint.port)
}

struct Pinhole {
    /// The port that it holds, where one is translated.
    holds: Option<At>,
    until_ms: u64,
}

/// Which port leads where, and how many pinholes hold it.
struct Books {
    flow: FlowContext,
    sessions: [FlowContext; 2],
    exhausted: bool,
    limit: usize,
    next_port: u16,
    reserved: BTreeMap<At, (Endpoint, usize)>,
    /// By the group and the ALG's own name of it.
    pinholes: BTreeMap<(u64, u32), Pinhole>,
    /// What `lowest_port` and the forbidden ports allow.
    allowed: Profile,
}

impl Books {
    /// The endpoint that a session is seen as, if it is a session's own.
    fn own(&self, side: Side, endpoint: Endpoint) -> Option<Endpoint> {
        self.sessions.iter().find(|flow| flow.own(side) == endpoint).map(|flow| flow.seen(side))
    }

    fn is_hidden(&self, side: Side) -> bool {
        self.flow.own(side).addr != self.flow.seen(side).addr
    }

    /// What no pinhole has taken is given back.
    fn settle(&mut self) {
        self.reserved.retain(|_, (_, holders)| *holders != 0);
    }

    fn release(&mut self, pinhole: &Pinhole) {
        if let Some(at) = &pinhole.holds {
            let (_, holders) = self.reserved.get_mut(at).expect("a port is released while it is reserved");
            *holders = holders.checked_sub(1).expect("a port is released once");
        }
    }

    fn expire(&mut self, now_ms: u64) {
        let over: Vec<_> =
            self.pinholes.iter().filter(|(_, p)| p.until_ms <= now_ms).map(|(key, _)| *key).collect();
        for key in over {
            if let Some(pinhole) = self.pinholes.remove(&key) {
                self.release(&pinhole);
            }
        }
        self.settle();
    }

    /// All pinholes of an answer, or none.
    fn open(&mut self, requests: &[ExpectationRequest], now_ms: u64) -> bool {
        let group = self.flow.group;
        let new: BTreeSet<u32> = requests
            .iter()
            .map(|r| r.tag)
            .filter(|tag| !self.pinholes.contains_key(&(group, *tag)))
            .collect();
        if self.pinholes.len().saturating_add(new.len()) > self.limit {
            return false;
        }
        for request in requests {
            let holds = self.check(request);
            if let Some(at) = &holds {
                self.reserved.get_mut(at).unwrap().1 += 1;
            }
            let wait = if request.lifetime_ms == 0 { WAIT_MS } else { request.lifetime_ms };
            let pinhole = Pinhole { holds, until_ms: now_ms + u64::from(wait) };
            if let Some(old) = self.pinholes.insert((group, request.tag), pinhole) {
                self.release(&old);
            }
        }
        true
    }

    /// Where a pinhole leads is what its message may name, and what is published leads there. Answers the port that it holds.
    fn check(&self, request: &ExpectationRequest) -> Option<At> {
        let side = request.opener.side().other();
        let ExpectationRequest { listener, published, .. } = *request;
        assert!(self.allowed.allows_port(listener.port), "{request:?}");
        if self.is_hidden(side) {
            assert_eq!(listener.addr, self.flow.own(side).addr, "not the sender's own: {request:?}");
        }
        if published == listener || self.own(side, listener) == Some(published) {
            return None;
        }
        let at = at(request.transport, published);
        let leads_to = self.reserved.get(&at).map(|(inside, _)| *inside);
        assert_eq!(leads_to, Some(listener), "what is published leads elsewhere: {request:?}");
        Some(at)
    }

    fn order(&mut self, order: Order, now_ms: u64) {
        let (tag, ms) = match order {
            Order::Activate { tag } => (tag, Some(WAIT_MS)),
            Order::Lifetime { tag, ms } => (tag, Some(ms)),
            Order::Close { tag, .. } => (tag, None),
            Order::KeepSession { .. } => return,
        };
        let key = (self.flow.group, tag);
        match (ms, self.pinholes.get_mut(&key)) {
            (Some(ms), Some(pinhole)) => pinhole.until_ms = now_ms + u64::from(ms),
            (None, Some(_)) => {
                let pinhole = self.pinholes.remove(&key).unwrap();
                self.release(&pinhole);
            }
            (_, None) => {}
        }
    }
}

impl Gateway for Books {
    fn publish(
        &mut self,
        side: Side,
        transport: Transport,
        endpoint: Endpoint,
        count: u16,
        parity: Parity,
    ) -> Result<Endpoint, PublishError> {
        assert!(count >= 1);
        assert!(self.allowed.allows_port(endpoint.port), "{endpoint} is published");
        if !self.is_hidden(side) {
            return Ok(endpoint);
        }
        if let Some(seen) = self.own(side, endpoint).filter(|_| count == 1 && transport == Transport::Udp) {
            return Ok(seen);
        }
        let nth = |of: Endpoint, n: u16| Endpoint::new(of.addr, of.port.wrapping_add(n));
        let first = match self.to_outside(transport, endpoint) {
            Some(published) => published,
            None if self.exhausted || self.next_port > 60_000 => return Err(PublishError::PortsExhausted),
            None => {
                let first = self.next_port + u16::from(parity == Parity::Odd);
                self.next_port = first.saturating_add(count).next_multiple_of(2);
                Endpoint::new(self.flow.seen(side).addr, first)
            }
        };
        let is_free = |n| {
            let there = self.reserved.get(&at(transport, nth(first, n)));
            there.is_none_or(|(inside, _)| *inside == nth(endpoint, n))
        };
        if !(0..count).all(is_free) {
            return Err(PublishError::PortsExhausted);
        }
        for n in 0..count {
            self.reserved.entry(at(transport, nth(first, n))).or_insert((nth(endpoint, n), 0));
        }
        Ok(first)
    }

    fn to_inside(&self, transport: Transport, published: Endpoint) -> Option<Endpoint> {
        let session = self.sessions.iter().flat_map(|f| [Side::Initiator, Side::Responder].map(|s| (f, s)));
        let mut own = session.filter(|(f, s)| f.own(*s) != f.seen(*s) && f.seen(*s) == published);
        let own = own.next().map(|(f, s)| f.own(s));
        own.or_else(|| self.reserved.get(&at(transport, published)).map(|(inside, _)| *inside))
    }

    fn to_outside(&self, transport: Transport, inside: Endpoint) -> Option<Endpoint> {
        let over = transport == Transport::Tcp;
        let mut found = self.reserved.iter().filter(|((tcp, ..), (to, _))| *tcp == over && *to == inside);
        found.next().map(|(&(_, addr, port), _)| Endpoint::new(addr, port))
    }

    fn has_room(&mut self, _: IpAddr, count: usize) -> bool {
        self.pinholes.len().saturating_add(count) <= self.limit
    }
}

/// What leaves. The edits ascend, lie within the datagram, and change no line into two.
fn apply(payload: &[u8], edits: &[Edit]) -> Vec<u8> {
    let (mut out, mut done) = (Vec::new(), 0);
    for edit in edits {
        assert!(edit.start >= done && edit.start + edit.len <= payload.len(), "{edit:?}");
        assert!(!edit.with.iter().any(|b| b"\r\n".contains(b)), "{edit:?}");
        out.extend_from_slice(&payload[done..edit.start]);
        out.extend_from_slice(&edit.with);
        done = edit.start + edit.len;
    }
    out.extend_from_slice(&payload[done..]);
    out
}

fn names(text: &[u8], addr: IpAddr) -> bool {
    let addr = addr.to_string();
    let ends = |at: usize| text.get(at + addr.len()).is_none_or(|b| !b.is_ascii_digit() && *b != b'.');
    text.windows(addr.len()).enumerate().any(|(at, w)| w == addr.as_bytes() && ends(at))
}

/// Start line and headers, and body.
fn parts(message: &[u8]) -> (Vec<&[u8]>, usize) {
    let mut at = 0;
    let mut lines = Vec::new();
    for line in message.split_inclusive(|b| *b == b'\n') {
        at += line.len();
        if line.trim_ascii().is_empty() && !lines.is_empty() {
            return (lines, message.len() - at);
        }
        lines.push(line);
    }
    (lines, 0)
}

fn word(line: &[u8]) -> &[u8] {
    line.split(|b| b": \t\r\n".contains(b)).next().unwrap_or_default()
}

/// The length that a message says that its body has.
fn said(lines: &[&[u8]]) -> Option<usize> {
    let is = |line: &&&[u8]| {
        let name = word(line);
        name.eq_ignore_ascii_case(b"content-length") || name.eq_ignore_ascii_case(b"l")
    };
    let line = lines.iter().find(is)?;
    let value = line.iter().position(|b| *b == b':').map(|colon| line[colon + 1..].trim_ascii())?;
    std::str::from_utf8(value).ok()?.parse().ok()
}

/// An edited message is the same message: it has the same lines with the same names, says its length as rightly as before, and
/// whoever reads it where nothing is translated has nothing to change and no fault to find.
fn assert_reads_again(flow: &FlowContext, from: Side, payload: &[u8], out: &[u8]) {
    let ((before, body), (after, new_body)) = (parts(payload), parts(out));
    let words = |lines: &[&[u8]]| lines.iter().skip(1).map(|line| word(line).to_vec()).collect::<Vec<_>>();
    assert_eq!(words(&before), words(&after));
    if said(&before) == Some(body) {
        assert_eq!(said(&after), Some(new_body));
    }
    let seen = FlowContext {
        initiator: flow.initiator_translated,
        responder: flow.responder_translated,
        initiator_translated: flow.initiator_translated,
        responder_translated: flow.responder_translated,
        ..*flow
    };
    let own =
        FlowContext { initiator_translated: flow.initiator, responder_translated: flow.responder, ..*flow };
    // Who receives it is at the other end.
    let flow = match from {
        Side::Initiator => {
            FlowContext { responder: own.responder, responder_translated: own.responder, ..seen }
        }
        Side::Responder => {
            FlowContext { initiator: own.initiator, initiator_translated: own.initiator, ..seen }
        }
    };
    let mut profile = Profile { third_party: true, lowest_port: 0, ..Profile::default() };
    profile.sip.longest_message = u16::MAX;
    let allowed = profile.clone();
    let mut books = books(flow, [flow, flow], allowed);
    let (mut tables, mut answer) = (Tables::new(), Answer::default());
    let mut cx = Context { flow: &flow, profile: &profile, gateway: &mut books, tables: &mut tables };
    let Some(mut alg) = BoundDatagram::for_application(Application::Sip) else { return };
    let verdict = alg.inspect(&mut cx, from, out, &mut answer);
    let text = String::from_utf8_lossy(out);
    assert!(
        !matches!(verdict, Verdict::Blind(_) | Verdict::Refuse(Denial::Malformed)),
        "{verdict:?}: {text}"
    );
    assert!(answer.edits.is_empty(), "{:?} of {text}", answer.edits);
}

fn books(flow: FlowContext, sessions: [FlowContext; 2], allowed: Profile) -> Books {
    Books {
        flow,
        sessions,
        exhausted: false,
        limit: usize::MAX,
        next_port: 30_000,
        reserved: BTreeMap::new(),
        pinholes: BTreeMap::new(),
        allowed,
    }
}

struct Talk {
    setting: Setting,
    port: u16,
    books: Books,
    tables: Tables,
    algs: [BoundDatagram; 2],
    now_ms: u64,
}

impl Talk {
    fn new(setting: Setting, application: Application, port: u16) -> Option<Self> {
        let alg = BoundDatagram::for_application(application)?;
        let sessions = [false, true].map(|second| setting.flow(second, port, 0));
        let mut books = books(sessions[0], sessions, setting.profile.clone());
        (books.exhausted, books.limit) = (setting.exhausted, setting.limit);
        Some(Self { setting, port, books, tables: Tables::new(), algs: [alg; 2], now_ms: 0 })
    }

    fn advance(&mut self, ms: u32) {
        self.now_ms += u64::from(ms);
        self.books.expire(self.now_ms);
    }

    /// What becomes of a datagram, and whether it goes on.
    fn say(&mut self, second: bool, from: Side, payload: &[u8], finds_no_room: bool) -> Verdict {
        // The clock of a flow wraps.
        let now_ms = u32::try_from(self.now_ms & u64::from(u32::MAX)).unwrap();
        let flow = self.setting.flow(second, self.port, now_ms);
        self.books.flow = flow;
        let (profile, mut answer) = (&self.setting.profile, Answer::default());
        let mut cx = Context { flow: &flow, profile, gateway: &mut self.books, tables: &mut self.tables };
        let alg = &mut self.algs[usize::from(second)];
        let verdict = alg.inspect(&mut cx, from, payload, &mut answer);
        match verdict {
            Verdict::Pass | Verdict::Blind(_) => {}
            Verdict::Refuse(_) | Verdict::Deny(_) => {
                assert!(answer.expectations.is_empty() && answer.orders.is_empty(), "all or nothing");
                assert!(
                    answer.edits.is_empty() && answer.facts.iter().all(|f| f.after.is_empty()),
                    "{answer:?}"
                );
                self.books.settle();
                return verdict;
            }
            Verdict::Hold { .. } | Verdict::More { .. } => panic!("a datagram is whole"),
        }
        let out = apply(payload, &answer.edits);
        for edit in answer.edits.iter().filter(|edit| edit.translates) {
            let old = &payload[edit.start..edit.start + edit.len];
            let hidden = if from == Side::Initiator { flow.initiator.addr } else { flow.responder.addr };
            let seen = flow.seen(from.other()).addr;
            for addr in [hidden, seen] {
                let stays = !self.books.is_hidden(if addr == hidden { from } else { from.other() });
                assert!(stays || !names(old, addr) || !names(&edit.with, addr), "{edit:?} of {old:?}");
            }
        }
        if self.setting.profile.watch {
            self.books.settle();
            return verdict;
        }
        let opens = !answer.expectations.is_empty();
        if opens && (finds_no_room || !self.books.open(&answer.expectations, self.now_ms)) {
            alg.refuse(&flow, &mut self.tables, payload, Denial::NoResources, &mut answer);
            assert!(answer.edits.is_empty() && answer.expectations.is_empty() && answer.orders.is_empty());
            self.books.settle();
            return Verdict::Refuse(Denial::NoResources);
        }
        // What the tag of a new pinhole has meant before is closed already.
        let is_new = |tag: u32| answer.expectations.iter().any(|request| request.tag == tag);
        for order in &answer.orders {
            if !matches!(order, Order::Close { tag, .. } if is_new(*tag)) {
                self.books.order(*order, self.now_ms);
            }
        }
        self.books.settle();
        if !answer.edits.is_empty() {
            assert_eq!(alg.application(), Application::Sip, "TFTP changes nothing");
            assert_reads_again(&flow, from, payload, &out);
        }
        verdict
    }

    /// After a day nothing is left: each port is given back, and a phone may call again.
    fn end(mut self) {
        self.advance(ALL_IS_OVER_MS);
        assert!(self.books.pinholes.is_empty() && self.books.reserved.is_empty(), "a port is left");
        self.setting.profile = Profile::default();
        self.setting.profile.sip.max_dialogs = 1;
        self.books.allowed = self.setting.profile.clone();
        (self.books.exhausted, self.books.limit) = (false, usize::MAX);
        let is_sip = self.algs[0].application() == Application::Sip && self.algs[0].blindness().is_none();
        if is_sip {
            let verdict = self.say(false, Side::Initiator, CALL, false);
            assert_eq!(verdict, Verdict::Pass, "a call is left");
        }
    }
}

const CALL: &[u8] = b"INVITE sip:bob@203.0.113.9 SIP/2.0\r\nVia: SIP/2.0/UDP 10.1.0.2:40000;branch=z9hG4bKlast\r\n\
    From: <sip:last@10.1.0.2>;tag=last\r\nTo: <sip:bob@203.0.113.9>\r\nCall-ID: the-last\r\nCSeq: 1 INVITE\r\n\
    Contact: <sip:last@10.1.0.2:40000>\r\nContent-Type: application/sdp\r\nContent-Length: 86\r\n\r\n\
    v=0\r\no=- 1 1 IN IP4 10.1.0.2\r\ns=-\r\nc=IN IP4 10.1.0.2\r\nt=0 0\r\nm=audio 40002 RTP/AVP 0\r\n";

/// Runs one script on both protocols. Panics where one breaks its contract.
pub fn datagrams(script: &[u8]) {
    let Some((chosen, script)) = script.split_first_chunk::<3>() else { return };
    for (application, port) in [(Application::Tftp, 69), (Application::Sip, 5060)] {
        let Some(mut talk) = Talk::new(Setting::of(*chosen), application, port) else { continue };
        let (mut rest, mut denied) = (script, false);
        while let Some((&[time, high, low], more)) = rest.split_first_chunk()
            && !denied
        {
            let head = u16::from_be_bytes([high, low]);
            let from = if head & 0x8000 == 0 { Side::Initiator } else { Side::Responder };
            let (piece, more) = more.split_at(usize::from(head & 0x1fff).min(more.len()));
            rest = more;
            talk.advance(u32::from(time).pow(3));
            let verdict = talk.say(head & 0x4000 != 0, from, piece, head & 0x2000 != 0);
            denied = matches!(verdict, Verdict::Deny(_));
        }
        if !denied {
            talk.end();
        }
    }
}
