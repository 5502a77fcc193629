//! A shared cache in an object store: S3 and what speaks its protocol, or a directory. Records lie
//! under `records/KEY`, blobs under `blobs/sha256/DIGEST`, as in an OCI layout.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::path::Path as FilePath;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use object_store::aws::AmazonS3Builder;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{
    BackoffConfig, ClientOptions, Error, ObjectStore, ObjectStoreExt, PutPayload, RetryConfig,
};
use strata_oci::{BlobBytes, Descriptor, RegistryError, SharedCache};
use tokio::sync::mpsc::{Receiver, Sender};

use crate::blob::Download;
use crate::checked::Checked;
use crate::door::Door;
use crate::failure::{Failure, printable};
use crate::settings::{Secret, Timeouts};

/// S3 takes parts of 5 MiB and more, and 10,000 of them.
const PART_BYTES: usize = 16 << 20;
/// Bytes of one request of a download.
const RANGE_BYTES: u64 = 8 << 20;
/// So many of them are asked for before they are wanted.
const RANGES_AHEAD: usize = 3;
/// A record is not larger than this.
const LARGEST_RECORD_BYTES: u64 = 16 << 20;

/// What a bucket's name begins with, in messages.
const BUCKET: &str = "s3://";

/// Where a bucket is and who we are to it.
#[derive(Clone)]
pub struct S3Settings {
    /// The bucket's name.
    pub bucket: String,
    /// Before each object's name; empty for none.
    pub prefix: String,
    /// `us-east-1` and the like.
    pub region: Option<String>,
    /// Another service than Amazon's.
    pub endpoint: Option<String>,
    /// The access key's id and secret; without one, requests are not signed.
    pub key: Option<(String, Secret)>,
    /// The token of a session.
    pub session_token: Option<Secret>,
    /// Whether the bucket is part of the path and not of the host's name.
    pub path_style: bool,
    /// How long to wait.
    pub timeouts: Timeouts,
}

/// A bucket or directory that is a cache.
pub struct ObjectCache {
    name: String,
    store: Arc<dyn ObjectStore>,
    prefix: String,
    door: Door,
    /// For an answer that is small.
    pub(crate) patience: Duration,
}

impl ObjectCache {
    /// A directory; it is made if `make`, and must be there else.
    ///
    /// # Errors
    ///
    /// [`RegistryError::Failed`] when it is not there or can not be made.
    pub fn directory(path: &FilePath, make: bool) -> Result<Self, RegistryError> {
        let name = path.display().to_string();
        let failed = |reason: String| RegistryError::Failed { registry: name.clone(), reason };
        if make {
            std::fs::create_dir_all(path).map_err(|error| failed(error.to_string()))?;
        }
        let store = LocalFileSystem::new_with_prefix(path);
        let store = store.map_err(|_| failed("there is no such directory".to_owned()))?;
        Self::new(name.clone(), Arc::new(store), String::new(), Timeouts::default().idle)
    }

    /// A bucket.
    ///
    /// # Errors
    ///
    /// [`RegistryError::Failed`] when the settings make no sense.
    pub fn s3(settings: &S3Settings) -> Result<Self, RegistryError> {
        // Another part of the process may have chosen a provider already; that one is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let name = format!("{BUCKET}{}", settings.bucket);
        let Timeouts { connect, idle } = settings.timeouts;
        let options = ClientOptions::new()
            .with_connect_timeout(connect)
            .with_timeout(idle * 10)
            .with_allow_http(true);
        let retry = RetryConfig {
            max_retries: 2,
            retry_timeout: idle,
            backoff: BackoffConfig {
                init_backoff: Duration::from_millis(100),
                max_backoff: Duration::from_secs(2),
                base: 2.0,
            },
        };
        let mut builder = AmazonS3Builder::new()
            .with_bucket_name(&settings.bucket)
            .with_region(settings.region.as_deref().unwrap_or("us-east-1"))
            .with_virtual_hosted_style_request(!settings.path_style)
            .with_client_options(options)
            .with_retry(retry);
        if let Some(endpoint) = &settings.endpoint {
            builder = builder.with_endpoint(endpoint);
        }
        builder = match &settings.key {
            Some((id, secret)) => {
                builder.with_access_key_id(id).with_secret_access_key(secret.reveal())
            }
            None => builder.with_skip_signature(true),
        };
        if let Some(token) = &settings.session_token {
            builder = builder.with_token(token.reveal());
        }
        let store = builder.build().map_err(|error| RegistryError::Failed {
            registry: name.clone(),
            reason: printable(&error.to_string()),
        })?;
        let prefix = settings.prefix.trim_matches('/').to_owned();
        Self::new(name, Arc::new(store), prefix, idle)
    }

