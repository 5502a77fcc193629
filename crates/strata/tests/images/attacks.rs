//! Crowds before `strata serve`: it goes on answering, and its memory has a bound.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::serve::Serving;
use crate::world::World;

const CROWD: usize = 10_000;
/// For all of the crowd together, in KiB: an idle connection has buffers, and they are small.
const LIMIT_KIB: u64 = 600 << 10;

/// What a client says, and then nothing more.
const RUDE: [&[u8]; 4] = [
    // A head that does not end.
    b"GET /healthz HTTP/1.1\r\nhost:",
    // A body that does not come.
    b"PUT /cache/a/b HTTP/1.1\r\nhost: x\r\ncontent-length: 1000000\r\n\r\n0123456789",
    // HTTP/2, idle.
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0",
    // HTTP/2 with a call of whose message nothing comes: `:method POST`, `:scheme http`, `:path /`.
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0\0\0\x03\x01\x04\0\0\0\x01\x83\x86\x84",
];

fn get(host: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(host).expect("it listens");
    let head = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).expect("send");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    answer
}

/// The most memory that a process has had, in KiB.
fn peak(id: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{id}/status")).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("VmHWM");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

#[test]
fn ten_thousand_connections_keep_nobody_out() {
    let world = World::new();
    // Of this process alone, as each test is one; the server gets its own from `prlimit`.
    let limit = getrlimit(Resource::Nofile);
    let wanted = 16_384;
    let maximum = limit.maximum.map(|maximum| maximum.max(wanted));
    let raised = Rlimit { current: Some(wanted), maximum };
    setrlimit(Resource::Nofile, raised).expect("root may have more open files");
    world.write("serve.toml", "[serve]\nconnections = 12000\n");
    let words = ["--config", "serve.toml", "serve", "--listen", "127.0.0.1:0"];
    // With the usual soft limit: it raises that itself.
    let serving = Serving::by(world.through(&["prlimit", "--nofile=1024:16384"], &words));
    assert!(get(&serving.host, "/readyz").ends_with("ready\n"));
    let crowd: Vec<TcpStream> = (0..CROWD)
        .map(|at| {
            let mut stream = TcpStream::connect(&serving.host).expect("it listens");
            stream.write_all(RUDE[at % RUDE.len()]).expect("send");
            stream
        })
        .collect();
    // Nobody of them has gone, and others are answered.
    assert!(get(&serving.host, "/readyz").ends_with("ready\n"));
    let page = get(&serving.host, "/metrics");
    let open = page.lines().find_map(|line| line.strip_prefix("strata_connections "));
    let open: usize = open.and_then(|count| count.parse().ok()).expect(&page);
    // Those whose heads do not end are cut off after a while, and this may be a slow machine.
    assert!(open > CROWD / 2, "{open}");
    assert!(peak(serving.id()) < LIMIT_KIB, "{} KiB", peak(serving.id()));
    drop(crowd);
    assert!(get(&serving.host, "/readyz").ends_with("ready\n"));
    serving.stop();
}
