//! Introduces plan, engine, scan, image and exec to each other: the only façade.
//!
//! The crates below do not know each other. The planner says what a Dockerfile asks for, the
//! scanner what is in a context, the engine what must run; somebody has to turn a planned COPY
//! into a layer, a planned RUN into a sandboxed process, and the outcome into an image. That is
//! all that happens here: a [`BuildRequest`] goes in, [`Event`]s come out while it is worked on,
//! a [`BuildReport`] comes back.
//!
//! The decision that the crate defends: **nothing is made visible before somebody needs it.** A
//! COPY is a computation on trees, with no file unpacked; a snapshot is made only for a RUN that
//! must run; an image is a list of layers, and a tar is written when one is exported.
//!
//! What the crate deliberately does not do: it opens no store and no connection (both are given),
//! prints nothing, and reads no environment.

mod agent;
mod ahead;
mod annotations;
mod builder;
mod caches;
mod chunks;
mod command;
mod compare;
mod copy;
mod credentials;
mod error;
mod event;
mod export;
mod far;
mod fetch;
mod find;
mod history;
mod images;
mod lay;
mod layers;
mod links;
mod material;
mod mounts;
mod nodes;
mod packages;
mod packed_layer;
mod packing;
mod places;
mod pull;
mod push;
mod redact;
mod remember;
mod request;
mod resolve;
mod rewrite;
mod rpm;
mod selection;
mod serving;
mod session;
mod shared;
mod split;
mod start;
mod states;
mod step;
mod tars;
mod time;
mod transcode;
mod view;
mod why;

pub use annotations::{Annotation, AnnotationPlace, Annotations};
pub use builder::{Builder, Sandbox};
pub use caches::{CacheArchiveError, CacheEntry, CacheName, Caches, Removed};
pub use compare::{FieldChange, ImageDifference, LayerChange, PathChange, PathChangeKind};
pub use credentials::Credentials;
pub use error::{BaseImageError, BuildError};
pub use event::{Event, Observer};
pub use export::{Export, ExportDest, ExportKind};
pub use far::{Far, Nowhere};
pub use fetch::{
    Caller, CheckedOut, CheckoutPlaces, Commit, Downloaded, FetchError, FetchedTree, Fetcher,
    Validators,
};
pub use find::{NoStep, find_step};
pub use history::{End, History, PastBuild, PastStep, PastVerdict, Verified};
pub use images::{Images, NamedImage, StoredImage};
pub use layers::ImageLayer;
pub use links::ImageLinks;
pub use material::{Material, encoded, image_url};
pub use packages::{Distribution, Inventory, Package};
pub use packing::{Attest, Attestation, Packed, Packing};
pub use places::{Places, StampFiles};
pub use pull::{Loaded, copy};
pub use push::{Push, PushEvent, PushObserver};
pub use request::{BuildReport, BuildRequest, Context, Forecast, Outlook, StepReport};
pub use serving::Offered;
pub use shared::{SharedCacheAt, SharedCaches};
pub use start::{RunOptions, ShellState};
pub use states::{BuildStates, CommandState, FailedState, Moment, StepState};
pub use time::rfc3339;
pub use why::{Change, ChangedFile, FileState, Files, How, Why};
