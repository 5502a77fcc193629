//! A bucket or directory as the far tier of servers. Blobs lie where they lie for caches of builds,
//! `blobs/sha256/HEX`, or under `blobs/blake3/HEX` where that is how they are asked for; records
//! under `entries-1/…`, see `docs/formats/far.md`.

use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use object_store::path::Path;
use object_store::{Error, ObjectStore, ObjectStoreExt, PutPayload};
use strata_oci::far::{FarBlob, FarBlobs, FarName, FarRecord, FarRecords, LARGEST_RECORD_BYTES};
use strata_oci::{BlobBytes, RegistryError};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::cache_objects::{ObjectCache, in_time, read_small, small};
use crate::failure::Failure;

/// So many questions are asked at a time.
const AT_A_TIME: usize = 64;
/// An object's name may have 1024 bytes, prefix and table included.
const LONGEST_NAME: usize = 500;

fn blob_path(name: &FarName) -> String {
    format!("blobs/{}/{}", name.function(), name.hex())
}

fn record_path(table: &str, name: &str) -> String {
    let parts: Vec<String> = table.split('/').map(escaped).collect();
    let name = escaped(name);
    let name = match name.len() > LONGEST_NAME {
        true => format!("{HASHED}{}", strata_oci::Digest::of(name.as_bytes()).hex()),
        false => format!("{NAME}{name}"),
    };
    format!("{}/{name}", parts.join("/"))
}

/// Before a name, so that none is a table, too: in a directory, one path can not be both.
const NAME: &str = "=.";
/// Before the SHA-256 of a name that is too long.
const HASHED: &str = "=-";

/// Letters, digits, `.`, `_` and `-` as they are, all else as `=` and two hexadecimal digits: a
/// name that every object store and file system takes, and that no other name has.
fn escaped(name: &str) -> String {
    let mut text = String::with_capacity(name.len());
    for (at, byte) in name.bytes().enumerate() {
        match byte {
            b'.' if at == 0 => text.push_str("=2E"),
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'.' | b'_' | b'-' => {
                text.push(char::from(byte));
            }
            _ => text.push_str(&format!("={byte:02X}")),
        }
    }
    text
}

/// The name in the last part of a path; `None` for what is none, such as one that was too long.
fn name_of(file: &str) -> Option<String> {
    let text = file.strip_prefix(NAME)?;
    let (mut bytes, mut rest) = (Vec::new(), text);
    while let Some(at) = rest.find('=') {
        bytes.extend_from_slice(&rest.as_bytes()[..at]);
        bytes.push(u8::from_str_radix(rest.get(at + 1..at + 3)?, 16).ok()?);
        rest = &rest[at + 3..];
    }
    bytes.extend_from_slice(rest.as_bytes());
    let name = String::from_utf8(bytes).ok()?;
    (escaped(&name) == text).then_some(name)
}

