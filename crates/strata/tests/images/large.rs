//! Large files that commands write: their steps are done before the tar's digest is known, and the
//! image has it in the end, whatever comes between.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use crate::damage::flip_a_bit;
use crate::world::World;

/// 70 MiB, which is more than what is hashed at once.
const BIG: &str = "RUN dd if=/dev/zero bs=1M count=70 2>&- | tr '\\0' x > /big && \
                   touch -d @1700000000 /big";

fn write(world: &World, rest: &str) {
    world.write("app/Dockerfile", &format!("FROM case-base\n{BIG}\n{rest}"));
}

/// The digests of an image's layers above the base, whose files have their own times.
fn layers(world: &World) -> Vec<String> {
    let said = world.run(&["inspect", "app"]).ok().out;
    let image: serde_json::Value = serde_json::from_str(&said).expect("JSON");
    let image = image.get(0).unwrap_or(&image);
    let layers = image["RootFS"]["Layers"].as_array().expect("layers").iter().skip(1);
    layers.map(|layer| layer.as_str().expect("a digest").to_owned()).collect()
}

/// Builds, and looks at every layer's digest: who loads an archive compares them.
fn layers_of_sound_image(world: &World) -> Vec<String> {
    world.run(&["build", "-t", "app", "app"]).ok();
    world.run(&["save", "-o", "app.tar", "app"]).ok();
    let other = World::new();
    let archive = world.path("app.tar");
    other.run(&["load", "-i", &archive.to_string_lossy()]).ok();
    assert_eq!(other.id("app"), world.id("app"));
    assert_eq!(other.run(&["run", "app", "wc", "-c", "/big"]).ok().out, "73400320 /big\n");
    layers(world)
}

/// What an undisturbed build gives.
fn twin(rest: &str) -> Vec<String> {
    let world = World::with_base();
    write(&world, rest);
    layers_of_sound_image(&world)
}

#[test]
fn a_failure_while_it_is_hashed_costs_nothing_but_that_step() {
    const AFTER: &str = "RUN wc -c < /big > /size && touch -d @1700000000 /size\n";
    let world = World::with_base();
    write(&world, "RUN false\n");
    assert_eq!(world.run(&["build", "-t", "app", "app"]).code, 1);
    write(&world, AFTER);
    let said = world.run(&["build", "-t", "app", "app"]).ok();
    assert_eq!(said.ran(), [AFTER.trim_end()], "{}", said.err);
    assert_eq!(layers_of_sound_image(&world), twin(AFTER));
}

#[test]
fn damage_before_it_was_hashed_to_its_end_is_noticed() {
    let world = World::with_base();
    write(&world, "RUN false\n");
    assert_eq!(world.run(&["build", "-t", "app", "app"]).code, 1);
    let mut find = Command::new("find");
    find.arg(world.path("store/snapshots-1")).args(["-name", "big"]);
    let found = String::from_utf8(find.output().expect("find").stdout).expect("text");
    flip_a_bit(&PathBuf::from(found.trim()));
    write(&world, "");
    let said = world.run(&["build", "-t", "app", "app"]).ok();
    assert_eq!(said.ran(), [BIG], "{}", said.err);
    assert_eq!(layers_of_sound_image(&world), twin(""));
}

#[test]
fn of_a_stage_that_is_not_in_the_image_nobody_waits_for_it_until_it_is() {
    let world = World::with_base();
    let last = "FROM case-base\nCOPY --from=made /bin/true /other\n";
    world.write("app/Dockerfile", &format!("FROM case-base AS made\n{BIG}\n{last}"));
    world.run(&["build", "-t", "app", "app"]).ok();
    let said = world.run(&["build", "-t", "app", "--target", "made", "app"]).ok();
    assert_eq!(said.ran(), [""; 0], "{}", said.err);
    write(&world, "");
    assert_eq!(layers_of_sound_image(&world), twin(""));
}

#[test]
fn killed_at_any_moment_around_it_the_next_build_has_the_same_image() {
    const AFTER: &str = "RUN touch -d @1700000000 /after\n";
    let world = World::with_base();
    let mut before = Vec::new();
    for (number, millis) in (0..5).zip((0..).step_by(40)) {
        // Another layer each time.
        write(&world, &format!("RUN echo {number} > /number && touch -d @1 /number\n{AFTER}"));
        let big = BIG.replace("tr '\\0' x", &format!("tr '\\0' {number}"));
        let text = world.path("app/Dockerfile");
        let file = std::fs::read_to_string(&text).expect("a Dockerfile").replace(BIG, &big);
        std::fs::write(&text, file).expect("a Dockerfile");
        let mut build = world.command(&["build", "--progress", "plain", "-t", "app", "app"]);
        let mut child = build.spawn().expect("it starts");
        // It is killed so long after the command's file is whole.
        let is_whole = || {
            let mut find = Command::new("find");
            find.arg(world.path("store")).args(["-name", "big", "-size", "73400320c"]);
            !find.output().expect("find").stdout.is_empty()
        };
        while !is_whole() && child.try_wait().expect("it is ours").is_none() {
            std::thread::sleep(Duration::from_millis(2));
        }
        std::thread::sleep(Duration::from_millis(millis));
        drop(child.kill());
        child.wait().expect("it ends");
        let layers = layers_of_sound_image(&world);
        assert_ne!(layers, before);
        before = layers;
        let said = world.run(&["fsck"]).ok();
        assert!(!said.out.contains("damaged"), "{}", said.out);
    }
}

#[test]
fn another_machine_gets_it_from_a_shared_cache() {
    let world = World::with_base();
    write(&world, "RUN true\n");
    let to = format!("type=local,dest={}", world.path("cache").display());
    world.run(&["build", "-t", "app", "--cache-to", &to, "app"]).ok();
    let other = World::with_base();
    write(&other, "RUN true\n");
    let from = format!("type=local,src={}", world.path("cache").display());
    let said = other.run(&["build", "-t", "app", "--cache-from", &from, "app"]).ok();
    assert_eq!(said.ran(), [""; 0], "{}", said.err);
    assert_eq!(layers_of_sound_image(&other), layers(&world));
}
