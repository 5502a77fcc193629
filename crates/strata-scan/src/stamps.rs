//! The stamp file: what earlier scans saw, so that this one need not read it again. Whether a
//! stamp is believed is `stamp`'s rule, and asked again at each use; here they are only kept.
//!
//! ```text
//! magic      16   "strata.stamps.2\n"
//! checksum   32   BLAKE3 of all that follows
//! counts     24   directories, entries, bytes of names (u64 each)
//! rules      32   names the ignore rules under which trees and verdicts hold
//! directories     96 each: stamp, first entry, number of entries, flags, tree
//! entries         96 each: stamp, blob, child directory, name (offset, length), kind, flags
//! names           one after the other
//! ```
//!
//! Numbers are little-endian. The first directory is the root; a directory's entries are sorted
//! by name. The file is one buffer that is read in place. Anything unexpected makes it an empty
//! one: the worst that a damaged file can do is to cost a cold scan.

use std::io::{self, Write};
use std::path::Path;

use strata_cas::{BlobId, TreeId};

use crate::stamp::{Stamp, Timestamp};

const MAGIC: &[u8; 16] = b"strata.stamps.2\n";
const CHECKSUM_END: usize = 48;
const RULES: usize = CHECKSUM_END + 24;
const TABLES: usize = RULES + 32;
const STAMP_BYTES: usize = 52;
const DIRECTORY_BYTES: usize = STAMP_BYTES + 12 + 32;
const ENTRY_BYTES: usize = STAMP_BYTES + 32 + 12;
/// A directory's flags.
const WHOLE: u32 = 1;
const NAMED: u32 = 2;
/// An entry's flags.
const KNOWN: u8 = 1;
const JUDGED: u8 = 2;
const EXCLUDED: u8 = 4;
const NONE: u32 = u32::MAX;

/// What an entry is, as its directory lists it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Directory,
    File,
    /// A symlink, fifo, device or socket: looked at each time.
    Other,
    /// The file system does not tell without a look.
    Unknown,
}

/// The number of a directory in a stamp file.
pub(crate) type DirectoryIndex = u32;

/// One directory of a stamp file.
#[derive(Debug, Clone, Copy)]
pub(crate) struct OldDirectory {
    pub(crate) stamp: Stamp,
    /// Its entries' numbers.
    pub(crate) first: u32,
    pub(crate) count: u32,
    /// Whether these are all the entries that a directory with this stamp has.
    pub(crate) whole: bool,
    /// The tree that the entries make as they are known here, all wanted, under the file's rules.
    pub(crate) tree: Option<TreeId>,
}

/// One entry of a stamp file.
#[derive(Debug, Clone, Copy)]
pub(crate) struct OldEntry<'a> {
    pub(crate) name: &'a [u8],
    pub(crate) kind: Kind,
    /// For a directory that was visited.
    pub(crate) child: Option<DirectoryIndex>,
    /// For a file whose content is known. Of what is neither file nor directory only the stamp
    /// counts.
    pub(crate) content: Option<(Stamp, BlobId)>,
    /// Whether the file's rules leave it out, if they were asked.
    pub(crate) excluded: Option<bool>,
}

/// A stamp file in memory; the default is an empty one.
#[derive(Debug, Default)]
pub(crate) struct Stamps {
    bytes: Vec<u8>,
    directories: usize,
    entries: usize,
}

impl Stamps {
    /// Reads a stamp file; whatever is wrong with it, the answer is an empty one.
    pub(crate) fn load(path: &Path) -> Self {
        std::fs::read(path).ok().and_then(Self::parse).unwrap_or_default()
    }

