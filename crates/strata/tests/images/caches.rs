//! Cache mounts: who may use one at the same time, what a new one begins as, and how they are
//! kept, moved and removed.

use std::io::{BufRead, BufReader};
use std::os::unix::fs::MetadataExt;
use std::process::Stdio;

use crate::world::{Said, World};

/// Fails when another command is in the cache at the same time, and counts.
const ALONE: &str = "mkdir /c/alone && n=$(cat /c/count 2>/dev/null || echo 0) && sleep 0.05 && \
    echo $((n + 1)) > /c/count && rmdir /c/alone";

fn list(world: &World) -> Vec<serde_json::Value> {
    let said = world.run(&["cache", "ls", "--format", "json"]).ok();
    said.out.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

#[test]
fn four_processes_hammer_a_locked_cache_and_none_meets_another() {
    let world = World::with_base();
    let mount = "--mount=type=cache,id=hammered,target=/c,sharing=locked";
    for process in 0..4 {
        let runs: String =
            (0..5).map(|step| format!("RUN {mount} : {process} {step}; {ALONE}\n")).collect();
        world.write(&format!("app{process}/Dockerfile"), &format!("FROM case-base\n{runs}"));
    }
    let builds: Vec<_> = (0..4)
        .map(|process| {
            let mut command = world.command(&["build", &format!("app{process}")]);
            command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts")
        })
        .collect();
    for build in builds {
        Said::of(&build.wait_with_output().expect("it ends")).ok();
    }
    world.write(
        "last/Dockerfile",
        &format!("FROM case-base\nRUN {mount} cat /c/count > /n\nCMD [\"cat\", \"/n\"]\n"),
    );
    world.run(&["build", "-t", "last", "last"]).ok();
    assert_eq!(world.run(&["run", "last"]).ok().out, "20\n");
}

#[test]
fn stages_that_run_at_once_keep_out_of_each_others_locked_cache() {
    let world = World::with_base();
    let mut dockerfile = String::new();
    let mut copies = String::new();
    for stage in 0..6 {
        let mount = "--mount=type=cache,target=/c,sharing=locked";
        dockerfile += &format!(
            "FROM case-base AS s{stage}\nRUN {mount} {ALONE}; echo {stage} > /{stage}; cat \
                /c/count\n"
        );
        copies += &format!("COPY --from=s{stage} /{stage} /\n");
    }
    world.write("app/Dockerfile", &format!("{dockerfile}FROM case-base\n{copies}"));
    let said = world.run(&["build", "--jobs", "6", "app"]).ok();
    assert!(said.err.contains("waiting for the cache mount `/c`, which is in use"), "{}", said.err);
    assert!(said.err.lines().any(|line| line.ends_with(" 6")), "{}", said.err);
}

#[test]
fn shared_caches_are_shared_and_private_ones_are_not() {
    let world = World::with_base();
    // Each stage goes on only when it sees the other one in the shared cache.
    let stage = |me: &str, other: &str| {
        format!(
            "FROM case-base AS {me}\n\
             RUN --mount=type=cache,id=meet,target=/meet \
                 --mount=type=cache,id=own,target=/own,sharing=private \
             touch /meet/{me} && n=0; while [ ! -e /meet/{other} ]; do sleep 0.02; \
             n=$((n + 1)); [ $n -lt 1500 ] || exit 9; done; \
             touch /own/{me}; touch /meet/{me}.done; \
             while [ ! -e /meet/{other}.done ]; do sleep 0.02; done; ls /own > /{me}\n"
        )
    };
    let (one, two) = (stage("one", "two"), stage("two", "one"));
    world.write(
        "app/Dockerfile",
        &format!(
            "{one}{two}FROM case-base\nCOPY --from=one /one /\nCOPY --from=two /two /\n\
             CMD [\"cat\", \"/one\", \"/two\"]\n"
        ),
    );
    world.run(&["build", "--jobs", "2", "-t", "app", "app"]).ok();
    assert_eq!(world.run(&["run", "app"]).ok().out, "one\ntwo\n");
    let own = list(&world).iter().filter(|cache| cache["ID"] == "own").count();
    assert_eq!(own, 2, "one for each that wanted it at the same time");
    // Nobody wants it at the moment: the first one is used again, not a third one made.
    world.write(
        "next/Dockerfile",
        "FROM case-base\nRUN --mount=type=cache,id=own,target=/own,sharing=private ls /own\n",
    );
    world.run(&["build", "next"]).ok();
    assert_eq!(list(&world).iter().filter(|cache| cache["ID"] == "own").count(), 2);
}

#[test]
fn a_new_cache_begins_as_asked_and_is_told_apart_as_buildkit_does() {
    let world = World::with_base();
    world.write("app/seed/file", "from the context\n");
    world.write(
        "app/Dockerfile",
        "FROM case-base AS other\nRUN mkdir -p /data/sub && echo stage > /data/sub/file && \
            chown -R 5:6 /data\n\
         FROM case-base\n\
         RUN --mount=type=cache,target=/a/b/../c echo first > /a/c/file; stat -c '%a %u %g' \
             /a/c > /out\n\
         RUN --mount=type=cache,id=/a/c,target=/x cat /x/file >> /out\n\
         RUN --mount=type=cache,id=/a/c,target=/x,uid=7,gid=8,mode=0711 \
             stat -c '%a %u %g' /x >> /out; ls /x >> /out\n\
         RUN --mount=type=cache,id=s,target=/s,from=other,source=/data \
             cat /s/sub/file >> /out; stat -c '%u %g' /s/sub >> /out; echo more > /s/more\n\
         RUN --mount=type=cache,id=s,target=/t,from=other,source=/data cat /t/more >> /out\n\
         RUN --mount=type=cache,id=c,target=/c,from=context,source=seed cat /c/file >> /out; \
             echo x >> /c/file\n\
         RUN --mount=type=cache,id=/a/c,target=/x,ro echo no > /x/file || echo read-only >> /out\n\
         CMD [\"cat\", \"/out\"]\n",
    );
    let build = |more: &[&str]| {
        let context = ["build", "--build-context", "context=app", "-t", "app"];
        world.run(&[&context[..], more, &["app"]].concat()).ok();
        world.run(&["run", "app"]).ok().out
    };
    let expected = "755 0 0\nfirst\n711 7 8\nstage\n5 6\nmore\nfrom the context\nread-only\n";
    assert_eq!(build(&[]), expected);
    // Another seed is another cache: what the old one has become is not mixed in.
    world.write("app/seed/file", "changed\n");
    let again = build(&[]);
    assert!(again.contains("more\nchanged\nread-only\n"), "{again}");
    let ids = || list(&world).iter().map(|cache| cache["ID"].to_string()).collect::<Vec<_>>();
    assert_eq!(ids(), ["\"/a/c\"", "\"/a/c\"", "\"c\"", "\"c\"", "\"s\""]);
    // A namespace keeps them apart from those of other projects.
    assert_eq!(
        build(&["--build-arg", "BUILDKIT_CACHE_MOUNT_NS=mine"]),
        expected.replace("from the context", "changed")
    );
    assert!(ids().contains(&"\"mine//a/c\"".to_owned()), "{:?}", ids());
}

#[test]
fn a_locked_cache_is_free_as_soon_as_nothing_of_its_killed_build_is_left() {
    let world = World::with_base();
    let mount = "--mount=type=cache,target=/c,sharing=locked";
    world.write(
        "app/Dockerfile",
        &format!(
            "FROM case-base\nRUN {mount} mkdir /c/busy; echo started; \
            (while true; do echo x > /c/busy/x; done) & sleep 1000\n"
        ),
    );
    let mut child =
        world.command(&["build", "app"]).stderr(Stdio::piped()).spawn().expect("it starts");
    let mut lines = BufReader::new(child.stderr.take().expect("its stderr")).lines();
    while let Some(Ok(line)) = lines.next() {
        if line.ends_with(" started") {
            break;
        }
    }
    child.kill().expect("kill -9");
    child.wait().expect("it is dead");
    // The other command would write again what this one removes.
    world.write(
        "next/Dockerfile",
        &format!("FROM case-base\nRUN {mount} rm -r /c/busy && sleep 0.2 && [ ! -e /c/busy ]\n"),
    );
    world.run(&["build", "next"]).ok();
}

#[test]
fn caches_go_to_another_machine_and_come_back() {
    let world = World::with_base();
    world.write(
        "app/Dockerfile",
        "FROM case-base\n\
         RUN --mount=type=cache,id=npm,target=/c,uid=3,gid=4,mode=0750 cd /c && mkdir -p a/b && \
         echo text > a/b/file && ln a/b/file hard && ln -s ../nowhere a/link && mkfifo pipe && \
         chmod 4711 hard && chown 9:9 a && touch -d @1600000000 a/b && mkdir -m 0500 empty\n\
         RUN --mount=type=cache,id=go,target=/c seq 10000 > /c/numbers\n",
    );
    world.run(&["build", "app"]).ok();
    for file in ["caches.tar", "caches.tar.zst"] {
        world.run(&["cache", "export", "-o", file]).ok();
        let other = World::with_base();
        let path = world.path(file).display().to_string();
        assert_eq!(other.run(&["cache", "import", &path]).ok().out, "imported go\nimported npm\n");
        let said = other.run(&["cache", "import", &path]);
        assert_eq!(said.code, 2);
        assert!(said.err.contains("there is a cache `go` already"), "{}", said.err);
        other.run(&["cache", "import", "--replace", &path]).ok();
        let sizes = |world: &World| {
            let size =
                |cache: &serde_json::Value| (cache["Key"].clone(), cache["SizeBytes"].clone());
            list(world).iter().map(size).collect::<Vec<_>>()
        };
        assert_eq!(sizes(&other), sizes(&world));
        other.write(
            "app/Dockerfile",
            "FROM case-base\n\
             RUN --mount=type=cache,id=npm,target=/c,uid=3,gid=4,mode=0750 cd /c && \
             (stat -c '%a %u %g' . a hard; stat -c %h hard; readlink a/link; stat -c %Y a/b; \
             cat a/b/file; ls; stat -c %a empty) > /out\nCMD [\"cat\", \"/out\"]\n",
        );
        other.run(&["build", "-t", "app", "app"]).ok();
        let expected = "750 3 4\n755 9 9\n4711 0 0\n2\n../nowhere\n1600000000\ntext\n\
            a\nempty\nhard\n500\n";
        assert_eq!(other.run(&["run", "app"]).ok().out, expected);
        // Nanoseconds too: what decides by times must not find everything new.
        let key = |world: &World, id: &str| {
            let all = list(world);
            let cache = all.iter().find(|cache| cache["ID"] == id).expect("a cache");
            cache["Key"].as_str().expect("text").to_owned()
        };
        let time = |world: &World| {
            let fs = world.path("store/caches-1").join(key(world, "go")).join("fs/numbers");
            let metadata = fs.metadata().expect("a file");
            (metadata.mtime(), metadata.mtime_nsec())
        };
        assert_eq!(time(&other), time(&world));
        assert_eq!(other.run(&["cache", "rm", "npm"]).ok().out, "removed npm\n");
        assert_eq!(other.run(&["cache", "rm", "--all"]).ok().out, "removed go\n");
        assert_eq!(list(&other).len(), 0);
        let left = std::fs::read_dir(other.path("store/caches-1")).expect("a folder").count();
        assert_eq!(left, 0, "no lock is left either");
    }
    let said = world.run(&["cache", "rm", "npn"]);
    assert_eq!(said.code, 1);
    assert!(said.err.contains("did you mean `npm`?"), "{}", said.err);
}
