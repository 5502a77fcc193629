//! Every diagnostic, drawn under the source line it is about.

use strata_dockerfile::{Diagnostic, Severity, Span, parse};

/// Draws the source with carets under what is wrong; this is what `check` compares.
fn draw(source: &str) -> String {
    let parse = parse(source.as_bytes());
    let mut drawn = String::new();
    for line in parse.tree.lines() {
        drawn.push_str(source[line.span.range()].trim_end_matches(['\r', '\n']));
        drawn.push('\n');
        let here = |each: &&Diagnostic| {
            let (at, span) = (each.span.start, line.span);
            span.start <= at && (at < span.end || at == source.len() && span.end == at)
        };
        for diagnostic in parse.diagnostics.iter().filter(here) {
            drawn.push_str(&draw_one(diagnostic, line.span, source));
        }
    }
    drawn
}

fn draw_one(diagnostic: &Diagnostic, line: Span, source: &str) -> String {
    let text = source[line.range()].trim_end_matches(['\r', '\n']);
    let end = diagnostic.span.end.min(line.start + text.len());
    let indent = " ".repeat(diagnostic.span.start - line.start);
    let carets = "^".repeat(end.saturating_sub(diagnostic.span.start).max(1));
    let severity = match diagnostic.severity {
        Severity::Warning => "warning",
        Severity::Error => "error",
    };
    let mut drawn = format!("{indent}{carets}");
    if let Some(label) = &diagnostic.label {
        drawn.push_str(&format!(" {label}"));
    }
    drawn.push_str(&format!("\n{severity}[{}]: {}\n", diagnostic.code, diagnostic.message));
    if let Some(hint) = &diagnostic.hint {
        drawn.push_str(&format!("hint: {hint}\n"));
    }
    drawn
}

#[track_caller]
fn check(source: &str, expected: &str) {
    assert_eq!(draw(source), expected.trim_start_matches('\n'));
}

/// Checks the one line after a `FROM`.
#[track_caller]
fn check_line(line: &str, expected: &str) {
    let drawn = draw(&format!("FROM scratch\n{line}"));
    let drawn = drawn.strip_prefix("FROM scratch\n").unwrap_or(&drawn);
    assert_eq!(drawn, expected.trim_start_matches('\n'));
}

#[test]
fn nothing_is_wrong_with_a_good_file() {
    let source = "# syntax=docker/dockerfile:1\nARG V=1\nFROM a:$V AS b\nRUN x \\\n # c\n  && y\n";
    assert_eq!(parse(source.as_bytes()).diagnostics, []);
}

#[test]
fn comment_after_from() {
    check(
        "FROM node:18-alpine   //base image\n",
        "
FROM node:18-alpine   //base image
                      ^^^^^^^^^^^^ not a comment
error[too-many-arguments]: `FROM` requires either one or three arguments
hint: a comment is a `#` at the start of its own line; move `//base image` to a line above
",
    );
    check(
        "FROM node AS build # the build",
        "
FROM node AS build # the build
                   ^^^^^^^^^^^ not a comment
error[too-many-arguments]: `FROM` requires either one or three arguments
hint: a comment is a `#` at the start of its own line; move `# the build` to a line above
",
    );
}

#[test]
fn from_with_the_wrong_number_of_words() {
    check(
        "FROM\nFROM a b\nFROM a AS\nFROM a SA b\nFROM a AS b c",
        "
FROM
^^^^
error[missing-argument]: `FROM` requires an image
hint: write `FROM <image>`
FROM a b
       ^ unexpected
error[too-many-arguments]: `FROM` requires either one or three arguments
hint: to name the stage, write `FROM a AS b`
FROM a AS
       ^^ a name is missing
error[too-many-arguments]: `FROM` requires either one or three arguments
hint: write `FROM a AS <name>`
FROM a SA b
       ^^^^ not `AS`
error[too-many-arguments]: `FROM` requires either one or three arguments
hint: write `FROM a AS b`
FROM a AS b c
            ^ unexpected
error[too-many-arguments]: `FROM` requires either one or three arguments
hint: write `FROM <image>` or `FROM <image> AS <name>`
",
    );
}

#[test]
fn stage_names() {
    check(
        "FROM a AS 1st",
        "
FROM a AS 1st
          ^^^
error[invalid-stage-name]: invalid name for build stage: `1st`
hint: a name starts with a letter and has only letters, digits, `-`, `_` and `.`
",
    );
}

