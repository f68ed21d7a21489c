//! The client's commands: which are FTP at all, and what each asks of the server.

use crate::ftp::line::{HEAD, IAC, first_word};
use arrayvec::ArrayVec;

/// What a command waits for, as far as its reply matters here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[repr(u8)]
pub(super) enum Kind {
    /// The connection itself: it waits for the greeting.
    Greeting,
    /// Any command whose reply is nothing special.
    Other,
    /// PORT, EPRT or LPRT: a pinhole waits for the reply.
    Active,
    /// PASV: 227.
    Pasv,
    /// LPSV: 228.
    Lpsv,
    /// EPSV: 229.
    Epsv,
    /// EPSV ALL.
    EpsvAll,
    /// AUTH: 234, or 334 and later 235.
    Auth,
    /// USER: 331, or 230.
    User,
    /// SYST: 215.
    Syst,
    /// A command that moves data: 1xx, then 226 or 250.
    Transfer,
    /// ABOR.
    Abort,
    /// REIN.
    Rein,
    /// QUIT: 221.
    Quit,
    /// A command that the gateway refused by its policy; the server was asked to do nothing instead.
    Refused,
    /// The same, because the client had announced EPSV ALL.
    RefusedAfterAll,
    /// The same: AUTH, where nothing may be encrypted.
    RefusedAuth,
    /// The same: an endpoint, where no pinhole more may be opened.
    RefusedForRoom,
    /// A command that a rule masked: the server was given one that it does not know, and the client reads its reply.
    Masked,
}

impl Kind {
    /// Of a command line, by its first bytes.
    pub(super) fn of(head: &[u8]) -> Self {
        let word = first_word(head);
        let is = |name: &[u8]| word.eq_ignore_ascii_case(name);
        if is(b"PORT") || is(b"EPRT") || is(b"LPRT") {
            Self::Active
        } else if is(b"PASV") {
            Self::Pasv
        } else if is(b"LPSV") {
            Self::Lpsv
        } else if is(b"EPSV") {
            // It announces, and is answered by 200 (RFC 2428 §4).
            if head.eq_ignore_ascii_case(b"EPSV ALL") { Self::EpsvAll } else { Self::Epsv }
        } else if is(b"AUTH") {
            Self::Auth
        } else if is(b"USER") {
            Self::User
        } else if is(b"SYST") {
            Self::Syst
        } else if is(b"ABOR") {
            Self::Abort
        } else if is(b"REIN") {
            Self::Rein
        } else if is(b"QUIT") {
            Self::Quit
        } else if TRANSFERS.iter().any(|t| is(t)) {
            Self::Transfer
        } else {
            Self::Other
        }
    }

    /// Whether it asks the server to name an endpoint.
    pub(super) const fn is_passive(self) -> bool {
        matches!(self, Self::Pasv | Self::Lpsv | Self::Epsv)
    }

    /// Whether its client may wait for an endpoint of the server's. Of a command that never left nobody knows what it was.
    pub(super) const fn may_ask_for_endpoint(self) -> bool {
        self.is_passive() || matches!(self, Self::Refused | Self::RefusedAfterAll | Self::Masked)
    }

    /// Whether a final reply with this code may be this command's.
    pub(super) const fn takes(self, code: u16) -> bool {
        match (self, code) {
            (Self::Greeting, 400..) => true,
            (_, 400..) => !matches!(self, Self::Greeting),
            (Self::Greeting, c) => c == 220,
            (Self::Active | Self::EpsvAll, c) => c / 100 == 2 && c < 210,
            (Self::Pasv, c) => c == 227,
            (Self::Lpsv, c) => c == 228,
            (Self::Epsv, c) => c == 229,
            (Self::Auth, c) => matches!(c, 232 | 234 | 235 | 331 | 334),
            (Self::Syst, c) => c == 215,
            (Self::Transfer, c) => matches!(c, 225 | 226 | 250),
            (Self::Abort, c) => matches!(c, 225 | 226),
            (Self::Rein, c) => c == 220,
            (Self::Other | Self::Masked | Self::User | Self::Quit, c) => !matches!(c, 220 | 226..=229),
            (Self::Refused | Self::RefusedAfterAll | Self::RefusedAuth | Self::RefusedForRoom, c) => {
                c / 100 == 2 && c < 210
            }
        }
    }
}

/// Commands that move data over a data connection (RFC 959 §5.3, RFC 3659 §7).
const TRANSFERS: [&[u8]; 7] = [b"RETR", b"STOR", b"STOU", b"APPE", b"LIST", b"NLST", b"MLSD"];

