//! What a path below `/v2` means. A repository's name has slashes in it, so the words behind it
//! are found from the end.

use crate::fault::Fault;

use super::fault;

/// What is asked for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Place<'a> {
    Root,
    Catalog,
    Tags { name: &'a str },
    Referrers { name: &'a str, digest: &'a str },
    Manifest { name: &'a str, reference: &'a str },
    Blob { name: &'a str, digest: &'a str },
    Uploads { name: &'a str },
    Upload { name: &'a str, id: &'a str },
}

/// Reads a path that begins with `/v2`.
pub(super) fn place(path: &str) -> Result<Place<'_>, Fault> {
    let rest = path.strip_prefix("/v2").unwrap_or(path);
    let rest = rest.strip_prefix('/').unwrap_or(rest);
    if rest.is_empty() {
        return Ok(Place::Root);
    }
    if rest == "_catalog" {
        return Ok(Place::Catalog);
    }
    let found = uploads(rest)
        .or_else(|| rest.strip_suffix("/tags/list").map(|name| Place::Tags { name }))
        .or_else(|| {
            last(rest, "/manifests/", |name, reference| Place::Manifest { name, reference })
        })
        .or_else(|| last(rest, "/blobs/", |name, digest| Place::Blob { name, digest }))
        .or_else(|| last(rest, "/referrers/", |name, digest| Place::Referrers { name, digest }));
    let found = found.ok_or(Fault::NotFound)?;
    let name = match found {
        Place::Root | Place::Catalog => return Ok(found),
        Place::Tags { name }
        | Place::Referrers { name, .. }
        | Place::Manifest { name, .. }
        | Place::Blob { name, .. }
        | Place::Uploads { name }
        | Place::Upload { name, .. } => name,
    };
    match is_name(name) {
        true => Ok(found),
        false => Err(fault("NAME_INVALID", format!("`{name}` is no name of a repository"))),
    }
}

fn uploads(rest: &str) -> Option<Place<'_>> {
    let (name, id) = rest
        .rsplit_once("/blobs/uploads")
        .filter(|(_, id)| id.is_empty() || id.starts_with('/') && !id[1..].contains('/'))?;
    match id.trim_start_matches('/') {
        "" => Some(Place::Uploads { name }),
        id => Some(Place::Upload { name, id }),
    }
}

fn last<'a>(
    rest: &'a str,
    word: &str,
    make: impl FnOnce(&'a str, &'a str) -> Place<'a>,
) -> Option<Place<'a>> {
    let (name, what) = rest.rsplit_once(word)?;
    (!what.is_empty() && !what.contains('/')).then(|| make(name, what))
}

/// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(/…)*`, as the specification has it; a registry's name may
/// come first, with a port, for images of the store that came from there.
fn is_name(name: &str) -> bool {
    let text = format!("{name}:x");
    name.len() <= 255 && !name.contains('@') && text.parse::<strata_oci::Reference>().is_ok()
}

/// A tag (specification: `[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}`).
pub(super) fn is_tag(tag: &str) -> bool {
    let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    (1..=128).contains(&tag.len())
        && tag.bytes().next().is_some_and(word)
        && tag.bytes().all(|byte| word(byte) || byte == b'.' || byte == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_with_slashes_and_words() {
        let check = |path: &str, expected: Place<'_>| {
            assert_eq!(place(path).expect(path), expected, "{path}");
        };
        check("/v2", Place::Root);
        check("/v2/", Place::Root);
        check("/v2/_catalog", Place::Catalog);
        check("/v2/a/b/tags/list", Place::Tags { name: "a/b" });
        check("/v2/a/manifests/x", Place::Manifest { name: "a", reference: "x" });
        check(
            "/v2/a/manifests/manifests/x",
            Place::Manifest { name: "a/manifests", reference: "x" },
        );
        check("/v2/a/blobs/uploads/", Place::Uploads { name: "a" });
        check("/v2/a/blobs/uploads", Place::Uploads { name: "a" });
        check("/v2/a/blobs/uploads/1-2", Place::Upload { name: "a", id: "1-2" });
        check("/v2/a/blobs/sha256:1", Place::Blob { name: "a", digest: "sha256:1" });
        check("/v2/a/referrers/sha256:1", Place::Referrers { name: "a", digest: "sha256:1" });
        check("/v2/ghcr.io/x/y/tags/list", Place::Tags { name: "ghcr.io/x/y" });
        for bad in
            ["/v2/A/tags/list", "/v2/a//b/tags/list", "/v2/-a/blobs/uploads/", "/v2//tags/list"]
        {
            assert!(place(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn tags() {
        assert!(is_tag("latest") && is_tag("_1.2-x") && is_tag(&"a".repeat(128)));
        assert!(!is_tag("") && !is_tag(".a") && !is_tag("a:b") && !is_tag(&"a".repeat(129)));
    }
}
