//! Numbers for people.

/// A length of time: `0.4 s`, `12 s`, `3 m 20 s`, `1 h 5 m`, `12 d 3 h`.
pub(crate) fn duration(ms: u64) -> String {
    let s = ms / 1000;
    match s {
        0..10 => format!("{s}.{} s", ms % 1000 / 100),
        10..60 => format!("{s} s"),
        60..3_600 => format!("{} m {} s", s / 60, s % 60),
        3_600..86_400 => format!("{} h {} m", s / 3_600, s / 60 % 60),
        _ => format!("{} d {} h", s / 86_400, s / 3_600 % 24),
    }
}

/// Reads a length of time in seconds, or with a unit: `90`, `90s`, `5m`, `2h`, `1d`. In milliseconds.
pub(crate) fn parse_duration(text: &str) -> Result<u64, String> {
    let units = [("s", 1), ("m", 60), ("h", 3_600), ("d", 86_400)];
    let unit = units.iter().find_map(|(unit, seconds)| Some((text.strip_suffix(unit)?, *seconds)));
    let (digits, seconds) = unit.unwrap_or((text, 1_u64));
    let number = digits.bytes().all(|b| b.is_ascii_digit()).then(|| digits.parse::<u64>().ok()).flatten();
    let ms = number.and_then(|n| n.checked_mul(seconds)?.checked_mul(1_000));
    ms.ok_or_else(|| "expected seconds, or a number with s, m, h or d".to_owned())
}

/// Bytes with a decimal prefix and one decimal place: `999 B`, `10.4 MB`.
pub(crate) fn bytes(n: u64) -> String {
    const UNITS: [&str; 6] = ["kB", "MB", "GB", "TB", "PB", "EB"];
    if n < 1000 {
        return format!("{n} B");
    }
    // Tenths of the unit, so that no rounding can print "1000.0 kB".
    let mut tenths = n / 100;
    let mut units = UNITS.iter();
    let mut unit = units.next();
    while tenths >= 10_000 {
        tenths /= 1000;
        unit = units.next();
    }
    format!("{}.{} {}", tenths / 10, tenths % 10, unit.unwrap_or(&""))
}

/// Digits in groups of three: `12 345 678`.
pub(crate) fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(' ');
        }
        out.push(digit);
    }
    out
}

/// What part of a whole that is, in percent.
pub(crate) fn share(part: u64, whole: u64) -> String {
    if whole == 0 {
        return "-".to_owned();
    }
    // Rounded up: nought stands for none at all.
    let tenths = (u128::from(part) * 1_000).div_ceil(u128::from(whole));
    format!("{}.{} %", tenths / 10, tenths % 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        let of = |ms| duration(ms);
        assert_eq!([of(0), of(9_999), of(59_999)], ["0.0 s", "9.9 s", "59 s"]);
        assert_eq!([of(60_000), of(3_599_999)], ["1 m 0 s", "59 m 59 s"]);
        assert_eq!([of(3_600_000), of(86_400_000 * 12 + 3_600_000 * 3)], ["1 h 0 m", "12 d 3 h"]);
    }

    #[test]
    fn durations_are_read() {
        let read = |text| parse_duration(text).ok();
        assert_eq!([read("0"), read("90"), read("90s")], [Some(0), Some(90_000), Some(90_000)]);
        assert_eq!([read("5m"), read("2h"), read("1d")], [Some(300_000), Some(7_200_000), Some(86_400_000)]);
        for wrong in
            ["", "m", "-1", "+1", "1.5h", "5 m", "5w", "99999999999999999999", "18446744073709551615d"]
        {
            assert_eq!(read(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn byte_counts() {
        let of = |n| bytes(n);
        assert_eq!([of(0), of(999), of(1000)], ["0 B", "999 B", "1.0 kB"]);
        assert_eq!([of(999_999), of(1_000_000), of(10_485_760)], ["999.9 kB", "1.0 MB", "10.4 MB"]);
        assert_eq!(of(u64::MAX), "18.4 EB");
    }

    #[test]
    fn shares() {
        assert_eq!([share(0, 0), share(0, 9), share(1, 2)], ["-", "0.0 %", "50.0 %"]);
        assert_eq!([share(1, 1_000_000), share(7, 7)], ["0.1 %", "100.0 %"]);
    }

    #[test]
    fn counts() {
        assert_eq!([count(0), count(999), count(1000)], ["0", "999", "1 000"]);
        assert_eq!(count(12_345_678), "12 345 678");
    }
}
