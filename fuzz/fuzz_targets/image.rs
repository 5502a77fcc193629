//! Any bytes as an archive with images, and as each document and name that a registry sends: a
//! clear refusal, or an image whose layers can be read.
#![no_main]

use std::io::Read;

use libfuzzer_sys::fuzz_target;
use strata_image::{DockerArchive, ImageSource, OciLayout};
use strata_oci::{Descriptor, Digest, ImageConfig, Index, Manifest, Platform, Reference};

/// Of each layer.
const READ_BYTES: u64 = 1 << 20;

fuzz_target!(|bytes: &[u8]| {
    documents(bytes);
    if let Ok(text) = std::str::from_utf8(bytes) {
        names(text);
    }
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("image.tar");
    std::fs::write(&path, bytes).expect("a file");
    if let Ok(layout) = OciLayout::open(&path) {
        for (_, selector, platforms) in layout.entries().unwrap_or_default() {
            for platform in platforms.into_iter().chain([Platform::native()]) {
                if let Ok(image) = layout.image(&selector, &platform) {
                    read(&image);
                }
            }
        }
    }
    if let Ok(archive) = DockerArchive::open(&path) {
        for (_, image) in archive.images().unwrap_or_default() {
            read(&image);
        }
    }
    assert_eq!(std::fs::read_dir(directory.path()).expect("the directory").count(), 1);
});

fn read(image: &dyn ImageSource) {
    for number in 0..image.layers().len() {
        if let Ok(layer) = image.open_layer(number) {
            let _ = std::io::copy(&mut layer.take(READ_BYTES), &mut std::io::sink());
        }
    }
}

/// What was understood is written as something that is understood as the same.
fn documents(bytes: &[u8]) {
    macro_rules! round_trip {
        ($($kind:ty),+) => {$(
            if let Ok(document) = serde_json::from_slice::<$kind>(bytes) {
                let text = serde_json::to_string(&document).expect("it can be written");
                let again: $kind = serde_json::from_str(&text).expect("it can be read again");
                let again = serde_json::to_string(&again).expect("it can be written");
                assert_eq!(again, text);
            }
        )+};
    }
    round_trip!(Manifest, Index, ImageConfig, Descriptor);
}

fn names(text: &str) {
    macro_rules! round_trip {
        ($($kind:ty),+) => {$(
            if let Ok(name) = text.parse::<$kind>() {
                let text = name.to_string();
                assert_eq!(text.parse::<$kind>().expect("it can be read again").to_string(), text);
            }
        )+};
    }
    round_trip!(Reference, Digest, Platform);
}
