//! The services as a gRPC client sees them.

use std::sync::Arc;

use bytes::Bytes;
use http::uri::PathAndQuery;
use prost::Message;
use strata_cas::{BlobId, MemoryStore};
use tonic::codegen::tokio_stream::StreamExt as _;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};

use strata_reapi::Raw;
use strata_reapi::proto::{self, *};
use strata_server::{Config, NoImages, Scope, Secret, ServeTable, Server, Setup, TokenTable, Told};

pub(super) struct World {
    pub(super) runtime: tokio::runtime::Runtime,
    channel: Channel,
    token: Option<&'static str>,
    server: Arc<Server>,
}

impl World {
    pub(super) fn new() -> Self {
        Self::with(&ServeTable::default())
    }

    fn with(table: &ServeTable) -> Self {
        let config = Config::new(table, Some("127.0.0.1:0")).expect("a configuration");
        let setup = Setup {
            config,
            store: Arc::new(MemoryStore::default()),
            library: Arc::new(NoImages),
            far: None,
            observer: Arc::new(|_: &Told| {}),
            upstream: None,
        };
        let server = Arc::new(Server::start(setup).expect("a server"));
        Self::client(server)
    }

    /// Another client of the same server.
    fn another(&self) -> Self {
        Self::client(Arc::clone(&self.server))
    }

    fn client(server: Arc<Server>) -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("a runtime");
        let endpoint = Endpoint::from_shared(format!("http://{}", server.address()));
        let connecting = endpoint.expect("an address");
        let channel = runtime.block_on(connecting.connect()).expect("it listens");
        Self { runtime, channel, token: None, server }
    }

    pub(super) fn request<T>(&self, message: T) -> tonic::Request<T> {
        let mut request = tonic::Request::new(message);
        if let Some(token) = self.token {
            let value = format!("Bearer {token}").parse().expect("a header");
            request.metadata_mut().insert("authorization", value);
        }
        request
    }

    pub(super) fn grpc(&self) -> tonic::client::Grpc<Channel> {
        tonic::client::Grpc::new(self.channel.clone())
    }

    pub(super) fn call<A: Message + Default>(
        &self,
        path: &str,
        asked: &impl Message,
    ) -> Result<A, Status> {
        let (mut grpc, path) = (self.grpc(), path.parse::<PathAndQuery>().expect("a path"));
        self.runtime.block_on(async {
            grpc.ready().await.expect("it is there");
            let asked = self.request(Bytes::from(asked.encode_to_vec()));
            let answer = grpc.unary(asked, path, Raw).await?;
            Ok(A::decode(answer.into_inner()).expect("a message"))
        })
    }

    pub(super) fn cas<A: Message + Default>(
        &self,
        method: &str,
        asked: &impl Message,
    ) -> Result<A, Status> {
        let service = "/build.bazel.remote.execution.v2.ContentAddressableStorage";
        self.call(&format!("{service}/{method}"), asked)
    }

    pub(super) fn write(&self, messages: Vec<WriteRequest>) -> Result<i64, Status> {
        let path = PathAndQuery::from_static("/google.bytestream.ByteStream/Write");
        let mut grpc = self.grpc();
        let messages: Vec<Bytes> =
            messages.iter().map(|one| Bytes::from(one.encode_to_vec())).collect();
        self.runtime.block_on(async {
            grpc.ready().await.expect("it is there");
            let stream = tonic::codegen::tokio_stream::iter(messages);
            let answer = grpc.client_streaming(self.request(stream), path, Raw).await?;
            let answer = WriteResponse::decode(answer.into_inner()).expect("a message");
            Ok(answer.committed_size)
        })
    }

    fn stream<A: Message + Default>(
        &self,
        path: &str,
        asked: &impl Message,
    ) -> Result<Vec<A>, Status> {
        let (mut grpc, path) = (self.grpc(), path.parse::<PathAndQuery>().expect("a path"));
        self.runtime.block_on(async {
            grpc.ready().await.expect("it is there");
            let asked = self.request(Bytes::from(asked.encode_to_vec()));
            let mut stream = grpc.server_streaming(asked, path, Raw).await?.into_inner();
            let mut all = Vec::new();
            while let Some(bytes) = stream.next().await {
                all.push(A::decode(bytes?).expect("a message"));
            }
            Ok(all)
        })
    }

    pub(super) fn read(&self, name: &str, offset: i64, limit: i64) -> Result<Vec<u8>, Status> {
        let asked =
            ReadRequest { resource_name: name.to_owned(), read_offset: offset, read_limit: limit };
        let pieces = self.stream::<ReadResponse>("/google.bytestream.ByteStream/Read", &asked)?;
        Ok(pieces.iter().flat_map(|piece| piece.data.to_vec()).collect())
    }

    pub(super) fn query(&self, name: &str) -> QueryWriteStatusResponse {
        let asked = QueryWriteStatusRequest { resource_name: name.to_owned() };
        let path = "/google.bytestream.ByteStream/QueryWriteStatus";
        self.call(path, &asked).expect("an answer")
    }
}

