//! Image names: `[REGISTRY/]REPOSITORY[:TAG][@DIGEST]`, completed as Docker completes them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::Digest;

/// Why a text is not an image name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not an image name: {reason}")]
pub struct InvalidReference {
    text: String,
    reason: &'static str,
}

/// A complete image name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Reference {
    /// Host and port of the registry; `docker.io` when none was written.
    pub registry: String,
    /// Path in the registry, such as `library/node`.
    pub repository: String,
    /// The tag; `latest` when neither tag nor digest was written.
    pub tag: Option<String>,
    /// The digest that pins the name.
    pub digest: Option<Digest>,
}

const DOCKER_HUB: &str = "docker.io";
/// In bytes, `library/` included.
const LONGEST_REPOSITORY: usize = 255;

impl Reference {
    /// The name as people write it: without `docker.io/library/`, where that is added again.
    pub fn familiar(&self) -> String {
        let full = self.to_string();
        let hub = full.strip_prefix("docker.io/").unwrap_or(&full);
        let official = hub.strip_prefix("library/").filter(|_| self.is_official());
        official.unwrap_or(hub).to_owned()
    }

    fn is_official(&self) -> bool {
        let name = self.repository.strip_prefix("library/");
        self.registry == DOCKER_HUB && name.is_some_and(|name| !name.contains('/'))
    }

    /// What the registry is asked for: the digest where there is one, else the tag.
    pub fn target(&self) -> String {
        match (&self.digest, &self.tag) {
            (Some(digest), _) => digest.to_string(),
            (None, Some(tag)) => tag.clone(),
            (None, None) => "latest".to_owned(),
        }
    }

    /// The same repository, pinned.
    pub fn with_digest(&self, digest: Digest) -> Self {
        Self { digest: Some(digest), ..self.clone() }
    }
}

impl FromStr for Reference {
    type Err = InvalidReference;

    fn from_str(text: &str) -> Result<Self, InvalidReference> {
        let invalid = |reason| InvalidReference { text: text.to_owned(), reason };
        if text.is_empty() {
            return Err(invalid("it is empty"));
        }
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => {
                let digest = digest.parse();
                (rest, Some(digest.map_err(|_| invalid("what follows the `@` is no digest"))?))
            }
            None => (text, None),
        };
        let (registry, path) = split_registry(rest);
        if !is_registry(registry) {
            return Err(invalid("what is before its first `/` is no registry's name"));
        }
        let (path, tag) = match path.rsplit_once(':') {
            Some((path, tag)) if !tag.contains('/') => (path, Some(tag.to_owned())),
            _ => (path, None),
        };
        if let Some(tag) = &tag
            && !is_tag(tag)
        {
            return Err(invalid("a tag has letters, digits, `_`, `.` and `-`, 128 at most"));
        }
        if path.bytes().any(|byte| byte.is_ascii_uppercase()) {
            return Err(invalid("a repository's name is in lower case"));
        }
        if path.is_empty() || !path.split('/').all(is_component) {
            return Err(invalid(
                "a repository's name has lower-case letters, digits, `.`, `_`, `-`",
            ));
        }
        let repository = match (registry, path.contains('/')) {
            (DOCKER_HUB, false) => format!("library/{path}"),
            _ => path.to_owned(),
        };
        if repository.len() > LONGEST_REPOSITORY {
            return Err(invalid("a repository's name has 255 characters at most"));
        }
        let tag = tag.or_else(|| digest.is_none().then(|| "latest".to_owned()));
        Ok(Self { registry: registry.to_owned(), repository, tag, digest })
    }
}

/// The first component is a registry when it has a dot or a port or is `localhost`.
fn split_registry(text: &str) -> (&str, &str) {
    match text.split_once('/') {
        Some(("index.docker.io", rest)) => (DOCKER_HUB, rest),
        Some((first, rest))
            if first.contains(['.', ':'])
                || first == "localhost"
                || first.bytes().any(|byte| byte.is_ascii_uppercase()) =>
        {
            (first, rest)
        }
        _ => (DOCKER_HUB, text),
    }
}

