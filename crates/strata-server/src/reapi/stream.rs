//! Streams of bytes: a blob in or out, of any size, plain or as zstd, resumed where it broke off.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tonic::Status;
use tonic::codegen::tokio_stream::{StreamExt as _, wrappers::ReceiverStream};

use super::call::{Answers, Messages, encode, of_items};
use super::cas::{PROTOCOL, found, wait, whole};
use super::name::{BlobName, Resource};
use super::zstd::Decoder;
use crate::access::Caller;
use crate::body::{AHEAD, brief, pump};
use crate::depot::{Depot, Upload};
use crate::metrics::Kind;
use crate::site::Site;
use strata_reapi::proto::{
    QueryWriteStatusRequest, QueryWriteStatusResponse, ReadRequest, ReadResponse, WriteRequest,
    WriteResponse,
};

/// A write that nobody goes on with is given up after so long.
const IDLE: Duration = Duration::from_secs(3600);
const OPEN: usize = 1024;
/// So much is hashed and written in one go.
const BATCH_BYTES: usize = 512 << 10;
/// Blobs up to this size go out in one message.
const SMALL_BYTES: u64 = 256 << 10;
const LEVEL: i32 = 1;

/// Writes that broke off, by their caller and name.
#[derive(Default)]
pub(crate) struct Writes {
    all: Mutex<HashMap<(String, String), (Instant, Writing)>>,
}

/// A write that is under way.
struct Writing {
    upload: Upload,
    decoder: Option<Decoder>,
    /// How many bytes have come, as they come: compressed ones where they are.
    came: u64,
}

impl Writing {
    fn write(&mut self, bytes: &[u8]) -> Result<(), Status> {
        match &mut self.decoder {
            Some(decoder) => decoder.write(bytes, &mut self.upload)?,
            None => self.upload.write(bytes)?,
        }
        self.came += bytes.len() as u64;
        Ok(())
    }
}

impl Writes {
    fn take(&self, key: &(String, String)) -> Option<Writing> {
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        all.remove(key).map(|(_, writing)| writing)
    }

    fn put_back(&self, key: (String, String), writing: Writing) {
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|_, (touched, _)| touched.elapsed() < IDLE);
        if all.len() < OPEN {
            all.insert(key, (Instant::now(), writing));
        }
    }

    fn came(&self, key: &(String, String)) -> u64 {
        let all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        all.get(key).map_or(0, |(_, writing)| writing.came)
    }
}

/// `ByteStream.Write`.
pub(super) async fn write(
    depot: Arc<Depot>,
    writes: Arc<Writes>,
    caller: Caller,
    mut messages: Messages,
) -> Result<Bytes, Status> {
    caller.may_write()?;
    let Some(first) = messages.next::<WriteRequest>().await? else {
        return Err(Status::invalid_argument("the stream has no message"));
    };
    let resource = Resource::to_write(&first.resource_name)?;
    let name = resource.name;
    let its = Arc::clone(&depot);
    if brief(&depot, move || name.is_here(&its)).await? {
        let size = i64::try_from(name.size).unwrap_or(i64::MAX);
        let committed_size = if resource.is_compressed { -1 } else { size };
        return Ok(encode(&WriteResponse { committed_size }));
    }
    let key = (caller.name.clone(), first.resource_name.clone());
    if first.write_offset == 0 && first.finish_write && !resource.is_compressed {
        drop(writes.take(&key));
        return whole_write(depot, caller, name, first.data).await;
    }
    let writing = match first.write_offset {
        0 => {
            drop(writes.take(&key));
            let its = Arc::clone(&depot);
            let begin = move || its.begin(&caller, name.size, Some(name.size));
            // A quota may have to be counted.
            let upload = match depot.quotas.is_empty() {
                true => brief(&depot, begin).await?,
                false => wait(begin).await?,
            };
            let decoder = resource.is_compressed.then(Decoder::new).transpose()?;
            Writing { upload, decoder, came: 0 }
        }
        _ => writes
            .take(&key)
            .ok_or_else(|| Status::invalid_argument("there is no write to go on with"))?,
    };
    // A task of its own: where the client is gone, what has come is put back all the same.
    let receiving = tokio::spawn(async move {
        let (writing, received) = receive(writing, first, messages).await;
        match (writing, received) {
            (Some(writing), Ok(())) => Ok(writing),
            (Some(writing), Err(error)) => {
                writes.put_back(key, writing);
                Err(error)
            }
            (None, Err(error)) => Err(error),
            (None, Ok(())) => Err(Status::internal("the write is lost")),
        }
    });
    let writing = receiving.await.map_err(|_| Status::internal("the server stops"))??;
    let came = writing.came;
    if let Some(decoder) = writing.decoder {
        decoder.finish()?;
    }
    let upload = writing.upload;
    wait(move || name.keep(&depot, upload)).await?;
    let committed_size = i64::try_from(came).unwrap_or(i64::MAX);
    Ok(encode(&WriteResponse { committed_size }))
}

