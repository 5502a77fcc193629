//! Sources that are not on this machine: URLs and git repositories, told apart and taken to
//! pieces as BuildKit does. Nothing is fetched here.
//!
//! A URL is a git repository's if its scheme or form says so (`git://`, `ssh://`, `user@host:path`)
//! or if its path ends with `.git`. What follows says what of it: `#ref:subdirectory`, or
//! `?branch=…&subdir=…`.

use strata_oci::Digest;

use crate::stage::clean_path;

/// The name of a file whose URL has none, as BuildKit calls it.
const UNNAMED: &str = "__unnamed__";

/// Something to be fetched.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RemoteSource {
    /// A file behind a URL.
    Http(HttpSource),
    /// Files of a git repository.
    Git(GitSource),
}

/// A file behind a URL.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HttpSource {
    /// Where it is.
    pub url: String,
    /// What it is called when it is here.
    pub file_name: String,
    /// What it must be.
    pub checksum: Option<Digest>,
    /// Whether it is unpacked if it is an archive.
    pub unpack: bool,
}

/// Files of a git repository.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GitSource {
    /// The repository, as git takes it.
    pub remote: String,
    /// The branch, tag or commit; the default branch if not given.
    pub reference: Option<String>,
    /// Which directory of it, without slashes around it; empty for all.
    pub subdirectory: String,
    /// How the commit's id must begin.
    pub checksum: Option<String>,
    /// Whether `.git` is among the files.
    pub keep_git_dir: bool,
    /// Whether submodules are fetched too.
    pub submodules: bool,
}

impl RemoteSource {
    /// What a URL or git repository in an `ADD`, or in place of a context, means; none for a path.
    ///
    /// # Errors
    ///
    /// A sentence about what is wrong with a git repository's reference.
    pub fn parse(text: &str) -> Result<Option<Self>, String> {
        if let Some(git) = GitSource::parse(text)? {
            return Ok(Some(Self::Git(git)));
        }
        Ok(is_url(text).then(|| Self::Http(HttpSource::new(text))))
    }

    /// The same for a context, where `github.com/…` is a repository, too.
    ///
    /// # Errors
    ///
    /// As [`RemoteSource::parse`].
    pub fn parse_context(text: &str) -> Result<Option<Self>, String> {
        if text.starts_with("github.com/") {
            return GitSource::of_url("https", text).map(|source| Some(Self::Git(source)));
        }
        Self::parse(text)
    }

    /// How people may see it: without user and password.
    pub fn shown(&self) -> String {
        match self {
            Self::Http(source) => redacted(&source.url),
            Self::Git(source) => redacted(&source.remote),
        }
    }
}

fn is_url(text: &str) -> bool {
    ["http://", "https://"].iter().any(|scheme| text.starts_with(scheme))
}

/// A URL without the user and password in it.
fn redacted(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    match rest[..end].rfind('@') {
        Some(at) if scheme != "ssh" => format!("{scheme}://{}", &rest[at + 1..]),
        _ => url.to_owned(),
    }
}

impl HttpSource {
    /// A file that may be anything and is not unpacked.
    pub fn new(url: &str) -> Self {
        let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
        let rest = rest.split(['?', '#']).next().unwrap_or_default();
        let path = rest.split_once('/').map_or("", |(_, path)| path);
        // Go's `path.Base` of the decoded path.
        let decoded = percent_decoded(path);
        let base = decoded.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
        let is_name = !base.is_empty() && base != "." && base != ".." && !base.contains('\0');
        let file_name = if is_name { base } else { UNNAMED }.to_owned();
        Self { url: url.to_owned(), file_name, checksum: None, unpack: false }
    }
}

/// `%20` and the like made plain; what is not understood stays as it is.
fn percent_decoded(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        let digits = bytes.get(at + 1..at + 3).and_then(|hex| std::str::from_utf8(hex).ok());
        let code = digits.filter(|hex| hex.bytes().all(|digit| digit.is_ascii_hexdigit()));
        match code.and_then(|hex| u8::from_str_radix(hex, 16).ok()).filter(|_| *byte == b'%') {
            Some(code) => {
                decoded.push(code);
                at += 3;
            }
            None => {
                decoded.push(*byte);
                at += 1;
            }
        }
    }
    String::from_utf8(decoded).unwrap_or_else(|_| text.to_owned())
}

