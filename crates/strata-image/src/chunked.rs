//! Layers of which others fetch single files: eStargz and zstd:chunked. To all who read gzip or
//! zstd they are a layer as any other; each file begins a member or frame of its own, and a list
//! at the end, the TOC, says where.
//!
//! The content is cut as that of other layers ([`crate::compress_layer`]), and each piece is
//! compressed once in the store's life; all of it is read each time, for the digests in the TOC.
//! A zstd:chunked's tar is the layer's own. That of an eStargz has a landmark in front and the TOC
//! at its end, so it has another diff ID.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::ops::Range;
use std::sync::Arc;

use crc_fast::CrcAlgorithm::Crc64GoIso;
use strata_cas::{BlobId, BlobStore, Layer};
use strata_oci::{Compression, Digest, DigestHasher};

use crate::ImageError;
use crate::compress::level_of;
use crate::entries::{Entries, Forward};
use crate::in_order::Line;
use crate::maker::{Made, Maker, Pressed};
use crate::pieces::{CompressedLayer, Compressing, Whole};
use crate::toc::{
    LANDMARK_CONTENT, List, TarSplit, Toc, TocEntry, chunked_end, estargz_end, estargz_footer,
    landmark_head,
};
use crate::units::{LARGE_FILE_BYTES, Large, Part, Run, Unit, pad, read_error, units};

/// A layer of which single files can be fetched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChunkedLayer {
    /// The layer. Its pieces are known by what they are made of, but do not make it up.
    pub layer: CompressedLayer,
    /// The digest of its tar; none where that is the layer's own.
    pub diff_id: Option<Digest>,
    /// What stands with the layer in a manifest, so that the TOC is found and trusted.
    pub annotations: BTreeMap<String, String>,
}

/// Compresses a layer as eStargz ([`Compression::Gzip`]) or zstd:chunked ([`Compression::Zstd`]),
/// deterministically, as [`crate::compress_layer`] does.
///
/// # Errors
///
/// As [`crate::compress_layer`], and for a name that is no UTF-8: no TOC can say it.
pub fn compress_chunked(
    layer: &Layer,
    store: &dyn BlobStore,
    how: &Compressing<'_>,
    out: &mut dyn Write,
) -> Result<ChunkedLayer, ImageError> {
    crate::shape::check(layer)?;
    let is_star = how.compression != Compression::Zstd;
    let maker = &Maker::new(store, how);
    let mut building = Building::new(out, is_star);
    let contents = rayon::in_place_scope(|scope| {
        let mut contents = BTreeMap::new();
        let mut line = Line::new(scope, |stars| building.add(stars));
        if is_star {
            line.begin(move || Stars::of(maker, Block::landmark()?, is_star))?;
        }
        for unit in units(layer, store, false) {
            match unit? {
                Unit::Run(run) => line.begin(move || {
                    let block = Block::of_run(maker, &run, is_star)?;
                    Stars::of(maker, block, is_star)
                })?,
                Unit::Large(file) => {
                    let (name, content) = large(&mut line, maker, file, is_star)?;
                    contents.insert(name, content);
                }
            }
        }
        line.finish()?;
        Ok::<_, ImageError>(contents)
    })?;
    building.finish(&contents, how)
}

/// What is known of a large file only when all of it was read.
struct WholeContent {
    digest: String,
    sum: u64,
}

/// The pieces of a large file.
fn large<'scope>(
    line: &mut Line<'_, 'scope, Stars, impl FnMut(Stars) -> Result<(), ImageError>>,
    maker: &'scope Maker<'scope>,
    file: Large,
    is_star: bool,
) -> Result<(String, WholeContent), ImageError> {
    let name = text(file.path.as_bytes(), &file)?;
    let file = Arc::new(file);
    let mut reader = maker.open(&file)?;
    let mut hasher = DigestHasher::default();
    let mut sum = crc_fast::Digest::new(Crc64GoIso);
    for at in 0..file.parts() {
        let part = file.read_part(at, &mut reader, Vec::new())?;
        let block = Block::of_part(&file, &name, at, part, is_star)?;
        let content = block.contents.first().map_or(0..0, Clone::clone);
        let content = &block.bytes[content];
        hasher.write_all(content).map_err(read_error(&file.path))?;
        if !is_star {
            sum.update(content);
        }
        line.begin(move || Stars::of(maker, block, is_star))?;
    }
    file.end(&mut reader)?;
    let digest = hasher.finish().0.to_string();
    Ok((name, WholeContent { digest, sum: sum.finalize() }))
}

fn text(bytes: &[u8], file: &Large) -> Result<String, ImageError> {
    let reason = NO_TEXT;
    let path = || ImageError::Unrepresentable { path: file.path.clone(), reason };
    String::from_utf8(bytes.to_vec()).map_err(|_| path())
}