    fn new(
        name: String,
        store: Arc<dyn ObjectStore>,
        prefix: String,
        patience: Duration,
    ) -> Result<Self, RegistryError> {
        let door = Door::open().map_err(|error| RegistryError::Failed {
            registry: name.clone(),
            reason: format!("no thread can be started for it: {error}"),
        })?;
        Ok(Self { name, store, prefix, door, patience })
    }

    pub(crate) fn path(&self, rest: &str) -> Path {
        match self.prefix.as_str() {
            "" => Path::from(rest),
            prefix => Path::from(format!("{prefix}/{rest}")),
        }
    }

    fn blob_path(&self, blob: &Descriptor) -> Path {
        self.path(&format!("blobs/sha256/{}", blob.digest.hex()))
    }

    pub(crate) fn failure(&self, error: &Error, what: &str) -> RegistryError {
        let registry = self.name.clone();
        match error {
            Error::NotFound { .. } => {
                RegistryError::NotFound { reference: what.to_owned(), registry }
            }
            Error::PermissionDenied { .. } | Error::Unauthenticated { .. }
                if registry.starts_with(BUCKET) =>
            {
                let keys = "`AWS_ACCESS_KEY_ID` and `AWS_SECRET_ACCESS_KEY`";
                let reason = format!(
                    "it denies access to `{what}`: are {keys} (and `AWS_SESSION_TOKEN`, where \
                     the key is a session's) set, and may that key use the bucket?"
                );
                RegistryError::Failed { registry, reason }
            }
            Error::PermissionDenied { .. } | Error::Unauthenticated { .. } => {
                RegistryError::Denied { reference: what.to_owned(), registry }
            }
            other => RegistryError::Failed { registry, reason: printable(&other.to_string()) },
        }
    }

    pub(crate) fn panicked(&self) -> RegistryError {
        let reason = "its answer makes no sense".to_owned();
        RegistryError::Failed { registry: self.name.clone(), reason }
    }

    /// Runs one request behind the door.
    pub(crate) fn run<T, F>(
        &self,
        what: &str,
        request: impl FnOnce(Arc<dyn ObjectStore>) -> F,
    ) -> Result<T, RegistryError>
    where
        T: Send + 'static,
        F: Future<Output = object_store::Result<T>> + Send + 'static,
    {
        let answer = self.door.run(request(Arc::clone(&self.store)));
        answer.ok_or_else(|| self.panicked())?.map_err(|error| self.failure(&error, what))
    }

    /// The same for an answer that is small, and must come soon.
    pub(crate) fn ask<T, F>(
        &self,
        what: &str,
        request: impl FnOnce(Arc<dyn ObjectStore>) -> F,
    ) -> Result<T, RegistryError>
    where
        T: Send + 'static,
        F: Future<Output = object_store::Result<T>> + Send + 'static,
    {
        let patience = self.patience;
        self.run(what, |store| {
            let answer = request(store);
            in_time(patience, answer)
        })
    }

