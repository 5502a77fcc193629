//! `EXPOSE`: ports, ranges and protocols.

/// The ports of one word, such as `80`, `53/udp` or `8000-8010`, as `80/tcp` each. What is before
/// a colon (an address or the host's port) does not count.
pub(crate) fn parse(word: &str) -> Result<Vec<String>, String> {
    let wrong = |why: &str| format!("`{word}` is not a port: {why}");
    let (ports, protocol) = word.split_once('/').unwrap_or((word, "tcp"));
    let protocol = if protocol.is_empty() { "tcp" } else { protocol }.to_ascii_lowercase();
    if !matches!(&*protocol, "tcp" | "udp" | "sctp") {
        return Err(wrong("the protocol is none of `tcp`, `udp`, `sctp`"));
    }
    let ports = ports.rsplit(':').next().unwrap_or_default();
    let number = |text: &str| {
        let port =
            text.parse::<u16>().map_err(|_| wrong("a number from 1 to 65535 is expected"))?;
        if port == 0 { Err(wrong("a number from 1 to 65535 is expected")) } else { Ok(port) }
    };
    let (first, last) = match ports.split_once('-') {
        Some((first, last)) => (number(first)?, number(last)?),
        None => (number(ports)?, number(ports)?),
    };
    if first > last {
        return Err(wrong("the range ends before it begins"));
    }
    Ok((first..=last).map(|port| format!("{port}/{protocol}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_and_protocols() {
        assert_eq!(parse("80"), Ok(vec!["80/tcp".to_owned()]));
        assert_eq!(parse("53/UDP"), Ok(vec!["53/udp".to_owned()]));
        assert_eq!(parse("127.0.0.1:80:8080"), Ok(vec!["8080/tcp".to_owned()]));
        assert_eq!(parse("1-3").map(|ports| ports.len()), Ok(3));
        for bad in ["", "0", "70000", "a", "80/ftp", "9-8"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
