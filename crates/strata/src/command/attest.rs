//! What is said about an image, to go with it: how it was built (SLSA provenance 1.0) and what is
//! in it (SPDX 2.3), each as an in-toto statement about the image's manifest. What is said is kept
//! with the image, for whoever sends it later.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};
use strata_build::{
    Attestation, BuildError, BuildRequest, Inventory, Material, Package, StoredImage, image_url,
    rfc3339,
};
use strata_dockerfile::sounds_secret;
use strata_oci::{Digest, ManifestBytes, Platform, Reference};

use super::deliver::Built;
use super::history;
use crate::request::attest::{Attestations, Provenance};
use crate::session::Session;

const STATEMENT: &str = "https://in-toto.io/Statement/v1";
const PROVENANCE: &str = "https://slsa.dev/provenance/v1";
const SPDX: &str = "https://spdx.dev/Document";
/// What tells our provenance's parameters from others'.
const BUILD_TYPE: &str =
    "https://github.com/strata-build/strata/blob/main/docs/attestations.md#provenance";
const HOME: &str = "https://github.com/strata-build/strata";
/// What stands in place of a value that may be a secret.
const HIDDEN: &str = "***";

/// What is said, with its type.
type Predicate = (String, Value);

/// A build, for what is to be said about it.
pub(super) struct Subject<'a> {
    pub(super) asked: &'a Attestations,
    pub(super) names: &'a [Reference],
    pub(super) request: &'a BuildRequest,
    /// What the Dockerfile is called.
    pub(super) dockerfile: &'a str,
    pub(super) built: &'a [Built],
    /// When the build began and ended, in seconds since 1970.
    pub(super) times: [i64; 2],
    /// What was found out already, by image.
    pub(super) said: RefCell<BTreeMap<Digest, Vec<Predicate>>>,
    /// Databases of packages that were not read, in words.
    pub(super) unread: RefCell<BTreeSet<String>>,
}

impl Subject<'_> {
    /// The statements about one image.
    pub(super) fn attest(
        &self,
        session: &Session,
        image: &StoredImage,
        manifest: &ManifestBytes,
    ) -> Result<Option<Attestation>, BuildError> {
        Ok(statements(self.predicates(session, image)?, self.names, image, manifest))
    }

    /// Keeps what is said about an image; where nothing is said, nothing is any more.
    pub(super) fn keep(&self, session: &Session, image: &StoredImage) -> Result<(), BuildError> {
        let bytes = |(kind, predicate): Predicate| (kind, predicate.to_string().into_bytes());
        let predicates = self.predicates(session, image)?.into_iter().map(bytes);
        session.images().set_predicates(&image.id, &predicates.collect::<Vec<_>>())
    }

    fn predicates(
        &self,
        session: &Session,
        image: &StoredImage,
    ) -> Result<Vec<Predicate>, BuildError> {
        if let Some(said) = self.said.borrow().get(&image.id) {
            return Ok(said.clone());
        }
        let mut said = Vec::new();
        if self.asked.sbom {
            let name = self.names.first().map_or_else(|| image.id.to_string(), Reference::familiar);
            let inventory = session.images().inventory(image)?;
            said.push((SPDX.to_owned(), spdx(&inventory, &name, image)));
            self.unread.borrow_mut().extend(unread(&inventory));
        }
        if let Some(predicate) = self.provenance(&image.config.platform()) {
            said.push((PROVENANCE.to_owned(), predicate));
        }
        self.said.borrow_mut().insert(image.id, said.clone());
        Ok(said)
    }

    /// How the image for a platform was built, if that is to be said.
    pub(super) fn provenance(&self, platform: &Platform) -> Option<Value> {
        let asked = self.asked.provenance.as_ref()?;
        let built = self.built.iter().find(|built| built.image.config.platform() == *platform)?;
        let material = |it: &Material| json!({"uri": it.uri, "digest": {it.algorithm: it.digest}});
        let materials = built.report.materials.iter().map(material);
        let [started, finished] = match self.request.epoch {
            Some(epoch) => [epoch; 2],
            None => self.times,
        };
        let mut metadata = json!({
            "invocationId": built.report.build,
            "startedOn": rfc3339(started),
            "finishedOn": rfc3339(finished),
            "strata_steps": steps(built, asked),
            "strata_reproducible": asked.is_reproducible,
        });
        if asked.is_max {
            metadata["strata_source"] = json!({
                "filename": self.file_name(),
                "text": String::from_utf8_lossy(&self.request.dockerfile),
            });
        }
        Some(json!({
            "buildDefinition": {
                "buildType": BUILD_TYPE,
                "externalParameters": self.parameters(asked, platform),
                "internalParameters": {"builderPlatform": Platform::native().to_string()},
                "resolvedDependencies": materials.collect::<Vec<_>>(),
            },
            "runDetails": {
                "builder": {
                    "id": asked.builder.as_deref().unwrap_or(HOME),
                    "version": {"strata": env!("CARGO_PKG_VERSION")},
                },
                "metadata": metadata,
            },
        }))
    }

    /// The Dockerfile's URL, or its name: where it lies on this machine is nobody's business.
    fn file_name(&self) -> &str {
        match self.dockerfile.contains("://") {
            true => self.dockerfile,
            false => self.dockerfile.rsplit('/').next().unwrap_or_default(),
        }
    }

    /// What the user asked for, in the words of BuildKit's frontend.
    fn parameters(&self, asked: &Provenance, platform: &Platform) -> Value {
        let request = self.request;
        let mut arguments = Map::new();
        if let Some(target) = &request.target {
            arguments.insert("target".to_owned(), json!(target));
        }
        arguments.insert("platform".to_owned(), json!(platform.to_string()));
        if !request.no_cache.is_empty() {
            let stages: Vec<&str> = request.no_cache.iter().map(String::as_str).collect();
            arguments.insert("no-cache".to_owned(), json!(stages.join(",")));
        }
        if asked.is_max {
            for (name, value) in &request.build_args {
                let value = if sounds_secret(name) { HIDDEN } else { value };
                arguments.insert(format!("build-arg:{name}"), json!(value));
            }
            for (name, value) in &request.labels {
                arguments.insert(format!("label:{name}"), json!(value));
            }
        }
        json!({
            "configSource": {"path": self.file_name()},
            "request": {"frontend": "dockerfile.v0", "args": arguments},
        })
    }
}

