//! Every column of the report, worked out by hand.

use strata_replay::{Request, Scheme};

use crate::support::{NODE, Repo};

/// Nine commits; the comments say which of the five steps hit.
fn nine_commits() -> Repo {
    let mut repo = Repo::new();
    let labelled = NODE.replace("FROM node:22\n", "FROM node:22\nLABEL a=b\n");
    // Nothing is there: not scored.
    repo.commit(&[
        ("Dockerfile", Some(NODE)),
        ("package.json", Some("{}")),
        ("src/a.js", Some("1")),
        ("README.md", Some("hello")),
    ]);
    // COPY . . and the build: 3 of 5.
    repo.commit(&[("src/a.js", Some("22"))]);
    // The same; only documentation: 3 of 5.
    repo.commit(&[("README.md", Some("hello!"))]);
    // Only apt-get is left: 1 of 5.
    repo.commit(&[("package.json", Some("{ }"))]);
    // Back to what the third build was: 5 of 5.
    repo.commit(&[("package.json", Some("{}"))]);
    // Metadata only, and a comment. COPY . . brings the Dockerfile, so it misses: 3 of 5.
    repo.commit(&[("Dockerfile", Some(&labelled))]);
    // The ignore file appears, the documentation and itself go: 3 of 5.
    repo.commit(&[(".dockerignore", Some("*.md\n.dockerignore\nDockerfile\n"))]);
    // What is ignored changes: 5 of 5.
    repo.commit(&[("README.md", Some("bye"))]);
    // It does not parse: not built.
    repo.commit(&[("Dockerfile", Some("FROM node:22\nRUNN x\n"))]);
    repo
}

#[test]
fn all_columns() {
    let repo = nine_commits();
    let report = repo.report(&Request::new("Dockerfile"));
    assert_eq!((report.builds.commits, report.builds.built, report.builds.scored), (9, 8, 7));
    assert_eq!(report.builds.not_built.len(), 1);
    assert!(report.builds.not_built[0].reason.contains("RUNN"), "{:?}", report.builds.not_built);

    let check = |name: &str, steps: u64, again: u64, no_run: u64| {
        let scheme = report.schemes.iter().find(|one| one.scheme == name).expect(name);
        assert_eq!((scheme.steps.hits, scheme.steps.of), (steps, 35), "{name}");
        assert_eq!(scheme.previous_build.hits, again, "{name} against the build before");
        assert_eq!((scheme.no_run.hits, scheme.no_run.of), (no_run, 7), "{name}");
    };
    check("strata", 3 + 3 + 1 + 5 + 3 + 3 + 5, 3 + 3 + 1 + 1 + 3 + 3 + 5, 2);
    check("strata-link", 23, 19, 2);
    check("buildkit", 23, 19, 2);
    check("strata-definition", 23, 19, 2);
    // The label changes every step after it: none of the sixth build's hits.
    check("classic", 23 - 3, 19 - 3, 2);
    // The build looks at the sources alone, npm ci at package.json alone.
    check("read-set-estimate", 3 + 4 + 1 + 5 + 4 + 4 + 5, 3 + 4 + 1 + 1 + 4 + 4 + 5, 5);
}

#[test]
fn time_and_tails() {
    let report = nine_commits().report(&Request::new("Dockerfile"));
    let main = report.main().expect("a scheme");
    // FROM 0.5, apt-get 20, COPY 0.5, npm ci 45, COPY 0.5, the build 120.
    let all = 186_500;
    let without_build = all - 120_500;
    let saved = 4 * without_build + 20_500 + 2 * all;
    assert_eq!((main.time.hits, main.time.of), (saved, 7 * all));
    assert_eq!((main.p10, main.p50), (20.0, 60.0));
    assert_eq!(main.classes["installer"].hits, 6);
    assert_eq!(main.classes["build"].hits, 2);
    assert_eq!(report.model.time, "class model");
}

