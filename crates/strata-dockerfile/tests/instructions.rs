//! What instructions say: the shell text to the byte, here-documents, words and spans.

use std::time::Duration;

use strata_dockerfile::{
    CommandForm, DirectiveName, Healthcheck, Instruction, Keyword, Kind, LineKind, MountKey,
    Network, Onbuild, RunArgs, Script, Security, Span, SyntaxTree, Word, parse, parse_trigger,
};

/// The tree of a file that must be sound.
#[track_caller]
fn tree(source: &str) -> SyntaxTree {
    let parse = parse(source.as_bytes());
    let errors: Vec<_> = parse.diagnostics.iter().filter(|each| each.is_error()).collect();
    assert!(errors.is_empty(), "{errors:?}");
    parse.tree
}

/// The instruction after a `FROM`.
#[track_caller]
fn second(source: &str) -> Instruction {
    let tree = tree(&format!("FROM scratch\n{source}"));
    tree.instructions()[1].clone()
}

#[track_caller]
fn run(source: &str) -> RunArgs {
    match second(source).kind {
        Kind::Run(run) => run,
        other => unreachable!("{other:?}"),
    }
}

#[track_caller]
fn check_shell(source: &str, expected: &str) {
    assert_eq!(run(source).form, CommandForm::Shell(expected.to_owned()), "{source}");
}

fn raws<'a>(words: impl IntoIterator<Item = &'a Word>) -> Vec<&'a str> {
    words.into_iter().map(Word::as_str).collect()
}

#[test]
fn shell_text_is_what_buildkit_passes_on() {
    check_shell("RUN echo  a   b  ", "echo  a   b");
    check_shell("  run\techo", "echo");
    check_shell("RUN a && \\\n    b", "a &&     b");
    check_shell("RUN a && \\  \n\tb", "a && \tb");
    check_shell("RUN a \\\r\n  b\r\n", "a   b");
    check_shell("RUN a \\\n# comment\n  # another \\\n  b", "a   b");
    check_shell("RUN a \\\n\n   \n  b", "a   b");
    check_shell("RUN a\\\nb", "ab");
    check_shell("RUN a \\\\\n", r"a \\");
    check_shell("RUN echo \\", "echo");
    check_shell("RUN \\\n  a", "a");
    check_shell("RUN [ -f x ] && y", "[ -f x ] && y");
    check_shell("RUN --mount=type=cache,target=/c  a --b", "a --b");
    check_shell("RUN -- --a", "--a");
    check_shell("RUN echo 'a\\\n  # b\\\n  c'", "echo 'a  c'");
    check_shell("RUN", "");
}

