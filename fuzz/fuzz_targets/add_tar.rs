//! Any bytes as an archive that ADD unpacks: refused, or a layer that stays inside its directory.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use strata_image::{Decoder, Limits, OverlayForm, UnpackOptions, is_archive, unpack};

/// Enough for all that a tar can say, and too little to fill a disk.
const LIMITS: Limits = Limits { entries: 1_000, bytes: 4 << 20, metadata_bytes: 1 << 20 };

fuzz_target!(|bytes: &[u8]| {
    let _ = is_archive(bytes);
    let outer = tempfile::tempdir().expect("a directory");
    let (inside, marker) = (outer.path().join("inside"), outer.path().join("marker"));
    std::fs::create_dir(&inside).expect("a directory");
    std::fs::write(&marker, "untouched").expect("a file");
    let Ok(mut decoder) = Decoder::new(bytes) else { return };
    let options = UnpackOptions { limits: LIMITS, ..UnpackOptions::new(OverlayForm::Plain) };
    let unpacked = unpack(&mut decoder, &inside, &options);
    check(outer.path(), &marker);
    if let Ok(unpacked) = unpacked {
        for (_, path) in &unpacked.files {
            let path = String::from_utf8_lossy(path.as_bytes()).into_owned();
            assert!(!path.split('/').any(|name| name == ".."), "{path}");
        }
        let _ = unpacked.layer.encode();
    }
});

/// What is beside the directory is as it was.
fn check(outer: &Path, marker: &Path) {
    assert_eq!(std::fs::read_to_string(marker).ok().as_deref(), Some("untouched"));
    let entries = std::fs::read_dir(outer).expect("the directory is there");
    assert_eq!(entries.count(), 2, "something else is beside the directory");
}