#[test]
fn unknown_instructions() {
    check_line(
        "RUNN x",
        "
RUNN x
^^^^
error[unknown-instruction]: unknown instruction: `RUNN`
hint: did you mean `RUN`?
",
    );
    check_line(
        "// a comment",
        "
// a comment
^^
error[unknown-instruction]: unknown instruction: `//`
hint: a comment is a `#` at the start of its own line
",
    );
    check_line(
        "RUN a\n  && b",
        "
RUN a
  && b
  ^^
error[unknown-instruction]: unknown instruction: `&&`
hint: does the line above lack a `\\` at its end?
",
    );
}

#[test]
fn files_without_stages() {
    check(
        "RUN x\nFROM a",
        "
RUN x
^^^
error[no-build-stage]: no build stage in current context: `RUN` is not in one
hint: a stage begins with `FROM <image>`; only `ARG` may come before the first one
FROM a
",
    );
    check(
        "ARG A",
        "
ARG A
^^^^^
error[no-build-stage]: dockerfile contains no stages to build
hint: a stage begins with `FROM <image>`
",
    );
    check(
        "# nothing",
        "
# nothing
^
error[no-instructions]: file with no instructions
hint: begin with `FROM <image>`
",
    );
    assert_eq!(parse(b"").diagnostics[0].code, "no-instructions");
}

#[test]
fn directives() {
    check(
        "# escape=`\n# escape=`\n# check=skip=all\n# escape=x\nFROM a",
        "
# escape=`
# escape=`
^^^^^^^^^^
error[duplicate-directive]: only one `escape` directive can be used
# check=skip=all
# escape=x
^^^^^^^^^^
error[duplicate-directive]: only one `escape` directive can be used
         ^
error[invalid-escape]: `x` cannot be the escape character
hint: only a backslash and a backquote can
FROM a
",
    );
}

#[test]
fn flags() {
    check_line(
        "COPY --chwon=1 --link=maybe --chmod a b",
        "
COPY --chwon=1 --link=maybe --chmod a b
     ^^^^^^^^^
error[unknown-flag]: unknown flag `--chwon` for `COPY`
hint: did you mean `--chown`?
               ^^^^^^^^^^^^
error[invalid-flag-value]: flag `--link` must be `true` or `false`, not `maybe`
                            ^^^^^^^
error[missing-flag-value]: flag `--chmod` needs a value
hint: write `--chmod=<value>`, with an equals sign and no space
",
    );
    check_line(
        "COPY --from=a --from=b c d",
        "
COPY --from=a --from=b c d
              ^^^^^^^^
error[duplicate-flag]: flag `--from` is given twice
",
    );
    check_line(
        "CMD --help",
        "
CMD --help
    ^^^^^^
error[unknown-flag]: unknown flag `--help` for `CMD`
hint: `CMD` has no flags
",
    );
    check_line(
        "RUN --network=hsot --security=insecure x",
        "
RUN --network=hsot --security=insecure x
              ^^^^
error[invalid-flag-value]: flag `--network` must be one of `default`, `none`, `host`, not `hsot`
hint: did you mean `host`?
",
    );
    check_line(
        "ARG --x A",
        "
ARG --x A
    ^^^
warning[ignored-flag]: `ARG` has no use for `--x`
",
    );
}

#[test]
fn mounts() {
    check_line(
        "RUN --mount=type=cache,targt=/c \\\n  --mount=type=cahce,target=/c x",
        "
RUN --mount=type=cache,targt=/c \\
                       ^^^^^^^^
error[unknown-mount-option]: unknown mount option `targt`
hint: did you mean `target`?
  --mount=type=cahce,target=/c x
          ^^^^^^^^^^
error[invalid-mount]: mount option `type` must be one of `bind`, `cache`, `tmpfs`, `secret`, \
`ssh`, not `cahce`
hint: did you mean `cache`?
",
    );
    check_line(
        "RUN --mount=from=$BASE,target=/a x",
        "
RUN --mount=from=$BASE,target=/a x
                 ^^^^^
error[invalid-mount]: variables are not expanded in `from`
hint: write a stage `FROM <image with the variable> AS <name>` and use its name
",
    );
}

