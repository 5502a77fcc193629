//! What a build tool says to a cache server, in as few words as will do: HTTP on a connection of
//! its own, and an action's result.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use strata_oci::Digest;

/// One request on a connection of its own; `None` when the server has gone.
pub(crate) fn ask(host: &str, method: &str, path: &str, body: &[u8]) -> Option<(u16, Vec<u8>)> {
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

pub(crate) fn sha256(bytes: &[u8]) -> String {
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
pub(crate) fn result(hash: &str, size: usize) -> Vec<u8> {
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
