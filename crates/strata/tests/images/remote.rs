//! Builds on machines that share nothing but a server: `--remote`, and what may happen to it.

use std::process::{Child, Command, Stdio};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};

use crate::secrets::{lend, places, value};
use crate::serve::Serving;
use crate::world::{Said, World, until};

const WRITER: &str = "0123456789abcdef-builder";
const READER: &str = "0123456789abcdef-visitor";

/// Machines with the same base image.
struct Machines {
    base: World,
}

impl Machines {
    fn new() -> Self {
        let base = World::with_base();
        base.run(&["save", "-o", "base.tar", "case-base"]).ok();
        Self { base }
    }

    /// Another one, with this file to build.
    fn another(&self, dockerfile: &str) -> World {
        let world = World::new();
        let file = self.base.path("base.tar").display().to_string();
        world.run(&["load", "-q", "-i", &file]).ok();
        world.write("app/Dockerfile", dockerfile);
        world
    }
}

/// What a client of a guarded server is given.
struct Guarded {
    files: World,
    serving: Serving,
}

impl Guarded {
    /// A server that asks for a certificate and a token.
    fn new() -> Self {
        let files = World::new();
        let mut params = CertificateParams::new(Vec::new()).expect("parameters");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        files.write("ca.pem", &params.self_signed(&key).expect("a certificate").pem());
        let issuer = Issuer::new(params, key);
        for (name, file) in [("127.0.0.1", "server"), ("client", "client")] {
            let params = CertificateParams::new(vec![name.to_owned()]).expect("parameters");
            let key = KeyPair::generate().expect("a key");
            let certificate = params.signed_by(&key, &issuer).expect("a certificate");
            files.write(&format!("{file}.pem"), &certificate.pem());
            files.write(&format!("{file}.key"), &key.serialize_pem());
        }
        let path = |name: &str| files.path(name).display().to_string();
        let table = format!(
            "[serve]\ntls-cert = \"{}\"\ntls-key = \"{}\"\nclient-ca = \"{}\"\n\
             [[serve.token]]\nname = \"ci\"\nscope = \"write\"\ntoken = \"{WRITER}\"\n\
             [[serve.token]]\nname = \"all\"\nscope = \"read\"\ntoken = \"{READER}\"\n",
            path("server.pem"),
            path("server.key"),
            path("ca.pem"),
        );
        let serving = Serving::configured(&files, &table);
        Self { files, serving }
    }

    fn url(&self) -> String {
        format!("grpcs://{}/team", self.serving.host)
    }

    /// A build with the server's cache, all that it needs coming from the environment.
    fn build(&self, world: &World, token: &str) -> Said {
        let mut command = world.command(&["build", "-t", "app", "app"]);
        command.env("STRATA_REMOTE", self.url()).env("STRATA_REMOTE_TOKEN", token);
        Said::of(&self.known(&mut command).output().expect("it starts")).ok()
    }

    fn known<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        command
            .env("STRATA_REMOTE_CACERT", self.files.path("ca.pem"))
            .env("STRATA_REMOTE_CERT", self.files.path("client.pem"))
            .env("STRATA_REMOTE_KEY", self.files.path("client.key"))
    }
}

