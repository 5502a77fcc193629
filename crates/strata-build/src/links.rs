//! What leads where among a builder's values, for the store that keeps them.

use std::path::Path;

use strata_cas::entry::Entry;
use strata_cas::{BlobId, FreeCache, Link, Links, Named, Record, StoreError};
use strata_oci::Digest;

use crate::caches::{Caches, Removed};
use crate::images::{self, BLOBS, IMAGES, NAMES, NOTES, PREDICATES};
use crate::layers::{self, ImageLayer, Payload, StepLayer};
use crate::{chunks, far, packed_layer, push, rewrite, serving, split, tars};

/// Knows the payloads of steps, and the tables of images and layers.
#[derive(Debug, Clone, Copy, Default)]
pub struct ImageLinks;

impl Links for ImageLinks {
    fn of_record(&self, record: &Record) -> Vec<Link> {
        let layers = Payload::decode(&record.payload).map(|payload| payload.layers);
        let of_step = |layer: &StepLayer| match layer {
            StepLayer::Described(layer) => of_layer(layer),
            StepLayer::Made { made } => vec![Link::Layer(*made)],
        };
        layers.unwrap_or_default().iter().flat_map(of_step).collect()
    }

    fn of_name(&self, table: &str, key: &str, value: &[u8]) -> Named {
        match table {
            NAMES => {
                let ids = images::ids(value).unwrap_or_default();
                let of_image =
                    |id: Digest| [IMAGES, PREDICATES].map(|table| name(table, id.to_string()));
                Named::Root(ids.into_values().flat_map(of_image).collect())
            }
            IMAGES => {
                let Some(row) = images::row_of(value) else { return Named::Derived(Vec::new()) };
                let mut links = vec![Link::Blob(row.config)];
                links.extend(row.layers.iter().flat_map(of_layer));
                Named::Derived(links)
            }
            layers::TABLE => {
                let layer = serde_json::from_slice::<ImageLayer>(value);
                Named::Derived(layer.map(|layer| of_layer(&layer)).unwrap_or_default())
            }
            packed_layer::TABLE => {
                let row = serde_json::from_slice::<packed_layer::Row>(value).ok();
                let pieces = row.into_iter().flat_map(|row| row.pieces);
                Named::Derived(pieces.filter_map(|(_, _, blob)| blob.map(Link::Blob)).collect())
            }
            BLOBS => {
                let id = strata_oci::blobs::id_of(value);
                Named::Derived(id.map(Link::Blob).into_iter().collect())
            }
            far::TABLE | tars::TABLE => {
                let layer = key.parse::<BlobId>().map(|id| Link::Layer(id.into()));
                Named::Derived(layer.into_iter().collect())
            }
            rewrite::TABLE | split::TABLE | chunks::TABLE => {
                let layer = serde_json::from_slice::<ImageLayer>(value);
                Named::Derived(layer.map(|layer| of_layer(&layer)).unwrap_or_default())
            }
            push::TABLE => {
                let digest = key.split(' ').next().unwrap_or_default().to_owned();
                Named::Derived(vec![name(BLOBS, digest)])
            }
            PREDICATES => {
                let predicates = images::predicates_in(value).unwrap_or_default();
                let blobs = predicates.into_iter().map(|(_, blob)| Link::Blob(blob));
                Named::Derived(blobs.chain([name(IMAGES, key.to_owned())]).collect())
            }
            NOTES => Named::Derived(vec![name(IMAGES, key.to_owned())]),
            serving::TABLE => {
                let row = name(packed_layer::TABLE, String::from_utf8_lossy(value).into_owned());
                Named::Derived(vec![row])
            }
            strata_oci::far::QUEUE => strata_oci::far::Errand::named(value),
            // Somebody else's: nothing is known of it, unless it is an entry of the server's.
            _ => Entry::named(table, value).unwrap_or(Named::Root(Vec::new())),
        }
    }

    fn elsewhere(&self, table: &str, key: &str, value: &[u8]) -> Vec<Link> {
        if table != far::TABLE {
            return Vec::new();
        }
        let layer = key.parse::<BlobId>().map(|id| Link::Layer(id.into()));
        let known = serde_json::from_slice::<far::Whereabouts>(value);
        let blob = known.map(|known| name(BLOBS, known.blob.digest.to_string()));
        layer.into_iter().chain(blob).collect()
    }

    fn is_optional(&self, table: &str) -> bool {
        // Most images have nothing said about them.
        table == PREDICATES
    }

    fn used(&self, table: &str, value: &[u8]) -> u64 {
        let is_entry = table.starts_with(strata_cas::entry::PREFIX);
        let entry = is_entry.then(|| Entry::decode(value)).flatten();
        entry.map_or(0, |entry| entry.used)
    }

    fn project_of(&self, record: &Record) -> String {
        record.slot.0.split('\0').next().unwrap_or_default().to_owned()
    }

    fn title_of(&self, record: &Record) -> String {
        let fact = |name: &str| {
            let fact = record.facts.iter().find(|fact| fact.name == name);
            fact.map(|fact| fact.value.to_string()).unwrap_or_default()
        };
        match &*fact("kind") {
            "copy" => format!("COPY … {}", fact("destination")),
            "run" => format!("RUN {}", fact("command")),
            "image" => format!("FROM {}", fact("image")),
            "make directory" => format!("WORKDIR {}", fact("destination")),
            other => other.to_owned(),
        }
    }

    fn free_caches(&self, directory: &Path) -> Result<Vec<FreeCache>, StoreError> {
        Caches::new(directory).free()
    }

    fn remove_cache(&self, directory: &Path, key: &str) -> Result<bool, StoreError> {
        Ok(Caches::new(directory).remove(key)? == Removed::Done)
    }
}

fn of_layer(layer: &ImageLayer) -> Vec<Link> {
    let blob = layer.blob.as_ref().map(|blob| name(BLOBS, blob.digest.to_string()));
    blob.into_iter().chain([Link::Layer(layer.layer)]).collect()
}

fn name(table: &str, name: String) -> Link {
    Link::Name { table: table.to_owned(), name }
}
