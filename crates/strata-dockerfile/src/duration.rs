//! Go's way of writing durations, which `HEALTHCHECK` uses: `1m30s`, `1.5h`, `500ms`.

use std::time::Duration;

/// Nanoseconds in one of a unit, longer names first where one starts with the other.
const UNITS_NS: [(&str, u64); 8] = [
    ("ns", 1),
    ("us", 1_000),
    ("\u{b5}s", 1_000),
    ("\u{3bc}s", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

/// Reads a duration that is not negative; nothing if it is none or does not fit.
#[must_use]
pub fn read(text: &str) -> Option<Duration> {
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    if rest == "0" {
        return Some(Duration::ZERO);
    }
    let mut total_ns: u64 = 0;
    loop {
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let (whole, tail) = rest.split_at(digits);
        let (fraction, tail) = fraction(tail);
        if whole.is_empty() && fraction.is_empty() {
            return None;
        }
        let (unit, unit_ns) = UNITS_NS.iter().find(|(unit, _)| tail.starts_with(unit))?;
        let whole_ns = if whole.is_empty() { 0 } else { whole.parse::<u64>().ok()? };
        let part_ns = fraction_ns(fraction, *unit_ns);
        total_ns = total_ns.checked_add(whole_ns.checked_mul(*unit_ns)?)?.checked_add(part_ns)?;
        rest = &tail[unit.len()..];
        if rest.is_empty() {
            break;
        }
    }
    (total_ns <= i64::MAX.unsigned_abs()).then(|| Duration::from_nanos(total_ns))
}

/// The digits after a point, and what follows them.
fn fraction(text: &str) -> (&str, &str) {
    let Some(tail) = text.strip_prefix('.') else { return ("", text) };
    let digits = tail.len() - tail.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    tail.split_at(digits)
}

/// How many nanoseconds `0.<digits>` of a unit are, rounded down.
fn fraction_ns(digits: &str, unit_ns: u64) -> u64 {
    let mut place_ns = u128::from(unit_ns) * 1_000_000_000;
    let mut sum: u128 = 0;
    for digit in digits.bytes().take(20) {
        place_ns /= 10;
        sum += place_ns * u128::from(digit - b'0');
    }
    u64::try_from(sum / 1_000_000_000).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        let cases = [
            ("0", Some(0)),
            ("0s", Some(0)),
            ("50ns", Some(50)),
            ("1ms", Some(1_000_000)),
            ("1m30s", Some(90_000_000_000)),
            ("1.5h", Some(5_400_000_000_000)),
            (".5s", Some(500_000_000)),
            ("5.s", Some(5_000_000_000)),
            ("0s1s", Some(1_000_000_000)),
            ("", None),
            ("5", None),
            ("s", None),
            (".s", None),
            ("-1s", None),
            ("1 s", None),
            ("99999999999h", None),
        ];
        for (text, expected) in cases {
            assert_eq!(read(text), expected.map(Duration::from_nanos), "{text}");
        }
    }
}
