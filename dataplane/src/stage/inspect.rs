//! Inspect: the ALG of a session reads its streams.
//!
//! The one place where what an ALG answers is applied to a stream: edits, lengths, checksums, sequence shifts, refusals.
//! [`super::pinhole`] opens what it asks for. Sessions without an ALG pay one bit test.

use crate::buf::{BufPool, PacketBuf};
use crate::counters::Counter;
use crate::drop_reason::DropReason;
use crate::event::Event;
use crate::key::{Protocol, WorkerId};
use crate::packet::{checksum, flag, reset, rewrite as fields};
use crate::port::Port;
use crate::stage::publish::{Publisher, endpoints, release, side};
use crate::stage::{Context, Fate, Hit, Item, NextHop, rewrite, route};
use crate::stream::engine::Payload;
use crate::stream::{Engine, Outcome, Segment};
use crate::table::Direction;
use crate::view::{CloseReason, State};
use crate::worker::Local;
use alg::{Answer, Denial, Profile, Tables};

/// The slab of ALG states of one worker.
pub(crate) struct Algs {
    engines: Box<[Option<Engine>]>,
    free: Vec<u32>,
}

impl Algs {
    /// Room for `capacity` inspected sessions. Nothing grows later.
    pub(crate) fn new(capacity: u32) -> Self {
        Self { engines: (0..capacity).map(|_| None).collect(), free: (0..capacity).rev().collect() }
    }

    pub(crate) fn alloc(&mut self, engine: Engine) -> Option<u32> {
        let slot = self.free.pop()?;
        *self.engines.get_mut(slot as usize)? = Some(engine);
        Some(slot)
    }

    pub(crate) fn free(&mut self, slot: u32) {
        if let Some(engine @ Some(_)) = self.engines.get_mut(slot as usize) {
            *engine = None;
            self.free.push(slot);
        }
    }

    fn get_mut(&mut self, slot: u32) -> Option<&mut Engine> {
        self.engines.get_mut(slot as usize)?.as_mut()
    }

    /// How many are in use.
    pub(crate) fn used(&self) -> usize {
        self.engines.len() - self.free.len()
    }
}

/// Whether a connection in this state may still say where its streams begin.
const fn opening(state: State) -> bool {
    matches!(state, State::TcpSynSent | State::TcpSimultaneous | State::TcpSynReceived)
}

/// What an inspection needs and the path does not: kept with the worker, so that nothing big lies on the stack.
#[derive(Default)]
pub(crate) struct Scratch {
    pub(crate) answer: Answer,
    payload: Payload,
    profile: Profile,
    tables: Tables,
}

/// The edited message fits neither the buffer nor the MTU.
const NO_ROOM: (Denial, DropReason) = (Denial::NoResources, DropReason::AlgNoRoom);

/// Checks a packet of an inspected session before anything believes it: a checksum that is made anew would launder
/// corruption.
pub(crate) fn verify<B: PacketBuf>(item: &Item<B>) -> Result<(), DropReason> {
    if item.parsed.l4_checksum_is_valid(item.buf.bytes()) { Ok(()) } else { Err(DropReason::TcpChecksum) }
}

impl<P: Port, A: BufPool<Buf = P::Buf>> Local<P, A> {
    /// The acknowledgement number of an inspected session's packet in its addressee's own space. Before tracking.
    pub(crate) fn translate_ack_of(&mut self, hit: &Hit<'_>, item: &mut Item<P::Buf>) -> u32 {
        let (parsed, from) = (item.parsed, side(hit.direction));
        let engine = hit.session.alg_slot().and_then(|slot| self.algs.get_mut(slot));
        let Some(engine) = engine else { return parsed.ack };
        if !parsed.has(flag::ACK) {
            return parsed.ack;
        }
        engine.acknowledge(from, parsed.ack)
    }

