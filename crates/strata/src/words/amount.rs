//! Times and sizes for people. Sizes count in thousands, as Docker's do.

use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;

/// `2.1s`.
pub(crate) fn seconds(time: Duration) -> String {
    format!("{:.1}s", time.as_secs_f64())
}

/// `24h`, `90m`, `45s`: the largest unit of which there are at least two.
pub(crate) fn duration(seconds: u64) -> String {
    for (unit, name) in [(86_400, "d"), (3_600, "h"), (60, "m")] {
        if seconds >= 2 * unit {
            return format!("{}{name}", seconds / unit);
        }
    }
    format!("{seconds}s")
}

/// `78.1MB`: three digits that count.
pub(crate) fn bytes(count: u64) -> String {
    const UNITS: [&str; 6] = ["B", "kB", "MB", "GB", "TB", "PB"];
    let mut amount = count as f64;
    let mut unit = 0;
    // 999.5 would be shown as 1000.
    while amount >= 999.5 && unit + 1 < UNITS.len() {
        amount /= 1000.0;
        unit += 1;
    }
    let decimals = match amount {
        _ if unit == 0 => 0,
        amount if amount < 9.995 => 2,
        amount if amount < 99.95 => 1,
        _ => 0,
    };
    let text = format!("{amount:.decimals$}");
    let text = if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    } else {
        text
    };
    format!("{text}{}", UNITS[unit])
}

/// `5 minutes ago`; what lies in the future is now.
pub(crate) fn ago(time: SystemTime) -> String {
    let seconds = time.elapsed().unwrap_or_default().as_secs();
    let (count, unit) = match seconds {
        0..120 => (seconds, "second"),
        120..7_200 => (seconds / 60, "minute"),
        7_200..172_800 => (seconds / 3_600, "hour"),
        _ => (seconds / 86_400, "day"),
    };
    format!("{} ago", counted(usize::try_from(count).unwrap_or(usize::MAX), unit))
}

/// `1 file`, `2 files`.
pub(crate) fn counted(count: usize, noun: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {noun}{plural}")
}

/// Reads `20GB`, `1.5GiB`, `512m`: units of a thousand, with an `i` of 1024. None of it is
/// mistaken for another: a bare number is bytes.
pub(crate) fn parse_bytes(text: &str) -> Option<u64> {
    let text = text.trim();
    let split = text.find(|letter: char| !letter.is_ascii_digit() && letter != '.');
    let (number, unit) = text.split_at(split.unwrap_or(text.len()));
    let unit = unit.trim().to_ascii_lowercase();
    let unit = unit.strip_suffix('b').unwrap_or(&unit);
    let (unit, base) = match unit.strip_suffix('i') {
        Some(unit) if !unit.is_empty() => (unit, 1024_u128),
        _ => (unit, 1000_u128),
    };
    let power = match unit {
        "" => 0,
        "k" => 1,
        "m" => 2,
        "g" => 3,
        "t" => 4,
        "p" => 5,
        _ => return None,
    };
    let (whole, part) = number.split_once('.').unwrap_or((number, ""));
    // More digits than these are less than a byte.
    let part = &part[..part.len().min(15)];
    let digits = |text: &str| if text.is_empty() { Some(0) } else { text.parse::<u64>().ok() };
    let unit = base.pow(power);
    let tenths = u128::from(digits(part)?) * unit / 10_u128.pow(u32::try_from(part.len()).ok()?);
    let bytes = u128::from(whole.parse::<u64>().ok()?).checked_mul(unit)? + tenths;
    u64::try_from(bytes).ok()
}

/// Reads how long: `24h`, `1h30m`, `7d`, as Go's durations with days.
pub(crate) fn parse_seconds(text: &str) -> Option<u64> {
    let (mut total, mut rest) = (0_u64, text);
    while !rest.is_empty() {
        let end = rest.find(|letter: char| !letter.is_ascii_digit())?;
        let number: u64 = rest[..end].parse().ok()?;
        let unit = match &rest[end..=end] {
            "s" => 1,
            "m" => 60,
            "h" => 3600,
            "d" => 86_400,
            _ => return None,
        };
        total = total.checked_add(number.checked_mul(unit)?)?;
        rest = &rest[end + 1..];
    }
    (!text.is_empty()).then_some(total)
}

/// Seconds since 1970.
pub(crate) fn now() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.unwrap_or_default().as_secs()
}

/// `2026-01-31 12:00` of seconds since 1970, in UTC.
pub(crate) fn day(seconds: u64) -> String {
    let time = i64::try_from(seconds).ok().and_then(|it| Timestamp::from_second(it).ok());
    time.unwrap_or(Timestamp::MAX).strftime("%Y-%m-%d %H:%M").to_string()
}

/// Reads `2026-01-31`: its beginning in UTC, in seconds since 1970.
pub(crate) fn parse_day(text: &str) -> Option<u64> {
    let date = Date::strptime("%Y-%m-%d", text).ok()?;
    let time = date.to_zoned(TimeZone::UTC).ok()?.timestamp();
    u64::try_from(time.as_second()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_as_docker_shows_them() {
        let check = |count, expected: &str| assert_eq!(bytes(count), expected);
        check(0, "0B");
        check(999, "999B");
        check(1_000, "1kB");
        check(1_234, "1.23kB");
        check(78_100_000, "78.1MB");
        check(999_999, "1MB");
        check(117_400_000, "117MB");
        check(1_500_000_000, "1.5GB");
        check(100_000, "100kB");
    }

    #[test]
    fn durations_in_their_largest_unit() {
        let check = |seconds, expected: &str| assert_eq!(duration(seconds), expected);
        check(0, "0s");
        check(119, "119s");
        check(120, "2m");
        check(3_600, "60m");
        check(86_400, "24h");
        check(200_000, "2d");
    }

    #[test]
    fn times_and_counts() {
        assert_eq!(seconds(Duration::from_millis(2_140)), "2.1s");
        let before = |seconds| ago(SystemTime::now() - Duration::from_secs(seconds));
        assert_eq!((before(400), before(90_000)), ("6 minutes ago".into(), "25 hours ago".into()));
        assert_eq!((counted(1, "file"), counted(0, "file")), ("1 file".into(), "0 files".into()));
    }

    #[test]
    fn sizes_and_times_are_read() {
        let check = |text, expected| assert_eq!(parse_bytes(text), expected, "{text}");
        check("20GB", Some(20_000_000_000));
        check("1.5GiB", Some(1_610_612_736));
        check("512m", Some(512_000_000));
        check("10 kb", Some(10_000));
        check("7", Some(7));
        for wrong in ["", "GB", "x", "1ib", "-1", "1.2.3k", "99999999P"] {
            check(wrong, None);
        }
        assert_eq!(day(0), "1970-01-01 00:00");
        assert_eq!(day(1_709_210_096), "2024-02-29 12:34");
        assert_eq!(parse_day("2024-02-29"), Some(1_709_164_800));
        assert_eq!(parse_day("2023-02-29"), None);
        assert_eq!(parse_day("9999-12-30").map(day).as_deref(), Some("9999-12-30 00:00"));
    }
}
