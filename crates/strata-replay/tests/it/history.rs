//! Commits, Dockerfiles and contexts of all kinds.

use gix::objs::tree::EntryKind;
use std::path::Path;
use strata_replay::{
    History, HistoryError, Order, Range, Request, Scheme, default_dockerfile, replay,
};

use crate::support::Repo;

const SMALL: &str = "FROM a\nCOPY src /src\nRUN make\n";

fn ids(repo: &Repo, revisions: Option<&str>, last: Option<usize>, order: Order) -> Vec<String> {
    let range = Range { revisions: revisions.map(str::to_owned), last, order };
    let (commits, gap) = repo.history().commits(&range).expect("commits");
    assert_eq!(gap, None);
    commits.into_iter().map(|commit| commit.id.to_string()).collect()
}

#[test]
fn ranges_and_orders() {
    let mut repo = Repo::new();
    let a = repo.commit(&[("f", Some("1"))]);
    let b = repo.commit(&[("f", Some("2"))]);
    let side = repo.commit_on(vec![a]);
    let merge = repo.commit_on(vec![b, side]);
    let [a, b, side, merge] = [a, b, side, merge].map(|id| id.to_string());
    let check = |revisions: Option<&str>, last, order, expected: &[&String]| {
        let found = ids(&repo, revisions, last, order);
        assert_eq!(found.iter().collect::<Vec<_>>(), expected, "{revisions:?} {order:?}");
    };
    check(None, None, Order::FirstParent, &[&a, &b, &merge]);
    check(None, Some(2), Order::FirstParent, &[&b, &merge]);
    check(None, None, Order::Date, &[&a, &b, &side, &merge]);
    check(Some(&format!("{a}..main")), None, Order::FirstParent, &[&b, &merge]);
    check(Some(&format!("{b}..")), None, Order::Date, &[&side, &merge]);
    check(Some(&format!("{b}..")), None, Order::Topo, &[&side, &merge]);
    check(Some(&b), None, Order::FirstParent, &[&a, &b]);
    assert_eq!(ids(&repo, None, None, Order::Topo).len(), 4);
    let range = Range { revisions: Some("nothing..".to_owned()), ..Range::default() };
    let error = repo.history().commits(&range).expect_err("no such revision");
    assert!(matches!(error, HistoryError::NoRevision { revision } if revision == "nothing"));
}

#[test]
fn a_head_that_names_no_branch() {
    let mut repo = Repo::new();
    repo.commit(&[("f", Some("1"))]);
    std::fs::write(repo.path().join("HEAD"), "ref: refs/heads/other\n").expect("HEAD");
    assert_eq!(repo.commits().len(), 1);
    let nowhere = tempfile::tempdir().expect("a directory");
    let error = History::open(nowhere.path()).err().expect("no repository");
    assert!(matches!(error, HistoryError::NoRepository { .. }));
}

#[test]
fn a_dockerfile_appears_moves_and_goes() {
    let mut repo = Repo::new();
    repo.commit(&[("src/a", Some("1"))]);
    repo.commit(&[("build/Dockerfile.prod", Some(SMALL))]);
    repo.commit(&[("build/Dockerfile.prod", None), ("Dockerfile", Some(SMALL))]);
    repo.commit(&[("src/a", Some("2"))]);
    let found = default_dockerfile(&repo.history(), &repo.commits(), Path::new(""));
    assert_eq!(found.expect("read"), Ok("Dockerfile".into()));
    let report = repo.report(&Request::new("Dockerfile"));
    assert_eq!(report.builds.not_built.len(), 1);
    assert_eq!(report.builds.not_built[0].reason, "it has no Dockerfile");
    assert_eq!(report.builds.notes.len(), 1, "{:?}", report.builds.notes);
    assert!(report.builds.notes[0].contains("build/Dockerfile.prod"));
    assert_eq!(report.main().expect("a scheme").steps.hits, 2);
    repo.commit(&[("Dockerfile", None), ("x/Containerfile", Some(SMALL))]);
    let last = repo.commits().split_off(4);
    let others = default_dockerfile(&repo.history(), &last, Path::new("")).expect("read");
    assert_eq!(others, Err(vec!["x/Containerfile".to_owned()]));
}

#[test]
fn ignore_files_are_those_of_their_commit() {
    let mut repo = Repo::new();
    let all = "FROM a\nCOPY . /src\n";
    repo.commit(&[("Dockerfile", Some(all)), ("a", Some("1")), ("docs/b", Some("1"))]);
    repo.commit(&[(".dockerignore", Some("docs\n!docs/keep\n.dockerignore\nDockerfile*"))]);
    repo.commit(&[("docs/b", Some("2"))]);
    repo.commit(&[("docs/keep", Some("1"))]);
    // The Dockerfile's own ignore file beats the context's.
    repo.commit(&[("Dockerfile.dockerignore", Some("*\n!a"))]);
    repo.commit(&[("docs/keep", Some("2"))]);
    repo.commit(&[(".dockerignore", Some("[")), ("Dockerfile.dockerignore", None)]);
    let report = repo.report(&Request::new("Dockerfile"));
    let hits: Vec<u64> = report.commits.iter().map(|commit| commit.hits.hits).collect();
    // The fifth has `a` alone: what the second had, when `docs/b` was left out with its directory.
    assert_eq!(hits, [0, 0, 1, 0, 1, 1]);
    assert!(report.builds.not_built[0].reason.contains("ignore file"));
}