    /// A sequence number that left the gateway toward the session's end `to`, as the other end wrote it. None if the
    /// session's streams were never edited.
    pub(crate) fn original_seq(&mut self, hit: &Hit<'_>, to: Direction, seq: u32) -> Option<u32> {
        let engine = hit.session.alg_slot().and_then(|slot| self.algs.get_mut(slot))?;
        // It moves as the acknowledgements of that end do: both count the stream as it left.
        engine.moves_acks_of(side(to)).then(|| engine.translate_ack(side(to), seq))
    }

    /// Feeds a packet to the session's ALG and applies what it answers. `ack` is what [`Self::translate_ack_of`] said.
    pub(crate) fn inspect(
        &mut self,
        cx: &Context<'_>,
        hit: &Hit<'_>,
        hop: &NextHop,
        item: &mut Item<P::Buf>,
        ack: u32,
    ) -> Result<Option<Fate>, DropReason> {
        let from = side(hit.direction);
        let slot = hit.session.alg_slot().ok_or(DropReason::AlgTableFull)?;
        let engine = self.algs.get_mut(slot).ok_or(DropReason::AlgTableFull)?;
        let parsed = item.parsed;
        // Only what tracking let through begins a stream, and only while the connection opens: a forged SYN moves none.
        if parsed.has(flag::SYN) && opening(hit.session.state()) {
            engine.syn(from, parsed.seq);
        }
        let mut publisher = Publisher::new(cx, hit, &mut self.bindings, &mut self.rng);
        let segment = Segment {
            from,
            seq: parsed.seq,
            syn: parsed.has(flag::SYN),
            fin: parsed.has(flag::FIN),
            payload: item.buf.bytes().get(parsed.payload_range()).unwrap_or(&[]),
        };
        let Scratch { answer, payload, profile, tables } = &mut *self.scratch;
        let mut call = alg::Context { flow: &endpoints(cx, hit), profile, gateway: &mut publisher, tables };
        let outcome = engine.read(&mut call, &segment, answer, payload);
        let mut reserved = publisher.reserved;
        let seq = match outcome {
            Outcome::Pass { seq } => seq,
            Outcome::Replace { seq } => {
                let mtu = cx.fib.interface(hop.interface).map_or(0, |i| i.mtu);
                if !replace(&mut item.buf, &mut item.parsed, payload, mtu) {
                    release(&cx.shared.registry, &mut self.bindings, &mut reserved);
                    return self.refuse(cx, hit, hop, item, ack, NO_ROOM).map(Some);
                }
                seq
            }
            other => {
                release(&cx.shared.registry, &mut self.bindings, &mut reserved);
                return match other {
                    Outcome::OutOfOrder => Err(DropReason::AlgOutOfOrder),
                    Outcome::EditsFull => Err(DropReason::AlgEditsFull),
                    Outcome::Deny(denial) => {
                        self.refuse(cx, hit, hop, item, ack, (denial, DropReason::AlgDenied)).map(Some)
                    }
                    _ => self.refuse(cx, hit, hop, item, ack, NO_ROOM).map(Some),
                };
            }
        };
        if self.open_pinholes(cx, hit, reserved).is_err() {
            let denial = (Denial::NoResources, DropReason::AlgDenied);
            return self.refuse(cx, hit, hop, item, ack, denial).map(Some);
        }
        self.report(cx, hit);

        if let Some(engine) = self.algs.get_mut(slot)
            && engine.moves_acks_of(from)
        {
            let _ = fields::map_sack(item.buf.bytes_mut(), &item.parsed, |left, right| {
                Some((engine.translate_ack(from, left), engine.translate_ack(from, right)))
            });
        }
        if (seq, ack) != (parsed.seq, parsed.ack)
            && !fields::set_seq_ack(item.buf.bytes_mut(), &item.parsed, seq, ack)
        {
            return Err(DropReason::TcpTruncated);
        }
        if matches!(outcome, Outcome::Replace { .. }) {
            let segment = item.parsed.segment();
            let filled = item
                .buf
                .bytes_mut()
                .get_mut(segment)
                .is_some_and(|s| checksum::l4_fill(parsed.src, parsed.dst, Protocol::Tcp, s));
            if !filled {
                return Err(DropReason::TcpTruncated);
            }
        }
        Ok(None)
    }

