//! Commands that take all there is: processes, memory, the disk, the longest paths. And the flags
//! that hold them.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use crate::sandbox::{leftovers, wait_until};
use crate::world::{Said, World, is_root};

#[test]
fn run_has_dockers_flags_for_what_needs_no_cgroup() {
    let world = World::with_base();
    // The second word alone: the container's own name is made of random digits.
    let look = "ulimit -n; df -k /dev/shm | tail -n 1 | awk '{print $2}'; \
                awk '$2 == \"db\" || $2 == \"here\"' /etc/hosts";
    let flags = ["--ulimit", "nofile=100:200", "--shm-size", "1m", "--add-host", "db:10.0.0.7"];
    let gateway = ["--add-host", "here:host-gateway"];
    let command = ["case-base", "sh", "-c", look];
    let said = world.run(&[&["run"], &flags[..], &gateway, &command].concat()).ok();
    assert_eq!(said.out, "100\n1024\n10.0.0.7\tdb\n127.0.0.1\there\n");
    for (flag, value, expected) in [
        ("--cpus", "none", "a number of processors"),
        ("--cpus", "0", "a number of processors"),
        ("--pids-limit", "-2", "a number from -1"),
        ("--memory", "1k", "the least is 6m"),
    ] {
        let said = world.run(&["run", flag, value, "case-base", "true"]);
        assert_eq!(said.code, 2, "{}", said.err);
        assert!(said.err.contains(expected), "{}", said.err);
    }
    let said = world.run(&["run", "--cpus", "1", "--cpu-quota", "5", "case-base", "true"]);
    assert_eq!(said.code, 2, "{}", said.err);
    world.run(&["run", "--pids-limit", "-1", "case-base", "true"]).ok();
}

/// The settings of a process's runs, by the names of their files.
fn settings(pid: u32, file: &str) -> Vec<String> {
    let folders = |path: &Path| -> Vec<PathBuf> {
        let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
        entries.map(|entry| entry.path()).collect()
    };
    let root = Path::new("/sys/fs/cgroup");
    let mut all = folders(root);
    all.extend(folders(root).iter().flat_map(|path| folders(path)));
    let name = format!("strata-run-{pid}-");
    let is_its = |path: &&PathBuf| {
        path.file_name().is_some_and(|own| own.to_string_lossy().starts_with(&name))
    };
    let texts = all.iter().filter(is_its).map(|path| std::fs::read_to_string(path.join(file)));
    texts.flatten().map(|text| text.trim().to_owned()).collect()
}

#[test]
fn run_has_dockers_limits() {
    let world = World::with_base();
    let flags = ["run", "--cpus", "0.5", "--pids-limit", "30", "--memory", "64m"];
    if !is_root() {
        // Nobody has given this user a cgroup.
        let said = world.run(&[&flags[..], &["case-base", "true"]].concat());
        assert_eq!(said.code, 3, "{}", said.err);
        assert!(said.err.contains("set the limits"), "{}", said.err);
        return;
    }
    let arguments = [&flags[..], &["case-base", "cat"]].concat();
    let mut command = world.command(&arguments);
    let mut child = command.stdin(Stdio::piped()).spawn().expect("it starts");
    let pid = child.id();
    wait_until("the limits are set", || {
        [settings(pid, "cpu.cfs_quota_us"), settings(pid, "cpu.max")].concat().len() == 1
            && [settings(pid, "pids.max"), settings(pid, "memory.max")].concat().iter().len() > 0
    });
    let cpus = [settings(pid, "cpu.cfs_quota_us"), settings(pid, "cpu.max")].concat();
    assert!(["50000", "50000 100000"].contains(&&*cpus[0]), "{cpus:?}");
    drop(child.stdin.take());
    assert!(child.wait().expect("it ends").success());
    assert_eq!(settings(pid, "cgroup.procs"), [""; 0]);
    let take = "head -c 200m /dev/zero | tail -c 190m | wc -c";
    let said = world.run(&[&flags[..], &["case-base", "sh", "-c", take]].concat());
    assert_ne!(said.out, "199229440\n");
    let forks = "for n in $(seq 40); do sleep 100 & done; echo alive";
    let said = world.run(&[&flags[..], &["case-base", "sh", "-c", forks]].concat());
    assert!(said.err.contains("can't fork") && said.out.is_empty(), "{}{}", said.out, said.err);
}

