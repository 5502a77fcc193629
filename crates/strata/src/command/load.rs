//! `strata load`: images of an archive into the store.

use std::path::{Path, PathBuf};

use crate::arguments::LoadArguments;
use crate::failure::Failure;
use crate::printer::Printer;
use crate::session::Session;
use crate::settings::Settings;
use crate::signals::Watch;
use crate::words::build_error;

pub(super) fn run(
    arguments: &LoadArguments,
    settings: Settings,
    printer: &Printer,
) -> Result<u8, Failure> {
    let session = Session::open(settings, printer)?;
    let watch = Watch::for_build(None)?;
    // An archive's parts are read in any order: what comes from a pipe is written down first.
    let mut kept = None;
    let path: PathBuf = match arguments.input.as_deref() {
        None => spool(&session, &mut kept)?,
        Some(path) if path == Path::new("-") => spool(&session, &mut kept)?,
        Some(path) if !path.exists() => {
            return Err(Failure::usage(format!("there is no file `{}`", path.display())));
        }
        Some(path) => path.to_owned(),
    };
    let loaded = session.builder(&watch.cancel).load(&path);
    let loaded = loaded.map_err(|error| watch.blame(build_error::plain(&error), Vec::new()))?;
    for image in &loaded {
        if !arguments.quiet {
            for name in &image.names {
                printer.talk(&format!("loaded {}", name.familiar()));
            }
            if image.names.is_empty() {
                printer.talk("loaded an image without a name");
            }
        }
        printer.data(&image.image.id.to_string());
    }
    Ok(0)
}

/// Writes standard input to a file of the store that goes away with `kept`.
fn spool(session: &Session, kept: &mut Option<strata_cas::Staging>) -> Result<PathBuf, Failure> {
    let refused = |error: std::io::Error| {
        let reason = crate::failure::plain(&error);
        Failure::environment(format!("standard input can not be kept: {reason}"))
    };
    let staging = session.stage()?;
    let path = staging.path().join("archive");
    let mut file = std::fs::File::create(&path).map_err(refused)?;
    std::io::copy(&mut std::io::stdin().lock(), &mut file).map_err(refused)?;
    *kept = Some(staging);
    Ok(path)
}
