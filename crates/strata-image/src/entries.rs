//! Reads foreign tars, one entry after the other: USTAR, PAX, GNU and V7, with the tolerance and
//! the precedence of Go's `archive/tar`, and with a limit on whatever is kept in memory.

use std::collections::BTreeMap;
use std::io::{self, Read};

use strata_cas::{Metadata, Time};
use tar::Header;

use crate::ImageError;
use crate::header::{BLOCK, padding};
use crate::sparse::{self, Map};

/// A long name or a PAX header is not longer than this, in bytes (Go's limit).
const MAX_SPECIAL_BYTES: u64 = 1 << 20;

/// A stream of which parts can be passed over.
pub(crate) trait Forward: Read {
    /// Passes over the next bytes, all of which must be there.
    fn forward(&mut self, bytes: u64) -> io::Result<()>;
}

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    File,
    Directory,
    Symlink,
    HardLink,
    Character,
    Block,
    Fifo,
}

/// An entry's header.
#[derive(Debug)]
pub(crate) struct Entry {
    /// As written.
    pub(crate) name: Vec<u8>,
    pub(crate) kind: Kind,
    /// Where a link leads, as written.
    pub(crate) link: Vec<u8>,
    /// Bytes of content.
    pub(crate) size: u64,
    pub(crate) metadata: Metadata,
    pub(crate) modified: Time,
    pub(crate) device: (u32, u32),
    /// Whether the content has holes.
    pub(crate) is_sparse: bool,
}

/// The entries of a tar.
pub(crate) struct Entries<R> {
    source: R,
    /// Bytes taken from the source.
    offset: u64,
    content: Content,
    ended: bool,
}

/// What is left of the current entry's content.
#[derive(Default)]
struct Content {
    /// In the archive.
    left: u64,
    padding: u64,
    map: Option<Map>,
}

/// A PAX header's keys and values.
type Records = Vec<(Vec<u8>, Vec<u8>)>;

/// What the headers before an entry's own say.
#[derive(Default)]
struct Extended {
    pax: Records,
    name: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
}

impl Extended {
    fn get(&self, key: &[u8]) -> Option<&[u8]> {
        let found = self.pax.iter().rev().find(|(name, value)| name == key && !value.is_empty());
        found.map(|(_, value)| &value[..])
    }
}

impl<R: Forward> Entries<R> {
    pub(crate) fn new(source: R) -> Self {
        Self { source, offset: 0, content: Content::default(), ended: false }
    }

    /// How many bytes have been passed: after `next`, where the entry's content begins.
    pub(crate) fn offset(&self) -> u64 {
        self.offset
    }

    pub(crate) fn into_source(self) -> R {
        self.source
    }

    /// The next entry; what is left of the last one's content is passed over.
    pub(crate) fn next(&mut self) -> Result<Option<Entry>, ImageError> {
        let left = std::mem::take(&mut self.content);
        self.forward(left.left)?;
        self.forward(left.padding)?;
        let mut extended = Extended::default();
        while !self.ended {
            let Some(header) = self.header()? else { break };
            match header.as_old().linkflag[0] {
                b'x' => extended.pax = self.pax(&header)?,
                b'g' => drop(self.special(&header)?),
                b'L' => extended.name = Some(until_nul(&self.special(&header)?).to_vec()),
                b'K' => extended.link = Some(until_nul(&self.special(&header)?).to_vec()),
                flag => return self.entry(&header, flag, extended).map(Some),
            }
        }
        match extended.pax.is_empty() && extended.name.is_none() && extended.link.is_none() {
            true => Ok(None),
            false => Err(self.wrong("it ends after an extended header")),
        }
    }

    /// Reads the current entry's content, holes as zeros.
    pub(crate) fn read(&mut self, buffer: &mut [u8]) -> Result<usize, ImageError> {
        if let Some(map) = &mut self.content.map
            && let Some(zeros) = map.hole(buffer.len())
        {
            buffer[..zeros].fill(0);
            return Ok(zeros);
        }
        let most = self.content.map.as_ref().map_or(u64::MAX, Map::piece).min(self.content.left);
        let most = usize::try_from(most).unwrap_or(usize::MAX).min(buffer.len());
        if most == 0 {
            return Ok(0);
        }
        let count = loop {
            match self.source.read(&mut buffer[..most]) {
                Ok(0) => return Err(self.wrong("it ends within a file")),
                Ok(count) => break count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(read_error(error)),
            }
        };
        self.offset += count as u64;
        self.content.left -= count as u64;
        if let Some(map) = &mut self.content.map {
            map.took(count as u64);
        }
        Ok(count)
    }

