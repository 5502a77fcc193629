//! `COPY --link` and `ADD --link`: the layer survives what is below it, and is never another one
//! than a build from nothing makes.

use crate::session::Session;

const DOCKERFILE: &str = "FROM scratch\nCOPY below /\nCOPY --link src /app/\nCOPY last /last\n";

fn project(copy: &str) -> Session {
    let dockerfile = DOCKERFILE.replace("COPY --link src /app/", copy);
    let project = [("p/Dockerfile", &*dockerfile), ("p/below/x", "1"), ("p/last", "l")];
    let session = Session::with(&project);
    session.write("p/src/a", "a");
    session.write("p/src/d/b", "b");
    session
}

/// The steps that run, in another order only by chance.
#[track_caller]
fn ran(session: &Session) -> Vec<String> {
    let output = session.command("build --jobs 1 p").output().expect("it runs");
    let talk = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{talk}");
    let steps = talk.lines().filter_map(|line| line.split_once(" why: "));
    steps.map(|(step, _)| step.to_owned()).collect()
}

/// The image is the one that a home makes which has never built anything.
#[track_caller]
fn check_image(session: &Session) {
    let image = session.stdout_text("build -q p");
    let mut fresh = session.command("build -q p");
    let output = fresh.env("HOME", session.path("fresh")).output().expect("it runs");
    assert_eq!(image, String::from_utf8_lossy(&output.stdout).trim_end());
    drop(std::fs::remove_dir_all(session.path("fresh")));
}

#[test]
fn what_is_below_may_change() {
    let session = project("COPY --link src /app/");
    assert_eq!(ran(&session), ["#1", "#2", "#3"]);
    session.write("p/below/x", "2");
    session.write("p/below/etc/y", "3");
    assert_eq!(ran(&session), ["#1", "#3"]);
    let why = session.stdout_text("why 2");
    assert!(why.contains("cached: linked, independent of the step above"), "{why}");
    check_image(&session);
    // From now on it is found as any other step.
    assert_eq!(ran(&session), [""; 0]);
    session.write("p/src/a", "other");
    assert_eq!(ran(&session), ["#2", "#3"]);
}

/// A directory that is there keeps its mode, and a link on the way is followed: where either is
/// another one, so is the layer.
#[test]
fn what_the_destination_is_counts() {
    use std::os::unix::fs::{PermissionsExt, symlink};
    let session = project("COPY --link src /app/");
    session.write("p/below/app/own", "1");
    ran(&session);
    session.write("p/below/app/own", "2");
    assert_eq!(ran(&session), ["#1", "#3"]);
    let mode = std::fs::Permissions::from_mode(0o700);
    std::fs::set_permissions(session.path("p/below/app"), mode).expect("chmod");
    assert_eq!(ran(&session), ["#1", "#2", "#3"]);
    check_image(&session);
    std::fs::remove_dir_all(session.path("p/below/app")).expect("removed");
    symlink("real", session.path("p/below/app")).expect("linked");
    session.write("p/below/real/z", "z");
    assert_eq!(ran(&session), ["#1", "#2", "#3"]);
    check_image(&session);
    // What is in the way is told as by any other COPY.
    std::fs::remove_file(session.path("p/below/app")).expect("removed");
    session.write("p/below/app/a/in-the-way", "1");
    let output = session.command("build p").output().expect("it runs");
    let talk = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(talk.contains("`/app/a` is a directory, and a file is to be copied there"), "{talk}");
}

#[test]
fn a_user_by_name_is_the_roots() {
    let session = project("COPY --link --chown=bob src /app/");
    let passwd = |uid: u32, more: &str| {
        session.write("p/below/etc/passwd", &format!("bob:x:{uid}:{uid}::/:/bin/sh\n{more}"));
    };
    passwd(1000, "");
    session.write("p/below/etc/group", "");
    ran(&session);
    passwd(1000, "eve:x:7:7::/:/bin/sh\n");
    assert_eq!(ran(&session), ["#1", "#3"]);
    passwd(1001, "");
    assert_eq!(ran(&session), ["#1", "#2", "#3"]);
    check_image(&session);
}

#[test]
fn without_the_cache_it_runs() {
    let session = project("COPY --link src /app/");
    ran(&session);
    session.write("p/below/x", "2");
    let output = session.command("build --jobs 1 --no-cache p").output().expect("it runs");
    let talk = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(talk.matches(" why: forced").count(), 3, "{talk}");
}

#[test]
fn other_stages_files_and_here_documents() {
    let two = "COPY --link --from=made src /app/\nCOPY --link <<EOF /etc/conf\nv\nEOF";
    let session = project(two);
    let dockerfile = session.read("p/Dockerfile");
    let stages = format!("FROM scratch AS made\nCOPY src /src/\n{dockerfile}");
    session.write("p/Dockerfile", &stages);
    ran(&session);
    session.write("p/below/x", "2");
    assert_eq!(ran(&session).len(), 2);
    check_image(&session);
    session.write("p/src/a", "other");
    assert_eq!(ran(&session).len(), 3, "the stage, its files, and what is above them");
    check_image(&session);
}

/// Of an archive that leaves its directories out, those that are there keep their modes.
#[test]
fn archives() {
    use std::os::unix::fs::PermissionsExt;
    let session = project("ADD --link t.tar /app/");
    let mut tar = std::process::Command::new("tar");
    tar.arg("-cf").arg(session.path("p/t.tar")).arg("-C").arg(session.path("p/src")).arg("d/b");
    assert!(tar.status().expect("tar").success());
    ran(&session);
    session.write("p/below/x", "2");
    assert_eq!(ran(&session), ["#1", "#3"]);
    check_image(&session);
    session.write("p/below/app/d/own", "1");
    let mode = std::fs::Permissions::from_mode(0o711);
    std::fs::set_permissions(session.path("p/below/app/d"), mode).expect("chmod");
    assert_eq!(ran(&session), ["#1", "#2", "#3"]);
    check_image(&session);
}

/// Another machine finds it in a shared cache, over another root.
#[test]
fn a_shared_cache_has_it() {
    let session = project("COPY --link src /app/");
    session.stdout("build --cache-to type=local,dest=cache p");
    session.write("p/below/x", "2");
    let mut other = session.command("build --jobs 1 --cache-from type=local,src=cache p");
    let output = other.env("HOME", session.path("other")).output().expect("it runs");
    let talk = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{talk}");
    assert_eq!(talk.matches(" why: ").count(), 2, "{talk}");
    check_image(&session);
}
