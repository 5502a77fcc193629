//! What a plan is made from, and what comes back when something is missing.

use std::collections::BTreeMap;

use strata_dockerfile::{Diagnostic, SyntaxTree};
use strata_oci::{Digest, ImageConfig, Platform, Reference};

use crate::Plan;
use crate::evaluate::Evaluation;

/// What a build asks for.
#[derive(Debug, Clone)]
pub struct Request<'a> {
    /// The Dockerfile, without errors.
    pub tree: &'a SyntaxTree,
    /// The stage to build, by name or number; the last one if not given.
    pub target: Option<String>,
    /// `--build-arg`.
    pub build_args: BTreeMap<String, String>,
    /// What the image is for.
    pub platform: Platform,
    /// What the build runs on.
    pub build_platform: Platform,
    /// `--build-context`, by name.
    pub contexts: BTreeMap<String, ContextKind>,
    /// `--label`.
    pub labels: BTreeMap<String, String>,
    /// `--network`: the network of a `RUN` that does not say.
    pub network: strata_dockerfile::Network,
}

impl<'a> Request<'a> {
    /// The last stage, for this machine's platform.
    pub fn new(tree: &'a SyntaxTree) -> Self {
        Self {
            tree,
            target: None,
            build_args: BTreeMap::new(),
            platform: Platform::native(),
            build_platform: Platform::native(),
            contexts: BTreeMap::new(),
            labels: BTreeMap::new(),
            network: strata_dockerfile::Network::Default,
        }
    }
}

/// What a named context is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ContextKind {
    /// A directory.
    Directory,
    /// An image.
    Image,
}

/// An image as a Dockerfile names it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ImageName {
    /// By its name in a registry or in the store.
    Reference(Reference),
    /// By a named context.
    Context(String),
}

impl std::fmt::Display for ImageName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Reference(reference) => f.write_str(&reference.familiar()),
            Self::Context(name) => f.write_str(name),
        }
    }
}

/// An image that a plan is based on.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ImageNeed {
    /// Which image.
    pub name: ImageName,
    /// For what platform.
    pub platform: Platform,
    /// Where the Dockerfile asks for it.
    pub span: strata_dockerfile::Span,
}

/// What a plan needs to know of an image.
#[derive(Debug, Clone)]
pub struct ResolvedImage {
    /// The digest that pins it: of its manifest for the platform.
    pub digest: Digest,
    /// Its config.
    pub config: ImageConfig,
}

/// Why there is no plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PlanError {
    /// These images must be known; ask again then.
    Missing(Vec<ImageNeed>),
    /// The Dockerfile, or what was asked of it, is wrong.
    Wrong(Vec<Diagnostic>),
}

/// Makes a plan. `images` says what is known of an image so far.
///
/// # Errors
///
/// [`PlanError::Missing`] with all images that the plan needs and `images` does not know, as far
/// as they can be told without knowing those; [`PlanError::Wrong`] with what is wrong where.
pub fn plan(
    request: &Request<'_>,
    images: &dyn Fn(&ImageNeed) -> Option<ResolvedImage>,
) -> Result<Plan, PlanError> {
    Evaluation::new(request, images).run()
}
