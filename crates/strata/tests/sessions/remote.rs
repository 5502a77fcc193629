//! ADD of URLs and repositories, and contexts that are not on this machine.

use std::io::Read;

use crate::server::{Answer, Repositories, Server};
use crate::session::Session;

const DATED: &[(&str, &str)] =
    &[("ETag", "\"1\""), ("Last-Modified", "Tue, 02 Feb 2021 03:04:05 GMT")];
const AT: u64 = 1_612_235_045;

/// `PATH MODE OWNER TIME CONTENT` of each file of a tar, its directories left out.
fn files(tar: &[u8]) -> Vec<String> {
    let mut archive = tar::Archive::new(tar);
    let mut lines = Vec::new();
    for entry in archive.entries().expect("a tar") {
        let mut entry = entry.expect("an entry");
        let mut content = Vec::new();
        if entry.header().entry_type().is_dir() {
            continue;
        }
        entry.read_to_end(&mut content).expect("content");
        let content = String::from_utf8_lossy(&content).into_owned();
        let (path, header) = (entry.path().expect("a path").display().to_string(), entry.header());
        let (mode, time) = (header.mode().expect("a mode"), header.mtime().expect("a time"));
        let owner = header.uid().expect("an owner");
        lines.push(format!("{path} {mode:o} {owner} {time} {content}"));
    }
    lines
}

fn paths(tar: &[u8]) -> Vec<String> {
    let name = |line: &String| line.split(' ').next().unwrap_or_default().to_owned();
    files(tar).iter().map(name).collect()
}

fn said(session: &Session, line: &str) -> String {
    let output = session.command(line).output().expect("it runs");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A tar with these files, owned by 7.
fn tar_of(files: &[(&str, &str)]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, content) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o640);
        header.set_uid(7);
        header.set_gid(7);
        header.set_mtime(AT);
        builder.append_data(&mut header, name, content.as_bytes()).expect("appended");
    }
    builder.into_inner().expect("a tar")
}

#[test]
fn a_url_is_a_file_with_the_servers_time() {
    let server = Server::new();
    server.put("d/a.txt", Answer::File(b"one".to_vec(), DATED));
    server.put("moved", Answer::Moved(server.url("d/a.txt")));
    let dockerfile = format!(
        "FROM scratch\nADD {0} /b\nADD {0} /c/\nADD --chmod=644 --chown=3 {1} /d/\n",
        server.url("d/a.txt?x=/y#z"),
        server.url("moved"),
    );
    let session = Session::with(&[("Dockerfile", &dockerfile)]).without_epoch();
    server.put("d/a.txt?x=/y", Answer::File(b"one".to_vec(), DATED));
    let expected = [
        format!("b 600 0 {AT} one"),
        format!("c/a.txt 600 0 {AT} one"),
        format!("d/moved 644 3 {AT} one"),
    ];
    assert_eq!(files(&session.stdout("build -o - .")), expected);
}

#[test]
fn a_rebuild_does_not_download_again() {
    let server = Server::new();
    server.put("a", Answer::File(b"one".to_vec(), DATED));
    let dockerfile = format!("FROM scratch\nADD {} /\n", server.url("a"));
    let session = Session::with(&[("Dockerfile", &dockerfile)]);
    let id = session.stdout_text("build -q .");
    assert_eq!(server.requests(), ["/a 200"]);
    assert_eq!(session.stdout_text("build -q ."), id);
    assert_eq!(server.requests(), ["/a 304"]);
    server.put("a", Answer::File(b"two".to_vec(), &[("ETag", "\"2\"")]));
    let talk = said(&session, "build .");
    assert!(talk.contains("1 file changed: "), "{talk}");
    assert_eq!(server.requests(), ["/a 200"]);
}

