//! What a layer that is unpacked may ask about the layers below it. How they are stacked, and
//! where they come from, is their owner's.

use std::io::Read;

use strata_cas::{Metadata, Time, TreePath};

use crate::ImageError;

/// The layers below one that is unpacked, stacked.
pub trait LowerLayers: Sync {
    /// What stands at exactly this path, which may be the root. No symbolic link is followed,
    /// neither at the path nor on the way to it: below one there is nothing. A link that names
    /// lead through is asked for at each of them, anything else rarely.
    fn look(&self, path: &TreePath) -> Result<Option<LowerItem>, ImageError>;
}

/// What stands at a path of the lower layers.
pub enum LowerItem {
    /// A directory, which one that a tar takes for granted is made after.
    Directory {
        /// Its mode, owner, attributes.
        metadata: Metadata,
        /// Its modification time.
        modified: Time,
    },
    /// A regular file, which a hard link may lead to.
    File {
        /// Its mode, owner, attributes.
        metadata: Metadata,
        /// Its modification time.
        modified: Time,
        /// Its bytes. Only a hard link reads them.
        content: Box<dyn Read>,
    },
    /// A symbolic link, which entries may lead through.
    Symlink {
        /// Where it points, as written.
        target: Vec<u8>,
    },
    /// A device or fifo.
    Other,
}
