//! The store under bad conditions: too small, full, damaged, read-only; and what it grows by.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::damage::flip_a_bit;
use crate::sandbox::wait_until;
use crate::world::World;

/// What a folder takes on disk, in bytes.
fn taken(path: &Path) -> u64 {
    let output = Command::new("du").args(["-s", "-B1"]).arg(path).output().expect("du");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.split_whitespace().next().and_then(|number| number.parse().ok()).expect("a number")
}

fn bytes(seed: u64, size: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    (0..size.div_ceil(8)).flat_map(|_| next()).take(size).collect()
}

#[test]
fn rebuilds_with_one_changed_file_grow_the_store_by_that_file() {
    let world = World::new();
    const SIZE: usize = 40_000;
    for number in 0..1_500 {
        let path = world.path(&format!("app/d{}/file-{number}", number % 5));
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("folders");
        std::fs::write(path, bytes(number, SIZE)).expect("a file");
    }
    world.write("app/Dockerfile", "FROM scratch\nCOPY . /app\n");
    world.run(&["build", "-t", "app", "app"]).ok();
    let before = taken(&world.path("store"));
    const BUILDS: u64 = 20;
    for build in 0..BUILDS {
        let number = build * 67 % 1_500;
        let path = world.path(&format!("app/d{}/file-{number}", number % 5));
        std::fs::write(path, bytes(1_000_000 + build, SIZE)).expect("a file");
        assert_eq!(world.run(&["build", "-t", "app", "app"]).ok().ran(), ["COPY . /app"]);
    }
    let grown = taken(&world.path("store")).saturating_sub(before);
    let bar = BUILDS * (SIZE as u64 * 12 / 10 + (64 << 10));
    assert!(grown <= bar, "{grown} bytes in {BUILDS} builds, {bar} at most");
}

#[test]
fn a_limit_is_never_exceeded_and_what_is_used_stays() {
    let world = World::new();
    const LIMIT: u64 = 30_000_000;
    let build = |number: u64, size: usize| {
        std::fs::create_dir_all(world.path("app")).expect("a folder");
        std::fs::write(world.path("app/data"), bytes(number, size)).expect("a file");
        world.write("app/Dockerfile", "FROM scratch\nCOPY data /\n");
        let said = world.run(&["build", "--store-size", "30MB", "-t", "app", "app"]);
        let taken = taken(&world.path("store"));
        assert!(taken <= LIMIT, "build {number}: {taken} bytes");
        said
    };
    for number in 0..12 {
        build(number, 5_000_000).ok();
    }
    // The latest one is there.
    assert_eq!(build(11, 5_000_000).ok().ran(), [""; 0]);
    let refused = build(100, 40_000_000);
    assert_eq!(refused.code, 3, "{}", refused.err);
    for part in ["the store may take 30MB and takes", "all of it in use", "hint: ", "`strata du`"] {
        assert!(refused.err.contains(part), "`{part}` is not in:\n{}", refused.err);
    }
    // What has a name is not lost by it.
    world.run(&["inspect", "app"]).ok();
    world.run(&["fsck"]).ok();
}

#[test]
fn a_command_that_writes_more_than_the_store_may_take_is_ended() {
    let world = World::with_base();
    let before = "FROM case-base\nRUN touch /before\n";
    let endless = "RUN head -c 30000000 /dev/zero > /a; while :; do cat /a >> /b; done\n";
    world.write("app/Dockerfile", &format!("{before}{endless}"));
    let said = world.run(&["build", "--store-size", "120MB", "app"]);
    assert_eq!(said.code, 3, "{}", said.err);
    assert!(said.err.contains("the store may take 120MB and takes"), "{}", said.err);
    // What ran before it is kept, and nothing of what it wrote is left.
    assert!(taken(&world.path("store")) <= 120_000_000);
    world.write("app/Dockerfile", before);
    let said = world.run(&["build", "--store-size", "120MB", "app"]).ok();
    assert_eq!(said.ran(), [""; 0]);
}