#[test]
fn instructions_and_why_they_missed() {
    let report = nine_commits().report(&Request::new("Dockerfile"));
    let row = |text: &str| report.instructions.iter().find(|one| one.text == text).expect("a row");
    let copy = row("COPY . .");
    assert_eq!((copy.hits.hits, copy.hits.of, copy.line), (2, 7, 6));
    assert_eq!(copy.misses.iter().map(|(k, v)| (&**k, *v)).collect::<Vec<_>>(), [("files", 5)]);
    assert!((copy.lost_seconds - 2.5).abs() < 1e-9 && copy.current);
    let install = row("RUN npm ci");
    assert_eq!((install.hits.hits, &*install.class), (6, "installer"));
    assert_eq!(install.misses["upstream"], 1);
    assert!((install.schemes["read-set-estimate"] - 85.71).abs() < 1e-9);
    assert!((install.saved_seconds - 270.0).abs() < 1e-9);
    assert_eq!(row("RUN apt-get install -y git").hits.hits, 7);
}

#[test]
fn commits_and_their_witnesses() {
    let report = nine_commits().report(&Request::new("Dockerfile"));
    assert_eq!(report.commits.len(), 8);
    let check = |number: usize, hits: u64, lost: f64, witness: &[&str]| {
        let commit = &report.commits[number];
        assert_eq!(commit.hits.hits, hits, "{number}");
        assert!((commit.lost_seconds - lost).abs() < 1e-9, "{number}: {}", commit.lost_seconds);
        let found = commit.first_miss.as_ref().map(|miss| miss.witness.clone());
        assert_eq!(found.unwrap_or_default(), witness, "{number}");
        assert_eq!(commit.runs, hits < 5, "{number}");
    };
    check(1, 3, 120.5, &[" src/a.js"]);
    check(2, 3, 120.5, &[" README.md"]);
    check(3, 1, 166.0, &[" package.json"]);
    check(4, 5, 0.0, &[]);
    check(5, 3, 120.5, &[" Dockerfile"]);
    check(6, 3, 120.5, &["-Dockerfile", "-README.md"]);
    check(7, 5, 0.0, &[]);
    let first = report.commits[3].first_miss.as_ref().expect("a miss");
    assert_eq!((&*first.instruction, &*first.cause), ("COPY package.json .", "files"));
    // a.js went from 1 byte to 2; nothing else was to be hashed, and it had not been seen.
    assert_eq!((report.commits[1].hashed_bytes, report.commits[1].stored_bytes), (2, 2));
    // package.json is 2 bytes again, which are known.
    assert_eq!((report.commits[4].hashed_bytes, report.commits[4].stored_bytes), (2, 0));
    let labelled = (NODE.len() + "LABEL a=b\n".len()) as u64;
    assert_eq!(report.commits[5].context_bytes, labelled + 2 + 2 + 6);
    assert_eq!(report.commits[7].context_files, 2);
}

#[test]
fn files_and_what_they_broke() {
    let report = nine_commits().report(&Request::new("Dockerfile"));
    let check = |path: &str, broke: u64, alone: u64, lost: f64, line: Option<&str>| {
        let file = report.files.iter().find(|file| file.path == path).expect(path);
        assert_eq!((file.broke, file.alone), (broke, alone), "{path}");
        assert!((file.lost_seconds - lost).abs() < 1e-9, "{path}: {}", file.lost_seconds);
        assert_eq!(file.ignore_line.as_deref(), line, "{path}");
    };
    check("package.json", 1, 1, 166.0, None);
    check("src/a.js", 1, 1, 120.5, None);
    check("README.md", 2, 1, 120.5 + 60.25, Some("/README.md"));
    check("Dockerfile", 2, 1, 120.5 + 60.25, Some("/Dockerfile"));
    assert_eq!(report.files_total, 4);
}

