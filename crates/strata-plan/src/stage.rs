//! One stage while it is evaluated: what the next instruction can see.

use std::collections::BTreeMap;
use std::rc::Rc;

use strata_dockerfile::Span;
use strata_oci::{History, Platform, RuntimeConfig};

use crate::{HistoryEntry, ResolvedImage, StepIndex};

/// What later instructions, and stages based on this one, see of a stage.
#[derive(Debug, Clone)]
pub(crate) struct State {
    /// Name, or number.
    pub(crate) name: String,
    pub(crate) root: Option<StepIndex>,
    pub(crate) platform: Platform,
    pub(crate) config: RuntimeConfig,
    pub(crate) author: Option<String>,
    pub(crate) base: Option<ResolvedImage>,
    pub(crate) history: Lines,
    /// The environment of commands: the image's and the build's.
    pub(crate) env: BTreeMap<String, String>,
    /// The ARGs that were declared, in order, with the value that they were given.
    pub(crate) args: Vec<(String, Option<String>)>,
    /// ONBUILD instructions that this stage itself declares, with their places.
    pub(crate) triggers: Vec<(String, Span)>,
    /// Whether this stage, or one below it in this file, has set a CMD.
    pub(crate) has_cmd: bool,
}

/// The history so far. What stages have in common is there once: in a file of many stages, each
/// upon the last, copies for all would take memory by the square.
#[derive(Debug, Clone, Default)]
pub(crate) struct Lines(Option<Rc<Line>>);

#[derive(Debug)]
struct Line {
    entry: HistoryEntry,
    before: Lines,
}

impl Lines {
    fn push(&mut self, entry: HistoryEntry) {
        let before = Self(self.0.take());
        self.0 = Some(Rc::new(Line { entry, before }));
    }

    /// All lines, the first one first.
    pub(crate) fn to_vec(&self) -> Vec<HistoryEntry> {
        let lines = std::iter::successors(self.0.as_ref(), |line| line.before.0.as_ref());
        let mut entries: Vec<HistoryEntry> = lines.map(|line| line.entry.clone()).collect();
        entries.reverse();
        entries
    }
}

impl Drop for Lines {
    /// One after the other: the history of very many stages would take more stack than there is.
    fn drop(&mut self) {
        let mut next = self.0.take();
        while let Some(mut line) = next.and_then(Rc::into_inner) {
            next = line.before.0.take();
        }
    }
}

impl State {
    /// A stage without a file.
    pub(crate) fn empty(platform: &Platform) -> Self {
        Self {
            name: String::new(),
            root: None,
            platform: platform.clone(),
            // As BuildKit's empty image.
            config: RuntimeConfig { working_dir: "/".to_owned(), ..RuntimeConfig::default() },
            author: None,
            base: None,
            history: Lines::default(),
            env: BTreeMap::new(),
            args: Vec::new(),
            triggers: Vec::new(),
            has_cmd: false,
        }
    }

    /// Commands see the image's environment.
    pub(crate) fn take_image_env(&mut self) {
        for variable in self.config.env.iter().flatten() {
            let (name, value) = variable.split_once('=').unwrap_or((variable, ""));
            self.env.insert(name.to_owned(), value.to_owned());
        }
    }

    /// Adds a line to the history; with a step, the line stands for that step's layer.
    pub(crate) fn commit(&mut self, text: String, step: Option<StepIndex>) {
        let line = History {
            created_by: Some(text),
            comment: Some("buildkit.dockerfile.v0".to_owned()),
            empty_layer: step.is_none(),
            ..History::default()
        };
        self.history.push(HistoryEntry { line, step });
    }

    /// Where relative paths start.
    pub(crate) fn cwd(&self) -> &str {
        if self.config.working_dir.is_empty() { "/" } else { &self.config.working_dir }
    }

    /// A path as instructions mean it: below the working directory, cleaned. A trailing slash, or
    /// one that `.` stands for, is kept.
    pub(crate) fn absolute(&self, path: &str) -> String {
        let joined =
            if path.starts_with('/') { path.to_owned() } else { format!("{}/{path}", self.cwd()) };
        let is_directory =
            path.is_empty() || path.ends_with('/') || path.ends_with("/.") || path == ".";
        let mut clean = clean_path(&joined);
        if is_directory && clean != "/" {
            clean.push('/');
        }
        clean
    }
}

/// Go's `path.Clean` of an absolute path.
pub(crate) fn clean_path(path: &str) -> String {
    let mut names: Vec<&str> = Vec::new();
    for name in path.split('/') {
        match name {
            "" | "." => {}
            ".." => drop(names.pop()),
            name => names.push(name),
        }
    }
    format!("/{}", names.join("/"))
}
