//! Notes in manifests and indexes, and where they stand.

use std::collections::BTreeMap;

use strata_oci::Platform;

/// Notes: which document they are for, which platform, name and value.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Annotations(pub Vec<Annotation>);

/// One note.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Annotation {
    /// Where it stands.
    pub place: AnnotationPlace,
    /// Only for this platform's image.
    pub platform: Option<Platform>,
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: String,
}

/// Where a note stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AnnotationPlace {
    /// In the manifest.
    Manifest,
    /// In the index.
    Index,
    /// In the index, with the manifest's description.
    ManifestDescriptor,
    /// With the description of the index.
    IndexDescriptor,
}

impl Annotations {
    /// Whether there is a note in an index.
    pub fn need_index(&self) -> bool {
        let of_index =
            |place| matches!(place, AnnotationPlace::Index | AnnotationPlace::IndexDescriptor);
        self.0.iter().any(|one| of_index(one.place))
    }

    pub(crate) fn of(
        &self,
        place: AnnotationPlace,
        platform: Option<&Platform>,
    ) -> BTreeMap<String, String> {
        let is_meant = |one: &&Annotation| {
            one.place == place
                && one
                    .platform
                    .as_ref()
                    .is_none_or(|only| platform.is_some_and(|platform| only.serves(platform)))
        };
        let notes = self.0.iter().filter(is_meant);
        notes.map(|one| (one.name.clone(), one.value.clone())).collect()
    }
}
