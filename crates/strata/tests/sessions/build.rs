//! Builds of COPY and metadata on an empty base, and what comes out of them.

use crate::session::{Session, files_in};

const DOCKERFILE: &str = "FROM scratch\nCOPY a /a\nENV X=y\nCOPY src /src\nCMD [\"/a\"]\n";

fn project() -> Session {
    Session::with(&[("Dockerfile", DOCKERFILE), ("a", "one\n"), ("src/b", "two\n")])
}

#[test]
fn a_second_build_finds_everything() {
    let session = project();
    let first = "\
exit code 0
--- stderr
#0 [internal] scan build context: 2 files, 8B, [N] read
#1 [1/2] COPY a /a
#1 why: first build
#1 DONE [TIME]
#2 [2/2] COPY src /src
#2 why: first build
#2 DONE [TIME]
image sha256:[ID]
named app:latest
2 steps: 0 cached, 2 ran in [TIME]
";
    session.check("build --jobs 1 -t app .", first);
    let id = session.stdout_text("build -q .");
    let again = "\
exit code 0
--- stderr
#0 [internal] scan build context: 2 files, 8B, [N] read
#1 [1/2] COPY a /a
#1 CACHED
#2 [2/2] COPY src /src
#2 CACHED
image sha256:[ID]
named app:2
named app:3
2 steps: 2 cached, 0 ran in [TIME]
";
    session.check("build --jobs 1 -t app:2 -t app:3 .", again);
    assert_eq!(session.stdout_text("build --progress quiet ."), id);
    assert!(id.starts_with("sha256:") && id.len() == 71, "{id}");
}

#[test]
fn says_which_file_it_was() {
    let session = project();
    session.stdout("build .");
    session.write("src/b", "three\n");
    session.write("src/c", "four\n");
    let output = session.command("build .").output().expect("it runs");
    let talk = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(talk.contains("#1 CACHED\n"), "{talk}");
    assert!(talk.contains("#2 why: 2 files changed: src/b (content), src/c (added)\n"), "{talk}");
    let forced = session.command("build --no-cache .").output().expect("it runs");
    let talk = String::from_utf8_lossy(&forced.stderr).into_owned();
    assert!(talk.contains("#1 why: forced: the cache was not to be used\n"), "{talk}");
}

#[test]
fn arguments_come_from_the_command_line_or_the_environment() {
    let dockerfile = "FROM scratch\nARG TO=default\nARG FROM_ENV\nCOPY a /$TO-$FROM_ENV\n";
    let session = Session::with(&[("Dockerfile", dockerfile), ("a", "x")]);
    let session = session.variable("FROM_ENV", "env");
    let tar = session.stdout("build --build-arg TO=here --build-arg FROM_ENV -o - .");
    assert_eq!(files_in(&tar), [("here-env".to_owned(), "x".to_owned())]);
}

#[test]
fn the_result_in_every_form() {
    let session = project();
    let expected = [("a", "one\n"), ("src/", ""), ("src/b", "two\n")]
        .map(|(p, c)| (p.to_owned(), c.to_owned()));
    assert_eq!(files_in(&session.stdout("build -o type=tar .")), expected);
    session.stdout("build -o out -o type=oci,dest=oci.tar -o type=docker,dest=docker.tar -t app .");
    assert_eq!(
        (session.read("out/a"), session.read("out/src/b")),
        ("one\n".into(), "two\n".into())
    );
    let names = |archive: &str| {
        let bytes = std::fs::read(session.path(archive)).expect(archive);
        files_in(&bytes).into_iter().map(|(name, _)| name).collect::<Vec<_>>()
    };
    let oci = names("oci.tar");
    assert!(oci.contains(&"index.json".to_owned()) && oci.contains(&"oci-layout".to_owned()));
    assert!(names("docker.tar").contains(&"manifest.json".to_owned()));
    session.stdout("build -o type=oci,dest=layout,tar=false,compression=zstd .");
    assert!(session.path("layout/index.json").exists());
}