    fn wrong(&self, reason: &'static str) -> ImageError {
        ImageError::Tar { offset: self.offset, reason }
    }

    fn forward(&mut self, bytes: u64) -> Result<(), ImageError> {
        if bytes == 0 {
            return Ok(());
        }
        self.source.forward(bytes).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => self.wrong("it ends within an entry"),
            _ => read_error(error),
        })?;
        self.offset = self.offset.saturating_add(bytes);
        Ok(())
    }

    /// The next block; `None` at the stream's end.
    fn block(&mut self) -> Result<Option<[u8; BLOCK]>, ImageError> {
        let mut block = [0; BLOCK];
        let mut filled = 0;
        while filled < BLOCK {
            match self.source.read(&mut block[filled..]) {
                Ok(0) if filled == 0 => return Ok(None),
                Ok(0) => return Err(self.wrong("it ends within a block")),
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(read_error(error)),
            }
        }
        self.offset += BLOCK as u64;
        Ok(Some(block))
    }

    /// The next header; `None` at the archive's end.
    fn header(&mut self) -> Result<Option<Header>, ImageError> {
        let Some(block) = self.block()? else {
            self.ended = true;
            return Ok(None);
        };
        if block == [0; BLOCK] {
            self.ended = true;
            return match self.block()? {
                Some(second) if second != [0; BLOCK] => {
                    Err(self.wrong("a block of zeros stands between entries"))
                }
                _ => Ok(None),
            };
        }
        let header = Header::from_byte_slice(&block).clone();
        if !checksum_holds(&block) {
            return Err(self.wrong("a header's checksum is wrong"));
        }
        Ok(Some(header))
    }

    /// The whole content of an entry that describes the next one.
    fn special(&mut self, header: &Header) -> Result<Vec<u8>, ImageError> {
        let size = self.number(&header.as_old().size)?;
        let size = u64::try_from(size).unwrap_or(u64::MAX);
        if size > MAX_SPECIAL_BYTES {
            return Err(self.wrong("an extended header is longer than 1 MiB"));
        }
        self.content = Content { left: size, padding: padding(size), map: None };
        let mut bytes = vec![0; usize::try_from(size).unwrap_or(0)];
        let mut filled = 0;
        while filled < bytes.len() {
            filled += self.read(&mut bytes[filled..])?;
        }
        let padding = std::mem::take(&mut self.content).padding;
        self.forward(padding)?;
        Ok(bytes)
    }

    fn pax(&mut self, header: &Header) -> Result<Records, ImageError> {
        let bytes = self.special(header)?;
        parse_pax(&bytes).ok_or_else(|| self.wrong("a PAX header is malformed"))
    }

    fn number(&self, field: &[u8]) -> Result<i64, ImageError> {
        number(field).ok_or_else(|| self.wrong("a number in a header is malformed"))
    }

    /// A number from the PAX header, else from the header's own field.
    fn either(&self, extended: &Extended, key: &str, field: &[u8]) -> Result<i64, ImageError> {
        match extended.get(key.as_bytes()) {
            Some(text) => {
                decimal(text).ok_or_else(|| self.wrong("a number in a PAX header is malformed"))
            }
            None => self.number(field),
        }
    }

    fn entry(
        &mut self,
        header: &Header,
        flag: u8,
        extended: Extended,
    ) -> Result<Entry, ImageError> {
        let old = header.as_old();
        let name = name(header, &extended);
        let named = |reason| ImageError::Entry { entry: lossy(&name), reason };
        let kind = kind(flag, &name).ok_or_else(|| named("its type is not supported"))?;
        let link = extended.link.clone().or_else(|| extended.get(b"linkpath").map(<[u8]>::to_vec));
        let link = link.unwrap_or_else(|| until_nul(&old.linkname).to_vec());
        let metadata = Metadata {
            mode: u32::try_from(self.number(&old.mode)? & 0o7777).unwrap_or(0),
            uid: id(self.either(&extended, "uid", &old.uid)?),
            gid: id(self.either(&extended, "gid", &old.gid)?),
            xattrs: xattrs(&extended),
        };
        let modified = Time(self.either(&extended, "mtime", &old.mtime)?);
        let device = match kind {
            Kind::Character | Kind::Block => self.device(header)?,
            _ => (0, 0),
        };
        let size = self.either(&extended, "size", &old.size)?;
        let size = u64::try_from(size).map_err(|_| named("its size is negative"))?;
        if size > i64::MAX.unsigned_abs() - BLOCK as u64 {
            return Err(named("its size is beyond all measure"));
        }
        if kind == Kind::File {
            self.content = Content { left: size, padding: padding(size), map: None };
            self.content.map = self.map(header, flag, &extended)?;
        }
        let is_sparse = self.content.map.is_some();
        let size = self.content.map.as_ref().map_or(self.content.left, Map::size);
        Ok(Entry { name, kind, link, size, metadata, modified, device, is_sparse })
    }

    fn device(&self, header: &Header) -> Result<(u32, u32), ImageError> {
        let block = header.as_bytes();
        let part = |field: &[u8]| {
            let value = self.number(field)?;
            u32::try_from(value).map_err(|_| self.wrong("a device number is out of range"))
        };
        Ok((part(&block[329..337])?, part(&block[337..345])?))
    }

    /// Where the data of a sparse file belongs.
    fn map(
        &mut self,
        header: &Header,
        flag: u8,
        extended: &Extended,
    ) -> Result<Option<Map>, ImageError> {
        let pieces = if flag == b'S' {
            self.gnu_pieces(header)?
        } else if extended.get(b"GNU.sparse.major").is_some() {
            if (extended.get(b"GNU.sparse.major"), extended.get(b"GNU.sparse.minor"))
                != (Some(b"1"), Some(b"0"))
            {
                return Err(self.wrong("a sparse file is written in an unknown way"));
            }
            self.leading_pieces()?
        } else if extended.get(b"GNU.sparse.numblocks").is_some() {
            sparse::from_records(&extended.pax)
                .ok_or_else(|| self.wrong("a sparse file's map is malformed"))?
        } else {
            return Ok(None);
        };
        let size = match flag {
            b'S' => match header.as_gnu() {
                Some(gnu) => self.number(&gnu.realsize)?,
                None => -1,
            },
            _ => extended
                .get(b"GNU.sparse.realsize")
                .or_else(|| extended.get(b"GNU.sparse.size"))
                .and_then(decimal)
                .unwrap_or(-1),
        };
        let map = u64::try_from(size)
            .ok()
            .and_then(|size| Map::new(pieces, size, self.content.left))
            .ok_or_else(|| self.wrong("a sparse file's map is malformed"))?;
        Ok(Some(map))
    }

    /// The map of an old GNU sparse file: in its header and in blocks behind it.
    fn gnu_pieces(&mut self, header: &Header) -> Result<Vec<(u64, u64)>, ImageError> {
        let malformed = |entries: &Self| entries.wrong("a sparse file's map is malformed");
        let gnu = header.as_gnu().ok_or_else(|| malformed(self))?;
        let mut pieces = Vec::new();
        let first = &header.as_bytes()[386..482];
        sparse::append_fields(first, &mut pieces).ok_or_else(|| malformed(self))?;
        let mut more = gnu.isextended[0] != 0;
        while more {
            let block = self.block()?.ok_or_else(|| malformed(self))?;
            sparse::append_fields(&block[..504], &mut pieces).ok_or_else(|| malformed(self))?;
            more = block[504] != 0;
        }
        Ok(pieces)
    }

    /// The map of a PAX 1.0 sparse file: decimal lines before its data, filled up to a block.
    fn leading_pieces(&mut self) -> Result<Vec<(u64, u64)>, ImageError> {
        let mut lines = sparse::Lines::default();
        let mut block = [0; BLOCK];
        loop {
            let mut filled = 0;
            while filled < BLOCK {
                match self.read(&mut block[filled..])? {
                    0 => return Err(self.wrong("a sparse file's map is malformed")),
                    count => filled += count,
                }
            }
            let done = lines.add(&block);
            if done.ok_or_else(|| self.wrong("a sparse file's map is malformed"))? {
                return Ok(lines.into_pieces());
            }
        }
    }
}

