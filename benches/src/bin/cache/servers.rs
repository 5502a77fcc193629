//! Servers, started for one comparison on a port and in a directory of their own.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::options::Options;
use crate::say;

/// Which program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Strata,
    Nginx,
    Registry,
    Casd,
}

/// A server that ends with this.
pub(crate) struct Running {
    pub(crate) kind: Kind,
    pub(crate) name: &'static str,
    pub(crate) address: SocketAddr,
    process: Child,
    /// None where it outlives the server.
    directory: Option<PathBuf>,
}

impl Running {
    /// strata first, then those peers that suit and are there.
    pub(crate) fn start(
        options: &Options,
        suits: impl Fn(Kind) -> bool,
    ) -> Result<Vec<Self>, String> {
        let mut all = Vec::new();
        for (kind, name, program) in [
            (Kind::Strata, "strata", Some(&options.strata)),
            (Kind::Nginx, "nginx", options.nginx.as_ref()),
            (Kind::Registry, "docker-registry", options.registry.as_ref()),
            (Kind::Casd, "buildbox-casd", options.casd.as_ref()),
        ] {
            match program {
                _ if !suits(kind) => {}
                Some(program) => {
                    let directory = fresh(name)?;
                    let mut server = Self::one(kind, name, program, &directory)?;
                    server.directory = Some(directory);
                    all.push(server);
                }
                None => say(&format!("{name}: left out, it is not set")),
            }
        }
        Ok(all)
    }

    /// One server with its data in a directory that stays.
    pub(crate) fn one(
        kind: Kind,
        name: &'static str,
        program: &str,
        directory: &Path,
    ) -> Result<Self, String> {
        let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
        let address = free.map_err(|error| error.to_string())?;
        let mut command = command(kind, program, directory, address)?;
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let process = command.spawn().map_err(|error| format!("{program}: {error}"))?;
        let server = Self { kind, name, address, process, directory: None };
        let start = Instant::now();
        while TcpStream::connect(address).is_err() {
            if start.elapsed() > Duration::from_secs(60) {
                return Err(format!("{name} does not listen"));
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(server)
    }

    /// The most memory that it has had.
    pub(crate) fn peak_mib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id()));
        let line = status.unwrap_or_default();
        let line = line.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
        kib.unwrap_or_default() / 1024
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // In order: some have children of their own.
        drop(Command::new("kill").arg(self.process.id().to_string()).status());
        drop(self.process.wait());
        if let Some(directory) = &self.directory {
            drop(std::fs::remove_dir_all(directory));
        }
    }
}

/// An empty directory.
pub(crate) fn fresh(name: &str) -> Result<PathBuf, String> {
    let path = std::env::temp_dir().join(format!("strata-bench-{}-{name}", std::process::id()));
    drop(std::fs::remove_dir_all(&path));
    std::fs::create_dir_all(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(path)
}

fn command(
    kind: Kind,
    program: &str,
    directory: &Path,
    address: SocketAddr,
) -> Result<Command, String> {
    let mut command = Command::new(program);
    let at = directory.display();
    let write = |name: &str, text: String| {
        let path = directory.join(name);
        std::fs::write(&path, text).map(|()| path).map_err(|error| error.to_string())
    };
    match kind {
        Kind::Strata => {
            command.args(["serve", "--listen", &address.to_string()]);
            command.env("STRATA_STORE", directory.join("store"));
        }
        Kind::Nginx => {
            let text = format!(
                "daemon off; user root; worker_processes 2; pid {at}/pid; error_log {at}/log;\n\
                 events {{ worker_connections 4096; }}\n\
                 http {{ access_log off; sendfile on; tcp_nopush on; client_max_body_size 0;\n\
                 keepalive_requests 100000000; client_body_temp_path {at}/body;\n\
                 proxy_temp_path {at}/1; fastcgi_temp_path {at}/2; uwsgi_temp_path {at}/3;\n\
                 scgi_temp_path {at}/4;\n\
                 server {{ listen {address}; location / {{ root {at}/data;\n\
                 dav_methods PUT DELETE; create_full_put_path on; }} }} }}\n"
            );
            command.arg("-c").arg(write("nginx.conf", text)?).arg("-p").arg(directory);
        }
        Kind::Registry => {
            let text = format!(
                "version: 0.1\nlog: {{level: error, accesslog: {{disabled: true}}}}\n\
                 storage: {{filesystem: {{rootdirectory: {at}/data}}}}\n\
                 http: {{addr: '{address}'}}\n"
            );
            command.arg("serve").arg(write("registry.yml", text)?);
        }
        Kind::Casd => {
            command.arg(format!("--bind={address}")).arg(directory.join("data"));
        }
    }
    Ok(command)
}
