//! Tars that GNU tar wrote, in all its formats.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::support::{form, is_root, pack, path, run, temporary, unpack_in};
use strata_cas::{Action, Device, Item, Layer, MemoryStore, Time};
use strata_image::{OverlayForm, UnpackOptions, Unpacked, unpack};

/// A directory with what the formats write differently.
fn source(at: &Path) {
    let long = "l".repeat(120);
    std::fs::create_dir_all(at.join("d").join(&long)).expect("create");
    std::fs::write(at.join("d").join(&long).join("f".repeat(90)), "deep").expect("write");
    std::fs::write(at.join("d/plain"), "plain").expect("write");
    std::fs::hard_link(at.join("d/plain"), at.join("d/again")).expect("link");
    std::os::unix::fs::symlink("plain", at.join("d/symbolic")).expect("symlink");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        at.join("d/fifo"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from_raw_mode(0o640),
        0,
    )
    .expect("mkfifo");
}

fn item(layer: &Layer, at: &str) -> Item {
    let item = match layer.get(&path(at)) {
        Some(Action::Set { item, .. }) => Some(item.clone()),
        _ => None,
    };
    item.expect(at)
}

fn check(format: &str, extra: &[&str]) -> Layer {
    let outer = temporary();
    source(outer.path());
    let format = format!("--format={format}");
    let fixed = ["--sort=name", "--mtime=@1000000000", "--numeric-owner"];
    let arguments = [&["-cf", "x.tar", &format], &fixed[..], extra, &["d"]].concat();
    run("tar", &arguments, outer.path());
    let tar = std::fs::read(outer.path().join("x.tar")).expect("read");
    let Unpacked { layer, diff_id, .. } = unpack_in(outer.path(), &tar).expect("unpack");
    assert_eq!(diff_id, strata_oci::Digest::of(&tar));
    assert_eq!(item(&layer, "d/again"), {
        let (blob, size) = (strata_cas::BlobId::of(b"plain"), 5);
        Item::File { blob, size }
    });
    assert_eq!(item(&layer, "d/plain"), Item::HardLink { to: path("d/again") });
    assert_eq!(item(&layer, "d/symbolic"), Item::Symlink { target: b"plain".to_vec() });
    assert_eq!(item(&layer, "d/fifo"), Item::Device(Device::Fifo));
    for change in layer.changes() {
        let Action::Set { modified, .. } = change.action else { continue };
        assert_eq!(modified, Time(1_000_000_000), "{}", change.path);
    }
    layer
}

#[test]
fn reads_every_format() {
    let deep = format!("d/{}/{}", "l".repeat(120), "f".repeat(90));
    for format in ["gnu", "oldgnu", "pax", "posix"] {
        let layer = check(format, &[]);
        assert!(matches!(item(&layer, &deep), Item::File { size: 4, .. }), "{format}");
    }
    // These can not hold the deep names.
    check("ustar", &["--exclude=l*"]);
}

#[test]
fn reads_v7_which_has_no_fifos() {
    let outer = temporary();
    source(outer.path());
    let arguments = ["-cf", "x.tar", "--format=v7", "--exclude=l*", "--exclude=fifo", "d"];
    run("tar", &arguments, outer.path());
    let tar = std::fs::read(outer.path().join("x.tar")).expect("read");
    let layer = unpack_in(outer.path(), &tar).expect("unpack").layer;
    assert_eq!(item(&layer, "d"), Item::Directory { opaque: false });
    assert!(matches!(item(&layer, "d/again"), Item::File { size: 5, .. }));
}

#[test]
fn reads_attributes() {
    let outer = temporary();
    source(outer.path());
    let value = &b"1\n=2"[..];
    let flags = rustix::fs::XattrFlags::empty();
    rustix::fs::setxattr(outer.path().join("d/plain"), "user.note", value, flags).expect("set");
    run("tar", &["--xattrs", "-cf", "x.tar", "d"], outer.path());
    let tar = std::fs::read(outer.path().join("x.tar")).expect("read");
    let layer = unpack_in(outer.path(), &tar).expect("unpack").layer;
    let Some(Action::Set { metadata, .. }) = layer.get(&path("d/again")) else { panic!("none") };
    assert_eq!(metadata.xattrs.get(&b"user.note"[..]).map(Vec::as_slice), Some(value));
    assert_eq!(crate::support::xattrs(&outer.path().join("fs/d/plain"))[0].1, value);
}

