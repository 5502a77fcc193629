//! What is wrong with a Dockerfile or the world is said with its place, a hint and an exit code.

use crate::session::Session;

#[test]
fn a_missing_file() {
    let session = Session::with(&[("Dockerfile", "FROM scratch\nCOPY config.jsno /etc/\n")]);
    session.write("config.json", "{}");
    let expected = "\
exit code 1
--- stderr
error: source `/config.jsno` is not in the build context
 --> Dockerfile:2:6
  |
2 | COPY config.jsno /etc/
  |      ^^^^^^^^^^^
";
    let output = session.command("build -q .").output().expect("it runs");
    let talk = String::from_utf8_lossy(&output.stderr).into_owned();
    // There may be a hint below it.
    let shown = format!("exit code {}\n--- stderr\n{talk}", output.status.code().unwrap_or(-1));
    assert!(shown.starts_with(expected), "{shown}");
}

#[test]
fn a_pattern_that_fits_a_link_to_nothing() {
    let session = Session::with(&[("Dockerfile", "FROM scratch\nCOPY l* /etc/\n")]);
    std::os::unix::fs::symlink("nothing", session.path("link")).expect("a link");
    let expected = "\
exit code 1
--- stderr
error: `/link` is a link that leads nowhere
 --> Dockerfile:2:6
  |
2 | COPY l* /etc/
  |      ^^
  |
  = hint: `--exclude` does not help here: write a pattern without it
";
    session.check("build -q .", expected);
}

#[test]
fn an_unknown_instruction() {
    let session = Session::with(&[("docker/Dockerfile", "FROM scratch\nCOYP a /a\n")]);
    let expected = "\
exit code 1
--- stderr
error: unknown instruction: `COYP`
 --> docker/Dockerfile:2:1
  |
2 | COYP a /a
  | ^^^^
  |
  = hint: did you mean `COPY`?
";
    session.check("build -f docker/Dockerfile .", expected);
    session.check("plan -f docker/Dockerfile .", expected);
}

#[test]
fn a_comment_that_is_none() {
    let session = Session::with(&[("Dockerfile", "FROM node:18-alpine   //base image\nRUN x\n")]);
    let expected = "\
exit code 1
--- stderr
error: `FROM` requires either one or three arguments
 --> Dockerfile:1:23
  |
1 | FROM node:18-alpine   //base image
  |                       ^^^^^^^^^^^^ not a comment
  |
  = hint: a comment is a `#` at the start of its own line; move `//base image` to a line above
";
    session.check("build .", expected);
}

#[test]
fn a_registry_that_is_down() {
    let session = Session::with(&[("Dockerfile", "FROM 127.0.0.1:1/a/b:c\nRUN x\n")]);
    let expected = "\
exit code 3
--- stderr
error: image `127.0.0.1:1/a/b:c`: registry `127.0.0.1:1` can not be reached: \
the connection is refused
 --> Dockerfile:1:6
  |
1 | FROM 127.0.0.1:1/a/b:c
  |      ^^^^^^^^^^^^^^^^^
  |
  = hint: check the registry's name and port, the network and the proxy settings
";
    session.check("build -q .", expected);
}

#[test]
fn an_unknown_stage() {
    let session = Session::with(&[("Dockerfile", "FROM scratch AS release\nCOPY a /a\n")]);
    let expected = "\
exit code 1
--- stderr
error: target stage `relaese` could not be found
hint: did you mean `release`?
";
    session.check("build --target relaese .", expected);
}

#[test]
fn a_warning_does_not_stop_a_build() {
    let dockerfile = "FROM scratch\nCOPY a \\\n\n  /a\n";
    let session = Session::with(&[("Dockerfile", dockerfile), ("a", "x")]);
    let output = session.command("build .").output().expect("it runs");
    let talk = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && talk.starts_with("warning: "), "{talk}");
    assert!(session.command("build -q .").output().expect("it runs").stderr.is_empty());
}

#[test]
fn a_store_that_is_none() {
    let session = Session::with(&[("dir/file", ""), ("file", "")]);
    let expected = "\
exit code 3
--- stderr
error: `[DIR]/work/file` is not a directory
hint: name an empty or new directory with `--store` or `STRATA_STORE`
";
    session.check(&format!("images --store {}", session.path("file").display()), expected);
    let expected = "\
exit code 3
--- stderr
error: `[DIR]/work/dir` is not empty and not a strata store
hint: name an empty or new directory with `--store` or `STRATA_STORE`
";
    let session = session.variable("STRATA_STORE", "");
    session.check(&format!("images --store {}", session.path("dir").display()), expected);
}

#[test]
fn a_dockerfile_that_is_a_directory() {
    let session = Session::with(&[("Dockerfile/a", "")]);
    let expected = "exit code 2\n--- stderr\n\
        error: cannot read the Dockerfile `Dockerfile`: is a directory\n";
    session.check("build .", expected);
}
