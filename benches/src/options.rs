//! What is timed, how often, and with which commands.

use crate::case::Case;

/// The command line and the environment, read.
#[derive(Debug)]
pub(crate) struct Options {
    pub(crate) cases: Vec<Case>,
    pub(crate) rounds: usize,
    /// The image that generated Dockerfiles begin with.
    pub(crate) base: String,
    /// The registry that images are pushed to and pulled from.
    pub(crate) registry: String,
    /// The application whose rebuild is timed.
    pub(crate) app: String,
    /// strata's program, and arguments before `build`.
    pub(crate) strata: String,
    /// Arguments after `strata build`.
    pub(crate) strata_arguments: String,
    /// The other builders' names and commands.
    pub(crate) peers: Vec<(&'static str, Option<String>)>,
    /// The same of programs that do one part: move images, compress.
    pub(crate) helpers: Vec<(&'static str, Option<String>)>,
    /// The directory whose files are compressed.
    pub(crate) files: String,
}

const PEERS: [&str; 2] = ["docker", "buildah"];
const HELPERS: [&str; 3] = ["skopeo", "pigz", "zstd"];
const USAGE: &str = "\
usage: strata-benches [--rounds N] [--base IMAGE] [--app DIR] [--registry HOST]
                      [--files DIR] [--strata-args ARGS] [CASE...]

cases: noop (the application), context-1000, context (20,000 files) and context-100000 (each with
`git status` beside), copy (1 GB), run (100 x RUN), export (the application into an archive), and to
and from a registry at HOST (127.0.0.1:5000) push, push-change, pull; compress-gzip and
compress-zstd (300 MiB of the files in DIR, /usr/lib, into an archive); files (what comes after a
RUN that writes 100,000 files), gigabyte (the same for one file of 1 GiB); default: all

STRATA_BENCH_STRATA    strata, with its global options [default: target/release/strata]
STRATA_BENCH_DOCKER    docker with buildx, such as `/usr/bin/docker`
STRATA_BENCH_BUILDAH   buildah
STRATA_BENCH_SKOPEO    skopeo, beside push, push-change and pull
STRATA_BENCH_PIGZ      pigz, beside compress-gzip
STRATA_BENCH_ZSTD      zstd, beside compress-zstd
--strata-args          more for `strata build`, such as
                       `--build-context busybox=oci-layout:///srv/busybox`";

impl Options {
    /// Reads them; an error is what to tell the user.
    pub(crate) fn read(
        arguments: &[String],
        environment: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, String> {
        let set = |name: &str| environment(&variable(name)).filter(|value| !value.is_empty());
        let mut options = Self {
            cases: Vec::new(),
            rounds: 5,
            base: "busybox".to_owned(),
            registry: "127.0.0.1:5000".to_owned(),
            app: "examples/node-app".to_owned(),
            strata: set("strata").unwrap_or_else(|| "target/release/strata".to_owned()),
            strata_arguments: String::new(),
            peers: PEERS.iter().map(|name| (*name, set(name))).collect(),
            helpers: HELPERS.iter().map(|name| (*name, set(name))).collect(),
            files: "/usr/lib".to_owned(),
        };
        let mut rest = arguments.iter();
        while let Some(argument) = rest.next() {
            let mut value = || rest.next().cloned().ok_or_else(|| USAGE.to_owned());
            match argument.as_str() {
                "--base" => options.base = value()?,
                "--app" => options.app = value()?,
                "--files" => options.files = value()?,
                "--registry" => options.registry = value()?,
                "--strata-args" => options.strata_arguments = value()?,
                "--rounds" => {
                    let rounds = value()?.parse().ok().filter(|rounds| *rounds > 0);
                    options.rounds = rounds.ok_or_else(|| USAGE.to_owned())?;
                }
                name => options.cases.push(Case::named(name).ok_or_else(|| USAGE.to_owned())?),
            }
        }
        if options.cases.is_empty() {
            options.cases = Case::ALL.to_vec();
        }
        Ok(options)
    }
}

/// The environment variable that holds a builder's command.
pub(crate) fn variable(name: &str) -> String {
    format!("STRATA_BENCH_{}", name.to_uppercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Result<Options, String> {
        let arguments: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        Options::read(&arguments, |name| (name == "STRATA_BENCH_DOCKER").then(|| "d".to_owned()))
    }

    #[test]
    fn reads_cases_and_flags() {
        let options = read("--rounds 3 copy --base b:1 run").expect("options");
        assert_eq!(options.cases, [Case::Copy, Case::Run]);
        assert_eq!((options.rounds, options.base.as_str()), (3, "b:1"));
        assert_eq!(options.peers, [("docker", Some("d".to_owned())), ("buildah", None)]);
        assert_eq!(options.helpers, [("skopeo", None), ("pigz", None), ("zstd", None)]);
        assert_eq!(read("").expect("options").cases, Case::ALL);
    }

    #[test]
    fn refuses_the_rest() {
        for line in ["walk", "--rounds 0", "--rounds", "--base"] {
            assert_eq!(read(line).expect_err(line), USAGE);
        }
    }
}
