//! `RUN --mount=type=bind` and `type=tmpfs`, option by option.

use crate::world::World;

/// Builds and gives what the last stage's `/out` says.
fn out(world: &World, dockerfile: &str, more: &[&str]) -> String {
    world.write("app/Dockerfile", &format!("{dockerfile}CMD [\"cat\", \"/out\"]\n"));
    world.run(&[&["build", "-t", "app"], more, &["app"]].concat()).ok();
    world.run(&["run", "app"]).ok().out
}

#[test]
fn bind_mounts_show_files_and_take_nothing_back() {
    let world = World::with_base();
    world.write("app/dir/a", "a\n");
    world.write("app/dir/sub/b", "b\n");
    world.write("named/c", "c\n");
    let dockerfile = "FROM case-base AS other\nRUN mkdir /d && echo stage > /d/file\n\
        FROM case-base\nWORKDIR /w\n\
        RUN --mount=target=/in (cat /in/dir/a; touch /in/x || echo read-only) > /out 2>/dev/null\n\
        RUN --mount=type=bind,source=dir,target=in,rw=true \
            rm in/a && echo new > in/new && ls in >> /out\n\
        RUN --mount=type=bind,source=dir/sub/b,dst=/w/file cat file >> /out; [ -f file ]\n\
        RUN --mount=type=bind,from=other,src=/d,target=/d,readonly=false \
            cat /d/file >> /out; echo lost > /d/file\n\
        RUN --mount=type=bind,from=other,target=/o cat /o/d/file >> /out\n\
        RUN --mount=type=bind,from=named,target=/n cat /n/c >> /out\n\
        RUN --mount=type=bind,from=case-base,source=bin,target=/tools,readwrite \
            /tools/busybox echo image >> /out; rm /tools/sh\n\
        RUN --mount=target=/in/dir,source=dir/sub --mount=target=/in \
            (ls /in/dir; ls /in | head -n 2) >> /out\n\
        RUN ls -d /in /w/in /w/file /d /o /n /tools 2>/dev/null >> /out; true\n";
    let expected = "a\nread-only\nnew\nsub\nb\nstage\nstage\nc\nimage\nb\nDockerfile\ndir\n";
    assert_eq!(out(&world, dockerfile, &["--build-context", "named=named"]), expected);
    let read = |name: &str| std::fs::read_to_string(world.path(name)).expect("it is there");
    assert_eq!((read("app/dir/a"), read("app/dir/sub/b")), ("a\n".into(), "b\n".into()));
    assert!(!world.path("app/dir/new").exists() && !world.path("app/x").exists());
    // The next one who mounts it sees nothing of what was written.
    let again = out(
        &world,
        "FROM case-base\nRUN --mount=source=dir,target=/in,rw ls /in > /out; echo 2 > /in/a\n\
         RUN --mount=source=dir,target=/in cat /in/a >> /out\n",
        &[],
    );
    assert_eq!(again, "a\nsub\na\n");
    let wrong = |mount: &str, message: &str| {
        let text = format!("FROM case-base\nRUN --mount={mount} true\n");
        world.write("wrong/Dockerfile", &text);
        let said = world.run(&["build", "wrong"]);
        assert_eq!(said.code, 1, "{}", said.err);
        assert!(said.err.contains(message), "{}", said.err);
        assert!(said.err.contains("Dockerfile:2:"), "it has a place: {}", said.err);
    };
    wrong("source=nowhere,target=/in", "`/nowhere` is not in the build context");
    wrong("target=/", "a mount can not replace the root");
    wrong("target=/bin/sh", "cannot mount at `/bin/sh`: it is a file, and a directory is mounted");
    wrong("type=bind,from=case-base,source=/nowhere,target=/in", "is not in");
}

#[test]
fn variables_in_mounts_are_those_of_the_stage() {
    let world = World::with_base();
    world.write("app/v2/file", "two\n");
    let dockerfile = "FROM case-base\nARG VERSION=1\nENV PLACE=/place\n\
        RUN --mount=source=v$VERSION/file,target=${PLACE}/file cat /place/file > /out\n";
    assert_eq!(out(&world, dockerfile, &["--build-arg", "VERSION=2"]), "two\n");
}

