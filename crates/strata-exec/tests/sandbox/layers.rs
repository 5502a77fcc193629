//! What a run leaves is a layer, whatever it was.

use rustix::fs::{Mode, OFlags};
use strata_cas::{Action, BlobId, Item, Metadata, TreePath};
use strata_exec::in_user_namespace;

use crate::support::Place;

pub(crate) const TESTS: &[super::Test] = &[
    ("nothing_changed_is_an_empty_layer", nothing_changed_is_an_empty_layer),
    ("every_kind_of_change", every_kind_of_change),
    ("device_nodes", device_nodes),
    ("hard_links", hard_links),
    ("attributes_and_capabilities", attributes_and_capabilities),
    ("the_root_directory_itself", the_root_directory_itself),
    ("very_long_paths", very_long_paths),
    ("a_run_over_a_run", a_run_over_a_run),
    ("hundred_and_fifty_layers", hundred_and_fifty_layers),
    ("a_scratch_image", a_scratch_image),
];

/// One line for each change: what happened, mode, owner, path.
fn describe(place: &Place) -> String {
    let line = |change: &strata_cas::Change| {
        let Action::Set { item, metadata, modified } = &change.action else {
            return format!("remove /{}\n", change.path);
        };
        assert!(modified.0 > 1_500_000_000 || matches!(item, Item::Directory { .. }));
        let what = match item {
            Item::Directory { opaque: false } => "directory".to_owned(),
            Item::Directory { opaque: true } => "opaque".to_owned(),
            Item::File { size, .. } => format!("file of {size}"),
            Item::HardLink { to } => format!("link to /{to}"),
            Item::Symlink { target } => format!("symlink {}", String::from_utf8_lossy(target)),
            Item::Device(device) => format!("{device:?}"),
        };
        let (mode, uid, gid) = (metadata.mode, metadata.uid, metadata.gid);
        format!("{what} {mode:o} {uid}:{gid} /{}\n", change.path)
    };
    place.changed().layer.changes().iter().map(line).collect()
}

fn nothing_changed_is_an_empty_layer() {
    let mut place = Place::new();
    place.script("true; cat /etc/passwd > /dev/null; ls / > /dev/null; echo x > /dev/shm/x");
    assert_eq!(describe(&place), "");
    assert_eq!(place.changed().files, []);
}

fn every_kind_of_change() {
    let mut place = Place::new();
    place.script(
        "echo new > /new; chown 1000:50 /new; chmod 4751 /new
         echo changed >> /var/lib/data/old; rm /var/lib/data/gone
         rm -rf /home && mkdir /home && echo x > /home/x
         rm /etc/group && mkdir /etc/group
         ln -s /some/where /link; mkfifo /fifo
         mkdir -p /a/b; chmod 1777 /a/b; rm -rf /tmp; : > /empty",
    );
    let expected = "\
directory 755 0:0 /a
directory 1777 0:0 /a/b
file of 0 644 0:0 /empty
directory 755 0:0 /etc
opaque 755 0:0 /etc/group
Fifo 644 0:0 /fifo
opaque 755 0:0 /home
file of 2 644 0:0 /home/x
symlink /some/where 777 0:0 /link
file of 4 4751 1000:50 /new
remove /tmp
directory 755 0:0 /var
directory 755 0:0 /var/lib
directory 755 0:0 /var/lib/data
remove /var/lib/data/gone
file of 12 644 0:0 /var/lib/data/old
";
    assert_eq!(describe(&place), expected);
    let names: Vec<String> =
        place.changed().files.iter().map(|(_, path)| path.to_string()).collect();
    assert_eq!(names, ["empty", "home/x", "new", "var/lib/data/old"]);
    assert!(place.changed().files.contains(&(
        BlobId::of(b"old\nchanged\n"),
        TreePath::new("var/lib/data/old").expect("clean")
    )));
}

/// As Docker, root may make device nodes; a user namespace may not, and says so.
fn device_nodes() {
    let mut place = Place::new();
    let (_, _, err) = place.try_script("mknod /char c 10 200; mknod /block b 7 300");
    if in_user_namespace() {
        assert_eq!(err.matches("Operation not permitted").count(), 2, "{err}");
        assert_eq!(describe(&place), "");
    } else {
        let expected = "Block(7, 300) 644 0:0 /block\nCharacter(10, 200) 644 0:0 /char\n";
        assert_eq!(describe(&place), expected);
    }
}

fn hard_links() {
    let mut place = Place::new();
    place.script("mkdir /z; echo x > /z/one; ln /z/one /b; ln /z/one /c.d; mkdir /c; ln /b /c/e");
    let expected = "\
file of 2 644 0:0 /b
directory 755 0:0 /c
link to /b 644 0:0 /c/e
link to /b 644 0:0 /c.d
directory 755 0:0 /z
link to /b 644 0:0 /z/one
";
    assert_eq!(describe(&place), expected);
    assert_eq!(place.changed().files.len(), 1);
}

