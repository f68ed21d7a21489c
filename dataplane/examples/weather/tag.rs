//! A cable with one VLAN on it.

use crate::wire::{raw, receive, receive_tagged, send};
use std::io::Write;
use std::os::fd::AsRawFd;

pub fn run(a: &str, b: &str, vlan: u16) -> ! {
    let ends = [raw(a), raw(b)];
    let on: libc::c_int = 1;
    // SAFETY: value and length describe a C int that lives over the call.
    let set = unsafe {
        libc::setsockopt(
            ends[1].as_raw_fd(),
            libc::SOL_PACKET,
            libc::PACKET_AUXDATA,
            core::ptr::from_ref(&on).cast(),
            libc::socklen_t::try_from(size_of_val(&on)).unwrap(),
        )
    };
    assert_eq!(set, 0, "{}", std::io::Error::last_os_error());
    let mut buffer = vec![0; 16_384];
    println!("ready");
    std::io::stdout().flush().unwrap();
    loop {
        let mut fds =
            [0, 1].map(|i: usize| libc::pollfd { fd: ends[i].as_raw_fd(), events: libc::POLLIN, revents: 0 });
        // SAFETY: pointer and count describe the array.
        unsafe { libc::poll(fds.as_mut_ptr(), 2, 10) };
        while let Some(n) = receive(&ends[0], &mut buffer) {
            let (addresses, rest) = buffer[..n].split_at(12);
            send(&ends[1], &[addresses, &[0x81, 0x00], &vlan.to_be_bytes(), rest].concat());
        }
        while let Some((n, of)) = receive_tagged(&ends[1], &mut buffer) {
            if of == Some(vlan) {
                send(&ends[0], &buffer[..n]);
            }
        }
    }
}