fn read_error(source: io::Error) -> ImageError {
    ImageError::Io { action: "read a tar".to_owned(), source }
}

/// An owner's number as Linux gets it from Docker: the lowest 32 bits, all of which set mean
/// that the owner stays who made the file.
fn id(value: i64) -> u32 {
    let bits = u32::try_from(value & i64::from(u32::MAX)).unwrap_or(0);
    if bits == u32::MAX { 0 } else { bits }
}

/// A name for a message.
pub(crate) fn lossy(name: &[u8]) -> String {
    let shown = &name[..name.len().min(4096)];
    String::from_utf8_lossy(shown).chars().filter(|character| !character.is_control()).collect()
}

pub(crate) fn until_nul(field: &[u8]) -> &[u8] {
    field.split(|byte| *byte == 0).next().unwrap_or_default()
}

fn kind(flag: u8, name: &[u8]) -> Option<Kind> {
    Some(match flag {
        0 if name.ends_with(b"/") => Kind::Directory,
        0 | b'0' | b'7' | b'S' => Kind::File,
        b'1' => Kind::HardLink,
        b'2' => Kind::Symlink,
        b'3' => Kind::Character,
        b'4' => Kind::Block,
        b'5' => Kind::Directory,
        b'6' => Kind::Fifo,
        _ => return None,
    })
}

