//! Builds that were made, with what became of each of their steps: what `strata why` and
//! `strata builds` tell, and what a new build is compared with.
//!
//! One small file for each build, in a directory that is not the store's database: a build that
//! finds everything writes nothing else, and none waits for another to be remembered. A file is
//! written whole under a new name, never synced: losing the memory of a build loses no result.
//! Format: `docs/formats/build.md`.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use strata_cas::{BlobId, DefinitionKey, TreeId};
use strata_oci::Digest;

use crate::why::{Files, Why};

/// Name and version of the format.
const FORMAT: &str = "strata.build.1";

/// So many builds of each project are remembered.
const KEPT_BUILDS: usize = 50;

/// One build that is over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PastBuild {
    format: String,
    /// What names it: twelve hexadecimal digits.
    pub id: String,
    /// What tells its project from others.
    pub project: String,
    /// When it began, in milliseconds since 1970.
    pub started_millis: u64,
    /// How long it took.
    pub millis: u64,
    /// How it ended.
    pub end: End,
    /// The stage that was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// What the image is for.
    pub platform: String,
    /// The names that the image was given.
    pub names: Vec<String>,
    /// The steps in the plan's order.
    pub steps: Vec<PastStep>,
}

/// How a build ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "end", rename_all = "kebab-case")]
pub enum End {
    /// With an image.
    Built {
        /// The digest of its config.
        image: Digest,
    },
    /// By a failure.
    Failed {
        /// What it said.
        message: String,
    },
    /// By its user.
    Cancelled,
}

/// What became of one step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PastStep {
    /// Name of its stage, or its number.
    pub stage: String,
    /// The instruction, for people.
    pub text: String,
    /// Its first line in the Dockerfile, from 1.
    pub line: usize,
    /// Whether it ran, and why.
    #[serde(flatten)]
    pub verdict: PastVerdict,
    /// Its key, by which its record is found if it is still there; none if it was never known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub definition: Option<DefinitionKey>,
    /// The tree that it gave.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tree: Option<TreeId>,
    /// What it took when it ran, in this build or an earlier one.
    pub millis: u64,
    /// Bytes of file content that it set.
    pub bytes: u64,
    /// What running it again gave, where the build was asked to verify it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verified: Option<Verified>,
}

/// Whether a step ran.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "verdict", rename_all = "kebab-case")]
pub enum PastVerdict {
    /// It was in the cache.
    Hit {
        /// Whether it was found by its parents' trees, not by how they were made.
        by_content: bool,
        /// Whether its layer was made over another root: a COPY or ADD with `--link`.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        by_link: bool,
    },
    /// It ran.
    Ran {
        /// Why.
        why: Why,
    },
    /// It ran and failed, or was cancelled.
    Failed {
        /// Why it ran; none if it failed before that was known.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        why: Option<Why>,
    },
    /// The build ended before.
    NotReached,
}

/// What came of running a hit again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "result", rename_all = "kebab-case")]
pub enum Verified {
    /// It gave the same.
    Same,
    /// It gave something else: the step is not deterministic.
    Differs {
        /// Where.
        files: Files,
    },
    /// It failed this time.
    Failed,
}

impl PastBuild {
    /// A build that begins now; its end and its steps come later.
    pub(crate) fn begin(project: &str, platform: String) -> Self {
        static COUNTER: AtomicU32 = AtomicU32::new(0);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let counter = COUNTER.fetch_add(1, Ordering::Relaxed);
        let seed = format!("{project}\0{}\0{}\0{counter}", now.as_nanos(), std::process::id());
        Self {
            format: FORMAT.to_owned(),
            id: BlobId::of(seed.as_bytes()).to_string()[..12].to_owned(),
            project: project.to_owned(),
            started_millis: u64::try_from(now.as_millis()).unwrap_or_default(),
            millis: 0,
            end: End::Cancelled,
            target: None,
            platform,
            names: Vec::new(),
            steps: Vec::new(),
        }
    }

    /// The step that this text names; see [`crate::find_step`].
    pub fn find_step(&self, text: &str) -> Result<usize, crate::NoStep> {
        let names = self.steps.iter().map(|step| (step.stage.as_str(), step.text.as_str()));
        crate::find_step(names, text)
    }

