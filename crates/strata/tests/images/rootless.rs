//! Builds in a user namespace beside builds without one. `scripts/test-as-user.sh` runs these as
//! an ordinary user; root makes a namespace of his own here, so that both can be compared.

use std::io::Write;
use std::process::{Command, Stdio};

use crate::world::{Said, World, base_context, is_root};

/// A Dockerfile that uses everything that a user namespace could make different: owners, modes,
/// removals, hidden directories, links, capabilities, the root directory itself.
const DOCKERFILE: &str = "FROM base-with-owners\n\
    COPY --chown=7:8 file /copied\n\
    RUN chown 1000:50 /copied && echo more >> /owned/by/others && chmod 4751 /owned/by/others && \
    cd /owned && rm -r gone hidden && mkdir hidden && echo x > hidden/new && \
    mkdir /own && chown 1000:50 /own && \
    ln /copied /linked && ln -s copied /soft && mkfifo /pipe && chmod 1777 /owned && \
    setcap cap_net_raw+ep /copied && \
    touch -hd @1000000000 /copied /soft /pipe /own $(find /owned)\n\
    USER 1000:50\n\
    RUN id -u > /own/id && touch -d @1000000000 /own/id /own\n";

/// The base: files of many owners, a directory to hide, and the program that sets capabilities.
fn write_base(world: &World) {
    base_context(&world.path("base"));
    let linked = Command::new("ldd").arg("/sbin/setcap").output().expect("ldd").stdout;
    let linked = String::from_utf8_lossy(&linked).into_owned();
    let libraries = linked.split_whitespace().filter(|word| word.starts_with('/'));
    for path in libraries {
        let to = world.path("base/root").join(path.trim_start_matches('/'));
        std::fs::create_dir_all(to.parent().expect("a folder")).expect("folders");
        std::fs::copy(path, to).expect("a copy");
    }
    std::fs::copy("/sbin/setcap", world.path("base/bin/setcap")).expect("setcap");
    for (name, text) in [("by/others", "x\n"), ("gone", "y\n"), ("hidden/old", "z\n")] {
        world.write(&format!("base/owned/{name}"), text);
    }
    let text = "FROM scratch\nCOPY bin /bin\nCOPY root /\nCOPY --chown=33:34 owned /owned\n";
    world.write("base/Dockerfile", text);
    world.write("app/file", "content\n");
    world.write("app/Dockerfile", DOCKERFILE);
    // Layers have times, and two folders were not made at the same one.
    let mut touch = Command::new("find");
    touch.args(["base", "app", "-exec", "touch", "-hd", "@1000000000", "{}", "+"]);
    assert!(touch.current_dir(world.path("")).status().expect("find").success());
}

/// Who root of the namespace is outside.
pub(crate) const OUTSIDE: u32 = 200_000;

