//! `strata replay` as its user sees it. The histories are made with git's own command.

use std::process::Command;

use crate::session::Session;

/// Runs git in the project, as nobody in particular, at a fixed time.
fn git(session: &Session, line: &str) {
    let mut command = Command::new("git");
    command.args(line.split_whitespace()).current_dir(session.path(""));
    command.env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_SYSTEM", "/dev/null");
    for who in ["AUTHOR", "COMMITTER"] {
        command.env(format!("GIT_{who}_NAME"), "a").env(format!("GIT_{who}_EMAIL"), "a@b");
        command.env(format!("GIT_{who}_DATE"), "1700000000 +0000");
    }
    let output = command.output().expect("git is installed");
    assert!(output.status.success(), "git {line}: {}", String::from_utf8_lossy(&output.stderr));
}

fn commit(session: &Session, files: &[(&str, &str)]) {
    files.iter().for_each(|(name, text)| session.write(name, text));
    git(session, "add -A");
    git(session, "commit -q -m change");
}

const DOCKERFILE: &str = "FROM scratch\nCOPY lib /lib\nCOPY . /app\n";

/// Four commits: a first one, the application, its library, documentation.
fn project() -> Session {
    let session = Session::new();
    git(&session, "init -q -b main");
    commit(
        &session,
        &[
            ("Dockerfile", DOCKERFILE),
            (".dockerignore", ".git\n"),
            ("lib/a", "1"),
            ("app.js", "1"),
            ("docs/a.md", "1"),
        ],
    );
    commit(&session, &[("app.js", "2")]);
    commit(&session, &[("lib/a", "2")]);
    commit(&session, &[("docs/a.md", "2")]);
    session
}

fn json(session: &Session, line: &str) -> serde_json::Value {
    serde_json::from_str(&session.stdout_text(line)).expect("JSON")
}

#[test]
fn a_checkout_needs_no_flags() {
    let session = project();
    let said = session.stdout_text("replay");
    assert!(said.starts_with("work: 4 commits from "), "{said}");
    assert!(said.contains("4 built, 3 scored"), "{said}");
    assert!(said.contains("strata               33.3%"), "{said}");
    // From a directory of it, that is the context.
    session.write("lib/Dockerfile", "FROM scratch\nCOPY a /\n");
    git(&session, "add -A");
    git(&session, "commit -q -m lib");
    let report = json(&session, "replay lib --format json");
    assert_eq!(report["subject"]["context"], "lib");
    assert_eq!(report["subject"]["dockerfile"], "lib/Dockerfile");
    assert_eq!(report["builds"]["built"], 1);
}

#[test]
fn gates() {
    let session = project();
    session.stdout("replay --format json -o base.json");
    let same = session.command("replay --compare base.json --fail-under 33%").output();
    assert!(same.expect("it runs").status.success());
    let output = session.command("replay --fail-under 60%").output().expect("it runs");
    let talk = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(talk, "error: 33.33% of steps hit, 60% are asked for\n");
    commit(&session, &[("lib/a", "3")]);
    let worse = session.command("replay --compare base.json").output().expect("it runs");
    let talk = String::from_utf8_lossy(&worse.stderr);
    assert_eq!(worse.status.code(), Some(1));
    assert!(talk.contains("error: steps: 33.33% before, 25.00% now"), "{talk}");
}

#[test]
fn what_if_and_advice_as_a_patch_that_git_takes() {
    let session = project();
    let with = json(&session, "replay --ignore docs --format json");
    assert_eq!(with["what_ifs"][0]["without"][0], 33.33);
    assert_eq!(with["what_ifs"][0]["with"][0], 50.0);
    let report = json(&session, "replay --advise --format json");
    let promised = report["advice"]["together"]["with"][0].clone();
    session.write("a.patch", report["advice"]["patch"].as_str().expect("a patch"));
    git(&session, "apply a.patch");
    std::fs::remove_file(session.path("a.patch")).expect("removed");
    let line = "replay --what-if Dockerfile --what-if-ignore .dockerignore --format json";
    assert_eq!(json(&session, line)["what_ifs"][0]["with"][0], promised);
    assert!(session.read(".dockerignore").contains("/docs\n"));
}

