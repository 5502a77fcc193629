//! Builds with commands in them, as a user sees them: what runs, what does not, and what is left
//! when something goes wrong.

use std::io::Write;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::world::{Said, World};

const DOCKERFILE: &str = "FROM case-base\nCOPY package.txt /app/\n\
    RUN cat /app/package.txt > /deps\nCOPY . /app\nRUN cp /app/main.txt /built\n\
    CMD [\"cat\", \"/built\"]\n";

fn project(world: &World) {
    world.write("app/Dockerfile", DOCKERFILE);
    world.write("app/package.txt", "dependencies\n");
    world.write("app/main.txt", "first\n");
}

#[test]
fn the_second_build_runs_nothing_and_gives_the_same_image() {
    let world = World::with_base();
    project(&world);
    let first = world.run(&["build", "-t", "app", "app"]).ok();
    assert_eq!(first.ran().len(), 4, "{}", first.err);
    let id = world.id("app");
    let second = world.run(&["build", "-t", "app", "app"]).ok();
    assert_eq!(second.ran(), [""; 0]);
    assert_eq!(second.cached().len(), 5);
    assert_eq!(world.id("app"), id);
    assert_eq!(world.run(&["run", "app"]).ok().out, "first\n");
}

#[test]
fn a_changed_file_reruns_exactly_what_depends_on_it() {
    let world = World::with_base();
    project(&world);
    world.run(&["build", "-t", "app", "app"]).ok();
    world.write("app/main.txt", "second\n");
    let build = world.run(&["build", "-t", "app", "app"]).ok();
    assert_eq!(build.ran(), ["COPY . /app", "RUN cp /app/main.txt /built"]);
    assert_eq!(build.reasons()[0], "1 file changed: main.txt (content)");
    assert_eq!(world.run(&["run", "app"]).ok().out, "second\n");
    // Back to what was built before: nothing runs at all.
    world.write("app/main.txt", "first\n");
    assert_eq!(world.run(&["build", "-t", "app", "app"]).ok().ran(), [""; 0]);
}

#[test]
fn a_command_that_gives_what_it_gave_before_ends_the_rebuild() {
    let world = World::with_base();
    let build = |text: &str| {
        let file = format!("FROM case-base\nRUN {text}\nRUN cat /result > /copy\n");
        world.write("app/Dockerfile", &file);
        world.run(&["build", "app"]).ok()
    };
    build("echo same > /result");
    let again = build("echo s'am'e > /result");
    assert_eq!(again.ran(), ["RUN echo s'am'e > /result"]);
    let other = build("echo other > /result");
    assert_eq!(other.ran().len(), 2);
}

#[test]
fn what_is_written_out_in_the_dockerfile_is_part_of_the_key() {
    let world = World::with_base();
    let build = |copy: &str| {
        let file = format!("FROM case-base AS other\nFROM case-base\n{copy}\n");
        world.write("app/Dockerfile", &file);
        world.run(&["build", "-t", "app", "app"]).ok();
        world.run(&["run", "app", "sh", "-c", "cat /f/*; stat -c %a /f/a"]).ok().out
    };
    // Nothing but here-documents, from nowhere or from a stage, and beside a copied file.
    world.write("app/plain", "plain\n");
    for flags in ["", "--from=other "] {
        assert_eq!(build(&format!("COPY {flags}<<a /f/\none\na")), "one\n644\n");
        assert_eq!(build(&format!("COPY {flags}<<a /f/\ntwo\na")), "two\n644\n");
        assert_eq!(build(&format!("COPY {flags}--chmod=o+w <<a /f/\ntwo\na")), "two\n646\n");
        assert_eq!(build(&format!("COPY {flags}--chmod=g+w <<a /f/\ntwo\na")), "two\n664\n");
    }
    assert_eq!(build("COPY plain <<a /f/\none\na"), "one\nplain\n644\n");
    assert_eq!(build("COPY plain <<a /f/\ntwo\na"), "two\nplain\n644\n");
    assert_eq!(build("RUN mkdir /f && cat > /f/a <<x\nthree\nx"), "three\n644\n");
    assert_eq!(build("RUN mkdir /f && cat > /f/a <<x\nfour\nx"), "four\n644\n");
}

#[test]
fn an_epoch_is_nothing_to_a_command() {
    let world = World::with_base();
    world.write("app/Dockerfile", "FROM case-base\nRUN echo x > /x\n");
    let build = |epoch: &str| {
        let mut command = world.command(&["build", "app"]);
        let output = command.env("SOURCE_DATE_EPOCH", epoch).output().expect("it starts");
        Said::of(&output).ok().reasons().len()
    };
    assert_eq!(build("1000000000"), 2, "the base, too");
    assert_eq!(build("1500000000"), 0);
}

