//! A foreign layer's tar as a directory, a [`Layer`] and names for its bytes, in one pass. Two
//! threads: the caller's reads and hashes the stream, the other one makes the files.

use std::collections::BTreeSet;
use std::io::{self, Read, Write};
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use strata_cas::{BlobHasher, BlobId, Device, Item, Layer, Metadata, Time, TreePath};
use strata_oci::{Digest, DigestHasher};

use crate::assembly::{Assembly, Leaf, Node, with_more};
use crate::destination::{Destination, OverlayForm};
use crate::entries::{Entries, Entry, Forward, Kind, lossy};
use crate::shape::{OPAQUE_MARKER, WHITEOUT_PREFIX};
use crate::{ImageError, LowerItem, LowerLayers};

const CHUNK_BYTES: usize = 256 << 10;
const CHUNKS_UNDERWAY: usize = 8;
/// Old aufs kept its own state under such names; engines pass over it.
const AUFS_PREFIX: &[u8] = b".wh..wh.";

/// For a file larger than this it is asked whether the disk has room, in bytes.
const LARGE_BYTES: u64 = 16 << 20;

/// How much of a foreign tar is accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Entries.
    pub entries: u64,
    /// Bytes of the stream, and bytes of all files together (which differ in sparse files).
    pub bytes: u64,
    /// Bytes of names, link targets and extended attributes together, which stay in memory.
    pub metadata_bytes: u64,
}

impl Default for Limits {
    /// Two million entries, 256 GiB, 512 MiB of names.
    fn default() -> Self {
        Self { entries: 2_000_000, bytes: 256 << 30, metadata_bytes: 512 << 20 }
    }
}

/// How a tar is unpacked.
#[derive(Clone, Copy)]
pub struct UnpackOptions<'a> {
    /// What the directory is for. In [`OverlayForm::Plain`] whiteouts are refused.
    pub form: OverlayForm,
    /// How much is accepted.
    pub limits: Limits,
    /// What the tar may take for granted: directories, links on the way, hard links' targets.
    pub lower: Option<&'a dyn LowerLayers>,
}

impl UnpackOptions<'_> {
    /// For a form, with the default limits and nothing below.
    pub fn new(form: OverlayForm) -> Self {
        Self { form, limits: Limits::default(), lower: None }
    }
}

/// What a tar amounted to.
#[derive(Debug)]
pub struct Unpacked {
    /// Its changes. Directories that it takes for granted are in it, as the lower layers have
    /// them, or else root's, `0o755`.
    pub layer: Layer,
    /// Its files by their bytes, each once, with the path where they are now.
    pub files: Vec<(BlobId, TreePath)>,
    /// Directories of the layer that the tar takes for granted, in order.
    pub implied: Vec<TreePath>,
    /// The SHA-256 of the whole stream.
    pub diff_id: Digest,
    /// The stream's size in bytes.
    pub size: u64,
}

/// Unpacks an uncompressed tar into an empty directory.
///
/// Nothing outside the directory is touched, whatever the tar says: a name that leads above the
/// top is refused, an absolute one is taken as relative, symbolic links of the tar are followed
/// inside of it, those of the directory never. Of several entries with one name the last one
/// counts. On an error the directory is left as it is, for the caller to remove.
///
/// On lower layers the result is what extraction onto their stacked root leaves there, as
/// containerd's `archive.Apply` does it. (Onto an overlay's upper directory alone it follows no
/// lower link, and the new `lib` would hide the old one.) A name leads through their symbolic
/// links as through the tar's own: `lib/x` on `lib -> usr/lib` is `usr/lib/x`. A directory that
/// has no entry keeps their mode, owner, attributes and time. An entry replaces what they have at
/// its own path, also a link to a directory; only a directory joins a directory.
pub fn unpack(
    source: &mut dyn Read,
    into: &Path,
    options: &UnpackOptions<'_>,
) -> Result<Unpacked, ImageError> {
    let destination = Destination::open(into, options.form)
        .map_err(ImageError::io(format!("open `{}`", into.display())))?;
    let (to, chunks) = sync_channel(CHUNKS_UNDERWAY);
    let (give_back, used) = sync_channel(CHUNKS_UNDERWAY);
    let stream = Stream { chunks, give_back, chunk: Vec::new(), position: 0 };
    std::thread::scope(|scope| {
        let extraction = scope.spawn(move || Extraction::run(stream, destination, options));
        let read = pump(source, &to, &used, options.limits.bytes);
        drop(to);
        let extracted = match extraction.join() {
            Ok(extracted) => extracted,
            Err(panic) => std::panic::resume_unwind(panic),
        };
        // What the reader says is the cause of what the extraction says.
        let (diff_id, size) = read?;
        let (assembly, implied) = extracted?;
        let (layer, files) = assembly.into_layer();
        Ok(Unpacked { layer, files, implied: implied.into_iter().collect(), diff_id, size })
    })
}

