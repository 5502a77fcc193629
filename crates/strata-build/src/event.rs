//! What happens during a build, as data. The program draws it.

use strata_engine::Verdict;
use strata_exec::Stream;
use strata_plan::{Plan, StepIndex};
use strata_scan::ScanStats;

use crate::{Verified, Why};

/// Something that happened. Events of different steps come from different threads.
#[derive(Debug)]
pub enum Event<'a> {
    /// A base image is looked up.
    Resolving {
        /// Its name.
        image: String,
    },
    /// A download, or a question to a repository, begins.
    Fetching {
        /// What is fetched, without passwords.
        what: &'a str,
    },
    /// It has ended.
    Fetched {
        /// What was fetched.
        what: &'a str,
        /// How many bytes came; none if what is here still holds.
        bytes: Option<u64>,
    },
    /// The plan is made.
    Planned(&'a Plan),
    /// A context was scanned.
    Scanned {
        /// The context's name; empty for the main one.
        context: &'a str,
        /// What was done.
        stats: ScanStats,
    },
    /// The context has something that was left out, or the like.
    Note(String),
    /// Another build is at this step: it is waited for.
    Waiting {
        /// Which.
        step: StepIndex,
        /// The other build's process, where it could be told.
        pid: Option<u32>,
    },
    /// A step is about to run.
    Running {
        /// Which.
        step: StepIndex,
        /// Why.
        why: &'a Why,
    },
    /// A step that is in the cache ran again, as it was asked for.
    Verified {
        /// Which.
        step: StepIndex,
        /// What came of it.
        verified: &'a Verified,
    },
    /// Bytes move: a base layer comes in.
    Transfer {
        /// The step that they are for.
        step: StepIndex,
        /// What it is, such as a layer's short digest.
        what: String,
        /// Bytes so far.
        done: u64,
        /// Bytes in all.
        total: u64,
    },
    /// A command wrote something.
    Output {
        /// Which step.
        step: StepIndex,
        /// Where to.
        stream: Stream,
        /// What, as it came.
        bytes: &'a [u8],
    },
    /// A step is done.
    Done {
        /// Which.
        step: StepIndex,
        /// Whether it ran.
        verdict: &'a Verdict,
        /// Wall time in milliseconds that it took now, or when it ran.
        millis: u64,
    },
    /// A step was ended because another one failed, or because the build was cancelled.
    Cancelled {
        /// Which.
        step: StepIndex,
    },
    /// A step failed; the build ends.
    Failed {
        /// Which.
        step: StepIndex,
    },
}

/// Takes events.
pub type Observer<'a> = &'a (dyn Fn(Event<'_>) + Sync);