#[test]
fn fills_the_holes_of_sparse_files() {
    let outer = temporary();
    std::fs::create_dir(outer.path().join("d")).expect("create");
    let mut content = vec![0_u8; 3 << 20];
    for at in (0..30).map(|n| n * 100_000) {
        content[at] = 1;
    }
    std::fs::write(outer.path().join("d/dense"), &content).expect("write");
    run("cp", &["--sparse=always", "d/dense", "d/sparse"], outer.path());
    for way in
        ["--format=gnu", "--sparse-version=0.0", "--sparse-version=0.1", "--sparse-version=1.0"]
    {
        let format = if way == "--format=gnu" { way } else { "--format=pax" };
        let version = if way == "--format=gnu" { "--sparse" } else { way };
        run("tar", &["--sparse", format, version, "-cf", "x.tar", "d/sparse"], outer.path());
        let tar = std::fs::read(outer.path().join("x.tar")).expect("read");
        assert!(tar.len() < 1 << 20, "{way}: {} bytes", tar.len());
        let inner = temporary();
        let layer = unpack_in(inner.path(), &tar).expect(way).layer;
        let (blob, size) = (strata_cas::BlobId::of(&content), content.len() as u64);
        assert_eq!(item(&layer, "d/sparse"), Item::File { blob, size }, "{way}");
        assert!(std::fs::read(inner.path().join("fs/d/sparse")).expect("read") == content);
    }
}

#[test]
fn reads_what_the_tar_crate_writes() {
    let mut builder = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(1);
    header.set_mode(0o644);
    let name = ["y".repeat(200), "z".repeat(200)].join("/");
    builder.append_data(&mut header, &name, &b"1"[..]).expect("append");
    let tar = builder.into_inner().expect("finish");
    let outer = temporary();
    let layer = unpack_in(outer.path(), &tar).expect("unpack").layer;
    assert!(matches!(item(&layer, &name), Item::File { size: 1, .. }));
    assert_eq!(layer.changes().len(), 2);
}

#[test]
fn the_rootless_form_uses_the_attributes_of_users() {
    let store = MemoryStore::default();
    let tar = pack(&crate::support::sample(&store), &store);
    let outer = temporary();
    let users = if is_root() { OverlayForm::User } else { OverlayForm::OneId };
    unpack(&mut &tar[..], outer.path(), &UnpackOptions::new(users)).expect("unpack");
    let opaque = [("user.overlay.opaque".to_owned(), b"y".to_vec())];
    assert_eq!(crate::support::xattrs(&outer.path().join("o")), opaque);
    if is_root() {
        let outer = temporary();
        unpack(&mut &tar[..], outer.path(), &UnpackOptions::new(form())).expect("unpack");
        let opaque = [("trusted.overlay.opaque".to_owned(), b"y".to_vec())];
        assert_eq!(crate::support::xattrs(&outer.path().join("o")), opaque);
    }
}

#[test]
fn the_last_entry_of_a_file_says_whose_it_is() {
    let mut builder = tar::Builder::new(Vec::new());
    let mut add = |name: &str, link: Option<&str>, mode: u32, time: u64| {
        let mut header = tar::Header::new_ustar();
        header.set_mode(mode);
        header.set_mtime(time);
        for id in [tar::Header::set_uid, tar::Header::set_gid] {
            id(&mut header, u64::from(rustix::process::geteuid().as_raw()));
        }
        header.set_size(0);
        match link {
            None => builder.append_data(&mut header, name, std::io::empty()).expect("added"),
            Some(to) => {
                header.set_entry_type(tar::EntryType::Link);
                builder.append_link(&mut header, name, to).expect("added");
            }
        }
    };
    add("b", None, 0o644, 1);
    add("a", Some("b"), 0o755, 2);
    add("c", Some("a"), 0o4711, 3);
    let tar = builder.into_inner().expect("a tar");
    let outer = temporary();
    let Unpacked { layer, .. } = unpack_in(outer.path(), &tar).expect("unpack");
    for name in ["a", "b", "c"] {
        let Some(Action::Set { metadata, modified, .. }) = layer.get(&path(name)) else {
            unreachable!("{name} was set")
        };
        assert_eq!((metadata.mode, *modified), (0o4711, Time(3)), "{name}");
        let made = std::fs::metadata(outer.path().join("fs").join(name)).expect("it is there");
        assert_eq!((made.mode() & 0o7777, made.mtime(), made.nlink()), (0o4711, 3, 3), "{name}");
    }
}
