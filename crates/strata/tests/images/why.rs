//! Reasons that need a command, word by word, and commands that do not do the same twice.

use crate::world::{Said, World};

fn build(world: &World, dockerfile: &str, arguments: &[&str]) -> Said {
    world.write("app/Dockerfile", dockerfile);
    world.run(&[&["build", "--jobs", "1"], arguments, &["app"]].concat())
}

/// The reasons of a build that must work.
#[track_caller]
fn reasons(world: &World, dockerfile: &str, arguments: &[&str]) -> Vec<String> {
    build(world, dockerfile, arguments).ok().reasons()
}

#[test]
fn variables_commands_and_users() {
    let world = World::with_base();
    let file = |env: &str, run: &str| format!("FROM case-base\nARG REV=a\n{env}\nRUN {run}\n");
    let first = file("ENV MODE=x", "echo $REV $MODE");
    build(&world, &first, &[]).ok();
    let found = reasons(&world, &first, &["--build-arg", "REV=b"]);
    assert_eq!(found, ["ARG `REV` changed from a to b"]);
    let found = reasons(&world, &file("ENV MODE=y", "echo $REV $MODE"), &[]);
    assert_eq!(found, ["ENV `MODE` changed from x to y"]);
    let found = reasons(&world, &file("ENV MODE=x MORE=1", "echo $REV $MODE"), &[]);
    assert_eq!(found, ["ENV `MORE` is new: 1"]);
    let found = reasons(&world, &file("ENV MODE=x", "echo $MODE"), &[]);
    assert_eq!(found, ["command changed from echo $REV $MODE to echo $MODE"]);
    let found = reasons(&world, &file("ENV MODE=x\nUSER 7", "echo $MODE"), &[]);
    assert_eq!(found, ["user changed from nothing to 7"]);
}

#[test]
fn mounts_are_called_by_their_targets() {
    let world = World::with_base();
    world.write("app/src/a", "a");
    let file = |options: &str| {
        let mounts = format!("--mount=type=tmpfs,target=/t --mount=source=src,target=/m{options}");
        format!("FROM case-base\nRUN {mounts} ls /m\n")
    };
    build(&world, &file(""), &[]).ok();
    world.write("app/src/b", "b");
    assert_eq!(reasons(&world, &file(""), &[]), ["mount `/m`: 1 file changed: b (added)"]);
    let expected = r#"mount `/m` changed from ["bind","/m","ro"] to ["bind","/m","rw"]"#;
    assert_eq!(reasons(&world, &file(",rw"), &[]), [expected]);
}

#[test]
fn a_base_that_moved() {
    let world = World::with_base();
    let file = "FROM case-base\nRUN echo x > /x\n";
    build(&world, file, &[]).ok();
    let old = world.id("case-base");
    world.write("other/y", "y");
    world.write("other/Dockerfile", "FROM case-base\nCOPY y /\n");
    world.run(&["build", "-q", "-t", "case-base", "other"]).ok();
    let new = world.id("case-base");
    let found = reasons(&world, file, &[]);
    let short = |id: &str| id[..19].to_owned();
    let moved =
        format!("base image `case-base:latest` moved from {} to {}", short(&old), short(&new));
    assert_eq!(found[0], moved);
    assert_eq!(found[1], "an earlier step gave another tree: 1 file changed: y (added)");
}

#[test]
fn what_failed_is_run_again_and_says_so() {
    let world = World::with_base();
    world.write("app/flag", "no");
    let file = "FROM case-base\nCOPY flag /flag\nRUN grep yes /flag\nRUN echo after\n";
    assert_eq!(build(&world, file, &[]).code, 1);
    let again = build(&world, file, &[]);
    assert_eq!(
        (again.code, again.reasons()),
        (1, vec!["it failed in the build before".to_owned()])
    );
    let told = world.run(&["why", "grep"]).ok().out;
    assert!(told.contains("    failed\n    it failed in the build before\n"), "{told}");
    let told = world.run(&["why", "after"]).ok().out;
    assert!(told.contains("    not reached\n"), "{told}");
}

#[test]
fn what_does_not_do_the_same_twice_is_named() {
    let world = World::with_base();
    let file = "FROM case-base\nRUN cat /proc/sys/kernel/random/uuid > /id; echo same > /same\n\
        RUN cat /same > /copy\n";
    build(&world, file, &["-t", "app"]).ok();
    let id = world.id("app");
    let again = build(&world, file, &["-t", "app", "--cache-verify", "100%"]).ok();
    let said: Vec<&str> = again.err.lines().filter(|line| line.contains("DETERMINISTIC")).collect();
    assert_eq!(said, ["#2 NOT DETERMINISTIC: 1 file changed: id (content)"]);
    assert!(again.err.contains("#3 VERIFIED: it gives the same again"), "{}", again.err);
    assert_eq!(world.id("app"), id);
    assert_eq!(build(&world, file, &["-t", "app"]).ok().reasons(), [""; 0]);
    assert_eq!(world.id("app"), id);
}
