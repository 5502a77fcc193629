//! Wrong usage is told at once, with exit code 2.

use crate::session::Session;

#[test]
fn contexts_and_dockerfiles() {
    let session = Session::with(&[("empty/x", ""), ("file", ""), ("d/app.Dockerfile", "FROM a\n")]);
    let check = |line: &str, message: &str| {
        session.check(line, &format!("exit code 2\n--- stderr\n{message}\n"));
    };
    check("build nowhere", "error: the context `nowhere` does not exist");
    check(
        "build https://example.com/a.git?x=y",
        "error: the context `https://example.com/a.git?x=y`: `x=y` means nothing to a git repository",
    );
    check(
        "build file",
        "error: the context `file` is not a directory\n\
        hint: the Dockerfile is named with `-f`; an archive can come on standard input, as `-`",
    );
    check(
        "build -f git://example.com/a empty",
        "error: the Dockerfile `git://example.com/a` is a repository\n\
        hint: name the repository as the context",
    );
    check(
        "build --build-context x=- -f d/app.Dockerfile d",
        "error: `--build-context x=-`: standard input can only be the main context",
    );
    check(
        "build empty",
        "error: there is no Dockerfile `empty/Dockerfile`\nhint: name it with `-f`",
    );
    check(
        "build d",
        "error: there is no Dockerfile `d/Dockerfile`\nhint: is it `-f d/app.Dockerfile`?",
    );
    check("build -f gone .", "error: cannot read the Dockerfile `gone`: no such file or directory");
}

#[test]
fn values() {
    let session = Session::with(&[("Dockerfile", "FROM scratch\nCOPY a /a\n")]);
    let check = |line: &str, message: &str| {
        session.check(line, &format!("exit code 2\n--- stderr\n{message}\n"));
    };
    check(
        "build -t App .",
        "error: `App` is not an image name: a repository's name is in lower case",
    );
    check(
        "build -o type=oic,dest=f .",
        "error: unknown type of `-o` `oic`\nhint: did you mean `oci`?",
    );
    check(
        "build -o type=oci,dest=no/f .",
        "error: `-o type=oci,dest=no/f`: there is no directory `no`",
    );
    check("build --network hots .", "error: unknown network `hots`\nhint: did you mean `host`?");
    check(
        "build -q -o - .",
        "error: standard output can not be an archive and the image's id\n\
        hint: write the id to a file with `--iidfile`, or the archive with `dest=FILE`",
    );
    check(
        "build -q --progress plain .",
        "error: `-q` and another `--progress` contradict each other",
    );
    check(
        "check --platform linux/amd64,linux/arm64 .",
        "error: only one platform can be named here",
    );
    check(
        "build --push .",
        "error: an image that is pushed needs a name\n\
        hint: `-t REGISTRY/NAME:TAG`, or `name=` in `-o`",
    );
    check("build --cache-to type=local .", "error: `--cache-to type=local`: `dest=` is missing");
    check(
        "build --oci-runtime crun .",
        "error: `crun` is not an OCI runtime that strata knows\n\
        hint: `libcontainer`, or the path of runc or crun, such as `/usr/bin/crun`",
    );
}

#[test]
fn flags_that_docker_has() {
    let session = Session::new();
    let output = session.command("build --builder=other .").output().expect("it runs");
    let talk = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2));
    assert!(talk.ends_with("hint: Docker's `--builder` is not supported yet\n"), "{talk}");
}

#[test]
fn the_configuration_file() {
    let session = Session::with(&[("config.toml", "[build]\nmax = 2\n")]);
    let expected = "\
exit code 2
--- stderr
error: config.toml:2: unknown field `max`, expected one of `jobs`, `oci-runtime`, `log-limit`
hint: the keys here are `jobs`, `oci-runtime`, `log-limit`
";
    session.check("images --config config.toml", expected);
    let session = session.variable("STRATA_CONFIG", "gone.toml");
    let gone = "exit code 2\n--- stderr\n\
        error: cannot read the configuration `gone.toml`: no such file or directory\n";
    session.check("images", gone);
}

#[test]
fn versions_and_help() {
    let session = Session::new();
    let expected = format!("exit code 0\n--- stdout\nstrata {}\n", env!("CARGO_PKG_VERSION"));
    session.check("version", &expected);
    session.check("--version", &expected);
    let help = session.stdout_text("build --help");
    for flag in ["--build-arg", "--no-cache-filter", "--iidfile", "--store"] {
        assert!(help.contains(flag), "{help}");
    }
    assert!(!help.contains("--force-rm"), "{help}");
}
