//! Why a step ran, in the Dockerfile's terms: paths as its author knows them, variables by the
//! instruction that declares them. It is data, for records of builds and for programs; the
//! sentences are the program's.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use strata_cas::{Diff, Difference, Node, Standing, TreeChange, TreePath};
use strata_engine::{FactChange, MissReason};
use strata_plan::{CopyOp, CopySource, Op, Plan, RunMount, Step, StepIndex};

use crate::history::{PastBuild, PastVerdict};
use crate::remember::cut;

/// Why a step ran.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "reason", rename_all = "kebab-case")]
pub enum Why {
    /// No build of this project has had any step here.
    First,
    /// The build before did not have this instruction.
    New,
    /// It failed in the build before.
    FailedBefore,
    /// The user asked for it.
    Forced,
    /// Its result was older than its `# cache: ttl=` allows.
    Expired {
        /// How old it was.
        age_seconds: u64,
        /// How old it may be.
        ttl_seconds: u64,
    },
    /// Its result was in the store and is not there any more.
    Evicted,
    /// What it does, or what it is given, differs from the nearest earlier build.
    Changed {
        /// What differs, at least one.
        changes: Vec<Change>,
    },
    /// It does the same, on other files: an earlier step gave another tree.
    Input {
        /// The step that gave it, by its place in the plan from 0.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        from: Option<StepIndex>,
        /// What differs in it.
        files: Files,
    },
}

/// One thing that differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "kebab-case")]
pub enum Change {
    /// A variable that the step sees.
    Variable {
        /// The instruction that declares it: `ARG` or `ENV`; `env` if none in the Dockerfile does.
        declared: String,
        /// Its name.
        name: String,
        /// Its value in the earlier build; none if it had none.
        old: Option<String>,
        /// Its value now.
        new: Option<String>,
    },
    /// The image that a tag stands for.
    Base {
        /// Its name in the Dockerfile.
        image: String,
        /// Its digest in the earlier build.
        old: String,
        /// Its digest now.
        new: String,
    },
    /// Another instruction stood here.
    Instruction {
        /// What it did: `run`, `copy`, `image` or `directory`.
        old: String,
        /// What it does.
        new: String,
    },
    /// Anything else that has a text: `command`, `destination`, `user`.
    Text {
        /// What it is.
        name: String,
        /// As it was; none if it was not there.
        old: Option<String>,
        /// As it is.
        new: Option<String>,
    },
    /// Files.
    Files {
        /// Which ones, if not those that a COPY or ADD copies: ``mount `/src` ``.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        name: Option<String>,
        /// What differs.
        #[serde(flatten)]
        files: Files,
    },
}

/// Files that differ.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Files {
    /// How many there are.
    pub total: usize,
    /// The first of them.
    pub listed: Vec<ChangedFile>,
}

/// One file that differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangedFile {
    /// Its path as the user knows it.
    pub path: String,
    /// How it differs.
    pub change: How,
    /// What it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub old: Option<FileState>,
    /// What it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub new: Option<FileState>,
}

/// How a file differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum How {
    /// It is new.
    Added,
    /// It is gone.
    Removed,
    /// Its bytes, its type or where it points.
    Content,
    /// Its mode only.
    Mode,
    /// Its owner or extended attributes, and perhaps its mode.
    Owner,
}

/// What a file is, as a layer has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileState {
    /// `file`, `directory`, `symlink` or `device`.
    pub kind: String,
    /// Permissions in octal, with setuid, setgid and sticky.
    pub mode: String,
    /// Owner and group by number.
    pub owner: String,
    /// Bytes, of a file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// BLAKE3 of a file's bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blake3: Option<String>,
    /// Where a link points.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
}

