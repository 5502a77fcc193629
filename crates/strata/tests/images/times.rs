//! The times of directories that COPY makes or fills. Those of the sources are as docker 28.5
//! gives them; where that gives the time of the build, strata's is a function of the sources.

use std::collections::BTreeMap;
use std::fs::File;
use std::process::Command;

use crate::world::World;

const FILES: u64 = 1_400_000_000;
const ONE: u64 = 1_100_000_000;
const OTHER: u64 = 1_200_000_000;

/// A context with two folders, with files that are younger than both.
fn world() -> World {
    let world = World::new();
    for (folder, time) in [("app/d/one", ONE), ("app/d/other", OTHER)] {
        world.write(&format!("{folder}/file-{time}"), "x");
        let touch = |name: String, time: u64| {
            let path = world.path(&name);
            let touched =
                Command::new("touch").arg("-d").arg(format!("@{time}")).arg(path).status();
            assert!(touched.expect("touch starts").success(), "{name}");
        };
        touch(format!("{folder}/file-{time}"), FILES);
        touch(folder.to_owned(), time);
    }
    world
}

/// The times of an image's directories.
fn times(world: &World, lines: &str, epoch: Option<u64>) -> BTreeMap<String, u64> {
    world.write("app/Dockerfile", &format!("FROM scratch\n{lines}\n"));
    let mut command = world.command(&["build", "-o", "type=tar,dest=out.tar", "app"]);
    command.envs(epoch.map(|epoch| ("SOURCE_DATE_EPOCH", epoch.to_string())));
    crate::world::Said::of(&command.output().expect("it starts")).ok();
    let mut archive = tar::Archive::new(File::open(world.path("out.tar")).expect("a tar"));
    let entries = archive.entries().expect("entries").map(|entry| entry.expect("an entry"));
    let directories = entries.filter(|entry| entry.header().entry_type().is_dir());
    let time = |entry: tar::Entry<'_, File>| {
        let path = entry.path().expect("a path").display().to_string();
        (path.trim_matches('/').to_owned(), entry.header().mtime().expect("a time"))
    };
    directories.map(time).filter(|(path, _)| !path.is_empty() && path != ".").collect()
}

#[test]
fn a_directory_that_is_filled_with_another_ones_contents_has_its_time() {
    let world = world();
    let check = |lines: &str, expected: &[(&str, u64)]| {
        let expected = expected.iter().map(|(path, time)| ((*path).to_owned(), *time)).collect();
        assert_eq!(times(&world, lines, None), expected, "{lines}");
    };
    check("COPY d/one /a/b/", &[("a", FILES), ("a/b", ONE)]);
    check("COPY d/one /a", &[("a", ONE)]);
    check("COPY --link d/one /a/b/", &[("a", FILES), ("a/b", ONE)]);
    check("COPY d/one d/other /a/", &[("a", OTHER)]);
    check("COPY d/one /a/\nCOPY d/other /a/", &[("a", OTHER)]);
    check(
        "COPY d /a/\nCOPY d/one /a/other/",
        &[("a", world_time(&world)), ("a/one", ONE), ("a/other", ONE)],
    );
    check("COPY d/one/file-* /a/", &[("a", FILES)]);
    check("COPY --exclude=file* d/one /a/", &[("a", ONE)]);
    check("COPY d/one /", &[]);
}

/// The time of the folder that the two are in, which is the machine's clock's.
fn world_time(world: &World) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let time = world.path("app/d").metadata().expect("a folder").mtime();
    u64::try_from(time).expect("after 1970")
}

#[test]
fn the_top_of_a_context_or_a_stage_gives_no_time() {
    let world = world();
    let copied = times(&world, "COPY --exclude=Dockerfile . /a/", None);
    assert_eq!((copied["a"], copied["a/d/one"]), (FILES, ONE));
    let lines = "COPY d/one /\nFROM scratch\nCOPY --from=0 / /a/";
    assert_eq!(times(&world, lines, None)["a"], FILES);
}

#[test]
fn an_epoch_is_the_time_of_what_copy_makes() {
    let world = world();
    let made = times(&world, "COPY d/one /a/b/", Some(1_300_000_000));
    assert_eq!((made["a"], made["a/b"]), (1_300_000_000, 1_300_000_000));
}
