//! The bodies of the fuzz targets for streams, shared with the bounded tests that run them on every build.
//!
//! The input is a script: a control byte picks the direction and a length, that many bytes follow. The same script is
//! fed in its own pieces to one ALG, and byte by byte to another; both must answer the same in total.

use alg::{
    Answer, Application, Blindness, Bound, Context, Denial, Detection, Detector, Endpoint,
    ExpectationRequest, Fact, FlowContext, Gateway, Order, Parity, Profile, PublishError, Side, StreamAlg,
    Tables, Transport, Verdict,
};
use std::net::{IpAddr, Ipv4Addr};

const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 1, 0, 2));
const OUTSIDE: IpAddr = IpAddr::V4(Ipv4Addr::new(198, 51, 100, 1));
const SERVER: IpAddr = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 9));

/// Translates the client, and every third port of the server's.
struct Nat;

impl Gateway for Nat {
    fn publish(
        &mut self,
        side: Side,
        _: Transport,
        endpoint: Endpoint,
        _: u16,
        _: Parity,
    ) -> Result<Endpoint, PublishError> {
        assert!(endpoint.port >= 1024);
        match side {
            Side::Initiator => Ok(Endpoint::new(OUTSIDE, endpoint.port.rotate_left(3).max(1024))),
            Side::Responder if endpoint.port.is_multiple_of(3) => Ok(Endpoint::new(SERVER, 65535)),
            Side::Responder if endpoint.port == 2021 => Err(PublishError::PortsExhausted),
            Side::Responder => Ok(endpoint),
        }
    }

    fn to_inside(&self, _: Transport, published: Endpoint) -> Option<Endpoint> {
        let inside = Endpoint::new(CLIENT, published.port.rotate_right(3).max(1024));
        (published.addr == OUTSIDE && published.port.is_multiple_of(2)).then_some(inside)
    }

    fn to_outside(&self, _: Transport, _: Endpoint) -> Option<Endpoint> {
        None
    }
}

/// An ALG that can be run here: every one that a session may be bound to, and the guide's example.
pub trait Runs: StreamAlg + Copy + PartialEq + core::fmt::Debug {
    /// Why nothing is read any more.
    fn why_blind(&self) -> Option<Blindness>;

    /// What a detector has found, if this can be it.
    fn found(_: Bound) -> Option<Self> {
        None
    }
}

impl Runs for Bound {
    fn why_blind(&self) -> Option<Blindness> {
        self.blindness()
    }

    fn found(bound: Bound) -> Option<Self> {
        Some(bound)
    }
}

struct Run<'a, A> {
    /// Before it is known what the flow is.
    detector: Option<Detector>,
    /// It is nothing that an ALG reads.
    nothing: bool,
    alg: A,
    port: u16,
    profile: &'a Profile,
    tables: Tables,
    offset: [u64; 2],
    held: [Vec<u8>; 2],
    out: [Vec<u8>; 2],
    expectations: Vec<ExpectationRequest>,
    orders: Vec<Order>,
    facts: Vec<Fact>,
    denial: Option<Denial>,
}

impl<'a, A: Runs> Run<'a, A> {
    fn new(alg: A, port: u16, profile: &'a Profile) -> Self {
        Self {
            detector: None,
            nothing: false,
            alg,
            port,
            profile,
            tables: Tables::new(),
            offset: [0; 2],
            held: Default::default(),
            out: Default::default(),
            expectations: Vec::new(),
            orders: Vec::new(),
            facts: Vec::new(),
            denial: None,
        }
    }

    fn feed(&mut self, from: Side, bytes: &[u8], longest: usize) {
        self.held[from as usize].extend_from_slice(bytes);
        while self.denial.is_none() && self.is_known(from) && self.call(from, longest) {}
    }

    /// Whether the ALG may read.
    fn is_known(&mut self, from: Side) -> bool {
        let Some(detector) = &mut self.detector else { return true };
        let side = from as usize;
        let detection = if self.nothing { Detection::Nothing } else { detector.look(from, &self.held[side]) };
        match detection {
            Detection::Unsure => assert!(self.held[side].len() < alg::detect::MAX_FIRST, "little is held"),
            Detection::Goes => {
                self.offset[side] += self.held[side].len() as u64;
                self.out[side].append(&mut self.held[side]);
            }
            Detection::Nothing => {
                self.nothing = true;
                for (held, out) in self.held.iter_mut().zip(&mut self.out) {
                    out.append(held);
                }
            }
            Detection::Is(bound) => (self.alg, self.detector) = (A::found(bound).unwrap(), None),
        }
        self.detector.is_none()
    }

