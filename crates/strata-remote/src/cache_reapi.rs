//! A server of the remote execution API as a cache of builds, and as the far tier of servers: a
//! record is the result of an action that nobody runs, whose outputs are the record's blobs; so a
//! server that keeps its promises gives out none whose blobs are gone.
//!
//! All blobs have their SHA-256 there, and the API names a blob by its digest *and* size. One that
//! is asked for by its BLAKE3, or without a size, is found through a result of its own that names
//! it: [`action`] has the form of both.

use std::collections::HashMap;
use std::io::{self, Write};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use strata_oci::far::{FarBlob, FarBlobs, FarName, FarRecord, FarRecords, LARGEST_RECORD_BYTES};
use strata_oci::{BlobBytes, Descriptor, Digest, DigestHasher, RegistryError, SharedCache};
use strata_reapi::proto;

use crate::blob::Download;
use crate::checked::Checked;
use crate::door::Door;
use crate::failure::{Failure, printable};
use crate::reapi::{ReapiClient, ReapiSettings, digest};
use crate::registry::{WORTHWHILE_BYTES, broken};
use crate::retry::Patience;
use crate::settings::Retries;

/// A record up to this size is in its result; a larger one is a blob.
const INLINE_BYTES: usize = 1 << 20;
/// A blob up to this size goes in one message.
const SMALL_BYTES: u64 = 256 << 10;
/// Names of blobs that are remembered.
const ALIASES: usize = 100_000;

/// A server as a cache.
pub struct ReapiCache {
    client: ReapiClient,
    door: Door,
    retries: Retries,
    /// The SHA-256 and size of blobs that are asked for by less than that.
    aliases: Mutex<HashMap<FarName, (Digest, u64)>>,
}

/// The action whose result has a record. Nobody can have it as a command.
fn action(kind: &str, table: &str, name: &str) -> proto::Digest {
    let text = format!("strata {kind} 1\0{table}\0{name}");
    digest(&Digest::of(text.as_bytes()), text.len() as u64)
}

/// The action whose result says what a blob is called in full.
fn alias(name: &FarName) -> proto::Digest {
    action("blob", name.function(), &name.hex())
}

fn output(digest: proto::Digest) -> proto::OutputFile {
    let path = format!("blobs/{}", digest.hash);
    proto::OutputFile { path, digest: Some(digest), ..Default::default() }
}

fn parsed(digest: &proto::Digest) -> Option<(Digest, u64)> {
    let hash = format!("sha256:{}", digest.hash).parse().ok()?;
    Some((hash, u64::try_from(digest.size_bytes).ok()?))
}

impl ReapiCache {
    /// A client. It connects when it is asked.
    ///
    /// # Errors
    ///
    /// [`RegistryError::Failed`] when the settings make no sense.
    pub fn new(settings: &ReapiSettings) -> Result<Self, RegistryError> {
        let failed =
            |reason: String| RegistryError::Failed { registry: printable(&settings.url), reason };
        let door = Door::open();
        let door =
            door.map_err(|error| failed(format!("no thread can be started for it: {error}")))?;
        let its = settings.clone();
        let client = door.run(async move { ReapiClient::new(&its) });
        let client = client.ok_or_else(|| failed("it can not be set up".to_owned()))??;
        let retries = Retries {
            count: 2,
            pause: Duration::from_millis(100),
            longest_pause: Duration::from_secs(2),
            in_all: settings.timeouts.idle,
        };
        Ok(Self { client, door, retries, aliases: Mutex::default() })
    }

    fn error(&self, failure: Failure, what: &str) -> RegistryError {
        let failure = match failure {
            Failure::Denied => Failure::Failed(format!(
                "it denies access to `{what}`: is there a token for it (`STRATA_REMOTE_TOKEN`, \
                 `token-file`), and may who has it do this?"
            )),
            other => other,
        };
        failure.into_error(&self.client.name, what.to_owned(), &[])
    }

    /// Calls until it is answered, or trying again is of no use.
    fn call<T, F>(&self, request: impl Fn(ReapiClient) -> F) -> Result<T, Failure>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, Failure>> + Send + 'static,
    {
        let patience = Patience::new(self.retries);
        patience.insist(|| self.door.run(request(self.client.clone())).unwrap_or_else(broken))
    }

    fn ask<T, F>(&self, what: &str, request: impl Fn(ReapiClient) -> F) -> Result<T, RegistryError>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, Failure>> + Send + 'static,
    {
        self.call(request).map_err(|failure| self.error(failure, what))
    }

