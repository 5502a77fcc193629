//! The report for a terminal.

use std::fmt::Write;

use crate::execution::Measured;
use crate::report::{InstructionReport, Report, seconds};

/// How many lines of each list are shown; JSON and HTML have them all.
const LINES: usize = 12;

/// The report as text.
pub fn text(report: &Report) -> String {
    let mut to = String::new();
    head(report, &mut to);
    schemes(report, &mut to);
    instructions(report, &mut to);
    files(report, &mut to);
    commits(report, &mut to);
    what_ifs(report, &mut to);
    policies(report, &mut to);
    advice(report, &mut to);
    execution(report, &mut to);
    to.truncate(to.trim_end().len());
    to
}

fn head(report: &Report, to: &mut String) {
    let subject = &report.subject;
    let builds = &report.builds;
    let short = |id: &str| id.get(..10).unwrap_or(id).to_owned();
    let _ = writeln!(
        to,
        "{}: {} commits from {} to {} ({}), {} built, {} scored",
        subject.repository,
        builds.commits,
        short(&subject.first),
        short(&subject.last),
        subject.order,
        builds.built,
        builds.scored,
    );
    let target = subject.target.as_ref().map(|t| format!(", target {t}")).unwrap_or_default();
    let _ = writeln!(to, "Dockerfile {}{target}", subject.dockerfile);
    for note in &builds.notes {
        let _ = writeln!(to, "note: {note}");
    }
    for change in &subject.what_if {
        let _ = writeln!(to, "what if: {change}");
    }
    if !builds.complete {
        let _ = writeln!(to, "ended early: the figures are about the builds so far");
    }
    if let Some(first) = builds.not_built.first() {
        let more = builds.not_built.len() - 1;
        let more = if more > 0 { format!(", and {more} more") } else { String::new() };
        let _ = writeln!(to, "not built: {} ({}){more}", short(&first.commit), first.reason);
    }
    let _ = writeln!(to, "time: {}; cache: {}", report.model.time, report.model.cache);
}

fn schemes(report: &Report, to: &mut String) {
    let _ = writeln!(
        to,
        "\n{:<18} {:>7} {:>7} {:>7} {:>6} {:>6} {:>9}",
        "KEYS", "STEPS", "TIME", "NO RUN", "P10", "P50", "PREVIOUS"
    );
    for scheme in &report.schemes {
        let _ = writeln!(
            to,
            "{:<18} {:>6.1}% {:>6.1}% {:>6.1}% {:>6.1} {:>6.1} {:>8.1}%",
            scheme.scheme,
            scheme.steps.exact(),
            scheme.time.exact(),
            scheme.no_run.exact(),
            scheme.p10,
            scheme.p50,
            scheme.previous_build.exact(),
        );
    }
}

/// The beginning of a text.
pub(crate) fn cut(text: &str, letters: usize) -> String {
    if text.chars().count() <= letters {
        return text.to_owned();
    }
    let cut: String = text.chars().take(letters.saturating_sub(1)).collect();
    format!("{cut}…")
}

fn why(one: &InstructionReport) -> String {
    let mut misses: Vec<(&String, &u64)> = one.misses.iter().collect();
    misses.sort_by(|a, b| b.1.cmp(a.1).then(a.0.cmp(b.0)));
    let words: Vec<String> = misses.iter().map(|(name, count)| format!("{count} {name}")).collect();
    words.join(", ")
}

fn instructions(report: &Report, to: &mut String) {
    let _ = writeln!(to, "\n{:>6} {:>9} {:>9}  INSTRUCTION", "HITS", "OF", "LOST");
    let current = report.instructions.iter().filter(|one| one.current);
    for one in current {
        let _ = writeln!(
            to,
            "{:>5.1}% {:>9} {:>9}  {}: {}",
            one.hits.exact(),
            one.hits.of,
            amount(one.lost_seconds),
            one.stage,
            cut(&one.text, 70),
        );
        let why = why(one);
        if !why.is_empty() {
            let _ = writeln!(to, "{:>28}{why}", "");
        }
    }
    let earlier = report.instructions.iter().filter(|one| !one.current).count();
    if earlier > 0 {
        let _ = writeln!(to, "and {earlier} of earlier Dockerfiles");
    }
}

/// Seconds for a person.
pub(crate) fn amount(seconds: f64) -> String {
    match seconds {
        s if s < 120.0 => format!("{s:.0} s"),
        s if s < 7_200.0 => format!("{:.0} min", s / 60.0),
        s => format!("{:.1} h", s / 3_600.0),
    }
}

fn files(report: &Report, to: &mut String) {
    if report.files.is_empty() {
        return;
    }
    let _ = writeln!(to, "\n{:>6} {:>6} {:>9}  FILE", "BROKE", "ALONE", "LOST");
    for file in report.files.iter().take(LINES) {
        let ignore = file.ignore_line.as_ref().map(|_| "  (looks ignorable)").unwrap_or_default();
        let _ = writeln!(
            to,
            "{:>6} {:>6} {:>9}  {}{ignore}",
            file.broke,
            file.alone,
            amount(file.lost_seconds),
            file.path,
        );
    }
    if report.files_total > LINES {
        let _ = writeln!(to, "and {} more", report.files_total - LINES);
    }
}

