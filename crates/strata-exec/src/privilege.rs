//! What this process may do, decided in one place: mount options, attribute names and the way
//! into the sandbox follow from it.

use crate::ExecError;

/// With which rights snapshots are stacked and sandboxes are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Privilege {
    /// root of the machine, or of the container that strata runs in.
    Root,
    /// A user. Needs a user namespace around everything, which is not there yet.
    Rootless,
}

impl Privilege {
    pub(crate) fn detect() -> Self {
        if rustix::process::geteuid().is_root() { Self::Root } else { Self::Rootless }
    }

    /// Fails for those who can not run anything yet.
    pub(crate) fn require(self) -> Result<(), ExecError> {
        match self {
            Self::Root => Ok(()),
            Self::Rootless => Err(ExecError::Unprivileged),
        }
    }

    /// Whether overlayfs keeps its own attributes as `user.overlay.*`, not `trusted.overlay.*`.
    pub(crate) fn user_attributes(self) -> bool {
        self == Self::Rootless
    }
}