#[test]
fn another_epoch_gives_what_a_fresh_store_gives() {
    let build = |world: &World, epoch: &str| {
        world.write("app/Dockerfile", "FROM scratch\nWORKDIR /made\nCOPY <<a /in/it/\nx\na\n");
        let mut command = world.command(&["build", "-q", "app"]);
        let output = command.env("SOURCE_DATE_EPOCH", epoch).output().expect("it starts");
        Said::of(&output).ok().out
    };
    let (used, fresh) = (World::new(), World::new());
    let first = build(&used, "1000000000");
    let second = build(&used, "1500000000");
    assert_ne!(first, second);
    assert_eq!(build(&fresh, "1500000000"), second);
}

#[test]
fn metadata_costs_no_command_its_cache() {
    let world = World::with_base();
    let build = |metadata: &str| {
        let file = format!("FROM case-base\n{metadata}RUN echo once > /once\n");
        world.write("app/Dockerfile", &file);
        world.run(&["build", "app"]).ok().ran().len()
    };
    assert_eq!(build("LABEL a=1\n"), 1);
    assert_eq!(build("LABEL a=2\nEXPOSE 80\nCMD [\"x\"]\nVOLUME /v\nSTOPSIGNAL 9\n"), 0);
    assert_eq!(build("ENV A=b\n"), 1);
    assert_eq!(build("ARG A=c\n"), 1);
}

#[test]
fn a_failing_command_says_where_and_with_what_code() {
    let world = World::with_base();
    world
        .write("app/Dockerfile", "FROM case-base\nRUN echo kept > /kept\nRUN echo oh no; exit 7\n");
    let failed = world.run(&["build", "-t", "app", "app"]);
    assert_eq!(failed.code, 1);
    for part in ["oh no", "exit code: 7", "Dockerfile:3", "RUN echo oh no; exit 7", "^^^"] {
        assert!(failed.err.contains(part), "`{part}` is not in:\n{}", failed.err);
    }
    // The step before it is kept, and no image has the name.
    world.write("app/Dockerfile", "FROM case-base\nRUN echo kept > /kept\nRUN echo fine\n");
    let mended = world.run(&["build", "-t", "app", "app"]).ok();
    assert_eq!(mended.ran(), ["RUN echo fine"]);
}

/// Processes and mounts that have this world's folder in them.
pub(crate) fn leftovers(world: &World) -> Vec<String> {
    let folder = world.path("").to_string_lossy().trim_end_matches('/').to_owned();
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").expect("/proc").flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.parse::<u32>().is_err() || name == std::process::id().to_string() {
            continue;
        }
        for file in ["cmdline", "mountinfo"] {
            let text = std::fs::read(entry.path().join(file)).unwrap_or_default();
            let text = String::from_utf8_lossy(&text);
            // Other processes show the machine's own mounts: only ours have the folder in them.
            if text.contains(&folder) {
                found.push(format!("{file} of {name}: {text}"));
            }
        }
    }
    found
}

