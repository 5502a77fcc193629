//! All checks over all files; each finding says where. Reading files happens here, the checks
//! get texts.

mod arrows;
mod dependencies;
mod glossary;
mod invariants;
mod links;
mod markdown;
mod rust;
mod workspace;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use workspace::Workspace;

/// Something that breaks a rule, and where.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Finding {
    path: String,
    line: usize,
    message: String,
}

impl Finding {
    fn new(path: &str, line: usize, message: impl Into<String>) -> Self {
        Self { path: path.to_owned(), line, message: message.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.path, self.line, self.message)
    }
}

/// A text file, by its path from the workspace's root.
#[derive(Debug)]
struct Text {
    path: String,
    text: String,
}

const ARCHITECTURE: &str = "docs/architecture.md";
const DEPENDENCIES: &str = "docs/dependencies.md";
const GLOSSARY: &str = "docs/glossary.md";
const KEYS: &str = "docs/cache-keys.md";
const LANGUAGE: &str = "docs/dockerfile-rows.md";
/// Contexts whose images were compared with BuildKit's.
const CASES: &str = "crates/strata/tests/cases";

/// Checks the workspace in `root`; the findings are in the order of their places.
pub(crate) fn check(root: &Path) -> Result<Vec<Finding>, String> {
    let files = read_all(root).map_err(|error| format!("{}: {error}", root.display()))?;
    let workspace = Workspace::load(root)?;
    let named = |path: &str| {
        let found = files.iter().find(|file| file.path == path);
        found.map(|file| file.text.as_str()).unwrap_or_default()
    };
    let sources: Vec<&Text> = files.iter().filter(|file| file.path.ends_with(".rs")).collect();
    let pages: Vec<&Text> = files.iter().filter(|file| file.path.ends_with(".md")).collect();
    let formats: String =
        pages.iter().filter(|page| page.path.starts_with("docs/formats/")).map(text_of).collect();

    let mut findings = arrows::check(&workspace, named(ARCHITECTURE));
    findings.extend(dependencies::check(&workspace, named(DEPENDENCIES)));
    findings.extend(glossary::check(named(GLOSSARY), &sources));
    findings.extend(invariants::check(named(ARCHITECTURE), &sources));
    findings.extend(invariants::check_keys(named(KEYS), &sources));
    let has_case = |case: &str| root.join(CASES).join(case).join("Dockerfile").exists();
    findings.extend(invariants::check_language(named(LANGUAGE), &sources, has_case));
    for source in &sources {
        findings.extend(rust::check(&source.path, &source.text, &formats));
    }
    for page in &pages {
        findings.extend(links::check(&page.path, &page.text, |target| root.join(target).exists()));
    }
    findings.sort();
    Ok(findings)
}

fn text_of<'a>(file: &&'a Text) -> &'a str {
    &file.text
}

/// Every Rust and Markdown file that is ours.
fn read_all(root: &Path) -> io::Result<Vec<Text>> {
    let mut files = Vec::new();
    let mut directories = vec![root.to_path_buf()];
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(&directory)? {
            let path = entry?.path();
            if path.is_symlink() {
                continue;
            } else if path.is_dir() {
                directories.extend(is_ours(&path).then_some(path));
            } else if path.extension().is_some_and(|kind| kind == "rs" || kind == "md") {
                files.push(read(root, path)?);
            }
        }
    }
    files.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(files)
}

/// What tests read as data (`tests/cases`, `tests/golden`) keeps no rules.
fn is_ours(directory: &Path) -> bool {
    let name = directory.file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
    let data = ["cases", "golden"].contains(&&*name)
        && directory.parent().is_some_and(|parent| parent.ends_with("tests"));
    !name.starts_with('.') && name != "target" && name != "node_modules" && !data
}

fn read(root: &Path, path: PathBuf) -> io::Result<Text> {
    let text = std::fs::read_to_string(&path)
        .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))?;
    let path = path.strip_prefix(root).unwrap_or(&path).to_string_lossy().into_owned();
    Ok(Text { path, text })
}