fn commits(report: &Report, to: &mut String) {
    let _ = writeln!(to, "\n{:<10} {:>6} {:>9}  FIRST MISS", "COMMIT", "HITS", "LOST");
    for one in report.commits.iter().rev().take(LINES) {
        let miss = match &one.first_miss {
            None => "none".to_owned(),
            Some(miss) if miss.witness.is_empty() => {
                let detail = if miss.detail.is_empty() {
                    String::new()
                } else {
                    format!(" ({})", miss.detail)
                };
                format!("{}: {}{detail}", miss.cause, cut(&miss.instruction, 50))
            }
            Some(miss) => {
                let more = miss.witness_total - 1;
                let more = if more > 0 { format!(" and {more} more") } else { String::new() };
                format!("{}{more} in {}", miss.witness[0].trim(), cut(&miss.instruction, 40))
            }
        };
        let short = one.commit.get(..10).unwrap_or(&one.commit);
        let lost = amount(one.lost_seconds);
        let _ = writeln!(to, "{short:<10} {:>5.1}% {lost:>9}  {miss}", one.hits.exact());
    }
    if report.commits.len() > LINES {
        let _ = writeln!(to, "and {} more", report.commits.len() - LINES);
    }
}

fn what_ifs(report: &Report, to: &mut String) {
    if report.what_ifs.is_empty() {
        return;
    }
    let _ = writeln!(to, "\n{:>15} {:>15} {:>15}  WHAT IF", "STEPS", "TIME", "NO RUN");
    for one in &report.what_ifs {
        let pair = |at: usize| format!("{:.1} → {:.1}%", one.without[at], one.with[at]);
        let _ = writeln!(to, "{:>15} {:>15} {:>15}  {}", pair(0), pair(1), pair(2), one.what);
    }
}

fn policies(report: &Report, to: &mut String) {
    if report.policies.is_empty() {
        return;
    }
    let _ = writeln!(
        to,
        "\n{:>9} {:>9}  {:<10} {:>7} {:>7} {:>13} {:>12}",
        "CAPACITY", "BYTES", "POLICY", "STEPS", "TIME", "REGRET STEPS", "REGRET TIME"
    );
    for one in &report.policies {
        let _ = writeln!(
            to,
            "{:>8}% {:>6} MB  {:<10} {:>6.1}% {:>6.1}% {:>13.1} {:>12.1}",
            one.capacity_percent,
            one.capacity_bytes / 1_000_000,
            one.policy,
            one.steps.exact(),
            one.time.exact(),
            one.regret_steps,
            one.regret_time,
        );
    }
}

fn advice(report: &Report, to: &mut String) {
    let Some(advice) = &report.advice else { return };
    if advice.changes.is_empty() {
        let _ = writeln!(to, "\nADVICE: nothing that was tried brings anything");
        return;
    }
    let _ = writeln!(
        to,
        "\nADVICE, for the newest Dockerfile on this history\n{:>15} {:>15} {:>15} {:>8}  CHANGE",
        "STEPS", "TIME", "NO RUN", "A BUILD"
    );
    for one in advice.changes.iter().chain(&advice.together) {
        let pair = |at: usize| format!("{:.1} → {:.1}%", one.without[at], one.with[at]);
        let saved = format!("{:.0} s", one.saved_seconds_per_build);
        let _ = writeln!(
            to,
            "{:>15} {:>15} {:>15} {saved:>8}  {}",
            pair(0),
            pair(1),
            pair(2),
            one.what
        );
    }
    for caution in &advice.cautions {
        let _ = writeln!(to, "caution: {caution}");
    }
    let _ = writeln!(to, "\n{}", advice.patch);
}

fn execution(report: &Report, to: &mut String) {
    let Some(execution) = &report.execution else { return };
    let peer = if execution.peer.is_some() { "  PEER HITS      TIME" } else { "" };
    let _ =
        writeln!(to, "\n{:<10} {:>9} {:>9} {:>9}{peer}", "REAL BUILD", "PREDICTED", "HITS", "TIME");
    for one in &execution.builds {
        let hits = |measured: &Measured| match measured.built {
            true => format!("{}/{}", measured.hits, measured.steps),
            false => "failed".to_owned(),
        };
        let time = |measured: &Measured| format!("{:.2} s", seconds(measured.millis));
        let short = one.commit.get(..10).unwrap_or(&one.commit);
        let peer = one.peer.as_ref().map(|p| format!("{:>11} {:>9}", hits(p), time(p)));
        let _ = writeln!(
            to,
            "{short:<10} {:>9} {:>9} {:>9}{}",
            one.predicted_hits,
            hits(&one.strata),
            time(&one.strata),
            peer.unwrap_or_default(),
        );
        if !one.strata.failure.is_empty() {
            let _ = writeln!(to, "{:>10} {}", "", one.strata.failure);
        }
    }
    let short = execution.short().count();
    let _ = writeln!(
        to,
        "{} audited hits gave the same, {} did not; {short} builds had fewer hits than predicted",
        execution.audited,
        execution.differing.len(),
    );
    for step in &execution.differing {
        let _ = writeln!(to, "not the same when run again: {step}");
    }
}
