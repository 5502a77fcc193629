//! Images on their way: into an archive, to a registry, and back. What is built for it is built
//! before the clock starts, but for an archive, which a person gets by one command.

use std::path::Path;
use std::time::Duration;

use crate::case::{Case, Outcome};
use crate::context::{Scratch, seed};
use crate::options::Options;
use crate::tool::Tool;

const FILE_BYTES: usize = 16 << 20;
/// 256 MiB.
const FILES: usize = 16;
/// 1 GiB.
const MANY_FILES: usize = 64;

/// Runs the rounds of a case in which images move.
pub(crate) fn run(case: Case, tools: &[Tool], options: &Options) -> Result<Outcome, String> {
    let scratch = |name: &str| Scratch::new(name).map_err(|error| format!("a context: {error}"));
    let (scratch, aside) = (scratch(case.name())?, scratch(&format!("{}-aside", case.name()))?);
    let course = Course { case, scratch, aside, options, seed: seed(), maker: tools[0].clone() };
    course.prepare(tools)?;
    let mut times = vec![Vec::new(); tools.len()];
    for round in 0..options.rounds {
        course.renew(round)?;
        for turn in 0..tools.len() {
            let at = (turn + round) % tools.len();
            times[at].push(course.go(&tools[at], round)?);
        }
    }
    for tool in tools {
        (0..options.rounds).for_each(|round| tool.remove(&course.name(tool, round)));
    }
    Ok(Outcome { times, peak_memory: None })
}

struct Course<'a> {
    case: Case,
    scratch: Scratch,
    /// What is no context.
    aside: Scratch,
    options: &'a Options,
    seed: u64,
    /// What makes archives for those that build nothing.
    maker: Tool,
}

impl Course<'_> {
    /// What the image is called. Nobody has pushed to this repository before.
    fn name(&self, tool: &Tool, round: usize) -> String {
        let Self { seed, options, .. } = self;
        let repository = match self.case {
            // All get the one that strata has pushed.
            Case::Pull => "all".to_owned(),
            Case::Push => format!("{}-{round}", tool.name),
            _ => tool.name.clone(),
        };
        format!("{}/strata-bench-{seed:x}/{repository}:1", options.registry)
    }

    fn write(&self, files: usize, seed: u64) -> Result<(), String> {
        let dockerfile = format!("FROM {}\nCOPY data /data\n", self.options.base);
        let written = self.scratch.dockerfile(&dockerfile);
        let written = written.and_then(|()| self.scratch.files(files, FILE_BYTES, seed));
        written.map_err(|error| format!("{}: {error}", self.case.name()))
    }

    fn prepare(&self, tools: &[Tool]) -> Result<(), String> {
        let context = self.scratch.path();
        match self.case {
            Case::Export => {
                let app = Path::new(&self.options.app);
                tools.iter().try_for_each(|tool| tool.build(&self.name(tool, 0), app).map(drop))
            }
            Case::PushChange => {
                self.write(MANY_FILES, self.seed)?;
                tools.iter().try_for_each(|tool| self.ship(tool, 0).map(drop))
            }
            Case::Pull => {
                self.write(FILES, self.seed)?;
                let name = self.name(&tools[0], 0);
                tools[0].build(&name, context)?;
                tools[0].push(&name).map(drop)
            }
            _ => Ok(()),
        }
    }

    /// What all builders find in this round.
    fn renew(&self, round: usize) -> Result<(), String> {
        let seed = self.seed.wrapping_add(round as u64 + 1);
        match self.case {
            Case::Push => self.write(FILES, seed),
            Case::PushChange => self.write(1, seed),
            _ => Ok(()),
        }
    }

    fn go(&self, tool: &Tool, round: usize) -> Result<Duration, String> {
        let (name, context) = (self.name(tool, round), self.scratch.path());
        match self.case {
            Case::Export => {
                let archive = context.join(format!("{}-{round}.tar", tool.name));
                let took = tool.export(&name, Path::new(&self.options.app), &archive);
                let _ = std::fs::remove_file(&archive);
                took
            }
            Case::Pull if tool.name == "skopeo" => {
                let to = self.aside.path().join(format!("layout-{round}"));
                tool.copy(&format!("docker://{name}"), &format!("oci:{}:1", to.display()))
            }
            Case::Pull => {
                let store = context.join(format!("store-{round}"));
                let took = tool.pull(&name, &store);
                tool.remove(&name);
                let _ = std::fs::remove_dir_all(&store);
                took
            }
            _ => self.ship(tool, round),
        }
    }

    /// Builds, and pushes what was built, which is what is timed.
    fn ship(&self, tool: &Tool, round: usize) -> Result<Duration, String> {
        let (name, context) = (self.name(tool, round), self.scratch.path());
        if tool.name != "skopeo" {
            tool.build(&name, context)?;
            return tool.push(&name);
        }
        // What it is to move is made in a store of its own: strata's must not know it before.
        let maker = self.maker.with_store(&self.aside.path().join("store"));
        let archive = self.aside.path().join("archive.tar");
        maker.export_as("gzip", &name, context, &archive)?;
        tool.copy(&format!("oci-archive:{}", archive.display()), &format!("docker://{name}"))
    }
}
