//! Any bytes as what clients send to `strata serve`: on the socket as they are, as messages of each
//! gRPC method, and as its configuration. Whatever it is, it is answered soon, or the connection
//! ends; nothing panics, and what was refused is not kept.
//!
//! The first byte says how the rest is meant: `g` a gRPC method's number and messages with `\n--\n`
//! between them, `m` a message, `c` a configuration, anything else what is on the socket. There,
//! `UPLOADID` stands for an upload that was begun.
#![no_main]

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::uri::PathAndQuery;
use libfuzzer_sys::fuzz_target;
use prost::Message;
use strata_cas::MemoryStore;
use strata_reapi::{Raw, proto};
use strata_server::{Config, NoImages, ServeTable, Server, Setup, Told};
use tonic::codegen::tokio_stream;
use tonic::transport::{Channel, Endpoint};

/// An answer takes no longer.
const PATIENCE: Duration = Duration::from_secs(15);
/// Then there is a new server, since one keeps what it is given in memory.
const RUNS: usize = 20_000;
const MOST_MESSAGES: usize = 100;
const UPLOAD: &[u8] = b"UPLOADID";

const METHODS: [&str; 16] = [
    "/build.bazel.remote.execution.v2.Capabilities/GetCapabilities",
    "/build.bazel.remote.execution.v2.ActionCache/GetActionResult",
    "/build.bazel.remote.execution.v2.ActionCache/UpdateActionResult",
    "/build.bazel.remote.execution.v2.ContentAddressableStorage/FindMissingBlobs",
    "/build.bazel.remote.execution.v2.ContentAddressableStorage/BatchUpdateBlobs",
    "/build.bazel.remote.execution.v2.ContentAddressableStorage/BatchReadBlobs",
    "/build.bazel.remote.execution.v2.ContentAddressableStorage/GetTree",
    "/build.bazel.remote.execution.v2.ContentAddressableStorage/SplitBlob",
    "/build.bazel.remote.execution.v2.ContentAddressableStorage/SpliceBlob",
    "/google.bytestream.ByteStream/Read",
    "/google.bytestream.ByteStream/Write",
    "/google.bytestream.ByteStream/QueryWriteStatus",
    "/build.bazel.remote.asset.v1.Fetch/FetchBlob",
    "/build.bazel.remote.asset.v1.Fetch/FetchDirectory",
    "/build.bazel.remote.asset.v1.Push/PushBlob",
    "/build.bazel.remote.asset.v1.Push/PushDirectory",
];

struct Host {
    server: Server,
    runtime: tokio::runtime::Runtime,
    channel: Channel,
    runs: usize,
}

static HOST: Mutex<Option<Host>> = Mutex::new(None);

fuzz_target!(|bytes: &[u8]| {
    match bytes.split_first() {
        Some((b'c', text)) => configuration(text),
        Some((b'm', bytes)) => messages(bytes),
        Some((b'g', bytes)) => with_host(|host| host.call(bytes)),
        _ => with_host(|host| host.socket(bytes)),
    }
});

fn with_host(work: impl FnOnce(&Host)) {
    let mut host = HOST.lock().expect("a panic ends the process");
    if host.as_ref().is_some_and(|host| host.runs >= RUNS) {
        *host = None;
    }
    let host = host.get_or_insert_with(Host::start);
    host.runs += 1;
    work(host);
}

impl Host {
    fn start() -> Self {
        let table =
            ServeTable { github_actions: true, body_limit: Some(1 << 20), ..Default::default() };
        let setup = Setup {
            config: Config::new(&table, Some("127.0.0.1:0")).expect("a configuration"),
            store: Arc::new(MemoryStore::default()),
            library: Arc::new(NoImages),
            far: None,
            observer: Arc::new(|_: &Told| {}),
            upstream: None,
        };
        let server = Server::start(setup).expect("a server");
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("a runtime");
        let endpoint = Endpoint::from_shared(format!("http://{}", server.address()));
        let endpoint = endpoint.expect("an address");
        let channel = runtime.block_on(endpoint.connect()).expect("it listens");
        Self { server, runtime, channel, runs: 0 }
    }

