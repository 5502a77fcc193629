//! eStargz and zstd:chunked as their readers take them: by the footer, the TOC and its offsets.

use std::collections::BTreeMap;
use std::io::Read;

use crate::support::{directory, file, pack, sample, set};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use strata_cas::{Item, Layer, MemoryStore};
use strata_image::{
    ChunkedLayer, Compressing, Decoder, ImageError, KnownPieces, compress_chunked, describe,
};
use strata_oci::{Compression, Digest};

fn compress(
    layer: &Layer,
    store: &MemoryStore,
    known: &KnownPieces,
    compression: Compression,
) -> Result<(ChunkedLayer, Vec<u8>), ImageError> {
    let how = Compressing { compression, level: None, known, keep_all: false };
    let mut bytes = Vec::new();
    let made = compress_chunked(layer, store, &how, &mut bytes)?;
    assert_eq!((made.layer.digest, made.layer.size), (Digest::of(&bytes), bytes.len() as u64));
    Ok((made, bytes))
}

fn fresh(layer: &Layer, store: &MemoryStore, compression: Compression) -> (ChunkedLayer, Vec<u8>) {
    compress(layer, store, &KnownPieces::new(), compression).expect("compressed")
}

fn decoded(bytes: &[u8]) -> Vec<u8> {
    let mut content = Vec::new();
    Decoder::new(bytes).expect("a decoder").read_to_end(&mut content).expect("decoded");
    content
}

/// The first gzip member.
fn member(bytes: &[u8]) -> Vec<u8> {
    let mut content = Vec::new();
    flate2::read::GzDecoder::new(bytes).read_to_end(&mut content).expect("a member");
    content
}

/// What the entries of a tar say, and their contents.
type Entries = Vec<(String, Value)>;

fn entries(tar: &[u8]) -> (Entries, BTreeMap<String, Vec<u8>>) {
    let (mut entries, mut contents) = (Vec::new(), BTreeMap::new());
    for entry in tar::Archive::new(tar).entries().expect("entries") {
        let mut entry = entry.expect("an entry");
        let name = String::from_utf8(entry.path_bytes().to_vec()).expect("UTF-8");
        let kind = match entry.header().entry_type() {
            tar::EntryType::Regular => "reg",
            tar::EntryType::Directory => "dir",
            tar::EntryType::Symlink => "symlink",
            tar::EntryType::Link => "hardlink",
            tar::EntryType::Char => "char",
            tar::EntryType::Fifo => "fifo",
            other => unreachable!("{other:?}"),
        };
        let header = entry.header();
        let link = entry.link_name_bytes().map(|link| String::from_utf8(link.to_vec()));
        let said = serde_json::json!({
            "type": kind,
            "mode": header.mode().expect("a mode"),
            "size": entry.size(),
            "linkName": link.transpose().expect("UTF-8").filter(|link| !link.is_empty()),
        });
        let mut content = Vec::new();
        entry.read_to_end(&mut content).expect("read");
        entries.push((name.clone(), said));
        contents.insert(name, content);
    }
    (entries, contents)
}