#[test]
fn who_may_read_reads_and_who_may_write_writes() {
    let (machines, guarded) = (Machines::new(), Guarded::new());
    let lines = "FROM case-base\nRUN echo made > /made\nRUN cat /made\nCMD [\"cat\", \"/made\"]\n";
    let machine = || machines.another(lines);
    let first = machine();
    // Whoever may only read finds nothing yet, says so, and builds.
    let said = guarded.build(&machine(), READER);
    assert_eq!(said.ran().len(), 2, "{}", said.err);
    assert!(said.err.contains("nothing more goes to the cache"), "{}", said.err);
    assert_eq!(guarded.build(&first, WRITER).ran().len(), 2);
    for token in [READER, WRITER] {
        let second = machine();
        let said = guarded.build(&second, token);
        assert_eq!(said.ran(), Vec::<String>::new(), "{}", said.err);
        assert_eq!(second.id("app"), first.id("app"));
        assert!(!said.err.contains("the cache"), "{}", said.err);
        // Its layers are fetched now.
        let mut command = second.command(&["run", "app"]);
        let command = guarded.known(command.env("STRATA_REMOTE_TOKEN", token));
        assert_eq!(Said::of(&command.output().expect("it starts")).ok().out, "made\n");
    }
    let (url, files) = (guarded.url(), &guarded.files);
    let path = |name: &str| files.path(name).display().to_string();
    let [ca, certificate, key] = [path("ca.pem"), path("client.pem"), path("client.key")];
    files.write("token", &format!("{READER}\n"));
    let token = path("token");
    // The same with all of it in the flag; and without a certificate or a token.
    let all = format!("url={url},cacert={ca},cert={certificate},key={key},token-file={token}");
    let no_certificate = format!("url={url},cacert={ca},token-file={token}");
    let no_token = format!("url={url},cacert={ca},cert={certificate},key={key}");
    let no_authority = format!("url={url},cert={certificate},key={key},token-file={token}");
    for (keys, count, reason) in [
        (all, 0, ""),
        (no_certificate, 2, "is not asked any more"),
        (no_token, 2, "denies access"),
        (no_authority, 2, "an authority that this system does not trust"),
    ] {
        let from = format!("type=reapi,{keys}");
        let said = machine().run(&["build", "-t", "app", "--cache-from", &from, "app"]).ok();
        assert_eq!(said.ran().len(), count, "{}", said.err);
        assert!(said.err.contains(reason), "{}", said.err);
        assert!(!said.err.contains(READER), "a token is shown: {}", said.err);
    }
}

/// A build that goes on while something is done to its server.
fn begin(world: &World, url: &str) -> Child {
    let arguments = ["build", "-t", "app", "--remote", url, "--progress", "plain", "app"];
    let mut command = world.command(&arguments);
    command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("it starts")
}

fn end(process: Child) -> Said {
    Said::of(&process.wait_with_output().expect("it ends"))
}

#[test]
fn steps_are_sent_while_the_build_goes_on_and_stay_when_it_is_cancelled() {
    let machines = Machines::new();
    let server = World::new();
    let serving = Serving::start(&server);
    let url = format!("grpc://{}", serving.host);
    let finished = "FROM case-base\nRUN echo a > /a\nCMD [\"cat\", \"/a\"]\n";
    let world = machines.another(&finished.replace("CMD", "RUN cat /a; sleep 600\nCMD"));
    let building = begin(&world, &url);
    let from = format!("type=reapi,url={url}");
    let build = ["build", "-t", "app", "--cache-from", &from, "app"];
    until("its first step is there", || {
        machines.another(finished).run(&build).ok().ran().is_empty()
    });
    let interrupt = Command::new("kill").args(["-INT", &building.id().to_string()]).status();
    assert!(interrupt.expect("kill").success());
    assert_ne!(end(building).code, 0);
    let other = machines.another(finished);
    assert_eq!(other.run(&build).ok().ran(), Vec::<String>::new());
    assert_eq!(other.run(&["run", "app"]).ok().out, "a\n");
    // One that fails leaves its finished steps, too.
    let failing = finished.replace("echo a", "echo b").replace("CMD", "RUN cat /a && exit 3\nCMD");
    let (first, second) = (machines.another(&failing), machines.another(&failing));
    assert_eq!(first.run(&["build", "--remote", &url, "app"]).code, 1);
    let said = second.run(&["build", "--remote", &url, "app"]);
    assert_eq!(said.code, 1);
    assert_eq!(said.cached(), ["FROM case-base", "RUN echo b > /a"], "{}", said.err);
}

/// Its second step waits for somebody outside, in a cache mount.
fn waiting() -> &'static str {
    "FROM case-base\n\
     RUN echo one > /one\n\
     RUN --mount=type=cache,target=/meet touch /meet/two; \
         for i in $(seq 600); do [ -e /meet/three ] && break; sleep 0.1; done; cat /one > /two\n\
     RUN cat /two > /three\n\
     CMD [\"cat\", \"/three\"]\n"
}

