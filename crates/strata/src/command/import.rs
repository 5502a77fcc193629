//! `strata import`: a root file system's tar becomes an image with one layer.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use crate::arguments::ImportArguments;
use crate::environment::Environment;
use crate::failure::Failure;
use crate::printer::Printer;
use crate::request;
use crate::session::Session;
use crate::settings::Settings;
use crate::words::build_error;

pub(super) fn run(
    arguments: &ImportArguments,
    settings: Settings,
    environment: &Environment,
    printer: &Printer,
) -> Result<u8, Failure> {
    let name = request::name(&arguments.name)?;
    let platform = request::platform(arguments.platform.as_deref(), environment)?;
    let epoch = request::epoch(environment)?;
    let mut tar: Box<dyn Read + Send> = match &arguments.file {
        file if file == Path::new("-") => Box::new(std::io::stdin()),
        file => Box::new(File::open(file).map_err(|error| Failure::file("open", file, &error))?),
    };
    let session = Session::open(settings, printer)?;
    let image = session.images().import(&mut tar, &name, &platform, epoch);
    let image = image.map_err(|error| build_error::plain(&error))?;
    printer.data(&image.id.to_string());
    Ok(0)
}
