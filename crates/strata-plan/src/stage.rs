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
    /// Shared with the stages above and below: a file of many stages would copy it for each.
    pub(crate) history: Vec<Rc<HistoryEntry>>,
    /// The environment of commands: the image's and the build's.
    pub(crate) env: BTreeMap<String, String>,
    /// The ARGs that were declared, in order, with the value that they were given.
    pub(crate) args: Vec<(String, Option<String>)>,
    /// ONBUILD instructions that this stage itself declares, with their places.
    pub(crate) triggers: Vec<(String, Span)>,
    /// Whether this stage, or one below it in this file, has set a CMD.
    pub(crate) has_cmd: bool,
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
            history: Vec::new(),
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
        self.history.push(Rc::new(HistoryEntry { line, step }));
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
