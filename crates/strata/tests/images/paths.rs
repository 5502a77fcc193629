//! Every path that a Dockerfile or a flag can name, with `..` and links in it: none leads out of
//! the context, the image or the store.

use std::collections::BTreeMap;
use std::os::unix::fs::symlink;
use std::path::Path;

use crate::world::World;

/// What lies outside, and must be seen by nobody and stay as it is.
const SECRET: &str = "secret-7f3a91";

/// As many as any path here is deep, and more.
const UP: &str = "../../../../../../../../../..";

/// A context with links out of it, and an image with links out of it.
fn world() -> World {
    let world = World::with_base();
    world.write("outside/secret", SECRET);
    world.write("outside/Dockerfile", "FROM case-base\nCOPY file /file\n");
    world.write("app/file", "inside");
    world.write("app/dir/file", "inside");
    let outside = world.path("outside");
    let link = |target: &Path, name: &str| {
        std::fs::create_dir_all(world.path(name).parent().expect("a folder")).expect("folders");
        symlink(target, world.path(name)).expect("a link");
    };
    link(&outside, "app/absolute");
    link(Path::new("../outside"), "app/relative");
    link(Path::new("../../outside"), "app/dir/up");
    link(&outside.join("secret"), "app/direct");
    let climbing = format!("{UP}{}", outside.display());
    link(&outside, "image/root/absolute");
    link(Path::new(&climbing), "image/root/climbing");
    world.write("image/Dockerfile", "FROM case-base\nCOPY root /\n");
    world.run(&["build", "-q", "-t", "linked", "image"]).ok();
    world
}

/// All files below a folder, links not followed.
fn everything(at: &Path, into: &mut BTreeMap<String, Vec<u8>>) {
    for entry in std::fs::read_dir(at).into_iter().flatten().flatten() {
        let (path, name) = (entry.path(), entry.path().display().to_string());
        match entry.file_type().expect("a type") {
            kind if kind.is_dir() => {
                into.insert(name, Vec::new());
                everything(&path, into);
            }
            kind if kind.is_file() => drop(into.insert(name, std::fs::read(&path).expect("read"))),
            _ => drop(into.insert(name, b"other".to_vec())),
        }
    }
}

/// Builds, with `OUT` in the text standing for the folder outside. What the build said and made
/// holds no secret, and outside nothing has changed. Gives its exit code and what it said.
fn attempt(world: &World, dockerfile: &str, flags: &[&str]) -> (i32, String) {
    let outside = world.path("outside").display().to_string();
    world.write("app/Dockerfile", &dockerfile.replace("OUT", &outside));
    drop(std::fs::remove_dir_all(world.path("out")));
    let state = |parts: &[&str]| {
        let mut all = BTreeMap::new();
        parts.iter().for_each(|part| everything(&world.path(part), &mut all));
        all
    };
    let before = state(&["outside", "app", "image", "base"]);
    let mut arguments = vec!["build", "-o", "out"];
    arguments.extend(flags);
    if !flags.contains(&"outside") {
        arguments.push("app");
    }
    let said = world.run(&arguments);
    let text = format!("{dockerfile}{flags:?}\n{}{}", said.out, said.err);
    assert!(matches!(said.code, 0 | 1), "{}: {text}", said.code);
    assert!(!text.contains(SECRET), "{text}");
    assert_eq!(state(&["outside", "app", "image", "base"]), before, "{text}");
    let holds = |bytes: &[u8]| bytes.windows(SECRET.len()).any(|part| part == SECRET.as_bytes());
    let leaked: Vec<String> = state(&["out", "store"])
        .into_iter()
        .filter_map(|(name, bytes)| holds(&bytes).then_some(name))
        .collect();
    assert_eq!(leaked, [""; 0], "{text}");
    (said.code, text)
}

#[track_caller]
fn refused(world: &World, dockerfile: &str, flags: &[&str], message: &str) {
    let (code, text) = attempt(world, dockerfile, flags);
    assert_eq!(code, 1, "{text}");
    assert!(text.contains(message), "`{message}` is not in:\n{text}");
}

#[track_caller]
fn stays_inside(world: &World, dockerfile: &str, flags: &[&str], made: &[&str]) {
    let (code, text) = attempt(world, dockerfile, flags);
    assert_eq!(code, 0, "{text}");
    let outside = world.path("outside").display().to_string();
    for path in made {
        let path = path.replace("OUT", &outside);
        let place = world.path("out").join(path.trim_start_matches('/'));
        assert!(place.symlink_metadata().is_ok(), "{path} is not there: {text}");
    }
}

