//! A served store's limits: above the soft one it is swept, above the hard one nothing is written.

use std::time::Duration;

use strata_oci::Digest;

use crate::asking::{result, sha256};
use crate::serve::Serving;
use crate::wire::{self, Answer};
use crate::world::World;

fn ask(serving: &Serving, method: &str, path: &str, body: &[u8]) -> Answer {
    let length = body.len().to_string();
    let headers = [("content-length", &*length)];
    wire::send(&mut wire::connect(&*serving.host), method, path, &headers, body)
}

/// Bytes that nothing else has.
fn value(number: u8) -> Vec<u8> {
    vec![number; 4_000_000]
}

fn counted(serving: &Serving, name: &str) -> u64 {
    let page = ask(serving, "GET", "/metrics", b"").is(200).text();
    let line = page.lines().find_map(|line| line.strip_prefix(&format!("{name} ")));
    line.and_then(|count| count.parse().ok()).unwrap_or(0)
}

#[test]
fn what_was_announced_stays_though_a_quota_lets_its_entry_go() {
    let world = World::new();
    let table = "[serve.quota]\nmain = 2_000_000\n";
    let serving = Serving::configured(&world, table);
    // One lies in the database, one is a file.
    let blobs = [vec![1; 1000], vec![2; 300_000]];
    for (bytes, key) in blobs.iter().zip(["one", "two"].map(|key| sha256(key.as_bytes()))) {
        let hash = sha256(bytes);
        ask(&serving, "PUT", &format!("/cas/{hash}"), bytes).is(200);
        ask(&serving, "PUT", &format!("/ac/{key}"), &result(&hash, bytes.len())).is(200);
        ask(&serving, "GET", &format!("/ac/{key}"), b"").is(200);
    }
    // More than there is room for: the oldest entries go.
    for number in 0..10 {
        let path = format!("/cache/a/{number}");
        ask(&serving, "PUT", &path, &vec![number; 600_000]).is(201);
    }
    let entry = format!("/ac/{}", sha256(b"two"));
    ask(&serving, "GET", &entry, b"").is(404);
    world.run(&["prune", "-a", "-f"]).ok();
    for bytes in &blobs {
        let blob = ask(&serving, "GET", &format!("/cas/{}", sha256(bytes)), b"").is(200);
        assert!(blob.body == *bytes);
    }
    serving.stop();
    world.run(&["fsck"]).ok();
}

#[test]
fn a_full_store_refuses_and_a_soft_limit_makes_room() {
    let world = World::new();
    let serving = Serving::configured(&world, "[store]\nsize = \"60MB\"\n");
    let put = |serving: &Serving, number: u8| {
        ask(serving, "PUT", &format!("/cache/a/{number}"), &value(number))
    };
    // What came just now is promised to stay, so nothing of it makes room.
    let refused = (0..30).map(|number| put(&serving, number)).find(|answer| answer.status != 201);
    let refused = refused.expect("it is full").is(507);
    assert!(refused.text().contains("the store may take 60000000 bytes"), "{}", refused.text());
    let blob = value(77);
    let path = format!("/v2/app/blobs/uploads/?digest={}", Digest::of(&blob));
    let refused = ask(&serving, "POST", &path, &blob).is(507);
    assert!(refused.text().contains("TOOMANYREQUESTS"), "{}", refused.text());
    ask(&serving, "GET", "/cache/a/0", b"").is(200);
    serving.stop();

    world.forget_announced();
    let table = "[store]\nsize = \"60MB\"\n[serve]\nsoft-size = 30_000_000\n";
    let serving = Serving::configured(&world, table);
    assert_eq!(counted(&serving, "strata_store_soft_limit_bytes"), 30_000_000);
    let swept = || counted(&serving, "strata_swept_bytes_total") > 0;
    let is_swept = (0..600).any(|_| {
        std::thread::sleep(Duration::from_millis(100));
        swept()
    });
    assert!(is_swept, "it is above its soft limit and is not swept");
    put(&serving, 99).is(201);
    assert!(counted(&serving, "strata_store_bytes") < 60_000_000);
    serving.stop();

    let serving = world.run(&["--store-size", "20MB", "--config", "serve.toml", "serve"]);
    assert_eq!(serving.code, 2, "{}", serving.err);
    assert!(serving.err.contains("`soft-size` (30000000 bytes) is above"), "{}", serving.err);
    world.run(&["fsck"]).ok();
}