/// A file's content, mode and name count, as of a file of the context; the place that it came from
/// and what else a server says do not.
#[test]
fn where_a_download_comes_from_does_not_count() {
    let (server, mirror) = (Server::new(), Server::new());
    server.put("a", Answer::File(b"one".to_vec(), DATED));
    mirror.put("deep/a", Answer::File(b"one".to_vec(), &[("ETag", "\"7\"")]));
    mirror.put("deep/b", Answer::File(b"one".to_vec(), DATED));
    let session = Session::new();
    let ran = |line: String| {
        session.write("Dockerfile", &format!("FROM scratch\n{line}\n"));
        said(&session, "build .").matches(" why: ").count()
    };
    assert_eq!(ran(format!("ADD {} /", server.url("a"))), 1);
    assert_eq!(ran(format!("ADD {} /", mirror.url("deep/a"))), 0);
    assert_eq!(ran(format!("ADD --chmod=644 {} /", mirror.url("deep/a"))), 1);
    assert_eq!(ran(format!("ADD {} /", mirror.url("deep/b"))), 1);
}

#[test]
fn with_a_checksum_nobody_is_asked_again() {
    let server = Server::new();
    server.put("a", Answer::File(b"one".to_vec(), DATED));
    let digest = strata_oci::Digest::of(b"one");
    let dockerfile = format!("FROM scratch\nADD --checksum={digest} {} /\n", server.url("a"));
    let session = Session::with(&[("Dockerfile", &dockerfile)]);
    let id = session.stdout_text("build -q .");
    server.requests();
    assert_eq!(session.stdout_text("build -q ."), id);
    assert!(server.requests().is_empty());
    let other = strata_oci::Digest::of(b"two");
    session.write("Dockerfile", &dockerfile.replace(&digest.to_string(), &other.to_string()));
    let output = session.command("build .").output().expect("it runs");
    let talk = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{talk}");
    assert!(talk.contains(&format!("its digest is {digest}, not {other}")), "{talk}");
}

#[test]
fn a_secret_opens_what_its_host_keeps_closed() {
    let (server, other) = (Server::new(), Server::new());
    server.put("closed", Answer::For("Bearer tok", b"inside".to_vec()));
    server.put("repo.git/info/refs?service=git-upload-pack", Answer::For("Basic h", Vec::new()));
    // Who is redirected elsewhere is a stranger there.
    other.put("elsewhere", Answer::For("Bearer tok", b"not so".to_vec()));
    server.put("moved", Answer::Moved(other.url("elsewhere").replace("127.0.0.1", "localhost")));
    let dockerfile = format!("FROM scratch\nADD {} /\n", server.url("closed"));
    let session = Session::with(&[("Dockerfile", &dockerfile)]);
    session.write("token", "tok\n");
    assert!(said(&session, "build -q .").contains("the server answers 401"));
    let secret = "--secret id=HTTP_AUTH_TOKEN_127.0.0.1,src=token";
    assert_eq!(session.stdout_text(&format!("build -q {secret} .")).len(), 71);
    let record = said(&session, &format!("build --progress plain {secret} ."));
    assert!(!record.contains("tok\n"), "{record}");
    session.write("Dockerfile", &format!("FROM scratch\nADD {} /\n", server.url("moved")));
    assert!(said(&session, &format!("build -q {secret} .")).contains("the server answers 401"));
    assert_eq!(other.requests(), ["/elsewhere 401"]);
    // A repository: what matters is who asks, since this server has no repository.
    session.write("Dockerfile", &format!("FROM scratch\nADD {} /\n", server.url("repo.git")));
    session.write("token", "Basic h");
    server.requests();
    said(&session, "build -q .");
    said(&session, "build -q --secret id=GIT_AUTH_HEADER,src=token .");
    let asked = server.requests();
    let opened = asked.iter().any(|line| line.ends_with("git-upload-pack 200"));
    assert!(asked[0].ends_with(" 401") && opened, "{asked:?}");
}

