//! Archives: the same bytes however they come about, and none of a damaged store's.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::damage::flip_a_bit;
use crate::session::{Session, files_in};

/// Bytes that nothing makes smaller, by splitmix64.
fn noise(size: usize) -> Vec<u8> {
    let mut state = 7_u64;
    let next = || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        (mixed ^ (mixed >> 27)).to_le_bytes()
    };
    let words = std::iter::repeat_with(next);
    words.flatten().take(size).collect()
}

/// A project with a layer that becomes smaller, one that does not, one that is small, and the
/// first once more.
fn project() -> Session {
    let dockerfile = "FROM scratch\nCOPY soft /soft\nCOPY mixed /mixed\nCOPY small /\n\
        COPY soft /soft\n";
    let session = Session::with(&[("Dockerfile", dockerfile), ("small", "small\n")]);
    let soft: String = (0..200_000_u32).map(|n| format!("{}\n", n.wrapping_mul(77_777))).collect();
    session.write("soft/numbers", &soft);
    session.write("mixed/numbers", &soft[300_000..]);
    std::fs::write(session.path("mixed/noise"), noise(2 << 20)).expect("written");
    session.write(".dockerignore", "*\n!soft\n!mixed\n!small\n");
    session
}

fn archive(session: &Session, store: &str, options: &str, name: &str) -> Vec<u8> {
    session.stdout(&format!("--store {store} build -q -o {options},dest={name} -t app:1 ."));
    std::fs::read(session.path(name)).expect("the archive")
}

#[test]
fn an_archive_is_the_same_made_anew_from_what_is_kept_and_as_a_stream() {
    let session = project();
    for (at, options) in [
        "type=oci,compression=zstd",
        "type=oci,compression=gzip",
        "type=oci,compression=uncompressed",
        "type=docker,compression=gzip",
    ]
    .into_iter()
    .enumerate()
    {
        let (one, other) = (format!("one-{at}"), format!("other-{at}"));
        let fresh = archive(&session, &one, options, "a.tar");
        let kept = archive(&session, &one, options, "a.tar");
        let streamed = format!("--store {other} build -o {options},dest=- -t app:1 .");
        let streamed = session.stdout(&streamed);
        assert!(fresh == kept && fresh == streamed, "{options}");
        let names = files_in(&fresh).into_iter().map(|(name, _)| name);
        let blobs: Vec<String> = names.filter(|name| name.starts_with("blobs/sha256/")).collect();
        let different: BTreeSet<&String> = blobs.iter().collect();
        assert_eq!(different.len(), blobs.len(), "{options}: {blobs:?}");
    }
}

#[test]
fn what_is_saved_to_a_file_is_what_is_saved_to_a_pipe() {
    let session = project();
    session.stdout("build -q -t app:1 .");
    for format in ["docker-archive", "oci-archive"] {
        session.stdout(&format!("save --format {format} -o a.tar app:1"));
        let streamed = session.stdout(&format!("save --format {format} app:1"));
        assert!(std::fs::read(session.path("a.tar")).expect("read") == streamed, "{format}");
    }
}

fn files_below(directory: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory).expect("a directory");
    let paths = entries.map(|entry| entry.expect("an entry").path());
    let below = |path: PathBuf| if path.is_dir() { files_below(&path) } else { vec![path] };
    paths.flat_map(below).collect()
}

/// What is read is compared with its name, and hashed no second time: a bit that flipped in any
/// file of a blob gives the right archive or none.
#[test]
fn nothing_that_is_damaged_goes_into_an_archive() {
    let session = project();
    for compression in ["zstd", "gzip"] {
        let options = format!("type=oci,compression={compression}");
        let right = archive(&session, compression, &options, "a.tar");
        let mut noticed = 0;
        let files = files_below(&session.path(compression).join("blobs-1"));
        assert!(files.len() > 5, "{files:?}");
        for file in files {
            let sound = std::fs::read(&file).expect("read");
            flip_a_bit(&file);
            drop(std::fs::remove_file(session.path("a.tar")));
            let line = format!("--store {compression} build -q -o {options},dest=a.tar -t app:1 .");
            let output = session.command(&line).output().expect("it runs");
            let given = std::fs::read(session.path("a.tar")).ok();
            assert_eq!(given.is_some(), output.status.success(), "{}", file.display());
            assert!(given.is_none_or(|given| given == right), "{}", file.display());
            let damaged = std::fs::read(&file).ok();
            noticed +=
                usize::from(!output.status.success() || damaged.is_none_or(|now| now == sound));
            drop(std::fs::remove_file(&file));
            std::fs::write(&file, sound).expect("mended");
        }
        assert!(noticed > 0, "{compression}");
    }
}