#[test]
fn missing_arguments() {
    let cases = [
        ("COPY a", "`COPY` requires at least two arguments: source and destination"),
        ("ADD", "`ADD` requires at least two arguments: source and destination"),
        ("ENV", "`ENV` requires at least one argument"),
        ("LABEL", "`LABEL` requires at least one argument"),
        ("ARG", "`ARG` requires at least one argument"),
        ("EXPOSE", "`EXPOSE` requires at least one argument"),
        ("VOLUME", "`VOLUME` requires at least one argument"),
        ("VOLUME []", "`VOLUME` requires at least one argument"),
        ("USER", "`USER` requires exactly one argument"),
        ("WORKDIR", "`WORKDIR` requires exactly one argument"),
        ("STOPSIGNAL", "`STOPSIGNAL` requires exactly one argument"),
        ("MAINTAINER", "`MAINTAINER` requires exactly one argument"),
        ("ONBUILD", "`ONBUILD` requires at least one argument"),
        ("HEALTHCHECK", "`HEALTHCHECK` requires `CMD` or `NONE`"),
        ("HEALTHCHECK CMD", "`HEALTHCHECK` requires a command after `CMD`"),
        ("HEALTHCHECK CMD []", "`HEALTHCHECK` requires a command after `CMD`"),
        ("SHELL", "`SHELL` requires at least one argument"),
        ("SHELL []", "`SHELL` requires at least one argument"),
    ];
    for (line, expected) in cases {
        let diagnostics = parse(format!("FROM a\n{line}").as_bytes()).diagnostics;
        let found: Vec<_> = diagnostics.iter().map(|each| (each.code, &*each.message)).collect();
        assert_eq!(found, [("missing-argument", expected)], "{line}");
    }
}

#[test]
fn pairs() {
    check_line(
        "ENV A=1 # one",
        "
ENV A=1 # one
        ^^^^^ not a comment
warning[comment-in-arguments]: this is part of the arguments of `ENV`
hint: a comment is a `#` at the start of its own line
        ^
error[missing-equals]: cannot find `=` in `#`
hint: a comment is a `#` at the start of its own line
",
    );
    check_line(
        "ENV A=a b",
        "
ENV A=a b
        ^
error[missing-equals]: cannot find `=` in `b`
hint: write `name=value`, with double quotes around values with spaces
",
    );
    check_line(
        "LABEL =x",
        "
LABEL =x
      ^^
error[blank-name]: `LABEL` names cannot be blank
hint: write no space around the `=`
",
    );
    check_line(
        "ARG a =b",
        "
ARG a =b
      ^^
error[blank-name]: `ARG` names cannot be blank
hint: write no space around the `=`
",
    );
}

#[test]
fn names_without_values() {
    check_line(
        "ENV A",
        "
ENV A
    ^
error[missing-value]: `ENV` requires a name and a value
hint: write `ENV <name>=<value>`
",
    );
}

#[test]
fn spaces_around_equals() {
    check_line(
        "ENV A = b",
        "
ENV A = b
      ^^^
warning[equals-in-value]: the value is `= b`, with the equals sign
hint: write no space around the `=`
",
    );
}

#[test]
fn several_sources_and_no_directory() {
    check_line(
        "COPY a b* /c",
        "
COPY a b* /c
          ^^
warning[several-sources-one-name]: of several sources only the last is left here, unless it is a \
directory
hint: end it with a slash: `/c/`
",
    );
    check_line("COPY a b /c/", "COPY a b /c/\n");
    check_line("COPY a b $C", "COPY a b $C\n");
    check_line("COPY a b ..", "COPY a b ..\n");
}

#[test]
fn shell_comments_that_swallow_lines() {
    check_line(
        "RUN a && \\\n  b # then c \\\n  && c",
        "
RUN a && \\
  b # then c \\
    ^
warning[comment-swallows-lines]: for the shell everything from here is a comment, \
also the lines below
hint: a comment is a `#` at the start of its own line
  && c
",
    );
    for line in ["RUN a \\\n  b # c", "RUN a '#' \\\n \"# x\" $# x#y \\# \\\n  b"] {
        check_line(line, &format!("{line}\n"));
    }
}