pub(super) fn digest(bytes: &[u8]) -> proto::Digest {
    let hash = strata_oci::Digest::of(bytes).hex();
    proto::Digest { hash, size_bytes: i64::try_from(bytes.len()).expect("it is small") }
}

pub(super) fn missing(
    world: &World,
    digests: &[proto::Digest],
    digest_function: i32,
) -> Vec<proto::Digest> {
    let blob_digests = digests.to_vec();
    let asked = FindMissingBlobsRequest { blob_digests, digest_function, ..Default::default() };
    let answer: FindMissingBlobsResponse = world.cas("FindMissingBlobs", &asked).expect("it is");
    answer.missing_blob_digests
}

fn update(world: &World, requests: Vec<BlobToUpdate>, digest_function: i32) -> Vec<i32> {
    let asked = BatchUpdateBlobsRequest { requests, digest_function, ..Default::default() };
    let answer: BatchUpdateBlobsResponse = world.cas("BatchUpdateBlobs", &asked).expect("it is");
    answer.responses.iter().map(|one| one.status.clone().unwrap_or_default().code).collect()
}

fn blob(bytes: &'static [u8]) -> BlobToUpdate {
    let data = Bytes::from_static(bytes);
    BlobToUpdate { digest: Some(digest(bytes)), data, compressor: IDENTITY }
}

/// Bytes that do not compress well, and differ everywhere.
pub(super) fn noise(count: u32) -> Vec<u8> {
    let blocks = (0..count.div_ceil(32)).flat_map(|at| *BlobId::of(&at.to_le_bytes()).as_bytes());
    blocks.take(count as usize).collect()
}

pub(super) fn pieces(name: &str, from: usize, bytes: &[u8], finish: bool) -> Vec<WriteRequest> {
    let mut all = Vec::new();
    let count = bytes.chunks(100_000).count();
    for (number, data) in bytes.chunks(100_000).enumerate() {
        all.push(WriteRequest {
            resource_name: if number == 0 { name.to_owned() } else { String::new() },
            write_offset: i64::try_from(from + number * 100_000).expect("it is small"),
            finish_write: finish && number + 1 == count,
            data: Bytes::copy_from_slice(data),
        });
    }
    all
}

#[test]
fn what_is_announced() {
    let world = World::new();
    let path = "/build.bazel.remote.execution.v2.Capabilities/GetCapabilities";
    let asked = GetCapabilitiesRequest::default();
    let all: ServerCapabilities = world.call(path, &asked).expect("an answer");
    assert_eq!(all.low_api_version.expect("a version").minor, 0);
    let cache = all.cache_capabilities.expect("it is a cache");
    assert_eq!(cache.digest_functions, [SHA256, BLAKE3]);
    assert!(cache.action_cache_update_capabilities.expect("it says").update_enabled);
    let execute = "/build.bazel.remote.execution.v2.Execution/Execute";
    let refused = world.call::<Digest>(execute, &asked).expect_err("no execution");
    assert_eq!(refused.code(), Code::Unimplemented);
}

