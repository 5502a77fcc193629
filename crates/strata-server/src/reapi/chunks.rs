//! Large blobs in pieces, for clients that have most of them already: `SplitBlob` says which
//! pieces a blob has, `SpliceBlob` makes one of them. Cuts are FastCDC 2020's, as the API wants
//! them, so that a client that cuts for itself comes to the same pieces.

use std::sync::Arc;

use bytes::Bytes;
use fastcdc::v2020::{Normalization, StreamCDC};
use tonic::Status;

use super::call::encode;
use super::name::{BlobName, instance};
use crate::access::Caller;
use crate::depot::{Content, Depot, Value};
use crate::fault::Fault;
use strata_reapi::proto::{
    FAST_CDC_2020, SpliceBlobRequest, SpliceBlobResponse, SplitBlobRequest, SplitBlobResponse,
};

/// What the API recommends; the smallest piece is a quarter of it, the largest four times it.
pub(super) const AVERAGE_BYTES: usize = 512 << 10;

const PIECES: usize = 100_000;

/// Where it is kept how blobs are cut.
fn space(function: &str) -> String {
    format!("chunks/{function}")
}

/// The pieces of a blob, which are blobs of their own from now on.
pub(super) async fn split(
    depot: Arc<Depot>,
    caller: Caller,
    asked: SplitBlobRequest,
) -> Result<Bytes, Status> {
    instance(&asked.instance_name)?;
    let name = BlobName::wanted(asked.blob_digest.as_ref(), asked.digest_function)?;
    let cutting = tokio::task::spawn_blocking(move || cut(&depot, &caller, &name));
    cutting.await.map_err(|_| Status::internal("the server stops"))?
}

fn cut(depot: &Arc<Depot>, caller: &Caller, name: &BlobName) -> Result<Bytes, Status> {
    let missing = || Status::not_found(format!("blob {} is not here", name.hex()));
    let content = name.find(depot)?.ok_or_else(missing)?;
    let (space, key) = (space(name.function()), format!("{}-{}", name.hex(), name.size));
    if let Some(entry) = depot.entry(caller, &space, &key)? {
        let known = Content::of_entry(&entry);
        if let Some(bytes) = depot.read(&known)? {
            return Ok(bytes);
        }
    }
    // Nothing is written for somebody who may not write.
    caller.may_write()?;
    let pieces = StreamCDC::with_level(
        depot.reader(&content),
        AVERAGE_BYTES / 4,
        AVERAGE_BYTES,
        AVERAGE_BYTES * 4,
        Normalization::Level2,
    );
    let (mut chunk_digests, mut needs) = (Vec::new(), Vec::new());
    for piece in pieces {
        let piece = piece.map_err(|error| Status::data_loss(error.to_string()))?;
        let mut upload = depot.begin(caller, u64::MAX, Some(piece.data.len() as u64))?;
        upload.write(&piece.data)?;
        let size = upload.size();
        let (digest, piece) = name.of_upload(&upload, size)?;
        depot.keep(upload, None)?;
        let found = piece.find(depot)?.ok_or_else(|| Fault::Internal("it is gone".to_owned()))?;
        needs.extend(piece.needs(&found));
        chunk_digests.push(digest);
    }
    let answer = encode(&SplitBlobResponse { chunk_digests, chunking_function: FAST_CDC_2020 });
    let body = depot.keep_bare_bytes(caller, &answer)?;
    needs.sort_by_key(|need| format!("{need:?}"));
    needs.dedup();
    depot.set_entry(caller, (&space, &key), body, Value { needs, ..Value::default() })?;
    Ok(answer)
}

/// Makes a blob of its pieces, if they are what it is.
pub(super) async fn splice(
    depot: Arc<Depot>,
    caller: Caller,
    asked: SpliceBlobRequest,
) -> Result<Bytes, Status> {
    caller.may_write()?;
    instance(&asked.instance_name)?;
    if asked.chunk_digests.len() > PIECES {
        return Err(Status::invalid_argument("the blob has too many pieces"));
    }
    let function = asked.digest_function;
    let name = BlobName::wanted(asked.blob_digest.as_ref(), function)?;
    let pieces = asked.chunk_digests.iter().map(|digest| BlobName::new(digest, function));
    let pieces = pieces.collect::<Result<Vec<_>, _>>()?;
    let joining = tokio::task::spawn_blocking(move || join(&depot, &caller, &name, &pieces));
    joining.await.map_err(|_| Status::internal("the server stops"))??;
    Ok(encode(&SpliceBlobResponse { blob_digest: asked.blob_digest }))
}

fn join(
    depot: &Arc<Depot>,
    caller: &Caller,
    name: &BlobName,
    pieces: &[BlobName],
) -> Result<(), Status> {
    if name.is_here(depot)? {
        return Ok(());
    }
    let mut upload = depot.begin(caller, name.size, Some(name.size))?;
    let mut buffer = vec![0; 256 << 10];
    for piece in pieces {
        let missing = || Status::not_found(format!("piece {} is not here", piece.hex()));
        let content = piece.find(depot)?.ok_or_else(missing)?;
        let mut reader = depot.reader(&content);
        loop {
            let read = std::io::Read::read(&mut reader, &mut buffer);
            match read.map_err(|error| Status::data_loss(error.to_string()))? {
                0 => break,
                count => upload.write(&buffer[..count])?,
            }
        }
    }
    name.keep(depot, upload)?;
    Ok(())
}