    /// Sends bytes on this thread to a future that keeps them as an object. An object whose bytes
    /// turn out to be wrong is removed.
    pub(crate) fn upload(
        &self,
        path: &Path,
        size: u64,
        give: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    ) -> Result<(), RegistryError> {
        let (store, to) = (Arc::clone(&self.store), path.clone());
        let (outcome, given) =
            self.door.feed(|pieces| async move { upload(&*store, &to, size, pieces).await }, give);
        let spoilt = matches!(&given, Err(error) if error.kind() != io::ErrorKind::BrokenPipe);
        if spoilt {
            // Nobody may find what is not what its name says.
            let at = path.clone();
            let removed = self.run(path.as_ref(), |store| async move { store.delete(&at).await });
            drop(removed);
        }
        match (outcome, given) {
            (_, Err(error)) if spoilt => Err(RegistryError::Failed {
                registry: self.name.clone(),
                reason: format!("a blob can not be read here: {error}"),
            }),
            (Some(Ok(())), _) => Ok(()),
            (Some(Err(error)), _) => Err(self.failure(&error, path.as_ref())),
            (None, _) => Err(self.panicked()),
        }
    }

    /// Fetches an object's bytes in order, and takes them on this thread; false where it is not
    /// there.
    pub(crate) fn download(
        &self,
        path: &Path,
        mut take: impl FnMut(&Bytes) -> Result<(), Failure>,
    ) -> Result<bool, RegistryError> {
        let (store, from, patience) = (Arc::clone(&self.store), path.clone(), self.patience);
        let download = |pieces| async move {
            download(store, from, patience, pieces).await.map_err(Stopped::Far)
        };
        let poured = self.door.pour(download, |piece| take(&piece).map_err(Stopped::Here));
        match poured {
            Some(Ok(())) => Ok(true),
            Some(Err(Stopped::Far(Error::NotFound { .. }))) => Ok(false),
            Some(Err(Stopped::Far(error))) => Err(self.failure(&error, path.as_ref())),
            Some(Err(Stopped::Here(failure))) => {
                Err(failure.into_error(&self.name, path.to_string(), &[]))
            }
            None => Err(self.panicked()),
        }
    }