#[test]
fn blobs_in_batches() {
    let world = World::new();
    let wrong = BlobToUpdate { data: Bytes::from_static(b"wrong"), ..blob(b"right") };
    let long = BlobToUpdate { data: Bytes::from_static(b"right and more"), ..blob(b"right") };
    let none = BlobToUpdate { digest: None, ..blob(b"x") };
    let codes = update(&world, vec![blob(b"one"), wrong, long, none], SHA256);
    let invalid = Code::InvalidArgument as i32;
    assert_eq!(codes, [0, invalid, invalid, invalid]);
    let all = [digest(b"one"), digest(b"right"), digest(b"")];
    assert_eq!(missing(&world, &all, 0), [digest(b"right")]);
    // The same bytes have another name by another function, and another size is another blob.
    let blake3 = proto::Digest { hash: BlobId::of(b"one").to_string(), size_bytes: 3 };
    assert!(missing(&world, std::slice::from_ref(&blake3), BLAKE3).is_empty());
    assert_eq!(missing(&world, std::slice::from_ref(&blake3), SHA256), [blake3]);
    let other = proto::Digest { size_bytes: 4, ..digest(b"one") };
    assert_eq!(missing(&world, std::slice::from_ref(&other), 0), [other]);

    let text: &'static [u8] = &[b'a'; 5000];
    let data = Bytes::from(zstd::bulk::compress(text, 3).expect("it compresses"));
    let packed = BlobToUpdate { data: data.clone(), compressor: ZSTD, ..blob(text) };
    let cut = BlobToUpdate { data: data.slice(..data.len() - 3), ..packed.clone() };
    assert_eq!(update(&world, vec![cut], 0), [invalid]);
    assert_eq!(update(&world, vec![packed], 0), [0]);
    let mut asked = BatchReadBlobsRequest {
        digests: vec![digest(text), digest(b"nobody"), digest(b"one")],
        ..Default::default()
    };
    for acceptable in [vec![], vec![ZSTD]] {
        asked.acceptable_compressors = acceptable.clone();
        let answer: BatchReadBlobsResponse = world.cas("BatchReadBlobs", &asked).expect("it is");
        let [first, second, third] = &answer.responses[..] else { panic!("three blobs") };
        assert_eq!(first.compressor == ZSTD, !acceptable.is_empty());
        let data = match first.compressor {
            ZSTD => zstd::bulk::decompress(&first.data, 5000).expect("zstd"),
            _ => first.data.to_vec(),
        };
        assert_eq!(data, text);
        assert_eq!(second.status.clone().expect("a status").code, Code::NotFound as i32);
        assert_eq!(&third.data[..], b"one");
    }
    asked.digests = vec![proto::Digest { size_bytes: 5 << 20, ..digest(b"x") }];
    let refused = world.cas::<BatchReadBlobsResponse>("BatchReadBlobs", &asked);
    assert_eq!(refused.expect_err("too much").code(), Code::InvalidArgument);
}

#[test]
fn streams_of_bytes_in_and_out() {
    let world = World::new();
    let all = noise(1_500_000);
    let hash = digest(&all).hash;
    let (name, write) =
        (format!("i/blobs/{hash}/1500000"), format!("i/uploads/u/blobs/{hash}/1500000"));
    assert_eq!(world.read(&name, 0, 0).expect_err("not yet").code(), Code::NotFound);
    assert_eq!(world.write(pieces(&write, 0, &all, true)).expect("written"), 1_500_000);
    assert!(world.read(&name, 0, 0).expect("all of it") == all);
    assert!(world.read(&name, 1_000_000, 7).expect("a part") == all[1_000_000..1_000_007]);
    assert!(world.read(&name, 1_400_000, 0).expect("the rest") == all[1_400_000..]);
    assert!(world.read(&name, 1_500_000, 0).expect("nothing").is_empty());
    assert_eq!(world.read(&name, 1_500_001, 0).expect_err("beyond").code(), Code::OutOfRange);
    // There already: nothing more has to be sent.
    assert_eq!(world.write(pieces(&write, 0, &all[..10], false)).expect("early"), 1_500_000);
    let status = world.query(&write);
    assert!(status.complete && status.committed_size == 1_500_000);
    // The same blob under its other name, compressed on its way out.
    let blake3 = BlobId::of(&all);
    let packed = world.read(&format!("compressed-blobs/zstd/blake3/{blake3}/1500000"), 0, 0);
    let unpacked = zstd::stream::decode_all(&packed.expect("all of it")[..]).expect("zstd");
    assert!(unpacked == all);
    let packed = world.read(&format!("compressed-blobs/zstd/{hash}/1500000"), 1_499_999, 0);
    let unpacked = zstd::stream::decode_all(&packed.expect("a byte")[..]).expect("zstd");
    assert_eq!(unpacked, all[1_499_999..]);
}

