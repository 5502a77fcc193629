//! The one way in which values become bytes, for names and for keeping.
//!
//! Lengths come before elements, as `u64` little-endian; unordered collections are sorted by
//! whoever feeds them; a format's name and version come first. Nothing here depends on the
//! machine, on a hash map's order or on a derive macro's taste.

/// Bytes that are not the canonical form of what was asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a canonical {format}: {reason}")]
pub struct DecodeError {
    /// What was to be read.
    pub format: &'static str,
    /// What is wrong with it.
    pub reason: &'static str,
}

/// A value that can enter a key.
///
/// `feed` destructures `let Self { a, b } = self` without `..`, so that a new field does not
/// compile until someone decides whether it belongs to the key.
pub trait Fingerprint {
    /// Writes all that the key depends on.
    fn feed(&self, to: &mut Writer);

    /// The BLAKE3 of what was fed, in derive-key mode: `context` carries the key's schema version.
    fn fingerprint(&self, context: &'static str) -> [u8; 32] {
        let mut writer = Writer::default();
        self.feed(&mut writer);
        blake3::derive_key(context, writer.as_bytes())
    }
}

/// Writes canonical bytes.
#[derive(Debug, Default, Clone)]
pub struct Writer(Vec<u8>);

impl Writer {
    /// A writer that begins with a format's name and version.
    pub fn with_format(format: &str) -> Self {
        let mut writer = Self::default();
        writer.0.extend_from_slice(format.as_bytes());
        writer.0.push(b'\n');
        writer
    }

    /// What was written.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// What was written.
    pub fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    /// One byte: a flag or a small enum's ordinal.
    pub fn byte(&mut self, value: u8) {
        self.0.push(value);
    }

    /// A flag.
    pub fn flag(&mut self, value: bool) {
        self.0.push(u8::from(value));
    }

    /// An enum's ordinal or another 32-bit number.
    pub fn u32(&mut self, value: u32) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    /// A length or another 64-bit number.
    pub fn u64(&mut self, value: u64) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    /// A signed 64-bit number.
    pub fn i64(&mut self, value: i64) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    /// How many elements follow.
    pub fn count(&mut self, value: usize) {
        self.u64(value as u64);
    }

    /// Bytes, their length first.
    pub fn bytes(&mut self, value: &[u8]) {
        self.count(value.len());
        self.0.extend_from_slice(value);
    }

    /// Bytes whose length the format fixes.
    pub fn fixed(&mut self, value: &[u8; 32]) {
        self.0.extend_from_slice(value);
    }

    /// Text, its length first.
    pub fn text(&mut self, value: &str) {
        self.bytes(value.as_bytes());
    }
}

/// Reads canonical bytes; every method fails on a short input instead of panicking.
pub(crate) struct Reader<'a> {
    format: &'static str,
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) fn with_format(format: &'static str, bytes: &'a [u8]) -> Result<Self, DecodeError> {
        let rest = bytes
            .strip_prefix(format.as_bytes())
            .and_then(|rest| rest.strip_prefix(b"\n"))
            .ok_or(DecodeError { format, reason: "another format or version" })?;
        Ok(Self { format, rest })
    }

    pub(crate) fn error(&self, reason: &'static str) -> DecodeError {
        DecodeError { format: self.format, reason }
    }

    pub(crate) fn take(&mut self, count: usize) -> Result<&'a [u8], DecodeError> {
        let (head, rest) =
            self.rest.split_at_checked(count).ok_or_else(|| self.error("it ends too early"))?;
        self.rest = rest;
        Ok(head)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    pub(crate) fn byte(&mut self) -> Result<u8, DecodeError> {
        Ok(self.array::<1>()?[0])
    }

    pub(crate) fn flag(&mut self) -> Result<bool, DecodeError> {
        match self.byte()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(self.error("a flag is neither 0 nor 1")),
        }
    }

    pub(crate) fn u32(&mut self) -> Result<u32, DecodeError> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    pub(crate) fn u64(&mut self) -> Result<u64, DecodeError> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    pub(crate) fn i64(&mut self) -> Result<i64, DecodeError> {
        Ok(i64::from_le_bytes(self.array()?))
    }

    pub(crate) fn fixed(&mut self) -> Result<[u8; 32], DecodeError> {
        self.array()
    }

    /// A count that the rest can hold, at one byte an element or more: no allocation bombs.
    pub(crate) fn count(&mut self) -> Result<usize, DecodeError> {
        let count = self.u64()?;
        match usize::try_from(count) {
            Ok(count) if count <= self.rest.len() => Ok(count),
            _ => Err(self.error("a length is beyond the end")),
        }
    }

    pub(crate) fn bytes(&mut self) -> Result<&'a [u8], DecodeError> {
        let count = self.count()?;
        self.take(count)
    }

    pub(crate) fn finish(self) -> Result<(), DecodeError> {
        if self.rest.is_empty() { Ok(()) } else { Err(self.error("bytes follow its end")) }
    }
}
