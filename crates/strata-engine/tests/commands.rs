//! That the example does what its first lines promise.

#[path = "../examples/commands.rs"]
#[expect(dead_code, reason = "the test calls what `main` calls")]
mod commands;

use std::path::Path;

const RULES: &str = "\
upper: words | tr a-z A-Z < words > upper
sorted: upper | sort upper > sorted
both: sorted words | cat sorted words > both
";

#[test]
fn commands_run_when_they_must() {
    let directory = tempfile::tempdir().expect("a directory");
    let (sources, cache) = (directory.path().join("work"), directory.path().join("cache"));
    std::fs::create_dir(&sources).expect("made");
    let run = |rules: &str| commands::run(rules, &sources, &cache).expect("it runs");
    let write = |text: &str| std::fs::write(sources.join("words"), text).expect("written");
    let read = |name: &str| std::fs::read_to_string(sources.join(name)).expect(name);

    write("b\na\n");
    let first = ["upper", "sorted", "both"].map(|name| format!("{name}: ran, for the first time"));
    assert_eq!(run(RULES), first);
    assert_eq!(read("both"), "A\nB\nb\na\n");
    assert_eq!(run(RULES), ["upper: cached", "sorted: cached", "both: cached"]);

    write("a\nb\n");
    let expected = [
        "upper: ran, since it has another words",
        "sorted: ran, since upper is another one",
        "both: ran, since it has another words",
    ];
    assert_eq!(run(RULES), expected);
    // Another command that gives what it gave: what follows is not touched.
    let rules = RULES.replace("sort upper", "sort -u upper");
    let expected = ["upper: cached", "sorted: ran, since it has another command", "both: cached"];
    assert_eq!(run(&rules), expected);
    assert_eq!(read("both"), "A\nB\na\nb\n");

    let failing = rules.replace("sort -u upper", "exit 3");
    let error = commands::run(&failing, &sources, &cache).expect_err("it fails");
    assert!(error.to_string().contains("step failed"), "{error}");
    assert_eq!(run(&rules), ["upper: cached", "sorted: cached", "both: cached"]);
}

#[test]
fn the_files_are_a_store() {
    let directory = tempfile::tempdir().expect("a directory");
    let open = |root: &Path| commands::FileStore { root: root.to_owned() };
    strata_cas::conformance::blobs(&open(&directory.path().join("blobs")));
    strata_cas::conformance::records(&open(&directory.path().join("records")));
}
