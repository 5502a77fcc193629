//! Tars that mean harm, each written by hand. Around the directory lie files that must survive.

use std::path::Path;

use crate::support::{Line, block, form, path, tar_of, temporary};
use strata_cas::{Action, Item, Layer};
use strata_image::{ImageError, Limits, OverlayForm, UnpackOptions, Unpacked, unpack};

/// Unpacks beside files that are then checked.
fn unpack_with(tar: &[u8], options: &UnpackOptions<'_>) -> Result<(Unpacked, String), ImageError> {
    let outer = temporary();
    let at = |name: &str| outer.path().join(name);
    std::fs::write(at("secret"), "secret").expect("write");
    std::fs::create_dir(at("fs")).expect("create");
    let result = unpack(&mut &tar[..], &at("fs"), options);
    let mut names: Vec<_> = std::fs::read_dir(outer.path())
        .expect("read")
        .map(|entry| entry.expect("an entry").file_name())
        .collect();
    names.sort();
    assert_eq!(names, ["fs", "secret"], "something was made outside");
    assert_eq!(std::fs::read(at("secret")).expect("read"), b"secret");
    assert_eq!(std::os::unix::fs::MetadataExt::nlink(&at("secret").metadata().expect("stat")), 1);
    result.map(|unpacked| (unpacked, listing(&at("fs"))))
}

fn listing(at: &Path) -> String {
    let shown = crate::support::show(at);
    let name = |line: &str| line.split('"').nth(1).unwrap_or_default().to_owned();
    shown.lines().skip(1).map(name).collect::<Vec<_>>().join(" ")
}

fn options() -> UnpackOptions<'static> {
    UnpackOptions::new(form())
}

