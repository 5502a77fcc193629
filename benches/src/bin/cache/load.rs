//! Many small requests: each connection asks one thing after the other for some seconds.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};

use crate::median;
use crate::servers::{Kind, Running};
use crate::wire::{Grpc, Http, bytes_field, digest, framed, head, number_field, path_of, sha256};

const SIZE: usize = 4096;
/// So many objects are there to be read.
const OBJECTS: usize = 1000;
const CAS: &str = "/build.bazel.remote.execution.v2.ContentAddressableStorage";
const WRITE: &str = "/google.bytestream.ByteStream/Write";

/// What is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Load {
    FindMissing,
    SmallWrites,
    GetValue,
    GetBlob,
}

/// What came of it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Outcome {
    /// Answers a second.
    pub(crate) rate: f64,
    pub(crate) p50_millis: f64,
    pub(crate) p99_millis: f64,
}

enum Client {
    Http(Http),
    Grpc(Grpc),
}

impl Load {
    pub(crate) const ALL: [Self; 4] =
        [Self::FindMissing, Self::SmallWrites, Self::GetValue, Self::GetBlob];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::FindMissing => "find-missing",
            Self::SmallWrites => "small-writes",
            Self::GetValue => "get-value",
            Self::GetBlob => "get-blob",
        }
    }

    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::FindMissing => "FindMissingBlobs with 100 digests, half of them there",
            Self::SmallWrites => "ByteStream writes of 4 KiB that nobody has seen",
            Self::GetValue => "`GET` of 4 KiB, plain HTTP",
            Self::GetBlob => "`GET` of a registry's blob of 4 KiB",
        }
    }

    fn is_grpc(self) -> bool {
        matches!(self, Self::FindMissing | Self::SmallWrites)
    }

    /// Loads a server with so many connections.
    pub(crate) fn run(
        self,
        server: &Running,
        connections: usize,
        seconds: f64,
    ) -> Result<Outcome, String> {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
        let runtime = runtime.map_err(|error| error.to_string())?;
        runtime.block_on(async {
            self.prepare(server).await?;
            let end = Instant::now() + Duration::from_secs_f64(seconds);
            let (kind, address) = (server.kind, server.address);
            let mut tasks = Vec::new();
            for _ in 0..connections {
                let mut client = match self.is_grpc() {
                    true => Client::Grpc(Grpc::connect(address).await?),
                    false => Client::Http(Http::connect(address).await?),
                };
                tasks.push(tokio::spawn(async move {
                    let mut micros = Vec::new();
                    while Instant::now() < end {
                        let start = Instant::now();
                        self.ask(&mut client, kind).await?;
                        micros.push(start.elapsed().as_secs_f64() * 1e6);
                    }
                    Ok::<_, String>(micros)
                }));
            }
            let begin = Instant::now();
            let mut micros = Vec::new();
            for task in tasks {
                micros.extend(task.await.map_err(|error| error.to_string())??);
            }
            let took = begin.elapsed().as_secs_f64();
            micros.sort_by(f64::total_cmp);
            let rate = micros.len() as f64 / took;
            let last = micros.len() * 99 / 100;
            let p99_millis = micros.get(last).copied().unwrap_or_default() / 1000.0;
            Ok(Outcome { rate, p50_millis: median(micros) / 1000.0, p99_millis })
        })
    }

    /// Puts there what is to be read.
    async fn prepare(self, server: &Running) -> Result<(), String> {
        if self == Self::SmallWrites {
            return Ok(());
        }
        if self == Self::FindMissing {
            let mut client = Grpc::connect(server.address).await?;
            for number in (0..100).step_by(2) {
                client.call(WRITE, write(&object(number))).await?;
            }
            return Ok(());
        }
        let mut client = Http::connect(server.address).await?;
        for number in 0..OBJECTS {
            let bytes = object(number);
            let path = match self {
                Self::GetBlob => {
                    let post = head("POST", "/v2/bench/blobs/uploads/", 0);
                    let (_, location) = client.ask(&post).await?;
                    let path = path_of(&location);
                    let sign = if path.contains('?') { '&' } else { '?' };
                    format!("{path}{sign}digest=sha256:{}", sha256(&bytes))
                }
                _ => value_path(number),
            };
            let (status, _) = client.ask(&[head("PUT", &path, SIZE), bytes].concat()).await?;
            if !(200..300).contains(&status) {
                return Err(format!("{}: {status} for {path}", server.name));
            }
        }
        Ok(())
    }

    async fn ask(self, client: &mut Client, _: Kind) -> Result<(), String> {
        let number = next();
        match (client, self) {
            (Client::Grpc(client), Self::FindMissing) => {
                client.call(&format!("{CAS}/FindMissingBlobs"), FIND.clone()).await
            }
            (Client::Grpc(client), _) => {
                // Numbers that no other measurement has had.
                let number = usize::try_from(number).unwrap_or_default();
                client.call(WRITE, write(&object(1_000_000 + number))).await
            }
            (Client::Http(client), _) => {
                let number = usize::try_from(number).unwrap_or_default() % OBJECTS;
                let path = match self {
                    Self::GetBlob => format!("/v2/bench/blobs/sha256:{}", HASHES[number]),
                    _ => value_path(number),
                };
                let get = format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n");
                match client.ask(get.as_bytes()).await? {
                    (200, _) => Ok(()),
                    (status, _) => Err(format!("{status} for {path}")),
                }
            }
        }
    }
}

static FIND: std::sync::LazyLock<Bytes> = std::sync::LazyLock::new(|| {
    let mut message = BytesMut::new();
    for number in 0..100 {
        bytes_field(&mut message, 2, &digest(&sha256(&object(number)), SIZE));
    }
    framed(&message)
});

static HASHES: std::sync::LazyLock<Vec<String>> =
    std::sync::LazyLock::new(|| (0..OBJECTS).map(|number| sha256(&object(number))).collect());

fn next() -> u64 {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    NUMBER.fetch_add(1, Ordering::Relaxed)
}

fn value_path(number: usize) -> String {
    format!("/cache/bench/{number:04}")
}

/// Bytes that only this number has.
pub(crate) fn object(number: usize) -> Vec<u8> {
    let mut bytes = vec![b'x'; SIZE];
    bytes[..8].copy_from_slice(&(number as u64).to_le_bytes());
    bytes
}

/// A write that is one message.
fn write(bytes: &[u8]) -> Bytes {
    let hash = sha256(bytes);
    let name = format!("uploads/{}-{hash}/blobs/{hash}/{}", next(), bytes.len());
    let mut message = BytesMut::new();
    bytes_field(&mut message, 1, name.as_bytes());
    number_field(&mut message, 3, 1);
    bytes_field(&mut message, 10, bytes);
    framed(&message)
}