#[test]
fn sources_stay_in_the_context() {
    let world = world();
    for word in ["COPY", "ADD"] {
        for source in [
            "../outside/secret",
            "/../outside/secret",
            "dir/../../outside/secret",
            "./dir/up/secret",
            "relative/secret",
            "absolute/secret",
            "direct",
            "OUT/secret",
            "../outside",
            "dir/up",
        ] {
            let (code, text) =
                attempt(&world, &format!("FROM scratch\n{word} {source} /x/\n"), &[]);
            assert_eq!(code, 1, "{text}");
            assert!(text.contains("is not in"), "{text}");
        }
        // As with BuildKit, what selects nothing by a pattern is none.
        stays_inside(&world, &format!("FROM scratch\n{word} ../out*/secret /x/\n"), &[], &[]);
        // A folder's links stay links.
        stays_inside(&world, &format!("FROM scratch\n{word} . /x/\n"), &[], &["x/relative"]);
        stays_inside(&world, &format!("FROM scratch\n{word} .. /x/\n"), &[], &["x/file"]);
        let by_argument = format!("FROM scratch\nARG P=../outside/secret\n{word} $P /x\n");
        refused(&world, &by_argument, &[], "is not in");
        let parents = format!("FROM scratch\n{word} --exclude={UP}/x dir/../../app/file /x\n");
        drop(attempt(&world, &parents, &[]));
    }
    let parents = "FROM scratch\nCOPY --parents ../outside/./secret /x/\n";
    drop(attempt(&world, &format!("# syntax=docker/dockerfile:1-labs\n{parents}"), &[]));
    // A file that brings back what is outside brings nothing.
    world.write("app/.dockerignore", "*\n!../outside/secret\n!/../outside\n!file\n");
    stays_inside(&world, "FROM scratch\nCOPY . /x/\n", &[], &["x/file"]);
}

#[test]
fn sources_stay_in_their_image_or_named_context() {
    let world = world();
    for source in [
        "/../..OUT/secret",
        "OUT/secret",
        "absolute/secret",
        "climbing/secret",
        "/climbing/../../secret",
    ] {
        let text = format!("FROM case-base\nCOPY --from=linked {source} /x\n");
        refused(&world, &text, &[], "is not in");
    }
    let flags = ["--build-context", "more=app/dir"];
    for source in ["../file", "up/secret", "/../../outside/secret", "OUT/secret"] {
        let text = format!("FROM scratch\nCOPY --from=more {source} /x\n");
        let (code, said) = attempt(&world, &text, &flags);
        // `/../file` of this context is its own `file`.
        assert_eq!(code, i32::from(source != "../file"), "{said}");
    }
    for name in ["../outside", "OUT", "./outside", UP] {
        let (code, said) =
            attempt(&world, &format!("FROM scratch\nCOPY --from={name} / /x\n"), &[]);
        assert_eq!(code, 1, "{said}");
        let (code, said) = attempt(&world, &format!("FROM {name}\n"), &[]);
        assert_eq!(code, 1, "{said}");
    }
}

#[test]
fn destinations_stay_in_the_image() {
    let world = world();
    world.write("made/new", "x");
    let mut tar = std::process::Command::new("tar");
    tar.args(["-cf", "app/a.tar", "made"]).current_dir(world.path(""));
    assert!(tar.status().expect("tar").success());
    let checks = [
        (format!("COPY file {UP}OUT/new"), "OUT/new"),
        (format!("COPY file /{UP}OUT/new"), "OUT/new"),
        ("COPY file /absolute/new".to_owned(), "OUT/new"),
        ("COPY file /climbing/new".to_owned(), "OUT/new"),
        ("COPY dir/file absolute/deeper/".to_owned(), "OUT/deeper/file"),
        (format!("ADD a.tar {UP}OUT/"), "OUT/made/new"),
        ("ADD a.tar /climbing".to_owned(), "OUT/made/new"),
        (format!("COPY <<EOF {UP}OUT/new\ntext\nEOF"), "OUT/new"),
        (format!("WORKDIR {UP}OUT/new"), "OUT/new"),
        ("WORKDIR /absolute/new".to_owned(), "OUT/new"),
        (format!("WORKDIR /climbing/new\nRUN echo x > {UP}OUT/more"), "OUT/more"),
        ("WORKDIR /climbing\nWORKDIR ../up\nRUN echo x > here".to_owned(), "up/here"),
        (format!("COPY --link file {UP}OUT/new"), "OUT/new"),
    ];
    for (lines, made) in checks {
        let copied = ["WORKDIR /climbing\nWORKDIR"].iter().any(|odd| lines.starts_with(odd));
        let made: &[&str] = if copied { &[] } else { &[made] };
        stays_inside(&world, &format!("FROM linked\n{lines}\n"), &[], made);
    }
    for lines in [
        format!("VOLUME {UP}OUT"),
        format!("USER {UP}OUT/secret\nRUN true"),
        format!("COPY --chown={UP}OUT/secret file /x"),
        format!("STOPSIGNAL {UP}OUT"),
        format!("SHELL [\"{UP}OUT/secret\"]\nRUN true"),
        format!("RUN [\"{UP}OUT/secret\"]"),
        format!("COPY <<{UP}/outside/new /x/\ntext\n{UP}/outside/new"),
        format!("FROM linked AS {UP}/outside"),
    ] {
        drop(attempt(&world, &format!("FROM linked\n{lines}\n"), &[]));
    }
}

