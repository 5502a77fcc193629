//! A layer as tar: a pure function of the layer, so that equal layers have equal digests on every
//! machine. Reads blobs ahead, in parallel, while it writes.

use std::io::{self, BufWriter, Read, Write};

use rayon::prelude::*;
use strata_cas::{
    Action, BlobId, BlobStore, Change, Device, Item, Layer, Metadata, Time, TreePath,
};
use strata_oci::{Digest, DigestHasher};
use tar::EntryType;

use crate::ImageError;
use crate::header::{BLOCK, Fields, encode, padding};
use crate::read_ahead::copy_ahead;
use crate::shape::{self, OPAQUE_MARKER, WHITEOUT_PREFIX};

/// Files up to this size are read ahead as a whole.
pub const WHOLE_FILE_BYTES: u64 = 4 << 20;
/// What is read ahead at once, in bytes of content and in changes.
const WINDOW_BYTES: u64 = 16 << 20;
const WINDOW_CHANGES: usize = 1024;
const OUT_BUFFER_BYTES: usize = 64 << 10;

/// Where the bytes of a layer's files come from.
pub trait Contents: Sync {
    /// All bytes of a file of [`WHOLE_FILE_BYTES`] at most; `None` when they are not there. Each
    /// such file of a layer is asked for once.
    fn whole(&self, blob: &BlobId) -> Result<Option<Vec<u8>>, ImageError>;

    /// A file of any size.
    fn open(&self, blob: &BlobId) -> Result<Option<Box<dyn Read + Send + '_>>, ImageError>;
}

/// The blobs of a store, compared with their names.
struct Stored<'a>(&'a dyn BlobStore);

impl Contents for Stored<'_> {
    fn whole(&self, blob: &BlobId) -> Result<Option<Vec<u8>>, ImageError> {
        Ok(self.0.get(blob)?)
    }

    fn open(&self, blob: &BlobId) -> Result<Option<Box<dyn Read + Send + '_>>, ImageError> {
        Ok(self.0.open(blob)?.map(|found| Box::new(found.reader(*blob)) as Box<dyn Read + Send>))
    }
}

/// Writes the layer's tar: paths in [`TreePath`]'s order, directories with a trailing slash, PAX
/// only where USTAR is not enough, whiteouts as OCI has them, an opaque directory's marker
/// directly behind the directory, the root as `./` if the layer sets it.
///
/// Fails when the store lacks or fails to give a file's bytes, and for a layer that no tar can
/// hold: a file with something below it, a hard link without target, a name with `.wh.` in front.
pub fn pack(layer: &Layer, blobs: &dyn BlobStore, out: &mut dyn Write) -> Result<(), ImageError> {
    pack_from(layer, &Stored(blobs), out)
}

fn pack_from(layer: &Layer, blobs: &dyn Contents, out: &mut dyn Write) -> Result<(), ImageError> {
    shape::check(layer)?;
    let out: BufWriter<&mut dyn Write> = BufWriter::with_capacity(OUT_BUFFER_BYTES, &mut *out);
    let mut writer = Writer { layer, blobs, out, heads_only: false };
    let mut windows = windows(layer.changes());
    let mut next = windows.next().map(|window| (window.clone(), writer.fetch(window)));
    while let Some((window, contents)) = next.take() {
        let following = windows.next();
        let layer_blobs = Ahead { layer, blobs };
        let result = rayon::in_place_scope(|scope| {
            let next = &mut next;
            if let Some(following) = following {
                scope.spawn(move |_| {
                    *next = Some((following.clone(), layer_blobs.fetch(following)));
                });
            }
            writer.window(window, contents)
        });
        result?;
    }
    writer.finish()
}

/// The tar's digest, which is the layer's diff ID, and its size in bytes, without keeping it.
pub fn describe(layer: &Layer, blobs: &dyn BlobStore) -> Result<(Digest, u64), ImageError> {
    describe_from(layer, &Stored(blobs))
}