/// A write whose only message is here: all that may wait is done in one go, since each hand-over
/// to another thread costs more than a small blob.
async fn whole_write(
    depot: Arc<Depot>,
    caller: Caller,
    name: BlobName,
    data: Bytes,
) -> Result<Bytes, Status> {
    let committed_size = i64::try_from(data.len()).unwrap_or(i64::MAX);
    let keep = move || {
        let mut upload = depot.begin(&caller, name.size, Some(name.size))?;
        upload.write(&data)?;
        name.keep(&depot, upload)
    };
    wait(keep).await?;
    Ok(encode(&WriteResponse { committed_size }))
}

/// Takes all messages in. The write comes back where it can be gone on with.
async fn receive(
    writing: Writing,
    first: WriteRequest,
    mut messages: Messages,
) -> (Option<Writing>, Result<(), Status>) {
    let resource = first.resource_name.clone();
    let (mut at, mut next) = (writing.came, Some(first));
    // While one batch is hashed and written, the next one comes.
    let mut under_way = Batch::Done(Box::new(writing));
    loop {
        let (mut batch, mut size, mut ended) = (Vec::new(), 0, None);
        while size < BATCH_BYTES && ended.is_none() {
            let message = match next.take() {
                Some(message) => Ok(Some(message)),
                None => messages.next::<WriteRequest>().await,
            };
            ended = match message {
                Ok(Some(message)) => match check(&message, &resource, at) {
                    Ok(()) => {
                        at += message.data.len() as u64;
                        size += message.data.len();
                        batch.push(message.data);
                        message.finish_write.then_some(Ok(()))
                    }
                    Err(error) => Some(Err(error)),
                },
                Ok(None) => {
                    Some(Err(Status::invalid_argument("the stream ends without `finish_write`")))
                }
                Err(error) => Some(Err(error)),
            };
        }
        let mut before = match written(under_way).await {
            Ok(before) => before,
            Err(error) => return (None, Err(error)),
        };
        under_way = Batch::UnderWay(tokio::task::spawn_blocking(move || {
            let written = batch.iter().try_for_each(|data| before.write(data));
            (before, written)
        }));
        if let Some(ended) = ended {
            return match written(under_way).await {
                Ok(after) => (Some(after), ended),
                Err(error) => (None, Err(error)),
            };
        }
    }
}

/// What is done with the bytes of a write.
enum Batch {
    Done(Box<Writing>),
    UnderWay(JoinHandle<(Writing, Result<(), Status>)>),
}

async fn written(batch: Batch) -> Result<Writing, Status> {
    let handle = match batch {
        Batch::Done(writing) => return Ok(*writing),
        Batch::UnderWay(handle) => handle,
    };
    let (writing, written) = handle.await.map_err(|_| Status::internal("the server stops"))?;
    written.map(|()| writing)
}

