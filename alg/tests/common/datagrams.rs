//! A datagram engine of a few lines.

use super::{TestGateway, flow};
use alg::{
    Answer, Application, BoundDatagram, Context, DatagramAlg, Denial, Edit, ExpectationRequest, Fact,
    FlowContext, Order, Profile, Side, Tables, Transport, Verdict,
};

/// One session over UDP and all that its ALG has answered.
#[derive(Debug)]
pub struct Datagrams {
    pub alg: BoundDatagram,
    pub gateway: TestGateway,
    pub profile: Profile,
    pub tables: Tables,
    pub now_ms: u32,
    /// Of the last datagram.
    pub expectations: Vec<ExpectationRequest>,
    pub edits: Vec<Edit>,
    pub orders: Vec<Order>,
    pub reply: Vec<u8>,
    /// Of all.
    pub facts: Vec<Fact>,
}

impl Datagrams {
    pub fn new(application: Application, flow: FlowContext) -> Self {
        Self {
            alg: BoundDatagram::for_application(application).unwrap(),
            gateway: TestGateway::new(FlowContext { transport: Transport::Udp, ..flow }),
            profile: Profile::default(),
            tables: Tables::new(),
            now_ms: 0,
            expectations: Vec::new(),
            edits: Vec::new(),
            orders: Vec::new(),
            reply: Vec::new(),
            facts: Vec::new(),
        }
    }

    /// A client at 10.1.0.2 behind 198.51.100.1:20001, and a server at 203.0.113.9.
    pub fn source_nat(application: Application, client: u16, port: u16) -> Self {
        let mut flow = flow("10.1.0.2", "198.51.100.1", "203.0.113.9", "203.0.113.9");
        flow.initiator.port = client;
        flow.responder.port = port;
        flow.responder_translated.port = port;
        Self::new(application, flow)
    }

    /// One datagram: what leaves, or why it does not.
    pub fn send(&mut self, from: Side, payload: impl AsRef<[u8]>) -> Result<Vec<u8>, Denial> {
        let payload = payload.as_ref();
        let flow = FlowContext { now_ms: self.now_ms, ..self.gateway.flow };
        let mut answer = Answer::default();
        let mut cx = Context {
            flow: &flow,
            profile: &self.profile,
            gateway: &mut self.gateway,
            tables: &mut self.tables,
        };
        let verdict = self.alg.inspect(&mut cx, from, payload, &mut answer);
        self.expectations = answer.expectations.to_vec();
        self.edits = answer.edits.to_vec();
        self.orders = answer.orders.to_vec();
        self.reply = answer.reply.to_vec();
        self.facts.extend(answer.facts);
        match verdict {
            Verdict::Pass | Verdict::Blind(_) => {}
            Verdict::Refuse(denial) | Verdict::Deny(denial) => {
                assert!(self.expectations.is_empty() && self.orders.is_empty(), "all or nothing");
                return Err(denial);
            }
            Verdict::Hold { .. } | Verdict::More { .. } => unreachable!("a datagram is whole"),
        }
        let (mut out, mut done) = (Vec::new(), 0);
        for edit in &answer.edits {
            assert!(edit.start >= done && edit.start + edit.len <= payload.len(), "edits ascend");
            out.extend_from_slice(&payload[done..edit.start]);
            out.extend_from_slice(&edit.with);
            done = edit.start + edit.len;
        }
        out.extend_from_slice(&payload[done..]);
        Ok(out)
    }

    /// The same as text.
    pub fn text(&mut self, from: Side, payload: impl AsRef<[u8]>) -> String {
        String::from_utf8_lossy(&self.send(from, payload).unwrap()).into_owned()
    }
}