/// Whether the TOC says of each entry what the tar says, and gives its content.
fn check(toc: &Value, tar: &[u8], chunk: impl Fn(u64, u64, u64) -> Vec<u8>) {
    let (expected, contents) = entries(tar);
    assert_eq!(toc["version"], 1);
    let all = toc["entries"].as_array().expect("entries");
    let is_chunk = |entry: &&Value| entry["type"] == "chunk";
    let said = all.iter().filter(|entry| !is_chunk(entry)).map(|entry| {
        let said = serde_json::json!({
            "type": entry["type"],
            "mode": entry["mode"].as_u64().unwrap_or(0),
            "size": entry["size"].as_u64().unwrap_or(0),
            "linkName": entry["linkName"],
        });
        (entry["name"].as_str().expect("a name").to_owned(), said)
    });
    assert_eq!(said.collect::<Vec<_>>(), expected);
    let mut found: BTreeMap<&str, Vec<u8>> = BTreeMap::new();
    let number = |entry: &Value, name: &str| entry[name].as_u64().unwrap_or(0);
    for (at, entry) in all.iter().enumerate().filter(|(_, entry)| number(entry, "offset") > 0) {
        let name = entry["name"].as_str().expect("a name");
        let content = found.entry(name).or_default();
        assert_eq!(content.len() as u64, number(entry, "chunkOffset"), "{name}");
        let next = all.get(at + 1).filter(is_chunk).map(|next| number(next, "offset"));
        let end = next.unwrap_or_else(|| number(entry, "endOffset"));
        let length = match number(entry, "chunkSize") {
            0 => number(entry, "size"),
            length => length,
        };
        let bytes = chunk(number(entry, "offset"), end, length);
        assert_eq!(bytes.len() as u64, length, "{name}");
        if let Some(digest) = entry["chunkDigest"].as_str() {
            assert_eq!(digest, Digest::of(&bytes).to_string(), "{name}");
        }
        content.extend(bytes);
    }
    for entry in all.iter().filter(|entry| number(entry, "size") > 0) {
        let name = entry["name"].as_str().expect("a name");
        assert!(found[name] == contents[name], "{name}");
        assert_eq!(entry["digest"], Digest::of(&contents[name]).to_string(), "{name}");
    }
}

fn mixed(store: &MemoryStore) -> Layer {
    let mut changes = sample(store).changes().to_vec();
    let text: Vec<u8> = (0..2_500_000_u32).flat_map(|it| (it / 100).to_le_bytes()).collect();
    let noise: Vec<u8> =
        (0..100_000_u32).flat_map(|it| *blake3_like(it).as_bytes()).take(3 << 20).collect();
    changes.push(file(store, "large", &text[..2_500_000]));
    changes.push(file(store, "noise", &noise));
    changes.push(file(store, "whole", &text[..3 << 20]));
    changes.push(file(store, "z-empty", b""));
    changes.push(file(store, "z-last", b"last"));
    Layer::new(changes)
}

fn blake3_like(number: u32) -> strata_cas::BlobId {
    strata_cas::BlobId::of(&number.to_le_bytes())
}

#[test]
fn an_estargz_gives_its_files_one_by_one() {
    let store = MemoryStore::default();
    let layer = mixed(&store);
    let (made, bytes) = fresh(&layer, &store, Compression::Gzip);
    let footer = &bytes[bytes.len() - 51..];
    assert_eq!(&footer[..4], [0x1f, 0x8b, 8, 4]);
    assert_eq!(&footer[32..38], b"STARGZ");
    assert!(member(footer).is_empty());
    let at = std::str::from_utf8(&footer[16..32]).expect("digits");
    let at = usize::from_str_radix(at, 16).expect("digits");
    let tail = member(&bytes[at..]);
    let (_, files) = entries(&tail);
    let json = &files["stargz.index.json"];
    let notes = &made.annotations;
    let toc_digest = &notes["containerd.io/snapshot/stargz/toc.digest"];
    assert_eq!(*toc_digest, Digest::of(json).to_string());
    let tar = decoded(&bytes);
    assert_eq!(made.diff_id, Some(Digest::of(&tar)));
    assert_eq!(notes["io.containers.estargz.uncompressed-size"], tar.len().to_string());
    let toc: Value = serde_json::from_slice(json).expect("JSON");
    let (all, _) = entries(&tar);
    assert_eq!(
        (&*all[0].0, &*all[all.len() - 1].0),
        (".no.prefetch.landmark", "stargz.index.json")
    );
    // The TOC is of all that stands before it.
    let before = tar.len() - tail.len();
    check(&toc, &[&tar[..before], &[0; 1024]].concat(), |at, _, length| {
        let at = usize::try_from(at).expect("small");
        member(&bytes[at..])[..usize::try_from(length).expect("small")].to_vec()
    });
    // Between landmark and TOC is the layer's own tar.
    let own = pack(&layer, &store);
    assert!(tar[1024..before] == own[..own.len() - 1024]);
}

