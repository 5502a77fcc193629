//! Repositories, through the program `git`: which commit a reference names, and a commit's files.
//! As BuildKit, with as little of a history as will do and none of the user's configuration, so
//! that the files are the same for everybody. Nothing is asked of the user.

use std::ffi::OsStr;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::failure::printable;
use crate::settings::Secret;

/// How often we see whether git has ended, or shall.
const GLANCE: Duration = Duration::from_millis(10);
/// So much of what git says is kept.
const LONGEST_ANSWER_BYTES: u64 = 16 << 20;

/// Variables that would lead git to another repository than the one that is meant: a hook that
/// builds has them.
const MISLEADING: [&str; 7] = [
    "GIT_DIR",
    "GIT_WORK_TREE",
    "GIT_INDEX_FILE",
    "GIT_OBJECT_DIRECTORY",
    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
    "GIT_COMMON_DIR",
    "GIT_TEMPLATE_DIR",
];

/// A repository and what of it is wanted.
#[derive(Clone, Copy)]
pub struct Repository<'a> {
    /// The repository, as git takes it.
    pub remote: &'a str,
    /// The branch, tag or commit; the default branch if not given.
    pub reference: Option<&'a str>,
    /// Which directory of it; empty for all.
    pub subdirectory: &'a str,
    /// Whether `.git` is among the files; not so for a subdirectory.
    pub keep_git_dir: bool,
    /// Whether submodules are fetched too.
    pub submodules: bool,
    /// The value of `Authorization` for a repository behind http; on github.com for all of them,
    /// since submodules there are likely to be the same owner's.
    pub authorization: Option<&'a Secret>,
}

/// What a reference names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Commit {
    /// The commit's id.
    pub id: String,
    /// The id of the annotated tag that stands for it.
    pub tag: Option<String>,
}

/// Where a commit's files are.
#[derive(Debug, Clone)]
pub struct Checkout {
    /// The directory that was asked for.
    pub root: PathBuf,
    /// When the commit was made, in seconds since 1970.
    pub committed: i64,
}

/// Why a repository could not be had.
#[derive(Debug, thiserror::Error)]
pub enum GitError {
    /// There is no program `git`.
    #[error("the program `git` is not installed")]
    Missing,
    /// What git says.
    #[error("{0}")]
    Failed(String),
    /// The caller does not want it any more.
    #[error("cancelled")]
    Cancelled,
    /// The operating system refused.
    #[error("{action}: {source}")]
    Io {
        /// What was attempted.
        action: &'static str,
        /// The system's answer.
        source: io::Error,
    },
}

/// Which repositories get the header, as BuildKit has it.
fn scope(remote: &str) -> &str {
    const GITHUB: &str = "https://github.com/";
    if remote.starts_with(GITHUB) { GITHUB } else { remote }
}

