//! Histories through the cache: what hit, what missed, which file broke it, and what another
//! Dockerfile or another policy would have done.
//!
//! Nothing is executed. A definition key is a function of files and text, so a commit's tree is
//! enough to know what a build of it would have found in the cache. What a RUN would have given
//! is not known, and this crate never pretends that it is: where a figure needs it, the figure
//! names the model that it was taken from.

mod context;
mod history;
mod keys;
mod model;
mod prepare;
mod select;

pub use history::{Commit, History, HistoryError, Order, Range, SharedHistory};
pub use keys::Scheme;
pub use model::Class;
pub use prepare::Asked;
mod edit;
mod locate;
mod replay;
mod tally;
mod trace;
mod what_if;

pub use edit::Edit;
pub use locate::default_dockerfile;
pub use replay::{Costs, Progress, Request, replay};
pub use tally::Tally;
pub use trace::{Access, Trace};
pub use what_if::WhatIf;
mod report;
mod text;

pub use report::{
    Builds, CommitReport, FileReport, InstructionReport, Miss, Model, NotBuilt, Report, SCHEMA,
    SchemeReport, Share, Subject, WhatIfReport,
};
pub use text::text;
mod study;
pub use study::{Observe, Study};
mod advise;
mod chrome;
mod patch;
pub use advise::{Advice, advise};
pub use chrome::trace;
pub use patch::unified;
mod policy;
pub use policy::{Interleaving, Policy, PolicyReport, Requests, policies, simulate};
mod html;
mod plots;
pub use html::html;
mod checkout;
mod execution;
pub use checkout::{CheckoutError, apply, check_out};
pub use execution::{Execution, Measured, RealBuild, count_plain, sample};
