//! apt-get, npm, pip, cargo and git, as they are in Debian, each in a RUN.

use std::process::{Command, Stdio};

use crate::world::{Said, World};

const HERE: &str = env!("CARGO_MANIFEST_DIR");

#[test]
fn real_tools_do_their_work() {
    let mut made = Command::new(format!("{HERE}/../../scripts/tools-root.sh"));
    let made = made.arg(env!("CARGO_TARGET_TMPDIR")).stderr(Stdio::inherit()).output();
    let made = made.expect("bash");
    assert!(made.status.success(), "there is no root to run tools in");
    let tar = String::from_utf8(made.stdout).expect("a path");
    let world = World::new();
    world.run(&["import", tar.trim(), "tools"]).ok();
    let script = format!("{HERE}/../../benches/real-tools.sh");
    let mut all = world.through(&["bash", &script, "tools"], &["build"]);
    let said = Said::of(&all.output().expect("bash")).ok();
    let done = said.out.lines().filter_map(|line| line.split_once(' ')).map(|(name, _)| name);
    let done: Vec<&str> = done.collect();
    assert_eq!(done, ["nothing", "apt", "npm", "pip", "cargo", "git"], "{}", said.err);
    // What they have made is in their images, as they made it.
    let check = |image: &str, command: &str, expected: &str| {
        let out = world.run(&["run", image, "sh", "-c", command]).ok().out;
        assert_eq!(out, expected, "{image}");
    };
    let greeting = "cat /usr/share/greeting/text; stat -c '%U %G %a' /usr/share/greeting";
    check("real-apt", greeting, "hello\ngreeter games 2750\n");
    check("real-npm", "/srv/npm/app/node_modules/.bin/dep", "hello\n");
    check("real-pip", "greeting", "hello\n");
    check("real-cargo", "/srv/cargo/target/release/app", "hello\n");
    check("real-git", "git -c safe.directory='*' -C /srv/clone log --format=%s", "all\n");
}
