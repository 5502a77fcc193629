//! `strata prune`: removes what nobody needs, and says of each thing why.

use std::io::{BufRead, IsTerminal, Write};

use serde_json::json;
use strata_build::ImageLinks;
use strata_store::{Kind, Reason, Removed, SweepRequest, Swept};

use super::table;
use crate::arguments::{Format, PruneArguments};
use crate::failure::Failure;
use crate::printer::Printer;
use crate::session::Session;
use crate::settings::Settings;
use crate::words::{amount, lower_errors};

const KINDS: [(&str, Kind); 6] = [
    ("record", Kind::Record),
    ("snapshot", Kind::Snapshot),
    ("derived", Kind::Derived),
    ("leftover", Kind::Leftover),
    ("cache-mount", Kind::CacheMount),
    ("log", Kind::Log),
];

pub(super) fn run(
    arguments: &PruneArguments,
    settings: Settings,
    printer: &Printer,
) -> Result<u8, Failure> {
    let request = request(arguments, amount::now())?;
    if !arguments.force && !arguments.dry_run && !agrees(arguments, printer) {
        printer.talk("nothing was removed");
        return Ok(0);
    }
    let session = Session::open(settings, printer)?;
    let swept = session.store().sweep(&request, &ImageLinks);
    let swept = swept.map_err(|error| lower_errors::store(&error))?;
    if swept.is_busy {
        return Err(Failure::environment("another strata process is pruning this store")
            .hint("try again when it has finished"));
    }
    match arguments.format {
        Format::Table => printer.data(&rows(&swept, arguments.dry_run)),
        Format::Json => printer.data(&object(&swept, arguments.dry_run)),
    }
    Ok(0)
}

/// Docker asks; who pipes nothing in has nobody to ask.
fn agrees(arguments: &PruneArguments, printer: &Printer) -> bool {
    let stdin = std::io::stdin();
    if !stdin.is_terminal() {
        return true;
    }
    let what = if arguments.all {
        "all build results that no named image needs, and cache mounts that no build uses now"
    } else {
        "all build results that no latest build used and no named image needs"
    };
    printer.talk(&format!("this removes {what}; go on? [y/N]"));
    let _ = std::io::stderr().flush();
    let mut line = String::new();
    stdin.lock().read_line(&mut line).is_ok() && line.trim().eq_ignore_ascii_case("y")
}

fn request(arguments: &PruneArguments, now: u64) -> Result<SweepRequest, Failure> {
    let mut request =
        SweepRequest { all: arguments.all, dry_run: arguments.dry_run, ..SweepRequest::default() };
    if let Some(text) = &arguments.max_used_space {
        request.keep_bytes = Some(amount::parse_bytes(text).ok_or_else(|| {
            Failure::usage(format!("`{text}` is not a size")).hint("write `20GB` or `512MiB`")
        })?);
    }
    for filter in &arguments.filter {
        let (key, value) = filter.split_once('=').ok_or_else(|| {
            Failure::usage(format!("the filter `{filter}` has no value"))
                .hint("write `until=24h`, `type=record` or `project=DIR`")
        })?;
        match key {
            "until" => request.until = Some(until(value, now)?),
            "type" => request.kinds.push(kind(value)?),
            "project" => request.project = Some(project(value)),
            _ => {
                let close = strata_dockerfile::suggest(key, ["until", "type", "project"]);
                let hint = close.map(|close| format!("did you mean `{close}`?"));
                return Err(Failure::usage(format!("there is no filter `{key}`"))
                    .hint("the filters are `until`, `type` and `project`")
                    .hint_if(hint));
            }
        }
    }
    Ok(request)
}

/// `24h`, `90m`, `7d`, seconds since 1970, or a day.
fn until(text: &str, now: u64) -> Result<u64, Failure> {
    let ago = amount::parse_seconds(text).map(|ago| now.saturating_sub(ago));
    let at = || text.parse::<u64>().ok().or_else(|| amount::parse_day(text));
    ago.or_else(at).ok_or_else(|| {
        Failure::usage(format!("`{text}` is not a time"))
            .hint("write how long ago, such as `24h` or `7d`, or a day, such as `2026-01-31`")
    })
}

