//! Compressed streams: reading all kinds that images and local archives come in, writing gzip
//! and zstd in parallel.
//!
//! What is written is cut into members (gzip) or frames (zstd) of [`CUT_BYTES`] of content, each
//! compressed on its own, so that the bytes depend on the content and the level alone and never
//! on the number of threads.

use std::cell::RefCell;
use std::io::{self, BufRead, BufReader, Read, Write};

use strata_oci::Compression;
use zstd::bulk::Compressor;

use crate::in_order::InOrder;

/// How much content one member or frame holds, in bytes.
pub const CUT_BYTES: usize = 1 << 20;

/// What is kept in memory by an xz decoder at most, in bytes.
const XZ_MEMORY_BYTES: u64 = 256 << 20;
const BUFFER_BYTES: usize = 256 << 10;
/// How many parts of a block are looked at before it is compressed.
const SAMPLES: usize = 8;
/// How long each of them is.
const SAMPLE_BYTES: usize = 4 << 10;
/// A stored block of deflate holds at most so many bytes.
const STORED_BYTES: usize = 65_535;
/// Up to this level zstd passes over what is dense.
const FAST_ZSTD_LEVEL: i32 = 3;
/// The longest magic, in bytes.
const MAGIC_BYTES: usize = 6;

/// How a stream is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Format {
    /// RFC 1952.
    Gzip,
    /// RFC 8878.
    Zstd,
    /// bzip2.
    Bzip2,
    /// xz, not its predecessor lzma.
    Xz,
}

/// Recognises a compressed stream by its first bytes; six are enough.
pub fn detect(start: &[u8]) -> Option<Format> {
    match start {
        [0x1f, 0x8b, 8, ..] => Some(Format::Gzip),
        // A frame, or a skippable frame, which zstd:chunked layers may begin with.
        [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Some(Format::Zstd),
        [b'B', b'Z', b'h', b'1'..=b'9', ..] => Some(Format::Bzip2),
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Some(Format::Xz),
        _ => None,
    }
}

/// Reads a stream of any of the formats, or one that is not compressed: all its members, frames
/// or streams, one after the other.
pub struct Decoder<'a> {
    format: Option<Format>,
    content: Box<dyn Read + Send + 'a>,
}

impl<'a> Decoder<'a> {
    /// Looks at the first bytes.
    pub fn new(source: impl Read + Send + 'a) -> io::Result<Self> {
        let mut source = BufReader::with_capacity(BUFFER_BYTES, source);
        let mut start = Vec::new();
        (&mut source).take(MAGIC_BYTES as u64).read_to_end(&mut start)?;
        let format = detect(&start);
        let source = io::Cursor::new(start).chain(source);
        let content: Box<dyn Read + Send + 'a> = match format {
            None => Box::new(source),
            Some(Format::Gzip) => Box::new(GzipMembers::new(source)),
            Some(Format::Zstd) => Box::new(zstd::Decoder::with_buffer(source)?),
            Some(Format::Bzip2) => Box::new(bzip2::bufread::MultiBzDecoder::new(source)),
            Some(Format::Xz) => {
                let flags = xz2::stream::CONCATENATED;
                let stream = xz2::stream::Stream::new_stream_decoder(XZ_MEMORY_BYTES, flags)?;
                Box::new(xz2::bufread::XzDecoder::new_stream(source, stream))
            }
        };
        Ok(Self { format, content })
    }

    /// How the stream is compressed; `None` if it is not.
    pub fn format(&self) -> Option<Format> {
        self.format
    }
}

/// The members of a gzip file, one after the other. What comes after the last one and does not
/// begin as a member is no content, as for gzip(1), and no error.
struct GzipMembers<R> {
    member: Option<flate2::bufread::GzDecoder<R>>,
}

impl<R: BufRead> GzipMembers<R> {
    fn new(source: R) -> Self {
        Self { member: Some(flate2::bufread::GzDecoder::new(source)) }
    }
}

impl<R: BufRead> Read for GzipMembers<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while let Some(member) = &mut self.member {
            let count = member.read(buffer)?;
            if count > 0 || buffer.is_empty() {
                return Ok(count);
            }
            let Some(ended) = self.member.take() else { break };
            let mut source = ended.into_inner();
            if source.fill_buf()?.first() == Some(&0x1f) {
                self.member = Some(flate2::bufread::GzDecoder::new(source));
            } else {
                // Whoever hashes the source sees all of it.
                io::copy(&mut source, &mut io::sink())?;
            }
        }
        Ok(0)
    }
}

