//! What is timed: the context of each case, and the rounds, in which the builders take turns.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::compress;
use crate::context::{Scratch, seed};
use crate::options::Options;
use crate::ship;
use crate::tool::{END_MARK, Tool};

const COPY_FILES: usize = 64;
const COPY_FILE_BYTES: usize = 16 << 20;
const RUNS: usize = 100;
const SMALL_FILES: usize = 100_000;
const BIG_FILE_BYTES: usize = 1 << 30;

/// One kind of build.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Case {
    /// The application again, with nothing changed.
    Noop,
    /// A context of so many files again, with nothing changed; `git status` of it beside.
    Context(usize),
    /// One COPY of new bytes.
    Copy,
    /// Many RUNs that nobody has run before.
    Run,
    /// The application again, nothing changed, into an archive.
    Export,
    /// A new image to a registry.
    Push,
    /// A large image to a registry that has it, but for one file.
    PushChange,
    /// An image from a registry.
    Pull,
    /// A layer that was never compressed into an archive, as gzip; pigz beside.
    CompressGzip,
    /// The same as zstd; zstd beside.
    CompressZstd,
    /// What comes after a RUN that writes many small files.
    Files,
    /// What comes after a RUN that writes one big file.
    Gigabyte,
}

/// What came out: a time for each round, for each tool in its order.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) times: Vec<Vec<Duration>>,
    /// strata's greatest resident size in KiB, of one more build of the same kind.
    pub(crate) peak_memory: Option<u64>,
}

impl Case {
    pub(crate) const ALL: [Self; 14] = [
        Self::Noop,
        Self::Context(1_000),
        Self::Context(20_000),
        Self::Context(100_000),
        Self::Copy,
        Self::Run,
        Self::Export,
        Self::Push,
        Self::PushChange,
        Self::Pull,
        Self::CompressGzip,
        Self::CompressZstd,
        Self::Files,
        Self::Gigabyte,
    ];

    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|case| case.name() == name)
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Noop => "noop",
            Self::Context(1_000) => "context-1000",
            Self::Context(100_000) => "context-100000",
            Self::Context(_) => "context",
            Self::Copy => "copy",
            Self::Run => "run",
            Self::Export => "export",
            Self::Push => "push",
            Self::PushChange => "push-change",
            Self::Pull => "pull",
            Self::CompressGzip => "compress-gzip",
            Self::CompressZstd => "compress-zstd",
            Self::Files => "files",
            Self::Gigabyte => "gigabyte",
        }
    }

    pub(crate) fn title(self) -> String {
        match self {
            Self::Noop => "The application again, nothing changed".to_owned(),
            Self::Context(files) => format!("A context of {files} files again, nothing changed"),
            Self::Copy => "`COPY` of 1 GiB of new bytes (64 files)".to_owned(),
            Self::Run => format!("{RUNS} × `RUN true`, none of them cached"),
            Self::Export => "The application again, nothing changed, into an archive".to_owned(),
            Self::Push => "First push of 256 MiB of new bytes".to_owned(),
            Self::PushChange => "Push after one of 64 files of a 1 GiB layer changed".to_owned(),
            Self::Pull => "Pull and unpack of 256 MiB".to_owned(),
            Self::CompressGzip => "A new layer into an archive, as gzip".to_owned(),
            Self::CompressZstd => "A new layer into an archive, as zstd".to_owned(),
            Self::Files => {
                format!("From the end of a RUN that writes {SMALL_FILES} small files to the image")
            }
            Self::Gigabyte => "From the end of a RUN that writes 1 GiB to the image".to_owned(),
        }
    }

    /// Whether `git status` does a part of the same: it looks at every file.
    pub(crate) fn has_git(self) -> bool {
        matches!(self, Self::Context(_))
    }

    /// The format that is timed, and the program that does nothing else.
    pub(crate) fn compressor(self) -> Option<(&'static str, &'static str)> {
        match self {
            Self::CompressGzip => Some(("gzip", "pigz")),
            Self::CompressZstd => Some(("zstd", "zstd")),
            _ => None,
        }
    }

    /// Whether it is between an archive and a registry, which needs no builder.
    pub(crate) fn moves(self) -> bool {
        matches!(self, Self::Push | Self::PushChange | Self::Pull)
    }

    /// Whether it is also done with images whose large layers are split.
    pub(crate) fn is_split(self) -> bool {
        self == Self::PushChange
    }

    /// Whether every round needs a context that no builder has seen.
    fn is_cold(self) -> bool {
        matches!(self, Self::Copy | Self::Run | Self::Files | Self::Gigabyte)
    }

    /// Whether the time of the command itself does not count: it says when it ends.
    fn begins_with_the_commands_end(self) -> bool {
        matches!(self, Self::Files | Self::Gigabyte)
    }

    fn build(self, tool: &Tool, context: &Path) -> Result<Duration, String> {
        match self.begins_with_the_commands_end() {
            true => tool.build_after_command(&self.image(), context),
            false => tool.build(&self.image(), context),
        }
    }

    fn image(self) -> String {
        format!("strata-bench-{}", self.name())
    }
}

