//! The content-addressable storage: which blobs are missing, many small ones at once, and trees.

use std::collections::HashSet;
use std::sync::Arc;

use bytes::Bytes;
use prost::Message as _;
use strata_oci::far::FarBlob;
use tonic::{Code, Status};

use super::call::{Answers, encode, of_items};
use super::capabilities::BATCH_LIMIT_BYTES;
use super::name::{BlobName, instance};
use super::zstd::Decoder;
use crate::access::Caller;
use crate::body::{blocking, brief};
use crate::depot::{Content, Depot};
use crate::fault::Fault;
use crate::metrics::Kind;
use crate::site::Site;
use strata_reapi::proto::{
    BatchReadBlobsRequest, BatchReadBlobsResponse, BatchUpdateBlobsRequest,
    BatchUpdateBlobsResponse, BlobToUpdate, Digest, DigestsAsked, DigestsMissing, Directory,
    GetTreeRequest, GetTreeResponse, IDENTITY, ReadBlob, Status as ItemStatus, UpdatedBlob, ZSTD,
};

/// How it is counted.
pub(super) const PROTOCOL: &str = "reapi";

/// Compressing less than this gains nothing.
const COMPRESS_FROM_BYTES: usize = 1 << 10;
const LEVEL: i32 = 1;
/// So many blobs are looked for without another thread.
const FEW: usize = 256;
/// A tree has at most so many directories; one message of it so many.
const DIRECTORIES: usize = 500_000;
const PAGE: usize = 1000;
/// A directory's message is at most so large.
const DIRECTORY_LIMIT_BYTES: u64 = 64 << 20;

/// Does something that may wait, and words its fault.
pub(super) async fn wait<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Fault> + Send + 'static,
) -> Result<T, Status> {
    blocking(work).await.map_err(Status::from)
}

/// What is announced as present stays for as long as the store's lease says.
pub(super) async fn find_missing(site: Arc<Site>, asked: DigestsAsked) -> Result<Bytes, Status> {
    instance(&asked.instance_name)?;
    let name = |digest: &Bytes| BlobName::decode(digest, asked.digest_function);
    let names = asked.blob_digests.iter().map(name).collect::<Result<Vec<_>, _>>()?;
    let (digests, names_are_few) = (asked.blob_digests, names.len() <= FEW);
    let look = {
        let site = Arc::clone(&site);
        move || missing(&site, &names, digests)
    };
    match names_are_few {
        true => brief(&site.depot, look).await.map_err(Status::from),
        false => wait(look).await,
    }
}

/// Those of the digests whose blobs are not here, as they came.
fn missing(site: &Site, names: &[BlobName], digests: Vec<Bytes>) -> Result<Bytes, Fault> {
    let depot = &site.depot;
    if depot.tier.is_some() {
        let far = names.iter().map(|name| name.not_near(depot));
        let far: Vec<FarBlob> = far.filter_map(Result::transpose).collect::<Result<_, _>>()?;
        depot.ask_far(&far);
    }
    let mut missing_blob_digests = Vec::new();
    for (name, digest) in names.iter().zip(digests) {
        if !name.is_here(&site.depot)? {
            missing_blob_digests.push(digest);
        }
    }
    let missing = missing_blob_digests.len();
    site.metrics.count(PROTOCOL, Kind::Presence, names.len() - missing, missing);
    Ok(encode(&DigestsMissing { missing_blob_digests }))
}

fn status(result: Result<(), Status>) -> ItemStatus {
    match result {
        Ok(()) => ItemStatus::default(),
        Err(status) => {
            ItemStatus { code: status.code() as i32, message: status.message().to_owned() }
        }
    }
}

/// Each blob has its own outcome.
pub(super) async fn batch_update(
    depot: Arc<Depot>,
    caller: Caller,
    asked: BatchUpdateBlobsRequest,
) -> Result<Bytes, Status> {
    caller.may_write()?;
    instance(&asked.instance_name)?;
    let total: usize = asked.requests.iter().map(|one| one.data.len()).sum();
    if total > BATCH_LIMIT_BYTES {
        let text = format!("a batch has at most {BATCH_LIMIT_BYTES} bytes");
        return Err(Status::invalid_argument(text));
    }
    wait(move || {
        let function = asked.digest_function;
        let keep = |one: BlobToUpdate| UpdatedBlob {
            status: Some(status(update(&depot, &caller, &one, function))),
            digest: one.digest,
        };
        let responses = asked.requests.into_iter().map(keep).collect();
        Ok(encode(&BatchUpdateBlobsResponse { responses }))
    })
    .await
}

fn update(depot: &Depot, caller: &Caller, one: &BlobToUpdate, function: i32) -> Result<(), Status> {
    let name = BlobName::wanted(one.digest.as_ref(), function)?;
    let mut upload = depot.begin(caller, name.size, Some(name.size))?;
    match one.compressor {
        IDENTITY => upload.write(&one.data)?,
        ZSTD => {
            let mut decoder = Decoder::new()?;
            decoder.write(&one.data, &mut upload)?;
            decoder.finish()?;
        }
        _ => return Err(Status::invalid_argument("zstd is the compression that is served here")),
    }
    name.keep(depot, upload)?;
    Ok(())
}

