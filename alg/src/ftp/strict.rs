//! What a strict profile refuses in a whole line, beyond what is always refused: the checks of the strict FTP
//! inspection that firewalls are known for.

use crate::contract::Denial;
use crate::ftp::line::first_word;

/// Most bytes behind the numbers of a PORT or a 227: more would be another command on the same line.
pub(super) const MAX_TRAILING: usize = 8;

/// A client's line without its LF. It ends with CR, has no other CR and no NUL (an embedded command), begins with a
/// command, and is no reply.
pub(super) fn command(line: &[u8]) -> Result<(), Denial> {
    let text = ended(line)?;
    if is_code(text) {
        return Err(Denial::WrongSide);
    }
    let word = first_word(text);
    if !(3..=8).contains(&word.len()) || !word.iter().all(u8::is_ascii_alphabetic) {
        return Err(Denial::Malformed);
    }
    Ok(())
}

/// A server's line without its LF, outside a multi-line reply: it is a reply and no command, and an error text names
/// no endpoint.
pub(super) fn reply(line: &[u8]) -> Result<(), Denial> {
    let text = ended(line)?;
    if !is_code(text) {
        let word = first_word(text);
        let spoofed = [&b"PORT"[..], b"EPRT", b"LPRT"].iter().any(|c| word.eq_ignore_ascii_case(c));
        return Err(if spoofed { Denial::WrongSide } else { Denial::Malformed });
    }
    if matches!(text.first(), Some(b'4' | b'5')) && names_endpoint(text.get(3..).unwrap_or_default()) {
        return Err(Denial::WrongSide);
    }
    Ok(())
}

/// Whether a line within an error of several lines names an endpoint, or begins like a reply that does.
pub(super) fn is_named_in_error(line: &[u8]) -> bool {
    let reply = |text: &[u8]| {
        let named = [b"227", b"228", b"229"].iter().any(|code| text.starts_with(*code));
        named && is_code(text)
    };
    line.split(|&b| matches!(b, b'\r' | 0)).any(|text| reply(text.trim_ascii_start())) || names_endpoint(line)
}

fn ended(line: &[u8]) -> Result<&[u8], Denial> {
    let text = line.strip_suffix(b"\r").ok_or(Denial::Malformed)?;
    if text.iter().any(|&b| b == b'\r' || b == 0) { Err(Denial::Malformed) } else { Ok(text) }
}

/// Three digits, then a blank, a hyphen, or the end.
pub(super) fn is_code(text: &[u8]) -> bool {
    let Some((code, rest)) = text.split_first_chunk::<3>() else { return false };
    code.iter().all(u8::is_ascii_digit) && matches!(rest.first(), None | Some(b' ' | b'-' | b'\r'))
}

/// Six numbers with commas between, anywhere.
fn names_endpoint(text: &[u8]) -> bool {
    let mut commas = 0_u8;
    let mut digits = false;
    for &byte in text {
        match byte {
            b'0'..=b'9' => digits = true,
            b',' if digits => {
                commas = commas.saturating_add(1);
                digits = false;
            }
            _ => (commas, digits) = (0, false),
        }
        if commas == 5 && digits {
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands() {
        for (line, result) in [
            (&b"RETR a\r"[..], Ok(())),
            (b"QUIT\r", Ok(())),
            (b"RETR a", Err(Denial::Malformed)),
            (b"RETR a\rPORT 1\r", Err(Denial::Malformed)),
            (b"RETR a\0b\r", Err(Denial::Malformed)),
            (b"227 ok (1,2,3,4,5,6)\r", Err(Denial::WrongSide)),
            (b"\r", Err(Denial::Malformed)),
            (b"X Y\r", Err(Denial::Malformed)),
        ] {
            assert_eq!(command(line), result, "{line:?}");
        }
    }

    #[test]
    fn lines_of_errors() {
        for (line, named) in [
            (&b"227 Entering Passive Mode (10,1,0,2,1,1)\r"[..], true),
            (b" 229 Extended (|||5000|)\r", true),
            (b"sorry\r228-x\r", true),
            (b"sorry\x00228-x\r", true),
            (b"see 10,1,0,2,1,1\r", true),
            (b"PORT 10,1,0,2,1,1\r", true),
            (b"227\r", true),
            (b"2270 files\r", false),
            (b"1,2,3,4,5 files of 227\r", false),
            (b"550 no\r", false),
            (b"\r", false),
        ] {
            assert_eq!(is_named_in_error(line), named, "{line:?}");
        }
    }

    #[test]
    fn replies() {
        for (line, result) in [
            (&b"500 Illegal PORT command.\r"[..], Ok(())),
            (b"220-hi\r", Ok(())),
            (b"220\r", Ok(())),
            (b"550 1,2,3,4,5\r", Ok(())),
            (b"200 1,2,3,4,5,6\r", Ok(())),
            (b"550 227 x (10,1,0,2,1,1)\r", Err(Denial::WrongSide)),
            (b"421 PORT 10,1,0,2,1,1\r", Err(Denial::WrongSide)),
            (b"PORT 10,1,0,2,1,1\r", Err(Denial::WrongSide)),
            (b"hello\r", Err(Denial::Malformed)),
            (b"220 x", Err(Denial::Malformed)),
        ] {
            assert_eq!(reply(line), result, "{line:?}");
        }
    }
}
