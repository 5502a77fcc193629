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
        file => Box::new(open(file)?),
    };
    let session = Session::open(settings, printer)?;
    let image = session.images().import(&mut tar, &name, &platform, epoch);
    let image = image.map_err(|error| build_error::plain(&error))?;
    printer.data(&image.id.to_string());
    Ok(0)
}

fn open(path: &Path) -> Result<File, Failure> {
    let file = File::open(path).map_err(|error| Failure::file("open", path, &error))?;
    if file.metadata().is_ok_and(|metadata| metadata.is_dir()) {
        let hint =
            format!("give its tar: `tar -C {0} -c . | strata import - NAME`", path.display());
        return Err(Failure::usage(format!("`{}` is a directory", path.display())).hint(hint));
    }
    Ok(file)
}
