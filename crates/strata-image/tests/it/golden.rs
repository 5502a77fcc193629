//! The bytes of a layer's tar are a promise: they are what images are named by.

use crate::support::{form, pack, run, sample, show, temporary, unpack_in};

use strata_cas::MemoryStore;
use strata_image::{Unpacked, describe, materialise};
use strata_oci::Digest;

#[test]
fn the_tar_of_a_layer_does_not_drift() {
    let store = MemoryStore::default();
    let tar = pack(&sample(&store), &store);
    let golden = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/layer.tar");
    if std::env::var_os("STRATA_WRITE_GOLDEN").is_some() {
        std::fs::write(golden, &tar).expect("write");
    }
    assert!(std::fs::read(golden).expect("read") == tar, "the tar of a layer has changed");
}

#[test]
fn gnu_tar_reads_it() {
    let store = MemoryStore::default();
    let outer = temporary();
    std::fs::write(outer.path().join("l.tar"), pack(&sample(&store), &store)).expect("write");
    let listing = run("tar", &["--utc", "--full-time", "-tvf", "l.tar"], outer.path());
    let lines: Vec<Vec<&str>> =
        listing.lines().map(|line| line.split_whitespace().collect()).collect();
    let names: Vec<&str> = lines.iter().map(|line| line[5]).collect();
    let long = format!("d/{}", "n".repeat(120));
    let expected = [
        "./",
        "d/",
        "d/a",
        "d/b",
        "d/fifo",
        "d/.wh.gone",
        "d/gr\\303\\274\\303\\237e",
        &long,
        "d/null",
        "d/owned",
        "d/s",
        "o/",
        "o/.wh..wh..opq",
        "o/empty",
        ".wh.top",
    ];
    assert_eq!(names, expected);
    assert_eq!(lines[3].join(" "), "hrw-r--r-- 0/0 0 2023-11-14 22:13:20 d/b link to d/a");
    assert_eq!(lines[9].join(" "), "-rwsr-xr-x 3000000/1000 5 1969-12-31 23:59:55 d/owned");
    assert!(lines[10].join(" ").ends_with("d/s -> ../etc/passwd"), "{listing}");
}

#[test]
fn unpacked_it_is_the_layer_and_the_directory_is_the_materialised_one() {
    let store = MemoryStore::default();
    let layer = sample(&store);
    let tar = pack(&layer, &store);
    let outer = temporary();
    let Unpacked { layer: back, files, implied, diff_id, size } =
        unpack_in(outer.path(), &tar).expect("unpack");
    assert_eq!((back, implied), (layer.clone(), Vec::new()));
    assert_eq!((diff_id, size), (Digest::of(&tar), tar.len() as u64));
    assert_eq!(describe(&layer, &store).expect("describe"), (diff_id, size));
    assert_eq!(files.len(), 5);
    for (blob, path) in files {
        let content = std::fs::read(outer.path().join("fs").join(path.to_string()));
        assert_eq!(strata_cas::BlobId::of(&content.expect("read")), blob, "{path}");
    }
    let other = temporary();
    materialise(&layer, &store, other.path(), form()).expect("materialise");
    assert_eq!(show(&outer.path().join("fs")), show(other.path()));
}