/// Puts an engine's reason into the plan's terms. `earlier` is the project's build before.
pub(crate) fn explain(
    plan: &Plan,
    step: StepIndex,
    reason: &MissReason,
    earlier: Option<&PastBuild>,
) -> Why {
    let planned = &plan.steps[step];
    let terms = Terms { plan, step: planned };
    match reason {
        MissReason::First => first(planned, earlier),
        MissReason::Forced => Why::Forced,
        MissReason::Expired { age_seconds, ttl_seconds } => {
            Why::Expired { age_seconds: *age_seconds, ttl_seconds: *ttl_seconds }
        }
        MissReason::Evicted => Why::Evicted,
        MissReason::Changed(changes) => Why::Changed { changes: terms.changes(changes) },
        MissReason::Input { input, paths } => {
            // The parent comes first among the inputs, if there is one.
            let slices = || crate::session::sources(&planned.op).into_iter();
            let mut steps =
                planned.parent.into_iter().chain(slices().filter_map(|(_, source)| match source {
                    strata_plan::Source::Step(step) => *step,
                    strata_plan::Source::Context(_) => None,
                }));
            Why::Input { from: steps.nth(*input), files: terms.files(paths) }
        }
    }
}

/// Why nothing is remembered of a step.
fn first(planned: &Step, earlier: Option<&PastBuild>) -> Why {
    let Some(earlier) = earlier else { return Why::First };
    let text = cut(&planned.text);
    match earlier.steps.iter().find(|past| past.text == text).map(|past| &past.verdict) {
        None => Why::New,
        Some(PastVerdict::NotReached) => Why::First,
        Some(PastVerdict::Failed { .. }) => Why::FailedBefore,
        // Its slot is forgotten, too.
        Some(PastVerdict::Hit { .. } | PastVerdict::Ran { .. }) => Why::Evicted,
    }
}

/// What differs in what a step gives.
pub(crate) fn differing_files(plan: &Plan, step: StepIndex, paths: &Diff) -> Files {
    Terms { plan, step: &plan.steps[step] }.files(paths)
}

/// What the Dockerfile calls the things that a reason is about.
struct Terms<'a> {
    plan: &'a Plan,
    step: &'a Step,
}

impl Terms<'_> {
    fn changes(&self, changes: &[FactChange]) -> Vec<Change> {
        let other = changes.iter().find_map(|change| match change {
            FactChange::Text { name, old: Some(old), new: Some(new) } if name == "kind" => {
                Some(Change::Instruction { old: old.clone(), new: new.clone() })
            }
            _ => None,
        });
        match other {
            // All else differs, too, and tells nothing.
            Some(other) => vec![other],
            None => changes.iter().map(|change| self.change(change)).collect(),
        }
    }

    fn change(&self, change: &FactChange) -> Change {
        match change {
            FactChange::Files { name, paths } => {
                let name = Some(self.mounted(name)).filter(|name| name != "files");
                Change::Files { name, files: self.files(paths) }
            }
            FactChange::Text { name, old: Some(old), new: Some(new) } if name == "image" => {
                let image = match &self.step.op {
                    Op::Image(image) => image.name().to_string(),
                    _ => String::new(),
                };
                Change::Base { image, old: old.clone(), new: new.clone() }
            }
            FactChange::Text { name, old, new } => match name.split_once(' ') {
                Some(("env", variable)) => Change::Variable {
                    declared: variables(self.plan).get(variable).unwrap_or(&"env").to_string(),
                    name: variable.to_owned(),
                    old: old.clone(),
                    new: new.clone(),
                },
                _ => Change::Text { name: self.mounted(name), old: old.clone(), new: new.clone() },
            },
        }
    }

    /// What the Dockerfile calls a mount that a fact has a number for: `mount 0 files`, `mount 0`.
    fn mounted(&self, name: &str) -> String {
        let number = name.strip_prefix("mount ").map(|rest| rest.trim_end_matches(" files"));
        let number = number.and_then(|number| number.parse::<usize>().ok());
        let Op::Run(run) = &self.step.op else { return name.to_owned() };
        let target = number.and_then(|number| run.mounts.get(number)).and_then(RunMount::target);
        target.map_or_else(|| name.to_owned(), |target| format!("mount `{target}`"))
    }

    fn files(&self, paths: &Diff) -> Files {
        let Diff { listed, total } = paths;
        let changed = |difference: &Difference| {
            let Difference { path, change, old, new } = difference;
            let change = match (change, old, new) {
                (TreeChange::Added, ..) => How::Added,
                (TreeChange::Removed, ..) => How::Removed,
                (TreeChange::Content, ..) => How::Content,
                (TreeChange::Metadata, Some(old), Some(new)) if only_mode(old, new) => How::Mode,
                (TreeChange::Metadata, ..) => How::Owner,
            };
            let [old, new] = [old, new].map(|it| it.as_ref().map(state));
            ChangedFile { path: self.path(path), change, old, new }
        };
        Files { total: *total, listed: listed.iter().map(changed).collect() }
    }

    /// A path among the files that an instruction selects, as the user knows it. There, each match
    /// has a number, and below it `name NAME` for a file, `contents/…` for a directory.
    fn path(&self, path: &TreePath) -> String {
        let text = path.to_string();
        let (number, rest) = text.split_once('/').unwrap_or((&text, ""));
        let (Ok(number), true) = (number.parse::<usize>(), number.len() == 8) else { return text };
        let source = self.source(number);
        let rest = rest.strip_prefix("contents").unwrap_or(rest).trim_start_matches('/');
        let named = match (rest.strip_prefix("name "), &source) {
            (Some(_), Some(source)) => source.clone(),
            (Some(name), None) => name.to_owned(),
            (None, Some(source)) if !source.is_empty() => format!("{source}/{rest}"),
            (None, _) => rest.to_owned(),
        };
        match named.trim_matches('/') {
            "" => ".".to_owned(),
            named => named.to_owned(),
        }
    }

    /// What a match is called in the Dockerfile, where each source is one match.
    fn source(&self, number: usize) -> Option<String> {
        let Op::Copy(copy) = &self.step.op else { return None };
        let CopyOp { sources, parents: false, .. } = copy else { return None };
        let is_pattern = |source: &CopySource| source.pattern.contains(['*', '?', '[', '\\']);
        if sources.iter().any(is_pattern) {
            return None;
        }
        let source = sources.get(number)?;
        match &source.remote {
            Some(remote) => Some(remote.shown()),
            None => Some(TreePath::normalise(source.pattern.as_bytes()).to_string()),
        }
    }
}