impl GitSource {
    fn parse(text: &str) -> Result<Option<Self>, String> {
        match text.split_once("://") {
            Some((scheme @ ("git" | "ssh"), rest)) => Self::of_url(scheme, rest).map(Some),
            Some((scheme @ ("http" | "https"), rest)) => {
                let path = rest.split(['?', '#']).next().unwrap_or_default();
                if path.ends_with(".git") { Self::of_url(scheme, rest).map(Some) } else { Ok(None) }
            }
            Some(_) => Ok(None),
            None if is_scp(text) => {
                let (remote, fragment) = text.split_once('#').unwrap_or((text, ""));
                Self::new(remote.to_owned(), "", fragment).map(Some)
            }
            None => Ok(None),
        }
    }

    fn of_url(scheme: &str, rest: &str) -> Result<Self, String> {
        let (rest, fragment) = rest.split_once('#').unwrap_or((rest, ""));
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        Self::new(format!("{scheme}://{rest}"), query, fragment)
    }

    fn new(remote: String, query: &str, fragment: &str) -> Result<Self, String> {
        let mut source = Self {
            remote,
            reference: None,
            subdirectory: String::new(),
            checksum: None,
            keep_git_dir: false,
            submodules: true,
        };
        let (reference, subdirectory) = fragment.split_once(':').unwrap_or((fragment, ""));
        source.set_reference(reference)?;
        source.set_subdirectory(subdirectory)?;
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            source.option(&percent_decoded(name), &percent_decoded(&value.replace('+', " ")))?;
        }
        Ok(source)
    }

    /// Says how the commit's id must begin. Without a reference, it is one, if it is whole.
    pub(crate) fn expect_commit(&mut self, id: &str) -> Result<(), String> {
        let is_id = (7..=64).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_hexdigit());
        if !is_id {
            return Err(format!("`{id}` is not a commit's id"));
        }
        let id = id.to_ascii_lowercase();
        match &self.checksum {
            Some(other) if *other != id => {
                return Err(format!("commits `{other}` and `{id}` contradict each other"));
            }
            _ => {}
        }
        if self.reference.is_none() && matches!(id.len(), 40 | 64) {
            self.reference = Some(id.clone());
        }
        self.checksum = Some(id);
        Ok(())
    }

    fn option(&mut self, name: &str, value: &str) -> Result<(), String> {
        let whole = |prefix: &str| match value.starts_with(prefix) {
            true => value.to_owned(),
            false => format!("{prefix}{value}"),
        };
        match name {
            "ref" | "branch" | "tag" | "subdir" | "checksum" | "commit" if value.is_empty() => {
                Err(format!("`{name}` has no value"))
            }
            "ref" => self.set_reference(value),
            "branch" => self.set_reference(&whole("refs/heads/")),
            "tag" => self.set_reference(&whole("refs/tags/")),
            "subdir" => self.set_subdirectory(value),
            "checksum" | "commit" => self.expect_commit(value),
            "keep-git-dir" => flag(name, value).map(|keep| self.keep_git_dir = keep),
            "submodules" => flag(name, value).map(|with| self.submodules = with),
            // The files' times are the commit's in any case, and how it is fetched is our matter.
            "mtime" if matches!(value, "commit" | "checkout") => Ok(()),
            "fetch-by-commit" => flag(name, value).map(|_| ()),
            _ => Err(format!("`{name}={value}` means nothing to a git repository")),
        }
    }

    fn set_reference(&mut self, reference: &str) -> Result<(), String> {
        if reference.is_empty() {
            return Ok(());
        }
        if reference.starts_with('-') {
            return Err(format!("`{reference}` is not a branch, tag or commit"));
        }
        match &self.reference {
            Some(other) if other != reference => {
                Err(format!("`{other}` and `{reference}` contradict each other"))
            }
            _ => {
                self.reference = Some(reference.to_owned());
                Ok(())
            }
        }
    }

    fn set_subdirectory(&mut self, text: &str) -> Result<(), String> {
        let clean = clean_path(&format!("/{text}"));
        let clean = clean.trim_matches('/');
        if !self.subdirectory.is_empty() && !clean.is_empty() && self.subdirectory != clean {
            let other = &self.subdirectory;
            return Err(format!("subdirectories `{other}` and `{clean}` contradict each other"));
        }
        if !clean.is_empty() {
            clean.clone_into(&mut self.subdirectory);
        }
        Ok(())
    }
}

/// `user@host:path`, as scp and git take it.
fn is_scp(text: &str) -> bool {
    let Some((user, rest)) = text.split_once('@') else { return false };
    let Some((host, path)) = rest.split_once(':') else { return false };
    let is_word = |text: &str, others: &[u8]| {
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || others.contains(&byte);
        !text.is_empty() && !text.starts_with('-') && text.bytes().all(fits)
    };
    is_word(user, b"-_") && is_word(host, b"-.") && !path.is_empty()
}

