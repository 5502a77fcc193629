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
    hasher: DigestHasher,
    left: u64,
}

impl<'a> Checked<'a> {
    pub(crate) fn new(out: &'a mut dyn Write, size: u64) -> Self {
        Self { out, hasher: DigestHasher::default(), left: size }
    }

    pub(crate) fn finish(self, descriptor: &Descriptor) -> Result<(), ImageError> {
        let mismatch =
            |reason: String| Err(ImageError::Mismatch { what: descriptor.digest, reason });
        let (digest, size) = self.hasher.finish();
        if size != descriptor.size {
            return mismatch(format!("{size} bytes instead of {}", descriptor.size));
        }
        if digest != descriptor.digest {
            return mismatch(format!("its digest is {digest}"));
        }
        Ok(())
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
        self.hasher.write_all(&bytes[..count])?;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
