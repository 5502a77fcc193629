//! `strata serve`, killed in the middle of uploads: what it has acknowledged is there afterwards.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Mutex;
use std::time::Duration;

use strata_oci::Digest;

use crate::serve::Serving;
use crate::world::World;

const WRITERS: usize = 4;
/// How often it is killed, and after how many acknowledged results each time.
const KILLS: usize = 3;
const RESULTS: usize = 25;

/// A result that was acknowledged: its key, and the blob that it names.
struct Acknowledged {
    key: String,
    hash: String,
    bytes: Vec<u8>,
}

/// One request on a connection of its own; `None` when the server has gone.
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

/// Uploads blobs and results until the server is gone.
fn upload(host: &str, round: usize, writer: usize, done: &Mutex<Vec<Acknowledged>>) {
    for number in 0.. {
        let name = format!("{round} {writer} {number} ");
        // Some lie in the database, some are files.
        let bytes = name.repeat(if number % 3 == 0 { 20_000 } else { 20 }).into_bytes();
        let (hash, key) = (sha256(&bytes), sha256(name.as_bytes()));
        let Some((status, _)) = ask(host, "PUT", &format!("/cas/{hash}"), &bytes) else { return };
        assert_eq!(status, 200);
        let message = result(&hash, bytes.len());
        let Some((status, said)) = ask(host, "PUT", &format!("/ac/{key}"), &message) else {
            return;
        };
        assert_eq!(status, 200, "{}", String::from_utf8_lossy(&said));
        done.lock().expect("a lock").push(Acknowledged { key, hash, bytes });
    }
}

/// How many results are served; one that is has its blob.
fn check(host: &str, all: &[Acknowledged]) -> usize {
    let served = all.iter().filter(|one| {
        let (status, _) = ask(host, "GET", &format!("/ac/{}", one.key), b"").expect("an answer");
        if status == 404 {
            return false;
        }
        assert_eq!(status, 200);
        let blob = ask(host, "GET", &format!("/cas/{}", one.hash), b"").expect("an answer");
        assert!(blob == (200, one.bytes.clone()), "a result names a blob that is gone");
        true
    });
    served.count()
}

#[test]
fn nothing_acknowledged_is_lost_with_a_killed_server_and_nothing_announced_goes() {
    let world = World::new();
    let done = Mutex::new(Vec::new());
    for round in 0..KILLS {
        let serving = Serving::start(&world);
        let (host, done) = (serving.host.clone(), &done);
        std::thread::scope(|scope| {
            for writer in 0..WRITERS {
                let host = &host;
                scope.spawn(move || upload(host, round, writer, done));
            }
            while done.lock().expect("a lock").len() < (round + 1) * RESULTS {
                std::thread::sleep(Duration::from_millis(1));
            }
            // Killed, with uploads on their way.
            drop(serving);
        });
        let serving = Serving::start(&world);
        let all = done.lock().expect("a lock");
        assert_eq!(check(&serving.host, &all), all.len());
    }
    let all = done.into_inner().expect("a lock");
    // The last server was killed too. What was announced stays, whoever sweeps.
    world.run(&["prune", "-a", "-f"]).ok();
    let serving = Serving::start(&world);
    assert_eq!(check(&serving.host, &all), all.len());
    drop(serving);

    // When its time is over it goes; what is left is whole.
    world.forget_announced();
    world.run(&["prune", "-a", "-f"]).ok();
    let serving = Serving::start(&world);
    assert_eq!(check(&serving.host, &all), 0);
    serving.stop();
    let said = world.run(&["fsck"]).ok();
    assert!(!said.out.contains("damaged"), "{}", said.out);
}
