//! Stages side by side, and builds that end before their end: what is told, what is kept, and
//! that nothing is left.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::sandbox::{leftovers, wait_until};
use crate::world::{Said, World, is_root};

/// Starts a build and waits until a command in it has written `started`.
fn started(command: &mut Command) -> (Child, BufReader<std::process::ChildStderr>, String) {
    let mut child = command.stderr(Stdio::piped()).spawn().expect("the program starts");
    let mut stderr = BufReader::new(child.stderr.take().expect("its stderr"));
    let mut said = String::new();
    while !said.ends_with(" started\n") {
        assert!(stderr.read_line(&mut said).expect("a line") > 0, "{said}");
    }
    (child, stderr, said)
}

fn signal(child: &Child, name: &str) {
    let kill = Command::new("kill").args([name, &child.id().to_string()]).status();
    assert!(kill.expect("kill").success());
}

fn rest(mut child: Child, mut stderr: BufReader<std::process::ChildStderr>) -> Said {
    let mut err = String::new();
    std::io::Read::read_to_string(&mut stderr, &mut err).expect("text");
    let status = child.wait().expect("it ends");
    let output = std::process::Output { status, stdout: Vec::new(), stderr: err.into_bytes() };
    Said::of(&output)
}

fn events(said: &Said) -> Vec<Value> {
    said.err.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

#[test]
fn sixty_four_stages_run_eight_at_a_time_and_each_once() {
    let world = World::with_base();
    let mut dockerfile = "FROM case-base AS shared\nRUN echo shared > /shared\n".to_owned();
    let mut last = "FROM case-base\n".to_owned();
    for stage in 0..64 {
        // The first eight wait for each other: they can only end if they run at once.
        let meet = "--mount=type=cache,target=/meet";
        let wait = match stage {
            0..8 => {
                "n=0; while [ $(ls /meet | wc -l) -lt 8 ] && [ $n -lt 3000 ]; do sleep 0.02; \
                n=$((n + 1)); done; [ $n -lt 3000 ] && "
            }
            _ => "",
        };
        dockerfile += &format!(
            "FROM shared AS s{stage}\nRUN {meet} touch /meet/{stage}; {wait}echo {stage} > \
                /{stage}; \
             cat /shared /{stage}\n"
        );
        last += &format!("COPY --from=s{stage} /{stage} /all/\n");
    }
    world.write(
        "app/Dockerfile",
        &format!("{dockerfile}{last}CMD [\"sh\", \"-c\", \"cat /all/* | sort -n\"]\n"),
    );
    let arguments = ["build", "--jobs", "8", "--progress", "rawjson", "-t", "app", "app"];
    let said = world.run(&arguments).ok();
    let (mut running, mut most) = (0, 0);
    let mut begun: BTreeMap<u64, usize> = BTreeMap::new();
    let mut output: BTreeMap<u64, String> = BTreeMap::new();
    for event in events(&said) {
        let step = event["step"].as_u64().unwrap_or_default();
        match event["event"].as_str() {
            Some("running") => {
                *begun.entry(step).or_default() += 1;
                running += 1;
                most = most.max(running);
            }
            Some("done") if event["cached"] == false => running -= 1,
            Some("output") => {
                *output.entry(step).or_default() += event["text"].as_str().expect("text");
            }
            _ => {}
        }
    }
    assert_eq!(most, 8);
    assert_eq!(running, 0);
    assert!(begun.values().all(|times| *times == 1), "{begun:?}");
    let mut outputs: Vec<String> = output.into_values().collect();
    outputs.sort();
    let mut expected: Vec<String> = (0..64).map(|stage| format!("shared\n{stage}\n")).collect();
    expected.sort();
    assert_eq!(outputs, expected, "each step's output is its own");
    let all: String = (0..64).map(|stage| format!("{stage}\n")).collect();
    assert_eq!(world.run(&["run", "app"]).ok().out, all);
    assert_eq!(world.run(&["build", "app"]).ok().ran(), [""; 0]);
}

#[test]
fn a_stage_that_fails_ends_the_others_and_says_where_its_log_is() {
    let world = World::with_base();
    world.write(
        "app/Dockerfile",
        "FROM case-base AS slow\n\
         RUN --mount=type=cache,target=/meet touch /meet/slow; sleep 1000\n\
         FROM case-base AS wrong\n\
         RUN --mount=type=cache,target=/meet while [ ! -e /meet/slow ]; do sleep 0.02; done; \
             echo the reason >&2; exit 7\n\
         FROM case-base\nCOPY --from=slow /bin/sh /a\nCOPY --from=wrong /bin/sh /b\n",
    );
    let said = world.run(&["build", "--jobs", "2", "app"]);
    assert_eq!(said.code, 1);
    let ended = |word: &str| said.err.lines().filter(|line| line.ends_with(word)).count();
    assert_eq!((ended(" ERROR"), ended(" CANCELED")), (1, 1), "{}", said.err);
    assert!(said.err.contains("did not complete successfully: exit code: 7"), "{}", said.err);
    let log = said.err.split("all of its output is in `").nth(1).expect("a log");
    let log = log.split('`').next().expect("a path");
    assert_eq!(std::fs::read_to_string(log).expect("the log"), "the reason\n");
    assert_eq!(leftovers(&world), [""; 0]);
}

#[test]
fn what_ends_a_build_is_told_with_what_is_kept() {
    let world = World::with_base();
    world.write(
        "app/Dockerfile",
        "FROM case-base\nRUN echo done > /finished\nRUN echo started; trap '' TERM INT HUP; \
         (setsid sleep 1000 &); sleep 1000\n",
    );
    for (name, code) in [("-INT", 130), ("-TERM", 143), ("-HUP", 129)] {
        // Whoever runs the tests may have been started by `nohup`.
        let (child, stderr, before) =
            started(&mut world.through(&["env", "--default-signal=HUP"], &["build", "app"]));
        signal(&child, name);
        let said = rest(child, stderr);
        assert_eq!(said.code, code, "{}", said.err);
        assert!(said.err.contains("error: cancelled"), "{}", said.err);
        assert!(
            said.err.contains("note: ended before it was done: `[3/3] RUN echo started"),
            "{}",
            said.err
        );
        let is_first = before.contains("why: first build\n#2");
        let kept = "kept for the next build: `[1/3] FROM case-base`, `[2/3] RUN echo done";
        assert!(said.err.contains(kept) || !is_first, "{}", said.err);
        assert_eq!(leftovers(&world), [""; 0]);
    }
    world.write("app/Dockerfile", "FROM case-base\nRUN echo done > /finished\n");
    assert_eq!(world.run(&["build", "app"]).ok().ran(), [""; 0]);
}

#[test]
fn with_nohup_a_build_outlives_its_terminal() {
    let world = World::with_base();
    world.write("app/Dockerfile", "FROM case-base\nRUN echo started; sleep 1; echo ended\n");
    let ignoring = ["env", "--ignore-signal=HUP"];
    let (child, stderr, _) = started(&mut world.through(&ignoring, &["build", "app"]));
    signal(&child, "-HUP");
    let said = rest(child, stderr).ok();
    assert!(said.err.contains(" ended\n"), "{}", said.err);
}

#[test]
fn a_second_signal_ends_a_build_on_the_spot_and_nothing_is_left() {
    let world = World::with_base();
    world.write(
        "app/Dockerfile",
        "FROM case-base\nRUN echo started; trap '' TERM INT HUP; (setsid sleep 1000 &); \
         sleep 1000\n",
    );
    for _ in 0..5 {
        let (child, stderr, _) = started(&mut world.command(&["build", "app"]));
        for _ in 0..2 {
            signal(&child, "-INT");
        }
        let said = rest(child, stderr);
        assert_eq!(said.code, 130, "{}", said.err);
        wait_until("processes and mounts are gone", || leftovers(&world).is_empty());
    }
    world.write("app/Dockerfile", "FROM case-base\nRUN echo quick\n");
    world.run(&["build", "app"]).ok();
    let staging = std::fs::read_dir(world.path("store/staging")).expect("staging").count();
    assert_eq!(staging, 0);
}

#[test]
fn a_build_that_takes_too_long_is_ended() {
    let world = World::with_base();
    world.write(
        "app/Dockerfile",
        "FROM case-base\nRUN trap '' TERM; (setsid sleep 1000 &) ; sleep 1000\n",
    );
    let said = world.run(&["build", "--timeout", "1500ms", "app"]);
    assert_eq!(said.code, 1, "{}", said.err);
    assert!(said.err.contains("error: the build took longer than 1.5s"), "{}", said.err);
    assert_eq!(leftovers(&world), [""; 0]);
    let said = world.run(&["build", "--timeout", "soon", "app"]);
    assert_eq!(said.code, 2);
    assert!(said.err.contains("`--timeout soon`: this is no duration"), "{}", said.err);
    world.write("app/Dockerfile", "FROM case-base\nRUN true\n");
    world.run(&["build", "--timeout", "1h", "app"]).ok();
}

#[test]
fn endless_output_is_held_and_what_is_left_out_is_counted() {
    let world = World::with_base();
    world.write("app/Dockerfile", "FROM case-base\nRUN yes | head -c 3000000; exit 4\n");
    let mut command = world.command(&["build", "app"]);
    let command = command.env("BUILDKIT_STEP_LOG_MAX_SIZE", "1000");
    let said = Said::of(&command.output().expect("it starts"));
    assert_eq!(said.code, 1);
    let cut = "[2999000 more bytes of output are left out: the limit is 1000]";
    assert!(said.err.contains(cut), "{}", said.err);
    assert!(said.err.len() < 20_000);
    let log = said.err.split("all of its output is in `").nth(1).expect("a log");
    let log = std::fs::read_to_string(log.split('`').next().expect("a path")).expect("the log");
    assert!(log.starts_with("y\ny\n") && log.ends_with(&format!("{cut}\n")) && log.len() < 1200);
}

#[test]
fn zombies_and_daemons_are_gone_with_their_step() {
    let world = World::with_base();
    world.write(
        "app/Dockerfile",
        "FROM case-base\n\
         RUN for n in $(seq 300); do (true &); done; for n in $(seq 20); do (setsid sleep 1000 &); \
         done; echo done\nRUN ps -o comm | grep -c sleep; true\n",
    );
    let said = world.run(&["build", "app"]).ok();
    assert!(said.err.lines().any(|line| line.ends_with(" 0")), "{}", said.err);
    assert_eq!(leftovers(&world), [""; 0]);
}

/// How often: more by hand, as in `STRATA_KILLS=200 cargo nextest run … killed_at_random`.
fn kills() -> u64 {
    std::env::var("STRATA_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(15)
}

#[test]
fn killed_at_random_moments_builds_leave_nothing() {
    let world = World::with_base();
    world.write("token", "a secret");
    let commands: String = (0..6)
        .map(|step| {
            format!(
                "RUN --mount=type=cache,target=/c,sharing=locked --mount=type=tmpfs,target=/t \
                 --mount=type=secret,id=token --mount=target=/in \
                 echo {step} > /file{step}; (setsid sleep 100 &); seq 2000 > /c/{step}; sleep \
                     0.05\n"
            )
        })
        .collect();
    let mut random = u64::from(std::process::id());
    let mut pids = Vec::new();
    for kill in 0..kills() {
        // The last argument is new each time: no step is in the cache.
        world.write("app/Dockerfile", &format!("FROM case-base\nENV N={kill}\n{commands}"));
        let mut command = world.command(&["build", "--secret", "id=token,src=token", "app"]);
        if is_root() {
            command.args(["--resource", "pids=500"]);
        }
        let mut child =
            command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("it starts");
        pids.push(child.id());
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        std::thread::sleep(Duration::from_millis((random >> 33) % 1200));
        // Three ways to go: kill -9, Ctrl-C, and Ctrl-C twice.
        match kill % 3 {
            0 => drop(child.kill()),
            ways => {
                let pid = child.id().to_string();
                for _ in 0..ways {
                    drop(Command::new("kill").args(["-INT", &pid]).stderr(Stdio::null()).status());
                }
            }
        }
        child.wait().expect("it ends");
        wait_until("processes and mounts are gone", || leftovers(&world).is_empty());
    }
    world.write("app/Dockerfile", &format!("FROM case-base\n{commands}"));
    world.run(&["build", "--secret", "id=token,src=token", "app"]).ok();
    let staging = std::fs::read_dir(world.path("store/staging")).expect("staging").count();
    assert_eq!(staging, 0, "no temporary directory is left");
    // Other tests have some of their own at the moment: these builds' are told by their numbers.
    let cgroups = Command::new("find").args(["/sys/fs/cgroup", "-name", "strata-*"]).output();
    let cgroups = String::from_utf8_lossy(&cgroups.expect("find").stdout).into_owned();
    let is_ours = |name: &&str| pids.iter().any(|pid| name.contains(&format!("-{pid}-")));
    assert_eq!(cgroups.lines().filter(is_ours).collect::<Vec<_>>(), [""; 0]);
    let caches = std::fs::read_dir(world.path("store/caches-1")).expect("caches").count();
    assert_eq!(caches, 2, "one cache and its lock");
}
