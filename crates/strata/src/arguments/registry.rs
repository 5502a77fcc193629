//! The flags of the commands that bring images in and out.

use std::path::PathBuf;

use clap::Args;

use super::Format;

/// `strata push`.
#[derive(Debug, Args)]
pub(crate) struct PushArguments {
    /// Name of the image in the store
    #[arg(value_name = "NAME[:TAG]")]
    pub(crate) name: String,
    /// Push it under this name instead
    #[arg(value_name = "TARGET")]
    pub(crate) target: Option<String>,
    /// Only the image for this platform
    #[arg(long, value_name = "PLATFORM")]
    pub(crate) platform: Option<String>,
    /// How layers are compressed that strata made: gzip, zstd, uncompressed, estargz or
    /// zstd:chunked
    #[arg(long, value_name = "FORMAT", default_value = "gzip")]
    pub(crate) compression: String,
    /// Print the digest and nothing else
    #[arg(short, long)]
    pub(crate) quiet: bool,
}

/// `strata pull`.
#[derive(Debug, Args)]
pub(crate) struct PullArguments {
    /// Names of images
    #[arg(value_name = "NAME", required = true)]
    pub(crate) names: Vec<String>,
    /// What the images are for; several are pulled one after the other
    #[arg(long, value_name = "PLATFORM,...")]
    pub(crate) platform: Option<String>,
    /// The images for all platforms that there are
    #[arg(long, conflicts_with = "platform")]
    pub(crate) all_platforms: bool,
    /// Print the image's id and nothing else
    #[arg(short, long)]
    pub(crate) quiet: bool,
}

/// `strata save`.
#[derive(Debug, Args)]
pub(crate) struct SaveArguments {
    /// Names or ids of images
    #[arg(value_name = "NAME", required = true)]
    pub(crate) names: Vec<String>,
    /// The file [default: standard output]
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    /// docker-archive, oci-archive or oci-dir
    #[arg(long, value_name = "FORMAT", default_value = "docker-archive",
        value_parser = ["docker-archive", "oci-archive", "oci-dir"])]
    pub(crate) format: String,
    /// Of the images of that name, the one for this platform
    #[arg(long, value_name = "PLATFORM")]
    pub(crate) platform: Option<String>,
}

/// `strata load`.
#[derive(Debug, Args)]
pub(crate) struct LoadArguments {
    /// An archive of `docker save` or an OCI layout [default: standard input]
    #[arg(short, long, value_name = "FILE")]
    pub(crate) input: Option<PathBuf>,
    /// Print ids and nothing else
    #[arg(short, long)]
    pub(crate) quiet: bool,
}

/// `strata copy`.
#[derive(Debug, Args)]
pub(crate) struct CopyArguments {
    /// Name of the image in a registry
    #[arg(value_name = "SOURCE")]
    pub(crate) source: String,
    /// Its name in the other registry
    #[arg(value_name = "TARGET")]
    pub(crate) target: String,
    /// Print the digest and nothing else
    #[arg(short, long)]
    pub(crate) quiet: bool,
}

/// `strata history`.
#[derive(Debug, Args)]
pub(crate) struct HistoryArguments {
    /// Name or id of an image in the store
    #[arg(value_name = "NAME")]
    pub(crate) name: String,
    /// How it is written; JSON has one object a line
    #[arg(long, value_name = "FORMAT", default_value = "table")]
    pub(crate) format: Format,
    /// Do not shorten what made a layer
    #[arg(long)]
    pub(crate) no_trunc: bool,
    /// Of the images of that name, the one for this platform
    #[arg(long, value_name = "PLATFORM")]
    pub(crate) platform: Option<String>,
}

/// `strata diff`.
#[derive(Debug, Args)]
pub(crate) struct DiffArguments {
    /// Name or id of an image in the store
    #[arg(value_name = "OLD")]
    pub(crate) old: String,
    /// Name or id of another one
    #[arg(value_name = "NEW")]
    pub(crate) new: String,
    /// How it is written
    #[arg(long, value_name = "FORMAT", default_value = "table")]
    pub(crate) format: Format,
    /// Show every path, however many there are
    #[arg(long)]
    pub(crate) all: bool,
    /// Of the images of these names, those for this platform
    #[arg(long, value_name = "PLATFORM")]
    pub(crate) platform: Option<String>,
}

/// `strata login`.
#[derive(Debug, Args)]
pub(crate) struct LoginArguments {
    /// The registry
    #[arg(value_name = "REGISTRY", default_value = "docker.io")]
    pub(crate) registry: String,
    /// The user's name
    #[arg(short, long, value_name = "NAME")]
    pub(crate) username: Option<String>,
    /// The password; other users of this machine can see it on the command line
    #[arg(short, long, value_name = "PASSWORD", conflicts_with = "password_stdin")]
    pub(crate) password: Option<String>,
    /// Read the password from standard input
    #[arg(long)]
    pub(crate) password_stdin: bool,
}

/// `strata logout`.
#[derive(Debug, Args)]
pub(crate) struct LogoutArguments {
    /// The registry
    #[arg(value_name = "REGISTRY", default_value = "docker.io")]
    pub(crate) registry: String,
}
