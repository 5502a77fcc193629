//! 1 GiB in and out, over one connection, beside what loopback itself can do.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Instant;

use sha2::{Digest as _, Sha256};

use crate::options::Options;
use crate::servers::{Kind, Running, fresh};
use crate::wire::{head, hex, path_of};
use crate::{median, memory, print};

const GIB: usize = 1 << 30;
const PIECE: usize = 1 << 20;

/// 1 GiB that only this round has: a piece of noise with its number at the beginning.
struct Bytes {
    piece: Vec<u8>,
    round: u64,
}

impl Bytes {
    fn of(round: usize) -> Self {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let piece = (0..PIECE / 8).flat_map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()
        });
        Self { piece: piece.collect(), round: round as u64 }
    }

    fn send(&mut self, to: &mut impl Write) -> std::io::Result<()> {
        for number in 0..(GIB / PIECE) as u64 {
            self.piece[..8].copy_from_slice(&number.to_le_bytes());
            self.piece[8..16].copy_from_slice(&self.round.to_le_bytes());
            to.write_all(&self.piece)?;
        }
        Ok(())
    }

    fn sha256(&mut self) -> Result<String, String> {
        let mut hasher = Hasher(Sha256::new());
        self.send(&mut hasher).map_err(|error| error.to_string())?;
        Ok(hex(&hasher.0.finalize()))
    }
}

struct Hasher(Sha256);

impl Write for Hasher {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Seconds in and out, of each round.
#[derive(Default)]
struct Times {
    into: Vec<f64>,
    out: Vec<f64>,
}

pub(crate) fn run(options: &Options) -> Result<(), String> {
    let servers = Running::start(options, |kind| kind != Kind::Casd)?;
    // strata is two servers: a cache of plain values, and a registry.
    let mut rows: Vec<(String, Kind, SocketAddr, bool, Times)> = Vec::new();
    for server in &servers {
        let both = server.kind == Kind::Strata;
        if both || server.kind == Kind::Nginx {
            let name = format!("{}, plain", server.name);
            rows.push((name, server.kind, server.address, false, Times::default()));
        }
        if both || server.kind == Kind::Registry {
            let name = format!("{}, registry", server.name);
            rows.push((name, server.kind, server.address, true, Times::default()));
        }
    }
    let (mut limit, mut disk) = (Times::default(), Times::default());
    for round in 0..options.rounds {
        write_and_wait(&mut disk, round)?;
        loopback(&mut limit).map_err(|error| error.to_string())?;
        for (at, (_, _, address, is_registry, times)) in rows.iter_mut().enumerate() {
            let mut bytes = Bytes::of(round * 10 + at);
            one(*address, *is_registry, &mut bytes, times)?;
        }
    }
    let part = |(limit, one): (&f64, &f64)| limit / one * 100.0;
    print("### 1 GiB over one connection\n");
    print("| server | in | out | in, of loopback | out, of loopback |");
    print("|---|---|---|---|---|");
    let (into, out) = (median(limit.into.clone()), median(limit.out.clone()));
    print(&format!("| loopback itself | {into:.2} s | {out:.2} s | | |"));
    let (limited, disk) =
        (median(limit.into.iter().zip(&disk.into).map(part).collect()), disk.into);
    let disk = median(disk);
    print(&format!("| the disk, waited for | {disk:.2} s | | {limited:.0} % | |"));
    for (name, _, _, _, times) in &rows {
        let share = |of: &[f64], limit: &[f64]| median(limit.iter().zip(of).map(part).collect());
        print(&format!(
            "| {name} | {:.2} s | {:.2} s | {:.0} % | {:.0} % |",
            median(times.into.clone()),
            median(times.out.clone()),
            share(&times.into, &limit.into),
            share(&times.out, &limit.out),
        ));
    }
    memory(&servers);
    Ok(())
}

/// How long the disk takes for as much, where somebody waits until it has it.
fn write_and_wait(times: &mut Times, round: usize) -> Result<(), String> {
    let directory = fresh("disk")?;
    let path = directory.join("bytes");
    let start = Instant::now();
    let write = || -> std::io::Result<()> {
        let mut file = std::fs::File::create(&path)?;
        Bytes::of(round).send(&mut file)?;
        file.sync_data()
    };
    write().map_err(|error| error.to_string())?;
    times.into.push(start.elapsed().as_secs_f64());
    std::fs::remove_dir_all(directory).map_err(|error| error.to_string())
}

/// What a connection can carry between two threads that do nothing with it.
fn loopback(times: &mut Times) -> std::io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let other = std::thread::spawn(move || -> std::io::Result<()> {
        let (mut stream, _) = listener.accept()?;
        let mut buffer = vec![0; PIECE];
        let mut left = GIB;
        while left > 0 {
            left = left.saturating_sub(stream.read(&mut buffer)?.max(1));
        }
        stream.write_all(b"x")?;
        Bytes::of(0).send(&mut stream)
    });
    let mut stream = TcpStream::connect(address)?;
    let mut bytes = Bytes::of(0);
    let start = Instant::now();
    bytes.send(&mut stream)?;
    stream.read_exact(&mut [0])?;
    times.into.push(start.elapsed().as_secs_f64());
    let start = Instant::now();
    drain(&mut stream, GIB)?;
    times.out.push(start.elapsed().as_secs_f64());
    drop(other.join());
    Ok(())
}

