//! `strata copy`: an image from one registry to another, with all its platforms and byte for
//! byte. The store is not touched.

use strata_build::PushEvent;
use strata_oci::Reference;
use strata_remote::RemoteRegistry;

use super::deliver;
use crate::arguments::CopyArguments;
use crate::failure::Failure;
use crate::printer::Printer;
use crate::settings::Settings;
use crate::words::{build_error, lower_errors};

pub(super) fn run(
    arguments: &CopyArguments,
    settings: Settings,
    printer: &Printer,
) -> Result<u8, Failure> {
    let parse = |text: &String| {
        text.parse::<Reference>().map_err(|error| Failure::usage(error.to_string()))
    };
    let (source, target) = (parse(&arguments.source)?, parse(&arguments.target)?);
    let registry = RemoteRegistry::new(settings.registry);
    let registry = registry.map_err(|error| Failure::usage(lower_errors::chain(&error)))?;
    let observe = |event: PushEvent<'_>| {
        if let Some(line) = deliver::line(&event).filter(|_| !arguments.quiet) {
            printer.talk(&line);
        }
    };
    let copied = strata_build::copy((&registry, &source), (&registry, &target), &observe);
    let digest = copied.map_err(|error| build_error::plain(&error))?;
    printer.data(&digest.to_string());
    Ok(0)
}
