//! Images in the store: in, shown, named, forgotten.

use std::io::Write;
use std::process::Stdio;

use crate::session::{Session, root_tar};

#[test]
fn import_show_tag_forget() {
    let session = Session::new();
    std::fs::write(session.path("root.tar"), root_tar("etc/motd", "hello\n")).expect("written");
    session.check("import root.tar base:1", "exit code 0\n--- stdout\nsha256:[ID]\n");
    let id = session.stdout_text("import root.tar base:1");
    let short = &id["sha256:".len()..][..12];
    session.check("tag base:1 registry.lan:5000/team/base:2", "exit code 0\n");
    let table = session.stdout_text("images");
    let columns: Vec<Vec<&str>> =
        table.lines().map(|line| line.split_whitespace().take(3).collect()).collect();
    let expected = [
        ["REPOSITORY", "TAG", "IMAGE"],
        ["base", "1", short],
        ["registry.lan:5000/team/base", "2", short],
    ];
    assert_eq!(columns, expected, "{table}");
    session.check("rmi base:1", "exit code 0\n--- stdout\nuntagged base:1\n");
    let missing = "exit code 1\n--- stderr\nerror: no such image: `base:1`\n\
        hint: see `strata images` for those in the store\n";
    session.check("rmi base:1", missing);
    assert_eq!(session.stdout_text("images").lines().count(), 2);
}

#[test]
fn inspect_is_dockers_form() {
    let session = Session::new();
    let output = session.run_with("import - base", &root_tar("a", "x"));
    let id = String::from_utf8_lossy(&output.stdout).trim_end().to_owned();
    session.stdout("tag base other");
    let said = session.stdout_text(&format!("inspect {}", &id[..20]));
    let images: serde_json::Value = serde_json::from_str(&said).expect("JSON");
    let image = &images[0];
    assert_eq!(image["Id"], id);
    assert_eq!(image["RepoTags"], serde_json::json!(["base:latest", "other:latest"]));
    assert_eq!(
        (image["Os"].as_str(), image["RootFS"]["Type"].as_str()),
        (Some("linux"), Some("layers"))
    );
    assert_eq!(image["RootFS"]["Layers"].as_array().map(Vec::len), Some(1));
    assert!(image["History"].is_array() && image["Size"].as_u64() > Some(0));
    let missing = "exit code 1\n--- stdout\n[]\n--- stderr\nerror: no such image: `bases:latest`\n\
        hint: did you mean `base:latest`?\n";
    session.check("inspect bases:latest", missing);
}

#[test]
fn json_is_one_object_a_line() {
    let session = Session::new();
    session.run_with("import - a", &root_tar("a", "x"));
    session.run_with("import - b", &root_tar("b", "y"));
    let said = session.stdout_text("images --format json");
    let name = |line: &str| {
        let object: serde_json::Value = serde_json::from_str(line).expect(line);
        assert_eq!(object["Tag"], "latest");
        object["Repository"].as_str().expect("a name").to_owned()
    };
    assert_eq!(said.lines().map(name).collect::<Vec<_>>(), ["a", "b"]);
}

#[test]
fn what_can_not_be_imported() {
    let session = Session::with(&[("file", "this is no tar\n")]);
    let gone = "exit code 2\n--- stderr\nerror: cannot open `gone`: no such file or directory\n";
    session.check("import gone a", gone);
    session.write("folder/file", "");
    let folder = "exit code 2\n--- stderr\nerror: `folder` is a directory\n\
        hint: give its tar: `tar -C folder -c . | strata import - NAME`\n";
    session.check("import folder a", folder);
    let output = session.command("import file a").output().expect("it runs");
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(session.stdout_text("images").lines().count(), 1);
}

#[test]
fn an_image_without_a_command_does_not_run() {
    let session = Session::new();
    session.run_with("import - a", &root_tar("a", "x"));
    let expected = "exit code 2\n--- stderr\nerror: image `a` has no command\n\
        hint: name one after the image\n";
    session.check("run a", expected);
}

#[test]
fn a_store_in_use_is_not_waited_for() {
    let session = Session::new();
    let mut holder = session.command("import - a").stdin(Stdio::piped()).spawn().expect("starts");
    let mut input = holder.stdin.take().expect("a pipe");
    // More than a pipe holds: when it is written, it is being read, and the store is open.
    let tar = root_tar("a", &"x".repeat(1 << 20));
    input.write_all(&tar[..1 << 20]).expect("written");
    assert_eq!(session.stdout_text("images").lines().count(), 1);
    session.run_with("import - b", &root_tar("b", "x"));
    assert_eq!(session.stdout_text("images").lines().count(), 2);
    input.write_all(&tar[1 << 20..]).expect("written");
    drop(input);
    assert!(holder.wait().expect("ends").success());
    assert_eq!(session.stdout_text("images").lines().count(), 3);
}
