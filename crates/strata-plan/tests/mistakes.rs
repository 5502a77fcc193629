//! Common mistakes: what we say, where, and what to do about it. `mistakes.txt` has for each what
//! BuildKit (docker 28.5.2) says, the file, our line, our words and our hint.

use strata_dockerfile::{Diagnostic, parse};
use strata_oci::{Digest, ImageConfig};
use strata_plan::{ImageNeed, PlanError, Request, ResolvedImage, plan};

fn image(need: &ImageNeed) -> Option<ResolvedImage> {
    let digest = Digest::of(need.name.to_string().as_bytes());
    Some(ResolvedImage { digest, config: ImageConfig::default() })
}

/// The first thing that is wrong.
fn wrong(source: &str) -> Option<(usize, Diagnostic)> {
    let parse = parse(source.as_bytes());
    let line = |found: Diagnostic| (parse.tree.line_of(found.span.start), found);
    if let Some(found) = parse.diagnostics.iter().find(|found| found.is_error()) {
        return Some(line(found.clone()));
    }
    match plan(&Request::new(&parse.tree), &image) {
        Err(PlanError::Wrong(found)) => found.into_iter().next().map(line),
        _ => None,
    }
}

#[test]
fn each_mistake_has_its_words() {
    let blocks = include_str!("mistakes.txt").split("=== ").skip(1);
    let mut count = 0;
    for block in blocks {
        let (_buildkits, rest) = block.split_once('\n').expect("BuildKit's words");
        let (source, expected) = rest.split_once("\n--- ").expect("our words");
        let (line, found) = wrong(&format!("{source}\n")).expect(source);
        let hint = found.hint.map(|hint| format!("hint: {hint}\n")).unwrap_or_default();
        let said = format!("line {line}\n{}\n{hint}", found.message);
        assert_eq!(said, expected, "{source}");
        count += 1;
    }
    assert!(count >= 60, "{count} mistakes");
}
