//! A builder: how its build is called, how long one takes, how much memory strata's takes.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// GNU time, which reads the kernel's account of a finished process.
const TIME: &str = "/usr/bin/time";

/// What a command writes before the time of its end, in nanoseconds since 1970.
pub(crate) const END_MARK: &str = "the command ended at";

/// One builder.
#[derive(Debug, Clone)]
pub(crate) struct Tool {
    pub(crate) name: String,
    command: Vec<String>,
    build: Vec<String>,
    remove: Vec<String>,
    version: Vec<String>,
}

impl Tool {
    /// strata itself.
    pub(crate) fn strata(command: &str, arguments: &str) -> Self {
        Self::new("strata", command, &format!("build {arguments}"), "rmi", "--version")
    }

    /// The same, but for images whose large layers are split.
    pub(crate) fn split(&self) -> Self {
        let mut split = Self { name: "strata-split".to_owned(), ..self.clone() };
        split.build.extend(["-o", "type=image,layer-split=16MiB"].map(str::to_owned));
        split
    }

    /// Another builder, with the options that make it do the same: its cache on, the host's
    /// network as strata has it.
    pub(crate) fn peer(name: &str, command: &str) -> Self {
        let (build, version) = match name {
            "buildah" => ("build --network host --layers -q", "--version"),
            _ => ("build --network host -q", "buildx version"),
        };
        let remove = if name == "buildah" { "rmi" } else { "image rm" };
        Self::new(name, command, build, remove, version)
    }

    /// What does one part, and builds nothing.
    pub(crate) fn helper(name: &str, command: &str) -> Self {
        Self::new(name, command, "--version", "--version", "--version")
    }

    /// The same with a store of its own; for strata.
    pub(crate) fn with_store(&self, store: &Path) -> Self {
        let mut other = self.clone();
        other.command.extend(["--store".to_owned(), store.display().to_string()]);
        other
    }

    /// Moves an image, as skopeo does.
    pub(crate) fn copy(&self, from: &str, to: &str) -> Result<Duration, String> {
        let plain = "--src-tls-verify=false --dest-tls-verify=false";
        self.time(self.words(&format!("copy -q {plain} {from} {to}")))
    }

