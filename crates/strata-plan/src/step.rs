//! The plan: steps with everything expanded, and the image that they make.

use std::collections::BTreeMap;

use strata_dockerfile::{Network, Script, Security, Sharing, Span};
use strata_oci::{History, Platform, RuntimeConfig};

use crate::{GitSource, ImageName, ImageNeed, RemoteSource, ResolvedImage};

/// A step's place in its plan.
pub type StepIndex = usize;

/// All that a build has to do.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The steps, each after those it uses.
    pub steps: Vec<Step>,
    /// Every instruction of the stages that are needed, in the order of evaluation.
    pub entries: Vec<Entry>,
    /// The image that comes out.
    pub image: PlannedImage,
}

/// An instruction, as a person sees the plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Name of its stage, or its number.
    pub stage: String,
    /// The instruction as written, its lines joined.
    pub text: String,
    /// Where it is.
    pub span: Span,
    /// The step that it is, if it is more than metadata.
    pub step: Option<StepIndex>,
    /// Whether it belongs to the chain of the final image.
    pub in_image: bool,
}

/// What the config of the final image will say.
#[derive(Debug, Clone)]
pub struct PlannedImage {
    /// The step whose root is the image's; none for an empty image.
    pub root: Option<StepIndex>,
    /// What it is for.
    pub platform: Platform,
    /// How it runs.
    pub config: RuntimeConfig,
    /// The MAINTAINER.
    pub author: Option<String>,
    /// The image that it is based on, with all that its config says.
    pub base: Option<ResolvedImage>,
    /// What made it, after the base image's history.
    pub history: Vec<HistoryEntry>,
}

/// One line of the history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistoryEntry {
    /// The line, without its time.
    pub line: History,
    /// The step whose layer it describes.
    pub step: Option<StepIndex>,
}

/// One node of the plan.
#[derive(Debug, Clone)]
pub struct Step {
    /// Name of its stage, or its number.
    pub stage: String,
    /// Which of the stage's instructions it is, from 1; 0 for the base image.
    pub ordinal: usize,
    /// The instruction, for people.
    pub text: String,
    /// Where it is.
    pub span: Span,
    /// The step whose root it starts from; none for an empty root.
    pub parent: Option<StepIndex>,
    /// What it does.
    pub op: Op,
    /// How old a cached result may be, in seconds: a `# cache: ttl=` comment.
    pub ttl_seconds: Option<u64>,
}

/// What a step does.
#[derive(Debug, Clone)]
pub enum Op {
    /// Takes an image.
    Image(Box<ImageOp>),
    /// Copies files in.
    Copy(CopyOp),
    /// Runs a command.
    Run(RunOp),
    /// Makes the working directory.
    MakeDirectory(MakeDirectoryOp),
}

/// `FROM image`.
#[derive(Debug, Clone)]
pub struct ImageOp {
    /// Which image.
    pub need: ImageNeed,
    /// What it is at the moment.
    pub image: ResolvedImage,
}

impl ImageOp {
    /// The image's name.
    pub fn name(&self) -> &ImageName {
        &self.need.name
    }
}

/// Where files come from.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// A build context: the main one has the empty name.
    Context(String),
    /// The root that a step gives; none for an empty root.
    Step(Option<StepIndex>),
}

/// `COPY` and `ADD`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CopyOp {
    /// Where the sources are looked up.
    pub from: Source,
    /// What is copied, in order.
    pub sources: Vec<CopySource>,
    /// Files written out in the Dockerfile, after the sources.
    pub inline: Vec<InlineFile>,
    /// Absolute; ends with a slash if it must be a directory.
    pub dest: String,
    /// `--chown`, by names or numbers.
    pub chown: Option<String>,
    /// `--chmod`.
    pub chmod: Option<Chmod>,
    /// `--exclude`.
    pub exclude: Vec<String>,
    /// `--parents`.
    pub parents: bool,
    /// `--link`.
    pub link: bool,
    /// Whether archives are unpacked.
    pub unpack: bool,
    /// Whether it is an `ADD`.
    pub is_add: bool,
}

impl CopyOp {
    /// Whether files of the instruction's own source are copied.
    pub fn has_paths(&self) -> bool {
        self.sources.iter().any(|source| source.remote.is_none())
    }