    pub(crate) fn parse(bytes: Vec<u8>) -> Option<Self> {
        let body = bytes.get(CHECKSUM_END..)?;
        let checksum = bytes.get(MAGIC.len()..CHECKSUM_END)?;
        if !bytes.starts_with(MAGIC) || blake3::hash(body).as_bytes() != checksum {
            return None;
        }
        let mut counts = Fields(bytes.get(CHECKSUM_END..RULES)?);
        let mut count = || usize::try_from(counts.u64()).ok();
        let (directories, entries, names) = (count()?, count()?, count()?);
        let length = directories
            .checked_mul(DIRECTORY_BYTES)?
            .checked_add(entries.checked_mul(ENTRY_BYTES)?)?
            .checked_add(names)?
            .checked_add(TABLES)?;
        (length == bytes.len()).then_some(Self { bytes, directories, entries })
    }

    /// The name of the rules under which trees and verdicts hold.
    pub(crate) fn rules(&self) -> Option<[u8; 32]> {
        self.bytes.get(RULES..TABLES)?.try_into().ok()
    }

    /// The root, if anything is known.
    pub(crate) fn root(&self) -> Option<DirectoryIndex> {
        (self.directories > 0).then_some(0)
    }

    pub(crate) fn directory(&self, index: DirectoryIndex) -> Option<OldDirectory> {
        let index = usize::try_from(index).ok().filter(|index| *index < self.directories)?;
        let start = TABLES + index * DIRECTORY_BYTES;
        let mut fields = Fields(self.bytes.get(start..start + DIRECTORY_BYTES)?);
        let (stamp, first, count) = (fields.stamp(), fields.u32(), fields.u32());
        let end = usize::try_from(first.checked_add(count)?).ok()?;
        let flags = fields.u32();
        let tree = (flags & NAMED != 0).then(|| TreeId::from_bytes(fields.array()));
        let whole = flags & WHOLE != 0;
        (end <= self.entries).then_some(OldDirectory { stamp, first, count, whole, tree })
    }

    // Inlined so that callers who want the name only do not pay for the rest.
    #[inline]
    pub(crate) fn entry(&self, index: u32) -> Option<OldEntry<'_>> {
        let index = usize::try_from(index).ok().filter(|index| *index < self.entries)?;
        let start = TABLES + self.directories * DIRECTORY_BYTES + index * ENTRY_BYTES;
        let mut fields = Fields(self.bytes.get(start..start + ENTRY_BYTES)?);
        let (stamp, blob) = (fields.stamp(), BlobId::from_bytes(fields.array()));
        let child = fields.u32();
        let name_at = usize::try_from(fields.u32()).ok()?;
        let [length @ .., kind, flags] = fields.array::<4>();
        let name_at =
            TABLES + self.directories * DIRECTORY_BYTES + self.entries * ENTRY_BYTES + name_at;
        let length = usize::from(u16::from_le_bytes(length));
        let kind = match kind {
            0 => Kind::Directory,
            1 => Kind::File,
            2 => Kind::Other,
            _ => Kind::Unknown,
        };
        Some(OldEntry {
            name: self.bytes.get(name_at..name_at.checked_add(length)?)?,
            kind,
            child: (child != NONE).then_some(child),
            content: (flags & KNOWN != 0).then_some((stamp, blob)),
            excluded: (flags & JUDGED != 0).then_some(flags & EXCLUDED != 0),
        })
    }

    /// The number of a directory's entry with this name.
    pub(crate) fn find(&self, directory: &OldDirectory, name: &[u8]) -> Option<u32> {
        let (mut low, mut high) = (directory.first, directory.first + directory.count);
        while low < high {
            let middle = low + (high - low) / 2;
            match self.entry(middle)?.name.cmp(name) {
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Equal => return Some(middle),
                std::cmp::Ordering::Greater => high = middle,
            }
        }
        None
    }
}

/// Reads numbers one after the other; what is missing is zero, callers pass whole records.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    #[inline]
    fn array<const N: usize>(&mut self) -> [u8; N] {
        match self.0.split_first_chunk() {
            Some((head, rest)) => {
                self.0 = rest;
                *head
            }
            None => [0; N],
        }
    }

    fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.array())
    }

    fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.array())
    }

    fn time(&mut self) -> Timestamp {
        let seconds = i64::from_le_bytes(self.array());
        Timestamp { seconds, nanoseconds: self.u32() }
    }

    #[inline]
    fn stamp(&mut self) -> Stamp {
        Stamp {
            device: self.u64(),
            inode: self.u64(),
            size: self.u64(),
            modified: self.time(),
            changed: self.time(),
            mode: self.u32(),
        }
    }
}

