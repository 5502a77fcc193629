//! What opening a store refuses, and how it says so.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use strata_store::{DiskStore, OpenError, OpenOptions};

fn open(root: &Path) -> Result<DiskStore, OpenError> {
    DiskStore::open(root, OpenOptions { wait_limit: Duration::ZERO, ..OpenOptions::default() })
}

fn home() -> tempfile::TempDir {
    tempfile::tempdir().expect("a directory")
}

#[test]
fn makes_a_private_directory_that_backups_leave_out() {
    let home = home();
    let store = open(&home.path().join("a/b")).expect("open");
    let mode = fs::metadata(store.root()).expect("stat").permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
    let tag = fs::read_to_string(store.root().join("CACHEDIR.TAG")).expect("read");
    assert!(tag.starts_with("Signature: 8a477f597d28d172789f06886806bc55\n"));
    for directory in [strata_store::stamps_dir(store.root()), store.caches_dir(), store.logs_dir()]
    {
        assert!(directory.is_dir());
    }
}

#[test]
fn refuses_what_is_not_a_store() {
    let home = home();
    let file = home.path().join("file");
    fs::write(&file, "x").expect("write");
    assert!(matches!(open(&file), Err(OpenError::NotDirectory { .. })));
    assert!(matches!(open(&file.join("below")), Err(OpenError::NotDirectory { .. })));
    let error = open(home.path()).expect_err("it holds a file");
    assert!(matches!(error, OpenError::NotAStore { .. }), "{error}");
    assert_eq!(fs::read_dir(home.path()).expect("list").count(), 1, "nothing was written");
}

#[test]
fn refuses_another_version() {
    let home = home();
    drop(open(home.path()).expect("open"));
    fs::create_dir(home.path().join("db-2")).expect("create");
    let error = open(home.path()).expect_err("newer");
    let expected = format!(
        "the store `{}` has the format `db-2`; this strata knows `db-1`",
        home.path().display()
    );
    assert_eq!(error.to_string(), expected);
}

#[test]
fn refuses_tables_of_another_version() {
    let home = home();
    drop(open(home.path()).expect("open"));
    let tables =
        ["blobs-1", "chunked-1", "places-1", "records-1", "slots-1", "snapshots-1", "names-1"];
    let options = rocksdb::Options::default();
    let path = home.path().join("db-1");
    let mut database = rocksdb::DB::open_cf(&options, &path, tables).expect("open");
    database.create_cf("records-2", &options).expect("create");
    drop(database);
    match open(home.path()) {
        Err(OpenError::OtherVersion { found, .. }) => assert_eq!(found, "records-2"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_lock_whose_holder_does_not_serve_is_busy() {
    let home = home();
    drop(open(home.path()).expect("open"));
    let lock = fs::File::open(home.path().join("strata.lock")).expect("open");
    lock.lock().expect("lock");
    // What a killed process leaves: a socket that nobody listens on.
    let path = home.path().join("strata.sock");
    drop(std::os::unix::net::UnixListener::bind(&path).expect("bind"));
    assert!(matches!(open(home.path()), Err(OpenError::Busy { .. })));
    drop(lock);
    let store = open(home.path()).expect("open");
    strata_cas::NameStore::set_name(&store, "t", "n", Some(b"")).expect("hold the database");
    assert!(path.exists());
    drop(store);
    assert!(!path.exists());
}

#[test]
fn a_process_of_another_version_is_told_apart() {
    let home = home();
    drop(open(home.path()).expect("open"));
    let lock = fs::File::open(home.path().join("strata.lock")).expect("open");
    lock.lock().expect("lock");
    let path = home.path().join("strata.sock");
    let listener = std::os::unix::net::UnixListener::bind(path).expect("bind");
    let serving = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("accept");
        std::io::Write::write_all(&mut stream, b"strata socket 9\n").expect("write");
        std::io::Read::read(&mut stream, &mut [0; 16]).expect("read")
    });
    match open(home.path()) {
        Err(OpenError::OtherVersion { found, .. }) => assert_eq!(found, "strata socket 9"),
        other => panic!("{other:?}"),
    }
    serving.join().expect("served");
}

#[test]
fn a_damaged_database_is_an_error_with_a_hint_and_not_a_panic() {
    for damage in ["CURRENT", "MANIFEST"] {
        for content in [&b""[..], b"garbage\n", &[0xff; 5000]] {
            let home = home();
            drop(open(home.path()).expect("open"));
            for entry in fs::read_dir(home.path().join("db-1")).expect("list") {
                let path = entry.expect("entry").path();
                if path.to_string_lossy().contains(damage) {
                    fs::write(&path, content).expect("damage");
                }
            }
            match open(home.path()) {
                Err(error @ OpenError::Damaged { .. }) => assert!(!error.hint().is_empty()),
                other => panic!("{damage}: {other:?}"),
            }
        }
    }
}

#[test]
fn refuses_what_cannot_be_written() {
    if rustix::process::geteuid().is_root() {
        return; // Root may write anywhere.
    }
    let home = home();
    let store = home.path().join("store");
    fs::create_dir(&store).expect("create");
    fs::set_permissions(home.path(), Permissions::from_mode(0o500)).expect("chmod");
    assert!(matches!(open(&home.path().join("new")), Err(OpenError::NotWritable { .. })));
    fs::set_permissions(home.path(), Permissions::from_mode(0o700)).expect("chmod");
    assert!(matches!(open(Path::new("/")), Err(OpenError::WrongOwner { owner: 0, .. })));
}

#[test]
fn refuses_somebody_elses_directory() {
    if !rustix::process::geteuid().is_root() {
        return; // Only root can give a directory away.
    }
    let home = home();
    std::os::unix::fs::chown(home.path(), Some(65534), None).expect("chown");
    match open(home.path()) {
        Err(OpenError::WrongOwner { owner, user, .. }) => assert_eq!((owner, user), (65534, 0)),
        other => panic!("{other:?}"),
    }
}
