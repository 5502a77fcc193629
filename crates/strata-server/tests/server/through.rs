//! Stores that lie on the far side of a server: what the one conformance suite for every store
//! asks is asked through plain HTTP, Bazel's cache and a registry. Nothing is kept on this side.
//!
//! What no protocol has: claims, which are for processes on one machine.

use std::io::Read;
use std::net::SocketAddr;

use serde_json::{Value as Json, json};
use strata_cas::{
    Blob, BlobId, BlobStore, NameStore, Record, RecordKey, RecordStore, Slot, StoreError,
    conformance,
};
use strata_oci::Digest;

use super::wire::{self, Answer};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// So much of a blob goes to a registry in one piece.
const PIECE_BYTES: usize = 700_001;

/// The suite's parts over each protocol; each one wants a server with nothing in its store.
pub(crate) const PARTS: [fn(SocketAddr); 8] = [
    |server| conformance::blobs(&Keyed { far: Far(server), prefix: "/cache/blobs/" }),
    |server| conformance::incoming(&Keyed { far: Far(server), prefix: "/cache/blobs/" }),
    |server| conformance::blobs(&Keyed { far: Far(server), prefix: "/instance/cas/" }),
    |server| conformance::incoming(&Keyed { far: Far(server), prefix: "/instance/cas/" }),
    |server| conformance::blobs(&Registry(Far(server))),
    |server| conformance::incoming(&Registry(Far(server))),
    |server| conformance::names(&Registry(Far(server))),
    |server| conformance::records(&Values(Far(server))),
];

#[derive(Debug, Clone, Copy)]
struct Far(SocketAddr);

impl Far {
    fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        let length = body.len().to_string();
        let all = [&[("content-length", &*length)], headers].concat();
        wire::send(&mut wire::connect(self.0), method, path, &all, body)
    }

    /// What is there, or that it is not.
    fn get(&self, path: &str) -> Option<Vec<u8>> {
        let answer = self.ask("GET", path, &[], b"");
        match answer.status {
            404 => None,
            _ => Some(answer.is(200).body),
        }
    }
}

/// Blobs under their ids, as plain values or in Bazel's cache.
struct Keyed {
    far: Far,
    prefix: &'static str,
}

impl Keyed {
    fn path(&self, id: &BlobId) -> String {
        format!("{}{id}", self.prefix)
    }
}

impl BlobStore for Keyed {
    fn open(&self, id: &BlobId) -> Result<Option<Blob>, StoreError> {
        Ok(self.far.get(&self.path(id)).map(|bytes| checked(id, bytes)))
    }

    fn put_from(&self, source: &mut dyn Read) -> Result<BlobId, StoreError> {
        let bytes = all(source);
        let id = BlobId::of(&bytes);
        let answer = self.far.ask("PUT", &self.path(&id), &[], &bytes);
        assert!(matches!(answer.status, 200 | 201 | 204), "{}", answer.text());
        Ok(id)
    }

    fn has(&self, id: &BlobId) -> Result<bool, StoreError> {
        Ok(self.size(id)?.is_some())
    }

    fn size(&self, id: &BlobId) -> Result<Option<u64>, StoreError> {
        let answer = self.far.ask("HEAD", &self.path(id), &[], b"");
        Ok((answer.status != 404).then(|| {
            let answer = answer.is(200);
            answer.header("content-length").parse().expect("a length")
        }))
    }
}

fn all(source: &mut dyn Read) -> Vec<u8> {
    let mut bytes = Vec::new();
    source.read_to_end(&mut bytes).expect("a source in memory");
    bytes
}

fn checked(id: &BlobId, bytes: Vec<u8>) -> Blob {
    assert_eq!(BlobId::of(&bytes), *id, "the server has sent other bytes");
    Blob::Bytes(bytes)
}

/// Names are tags; a blob is the layer of the manifest that has its id for a tag.
struct Registry(Far);

impl Registry {
    fn push_blob(&self, repository: &str, bytes: &[u8]) -> Digest {
        let digest = Digest::of(bytes);
        let begin = format!("/v2/{repository}/blobs/uploads/");
        let mut at = self.0.ask("POST", &begin, &[], b"").is(202).header("location").to_owned();
        let mut sent = 0;
        for piece in bytes.chunks(PIECE_BYTES) {
            let range = format!("{sent}-{}", sent + piece.len() - 1);
            let headers = [("content-range", &*range)];
            let answer = self.0.ask("PATCH", &at, &headers, piece).is(202);
            at = answer.header("location").to_owned();
            sent += piece.len();
        }
        self.0.ask("PUT", &format!("{at}?digest={digest}"), &[], b"").is(201);
        digest
    }

    fn push(&self, repository: &str, tag: &str, bytes: &[u8]) {
        let describe = |bytes: &[u8], kind: &str| {
            let digest = self.push_blob(repository, bytes).to_string();
            json!({"mediaType": kind, "digest": digest, "size": bytes.len()})
        };
        let config = describe(b"{}", "application/vnd.oci.empty.v1+json");
        let layers = [describe(bytes, "application/octet-stream")];
        let manifest = json!({
            "schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers,
        });
        let path = format!("/v2/{repository}/manifests/{tag}");
        let kind = [("content-type", MANIFEST)];
        self.0.ask("PUT", &path, &kind, manifest.to_string().as_bytes()).is(201);
    }