/// Writes a stamp file. Directories come in the order of their numbers, each followed by its
/// entries, sorted.
#[derive(Debug)]
pub(crate) struct StampsWriter {
    rules: [u8; 32],
    directories: Vec<u8>,
    entries: Vec<u8>,
    names: Vec<u8>,
    entry_count: u32,
}

impl StampsWriter {
    /// A file whose trees and verdicts hold under the rules of this name.
    pub(crate) fn new(rules: [u8; 32]) -> Self {
        let (directories, entries, names) = (Vec::new(), Vec::new(), Vec::new());
        Self { rules, directories, entries, names, entry_count: 0 }
    }

    /// Begins the next directory.
    pub(crate) fn directory(
        &mut self,
        stamp: &Stamp,
        count: u32,
        whole: bool,
        tree: Option<TreeId>,
    ) {
        let to = &mut self.directories;
        put_stamp(stamp, to);
        to.extend_from_slice(&self.entry_count.to_le_bytes());
        to.extend_from_slice(&count.to_le_bytes());
        let flags = if whole { WHOLE } else { 0 } | if tree.is_some() { NAMED } else { 0 };
        to.extend_from_slice(&flags.to_le_bytes());
        to.extend_from_slice(&tree.map_or([0; 32], |tree| *tree.as_bytes()));
    }

    /// Adds the next entry.
    pub(crate) fn entry(&mut self, entry: &OldEntry<'_>) -> io::Result<()> {
        let OldEntry { name, kind, child, content, excluded } = *entry;
        let too_much = |_| io::Error::from(io::ErrorKind::FileTooLarge);
        let (stamp, blob) = content.unwrap_or((Stamp::default(), BlobId::from_bytes([0; 32])));
        let to = &mut self.entries;
        put_stamp(&stamp, to);
        to.extend_from_slice(blob.as_bytes());
        to.extend_from_slice(&child.unwrap_or(NONE).to_le_bytes());
        to.extend_from_slice(&u32::try_from(self.names.len()).map_err(too_much)?.to_le_bytes());
        to.extend_from_slice(&u16::try_from(name.len()).map_err(too_much)?.to_le_bytes());
        to.push(match kind {
            Kind::Directory => 0,
            Kind::File => 1,
            Kind::Other => 2,
            Kind::Unknown => 3,
        });
        let judged = match excluded {
            None => 0,
            Some(false) => JUDGED,
            Some(true) => JUDGED | EXCLUDED,
        };
        to.push(if content.is_some() { KNOWN } else { 0 } | judged);
        self.names.extend_from_slice(name);
        self.entry_count += 1;
        Ok(())
    }

    /// The whole file.
    pub(crate) fn finish(self) -> Vec<u8> {
        let Self { rules, directories, entries, names, entry_count } = self;
        let mut bytes =
            Vec::with_capacity(TABLES + directories.len() + entries.len() + names.len());
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&[0; 32]);
        let directory_count = directories.len() / DIRECTORY_BYTES;
        for count in [directory_count as u64, u64::from(entry_count), names.len() as u64] {
            bytes.extend_from_slice(&count.to_le_bytes());
        }
        bytes.extend_from_slice(&rules);
        bytes.extend_from_slice(&directories);
        bytes.extend_from_slice(&entries);
        bytes.extend_from_slice(&names);
        let checksum = blake3::hash(&bytes[CHECKSUM_END..]);
        bytes[MAGIC.len()..CHECKSUM_END].copy_from_slice(checksum.as_bytes());
        bytes
    }
}

