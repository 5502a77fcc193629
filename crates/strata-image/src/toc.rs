//! The lists at the end of layers of which others fetch single files: the TOC, in which eStargz
//! (stargz-snapshotter, `docs/estargz.md`) and zstd:chunked (containers/storage, `pkg/chunked`)
//! say where each file lies; zstd:chunked's list of the tar's headers (tar-split), of which the
//! tar is put together again; and the footers that say where the lists are.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde::Serialize;
use strata_cas::{Metadata, Time};
use strata_oci::Digest;
use tar::EntryType;

use crate::ImageError;
use crate::entries::{Entry, Kind};
use crate::header::{BLOCK, Fields, encode, padding};
use crate::units::pad;

/// What the TOC is called in the tar of an eStargz.
const TOC_NAME: &[u8] = b"stargz.index.json";
/// Says that no file is wanted before others.
const LANDMARK: &[u8] = b".no.prefetch.landmark";
/// The landmark's content.
pub(crate) const LANDMARK_CONTENT: &[u8] = &[0xf];
/// What begins a frame that readers of zstd pass over (RFC 8878, 3.1.2).
const SKIPPABLE: [u8; 4] = [0x50, 0x2a, 0x4d, 0x18];
/// What a footer of zstd:chunked ends with.
const CHUNKED_MAGIC: [u8; 8] = *b"GNUlInUx";
/// The only kind of TOC that zstd:chunked has.
const TOC_KIND: u64 = 1;
/// A header of a skippable frame, in bytes.
const FRAME_HEAD_BYTES: u64 = 8;

/// A TOC.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Toc {
    pub(crate) version: u32,
    pub(crate) entries: Vec<TocEntry>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) tar_split_digest: Option<String>,
}

/// What stands in a TOC: an entry of the tar, or one more chunk of the file before.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct TocEntry {
    #[serde(rename = "type")]
    pub(crate) kind: &'static str,
    pub(crate) name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) link_name: Option<String>,
    #[serde(skip_serializing_if = "is_zero")]
    pub(crate) mode: u64,
    #[serde(skip_serializing_if = "is_zero")]
    pub(crate) size: u64,
    #[serde(skip_serializing_if = "is_zero")]
    pub(crate) uid: u64,
    #[serde(skip_serializing_if = "is_zero")]
    pub(crate) gid: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) modtime: Option<String>,
    #[serde(skip_serializing_if = "is_zero")]
    pub(crate) dev_major: u64,
    #[serde(skip_serializing_if = "is_zero")]
    pub(crate) dev_minor: u64,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) xattrs: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) digest: Option<String>,
    #[serde(skip_serializing_if = "is_zero")]
    pub(crate) offset: u64,
    #[serde(skip_serializing_if = "is_zero")]
    pub(crate) end_offset: u64,
    #[serde(skip_serializing_if = "is_zero")]
    pub(crate) chunk_size: u64,
    #[serde(skip_serializing_if = "is_zero")]
    pub(crate) chunk_offset: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) chunk_digest: Option<String>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl TocEntry {
    /// What an entry's header says; none where it says what is no text.
    pub(crate) fn of(entry: &Entry) -> Option<Self> {
        let kind = match entry.kind {
            Kind::File => "reg",
            Kind::Directory => "dir",
            Kind::Symlink => "symlink",
            Kind::HardLink => "hardlink",
            Kind::Character => "char",
            Kind::Block => "block",
            Kind::Fifo => "fifo",
        };
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).ok();
        let link_name = match entry.kind {
            Kind::Symlink | Kind::HardLink => Some(text(&entry.link)?),
            _ => None,
        };
        let modified = Timestamp::from_second(entry.modified.0).ok();
        let modified = modified.filter(|time| time.as_second() != 0);
        let Metadata { mode, uid, gid, xattrs } = &entry.metadata;
        let xattrs = xattrs.iter().map(|(name, value)| Some((text(name)?, STANDARD.encode(value))));
        Some(Self {
            kind,
            name: text(&entry.name)?,
            link_name,
            mode: u64::from(*mode),
            size: entry.size,
            uid: u64::from(*uid),
            gid: u64::from(*gid),
            modtime: modified.map(|time| time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()),
            dev_major: u64::from(entry.device.0),
            dev_minor: u64::from(entry.device.1),
            xattrs: xattrs.collect::<Option<_>>()?,
            ..Self::default()
        })
    }

    /// One more chunk of a file.
    pub(crate) fn chunk(name: String) -> Self {
        Self { kind: "chunk", name, ..Self::default() }
    }
}

impl Toc {
    pub(crate) fn json(&self) -> Result<Vec<u8>, ImageError> {
        serde_json::to_vec(self).map_err(ImageError::io("write a TOC"))
    }
}

/// The landmark's header.
pub(crate) fn landmark_head() -> Result<Vec<u8>, ImageError> {
    head(LANDMARK, LANDMARK_CONTENT.len() as u64)
}

/// The end of an eStargz's tar: the TOC as a file.
pub(crate) fn estargz_end(json: &[u8]) -> Result<Vec<u8>, ImageError> {
    let mut tar = head(TOC_NAME, json.len() as u64)?;
    tar.extend_from_slice(json);
    pad(&mut tar, json.len() as u64);
    tar.resize(tar.len() + 2 * BLOCK, 0);
    Ok(tar)
}