#[test]
fn what_does_not_come_is_told_with_its_place() {
    let server = Server::new();
    let check = |dockerfile: &str, code: i32, expected: &str| {
        let session = Session::with(&[("Dockerfile", dockerfile)]);
        let output = session.command("build .").output().expect("it runs");
        let talk = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{talk}");
        assert!(talk.contains(expected) && talk.contains("Dockerfile:2:"), "{talk}");
    };
    let (missing, closed) = (server.url("no"), "http://127.0.0.1:1/a");
    check(&format!("FROM scratch\nADD {missing} /\n"), 1, "the server answers 404: not found");
    check(&format!("FROM scratch\nADD {closed} /\n"), 3, "the connection is refused");
    check(&format!("FROM scratch\nCOPY {missing} /\n"), 1, "`COPY` does not fetch URLs");
    let two = format!("FROM scratch\nADD --checksum=sha256:1 {missing} {missing} /\n");
    check(&two, 1, "can not be given for more than one source");
    let odd = format!("FROM scratch\nADD --checksum=md5:1 {missing} /\n");
    check(&odd, 1, "is not a digest that strata knows");
    let circle = server.url("circle");
    server.put("circle", Answer::Moved(circle.clone()));
    check(&format!("FROM scratch\nADD {circle} /\n"), 1, "it redirects in circles");
}

#[test]
fn a_downloaded_archive_is_unpacked_only_when_asked() {
    let server = Server::new();
    server.put("a.tar", Answer::File(tar_of(&[("x/y", "z")]), &[]));
    let dockerfile =
        format!("FROM scratch\nADD {0} /plain/\nADD --unpack {0} /open/\n", server.url("a.tar"));
    let session = Session::with(&[("Dockerfile", &dockerfile)]);
    assert_eq!(paths(&session.stdout("build -o - .")), ["open/x/y", "plain/a.tar"]);
}

#[test]
fn a_repositorys_commit_is_checked_out_once() {
    let repositories = Repositories::new();
    let first = repositories.commit("a", &[("x", "one"), ("d/y", "two")]);
    repositories.git("a", &["tag", "-a", "-m", "a tag", "v1"]);
    let url = repositories.url("a");
    let dockerfile = format!(
        "FROM scratch\nADD {url} /all/\nADD {url}#v1:d /part/\nADD {url}?ref=main&subdir=d /q/\n\
         ADD {url}#{first} /id/\n"
    );
    let session = Session::with(&[("Dockerfile", &dockerfile)]).without_epoch();
    let expected = ["all/d/y", "all/x", "id/d/y", "id/x", "part/y", "q/y"];
    let tar = session.stdout("build -o - .");
    assert_eq!(paths(&tar), expected);
    // The time is the commit's, so that the layer is the same for everybody.
    assert_eq!(files(&tar)[1], "all/x 644 0 1612325106 one");
    let talk = said(&session, "build .");
    assert!(talk.contains("4 steps: 4 cached"), "{talk}");
    let second = repositories.commit("a", &[("x", "three")]);
    let talk = said(&session, "build .");
    assert!(talk.contains("#1 why: commit 0 changed from "), "{talk}");
    // The other steps lie over the first one, so they run; their commits are there.
    assert!(talk.contains(&second) && talk.contains(&format!("unchanged: {url}")), "{talk}");
}

#[test]
fn submodules_and_the_git_directory() {
    let repositories = Repositories::new();
    repositories.commit("sub", &[("inner", "i")]);
    repositories.commit("top", &[("x", "one")]);
    let sub = repositories.url("sub");
    repositories.git("top", &["submodule", "--quiet", "add", &sub, "s"]);
    let id = repositories.commit("top", &[("x", "two")]);
    let url = repositories.url("top");
    let build = |line: &str| {
        let session = Session::with(&[("Dockerfile", &format!("FROM scratch\n{line}\n"))]);
        paths(&session.stdout("build -o - ."))
    };
    let with = build(&format!("ADD {url} /"));
    assert!(with.contains(&"s/inner".to_owned()) && !with.contains(&".git/HEAD".to_owned()));
    let without = build(&format!("ADD {url}?submodules=false /"));
    assert_eq!(without, [".gitmodules", "x"]);
    let kept = build(&format!("ADD --keep-git-dir {url}#{id} /"));
    assert!(kept.contains(&".git/HEAD".to_owned()) && kept.contains(&"s/inner".to_owned()));
    let also = build(&format!("ADD {url}?keep-git-dir=true /"));
    assert!(also.contains(&".git/HEAD".to_owned()), "{also:?}");
}

