//! What a server that runs has announced, and sweeps beside it.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use strata_oci::Digest;

use crate::serve::Serving;
use crate::world::World;

/// Asks, and gives status and body.
fn ask(host: &str, method: &str, path: &str, body: &[u8]) -> Option<(u16, Vec<u8>)> {
    let mut stream = TcpStream::connect(host).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(60))).ok()?;
    let length = body.len();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\
         content-length: {length}\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).ok()?;
    stream.write_all(body).ok()?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).ok()?;
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n")?;
    let head = String::from_utf8_lossy(&answer[..end]).into_owned();
    let status = head.split(' ').nth(1)?.parse().ok()?;
    Some((status, answer.split_off(end + 4)))
}

fn sha256(bytes: &[u8]) -> String {
    Digest::of(bytes).hex()
}

/// A field of a message that holds bytes.
fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    let length = u8::try_from(bytes.len()).expect("a short one");
    let mut all = vec![number << 3 | 2, length & 0x7f | if length > 127 { 0x80 } else { 0 }];
    all.extend((length > 127).then_some(1));
    all.extend(bytes);
    all
}

/// An action result with one output file.
fn result(hash: &str, size: usize) -> Vec<u8> {
    let mut digest = field(1, hash.as_bytes());
    digest.push(2 << 3);
    let mut rest = size;
    while rest > 127 {
        digest.push(u8::try_from(rest & 0x7f).expect("seven bits") | 0x80);
        rest >>= 7;
    }
    digest.push(u8::try_from(rest).expect("seven bits"));
    field(2, &[field(1, b"out"), field(2, &digest)].concat())
}

#[test]
fn a_sweep_beside_a_server_takes_no_result_that_it_has_announced() {
    let world = World::new();
    let serving = Serving::start(&world);
    let asked = |host: &str, method: &str, path: &str, body: &[u8]| {
        ask(host, method, path, body).expect("an answer")
    };
    let mut all = Vec::new();
    for number in 0..6 {
        let name = format!("{number} ");
        // Some lie in the database, some are files.
        let bytes = name.repeat(if number % 3 == 0 { 20_000 } else { 20 }).into_bytes();
        let (hash, key) = (sha256(&bytes), sha256(name.as_bytes()));
        assert_eq!(asked(&serving.host, "PUT", &format!("/cas/{hash}"), &bytes).0, 200);
        let message = result(&hash, bytes.len());
        assert_eq!(asked(&serving.host, "PUT", &format!("/ac/{key}"), &message).0, 200);
        all.push((key, hash, bytes));
    }
    world.run(&["prune", "-a", "-f"]).ok();
    for (key, hash, bytes) in &all {
        assert_eq!(asked(&serving.host, "GET", &format!("/ac/{key}"), b"").0, 200);
        let blob = asked(&serving.host, "GET", &format!("/cas/{hash}"), b"");
        assert!(blob == (200, bytes.clone()), "{hash}");
    }
    serving.stop();

    // When its time is over, nobody uses it any more: it goes, and what is left is whole.
    world.forget_announced();
    world.run(&["prune", "-a", "-f"]).ok();
    let serving = Serving::start(&world);
    for (key, ..) in &all {
        assert_eq!(asked(&serving.host, "GET", &format!("/ac/{key}"), b"").0, 404);
    }
    serving.stop();
    world.run(&["fsck"]).ok();
}