/// The program as root of a user namespace with so many ids.
pub(crate) fn in_namespace(world: &World, ids: u32, arguments: &[&str]) -> Said {
    let plain = world.command(arguments);
    // The program may lie below a folder of root's, which the namespace's root can not enter.
    let program = world.path("strata");
    if !program.exists() {
        std::fs::copy(plain.get_program(), &program).expect("a copy");
    }
    let mut command = Command::new("setpriv");
    command.args([format!("--reuid={OUTSIDE}"), format!("--regid={OUTSIDE}")]);
    command.args(["--clear-groups", "unshare", "--user", "sh", "-c", "read go; exec \"$@\"", "-"]);
    command.arg(program).args(arguments).current_dir(world.path("")).env_clear();
    command.envs(plain.get_envs().filter_map(|(name, value)| Some((name, value?))));
    command.env("SOURCE_DATE_EPOCH", "1000000000");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("setpriv");
    let of = |process: &str| std::fs::read_link(format!("/proc/{process}/ns/user")).ok();
    let process = child.id().to_string();
    while of(&process) == of("self") {
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    for name in ["uid_map", "gid_map"] {
        let map = format!("0 {OUTSIDE} {ids}\n");
        std::fs::write(format!("/proc/{process}/{name}"), map).expect("a map");
    }
    child.stdin.take().expect("piped").write_all(b"\n").expect("go");
    Said::of(&child.wait_with_output().expect("it ends"))
}

/// Gives a whole world to somebody else.
pub(crate) fn give(world: &World, owner: u32) {
    let path = world.path("");
    let status =
        Command::new("chown").args(["-R", &format!("{owner}:{owner}")]).arg(&path).status();
    assert!(status.expect("chown").success());
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(path, mode).expect("chmod");
}

fn with_epoch(world: &World, arguments: &[&str]) -> Said {
    let mut command = world.command(arguments);
    command.env("SOURCE_DATE_EPOCH", "1000000000");
    Said::of(&command.output().expect("the program starts"))
}

#[test]
fn a_user_namespace_gives_the_same_image() {
    let world = World::new();
    write_base(&world);
    with_epoch(&world, &["build", "-q", "-t", "base-with-owners", "base"]).ok();
    let id = with_epoch(&world, &["build", "-q", "-t", "app", "app"]).ok().out;
    let look = "stat -c '%u:%g %a' /copied /owned/by/others /owned/by; ls /owned/hidden; \
                cat /owned/by/others /own/id";
    let said = world.run(&["run", "-u", "0", "app", "sh", "-c", look]).ok().out;
    assert_eq!(said, "1000:50 644\n33:34 4751\n33:34 755\nnew\nx\nmore\n1000\n");
    if !is_root() {
        return;
    }
    let other = World::new();
    write_base(&other);
    give(&other, OUTSIDE);
    in_namespace(&other, 65_536, &["build", "-q", "-t", "base-with-owners", "base"]).ok();
    let theirs = in_namespace(&other, 65_536, &["build", "-q", "-t", "app", "app"]).ok().out;
    assert_eq!(theirs, id);
    // And a second build finds all of it again.
    let again = in_namespace(&other, 65_536, &["build", "-t", "app", "app"]).ok();
    assert_eq!(again.ran(), [""; 0]);
}

#[test]
fn with_one_id_commands_work_and_have_keys_of_their_own() {
    if !is_root() {
        return;
    }
    let world = World::new();
    write_base(&world);
    give(&world, OUTSIDE);
    in_namespace(&world, 1, &["build", "-q", "-t", "base-with-owners", "base"]).ok();
    let build = |command: &str, ids: u32| {
        let text = format!("FROM base-with-owners\nRUN {command}\n");
        world.write("app/Dockerfile", &text);
        in_namespace(&world, ids, &["build", "app"])
    };
    let look = "stat -c %u /owned/by/others > /seen; cat /seen";
    let seen = build(look, 1).ok();
    assert!(seen.err.contains(" 0\n"), "all files look like root's: {}", seen.err);
    assert_eq!(build(look, 1).ok().ran(), [""; 0]);
    let refused = build("chown 1000 /owned/by/others", 1);
    assert_eq!(refused.code, 1);
    assert!(refused.err.contains("Invalid argument"), "{}", refused.err);
    let refused = build("true\nUSER 7\nRUN true", 1);
    assert_eq!(refused.code, 3, "{}", refused.err);
    for word in ["user 7 ", "uidmap", "--add-subuids"] {
        assert!(refused.err.contains(word), "{word}: {}", refused.err);
    }
}

#[test]
fn an_owner_that_the_namespace_does_not_have_is_named() {
    if !is_root() {
        return;
    }
    let world = World::new();
    write_base(&world);
    give(&world, OUTSIDE);
    in_namespace(&world, 65_536, &["build", "-q", "-t", "base-with-owners", "base"]).ok();
    world.write("app/x", "x");
    let build = |owner: &str, end: &str| {
        let text = format!("FROM base-with-owners\nCOPY --chown={owner} x /x\n{end}");
        world.write("app/Dockerfile", &text);
        in_namespace(&world, 65_536, &["build", "app"])
    };
    build("100000:7", "").ok();
    for (owner, what) in [("100000:7", "uid 100000"), ("7:70000", "gid 70000")] {
        let failed = build(owner, "RUN true\n");
        assert_eq!(failed.code, 3, "{}", failed.err);
        for word in ["`x`", what, "/etc/subuid"] {
            assert!(failed.err.contains(word), "{word}: {}", failed.err);
        }
    }
}

#[test]
fn a_store_on_an_overlay_is_named_with_a_way_out() {
    let world = World::new();
    // As in a container, whose own files are one.
    let mount = "mkdir -p low up work over && mount -t overlay overlay \
        -o lowerdir=low,upperdir=up,workdir=work over && exec \"$0\" \"$@\"";
    let namespaces = if is_root() { "-m" } else { "-rm" };
    base_context(&world.path("context"));
    world.write("context/Dockerfile", "FROM scratch\nCOPY bin /bin\nRUN echo a > /a\n");
    let build = ["build", "--store", "over/store", "context"];
    let said = Said::of(
        &world
            .through(&["unshare", namespaces, "sh", "-c", mount], &build)
            .output()
            .expect("unshare"),
    );
    assert_eq!(said.code, 3, "{}", said.err);
    assert!(
        said.err.contains("the sandbox did not start: mount the root file system"),
        "{}",
        said.err
    );
    assert!(said.err.contains("in a container a volume"), "{}", said.err);
}
