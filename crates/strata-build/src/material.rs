//! What a build was made of that came from elsewhere: base images, downloads, repositories. For
//! whoever wants to know afterwards; it enters no key.

use strata_oci::{Digest, Platform, Reference};
use strata_plan::{ImageName, ImageNeed, Op, RemoteSource, ResolvedImage};

use crate::session::Session;
use crate::{BuildError, Context};

/// Something that a build took from elsewhere, as it was then.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Material {
    /// Where it came from, without user and password: a package URL of an image, or a URL.
    pub uri: String,
    /// The name of the digest's algorithm: `sha256`, or `sha1` for a commit.
    pub algorithm: &'static str,
    /// The digest in hexadecimal digits.
    pub digest: String,
}

impl Material {
    pub(crate) fn download(source: &RemoteSource, digest: &Digest) -> Self {
        Self { uri: source.shown(), algorithm: "sha256", digest: digest.hex() }
    }

    pub(crate) fn commit(source: &RemoteSource, commit: &str) -> Self {
        let algorithm = if commit.len() == 64 { "sha256" } else { "sha1" };
        let reference = match source {
            RemoteSource::Git(source) => source.reference.as_deref(),
            RemoteSource::Http(_) => None,
        };
        let reference = reference.map(|name| format!("#{name}")).unwrap_or_default();
        let uri = format!("{}{reference}", source.shown());
        Self { uri, algorithm, digest: commit.to_owned() }
    }

    fn image(need: &ImageNeed, image: &ResolvedImage) -> Self {
        let uri = match &need.name {
            ImageName::Reference(name) => image_url(name, &need.platform),
            ImageName::Context(name) => format!("pkg:oci/{}", encoded(name)),
        };
        Self { uri, algorithm: "sha256", digest: image.digest.hex() }
    }
}

/// An image's package URL, as BuildKit writes it.
pub fn image_url(name: &Reference, platform: &Platform) -> String {
    let path = Reference { tag: None, digest: None, ..name.clone() }.familiar();
    let tag = name.tag.as_deref().map(|tag| format!("@{tag}")).unwrap_or_default();
    let digest = name.digest.map(|digest| format!("digest={digest}&")).unwrap_or_default();
    format!("pkg:docker/{path}{tag}?{digest}platform={}", encoded(&platform.to_string()))
}

/// The text as package URLs and queries take it.
pub fn encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b':' => {
                encoded.push(char::from(byte));
            }
            other => encoded.push_str(&format!("%{other:02X}")),
        }
    }
    encoded
}

/// All that the steps of a build and its contexts took from elsewhere, sorted, each once.
pub(crate) fn of(session: &Session<'_>) -> Result<Vec<Material>, BuildError> {
    let mut materials = Vec::new();
    for step in &session.plan.steps {
        match &step.op {
            Op::Image(image) => materials.push(Material::image(&image.need, &image.image)),
            Op::Copy(copy) => {
                for (_, remote) in copy.remotes() {
                    materials.extend(match remote {
                        RemoteSource::Git(source) => {
                            session.commit(source).map(|id| Material::commit(remote, id))
                        }
                        RemoteSource::Http(source) => {
                            let digest = session.fetching().digest(source)?;
                            digest.map(|digest| Material::download(remote, &digest))
                        }
                    });
                }
            }
            Op::Run(_) | Op::MakeDirectory(_) => {}
        }
    }
    let given = session.request.contexts.values().filter_map(|context| match context {
        Context::Tree(tree) => tree.origin.clone(),
        _ => None,
    });
    materials.extend(given.chain(session.origins().cloned()));
    materials.sort();
    materials.dedup();
    Ok(materials)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_have_package_urls() {
        let check = |name: &str, expected: &str| {
            let name: Reference = name.parse().expect(name);
            let platform: Platform = "linux/arm64/v8".parse().expect("a platform");
            let expected = format!("{expected}platform={}", encoded(&platform.to_string()));
            assert_eq!(image_url(&name, &platform), expected);
        };
        check("alpine", "pkg:docker/alpine@latest?");
        check("127.0.0.1:5000/a/b:1", "pkg:docker/127.0.0.1:5000/a/b@1?");
        assert_eq!(encoded("1:2.0+b@x/y"), "1:2.0%2Bb%40x%2Fy");
    }

    #[test]
    fn passwords_are_no_part_of_it() {
        let parse = |text: &str| RemoteSource::parse(text).expect("it").expect("remote");
        let git = parse("https://me:pw@example.org/a.git#main");
        let uri = Material::commit(&git, &"0".repeat(40)).uri;
        assert_eq!(uri, "https://example.org/a.git#main");
        let file = parse("https://me:pw@example.org/a.tar");
        let uri = Material::download(&file, &Digest::of(b"")).uri;
        assert_eq!(uri, "https://example.org/a.tar");
    }
}