    fn socket(&self, bytes: &[u8]) {
        let Some(at) = bytes.windows(UPLOAD.len()).position(|part| part == UPLOAD) else {
            self.answer(bytes);
            return;
        };
        let begin = b"POST /v2/team/app/blobs/uploads/ HTTP/1.1\r\nhost: x\r\n\
            connection: close\r\ncontent-length: 0\r\n\r\n";
        let begun = String::from_utf8_lossy(&self.answer(begin)).into_owned();
        let id =
            begun.split("docker-upload-uuid: ").nth(1).and_then(|rest| rest.split('\r').next());
        // So many that are not ended are refused.
        let Some(id) = id else { return };
        self.answer(&[&bytes[..at], id.as_bytes(), &bytes[at + UPLOAD.len()..]].concat());
    }

    fn answer(&self, bytes: &[u8]) -> Vec<u8> {
        let mut stream = TcpStream::connect(self.server.address()).expect("it listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a limit");
        // It may have refused before it has read all.
        let _ = stream.write_all(bytes).and_then(|()| stream.shutdown(Shutdown::Write));
        let mut answer = Vec::new();
        match stream.read_to_end(&mut answer) {
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                panic!("it neither answers nor ends")
            }
            _ => assert!(!answer.starts_with(b"HTTP/1.1 500"), "an error of its own"),
        }
        answer
    }

    fn call(&self, bytes: &[u8]) {
        let Some((method, rest)) = bytes.split_first() else { return };
        let path = PathAndQuery::from_static(METHODS[usize::from(*method) % METHODS.len()]);
        let mut messages = Vec::new();
        let mut rest = rest;
        while let Some(at) = rest.windows(4).position(|four| four == b"\n--\n") {
            messages.push(Bytes::copy_from_slice(&rest[..at]));
            rest = &rest[at + 4..];
        }
        messages.push(Bytes::copy_from_slice(rest));
        let mut grpc = tonic::client::Grpc::new(self.channel.clone());
        let call = async {
            grpc.ready().await.expect("it is there");
            let asked = tonic::Request::new(tokio_stream::iter(messages));
            let mut answers = grpc.streaming(asked, path, Raw).await?.into_inner();
            for _ in 0..MOST_MESSAGES {
                if answers.message().await?.is_none() {
                    break;
                }
            }
            Ok::<(), tonic::Status>(())
        };
        let answered = self.runtime.block_on(async { tokio::time::timeout(PATIENCE, call).await });
        if let Err(status) = answered.expect("it answers") {
            assert_ne!(status.code(), tonic::Code::Internal, "{status:?}");
        }
    }
}

/// A configuration is refused or taken. Files that it names are not opened.
fn configuration(text: &[u8]) {
    let Ok(text) = std::str::from_utf8(text) else { return };
    let Ok(mut table) = toml::from_str::<ServeTable>(text) else { return };
    (table.tls_cert, table.tls_key, table.client_ca) = (None, None, None);
    for token in &mut table.token {
        token.token_file = None;
    }
    if let Err(error) = Config::new(&table, None) {
        assert!(!error.to_string().is_empty());
    }
}

/// What was understood is written as something that is understood as the same.
fn messages(bytes: &[u8]) {
    macro_rules! round_trip {
        ($($kind:ident),+ $(,)?) => {$(
            if let Ok(message) = proto::$kind::decode(bytes) {
                let again = message.encode_to_vec();
                assert_eq!(again.len(), message.encoded_len());
                assert_eq!(proto::$kind::decode(&again[..]).as_ref(), Ok(&message));
            }
        )+};
    }
    round_trip!(
        Digest,
        ServerCapabilities,
        GetActionResultRequest,
        UpdateActionResultRequest,
        ActionResult,
        Tree,
        Directory,
        FindMissingBlobsRequest,
        FindMissingBlobsResponse,
        DigestsAsked,
        DigestsMissing,
        DigestAsked,
        BatchUpdateBlobsRequest,
        BatchUpdateBlobsResponse,
        BatchReadBlobsRequest,
        BatchReadBlobsResponse,
        GetTreeRequest,
        SplitBlobRequest,
        SpliceBlobRequest,
        ReadRequest,
        ReadResponse,
        WriteRequest,
        WriteResponse,
        QueryWriteStatusResponse,
        FetchRequest,
        PushRequest,
    );
}
