//! What the texts of a build's options mean, each in Docker's form.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use strata_dockerfile::{Network, suggest};
use strata_engine::Verify;

use crate::environment::Environment;
use crate::failure::Failure;

/// The time that image and files get, in seconds since 1970.
pub(super) const EPOCH: &str = "SOURCE_DATE_EPOCH";

/// `NAME=VALUE`, or `NAME` with its value from the environment, if it is there.
pub(super) fn variable(
    flag: &str,
    text: &str,
    environment: &Environment,
) -> Result<Option<(String, String)>, Failure> {
    let (name, value) = match text.split_once('=') {
        Some((name, value)) => (name, Some(value.to_owned())),
        None => (text, environment.exact(text)),
    };
    if name.is_empty() {
        return Err(Failure::usage(format!("`{flag} {text}`: the name is missing")));
    }
    Ok(value.map(|value| (name.to_owned(), value)))
}

/// `--build-arg`; an epoch in the environment is one, too, as for `docker buildx`.
pub(crate) fn build_args(
    texts: &[String],
    environment: &Environment,
) -> Result<BTreeMap<String, String>, Failure> {
    let mut values = BTreeMap::new();
    values.extend(environment.text(EPOCH).map(|epoch| (EPOCH.to_owned(), epoch)));
    for text in texts {
        values.extend(variable("--build-arg", text, environment)?);
    }
    Ok(values)
}

/// Whether a git context has its `.git`: BuildKit's way to ask for it is a build argument.
pub(super) fn keeps_git_dir(build_args: &BTreeMap<String, String>) -> bool {
    let value = build_args.get("BUILDKIT_CONTEXT_KEEP_GIT_DIR").map(String::as_str);
    matches!(value, Some("1" | "t" | "T" | "true" | "TRUE" | "True"))
}

/// The value of `SOURCE_DATE_EPOCH`.
pub(super) fn epoch(text: Option<&String>) -> Result<Option<i64>, Failure> {
    let parse = |text: &String| {
        let seconds = text.trim().parse::<i64>().ok().filter(|seconds| *seconds >= 0);
        seconds.ok_or_else(|| {
            Failure::usage(format!("`{EPOCH}={text}`: whole seconds since 1970 are expected"))
        })
    };
    text.filter(|text| !text.is_empty()).map(parse).transpose()
}

/// `--timeout`.
pub(crate) fn timeout(text: Option<&str>) -> Result<Option<Duration>, Failure> {
    let parse = |text: &str| {
        let time = strata_dockerfile::parse_duration(text).filter(|time| !time.is_zero());
        time.ok_or_else(|| {
            Failure::usage(format!("`--timeout {text}`: this is no duration"))
                .hint("such as `90s`, `10m` or `1h30m`")
        })
    };
    text.map(parse).transpose()
}

/// `--label`; one without a value is empty.
pub(super) fn labels(texts: &[String]) -> Result<BTreeMap<String, String>, Failure> {
    let label = |text: &String| match text.split_once('=').unwrap_or((text, "")) {
        ("", _) => Err(Failure::usage(format!("`--label {text}`: the name is missing"))),
        (name, value) => Ok((name.to_owned(), value.to_owned())),
    };
    texts.iter().map(label).collect()
}

/// `--network`.
pub(super) fn network(text: Option<&str>) -> Result<Network, Failure> {
    match text {
        None | Some("default" | "") => Ok(Network::Default),
        Some("none") => Ok(Network::None),
        Some("host") => Ok(Network::Host),
        Some(other) => Err(unknown("network", other, &["default", "none", "host"])),
    }
}

/// `--allow`.
pub(super) fn entitlements(texts: &[String]) -> Result<BTreeSet<String>, Failure> {
    const KNOWN: [&str; 2] = ["network.host", "security.insecure"];
    let check = |text: &String| match KNOWN.contains(&text.as_str()) {
        true => Ok(text.clone()),
        false => Err(unknown("entitlement", text, &KNOWN)),
    };
    texts.iter().map(check).collect()
}

/// `--cache-verify`: of a hundred.
pub(crate) fn verify(text: &str, seed: u64) -> Result<Verify, Failure> {
    let number = text.strip_suffix('%').unwrap_or(text).trim();
    match number.parse::<u8>() {
        Ok(percent) if percent <= 100 => Ok(Verify { percent, seed }),
        _ => Err(Failure::usage(format!("`--cache-verify {text}`: 0 to 100 is expected"))),
    }
}

