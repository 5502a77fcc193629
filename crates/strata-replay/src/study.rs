//! One history, replayed as often as there are questions: as it was, and with changes.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::context::{Directory, Node};
use crate::history::{Commit, History, HistoryError, Range};
use crate::keys::Scheme;
use crate::locate::locate;
use crate::model::is_manifest;
use crate::replay::{Progress, Request, replay};
use crate::report::{Report, Subject, WhatIfReport, seconds};
use crate::tally::Tally;
use crate::what_if::WhatIf;
use strata_cas::TreePath;

/// Told after each commit; false ends the replay.
pub type Observe<'a> = &'a mut dyn FnMut(Progress) -> bool;

/// A history and what is asked of it.
pub struct Study<'a> {
    /// The repository.
    pub history: &'a History,
    /// The commits, oldest first.
    pub commits: &'a [Commit],
    /// What each build asks for; its counterfactual is what is asked about.
    pub request: &'a Request,
    /// Which scheme's hits the details are about.
    pub main: Scheme,
}

impl Study<'_> {
    /// Replays with other changes than the request's.
    pub fn with(&self, what_if: WhatIf, observe: Observe<'_>) -> Result<Tally, HistoryError> {
        let request = Request { what_if, ..self.request.clone() };
        replay(self.history, self.commits, &request, observe)
    }

    /// The report of a replay; `range` and `repository` only say what it was.
    pub fn report(&self, tally: &Tally, range: &Range, repository: &str) -> Report {
        let id = |commit: Option<&Commit>| commit.map(|c| c.id.to_string()).unwrap_or_default();
        let subject = Subject {
            repository: repository.to_owned(),
            first: id(self.commits.first()),
            last: id(self.commits.last()),
            order: range.order.name().to_owned(),
            dockerfile: self.request.dockerfile.display().to_string(),
            context: match self.request.context.as_os_str().is_empty() {
                true => ".".to_owned(),
                false => self.request.context.display().to_string(),
            },
            target: self.request.asked.target.clone(),
            build_args: self.request.asked.build_args.clone(),
            what_if: self.request.what_if.words(),
        };
        Report::new(tally, subject, self.commits.len(), self.main)
    }

    /// How often each instruction was broken by its own files.
    pub fn breaks(tally: &Tally) -> BTreeMap<String, u64> {
        let instructions = tally.instructions.iter();
        instructions
            .map(|((_, text), one)| (text.clone(), one.misses.get("files").copied().unwrap_or(0)))
            .collect()
    }

    /// The files of the newest commit's context that name dependencies.
    pub fn manifests(&self) -> Result<Vec<String>, HistoryError> {
        let Some(newest) = self.commits.last() else { return Ok(Vec::new()) };
        let Some(context) = self.newest_context(newest)? else { return Ok(Vec::new()) };
        let mut found = Vec::new();
        collect(&context, &TreePath::ROOT, &mut found);
        found.sort();
        Ok(found)
    }

    fn newest_context(
        &self,
        newest: &Commit,
    ) -> Result<Option<std::sync::Arc<Directory>>, HistoryError> {
        let found = crate::context::find(self.history, newest.tree, &self.request.context)?;
        let Some((tree, _)) = found else { return Ok(None) };
        let text = self.newest_file(".dockerignore".as_ref())?.unwrap_or_default();
        let rules = self.request.what_if.rules(&text).unwrap_or_default();
        let reader = crate::context::Reader { history: self.history, rules: &rules };
        reader.read(tree, None).map(Some)
    }

    /// A file of the newest commit, by its path in the context.
    pub fn newest_file(&self, path: &Path) -> Result<Option<Vec<u8>>, HistoryError> {
        self.newest(&self.request.context.join(path))
    }

    /// The newest commit's Dockerfile.
    pub fn newest_dockerfile(&self) -> Result<Option<Vec<u8>>, HistoryError> {
        self.newest(&self.request.dockerfile)
    }

    fn newest(&self, path: &Path) -> Result<Option<Vec<u8>>, HistoryError> {
        let Some(newest) = self.commits.last() else { return Ok(None) };
        match crate::context::find(self.history, newest.tree, path)? {
            Some((id, _)) => self.history.bytes(id),
            None => Ok(None),
        }
    }

    /// Where each commit has its Dockerfile, which may have moved.
    pub fn dockerfiles(&self) -> Result<Vec<Option<PathBuf>>, HistoryError> {
        let located = locate(self.history, self.commits, &self.request.dockerfile)?;
        Ok(located.dockerfiles.into_iter().map(|found| found.map(|(path, _)| path)).collect())
    }

    /// Which ignore file holds, as a path in the repository.
    pub fn ignore_path(&self) -> Result<PathBuf, HistoryError> {
        let mut own = self.request.dockerfile.clone().into_os_string();
        own.push(".dockerignore");
        let own = PathBuf::from(own);
        Ok(match self.newest(&own)? {
            Some(_) => own,
            None => self.request.context.join(".dockerignore"),
        })
    }

    /// Puts two replays side by side.
    pub fn compare(&self, what: String, without: &Tally, with: &Tally) -> WhatIfReport {
        let rates = |tally: &Tally| {
            let (steps, time, no_run) =
                (tally.steps(self.main), tally.time(self.main), tally.no_run(self.main));
            [steps, time, no_run].map(|(part, of)| crate::report::percent(part, of))
        };
        let lost = |tally: &Tally| {
            let (saved, total) = tally.time(self.main);
            let builds = tally.no_run(self.main).1.max(1);
            seconds((total - saved) / builds)
        };
        let saved = ((lost(without) - lost(with)) * 10.0).round() / 10.0;
        WhatIfReport {
            what,
            without: rates(without),
            with: rates(with),
            saved_seconds_per_build: saved,
        }
    }
}

fn collect(directory: &Directory, at: &TreePath, found: &mut Vec<String>) {
    for entry in &directory.entries {
        let Ok(path) = at.child(&entry.name) else { continue };
        match &entry.node {
            Node::Directory(below) => collect(below, &path, found),
            Node::File { .. } if is_manifest(&path) => found.push(path.to_string()),
            _ => {}
        }
    }
}
