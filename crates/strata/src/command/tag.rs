//! `strata tag`: another name for an image.

use crate::arguments::TagArguments;
use crate::environment::Environment;
use crate::failure::Failure;
use crate::printer::Printer;
use crate::request;
use crate::session::Session;
use crate::settings::Settings;
use crate::words::build_error;

pub(super) fn run(
    arguments: &TagArguments,
    settings: Settings,
    environment: &Environment,
    printer: &Printer,
) -> Result<u8, Failure> {
    let name = request::name(&arguments.name)?;
    let platform = request::platform(None, environment)?;
    let session = Session::open(settings, printer)?;
    let image = session.image(&arguments.source, &platform)?;
    session.images().tag(&image, &name).map_err(|error| build_error::plain(&error))?;
    Ok(0)
}