/// GNU's long name, else PAX's, else the header's own.
fn name(header: &Header, extended: &Extended) -> Vec<u8> {
    if let Some(name) = &extended.name {
        return name.clone();
    }
    let sparse = extended.get(b"GNU.sparse.name");
    if let Some(name) = sparse.or_else(|| extended.get(b"path")) {
        return name.to_vec();
    }
    let own = until_nul(&header.as_old().name);
    let Some(ustar) = header.as_ustar() else { return own.to_vec() };
    let is_star = header.as_bytes().ends_with(b"tar\0");
    let prefix = until_nul(&ustar.prefix[..if is_star { 131 } else { 155 }]);
    if prefix.is_empty() { own.to_vec() } else { [prefix, b"/", own].concat() }
}

/// Those of union file systems say how directories are stacked and are never a tar's business.
fn xattrs(extended: &Extended) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let mut xattrs = BTreeMap::new();
    for (key, value) in &extended.pax {
        let Some(name) = key.strip_prefix(b"SCHILY.xattr.") else { continue };
        let is_overlay =
            name.starts_with(b"trusted.overlay.") || name.starts_with(b"user.overlay.");
        if !name.is_empty() && !name.contains(&0) && !is_overlay {
            xattrs.insert(name.to_vec(), value.clone());
        }
    }
    xattrs
}

/// Both sums that tars have been written with: over unsigned and over signed bytes.
fn checksum_holds(block: &[u8; BLOCK]) -> bool {
    let bytes = || {
        block.iter().enumerate().map(|(at, byte)| match at {
            148..156 => b' ',
            _ => *byte,
        })
    };
    let unsigned: i64 = bytes().map(i64::from).sum();
    let signed: i64 = bytes().map(|byte| i64::from(byte.cast_signed())).sum();
    number(&block[148..156]).is_some_and(|sum| sum == unsigned || sum == signed)
}

/// Whether a tar can begin with this.
pub(crate) fn is_header(block: &[u8]) -> bool {
    <&[u8; BLOCK]>::try_from(block).is_ok_and(|block| *block != [0; BLOCK] && checksum_holds(block))
}