const NO_TEXT: &str = "its name is no UTF-8, which `estargz` and `zstd:chunked` can not say";

/// What is gathered in order.
struct Building<'o> {
    whole: Whole<'o>,
    /// The tar, where it is not the layer's own.
    tar: Option<DigestHasher>,
    toc: Vec<TocEntry>,
    /// Headers and contents' sums, for a list of them.
    headers: Vec<(Vec<u8>, Option<u64>)>,
    /// Where the last file is in the TOC.
    file_at: usize,
}

impl<'o> Building<'o> {
    fn new(out: &'o mut dyn Write, is_star: bool) -> Self {
        let tar = is_star.then(DigestHasher::default);
        Self { whole: Whole::new(out), tar, toc: Vec::new(), headers: Vec::new(), file_at: 0 }
    }

    fn add(&mut self, stars: Stars) -> Result<(), ImageError> {
        let start = self.whole.bytes;
        for Placed { mut entry, header, content, sum } in stars.entries {
            if let Some(content) = content {
                entry.offset = start + content.start;
                if self.tar.is_none() {
                    entry.end_offset = start + content.end;
                }
            }
            match entry.kind {
                "chunk" => {
                    if let Some(file) = self.toc.get_mut(self.file_at) {
                        file.end_offset = entry.end_offset;
                    }
                }
                _ => {
                    self.file_at = self.toc.len();
                    if self.tar.is_none() {
                        self.headers.push((header, sum));
                    }
                }
            }
            self.toc.push(entry);
        }
        self.hash_tar(&stars.tar)?;
        self.whole.add(&stars.made)
    }

    fn hash_tar(&mut self, bytes: &[u8]) -> Result<(), ImageError> {
        match &mut self.tar {
            Some(tar) => tar.write_all(bytes).map_err(ImageError::io("hash a layer")),
            None => Ok(()),
        }
    }

    fn finish(
        mut self,
        contents: &BTreeMap<String, WholeContent>,
        how: &Compressing<'_>,
    ) -> Result<ChunkedLayer, ImageError> {
        for entry in self.toc.iter_mut().filter(|entry| entry.kind == "reg") {
            if let Some(content) = contents.get(&entry.name) {
                entry.digest = Some(content.digest.clone());
            }
        }
        match self.tar {
            Some(_) => self.finish_estargz(how),
            None => self.finish_chunked(contents, how),
        }
    }

    fn finish_estargz(mut self, how: &Compressing<'_>) -> Result<ChunkedLayer, ImageError> {
        let entries = std::mem::take(&mut self.toc);
        let json = Toc { version: 1, entries, tar_split_digest: None }.json()?;
        let tar = estargz_end(&json)?;
        self.hash_tar(&tar)?;
        let toc_at = self.whole.bytes;
        let level = level_of(how.compression, how.level);
        let way = crate::compress::Way::of(&tar, how.compression, level);
        let bytes = way.compress(&tar).map_err(ImageError::io("compress a layer"))?;
        self.whole.write(&[&bytes[..], &estargz_footer(toc_at)].concat())?;
        let (diff_id, tar_bytes) = self.tar.unwrap_or_default().finish();
        let notes = [
            ("containerd.io/snapshot/stargz/toc.digest", Digest::of(&json).to_string()),
            ("io.containers.estargz.uncompressed-size", tar_bytes.to_string()),
        ];
        let annotations = notes.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        let layer = CompressedLayer { tar_bytes, ..self.whole.finish() };
        Ok(ChunkedLayer { layer, diff_id: Some(diff_id), annotations })
    }

    fn finish_chunked(
        mut self,
        contents: &BTreeMap<String, WholeContent>,
        how: &Compressing<'_>,
    ) -> Result<ChunkedLayer, ImageError> {
        let level = level_of(how.compression, how.level);
        let mut split = TarSplit::default();
        let entries = self.toc.iter().filter(|entry| entry.kind != "chunk");
        for (entry, (header, sum)) in entries.zip(&self.headers) {
            let sum = contents.get(&entry.name).map(|content| content.sum).or(*sum);
            split.entry(header, &entry.name, entry.size, sum)?;
        }
        let split = List::new(&split.end()?, level)?;
        let end = zstd::bulk::compress(&[0; 2 * crate::header::BLOCK], level);
        self.whole.write(&end.map_err(ImageError::io("compress a layer"))?)?;
        let entries = std::mem::take(&mut self.toc);
        let toc = Toc { version: 1, entries, tar_split_digest: Some(split.digest()) };
        let toc = List::new(&toc.json()?, level)?;
        let (end, annotations) = chunked_end(self.whole.bytes, &toc, &split)?;
        self.whole.write(&end)?;
        let mut layer = self.whole.finish();
        layer.tar_bytes += 2 * crate::header::BLOCK as u64;
        Ok(ChunkedLayer { layer, diff_id: None, annotations })
    }
}