fn number(bytes: &[u8]) -> usize {
    usize::try_from(u64::from_le_bytes(bytes.try_into().expect("8 bytes"))).expect("small")
}

#[test]
fn a_zstd_chunked_gives_its_files_one_by_one() {
    let store = MemoryStore::default();
    let layer = mixed(&store);
    let (made, bytes) = fresh(&layer, &store, Compression::Zstd);
    let tar = pack(&layer, &store);
    assert!(decoded(&bytes) == tar);
    assert_eq!(made.diff_id, None);
    assert_eq!((made.layer.tar_bytes, describe(&layer, &store).expect("it").1), {
        (tar.len() as u64, tar.len() as u64)
    });
    let footer = &bytes[bytes.len() - 64..];
    assert_eq!(&footer[56..], b"GNUlInUx");
    let numbers: Vec<usize> = footer[..56].chunks(8).map(number).collect();
    let note =
        |name: &str| &*made.annotations[&format!("io.github.containers.zstd-chunked.{name}")];
    let joined =
        |numbers: &[usize]| numbers.iter().map(usize::to_string).collect::<Vec<_>>().join(":");
    assert_eq!(note("manifest-position"), joined(&numbers[..4]));
    assert_eq!(note("tarsplit-position"), joined(&numbers[4..]));
    let list = &bytes[numbers[0]..numbers[0] + numbers[1]];
    assert_eq!(note("manifest-checksum"), Digest::of(list).to_string());
    let json = decoded(list);
    assert_eq!(json.len(), numbers[2]);
    let toc: Value = serde_json::from_slice(&json).expect("JSON");
    check(&toc, &tar, |at, end, _| {
        let [at, end] = [at, end].map(|place| usize::try_from(place).expect("small"));
        zstd::decode_all(&bytes[at..end]).expect("frames")
    });
    let list = &bytes[numbers[4]..numbers[4] + numbers[5]];
    assert_eq!(toc["tarSplitDigest"], Digest::of(list).to_string());
    let lines = decoded(list);
    assert_eq!(lines.len(), numbers[6]);
    assert!(together(&lines, &entries(&tar).1) == tar);
}

/// A tar out of its headers and its contents, as tar-split puts it together.
fn together(lines: &[u8], contents: &BTreeMap<String, Vec<u8>>) -> Vec<u8> {
    let mut tar = Vec::new();
    for (at, line) in lines.split(|byte| *byte == b'\n').filter(|it| !it.is_empty()).enumerate() {
        let line: Value = serde_json::from_slice(line).expect("JSON");
        assert_eq!(line["position"], at);
        let payload = line["payload"].as_str().map(|text| STANDARD.decode(text).expect("base64"));
        if line["type"] == 2 {
            tar.extend(payload.expect("a segment"));
            continue;
        }
        let content = &contents[line["name"].as_str().expect("a name")];
        assert_eq!(line["size"].as_u64().unwrap_or(0), content.len() as u64);
        let sum = (!content.is_empty()).then(|| crc64(content).to_be_bytes().to_vec());
        assert_eq!(payload, sum);
        tar.extend_from_slice(content);
    }
    tar
}

/// CRC-64 as Go's `hash/crc64` has it with its ISO polynomial, bit by bit.
fn crc64(bytes: &[u8]) -> u64 {
    let mut table = [0_u64; 256];
    for (at, slot) in table.iter_mut().enumerate() {
        let step = |sum: u64| sum >> 1 ^ if sum & 1 == 1 { 0xd800_0000_0000_0000 } else { 0 };
        *slot = (0..8).fold(at as u64, |sum, _| step(sum));
    }
    let take = |sum: u64, byte: &u8| {
        let low = usize::from(sum.to_le_bytes()[0] ^ byte);
        table[low] ^ sum >> 8
    };
    !bytes.iter().fold(!0, take)
}

