//! The report as one page: no script, nothing loaded from elsewhere, light and dark by the
//! reader's choice. Every plot has its numbers in words; no meaning is in a colour alone.

use std::fmt::Write;

use crate::execution::{Execution, Measured};
use crate::plots;
use crate::report::Report;
use crate::text::amount;

const STYLE: &str = include_str!("page.css");

/// The page.
pub fn html(report: &Report) -> String {
    let mut to = String::new();
    let title = format!("Cache replay of {}", report.subject.repository);
    let _ = write!(
        to,
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n\
         <title>{}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<main>\n",
        escape(&title)
    );
    head(report, &title, &mut to);
    section(&mut to, "Hit rates by what a key is made of", &schemes(report));
    section(&mut to, "Build after build", &plots::builds(report));
    section(&mut to, "How many of a build's steps hit", &plots::histogram(report));
    section(&mut to, "Instructions", &instructions(report));
    section(&mut to, "Files that broke builds", &files(report));
    if !report.what_ifs.is_empty() {
        section(&mut to, "What if", &what_ifs(report));
    }
    if let Some(advice) = report.advice.as_ref() {
        section(&mut to, "Advice", &advised(advice));
    }
    if !report.policies.is_empty() {
        section(&mut to, "Caches of limited size", &policies(report));
    }
    if let Some(execution) = report.execution.as_ref() {
        section(&mut to, "Builds that really ran", &executed(execution));
    }
    section(&mut to, "Builds", &commits(report));
    section(&mut to, "What the figures rest on", &model(report));
    to.push_str("</main>\n</body>\n</html>");
    to
}

/// Text for HTML.
pub(crate) fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

fn section(to: &mut String, title: &str, body: &str) {
    let _ = write!(to, "<section>\n<h2>{title}</h2>\n{body}</section>\n");
}

fn head(report: &Report, title: &str, to: &mut String) {
    let (subject, builds) = (&report.subject, &report.builds);
    let short = |id: &str| escape(id.get(..10).unwrap_or(id));
    let _ = write!(
        to,
        "<header>\n<h1>{}</h1>\n<p>{} commits, <code>{}</code> to <code>{}</code>, {}; \
         <code>{}</code>{}. {} built, {} scored (the first build finds an empty cache).</p>\n",
        escape(title),
        builds.commits,
        short(&subject.first),
        short(&subject.last),
        escape(&subject.order),
        escape(&subject.dockerfile),
        subject.target.as_ref().map(|t| format!(", target {}", escape(t))).unwrap_or_default(),
        builds.built,
        builds.scored,
    );
    for change in &subject.what_if {
        let _ = writeln!(to, "<p class=\"note\">What if: {}.</p>", escape(change));
    }
    if !builds.complete {
        to.push_str(
            "<p class=\"note\">Ended early: the figures are about the builds so far.</p>\n",
        );
    }
    for note in &builds.notes {
        let _ = writeln!(to, "<p class=\"note\">{}</p>", escape(note));
    }
    if let Some(first) = builds.not_built.first() {
        let _ = writeln!(
            to,
            "<p class=\"note\">{} commits were not built; the first: <code>{}</code>, {}.</p>",
            builds.not_built.len(),
            short(&first.commit),
            escape(&first.reason)
        );
    }
    if let Some(main) = report.main() {
        let tile = |name: &str, share: &crate::report::Share, words: &str| {
            format!(
                "<div class=\"tile\"><div class=\"number\">{:.1} %</div><div>{name}</div>\
                 <div class=\"aside\">{words}</div></div>",
                share.exact()
            )
        };
        let _ = writeln!(
            to,
            "<div class=\"tiles\">{}{}{}</div>",
            tile("steps hit", &main.steps, &format!("{} of {}", main.steps.hits, main.steps.of)),
            tile("time saved", &main.time, &format!("by the {}", escape(&report.model.time))),
            tile(
                "builds without RUN",
                &main.no_run,
                &format!("{} of {}", main.no_run.hits, main.no_run.of)
            ),
        );
    }
    to.push_str("</header>\n");
}