/// Reads the source to its end, hashes it and passes it on, as long as somebody wants it.
fn pump(
    source: &mut dyn Read,
    to: &SyncSender<Vec<u8>>,
    used: &Receiver<Vec<u8>>,
    limit: u64,
) -> Result<(Digest, u64), ImageError> {
    let mut hasher = DigestHasher::default();
    let mut total = 0_u64;
    loop {
        let mut chunk = used.try_recv().unwrap_or_default();
        chunk.resize(CHUNK_BYTES, 0);
        let filled = fill(source, &mut chunk).map_err(ImageError::io("read a layer"))?;
        chunk.truncate(filled);
        total += filled as u64;
        if total > limit {
            return Err(ImageError::Limit { what: "bytes", limit });
        }
        hasher.write_all(&chunk).map_err(ImageError::io("hash a layer"))?;
        if filled == 0 || to.send(chunk).is_err() {
            return Ok(hasher.finish());
        }
    }
}

fn fill(source: &mut dyn Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match source.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// The stream at its receiving end.
struct Stream {
    chunks: Receiver<Vec<u8>>,
    give_back: SyncSender<Vec<u8>>,
    chunk: Vec<u8>,
    position: usize,
}

impl Stream {
    /// What is there to be taken; empty at the end.
    fn ready(&mut self) -> &[u8] {
        if self.position == self.chunk.len() {
            // Without a chunk to recycle the pump makes a new one.
            drop(self.give_back.try_send(std::mem::take(&mut self.chunk)));
            self.chunk = self.chunks.recv().unwrap_or_default();
            self.position = 0;
        }
        &self.chunk[self.position..]
    }

    fn drain(&mut self) {
        while !self.ready().is_empty() {
            self.position = self.chunk.len();
        }
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let ready = self.ready();
        let count = ready.len().min(buffer.len());
        buffer[..count].copy_from_slice(&ready[..count]);
        self.position += count;
        Ok(count)
    }
}

impl Forward for Stream {
    fn forward(&mut self, mut bytes: u64) -> io::Result<()> {
        while bytes > 0 {
            let count = self.ready().len().min(usize::try_from(bytes).unwrap_or(usize::MAX));
            if count == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            self.position += count;
            bytes -= count as u64;
        }
        Ok(())
    }
}

/// What was made, and which directories of it have no entry.
type Extracted<'a> = (Assembly<'a>, BTreeSet<TreePath>);

struct Extraction<'a> {
    entries: Entries<Stream>,
    destination: Destination,
    options: &'a UnpackOptions<'a>,
    assembly: Assembly<'a>,
    buffer: Vec<u8>,
    /// Directories without an entry so far.
    implied: BTreeSet<TreePath>,
    entries_seen: u64,
    bytes_seen: u64,
    metadata_bytes_seen: u64,
}

