//! Tars that take lower layers for granted: their directories, their links, their files.

use std::os::unix::fs::MetadataExt;

use strata_cas::{Action, BlobId, Device, Item, Layer, Metadata, Time, TreePath};
use strata_image::{ImageError, LowerItem, LowerLayers, UnpackOptions, Unpacked, unpack};

use crate::support::{Line, directory, form, is_root, path, set, symlink, tar_of, temporary};

/// One layer, whose files all say `lower`.
struct Lower(Layer);

impl LowerLayers for Lower {
    fn look(&self, path: &TreePath) -> Result<Option<LowerItem>, ImageError> {
        let Some(Action::Set { item, metadata, modified }) = self.0.get(path).cloned() else {
            return Ok(None);
        };
        Ok(Some(match item {
            Item::Directory { .. } => LowerItem::Directory { metadata, modified },
            Item::File { .. } | Item::HardLink { .. } => {
                LowerItem::File { metadata, modified, content: Box::new(&b"lower"[..]) }
            }
            Item::Symlink { target } => LowerItem::Symlink { target },
            Item::Device(_) => LowerItem::Other,
        }))
    }
}

/// A root with merged `/usr`, a `/tmp` for everybody, a `/home` of user 1000.
fn root() -> Lower {
    let file = || Item::File { blob: BlobId::of(b"lower"), size: 5 };
    let mut home = set("home", Item::Directory { opaque: false }, 0o750);
    if let Action::Set { metadata, .. } = &mut home.action {
        (metadata.uid, metadata.gid) = (1000, 1001);
        metadata.xattrs.insert(b"user.note".to_vec(), b"x".to_vec());
    }
    Lower(Layer::new(vec![
        set("", Item::Directory { opaque: false }, 0o711),
        symlink("abs", "/opt/../usr"),
        set("fifo", Item::Device(Device::Fifo), 0o600),
        home,
        symlink("lib", "usr/lib"),
        symlink("loop", "loop"),
        symlink("nowhere", "../gone/away"),
        set("old", file(), 0o640),
        set("tmp", Item::Directory { opaque: false }, 0o1777),
        directory("usr"),
        set("usr/lib", Item::Directory { opaque: false }, 0o2775),
        set("usr/lib/old.so", file(), 0o640),
    ]))
}

