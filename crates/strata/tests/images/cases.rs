//! The images that strata makes against the ones that BuildKit makes of the same Dockerfiles.
//!
//! Each folder of `cases/` is a build context with a Dockerfile. `expected.txt` in it was written
//! from BuildKit's image: every path with type, mode, owner, link and content, then the config.
//! So the comparison needs no other builder; to write the files anew, say where docker is:
//! `STRATA_CASES_RECORD=docker cargo nextest run --release --workspace -E 'test(cases)'`.
//! `STRATA_CASES_ONLY=arg` takes only those cases that have this in their names.
//! The base image `case-base` is made by each builder, of the machine's busybox alone.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// The cases that only root can put together or run, and why.
const ROOTS: [(&str, &str); 8] = [
    ("add-odd-tars", "a tar of device nodes and capabilities"),
    ("copy-chown-odd-numbers", "ids that no range of a user's has"),
    ("copy-odd-modes", "a context with files of others"),
    ("copy-xattrs", "a context with capabilities"),
    ("run-changes", "its command makes device nodes, which no user namespace may"),
    ("run-devices-and-odd-names", "the same"),
    ("run-owners-of-kernel-files", "the machine's root, who owns them, is nobody in a namespace"),
    ("user-forms", "ids that no range of a user's has"),
];

fn cases() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases");
    let entries = std::fs::read_dir(folder).expect("the folder of cases");
    let mut cases: Vec<PathBuf> = entries.map(|entry| entry.expect("a case").path()).collect();
    let only = std::env::var("STRATA_CASES_ONLY").unwrap_or_default();
    cases.retain(|case| name(case).contains(&only));
    cases.sort();
    if !crate::world::is_root() {
        cases.retain(|case| !ROOTS.iter().any(|(root, _)| *root == name(case)));
    }
    cases
}

fn name(case: &Path) -> String {
    case.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn run(command: &mut Command) -> Vec<u8> {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let talk = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?} failed: {talk}");
    output.stdout
}

/// Copies a case into a fresh context, with modes that do not depend on the checkout.
fn context(case: &Path, to: &Path) {
    run(Command::new("cp").arg("-rT").arg(case).arg(to));
    drop(std::fs::remove_file(to.join("expected.txt")));
    run(Command::new("chmod").args(["-R", "u=rwX,go=rX"]).arg(to));
    let setup = to.join("setup.sh");
    if setup.exists() {
        // What git can not hold: links, odd modes, archives.
        run(Command::new("sh").arg("-e").arg("setup.sh").current_dir(to));
        std::fs::remove_file(setup).expect("the set-up is no part of the context");
    }
}

/// A tar's paths, one line each, without what the base image has.
fn listing(tar: &Path) -> String {
    let mut lines: BTreeMap<String, String> = BTreeMap::new();
    let mut archive = tar::Archive::new(File::open(tar).expect("a tar"));
    for entry in archive.entries().expect("entries") {
        let mut entry = entry.expect("an entry");
        let path = entry.path().expect("a path").to_string_lossy().into_owned();
        let path = path.trim_start_matches("./").trim_end_matches('/').to_owned();
        if path.is_empty() || path == "bin" || path.starts_with("bin/") {
            continue;
        }
        let link = entry.link_name().expect("a link name");
        let link = link.map(|link| format!(" -> {}", link.display())).unwrap_or_default();
        let mut attributes = String::new();
        for extension in entry.pax_extensions().expect("extensions").into_iter().flatten() {
            let extension = extension.expect("an extension");
            if let Ok(key) = extension.key()
                && key.starts_with("SCHILY.xattr.")
            {
                attributes.push_str(&format!(" {key}={:?}", extension.value_bytes()));
            }
        }
        let (kind, mode, uid, gid) = {
            let header = entry.header();
            let kind = match header.entry_type() {
                tar::EntryType::Directory => "directory",
                tar::EntryType::Regular => "file",
                tar::EntryType::Symlink => "symlink",
                tar::EntryType::Link => "link",
                tar::EntryType::Fifo => "fifo",
                tar::EntryType::Char => "character device",
                other => panic!("{path} is {other:?}"),
            };
            let mode = header.mode().expect("a mode") & 0o7777;
            (kind, mode, header.uid().expect("a uid"), header.gid().expect("a gid"))
        };
        let mut content = Vec::new();
        entry.read_to_end(&mut content).expect("content");
        let content = match kind {
            "file" => format!(" {}", strata_oci::Digest::of(&content).short()),
            _ => String::new(),
        };
        let line = format!("{kind} {mode:04o} {uid}:{gid}{link}{content}{attributes}");
        lines.insert(path, line);
    }
    lines.into_iter().map(|(path, line)| format!("{path}: {line}\n")).collect()
}