impl<'a> Extraction<'a> {
    fn run(
        stream: Stream,
        destination: Destination,
        options: &'a UnpackOptions<'a>,
    ) -> Result<Extracted<'a>, ImageError> {
        let mut extraction = Self {
            entries: Entries::new(stream),
            destination,
            options,
            assembly: Assembly::on(options.lower),
            buffer: vec![0; CHUNK_BYTES],
            implied: BTreeSet::new(),
            entries_seen: 0,
            bytes_seen: 0,
            metadata_bytes_seen: 0,
        };
        while let Some(entry) = extraction.entries.next()? {
            extraction.count(&entry)?;
            extraction.entry(&entry)?;
        }
        extraction.finish()
    }

    fn count(&mut self, entry: &Entry) -> Result<(), ImageError> {
        let Limits { entries, bytes, metadata_bytes } = self.options.limits;
        let over = |what, limit| Err(ImageError::Limit { what, limit });
        let xattrs = &entry.metadata.xattrs;
        let xattrs: usize = xattrs.iter().map(|(name, value)| name.len() + value.len()).sum();
        self.entries_seen += 1;
        self.metadata_bytes_seen += (entry.name.len() + entry.link.len() + xattrs) as u64;
        self.bytes_seen = self.bytes_seen.saturating_add(entry.size);
        if self.entries_seen > entries {
            return over("entries", entries);
        }
        if self.metadata_bytes_seen > metadata_bytes {
            return over("bytes of names and attributes", metadata_bytes);
        }
        if self.bytes_seen > bytes {
            return over("bytes", bytes);
        }
        Ok(())
    }

    fn entry(&mut self, entry: &Entry) -> Result<(), ImageError> {
        let path = self.assembly.resolve(&entry.name, refuse(entry))?;
        let parent = path.parent().unwrap_or_default();
        if path.components().any(|name| name.starts_with(WHITEOUT_PREFIX)) {
            return self.marker(entry, &path, &parent);
        }
        let Entry { kind, modified, metadata, .. } = entry;
        let (metadata, modified) = (metadata.clone(), *modified);
        if path.is_root() && *kind != Kind::Directory {
            return Err(refuse(entry)("it would replace the top directory"));
        }
        self.parents(&path)?;
        self.implied.remove(&path);
        match kind {
            Kind::Directory => self.directory(path, metadata, modified),
            Kind::File => self.file(entry, path),
            Kind::HardLink => self.link(entry, path),
            Kind::Symlink => {
                // Linux keeps no mode for them, whatever the archive says.
                let metadata = Metadata { mode: 0o777, ..metadata };
                self.vacate(&path)?;
                self.destination
                    .make_symlink(&path, &entry.link, &metadata, modified)
                    .map_err(make_error(&path))?;
                let item = Item::Symlink { target: entry.link.clone() };
                self.assembly.set_leaf(path, Leaf { item, metadata, modified });
                Ok(())
            }
            Kind::Character | Kind::Block | Kind::Fifo => self.device(entry, path),
        }
    }

    /// A whiteout, an opaque directory's marker, or what aufs left behind.
    fn marker(
        &mut self,
        entry: &Entry,
        path: &TreePath,
        parent: &TreePath,
    ) -> Result<(), ImageError> {
        let name = path.name();
        if path.components().any(|name| name.starts_with(AUFS_PREFIX)) && name != OPAQUE_MARKER {
            return Ok(());
        }
        if self.options.form.is_plain() {
            let reason = "names that begin with `.wh.` stand for removed files in images";
            return Err(refuse(entry)(reason));
        }
        if parent.components().any(|name| name.starts_with(WHITEOUT_PREFIX)) {
            return Err(refuse(entry)("it is below a whiteout"));
        }
        self.parents(path)?;
        if name == OPAQUE_MARKER {
            if parent.is_root() && self.assembly.get(parent).is_none() {
                self.implied(TreePath::ROOT)?;
            }
            self.assembly.hide(parent.clone());
            return Ok(());
        }
        let hidden = name.strip_prefix(WHITEOUT_PREFIX).unwrap_or_default();
        let hidden = parent.child(hidden).map_err(|_| refuse(entry)("it hides nothing"))?;
        self.assembly.hide(hidden);
        Ok(())
    }

    /// Makes the directories above a path that the tar has not set.
    fn parents(&mut self, path: &TreePath) -> Result<(), ImageError> {
        let Some(parent) = path.parent() else { return Ok(()) };
        if parent.is_root() || matches!(self.assembly.get(&parent), Some(Node::Directory { .. })) {
            return Ok(());
        }
        for directory in path.ancestors().into_iter().skip(1) {
            if !matches!(self.assembly.get(&directory), Some(Node::Directory { .. })) {
                self.implied(directory)?;
            }
        }
        Ok(())
    }

    /// Makes a directory that the tar takes for granted. An upper directory's mode and owner
    /// hide the lower one's, so they must be the same.
    fn implied(&mut self, path: TreePath) -> Result<(), ImageError> {
        let (metadata, modified) = match self.assembly.look_below(&path)? {
            Some(LowerItem::Directory { metadata, modified }) => (metadata, modified),
            _ => (Metadata::root(0o755), Time(0)),
        };
        self.implied.insert(path.clone());
        self.directory(path, metadata, modified)
    }

    fn directory(
        &mut self,
        path: TreePath,
        metadata: Metadata,
        modified: Time,
    ) -> Result<(), ImageError> {
        let opaque = match self.assembly.get(&path) {
            Some(Node::Removed) => true,
            Some(Node::Directory { opaque, .. }) => *opaque,
            Some(_) => {
                self.vacate(&path)?;
                false
            }
            None => false,
        };
        self.destination.make_directory(&path).map_err(make_error(&path))?;
        self.assembly.set(path, Node::Directory { opaque, metadata, modified });
        Ok(())
    }

    /// Removes what an earlier entry made here.
    fn vacate(&mut self, path: &TreePath) -> Result<(), ImageError> {
        match self.assembly.get(path) {
            None | Some(Node::Removed) => Ok(()),
            Some(_) => {
                match self.destination.remove(path) {
                    // A device that the form left out.
                    Ok(()) | Err(rustix::io::Errno::NOENT) => {}
                    Err(error) => return Err(make_error(path)(error)),
                }
                self.assembly.clear(path);
                Ok(())
            }
        }
    }

    fn file(&mut self, entry: &Entry, path: TreePath) -> Result<(), ImageError> {
        if entry.size > LARGE_BYTES && !entry.is_sparse && entry.size > self.destination.free() {
            // Better than to fill the disk with some of it.
            return Err(refuse(entry)("it is larger than what is free on the disk"));
        }
        self.vacate(&path)?;
        let mut file = self.destination.make_file(&path).map_err(make_error(&path))?;
        let write_error = |error| ImageError::io(format!("write `{path}`"))(error);
        let mut hasher = BlobHasher::default();
        loop {
            let count = self.entries.read(&mut self.buffer)?;
            let bytes = &self.buffer[..count];
            if count == 0 {
                break;
            }
            hasher.update(bytes);
            if entry.is_sparse && bytes.iter().all(|byte| *byte == 0) {
                let forward = io::SeekFrom::Current(i64::try_from(count).unwrap_or(0));
                io::Seek::seek(&mut file, forward).map_err(write_error)?;
            } else {
                file.write_all(bytes).map_err(write_error)?;
            }
        }
        if entry.is_sparse {
            file.set_len(entry.size).map_err(write_error)?;
        }
        let Entry { size, metadata, modified, .. } = entry;
        let dressed = self.destination.dress(&file, metadata, *modified);
        dressed.map_err(dress_error(&path, metadata))?;
        let (metadata, modified) = (metadata.clone(), *modified);
        let item = Item::File { blob: hasher.finish(), size: *size };
        self.assembly.set_leaf(path, Leaf { item, metadata, modified });
        Ok(())
    }

    fn link(&mut self, entry: &Entry, path: TreePath) -> Result<(), ImageError> {
        let to = self.assembly.resolve(&entry.link, refuse(entry))?;
        let number = match self.assembly.get(&to) {
            Some(Node::Directory { .. }) => {
                return Err(refuse(entry)("it is a hard link to a directory"));
            }
            Some(Node::Removed) => return Err(no_target(entry)),
            None => return self.lower_link(entry, path, &to),
            Some(Node::Leaf(number)) => *number,
        };
        if to == path {
            return Ok(());
        }
        if to.below(&path).is_some() {
            return Err(refuse(entry)("it would replace its own target"));
        }
        self.vacate(&path)?;
        let item = self.assembly.leaf(number).map(|leaf| &leaf.item);
        let is_device = matches!(item, Some(Item::Device(_)));
        let is_there = match self.destination.make_link(&path, &to) {
            // A device that the form left out.
            Err(rustix::io::Errno::NOENT) if is_device => false,
            made => made.map(|()| true).map_err(make_error(&path))?,
        };
        // As in Docker: the last entry's owner, mode and time are those of all names.
        let changed = self.assembly.change_leaf(number, &entry.metadata, entry.modified);
        if let Some(leaf) = changed.filter(|_| is_there) {
            let dressed = self.destination.dress_leaf(&path, leaf);
            dressed.map_err(dress_error(&path, &leaf.metadata))?;
        }
        self.assembly.set(path, Node::Leaf(number));
        Ok(())
    }

    /// A name for a lower layer's file: a copy of it, as overlayfs makes one.
    fn lower_link(
        &mut self,
        entry: &Entry,
        path: TreePath,
        to: &TreePath,
    ) -> Result<(), ImageError> {
        let Some(LowerItem::File { metadata, modified: _, mut content }) =
            self.assembly.look_below(to)?
        else {
            return Err(no_target(entry));
        };
        let (metadata, modified) = (with_more(&metadata, &entry.metadata), entry.modified);
        self.vacate(&path)?;
        let mut file = self.destination.make_file(&path).map_err(make_error(&path))?;
        let (mut hasher, mut size) = (BlobHasher::default(), 0);
        loop {
            let count = content
                .read(&mut self.buffer)
                .map_err(ImageError::io(format!("read `{to}` in lower layers")))?;
            if count == 0 {
                break;
            }
            size += count as u64;
            hasher.update(&self.buffer[..count]);
            let write_error = ImageError::io(format!("write `{path}`"));
            file.write_all(&self.buffer[..count]).map_err(write_error)?;
        }
        let dressed = self.destination.dress(&file, &metadata, modified);
        dressed.map_err(dress_error(&path, &metadata))?;
        let item = Item::File { blob: hasher.finish(), size };
        self.assembly.set_leaf(path, Leaf { item, metadata, modified });
        Ok(())
    }

    fn device(&mut self, entry: &Entry, path: TreePath) -> Result<(), ImageError> {
        let (major, minor) = entry.device;
        let device = match entry.kind {
            Kind::Character => Device::Character(major, minor),
            Kind::Block => Device::Block(major, minor),
            _ => Device::Fifo,
        };
        let (metadata, modified) = (entry.metadata.clone(), entry.modified);
        self.vacate(&path)?;
        if device == Device::Character(0, 0) && !self.options.form.is_plain() {
            // That is what overlayfs takes for a whiteout.
            self.assembly.hide(path);
            return Ok(());
        }
        self.destination
            .make_device(&path, device, &metadata, modified)
            .map_err(dress_error(&path, &metadata))?;
        self.assembly.set_leaf(path, Leaf { item: Item::Device(device), metadata, modified });
        Ok(())
    }

    /// Makes whiteouts and dresses directories, the deepest first: times must stay.
    fn finish(self) -> Result<Extracted<'a>, ImageError> {
        let Self { entries, mut destination, assembly, options, implied, .. } = self;
        entries.into_source().drain();
        let whiteouts = !options.form.is_plain();
        for (path, node) in assembly.nodes().rev() {
            let made = match node {
                Node::Removed if whiteouts => destination.make_whiteout(path),
                Node::Directory { opaque, metadata, modified } => {
                    let dressed = destination.dress_directory(path, metadata, *modified, *opaque);
                    dressed.map_err(dress_error(path, metadata))?;
                    continue;
                }
                _ => Ok(()),
            };
            made.map_err(make_error(path))?;
        }
        Ok((assembly, implied))
    }
}

