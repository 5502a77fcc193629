//! A web server for tests: a handful of files, and a log of what was asked for.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

/// What a path answers with.
#[derive(Clone)]
pub(crate) enum Answer {
    /// Bytes, with headers of their own.
    File(Vec<u8>, &'static [(&'static str, &'static str)]),
    /// Another address.
    Moved(String),
    /// A status alone.
    Status(u16),
    /// Bytes for who has this `Authorization`.
    For(&'static str, Vec<u8>),
}

#[derive(Default)]
struct State {
    answers: Mutex<BTreeMap<String, Answer>>,
    /// `PATH STATUS` of each request.
    log: Mutex<Vec<String>>,
    stop: AtomicBool,
}

/// A server on this machine, gone when dropped.
pub(crate) struct Server {
    port: u16,
    state: Arc<State>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Server {
    pub(crate) fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let state = Arc::new(State::default());
        let shared = Arc::clone(&state);
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if shared.stop.load(Ordering::SeqCst) {
                    break;
                }
                drop(stream.map(|stream| shared.answer(&stream)));
            }
        });
        Self { port, state, thread: Some(thread) }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}/{path}", self.port)
    }

    pub(crate) fn put(&self, path: &str, answer: Answer) {
        self.state.answers.lock().expect("a lock").insert(format!("/{path}"), answer);
    }

    /// The requests since the last call.
    pub(crate) fn requests(&self) -> Vec<String> {
        std::mem::take(&mut *self.state.log.lock().expect("a lock"))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.state.stop.store(true, Ordering::SeqCst);
        drop(TcpStream::connect(("127.0.0.1", self.port)));
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

impl State {
    /// One request, one answer.
    fn answer(&self, stream: &TcpStream) {
        let mut lines = BufReader::new(stream).lines().map_while(Result::ok);
        let Some(first) = lines.next() else { return };
        let path = first.split(' ').nth(1).unwrap_or_default().to_owned();
        let headers: Vec<String> = lines.take_while(|line| !line.is_empty()).collect();
        let header = |name: &str| {
            let found = headers.iter().filter_map(|line| line.split_once(": "));
            found.filter(|(given, _)| given.eq_ignore_ascii_case(name)).map(|(_, v)| v).next()
        };
        let answer = self.answers.lock().expect("a lock").get(&path).cloned();
        let (status, more, body) = match answer.unwrap_or(Answer::Status(404)) {
            Answer::Status(status) => (status, Vec::new(), Vec::new()),
            Answer::For(who, bytes) if header("Authorization") == Some(who) => {
                (200, Vec::new(), bytes)
            }
            Answer::For(..) => (401, Vec::new(), Vec::new()),
            Answer::Moved(to) => (302, vec![("Location", to)], Vec::new()),
            Answer::File(bytes, own) => {
                let value = |name: &str| own.iter().find(|(n, _)| *n == name).map(|(_, v)| *v);
                let still_holds = (value("ETag").is_some()
                    && header("If-None-Match") == value("ETag"))
                    || (value("Last-Modified").is_some()
                        && header("If-Modified-Since") == value("Last-Modified"));
                let own = own.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
                if still_holds { (304, own, Vec::new()) } else { (200, own, bytes) }
            }
        };
        self.log.lock().expect("a lock").push(format!("{path} {status}"));
        let mut text = format!("HTTP/1.1 {status} X\r\nConnection: close\r\n");
        text.push_str(&format!("Content-Length: {}\r\n", body.len()));
        more.iter().for_each(|(name, value)| text.push_str(&format!("{name}: {value}\r\n")));
        let mut stream = stream;
        drop(stream.write_all(format!("{text}\r\n").as_bytes()));
        drop(stream.write_all(&body));
    }
}

/// A folder of repositories, served as git serves them.
pub(crate) struct Repositories {
    folder: tempfile::TempDir,
    daemon: Child,
    port: u16,
}

impl Repositories {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let free = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = free.local_addr().expect("an address").port();
        drop(free);
        let programs = git(folder.path(), &["--exec-path"]);
        // Itself, and not as `git daemon`, which would be a process more to end.
        let mut command = Command::new(Path::new(programs.trim()).join("git-daemon"));
        command.args(["--export-all", "--reuseaddr", "--listen=127.0.0.1"]);
        command.arg(format!("--port={port}"));
        command.arg(format!("--base-path={}", folder.path().display()));
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let mut daemon = command.spawn().expect("git daemon starts");
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            let ended = daemon.try_wait().expect("it can be asked");
            assert!(ended.is_none(), "git daemon has ended: {ended:?}");
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        Self { folder, daemon, port }
    }

    pub(crate) fn url(&self, name: &str) -> String {
        format!("git://127.0.0.1:{}/{name}", self.port)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Runs git in a repository.
    pub(crate) fn git(&self, name: &str, arguments: &[&str]) -> String {
        git(&self.path(name), arguments)
    }

    /// Writes files into a repository, made if missing, and commits them; gives the commit's id.
    pub(crate) fn commit(&self, name: &str, files: &[(&str, &str)]) -> String {
        let path = self.path(name);
        if !path.exists() {
            std::fs::create_dir_all(&path).expect("a folder");
            git(&path, &["init", "-q", "-b", "main"]);
        }
        for (file, content) in files {
            let file = path.join(file);
            std::fs::create_dir_all(file.parent().expect("a folder")).expect("folders");
            std::fs::write(file, content).expect("written");
        }
        git(&path, &["add", "-A"]);
        git(&path, &["commit", "-q", "-m", "a change"]);
        git(&path, &["rev-parse", "HEAD"]).trim().to_owned()
    }
}

impl Drop for Repositories {
    fn drop(&mut self) {
        drop(self.daemon.kill());
        drop(self.daemon.wait());
    }
}

fn git(path: &Path, arguments: &[&str]) -> String {
    let mut command = Command::new("git");
    command.arg("-C").arg(path).args(["-c", "user.name=me", "-c", "user.email=me@example.org"]);
    command.args(["-c", "commit.gpgsign=false", "-c", "protocol.file.allow=always"]);
    command.args(arguments).env("GIT_CONFIG_GLOBAL", "/dev/null");
    command.env("GIT_COMMITTER_DATE", "2021-02-03T04:05:06Z");
    let output = command.output().expect("git starts");
    let talk = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {talk}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}
