//! Shells in the states of builds and images.

use std::io::Write;
use std::process::{Command, Stdio};

use crate::world::{Said, World};

const FAILS: &str = "FROM case-base AS tools\nRUN echo tool > /tool\n\
    FROM case-base\nENV COLOUR=blue\nWORKDIR /work\nRUN echo one > one\n\
    COPY --from=tools /tool /\nUSER 7:8\nRUN echo partial > /tmp/partial; rm -f one; exit 5\n\
    RUN echo never\n";

fn failed_build(world: &World) {
    // Everybody may write here.
    world.write("base/Dockerfile", "FROM scratch\nCOPY bin /bin\nRUN mkdir -m 1777 /tmp\n");
    world.run(&["build", "-q", "-t", "case-base", "base"]).ok();
    world.write("app/Dockerfile", FAILS);
    assert_eq!(world.run(&["build", "app"]).code, 1);
}

#[test]
fn a_failed_build_can_be_looked_into_before_and_after_its_failure() {
    let world = World::with_base();
    failed_build(&world);
    let shell = |arguments: &[&str]| world.run(&[&["shell"], arguments].concat());
    let said =
        shell(&["app", "sh", "-c", "cat /tmp/partial; pwd; id -u; id -g; echo $COLOUR; cat one"])
            .ok();
    assert_eq!(said.out, "partial\n/work\n7\n8\nblue\none\n");
    assert!(said.err.contains("in what `#7 RUN echo partial"), "{}", said.err);
    assert!(said.err.contains("what you change here is lost"), "{}", said.err);
    let said = shell(&["--before", "app", "ls", "/tmp"]).ok();
    assert_eq!(said.out, "");
    assert!(said.err.contains("in the state before `#7 RUN"), "{}", said.err);
    // A step by its number, its stage or its words; the state is that of the step alone.
    let here =
        |at: &str| shell(&["--at", at, "app", "sh", "-c", "ls -d /tool one 2>/dev/null"]).out;
    assert_eq!(here("RUN echo one"), "one\n");
    assert_eq!(here("COPY"), "/tool\none\n");
    assert_eq!(here("tools"), "/tool\n");
    assert_eq!(
        shell(&["--at", "#7", "-u", "0", "-w", "/", "app", "sh", "-c", "id -u; pwd"]).ok().out,
        "0\n/\n"
    );
    assert_eq!(shell(&["app", "sh", "-c", "exit 9"]).code, 9);
    let said = shell(&["--at", "never", "app", "true"]).ok();
    assert!(said.err.contains("in the state before `#8 RUN echo never`"), "{}", said.err);
    let said = shell(&["--at", "nonsense", "app", "true"]);
    assert_eq!(said.code, 2);
    assert!(said.err.contains("there is no step `nonsense`"), "{}", said.err);
    let list = shell(&["--list", "app"]).ok().out;
    let done = |line: &&str| line.split_whitespace().nth(2) == Some("done");
    assert_eq!(list.lines().filter(done).count(), 6, "{list}");
    assert!(list.contains("failed") && list.contains("not done"), "{list}");
    // What is changed there is in no later build and no later shell.
    shell(&["app", "sh", "-c", "echo more > /tmp/more"]).ok();
    assert_eq!(shell(&["app", "ls", "/tmp"]).ok().out, "partial\n");
    world.write("app/Dockerfile", &FAILS.replace("exit 5", "true"));
    world.run(&["build", "-t", "app", "app"]).ok();
    let said = shell(&["app", "sh", "-c", "ls /tmp one"]);
    assert_eq!(said.out, "one\n\n/tmp:\npartial\n", "{}", said.err);
}

#[test]
fn an_image_can_be_looked_into_layer_by_layer() {
    let world = World::with_base();
    world.write("app/Dockerfile", "FROM case-base\nRUN echo a > /a\nENV X=1\nRUN echo b > /b\n");
    world.run(&["build", "-t", "app", "app"]).ok();
    let ls = |arguments: &[&str]| {
        let command = ["sh", "-c", "cd /; ls -d a b 2>/dev/null; true"];
        world.run(&[&["shell"], arguments, &["app:latest"], &command].concat()).ok().out
    };
    assert_eq!(ls(&[]), "a\nb\n");
    assert_eq!(ls(&["--at", "echo a"]), "a\n");
    assert_eq!(ls(&["--at", "ENV"]), "a\n");
    assert_eq!(ls(&["--before", "--at", "echo a"]), "");
    let said = world.run(&["shell", "gone:1", "true"]);
    assert_eq!(said.code, 1, "{}", said.err);
    world.write("new/Dockerfile", "FROM case-base\n");
    let said = world.run(&["shell", "new", "true"]);
    assert!(said.err.contains("there was no build of `new`"), "{}", said.err);
}

#[test]
fn with_a_terminal_the_shell_has_one() {
    let world = World::with_base();
    failed_build(&world);
    let strata = env!("CARGO_BIN_EXE_strata");
    let mut script = Command::new("script");
    script.args(["-qec", &format!("{strata} shell app"), "/dev/null"]);
    script.current_dir(world.path("")).env("HOME", world.path("")).env("TERM", "vt100");
    script.env("STRATA_STORE", world.path("store")).env("SHELL", "/bin/sh");
    let script = script.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
    let mut script = script.expect("`script` starts");
    let mut typed = script.stdin.take().expect("its stdin");
    typed.write_all(b"tty; echo $TERM $((6 * 7)); cat /tmp/partial; exit 6\n").expect("typed");
    let said = Said::of(&script.wait_with_output().expect("it ends"));
    drop(typed);
    assert_eq!(said.code, 6, "{}", said.out);
    assert!(said.out.contains("/dev/pts/0\r\nvt100 42\r\npartial\r\n"), "{}", said.out);
}