fn schemes(report: &Report) -> String {
    let mut to = plots::schemes(report);
    to.push_str(
        "<div class=\"scroll\"><table><thead><tr><th>Keys</th><th class=\"n\">Steps</th>\
         <th class=\"n\">Time</th><th class=\"n\">No RUN</th><th class=\"n\">p10</th>\
         <th class=\"n\">p50</th><th class=\"n\">Previous build</th></tr></thead><tbody>\n",
    );
    for one in &report.schemes {
        let main = if one.scheme == report.main_scheme { " class=\"main\"" } else { "" };
        let _ = writeln!(
            to,
            "<tr{main}><td>{}</td><td class=\"n\">{:.1} %</td><td class=\"n\">{:.1} %</td>\
             <td class=\"n\">{:.1} %</td><td class=\"n\">{:.1}</td><td class=\"n\">{:.1}</td>\
             <td class=\"n\">{:.1} %</td></tr>",
            escape(&one.scheme),
            one.steps.exact(),
            one.time.exact(),
            one.no_run.exact(),
            one.p10,
            one.p50,
            one.previous_build.exact(),
        );
    }
    to.push_str("</tbody></table></div>\n");
    to
}

fn instructions(report: &Report) -> String {
    let mut to = String::from(
        "<div class=\"scroll\"><table><thead><tr><th class=\"n\">Line</th><th>Stage</th>\
         <th>Instruction</th><th>Hits</th><th class=\"n\">Lost</th><th>Why it missed</th></tr>\
         </thead><tbody>\n",
    );
    for one in &report.instructions {
        let class = if one.current { "" } else { " class=\"old\"" };
        let line = if one.current { one.line.to_string() } else { "earlier".to_owned() };
        let why: Vec<String> =
            one.misses.iter().map(|(name, count)| format!("{count} × {}", escape(name))).collect();
        let _ = writeln!(
            to,
            "<tr{class}><td class=\"n\">{line}</td><td>{}</td><td><code>{}</code></td>\
             <td>{}</td><td class=\"n\">{}</td><td>{}</td></tr>",
            escape(&one.stage),
            escape(&crate::text::cut(&one.text, 90)),
            plots::bar(one.hits.exact(), &format!("{} of {}", one.hits.hits, one.hits.of)),
            amount(one.lost_seconds),
            why.join(", "),
        );
    }
    to.push_str("</tbody></table></div>\n");
    to
}

fn files(report: &Report) -> String {
    if report.files.is_empty() {
        return "<p>None.</p>\n".to_owned();
    }
    let most = report.files.iter().map(|file| file.lost_seconds).fold(1.0, f64::max);
    let mut to = String::from(
        "<div class=\"scroll\"><table><thead><tr><th>File</th><th class=\"n\">Broke</th>\
         <th class=\"n\">Alone</th><th>Time lost</th><th>Ignore line</th></tr></thead><tbody>\n",
    );
    for file in report.files.iter().take(25) {
        let line = file.ignore_line.as_deref().map(|line| format!("<code>{}</code>", escape(line)));
        let _ = writeln!(
            to,
            "<tr><td><code>{}</code></td><td class=\"n\">{}</td><td class=\"n\">{}</td>\
             <td>{}</td><td>{}</td></tr>",
            escape(&file.path),
            file.broke,
            file.alone,
            plots::bar_of(file.lost_seconds / most, &amount(file.lost_seconds)),
            line.unwrap_or_default(),
        );
    }
    let _ = write!(
        to,
        "</tbody></table></div>\n<p class=\"aside\">{} files in all broke something. \
         A file's time is its share of what was lost in builds that it broke with others.</p>\n",
        report.files_total
    );
    to
}

fn what_if_rows<'a>(rows: impl Iterator<Item = &'a crate::report::WhatIfReport>) -> String {
    let mut to = String::from(
        "<div class=\"scroll\"><table><thead><tr><th>Change</th><th class=\"n\">Steps</th>\
         <th class=\"n\">Time</th><th class=\"n\">No RUN</th><th class=\"n\">Saves a build</th>\
         </tr></thead><tbody>\n",
    );
    for one in rows {
        let pair = |at: usize| format!("{:.1} → {:.1} %", one.without[at], one.with[at]);
        let _ = writeln!(
            to,
            "<tr><td>{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td>\
             <td class=\"n\">{:.0} s</td></tr>",
            escape(&one.what),
            pair(0),
            pair(1),
            pair(2),
            one.saved_seconds_per_build,
        );
    }
    to.push_str("</tbody></table></div>\n");
    to
}

fn what_ifs(report: &Report) -> String {
    what_if_rows(report.what_ifs.iter())
}

fn advised(advice: &crate::advise::Advice) -> String {
    if advice.changes.is_empty() {
        return "<p>Nothing that was tried brings anything.</p>\n".to_owned();
    }
    let mut to = what_if_rows(advice.changes.iter().chain(&advice.together));
    for caution in &advice.cautions {
        let _ = writeln!(to, "<p class=\"note\">{}</p>", escape(caution));
    }
    let _ = writeln!(to, "<pre>{}</pre>", escape(&advice.patch));
    to
}

