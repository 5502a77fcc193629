//! The flags of the commands that deal with images in the store.

use clap::Args;

use super::{Format, LimitArguments};

/// `strata images`.
#[derive(Debug, Args)]
pub(crate) struct ImagesArguments {
    /// How the list is written; JSON has one object a line
    #[arg(long, value_name = "FORMAT", default_value = "table")]
    pub(crate) format: Format,
}

/// `strata inspect`.
#[derive(Debug, Args)]
pub(crate) struct InspectArguments {
    /// Names or ids
    #[arg(value_name = "NAME", required = true)]
    pub(crate) names: Vec<String>,
    /// How it is written
    #[arg(long, value_name = "FORMAT", default_value = "json", value_parser = ["json"])]
    pub(crate) format: String,
    /// Of the images of that name, the one for this platform
    #[arg(long, value_name = "PLATFORM")]
    pub(crate) platform: Option<String>,
}

/// `strata tag`.
#[derive(Debug, Args)]
pub(crate) struct TagArguments {
    /// Name or id of an image in the store
    #[arg(value_name = "SOURCE")]
    pub(crate) source: String,
    /// Its new name
    #[arg(value_name = "NAME[:TAG]")]
    pub(crate) name: String,
}

/// `strata rmi`.
#[derive(Debug, Args)]
pub(crate) struct RmiArguments {
    /// Names to forget
    #[arg(value_name = "NAME", required = true)]
    pub(crate) names: Vec<String>,
    /// Docker's; a name can always be forgotten.
    #[arg(short, long, hide = true)]
    pub(crate) force: bool,
}

/// `strata import`.
#[derive(Debug, Args)]
pub(crate) struct ImportArguments {
    /// Tar of a root file system, compressed or not; `-` for standard input
    #[arg(value_name = "FILE")]
    pub(crate) file: std::path::PathBuf,
    /// The image's name
    #[arg(value_name = "NAME[:TAG]")]
    pub(crate) name: String,
    /// What the image is for
    #[arg(long, value_name = "PLATFORM")]
    pub(crate) platform: Option<String>,
}

/// `strata run`.
#[derive(Debug, Args)]
pub(crate) struct RunArguments {
    /// Name or id of an image in the store
    #[arg(value_name = "IMAGE")]
    pub(crate) image: String,
    /// The command and its arguments [default: the image's]
    #[arg(value_name = "COMMAND", trailing_var_arg = true, allow_hyphen_values = true)]
    pub(crate) command: Vec<String>,
    /// A variable; without a value, it is taken from the environment
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    pub(crate) env: Vec<String>,
    /// Where the command runs
    #[arg(short, long, value_name = "DIR")]
    pub(crate) workdir: Option<String>,
    /// Who runs it: a name or number, with a group after a colon
    #[arg(short, long, value_name = "USER")]
    pub(crate) user: Option<String>,
    /// The program to run in place of the image's
    #[arg(long, value_name = "PROGRAM")]
    pub(crate) entrypoint: Option<String>,
    /// host or none
    #[arg(long, value_name = "MODE", default_value = "host")]
    pub(crate) network: String,
    /// The machine's name as the command sees it
    #[arg(long, value_name = "NAME")]
    pub(crate) hostname: Option<String>,
    /// A host's address for the command
    #[arg(long = "add-host", value_name = "HOST:IP|HOST:host-gateway")]
    pub(crate) add_hosts: Vec<String>,
    /// How many processors it may use, such as 1.5
    #[arg(long, value_name = "N", conflicts_with_all = ["cpu_period", "cpu_quota"])]
    pub(crate) cpus: Option<String>,
    /// How many processes it may have; -1 for no limit
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    pub(crate) pids_limit: Option<i64>,
    #[command(flatten)]
    pub(crate) limits: LimitArguments,
    /// Of the images of that name, the one for this platform
    #[arg(long, value_name = "PLATFORM")]
    pub(crate) platform: Option<String>,
    #[command(flatten)]
    pub(crate) ignored: RunIgnoredArguments,
}

/// `strata shell`.
#[derive(Debug, Args)]
pub(crate) struct ShellArguments {
    /// The directory of a build, for its latest one, or an image in the store
    #[arg(value_name = "CONTEXT|IMAGE")]
    pub(crate) target: String,
    /// What to run there [default: the step's shell]
    #[arg(value_name = "COMMAND", trailing_var_arg = true, allow_hyphen_values = true)]
    pub(crate) command: Vec<String>,
    /// The step: its number, its stage, or a part of its instruction [default: the one that
    /// failed, or the last one]
    #[arg(long, value_name = "STEP")]
    pub(crate) at: Option<String>,
    /// The state before the step, not the one after it
    #[arg(long)]
    pub(crate) before: bool,
    /// List the steps
    #[arg(long, conflicts_with_all = ["at", "before", "command"])]
    pub(crate) list: bool,
    /// The build's Dockerfile [default: CONTEXT/Dockerfile]
    #[arg(short, long, value_name = "FILE")]
    pub(crate) file: Option<std::path::PathBuf>,
    /// A variable; without a value, it is taken from the environment
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    pub(crate) env: Vec<String>,
    /// Where the command runs [default: where the step ran]
    #[arg(short, long, value_name = "DIR")]
    pub(crate) workdir: Option<String>,
    /// Who runs it: a name or number, with a group after a colon [default: the step's user]
    #[arg(short, long, value_name = "USER")]
    pub(crate) user: Option<String>,
    /// host or none
    #[arg(long, value_name = "MODE", default_value = "host")]
    pub(crate) network: String,
    /// Of the images of that name, the one for this platform
    #[arg(long, value_name = "PLATFORM")]
    pub(crate) platform: Option<String>,
}

/// Docker's flags for what is always so here.
#[derive(Debug, Args)]
pub(crate) struct RunIgnoredArguments {
    #[arg(long, hide = true)]
    rm: bool,
    #[arg(short, long, hide = true)]
    interactive: bool,
    #[arg(short, long, hide = true)]
    tty: bool,
}