/// Commands whose argument is a file (RFC 959 §4.1, RFC 3659, and the X forms of RFC 1123 §4.1.3.1).
const FILES: [&[u8]; 24] = [
    b"RETR", b"STOR", b"STOU", b"APPE", b"RNFR", b"RNTO", b"DELE", b"RMD", b"MKD", b"CWD", b"SMNT", b"LIST",
    b"NLST", b"STAT", b"SIZE", b"MDTM", b"MLST", b"MLSD", b"MFMT", b"XCWD", b"XMKD", b"XRMD", b"HASH",
    b"XCRC",
];

/// What an FTP client never says, and a browser does (RFC 9110 §9, RFC 5789).
const HTTP_METHODS: [&[u8]; 9] =
    [b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"CONNECT", b"OPTIONS", b"TRACE", b"PATCH"];

/// What only a mail client says (RFC 5321 §4.1.1.1, RFC 2033 §4.1): its server's greeting may name FTP, as a host does.
const MAIL_HELLOS: [&[u8]; 3] = [b"EHLO", b"HELO", b"LHLO"];

/// Whether a line whose first word begins like this cannot be FTP's, wherever it stands: a request of HTTP, whose method a
/// page may choose, or a header, whose name ends with a colon. A browser never sends a request without headers.
pub(super) fn is_foreign(word: &[u8]) -> bool {
    let spells = |b: &u8| b.is_ascii_alphanumeric() || *b == b'@';
    HTTP_METHODS.iter().any(|method| method.eq_ignore_ascii_case(word))
        || word.first() != Some(&IAC) && !word.iter().all(spells)
}

/// Whether the first bytes of a line can be a command: letters, three to eight of them, then a blank or the end.
pub(super) fn is_command(head: &[u8]) -> bool {
    let word = first_word(head);
    let mail = || MAIL_HELLOS.iter().any(|hello| hello.eq_ignore_ascii_case(word));
    (3..=8).contains(&word.len()) && word.iter().all(u8::is_ascii_alphabetic) && !is_foreign(word) && !mail()
}

/// Whether some server may run this line: one that reads over what is no text, and over blanks and quotes in front, or to
/// which a CR alone is an end.
pub(super) fn may_be_command(line: &[u8]) -> bool {
    line.split(|b| *b == b'\r').any(|text| {
        let text = text.iter().filter(|b| b.is_ascii_graphic() || b.is_ascii_whitespace());
        let word = text.skip_while(|b| !b.is_ascii_alphanumeric()).take_while(|b| b.is_ascii_alphanumeric());
        // A server may cut a word that is too long.
        is_command(&word.copied().take(HEAD).collect::<ArrayVec<u8, HEAD>>())
    })
}

/// Whether the argument of this command is a file.
pub(super) fn names_file(word: &[u8]) -> bool {
    FILES.iter().any(|f| word.eq_ignore_ascii_case(f))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds() {
        for (line, kind) in [
            (&b"port 1,2"[..], Kind::Active),
            (b"LPRT", Kind::Active),
            (b"EPSV", Kind::Epsv),
            (b"epsv 2", Kind::Epsv),
            (b"EPSV all", Kind::EpsvAll),
            (b"Retr a", Kind::Transfer),
            (b"RETRX", Kind::Other),
            (b"quit", Kind::Quit),
            (b"QUITE", Kind::Other),
            (b"", Kind::Other),
        ] {
            assert_eq!(Kind::of(line), kind, "{line:?}");
        }
    }

    #[test]
    fn what_is_never_of_ftp() {
        for (word, is) in [
            (&b"Host:"[..], true),
            (b"User-Age", true),
            (b"get", true),
            (b"\x16\x03\x01", true),
            (b"XSHA256", false),
            (b"P@SW", false),
            (b"EHLO", false),
            (b"", false),
            (b"\xff\xf4ABOR", false),
        ] {
            assert_eq!(is_foreign(word), is, "{word:?}");
        }
    }

    #[test]
    fn what_some_server_may_run() {
        for (line, may) in [
            (&b"USER x"[..], true),
            (b" \"STOR x", true),
            (b"ST\xff\xf1OR x", true),
            (b"\0S\0TOR", true),
            (b"\x01\rDELE b", true),
            (b"VERYLONGWORD", true),
            (b"\x01\0x", false),
            (b"\x01\0x\r", false),
            (b"\x05\x01\0\xffab", false),
            (b"POST /\xff", false),
            (b"EHLO \xff", false),
            (b"", false),
        ] {
            assert_eq!(may_be_command(line), may, "{line:?}");
        }
    }

    #[test]
    fn what_is_a_command() {
        for (head, is) in [
            (&b"USER x"[..], true),
            (b"CWD", true),
            (b"opts utf", true),
            (b"POST /", false),
            (b"OPTIONS ", false),
            (b"patch /", false),
            (b"ehlo x", false),
            (b"\x16\x03\x01", false),
            (b"SSH-2.0-", false),
            (b"", false),
            (b"US", false),
        ] {
            assert_eq!(is_command(head), is, "{head:?}");
        }
    }
}
