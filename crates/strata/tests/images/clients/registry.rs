//! Clients of registries: each pulls what was built here, pushes it under a name of its own,
//! forgets all of it, and pulls it again.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::{Shop, installed, said};
use crate::world::{Said, World, base_context};

fn shop() -> Shop {
    let world = World::new();
    base_context(&world.path("base"));
    world.run(&["build", "-q", "-t", "case-base", "base"]).ok();
    world.write("app/Dockerfile", "FROM case-base\nCOPY Dockerfile /\nCMD [\"cat\", \"/made\"]\n");
    world.run(&["build", "-q", "-t", "app", "app"]).ok();
    world.write("project/empty", "");
    Shop::in_world(world)
}

/// The digest that the server gives for a name.
fn digest(shop: &Shop, name: &str) -> String {
    let mut command = shop.command("inspect", "skopeo");
    command.args(["inspect", "--tls-verify=false", "--format", "{{.Digest}}"]);
    said(command.arg(format!("docker://{}/{name}", shop.serving.host))).ok().out.trim().to_owned()
}

/// `run` is given a machine and words in which HOST is the server.
fn pull_push_pull(shop: &Shop, name: &str, run: &dyn Fn(&str, &str) -> Said, steps: [&str; 4]) {
    let [pull, tag, push, again] = steps;
    let do_it = |machine: &str, words: &str| {
        if words.is_empty() {
            return;
        }
        run(machine, &words.replace("HOST", &shop.serving.host)).ok();
    };
    do_it("first", pull);
    do_it("first", tag);
    do_it("first", push);
    let pushed = digest(shop, &format!("team/{name}:1"));
    assert!(pushed.starts_with("sha256:"), "{pushed}");
    let before = shop.hits("oci");
    do_it("second", again);
    // At least the manifest, its configuration and its layers.
    assert!(shop.hits("oci") >= before + 3, "{}", shop.get("/metrics"));
    // What it has pulled it can push again, and it is the same.
    do_it("second", push);
    assert_eq!(digest(shop, &format!("team/{name}:1")), pushed);
}

#[test]
fn skopeo() {
    let shop = shop();
    let run = |machine: &str, words: &str| {
        let layout = format!("oci:{}:x", shop.home(machine).join("layout").display());
        let mut command = shop.command(machine, "skopeo");
        command.args(["--insecure-policy", "copy"]);
        said(command.args(words.replace("LAYOUT", &layout).split(' ')))
    };
    let steps = [
        "--src-tls-verify=false docker://HOST/app LAYOUT",
        "",
        "--dest-tls-verify=false LAYOUT docker://HOST/team/skopeo:1",
        "--src-tls-verify=false docker://HOST/team/skopeo:1 LAYOUT",
    ];
    pull_push_pull(&shop, "skopeo", &run, steps);
}

/// Podman and Buildah, with a storage of each machine's own.
fn containers(name: &str) {
    let shop = shop();
    let run = |machine: &str, words: &str| {
        let mut command = shop.command(machine, name);
        command.args(["--storage-driver", "vfs", "--root"]).arg(shop.home(machine).join("root"));
        command.arg("--runroot").arg(shop.home(machine).join("run"));
        said(command.args(words.split(' ')))
    };
    let push = format!("push --tls-verify=false HOST/team/{name}:1");
    let steps = [
        "pull --tls-verify=false HOST/app",
        &*format!("tag HOST/app HOST/team/{name}:1"),
        &push,
        &format!("pull --tls-verify=false HOST/team/{name}:1"),
    ];
    pull_push_pull(&shop, name, &run, steps);
}

#[test]
fn podman() {
    containers("podman");
}

#[test]
fn buildah() {
    containers("buildah");
}

/// A Docker daemon of one machine's own, without a network for containers.
struct Daemon {
    process: Child,
}

impl Daemon {
    fn start(mut command: Command) -> Self {
        let quiet = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Self { process: quiet.spawn().expect("dockerd") }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // In order, so that its containerd ends with it.
        drop(Command::new("kill").arg(self.process.id().to_string()).status());
        drop(self.process.wait());
    }
}

#[test]
fn docker() {
    let unpacked = installed("docker");
    let shop = shop();
    let socket = |machine: &str| format!("unix://{}", shop.home(machine).join("s").display());
    let command = |machine: &str, program: &str| {
        let mut command = shop.command(machine, unpacked.join(program));
        let (bin, sbin) = (unpacked.join("usr/bin"), unpacked.join("usr/sbin"));
        command.env("PATH", format!("{}:{}:{}", sbin.display(), bin.display(), super::PATH));
        let library = |at: &str| Some(unpacked.join(at)).filter(|at| at.is_dir());
        let multiarch = format!("lib/{}-linux-gnu", std::env::consts::ARCH);
        let libraries = [multiarch.clone(), format!("usr/{multiarch}")];
        let libraries: Vec<_> = libraries.iter().filter_map(|at| library(at)).collect();
        command.env("LD_LIBRARY_PATH", std::env::join_paths(libraries).expect("paths"));
        command.arg("--host").arg(socket(machine));
        command
    };
    let run = |machine: &str, words: &str| {
        said(command(machine, "usr/bin/docker").args(words.split(' ')))
    };
    let daemon = |machine: &str| {
        let mut daemon = command(machine, "usr/sbin/dockerd");
        let place = |name: &str| shop.home(machine).join(name);
        daemon.args(["--bridge=none", "--iptables=false", "--storage-driver=vfs"]);
        daemon.arg("--data-root").arg(place("data")).arg("--exec-root").arg(place("exec"));
        daemon.arg("--pidfile").arg(place("pid"));
        let daemon = Daemon::start(daemon);
        // The runner of the tests ends one that waits for ever.
        while run(machine, "version").code != 0 {
            std::thread::sleep(Duration::from_millis(50));
        }
        daemon
    };
    let (_first, _second) = (daemon("first"), daemon("second"));
    let steps = [
        "pull HOST/app",
        "tag HOST/app HOST/team/docker:1",
        "push HOST/team/docker:1",
        "pull HOST/team/docker:1",
    ];
    pull_push_pull(&shop, "docker", &run, steps);
}
