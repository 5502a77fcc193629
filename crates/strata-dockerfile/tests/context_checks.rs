//! The checks of what a context ships, drawn under the source that takes it along.

use std::collections::BTreeMap;

use strata_dockerfile::{CheckRequest, Shipped, ShippedKind, check, parse};

/// A context with a repository, dependencies and secrets in it.
fn shipped(source: &str) -> Vec<Shipped> {
    let all = [
        (".git", ShippedKind::Repository),
        ("web/node_modules", ShippedKind::Dependencies),
        (".env", ShippedKind::Secret),
        ("a/id_rsa", ShippedKind::Secret),
        ("b/id_rsa", ShippedKind::Secret),
    ];
    let all = all.map(|(path, what)| Shipped { path: path.to_owned(), what });
    match source {
        "." => all.to_vec(),
        "web" => all[1..2].to_vec(),
        "a" => all[3..4].to_vec(),
        _ => Vec::new(),
    }
}

#[track_caller]
fn finds(source: &str, expected: &[[&str; 4]]) {
    let arguments = BTreeMap::new();
    let request = CheckRequest { shipped: &shipped, ..CheckRequest::new(&arguments) };
    let parse = parse(source.as_bytes());
    let mut found = Vec::new();
    for finding in check(&parse, &request).findings {
        let line = parse.tree.line_of(finding.span.start);
        let text = source.lines().nth(line - 1).unwrap_or_default();
        let column = parse.tree.position(finding.span.start).column - 1;
        let carets = " ".repeat(column) + &"^".repeat(finding.span.len());
        let hint = finding.hint.unwrap_or_default();
        found.push(format!("{text}\n{carets}\n{}: {}\n{hint}", finding.code, finding.message));
    }
    let expected: Vec<String> = expected.iter().map(|lines| lines.join("\n")).collect();
    assert_eq!(found, expected);
}

#[test]
fn what_a_source_takes_along_is_told_once() {
    finds(
        "FROM a\nARG D=web\nCOPY $D /web/\nADD src . /src/\nCOPY . /again/\n",
        &[
            [
                "COPY $D /web/",
                "     ^^",
                "dependencies-in-context: `$D` takes `web/node_modules` along: dependencies that \
                 were installed for another machine",
                "write `**/node_modules` into `.dockerignore`, and install in the image",
            ],
            [
                "ADD src . /src/",
                "        ^",
                "git-in-context: `.` takes `.git` along: every commit changes the step and those \
                 below it",
                "write `**/.git` into `.dockerignore`",
            ],
            [
                "ADD src . /src/",
                "        ^",
                "secret-in-context: `.` takes `.env` and 2 more along: they look like secrets, \
                 and stay in the layer",
                "write `.env` into `.dockerignore`, and give it to the step that needs it with \
                 `RUN --mount=type=secret`",
            ],
        ],
    );
}

#[test]
fn one_secret() {
    finds(
        "FROM a\nCOPY a /a/\n",
        &[[
            "COPY a /a/",
            "     ^",
            "secret-in-context: `a` takes `a/id_rsa` along: it looks like a secret, and stays in \
             the layer",
            "write `a/id_rsa` into `.dockerignore`, and give it to the step that needs it with \
             `RUN --mount=type=secret`",
        ]],
    );
}

#[test]
fn what_takes_nothing_along() {
    finds("FROM a AS b\nFROM a\nCOPY --from=b . /\nADD http://a/. /\nCOPY src /\n", &[]);
    finds("FROM a AS b\nCOPY src /\n# check=skip=all\nCOPY . /\n", &[]);
}
