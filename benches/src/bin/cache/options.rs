//! What is loaded, for how long, and with which programs.

/// The command line and the environment, read.
#[derive(Debug)]
pub(crate) struct Options {
    /// Empty: all.
    pub(crate) cases: Vec<String>,
    pub(crate) rounds: usize,
    /// Of one measurement.
    pub(crate) seconds: f64,
    /// In the store whose start is timed.
    pub(crate) blobs: usize,
    pub(crate) strata: String,
    pub(crate) nginx: Option<String>,
    pub(crate) registry: Option<String>,
    pub(crate) casd: Option<String>,
}

const CASES: [&str; 6] =
    ["find-missing", "small-writes", "get-value", "get-blob", "gigabyte", "start"];
const USAGE: &str = "\
usage: cache [--rounds N] [--seconds S] [--blobs N] [CASE...]

cases: find-missing (100 digests), small-writes (ByteStream, 4 KiB each), get-value and get-blob (4
KiB each, plain HTTP and a registry), each with 1, 32 and 256 connections; gigabyte (1 GiB in and
out, beside what loopback can do); start (with 1,000 and with --blobs, 1,000,000); default: all

STRATA_BENCH_STRATA     strata [default: target/release/strata]
STRATA_BENCH_NGINX      nginx with its WebDAV module
STRATA_BENCH_REGISTRY   docker-registry
STRATA_BENCH_CASD       buildbox-casd";

impl Options {
    /// Reads them; an error is what to tell the user.
    pub(crate) fn read(
        arguments: &[String],
        environment: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, String> {
        let set = |name: &str| environment(name).filter(|value| !value.is_empty());
        let strata = set("STRATA_BENCH_STRATA");
        let mut options = Self {
            cases: Vec::new(),
            rounds: 3,
            seconds: 2.0,
            blobs: 1_000_000,
            strata: strata.unwrap_or_else(|| "target/release/strata".to_owned()),
            nginx: set("STRATA_BENCH_NGINX"),
            registry: set("STRATA_BENCH_REGISTRY"),
            casd: set("STRATA_BENCH_CASD"),
        };
        let usage = || USAGE.to_owned();
        let mut rest = arguments.iter();
        while let Some(argument) = rest.next() {
            let mut value = || rest.next().ok_or_else(usage);
            match argument.as_str() {
                "--rounds" => options.rounds = value()?.parse().map_err(|_| usage())?,
                "--seconds" => options.seconds = value()?.parse().map_err(|_| usage())?,
                "--blobs" => options.blobs = value()?.parse().map_err(|_| usage())?,
                name if CASES.contains(&name) => options.cases.push(name.to_owned()),
                _ => return Err(usage()),
            }
        }
        if options.rounds == 0 { Err(usage()) } else { Ok(options) }
    }
}
