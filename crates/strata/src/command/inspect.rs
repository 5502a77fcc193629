//! `strata inspect`: all about images, in the form of `docker inspect`.

use serde_json::{Value, json};
use strata_build::{NamedImage, StoredImage};

use super::images::size;
use crate::arguments::InspectArguments;
use crate::environment::Environment;
use crate::failure::Failure;
use crate::printer::Printer;
use crate::request;
use crate::session::Session;
use crate::settings::Settings;
use crate::words::build_error;

pub(super) fn run(
    arguments: &InspectArguments,
    settings: Settings,
    environment: &Environment,
    printer: &Printer,
) -> Result<u8, Failure> {
    let platform = request::platform(arguments.platform.as_deref(), environment)?;
    let session = Session::open(settings, printer)?;
    let named = session.images().list().map_err(|error| build_error::plain(&error))?;
    let (mut objects, mut missing) = (Vec::new(), None);
    for name in &arguments.names {
        match session.image(name, &platform) {
            Ok(image) => objects.push(object(&image, &named)),
            Err(failure) => missing = missing.or(Some(failure)),
        }
    }
    printer.data(&format!("{:#}", Value::from(objects)));
    missing.map_or(Ok(0), Err)
}

fn object(image: &StoredImage, named: &[NamedImage]) -> Value {
    let names = named.iter().filter(|named| named.image.id == image.id);
    let names: Vec<String> = names.map(|named| named.name.familiar()).collect();
    let config = &image.config;
    let diff_ids: Vec<String> = config.rootfs.diff_ids.iter().map(ToString::to_string).collect();
    json!({
        "Id": image.id.to_string(),
        "RepoTags": names,
        "Created": config.created,
        "Author": config.author,
        "Architecture": config.architecture,
        "Variant": config.variant,
        "Os": config.os,
        "Size": size(image),
        "Config": config.config,
        "RootFS": {"Type": config.rootfs.kind, "Layers": diff_ids},
        "History": config.history,
    })
}