/// The same for files that are not in a store yet.
pub fn describe_from(layer: &Layer, contents: &dyn Contents) -> Result<(Digest, u64), ImageError> {
    let mut hasher = DigestHasher::default();
    pack_from(layer, contents, &mut hasher)?;
    Ok(hasher.finish())
}

/// What stands in the tar for one change, but for a file's content and its padding.
pub(crate) fn head(
    layer: &Layer,
    blobs: &dyn BlobStore,
    index: usize,
) -> Result<Vec<u8>, ImageError> {
    let mut bytes = Vec::with_capacity(BLOCK);
    let out = BufWriter::with_capacity(4 * BLOCK, &mut bytes as &mut dyn Write);
    let mut writer = Writer { layer, blobs: &Stored(blobs), out, heads_only: true };
    writer.change(index, None)?;
    writer.out.flush().map_err(write_error)?;
    drop(writer);
    Ok(bytes)
}

type Window = std::ops::Range<usize>;
/// A small file's bytes, for each change of a window.
type ReadAhead = Vec<Option<Result<Vec<u8>, ImageError>>>;

/// Cuts the changes into pieces whose small files fit into memory.
fn windows(changes: &[Change]) -> impl Iterator<Item = Window> + '_ {
    let mut start = 0;
    std::iter::from_fn(move || {
        let (mut end, mut bytes) = (start, 0);
        while end < changes.len() && end - start < WINDOW_CHANGES && bytes < WINDOW_BYTES {
            bytes += whole_file(&changes[end]).map_or(0, |(_, size)| size);
            end += 1;
        }
        let window = start..end;
        start = end;
        (!window.is_empty()).then_some(window)
    })
}

/// The blob that is read ahead for a change.
fn whole_file(change: &Change) -> Option<(BlobId, u64)> {
    match change.action {
        Action::Set { item: Item::File { blob, size }, .. } if size <= WHOLE_FILE_BYTES => {
            Some((blob, size))
        }
        _ => None,
    }
}

#[derive(Clone, Copy)]
struct Ahead<'a> {
    layer: &'a Layer,
    blobs: &'a dyn Contents,
}

impl Ahead<'_> {
    fn fetch(self, window: Window) -> ReadAhead {
        let content = |change: &Change| {
            let (blob, _) = whole_file(change)?;
            let missing = || ImageError::MissingBlob { path: change.path.clone(), blob };
            let bytes = self.blobs.whole(&blob);
            Some(bytes.and_then(|bytes| bytes.ok_or_else(missing)))
        };
        self.layer.changes()[window].par_iter().with_min_len(16).map(content).collect()
    }
}

struct Writer<'a> {
    layer: &'a Layer,
    blobs: &'a dyn Contents,
    out: BufWriter<&'a mut dyn Write>,
    /// Whether files' contents are left out.
    heads_only: bool,
}

