//! A stream engine of a few lines for the tests: it really holds what an ALG asks to hold, applies the edits, and
//! checks on every call what the contract promises.
#![allow(dead_code, reason = "each test binary uses its part")]
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

pub mod datagrams;
pub mod fuzz_body;
pub mod fuzz_datagrams;

use alg::{
    Answer, Application, Blindness, Bound, Context, Denial, Edit, Endpoint, ExpectationRequest, Fact,
    FlowContext, Gateway, Opener, Order, Parity, Profile, PublishError, Side, Tables, Transport, Uses,
    Verdict,
};
use fuzz_body::Runs;
use std::collections::BTreeMap;
use std::net::IpAddr;

/// Publishes the seen address with port `(port + shift) % 64512 + 1024`.
#[derive(Clone, Debug)]
pub struct TestGateway {
    pub flow: FlowContext,
    pub shift: u16,
    pub error: Option<PublishError>,
    pub asked: Vec<(Side, Endpoint)>,
    /// What is published, by this flow and by others.
    pub published: BTreeMap<(IpAddr, u16), Endpoint>,
    /// Over which transports this flow has published each; of others: over both.
    pub transports: BTreeMap<(IpAddr, u16), Vec<Transport>>,
    /// Sessions that are over, by their number.
    pub over: Vec<u64>,
    /// How many pinholes more the limits let be opened.
    pub room: usize,
}

impl TestGateway {
    pub fn new(flow: FlowContext) -> Self {
        Self {
            flow,
            shift: 0,
            error: None,
            asked: Vec::new(),
            published: BTreeMap::new(),
            transports: BTreeMap::new(),
            over: Vec::new(),
            room: usize::MAX,
        }
    }

    /// The port that `port` is published as; itself where the flow is not translated.
    pub fn port(&self, side: Side, port: u16) -> u16 {
        if self.flow.own(side) == self.flow.seen(side) {
            return port;
        }
        ((u32::from(port) + u32::from(self.shift)) % 64_512 + 1024) as u16
    }
}

impl Gateway for TestGateway {
    fn publish(
        &mut self,
        side: Side,
        transport: Transport,
        endpoint: Endpoint,
        count: u16,
        parity: Parity,
    ) -> Result<Endpoint, PublishError> {
        assert!(count >= 1 && (count == 1 || parity == Parity::Even));
        assert!(endpoint.port >= 1024, "privileged port published");
        self.asked.push((side, endpoint));
        if let Some(error) = self.error {
            return Err(error);
        }
        let published = Endpoint::new(self.flow.seen(side).addr, self.port(side, endpoint.port));
        for i in 0..count {
            let inside = Endpoint::new(endpoint.addr, endpoint.port.wrapping_add(i));
            let at = (published.addr, published.port.wrapping_add(i));
            self.published.insert(at, inside);
            self.transports.entry(at).or_default().push(transport);
        }
        Ok(published)
    }

    fn to_inside(&self, transport: Transport, published: Endpoint) -> Option<Endpoint> {
        let at = (published.addr, published.port);
        let over = self.transports.get(&at).is_none_or(|over| over.contains(&transport));
        self.published.get(&at).copied().filter(|_| over)
    }

    fn to_outside(&self, transport: Transport, inside: Endpoint) -> Option<Endpoint> {
        let over = |at| self.transports.get(at).is_none_or(|over| over.contains(&transport));
        let found = self.published.iter().find(|(at, to)| **to == inside && over(*at));
        found.map(|((addr, port), _)| Endpoint::new(*addr, *port))
    }

    fn has_room(&mut self, _: IpAddr, count: usize) -> bool {
        count <= self.room
    }

    fn lives(&self, flow: u64) -> bool {
        !self.over.contains(&flow)
    }
}

/// One direction of the connection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stream {
    pub offset: u64,
    pub held: Vec<u8>,
    pub out: Vec<u8>,
}

/// One control connection and all that its ALG has answered.
#[derive(Debug)]
pub struct Engine<A = Bound> {
    pub alg: A,
    pub gateway: TestGateway,
    pub profile: Profile,
    pub tables: Tables,
    pub now_ms: u32,
    pub streams: [Stream; 2],
    pub expectations: Vec<ExpectationRequest>,
    pub edits: Vec<Edit>,
    pub orders: Vec<Order>,
    pub facts: Vec<Fact>,
    pub denial: Option<Denial>,
}

impl Engine {
    pub fn of(application: Application, flow: FlowContext) -> Self {
        Self::with(Bound::for_application(application).unwrap(), flow)
    }

    /// FTP.
    pub fn new(flow: FlowContext) -> Self {
        Self::of(Application::Ftp, flow)
    }

    /// Source NAT of the client.
    pub fn source_nat() -> Self {
        Self::new(flow("10.1.0.2", "198.51.100.1", "203.0.113.9", "203.0.113.9"))
    }

    /// Destination NAT of the server.
    pub fn destination_nat() -> Self {
        Self::new(flow("192.0.2.7", "192.0.2.7", "10.1.0.2", "198.51.100.1"))
    }

    /// No translation.
    pub fn routed() -> Self {
        Self::new(flow("10.1.0.2", "10.1.0.2", "203.0.113.9", "203.0.113.9"))
    }
}

impl<A: Runs> Engine<A> {
    pub fn with(alg: A, flow: FlowContext) -> Self {
        Self {
            alg,
            gateway: TestGateway::new(flow),
            profile: Profile::default(),
            tables: Tables::new(),
            now_ms: 0,
            streams: Default::default(),
            expectations: Vec::new(),
            edits: Vec::new(),
            orders: Vec::new(),
            facts: Vec::new(),
            denial: None,
        }
    }

