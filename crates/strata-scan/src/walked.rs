//! What a walk finds: directories, their entries, and what a look at each of them showed. The walk
//! itself is in `walk`; what becomes of it is for `name`, `answer` and `keep`.

use strata_cas::{BlobId, Device, TreeId, TreePath};

use crate::stamp::Stamp;
use crate::stamps::{DirectoryIndex, Kind, Stamps};

/// What a walk found: directories by number, each with its entries by name. A directory's number
/// is greater than that of the one that holds it.
#[derive(Debug)]
pub(crate) struct Walked {
    pub(crate) nodes: Vec<Node>,
    pub(crate) hashed: Vec<Hashed>,
    /// In order.
    pub(crate) sockets: Vec<TreePath>,
}

/// One visited directory.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) id: u32,
    /// The number of the directory that holds it, and which of its entries it is.
    pub(crate) parent: Option<(u32, u32)>,
    pub(crate) stamp: Stamp,
    /// Whether all that is in it is wanted.
    pub(crate) everything: bool,
    /// Whether it is wanted itself, not only for what is below.
    pub(crate) wanted: bool,
    pub(crate) listing: Listing,
    pub(crate) old: Option<DirectoryIndex>,
    pub(crate) entries: Vec<Entry>,
    /// Whether all that was looked at is as the stamp file says; later also below it.
    pub(crate) intact: bool,
    /// Whether it has anything in the answer; later also below it.
    pub(crate) holds: bool,
    /// Of its files whose stamps hold, how many there are and how much is in them.
    pub(crate) unchanged: (u64, u64),
    /// The name of all that is in the answer at and below it, which comes last.
    pub(crate) tree: Option<TreeId>,
}

/// How a node came to its entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Listing {
    /// The stamp file has them all.
    Known,
    /// The directory was read.
    Read {
        /// Whether its stamp tells when it must be read again.
        stamped: bool,
    },
    /// Only wanted names were looked up.
    Partial,
}

/// One entry of a visited directory.
#[derive(Debug)]
pub(crate) struct Entry {
    /// Its name, if that is not the stamp file's.
    pub(crate) own_name: Option<Box<[u8]>>,
    pub(crate) kind: Kind,
    /// Its number in the stamp file.
    pub(crate) old: Option<u32>,
    pub(crate) seen: Seen,
}

/// What a look at an entry showed.
#[derive(Debug)]
pub(crate) enum Seen {
    /// Nobody looked: it is not wanted.
    Unwanted,
    /// The rules leave it out.
    Excluded,
    /// Somebody looked for it in vain.
    Nothing,
    /// A directory, with its node's number once that is known.
    Directory(Option<u32>),
    /// A file of which all that the stamp file says still holds, with its size.
    Unchanged(u64),
    /// A file to be read; its content's name comes later.
    File(Box<(Stamp, Option<BlobId>)>),
    /// A link and where it points.
    Symlink(Box<(Stamp, Vec<u8>)>),
    /// A device or fifo.
    Device(Box<(Stamp, Device)>),
    /// A socket.
    Socket,
}

impl Entry {
    pub(crate) fn new(name: &[u8], kind: Kind, seen: Seen) -> Self {
        Self { own_name: Some(name.into()), kind, old: None, seen }
    }

    pub(crate) fn name<'a>(&'a self, old: &'a Stamps) -> &'a [u8] {
        match (&self.own_name, self.old) {
            (Some(name), _) => name,
            (None, Some(index)) => old.entry(index).map_or(b"", |entry| entry.name),
            (None, None) => b"",
        }
    }
}

/// A file that was read.
#[derive(Debug)]
pub(crate) struct Hashed {
    pub(crate) node: u32,
    pub(crate) entry: u32,
    pub(crate) stamp: Stamp,
    pub(crate) blob: BlobId,
}
