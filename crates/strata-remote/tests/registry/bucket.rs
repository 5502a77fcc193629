//! A bucket of a real S3 server (`scripts/s3-server.sh`), for as long as a test runs.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// What the bucket is called.
pub(crate) const NAME: &str = "cache";

/// A server with one bucket. It ends when its standard input is closed.
pub(crate) struct Bucket {
    pub(crate) server: Child,
    /// Its address.
    pub(crate) endpoint: String,
}

impl Bucket {
    pub(crate) fn start() -> Self {
        Self::by(&mut Self::script())
    }

    /// One whose objects are kept in a directory, so that it can be killed and started again.
    pub(crate) fn keeping(state: &Path) -> Self {
        Self::by(Self::script().env("S3_STATE", state))
    }

    /// Kills it, as a crash would.
    pub(crate) fn kill(&mut self) {
        self.server.kill().expect("it runs");
        self.server.wait().expect("it ends");
    }

    /// Starts it again where it was.
    pub(crate) fn start_again(&mut self, state: &Path) {
        let port = self.endpoint.rsplit(':').next().expect("a port");
        let again = Self::by(Self::script().env("S3_STATE", state).env("S3_PORT", port));
        assert_eq!(again.endpoint, self.endpoint);
        *self = again;
    }

    fn script() -> Command {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts/s3-server.sh");
        Command::new(script)
    }

    fn by(command: &mut Command) -> Self {
        command.arg(NAME).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut server = command.spawn().expect("the server's script");
        let mut endpoint = String::new();
        let mut lines = BufReader::new(server.stdout.take().expect("its stdout"));
        lines.read_line(&mut endpoint).expect("its address");
        let endpoint = endpoint.trim().to_owned();
        assert!(endpoint.starts_with("http://"), "no S3 server: scripts/setup.sh test");
        Self { server, endpoint }
    }
}

impl Drop for Bucket {
    fn drop(&mut self) {
        drop(self.server.stdin.take());
        drop(self.server.wait());
    }
}