    /// One call. True if the ALG wants another at once.
    fn call(&mut self, from: Side, longest: usize) -> bool {
        let flow = FlowContext {
            id: 1,
            group: 1,
            turned: false,
            transport: Transport::Tcp,
            now_ms: 0,
            initiator: Endpoint::new(CLIENT, 40000),
            initiator_translated: Endpoint::new(OUTSIDE, 20001),
            responder: Endpoint::new(SERVER, self.port),
            responder_translated: Endpoint::new(SERVER, self.port),
        };
        let side = from as usize;
        let (held, out) = (&mut self.held[side], &mut self.out[side]);
        let mut answer = Answer::default();
        let mut cx =
            Context { flow: &flow, profile: self.profile, gateway: &mut Nat, tables: &mut self.tables };
        let verdict = self.alg.inspect(&mut cx, from, self.offset[side], held, &mut answer);
        self.facts.extend(answer.facts);
        let (understood, again) = match verdict {
            Verdict::Pass | Verdict::Blind(_) => (held.len(), false),
            Verdict::Hold { understood } => (understood, false),
            Verdict::More { understood } => {
                assert!(understood > 0, "it moves");
                (understood, true)
            }
            Verdict::Refuse(denial) | Verdict::Deny(denial) => {
                self.denial = Some(denial);
                return false;
            }
        };
        assert!(understood <= held.len());
        assert!(again || held.len() - understood < longest, "no more than a message is held");
        let mut done = 0;
        for edit in answer.edits {
            assert!(edit.start >= done && edit.start + edit.len <= understood);
            out.extend_from_slice(&held[done..edit.start]);
            out.extend_from_slice(&edit.with);
            done = edit.start + edit.len;
        }
        out.extend_from_slice(&held[done..understood]);
        held.drain(..understood);
        self.offset[side] += understood as u64;
        self.out[from.other() as usize].extend_from_slice(&answer.reply);
        self.expectations.extend(answer.expectations);
        self.orders.extend(answer.orders);
        again
    }
}

/// The pieces of a script, and who says each.
fn pieces(script: &[u8]) -> impl Iterator<Item = (Side, &[u8])> {
    let mut rest = script;
    core::iter::from_fn(move || {
        let (&control, more) = rest.split_first()?;
        let from = if control & 0x80 == 0 { Side::Initiator } else { Side::Responder };
        let (piece, more) = more.split_at(usize::from(control & 0x7f).min(more.len()));
        rest = more;
        Some((from, piece))
    })
    .filter(|(_, piece)| !piece.is_empty())
}

/// Both have done the same.
fn assert_alike<A: Runs>(one: &Run<'_, A>, other: &Run<'_, A>) {
    assert_eq!(one.denial, other.denial);
    assert_eq!(one.facts, other.facts);
    if one.denial.is_none() {
        assert_eq!(one.out, other.out);
        assert_eq!(one.held, other.held);
        assert_eq!(one.expectations, other.expectations);
        assert_eq!(one.orders, other.orders);
        assert_eq!(one.alg, other.alg);
    }
}

/// Runs one script on a stream ALG that holds less than `longest` bytes. Panics where it breaks its contract.
pub fn stream<A: Runs>(alg: A, port: u16, profile: &Profile, longest: usize, script: &[u8]) {
    let (mut whole, mut bytewise) = (Run::new(alg, port, profile), Run::new(alg, port, profile));
    for (from, piece) in pieces(script) {
        whole.feed(from, piece, longest);
        for byte in piece {
            bytewise.feed(from, &[*byte], longest);
        }
    }
    assert_alike(&whole, &bytewise);
}

/// Runs one script on a flow that nobody has named, and, if it turns out to be some protocol's, on that protocol's ALG from
/// the first byte on. Answers what it was.
pub fn detected(script: &[u8]) -> Option<Application> {
    const LONGEST: usize = 20_000;
    let profile = Profile::default();
    let run = |application, detector: Option<Detector>, bytewise: bool| {
        let mut run = Run { detector, ..Run::new(bound(application), 7_000, &profile) };
        for (from, piece) in pieces(script) {
            for part in piece.chunks(if bytewise { 1 } else { piece.len() }) {
                run.feed(from, part, LONGEST);
            }
        }
        run
    };
    let detector = Detector::new(|_| true);
    let whole = run(Application::Ftp, detector, false);
    let bytewise = run(Application::Ftp, detector, true);
    assert_eq!((whole.nothing, whole.detector.is_some()), (bytewise.nothing, bytewise.detector.is_some()));
    assert_alike(&whole, &bytewise);
    if whole.detector.is_some() {
        return None;
    }
    let application = whole.alg.application();
    assert_alike(&whole, &run(application, None, false));
    Some(application)
}

fn bound(application: Application) -> Bound {
    Bound::for_application(application).unwrap()
}

/// FTP, with the default profile and with everything on.
pub fn ftp(script: &[u8]) {
    stream(bound(Application::Ftp), 21, &Profile::default(), alg::ftp::MAX_LINE, script);
    let mut profile = Profile::default();
    profile.ftp.mask_greeting = true;
    profile.ftp.mask_syst = true;
    profile.ftp.correct_passive_address = true;
    profile.rules = alg::CommandPolicy::new([alg::rules::Rule {
        methods: Box::new(["STOR".into(), "PWD".into()]),
        action: Some(alg::Action::Deny),
        ..Default::default()
    }]);
    stream(bound(Application::Ftp), 21, &profile, 1024, script);
    profile.strict = true;
    stream(bound(Application::Ftp), 21, &profile, 1024, script);
}

/// SIP over TCP.
pub fn sip_stream(script: &[u8]) {
    let mut profile = Profile::default();
    stream(bound(Application::Sip), 5060, &profile, 20_000, script);
    profile.sip.rewrite = alg::sip::Rewrite::Full;
    profile.third_party = true;
    stream(bound(Application::Sip), 5060, &profile, 20_000, script);
}

/// RTSP.
pub fn rtsp(script: &[u8]) {
    let mut profile = Profile::default();
    stream(bound(Application::Rtsp), 554, &profile, alg::rtsp::MAX_HEAD, script);
    profile.rtsp.other_source = true;
    stream(bound(Application::Rtsp), 554, &profile, alg::rtsp::MAX_HEAD, script);
}