#[test]
fn what_a_command_writes_into_a_cache_mount_is_counted_meanwhile() {
    let world = World::with_base();
    let mount = "FROM case-base\nRUN --mount=type=cache,target=/c ";
    world.write("app/Dockerfile", &format!("{mount}head -c 30000000 /dev/zero > /c/kept\n"));
    world.run(&["build", "--store-size", "120MB", "app"]).ok();
    let endless = "while :; do cat /c/kept >> /c/more; done";
    world.write("app/Dockerfile", &format!("{mount}{endless}\n"));
    let said = world.run(&["build", "--store-size", "120MB", "app"]);
    assert_eq!(said.code, 3, "{}", said.err);
    assert!(said.err.contains("the store may take 120MB and takes"), "{}", said.err);
    // Nobody uses it now: it goes when something else needs the room.
    std::fs::write(world.path("app/large"), bytes(7, 60_000_000)).expect("a file");
    world.write("app/Dockerfile", "FROM case-base\nCOPY large /\n");
    world.run(&["build", "--store-size", "120MB", "app"]).ok();
    assert!(taken(&world.path("store")) <= 120_000_000);
    assert_eq!(world.run(&["cache", "ls"]).ok().out.lines().count(), 1, "no cache is left");
}

#[test]
fn cache_mounts_that_nobody_uses_go_when_they_are_asked_for_or_room_is_needed() {
    let world = World::with_base();
    let run = |id: &str| format!("RUN --mount=type=cache,id={id},target=/c echo {id} > /c/f\n");
    world.write("app/Dockerfile", &format!("FROM case-base\n{}{}", run("old"), run("young")));
    world.run(&["build", "-t", "app", "app"]).ok();
    let ids = || {
        let listed = world.run(&["cache", "ls"]).ok().out;
        let ids = listed.lines().skip(1).filter_map(|line| line.split_whitespace().next());
        ids.map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(ids(), ["old", "young"]);

    // Without `--all` they stay; by time, only what was last used before it would go.
    world.run(&["prune", "-f"]).ok();
    world.run(&["prune", "-f", "-a", "--filter", "until=1h"]).ok();
    assert_eq!(ids(), ["old", "young"]);
    let dry = world.run(&["prune", "--all", "--dry-run", "--filter", "type=cache-mount"]).ok().out;
    assert!(dry.contains("cache mount old") && dry.contains("asked for"), "{dry}");
    assert_eq!(ids(), ["old", "young"]);

    // One that a build uses stays, whatever is asked.
    let name = format!("FROM case-base\n{}RUN --mount=type=cache,id=young,target=/c ", run("old"));
    world.write("app/Dockerfile", &format!("{name}touch /c/there && sleep 600\n"));
    let mut running =
        world.command(&["build", "app"]).stderr(Stdio::null()).spawn().expect("it starts");
    let there = || {
        let caches = std::fs::read_dir(world.path("store/caches-1")).expect("caches");
        caches.flatten().any(|cache| cache.path().join("fs/there").exists())
    };
    wait_until("the command", there);
    let removed = world.run(&["prune", "-f", "-a", "--filter", "type=exec.cachemount"]).ok().out;
    assert!(removed.contains("cache mount old") && !removed.contains("young"), "{removed}");
    assert_eq!(ids(), ["young"]);
    let ended = Command::new("kill").args(["-INT", &running.id().to_string()]).status();
    assert!(ended.expect("kill").success());
    running.wait().expect("it ends");
    world.run(&["fsck"]).ok();
}

#[test]
fn what_a_killed_process_left_of_a_cache_mount_goes() {
    let world = World::with_base();
    let mount = "FROM case-base\nRUN --mount=type=cache,id=it,target=/c touch /c/f\n";
    world.write("app/Dockerfile", mount);
    world.run(&["build", "app"]).ok();
    let caches = world.path("store/caches-1");
    let entries = || std::fs::read_dir(&caches).expect("caches").flatten();
    let cache = entries().find(|entry| entry.path().join("fs").is_dir()).expect("a cache").path();
    // As a removal leaves it that is killed in the middle.
    std::fs::rename(&cache, cache.with_extension("0.new")).expect("renamed");
    world.run(&["prune", "-f", "-a", "--filter", "type=cache-mount"]).ok();
    assert_eq!(entries().count(), 0);
}

#[test]
fn what_is_removed_is_named_with_the_reason_and_named_images_stay() {
    let world = World::new();
    let build = |text: &str, tag: &str| {
        world.write("app/data", text);
        world.write("app/Dockerfile", "FROM scratch\nCOPY data /\n");
        world.run(&["build", "-t", tag, "app"]).ok()
    };
    build("first", "app");
    build("second", "app");
    let usage = world.run(&["du", "--format", "json"]).ok().out;
    let usage: serde_json::Value = serde_json::from_str(&usage).expect("JSON");
    assert_eq!(usage["projects"][0]["project"], world.path("app").to_str().expect("text"));
    assert_eq!(usage["projects"][0]["steps"], 2);
    assert_eq!(usage["images"][0]["image"], "app:latest");
    assert!(usage["reclaimable_bytes"].as_u64().expect("a number") > 0);

    let dry = world.run(&["prune", "--dry-run"]).ok().out;
    assert!(dry.contains("COPY … /"), "{dry}");
    assert!(dry.contains("the latest build did not use it"), "{dry}");
    let removed = world.run(&["prune", "--format", "json"]).ok().out;
    let removed: serde_json::Value = serde_json::from_str(&removed).expect("JSON");
    let records: Vec<&serde_json::Value> = removed["removed"]
        .as_array()
        .expect("a list")
        .iter()
        .filter(|removed| removed["type"] == "record")
        .collect();
    assert_eq!(records.len(), 1, "{removed}");
    assert_eq!(records[0]["reason"], "the latest build did not use it");
    // The second one is there, the first one is not.
    assert_eq!(build("second", "app").ran(), [""; 0]);
    assert_eq!(build("first", "app").ran(), ["COPY data /"]);

    // With everything gone that no image needs, the image still goes out whole.
    world.run(&["prune", "-a", "-f"]).ok();
    world.run(&["build", "-o", "out", "app"]).ok();
    assert_eq!(std::fs::read_to_string(world.path("out/data")).expect("a file"), "first");
    world.run(&["rmi", "app"]).ok();
    world.run(&["prune", "-a", "-f"]).ok();
    let usage = world.run(&["du", "--format", "json"]).ok().out;
    let usage: serde_json::Value = serde_json::from_str(&usage).expect("JSON");
    assert_eq!(
        (usage["projects"].as_array(), usage["images"].as_array()),
        (Some(&Vec::new()), Some(&Vec::new()))
    );
    world.run(&["fsck"]).ok();
}

/// Every kind of file that a store has after builds with commands in them.
fn files_of(store: &Path) -> Vec<PathBuf> {
    let output = Command::new("find").arg(store).args(["-type", "f", "-size", "+0"]).output();
    let text = String::from_utf8(output.expect("find").stdout).expect("text");
    let mut files: Vec<PathBuf> = text.lines().map(PathBuf::from).collect();
    files.sort();
    files
}

/// The kind of a file: its directory in the store, and in the database what follows the number.
fn kind_of(store: &Path, file: &Path) -> String {
    let below = file.strip_prefix(store).expect("below").to_string_lossy().into_owned();
    let first = below.split('/').next().unwrap_or_default().to_owned();
    if first == "db-1" {
        let name = below.split('/').next_back().unwrap_or_default();
        let kind = name.split_once('.').map_or(name, |(_, end)| end);
        let kind = kind.split('-').next().unwrap_or(kind);
        return format!("db-1 {kind}");
    }
    first
}

#[test]
fn a_flipped_bit_in_any_kind_of_file_gives_no_wrong_image_and_is_mended() {
    let world = World::with_base();
    world.write("app/small.txt", "small\n");
    std::fs::write(world.path("app/large"), bytes(1, 300_000)).expect("a file");
    world.write(
        "app/Dockerfile",
        "FROM case-base\nCOPY . /app\nRUN cat /app/large /app/small.txt > /made\n\
         RUN wc -c < /made > /count\nCMD [\"sh\", \"-c\", \"cat /count; tail -c 6 /made\"]\n",
    );
    world.run(&["build", "-t", "app", "app"]).ok();
    let (store, sound) = (world.path("store"), world.path("sound"));
    let copy = |from: &Path, to: &Path| {
        drop(std::fs::remove_dir_all(to));
        let copied = Command::new("cp").arg("-a").args([from, to]).status().expect("cp");
        assert!(copied.success());
    };
    copy(&store, &sound);
    let mut kinds = std::collections::BTreeMap::new();
    for file in files_of(&store) {
        kinds.insert(kind_of(&store, &file), file.strip_prefix(&store).expect("below").to_owned());
    }
    assert!(kinds.len() >= 8, "{kinds:?}");
    for (kind, file) in &kinds {
        copy(&sound, &store);
        flip_a_bit(&store.join(file));
        let fsck = world.run(&["fsck", "--repair"]);
        assert_eq!(fsck.code, 0, "{kind}: {}{}", fsck.out, fsck.err);
        let again = world.run(&["fsck"]);
        assert_eq!(again.code, 0, "{kind}: {}{}", again.out, again.err);
        // The base may be gone with what was damaged.
        world.run(&["build", "-q", "-t", "case-base", "base"]).ok();
        world.run(&["build", "-t", "app", "app"]).ok();
        let out = world.run(&["run", "app"]).ok().out;
        assert_eq!(out, "300006\nsmall\n", "{kind}");
    }
}

#[test]
fn a_damaged_layer_is_noticed_before_a_command_reads_from_it() {
    let world = World::with_base();
    world.write("app/input.txt", "right\n");
    let build = |text: &str| {
        let file = format!("FROM case-base\nCOPY input.txt /\nRUN cat /input.txt > /made {text}\n");
        world.write("app/Dockerfile", &(file + "CMD [\"cat\", \"/made\"]\n"));
        world.run(&["build", "-t", "app", "app"]).ok()
    };
    build("");
    let mut find = Command::new("find");
    find.arg(world.path("store/snapshots-1")).args(["-name", "input.txt"]);
    let found = String::from_utf8(find.output().expect("find").stdout).expect("text");
    let file = PathBuf::from(found.trim());
    flip_a_bit(&file);
    let said = build("# again");
    assert_eq!(said.ran().len(), 1);
    assert!(said.err.contains("the store was damaged, and is mended: snapshot "), "{}", said.err);
    assert!(said.err.contains("`input.txt`: its bytes are others"), "{}", said.err);
    assert_eq!(world.run(&["run", "app"]).ok().out, "right\n");
    assert!(!build("# and again").err.contains("damaged"));
}

#[test]
fn a_store_that_can_not_be_written_says_so() {
    let world = World::new();
    world.write("app/Dockerfile", "FROM scratch\nCOPY Dockerfile /\n");
    world.run(&["build", "-t", "app", "app"]).ok();
    let store = world.path("store");
    let mount = |arguments: &[&str]| {
        let status = Command::new("mount").args(arguments).arg(&store).status().expect("mount");
        assert!(status.success());
    };
    mount(&["--bind", &store.to_string_lossy()]);
    mount(&["-o", "remount,ro,bind"]);
    let said = world.run(&["build", "app"]);
    let unmounted = Command::new("umount").arg(&store).status().expect("umount");
    assert!(unmounted.success());
    assert_eq!(said.code, 3, "{}", said.err);
    assert!(said.err.contains("read-only"), "{}", said.err);
    assert_eq!(world.run(&["build", "app"]).ok().ran(), [""; 0]);
}

#[test]
fn a_disk_that_is_full_at_any_moment_costs_nothing_but_that_build() {
    let world = World::new();
    std::fs::create_dir_all(world.path("app")).expect("a folder");
    for (number, size) in (0..40).zip((5_000..).step_by(1_000)) {
        let path = world.path(&format!("app/file-{number}"));
        std::fs::write(path, bytes(number, size)).expect("a file");
    }
    world.write("app/Dockerfile", "FROM scratch\nCOPY . /app\nCOPY file-1 /again\n");
    let disk = world.path("store");
    std::fs::create_dir(&disk).expect("a folder");
    let mount = |size: &str| {
        let options = format!("size={size}");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(&disk);
        assert!(mount.status().expect("mount").success());
    };
    let umount = || {
        assert!(Command::new("umount").arg(&disk).status().expect("umount").success());
    };
    let mut failures = 0;
    for kilobytes in (100..3_000).step_by(180) {
        mount(&format!("{kilobytes}k"));
        let said = world.run(&["build", "-t", "app", "app"]);
        if said.code != 0 {
            failures += 1;
            let is_told = said.err.contains("error: ") && !said.err.contains("bug");
            assert!(matches!(said.code, 1 | 3) && is_told, "{kilobytes}k: {}", said.err);
        }
        let remount = Command::new("mount").args(["-o", "remount,size=100m"]).arg(&disk).status();
        assert!(remount.expect("mount").success());
        let after = world.run(&["build", "-t", "app", "app"]);
        let fsck = world.run(&["fsck"]);
        let out = world.run(&["build", "-o", "out", "app"]);
        umount();
        for said in [after, fsck, out] {
            assert_eq!(said.code, 0, "{kilobytes}k: {}{}", said.out, said.err);
        }
        let copied = std::fs::read(world.path("out/app/file-39")).expect("a file");
        assert_eq!(copied, bytes(39, 44_000));
        std::fs::remove_dir_all(world.path("out")).expect("removed");
    }
    assert!(failures >= 3, "{failures} builds met a full disk");
}
