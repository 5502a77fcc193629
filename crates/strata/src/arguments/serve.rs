//! `strata serve`.

use clap::{Args, ValueEnum};

/// What `strata serve` takes.
#[derive(Debug, Args)]
pub(crate) struct ServeArguments {
    /// Address and port to listen on; beats `[serve] listen` of the configuration file [default:
    /// 127.0.0.1:7878]
    #[arg(long, value_name = "ADDR", env = "STRATA_LISTEN")]
    pub(crate) listen: Option<String>,
    /// What is said of each request, on stderr
    #[arg(long, value_enum, value_name = "FORM", default_value = "none")]
    pub(crate) access_log: AccessLog,
}

/// The form of the access log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum AccessLog {
    /// Nothing
    None,
    /// One line for people
    Text,
    /// One JSON object
    Json,
}