#[test]
fn real_builds_hit_what_was_predicted() {
    let session = project();
    let report = json(&session, "replay --execute --format json");
    let builds = report["execution"]["builds"].as_array().expect("builds");
    let hits_of = |build: &serde_json::Value| {
        (build["predicted_hits"].as_u64(), build["strata"]["hits"].as_u64())
    };
    let hits: Vec<_> = builds.iter().map(hits_of).collect();
    let both = |count| (Some(count), Some(count));
    assert_eq!(hits, [both(0), both(1), both(0), both(1)]);
    assert!(builds.iter().all(|build| build["strata"]["built"] == true));
    // Now all is there, and what is there gives the same when it is made again.
    let report = json(&session, "replay --execute --audit 100% --format json");
    assert_eq!(report["execution"]["audited"], 8);
    assert_eq!(report["execution"]["differing"].as_array().expect("a list").len(), 0);
    // A counterfactual is built, too: nothing below `docs` breaks anything any more.
    let line = "replay --execute --ignore docs --store other --format json";
    let report = json(&session, line);
    let builds = report["execution"]["builds"].as_array().expect("builds");
    let hits: Vec<_> = builds.iter().map(hits_of).collect();
    assert_eq!(hits, [both(0), both(1), both(0), both(2)]);
    // Another builder's command gets the same Dockerfile and context.
    let mut command = session.command("replay --execute=2 --format json --with");
    let output = command.arg("echo STEP 1/1: COPY").output().expect("it runs");
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let peer = &report["execution"]["builds"][1]["peer"];
    assert_eq!((peer["built"].as_bool(), peer["steps"].as_u64()), (Some(true), Some(1)));
}

#[test]
fn stats_are_of_real_builds_and_their_costs_can_be_replayed() {
    let session = project();
    assert_eq!(session.stdout_text("stats"), "no build is remembered");
    session.stdout("build .");
    session.write("app.js", "3");
    session.stdout("build .");
    let stats = json(&session, "stats --format json");
    let all = &stats["projects"][0]["all"];
    // COPY lib is there the second time.
    assert_eq!((all["hits"].as_u64(), all["steps"].as_u64()), (Some(1), Some(4)));
    assert_eq!((all["builds"].as_u64(), all["no_run_percent"].as_f64()), (Some(2), Some(100.0)));
    let text = session.stdout_text("stats --last 1");
    assert!(text.contains("1 builds, 0 failed") && text.contains("50.0% of steps"), "{text}");
    let report = json(&session, "replay --measured --format json");
    assert_eq!(report["model"]["time"], "measured");
    let report = json(&session, "replay --format json");
    assert_eq!(report["model"]["time"], "class model");
}

#[test]
fn other_forms() {
    let session = project();
    session.stdout("replay --format html -o page.html --policies");
    let page = session.read("page.html");
    assert!(page.starts_with("<!doctype html>") && page.ends_with("</html>\n"));
    assert!(!page.contains("<script") && !page.contains("http://") && !page.contains("https://"));
    assert_eq!(page.matches("<svg").count(), page.matches("</svg>").count());
    let trace = json(&session, "replay --format trace");
    assert_eq!(trace["traceEvents"].as_array().expect("events").len(), 1 + 2 * 4);
}

#[test]
fn what_can_not_be_replayed_says_why() {
    let session = Session::new();
    session.check(
        "replay nowhere",
        "exit code 2\n--- stderr\nerror: cannot open the repository `nowhere`: \
         no such file or directory\n",
    );
    git(&session, "init -q -b main");
    session.check(
        "replay",
        "exit code 2\n--- stderr\nerror: the repository's HEAD names no commit\n\
         hint: it has no branch either\n",
    );
    commit(&session, &[("docker/prod.Dockerfile", DOCKERFILE)]);
    session.check(
        "replay",
        "exit code 2\n--- stderr\nerror: no commit of this range has a Dockerfile in its context\n\
         hint: is it `-f docker/prod.Dockerfile`?\n",
    );
    session.check("replay --range x..y", "exit code 2\n--- stderr\nerror: `x` names no commit\n");
    session.check(
        "replay --fail-under much -f docker/prod.Dockerfile",
        "exit code 2\n--- stderr\nerror: `--fail-under much`: \
         a share from 0% to 100% is expected\n",
    );
}
