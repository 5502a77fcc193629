//! Relative links in Markdown lead to files that exist.

use super::Finding;
use super::markdown::prose;

/// Checks one page; `exists` answers for paths from the workspace's root.
pub(super) fn check(path: &str, text: &str, exists: impl Fn(&str) -> bool) -> Vec<Finding> {
    let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
    let mut findings = Vec::new();
    for (line, content) in prose(text) {
        for target in targets(content) {
            let file = target.split('#').next().unwrap_or_default();
            let foreign = target.contains("://") || target.starts_with("mailto:");
            if file.is_empty() || foreign {
                continue;
            }
            if !resolve(folder, file).is_some_and(|file| exists(&file)) {
                findings.push(Finding::new(path, line, format!("`{target}` leads nowhere")));
            }
        }
    }
    findings
}

/// What stands in the parentheses of `[text](target)`, outside inline code.
fn targets(line: &str) -> Vec<&str> {
    let outside_code = line.split('`').step_by(2);
    outside_code
        .flat_map(|part| part.split("](").skip(1))
        .filter_map(|rest| rest.split(')').next())
        .filter_map(|target| target.split_whitespace().next())
        .collect()
}

/// The target's path from the root; nothing if it leaves the root.
fn resolve(folder: &str, file: &str) -> Option<String> {
    let mut parts: Vec<&str> = Vec::new();
    for part in folder.split('/').chain(file.split('/')) {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()?),
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_that_lead_nowhere() {
        let exists = |path: &str| matches!(path, "docs/a.md" | "README.md");
        let text = "[a](a.md#x) [b](../README.md) [c](https://c) [d](#d)\n\
                    [e](gone.md) and `[f](gone.md)`\n[g](../../out.md)\n```\n[h](gone)\n```\n";
        let findings = check("docs/page.md", text, exists);
        let lines: Vec<usize> = findings.iter().map(|one| one.line).collect();
        assert_eq!(lines, [2, 3]);
        assert_eq!(findings[0].to_string(), "docs/page.md:2: `gone.md` leads nowhere");
    }

    #[test]
    fn a_link_whose_text_is_code() {
        assert_eq!(targets("see [`a`](gone.md)"), ["gone.md"]);
    }
}
