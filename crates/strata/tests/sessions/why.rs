//! Why steps ran: what is told during a build and afterwards, word by word. Reasons that need a
//! command are in the tests of whole builds.

use crate::session::Session;

const DOCKERFILE: &str = "FROM scratch\nCOPY a /a\nCOPY src /src\n";

fn project() -> Session {
    Session::with(&[("Dockerfile", DOCKERFILE), ("a", "one\n"), ("src/b", "two\n")])
}

/// The reasons that a build gives.
#[track_caller]
fn reasons(session: &Session, line: &str) -> Vec<String> {
    let output = session.command(line).output().expect("it runs");
    let talk = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{talk}");
    let reasons = talk.lines().filter_map(|line| line.split_once(" why: "));
    reasons.map(|(step, why)| format!("{step} {why}")).collect()
}

#[test]
fn first_forced_and_evicted() {
    let session = project();
    assert_eq!(reasons(&session, "build --jobs 1 ."), ["#1 first build", "#2 first build"]);
    assert_eq!(reasons(&session, "build ."), [""; 0]);
    let forced = "forced: the cache was not to be used";
    assert_eq!(reasons(&session, "build --rerun 2 ."), [format!("#2 {forced}")]);
    assert_eq!(reasons(&session, "build --rerun=src ."), [format!("#2 {forced}")]);
    let all = [format!("#1 {forced}"), format!("#2 {forced}")];
    assert_eq!(reasons(&session, "build --jobs 1 --no-cache ."), all);
    for stage in ["0", "stage-0", "x,STAGE-0"] {
        assert_eq!(reasons(&session, &format!("build --jobs 1 --no-cache-filter {stage} .")), all);
    }
    let unknown = session.command("build --no-cache-filter web .").output().expect("it runs");
    let talk = String::from_utf8_lossy(&unknown.stderr).into_owned();
    assert!(talk.contains("no stage of this build is called `web`"), "{talk}");
}

#[test]
fn files() {
    use std::os::unix::fs::PermissionsExt;
    let session = project();
    session.stdout("build .");
    session.write("src/b", "three\n");
    session.write("src/c", "four\n");
    let expected = "#2 2 files changed: src/b (content), src/c (added)";
    assert_eq!(reasons(&session, "build ."), [expected]);
    let mode = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(session.path("src/b"), mode).expect("chmod");
    let expected = "#2 1 file changed: src/b (mode 0644 to 0755)";
    assert_eq!(reasons(&session, "build ."), [expected]);
    std::fs::remove_file(session.path("src/c")).expect("removed");
    assert_eq!(reasons(&session, "build ."), ["#2 1 file changed: src/c (removed)"]);
    for number in 0..7 {
        session.write(&format!("src/n{number}"), "x");
    }
    let named: Vec<String> = (0..5).map(|number| format!("src/n{number} (added)")).collect();
    let expected = format!("#2 7 files changed: {}, 2 more", named.join(", "));
    assert_eq!(reasons(&session, "build ."), [expected]);
}

#[test]
fn instructions() {
    let session = project();
    session.stdout("build .");
    session.write("Dockerfile", "FROM scratch\nCOPY a /b\nCOPY src /src\n");
    let expected = ["#1 destination changed from /a to /b"];
    let found = reasons(&session, "build --jobs 1 .");
    assert_eq!(found[..1], expected);
    assert_eq!(
        found[1],
        "#2 an earlier step gave another tree: 2 files changed: a (removed), b (added)"
    );
    // Lines above move the others: each is compared with itself.
    session.write("Dockerfile", "FROM scratch\nCOPY Dockerfile /\nCOPY a /b\nCOPY src /src\n");
    let found = reasons(&session, "build --jobs 1 .");
    let above = "an earlier step gave another tree: 1 file changed: Dockerfile (added)";
    let expected = [
        "#1 new: the build before did not have this instruction".to_owned(),
        format!("#2 {above}"),
        format!("#3 {above}"),
    ];
    assert_eq!(found, expected);
}