fn put_stamp(stamp: &Stamp, to: &mut Vec<u8>) {
    let Stamp { device, inode, size, modified, changed, mode } = *stamp;
    for number in [device, inode, size] {
        to.extend_from_slice(&number.to_le_bytes());
    }
    for time in [modified, changed] {
        to.extend_from_slice(&time.seconds.to_le_bytes());
        to.extend_from_slice(&time.nanoseconds.to_le_bytes());
    }
    to.extend_from_slice(&mode.to_le_bytes());
}

/// Replaces the file in one step. It is not synced: a torn file is a cold scan, no harm.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?.to_owned();
    name.push(format!(".{}.{:?}.new", std::process::id(), std::thread::current().id()));
    let new = path.with_file_name(name);
    let written = std::fs::File::create(&new)
        .and_then(|mut file| file.write_all(bytes))
        .and_then(|()| std::fs::rename(&new, path));
    if written.is_err() {
        // The error that matters is the first one.
        let _ = std::fs::remove_file(&new);
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Vec<u8> {
        let stamp = Stamp { inode: 7, mode: 0o100_644, ..Stamp::default() };
        let content = Some((stamp, BlobId::of(b"x")));
        let entry = |name, kind, child, content| {
            let excluded = (kind == Kind::File).then_some(false);
            OldEntry { name, kind, child, content, excluded }
        };
        let mut writer = StampsWriter::new([3; 32]);
        writer.directory(&stamp, 2, true, Some(TreeId::from_bytes([9; 32])));
        writer.entry(&entry(b"a", Kind::File, None, content)).expect("small");
        writer.entry(&entry(b"b", Kind::Directory, Some(1), None)).expect("small");
        writer.directory(&stamp, 0, false, None);
        writer.finish()
    }

    #[test]
    fn reads_what_it_wrote() {
        let stamps = Stamps::parse(sample()).expect("good");
        let root = stamps.directory(0).expect("root");
        assert!(root.whole);
        assert_eq!(root.tree, Some(TreeId::from_bytes([9; 32])));
        assert_eq!(stamps.rules(), Some([3; 32]));
        assert_eq!(stamps.find(&root, b"b"), Some(1));
        assert_eq!(stamps.find(&root, b"c"), None);
        let file = stamps.entry(0).expect("file");
        assert_eq!((file.name, file.kind, file.excluded), (&b"a"[..], Kind::File, Some(false)));
        assert_eq!(file.content.map(|(_, blob)| blob), Some(BlobId::of(b"x")));
        assert_eq!(stamps.entry(1).expect("directory").child, Some(1));
        assert!(!stamps.directory(1).expect("child").whole);
        assert!(stamps.directory(2).is_none() && stamps.entry(2).is_none());
    }

    #[test]
    fn the_format_does_not_drift() {
        let bytes = sample();
        assert_eq!(bytes.len(), 104 + 2 * 96 + 2 * 96 + 2);
        let golden = include_bytes!("../tests/golden/strata.stamps.2");
        assert_eq!(bytes, golden, "a new format needs a new name");
    }

    #[test]
    fn every_damaged_byte_and_every_cut_shows() {
        let good = sample();
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1;
            assert!(Stamps::parse(bad).is_none(), "byte {at}");
            assert!(Stamps::parse(good[..at].to_vec()).is_none(), "cut at {at}");
        }
    }

    proptest::proptest! {
        /// Even one whose checksum is right.
        #[test]
        fn a_forged_file_is_harmless(at in 48usize..400, byte: u8, name: Vec<u8>) {
            let mut bytes = sample();
            let at = at % bytes.len();
            bytes[at.max(CHECKSUM_END)] = byte;
            let checksum = blake3::hash(&bytes[CHECKSUM_END..]);
            bytes[16..48].copy_from_slice(checksum.as_bytes());
            if let Some(stamps) = Stamps::parse(bytes) {
                for index in [0, 1, 2, u32::MAX] {
                    stamps.entry(index);
                    if let Some(directory) = stamps.directory(index) {
                        stamps.find(&directory, &name);
                    }
                }
            }
        }
    }
}
