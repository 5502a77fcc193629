//! `strata check`, and `strata build --check`: what a Dockerfile hardly means. Nothing is built.
//! The findings are data, so they go to stdout; the exit code is docker's: 1 if there are any.

use std::io::IsTerminal;

use clap::ValueEnum;
use serde_json::{Value, json};
use strata_dockerfile::{Diagnostic, Origin, Rule, Span, SyntaxTree};

use super::call::{Form, Question};
use super::{fmt, sarif};
use crate::arguments::{BuildArguments, CheckArguments, CheckFormat};
use crate::environment::Environment;
use crate::failure::{EXIT_BUILD, Failure};
use crate::printer::Printer;
use crate::request::{self, Checked};
use crate::session::Opening;
use crate::words::amount::counted;

pub(super) fn run(
    arguments: &CheckArguments,
    opening: &Opening<'_>,
    environment: &Environment,
    printer: &Printer,
) -> Result<u8, Failure> {
    let mut checked = request::check(arguments, environment, opening)?;
    if arguments.fix {
        checked = mended(arguments, opening, environment, checked, printer)?;
    }
    let findings = &checked.report.findings;
    match arguments.format {
        CheckFormat::Text => text(&checked, printer),
        CheckFormat::Json => printer.data(&format!("{:#}", json(&checked))),
        CheckFormat::Sarif => printer.data(&format!("{:#}", sarif::log(&checked))),
    }
    let fails = |finding: &Diagnostic| finding.is_error() || !arguments.ignore_status;
    Ok(if findings.iter().any(fails) { EXIT_BUILD } else { 0 })
}

/// How often what was mended is looked at again: one fix can make room for the next.
const ROUNDS: usize = 8;

/// Mends the Dockerfile, and says what is left to say about it.
fn mended(
    arguments: &CheckArguments,
    opening: &Opening<'_>,
    environment: &Environment,
    mut checked: Checked,
    printer: &Printer,
) -> Result<Checked, Failure> {
    let Some(path) = checked.dockerfile.path.clone() else {
        return Err(Failure::usage("`--fix` can not write to standard input")
            .hint("name the Dockerfile with `-f`"));
    };
    let mut mended = 0;
    for _ in 0..ROUNDS {
        let source = &checked.dockerfile.bytes;
        let (fixed, count) = strata_dockerfile::fixed(source, &checked.report.findings);
        if count == 0 {
            break;
        }
        fmt::replace(&path, &fixed)?;
        mended += count;
        checked = request::check(arguments, environment, opening)?;
    }
    printer.talk(&format!("{} mended", counted(mended, "finding")));
    Ok(checked)
}

/// What a build's `--check` or `--call` asks for instead of a build.
pub(super) enum Asked {
    Check(CheckArguments),
    Call(Question, Form, CheckArguments),
}

/// What `--check` and `--call` of a build ask for, if that is not the build.
pub(super) fn asked(build: &BuildArguments) -> Result<Option<Asked>, Failure> {
    let call = build.call.as_deref().unwrap_or(if build.check { "check" } else { "build" });
    let mut parts = call.split(',');
    let question = match parts.next().unwrap_or_default() {
        "check" | "lint" => None,
        "build" if !build.check => return Ok(None),
        "outline" => Some(Question::Outline),
        "targets" => Some(Question::Targets),
        other => {
            return Err(request::unknown("call", other, &["build", "check", "outline", "targets"]));
        }
    };
    let selection = &build.selection;
    let mut check = CheckArguments {
        context: selection.context.clone(),
        file: selection.file.clone(),
        build_args: selection.build_args.clone(),
        target: selection.target.clone(),
        platform: selection.platform.clone(),
        format: CheckFormat::Text,
        ignore_status: false,
        fix: false,
    };
    for part in parts {
        match part.split_once('=').unwrap_or((part, "true")) {
            ("format", format) => {
                let known = ["text", "json", "sarif"];
                check.format = CheckFormat::from_str(format, false)
                    .map_err(|_| request::unknown("format", format, &known))?;
            }
            ("ignorestatus", value) => check.ignore_status = value == "true" || value == "1",
            (other, _) => {
                return Err(request::unknown("call option", other, &["format", "ignorestatus"]));
            }
        }
    }
    Ok(Some(match (question, check.format) {
        (None, _) => Asked::Check(check),
        (Some(question), CheckFormat::Text) => Asked::Call(question, Form::Text, check),
        (Some(question), CheckFormat::Json) => Asked::Call(question, Form::Json, check),
        (Some(_), CheckFormat::Sarif) => {
            return Err(request::unknown("format", "sarif", &["text", "json"]));
        }
    }))
}

