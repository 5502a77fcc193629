//! `strata pull`: images of registries into the store.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use strata_oci::{Platform, Reference};

use crate::arguments::PullArguments;
use crate::environment::Environment;
use crate::failure::Failure;
use crate::printer::Printer;
use crate::request;
use crate::session::Session;
use crate::settings::Settings;
use crate::signals::Watch;
use crate::words::{amount, build_error};

pub(super) fn run(
    arguments: &PullArguments,
    settings: Settings,
    environment: &Environment,
    printer: &Printer,
) -> Result<u8, Failure> {
    let names: Vec<Reference> = arguments
        .names
        .iter()
        .map(|text| text.parse().map_err(|error| Failure::usage(format!("{error}"))))
        .collect::<Result<_, _>>()?;
    let asked = request::platforms(arguments.platform.as_deref(), environment)?;
    let session = Session::open(settings, printer)?;
    let watch = Watch::for_build(None)?;
    let fail = |error| watch.blame(build_error::plain(&error), Vec::new());
    let builder = session.builder(&watch.cancel);
    for name in &names {
        let mut platforms = asked.clone();
        if arguments.all_platforms {
            let there = builder.platforms_of(name).map_err(fail)?;
            platforms = if there.is_empty() { vec![Platform::native()] } else { there };
        }
        for platform in &platforms {
            let shown = Mutex::new(BTreeSet::new());
            let progress = |layer: String, done: u64, total: u64| {
                let mut shown = shown.lock().unwrap_or_else(PoisonError::into_inner);
                if !arguments.quiet && done >= total && shown.insert(layer.clone()) {
                    printer.talk(&format!("{layer}: pulled, {}", amount::bytes(total)));
                }
            };
            let image = builder.pull(name, platform, &progress).map_err(fail)?;
            if !arguments.quiet {
                let digest = image.manifest.map(|digest| format!(", digest {digest}"));
                let digest = digest.unwrap_or_default();
                printer.talk(&format!("{} for {platform}{digest}", name.familiar()));
            }
            printer.data(&image.id.to_string());
        }
    }
    Ok(0)
}