#[test]
fn links_modes_modules_and_wildcards() {
    let mut repo = Repo::new();
    let dockerfile = "FROM a\n\
        COPY link /one\n\
        COPY *.txt /two/\n\
        COPY --chmod=755 tool /three\n\
        COPY module /four\n\
        COPY --exclude=*.md docs /five\n\
        COPY **/deep.* /six/\n\
        COPY nowhere* missing /seven/\n";
    let module = "1111111111111111111111111111111111111111";
    repo.set("link", EntryKind::Link, "real");
    repo.set("module", EntryKind::Commit, module);
    repo.commit(&[
        ("Dockerfile", Some(dockerfile)),
        ("real", Some("1")),
        ("a.txt", Some("1")),
        ("tool", Some("1")),
        ("docs/a.md", Some("1")),
        ("docs/a.c", Some("1")),
        ("x/y/deep.c", Some("1")),
    ]);
    let mut check = |what: &str, change: &mut dyn FnMut(&mut Repo), misses: &[&str]| {
        let before = repo.commits().len();
        change(&mut repo);
        repo.commit(&[]);
        let commits = repo.commits().split_off(before - 1);
        let request = Request::new("Dockerfile");
        let tally = replay(&repo.history(), &commits, &request, &mut |_| true).expect("a replay");
        let study = strata_replay::Study {
            history: &repo.history(),
            commits: &commits,
            request: &request,
            main: Scheme::Link,
        };
        let report = study.report(&tally, &Range::default(), "x");
        let missed = report.instructions.iter().filter(|one| one.hits.hits == 0);
        let mut missed: Vec<&str> =
            missed.map(|one| one.text.rsplit(' ').next().unwrap_or_default()).collect();
        missed.sort_unstable();
        assert_eq!(missed, misses, "{what}");
    };
    check("what a link leads to", &mut |repo| repo.set("real", EntryKind::Blob, "2"), &["/one"]);
    check("a new match", &mut |repo| repo.set("b.txt", EntryKind::Blob, "2"), &["/two/"]);
    let executable = EntryKind::BlobExecutable;
    check("a mode that counts", &mut |r| r.set("a.txt", executable, "1"), &["/two/"]);
    check("a mode that is replaced", &mut |r| r.set("tool", executable, "1"), &[]);
    let other = "2222222222222222222222222222222222222222";
    check("a submodule", &mut |r| r.set("module", EntryKind::Commit, other), &["/four"]);
    check("what is excluded", &mut |r| r.set("docs/a.md", EntryKind::Blob, "2"), &[]);
    check("what is not", &mut |r| r.set("docs/a.c", EntryKind::Blob, "2"), &["/five"]);
    check("deep below", &mut |r| r.set("x/y/deep.c", EntryKind::Blob, "2"), &["/six/"]);
    check("appears", &mut |r| r.set("missing", EntryKind::Blob, "2"), &["/seven/"]);
}

#[test]
fn a_replay_can_be_ended() {
    let mut repo = Repo::new();
    repo.commit(&[("Dockerfile", Some(SMALL)), ("src/a", Some("1"))]);
    for number in 2..10 {
        repo.commit(&[("src/a", Some(&number.to_string()))]);
    }
    let (history, commits) = (repo.history(), repo.commits());
    let request = Request::new("Dockerfile");
    let tally = replay(&history, &commits, &request, &mut |at| at.done < 4).expect("a replay");
    assert_eq!(tally.no_run(Scheme::Strata).1, 3);
}

#[test]
fn missing_files_are_no_matter_missing_trees_are() {
    let mut repo = Repo::new();
    repo.commit(&[("Dockerfile", Some(SMALL)), ("src/a", Some("gone"))]);
    repo.commit(&[("src/a", Some("there"))]);
    let blob = "27f742cb1e3aa2d5c5b9a1d8cf5e9f2e9b2b6d7a";
    let _ = blob;
    let gone = gix::objs::compute_hash(gix::hash::Kind::Sha1, gix::objs::Kind::Blob, b"gone")
        .expect("a hash")
        .to_string();
    let object = repo.path().join("objects").join(&gone[..2]).join(&gone[2..]);
    std::fs::remove_file(object).expect("the blob was loose");
    let report = repo.report(&Request::new("Dockerfile"));
    assert_eq!(report.builds.built, 2);
    assert_eq!(report.main().expect("a scheme").steps.hits, 0);
}