#[test]
fn comments_that_are_none() {
    check_line(
        "WORKDIR /app # here",
        "
WORKDIR /app # here
             ^^^^^^ not a comment
warning[comment-in-arguments]: this is part of the arguments of `WORKDIR`
hint: a comment is a `#` at the start of its own line
",
    );
    check_line(
        "CMD [\"a\"] # default",
        "
CMD [\"a\"] # default
    ^^^^^^^^^^^^^^^
warning[not-json]: this looks like a JSON array but is none, so it is taken as plain text
hint: a comment is a `#` at the start of its own line
",
    );
    for line in ["RUN a # b", "ENV A=\"x # y\"", "COPY a //b", "RUN [ \"$a\" = b ]", "CMD a # b"] {
        check_line(line, &format!("{line}\n"));
    }
}

#[test]
fn json() {
    check_line(
        "CMD ['a', 'b']",
        "
CMD ['a', 'b']
    ^^^^^^^^^^
warning[not-json]: this looks like a JSON array but is none, so it is taken as plain text
hint: JSON strings are in double quotes
",
    );
    check_line(
        "CMD [\"a\", 1]",
        "
CMD [\"a\", 1]
    ^^^^^^^^
error[invalid-json]: a JSON array here must hold strings only
hint: put double quotes around each element
",
    );
    check_line(
        "SHELL bash -c",
        "
SHELL bash -c
      ^^^^^^^
error[shell-not-json]: `SHELL` requires the arguments to be a JSON array
hint: write `SHELL [\"/bin/bash\", \"-c\"]`
",
    );
}

#[test]
fn heredocs() {
    check_line(
        "RUN <<EOF\nx\nEOF \n",
        "
RUN <<EOF
^^^^^^^^^
error[unterminated-heredoc]: unterminated heredoc: no line is `EOF`
hint: the closing line must hold the delimiter and nothing else
x
EOF 
",
    );
    check_line(
        "COPY a <<EOF\nEOF",
        "
COPY a <<EOF
       ^^^^^
error[heredoc-destination]: `COPY` cannot accept a heredoc as a destination
EOF
",
    );
}

#[test]
fn healthchecks() {
    check_line(
        "HEALTHCHECK --interval=5 --timeout=1us --retries=-1 CMD x",
        "
HEALTHCHECK --interval=5 --timeout=1us --retries=-1 CMD x
                       ^
error[invalid-flag-value]: flag `--interval` must be a duration, not `5`
hint: write `30s`, `1m30s` or the like
                                   ^^^
error[invalid-flag-value]: flag `--timeout` cannot be less than `1ms`
                                                 ^^
error[invalid-flag-value]: flag `--retries` must be a number from 0 on, not `-1`
",
    );
    check_line(
        "HEALTHCHECK curl localhost",
        "
HEALTHCHECK curl localhost
            ^^^^
error[unknown-healthcheck]: unknown type `CURL` in `HEALTHCHECK`
hint: write `HEALTHCHECK CMD <command>`
",
    );
    check_line(
        "HEALTHCHECK NONE x",
        "
HEALTHCHECK NONE x
                 ^
error[too-many-arguments]: `HEALTHCHECK NONE` takes no arguments
",
    );
}

#[test]
fn triggers() {
    check_line(
        "ONBUILD ONBUILD RUN x",
        "
ONBUILD ONBUILD RUN x
        ^^^^^^^
error[invalid-onbuild]: `ONBUILD` is not allowed as an `ONBUILD` trigger
",
    );
    check_line(
        "ONBUILD COPY a",
        "
ONBUILD COPY a
        ^^^^^^
warning[missing-argument]: `COPY` requires at least two arguments: source and destination
hint: write `COPY <source>... <destination>`
",
    );
    check_line(
        "ONBUILD ENV A=1 b",
        "
ONBUILD ENV A=1 b
                ^
error[missing-equals]: cannot find `=` in `b`
hint: write `name=value`, with double quotes around values with spaces
",
    );
}

#[test]
fn continuations() {
    check_line(
        "RUN a \\\n\n  b",
        "
RUN a \\

^
warning[NoEmptyContinuation]: empty line inside an instruction
hint: remove the line, or write a `#` in it
  b
",
    );
    check_line(
        "RUN",
        "
RUN
^^^
warning[empty-command]: `RUN` has no command
",
    );
}

#[test]
fn bytes_that_are_not_text() {
    let diagnostics = parse(b"FROM a\n# caf\xe9 \xe9\nRUN \xff\xfe x\n").diagnostics;
    let found: Vec<_> =
        diagnostics.iter().map(|each| (each.severity, each.code, each.span)).collect();
    let expected = [
        (Severity::Warning, "invalid-utf-8", Span::new(12, 13)),
        (Severity::Error, "invalid-utf-8", Span::new(20, 21)),
    ];
    assert_eq!(found, expected);
}
