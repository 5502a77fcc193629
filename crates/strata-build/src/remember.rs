//! What a build in progress writes down of itself, to be remembered when it is over.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use strata_engine::{Found, Outcome, Verdict};
use strata_oci::Reference;
use strata_plan::{Plan, Step, StepIndex};

use crate::history::{End, History, PastBuild, PastStep, PastVerdict, Verified};
use crate::why::Why;
use crate::{BuildError, BuildReport, BuildRequest};

/// A longer instruction is cut: a here-document may be a file of any size.
const TEXT_LIMIT_BYTES: usize = 4 << 10;

/// A build in progress.
pub(crate) struct Remembering {
    began: Instant,
    build: Mutex<PastBuild>,
}

impl Remembering {
    /// Begins with the plan: no step is reached yet.
    pub(crate) fn begin(request: &BuildRequest, plan: &Plan) -> Self {
        let mut build = PastBuild::begin(&request.project, plan.image.platform.to_string());
        build.target.clone_from(&request.target);
        build.names = request.tags.iter().map(Reference::familiar).collect();
        build.steps = plan.steps.iter().map(|step| unreached(request, step)).collect();
        Self { began: Instant::now(), build: Mutex::new(build) }
    }

    fn build(&self) -> MutexGuard<'_, PastBuild> {
        self.build.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A step is about to run.
    pub(crate) fn running(&self, step: StepIndex, why: Why) {
        // Until it is done, it is one that failed.
        self.build().steps[step].verdict = PastVerdict::Failed { why: Some(why) };
    }

    /// A step is done.
    pub(crate) fn done(&self, step: StepIndex, outcome: &Outcome) {
        let step = &mut self.build().steps[step];
        step.definition = Some(outcome.definition);
        step.tree = Some(outcome.record.tree);
        (step.millis, step.bytes) = (outcome.record.cost.millis, outcome.record.cost.bytes);
        let verdict = std::mem::replace(&mut step.verdict, PastVerdict::NotReached);
        step.verdict = match (&outcome.verdict, verdict) {
            (Verdict::Hit(found), _) => PastVerdict::Hit {
                by_content: *found == Found::ByContent,
                by_link: *found == Found::ByLink,
            },
            (Verdict::Miss(_), PastVerdict::Failed { why: Some(why) }) => PastVerdict::Ran { why },
            // The engine tells that a step runs before it tells that it is done.
            (Verdict::Miss(_), _) => PastVerdict::Ran { why: Why::First },
        };
    }

    /// A step failed, maybe before it ran.
    pub(crate) fn failed(&self, step: StepIndex) {
        let step = &mut self.build().steps[step];
        if step.verdict == PastVerdict::NotReached {
            step.verdict = PastVerdict::Failed { why: None };
        }
    }

    /// A hit ran again.
    pub(crate) fn verified(&self, step: StepIndex, verified: Verified) {
        self.build().steps[step].verified = Some(verified);
    }

    /// Gives the finished build, and keeps it in `history`.
    pub(crate) fn finish(
        self,
        history: &History,
        made: &Result<BuildReport, BuildError>,
    ) -> std::io::Result<()> {
        let mut build = self.build.into_inner().unwrap_or_else(PoisonError::into_inner);
        build.millis = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        build.end = match made {
            Ok(report) => End::Built { image: report.image },
            Err(BuildError::Cancelled) => End::Cancelled,
            Err(error) => End::Failed { message: error.to_string() },
        };
        history.keep(&build)
    }

    /// The id under which the build will be remembered.
    pub(crate) fn id(&self) -> String {
        self.build().id.clone()
    }
}

fn unreached(request: &BuildRequest, step: &Step) -> PastStep {
    let before = request.dockerfile.get(..step.span.start).unwrap_or_default();
    PastStep {
        stage: step.stage.clone(),
        text: cut(&step.text),
        line: 1 + before.iter().filter(|byte| **byte == b'\n').count(),
        verdict: PastVerdict::NotReached,
        definition: None,
        tree: None,
        millis: 0,
        bytes: 0,
        verified: None,
    }
}

/// An instruction as it is remembered.
pub(crate) fn cut(text: &str) -> String {
    if text.len() <= TEXT_LIMIT_BYTES {
        return text.to_owned();
    }
    let end = (0..=TEXT_LIMIT_BYTES).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    format!("{}…", &text[..end])
}