/// A flag as Go reads it; one without a value is set.
fn flag(name: &str, value: &str) -> Result<bool, String> {
    match value {
        "" | "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(format!("`{name}={value}`: `true` or `false` is expected")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_and_paths_are_told_apart() {
        let check = |text: &str, expected: &str| {
            let kind = match RemoteSource::parse(text) {
                Ok(Some(RemoteSource::Git(_))) => "git",
                Ok(Some(RemoteSource::Http(_))) => "http",
                Ok(None) => "path",
                Err(_) => "wrong",
            };
            assert_eq!(kind, expected, "{text}");
        };
        check("https://example.org/a.tar.gz", "http");
        check("http://example.org/", "http");
        check("https://example.org/a.git", "git");
        check("https://example.org/a.git#main", "git");
        check("https://example.org/a.git?ref=main", "git");
        check("https://example.org/a.github", "http");
        check("https://example.org/?x=a.git", "http");
        check("git://example.org/a", "git");
        check("ssh://git@example.org/a", "git");
        check("git@example.org:a/b", "git");
        check("git@example.org", "path");
        check("a@b/c:d", "path");
        check("ftp://example.org/a", "path");
        check("github.com/a/b", "path");
        check("./a", "path");
        check("https://example.org/a.git?what=x", "wrong");
    }

    #[test]
    fn file_names_come_from_the_path() {
        let check = |url: &str, expected: &str| {
            assert_eq!(HttpSource::new(url).file_name, expected, "{url}");
        };
        check("http://h/a/b.txt", "b.txt");
        check("http://h/a/b.txt?c=/d#e", "b.txt");
        check("http://h/a/b/", "b");
        check("http://h/a%20b", "a b");
        check("http://h/100%", "100%");
        check("http://h/", UNNAMED);
        check("http://h", UNNAMED);
        check("http://h?x=/y", UNNAMED);
    }

    fn git(text: &str) -> GitSource {
        match RemoteSource::parse(text) {
            Ok(Some(RemoteSource::Git(source))) => source,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn both_forms_of_git_say_the_same() {
        let check = |text: &str, reference: Option<&str>, subdirectory: &str| {
            let source = git(text);
            assert_eq!(source.remote, "https://h/a.git");
            let found = (source.reference.as_deref(), &*source.subdirectory);
            assert_eq!(found, (reference, subdirectory), "{text}");
        };
        check("https://h/a.git", None, "");
        check("https://h/a.git#v1", Some("v1"), "");
        check("https://h/a.git#v1:d/e/", Some("v1"), "d/e");
        check("https://h/a.git#:../d", None, "d");
        check("https://h/a.git?ref=v1&subdir=d", Some("v1"), "d");
        check("https://h/a.git?branch=b", Some("refs/heads/b"), "");
        check("https://h/a.git?tag=t", Some("refs/tags/t"), "");
        check("https://h/a.git?tag=refs/tags/t", Some("refs/tags/t"), "");
        let id = "0123456789".repeat(4);
        check(&format!("https://h/a.git?checksum={id}"), Some(&id), "");
        let more = git("https://h/a.git?keep-git-dir=1&submodules=false&commit=ABCDEF0");
        assert!(more.keep_git_dir && !more.submodules);
        assert_eq!(more.checksum.as_deref(), Some("abcdef0"));
        let scp = git("git@h:a/b.git#main:c");
        assert_eq!((&*scp.remote, scp.reference.as_deref()), ("git@h:a/b.git", Some("main")));
    }

    #[test]
    fn what_is_wrong_with_a_repository_is_said() {
        let check = |text: &str, expected: &str| {
            assert_eq!(RemoteSource::parse(text), Err(expected.to_owned()));
        };
        check("https://h/a.git?x=y", "`x=y` means nothing to a git repository");
        check("https://h/a.git?ref=b#a", "`a` and `b` contradict each other");
        check("https://h/a.git#-a", "`-a` is not a branch, tag or commit");
        check("https://h/a.git?submodules=x", "`submodules=x`: `true` or `false` is expected");
        check("https://h/a.git?commit=main", "`main` is not a commit's id");
        check("https://h/a.git?ref=&subdir=d", "`ref` has no value");
        check("https://h/a.git?subdir", "`subdir` has no value");
    }

    #[test]
    fn nobody_sees_passwords() {
        let shown = |text: &str| match RemoteSource::parse_context(text) {
            Ok(Some(source)) => source.shown(),
            other => panic!("{other:?}"),
        };
        assert_eq!(shown("https://me:secret@h/a?b=@"), "https://h/a?b=@");
        assert_eq!(shown("https://me:secret@h/a.git#b"), "https://h/a.git");
        assert_eq!(shown("ssh://git@h/a"), "ssh://git@h/a");
        assert_eq!(shown("github.com/a/b.git"), "https://github.com/a/b.git");
    }
}
