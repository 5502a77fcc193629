//! What this server can do, as its caller may use it.

use bytes::Bytes;
use tonic::Status;

use super::call::encode;
use super::chunks::AVERAGE_BYTES;
use crate::access::Caller;
use strata_reapi::proto::{
    ActionCacheUpdateCapabilities, BLAKE3, CacheCapabilities, FastCdc2020Params,
    GetCapabilitiesRequest, SHA256, SemVer, ServerCapabilities, ZSTD,
};

/// What a batch may have: gRPC clients take 4 MiB by default, and the envelope comes on top.
pub(crate) const BATCH_LIMIT_BYTES: usize = (4 << 20) - (64 << 10);

/// `SymlinkAbsolutePathStrategy.Value.ALLOWED`.
const ALLOWED: i32 = 2;

pub(super) async fn get(caller: Caller, _: GetCapabilitiesRequest) -> Result<Bytes, Status> {
    // Bazel 7 knows 2.0 alone, and goes uncached, in silence, where that is too low.
    let version = |minor| Some(SemVer { major: 2, minor, ..SemVer::default() });
    Ok(encode(&ServerCapabilities {
        cache_capabilities: Some(CacheCapabilities {
            digest_functions: vec![SHA256, BLAKE3],
            action_cache_update_capabilities: Some(ActionCacheUpdateCapabilities {
                update_enabled: caller.writes,
            }),
            max_batch_total_size_bytes: i64::try_from(BATCH_LIMIT_BYTES).unwrap_or(i64::MAX),
            symlink_absolute_path_strategy: ALLOWED,
            supported_compressors: vec![ZSTD],
            supported_batch_update_compressors: vec![ZSTD],
            split_blob_support: true,
            splice_blob_support: true,
            fast_cdc_2020_params: Some(FastCdc2020Params {
                avg_chunk_size_bytes: AVERAGE_BYTES as u64,
                seed: 0,
            }),
            ..CacheCapabilities::default()
        }),
        low_api_version: version(0),
        high_api_version: version(12),
    }))
}
