//! Raw sockets on interfaces: whole frames, in and out.

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// A raw socket on an interface, without what it sends itself.
pub fn raw(interface: &str) -> OwnedFd {
    let name = std::ffi::CString::new(interface).unwrap();
    let protocol = u16::try_from(libc::ETH_P_ALL).unwrap().to_be();
    // SAFETY: the name ends with a zero and lives over the call.
    let index = unsafe { libc::if_nametoindex(name.as_ptr()) };
    assert!(index > 0, "no interface {interface}");
    // SAFETY: no pointers.
    let fd =
        unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_NONBLOCK, i32::from(protocol)) };
    assert!(fd >= 0, "{}", std::io::Error::last_os_error());
    // SAFETY: the descriptor is ours and nobody else's.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    let on: libc::c_int = 1;
    // SAFETY: value and length describe a C int that lives over the call.
    let set = unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            libc::SOL_PACKET,
            libc::PACKET_IGNORE_OUTGOING,
            core::ptr::from_ref(&on).cast(),
            libc::socklen_t::try_from(size_of_val(&on)).unwrap(),
        )
    };
    assert_eq!(set, 0, "{}", std::io::Error::last_os_error());
    // SAFETY: all zeros is a valid address structure.
    let mut address: libc::sockaddr_ll = unsafe { core::mem::zeroed() };
    address.sll_family = u16::try_from(libc::AF_PACKET).unwrap();
    address.sll_protocol = protocol;
    address.sll_ifindex = i32::try_from(index).unwrap();
    // SAFETY: pointer and length describe the address, which lives over the call.
    let bound = unsafe {
        libc::bind(
            fd.as_raw_fd(),
            core::ptr::from_ref(&address).cast(),
            libc::socklen_t::try_from(size_of_val(&address)).unwrap(),
        )
    };
    assert_eq!(bound, 0, "{}", std::io::Error::last_os_error());
    fd
}

/// The next frame, if there is one.
pub fn receive(fd: &OwnedFd, buffer: &mut [u8]) -> Option<usize> {
    // SAFETY: pointer and length describe the buffer.
    let n = unsafe { libc::recv(fd.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len(), 0) };
    usize::try_from(n).ok()
}

pub fn send(fd: &OwnedFd, frame: &[u8]) {
    // SAFETY: pointer and length describe the frame. A frame that does not go out is lost, as on a wire.
    unsafe { libc::send(fd.as_raw_fd(), frame.as_ptr().cast(), frame.len(), 0) };
}

/// As [`receive`], with the VLAN of the frame's outer tag, which the kernel takes off.
pub fn receive_tagged(fd: &OwnedFd, buffer: &mut [u8]) -> Option<(usize, Option<u16>)> {
    let mut control = [0_u64; 16];
    let mut part = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    // SAFETY: all zeros is a message without an address, control data or parts.
    let mut message: libc::msghdr = unsafe { core::mem::zeroed() };
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = control.as_mut_ptr().cast();
    message.msg_controllen = size_of_val(&control);
    // SAFETY: the message's part and control data describe buffers that live over the call.
    let n = unsafe { libc::recvmsg(fd.as_raw_fd(), &raw mut message, 0) };
    let n = usize::try_from(n).ok()?;
    // SAFETY: the kernel has filled the control data of this message.
    let header = unsafe { libc::CMSG_FIRSTHDR(&raw const message) };
    if header.is_null() {
        return Some((n, None));
    }
    // SAFETY: the only control data asked for is of this type, behind its header, and perhaps not aligned.
    let said: libc::tpacket_auxdata =
        unsafe { libc::CMSG_DATA(header).cast::<libc::tpacket_auxdata>().read_unaligned() };
    let tagged = said.tp_status & libc::TP_STATUS_VLAN_VALID != 0;
    Some((n, tagged.then_some(said.tp_vlan_tci & 0xfff)))
}
