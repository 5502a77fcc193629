//! The flags of `strata build` and `strata plan`.

use std::path::PathBuf;

use clap::builder::BoolishValueParser;
use clap::{ArgAction, Args, ValueEnum};

use super::Format;

/// What is built: shared by `build` and `plan`.
#[derive(Debug, Args)]
pub(crate) struct SelectionArguments {
    /// What COPY and ADD read: a directory, a URL, a git repository, or `-` for an archive on
    /// standard input
    #[arg(value_name = "CONTEXT")]
    pub(crate) context: PathBuf,
    /// The Dockerfile: a path, a URL, or `-` for standard input [default: CONTEXT/Dockerfile]
    #[arg(short, long, value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
    /// Value of an ARG; without a value, it is taken from the environment
    #[arg(long = "build-arg", value_name = "NAME[=VALUE]")]
    pub(crate) build_args: Vec<String>,
    /// The stage to build [default: the last one]
    #[arg(long, value_name = "STAGE")]
    pub(crate) target: Option<String>,
    /// Another context: a directory, an archive, a URL, a git repository, docker-image://REF or
    /// oci-layout://PATH
    #[arg(long = "build-context", value_name = "NAME=VALUE")]
    pub(crate) build_contexts: Vec<String>,
    /// Run every step, whatever the cache says
    #[arg(long, value_name = "BOOL", value_parser = BoolishValueParser::new(),
        action = ArgAction::Set, num_args = 0..=1, require_equals = true,
        default_value = "false", default_missing_value = "true", hide_default_value = true,
        hide_possible_values = true)]
    pub(crate) no_cache: bool,
    /// Run every step of these stages, whatever the cache says
    #[arg(long, value_name = "STAGE,...", value_delimiter = ',')]
    pub(crate) no_cache_filter: Vec<String>,
    /// Run this step, whatever the cache says: its number, `stage.number` or a part of its text
    #[arg(long = "rerun", value_name = "STEP")]
    pub(crate) reruns: Vec<String>,
    /// Look base images up in their registries even if the store has them
    #[arg(long, value_name = "BOOL", value_parser = BoolishValueParser::new(),
        action = ArgAction::Set, num_args = 0..=1, require_equals = true,
        default_value = "false", default_missing_value = "true", hide_default_value = true,
        hide_possible_values = true)]
    pub(crate) pull: bool,
    /// What the image is for, such as linux/arm64; several make an image for each
    /// [env: DOCKER_DEFAULT_PLATFORM]
    #[arg(long, value_name = "PLATFORM,...")]
    pub(crate) platform: Option<String>,
    /// A label of the image
    #[arg(long = "label", value_name = "NAME=VALUE")]
    pub(crate) labels: Vec<String>,
    /// Network of RUN instructions: default, none or host
    #[arg(long, value_name = "MODE")]
    pub(crate) network: Option<String>,
    /// Allow what a Dockerfile may only do with your consent: network.host, security.insecure
    #[arg(long, value_name = "ENTITLEMENT", value_delimiter = ',')]
    pub(crate) allow: Vec<String>,
    /// A host's address for RUN instructions
    #[arg(long = "add-host", value_name = "HOST:IP|HOST:host-gateway")]
    pub(crate) add_hosts: Vec<String>,
    #[command(flatten)]
    pub(crate) limits: LimitArguments,
    /// How many steps may run at a time [default: one for each processor]
    #[arg(long, value_name = "N")]
    pub(crate) jobs: Option<usize>,
}