fn kind(text: &str) -> Result<Kind, Failure> {
    // Docker's word for it.
    let text = if text == "exec.cachemount" { "cache-mount" } else { text };
    let known = KINDS.iter().find(|(name, _)| *name == text).map(|(_, kind)| *kind);
    known.ok_or_else(|| {
        let names = KINDS.map(|(name, _)| name);
        let close = strata_dockerfile::suggest(text, names);
        Failure::usage(format!("there is no type `{text}`"))
            .hint(format!("the types are `{}`", names.join("`, `")))
            .hint_if(close.map(|close| format!("did you mean `{close}`?")))
    })
}

/// A project is called by where its context lies.
fn project(text: &str) -> String {
    let path = std::fs::canonicalize(text);
    path.map_or_else(|_| text.to_owned(), |path| path.display().to_string())
}

fn name_of(kind: Kind) -> &'static str {
    KINDS.iter().find(|(_, known)| *known == kind).map_or("", |(name, _)| name)
}

fn words(reason: &Reason) -> String {
    match reason {
        Reason::NothingNeedsIt => "nothing needs it".to_owned(),
        Reason::NotInLatestBuild => "the latest build did not use it".to_owned(),
        Reason::Copy => "it is made again when a command needs it".to_owned(),
        Reason::NotInUse { last_used } => {
            format!("no build uses it now (last on {})", amount::day(*last_used))
        }
        Reason::LeastLikely { next_build: u64::MAX } => "no build is expected to use it".to_owned(),
        Reason::LeastLikely { next_build } => {
            format!("its project's next build is farthest off ({})", amount::day(*next_build))
        }
        Reason::Asked => "asked for".to_owned(),
    }
}

fn rows(swept: &Swept, is_dry: bool) -> String {
    let header = ["TYPE", "WHAT", "PROJECT", "SIZE", "REASON"].map(str::to_owned).to_vec();
    let row = |removed: &Removed| {
        let what: String = crate::progress::one_line(&removed.what).chars().take(60).collect();
        let project = removed.project.clone().unwrap_or_else(|| "-".to_owned());
        let size = amount::bytes(removed.bytes);
        vec![name_of(removed.kind).to_owned(), what, project, size, words(&removed.reason)]
    };
    let mut text = String::new();
    if !swept.removed.is_empty() {
        let rows = std::iter::once(header).chain(swept.removed.iter().map(row));
        text = table::draw(&rows.collect::<Vec<_>>()) + "\n\n";
    }
    let freed = amount::bytes(swept.freed_bytes());
    if is_dry { format!("{text}would free {freed}") } else { format!("{text}freed {freed}") }
}

fn object(swept: &Swept, is_dry: bool) -> String {
    let removed = swept.removed.iter().map(|removed| {
        json!({
            "type": name_of(removed.kind), "what": removed.what, "project": removed.project,
            "bytes": removed.bytes, "reason": words(&removed.reason),
        })
    });
    json!({
        "removed": removed.collect::<Vec<_>>(), "freed_bytes": swept.freed_bytes(),
        "before_bytes": swept.before_bytes, "dry_run": is_dry,
    })
    .to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_are_read_as_docker_reads_them() {
        assert_eq!(until("24h", 100_000).ok(), Some(13_600));
        assert_eq!(until("1h30m", 10_000).ok(), Some(4_600));
        assert_eq!(until("2d", 200_000).ok(), Some(27_200));
        assert_eq!(until("12345", 1).ok(), Some(12_345));
        assert_eq!(until("1970-01-03", 1).ok(), Some(172_800));
        for wrong in ["", "h", "yesterday", "1970-13-01", "-1h"] {
            assert_eq!(until(wrong, 1).expect_err(wrong).code(), 2);
        }
        assert_eq!(kind("record").ok(), Some(Kind::Record));
        assert_eq!(
            kind("recrod").expect_err("a typo").hint.as_deref(),
            Some("did you mean `record`?")
        );
    }
}
