//! `--resource`, `--ulimit`, `--shm-size` and Docker's older flags for limits; for `strata run`
//! those of `docker run` too.

use strata_exec::{Limits, Ulimit};

use super::unknown;
use crate::arguments::{LimitArguments, RunArguments};
use crate::failure::Failure;

const RESOURCES: [&str; 8] = [
    "memory",
    "memory-swap",
    "cpu-shares",
    "cpu-period",
    "cpu-quota",
    "cpuset-cpus",
    "cpuset-mems",
    "pids",
];

/// The least that Docker lets anybody have: with less, nothing starts.
const LEAST_MEMORY_BYTES: u64 = 6 << 20;

/// What `--cpus` counts in: a tenth of a second, as Docker.
const PERIOD_MICROS: u32 = 100_000;

/// All limits that were given for `strata run`.
pub(crate) fn of_run(arguments: &RunArguments) -> Result<Limits, Failure> {
    let mut limits = limits(&arguments.limits)?;
    if let Some(text) = &arguments.cpus {
        let cpus = text.parse::<f64>().ok().filter(|cpus| (0.01..=65_536.0).contains(cpus));
        let Some(cpus) = cpus else {
            let text = format!("`--cpus {text}`: a number of processors from 0.01 is expected");
            return Err(Failure::usage(text));
        };
        #[expect(clippy::cast_possible_truncation, reason = "it was compared with its bounds")]
        let quota = (cpus * f64::from(PERIOD_MICROS)) as i64;
        limits.cpu_quota_micros = Some(quota);
        limits.cpu_period_micros = Some(PERIOD_MICROS.into());
    }
    match arguments.pids_limit {
        // Docker's ways to say that there is none.
        Some(-1 | 0) => limits.pids = None,
        Some(pids) => {
            let pids = u64::try_from(pids);
            let refused = |_| Failure::usage("`--pids-limit`: a number from -1 is expected");
            limits.pids = Some(pids.map_err(refused)?);
        }
        None => {}
    }
    Ok(limits)
}

/// All limits that were given.
pub(super) fn limits(arguments: &LimitArguments) -> Result<Limits, Failure> {
    let mut limits = Limits { cgroup_parent: arguments.cgroup_parent.clone(), ..Limits::default() };
    let older = [
        ("memory", &arguments.memory),
        ("memory-swap", &arguments.memory_swap),
        ("cpu-shares", &arguments.cpu_shares),
        ("cpu-period", &arguments.cpu_period),
        ("cpu-quota", &arguments.cpu_quota),
        ("cpuset-cpus", &arguments.cpuset_cpus),
        ("cpuset-mems", &arguments.cpuset_mems),
    ];
    for (name, value) in older {
        if let Some(value) = value {
            limit(&mut limits, &format!("--{name}"), name, value)?;
        }
    }
    for text in &arguments.resources {
        let flag = format!("--resource {text}");
        match text.split_once('=') {
            Some((name, value)) => limit(&mut limits, &flag, name.trim(), value)?,
            // A list has commas too: `cpuset-cpus=0,2`.
            None => more(&mut limits, text)
                .ok_or_else(|| Failure::usage(format!("`{flag}`: `NAME=LIMIT` is expected")))?,
        }
    }
    if let (Some(memory), Some(both)) = (limits.memory_bytes, limits.memory_swap_bytes)
        && u64::try_from(both).is_ok_and(|both| both < memory)
    {
        let text = "`--memory-swap` is memory and swap together, and less than `--memory`";
        return Err(Failure::usage(text));
    }
    if limits.memory_swap_bytes.is_some() && limits.memory_bytes.is_none() {
        return Err(Failure::usage("`--memory-swap` without `--memory` limits nothing"));
    }
    limits.ulimits = arguments.ulimits.iter().map(|text| ulimit(text)).collect::<Result<_, _>>()?;
    Ok(limits)
}

fn limit(limits: &mut Limits, flag: &str, name: &str, value: &str) -> Result<(), Failure> {
    let invalid = |what: &str| Failure::usage(format!("`{flag}`: `{value}` is no {what}"));
    let number = || value.parse::<u64>().map_err(|_| invalid("number"));
    let signed = || value.parse::<i64>().map_err(|_| invalid("number"));
    let list = || match value.chars().all(|letter| letter.is_ascii_digit() || "-,".contains(letter))
    {
        true if !value.is_empty() => Ok(value.to_owned()),
        _ => Err(invalid("list such as `0-3,7`")),
    };
    match name {
        "memory" => {
            let bytes = bytes(value).ok_or_else(|| invalid("size"))?;
            if bytes < LEAST_MEMORY_BYTES {
                return Err(Failure::usage(format!("`{flag}`: the least is 6m")));
            }
            limits.memory_bytes = Some(bytes);
        }
        "memory-swap" if value == "-1" => limits.memory_swap_bytes = Some(-1),
        "memory-swap" => {
            let bytes = bytes(value).and_then(|bytes| i64::try_from(bytes).ok());
            limits.memory_swap_bytes = Some(bytes.ok_or_else(|| invalid("size"))?);
        }
        "cpu-shares" => limits.cpu_shares = Some(number()?),
        "cpu-period" => limits.cpu_period_micros = Some(number()?),
        "cpu-quota" => limits.cpu_quota_micros = Some(signed()?),
        "cpuset-cpus" => limits.cpuset_cpus = Some(list()?),
        "cpuset-mems" => limits.cpuset_mems = Some(list()?),
        "pids" => limits.pids = Some(number()?),
        other => return Err(unknown("resource", other, &RESOURCES)),
    }
    Ok(())
}