fn unpack_on_root(lines: &[Line<'_>], check: impl FnOnce(&std::path::Path)) -> Unpacked {
    let (at, lower) = (temporary(), root());
    let options = UnpackOptions { lower: Some(&lower), ..UnpackOptions::new(form()) };
    let unpacked = unpack(&mut &tar_of(lines)[..], at.path(), &options).expect("unpack");
    check(at.path());
    unpacked
}

/// The layer as text: a word for each path, with the mode of directories.
fn check(lines: &[Line<'_>], expected: &str) {
    let Unpacked { layer, .. } = unpack_on_root(lines, |_| ());
    let word = |action: &Action| match action {
        Action::Remove => "gone".to_owned(),
        Action::Set { item: Item::Directory { opaque }, metadata, .. } => {
            format!("{:o}{}", metadata.mode, if *opaque { "!" } else { "" })
        }
        Action::Set { item: Item::Symlink { .. }, .. } => "link".to_owned(),
        Action::Set { .. } => "file".to_owned(),
    };
    let words: Vec<_> = layer
        .changes()
        .iter()
        .map(|change| format!("{}={}", change.path, word(&change.action)))
        .collect();
    assert_eq!(words.join(" "), expected);
}

fn refused(lines: &[Line<'_>], message: &str) {
    let (at, lower) = (temporary(), root());
    let options = UnpackOptions { lower: Some(&lower), ..UnpackOptions::new(form()) };
    let error = unpack(&mut &tar_of(lines)[..], at.path(), &options).expect_err(message);
    assert!(error.to_string().contains(message), "{error}");
}

#[test]
fn a_directory_without_an_entry_is_the_lower_one() {
    check(&[(b'0', "tmp/x", "", b"")], "tmp=1777 tmp/x=file");
    check(&[(b'0', "tmp/new/x", "", b"")], "tmp=1777 tmp/new=755 tmp/new/x=file");
    check(&[(b'0', "tmp/.wh.x", "", b"")], "tmp=1777 tmp/x=gone");
    check(&[(b'5', "tmp/", "", b"")], "tmp=755");
    check(&[(b'0', "tmp/x", "", b""), (b'5', "tmp/", "", b"")], "tmp=755 tmp/x=file");
    // What is no directory below is replaced by root's.
    check(&[(b'0', "old/x", "", b"")], "old=755 old/x=file");
    check(&[(b'0', "fifo/x", "", b"")], "fifo=755 fifo/x=file");
}

#[test]
fn a_lower_directorys_owner_attributes_and_time_are_on_disk_too() {
    let unpacked = unpack_on_root(&[(b'0', "home/x", "", b""), (b'0', "tmp/x", "", b"")], |at| {
        let found = |name: &str| at.join(name).metadata().expect("metadata");
        assert_eq!(found("tmp").mode() & 0o7777, 0o1777);
        assert_eq!(found("tmp").mtime(), 1_700_000_000);
        assert_eq!(crate::support::xattrs(&at.join("home")), [("user.note".into(), b"x".to_vec())]);
        if is_root() {
            assert_eq!(found("home").mode() & 0o7777, 0o750);
            assert_eq!((found("home").uid(), found("home").gid()), (1000, 1001));
        }
    });
    assert_eq!(unpacked.layer.get(&path("home")), root().0.get(&path("home")));
}

#[test]
fn what_the_layer_removed_is_not_taken_for_granted() {
    check(&[(b'0', ".wh.tmp", "", b""), (b'0', "tmp/x", "", b"")], "tmp=755! tmp/x=file");
    check(&[(b'0', "tmp/.wh..wh..opq", "", b"")], "tmp=1777!");
    let opaque: Line<'_> = (b'0', "usr/.wh..wh..opq", "", b"");
    let below = "usr=755! usr/lib=755 usr/lib/x=file";
    check(&[opaque, (b'0', "usr/lib/x", "", b"")], below);
    check(&[opaque, (b'0', "lib/x", "", b"")], below);
    check(&[(b'0', ".wh.lib", "", b""), (b'0', "lib/x", "", b"")], "lib=755! lib/x=file");
    let all: Line<'_> = (b'0', ".wh..wh..opq", "", b"");
    check(&[all, (b'0', "lib/x", "", b"")], "=711! lib=755 lib/x=file");
}

#[test]
fn entries_lead_through_lower_links() {
    let merged = "usr=755 usr/lib=2775 usr/lib/x=file";
    check(&[(b'0', "lib/x", "", b"")], merged);
    check(&[(b'0', "abs/lib/x", "", b"")], merged);
    check(&[(b'2', "l", "abs/../lib", b""), (b'0', "l/x", "", b"")], &format!("l=link {merged}"));
    check(&[(b'0', "lib/.wh.x", "", b"")], "usr=755 usr/lib=2775 usr/lib/x=gone");
    check(&[(b'5', "lib/d/", "", b"")], "usr=755 usr/lib=2775 usr/lib/d=755");
    check(&[(b'0', "nowhere/x", "", b"")], "gone=755 gone/away=755 gone/away/x=file");
    refused(&[(b'0', "loop/x", "", b"")], "too many symbolic links");
}

#[test]
fn an_entry_of_its_own_replaces_a_lower_link() {
    check(&[(b'5', "lib/", "", b""), (b'0', "lib/x", "", b"")], "lib=755 lib/x=file");
    check(&[(b'0', "lib", "", b"")], "lib=file");
    check(&[(b'2', "lib", "tmp", b""), (b'0', "lib/x", "", b"")], "lib=link tmp=1777 tmp/x=file");
    // What came before it had gone through the link.
    check(
        &[(b'0', "lib/x", "", b""), (b'5', "lib/", "", b""), (b'0', "lib/y", "", b"")],
        "lib=755 lib/y=file usr=755 usr/lib=2775 usr/lib/x=file",
    );
}

#[test]
fn a_hard_link_to_a_lower_file_is_a_copy() {
    let lines: &[Line<'_>] = &[(b'1', "new", "old", b""), (b'1', "so", "lib/old.so", b"")];
    let Unpacked { layer, .. } = unpack_on_root(lines, |_| ());
    let item = Item::File { blob: BlobId::of(b"lower"), size: 5 };
    // Owner, mode and time are those of the entry.
    let metadata = Metadata::root(0o755);
    let expected = Action::Set { item, metadata, modified: Time(1) };
    assert_eq!(layer.get(&path("new")), Some(&expected));
    assert_eq!(layer.get(&path("so")), Some(&expected));
    refused(&[(b'1', "new", "none", b"")], "not in the same layer");
    refused(&[(b'1', "new", "tmp", b"")], "not in the same layer");
    let all: Line<'_> = (b'0', ".wh..wh..opq", "", b"");
    refused(&[all, (b'1', "new", "old", b"")], "not in the same layer");
}