/// Octal text, or big-endian two's complement behind a set first bit (GNU's base 256).
pub(crate) fn number(field: &[u8]) -> Option<i64> {
    match field {
        [first, rest @ ..] if first & 0x80 != 0 => {
            let negative = first & 0x40 != 0;
            let start = i128::from(first & 0x3f) - if negative { 0x40 } else { 0 };
            let value = rest.iter().try_fold(start, |value, byte| {
                value.checked_mul(256).map(|value| value + i128::from(*byte))
            })?;
            i64::try_from(value).ok()
        }
        _ => {
            let is_blank = |byte: &u8| matches!(byte, b' ' | 0);
            let start = field.iter().position(|byte| !is_blank(byte)).unwrap_or(field.len());
            let digits = field[start..].split(is_blank).next().unwrap_or_default();
            digits.iter().try_fold(0_i64, |value, digit| match digit {
                b'0'..=b'7' => value.checked_mul(8).map(|value| value + i64::from(digit - b'0')),
                _ => None,
            })
        }
    }
}

/// A decimal number, rounded down; too large ones are the largest.
pub(crate) fn decimal(text: &[u8]) -> Option<i64> {
    let text = std::str::from_utf8(text).ok()?;
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let (negative, digits) = match whole.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, whole),
    };
    let all_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if !all_digits(digits) || !all_digits(fraction) || (digits.is_empty() && fraction.is_empty()) {
        return None;
    }
    let value = digits.bytes().fold(0_i64, |value, digit| {
        value.saturating_mul(10).saturating_add(i64::from(digit - b'0'))
    });
    let rest = i64::from(fraction.bytes().any(|digit| digit != b'0'));
    Some(if negative { (-value).saturating_sub(rest) } else { value })
}

/// Records `LENGTH KEY=VALUE\n`.
fn parse_pax(mut bytes: &[u8]) -> Option<Records> {
    let mut records = Vec::new();
    while !bytes.is_empty() {
        let space = bytes.iter().take(9).position(|byte| *byte == b' ')?;
        let length = usize::try_from(decimal(&bytes[..space])?).ok()?;
        let (record, rest) = bytes.split_at_checked(length)?;
        let record = record.get(space + 1..)?.strip_suffix(b"\n")?;
        let equals = record.iter().position(|byte| *byte == b'=')?;
        let (key, value) = (&record[..equals], &record[equals + 1..]);
        let is_text = matches!(key, b"path" | b"linkpath" | b"GNU.sparse.name");
        if key.is_empty() || is_text && value.contains(&0) {
            return None;
        }
        records.push((key.to_vec(), value.to_vec()));
        bytes = rest;
    }
    Some(records)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_octal_and_base_256() {
        assert_eq!(number(b"0000755\0"), Some(0o755));
        assert_eq!(number(b"   755 \0"), Some(0o755));
        assert_eq!(number(&[0; 8]), Some(0));
        assert_eq!(number(b"12x4567\0"), None);
        assert_eq!(number(&[0x80, 0, 0, 0, 1, 0, 0, 0]), Some(1 << 24));
        assert_eq!(number(&[0xff; 12]), Some(-1));
        assert_eq!(number(&[0xbf; 12]), None);
    }

    #[test]
    fn owners_are_cut_to_what_linux_has() {
        assert_eq!((id(5), id((1 << 32) + 5), id(-5)), (5, 5, u32::MAX - 4));
        assert_eq!((id(-1), id(i64::from(u32::MAX)), id(1 << 32)), (0, 0, 0));
    }

    #[test]
    fn rounds_times_down() {
        for (text, expected) in [("1.9", 1), ("-1.5", -2), ("-1.0", -1), ("0.0", 0), (".5", 0)] {
            assert_eq!(decimal(text.as_bytes()), Some(expected), "{text}");
        }
        for text in ["", "-", "1e5", "1.-5", "x", "."] {
            assert_eq!(decimal(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn refuses_malformed_pax() {
        for bad in ["x", "5 a=b\n", "7 a=b\n", "6 a=b ", "6 =ab\n", "99999999999 a=b\n", "0 "] {
            assert_eq!(parse_pax(bad.as_bytes()), None, "{bad}");
        }
        assert_eq!(parse_pax(b"6 a=b\n"), Some(vec![(b"a".to_vec(), b"b".to_vec())]));
    }
}
