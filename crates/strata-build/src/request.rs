//! What is asked for, and what comes back.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use strata_cas::Cost;
use strata_dockerfile::{Network, Span};
use strata_engine::{Verdict, Verify};
use strata_exec::Limits;
use strata_oci::{Digest, Platform, Reference};
use strata_plan::{RemoteSource, StepIndex};

use crate::{FetchedTree, Material};

/// One build.
#[derive(Debug, Clone)]
pub struct BuildRequest {
    /// The Dockerfile.
    pub dockerfile: Vec<u8>,
    /// The contexts by name; the main one has the empty name.
    pub contexts: BTreeMap<String, Context>,
    /// The stage to build.
    pub target: Option<String>,
    /// `--build-arg`.
    pub build_args: BTreeMap<String, String>,
    /// `--label`.
    pub labels: BTreeMap<String, String>,
    /// What the image is for.
    pub platform: Platform,
    /// `--network`.
    pub network: Network,
    /// Stages, by name or number, whose steps run whatever the cache says; all, if it holds an
    /// empty name.
    pub no_cache: BTreeSet<String>,
    /// Steps that run whatever the cache says, each as [`crate::find_step`] takes it.
    pub rerun: Vec<String>,
    /// A sample of the hits that run again, to see whether they give the same.
    pub verify: Option<Verify>,
    /// Whether base images are looked up in their registries although they are in the store.
    pub pull: bool,
    /// Names that the image gets.
    pub tags: Vec<Reference>,
    /// What the user has allowed: `network.host`, `security.insecure`.
    pub allow: BTreeSet<String>,
    /// `--add-host`: names and addresses for commands.
    pub extra_hosts: Vec<(String, String)>,
    /// How much each command may use. In no key.
    pub limits: Limits,
    /// Size of `/dev/shm` in bytes, if not the default. In no key.
    pub shm_bytes: Option<u64>,
    /// How many steps may run at a time; 0 for as many as there are processors.
    pub jobs: usize,
    /// `SOURCE_DATE_EPOCH`: the time that config and history get, in seconds since 1970.
    pub epoch: Option<i64>,
    /// What tells this project's earlier builds from those of others, for explanations only.
    pub project: String,
}

impl BuildRequest {
    /// A build of this Dockerfile without any context or option.
    pub fn new(dockerfile: impl Into<Vec<u8>>) -> Self {
        Self {
            dockerfile: dockerfile.into(),
            contexts: BTreeMap::new(),
            target: None,
            build_args: BTreeMap::new(),
            labels: BTreeMap::new(),
            platform: Platform::native(),
            network: Network::Default,
            no_cache: BTreeSet::new(),
            rerun: Vec::new(),
            verify: None,
            pull: false,
            tags: Vec::new(),
            allow: BTreeSet::new(),
            extra_hosts: Vec::new(),
            limits: Limits::default(),
            shm_bytes: None,
            jobs: 0,
            epoch: None,
            project: String::new(),
        }
    }
}

/// Where files of a context come from.
#[derive(Debug, Clone)]
pub enum Context {
    /// A directory on this machine.
    Directory {
        /// Where it is.
        path: PathBuf,
        /// The text of its ignore file; empty if there is none.
        ignore: Vec<u8>,
    },
    /// Files that were brought into the store: an archive's, or those of a remote context.
    Tree(FetchedTree),
    /// Files that are fetched when a step wants them.
    Remote(RemoteSource),
    /// An image in the store or in a registry.
    Image(Reference),
    /// An image in an OCI layout or in an archive.
    Archive {
        /// The directory or tar file.
        path: PathBuf,
        /// Tag or digest of the image in it; not needed if there is only one.
        name: Option<String>,
    },
}

/// What a build gave.
#[derive(Debug, Clone)]
pub struct BuildReport {
    /// The image's id: the digest of its config.
    pub image: Digest,
    /// The id under which the build is remembered.
    pub build: String,
    /// Layers of the base image among them.
    pub base_layers: usize,
    /// For each line that the build added to the image's history, the step that it is about.
    pub history: Vec<Option<StepIndex>>,
    /// The steps in the plan's order.
    pub steps: Vec<StepReport>,
    /// What the build took from elsewhere.
    pub materials: Vec<Material>,
    /// Layers in the image, the base's included.
    pub layers: usize,
    /// Bytes of all layers, uncompressed.
    pub bytes: u64,
}

/// What became of one step.
#[derive(Debug, Clone)]
pub struct StepReport {
    /// Which step of the plan.
    pub step: StepIndex,
    /// Its stage.
    pub stage: String,
    /// The instruction.
    pub text: String,
    /// Where it is in the Dockerfile.
    pub span: Span,
    /// Whether it ran, and why.
    pub verdict: Verdict,
    /// What it cost when it ran, now or earlier.
    pub cost: Cost,
}

/// What a build would do.
#[derive(Debug, Clone)]
pub struct Forecast {
    /// The plan.
    pub plan: strata_plan::Plan,
    /// For each step whether it would be a hit, as far as it can be told without running.
    pub outlook: Vec<Outlook>,
    /// Layers of the base image.
    pub base_layers: usize,
}

/// Whether a step would run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outlook {
    /// It is in the cache.
    Hit,
    /// It would run.
    Run,
    /// It follows a step that would run: it may still be a hit, if that gives what it gave before.
    Depends,
}
