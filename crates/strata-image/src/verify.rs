//! Blobs that are checked against their descriptor while they are read or written.

use std::io::{self, Read, Write};

use strata_oci::{Descriptor, Digest, DigestHasher};

use crate::ImageError;

/// Passes a blob's bytes on and fails at its end when size or digest are not as described. What
/// is longer than described fails as soon as that shows.
pub(crate) struct Verified<R> {
    source: R,
    hasher: Option<DigestHasher>,
    digest: Digest,
    left: u64,
}

impl<R: Read> Verified<R> {
    pub(crate) fn new(source: R, descriptor: &Descriptor) -> Self {
        let Descriptor { digest, size, .. } = descriptor;
        Self { source, hasher: Some(DigestHasher::default()), digest: *digest, left: *size }
    }

    fn wrong(&self, reason: &str) -> io::Error {
        let message = format!("blob {} does not match its descriptor: {reason}", self.digest);
        io::Error::new(io::ErrorKind::InvalidData, message)
    }
}

impl<R: Read> Read for Verified<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.source.read(buffer)?;
        if count as u64 > self.left {
            return Err(self.wrong("it is too long"));
        }
        self.left -= count as u64;
        if let Some(hasher) = &mut self.hasher {
            hasher.write_all(&buffer[..count])?;
        }
        if count == 0 && !buffer.is_empty() {
            if self.left > 0 {
                return Err(self.wrong("it is too short"));
            }
            if let Some(hasher) = self.hasher.take()
                && hasher.finish().0 != self.digest
            {
                return Err(self.wrong("it has another digest"));
            }
        }
        Ok(count)
    }
}

/// Takes a blob's bytes and says at the end whether they were as described.
pub(crate) struct Checked<'a> {
    out: &'a mut dyn Write,
    described: &'a Descriptor,
    /// None where whoever gives the bytes compares them.
    hasher: Option<DigestHasher>,
    left: u64,
}

impl<'a> Checked<'a> {
    pub(crate) fn new(
        out: &'a mut dyn Write,
        described: &'a Descriptor,
        is_verified: bool,
    ) -> Self {
        let hasher = (!is_verified).then(DigestHasher::default);
        Self { out, described, hasher, left: described.size }
    }

    pub(crate) fn finish(self) -> Result<(), ImageError> {
        let Descriptor { digest: what, size, .. } = *self.described;
        if self.left > 0 {
            let reason = format!("{} bytes instead of {size}", size - self.left);
            return Err(ImageError::Mismatch { what, reason });
        }
        match self.hasher.map(|hasher| hasher.finish().0) {
            Some(digest) if digest != what => {
                Err(ImageError::Mismatch { what, reason: format!("its digest is {digest}") })
            }
            _ => Ok(()),
        }
    }
}

impl Write for Checked<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.len() as u64 > self.left {
            let message = "a layer has more bytes than its descriptor says";
            return Err(io::Error::new(io::ErrorKind::InvalidData, message));
        }
        let count = self.out.write(bytes)?;
        self.left -= count as u64;
        if let Some(hasher) = &mut self.hasher {
            hasher.write_all(&bytes[..count])?;
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// Counts what it passes on.
pub(crate) struct Counted<'a> {
    pub(crate) out: &'a mut dyn Write,
    pub(crate) count: u64,
}

impl Write for Counted<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.out.write(bytes)?;
        self.count += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