#[test]
fn what_was_written_can_be_built_on() {
    let session = project();
    session.stdout("build -t base -o type=oci,dest=base.tar .");
    session.write("next/Dockerfile", "FROM base\nCOPY c /c\n");
    session.write("next/c", "three\n");
    let direct = session.stdout_text("build -q next");
    let archive = session.stdout_text("build -q --build-context base=base.tar next");
    assert_eq!(direct, archive);
    let paths: Vec<String> =
        files_in(&session.stdout("build -o - next")).into_iter().map(|(path, _)| path).collect();
    assert_eq!(paths, ["a", "c", "src/", "src/b"]);
}

#[test]
fn ids_and_metadata_go_to_files() {
    let session = project();
    session.stdout("build -t app --iidfile iid --metadata-file metadata .");
    let id = session.read("iid");
    assert_eq!(id, session.stdout_text("build -q ."));
    let metadata: serde_json::Value =
        serde_json::from_str(&session.read("metadata")).expect("JSON");
    assert_eq!(metadata["containerimage.config.digest"], id);
    assert_eq!(metadata["image.name"], "docker.io/library/app:latest");
}

#[test]
fn the_dockerfile_is_found_where_docker_finds_it() {
    let session = Session::with(&[("ctx/a", "x"), ("ctx/dockerfile", "FROM scratch\nCOPY a /a\n")]);
    let id = session.stdout_text("build -q ctx");
    session.write("other/D", "FROM scratch\nCOPY a /a\n");
    assert_eq!(session.stdout_text("build -q -f other/D ctx"), id);
    let output = session.run_with("build -q -f - ctx", b"FROM scratch\nCOPY a /a\n");
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim_end(), id);
    session.write("other/D.dockerignore", "a\n");
    let output = session.command("build -q -f other/D ctx").output().expect("it runs");
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn rawjson_is_one_object_for_each_event() {
    let session = project();
    let output = session.command("build --progress rawjson .").output().expect("it runs");
    assert!(output.stdout.is_empty());
    let talk = String::from_utf8(output.stderr).expect("text");
    let event = |line: &str| {
        let object: serde_json::Value = serde_json::from_str(line).expect(line);
        assert!(object["seconds"].is_number(), "{line}");
        object["event"].as_str().expect("an event").to_owned()
    };
    let events: Vec<String> = talk.lines().map(event).collect();
    assert_eq!(events[..2], ["planned", "scanned"]);
    assert_eq!(events.last().map(String::as_str), Some("built"));
    assert_eq!(events.iter().filter(|event| *event == "done").count(), 2);
}

#[test]
fn two_homes_give_one_image() {
    // Layers have the times of the files, which are equal in a copy too.
    let at = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_600_000_000);
    let ids = [(); 2].map(|()| {
        let session = project();
        for name in ["a", "src/b", "src"] {
            let file = std::fs::File::open(session.path(name)).expect(name);
            file.set_modified(at).expect("a time");
        }
        session.stdout_text("build -q .")
    });
    assert_eq!(ids[0], ids[1]);
}

#[test]
fn flags_of_docker_that_mean_nothing_here() {
    let session = project();
    let id = session.stdout_text("build -q .");
    assert_eq!(session.stdout_text("build -q --rm --force-rm=true --compress --squash ."), id);
    let output = session.command("build --squash .").output().expect("it runs");
    let talk = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(talk.starts_with("warning: `--squash` is not done"), "{talk}");
}

#[test]
fn a_pipe_is_written_to_and_not_replaced() {
    use std::os::unix::fs::FileTypeExt;
    let session = project();
    let pipe = session.path("pipe");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().expect("mkfifo").success());
    let reader = std::thread::spawn({
        let pipe = pipe.clone();
        move || std::fs::read(pipe).expect("a tar")
    });
    session.stdout("build -q -o type=tar,dest=pipe .");
    let is_pipe = std::fs::metadata(&pipe).expect("it is there").file_type().is_fifo();
    assert!(is_pipe);
    assert_eq!(files_in(&reader.join().expect("it ends"))[0].0, "a");
}