#[test]
fn a_write_goes_on_where_it_broke_off() {
    let world = World::new();
    let all = noise(700_000);
    let write = format!("uploads/u/blobs/{}/700000", digest(&all).hash);
    let broken = world.write(pieces(&write, 0, &all[..300_000], false));
    assert_eq!(broken.expect_err("it is not all").code(), Code::InvalidArgument);
    let status = world.query(&write);
    assert!(!status.complete && status.committed_size == 300_000);
    // Not from another place than the one where it is.
    let wrong = world.write(pieces(&write, 200_000, &all[200_000..], true));
    assert_eq!(wrong.expect_err("it is not there").code(), Code::InvalidArgument);
    let rest = world.write(pieces(&write, 300_000, &all[300_000..], true));
    assert_eq!(rest.expect("written"), 700_000);
    assert!(missing(&world, &[digest(&all)], 0).is_empty());
}

/// The most memory that this process has had.
fn peak_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("VmHWM");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

#[test]
fn half_open_calls_keep_nobody_out() {
    let world = World::new();
    let write = format!("uploads/u/blobs/{}/700000", digest(&noise(700_000)).hash);
    let path = PathAndQuery::from_static("/google.bytestream.ByteStream/Write");
    let mut calls = Vec::new();
    // More than one connection may have at a time.
    for at in 0..400 {
        let mut grpc = world.grpc();
        let first = WriteRequest {
            resource_name: write.replace("/u/", &format!("/{at}/")),
            data: Bytes::from_static(b"0123456789"),
            ..WriteRequest::default()
        };
        let stream = tonic::codegen::tokio_stream::iter([Bytes::from(first.encode_to_vec())])
            .chain(tonic::codegen::tokio_stream::pending());
        let (request, path) = (world.request(stream), path.clone());
        calls.push(world.runtime.spawn(async move {
            grpc.ready().await.expect("it is there");
            grpc.client_streaming::<_, Bytes, Bytes, _>(request, path, Raw).await.map(drop)
        }));
    }
    // Another client, beside them.
    let other = world.another();
    for at in 0..20_u8 {
        let bytes = vec![at; 1000];
        let name = format!("uploads/x/blobs/{}/1000", digest(&bytes).hash);
        assert_eq!(other.write(pieces(&name, 0, &bytes, true)).expect("written"), 1000);
    }
    calls.iter().for_each(tokio::task::JoinHandle::abort);
    // Whoever gives so many up at once is sent away; others are not.
    assert_eq!(missing(&other, &[digest(b"x")], 0).len(), 1);
}

#[test]
fn compressed_writes_and_bombs() {
    let world = World::new();
    let all = noise(400_000);
    let packed = zstd::stream::encode_all(&all[..], 3).expect("zstd");
    let name = |bytes: &[u8]| {
        format!("uploads/u/compressed-blobs/zstd/{}/{}", digest(bytes).hash, bytes.len())
    };
    let (first, rest) = packed.split_at(100_000);
    world.write(pieces(&name(&all), 0, first, false)).expect_err("it is not all");
    // The offset counts compressed bytes.
    assert_eq!(world.query(&name(&all)).committed_size, 100_000);
    let written = world.write(pieces(&name(&all), 100_000, rest, true)).expect("written");
    assert_eq!(written, i64::try_from(packed.len()).expect("small"));
    assert_eq!(world.write(pieces(&name(&all), 0, &packed, true)).expect("early"), -1);
    assert!(missing(&world, &[digest(&all)], 0).is_empty());

    let zeros = std::io::Read::take(std::io::repeat(0), 2 << 30);
    let bomb = zstd::stream::encode_all(zeros, 1).expect("zstd");
    let before = peak_kib();
    let small = format!("uploads/u/compressed-blobs/zstd/{}/10", digest(&[0; 10]).hash);
    let refused = world.write(pieces(&small, 0, &bomb, true)).expect_err("a bomb");
    assert_eq!(refused.code(), Code::InvalidArgument);
    let packed = BlobToUpdate { data: Bytes::from(bomb), compressor: ZSTD, ..blob(&[0; 10]) };
    assert_eq!(update(&world, vec![packed], 0), [Code::InvalidArgument as i32]);
    // Two GiB were not unpacked, not even for a moment.
    assert!(peak_kib() < before + (200 << 10), "{} KiB and {before} before", peak_kib());
    let cut = world.write(pieces(&name(b"abc"), 0, b"(\xb5/\xfd", true)).expect_err("it is cut");
    assert_eq!(cut.code(), Code::InvalidArgument);
}