fn attributes_and_capabilities() {
    let mut place = Place::new();
    place.script("echo x > /file; ln -s file /link; mkdir /directory /other");
    // As setcap and setfattr would have done it; busybox has neither.
    let flags = rustix::fs::XattrFlags::empty();
    let upper = place.staging.fs();
    let net_raw = [1, 0, 0, 2, 0, 32, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let set = |name: &str, attribute: &str, value: &[u8]| {
        rustix::fs::lsetxattr(upper.join(name), attribute, value, flags).expect("set");
    };
    set("file", "security.capability", &net_raw);
    set("file", "user.note", b"");
    // The attributes that overlayfs looks at count; the other form's are a process's own doing.
    let (own, other) = match in_user_namespace() {
        true => ("user.overlay", None),
        false => ("trusted.overlay", Some("user.overlay")),
    };
    set("directory", &format!("{own}.opaque"), b"y");
    set("directory", &format!("{own}.origin"), b"where");
    if let Some(other) = other {
        set("link", "trusted.note", b"on a link");
        set("other", &format!("{other}.opaque"), b"y");
    }
    let changed = place.changed();
    let attributes = |name: &str| match changed.layer.get(&TreePath::new(name).expect("clean")) {
        Some(Action::Set { metadata, .. }) => metadata.xattrs.clone(),
        _ => Default::default(),
    };
    let expected = [("security.capability", &net_raw[..]), ("user.note", b"")];
    let owned = |(name, value): (&str, &[u8])| (name.as_bytes().to_vec(), value.to_vec());
    assert_eq!(attributes("file"), expected.map(owned).into());
    let of_link = other.map(|_| owned(("trusted.note", b"on a link")));
    assert_eq!(attributes("link"), of_link.into_iter().collect());
    assert_eq!(attributes("directory"), [].into());
    let described = describe(&place);
    assert!(described.contains("opaque 755 0:0 /directory\n"), "{described}");
    assert!(described.contains("directory 755 0:0 /other\n"), "{described}");
}

fn the_root_directory_itself() {
    let mut place = Place::new();
    place.own = Metadata { uid: 7, gid: 8, ..Metadata::root(0o711) };
    let out = place.script("stat -c '%a %u:%g' /; echo x > /x");
    assert_eq!(out, "711 7:8\n");
    assert_eq!(describe(&place), "file of 2 644 0:0 /x\n");
    // The next snapshot says nothing of it, and what a run makes of it is lost, as with BuildKit.
    place.next();
    assert_eq!(place.script("stat -c '%a %u:%g' /; chmod 750 /"), "711 7:8\n");
    assert_eq!(describe(&place), "");
}

fn very_long_paths() {
    let mut place = Place::new();
    let name = "n".repeat(200);
    place.script("true");
    // No shell copes with it, so it is made as another program would have.
    let flags = OFlags::DIRECTORY | OFlags::CLOEXEC;
    let mut here = rustix::fs::open(place.staging.fs(), flags, Mode::empty()).expect("open");
    for _ in 0..40 {
        rustix::fs::mkdirat(&here, &name, Mode::RWXU).expect("mkdir");
        here = rustix::fs::openat(&here, &name, flags, Mode::empty()).expect("open");
    }
    let flags = OFlags::CREATE | OFlags::WRONLY | OFlags::CLOEXEC;
    rustix::fs::openat(&here, "file", flags, Mode::RWXU).expect("create");
    let changed = place.changed();
    let longest = changed.layer.changes().iter().map(|change| change.path.as_bytes().len()).max();
    assert_eq!(longest, Some(40 * 201 + 4));
    assert_eq!(changed.files.len(), 1);
}

fn a_run_over_a_run() {
    let mut place = Place::new();
    place.script("echo one > /file; rm -r /var/lib/data; mkdir /var/lib/data");
    place.next();
    assert_eq!(place.script("cat /file; ls /var/lib/data | wc -l; rm /file"), "one\n0\n");
    assert_eq!(describe(&place), "remove /file\n");
    place.next();
    assert_eq!(place.script("test -e /file || echo gone"), "gone\n");
}

fn hundred_and_fifty_layers() {
    let mut place = Place::new();
    for number in 0..150 {
        let layer = place.directory.path().join(format!("a rather long name, with : {number}"));
        std::fs::create_dir(&layer).expect("create");
        std::fs::write(layer.join(format!("file{number}")), "x").expect("write");
        std::fs::write(layer.join("last"), number.to_string()).expect("write");
        place.lowers.push(layer);
    }
    let out = place.script("ls / | grep -c file; cat /last");
    assert_eq!(out, "150\n149");
    place.lowers = vec![place.base().to_owned(); 500];
    assert!(place.try_script("true").0.is_err(), "beyond the kernel's limit");
}

fn a_scratch_image() {
    let mut place = Place::empty();
    let busybox = place.directory.path().join("busybox");
    std::fs::create_dir(&busybox).expect("create");
    std::fs::copy("/bin/busybox", busybox.join("sh")).expect("copy");
    place.lowers = vec![busybox];
    place.job.argv = vec!["/sh".to_owned(), "-c".to_owned(), "echo hello > /x".to_owned()];
    let cancel = strata_exec::Cancel::new().expect("cancel");
    assert_eq!(place.try_run(&cancel).0.expect("run").status.code(), 0);
    assert_eq!(describe(&place), "file of 6 644 0:0 /x\n");
}