    /// Size and path of a layer.
    fn layer(&self, repository: &str, tag: &str) -> Option<(u64, String)> {
        let bytes = self.0.get(&format!("/v2/{repository}/manifests/{tag}"))?;
        let manifest: Json = serde_json::from_slice(&bytes).expect("a manifest");
        let layer = &manifest["layers"][0];
        let digest = layer["digest"].as_str().expect("a digest");
        let path = format!("/v2/{repository}/blobs/{digest}");
        Some((layer["size"].as_u64().expect("a size"), path))
    }

    fn pull(&self, repository: &str, tag: &str) -> Option<Vec<u8>> {
        let (_, path) = self.layer(repository, tag)?;
        Some(self.0.get(&path).expect("a manifest's blob is there"))
    }
}

impl BlobStore for Registry {
    fn open(&self, id: &BlobId) -> Result<Option<Blob>, StoreError> {
        Ok(self.pull("blobs", &id.to_string()).map(|bytes| checked(id, bytes)))
    }

    fn put_from(&self, source: &mut dyn Read) -> Result<BlobId, StoreError> {
        let bytes = all(source);
        let id = BlobId::of(&bytes);
        self.push("blobs", &id.to_string(), &bytes);
        Ok(id)
    }

    fn has(&self, id: &BlobId) -> Result<bool, StoreError> {
        let answer = self.0.ask("HEAD", &format!("/v2/blobs/manifests/{id}"), &[], b"");
        Ok(answer.status == 200)
    }

    fn size(&self, id: &BlobId) -> Result<Option<u64>, StoreError> {
        Ok(self.layer("blobs", &id.to_string()).map(|(size, _)| size))
    }
}

impl NameStore for Registry {
    fn name(&self, table: &str, name: &str) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.pull(&format!("names/{table}"), name))
    }

    fn set_name(&self, table: &str, name: &str, value: Option<&[u8]>) -> Result<(), StoreError> {
        let repository = format!("names/{table}");
        if let Some(value) = value {
            self.push(&repository, name, value);
            return Ok(());
        }
        let path = format!("/v2/{repository}/manifests/{name}");
        let answer = self.0.ask("DELETE", &path, &[], b"");
        assert!(matches!(answer.status, 202 | 404), "{}", answer.text());
        Ok(())
    }

    /// Page by page, each of one name.
    fn names(&self, table: &str) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
        let repository = format!("names/{table}");
        let mut names: Vec<(String, Vec<u8>)> = Vec::new();
        loop {
            let last = names.last().map(|(name, _)| format!("&last={name}")).unwrap_or_default();
            let page = self.0.get(&format!("/v2/{repository}/tags/list?n=1{last}"));
            let page: Json = serde_json::from_slice(&page.expect("a page")).expect("JSON");
            let tags = page["tags"].as_array().expect("tags");
            let Some(tag) = tags.first().and_then(Json::as_str) else { return Ok(names) };
            let value = self.pull(&repository, tag).expect("what a tag leads to");
            names.push((tag.to_owned(), value));
        }
    }

    fn each_name(
        &self,
        prefix: &str,
        see: &mut dyn FnMut(&str, &str, &[u8]),
    ) -> Result<(), StoreError> {
        let catalog = self.0.get("/v2/_catalog").expect("a catalog");
        let catalog: Json = serde_json::from_slice(&catalog).expect("JSON");
        let all = catalog["repositories"].as_array().expect("repositories").iter();
        let tables = all.filter_map(|name| name.as_str()?.strip_prefix("names/"));
        for table in tables.filter(|table| table.starts_with(prefix)) {
            for (name, value) in self.names(table)? {
                see(table, &name, &value);
            }
        }
        Ok(())
    }
}

/// Records are values under their keys; a slot is the list of its records.
struct Values(Far);

impl Values {
    fn json<T: serde::de::DeserializeOwned>(&self, path: &str) -> Option<T> {
        self.0.get(path).map(|bytes| serde_json::from_slice(&bytes).expect("what was put"))
    }

    fn put(&self, path: &str, value: &impl serde::Serialize) {
        let bytes = serde_json::to_vec(value).expect("JSON");
        let answer = self.0.ask("PUT", path, &[("content-type", "application/json")], &bytes);
        assert!(matches!(answer.status, 201 | 204), "{}", answer.text());
    }
}

fn path_of(key: &RecordKey) -> String {
    let hex = key.to_bytes().iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    format!("/cache/records/{hex}")
}

fn path_of_slot(slot: &Slot) -> String {
    format!("/cache/slots/{}", BlobId::of(slot.0.as_bytes()))
}

impl RecordStore for Values {
    fn find(&self, key: &RecordKey) -> Result<Option<Record>, StoreError> {
        Ok(self.json(&path_of(key)))
    }

    fn keep(&self, record: &Record, also: &[RecordKey]) -> Result<(), StoreError> {
        let own = [RecordKey::Definition(record.definition), RecordKey::Content(record.content)];
        for key in own.iter().chain(also) {
            self.put(&path_of(key), record);
        }
        let mut recent = self.recent(&record.slot)?;
        recent.retain(|old| old.definition != record.definition);
        recent.insert(0, record.clone());
        recent.truncate(8);
        self.put(&path_of_slot(&record.slot), &recent);
        Ok(())
    }

    fn recent(&self, slot: &Slot) -> Result<Vec<Record>, StoreError> {
        Ok(self.json(&path_of_slot(slot)).unwrap_or_default())
    }
}
