//! Random bytes, and tars with random bytes in them: errors at worst, never a panic.

use std::io::Read;

use crate::support::{pack, sample, temporary};
use proptest::prelude::*;
use strata_cas::MemoryStore;
use strata_image::{
    Decoder, DockerArchive, Limits, OciLayout, OverlayForm, UnpackOptions, is_archive, unpack,
};

/// Everything that reads foreign bytes, at once: what a fuzzer would call.
fn read_all_ways(bytes: &[u8]) {
    let limits = Limits { entries: 50, bytes: 1 << 20, metadata_bytes: 1 << 16 };
    let mut decoded = Vec::new();
    if let Ok(decoder) = Decoder::new(bytes) {
        drop(decoder.take(1 << 20).read_to_end(&mut decoded));
    }
    is_archive(bytes);
    for form in [OverlayForm::User, OverlayForm::Plain] {
        let into = temporary();
        let options = UnpackOptions { limits, ..UnpackOptions::new(form) };
        drop(unpack(&mut &bytes[..], into.path(), &options));
    }
    let outer = temporary();
    let path = outer.path().join("image.tar");
    std::fs::write(&path, bytes).expect("write");
    drop(OciLayout::open(&path));
    drop(DockerArchive::open(&path));
}

/// Puts the checksum right, so that what follows it is looked at.
fn mend(tar: &mut [u8]) {
    for block in tar.chunks_exact_mut(512) {
        if block[257..262] == *b"ustar" {
            block[148..156].fill(b' ');
            let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
            block[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
        }
    }
}

const MAGICS: [&[u8]; 6] = [
    b"",
    &[0x1f, 0x8b, 8],
    &[0x28, 0xb5, 0x2f, 0xfd],
    b"BZh9",
    b"\xfd7zXZ\0",
    &[0x50, 0x2a, 0x4d, 0x18],
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn bytes(
        magic in prop::sample::select(&MAGICS[..]),
        rest in prop::collection::vec(any::<u8>(), 0..3000),
    ) {
        read_all_ways(&[magic, &rest].concat());
    }

    #[test]
    fn damaged_tars(
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in any::<prop::sample::Index>(),
        is_cut in any::<bool>(),
    ) {
        let store = MemoryStore::default();
        let mut tar = pack(&sample(&store), &store);
        for (at, byte) in damage {
            let at = at.index(tar.len());
            tar[at] = byte;
        }
        mend(&mut tar);
        if is_cut {
            tar.truncate(cut.index(tar.len()));
        }
        read_all_ways(&tar);
    }
}