fn policies(report: &Report) -> String {
    let mut to = plots::policies(report);
    to.push_str(
        "<div class=\"scroll\"><table><thead><tr><th class=\"n\">Capacity</th><th>Policy</th>\
         <th class=\"n\">Steps</th><th class=\"n\">Time</th><th class=\"n\">Regret, steps</th>\
         <th class=\"n\">Regret, time</th></tr></thead><tbody>\n",
    );
    for one in &report.policies {
        let _ = writeln!(
            to,
            "<tr><td class=\"n\">{} %</td><td>{}</td><td class=\"n\">{:.1} %</td>\
             <td class=\"n\">{:.1} %</td><td class=\"n\">{:.1}</td><td class=\"n\">{:.1}</td></tr>",
            one.capacity_percent,
            escape(&one.policy),
            one.steps.exact(),
            one.time.exact(),
            one.regret_steps,
            one.regret_time,
        );
    }
    to.push_str("</tbody></table></div>\n");
    to
}

fn commits(report: &Report) -> String {
    let mut to = String::from(
        "<div class=\"scroll\"><table><thead><tr><th>Commit</th><th>Hits</th>\
         <th class=\"n\">Lost</th><th>First miss</th></tr></thead><tbody>\n",
    );
    for one in report.commits.iter().rev().take(200) {
        let miss = match &one.first_miss {
            None => "none".to_owned(),
            Some(miss) => {
                let paths: Vec<String> = miss
                    .witness
                    .iter()
                    .take(3)
                    .map(|path| format!("<code>{}</code>", escape(path.trim())))
                    .collect();
                let more = miss.witness_total.saturating_sub(paths.len());
                let more = if more > 0 { format!(" and {more} more") } else { String::new() };
                let why = if paths.is_empty() { escape(&miss.cause) } else { paths.join(", ") };
                format!(
                    "{why}{more} in <code>{}</code>",
                    escape(&crate::text::cut(&miss.instruction, 50))
                )
            }
        };
        let short = one.commit.get(..10).unwrap_or(&one.commit);
        let _ = writeln!(
            to,
            "<tr><td><code>{}</code></td><td>{}</td><td class=\"n\">{}</td><td>{miss}</td></tr>",
            escape(short),
            plots::bar(one.hits.exact(), &format!("{} of {}", one.hits.hits, one.hits.of)),
            amount(one.lost_seconds),
        );
    }
    to.push_str("</tbody></table></div>\n");
    if report.commits.len() > 200 {
        let more = report.commits.len() - 200;
        let _ = writeln!(to, "<p class=\"aside\">and {more} more, in the JSON report</p>");
    }
    to
}

fn model(report: &Report) -> String {
    let model = &report.model;
    let classes: Vec<String> = model
        .class_millis
        .iter()
        .map(|(name, millis)| format!("{} {} s", escape(name), crate::report::seconds(*millis)))
        .collect();
    format!(
        "<p>Nothing was run. Time: {}; by class: {}. Outputs: {}. Cache: {}. \
         Base images: {}.</p>\n",
        escape(&model.time),
        classes.join(", "),
        escape(&model.outputs),
        escape(&model.cache),
        escape(&model.base_images),
    )
}

fn executed(execution: &Execution) -> String {
    let mut to = String::from(
        "<div class=\"scroll\"><table><thead><tr><th>Commit</th><th class=\"n\">Predicted hits</th>\
         <th class=\"n\">Hits</th><th class=\"n\">Time</th><th class=\"n\">Peer's hits</th>\
         <th class=\"n\">Peer's time</th></tr></thead><tbody>\n",
    );
    for one in &execution.builds {
        let cells = |measured: Option<&Measured>| match measured {
            None => "<td></td><td></td>".to_owned(),
            Some(m) => format!(
                "<td class=\"n\">{}</td><td class=\"n\">{:.2} s</td>",
                if m.built { format!("{} of {}", m.hits, m.steps) } else { "failed".to_owned() },
                crate::report::seconds(m.millis)
            ),
        };
        let _ = writeln!(
            to,
            "<tr><td><code>{}</code></td><td class=\"n\">{}</td>{}{}</tr>",
            escape(one.commit.get(..10).unwrap_or(&one.commit)),
            one.predicted_hits,
            cells(Some(&one.strata)),
            cells(one.peer.as_ref()),
        );
    }
    let _ = write!(
        to,
        "</tbody></table></div>\n<p>{} audited hits gave the same, {} did not.</p>\n",
        execution.audited,
        execution.differing.len()
    );
    to
}