    /// Refuses the flow: resets both ends, closes the session for all but its record.
    fn refuse(
        &mut self,
        cx: &Context<'_>,
        hit: &Hit<'_>,
        hop: &NextHop,
        item: &mut Item<P::Buf>,
        ack: u32,
        (denial, dropped): (Denial, DropReason),
    ) -> Result<Fate, DropReason> {
        hit.session.set_state(State::TcpReset);
        hit.session.set_close_reason(CloseReason::AlgDenied);
        cx.shared.arena.mark(hit.id.index);
        self.count(cx, Counter::AlgDenied, 1);
        self.report(cx, hit);
        let application = hit.session.application();
        self.tell(cx, Event::AlgDenied { session: hit.id, application, denial });

        // To the sender, in its own spaces: the packet as it came, turned round.
        if let Some(mut reply) = self.copy_of(cx, item.buf.bytes())
            && reset::reset_reply(&mut reply, &item.parsed)
        {
            self.transmit(cx, item.ingress, reply);
        }
        // To the addressee, in the spaces that it knows.
        let engine = hit.session.alg_slot().and_then(|slot| self.algs.get_mut(slot));
        let seq = engine.map_or(item.parsed.seq, |e| e.translate_seq(side(hit.direction), item.parsed.seq));
        let built = fields::set_seq_ack(item.buf.bytes_mut(), &item.parsed, seq, ack)
            && rewrite::rewrite(hit, item).is_ok()
            && reset::reset_forward(&mut item.buf, &item.parsed);
        if !built {
            return Err(dropped);
        }
        match route::finish(cx, hop, &mut item.buf) {
            Ok(Fate::Send(egress)) => Ok(Fate::Reset { egress, reason: dropped }),
            _ => Err(dropped),
        }
    }
}

/// Puts a new payload into a packet: room, bytes, lengths, the IP header's checksum. TCP's is the caller's.
fn replace<B: PacketBuf>(buf: &mut B, parsed: &mut crate::packet::Parsed, payload: &[u8], mtu: u16) -> bool {
    let old = usize::from(parsed.payload_len);
    let header = usize::from(parsed.ip_len).saturating_sub(old);
    let Some(ip_len) = u16::try_from(header + payload.len()).ok().filter(|len| *len <= mtu) else {
        return false;
    };
    let resized = match payload.len().checked_sub(old) {
        Some(more) => buf.append(more),
        None => buf.trim_back(old - payload.len()),
    };
    if !resized {
        return false;
    }
    let Ok(payload_len) = u16::try_from(payload.len()) else { return false };
    parsed.payload_len = payload_len;
    parsed.ip_len = ip_len;
    let (l3, l4) = (usize::from(parsed.l3), usize::from(parsed.l4));
    let range = parsed.payload_range();
    let frame = buf.bytes_mut();
    let Some(place) = frame.get_mut(range) else { return false };
    place.copy_from_slice(payload);
    let Some(header) = frame.get_mut(l3..l4) else { return false };
    let Some(length) = header.get_mut(2..4) else { return false };
    length.copy_from_slice(&ip_len.to_be_bytes());
    checksum::ipv4_fill(header)
}

/// The ALG state that a session holds, for tests: whether the worker's slab is empty again.
impl<P: Port, A: BufPool<Buf = P::Buf>> Local<P, A> {
    /// Inspected sessions of this worker.
    #[must_use]
    pub fn inspected(&self) -> usize {
        self.algs.used()
    }

    /// The worker's number.
    #[must_use]
    pub fn id(&self) -> WorkerId {
        self.id
    }
}
