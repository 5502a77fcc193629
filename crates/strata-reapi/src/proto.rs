//! The messages of the remote execution API, version 2, that a cache needs
//! (`bazelbuild/remote-apis`, `remote_execution.proto`; Google's `bytestream.proto` and
//! `status.proto`). Field numbers are theirs.

#![expect(missing_docs, reason = "the API says what its messages and fields are")]

use crate::messages;

/// `DigestFunction.Value`.
pub const SHA256: i32 = 1;
pub const BLAKE3: i32 = 9;
/// `Compressor.Value`.
pub const IDENTITY: i32 = 0;
pub const ZSTD: i32 = 1;
/// `ChunkingFunction.Value`.
pub const FAST_CDC_2020: i32 = 1;

messages! {
    pub,

    /// A blob's name.
    Digest { hash: [string] = 1, size_bytes: [int64] = 2 }

    GetCapabilitiesRequest { instance_name: [string] = 1 }
    ServerCapabilities {
        cache_capabilities: [one CacheCapabilities] = 1,
        low_api_version: [one SemVer] = 4,
        high_api_version: [one SemVer] = 5,
    }
    SemVer { major: [int32] = 1, minor: [int32] = 2, patch: [int32] = 3, prerelease: [string] = 4 }
    CacheCapabilities {
        digest_functions: [enums] = 1,
        action_cache_update_capabilities: [one ActionCacheUpdateCapabilities] = 2,
        max_batch_total_size_bytes: [int64] = 4,
        symlink_absolute_path_strategy: [int32] = 5,
        supported_compressors: [enums] = 6,
        supported_batch_update_compressors: [enums] = 7,
        max_cas_blob_size_bytes: [int64] = 8,
        split_blob_support: [bool] = 9,
        splice_blob_support: [bool] = 10,
        fast_cdc_2020_params: [one FastCdc2020Params] = 11,
    }
    FastCdc2020Params { avg_chunk_size_bytes: [uint64] = 1, seed: [uint32] = 2 }
    ActionCacheUpdateCapabilities { update_enabled: [bool] = 1 }

    GetActionResultRequest {
        instance_name: [string] = 1,
        action_digest: [one Digest] = 2,
        digest_function: [int32] = 6,
    }
    /// The result stays as it came, fields that are not known here included.
    UpdateActionResultRequest {
        instance_name: [string] = 1,
        action_digest: [one Digest] = 2,
        action_result: [bytes] = 3,
        digest_function: [int32] = 5,
    }
    ActionResult {
        output_files: [many OutputFile] = 2,
        output_directories: [many OutputDirectory] = 3,
        exit_code: [int32] = 4,
        stdout_raw: [bytes] = 5,
        stdout_digest: [one Digest] = 6,
        stderr_raw: [bytes] = 7,
        stderr_digest: [one Digest] = 8,
    }
    OutputFile {
        path: [string] = 1,
        digest: [one Digest] = 2,
        is_executable: [bool] = 4,
        contents: [bytes] = 5,
    }
    OutputDirectory {
        path: [string] = 1,
        tree_digest: [one Digest] = 3,
        root_directory_digest: [one Digest] = 5,
    }
    Tree { root: [one Directory] = 1, children: [many Directory] = 2 }
    Directory { files: [many FileNode] = 1, directories: [many DirectoryNode] = 2 }
    FileNode { name: [string] = 1, digest: [one Digest] = 2 }
    DirectoryNode { name: [string] = 1, digest: [one Digest] = 2 }

    FindMissingBlobsRequest {
        instance_name: [string] = 1,
        blob_digests: [many Digest] = 2,
        digest_function: [int32] = 3,
    }
    FindMissingBlobsResponse { missing_blob_digests: [many Digest] = 2 }
    /// `FindMissingBlobsRequest` with its digests as they came, for who reads a hundred of them.
    DigestsAsked {
        instance_name: [string] = 1,
        blob_digests: [pieces] = 2,
        digest_function: [int32] = 3,
    }
    /// `FindMissingBlobsResponse` with digests as they came.
    DigestsMissing { missing_blob_digests: [pieces] = 2 }
    /// `Digest` as it came.
    DigestAsked { hash: [bytes] = 1, size_bytes: [int64] = 2 }
    BatchUpdateBlobsRequest {
        instance_name: [string] = 1,
        requests: [many BlobToUpdate] = 2,
        digest_function: [int32] = 5,
    }
    BlobToUpdate { digest: [one Digest] = 1, data: [bytes] = 2, compressor: [int32] = 3 }
    BatchUpdateBlobsResponse { responses: [many UpdatedBlob] = 1 }
    UpdatedBlob { digest: [one Digest] = 1, status: [one Status] = 2 }
    BatchReadBlobsRequest {
        instance_name: [string] = 1,
        digests: [many Digest] = 2,
        acceptable_compressors: [enums] = 3,
        digest_function: [int32] = 4,
    }
    BatchReadBlobsResponse { responses: [many ReadBlob] = 1 }
    ReadBlob {
        digest: [one Digest] = 1,
        data: [bytes] = 2,
        status: [one Status] = 3,
        compressor: [int32] = 4,
    }
    GetTreeRequest {
        instance_name: [string] = 1,
        root_digest: [one Digest] = 2,
        page_size: [int32] = 3,
        page_token: [string] = 4,
        digest_function: [int32] = 5,
    }
    /// The directories stay as they came.
    GetTreeResponse { directories: [pieces] = 1, next_page_token: [string] = 2 }
    SplitBlobRequest {
        instance_name: [string] = 1,
        blob_digest: [one Digest] = 2,
        digest_function: [int32] = 3,
        chunking_function: [int32] = 4,
    }
    SplitBlobResponse { chunk_digests: [many Digest] = 1, chunking_function: [int32] = 2 }
    SpliceBlobRequest {
        instance_name: [string] = 1,
        blob_digest: [one Digest] = 2,
        chunk_digests: [many Digest] = 3,
        digest_function: [int32] = 4,
        chunking_function: [int32] = 5,
    }
    SpliceBlobResponse { blob_digest: [one Digest] = 1 }
    /// `google.rpc.Status`.
    Status { code: [int32] = 1, message: [string] = 2 }

    /// `FetchBlobRequest` and `FetchDirectoryRequest`.
    FetchRequest {
        instance_name: [string] = 1,
        uris: [strings] = 4,
        qualifiers: [many Qualifier] = 5,
        digest_function: [int32] = 6,
    }
    FetchResponse {
        status: [one Status] = 1,
        uri: [string] = 2,
        qualifiers: [many Qualifier] = 3,
        digest: [one Digest] = 5,
        digest_function: [int32] = 6,
    }
    /// `PushBlobRequest` and `PushDirectoryRequest`.
    PushRequest {
        instance_name: [string] = 1,
        uris: [strings] = 2,
        qualifiers: [many Qualifier] = 3,
        digest: [one Digest] = 5,
        references_blobs: [many Digest] = 6,
        references_directories: [many Digest] = 7,
        digest_function: [int32] = 8,
    }
    PushResponse {}
    Qualifier { name: [string] = 1, value: [string] = 2 }

    ReadRequest {
        resource_name: [string] = 1,
        read_offset: [int64] = 2,
        read_limit: [int64] = 3,
    }
    ReadResponse { data: [bytes] = 10 }
    WriteRequest {
        resource_name: [string] = 1,
        write_offset: [int64] = 2,
        finish_write: [bool] = 3,
        data: [bytes] = 10,
    }
    WriteResponse { committed_size: [int64] = 1 }
    QueryWriteStatusRequest { resource_name: [string] = 1 }
    QueryWriteStatusResponse { committed_size: [int64] = 1, complete: [bool] = 2 }
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::*;

    #[test]
    fn messages_have_the_bytes_that_protoc_gives() {
        let digest = Digest { hash: "ab".to_owned(), size_bytes: 300 };
        assert_eq!(digest.encode_to_vec(), b"\x0a\x02ab\x10\xac\x02");
        let request = FindMissingBlobsRequest {
            instance_name: String::new(),
            blob_digests: vec![digest.clone(), Digest::default()],
            digest_function: BLAKE3,
        };
        let bytes = request.encode_to_vec();
        assert_eq!(bytes, b"\x12\x07\x0a\x02ab\x10\xac\x02\x12\x00\x18\x09");
        assert_eq!(bytes.len(), request.encoded_len());
        assert_eq!(FindMissingBlobsRequest::decode(&bytes[..]), Ok(request));
        let enums = CacheCapabilities { digest_functions: vec![1, 9], ..Default::default() };
        assert_eq!(enums.encode_to_vec(), b"\x0a\x02\x01\x09");
        // Not packed, as proto2 writers have it, and with a field that nobody knows.
        let loose = CacheCapabilities::decode(&b"\x08\x01\x08\x09\xa2\x06\x01x"[..]);
        assert_eq!(loose, Ok(enums));
        assert!(Digest::decode(&b"\x0a\x05ab"[..]).is_err());
    }
}
