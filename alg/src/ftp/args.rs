//! The grammars of the six FTP messages that name an endpoint, and how each is written anew.
//!
//! Owns text only: RFC 959 §4.1.2 (PORT), §4.2 and RFC 1123 §4.1.2.6 (227), RFC 2428 §2 (EPRT) and
//! §3 (229), RFC 1639 (LPRT, 228).
//! Whether a named endpoint is allowed is decided elsewhere.

use crate::contract::{Endpoint, MAX_REPLACEMENT};
use crate::ftp::line::IAC;
use arrayvec::ArrayVec;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use core::ops::Range;
use core::str::FromStr;
use nom::bytes::complete::{is_not, take_till, take_while};
use nom::character::complete::{char, one_of, u8 as number8, u16 as number16};
use nom::combinator::{eof, map, map_opt, verify};
use nom::sequence::{preceded, terminated};
use nom::{IResult, Parser};
use std::io::Write;

/// The delimiter that RFC 2428 recommends.
const BAR: u8 = b'|';

/// A message that names an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Message {
    /// `PORT h1,h2,h3,h4,p1,p2`
    Port,
    /// `EPRT |family|address|port|`
    Eprt,
    /// `227 text (h1,h2,h3,h4,p1,p2) text`
    Pasv,
    /// `229 text (|||port|) text`
    Epsv,
    /// `LPRT family,length,address...,2,p1,p2`
    Lprt,
    /// `228 text (family,length,address...,2,p1,p2) text`
    Lpsv,
}

/// An endpoint that a message names, and where it does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Named {
    /// The bytes of the argument that [`Message::write`] replaces.
    pub(super) range: Range<usize>,
    /// The address; 229 has none.
    pub(super) addr: Option<IpAddr>,
    /// The port, never 0.
    pub(super) port: u16,
    /// How many bytes of the argument follow the range.
    pub(super) trailing: usize,
    /// What separates the fields of EPRT and 229.
    delimiter: u8,
}

type Read<'a, T> = IResult<&'a [u8], T, ()>;

impl Message {
    /// Length of the command or code.
    pub(super) const fn word_len(self) -> usize {
        match self {
            Self::Port | Self::Eprt | Self::Lprt => 4,
            Self::Pasv | Self::Epsv | Self::Lpsv => 3,
        }
    }

    /// Reads a line that begins with the command or code and a blank. `None`: not of the grammar.
    pub(super) fn read_line(self, line: &[u8]) -> Option<Named> {
        self.read(line.get(self.word_len().saturating_add(1)..)?)
    }

    /// Reads what follows the command or code and its blank, up to the line's end. `None`: not of the grammar.
    pub(super) fn read(self, argument: &[u8]) -> Option<Named> {
        let (before, (addr, port, delimiter), after) = match self {
            Self::Port => whole(argument, six_numbers)?,
            Self::Eprt => whole(argument, eprt)?,
            Self::Lprt => whole(argument, long)?,
            Self::Pasv => passive(argument, six_numbers)?,
            Self::Lpsv => passive(argument, long)?,
            Self::Epsv => epsv(argument)?,
        };
        let range = before..argument.len().checked_sub(after)?;
        (port != 0).then_some(Named { range, addr, port, trailing: after, delimiter })
    }

    /// The text of `endpoint` in the place of `named`. `None`: this message cannot carry that endpoint.
    pub(super) fn write(self, named: &Named, endpoint: Endpoint) -> Option<ArrayVec<u8, MAX_REPLACEMENT>> {
        let mut text = ArrayVec::new();
        match (self, endpoint.addr) {
            (Self::Port | Self::Pasv, IpAddr::V4(addr)) => {
                let [a, b, c, d] = addr.octets();
                let [p, q] = endpoint.port.to_be_bytes();
                write!(text, "{a},{b},{c},{d},{p},{q}").ok()?;
            }
            (Self::Port | Self::Pasv, IpAddr::V6(_)) => return None,
            (Self::Eprt, addr) => {
                let d = char::from(eprt_delimiter(named.delimiter, addr)?);
                let family = if addr.is_ipv4() { 1 } else { 2 };
                write!(text, "{d}{family}{d}{addr}{d}{}{d}", endpoint.port).ok()?;
            }
            (Self::Lprt | Self::Lpsv, addr) => {
                let [p, q] = endpoint.port.to_be_bytes();
                match addr {
                    IpAddr::V4(a) => {
                        write!(text, "4,4").ok()?;
                        a.octets().iter().try_for_each(|o| write!(text, ",{o}")).ok()?;
                    }
                    IpAddr::V6(a) => {
                        write!(text, "6,16").ok()?;
                        a.octets().iter().try_for_each(|o| write!(text, ",{o}")).ok()?;
                    }
                }
                write!(text, ",2,{p},{q}").ok()?;
            }
            (Self::Epsv, _) => write!(text, "{}", endpoint.port).ok()?,
        }
        Some(text)
    }
}