#[test]
fn streams_that_make_no_sense() {
    let world = World::new();
    let write = format!("uploads/u/blobs/{}/3", digest(b"abc").hash);
    let check = |messages: Vec<WriteRequest>| {
        let refused = world.write(messages).expect_err("nonsense");
        assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
    };
    check(Vec::new());
    check(vec![WriteRequest::default()]);
    check(pieces("blobs/../../etc/passwd/1", 0, b"abc", true));
    check(pieces(&write, 0, b"abx", true));
    check(pieces(&write, 0, b"ab", true));
    check(pieces(&write, 0, b"abcd", true));
    let mut other = pieces(&write, 0, b"ab", false);
    other.extend(pieces("uploads/v/blobs/x/1", 2, b"c", true));
    check(other);
    assert_eq!(missing(&world, &[digest(b"abc")], 0), [digest(b"abc")]);
}

#[test]
fn names_that_lead_elsewhere() {
    let world = World::new();
    let good = digest(b"abc");
    let check = |refused: Result<(), Status>, what: &str| {
        assert_eq!(refused.expect_err(what).code(), Code::InvalidArgument, "{what}");
    };
    for instance in ["../x", "a/../b", "/a", "a/", "a//b", "a\\b", "a\0b", "a/blobs/b", "\u{e4}"] {
        let instance_name = instance.to_owned();
        let find = FindMissingBlobsRequest { instance_name, ..Default::default() };
        let found = world.cas::<FindMissingBlobsResponse>("FindMissingBlobs", &find);
        check(found.map(drop), instance);
        check(get_result(&world, instance).map(drop), instance);
        check(put_result(&world, instance, &ActionResult::default()).map(drop), instance);
        let write = format!("{instance}/uploads/u/blobs/{}/3", good.hash);
        check(world.write(pieces(&write, 0, b"abc", true)).map(drop), instance);
    }
    let upper = good.hash.to_uppercase();
    for hash in ["", "..", "../../../etc/passwd", "abc", &upper, &format!("{}0", good.hash)] {
        let blob_digests = vec![proto::Digest { hash: hash.to_owned(), size_bytes: 3 }];
        let find = FindMissingBlobsRequest { blob_digests, ..Default::default() };
        let found = world.cas::<FindMissingBlobsResponse>("FindMissingBlobs", &find);
        check(found.map(drop), hash);
        check(world.read(&format!("blobs/{hash}/3"), 0, 0).map(drop), hash);
        let write = format!("uploads/u/blobs/{hash}/3");
        check(world.write(pieces(&write, 0, b"abc", true)).map(drop), hash);
    }
    for name in [
        format!("uploads//blobs/{}/3", good.hash),
        format!("uploads/{}/blobs/{}/3", "u".repeat(200), good.hash),
        format!("uploads/u/blobs/{}/-3", good.hash),
        format!("uploads/u/blobs/{}/99999999999999999999", good.hash),
        format!("uploads/u/compressed-blobs/gzip/{}/3", good.hash),
    ] {
        check(world.write(pieces(&name, 0, b"abc", true)).map(drop), &name);
    }
    assert_eq!(missing(&world, std::slice::from_ref(&good), 0), [good]);
}

#[test]
fn what_is_said_to_be_too_large_is_refused_before_it_comes() {
    let world = World::with(&ServeTable { body_limit: Some(1000), ..ServeTable::default() });
    let name = format!("uploads/u/blobs/{}/1001", digest(&[7; 1001]).hash);
    // One byte of it: what is declared is enough.
    let refused = world.write(pieces(&name, 0, &[7], false)).expect_err("too large");
    assert_eq!(refused.code(), Code::InvalidArgument);
    assert!(refused.message().contains("1000 bytes"), "{refused}");
    let packed = format!("uploads/u/compressed-blobs/zstd/{}/1001", digest(&[7; 1001]).hash);
    let refused = world.write(pieces(&packed, 0, &[7], false)).expect_err("too large");
    assert_eq!(refused.code(), Code::InvalidArgument);
    let data = Bytes::from(vec![7; 1001]);
    let batch = BlobToUpdate { digest: Some(digest(&data)), data, compressor: IDENTITY };
    assert_eq!(update(&world, vec![batch, blob(b"abc")], 0), [Code::InvalidArgument as i32, 0]);
}

const ACTIONS: &str = "/build.bazel.remote.execution.v2.ActionCache";