    /// With a strict profile.
    pub fn strict(mut self) -> Self {
        self.profile.strict = true;
        self
    }

    /// The stream from a side.
    pub fn stream(&self, from: Side) -> &Stream {
        &self.streams[from as usize]
    }

    /// What the other end of `from` has received, as text.
    pub fn out(&self, from: Side) -> String {
        String::from_utf8_lossy(&self.stream(from).out).into_owned()
    }

    /// What is held of `from`, as text.
    pub fn held(&self, from: Side) -> String {
        String::from_utf8_lossy(&self.stream(from).held).into_owned()
    }

    /// Why nothing is read any more.
    pub fn blind(&self) -> Option<Blindness> {
        self.alg.why_blind()
    }

    /// More bytes of one direction arrive.
    pub fn feed(&mut self, from: Side, bytes: impl AsRef<[u8]>) -> &mut Self {
        // The dataplane, too, calls for new bytes alone.
        if self.denial.is_some() || bytes.as_ref().is_empty() {
            return self;
        }
        self.streams[from as usize].held.extend_from_slice(bytes.as_ref());
        while self.call(from) {}
        self
    }

    /// One call of the ALG. True if it wants another at once.
    fn call(&mut self, from: Side) -> bool {
        let stream = &mut self.streams[from as usize];
        let mut answer = Answer::default();
        let flow = FlowContext { now_ms: self.now_ms, ..self.gateway.flow };
        let mut cx = Context {
            flow: &flow,
            profile: &self.profile,
            gateway: &mut self.gateway,
            tables: &mut self.tables,
        };
        let before = self.alg;
        let verdict = self.alg.inspect(&mut cx, from, stream.offset, &stream.held, &mut answer);
        let (understood, again) = match verdict {
            Verdict::Pass => (stream.held.len(), false),
            Verdict::Blind(why) => {
                assert_eq!(self.alg.why_blind(), Some(why));
                (stream.held.len(), false)
            }
            Verdict::Hold { understood } => {
                assert!(understood < stream.held.len(), "Hold holds something");
                if understood == 0 {
                    assert_eq!(self.alg, before, "held bytes leave no trace");
                }
                (understood, false)
            }
            Verdict::More { understood } => {
                assert!(understood > 0 && understood < stream.held.len(), "More moves");
                (understood, true)
            }
            Verdict::Refuse(denial) | Verdict::Deny(denial) => {
                assert!(matches!(verdict, Verdict::Deny(_)), "a stream is denied");
                self.denial = Some(denial);
                self.facts.extend(answer.facts);
                return false;
            }
        };
        let mut done = 0;
        for edit in &answer.edits {
            assert!(edit.start >= done, "edits ascend and do not overlap");
            assert!(edit.start + edit.len <= understood, "edits lie in what is understood");
            stream.out.extend_from_slice(&stream.held[done..edit.start]);
            stream.out.extend_from_slice(&edit.with);
            done = edit.start + edit.len;
        }
        stream.out.extend_from_slice(&stream.held[done..understood]);
        stream.held.drain(..understood);
        stream.offset += understood as u64;
        self.streams[from.other() as usize].out.extend_from_slice(&answer.reply);
        let requests = answer.expectations.iter();
        self.expectations.extend(requests.map(|request| ExpectationRequest { offset: 0, ..*request }));
        self.edits.extend(answer.edits);
        self.orders.extend(answer.orders);
        self.facts.extend(answer.facts);
        again
    }

    pub fn client(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        self.feed(Side::Initiator, bytes)
    }

    pub fn server(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        self.feed(Side::Responder, bytes)
    }

    /// The same bytes in pieces of the given sizes, over and over.
    pub fn feed_cut(&mut self, from: Side, bytes: &[u8], sizes: &[usize]) -> &mut Self {
        let mut rest = bytes;
        for size in sizes.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (piece, more) = rest.split_at((*size).clamp(1, rest.len()));
            self.feed(from, piece);
            rest = more;
        }
        self
    }
}

/// A flow by its four addresses.
pub fn flow(client: &str, client_seen: &str, server: &str, server_seen: &str) -> FlowContext {
    let end = |addr: &str, port| Endpoint::new(addr.parse::<IpAddr>().unwrap(), port);
    let client_port = if client == client_seen { 40000 } else { 20001 };
    FlowContext {
        id: 1,
        group: 1,
        turned: false,
        transport: Transport::Tcp,
        now_ms: 0,
        initiator: end(client, 40000),
        initiator_translated: end(client_seen, client_port),
        responder: end(server, 21),
        responder_translated: end(server_seen, 21),
    }
}

/// An endpoint by its text.
pub fn end(text: &str) -> Endpoint {
    let at: std::net::SocketAddr = text.parse().unwrap();
    Endpoint::new(at.ip(), at.port())
}

/// The tag of a data connection that the server named.
pub const PASSIVE: u32 = 1 << 31;

/// The pinhole of a data connection.
pub fn data(tag: u32, listener: Endpoint, published: Endpoint) -> ExpectationRequest {
    let passive = tag & PASSIVE != 0;
    ExpectationRequest {
        tag,
        opener: Opener::Peer(if passive { Side::Initiator } else { Side::Responder }),
        transport: Transport::Tcp,
        listener,
        published,
        reverse: None,
        uses: Uses::Once,
        armed: passive,
        lifetime_ms: 0,
        application: Application::FtpData,
        group: None,
        offset: 0,
    }
}