fn refuse(entry: &Entry) -> impl Fn(&'static str) -> ImageError + '_ {
    |reason| ImageError::Entry { entry: lossy(&entry.name), reason }
}

fn no_target(entry: &Entry) -> ImageError {
    ImageError::LinkTarget { entry: lossy(&entry.name), target: lossy(&entry.link) }
}

/// What went wrong when something got its owner, mode and attributes.
pub(crate) fn dress_error<'a>(
    path: &'a TreePath,
    metadata: &'a Metadata,
) -> impl FnOnce(rustix::io::Errno) -> ImageError + 'a {
    move |error| {
        let owners = [("uid", metadata.uid), ("gid", metadata.gid)];
        let is_unknown = |(kind, id): &(&'static str, u32)| !is_mapped(kind, *id);
        match owners.into_iter().find(is_unknown) {
            Some((kind, id)) if error == rustix::io::Errno::INVAL => {
                ImageError::NoSuchId { path: path.clone(), kind, id }
            }
            _ => make_error(path)(error),
        }
    }
}

/// Whether the user namespace that this is in has an id; yes, where that can not be told.
fn is_mapped(kind: &str, id: u32) -> bool {
    let Ok(map) = std::fs::read_to_string(format!("/proc/self/{kind}_map")) else { return true };
    map.lines().any(|line| {
        let mut numbers = line.split_whitespace().map(|word| word.parse().unwrap_or(0_u64));
        let (first, _, count) = (numbers.next(), numbers.next(), numbers.next());
        let first = first.unwrap_or(0);
        (first..first.saturating_add(count.unwrap_or(0))).contains(&u64::from(id))
    })
}

pub(crate) fn make_error(path: &TreePath) -> impl FnOnce(rustix::io::Errno) -> ImageError {
    let path = path.clone();
    move |error| ImageError::Io { action: format!("create `{path}`"), source: error.into() }
}