fn put_result(
    world: &World,
    instance: &str,
    result: &impl Message,
) -> Result<ActionResult, Status> {
    let asked = UpdateActionResultRequest {
        instance_name: instance.to_owned(),
        action_digest: Some(digest(b"action")),
        action_result: result.encode_to_vec().into(),
        digest_function: 0,
    };
    world.call(&format!("{ACTIONS}/UpdateActionResult"), &asked)
}

fn get_result(world: &World, instance: &str) -> Result<ActionResult, Status> {
    let asked = GetActionResultRequest {
        instance_name: instance.to_owned(),
        action_digest: Some(digest(b"action")),
        digest_function: 0,
    };
    world.call(&format!("{ACTIONS}/GetActionResult"), &asked)
}

#[test]
fn results_never_name_what_is_not_here() {
    let world = World::new();
    let file = |path: &str, bytes: &[u8]| OutputFile {
        path: path.to_owned(),
        digest: Some(digest(bytes)),
        ..Default::default()
    };
    let directory = Directory {
        files: vec![FileNode { name: "f".to_owned(), digest: Some(digest(b"in the tree")) }],
        ..Default::default()
    };
    let tree = Tree { root: Some(directory), children: Vec::new() }.encode_to_vec();
    let result = ActionResult {
        output_files: vec![file("a.o", b"a.o"), file("empty", b"")],
        output_directories: vec![OutputDirectory {
            path: "d".to_owned(),
            tree_digest: Some(digest(&tree)),
            ..Default::default()
        }],
        stdout_digest: Some(digest(b"said")),
        ..Default::default()
    };
    assert_eq!(get_result(&world, "").expect_err("a miss").code(), Code::NotFound);
    let tree: &'static [u8] = tree.leak();
    for bytes in [&b"a.o"[..], b"said", tree, b"in the tree"] {
        let early = put_result(&world, "", &result).expect_err("outputs come first");
        assert_eq!(early.code(), Code::FailedPrecondition);
        assert_eq!(update(&world, vec![blob(bytes)], 0), [0]);
    }
    assert_eq!(put_result(&world, "", &result).expect("kept"), result);
    assert_eq!(get_result(&world, "").expect("a hit"), result);
    // Another instance is another cache.
    assert_eq!(get_result(&world, "other/one").expect_err("a miss").code(), Code::NotFound);
    let outside = ActionResult { output_files: vec![file("../x", b"a.o")], ..Default::default() };
    let refused = put_result(&world, "", &outside).expect_err("it leads out");
    assert_eq!(refused.code(), Code::InvalidArgument);
    assert_eq!(
        put_result(&world, "a/../b", &result).expect_err("no").code(),
        Code::InvalidArgument
    );
}

#[test]
fn trees_are_walked() {
    let world = World::new();
    let leaf = Directory::default().encode_to_vec();
    let file = Directory {
        files: vec![FileNode { name: "x".to_owned(), digest: Some(digest(b"x")) }],
        ..Default::default()
    };
    let node = |name: &str, bytes: &[u8]| DirectoryNode {
        name: name.to_owned(),
        digest: Some(digest(bytes)),
    };
    let below = file.encode_to_vec();
    let root = Directory {
        directories: vec![
            node("a", &below),
            node("b", &below),
            node("c", b"gone"),
            node("d", &leaf),
        ],
        ..Default::default()
    };
    let root = root.encode_to_vec();
    let asked = GetTreeRequest { root_digest: Some(digest(&root)), ..Default::default() };
    let path = "/build.bazel.remote.execution.v2.ContentAddressableStorage/GetTree";
    let refused = world.stream::<GetTreeResponse>(path, &asked).expect_err("no root");
    assert_eq!(refused.code(), Code::NotFound);
    assert_eq!(
        update(&world, vec![blob(root.clone().leak()), blob(below.clone().leak())], 0),
        [0, 0]
    );
    let pages = world.stream::<GetTreeResponse>(path, &asked).expect("a tree");
    let all: Vec<Bytes> = pages.into_iter().flat_map(|page| page.directories).collect();
    // Each once; the empty one is always there, the missing one is left out.
    assert_eq!(all, [root, below, leaf]);
}

