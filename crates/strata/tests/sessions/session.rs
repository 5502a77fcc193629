//! A home, a store and a project, and what the program says in them.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// One user's session.
pub(crate) struct Session {
    directory: tempfile::TempDir,
    variables: Vec<(String, String)>,
}

impl Session {
    /// An empty home and an empty project.
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        std::fs::create_dir(directory.path().join("home")).expect("a home");
        std::fs::create_dir(directory.path().join("work")).expect("a project");
        let variables = vec![("SOURCE_DATE_EPOCH".to_owned(), "1700000000".to_owned())];
        Self { directory, variables }
    }

    /// A session in a project with these files.
    pub(crate) fn with(files: &[(&str, &str)]) -> Self {
        let session = Self::new();
        files.iter().for_each(|(name, text)| session.write(name, text));
        session
    }

    pub(crate) fn variable(mut self, name: &str, value: &str) -> Self {
        self.variables.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The same, with the files' own times in what it writes.
    pub(crate) fn without_epoch(mut self) -> Self {
        self.variables.retain(|(name, _)| name != "SOURCE_DATE_EPOCH");
        self
    }

    /// A path in the project.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join("work").join(name)
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().expect("a directory")).expect("made");
        std::fs::write(path, text).expect("written");
    }

    pub(crate) fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).expect(name)
    }

    /// The program with these arguments, in the project's directory.
    pub(crate) fn command(&self, line: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_strata"));
        command.args(line.split_whitespace()).current_dir(self.path(""));
        command.env_clear().env("HOME", self.directory.path().join("home"));
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Runs the program, with a standard input.
    pub(crate) fn run_with(&self, line: &str, input: &[u8]) -> Output {
        let mut child = self.command(line).stdin(Stdio::piped()).spawn().expect("it starts");
        // The program may end before it has read everything.
        drop(child.stdin.take().expect("a pipe").write_all(input));
        child.wait_with_output().expect("it ends")
    }

    /// What it says, as one text: exit code, stdout, stderr.
    #[track_caller]
    pub(crate) fn check(&self, line: &str, expected: &str) {
        let output = self.command(line).output().expect("it runs");
        assert_eq!(self.transcript(&output), expected, "strata {line}");
    }

    /// What it writes to stdout; it must succeed.
    #[track_caller]
    pub(crate) fn stdout(&self, line: &str) -> Vec<u8> {
        let output = self.command(line).output().expect("it runs");
        let talk = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "strata {line}: {talk}");
        output.stdout
    }

    #[track_caller]
    pub(crate) fn stdout_text(&self, line: &str) -> String {
        String::from_utf8(self.stdout(line)).expect("text").trim_end().to_owned()
    }

    fn transcript(&self, output: &Output) -> String {
        let mut text = format!("exit code {}\n", output.status.code().unwrap_or(-1));
        for (name, bytes) in [("stdout", &output.stdout), ("stderr", &output.stderr)] {
            if !bytes.is_empty() {
                let said = self.filtered(&String::from_utf8_lossy(bytes));
                text.push_str(&format!("--- {name}\n{said}"));
            }
        }
        text
    }

    /// Without what differs from run to run: a file that is too young is read again.
    fn filtered(&self, text: &str) -> String {
        let text = ["0", "1", "2"].iter().fold(text.to_owned(), |text, number| {
            text.replace(&format!(", {number} read"), ", [N] read")
        });
        let text = text.replace(&self.directory.path().display().to_string(), "[DIR]");
        let words = text.split_inclusive([' ', '\n', '"', ',', '`']);
        words.map(filtered_word).collect()
    }
}

fn filtered_word(word: &str) -> String {
    let bare = word.trim_end_matches([' ', '\n', '"', ',', '`']);
    let rest = &word[bare.len()..];
    let seconds = bare.strip_suffix('s').and_then(|number| number.split_once('.'));
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if seconds.is_some_and(|(whole, part)| is_number(whole) && is_number(part)) {
        return format!("[TIME]{rest}");
    }
    match bare.strip_prefix("sha256:") {
        Some(hex) if hex.len() == 64 => format!("sha256:[ID]{rest}"),
        _ => word.to_owned(),
    }
}

/// The files of a tar with their contents, in its order.
pub(crate) fn files_in(tar: &[u8]) -> Vec<(String, String)> {
    let mut archive = tar::Archive::new(tar);
    let entries = archive.entries().expect("a tar").map(|entry| entry.expect("an entry"));
    let file = |mut entry: tar::Entry<'_, &[u8]>| {
        let mut content = Vec::new();
        std::io::Read::read_to_end(&mut entry, &mut content).expect("content");
        let path = entry.path().expect("a path").display().to_string();
        (path, String::from_utf8_lossy(&content).into_owned())
    };
    entries.map(file).collect()
}

/// A tar of a root file system with one file.
pub(crate) fn root_tar(name: &str, content: &str) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(content.len() as u64);
    header.set_mode(0o644);
    header.set_cksum();
    builder.append_data(&mut header, Path::new(name), content.as_bytes()).expect("appended");
    builder.into_inner().expect("a tar")
}
