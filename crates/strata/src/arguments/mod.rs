//! What the user typed, with no meaning yet. Names are Docker's wherever Docker has the thing;
//! the doc comments are the help texts.

mod build;
mod cache;
mod check;
mod fmt;
mod history;
mod image;
mod registry;
mod replay;
mod serve;
mod store;

use std::ffi::OsString;
use std::path::PathBuf;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Args, Parser, Subcommand, ValueEnum};

pub(crate) use build::{
    BuildArguments, CredentialArguments, LimitArguments, PlanArguments, ProgressMode,
    SelectionArguments,
};
pub(crate) use cache::{CacheArguments, CacheCommand};
pub(crate) use check::{CheckArguments, CheckFormat};
pub(crate) use fmt::FmtArguments;
pub(crate) use history::{BuildsArguments, StatsArguments, WhyArguments};
pub(crate) use image::{
    ImagesArguments, ImportArguments, InspectArguments, RmiArguments, RunArguments, ShellArguments,
    TagArguments,
};
pub(crate) use serve::{AccessLog, ServeArguments};
pub(crate) use store::{DuArguments, FsckArguments, PruneArguments};

pub(crate) use replay::{
    ReplayArguments, ReplayFormat, ReplayInterleaving, ReplayKeys, ReplayOrder,
};

pub(crate) use registry::{
    CopyArguments, DiffArguments, HistoryArguments, LoadArguments, LoginArguments, LogoutArguments,
    PullArguments, PushArguments, SaveArguments,
};

use crate::failure::EXIT_USAGE;
use crate::printer::Printer;

/// Builds container images from Dockerfiles and never does the same work twice
#[derive(Debug, Parser)]
#[command(name = "strata", version, disable_help_subcommand = true, propagate_version = false)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) global: GlobalArguments,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What every command takes.
#[derive(Debug, Args)]
#[command(next_help_heading = "Global options")]
pub(crate) struct GlobalArguments {
    /// Directory of the store [env: STRATA_STORE; default: ~/.local/share/strata]
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) store: Option<PathBuf>,
    /// The most that the store may take on disk, such as `20GB` [env: STRATA_STORE_SIZE]
    #[arg(long, global = true, value_name = "SIZE")]
    pub(crate) store_size: Option<String>,
    /// Configuration file [env: STRATA_CONFIG; default: ~/.config/strata/config.toml]
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// What makes sandboxes: `libcontainer`, which is built in, or the path of runc or crun
    #[arg(long, global = true, value_name = "RUNTIME")]
    pub(crate) oci_runtime: Option<String>,
}

/// What is to be done.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Build an image from a Dockerfile
    Build(Box<BuildArguments>),
    /// Say what of a Dockerfile hardly means what its author thinks; nothing is built
    Check(Box<CheckArguments>),
    /// Format Dockerfiles; what they build stays the same
    Fmt(FmtArguments),
    /// Say what a build would do: what is in the cache, what would run, which layers there will be
    Plan(Box<PlanArguments>),
    /// Replay a repository's history: how well its Dockerfile caches, and which files break it
    Replay(Box<ReplayArguments>),
    /// Say why the steps of a build ran
    Why(WhyArguments),
    /// Say how well this store's builds were cached, over time
    Stats(StatsArguments),
    /// List the builds that are remembered
    Builds(BuildsArguments),
    /// List the images in the store
    Images(ImagesArguments),
    /// Show all about images, as JSON
    Inspect(InspectArguments),
    /// Give an image another name
    Tag(TagArguments),
    /// Forget names of images
    Rmi(RmiArguments),
    /// Show what made each layer of an image, and what its last build did for it
    History(HistoryArguments),
    /// Say how two images differ
    Diff(DiffArguments),
    /// Pull images from their registries into the store
    Pull(PullArguments),
    /// Push an image to a registry
    Push(PushArguments),
    /// Copy an image from one registry to another, past the store
    Copy(CopyArguments),
    /// Write images to an archive or a layout
    Save(SaveArguments),
    /// Read images from an archive or a layout into the store
    Load(LoadArguments),
    /// Make an image of a root file system's tar
    Import(ImportArguments),
    /// List, export, import and remove cache mounts
    Cache(CacheArguments),
    /// Run a command in an image; what it changes is lost
    Run(Box<RunArguments>),
    /// Say what takes how much in the store: by kind, by project, by image
    Du(DuArguments),
    /// Remove build results that nobody needs
    Prune(PruneArguments),
    /// Look for damage in the store, and mend it
    Fsck(FsckArguments),
    /// Open a shell in the state before or after a step of a build, also of one that failed
    Shell(ShellArguments),
    /// Serve the store to other builders: as a registry, and as the cache of other tools
    Serve(ServeArguments),
    /// Keep a name and password for a registry, where Docker keeps them
    Login(LoginArguments),
    /// Forget the name and password for a registry
    Logout(LogoutArguments),
    /// Show the version
    Version,
}

/// How a listing is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// Columns for people.
    Table,
    /// JSON for programs.
    Json,
}

/// Flags of `docker build` that mean something here one day, or never.
const NOT_YET: [&str; 2] = ["--builder", "--policy"];

impl Arguments {
    /// Reads the command line; what is not one is answered here, with an exit code.
    pub(crate) fn read(arguments: Vec<OsString>, printer: &Printer) -> Result<Self, u8> {
        Self::try_parse_from(arguments).map_err(|error| answer(&error, printer))
    }
}

fn answer(error: &clap::Error, printer: &Printer) -> u8 {
    let text = error.render();
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            printer.data(text.to_string().trim_end());
            return 0;
        }
        _ if printer.colors() => printer.talk(text.ansi().to_string().trim_end()),
        _ => printer.talk(text.to_string().trim_end()),
    }
    if let Some(ContextValue::String(flag)) = error.get(ContextKind::InvalidArg)
        && NOT_YET.contains(&flag.split('=').next().unwrap_or_default())
    {
        let hint = format!("Docker's `{flag}` is not supported yet");
        printer.labelled(crate::printer::Label::Hint, &hint);
    }
    EXIT_USAGE
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_contradicts_itself_nowhere() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn flags_are_dockers() {
        let line = "strata build -t a -t b:c -f D --build-arg A=b --build-arg C --target s \
            --build-context n=v --no-cache --no-cache-filter x,y --pull --platform linux/amd64 \
            --label k=v --network none --allow network.host --add-host h:1.2.3.4 --iidfile i \
            --metadata-file m -q --progress plain -o type=oci,dest=f -o out --jobs 2 --rm \
            --force-rm=false --compress --squash --store s --secret id=a,env=B \
            --ssh default --timeout 1h .";
        let read = Arguments::try_parse_from(line.split_whitespace()).expect("arguments");
        let Command::Build(build) = read.command else { unreachable!() };
        assert_eq!(build.tags, ["a", "b:c"]);
        assert_eq!(build.selection.no_cache_filter, ["x", "y"]);
        assert!(build.selection.no_cache && build.selection.pull && build.quiet && build.squash);
        assert_eq!(build.selection.context, std::path::Path::new("."));
        assert_eq!(read.global.store, Some(PathBuf::from("s")));
    }

    #[test]
    fn what_follows_the_image_is_the_commands() {
        let line = ["strata", "run", "-e", "A=b", "img", "sh", "-c", "x", "--store", "y"];
        let read = Arguments::try_parse_from(line).expect("arguments");
        let Command::Run(run) = read.command else { unreachable!() };
        assert_eq!(run.command, ["sh", "-c", "x", "--store", "y"]);
        assert_eq!(read.global.store, None);
    }
}