fn drain(stream: &mut TcpStream, mut left: usize) -> std::io::Result<()> {
    let mut buffer = vec![0; PIECE];
    while left > 0 {
        let most = left.min(PIECE);
        match stream.read(&mut buffer[..most])? {
            0 => return Err(std::io::Error::other("the answer is cut off")),
            count => left -= count,
        }
    }
    Ok(())
}

fn one(
    address: SocketAddr,
    is_registry: bool,
    bytes: &mut Bytes,
    times: &mut Times,
) -> Result<(), String> {
    let word = |error: std::io::Error| error.to_string();
    let mut stream = TcpStream::connect(address).map_err(word)?;
    let (put, get) = if is_registry {
        let digest = format!("sha256:{}", bytes.sha256()?);
        stream.write_all(&head("POST", "/v2/bench/blobs/uploads/", 0)).map_err(word)?;
        let answer = answer(&mut stream)?;
        let location = answer.lines().find_map(|line| {
            let (name, value) = line.split_once(": ")?;
            name.eq_ignore_ascii_case("location").then(|| path_of(value))
        });
        let location = location.ok_or("no Location")?;
        let sign = if location.contains('?') { '&' } else { '?' };
        (format!("{location}{sign}digest={digest}"), format!("/v2/bench/blobs/{digest}"))
    } else {
        let path = format!("/cache/bench/gigabyte-{}", bytes.round);
        (path.clone(), path)
    };
    let start = Instant::now();
    stream.write_all(&head("PUT", &put, GIB)).map_err(word)?;
    bytes.send(&mut stream).map_err(word)?;
    answer(&mut stream)?;
    times.into.push(start.elapsed().as_secs_f64());
    let start = Instant::now();
    stream.write_all(&head("GET", &get, 0)).map_err(word)?;
    answer(&mut stream)?;
    drain(&mut stream, GIB).map_err(word)?;
    times.out.push(start.elapsed().as_secs_f64());
    Ok(())
}

/// The head of an answer that is no error; its body is still to come.
fn answer(stream: &mut TcpStream) -> Result<String, String> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).map_err(|error| error.to_string())?;
        head.push(byte[0]);
    }
    let text = String::from_utf8_lossy(&head).into_owned();
    match text.split(' ').nth(1) {
        Some(status) if status.starts_with('2') => Ok(text),
        _ => Err(text),
    }
}
