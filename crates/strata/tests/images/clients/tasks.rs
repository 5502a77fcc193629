//! Task runners of the JavaScript world: Turborepo, Nx, moon.

use std::process::Command;

use super::{Shop, has, installed, said};

/// Made twice, it is not the same.
const MAKE: &str = "mkdir -p a/dist && date +%s%N > a/dist/out.txt";

#[test]
fn turborepo() {
    let program = installed("npm/node_modules/.bin/turbo");
    let shop = Shop::open();
    shop.write(
        "package.json",
        r#"{"name":"root","private":true,"packageManager":"npm@10.0.0","workspaces":["a"]}"#,
    );
    shop.write(
        "package-lock.json",
        r#"{"name":"root","lockfileVersion":3,"packages":{"":{"name":"root","workspaces":["a"]},
        "node_modules/a":{"resolved":"a","link":true},"a":{"version":"1.0.0"}}}"#,
    );
    shop.write("turbo.json", r#"{"tasks":{"build":{"outputs":["dist/**"]}}}"#);
    let package = r#"{"name":"a","version":"1.0.0","scripts":{"build":"cd .. && MAKE"}}"#;
    shop.write("a/package.json", &package.replace("MAKE", MAKE));
    let gone = [".turbo", "a/.turbo", "a/dist", "node_modules"];
    let words = shop.twice("turbo", ("a/dist/out.txt", &gone), |machine| {
        let mut command = shop.command(machine, &program);
        command.env("TURBO_API", shop.url()).env("TURBO_TOKEN", "any").env("TURBO_TEAM", "team_a");
        command.env("TURBO_TELEMETRY_DISABLED", "1");
        said(command.args(["run", "build", "--no-update-notifier", "--cache-dir=.turbo/cache"]))
    });
    has(&words, "1 cached, 1 total");
    has(&words, "FULL TURBO");
}

#[test]
fn nx() {
    let program = installed("npm/node_modules/.bin/nx");
    let shop = Shop::open();
    shop.write("package.json", r#"{"name":"root","private":true,"version":"0.0.0"}"#);
    shop.write("nx.json", r#"{"analytics":false}"#);
    shop.write("a/in.txt", "in\n");
    let project = r#"{"name":"a","targets":{"build":{"executor":"nx:run-commands","cache":true,
        "inputs":["{projectRoot}/in.txt"],"outputs":["{projectRoot}/dist"],
        "options":{"command":"MAKE"}}}}"#;
    shop.write("a/project.json", &project.replace("MAKE", MAKE));
    let modules = installed("npm/node_modules");
    std::os::unix::fs::symlink(modules, shop.world.path("project/node_modules")).expect("a link");
    let words = shop.twice("nx", ("a/dist/out.txt", &["a/dist", ".nx"]), |machine| {
        let mut command = shop.command(machine, &program);
        command.env("NX_SELF_HOSTED_REMOTE_CACHE_SERVER", shop.url());
        // What it keeps in places of its own is this machine's, too.
        command.env("NX_CACHE_DIRECTORY", shop.home(machine).join("cache"));
        command.env("NX_WORKSPACE_DATA_DIRECTORY", shop.home(machine).join("data"));
        command.env("NX_DAEMON", "false").env("NX_NO_CLOUD", "true");
        said(command.args(["run", "a:build"]))
    });
    has(&words, "1/1 hit (100%)");
}

fn moon(protocol: &str, remote: &str) {
    let program = installed("npm/node_modules/.bin/moon");
    let shop = Shop::open();
    let settings = "projects: ['a']\ntelemetry: false\nremote:\n  cache:\n    \
         instanceName: team\n    compression: zstd\n";
    let remote = remote.replace("HOST", &shop.serving.host);
    shop.write(".moon/workspace.yml", &format!("{settings}{remote}"));
    shop.write("a/in.txt", "in\n");
    let task = "tasks:\n  build:\n    script: 'cd .. && MAKE'\n    inputs: ['in.txt']\n    \
         outputs: ['dist']\n";
    shop.write("a/moon.yml", &task.replace("MAKE", MAKE));
    // It asks git what has changed, and wants a commit.
    let git = |arguments: &[&str]| {
        let mut git: Command = shop.command("git", "git");
        git.args(["-c", "user.name=a", "-c", "user.email=a@example.org"]);
        said(git.args(arguments)).ok();
    };
    git(&["init", "-q"]);
    git(&["commit", "-q", "--allow-empty", "-m", "begin"]);
    let words = shop.twice(protocol, ("a/dist/out.txt", &["a/dist", ".moon/cache"]), |machine| {
        said(shop.command(machine, &program).args(["run", "a:build"]))
    });
    has(&words, "cached from remote");
}

#[test]
fn moon_over_grpc() {
    moon("reapi", "  host: 'grpc://HOST'\n  api: grpc\n");
}

#[test]
fn moon_over_http() {
    moon("bazel", "  host: 'http://HOST'\n  api: http\n");
}