    fn is_missing(&self, (hash, size): (Digest, u64)) -> Result<bool, RegistryError> {
        let missing =
            self.ask(
                "a blob",
                |client| async move { client.missing(vec![digest(&hash, size)]).await },
            )?;
        Ok(!missing.is_empty())
    }

    /// Writes a blob, hashed once more on its way.
    fn write(&self, blob: (Digest, u64), bytes: &BlobBytes<'_>) -> Result<(), RegistryError> {
        let written = match blob.1 <= SMALL_BYTES {
            true => self.write_small(blob, bytes),
            false => self.write_stream(blob, bytes),
        };
        written.map_err(|failure| self.error(failure, &blob.0.to_string()))
    }

    fn write_small(
        &self,
        (hash, size): (Digest, u64),
        bytes: &BlobBytes<'_>,
    ) -> Result<(), Failure> {
        let mut all = Vec::new();
        let mut checked = Checked::new(&mut all);
        bytes(&mut checked).and_then(|()| checked.end(hash, size)).map_err(unreadable)?;
        let all = Bytes::from(all);
        self.call(|client| {
            let all = all.clone();
            async move { client.write_small(&digest(&hash, size), all).await }
        })
    }

    /// A try that failed is gone on with where the server says.
    fn write_stream(&self, blob: (Digest, u64), bytes: &BlobBytes<'_>) -> Result<(), Failure> {
        let name = digest(&blob.0, blob.1);
        let mut upload = self.client.upload(&name)?;
        let mut patience = Patience::new(self.retries);
        let mut offset = 0;
        loop {
            let tried = self.write_from(offset, upload.clone(), blob, bytes);
            let Err(failure) = tried else { return Ok(()) };
            patience.wait(failure)?;
            let (client, its) = (self.client.clone(), upload.clone());
            let there = self.door.run(async move { client.committed(its).await });
            let there = there.unwrap_or_else(broken).unwrap_or_default().min(blob.1);
            if there >= offset + WORTHWHILE_BYTES {
                patience.renew();
            }
            if there == 0 {
                upload = self.client.upload(&name)?;
            }
            offset = there;
        }
    }

    fn write_from(
        &self,
        offset: u64,
        upload: String,
        (hash, size): (Digest, u64),
        bytes: &BlobBytes<'_>,
    ) -> Result<(), Failure> {
        let client = self.client.clone();
        let length = i64::try_from(size).unwrap_or(i64::MAX);
        let (outcome, given) = self.door.feed(
            |pieces| async move { client.write(upload, (offset, length), pieces).await },
            |out| {
                let mut rest = After { out, skip: offset };
                let mut checked = Checked::new(&mut rest);
                bytes(&mut checked)?;
                checked.end(hash, size)
            },
        );
        match (outcome, given) {
            // It has enough: it has the blob already, or says why it does not want it.
            (Some(Ok(())), _) => Ok(()),
            (_, Err(error)) if error.kind() != io::ErrorKind::BrokenPipe => Err(unreadable(error)),
            (Some(Err(failure)), _) => Err(failure),
            (None, _) => broken(),
        }
    }

    /// Reads a blob, as it comes; what was taken is gone on with.
    fn read(&self, download: &mut Download<'_>, blob: (Digest, u64)) -> Result<(), Failure> {
        let blob = digest(&blob.0, blob.1);
        let is_small = blob.size_bytes.unsigned_abs() <= SMALL_BYTES;
        let mut patience = Patience::new(self.retries);
        loop {
            let start = download.received();
            let (client, blob) = (self.client.clone(), blob.clone());
            let answer = match is_small {
                true => {
                    let answer = self.door.run(async move { client.read_small(&blob).await });
                    let answer = answer.unwrap_or_else(broken);
                    answer.and_then(|bytes| match start {
                        0 => download.take(&bytes),
                        // It is not whole, and so it was another time.
                        _ => Ok(()),
                    })
                }
                false => {
                    let source = |pieces| async move { client.read(&blob, start, pieces).await };
                    let answer = self.door.pour(source, |piece| download.take(&piece));
                    answer.unwrap_or_else(broken)
                }
            };
            let Err(failure) = answer.and_then(|()| download.is_whole()) else { return Ok(()) };
            if download.received() - start >= WORTHWHILE_BYTES {
                patience.renew();
            }
            patience.wait(failure)?;
        }
    }

