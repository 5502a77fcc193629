//! Values that nobody may see but the process that they are for.
//!
//! A secret goes from this process's memory over a socket into the sandbox's, and from there into
//! a file in memory or into the environment of the run's process. It is never part of a
//! [`Job`](crate::Job), which is written down; the job only has its number.

use std::os::fd::BorrowedFd;
use std::time::Duration;

/// A secret's value. It can not be printed, compared, hashed, copied or written down, and is
/// overwritten when it is dropped.
pub struct Secret(Vec<u8>);

impl Secret {
    /// Takes a value.
    pub fn new(value: Vec<u8>) -> Self {
        Self(value)
    }

    /// The value, for whoever must have it. Nothing that it is put into may be kept.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Secret {
    fn drop(&mut self) {
        self.0.fill(0);
        // Or the compiler would leave out what nobody reads.
        std::hint::black_box(&self.0);
    }
}

/// What goes with a job and can not be written down.
#[derive(Clone, Copy, Default)]
pub struct Attachments<'a> {
    /// The secrets that the job names by number.
    pub secrets: &'a [&'a Secret],
    /// Files that stay open until nothing of the run is left, even when this process is killed:
    /// locks on what is mounted. At most 255.
    pub held: &'a [BorrowedFd<'a>],
    /// Asked many times a second while the process runs: false ends the run as a cancelled one.
    pub watch: Option<&'a dyn Fn() -> Option<Duration>>,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Does not compile when the type has the trait: then it is ambiguous which one is meant.
    macro_rules! assert_lacks {
        ($type:ty: $($name:path),+) => {
            $({
                trait Ambiguous<A> {
                    fn check() {}
                }
                impl<T: ?Sized> Ambiguous<()> for T {}
                impl<T: ?Sized + $name> Ambiguous<u8> for T {}
                <$type as Ambiguous<_>>::check();
            })+
        };
    }

    #[test]
    fn a_secret_can_not_be_printed_or_written_down() {
        assert_lacks!(Secret: std::fmt::Debug, std::fmt::Display, serde::Serialize);
        assert_lacks!(Secret: strata_cas::Fingerprint, Clone, std::hash::Hash, PartialEq);
        assert_lacks!(Attachments<'static>: std::fmt::Debug, serde::Serialize);
    }
}
