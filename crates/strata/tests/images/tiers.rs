//! Servers with a bucket behind their stores, which is killed in the middle, and lost servers.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::Command;
use std::time::Duration;

use crate::bucket::{self, Bucket};
use crate::serve::{Serving, digest, skopeo};
use crate::world::{World, until};

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
    let pushed = push_by_skopeo(&world, &first);
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
    skopeo(&["copy", PLAIN, &name, &format!("oci:{}", world.path("copy").display())]);
    drop(second);
    // What it has kept of it is sound.
    world.run(&["fsck"]).ok();
}

/// skopeo copies from a server without TLS.
const PLAIN: &str = "--src-tls-verify=false";

/// Builds an image, has skopeo push it to the server, and gives its digest there.
fn push_by_skopeo(world: &World, server: &Serving) -> String {
    world.run(&["build", "-q", "-t", "built", "app"]).ok();
    let (from, name) = (server.name("built"), server.name("team/app:v1"));
    skopeo(&["copy", PLAIN, "--dest-tls-verify=false", &from, &name]);
    digest(&skopeo(&["inspect", "--tls-verify=false", &name]))
}

/// A bucket that takes connections and says nothing, until this is dropped.
struct Hanging(String);

impl Hanging {
    fn of(bucket: &Bucket) -> Self {
        let id = bucket.server.id().to_string();
        signal("STOP", &id);
        Self(id)
    }
}

impl Drop for Hanging {
    fn drop(&mut self) {
        signal("CONT", &self.0);
    }
}

fn signal(name: &str, id: &str) {
    let sent = Command::new("kill").args(["-s", name, id]).status();
    assert!(sent.expect("kill").success());
}