/// Each blob has its own outcome; together they must not be more than a batch may have.
pub(super) async fn batch_read(
    site: Arc<Site>,
    asked: BatchReadBlobsRequest,
) -> Result<Bytes, Status> {
    instance(&asked.instance_name)?;
    let sizes = asked.digests.iter().map(|digest| digest.size_bytes.max(0).unsigned_abs());
    if sizes.fold(0, u64::saturating_add) > BATCH_LIMIT_BYTES as u64 {
        let text = format!("a batch has at most {BATCH_LIMIT_BYTES} bytes");
        return Err(Status::invalid_argument(text));
    }
    wait(move || {
        let compress = asked.acceptable_compressors.contains(&ZSTD);
        let responses = asked.digests.into_iter().map(|digest| {
            let read = read(&site.depot, &digest, asked.digest_function, compress);
            site.metrics.looked_up(PROTOCOL, Kind::Blob, read.is_ok());
            let (data, compressor, result) = match read {
                Ok((data, compressor)) => (data, compressor, Ok(())),
                Err(error) => (Bytes::new(), IDENTITY, Err(error)),
            };
            ReadBlob { digest: Some(digest), data, compressor, status: Some(status(result)) }
        });
        Ok(encode(&BatchReadBlobsResponse { responses: responses.collect() }))
    })
    .await
}

fn read(
    depot: &Depot,
    digest: &Digest,
    function: i32,
    compress: bool,
) -> Result<(Bytes, i32), Status> {
    let name = BlobName::new(digest, function)?;
    let bytes = whole(depot, &name)?;
    if compress && bytes.len() >= COMPRESS_FROM_BYTES {
        let compressed = zstd::bulk::compress(&bytes, LEVEL);
        let compressed = compressed.map_err(|error| Status::internal(error.to_string()))?;
        if compressed.len() < bytes.len() {
            return Ok((compressed.into(), ZSTD));
        }
    }
    Ok((bytes, IDENTITY))
}

/// All of a blob.
pub(super) fn whole(depot: &Depot, name: &BlobName) -> Result<Bytes, Status> {
    let missing = || Status::not_found(format!("blob {} is not here", name.hex()));
    let content = name.find(depot)?.ok_or_else(missing)?;
    depot.read(&content)?.ok_or_else(missing)
}

/// All directories below one, each once, breadth first; those that are missing are left out.
pub(super) async fn get_tree(depot: Arc<Depot>, asked: GetTreeRequest) -> Result<Answers, Status> {
    instance(&asked.instance_name)?;
    let function = asked.digest_function;
    let root = BlobName::wanted(asked.root_digest.as_ref(), function)?;
    let walked = tokio::task::spawn_blocking(move || walk(&depot, root, function));
    let pages = walked.await.map_err(|_| Status::internal("the server stops"))??;
    Ok(of_items(pages))
}

fn walk(depot: &Depot, root: BlobName, function: i32) -> Result<Vec<Bytes>, Status> {
    let (mut seen, mut pages) = (HashSet::from([root.hex()]), Vec::new());
    let mut page = GetTreeResponse::default();
    let mut rest = std::collections::VecDeque::from([root]);
    let mut is_root = true;
    while let Some(name) = rest.pop_front() {
        let bytes = match directory(depot, &name) {
            Err(error) if is_root || error.code() != Code::NotFound => return Err(error),
            Err(_) => continue,
            Ok(bytes) => bytes,
        };
        is_root = false;
        let directory = Directory::decode(bytes.clone());
        let directory = directory.map_err(|error| Status::invalid_argument(error.to_string()))?;
        for below in &directory.directories {
            let below = BlobName::wanted(below.digest.as_ref(), function)?;
            if seen.insert(below.hex()) {
                rest.push_back(below);
            }
        }
        if seen.len() > DIRECTORIES {
            return Err(Status::resource_exhausted("the tree has too many directories"));
        }
        page.directories.push(bytes);
        let size: usize = page.directories.iter().map(Bytes::len).sum();
        if page.directories.len() >= PAGE || size > BATCH_LIMIT_BYTES / 2 {
            pages.push(encode(&std::mem::take(&mut page)));
        }
    }
    pages.push(encode(&page));
    Ok(pages)
}

fn directory(depot: &Depot, name: &BlobName) -> Result<Bytes, Status> {
    if name.size > DIRECTORY_LIMIT_BYTES {
        return Err(Status::invalid_argument("this is no directory"));
    }
    whole(depot, name)
}

/// A blob that was found, or that it was not.
pub(super) fn found(depot: &Depot, name: &BlobName) -> Result<Option<Content>, Status> {
    Ok(name.find(depot)?)
}
