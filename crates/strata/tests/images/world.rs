//! A test's own machine: its home, its store, its files, and a base image of busybox alone.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// A folder with a store and build contexts in it, gone when dropped.
pub(crate) struct World {
    home: tempfile::TempDir,
}

/// What a command said.
pub(crate) struct Said {
    /// Its exit code; 128 and the number for a signal.
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl World {
    /// Nothing yet.
    pub(crate) fn new() -> Self {
        Self { home: tempfile::tempdir().expect("a folder") }
    }

    /// With the image `case-base`.
    pub(crate) fn with_base() -> Self {
        let world = Self::new();
        base_context(&world.path("base"));
        world.run(&["build", "-q", "-t", "case-base", "base"]).ok();
        world
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    /// Writes a file, with the folders above it.
    pub(crate) fn write(&self, name: &str, content: &str) {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("folders");
        std::fs::write(path, content).expect("a file");
    }

    /// The program, started in the world's folder.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        self.through(&[], arguments)
    }

    /// The program, started by another one, which is given with its own arguments.
    pub(crate) fn through(&self, starter: &[&str], arguments: &[&str]) -> Command {
        let strata = env!("CARGO_BIN_EXE_strata");
        let mut words = starter.iter().chain([&strata]).chain(arguments);
        let mut command = Command::new(words.next().unwrap_or(&strata));
        command
            .args(words)
            .current_dir(self.home.path())
            .env_clear()
            .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
            .env("HOME", self.home.path())
            .env("STRATA_STORE", self.path("store"));
        command
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Said {
        Said::of(&self.command(arguments).output().expect("the program starts"))
    }

    /// As if more than eight hours had passed since a server announced anything.
    pub(crate) fn forget_announced(&self) {
        for entry in std::fs::read_dir(self.path("store/leases-1")).expect("leases") {
            let path = entry.expect("an entry").path();
            if path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"until-")) {
                std::fs::remove_file(path).expect("remove");
            }
        }
    }

    /// The id of the image with this name.
    pub(crate) fn id(&self, name: &str) -> String {
        let said = self.run(&["inspect", name]).ok();
        let all: serde_json::Value = serde_json::from_str(&said.out).expect("JSON");
        all[0]["Id"].as_str().expect("an id").to_owned()
    }
}

impl Said {
    pub(crate) fn of(output: &Output) -> Self {
        use std::os::unix::process::ExitStatusExt;
        let signal = output.status.signal().map(|number| 128 + number);
        Self {
            code: output.status.code().or(signal).unwrap_or(-1),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    #[track_caller]
    pub(crate) fn ok(self) -> Self {
        assert_eq!(self.code, 0, "{}{}", self.out, self.err);
        self
    }

    /// Which steps ran, by their instructions, from plain progress; a base image is none.
    pub(crate) fn ran(&self) -> Vec<String> {
        let mut steps = self.steps(|line| line.starts_with("why: "));
        steps.retain(|step| !step.starts_with("FROM "));
        steps
    }

    /// Which steps were cached.
    pub(crate) fn cached(&self) -> Vec<String> {
        self.steps(|line| line == "CACHED")
    }

    fn steps(&self, wanted: impl Fn(&str) -> bool) -> Vec<String> {
        let lines: Vec<(&str, &str)> =
            self.err.lines().filter_map(|line| line.split_once(' ')).collect();
        let title = |number: &str| {
            let title = lines.iter().find(|(of, text)| *of == number && text.starts_with('['));
            title.and_then(|(_, text)| text.split_once("] ")).map(|(_, text)| text.to_owned())
        };
        let numbers = lines.iter().filter(|(_, text)| wanted(text)).map(|(number, _)| *number);
        numbers.filter_map(title).collect()
    }

    /// The reasons of the steps that ran.
    pub(crate) fn reasons(&self) -> Vec<String> {
        let why = self.err.lines().filter_map(|line| line.split_once(" why: "));
        why.map(|(_, reason)| reason.to_owned()).collect()
    }
}

/// Whether the tests run as root.
pub(crate) fn is_root() -> bool {
    let id = Command::new("id").arg("-u").output().expect("id");
    String::from_utf8_lossy(&id.stdout).trim() == "0"
}

/// The context of an image with busybox and its names.
pub(crate) fn base_context(root: &Path) {
    if !Path::new("/bin/busybox").exists() {
        let install = Command::new("apt-get").args(["install", "-y", "busybox-static"]).status();
        assert!(install.expect("apt-get").success(), "busybox-static can not be installed");
    }
    std::fs::create_dir_all(root.join("bin")).expect("a folder");
    std::fs::copy("/bin/busybox", root.join("bin/busybox")).expect("a copy");
    let applets = Command::new("/bin/busybox").arg("--list").output().expect("busybox").stdout;
    for applet in String::from_utf8_lossy(&applets).lines().filter(|name| *name != "busybox") {
        std::os::unix::fs::symlink("busybox", root.join("bin").join(applet)).expect("a link");
    }
    std::fs::write(root.join("Dockerfile"), "FROM scratch\nCOPY bin /bin\nCMD [\"sh\"]\n")
        .expect("a Dockerfile");
}

/// Waits until something is so, a minute at most.
pub(crate) fn until(what: &str, is_so: impl Fn() -> bool) {
    for _ in 0..600 {
        if is_so() {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    panic!("never: {what}");
}