/// To and fro between two branches: each change is told against the branch's own last build.
#[test]
fn against_the_nearest_build_not_the_last_one() {
    let session = project();
    let branch = |name: &str, last: &str| {
        for file in ["c", "d", "e", "f"] {
            session.write(&format!("src/{file}"), &format!("{name} {file}"));
        }
        session.write("src/b", last);
    };
    branch("main", "1");
    session.stdout("build .");
    branch("feature", "1");
    session.stdout("build .");
    branch("main", "2");
    assert_eq!(reasons(&session, "build ."), ["#2 1 file changed: src/b (content)"]);
    branch("feature", "1");
    assert_eq!(reasons(&session, "build ."), [""; 0]);
    branch("feature", "3");
    assert_eq!(reasons(&session, "build ."), ["#2 1 file changed: src/b (content)"]);
}

#[test]
fn a_time_limit() {
    let session = project();
    let limited = DOCKERFILE.replace("COPY src", "# cache: ttl=0s\nCOPY src");
    session.write("Dockerfile", &limited);
    session.stdout("build .");
    std::thread::sleep(std::time::Duration::from_millis(2100));
    let found = reasons(&session, "build .");
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].starts_with("#2 older than its ttl of 0s: it ran "), "{found:?}");
    // A limit is in no key.
    session.write("Dockerfile", &limited.replace("0s", "1h"));
    assert_eq!(reasons(&session, "build ."), [""; 0]);
    session.write("Dockerfile", &limited.replace("0s", "soon"));
    let output = session.command("build .").output().expect("it runs");
    let talk = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{talk}");
    assert!(talk.contains("`soon` is not a time"), "{talk}");
}

#[test]
fn afterwards() {
    let session = project();
    session.check(
        "why",
        "exit code 1\n--- stderr\nerror: no build is remembered in this store\n\
         hint: see `strata builds` for those that are remembered\n",
    );
    session.stdout("build -t app .");
    session.write("src/b", "three\n");
    session.stdout("build .");
    let step = "\
exit code 0
--- stdout
#2 [2/2] COPY src /src
    ran in [TIME]
    1 file changed
      src/b: content: 4B b93a2d4a9e87 to 6B 4f1f9f5bb4a6
";
    let digest = |text: &str| strata_cas::BlobId::of(text.as_bytes()).to_string()[..12].to_owned();
    let step = step.replace("b93a2d4a9e87", &digest("two\n"));
    let step = step.replace("4f1f9f5bb4a6", &digest("three\n"));
    for line in ["why 2", "why src", "why 0.2", "why --build 1 2"] {
        session.check(line, &step);
    }
    assert!(session.stdout_text("why --build 2").contains("#2 [2/2] COPY src /src\n    ran in"));
    assert!(session.stdout_text("why --build 2 a").ends_with("first build"));
    let whole = session.stdout_text("why");
    assert!(whole.contains("#1 [1/2] COPY a /a\n    cached\n#2 "), "{whole}");
    let json: serde_json::Value =
        serde_json::from_str(&session.stdout_text("why 2 --format json")).expect("JSON");
    let file = &json["why"]["changes"][0]["listed"][0];
    assert_eq!((&file["path"], &file["old"]["size"]), (&"src/b".into(), &4.into()));
    let builds = session.stdout_text("builds --format json");
    let builds: Vec<serde_json::Value> =
        builds.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!((&builds[0]["cached"], &builds[0]["ran"]), (&1.into(), &1.into()));
    assert_eq!(builds[1]["names"][0], "app:latest");
    let id = builds[1]["build"].as_str().expect("an id");
    assert!(session.stdout_text(&format!("why --build {}", &id[..6])).contains(id));
    session.check(
        "why nothing",
        "exit code 2\n--- stderr\nerror: no step is called `nothing`\nhint: name it by its number \
         (1 to 2), by stage and number (`build.2`), or by a part of its text\n",
    );
}

#[test]
fn verifying_says_what_is_the_same_and_changes_nothing() {
    let session = project();
    let id = session.stdout_text("build -q .");
    assert_eq!(session.stdout_text("build -q --cache-verify 100% ."), id);
    let json = session.stdout_text("why --format json");
    let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    for step in json["steps"].as_array().expect("steps") {
        assert_eq!(
            (&step["verdict"], &step["verified"]["result"]),
            (&"hit".into(), &"same".into())
        );
    }
    let wrong = session.command("build --cache-verify 120% .").output().expect("it runs");
    assert_eq!(wrong.status.code(), Some(2));
}
