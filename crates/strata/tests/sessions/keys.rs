//! What makes a COPY run again and what does not: the rows of `docs/cache-keys.md` that are about
//! the context, as its user meets them.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::session::Session;

/// How many steps ran.
fn ran(session: &Session, line: &str) -> usize {
    let output = session.command(line).output().expect("it runs");
    let talk = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{talk}");
    talk.lines().filter(|line| line.contains(" why: ")).count()
}

fn chmod(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("chmod");
}

fn project(copy: &str) -> Session {
    let dockerfile = format!("FROM scratch\n{copy}\n");
    Session::with(&[("p/Dockerfile", &dockerfile), ("p/src/a", "1"), ("p/src/d/b", "2")])
}

/// A fresh checkout, an unpacked tar: other times, inodes, place and directory order.
#[test]
fn the_same_sources_elsewhere_are_the_same_sources() {
    let session = project("COPY src /app/");
    assert_eq!(ran(&session, "build p"), 1);
    let tar = session.path("sources.tar");
    let mut packed = std::process::Command::new("tar");
    packed.arg("-cf").arg(&tar).arg("-C").arg(session.path("p")).arg(".");
    assert!(packed.status().expect("tar").success());
    std::fs::create_dir(session.path("q")).expect("made");
    let mut unpacked = std::process::Command::new("tar");
    unpacked.args(["-m", "-xf"]).arg(&tar).arg("-C").arg(session.path("q"));
    assert!(unpacked.status().expect("tar").success());
    assert_eq!(ran(&session, "build q"), 0);
}

#[test]
fn times_do_not_count() {
    let session = project("COPY src /app/");
    ran(&session, "build p");
    for name in ["p/src/a", "p/src/d/b"] {
        let file = std::fs::File::options().write(true).open(session.path(name)).expect("open");
        file.set_modified(std::time::SystemTime::UNIX_EPOCH).expect("set");
    }
    assert_eq!(ran(&session, "build p"), 0);
}

/// Modes are copied, as BuildKit copies them: a umask shows in the layer, unless `--chmod` says
/// what they are to be. The mode of the directory whose contents are copied never shows.
#[test]
fn a_umask_counts_where_it_shows() {
    let session = project("COPY src /app/");
    chmod(&session.path("p/src"), 0o755);
    ran(&session, "build p");
    chmod(&session.path("p/src"), 0o775);
    assert_eq!(ran(&session, "build p"), 0);
    chmod(&session.path("p/src/a"), 0o664);
    assert_eq!(ran(&session, "build p"), 1);

    let session = project("COPY --chmod=755 src /app/");
    ran(&session, "build p");
    for (name, mode) in [("p/src/a", 0o664), ("p/src/d", 0o775), ("p/src/d/b", 0o600)] {
        chmod(&session.path(name), mode);
    }
    assert_eq!(ran(&session, "build p"), 0);
}

#[test]
fn flags_that_change_nothing_do_not_count() {
    let session = project("COPY src/a /app/");
    chmod(&session.path("p/src/a"), 0o755);
    ran(&session, "build p");
    for same in ["--chmod=755", "--chmod=u+x", "--chown=0:0", "--exclude=nothing"] {
        session.write("p/Dockerfile", &format!("FROM scratch\nCOPY {same} src/a /app/\n"));
        assert_eq!(ran(&session, "build p"), 0, "{same}");
    }
    for other in ["--chmod=700", "--chown=7"] {
        session.write("p/Dockerfile", &format!("FROM scratch\nCOPY {other} src/a /app/\n"));
        assert_eq!(ran(&session, "build p"), 1, "{other}");
    }
}

#[test]
fn another_owner_of_the_checkout_does_not_count() {
    let session = project("COPY src /app/");
    ran(&session, "build p");
    for name in ["p/src/a", "p/src/d", "p/src"] {
        if std::os::unix::fs::chown(session.path(name), Some(1234), Some(1234)).is_err() {
            // Only root can give files away.
            return;
        }
    }
    assert_eq!(ran(&session, "build p"), 0);
}

#[test]
fn what_is_not_selected_does_not_count() {
    let session = project("COPY src/a /app/");
    ran(&session, "build p");
    session.write("p/src/d/b", "other");
    session.write("p/new", "new");
    assert_eq!(ran(&session, "build p"), 0);
    session.write("p/.dockerignore", "src/d\n");
    assert_eq!(ran(&session, "build p"), 0);
}

/// A WORKDIR that makes a directory: where, and whose it is. One that is there makes none, and what
/// an image only says of itself does not count.
#[test]
fn a_working_directory_counts_where_it_is_and_whose() {
    let session = project("WORKDIR /app/in");
    assert_eq!(ran(&session, "build p"), 1);
    let check = |lines: &str, expected: usize| {
        session.write("p/Dockerfile", &format!("FROM scratch\n{lines}\n"));
        assert_eq!(ran(&session, "build p"), expected, "{lines}");
    };
    check("LABEL a=b\nENV C=d\nWORKDIR /app\nWORKDIR in", 2);
    check("LABEL a=c\nENV C=e\nWORKDIR /app\nWORKDIR in", 0);
    check("ENV D=/app/in\nWORKDIR $D", 0);
    check("WORKDIR /app/other", 1);
    check("USER 7\nWORKDIR /app/in", 1);
    check("USER 7:8\nWORKDIR /app/in", 1);
    check("WORKDIR /app/in", 0);
}
