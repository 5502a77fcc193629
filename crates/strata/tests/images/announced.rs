//! What a server that runs has announced, and sweeps beside it.

use crate::asking::{ask, result, sha256};
use crate::serve::Serving;
use crate::world::World;

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
