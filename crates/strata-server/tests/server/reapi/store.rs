//! A store that lies on the far side of the remote execution API: what the conformance suite for
//! every store asks is asked through gRPC, with digests by BLAKE3.
//!
//! A blob's size is part of its name there and not of ours, so each blob has an action, named by
//! the blob's id, whose only output it is. A record is an output, too, of an action for each of
//! its keys; the outputs of a slot's action are its latest records.

use std::io::Read;

use prost::Message as _;
use strata_cas::{
    Blob, BlobId, BlobStore, Record, RecordKey, RecordStore, Slot, StoreError, conformance,
};
use tonic::Code;

use super::calls::{World, noise, pieces};
use strata_reapi::proto::*;

const SERVICE: &str = "/build.bazel.remote.execution.v2.ActionCache";
/// Larger ones go by stream.
const BATCH_BYTES: usize = 1 << 20;

struct Far(World);

fn digest(bytes: &[u8]) -> Digest {
    let size_bytes = i64::try_from(bytes.len()).expect("it is small");
    Digest { hash: BlobId::of(bytes).to_string(), size_bytes }
}

/// What stands for something that is named by this hash alone.
fn action(id: &BlobId) -> Option<Digest> {
    Some(Digest { hash: id.to_string(), size_bytes: 1 })
}

impl Far {
    fn upload(&self, bytes: &[u8]) -> Digest {
        let digest = digest(bytes);
        let (hash, size) = (&digest.hash, digest.size_bytes);
        if bytes.len() > BATCH_BYTES {
            let name = format!("i/uploads/u/blobs/blake3/{hash}/{size}");
            let committed = self.0.write(pieces(&name, 0, bytes, true)).expect("it is written");
            assert_eq!(committed, size);
            return digest;
        }
        let data = bytes::Bytes::copy_from_slice(bytes);
        let one = BlobToUpdate { digest: Some(digest.clone()), data, compressor: IDENTITY };
        let asked = BatchUpdateBlobsRequest {
            requests: vec![one],
            digest_function: BLAKE3,
            ..Default::default()
        };
        let answer: BatchUpdateBlobsResponse =
            self.0.cas("BatchUpdateBlobs", &asked).expect("an answer");
        let status = answer.responses[0].status.clone().unwrap_or_default();
        assert_eq!(status.code, 0, "{status:?}");
        digest
    }

    fn download(&self, digest: &Digest) -> Vec<u8> {
        let name = format!("i/blobs/blake3/{}/{}", digest.hash, digest.size_bytes);
        self.0.read(&name, 0, 0).expect("what a result names is there")
    }

    /// The outputs of an action.
    fn outputs(&self, id: &BlobId) -> Option<Vec<Digest>> {
        let asked = GetActionResultRequest {
            action_digest: action(id),
            digest_function: BLAKE3,
            ..Default::default()
        };
        let result = self.0.call::<ActionResult>(&format!("{SERVICE}/GetActionResult"), &asked);
        if result.as_ref().is_err_and(|status| status.code() == Code::NotFound) {
            return None;
        }
        let files = result.expect("an answer").output_files;
        Some(files.into_iter().filter_map(|file| file.digest).collect())
    }

    fn set_outputs(&self, id: &BlobId, outputs: &[Digest]) {
        let file = |(number, digest): (usize, &Digest)| OutputFile {
            path: format!("output/{number}"),
            digest: Some(digest.clone()),
            ..Default::default()
        };
        let output_files = outputs.iter().enumerate().map(file).collect();
        let result = ActionResult { output_files, ..Default::default() };
        let asked = UpdateActionResultRequest {
            action_digest: action(id),
            action_result: result.encode_to_vec().into(),
            digest_function: BLAKE3,
            ..Default::default()
        };
        let path = format!("{SERVICE}/UpdateActionResult");
        self.0.call::<ActionResult>(&path, &asked).expect("it is kept");
    }

    fn only_output(&self, id: &BlobId) -> Option<Digest> {
        self.outputs(id).map(|outputs| outputs.into_iter().next().expect("one output"))
    }
}

impl BlobStore for Far {
    fn open(&self, id: &BlobId) -> Result<Option<Blob>, StoreError> {
        Ok(self.only_output(id).map(|digest| {
            let bytes = self.download(&digest);
            assert_eq!(BlobId::of(&bytes), *id, "the server has sent other bytes");
            Blob::Bytes(bytes)
        }))
    }

    fn put_from(&self, source: &mut dyn Read) -> Result<BlobId, StoreError> {
        let mut bytes = Vec::new();
        source.read_to_end(&mut bytes).expect("a source in memory");
        let (id, digest) = (BlobId::of(&bytes), self.upload(&bytes));
        self.set_outputs(&id, &[digest]);
        Ok(id)
    }

    fn has(&self, id: &BlobId) -> Result<bool, StoreError> {
        Ok(self.size(id)?.is_some())
    }

    fn size(&self, id: &BlobId) -> Result<Option<u64>, StoreError> {
        let Some(digest) = self.only_output(id) else { return Ok(None) };
        let size = u64::try_from(digest.size_bytes).expect("a size");
        let missing = super::calls::missing(&self.0, &[digest], BLAKE3);
        assert!(missing.is_empty(), "a result names what is missing: {missing:?}");
        Ok(Some(size))
    }
}

impl RecordStore for Far {
    fn find(&self, key: &RecordKey) -> Result<Option<Record>, StoreError> {
        let digest = self.only_output(&BlobId::of(&key.to_bytes()));
        Ok(digest.map(|digest| record(&self.download(&digest))))
    }

    fn keep(&self, kept: &Record, also: &[RecordKey]) -> Result<(), StoreError> {
        let digest = self.upload(&serde_json::to_vec(kept).expect("JSON"));
        let own = [RecordKey::Definition(kept.definition), RecordKey::Content(kept.content)];
        for key in own.iter().chain(also) {
            self.set_outputs(&BlobId::of(&key.to_bytes()), std::slice::from_ref(&digest));
        }
        let slot = BlobId::of(kept.slot.0.as_bytes());
        let mut recent = self.outputs(&slot).unwrap_or_default();
        recent.retain(|old| *old != digest);
        recent.insert(0, digest);
        recent.truncate(8);
        self.set_outputs(&slot, &recent);
        Ok(())
    }

    fn recent(&self, slot: &Slot) -> Result<Vec<Record>, StoreError> {
        let outputs = self.outputs(&BlobId::of(slot.0.as_bytes())).unwrap_or_default();
        Ok(outputs.iter().map(|digest| record(&self.download(digest))).collect())
    }
}

fn record(bytes: &[u8]) -> Record {
    serde_json::from_slice(bytes).expect("what was put")
}

#[test]
fn a_store_is_a_store_on_the_far_side_too() {
    conformance::blobs(&Far(World::new()));
    conformance::incoming(&Far(World::new()));
    conformance::records(&Far(World::new()));
    // Of a size that takes several reads and writes.
    let far = Far(World::new());
    let bytes = noise(5_000_003);
    let id = far.put(&bytes).expect("put");
    assert_eq!(far.get(&id).expect("get"), Some(bytes));
}
