//! The body of the `ftp` fuzz target, shared with the bounded test that runs it on every build.
//!
//! The input is a script: a control byte picks the direction and a length, that many bytes follow. The same script is
//! fed in its own pieces to one ALG, and byte by byte to another; both must answer the same in total.

use alg::ftp::Ftp;
use alg::{
    Answer, Context, Denial, Endpoint, ExpectationRequest, Fact, FlowContext, Gateway, Parity, Profile,
    PublishError, Side, StreamAlg, Tables, Transport, Verdict,
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

    fn to_inside(&self, _: Transport, _: Endpoint) -> Option<Endpoint> {
        None
    }

    fn to_outside(&self, _: Transport, _: Endpoint) -> Option<Endpoint> {
        None
    }
}

#[derive(Default)]
struct Run {
    alg: Ftp,
    offset: [u64; 2],
    held: [Vec<u8>; 2],
    out: [Vec<u8>; 2],
    expectations: Vec<ExpectationRequest>,
    facts: Vec<Fact>,
    denial: Option<Denial>,
}

impl Run {
    fn feed(&mut self, from: Side, bytes: &[u8]) {
        if self.denial.is_some() {
            return;
        }
        let flow = FlowContext {
            id: 1,
            transport: Transport::Tcp,
            now_ms: 0,
            initiator: Endpoint::new(CLIENT, 40000),
            initiator_translated: Endpoint::new(OUTSIDE, 20001),
            responder: Endpoint::new(SERVER, 21),
            responder_translated: Endpoint::new(SERVER, 21),
        };
        let side = from as usize;
        let (held, out) = (&mut self.held[side], &mut self.out[side]);
        held.extend_from_slice(bytes);
        let mut answer = Answer::default();
        let mut cx = Context {
            flow: &flow,
            profile: &Profile::default(),
            gateway: &mut Nat,
            tables: &mut Tables::new(),
        };
        let verdict = self.alg.inspect(&mut cx, from, self.offset[side], held, &mut answer);
        self.facts.extend(answer.facts);
        let understood = match verdict {
            Verdict::Pass | Verdict::Blind(_) => held.len(),
            Verdict::Hold { understood } | Verdict::More { understood } => understood,
            Verdict::Refuse(denial) | Verdict::Deny(denial) => {
                self.denial = Some(denial);
                return;
            }
        };
        assert!(understood <= held.len());
        assert!(held.len() - understood < alg::ftp::MAX_LINE, "no more than a line is held");
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
        self.expectations.extend(answer.expectations);
    }
}

/// Runs one script. Panics where the ALG breaks its contract.
pub fn run(script: &[u8]) {
    let (mut whole, mut bytewise) = (Run::default(), Run::default());
    let mut rest = script;
    while let Some((&control, more)) = rest.split_first() {
        let from = if control & 0x80 == 0 { Side::Initiator } else { Side::Responder };
        let (piece, more) = more.split_at(usize::from(control & 0x7f).min(more.len()));
        rest = more;
        whole.feed(from, piece);
        for byte in piece {
            bytewise.feed(from, &[*byte]);
        }
        // More pinholes in one call than the contract carries: only a matter of the cut.
        if whole.denial == Some(Denial::TooMany) {
            return;
        }
    }
    assert_eq!(whole.denial, bytewise.denial);
    assert_eq!(whole.facts, bytewise.facts);
    if whole.denial.is_none() {
        assert_eq!(whole.out, bytewise.out);
        assert_eq!(whole.held, bytewise.held);
        assert_eq!(whole.expectations, bytewise.expectations);
        assert_eq!(whole.alg, bytewise.alg);
    }
}
