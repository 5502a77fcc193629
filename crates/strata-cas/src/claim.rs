//! Who is at a step: what keeps two builds from doing the same work at the same time.

use std::any::Any;
use std::fmt;

/// What came of asking for keys.
#[derive(Debug)]
pub enum Claim {
    /// They are the caller's until the guard is dropped or its process ends.
    Held(ClaimGuard),
    /// Somebody else has one of them. Ask again: whoever holds it may have finished or died.
    Taken {
        /// The other process, where it could be told.
        pid: Option<u32>,
    },
}

/// Gives claimed keys free when it is dropped.
pub struct ClaimGuard {
    _held: Box<dyn Any + Send + Sync>,
}

impl ClaimGuard {
    /// A guard around what gives the keys free when it is dropped itself.
    pub fn new(held: impl Any + Send + Sync) -> Self {
        Self { _held: Box::new(held) }
    }

    /// Guards nothing: for stores that only one evaluation at a time can use.
    pub fn nothing() -> Self {
        Self::new(())
    }
}

impl fmt::Debug for ClaimGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClaimGuard")
    }
}