/// How much commands may use.
#[derive(Debug, Args)]
pub(crate) struct LimitArguments {
    /// Limits of each command: memory, memory-swap, cpu-shares, cpu-period, cpu-quota,
    /// cpuset-cpus, cpuset-mems, pids
    #[arg(long = "resource", value_name = "NAME=LIMIT,...", value_delimiter = ',')]
    pub(crate) resources: Vec<String>,
    /// Limit of each process of a command, such as nofile=1024:2048
    #[arg(long = "ulimit", value_name = "NAME=SOFT[:HARD]")]
    pub(crate) ulimits: Vec<String>,
    /// Size of each command's /dev/shm
    #[arg(long, value_name = "SIZE")]
    pub(crate) shm_size: Option<String>,
    /// The cgroup below which those of commands are made
    #[arg(long, value_name = "PATH")]
    pub(crate) cgroup_parent: Option<String>,
    #[arg(short, long, value_name = "SIZE", hide = true)]
    pub(crate) memory: Option<String>,
    #[arg(long, value_name = "SIZE", hide = true)]
    pub(crate) memory_swap: Option<String>,
    #[arg(short, long, value_name = "N", hide = true)]
    pub(crate) cpu_shares: Option<String>,
    #[arg(long, value_name = "MICROSECONDS", hide = true)]
    pub(crate) cpu_period: Option<String>,
    #[arg(long, value_name = "MICROSECONDS", hide = true, allow_hyphen_values = true)]
    pub(crate) cpu_quota: Option<String>,
    #[arg(long, value_name = "LIST", hide = true)]
    pub(crate) cpuset_cpus: Option<String>,
    #[arg(long, value_name = "LIST", hide = true)]
    pub(crate) cpuset_mems: Option<String>,
}

/// What is lent to a build and kept nowhere.
#[derive(Debug, Default, Args)]
pub(crate) struct CredentialArguments {
    /// A secret for `RUN --mount=type=secret`: id=ID,src=FILE or id=ID,env=VARIABLE
    #[arg(long = "secret", value_name = "SECRET")]
    pub(crate) secrets: Vec<String>,
    /// An agent for `RUN --mount=type=ssh`: yours, another one's socket, or one with these keys
    #[arg(long, value_name = "default|ID[=SOCKET|KEY,...]")]
    pub(crate) ssh: Vec<String>,
}

