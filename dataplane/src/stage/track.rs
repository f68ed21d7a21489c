//! Track: the state of a session, its counters and its stamp.
//!
//! TCP is a constant table over (state, side, kind of segment). What the table does not list is invalid: the packet is
//! dropped and the state stays. Windows are not checked yet.

use crate::drop_reason::DropReason;
use crate::key::Protocol;
use crate::packet::flag;
use crate::stage::{Context, Hit, Item};
use crate::table::Direction;
use crate::view::State;

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
        // TcpReset: only repeated resets pass.
        [[NO, NO, NO, NO, rst], [NO, NO, NO, NO, rst]],
    ]
};

/// The state after a TCP segment, or none if it does not fit.
pub(crate) fn tcp_next(state: State, direction: Direction, flags: u8) -> Option<State> {
    let sides = TCP.get(state as usize)?;
    sides.get(direction as usize)?.get(kind(flags) as usize).copied().flatten()
}

/// States in which a session waits for less long than in the one before.
const fn shortens(state: State) -> bool {
    matches!(state, S::TcpFinInitiator | S::TcpFinResponder | S::TcpTimeWait | S::TcpReset)
}

/// The state after a packet, or why it does not fit. Nothing moves yet: the packet may still be dropped.
pub(crate) fn track<B>(hit: &Hit<'_>, item: &Item<B>) -> Result<State, DropReason> {
    let state = hit.session.state();
    match item.parsed.protocol {
        Protocol::Tcp => {
            tcp_next(state, hit.direction, item.parsed.tcp_flags).ok_or(DropReason::TcpStateInvalid)
        }
        Protocol::Udp if hit.direction == Direction::Reverse => Ok(State::UdpStream),
        Protocol::Udp | Protocol::Icmp => Ok(state),
    }
}

/// Moves the session to the state that [`track`] has found.
pub(crate) fn settle(cx: &Context<'_>, hit: &Hit<'_>, next: State) {
    if next == hit.session.state() {
        return;
    }
    hit.session.set_state(next);
    if shortens(next) {
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
    fn every_tcp_state_has_its_row() {
        for state in State::ALL.iter().take(8) {
            assert_eq!(tcp_next(*state, Forward, RST), Some(State::TcpReset), "{}", state.name());
        }
        assert_eq!(tcp_next(State::Closed, Forward, ACK), None);
        assert_eq!(tcp_next(State::UdpNew, Forward, ACK), None);
    }
}
