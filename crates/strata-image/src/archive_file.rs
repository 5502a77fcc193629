//! An archive while it is written. Into a file, a layer can go while it is made, before anybody
//! knows its digest or size: its header is written afterwards.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, BufWriter, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;

use strata_cas::{Metadata, Time, TreePath};
use strata_oci::Digest;
use tar::EntryType;

use crate::archive::{Files, OUT_BUFFER_BYTES, OutgoingLayer, Parcel, write_error};
use crate::header::{self, BLOCK, Fields, padding};
use crate::layout::blob_path;
use crate::{ImageError, verify};

/// An archive under way: layers in the order in which they are given, then all else.
pub struct Archive<W: Write> {
    out: BufWriter<W>,
    /// Bytes so far.
    position: u64,
    blobs: BTreeSet<Digest>,
}

impl<W: Write> Archive<W> {
    /// Begins one.
    ///
    /// # Errors
    ///
    /// What writing says.
    pub fn begin(out: W) -> Result<Self, ImageError> {
        let out = BufWriter::with_capacity(OUT_BUFFER_BYTES, out);
        let mut archive = Self { out, position: 0, blobs: BTreeSet::new() };
        for directory in ["blobs/", "blobs/sha256/"] {
            archive.write(&entry(directory, EntryType::Directory, 0o755, 0)?)?;
        }
        Ok(archive)
    }

    /// Writes a layer that is not in it yet.
    ///
    /// # Errors
    ///
    /// What its source says, [`ImageError::Mismatch`] when its bytes are not what they should be,
    /// and what writing says.
    pub fn layer(&mut self, layer: &OutgoingLayer<'_>) -> Result<(), ImageError> {
        let (digest, size) = (layer.descriptor.digest, layer.descriptor.size);
        if !self.blobs.insert(digest) {
            return Ok(());
        }
        let name = blob_path(&digest).to_string();
        self.write(&entry(&name, EntryType::Regular, 0o644, size)?)?;
        layer.write_to(&mut self.out)?;
        self.position += size;
        self.pad(size)
    }

    /// Writes what is missing for an OCI layout with these images, and the archive's end.
    ///
    /// # Errors
    ///
    /// As [`Self::layer`].
    pub fn finish_oci(self, parcels: &[Parcel<'_>]) -> Result<(), ImageError> {
        let mut files = Files::default();
        let descriptors = files.parcels(parcels);
        files.layout(descriptors)?;
        self.finish(&files)
    }

    /// The same with Docker's own list of images.
    ///
    /// # Errors
    ///
    /// As [`Self::layer`].
    pub fn finish_docker(self, parcels: &[Parcel<'_>]) -> Result<(), ImageError> {
        let mut files = Files::default();
        let descriptors = files.parcels(parcels);
        files.layout(descriptors)?;
        files.list(parcels)?;
        self.finish(&files)
    }

    pub(crate) fn finish(mut self, files: &Files<'_>) -> Result<(), ImageError> {
        for layer in &files.layers {
            self.layer(layer)?;
        }
        for (name, bytes) in &files.documents {
            let size = bytes.len() as u64;
            self.write(&entry(name, EntryType::Regular, 0o644, size)?)?;
            self.write(bytes)?;
            self.pad(size)?;
        }
        self.write(&[0; 2 * BLOCK])?;
        self.out.flush().map_err(write_error())
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), ImageError> {
        self.position += bytes.len() as u64;
        self.out.write_all(bytes).map_err(write_error())
    }

    fn pad(&mut self, size: u64) -> Result<(), ImageError> {
        let padding = usize::try_from(padding(size)).unwrap_or(0);
        self.write(&[0; BLOCK][..padding])
    }
}

/// The largest layer that goes into a file while it is made, in bytes: a header of one block can
/// say the size of 8 GiB, and what does not compress grows a little.
pub const MOST_MADE_BYTES: u64 = 7 << 30;

impl Archive<&File> {
    /// Writes a blob while it is made; who makes it says its digest at the end. A blob that is in
    /// the archive already is not in it twice.
    ///
    /// # Errors
    ///
    /// What `make` says, and what writing says.
    pub fn made<E: From<ImageError>>(
        &mut self,
        make: impl FnOnce(&mut dyn Write) -> Result<Digest, E>,
    ) -> Result<(), E> {
        let start = self.position;
        self.write(&[0; BLOCK])?;
        let mut counted = verify::Counted { out: &mut self.out, count: 0 };
        let digest = make(&mut counted)?;
        let size = counted.count;
        self.position += size;
        self.pad(size)?;
        self.out.flush().map_err(write_error())?;
        if !self.blobs.insert(digest) {
            return Ok(self.back_to(start).map_err(write_error())?);
        }
        let name = blob_path(&digest).to_string();
        let head = entry(&name, EntryType::Regular, 0o644, size)?;
        if head.len() != BLOCK {
            let limit = MOST_MADE_BYTES;
            return Err(ImageError::Limit { what: "bytes of a layer that is made", limit }.into());
        }
        Ok(self.out.get_ref().write_all_at(&head, start).map_err(write_error())?)
    }

    fn back_to(&mut self, position: u64) -> io::Result<()> {
        self.position = position;
        self.out.get_ref().set_len(position)?;
        self.out.seek(SeekFrom::Start(position)).map(drop)
    }
}

fn entry(name: &str, kind: EntryType, mode: u32, size: u64) -> Result<Vec<u8>, ImageError> {
    let metadata = Metadata::root(mode);
    let fields = Fields {
        name: name.as_bytes(),
        kind,
        link: b"",
        size,
        metadata: &metadata,
        modified: Time(0),
        device: (0, 0),
    };
    let path = || TreePath::normalise(name.as_bytes());
    header::encode(&fields).map_err(|reason| ImageError::Unrepresentable { path: path(), reason })
}