/// Runs the rounds of one case.
pub(crate) fn run(case: Case, tools: &[Tool], options: &Options) -> Result<Outcome, String> {
    if case == Case::Export || case.moves() {
        return ship::run(case, tools, options);
    }
    if let Some((format, _)) = case.compressor() {
        return compress::run(case.name(), format, tools, options);
    }
    let scratch = Scratch::new(case.name()).map_err(|error| format!("a context: {error}"))?;
    let context = match case {
        Case::Noop => PathBuf::from(&options.app),
        _ => scratch.path().to_path_buf(),
    };
    let renew = || {
        write(case, &scratch, &options.base).map_err(|error| format!("{}: {error}", case.name()))
    };
    renew()?;
    if !case.is_cold() {
        for tool in tools {
            tool.prepare(&context)?;
            tool.build(&case.image(), &context)?;
        }
        settle(tools, case, &context)?;
    }
    let mut times = vec![Vec::new(); tools.len()];
    for round in 0..options.rounds {
        if case.is_cold() && round > 0 {
            renew()?;
        }
        // Who comes first changes, since the first one may find a colder machine.
        for turn in 0..tools.len() {
            let at = (turn + round) % tools.len();
            times[at].push(case.build(&tools[at], &context)?);
        }
    }
    if case.is_cold() {
        renew()?;
    }
    let peak_memory = tools[0].peak_memory(&case.image(), &context);
    tools.iter().for_each(|tool| tool.remove(&case.image()));
    Ok(Outcome { times, peak_memory })
}

/// Files that are younger than a second are read again by a careful builder: wait, and let every
/// builder see them once more.
fn settle(tools: &[Tool], case: Case, context: &Path) -> Result<(), String> {
    std::thread::sleep(Duration::from_secs(2));
    tools.iter().try_for_each(|tool| tool.build(&case.image(), context).map(drop))
}

fn write(case: Case, scratch: &Scratch, base: &str) -> std::io::Result<()> {
    let seed = seed();
    match case {
        Case::Noop | Case::Export | Case::Push | Case::PushChange | Case::Pull => Ok(()),
        Case::CompressGzip | Case::CompressZstd => Ok(()),
        Case::Context(files) => {
            scratch.dockerfile(&format!("FROM {base}\nCOPY data /data\n"))?;
            scratch.files(files, 1024, seed)
        }
        Case::Copy => {
            scratch.dockerfile(&format!("FROM {base}\nCOPY data /data\n"))?;
            scratch.files(COPY_FILES, COPY_FILE_BYTES, seed)
        }
        Case::Run => scratch.dockerfile(&many_runs(base, seed)),
        Case::Files => scratch.dockerfile(&ending(
            base,
            &format!(
                "mkdir /files && cd /files && i=0 && while [ $i -lt {SMALL_FILES} ]; do \
             echo {seed} $i > $i; i=$((i + 1)); done"
            ),
        )),
        Case::Gigabyte => {
            let write = format!("head -c {BIG_FILE_BYTES} /dev/urandom > /big && : {seed}");
            scratch.dockerfile(&ending(base, &write))
        }
    }
}

/// A command that says when it has ended.
fn ending(base: &str, command: &str) -> String {
    format!("FROM {base}\nRUN {command} && echo {END_MARK} $(date +%s%N)\n")
}

/// Each RUN has a text of its own: the same command over the same tree is one step for strata.
fn many_runs(base: &str, seed: u64) -> String {
    let mut text = format!("FROM {base}\n");
    for number in 0..RUNS {
        // Writing to a string does not fail.
        let _ = writeln!(text, "RUN true {seed}-{number}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lead_back() {
        for case in Case::ALL {
            assert_eq!(Case::named(case.name()), Some(case));
        }
    }

    #[test]
    fn every_run_has_its_own_text() {
        let text = many_runs("busybox", 7);
        assert!(text.starts_with("FROM busybox\nRUN true 7-0\nRUN true 7-1\n"));
        assert_eq!(text.lines().count(), RUNS + 1);
    }
}