#[test]
fn readers_do_not_write() {
    let token = |name: &str, scope| TokenTable {
        name: name.to_owned(),
        token: Some(Secret::new(format!("{name}-0123456789"))),
        token_file: None,
        scope,
        namespace: "main".to_owned(),
        reads: Vec::new(),
        trust: 100,
        requests_per_second: None,
        bytes_per_second: None,
    };
    let tokens = vec![token("writer", Scope::Write), token("reader", Scope::Read)];
    let mut world = World::with(&ServeTable { token: tokens, ..ServeTable::default() });
    let result = ActionResult { exit_code: 1, ..Default::default() };
    assert_eq!(get_result(&world, "").expect_err("nobody").code(), Code::Unauthenticated);
    world.token = Some("reader-0123456789");
    assert_eq!(
        put_result(&world, "", &result).expect_err("a reader").code(),
        Code::PermissionDenied
    );
    let name = format!("uploads/u/blobs/{}/3", digest(b"abc").hash);
    let refused = world.write(pieces(&name, 0, b"abc", true)).expect_err("a reader");
    assert_eq!(refused.code(), Code::PermissionDenied);
    let requests = vec![blob(b"abc")];
    let batch = BatchUpdateBlobsRequest { requests, ..Default::default() };
    let batch = world.cas::<BatchUpdateBlobsResponse>("BatchUpdateBlobs", &batch);
    assert_eq!(batch.expect_err("a reader").code(), Code::PermissionDenied);
    assert_eq!(missing(&world, &[digest(b"abc")], 0), [digest(b"abc")]);
    world.token = Some("writer-0123456789");
    put_result(&world, "", &result).expect("a writer");
    world.token = Some("reader-0123456789");
    assert_eq!(get_result(&world, "").expect("a hit").exit_code, 1);
    let path = "/build.bazel.remote.execution.v2.Capabilities/GetCapabilities";
    let all: ServerCapabilities =
        world.call(path, &GetCapabilitiesRequest::default()).expect("an answer");
    let cache = all.cache_capabilities.expect("it is a cache");
    assert!(!cache.action_cache_update_capabilities.expect("it says").update_enabled);
}

#[test]
fn blobs_in_pieces_and_back() {
    let world = World::new();
    let all = noise(5_000_000);
    let write = format!("uploads/u/blobs/{}/5000000", digest(&all).hash);
    let split = |blob: &proto::Digest| -> Result<SplitBlobResponse, Status> {
        let asked = SplitBlobRequest { blob_digest: Some(blob.clone()), ..Default::default() };
        world.cas("SplitBlob", &asked)
    };
    assert_eq!(split(&digest(&all)).expect_err("not yet").code(), Code::NotFound);
    world.write(pieces(&write, 0, &all, true)).expect("written");
    let answer = split(&digest(&all)).expect("its pieces");
    assert_eq!(answer.chunking_function, FAST_CDC_2020);
    assert!(answer.chunk_digests.len() > 2);
    assert!(missing(&world, &answer.chunk_digests, 0).is_empty());
    let whole: Vec<u8> = answer
        .chunk_digests
        .iter()
        .flat_map(|piece| {
            world.read(&format!("blobs/{}/{}", piece.hash, piece.size_bytes), 0, 0).expect("it")
        })
        .collect();
    assert!(whole == all);
    assert_eq!(split(&digest(&all)).expect("the same"), answer);

    // Another blob of the same pieces, in another order.
    let mut turned = answer.chunk_digests.clone();
    turned.reverse();
    let bytes: Vec<u8> = turned
        .iter()
        .flat_map(|piece| {
            world.read(&format!("blobs/{}/{}", piece.hash, piece.size_bytes), 0, 0).expect("it")
        })
        .collect();
    let splice = |blob: proto::Digest, chunk_digests: &[proto::Digest]| {
        let chunk_digests = chunk_digests.to_vec();
        let asked =
            SpliceBlobRequest { blob_digest: Some(blob), chunk_digests, ..Default::default() };
        world.cas::<SpliceBlobResponse>("SpliceBlob", &asked)
    };
    let wrong = splice(digest(&bytes), &answer.chunk_digests).expect_err("another blob");
    assert_eq!(wrong.code(), Code::InvalidArgument);
    let gone = splice(digest(&bytes), &[digest(b"nobody has this")]).expect_err("a piece is gone");
    assert_eq!(gone.code(), Code::NotFound);
    let short = splice(digest(&bytes), &turned[1..]).expect_err("a piece too few");
    assert_eq!(short.code(), Code::InvalidArgument);
    assert_eq!(missing(&world, &[digest(&bytes)], 0), [digest(&bytes)]);
    let spliced = splice(digest(&bytes), &turned).expect("spliced");
    assert_eq!(spliced.blob_digest, Some(digest(&bytes)));
    assert!(missing(&world, &[digest(&bytes)], 0).is_empty());
}

