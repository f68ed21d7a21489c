//! Two ends that talk FTP over the kernel's own TCP, and compare what they hear with what was said.

use crate::Chance;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::time::Duration;

/// Whether the next byte is the urgent one (ioctl of sockets).
const SIOCATMARK: libc::c_ulong = 0x8905;

/// Writes in pieces of every size.
fn write_cut(stream: &mut TcpStream, mut text: &[u8], chance: &mut Chance) {
    while !text.is_empty() {
        let most = if chance.percent(50) { 1 } else { 1 + chance.below(40) };
        let (now, later) = text.split_at(text.len().min(usize::try_from(most).unwrap()));
        stream.write_all(now).unwrap();
        text = later;
    }
}

/// TELNET's interrupt before an ABOR (RFC 959 §4.1.3); its data mark goes out urgent.
const INTERRUPT: [u8; 3] = [0xff, 0xf4, 0xff];
const DATA_MARK: u8 = 0xf2;
/// Every so many rounds: the one before was answered, so that no urgent pointer replaces another.
const INTERRUPTS: u32 = 2 * AHEAD;

/// Lines of a stream whose urgent data stand in line: each data mark must be where the urgent pointer points.
struct Heard {
    stream: TcpStream,
    bytes: std::collections::VecDeque<u8>,
}

impl Heard {
    fn more(&mut self) -> bool {
        let fd = self.stream.as_raw_fd();
        let mut polled = libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
        // SAFETY: the pointer is to one structure, as the count says.
        unsafe { libc::poll(&raw mut polled, 1, -1) };
        let mut at_mark: libc::c_int = 0;
        // SAFETY: the request writes one C int, which lives over the call.
        let asked = unsafe { libc::ioctl(fd, SIOCATMARK, &raw mut at_mark) };
        assert_eq!(asked, 0, "{}", std::io::Error::last_os_error());
        let mut buffer = [0; 4_096];
        // A read ends before the mark.
        let n = self.stream.read(&mut buffer).unwrap();
        let mark = buffer[..n].iter().position(|&b| b == DATA_MARK);
        assert_eq!(mark, (at_mark == 1).then_some(0), "the urgent pointer points elsewhere");
        if mark.is_some() {
            println!("mark");
        }
        self.bytes.extend(&buffer[..n]);
        n > 0
    }

    /// The next line without TELNET's commands; none at the end.
    fn line(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.bytes.iter().position(|&b| b == b'\n') {
                let mut line: Vec<u8> = self.bytes.drain(..=end).collect();
                while let Some(iac) = line.iter().position(|&b| b == 0xff) {
                    line.drain(iac..iac + 2);
                }
                return Some(String::from_utf8(line).unwrap().trim_end().to_owned());
            }
            if !self.more() {
                return None;
            }
        }
    }
}

/// Sends one byte as urgent data.
fn send_urgent(stream: &TcpStream, byte: u8) {
    // SAFETY: pointer and length describe the byte.
    let n = unsafe { libc::send(stream.as_raw_fd(), core::ptr::from_ref(&byte).cast(), 1, libc::MSG_OOB) };
    assert_eq!(n, 1, "{}", std::io::Error::last_os_error());
}

/// Answers each command. Prints what it hears, line by line.
pub fn server(port: u16, seed: u64) {
    let mut chance = Chance(seed);
    let listener = TcpListener::bind(("0.0.0.0", port)).unwrap();
    let on: libc::c_int = 1;
    // Connections have it from the start.
    // SAFETY: value and length describe a C int that lives over the call.
    let set = unsafe {
        libc::setsockopt(
            listener.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_OOBINLINE,
            core::ptr::from_ref(&on).cast(),
            libc::socklen_t::try_from(size_of_val(&on)).unwrap(),
        )
    };
    assert_eq!(set, 0, "{}", std::io::Error::last_os_error());
    println!("ready");
    let (mut stream, _) = listener.accept().unwrap();
    stream.set_nodelay(true).unwrap();
    write_cut(&mut stream, b"220 ready\r\n", &mut chance);
    let own = stream.local_addr().unwrap().ip().to_string().replace('.', ",");
    let mut heard = Heard { stream: stream.try_clone().unwrap(), bytes: Default::default() };
    while let Some(line) = heard.line() {
        println!("{line}");
        let reply = match line.as_str() {
            "PASV" => format!("227 Entering Passive Mode ({own},195,89).\r\n"),
            _ => format!("200 {line}\r\n"),
        };
        write_cut(&mut stream, reply.as_bytes(), &mut chance);
    }
}

/// Rounds of commands that may wait for their replies. The ALG refuses whoever has more than 32 commands unanswered.
const AHEAD: u32 = 4;

/// Says its commands up to [`AHEAD`] rounds before their replies; checks every reply.
pub fn client(to: &str, seed: u64, rounds: u32, own: &str, seen: &str, peer: &str) {
    let mut chance = Chance(seed);
    let stream = TcpStream::connect(to).unwrap();
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let mut out = stream.try_clone().unwrap();
    let (own, seen, peer) = (own.to_owned(), seen.to_owned(), peer.to_owned());
    let (answered, may_go_on) = std::sync::mpsc::channel();
    let writer = std::thread::spawn(move || {
        for round in 0..rounds {
            if round >= AHEAD {
                may_go_on.recv().unwrap();
            }
            let comma = own.replace('.', ",");
            let text = format!(
                "NOOP {round}\r\nPORT {comma},195,81\r\nPASV\r\nEPRT |1|{own}|50001|\r\nPWD\r\nSTAT {round}\r\n"
            );
            write_cut(&mut out, text.as_bytes(), &mut chance);
            if round % INTERRUPTS == 0 {
                write_cut(&mut out, &INTERRUPT, &mut chance);
                send_urgent(&out, DATA_MARK);
                write_cut(&mut out, b"ABOR\r\n", &mut chance);
            }
        }
        out.shutdown(std::net::Shutdown::Write).unwrap();
    });
    let mut lines = BufReader::new(stream).lines();
    let mut next = || lines.next().expect("a line").expect("in time");
    assert_eq!(next(), "220 ready");
    let numbers = |text: &str, separator: char| text.split(separator).all(|n| n.parse::<u16>().is_ok());
    for round in 0..rounds {
        assert_eq!(next(), format!("200 NOOP {round}"));
        let port = next();
        let rest = port.strip_prefix(&format!("200 PORT {},", seen.replace('.', ",")));
        assert!(rest.is_some_and(|r| numbers(r, ',')), "{port}");
        let passive = next();
        let rest = passive
            .strip_prefix(&format!("227 Entering Passive Mode ({},", peer.replace('.', ",")))
            .and_then(|r| r.strip_suffix(")."));
        assert!(rest.is_some_and(|r| numbers(r, ',')), "{passive}");
        let eprt = next();
        let rest = eprt.strip_prefix(&format!("200 EPRT |1|{seen}|")).and_then(|r| r.strip_suffix('|'));
        assert!(rest.is_some_and(|r| numbers(r, ',')), "{eprt}");
        assert_eq!(next(), "200 PWD");
        assert_eq!(next(), format!("200 STAT {round}"));
        if round % INTERRUPTS == 0 {
            assert_eq!(next(), "200 ABOR");
        }
        answered.send(()).ok();
    }
    assert!(lines.next().is_none(), "nothing follows");
    writer.join().unwrap();
    println!("whole");
}