#[test]
fn a_server_that_is_killed_and_started_again_costs_no_build() {
    let machines = Machines::new();
    let server = World::new();
    let serving = Serving::start(&server);
    let host = serving.host.clone();
    let url = format!("grpc://{host}");
    let output = ["-o", "type=oci,dest=app.tar,rewrite-timestamp=true", "-o", "type=image"];
    let build = |world: &World, more: &[&str]| {
        let mut command = world.command(&["build", "-t", "app", "app"]);
        command.args(output).args(more).env("SOURCE_DATE_EPOCH", "1700000000");
        command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("it starts")
    };
    let id = |world: &World| {
        let mut index = Command::new("tar");
        let index = index
            .args(["-xOf", "app.tar", "index.json"])
            .current_dir(world.path(""))
            .output()
            .expect("tar")
            .stdout;
        let index: serde_json::Value = serde_json::from_slice(&index).expect("JSON");
        index["manifests"][0]["digest"].as_str().expect("a digest").to_owned()
    };
    let meet = |world: &World| {
        let mut helper = world.command(&["build", "-q", "meet"]);
        world.write(
            "meet/Dockerfile",
            "FROM case-base\nRUN --mount=type=cache,target=/meet \
             for i in $(seq 600); do [ -e /meet/two ] && break; sleep 0.1; done\n",
        );
        Said::of(&helper.output().expect("it starts")).ok();
    };
    let go_on = |world: &World| {
        let lines = "FROM case-base\nRUN --mount=type=cache,target=/meet touch /meet/three\n";
        world.write("go/Dockerfile", lines);
        world.run(&["build", "-q", "go"]).ok();
    };
    let undisturbed = machines.another(waiting());
    go_on(&undisturbed);
    end(build(&undisturbed, &[])).ok();

    let first = machines.another(waiting());
    let building = build(&first, &["--remote", &url]);
    meet(&first);
    // It is killed while the second step runs, and is there again when the third one does.
    drop(serving);
    let serving = Serving::by(server.command(&["serve", "--listen", &host]));
    go_on(&first);
    end(building).ok();
    assert_eq!(id(&first), id(&undisturbed));

    // It dies for good under the next one.
    let second = machines.another(&waiting().replace("echo one", "echo other"));
    let building = build(&second, &["--remote", &url]);
    meet(&second);
    drop(serving);
    go_on(&second);
    let said = end(building).ok();
    assert!(said.err.contains("nothing more goes to the cache"), "{}", said.err);
    assert_eq!(second.run(&["run", "app"]).ok().out, "other\n");
    // Who comes after it finds what was kept.
    let serving = Serving::by(server.command(&["serve", "--listen", &host]));
    let third = machines.another(waiting());
    go_on(&third);
    end(build(&third, &["--remote", &url])).ok();
    assert_eq!(id(&third), id(&undisturbed));
    drop(serving);
    server.run(&["fsck"]).ok();
}

#[test]
fn secrets_do_not_go_there() {
    let machines = Machines::new();
    let server = World::new();
    let serving = Serving::start(&server);
    let world = machines.another(
        "FROM case-base\nRUN --mount=type=secret,id=file cat /run/secrets/file; echo a > /a\n",
    );
    let secret = value("file");
    let folder = lend(&world, &secret);
    let source = format!("id=file,src={}", folder.path().join("file").display());
    let remote = format!("grpc://{}", serving.host);
    let arguments = ["build", "--secret", &source, "--remote", &remote, "-t", "app", "app"];
    let token = value("token");
    let mut command = world.command(&arguments);
    Said::of(&command.env("STRATA_REMOTE_TOKEN", &token).output().expect("it starts")).ok();
    assert_eq!(places(&server.path(""), &[&secret, &token]), [""; 0]);
    assert_eq!(places(&world.path(""), &[&secret, &token]), [""; 0]);
}