#[test]
fn mounts_stay_inside() {
    let world = world();
    for mount in [
        "type=bind,source=../outside,target=/m",
        "type=bind,source=/../outside,target=/m",
        "type=bind,source=relative,target=/m",
        "type=bind,source=absolute,target=/m",
        "type=bind,source=dir/up,target=/m",
        "type=bind,source=OUT,target=/m",
        "type=bind,source=../outside/secret,target=/m/secret",
        "type=bind,from=linked,source=/climbing,target=/m",
        "type=bind,from=linked,source=/../..OUT,target=/m",
        "type=bind,from=linked,source=/absolute/secret,target=/m/secret",
        "type=cache,from=linked,source=/climbing,target=/m",
        "type=cache,from=linked,source=../..OUT,target=/m",
    ] {
        let text = format!("FROM case-base\nRUN --mount={mount} cat /m/secret; echo x > /m/new\n");
        refused(&world, &text, &[], "is not in");
    }
    for (mount, place) in [
        ("type=cache,id=../../../outside,target=/m", "/m"),
        ("type=cache,id=OUT,target=/m", "/m"),
        ("type=cache,id=/../../../outside,target=/m,sharing=locked", "/m"),
        ("type=cache,target=/../..OUT", "OUT"),
        ("type=cache,target=/climbing/deeper", "OUT/deeper"),
        ("type=tmpfs,target=../../..OUT", "OUT"),
        ("type=tmpfs,target=/absolute", "OUT"),
        ("type=bind,source=dir,target=/climbing/m,rw", "OUT/m"),
        ("type=bind,source=dir,target=../../..OUT,rw", "OUT"),
    ] {
        let text = format!(
            "FROM linked\nRUN --mount={mount} ! cat {place}/secret 2>/dev/null; \
             echo x > {place}/new\n"
        );
        stays_inside(&world, &text, &[], &[]);
    }
    world.write("token", "another");
    let flags = ["--secret", "id=../../outside/new,src=token"];
    for mount in [
        "type=secret,id=../../outside/new,target=/../../..OUT/new",
        "type=secret,id=../../outside/new,target=/climbing/new",
        "type=secret,id=../../outside/new,target=/absolute/secret",
    ] {
        let text = format!("FROM linked\nRUN --mount={mount} grep -q another OUT/new OUT/secret\n");
        drop(attempt(&world, &text, &flags));
        let text = format!("FROM linked\nRUN --mount={mount} cat OUT/* | grep -q another\n");
        stays_inside(&world, &text, &flags, &[]);
    }
    let by_id = "FROM linked\nRUN --mount=type=secret,id=../../outside/new test -e /run/secrets\n";
    drop(attempt(&world, by_id, &flags));
    for id in ["../outside/secret", "OUT/secret"] {
        let text =
            format!("FROM linked\nRUN --mount=type=secret,id={id},required cat /run/secrets/*\n");
        refused(&world, &text, &[], "secret");
        let text = format!("FROM linked\nRUN --mount=type=ssh,id={id},required true\n");
        refused(&world, &text, &[], "ssh");
    }
}

/// What the caller names is his to choose, and is read there; nothing is written to it.
#[test]
fn a_dockerfile_elsewhere_still_has_its_context_inside() {
    let world = world();
    let (code, text) = attempt(&world, "", &["-f", "outside/Dockerfile"]);
    assert_eq!(code, 0, "{text}");
    let (code, text) = attempt(&world, "", &["-f", "app/../outside/Dockerfile"]);
    assert_eq!(code, 0, "{text}");
}
