//! Track: the state of a session, its counters and its stamp.
//!
//! TCP is a constant table over (state, side, kind of segment). What the table does not list is invalid: the packet is
//! dropped and the state stays. Numbers are not followed: that would cost every packet a second cache line.
//!
//! So nobody here knows whether a reset is exact, which decides at its receiver: an exact one ends the connection, one that
//! is only in the window is answered (RFC 5961 §3.2), any other is ignored. A reset therefore puts a session in doubt: it
//! ages as one that is over, and what the ends say next tells which it was ([`after_reset`]). Inspected streams know their
//! numbers, and let no other reset through ([`crate::stream`]).

use crate::drop_reason::DropReason;
use crate::key::Protocol;
use crate::packet::{Parsed, flag};
use crate::session::record::{Doubt, FLAG_ALG};
use crate::stage::{Context, Hit, Item};
use crate::table::Direction;
use crate::view::{CloseReason, State};

/// Kinds of segment, by their flags.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum Kind {
    Syn = 0,
    SynAck = 1,
    Ack = 2,
    Fin = 3,
    Rst = 4,
}

const fn kind(flags: u8) -> Kind {
    if flags & flag::RST != 0 {
        Kind::Rst
    } else if flags & flag::SYN != 0 {
        if flags & flag::ACK != 0 { Kind::SynAck } else { Kind::Syn }
    } else if flags & flag::FIN != 0 {
        Kind::Fin
    } else {
        Kind::Ack
    }
}

use State as S;
const NO: Option<State> = None;

/// TCP states in the order of [`State`]; per side (initiator, responder) and kind (SYN, SYN+ACK, ACK, FIN, RST) the
/// next state. A SYN in a synchronised state passes, so that the end can challenge it (RFC 5961 §4); an ACK to a lone
/// SYN passes for the same reason.
const TCP: [[[Option<State>; 5]; 2]; 8] = {
    let rst = Some(S::TcpReset);
    [
        // TcpSynSent
        [
            [Some(S::TcpSynSent), NO, NO, NO, rst],
            [Some(S::TcpSimultaneous), Some(S::TcpSynReceived), Some(S::TcpSynSent), NO, rst],
        ],
        // TcpSimultaneous
        [
            [
                Some(S::TcpSimultaneous),
                Some(S::TcpSynReceived),
                Some(S::TcpEstablished),
                Some(S::TcpFinInitiator),
                rst,
            ],
            [
                Some(S::TcpSimultaneous),
                Some(S::TcpSynReceived),
                Some(S::TcpEstablished),
                Some(S::TcpFinResponder),
                rst,
            ],
        ],
        // TcpSynReceived
        [
            [
                Some(S::TcpSynReceived),
                Some(S::TcpSynReceived),
                Some(S::TcpEstablished),
                Some(S::TcpFinInitiator),
                rst,
            ],
            [
                Some(S::TcpSynReceived),
                Some(S::TcpSynReceived),
                Some(S::TcpSynReceived),
                Some(S::TcpFinResponder),
                rst,
            ],
        ],
        // TcpEstablished
        [
            [Some(S::TcpEstablished), NO, Some(S::TcpEstablished), Some(S::TcpFinInitiator), rst],
            [NO, Some(S::TcpEstablished), Some(S::TcpEstablished), Some(S::TcpFinResponder), rst],
        ],
        // TcpFinInitiator
        [
            [NO, NO, Some(S::TcpFinInitiator), Some(S::TcpFinInitiator), rst],
            [NO, Some(S::TcpFinInitiator), Some(S::TcpFinInitiator), Some(S::TcpTimeWait), rst],
        ],
        // TcpFinResponder
        [
            [NO, NO, Some(S::TcpFinResponder), Some(S::TcpTimeWait), rst],
            [NO, Some(S::TcpFinResponder), Some(S::TcpFinResponder), Some(S::TcpFinResponder), rst],
        ],
        // TcpTimeWait
        [
            [NO, NO, Some(S::TcpTimeWait), Some(S::TcpTimeWait), rst],
            [NO, NO, Some(S::TcpTimeWait), Some(S::TcpTimeWait), rst],
        ],
        // TcpReset: only repeated resets pass, unless the reset is in doubt (`after_reset`).
        [[NO, NO, NO, NO, rst], [NO, NO, NO, NO, rst]],
    ]
};

/// The state after a TCP segment, or none if it does not fit.
pub fn tcp_next(state: State, direction: Direction, flags: u8) -> Option<State> {
    let sides = TCP.get(state as usize)?;
    sides.get(direction as usize)?.get(kind(flags) as usize).copied().flatten()
}