/// `strata build`.
#[derive(Debug, Args)]
pub(crate) struct BuildArguments {
    #[command(flatten)]
    pub(crate) selection: SelectionArguments,
    #[command(flatten)]
    pub(crate) credentials: CredentialArguments,
    /// A name for the image
    #[arg(short, long = "tag", value_name = "NAME[:TAG]")]
    pub(crate) tags: Vec<String>,
    /// Write the image's id to a file
    #[arg(long, value_name = "FILE")]
    pub(crate) iidfile: Option<PathBuf>,
    /// Write what is to be known of the image to a file, as JSON
    #[arg(long, value_name = "FILE")]
    pub(crate) metadata_file: Option<PathBuf>,
    /// Say nothing and print the image's id
    #[arg(short, long, value_name = "BOOL", value_parser = BoolishValueParser::new(),
        action = ArgAction::Set, num_args = 0..=1, require_equals = true,
        default_value = "false", default_missing_value = "true", hide_default_value = true,
        hide_possible_values = true)]
    pub(crate) quiet: bool,
    /// How long the build may take, such as 90s or 1h30m
    #[arg(long, value_name = "DURATION")]
    pub(crate) timeout: Option<String>,
    /// How progress is shown [env: BUILDKIT_PROGRESS; default: auto]
    #[arg(long, value_name = "MODE")]
    pub(crate) progress: Option<ProgressMode>,
    /// Write the result: `type=oci|docker|local|tar,dest=PATH`, `type=image|registry`, a
    /// directory, or `-` for a tar
    #[arg(short, long = "output", value_name = "OUTPUT")]
    pub(crate) outputs: Vec<String>,
    /// Run so many of a hundred cached steps again, to see whether they give the same
    #[arg(long, value_name = "PERCENT[%]")]
    pub(crate) cache_verify: Option<String>,
    /// What chooses those steps: equal seeds choose equally
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    pub(crate) cache_verify_seed: u64,
    /// Push the image to the registries that its names are of
    #[arg(long, value_name = "BOOL", value_parser = BoolishValueParser::new(),
        action = ArgAction::Set, num_args = 0..=1, require_equals = true,
        default_value = "false", default_missing_value = "true", hide_default_value = true,
        hide_possible_values = true)]
    pub(crate) push: bool,
    /// Load the image into the Docker or Podman that runs here
    #[arg(long, value_name = "BOOL", value_parser = BoolishValueParser::new(),
        action = ArgAction::Set, num_args = 0..=1, require_equals = true,
        default_value = "false", default_missing_value = "true", hide_default_value = true,
        hide_possible_values = true)]
    pub(crate) load: bool,
    /// A cache that other machines fill: NAME, or type=registry|local|s3|reapi,...
    #[arg(long = "cache-from", value_name = "CACHE")]
    pub(crate) cache_from: Vec<String>,
    /// A cache that other machines read: type=registry|local|s3|reapi,...[,mode=min|max]
    #[arg(long = "cache-to", value_name = "CACHE")]
    pub(crate) cache_to: Vec<String>,
    /// A server whose cache is read and written: grpc://HOST:PORT[/INSTANCE], or grpcs
    #[arg(long, env = "STRATA_REMOTE", value_name = "URL")]
    pub(crate) remote: Option<String>,
    /// A note in the image's manifest: [manifest|index|...[PLATFORM]:]NAME=VALUE
    #[arg(long = "annotation", value_name = "NAME=VALUE")]
    pub(crate) annotations: Vec<String>,
    /// Say how the image was built, beside it in the registry: true, or mode=min|max,...
    #[arg(long, value_name = "BOOL|KEY=VALUE,...")]
    pub(crate) provenance: Option<String>,
    /// Say which packages are in the image, beside it in the registry
    #[arg(long, value_name = "BOOL")]
    pub(crate) sbom: Option<String>,
    /// Either of the two: type=provenance[,mode=min|max] or type=sbom
    #[arg(long = "attest", value_name = "type=TYPE,...")]
    pub(crate) attests: Vec<String>,
    /// Check the Dockerfile and build nothing, as `strata check` does
    #[arg(long, value_name = "BOOL", value_parser = BoolishValueParser::new(),
        action = ArgAction::Set, num_args = 0..=1, require_equals = true,
        default_value = "false", default_missing_value = "true", hide_default_value = true,
        hide_possible_values = true)]
    pub(crate) check: bool,
    /// What to do: build, check[,format=text|json|sarif][,ignorestatus=true], or outline or
    /// targets[,format=text|json]
    #[arg(long, value_name = "METHOD")]
    pub(crate) call: Option<String>,
    #[command(flatten)]
    pub(crate) ignored: IgnoredArguments,
    /// Docker's; not done.
    #[arg(long, hide = true, value_parser = BoolishValueParser::new(),
        action = ArgAction::Set, num_args = 0..=1, require_equals = true,
        default_value = "false", default_missing_value = "true")]
    pub(crate) squash: bool,
}

/// Docker's flags without a meaning here: nothing is left behind that they would remove.
#[derive(Debug, Args)]
pub(crate) struct IgnoredArguments {
    #[arg(long, hide = true, num_args = 0..=1, require_equals = true,
        default_missing_value = "true")]
    rm: Option<String>,
    #[arg(long, hide = true, num_args = 0..=1, require_equals = true,
        default_missing_value = "true")]
    force_rm: Option<String>,
    #[arg(long, hide = true, num_args = 0..=1, require_equals = true,
        default_missing_value = "true")]
    compress: Option<String>,
}

/// `strata plan`.
#[derive(Debug, Args)]
pub(crate) struct PlanArguments {
    #[command(flatten)]
    pub(crate) selection: SelectionArguments,
    /// How the plan is written
    #[arg(long, value_name = "FORMAT", default_value = "table")]
    pub(crate) format: Format,
}

/// How progress is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ProgressMode {
    /// `tty` on a terminal, else `plain`.
    Auto,
    /// One line after the other.
    Plain,
    /// Lines that are drawn anew.
    Tty,
    /// Nothing but the image's id.
    #[value(alias = "none")]
    Quiet,
    /// One JSON object for each event.
    Rawjson,
}