    /// How many steps were in the cache.
    pub fn hits(&self) -> usize {
        let is_hit = |step: &&PastStep| matches!(step.verdict, PastVerdict::Hit { .. });
        self.steps.iter().filter(is_hit).count()
    }

    /// How many steps ran, failed ones included.
    pub fn runs(&self) -> usize {
        let ran = |step: &&PastStep| {
            matches!(step.verdict, PastVerdict::Ran { .. } | PastVerdict::Failed { .. })
        };
        self.steps.iter().filter(ran).count()
    }
}

/// The builds that a store remembers.
#[derive(Debug, Clone)]
pub struct History {
    directory: PathBuf,
}

impl History {
    /// What is in this directory, which is made when the first build is kept.
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Self { directory: directory.into() }
    }

    /// The builds of a project, or of all, newest first. What can not be read is left out.
    pub fn list(&self, project: Option<&str>) -> io::Result<Vec<PastBuild>> {
        let paths = self.paths(project)?;
        let read = |path: &PathBuf| self.read(path);
        let is_ours = |build: &PastBuild| project.is_none_or(|project| build.project == project);
        Ok(paths.iter().rev().filter_map(read).filter(is_ours).collect())
    }

    /// The latest build of a project.
    pub fn latest(&self, project: &str) -> io::Result<Option<PastBuild>> {
        let paths = self.paths(Some(project))?;
        let read = |path: &PathBuf| self.read(path);
        Ok(paths.iter().rev().filter_map(read).find(|build| build.project == project))
    }

    /// The build that `which` names: a number counts back from 1, the latest; anything else is the
    /// beginning of an id, at least four digits.
    pub fn find(&self, project: Option<&str>, which: &str) -> io::Result<Option<PastBuild>> {
        if let Some(number) = which.parse::<usize>().ok().filter(|_| which.len() < 4) {
            let builds = self.list(project)?;
            return Ok(number.checked_sub(1).and_then(|at| builds.into_iter().nth(at)));
        }
        if which.len() < 4 {
            return Ok(None);
        }
        let mut found = self.list(None)?.into_iter().filter(|build| build.id.starts_with(which));
        Ok(found.next().filter(|_| found.next().is_none()))
    }

    /// Remembers a build, and forgets the oldest ones of its project beyond fifty.
    pub fn keep(&self, build: &PastBuild) -> io::Result<()> {
        std::fs::create_dir_all(&self.directory)?;
        let name = format!(
            "{:014}-{}-{}.json",
            build.started_millis,
            project_digits(&build.project),
            build.id
        );
        let new = self.directory.join(format!("{name}.new"));
        let bytes = serde_json::to_vec(build).map_err(io::Error::other)?;
        std::fs::write(&new, bytes)?;
        std::fs::rename(&new, self.directory.join(name))?;
        let paths = self.paths(Some(&build.project))?;
        for old in &paths[..paths.len().saturating_sub(KEPT_BUILDS)] {
            // Another process may have done it.
            drop(std::fs::remove_file(old));
        }
        Ok(())
    }

    /// The files of a project, or of all, oldest first.
    fn paths(&self, project: Option<&str>) -> io::Result<Vec<PathBuf>> {
        let entries = match std::fs::read_dir(&self.directory) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let middle = project.map(|project| format!("-{}-", project_digits(project)));
        let mut names = Vec::new();
        for entry in entries {
            let Ok(name) = entry?.file_name().into_string() else { continue };
            let is_ours = middle.as_ref().is_none_or(|middle| name.contains(middle));
            if name.ends_with(".json") && is_ours {
                names.push(name);
            }
        }
        names.sort_unstable();
        Ok(names.iter().map(|name| self.directory.join(name)).collect())
    }

    fn read(&self, path: &Path) -> Option<PastBuild> {
        let build: PastBuild = serde_json::from_slice(&std::fs::read(path).ok()?).ok()?;
        (build.format == FORMAT).then_some(build)
    }
}