#[test]
fn sums_are_those_of_go() {
    // Go's own test vector (hash/crc64, crc64_test.go).
    assert_eq!(crc64(b"a"), 0x3420_0000_0000_0000);
    assert_eq!(crc_fast::checksum(crc_fast::CrcAlgorithm::Crc64GoIso, b"a"), crc64(b"a"));
}

#[test]
fn a_changed_file_costs_its_own_piece_and_the_bytes_are_the_same() {
    let store = MemoryStore::default();
    let layer = |changed: u32| {
        let mut changes = vec![directory("d")];
        for number in 0..1500_u32 {
            let word = if number == changed { "changed" } else { "as it was" };
            let text = format!("{number} {word} ").repeat(700);
            changes.push(file(&store, &format!("d/f{number}"), text.as_bytes()));
        }
        Layer::new(changes)
    };
    for compression in [Compression::Gzip, Compression::Zstd] {
        let (first, _) = fresh(&layer(u32::MAX), &store, compression);
        let pieces = first.layer.pieces.iter();
        let known: KnownPieces =
            pieces.filter_map(|piece| Some((piece.recipe, piece.blob?))).collect();
        let again = |changed, known: &KnownPieces| {
            compress(&layer(changed), &store, known, compression).expect("compressed").0
        };
        assert_eq!(again(u32::MAX, &known).layer.fresh_bytes, 0);
        assert_eq!(again(u32::MAX, &known).layer.digest, first.layer.digest);
        let changed = again(700, &known);
        let share = changed.layer.fresh_bytes as f64 / changed.layer.tar_bytes as f64;
        assert!(changed.layer.fresh_bytes > 0 && share < 0.06, "{share}");
        assert_eq!(changed, {
            let anew = again(700, &KnownPieces::new());
            let layer = strata_image::CompressedLayer {
                fresh_bytes: changed.layer.fresh_bytes,
                ..anew.layer
            };
            ChunkedLayer { layer, ..anew }
        });
        // A piece that is not what it was is made again.
        let wrong = known.keys().map(|key| (*key, strata_cas::BlobId::of(b"gone"))).collect();
        assert_eq!(again(u32::MAX, &wrong).layer.digest, first.layer.digest);
        let other = strata_cas::BlobStore::put(&store, b"something else").expect("put");
        let wrong = known.keys().map(|key| (*key, other)).collect();
        assert_eq!(again(u32::MAX, &wrong).layer.digest, first.layer.digest);
    }
}

#[test]
fn an_empty_layer_is_one_too() {
    let store = MemoryStore::default();
    for compression in [Compression::Gzip, Compression::Zstd] {
        let (_, bytes) = fresh(&Layer::default(), &store, compression);
        let count = entries(&decoded(&bytes)).0.len();
        assert_eq!(count, if compression == Compression::Gzip { 2 } else { 0 });
    }
}

#[test]
fn a_name_that_is_no_text_is_refused() {
    let store = MemoryStore::default();
    let path = strata_cas::TreePath::new(&b"a\xff"[..]).expect("clean");
    let mut change = set("a", Item::Symlink { target: b"x".to_vec() }, 0o777);
    change.path = path.clone();
    let target = set("a", Item::Symlink { target: b"\xff".to_vec() }, 0o777);
    let mut large = file(&store, "a", &vec![1; 2 << 20]);
    large.path = path;
    for (change, compression) in [change, target, large].into_iter().flat_map(|change| {
        [Compression::Gzip, Compression::Zstd].map(|compression| (change.clone(), compression))
    }) {
        let refused = compress(&Layer::new(vec![change]), &store, &KnownPieces::new(), compression);
        let error = refused.expect_err("it can not be said").to_string();
        assert!(error.contains("no UTF-8"), "{error}");
    }
}
