//! `strata serve` behind builders that know nothing of it: each works twice, with all that it has
//! kept gone in between, and the second time finds its work in the server's cache. The client's
//! own words say so, the server's counters, and a result that could not have been made twice.
//!
//! scripts/cache-clients.sh brings the clients that Debian does not, when they are not there yet.

mod actions;
mod builders;
mod compilers;
mod registry;
mod tasks;

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::serve::Serving;
use crate::world::{Said, World};

const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A client that scripts/cache-clients.sh has installed.
pub(crate) fn installed(name: &str) -> PathBuf {
    let clients = Path::new(env!("CARGO_BIN_EXE_strata")).ancestors().nth(2).expect("a folder");
    let clients = clients.join("clients");
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../../scripts/cache-clients.sh");
    let install = Command::new(script).arg(&clients).output();
    Said::of(&install.expect("the script starts")).ok();
    clients.join(name)
}

/// A server, and machines that use it one after the other. What they work on is in `project`.
struct Shop {
    world: World,
    serving: Serving,
}

impl Shop {
    fn open() -> Self {
        Self::in_world(World::new())
    }

    fn in_world(world: World) -> Self {
        let serving = Serving::start(&world);
        Self { world, serving }
    }

    fn configured(table: &str) -> Self {
        let world = World::new();
        let serving = Serving::configured(&world, table);
        Self { world, serving }
    }

    fn url(&self) -> String {
        format!("http://{}", self.serving.host)
    }

    /// A file of the project.
    fn write(&self, name: &str, content: &str) {
        self.world.write(&format!("project/{name}"), content);
    }

    /// A command of a machine that has nothing but the project.
    fn command(&self, machine: &str, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let home = self.home(machine);
        std::fs::create_dir_all(&home).expect("a home");
        let mut command = Command::new(program);
        command.current_dir(self.world.path("project")).env_clear();
        command.env("PATH", PATH).env("HOME", home).env("LANG", "C.UTF-8");
        command
    }

    fn home(&self, machine: &str) -> PathBuf {
        self.world.path(machine)
    }

    /// Removes what a client has kept or made in the project, and gives its result.
    fn take(&self, result: &str, gone: &[&str]) -> Vec<u8> {
        let bytes = std::fs::read(self.world.path(&format!("project/{result}"))).expect(result);
        for name in gone.iter().chain([&result]) {
            let path = self.world.path(&format!("project/{name}"));
            if std::fs::symlink_metadata(&path).is_ok_and(|found| found.is_dir()) {
                std::fs::remove_dir_all(&path).expect(name);
            } else {
                drop(std::fs::remove_file(&path));
            }
        }
        assert!(!bytes.is_empty());
        bytes
    }

    /// How many look-ups of a protocol have hit, by the server's own counting; whether a blob is
    /// there is asked about what is written, too.
    fn hits(&self, protocol: &str) -> u64 {
        let page = self.get("/metrics");
        let of = |kind: &str| {
            let labels = format!("protocol=\"{protocol}\",kind=\"{kind}\",outcome=\"hit\"");
            let wanted = format!("strata_lookups_total{{{labels}}} ");
            let count = page.lines().find_map(|line| line.strip_prefix(&wanted));
            count.map_or(0, |count| count.parse::<u64>().expect("a number"))
        };
        ["entry", "manifest", "blob"].into_iter().map(of).sum()
    }

    fn get(&self, path: &str) -> String {
        let mut stream = TcpStream::connect(&self.serving.host).expect("it listens");
        let head = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        stream.write_all(head.as_bytes()).expect("send");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        answer
    }

    /// Two machines do the same: the first makes it, the second, which has nothing, gets it.
    /// Gives what the second one said.
    fn twice(
        &self,
        protocol: &str,
        (result, gone): (&str, &[&str]),
        work: impl Fn(&str) -> Said,
    ) -> String {
        let said = work("first").ok();
        let words = format!("{}{}", said.out, said.err);
        assert_eq!(self.hits(protocol), 0, "{words}");
        let made = self.take(result, gone);
        let said = work("second").ok();
        let words = format!("{}{}", said.out, said.err);
        assert!(self.hits(protocol) > 0, "{words}{}", self.get("/metrics"));
        assert_eq!(self.take(result, gone), made, "{words}");
        words
    }
}

fn said(command: &mut Command) -> Said {
    Said::of(&command.output().expect("the client starts"))
}

#[track_caller]
fn has(words: &str, wanted: &str) {
    assert!(words.contains(wanted), "`{wanted}` is not in: {words}");
}
