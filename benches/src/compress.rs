//! A layer that was never compressed, on its way into an archive, beside a program that compresses
//! the same files as a tar and does nothing else. strata's time is the whole command: it reads its
//! store, compares each file with its name, and keeps what it compressed.

use std::path::Path;
use std::process::Command;

use crate::case::Outcome;
use crate::context::Scratch;
use crate::options::Options;
use crate::tool::Tool;

/// So much of the system's files, in bytes.
const BYTES: u64 = 300 << 20;

/// Runs the rounds. The stores stay until the end: on ext4, new files cost more for a while after
/// others were removed.
pub(crate) fn run(
    name: &str,
    format: &str,
    tools: &[Tool],
    options: &Options,
) -> Result<Outcome, String> {
    let failed = |error: std::io::Error| format!("{name}: {error}");
    let context = Scratch::new(name).map_err(failed)?;
    let outputs = Scratch::new(&format!("{name}-out")).map_err(failed)?;
    context.copies(Path::new(&options.files), BYTES).map_err(failed)?;
    context.dockerfile("FROM scratch\nCOPY data /data\n").map_err(failed)?;
    let tar = outputs.path().join("data.tar");
    let mut pack = Command::new("tar");
    pack.arg("--sort=name").arg("-C").arg(context.path()).arg("-cf").arg(&tar).arg("data");
    ended(pack)?;
    let mut times = vec![Vec::new(); tools.len()];
    for round in 0..options.rounds {
        let own = tools[0].with_store(&outputs.path().join(format!("store-{round}")));
        own.build("compress", context.path())?;
        for turn in 0..tools.len() {
            let at = (turn + round) % tools.len();
            let out = outputs.path().join(format!("{at}-{round}"));
            ended(Command::new("sync"))?;
            times[at].push(match at {
                0 => own.export_as(format, "compress", context.path(), &out)?,
                _ => tools[at].compress(&tar, &out)?,
            });
        }
    }
    Ok(Outcome { times, peak_memory: None })
}

fn ended(mut command: Command) -> Result<(), String> {
    match command.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("{command:?}: {status}")),
        Err(error) => Err(format!("{command:?}: {error}")),
    }
}
