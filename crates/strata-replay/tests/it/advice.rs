//! Counterfactuals are replayed, and advice is what a replay of it confirms.

use strata_replay::{Edit, Request, Scheme, Study, WhatIf, advise, unified};

use crate::support::{NODE, Repo};

const ALL_AT_ONCE: &str =
    "FROM node:22\nCOPY . .\nRUN npm ci\nRUN apt-get install -y git\nRUN npm run build\n";

const IGNORE: &str = "Dockerfile\n.dockerignore\n";

fn all_at_once() -> Repo {
    let mut repo = Repo::new();
    repo.commit(&[
        ("Dockerfile", Some(ALL_AT_ONCE)),
        (".dockerignore", Some(IGNORE)),
        ("package.json", Some("{}")),
        ("web/package.json", Some("{}")),
        ("src/a.js", Some("1")),
        ("docs/a.md", Some("1")),
    ]);
    for number in 0..4 {
        repo.commit(&[("src/a.js", Some(&format!("a{number}")))]);
        repo.commit(&[("docs/a.md", Some(&format!("b{number}")))]);
    }
    repo
}

#[test]
fn counterfactuals() {
    let repo = all_at_once();
    let steps = |what_if: WhatIf| repo.what_if(what_if).steps(Scheme::Strata);
    assert_eq!(steps(WhatIf::default()), (0, 32));
    // Four builds change documentation only.
    let ignore = vec!["docs".to_owned()];
    assert_eq!(steps(WhatIf { ignore, ..WhatIf::default() }), (16, 32));
    // Its first two steps are there in all eight.
    let dockerfile = Some(NODE.as_bytes().to_vec());
    assert_eq!(steps(WhatIf { dockerfile, ..WhatIf::default() }), (24, 40));
    // npm ci hits, with the two COPYs of manifests before it.
    let manifests = vec!["package.json".to_owned(), "web/package.json".to_owned()];
    let split = Edit::SplitCopy { manifests };
    assert_eq!(steps(WhatIf { edits: vec![split], ..WhatIf::default() }), (24, 48));
    let breaks = Study::breaks(&repo.what_if(WhatIf::default()));
    // Nothing may go above `npm ci`, which is no COPY.
    let reorder = Edit::Reorder { breaks };
    assert_eq!(steps(WhatIf { edits: vec![reorder], ..WhatIf::default() }), (0, 32));
}

#[test]
fn seldom_before_often() {
    let mut repo = Repo::new();
    let dockerfile = "FROM debian\nCOPY often.txt /a/often.txt\nCOPY seldom.txt /b/seldom.txt\n\
        # git\nRUN apt-get install -y git\nRUN make\n";
    repo.commit(&[
        ("Dockerfile", Some(dockerfile)),
        ("often.txt", Some("1")),
        ("seldom.txt", Some("1")),
    ]);
    repo.commit(&[("often.txt", Some("2"))]);
    let breaks = Study::breaks(&repo.what_if(WhatIf::default()));
    let edits = vec![Edit::Reorder { breaks }];
    let with = repo.what_if(WhatIf { edits, ..WhatIf::default() });
    // apt-get and the COPY that did not change.
    assert_eq!(with.steps(Scheme::Strata), (2, 4));
}

#[test]
fn advice_holds_when_it_is_followed() {
    let mut repo = all_at_once();
    let (history, commits) = (repo.history(), repo.commits());
    let request = Request::new("Dockerfile");
    let study =
        Study { history: &history, commits: &commits, request: &request, main: Scheme::Strata };
    let advice = advise(&study, &history.shared(), &mut |_| true).expect("a search");
    let advice = advice.expect("a Dockerfile");
    let together = advice.together.expect("something helps");
    assert!(advice.changes.len() >= 2, "{:?}", advice.changes);
    assert!(together.with[0] > together.without[0] && together.with[1] > together.without[1]);
    assert!(advice.patch.contains("+/docs") && advice.patch.contains("+COPY package.json"));
    assert!(!advice.cautions.is_empty());

    // As `git apply` does it, by hand: the patch's own lines make the new files.
    let (dockerfile, ignore) = (
        patched(&advice.patch, "Dockerfile", ALL_AT_ONCE),
        patched(&advice.patch, ".dockerignore", IGNORE),
    );
    let what_if = WhatIf {
        dockerfile: Some(dockerfile.clone().into_bytes()),
        ignore_file: Some(ignore.clone().into_bytes()),
        ..WhatIf::default()
    };
    let tally = repo.what_if(what_if);
    let (hits, of) = tally.steps(Scheme::Strata);
    let percent = (hits as f64 * 10_000.0 / of as f64).round() / 100.0;
    assert!((percent - together.with[0]).abs() < 1e-9, "{percent} {together:?}");

    // What is advised once is not advised again.
    repo.commit(&[("Dockerfile", Some(&dockerfile)), (".dockerignore", Some(&ignore))]);
    let (history, commits) = (repo.history(), repo.commits());
    let study = Study { history: &history, commits: &commits, ..study };
    let again = advise(&study, &history.shared(), &mut |_| true).expect("a search");
    assert_eq!(again.expect("a Dockerfile").changes, []);
}

/// Applies one file's hunks of a patch.
fn patched(patch: &str, path: &str, old: &str) -> String {
    let begin = format!("--- a/{path}\n+++ b/{path}\n");
    let (_, rest) = patch.split_once(&begin).expect(path);
    let rest = rest.split("diff --git").next().unwrap_or_default();
    let old: Vec<&str> = old.split_inclusive('\n').collect();
    let (mut new, mut at) = (String::new(), 0);
    for line in rest.split_inclusive('\n') {
        let (sign, text) = line.split_at(1);
        match sign {
            "@" => {
                let from = line.split(['-', ',']).nth(1).expect("a hunk").parse::<usize>();
                let from = from.expect("a number").saturating_sub(1);
                old[at..from].iter().for_each(|line| new.push_str(line));
                at = from;
            }
            "+" => new.push_str(text),
            " " => {
                assert_eq!(old[at], text);
                new.push_str(text);
                at += 1;
            }
            "-" => {
                assert_eq!(old[at], text);
                at += 1;
            }
            other => unreachable!("{other}"),
        }
    }
    old[at..].iter().for_each(|line| new.push_str(line));
    new
}

#[test]
fn a_patch_of_nothing_is_nothing() {
    assert_eq!(unified("a", Some("x\n"), "x\n"), "");
}
