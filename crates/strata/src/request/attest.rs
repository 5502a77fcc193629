//! `--attest`, `--provenance` and `--sbom`, in Docker's forms: what is to be said about an image.

use super::options::unknown;
use super::output::{flag, pieces};
use crate::failure::Failure;

const TYPES: [&str; 2] = ["provenance", "sbom"];
const OF_PROVENANCE: [&str; 6] =
    ["mode", "builder-id", "reproducible", "version", "inline-only", "disabled"];

/// What is to be said; nothing, unless it is asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Attestations {
    pub(crate) provenance: Option<Provenance>,
    pub(crate) sbom: bool,
}

/// How provenance is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Provenance {
    /// Whether build arguments, labels and the Dockerfile are told, too.
    pub(crate) is_max: bool,
    /// Who has built it.
    pub(crate) builder: Option<String>,
    /// Whether the user says that the same would come out again.
    pub(crate) is_reproducible: bool,
}

impl Attestations {
    /// What the flags ask for; where one is said twice, the last one counts.
    pub(crate) fn of_flags(
        attests: &[String],
        provenance: Option<&str>,
        sbom: Option<&str>,
    ) -> Result<Self, Failure> {
        let mut asked = Self::default();
        for text in attests {
            asked.add(text).map_err(|failure| failure.about(&format!("--attest {text}")))?;
        }
        for (name, value) in [("provenance", provenance), ("sbom", sbom)] {
            let Some(value) = value else { continue };
            // `--provenance=false` is short for `--attest type=provenance,disabled=true`.
            let rest = match flag(&Some(value.to_owned()), true) {
                Ok(true) => "disabled=false",
                Ok(false) => "disabled=true",
                Err(_) => value,
            };
            let added = asked.add(&format!("type={name},{rest}"));
            added.map_err(|failure| failure.about(&format!("--{name} {value}")))?;
        }
        Ok(asked)
    }

    /// Whether nothing is to be said.
    pub(crate) fn are_none(&self) -> bool {
        *self == Self::default()
    }

    fn add(&mut self, text: &str) -> Result<(), Failure> {
        let mut kind = None;
        let mut fields = Vec::new();
        for piece in pieces(text).map_err(Failure::usage)? {
            match piece.split_once('=') {
                Some(("type", value)) => kind = Some(value.to_owned()),
                Some((key, value)) => fields.push((key.trim().to_owned(), value.to_owned())),
                None => return Err(Failure::usage(format!("`{piece}` has no `=`"))),
            }
        }
        let disabled = fields.iter().rev().find(|(key, _)| key == "disabled");
        let is_off = match disabled {
            Some((_, value)) => flag(&Some(value.clone()), true).map_err(Failure::usage)?,
            None => false,
        };
        match kind.as_deref() {
            Some("provenance") => {
                let provenance = Provenance::of(&fields)?;
                self.provenance = (!is_off).then_some(provenance);
            }
            Some("sbom") => {
                check_sbom(&fields)?;
                self.sbom = !is_off;
            }
            Some(other) => return Err(unknown("type of attestation", other, &TYPES)),
            None => return Err(Failure::usage("`type=` is missing")),
        }
        Ok(())
    }
}

impl Provenance {
    fn of(fields: &[(String, String)]) -> Result<Self, Failure> {
        let mut asked = Self { is_max: true, builder: None, is_reproducible: false };
        for (key, value) in fields {
            match (&**key, &**value) {
                ("mode", "min") => asked.is_max = false,
                ("mode", "max") => asked.is_max = true,
                ("mode", other) => return Err(unknown("mode", other, &["min", "max"])),
                ("builder-id", id) => asked.builder = Some(id.to_owned()),
                ("reproducible", value) => {
                    let value = flag(&Some(value.to_owned()), true);
                    asked.is_reproducible = value.map_err(Failure::usage)?;
                }
                ("version", "v1") => {}
                ("version", other) => {
                    let text = format!("SLSA provenance `{other}` is not written, only `v1`");
                    return Err(Failure::usage(text));
                }
                // Caches never hold provenance, inline or not.
                ("inline-only" | "disabled", _) => {}
                (other, _) => return Err(unknown("key of provenance", other, &OF_PROVENANCE)),
            }
        }
        Ok(asked)
    }
}

fn check_sbom(fields: &[(String, String)]) -> Result<(), Failure> {
    for (key, value) in fields {
        match &**key {
            "disabled" => {}
            "generator" => {
                let text = format!(
                    "the generator `{value}` is not run: strata reads the image's \
                    package databases itself"
                );
                return Err(Failure::usage(text).hint("`--sbom=true` asks for that"));
            }
            other => return Err(unknown("key of an SBOM", other, &["generator", "disabled"])),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(attests: &[&str], provenance: Option<&str>, sbom: Option<&str>) -> Attestations {
        let attests: Vec<String> = attests.iter().map(|text| (*text).to_owned()).collect();
        Attestations::of_flags(&attests, provenance, sbom).expect("understood")
    }

    #[test]
    fn dockers_forms() {
        let check = |attests: &[&str], provenance, sbom, expected: (Option<bool>, bool)| {
            let asked = asked(attests, provenance, sbom);
            assert_eq!((asked.provenance.map(|it| it.is_max), asked.sbom), expected);
        };
        check(&[], None, None, (None, false));
        check(&[], Some("true"), Some("1"), (Some(true), true));
        check(&[], Some("mode=min"), None, (Some(false), false));
        check(&["type=provenance,mode=max", "type=sbom"], None, None, (Some(true), true));
        check(&["type=provenance", "type=sbom"], Some("false"), Some("false"), (None, false));
        check(&["type=sbom,disabled=true"], None, None, (None, false));
        let fields = "mode=min,builder-id=https://ci/1,reproducible=true,version=v1";
        let provenance = asked(&[], Some(fields), None).provenance.expect("it");
        assert_eq!(provenance.builder.as_deref(), Some("https://ci/1"));
        assert!(provenance.is_reproducible);
    }

    #[test]
    fn mistakes_are_named() {
        let check = |attest: &str, message: &str| {
            let attests = [attest.to_owned()];
            let failure = Attestations::of_flags(&attests, None, None).expect_err(attest);
            assert!(failure.message.contains(message), "{}", failure.message);
            assert_eq!(failure.code(), 2);
        };
        check("type=provenence", "unknown type of attestation `provenence`");
        check("mode=max", "`type=` is missing");
        check("type=provenance,mode=mid", "unknown mode `mid`");
        check("type=provenance,version=v0.2", "only `v1`");
        check("type=provenance,x=1", "unknown key of provenance `x`");
        check("type=sbom,generator=a/b", "is not run");
        check("type=sbom,disabled=perhaps", "neither `true` nor `false`");
        check("sbom", "has no `=`");
    }
}
