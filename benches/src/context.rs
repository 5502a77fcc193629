//! Generated build contexts. Their bytes come from a small generator with a seed, so that no two
//! rounds have a byte in common and every run of one seed writes the same.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

const FILES_IN_A_DIRECTORY: usize = 100;

/// A directory that is removed when it is no longer needed.
#[derive(Debug)]
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    /// A new one below the system's temporary directory.
    pub(crate) fn new(name: &str) -> io::Result<Self> {
        let path = std::env::temp_dir().join(format!("strata-bench-{}-{name}", std::process::id()));
        fs::create_dir_all(&path)?;
        Ok(Self(path))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// Writes the Dockerfile.
    pub(crate) fn dockerfile(&self, text: &str) -> io::Result<()> {
        fs::write(self.0.join("Dockerfile"), text)
    }

    /// Writes `count` files of `size` bytes below `data`, over those that are there.
    pub(crate) fn files(&self, count: usize, size: usize, seed: u64) -> io::Result<()> {
        let mut random = Random(seed);
        for number in 0..count {
            let folder = self.0.join(format!("data/{}", number / FILES_IN_A_DIRECTORY));
            fs::create_dir_all(&folder)?;
            let mut file = BufWriter::new(File::create(folder.join(format!("{number}.bin")))?);
            random.write(&mut file, size)?;
            file.flush()?;
        }
        Ok(())
    }

    /// Copies files of a directory below `data`, in the order of their names, as long as they are
    /// not more than so many bytes.
    pub(crate) fn copies(&self, from: &Path, bytes: u64) -> io::Result<()> {
        let mut left = bytes;
        copy_files(from, &self.0.join("data"), &mut left)?;
        if left == bytes {
            let text = format!("`{}` has no files to copy", from.display());
            return Err(io::Error::new(io::ErrorKind::NotFound, text));
        }
        Ok(())
    }
}

fn copy_files(from: &Path, to: &Path, left: &mut u64) -> io::Result<()> {
    let mut entries: Vec<_> = fs::read_dir(from)?.collect::<Result<_, _>>()?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let (path, target) = (entry.path(), to.join(entry.file_name()));
        let kind = entry.file_type()?;
        if kind.is_dir() && *left > 0 {
            copy_files(&path, &target, left)?;
        } else if kind.is_file() && entry.metadata()?.len() <= *left {
            fs::create_dir_all(to)?;
            *left -= fs::copy(&path, &target)?;
        }
    }
    Ok(())
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// splitmix64: fast, and nothing compresses it.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn write(&mut self, to: &mut impl Write, size: usize) -> io::Result<()> {
        let mut left = size;
        while left > 0 {
            let bytes = self.next().to_le_bytes();
            let part = left.min(bytes.len());
            to.write_all(&bytes[..part])?;
            left -= part;
        }
        Ok(())
    }
}

/// A number that no earlier run had.
pub(crate) fn seed() -> u64 {
    let since = std::time::UNIX_EPOCH.elapsed().unwrap_or_default();
    since.as_secs() ^ (u64::from(since.subsec_nanos()) << 34)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_seed_gives_one_context() {
        let scratch = Scratch::new("test").expect("a directory");
        let file = scratch.path().join("data/1/101.bin");
        let read = |seed| {
            scratch.files(102, 13, seed).expect("files");
            fs::read(&file).expect("the last file")
        };
        assert_eq!(read(1).len(), 13);
        assert_eq!(read(1), read(1));
        assert_ne!(read(1), read(2));
    }

    #[test]
    fn copies_end_before_they_are_too_many() {
        let scratch = Scratch::new("copies").expect("a directory");
        scratch.files(3, 100, 1).expect("files");
        let other = Scratch::new("copied").expect("a directory");
        other.copies(scratch.path(), 250).expect("copied");
        let copied = fs::read_dir(other.path().join("data/data/0")).expect("a directory");
        assert_eq!(copied.count(), 2);
        assert!(other.copies(Path::new("/nowhere-at-all"), 250).is_err());
        assert!(other.copies(scratch.path(), 10).is_err());
    }
}
