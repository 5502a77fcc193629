//! Servers with a bucket behind their stores, which is killed in the middle, and lost servers.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use crate::bucket::{self, Bucket};
use crate::serve::{Serving, digest, skopeo};
use crate::world::World;

/// A server on its own store, in front of a bucket.
fn serve(world: &World, bucket: &Bucket, write: &str) -> Serving {
    world.write("key", "test\n");
    let table = format!(
        "[serve.far]\ntype = \"s3\"\nbucket = \"{}\"\nprefix = \"tier\"\n\
         endpoint-url = \"{}\"\naccess-key-id = \"test\"\nsecret-access-key-file = \"{}\"\n\
         write = \"{write}\"\ntimeout = 2\n",
        bucket::NAME,
        bucket.endpoint,
        world.path("key").display(),
    );
    Serving::configured(world, &table)
}

/// Asks, and gives the status and the body.
fn ask(serving: &Serving, method: &str, path: &str, body: &[u8]) -> (u16, Vec<u8>) {
    let mut stream = TcpStream::connect(&serving.host).expect("it listens");
    stream.set_read_timeout(Some(Duration::from_secs(120))).expect("a limit");
    let head = format!(
        "{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).expect("send");
    // A server that refuses early does not read all.
    drop(stream.write_all(body));
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("an answer");
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n").expect("a head");
    let head = String::from_utf8_lossy(&answer[..end]).into_owned();
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    (status.expect("a status"), answer.split_off(end + 4))
}

fn put(serving: &Serving, path: &str, body: &[u8]) -> u16 {
    ask(serving, "PUT", path, body).0
}

fn metric(serving: &Serving, line: &str) -> bool {
    let page = ask(serving, "GET", "/metrics", b"").1;
    String::from_utf8_lossy(&page).lines().any(|found| found == line)
}

fn until(what: &str, is_so: impl Fn() -> bool) {
    for _ in 0..600 {
        if is_so() {
            return;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    panic!("never: {what}");
}

#[test]
fn a_bucket_dies_and_a_server_is_lost_and_all_is_still_served() {
    let (state, world) = (World::new(), World::new());
    let state = state.path("bucket");
    let mut bucket = Bucket::keeping(&state);
    let first = serve(&world, &bucket, "through");
    let large = vec![5; 20_000_000];
    assert_eq!(put(&first, "/cache/s/before", b"one"), 201);
    assert_eq!(put(&first, "/cache/s/large", &large), 201);
    bucket.kill();
    // What is near is served; what is not is a miss; what must be far away is refused.
    assert_eq!(ask(&first, "GET", "/cache/s/before", b""), (200, b"one".to_vec()));
    assert_eq!(ask(&first, "GET", "/cache/s/nothing", b"").0, 404);
    assert_eq!(put(&first, "/cache/s/after", b"two"), 503);
    bucket.start_again(&state);
    until("it is asked again", || put(&first, "/cache/s/after", b"two") == 201);
    // An image with a real client.
    std::fs::create_dir_all(world.path("app")).expect("a directory");
    world.write("app/Dockerfile", "FROM scratch\nCOPY Dockerfile /\n");
    world.run(&["build", "-q", "-t", "built", "app"]).ok();
    let (from, name) = (first.name("built"), first.name("team/app:v1"));
    let plain = "--src-tls-verify=false";
    skopeo(&["copy", plain, "--dest-tls-verify=false", &from, &name]);
    let pushed = digest(&skopeo(&["inspect", "--tls-verify=false", &name]));
    // The server is lost, and its store with it.
    drop(first);
    drop(world);

    let world = World::new();
    let second = serve(&world, &bucket, "through");
    assert_eq!(ask(&second, "GET", "/cache/s/before", b""), (200, b"one".to_vec()));
    assert_eq!(ask(&second, "GET", "/cache/s/after", b""), (200, b"two".to_vec()));
    assert!(ask(&second, "GET", "/cache/s/large", b"") == (200, large));
    let name = second.name("team/app:v1");
    assert_eq!(digest(&skopeo(&["inspect", "--tls-verify=false", &name])), pushed);
    let copy = format!("oci:{}", world.path("copy").display());
    skopeo(&["copy", plain, &name, &copy]);
    drop(second);
    // What it has kept of it is sound.
    world.run(&["fsck"]).ok();
}

#[test]
fn what_was_acknowledged_reaches_the_bucket_though_all_are_killed() {
    let (state, world) = (World::new(), World::new());
    let state = state.path("bucket");
    let mut bucket = Bucket::keeping(&state);
    bucket.kill();
    let first = serve(&world, &bucket, "back");
    let large = vec![6; 3_000_000];
    assert_eq!(put(&first, "/cache/s/small", b"one"), 201);
    assert_eq!(put(&first, "/cache/s/large", &large), 201);
    assert_eq!(put(&first, "/v8/artifacts/abc", b"artifact"), 200);
    assert!(metric(&first, "strata_far_queue 3"));
    // Dropped, it is killed.
    drop(first);
    bucket.start_again(&state);
    let again = serve(&world, &bucket, "back");
    until("all is sent", || metric(&again, "strata_far_queue 0"));
    drop(again);
    drop(world);

    let world = World::new();
    let follower = serve(&world, &bucket, "none");
    assert_eq!(ask(&follower, "GET", "/cache/s/small", b""), (200, b"one".to_vec()));
    assert!(ask(&follower, "GET", "/cache/s/large", b"") == (200, large));
    assert_eq!(ask(&follower, "GET", "/v8/artifacts/abc", b""), (200, b"artifact".to_vec()));
    assert_eq!(put(&follower, "/cache/s/small", b"other"), 403);
}
