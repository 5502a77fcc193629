//! Builds in a user namespace beside builds without one. `scripts/test-as-user.sh` runs these as
//! an ordinary user; root makes a namespace of his own here, so that both can be compared.

use std::path::Path;
use std::process::Command;

use crate::world::{Said, World, base_context};

/// A Dockerfile that uses everything that a user namespace could make different: owners, modes,
/// removals, hidden directories, links, capabilities, the root directory itself.
const DOCKERFILE: &str = "FROM base-with-owners\n\
    COPY --chown=7:8 file /copied\n\
    RUN chown 1000:50 /copied && echo more >> /owned/by/others && chmod 4751 /owned/by/others\n\
    RUN cd /owned && rm -r gone hidden && mkdir hidden && echo x > hidden/new\n\
    RUN ln /copied /linked && ln -s copied /soft && mkfifo /pipe && chmod 1777 /owned\n\
    RUN setcap cap_net_raw+ep /copied && touch -d @1000000000 /copied /owned/by/others /owned/by\n\
    USER 1000:50\n\
    RUN id -u > /tmp/id && touch -d @1000000000 /tmp/id /tmp\n";

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
    world.write("base/tmp/.keep", "");
    let text = "FROM scratch\nCOPY bin /bin\nCOPY root /\nCOPY --chown=33:34 owned /owned\n\
                COPY --chmod=1777 tmp /tmp\n";
    world.write("base/Dockerfile", text);
    world.write("app/file", "content\n");
    world.write("app/Dockerfile", DOCKERFILE);
}

fn is_root() -> bool {
    let id = Command::new("id").arg("-u").output().expect("id");
    String::from_utf8_lossy(&id.stdout).trim() == "0"
}

/// The program in a user namespace with these ids: `outside,inside,count`.
fn in_namespace(world: &World, ids: &str, arguments: &[&str]) -> Said {
    let plain = world.command(arguments);
    let mut command = Command::new("unshare");
    command.args(["--user", &format!("--map-users={ids}"), &format!("--map-groups={ids}")]);
    command.args(["--setuid", "0", "--setgid", "0"]).arg(plain.get_program()).args(arguments);
    command.current_dir(world.path("")).env_clear();
    command.envs(plain.get_envs().filter_map(|(name, value)| Some((name, value?))));
    command.env("SOURCE_DATE_EPOCH", "1000000000");
    Said::of(&command.output().expect("unshare"))
}

/// Gives a whole world to somebody else.
fn give(world: &World, owner: &str) {
    let path = world.path("");
    let status = Command::new("chown").args(["-R", owner]).arg(&path).status();
    assert!(status.expect("chown").success());
    // On the way to the program, which may be below a folder of root's, nothing is asked for.
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(path, mode).expect("chmod");
}

fn with_epoch(world: &World, arguments: &[&str]) -> Said {
    let mut command = world.command(arguments);
    command.env("SOURCE_DATE_EPOCH", "1000000000");
    Said::of(&command.output().expect("the program starts"))
}

/// Whether somebody else can start the program where it lies.
fn others_reach_the_program() -> bool {
    let program = Path::new(env!("CARGO_BIN_EXE_strata"));
    let is_open = |path: &Path| {
        let mode = std::fs::metadata(path).map(|found| found.permissions());
        mode.is_ok_and(|mode| std::os::unix::fs::PermissionsExt::mode(&mode) & 1 == 1)
    };
    program.ancestors().all(is_open)
}

#[test]
fn a_user_namespace_gives_the_same_image() {
    let world = World::new();
    write_base(&world);
    with_epoch(&world, &["build", "-q", "-t", "base-with-owners", "base"]).ok();
    let id = with_epoch(&world, &["build", "-q", "-t", "app", "app"]).ok().out;
    let look = "stat -c '%u:%g %a' /copied /owned/by/others /owned/by; ls /owned/hidden; \
                cat /owned/by/others /tmp/id";
    let said = world.run(&["run", "app", "sh", "-c", look]).ok().out;
    assert_eq!(said, "1000:50 644\n33:34 4751\n33:34 755\nnew\nx\nmore\n1000\n");
    if !is_root() || !others_reach_the_program() {
        return;
    }
    let other = World::new();
    write_base(&other);
    give(&other, "200000:200000");
    let ids = "200000,0,65536";
    in_namespace(&other, ids, &["build", "-q", "-t", "base-with-owners", "base"]).ok();
    let theirs = in_namespace(&other, ids, &["build", "-q", "-t", "app", "app"]).ok().out;
    assert_eq!(theirs, id);
    // And a second build finds all of it again.
    let again = in_namespace(&other, ids, &["build", "-t", "app", "app"]).ok();
    assert_eq!(again.ran(), [""; 0]);
}