/// The statements about an image that were kept with it, about a manifest that it has by now.
pub(super) fn kept(
    session: &Session,
    names: &[Reference],
    image: &StoredImage,
    manifest: &ManifestBytes,
) -> Result<Option<Attestation>, BuildError> {
    let mut predicates = Vec::new();
    for (kind, bytes) in session.images().predicates(&image.id)? {
        let predicate = serde_json::from_slice(&bytes).map_err(|error| BuildError::Damaged {
            what: "attestations",
            reason: error.to_string(),
        })?;
        predicates.push((kind, predicate));
    }
    Ok(statements(predicates, names, image, manifest))
}

/// What is said as statements about an image's manifest.
fn statements(
    predicates: Vec<Predicate>,
    names: &[Reference],
    image: &StoredImage,
    manifest: &ManifestBytes,
) -> Option<Attestation> {
    let subjects = subjects(names, image, manifest);
    let statement = |(kind, predicate): Predicate| {
        let statement = json!({
            "_type": STATEMENT,
            "predicateType": kind,
            "subject": subjects,
            "predicate": predicate,
        });
        (kind, statement.to_string().into_bytes())
    };
    let statements: Vec<_> = predicates.into_iter().map(statement).collect();
    (!statements.is_empty()).then_some(Attestation { statements })
}

/// One for each name, as BuildKit has them.
fn subjects(names: &[Reference], image: &StoredImage, manifest: &ManifestBytes) -> Vec<Value> {
    let platform = image.config.platform();
    let mut names: Vec<String> = names.iter().map(|name| image_url(name, &platform)).collect();
    if names.is_empty() {
        names.push("_".to_owned());
    }
    let digest = json!({"sha256": manifest.digest.hex()});
    names.into_iter().map(|name| json!({"name": name, "digest": digest})).collect()
}

/// What became of each step.
fn steps(built: &Built, asked: &Provenance) -> Vec<Value> {
    let of = |step: &strata_build::StepReport| {
        let keyword = step.text.split_whitespace().next().unwrap_or_default();
        json!({
            "stage": step.stage,
            "instruction": if asked.is_max { &step.text } else { keyword },
            "verdict": history::verdict(&step.verdict),
            "milliseconds": step.cost.millis,
        })
    };
    built.report.steps.iter().map(of).collect()
}