/// Whether a text is a whole commit id.
fn is_commit(text: &str) -> bool {
    matches!(text.len(), 40 | 64) && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

impl Repository<'_> {
    /// The id of the commit that the reference names at the moment. A whole id is taken as it is:
    /// nobody is asked.
    ///
    /// # Errors
    ///
    /// When the repository can not be reached, or has no such reference.
    pub fn commit(&self, is_cancelled: &dyn Fn() -> bool) -> Result<Commit, GitError> {
        let reference = self.reference.unwrap_or("HEAD");
        if is_commit(reference) {
            return Ok(Commit { id: reference.to_ascii_lowercase(), tag: None });
        }
        let git = self.git(is_cancelled, None);
        let peeled = format!("{reference}^{{}}");
        let listing = git.run(["ls-remote", "--", self.remote, reference, &peeled])?;
        chosen(&listing, reference)
            .ok_or_else(|| GitError::Failed(format!("it has no branch or tag `{reference}`")))
    }

    /// Checks a commit out into the empty directory `into`; the repository itself goes to the
    /// empty directory `scratch`.
    ///
    /// # Errors
    ///
    /// When the repository does not have the commit or the subdirectory.
    pub fn check_out(
        &self,
        commit: &str,
        scratch: &Path,
        into: &Path,
        is_cancelled: &dyn Fn() -> bool,
    ) -> Result<Checkout, GitError> {
        let git = self.git(is_cancelled, Some(scratch));
        let repository = scratch.join("repository.git");
        let directory = with("--git-dir=", &repository);
        let directory = directory.as_os_str();
        let words = |words: &[&'static str]| {
            let rest = words.iter().map(|word| OsStr::new(*word).to_owned());
            [directory.to_owned()].into_iter().chain(rest).collect::<Vec<_>>()
        };
        git.run(words(&[
            "-c",
            "init.defaultBranch=master",
            "init",
            "-q",
            "--bare",
            "--template=",
        ]))?;
        let mut add = words(&["remote", "add", "origin", "--"]);
        add.push(self.remote.into());
        git.run(add)?;
        self.fetch(&git, directory, commit)?;
        let time = git.run([
            directory,
            "show".as_ref(),
            "-s".as_ref(),
            "--format=%ct".as_ref(),
            commit.as_ref(),
        ])?;
        let committed = time.trim().parse().unwrap_or(0);
        let keeps = self.keep_git_dir && self.subdirectory.is_empty();
        let metadata = if keeps {
            self.clone_into(&git, directory, commit, &repository, into)?;
            into.join(".git")
        } else {
            let tree = with("--work-tree=", into);
            git.run([
                directory,
                &tree,
                "checkout".as_ref(),
                "-q".as_ref(),
                commit.as_ref(),
                "--".as_ref(),
                ".".as_ref(),
            ])?;
            repository
        };
        if self.submodules && into.join(".gitmodules").exists() {
            let git = Git { directory: Some(into), ..git };
            let (directory, tree) = (with("--git-dir=", &metadata), with("--work-tree=", into));
            let mut words: Vec<&OsStr> = vec![&directory, &tree];
            let update = ["submodule", "update", "-q", "--init", "--recursive", "--depth=1"];
            words.extend(update.iter().map(OsStr::new));
            git.run(words)?;
        }
        Ok(Checkout { root: self.root(into)?, committed })
    }

    fn git<'a>(
        &'a self,
        is_cancelled: &'a dyn Fn() -> bool,
        directory: Option<&'a Path>,
    ) -> Git<'a> {
        Git { is_cancelled, remote: self.remote, directory, authorization: self.authorization }
    }

    /// Brings the commit into the bare repository.
    fn fetch(&self, git: &Git<'_>, directory: &OsStr, commit: &str) -> Result<(), GitError> {
        let has = || git.run([directory, "cat-file".as_ref(), "-e".as_ref(), commit.as_ref()]);
        let fetch = |options: &[&str], what: &str| {
            let mut words = vec![directory, "fetch".as_ref(), "-q".as_ref(), "--force".as_ref()];
            words.extend(options.iter().map(OsStr::new));
            words.extend(["origin", what].map(OsStr::new).into_iter().filter(|w| !w.is_empty()));
            git.run(words)
        };
        // The reference first, since not every server gives commits by their ids. A tag keeps
        // its name, which a kept `.git` shows.
        let reference = self.reference.unwrap_or("HEAD");
        let shallow = ["--depth=1", "--no-tags"];
        let named = match reference.strip_prefix("refs/tags/") {
            Some(_) => format!("{reference}:{reference}"),
            None => reference.to_owned(),
        };
        let first = fetch(&shallow, &named);
        if first.is_ok() && has().is_ok() {
            return Ok(());
        }
        if fetch(&shallow, commit).is_ok() && has().is_ok() {
            return Ok(());
        }
        fetch(&["--tags"], "+refs/heads/*:refs/remotes/origin/*")?;
        match has() {
            Err(GitError::Failed(_)) => {
                first?;
                Err(GitError::Failed(format!("it has no commit `{commit}`")))
            }
            other => other.map(drop),
        }
    }

    /// A checkout with a repository of its own, for who wants its `.git`.
    fn clone_into(
        &self,
        git: &Git<'_>,
        bare: &OsStr,
        commit: &str,
        repository: &Path,
        into: &Path,
    ) -> Result<(), GitError> {
        let own = with("--git-dir=", &into.join(".git"));
        let tree = with("--work-tree=", into);
        let run = |words: &[&OsStr]| {
            let mut all: Vec<&OsStr> = vec![&own, &tree];
            all.extend(words);
            git.run(all)
        };
        let words = |words: &'static str| words.split(' ').map(OsStr::new).collect::<Vec<_>>();
        run(&words("-c init.defaultBranch=master init -q --template="))?;
        let origin = with("file://", repository);
        let mut add = words("remote add origin");
        add.push(&origin);
        run(&add)?;
        // A commit alone can not be fetched: it gets a name for that.
        let (name, named) = match self.reference.filter(|name| name.starts_with("refs/tags/")) {
            Some(tag) => (tag.to_owned(), format!("{tag}:{tag}")),
            None => ("refs/strata/commit".to_owned(), "refs/strata/commit".to_owned()),
        };
        if !name.starts_with("refs/tags/") {
            git.run([bare, "update-ref".as_ref(), name.as_ref(), commit.as_ref()])?;
        }
        let mut fetch = words("fetch -q -u --depth=1 origin");
        fetch.push(named.as_ref());
        run(&fetch)?;
        run(&words("checkout -q FETCH_HEAD"))?;
        let mut url = words("remote set-url origin");
        let shown = without_password(self.remote);
        url.push(shown.as_ref());
        run(&url)?;
        run(&words("reflog expire --all --expire=now"))?;
        let trace = into.join(".git/FETCH_HEAD");
        std::fs::remove_file(trace)
            .map_err(|source| GitError::Io { action: "remove `.git/FETCH_HEAD`", source })
    }

    /// The subdirectory, which must be one of the checkout's own.
    fn root(&self, into: &Path) -> Result<PathBuf, GitError> {
        if self.subdirectory.is_empty() {
            return Ok(into.to_owned());
        }
        let missing = || GitError::Failed(format!("it has no directory `{}`", self.subdirectory));
        let found = into.join(self.subdirectory).canonicalize().map_err(|_| missing())?;
        let top = into
            .canonicalize()
            .map_err(|source| GitError::Io { action: "look at the checkout", source })?;
        if found.starts_with(&top) && found.is_dir() { Ok(found) } else { Err(missing()) }
    }
}

