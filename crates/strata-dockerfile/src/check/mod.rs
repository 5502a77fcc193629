//! Checks: what can be built, but hardly means what its author thinks.
//!
//! Names and meaning of most rules are those of BuildKit's linter (`docker build --check`), so
//! that a file's `# check=` directive means the same here; a few more are about what the cache
//! suffers from. One file per rule in `rules`. Nothing is read: whoever calls says what images
//! and the ignore file hold, if it knows.

mod options;
mod outline;
mod rules;
mod subject;

use std::collections::BTreeMap;

pub use outline::{Outline, OutlineArgument, OutlineMount, Target, outline, targets};
pub use rules::{Origin, Rule, sounds_secret};
pub use subject::BaseImage;

use crate::diagnostic::Diagnostic;
use crate::{DirectiveName, Parse, Severity, Span, foreign_frontend};
use options::Options;
use subject::Subject;

/// The build argument that stands in for the file's own `# check=` directive.
pub const CHECK_ARGUMENT: &str = "BUILDKIT_DOCKERFILE_CHECK";

/// The code of the error about options that are none, in the file or in the build argument.
pub const INVALID_CHECK_OPTION: &str = "invalid-check-option";

/// What the checks need to know besides the file.
#[derive(Clone, Copy)]
pub struct CheckRequest<'a> {
    /// The build arguments that were given.
    pub build_args: &'a BTreeMap<String, String>,
    /// The stage to build, by name or number; none is the last one.
    pub target: Option<&'a str>,
    /// Whether stages that the target does not need are checked too.
    pub all_stages: bool,
    /// What the image is for, such as `linux/amd64`.
    pub platform: &'a str,
    /// What builds it.
    pub build_platform: &'a str,
    /// Whether the ignore file leaves this path of the context out. None if there are no
    /// rules, or if `!` brings paths back: then a directory's fate says nothing about its files.
    pub is_ignored: Option<&'a dyn Fn(&str) -> bool>,
    /// What a `COPY` or `ADD` of this source takes along that hardly belongs into an image.
    pub shipped: &'a dyn Fn(&str) -> Vec<Shipped>,
    /// Whether a text can be an image's name.
    pub is_image_name: &'a dyn Fn(&str) -> bool,
    /// What is known about a base image, if anything is.
    pub base_image: &'a dyn Fn(&str) -> Option<BaseImage>,
}

impl<'a> CheckRequest<'a> {
    /// All stages, for `linux/amd64`, with nothing known about images and the context.
    #[must_use]
    pub fn new(build_args: &'a BTreeMap<String, String>) -> Self {
        Self {
            build_args,
            target: None,
            all_stages: true,
            platform: "linux/amd64",
            build_platform: "linux/amd64",
            is_ignored: None,
            shipped: &|_| Vec::new(),
            is_image_name: &|_| true,
            base_image: &|_| None,
        }
    }
}

/// A path of the context that hardly belongs into an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shipped {
    /// Where it is, relative to the context.
    pub path: String,
    /// What it is.
    pub what: ShippedKind,
}

/// What hardly belongs into an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ShippedKind {
    /// A repository's own files.
    Repository,
    /// Dependencies that were installed outside.
    Dependencies,
    /// A file that looks like a secret.
    Secret,
}

/// What the checks found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckReport {
    /// Errors and warnings in the order of the file: the parser's and the rules'.
    pub findings: Vec<Diagnostic>,
    /// Whether the file, or who builds it, wants warnings to stop a build.
    pub as_error: bool,
}

impl CheckReport {
    /// The rules whose warnings stop the build, sorted: none unless that was asked for, and only
    /// those that stop it in BuildKit too.
    #[must_use]
    pub fn violated(&self) -> Vec<&'static str> {
        let findings = self.findings.iter().filter(|_| self.as_error);
        let names = findings.filter_map(|finding| Rule::find(finding.code));
        let names = names.filter(|rule| rule.origin == Origin::BuildKit).map(|rule| rule.name);
        names.collect::<std::collections::BTreeSet<_>>().into_iter().collect()
    }
}

/// Checks a file that was read. A file with errors is checked only for what its words say.
///
/// ```
/// use strata_dockerfile::{CheckRequest, check, parse};
///
/// let arguments = Default::default();
/// let report = check(&parse(b"FROM scratch AS Base\n"), &CheckRequest::new(&arguments));
/// assert_eq!(report.findings[0].code, "StageNameCasing");
/// ```
#[must_use]
pub fn check(parse: &Parse, request: &CheckRequest<'_>) -> CheckReport {
    let mut findings = parse.diagnostics.clone();
    let options = match options(parse, request) {
        Ok(options) => options,
        Err(wrong) => {
            findings.push(*wrong);
            Options::default()
        }
    };
    let subject = Subject::new(&parse.tree, request);
    findings.extend(foreign_frontend(&parse.tree, request.build_args));
    findings.extend(subject.unknown_target());
    let rules = Rule::ALL.iter().filter(|rule| rule.of_words || !parse.has_errors());
    rules.for_each(|rule| (rule.check)(&subject, &mut findings));
    let skips = inline_skips(parse);
    findings.retain(|finding| {
        let skipped = |(span, skip): &(Span, Options)| {
            span.range().contains(&finding.span.start) && skip.skips(finding.code)
        };
        finding.is_error() || options.allows(finding.code) && !skips.iter().any(skipped)
    });
    findings.sort_by_key(|finding| (finding.span.start, finding.severity == Severity::Warning));
    CheckReport { findings, as_error: options.error }
}

/// The options of the build argument, else those of the directive.
fn options(parse: &Parse, request: &CheckRequest<'_>) -> Result<Options, Box<Diagnostic>> {
    let directive = parse.tree.directive(DirectiveName::Check);
    let (text, span) = match (request.build_args.get(CHECK_ARGUMENT), directive) {
        (Some(text), _) => (text.as_str(), Span::default()),
        (None, Some(directive)) => (directive.value.as_str(), directive.value_span),
        (None, None) => return Ok(Options::default()),
    };
    Options::parse(text).map_err(|part| {
        let message = format!("`{part}` is not a check option");
        let hint = "write `skip=RULE,RULE`, `experimental=RULE,RULE` or `error=true`, with `;` \
                    between them";
        Box::new(Diagnostic::error(INVALID_CHECK_OPTION, span, message).hint(hint))
    })
}

/// What `# check=skip=RULE` above an instruction says, and the instruction's place.
fn inline_skips(parse: &Parse) -> Vec<(Span, Options)> {
    let mut skips = Vec::new();
    for instruction in parse.tree.instructions() {
        let texts = instruction.comments.iter().filter_map(options::inline);
        let read = texts.filter_map(|text| Options::parse(text).ok());
        let start = instruction.comments.first().map_or(0, |comment| comment.span.start);
        let span = Span::new(start, instruction.span.end);
        skips.extend(read.map(|options| (span, options)));
    }
    skips
}