/// The part of a config that a Dockerfile decides, without times, and the history.
fn config(config: &Value) -> String {
    let mut text = String::new();
    if let Some(fields) = config["config"].as_object() {
        let fields: BTreeMap<_, _> = fields.iter().filter(|(_, value)| !value.is_null()).collect();
        for (name, value) in fields {
            let is_default = value == &Value::String(String::new()) || value == &Value::Bool(false);
            if !is_default && !matches!(&**name, "Hostname" | "Domainname" | "Image") {
                writeln!(text, "{name}: {value}").expect("a string takes all");
            }
        }
    }
    let history = config["history"].as_array().cloned().unwrap_or_default();
    let own = history.iter().filter(|line| line["comment"] == "buildkit.dockerfile.v0");
    for line in own {
        let mark = if line["empty_layer"] == Value::Bool(true) { "-" } else { "+" };
        let created_by = line["created_by"].as_str().unwrap_or_default();
        writeln!(text, "{mark} {created_by}").expect("a string takes all");
    }
    text
}

/// The config of the image in a docker archive.
fn config_in(archive: &Path) -> Value {
    let mut files: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    let mut archive = tar::Archive::new(File::open(archive).expect("a tar"));
    for entry in archive.entries().expect("entries") {
        let mut entry = entry.expect("an entry");
        let path = entry.path().expect("a path").to_string_lossy().into_owned();
        if entry.size() < 1 << 20 {
            let mut content = Vec::new();
            entry.read_to_end(&mut content).expect("content");
            files.insert(path, content);
        }
    }
    let manifest: Value = serde_json::from_slice(&files["manifest.json"]).expect("a manifest");
    let name = manifest[0]["Config"].as_str().expect("a config's name");
    serde_json::from_slice(&files[name]).expect("a config")
}

/// The case's own arguments, one a line; `{context}` stands for where the context is.
fn arguments(context: &Path) -> Vec<String> {
    let file = context.join("arguments.txt");
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let here = context.display().to_string();
    text.lines().map(|line| line.replace("{context}", &here)).collect()
}

/// What docker makes of a case.
fn of_docker(docker: &str, context: &Path, out: &Path) -> String {
    let build = |more: &[&str]| {
        let mut command = Command::new(docker);
        command.args(["buildx", "build", "--network", "host"]).args(arguments(context));
        run(command.args(more).arg(context));
    };
    let (tar, archive) = (out.join("docker.tar"), out.join("docker-image.tar"));
    build(&["-o", &format!("type=tar,dest={}", tar.display())]);
    build(&["-t", "strata-case", "--provenance=false"]);
    run(Command::new(docker).args(["save", "-o"]).arg(&archive).arg("strata-case"));
    format!("{}\n{}", listing(&tar), config(&config_in(&archive)))
}

fn strata(store: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_strata"));
    command.arg("--store").arg(store.join("store"));
    command.env_remove("STRATA_STORE").env("HOME", store);
    command
}

/// What strata makes of a case.
fn of_strata(store: &Path, context: &Path, out: &Path) -> String {
    let (tar, archive) = (out.join("strata.tar"), out.join("strata-image.tar"));
    let mut command = strata(store);
    command
        .arg("build")
        .args(arguments(context))
        .arg("-o")
        .arg(format!("type=tar,dest={}", tar.display()))
        .arg("-o")
        .arg(format!("type=docker,dest={}", archive.display()))
        .arg(context);
    let output = command.output().expect("it runs");
    if !output.status.success() {
        return String::from_utf8_lossy(&output.stderr).into_owned();
    }
    format!("{}\n{}", listing(&tar), config(&config_in(&archive)))
}

#[test]
fn cases_are_built_as_buildkit_builds_them() {
    let record = std::env::var("STRATA_CASES_RECORD").ok();
    let store = tempfile::tempdir().expect("a folder");
    let base = store.path().join("base");
    crate::world::base_context(&base);
    run(strata(store.path()).args(["build", "-q", "-t", "case-base"]).arg(&base));
    if let Some(docker) = &record {
        run(Command::new(docker).args(["buildx", "build", "-t", "case-base"]).arg(&base));
    }
    let mut differing = Vec::new();
    for case in cases() {
        let name = name(&case);
        // docker sees only some folders of a machine: the system's temporary one is among them.
        let work = tempfile::tempdir().expect("a folder");
        let directory = work.path().join("context");
        context(&case, &directory);
        let expected = case.join("expected.txt");
        if let Some(docker) = &record {
            let made = of_docker(docker, &directory, work.path());
            std::fs::write(&expected, made).expect("the expectation is written");
        }
        let ours = of_strata(store.path(), &directory, work.path());
        let theirs = std::fs::read_to_string(&expected).expect("an expectation");
        if ours != theirs {
            let (ours_path, theirs_path) = (work.path().join("ours"), work.path().join("theirs"));
            std::fs::write(&ours_path, &ours).expect("written");
            std::fs::write(&theirs_path, &theirs).expect("written");
            let diff = Command::new("diff").arg("-u").arg(&theirs_path).arg(&ours_path).output();
            let diff = diff.expect("diff runs").stdout;
            differing.push(format!("{name}:\n{}", String::from_utf8_lossy(&diff)));
        }
    }
    assert!(differing.is_empty(), "{}", differing.join("\n"));
}