fn text(checked: &Checked, printer: &Printer) {
    let colors = printer.colors() && std::io::stdout().is_terminal();
    let findings = &checked.report.findings;
    for finding in findings {
        printer.data(&format!("{}\n", draw(checked, finding, colors)));
    }
    let errors = findings.iter().filter(|finding| finding.is_error()).count();
    let warnings = counted(findings.len() - errors, "warning");
    printer.talk(&match errors {
        0 if findings.is_empty() => "no warnings".to_owned(),
        0 => warnings,
        errors => format!("{}, {warnings}", counted(errors, "error")),
    });
}

fn draw(checked: &Checked, finding: &Diagnostic, colors: bool) -> String {
    if finding.span != Span::default() {
        return crate::draw::with_code(&checked.dockerfile, finding, colors);
    }
    let level = if finding.is_error() { "error" } else { "warning" };
    let mut text = format!("{level}[{}]: {}", finding.code, finding.message);
    text.extend(finding.hint.iter().map(|hint| format!("\nhint: {hint}")));
    text
}

/// Docker's fields, and `errors` for all of what it has only the first of.
fn json(checked: &Checked) -> Value {
    let tree = &checked.parse.tree;
    let findings = &checked.report.findings;
    let warning = |finding: &Diagnostic| {
        json!({
            "ruleName": finding.code,
            "description": description(finding),
            "url": url(finding.code),
            "detail": finding.message,
            "hint": finding.hint,
            "location": location(tree, finding),
        })
    };
    let error = |finding: &Diagnostic| {
        json!({
            "code": finding.code,
            "message": finding.message,
            "hint": finding.hint,
            "location": location(tree, finding),
        })
    };
    let (errors, warnings): (Vec<_>, Vec<_>) =
        findings.iter().partition(|finding| finding.is_error());
    let errors: Vec<Value> = errors.into_iter().map(error).collect();
    let warnings: Vec<Value> = warnings.into_iter().map(warning).collect();
    json!({ "warnings": warnings, "buildError": errors.first(), "errors": errors })
}

/// `ranges` are the lines that Docker gives: those of the whole instruction, one by one, and the
/// last one for a line that should not be in it. `place` says exactly where.
fn location(tree: &SyntaxTree, finding: &Diagnostic) -> Value {
    let span = finding.span;
    let place = |offset: usize| {
        let position = tree.position(offset);
        json!({ "line": position.line, "column": position.column })
    };
    let at = |offset: usize| tree.position(offset).line;
    let around = tree.instructions().iter().map(|each| each.span);
    let around = around.into_iter().find(|each| each.range().contains(&span.start));
    let Span { start, end } = around.unwrap_or(span);
    let (first, last) = (at(start), at(end.max(start + 1) - 1));
    let first = if finding.code == "NoEmptyContinuation" { last } else { first };
    let line = |line: usize| json!({ "start": { "line": line }, "end": { "line": line } });
    let ranges: Vec<Value> = (first..=last).map(line).collect();
    let exact = json!({ "start": place(span.start), "end": place(span.end) });
    json!({ "ranges": ranges, "place": exact })
}

/// What a finding's rule asks for; the parser's findings speak for themselves.
pub(super) fn description(finding: &Diagnostic) -> &str {
    Rule::find(finding.code).map_or(&finding.message, |rule| rule.summary)
}

/// The page about a rule: Docker's for those that it knows, too.
pub(super) fn url(code: &str) -> Option<String> {
    let rule = Rule::find(code)?;
    Some(match rule.origin {
        Origin::BuildKit => {
            format!("https://docs.docker.com/go/dockerfile/rule/{}/", kebab(rule.name))
        }
        Origin::Strata => {
            let repository = env!("CARGO_PKG_REPOSITORY");
            format!("{repository}/blob/main/docs/checks/{}.md", rule.name)
        }
    })
}

/// `JSONArgsRecommended` → `json-args-recommended`.
fn kebab(name: &str) -> String {
    let letters: Vec<char> = name.chars().collect();
    let mut kebab = String::new();
    for (at, letter) in letters.iter().enumerate() {
        let after_lower = at > 0 && letters[at - 1].is_ascii_lowercase();
        let before_lower = letters.get(at + 1).is_some_and(char::is_ascii_lowercase);
        if at > 0 && letter.is_ascii_uppercase() && (after_lower || before_lower) {
            kebab.push('-');
        }
        kebab.push(letter.to_ascii_lowercase());
    }
    kebab
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dockers_pages() {
        let check = |name: &str, expected: &str| assert_eq!(kebab(name), expected);
        check("JSONArgsRecommended", "json-args-recommended");
        check("SecretsUsedInArgOrEnv", "secrets-used-in-arg-or-env");
        check("UndefinedVar", "undefined-var");
    }
}