    /// What is in the result of an action that has a record.
    fn kept(&self, action: &proto::Digest, what: &str) -> Result<Option<Vec<u8>>, RegistryError> {
        let result = self.ask(what, |client| {
            let action = action.clone();
            async move { client.result(action).await }
        })?;
        let Some(result) = result.filter(|result| result.exit_code == 0) else { return Ok(None) };
        let Some(blob) = result.stdout_digest.as_ref().and_then(parsed) else {
            return Ok(Some(result.stdout_raw.to_vec()));
        };
        // A server may move what it is given into a blob, and say both.
        if Digest::of(&result.stdout_raw) == blob.0 {
            return Ok(Some(result.stdout_raw.to_vec()));
        }
        if blob.1 > LARGEST_RECORD_BYTES {
            return Ok(None);
        }
        let mut bytes = Vec::new();
        match SharedCache::blob(self, &described(blob), &mut bytes) {
            Ok(()) => Ok(Some(bytes)),
            Err(RegistryError::NotFound { .. } | RegistryError::Wrong { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Keeps something as the result of actions.
    fn keep(
        &self,
        actions: &[proto::Digest],
        bytes: Vec<u8>,
        blobs: Vec<proto::Digest>,
    ) -> Result<(), RegistryError> {
        let output_files = blobs.into_iter().map(output).collect();
        let mut result = proto::ActionResult { output_files, ..Default::default() };
        if bytes.len() <= INLINE_BYTES {
            result.stdout_raw = bytes.into();
        } else {
            let blob = (Digest::of(&bytes), bytes.len() as u64);
            self.write(blob, &|out| out.write_all(&bytes))?;
            result.stdout_digest = Some(digest(&blob.0, blob.1));
        }
        for action in actions {
            self.ask("a record", |client| {
                let (action, result) = (action.clone(), result.clone());
                async move { client.set_result(action, &result).await }
            })?;
        }
        Ok(())
    }

    fn remember(&self, name: FarName, blob: (Digest, u64)) {
        let mut aliases = self.aliases.lock().unwrap_or_else(PoisonError::into_inner);
        if aliases.len() >= ALIASES {
            aliases.clear();
        }
        aliases.insert(name, blob);
    }

    fn remembered(&self, blob: &FarBlob) -> Option<(Digest, u64)> {
        if let (FarName::Sha256(hash), Some(size)) = (blob.name, blob.size) {
            return Some((hash, size));
        }
        let aliases = self.aliases.lock().unwrap_or_else(PoisonError::into_inner);
        aliases.get(&blob.name).copied()
    }

    /// The SHA-256 and size of each; none where they are not known.
    fn known(&self, blobs: &[FarBlob]) -> Result<Vec<Option<(Digest, u64)>>, RegistryError> {
        let mut known: Vec<_> = blobs.iter().map(|blob| self.remembered(blob)).collect();
        let unknown = || (0..blobs.len()).filter(|at| known[*at].is_none());
        let names: Vec<(usize, FarName)> = unknown().map(|at| (at, blobs[at].name)).collect();
        if names.is_empty() {
            return Ok(known);
        }
        let actions: Vec<_> = names.iter().map(|(_, name)| alias(name)).collect();
        let results = self.ask("blobs", |client| {
            let actions = actions.clone();
            async move { client.results(actions).await }
        })?;
        for ((at, name), result) in names.into_iter().zip(results) {
            let output = result.as_ref().and_then(|result| result.output_files.first());
            let found = output.and_then(|output| parsed(output.digest.as_ref()?));
            let is_it = |(hash, _): &(Digest, u64)| match name {
                FarName::Sha256(wanted) => wanted == *hash,
                // Its bytes will show it.
                FarName::Blake3(_) => true,
            };
            if let Some(found) = found.filter(is_it) {
                self.remember(name, found);
                known[at] = Some(found);
            }
        }
        Ok(known)
    }
}

fn described((digest, size): (Digest, u64)) -> Descriptor {
    let media_type = "application/octet-stream".to_owned();
    Descriptor { media_type, digest, size, annotations: Default::default(), platform: None }
}

fn unreadable(error: io::Error) -> Failure {
    Failure::Failed(format!("a blob can not be read here: {error}"))
}

/// Passes on what comes after the first bytes.
struct After<'a> {
    out: &'a mut dyn Write,
    skip: u64,
}

impl Write for After<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let skipped = bytes.len().min(usize::try_from(self.skip).unwrap_or(usize::MAX));
        self.skip -= skipped as u64;
        match skipped {
            0 => self.out.write(bytes),
            skipped => Ok(skipped),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

impl SharedCache for ReapiCache {
    fn record(&self, key: &str) -> Result<Option<Vec<u8>>, RegistryError> {
        self.kept(&action("step", "", key), key)
    }

    fn keep_record(
        &self,
        keys: &[String],
        record: &str,
        blobs: &[Descriptor],
    ) -> Result<(), RegistryError> {
        let actions: Vec<_> = keys.iter().map(|key| action("step", "", key)).collect();
        let blobs = blobs.iter().map(|blob| digest(&blob.digest, blob.size)).collect();
        self.keep(&actions, record.as_bytes().to_vec(), blobs)
    }

    fn blob(&self, blob: &Descriptor, sink: &mut dyn Write) -> Result<(), RegistryError> {
        let mut silent = |_| {};
        let mut download = Download::new(blob, sink, &mut silent);
        let read = self.read(&mut download, (blob.digest, blob.size));
        let read = read.and_then(|()| download.verify());
        read.map_err(|failure| self.error(failure, &blob.digest.to_string()))
    }

    fn keep_blob(&self, blob: &Descriptor, bytes: &BlobBytes<'_>) -> Result<(), RegistryError> {
        let blob = (blob.digest, blob.size);
        match self.is_missing(blob)? {
            false => Ok(()),
            true => self.write(blob, bytes),
        }
    }
}

impl FarBlobs for ReapiCache {
    fn sizes(&self, blobs: &[FarBlob]) -> Result<Vec<Option<u64>>, RegistryError> {
        let known = self.known(blobs)?;
        let asked: Vec<_> =
            known.iter().flatten().map(|(hash, size)| digest(hash, *size)).collect();
        let missing = self.ask("blobs", |client| {
            let asked = asked.clone();
            async move { client.missing(asked).await }
        })?;
        let size = |(hash, size): (Digest, u64)| (!missing.contains(&hash.hex())).then_some(size);
        Ok(known.into_iter().map(|known| known.and_then(size)).collect())
    }

    fn fetch(&self, blob: &FarBlob, sink: &mut dyn Write) -> Result<bool, RegistryError> {
        let [Some(known)] = self.known(std::slice::from_ref(blob))?[..] else { return Ok(false) };
        let (described, mut silent) = (described(known), |_| {});
        let mut download = Download::new(&described, sink, &mut silent);
        match self.read(&mut download, known) {
            // What is told of wrong bytes is who asks: it hashes them itself.
            Ok(()) | Err(Failure::Spoilt { .. }) => Ok(true),
            Err(Failure::NotFound) => Ok(false),
            Err(failure) => Err(self.error(failure, &blob.name.to_string())),
        }
    }

    fn send(&self, blob: (&FarName, u64), bytes: &BlobBytes<'_>) -> Result<(), RegistryError> {
        let (name, size) = blob;
        let known = match name {
            FarName::Sha256(hash) => (*hash, size),
            FarName::Blake3(_) => {
                let mut hasher = DigestHasher::default();
                let read = bytes(&mut hasher).map_err(unreadable);
                read.map_err(|failure| self.error(failure, &name.to_string()))?;
                hasher.finish()
            }
        };
        self.write(known, bytes)?;
        self.keep(&[alias(name)], Vec::new(), vec![digest(&known.0, known.1)])?;
        self.remember(*name, known);
        Ok(())
    }
}

impl FarRecords for ReapiCache {
    fn record(&self, table: &str, name: &str) -> Result<Option<Vec<u8>>, RegistryError> {
        self.kept(&action("entry", table, name), name)
    }

    fn set_record(
        &self,
        table: &str,
        name: &str,
        record: Option<&FarRecord>,
    ) -> Result<(), RegistryError> {
        let action = action("entry", table, name);
        let Some(record) = record else {
            // Results can not be taken back, but be replaced by one that is none.
            return self.ask(name, |client| {
                let gone = proto::ActionResult { exit_code: 1, ..Default::default() };
                let action = action.clone();
                async move { client.set_result(action, &gone).await }
            });
        };
        let known = self.known(&record.blobs)?.into_iter().collect::<Option<Vec<_>>>();
        let lost = || Failure::Failed("a blob that an entry needs is not there".to_owned());
        let known = known.ok_or_else(|| self.error(lost(), name))?;
        let blobs = known.iter().map(|(hash, size)| digest(hash, *size)).collect();
        self.keep(&[action], record.encode(), blobs)
    }

    fn records(&self, _: &str) -> Result<Option<Vec<String>>, RegistryError> {
        // The API has no list.
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_layout_does_not_drift() {
        let check = |action: proto::Digest, text: &str| {
            let expected = digest(&Digest::of(text.as_bytes()), text.len() as u64);
            assert_eq!(action, expected, "{text:?}");
        };
        check(action("step", "", "d-1-00"), "strata step 1\0\0d-1-00");
        check(action("entry", "entries-1/main/x", "n"), "strata entry 1\0entries-1/main/x\0n");
        let hex = "0".repeat(64);
        let name: FarName = format!("blake3:{hex}").parse().expect("a name");
        check(alias(&name), &format!("strata blob 1\0blake3\0{hex}"));
    }
}
