//! Dockerfile + arguments + platform → plan.
//!
//! A plan is the graph of steps that a build asks for, with everything expanded: which image,
//! which files to which place, which command in which environment. It is pure data, and making
//! it is a pure function: no clock, environment, file or network is read, so equal inputs give
//! equal plans, and a history of a thousand commits can be planned without building anything.
//!
//! The one thing that a plan needs from outside is the config of its base images, since `ENV PATH`
//! of the base is part of every `RUN`. That is the decision of this crate: [`plan`] does not fetch;
//! it answers [`PlanError::Missing`] with the images that it needs to know, and is asked again.
//!
//! The semantics are BuildKit's Dockerfile frontend's, down to the texts in the image's history.
//!
//! ```
//! use strata_plan::{Request, plan};
//!
//! let parse = strata_dockerfile::parse(b"FROM scratch\nCOPY . /app\nCMD [\"/app/run\"]\n");
//! let plan = plan(&Request::new(&parse.tree), &|_| None).expect("a plan");
//! assert_eq!(plan.steps.len(), 1);
//! assert_eq!(plan.image.config.cmd.as_deref(), Some(&["/app/run".to_owned()][..]));
//! ```

mod copy;
mod evaluate;
mod facts;
mod golang;
mod metadata;
mod onbuild;
mod ports;
mod remote;
mod request;
mod run;
mod stage;
mod stages;
mod step;

pub use remote::{GitSource, HttpSource, RemoteSource};
pub use request::{ContextKind, ImageName, ImageNeed, PlanError, Request, ResolvedImage, plan};
pub use step::{
    Chmod, CopyOp, CopySource, Entry, HistoryEntry, ImageOp, InlineFile, MakeDirectoryOp, Op, Plan,
    PlannedImage, RunMount, RunOp, Source, Step, StepIndex,
};