fn with(prefix: &str, path: &Path) -> std::ffi::OsString {
    let mut word = std::ffi::OsString::from(prefix);
    word.push(path);
    word
}

/// The commit that a reference names, by what `ls-remote` lists: branches before tags, and of an
/// annotated tag what it stands for.
fn chosen(listing: &str, reference: &str) -> Option<Commit> {
    let short = |prefix: &str| reference.strip_prefix(prefix).unwrap_or(reference).to_owned();
    let tag = format!("refs/tags/{}", short("refs/tags/"));
    let names = [
        vec![reference.to_owned()],
        vec![format!("refs/{}^{{}}", short("refs/")), format!("refs/{}", short("refs/"))],
        vec![format!("refs/heads/{}", short("refs/heads/"))],
        vec![format!("{tag}^{{}}"), tag],
    ];
    let lines: Vec<(&str, &str)> =
        listing.lines().filter_map(|line| line.split_once('\t')).collect();
    let find = |name: &String| lines.iter().find(|(_, named)| named == name);
    // A tag by its whole name is listed with what it stands for.
    let peeled = lines.iter().find(|(_, name)| *name == format!("{reference}^{{}}"));
    let found = peeled.or_else(|| names.iter().flatten().find_map(find));
    let (id, name) = found.filter(|(id, _)| is_commit(id))?;
    let tag = name.strip_suffix("^{}").and_then(|tag| find(&tag.to_owned()));
    Some(Commit { id: (*id).to_owned(), tag: tag.map(|(id, _)| (*id).to_owned()) })
}

/// A URL without user and password, as it may stand in an image.
fn without_password(remote: &str) -> String {
    let Some((scheme @ ("http" | "https"), rest)) = remote.split_once("://") else {
        return remote.to_owned();
    };
    let end = rest.find('/').unwrap_or(rest.len());
    match rest[..end].rfind('@') {
        Some(at) => format!("{scheme}://{}", &rest[at + 1..]),
        None => remote.to_owned(),
    }
}

/// Starts git, in a directory.
#[derive(Clone, Copy)]
struct Git<'a> {
    is_cancelled: &'a dyn Fn() -> bool,
    remote: &'a str,
    directory: Option<&'a Path>,
    authorization: Option<&'a Secret>,
}