/// The state after a segment of a session that a reset has put in doubt, or none if it does not fit.
///
/// Whoever sent the reset sends nothing else if it was meant: a segment of its own says that it was forged, or late. The
/// other end may have sent before it came, or may challenge it: that passes, and its answer, a reset that is exact, can
/// follow. But what acknowledges more than the reset was placed at comes from an end that ignores it.
///
/// Of an inspected session the reset was exact, or the gateway's own refusal. What the other end may still ask its stream knows.
#[cold]
fn after_reset(hit: &Hit<'_>, parsed: &Parsed) -> Option<State> {
    let Some(Doubt { by, seq, before }) = hit.session.doubt() else {
        let inspected =
            hit.session.flags() & FLAG_ALG != 0 && hit.session.close_reason() == CloseReason::None;
        let asks = inspected && matches!(kind(parsed.tcp_flags), Kind::Ack | Kind::Fin);
        return asks.then_some(State::TcpReset);
    };
    let alive = tcp_next(before, hit.direction, parsed.tcp_flags)?;
    let beyond = parsed.tcp_flags & flag::ACK != 0 && is_later(parsed.ack, seq);
    Some(if by == hit.direction || beyond { alive } else { State::TcpReset })
}

/// A SYN of the initiator where one end has closed: of an inspected session the engine asks its sender. Of any other it might find
/// an end that takes it, and a connection would begin in a session that is about to end, perhaps read by nobody any more: it waits
/// until that has ended, and is as if it had not come.
#[cold]
fn dials_again(hit: &Hit<'_>, flags: u8, state: State) -> Option<State> {
    let inspected = hit.session.flags() & FLAG_ALG != 0;
    (inspected && hit.direction == Direction::Forward && matches!(kind(flags), Kind::Syn)).then_some(state)
}

/// Whether `a` lies behind `b` in sequence space.
const fn is_later(a: u32, b: u32) -> bool {
    let distance = a.wrapping_sub(b);
    distance != 0 && distance < 1 << 31
}

/// A reset leaves that nobody could check: its session is in doubt from now on.
#[cold]
#[inline(never)]
pub(crate) fn doubt(hit: &Hit<'_>, before: State, seq: u32) {
    if before != State::TcpReset {
        hit.session.set_doubt(Doubt { by: hit.direction, seq, before });
    }
}

/// What a packet is to a session's state, for [`crate::stage::forward`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Move {
    /// TCP, by [`Kind`].
    Syn = Kind::Syn as u8,
    /// Likewise.
    SynAck = Kind::SynAck as u8,
    /// Likewise.
    Ack = Kind::Ack as u8,
    /// Likewise.
    Fin = Kind::Fin as u8,
    /// Likewise.
    Rst = Kind::Rst as u8,
    /// A datagram of UDP.
    Datagram,
    /// A segment with flags that nothing fits.
    #[default]
    Odd,
}

/// No state: the packet does not fit.
pub(crate) const NOWHERE: u8 = u8::MAX;
/// Numbers that a state's four bits can have.
const NUMBERS: usize = 16;
/// How many moves there are.
const MOVES: usize = Move::Odd as usize + 1;

/// Number of the next state, by move, direction and number of the state: the same as [`track`] says.
static NEXT: [[[u8; NUMBERS]; 2]; MOVES] = {
    let mut next = [[[NOWHERE; NUMBERS]; 2]; MOVES];
    let mut state = 0;
    while state < TCP.len() {
        let mut side = 0;
        while side < 2 {
            let mut kind = 0;
            while kind < 5 {
                if let Some(to) = TCP[state][side][kind] {
                    next[kind][side][state] = to as u8;
                }
                kind += 1;
            }
            side += 1;
        }
        state += 1;
    }
    let datagram = &mut next[Move::Datagram as usize];
    datagram[Direction::Forward as usize][S::UdpNew as usize] = S::UdpNew as u8;
    datagram[Direction::Forward as usize][S::UdpStream as usize] = S::UdpStream as u8;
    datagram[Direction::Reverse as usize][S::UdpNew as usize] = S::UdpStream as u8;
    datagram[Direction::Reverse as usize][S::UdpStream as usize] = S::UdpStream as u8;
    next
};

/// The move of a segment, by the flags FIN, SYN, RST, PSH and ACK.
static MOVE: [Move; 32] = {
    let mut moves = [Move::Odd; 32];
    let mut flags = 0;
    while flags < moves.len() {
        if crate::packet::parse::flags_are_sane(flags as u8) {
            moves[flags] = match kind(flags as u8) {
                Kind::Syn => Move::Syn,
                Kind::SynAck => Move::SynAck,
                Kind::Ack => Move::Ack,
                Kind::Fin => Move::Fin,
                Kind::Rst => Move::Rst,
            };
        }
        flags += 1;
    }
    moves
};

impl Move {
    /// Of a TCP segment with these flags.
    #[inline(always)]
    pub(crate) fn of_segment(flags: u8) -> Self {
        MOVE[usize::from(flags) % MOVE.len()]
    }

    /// Number of the state after it, or [`NOWHERE`].
    #[inline(always)]
    pub(crate) fn leads_to(self, direction: Direction, state: u8) -> u8 {
        NEXT[self as usize][direction as usize & 1][usize::from(state) % NUMBERS]
    }
}