/// An empty gzip member of 51 bytes whose extra field says where the TOC's member begins.
pub(crate) fn estargz_footer(toc_at: u64) -> Vec<u8> {
    let value = format!("{toc_at:016x}STARGZ");
    let start = [0x1f, 0x8b, 8, 4, 0, 0, 0, 0, 0, 255, 26, 0, b'S', b'G', 22, 0];
    let end = [1, 0, 0, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 0];
    [&start[..], value.as_bytes(), &end].concat()
}

fn head(name: &[u8], size: u64) -> Result<Vec<u8>, ImageError> {
    let fields = Fields {
        name,
        kind: EntryType::Regular,
        link: b"",
        size,
        metadata: &Metadata::root(0o444),
        modified: Time(0),
        device: (0, 0),
    };
    encode(&fields).map_err(|error| ImageError::io("write a TOC")(std::io::Error::other(error)))
}

/// A list before and after it was compressed.
pub(crate) struct List {
    bytes: u64,
    compressed: Vec<u8>,
}

impl List {
    pub(crate) fn new(content: &[u8], level: i32) -> Result<Self, ImageError> {
        let compressed = zstd::bulk::compress(content, level);
        let compressed = compressed.map_err(ImageError::io("compress a TOC"))?;
        Ok(Self { bytes: content.len() as u64, compressed })
    }

    pub(crate) fn digest(&self) -> String {
        Digest::of(&self.compressed).to_string()
    }
}

/// The end of a zstd:chunked blob of so many bytes: three frames that readers pass over. With it
/// the notes that belong to the layer's description.
pub(crate) fn chunked_end(
    at: u64,
    toc: &List,
    tar_split: &List,
) -> Result<(Vec<u8>, BTreeMap<String, String>), ImageError> {
    let length = |list: &List| list.compressed.len() as u64;
    let toc_at = at + FRAME_HEAD_BYTES;
    let split_at = toc_at + length(toc) + FRAME_HEAD_BYTES;
    let numbers = [toc_at, length(toc), toc.bytes, TOC_KIND];
    let split_numbers = [split_at, length(tar_split), tar_split.bytes];
    let footer = numbers.iter().chain(&split_numbers).flat_map(|number| number.to_le_bytes());
    let footer: Vec<u8> = footer.chain(CHUNKED_MAGIC).collect();
    let frames = [&toc.compressed, &tar_split.compressed, &footer];
    let frames = frames.map(|content| skippable(content)).into_iter();
    let end = frames.collect::<Result<Vec<_>, _>>()?.concat();
    let joined = |numbers: &[u64]| {
        let numbers: Vec<String> = numbers.iter().map(u64::to_string).collect();
        numbers.join(":")
    };
    let notes = [
        ("manifest-checksum", toc.digest()),
        ("manifest-position", joined(&numbers)),
        ("tarsplit-position", joined(&split_numbers)),
    ];
    let name = |(name, value)| (format!("io.github.containers.zstd-chunked.{name}"), value);
    Ok((end, notes.into_iter().map(name).collect()))
}

fn skippable(content: &[u8]) -> Result<Vec<u8>, ImageError> {
    let length = u32::try_from(content.len()).map_err(std::io::Error::other);
    let length = length.map_err(ImageError::io("write a TOC"))?;
    Ok([&SKIPPABLE[..], &length.to_le_bytes(), content].concat())
}

/// The tar but for the contents of its files (`github.com/vbatts/tar-split`): headers as they
/// are, and a checksum for each content.
#[derive(Default)]
pub(crate) struct TarSplit {
    lines: Vec<u8>,
    position: u64,
    /// Bytes that fill the block of the last content: they stand before the next header.
    padding: u64,
}

#[derive(Serialize)]
struct SplitLine<'a> {
    #[serde(rename = "type")]
    kind: u8,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    #[serde(skip_serializing_if = "is_zero")]
    size: u64,
    payload: Option<String>,
    position: u64,
}

impl TarSplit {
    const FILE: u8 = 1;
    const SEGMENT: u8 = 2;

    /// An entry's header and, where it has a content, that one's checksum.
    pub(crate) fn entry(
        &mut self,
        header: &[u8],
        name: &str,
        size: u64,
        sum: Option<u64>,
    ) -> Result<(), ImageError> {
        self.segment(header)?;
        self.padding = padding(size);
        let payload = sum.map(|sum| STANDARD.encode(sum.to_be_bytes()));
        self.line(Self::FILE, Some(name), size, payload)
    }

    /// The blocks that end the tar.
    pub(crate) fn end(mut self) -> Result<Vec<u8>, ImageError> {
        self.segment(&[0; 2 * BLOCK])?;
        self.segment(&[])?;
        Ok(self.lines)
    }

    fn segment(&mut self, bytes: &[u8]) -> Result<(), ImageError> {
        let padding = usize::try_from(std::mem::take(&mut self.padding)).unwrap_or(0);
        let payload = STANDARD.encode([&vec![0; padding][..], bytes].concat());
        self.line(Self::SEGMENT, None, 0, Some(payload))
    }

    fn line(
        &mut self,
        kind: u8,
        name: Option<&str>,
        size: u64,
        payload: Option<String>,
    ) -> Result<(), ImageError> {
        let line = SplitLine { kind, name, size, payload, position: self.position };
        self.position += 1;
        let written = serde_json::to_writer(&mut self.lines, &line);
        written.map_err(ImageError::io("write a list of headers"))?;
        self.lines.push(b'\n');
        Ok(())
    }
}