    /// The object's size, if it is there.
    fn size(&self, path: &Path) -> Result<Option<u64>, RegistryError> {
        let at = path.clone();
        let found = self.run(path.as_ref(), |store| async move { store.head(&at).await });
        match found {
            Ok(meta) => Ok(Some(meta.size)),
            Err(RegistryError::NotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn wrong(&self, blob: &Descriptor, reason: String) -> RegistryError {
        let what = format!("the blob {}", blob.digest);
        RegistryError::Wrong { registry: self.name.clone(), what, reason }
    }
}

/// Reads an object that is to be small; one that is not is none.
pub(crate) async fn read_small(
    store: Arc<dyn ObjectStore>,
    path: Path,
    most_bytes: u64,
) -> object_store::Result<Option<Bytes>> {
    let found = store.get(&path).await?;
    match found.meta.size > most_bytes {
        true => Ok(None),
        false => found.bytes().await.map(Some),
    }
}

/// What was read; one that is not there is none.
pub(crate) fn small(
    found: Result<Option<Bytes>, RegistryError>,
) -> Result<Option<Vec<u8>>, RegistryError> {
    match found {
        Ok(bytes) => Ok(bytes.map(|bytes| bytes.to_vec())),
        Err(RegistryError::NotFound { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

impl SharedCache for ObjectCache {
    fn record(&self, key: &str) -> Result<Option<Vec<u8>>, RegistryError> {
        let path = self.path(&format!("records/{key}"));
        small(
            self.run(path.as_ref(), |store| read_small(store, path.clone(), LARGEST_RECORD_BYTES)),
        )
    }

    fn keep_record(
        &self,
        keys: &[String],
        record: &str,
        _: &[Descriptor],
    ) -> Result<(), RegistryError> {
        for key in keys {
            let path = self.path(&format!("records/{key}"));
            let payload = PutPayload::from(record.as_bytes().to_vec());
            self.run(path.as_ref(), |store| {
                let path = path.clone();
                async move { store.put(&path, payload).await }
            })?;
        }
        Ok(())
    }

    fn blob(&self, blob: &Descriptor, sink: &mut dyn Write) -> Result<(), RegistryError> {
        let (path, what) = (self.blob_path(blob), blob.digest.to_string());
        let mut silent = |_| {};
        let mut download = Download::new(blob, sink, &mut silent);
        if !self.download(&path, |piece| download.take(piece))? {
            let registry = self.name.clone();
            return Err(RegistryError::NotFound { reference: what, registry });
        }
        download.is_whole().map_err(|failure| self.wrong(blob, failure.summary()))?;
        download.verify().map_err(|failure| failure.into_error(&self.name, what, &[]))
    }

    fn keep_blob(&self, blob: &Descriptor, bytes: &BlobBytes<'_>) -> Result<(), RegistryError> {
        let path = self.blob_path(blob);
        if self.size(&path)? == Some(blob.size) {
            return Ok(());
        }
        self.upload(&path, blob.size, |out| {
            let mut checked = Checked::new(out);
            bytes(&mut checked)?;
            checked.end(blob.digest, blob.size)
        })
    }
}

/// An answer that must come soon.
pub(crate) async fn in_time<T>(
    patience: Duration,
    answer: impl Future<Output = object_store::Result<T>>,
) -> object_store::Result<T> {
    let late = |_| Error::Generic {
        store: "cache",
        source: format!("no answer for {} s", patience.as_secs_f32()).into(),
    };
    tokio::time::timeout(patience, answer).await.map_err(late)?
}

/// Who has ended a download.
enum Stopped {
    Far(Error),
    Here(Failure),
}

/// Fetches an object: a small one at once, a large one in ranges, a few of them ahead.
async fn download(
    store: Arc<dyn ObjectStore>,
    path: Path,
    patience: Duration,
    pieces: Sender<Bytes>,
) -> object_store::Result<()> {
    let size = match in_time(patience, store.get(&path)).await? {
        found if found.meta.size <= RANGE_BYTES => {
            // Who takes them has gone where that fails.
            drop(pieces.send(found.bytes().await?).await);
            return Ok(());
        }
        found => found.meta.size,
    };
    let (mut asked, mut ahead) = (0, VecDeque::new());
    loop {
        while asked < size && ahead.len() < RANGES_AHEAD {
            let end = (asked + RANGE_BYTES).min(size);
            let (store, path, range) = (Arc::clone(&store), path.clone(), asked..end);
            ahead.push_back(tokio::spawn(async move { store.get_range(&path, range).await }));
            asked = end;
        }
        let Some(next) = ahead.pop_front() else { return Ok(()) };
        let piece = next.await.map_err(|error| Error::Generic {
            store: "cache",
            source: error.to_string().into(),
        })??;
        if pieces.send(piece).await.is_err() {
            return Ok(());
        }
    }
}

/// Writes an object, in parts if it is large. It is there only when all of it has come.
async fn upload(
    store: &dyn ObjectStore,
    path: &Path,
    size: u64,
    mut pieces: Receiver<Bytes>,
) -> object_store::Result<()> {
    let early = || Error::Generic { store: "cache", source: "the source ended too early".into() };
    let mut waiting = Vec::new();
    let mut count = 0;
    if size <= PART_BYTES as u64 {
        while let Some(piece) = pieces.recv().await {
            waiting.extend_from_slice(&piece);
        }
        if waiting.len() as u64 != size {
            return Err(early());
        }
        return store.put(path, PutPayload::from(waiting)).await.map(drop);
    }
    let mut parts = store.put_multipart(path).await?;
    let sent = async {
        while let Some(piece) = pieces.recv().await {
            count += piece.len() as u64;
            waiting.extend_from_slice(&piece);
            if waiting.len() >= PART_BYTES {
                parts.put_part(PutPayload::from(std::mem::take(&mut waiting))).await?;
            }
        }
        if count != size {
            return Err(early());
        }
        if !waiting.is_empty() {
            parts.put_part(PutPayload::from(waiting)).await?;
        }
        Ok(())
    };
    match sent.await {
        Ok(()) => parts.complete().await.map(drop),
        Err(error) => {
            drop(parts.abort().await);
            Err(error)
        }
    }
}
