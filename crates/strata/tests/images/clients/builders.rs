//! Build systems: Bazel, Gradle, BuildStream.

use super::{Shop, has, installed, said};

/// Two steps that note the time: made twice, they are not the same.
const BAZEL: &str = "\
genrule(name = 'a', srcs = ['in.txt'], outs = ['a.txt'], cmd = 'cat $< > $@; date +%s%N >> $@')
genrule(name = 'b', srcs = [':a'], outs = ['b.bin'],
        cmd = 'cat $< > $@; head -c 3000000 /dev/zero >> $@')
";

fn bazel(protocol: &str, cache: &dyn Fn(&Shop) -> Vec<String>) {
    let shop = Shop::open();
    shop.write("WORKSPACE", "");
    shop.write("BUILD", BAZEL);
    shop.write("in.txt", "in\n");
    let links = ["bazel-bin", "bazel-out", "bazel-project", "bazel-testlogs"];
    let words = shop.twice(protocol, ("bazel-bin/b.bin", &links), |machine| {
        let mut command = shop.command(machine, "bazel");
        // `--batch`: no server of Bazel's stays behind.
        command.arg("--batch");
        command.arg(format!("--output_user_root={}", shop.home(machine).display()));
        command.args(["build", "--curses=no"]).args(cache(&shop));
        said(command.arg("//:b"))
    });
    has(&words, "2 remote cache hit");
}

#[test]
fn bazel_over_grpc() {
    bazel("reapi", &|shop| {
        let host = &shop.serving.host;
        vec![format!("--remote_cache=grpc://{host}"), "--remote_instance_name=team/app".to_owned()]
    });
}

#[test]
fn bazel_over_http() {
    bazel("bazel", &|shop| vec![format!("--remote_cache={}/team/app", shop.url())]);
}

#[test]
fn gradle() {
    let shop = Shop::open();
    let cache = format!(
        "buildCache {{ local {{ enabled = false }}\n remote(HttpBuildCache) {{\n \
         url = '{}/cache/gradle/'\n push = true\n }} }}\n",
        shop.url()
    );
    shop.write("settings.gradle", &format!("rootProject.name = 'project'\n{cache}"));
    shop.write(
        "build.gradle",
        "@CacheableTask class Make extends DefaultTask {\n \
         @OutputFile File out\n \
         @TaskAction void make() { out.text = \"${System.nanoTime()}\" }\n}\n\
         task make(type: Make) { out = file(\"$buildDir/out.txt\") }\n",
    );
    let words = shop.twice("values", ("build/out.txt", &["build", ".gradle"]), |machine| {
        let mut command = shop.command(machine, "gradle");
        command.env("GRADLE_USER_HOME", shop.home(machine));
        said(command.args(["--no-daemon", "--build-cache", "--console=plain", "make"]))
    });
    has(&words, "FROM-CACHE");
    has(&words, "1 from cache");
}

#[test]
fn buildstream() {
    let program = installed("python/bin/bst");
    let shop = Shop::open();
    shop.write("project.conf", "name: project\nmin-version: 2.0\nelement-path: elements\n");
    shop.write("files/hello", "hello\n");
    shop.write("elements/hello.bst", "kind: import\nsources:\n- kind: local\n  path: files\n");
    let run = |machine: &str, arguments: &[&str]| {
        let home = shop.home(machine);
        let settings = format!(
            "cachedir: {}\ncache:\n  quota: 1G\nartifacts:\n  servers:\n  - url: {}\n    \
             instance-name: bst\n    push: true\n",
            home.join("cache").display(),
            shop.url()
        );
        shop.world.write(&format!("{machine}/settings"), &settings);
        let mut command = shop.command(machine, &program);
        command.args(["--no-interactive", "--no-colors", "--config"]).arg(home.join("settings"));
        said(command.args(arguments)).ok()
    };
    let words = shop.twice("asset", ("out/hello", &["out"]), |machine| {
        let built = run(machine, &["build", "hello.bst"]);
        run(machine, &["artifact", "checkout", "--directory", "out", "hello.bst"]);
        built
    });
    has(&words, "Pull Queue:  processed 1");
    has(&words, "Build Queue: processed 0, skipped 1");
}