#[test]
fn what_is_wrong_with_a_repository_is_told() {
    let repositories = Repositories::new();
    let id = repositories.commit("a", &[("x", "one")]);
    let url = repositories.url("a");
    let check = |source: &str, expected: &str| {
        let session = Session::with(&[("Dockerfile", &format!("FROM scratch\nADD {source} /\n"))]);
        let output = session.command("build .").output().expect("it runs");
        let talk = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{talk}");
        assert!(talk.contains(expected), "{talk}");
    };
    check(&format!("{url}#none"), "it has no branch or tag `none`");
    check(&format!("{url}#main:none"), "it has no directory `none`");
    check(&format!("{url}#{}", "0".repeat(40)), "can not be fetched");
    check(&repositories.url("none"), "can not be fetched");
    check(&format!("--checksum=abcdef0 {url}"), &format!("its commit is `{id}`, not `abcdef0`"));
    check(&format!("{url}?what=x"), "`what=x` means nothing to a git repository");
    check(&format!("{url}?subdir="), "`subdir` has no value");
    let both = format!("--keep-git-dir=false {url}?keep-git-dir=1");
    check(&both, "`--keep-git-dir=false` contradicts the repository's query");
}

#[test]
fn a_checksum_is_a_commits_or_an_annotated_tags() {
    let repositories = Repositories::new();
    let id = repositories.commit("a", &[("x", "one")]);
    repositories.git("a", &["tag", "-a", "v1", "-m", "first"]);
    let tag = repositories.git("a", &["rev-parse", "v1"]);
    assert_ne!(tag.trim(), id);
    let url = repositories.url("a");
    for checksum in [id.as_str(), tag.trim(), &tag[..9]] {
        let line = format!("FROM scratch\nADD --checksum={checksum} {url}#v1 /\n");
        let session = Session::with(&[("Dockerfile", &line)]);
        assert_eq!(paths(&session.stdout("build -o - .")), ["x"], "{checksum}");
    }
}

#[test]
fn an_archive_on_standard_input_is_a_context() {
    let session = Session::new().without_epoch();
    let tar = tar_of(&[
        ("Dockerfile", "FROM scratch\nCOPY a /\n"),
        ("d/other", "FROM scratch\nCOPY a /b\n"),
        ("a", "x"),
        (".dockerignore", "a"),
    ]);
    let build = |line: &str, input: &[u8]| {
        let output = session.run_with(line, input);
        let talk = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{talk}");
        files(&output.stdout)
    };
    // As for BuildKit: owners are the archive's, and its ignore file says nothing.
    assert_eq!(build("build -o - -", &tar), [format!("a 640 7 {AT} x")]);
    assert_eq!(build("build -o - -f d/other -", &tar), [format!("b 640 7 {AT} x")]);
    let mut gzip = strata_image::Encoder::new(Vec::new(), strata_oci::Compression::Gzip, None);
    std::io::Write::write_all(&mut gzip, &tar).expect("compressed");
    let gzip = gzip.finish().expect("compressed");
    assert_eq!(build("build -o - -", &gzip).len(), 1);
}

