//! `strata serve`, killed in the middle of uploads: what it has acknowledged is there afterwards.

use std::sync::Mutex;
use std::time::Duration;

use crate::asking::{ask, result, sha256};
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