impl Writer<'_> {
    fn fetch(&self, window: Window) -> ReadAhead {
        Ahead { layer: self.layer, blobs: self.blobs }.fetch(window)
    }

    fn window(&mut self, window: Window, contents: ReadAhead) -> Result<(), ImageError> {
        window.zip(contents).try_for_each(|(index, content)| self.change(index, content))
    }

    fn change(
        &mut self,
        index: usize,
        content: Option<Result<Vec<u8>, ImageError>>,
    ) -> Result<(), ImageError> {
        let layer = self.layer;
        let path = &layer.changes()[index].path;
        match &*shape::action(layer.changes(), index) {
            Action::Remove => self.whiteout(path),
            Action::Set { item, metadata, modified } => {
                self.item(path, item, metadata, *modified, content)
            }
        }
    }

    fn item(
        &mut self,
        path: &TreePath,
        item: &Item,
        metadata: &Metadata,
        modified: Time,
        content: Option<Result<Vec<u8>, ImageError>>,
    ) -> Result<(), ImageError> {
        let mut fields = Fields {
            name: path.as_bytes(),
            kind: EntryType::Regular,
            link: b"",
            size: 0,
            metadata,
            modified,
            device: (0, 0),
        };
        match item {
            Item::Directory { opaque } => {
                let name = directory_name(path);
                let kind = EntryType::Directory;
                self.entry(path, &Fields { name: &name, kind, ..fields })?;
                if *opaque { self.marker(path, OPAQUE_MARKER) } else { Ok(()) }
            }
            Item::File { blob, size } => {
                fields.size = *size;
                self.entry(path, &fields)?;
                self.content(path, *blob, *size, content)
            }
            Item::HardLink { to } => {
                (fields.kind, fields.link) = (EntryType::Link, to.as_bytes());
                let target = shape::linked(self.layer, to);
                (fields.metadata, fields.modified) = target.unwrap_or((metadata, modified));
                self.entry(path, &fields)
            }
            Item::Symlink { target } => {
                (fields.kind, fields.link) = (EntryType::Symlink, target);
                self.entry(path, &fields)
            }
            Item::Device(device) => {
                (fields.kind, fields.device) = match *device {
                    Device::Character(major, minor) => (EntryType::Char, (major, minor)),
                    Device::Block(major, minor) => (EntryType::Block, (major, minor)),
                    Device::Fifo => (EntryType::Fifo, (0, 0)),
                };
                self.entry(path, &fields)
            }
        }
    }

    fn whiteout(&mut self, path: &TreePath) -> Result<(), ImageError> {
        let directory = path.parent().unwrap_or_default();
        self.marker(&directory, &[WHITEOUT_PREFIX, path.name()].concat())
    }

    fn marker(&mut self, directory: &TreePath, name: &[u8]) -> Result<(), ImageError> {
        let name = match directory.is_root() {
            true => name.to_vec(),
            false => [directory.as_bytes(), b"/", name].concat(),
        };
        let fields = Fields {
            name: &name,
            kind: EntryType::Regular,
            link: b"",
            size: 0,
            metadata: &Metadata::root(0),
            modified: Time(0),
            device: (0, 0),
        };
        self.entry(directory, &fields)
    }

    fn entry(&mut self, path: &TreePath, fields: &Fields<'_>) -> Result<(), ImageError> {
        let wrong = |reason| ImageError::Unrepresentable { path: path.clone(), reason };
        let bytes = encode(fields).map_err(wrong)?;
        self.out.write_all(&bytes).map_err(write_error)
    }

    fn content(
        &mut self,
        path: &TreePath,
        blob: BlobId,
        size: u64,
        content: Option<Result<Vec<u8>, ImageError>>,
    ) -> Result<(), ImageError> {
        if self.heads_only {
            return Ok(());
        }
        let count = match content {
            Some(bytes) => {
                let bytes = bytes?;
                self.out.write_all(&bytes).map_err(write_error)?;
                bytes.len() as u64
            }
            None => {
                let missing = || ImageError::MissingBlob { path: path.clone(), blob };
                let mut reader = self.blobs.open(&blob)?.ok_or_else(missing)?;
                let read_error = ImageError::io(format!("read the bytes of `{path}`"));
                let mut limited = (&mut reader).take(size.saturating_add(1));
                copy_ahead(&mut limited, &mut self.out).map_err(read_error)?
            }
        };
        if count != size {
            let reason = "its blob does not have the size that the layer says";
            return Err(ImageError::Unrepresentable { path: path.clone(), reason });
        }
        let zeros = [0; BLOCK];
        let padding = usize::try_from(padding(size)).unwrap_or(0);
        self.out.write_all(&zeros[..padding]).map_err(write_error)
    }

    fn finish(mut self) -> Result<(), ImageError> {
        self.out.write_all(&[0; 2 * BLOCK]).map_err(write_error)?;
        self.out.flush().map_err(write_error)
    }
}

fn directory_name(path: &TreePath) -> Vec<u8> {
    match path.is_root() {
        true => b"./".to_vec(),
        false => [path.as_bytes(), b"/"].concat(),
    }
}

fn write_error(source: io::Error) -> ImageError {
    ImageError::Io { action: "write a layer's tar".to_owned(), source }
}