/// `HOST[:PORT]`, where the host is a name, an IPv4 address, or an IPv6 address in brackets:
/// <https://pkg.go.dev/github.com/distribution/reference#pkg-overview>.
fn is_registry(name: &str) -> bool {
    let is_address = |text: &str| text.parse::<std::net::Ipv6Addr>().is_ok();
    let is_port = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let is_label = |label: &str| {
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        !label.is_empty()
            && label.bytes().all(fits)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let (host, port) = match name.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, "")) => return is_address(address),
        Some((address, port)) if is_address(address) => ("", port.strip_prefix(':')),
        Some(_) => return false,
        None => match name.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (name, None),
        },
    };
    let is_host = host.split('.').all(is_label) || name.starts_with('[');
    is_host && (port.is_some_and(is_port) || port.is_none() && !name.starts_with('['))
}

fn is_tag(tag: &str) -> bool {
    let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    tag.len() <= 128
        && tag.bytes().next().is_some_and(word)
        && tag.bytes().all(|byte| word(byte) || byte == b'.' || byte == b'-')
}

/// Runs of lower-case letters and digits, with `.`, `_`, `__` or dashes between them.
fn is_component(name: &str) -> bool {
    let alphanumeric = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let separators_are_fine = name
        .split(|character: char| character.is_ascii_lowercase() || character.is_ascii_digit())
        .all(|between| {
            matches!(between, "" | "." | "_" | "__") || between.bytes().all(|byte| byte == b'-')
        });
    name.bytes().next().is_some_and(alphanumeric)
        && name.bytes().last().is_some_and(alphanumeric)
        && separators_are_fine
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.repository)?;
        self.tag.iter().try_for_each(|tag| write!(f, ":{tag}"))?;
        self.digest.iter().try_for_each(|digest| write!(f, "@{digest}"))
    }
}

impl TryFrom<String> for Reference {
    type Error = InvalidReference;

    fn try_from(text: String) -> Result<Self, InvalidReference> {
        text.parse()
    }
}

impl From<Reference> for String {
    fn from(reference: Reference) -> Self {
        reference.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn completes_names_as_docker_does() {
        let check = |text: &str, full: &str, familiar: &str| {
            let reference: Reference = text.parse().expect(text);
            assert_eq!((&*reference.to_string(), &*reference.familiar()), (full, familiar));
            assert_eq!(reference.to_string().parse(), Ok(reference));
        };
        check("node", "docker.io/library/node:latest", "node:latest");
        check("node:18-alpine", "docker.io/library/node:18-alpine", "node:18-alpine");
        check("bitnami/redis", "docker.io/bitnami/redis:latest", "bitnami/redis:latest");
        check("localhost:5000/a/b:c", "localhost:5000/a/b:c", "localhost:5000/a/b:c");
        check("ghcr.io/x/y", "ghcr.io/x/y:latest", "ghcr.io/x/y:latest");
        check("index.docker.io/library/a", "docker.io/library/a:latest", "a:latest");
        check("[2001:db8::1]:5000/a", "[2001:db8::1]:5000/a:latest", "[2001:db8::1]:5000/a:latest");
        check("library/a/b", "docker.io/library/a/b:latest", "library/a/b:latest");
        let pinned = format!("a@{}", Digest::of(b"x"));
        check(&pinned, &format!("docker.io/library/{pinned}"), &pinned);
    }

    #[test]
    fn says_what_is_wrong() {
        let check = |text: &str, part: &str| {
            let error = text.parse::<Reference>().expect_err(text).to_string();
            assert!(error.contains(part), "{text}: {error}");
        };
        check("", "empty");
        check("Node", "lower case");
        check("a:b c", "tag");
        check(&"a".repeat(248), "255 characters");
        check("a@sha256:12", "no digest");
        for bad in
            ["../a", "./a", ".b/a", "a..b/c", "-a.b/c", "a.b:/c", "a.b:x/c", "[::/a", "a_.b/c"]
        {
            check(bad, "no registry");
        }
        for bad in ["a//b", "-a", "a.", "a..b", "a/", "/a"] {
            check(bad, "repository");
        }
    }
}