impl Git<'_> {
    /// Runs git and gives what it writes.
    fn run<S: AsRef<OsStr>>(
        &self,
        arguments: impl IntoIterator<Item = S>,
    ) -> Result<String, GitError> {
        // The files' modes follow from the umask.
        let mut command = Command::new("sh");
        command.args(["-c", "umask 022 && exec git \"$@\"", "git"]).args(arguments);
        for name in MISLEADING {
            command.env_remove(name);
        }
        command
            .envs([("GIT_TERMINAL_PROMPT", "0"), ("GIT_CONFIG_NOSYSTEM", "1"), ("LC_ALL", "C")])
            .envs([("GIT_CONFIG_GLOBAL", "/dev/null"), ("GIT_ASKPASS", "true")])
            .env("GIT_SSH_COMMAND", "ssh -o BatchMode=yes")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        if let Some(secret) = self.authorization {
            // In the environment, and not among the arguments, which every user can see.
            let key = format!("http.{}.extraHeader", scope(self.remote));
            let value = format!("Authorization: {}", secret.reveal());
            command.env("GIT_CONFIG_COUNT", "1");
            command.env("GIT_CONFIG_KEY_0", key).env("GIT_CONFIG_VALUE_0", value);
        }
        if let Some(directory) = self.directory {
            command.current_dir(directory);
        }
        let child = command.spawn().map_err(|source| GitError::Io { action: "start git", source });
        self.wait(child?)
    }

    /// Waits for git's end, or ends it.
    fn wait(&self, mut child: Child) -> Result<String, GitError> {
        let failed = |source| GitError::Io { action: "wait for git", source };
        let out = child.stdout.take().map(reader);
        let err = child.stderr.take().map(reader);
        let status = loop {
            if let Some(status) = child.try_wait().map_err(failed)? {
                break status;
            }
            if (self.is_cancelled)() {
                child.kill().map_err(failed)?;
                child.wait().map_err(failed)?;
                return Err(GitError::Cancelled);
            }
            std::thread::sleep(GLANCE);
        };
        let text = |reader: Option<std::thread::JoinHandle<Vec<u8>>>| {
            let bytes = reader.and_then(|reader| reader.join().ok()).unwrap_or_default();
            String::from_utf8_lossy(&bytes).into_owned()
        };
        let (out, err) = (text(out), text(err));
        match status.code() {
            Some(0) => Ok(out),
            Some(127) => Err(GitError::Missing),
            _ => Err(GitError::Failed(self.said(&err))),
        }
    }

    /// The line that says why, without passwords.
    fn said(&self, text: &str) -> String {
        let text = text.replace(self.remote, &without_password(self.remote));
        let lines = || text.lines().map(str::trim).filter(|line| !line.is_empty());
        let cause = lines().find_map(|line| {
            let line = line.strip_prefix("fatal: ").or_else(|| line.strip_prefix("error: "));
            line.filter(|line| !line.starts_with("could not read from remote"))
        });
        let line = cause.or_else(|| lines().next_back()).unwrap_or("git says nothing about why");
        printable(line.trim_end_matches('.'))
    }
}

/// Reads a pipe on a thread of its own, so that git never waits for us.
fn reader(pipe: impl Read + Send + 'static) -> std::thread::JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        // What can not be read is not said.
        drop(pipe.take(LONGEST_ANSWER_BYTES).read_to_end(&mut bytes));
        bytes
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn branches_come_before_tags_and_tags_are_peeled() {
        let id = |digit: char| digit.to_string().repeat(40);
        let listing = format!(
            "{}\tHEAD\n{}\trefs/heads/main\n{}\trefs/heads/v1\n{}\trefs/tags/v1\n\
             {}\trefs/tags/v2\n{}\trefs/tags/v2^{{}}\n",
            id('0'),
            id('1'),
            id('2'),
            id('3'),
            id('4'),
            id('5'),
        );
        let check = |reference: &str, expected: Option<char>| {
            let found = chosen(&listing, reference).map(|commit| commit.id);
            assert_eq!(found, expected.map(id), "{reference}");
        };
        check("HEAD", Some('0'));
        check("main", Some('1'));
        check("refs/heads/main", Some('1'));
        check("heads/main", Some('1'));
        check("v1", Some('2'));
        check("refs/tags/v1", Some('3'));
        check("v2", Some('5'));
        check("refs/tags/v2", Some('5'));
        check("v3", None);
        let tag = |reference| chosen(&listing, reference).and_then(|commit| commit.tag);
        assert_eq!(
            (tag("v2"), tag("refs/tags/v2"), tag("main")),
            (Some(id('4')), Some(id('4')), None)
        );
    }

    #[test]
    fn passwords_are_not_shown() {
        let remote = "https://me:secret@h/a.git";
        assert_eq!(without_password(remote), "https://h/a.git");
        let git = Git { is_cancelled: &|| false, remote, directory: None, authorization: None };
        let text = format!("warning: x\nfatal: repository '{remote}' not found\n");
        assert_eq!(git.said(&text), "repository 'https://h/a.git' not found");
        assert_eq!(git.said("\n"), "git says nothing about why");
    }
}