/// An SPDX document in which the image contains its packages: a function of the image.
fn spdx(inventory: &Inventory, name: &str, image: &StoredImage) -> Value {
    let hex = image.id.hex();
    let id = |number: usize| format!("SPDXRef-Package-{number}");
    let root = json!({
        "SPDXID": "SPDXRef-Image", "name": name, "versionInfo": image.id.to_string(),
        "downloadLocation": "NOASSERTION", "filesAnalyzed": false,
        "supplier": "NOASSERTION", "licenseConcluded": "NOASSERTION",
        "licenseDeclared": "NOASSERTION", "copyrightText": "NOASSERTION",
        "primaryPackagePurpose": "CONTAINER",
        "checksums": [{"algorithm": "SHA256", "checksumValue": hex}],
    });
    let mut packages = vec![root];
    let mut relations = vec![relation("SPDXRef-DOCUMENT", "DESCRIBES", "SPDXRef-Image")];
    for (number, package) in inventory.packages.iter().enumerate() {
        let url = package.url(inventory.distribution.as_ref());
        packages.push(spdx_package(&id(number), package, &url));
        relations.push(relation("SPDXRef-Image", "CONTAINS", &id(number)));
    }
    let left_out: Vec<String> = unread(inventory).collect();
    let mut document = json!({
        "spdxVersion": "SPDX-2.3", "dataLicense": "CC0-1.0", "SPDXID": "SPDXRef-DOCUMENT",
        "name": name,
        "documentNamespace": format!("{HOME}/spdx/{hex}"),
        "creationInfo": {
            "created": whole_seconds(image.config.created.as_deref()),
            "creators": [format!("Tool: strata-{}", env!("CARGO_PKG_VERSION"))],
        },
        "packages": packages,
        "relationships": relations,
    });
    if !left_out.is_empty() {
        document["comment"] = json!(left_out.join("\n"));
    }
    document
}

/// What is not in the list although the image has it.
fn unread(inventory: &Inventory) -> impl Iterator<Item = String> {
    inventory
        .unread
        .iter()
        .map(|(path, why)| format!("the packages of /{path} are left out: {why}"))
}

fn relation(from: &str, kind: &str, to: &str) -> Value {
    json!({"spdxElementId": from, "relationshipType": kind, "relatedSpdxElement": to})
}

fn spdx_package(id: &str, package: &Package, url: &str) -> Value {
    let mut described = json!({
        "SPDXID": id, "name": package.name, "versionInfo": package.version,
        "downloadLocation": "NOASSERTION", "filesAnalyzed": false,
        "supplier": "NOASSERTION", "licenseConcluded": "NOASSERTION",
        "licenseDeclared": "NOASSERTION", "copyrightText": "NOASSERTION",
        "externalRefs": [{
            "referenceCategory": "PACKAGE-MANAGER",
            "referenceType": "purl",
            "referenceLocator": url,
        }],
    });
    if let Some(license) = &package.license {
        // Databases have free text here: an SPDX expression it may be, or not.
        described["licenseComments"] = json!(format!("declared as: {license}"));
    }
    if let Some(source) = &package.source {
        described["sourceInfo"] = json!(format!("built from: {source}"));
    }
    described
}

/// A time as SPDX takes it: in UTC, without fractions of seconds.
fn whole_seconds(created: Option<&str>) -> String {
    let time = created.filter(|time| time.ends_with('Z')).and_then(|time| time.get(..19));
    time.map_or_else(|| rfc3339(0), |time| format!("{time}Z"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_other_builders() {
        let check = |time, expected| assert_eq!(whole_seconds(time), expected);
        check(Some("2024-01-02T03:04:05.678901Z"), "2024-01-02T03:04:05Z");
        check(Some("2024-01-02T03:04:05Z"), "2024-01-02T03:04:05Z");
        check(Some("2024-01-02T03:04:05+02:00"), "1970-01-01T00:00:00Z");
        check(Some("Z"), "1970-01-01T00:00:00Z");
        check(None, "1970-01-01T00:00:00Z");
    }
}