/// What a grammar finds: address if any, port, delimiter.
type Fields = (Option<IpAddr>, u16, u8);

/// A command's argument is the grammar and nothing else, but for blanks around it. Answers the bytes before, the
/// fields, and how many bytes are left after.
fn whole(argument: &[u8], grammar: impl Fn(&[u8]) -> Read<'_, Fields>) -> Option<(usize, Fields, usize)> {
    let (rest, _) = blanks(argument).ok()?;
    let before = argument.len().checked_sub(rest.len())?;
    let (rest, fields) = grammar(rest).ok()?;
    terminated(blanks, eof::<_, ()>).parse(rest).ok()?;
    Some((before, fields, rest.len()))
}

/// The numbers stand after any text without a digit (RFC 1123 §4.1.2.6: parentheses may be there or not). A digit
/// further on would give the reply a second reading: refused.
fn passive(text: &[u8], grammar: impl Fn(&[u8]) -> Read<'_, Fields>) -> Option<(usize, Fields, usize)> {
    let (rest, before) = no_digits(text).ok()?;
    let (numbers, before) = (before, before.len());
    if swallows(numbers) || numbers.strip_suffix(b"(").is_some_and(swallows) {
        return None;
    }
    let (rest, fields) = grammar(rest).ok()?;
    terminated(no_digits, eof::<_, ()>).parse(rest).ok()?;
    Some((before, fields, rest.len()))
}

/// Whether a client that knows telnet reads over the byte behind this text: a command is IAC and one byte, of WILL, WONT, DO and DONT two.
/// Two IACs are a data byte.
fn swallows(text: &[u8]) -> bool {
    // How many bytes more the command takes, as far as is known.
    let open = text.iter().fold(0_u8, |open, byte| match (open, *byte) {
        (0, IAC) => 2,
        (2, 251..=254) => 1,
        _ => 0,
    });
    // The same for one who does not know where the first command ends.
    let odd = text.iter().rev().take_while(|b| **b == IAC).count() % 2 == 1;
    open != 0 || odd || matches!(text, [.., IAC, 251..=254])
}

/// The first parenthesis holds three delimiters, the port, and the delimiter again. The range is the port alone. Bars anywhere else are
/// another port to who looks for them: FileZilla for the first `(|||`, busybox for the last ones.
fn epsv(text: &[u8]) -> Option<(usize, Fields, usize)> {
    let (rest, parenthesis) = terminated(to_parenthesis, char('(')).parse(text).ok()?;
    if swallows(parenthesis) {
        return None;
    }
    let (rest, d) = delimiter(rest).ok()?;
    let bars = text.iter().filter(|b| **b == BAR).count();
    if bars != if d == BAR { 4 } else { 0 } {
        return None;
    }
    let same = char::<_, ()>(char::from(d));
    let (rest, _) = (same, char(char::from(d))).parse(rest).ok()?;
    let before = text.len().checked_sub(rest.len())?;
    let (rest, port) = number16::<_, ()>(rest).ok()?;
    (char::<_, ()>(char::from(d)), char(')')).parse(rest).ok()?;
    Some((before, (None, port, d), rest.len()))
}

fn to_parenthesis(text: &[u8]) -> Read<'_, &[u8]> {
    take_till(|b| b == b'(').parse(text)
}

fn six_numbers(text: &[u8]) -> Read<'_, Fields> {
    let next = || preceded(char(','), number8);
    map((number8, next(), next(), next(), next(), next()), |(a, b, c, d, p, q)| {
        (Some(IpAddr::V4(Ipv4Addr::new(a, b, c, d))), u16::from_be_bytes([p, q]), b',')
    })
    .parse(text)
}