#[test]
fn tmpfs_mounts_have_the_size_that_was_asked_for_and_are_gone() {
    let world = World::with_base();
    let dockerfile = "FROM case-base\nRUN mkdir /t && echo below > /t/below\n\
        RUN --mount=type=tmpfs,target=/t,size=64k (ls /t; stat -c '%a %u' /t; \
            head -c 1000000 /dev/zero > /t/big || echo full; stat -c %s /t/big) > /out \
                2>/dev/null\n\
        RUN --mount=type=tmpfs,target=/new head -c 1000000 /dev/zero > /new/big && echo fits >> \
            /out\n\
        RUN cat /t/below >> /out; ls -d /new /t/big 2>/dev/null >> /out; true\n";
    assert_eq!(out(&world, dockerfile, &[]), "755 0\nfull\n65536\nfits\nbelow\n");
}

#[test]
fn a_working_directory_is_made_in_a_mount_or_the_build_says_why_not() {
    let world = World::with_base();
    world.write("app/in/a", "");
    let build = |dockerfile: &str| {
        world.write("app/Dockerfile", dockerfile);
        world.run(&["build", "app"])
    };
    let said =
        build("FROM case-base\nWORKDIR /w/d\nRUN --mount=type=bind,target=/w,source=in pwd\n");
    assert_eq!(said.code, 1, "{}", said.err);
    for part in [
        "error: cannot make the working directory `/w/d`: Read-only file system\n --> ",
        "app/Dockerfile:3:1",
        "hint: let the mount be written to, as by `rw`\n",
    ] {
        assert!(said.err.contains(part), "`{part}` is not in:\n{}", said.err);
    }
    let rw = "FROM case-base\nWORKDIR /w/d\nRUN --mount=type=bind,target=/w,source=in,rw pwd\n";
    build(rw).ok();
    let said = build("FROM case-base\nWORKDIR /proc/nothing\nRUN pwd\n");
    assert_eq!(said.code, 1, "{}", said.err);
    assert!(said.err.contains("error: cannot make the working directory `/proc/nothing`: No such"));
    assert!(!said.err.contains("hint: "), "{}", said.err);
}

#[test]
fn a_working_directory_in_a_mount_is_roots_whoever_works_in_it() {
    let world = World::with_base();
    for mount in ["type=tmpfs", "type=cache"] {
        let dockerfile = format!(
            "FROM case-base\nRUN touch /out && chmod 666 /out\nWORKDIR /w/d/e\nUSER 7\n\
             RUN --mount={mount},target=/w pwd > /out && stat -c '%u:%g %a' /w/d . >> /out\n"
        );
        assert_eq!(out(&world, &dockerfile, &[]), "/w/d/e\n0:0 755\n0:0 755\n", "{mount}");
    }
}

#[test]
fn a_mount_that_can_not_be_says_where_and_why() {
    let world = World::with_base();
    world.write("app/in/file", "");
    let check = |mounts: &str, expected: &str| {
        world
            .write("app/Dockerfile", &format!("FROM case-base\nRUN touch /f\nRUN {mounts} true\n"));
        let said = world.run(&["build", "app"]);
        assert_eq!(said.code, 1, "{}", said.err);
        let expected = format!("error: cannot mount at {expected}\n --> ");
        assert!(said.err.contains(&expected), "`{expected}` is not in:\n{}", said.err);
        assert!(said.err.contains("app/Dockerfile:3:1"), "{}", said.err);
        assert!(!said.err.contains("hint: "), "{}", said.err);
    };
    let bind = "--mount=type=bind,target=/m,source=in";
    check("--mount=type=tmpfs,target=/f/x", "`/f/x`: it is below a file");
    check("--mount=type=cache,target=/f/x", "`/f/x`: it is below a file");
    check("--mount=type=tmpfs,target=/f", "`/f`: it is a file, and a directory is mounted");
    let inside = |target: &str| format!("{bind} --mount=type=tmpfs,target={target}");
    let read_only = "it is not in the mount above it, which is read-only";
    check(&inside("/m/new"), &format!("`/m/new`: {read_only}"));
    check(&inside("/m/file/x"), "`/m/file/x`: it is below a file");
    check(&inside("/m/file"), "`/m/file`: it is a file, and a directory is mounted");
    let file = "--mount=type=bind,source=in/file,target=/c";
    check(
        &format!("--mount=type=bind,target=/c,source=. {file}/in"),
        "`/c/in`: it is a directory, and a file is mounted",
    );
    // What can be made is made.
    let world = World::with_base();
    world.write("app/in/file", "");
    let fine = "RUN --mount=type=cache,target=/c --mount=type=tmpfs,target=/c/a/b \
                --mount=type=bind,source=in/file,target=/c/f ls /c > /out\n";
    assert_eq!(out(&world, &format!("FROM case-base\n{fine}"), &[]), "a\nf\n");
}