/// `--add-host HOST:IP` or `HOST=IP`, the address in brackets or not.
pub(crate) fn hosts(texts: &[String]) -> Result<Vec<(String, String)>, Failure> {
    texts.iter().map(|text| host(text)).collect()
}

fn host(text: &str) -> Result<(String, String), Failure> {
    let invalid = |why: &str| Failure::usage(format!("`--add-host {text}`: {why}"));
    let (name, address) = match text.split_once('=').or_else(|| text.split_once(':')) {
        Some((name, address)) if !name.is_empty() => (name, address),
        _ => return Err(invalid("`HOST:IP` is expected")),
    };
    if address == "host-gateway" {
        // Commands have the machine's own network.
        return Ok((name.to_owned(), Ipv4Addr::LOCALHOST.to_string()));
    }
    let bare = address.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    match bare.unwrap_or(address).parse::<IpAddr>() {
        Ok(address) => Ok((name.to_owned(), address.to_string())),
        Err(_) => Err(invalid(&format!("`{address}` is no IP address"))),
    }
}

/// A word that is none of the known ones.
pub(crate) fn unknown(what: &str, word: &str, known: &[&str]) -> Failure {
    let hint = match suggest(word, known.iter().copied()) {
        Some(close) => format!("did you mean `{close}`?"),
        None => format!("there are `{}`", known.join("`, `")),
    };
    Failure::usage(format!("unknown {what} `{word}`")).hint(hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|text| (*text).to_owned()).collect()
    }

    #[test]
    fn arguments_take_their_values_from_the_environment() {
        let environment: Environment = [("B", "env"), ("EMPTY", "")].into_iter().collect();
        let args = texts(&["A=x=y", "B", "C", "EMPTY"]);
        let values = build_args(&args, &environment).expect("arguments");
        let values: Vec<_> = values.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        assert_eq!(values, [("A", "x=y"), ("B", "env"), ("EMPTY", "")]);
        assert_eq!(build_args(&texts(&["=x"]), &environment).expect_err("no name").code(), 2);
    }

    #[test]
    fn the_epoch() {
        let environment: Environment = [(EPOCH, "7")].into_iter().collect();
        let check = |args: &[&str], expected| {
            let args = build_args(&texts(args), &environment).expect("arguments");
            assert_eq!(epoch(args.get(EPOCH)).ok(), expected);
        };
        check(&[], Some(Some(7)));
        check(&["SOURCE_DATE_EPOCH=9"], Some(Some(9)));
        check(&["SOURCE_DATE_EPOCH="], Some(None));
        check(&["SOURCE_DATE_EPOCH=yesterday"], None);
    }

    #[test]
    fn hosts_in_all_forms() {
        let check = |text: &str, expected: Option<(&str, &str)>| {
            let expected = expected.map(|(name, address)| (name.to_owned(), address.to_owned()));
            assert_eq!(host(text).ok(), expected, "{text}");
        };
        check("a:1.2.3.4", Some(("a", "1.2.3.4")));
        check("a=1.2.3.4", Some(("a", "1.2.3.4")));
        check("a:::1", Some(("a", "::1")));
        check("a=[::1]", Some(("a", "::1")));
        check("a", None);
        check("a:b", None);
        check("a:host-gateway", Some(("a", "127.0.0.1")));
        check("a=host-gateway", Some(("a", "127.0.0.1")));
        check("a:gateway", None);
    }

    #[test]
    fn how_many_hits_are_verified() {
        let check = |text: &str, expected: Option<u8>| {
            assert_eq!(verify(text, 7).ok().map(|verify| verify.percent), expected, "{text}");
        };
        check("0", Some(0));
        check("25%", Some(25));
        check("100", Some(100));
        check("101", None);
        check("-1", None);
        check("half", None);
    }

    #[test]
    fn unknown_words_have_a_hint() {
        let hint = |failure: Failure| failure.hint.expect("a hint");
        let near = hint(network(Some("hots")).expect_err("unknown"));
        assert_eq!(near, "did you mean `host`?");
        let far = hint(entitlements(&texts(&["everything"])).expect_err("unknown"));
        assert_eq!(far, "there are `network.host`, `security.insecure`");
    }
}
