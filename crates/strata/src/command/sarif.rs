//! Findings as SARIF 2.1.0 (OASIS), no more than it asks for: one run, its rules, its results.

use serde_json::{Value, json};
use strata_dockerfile::{Diagnostic, Rule, Severity, Span, SyntaxTree};

use super::check::url;
use crate::request::Checked;

/// The whole log.
pub(super) fn log(checked: &Checked) -> Value {
    let rule = |rule: &Rule| {
        json!({
            "id": rule.name,
            "shortDescription": { "text": rule.summary },
            "helpUri": url(rule.name),
        })
    };
    let results = checked.report.findings.iter().map(|finding| result(checked, finding));
    json!({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "tool": { "driver": {
                "name": "strata",
                "version": env!("CARGO_PKG_VERSION"),
                "informationUri": env!("CARGO_PKG_REPOSITORY"),
                "rules": Rule::ALL.iter().map(rule).collect::<Vec<_>>(),
            } },
            "columnKind": "unicodeCodePoints",
            "results": results.collect::<Vec<_>>(),
        }],
    })
}

fn result(checked: &Checked, finding: &Diagnostic) -> Value {
    let level = match finding.severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
    };
    let text = match &finding.hint {
        Some(hint) => format!("{}: {hint}", finding.message),
        None => finding.message.clone(),
    };
    let mut place = json!({ "artifactLocation": { "uri": uri(&checked.dockerfile.shown) } });
    if finding.span != Span::default() {
        place["region"] = region(&checked.parse.tree, finding.span);
    }
    json!({
        "ruleId": finding.code,
        "level": level,
        "message": { "text": text },
        "locations": [{ "physicalLocation": place }],
    })
}

fn region(tree: &SyntaxTree, span: Span) -> Value {
    let place = |offset: usize| {
        let position = tree.position(offset);
        let line = Span::new((offset + 1).saturating_sub(position.column), offset);
        (position.line, tree.text(line).chars().count() + 1)
    };
    let (start, end) = (place(span.start), place(span.end));
    json!({ "startLine": start.0, "startColumn": start.1, "endLine": end.0, "endColumn": end.1 })
}

/// A path as a URI: what is not plain is percent-encoded.
fn uri(path: &str) -> String {
    let mut uri = String::new();
    for byte in path.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => {
                uri.push(char::from(byte));
            }
            other => uri.push_str(&format!("%{other:02X}")),
        }
    }
    uri
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_uris_and_columns_count_characters() {
        assert_eq!(uri("a b/é<-"), "a%20b/%C3%A9%3C-");
        let tree = strata_dockerfile::parse("# é\n# é x\n".as_bytes()).tree;
        let expected = json!({ "startLine": 2, "startColumn": 4, "endLine": 2, "endColumn": 6 });
        assert_eq!(region(&tree, Span::new(9, 11)), expected);
    }
}