impl Read for Decoder<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.content.read(buffer)
    }
}

/// Compresses what is written to it, in parallel. [`Encoder::finish`] writes the end.
pub struct Encoder<W: Write> {
    out: W,
    compression: Compression,
    level: i32,
    block: Vec<u8>,
    underway: InOrder<io::Result<Vec<u8>>>,
    has_written: bool,
}

impl<W: Write> Encoder<W> {
    /// With a level of the format (gzip 0 to 9, 6 by default; zstd 1 to 22, 3 by default); a
    /// level beyond its format's is the nearest one. [`Compression::None`] passes bytes on.
    pub fn new(out: W, compression: Compression, level: Option<i32>) -> Self {
        let level = level_of(compression, level);
        let (block, underway) = (Vec::new(), InOrder::default());
        Self { out, compression, level, block, underway, has_written: false }
    }

    /// Writes all that is left and gives the sink back. An empty stream is an empty member.
    pub fn finish(mut self) -> io::Result<W> {
        if self.compression != Compression::None {
            if !self.block.is_empty() || !self.has_written {
                self.cut();
            }
            while self.write_oldest()? {}
        }
        self.out.flush()?;
        Ok(self.out)
    }

    fn cut(&mut self) {
        let block = std::mem::replace(&mut self.block, Vec::with_capacity(CUT_BYTES));
        let (compression, level) = (self.compression, self.level);
        let place = self.underway.place();
        rayon::spawn(move || {
            // Nobody waits for it when the encoder was dropped.
            drop(place.send(Way::of(&block, compression, level).compress(&block)));
        });
        self.has_written = true;
    }

    /// Writes the oldest block that is underway; false if there is none.
    fn write_oldest(&mut self) -> io::Result<bool> {
        let Some(oldest) = self.underway.oldest()? else { return Ok(false) };
        self.out.write_all(&oldest?)?;
        Ok(true)
    }
}

impl<W: Write> Write for Encoder<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.compression == Compression::None {
            return self.out.write(bytes);
        }
        let count = bytes.len().min(CUT_BYTES - self.block.len());
        self.block.extend_from_slice(&bytes[..count]);
        if self.block.len() == CUT_BYTES {
            self.cut();
            while self.underway.is_full() {
                self.write_oldest()?;
            }
        }
        Ok(count)
    }

    /// Does not cut: where members end depends on the content alone.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The level that is meant; one beyond the format's is the nearest one.
pub(crate) fn level_of(compression: Compression, level: Option<i32>) -> i32 {
    match compression {
        Compression::None => 0,
        Compression::Gzip => level.unwrap_or(6).clamp(0, 9),
        Compression::Zstd => level.unwrap_or(3).clamp(1, 22),
    }
}

/// Whether gzip would find next to nothing in a block: bytes that are compressed or encrypted
/// already. Some of them tell; a function of the block alone, as all that is written.
fn is_dense(block: &[u8]) -> bool {
    if block.len() < 2 * SAMPLES * SAMPLE_BYTES {
        return false;
    }
    let mut sample = Vec::with_capacity(SAMPLES * SAMPLE_BYTES);
    for at in (0..SAMPLES).map(|number| number * (block.len() / SAMPLES)) {
        sample.extend_from_slice(&block[at..at + SAMPLE_BYTES]);
    }
    // zstd's fastest finds what gzip would find, ten times as fast as gzip's fastest.
    zstd_frame(&sample, 1, Vec::new()).is_ok_and(|bytes| gains_nothing(sample.len(), bytes.len()))
}

/// Whether so many bytes became hardly fewer.
fn gains_nothing(before: usize, after: usize) -> bool {
    after.saturating_mul(100) >= before.saturating_mul(98)
}

/// How one block becomes a member or frame: a function of the block, as all that is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    Plain,
    /// What nothing makes smaller is stored: some twenty times as fast.
    Stored,
    Gzip(i32),
    Zstd(i32),
}

impl Way {
    pub(crate) fn of(block: &[u8], compression: Compression, level: i32) -> Self {
        match compression {
            Compression::None => Self::Plain,
            Compression::Gzip if level == 0 || is_dense(block) => Self::Stored,
            Compression::Gzip => Self::Gzip(level),
            Compression::Zstd => Self::Zstd(level),
        }
    }

    /// Whether it is done again as fast as its result is read from somewhere, known from what
    /// became of so many bytes.
    pub(crate) fn was_cheap(self, before: usize, after: usize) -> bool {
        match self {
            Self::Plain | Self::Stored => true,
            Self::Gzip(_) => false,
            Self::Zstd(level) => level <= FAST_ZSTD_LEVEL && gains_nothing(before, after),
        }
    }

