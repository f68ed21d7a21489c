//! Packets that arrive on an interface of the kernel, looked at one by one.

use benches::rig::foreign::Inspector;
use std::io::{self, Read, Write};
use std::os::fd::{FromRawFd, OwnedFd};

/// Seconds that nothing may arrive for.
const PATIENCE: libc::time_t = 10;

/// Bytes that may wait to be looked at: each packet has a page.
const ROOM: libc::c_int = 8 << 20;
/// Ethernet's type of IPv4.
const IPV4: [u8; 2] = [8, 0];

/// A socket that has every packet of an interface. One of IPv4 alone would come behind the filter that drops them.
fn socket(interface: &str) -> io::Result<std::fs::File> {
    let text = std::fs::read_to_string(format!("/sys/class/net/{interface}/ifindex"))?;
    let index: libc::c_int = text.trim().parse().map_err(io::Error::other)?;
    let protocol = (libc::ETH_P_ALL as u16).to_be();
    // SAFETY: no memory is involved.
    let number = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW, i32::from(protocol)) };
    if number < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the number is that of a socket that was just opened, and that nobody else has.
    let socket = unsafe { OwnedFd::from_raw_fd(number) };
    // SAFETY: all bytes of this struct may be zero.
    let mut address: libc::sockaddr_ll = unsafe { core::mem::zeroed() };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_protocol = protocol;
    address.sll_ifindex = index;
    // SAFETY: the struct lives across the call, which reads as many bytes as it has.
    let bound = unsafe { libc::bind(number, (&raw const address).cast(), size_of_val(&address) as u32) };
    let patience = libc::timeval { tv_sec: PATIENCE, tv_usec: 0 };
    if bound != 0 || !set(number, libc::SO_RCVTIMEO, &patience) || !set(number, libc::SO_RCVBUFFORCE, &ROOM) {
        return Err(io::Error::last_os_error());
    }
    Ok(socket.into())
}

/// Sets an option of a socket; whether that worked.
fn set<T>(socket: libc::c_int, option: libc::c_int, value: &T) -> bool {
    // SAFETY: the value lives across the call, which reads as many bytes as it has.
    unsafe {
        libc::setsockopt(
            socket,
            libc::SOL_SOCKET,
            option,
            core::ptr::from_ref(value).cast(),
            size_of::<T>() as u32,
        ) == 0
    }
}

/// Says that it is ready, and then how many were right.
pub fn run(interface: &str, packets: u32, translated: bool) -> io::Result<()> {
    let mut socket = socket(interface)?;
    println!("ready");
    io::stdout().flush()?;
    let mut inspector = Inspector::new(translated);
    let mut buffer = [0; 2048];
    let mut right = 0;
    while right < packets {
        let len = socket.read(&mut buffer).map_err(|error| match error.kind() {
            io::ErrorKind::WouldBlock => io::Error::other(format!("only {right} packets arrived")),
            _ => error,
        })?;
        let frame = buffer.get(..len).unwrap_or(&[]);
        // What the interfaces have to say to each other.
        if frame.get(12..14) != Some(&IPV4) {
            continue;
        }
        if let Some(fault) = inspector.fault(frame) {
            return Err(io::Error::other(fault));
        }
        right += 1;
    }
    println!("right {packets}");
    Ok(())
}