/// Family, length of the address, its bytes, length of the port, its bytes (RFC 1639 §2).
fn long(text: &[u8]) -> Read<'_, Fields> {
    let next = || preceded(char(','), number8);
    let refuse = || nom::Err::Error(());
    let (rest, (family, length)) = (number8, next()).parse(text)?;
    let mut octets = [0_u8; 16];
    let wanted = match (family, length) {
        (4, 4) => 4,
        (6, 16) => 16,
        _ => return Err(refuse()),
    };
    let mut rest = rest;
    for octet in octets.iter_mut().take(wanted) {
        (rest, *octet) = next().parse(rest)?;
    }
    let (rest, (_, p, q)) = (verify(next(), |n| *n == 2), next(), next()).parse(rest)?;
    let addr = match octets {
        [a, b, c, d, ..] if family == 4 => IpAddr::V4(Ipv4Addr::new(a, b, c, d)),
        octets => IpAddr::V6(Ipv6Addr::from(octets)),
    };
    Ok((rest, (Some(addr), u16::from_be_bytes([p, q]), b',')))
}

fn eprt(text: &[u8]) -> Read<'_, Fields> {
    let (rest, d) = delimiter(text)?;
    let same = || char(char::from(d));
    let (rest, family) = terminated(one_of("12"), same()).parse(rest)?;
    let separator = [d];
    let field = is_not(&separator[..]);
    let (rest, addr) = terminated(map_opt(field, |a| address(family, a)), same()).parse(rest)?;
    let (rest, port) = terminated(number16, same()).parse(rest)?;
    Ok((rest, (Some(addr), port, d)))
}

/// RFC 2428 allows 33 to 126. A digit could not be told from the numbers around it.
fn delimiter(text: &[u8]) -> Read<'_, u8> {
    verify(nom::number::complete::u8, |d| d.is_ascii_graphic() && !d.is_ascii_digit()).parse(text)
}

fn address(family: char, text: &[u8]) -> Option<IpAddr> {
    let text = core::str::from_utf8(text).ok()?;
    match family {
        '1' => Ipv4Addr::from_str(text).ok().map(IpAddr::V4),
        _ => Ipv6Addr::from_str(text).ok().map(IpAddr::V6),
    }
}

fn blanks(text: &[u8]) -> Read<'_, &[u8]> {
    take_while(super::line::is_blank).parse(text)
}

fn no_digits(text: &[u8]) -> Read<'_, &[u8]> {
    take_till(|b: u8| b.is_ascii_digit()).parse(text)
}

