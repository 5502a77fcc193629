//! Bytes on their way out, hashed once more: what is sent is what its name says, or is not sent.

use std::io::{self, Write};

use strata_oci::{Digest, DigestHasher};

/// Hashes what it passes on.
pub(crate) struct Checked<'a> {
    out: &'a mut dyn Write,
    hasher: DigestHasher,
}

impl<'a> Checked<'a> {
    pub(crate) fn new(out: &'a mut dyn Write) -> Self {
        Self { out, hasher: DigestHasher::default() }
    }

    /// Whether that was all of the bytes with this name, and nothing else. What is still on its way
    /// goes out then.
    pub(crate) fn end(self, digest: Digest, size: u64) -> io::Result<()> {
        match self.hasher.finish() == (digest, size) {
            true => self.out.flush(),
            false => Err(io::Error::other("the bytes are not what their digest says")),
        }
    }
}

impl Write for Checked<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.out.write(bytes)?;
        self.hasher.write_all(&bytes[..count])?;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_bytes_are_refused() {
        let digest = Digest::of(b"bytes");
        let check = |given: &[u8], size, is_ok| {
            let mut out = Vec::new();
            let mut checked = Checked::new(&mut out);
            checked.write_all(given).expect("kept");
            assert_eq!(checked.end(digest, size).is_ok(), is_ok);
            assert_eq!(out, given);
        };
        check(b"bytes", 5, true);
        check(b"bytes", 6, false);
        check(b"byte", 5, false);
        check(b"bytez", 5, false);
    }
}
