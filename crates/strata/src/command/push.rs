//! `strata push`: an image of the store into a registry, all its platforms or one.

use strata_build::{Packing, Push, PushEvent, StoredImage};

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
    let compression = request::compression(&arguments.compression)?;
    let packing = Packing { compression, ..Packing::default() };
    let is_chunked = request::CHUNKED.contains(&&*arguments.compression);
    let target = arguments.target.as_deref().map(request::name).transpose()?;
    let session = Session::open(settings, printer)?;
    let watch = Watch::for_build(None)?;
    let (images, name) = deliver::of_name(&session, &arguments.name, platform.as_ref())?;
    let name = target.or(name).ok_or_else(|| {
        Failure::usage("an image that is pushed needs a name").hint("name a TARGET, too")
    })?;
    let fail = |error| watch.blame(build_error::plain(&error), Vec::new());
    let in_store = session.images();
    let sent = match is_chunked {
        true => images.iter().map(|image| in_store.in_chunks(image, &packing)).collect(),
        false => Ok(images.clone()),
    };
    let sent = sent.map_err(fail)?;
    let observe = |event: PushEvent<'_>| {
        if let Some(line) = deliver::line(&event).filter(|_| !arguments.quiet) {
            printer.talk(&line);
        }
    };
    let (registry, cancel) = (session.registry(), &watch.cancel);
    let push = Push { name: &name, registry, cancel, observe: &observe };
    let names = std::slice::from_ref(&name);
    // What is said is kept with the image that was built.
    let attest = |image: &StoredImage, manifest: &_| {
        let mut pairs = sent.iter().zip(&images);
        let built = pairs.find(|(sent, _)| sent.id == image.id).map_or(image, |(_, built)| built);
        attest::kept(&session, names, built, manifest)
    };
    let packed = in_store.pack_for(&sent, &packing, &attest, &push);
    let packed = packed.map_err(fail)?;
    in_store.push(&packed, &push).map_err(fail)?;
    printer.data(&packed.root.digest.to_string());
    Ok(0)
}