/// A part of the tar: its bytes, where members begin in it, and what stands there.
struct Block {
    bytes: Vec<u8>,
    /// Where members begin: at the beginning, and further on.
    cuts: Vec<usize>,
    /// Where contents begin and end.
    contents: Vec<Range<usize>>,
    entries: Vec<Standing>,
    /// Whether padding and the next header are in a content's own member.
    is_star: bool,
}

/// An entry, its header, and the number of its content.
struct Standing {
    entry: TocEntry,
    header: Vec<u8>,
    content: Option<usize>,
}

impl Block {
    fn new(is_star: bool) -> Self {
        let (bytes, cuts) = (Vec::new(), vec![0]);
        Self { bytes, cuts, contents: Vec::new(), entries: Vec::new(), is_star }
    }

    fn landmark() -> Result<Self, ImageError> {
        let mut block = Self::new(true);
        block.head(&landmark_head()?)?;
        block.file(LANDMARK_CONTENT);
        Ok(block)
    }

    fn of_run(maker: &Maker<'_>, run: &Run, is_star: bool) -> Result<Self, ImageError> {
        let mut block = Self::new(is_star);
        for part in &run.parts {
            match part {
                Part::Bytes(head) => block.head(head)?,
                Part::File { path, blob, size } => {
                    block.file(&maker.content(path, blob, *size)?);
                }
            }
        }
        Ok(block)
    }

    /// A part of a large file: header, content, padding.
    fn of_part(
        file: &Large,
        name: &str,
        at: u64,
        bytes: Vec<u8>,
        is_star: bool,
    ) -> Result<Self, ImageError> {
        let mut block = Self::new(is_star);
        match at {
            0 => block.head(&file.head)?,
            _ => {
                let entry = TocEntry::chunk(name.to_owned());
                block.entries.push(Standing { entry, header: Vec::new(), content: None });
            }
        }
        let start = block.bytes.len();
        let length = usize::try_from(file.content_bytes(at)).unwrap_or(usize::MAX);
        let end = start.saturating_add(length).min(bytes.len());
        block.bytes = bytes;
        block.cut(start);
        if !is_star {
            block.cut(end);
        }
        if let Some(standing) = block.entries.last_mut() {
            standing.content = Some(0);
            standing.entry.chunk_offset = at * LARGE_FILE_BYTES;
            standing.entry.chunk_size = file.content_bytes(at);
        }
        block.contents.push(start..end);
        Ok(block)
    }

    /// Headers, as they stand in the tar.
    fn head(&mut self, head: &[u8]) -> Result<(), ImageError> {
        let mut entries = Entries::new(Rest(head));
        let mut start = 0;
        while let Some(entry) = entries.next()? {
            let end = usize::try_from(entries.offset()).unwrap_or(head.len()).min(head.len());
            let header = if self.is_star { Vec::new() } else { head[start..end].to_vec() };
            start = end;
            let has_content = entry.size > 0;
            let name = crate::entries::lossy(&entry.name);
            let no_text = || ImageError::Entry { entry: name, reason: NO_TEXT };
            let entry = TocEntry::of(&entry).ok_or_else(no_text)?;
            self.entries.push(Standing { entry, header, content: None });
            // What would follow is not here.
            if has_content || end == head.len() {
                break;
            }
        }
        self.bytes.extend_from_slice(head);
        Ok(())
    }

    /// The content of the file whose header was the last.
    fn file(&mut self, content: &[u8]) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(content);
        if let Some(standing) = self.entries.last_mut().filter(|_| !content.is_empty()) {
            standing.content = Some(self.contents.len());
            self.contents.push(start..self.bytes.len());
            self.cut(start);
            if !self.is_star {
                self.cut(self.bytes.len());
            }
        }
        pad(&mut self.bytes, content.len() as u64);
    }

    fn cut(&mut self, at: usize) {
        if self.cuts.last().is_some_and(|last| at > *last) {
            self.cuts.push(at);
        }
    }

    /// The parts that become a member or frame each.
    fn segments(&self) -> Vec<&[u8]> {
        let ends = self.cuts.iter().skip(1).copied().chain([self.bytes.len()]);
        let segments = self.cuts.iter().zip(ends).map(|(start, end)| &self.bytes[*start..end]);
        segments.filter(|segment| !segment.is_empty()).collect()
    }
}

/// Bytes whose rest can be passed over.
struct Rest<'a>(&'a [u8]);

impl Read for Rest<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl Forward for Rest<'_> {
    fn forward(&mut self, bytes: u64) -> io::Result<()> {
        let bytes = usize::try_from(bytes).ok().filter(|bytes| *bytes <= self.0.len());
        self.0 = &self.0[bytes.ok_or(io::ErrorKind::UnexpectedEof)?..];
        Ok(())
    }
}

