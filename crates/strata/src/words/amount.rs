//! Times and sizes for people. Sizes count in thousands, as Docker's do.

use std::time::Duration;

/// `2.1s`.
pub(crate) fn seconds(time: Duration) -> String {
    format!("{:.1}s", time.as_secs_f64())
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

/// `1 file`, `2 files`.
pub(crate) fn counted(count: usize, noun: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {noun}{plural}")
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
    fn times_and_counts() {
        assert_eq!(seconds(Duration::from_millis(2_140)), "2.1s");
        assert_eq!((counted(1, "file"), counted(0, "file")), ("1 file".into(), "0 files".into()));
    }
}