/// The tar is refused with an error that has this in it.
fn refused(lines: &[Line<'_>], message: &str) {
    let error = unpack_with(&tar_of(lines), &options()).expect_err(message).to_string();
    assert!(error.contains(message), "{error}");
}

/// The tar gives these paths.
fn accepted(lines: &[Line<'_>], paths: &str) -> Layer {
    let (unpacked, listing) = unpack_with(&tar_of(lines), &options()).expect(paths);
    assert_eq!(listing, paths);
    let in_layer: Vec<String> =
        unpacked.layer.changes().iter().map(|change| change.path.to_string()).collect();
    assert_eq!(in_layer.join(" ").trim(), paths);
    unpacked.layer
}

#[test]
fn names_that_lead_outside() {
    refused(&[(b'0', "../evil", "", b"x")], "leads out");
    refused(&[(b'0', "a/../../evil", "", b"x")], "leads out");
    accepted(&[(b'0', "/etc/passwd", "", b"x")], "etc etc/passwd");
    accepted(&[(b'0', "a/../b", "", b"x")], "b");
    refused(&[(b'0', "", "", b"x")], "no name");
    refused(&[(b'0', "./", "", b"x")], "top directory");
}

#[test]
fn writing_through_symbolic_links() {
    accepted(
        &[(b'2', "l", "..", b""), (b'0', "l/evil", "", b"x"), (b'0', "l/secret", "", b"y")],
        "evil l secret",
    );
    accepted(&[(b'2', "l", "/", b""), (b'0', "l/tmp/x", "", b"x")], "l tmp tmp/x");
    accepted(&[(b'2', "l", "../secret", b""), (b'0', "l", "", b"x")], "l");
    accepted(
        &[(b'2', "a", "b/../../..", b""), (b'2', "c", "a", b""), (b'0', "c/x", "", b"x")],
        "a c x",
    );
    refused(&[(b'2', "l", "l", b""), (b'0', "l/x", "", b"x")], "too many symbolic links");
}

#[test]
fn a_link_of_usr_merge_is_followed_inside() {
    let lines: &[Line<'_>] =
        &[(b'5', "usr/lib/", "", b""), (b'2', "lib", "usr/lib", b""), (b'0', "lib/x.so", "", b"x")];
    accepted(lines, "lib usr usr/lib usr/lib/x.so");
}

#[test]
fn hard_links_to_outside() {
    refused(&[(b'1', "l", "../secret", b"")], "leads out");
    refused(&[(b'1', "l", "/etc/passwd", b"")], "not in the same layer");
    refused(&[(b'2', "s", "..", b""), (b'1', "l", "s/secret", b"")], "not in the same layer");
    refused(&[(b'5', "d", "", b""), (b'1', "l", "d", b"")], "to a directory");
    refused(&[(b'0', "d/x", "", b"x"), (b'1', "d", "d/x", b"")], "its own target");
    accepted(&[(b'2', "s", "../secret", b""), (b'1', "l", "s", b"")], "l s");
    accepted(&[(b'0', "a", "", b"x"), (b'1', "a", "a", b"")], "a");
}

#[test]
fn the_last_of_several_entries_counts() {
    let layer = accepted(&[(b'0', "a", "", b"1"), (b'0', "./a", "", b"22")], "a");
    assert!(matches!(
        layer.changes()[0].action,
        Action::Set { item: Item::File { size: 2, .. }, .. }
    ));
    accepted(&[(b'0', "a/b", "", b"1"), (b'0', "a", "", b"2")], "a");
    accepted(&[(b'0', "a", "", b"1"), (b'5', "a", "", b""), (b'0', "a/b", "", b"2")], "a a/b");
    accepted(&[(b'2', "a", "x", b""), (b'5', "a/", "", b""), (b'0', "a/b", "", b"2")], "a a/b");
    accepted(&[(b'0', "a/b", "", b"1"), (b'5', "a", "", b"")], "a a/b");
    accepted(&[(b'0', "a", "", b"1"), (b'1', "b", "a", b""), (b'0', "a", "", b"2")], "a b");
}

#[test]
fn entries_below_what_is_no_directory() {
    refused(&[(b'0', "a", "", b"1"), (b'0', "a/b", "", b"2")], "not a directory");
    refused(&[(b'6', "a", "", b""), (b'0', "a/b", "", b"2")], "not a directory");
}

#[test]
fn whiteouts_of_all_kinds() {
    let layer = accepted(&[(b'0', "d/.wh.gone", "", b"")], "d d/gone");
    assert_eq!(layer.get(&path("d/gone")), Some(&Action::Remove));
    refused(&[(b'0', ".wh.", "", b"")], "hides nothing");
    refused(&[(b'0', ".wh...", "", b"")], "hides nothing");
    refused(&[(b'0', ".wh.a/b", "", b"")], "below a whiteout");
    accepted(&[(b'0', ".wh..wh.plnk/1", "", b""), (b'0', "a", "", b"")], "a");
    // It hides what is below the layer, not what the layer has, whatever comes first.
    let opaque = |layer: &Layer, at: &str| {
        let action = layer.get(&path(at));
        matches!(action, Some(Action::Set { item: Item::Directory { opaque: true }, .. }))
    };
    let both: &[Line<'_>] = &[(b'0', "d/x", "", b"1"), (b'0', "d/.wh..wh..opq", "", b"")];
    assert!(opaque(&accepted(both, "d d/x"), "d"));
    assert!(opaque(&accepted(&[both[1], both[0]], "d d/x"), "d"));
    let both: &[Line<'_>] = &[(b'0', ".wh.d", "", b""), (b'0', "d/x", "", b"1")];
    assert!(opaque(&accepted(both, "d d/x"), "d"));
    assert!(opaque(&accepted(&[both[1], both[0]], "d d/x"), "d"));
    accepted(&[(b'0', ".wh.f", "", b""), (b'0', "f", "", b"1")], "f");
    // A device 0/0 is what overlayfs takes for one.
    let layer = accepted(&[(b'3', "d/gone", "", b"")], "d d/gone");
    assert_eq!(layer.get(&path("d/gone")), Some(&Action::Remove));
    let plain = UnpackOptions::new(OverlayForm::Plain);
    let error = unpack_with(&tar_of(&[(b'0', ".wh.a", "", b"")]), &plain).expect_err("refused");
    assert!(error.to_string().contains(".wh."));
}

#[test]
fn attributes_of_overlayfs_are_dropped() {
    let records = "32 SCHILY.xattr.user.overlay.x=1\n30 SCHILY.xattr.trusted.overl=\n";
    let opaque = "39 SCHILY.xattr.trusted.overlay.opaque=y\n";
    let opaque = opaque.replace("39", &opaque.len().to_string());
    let first = records.lines().next().expect("a line").len() + 1;
    let text = [records[..first].replace("32", &first.to_string()), opaque].concat();
    let layer = accepted(&[(b'x', "p", "", text.as_bytes()), (b'5', "d", "", b"")], "d");
    let Some(Action::Set { metadata, .. }) = layer.get(&path("d")) else { panic!("no d") };
    assert!(metadata.xattrs.is_empty(), "{metadata:?}");
}

#[test]
fn damaged_and_strange_tars() {
    let check = |tar: &[u8], message: &str| {
        let error = unpack_with(tar, &options()).expect_err(message).to_string();
        assert!(error.contains(message), "{error}");
    };
    let good = tar_of(&[(b'0', "a", "", b"content")]);
    let mut bad = good.clone();
    bad[0] = b'b';
    check(&bad, "checksum");
    check(&good[..515], "within a file");
    check(&good[..700], "within an entry");
    check(&good[..300], "within a block");
    check(&[&good[..1024], &[0; 512], &good[..1024]].concat(), "between entries");
    check(b"no tar at all", "within a block");
    check(block(b'L', "x", "", 2 << 20).as_bytes(), "longer than 1 MiB");
    check(block(b'0', "x", "", 1 << 40).as_bytes(), "more than");
    check(&tar_of(&[(b'L', "x", "", b"name")]), "after an extended header");
    check(&tar_of(&[(b'x', "x", "", b"99 path=a\n"), (b'0', "a", "", b"")]), "PAX");
    check(&tar_of(&[(b'S', "x", "", b"1")]), "sparse");
    check(&tar_of(&[(b'V', "x", "", b"")]), "type");
    let mut negative = block(b'0', "x", "", 0);
    negative.as_old_mut().size = [0xff; 12];
    negative.set_cksum();
    check(negative.as_bytes(), "negative");
    let mut nobody = block(b'0', "x", "", 0);
    nobody.set_uid(u64::from(u32::MAX));
    nobody.set_cksum();
    // As in Docker: the number that stands for nobody leaves the owner as it is.
    let (unpacked, _) = unpack_with(nobody.as_bytes(), &options()).expect("unpack");
    let made = unpacked.layer.get(&path("x"));
    assert!(matches!(made, Some(Action::Set { metadata, .. }) if metadata.uid == 0), "{made:?}");
    // Trailing bytes are no entries and still part of the digest.
    let long = [&good[..], b"trailing"].concat();
    let (unpacked, _) = unpack_with(&long, &options()).expect("unpack");
    assert_eq!(unpacked.diff_id, strata_oci::Digest::of(&long));
    assert!(unpack_with(b"", &options()).expect("empty").0.layer.is_empty());
}

#[test]
fn more_than_the_disk_has() {
    let stat = rustix::fs::statvfs(temporary().path()).expect("a file system");
    let free = stat.f_bavail * stat.f_frsize;
    let tar = block(b'0', "x", "", free + (1 << 30));
    let error = unpack_with(tar.as_bytes(), &options()).expect_err("refused").to_string();
    // On a very large disk the tar's own limit comes first.
    assert!(error.contains("free on the disk") || error.contains("more than"), "{error}");
}

#[test]
fn more_than_the_limits() {
    let limits = Limits { entries: 3, bytes: 1 << 20, metadata_bytes: 100 };
    let options = UnpackOptions { limits, ..options() };
    let check = |lines: &[Line<'_>], message: &str| {
        let error = unpack_with(&tar_of(lines), &options).expect_err(message).to_string();
        assert!(error.contains(message), "{error}");
    };
    let entry: Line<'_> = (b'5', "d", "", b"");
    check(&[entry; 4], "more than 3 entries");
    check(&[(b'0', "d", "", &[0; 1 << 20])], "more than 1048576 bytes");
    let name = "n".repeat(60);
    check(&[(b'2', &name, &name, b"")], "names");
    let deep = vec!["d"; 45].join("/");
    let deep = (0..6).map(|_| deep.clone()).collect::<Vec<_>>().join("/");
    let record = format!("{} path={deep}\n", deep.len() + 10);
    refused(&[(b'x', "p", "", record.as_bytes()), (b'0', "a", "", b"")], "too deep");
}