    /// What is fetched, with the number of the source.
    pub fn remotes(&self) -> impl Iterator<Item = (usize, &RemoteSource)> {
        let numbered = self.sources.iter().enumerate();
        numbered.filter_map(|(number, source)| Some((number, source.remote.as_ref()?)))
    }

    /// The git repositories among what is fetched.
    pub fn repositories(&self) -> impl Iterator<Item = (usize, &GitSource)> {
        self.remotes().filter_map(|(number, source)| match source {
            RemoteSource::Git(source) => Some((number, source)),
            RemoteSource::Http(_) => None,
        })
    }
}

/// One source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CopySource {
    /// A path or pattern below the source's root, without leading slash. Of what is fetched, it
    /// is the path itself: the file's name, or nothing for a repository.
    pub pattern: String,
    /// What is fetched; none for a path of the instruction's own source.
    pub remote: Option<RemoteSource>,
    /// Where it is written.
    pub span: Span,
}

/// A here-document of `COPY` or `ADD`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InlineFile {
    /// The file's name.
    pub name: String,
    /// What is in it.
    pub content: String,
}

/// `--chmod`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Chmod {
    /// All permission bits, up to `0o7777`.
    Octal(u32),
    /// Such as `u=rwX,go=rX`.
    Symbolic(String),
}

/// `RUN`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunOp {
    /// Program and arguments.
    pub argv: Vec<String>,
    /// The file that `argv` names, for a here-document with a `#!`.
    pub script: Option<Script>,
    /// The environment, from the image, `ENV` and `ARG`.
    pub env: BTreeMap<String, String>,
    /// Proxy variables: given to the process, in no key and no history.
    pub proxies: BTreeMap<String, String>,
    /// Where it runs.
    pub cwd: String,
    /// `USER`; empty for root.
    pub user: String,
    /// The machine's name, where `BUILDKIT_SANDBOX_HOSTNAME` gives one.
    pub hostname: Option<String>,
    /// The network.
    pub network: Network,
    /// The sandbox.
    pub security: Security,
    /// `--mount`, in order.
    pub mounts: Vec<RunMount>,
    /// What the process runs on.
    pub platform: Platform,
}

/// `RUN --mount`. Targets are absolute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RunMount {
    /// Files of a context or a step.
    Bind {
        /// Where from.
        from: Source,
        /// The path there, without leading slash; empty for all.
        source: String,
        /// Where to.
        target: String,
        /// Whether writing fails; else what is written is lost.
        read_only: bool,
    },
    /// A directory that outlives the build.
    Cache {
        /// Its name.
        id: String,
        /// Where to.
        target: String,
        /// What an empty one begins as: source and path.
        seed: Option<(Source, String)>,
        /// Who may use it at the same time.
        sharing: Sharing,
        /// Mode of a new one.
        mode: u32,
        /// Owner of a new one.
        uid: u32,
        /// Group of a new one.
        gid: u32,
        /// Whether writing fails.
        read_only: bool,
    },
    /// Memory.
    Tmpfs {
        /// Where to.
        target: String,
        /// The most it holds, in bytes.
        size_bytes: Option<u64>,
    },
    /// A secret.
    Secret {
        /// Its name.
        id: String,
        /// The file that holds it.
        target: Option<String>,
        /// The variable that holds it.
        env: Option<String>,
        /// Whether the step fails without it.
        required: bool,
        /// The file's mode.
        mode: u32,
        /// The file's owner.
        uid: u32,
        /// The file's group.
        gid: u32,
    },
    /// An ssh agent.
    Ssh {
        /// Its name.
        id: String,
        /// The socket.
        target: Option<String>,
        /// Whether the step fails without it.
        required: bool,
        /// The socket's mode.
        mode: u32,
        /// The socket's owner.
        uid: u32,
        /// The socket's group.
        gid: u32,
    },
}

impl RunMount {
    /// Where to, as far as the Dockerfile or a default of its says.
    pub fn target(&self) -> Option<&str> {
        match self {
            Self::Bind { target, .. } | Self::Cache { target, .. } | Self::Tmpfs { target, .. } => {
                Some(target)
            }
            Self::Secret { target, .. } | Self::Ssh { target, .. } => target.as_deref(),
        }
    }
}

/// `WORKDIR`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MakeDirectoryOp {
    /// Absolute.
    pub path: String,
    /// `USER`, who owns what is made; empty for root.
    pub user: String,
}