    /// Compresses a file with all cores.
    pub(crate) fn compress(&self, file: &Path, to: &Path) -> Result<Duration, String> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let (file, to) = (file.display(), to.display());
        self.time(self.words(&match &*self.name {
            "pigz" => format!("-k -f -p {cores} {file}"),
            _ => format!("-q -T0 -3 -f {file} -o {to}"),
        }))
    }

    /// Builds the context and writes it as an archive, compressed so; for strata.
    pub(crate) fn export_as(
        &self,
        format: &str,
        image: &str,
        context: &Path,
        archive: &Path,
    ) -> Result<Duration, String> {
        let mut command = self.call(&self.build);
        command.arg("-o");
        command.arg(format!("type=oci,compression={format},dest={}", archive.display()));
        self.time({
            command.arg("-t").arg(image).arg(context);
            command
        })
    }

    /// No builder: what looks at every file of a work tree, too.
    pub(crate) fn git() -> Self {
        Self::new("git status", "git", "status --porcelain", "--version", "--version")
    }

    fn is_git(&self) -> bool {
        self.command == ["git"]
    }

    /// Makes the context what the tool needs: a repository with everything committed.
    pub(crate) fn prepare(&self, context: &Path) -> Result<(), String> {
        if !self.is_git() {
            return Ok(());
        }
        let identity = ["-c", "user.name=bench", "-c", "user.email=bench@localhost"];
        for step in ["init -q", "add -A", "commit -q -m all"] {
            let mut command = Command::new("git");
            command.arg("-C").arg(context).args(identity).args(step.split(' '));
            self.time(command)?;
        }
        Ok(())
    }

    fn new(name: &str, command: &str, build: &str, remove: &str, version: &str) -> Self {
        let words = |text: &str| text.split_whitespace().map(str::to_owned).collect();
        Self {
            name: name.to_owned(),
            command: words(command),
            build: words(build),
            remove: words(remove),
            version: words(version),
        }
    }

    /// What it calls itself.
    pub(crate) fn version(&self) -> String {
        let output = self.call(&self.version).output();
        let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
        let first = text.unwrap_or_default().lines().next().unwrap_or_default().to_owned();
        if first.is_empty() { "of an unknown version".to_owned() } else { first }
    }

    /// Builds the context once.
    pub(crate) fn build(&self, image: &str, context: &Path) -> Result<Duration, String> {
        let mut command = self.call(&self.build);
        if self.is_git() {
            command.current_dir(context);
        } else {
            command.arg("-t").arg(image).arg(context);
        }
        self.time(command)
    }

    /// Sends an image to the registry of its name.
    pub(crate) fn push(&self, image: &str) -> Result<Duration, String> {
        self.time(self.words(&format!("push -q{} {image}", self.plain_http())))
    }

    /// Fetches and unpacks an image; strata into a store of its own.
    pub(crate) fn pull(&self, image: &str, store: &Path) -> Result<Duration, String> {
        if self.name != "strata" {
            return self.time(self.words(&format!("pull -q{} {image}", self.plain_http())));
        }
        let mut command = Command::new(&self.command[0]);
        command.stdin(Stdio::null()).arg("--store").arg(store).args(["pull", image]);
        self.time(command)
    }

    /// Builds the context and writes the image as an archive. Docker's own BuildKit writes none
    /// without containerd's store (`{"features": {"containerd-snapshotter": true}}`): there it
    /// takes a second command, and so it does for buildah.
    pub(crate) fn export(
        &self,
        image: &str,
        context: &Path,
        archive: &Path,
    ) -> Result<Duration, String> {
        let shown = archive.display();
        let second = match &*self.name {
            name if name == "strata" || self.has_containerds_store() => {
                let mut command = self.call(&self.build);
                command.arg("-o").arg(format!("type=oci,dest={shown}"));
                command.arg("-t").arg(image).arg(context);
                return self.time(command);
            }
            "buildah" => format!("push -q {image} oci-archive:{shown}"),
            _ => format!("save -o {shown} {image}"),
        };
        let built = self.build(image, context)?;
        Ok(built + self.time(self.words(&second))?)
    }

    /// Whether this is a docker that keeps images in containerd.
    fn has_containerds_store(&self) -> bool {
        let about = ["info", "-f", "{{.DriverStatus}}"].map(str::to_owned);
        let said = (self.name == "docker").then(|| self.call(&about).output());
        let said = said.and_then(Result::ok).map(|output| output.stdout).unwrap_or_default();
        String::from_utf8_lossy(&said).contains("io.containerd.snapshotter")
    }

    fn words(&self, text: &str) -> Command {
        let words: Vec<String> = text.split_whitespace().map(str::to_owned).collect();
        self.call(&words)
    }

    /// What makes it speak to a registry without TLS, where it does not by itself.
    fn plain_http(&self) -> &'static str {
        if self.name == "buildah" { " --tls-verify=false" } else { "" }
    }

    /// Builds the context once, and says how long that took after its command had ended. The
    /// command's output must be shown for that.
    pub(crate) fn build_after_command(
        &self,
        image: &str,
        context: &Path,
    ) -> Result<Duration, String> {
        let loud: Vec<String> = self.build.iter().filter(|word| *word != "-q").cloned().collect();
        let mut command = self.call(&loud);
        if self.name != "buildah" {
            command.args(["--progress", "plain"]);
        }
        let output = command.arg("-t").arg(image).arg(context).output();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let output = output.map_err(|error| format!("{}: {error}", self.command.join(" ")))?;
        let talk = [output.stdout, output.stderr].concat();
        let talk = String::from_utf8_lossy(&talk);
        ended_at(&talk)
            .filter(|_| output.status.success())
            .and_then(|ended| now.checked_sub(ended))
            .ok_or_else(|| format!("{}: {}\n{talk}", self.name, output.status))
    }

    /// The greatest resident size in KiB of one build, if GNU time is there to ask.
    pub(crate) fn peak_memory(&self, image: &str, context: &Path) -> Option<u64> {
        let mut command = Command::new(TIME);
        command.args(["-f", "peak %M"]).args(&self.command).args(&self.build);
        let output = command.arg("-t").arg(image).arg(context).output().ok()?;
        let text = String::from_utf8_lossy(&output.stderr);
        text.lines().rev().find_map(|line| line.strip_prefix("peak "))?.parse().ok()
    }

    /// Forgets the image's name, so that rounds do not fill the disk. What a builder keeps in its
    /// cache stays: emptying that is for its owner to decide.
    pub(crate) fn remove(&self, image: &str) {
        let mut command = self.call(&self.remove);
        let _ = command.arg(image).stdout(Stdio::null()).stderr(Stdio::null()).status();
    }

    fn call(&self, arguments: &[String]) -> Command {
        let [program, options @ ..] = &self.command[..] else { return Command::new("false") };
        let mut command = Command::new(program);
        command.args(options).args(arguments).stdin(Stdio::null());
        command
    }

    fn time(&self, mut command: Command) -> Result<Duration, String> {
        let begin = Instant::now();
        let output = command.stdout(Stdio::null()).stderr(Stdio::piped()).output();
        let took = begin.elapsed();
        let output = output.map_err(|error| format!("{}: {error}", self.command.join(" ")))?;
        if output.status.success() {
            return Ok(took);
        }
        let talk = String::from_utf8_lossy(&output.stderr);
        let end: Vec<&str> = talk.lines().rev().take(10).collect();
        let end: Vec<&str> = end.into_iter().rev().collect();
        Err(format!("{}: {}\n{}", self.name, output.status, end.join("\n")))
    }
}

/// When the command says that it ended. Its text, with no number in it, is shown too.
fn ended_at(talk: &str) -> Option<Duration> {
    let said = talk.lines().filter_map(|line| line.split_once(END_MARK));
    let mut times = said.filter_map(|(_, time)| time.trim().parse::<u64>().ok());
    times.next_back().map(Duration::from_nanos)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_commands_end_is_found_in_what_is_shown() {
        let talk = format!("#5 RUN x && echo {END_MARK} $(date)\n#5 0.1 {END_MARK} 1500000000\n");
        assert_eq!(ended_at(&talk), Some(Duration::from_millis(1500)));
        assert_eq!(ended_at("nothing"), None);
    }

    #[test]
    fn a_build_is_timed_and_its_failure_told() {
        let took = Tool::new("a", "true", "", "", "").build("i", Path::new("."));
        assert!(took.expect("true succeeds") > Duration::ZERO);
        let failed = Tool::new("a", "ls /nowhere-at-all", "", "", "").build("i", Path::new("."));
        assert!(failed.expect_err("ls fails").contains("nowhere-at-all"));
        assert!(Tool::new("a", "/no/such", "", "", "").build("i", Path::new(".")).is_err());
    }

    #[test]
    fn versions_are_asked_for() {
        assert_eq!(Tool::new("a", "echo v1", "", "", "").version(), "v1");
        assert_eq!(Tool::new("a", "true", "", "", "").version(), "of an unknown version");
    }
}
