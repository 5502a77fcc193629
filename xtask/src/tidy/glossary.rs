//! The glossary is there, each noun once, and each noun is one that the sources use.

use std::collections::BTreeSet;

use super::markdown::table;
use super::{Finding, GLOSSARY, Text};

/// Compares the glossary's nouns with the words of the sources.
pub(super) fn check(page: &str, sources: &[&Text]) -> Vec<Finding> {
    let rows = table(page, &["noun"]);
    if rows.is_empty() {
        return vec![Finding::new(GLOSSARY, 1, "there is no table of nouns")];
    }
    let sources: Vec<String> = sources.iter().map(|source| source.text.to_lowercase()).collect();
    let mut seen = BTreeSet::new();
    let mut findings = Vec::new();
    for row in &rows {
        for noun in row.cells[0].split(" / ") {
            let noun = noun.trim_matches('`').to_lowercase();
            if !sources.iter().any(|source| uses(source, &noun)) {
                let message = format!("no source says `{noun}`");
                findings.push(Finding::new(GLOSSARY, row.line, message));
            }
            if !seen.insert(noun.clone()) {
                findings.push(Finding::new(GLOSSARY, row.line, format!("`{noun}` is here twice")));
            }
        }
    }
    findings
}

/// Whether the noun stands there as written or as part of a name in the code.
fn uses(source: &str, noun: &str) -> bool {
    let joined = |with: &str| noun.split(' ').collect::<Vec<_>>().join(with);
    source.contains(noun) || source.contains(&joined("_")) || source.contains(&joined(""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nouns_that_nobody_uses() {
        let source = Text { path: "a.rs".to_owned(), text: "struct TreeId; // A Blob".to_owned() };
        let page = "| noun | meaning |\n|---|---|\n| tree id | x |\n| blob / digest | y |\n";
        let findings = check(page, &[&source]);
        assert_eq!(findings, [Finding::new(GLOSSARY, 4, "no source says `digest`")]);
        assert_eq!(check("", &[]).len(), 1);
    }
}