pub(crate) fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !done() {
        assert!(begin.elapsed() < Duration::from_secs(60), "{what}: not within a minute");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn killed_in_the_middle_a_build_leaves_nothing_and_the_next_one_goes_on() {
    let world = World::with_base();
    world.write(
        "app/Dockerfile",
        "FROM case-base\nRUN echo done > /finished\nRUN echo started; sleep 1000\n",
    );
    let mut child = world
        .command(&["build", "-t", "app", "app"])
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts");
    let mut lines =
        std::io::BufRead::lines(std::io::BufReader::new(child.stderr.take().expect("its stderr")));
    let started =
        |line: &str| line.split_once(' ').is_some_and(|(_, line)| line.ends_with(" started"));
    while let Some(Ok(line)) = lines.next() {
        if started(&line) {
            break;
        }
    }
    child.kill().expect("kill -9");
    child.wait().expect("it is dead");
    wait_until("processes and mounts are gone", || leftovers(&world).is_empty());

    world.write("app/Dockerfile", "FROM case-base\nRUN echo done > /finished\nRUN echo quick\n");
    let next = world.run(&["build", "-t", "app", "app"]).ok();
    assert_eq!(next.ran(), ["RUN echo quick"]);
    let staging = std::fs::read_dir(world.path("store/staging")).expect("staging").count();
    assert_eq!(staging, 0, "half-made things are gone");
}

#[test]
fn interrupted_a_build_says_so_and_keeps_what_was_done() {
    let world = World::with_base();
    world.write(
        "app/Dockerfile",
        "FROM case-base\nRUN echo done > /finished\nRUN echo started; sleep 1000\n",
    );
    let mut child = world
        .command(&["build", "app"])
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts");
    let mut stderr = std::io::BufReader::new(child.stderr.take().expect("its stderr"));
    let mut line = String::new();
    while !line.ends_with(" started\n") {
        line.clear();
        assert!(std::io::BufRead::read_line(&mut stderr, &mut line).expect("a line") > 0);
    }
    let pid = child.id().to_string();
    let kill = std::process::Command::new("kill").args(["-INT", &pid]).status();
    assert!(kill.expect("kill").success());
    let status = child.wait().expect("it ends");
    assert_eq!(status.code(), Some(130));
    assert_eq!(leftovers(&world), [""; 0]);
    world.write("app/Dockerfile", "FROM case-base\nRUN echo done > /finished\n");
    assert_eq!(world.run(&["build", "app"]).ok().ran(), [""; 0]);
}

#[test]
fn stages_of_which_one_is_used_by_another_run_once_each() {
    let world = World::with_base();
    world.write(
        "app/Dockerfile",
        "FROM case-base AS base\nRUN echo base > /base\n\
         FROM base AS left\nRUN echo left > /left\n\
         FROM base AS right\nRUN echo right > /right\n\
         FROM base\nCOPY --from=left /left /\nCOPY --from=right /right /\n\
         RUN cat /left /right > /all\n\
         CMD [\"cat\", \"/all\"]\n",
    );
    let first = world.run(&["build", "-t", "app", "app"]).ok();
    assert_eq!(first.ran().len(), 6, "{}", first.err);
    assert_eq!(world.run(&["run", "app"]).ok().out, "left\nright\n");
    assert_eq!(world.run(&["build", "-t", "app", "app"]).ok().ran(), [""; 0]);
}

#[test]
fn mounts_give_files_and_leave_no_trace() {
    let world = World::with_base();
    world.write("app/input.txt", "from the context\n");
    world.write(
        "app/Dockerfile",
        "FROM case-base AS other\nRUN echo from a stage > /other\n\
         FROM case-base\n\
         RUN --mount=target=/in,rw cat /in/input.txt > /out && echo lost > /in/input.txt\n\
         RUN --mount=type=bind,from=other,source=/other,target=/mnt/other cat /mnt/other >> /out\n\
         RUN --mount=type=cache,target=/cache echo x >> /cache/log && wc -l < /cache/log >> /out\n\
         RUN --mount=type=tmpfs,target=/scratch echo y > /scratch/y && ls /scratch >> /out\n\
         RUN ls -d /in /mnt /cache /scratch 2>/dev/null; true\n\
         CMD [\"cat\", \"/out\"]\n",
    );
    world.run(&["build", "-t", "app", "app"]).ok();
    let out = world.run(&["run", "app"]).ok().out;
    assert_eq!(out, "from the context\nfrom a stage\n1\ny\n");
    world.run(&["build", "-o", "image", "app"]).ok();
    let mut names: Vec<String> = std::fs::read_dir(world.path("image"))
        .expect("the image's files")
        .map(|entry| entry.expect("a file").file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    assert_eq!(names, ["bin", "dev", "out", "proc", "sys"]);
    let source = std::fs::read_to_string(world.path("app/input.txt")).expect("it is there");
    assert_eq!(source, "from the context\n");
    // A cache mount outlives the build; a changed input of a bind mount is noticed.
    world.write("app/input.txt", "changed\n");
    world.run(&["build", "-t", "app", "app"]).ok();
    assert_eq!(world.run(&["run", "app"]).ok().out, "changed\nfrom a stage\n2\ny\n");
}

#[test]
fn running_an_image_passes_arguments_environment_and_exit_code() {
    let world = World::with_base();
    world.write(
        "app/Dockerfile",
        "FROM case-base\nENV A=1\nWORKDIR /w\n\
         ENTRYPOINT [\"sh\", \"-c\"]\nCMD [\"pwd; echo $A\"]\n",
    );
    world.run(&["build", "-t", "app", "app"]).ok();
    assert_eq!(world.run(&["run", "app"]).ok().out, "/w\n1\n");
    assert_eq!(world.run(&["run", "-e", "A=2", "-w", "/bin", "app"]).ok().out, "/bin\n2\n");
    assert_eq!(world.run(&["run", "app", "exit 9"]).code, 9);
    assert_eq!(world.run(&["run", "--entrypoint", "echo", "app", "hi"]).ok().out, "hi\n");
    let mut child = world.command(&["run", "app", "cat"]);
    let mut child = child.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("it starts");
    std::io::Write::write_all(&mut child.stdin.take().expect("stdin"), b"typed\n").expect("typed");
    let said = Said::of(&child.wait_with_output().expect("it ends"));
    assert_eq!(said.out, "typed\n");
}

#[test]
fn the_root_directory_itself_is_the_images_whatever_commands_make_of_it() {
    let world = World::with_base();
    world.write("context/file", "x");
    // Both come to the same tree, and so to the same key, in another order.
    let tell = "RUN stat -c %a / > /mode && cat /mode\n";
    for steps in ["RUN chmod 777 /\nCOPY file /\n", "COPY file /\nRUN chmod 777 /\n"] {
        world.write("context/Dockerfile", &format!("FROM case-base\n{steps}{tell}"));
        world.run(&["build", "-t", "told", "context"]).ok();
        assert_eq!(
            world.run(&["run", "told", "stat", "-c", "%a", "/mode", "/"]).ok().out,
            "644\n755\n"
        );
        assert_eq!(world.run(&["run", "told", "cat", "/mode"]).ok().out, "755\n", "{steps}");
    }
    // What an image says of it holds, however many layers come above.
    world.write("context/Dockerfile", "FROM case-base\nRUN mkdir /d && chmod 711 /d\n");
    world.run(&["build", "-t", "closed", "context"]).ok();
    let pack = "cp -a /bin /d/ && tar -C /d -cf /closed.tar . && cat /closed.tar";
    let tar = world.command(&["run", "closed", "sh", "-c", pack]).output().expect("a tar").stdout;
    std::fs::write(world.path("closed.tar"), tar).expect("a file");
    world.run(&["import", "closed.tar", "closed-base"]).ok();
    let dockerfile = format!("FROM closed-base\n{tell}COPY file /\n{tell}");
    world.write("context/Dockerfile", &dockerfile);
    let said = world.run(&["build", "--progress", "plain", "-t", "closed", "context"]).ok();
    assert_eq!(said.err.matches(" 711\n").count(), 2, "{}", said.err);
    assert_eq!(world.run(&["run", "closed", "stat", "-c", "%a", "/"]).ok().out, "711\n");
}

#[test]
fn a_program_whose_file_was_replaced_runs_commands_all_the_same() {
    let world = World::with_base();
    let (program, kept) =
        (world.path("strata"), world.command(&["build", "--progress", "plain", "-"]));
    std::fs::copy(kept.get_program(), &program).expect("a copy");
    let mut command = Command::new(&program);
    command.args(kept.get_args()).env_clear().current_dir(world.path("."));
    command.envs(kept.get_envs().filter_map(|(name, value)| Some((name, value?))));
    command.stdin(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the program starts");
    // It has been started, and reads now what to build.
    std::fs::remove_file(&program).expect("removed");
    std::fs::write(&program, "another version").expect("another file");
    let mut stdin = child.stdin.take().expect("its input");
    stdin.write_all(b"FROM case-base\nRUN echo new > /f\n").expect("a Dockerfile");
    drop(stdin);
    let said = Said::of(&child.wait_with_output().expect("it ends")).ok();
    assert_eq!(said.ran(), ["RUN echo new > /f"], "{}", said.err);
}

#[test]
fn what_the_store_has_lost_is_made_again() {
    let world = World::with_base();
    world.write("app/big", &"big ".repeat(50_000));
    let dockerfile = "FROM case-base\nCOPY big /\nRUN seq 30000 > /made\nRUN cp /made /copy\n";
    world.write("app/Dockerfile", dockerfile);
    world.run(&["build", "app"]).ok();
    let check = |what: &str| {
        let said = world.run(&["build", "-o", "out", "app"]).ok();
        let made = std::fs::read(world.path("out/copy")).expect("a file");
        assert!(made.ends_with(b"\n30000\n") && made.starts_with(b"1\n2\n"), "{what}");
        let big = std::fs::read(world.path("out/big")).expect("a file");
        assert_eq!(big.len(), 200_000, "{what}");
        said
    };
    assert_eq!(check("nothing is lost").ran(), [""; 0]);

    std::fs::remove_dir_all(world.path("store/snapshots-1")).expect("removed");
    let ran = check("layers as directories").ran();
    assert_eq!(ran, ["RUN seq 30000 > /made"], "which is all that the copy was made of");

    std::fs::remove_dir_all(world.path("store/blobs-1")).expect("removed");
    std::fs::remove_dir_all(world.path("store/snapshots-1")).expect("removed");
    // An image that was built and lost is nowhere else, and only a check finds out beforehand.
    world.run(&["fsck", "--repair"]).ok();
    world.run(&["build", "-q", "-t", "case-base", "base"]).ok();
    let ran = check("everything that is a file").ran();
    assert_eq!(ran, ["COPY big /", "RUN seq 30000 > /made", "RUN cp /made /copy"]);

    let snapshots = std::fs::read_dir(world.path("store/snapshots-1")).expect("snapshots");
    for snapshot in snapshots {
        for name in ["made", "copy"] {
            let path = snapshot.as_ref().expect("one").path().join("fs").join(name);
            if let Ok(bytes) = std::fs::read(&path) {
                std::fs::write(&path, [b"X", &bytes[1..]].concat()).expect("damaged");
            }
        }
    }
    assert!(check("flipped bytes").err.contains("every step is done again"));
    assert_eq!(check("nothing is lost any more").ran(), [""; 0]);
}