    /// One whole member or frame. Its header has no time and no name.
    pub(crate) fn compress(self, block: &[u8]) -> io::Result<Vec<u8>> {
        self.compress_into(block, Vec::new())
    }

    /// The same, in a buffer that was empty.
    pub(crate) fn compress_into(self, block: &[u8], mut out: Vec<u8>) -> io::Result<Vec<u8>> {
        match self {
            Self::Plain => {
                out.extend_from_slice(block);
                Ok(out)
            }
            Self::Stored => Ok(stored(block, out)),
            Self::Gzip(level) => {
                let level = flate2::Compression::new(level.unsigned_abs());
                out.reserve(block.len() / 2);
                let mut encoder = flate2::GzBuilder::new().mtime(0).write(out, level);
                encoder.write_all(block)?;
                encoder.finish()
            }
            Self::Zstd(level) => zstd_frame(block, level, out),
        }
    }
}

thread_local! {
    /// What zstd works with, some hundred KiB: made once for all blocks of a thread's.
    static ZSTD: RefCell<Option<(i32, Compressor<'static>)>> = const { RefCell::new(None) };
}

/// The block as one frame. Each begins as if there had been none before.
fn zstd_frame(block: &[u8], level: i32, mut out: Vec<u8>) -> io::Result<Vec<u8>> {
    ZSTD.with_borrow_mut(|kept| {
        let compressor = match kept.take() {
            Some((at, compressor)) if at == level => compressor,
            _ => Compressor::new(level)?,
        };
        let (_, compressor) = kept.insert((level, compressor));
        out.reserve(zstd::zstd_safe::compress_bound(block.len()));
        compressor.compress_to_buffer(block, &mut out)?;
        Ok(out)
    })
}

/// A gzip member that holds the block as it is, in stored blocks (RFC 1951, 3.2.4).
fn stored(block: &[u8], mut member: Vec<u8>) -> Vec<u8> {
    let parts = block.len().div_ceil(STORED_BYTES).max(1);
    member.reserve(block.len() + 5 * parts + 18);
    // deflate, no flags, no time, the fastest way, an unknown system.
    member.extend_from_slice(&[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 4, 255]);
    for number in 0..parts {
        let start = number * STORED_BYTES;
        let part = &block[start..block.len().min(start + STORED_BYTES)];
        let length = u16::try_from(part.len()).unwrap_or(u16::MAX);
        member.push(u8::from(number + 1 == parts));
        member.extend_from_slice(&length.to_le_bytes());
        member.extend_from_slice(&(!length).to_le_bytes());
        member.extend_from_slice(part);
    }
    let mut check = flate2::Crc::new();
    check.update(block);
    member.extend_from_slice(&check.sum().to_le_bytes());
    member.extend_from_slice(&check.amount().to_le_bytes());
    member
}

/// Whether a file is an archive that ADD unpacks: a tar, compressed or not.
pub fn is_archive(source: impl Read + Send) -> bool {
    let Ok(decoder) = Decoder::new(source) else { return false };
    let mut block = Vec::new();
    let mut reader = BufReader::new(decoder.take(crate::header::BLOCK as u64));
    loop {
        match reader.fill_buf() {
            Ok([]) => return crate::entries::is_header(&block),
            Ok(bytes) => {
                let count = bytes.len();
                block.extend_from_slice(bytes);
                reader.consume(count);
            }
            Err(_) => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(size: usize) -> Vec<u8> {
        (0..size).map(|at| (at * at / 7919 % 251).to_le_bytes()[0]).collect()
    }

    fn encode(bytes: &[u8], compression: Compression) -> Vec<u8> {
        let mut encoder = Encoder::new(Vec::new(), compression, None);
        encoder.write_all(bytes).expect("write");
        encoder.finish().expect("finish")
    }

    fn decode(bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        Decoder::new(bytes).expect("a decoder").read_to_end(&mut out).expect("decode");
        out
    }

    #[test]
    fn what_follows_the_last_gzip_member_is_no_content() {
        let member = |text: &[u8]| encode(text, Compression::Gzip);
        assert_eq!(decode(&[member(b"one "), member(b"two")].concat()), b"one two");
        for garbage in [&b"garbage"[..], &[0; 1000], b"\n"] {
            let bytes = [&member(b"one "), &member(b"two"), garbage].concat();
            assert_eq!(decode(&bytes), b"one two");
            let mut source = io::Cursor::new(&bytes);
            Decoder::new(&mut source)
                .expect("a decoder")
                .read_to_end(&mut Vec::new())
                .expect("read");
            assert_eq!(source.position(), bytes.len() as u64);
        }
        let mut damaged = member(b"one");
        let at = damaged.len() - 6;
        damaged[at] ^= 1;
        let mut decoder = Decoder::new(&damaged[..]).expect("a decoder");
        assert!(decoder.read_to_end(&mut Vec::new()).is_err());
    }

    #[test]
    fn reads_back_what_it_wrote_however_it_was_cut() {
        for compression in [Compression::None, Compression::Gzip, Compression::Zstd] {
            for size in [0, 1, CUT_BYTES - 1, CUT_BYTES, CUT_BYTES + 1, 5 * CUT_BYTES + 77] {
                let bytes = sample(size);
                assert_eq!(decode(&encode(&bytes, compression)), bytes, "{compression:?} {size}");
            }
        }
    }

    #[test]
    fn what_is_dense_is_stored() {
        let random = |size: usize| -> Vec<u8> {
            let mut state = 1_u64;
            let mut next = || {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                state.to_be_bytes()[0]
            };
            (0..size).map(|_| next()).collect()
        };
        let check = |bytes: &[u8], dense: bool| {
            assert_eq!(is_dense(bytes), dense);
            let written = encode(bytes, Compression::Gzip);
            assert_eq!(decode(&written), bytes);
            // zstd needs no sample, and tells of what is short, too.
            let formats = [(Compression::Gzip, 6), (Compression::Zstd, 3)];
            let count = if bytes.len() < CUT_BYTES { 1 } else { 2 };
            for (compression, level) in formats.into_iter().take(count) {
                let way = Way::of(bytes, compression, level);
                let after = way.compress(bytes).expect("compressed").len();
                assert_eq!(way.was_cheap(bytes.len(), after), dense, "{compression:?}");
            }
            written.len()
        };
        for size in [0, 1, STORED_BYTES, STORED_BYTES + 1, 3 * STORED_BYTES] {
            let bytes = random(size);
            assert_eq!(decode(&stored(&bytes, Vec::new())), bytes, "{size}");
        }
        let dense = random(CUT_BYTES);
        assert!(check(&dense, true) < CUT_BYTES + 200);
        check(&random(1000), false);
        // A part that can be compressed is, wherever it lies.
        for at in [0, CUT_BYTES / 2, CUT_BYTES - CUT_BYTES / 4] {
            let mut mixed = dense.clone();
            mixed[at..at + CUT_BYTES / 4].fill(b'x');
            assert!(check(&mixed, false) < CUT_BYTES * 4 / 5);
        }
    }

    #[test]
    fn the_number_of_threads_changes_no_byte() {
        let bytes = sample(7 * CUT_BYTES + 3);
        for compression in [Compression::Gzip, Compression::Zstd] {
            let on = |threads| {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
                pool.expect("a pool").install(|| encode(&bytes, compression))
            };
            let alone = on(1);
            assert_eq!(alone, on(4));
            assert_eq!(alone, encode(&bytes, compression));
        }
    }

    #[test]
    fn the_gzip_header_has_no_time() {
        assert_eq!(encode(b"", Compression::Gzip)[4..8], [0; 4]);
    }

    #[test]
    fn reads_bzip2_and_xz_in_several_streams() {
        let bytes = sample(70_000);
        let bzip2 = |bytes: &[u8]| {
            let mut encoder = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
            encoder.write_all(bytes).expect("write");
            encoder.finish().expect("finish")
        };
        let xz = |bytes: &[u8]| {
            let mut encoder = xz2::write::XzEncoder::new(Vec::new(), 1);
            encoder.write_all(bytes).expect("write");
            encoder.finish().expect("finish")
        };
        let twice = [&bytes[..], &bytes].concat();
        for encode in [&bzip2 as &dyn Fn(&[u8]) -> Vec<u8>, &xz] {
            assert_eq!(decode(&[encode(&bytes), encode(&bytes)].concat()), twice);
        }
    }

    #[test]
    fn recognises_archives() {
        let mut tar = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_size(3);
        tar.append_data(&mut header, "a", &b"abc"[..]).expect("append");
        let tar = tar.into_inner().expect("a tar");
        assert!(is_archive(&tar[..]));
        assert!(is_archive(&encode(&tar, Compression::Gzip)[..]));
        assert!(!is_archive(&b"text"[..]));
        assert!(!is_archive(&[0; 1024][..]));
        assert!(!is_archive(&encode(b"text", Compression::Gzip)[..]));
    }
}