#[test]
fn a_fork_bomb_is_held() {
    if !is_root() {
        return;
    }
    let world = World::with_base();
    world.write("app/Dockerfile", "FROM case-base\nRUN bomb() { bomb | bomb; }; bomb\n");
    let said = world.run(&["build", "--resource", "pids=200", "app"]);
    assert_eq!(said.code, 1, "{}", said.err);
    assert!(said.err.contains("can't fork"), "{}", said.err);
    assert_eq!(leftovers(&world), [""; 0]);
}

/// Builds in a store of so many megabytes, one after the other, and what each said.
fn in_small_store(world: &World, megabytes: u32, builds: &[&[&str]]) -> Vec<Said> {
    let mut script = format!("mount -t tmpfs -o size={megabytes}m tmpfs store || exit 9\n");
    for (number, arguments) in builds.iter().enumerate() {
        script +=
            &format!("\"$0\" {} > {number} 2>&1; echo $? > {number}.code\n", arguments.join(" "));
    }
    std::fs::create_dir_all(world.path("store")).expect("a folder");
    let mut shell = world.through(&["unshare", "--mount", "sh", "-c", &script], &[]);
    assert!(shell.status().expect("unshare").success());
    let read = |name: String| std::fs::read_to_string(world.path(&name)).expect("what was said");
    let said = |number: usize| Said {
        code: read(format!("{number}.code")).trim().parse().expect("a code"),
        out: String::new(),
        err: read(number.to_string()),
    };
    (0..builds.len()).map(said).collect()
}

#[test]
fn a_command_that_fills_the_disk_fails_and_loses_nothing() {
    if !is_root() {
        return;
    }
    let world = World::new();
    crate::world::base_context(&world.path("base"));
    let fill = "dd if=/dev/zero of=/big bs=1M";
    world.write("fails/Dockerfile", &format!("FROM case-base\nRUN echo a > /a\nRUN {fill}\n"));
    world.write("works/Dockerfile", &format!("FROM case-base\nRUN {fill} || true\n"));
    world.write("small/Dockerfile", "FROM case-base\nRUN echo a > /a\nRUN echo b > /b\n");
    let builds: [&[&str]; 5] = [
        &["build", "-t", "case-base", "base"],
        &["build", "fails"],
        &["build", "works"],
        &["build", "small"],
        &["fsck"],
    ];
    let said = in_small_store(&world, 80, &builds);
    assert_eq!(said[0].code, 0, "{}", said[0].err);
    assert_eq!(said[1].code, 1, "{}", said[1].err);
    for part in ["No space left on device", "exit code: 1", "Dockerfile:3"] {
        assert!(said[1].err.contains(part), "{part}: {}", said[1].err);
    }
    // The command is content, and what it made can not be kept.
    assert_eq!(said[2].code, 3, "{}", said[2].err);
    assert!(said[2].err.contains("hint: the disk is full"), "{}", said[2].err);
    assert_eq!(said[3].code, 0, "{}", said[3].err);
    assert_eq!(said[3].ran(), ["RUN echo b > /b"], "what was done before is kept");
    assert_eq!(said[4].code, 0, "{}", said[4].err);
}

#[test]
fn paths_of_3900_bytes_are_kept() {
    let world = World::with_base();
    let deep = "p=; for i in $(seq 15); do p=$p/$(printf %0250d $i); done; f=$p/$(printf %0134d 7)";
    world.write(
        "app/Dockerfile",
        &format!(
            "FROM case-base AS made\nRUN {deep}; mkdir -p $p && echo deep > $f && echo ${{#f}}\n\
             RUN {deep}; echo deeper >> $f; ln -s x $p/link\n\
             FROM case-base\nCOPY --from=made /0* /copied/\n\
             COPY --from=made / /all\n\
             RUN {deep}; cat /all$f; rm -r /all/0*\n"
        ),
    );
    let said = world.run(&["build", "-t", "app", "-o", "type=tar,dest=app.tar", "app"]).ok();
    assert!(said.err.lines().any(|line| line.ends_with(" 3900")), "{}", said.err);
    assert!(said.err.lines().any(|line| line.ends_with(" deeper")), "{}", said.err);
    assert_eq!(world.run(&["build", "-t", "app", "app"]).ok().ran(), [""; 0]);
    world.run(&["fsck"]).ok();
    let prune = world.run(&["prune", "--all", "--force"]);
    assert_eq!(prune.code, 0, "{}", prune.err);
}
