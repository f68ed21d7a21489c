//! A stream engine of a few lines for the tests: it really holds what an ALG asks to hold, applies the edits, and
//! checks on every call what the contract promises.
#![allow(dead_code, reason = "each test binary uses its part")]
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

pub mod fuzz_body;

use alg::ftp::Ftp;
use alg::{
    Answer, Application, Context, Denial, Endpoint, ExpectationRequest, Fact, FlowContext, Gateway, Opener,
    Parity, Profile, PublishError, Side, StreamAlg, Tables, Transport, Uses, Verdict,
};
use std::net::IpAddr;

/// Publishes the seen address with port `(port + shift) % 64512 + 1024`.
#[derive(Clone, Debug)]
pub struct TestGateway {
    pub flow: FlowContext,
    pub shift: u16,
    pub error: Option<PublishError>,
    pub asked: Vec<(Side, Endpoint)>,
}

impl TestGateway {
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
        assert_eq!((transport, count, parity), (Transport::Tcp, 1, Parity::Any));
        assert_eq!(endpoint.addr, self.flow.own(side).addr, "only the end's own address is published");
        assert!(endpoint.port >= 1024, "privileged port published");
        self.asked.push((side, endpoint));
        match self.error {
            Some(error) => Err(error),
            None => Ok(Endpoint::new(self.flow.seen(side).addr, self.port(side, endpoint.port))),
        }
    }

    fn to_inside(&self, _: Transport, _: Endpoint) -> Option<Endpoint> {
        None
    }

    fn to_outside(&self, _: Transport, _: Endpoint) -> Option<Endpoint> {
        None
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
#[derive(Clone, Debug)]
pub struct Engine {
    pub alg: Ftp,
    pub gateway: TestGateway,
    pub streams: [Stream; 2],
    pub expectations: Vec<ExpectationRequest>,
    pub facts: Vec<Fact>,
    pub denial: Option<Denial>,
}

impl Engine {
    pub fn new(flow: FlowContext) -> Self {
        Self {
            alg: Ftp::default(),
            gateway: TestGateway { flow, shift: 0, error: None, asked: Vec::new() },
            streams: Default::default(),
            expectations: Vec::new(),
            facts: Vec::new(),
            denial: None,
        }
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

    /// More bytes of one direction arrive.
    pub fn feed(&mut self, from: Side, bytes: impl AsRef<[u8]>) -> &mut Self {
        if self.denial.is_some() {
            return self;
        }
        let stream = &mut self.streams[from as usize];
        stream.held.extend_from_slice(bytes.as_ref());
        let mut answer = Answer::default();
        let flow = self.gateway.flow;
        let mut cx = Context {
            flow: &flow,
            profile: &Profile::default(),
            gateway: &mut self.gateway,
            tables: &mut Tables::new(),
        };
        let verdict = self.alg.inspect(&mut cx, from, stream.offset, &stream.held, &mut answer);
        let understood = match verdict {
            Verdict::Pass | Verdict::Blind(_) => stream.held.len(),
            Verdict::Hold { understood } | Verdict::More { understood } => {
                assert!(understood < stream.held.len(), "Hold holds something");
                understood
            }
            Verdict::Refuse(denial) | Verdict::Deny(denial) => {
                self.denial = Some(denial);
                self.facts.extend(answer.facts);
                return self;
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
        self.expectations.extend(answer.expectations);
        self.facts.extend(answer.facts);
        self
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

/// The pinhole of a data connection.
pub fn data(opener: Side, listener: Endpoint, published: Endpoint) -> ExpectationRequest {
    ExpectationRequest {
        tag: 0,
        opener: Opener::Peer(opener),
        transport: Transport::Tcp,
        listener,
        published,
        reverse: None,
        uses: Uses::Once,
        armed: true,
        lifetime_ms: 0,
        application: Application::FtpData,
    }
}
