//! `strata serve`: real clients against the program itself.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::world::{Said, World};

/// A server that ends with its test.
pub(crate) struct Serving {
    process: Child,
    /// Address and port.
    pub(crate) host: String,
}

impl Serving {
    pub(crate) fn start(world: &World) -> Self {
        Self::by(world.command(&["serve", "--listen", "127.0.0.1:0"]))
    }

    /// With a configuration file's text.
    pub(crate) fn configured(world: &World, table: &str) -> Self {
        world.write("serve.toml", table);
        let words = ["--config", "serve.toml", "serve", "--listen", "127.0.0.1:0"];
        Self::by(world.command(&words))
    }

    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }

    pub(crate) fn by(mut command: Command) -> Self {
        let mut process = command.stderr(Stdio::piped()).spawn().expect("the program starts");
        let mut said = BufReader::new(process.stderr.take().expect("stderr"));
        let mut line = String::new();
        // A warning may come first.
        while !line.contains("serving `") {
            line.clear();
            assert!(said.read_line(&mut line).expect("a line") > 0, "it ended");
        }
        let host = line.split("://").nth(1).and_then(|rest| rest.split(';').next());
        let host = host.expect(&line).to_owned();
        std::thread::spawn(move || drop(said.read_to_end(&mut Vec::new())));
        Self { process, host }
    }

    pub(crate) fn name(&self, rest: &str) -> String {
        format!("docker://{}/{rest}", self.host)
    }

    /// Ends it in order.
    pub(crate) fn stop(mut self) {
        let id = self.process.id().to_string();
        assert!(Command::new("kill").arg(id).status().expect("kill").success());
        assert!(self.process.wait().expect("it ends").success());
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

pub(crate) fn skopeo(arguments: &[&str]) -> Said {
    let mut command = Command::new("skopeo");
    Said::of(&command.arg("--insecure-policy").args(arguments).output().expect("skopeo")).ok()
}

pub(crate) fn digest(said: &Said) -> String {
    let about: serde_json::Value = serde_json::from_str(&said.out).expect("JSON");
    about["Digest"].as_str().expect("a digest").to_owned()
}

#[test]
fn what_was_built_is_pulled_at_once_and_what_is_pushed_is_there() {
    let world = World::with_base();
    let serving = Serving::start(&world);
    world.write("app/file", "one\n");
    world.write("app/Dockerfile", "FROM case-base\nCOPY file /\nRUN cat /file > /made\n");
    // The server holds the store, and a build beside it uses it.
    world.run(&["build", "-t", "app", "app"]).ok();
    let layout = |name: &str| format!("oci:{}", world.path(name).display());
    let no_tls = "--src-tls-verify=false";
    skopeo(&["copy", no_tls, &serving.name("app:latest"), &layout("first:app")]);
    let listed = skopeo(&["list-tags", "--tls-verify=false", &serving.name("app")]);
    assert!(listed.out.contains("\"latest\""), "{}", listed.out);

    // Another tag of the same image, in the same repository and with the same digest.
    let again = ["copy", no_tls, "--dest-tls-verify=false"];
    let tags = [serving.name("app:latest"), serving.name("app:v2")];
    skopeo(&[&again[..], &[&tags[0], &tags[1]]].concat());
    let listed = skopeo(&["list-tags", "--tls-verify=false", &serving.name("app")]);
    assert!(listed.out.contains("\"v2\""), "{}", listed.out);

    // The same bytes pushed under another name are there already, and are kept once.
    let dest = "--dest-tls-verify=false";
    skopeo(&["copy", dest, &layout("first:app"), &serving.name("team/copy:1")]);
    let of = |name: &str| digest(&skopeo(&["inspect", "--tls-verify=false", &serving.name(name)]));
    assert_eq!(of("app"), of("team/copy:1"));

    // What happened last is what is pulled: a push, and then a build.
    world.write("app/file", "two\n");
    world.run(&["build", "-t", "other", "app"]).ok();
    let other = of("other");
    let quiet = ["copy", no_tls, dest];
    skopeo(&[&quiet[..], &[&serving.name("other"), &serving.name("app:latest")]].concat());
    assert_eq!(of("app"), other);
    world.write("app/file", "three\n");
    world.run(&["build", "-t", "app", "app"]).ok();
    assert_ne!(of("app"), other);

    // It survives the server, and strata itself pulls it.
    let before = of("team/copy:1");
    serving.stop();
    let serving = Serving::start(&world);
    let said = skopeo(&["inspect", "--tls-verify=false", &serving.name("team/copy:1")]);
    assert_eq!(digest(&said), before);
    let machine = World::new();
    let name = format!("{}/team/copy:1", serving.host);
    machine.run(&["pull", &name]).ok();
    assert!(machine.run(&["images"]).ok().out.contains("team/copy"));
    serving.stop();
}

/// This process and those that it starts may have so many files open.
fn raise_open_files(least: u64) {
    let limit = getrlimit(Resource::Nofile);
    let maximum = limit.maximum.map(|maximum| maximum.max(least));
    let raised = Rlimit { current: maximum, maximum };
    setrlimit(Resource::Nofile, raised).expect("root may have more files open");
}

/// A request on a connection that is open already.
fn healthy(stream: &mut TcpStream) -> bool {
    let asked = stream.write_all(b"GET /readyz HTTP/1.1\r\nhost: x\r\n\r\n");
    let mut answer = [0; 15];
    asked.is_ok() && stream.read_exact(&mut answer).is_ok() && answer == *b"HTTP/1.1 200 OK"
}

#[test]
fn ten_thousand_connections_keep_nobody_out() {
    raise_open_files(16_384);
    let world = World::new();
    let serving = Serving::configured(&world, "[serve]\nconnections = 12000\n");
    let connect = |at: usize| {
        let stream = TcpStream::connect(&serving.host);
        let mut stream = stream.unwrap_or_else(|error| panic!("connection {at}: {error}"));
        stream.set_read_timeout(Some(Duration::from_secs(120))).expect("a limit");
        // Half of them are slow: a head that has no end.
        if at.is_multiple_of(2) {
            stream.write_all(b"GET /cache/a/b HTTP/1.1\r\nhost:").expect("send");
        }
        stream
    };
    let mut idle: Vec<TcpStream> = (0..10_000).map(connect).collect();
    assert!(healthy(&mut connect(1)));
    assert!(idle.last_mut().is_some_and(healthy));
    let status = std::fs::read_to_string(format!("/proc/{}/status", serving.id()));
    let status = status.expect("it runs");
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("VmHWM");
    let peak: u64 = peak.trim().trim_end_matches(" kB").parse().expect("a number");
    assert!(peak < 512 << 10, "{peak} KiB");
    drop(idle);
    serving.stop();
    world.run(&["fsck"]).ok();
}

#[test]
fn a_sweep_keeps_what_was_pushed() {
    let world = World::with_base();
    let serving = Serving::start(&world);
    let layout = format!("oci:{}:x", world.path("layout").display());
    let (source, dest) = ("--src-tls-verify=false", "--dest-tls-verify=false");
    skopeo(&["copy", source, &serving.name("case-base"), &layout]);
    skopeo(&["copy", dest, &layout, &serving.name("kept:1")]);
    world.run(&["rmi", "case-base"]).ok();
    // What a server has announced stays in any case: it ends first, and its time goes by.
    serving.stop();
    world.forget_announced();
    world.run(&["prune", "-a", "-f"]).ok();
    let serving = Serving::start(&world);
    skopeo(&["copy", source, &serving.name("kept:1"), &layout]);
    serving.stop();
}

#[test]
fn what_others_reach_needs_tokens_and_tls() {
    let world = World::new();
    let said = world.run(&["serve", "--listen", "0.0.0.0:0"]);
    assert_eq!(said.code, 2, "{}", said.err);
    assert!(said.err.contains("everybody could write to the cache"), "{}", said.err);
    world.write(
        "config.toml",
        "[[serve.token]]\nname = \"ci\"\nscope = \"write\"\ntoken = \"0123456789abcdef\"\n",
    );
    let said = world.run(&["--config", "config.toml", "serve", "--listen", "0.0.0.0:0"]);
    assert_eq!(said.code, 2, "{}", said.err);
    assert!(said.err.contains("unencrypted"), "{}", said.err);
}

/// The conformance suite of all stores, through client, program and store on disk.
#[test]
fn stores_are_stores_on_the_far_side_too() {
    for part in crate::through::PARTS {
        let world = World::new();
        let serving = Serving::start(&world);
        part(serving.host.parse().expect("an address"));
        serving.stop();
    }
}