#[test]
fn another_stage_is_known_by_what_can_have_touched_its_files() {
    let dockerfile = "FROM golang AS build\n\
        RUN apk add ca-certificates\n\
        COPY . /src\n\
        RUN go build -o /out/app ./src\n\
        FROM scratch\n\
        COPY --from=build /etc/ssl/certs /etc/ssl/certs\n\
        COPY --from=build /out/app /app\n";
    let mut repo = Repo::new();
    let ignored = (".dockerignore", Some("Dockerfile"));
    repo.commit(&[("Dockerfile", Some(dockerfile)), ("a.go", Some("1")), ignored]);
    repo.commit(&[("a.go", Some("2"))]);
    let tally = repo.replay(&Request::new("Dockerfile"));
    // apk; then the certificates, which no build touches, but not what was built.
    assert_eq!(tally.steps(Scheme::Strata), (2, 5));
    assert_eq!(tally.steps(Scheme::BuildKit), (2, 5));
    // By how the stage came about, nothing of it can be told apart.
    assert_eq!(tally.steps(Scheme::Definition), (1, 5));
    assert_eq!(tally.steps(Scheme::Classic), (1, 5));
    // Another file of an unchanged stage is another step under all of them.
    let other = dockerfile.replace("/out/app /app", "/out/tool /app");
    repo.commit(&[("Dockerfile", Some(&other))]);
    let tally = repo.replay(&Request::new("Dockerfile"));
    assert_eq!(tally.steps(Scheme::Strata), (2 + 4, 5 + 5));
    assert_eq!(tally.steps(Scheme::BuildKit), (2 + 4, 5 + 5));
    assert_eq!(tally.steps(Scheme::Definition), (1 + 4, 5 + 5));
    assert_eq!(tally.steps(Scheme::Classic), (1 + 4, 5 + 5));
}

#[test]
fn a_copy_that_stands_for_itself_survives_what_is_above_it() {
    let dockerfile = "FROM debian\nCOPY a /a\nCOPY b /b\nRUN make\n";
    let mut repo = Repo::new();
    repo.commit(&[("Dockerfile", Some(dockerfile)), ("a", Some("1")), ("b", Some("1"))]);
    repo.commit(&[("a", Some("2"))]);
    let tally = repo.replay(&Request::new("Dockerfile"));
    assert_eq!(tally.steps(Scheme::Strata), (0, 3));
    assert_eq!(tally.steps(Scheme::Link), (1, 3));
}

#[test]
fn what_is_fetched_is_its_address() {
    let of = |url: &str| format!("FROM debian\nADD {url} /a\nCOPY a /b\n");
    let mut repo = Repo::new();
    repo.commit(&[("Dockerfile", Some(&of("https://example.com/1.tar"))), ("a", Some("1"))]);
    repo.commit(&[("a", Some("2"))]);
    assert_eq!(repo.replay(&Request::new("Dockerfile")).steps(Scheme::Strata), (1, 2));
    repo.commit(&[("Dockerfile", Some(&of("https://example.com/2.tar")))]);
    assert_eq!(repo.replay(&Request::new("Dockerfile")).steps(Scheme::Strata), (1, 4));
}

#[test]
fn equal_commits_give_equal_bytes() {
    let repo = nine_commits();
    let json = || serde_json::to_string(&repo.report(&Request::new("Dockerfile"))).expect("JSON");
    let (one, other) = (json(), json());
    assert_eq!(one, other);
    let read: strata_replay::Report = serde_json::from_str(&one).expect("a report");
    assert_eq!(serde_json::to_string(&read).expect("JSON"), one);
}

#[test]
fn the_report_does_not_drift() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/strata.replay.1.json");
    let report = nine_commits().report(&Request::new("Dockerfile"));
    let now = serde_json::to_string_pretty(&report).expect("JSON") + "\n";
    let golden = std::fs::read_to_string(path).unwrap_or_else(|_| {
        std::fs::write(path, &now).expect("written");
        String::new()
    });
    assert_eq!(now, golden, "a changed meaning needs another schema; then remove {path}");
}
