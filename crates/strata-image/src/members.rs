//! The files of a directory or of a tar by their names, for random access.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use strata_cas::TreePath;

use crate::ImageError;
use crate::compress::detect;
use crate::entries::{Entries, Entry, Forward, Kind, lossy};

/// A tar of an image has not more entries than this.
const MAX_ENTRIES: usize = 1_000_000;
/// A member is behind at most this many links.
const MAX_LINKS: usize = 16;

/// A member's bytes and their number.
pub(crate) type Opened<'a> = (Box<dyn Read + Send + 'a>, u64);

/// Files by name.
#[derive(Debug)]
pub(crate) enum Members {
    Directory(PathBuf),
    Tar { file: File, members: BTreeMap<TreePath, Member> },
}

#[derive(Debug)]
pub(crate) enum Member {
    /// Where its bytes begin, and their number.
    File {
        offset: u64,
        size: u64,
    },
    Link(TreePath),
}

impl Members {
    /// Opens a directory or an uncompressed tar.
    pub(crate) fn open(path: &Path) -> Result<Self, ImageError> {
        let open_error = || ImageError::io(format!("open `{}`", path.display()));
        let file = File::open(path).map_err(open_error())?;
        let metadata = file.metadata().map_err(open_error())?;
        if metadata.is_dir() {
            return Ok(Self::Directory(path.to_owned()));
        }
        let wrong = |reason: &str| {
            Err(ImageError::Layout { path: path.to_owned(), reason: reason.to_owned() })
        };
        if !metadata.is_file() {
            return wrong("it is neither a directory nor a file");
        }
        let mut start = [0; 6];
        let count = file.read_at(&mut start, 0).map_err(open_error())?;
        if detect(&start[..count]).is_some() {
            return wrong("the archive as a whole is compressed; decompress it first");
        }
        let members = list(Seekable { file: &file, size: metadata.len(), position: 0 })?;
        Ok(Self::Tar { file, members })
    }

    /// Opens one file; its size comes with it. `None` if there is none of that name.
    pub(crate) fn get(&self, name: &TreePath) -> Result<Option<Opened<'_>>, ImageError> {
        match self {
            Self::Directory(path) => open_below(path, name),
            Self::Tar { file, members } => {
                let mut name = name;
                for _ in 0..MAX_LINKS {
                    match members.get(name) {
                        None => return Ok(None),
                        Some(Member::Link(to)) => name = to,
                        Some(Member::File { offset, size }) => {
                            let part = Part { file, position: *offset, end: offset + size };
                            return Ok(Some((Box::new(part), *size)));
                        }
                    }
                }
                Ok(None)
            }
        }
    }
}

fn open_below(directory: &Path, name: &TreePath) -> Result<Option<Opened<'static>>, ImageError> {
    let path = directory.join(std::ffi::OsStr::from_bytes(name.as_bytes()));
    let error = || ImageError::io(format!("open `{}`", path.display()));
    // Looked at before it is opened: opening a fifo would wait for ever.
    let size = match std::fs::metadata(&path) {
        Ok(metadata) if metadata.is_file() => metadata.len(),
        Ok(_) => return Ok(None),
        Err(missing) if missing.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(other) => return Err(error()(other)),
    };
    Ok(Some((Box::new(File::open(&path).map_err(error())?), size)))
}

fn list(source: Seekable<'_>) -> Result<BTreeMap<TreePath, Member>, ImageError> {
    let archive_size = source.size;
    let mut entries = Entries::new(source);
    let mut members = BTreeMap::new();
    while let Some(entry) = entries.next()? {
        let Entry { name, kind, link, size, is_sparse, .. } = &entry;
        let wrong = |reason| ImageError::Entry { entry: lossy(name), reason };
        let path = TreePath::normalise(name);
        let member = match kind {
            Kind::File if *is_sparse => return Err(wrong("it is a sparse file")),
            Kind::File => {
                let offset = entries.offset();
                if offset.checked_add(*size).is_none_or(|end| end > archive_size) {
                    return Err(wrong("it ends behind the archive's end"));
                }
                Member::File { offset, size: *size }
            }
            Kind::HardLink => Member::Link(TreePath::normalise(link)),
            Kind::Symlink => {
                let directory = path.parent().unwrap_or_default();
                let way = [directory.as_bytes(), b"/", link].concat();
                Member::Link(TreePath::normalise(if link.starts_with(b"/") { link } else { &way }))
            }
            _ => continue,
        };
        members.insert(path, member);
        if members.len() > MAX_ENTRIES {
            return Err(ImageError::Limit { what: "entries", limit: MAX_ENTRIES as u64 });
        }
    }
    Ok(members)
}

/// A file that is passed over by seeking.
struct Seekable<'a> {
    file: &'a File,
    size: u64,
    position: u64,
}

impl Read for Seekable<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read_at(buffer, self.position)?;
        self.position += count as u64;
        Ok(count)
    }
}

impl Forward for Seekable<'_> {
    fn forward(&mut self, bytes: u64) -> io::Result<()> {
        match self.position.checked_add(bytes) {
            Some(position) if position <= self.size => {
                self.position = position;
                Ok(())
            }
            _ => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
}

/// A part of a file, read without moving the file's own position.
struct Part<'a> {
    file: &'a File,
    position: u64,
    end: u64,
}

impl Read for Part<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.end - self.position).unwrap_or(usize::MAX);
        let most = left.min(buffer.len());
        let count = self.file.read_at(&mut buffer[..most], self.position)?;
        self.position += count as u64;
        Ok(count)
    }
}