/// The state after a packet, or why it does not fit. Nothing moves yet: the packet may still be dropped.
pub(crate) fn track<B>(hit: &Hit<'_>, item: &Item<B>) -> Result<State, DropReason> {
    let state = hit.session.state();
    match item.parsed.protocol {
        Protocol::Tcp => tcp_next(state, hit.direction, item.parsed.tcp_flags)
            .or_else(|| match state {
                State::TcpReset => after_reset(hit, &item.parsed),
                State::TcpFinInitiator | State::TcpFinResponder => {
                    dials_again(hit, item.parsed.tcp_flags, state)
                }
                _ => None,
            })
            .ok_or(DropReason::TcpStateInvalid),
        Protocol::Udp if hit.direction == Direction::Reverse => Ok(State::UdpStream),
        Protocol::Udp | Protocol::Icmp => Ok(state),
    }
}

/// The same as [`doubt`] with the number of the state before.
#[cold]
#[inline(never)]
pub(crate) fn doubt_number(hit: &Hit<'_>, before: u8, seq: u32) {
    if let Some(before) = State::from_number(before) {
        doubt(hit, before, seq);
    }
}

/// The same as [`settle`] with what [`Move::leads_to`] has found.
pub(crate) fn settle_number(cx: &Context<'_>, hit: &Hit<'_>, next: u8) {
    if let Some(next) = State::from_number(next) {
        settle(cx, hit, next);
    }
}

/// Moves the session to the state that [`track`] has found.
pub(crate) fn settle(cx: &Context<'_>, hit: &Hit<'_>, next: State) {
    let (before, timeouts) = (hit.session.state(), &cx.policy.timeouts);
    if next == before {
        return;
    }
    hit.session.set_state(next);
    if timeouts.of(next) < timeouts.of(before) {
        // Control has it armed for the old, longer time.
        cx.shared.arena.mark(hit.id.index);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Direction::{Forward, Reverse};
    use flag::{ACK, FIN, PSH, RST, SYN};

    fn run(steps: &[(Direction, u8)]) -> Option<State> {
        let mut state = State::TcpSynSent;
        for (direction, flags) in steps {
            state = tcp_next(state, *direction, *flags)?;
        }
        Some(state)
    }

    #[test]
    fn a_connection_opens_and_closes() {
        let open = [(Reverse, SYN | ACK), (Forward, ACK), (Forward, ACK | PSH), (Reverse, ACK)];
        assert_eq!(run(&open), Some(State::TcpEstablished));
        let mut close = open.to_vec();
        close.extend([(Forward, FIN | ACK), (Reverse, ACK), (Reverse, FIN | ACK), (Forward, ACK)]);
        assert_eq!(run(&close), Some(State::TcpTimeWait));
        let mut other = open.to_vec();
        other.extend([(Reverse, FIN | ACK), (Forward, ACK | PSH), (Forward, FIN | ACK)]);
        assert_eq!(run(&other), Some(State::TcpTimeWait));
    }

    #[test]
    fn a_simultaneous_open_is_an_open() {
        assert_eq!(
            run(&[(Reverse, SYN), (Forward, SYN | ACK), (Reverse, SYN | ACK), (Forward, ACK)]),
            Some(State::TcpEstablished)
        );
    }

    #[test]
    fn what_does_not_fit_is_invalid_and_never_closes() {
        assert_eq!(run(&[(Forward, ACK)]), None, "the initiator cannot skip the handshake");
        assert_eq!(run(&[(Forward, SYN | ACK)]), None);
        assert_eq!(run(&[(Reverse, FIN | ACK)]), None);
        assert_eq!(run(&[(Reverse, SYN | ACK), (Forward, ACK), (Reverse, SYN)]), None);
        assert_eq!(run(&[(Forward, RST), (Forward, ACK)]), None, "nothing but resets after a reset");
        assert_eq!(run(&[(Forward, RST), (Reverse, RST | ACK)]), Some(State::TcpReset));
    }

    #[test]
    fn moves_lead_where_the_table_says() {
        for state in State::ALL {
            for direction in [Forward, Reverse] {
                for flags in 0..=u8::MAX {
                    let sane = crate::packet::parse::flags_are_sane(flags);
                    let expected = tcp_next(*state, direction, flags).filter(|_| sane);
                    let found = Move::of_segment(flags).leads_to(direction, *state as u8);
                    assert_eq!(State::from_number(found), expected, "{state:?} {direction:?} {flags:#x}");
                }
            }
        }
        assert_eq!(Move::Datagram.leads_to(Reverse, State::UdpNew as u8), State::UdpStream as u8);
        assert_eq!(Move::Datagram.leads_to(Forward, State::TcpEstablished as u8), NOWHERE);
        assert_eq!(Move::Datagram.leads_to(Forward, State::Closed as u8), NOWHERE);
    }

    #[test]
    fn every_tcp_state_has_its_row() {
        for state in State::ALL.iter().take(8) {
            assert_eq!(tcp_next(*state, Forward, RST), Some(State::TcpReset), "{}", state.name());
        }
        assert_eq!(tcp_next(State::Closed, Forward, ACK), None);
        assert_eq!(tcp_next(State::UdpNew, Forward, ACK), None);
    }
}