fn only_mode(old: &Standing, new: &Standing) -> bool {
    let mut same_mode = old.metadata.clone();
    same_mode.mode = new.metadata.mode;
    same_mode == new.metadata
}

fn state(standing: &Standing) -> FileState {
    let Standing { node, metadata } = standing;
    let (kind, size, blake3, target) = match node {
        Node::Directory(_) => ("directory", None, None, None),
        Node::File(file) => ("file", Some(file.size), Some(file.blob.to_string()), None),
        Node::Symlink { target, .. } => {
            ("symlink", None, None, Some(String::from_utf8_lossy(target).into_owned()))
        }
        Node::Device { .. } => ("device", None, None, None),
    };
    FileState {
        kind: kind.to_owned(),
        mode: format!("{:04o}", metadata.mode),
        owner: format!("{}:{}", metadata.uid, metadata.gid),
        size,
        blake3,
        target,
    }
}

/// The instruction that declares each variable; one that `ENV` sets is not what `ARG` says.
fn variables(plan: &Plan) -> BTreeMap<String, &'static str> {
    let mut variables = BTreeMap::new();
    for entry in &plan.entries {
        let mut words = entry.text.split_whitespace();
        let kind = match words.next().map(str::to_ascii_uppercase).as_deref() {
            Some("ARG") => "ARG",
            Some("ENV") => "ENV",
            _ => continue,
        };
        for (at, word) in words.enumerate() {
            // The old form `ENV NAME VALUE WITH WORDS` has one name only.
            if at > 0 && kind == "ENV" && !word.contains('=') {
                continue;
            }
            let name = word.split('=').next().unwrap_or(word);
            if variables.get(name) != Some(&"ENV") {
                variables.insert(name.to_owned(), kind);
            }
        }
    }
    variables
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan_of(text: &str) -> Plan {
        let parse = strata_dockerfile::parse(text.as_bytes());
        let plan = strata_plan::plan(&strata_plan::Request::new(&parse.tree), &|_| None);
        plan.expect("a plan")
    }

    #[test]
    fn selected_files_are_called_what_the_dockerfile_calls_them() {
        let check = |instruction: &str, path: &str, expected: &str| {
            let plan = plan_of(&format!("FROM scratch\n{instruction}\n"));
            let terms = Terms { plan: &plan, step: &plan.steps[0] };
            assert_eq!(terms.path(&TreePath::new(path).expect("a path")), expected);
        };
        check("COPY src /app", "00000000/contents/a.js", "src/a.js");
        check("COPY . /app", "00000000/contents/src/a.js", "src/a.js");
        check("COPY . /app", "00000000/contents", ".");
        check("COPY a ./lib/b.js /app/", "00000001/name b.js", "lib/b.js");
        check("COPY a b /app/", "00000001", "b");
        check("COPY *.js /app/", "00000003/name b.js", "b.js");
        check("COPY lib* /app/", "00000003/contents/b.js", "b.js");
    }

    #[test]
    fn variables_are_what_declares_them() {
        let plan = plan_of("FROM scratch\nARG A=1 B\nARG C\nENV C=$C D=\"x y\"\nENV E f\n");
        let variables = variables(&plan);
        let kinds: Vec<_> = variables.iter().map(|(name, kind)| (name.as_str(), *kind)).collect();
        assert_eq!(kinds, [("A", "ARG"), ("B", "ARG"), ("C", "ENV"), ("D", "ENV"), ("E", "ENV")]);
    }

    #[test]
    fn a_reason_is_json_with_all_that_is_known() {
        use strata_cas::{BlobId, File, Metadata};
        let file = |text: &str, mode| {
            let metadata = Metadata::root(mode);
            let (blob, size) = (BlobId::of(text.as_bytes()), text.len() as u64);
            let node = Node::File(File { blob, size, metadata: metadata.clone() });
            Some(Standing { node, metadata })
        };
        let difference = |path: &str, change, old, new| {
            let path = TreePath::new(format!("00000000/contents/{path}")).expect("a path");
            Difference { path, change, old, new }
        };
        let listed = vec![
            difference("a", TreeChange::Content, file("1", 0o644), file("22", 0o755)),
            difference("b", TreeChange::Metadata, file("1", 0o644), file("1", 0o755)),
            difference("c", TreeChange::Added, None, file("1", 0o644)),
        ];
        let paths = Diff { listed, total: 9 };
        let changed = MissReason::Changed(vec![FactChange::Files { name: "files".into(), paths }]);
        let plan = plan_of("FROM scratch\nCOPY src /\n");
        let why = explain(&plan, 0, &changed, None);
        let json = serde_json::to_value(&why).expect("json");
        assert_eq!(json["reason"], "changed");
        let change = &json["changes"][0];
        assert_eq!((&change["what"], &change["total"]), (&"files".into(), &9.into()));
        let first = &change["listed"][0];
        assert_eq!((&first["path"], &first["change"]), (&"src/a".into(), &"content".into()));
        assert_eq!((&first["old"]["size"], &first["new"]["mode"]), (&1.into(), &"0755".into()));
        assert_eq!(change["listed"][1]["change"], "mode");
        assert_eq!(change["listed"][2]["old"], serde_json::Value::Null);
        assert_eq!(serde_json::from_value::<Why>(json).expect("read back"), why);
    }

    #[test]
    fn what_the_build_before_knew_of_a_step_that_nothing_is_kept_of() {
        let plan = plan_of("FROM scratch\nCOPY src /\n");
        let mut earlier = PastBuild::begin("p", "linux/amd64".to_owned());
        let mut why = |verdict: Option<PastVerdict>| {
            let step = |verdict| crate::history::PastStep {
                stage: "0".into(),
                text: "COPY src /".into(),
                line: 2,
                verdict,
                definition: None,
                tree: None,
                millis: 0,
                bytes: 0,
                verified: None,
            };
            earlier.steps = verdict.into_iter().map(step).collect();
            explain(&plan, 0, &MissReason::First, Some(&earlier))
        };
        assert_eq!(why(None), Why::New);
        assert_eq!(why(Some(PastVerdict::NotReached)), Why::First);
        assert_eq!(why(Some(PastVerdict::Failed { why: None })), Why::FailedBefore);
        assert_eq!(why(Some(PastVerdict::Hit { by_content: false, by_link: false })), Why::Evicted);
        assert_eq!(explain(&plan, 0, &MissReason::First, None), Why::First);
    }
}