/// The sender's own delimiter, unless the new address needs that character (an `a` among IPv6 digits, say).
fn eprt_delimiter(wanted: u8, addr: IpAddr) -> Option<u8> {
    let mut text = ArrayVec::<u8, 46>::new();
    write!(text, "{addr}").ok()?;
    Some(if text.contains(&wanted) { BAR } else { wanted })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(message: Message, text: &str) -> Option<(String, Option<String>, u16)> {
        let named = message.read(text.as_bytes())?;
        Some((text[named.range.clone()].to_owned(), named.addr.map(|a| a.to_string()), named.port))
    }

    fn found(text: &str, addr: &str, port: u16) -> Option<(String, Option<String>, u16)> {
        Some((text.to_owned(), (!addr.is_empty()).then(|| addr.to_owned()), port))
    }

    #[test]
    fn port_arguments() {
        for text in ["10,1,0,2,156,64", " 10,1,0,2,156,64 ", "\t10,1,0,2,156,64\t "] {
            assert_eq!(read(Message::Port, text), found("10,1,0,2,156,64", "10.1.0.2", 40000), "{text:?}");
        }
        assert_eq!(read(Message::Port, "010,001,0,2,4,00"), found("010,001,0,2,4,00", "10.1.0.2", 1024));
        for bad in [
            "",
            " ",
            "10,1,0,2,156",
            "10,1,0,2,156,64,1",
            "10,1,0,2,156,64x",
            "10,1,0,2,156,64 x",
            "10,1,0,2,156,256",
            "256,1,0,2,156,64",
            "10,1,0,2,0,0",
            "10, 1,0,2,156,64",
            "-10,1,0,2,156,64",
            "+10,1,0,2,156,64",
            "10.1.0.2.156.64",
            "10,1,0,,156,64",
            "99999999999999999999,1,0,2,3,4",
            "(10,1,0,2,156,64)",
            "10,1,0,2,156,64\r",
        ] {
            assert_eq!(read(Message::Port, bad), None, "{bad:?}");
        }
    }

    #[test]
    fn eprt_arguments() {
        for d in ['|', '!', '/', '#', '~', ';', ':', 'x'] {
            let text = format!("{d}1{d}10.1.0.2{d}40000{d}");
            assert_eq!(read(Message::Eprt, &text), found(&text, "10.1.0.2", 40000));
        }
        let six = "|2|2001:db8:0::1|5282|";
        assert_eq!(read(Message::Eprt, six), found(six, "2001:db8::1", 5282));
        assert_eq!(
            read(Message::Eprt, " |1|10.1.0.2|40000| "),
            found("|1|10.1.0.2|40000|", "10.1.0.2", 40000)
        );
        for bad in [
            "",
            "|1|10.1.0.2|40000",
            "|1|10.1.0.2|40000|x",
            "|1|10.1.0.2|40000||",
            "|1|10.1.0.2|0|",
            "|1|10.1.0.2|65536|",
            "|1|10.1.0.2||",
            "|1||40000|",
            "|1|10.1.0|40000|",
            "|1|010.1.0.2|40000|",
            "|1|2001:db8::1|40000|",
            "|2|10.1.0.2|40000|",
            "|2|fe80::1%eth0|40000|",
            "|3|10.1.0.2|40000|",
            "|11|10.1.0.2|40000|",
            "||10.1.0.2|40000|",
            "|1|10.1.0.2!40000|",
            "|1!10.1.0.2|40000|",
            "31310.1.0.23400003",
            " 1 10.1.0.2 40000 ",
            ".1.10.1.0.2.40000.",
        ] {
            assert_eq!(read(Message::Eprt, bad), None, "{bad:?}");
        }
    }

    #[test]
    fn pasv_replies_of_real_servers() {
        let numbers = "198,51,100,2,195,89";
        for text in [
            "Entering Passive Mode (198,51,100,2,195,89).", // vsftpd, proftpd
            "Entering Passive Mode (198,51,100,2,195,89)",  // pure-ftpd, IIS 5, wu-ftpd
            "Entering Passive Mode (198,51,100,2,195,89).\t", // IIS 7
            "Entering passive mode 198,51,100,2,195,89",
            "=198,51,100,2,195,89", // publicfile
            "Passive mode OK (198,51,100,2,195,89)",
            "198,51,100,2,195,89",
            "Mode passif activ\u{e9} (198,51,100,2,195,89)",
        ] {
            assert_eq!(read(Message::Pasv, text), found(numbers, "198.51.100.2", 50009), "{text:?}");
        }
        for bad in [
            "",
            "Entering Passive Mode",
            "Entering Passive Mode ()",
            "Entering Passive Mode (198,51,100,2,195)",
            "Entering Passive Mode (198,51,100,2,195,)",
            "Entering Passive Mode (198,51,100,2,195,256)",
            "Entering Passive Mode (198,51,100,2,0,0)",
            "Entering Passive Mode (198,51,100,2,195,89,1)",
            "1,2,3,4,5,6 (198,51,100,2,195,89)",
            "mode 2 (198,51,100,2,195,89)",
        ] {
            assert_eq!(read(Message::Pasv, bad), None, "{bad:?}");
        }
    }

    #[test]
    fn epsv_replies_of_real_servers() {
        for text in [
            "Entering Extended Passive Mode (|||50009|)",  // proftpd, IIS
            "Entering Extended Passive Mode (|||50009|).", // vsftpd
            "Extended Passive mode OK (|||50009|)",        // pure-ftpd
            "Mode (!!!50009!)",
            "(|||50009|) port 7",
            "(!!!50009!) (EPSV)",
        ] {
            assert_eq!(read(Message::Epsv, text), found("50009", "", 50009), "{text:?}");
        }
        for bad in [
            "",
            "Entering Extended Passive Mode",
            "Entering Extended Passive Mode |||50009|",
            "(EPSV) (|||50009|)",
            "(|||50009|",
            "(|||50009)",
            "(||50009|)",
            "(|||0|)",
            "(|||65536|)",
            "(||||)",
            "(|1|10.1.0.2|50009|)",
            "(||!50009|)",
            "(111500091)",
            // FileZilla looks for the first `(|||`, busybox for the last bars.
            "x (!!!50000!) (|||445|)",
            "|445| (!!!50000!)",
            "(|||50000|) (|||445|)",
            "(|||50000|) |",
        ] {
            assert_eq!(read(Message::Epsv, bad), None, "{bad:?}");
        }
    }

    /// In CP1251 the byte 255 is a letter.
    #[test]
    fn telnet_hides_only_what_it_takes() {
        for (before, hides) in [
            (&b"\xff "[..], false),
            (b"\xff\xff", false),
            (b"\xff\xff ", false),
            (b"\xff\xff\xff\xff", false),
            (b"far \xff before ", false),
            (b"\xff\xfb\x01", false),
            (b"\xff\xf1", false),
            (b"\xff", true),
            (b"\xff\xff\xff", true),
            (b"\xff\xfb", true),
            (b"\xff\xfe", true),
            // The option is 255, or the first 255 is data.
            (b"\xff\xfb\xff", true),
            (b"\xff\xfb\xff\xff", true),
            (b"\xff\xff\xfb", true),
        ] {
            let found =
                |message: Message, numbers: &[u8]| message.read(&[before, numbers].concat()).is_some();
            assert_eq!(found(Message::Pasv, b"10,1,0,2,156,64"), !hides, "{before:?}");
            assert_eq!(found(Message::Pasv, b"(10,1,0,2,156,64)"), !hides, "{before:?}");
            assert_eq!(found(Message::Epsv, b"(|||50009|)"), !hides, "{before:?}");
        }
        assert!(Message::Pasv.read(b"(\xff10,1,0,2,156,64)").is_none());
    }

    #[test]
    fn long_arguments() {
        let four = "4,4,10,1,0,2,2,156,64";
        assert_eq!(read(Message::Lprt, four), found(four, "10.1.0.2", 40000));
        let six = "6,16,253,0,0,0,0,0,0,0,0,0,0,0,0,0,0,2,2,156,64";
        assert_eq!(read(Message::Lprt, six), found(six, "fd00::2", 40000));
        let reply = format!("Entering Long Passive Mode ({six})");
        assert_eq!(read(Message::Lpsv, &reply), found(six, "fd00::2", 40000));
        for bad in [
            "4,16,10,1,0,2,2,156,64",
            "6,4,10,1,0,2,2,156,64",
            "5,4,10,1,0,2,2,156,64",
            "4,4,10,1,0,2,1,156",
            "4,4,10,1,0,2,2,156",
            "4,4,10,1,0,2,2,156,64,1",
            "4,4,10,1,0,2,2,0,0",
        ] {
            assert_eq!(read(Message::Lprt, bad), None, "{bad:?}");
        }
    }

    #[test]
    fn what_is_written_can_be_read() {
        let four = Endpoint::new(IpAddr::from([203, 0, 113, 255]), 65535);
        let six = Endpoint::new("fdaa:aaaa:aaaa:aaaa:aaaa:aaaa:aaaa:aaaa".parse().unwrap(), 65535);
        for (message, from, to) in [
            (Message::Port, "10,1,0,2,156,64", four),
            (Message::Pasv, "Passive (10,1,0,2,156,64)", four),
            (Message::Eprt, "!1!10.1.0.2!40000!", four),
            (Message::Eprt, "a2a::1a40000a", six),
            (Message::Epsv, "Passive (@@@50009@)", six),
            (Message::Lprt, "4,4,10,1,0,2,2,156,64", four),
            (Message::Lprt, "6,16,253,0,0,0,0,0,0,0,0,0,0,0,0,0,0,2,2,156,64", six),
            (Message::Lpsv, "Long (4,4,10,1,0,2,2,156,64)", six),
        ] {
            let named = message.read(from.as_bytes()).unwrap();
            let text = message.write(&named, to).unwrap();
            let mut line = from.as_bytes().to_vec();
            line.splice(named.range, text);
            let again = message.read(&line).unwrap();
            assert_eq!(again.port, to.port);
            assert!(again.addr.is_none_or(|a| a == to.addr), "{:?}", String::from_utf8_lossy(&line));
        }
        let named = Message::Port.read(b"10,1,0,2,156,64").unwrap();
        assert_eq!(Message::Port.write(&named, six), None);
    }
}
