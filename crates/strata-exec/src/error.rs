//! What can go wrong around a run. A process that ran and failed is no error: see
//! [`Finished`](crate::Finished).

use std::io;

use crate::namespace::Obstacle;
use crate::overlay::LOWERS_MAX;
use crate::passwd::PasswdError;

/// Why there is no result.
#[derive(Debug, thiserror::Error)]
pub enum ExecError {
    /// The operating system refused.
    #[error("{action}: {source}")]
    Io {
        /// What was attempted, with its object.
        action: String,
        /// The system's answer.
        source: io::Error,
    },
    /// [`Cancel::cancel`](crate::Cancel::cancel) was called.
    #[error("the run was cancelled")]
    Cancelled,
    /// The job's time was over before the process was.
    #[error("the run took longer than {seconds} s")]
    TimedOut {
        /// The job's limit.
        seconds: u64,
    },
    /// A mount's target can not be a mount point.
    #[error("cannot mount at `{target}`: {reason}")]
    Mount {
        /// The path in the container.
        target: String,
        /// What stands in the way.
        reason: &'static str,
    },
    /// The working directory is not there and can not be made.
    #[error("cannot {message}")]
    WorkingDirectory {
        /// What was attempted, and the system's answer.
        message: String,
        /// Whether it would lie on something that is mounted read-only.
        is_read_only: bool,
    },
    /// More snapshots than overlayfs stacks.
    #[error("{count} layers are more than the {LOWERS_MAX} that overlayfs can stack")]
    TooManyLayers {
        /// How many were given.
        count: usize,
    },
    /// A path in the result is longer than strata supports.
    #[error("the run left a path of {bytes} bytes, which is longer than strata supports")]
    PathTooLong {
        /// Its length.
        bytes: usize,
    },
    /// A text with a NUL in it, or another value that no process can have.
    #[error("the job's {what} is not possible: {reason}")]
    Job {
        /// Which part of the job.
        what: &'static str,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The sandbox could not be set up; nothing ran.
    #[error("the sandbox did not start: {message}")]
    Start {
        /// The sandbox's own words.
        message: String,
        /// What of this machine is in the way, as far as that can be told.
        obstacle: Option<Obstacle>,
    },
    /// The user namespace does not have the ids that the process is to have.
    #[error("user {uid} with group {gid} is not among the ids that this user may give away")]
    NoSuchId {
        /// The process's user.
        uid: u32,
        /// Its main group; a further group may be the one that is missing.
        gid: u32,
    },
    /// Running needs rights that this process does not have.
    #[error("running a process in a sandbox needs the right to mount")]
    Unprivileged,
    /// The user is not to be found.
    #[error(transparent)]
    Passwd(#[from] PasswdError),
}

impl ExecError {
    /// Says what was attempted when the system refused.
    pub(crate) fn io<E: Into<io::Error>>(action: impl Into<String>) -> impl FnOnce(E) -> Self {
        let action = action.into();
        move |source| Self::Io { action, source: source.into() }
    }
}
