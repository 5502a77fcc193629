//! Images in and out by a real registry (Debian's docker-registry, started by each test on a port
//! of its own), and caches that two machines share by it.

use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::bucket::{self, Bucket};
use crate::serve::Serving;
use crate::world::{Said, World};

/// bcrypt of `secret`.
const PASSWORDS: &str = "bob:$2b$04$s.bXCpJpzutecMYFdTDkpuVH.1xGcOPh.hLY1l1ndHigT1sdOa5bC\n";

/// A registry that ends with its test.
struct Registry {
    host: String,
    process: Child,
    _folder: tempfile::TempDir,
}

impl Registry {
    fn start() -> Self {
        Self::with("")
    }

    /// Lets only bob in, whose password is `secret`.
    fn guarded() -> Self {
        Self::with("auth:\n  htpasswd:\n    realm: test\n    path: passwords\n")
    }

    fn with(more: &str) -> Self {
        if Command::new("docker-registry").arg("--version").output().is_err() {
            let mut install = Command::new("apt-get");
            install.args(["install", "-y", "docker-registry"]);
            install.env("DEBIAN_FRONTEND", "noninteractive");
            assert!(install.status().expect("apt-get").success(), "no docker-registry");
        }
        let folder = tempfile::tempdir().expect("a folder");
        let port = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("it");
        let host = port.to_string();
        let config = format!(
            "version: 0.1\nlog:\n  level: error\nstorage:\n  filesystem:\n    \
             rootdirectory: data\nhttp:\n  addr: {host}\n{more}"
        );
        std::fs::write(folder.path().join("config.yml"), config).expect("a configuration");
        std::fs::write(folder.path().join("passwords"), PASSWORDS).expect("passwords");
        let process = Command::new("docker-registry")
            .args(["serve", "config.yml"])
            .current_dir(folder.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("docker-registry starts");
        let registry = Self { host, process, _folder: folder };
        let began = Instant::now();
        while TcpStream::connect(&registry.host).is_err() {
            assert!(began.elapsed() < Duration::from_secs(60), "docker-registry does not listen");
            std::thread::sleep(Duration::from_millis(20));
        }
        registry
    }

    fn name(&self, rest: &str) -> String {
        format!("{}/{rest}", self.host)
    }

    /// A base image in it, which both machines pull.
    fn with_base(self) -> Self {
        let world = World::with_base();
        world.run(&["push", "case-base", &self.name("base:1")]).ok();
        self
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

/// An application of two stages: what it copies, what it runs.
fn application(world: &World, registry: &Registry, text: &str) {
    let base = registry.name("base:1");
    world.write("app/file.txt", text);
    world.write("app/other.txt", "other\n");
    world.write(
        "app/Dockerfile",
        &format!(
            "FROM {base} AS build\nCOPY other.txt /\nRUN cat /other.txt > /made\n\
             COPY file.txt /\nRUN cat /file.txt >> /made\n\
             FROM {base}\nCOPY --from=build /made /made\nRUN wc -c /made > /count\n\
             CMD [\"cat\", \"/made\"]\n"
        ),
    );
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).expect(text)
}

fn skopeo(arguments: &[&str]) -> Said {
    Said::of(&Command::new("skopeo").args(arguments).output().expect("skopeo")).ok()
}

#[test]
fn pushed_and_pulled_by_us_and_by_others() {
    let registry = Registry::start().with_base();
    let world = World::new();
    application(&world, &registry, "one\n");
    let name = registry.name("team/app:1");
    let build = ["build", "-t", &name, "--push", "--metadata-file", "meta.json", "app"];
    let said = world.run(&build).ok();
    assert!(said.err.contains("taken over from another repository"), "{}", said.err);
    let meta = json(&std::fs::read_to_string(world.path("meta.json")).expect("metadata"));
    let digest = meta["containerimage.digest"].as_str().expect("a digest").to_owned();
    let inspected = skopeo(&["inspect", "--tls-verify=false", &format!("docker://{name}")]);
    assert_eq!(json(&inspected.out)["Digest"], digest.as_str());
    let said = world.run(&["push", &name]).ok();
    assert_eq!(said.out.trim_end(), digest);
    assert!(said.err.contains("is there already"), "{}", said.err);

    let other = World::new();
    other.run(&["pull", &name]).ok();
    assert_eq!(other.id(&name), world.id(&name));
    assert_eq!(other.run(&["run", &name]).ok().out, "other\none\n");
    let again = other.run(&["push", &name, &registry.name("else:2")]).ok();
    assert_eq!(again.out.trim_end(), digest, "an image that was pulled keeps its digest");
    let copied = other.run(&["copy", &name, &registry.name("copy:3")]).ok();
    assert_eq!(copied.out.trim_end(), digest);
    let missing = other.run(&["pull", &registry.name("nothing:1")]);
    assert_eq!(missing.code, 1, "{}", missing.err);
    assert!(missing.err.contains("is not in the registry"), "{}", missing.err);
}

#[test]
fn what_is_said_of_an_image_is_copied_with_it() {
    let registry = Registry::start().with_base();
    let other = Registry::start();
    let world = World::new();
    application(&world, &registry, "one\n");
    let (name, copy) = (registry.name("app:1"), other.name("copied:1"));
    world.run(&["build", "-t", &name, "--sbom=true", "--provenance=true", "--push", "app"]).ok();
    let copied = World::new().run(&["copy", &name, &copy]).ok();
    let raw = |name: &str| {
        skopeo(&["inspect", "--raw", "--tls-verify=false", &format!("docker://{name}")]).out
    };
    assert_eq!(raw(&copy), raw(&name));
    assert!(copied.out.starts_with("sha256:"), "{}", copied.out);
    let index = json(&raw(&copy));
    let kind = &index["manifests"][1]["annotations"]["vnd.docker.reference.type"];
    assert_eq!(kind, "attestation-manifest");
    // All that it refers to is there.
    let place = format!("docker://{copy}");
    let all = format!("dir:{}", world.path("all").display());
    skopeo(&["copy", "--all", "--src-tls-verify=false", &place, &all]);
    let blobs = std::fs::read_dir(world.path("all")).expect("blobs").flatten();
    let texts = blobs.filter_map(|blob| std::fs::read_to_string(blob.path()).ok());
    let statements = texts.filter(|text| text.contains("https://in-toto.io/Statement/v1"));
    assert_eq!(statements.count(), 2);
}

#[test]
fn layers_of_which_files_can_be_fetched_are_pulled_whole_too() {
    let registry = Registry::start().with_base();
    let world = World::new();
    application(&world, &registry, "one\n");
    let name = registry.name("app:1");
    world.run(&["build", "-t", &name, "--sbom=true", "app"]).ok();
    let layers = |name: &str, compression: &str| {
        let from = registry.name("app:1");
        world.run(&["push", "--compression", compression, &from, name]).ok();
        let raw = ["inspect", "--raw", "--tls-verify=false", &format!("docker://{name}")];
        let index = json(&skopeo(&raw).out);
        assert_eq!(index["manifests"].as_array().map(Vec::len), Some(2), "{index}");
        let digest = index["manifests"][0]["digest"].as_str().expect("a digest").to_owned();
        let by_digest = format!("docker://{}@{digest}", name.rsplit_once(':').expect("a tag").0);
        let manifest = json(&skopeo(&["inspect", "--raw", "--tls-verify=false", &by_digest]).out);
        manifest["layers"].as_array().expect("layers").clone()
    };
    let notes = [
        ("estargz", "containerd.io/snapshot/stargz/toc.digest"),
        ("zstd:chunked", "io.github.containers.zstd-chunked.manifest-checksum"),
    ];
    for (format, note) in notes {
        let target = registry.name(&format!("{}:1", format.replace(':', "-")));
        let layers = layers(&target, format);
        // The base's layer stays as it came.
        assert!(layers[0].get("annotations").is_none(), "{layers:?}");
        assert!(layers[1..].iter().all(|layer| layer["annotations"].get(note).is_some()));
        let other = World::new();
        other.run(&["pull", &target]).ok();
        assert_eq!(other.run(&["run", &target]).ok().out, "other\none\n");
        let is_same = other.id(&target) == world.id(&name);
        assert_eq!(is_same, format == "zstd:chunked");
    }
}

/// Bytes that nothing makes smaller.
fn noise(seed: u8, mebibytes: usize) -> Vec<u8> {
    let mut state = u64::from(seed) * 2 + 1;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        state.to_be_bytes()
    };
    (0..mebibytes << 17).flat_map(|_| next()).collect()
}

#[test]
fn a_new_layer_goes_out_while_it_is_compressed() {
    let registry = Registry::start();
    let world = World::new();
    let text: String = (0..200_000).map(|number| format!("line {number}\n")).collect();
    world.write("app/text", &text);
    std::fs::write(world.path("app/noise"), noise(1, 9)).expect("written");
    world.write("app/Dockerfile", "FROM scratch\nCOPY . /\n");
    let name = registry.name("app:1");
    let said = world.run(&["build", "-t", &name, "--push", "app"]).ok();
    assert_eq!(said.err.matches(": pushed, 9.").count(), 1, "{}", said.err);
    // What is dense is not kept twice, and made again for whoever asks.
    let other = registry.name("other:1");
    world.run(&["push", &name, &other]).ok();
    world.run(&["save", "--format", "oci-dir", "-o", "saved", &name]).ok();
    let digest = |reference: &str| {
        let said = skopeo(&["inspect", "--tls-verify=false", reference]);
        json(&said.out)["Digest"].as_str().expect("a digest").to_owned()
    };
    let pushed = digest(&format!("docker://{name}"));
    assert_eq!(digest(&format!("docker://{other}")), pushed);
    let saved = std::fs::read_dir(world.path("saved/blobs/sha256")).expect("blobs");
    let hex = pushed.trim_start_matches("sha256:").to_owned();
    assert!(saved.flatten().any(|blob| blob.file_name().to_string_lossy() == hex));
    // Another machine makes the same bytes, and finds that they are there.
    let second = World::new();
    let mut copy = Command::new("cp");
    copy.arg("-a").args([world.path("app"), second.path("app")]);
    assert!(copy.status().expect("cp").success());
    let again = second.run(&["build", "-t", &name, "--label", "x=y", "--push", "app"]).ok();
    assert!(again.err.contains(": is there already, 9."), "{}", again.err);
}

#[test]
fn saved_and_loaded() {
    let world = World::with_base();
    world.run(&["tag", "case-base", "second:2"]).ok();
    for format in ["docker-archive", "oci-archive"] {
        let other = World::new();
        let file = other.path("saved.tar").display().to_string();
        world.run(&["save", "--format", format, "-o", &file, "case-base"]).ok();
        let said = other.run(&["load", "-i", &file]).ok();
        assert!(said.err.contains("loaded case-base:latest"), "{format}: {}", said.err);
        assert_eq!(other.id("case-base"), world.id("case-base"), "{format}");
    }
    let both = World::new();
    let file = both.path("saved.tar").display().to_string();
    world.run(&["save", "-o", &file, "case-base", "second:2"]).ok();
    both.run(&["load", "-i", &file]).ok();
    assert_eq!(both.id("second:2"), both.id("case-base"));
}

#[test]
fn logins_are_tried_and_kept_and_forgotten() {
    let registry = Registry::guarded();
    let world = World::with_base();
    let name = registry.name("app:1");
    let refused = world.run(&["push", "case-base", &name]);
    assert_eq!(refused.code, 1, "{}", refused.err);
    assert!(refused.err.contains("denies access"), "{}", refused.err);
    let wrong = world.run(&["login", "-u", "bob", "-p", "wrong", &registry.host]);
    assert!(wrong.code != 0 && wrong.err.contains("does not take"), "{}", wrong.err);
    world.run(&["login", "-u", "bob", "-p", "secret", &registry.host]).ok();
    let kept = std::fs::read_to_string(world.path(".docker/config.json")).expect("a file");
    assert!(kept.contains(&registry.host) && !kept.contains("secret"), "{kept}");
    world.run(&["push", "case-base", &name]).ok();
    world.run(&["pull", &name]).ok();
    world.run(&["logout", &registry.host]).ok();
    assert_ne!(world.run(&["push", "case-base", &registry.name("app:2")]).code, 0);
}

/// Builds on one machine with the cache, then on another one.
fn on_two_machines(to: &dyn Fn(&World) -> String, from: &dyn Fn(&World) -> String) {
    let registry = Registry::start().with_base();
    let (first, second) = (World::new(), World::new());
    application(&first, &registry, "one\n");
    application(&second, &registry, "one\n");
    let to = to(&first).replace("REGISTRY", &registry.host);
    first.run(&["build", "-t", "app", "--cache-to", &to, "app"]).ok();
    let from = from(&first).replace("REGISTRY", &registry.host);
    let build = ["build", "-t", "app", "--cache-from", &from, "app"];
    let said = second.run(&build).ok();
    assert_eq!(said.ran(), Vec::<String>::new(), "{}", said.err);
    assert_eq!(said.reasons(), Vec::<String>::new(), "{}", said.err);
    assert_eq!(second.id("app"), first.id("app"));
    assert_eq!(run_with_keys(&second), "other\none\n");

    let third = World::new();
    application(&third, &registry, "changed\n");
    let said = third.run(&build).ok();
    let expected = [
        "COPY file.txt /",
        "RUN cat /file.txt >> /made",
        "COPY --from=build /made /made",
        "RUN wc -c /made > /count",
    ];
    assert_eq!(said.ran(), expected, "{}", said.err);
    assert_eq!(run_with_keys(&third), "other\nchanged\n");
}

#[test]
fn layers_that_were_not_fetched_yet_outlive_a_sweep() {
    let registry = Registry::start().with_base();
    let (first, second) = (World::new(), World::new());
    application(&first, &registry, "one\n");
    application(&second, &registry, "one\n");
    let place = first.path("cache").display().to_string();
    let to = format!("type=local,dest={place}");
    first.run(&["build", "-t", "app", "--cache-to", &to, "app"]).ok();
    let from = format!("type=local,src={place}");
    let said = second.run(&["build", "-t", "app", "--cache-from", &from, "app"]).ok();
    assert_eq!(said.ran(), Vec::<String>::new(), "{}", said.err);
    // Nothing of them is here but where they are, and that is no damage.
    second.run(&["fsck"]).ok();
    second.run(&["prune", "-f"]).ok();
    second.run(&["prune", "-a", "-f"]).ok();
    second.run(&["fsck", "--repair"]).ok();
    assert_eq!(second.id("app"), first.id("app"));
    second.run(&["save", "-o", "saved.tar", "app"]).ok();
    assert_eq!(run_with_keys(&second), "other\none\n");
    second.run(&["rmi", "app"]).ok();
    second.run(&["prune", "-a", "-f"]).ok();
    second.run(&["fsck"]).ok();
    let names = second.run(&["images", "--format", "json"]).ok().out;
    assert!(!names.contains("\"app"), "{names}");
}

/// What the application says. Its layers are fetched for it, and where they come from a bucket,
/// the keys are in the environment: those of `--cache-from` are kept nowhere.
fn run_with_keys(world: &World) -> String {
    let mut command = world.command(&["run", "app"]);
    command.env("AWS_ACCESS_KEY_ID", "test").env("AWS_SECRET_ACCESS_KEY", "test");
    Said::of(&command.output().expect("it starts")).ok().out
}

#[test]
fn two_machines_share_nothing_but_a_registry() {
    let to = |_: &World| "type=registry,ref=REGISTRY/cache".to_owned();
    on_two_machines(&to, &|_| "REGISTRY/cache".to_owned());
}

#[test]
fn two_machines_share_nothing_but_a_directory() {
    let to = |world: &World| format!("type=local,dest={}", world.path("cache").display());
    on_two_machines(&to, &|world| format!("type=local,src={}", world.path("cache").display()));
}

#[test]
fn two_machines_share_nothing_but_a_bucket() {
    let bucket = Bucket::start();
    let place = format!(
        "type=s3,bucket={},prefix=team/,endpoint_url={},use_path_style=true,\
         access_key_id=test,secret_access_key=test",
        bucket::NAME,
        bucket.endpoint
    );
    on_two_machines(&|_| place.clone(), &|_| place.clone());
}

#[test]
fn two_machines_share_nothing_but_a_server() {
    let world = World::new();
    let serving = Serving::start(&world);
    let place = format!("type=reapi,url=grpc://{}/team/app", serving.host);
    on_two_machines(&|_| place.clone(), &|_| place.clone());
}

#[test]
fn two_machines_share_nothing_but_buildboxs_server() {
    let casd = crate::tiers::Casd::start();
    let place = format!("type=reapi,url=grpc://{}", casd.host);
    on_two_machines(&|_| place.clone(), &|_| place.clone());
}

#[test]
fn a_build_that_fails_leaves_its_finished_steps() {
    let registry = Registry::start().with_base();
    let (first, second) = (World::new(), World::new());
    let base = registry.name("base:1");
    for world in [&first, &second] {
        let lines = format!("FROM {base}\nRUN echo a > /a\nRUN cat /a && exit 3\n");
        world.write("app/Dockerfile", &lines);
    }
    let cache = registry.name("cache");
    let to = format!("type=registry,ref={cache}");
    assert_eq!(first.run(&["build", "--cache-to", &to, "app"]).code, 1);
    let said = second.run(&["build", "--cache-from", &cache, "app"]);
    assert_eq!(said.code, 1);
    assert_eq!(said.cached(), [&format!("FROM {base}"), "RUN echo a > /a"], "{}", said.err);
}

#[test]
fn a_cache_that_is_not_there_costs_no_build() {
    let world = World::with_base();
    world.write("app/Dockerfile", "FROM case-base\nRUN echo a > /a\n");
    // Nobody listens there.
    let (from, to) = ("127.0.0.1:9/cache", "type=registry,ref=127.0.0.1:9/cache");
    let said = world.run(&["build", "--cache-from", from, "--cache-to", to, "app"]).ok();
    assert!(said.err.contains("is not asked any more"), "{}", said.err);
    // Who asked found out for who sends: a place that keeps silent costs one wait and not two.
    let silent = "nothing more goes to the cache registry:127.0.0.1:9/cache: \
        it did not answer before";
    assert!(said.err.contains(silent), "{}", said.err);
    let gone = format!("type=local,src={}", world.path("gone").display());
    let said = world.run(&["build", "--cache-from", &gone, "app"]).ok();
    assert!(said.err.contains("is not used: "), "{}", said.err);
}

#[test]
fn a_damaged_cache_is_a_miss() {
    let registry = Registry::start().with_base();
    let (first, second) = (World::new(), World::new());
    application(&first, &registry, "one\n");
    application(&second, &registry, "one\n");
    let cache = first.path("cache");
    let to = format!("type=local,dest={}", cache.display());
    first.run(&["build", "-t", "app", "--cache-to", &to, "app"]).ok();
    for entry in std::fs::read_dir(cache.join("blobs/sha256")).expect("blobs") {
        std::fs::write(entry.expect("one").path(), "damaged").expect("damaged");
    }
    let from = format!("type=local,src={}", cache.display());
    let said = second.run(&["build", "-t", "app", "--cache-from", &from, "app"]).ok();
    // What is here by then with the same content may be a hit; nothing that would be fetched is.
    let ran = said.ran();
    assert!(ran.contains(&"RUN cat /other.txt > /made".to_owned()), "{}", said.err);
    assert!(ran.contains(&"RUN wc -c /made > /count".to_owned()), "{}", said.err);
    assert_eq!(second.run(&["run", "app"]).ok().out, "other\none\n");
}

#[test]
fn equal_inputs_give_equal_digests_at_any_time() {
    let registry = Registry::start().with_base();
    let base = registry.name("base:1");
    let digest = |name: &str| {
        let world = World::new();
        let lines =
            format!("FROM {base}\nCOPY file.txt /\nRUN cat /file.txt > /made && mkdir /d\n");
        world.write("app/Dockerfile", &lines);
        world.write("app/file.txt", name);
        let output = "type=image,push=true,rewrite-timestamp=true";
        let name = registry.name("same:1");
        let mut command = world.command(&["build", "-t", &name, "-o", output, "app"]);
        command.args(["--metadata-file", "meta.json"]).env("SOURCE_DATE_EPOCH", "1700000000");
        Said::of(&command.output().expect("it runs")).ok();
        let meta = json(&std::fs::read_to_string(world.path("meta.json")).expect("metadata"));
        (meta["containerimage.digest"].as_str().expect("a digest").to_owned(), world)
    };
    let (first, _) = digest("one\n");
    // Files and layers of the second machine are younger by a second at least.
    std::thread::sleep(Duration::from_millis(1100));
    let (second, _) = digest("one\n");
    assert_eq!(first, second);
    let (other, _) = digest("two\n");
    assert_ne!(first, other);
}

#[test]
fn how_two_images_differ() {
    let world = World::with_base();
    world.write("a/Dockerfile", "FROM case-base\nRUN echo a > /f && echo x > /gone\nUSER a\n");
    world.write("b/Dockerfile", "FROM case-base\nRUN echo bb > /f && chmod 700 /f\n");
    world.run(&["build", "-t", "a", "a"]).ok();
    world.run(&["build", "-t", "b", "b"]).ok();
    let same = world.run(&["diff", "a", "a"]).ok();
    assert!(same.out.starts_with("the images are the same"), "{}", same.out);
    let said = world.run(&["diff", "a", "b"]);
    assert_eq!(said.code, 1, "{}", said.err);
    for line in [
        "  config.User: \"a\" is gone",
        "layers: 1 layer differs, the lowest one is the same",
        "/f: other content, 2 bytes became 3, mode 644 became 700",
        "/gone: is gone",
    ] {
        assert!(said.out.contains(line), "{line}\n{}", said.out);
    }
    let said = world.run(&["diff", "--format", "json", "a", "b"]);
    let files = json(&said.out)["files"].clone();
    assert!(files.as_array().is_some_and(|files| files.iter().any(|f| f["path"] == "/gone")));
}

#[test]
fn one_build_for_two_platforms() {
    let registry = Registry::start();
    let world = World::new();
    world.write("app/file.txt", "x\n");
    let lines = "FROM scratch\nARG TARGETARCH\nCOPY file.txt /$TARGETARCH.txt\n";
    world.write("app/Dockerfile", lines);
    let name = registry.name("both:1");
    let build = [
        "build",
        "-t",
        &name,
        "--platform",
        "linux/amd64,linux/arm64",
        "--push",
        "--annotation",
        "index:org.example.made=here",
        "--annotation",
        "manifest[linux/arm64]:a=b",
        "-o",
        "out",
        "app",
    ];
    world.run(&build).ok();
    let raw = skopeo(&["inspect", "--raw", "--tls-verify=false", &format!("docker://{name}")]);
    let index = json(&raw.out);
    assert_eq!(index["annotations"]["org.example.made"], "here");
    let platforms: Vec<&str> = index["manifests"]
        .as_array()
        .expect("manifests")
        .iter()
        .filter_map(|one| one["platform"]["architecture"].as_str())
        .collect();
    assert_eq!(platforms, ["amd64", "arm64"]);
    assert!(world.path("out/linux_arm64/arm64.txt").exists());
    let other = World::new();
    other.run(&["pull", "--all-platforms", &name]).ok();
    let said = other.run(&["push", &name, &registry.name("again:1")]).ok();
    assert_eq!(json(&raw.out)["manifests"].as_array().map(Vec::len), Some(2));
    assert!(said.out.starts_with("sha256:"), "{}", said.out);
    assert_eq!(other.run(&["images"]).ok().out.matches("both").count(), 2);
}