#[test]
fn exec_form() {
    let exec = |strings: &[&str]| {
        CommandForm::Exec(strings.iter().map(|&string| string.to_owned()).collect())
    };
    assert_eq!(run(r#"RUN ["a", "b c"]"#).form, exec(&["a", "b c"]));
    assert_eq!(run("RUN [ \"a\", \\\n \"b\" ]").form, exec(&["a", "b"]));
    assert_eq!(second("CMD []").kind, Kind::Cmd(exec(&[])));
    assert_eq!(second(r#"ENTRYPOINT ["<<EOF"]"#).kind, Kind::Entrypoint(exec(&["<<EOF"])));
    assert_eq!(run(r#"RUN ["<<EOF"]"#).heredocs, []);
    assert_eq!(second(r#"SHELL ["a","b"]"#).kind, Kind::Shell(vec!["a".into(), "b".into()]));
}

#[test]
fn heredocs_of_run() {
    check_shell("RUN <<EOF\nls /\nwhoami\nEOF\n", "ls /\nwhoami\n");
    check_shell("RUN <<-EOF\n\techo\n\tEOF\n", "echo\n");
    check_shell("RUN 3<<EOF\nEOF", "");
    check_shell("RUN <<EOF\r\na\r\nEOF\r\n", "a\r\n");
    check_shell("RUN <<'EOF' | python\nprint()\nEOF", "<<'EOF' | python\nprint()\nEOF");
    check_shell("RUN <<A <<B\n1\nA\n2\nB", "<<A <<B\n1\nA\n2\nB");
    check_shell("RUN cat <<-A\n\t1\n\tA", "cat <<-A\n\t1\nA");
    check_shell("RUN <<EOF\n# kept \\\n\nEOF", "# kept \\\n\n");
    check_shell("RUN a \\\n <<EOF\nx\nEOF", "a  <<EOF\nx\nEOF");
    let script = run("RUN <<EOF\n#!/usr/bin/env python3\nprint()\nEOF");
    assert_eq!(script.form, CommandForm::Shell("/dev/pipes/EOF".to_owned()));
    let body = "#!/usr/bin/env python3\nprint()\n".to_owned();
    assert_eq!(script.script, Some(Script { path: "/dev/pipes/EOF".to_owned(), body }));
}

#[test]
fn heredocs_only_where_they_belong() {
    let tree = tree("FROM a\nUSER <<INVALID\nRUN \"<<NO\"\nRUN <<EOF\nEOF\nRUN b");
    let keywords: Vec<_> = tree.instructions().iter().map(|each| each.keyword).collect();
    assert_eq!(keywords, [Keyword::From, Keyword::User, Keyword::Run, Keyword::Run, Keyword::Run]);
}

#[test]
fn heredocs_of_copy() {
    let source = "COPY <<X.txt a <<-'Y' /dest\nX\nX.txt\n\t$y\nY";
    let Kind::Copy(copy) = second(source).kind else { unreachable!() };
    assert_eq!(raws(&copy.files.sources), ["a"]);
    assert_eq!(copy.files.dest.raw, "/dest");
    let [x, y] = copy.files.heredocs.as_slice() else { unreachable!() };
    assert_eq!((&*x.name, x.content(), x.expand), ("X.txt", "X\n".to_owned(), true));
    assert_eq!((&*y.name, y.content(), y.expand), ("Y", "$y\n".to_owned(), false));
    let source = format!("FROM scratch\n{source}");
    assert_eq!(&source[y.body_span.range()], "\t$y\n");
}

#[test]
fn from() {
    let tree = tree("FROM --platform=$BUILDPLATFORM a:$V as Build\nFROM build");
    let Kind::From(from) = &tree.instructions()[0].kind else { unreachable!() };
    assert_eq!(from.image.raw, "a:$V");
    assert_eq!(from.platform.as_ref().map(Word::as_str), Some("$BUILDPLATFORM"));
    let alias = from.alias.as_ref().expect("an alias");
    assert_eq!((&*alias.value, &*tree.text(alias.span)), ("build", "Build"));
}

#[test]
fn run_flags() {
    let run = run("RUN --mount=type=cache,target=/c,sharing=locked --network=none \\\n  \
         --mount=\"type=secret,id=a b\" --security=insecure x");
    assert_eq!((run.network, run.security), (Network::None, Security::Insecure));
    let [cache, secret] = run.mounts.as_slice() else { unreachable!() };
    assert_eq!(cache.value(MountKey::Target).map(Word::as_str), Some("/c"));
    assert_eq!(secret.value(MountKey::Id).map(Word::as_str), Some("a b"));
}

#[test]
fn copy_and_add_flags() {
    let copy = "COPY --from=b --chown=1:2 --chmod=u=rwX --link --parents=false --exclude=x \
                --exclude=y a b c/";
    let Kind::Copy(copy) = second(copy).kind else { unreachable!() };
    assert_eq!(raws(&copy.files.sources), ["a", "b"]);
    assert_eq!(raws(&copy.files.exclude), ["x", "y"]);
    assert_eq!(raws(&copy.from), ["b"]);
    assert_eq!(raws(&copy.files.chown), ["1:2"]);
    assert_eq!(raws(&copy.files.chmod), ["u=rwX"]);
    assert!(copy.files.link && !copy.parents);
    let add = "ADD --keep-git-dir --unpack=FALSE --checksum=sha256:1 [\"a b\", \"c\"]";
    let Kind::Add(add) = second(add).kind else { unreachable!() };
    assert_eq!((add.keep_git_dir, add.unpack), (Some(true), Some(false)));
    assert_eq!(raws(&add.files.sources), ["a b"]);
    assert_eq!(raws(&add.checksum), ["sha256:1"]);
}

#[test]
fn pairs() {
    let check = |source: &str, expected: &[(&str, &str, bool)]| {
        let (Kind::Env(pairs) | Kind::Label(pairs)) = second(source).kind else { unreachable!() };
        let found: Vec<_> =
            pairs.iter().map(|pair| (&*pair.key.raw, &*pair.value.raw, pair.legacy)).collect();
        assert_eq!(found, expected, "{source}");
    };
    check(
        "ENV A=1 B=\"x y\" C='z' D=a\\ b E=",
        &[
            ("A", "1", false),
            ("B", "\"x y\"", false),
            ("C", "'z'", false),
            ("D", "a\\ b", false),
            ("E", "", false),
        ],
    );
    check("ENV A  b  c=d ", &[("A", "b  c=d", true)]);
    check("LABEL \"a b\"=c \\\n  d=e", &[("\"a b\"", "c", false), ("d", "e", false)]);
    check("LABEL a=b=c", &[("a", "b=c", false)]);
}

#[test]
fn declarations() {
    let Kind::Arg(args) = second("ARG a b=1 c=\"x y\"").kind else { unreachable!() };
    let found: Vec<_> =
        args.iter().map(|arg| (&*arg.name.raw, arg.default.as_ref().map(Word::as_str))).collect();
    assert_eq!(found, [("a", None), ("b", Some("1")), ("c", Some("\"x y\""))]);
}

#[test]
fn simple_arguments() {
    let word = |kind| match kind {
        Kind::User(word) | Kind::Workdir(word) | Kind::Stopsignal(word) => word.raw,
        Kind::Maintainer(word) => word.raw,
        other => unreachable!("{other:?}"),
    };
    assert_eq!(word(second("USER a:b").kind), "a:b");
    assert_eq!(word(second("WORKDIR  /a b ").kind), "/a b");
    assert_eq!(word(second("STOPSIGNAL SIGTERM").kind), "SIGTERM");
    assert_eq!(word(second("MAINTAINER A B <c@d>").kind), "A B <c@d>");
    let Kind::Expose(ports) = second("EXPOSE 80/tcp  1-2\t$P").kind else { unreachable!() };
    assert_eq!(raws(&ports), ["80/tcp", "1-2", "$P"]);
    let Kind::Volume(paths) = second("VOLUME /a /b").kind else { unreachable!() };
    assert_eq!(raws(&paths), ["/a", "/b"]);
    let Kind::Volume(paths) = second("VOLUME [\"/a\", \" /b \"]").kind else { unreachable!() };
    assert_eq!(raws(&paths), ["/a", "/b"]);
}

#[test]
fn healthchecks() {
    let none = second("healthcheck none").kind;
    assert_eq!(none, Kind::Healthcheck(Healthcheck::None));
    let none = second("HEALTHCHECK --interval=1s NONE").kind;
    assert_eq!(none, Kind::Healthcheck(Healthcheck::None));
    let kind = second("HEALTHCHECK --interval=1m30s --retries=3 --timeout=0s CMD a || b").kind;
    let Kind::Healthcheck(Healthcheck::Cmd(check)) = kind else { unreachable!() };
    assert_eq!(check.interval, Some(Duration::from_secs(90)));
    assert_eq!((check.timeout, check.start_interval), (None, None));
    assert_eq!(check.retries, Some(3));
    assert_eq!(check.form, CommandForm::Shell("a || b".to_owned()));
}

#[test]
fn triggers() {
    let onbuild = |source| match second(source).kind {
        Kind::Onbuild(onbuild) => onbuild,
        other => unreachable!("{other:?}"),
    };
    let Onbuild { expression, instruction } = onbuild("ONBUILD  COPY a b  ");
    assert_eq!(expression, "COPY a b  ");
    assert!(matches!(instruction.kind, Kind::Copy(_)));
    let source = "ONBUILD RUN <<EOF\nx\nEOF";
    let Onbuild { expression, instruction } = onbuild(source);
    assert_eq!(expression, "RUN <<EOF\nx\nEOF");
    let trigger = parse_trigger(expression.as_bytes());
    assert_eq!(trigger.diagnostics, []);
    assert_eq!(trigger.tree.instructions()[0].kind, instruction_without_place(*instruction));
    assert!(parse_trigger(b"RUN a\nRUN b").has_errors());
}

/// The trigger lies elsewhere in its own text, so only what has no place can be compared.
fn instruction_without_place(instruction: Instruction) -> Kind {
    match instruction.kind {
        Kind::Run(mut run) => {
            for heredoc in &mut run.heredocs {
                heredoc.body_span = Span::new(10, 12);
            }
            Kind::Run(run)
        }
        other => other,
    }
}

#[test]
fn directives_and_where_they_stop() {
    let tree =
        tree("\u{feff}# Syntax = a/b:1 x \n#escape=`\n\n# check=skip=A\nFROM a\nRUN b `\n c");
    let directives: Vec<_> = tree
        .directives()
        .iter()
        .map(|each| (each.name, &*each.value, tree.text(each.value_span).into_owned()))
        .collect();
    assert_eq!(
        directives,
        [
            (DirectiveName::Syntax, "a/b:1 x", "a/b:1 x".to_owned()),
            (DirectiveName::Escape, "`", "`".to_owned()),
        ]
    );
    assert_eq!(tree.escape(), '`');
    assert_eq!(tree.instructions()[1].original, "RUN b  c");
    let tree = self::tree("# a comment\n# escape=`\nFROM a");
    assert_eq!((tree.directives().len(), tree.escape()), (0, '\\'));
    let tree = self::tree("# unknown=a\n# escape=`\nFROM a");
    assert_eq!(tree.escape(), '\\');
    let tree = self::tree("#!/usr/bin/env docker\n# syntax=x\nFROM a");
    assert_eq!(tree.directive(DirectiveName::Syntax).map(|each| &*each.value), Some("x"));
    let tree = self::tree("#!/usr/bin/env docker\n# escape=`\nFROM a");
    assert_eq!(tree.escape(), '\\');
    // Only the escape may be indented.
    let tree = self::tree(" # syntax=x\n# check=skip=A\n # escape=`\nFROM a");
    assert_eq!((tree.directives().len(), tree.escape()), (1, '`'));
}

#[test]
fn comments_above() {
    let source =
        "# foo sets foo\nARG foo\n# lost\n#\n# bar is a\n\n# check=skip=X\nFROM a AS bar\n";
    let tree = tree(source);
    let comments = |index: usize| -> Vec<&str> {
        tree.instructions()[index].comments.iter().map(|comment| &*comment.text).collect()
    };
    assert_eq!(comments(0), ["foo sets foo"]);
    assert_eq!(comments(1), ["bar is a", "check=skip=X"]);
    assert_eq!(tree.instructions()[0].doc_comment("foo"), Some("sets foo"));
    assert_eq!(tree.instructions()[1].doc_comment("bar"), Some("is a"));
    assert_eq!(tree.instructions()[1].doc_comment("ba"), None);
    let span = tree.instructions()[1].comments[1].span;
    assert_eq!(tree.text(span), "# check=skip=X");
}

#[test]
fn spans() {
    let source = "\u{feff}FROM a\n  copy --from=x \\\n # c\n  b \\\n  \"c d\"\nRUN <<E\nx\nE\n";
    let tree = tree(source);
    let [_, copy, run] = tree.instructions() else { unreachable!() };
    assert_eq!(tree.text(copy.keyword_span), "copy");
    assert_eq!(tree.text(copy.span), "copy --from=x \\\n # c\n  b \\\n  \"c d\"");
    assert_eq!(copy.original, "copy --from=x   b   \"c d\"");
    let Kind::Copy(args) = &copy.kind else { unreachable!() };
    let from = args.from.as_ref().expect("a from");
    assert_eq!(tree.text(from.span), "x");
    assert_eq!(tree.text(args.files.sources[0].span), "b");
    assert_eq!(tree.text(args.files.dest.span), "d\"");
    assert_eq!(tree.text(run.span), "RUN <<E\nx\nE");
    assert_eq!(tree.line_of(run.span.start), 6);
    assert_eq!(tree.position(args.files.sources[0].span.start).column, 3);
    let kinds: Vec<_> = tree.lines().iter().map(|line| line.kind).collect();
    assert_eq!(
        kinds,
        [
            LineKind::Instruction,
            LineKind::Instruction,
            LineKind::Comment,
            LineKind::Continuation,
            LineKind::Continuation,
            LineKind::Instruction,
            LineKind::HeredocBody,
            LineKind::HeredocEnd,
        ]
    );
}