async fn size(
    store: &dyn ObjectStore,
    path: &Path,
    patience: Duration,
) -> object_store::Result<Option<u64>> {
    match in_time(patience, store.head(path)).await {
        Ok(meta) => Ok(Some(meta.size)),
        Err(Error::NotFound { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

impl FarBlobs for ObjectCache {
    fn sizes(&self, blobs: &[FarBlob]) -> Result<Vec<Option<u64>>, RegistryError> {
        let paths: Vec<Path> = blobs.iter().map(|one| self.path(&blob_path(&one.name))).collect();
        let (count, patience) = (paths.len(), self.patience);
        self.run("blobs", |store| async move {
            let (mut asked, places) = (JoinSet::new(), Arc::new(Semaphore::new(AT_A_TIME)));
            for (at, path) in paths.into_iter().enumerate() {
                let (store, places) = (Arc::clone(&store), Arc::clone(&places));
                asked.spawn(async move {
                    // Closed by nobody.
                    let _place = places.acquire().await;
                    (at, size(&*store, &path, patience).await)
                });
            }
            let mut sizes = vec![None; count];
            while let Some(answer) = asked.join_next().await {
                let (at, size) = answer.map_err(|error| Error::Generic {
                    store: "cache",
                    source: error.to_string().into(),
                })?;
                sizes[at] = size?;
            }
            Ok(sizes)
        })
    }

    fn fetch(&self, blob: &FarBlob, sink: &mut dyn Write) -> Result<bool, RegistryError> {
        self.download(&self.path(&blob_path(&blob.name)), |piece| {
            let kept = sink.write_all(piece);
            kept.map_err(|error| Failure::Sink(format!("its bytes can not be kept: {error}")))
        })
    }

    fn send(&self, blob: (&FarName, u64), bytes: &BlobBytes<'_>) -> Result<(), RegistryError> {
        let (name, size) = blob;
        self.upload(&self.path(&blob_path(name)), size, |out| {
            bytes(out)?;
            out.flush()
        })
    }
}

impl FarRecords for ObjectCache {
    fn record(&self, table: &str, name: &str) -> Result<Option<Vec<u8>>, RegistryError> {
        let path = self.path(&record_path(table, name));
        small(
            self.ask(path.as_ref(), |store| read_small(store, path.clone(), LARGEST_RECORD_BYTES)),
        )
    }

    fn set_record(
        &self,
        table: &str,
        name: &str,
        record: Option<&FarRecord>,
    ) -> Result<(), RegistryError> {
        let path = self.path(&record_path(table, name));
        let payload = record.map(|record| PutPayload::from(record.encode()));
        let done = self.ask(path.as_ref(), |store| {
            let path = path.clone();
            async move {
                match payload {
                    Some(payload) => store.put(&path, payload).await.map(drop),
                    None => store.delete(&path).await,
                }
            }
        });
        match (done, record) {
            (Err(RegistryError::NotFound { .. }), None) => Ok(()),
            (done, _) => done,
        }
    }

    fn records(&self, table: &str) -> Result<Option<Vec<String>>, RegistryError> {
        let path = record_path(table, "");
        let above = self.path(path.strip_suffix(NAME).unwrap_or(&path));
        let listed = self.ask(above.as_ref(), |store| {
            let above = above.clone();
            async move { store.list_with_delimiter(Some(&above)).await }
        })?;
        let name = |path: &Path| path.filename().and_then(name_of);
        Ok(Some(listed.objects.iter().filter_map(|found| name(&found.location)).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_back() {
        let long = "x".repeat(LONGEST_NAME + 1);
        for name in ["", "a", "a.b", ".", "..", ".x", "a/b", "a=b", "ä b\0c%", "a+b@c:d~", "=2E"] {
            let text = escaped(name);
            let path = record_path("t/u", name);
            assert_eq!(path, format!("t/u/=.{text}"));
            assert_eq!(name_of(&format!("=.{text}")).as_deref(), Some(name), "{text}");
            // Nothing in it is changed by the library.
            assert_eq!(Path::from(path.clone()).as_ref(), path);
        }
        for wrong in ["=.=2", "=.=zz", "=.=61", "=.=2e", "=.=FF", "a"] {
            assert_eq!(name_of(wrong), None, "{wrong}");
        }
        let path = record_path("entries-1/main/values/x", &long);
        assert!(path.len() < 100, "{path}");
        assert_eq!(name_of(path.rsplit('/').next().expect("a name")), None);
        assert_ne!(path, record_path("entries-1/main/values/x", &format!("{long}y")));
    }

    #[test]
    fn the_layout_does_not_drift() {
        let hex = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        let name: FarName = format!("sha256:{hex}").parse().expect("a name");
        assert_eq!(blob_path(&name), format!("blobs/sha256/{hex}"));
        assert_eq!(
            record_path("entries-1/main/oci-tags/team/app", "v1 x"),
            "entries-1/main/oci-tags/team/app/=.v1=20x"
        );
    }
}
