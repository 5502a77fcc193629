//! How long a server takes until it answers, with few and with many blobs in its store.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::time::Instant;

use bytes::BytesMut;

use crate::options::Options;
use crate::servers::{Kind, Running, fresh};
use crate::wire::{Grpc, bytes_field, digest, framed, sha256};
use crate::{median, print, say};

const FEW: usize = 1000;
const BATCH: usize = 1000;
const CLIENTS: usize = 4;
const UPDATE: &str = "/build.bazel.remote.execution.v2.ContentAddressableStorage/BatchUpdateBlobs";

pub(crate) fn run(options: &Options) -> Result<(), String> {
    print("### From the start of the program to its first answer\n");
    print("| blobs in the store | min | median |");
    print("|---|---|---|");
    for blobs in [FEW, options.blobs] {
        let directory = fresh("start")?;
        let filled = fill(options, &directory, blobs);
        let timed = filled.and_then(|()| {
            (0..options.rounds * 3)
                .map(|_| time(options, &directory))
                .collect::<Result<Vec<_>, _>>()
        });
        drop(std::fs::remove_dir_all(&directory));
        let timed = timed?;
        let min = timed.iter().copied().fold(f64::INFINITY, f64::min);
        print(&format!("| {blobs} | {min:.1} ms | {:.1} ms |", median(timed)));
    }
    Ok(())
}

/// Milliseconds until `/readyz` says that the store answers.
fn time(options: &Options, directory: &Path) -> Result<f64, String> {
    let start = Instant::now();
    let server = Running::one(Kind::Strata, "strata", &options.strata, directory)?;
    let word = |error: std::io::Error| error.to_string();
    let mut stream = TcpStream::connect(server.address).map_err(word)?;
    let head = b"GET /readyz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    stream.write_all(head).map_err(word)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).map_err(word)?;
    let took = start.elapsed().as_secs_f64() * 1000.0;
    if answer.ends_with("ready\n") { Ok(took) } else { Err(answer) }
}

fn fill(options: &Options, directory: &Path, blobs: usize) -> Result<(), String> {
    say(&format!("start: putting {blobs} blobs into a store"));
    let server = Running::one(Kind::Strata, "strata", &options.strata, directory)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(|error| error.to_string())?;
    runtime.block_on(async {
        let mut tasks = Vec::new();
        for client in 0..CLIENTS {
            let mut grpc = Grpc::connect(server.address).await?;
            tasks.push(tokio::spawn(async move {
                for first in (client * BATCH..blobs).step_by(CLIENTS * BATCH) {
                    grpc.call(UPDATE, batch(first..(first + BATCH).min(blobs))).await?;
                }
                Ok::<_, String>(())
            }));
        }
        for task in tasks {
            task.await.map_err(|error| error.to_string())??;
        }
        Ok(())
    })
}

fn batch(numbers: std::ops::Range<usize>) -> bytes::Bytes {
    let mut message = BytesMut::new();
    for number in numbers {
        let bytes = format!("blob {number} of the store whose start is timed");
        let mut one = BytesMut::new();
        bytes_field(&mut one, 1, &digest(&sha256(bytes.as_bytes()), bytes.len()));
        bytes_field(&mut one, 2, bytes.as_bytes());
        bytes_field(&mut message, 2, &one);
    }
    framed(&message)
}