#[test]
fn a_dockerfile_on_standard_input() {
    let session = Session::with(&[("a", "x")]);
    let output = session.run_with("build -o - -", b"FROM scratch\nCOPY <<a /\n1\na\n");
    assert_eq!(paths(&output.stdout), ["a"]);
    let output = session.run_with("build -o - -f - .", b"FROM scratch\nCOPY a /b\n");
    assert_eq!(paths(&output.stdout), ["b"]);
    let check = |line: &str, expected: &str| {
        let output = session.run_with(line, b"FROM scratch\nCOPY a /b\n");
        let talk = String::from_utf8_lossy(&output.stderr);
        assert!(talk.contains(expected), "{talk}");
        assert!(matches!(output.status.code(), Some(1 | 2)), "{talk}");
    };
    check("build -", "`/a` is not in the build context");
    check("build -f - -", "standard input can not be both the context and the Dockerfile");
    check("build -f x -", "standard input is a Dockerfile, since it is no archive");
}

#[test]
fn contexts_over_http_and_from_repositories() {
    let (server, repositories) = (Server::new(), Repositories::new());
    let dockerfile = "FROM scratch\nCOPY . /\n";
    let tar = tar_of(&[("dockerfile", dockerfile), ("a", "x")]);
    server.put("c.tar", Answer::File(tar, DATED));
    server.put("file", Answer::File(dockerfile.as_bytes().to_vec(), &[]));
    repositories.commit("r", &[("Dockerfile", "FROM scratch\nCOPY . /\n"), ("d/b", "y")]);
    repositories.commit("r", &[("d/Dockerfile", "FROM scratch\nCOPY b /c\n")]);
    let session = Session::new();
    let build = |line: &str| paths(&session.stdout(&format!("build -o - {line}")));
    assert_eq!(build(&server.url("c.tar")), ["a", "dockerfile"]);
    server.requests();
    assert_eq!(build(&server.url("c.tar")), ["a", "dockerfile"]);
    assert_eq!(server.requests(), ["/c.tar 304"]);
    assert_eq!(build(&server.url("file")), ["context"]);
    let repository = repositories.url("r");
    assert_eq!(build(&repository), ["Dockerfile", "d/Dockerfile", "d/b"]);
    assert_eq!(build(&format!("{repository}#main:d")), ["c"]);
    let kept = build(&format!("--build-arg BUILDKIT_CONTEXT_KEEP_GIT_DIR=1 {repository}"));
    assert!(kept.contains(&".git/HEAD".to_owned()), "{kept:?}");
    // A Dockerfile from elsewhere, over files of this machine.
    session.write("own", "1");
    assert_eq!(build(&format!("-f {} .", server.url("file"))), ["own"]);
    let none = said(&session, &format!("build -f none {repository}"));
    assert!(none.contains("there is no Dockerfile `none` in git://"), "{none}");
}

#[test]
fn named_contexts_of_all_kinds() {
    let (server, repositories) = (Server::new(), Repositories::new());
    server.put("c.tar.gz", Answer::File(tar_of(&[("a", "x")]), &[]));
    server.put("f", Answer::File(b"y".to_vec(), &[]));
    repositories.commit("r", &[("b", "z")]);
    let dockerfile = "FROM scratch AS base\nFROM base\nCOPY --from=tar a /\nCOPY --from=git b /\n\
                      COPY --from=lone context /\nCOPY --from=dir . /d/\n";
    let session = Session::with(&[
        ("Dockerfile", dockerfile),
        ("other/c", "1"),
        ("other/d", "2"),
        ("other/.dockerignore", "d"),
    ]);
    let line = format!(
        "build -o - --build-context tar={} --build-context lone={} --build-context git={} \
         --build-context dir=other .",
        server.url("c.tar.gz"),
        server.url("f"),
        repositories.url("r"),
    );
    let expected = ["a", "b", "context", "d/.dockerignore", "d/c"];
    assert_eq!(paths(&session.stdout(&line)), expected);
    // What no step wants is not fetched.
    session.write("Dockerfile", "FROM scratch\nCOPY --from=tar a /\n");
    server.requests();
    session.stdout(&line);
    assert_eq!(server.requests(), ["/c.tar.gz 200"]);
}
