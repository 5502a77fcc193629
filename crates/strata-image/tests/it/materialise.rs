//! Layers into directories that are not empty, and what can not be made.

use crate::support::{
    directory, file, form, is_root, link, pack, path, removed, run, set, symlink, temporary, xattrs,
};
use strata_cas::{BlobId, Change, Device, Item, Layer, MemoryStore};
use strata_image::{ImageError, OverlayForm, materialise};

#[test]
fn plain_replaces_what_is_in_the_way_and_follows_no_link() {
    let store = MemoryStore::default();
    let outer = temporary();
    let (into, outside) = (outer.path().join("into"), outer.path().join("outside"));
    for at in [&into, &outside, &into.join("tree/x"), &into.join("kept")] {
        std::fs::create_dir_all(at).expect("create");
    }
    std::fs::write(outside.join("f"), "outside").expect("write");
    std::os::unix::fs::symlink(&outside, into.join("d")).expect("symlink");
    std::os::unix::fs::symlink(outside.join("f"), into.join("f")).expect("symlink");
    std::os::unix::fs::symlink(&outside, into.join("implied")).expect("symlink");
    std::fs::write(into.join("kept/mine"), "mine").expect("write");
    let layer = Layer::new(vec![
        directory("d"),
        file(&store, "d/f", b"new"),
        file(&store, "f", b"new"),
        file(&store, "implied/f", b"new"),
        file(&store, "kept/f", b"new"),
        link("kept/g", "kept/f"),
        file(&store, "tree", b"new"),
        symlink("z", "f"),
        removed("kept/mine"),
    ]);
    for _ in 0..2 {
        materialise(&layer, &store, &into, OverlayForm::Plain).expect("materialise");
        assert_eq!(std::fs::read(outside.join("f")).expect("read"), b"outside");
        for at in ["d/f", "f", "implied/f", "kept/f", "kept/g", "tree", "z"] {
            assert_eq!(std::fs::read(into.join(at)).expect(at), b"new", "{at}");
        }
        assert_eq!(std::fs::read(into.join("kept/mine")).expect("read"), b"mine");
    }
}

#[test]
fn makes_parents_and_removed_directories_that_have_something_again() {
    let store = MemoryStore::default();
    let layer = Layer::new(vec![removed("a"), file(&store, "a/b/c", b"1")]);
    let into = temporary();
    materialise(&layer, &store, into.path(), form()).expect("materialise");
    assert_eq!(std::fs::read(into.path().join("a/b/c")).expect("read"), b"1");
    assert_eq!(xattrs(&into.path().join("a"))[0].1, b"y");
    let outer = temporary();
    let tar = pack(&layer, &store);
    let unpacked = crate::support::unpack_in(outer.path(), &tar).expect("unpack");
    let opaque = unpacked.layer.get(&path("a"));
    let is_opaque = |item: &Item| *item == Item::Directory { opaque: true };
    assert!(matches!(opaque, Some(strata_cas::Action::Set { item, .. }) if is_opaque(item)));
}

#[test]
fn thousands_of_files() {
    let store = MemoryStore::default();
    let names = (0..3000).map(|n| format!("d{}/e{}/f{n}", n % 7, n % 31));
    let changes = names.map(|name| file(&store, &name, name.as_bytes()));
    let layer = Layer::new(changes.collect());
    let into = temporary();
    materialise(&layer, &store, into.path(), form()).expect("materialise");
    for change in layer.changes() {
        let name = change.path.to_string();
        assert_eq!(std::fs::read(into.path().join(&name)).expect("read"), name.as_bytes());
    }
}

#[test]
fn refuses_what_is_no_layer() {
    let store = MemoryStore::default();
    let unknown = Item::File { blob: BlobId::of(b"nobody has this"), size: 3 };
    let check = |changes: Vec<Change>, message: &str| {
        let layer = Layer::new(changes);
        let into = temporary();
        let errors = [
            materialise(&layer, &store, into.path(), form()).expect_err(message),
            strata_image::pack(&layer, &store, &mut Vec::new()).expect_err(message),
        ];
        for error in errors {
            assert!(error.to_string().contains(message), "{error}");
        }
    };
    check(vec![set("f", unknown, 0o644)], "no blob");
    check(vec![file(&store, "a", b""), file(&store, "a/b", b"")], "not a directory");
    check(vec![file(&store, "a/.wh.b", b"")], ".wh.");
    check(vec![link("b", "a")], "hard link");
    check(vec![link("a", "b"), file(&store, "b", b"")], "hard link");
    check(vec![removed("")], "root");
    check(vec![file(&store, "", b"")], "root");
    let mut lie = file(&store, "f", b"1");
    if let strata_cas::Action::Set { item: Item::File { size, .. }, .. } = &mut lie.action {
        *size = 2;
    }
    check(vec![lie], "size");
    let far = set("d", Item::Device(Device::Block(1 << 30, 0)), 0o600);
    let packed = strata_image::pack(&Layer::new(vec![far]), &store, &mut Vec::new());
    assert!(matches!(packed, Err(ImageError::Unrepresentable { .. })));
}

#[test]
fn overlayfs_shows_the_layers_as_one() {
    if !is_root() {
        return; // Only root can mount outside of a user namespace.
    }
    let store = MemoryStore::default();
    let lower = Layer::new(vec![
        file(&store, "a/gone", b"1"),
        file(&store, "a/kept", b"1"),
        file(&store, "o/hidden", b"1"),
        file(&store, "r/hidden", b"1"),
    ]);
    let opaque = set("o", Item::Directory { opaque: true }, 0o755);
    let upper = Layer::new(vec![
        removed("a/gone"),
        opaque,
        file(&store, "o/new", b"2"),
        removed("r"),
        file(&store, "r/new", b"2"),
    ]);
    let outer = temporary();
    for (layer, name) in [(lower, "lower"), (upper, "upper")] {
        std::fs::create_dir(outer.path().join(name)).expect("create");
        materialise(&layer, &store, &outer.path().join(name), form()).expect("materialise");
    }
    std::fs::create_dir(outer.path().join("merged")).expect("create");
    let script = "mount -t overlay overlay -o lowerdir=upper:lower merged && cd merged && find .";
    let shown = run("unshare", &["--mount", "sh", "-c", script], outer.path());
    let mut names: Vec<&str> = shown.lines().collect();
    names.sort_unstable();
    assert_eq!(names, [".", "./a", "./a/kept", "./o", "./o/new", "./r", "./r/new"]);
}
