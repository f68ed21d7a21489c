//! What the kernel answers over rtnetlink (rtnetlink(7)): no file of procfs has the routes of all tables.

use crate::host::Host;
use rustix::io::Errno;
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, sendto, socket_with};
use std::io;
use std::time::Duration;

/// IPv4, as a route says it.
pub(super) const INET: u8 = 2;
/// IPv6.
pub(super) const INET6: u8 = 10;

/// `NLMSG_ERROR`, `NLMSG_DONE`, `RTM_NEWROUTE`, `RTM_GETROUTE`.
const ERROR: u16 = 2;
const DONE: u16 = 3;
const ROUTE_IS: u16 = 24;
const TELL_ROUTES: u16 = 26;
/// `NLM_F_REQUEST`, `NLM_F_DUMP`, `NLM_F_DUMP_INTR`.
const REQUEST: u16 = 1;
const ALL: u16 = 0x300;
const INTERRUPTED: u16 = 0x10;
/// Bytes of a message's header, and of a route's behind it.
const HEADER: usize = 16;
const ROUTE_HEADER: usize = 12;
/// More than the kernel puts into one answer.
const MOST: usize = 1 << 16;
/// So often it is asked anew if routes change while it answers.
const TRIES: usize = 8;
/// It answers at once.
const PATIENCE: Duration = Duration::from_secs(5);

/// All routes, each as the body of its message.
pub(super) fn routes(host: &Host) -> io::Result<Vec<Vec<u8>>> {
    let mut all = Vec::new();
    match &host.netlink {
        Some(folder) => {
            take(&std::fs::read(folder.join("routes"))?, &mut all)?;
        }
        None => {
            for family in [INET, INET6] {
                match ask(family) {
                    Ok(routes) => all.extend(routes),
                    // A kernel without it has no routes of it.
                    Err(error) if family == INET6 && is_unknown(&error) => {}
                    Err(error) => return Err(error),
                }
            }
        }
    }
    Ok(all)
}

fn is_unknown(error: &io::Error) -> bool {
    let unknown = [Errno::AFNOSUPPORT, Errno::OPNOTSUPP].map(|errno| Some(errno.raw_os_error()));
    unknown.contains(&error.raw_os_error())
}

fn ask(family: u8) -> io::Result<Vec<Vec<u8>>> {
    for _ in 0..TRIES {
        if let Some(routes) = ask_once(family)? {
            return Ok(routes);
        }
    }
    Err(io::Error::other("routes change all the time"))
}

/// None if they have changed meanwhile.
fn ask_once(family: u8) -> io::Result<Option<Vec<Vec<u8>>>> {
    // The protocol of routes is 0.
    let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None)?;
    set_socket_timeout(&socket, Timeout::Recv, Some(PATIENCE))?;
    sendto(&socket, &request(family), SendFlags::empty(), &SocketAddrNetlink::new(0, 0))?;
    let (mut all, mut buffer, mut whole) = (Vec::new(), vec![0; MOST], true);
    loop {
        let (len, sent) = recv(&socket, buffer.as_mut_slice(), RecvFlags::TRUNC)?;
        let part = buffer.get(..len).filter(|_| len > 0 && len == sent).ok_or_else(malformed)?;
        let state = take(part, &mut all)?;
        whole &= !state.interrupted;
        if state.done {
            return Ok(whole.then_some(all));
        }
    }
}

fn request(family: u8) -> [u8; HEADER + ROUTE_HEADER] {
    let mut request = [0; HEADER + ROUTE_HEADER];
    let words = [TELL_ROUTES.to_ne_bytes(), (REQUEST | ALL).to_ne_bytes()];
    let len = (HEADER + ROUTE_HEADER) as u32;
    let head = len.to_ne_bytes().into_iter().chain(words.into_iter().flatten());
    for (place, byte) in request.iter_mut().zip(head) {
        *place = byte;
    }
    if let Some(place) = request.get_mut(HEADER) {
        *place = family;
    }
    request
}

/// What an answer says beside the routes.
#[derive(Default)]
struct State {
    done: bool,
    interrupted: bool,
}

/// Takes the routes out of a part of an answer.
fn take(mut part: &[u8], all: &mut Vec<Vec<u8>>) -> io::Result<State> {
    let mut state = State::default();
    while !part.is_empty() {
        let len = word(part, 0).map(|len| len as usize).ok_or_else(malformed)?;
        let body = part.get(HEADER..len).ok_or_else(malformed)?;
        let (kind, flags) = half(part, 4).zip(half(part, 6)).ok_or_else(malformed)?;
        state.interrupted |= flags & INTERRUPTED != 0;
        match kind {
            DONE => state.done = true,
            ERROR => {
                let error = word(body, 0).map(|code| code.cast_signed().wrapping_neg());
                return Err(error.map_or_else(malformed, io::Error::from_raw_os_error));
            }
            ROUTE_IS => all.push(body.to_vec()),
            _ => {}
        }
        part = part.get(len.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(state)
}

/// The attributes behind a header: kind and value.
pub(super) fn attributes(mut rest: &[u8]) -> io::Result<Vec<(u16, &[u8])>> {
    /// The kind of an attribute, without what is said of its nesting and byte order.
    const KIND: u16 = 0x3fff;
    let mut all = Vec::new();
    while !rest.is_empty() {
        let (len, kind) = half(rest, 0).zip(half(rest, 2)).ok_or_else(malformed)?;
        let value = rest.get(4..usize::from(len)).ok_or_else(malformed)?;
        all.push((kind & KIND, value));
        rest = rest.get(usize::from(len).next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(all)
}

pub(super) fn half(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

pub(super) fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

pub(super) fn malformed() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "rtnetlink answers something else than routes")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_of_this_machine_answers() {
        let host = Host::default();
        for route in routes(&host).unwrap() {
            assert!([INET, INET6].contains(&route[0]), "{route:?}");
            attributes(&route[ROUTE_HEADER..]).unwrap();
        }
    }

    fn message(kind: u16, flags: u16, body: &[u8]) -> Vec<u8> {
        let mut bytes = ((HEADER + body.len()) as u32).to_ne_bytes().to_vec();
        bytes.extend([kind.to_ne_bytes(), flags.to_ne_bytes()].concat());
        bytes.resize(HEADER, 0);
        bytes.extend(body);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    #[test]
    fn an_answer_is_taken_apart() {
        let mut all = Vec::new();
        let part = [message(ROUTE_IS, 2, b"abcde"), message(20, 2, b"other"), message(ROUTE_IS, 0x12, b"f")];
        let state = take(&part.concat(), &mut all).unwrap();
        assert_eq!(all, [b"abcde".to_vec(), b"f".to_vec()]);
        assert!(state.interrupted && !state.done);
        let state = take(&message(DONE, 2, &[0; 4]), &mut all).unwrap();
        assert!(state.done && !state.interrupted);
        assert_eq!(all.len(), 2);
    }

    #[test]
    fn what_the_kernel_refuses_and_what_is_no_answer_are_errors() {
        let refused = message(ERROR, 0, &(-1_i32).to_ne_bytes());
        assert_eq!(take(&refused, &mut Vec::new()).err().unwrap().raw_os_error(), Some(1));
        for bad in
            [&[1][..], &[0; HEADER], &message(ROUTE_IS, 0, b"cut")[..HEADER + 1], &message(ERROR, 0, b"")]
        {
            assert!(take(bad, &mut Vec::new()).is_err(), "{bad:?}");
        }
        for bad in [&[1][..], &[8, 0, 1, 0, 1], &[3, 0, 1, 0]] {
            assert!(attributes(bad).is_err(), "{bad:?}");
        }
    }
}
