//! `strata build --call=outline` and `--call=targets`: what can be built, and what that takes, in
//! Docker's words and columns.

use base64::Engine as _;
use serde_json::{Map, Value, json};
use strata_dockerfile::{Outline, OutlineMount, Parse, Span, SyntaxTree, Target};

use crate::arguments::CheckArguments;
use crate::environment::Environment;
use crate::failure::Failure;
use crate::request;
use crate::session::Opening;

/// What is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Question {
    Outline,
    Targets,
}

/// How the answer is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    Text,
    Json,
}

pub(super) fn run(
    question: Question,
    form: Form,
    arguments: &CheckArguments,
    opening: &Opening<'_>,
    environment: &Environment,
) -> Result<u8, Failure> {
    let printer = opening.printer();
    let asked = request::outline(arguments, environment, opening)?;
    let tree = &asked.parse.tree;
    match (question, form) {
        (Question::Targets, form) => {
            let targets = strata_dockerfile::targets(tree);
            match form {
                Form::Text => printer.bytes(targets_text(&targets).as_bytes()),
                Form::Json => printer.data(&format!("{:#}", targets_json(&targets, &asked.parse))),
            }
        }
        (Question::Outline, form) => {
            let outline = asked.outline;
            match form {
                Form::Text => printer.bytes(outline_text(&outline).as_bytes()),
                Form::Json => printer.data(&format!("{:#}", outline_json(&outline, &asked.parse))),
            }
        }
    }
    Ok(0)
}

fn targets_text(targets: &[Target]) -> String {
    let mut rows = vec![row(["TARGET", "DESCRIPTION"])];
    for target in targets {
        let name = target.name.clone().unwrap_or_default();
        let name = match (target.is_default, name.is_empty()) {
            (false, _) => name,
            (true, true) => "(default)".to_owned(),
            (true, false) => format!("{name} (default)"),
        };
        rows.push(row([&name, target.description.as_deref().unwrap_or_default()]));
    }
    // Docker puts one blank between these.
    columns(&rows, 1)
}

fn outline_text(outline: &Outline) -> String {
    let mut parts = Vec::new();
    let name = outline.name.as_deref();
    if name.is_some() || outline.description.is_some() {
        let mut rows = vec![row(["TARGET:", name.unwrap_or("(default)")])];
        rows.extend(outline.description.as_deref().map(|text| row(["DESCRIPTION:", text])));
        parts.push(columns(&rows, 1));
    }
    if !outline.arguments.is_empty() {
        let mut rows = vec![row(["BUILD ARG", "VALUE", "DESCRIPTION"])];
        rows.extend(outline.arguments.iter().map(|argument| {
            let value = argument.value.as_deref().unwrap_or_default();
            row([&argument.name, value, argument.description.as_deref().unwrap_or_default()])
        }));
        parts.push(columns(&rows, 3));
    }
    for (title, mounts) in [("SECRET", &outline.secrets), ("SSH", &outline.agents)] {
        if !mounts.is_empty() {
            let mut rows = vec![row([title, "REQUIRED"])];
            let required = |mount: &OutlineMount| if mount.required { "true" } else { "" };
            rows.extend(mounts.iter().map(|mount| row([&mount.id, required(mount)])));
            parts.push(columns(&rows, 3));
        }
    }
    parts.iter().map(|part| format!("{part}\n")).collect()
}

fn row<const N: usize>(cells: [&str; N]) -> Vec<String> {
    cells.map(str::to_owned).to_vec()
}

/// Go's `tabwriter`: all cells but a row's last are padded, also where nothing follows.
fn columns(rows: &[Vec<String>], gap: usize) -> String {
    let count = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0) + gap
    };
    let widths: Vec<usize> = (0..count).map(width).collect();
    let line = |row: &Vec<String>| {
        let Some((last, cells)) = row.split_last() else { return "\n".to_owned() };
        let cells = cells.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        format!("{}{last}\n", cells.collect::<String>())
    };
    rows.iter().map(line).collect()
}

fn targets_json(targets: &[Target], parse: &Parse) -> Value {
    let target = |target: &Target| {
        let mut fields = Map::new();
        put(&mut fields, "name", target.name.as_deref());
        if target.is_default {
            fields.insert("default".to_owned(), true.into());
        }
        put(&mut fields, "description", target.description.as_deref());
        put(&mut fields, "base", Some(&target.base));
        put(&mut fields, "platform", target.platform.as_deref());
        fields.insert("location".to_owned(), location(&parse.tree, target.span));
        Value::Object(fields)
    };
    let targets: Vec<Value> = targets.iter().map(target).collect();
    json!({ "targets": targets, "sources": sources(&parse.tree) })
}

fn outline_json(outline: &Outline, parse: &Parse) -> Value {
    let mut fields = Map::new();
    put(&mut fields, "name", outline.name.as_deref());
    put(&mut fields, "description", outline.description.as_deref());
    let arguments = outline.arguments.iter().map(|argument| {
        let mut fields = Map::new();
        put(&mut fields, "name", Some(&argument.name));
        put(&mut fields, "description", argument.description.as_deref());
        put(&mut fields, "value", argument.value.as_deref());
        fields.insert("location".to_owned(), location(&parse.tree, argument.span));
        Value::Object(fields)
    });
    let mounts = |mounts: &[OutlineMount]| -> Vec<Value> {
        let mount = |mount: &OutlineMount| {
            let mut fields = Map::new();
            put(&mut fields, "name", Some(&mount.id));
            if mount.required {
                fields.insert("required".to_owned(), true.into());
            }
            fields.insert("location".to_owned(), location(&parse.tree, mount.span));
            Value::Object(fields)
        };
        mounts.iter().map(mount).collect()
    };
    let lists = [
        ("args", arguments.collect()),
        ("secrets", mounts(&outline.secrets)),
        ("ssh", mounts(&outline.agents)),
    ];
    for (name, list) in lists {
        if !list.is_empty() {
            fields.insert(name.to_owned(), list.into());
        }
    }
    fields.insert("sources".to_owned(), sources(&parse.tree));
    Value::Object(fields)
}

/// Docker leaves empty fields out.
fn put(fields: &mut Map<String, Value>, name: &str, value: Option<&str>) {
    if let Some(value) = value.filter(|value| !value.is_empty()) {
        fields.insert(name.to_owned(), value.into());
    }
}

fn sources(tree: &SyntaxTree) -> Value {
    json!([base64::engine::general_purpose::STANDARD.encode(tree.source())])
}

fn location(tree: &SyntaxTree, span: Span) -> Value {
    let (first, last) = (tree.line_of(span.start), tree.line_of(span.end.max(span.start + 1) - 1));
    json!({ "ranges": [{ "start": { "line": first }, "end": { "line": last } }] })
}
