//! `strata push`: an image of the store into a registry, all its platforms or one.

use strata_build::{Packing, Push, PushEvent};
use strata_oci::Compression;

use super::{attest, deliver};
use crate::arguments::PushArguments;
use crate::environment::Environment;
use crate::failure::Failure;
use crate::printer::Printer;
use crate::request;
use crate::session::Session;
use crate::settings::Settings;
use crate::signals::Watch;
use crate::words::build_error;

pub(super) fn run(
    arguments: &PushArguments,
    settings: Settings,
    environment: &Environment,
    printer: &Printer,
) -> Result<u8, Failure> {
    let platform = arguments.platform.as_deref();
    let platform = platform.map(|text| request::platform(Some(text), environment)).transpose()?;
    let packing =
        Packing { compression: compression(&arguments.compression)?, ..Packing::default() };
    let target = arguments.target.as_deref().map(request::name).transpose()?;
    let session = Session::open(settings, printer)?;
    let watch = Watch::for_build(None)?;
    let (images, name) = deliver::of_name(&session, &arguments.name, platform.as_ref())?;
    let name = target.or(name).ok_or_else(|| {
        Failure::usage("an image that is pushed needs a name").hint("name a TARGET, too")
    })?;
    let fail = |error| watch.blame(build_error::plain(&error), Vec::new());
    let in_store = session.images();
    let observe = |event: PushEvent<'_>| {
        if let Some(line) = deliver::line(&event).filter(|_| !arguments.quiet) {
            printer.talk(&line);
        }
    };
    let (registry, cancel) = (session.registry(), &watch.cancel);
    let push = Push { name: &name, registry, cancel, observe: &observe };
    let names = std::slice::from_ref(&name);
    let attest = |image: &_, manifest: &_| attest::kept(&session, names, image, manifest);
    let packed = in_store.pack_for(&images, &packing, &attest, &push);
    let packed = packed.map_err(fail)?;
    in_store.push(&packed, &push).map_err(fail)?;
    printer.data(&packed.root.digest.to_string());
    Ok(0)
}

fn compression(text: &str) -> Result<Compression, Failure> {
    match text {
        "gzip" => Ok(Compression::Gzip),
        "zstd" => Ok(Compression::Zstd),
        "uncompressed" => Ok(Compression::None),
        other => Err(request::unknown("compression", other, &["gzip", "zstd", "uncompressed"])),
    }
}