/// A piece, with what stands in it.
struct Stars {
    made: Made,
    tar: Vec<u8>,
    entries: Vec<Placed>,
}

/// An entry, and where its content's members or frames are in the piece.
struct Placed {
    entry: TocEntry,
    header: Vec<u8>,
    content: Option<Range<u64>>,
    /// Its content's checksum.
    sum: Option<u64>,
}

impl Stars {
    fn of(maker: &Maker<'_>, block: Block, is_star: bool) -> Result<Self, ImageError> {
        let segments = block.segments();
        let recipe = recipe(maker, &segments);
        let known = maker.known(&recipe)?;
        let known = known.and_then(|kept| unfold(kept, segments.len()));
        let (lengths, pressed) = match known {
            Some(known) => known,
            None => compress(maker, &segments)?,
        };
        // Where a position of the tar lies in the piece, for those where members begin.
        let mut places = BTreeMap::from([(0, 0)]);
        let (mut at, mut place) = (0, 0);
        for (segment, length) in segments.iter().zip(&lengths) {
            (at, place) = (at + segment.len(), place + u64::from(*length));
            places.insert(at, place);
        }
        let place = |at: usize| places.get(&at).copied().unwrap_or(place);
        let mut entries = Vec::new();
        for Standing { mut entry, header, content } in block.entries {
            let content = content.map(|number| block.contents[number].clone());
            let bytes = content.clone().map(|content| &block.bytes[content]);
            let mut sum = None;
            if let Some(bytes) = bytes {
                let digest = Digest::of(bytes).to_string();
                // Of a large file this is the first chunk's, until all of it was seen.
                if entry.kind == "reg" {
                    entry.digest = Some(digest.clone());
                }
                if is_star || entry.chunk_size > 0 {
                    entry.chunk_digest = Some(digest);
                }
                sum = (!is_star).then(|| crc_fast::checksum(Crc64GoIso, bytes));
            }
            let content = content.map(|content| place(content.start)..place(content.end));
            entries.push(Placed { entry, header, content, sum });
        }
        let made = pressed.made(recipe, None, block.bytes.len() as u64);
        Ok(Self { made, tar: if is_star { block.bytes } else { Vec::new() }, entries })
    }
}

/// What a piece is made of: its bytes, and how they are cut.
fn recipe(maker: &Maker<'_>, segments: &[&[u8]]) -> BlobId {
    let mut recipe = maker.recipe("chunked");
    for segment in segments {
        recipe.update(&(segment.len() as u64).to_le_bytes());
        recipe.update(segment);
    }
    recipe.finish()
}

/// A member or frame for each segment, and their lengths. What is kept is both: how many there
/// are, their lengths, their bytes.
fn compress(maker: &Maker<'_>, segments: &[&[u8]]) -> Result<(Vec<u32>, Pressed), ImageError> {
    let failed = || ImageError::io("compress a layer");
    let (mut bytes, mut lengths, mut is_cheap) = (Vec::new(), Vec::new(), true);
    for segment in segments {
        let way = maker.way(segment);
        let member = way.compress(segment).map_err(failed())?;
        is_cheap &= way.was_cheap(segment.len(), member.len());
        lengths.push(u32::try_from(member.len()).map_err(io::Error::other).map_err(failed())?);
        bytes.extend_from_slice(&member);
    }
    let mut blob = None;
    if !is_cheap {
        let count = u32::try_from(lengths.len()).map_err(io::Error::other).map_err(failed())?;
        let numbers = [count].into_iter().chain(lengths.iter().copied());
        let kept = numbers.flat_map(u32::to_le_bytes).chain(bytes.iter().copied());
        blob = Some(maker.keep(&kept.collect::<Vec<u8>>())?);
    }
    Ok((lengths, Pressed { bytes, blob, is_fresh: !is_cheap }))
}

/// What was kept of a piece, if it is what so many segments became.
fn unfold(kept: Pressed, segments: usize) -> Option<(Vec<u32>, Pressed)> {
    let mut numbers = kept
        .bytes
        .chunks_exact(4)
        .map(|bytes| bytes.iter().rev().fold(0_u32, |number, byte| number << 8 | u32::from(*byte)));
    let count = usize::try_from(numbers.next()?).ok().filter(|count| *count == segments)?;
    let lengths: Vec<u32> = numbers.take(count).collect();
    let bytes = kept.bytes.get(4 * (count + 1)..)?.to_vec();
    let total: u64 = lengths.iter().map(|length| u64::from(*length)).sum();
    if lengths.len() != segments || total != bytes.len() as u64 {
        return None;
    }
    Some((lengths, Pressed { bytes, ..kept }))
}