fn check(message: &WriteRequest, resource: &str, at: u64) -> Result<(), Status> {
    if !message.resource_name.is_empty() && message.resource_name != resource {
        return Err(Status::invalid_argument("the stream changes its name"));
    }
    if u64::try_from(message.write_offset) != Ok(at) {
        let text = format!("{at} bytes have come, and offset {} was sent", message.write_offset);
        return Err(Status::invalid_argument(text));
    }
    Ok(())
}

/// `ByteStream.QueryWriteStatus`: how far a write is that broke off.
pub(super) async fn query(
    depot: Arc<Depot>,
    writes: Arc<Writes>,
    caller: Caller,
    asked: QueryWriteStatusRequest,
) -> Result<Bytes, Status> {
    let resource = Resource::to_write(&asked.resource_name)?;
    let name = resource.name;
    let is_there = wait(move || name.is_here(&depot)).await?;
    let committed = match is_there {
        true => name.size,
        false => writes.came(&(caller.name, asked.resource_name)),
    };
    let committed_size = i64::try_from(committed).unwrap_or(i64::MAX);
    Ok(encode(&QueryWriteStatusResponse { committed_size, complete: is_there }))
}

/// `ByteStream.Read`.
pub(super) async fn read(site: Arc<Site>, asked: ReadRequest) -> Result<Answers, Status> {
    let depot = Arc::clone(&site.depot);
    let resource = Resource::to_read(&asked.resource_name)?;
    let name = resource.name;
    let size = name.size;
    let out_of = || Status::out_of_range("the offset is not in the blob");
    let start = u64::try_from(asked.read_offset).map_err(|_| out_of())?;
    let limit = u64::try_from(asked.read_limit).map_err(|_| out_of())?;
    if start > size {
        return Err(out_of());
    }
    if resource.is_compressed && limit > 0 {
        return Err(Status::invalid_argument("`read_limit` is none for compressed reads"));
    }
    let end = if limit == 0 { size } else { start.saturating_add(limit).min(size) };
    if size <= SMALL_BYTES && !resource.is_compressed {
        let its = Arc::clone(&depot);
        let bytes = brief(&depot, move || Ok(whole(&its, &name))).await?;
        site.metrics.looked_up(PROTOCOL, Kind::Blob, bytes.is_ok());
        let bytes = bytes?;
        let place = |at: u64| usize::try_from(at).unwrap_or(usize::MAX).min(bytes.len());
        let data = bytes.slice(place(start)..place(end));
        return Ok(of_items(vec![encode(&ReadResponse { data })]));
    }
    let its = Arc::clone(&depot);
    let reader = tokio::task::spawn_blocking(move || {
        let content = found(&its, &name)?;
        Ok::<_, Status>(content.map(|content| its.reader_of(&content)).transpose()?)
    });
    let reader = reader.await.map_err(|_| Status::internal("the server stops"))??;
    site.metrics.looked_up(PROTOCOL, Kind::Blob, reader.is_some());
    let missing = || Status::not_found(format!("blob {} is not here", name.hex()));
    let mut reader = reader.ok_or_else(missing)?;
    let (sender, receiver) = mpsc::channel(AHEAD);
    if resource.is_compressed {
        let skip = move || -> std::io::Result<_> {
            let mut start = std::io::Read::take(&mut reader, start);
            std::io::copy(&mut start, &mut std::io::sink())?;
            zstd::stream::read::Encoder::new(reader, LEVEL)
        };
        let encoder = tokio::task::spawn_blocking(skip).await;
        let encoder = encoder.map_err(|_| Status::internal("the server stops"))?;
        let encoder = encoder.map_err(|error| Status::internal(error.to_string()))?;
        tokio::spawn(pump(encoder, (0, u64::MAX), sender));
    } else {
        tokio::spawn(pump(reader, (start, end), sender));
    }
    let stream = ReceiverStream::new(receiver).map(|piece| match piece {
        Ok(data) => Ok(encode(&ReadResponse { data })),
        Err(error) => Err(Status::data_loss(error.to_string())),
    });
    Ok(Box::pin(stream))
}