#[test]
fn what_was_pushed_under_a_uri_is_fetched_by_it() {
    let world = World::new();
    let fetch = |method: &str, uris: &[&str], value: &str| -> Result<FetchResponse, Status> {
        let asked = FetchRequest {
            uris: uris.iter().map(|uri| (*uri).to_owned()).collect(),
            qualifiers: vec![Qualifier { name: "q".to_owned(), value: value.to_owned() }],
            ..Default::default()
        };
        world.call(&format!("/build.bazel.remote.asset.v1.Fetch/{method}"), &asked)
    };
    let push = |method: &str, uris: &[&str], about: &[u8], references: &[&[u8]]| {
        let asked = PushRequest {
            uris: uris.iter().map(|uri| (*uri).to_owned()).collect(),
            qualifiers: vec![Qualifier { name: "q".to_owned(), value: "1".to_owned() }],
            digest: Some(digest(about)),
            references_blobs: references.iter().map(|bytes| digest(bytes)).collect(),
            ..Default::default()
        };
        let path = format!("/build.bazel.remote.asset.v1.Push/{method}");
        world.call::<PushResponse>(&path, &asked)
    };
    // Clients find out so whether the service is there.
    assert_eq!(fetch("FetchBlob", &[], "1").expect_err("empty").code(), Code::InvalidArgument);
    assert_eq!(push("PushBlob", &[], b"a", &[]).expect_err("empty").code(), Code::InvalidArgument);
    assert_eq!(fetch("FetchBlob", &["u"], "1").expect_err("a miss").code(), Code::NotFound);
    let early = push("PushBlob", &["u"], b"asset", &[]).expect_err("the blob comes first");
    assert_eq!(early.code(), Code::FailedPrecondition);
    assert_eq!(update(&world, vec![blob(b"asset")], 0), [0]);
    let early = push("PushBlob", &["u"], b"asset", &[b"more"]).expect_err("a reference is missing");
    assert_eq!(early.code(), Code::FailedPrecondition);
    push("PushBlob", &["u", "v"], b"asset", &[]).expect("pushed");
    for uris in [&["u"][..], &["v"], &["nowhere", "v"]] {
        let found = fetch("FetchBlob", uris, "1").expect("a hit");
        assert_eq!((found.digest, &*found.uri), (Some(digest(b"asset")), uris[uris.len() - 1]));
    }
    assert_eq!(fetch("FetchBlob", &["u"], "2").expect_err("another").code(), Code::NotFound);
    assert_eq!(fetch("FetchDirectory", &["u"], "1").expect_err("other").code(), Code::NotFound);
    push("PushDirectory", &["d"], b"", &[]).expect("an empty directory is always there");
    assert_eq!(fetch("FetchDirectory", &["d"], "1").expect("a hit").digest, Some(digest(b"")));
}

#[test]
fn limits_are_told_as_resource_exhausted() {
    let quota = std::collections::BTreeMap::from([("main".to_owned(), 1 << 20)]);
    let world = World::with(&ServeTable { quota, ..ServeTable::default() });
    let large = noise(2_000_000);
    let one = BlobToUpdate {
        digest: Some(digest(&large)),
        data: large.clone().into(),
        compressor: IDENTITY,
    };
    let exhausted = Code::ResourceExhausted;
    assert_eq!(update(&world, vec![one, blob(b"small")], SHA256), [exhausted as i32, 0]);
    let name = format!("uploads/u/blobs/{}/2000000", digest(&large).hash);
    let refused = world.write(pieces(&name, 0, &large, true)).expect_err("it does not fit");
    assert_eq!(refused.code(), exhausted, "{refused}");
    assert!(refused.message().contains("the namespace `main` may have 1048576 bytes"));
    assert_eq!(missing(&world, &[digest(&large), digest(b"small")], SHA256), [digest(&large)]);

    let requests_per_second = std::num::NonZeroU64::new(1);
    let world = World::with(&ServeTable { requests_per_second, ..ServeTable::default() });
    let path = "/build.bazel.remote.execution.v2.Capabilities/GetCapabilities";
    let ask = || world.call::<ServerCapabilities>(path, &GetCapabilitiesRequest::default());
    // At once, unless the machine stands still.
    let refused = (0..100).find_map(|_| ask().err()).expect("one is too many");
    assert_eq!(refused.code(), exhausted, "{refused}");
}
