//! What the tests of this crate share: layers by hand, directories as text, other people's tools.

use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;
use std::process::Command;

use strata_cas::{
    Action, BlobStore, Change, Device, Item, Layer, MemoryStore, Metadata, Time, TreePath,
};
use strata_image::{ImageError, OverlayForm, UnpackOptions, Unpacked, unpack};

pub(crate) fn path(text: &str) -> TreePath {
    TreePath::new(text).expect("clean")
}

pub(crate) fn set(at: &str, item: Item, mode: u32) -> Change {
    let (metadata, modified) = (Metadata::root(mode), Time(1_700_000_000));
    Change { path: path(at), action: Action::Set { item, metadata, modified } }
}

pub(crate) fn directory(at: &str) -> Change {
    set(at, Item::Directory { opaque: false }, 0o755)
}

pub(crate) fn file(store: &MemoryStore, at: &str, content: &[u8]) -> Change {
    let blob = store.put(content).expect("put");
    set(at, Item::File { blob, size: content.len() as u64 }, 0o644)
}

pub(crate) fn link(at: &str, to: &str) -> Change {
    set(at, Item::HardLink { to: path(to) }, 0o644)
}

pub(crate) fn symlink(at: &str, target: &str) -> Change {
    set(at, Item::Symlink { target: target.as_bytes().to_vec() }, 0o777)
}

pub(crate) fn removed(at: &str) -> Change {
    Change { path: path(at), action: Action::Remove }
}

pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// The overlay form that this process can make.
pub(crate) fn form() -> OverlayForm {
    if is_root() { OverlayForm::Privileged } else { OverlayForm::OneId }
}

pub(crate) fn temporary() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary directory")
}

/// Unpacks into a directory inside of `outer`.
pub(crate) fn unpack_in(outer: &Path, tar: &[u8]) -> Result<Unpacked, ImageError> {
    let into = outer.join("fs");
    std::fs::create_dir(&into).expect("create");
    unpack(&mut &tar[..], &into, &UnpackOptions::new(form()))
}

pub(crate) fn pack(layer: &Layer, store: &MemoryStore) -> Vec<u8> {
    let mut tar = Vec::new();
    strata_image::pack(layer, store, &mut tar).expect("pack");
    tar
}

/// One entry: type, name, link, content.
pub(crate) type Line<'a> = (u8, &'a str, &'a str, &'a [u8]);

pub(crate) fn block(flag: u8, name: &str, link: &str, size: u64) -> tar::Header {
    let mut header = tar::Header::new_ustar();
    let old = header.as_old_mut();
    old.name[..name.len()].copy_from_slice(name.as_bytes());
    old.linkname[..link.len()].copy_from_slice(link.as_bytes());
    old.linkflag = [flag];
    header.set_mode(0o755);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(1);
    header.set_size(size);
    header.set_cksum();
    header
}

/// A tar by hand.
pub(crate) fn tar_of(lines: &[Line<'_>]) -> Vec<u8> {
    let mut tar = Vec::new();
    for (flag, name, link, content) in lines {
        tar.extend_from_slice(block(*flag, name, link, content.len() as u64).as_bytes());
        tar.extend_from_slice(content);
        tar.resize(tar.len().next_multiple_of(512), 0);
    }
    tar.resize(tar.len() + 1024, 0);
    tar
}

/// A layer with one of everything.
pub(crate) fn sample(store: &MemoryStore) -> Layer {
    let long = format!("d/{}", "n".repeat(120));
    let mut owned = file(store, "d/owned", b"owned");
    if let Action::Set { metadata, modified, .. } = &mut owned.action {
        (metadata.uid, metadata.gid, metadata.mode) = (3_000_000, 1000, 0o4755);
        metadata.xattrs.insert(b"user.note".to_vec(), b"a\0b".to_vec());
        *modified = Time(-5);
    }
    Layer::new(vec![
        directory(""),
        directory("d"),
        file(store, &long, b"long"),
        file(store, "d/a", b"hello\n"),
        link("d/b", "d/a"),
        owned,
        file(store, "d/grüße", &[7; 3000]),
        symlink("d/s", "../etc/passwd"),
        set("d/fifo", Item::Device(Device::Fifo), 0o600),
        set("d/null", Item::Device(Device::Character(1, 3)), 0o666),
        removed("d/gone"),
        set("o", Item::Directory { opaque: true }, 0o700),
        file(store, "o/empty", b""),
        removed("top"),
    ])
}

/// A directory as text, a line for each path: what the layer says and nothing of the machine.
pub(crate) fn show(root: &Path) -> String {
    let mut lines = Vec::new();
    show_below(root, root, &mut lines);
    lines.sort();
    lines.join("\n")
}

fn show_below(root: &Path, at: &Path, lines: &mut Vec<String>) {
    let metadata = at.symlink_metadata().expect("metadata");
    let kind = metadata.file_type();
    let what = if kind.is_dir() {
        "dir".to_owned()
    } else if kind.is_symlink() {
        format!("-> {:?}", std::fs::read_link(at).expect("readlink"))
    } else if kind.is_char_device() || kind.is_block_device() {
        format!("device {}", metadata.rdev())
    } else if kind.is_fifo() {
        "fifo".to_owned()
    } else {
        let content = std::fs::read(at).expect("read");
        format!("{} links {}", strata_cas::BlobId::of(&content), metadata.nlink())
    };
    let name = at.strip_prefix(root).expect("below");
    lines.push(format!(
        "{name:?} {:o} {}:{} {} {what} {:?}",
        metadata.mode(),
        metadata.uid(),
        metadata.gid(),
        if is_whiteout(&metadata) { 0 } else { metadata.mtime() },
        xattrs(at),
    ));
    if kind.is_dir() {
        for entry in std::fs::read_dir(at).expect("read a directory") {
            show_below(root, &entry.expect("an entry").path(), lines);
        }
    }
}

fn is_whiteout(metadata: &std::fs::Metadata) -> bool {
    metadata.file_type().is_char_device() && metadata.rdev() == 0
}

pub(crate) fn xattrs(at: &Path) -> Vec<(String, Vec<u8>)> {
    let mut names = vec![0; 65536];
    let size = rustix::fs::llistxattr(at, &mut names[..]).expect("list attributes");
    let mut found = Vec::new();
    for name in names[..size].split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        let mut value = vec![0; 65536];
        let size = rustix::fs::lgetxattr(at, name, &mut value[..]).expect("get an attribute");
        value.truncate(size);
        let name = std::ffi::OsStr::from_bytes(name).to_string_lossy().into_owned();
        found.push((name, value));
    }
    found.sort();
    found
}

/// Runs a program and gives its output; installs it when it is missing and we may.
pub(crate) fn run(program: &str, arguments: &[&str], at: &Path) -> String {
    if Command::new(program).arg("--version").output().is_err() {
        assert!(is_root(), "`{program}` is not installed, and only root can install it");
        let install = ["install", "-y", "--no-install-recommends", program];
        let installed = Command::new("apt-get").args(install).status().expect("apt-get");
        assert!(installed.success(), "`{program}` can not be installed");
    }
    let output = Command::new(program).args(arguments).current_dir(at).env("LC_ALL", "C").output();
    let output = output.expect("run");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {errors}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}