#[test]
fn a_bucket_that_hangs_keeps_nobody_waiting_for_ever_and_makes_nothing_wrong() {
    let (world, other) = (World::new(), World::new());
    let bucket = Bucket::keeping(&world.path("bucket"));
    let (first, second) = (serve(&world, &bucket, "through"), serve(&other, &bucket, "through"));
    let large = vec![5; 20_000_000];
    assert_eq!(put(&first, "/cache/s/small", b"one"), 201);
    assert_eq!(put(&first, "/cache/s/large", &large), 201);
    let digest = format!("/v2/app/blobs/{}", strata_oci::Digest::of(b"layer"));
    let hanging = Hanging::of(&bucket);
    // What is near is given out; what is not is a miss, or refused where a miss would be wrong.
    for _ in 0..3 {
        assert_eq!(ask(&first, "GET", "/cache/s/small", b""), (200, b"one".to_vec()));
        assert_eq!(ask(&second, "GET", "/cache/s/small", b"").0, 404);
        assert_eq!(ask(&second, "GET", &digest, b"").0, 503);
        assert_eq!(put(&first, "/cache/s/new", b"two"), 503);
    }
    assert!(metric(&second, "strata_far_up 0"));
    drop(hanging);
    until("it is asked again", || ask(&second, "GET", "/cache/s/small", b"").0 == 200);
    until("it is asked again", || put(&first, "/cache/s/new", b"two") == 201);
    assert!(ask(&second, "GET", "/cache/s/large", b"") == (200, large));
    // It hangs when a server is stopped, too.
    let hanging = Hanging::of(&bucket);
    first.stop();
    second.stop();
    drop(hanging);
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

/// A server on its own store, in front of another server.
fn before(world: &World, url: &str, more: &str) -> Serving {
    // One that is killed refuses at once, and one on a busy machine may take its time.
    let table = format!("[serve.far]\ntype = \"reapi\"\nurl = \"{url}\"\ntimeout = 30\n{more}");
    Serving::configured(world, &table)
}

/// What one server before `url` keeps, another one serves when the first is lost.
fn shares_all_behind(url: &str) -> (World, Serving) {
    let world = World::new();
    let first = before(&world, url, "");
    let large = vec![8; 3_000_000];
    assert_eq!(put(&first, "/cache/s/small", b"one"), 201);
    assert_eq!(put(&first, "/cache/s/large", &large), 201);
    assert_eq!(put(&first, "/cache/s/gone", b"gone"), 201);
    assert_eq!(ask(&first, "DELETE", "/cache/s/gone", b"").0, 204);
    let hash = strata_oci::Digest::of(&large).hex();
    assert_eq!(put(&first, &format!("/cas/{hash}"), &large), 200);
    std::fs::create_dir_all(world.path("app")).expect("a directory");
    world.write("app/Dockerfile", "FROM scratch\nCOPY Dockerfile /\n");
    let pushed = push_by_skopeo(&world, &first);
    drop(first);
    drop(world);

    let world = World::new();
    let second = before(&world, url, "");
    assert_eq!(ask(&second, "GET", "/cache/s/small", b""), (200, b"one".to_vec()));
    assert!(ask(&second, "GET", "/cache/s/large", b"") == (200, large));
    assert_eq!(ask(&second, "GET", "/cache/s/gone", b"").0, 404);
    let name = second.name("team/app:v1");
    assert_eq!(digest(&skopeo(&["inspect", "--tls-verify=false", &name])), pushed);
    skopeo(&["copy", PLAIN, &name, &format!("oci:{}", world.path("copy").display())]);
    (world, second)
}

#[test]
fn a_server_lies_behind_servers_and_is_killed() {
    let central = World::new();
    let serving = Serving::start(&central);
    let host = serving.host.clone();
    let url = format!("grpc://{host}/near");
    let (_world, second) = shares_all_behind(&url);
    // It is killed, and nobody is there any more.
    drop(serving);
    assert_eq!(ask(&second, "GET", "/cache/s/small", b""), (200, b"one".to_vec()));
    assert_eq!(ask(&second, "GET", "/cache/s/nothing", b"").0, 404);
    assert_eq!(put(&second, "/cache/s/more", b"two"), 503);
    let (back, follower) = (World::new(), World::new());
    let behind = before(&back, &url, "write = \"back\"\n");
    let large = vec![9; 3_000_000];
    assert_eq!(put(&behind, "/cache/s/later", &large), 201);
    assert!(metric(&behind, "strata_far_queue 1"));
    // It is there again, with what was kept before.
    let again = Serving::by(central.command(&["serve", "--listen", &host]));
    until("it is asked again", || put(&second, "/cache/s/more", b"two") == 201);
    until("all is sent", || metric(&behind, "strata_far_queue 0"));
    drop((second, behind));
    let third = before(&follower, &url, "write = \"none\"\n");
    assert_eq!(ask(&third, "GET", "/cache/s/small", b""), (200, b"one".to_vec()));
    assert_eq!(ask(&third, "GET", "/cache/s/more", b""), (200, b"two".to_vec()));
    assert!(ask(&third, "GET", "/cache/s/later", b"") == (200, large));
    assert_eq!(put(&third, "/cache/s/small", b"other"), 403);
    drop((third, again));
    for world in [central, follower] {
        world.run(&["fsck"]).ok();
    }
}

/// A server that is not ours, and keeps to the letter of the API.
pub(crate) struct Casd {
    process: std::process::Child,
    /// Address and port.
    pub(crate) host: String,
    _state: tempfile::TempDir,
}

impl Casd {
    pub(crate) fn start() -> Self {
        let state = tempfile::tempdir().expect("a directory");
        // Free a moment ago.
        let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let host = free.local_addr().expect("an address").to_string();
        drop(free);
        let mut command =
            std::process::Command::new(crate::clients::installed("recc/buildbox-casd"));
        command.arg(format!("--bind={host}")).arg(state.path());
        let output = std::process::Stdio::null;
        let process = command.stdout(output()).stderr(output()).spawn().expect("it starts");
        until("it listens", || TcpStream::connect(&host).is_ok());
        Self { process, host, _state: state }
    }
}

impl Drop for Casd {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

#[test]
fn buildboxs_server_lies_behind_servers() {
    let casd = Casd::start();
    drop(shares_all_behind(&format!("grpc://{}", casd.host)));
}
