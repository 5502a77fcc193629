//! Downloads one blob: opening it at an offset on the async side, counting and hashing it on the
//! caller's side. Which endpoint, and when to try again, is decided elsewhere.

use std::io::Write;

use bytes::Bytes;
use oci_client::client::{BlobResponse, SizedStream};
use oci_client::errors::DigestError;
use strata_oci::{Descriptor, DigestHasher};
use tokio::sync::mpsc::Sender;

use crate::endpoint::Endpoint;
use crate::failure::Failure;
use crate::network;
use crate::wire::Wire;

/// Sends a blob's bytes from `offset` on. A server that does not honour the offset costs the bytes
/// before it once more, but nothing else.
pub(crate) async fn send(
    wire: &Wire,
    endpoint: &Endpoint,
    blob: &Descriptor,
    offset: u64,
    pieces: Sender<Bytes>,
) -> Result<(), Failure> {
    let scheme = wire.scheme(endpoint).await?;
    let client = wire.library(scheme)?;
    let (reference, digest) = (Wire::library_reference(endpoint), blob.digest.to_string());
    let opened = match offset {
        0 => client.pull_blob_stream(&reference, digest.as_str()).await.map(|stream| (stream, 0)),
        _ => {
            let partial =
                client.pull_blob_stream_partial(&reference, digest.as_str(), offset, None);
            partial.await.map(|response| match response {
                BlobResponse::Full(stream) => (stream, 0),
                BlobResponse::Partial(stream) => (stream, offset),
            })
        }
    };
    let (mut stream, start) = opened.map_err(Failure::of_library)?;
    check_headers(&stream, blob, start)?;
    let mut skip = offset - start;
    while let Some(piece) = next(&mut stream).await? {
        let length = piece.len() as u64;
        let skipped = skip.min(length);
        skip -= skipped;
        let rest = piece.slice(usize::try_from(skipped).unwrap_or(piece.len())..);
        if !rest.is_empty() && pieces.send(rest).await.is_err() {
            break;
        }
    }
    Ok(())
}

/// A wrong answer is recognised, where its headers give it away, before a byte reaches the sink:
/// then another mirror can still be asked.
fn check_headers(stream: &SizedStream, blob: &Descriptor, start: u64) -> Result<(), Failure> {
    let expected = blob.size.saturating_sub(start);
    if let Some(length) = stream.content_length
        && length != expected
    {
        return Err(wrong(blob, format!("it has {length} bytes and not {expected}")));
    }
    match &stream.digest_header_value {
        Some(digest) if digest.starts_with("sha256:") && *digest != blob.digest.to_string() => {
            Err(wrong(blob, format!("it is announced as {}", crate::failure::printable(digest))))
        }
        _ => Ok(()),
    }
}

/// The next piece. The library's own verdict on the digest is left to [`Download`], which can
/// tell a wrong blob from a short one.
async fn next(stream: &mut SizedStream) -> Result<Option<Bytes>, Failure> {
    let piece = std::future::poll_fn(|context| stream.stream.as_mut().poll_next(context)).await;
    match piece {
        Some(Ok(piece)) => Ok(Some(piece)),
        Some(Err(error)) if error.get_ref().is_some_and(|inner| inner.is::<DigestError>()) => {
            Ok(None)
        }
        Some(Err(error)) => Err(Failure::Dropped(network::describe(&error))),
        None => Ok(None),
    }
}

fn wrong(blob: &Descriptor, reason: String) -> Failure {
    Failure::Wrong { what: format!("the blob {}", blob.digest), reason }
}

/// A download on the caller's side, over all its tries.
pub(crate) struct Download<'a> {
    blob: &'a Descriptor,
    sink: &'a mut dyn Write,
    progress: &'a mut dyn FnMut(u64),
    hasher: DigestHasher,
    received: u64,
}

impl<'a> Download<'a> {
    pub(crate) fn new(
        blob: &'a Descriptor,
        sink: &'a mut dyn Write,
        progress: &'a mut dyn FnMut(u64),
    ) -> Self {
        Self { blob, sink, progress, hasher: DigestHasher::default(), received: 0 }
    }

    /// Bytes so far: where the next try goes on.
    pub(crate) fn received(&self) -> u64 {
        self.received
    }

    pub(crate) fn take(&mut self, piece: &Bytes) -> Result<(), Failure> {
        let received = self.received + piece.len() as u64;
        if received > self.blob.size {
            return Err(self.spoilt(format!("it has more than {} bytes", self.blob.size)));
        }
        let stored = self.sink.write_all(piece).and_then(|()| self.hasher.write_all(piece));
        stored.map_err(|error| Failure::Sink(format!("its bytes can not be kept: {error}")))?;
        self.received = received;
        (self.progress)(received);
        Ok(())
    }

    /// Whether a try that ended well brought all bytes.
    pub(crate) fn is_whole(&self) -> Result<(), Failure> {
        if self.received == self.blob.size {
            return Ok(());
        }
        let (received, size) = (self.received, self.blob.size);
        Err(Failure::Dropped(format!("the answer ended after {received} of {size} bytes")))
    }

    /// The last word on the bytes.
    pub(crate) fn verify(&mut self) -> Result<(), Failure> {
        let (digest, _) = std::mem::take(&mut self.hasher).finish();
        if digest != self.blob.digest {
            return Err(self.spoilt(format!("they hash to {digest}")));
        }
        let flushed = self.sink.flush();
        flushed.map_err(|error| Failure::Sink(format!("its bytes can not be kept: {error}")))
    }

    fn spoilt(&self, reason: String) -> Failure {
        Failure::Spoilt { what: format!("the blob {}", self.blob.digest), reason }
    }
}