/// Tells most files of other projects apart by their names.
fn project_digits(project: &str) -> String {
    BlobId::of(project.as_bytes()).to_string()[..8].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn build(project: &str, started_millis: u64) -> PastBuild {
        let step = |text: &str, verdict| PastStep {
            stage: "0".into(),
            text: text.into(),
            line: 2,
            verdict,
            definition: Some(DefinitionKey::from_bytes([1; 32])),
            tree: Some(TreeId::from_bytes([2; 32])),
            millis: 12,
            bytes: 34,
            verified: None,
        };
        PastBuild {
            started_millis,
            id: format!("{started_millis:012x}"),
            end: End::Built { image: Digest::of(b"image") },
            millis: 5,
            names: vec!["app:latest".into()],
            steps: vec![
                step("COPY a /", PastVerdict::Hit { by_content: true, by_link: false }),
                step("RUN b", PastVerdict::Ran { why: Why::Evicted }),
                PastStep {
                    definition: None,
                    tree: None,
                    verified: Some(Verified::Same),
                    ..step("RUN c", PastVerdict::NotReached)
                },
            ],
            ..PastBuild::begin(project, "linux/amd64".into())
        }
    }

    #[test]
    fn what_was_kept_is_listed_newest_first() {
        let directory = tempfile::tempdir().expect("a directory");
        let history = History::new(directory.path().join("builds"));
        assert_eq!(history.list(None).expect("empty"), []);
        for (project, started) in [("p", 0x1000), ("q", 0x2000), ("p", 0x3000)] {
            history.keep(&build(project, started)).expect("kept");
        }
        let started = |builds: Vec<PastBuild>| {
            builds.iter().map(|build| build.started_millis).collect::<Vec<_>>()
        };
        assert_eq!(started(history.list(None).expect("list")), [0x3000, 0x2000, 0x1000]);
        assert_eq!(started(history.list(Some("p")).expect("list")), [0x3000, 0x1000]);
        let latest = history.latest("q").expect("read").expect("there is one");
        assert_eq!((latest.started_millis, latest.hits(), latest.runs()), (0x2000, 1, 1));
        let find = |project, which| {
            history.find(project, which).expect("read").map(|build| build.started_millis)
        };
        assert_eq!(find(Some("p"), "1"), Some(0x3000));
        assert_eq!(find(Some("p"), "2"), Some(0x1000));
        assert_eq!(find(Some("p"), "3"), None);
        assert_eq!(find(None, "0"), None);
        assert_eq!(find(Some("p"), "000000002"), Some(0x2000), "an id is of any project");
        assert_eq!(find(None, "0000"), None, "more than one");
        assert_eq!(find(None, "00a"), None, "too short");
    }

    #[test]
    fn only_the_latest_are_remembered() {
        let directory = tempfile::tempdir().expect("a directory");
        let history = History::new(directory.path());
        history.keep(&build("other", 1)).expect("kept");
        for started in 0..60 {
            history.keep(&build("p", started)).expect("kept");
        }
        let kept = history.list(Some("p")).expect("list");
        assert_eq!((kept.len(), kept[49].started_millis), (KEPT_BUILDS, 10));
        assert_eq!(history.list(None).expect("list").len(), KEPT_BUILDS + 1);
    }

    #[test]
    fn what_is_damaged_or_of_another_version_is_left_out() {
        let directory = tempfile::tempdir().expect("a directory");
        let history = History::new(directory.path());
        history.keep(&build("p", 1)).expect("kept");
        let name = format!("00000000000002-{}-00.json", project_digits("p"));
        std::fs::write(directory.path().join(&name), "{").expect("written");
        let path = history.paths(Some("p")).expect("paths")[0].clone();
        let text = std::fs::read_to_string(path).expect("read");
        let later = text.replace("strata.build.1", "strata.build.2");
        std::fs::write(directory.path().join(name.replace("02", "03")), later).expect("written");
        assert_eq!(history.list(Some("p")).expect("list").len(), 1);
        assert_eq!(history.latest("p").expect("read").expect("one").started_millis, 1);
    }

    #[test]
    fn the_format_does_not_drift() {
        let json = serde_json::to_string_pretty(&build("/home/me/app", 1_764_000_000_123));
        let golden = include_str!("../tests/golden/strata.build.1.json");
        assert_eq!(json.expect("json") + "\n", golden, "a new format needs a new name");
        let read: PastBuild = serde_json::from_str(golden).expect("read back");
        assert_eq!(read, build("/home/me/app", 1_764_000_000_123));
    }
}
