//! What holds for every input: the tree prints back, spans fit, and nothing panics.

use proptest::prelude::*;
use strata_dockerfile::{
    CheckRequest, Expander, Instruction, Kind, Parse, Quotes, Span, parse, parse_trigger,
};

/// Pieces that Dockerfiles are made of, so that random ones get somewhere.
const PIECES: [&str; 48] = [
    "FROM a",
    "FROM a AS b",
    "RUN",
    "RUN a",
    "COPY",
    "ADD",
    "ENV",
    "LABEL",
    "ARG",
    "ONBUILD",
    "HEALTHCHECK",
    "SHELL",
    "VOLUME",
    "EXPOSE",
    "CMD",
    "USER",
    "WORKDIR",
    "--mount=",
    "type=cache",
    "type=secret",
    "--from=a",
    "--interval=1s",
    "--link",
    "<<EOF",
    "<<-'EOF'",
    "EOF",
    "\n",
    "\n",
    "\r\n",
    " ",
    "\t",
    "\\\n",
    "`\n",
    "\\",
    "#",
    "# escape=`\n",
    "# syntax=x\n",
    "[\"a\", \"b\"]",
    "[1]",
    "\"",
    "'",
    "$a",
    "${a:-b}",
    "${",
    "=",
    ",",
    "\u{feff}",
    "\u{e9}\u{1F600}",
];

fn dockerfiles() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(PIECES.to_vec());
    prop::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

fn check(source: &[u8]) -> Result<(), TestCaseError> {
    let read = parse(source);
    let given = std::collections::BTreeMap::new();
    for finding in strata_dockerfile::check(&read, &CheckRequest::new(&given)).findings {
        check_span(finding.span, source)?;
    }
    let Parse { tree, diagnostics } = read;
    prop_assert_eq!(tree.to_bytes(), source);
    prop_assert_eq!(tree.source(), source);
    for diagnostic in &diagnostics {
        check_span(diagnostic.span, source)?;
        prop_assert!(!diagnostic.message.ends_with('.'), "{}", diagnostic.message);
    }
    let mut end = 0;
    for instruction in tree.instructions() {
        prop_assert!(instruction.span.start >= end, "instructions overlap");
        end = instruction.span.end;
        check_instruction(instruction, source)?;
    }
    Ok(())
}

fn check_instruction(instruction: &Instruction, source: &[u8]) -> Result<(), TestCaseError> {
    check_span(instruction.span, source)?;
    check_span(instruction.keyword_span, source)?;
    match &instruction.kind {
        Kind::Onbuild(onbuild) => check_instruction(&onbuild.instruction, source)?,
        Kind::Env(pairs) => {
            for pair in pairs {
                check_span(pair.key.span.join(pair.value.span), source)?;
            }
        }
        Kind::Copy(copy) => {
            for heredoc in &copy.files.heredocs {
                check_span(heredoc.body_span, source)?;
                let body = String::from_utf8_lossy(&source[heredoc.body_span.range()]);
                prop_assert_eq!(&*body, &*heredoc.body);
            }
        }
        _ => {}
    }
    Ok(())
}

fn check_span(span: Span, source: &[u8]) -> Result<(), TestCaseError> {
    prop_assert!(span.start <= span.end && span.end <= source.len(), "{span:?}");
    Ok(())
}

proptest! {
    #[test]
    fn any_bytes(source in prop::collection::vec(any::<u8>(), 0..200)) {
        check(&source)?;
        let _ = parse_trigger(&source);
    }

    #[test]
    fn anything_like_a_dockerfile(source in dockerfiles()) {
        check(source.as_bytes())?;
        let _ = parse_trigger(source.as_bytes());
    }

    #[test]
    fn any_word_expands_or_fails(
        raw in "[a-c${}:/#%?*'\"\\\\ <=+-]{0,40}|\\PC{0,40}",
        value in "\\PC{0,20}",
        keep_unset in any::<bool>(),
        keep_escapes in any::<bool>(),
    ) {
        let lookup = |name: &str| (name != "b").then(|| value.clone());
        for quotes in [Quotes::Remove, Quotes::Keep, Quotes::Literal] {
            let expander = Expander { escape: '\\', quotes, keep_escapes, keep_unset };
            let _ = expander.expand(&raw, &lookup);
        }
    }

    #[test]
    fn plain_text_expands_to_itself(raw in "[a-zA-Z0-9 ./:@=,_-]{0,40}") {
        let word = Expander::new('\\').word(&raw, &|_| None);
        prop_assert_eq!(word, Ok(raw));
    }
}