/// One more processor, after a comma.
fn more(limits: &mut Limits, text: &str) -> Option<()> {
    let is_list = text.starts_with(|letter: char| letter.is_ascii_digit());
    let list = limits.cpuset_cpus.as_mut().filter(|_| is_list)?;
    list.push(',');
    list.push_str(text);
    Some(())
}

/// `NAME=SOFT[:HARD]`; `-1` is no limit.
fn ulimit(text: &str) -> Result<Ulimit, Failure> {
    let invalid = |why: &str| Failure::usage(format!("`--ulimit {text}`: {why}"));
    let Some((name, values)) = text.split_once('=') else {
        return Err(invalid("`NAME=SOFT[:HARD]` is expected"));
    };
    if !Ulimit::NAMES.contains(&name) {
        return Err(unknown("ulimit", name, &Ulimit::NAMES));
    }
    let value = |text: &str| match text {
        "-1" => Ok(u64::MAX),
        text => text.parse().map_err(|_| invalid(&format!("`{text}` is no number"))),
    };
    let (soft, hard) = values.split_once(':').unwrap_or((values, values));
    let (soft, hard) = (value(soft)?, value(hard)?);
    match soft > hard {
        true => Err(invalid("the soft limit is above the hard one")),
        false => Ok(Ulimit { name: name.to_owned(), soft, hard }),
    }
}

/// `--shm-size`.
pub(crate) fn shm_bytes(text: Option<&str>) -> Result<Option<u64>, Failure> {
    let bytes = |text| {
        let bytes = bytes(text).filter(|bytes| *bytes > 0);
        bytes.ok_or_else(|| Failure::usage(format!("`--shm-size {text}` is no size")))
    };
    text.map(bytes).transpose()
}

/// `64m` and the like: a number, and `b`, `k`, `m` or `g` after it, by 1024.
fn bytes(text: &str) -> Option<u64> {
    let text = text.trim().to_ascii_lowercase();
    let text = text.strip_suffix("ib").or_else(|| text.strip_suffix('b')).unwrap_or(&text);
    let (digits, shift) = match text.char_indices().last()? {
        (at, 'k') => (&text[..at], 10),
        (at, 'm') => (&text[..at], 20),
        (at, 'g') => (&text[..at], 30),
        (at, 't') => (&text[..at], 40),
        _ => (text, 0),
    };
    digits.parse::<u64>().ok()?.checked_mul(1 << shift)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        limits: LimitArguments,
    }

    fn read(line: &str) -> Result<Limits, Failure> {
        let words = std::iter::once("strata").chain(line.split_whitespace());
        limits(&Line::try_parse_from(words).expect("arguments").limits)
    }

    #[test]
    fn both_forms_say_the_same() {
        let new = "--resource memory=512m,memory-swap=1g,cpu-shares=512,cpu-period=50000,\
                   cpu-quota=25000,cpuset-cpus=0,2,pids=100";
        let old = "-m 512m --memory-swap 1g -c 512 --cpu-period 50000 --cpu-quota 25000 \
                   --cpuset-cpus 0,2 --resource pids=100";
        let expected = Limits {
            memory_bytes: Some(512 << 20),
            memory_swap_bytes: Some(1 << 30),
            cpu_shares: Some(512),
            cpu_period_micros: Some(50_000),
            cpu_quota_micros: Some(25_000),
            cpuset_cpus: Some("0,2".to_owned()),
            pids: Some(100),
            ..Limits::default()
        };
        assert_eq!(read(new).expect("limits"), expected);
        assert_eq!(read(old).expect("limits"), expected);
    }

    #[test]
    fn ulimits() {
        let limits = read("--ulimit nofile=10:20 --ulimit core=0 --ulimit memlock=-1");
        let limits = limits.expect("limits").ulimits;
        let short: Vec<_> = limits.iter().map(|one| (&*one.name, one.soft, one.hard)).collect();
        let all = u64::MAX;
        assert_eq!(short, [("nofile", 10, 20), ("core", 0, 0), ("memlock", all, all)]);
    }

    #[test]
    fn mistakes_are_named() {
        let check = |line: &str, expected: &str| {
            let failure = read(line).expect_err(line);
            assert!(failure.message.contains(expected), "{}", failure.message);
            assert_eq!(failure.code(), 2);
        };
        check("-m 1x", "`1x` is no size");
        check("-m 1m", "the least is 6m");
        check("-m 1g --memory-swap 512m", "less than `--memory`");
        check("--memory-swap 1g", "without `--memory`");
        check("--resource memroy=1g", "unknown resource `memroy`");
        check("--resource memory", "`NAME=LIMIT` is expected");
        check("--ulimit nofiles=1", "unknown ulimit `nofiles`");
        check("--ulimit nofile=3:2", "above the hard one");
        check("--cpuset-cpus 0;1", "is no list");
        assert_eq!(shm_bytes(Some("0")).expect_err("nothing").code(), 2);
        assert_eq!(shm_bytes(Some("128M")).expect("a size"), Some(128 << 20));
    }
}
